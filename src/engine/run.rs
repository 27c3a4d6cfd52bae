//! The threads of a run: for each lane a feeder and the lane itself, then the writers, the
//! committer and the finisher that all lanes share. Each ends when everything before it has.
//!
//! The lane of a drive that comes back while others are read begins anew beside them: its writers and
//! its committer are theirs, so that each sync is asked for, and its answer heard, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};

use super::commit::{BATCH_FILES, Commit, Committer};
use super::context::Context;
use super::feed::Feed;
use super::finisher::{Drives, finish_dirs};
use super::job::{EngineSettings, IoChoice};
use super::ledger::Ledger;
use super::telemetry::{LaneState, Telemetry};
use super::threads::{Starter, named, report_panic};
use super::watch::{Again, Ended, Revive, Watch};
use super::writers::{Writer, Writers};
use crate::buffer::Arena;
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::Chosen;
use crate::scan::Finished;

/// Writer threads: enough to keep several directories going, few enough to stay small.
const WRITERS: usize = 4;

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

impl RunSettings {
    /// Returns those of a run whose drives do not come back, and are read once.
    pub(crate) fn new(chosen: Chosen, engine: &EngineSettings, slots_per_lane: usize) -> Self {
        Self {
            chosen,
            choice: engine.io,
            slots_per_lane,
            stall: engine.stall,
            may_return: false,
            may_be_read_again: false,
            round: 0,
        }
    }
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

/// Runs all lanes to their end, and returns the end of each, in their order. Those that have no
/// counters in `telemetry` are left out. While some run, `revive` is asked for drives that were lost
/// and are back.
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
    revive: Option<&mut dyn Revive>,
) -> Result<Vec<LaneEnd>, Error> {
    let mut arena = Arena::new(settings.slots_per_lane * lanes.len())
        .map_err(|source| cannot("set the buffers aside", source))?;
    let (writers, queues) = Writers::new(WRITERS);
    let (commits, incoming) = bounded::<Commit>(BATCH_FILES);
    let drives = Drives::of(telemetry, &lanes);

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
        let of_first = over.clone();
        let finisher = named("finisher".to_owned())
            .spawn_scoped(scope, move || {
                finish_dirs(shared, &finished, &of_first, &drives);
            })
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
        let starter = Starter {
            started: telemetry.started,
            settings,
            writers,
            commits,
            ending,
            at_gate,
            opened: Arc::clone(&opened),
        };
        let mut charges = Vec::new();
        for ((place, setup), view) in lanes.into_iter().enumerate().zip(&telemetry.lanes) {
            let credits = arena
                .lend(settings.slots_per_lane)
                .ok_or_else(|| cannot("lend buffers", std::io::ErrorKind::OutOfMemory.into()))?;
            let round = settings.round;
            charges.push(starter.start(place, context, view, setup, credits, round)?);
        }
        opened.store(true, SeqCst);
        drop(gate);
        let watch = Watch {
            context: shared,
            started: telemetry.started,
            charges,
            limit: settings.stall,
            again: revive.map(|revive| Again {
                revive,
                starter: &starter,
                over: &over,
                finishers: Vec::new(),
            }),
        };
        let outcome = watch.run(&ended);
        // The lanes held the other ways in; each queue closes now.
        drop(starter);
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
                let of_it = outcome.charges.iter().find(|charge| charge.lane == lane);
                let is_lost = of_it.is_some_and(|charge| charge.vitals.is_lost());
                if !shared.halted() && !is_lost {
                    shared.entry_failed(lane, &entry, &error);
                }
            }
        }
        // A thread that is left behind holds directories, and will never say that they are done.
        let all_ended = (!outcome.left_behind).then_some(left_behind);
        joined(shared, &finisher.join());
        for finisher in outcome.finishers {
            joined(shared, &finisher.join());
        }
        drop(all_ended);
        for (charge, end) in outcome.charges.iter().zip(&outcome.ends) {
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

/// A shared thread that panicked may have dropped work: the run must not look whole.
fn joined(context: &Context, end: &std::thread::Result<()>) {
    if end.is_err() {
        report_panic(context, None, "a thread shared by all drives");
    }
}
