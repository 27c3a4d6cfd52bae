//! What reading everything back costs: the same copy with and without `--verify target`.

use super::shelf;
use crate::kit::data::large;
use crate::kit::drives::{Farm, Fs};
use crate::kit::peers::{Tool, fio, inhaul, peer};
use crate::kit::race::nothing;
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome, Row, ratio, row};
use crate::kit::{Plan, Result};

const MB: u64 = 1_000_000;

/// The target is the limit: drives in RAM without a limit of their own.
pub(crate) fn target(plan: &Plan) -> Result<Outcome> {
    let data = plan.pick(2000 * MB, 12 * MB);
    let room = Room::new(plan, "verify", Farm::room_for(Fs::Ext4, 4, data))?;
    let mut farm = Farm::new(room)?;
    for at in 0..4 {
        farm.add(Fs::Ext4, 0, data, |path| large(path, 10, data / 10, at))?;
    }
    let files = plan.pick(8, 2);
    let bytes = data * 4 / files / 4096 * 4096;
    measure(
        plan,
        &farm,
        "Read-back: 4 drives of 2 GB without a limit, one disk as target",
        1.3,
        &[disk(files, bytes, false), disk(files, bytes, true)],
    )
}

const WRITES: &str = "fio, writes only";
const BOTH: &str = "fio, writes, then reads of them";

/// What the target's disk itself takes for as many bytes.
fn disk(files: u64, bytes: u64, again: bool) -> Tool {
    let mut line =
        "--name=global --bs=4M --direct=1 --ioengine=io_uring --iodepth=3 --thread".to_owned();
    let job = |name: &str, options: &str| {
        (0..files).fold(String::new(), |line, at| {
            let wait = if at == 0 { "--stonewall" } else { "" };
            line + &format!(
                " --name={name}{at} {wait} {options} --filename=\"$T\"/fio-{at} --size={bytes}"
            )
        })
    };
    line += &job("w", "--rw=write --fallocate=posix --end_fsync=1");
    if again {
        line += &job("r", "--rw=read");
    }
    fio(if again { BOTH } else { WRITES }, &line)
}

/// The drives are the limit, as on a shelf of spinning ones before a large target.
pub(crate) fn sources(plan: &Plan) -> Result<Outcome> {
    let (count, data) = plan.pick((15, 600 * MB), (4, 12 * MB));
    let farm = shelf::build(plan, "verify-shelf", count, data, 40 * MB)?;
    measure(
        plan,
        &farm,
        "Read-back: 15 drives at 40 MB/s, 600 MB each",
        1.1,
        &[],
    )
}

fn measure(plan: &Plan, farm: &Farm, name: &str, bound: f64, disk: &[Tool]) -> Result<Outcome> {
    let race = shelf::race(plan, farm, name)?;
    let mut tools = vec![
        inhaul(&plan.inhaul, ""),
        inhaul(&plan.inhaul, "--verify target"),
        peer("parallel cp, then b3sum")?,
    ];
    tools.extend_from_slice(disk);
    let rows = race.run(&tools, nothing)?;
    let wall = |tool: &str| row(&rows, tool).and_then(Row::wall);
    let mut goals = vec![Goal::at_most(
        format!("{name}: wall with --verify target / without"),
        ratio(wall("inhaul --verify target"), wall("inhaul")),
        bound,
    )];
    if !disk.is_empty() {
        // A disk that shares its rate between reads and writes cannot do both in the time of one:
        // then both at once take as long as one after the other.
        let floor = ratio(wall(BOTH), wall(WRITES));
        goals.push(Goal::at_most(
            format!("{name}: that, / the same of the disk alone"),
            ratio(goals.first().and_then(|goal| goal.value), floor),
            1.15,
        ));
    }
    Ok(Outcome {
        goals,
        notes: vec![format!("{name}: images in {}", farm.room.kind())],
        rows,
    })
}
