//! `copy`: from a job to a report.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::context::Context;
use super::job::CopyJob;
use super::ledger::Listing;
use super::links::LinkTable;
use super::outcomes::Outcomes;
use super::report::{MountReport, Report};
use super::room::check_space;
use super::run::{RunSettings, run};
use super::session::Session;
use super::setup::{ScanJob, choose, raise_descriptor_limit, reading_context, scan_lane};
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::{self, PROBLEMS_FILE, Record, Sorter, Spool};
use crate::plan::{
    Budget, LanePlan, NamedLink, TargetPlace, check_landings, lanes, look_at_target, open_sources,
};
use crate::scan::Finished;
use crate::target::attributes::can_chown;
use crate::target::{LocalTarget, Policy, Settings, Target, Vacancy};
use crate::topology::Topology;

/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// Everything decided before anything is written.
pub(super) struct Prepared {
    pub(super) lanes: Vec<LanePlan>,
    pub(super) place: TargetPlace,
    pub(super) finished: (Sender<Finished>, Receiver<Finished>),
}

/// Opens and checks everything a copy names; writes nothing.
pub(super) fn prepare(job: &CopyJob) -> Result<Prepared, Error> {
    let sources = open_sources(&job.sources, NamedLink::Itself)?;
    let place = look_at_target(&job.target, &sources)?;
    check_landings(&sources)?;
    let finished = bounded(FINISHED_QUEUE);
    let lanes = lanes(sources, &Topology::live()?, &finished.0)?;
    Ok(Prepared {
        lanes,
        place,
        finished,
    })
}

/// Copies.
///
/// # Durability
/// When the report's exit code is 0, every file it counts survives a power cut.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn copy(job: &CopyJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let Prepared {
        lanes,
        place,
        finished,
    } = prepare(job)?;
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let chosen = choose(&job.engine, session)?;
    let expected = check_space(job, &lanes, &place, &budget, session)?;

    let policy = Policy {
        setid: job.preserve.setid,
        caps: job.preserve.caps,
        owner: can_chown(),
    };
    let settings = Settings {
        policy,
        direct: true,
    };
    let root = place.make()?;
    let target = LocalTarget::open(job.target.clone(), root, settings, None, &mut |_, _| false)?;
    let target = Arc::new(target);
    let home = target.home();
    let dup = || home.job_dir();
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    for (view, expected) in telemetry.lanes.iter().zip(&expected) {
        view.counters.bytes_expected.store(expected.bytes, Relaxed);
        view.counters.files_expected.store(expected.inodes, Relaxed);
    }
    let mounts = mounts(job, &lanes, &target);
    let spool = Spool::new(dup()?, PROBLEMS_FILE);
    let context = Context {
        target: Arc::clone(&target) as Arc<dyn Target>,
        outcomes: Outcomes::new(session.clone(), Arc::clone(&telemetry), Some(spool)),
        links: Some(LinkTable::default()),
        existing: job.existing,
        policy,
        special: job.preserve.special,
        copies: true,
        target_identity: Some(target.identity()),
        ..reading_context(session, &telemetry, &job.engine)?
    };
    let mut ledger = Listing {
        sorter: Sorter::new(dup()?, budget.sorter_bytes),
        owed: HashMap::new(),
    };
    let scan = ScanJob {
        filter: &job.filter,
        files_from: job.files_from.as_deref(),
        window_bytes: budget.window_bytes,
        registered_writes: target.fs().registered_writes(),
    };
    let setups = lanes
        .into_iter()
        .map(|plan| scan_lane(plan, scan))
        .collect();
    let settings = RunSettings {
        chosen,
        choice: job.engine.io,
        slots_per_lane: budget.slots_per_lane,
    };
    session.observer.started(&telemetry);
    let (sender, finished) = finished;
    drop(sender);
    let ran = run(
        &context,
        &telemetry,
        setups,
        settings,
        &mut ledger,
        finished,
    );
    let ends = ran.inspect_err(|_| session.observer.ended())?;

    let mut heading = Heading {
        command: "copy",
        job: home.job_name().to_owned(),
        target: job.target.to_string_lossy().into_owned(),
        mounts,
        buffer_bytes: (budget.slots_per_lane * crate::buffer::SLOT_LEN * facts.len()) as u64,
        ..Heading::default()
    };
    seal(&mut heading, &context, ledger, &target);
    let report = report(heading, &context, &telemetry, &facts, &ends, started);
    let written = write_report(&target, &report, &context);
    session.observer.ended();
    written?;
    Ok(report)
}

/// Ends a run at the target: manifest first, then the witness has the last word.
fn seal(heading: &mut Heading, context: &Context, ledger: Listing, target: &LocalTarget) {
    let listed = add_earlier(context, ledger, target)
        .and_then(|sorter| manifest::write_sorted(sorter, target.home().job()));
    match listed {
        Ok(counts) => {
            heading.manifest_records = counts.records;
            heading.names_outside_b3sum = counts.outside_b3sum;
        }
        Err(error) => {
            context.outcomes.problem(0, &error);
            heading.fatal = Some(error.kind());
        }
    }
    if let Err(error) = target.close(false) {
        context.outcomes.problem(0, &error);
        heading.fatal = Some(error.kind());
    }
}

/// Adds the files of the newest manifest that are still there, if this run met files that were
/// there already, and the names it linked to them: it goes on with what an earlier run began, and
/// its manifest is to cover both. What this run copied itself comes first and counts.
fn add_earlier(context: &Context, ledger: Listing, target: &LocalTarget) -> Result<Sorter, Error> {
    let Listing { mut sorter, owed } = ledger;
    if !context.outcomes.met_existing() && !context.interrupted.load(Relaxed) {
        return Ok(sorter);
    }
    let Some(job) = target.home().newest_job() else {
        return Ok(sorter);
    };
    let mut stager = target.stager("earlier")?;
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
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                unreadable(&error);
                break;
            }
        };
        if !matches!(stager.vacancy(&record.path), Ok(Vacancy::File(_))) {
            continue;
        }
        let links = owed.get(&record.path).into_iter().flatten();
        let linked = links.map(|name| Record {
            path: name.clone(),
            digest: record.digest,
        });
        for record in linked.chain([record.clone()]) {
            sorter.push(&record).map_err(|source| {
                let what = "list what an earlier run copied";
                Error::new(
                    ErrorKind::RecordWrite,
                    Side::Record,
                    manifest::B3SUM_FILE,
                    what,
                )
                .because(source)
            })?;
        }
    }
    Ok(sorter)
}

fn write_report(target: &LocalTarget, report: &Report, context: &Context) -> Result<(), Error> {
    if let Err(error) = context.outcomes.finish_spool() {
        context
            .session
            .observer
            .note(&format!("{PROBLEMS_FILE} is incomplete: {error}"));
    }
    let mut json = serde_json::to_vec_pretty(report).map_err(|source| {
        Error::new(
            ErrorKind::RecordWrite,
            Side::Record,
            "report.json",
            "write the report",
        )
        .because(source)
    })?;
    json.push(b'\n');
    target.home().write_record("report.json", &json)?;
    target.home().set_latest()?;
    if report.stopped {
        Ok(())
    } else {
        target.home().finish()
    }
}

fn mounts(job: &CopyJob, lanes: &[LanePlan], target: &LocalTarget) -> Vec<MountReport> {
    let access = |direct| if direct { "direct" } else { "buffered" }.to_owned();
    let mut mounts = Vec::new();
    for plan in lanes {
        for (tree, (fs, location)) in plan.trees.iter().zip(&plan.fs) {
            let (direct, why) = fs.direct_read();
            mounts.push(MountReport {
                path: tree.label.to_string_lossy().into_owned(),
                side: "source".to_owned(),
                fs: location.mount.fs.clone(),
                access: access(direct),
                why: why.to_owned(),
            });
        }
    }
    let (direct, why) = target.direct();
    mounts.push(MountReport {
        path: job.target.to_string_lossy().into_owned(),
        side: "target".to_owned(),
        fs: target.fs().name().to_owned(),
        access: access(direct),
        why: why.to_owned(),
    });
    mounts
}
