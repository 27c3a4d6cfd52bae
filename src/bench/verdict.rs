//! What figures mean, in words. Pure: a report in, sentences out.

use super::report::{DriveFacts, NOTHING_STANDS_OUT, Report, Subject, Verdict};
use super::stats::median;
use super::takes::INNER;
use super::words::{latency, rate, times};
use super::{beside, ingest};

/// Slower than this share of its kind is slow.
const SLOW: f64 = 0.70;
/// Fewest others that make a kind.
const KIND_MIN: usize = 2;
/// Samples further apart than this share of their median are uneven.
const UNEVEN: f64 = 0.30;
/// A tail is slow when it is so many times the median, and longer than [`TAIL_NANOS`].
const TAIL_TIMES: u64 = 20;
const TAIL_NANOS: u64 = 250_000_000;
/// Requests of which one in 1,000 can be spoken of; of fewer, it is the slowest.
const TAIL_REQUESTS: u64 = 1000;

/// Returns all that there is to say, what matters most first.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut said = Vec::new();
    said.extend(report.subjects.iter().filter_map(failed));
    said.extend(slow_drives(&report.subjects));
    if let Some(together) = &report.together {
        said.extend(beside::failed(together));
        said.extend(beside::bend(together, report));
    }
    if let Some(pair) = &report.pair {
        said.extend(ingest::limits(pair, report));
    }
    said.extend(report.subjects.iter().filter_map(slow_tail));
    said.extend(report.subjects.iter().filter_map(uneven));
    let measured = report.subjects.iter().any(|subject| subject.read.is_some());
    if said.is_empty() && measured {
        said.push(verdict("fine", false, &[], NOTHING_STANDS_OUT.to_owned()));
    }
    said
}

/// Whose verdict it is, are `subjects`, by their names.
pub(super) fn verdict(about: &str, bad: bool, subjects: &[String], text: String) -> Verdict {
    Verdict {
        about: about.to_owned(),
        bad,
        subjects: subjects.to_vec(),
        text,
    }
}

fn of_one(about: &str, bad: bool, subject: &Subject, text: String) -> Verdict {
    verdict(about, bad, std::slice::from_ref(&subject.name), text)
}

fn failed(subject: &Subject) -> Option<Verdict> {
    let error = subject.error.as_ref()?;
    let text = format!("{} could not be measured: {error}", subject.name);
    Some(of_one("failed", true, subject, text))
}

/// What makes drives of one kind: the model, or else how they spin and are attached. Files are held
/// against files and whole drives against whole drives: neither gives what the other does. What a
/// partition gives depends on where on its drive it is, so it has no kind. So it is with files on
/// drives that spin, and [`by_place`] says how much that explains.
fn kind_of(subject: &Subject) -> Option<(String, String)> {
    let drive = subject
        .drives
        .first()
        .filter(|_| subject.drives.len() == 1)?;
    let is_of = match subject.kind.as_str() {
        "device" if subject.is_whole_drive() => "whole",
        "device" => return None,
        _ => "files of",
    };
    if let Some(model) = &drive.model {
        return Some((format!("{is_of} model {model}"), format!("other {model}")));
    }
    let spins = match drive.rotational {
        Some(true) => "spinning ",
        Some(false) => "flash ",
        None => "",
    };
    let kind = format!("{spins}{}", drive.transport);
    Some((format!("{is_of} {kind}"), format!("other {kind} drives")))
}

/// Returns the share of its kind's rate that a healthy drive may give because of the place it was read
/// at. Files of one spinning drive may all be near its outer edge, and those of another, a full one,
/// near its inner one.
fn by_place(subject: &Subject) -> f64 {
    let spins = |drive: &DriveFacts| drive.rotational == Some(true);
    let is_files = subject.kind != "device";
    if is_files && subject.drives.iter().any(spins) {
        INNER
    } else {
        1.0
    }
}

fn slow_drives(subjects: &[Subject]) -> Vec<Verdict> {
    let mut said = Vec::new();
    for subject in subjects {
        let (Some(read), Some((kind, others_are))) = (&subject.read, kind_of(subject)) else {
            continue;
        };
        let others: Vec<f64> = subjects
            .iter()
            .filter(|other| !std::ptr::eq(*other, subject))
            .filter(|other| kind_of(other).is_some_and(|(its, _)| its == kind))
            .filter_map(|other| Some(other.read.as_ref()?.rate))
            .collect();
        let usual = median(&others);
        let place = by_place(subject);
        if others.len() >= KIND_MIN && read.rate < usual * SLOW * place {
            let beyond = if place < 1.0 {
                "; where its files are does not explain that"
            } else {
                ""
            };
            let text = format!(
                "{} is {}x slower than its kind: {} where {} {others_are} give {}{beyond}",
                subject.name,
                times(usual / read.rate.max(1.0)),
                rate(read.rate),
                others.len(),
                rate(usual),
            );
            said.push(of_one("slow-drive", true, subject, text));
        }
    }
    said
}

fn slow_tail(subject: &Subject) -> Option<Verdict> {
    let read = subject.read.as_ref()?;
    let (told, requests) = (&read.latency, read.requests);
    let (tail, who) = if requests >= TAIL_REQUESTS {
        let who = format!(
            "one request in 1,000 takes {} or longer",
            latency(told.p999)
        );
        (told.p999, who)
    } else {
        let who = format!(
            "the slowest of {requests} requests took {}",
            latency(told.max)
        );
        (told.max, who)
    };
    (tail > TAIL_NANOS && tail > told.p50.saturating_mul(TAIL_TIMES)).then(|| {
        let text = format!(
            "{} is slow at times: {who}, half take {}; drives that retry reads do so",
            subject.name,
            latency(told.p50),
        );
        of_one("slow-tail", true, subject, text)
    })
}

fn uneven(subject: &Subject) -> Option<Verdict> {
    let read = subject.read.as_ref()?;
    (read.spread() > UNEVEN).then(|| {
        let text = format!(
            "{} is uneven: its samples go from {} to {}; something else may use it",
            subject.name,
            rate(read.rate_min),
            rate(read.rate_max),
        );
        of_one("uneven", false, subject, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Latency, Measure, Pair, Together, TogetherStep};

    fn measured(mb: f64) -> Measure {
        Measure {
            rate: mb * 1e6,
            rate_min: mb * 0.98e6,
            rate_max: mb * 1.02e6,
            latency: Latency {
                p50: 4_000_000,
                p999: 9_000_000,
                ..Latency::default()
            },
            ..Measure::default()
        }
    }

    fn drive(name: &str, model: Option<&str>, mb: f64) -> Subject {
        Subject {
            name: name.to_owned(),
            kind: "device".to_owned(),
            span_bytes: 1 << 40,
            drives: vec![DriveFacts {
                name: name.to_owned(),
                bytes: 1 << 40,
                model: model.map(str::to_owned),
                transport: "sas".to_owned(),
                rotational: Some(true),
                ..DriveFacts::default()
            }],
            read: Some(measured(mb)),
            ..Subject::default()
        }
    }

    fn said(report: &Report) -> Vec<(String, String)> {
        let verdicts = verdicts(report).into_iter();
        verdicts
            .map(|verdict| (verdict.about, verdict.text))
            .collect()
    }

    #[test]
    fn a_drive_is_slow_by_its_own_kind_alone() {
        let report = Report {
            subjects: vec![
                drive("sda", Some("EXOS"), 208.0),
                drive("sdb", Some("EXOS"), 52.0),
                drive("sdc", Some("EXOS"), 212.0),
                drive("sdd", Some("ARCHIVE"), 60.0),
                drive("sde", None, 30.0),
            ],
            ..Report::default()
        };
        let verdicts = verdicts(&report);
        assert_eq!(verdicts[0].subjects, ["sdb"]);
        assert_eq!(
            said(&report),
            [(
                "slow-drive".to_owned(),
                "sdb is 4.0x slower than its kind: 52.0 MB/s where 2 other EXOS give 210 MB/s"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_failure_beside_others_is_that_drives_and_not_the_targets() {
        let mut report = Report {
            subjects: vec![drive("sda", None, 200.0), drive("sdb", None, 200.0)],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 1,
                    ..TogetherStep::default()
                }],
                error: Some("read: Input/output error: /dev/sdb".to_owned()),
                error_subjects: vec!["sdb".to_owned()],
                ..Together::default()
            }),
            pair: Some(Pair {
                target: "/tank".to_owned(),
                error: Some("read: Input/output error: /dev/sda".to_owned()),
                error_subjects: vec!["sda".to_owned()],
                ..Pair::default()
            }),
            ..Report::default()
        };
        let whose = verdicts(&report).into_iter().map(|it| it.subjects);
        assert_eq!(whose.collect::<Vec<_>>(), [["sdb"], ["sda"]]);
        let texts = |report: &Report| said(report).into_iter().map(|(_, text)| text);
        assert_eq!(
            texts(&report).collect::<Vec<_>>(),
            [
                "sdb failed beside others: read: Input/output error: /dev/sdb",
                "sda failed while copied into /tank: read: Input/output error: /dev/sda"
            ]
        );
        let pair = report.pair.as_mut().unwrap();
        pair.error_subjects.clear();
        let last = texts(&report).next_back().unwrap();
        assert!(last.starts_with("copying into /tank failed: "), "{last}");
    }

    #[test]
    fn parts_of_drives_and_files_are_no_kind_of_whole_drives() {
        let whole = || ["sda", "sdb", "sdc"].map(|name| drive(name, Some("EXOS"), 200.0));
        let mut partition = drive("sdd", Some("EXOS"), 90.0);
        partition.span_bytes = 1 << 39;
        let mut folder = drive("sde", Some("EXOS"), 90.0);
        folder.kind = "directory".to_owned();
        let abouts = |subjects: Vec<Subject>| {
            let report = Report {
                subjects,
                ..Report::default()
            };
            said(&report)
                .into_iter()
                .map(|(about, _)| about)
                .collect::<Vec<_>>()
        };
        let mut mixed = Vec::from(whole());
        mixed.extend([partition.clone(), folder.clone()]);
        assert_eq!(abouts(mixed), ["fine"]);
        // Two halves of drives, at their two edges.
        let halves = Vec::from(whole().map(|whole| Subject {
            span_bytes: 1 << 39,
            ..whole
        }));
        assert_eq!(abouts([halves, vec![partition]].concat()), ["fine"]);
        let folders = Vec::from(whole().map(|whole| Subject {
            kind: "directory".to_owned(),
            ..whole
        }));
        folder.read = Some(measured(60.0));
        assert_eq!(abouts([folders, vec![folder]].concat()), ["slow-drive"]);
    }

    #[test]
    fn files_at_the_inner_edge_of_a_full_drive_are_not_slow() {
        let told = |kind: &str, spins: Option<bool>, mb: f64| {
            let mut subjects = Vec::from(
                [("sda", 210.0), ("sdb", 206.0), ("sdc", mb)]
                    .map(|(name, mb)| drive(name, Some("EXOS"), mb)),
            );
            for subject in &mut subjects {
                kind.clone_into(&mut subject.kind);
                subject.drives[0].rotational = spins;
            }
            let report = Report {
                subjects,
                ..Report::default()
            };
            said(&report).remove(0).1
        };
        for kind in ["directory", "file"] {
            assert_eq!(told(kind, Some(true), 104.0), NOTHING_STANDS_OUT);
            assert_eq!(told(kind, Some(true), 74.0), NOTHING_STANDS_OUT);
            // More than any place explains.
            assert_eq!(
                told(kind, Some(true), 10.0),
                "sdc is 21x slower than its kind: 10.0 MB/s where 2 other EXOS give 208 MB/s; where its \
                 files are does not explain that"
            );
            // Places of flash are all alike.
            assert_eq!(
                told(kind, Some(false), 104.0),
                "sdc is 2.0x slower than its kind: 104 MB/s where 2 other EXOS give 208 MB/s"
            );
        }
        // Whole drives are read in the same place.
        let whole = told("device", Some(true), 104.0);
        assert!(whole.starts_with("sdc is 2.0x slower"), "{whole}");
    }

    #[test]
    fn tails_and_uneven_samples_are_told() {
        let mut slow = drive("sda", None, 200.0);
        let read = slow.read.as_mut().unwrap();
        (read.requests, read.latency.p999) = (1000, 900_000_000);
        let mut uneven = drive("sdb", None, 200.0);
        uneven.read.as_mut().unwrap().rate_min = 100e6;
        let mut failed = drive("sdc", None, 200.0);
        failed.read = None;
        failed.error = Some("read: Input/output error".to_owned());
        let report = Report {
            subjects: vec![slow, uneven, failed],
            ..Report::default()
        };
        let abouts: Vec<String> = said(&report).into_iter().map(|(about, _)| about).collect();
        assert_eq!(abouts, ["failed", "slow-tail", "uneven"]);
    }

    #[test]
    fn of_few_requests_the_slowest_is_told_and_no_thousandth() {
        let tail = |requests: u64| {
            let mut slow = drive("sda", None, 200.0);
            let read = slow.read.as_mut().unwrap();
            (read.requests, read.latency.max) = (requests, 2_000_000_000);
            read.latency.p999 = 900_000_000;
            slow_tail(&slow).unwrap().text
        };
        assert_eq!(
            tail(999),
            "sda is slow at times: the slowest of 999 requests took 2.0 s, half take 4.0 ms; drives \
             that retry reads do so"
        );
        assert_eq!(
            tail(1000),
            "sda is slow at times: one request in 1,000 takes 900 ms or longer, half take 4.0 ms; \
             drives that retry reads do so"
        );
    }

    #[test]
    fn nothing_measured_is_not_fine() {
        assert!(verdicts(&Report::default()).is_empty());
        let report = Report {
            subjects: vec![drive("sda", None, 200.0)],
            ..Report::default()
        };
        assert_eq!(said(&report)[0].0, "fine");
    }
}
