//! Which bytes of a block cannot be read, found by reading it in smaller and smaller pieces. No I/O.
//!
//! As GNU ddrescue does: what can be read in large pieces first, then what is left in smaller ones,
//! down to what the drive reads at once; what still fails is tried again, so often and no more.

use std::collections::VecDeque;
use std::ops::Range;

/// How often what fails in the smallest pieces is read again: a weak sector often gives its bytes
/// at the second or third try, and each try that fails can take the drive seconds.
pub(super) const RETRIES: u32 = 2;

/// The lengths of the pieces, in bytes, before the smallest: each a sixteenth of the one before, so
/// that one bad sector costs 16 reads a step.
const STEPS: [u64; 2] = [64 << 10, 4 << 10];

/// Bytes by where they are: ranges in order that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range that begins behind all others, or touches the last.
    pub(crate) fn push(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }

    /// Adds ranges that begin anywhere.
    pub(crate) fn merge(&mut self, other: &Self) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(other.0.iter().cloned());
        all.sort_by_key(|range| range.start);
        for range in all {
            self.push(range);
        }
    }

    /// Makes two that are closest one, until there are no more than `most`: what lies between them
    /// counts as well.
    pub(crate) fn limit(&mut self, most: usize) {
        while self.0.len() > most.max(1) {
            let gaps = self.0.windows(2).map(|two| match two {
                [a, b] => b.start - a.end,
                _ => u64::MAX,
            });
            let Some((at, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else {
                return;
            };
            let next = self.0.remove(at + 1);
            if let Some(range) = self.0.get_mut(at) {
                range.end = next.end;
            }
        }
    }

    /// Returns them, first to last.
    pub(crate) fn as_slice(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many bytes there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

/// A search for the bad bytes of a range that failed to be read in one piece.
///
/// Ask for the [`next`](Self::next) piece, read it, say whether it could be [`read`](Self::settle);
/// until there is none. Each byte is then either read or among the [`bad`](Self::bad) ones, and the
/// ends of those are multiples of the smallest piece, or the end of the range.
#[derive(Debug)]
pub(super) struct Search {
    /// What the smallest piece is, in bytes.
    granule: u64,
    /// Length of the pieces now.
    step: u64,
    /// Pieces to be read, in order.
    todo: VecDeque<Range<u64>>,
    /// What failed in this round.
    failed: Ranges,
    /// How often the smallest pieces may still be tried again.
    retries: u32,
    bad: Ranges,
}

impl Search {
    /// Begins a search in a range that failed. `granule` is what the drive reads at once: a power
    /// of two, and the range begins on a multiple of it.
    pub(super) fn new(range: Range<u64>, granule: u64) -> Self {
        let granule = granule.max(1);
        let len = range.end - range.start;
        let mut search = Self {
            granule,
            step: len.next_power_of_two().max(granule),
            todo: VecDeque::new(),
            failed: Ranges::default(),
            retries: RETRIES,
            bad: Ranges::default(),
        };
        search.failed.push(range);
        search.next_round();
        search
    }

    /// Returns the piece to be read now; `None` when all is known.
    pub(super) fn next(&self) -> Option<Range<u64>> {
        self.todo.front().cloned()
    }

    /// Says what became of that piece.
    pub(super) fn settle(&mut self, was_read: bool) {
        let Some(piece) = self.todo.pop_front() else {
            return;
        };
        if !was_read {
            self.failed.push(piece);
        }
        if self.todo.is_empty() {
            self.next_round();
        }
    }

    /// Returns what cannot be read, when all is known.
    pub(super) fn bad(&self) -> &Ranges {
        &self.bad
    }

    /// Takes up what failed in the round before, in smaller pieces, or once more.
    fn next_round(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        if failed.is_empty() {
            return;
        }
        let smaller = STEPS
            .into_iter()
            .find(|step| *step < self.step && *step > self.granule);
        if self.step > self.granule {
            self.step = smaller.unwrap_or(self.granule);
        } else if self.retries > 0 {
            self.retries -= 1;
        } else {
            self.bad = failed;
            return;
        }
        for range in failed.as_slice() {
            let mut at = range.start;
            while at < range.end {
                // On multiples of the length, whatever the range begins with.
                let end = (at + 1).next_multiple_of(self.step).min(range.end);
                self.todo.push_back(at..end);
                at = end;
            }
        }
    }
}

/// The order in which the rest of a file with bad blocks is read: on and on, but past an error
/// further with each one that follows; what was passed over comes last.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Blocks not issued yet, in order.
    untried: VecDeque<Range<u64>>,
    /// Where to go on.
    at: u64,
    /// How far the next error makes it jump, in blocks.
    skip: u64,
}

/// The furthest jump, in blocks of 1 MiB.
const SKIP_MAX: u64 = 64;

impl Sweep {
    /// Begins a sweep over blocks.
    pub(super) fn new(blocks: Range<u64>) -> Self {
        let at = blocks.start;
        let untried = (!blocks.is_empty()).then_some(blocks);
        Self {
            untried: untried.into_iter().collect(),
            at,
            skip: 1,
        }
    }

    /// Returns the block to be read now, below `end`.
    pub(super) fn next(&self, end: u64) -> Option<u64> {
        let ahead = self.untried.iter().find(|range| range.end > self.at);
        let ahead = ahead.map(|range| range.start.max(self.at));
        let first = self.untried.front().map(|range| range.start);
        let is_near = |block: &u64| *block < end;
        ahead.filter(is_near).or(first.filter(is_near))
    }

    /// Notes that this block, which was the next, is being read.
    pub(super) fn issued(&mut self, block: u64) {
        let holds = |range: &Range<u64>| range.contains(&block);
        let Some(place) = self.untried.iter().position(holds) else {
            return;
        };
        let Some(range) = self.untried.remove(place) else {
            return;
        };
        if block + 1 < range.end {
            self.untried.insert(place, block + 1..range.end);
        }
        if range.start < block {
            self.untried.insert(place, range.start..block);
        }
        self.at = block + 1;
    }

    /// Says what became of a block.
    pub(super) fn settle(&mut self, block: u64, was_read: bool) {
        if was_read {
            self.skip = 1;
        } else {
            self.at = self.at.max(block + 1 + self.skip);
            self.skip = (self.skip * 2).min(SKIP_MAX);
        }
    }

    /// Returns whether every block has been issued.
    pub(super) fn is_over(&self) -> bool {
        self.untried.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MIB: u64 = 1 << 20;

    /// A drive with bad sectors: each gives its bytes after so many reads of it that failed.
    struct Drive {
        sector: u64,
        bad: BTreeMap<u64, u32>,
        reads: u64,
    }

    impl Drive {
        fn read(&mut self, range: &Range<u64>) -> bool {
            self.reads += 1;
            assert!(range.start < range.end && range.start.is_multiple_of(self.sector));
            let sectors = range.start / self.sector..range.end.div_ceil(self.sector);
            let mut good = true;
            for (_, left) in self.bad.range_mut(sectors) {
                good &= *left == 0;
                *left = left.saturating_sub(1);
            }
            good
        }
    }

    fn search(drive: &mut Drive, range: Range<u64>) -> (Ranges, Ranges) {
        let mut search = Search::new(range, drive.sector);
        let mut read = Ranges::default();
        while let Some(piece) = search.next() {
            let good = drive.read(&piece);
            if good {
                let mut piece_alone = Ranges::default();
                piece_alone.push(piece);
                read.merge(&piece_alone);
            }
            search.settle(good);
        }
        (search.bad().clone(), read)
    }

    fn expected(bad: impl Iterator<Item = u64>, sector: u64, range: &Range<u64>) -> Ranges {
        let mut ranges = Ranges::default();
        for number in bad {
            let start = (number * sector).max(range.start);
            ranges.push(start..((number + 1) * sector).min(range.end).max(start));
        }
        ranges
    }

    proptest! {
        #[test]
        fn the_bad_sectors_are_found_to_the_byte_and_all_others_are_read(
            first in 0u64..40,
            len in 1u64..=MIB,
            sector in prop::sample::select(vec![512u64, 4096]),
            bad in prop::collection::btree_map(0u64..2048, prop::sample::select(vec![1u32, 2, 3, 9, u32::MAX]), 0..40),
            whole_from in 0u64..2048,
            whole in 0u64..300,
        ) {
            let start = first * MIB;
            let range = start..start + len;
            let base = start / sector;
            let mut all: BTreeMap<u64, u32> = bad.into_iter().map(|(at, n)| (base + at, n)).collect();
            all.extend((whole_from..whole_from + whole).map(|at| (base + at, u32::MAX)));
            let mut drive = Drive { sector, bad: all.clone(), reads: 0 };
            // It was read in one piece before: that counts as a try.
            drive.read(&range);
            let (found, read) = search(&mut drive, range.clone());
            let end = range.end.div_ceil(sector);
            // 64 KiB, 4 KiB, alone, and so often again: who gives in within the last of these may
            // or may not have been read before, and one that never does is bad for certain.
            let of = |least: u32| {
                let some = all.iter().filter(|(at, n)| **n >= least && **at < end);
                expected(some.map(|(at, _)| *at), sector, &range)
            };
            for (certain, among) in [(&of(u32::MAX), &found), (&found, &of(RETRIES + 1))] {
                let mut joined = among.clone();
                joined.merge(certain);
                prop_assert_eq!(&joined, among);
            }
            // Each byte is one or the other.
            prop_assert_eq!(found.bytes() + read.bytes(), len);
            let mut both = found;
            both.merge(&read);
            let mut one = Ranges::default();
            one.push(range);
            prop_assert_eq!(both, one);
            let most = 1 + len.div_ceil(64 << 10) + len.div_ceil(4 << 10)
                + u64::from(1 + RETRIES) * len.div_ceil(sector);
            prop_assert!(drive.reads <= most, "{} reads", drive.reads);
        }

        #[test]
        fn a_sweep_reads_each_block_once_whatever_fails(
            start in 0u64..100,
            len in 0u64..300,
            window in 1u64..400,
            bad in prop::collection::btree_set(0u64..400, 0..200),
        ) {
            let mut sweep = Sweep::new(start..start + len);
            let mut seen = Vec::new();
            let mut end = start + window;
            while !sweep.is_over() {
                let Some(block) = sweep.next(end) else {
                    end += window;
                    continue;
                };
                prop_assert!(block < end);
                sweep.issued(block);
                seen.push(block);
                sweep.settle(block, !bad.contains(&block));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (start..start + len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_bad_sector_costs_few_reads_and_good_bytes_come_first() {
        let mut drive = Drive {
            sector: 512,
            bad: BTreeMap::from([(1000, u32::MAX)]),
            reads: 0,
        };
        let (bad, _) = search(&mut drive, 0..MIB);
        assert_eq!(bad.as_slice(), std::slice::from_ref(&(512_000..512_512)));
        // 16 of 64 KiB, 16 of 4 KiB, 8 of 512 bytes, and the one twice more.
        assert_eq!(drive.reads, 16 + 16 + 8 + 2);
    }

    #[test]
    fn a_sector_that_gives_its_bytes_late_is_read() {
        let mut drive = Drive {
            sector: 4096,
            bad: BTreeMap::from([(3, 3)]),
            reads: 0,
        };
        let (bad, read) = search(&mut drive, 0..100_000);
        assert!(bad.is_empty());
        assert_eq!(read.bytes(), 100_000);
    }

    #[test]
    fn errors_in_a_row_make_a_sweep_jump_further_and_come_back() {
        let mut sweep = Sweep::new(10..30);
        let mut order = Vec::new();
        while let Some(block) = sweep.next(u64::MAX) {
            sweep.issued(block);
            sweep.settle(block, !(12..=14).contains(&block));
            order.push(block);
        }
        assert_eq!(order[..6], [10, 11, 12, 14, 17, 18]);
        assert_eq!(order[order.len() - 3..], [13, 15, 16]);
    }

    #[test]
    fn too_many_ranges_become_fewer_and_lose_nothing() {
        let mut ranges = Ranges::default();
        for at in [0, 10, 13, 30] {
            ranges.push(at..at + 2);
        }
        ranges.limit(3);
        assert_eq!(ranges.as_slice(), [0..2, 10..15, 30..32]);
        assert_eq!(ranges.bytes(), 9);
        ranges.limit(0);
        assert_eq!(ranges.as_slice(), std::slice::from_ref(&(0..32)));
    }
}
