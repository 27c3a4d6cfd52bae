//! From counters to the report.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use super::context::Context;
use super::job::Verify;
use super::report::{Evidence, LaneReport, MountReport, Repair, Report, SCHEMA, Totals};
use super::run::LaneEnd;
use super::telemetry::{LaneCounters, LaneView, Telemetry, Waited};
use crate::exit::exit_for;
use crate::plan::LanePlan;
use crate::topology::Location;

/// What is known of a lane's drive, for its part of the report.
#[derive(Debug)]
pub(crate) struct LaneFacts {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) rotational: Option<bool>,
    pub(crate) sources: Vec<std::path::PathBuf>,
}

impl LaneFacts {
    pub(crate) fn of(plan: &LanePlan) -> Self {
        Self {
            name: plan.name.clone(),
            location: plan.location.clone(),
            rotational: plan.rotational,
            sources: plan.trees.iter().map(|tree| tree.label.clone()).collect(),
        }
    }

    pub(crate) fn view(&self) -> LaneView {
        LaneView {
            name: self.name.clone(),
            sources: self.sources.clone(),
            counters: LaneCounters::default(),
        }
    }
}

/// What a run is called and where it went.
#[derive(Debug, Default)]
pub(crate) struct Heading {
    pub(crate) command: &'static str,
    pub(crate) job: String,
    pub(crate) target: String,
    pub(crate) mounts: Vec<MountReport>,
    pub(crate) manifest_records: u64,
    pub(crate) names_outside_b3sum: u64,
    pub(crate) buffer_bytes: u64,
    /// Whether an earlier run's job was gone on with.
    pub(crate) goes_on: bool,
    /// What is known of the files.
    pub(crate) evidence: Evidence,
    /// What was mended.
    pub(crate) repairs: Vec<Repair>,
    /// Whether more was asked for than copying.
    pub(crate) verified: Verify,
    /// A failure of the run as a whole: a sync or a record.
    pub(crate) fatal: Option<crate::error::ErrorKind>,
}

/// Returns the report of a run that is over.
pub(crate) fn report(
    heading: Heading,
    context: &Context,
    telemetry: &Telemetry,
    facts: &[LaneFacts],
    ends: &[LaneEnd],
    started: SystemTime,
) -> Report {
    let seconds = telemetry.started.elapsed().as_secs_f64();
    let mut totals = Totals::default();
    let mut lanes = Vec::new();
    for ((view, facts), end) in telemetry.lanes.iter().zip(facts).zip(ends) {
        let mut lane = lane_report(view, facts, end, seconds, context);
        if heading.command == "copy" {
            (lane.safe_to_release, lane.verdict) = verdict(&lane, &heading, context);
        }
        add(&mut totals, &lane.totals);
        context.session.observer.drive(&lane);
        lanes.push(lane);
    }
    let mut evidence = heading.evidence;
    if heading.command == "copy" && heading.verified == Verify::None {
        evidence.hashed = totals.files + totals.kept;
    }
    totals.bytes_per_second = rate(totals.bytes, seconds);
    let outcomes = &context.outcomes;
    let (problems, problem_count) = outcomes.problems();
    let (skipped, skipped_count) = outcomes.left_out();
    totals.problems = problem_count;
    // A stop that came when nothing was left to do is none.
    let stopped = context.interrupted.load(Relaxed);
    let exit = exit_for(stopped, heading.fatal, outcomes.kinds());
    Report {
        schema: SCHEMA,
        command: heading.command.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        job: heading.job,
        target: heading.target,
        started: humantime::format_rfc3339_seconds(started).to_string(),
        ended: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        seconds,
        exit_code: exit.code(),
        stopped,
        totals,
        lanes,
        mounts: heading.mounts,
        manifest_records: heading.manifest_records,
        names_outside_b3sum: heading.names_outside_b3sum,
        privileges_cleared: outcomes.cleared.load(Relaxed),
        owners_not_kept: outcomes.owners_not_kept.load(Relaxed),
        buffer_bytes: heading.buffer_bytes,
        resumed: heading.goes_on,
        evidence,
        repairs: heading.repairs,
        problems,
        problem_count,
        skipped,
        skipped_count,
    }
}

fn lane_report(
    view: &LaneView,
    facts: &LaneFacts,
    end: &LaneEnd,
    run_seconds: f64,
    context: &Context,
) -> LaneReport {
    let counters = &view.counters;
    let get = |counter: &AtomicU64| counter.load(Relaxed);
    let seconds = counters
        .ended()
        .map_or(run_seconds, |ended| ended.as_secs_f64());
    let waits = [Waited::Source, Waited::Hash, Waited::Target, Waited::Limit];
    let waited = waits.map(|what| counters.waited(what).as_secs_f64());
    let words = ["source", "hash", "target", "limit"];
    let (_, limited_by) = waited
        .iter()
        .zip(words)
        .fold((0.0, "source"), |most, (&time, word)| {
            if time > most.0 { (time, word) } else { most }
        });
    let drive = facts.location.drives.first();
    LaneReport {
        drive: facts.name.clone(),
        model: drive.and_then(|drive| drive.model.clone()),
        serial: drive.and_then(|drive| drive.serial.clone().or_else(|| drive.wwn.clone())),
        rotational: facts.rotational,
        sources: facts
            .sources
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        state: if context.halted() && end.error.is_none() {
            "stopped".to_owned()
        } else {
            counters.state().word().to_owned()
        },
        totals: Totals {
            files: get(&counters.files_done),
            bytes: get(&counters.bytes_done),
            others: get(&counters.others_done),
            dirs: get(&counters.dirs),
            existing: get(&counters.files_skipped),
            existing_bytes: get(&counters.bytes_skipped),
            kept: get(&counters.files_kept),
            kept_bytes: get(&counters.bytes_kept),
            changed: get(&counters.files_changed),
            problems: get(&counters.problems),
            bytes_per_second: rate(get(&counters.bytes_done), seconds),
        },
        seconds,
        limited_by: limited_by.to_owned(),
        safe_to_release: false,
        verdict: String::new(),
        waited_seconds: waited,
        io: end.io.clone(),
        buffers: end.buffers,
    }
}

/// Says whether a drive may be released, and why (not).
fn verdict(lane: &LaneReport, heading: &Heading, context: &Context) -> (bool, String) {
    let no = |why: String| (false, why);
    let totals = &lane.totals;
    if heading.fatal.is_some() || context.lost.get().is_some() {
        return no("the target or its records failed".to_owned());
    }
    if totals.problems > 0 {
        let things = if totals.problems == 1 {
            "thing"
        } else {
            "things"
        };
        return no(format!("{} {things} not copied whole", totals.problems));
    }
    if context.interrupted.load(Relaxed) || lane.state == "stopped" {
        return no("stopped before the end; run again to go on".to_owned());
    }
    if lane.state == "failed" {
        return no("its lane ended early".to_owned());
    }
    if totals.existing > 0 {
        let files = totals.existing;
        return no(format!(
            "{files} files were there already and were not compared"
        ));
    }
    let evidence = &heading.evidence;
    if heading.verified != Verify::None && evidence.hashed + evidence.cached > 0 {
        let files = evidence.hashed + evidence.cached;
        return no(format!(
            "{files} files could not be read back from the medium"
        ));
    }
    let how = match heading.verified {
        Verify::None => "everything copied, hashed and durable; not read back",
        Verify::Target if evidence.read_back_near > 0 => {
            "everything copied, durable and read back (the drive's own cache is not ruled out)"
        }
        Verify::Target => "everything copied, durable and read back from the medium",
        Verify::Both if evidence.read_back_near > 0 => {
            "everything copied, durable, read back (the drive's own cache is not ruled out), and \
             the source read twice"
        }
        Verify::Both => {
            "everything copied, durable, read back from the medium, and the source read twice"
        }
    };
    (true, how.to_owned())
}

fn add(sum: &mut Totals, part: &Totals) {
    sum.files += part.files;
    sum.bytes += part.bytes;
    sum.others += part.others;
    sum.dirs += part.dirs;
    sum.existing += part.existing;
    sum.existing_bytes += part.existing_bytes;
    sum.kept += part.kept;
    sum.kept_bytes += part.kept_bytes;
    sum.changed += part.changed;
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is shown with three digits"
)]
fn rate(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        bytes as f64 / seconds
    } else {
        0.0
    }
}
