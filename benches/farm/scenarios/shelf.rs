//! P1: a shelf of equal drives, each throttled; P9: the same by both engines; P8's 60 drives.

use crate::kit::data::large;
use crate::kit::drives::{Farm, Fs};
use crate::kit::peers::{Tool, fio, inhaul, peer};
use crate::kit::race::{Race, nothing};
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

/// A shelf of `count` ext4 drives with `data` bytes each at `rate` bytes a second.
pub(super) fn build(plan: &Plan, name: &str, count: u64, data: u64, rate: u64) -> Result<Farm> {
    let room = Room::new(plan, name, Farm::room_for(Fs::Ext4, count, data))?;
    let mut farm = Farm::new(room)?;
    for at in 0..count {
        farm.add(Fs::Ext4, rate, data, |path| large(path, 4, data / 4, at))?;
    }
    Ok(farm)
}

/// The race on a farm.
pub(super) fn race<'a>(plan: &'a Plan, farm: &Farm, name: &'a str) -> Result<Race<'a>> {
    Ok(Race {
        plan,
        name,
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: Some(farm.throttle.door()),
        holds: farm.holds(),
        limit: farm.limit(),
    })
}

/// fio, reading every drive of a farm at the same time with nothing else to do.
pub(super) fn fio_reads(farm: &Farm) -> Tool {
    let mut line =
        "--name=global --rw=read --bs=4M --direct=1 --ioengine=io_uring --iodepth=3 --thread"
            .to_owned();
    for (at, drive) in farm.drives.iter().enumerate() {
        let (device, size) = (&drive.device, drive.holds.bytes / 4096 * 4096);
        line += &format!(" --name=d{at} --filename={device} --size={size}");
    }
    fio("fio, reads only", &line)
}

fn wall(rows: &[Row], tool: &str) -> Option<f64> {
    row(rows, tool).and_then(Row::wall)
}

pub(crate) fn fifteen(plan: &Plan) -> Result<Outcome> {
    let (count, data) = plan.pick((15, 240 * MB), (4, 12 * MB));
    let farm = build(plan, "p1", count, data, 40 * MB)?;
    let race = race(plan, &farm, "P1 and P9: 15 drives at 40 MB/s, 240 MB each")?;
    let tools = [
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--io blocking"),
        fio_reads(&farm),
        peer("parallel cp")?,
        peer("parallel rsync")?,
        peer("parallel tee | b3sum")?,
        peer("rclone copy")?,
        peer("xcp")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let (ours, blocking) = (row(&rows, "inhaul"), row(&rows, "inhaul --io blocking"));
    let cpu = ratio(blocking.and_then(Row::cpu), ours.and_then(Row::cpu));
    let goals = vec![
        Goal::at_most(
            "P1: 15 drives, wall / limit",
            ratio(wall(&rows, "inhaul"), Some(race.limit)),
            1.05,
        ),
        Goal::at_most(
            "P9: blocking engine's wall / io_uring's",
            ratio(wall(&rows, "inhaul --io blocking"), wall(&rows, "inhaul")),
            1.10,
        ),
    ];
    let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
    Ok(Outcome {
        rows,
        goals,
        notes: vec![
            format!("P1: images in {}, target on disk", farm.room.kind()),
            format!("P9: blocking engine's CPU / io_uring's: {cpu}"),
        ],
    })
}

pub(crate) fn sixty(plan: &Plan) -> Result<Outcome> {
    let (count, data) = plan.pick((60, 72 * MB), (12, 4 * MB));
    let farm = build(plan, "p1-60", count, data, 10 * MB)?;
    let race = race(plan, &farm, "P1 and P8: 60 drives at 10 MB/s, 72 MB each")?;
    let tools = [
        inhaul(&plan.inhaul, ""),
        fio_reads(&farm),
        peer("parallel cp")?,
        peer("parallel rsync")?,
        peer("rclone copy")?,
    ];
    let rows = race.run(&tools, nothing)?;
    let peak = row(&rows, "inhaul").and_then(Row::peak);
    let goals = vec![
        Goal::at_most(
            "P1: 60 drives, wall / limit",
            ratio(wall(&rows, "inhaul"), Some(race.limit)),
            1.08,
        ),
        Goal::at_most(
            "P8: 60 drives, peak MiB",
            peak.map(|bytes| bytes / f64::from(1 << 20)),
            512.0,
        ),
    ];
    Ok(Outcome {
        rows,
        goals,
        notes: vec![format!(
            "P1: images in {}, target on disk",
            farm.room.kind()
        )],
    })
}
