//! P5: trees of small files, cold, from and to the same disk, each run into a new folder of it.

use crate::kit::data::Small;
use crate::kit::peers::{inhaul, peer};
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

pub(crate) fn some(plan: &Plan) -> Result<Outcome> {
    let tree = Small {
        files: plan.pick(41_000, 600),
        dirs: plan.pick(410, 12),
        low: 1,
        high: 16_500,
        shuffled: false,
    };
    race(
        plan,
        "P5: 41,000 files of up to 16 kB, same disk",
        tree,
        true,
    )
}

pub(crate) fn many(plan: &Plan) -> Result<Outcome> {
    let tree = Small {
        files: plan.pick(300_000, 1000),
        dirs: plan.pick(1500, 10),
        low: 1,
        high: 8000,
        shuffled: false,
    };
    race(
        plan,
        "P5: 300,000 files of up to 8 kB, same disk",
        tree,
        false,
    )
}

/// A tree, from and to the same disk.
pub(super) fn same_disk<'a>(
    plan: &'a Plan,
    room: &Room,
    name: &'a str,
    tree: Small,
) -> Result<Race<'a>> {
    let source = room.disk("source")?;
    let holds = tree.write(&source, 5)?;
    Ok(Race {
        plan,
        name,
        sources: vec![source],
        parent: room.base().join("none"),
        target: room.disk("target")?,
        door: None,
        holds,
        limit: 0.0,
    })
}

fn race(plan: &Plan, name: &str, tree: Small, all: bool) -> Result<Outcome> {
    let room = Room::new(plan, "p5", 0)?;
    let race = same_disk(plan, &room, name, tree)?;
    let mut tools = vec![
        inhaul(&plan.inhaul, ""),
        peer("cp -a")?,
        peer("cpz")?,
        peer("rsync -a")?,
    ];
    if all {
        let mut rclone = peer("rclone copy")?;
        "exec rclone copy -q --config /dev/null --links --transfers 16 \"$1\" \"$T/source\""
            .clone_into(&mut rclone.line);
        tools.extend([
            inhaul(&plan.inhaul, "--io blocking"),
            peer("cp -a && sync")?,
            peer("parallel cp, then b3sum")?,
            peer("xcp")?,
            rclone,
        ]);
    }
    let rows = race.run_into_new(&tools, nothing)?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    let files = race.holds.files;
    let goals = vec![
        Goal::at_most(
            format!("P5: {files} files, wall / cpz's"),
            ratio(wall("inhaul"), wall("cpz")),
            0.9,
        ),
        Goal::at_most(
            format!("P5: {files} files, wall / cp -a's"),
            ratio(wall("inhaul"), wall("cp -a")),
            0.6,
        ),
    ];
    Ok(Outcome {
        rows,
        goals,
        notes: Vec::new(),
    })
}
