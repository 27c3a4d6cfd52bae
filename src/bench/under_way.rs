//! One sample of the load generator while it runs: what is asked for, and what came.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl};

use super::sample::{Load, Sample, Ties};
use super::silence::{Silence, stalled};
use crate::engine::Behind;
use crate::error::{Error, Side};
use crate::io::resume::Transfer;
use crate::io::{Op, Request};

/// A sample goes on until so many requests are counted, or for [`LONGEST`] times its time.
pub(super) const COUNTED_MIN: u64 = 8;
const LONGEST: u32 = 10;

/// What was asked for and is not over.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) progress: Transfer,
    pub(super) since: Instant,
    pub(super) len: usize,
    pub(super) path: Arc<PathBuf>,
    pub(super) side: Side,
}

/// One sample while it runs.
pub(super) struct Run<'r> {
    pub(super) load: &'r Load,
    pub(super) ties: &'r Ties,
    pub(super) begun: Instant,
    pub(super) clock: Option<Instant>,
    pub(super) last: Instant,
    pub(super) sample: Sample,
    pub(super) pending: HashMap<u64, Pending>,
    pub(super) backlog: Vec<Request>,
    /// How many were asked for that take a place in the queue.
    pub(super) issued: u64,
    /// Bytes of the sink that are spoken for, and those with a write under way or done.
    pub(super) sunk: u64,
    pub(super) written: u64,
    behind: Behind,
    /// How many of `pending` start write-back: they take no place in the queue, and no memory.
    write_backs: usize,
    /// Whether what is written goes through the page cache, once that is known.
    is_cached: Option<bool>,
}

impl<'r> Run<'r> {
    pub(super) fn new(load: &'r Load, ties: &'r Ties) -> Self {
        let begun = Instant::now();
        Self {
            load,
            ties,
            begun,
            clock: load.is_synced().then_some(begun),
            last: begun,
            sample: Sample::default(),
            pending: HashMap::new(),
            backlog: Vec::new(),
            issued: 0,
            sunk: 0,
            written: 0,
            behind: Behind::default(),
            write_backs: 0,
            is_cached: None,
        }
    }

    /// Returns how many places of the queue are taken.
    pub(super) fn queued(&self) -> usize {
        self.pending.len() - self.write_backs
    }

    /// Notes what is asked for.
    pub(super) fn asks(&mut self, file: &OwnedFd, op: &Op) {
        match op {
            Op::Write { .. } => {
                let direct = || fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT));
                self.is_cached.get_or_insert_with(|| !direct());
            }
            Op::WriteBack { .. } => self.write_backs += 1,
            Op::Read { .. } | Op::Sync => {}
        }
    }

    /// Adds bytes that were written to a file. Returns what a copy would ask for now, to keep pages
    /// from piling up: only where they do.
    pub(super) fn wrote(&mut self, file: &OwnedFd, bytes: usize) -> Option<Op> {
        let is_cached = self.is_cached == Some(true);
        is_cached.then(|| self.behind.add(file, bytes as u64))?
    }

    /// Notes that a start of write-back is over. It may have waited for the medium, and its time
    /// counts as that of a sync does.
    pub(super) fn write_back_ended(&mut self, batch: Instant) {
        self.write_backs -= 1;
        self.last = batch;
    }

    /// Returns whether all that is asked for is asked of a target that may have to bring much to its
    /// medium before it answers.
    pub(super) fn waits_for_medium(&self) -> bool {
        let of_target = self.pending.values().all(|it| it.side == Side::Target);
        self.is_cached == Some(true) && !self.pending.is_empty() && of_target
    }

    /// Returns that the drive does not answer: the one that was asked first.
    pub(super) fn stalled(&self, silence: &Silence) -> Error {
        let oldest = self.pending.values().min_by_key(|pending| pending.since);
        let asked = oldest.map(|pending| (pending.side, Arc::clone(&pending.path)));
        let (side, path) = asked.unwrap_or((Side::Source, Arc::default()));
        stalled(side, &path, silence, self.ties)
    }

    pub(super) fn is_over(&self) -> bool {
        let spent = self.begun.elapsed();
        let meant = self.load.warm + self.load.time;
        self.ties.stopped()
            || self.load.is_cut()
            || spent >= meant && self.sample.latency.count() >= COUNTED_MIN
            || spent >= meant * LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Way;
    use std::time::Duration;

    #[test]
    fn a_target_with_much_in_memory_may_take_longer_to_answer() {
        let load = Load {
            block: 4096,
            depth: 1,
            warm: Duration::ZERO,
            time: Duration::ZERO,
            way: Way::Write(Arc::from([])),
        };
        let ties = Ties {
            stall: Some(Duration::from_secs(30)),
            ..Ties::default()
        };
        let ties = ties.writing(1 << 30);
        assert_eq!(ties.sync_limit(), Some(Duration::from_secs(244)));
        let mut run = Run::new(&load, &ties);
        let ask = |run: &mut Run<'_>, side: Side| {
            let pending = Pending {
                progress: Transfer::new(&Op::Sync),
                since: Instant::now(),
                len: 0,
                path: Arc::default(),
                side,
            };
            run.pending.insert(run.pending.len() as u64, pending);
        };
        ask(&mut run, Side::Target);
        assert!(!run.waits_for_medium(), "nothing is in memory");
        run.is_cached = Some(true);
        assert!(run.waits_for_medium());
        ask(&mut run, Side::Source);
        assert!(!run.waits_for_medium(), "a source has no such excuse");
        run.pending.clear();
        assert!(!run.waits_for_medium());
    }
}
