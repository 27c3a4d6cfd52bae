//! The two threads of a lane: its feeder, and the lane itself. They own what they need, so that one
//! that a drive never lets go can be left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Builder;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::commit::Commit;
use super::context::Context;
use super::feed::{Feed, LaneWaker};
use super::job::IoChoice;
use super::lane::{Depth, Lane, Left, Outlets, Parts, first_blocks};
use super::run::{Filler, LaneEnd, LaneSetup, Lost, RunSettings, cannot};
use super::telemetry::{LaneCounters, LaneState, LaneView};
use super::vitals::Vitals;
use super::watch::{Charge, Ended};
use super::writers::Writers;
use crate::buffer::Credits;
use crate::error::{Error, ErrorKind, Side};
use crate::io::Backend;
use crate::io::probe::{self, Chosen};

/// Stack of the threads that come in numbers.
const STACK: usize = 1 << 20;
/// Batches of entries between a feeder and its lane.
const BATCHES: usize = 1;
/// Requests a lane may have in flight.
const REQUESTS: usize = 128;

pub(super) fn named(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK)
}

/// What every lane of a run is started with.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) started: Instant,
    pub(super) settings: RunSettings,
    pub(super) writers: Writers,
    pub(super) commits: Sender<Commit>,
    pub(super) ending: Sender<Ended>,
    /// Nothing is listed before this has lost its other end; it has no messages.
    pub(super) at_gate: Receiver<()>,
    /// Whether it was opened then, and did not fall.
    pub(super) opened: Arc<AtomicBool>,
}

impl Starter {
    /// Starts the threads of the lane at `place`, which waits at the gate. `round` tells how often
    /// drives came back before.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        &self,
        place: usize,
        context: &Arc<Context>,
        view: &Arc<LaneView>,
        setup: LaneSetup,
        credits: Credits,
        round: u32,
    ) -> Result<Charge, Error> {
        let start = |source| cannot("start a thread", source);
        let (batches, entries) = bounded(BATCHES);
        let outlets = Outlets::new(self.writers.clone(), self.commits.clone());
        let vitals = view.counters.vitals();
        let waker = Arc::new(LaneWaker::default());
        let charge = Charge {
            lane: setup.lane,
            view: Arc::clone(view),
            vitals: Arc::clone(&vitals),
            outlets: outlets.clone(),
            waker: Arc::clone(&waker),
            credits: credits.clone(),
        };
        let threads = Threads {
            context: Arc::clone(context),
            view: Arc::clone(view),
            started: self.started,
            vitals,
            waker,
            lane: setup.lane,
        };
        let (at_gate, opened) = (self.at_gate.clone(), Arc::clone(&self.opened));
        let (feeder, filler) = (threads.clone(), setup.filler);
        let says = Says::new(&self.ending, Ended::Scan(place));
        named(format!("scan-{}", setup.lane))
            .spawn(move || {
                // The gate has no messages; it opens, or falls, by going away.
                let _gone = at_gate.recv();
                if opened.load(SeqCst) {
                    feeder.fill(batches, filler);
                }
                drop(says);
            })
            .map_err(start)?;
        let lane = LaneJob {
            credits,
            rotational: setup.rotational,
            registered_writes: setup.registered_writes,
            reads_by_ring: setup.reads_by_ring,
            settings: RunSettings {
                round,
                ..self.settings
            },
            outlets,
        };
        let nothing = LaneEnd {
            error: Some(WITHOUT_A_WORD.to_owned()),
            ..LaneEnd::default()
        };
        let says = Says::new(&self.ending, Ended::Lane(place, nothing));
        named(format!("lane-{}", setup.lane))
            .spawn(move || threads.copy(place, lane, entries, says))
            .map_err(start)?;
        Ok(charge)
    }
}

/// Why a lane has ended whose thread a panic took past everything that tells of one.
pub(super) const WITHOUT_A_WORD: &str = "its thread ended without a word";

/// Says when it goes how a thread ended, whatever ended it: the run waits for that.
struct Says {
    ending: Sender<Ended>,
    ended: Option<Ended>,
}

impl Says {
    fn new(ending: &Sender<Ended>, ended: Ended) -> Self {
        Self {
            ending: ending.clone(),
            ended: Some(ended),
        }
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Whoever is gone has left this thread behind.
            drop(self.ending.send(ended));
        }
    }
}

/// What the two threads of a lane have in common.
#[derive(Clone)]
struct Threads {
    context: Arc<Context>,
    view: Arc<LaneView>,
    started: Instant,
    vitals: Arc<Vitals>,
    waker: Arc<LaneWaker>,
    lane: usize,
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
    /// Runs the scan of a drive.
    fn fill(&self, batches: Sender<Vec<crate::scan::Entry>>, filler: Filler) {
        let feed = Feed {
            context: &self.context,
            lane: self.lane,
            counters: &self.view.counters,
            vitals: Arc::clone(&self.vitals),
            batches,
            waker: &self.waker,
        };
        fill(feed, filler);
    }

    /// Runs a lane to its end, and does not return as long as the drive has requests of this thread.
    fn copy(
        self,
        place: usize,
        job: LaneJob,
        entries: Receiver<Vec<crate::scan::Entry>>,
        mut says: Says,
    ) {
        let thread = LaneThread {
            context: &self.context,
            number: self.lane,
            counters: &self.view.counters,
            vitals: &self.vitals,
            waker: &self.waker,
            job,
        };
        let (end, hangs) = thread.run(self.started, entries);
        says.ended = Some(Ended::Lane(place, end));
        drop(says);
        if hangs {
            loop {
                std::thread::park();
            }
        }
    }
}

fn fill(mut feed: Feed<'_>, filler: Filler) {
    let (context, lane) = (feed.context, feed.lane);
    if catch_unwind(AssertUnwindSafe(|| filler(&mut feed))).is_err() {
        report_panic(context, Some(lane), "the scan of this drive");
    }
}

pub(super) fn report_panic(context: &Context, lane: Option<usize>, what: &str) {
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
