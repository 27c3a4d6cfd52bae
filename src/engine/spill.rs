//! Several targets, one after the other: when one is full, what is left goes to the next.
//!
//! A run into each is a run like any other, with the whole protocol; what the others have counts as
//! copied ([`elsewhere`](super::elsewhere)). At the end the targets that were full are visited once
//! more: their folders get their attributes, and their records are closed. The first one is closed
//! last, so a copy that was cut short anywhere is found there and gone on with.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::copy::{Asked, tries};
use super::job::CopyJob;
use super::outcomes::problem_of;
use super::pass::Ended;
use super::report::{Problem, Report};
use super::session::Session;
use super::telemetry::Telemetry;
use crate::error::{Error, ErrorKind, Side};
use crate::exit::{Exit, exit_of, worst};
use crate::plan::{TargetPlace, look_at_target};
use crate::target::Home;

/// One run into one of several targets.
#[derive(Debug)]
pub(super) struct Round<'a> {
    /// The job as it was asked for.
    pub(super) whole: &'a CopyJob,
    /// Which of the targets; 0 is the one called TARGET.
    pub(super) number: usize,
    /// The other targets, with their numbers.
    pub(super) others: Vec<(usize, TargetPlace)>,
    /// The name of the job, once it has one.
    pub(super) name: Option<String>,
    /// What runs into other targets have copied before, drive by drive.
    pub(super) before: Option<Report>,
    /// Whether the job is closed here when everything is done.
    pub(super) completes: bool,
    /// Whether nothing is copied any more.
    pub(super) finishes: bool,
    pub(super) began: Instant,
}

impl<'a> Round<'a> {
    /// Returns the one run of a copy into one target.
    pub(super) fn alone(job: &'a CopyJob) -> Self {
        Self {
            whole: job,
            number: 0,
            others: Vec::new(),
            name: None,
            before: None,
            completes: true,
            finishes: false,
            began: Instant::now(),
        }
    }

    /// Returns whether there is a target that can take what this one cannot.
    pub(super) fn has_next(&self) -> bool {
        let others = self.others.iter();
        !self.finishes && others.clone().any(|(number, _)| *number > self.number)
    }

    /// Returns whether there is another target at all.
    pub(super) fn is_alone(&self) -> bool {
        self.others.is_empty()
    }
}

/// Copies into TARGET and, when it is full, into those that are named for that.
pub(super) fn copy(asked: Asked<'_>, session: &Session) -> Result<Report, Error> {
    let job = asked.typed;
    let targets: Vec<PathBuf> = [&job.target]
        .into_iter()
        .chain(&job.spill)
        .cloned()
        .collect();
    check_apart(&targets)?;
    let began = Instant::now();
    let shared = |name: &Option<String>| Shared {
        asked,
        session,
        targets: &targets,
        name: name.clone(),
        began,
    };
    let mut name = None;
    let mut reports: Vec<Report> = Vec::new();
    let mut used = Vec::new();
    let mut is_full = false;
    for (number, target) in targets.iter().enumerate() {
        let is_begun = |place: &TargetPlace| has_job(place, name.as_deref());
        let others = places(&targets, number)?;
        let here = look_at_target(target, &[])?;
        if number > 0 && !is_full && !is_begun(&here) {
            continue;
        }
        drop(here);
        let is_begun_later = others.iter().any(|(at, it)| *at > number && is_begun(it));
        let round = Round {
            others,
            name: name.clone(),
            // Each counts what those before it did.
            before: reports.last().cloned(),
            completes: number > 0 && !is_begun_later || number == 0,
            number,
            began,
            ..Round::alone(job)
        };
        let (typed, here) = asked.for_target(target, false);
        let into = Asked {
            typed: &typed,
            job: &here,
            ..asked
        };
        let (report, full) = match tries(into, session, &round)? {
            Ended::Over(report, full) => (report, full),
            Ended::Again => {
                let what = "a sync failed again";
                return Err(Error::new(
                    ErrorKind::TargetSync,
                    Side::Target,
                    target,
                    what,
                ));
            }
        };
        name = Some(report.job.clone());
        is_full = full;
        let goes_on = !session.stopped() && (full || ends_well(&report));
        let may_be_unsettled = report.resumed || report.exit_code == Exit::Failure.code();
        reports.push(*report);
        used.push(number);
        if !goes_on {
            break;
        }
        if full && may_be_unsettled {
            // What it could not take now is not there; what is there, and nobody acknowledged, is
            // looked at before the next one copies it. It says no more than that one will.
            let _left_to_the_next = shared(&name).visit(number, false)?;
        }
    }
    let Some(mut last) = reports.pop() else {
        let what = "no run into any target came to an end";
        return Err(Error::new(
            ErrorKind::Panic,
            Side::Target,
            &job.target,
            what,
        ));
    };
    used.pop();
    if session.stopped() || is_full || !ends_well(&last) {
        return Ok(last);
    }
    used.reverse();
    shared(&name).close(&used, &mut last)?;
    Ok(last)
}

/// What all runs of one copy have in common.
struct Shared<'a> {
    asked: Asked<'a>,
    session: &'a Session,
    targets: &'a [PathBuf],
    name: Option<String>,
    began: Instant,
}

impl Shared<'_> {
    /// Visits targets that were full once more, and closes them. What cannot be closed is added to
    /// the report of the last run.
    fn close(&self, used: &[usize], last: &mut Report) -> Result<(), Error> {
        let completes = last.exit_code == Exit::Success.code();
        for &number in used {
            let (code, problems) = self.visit(number, completes)?;
            let here = Exit::from_code(code).unwrap_or(Exit::Failure);
            let so_far = Exit::from_code(last.exit_code).unwrap_or(Exit::Failure);
            last.exit_code = worst(so_far, here).code();
            last.problem_count += problems.len() as u64;
            last.problems.extend(problems);
        }
        Ok(())
    }

    /// Visits a target, and copies nothing: names that were given and never acknowledged are, if
    /// their bytes are right, folders get their attributes, records are closed. Returns its exit
    /// code and its problems.
    fn visit(&self, number: usize, completes: bool) -> Result<(u8, Vec<Problem>), Error> {
        let Some(target) = self.targets.get(number) else {
            return Ok((Exit::Success.code(), Vec::new()));
        };
        let round = Round {
            others: places(self.targets, number)?,
            name: self.name.clone(),
            completes,
            finishes: true,
            number,
            began: self.began,
            ..Round::alone(self.asked.typed)
        };
        let quiet = Session {
            observer: std::sync::Arc::new(super::session::Silent),
            ..self.session.clone()
        };
        let (typed, here) = self.asked.for_target(target, true);
        let into = Asked {
            typed: &typed,
            job: &here,
            // They are told of by the runs that copy.
            silent: &[],
            ..self.asked
        };
        Ok(match tries(into, &quiet, &round) {
            Ok(Ended::Over(report, _)) => (report.exit_code, report.problems),
            Ok(Ended::Again) => (Exit::Failure.code(), Vec::new()),
            // Everything is copied; the next run closes what could not be closed now.
            Err(error) => (exit_of(error.kind()).code(), vec![problem_of(&error)]),
        })
    }
}

/// Returns whether a run went to its end, whatever it could not copy on the way.
fn ends_well(report: &Report) -> bool {
    let codes = [Exit::Success, Exit::Incomplete, Exit::Mismatch].map(Exit::code);
    !report.stopped && codes.contains(&report.exit_code)
}

fn places(targets: &[PathBuf], but: usize) -> Result<Vec<(usize, TargetPlace)>, Error> {
    let others = targets.iter().enumerate();
    let others = others.filter(|(number, _)| *number != but);
    others
        .map(|(number, path)| Ok((number, look_at_target(path, &[])?)))
        .collect()
}

fn has_job(place: &TargetPlace, name: Option<&str>) -> bool {
    let (Some(root), Some(_)) = (place.existing(), name) else {
        return false;
    };
    Home::find_job(root, &place.label, name).is_ok()
}

/// Refuses targets that give no more room than one of them: on one file system.
fn check_apart(targets: &[PathBuf]) -> Result<(), Error> {
    let mut devices = Vec::new();
    for target in targets {
        let place = look_at_target(target, &[])?;
        let stat = rustix::fs::fstat(&place.nearest)
            .map_err(|errno| Error::target(target, "look at the target", errno))?;
        if devices.contains(&stat.st_dev) {
            let what = "it is on the same file system as another target: there is no more room \
                        there";
            return Err(Error::new(ErrorKind::Refused, Side::Target, target, what));
        }
        devices.push(stat.st_dev);
    }
    Ok(())
}

/// Counts what runs into other targets have copied before as copied, not as found there.
pub(super) fn count_before(telemetry: &Telemetry, before: Option<&Report>) {
    for lane in before.into_iter().flat_map(|report| &report.lanes) {
        let mut views = telemetry.lanes.iter();
        let Some(view) = views.find(|view| view.name == lane.drive) else {
            continue;
        };
        let it = &view.counters;
        let files = lane.totals.files.min(it.files_kept.load(Relaxed));
        let bytes = lane.totals.bytes.min(it.bytes_kept.load(Relaxed));
        it.files_kept.fetch_sub(files, Relaxed);
        it.bytes_kept.fetch_sub(bytes, Relaxed);
        it.files_done.fetch_add(files, Relaxed);
        it.bytes_done.fetch_add(bytes, Relaxed);
        it.bytes_read.fetch_add(bytes, Relaxed);
    }
}
