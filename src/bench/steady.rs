//! Steady state: how many of a figure's first samples are warm-up, cache or burst, and not the drive.
//!
//! More samples are taken until the last of them are steady, up to a bound. Those before are cut from
//! the figure, and that is said. The conditions are those of SNIA's Solid State Storage Performance
//! Test Specification (definition of "Steady State"): over the measurement window, the values range
//! over no more than 20% of their average, and the best linear fit over no more than 10%. Its window
//! is five rounds; here it is as many samples as were asked for.

use super::report::{Measure, Report};
use super::sample::{Sample, Ties};
use super::stats::{median, range};
use super::subject::CACHES_MAX;
use super::words::{percent, rate};
use crate::error::{Error, ErrorKind};

/// Share of their mean that the samples of a window may range over.
const BAND: f64 = 0.20;
/// Share of their mean that the best line through them may range over.
const SLOPE: f64 = 0.10;
/// So many times the samples asked for are taken at most.
const TAKEN_MAX: usize = 3;

/// Returns whether these rates, in the order they were taken, are those of a drive that has settled.
fn is_steady(rates: &[f64]) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a few samples")]
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count.max(1.0);
    let (least, most) = range(rates);
    mean > 0.0 && most - least <= BAND * mean && rise(rates, mean).abs() <= SLOPE * mean
}

/// Returns how much the line of least squares through the rates rises from the first to the last.
fn rise(rates: &[f64], mean: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few samples")]
    let last = rates.len().saturating_sub(1) as f64;
    let (mut both, mut square) = (0.0, 0.0);
    let mut place = -last / 2.0;
    for value in rates {
        both += place * (value - mean);
        square += place * place;
        place += 1.0;
    }
    if square > 0.0 {
        both / square * last
    } else {
        0.0
    }
}

/// Returns where the steady samples begin: the last `window` of them; `None` when those are not steady,
/// or too few.
pub(crate) fn begin(rates: &[f64], window: usize) -> Option<usize> {
    let first = rates.len().checked_sub(window)?;
    let is_steady = rates.get(first..).is_some_and(is_steady);
    is_steady.then_some(first)
}

/// Takes samples until `window` of them are steady, or [`TAKEN_MAX`] times as many are taken. One that
/// was cut short by a stop, or not answered before it, is no sample.
///
/// # Errors
/// That of the first sample that failed.
pub(crate) fn take(
    window: usize,
    ties: &Ties,
    one: &mut dyn FnMut() -> Result<Sample, Error>,
) -> Result<Vec<Sample>, Error> {
    let mut samples: Vec<Sample> = Vec::new();
    for taken in 0..window.saturating_mul(TAKEN_MAX) {
        let rates: Vec<f64> = samples.iter().filter_map(Sample::rate).collect();
        if taken >= window && begin(&rates, window).is_some() {
            break;
        }
        let sample = match one() {
            Err(error) if error.kind() == ErrorKind::Stopped => break,
            sample => sample?,
        };
        if ties.stopped() {
            break;
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// Adds to a report what is to be known of its figures: which samples were cut, which figures never
/// got steady, and how little was written.
pub(crate) fn tell(report: &mut Report) {
    for subject in &mut report.subjects {
        let warnings = &mut subject.warnings;
        warnings.extend(subject.read.iter().flat_map(|read| told("reading", read)));
        for zone in &subject.zones {
            warnings.extend(told(&format!("its {} zone", zone.name), &zone.read));
        }
        warnings.extend(subject.write.iter().flat_map(of_write));
    }
    if let Some(pair) = &mut report.pair {
        pair.warnings.extend(pair.write.iter().flat_map(of_write));
    }
}

fn of_write(figure: &Measure) -> Vec<String> {
    let mut warnings = told("writing", figure);
    if figure.bytes < CACHES_MAX {
        warnings.push(format!(
            "writing: only {} MB were written for the figure: a cache in the drive or its controller \
             may have taken them",
            figure.bytes / 1_000_000
        ));
    }
    warnings
}

fn told(what: &str, figure: &Measure) -> Vec<String> {
    if !figure.steady {
        return vec![format!(
            "{what} never got steady: its {} samples go from {} to {}",
            figure.samples.len(),
            rate(figure.rate_min),
            rate(figure.rate_max)
        )];
    }
    let differ = median(&figure.cut) / figure.rate.max(f64::MIN_POSITIVE) - 1.0;
    let which = match figure.cut.len() {
        0 => return Vec::new(),
        1 => "the first sample was cut".to_owned(),
        count => format!("the first {count} samples were cut"),
    };
    let why = if differ > 0.0 {
        format!("{} faster, a cache may have answered", percent(differ))
    } else {
        format!("{} slower, before it was steady", percent(-differ))
    };
    vec![format!("{what}: {which}: {why}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Pair, Subject, Zone};
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn steady_is_a_narrow_band_without_a_slope() {
        assert!(is_steady(&[100.0, 100.0, 100.0]));
        assert!(is_steady(&[100.0, 110.0, 95.0]), "15% apart, falling by 5%");
        assert!(!is_steady(&[100.0, 121.0, 99.0]), "22 of 107 apart");
        assert!(is_steady(&[100.0, 119.0, 99.0]), "20 of 106 apart");
        assert!(!is_steady(&[106.0, 100.0, 94.0]), "falls by 12%");
        assert!(is_steady(&[104.0, 100.0, 96.0]), "falls by 8%");
        assert!(!is_steady(&[94.0, 100.0, 106.0]), "rises by 12%");
        // 95, 98, 101, 104, 107 is its best line.
        assert!(!is_steady(&[97.0, 94.0, 101.0, 108.0, 105.0]));
        assert!(!is_steady(&[0.0, 0.0, 0.0]));
    }

    #[test]
    fn the_window_is_the_last_of_them() {
        assert_eq!(begin(&[100.0, 100.0, 100.0], 3), Some(0));
        assert_eq!(begin(&[500.0, 300.0, 100.0, 100.0, 100.0], 3), Some(2));
        assert_eq!(begin(&[100.0, 100.0, 100.0, 500.0], 3), None);
        assert_eq!(begin(&[100.0, 100.0], 3), None, "too few");
    }

    fn taken(rates: &[u64], stop_after: usize) -> Vec<u64> {
        let ties = Ties::default();
        let mut number = 0;
        let samples = take(3, &ties, &mut || {
            number += 1;
            ties.stop.store(number > stop_after, Relaxed);
            Ok(Sample {
                bytes: rates[number - 1],
                seconds: 1.0,
                ..Sample::default()
            })
        });
        samples.unwrap().iter().map(|sample| sample.bytes).collect()
    }

    #[test]
    fn more_samples_are_taken_until_they_are_steady() {
        assert_eq!(taken(&[100, 101, 99, 100], 99), [100, 101, 99]);
        assert_eq!(
            taken(&[500, 400, 100, 101, 99, 7], 99),
            [500, 400, 100, 101, 99]
        );
        let wild = [100, 200, 100, 200, 100, 200, 100, 200, 100, 200];
        assert_eq!(
            taken(&wild, 99),
            wild[..9],
            "three times as many, and no more"
        );
        assert_eq!(taken(&wild, 4), wild[..4], "none after a stop");
    }

    #[test]
    fn a_stop_that_no_answer_came_before_leaves_what_there_is() {
        let ended = |kind: ErrorKind| {
            let mut left = 3;
            take(9, &Ties::default(), &mut || {
                left -= 1;
                let error = || Error::new(kind, crate::error::Side::Source, "sdb", "ended");
                if left < 0 {
                    Err(error())
                } else {
                    Ok(Sample::default())
                }
            })
        };
        assert_eq!(ended(ErrorKind::Stopped).unwrap().len(), 3);
        assert!(ended(ErrorKind::SourceStalled).is_err());
    }

    fn figure(cut: &[f64], steady: bool) -> Measure {
        Measure {
            rate: 100e6,
            rate_min: 50e6,
            rate_max: 200e6,
            samples: vec![100e6; 9],
            bytes: 1 << 30,
            cut: cut.to_vec(),
            steady,
            ..Measure::default()
        }
    }

    #[test]
    fn what_was_cut_and_what_is_not_steady_is_said() {
        let mut report = Report {
            subjects: vec![Subject {
                read: Some(figure(&[142e6, 140e6], true)),
                zones: vec![
                    Zone {
                        name: "outer".to_owned(),
                        read: figure(&[], false),
                        ..Zone::default()
                    },
                    Zone {
                        name: "inner".to_owned(),
                        read: figure(&[], true),
                        ..Zone::default()
                    },
                ],
                write: Some(figure(&[80e6], true)),
                ..Subject::default()
            }],
            pair: Some(Pair {
                write: Some(Measure {
                    bytes: 96_000_000,
                    ..figure(&[], true)
                }),
                ..Pair::default()
            }),
            ..Report::default()
        };
        tell(&mut report);
        assert_eq!(
            report.subjects[0].warnings,
            [
                "reading: the first 2 samples were cut: 41% faster, a cache may have answered",
                "its outer zone never got steady: its 9 samples go from 50.0 MB/s to 200 MB/s",
                "writing: the first sample was cut: 20% slower, before it was steady",
            ]
        );
        assert_eq!(
            report.pair.unwrap().warnings,
            [
                "writing: only 96 MB were written for the figure: a cache in the drive or its controller \
              may have taken them"
            ]
        );
    }
}
