//! A bench as people read it: what it means first, then the figures.

use super::figures;
use super::ink::Ink;
use crate::bench::report::{Estimate, Report};
use crate::bench::words::list;
use crate::cli::escape::escape;
use crate::cli::render::heading;
use crate::cli::text::{Paint, Tone, push};
use crate::cli::units::{count, counted, duration, seconds, size};

/// Returns the whole text.
pub(super) fn render(report: &Report, paint: Paint, ink: Ink) -> String {
    let mut text = paint.paint(Tone::Strong, &headline(report));
    text.push('\n');
    push(
        &mut text,
        format_args!("{}\n", paint.paint(Tone::Faint, &manner(report))),
    );
    if !report.verdicts.is_empty() {
        text.push_str(&heading(paint, "verdict"));
        for verdict in &report.verdicts {
            let (mark, tone) = match (verdict.bad, verdict.about.as_str()) {
                (true, _) => ("!", Tone::Bad),
                (false, "fine") => ("", Tone::Good),
                (false, _) => ("", Tone::Notice),
            };
            let line = escape(verdict.text.as_bytes());
            push(
                &mut text,
                format_args!("  {mark:<1} {}\n", paint.paint(tone, &line)),
            );
        }
    }
    if let Some(estimate) = &report.estimate {
        text.push_str(&heading(paint, "a copy of what is on them"));
        push(&mut text, format_args!("  {}\n", self::estimate(estimate)));
    }
    text.push_str(&figures::render(report, paint, ink));
    text.push_str(&know(report, paint));
    text
}

fn headline(report: &Report) -> String {
    let many = u64::try_from(report.subjects.len()).unwrap_or(u64::MAX);
    let mut text = format!("bench of {}", counted(many, "drive", "drives"));
    if !report.complete {
        text.push_str("; stopped before its end");
    }
    text
}

fn manner(report: &Report) -> String {
    format!(
        "at least {} samples of {} s each, of reads past all caches after {} s that do not count; {}, Linux {}, {}",
        report.repetitions,
        report.sample_seconds,
        report.warm_up_seconds,
        report.backend,
        escape(report.kernel.as_bytes()),
        counted(
            u64::try_from(report.cpus).unwrap_or(u64::MAX),
            "processor",
            "processors"
        ),
    )
}

fn estimate(estimate: &Estimate) -> String {
    let files = if estimate.files > 0 {
        format!(" in {} files", count(estimate.files))
    } else {
        String::new()
    };
    let time = |value: f64| duration(seconds(value));
    format!(
        "{}{files}: about {} ({} to {}), limited by {}; {}",
        size(estimate.bytes),
        time(estimate.seconds),
        time(estimate.seconds_min),
        time(estimate.seconds_max),
        escape(estimate.limited_by.as_bytes()),
        escape(estimate.basis.as_bytes()),
    )
}

/// Returns what a reader must know before believing the figures, not yet escaped. What is said of
/// several drives in the same words is said once: of sixty it would be all that is seen.
pub(super) fn to_know(report: &Report) -> Vec<String> {
    let mut said: Vec<(&String, Vec<String>)> = Vec::new();
    for subject in &report.subjects {
        for text in subject.warnings.iter().chain(&subject.error) {
            let name = subject.name.clone();
            match said.iter_mut().find(|(before, _)| *before == text) {
                Some((_, names)) => names.push(name),
                None => said.push((text, vec![name])),
            }
        }
    }
    let all = report.subjects.len();
    let of_subjects = said.into_iter().map(|(text, names)| {
        if names.len() == all && all > 2 {
            format!("all {all}: {text}")
        } else {
            format!("{}: {text}", list(&names))
        }
    });
    // A drive's failure beside others is its own.
    let whose = |failed: &[String], else_of: &str| match failed {
        [] => else_of.to_owned(),
        names => list(names),
    };
    let of_together = report.together.iter().filter_map(|together| {
        let whose = whose(&together.error_subjects, "all at once");
        Some(format!("{whose}: {}", together.error.as_ref()?))
    });
    let of_pair = report.pair.iter().flat_map(|pair| {
        let warnings = pair
            .warnings
            .iter()
            .map(|text| format!("{}: {text}", pair.target));
        let whose = whose(&pair.error_subjects, &pair.target);
        warnings.chain(
            pair.error
                .iter()
                .map(move |text| format!("{whose}: {text}")),
        )
    });
    let own = report.warnings.iter().cloned();
    own.chain(of_subjects)
        .chain(of_together)
        .chain(of_pair)
        .collect()
}

fn know(report: &Report, paint: Paint) -> String {
    let lines = to_know(report);
    if lines.is_empty() {
        return String::new();
    }
    let mut text = heading(paint, "before you believe it");
    for line in lines {
        let line = escape(line.as_bytes());
        push(
            &mut text,
            format_args!("  {}\n", paint.paint(Tone::Notice, &line)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{
        DriveFacts, Latency, Measure, Pair, Subject, Together, TogetherStep, Verdict,
    };

    #[test]
    fn what_is_said_of_many_is_said_once() {
        let subject = |name: &str, warnings: &[&str]| Subject {
            name: name.to_owned(),
            warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
            ..Subject::default()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let report = Report {
            warnings: vec!["first".to_owned()],
            together: Some(Together {
                error: Some("read: gone".to_owned()),
                error_subjects: names(&["sdb"]),
                ..Together::default()
            }),
            pair: Some(Pair {
                target: "/tank".to_owned(),
                warnings: names(&["slow"]),
                error: Some("no room".to_owned()),
                ..Pair::default()
            }),
            subjects: vec![
                subject("sda", &["small", "old"]),
                subject("sdb", &["small"]),
                subject("sdc", &["small", "old"]),
            ],
            ..Report::default()
        };
        let said = [
            "first",
            "all 3: small",
            "sda and sdc: old",
            "sdb: read: gone",
            "/tank: slow",
            "/tank: no room",
        ];
        assert_eq!(to_know(&report), said);
    }

    #[test]
    fn the_verdict_comes_before_the_figures() {
        let report = Report {
            kernel: "6.18.0".to_owned(),
            backend: "io_uring".to_owned(),
            cpus: 2,
            sample_seconds: 1.0,
            warm_up_seconds: 0.25,
            repetitions: 3,
            complete: true,
            subjects: vec![Subject {
                name: "sdb".to_owned(),
                access: "direct".to_owned(),
                drives: vec![DriveFacts {
                    model: Some("EXOS".to_owned()),
                    serial: Some("Z1".to_owned()),
                    ..DriveFacts::default()
                }],
                read: Some(Measure {
                    block: 256 << 10,
                    depth: 4,
                    rate: 52e6,
                    rate_min: 50e6,
                    rate_max: 53e6,
                    latency: Latency {
                        min: 4_000_000,
                        max: 25_000_000,
                        p50: 4_200_000,
                        p99: 9_000_000,
                        p999: 20_000_000,
                        ..Latency::default()
                    },
                    ..Measure::default()
                }),
                warnings: vec!["only 64 MB".to_owned()],
                ..Subject::default()
            }],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 1,
                    rate: 52e6,
                    rate_min: 52e6,
                    rate_max: 52e6,
                    alone: 52e6,
                    each: vec![52e6],
                    subjects: vec!["sdb".to_owned()],
                    busy: 0.046,
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            verdicts: vec![Verdict {
                about: "slow-drive".to_owned(),
                bad: true,
                subjects: vec!["sdb".to_owned()],
                text: "sdb is slow".to_owned(),
            }],
            ..Report::default()
        };
        let expected = "\
bench of 1 drive
at least 3 samples of 1 s each, of reads past all caches after 0.25 s that do not count; io_uring, Linux 6.18.0, 2 processors

verdict
  ! sdb is slow

reading, one by one
  drive  serial       rate    slowest..fastest
  sdb    Z1      52.0 MB/s  50.0 MB..53.0 MB/s

how long a request took
  drive  model      request      50%      99%    99.9%  4.00 ms    25.0 ms
  sdb    EXOS   256 KiB x 4  4.20 ms  9.00 ms  20.0 ms  +========---------

reading, together
  drives       rate    slowest..fastest  of sum  cpu
       1  52.0 MB/s  52.0 MB..52.0 MB/s    100%   5%
  1: sdb

before you believe it
  sdb: only 64 MB
";
        assert_eq!(render(&report, Paint(false), Ink::Ascii), expected);
    }
}
