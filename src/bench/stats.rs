//! Samples to figures, and curves to their knee. Pure arithmetic.

use super::histogram::Histogram;
use super::report::{Knee, Latency, Measure, Point};
use super::sample::Sample;

/// What reaches this share of the best is as good as the best: samples differ by as much.
pub(crate) const AS_GOOD: f64 = 0.95;
/// A step that brings less than this share brings nothing.
const GAIN: f64 = 1.05;

/// Returns the median; the mean of the middle two of an even number. 0 when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    match sorted.len() {
        0 => 0.0,
        len if len.is_multiple_of(2) => f64::midpoint(at(middle - 1), at(middle)),
        _ => at(middle),
    }
}

/// Returns the least and the greatest; zeros when there is none.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().reduce(f64::min);
    let greatest = values.iter().copied().reduce(f64::max);
    (least.unwrap_or(0.0), greatest.unwrap_or(0.0))
}

/// Returns the figure of some samples; `None` when none of them has a rate.
pub(crate) fn measure(knee: Knee, samples: &[Sample]) -> Option<Measure> {
    let rates: Vec<f64> = samples.iter().filter_map(Sample::rate).collect();
    if rates.is_empty() {
        return None;
    }
    let mut all = Histogram::default();
    for sample in samples {
        all.merge(&sample.latency);
    }
    let (rate_min, rate_max) = range(&rates);
    Some(Measure {
        block: knee.block,
        depth: knee.depth,
        rate: median(&rates),
        rate_min,
        rate_max,
        requests: all.count(),
        bytes: samples.iter().map(|sample| sample.bytes).sum(),
        seconds: samples.iter().map(|sample| sample.seconds).sum(),
        cpu_seconds: samples.iter().map(|sample| sample.cpu).sum(),
        latency: latency(&all),
        samples: rates,
        cut: Vec::new(),
        steady: false,
    })
}

fn latency(all: &Histogram) -> Latency {
    Latency {
        min: all.min(),
        mean: all.mean(),
        deviation: all.deviation(),
        p50: all.percentile(50_000),
        p90: all.percentile(90_000),
        p99: all.percentile(99_000),
        p999: all.percentile(99_900),
        max: all.max(),
        buckets: all.filled().collect(),
    }
}

/// Returns whether going on is worth it: not when the last two steps brought nothing.
pub(crate) fn is_flat(rates: &[f64]) -> bool {
    match rates {
        [.., before, one, two] => one.max(*two) < before * GAIN,
        _ => false,
    }
}

/// Returns the first point that is as good as the best of them, in the order given.
pub(crate) fn knee(points: &[Point]) -> Option<Knee> {
    let best = points.iter().map(|point| point.rate).reduce(f64::max)?;
    points
        .iter()
        .find(|point| point.rate >= best * AS_GOOD)
        .map(|point| Knee {
            block: point.block,
            depth: point.depth,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    fn points(rates: &[f64]) -> Vec<Point> {
        let point = |(step, rate): (usize, &f64)| Point {
            block: 1 << 20,
            depth: 1 << step,
            rate: *rate,
        };
        rates.iter().enumerate().map(point).collect()
    }

    #[test]
    fn a_median_is_not_moved_by_one_bad_sample() {
        assert!(close(median(&[3.0, 1.0, 100.0]), 3.0));
        assert!(close(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(close(median(&[]), 0.0));
        assert_eq!(range(&[2.0, 1.0, 5.0]), (1.0, 5.0));
    }

    #[test]
    fn the_knee_is_the_first_that_is_as_good_as_the_best() {
        let depth = |rates: &[f64]| knee(&points(rates)).map(|knee| knee.depth);
        assert_eq!(depth(&[200.0, 201.0, 199.0]), Some(1), "a hard disk");
        assert_eq!(
            depth(&[700.0, 1400.0, 2600.0, 3300.0, 3400.0]),
            Some(8),
            "flash"
        );
        assert_eq!(
            depth(&[100.0, 200.0, 400.0]),
            Some(4),
            "not reached: the last"
        );
        assert_eq!(depth(&[]), None);
    }

    #[test]
    fn the_search_ends_when_two_steps_bring_nothing() {
        assert!(is_flat(&[200.0, 202.0, 203.0]));
        assert!(!is_flat(&[200.0, 202.0]));
        assert!(!is_flat(&[200.0, 202.0, 230.0]), "the second one did");
        assert!(!is_flat(&[100.0, 200.0, 201.0]));
        assert!(is_flat(&[100.0, 200.0, 201.0, 199.0]));
    }

    #[test]
    fn a_figure_has_all_samples_behind_it() {
        let sample = |bytes: u64, seconds: f64| {
            let mut latency = Histogram::default();
            latency.record(1000);
            Sample {
                bytes,
                seconds,
                cpu: 0.25,
                latency,
                zeros: 0,
            }
        };
        let knee = Knee {
            block: 4096,
            depth: 2,
        };
        let samples = [
            sample(100, 1.0),
            sample(300, 1.0),
            sample(200, 1.0),
            sample(0, 0.0),
        ];
        let figure = measure(knee, &samples).unwrap();
        assert!(close(figure.rate, 200.0));
        assert_eq!((figure.requests, figure.bytes), (4, 600));
        assert!(close(figure.spread(), 1.0));
        assert!(close(figure.cpu_seconds, 1.0));
        assert_eq!(figure.samples.len(), 3, "a sample without a rate is none");
        assert!(measure(knee, &[sample(0, 0.0)]).is_none());
    }
}
