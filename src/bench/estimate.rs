//! How long a copy of what is on the drives would take. Pure: a report in, seconds out.

use super::report::{Estimate, Report, Subject};

/// The inner edge of a spinning drive gives about half of its outer one. Where zones were not
/// measured, the slowest case counts with that.
const INNER: f64 = 0.5;

/// Seconds: by the medians, at best, at worst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Seconds {
    usual: f64,
    best: f64,
    worst: f64,
}

impl Seconds {
    fn of(amount: f64, usual: f64, best: f64, worst: f64) -> Self {
        let over = |rate: f64| if rate > 0.0 { amount / rate } else { 0.0 };
        Self {
            usual: over(usual),
            best: over(best),
            worst: over(worst),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            usual: self.usual + other.usual,
            best: self.best + other.best,
            worst: self.worst + other.worst,
        }
    }
}

/// Returns the estimate; `None` when nothing is known of what is on the subjects, or of how fast
/// they are.
///
/// Drives are read side by side, so the slowest of them counts, or what all of them together get
/// through a shared link, or what the target takes, whichever is longest.
pub(crate) fn estimate(report: &Report) -> Option<Estimate> {
    let mut longest: Option<(String, Seconds)> = None;
    let (mut bytes, mut files) = (0_u64, 0_u64);
    let mut consider = |name: &str, seconds: Seconds| {
        if longest
            .as_ref()
            .is_none_or(|(_, most)| seconds.usual > most.usual)
        {
            longest = Some((name.to_owned(), seconds));
        }
    };
    let mut guessed = Vec::new();
    for subject in &report.subjects {
        let (Some(holds), Some(seconds)) = (subject.holds, alone(subject)) else {
            continue;
        };
        bytes = bytes.saturating_add(holds.bytes);
        files = files.saturating_add(holds.files);
        if !holds.counted {
            guessed.push(subject.name.clone());
        }
        consider(&subject.name, seconds);
    }
    if bytes == 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let amount = bytes as f64;
    if let Some(step) = report.together.as_ref().and_then(|t| t.steps.last()) {
        let seconds = Seconds::of(amount, step.rate, step.rate_max, step.rate_min);
        consider("together", seconds);
    }
    if let Some(hashed) = report.pair.as_ref().and_then(|pair| pair.hashed.as_ref()) {
        let seconds = Seconds::of(amount, hashed.rate, hashed.rate_max, hashed.rate_min);
        consider("target", seconds);
    }
    let (limited_by, seconds) = longest?;
    let mut basis = if report.pair.is_some() {
        "drives side by side into the target".to_owned()
    } else {
        "drives side by side, into a target that takes all they give".to_owned()
    };
    if !guessed.is_empty() {
        basis.push_str("; what is in use was taken where files were not counted: ");
        basis.push_str(&super::words::list(&guessed));
    }
    Some(Estimate {
        bytes,
        files,
        seconds: seconds.usual,
        seconds_min: seconds.best,
        seconds_max: seconds.worst,
        limited_by,
        basis,
    })
}

fn alone(subject: &Subject) -> Option<Seconds> {
    let holds = subject.holds?;
    let read = subject.read.as_ref()?;
    let spins = subject
        .drives
        .iter()
        .any(|drive| drive.rotational == Some(true));
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let (bytes, small_files) = (holds.bytes as f64, holds.small_files as f64);
    let seconds = if subject.zones.is_empty() {
        let worst = if spins {
            read.rate_min * INNER
        } else {
            read.rate_min
        };
        Seconds::of(bytes, read.rate, read.rate_max, worst)
    } else {
        let rates: Vec<f64> = subject.zones.iter().map(|zone| zone.read.rate).collect();
        let (slowest, fastest) = super::stats::range(&rates);
        Seconds::of(bytes, super::stats::median(&rates), fastest, slowest)
    };
    let small = subject.small.as_ref().map_or(Seconds::default(), |small| {
        Seconds::of(small_files, small.rate, small.rate_max, small.rate_min)
    });
    Some(seconds.plus(small))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{
        DriveFacts, Holds, Measure, Pair, PairRate, SmallFiles, Together, TogetherStep, Zone,
    };

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    fn reading(rate: f64) -> Measure {
        Measure {
            rate,
            rate_min: rate * 0.8,
            rate_max: rate * 1.25,
            ..Measure::default()
        }
    }

    fn subject(name: &str, bytes: u64, rate: f64) -> Subject {
        Subject {
            name: name.to_owned(),
            read: Some(reading(rate)),
            holds: Some(Holds {
                bytes,
                files: 10,
                small_files: 0,
                counted: true,
            }),
            ..Subject::default()
        }
    }

    #[test]
    fn the_drive_that_takes_longest_decides() {
        let report = Report {
            subjects: vec![subject("a", 1000, 100.0), subject("b", 1000, 10.0)],
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!((found.bytes, found.files), (2000, 20));
        assert_eq!(found.limited_by, "b");
        assert!(close(found.seconds, 100.0));
        assert!(close(found.seconds_min, 80.0) && close(found.seconds_max, 125.0));
    }

    #[test]
    fn a_shared_link_or_the_target_may_take_longer() {
        let mut report = Report {
            subjects: vec![subject("a", 1000, 100.0), subject("b", 1000, 100.0)],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 2,
                    rate: 50.0,
                    rate_min: 40.0,
                    rate_max: 50.0,
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "together");
        assert!(close(found.seconds, 40.0) && close(found.seconds_max, 50.0));
        report.pair = Some(Pair {
            hashed: Some(PairRate {
                rate: 20.0,
                rate_min: 20.0,
                rate_max: 20.0,
                ..PairRate::default()
            }),
            ..Pair::default()
        });
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "target");
        assert!(close(found.seconds, 100.0));
    }

    #[test]
    fn spinning_drives_slow_down_towards_the_middle() {
        let mut spinning = subject("a", 1000, 100.0);
        spinning.drives = vec![DriveFacts {
            rotational: Some(true),
            ..DriveFacts::default()
        }];
        let of = |subject: &Subject| {
            estimate(&Report {
                subjects: vec![subject.clone()],
                ..Report::default()
            })
            .unwrap()
        };
        assert!(
            close(of(&spinning).seconds_max, 25.0),
            "half of the slowest sample"
        );
        spinning.zones = [("outer", 100.0), ("middle", 80.0), ("inner", 50.0)]
            .map(|(name, rate)| Zone {
                name: name.to_owned(),
                at: 0,
                read: reading(rate),
            })
            .to_vec();
        let found = of(&spinning);
        assert!(close(found.seconds, 12.5) && close(found.seconds_max, 20.0));
    }

    #[test]
    fn small_files_cost_time_beside_their_bytes() {
        let mut many = subject("a", 1000, 100.0);
        many.holds.as_mut().unwrap().small_files = 500;
        many.small = Some(SmallFiles {
            rate: 50.0,
            rate_min: 50.0,
            rate_max: 50.0,
            ..SmallFiles::default()
        });
        let report = Report {
            subjects: vec![many],
            ..Report::default()
        };
        assert!(close(estimate(&report).unwrap().seconds, 20.0));
    }

    #[test]
    fn nothing_known_is_no_estimate() {
        let mut unknown = subject("a", 0, 100.0);
        assert!(estimate(&Report::default()).is_none());
        unknown.holds = None;
        let report = Report {
            subjects: vec![unknown],
            ..Report::default()
        };
        assert!(estimate(&report).is_none());
    }
}
