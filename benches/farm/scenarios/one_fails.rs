//! R9: of eight drives one fails. What the others keep of their rate, and how soon it is told.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::Value;

use crate::kit::data::large;
use crate::kit::drives::{Drive, Farm, Fs};
use crate::kit::peers::inhaul;
use crate::kit::race::Race;
use crate::kit::room::Room;
use crate::kit::spindle::{Arm, Mechanics};
use crate::kit::table::{Goal, Outcome, median};
use crate::kit::{Context as _, Plan, Result};

const MB: u64 = 1_000_000;
const DRIVES: u64 = 8;

/// How the first drive fails, and what is to come of it.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    fail: fn(&Arm, Mechanics),
    /// The word of the first event about it; none when nothing is wrong with it but its speed.
    told: Option<&'static str>,
    code: i32,
}

const CASES: [Case; 5] = [
    Case {
        name: "nothing fails",
        fail: |_, _| {},
        told: None,
        code: 0,
    },
    Case {
        name: "bad sectors",
        fail: |arm, _| arm.spoil(true),
        told: Some("suspect"),
        code: 3,
    },
    Case {
        name: "dead",
        fail: |arm, _| arm.die(true),
        told: Some("gone"),
        code: 3,
    },
    Case {
        name: "hung",
        fail: |arm, _| arm.stall(true),
        told: Some("quarantined"),
        code: 3,
    },
    Case {
        name: "10 times slower",
        fail: |arm, mechanics| {
            arm.engage(Mechanics {
                rate: mechanics.rate / 10,
                ..mechanics
            });
        },
        told: None,
        code: 0,
    },
];

/// What a run gave.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Bytes a second of the other drives, all together.
    rate: f64,
    /// Seconds from the fault to the event.
    told: Option<f64>,
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let (data, rate) = plan.pick((480 * MB, 40 * MB), (12 * MB, 12 * MB));
    let stall = plan.pick(5, 1);
    let length = (data + data / 8).next_multiple_of(1 << 20) + (48 << 20);
    let room = Farm::room_for(Fs::Ext4, DRIVES - 1, data) + length;
    let mut farm = Farm::new(Room::new(plan, "r9", room)?)?;
    farm.add_spindle(length, rate, |path| large(path, 4, data / 4, 0))?;
    for at in 1..DRIVES {
        farm.add(Fs::Ext4, rate, data, |path| large(path, 4, data / 4, at))?;
    }
    let race = Race {
        plan,
        name: "R9: one of 8 drives fails",
        sources: farm.paths(),
        parent: farm.shelf(),
        target: farm.room.disk("target")?,
        door: Some(farm.throttle.door()),
        holds: farm.holds(),
        limit: farm.limit(),
    };
    let arm = farm.drives.first().and_then(Drive::arm);
    let arm = arm.ok_or("a drive without an arm")?;
    let mut seen: [Vec<Seen>; CASES.len()] = Default::default();
    for _ in 0..plan.runs {
        for (case, seen) in CASES.iter().zip(&mut seen) {
            if plan.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err("stopped".to_owned());
            }
            let one = measure(&race, arm, rate, stall, case);
            // Whatever happened, nothing may hang when this ends.
            arm.free();
            seen.push(one.map_err(|error| format!("{}: {error}", case.name))?);
            race.clear()?;
        }
    }
    Ok(outcome(&seen, stall))
}

fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    median(&values)
}

fn outcome(seen: &[Vec<Seen>], stall: u32) -> Outcome {
    let mut outcome = Outcome::default();
    let rate_of = |seen: &[Seen]| middle(seen.iter().map(|seen| seen.rate));
    let well = seen.first().and_then(|seen| rate_of(seen));
    for (case, seen) in CASES.iter().zip(seen).skip(1) {
        let kept = rate_of(seen).zip(well).map(|(rate, well)| rate / well);
        outcome.goals.push(Goal::at_least(
            format!("R9: {}: rate of the others / without it", case.name),
            kept,
            0.95,
        ));
        let Some(word) = case.told else { continue };
        let told = middle(seen.iter().filter_map(|seen| seen.told));
        let silent = if word == "quarantined" { stall } else { 0 };
        outcome.goals.push(Goal::at_most(
            format!("R9: {}: seconds until it is called {word}", case.name),
            told,
            1.0 + f64::from(silent),
        ));
    }
    outcome.notes.push(format!(
        "R9: the drive that fails is a FUSE file system, the other seven are throttled loop devices; \
         --stall-timeout {stall}s"
    ));
    outcome
}

/// Copies all drives, has the first fail on the way, and looks at the others.
fn measure(race: &Race<'_>, arm: &Arm, rate: u64, stall: u32, case: &Case) -> Result<Seen> {
    if !race.plan.small {
        race.cool()?;
        crate::kit::host::wait_for_quiet(race.plan.patience);
    }
    let mechanics = Mechanics {
        rate,
        stroke: Duration::ZERO,
        turn: Duration::ZERO,
    };
    arm.engage(mechanics);
    let options = format!("--json --grace 0 --stall-timeout {stall}s");
    let mut command = race.command(&inhaul(&race.plan.inhaul, &options))?;
    command.stdout(Stdio::piped());
    let mut child = command.spawn().context("starting inhaul")?;
    let events = events_of(&mut child)?;
    let told = watch(&events, arm, mechanics, race.limit * 0.3, case);
    // Who waits for a drive that hangs could not be waited for.
    arm.free();
    let status = child.wait().context("inhaul")?;
    if status.code() != Some(case.code) {
        return Err(format!("inhaul ended with {status}"));
    }
    let told = told?;
    if case.told.is_some() && told.is_none() {
        return Err("no event about it".to_owned());
    }
    let rate = rate_of_others(race)?;
    Ok(Seen { rate, told })
}

/// The lines of its events, with their times, on a thread of their own.
fn events_of(child: &mut Child) -> Result<Receiver<(Instant, String)>> {
    let stdout = child.stdout.take().ok_or("no output")?;
    let (sender, events) = bounded(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout)
            .lines()
            .map_while(std::result::Result::ok)
        {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    Ok(events)
}

/// Has the drive fail when copying has gone on for `after` seconds; returns how long it took until it
/// was told, when all is through.
fn watch(
    events: &Receiver<(Instant, String)>,
    arm: &Arm,
    mechanics: Mechanics,
    after: f64,
    case: &Case,
) -> Result<Option<f64>> {
    // A run that takes longer hangs.
    let patience = Duration::from_secs(600);
    let is = |line: &str, kind: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        event.get("type").and_then(Value::as_str) == Some(kind)
    };
    let (mut fails_at, mut failed, mut told) = (None, None, None);
    let begun = Instant::now();
    while begun.elapsed() < patience {
        let next = fails_at.map_or(patience, |at: Instant| {
            at.saturating_duration_since(Instant::now())
        });
        match events.recv_timeout(next) {
            Ok((at, line)) if is(&line, "start") => {
                fails_at = Some(at + Duration::from_secs_f64(after));
            }
            Ok((at, line)) if is(&line, "health") => {
                let word = format!("\"health\":\"{}\"", case.told.unwrap_or("none"));
                if let Some(failed) = failed.filter(|_| told.is_none() && line.contains(&word)) {
                    told = Some(at.duration_since(failed).as_secs_f64());
                }
            }
            Ok((_, line)) if is(&line, "summary") => return Ok(told),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                (case.fail)(arm, mechanics);
                failed = Some(Instant::now());
                fails_at = None;
            }
            Err(RecvTimeoutError::Disconnected) => return Err("it ended early".to_owned()),
        }
    }
    Err("it did not end".to_owned())
}

/// Bytes a second of all drives but the first, each over its own time, from the report.
fn rate_of_others(race: &Race<'_>) -> Result<f64> {
    let path = race.target.join(".inhaul/latest/report.json");
    let text = std::fs::read(path).context("the report")?;
    let report: Value = serde_json::from_slice(&text).context("the report")?;
    let lanes = report["lanes"].as_array().ok_or("a report without lanes")?;
    let mut rate = 0.0;
    for lane in lanes.iter().skip(1) {
        let is_well = lane["state"] == "done" && lane["health"] == "ok";
        if !is_well {
            return Err(format!("another drive has come to harm: {lane}"));
        }
        let bytes = lane["totals"]["bytes"].as_f64().unwrap_or_default();
        rate += bytes / lane["seconds"].as_f64().unwrap_or(f64::INFINITY);
    }
    Ok(rate)
}
