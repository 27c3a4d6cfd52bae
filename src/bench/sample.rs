//! How a drive is loaded for one sample, and what that gave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::cursor::Extent;
use super::histogram::Histogram;
use super::silence::sync_limit;
use crate::buffer::View;
use crate::digest::{FileDigest, Hash, HashPool, block_value};
use crate::io::Op;

/// Bytes at the head of each block that are looked at for zeros.
const LOOKED_AT: usize = 4096;

/// Which way bytes go.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// From the file.
    Read,
    /// To the file: these bytes in turn, in [`part`]s.
    Write(Arc<[View]>),
    /// From the file into another, as a copy does it: each block is written from the buffer it was
    /// read into, and hashed from it meanwhile.
    Copy(Sink),
}

/// Where a copy of a bench goes.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    /// Written from its beginning; the sample ends where it does.
    pub(crate) into: Extent,
    /// Set when another source of the same moment has ended: then this one ends, too.
    pub(crate) over: Arc<AtomicBool>,
    /// Who hashes; nobody when it is to be seen what a copy without a hash would do.
    pub(crate) pool: Option<Arc<HashPool>>,
}

/// Hashes as a copy does, and keeps nothing.
#[derive(Debug)]
pub(crate) struct Discard;

impl FileDigest for Discard {
    fn absorb(&self, index: u64, bytes: &[u8]) {
        std::hint::black_box(block_value(index, bytes));
    }

    fn finish(&self, _: u64) -> Option<Hash> {
        None
    }
}

/// How to load a drive.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Bytes of one request: a multiple of `ALIGN`, at most `SLOT_LEN`.
    pub(crate) block: usize,
    /// Requests at once; at least 1.
    pub(crate) depth: usize,
    /// Not counted.
    pub(crate) warm: Duration,
    /// Counted.
    pub(crate) time: Duration,
    pub(crate) way: Way,
}

impl Load {
    /// Returns whether it is to end because another one has.
    pub(crate) fn is_cut(&self) -> bool {
        match &self.way {
            Way::Copy(sink) => sink.over.load(Relaxed),
            Way::Read | Way::Write(_) => false,
        }
    }

    /// Returns whether a sync follows, which makes durable all that it wrote.
    pub(crate) fn is_synced(&self) -> bool {
        !matches!(self.way, Way::Read)
    }
}

/// What a sample gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Bytes counted.
    pub(crate) bytes: u64,
    /// Seconds in which they came.
    pub(crate) seconds: f64,
    /// Seconds of a processor that this process took meanwhile, in all its threads.
    pub(crate) cpu: f64,
    /// Of the requests counted.
    pub(crate) latency: Histogram,
    /// Requests counted that gave nothing but zeros where they were looked at.
    pub(crate) zeros: u64,
}

impl Sample {
    /// Returns bytes a second; `None` when too little came to tell.
    pub(crate) fn rate(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
        let bytes = self.bytes as f64;
        (self.seconds > 0.0 && self.bytes > 0).then(|| bytes / self.seconds)
    }
}

/// Whose turn it is of `count` that come one after the other.
fn turn(number: u64, count: usize) -> usize {
    usize::try_from(number % count.max(1) as u64).unwrap_or(0)
}

/// Returns the bytes to write by the request of this number, `block` of them: other ones each time,
/// until all are used up. A compressor finds no two alike within its reach.
pub(crate) fn part(views: &[View], number: u64, block: usize) -> Option<View> {
    let view = views.get(turn(number, views.len()))?;
    let block = block.clamp(1, view.len().max(1));
    let round = number / views.len() as u64;
    let start = turn(round, view.len() / block) * block;
    Some(view.slice(start..(start + block).min(view.len())))
}

pub(crate) fn is_zeros(op: &Op) -> bool {
    match op {
        Op::Read { lease, .. } => {
            let head = lease.as_slice();
            let head = head.get(..LOOKED_AT).unwrap_or(head);
            head.iter().all(|&byte| byte == 0)
        }
        _ => false,
    }
}

/// What a sample shares with others: when to stop, how long a drive may be silent, and a counter for
/// the live display.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ties {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) bytes: Arc<AtomicU64>,
    /// How long a drive may say nothing; `None` for ever.
    pub(crate) stall: Option<Duration>,
    /// Answers of the one drive that these ties are about; see [`Ties::own`].
    pub(crate) beats: Arc<AtomicU64>,
    /// Bytes that all who write to the target at this moment may leave in memory: it makes them durable
    /// at one time.
    pub(crate) unsynced: u64,
    /// Whether any drive was left because it did not answer.
    pub(crate) silent: Arc<AtomicBool>,
}

impl Ties {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Returns the same ties with a count of answers of their own.
    pub(crate) fn own(&self) -> Self {
        Self {
            beats: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns the same ties of a moment in which so many bytes are written.
    pub(crate) fn writing(&self, bytes: u64) -> Self {
        Self {
            unsynced: bytes,
            ..self.clone()
        }
    }

    /// Returns how long the target may be silent then.
    pub(crate) fn sync_limit(&self) -> Option<Duration> {
        sync_limit(self.stall, self.unsynced)
    }

    /// Notes that the drive answered.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
    }
}
