//! A figure of the last rates that are steady, and of nothing before them.

use super::job::REPETITIONS_MIN;
use super::stats::{median, range};
use super::steady;

/// What such a figure has, whatever was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settled {
    /// The median.
    pub(crate) rate: f64,
    pub(crate) rate_min: f64,
    pub(crate) rate_max: f64,
    /// The rates that count, in order.
    pub(crate) samples: Vec<f64>,
    /// Those before them.
    pub(crate) cut: Vec<f64>,
    pub(crate) steady: bool,
}

/// Returns the figure of the last `window` rates, if those are steady, else that of all of them; `None`
/// when there are too few.
pub(crate) fn settle(rates: &[f64], window: usize) -> Option<Settled> {
    let (cut, steady) = steady::cut(rates, window);
    let (before, rates) = rates.split_at_checked(cut)?;
    if rates.len() < REPETITIONS_MIN {
        return None;
    }
    let (rate_min, rate_max) = range(rates);
    Some(Settled {
        rate: median(rates),
        rate_min,
        rate_max,
        samples: rates.to_vec(),
        cut: before.to_vec(),
        steady,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_is_in_no_part_of_a_figure() {
        let settled = settle(&[900.0, 100.0, 102.0, 98.0], 3).unwrap();
        assert_eq!((settled.cut, settled.steady), (vec![900.0], true));
        let rates = (settled.rate_min, settled.rate, settled.rate_max);
        assert_eq!(rates, (98.0, 100.0, 102.0));
        assert_eq!(settled.samples, [100.0, 102.0, 98.0]);
        let settled = settle(&[900.0, 100.0, 50.0], 3).unwrap();
        assert!(!settled.steady && settled.cut.is_empty());
        assert_eq!(settle(&[100.0, 100.0], 3), None, "too few");
    }
}
