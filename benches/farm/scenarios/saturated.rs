//! P2: drives faster than copying through the page cache can follow on this machine.

use super::shelf::{build, fio_reads, race};
use crate::kit::drives::Farm;
use crate::kit::peers::{Tool, fio, inhaul, peer};
use crate::kit::race::nothing;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

/// fio reading every drive and writing as much to the target's disk at the same time.
fn fio_both(farm: &Farm) -> Tool {
    let mut tool = fio_reads(farm);
    "fio, reads and writes".clone_into(&mut tool.name);
    for (at, drive) in farm.drives.iter().enumerate() {
        let size = drive.holds.bytes / 4096 * 4096;
        tool.line += &format!(
            " --name=w{at} --rw=write --filename=\"$T\"/fio-{at} --size={size} --fallocate=posix --end_fsync=1"
        );
    }
    tool
}

/// fio writing alone.
fn fio_writes(farm: &Farm) -> Tool {
    let mut line =
        "--name=global --bs=4M --direct=1 --ioengine=io_uring --iodepth=3 --thread --rw=write --fallocate=posix --end_fsync=1"
            .to_owned();
    for (at, drive) in farm.drives.iter().enumerate() {
        let size = drive.holds.bytes / 4096 * 4096;
        line += &format!(" --name=w{at} --filename=\"$T\"/fio-{at} --size={size}");
    }
    fio("fio, writes only", &line)
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let (count, data) = plan.pick((15, 390 * MB), (4, 12 * MB));
    let farm = build(plan, "p2", count, data, 150 * MB)?;
    let race = race(plan, &farm, "P2: 15 drives at 150 MB/s, 390 MB each")?;
    let tools = [
        inhaul(&plan.inhaul, ""),
        fio_reads(&farm),
        fio_writes(&farm),
        fio_both(&farm),
        peer("parallel cp")?,
        peer("parallel rsync")?,
        peer("parallel tee | b3sum")?,
        peer("parallel cp, then b3sum")?,
        peer("rclone copy")?,
        peer("xcp")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    // What drives, target and processor allow together is what fio reaches with both at once.
    let limit = wall("fio, reads and writes").map(|seconds| seconds.max(race.limit));
    let best = rows
        .iter()
        .filter(|row| row.hashes && !row.tool.starts_with("inhaul"))
        .filter_map(Row::wall)
        .min_by(f64::total_cmp);
    let goals = vec![
        Goal::at_most(
            "P2: wall / limit of drives, target and CPU (fio doing both)",
            ratio(wall("inhaul"), limit),
            1.15,
        ),
        Goal::at_least(
            "P2: throughput / the best hashing peer's",
            ratio(best, wall("inhaul")),
            2.0,
        ),
    ];
    Ok(Outcome {
        rows,
        goals,
        notes: vec![format!(
            "P2: images in {}, target on disk",
            farm.room.kind()
        )],
    })
}
