//! P10: what it costs to wait when every drive hangs.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::kit::child::Sample;
use crate::kit::data::large;
use crate::kit::drives::{Drive, Farm};
use crate::kit::peers::inhaul;
use crate::kit::race::Race;
use crate::kit::room::Room;
use crate::kit::spindle::Mechanics;
use crate::kit::table::{Goal, Outcome, Row};
use crate::kit::{Context as _, Plan, Result, compare};

const MB: u64 = 1_000_000;
const DRIVES: u64 = 4;

/// CPU seconds a process has used so far.
fn cpu_of(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process")?;
    // The name in brackets may hold anything; the numbers follow the last bracket.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = numbers
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u32>().ok())
        .sum();
    Ok(f64::from(ticks) / 100.0)
}

fn stall(drives: &[Drive], stalled: bool) {
    drives
        .iter()
        .filter_map(Drive::arm)
        .for_each(|arm| arm.stall(stalled));
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let data = plan.pick(48 * MB, 16 * MB);
    let length = (data + data / 8).next_multiple_of(1 << 20) + (48 << 20);
    let mut farm = Farm::new(Room::new(plan, "p10", DRIVES * length)?)?;
    for at in 0..DRIVES {
        farm.add_spindle(length, 20 * MB, |path| large(path, 2, data / 2, at))?;
    }
    let race = Race {
        plan,
        name: "P10: 4 drives that hang",
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: None,
        holds: farm.holds(),
        limit: 0.0,
    };
    let tool = inhaul(&plan.inhaul, "");
    if !plan.small {
        race.cool()?;
    }
    for arm in farm.drives.iter().filter_map(Drive::arm) {
        arm.engage(Mechanics {
            rate: 20 * MB,
            stroke: Duration::ZERO,
            turn: Duration::ZERO,
        });
    }
    let mut child = race.command(&tool)?.spawn().context("starting inhaul")?;
    let measured = watch(&farm, child.id(), plan);
    // Whatever happened, nothing may hang when this ends.
    for arm in farm.drives.iter().filter_map(Drive::arm) {
        arm.free();
    }
    let status = child.wait().context("inhaul")?;
    let (wall, cpu) = measured?;
    if !status.success() {
        return Err(format!("inhaul after the drives came back: {status}"));
    }
    check(&race.sources, &race.target)?;
    let sample = Sample {
        wall,
        user: cpu,
        system: 0.0,
        peak: 0,
        busy_before: 0.0,
        code: 0,
    };
    Ok(Outcome {
        rows: vec![Row {
            scenario: race.name.to_owned(),
            tool: tool.name,
            hashes: true,
            limit: 0.0,
            bytes: 0,
            samples: vec![sample],
            trouble: None,
        }],
        goals: vec![Goal::at_most(
            "P10: share of one core while every drive hangs",
            Some(cpu / wall),
            0.01,
        )],
        notes: Vec::new(),
    })
}

/// Lets it read for a moment, stops every drive, and gives seconds watched and CPU seconds used.
fn watch(farm: &Farm, pid: u32, plan: &Plan) -> Result<(f64, f64)> {
    std::thread::sleep(Duration::from_millis(400));
    stall(&farm.drives, true);
    // What is under way comes to rest first.
    std::thread::sleep(Duration::from_millis(plan.pick(1000, 200)));
    let (start, before) = (Instant::now(), cpu_of(pid)?);
    std::thread::sleep(Duration::from_millis(plan.pick(20_000, 1000)));
    Ok((start.elapsed().as_secs_f64(), cpu_of(pid)? - before))
}

fn check(sources: &[std::path::PathBuf], target: &Path) -> Result<()> {
    for source in sources {
        let name = source.file_name().ok_or("a source without a name")?;
        compare::same(source, &target.join(name))?;
    }
    Ok(())
}
