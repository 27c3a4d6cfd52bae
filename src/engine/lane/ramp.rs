//! How many blocks are read at once: two, until the drive shows that it gains from more, because it
//! is fast or because it is faster with more.
//!
//! Two keep a slow drive busy for 40 ms and more. More would only touch more buffers: with sixty slow
//! drives the pages of those, made when they are first used, held up the first read of the last
//! lane by half a second (two cores, 6.18).

use std::time::{Duration, Instant};

use crate::buffer::SLOT_LEN;
use crate::engine::job::KnownDrive;

/// Blocks read at once in the beginning.
pub(crate) const FIRST: usize = 2;
/// Blocks after which the rate is looked at.
const STEP: u32 = 4;
/// What those take a drive of 50 MB/s.
const SLOW: Duration = Duration::from_millis(80);

/// Returns how many blocks are read at once in the beginning, of a drive of which a measurement may
/// be known: what its queue held when more brought nothing.
pub(crate) fn first(known: Option<KnownDrive>, most: usize) -> usize {
    let queue = known.map_or(0, |known| known.queue / SLOT_LEN as u64);
    usize::try_from(queue)
        .unwrap_or(most)
        .clamp(FIRST, most.max(FIRST))
}

/// How deep a lane keeps its drive's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Blocks of large files being read at once in the beginning.
    pub(crate) first: usize,
    /// Most of them, when the drive is fast.
    pub(crate) blocks: usize,
    /// Small files being read at once.
    pub(crate) small: usize,
}

/// Steps between two tries whether a slow drive gains from more after all, as one does that is far
/// away.
const REST: u32 = 64;

/// The bound on blocks being read at once.
#[derive(Debug)]
pub(super) struct Ramp {
    now: usize,
    most: usize,
    /// Blocks that came in this step, and when it began.
    blocks: u32,
    since: Option<Instant>,
    /// The bound before more was tried, and what a step took with it.
    before: Option<(usize, Duration)>,
    /// Steps until it is tried again.
    rest: u32,
}

impl Ramp {
    /// Begins with `first`; never goes beyond `most`.
    pub(super) fn new(first: usize, most: usize) -> Self {
        Self {
            now: first.min(most),
            most,
            blocks: 0,
            since: None,
            before: None,
            rest: 0,
        }
    }

    /// Returns how many blocks may be read at once.
    pub(super) fn limit(&self) -> usize {
        self.now
    }

    /// Notes that a block has come.
    pub(super) fn block_read(&mut self, at: Instant) {
        if self.now == self.most && self.before.is_none() {
            return;
        }
        let Some(since) = self.since else {
            self.since = Some(at);
            return;
        };
        self.blocks += 1;
        if self.blocks < STEP {
            return;
        }
        self.settle(at.saturating_duration_since(since));
        (self.blocks, self.since) = (0, Some(at));
    }

    /// Takes the time of a step: more if it was short, or shorter than with less; else back.
    fn settle(&mut self, took: Duration) {
        let more = (self.now * 2).min(self.most);
        match self.before.take() {
            _ if took < SLOW => self.now = more,
            Some((less, before)) if took * 5 > before * 4 => (self.now, self.rest) = (less, REST),
            _ if self.rest > 0 => self.rest -= 1,
            _ if self.now < self.most => {
                self.before = Some((self.now, took));
                self.now = more;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_was_measured_begins_with_what_suited_it() {
        let known = |mib: u64| {
            Some(KnownDrive {
                rate: 1,
                size: 1,
                queue: mib << 20,
            })
        };
        assert_eq!(first(None, 8), 2);
        assert_eq!(first(known(0), 8), 2);
        assert_eq!(first(known(6), 8), 6);
        assert_eq!(first(known(64), 8), 8);
        assert_eq!(first(known(64), 1), 2);
    }

    /// Returns the bound after each of so many blocks, which come at the distance that `gap` gives
    /// for the bound.
    fn bounds(most: usize, blocks: usize, gap: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut ramp = Ramp::new(FIRST, most);
        let mut at = Instant::now();
        let mut bounds = Vec::new();
        for _ in 0..blocks {
            ramp.block_read(at);
            bounds.push(ramp.limit());
            at += Duration::from_millis(gap(ramp.limit()));
        }
        bounds
    }

    #[test]
    fn a_fast_drive_gets_its_depth_after_a_few_blocks() {
        assert_eq!(bounds(8, 10, |_| 4), [2, 2, 2, 2, 4, 4, 4, 4, 8, 8]);
        assert_eq!(bounds(3, 6, |_| 4), [2, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn a_slow_drive_keeps_two_but_for_a_try_now_and_then() {
        let bounds = bounds(8, 600, |_| 21);
        assert_eq!(bounds[..12], [2, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2, 2]);
        let more = bounds.iter().filter(|bound| **bound > 2).count();
        assert_eq!(more, 12, "four blocks of every 264");
    }

    #[test]
    fn a_drive_far_away_gets_more_because_that_helps() {
        // 200 ms a block, however many are on their way.
        let far = |bound: usize| 200 / bound as u64;
        assert_eq!(*bounds(8, 20, far).last().unwrap(), 8);
        assert_eq!(*bounds(3, 20, |_| 21).last().unwrap(), 2);
    }

    #[test]
    fn one_stays_one() {
        assert_eq!(bounds(1, 5, |_| 0), [1; 5]);
    }
}
