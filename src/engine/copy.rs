//! `copy`: from a job to a report.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::context::Context;
use super::job::{CopyJob, Verify};
use super::ledger::Listing;
use super::links::LinkTable;
use super::opening::{self, Opening, RecordedSource};
use super::outcomes::Outcomes;
use super::proof::{Judge, Proof, recorded};
use super::readback::ReadBack;
use super::report::{MountReport, Report};
use super::returns::{Homes, Returns};
use super::roll_call::roll_call;
use super::room::check_space;
use super::run::{RunSettings, run};
use super::sealing::{Sealing, seal, write_report};
use super::second_read::{SourceAgain, second_read};
use super::session::Session;
use super::setup::{ScanJob, choose, raise_descriptor_limit, reading_context, scan_lane};
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use super::watched::WatchedTarget;
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::{Maps, PROBLEMS_FILE, Sorter, Spool};
use crate::plan::{
    Budget, LanePlan, NamedLink, Source, TargetPlace, check_landings, lanes, look_at_target,
    open_sources,
};
use crate::scan::{Finished, Tree};
use crate::seam;
use crate::target::attributes::can_chown;
use crate::target::{LocalTarget, Policy, Settings, Target, fs_type};
use crate::topology::Topology;

/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// Everything decided before anything is written.
pub(super) struct Prepared {
    pub(super) lanes: Vec<LanePlan>,
    pub(super) place: TargetPlace,
    pub(super) finished: (Sender<Finished>, Receiver<Finished>),
}

/// Opens and checks everything a copy names; writes nothing. `look` may give sources another place
/// in the target before those are compared.
pub(super) fn prepare<T>(
    job: &CopyJob,
    look: impl FnOnce(&TargetPlace, &mut [Source], &Topology) -> Result<T, Error>,
) -> Result<(Prepared, T), Error> {
    let mut sources = open_sources(&job.sources, NamedLink::Itself)?;
    let place = look_at_target(&job.target, &sources)?;
    let topology = Topology::live()?;
    let looked = look(&place, &mut sources, &topology)?;
    check_landings(&sources)?;
    let finished = bounded(FINISHED_QUEUE);
    let lanes = lanes(sources, &topology, &finished.0)?;
    let prepared = Prepared {
        lanes,
        place,
        finished,
    };
    Ok((prepared, looked))
}

/// Which try at a job this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Pass {
    /// The first: a sync that fails ends it, and there is another.
    First,
    /// The second: what was not acknowledged is copied again, whole, into new inodes. A sync that
    /// fails now is final.
    Second,
}

/// Copies. Goes on with a job that an earlier run began, if this is the same.
///
/// # Durability
/// When the report's exit code is 0, every file it counts survives a power cut.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn copy(job: &CopyJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let call = roll_call(&job.sources, job.engine.stall, session)?;
    let asked = Asked {
        typed: job,
        job: &CopyJob {
            sources: call.here,
            ..job.clone()
        },
        silent: &call.silent,
        started,
    };
    if let Some(report) = pass(asked, session, Pass::First)? {
        return Ok(report);
    }
    session.observer.note(
        "the target failed to make something durable: everything not acknowledged by then is \
         copied again from its source",
    );
    let again = pass(asked, session, Pass::Second).map_err(|error| {
        let what = format!("a sync failed, and the target cannot be gone on with ({error})");
        Error::new(ErrorKind::TargetSync, Side::Target, &job.target, &what)
    })?;
    again.ok_or_else(|| {
        let what = "a sync failed again";
        Error::new(ErrorKind::TargetSync, Side::Target, &job.target, what)
    })
}

/// What was asked for, and what of it can be done.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    /// The job as it was typed: that is what is written down.
    typed: &'a CopyJob,
    /// The same with the sources that answer.
    job: &'a CopyJob,
    /// What to report of the others.
    silent: &'a [Error],
    started: SystemTime,
}

#[expect(
    clippy::too_many_lines,
    reason = "what a run is made of, in the order in which it begins and ends"
)]
/// Runs one pass; `None` when a sync failed and there is to be another.
fn pass(asked: Asked<'_>, session: &Session, pass: Pass) -> Result<Option<Report>, Error> {
    let job = asked.job;
    let (prepared, opening) = prepare(job, |place, sources, topology| {
        opening::look(job, place, sources, topology, session)
    })?;
    let Prepared {
        lanes,
        place,
        finished,
    } = prepared;
    let reads_back = job.verify != Verify::None;
    let budget = Budget::new(job.engine.memory, lanes.len() + usize::from(reads_back))?;
    let chosen = choose(&job.engine, session)?;
    check_verify(job, &place)?;
    let expected = check_space(job, &lanes, &place, &budget, session)?;

    let policy = Policy {
        setid: job.preserve.setid,
        caps: job.preserve.caps,
        owner: can_chown(),
    };
    let settings = Settings {
        policy,
        direct: true,
        read_back: reads_back,
    };
    let goes_on = opening.goes_on();
    let whole_job = opening.has_all_sources();
    if goes_on && !whole_job {
        session
            .observer
            .note("some sources of the unfinished job are not given here; it stays open for them");
    }
    let homes = Homes::of(&lanes, opening.identities());
    let (target, log) = open(asked.typed, opening, place, settings, &lanes, pass)?;
    let (target, log) = (Arc::new(target), Arc::new(log));
    let _watched = log.vigil().keep(&job.target, job.engine.stall, session);
    let home = target.home();
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    for (view, expected) in telemetry.lanes.iter().zip(&expected) {
        view.counters.bytes_expected.store(expected.bytes, Relaxed);
        view.counters.files_expected.store(expected.inodes, Relaxed);
    }
    let mounts = mounts(job, &lanes, &target);
    let links = LinkTable::default();
    opening::recall_links(&log, &trees_of(&lanes), &*target, &links)?;
    let spool = Spool::new(home.job_dir()?, PROBLEMS_FILE);
    let context = Arc::new(Context {
        target: Arc::new(WatchedTarget::new(
            Arc::clone(&target) as Arc<dyn Target>,
            log.vigil(),
        )),
        outcomes: Arc::new(
            Outcomes::new(session.clone(), Arc::clone(&telemetry), Some(spool))
                .with_lanes(lanes_of_sources(&lanes)),
        ),
        links: Some(links),
        existing: job.existing,
        policy,
        special: job.preserve.special,
        copies: true,
        target_identity: Some(target.identity()),
        log: Some(Arc::clone(&log)),
        may_try_again: pass == Pass::First,
        salvage: job.salvage,
        maps: Some(Arc::new(Maps::new(home.job_dir()?)?)),
        ..reading_context(session, &telemetry, &job.engine)?
    });
    let mut ledger = Listing {
        sorter: Sorter::new(home.job_dir()?, budget.sorter_bytes),
        owed: HashMap::new(),
    };
    let scan = ScanJob {
        filter: Arc::clone(&job.filter),
        files_from: job.files_from.clone(),
        window_bytes: budget.window_bytes,
        registered_writes: target.fs().registered_writes(),
    };
    if reads_back {
        context.keep_sources(SourceAgain::all(&lanes, &|tree| log.number_of(tree))?);
    }
    let setups = (0..)
        .zip(lanes)
        .map(|(lane, plan)| scan_lane(lane, plan, scan.clone()))
        .collect();
    let settings = RunSettings {
        chosen,
        choice: job.engine.io,
        slots_per_lane: budget.slots_per_lane,
        stall: job.engine.stall,
        may_return: true,
        may_be_read_again: reads_back,
        round: 0,
    };
    let read_back = if reads_back {
        Some(Arc::new(ReadBack::new(
            session,
            &job.engine,
            &target,
            &job.target,
            &log,
            &telemetry,
        )?))
    } else {
        None
    };
    session.observer.started(&telemetry);
    for error in asked.silent {
        context.outcomes.source_left_out(error);
    }
    let returns = Returns {
        job,
        context: &context,
        telemetry: &telemetry,
        target: &target,
        log: &log,
        homes: &homes,
        facts: &facts,
        scan: &scan,
        settings,
    };
    let (sender, finished) = finished;
    drop(sender);
    let ran = thread::scope(|scope| {
        let reader = read_back
            .as_ref()
            .map(|back| scope.spawn(move || back.run(settings)));
        let mut ran = run(
            &context,
            &telemetry,
            setups,
            settings,
            &mut ledger,
            finished,
        );
        if let Ok(ends) = &mut ran {
            returns.bring_back(ends, &mut ledger);
        }
        log.pace().set_ended();
        if let Some(back) = &read_back {
            if ran.is_err() || context.lost.get().is_some() {
                back.cancel();
            } else {
                back.tell_rest();
            }
        }
        // Whatever it did not get to is looked at by itself, so its end says nothing more.
        let _looked_at_later = reader.map(thread::ScopedJoinHandle::join);
        ran
    });
    let ends = ran.inspect_err(|_| session.observer.ended())?;
    seam::point("lanes-ended");
    if context.tries_again() {
        session.observer.ended();
        return give_up(&target, &log).map(|()| None);
    }
    // A drive that is lost is asked nothing any more.
    let is_here = |lane: usize| {
        let counters = context.outcomes.lane(lane);
        counters.is_none_or(|counters| !counters.vitals().is_lost())
    };
    let mut again = context.take_sources();
    again.retain(|source| is_here(source.lane));
    let proof = prove(
        job,
        Judge {
            context: &context,
            target: &target,
            log: &log,
            sources: &again,
        },
        read_back.as_deref(),
        settings,
    );

    let mut heading = Heading {
        command: "copy",
        job: home.job_name().to_owned(),
        target: job.target.to_string_lossy().into_owned(),
        mounts,
        buffer_bytes: (budget.slots_per_lane * crate::buffer::SLOT_LEN * facts.len()) as u64,
        goes_on,
        evidence: proof.evidence,
        by_lane: proof.by_lane,
        cut_short: proof.cut_short,
        repairs: proof.repairs,
        verified: job.verify,
        ..Heading::default()
    };
    let sealing = Sealing {
        context: &context,
        target: &target,
        log: &log,
        withdrawn: &proof.withdrawn,
        whole_job,
    };
    seal(&mut heading, sealing, ledger);
    let report = report(heading, &context, &telemetry, &facts, &ends, asked.started);
    let written = write_report(sealing, &report);
    session.observer.ended();
    written?;
    Ok(Some(report))
}

/// Refuses to prove what cannot be: where the file system answers from memory, reading back says
/// nothing of the medium.
fn check_verify(job: &CopyJob, place: &TargetPlace) -> Result<(), Error> {
    if job.verify == Verify::None {
        return Ok(());
    }
    let look = |errno| Error::target(&job.target, "look at the target", errno);
    let dir = beneath::read_dir_fd(place.nearest.as_fd(), b"").map_err(look)?;
    let (direct, why) = fs_type(dir).map_err(look)?.direct_read();
    if direct {
        return Ok(());
    }
    let what = format!(
        "nothing can be read back from this target's medium ({why}); copy without --verify, and \
         verify after a remount or a restart"
    );
    let kind = ErrorKind::Unsupported;
    Err(Error::new(kind, Side::Target, &job.target, &what))
}

/// Finds out what can be proved of what was copied. What cannot be found out is reported.
fn prove(
    job: &CopyJob,
    judge: Judge<'_>,
    read_back: Option<&ReadBack>,
    settings: RunSettings,
) -> Proof {
    let context = judge.context;
    if context.lost.get().is_some() || job.verify == Verify::None {
        return Proof::default();
    }
    let proved = recorded(judge.target, judge.log).and_then(|loaded| {
        let findings = read_back.map(ReadBack::findings).unwrap_or_default();
        let mut proof = judge.judge(&loaded, &findings)?;
        if job.verify == Verify::Both {
            if context.halted() {
                proof.cut_short = true;
            } else {
                second_read(job, judge, loaded, settings, &mut proof)?;
            }
        }
        proof.say_unverified(job, context);
        Ok(proof)
    });
    proved.unwrap_or_else(|error| {
        context.outcomes.problem_of_run(&error);
        Proof::default()
    })
}

/// Returns the lane of each SOURCE.
fn lanes_of_sources(lanes: &[LanePlan]) -> Vec<usize> {
    let mut of: Vec<(usize, usize)> = (0..)
        .zip(lanes)
        .flat_map(|(lane, plan)| plan.trees.iter().map(move |tree| (tree.index, lane)))
        .collect();
    of.sort_unstable();
    of.into_iter().map(|(_, lane)| lane).collect()
}

fn trees_of(lanes: &[LanePlan]) -> Vec<Arc<Tree>> {
    let trees = lanes.iter().flat_map(|lane| &lane.trees);
    trees.cloned().collect()
}

/// Opens the target with the job in it.
fn open(
    job: &CopyJob,
    opening: Opening,
    place: TargetPlace,
    settings: Settings,
    lanes: &[LanePlan],
    pass: Pass,
) -> Result<(LocalTarget, super::log::Log), Error> {
    let mut sources: Vec<(usize, RecordedSource)> = Vec::new();
    for tree in lanes.iter().flat_map(|lane| &lane.trees) {
        let source = RecordedSource {
            label: tree.label.as_os_str().as_bytes().to_vec(),
            landing: tree.landing.clone(),
        };
        sources.push((tree.index, source));
    }
    sources.sort_by_key(|(index, _)| *index);
    let sources: Vec<RecordedSource> = sources.into_iter().map(|(_, source)| source).collect();
    opening.open(job, place.make()?, settings, &sources, pass)
}

/// Ends a pass that a failed sync ended. The journal is on the same file system: whether it is
/// whole shows only when it is synced by itself.
fn give_up(target: &LocalTarget, log: &super::log::Log) -> Result<(), Error> {
    // The witness hears of the failure that there was: that is known, and no news.
    drop(target.close(true));
    log.end(false, crate::exit::Exit::Failure.code())
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
