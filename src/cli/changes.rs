//! What of a job may be otherwise when it is gone on with.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::job::{CopyJob, IoChoice, Verify};

/// What of a job may change while it is gone on with: nothing that decides what is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Further targets, beside those it was begun with.
    pub spill: Vec<PathBuf>,
    /// What is read again.
    pub verify: Option<Verify>,
    /// Whether what can be read of a file with bad spots is kept, if it was not to be so far.
    pub salvage: bool,
    /// Which backend.
    pub io: Option<IoChoice>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Bytes a second, or no limit.
    pub bwlimit: Option<Option<u64>>,
    /// How long a drive may be silent, or for ever.
    pub stall: Option<Option<Duration>>,
    /// How long a lost drive is waited for, or not at all.
    pub grace: Option<Option<Duration>>,
    /// Whether what drives gave when they were measured is left aside.
    pub no_history: bool,
}

impl Changes {
    /// Makes them to a job.
    pub fn apply(&self, job: &mut CopyJob) {
        job.verify = self.verify.unwrap_or(job.verify);
        job.spill.extend(self.spill.iter().cloned());
        job.salvage |= self.salvage;
        let engine = &mut job.engine;
        engine.io = self.io.unwrap_or(engine.io);
        engine.memory = self.memory.unwrap_or(engine.memory);
        engine.bwlimit = self.bwlimit.unwrap_or(engine.bwlimit);
        engine.stall = self.stall.unwrap_or(engine.stall);
        engine.grace = self.grace.unwrap_or(engine.grace);
        engine.history &= !self.no_history;
    }
}
