//! Two benches side by side: what changed, and whether it changed by more than samples differ.

mod again;
#[cfg(test)]
mod tests;
mod told;
mod took;
mod unlike;
#[cfg(test)]
mod unlike_tests;

use serde::{Deserialize, Serialize};

use self::again::{
    Matched, label, matched, of_sources, of_step, of_subject, of_target, sources, took_part,
};
pub use self::unlike::notes;
use self::unlike::{any_unlike, backends_differ, is_unlike};
use super::report::{Knee, Measure, Pair, PairRate, Report, SmallFiles, Subject, TogetherStep};

/// Less than this share of difference is none.
const SAME: f64 = 0.05;
/// The same of latencies: 10%, and a thirty-second, the width of a bucket they are counted in, which
/// two that are alike may be apart. Those of one drive differ more from run to run than its rates.
const LATENCY_SAME: f64 = 0.10 + 1.0 / 32.0;
/// Of what was measured so differently that neither is more or less than the other.
const NOT_COMPARABLE: &str = "not-comparable";

/// One figure of both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Serial number, or the name where there is none.
    pub drive: String,
    /// The path, of what is not the whole of one drive.
    pub path: Option<String>,
    /// 1; 2, 3 ... of what is alike in all that a report says of it, in the order of the report.
    pub nth: usize,
    /// `read`, `read-p50`, `read-p99`, `read-outer`, `small-files`, `write`, `together-8`,
    /// `pair-hashed` ...
    pub what: String,
    /// `bytes/s`, `files/s`; `ns` of a latency.
    pub unit: String,
    /// Median before, or that latency; `None` when there was no such figure.
    pub before: Option<f64>,
    /// Median after.
    pub after: Option<f64>,
    /// After over before; `None` of what is not comparable.
    pub ratio: Option<f64>,
    /// `same`, `faster`, `slower`, `only-before`, `only-after`, `not-comparable`.
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
/// are the same ones, and copies only into the same target. Of what was read in two ways, or measured
/// by two kinds of calls, or may have come from memory, neither is called slower.
pub fn compare(before: &Report, after: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, nth) in matched(&before.subjects, &after.subjects, of_subject) {
        subject_rows(&mut rows, pair, nth);
    }
    together_rows(&mut rows, before, after);
    pair_rows(&mut rows, before, after);
    if backends_differ(before, after) {
        rows = rows.into_iter().map(Row::not_comparable).collect();
    }
    rows
}

impl Row {
    /// Takes the judgement out of a row of both.
    fn not_comparable(self) -> Self {
        if self.before.is_none() || self.after.is_none() {
            return self;
        }
        Self {
            ratio: None,
            verdict: NOT_COMPARABLE.to_owned(),
            ..self
        }
    }

    fn not_comparable_if(self, unlike: bool) -> Self {
        if unlike { self.not_comparable() } else { self }
    }
}

fn subject_rows(rows: &mut Vec<Row>, subjects: Matched<'_, Subject>, nth: usize) {
    let Some(named) = subjects.either() else {
        return;
    };
    let (drive, path) = label(named);
    let both = subjects.before.zip(subjects.after);
    let unlike = both.is_some_and(|(before, after)| is_unlike(before, after));
    let mut add = |row: Option<Row>, unlike: bool| {
        rows.extend(row.map(|row| Row {
            path: path.clone(),
            nth,
            ..row.not_comparable_if(unlike)
        }));
    };
    let picked = |pick: &dyn Fn(&Subject) -> Option<Figure>| {
        (
            subjects.before.and_then(pick),
            subjects.after.and_then(pick),
        )
    };
    let read = picked(&|subject| subject.read.as_ref().map(Figure::from));
    add(row(&drive, "read", read), unlike);
    for (what, share) in took::PERCENTILES {
        let took = picked(&|subject| took::figure(subject.read.as_ref()?, share));
        add(took_row(&drive, what, took), unlike);
    }
    for zone in ["outer", "middle", "inner"] {
        let read = picked(&|subject| {
            let found = subject.zones.iter().find(|found| found.name == zone);
            found.map(|found| Figure::from(&found.read))
        });
        add(row(&drive, &format!("read-{zone}"), read), unlike);
    }
    let small = picked(&|subject| subject.small.as_ref().map(Figure::from));
    let small = row(&drive, "small-files", small).map(|row| Row {
        unit: "files/s".to_owned(),
        ..row
    });
    add(small, unlike);
    // What is written goes to the drive, however it is read.
    let write = picked(&|subject| subject.write.as_ref().map(Figure::from));
    add(row(&drive, "write", write), false);
}

/// Returns the row of a latency that both have.
fn took_row(drive: &str, what: &str, both: (Option<Figure>, Option<Figure>)) -> Option<Row> {
    let verdict = took::judge(both.0?, both.1?);
    let row = row(drive, what, both)?;
    let row = Row {
        unit: "ns".to_owned(),
        verdict: verdict.to_owned(),
        ..row
    };
    Some(row.not_comparable_if(verdict == NOT_COMPARABLE))
}

fn together_rows(rows: &mut Vec<Row>, before: &Report, after: &Report) {
    let steps = |report: &Report| -> Vec<_> {
        let steps = report.together.iter().flat_map(|together| &together.steps);
        steps
            .map(|step| (of_step(report, step), step.clone()))
            .collect()
    };
    let (was, is) = (steps(before), steps(after));
    let mut pairs = matched(&was, &is, |(key, _)| key.clone());
    let count = |pair: &Matched<'_, (_, TogetherStep)>| pair.either().map(|(_, step)| step.count);
    pairs.sort_by_key(|(pair, _)| count(pair));
    for (pair, nth) in pairs {
        let what = format!("together-{}", count(&pair).unwrap_or_default());
        let pick = |(_, step): &(_, TogetherStep)| Figure::from(step);
        let both = (pair.before.map(pick), pair.after.map(pick));
        let unlike = pair.before.zip(pair.after).is_some_and(|(was, is)| {
            let was = took_part(before, &was.1.subjects, was.1.count);
            let is = took_part(after, &is.1.subjects, is.1.count);
            any_unlike(&was, &is)
        });
        rows.extend(row("all", &what, both).map(|row| Row {
            nth,
            ..row.not_comparable_if(unlike)
        }));
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
    let unlike = alike && any_unlike(&sources(before), &sources(after));
    let hashed = |pair: &Pair| pair.hashed.as_ref().map(Figure::from);
    let unhashed = |pair: &Pair| pair.unhashed.as_ref().map(Figure::from);
    for (pair, _) in matched(was, is, of_target) {
        let parts = if alike { vec![pair] } else { pair.apart() };
        for (what, pick) in [
            ("pair-hashed", &hashed as &dyn Fn(&Pair) -> Option<Figure>),
            ("pair-unhashed", &unhashed),
        ] {
            for part in &parts {
                let row = target_row(what, *part, pick);
                rows.extend(row.map(|row| row.not_comparable_if(unlike)));
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
        unit: "bytes/s".to_owned(),
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
