//! What is said of sources that are copied into a target: what limits them. Pure.

use super::bend::STRAIGHT;
use super::report::{Pair, Report, Subject, TogetherStep, Verdict};
use super::verdict::verdict;
use super::words::{list, percent, rate};

/// A side that reaches this share of the pair's rate alone is what limits it.
const LIMITS: f64 = 1.15;
/// Processors that are busy for more than this share of the time have nothing to spare.
const BUSY: f64 = 0.90;

/// What limits an ingest, and what failed in it.
pub(super) fn limits(pair: &Pair, report: &Report) -> Vec<Verdict> {
    let mut said = Vec::new();
    if let Some(error) = &pair.error {
        // Errors name the file or device; a reader knows drives by their names.
        let failed = match &pair.error_subjects[..] {
            [] => format!("copying into {} failed", pair.target),
            names => format!("{} failed while copied into {}", list(names), pair.target),
        };
        let text = format!("{failed}: {error}");
        said.push(verdict("failed", true, &pair.error_subjects, text));
    }
    let Some(hashed) = &pair.hashed else {
        return said;
    };
    let sources = source_rate(report);
    let write = pair.write.as_ref().map_or(0.0, |write| write.rate);
    let bare = pair.unhashed.as_ref().map_or(0.0, |unhashed| unhashed.rate);
    if hashed.rate <= 0.0 {
        return said;
    }
    if bare > hashed.rate * LIMITS {
        let text = format!(
            "hashing limits this ingest: {} with it, {} without, processors {} busy",
            rate(hashed.rate),
            rate(bare),
            percent(hashed.busy),
        );
        said.push(verdict("hash-limits", false, &[], text));
    } else if write > 0.0 && write < hashed.rate * LIMITS && write < sources {
        let text = format!(
            "target writes limit this ingest: {} takes {}, its sources would give {}",
            pair.target,
            rate(write),
            rate(sources),
        );
        said.push(verdict("target-limits", false, &[], text));
    } else if write > 0.0 && bare > 0.0 && hashed.rate.max(bare) < sources.min(write) * STRAIGHT {
        let text = format!(
            "reading and writing at once get in each other's way: into {} they copy {}, where the \
             sources give {} and the target takes {}; {}, processors {} busy",
            pair.target,
            rate(hashed.rate),
            rate(sources),
            rate(write),
            in_the_way(pair, report),
            percent(hashed.busy),
        );
        said.push(verdict("pair-limits", true, &[], text));
    } else {
        let text = format!(
            "into {} they copy {}, hashed; the sources give {}, the target takes {}",
            pair.target,
            rate(hashed.rate),
            rate(sources),
            rate(write),
        );
        said.push(verdict("fine", false, &[], text));
    }
    said
}

/// What reading and writing share, as far as it is known.
fn in_the_way(pair: &Pair, report: &Report) -> String {
    let read = report.subjects.iter().filter(|it| is_copied(pair, it));
    let read: Vec<&str> = read
        .flat_map(|subject| &subject.drives)
        .map(|drive| drive.name.as_str())
        .collect();
    let both = pair.drives.iter().map(|drive| drive.name.clone());
    let both: Vec<String> = both.filter(|name| read.contains(&name.as_str())).collect();
    let busy = pair.hashed.as_ref().map_or(0.0, |hashed| hashed.busy);
    match both.len() {
        0 if busy > BUSY => "they share the processors".to_owned(),
        0 => "they share a link, a drive or memory".to_owned(),
        1 => format!("the target is on {}, which is read too", list(&both)),
        _ => format!("the target is on {}, which are read too", list(&both)),
    }
}

/// Whether a subject was copied into the target. Reports of before they were named have no names.
fn is_copied(pair: &Pair, subject: &Subject) -> bool {
    pair.subjects.is_empty() || pair.subjects.contains(&subject.name)
}

/// What all sources of a pair give at once; what they give one by one, when not all of them were
/// read at once.
pub(crate) fn source_rate(report: &Report) -> f64 {
    let copied = |subject: &&Subject| {
        let pair = report.pair.as_ref();
        pair.is_none_or(|pair| is_copied(pair, subject))
    };
    let sources = report.subjects.iter().filter(copied);
    let sources = sources.filter_map(|it| Some((&it.name, it.read.as_ref()?.rate)));
    let sources: Vec<(&String, f64)> = sources.collect();
    let at_once = |step: &TogetherStep| {
        if step.subjects.is_empty() {
            return (step.count >= sources.len()).then_some(step.rate);
        }
        // Others may have been read beside them that failed since.
        let of = |name: &String| {
            let index = step.subjects.iter().position(|subject| subject == name)?;
            step.each.get(index).copied()
        };
        sources.iter().map(|(name, _)| of(name)).sum()
    };
    let last = report.together.as_ref().and_then(|it| it.steps.last());
    last.and_then(at_once)
        .unwrap_or_else(|| sources.iter().map(|(_, alone)| alone).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{DriveFacts, Measure, PairRate, Together};

    fn measured(mb: f64) -> Measure {
        Measure {
            rate: mb * 1e6,
            ..Measure::default()
        }
    }

    fn facts(name: &str) -> DriveFacts {
        DriveFacts {
            name: name.to_owned(),
            ..DriveFacts::default()
        }
    }

    fn drive(name: &str) -> Subject {
        Subject {
            name: name.to_owned(),
            drives: vec![facts(name)],
            read: Some(measured(500.0)),
            ..Subject::default()
        }
    }

    fn of(report: &Report) -> Verdict {
        limits(report.pair.as_ref().unwrap(), report).swap_remove(0)
    }

    fn pair(write: f64, hashed: f64, unhashed: f64) -> Report {
        let rate = |mb: f64| {
            Some(PairRate {
                rate: mb * 1e6,
                ..PairRate::default()
            })
        };
        Report {
            subjects: vec![drive("sda"), drive("sdb")],
            pair: Some(Pair {
                target: "/tank".to_owned(),
                write: Some(measured(write)),
                hashed: rate(hashed),
                unhashed: rate(unhashed),
                ..Pair::default()
            }),
            ..Report::default()
        }
    }

    #[test]
    fn what_limits_an_ingest_is_the_side_that_gives_least() {
        let about = |report: &Report| of(report).about;
        assert_eq!(about(&pair(300.0, 290.0, 295.0)), "target-limits");
        assert_eq!(about(&pair(2000.0, 600.0, 950.0)), "hash-limits");
        assert_eq!(about(&pair(2000.0, 950.0, 960.0)), "fine");
        assert_eq!(about(&pair(2000.0, 850.0, 950.0)), "fine", "nearly all");
        assert_eq!(
            about(&pair(2000.0, 600.0, 0.0)),
            "fine",
            "the hash may do that"
        );
        // Neither side would have to wait for the other.
        assert_eq!(about(&pair(2000.0, 890.0, 895.0)), "pair-limits");
    }

    #[test]
    fn reading_and_writing_that_get_in_each_others_way_are_told_of() {
        let mut report = pair(600.0, 300.0, 300.0);
        report.pair.as_mut().unwrap().hashed.as_mut().unwrap().busy = 0.4;
        let told = "reading and writing at once get in each other's way: into /tank they copy 300 \
                    MB/s, where the sources give 1.00 GB/s and the target takes 600 MB/s; ";
        let verdict = of(&report);
        assert_eq!((verdict.about.as_str(), verdict.bad), ("pair-limits", true));
        let shared = "they share a link, a drive or memory, processors 40% busy";
        assert_eq!(verdict.text, format!("{told}{shared}"));
        report.pair.as_mut().unwrap().hashed.as_mut().unwrap().busy = 0.95;
        let shared = "they share the processors, processors 95% busy";
        assert_eq!(of(&report).text, format!("{told}{shared}"));
        report.pair.as_mut().unwrap().hashed.as_mut().unwrap().busy = 0.4;
        let drives = ["nvme0n1", "sdb"].map(facts).to_vec();
        report.pair.as_mut().unwrap().drives = drives;
        let shared = "the target is on sdb, which is read too, processors 40% busy";
        assert_eq!(of(&report).text, format!("{told}{shared}"));
    }

    #[test]
    fn sources_that_were_not_all_read_at_once_give_what_they_give_alone() {
        let mut report = pair(300.0, 290.0, 295.0);
        let step = |count: usize, rate: f64| Together {
            steps: vec![TogetherStep {
                count,
                rate,
                ..TogetherStep::default()
            }],
            ..Together::default()
        };
        let is = |report: &Report, mb: f64| (source_rate(report) - mb * 1e6).abs() < 1.0;
        assert!(is(&report, 1000.0));
        report.together = Some(step(2, 800e6));
        assert!(is(&report, 800.0));
        report.together = Some(step(1, 500e6));
        assert!(is(&report, 1000.0));
        let step = &mut report.together.as_mut().unwrap().steps[0];
        (step.count, step.rate) = (3, 1200e6);
        step.subjects = ["sda", "sdc", "sdb"].map(str::to_owned).to_vec();
        step.each = vec![450e6, 410e6, 340e6];
        report.subjects.push(drive("sdc"));
        let copied = ["sda", "sdb"].map(str::to_owned);
        report.pair.as_mut().unwrap().subjects = copied.to_vec();
        assert!(is(&report, 790.0), "one of three failed in the pair");
        report.together = None;
        report.pair.as_mut().unwrap().subjects = vec!["sda".to_owned()];
        assert!(is(&report, 500.0), "the others failed before");
    }
}
