//! Steady state: how many of a figure's first samples are warm-up, cache or burst, and not the drive.
//!
//! More samples are taken until the last of them are steady, up to a bound. Those before are cut from
//! the figure, and that is said. The conditions are those of SNIA's Solid State Storage Performance
//! Test Specification (definition of "Steady State"): over the measurement window, the values range
//! over no more than 20% of their average, and the best linear fit over no more than 10%. Its window
//! is five rounds; here it is as many samples as were asked for.

use super::at_once::Failed;
use super::job::REPETITIONS_MIN;
use super::report::{DriveFacts, Measure, Report, TogetherStep};
use super::sample::{Sample, Ties};
use super::stats::{median, range};
use super::subject::CACHES_MAX;
use super::words::{list, percent, rate};
use crate::error::{Error, ErrorKind};

/// Share of their mean that the samples of a window may range over.
const BAND: f64 = 0.20;
/// Share of their mean that the best line through them may range over.
const SLOPE: f64 = 0.10;
/// So many times the samples asked for are taken at most.
pub(crate) const TAKEN_MAX: usize = 3;

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

/// Returns how many of the rates are cut, and whether the others are steady.
pub(crate) fn cut(rates: &[f64], window: usize) -> (usize, bool) {
    // After a stop, those that there are.
    let first = begin(rates, window.min(rates.len()).max(REPETITIONS_MIN));
    (first.unwrap_or(0), first.is_some())
}

/// What samples are taken of: each has a rate, if enough came.
pub(crate) trait Rated {
    /// Bytes, or files, a second.
    fn rate(&self) -> Option<f64>;
}

/// Why a sample failed.
pub(crate) trait Ended {
    /// Whether it is nothing but a stop.
    fn is_stop(&self) -> bool;
}

impl Rated for Sample {
    fn rate(&self) -> Option<f64> {
        Self::rate(self)
    }
}

impl Ended for Error {
    fn is_stop(&self) -> bool {
        self.kind() == ErrorKind::Stopped
    }
}

impl Ended for Failed {
    fn is_stop(&self) -> bool {
        self.stopped
    }
}

/// Takes samples until `window` of them are steady, there are no more, or [`TAKEN_MAX`] times as many
/// are taken. One that was cut short by a stop, or not answered before it, is no sample.
///
/// # Errors
/// That of the first sample that failed.
pub(crate) fn take<S: Rated, E: Ended>(
    window: usize,
    ties: &Ties,
    one: &mut dyn FnMut() -> Result<Option<S>, E>,
) -> Result<Vec<S>, E> {
    let mut samples: Vec<S> = Vec::new();
    for taken in 0..window.saturating_mul(TAKEN_MAX) {
        let rates: Vec<f64> = samples.iter().filter_map(S::rate).collect();
        if taken >= window && begin(&rates, window).is_some() {
            break;
        }
        let sample = match one() {
            Err(error) if error.is_stop() => break,
            sample => sample?,
        };
        let Some(sample) = sample.filter(|_| !ties.stopped()) else {
            break;
        };
        samples.push(sample);
    }
    Ok(samples)
}

/// Adds to a report what is to be known of its figures: which samples were cut (but those of drives read
/// together, where all of them wait for the last), which figures never got steady, and what may have
/// taken what was written.
pub(crate) fn tell(report: &mut Report) {
    for subject in &mut report.subjects {
        let warnings = &mut subject.warnings;
        let read = subject.read.iter();
        warnings.extend(read.filter_map(|read| told("reading", &read.into(), rate)));
        for zone in &subject.zones {
            let what = format!("its {} zone", zone.name);
            warnings.extend(told(&what, &(&zone.read).into(), rate));
        }
        if let Some(small) = &subject.small {
            let figure = Figure {
                rates: [small.rate, small.rate_min, small.rate_max],
                samples: &small.samples,
                cut: &small.cut,
                steady: small.steady,
            };
            warnings.extend(told("reading small files", &figure, files));
        }
        let write = subject.write.iter();
        warnings.extend(write.flat_map(|write| of_write(write, &subject.drives)));
    }
    if let Some(together) = &report.together {
        report.warnings.extend(of_steps(&together.steps));
    }
    if let Some(pair) = &mut report.pair {
        let warnings = &mut pair.warnings;
        let write = pair.write.iter();
        warnings.extend(write.flat_map(|write| of_write(write, &pair.drives)));
        for (what, reached) in [
            ("all into it, hashed", &pair.hashed),
            ("all into it, without a hash", &pair.unhashed),
        ] {
            let Some(reached) = reached else { continue };
            let figure = Figure {
                rates: [reached.rate, reached.rate_min, reached.rate_max],
                samples: &reached.samples,
                cut: &reached.cut,
                steady: reached.steady,
            };
            warnings.extend(told(what, &figure, rate));
        }
    }
}

fn of_steps(steps: &[TogetherStep]) -> Option<String> {
    let unsteady = || steps.iter().filter(|step| !step.steady);
    let last = unsteady().next_back()?;
    let counts: Vec<String> = unsteady().map(|step| step.count.to_string()).collect();
    let drives = if counts == ["1"] { "drive" } else { "drives" };
    let which = match counts.len() {
        1 => "its".to_owned(),
        _ => format!("with {}, the", last.count),
    };
    Some(format!(
        "reading together never got steady with {} {drives}: {which} {} samples go from {} to {}",
        list(&counts),
        last.samples.len(),
        rate(last.rate_min),
        rate(last.rate_max)
    ))
}

fn of_write(figure: &Measure, drives: &[DriveFacts]) -> Vec<String> {
    let mut warnings = Vec::from_iter(told("writing", &figure.into(), rate));
    let written = figure.bytes / 1_000_000;
    if drives.iter().any(|drive| drive.rotational == Some(false)) {
        warnings.push(format!(
            "writing: {written} MB were written for the figure: a faster cache inside a flash drive may \
             hold as much, and what comes after it is slower"
        ));
    } else if figure.bytes < CACHES_MAX {
        warnings.push(format!(
            "writing: only {written} MB were written for the figure: a cache in the drive or its \
             controller may have taken them"
        ));
    }
    warnings
}

/// Any figure.
struct Figure<'f> {
    /// The median, the least and the most.
    rates: [f64; 3],
    samples: &'f [f64],
    cut: &'f [f64],
    steady: bool,
}

impl<'f> From<&'f Measure> for Figure<'f> {
    fn from(measure: &'f Measure) -> Self {
        Self {
            rates: [measure.rate, measure.rate_min, measure.rate_max],
            samples: &measure.samples,
            cut: &measure.cut,
            steady: measure.steady,
        }
    }
}

fn files(per_second: f64) -> String {
    format!("{per_second:.0} files/s")
}

fn told(what: &str, figure: &Figure<'_>, shown: fn(f64) -> String) -> Option<String> {
    let [median_rate, least, most] = figure.rates;
    if !figure.steady {
        return Some(format!(
            "{what} never got steady: its {} samples go from {} to {}",
            figure.samples.len(),
            shown(least),
            shown(most)
        ));
    }
    let differ = median(figure.cut) / median_rate.max(f64::MIN_POSITIVE) - 1.0;
    let which = match figure.cut.len() {
        0 => return None,
        1 => "the first sample was cut".to_owned(),
        count => format!("the first {count} samples were cut"),
    };
    let why = if differ > SLOPE {
        format!("{} faster, a cache may have answered", percent(differ))
    } else if differ < -SLOPE {
        format!("{} slower, before it was steady", percent(-differ))
    } else {
        "it was not steady yet".to_owned()
    };
    Some(format!("{what}: {which}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Pair, PairRate, SmallFiles, Subject, Together, Zone};
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
    fn samples_as_fast_as_the_others_were_no_cache() {
        let figure = figure(&[101e6, 60e6, 140e6], true);
        let said = told("reading", &(&figure).into(), rate);
        let text = "reading: the first 3 samples were cut: it was not steady yet";
        assert_eq!(said.as_deref(), Some(text));
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
            let sample = |bytes: &u64| Sample {
                bytes: *bytes,
                seconds: 1.0,
                ..Sample::default()
            };
            Ok::<_, Error>(rates.get(number - 1).map(sample))
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
        assert_eq!(taken(&wild[..5], 99), wild[..5], "there are no more");
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
                    Ok(Some(Sample::default()))
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

    #[test]
    fn all_at_once_pairs_and_small_files_are_judged_as_well() {
        let step = |count: usize, steady: bool| TogetherStep {
            count,
            rate_min: 50e6,
            rate_max: 200e6,
            samples: vec![100e6; 9],
            steady,
            ..TogetherStep::default()
        };
        let mut report = Report {
            subjects: vec![Subject {
                small: Some(SmallFiles {
                    rate: 100.0,
                    rate_min: 60.4,
                    rate_max: 150.0,
                    samples: vec![60.4, 100.0, 150.0],
                    ..SmallFiles::default()
                }),
                ..Subject::default()
            }],
            together: Some(Together {
                steps: vec![step(1, true), step(2, false), step(4, false)],
                ..Together::default()
            }),
            pair: Some(Pair {
                hashed: Some(PairRate {
                    rate: 100e6,
                    cut: vec![150e6],
                    steady: true,
                    ..PairRate::default()
                }),
                unhashed: Some(PairRate {
                    rate_min: 90e6,
                    rate_max: 130e6,
                    samples: vec![90e6; 9],
                    ..PairRate::default()
                }),
                ..Pair::default()
            }),
            ..Report::default()
        };
        tell(&mut report);
        assert_eq!(
            report.subjects[0].warnings,
            [
                "reading small files never got steady: its 3 samples go from 60 files/s to 150 files/s"
            ]
        );
        assert_eq!(
            report.warnings,
            [
                "reading together never got steady with 2 and 4 drives: with 4, the 9 samples go from \
                 50.0 MB/s to 200 MB/s"
            ]
        );
        assert_eq!(
            report.pair.unwrap().warnings,
            [
                "all into it, hashed: the first sample was cut: 50% faster, a cache may have answered",
                "all into it, without a hash never got steady: its 9 samples go from 90.0 MB/s to \
                 130 MB/s",
            ]
        );
        let alone = of_steps(&[step(1, false)]).unwrap();
        assert_eq!(
            alone,
            "reading together never got steady with 1 drive: its 9 samples go from 50.0 MB/s to 200 MB/s"
        );
    }

    #[test]
    fn flash_is_told_to_have_a_faster_part_however_much_was_written() {
        let drive = |rotational: bool| DriveFacts {
            rotational: Some(rotational),
            ..DriveFacts::default()
        };
        for bytes in [96_000_000, 8_000_000_000] {
            let written = Measure {
                bytes,
                ..figure(&[], true)
            };
            let said = of_write(&written, &[drive(true), drive(false)]);
            let megabytes = bytes / 1_000_000;
            assert_eq!(
                said,
                [format!(
                    "writing: {megabytes} MB were written for the figure: a faster cache inside a flash \
                     drive may hold as much, and what comes after it is slower"
                )]
            );
            let said = of_write(&written, &[drive(true)]);
            assert_eq!(said.is_empty(), bytes == 8_000_000_000, "{said:?}");
        }
    }
}
