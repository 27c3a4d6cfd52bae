//! One process: everything `copy` puts together, over the simulated world, on one thread.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::channel::{Receiver, bounded};

use super::backend::SimBackend;
use super::crew::{Crew, Queues};
use super::records;
use super::target::SimTarget;
use super::world::Shared;
use crate::buffer::Credits;
use crate::digest::{Hash, HashPool};
use crate::engine::context::Context;
use crate::engine::feed::{Feed, LaneWaker};
use crate::engine::lane::{Depth, Lane, Outlets, Parts};
use crate::engine::ledger::Ledger;
use crate::engine::limit::Limiter;
use crate::engine::links::LinkTable;
use crate::engine::log::Log;
use crate::engine::opening::{kept_staged, recall_links};
use crate::engine::outcomes::Outcomes;
use crate::engine::pass::Pass;
use crate::engine::session::{Session, Silent};
use crate::engine::settle::settle;
use crate::engine::telemetry::{LaneCounters, LaneView, Telemetry};
use crate::engine::writers::Writers;
use crate::error::Error;
use crate::journal::{Loaded, Writer};
use crate::scan::{Entry, Filter, Finished, Order, Tree, WalkOptions};
use crate::seam;
use crate::target::{Policy, Target};

/// Room in queues that nobody may ever wait for here: there is only one thread.
const ROOM: usize = 4096;

/// How an attempt is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) depth: Depth,
    /// Requests the backend takes.
    pub(super) capacity: usize,
    /// Blocks after which a large file is synced and recorded.
    pub(super) sync_blocks: u64,
}

/// What a process that was not killed says at its end.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it claims that everything is copied.
    pub(super) success: bool,
    /// What it complains about.
    pub(super) problems: Vec<String>,
}

impl Said {
    fn failure(error: &Error) -> Self {
        Self {
            success: false,
            problems: vec![error.to_string()],
        }
    }
}

/// Notes acknowledgements, and checks them.
#[derive(Debug)]
struct SimLedger(Shared);

impl Ledger for SimLedger {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        _existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.0.lock().acknowledge(entry, digest);
        Ok(())
    }
}

/// Runs one process to its end, as `copy` does: a sync that fails is met with a second pass. A
/// power cut unwinds.
pub(super) fn attempt(world: &Shared, credits: &Credits, setup: Setup) -> Said {
    let first = pass(world, credits, setup, Pass::First);
    let said = match first {
        Ok(None) => pass(world, credits, setup, Pass::Second),
        said => said,
    };
    match said {
        Ok(Some(said)) => said,
        Ok(None) => Said {
            success: false,
            problems: vec!["a sync failed again".to_owned()],
        },
        Err(error) => Said::failure(&error),
    }
}

/// Runs one pass; `None` when there is to be another.
fn pass(
    world: &Shared,
    credits: &Credits,
    setup: Setup,
    pass: Pass,
) -> Result<Option<Said>, Error> {
    let (source, stop, existing, salvage) = {
        let mut here = world.lock();
        here.note(format_args!("-- {pass:?} pass"));
        here.heard = here.disk.errors;
        (
            Arc::clone(&here.tree),
            Arc::clone(&here.stop),
            here.existing,
            here.salvage,
        )
    };
    let view = LaneView {
        name: "sim".to_owned(),
        sources: vec![source.dir.clone()],
        counters: LaneCounters::default(),
    };
    let telemetry = Arc::new(Telemetry::new(vec![view]));
    let session = Session {
        stop,
        observer: Arc::new(Silent),
    };
    let (target, loaded, writer) = open(world)?;
    let continues = pass == Pass::First;
    let kept = kept_staged(loaded.as_ref().filter(|_| continues));
    if !seam::bug("stage-not-swept") {
        target.sweep(&kept);
    }
    world.lock().check_stage(&kept);
    let log = Arc::new(Log::new(writer, loaded, vec![0], continues));
    let (finisher, finished) = bounded(ROOM);
    let tree = source.open(finisher);
    let links = LinkTable::default();
    recall_links(&log, std::slice::from_ref(&tree), &*target, &links)?;
    let (hash, jobs) = HashPool::unattended(8);
    let context = Context {
        session: session.clone(),
        target: Arc::clone(&target) as Arc<dyn Target>,
        outcomes: Arc::new(Outcomes::new(session, Arc::clone(&telemetry), None)),
        links: Some(Arc::new(links)),
        hash: Arc::new(hash),
        limit: Arc::new(Limiter::new(None)),
        existing,
        policy: Policy {
            setid: true,
            caps: false,
            owner: false,
        },
        special: true,
        copies: true,
        target_identity: None,
        interrupted: Arc::default(),
        lost: Arc::default(),
        around: Arc::default(),
        full: Arc::default(),
        log: Some(Arc::clone(&log)),
        examiner: None,
        folders: OnceLock::new(),
        claims: Arc::default(),
        sync_blocks: setup.sync_blocks,
        expected: None,
        evidence: None,
        may_try_again: pass == Pass::First,
        salvage,
        maps: None,
        again: Arc::default(),
    };
    let mut ledger = SimLedger(world.clone());
    let queue = Queue { jobs, finished };
    let counters = &telemetry.lanes[0].counters;
    let entries = listed(world, &context, counters, &tree);
    drop(tree);
    run(
        world,
        credits,
        setup,
        &context,
        queue,
        &mut ledger,
        counters,
        entries,
    );
    if context.tries_again() {
        drop(target.close(true));
        log.end(false, 1)?;
        return Ok(None);
    }
    end(&context, &target, &log).map(Some)
}

/// Opens the job, as `opening` does: the journal, the target, what is to be settled first.
fn open(world: &Shared) -> Result<(Arc<SimTarget>, Option<Loaded>, Writer), Error> {
    let (mut loaded, mut writer) = records::open(world)?;
    let target = Arc::new(SimTarget::open(world, loaded.is_some()));
    if let Some(earlier) = &loaded {
        let mut here = world.lock();
        here.check_journal(earlier);
        here.rot(earlier);
        drop(here);
        if settle(earlier, &*target, &mut writer, &|_| true)?.has_learnt {
            drop((loaded.take(), writer));
            (loaded, writer) = records::open(world)?;
        }
    }
    if let Some(earlier) = &loaded {
        world.lock().check_journal(earlier);
    }
    Ok((target, loaded, writer))
}

/// Ends a run, as `copy` does: the witness, then the journal.
fn end(context: &Context, target: &SimTarget, log: &Log) -> Result<Said, Error> {
    let keep = context.halted() || !context.outcomes.kinds().is_empty();
    let closed = target.close(keep);
    let (problems, _) = context.outcomes.all_problems();
    let mut problems: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.reason))
        .collect();
    problems.extend(closed.err().map(|error| error.to_string()));
    // What a full target left undone is told of once.
    problems.extend(context.full.get().map(ToString::to_string));
    let cut_short = context.halted() || context.interrupted.load(Relaxed);
    let success = problems.is_empty() && !cut_short;
    if !log.has_failed() {
        log.end(success, u8::from(!success))?;
    }
    Ok(Said { success, problems })
}

struct Queue {
    jobs: Receiver<crate::digest::HashJob>,
    finished: Receiver<Finished>,
}

/// Lists the source, and puts what is in it in some order.
fn listed(
    world: &Shared,
    context: &Context,
    counters: &LaneCounters,
    tree: &Arc<Tree>,
) -> Receiver<Vec<Entry>> {
    let (batches, scanned) = bounded(ROOM);
    let mut feed = Feed {
        context,
        lane: 0,
        counters,
        vitals: counters.vitals(),
        batches,
        waker: &LaneWaker::default(),
    };
    let options = WalkOptions {
        filter: &Filter::default(),
        files_from: None,
        order: Order::Inode,
        window_bytes: 1 << 20,
    };
    feed.scan(std::slice::from_ref(tree), &options);
    drop(feed);
    let mut entries: Vec<Entry> = scanned.iter().flatten().collect();
    entries.sort_by_key(Entry::target_path);
    world.lock().rng.shuffle(&mut entries);
    let (batches, listed) = bounded(1);
    batches.send(entries).unwrap();
    listed
}

#[expect(
    clippy::too_many_arguments,
    reason = "what a run is made of, in one place"
)]
fn run(
    world: &Shared,
    credits: &Credits,
    setup: Setup,
    context: &Context,
    queue: Queue,
    ledger: &mut dyn Ledger,
    counters: &LaneCounters,
    entries: Receiver<Vec<Entry>>,
) {
    let (writers, mut small) = Writers::new(1);
    let (commits, incoming) = bounded(ROOM);
    let queues = Queues {
        small: small.remove(0),
        commits: incoming,
        hash: queue.jobs,
        finished: queue.finished,
    };
    let crew = Crew::new(world, context, queues, &commits, ledger);
    let crew = Arc::new(Mutex::new(crew));
    let stager = context.target.stager("lane-0").unwrap();
    let lane = Lane::new(Parts {
        context,
        number: 0,
        counters,
        vitals: counters.vitals(),
        entries,
        outlets: Outlets::new(writers, commits),
        stager,
        depth: setup.depth,
        backend: Box::new(SimBackend::new(world, &crew, setup.capacity)),
        credits: credits.clone(),
    });
    match lane.run() {
        Ok(left) => {
            if let Some(error) = left.unattempted {
                context.outcomes.problem(0, &error);
            }
        }
        Err(error) => context.outcomes.problem(0, &error),
    }
    crew.lock().unwrap_or_else(PoisonError::into_inner).drain();
    drop(crew);
    let waiting = context.links.as_ref().map(|links| links.abandoned());
    if waiting.is_some_and(|waiting| !waiting.is_empty()) && !context.halted() {
        let what = "names still wait for a first name at the end".to_owned();
        world.lock().violated(what);
    }
}
