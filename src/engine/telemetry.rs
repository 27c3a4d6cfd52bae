//! Counters the engine keeps and the display reads. Written with relaxed atomics, never waited on.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::job::KnownDrive;
use super::vitals::Vitals;

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// Not started yet.
    Waiting,
    /// Listing directories and copying.
    Running,
    /// Everything is read and written; some of it is still being made durable.
    Finishing,
    /// Nothing is left to do.
    Done,
    /// The lane ended early.
    Failed,
}

impl LaneState {
    /// Returns the word shown to people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// How a drive fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known against it.
    Ok,
    /// It failed to read something, or was silent for a while. It is gone on with.
    Suspect,
    /// It does not answer. Nobody but its own lane waits for it.
    Quarantined,
    /// It went away, or answers nothing but errors. Nothing more is asked of it.
    Gone,
}

impl Health {
    /// Returns the word shown to people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspect => "suspect",
            Self::Quarantined => "quarantined",
            Self::Gone => "gone",
        }
    }
}

/// What a lane waited for, while it had nothing it could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Reads from the drive.
    Source,
    /// Hash workers.
    Hash,
    /// Writes to the target.
    Target,
    /// The rate limit the user set.
    Limit,
}

/// The counters of one lane.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Regular files found by the scan so far.
    pub files_found: AtomicU64,
    /// Their bytes.
    pub bytes_found: AtomicU64,
    /// Whether the scan has ended, so that the two above are totals.
    pub scan_ended: AtomicBool,
    /// Bytes expected before the scan has ended; 0 when there is no estimate.
    pub bytes_expected: AtomicU64,
    /// Files expected before the scan has ended; 0 when there is no estimate.
    pub files_expected: AtomicU64,
    /// Bytes moved off the drive (holes count as moved).
    pub bytes_read: AtomicU64,
    /// Bytes among them that came from the drive: all but holes.
    pub bytes_came: AtomicU64,
    /// Bytes of files that are durable under their final names.
    pub bytes_done: AtomicU64,
    /// Files that are durable under their final names.
    pub files_done: AtomicU64,
    /// Symlinks, hard links and special files that are durable.
    pub others_done: AtomicU64,
    /// The same of earlier runs, found unchanged.
    pub others_kept: AtomicU64,
    /// Directories entered.
    pub dirs: AtomicU64,
    /// Files already in the target and left alone by `--existing skip`.
    pub files_skipped: AtomicU64,
    /// Their bytes.
    pub bytes_skipped: AtomicU64,
    /// Files that an earlier run of this job copied, found unchanged on both sides.
    pub files_kept: AtomicU64,
    /// Bytes that need not be read: of those files, and of parts of large files that were durable.
    pub bytes_kept: AtomicU64,
    /// Files among those copied that an earlier run had copied, and whose source changed since.
    pub files_changed: AtomicU64,
    /// Of what is asked of a drive anew when it is put back (folders, attributes that are tried again):
    /// how many have another owner, as that could not be kept.
    pub owners_anew: AtomicU64,
    /// Of the same, set-id bits and capabilities that policy cleared.
    pub cleared_anew: AtomicU64,
    /// Files that could not be read whole, and whose rest is durable as NAME.partial.
    pub files_salvaged: AtomicU64,
    /// Things not copied, each reported with its reason.
    pub problems: AtomicU64,
    /// Bytes of files among them.
    pub bytes_failed: AtomicU64,
    vitals: Mutex<Arc<Vitals>>,
    state: AtomicU8,
    health: AtomicU8,
    waited_ns: [AtomicU64; 4],
    ended_ns: AtomicU64,
    best_rate: AtomicU64,
    known: OnceLock<KnownDrive>,
}

impl LaneCounters {
    /// Returns how the drive fares in this run's eyes. Whoever works for the lane holds on to it: after
    /// [`renew`](Self::renew) it is about a drive that is not there any more.
    pub(crate) fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins again with a drive that went away and came back: what it holds is listed anew, and what
    /// it gave stays counted.
    pub(crate) fn renew(&self) {
        let mut vitals = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        *vitals = Arc::default();
        let listed = [
            &self.files_found,
            &self.bytes_found,
            &self.dirs,
            &self.files_skipped,
            &self.bytes_skipped,
            &self.files_kept,
            &self.bytes_kept,
            &self.others_kept,
            &self.files_salvaged,
            &self.owners_anew,
            &self.cleared_anew,
            &self.ended_ns,
        ];
        for counter in listed {
            counter.store(0, Relaxed);
        }
        self.scan_ended.store(false, Relaxed);
        self.health.store(Health::Suspect as u8, Relaxed);
        self.set_state(LaneState::Waiting);
    }

    /// Returns whether nothing but so many roots was listed.
    pub(crate) fn lists_nothing(&self, roots: usize) -> bool {
        self.files_found.load(Relaxed) == 0 && self.dirs.load(Relaxed) <= roots as u64
    }

    /// Sets the state.
    pub fn set_state(&self, state: LaneState) {
        self.state.store(state as u8, Relaxed);
    }

    /// Returns the state.
    pub fn state(&self) -> LaneState {
        match self.state.load(Relaxed) {
            0 => LaneState::Waiting,
            1 => LaneState::Running,
            2 => LaneState::Finishing,
            3 => LaneState::Done,
            _ => LaneState::Failed,
        }
    }

    /// Notes how the drive fares; returns whether that is news. One that is gone stays so.
    pub fn set_health(&self, health: Health) -> bool {
        let worse = |now: u8| now != Health::Gone as u8 && now != health as u8;
        let changed = self
            .health
            .fetch_update(Relaxed, Relaxed, |now| worse(now).then_some(health as u8));
        changed.is_ok()
    }

    /// Returns how the drive fares.
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Ok,
            1 => Health::Suspect,
            2 => Health::Quarantined,
            _ => Health::Gone,
        }
    }

    /// Adds time spent waiting.
    pub fn add_waited(&self, what: Waited, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(counter) = self.waited_ns.get(what as usize) {
            counter.fetch_add(nanos, Relaxed);
        }
    }

    /// Returns the time spent waiting for `what`.
    pub fn waited(&self, what: Waited) -> Duration {
        Duration::from_nanos(
            self.waited_ns
                .get(what as usize)
                .map_or(0, |c| c.load(Relaxed)),
        )
    }

    /// Notes what the drive gave when it was measured, once, before its lane begins.
    pub fn set_known(&self, known: KnownDrive) {
        // Said once.
        let _known_already = self.known.set(known);
    }

    /// Returns what the drive gave when it was measured, where that is known.
    pub fn known(&self) -> Option<KnownDrive> {
        self.known.get().copied()
    }

    /// Notes a rate that the drive kept for a second, in bytes a second.
    pub fn note_rate(&self, rate: u64) {
        self.best_rate.fetch_max(rate, Relaxed);
    }

    /// Returns the highest rate that the drive kept for a second, in bytes a second.
    pub fn best_rate(&self) -> Option<u64> {
        Some(self.best_rate.load(Relaxed)).filter(|&rate| rate > 0)
    }

    /// Notes when the lane moved its last byte, as time since the run began.
    pub fn set_ended(&self, at: Duration) {
        self.ended_ns
            .store(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns when the lane moved its last byte, or `None` while it runs.
    pub fn ended(&self) -> Option<Duration> {
        match self.ended_ns.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// One lane as the display knows it.
#[derive(Debug)]
pub struct LaneView {
    /// Short name for one line of a display: the drive's device name, such as `sdb`.
    pub name: String,
    /// The sources it reads, as typed.
    pub sources: Vec<std::path::PathBuf>,
    /// Its counters.
    pub counters: LaneCounters,
}

/// Everything the display needs of a run.
#[derive(Debug)]
pub struct Telemetry {
    /// When the run began.
    pub started: Instant,
    /// One for each lane, in lane order.
    pub lanes: Vec<Arc<LaneView>>,
    again: Mutex<Vec<Arc<Telemetry>>>,
}

impl Telemetry {
    /// Returns fresh counters for the named lanes.
    pub fn new(lanes: Vec<LaneView>) -> Self {
        Self {
            started: Instant::now(),
            lanes: lanes.into_iter().map(Arc::new).collect(),
            again: Mutex::default(),
        }
    }

    /// Returns the same counters of some lanes alone, by their numbers.
    pub(crate) fn of(&self, lanes: &[usize]) -> Self {
        let lanes = lanes.iter().filter_map(|&lane| self.lanes.get(lane));
        Self {
            started: self.started,
            lanes: lanes.cloned().collect(),
            again: Mutex::default(),
        }
    }

    /// Adds lanes that read again what these copied: they are shown, and count for nothing.
    pub fn add_again(&self, lanes: &Arc<Self>) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.push(Arc::clone(lanes));
    }

    /// Returns the lanes that read again, in the order they came.
    pub fn again(&self) -> Vec<Arc<Self>> {
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.clone()
    }
}
