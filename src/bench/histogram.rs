//! Latencies, counted in buckets that are never wider than a thirty-second of their value.

/// Buckets for each doubling.
const PARTS: u64 = 1 << PARTS_BITS;
/// log2 of that.
const PARTS_BITS: u32 = 5;
/// Buckets up to the longest latency a `u64` of nanoseconds can tell.
const BUCKETS: usize = (64 - PARTS_BITS as usize + 1) * (1 << PARTS_BITS);

/// A count of latencies. Fixed in size: 15 KiB.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    sum_of_squares: f64,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            sum: 0,
            sum_of_squares: 0.0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, nanos: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(nanos)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += u128::from(nanos);
        self.sum_of_squares += float(nanos) * float(nanos);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds the counts of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Returns how many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the least one; 0 when there is none.
    pub(crate) fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// Returns the longest one.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Returns the mean in nanoseconds; 0 when there is none.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let whole = u64::try_from(self.sum).unwrap_or(u64::MAX);
        float(whole) / float(self.count)
    }

    /// Returns the standard deviation in nanoseconds.
    pub(crate) fn deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let mean = self.mean();
        (self.sum_of_squares / float(self.count) - mean * mean)
            .max(0.0)
            .sqrt()
    }

    /// Returns the latency that `per_100_000` of 100,000 did not exceed: the upper end of its
    /// bucket, at most 3.2% too much, and never more than the longest. 0 when there is none.
    pub(crate) fn percentile(&self, per_100_000: u64) -> u64 {
        let all = u128::from(self.count);
        let rank = (all * u128::from(per_100_000)).div_ceil(100_000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return upper_end(index).min(self.max);
            }
        }
        0
    }

    /// Returns each bucket that is not empty: its upper end in nanoseconds, and its count.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper_end(index), *count))
    }
}

/// Exact below [`PARTS`]; above, the exponent and the next five bits.
fn bucket_of(nanos: u64) -> usize {
    let index = if nanos < PARTS {
        nanos
    } else {
        let shift = nanos.ilog2() - PARTS_BITS;
        u64::from(shift) * PARTS + (nanos >> shift)
    };
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * PARTS {
        return index;
    }
    let shift = index / PARTS - 1;
    let part = index % PARTS + PARTS;
    (u128::from(part + 1) << shift)
        .saturating_sub(1)
        .try_into()
        .unwrap_or(u64::MAX)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a mean of nanoseconds is no count"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_a_bucket_that_fits_it() {
        for bits in 0..64 {
            for offset in [0, 1, 3] {
                let nanos = (1_u64 << bits).saturating_add(offset << bits.max(2) >> 2);
                let end = upper_end(bucket_of(nanos));
                assert!(end >= nanos, "{nanos}: {end}");
                assert!(end - nanos <= nanos / PARTS, "{nanos}: {end}");
            }
        }
        assert_eq!(upper_end(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(micros * 1000);
        }
        let near = |per: u64, micros: u64| {
            let found = histogram.percentile(per);
            assert!(
                (micros * 1000..=micros * 1032).contains(&found),
                "{per}: {found}"
            );
        };
        near(50_000, 500);
        near(90_000, 900);
        near(99_000, 990);
        near(99_900, 999);
        assert_eq!(histogram.percentile(100_000), 1_000_000);
        assert_eq!((histogram.min(), histogram.max()), (1000, 1_000_000));
        assert!((histogram.mean() - 500_500.0).abs() < 0.1);
        assert!((histogram.deviation() - 288_675.0).abs() < 1.0);
    }

    #[test]
    fn merged_is_as_if_counted_together() {
        let (mut a, mut b, mut both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for n in 0..100 {
            a.record(n);
            both.record(n);
            b.record(n * n);
            both.record(n * n);
        }
        a.merge(&b);
        assert_eq!(a.count(), both.count());
        assert_eq!(
            a.filled().collect::<Vec<_>>(),
            both.filled().collect::<Vec<_>>()
        );
        assert_eq!(a.percentile(75_000), both.percentile(75_000));
    }

    #[test]
    fn nothing_counted_is_nothing_told() {
        let empty = Histogram::default();
        assert_eq!(
            (empty.percentile(50_000), empty.min(), empty.max()),
            (0, 0, 0)
        );
        assert!(empty.mean().abs() < f64::EPSILON && empty.deviation().abs() < f64::EPSILON);
    }
}
