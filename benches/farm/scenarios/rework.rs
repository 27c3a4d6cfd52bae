//! What a kill costs: bytes read twice when a copy that was killed goes on.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use super::{one_file, shelf};
use crate::kit::peers::inhaul;
use crate::kit::race::Race;
use crate::kit::room::Room;
use crate::kit::table::{Goal, Outcome};
use crate::kit::{Context as _, Plan, Result, compare};

const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// What may be read twice for each drive.
const BOUND: u64 = 1 << 30;

/// One file of 10 GiB, same disk.
pub(crate) fn large(plan: &Plan) -> Result<Outcome> {
    let length = plan.pick(10 << 30, 64 << 20);
    let room = Room::new(plan, "rework", 0)?;
    let name = "Rework: one file of 10 GiB, same disk";
    let race = one_file::race(plan, &room, name, length)?;
    measure(&race, 1)
}

/// A shelf of drives at once.
pub(crate) fn shelf(plan: &Plan) -> Result<Outcome> {
    let (count, data) = plan.pick((15, 600 * MB), (4, 12 * MB));
    let farm = shelf::build(plan, "rework-shelf", count, data, 40 * MB)?;
    let race = shelf::race(plan, &farm, "Rework: 15 drives at 40 MB/s, 600 MB each")?;
    measure(&race, count)
}

fn measure(race: &Race<'_>, drives: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let (name, total) = (race.name, race.holds.bytes);
    for percent in [10, 50, 90] {
        cool(race)?;
        let before = killed(&mut command(race)?, total / 100 * percent)?;
        if before >= total && !race.plan.small {
            return Err("it had ended before it was killed".to_owned());
        }
        cool(race)?;
        let after = ended(&mut command(race)?)?;
        for source in &race.sources {
            let file = source.file_name().ok_or("a source without a name")?;
            compare::same(source, &race.target.join(file))?;
        }
        race.clear()?;
        let twice = (before + after).saturating_sub(total);
        outcome.notes.push(format!(
            "{name}: killed at {percent} %: {} MiB read before, {} after, {} MiB twice",
            before / MIB,
            after / MIB,
            twice / MIB
        ));
        #[allow(clippy::cast_precision_loss, reason = "bytes of a race")]
        outcome.goals.push(Goal::at_most(
            format!("{name}: killed at {percent} %, read twice / 1 GiB a drive"),
            Some(twice as f64 / (BOUND * drives) as f64),
            1.0,
        ));
    }
    Ok(outcome)
}

fn cool(race: &Race<'_>) -> Result<()> {
    if race.plan.small { Ok(()) } else { race.cool() }
}

fn command(race: &Race<'_>) -> Result<Command> {
    race.command(&inhaul(&race.plan.inhaul, ""))
}

/// Bytes a process had read from block devices: with O_DIRECT, all that it read. The kernel keeps
/// the count until the process is waited for.
fn read_by(child: &Child) -> Result<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{}/io", child.id())).context("reading the count")?;
    text.lines()
        .find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok())
        .ok_or_else(|| "no count of bytes read".to_owned())
}

fn gone(child: &Child) -> bool {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap_or_default();
        state.trim_start().starts_with('Z')
    })
}

fn wait(child: &Child, end: impl Fn(u64) -> bool) -> Result<u64> {
    while !gone(child) {
        let read = read_by(child)?;
        if end(read) {
            return Ok(read);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    read_by(child)
}

/// Starts it, kills it when it has read so much, and gives what it had read.
fn killed(command: &mut Command, at: u64) -> Result<u64> {
    let mut child = command.spawn().context("starting inhaul")?;
    let reached = wait(&child, |read| read >= at);
    child.kill().context("killing inhaul")?;
    let read = reached.and_then(|_| wait(&child, |_| false));
    child.wait().context("inhaul")?;
    read
}

/// Starts it, and gives what it had read when it ended well.
fn ended(command: &mut Command) -> Result<u64> {
    let mut child = command.spawn().context("starting inhaul")?;
    let read = wait(&child, |_| false);
    let status = child.wait().context("inhaul")?;
    if !status.success() {
        return Err(format!("the run that went on: {status}"));
    }
    read
}
