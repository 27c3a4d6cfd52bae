//! How long drives that were lost are waited for, and let be.

use std::time::{Duration, Instant};

/// Most times that a drive is gone on with: one that comes and goes for ever gives too little.
pub(super) const TIMES_MAX: u32 = 16;
/// How long one that gave nothing is let be, the first time; twice as long each time after that, up to
/// a part of `--grace`, so that the tries last for most of it.
const PAUSE: Duration = Duration::from_millis(100);

/// A run that has nothing to do but wait.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) begun: Instant,
    pub(super) has_looked: bool,
    pub(super) has_told: bool,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            has_looked: false,
            has_told: false,
        }
    }
}

/// Returns how long a drive is let be that was gone on with so often, and gave nothing.
pub(super) fn pause(times: u32, grace: Duration) -> Duration {
    let doubled = PAUSE.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1)));
    doubled.min(grace / TIMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_last_for_most_of_the_time_that_a_drive_is_waited_for() {
        let minute = Duration::from_secs(60);
        let ms = Duration::from_millis;
        let pauses: Vec<Duration> = (1..=TIMES_MAX).map(|times| pause(times, minute)).collect();
        assert_eq!(pauses[..3], [ms(100), ms(200), ms(400)]);
        assert_eq!(pauses[15], ms(3750));
        assert_eq!(pauses.iter().sum::<Duration>(), ms(43_800));
        assert_eq!(pause(7, Duration::ZERO), Duration::ZERO);
        assert_eq!(pause(u32::MAX, minute), ms(3750));
    }
}
