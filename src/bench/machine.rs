//! What the whole machine does meanwhile: its processors, and its memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longer than the caches of processors: 32 MiB for each thread, half read and half written.
const COPIED: usize = 16 << 20;
/// How long memory is measured.
const MEMORY_TIME: Duration = Duration::from_millis(200);

/// The processors' time since the machine started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// Reads them; zeros where /proc is not there.
    pub(crate) fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; what follows is in
    /// the first two already. Source: proc_stat(5).
    fn parse(text: &str) -> Self {
        let fields: Vec<u64> = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "))
            .map(|rest| {
                rest.split_whitespace()
                    .take(8)
                    .map_while(|field| field.parse().ok())
            })
            .into_iter()
            .flatten()
            .collect();
        let all = fields.iter().sum();
        let idle: u64 = fields.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    /// Returns the share of the time since `before` in which processors were busy, 0 to 1.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let busy = self.busy.saturating_sub(before.busy);
        #[allow(clippy::cast_precision_loss, reason = "ticks of seconds")]
        if all == 0 {
            0.0
        } else {
            busy as f64 / all as f64
        }
    }
}

/// Seconds of a processor that this process has had, in all its threads, the kernel's workers for
/// its ring among them. Source: clock_getres(2), `CLOCK_PROCESS_CPUTIME_ID`.
pub(crate) fn cpu_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default().as_secs_f64()
}

/// Returns the bytes a second that all processors together copy in memory: what is read and what
/// is written both count.
pub(crate) fn memory_rate(cpus: usize) -> f64 {
    let moved = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cpus.clamp(1, 64) {
            let copy = || {
                let from = vec![1_u8; COPIED];
                let mut to = vec![0_u8; COPIED];
                while !over.load(Relaxed) {
                    to.copy_from_slice(&from);
                    std::hint::black_box(&mut to);
                    moved.fetch_add(2 * COPIED as u64, Relaxed);
                }
            };
            // As many as can be had: a panic here would leave the others running for ever.
            if std::thread::Builder::new()
                .spawn_scoped(scope, copy)
                .is_err()
            {
                break;
            }
        }
        std::thread::sleep(MEMORY_TIME);
        over.store(true, Relaxed);
    });
    #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
    let moved = moved.into_inner() as f64;
    moved / begun.elapsed().as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_drives_is_not_busy() {
        let before = Ticks::parse("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1\n");
        assert_eq!(
            before,
            Ticks {
                busy: 150,
                all: 1000
            }
        );
        let after = Ticks::parse("cpu  160 0 70 900 70 0 0 0 7 7\n");
        assert!((after.busy_since(before) - 0.4).abs() < 1e-9);
        assert!(after.busy_since(after).abs() < 1e-9);
        assert_eq!(Ticks::parse("intr 5"), Ticks::default());
    }

    #[test]
    fn memory_has_a_rate() {
        assert!(memory_rate(1) > 0.0);
    }
}
