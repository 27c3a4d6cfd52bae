//! Several targets, one after the other: when one is full, what is left goes to the next.
//!
//! A run into each is a run like any other, with the whole protocol; what the others have counts as
//! copied ([`elsewhere`](super::elsewhere)). At the end the targets that were full are visited once
//! more: their folders get their attributes, and their records are closed. The first one is closed
//! last, so a copy that was cut short anywhere is found there and gone on with.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::copy::{Asked, LeftOuts, tries};
use super::fold::{self, Told, Visit};
use super::job::CopyJob;
use super::opening::not_there;
use super::outcomes::problem_of;
use super::pass::Ended;
use super::recipe::Recipe;
use super::report::Report;
use super::sealing::{REPORT_FILE, json_of};
use super::session::Session;
use super::spots::{Spots, full};
use super::telemetry::Telemetry;
use crate::error::{Error, ErrorKind, Side};
use crate::exit::{Exit, exit_of};
use crate::plan::TargetPlace;
use crate::target::{HOME, Home, HomeLock};

/// One run into one of several targets.
#[derive(Debug)]
pub(super) struct Round<'a> {
    /// The job as it was asked for.
    pub(super) whole: &'a CopyJob,
    /// Which of the targets; 0 is the one called TARGET.
    pub(super) number: usize,
    /// The other targets, with their numbers.
    pub(super) others: Vec<(usize, TargetPlace)>,
    /// What targets and sources are, where there is more than one run.
    pub(super) spots: Option<&'a Spots>,
    /// The name of the job, once it has one.
    pub(super) name: Option<String>,
    /// What runs into other targets have copied before, drive by drive.
    pub(super) before: Option<Report>,
    /// What a visit adds to, for the report in its target.
    pub(super) told: Option<Told>,
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
            spots: None,
            name: None,
            before: None,
            told: None,
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
    let spots = Spots::look(&targets)?;
    check_first(&targets, &spots)?;
    let mut last: Option<Report> = None;
    // The targets that were, each with the number of files in its manifest.
    let mut used: Vec<(usize, u64)> = Vec::new();
    let mut is_full = false;
    let mut shared = Shared {
        asked,
        here: asked.job.clone(),
        session,
        targets: &targets,
        spots: &spots,
        name: None,
        began: Instant::now(),
    };
    for number in 0..targets.len() {
        let (mut report, full) = match shared.run(number, is_full, last.as_ref()) {
            Ok(Some(ended)) => ended,
            Ok(None) => continue,
            Err(error) => {
                // What was done before is reported all the same.
                let mut report = last.ok_or(error.again())?;
                session.observer.note(&error.to_string());
                fold::add_error(&mut report, &error);
                if let Some((at, _)) = used.last() {
                    shared.tell_again(*at, &report);
                }
                return Ok(report);
            }
        };
        shared.name = Some(report.job.clone());
        is_full = full;
        let goes_on = !session.stopped() && (full || ends_well(&report));
        let may_be_unsettled = report.resumed || report.exit_code == Exit::Failure.code();
        // Whoever is lost is asked nothing any more: a drive that hangs would hold up all that follows,
        // and the folder it was mounted at would pass for it.
        let lost = lost_sources(&report);
        shared
            .here
            .sources
            .retain(|source| !lost.contains(source.to_string_lossy().as_ref()));
        let is_any_left = !shared.here.sources.is_empty();
        let mut records = report.manifest_records;
        if goes_on && full && may_be_unsettled && is_any_left {
            // What it could not take now is not there; what is there, and nobody acknowledged, is
            // looked at before the next one copies it.
            let told = Told {
                overall: report.clone(),
                records,
                closes: false,
            };
            let (visit, _) = shared.visit(number, false, told);
            if visit.code == Exit::Success.code() {
                fold::forget_room(&mut report);
            }
            let now = visit.records;
            fold::add_visit(&mut report, visit, records, job.verify, false);
            records = now.unwrap_or(records);
        }
        last = Some(report);
        used.push((number, records));
        if !goes_on || !is_any_left {
            break;
        }
    }
    let Some(mut last) = last else {
        let what = "no run into any target came to an end";
        return Err(Error::new(
            ErrorKind::Panic,
            Side::Target,
            &job.target,
            what,
        ));
    };
    let ended_in = used.pop();
    if session.stopped() || is_full || !ends_well(&last) || shared.here.sources.is_empty() {
        return Ok(last);
    }
    used.reverse();
    shared.close(&used, ended_in, &mut last);
    Ok(last)
}

/// Returns the sources, as a report names them, of drives that were lost.
fn lost_sources(report: &Report) -> HashSet<&str> {
    let lanes = report.lanes.iter();
    let lost = lanes.filter(|lane| {
        matches!(lane.health.as_str(), "gone" | "quarantined") || lane.state == "failed"
    });
    lost.flat_map(|lane| lane.sources.iter().map(String::as_str))
        .collect()
}

/// What all runs of one copy have in common.
struct Shared<'a> {
    asked: Asked<'a>,
    /// The job with the sources that are here by now.
    here: CopyJob,
    session: &'a Session,
    targets: &'a [PathBuf],
    spots: &'a Spots,
    name: Option<String>,
    began: Instant,
}

impl Shared<'_> {
    /// Returns what was asked for, with the sources that are here by now.
    fn asked(&self) -> Asked<'_> {
        Asked {
            job: &self.here,
            ..self.asked
        }
    }

    /// Copies into a target, if its turn is: when the one before is full, or it was begun. Returns
    /// the report, in which what `before` says stands, too, and whether it is full.
    fn run(
        &self,
        number: usize,
        is_full: bool,
        before: Option<&Report>,
    ) -> Result<Option<(Report, bool)>, Error> {
        let Some(target) = self.targets.get(number) else {
            return Ok(None);
        };
        let is_begun = |place: &TargetPlace| has_job(place, self.name.as_deref());
        let others = self.others(number)?;
        let here = self.spots.open(number, target)?;
        if number > 0 && !is_full && !is_begun(&here) {
            return Ok(None);
        }
        drop(here);
        let is_begun_later = others.iter().any(|(at, it)| *at > number && is_begun(it));
        let round = Round {
            others,
            spots: Some(self.spots),
            name: self.name.clone(),
            // Each counts what those before it did.
            before: before.cloned(),
            completes: number > 0 && !is_begun_later || number == 0,
            number,
            began: self.began,
            ..Round::alone(self.asked.typed)
        };
        let (typed, here) = self.asked().for_target(target, false);
        let into = Asked {
            typed: &typed,
            job: &here,
            ..self.asked
        };
        match tries(into, self.session, &round)? {
            Ended::Over(report, full) => Ok(Some((*report, full))),
            Ended::Again(_) => {
                let what = "a sync failed again";
                let kind = ErrorKind::TargetSync;
                Err(Error::new(kind, Side::Target, target, what))
            }
        }
    }

    /// Visits targets that were full once more, and closes them. What cannot be closed is added to
    /// the report of the last run.
    fn close(&self, used: &[(usize, u64)], ended_in: Option<(usize, u64)>, last: &mut Report) {
        let said = last.exit_code;
        let completes = said == Exit::Success.code();
        let mut closed: Vec<(usize, Report)> = Vec::new();
        for &(number, records) in used {
            let told = Told {
                overall: last.clone(),
                records,
                closes: true,
            };
            let (visit, own) = self.visit(number, completes, told);
            closed.extend(own.map(|own| (number, own)));
            let code = last.exit_code;
            fold::add_visit(last, visit, records, self.asked.typed.verify, true);
            if last.exit_code != code {
                for lane in &last.lanes {
                    self.session.observer.drive(lane);
                }
            }
        }
        if last.exit_code == said {
            return;
        }
        // What was written before that says less.
        if let Some((number, _)) = ended_in {
            self.tell_again(number, last);
        }
        for (number, own) in &closed {
            self.tell_again(*number, &fold::in_target(last, own));
        }
    }

    /// Writes the report in a target again, when something is known by now that it does not say.
    fn tell_again(&self, number: usize, report: &Report) {
        let (Some(target), Some(name)) = (self.targets.get(number), &self.name) else {
            return;
        };
        let told = self.spots.open(number, target).and_then(|place| {
            let lock = place
                .existing()
                .map(|root| HomeLock::take_existing(root, target))
                .transpose()?
                .flatten();
            let Some(lock) = lock else { return Ok(()) };
            match lock.unfinished(Some(name))? {
                Some(job) => lock.write_record(&job, REPORT_FILE, &json_of(report)?),
                None => Ok(()),
            }
        });
        if let Err(error) = told {
            let line = format!("the report there does not say how all ended: {error}");
            self.session.observer.note(&line);
        }
    }

    /// Visits a target, and copies nothing: names that were given and never acknowledged are, if
    /// their bytes are right, folders get their attributes, records are closed.
    /// Returns what that came to, and its own report.
    fn visit(&self, number: usize, completes: bool, told: Told) -> (Visit, Option<Report>) {
        let Some(target) = self.targets.get(number) else {
            return (Visit::default(), None);
        };
        let failed = |error: &Error| {
            let visit = Visit {
                code: exit_of(error.kind()).code(),
                problems: vec![problem_of(error)],
                ..Visit::default()
            };
            (visit, None)
        };
        let others = match self.others(number) {
            Ok(others) => others,
            Err(error) => return failed(&error),
        };
        let round = Round {
            others,
            spots: Some(self.spots),
            name: self.name.clone(),
            completes,
            told: Some(told),
            finishes: true,
            number,
            began: self.began,
            ..Round::alone(self.asked.typed)
        };
        let quiet = Session {
            observer: std::sync::Arc::new(super::session::Silent),
            ..self.session.clone()
        };
        let (typed, here) = self.asked().for_target(target, true);
        let into = Asked {
            typed: &typed,
            job: &here,
            // They are told of by the runs that copy.
            left_out: LeftOuts::default(),
            ..self.asked
        };
        match tries(into, &quiet, &round) {
            Ok(Ended::Over(report, _)) => (Visit::of(&report), Some(*report)),
            Ok(Ended::Again(_)) => {
                let code = Exit::Failure.code();
                let visit = Visit {
                    code,
                    ..Visit::default()
                };
                (visit, None)
            }
            // Everything is copied; the next run closes what could not be closed now.
            Err(error) => failed(&error),
        }
    }

    /// Opens the other targets.
    fn others(&self, but: usize) -> Result<Vec<(usize, TargetPlace)>, Error> {
        let others = self.targets.iter().enumerate();
        let others = others.filter(|(number, _)| *number != but);
        others
            .map(|(number, path)| Ok((number, self.spots.open(number, path)?)))
            .collect()
    }
}

/// Refuses a first target without a copy that a further one has a part of: its drive is not mounted,
/// and what is there in its place is another's.
fn check_first(targets: &[PathBuf], spots: &Spots) -> Result<(), Error> {
    let Some(target) = targets.first() else {
        return Ok(());
    };
    let first = spots.open(0, target)?;
    if first.existing().and_then(Home::find_current).is_some() {
        return Ok(());
    }
    for (number, label) in targets.iter().enumerate().skip(1) {
        let place = spots.open(number, label)?;
        let Some(job) = place.existing().and_then(Home::find_current) else {
            continue;
        };
        // Without its recipe nothing is known of it.
        let folder = label.join(HOME).join(&job.name);
        let Some(recipe) = Recipe::load_if_there(job.dir.as_fd(), &folder)? else {
            continue;
        };
        let begun = recipe.path(&recipe.job().target);
        let is_further = !recipe.job().spill.is_empty() && full(&begun) == full(target);
        if is_further && !has_job(&first, Some(&job.name)) {
            return Err(not_there(&job.name, target));
        }
    }
    Ok(())
}

/// Returns whether a run went to its end, whatever it could not copy on the way.
fn ends_well(report: &Report) -> bool {
    let codes = [Exit::Success, Exit::Incomplete, Exit::Mismatch].map(Exit::code);
    !report.stopped && codes.contains(&report.exit_code)
}

fn has_job(place: &TargetPlace, name: Option<&str>) -> bool {
    let (Some(root), Some(_)) = (place.existing(), name) else {
        return false;
    };
    Home::find_job(root, &place.label, name).is_ok()
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
