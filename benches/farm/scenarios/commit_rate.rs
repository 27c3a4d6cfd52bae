//! How fast small files become durable: whole batches against one file after the other.

use super::small_files;
use crate::kit::data::Small;
use crate::kit::one_by_one;
use crate::kit::peers::{Tool, inhaul};
use crate::kit::race::nothing;
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Context as _, Plan, Result};

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let tree = Small {
        files: plan.pick(20_000, 200),
        dirs: plan.pick(200, 8),
        low: 1,
        high: 16_500,
        shuffled: false,
    };
    let room = Room::new(plan, "commit", 0)?;
    let name = "Commit: 20,000 files of up to 16 kB, durable, same disk";
    let race = small_files::same_disk(plan, &room, name, tree)?;
    let own = std::env::current_exe().context("this program")?;
    let mut tools = vec![
        inhaul(&plan.inhaul, ""),
        Tool::peer(
            "write, fsync, rename, fsync of the folder for each",
            &format!(
                r#"exec '{}' {} "$1" "$T/${{1##*/}}""#,
                own.display(),
                one_by_one::SWITCH
            ),
            &[],
        ),
        Tool::peer(
            "rsync -a --fsync",
            r#"exec rsync -a --fsync "$@" "$T"/"#,
            &["rsync"],
        ),
    ];
    if plan.small {
        // Then this is a test program, which cannot be told to copy.
        tools.retain(|tool| !tool.line.contains(one_by_one::SWITCH));
    }
    let rows = race.run(&tools, nothing)?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    let each = rows.iter().find(|row| row.tool.starts_with("write, fsync"));
    Ok(Outcome {
        goals: vec![
            Goal::at_least(
                "Commit: files a second / with two fsyncs for each",
                ratio(each.and_then(Row::wall), wall("inhaul")),
                3.0,
            ),
            Goal::at_least(
                "Commit: files a second / rsync -a --fsync's",
                ratio(wall("rsync -a --fsync"), wall("inhaul")),
                3.0,
            ),
        ],
        rows,
        notes: Vec::new(),
    })
}
