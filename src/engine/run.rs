//! The threads of a run: for each lane a feeder and the lane itself, then the writers, the
//! committer and the finisher that all lanes share. Each ends when everything before it has.
//!
//! Feeders and lanes own what they need, so that one that a drive never lets go can be left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::commit::{BATCH_FILES, Commit, Committer};
use super::context::Context;
use super::feed::{Feed, LaneWaker};
use super::finisher::finish_dirs;
use super::job::IoChoice;
use super::lane::{Depth, Lane, Left, Outlets, Parts, first_blocks};
use super::ledger::Ledger;
use super::telemetry::{LaneCounters, LaneState, LaneView, Telemetry};
use super::vitals::Vitals;
use super::watch::{Charge, Ended, Watch};
use super::writers::{Writer, Writers};
use crate::buffer::{Arena, Credits};
use crate::error::{Error, ErrorKind, Side};
use crate::io::Backend;
use crate::io::probe::{self, Chosen};
use crate::scan::Finished;

/// Writer threads: enough to keep several directories going, few enough to stay small.
const WRITERS: usize = 4;
/// Stack of the threads that come in numbers.
const STACK: usize = 1 << 20;
/// Batches of entries between a feeder and its lane.
const BATCHES: usize = 1;
/// Requests a lane may have in flight.
const REQUESTS: usize = 128;

/// Fills a lane: scans its sources, or reads a manifest.
pub(crate) type Filler = Box<dyn FnOnce(&mut Feed<'_>) + Send>;

/// One lane as the run needs it.
pub(crate) struct LaneSetup {
    /// Its number, which what becomes of its drive is booked under. Its counters are those at the
    /// place of this setup among all.
    pub(crate) lane: usize,
    pub(crate) rotational: Option<bool>,
    /// Whether writes may come from registered buffers.
    pub(crate) registered_writes: bool,
    /// Whether a ring may read its files; see [`FsType::reads_by_ring`](crate::target::FsType).
    pub(crate) reads_by_ring: bool,
    pub(crate) filler: Filler,
}

/// Settings of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSettings {
    pub(crate) chosen: Chosen,
    pub(crate) choice: IoChoice,
    pub(crate) slots_per_lane: usize,
    /// How long a drive may be silent; `None` for ever.
    pub(crate) stall: Option<Duration>,
    /// Whether a lost drive may come back: then whoever called tells of it in the end.
    pub(crate) may_return: bool,
    /// Whether sources are held open to be read again.
    pub(crate) may_be_read_again: bool,
    /// How often drives came back before: what is left behind of a lane shares no stage with it.
    pub(crate) round: u32,
}

/// What a lane can tell afterwards.
#[derive(Debug, Default)]
pub(crate) struct LaneEnd {
    /// The backend it used.
    pub(crate) io: String,
    /// Buffers it was lent.
    pub(crate) buffers: usize,
    /// Why it ended early.
    pub(crate) error: Option<String>,
    /// Set when its drive was lost.
    pub(crate) lost: Option<Lost>,
}

/// A drive that was lost.
#[derive(Debug)]
pub(crate) struct Lost {
    /// What that left undone.
    pub(crate) error: Error,
    /// When its lane ended.
    pub(crate) at: Instant,
}

impl Lost {
    pub(super) fn now(error: Error) -> Self {
        let at = Instant::now();
        Self { error, at }
    }
}

pub(super) fn cannot(what: &str, source: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        Side::Record,
        "threads and buffers",
        what,
    )
    .because(source)
}

fn named(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK)
}

/// Runs all lanes to their end, and returns the end of each, in their order. Those that have no
/// counters in `telemetry` are left out.
///
/// # Errors
/// When threads or buffers cannot be had; nothing was copied then.
#[expect(
    clippy::too_many_lines,
    reason = "the threads in the order they start and end; cut in two it would hide that order"
)]
pub(crate) fn run(
    context: &Arc<Context>,
    telemetry: &Arc<Telemetry>,
    lanes: Vec<LaneSetup>,
    settings: RunSettings,
    ledger: &mut dyn Ledger,
    finished: Receiver<Finished>,
) -> Result<Vec<LaneEnd>, Error> {
    let mut arena = Arena::new(settings.slots_per_lane * lanes.len())
        .map_err(|source| cannot("set the buffers aside", source))?;
    let (writers, queues) = Writers::new(WRITERS);
    let (commits, incoming) = bounded::<Commit>(BATCH_FILES);
    let wakers: Arc<Vec<LaneWaker>> =
        Arc::new(lanes.iter().map(|_| LaneWaker::default()).collect());

    // Nothing is listed, so nothing is copied, before every thread is there.
    let (gate, at_gate) = bounded::<()>(0);
    let opened = Arc::new(AtomicBool::new(false));
    // Room for all there will be: nobody waits to say that it ends.
    let (ending, ended) = bounded::<Ended>(2 * lanes.len());
    // Without a message: it is over when the other end goes, though directories are still held.
    let (left_behind, over) = bounded::<()>(0);

    std::thread::scope(|scope| {
        let start = |source| cannot("start a thread", source);
        let shared: &Context = context;
        let finisher = named("finisher".to_owned())
            .spawn_scoped(scope, move || finish_dirs(shared, &finished, &over))
            .map_err(start)?;
        let committer = named("committer".to_owned())
            .spawn_scoped(scope, || Committer::new(shared, ledger).run(&incoming))
            .map_err(start)?;
        let mut threads = Vec::new();
        for (index, queue) in queues.into_iter().enumerate() {
            let name = format!("writer-{index}");
            let mut writer = Writer::new(shared, &name, commits.clone())?;
            let thread = named(name).spawn_scoped(scope, move || writer.run(&queue));
            threads.push(thread.map_err(start)?);
        }
        let mut charges = Vec::new();
        for ((place, setup), view) in lanes.into_iter().enumerate().zip(&telemetry.lanes) {
            let credits = arena
                .lend(settings.slots_per_lane)
                .ok_or_else(|| cannot("lend buffers", std::io::ErrorKind::OutOfMemory.into()))?;
            let (batches, entries) = bounded(BATCHES);
            let ways = Outlets::new(writers.clone(), commits.clone());
            let vitals = view.counters.vitals();
            charges.push(Charge {
                lane: setup.lane,
                view: Arc::clone(view),
                vitals: Arc::clone(&vitals),
                outlets: ways.clone(),
            });
            let threads = Threads {
                context: Arc::clone(context),
                view: Arc::clone(view),
                started: telemetry.started,
                vitals,
                wakers: Arc::clone(&wakers),
                place,
                lane: setup.lane,
                ending: ending.clone(),
            };
            let (at_gate, opened) = (at_gate.clone(), Arc::clone(&opened));
            let (feeder, filler) = (threads.clone(), setup.filler);
            named(format!("scan-{}", setup.lane))
                .spawn(move || {
                    // The gate has no messages; it opens, or falls, by going away.
                    let _gone = at_gate.recv();
                    if opened.load(SeqCst) {
                        feeder.fill(batches, filler);
                    }
                    feeder.says(Ended::Scan(place));
                })
                .map_err(start)?;
            let lane = LaneJob {
                credits,
                rotational: setup.rotational,
                registered_writes: setup.registered_writes,
                reads_by_ring: setup.reads_by_ring,
                settings,
                outlets: ways,
            };
            named(format!("lane-{}", setup.lane))
                .spawn(move || threads.copy(lane, entries))
                .map_err(start)?;
        }
        opened.store(true, SeqCst);
        drop(gate);
        // The lanes hold the last ways in; each queue closes when they end.
        drop((writers, commits, ending));
        let watch = Watch {
            context: shared,
            started: telemetry.started,
            wakers: &wakers,
            charges: &charges,
            limit: settings.stall,
        };
        let outcome = watch.run(&ended);
        for thread in threads {
            joined(shared, &thread.join());
        }
        joined(shared, &committer.join());
        if let Some(links) = &shared.links {
            // Names still waiting here were left by a lane or a committer that died.
            for (lane, entry) in links.abandoned() {
                let what = "it is a hard link to a file whose copy was never finished";
                let path = entry.display_path();
                let error = Error::new(ErrorKind::SourceRead, Side::Source, path, what);
                // Of a lost drive all that was not copied is told in one line.
                let of_it = charges.iter().find(|charge| charge.lane == lane);
                let is_lost = of_it.is_some_and(|charge| charge.vitals.is_lost());
                if !shared.halted() && !is_lost {
                    shared.entry_failed(lane, &entry, &error);
                }
            }
        }
        // A thread that is left behind holds directories, and will never say that they are done.
        let all_ended = (!outcome.left_behind).then_some(left_behind);
        joined(shared, &finisher.join());
        drop(all_ended);
        for (charge, end) in charges.iter().zip(&outcome.ends) {
            if charge.view.counters.state() == LaneState::Finishing {
                charge.view.counters.set_state(LaneState::Done);
            }
            if let Some(lost) = end.lost.as_ref().filter(|_| !settings.may_return) {
                shared.outcomes.problem(charge.lane, &lost.error);
            }
        }
        Ok(outcome.ends)
    })
}

/// What the two threads of a lane have in common.
#[derive(Clone)]
struct Threads {
    context: Arc<Context>,
    view: Arc<LaneView>,
    started: Instant,
    vitals: Arc<Vitals>,
    wakers: Arc<Vec<LaneWaker>>,
    place: usize,
    lane: usize,
    ending: Sender<Ended>,
}

/// What a lane copies with.
struct LaneJob {
    credits: Credits,
    rotational: Option<bool>,
    registered_writes: bool,
    reads_by_ring: bool,
    settings: RunSettings,
    outlets: Outlets,
}

impl Threads {
    fn says(&self, ended: Ended) {
        // Whoever is gone has left this thread behind.
        drop(self.ending.send(ended));
    }

    /// Runs the scan of a drive.
    fn fill(&self, batches: Sender<Vec<crate::scan::Entry>>, filler: Filler) {
        let Some(waker) = self.wakers.get(self.place) else {
            return;
        };
        let feed = Feed {
            context: &self.context,
            lane: self.lane,
            counters: &self.view.counters,
            vitals: Arc::clone(&self.vitals),
            batches,
            waker,
        };
        fill(feed, filler);
    }

    /// Runs a lane to its end, and does not return as long as the drive has requests of this thread.
    fn copy(self, job: LaneJob, entries: Receiver<Vec<crate::scan::Entry>>) {
        let Some(waker) = self.wakers.get(self.place) else {
            return;
        };
        let thread = LaneThread {
            context: &self.context,
            number: self.lane,
            counters: &self.view.counters,
            vitals: &self.vitals,
            waker,
            job,
        };
        let (end, hangs) = thread.run(self.started, entries);
        self.says(Ended::Lane(self.place, end));
        if hangs {
            loop {
                std::thread::park();
            }
        }
    }
}

/// A shared thread that panicked may have dropped work: the run must not look whole.
fn joined(context: &Context, end: &std::thread::Result<()>) {
    if end.is_err() {
        report_panic(context, None, "a thread shared by all drives");
    }
}

fn fill(mut feed: Feed<'_>, filler: Filler) {
    let (context, lane) = (feed.context, feed.lane);
    if catch_unwind(AssertUnwindSafe(|| filler(&mut feed))).is_err() {
        report_panic(context, Some(lane), "the scan of this drive");
    }
}

fn report_panic(context: &Context, lane: Option<usize>, what: &str) {
    let name = lane.map_or("all lanes".to_owned(), |lane| format!("lane {lane}"));
    let what = format!("{what} hit a bug in inhaul and ended; what it had not copied is missing");
    let error = Error::new(ErrorKind::Panic, Side::Source, name, &what);
    match lane {
        Some(lane) => context.outcomes.problem(lane, &error),
        None => context.outcomes.problem_of_run(&error),
    }
}

struct LaneThread<'r> {
    context: &'r Context,
    number: usize,
    counters: &'r LaneCounters,
    vitals: &'r Arc<Vitals>,
    waker: &'r LaneWaker,
    job: LaneJob,
}

impl LaneThread<'_> {
    /// Returns how the lane ended, and whether the drive still has requests of this thread.
    fn run(self, started: Instant, entries: Receiver<Vec<crate::scan::Entry>>) -> (LaneEnd, bool) {
        let (context, number, counters) = (self.context, self.number, self.counters);
        counters.set_state(LaneState::Running);
        let mut end = LaneEnd::default();
        let mut hangs = false;
        let ran = catch_unwind(AssertUnwindSafe(|| self.copy(entries, &mut end)));
        match ran {
            Ok(Ok(left)) => {
                hangs = left.hangs;
                counters.set_ended(started.elapsed());
                let state = if left.is_lost {
                    LaneState::Failed
                } else {
                    LaneState::Finishing
                };
                counters.set_state(state);
                end.lost = left.unattempted.map(Lost::now);
            }
            Ok(Err(error)) => {
                end.error = Some(error.reason());
                context.outcomes.problem(number, &error);
                counters.set_state(LaneState::Failed);
            }
            Err(_) => {
                end.error = Some("a bug in inhaul ended it".to_owned());
                report_panic(context, Some(number), "this drive's lane");
                counters.set_state(LaneState::Failed);
            }
        }
        (end, hangs)
    }

    fn copy(
        self,
        entries: Receiver<Vec<crate::scan::Entry>>,
        end: &mut LaneEnd,
    ) -> Result<Left, Error> {
        let slots = self.job.credits.total();
        end.buffers = slots;
        let (blocks, small) = if self.job.rotational == Some(true) {
            (4, 16)
        } else {
            (8, 32)
        };
        let blocks = blocks.min(slots * 2 / 3).max(2);
        let depth = Depth {
            first: first_blocks(self.counters.known(), blocks),
            blocks,
            small,
        };
        let backend = self.backend(depth)?;
        backend.name().clone_into(&mut end.io);
        let name = match self.job.settings.round {
            0 => format!("lane-{}", self.number),
            round => format!("lane-{}-{round}", self.number),
        };
        let stager = self.context.target.stager(&name)?;
        let lane = Lane::new(Parts {
            context: self.context,
            number: self.number,
            counters: self.counters,
            vitals: Arc::clone(self.vitals),
            entries,
            outlets: self.job.outlets,
            stager,
            depth,
            backend,
            credits: self.job.credits,
        });
        self.waker.set(lane.waker());
        lane.run()
    }

    /// Opens this lane's backend; under `auto`, a ring that cannot be had becomes blocking calls.
    fn backend(&self, depth: Depth) -> Result<Box<dyn Backend>, Error> {
        // The kernel makes its workers when it needs them: as many as there may be reads, and some,
        // so that reads that hang do not keep a write from running.
        let threads = |chosen| match chosen {
            Chosen::Uring => depth.blocks + depth.small + 4,
            // Half as many more are there for the target.
            Chosen::Blocking => depth.blocks + 2,
        };
        let LaneJob {
            credits,
            registered_writes,
            settings,
            ..
        } = &self.job;
        let fixed = *registered_writes;
        if !self.job.reads_by_ring {
            return probe::open(
                Chosen::Blocking,
                REQUESTS,
                threads(Chosen::Blocking),
                Some(credits),
                false,
            );
        }
        let open = |chosen| probe::open(chosen, REQUESTS, threads(chosen), Some(credits), fixed);
        match open(settings.chosen) {
            Err(error) if settings.choice == IoChoice::Auto && settings.chosen == Chosen::Uring => {
                let line = format!(
                    "lane {}: no ring ({}); using blocking calls",
                    self.number,
                    error.reason()
                );
                self.context.session.observer.note(&line);
                open(Chosen::Blocking)
            }
            answer => answer,
        }
    }
}

const _: () = assert!(
    REQUESTS >= crate::plan::LANE_SLOTS_MAX * 2 + 32,
    "room for every read, every write and the small reads of a lane"
);
