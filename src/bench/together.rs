//! Many drives at once: 1, 2, 4 ... all of them, each on a thread of its own as in a copy.

use super::alone::{self, Manner};
use super::at_once::{Failed, all_of, at_once};
use super::bend::{Part, explain};
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::machine::{Ticks, memory_rate};
use super::report::{Together, TogetherStep};
use super::sample::{Load, Sample, Ties, Way};
use super::stats::{median, range};
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
    cpus: usize,
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
    together.memory_rate = Some(memory_rate(cpus));
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
    let mut sums = Vec::new();
    let mut each: Vec<Vec<f64>> = vec![Vec::new(); parts.len()];
    let mut busy = Vec::new();
    for _ in 0..bench.manner.repetitions {
        let before = Ticks::now();
        let samples = moment(bench, subjects, parts)?;
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
        subjects: parts.iter().map(|part| part.name.clone()).collect(),
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
}
