//! The first promise: eight drives of every kind in one command.

use crate::kit::data::{Small, large};
use crate::kit::drives::{Farm, Fs};
use crate::kit::peers::{inhaul, peer};
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

/// File system, megabytes of large files, megabytes a second.
const DRIVES: [(Fs, u64, u64); 8] = [
    (Fs::Ext4, 315, 50),
    (Fs::Xfs, 250, 50),
    (Fs::Btrfs, 280, 45),
    (Fs::Ext4, 200, 35),
    (Fs::Xfs, 315, 60),
    (Fs::Btrfs, 180, 40),
    (Fs::Ext4, 120, 25),
    (Fs::Xfs, 230, 40),
];

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let total: u64 = DRIVES.iter().map(|(_, megabytes, _)| megabytes).sum();
    let room = Room::new(plan, "farm", plan.pick(total * MB * 5 / 4, 300 * MB))?;
    let mut farm = Farm::new(room)?;
    for (at, (fs, megabytes, rate)) in (0..).zip(DRIVES) {
        let data = plan.pick(megabytes * MB, megabytes * MB / 60);
        let small = Small {
            files: plan.pick(200, 20),
            dirs: 10,
            low: 1,
            high: 20_000,
            shuffled: false,
        };
        farm.add(fs, rate * MB, data + 4 * MB, |path| {
            Ok(large(path, 4, data / 4, at)? + small.write(path, at)?)
        })?;
    }
    let race = Race {
        plan,
        name: "8 drives, ext4 + XFS + btrfs, 25 to 60 MB/s",
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: Some(farm.throttle.door()),
        holds: farm.holds(),
        limit: farm.limit(),
    };
    let tools = [
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--io blocking"),
        peer("parallel cp")?,
        peer("parallel rsync")?,
        peer("parallel cp, then b3sum")?,
        peer("rclone copy")?,
        peer("xcp")?,
        peer("cpz")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let ours = row(&rows, "inhaul").and_then(Row::wall);
    let goals = vec![Goal::at_most(
        "farm: wall / limit",
        ratio(ours, Some(race.limit)),
        1.15,
    )];
    Ok(Outcome {
        rows,
        goals,
        notes: vec![format!(
            "farm: images in {}, target on disk",
            farm.room.kind()
        )],
    })
}
