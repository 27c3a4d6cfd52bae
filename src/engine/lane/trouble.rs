//! A large file some of whose blocks could not be read: which are still to be read, which are to be
//! looked at closer, what is bad for good. No I/O.

use std::collections::BTreeSet;
use std::ops::Range;

use rustix::io::Errno;

use super::search::{RETRIES, Ranges, Sweep};
use crate::digest::BLOCK_LEN;
use crate::engine::report::Unreadable;
use crate::error::{Error, ErrorKind, Side};
use crate::scan::Entry;

/// Blocks that are read ahead of one that is bad, before that one is looked at closer: the values of
/// all of them wait in memory, 48 bytes each.
const AHEAD_MAX: u64 = 16 << 10;
/// Most bad ranges that are told apart in a file: they take 1 MiB of memory. Beyond that, what lies
/// between two that are close counts as bad, too.
const RANGES_MAX: usize = 64 << 10;
/// Ranges named in a message; the map has them all.
const NAMED_MAX: usize = 3;

/// What is known of such a file.
#[derive(Debug)]
pub(super) struct Trouble {
    sweep: Sweep,
    /// Blocks that could not be read in one piece.
    failed: BTreeSet<u64>,
    bad: Ranges,
    errno: Errno,
}

impl Trouble {
    /// Returns the state of a file of which these blocks are still to be read.
    pub(super) fn new(blocks: Range<u64>) -> Self {
        Self {
            sweep: Sweep::new(blocks),
            failed: BTreeSet::new(),
            bad: Ranges::default(),
            errno: Errno::IO,
        }
    }

    /// Returns the next block to be read whole, when the blocks before `prefix` are hashed.
    pub(super) fn next(&self, prefix: u64) -> Option<u64> {
        self.sweep.next(prefix.saturating_add(AHEAD_MAX))
    }

    /// Notes that this block, which was the next, is being read.
    pub(super) fn issued(&mut self, index: u64) {
        self.sweep.issued(index);
    }

    /// Says what became of reading a block in one piece.
    pub(super) fn settle(&mut self, index: u64, result: Result<(), Errno>) {
        self.sweep.settle(index, result.is_ok());
        if let Err(errno) = result {
            self.errno = errno;
            self.failed.insert(index);
        }
    }

    /// Returns the first block that is to be looked at closer.
    pub(super) fn first_failed(&self) -> Option<u64> {
        self.failed.first().copied()
    }

    /// Takes what was found of a block that was looked at closer.
    pub(super) fn found(&mut self, index: u64, bad: &Ranges) {
        self.failed.remove(&index);
        self.bad.merge(bad);
        self.bad.limit(RANGES_MAX);
    }

    /// Returns whether every block is read, or known to be bad.
    pub(super) fn is_settled(&self) -> bool {
        self.sweep.is_over() && self.failed.is_empty()
    }

    /// Returns what cannot be read.
    pub(super) fn bad(&self) -> &Ranges {
        &self.bad
    }

    /// Returns the block from which on nothing may be recorded as copied: the first that is bad.
    pub(super) fn sound_blocks(&self) -> u64 {
        let first = self.bad.as_slice().first();
        first.map_or(u64::MAX, |range| range.start / BLOCK_LEN)
    }

    /// Returns why a file is not copied, and exactly what of it cannot be read.
    pub(super) fn error(&self, entry: &Entry, size: u64) -> Error {
        let ranges = self.bad.as_slice();
        let mut named: Vec<String> = ranges
            .iter()
            .take(NAMED_MAX)
            .map(|range| format!("{} to {}", range.start, range.end))
            .collect();
        if ranges.len() > NAMED_MAX {
            named.push(format!("and {} more", ranges.len() - NAMED_MAX));
        }
        let what = format!(
            "read: {} of {size} bytes cannot be read, each tried {} times by itself: {}",
            self.bad.bytes(),
            RETRIES + 1,
            named.join(", ")
        );
        let path = entry.display_path();
        Error::new(ErrorKind::SourceRead, Side::Source, path, &what).because(self.errno)
    }

    /// Returns the ranges as they are reported.
    pub(super) fn unreadable(&self) -> Unreadable {
        Unreadable::of(self.bad.bytes(), self.bad.as_slice())
    }
}
