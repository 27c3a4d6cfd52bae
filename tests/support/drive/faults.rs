//! What can be wrong with a drive.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A write as it arrives at the drive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    /// How many writes came before it.
    pub(crate) number: u64,
    /// Where it goes, in bytes.
    pub(crate) offset: u64,
    /// What is to be stored.
    pub(crate) data: &'a [u8],
}

/// What becomes of a write.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is stored.
    Stored,
    /// It fails with EIO; nothing is stored.
    Failed,
    /// It is acknowledged, and these parts of it come to harm.
    Harmed(Vec<Harm>),
}

/// A part of a write that is not stored as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Harm {
    /// Which bytes of the payload.
    pub(crate) part: Range<usize>,
    /// What happens to them.
    pub(crate) how: How,
}

/// What happens to a part of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// One bit of the first byte is stored wrong.
    Flipped,
    /// Never stored: the medium keeps what it had.
    Lost,
    /// Stored at this offset instead.
    Misplaced(u64),
}

/// What a drive did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Reads.
    pub(crate) reads: u64,
    /// Writes.
    pub(crate) writes: u64,
    /// Cache flushes.
    pub(crate) flushes: u64,
    /// Requests that failed because they were to.
    pub(crate) failed: u64,
    /// Parts of writes that came to harm.
    pub(crate) harmed: u64,
}

/// A write that arrived, in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traced {
    /// Where it went, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// What it began with.
    pub(crate) first: [u8; 16],
    /// Flushes before it.
    pub(crate) flushes: u64,
}

/// Decides about each write as it arrives.
pub(crate) type Judge = Box<dyn FnMut(&Write<'_>) -> Fate + Send>;

/// Decides about each read as it arrives whether it fails.
pub(crate) type ReadJudge = Box<dyn FnMut() -> bool + Send>;

/// The faults of a drive at the moment; none to begin with.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) unreadable: Vec<Range<u64>>,
    /// Ranges that fail to be read so often, and then give their bytes.
    pub(super) weak: Vec<(Range<u64>, u32)>,
    /// Nothing is answered but with an error.
    pub(super) is_dead: bool,
    /// Nothing is answered at all.
    pub(super) is_hung: bool,
    pub(super) unwritable: Vec<Range<u64>>,
    pub(super) misread: Vec<Range<u64>>,
    /// Ranges that are read right so often, and misread from then on.
    pub(super) fickle: Vec<(Range<u64>, u32)>,
    /// Which flushes fail, by their number.
    pub(super) flushes: Range<u64>,
    /// Flushes are acknowledged, and nothing happens.
    pub(super) is_deaf: bool,
    pub(super) delay: Duration,
    pub(super) judge: Option<Judge>,
    pub(super) read_judge: Option<ReadJudge>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("unreadable", &self.unreadable)
            .field("weak", &self.weak)
            .field("is_dead", &self.is_dead)
            .field("is_hung", &self.is_hung)
            .field("unwritable", &self.unwritable)
            .field("misread", &self.misread)
            .field("fickle", &self.fickle)
            .field("flushes", &self.flushes)
            .field("is_deaf", &self.is_deaf)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

impl Faults {
    /// Returns whether a read of `len` bytes from `offset` on fails.
    pub(super) fn fails_read(&mut self, offset: u64, len: u64) -> bool {
        let mut fails = self.is_dead || touch(&self.unreadable, offset, len);
        if let Some(judge) = &mut self.read_judge {
            fails |= judge();
        }
        for (range, left) in &mut self.weak {
            if *left > 0 && touch(std::slice::from_ref(range), offset, len) {
                *left -= 1;
                fails = true;
            }
        }
        fails
    }

    /// Returns the ranges of a read of `len` bytes from `offset` on that are misread.
    pub(super) fn misreads(&mut self, offset: u64, len: u64) -> Vec<Range<u64>> {
        let mut misread = self.misread.clone();
        for (range, left) in &mut self.fickle {
            if !touch(std::slice::from_ref(range), offset, len) {
                continue;
            }
            match left {
                0 => misread.push(range.clone()),
                _ => *left -= 1,
            }
        }
        misread
    }
}

/// Returns whether any of the ranges has a byte of `len` bytes from `offset` on.
pub(super) fn touch(ranges: &[Range<u64>], offset: u64, len: u64) -> bool {
    let end = offset + len;
    ranges
        .iter()
        .any(|range| range.start < end && offset < range.end)
}
