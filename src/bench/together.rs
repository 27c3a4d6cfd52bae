//! Many drives at once: 1, 2, 4 ... all of them, each on a thread of its own as in a copy.

use super::alone;
use super::at_once::{Failed, all_of, at_once};
use super::bend::{Part, explain};
use super::load::Loader;
use super::machine::{MemoryRoom, Ticks, memory_rate};
use super::manner::Manner;
use super::report::{Together, TogetherStep};
use super::sample::{Load, Sample, Ties, Way};
use super::settled::settle;
use super::stats::median;
use super::steady::{self, Rated};
use super::subject::Opened;
use crate::buffer::Credits;
use crate::error::Error;
use crate::io::probe::Chosen;
use crate::topology::Link;

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

/// Measures all subjects that have a rate. `None` when there are fewer than two, or no step was
/// whole before a stop. Drives that fail are named in what is returned; the others go on without them.
/// Any other failure ends it.
pub(crate) fn measure(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    links: &[Link],
    room: &MemoryRoom,
    tell: &dyn Fn(&str),
) -> Option<Together> {
    let parts: Vec<Part> = subjects
        .iter()
        .enumerate()
        .filter_map(|(subject, opened)| {
            let read = opened.report.read.as_ref()?;
            Some(Part {
                subject,
                name: opened.report.name.clone(),
                keys: opened.keys.clone(),
                knee: opened.report.knee?,
                alone: read.rate,
            })
        })
        .collect();
    if parts.len() < 2 {
        return None;
    }
    let mut together = Together::default();
    let mut left = parts.clone();
    let mut done = 0;
    let next = |left: usize, done: usize| counts(left).into_iter().find(|count| *count > done);
    while let Some(count) = next(left.len(), done) {
        if bench.ties.stopped() {
            break;
        }
        tell(&format!("{count} of {} drives at once", left.len()));
        let Some(chosen) = left.get(..count) else {
            break;
        };
        match step(bench, subjects, chosen) {
            Ok(step) => {
                together.steps.extend(step);
                done = count;
            }
            Err(failed) if failed.stopped => break,
            Err(failed) => {
                let of_drives = !failed.subjects.is_empty();
                left.retain(|part| !failed.subjects.contains(&part.name));
                leave(subjects.iter_mut(), &failed);
                failed.note(&mut together.error, &mut together.error_subjects);
                if !of_drives {
                    break;
                }
            }
        }
    }
    if together.steps.is_empty() && together.error.is_none() {
        return None;
    }
    // Nobody who has stopped it waits for more.
    if !bench.ties.stopped() {
        together.memory_rate = memory_rate(room);
    }
    explain(&mut together, &parts, links);
    Some(together)
}

/// Leaves those that did not answer: they are asked for nothing more.
pub(crate) fn leave<'o>(subjects: impl Iterator<Item = &'o mut Opened>, failed: &Failed) {
    subjects
        .filter(|opened| failed.silent.contains(&opened.report.name))
        .for_each(Opened::leave);
}

fn step(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    parts: &[Part],
) -> Result<Option<TogetherStep>, Failed> {
    let mut one = || {
        let before = Ticks::now();
        let samples = moment(bench, subjects, parts)?;
        let each = samples.iter().map(|s| s.rate().unwrap_or(0.0)).collect();
        let busy = Ticks::now().busy_since(before);
        Ok(Some(Moment { each, busy }))
    };
    let window = bench.manner.repetitions;
    let moments = steady::take::<_, Failed>(window, bench.ties, &mut one)?;
    Ok(summed(parts, &moments, window))
}

/// What all of them gave at one time.
#[derive(Debug)]
struct Moment {
    each: Vec<f64>,
    busy: f64,
}

impl Rated for Moment {
    fn rate(&self) -> Option<f64> {
        Some(self.each.iter().sum::<f64>()).filter(|sum| *sum > 0.0)
    }
}

/// Returns the step of some moments: of the last `window` of them, if their sums are steady.
fn summed(parts: &[Part], moments: &[Moment], window: usize) -> Option<TogetherStep> {
    let rated: Vec<&Moment> = moments.iter().filter(|it| it.rate().is_some()).collect();
    let sums: Vec<f64> = rated.iter().filter_map(|it| it.rate()).collect();
    let settled = settle(&sums, window)?;
    let counted = rated.get(settled.cut.len()..)?;
    let of = |part: usize| -> Vec<f64> {
        let rates = counted.iter().filter_map(|moment| moment.each.get(part));
        rates.copied().collect()
    };
    let each: Vec<Vec<f64>> = (0..parts.len()).map(of).collect();
    let busy: Vec<f64> = counted.iter().map(|moment| moment.busy).collect();
    Some(TogetherStep {
        count: parts.len(),
        subjects: parts.iter().map(|part| part.name.clone()).collect(),
        rate: settled.rate,
        rate_min: settled.rate_min,
        rate_max: settled.rate_max,
        samples: settled.samples,
        cut: settled.cut,
        steady: settled.steady,
        alone: parts.iter().map(|part| part.alone).sum(),
        each: each.iter().map(|rates| median(rates)).collect(),
        each_samples: each,
        busy: median(&busy),
    })
}

/// One sample of each of them at the same time.
fn moment(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    parts: &[Part],
) -> Result<Vec<Sample>, Failed> {
    let taking: Vec<(&mut Opened, &Part)> = subjects
        .iter_mut()
        .enumerate()
        .filter_map(|(index, opened)| {
            let part = parts.iter().find(|part| part.subject == index)?;
            Some((opened, part))
        })
        .collect();
    // Nobody starts before everybody's queue is there.
    let samples = at_once(
        taking,
        |(opened, part)| {
            let credits = bench.credits.get(part.subject);
            let loader = credits.map(|credits| {
                alone::ready(opened)?;
                Loader::new(bench.chosen, credits)
            });
            (opened, part, loader)
        },
        |(opened, part, loader)| (part.name.clone(), one(bench, opened, part, loader)),
    )?;
    all_of(samples)
}

fn one(
    bench: &Bench<'_>,
    opened: &mut Opened,
    part: &Part,
    loader: Option<Result<Loader, Error>>,
) -> Result<Sample, Error> {
    let Some(loader) = loader else {
        return Ok(Sample::default());
    };
    let mut load: Load = bench.manner.load(part.knee, Way::Read);
    if opened.report.access != "direct" {
        load.warm = std::time::Duration::ZERO;
    }
    loader?.sample(&mut opened.cursor, &load, bench.ties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_double_and_end_with_all() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(8), [1, 2, 4, 8]);
        assert_eq!(counts(11), [1, 2, 4, 8, 11]);
    }

    #[test]
    fn moments_before_the_sum_is_steady_are_cut_of_each() {
        let part = |name: &str| Part {
            subject: 0,
            name: name.to_owned(),
            keys: Vec::new(),
            knee: crate::bench::report::Knee::default(),
            alone: 100.0,
        };
        let parts = [part("sda"), part("sdb")];
        let moments: Vec<Moment> = [(300.0, 0.9), (60.0, 0.5), (61.0, 0.4), (59.0, 0.3)]
            .map(|(rate, busy)| Moment {
                each: vec![rate, 40.0],
                busy,
            })
            .into();
        let step = summed(&parts, &moments, 3).unwrap();
        assert_eq!(step.cut, [340.0]);
        assert_eq!(step.samples, [100.0, 101.0, 99.0]);
        assert_eq!(
            step.each_samples,
            [[60.0, 61.0, 59.0], [40.0, 40.0, 40.0]],
            "of the same moments"
        );
        assert_eq!((step.rate, step.busy), (100.0, 0.4));
        assert!(step.steady);
        let step = summed(&parts, &moments[..3], 3).unwrap();
        assert!(!step.steady && step.cut.is_empty());
        assert!(summed(&parts, &moments[..2], 3).is_none(), "too few");
    }
}
