//! One pass of a copy into one target, from sources opened to the report.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use super::context::Context;
use super::copy::{Asked, Prepared, prepare};
use super::elsewhere::{Around, look_elsewhere};
use super::forecast::Forecast;
use super::homes::Homes;
use super::job::{CopyJob, Verify};
use super::ledger::Listing;
use super::links::LinkTable;
use super::opening::{self, Opening, RecordedSource};
use super::outcomes::Outcomes;
use super::places;
use super::proof::{Judge, Proof, recorded};
use super::readback::ReadBack;
use super::report::Report;
use super::returns::{Returns, State};
use super::room::{aside, check_space, full};
use super::run::{RunSettings, cannot, run};
use super::sealing::{Sealing, seal, write_report};
use super::second_read::{SourceAgain, second_read};
use super::session::Session;
use super::setup::{ScanJob, choose, mounts, reading_context, recall, scan_lanes};
use super::spill::{self, Round};
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use super::watched::{Closing, WatchedTarget};
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};
use crate::exit::Exit;
use crate::manifest::{Maps, PROBLEMS_FILE, Sorter, Spool};
use crate::plan::{Budget, LanePlan, TargetPlace};
use crate::scan::Tree;
use crate::seam;
use crate::target::attributes::can_chown;
use crate::target::{LocalTarget, Policy, Settings, Target, fs_type};

/// Which try at a job this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Pass {
    /// The first: a sync that fails ends it, and there is another.
    First,
    /// The second: what was not acknowledged is copied again, whole, into new inodes. A sync that
    /// fails now is final.
    Second,
}

/// How a pass ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// A sync failed, and there is to be another, of the job of this name.
    Again(String),
    /// With this report, and whether the target is full.
    Over(Box<Report>, bool),
}

#[expect(
    clippy::too_many_lines,
    reason = "what a run is made of, in the order in which it begins and ends"
)]
/// Runs one pass.
pub(super) fn pass(
    asked: Asked<'_>,
    session: &Session,
    pass: Pass,
    round: &Round<'_>,
) -> Result<Ended, Error> {
    let job = asked.job;
    let (prepared, (opening, elsewhere)) = prepare(job, |place, sources, topology| {
        if let Some(spots) = round.spots {
            spots.check(round.number, place)?;
            spots.place(sources);
        }
        let opening = opening::look(asked, round, place, sources, topology, session)?;
        if let Some(spots) = round.spots {
            spots.check_sources(sources, opening.identities())?;
        }
        let elsewhere = look_elsewhere(round, &opening, sources, topology)?;
        Ok((opening, elsewhere))
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
    let places: Vec<&TargetPlace> = [&place]
        .into_iter()
        .chain(round.others.iter().map(|(_, place)| place))
        .collect();
    let refuses = round.number == 0 && !round.finishes;
    let needs = check_space(job, &lanes, &places, refuses, &budget, session)?;

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
    let all_here = opening.has_all_sources();
    // The first target is closed last: there a copy is found that was cut short.
    let is_last = round.finishes || round.number > 0 || elsewhere.is_empty();
    let whole_job = all_here && asked.left_out.is_empty() && round.completes && is_last;
    if goes_on && !all_here {
        session
            .observer
            .note("some sources of the unfinished job are not given here; it stays open for them");
    }
    let homes = Homes::of(&lanes, opening.identities());
    let left_out = asked.left_out.iter();
    let left_out = left_out.map(|it| (&it.error, it.lanes(&lanes, opening.identities())));
    let left_out: Vec<(&Error, Option<Vec<usize>>)> = left_out.collect();
    let opened = open(asked.typed, opening, place, settings, &lanes, pass);
    let (target, log, told) = opened.map_err(|error| no_room(job, error))?;
    if !round.finishes {
        target.set_aside(aside(needs.most, job, &target))?;
    }
    let (target, log) = (Arc::new(target), Arc::new(log));
    let _watched = log.vigil().keep(&job.target, job.engine.stall, session);
    let home = target.home();
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let mut telemetry = Telemetry::new(facts.iter().map(LaneFacts::view).collect());
    telemetry.started = round.began;
    let telemetry = Arc::new(telemetry);
    recall(&job.engine, session, &facts, &telemetry);
    for (view, expected) in telemetry.lanes.iter().zip(&needs.expected) {
        view.counters.bytes_expected.store(expected.bytes, Relaxed);
        view.counters.files_expected.store(expected.inodes, Relaxed);
    }
    let mounts = mounts(job, &lanes, &target);
    let finishes = round
        .finishes
        .then(|| rustix::io::fcntl_dupfd_cloexec(target.root(), 0))
        .transpose()
        .map_err(|errno| Error::target(&job.target, "open", errno))?;
    let links = LinkTable::default();
    opening::recall_links(&log, &trees_of(&lanes), &*target, &links)?;
    let spool = Spool::new(home.job_dir()?, PROBLEMS_FILE);
    let maps = Arc::new(Maps::new(home.job_dir()?)?);
    let context = Arc::new(Context {
        target: Arc::new(WatchedTarget::new(
            Arc::clone(&target) as Arc<dyn Target>,
            log.vigil(),
        )),
        outcomes: Arc::new(
            Outcomes::new(session.clone(), Arc::clone(&telemetry), Some(spool))
                .with_lanes(lanes_of_sources(&lanes))
                .with_maps(Arc::clone(&maps)),
        ),
        links: Some(Arc::new(links)),
        existing: job.existing,
        policy,
        special: job.preserve.special,
        copies: true,
        target_identity: Some(target.identity()),
        log: Some(Arc::clone(&log)),
        around: Arc::new(Around::new(elsewhere, finishes, !round.is_alone())),
        may_try_again: pass == Pass::First,
        salvage: job.salvage,
        maps: Some(maps),
        ..reading_context(session, &telemetry, &job.engine)?
    });
    let _closing = Closing {
        context: Arc::clone(&context),
        target: Arc::clone(&target),
        log: Arc::clone(&log),
    };
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
    let forecast = Forecast::start(&scan, &lanes, &telemetry);
    let setups = scan_lanes(lanes, &scan);
    let settings = RunSettings {
        may_return: true,
        may_be_read_again: reads_back,
        ..RunSettings::new(chosen, &job.engine, budget.slots_per_lane)
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
    for (error, may_be_on) in left_out {
        let may_be_on = may_be_on.as_deref();
        context.outcomes.source_left_out(error, may_be_on);
    }
    for error in &told {
        context.outcomes.unverified(error);
    }
    let mut returns = Returns {
        job,
        context: Arc::clone(&context),
        telemetry: &telemetry,
        target: &target,
        log: &log,
        facts: &facts,
        scan: &scan,
        settings,
        state: State::new(homes),
    };
    let (sender, finished) = finished;
    drop(sender);
    let ran = thread::scope(|scope| {
        let reader = read_back
            .as_ref()
            .map(|back| thread::Builder::new().spawn_scoped(scope, move || back.run(settings)));
        let reader = reader.transpose();
        let reader = reader.map_err(|source| cannot("start a thread", source))?;
        let mut ran = run(
            &context,
            &telemetry,
            setups,
            settings,
            &mut ledger,
            finished,
            Some(&mut returns),
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
    drop(forecast);
    let ends = ran.inspect_err(|_| session.observer.ended())?;
    seam::point("lanes-ended");
    if context.tries_again() {
        session.observer.ended();
        return give_up(&context, &log).map(|()| Ended::Again(home.job_name().to_owned()));
    }
    // A drive that is lost is asked nothing any more.
    let is_here = |lane: usize| {
        let counters = context.outcomes.lane(lane);
        counters.is_none_or(|counters| !counters.vitals().is_lost())
    };
    let mut again = context.take_sources();
    again.retain(|source| is_here(source.lane));
    let asking = log.vigil().ask();
    let released = target.release();
    drop(asking);
    if let Err(error) = released
        && !(context.is_full() && error.is_for_room())
    {
        context.outcomes.problem_of_run(&error);
    }
    if let Some(why) = context.full.get() {
        if round.has_next() {
            let label = job.target.display();
            let line = format!("{label} is full: what is left goes to the next target");
            session.observer.note(&line);
        } else {
            let full = full(job, &target, why, &telemetry);
            context.outcomes.of_end(&full);
        }
    }
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
        before: round.before.clone(),
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
    let is_full = context.is_full();
    if !round.is_alone() && !context.around.elsewhere.is_empty() {
        match places::write(&target, &job.target, &context.around.elsewhere, log.vigil()) {
            Ok(targets) => heading.targets = targets,
            Err(error) => context.outcomes.problem_of_run(&error),
        }
    }
    spill::count_before(&telemetry, round.before.as_ref());
    let mut report = report(heading, &context, &telemetry, &facts, &ends, asked.started);
    let told = round.told.as_ref();
    let told = told.map(|told| told.with(&report, round.whole.verify));
    let written = write_report(sealing, told.as_ref().unwrap_or(&report));
    session.observer.ended();
    match written {
        // Nothing can be written there any more, and that has been told of.
        Err(_) if context.lost.get() == Some(&ErrorKind::TargetLost) => {}
        Err(error) if is_full => {
            let line = format!("the records of this run are not complete: {error}");
            session.observer.note(&line);
            report.exit_code = Exit::Failure.code();
        }
        // A target that takes nothing any more loses its records last: say what it is.
        Err(error) => {
            context.target.look_again()?;
            return Err(error);
        }
        Ok(()) => {}
    }
    Ok(Ended::Over(Box::new(report), is_full))
}

/// Says of a job that cannot be opened for want of room what it is.
fn no_room(job: &CopyJob, error: Error) -> Error {
    if error.kind() == ErrorKind::RecordWrite && error.is_for_room() {
        let what = format!("no room for its records ({error})");
        return Error::new(ErrorKind::TargetFull, Side::Target, &job.target, &what);
    }
    error
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
    if job.verify == Verify::None {
        return Proof::default();
    }
    if context.lost.get().is_some() {
        if context.is_full() {
            // A copy that goes on in the next target must not forget it.
            let what = "it ran full, and what it has was not verified; 'inhaul verify' \
                        does that";
            let kind = ErrorKind::Unverified;
            let error = Error::new(kind, Side::Target, &job.target, what);
            context.outcomes.problem_of_run(&error);
        }
        return Proof::default();
    }
    let proved = recorded(judge.target, judge.log).and_then(|loaded| {
        let findings = read_back.map(ReadBack::findings).unwrap_or_default();
        let mut proof = judge.judge(&loaded, &findings)?;
        if job.verify == Verify::Both {
            if context.is_ending() {
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
) -> Result<(LocalTarget, super::log::Log, Vec<Error>), Error> {
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
fn give_up(context: &Context, log: &super::log::Log) -> Result<(), Error> {
    // The witness hears of the failure that there was: that is known, and no news.
    drop(context.target.close(true));
    log.end(false, Exit::Failure.code())
}
