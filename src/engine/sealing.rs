//! The end of a copy: manifest, witness, journal, report, in this order.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use super::commit;
use super::context::Context;
use super::kept::PARTIAL;
use super::ledger::Listing;
use super::log::Log;
use super::proof::recorded;
use super::report::Report;
use super::standing::{Copied, at};
use super::summary::Heading;
use super::vigil::Asking;
use crate::error::{Error, ErrorKind, Side};
use crate::exit::Exit;
use crate::journal::{self, Done};
use crate::manifest::{self, PROBLEMS_FILE, Record, Sorter};
use crate::scan::as_path;
use crate::seam;
use crate::target::{LocalTarget, Stager, Vacancy};

/// Name of the report in the folder of a job.
pub(super) const REPORT_FILE: &str = "report.json";

/// What a run ends with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealing<'r> {
    pub(super) context: &'r Context,
    pub(super) target: &'r LocalTarget,
    pub(super) log: &'r Log,
    /// Whether the job is finished here when everything is done: all its sources are here, and no
    /// other target has yet to be.
    pub(super) whole_job: bool,
    /// Files that turned out to be wrong and are not in the target any more.
    pub(super) withdrawn: &'r HashSet<Vec<u8>>,
}

/// Ends a run at the target: manifest first, then the witness has the last word.
pub(super) fn seal(heading: &mut Heading, sealing: Sealing<'_>, ledger: Listing) {
    let Sealing {
        context, target, ..
    } = sealing;
    if is_lost(heading, sealing) {
        return;
    }
    // Of what a full medium could not take, nothing was acknowledged, and that it was full is known.
    let known = |error: &Error| context.is_full() && error.is_for_room();
    let outlived = tell_outlived(sealing).unwrap_or_else(|error| {
        if !known(&error) {
            context.outcomes.problem_of_run(&error);
            heading.fatal = Some(error.kind());
        }
        HashSet::new()
    });
    // All of it is asked of the target: each record that is through counts as an answer.
    let asking = sealing.log.vigil().ask();
    seam::point("manifest-writing");
    let listed = add_journalled(sealing, ledger, &asking)
        .and_then(|ledger| add_earlier(sealing, ledger, &asking));
    if let Err(error) = journal::check_pages() {
        // The manifest lacks files, too.
        context.journal_lost(&error);
        heading.fatal = Some(ErrorKind::RecordWrite);
        if is_lost(heading, sealing) {
            return;
        }
    }
    let mut belongs = |record: &Record| {
        asking.renew();
        !sealing.withdrawn.contains(&record.path) && !outlived.contains(&record.path)
    };
    let listed =
        listed.and_then(|sorter| manifest::write_sorted(sorter, target.home().job(), &mut belongs));
    seam::point("manifest-written");
    match listed {
        Ok(counts) => {
            heading.manifest_records = counts.records;
            heading.names_outside_b3sum = counts.outside_b3sum;
        }
        Err(error) => {
            context.outcomes.problem_of_run(&error);
            heading.fatal = Some(error.kind());
        }
    }
    // A later run goes on with what is staged, unless nothing is left to do.
    let keep = context.halted() || !context.outcomes.kinds().is_empty() || !sealing.whole_job;
    asking.renew();
    if let Err(error) = context.target.close(keep)
        && !known(&error)
    {
        context.outcomes.problem_of_run(&error);
        heading.fatal = Some(error.kind());
    }
}

/// Ends a run whose target is not what it was, if it is one; returns whether it is.
fn is_lost(heading: &mut Heading, sealing: Sealing<'_>) -> bool {
    let is_lost = sealing.context.lost.get() == Some(&ErrorKind::TargetLost);
    if is_lost {
        // Whatever is written now may go where nobody finds it.
        heading.fatal = Some(ErrorKind::TargetLost);
        let _known = sealing.context.target.close(true);
    }
    is_lost
}

/// Tells of what was saved of files with bad spots that are copied whole by now, and returns it: it is
/// left out of the manifest, so that whoever takes it away takes nothing from that.
///
/// The journal as it is by now decides, and what is there: what was copied there since, or changed by
/// somebody, is not what was saved.
fn tell_outlived(sealing: Sealing<'_>) -> Result<HashSet<Vec<u8>>, Error> {
    let Sealing {
        context,
        target,
        log,
        ..
    } = sealing;
    let has_saved = |earlier: &journal::Loaded| earlier.iter_done().any(|done| is_saved(&done));
    if log.has_failed() || !(context.salvage || log.earlier().is_some_and(has_saved)) {
        return Ok(HashSet::new());
    }
    let loaded = recorded(target, log)?;
    let asking = log.vigil().ask();
    let mut stager = context.target.stager("earlier")?;
    let (mut saved, mut outlived) = (HashMap::new(), HashSet::new());
    for done in loaded.iter_done() {
        asking.renew();
        let name = done.target_path.strip_suffix(commit::PARTIAL);
        if let Some(name) = name.filter(|_| is_saved(&done)) {
            saved.insert(name, done);
        } else if let Some(rest) = saved.get(done.target_path)
            && rest.source == done.source
            && is_there(&mut *stager, &done)?
            && is_there(&mut *stager, rest)?
        {
            // Copied after that, so that it is no older state of the file.
            let why = "its file is copied whole by now; what was saved of that before is as it was left, \
                       and not in the manifest any more";
            let path = as_path(rest.target_path);
            context.outcomes.skipped(0, &path, PARTIAL, why);
            outlived.insert(rest.target_path.to_vec());
        }
    }
    Ok(outlived)
}

/// Returns whether this is what was saved of a file. What a stop left without a record may be, too, or
/// a file of the source that has such a name: that stays in the manifest.
pub(super) fn is_saved(done: &Done<'_>) -> bool {
    done.source_stamp == commit::SAVED.into() && done.target_path.ends_with(commit::PARTIAL)
}

fn is_there(stager: &mut dyn Stager, done: &Done<'_>) -> Result<bool, Error> {
    let there = at(stager, done.target_path)?;
    Ok(matches!(there, Vacancy::File(stamp) if stamp == Copied::of(done).stamp))
}

/// Adds the files that earlier runs of this job copied and that are still there as they were.
fn add_journalled(
    sealing: Sealing<'_>,
    mut ledger: Listing,
    asking: &Asking,
) -> Result<Listing, Error> {
    let Some(earlier) = sealing.log.earlier() else {
        return Ok(ledger);
    };
    let mut stager = sealing.context.target.stager("earlier")?;
    for done in earlier.iter_done() {
        asking.renew();
        if !is_there(&mut *stager, &done)? {
            continue;
        }
        let copied = Copied::of(&done);
        let record = Record {
            path: done.target_path.to_vec(),
            digest: copied.digest,
        };
        ledger.sorter.push(&record).map_err(unlisted)?;
    }
    Ok(ledger)
}

fn unlisted(source: std::io::Error) -> Error {
    let what = "list what an earlier run copied";
    let path = manifest::B3SUM_FILE;
    Error::new(ErrorKind::RecordWrite, Side::Record, path, what).because(source)
}

/// Adds the files of the newest manifest that are still there, if this run met files that were
/// there already, and the names it linked to them: it goes on with what an earlier run began, and
/// its manifest is to cover both. What this run copied itself comes first and counts.
fn add_earlier(sealing: Sealing<'_>, ledger: Listing, asking: &Asking) -> Result<Sorter, Error> {
    let context = sealing.context;
    let Listing { mut sorter, owed } = ledger;
    if !context.outcomes.met_existing() && !context.interrupted.load(Relaxed) {
        return Ok(sorter);
    }
    let Some(job) = sealing.target.home().newest_job() else {
        return Ok(sorter);
    };
    let mut stager = context.target.stager("earlier")?;
    let unreadable = |error: &Error| {
        let line = format!(
            "the manifest of the run before cannot be read ({error}); \
             files it copied are not listed in this one"
        );
        context.session.observer.note(&line);
    };
    let records = match manifest::load(job.as_fd()) {
        Ok(records) => records,
        Err(error) => {
            unreadable(&error);
            return Ok(sorter);
        }
    };
    for record in records {
        asking.renew();
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                unreadable(&error);
                break;
            }
        };
        if !matches!(at(&mut *stager, &record.path)?, Vacancy::File(_)) {
            continue;
        }
        let links = owed.get(&record.path).into_iter().flatten();
        let linked = links.map(|name| Record {
            path: name.clone(),
            digest: record.digest,
        });
        for record in linked.chain([record.clone()]) {
            sorter.push(&record).map_err(unlisted)?;
        }
    }
    Ok(sorter)
}

/// Returns a report as its file has it.
///
/// # Errors
/// `RecordWrite`.
pub(super) fn json_of(report: &Report) -> Result<Vec<u8>, Error> {
    let mut json = serde_json::to_vec_pretty(report).map_err(|source| {
        let what = "write the report";
        Error::new(ErrorKind::RecordWrite, Side::Record, REPORT_FILE, what).because(source)
    })?;
    json.push(b'\n');
    Ok(json)
}

/// Writes the report, and finishes the job if everything of it is done.
///
/// # Errors
/// `RecordWrite`.
pub(super) fn write_report(sealing: Sealing<'_>, report: &Report) -> Result<(), Error> {
    let Sealing {
        context,
        target,
        log,
        whole_job,
        ..
    } = sealing;
    if context.lost.get() == Some(&ErrorKind::TargetLost) {
        return Ok(());
    }
    let is_complete = report.exit_code == Exit::Success.code() && whole_job;
    // Without a journal there is nothing to end; that it failed is in the report.
    if !log.has_failed() {
        log.end(is_complete, report.exit_code)?;
        seam::point("end-recorded");
    }
    let asking = log.vigil().ask();
    if let Err(error) = context.outcomes.finish_spool() {
        context
            .session
            .observer
            .note(&format!("{PROBLEMS_FILE} is incomplete: {error}"));
    }
    asking.renew();
    target.home().write_record(REPORT_FILE, &json_of(report)?)?;
    seam::point("report-written");
    asking.renew();
    target.home().set_latest()?;
    seam::point("latest-set");
    asking.renew();
    if is_complete {
        target.home().finish()?;
        seam::point("current-removed");
    }
    Ok(())
}
