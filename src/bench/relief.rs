//! Those that hold each other back. Pure.

use super::bend::STRAIGHT;
use super::estimate::{Seconds, held};
use super::report::Report;
use super::stats::range;

/// Those that hold each other back when they are read at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Group {
    /// Bytes on each of them.
    pub(crate) holds: Vec<f64>,
    /// Bytes a second that they reach at once: usual, fastest, slowest.
    pub(crate) rate: f64,
    rate_max: f64,
    rate_min: f64,
}

impl Group {
    /// How long what they share is busy with what is on them.
    pub(crate) fn seconds(&self) -> Seconds {
        let amount = self.holds.iter().sum();
        Seconds::of(amount, self.rate, self.rate_max, self.rate_min)
    }
}

/// Returns those that share what bends the curve, of the last step: it counts for what these hold.
/// `None` when nothing bends it: then their rate at once is that of one place of each drive, and no
/// limit.
pub(crate) fn shared(report: &Report) -> Option<Group> {
    let together = report.together.as_ref()?;
    together.cause.as_ref()?;
    let step = together.steps.last()?;
    let named = &together.cause_subjects;
    let is_member = |name: &String| named.is_empty() || named.contains(name);
    let members = || {
        let all = step.subjects.iter().enumerate();
        all.filter(|(_, name)| is_member(name))
    };
    let alone = |name: &String| {
        let subject = report.subjects.iter().find(|subject| subject.name == *name);
        subject.and_then(|subject| Some(subject.read.as_ref()?.rate))
    };
    let alone: f64 = members().filter_map(|(_, name)| alone(name)).sum();
    let each = members().filter_map(|(index, _)| step.each.get(index));
    let rate: f64 = each.sum();
    if rate >= alone * STRAIGHT {
        return None;
    }
    let moments = (0..step.samples.len()).map(|moment| {
        let samples = members().filter_map(|(index, _)| step.each_samples.get(index)?.get(moment));
        samples.sum::<f64>()
    });
    let moments: Vec<f64> = moments.filter(|sum| *sum > 0.0).collect();
    let (rate_min, rate_max) = if moments.is_empty() {
        (rate, rate)
    } else {
        range(&moments)
    };
    let names: Vec<&String> = members().map(|(_, name)| name).collect();
    Some(Group {
        holds: held(report, |name| names.iter().any(|member| *member == name)),
        rate,
        rate_max,
        rate_min,
    })
}
