//! What a drive has shown that it can give: the most it gave in a second.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Lane;

/// How long a rate is to last: below that the drive's own cache and bursts of a throttle count.
const WINDOW: Duration = Duration::from_secs(1);

/// Bytes that came since a window began.
#[derive(Debug, Default)]
pub(super) struct Best {
    since: Option<Instant>,
    bytes: u64,
}

impl Best {
    /// Notes bytes that came from the drive; returns the rate in bytes a second when a window is
    /// full.
    pub(super) fn add(&mut self, bytes: u64, at: Instant) -> Option<u64> {
        let Some(since) = self.since else {
            // When it was asked for is not known.
            self.since = Some(at);
            return None;
        };
        self.bytes += bytes;
        let time = at.saturating_duration_since(since);
        if time < WINDOW {
            return None;
        }
        let rate = u128::from(self.bytes) * 1_000 / time.as_millis().max(1);
        *self = Self {
            since: Some(at),
            bytes: 0,
        };
        u64::try_from(rate).ok()
    }
}

impl Lane<'_> {
    /// Counts bytes that came from the drive.
    pub(super) fn count_read(&mut self, bytes: u64) {
        self.count_hole(bytes);
        self.counters.bytes_came.fetch_add(bytes, Relaxed);
        if let Some(rate) = self.best.add(bytes, Instant::now()) {
            self.counters.note_rate(rate);
        }
    }

    /// Counts bytes that need not be read.
    pub(super) fn count_hole(&self, bytes: u64) {
        self.counters.bytes_read.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_once_a_second() {
        let mut best = Best::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(best.add(1000, at(0)), None);
        assert_eq!(best.add(1000, at(999)), None);
        assert_eq!(best.add(500, at(1000)), Some(1500));
        assert_eq!(best.add(600, at(1500)), None);
        assert_eq!(best.add(600, at(3000)), Some(600));
    }
}
