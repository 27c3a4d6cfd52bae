//! Many drives at once: 1, 2, 4 ... all of them, each on a thread of its own as in a copy.

use std::sync::Barrier;

use super::alone::{self, Manner};
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::machine::{Ticks, memory_rate};
use super::report::{Knee, Together, TogetherStep};
use super::sample::{Load, Sample, Ties, Way};
use super::stats::{median, range};
use super::subject::Opened;
use crate::buffer::Credits;
use crate::error::Error;
use crate::io::probe::Chosen;
use crate::topology::{Link, LinkKind};

/// Together they should reach this share of their sum alone. Below it, something bends the curve.
const STRAIGHT: f64 = 0.90;
/// A link of which this share is in use is full: protocols take the rest.
const FULL: f64 = 0.75;
/// Processors that are busy for this share of their time are the limit.
const BUSY: f64 = 0.90;
/// A read through memory costs the bus at least one write of it; a copy in memory is a read and a
/// write. Half of what copying reaches is taken for full.
const MEMORY_FULL: f64 = 0.50;

/// A subject that takes part: its place among the subjects, its knee, its rate alone.
#[derive(Debug, Clone, Copy)]
struct Part {
    subject: usize,
    knee: Knee,
    alone: f64,
}

/// Returns 1, 2, 4 ... and `all`.
pub(crate) fn counts(all: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|n| *n < all)
        .collect();
    counts.push(all);
    counts
}

/// What all of them share: memory lent to each, backend, manner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench<'b> {
    pub(crate) credits: &'b [Credits],
    pub(crate) chosen: Chosen,
    pub(crate) manner: &'b Manner,
    pub(crate) ties: &'b Ties,
}

/// Measures all subjects that have a rate. `None` when there are fewer than two.
///
/// # Errors
/// Of the first drive that failed.
pub(crate) fn measure(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    links: &[Link],
    cpus: usize,
    tell: &dyn Fn(&str),
) -> Result<Option<Together>, Error> {
    let parts: Vec<Part> = subjects
        .iter()
        .enumerate()
        .filter_map(|(subject, opened)| {
            let read = opened.report.read.as_ref()?;
            Some(Part {
                subject,
                knee: opened.report.knee?,
                alone: read.rate,
            })
        })
        .collect();
    if parts.len() < 2 {
        return Ok(None);
    }
    let mut together = Together::default();
    for count in counts(parts.len()) {
        if bench.ties.stopped() {
            break;
        }
        tell(&format!("{count} of {} drives at once", parts.len()));
        let Some(chosen) = parts.get(..count) else {
            break;
        };
        if let Some(step) = step(bench, subjects, chosen)? {
            together.steps.push(step);
        }
    }
    if together.steps.is_empty() {
        return Ok(None);
    }
    together.memory_rate = Some(memory_rate(cpus));
    let names: Vec<(String, Vec<String>)> = parts
        .iter()
        .filter_map(|part| subjects.get(part.subject))
        .map(|opened| (opened.report.name.clone(), opened.keys.clone()))
        .collect();
    explain(&mut together, &names, links);
    Ok(Some(together))
}

fn step(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    parts: &[Part],
) -> Result<Option<TogetherStep>, Error> {
    let mut sums = Vec::new();
    let mut each: Vec<Vec<f64>> = vec![Vec::new(); parts.len()];
    let mut busy = Vec::new();
    for _ in 0..bench.manner.repetitions {
        let before = Ticks::now();
        let samples = at_once(bench, subjects, parts)?;
        busy.push(Ticks::now().busy_since(before));
        if bench.ties.stopped() {
            break;
        }
        let rates: Vec<f64> = samples.iter().map(|s| s.rate().unwrap_or(0.0)).collect();
        sums.push(rates.iter().sum());
        for (all, rate) in each.iter_mut().zip(rates) {
            all.push(rate);
        }
    }
    if sums.len() < REPETITIONS_MIN {
        return Ok(None);
    }
    let (rate_min, rate_max) = range(&sums);
    Ok(Some(TogetherStep {
        count: parts.len(),
        rate: median(&sums),
        rate_min,
        rate_max,
        samples: sums,
        alone: parts.iter().map(|part| part.alone).sum(),
        each: each.iter().map(|rates| median(rates)).collect(),
        each_samples: each,
        busy: median(&busy),
    }))
}

/// One sample of each of them at the same time.
fn at_once(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    parts: &[Part],
) -> Result<Vec<Sample>, Error> {
    // Nobody starts before everybody's queue is there.
    let start = Barrier::new(parts.len());
    let taking: Vec<(&mut Opened, Part)> = subjects
        .iter_mut()
        .enumerate()
        .filter_map(|(index, opened)| {
            let part = parts.iter().find(|part| part.subject == index)?;
            Some((opened, *part))
        })
        .collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = taking
            .into_iter()
            .map(|(opened, part)| {
                let start = &start;
                scope.spawn(move || one(bench, opened, part, start))
            })
            .collect();
        let mut samples = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(sample) => samples.push(sample?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(samples)
    })
}

fn one(
    bench: &Bench<'_>,
    opened: &mut Opened,
    part: Part,
    start: &Barrier,
) -> Result<Sample, Error> {
    let loader = bench
        .credits
        .get(part.subject)
        .map(|credits| Loader::new(bench.chosen, credits));
    opened.drop_cached();
    alone::seek(opened);
    start.wait();
    let Some(loader) = loader else {
        return Ok(Sample::default());
    };
    let mut load: Load = bench.manner.load(part.knee, Way::Read);
    if opened.report.access != "direct" {
        load.warm = std::time::Duration::ZERO;
    }
    loader?.sample(&mut opened.cursor, &load, bench.ties)
}

/// Finds where the curve bends, and what bends it.
fn explain(together: &mut Together, names: &[(String, Vec<String>)], links: &[Link]) {
    let Some(bent) = together
        .steps
        .iter()
        .find(|step| step.count > 1 && step.efficiency() < STRAIGHT)
    else {
        return;
    };
    let last_straight = together
        .steps
        .iter()
        .take_while(|step| step.count < bent.count)
        .last();
    together.bend = last_straight.map(|step| step.count);
    let taking = names.get(..bent.count).unwrap_or(names);
    let shares = |link: &Link, keys: &[String]| keys.iter().any(|key| link.drives.contains(key));
    let full = links.iter().filter(|link| {
        let behind: Vec<usize> = taking
            .iter()
            .enumerate()
            .filter(|(_, (_, keys))| shares(link, keys))
            .map(|(index, _)| index)
            .collect();
        let sum: f64 = behind
            .iter()
            .filter_map(|index| bent.each.get(*index))
            .sum();
        #[allow(clippy::cast_precision_loss, reason = "a ceiling is no count")]
        let ceiling = link.ceiling.map(|ceiling| ceiling as f64);
        let is_full = ceiling.is_some_and(|ceiling| sum >= ceiling * FULL);
        behind.len() > 1 && (is_full || link.kind == LinkKind::Backing)
    });
    // The narrowest that is full; a drive that holds images has no ceiling and comes last.
    let culprit = full.min_by_key(|link| link.ceiling.unwrap_or(u64::MAX));
    let memory_full = together
        .memory_rate
        .is_some_and(|rate| bent.rate > rate * MEMORY_FULL);
    let cause = if let Some(link) = culprit {
        together.cause_name = Some(link.name.clone());
        together.cause_ceiling = link.ceiling;
        // All that share it, not only those that were there when it was full.
        let sharing = names.iter().filter(|(_, keys)| shares(link, keys));
        together.cause_subjects = sharing.map(|(name, _)| name.clone()).collect();
        if link.kind == LinkKind::Backing {
            "backing"
        } else {
            "link"
        }
    } else if bent.busy > BUSY {
        "cpu"
    } else if memory_full {
        "memory"
    } else {
        "unknown"
    };
    together.cause = Some(cause.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(count: usize, share: f64, busy: f64) -> TogetherStep {
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let alone = count as f64 * 200e6;
        TogetherStep {
            count,
            rate: alone * share,
            rate_min: alone * share,
            rate_max: alone * share,
            alone,
            each: vec![200e6 * share; count],
            busy,
            ..TogetherStep::default()
        }
    }

    fn names(count: usize) -> Vec<(String, Vec<String>)> {
        (0..count)
            .map(|n| (format!("sd{n}"), vec![format!("sd{n}")]))
            .collect()
    }

    fn link(kind: LinkKind, ceiling: Option<u64>, drives: std::ops::Range<usize>) -> Link {
        Link {
            kind,
            name: "port-0:0".to_owned(),
            also: Vec::new(),
            ceiling,
            drives: drives.map(|n| format!("sd{n}")).collect(),
        }
    }

    fn explained(steps: Vec<TogetherStep>, links: &[Link]) -> Together {
        let mut together = Together {
            steps,
            memory_rate: Some(10e9),
            ..Together::default()
        };
        explain(&mut together, &names(8), links);
        together
    }

    #[test]
    fn the_steps_double_and_end_with_all() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(8), [1, 2, 4, 8]);
        assert_eq!(counts(11), [1, 2, 4, 8, 11]);
    }

    #[test]
    fn a_straight_curve_has_no_cause() {
        let straight = vec![step(1, 1.0, 0.1), step(2, 0.97, 0.1), step(8, 0.93, 0.99)];
        let together = explained(straight, &[link(LinkKind::Sas, Some(1), 0..8)]);
        assert_eq!((together.bend, together.cause), (None, None));
    }

    #[test]
    fn a_full_link_bends_the_curve() {
        let steps = vec![step(1, 1.0, 0.1), step(4, 1.0, 0.1), step(8, 0.7, 0.1)];
        // 8 x 140 MB/s through 1.2 GB/s; one that carries more is not full.
        let links = [
            link(LinkKind::Pci, Some(8_000_000_000), 0..8),
            link(LinkKind::Sas, Some(1_200_000_000), 0..8),
        ];
        let together = explained(steps, &links);
        assert_eq!(together.bend, Some(4));
        assert_eq!(together.cause.as_deref(), Some("link"));
        assert_eq!(together.cause_ceiling, Some(1_200_000_000));
        assert_eq!(together.cause_subjects.len(), 8);
    }

    #[test]
    fn all_that_share_a_link_are_named_though_fewer_filled_it() {
        let steps = vec![step(1, 1.0, 0.1), step(2, 0.5, 0.1), step(8, 0.2, 0.1)];
        let together = explained(steps, &[link(LinkKind::Backing, None, 0..5)]);
        assert_eq!(together.cause_subjects, ["sd0", "sd1", "sd2", "sd3", "sd4"]);
    }

    #[test]
    fn images_on_one_drive_bend_the_curve() {
        let steps = vec![step(1, 1.0, 0.1), step(8, 0.5, 0.1)];
        let together = explained(steps, &[link(LinkKind::Backing, None, 0..8)]);
        assert_eq!(together.cause.as_deref(), Some("backing"));
    }

    #[test]
    fn without_a_link_it_is_processors_or_memory_or_not_known() {
        let cause = |busy: f64, memory: f64| {
            let mut together = Together {
                steps: vec![step(1, 1.0, 0.1), step(8, 0.5, busy)],
                memory_rate: Some(memory),
                ..Together::default()
            };
            explain(
                &mut together,
                &names(8),
                &[link(LinkKind::Sas, Some(9_000_000_000), 0..8)],
            );
            together.cause.unwrap()
        };
        assert_eq!(cause(0.97, 10e9), "cpu");
        assert_eq!(cause(0.5, 1e9), "memory");
        assert_eq!(cause(0.5, 10e9), "unknown");
    }

    #[test]
    fn a_link_counts_with_the_drives_behind_it_alone() {
        // Two of eight drives on a hub cannot fill it, whatever all of them move.
        let steps = vec![step(1, 1.0, 0.1), step(8, 0.6, 0.1)];
        let together = explained(steps, &[link(LinkKind::Usb, Some(500_000_000), 0..2)]);
        assert_eq!(together.cause.as_deref(), Some("unknown"));
    }
}
