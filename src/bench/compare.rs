//! Two benches side by side: what changed, and whether it changed by more than samples differ.

use serde::{Deserialize, Serialize};

use super::report::{Measure, Report, Subject};

/// Less than this share of difference is none.
const SAME: f64 = 0.05;

/// One figure of both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Serial number, or the name where there is none.
    pub drive: String,
    /// `read`, `read-outer`, `small-files`, `write`, `together-8`, `pair-hashed` ...
    pub what: String,
    /// Median before, bytes (or files) a second; `None` when there was no such figure.
    pub before: Option<f64>,
    /// Median after.
    pub after: Option<f64>,
    /// After over before.
    pub ratio: Option<f64>,
    /// `same`, `faster`, `slower`, `only-before`, `only-after`.
    pub verdict: String,
}

/// A figure with its extremes.
#[derive(Debug, Clone, Copy)]
struct Figure {
    rate: f64,
    least: f64,
    most: f64,
}

/// Returns a row for each figure that either of them has. Drives are known again by their serial
/// numbers, and else by their names.
pub fn compare(before: &Report, after: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for subject in &before.subjects {
        let other = after
            .subjects
            .iter()
            .find(|other| key(other) == key(subject));
        subject_rows(&mut rows, key(subject), Some(subject), other);
    }
    for subject in &after.subjects {
        if !before
            .subjects
            .iter()
            .any(|other| key(other) == key(subject))
        {
            subject_rows(&mut rows, key(subject), None, Some(subject));
        }
    }
    together_rows(&mut rows, before, after);
    pair_rows(&mut rows, before, after);
    rows
}

/// What tells a subject from others.
fn key(subject: &Subject) -> &str {
    let one = subject.drives.first().filter(|_| subject.drives.len() == 1);
    one.and_then(|drive| drive.identity())
        .unwrap_or(&subject.name)
}

fn subject_rows(
    rows: &mut Vec<Row>,
    drive: &str,
    before: Option<&Subject>,
    after: Option<&Subject>,
) {
    let both =
        |pick: &dyn Fn(&Subject) -> Option<Figure>| (before.and_then(pick), after.and_then(pick));
    push(rows, drive, "read", both(&|s| s.read.as_ref().map(figure)));
    for zone in ["outer", "middle", "inner"] {
        let pick = |subject: &Subject| {
            let found = subject.zones.iter().find(|found| found.name == zone);
            found.map(|found| figure(&found.read))
        };
        push(rows, drive, &format!("read-{zone}"), both(&pick));
    }
    let small = |subject: &Subject| {
        subject.small.as_ref().map(|small| Figure {
            rate: small.rate,
            least: small.rate_min,
            most: small.rate_max,
        })
    };
    push(rows, drive, "small-files", both(&small));
    push(
        rows,
        drive,
        "write",
        both(&|s| s.write.as_ref().map(figure)),
    );
}

fn together_rows(rows: &mut Vec<Row>, before: &Report, after: &Report) {
    let steps = |report: &Report| {
        let steps = report
            .together
            .iter()
            .flat_map(|together| together.steps.clone());
        steps.collect::<Vec<_>>()
    };
    let (before, after) = (steps(before), steps(after));
    let mut counts: Vec<usize> = before.iter().chain(&after).map(|step| step.count).collect();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        let of = |steps: &[super::report::TogetherStep]| {
            let step = steps.iter().find(|step| step.count == count);
            step.map(|step| Figure {
                rate: step.rate,
                least: step.rate_min,
                most: step.rate_max,
            })
        };
        push(
            rows,
            "all",
            &format!("together-{count}"),
            (of(&before), of(&after)),
        );
    }
}

fn pair_rows(rows: &mut Vec<Row>, before: &Report, after: &Report) {
    let target = |report: &Report| report.pair.as_ref().map(|pair| pair.target.clone());
    let name = target(after).or_else(|| target(before)).unwrap_or_default();
    let write = |report: &Report| Some(figure(report.pair.as_ref()?.write.as_ref()?));
    push(rows, &name, "target-write", (write(before), write(after)));
    let reached = |report: &Report, hashed: bool| {
        let pair = report.pair.as_ref()?;
        let reached = if hashed { &pair.hashed } else { &pair.unhashed };
        let reached = reached.as_ref()?;
        Some(Figure {
            rate: reached.rate,
            least: reached.rate_min,
            most: reached.rate_max,
        })
    };
    for (what, hashed) in [("pair-hashed", true), ("pair-unhashed", false)] {
        push(
            rows,
            &name,
            what,
            (reached(before, hashed), reached(after, hashed)),
        );
    }
}

fn figure(measure: &Measure) -> Figure {
    Figure {
        rate: measure.rate,
        least: measure.rate_min,
        most: measure.rate_max,
    }
}

fn push(rows: &mut Vec<Row>, drive: &str, what: &str, both: (Option<Figure>, Option<Figure>)) {
    let verdict = match both {
        (None, None) => return,
        (Some(_), None) => "only-before",
        (None, Some(_)) => "only-after",
        (Some(before), Some(after)) => judge(before, after),
    };
    let (before, after) = both;
    let ratio = before
        .zip(after)
        .filter(|(before, _)| before.rate > 0.0)
        .map(|(before, after)| after.rate / before.rate);
    rows.push(Row {
        drive: drive.to_owned(),
        what: what.to_owned(),
        before: before.map(|figure| figure.rate),
        after: after.map(|figure| figure.rate),
        ratio,
        verdict: verdict.to_owned(),
    });
}

/// Slower or faster only when no sample of one is within the samples of the other.
fn judge(before: Figure, after: Figure) -> &'static str {
    let apart = (after.rate - before.rate).abs() > before.rate * SAME;
    if apart && after.most < before.least {
        "slower"
    } else if apart && after.least > before.most {
        "faster"
    } else {
        "same"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{DriveFacts, Together, TogetherStep};

    fn subject(name: &str, serial: Option<&str>, rates: [f64; 3]) -> Subject {
        Subject {
            name: name.to_owned(),
            drives: vec![DriveFacts {
                serial: serial.map(str::to_owned),
                ..DriveFacts::default()
            }],
            read: Some(Measure {
                rate_min: rates[0],
                rate: rates[1],
                rate_max: rates[2],
                ..Measure::default()
            }),
            ..Subject::default()
        }
    }

    fn report(subjects: &[Subject]) -> Report {
        Report {
            subjects: subjects.to_vec(),
            ..Report::default()
        }
    }

    fn verdicts(before: &[Subject], after: &[Subject]) -> Vec<(String, String)> {
        let rows = compare(&report(before), &report(after)).into_iter();
        rows.map(|row| (row.drive, row.verdict)).collect()
    }

    fn said(drive: &str, verdict: &str) -> (String, String) {
        (drive.to_owned(), verdict.to_owned())
    }

    #[test]
    fn a_drive_is_known_again_in_another_slot() {
        let before = [subject("sda", Some("Z1"), [99.0, 100.0, 101.0])];
        let after = [
            subject("sda", Some("Z2"), [99.0, 100.0, 101.0]),
            subject("sdb", Some("Z1"), [49.0, 50.0, 51.0]),
        ];
        assert_eq!(
            verdicts(&before, &after),
            [said("Z1", "slower"), said("Z2", "only-after")]
        );
        assert_eq!(
            verdicts(&after, &before),
            [said("Z2", "only-before"), said("Z1", "faster")]
        );
    }

    #[test]
    fn what_samples_cover_is_no_change() {
        let at = |rates| [subject("sda", None, rates)];
        let before = at([90.0, 100.0, 110.0]);
        assert_eq!(
            verdicts(&before, &at([85.0, 92.0, 95.0])),
            [said("sda", "same")]
        );
        assert_eq!(
            verdicts(&before, &at([70.0, 75.0, 89.0])),
            [said("sda", "slower")]
        );
        let exact = at([100.0, 100.0, 100.0]);
        let nearly = at([97.0, 97.0, 97.0]);
        assert_eq!(
            verdicts(&exact, &nearly),
            [said("sda", "same")],
            "3% is nothing"
        );
    }

    #[test]
    fn steps_are_compared_by_their_count() {
        let with = |rate: f64, count: usize| Report {
            together: Some(Together {
                steps: vec![TogetherStep {
                    count,
                    rate,
                    rate_min: rate,
                    rate_max: rate,
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            ..Report::default()
        };
        let rows = compare(&with(100.0, 4), &with(200.0, 4));
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].what.as_str(), rows[0].ratio),
            ("together-4", Some(2.0))
        );
        assert_eq!(compare(&with(100.0, 4), &with(200.0, 8)).len(), 2);
    }
}
