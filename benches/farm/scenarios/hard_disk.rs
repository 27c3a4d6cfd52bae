//! P6: a hard disk whose arm has to move, full of small files written in random order.

use std::time::Duration;

use crate::kit::data::{Small, large};
use crate::kit::drives::Farm;
use crate::kit::peers::{Tool, fio, inhaul, peer};
use crate::kit::race::{Moment, Race};
use crate::kit::room::Room;
use crate::kit::spindle::Mechanics;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;
const RATE: u64 = 200 * MB;

/// 200 MB/s, 16 ms from edge to edge, 7200 turns a minute: a common drive.
const DRIVE: Mechanics = Mechanics {
    rate: RATE,
    stroke: Duration::from_millis(16),
    turn: Duration::from_micros(8300),
};

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let tree = Small {
        files: plan.pick(3000, 60),
        dirs: plan.pick(40, 6),
        low: 4000,
        high: 60_000,
        shuffled: true,
    };
    let each = plan.pick(30 * MB, MB);
    let (rows, _) = race(
        plan,
        "P6: 3,000 files of 4 to 60 kB in random order and four of 30 MB",
        &["cp -a", "rsync -a", "cpz", "tar"],
        |path| Ok(tree.write(path, 6)? + large(path, 4, each, 7)?),
        &mut outcome.notes,
    )?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    outcome.goals.push(Goal::at_most(
        "P6: mixed files, wall / cp -a's",
        ratio(wall("inhaul"), wall("cp -a")),
        0.30,
    ));
    outcome.goals.push(Goal::at_most(
        "P6: mixed files, wall / rsync's",
        ratio(wall("inhaul"), wall("rsync -a")),
        0.25,
    ));
    outcome.rows.extend(rows);

    let each = plan.pick(150 * MB, 5 * MB);
    let (rows, limit) = race(
        plan,
        "P6: four files of 150 MB",
        &["cp -a", "rsync -a", "parallel cp"],
        |path| large(path, 4, each, 8),
        &mut outcome.notes,
    )?;
    outcome.goals.push(Goal::at_most(
        "P6: large files, wall / bytes at the drive's rate",
        ratio(row(&rows, "inhaul").and_then(Row::wall), Some(limit)),
        1.05,
    ));
    outcome.rows.extend(rows);
    Ok(outcome)
}

fn race(
    plan: &Plan,
    name: &str,
    peers: &[&str],
    fill: impl FnOnce(&std::path::Path) -> Result<crate::kit::data::Size>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Row>, f64)> {
    let length = plan.pick(768 << 20, 64 << 20);
    let mut farm = Farm::new(Room::new(plan, "p6", length)?)?;
    farm.add_spindle(length, RATE, fill)?;
    let drive = farm.drives.first().ok_or("no drive")?;
    let arm = drive.arm().ok_or("a drive without an arm")?;
    let race = Race {
        plan,
        name,
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: None,
        holds: farm.holds(),
        limit: farm.limit(),
    };
    let device = &drive.device;
    let mut tools = vec![
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--io blocking"),
        fio(
            "fio, the image from end to end",
            &format!(
                "--name=d --rw=read --bs=4M --direct=1 --ioengine=io_uring --iodepth=3 \
                 --filename={device} --size={length}"
            ),
        ),
    ];
    for name in peers {
        tools.push(match *name {
            "tar" => Tool {
                name: "tar | tar".to_owned(),
                line: r#"tar -C "$R" -cf - . | tar -C "$T" -xf -"#.to_owned(),
                needs: vec!["tar"],
                hashes: false,
                copies: true,
            },
            other => peer(other)?,
        });
    }
    let mut moves = Vec::new();
    let rows = race.run(&tools, |moment, tool| {
        // Checks and preparation between runs need not wait for the arm.
        match moment {
            Moment::Before => arm.engage(DRIVE),
            Moment::After => {
                let (seeks, reads) = arm.counts();
                moves.push(format!("{} {seeks} of {reads}", tool.name));
                arm.free();
            }
        }
        Ok(())
    })?;
    moves.truncate(rows.len());
    notes.push(format!(
        "{name}: reads that moved the arm: {}",
        moves.join(", ")
    ));
    Ok((rows, race.limit))
}
