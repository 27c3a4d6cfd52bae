//! What is said of drives that are read beside each other: what holds them back, and what failed.

use super::relief::relief;
use super::report::{Report, Together, TogetherStep, Verdict};
use super::verdict::verdict;
use super::words::{list, percent, rate};

/// What failed while they were read at once: whose failure it was, and what stands all the same.
pub(super) fn failed(together: &Together) -> Option<Verdict> {
    let error = together.error.as_ref()?;
    let failed = match &together.error_subjects[..] {
        [] => "reading all at once failed".to_owned(),
        names => format!("{} failed beside others", list(names)),
    };
    let failures = &together.error_subjects;
    let is_without = |step: &TogetherStep| {
        let named = !failures.is_empty() && !step.subjects.is_empty();
        named && !step.subjects.iter().any(|name| failures.contains(name))
    };
    let stands = match together.steps.last() {
        Some(step) if step.count > 1 && is_without(step) => {
            let whom = if failures.len() == 1 { "it" } else { "them" };
            format!("; {} others were read at once without {whom}", step.count)
        }
        Some(step) if step.count > 1 => {
            format!("; what up to {} at once gave before it, stands", step.count)
        }
        _ => String::new(),
    };
    let text = format!("{failed}: {error}{stands}");
    Some(verdict("failed", true, failures, text))
}

/// What all of them give at once, and what holds them back.
pub(super) fn bend(together: &Together, report: &Report) -> Option<Verdict> {
    let last = together.steps.last().filter(|step| step.count > 1)?;
    let measured = report
        .subjects
        .iter()
        .filter(|subject| subject.read.is_some())
        .count();
    // A failure or a stop may have come before all of them were read.
    let all = if last.count < measured {
        format!("{} of {measured}", last.count)
    } else {
        format!("all {}", last.count)
    };
    let Some(cause) = together.cause.as_deref() else {
        let text = format!(
            "{all} read at once give {}, {} of what they give one by one: nothing holds them back",
            rate(last.rate),
            percent(last.efficiency()),
        );
        return Some(verdict("fine", false, &[], text));
    };
    let reach = format!(
        "{all} at once give {} of the {} they give one by one; the curve bends after {}",
        rate(last.rate),
        rate(last.alone),
        together.bend.unwrap_or(1),
    );
    let name = together.cause_name.as_deref().unwrap_or_default();
    let sharing = list(&together.cause_subjects);
    let count = together.cause_subjects.len();
    #[allow(clippy::cast_precision_loss, reason = "a ceiling is no count")]
    let ceiling = rate(together.cause_ceiling.unwrap_or(0) as f64);
    let more = || relief(report).map_or_else(String::new, |saves| format!("; {saves}"));
    let (about, text) = match cause {
        "link" => {
            let shares = format!("these {count} share one {ceiling} link, {name}: {sharing}");
            ("shared-link", format!("{shares}; {reach}{}", more()))
        }
        "backing" => {
            let text = format!("the images of {sharing} are all on {name}; {reach}");
            ("shared-link", text)
        }
        "cpu" => {
            let text = format!(
                "the processors are the limit, {} busy; {reach}",
                percent(last.busy)
            );
            ("cpu-limits", text)
        }
        "memory" => ("memory-limits", format!("memory is the limit; {reach}")),
        "drive" if count > 1 => {
            let text = format!("{sharing} are on one drive, {name}; {reach}");
            ("shared-drive", text)
        }
        "drive" => {
            let text = format!(
                "{sharing} gives less beside others{}; {reach}",
                lost(together)
            );
            ("less-together", text)
        }
        _ if count > 1 => {
            let text = format!(
                "these {count} share something that the kernel does not show: {sharing}; at once \
                 they give {ceiling}; {reach}{}",
                more()
            );
            ("shared-link", text)
        }
        _ => {
            let text = format!("something that the kernel does not show is shared; {reach}");
            ("shared-link", text)
        }
    };
    Some(verdict(about, true, &together.cause_subjects, text))
}

/// What one drive gives beside others: `, 20.0 MB/s`; nothing when it was not read by then.
fn lost(together: &Together) -> String {
    let at_last = || {
        let step = together.steps.last()?;
        let name = together.cause_subjects.first()?;
        let index = step.subjects.iter().position(|subject| subject == name)?;
        step.each.get(index)
    };
    at_last().map_or_else(String::new, |reached| format!(", {}", rate(*reached)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Holds, Measure, Subject};

    fn drive(name: &str) -> Subject {
        Subject {
            name: name.to_owned(),
            read: Some(Measure {
                rate: 200e6,
                ..Measure::default()
            }),
            holds: Some(Holds {
                bytes: 4_000_000_000_000,
                ..Holds::default()
            }),
            ..Subject::default()
        }
    }

    fn told(report: &Report) -> (String, String) {
        let verdict = bend(report.together.as_ref().unwrap(), report).unwrap();
        (verdict.about, verdict.text)
    }

    #[test]
    fn a_shared_link_is_named_with_those_who_share_it() {
        let step = |count: usize, rate: f64, alone: f64| TogetherStep {
            count,
            rate,
            alone,
            ..TogetherStep::default()
        };
        let report = Report {
            subjects: vec![drive("sda")],
            together: Some(Together {
                steps: vec![step(4, 0.8e9, 0.8e9), step(8, 1.15e9, 1.6e9)],
                bend: Some(4),
                cause: Some("link".to_owned()),
                cause_name: Some("port-0:0".to_owned()),
                cause_ceiling: Some(1_200_000_000),
                cause_subjects: (0..8).map(|n| format!("sd{n}")).collect(),
                ..Together::default()
            }),
            ..Report::default()
        };
        assert_eq!(
            told(&report),
            (
                "shared-link".to_owned(),
                "these 8 share one 1.20 GB/s link, port-0:0: sd0, sd1, sd2, sd3, sd4 and 3 more; \
                 all 8 at once give 1.15 GB/s of the 1.60 GB/s they give one by one; the curve \
                 bends after 4"
                    .to_owned()
            )
        );
    }

    fn at_once(each: &[f64], cause: &str, sharing: &[&str]) -> Together {
        let names = ["sda", "sdb", "sdc", "sdd"];
        let mb = |sum: f64| sum * 1e6;
        Together {
            steps: vec![TogetherStep {
                count: each.len(),
                subjects: names[..each.len()]
                    .iter()
                    .map(|n| (*n).to_owned())
                    .collect(),
                rate: mb(each.iter().sum()),
                alone: mb(200.0) * [0.0, 1.0, 2.0, 3.0, 4.0][each.len()],
                each: each.iter().map(|rate| mb(*rate)).collect(),
                ..TogetherStep::default()
            }],
            bend: Some(2),
            cause: Some(cause.to_owned()),
            cause_ceiling: Some(200_000_000),
            cause_subjects: sharing.iter().map(|n| (*n).to_owned()).collect(),
            ..Together::default()
        }
    }

    #[test]
    fn what_stands_of_others_is_told_with_a_failure() {
        let mut together = at_once(&[200.0, 200.0], "unknown", &[]);
        together.error = Some("read: Input/output error".to_owned());
        let text = |together: &Together| failed(together).unwrap().text;
        assert_eq!(
            text(&together),
            "reading all at once failed: read: Input/output error; what up to 2 at once gave before \
             it, stands"
        );
        together.error_subjects = vec!["sdb".to_owned()];
        assert!(text(&together).ends_with("; what up to 2 at once gave before it, stands"));
        together.error_subjects = vec!["sdc".to_owned(), "sdd".to_owned()];
        assert_eq!(
            text(&together),
            "sdc and sdd failed beside others: read: Input/output error; 2 others were read at once \
             without them"
        );
    }

    #[test]
    fn what_nobody_sees_is_told_with_who_shares_it() {
        let names = ["sda", "sdb", "sdc", "sdd"];
        let mut report = Report {
            subjects: names.map(drive).to_vec(),
            together: Some(at_once(
                &[200.0, 100.0, 200.0, 100.0],
                "unknown",
                &["sdb", "sdd"],
            )),
            ..Report::default()
        };
        assert_eq!(
            told(&report).1,
            "these 2 share something that the kernel does not show: sdb and sdd; at once they give \
             200 MB/s; all 4 at once give 600 MB/s of the 800 MB/s they give one by one; the curve \
             bends after 2"
        );
        report.together = Some(at_once(&[200.0, 40.0, 200.0], "drive", &["sdb"]));
        assert_eq!(
            told(&report),
            (
                "less-together".to_owned(),
                "sdb gives less beside others, 40.0 MB/s; 3 of 4 at once give 440 MB/s of the 600 \
                 MB/s they give one by one; the curve bends after 2"
                    .to_owned()
            )
        );
    }

    #[test]
    fn folders_of_one_drive_are_told_so_and_no_link_would_help() {
        let mut report = Report {
            subjects: ["sda", "sdb", "sdc"].map(drive).to_vec(),
            together: Some(Together {
                cause_name: Some("sdx".to_owned()),
                ..at_once(&[200.0, 100.0, 100.0], "drive", &["sdb", "sdc"])
            }),
            ..Report::default()
        };
        report.estimate = crate::bench::estimate::estimate(&report);
        assert_eq!(
            told(&report),
            (
                "shared-drive".to_owned(),
                "sdb and sdc are on one drive, sdx; all 3 at once give 400 MB/s of the 600 MB/s \
                 they give one by one; the curve bends after 2"
                    .to_owned()
            )
        );
    }

    #[test]
    fn what_more_links_would_save_is_said_of_an_ingest() {
        let all = ["sda", "sdb", "sdc", "sdd"];
        let mut report = Report {
            subjects: all.map(drive).to_vec(),
            ..Report::default()
        };
        report.together = Some(at_once(&[100.0; 4], "unknown", &all));
        report.estimate = crate::bench::estimate::estimate(&report);
        // 16 TB at 400 MB/s; with two links it is what each takes by itself, 20,000 s.
        let (_, text) = told(&report);
        assert!(
            text.ends_with("; one more such link would save 6 h"),
            "{text}"
        );
    }

    #[test]
    fn what_more_links_would_save_is_said_of_a_link_that_is_known() {
        let all = ["sda", "sdb", "sdc", "sdd"];
        let mut report = Report {
            subjects: all.map(drive).to_vec(),
            together: Some(Together {
                cause_name: Some("port-0:0".to_owned()),
                cause_ceiling: Some(400_000_000),
                ..at_once(&[100.0; 4], "link", &all)
            }),
            ..Report::default()
        };
        report.estimate = crate::bench::estimate::estimate(&report);
        assert_eq!(
            told(&report).1,
            "these 4 share one 400 MB/s link, port-0:0: sda, sdb, sdc and sdd; all 4 at once give \
             400 MB/s of the 800 MB/s they give one by one; the curve bends after 2; one more such \
             link would save 6 h"
        );
    }
}
