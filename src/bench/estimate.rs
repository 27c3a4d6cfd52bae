//! How long a copy of what is on the drives would take. Pure: a report in, seconds out.

use super::relief::shared;
use super::report::{Estimate, Report, Subject};
use super::takes::{Seconds, is_in, turns};
use super::words::list;

/// Returns the estimate; `None` when nothing is known of what is on the subjects, or of how fast
/// they are.
///
/// Drives are read side by side, so the slowest of them counts, or what those that share something
/// get through it, or what the target takes of all that is named, whichever is longest; and so it is
/// at best and at worst, each for itself.
pub(crate) fn estimate(report: &Report) -> Option<Estimate> {
    let mut longest: Option<(String, Seconds)> = None;
    let mut ends = Seconds::default();
    let mut consider = |name: &str, seconds: Seconds| {
        ends.best = ends.best.max(seconds.best);
        ends.worst = ends.worst.max(seconds.worst);
        if longest
            .as_ref()
            .is_none_or(|(_, most)| seconds.usual > most.usual)
        {
            longest = Some((name.to_owned(), seconds));
        }
    };
    let (mut bytes, mut files) = (0_u64, 0_u64);
    for turns in turns(report) {
        for holds in turns.subjects.iter().filter_map(|subject| subject.holds) {
            bytes = bytes.saturating_add(holds.bytes);
            files = files.saturating_add(holds.files);
        }
        consider(&turns.name(), turns.seconds);
    }
    if bytes == 0 {
        return None;
    }
    if let Some(group) = shared(report) {
        consider("together", group.seconds());
    }
    if let Some(pair) = &report.pair
        && let Some(hashed) = &pair.hashed
    {
        // What failed beside the target is still to be copied, and is among what is named.
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let amount = bytes as f64;
        let seconds = Seconds::of(amount, hashed.rate, hashed.rate_max, hashed.rate_min);
        consider("target", seconds);
    }
    let (limited_by, seconds) = longest?;
    Some(Estimate {
        bytes,
        files,
        seconds: seconds.usual,
        seconds_min: ends.best,
        seconds_max: ends.worst,
        limited_by,
        basis: basis(report),
    })
}

/// What the estimate rests on, and what it leaves out.
fn basis(report: &Report) -> String {
    let into_target = report
        .pair
        .as_ref()
        .is_some_and(|pair| pair.hashed.is_some());
    let mut text = if into_target {
        "drives side by side into the target".to_owned()
    } else {
        "drives side by side, into a target that takes all they give".to_owned()
    };
    let mut add = |what: &str, pick: &dyn Fn(&Subject) -> bool| {
        let names = report.subjects.iter().filter(|subject| pick(subject));
        let names: Vec<String> = names.map(|subject| subject.name.clone()).collect();
        if !names.is_empty() {
            text.push_str(what);
            text.push_str(&list(&names));
        }
    };
    add(
        "; what is in use, or at least what was seen, was taken where files were not all counted: ",
        &|subject| is_in(subject) && subject.holds.is_some_and(|holds| !holds.counted),
    );
    add(
        "; left out, for nothing is known of what is on them: ",
        &|subject| subject.read.is_some() && subject.within.is_none() && !is_in(subject),
    );
    add("; counted with what they are in: ", &|subject| {
        subject.within.is_some()
    });
    add("; left out, for they have no rate: ", &|subject| {
        subject.read.is_none()
    });
    let taking_turns = turns(report).into_iter().filter(|it| it.subjects.len() > 1);
    let taking_turns: Vec<&Subject> = taking_turns.flat_map(|it| it.subjects).collect();
    add(
        "; one after the other, for they share a drive: ",
        &|subject| taking_turns.iter().any(|it| std::ptr::eq(*it, subject)),
    );
    let with_rate = report
        .subjects
        .iter()
        .filter(|subject| subject.read.is_some())
        .count();
    let last = report
        .together
        .as_ref()
        .and_then(|together| together.steps.last());
    if let Some(step) = last.filter(|step| step.count < with_rate) {
        let only = format!(
            "; only {} of {with_rate} were read at once, and what they share counts for these alone",
            step.count
        );
        text.push_str(&only);
    }
    if let Some(pair) = report.pair.as_ref().filter(|_| into_target) {
        let is_copied = |subject: &&Subject| pair.subjects.contains(&subject.name);
        let of_it = report.subjects.iter().filter(|subject| is_in(subject));
        let (copied, all) = (of_it.clone().filter(is_copied).count(), of_it.count());
        if !pair.subjects.is_empty() && copied < all {
            let only = format!("; the rate into the target is that of {copied} of {all}");
            text.push_str(&only);
        }
    }
    text
}

/// Bytes on those that are part of the estimate, of the names picked.
pub(crate) fn held(report: &Report, pick: impl Fn(&str) -> bool) -> Vec<f64> {
    let all = report
        .subjects
        .iter()
        .filter(|subject| is_in(subject) && pick(&subject.name));
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let bytes = all.map(|subject| subject.holds.map_or(0.0, |holds| holds.bytes as f64));
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{DriveFacts, Pair, PairRate, Together, TogetherStep};
    use crate::bench::takes::tests::on;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    fn subject(name: &str, bytes: u64, rate: f64) -> Subject {
        on(&[], name, bytes, rate)
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
    fn what_is_in_another_path_counts_once() {
        let mut folder = on(&["sda"], "sda (/m/a)", 900, 50.0);
        folder.within = Some("sda".to_owned());
        let report = Report {
            subjects: vec![on(&["sda"], "sda", 1000, 100.0), folder],
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!((found.bytes, found.files), (1000, 10));
        assert!(close(found.seconds, 10.0), "{found:?}");
        assert_eq!(
            found.basis,
            "drives side by side, into a target that takes all they give; counted with what they are \
             in: sda (/m/a)"
        );
    }

    fn at_once(each: &[(&str, f64)], cause: Option<&str>, sharing: &[&str]) -> Together {
        let step = TogetherStep {
            count: each.len(),
            subjects: each.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rate: each.iter().map(|(_, rate)| rate).sum(),
            each: each.iter().map(|(_, rate)| *rate).collect(),
            samples: vec![0.0; 3],
            each_samples: each
                .iter()
                .map(|(_, rate)| vec![rate * 0.8, *rate, *rate])
                .collect(),
            ..TogetherStep::default()
        };
        Together {
            steps: vec![step],
            cause: cause.map(str::to_owned),
            cause_subjects: sharing.iter().map(|name| (*name).to_owned()).collect(),
            ..Together::default()
        }
    }

    fn into_target(rate: f64) -> Pair {
        let hashed = PairRate {
            rate,
            rate_min: rate,
            rate_max: rate,
            ..PairRate::default()
        };
        Pair {
            hashed: Some(hashed),
            ..Pair::default()
        }
    }

    #[test]
    fn a_shared_link_or_the_target_may_take_longer() {
        let both = [("a", 25.0), ("b", 25.0)];
        let mut report = Report {
            subjects: vec![subject("a", 1000, 100.0), subject("b", 1000, 100.0)],
            together: Some(at_once(&both, Some("unknown"), &["a", "b"])),
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "together");
        assert!(close(found.seconds, 40.0) && close(found.seconds_max, 50.0));
        report.pair = Some(into_target(20.0));
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "target");
        // The link at its worst and the target, whose samples were all alike.
        assert!(close(found.seconds, 100.0) && close(found.seconds_max, 100.0));
    }

    #[test]
    fn the_ends_are_those_of_all_that_may_be_longest() {
        let mut report = Report {
            subjects: vec![subject("a", 1000, 20.0)],
            pair: Some(into_target(18.0)),
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "target");
        assert!(close(found.seconds, 1000.0 / 18.0));
        assert!(close(found.seconds_min, 1000.0 / 18.0));
        assert!(close(found.seconds_max, 62.5), "a at its worst is slower");
        report.pair = Some(into_target(40.0));
        assert!(close(estimate(&report).unwrap().seconds_min, 40.0));
    }

    #[test]
    fn what_they_give_at_once_is_no_limit_where_nothing_is_shared() {
        // The rate of their outer zones, and one of them is nearly empty.
        let mut report = Report {
            subjects: vec![subject("a", 1000, 100.0), subject("b", 10, 100.0)],
            together: Some(at_once(&[("a", 95.0), ("b", 5.0)], None, &[])),
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!(found.limited_by, "a");
        assert!(close(found.seconds, 10.0));
        // Nor where the curve is straight again when all take part: 2000 at 190 would be longer.
        report.subjects = vec![subject("a", 1000, 100.0), subject("b", 1000, 100.0)];
        let all = [("a", 95.0), ("b", 95.0)];
        report.together = Some(at_once(&all, Some("unknown"), &[]));
        assert_eq!(estimate(&report).unwrap().limited_by, "a");
    }

    #[test]
    fn what_is_shared_counts_for_those_who_share_it() {
        let names = ["a", "b", "c", "d"];
        let mut report = Report {
            subjects: names.map(|name| subject(name, 1000, 100.0)).to_vec(),
            ..Report::default()
        };
        let all = [("a", 20.0), ("b", 100.0), ("c", 20.0), ("d", 100.0)];
        report.together = Some(at_once(&all, Some("unknown"), &["a", "c"]));
        let found = estimate(&report).unwrap();
        assert!(close(found.seconds, 50.0), "2000 through 40: {found:?}");
        // Stopped when two of the four had been read at once.
        report.together = Some(at_once(&[("a", 20.0), ("b", 20.0)], Some("link"), &names));
        let found = estimate(&report).unwrap();
        assert!(close(found.seconds, 50.0), "{found:?}");
        assert!(
            found.basis.contains("; only 2 of 4 were read at once"),
            "{}",
            found.basis
        );
    }

    #[test]
    fn what_is_left_out_is_named() {
        let mut unmounted = subject("b", 1000, 100.0);
        unmounted.holds = None;
        let mut failed = subject("c", 1000, 100.0);
        failed.read = None;
        let mut in_use = subject("d", 500, 100.0);
        in_use.holds.as_mut().unwrap().counted = false;
        let mut no_drive_of_it_mounted = subject("e", 0, 100.0);
        no_drive_of_it_mounted.holds.as_mut().unwrap().counted = false;
        let report = Report {
            subjects: vec![
                subject("a", 1000, 100.0),
                unmounted,
                failed,
                in_use,
                no_drive_of_it_mounted,
            ],
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!(found.bytes, 1500);
        assert_eq!(
            found.basis,
            "drives side by side, into a target that takes all they give; what is in use, or \
             at least what was seen, was taken where files were not all counted: d; left out, for nothing is known of what is on them: b \
             and e; left out, for they have no rate: c"
        );
    }

    #[test]
    fn what_failed_beside_the_target_is_still_to_be_copied() {
        let pair = Pair {
            subjects: vec!["a".to_owned(), "b".to_owned()],
            error_subjects: vec!["c".to_owned()],
            ..into_target(20.0)
        };
        let report = Report {
            subjects: ["a", "b", "c"]
                .map(|name| subject(name, 1000, 100.0))
                .to_vec(),
            pair: Some(pair),
            ..Report::default()
        };
        let found = estimate(&report).unwrap();
        assert_eq!((found.bytes, found.limited_by.as_str()), (3000, "target"));
        assert!(close(found.seconds, 150.0), "3000 at 20: {found:?}");
        assert_eq!(
            found.basis,
            "drives side by side into the target; the rate into the target is that of 2 of 3"
        );
    }

    #[test]
    fn what_is_on_one_drive_is_read_one_after_the_other() {
        let mut report = Report {
            subjects: ["a", "b", "c"]
                .map(|name| subject(name, 1000, 100.0))
                .to_vec(),
            ..Report::default()
        };
        for folder in &mut report.subjects[..2] {
            folder.drives = vec![DriveFacts {
                name: "sda".to_owned(),
                ..DriveFacts::default()
            }];
        }
        let found = estimate(&report).unwrap();
        assert_eq!((found.bytes, found.limited_by.as_str()), (3000, "sda"));
        assert!(close(found.seconds, 20.0), "{found:?}");
        assert_eq!(
            found.basis,
            "drives side by side, into a target that takes all they give; one after the other, for \
             they share a drive: a and b"
        );
        // What they give at once, a copy never asks of them.
        let both = [("a", 25.0), ("b", 25.0)];
        report.together = Some(Together {
            cause_name: Some("sda".to_owned()),
            ..at_once(&both, Some("drive"), &["a", "b"])
        });
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
