//! A bench as people read it: what it means first, then the figures.

use crate::bench::report::{Estimate, Measure, Report, Subject, Together};
use crate::bench::words::{list, percent};
use crate::cli::escape::escape;
use crate::cli::render::{heading, table};
use crate::cli::text::{Paint, Tone, push};
use crate::cli::units::{count, counted, duration, rate, seconds, size, whole};

/// Columns of figures in the table of drives.
const RIGHT: [usize; 6] = [3, 4, 5, 6, 7, 8];

/// Returns the whole text.
pub(super) fn render(report: &Report, paint: Paint) -> String {
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
    text.push_str(&heading(paint, "reading, one by one"));
    text.push_str(&drives(&report.subjects, paint));
    text.push_str(&zones(report, paint));
    if let Some(together) = &report.together
        && !together.steps.is_empty()
    {
        text.push_str(&heading(paint, "reading, together"));
        text.push_str(&self::together(together));
    }
    text.push_str(&writing(report, paint));
    text.push_str(&know(report, paint));
    text
}

/// Writes of directories and of the target, and what a copy would reach.
fn writing(report: &Report, paint: Paint) -> String {
    let row = |name: &str, write: &Measure| {
        let mut row = vec![escape(name.as_bytes())];
        row.extend(figures(write));
        row
    };
    let mut rows: Vec<Vec<String>> = report
        .subjects
        .iter()
        .filter_map(|subject| Some(row(&subject.name, subject.write.as_ref()?)))
        .collect();
    let pair = report.pair.as_ref();
    if let Some(pair) = pair
        && let Some(write) = &pair.write
    {
        rows.push(row(&pair.target, write));
    }
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str(&heading(paint, "writing"));
        text.push_str(&table(&rows, &[1, 2, 3, 4, 5, 6]));
    }
    if let Some(pair) = pair {
        let rows: Vec<Vec<String>> = [("hashed", &pair.hashed), ("no hash", &pair.unhashed)]
            .into_iter()
            .filter_map(|(name, reached)| {
                let reached = reached.as_ref()?;
                Some(vec![
                    name.to_owned(),
                    rate(whole(reached.rate)),
                    spread(reached.rate_min, reached.rate_max),
                    format!("processors {} busy", percent(reached.busy)),
                ])
            })
            .collect();
        if !rows.is_empty() {
            let target = escape(pair.target.as_bytes());
            text.push_str(&heading(paint, &format!("all of them into {target}")));
            text.push_str(&table(&rows, &[1, 2]));
        }
    }
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
        "{} samples of {} s each, after {} s that do not count; {}, Linux {}, {}",
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

fn drives(subjects: &[Subject], paint: Paint) -> String {
    let titles = [
        "drive",
        "model",
        "serial",
        "request",
        "rate",
        "slowest..fastest",
        "50%",
        "99%",
        "99.9%",
        "",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(subjects.iter().map(row));
    for column in [1, 2] {
        let empty = |row: &Vec<String>| row.get(column).is_none_or(String::is_empty);
        if rows.iter().skip(1).all(empty)
            && let Some(title) = rows.first_mut().and_then(|row| row.get_mut(column))
        {
            title.clear();
        }
    }
    let lines = table(&rows, &RIGHT);
    match lines.split_once('\n') {
        Some((titles, rest)) => format!("{}\n{rest}", paint.paint(Tone::Faint, titles)),
        None => lines,
    }
}

fn row(subject: &Subject) -> Vec<String> {
    let drive = subject.drives.first().filter(|_| subject.drives.len() == 1);
    let clean = |text: Option<&String>| text.map_or(String::new(), |text| escape(text.as_bytes()));
    let mut row = vec![
        escape(subject.name.as_bytes()),
        clean(drive.and_then(|drive| drive.model.as_ref())),
        clean(drive.and_then(|drive| drive.serial.as_ref())),
    ];
    match &subject.read {
        Some(read) => row.extend(figures(read)),
        None => row.extend([const { String::new() }; 6]),
    }
    let mut notes = Vec::new();
    if let Some(small) = &subject.small {
        notes.push(format!("{} small files/s", count(whole(small.rate))));
    }
    if subject.access != "direct" && !subject.access.is_empty() {
        notes.push(match subject.access.as_str() {
            "dropped" => "dropped from memory first".to_owned(),
            _ => "perhaps from memory".to_owned(),
        });
    }
    if subject.error.is_some() {
        notes.push("failed".to_owned());
    }
    row.push(notes.join("; "));
    row
}

fn figures(read: &Measure) -> [String; 6] {
    [
        format!("{} KiB x {}", read.block >> 10, read.depth),
        rate(whole(read.rate)),
        spread(read.rate_min, read.rate_max),
        latency(read.latency.p50),
        latency(read.latency.p99),
        latency(read.latency.p999),
    ]
}

/// `85 us`, `4.21 ms`, `1.30 s`.
pub(super) fn latency(nanos: u64) -> String {
    let three = |value: u64, unit: u64, word: &str| {
        let hundredths = value.saturating_mul(100) / unit;
        match hundredths {
            0..1000 => format!("{}.{:02} {word}", hundredths / 100, hundredths % 100),
            1000..10_000 => format!("{}.{} {word}", hundredths / 100, hundredths % 100 / 10),
            _ => format!("{} {word}", hundredths / 100),
        }
    };
    match nanos {
        0..1_000_000 => three(nanos, 1000, "us"),
        1_000_000..1_000_000_000 => three(nanos, 1_000_000, "ms"),
        _ => three(nanos, 1_000_000_000, "s"),
    }
}

fn zones(report: &Report, paint: Paint) -> String {
    let rows: Vec<Vec<String>> = report
        .subjects
        .iter()
        .filter(|subject| !subject.zones.is_empty())
        .map(|subject| {
            let mut row = vec![escape(subject.name.as_bytes())];
            let zone = |zone: &crate::bench::report::Zone| {
                format!("{} {}", zone.name, rate(whole(zone.read.rate)))
            };
            row.extend(subject.zones.iter().map(zone));
            row
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("{}{}", heading(paint, "zones"), table(&rows, &[]))
}

/// Returns the slowest and the fastest of some samples, in bytes a second.
pub(super) fn spread(min: f64, max: f64) -> String {
    format!("{}..{}", size(whole(min)), rate(whole(max)))
}

fn together(together: &Together) -> String {
    let rows: Vec<Vec<String>> = together
        .steps
        .iter()
        .map(|step| {
            let bends = together.bend == Some(step.count);
            vec![
                step.count.to_string(),
                rate(whole(step.rate)),
                spread(step.rate_min, step.rate_max),
                format!("{} of the sum alone", percent(step.efficiency())),
                format!("processors {} busy", percent(step.busy)),
                if bends { "bends here" } else { "" }.to_owned(),
                escape(list(&step.subjects).as_bytes()),
            ]
        })
        .collect();
    table(&rows, &[0, 1, 2, 3])
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
    use crate::bench::report::{DriveFacts, Latency, Pair, TogetherStep, Verdict};

    #[test]
    fn latencies_have_three_digits() {
        let cases = [
            (0, "0.00 us"),
            (85_400, "85.4 us"),
            (999_999, "999 us"),
            (4_213_000, "4.21 ms"),
            (1_300_000_000, "1.30 s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(latency(nanos), text);
        }
    }

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
                text: "sdb is slow".to_owned(),
            }],
            ..Report::default()
        };
        let expected = "\
bench of 1 drive
3 samples of 1 s each, after 0.25 s that do not count; io_uring, Linux 6.18.0, 2 processors

verdict
  ! sdb is slow

reading, one by one
  drive  model  serial      request       rate    slowest..fastest      50%      99%    99.9%
  sdb    EXOS   Z1      256 KiB x 4  52.0 MB/s  50.0 MB..53.0 MB/s  4.20 ms  9.00 ms  20.0 ms

reading, together
  1  52.0 MB/s  52.0 MB..52.0 MB/s  100% of the sum alone  processors 5% busy  sdb

before you believe it
  sdb: only 64 MB
";
        assert_eq!(render(&report, Paint(false)), expected);
    }
}
