//! The rate limit the user set, shared by all lanes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Paces reads so that, over any second, at most the set number of bytes is asked for.
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_per_second: Option<u64>,
    /// When everything admitted so far will have had its time.
    next: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.filter(|&rate| rate > 0),
            next: Mutex::new(None),
        }
    }

    /// Admits a read of `bytes` at time `now`, or says how long to wait before asking again.
    pub(crate) fn admit(&self, bytes: u64, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.bytes_per_second else {
            return Ok(());
        };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.unwrap_or(now).max(now);
        if due > now {
            return Err(due - now);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate needs no more than 52 bits"
        )]
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        *next = Some(now + cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_pays_before_the_next_one() {
        let limiter = Limiter::new(Some(1_000_000));
        let start = Instant::now();
        assert_eq!(limiter.admit(500_000, start), Ok(()));
        assert_eq!(limiter.admit(1, start), Err(Duration::from_millis(500)));
        let later = start + Duration::from_millis(500);
        assert_eq!(limiter.admit(1_000_000, later), Ok(()));
        assert_eq!(limiter.admit(1, later), Err(Duration::from_secs(1)));
    }

    #[test]
    fn an_idle_time_is_not_saved_up() {
        let limiter = Limiter::new(Some(1_000_000));
        let start = Instant::now();
        assert_eq!(limiter.admit(1_000_000, start), Ok(()));
        let much_later = start + Duration::from_secs(60);
        assert_eq!(limiter.admit(1_000_000, much_later), Ok(()));
        assert_eq!(limiter.admit(1, much_later), Err(Duration::from_secs(1)));
    }

    #[test]
    fn no_limit_admits_everything() {
        let limiter = Limiter::new(None);
        let now = Instant::now();
        assert_eq!(limiter.admit(u64::MAX, now), Ok(()));
        assert_eq!(limiter.admit(u64::MAX, now), Ok(()));
    }
}
