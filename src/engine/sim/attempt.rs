//! One process: everything `copy` puts together, over the simulated world, on one thread.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, bounded};

use super::backend::SimBackend;
use super::crew::{Crew, Queues};
use super::target::SimTarget;
use super::tree::SourceTree;
use super::world::Shared;
use crate::buffer::Credits;
use crate::digest::{Hash, HashPool};
use crate::engine::context::Context;
use crate::engine::feed::{Feed, LaneWaker};
use crate::engine::job::Existing;
use crate::engine::lane::{Depth, Lane, Outlets, Parts};
use crate::engine::ledger::Ledger;
use crate::engine::limit::Limiter;
use crate::engine::links::LinkTable;
use crate::engine::outcomes::Outcomes;
use crate::engine::session::{Session, Silent};
use crate::engine::telemetry::{LaneCounters, LaneView, Telemetry};
use crate::engine::writers::Writers;
use crate::error::Error;
use crate::scan::{Entry, Filter, Finished, Order, Tree, WalkOptions};
use crate::target::{Policy, Target};

/// Room in queues that nobody may ever wait for here: there is only one thread.
const ROOM: usize = 4096;

/// How an attempt is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) depth: Depth,
    /// Requests the backend takes.
    pub(super) capacity: usize,
    pub(super) existing: Existing,
}

/// What a process that was not killed says at its end.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it claims that everything is copied.
    pub(super) success: bool,
    /// What it complains about.
    pub(super) problems: Vec<String>,
}

/// Notes acknowledgements, and checks them.
#[derive(Debug)]
struct SimLedger {
    world: Shared,
    tree: Arc<SourceTree>,
}

impl Ledger for SimLedger {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        let path = entry.target_path();
        let version = &self.tree.items[&path];
        let mut world = self.world.lock();
        // What an earlier run copied is linked to without its digest.
        let is_owed = digest.is_none() && existing.is_some();
        if digest != version.digest.as_ref() && !is_owed {
            let path = String::from_utf8_lossy(&path);
            world.violated(format!("{path} is listed with a wrong digest: {digest:?}"));
        }
        world.acknowledge(&path, version);
        Ok(())
    }
}

/// Runs one process to its end; a power cut unwinds.
pub(super) fn attempt(world: &Shared, credits: &Credits, setup: Setup) -> Said {
    let source = Arc::clone(&world.lock().tree);
    let view = LaneView {
        name: "sim".to_owned(),
        sources: vec![source.dir.clone()],
        counters: LaneCounters::default(),
    };
    let telemetry = Arc::new(Telemetry::new(vec![view]));
    let session = Session {
        stop: Arc::default(),
        observer: Arc::new(Silent),
    };
    let target = Arc::new(SimTarget::open(world));
    let (hash, jobs) = HashPool::unattended(8);
    let context = Context {
        session: session.clone(),
        target: Arc::clone(&target) as Arc<dyn Target>,
        outcomes: Outcomes::new(session, Arc::clone(&telemetry), None),
        links: Some(LinkTable::default()),
        hash,
        limit: Limiter::new(None),
        existing: setup.existing,
        policy: Policy {
            setid: true,
            caps: false,
            owner: false,
        },
        special: false,
        copies: true,
        target_identity: None,
        interrupted: false.into(),
        target_lost: false.into(),
    };
    let (finisher, finished) = bounded(ROOM);
    let mut ledger = SimLedger {
        world: world.clone(),
        tree: Arc::clone(&source),
    };
    let queue = Queue { jobs, finished };
    let counters = &telemetry.lanes[0].counters;
    let entries = listed(world, &context, counters, &source.open(finisher));
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
    let closed = target.close(false);
    let (problems, count) = context.outcomes.problems();
    let mut problems: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.reason))
        .collect();
    problems.extend(closed.err().map(|error| error.to_string()));
    let cut_short = context.halted() || context.interrupted.load(Relaxed);
    Said {
        success: count == 0 && problems.is_empty() && !cut_short,
        problems,
    }
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
        entries,
        outlets: Outlets { writers, commits },
        stager,
        depth: setup.depth,
        backend: Box::new(SimBackend::new(world, &crew, setup.capacity)),
        credits: credits.clone(),
    });
    if let Err(error) = lane.run() {
        context.outcomes.problem(0, &error);
    }
    crew.lock().unwrap_or_else(PoisonError::into_inner).drain();
    drop(crew);
    let waiting = context.links.as_ref().map(LinkTable::abandoned);
    if waiting.is_some_and(|waiting| !waiting.is_empty()) && !context.halted() {
        let what = "names still wait for a first name at the end".to_owned();
        world.lock().violated(what);
    }
}
