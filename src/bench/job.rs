//! What a bench is to do, and who is told while it does it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crate::buffer::{ALIGN, SLOT_LEN};
use crate::engine::job::IoChoice;

/// Fewest samples behind a figure: with fewer, a median is no median.
pub const REPETITIONS_MIN: usize = 3;

/// Deepest queue a drive is measured with: that of the engine.
pub const DEPTH_MAX: usize = 32;

/// Largest request, and what every request is a multiple of, in bytes: those of a copy.
pub const BLOCK_MAX: usize = SLOT_LEN;
/// See [`BLOCK_MAX`].
pub const BLOCK_STEP: usize = ALIGN;

/// One bench.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchJob {
    /// Block devices, directories and files, as typed.
    pub paths: Vec<PathBuf>,
    /// A directory that the others are to be copied into: written to, and cleaned up.
    pub target: Option<PathBuf>,
    /// Whether directories are written to as well: a scratch file of its own in each.
    pub write: bool,
    /// Bytes of a scratch file.
    pub scratch_bytes: u64,
    /// Seconds each sample is counted for.
    pub seconds: f64,
    /// Samples behind each figure; at least [`REPETITIONS_MIN`].
    pub repetitions: usize,
    /// Bytes of a request; looked for when `None`. A multiple of [`BLOCK_STEP`], at
    /// most [`BLOCK_MAX`].
    pub block: Option<usize>,
    /// Requests at once; looked for when `None`. At most [`DEPTH_MAX`].
    pub depth: Option<usize>,
    /// How long a drive may say nothing before it is left; `None` for ever.
    pub stall: Option<Duration>,
    /// Whether they are measured together after each was alone.
    pub together: bool,
    /// Which backend.
    pub io: IoChoice,
    /// Memory for buffers, in bytes.
    pub memory: u64,
}

/// Is told what happens. Called from the measuring thread; must not block.
pub trait Watcher: Send + Sync + std::fmt::Debug {
    /// Measuring begins: all bytes moved are counted here.
    fn begun(&self, bytes: &Arc<AtomicU64>);
    /// A part of it begins, in a few words.
    fn part(&self, what: &str);
    /// Something worth one line.
    fn note(&self, line: &str);
    /// Measuring is over.
    fn ended(&self);
}

/// A bench's ties to whoever began it.
#[derive(Debug, Clone)]
pub struct BenchSession {
    /// Set to stop in order: the report then has what was measured so far.
    pub stop: Arc<AtomicBool>,
    /// Who is told.
    pub watcher: Arc<dyn Watcher>,
}
