//! Two benches side by side: what changed, and whether it changed by more than samples differ.

mod again;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::again::{Matched, label, matched, of_sources, of_step, of_subject, of_target};
use super::report::{Knee, Measure, Pair, PairRate, Report, SmallFiles, Subject, TogetherStep};

/// Less than this share of difference is none.
const SAME: f64 = 0.05;

/// One figure of both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Serial number, or the name where there is none.
    pub drive: String,
    /// The path, of what is not the whole of one drive.
    pub path: Option<String>,
    /// 1; 2, 3 ... of what is alike in all that a report says of it, in the order of the report.
    pub nth: usize,
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
    /// The requests it was measured with before; `None` of several drives and of small files.
    pub requests_before: Option<Knee>,
    /// Those after.
    pub requests_after: Option<Knee>,
}

/// A figure with its extremes, and with the requests behind it if they were all alike.
#[derive(Debug, Clone, Copy)]
struct Figure {
    rate: f64,
    least: f64,
    most: f64,
    requests: Option<Knee>,
}

impl From<&Measure> for Figure {
    fn from(measure: &Measure) -> Self {
        Self {
            rate: measure.rate,
            least: measure.rate_min,
            most: measure.rate_max,
            requests: Some(Knee {
                block: measure.block,
                depth: measure.depth,
            }),
        }
    }
}

impl From<&SmallFiles> for Figure {
    fn from(small: &SmallFiles) -> Self {
        Self::of_many(small.rate, small.rate_min, small.rate_max)
    }
}

impl From<&TogetherStep> for Figure {
    fn from(step: &TogetherStep) -> Self {
        Self::of_many(step.rate, step.rate_min, step.rate_max)
    }
}

impl From<&PairRate> for Figure {
    fn from(reached: &PairRate) -> Self {
        Self::of_many(reached.rate, reached.rate_min, reached.rate_max)
    }
}

impl Figure {
    fn of_many(rate: f64, least: f64, most: f64) -> Self {
        Self {
            rate,
            least,
            most,
            requests: None,
        }
    }
}

/// Returns a row for each figure that either of them has.
///
/// A drive is known again by its serial number and size, in any slot; one without a number by its
/// name. What is not the whole of one drive must have the same path as well. What still cannot be
/// told apart is matched in the order of the reports. Several at once are compared only when they
/// are the same ones, and copies only into the same target.
pub fn compare(before: &Report, after: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, nth) in matched(&before.subjects, &after.subjects, of_subject) {
        subject_rows(&mut rows, pair, nth);
    }
    together_rows(&mut rows, before, after);
    pair_rows(&mut rows, before, after);
    rows
}

fn subject_rows(rows: &mut Vec<Row>, subjects: Matched<'_, Subject>, nth: usize) {
    let Some(named) = subjects.either() else {
        return;
    };
    let (drive, path) = label(named);
    let mut push = |what: &str, pick: &dyn Fn(&Subject) -> Option<Figure>| {
        let both = (
            subjects.before.and_then(pick),
            subjects.after.and_then(pick),
        );
        rows.extend(row(&drive, what, both).map(|row| Row {
            path: path.clone(),
            nth,
            ..row
        }));
    };
    push("read", &|subject| subject.read.as_ref().map(Figure::from));
    for zone in ["outer", "middle", "inner"] {
        push(&format!("read-{zone}"), &|subject| {
            let found = subject.zones.iter().find(|found| found.name == zone);
            found.map(|found| Figure::from(&found.read))
        });
    }
    push("small-files", &|subject| {
        subject.small.as_ref().map(Figure::from)
    });
    push("write", &|subject| subject.write.as_ref().map(Figure::from));
}

fn together_rows(rows: &mut Vec<Row>, before: &Report, after: &Report) {
    let steps = |report: &Report| -> Vec<_> {
        let steps = report.together.iter().flat_map(|together| &together.steps);
        steps
            .map(|step| (of_step(report, step), step.clone()))
            .collect()
    };
    let (before, after) = (steps(before), steps(after));
    let mut pairs = matched(&before, &after, |(key, _)| key.clone());
    let count = |pair: &Matched<'_, (_, TogetherStep)>| pair.either().map(|(_, step)| step.count);
    pairs.sort_by_key(|(pair, _)| count(pair));
    for (pair, nth) in pairs {
        let what = format!("together-{}", count(&pair).unwrap_or_default());
        let pick = |(_, step): &(_, TogetherStep)| Figure::from(step);
        let both = (pair.before.map(pick), pair.after.map(pick));
        rows.extend(row("all", &what, both).map(|row| Row { nth, ..row }));
    }
}

fn pair_rows(rows: &mut Vec<Row>, before: &Report, after: &Report) {
    let (was, is) = (before.pair.as_slice(), after.pair.as_slice());
    let write = |pair: &Pair| pair.write.as_ref().map(Figure::from);
    for (pair, _) in matched(was, is, of_target) {
        rows.extend(target_row("target-write", pair, &write));
    }
    // What a copy reaches is as much the doing of its sources.
    let (from, now_from) = (of_sources(before), of_sources(after));
    let alike = from == now_from;
    let hashed = |pair: &Pair| pair.hashed.as_ref().map(Figure::from);
    let unhashed = |pair: &Pair| pair.unhashed.as_ref().map(Figure::from);
    for (pair, _) in matched(was, is, of_target) {
        let parts = if alike { vec![pair] } else { pair.apart() };
        for (what, pick) in [
            ("pair-hashed", &hashed as &dyn Fn(&Pair) -> Option<Figure>),
            ("pair-unhashed", &unhashed),
        ] {
            for part in &parts {
                rows.extend(target_row(what, *part, pick));
            }
        }
    }
}

fn target_row(
    what: &str,
    pair: Matched<'_, Pair>,
    pick: &dyn Fn(&Pair) -> Option<Figure>,
) -> Option<Row> {
    let both = (pair.before.and_then(pick), pair.after.and_then(pick));
    row(&pair.either()?.target, what, both)
}

/// Returns the row of a figure; `None` when neither has it.
fn row(drive: &str, what: &str, both: (Option<Figure>, Option<Figure>)) -> Option<Row> {
    let verdict = match both {
        (None, None) => return None,
        (Some(_), None) => "only-before",
        (None, Some(_)) => "only-after",
        (Some(before), Some(after)) => judge(before, after),
    };
    let (before, after) = both;
    let ratio = before
        .zip(after)
        .filter(|(before, _)| before.rate > 0.0)
        .map(|(before, after)| after.rate / before.rate);
    Some(Row {
        drive: drive.to_owned(),
        path: None,
        nth: 1,
        what: what.to_owned(),
        before: before.map(|figure| figure.rate),
        after: after.map(|figure| figure.rate),
        ratio,
        verdict: verdict.to_owned(),
        requests_before: before.and_then(|figure| figure.requests),
        requests_after: after.and_then(|figure| figure.requests),
    })
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
