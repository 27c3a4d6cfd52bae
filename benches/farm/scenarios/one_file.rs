//! P4: one large file, cold, from and to the same disk.

use crate::kit::data::{Noise, Size};
use crate::kit::peers::{Tool, inhaul, peer};
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

/// One file of `length` bytes, from and to the same disk.
pub(super) fn race<'a>(
    plan: &'a Plan,
    room: &Room,
    name: &'a str,
    length: u64,
) -> Result<Race<'a>> {
    let source = room.disk("source")?;
    Noise::new(4).file(&source.join("large.bin"), length)?;
    Ok(Race {
        plan,
        name,
        sources: vec![source.join("large.bin")],
        parent: source,
        target: room.disk("target")?,
        door: None,
        holds: Size {
            files: 1,
            bytes: length,
        },
        limit: 0.0,
    })
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let length = plan.pick(4 << 30, 24 << 20);
    let room = Room::new(plan, "p4", 0)?;
    let race = race(plan, &room, "P4: one file of 4 GiB, same disk", length)?;
    let tee = Tool {
        name: "tee | b3sum".to_owned(),
        line: r#"tee "$T/large.bin" < "$1" | b3sum"#.to_owned(),
        needs: vec!["b3sum"],
        hashes: true,
        copies: true,
    };
    let then = Tool {
        name: "cp, then b3sum".to_owned(),
        line: r#"cp -a "$1" "$T"/ && b3sum "$T/large.bin""#.to_owned(),
        ..tee.clone()
    };
    let tools = [
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--io blocking"),
        peer("cp -a")?,
        peer("cp -a && sync")?,
        tee,
        then,
        peer("rsync -a")?,
        peer("rclone copy")?,
        peer("xcp")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let cpu = |tool: &str| row(&rows, tool).and_then(Row::cpu);
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    let goals = vec![
        Goal::at_most("P4: CPU / cp's", ratio(cpu("inhaul"), cpu("cp -a")), 0.5),
        Goal::at_most(
            "P4: CPU / that of tee and b3sum",
            ratio(cpu("inhaul"), cpu("tee | b3sum")),
            0.25,
        ),
        Goal::at_most(
            "P4: wall / cp and sync",
            ratio(wall("inhaul"), wall("cp -a && sync")),
            1.0,
        ),
    ];
    Ok(Outcome {
        rows,
        goals,
        notes: Vec::new(),
    })
}
