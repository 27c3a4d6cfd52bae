//! How to measure: for how long, how often, and with which queues.

use std::time::Duration;

use super::job::{BenchJob, REPETITIONS_MIN};
use super::report::{Knee, Measure};
use super::sample::{Load, Way};
use crate::buffer::SLOT_LEN;

/// Share of a sample's time that comes before it and is not counted.
const WARM: f64 = 0.25;
/// Shortest and longest of it.
const WARM_MIN: Duration = Duration::from_millis(50);
const WARM_MAX: Duration = Duration::from_secs(2);

/// How to measure.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) warm: Duration,
    pub(crate) time: Duration,
    pub(crate) repetitions: usize,
    /// The size of requests and the depth of the queue that were asked for; `None` for those that
    /// are looked for.
    pub(crate) block: Option<usize>,
    pub(crate) depth: Option<usize>,
    /// How many subjects share the memory.
    pub(crate) sharers: usize,
}

impl Manner {
    /// Returns how a job measures.
    pub(super) fn of(job: &BenchJob) -> Self {
        let time = Duration::from_secs_f64(job.seconds);
        Self {
            warm: time.mul_f64(WARM).clamp(WARM_MIN, WARM_MAX),
            time,
            repetitions: job.repetitions.max(REPETITIONS_MIN),
            block: job.block,
            depth: job.depth,
            sharers: job.paths.len(),
        }
    }

    /// Returns the depths to try: those given, or the one that was asked for.
    pub(crate) fn depths(&self, tried: &[usize], max: usize) -> Vec<usize> {
        let asked = self.depth.as_slice();
        let depths = if asked.is_empty() { tried } else { asked };
        depths.iter().copied().filter(|d| *d <= max).collect()
    }

    /// Returns what is to be said when a figure has the deepest queue that there was memory for, and
    /// `tried` has deeper ones.
    pub(crate) fn short_of_memory(
        &self,
        tried: &[usize],
        max: usize,
        figure: Option<&Measure>,
    ) -> Option<String> {
        let deepest = tried.iter().copied().filter(|depth| *depth <= max).max()?;
        let wanted = tried.iter().copied().filter(|depth| *depth > max).max()?;
        let is_best = figure.is_some_and(|figure| figure.depth == deepest);
        (is_best && self.depth.is_none()).then(|| {
            format!(
                "{deepest} requests at once were best, and there was no memory to try more: --memory \
                 {}MiB would allow {wanted}",
                self.sharers * wanted * (SLOT_LEN >> 20)
            )
        })
    }

    pub(crate) fn load(&self, knee: Knee, way: Way) -> Load {
        Load {
            block: knee.block,
            depth: knee.depth,
            warm: self.warm,
            time: self.time,
            way,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_memory_has_cut_short_is_told_of() {
        let at = |depth: usize| Measure {
            depth,
            ..Measure::default()
        };
        let manner = Manner {
            warm: Duration::ZERO,
            time: Duration::from_secs(1),
            repetitions: 3,
            block: None,
            depth: None,
            sharers: 60,
        };
        let said = |manner: &Manner, max: usize, depth: usize| {
            manner.short_of_memory(&[1, 2, 4, 8, 16, 32], max, Some(&at(depth)))
        };
        assert_eq!(
            said(&manner, 9, 8).unwrap(),
            "8 requests at once were best, and there was no memory to try more: --memory 1920MiB would \
             allow 32"
        );
        assert_eq!(said(&manner, 9, 4), None, "more were tried");
        assert_eq!(said(&manner, 32, 32), None, "there are no more");
        let asked = Manner {
            depth: Some(8),
            ..manner.clone()
        };
        assert_eq!(said(&asked, 9, 8), None);
    }
}
