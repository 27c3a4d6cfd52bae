//! How many blocks are read at once: two, until the drive shows that it gains from more.
//!
//! Two keep a slow drive busy for 40 ms and more. More would only touch more buffers: with sixty slow
//! drives the pages of those, made when they are first used, held up the first read of the last
//! lane by half a second (two cores, 6.18).

use std::time::{Duration, Instant};

/// Blocks read at once in the beginning.
pub(crate) const FIRST: usize = 2;
/// Blocks after which the rate is looked at.
const STEP: u32 = 4;
/// What those take a drive of 50 MB/s.
const SLOW: Duration = Duration::from_millis(80);

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

/// The bound on blocks being read at once.
#[derive(Debug)]
pub(super) struct Ramp {
    now: usize,
    most: usize,
    blocks: u32,
    since: Option<Instant>,
}

impl Ramp {
    /// Begins with `first`; never goes beyond `most`.
    pub(super) fn new(first: usize, most: usize) -> Self {
        Self {
            now: first.min(most),
            most,
            blocks: 0,
            since: None,
        }
    }

    /// Returns how many blocks may be read at once.
    pub(super) fn limit(&self) -> usize {
        self.now
    }

    /// Notes that a block has come.
    pub(super) fn block_read(&mut self, at: Instant) {
        if self.now == self.most {
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
        if at.saturating_duration_since(since) < SLOW {
            self.now = (self.now * 2).min(self.most);
        }
        (self.blocks, self.since) = (0, Some(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bound after each of so many blocks that come at this distance.
    fn bounds(most: usize, blocks: usize, gap: Duration) -> Vec<usize> {
        let mut ramp = Ramp::new(FIRST, most);
        let mut at = Instant::now();
        let mut bounds = Vec::new();
        for _ in 0..blocks {
            ramp.block_read(at);
            bounds.push(ramp.limit());
            at += gap;
        }
        bounds
    }

    #[test]
    fn a_fast_drive_gets_its_depth_after_a_few_blocks() {
        let gap = Duration::from_millis(4);
        assert_eq!(bounds(8, 10, gap), [2, 2, 2, 2, 4, 4, 4, 4, 8, 8]);
        assert_eq!(bounds(3, 6, gap), [2, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn a_slow_drive_keeps_two() {
        assert_eq!(bounds(8, 99, Duration::from_millis(21)), [2; 99]);
        assert_eq!(bounds(1, 5, Duration::ZERO), [1; 5]);
    }
}
