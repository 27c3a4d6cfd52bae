//! Where the curve of many drives at once bends, and what bends it. Pure.

use super::report::{Knee, Together, TogetherStep};
use crate::topology::{Link, LinkKind};

/// Together they should reach this share of their sum alone. Below it, something bends the curve.
pub(crate) const STRAIGHT: f64 = 0.90;
/// A few of many can lose much and their sum little. Several below this share of their own rates, in
/// one step and still in the last, bend the curve as well: one bad moment of two drives bends nothing.
/// It is less than [`STRAIGHT`], because one drive varies more than a sum.
const SQUEEZED: f64 = 0.80;
/// A link of which this share is in use is full: protocols take the rest.
const FULL: f64 = 0.75;
/// Processors that are busy for this share of their time are the limit.
const BUSY: f64 = 0.90;
/// A read through memory costs the bus at least one write of it; a copy in memory is a read and a
/// write. Half of what copying reaches is taken for full.
const MEMORY_FULL: f64 = 0.50;

/// A subject that takes part.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Its place among the subjects.
    pub(crate) subject: usize,
    /// Its name.
    pub(crate) name: String,
    /// The drives or units it is on.
    pub(crate) keys: Vec<String>,
    /// How it wants to be asked.
    pub(crate) knee: Knee,
    /// Its rate alone, bytes a second.
    pub(crate) alone: f64,
}

impl Part {
    fn is_behind(&self, link: &Link) -> bool {
        self.keys.iter().any(|key| link.drives.contains(key))
    }
}

/// Finds where the curve bends, and what bends it. `parts` are those of the steps, by their names.
pub(crate) fn explain(together: &mut Together, parts: &[Part], links: &[Link]) {
    let squeezed = |step: &TogetherStep| below(step, parts, SQUEEZED);
    let at_last = together.steps.last().map(squeezed).unwrap_or_default();
    let still = |step: &TogetherStep| {
        let then = squeezed(step);
        let both = then
            .iter()
            .filter(|(name, _)| at_last.iter().any(|(last, _)| last == name));
        both.count()
    };
    let several = together.steps.iter().filter(|step| step.count > 1);
    let mut bends = several.filter(|step| step.efficiency() < STRAIGHT || still(step) > 1);
    let Some(bent) = bends.next() else {
        return;
    };
    let last_straight = together
        .steps
        .iter()
        .take_while(|step| step.count < bent.count)
        .last();
    together.bend = last_straight.map(|step| step.count);
    let full = links.iter().filter(|link| fills(bent, parts, link));
    // The narrowest that is full; a drive that holds images has no ceiling and comes last.
    let culprit = full.min_by_key(|link| link.ceiling.unwrap_or(u64::MAX));
    if let Some(link) = culprit {
        let cause = match link.kind {
            LinkKind::Backing => "backing",
            _ => "link",
        };
        together.cause = Some(cause.to_owned());
        together.cause_name = Some(link.name.clone());
        together.cause_ceiling = link.ceiling;
        // All that share it, not only those that were there when it was full.
        let sharing = parts.iter().filter(|part| part.is_behind(link));
        together.cause_subjects = sharing.map(|part| part.name.clone()).collect();
        return;
    }
    // Processors and memory hold back all of them.
    let all_lose = bent.efficiency() < STRAIGHT;
    let memory = together.memory_rate.unwrap_or(f64::INFINITY);
    if all_lose && bent.busy > BUSY {
        together.cause = Some("cpu".to_owned());
    } else if all_lose && bent.rate > memory * MEMORY_FULL {
        together.cause = Some("memory".to_owned());
    } else {
        // Who loses is seen best when all take part.
        let last = together.steps.last().unwrap_or(bent);
        let at_last = below(last, parts, STRAIGHT);
        let losing = if at_last.is_empty() {
            below(bent, parts, STRAIGHT)
        } else {
            at_last
        };
        let (names, reached) = losing.into_iter().unzip::<_, _, Vec<_>, Vec<f64>>();
        let alone = names.len() == 1;
        let one_drive = drive_of_all(parts, &names).filter(|_| !alone);
        // One drive shares nothing, by whatever paths it is read.
        let is_drive = alone || one_drive.is_some();
        together.cause = Some(if is_drive { "drive" } else { "unknown" }.to_owned());
        together.cause_name = one_drive;
        together.cause_ceiling = (names.len() > 1).then(|| as_count(reached.iter().sum()));
        together.cause_subjects = names;
    }
}

/// Those that reach less than this share of their own rates in a step: names and rates.
fn below(step: &TogetherStep, parts: &[Part], share: f64) -> Vec<(String, f64)> {
    each_of(step, parts)
        .filter(|(part, rate)| *rate < part.alone * share)
        .map(|(part, rate)| (part.name.clone(), rate))
        .collect()
}

/// Those that took part in a step, with their rates. Those that failed before did not.
fn each_of<'s>(step: &'s TogetherStep, parts: &'s [Part]) -> impl Iterator<Item = (&'s Part, f64)> {
    let each = step.subjects.iter().zip(&step.each);
    each.filter_map(|(name, rate)| Some((parts.iter().find(|part| part.name == *name)?, *rate)))
}

/// The drive that all of these are on, by its name.
fn drive_of_all(parts: &[Part], names: &[String]) -> Option<String> {
    let mut these = parts.iter().filter(|part| names.contains(&part.name));
    let mut keys = these.next()?.keys.clone();
    for part in these {
        keys.retain(|key| part.keys.contains(key));
    }
    keys.into_iter().next()
}

/// Whether a link is what holds back those behind it: full, and they give less than alone.
fn fills(step: &TogetherStep, parts: &[Part], link: &Link) -> bool {
    let behind = || each_of(step, parts).filter(|(part, _)| part.is_behind(link));
    let (count, alone) = (
        behind().count(),
        behind().map(|(part, _)| part.alone).sum::<f64>(),
    );
    let reached: f64 = behind().map(|(_, rate)| rate).sum();
    #[allow(clippy::cast_precision_loss, reason = "a ceiling is no count")]
    let ceiling = link.ceiling.map(|ceiling| ceiling as f64);
    let is_full = ceiling.is_some_and(|ceiling| reached >= ceiling * FULL);
    count > 1 && reached < alone * STRAIGHT && (is_full || link.kind == LinkKind::Backing)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no rate is negative, and none comes near 2^64 bytes a second"
)]
fn as_count(rate: f64) -> u64 {
    rate.round() as u64
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
            subjects: (0..count).map(|n| format!("sd{n}")).collect(),
            each: vec![200e6 * share; count],
            busy,
            ..TogetherStep::default()
        }
    }

    fn parts(count: usize) -> Vec<Part> {
        let part = |subject| Part {
            subject,
            name: format!("sd{subject}"),
            keys: vec![format!("sd{subject}")],
            knee: Knee::default(),
            alone: 200e6,
        };
        (0..count).map(part).collect()
    }

    /// All of them at once, by what each of them gives in MB/s, after one that gives all it can.
    fn uneven(each: &[f64]) -> Vec<TogetherStep> {
        let all = TogetherStep {
            rate: each.iter().sum::<f64>() * 1e6,
            each: each.iter().map(|mb| mb * 1e6).collect(),
            ..step(each.len(), 1.0, 0.1)
        };
        vec![step(1, 1.0, 0.1), all]
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
        explain(&mut together, &parts(8), links);
        together
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
                &parts(8),
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

    #[test]
    fn who_shares_what_nobody_sees_is_named_with_what_it_carries() {
        let each = [200.0, 100.0, 196.0, 100.0, 200.0, 100.0, 200.0, 100.0];
        let together = explained(uneven(&each), &[]);
        assert_eq!(
            (together.bend, together.cause.as_deref()),
            (Some(1), Some("unknown"))
        );
        assert_eq!(together.cause_subjects, ["sd1", "sd3", "sd5", "sd7"]);
        assert_eq!(together.cause_ceiling, Some(400_000_000));
        assert_eq!(together.cause_name, None);
    }

    #[test]
    fn two_that_lose_much_bend_it_though_their_sum_hardly_does() {
        // 1,460 of 1,600 MB/s: 91%.
        let each = [200.0, 200.0, 130.0, 130.0, 200.0, 200.0, 200.0, 200.0];
        let together = explained(uneven(&each), &[]);
        assert_eq!(together.cause.as_deref(), Some("unknown"));
        assert_eq!(together.cause_subjects, ["sd2", "sd3"]);
        // One alone may have had a bad moment.
        let each = [200.0, 200.0, 130.0, 200.0, 200.0, 200.0, 200.0, 200.0];
        assert_eq!(explained(uneven(&each), &[]).cause, None);
    }

    #[test]
    fn two_that_had_a_bad_moment_bend_nothing_when_all_are_straight_later() {
        // 1,100 MB/s of 1,200, then 99% of all eight: two lost much only once.
        let mut steps = uneven(&[200.0, 200.0, 150.0, 150.0, 200.0, 200.0]);
        steps.push(step(8, 0.99, 0.1));
        assert_eq!(explained(steps.clone(), &[]).cause, None);
        // Two others that lose later are no proof that these do.
        let later = uneven(&[200.0, 200.0, 200.0, 200.0, 150.0, 150.0, 200.0, 200.0]);
        steps.extend(later.into_iter().skip(1));
        let together = explained(steps, &[]);
        assert_eq!(together.cause_subjects, ["sd4", "sd5"]);
        assert_eq!(together.bend, Some(6), "the first six are straight");
    }

    #[test]
    fn two_folders_of_one_drive_are_on_one_drive() {
        let each = [200.0, 200.0, 80.0, 80.0];
        let mut together = Together {
            steps: uneven(&each),
            ..Together::default()
        };
        let mut parts = parts(4);
        parts[3].keys = vec!["sd2".to_owned()];
        explain(&mut together, &parts, &[]);
        assert_eq!(together.cause.as_deref(), Some("drive"));
        assert_eq!(together.cause_name.as_deref(), Some("sd2"));
        assert_eq!(together.cause_subjects, ["sd2", "sd3"]);
    }

    #[test]
    fn one_drive_that_loses_shares_nothing() {
        let each = [200.0, 20.0, 200.0, 200.0, 200.0];
        let together = explained(uneven(&each), &[]);
        assert_eq!(together.cause.as_deref(), Some("drive"));
        assert_eq!(together.cause_subjects, ["sd1"]);
        assert_eq!(together.cause_ceiling, None);
    }

    #[test]
    fn who_lost_is_found_in_steps_without_one_that_failed() {
        let mut steps = uneven(&[200.0, 200.0, 100.0, 100.0]);
        let names = ["sd0", "sd2", "sd4", "sd5"];
        steps[1].subjects = names.map(str::to_owned).to_vec();
        assert_eq!(explained(steps, &[]).cause_subjects, ["sd4", "sd5"]);
    }

    #[test]
    fn a_link_whose_drives_lose_nothing_is_not_to_blame() {
        // 400 MB/s fill three quarters of the link; those elsewhere lose.
        let each = [200.0, 200.0, 80.0, 80.0, 80.0, 80.0];
        let links = [link(LinkKind::Sas, Some(500_000_000), 0..2)];
        let together = explained(uneven(&each), &links);
        assert_eq!(together.cause.as_deref(), Some("unknown"));
        assert_eq!(together.cause_subjects, ["sd2", "sd3", "sd4", "sd5"]);
    }
}
