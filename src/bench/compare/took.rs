//! Latencies of two benches, held against each other.

use super::{Figure, LATENCY_SAME};
use crate::bench::report::{Knee, Latency, Measure};

/// A rank is known to so many standard deviations of its place among the requests: 95 of 100 times
/// the percentile of all that could have been asked for is within.
const DEVIATIONS: f64 = 2.0;

/// The percentiles that are compared, with what each is called.
pub(super) const PERCENTILES: [(&str, f64); 2] = [("read-p50", 0.5), ("read-p99", 0.99)];

/// Returns a percentile, between what it may be as well by the number of its requests; `None` where
/// none was told.
pub(super) fn figure(measure: &Measure, share: f64) -> Option<Figure> {
    let latency = &measure.latency;
    let value = if share > 0.5 {
        latency.p99
    } else {
        latency.p50
    };
    if value == 0 {
        return None;
    }
    let (least, most) = bounds(latency, share).unwrap_or((value, value));
    Some(Figure {
        rate: nanos(value),
        least: nanos(least.min(value)),
        most: nanos(most.max(value)),
        requests: Some(Knee {
            block: measure.block,
            depth: measure.depth,
        }),
    })
}

/// Returns the latencies between which a percentile is, whatever it is of: the order statistics
/// around it, by the binomial distribution of how many requests are below.
fn bounds(latency: &Latency, share: f64) -> Option<(u64, u64)> {
    let all: u64 = latency.buckets.iter().map(|(_, count)| count).sum();
    if all == 0 {
        return None;
    }
    let (rank, of) = (nanos(all) * share, nanos(all));
    let off = DEVIATIONS * (rank * (1.0 - share)).sqrt();
    let at = |rank: f64| {
        let mut seen = 0;
        let found = latency.buckets.iter().find(|(_, count)| {
            seen += count;
            nanos(seen) >= rank
        });
        found.map(|(end, _)| (*end).min(latency.max))
    };
    Some((
        at((rank - off).floor().max(1.0))?,
        at((rank + off).ceil().min(of))?,
    ))
}

/// Longer or shorter only when neither may be what the other may be, and they are further apart than
/// machines are from one day to the next.
pub(super) fn judge(before: Figure, after: Figure) -> &'static str {
    let apart = (after.rate - before.rate).abs() > before.rate * LATENCY_SAME;
    if before.requests != after.requests {
        // A longer queue is a longer wait, and no slower drive.
        super::NOT_COMPARABLE
    } else if apart && after.least > before.most {
        "slower"
    } else if apart && after.most < before.least {
        "faster"
    } else {
        "same"
    }
}

#[allow(clippy::cast_precision_loss, reason = "a latency is no count")]
fn nanos(number: u64) -> f64 {
    number as f64
}
