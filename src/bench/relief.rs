//! Those that hold each other back, and what more links would save them. Pure.

use super::bend::STRAIGHT;
use super::estimate::held;
use super::report::Report;
use super::stats::{AS_GOOD, range};
use super::takes::{Seconds, turns};
use super::words::{number, time};

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
/// limit. Nor is what several give that are on one drive: a copy reads them one after the other.
pub(crate) fn shared(report: &Report) -> Option<Group> {
    let together = report.together.as_ref()?;
    if together.cause.as_ref()? == "drive" && together.cause_name.is_some() {
        return None;
    }
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

/// Returns what more links like a shared one would save of the estimate: `two more such links would
/// save 9 h`. `None` where nothing is known of what is on the drives, or something else takes as
/// long.
pub(crate) fn relief(report: &Report) -> Option<String> {
    let estimate = report.estimate.as_ref()?;
    let group = shared(report)?;
    let drives = turns(report).into_iter().map(|turns| turns.seconds.usual);
    let next = drives.fold(0.0, f64::max);
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let target = target_rate(report).map_or(0.0, |rate| estimate.bytes as f64 / rate);
    let (more, saved) = more_links(&group.holds, group.rate, next.max(target))?;
    let links = if more == 1 { "link" } else { "links" };
    Some(format!(
        "{} more such {links} would save {}",
        number(more),
        time(saved)
    ))
}

/// What the target takes, once nothing holds back its sources; `None` where it was not measured.
fn target_rate(report: &Report) -> Option<f64> {
    let pair = report.pair.as_ref()?;
    let hashed = pair.hashed.as_ref()?.rate;
    // As much as its sources give through what they share: then they were the limit, not the target.
    let rate = if hashed < super::ingest::source_rate(report) * STRAIGHT {
        hashed
    } else {
        pair.write
            .as_ref()
            .map_or(hashed, |write| write.rate.max(hashed))
    };
    (rate > 0.0).then_some(rate)
}

/// Returns how many further links, each of which carries `rate`, it takes until what a group holds
/// is through in `next` seconds, or nearly so, and the seconds that this saves. The drives are
/// spread over the links by what they hold, the fullest first. `None` when the link is no limit.
fn more_links(holds: &[f64], rate: f64, next: f64) -> Option<(usize, f64)> {
    let with = |more: usize| {
        let mut links = vec![0.0_f64; more + 1];
        let mut drives = holds.to_vec();
        drives.sort_by(|a, b| b.total_cmp(a));
        for bytes in drives {
            if let Some(least) = links.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *least += bytes;
            }
        }
        // Whatever else takes long does so then as well.
        (links.into_iter().fold(0.0, f64::max) / rate).max(next)
    };
    if rate <= 0.0 || holds.is_empty() {
        return None;
    }
    // No more links than drives.
    let most = holds.len() - 1;
    let (now, best) = (with(0), with(most));
    if best >= now * AS_GOOD {
        return None;
    }
    let more = (1..=most).find(|more| with(*more) * AS_GOOD <= best)?;
    Some((more, now - with(more)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{
        Estimate, Holds, Measure, Pair, PairRate, Subject, Together, TogetherStep,
    };

    fn is(found: Option<(usize, f64)>, more: usize, saved: f64) {
        let (links, seconds) = found.unwrap();
        assert_eq!(links, more);
        assert!((seconds - saved).abs() < 1e-6, "{seconds}");
    }

    #[test]
    fn so_many_links_that_they_are_no_limit_any_more() {
        // Eight drives that hold 4 TB each, through 600 MB/s: 53,333 s. With three links, three of
        // them on one: 20,000 s, as long as each takes by itself.
        is(more_links(&[4e12; 8], 600e6, 20_000.0), 2, 100_000.0 / 3.0);
        // The target would take 40,000 s: one more does it.
        is(more_links(&[4e12; 8], 600e6, 40_000.0), 1, 40_000.0 / 3.0);
        assert_eq!(more_links(&[4e12; 8], 600e6, 60_000.0), None, "no limit");
        assert_eq!(more_links(&[4e12; 8], 600e6, 53_000.0), None, "hardly one");
    }

    #[test]
    fn a_drive_is_on_one_link() {
        // 600 bytes of 800 are on one of three: 80 s, then 60 s, whatever more there is.
        is(more_links(&[100.0, 600.0, 100.0], 10.0, 5.0), 1, 20.0);
        assert_eq!(more_links(&[800.0], 10.0, 5.0), None);
        assert_eq!(more_links(&[], 10.0, 5.0), None);
        assert_eq!(more_links(&[800.0, 800.0], 0.0, 5.0), None);
    }

    fn shelf() -> Report {
        let names: Vec<String> = (0..8).map(|n| format!("sd{n}")).collect();
        let subject = |name: &String| Subject {
            name: name.clone(),
            read: Some(Measure {
                rate: 200e6,
                ..Measure::default()
            }),
            holds: Some(Holds {
                bytes: 4_000_000_000_000,
                ..Holds::default()
            }),
            ..Subject::default()
        };
        Report {
            subjects: names.iter().map(subject).collect(),
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 8,
                    rate: 600e6,
                    alone: 1600e6,
                    each: vec![75e6; 8],
                    subjects: names.clone(),
                    ..TogetherStep::default()
                }],
                cause: Some("link".to_owned()),
                cause_subjects: names,
                ..Together::default()
            }),
            estimate: Some(Estimate {
                bytes: 32_000_000_000_000,
                ..Estimate::default()
            }),
            ..Report::default()
        }
    }

    #[test]
    fn what_links_would_save_is_said_in_hours() {
        let mut report = shelf();
        let told = |report: &Report| relief(report).unwrap_or_default();
        assert_eq!(told(&report), "two more such links would save 9 h");
        let pair = |hashed: f64, write: f64| {
            Some(Pair {
                hashed: Some(PairRate {
                    rate: hashed,
                    ..PairRate::default()
                }),
                write: Some(Measure {
                    rate: write,
                    ..Measure::default()
                }),
                ..Pair::default()
            })
        };
        // The pair went through the same link: what the target takes counts.
        report.pair = pair(590e6, 800e6);
        assert_eq!(told(&report), "one more such link would save 4 h");
        report.pair = pair(590e6, 3e9);
        assert_eq!(told(&report), "two more such links would save 9 h");
        // The target takes less than the link carries.
        report.pair = pair(400e6, 800e6);
        assert_eq!(told(&report), "");
        report.estimate = None;
        assert_eq!(told(&report), "");
    }
}
