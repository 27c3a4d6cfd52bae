//! From counters to the report.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use super::context::Context;
use super::fold;
use super::job::Verify;
use super::report::{
    Evidence, LaneReport, MountReport, Repair, Report, SCHEMA, TargetReport, Totals,
};
use super::run::LaneEnd;
use super::telemetry::{LaneCounters, LaneState, LaneView, Telemetry, Waited};
use super::threads::WITHOUT_A_WORD;
use super::verdict::{Whole, verdict};
use crate::error::ErrorKind;
use crate::exit::exit_for;
use crate::plan::LanePlan;
use crate::topology::Location;

/// What is known of a lane's drive, for its part of the report.
#[derive(Debug, Clone)]
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
    /// What is known of each lane's files.
    pub(crate) by_lane: HashMap<usize, Evidence>,
    /// Whether reading again was cut short by a stop.
    pub(crate) cut_short: bool,
    /// What was mended.
    pub(crate) repairs: Vec<Repair>,
    /// Whether more was asked for than copying.
    pub(crate) verified: Verify,
    /// How many files each target has, where there are several.
    pub(crate) targets: Vec<TargetReport>,
    /// What runs into other targets came to before.
    pub(crate) before: Option<Report>,
    /// A failure of the run as a whole: a sync or a record.
    pub(crate) fatal: Option<ErrorKind>,
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
    let hashed_alone = heading.command == "copy" && heading.verified == Verify::None;
    let whole = Whole {
        verify: heading.verified,
        failed: heading.fatal.is_some() || context.lost.get().is_some(),
        shared_problem: context.outcomes.has_problem_of_run(),
        cut_short: heading.cut_short,
    };
    let known = telemetry.lanes.iter().zip(facts).zip(ends);
    for (number, ((view, facts), end)) in known.enumerate() {
        let mut lane = lane_report(view, facts, end, seconds, context);
        if heading.command == "copy" {
            lane.evidence = heading.by_lane.get(&number).copied().unwrap_or_default();
            if hashed_alone {
                lane.evidence.hashed = lane.totals.files + lane.totals.kept;
            }
            if let Some(before) = &heading.before {
                fold::add_lane(&mut lane, before, heading.verified);
            }
            (lane.safe_to_release, lane.verdict) = verdict(&lane, whole);
            if let Some(before) = &heading.before {
                fold::add_verdict(&mut lane, before);
            }
        }
        add(&mut totals, &lane.totals);
        context.session.observer.drive(&lane);
        lanes.push(lane);
    }
    let mut evidence = heading.evidence;
    if hashed_alone {
        evidence.hashed = totals.files + totals.kept;
    }
    let lanes_moved = telemetry.lanes.iter().map(|view| moved(&view.counters));
    totals.bytes_per_second = rate(lanes_moved.sum(), seconds);
    let outcomes = &context.outcomes;
    let (problems, problem_count) = outcomes.all_problems();
    let (skipped, skipped_count) = outcomes.left_out();
    totals.problems = problem_count;
    // A stop that came when nothing was left to do is none.
    let stopped = context.interrupted.load(Relaxed) || heading.cut_short;
    // A lane that ended, and nobody said why, is no success.
    let is_silent = |end: &LaneEnd| end.error.as_deref() == Some(WITHOUT_A_WORD);
    let silent = ends.iter().any(is_silent).then_some(ErrorKind::Panic);
    let kinds = outcomes.kinds().into_iter().chain(silent);
    let exit = exit_for(stopped, heading.fatal, kinds);
    let mut report = Report {
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
        privileges_cleared: outcomes.cleared(),
        owners_not_kept: outcomes.owners_not_kept(),
        buffer_bytes: heading.buffer_bytes,
        resumed: heading.goes_on,
        evidence,
        repairs: heading.repairs,
        problems,
        problem_count,
        skipped,
        skipped_count,
        targets: heading.targets,
    };
    if let Some(before) = &heading.before {
        fold::add_rest(&mut report, before, heading.verified);
    }
    report
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
    let measured = counters.known().map_or(0, |known| known.rate);
    let best = counters.best_rate();
    let best = best.map(|bytes| rate(bytes.max(measured), 1.0));
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
        state: if is_cut_short(context)
            && end.error.is_none()
            && counters.state() != LaneState::Failed
        {
            "stopped".to_owned()
        } else {
            counters.state().word().to_owned()
        },
        health: counters.health().word().to_owned(),
        totals: Totals {
            files: get(&counters.files_done),
            bytes: get(&counters.bytes_done),
            others: get(&counters.others_done) + get(&counters.others_kept),
            dirs: get(&counters.dirs),
            existing: get(&counters.files_skipped),
            existing_bytes: get(&counters.bytes_skipped),
            kept: get(&counters.files_kept),
            kept_bytes: get(&counters.bytes_kept),
            changed: get(&counters.files_changed),
            salvaged: get(&counters.files_salvaged),
            problems: get(&counters.problems),
            bytes_per_second: rate(moved(counters), seconds),
        },
        seconds,
        limited_by: limited_by.to_owned(),
        best_bytes_per_second: best,
        share_of_best: best.map(|best| (rate(get(&counters.bytes_came), seconds) / best).min(1.0)),
        evidence: Evidence::default(),
        safe_to_release: false,
        verdict: String::new(),
        waited_seconds: waited,
        io: end.io.clone(),
        buffers: end.buffers,
    }
}

/// Returns whether lanes left something undone: a stop that came when nothing was left to do is
/// none.
fn is_cut_short(context: &Context) -> bool {
    context.interrupted.load(Relaxed) || context.lost.get().is_some()
}

/// Returns the bytes of finished files that this run read: not those that an earlier one had copied
/// of files it began.
fn moved(counters: &LaneCounters) -> u64 {
    let done = counters.bytes_done.load(Relaxed);
    done.min(counters.bytes_read.load(Relaxed))
}

pub(super) fn add(sum: &mut Totals, part: &Totals) {
    sum.files += part.files;
    sum.bytes += part.bytes;
    sum.others += part.others;
    sum.dirs += part.dirs;
    sum.existing += part.existing;
    sum.existing_bytes += part.existing_bytes;
    sum.kept += part.kept;
    sum.kept_bytes += part.kept_bytes;
    sum.changed += part.changed;
    sum.salvaged += part.salvaged;
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
