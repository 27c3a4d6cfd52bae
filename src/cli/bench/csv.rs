//! A bench as comma-separated values (RFC 4180): a line for each figure.

use crate::bench::report::{Measure, Report, Subject};
use crate::cli::escape::{escape, exact};
use crate::cli::text::push;

const TITLES: &str = "what,subject,path,model,serial,count,block_bytes,depth,unit,rate,rate_min,\
                      rate_max,samples,requests,p50_ns,p90_ns,p99_ns,p999_ns,max_ns";

/// Returns the text, its titles first.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!("{TITLES}\r\n");
    for subject in &report.subjects {
        for point in &subject.sweep {
            let figures = format!("{},{}", point.block, point.depth);
            let rate = format!("{:.0}", point.rate);
            line(
                &mut text,
                "sweep",
                subject,
                "1",
                &format!("{figures},bytes/s,{rate},{rate},{rate},1,,,,,,"),
            );
        }
        if let Some(read) = &subject.read {
            line(&mut text, "read", subject, "1", &measure(read));
        }
        for zone in &subject.zones {
            let what = format!("read-{}", zone.name);
            line(&mut text, &what, subject, "1", &measure(&zone.read));
        }
        if let Some(small) = &subject.small {
            line(
                &mut text,
                "small-files",
                subject,
                "1",
                &format!(
                    ",,files/s,{:.1},{:.1},{:.1},{},{},,,,,",
                    small.rate,
                    small.rate_min,
                    small.rate_max,
                    counted(&small.samples),
                    small.files
                ),
            );
        }
        if let Some(write) = &subject.write {
            line(&mut text, "write", subject, "1", &measure(write));
        }
    }
    let all = Subject {
        name: "all".to_owned(),
        ..Subject::default()
    };
    for step in report.together.iter().flat_map(|together| &together.steps) {
        let rates = rates(step.rate, step.rate_min, step.rate_max);
        let count = step.count.to_string();
        line(
            &mut text,
            "together",
            &all,
            &count,
            &format!(",,bytes/s,{rates},{},,,,,,", counted(&step.samples)),
        );
    }
    if let Some(pair) = &report.pair {
        let target = Subject {
            name: "target".to_owned(),
            path: pair.target.clone(),
            path_hex: pair.target_hex.clone(),
            drives: pair.drives.clone(),
            ..Subject::default()
        };
        if let Some(write) = &pair.write {
            line(&mut text, "target-write", &target, "1", &measure(write));
        }
        for (what, reached) in [
            ("pair-hashed", &pair.hashed),
            ("pair-unhashed", &pair.unhashed),
        ] {
            if let Some(reached) = reached {
                let rates = rates(reached.rate, reached.rate_min, reached.rate_max);
                let sources = report.subjects.iter().filter(|s| s.read.is_some());
                let count = sources.count().to_string();
                line(
                    &mut text,
                    what,
                    &target,
                    &count,
                    &format!(",,bytes/s,{rates},{},,,,,,", counted(&reached.samples)),
                );
            }
        }
    }
    text
}

fn rates(rate: f64, least: f64, most: f64) -> String {
    format!("{rate:.0},{least:.0},{most:.0}")
}

/// How many samples; nothing in reports of before they were kept.
fn counted(samples: &[f64]) -> String {
    match samples.len() {
        0 => String::new(),
        many => many.to_string(),
    }
}

fn measure(measure: &Measure) -> String {
    let latency = &measure.latency;
    format!(
        "{},{},bytes/s,{},{},{},{},{},{},{},{}",
        measure.block,
        measure.depth,
        rates(measure.rate, measure.rate_min, measure.rate_max),
        measure.samples.len(),
        measure.requests,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
    )
}

fn line(text: &mut String, what: &str, subject: &Subject, count: &str, figures: &str) {
    let drive = subject.drives.first().filter(|_| subject.drives.len() == 1);
    let model = drive
        .and_then(|drive| drive.model.as_deref())
        .unwrap_or_default();
    let serial = drive.and_then(|drive| drive.identity()).unwrap_or_default();
    let path = exact(&subject.path, subject.path_hex.as_deref());
    let words: [&[u8]; 6] = [
        what.as_bytes(),
        subject.name.as_bytes(),
        &path,
        model.as_bytes(),
        serial.as_bytes(),
        count.as_bytes(),
    ];
    let words = words.map(quoted);
    push(text, format_args!("{},{figures}\r\n", words.join(",")));
}

/// Returns a field as it stands in a line. What a terminal would obey is escaped, as in a table: a
/// table of values is looked at on one as well, and JSON has names exactly. A leading `=`, `+`, `-`
/// or `@` gets a quote mark before it, because spreadsheets take such a field for a formula and a
/// drive names itself; a tab or a line end, which they pass over to find one, is escaped already.
fn quoted(field: &[u8]) -> String {
    let mut field = escape(field);
    if field.trim_start().starts_with(['=', '+', '-', '@']) {
        field.insert(0, '\'');
    }
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Pair, PairRate, Point, SmallFiles, Together, TogetherStep, Zone};

    #[test]
    fn every_line_has_every_column() {
        let figure = Measure {
            samples: vec![1.0; 3],
            ..Measure::default()
        };
        let reached = Some(PairRate::default());
        let report = Report {
            subjects: vec![Subject {
                name: "sda, \"the\" first".to_owned(),
                path: "=1+1".to_owned(),
                sweep: vec![Point::default()],
                read: Some(figure.clone()),
                zones: vec![Zone {
                    name: "outer".to_owned(),
                    ..Zone::default()
                }],
                small: Some(SmallFiles::default()),
                write: Some(figure.clone()),
                ..Subject::default()
            }],
            together: Some(Together {
                steps: vec![TogetherStep::default()],
                ..Together::default()
            }),
            pair: Some(Pair {
                write: Some(figure),
                hashed: reached.clone(),
                unhashed: reached,
                ..Pair::default()
            }),
            ..Report::default()
        };
        let text = render(&report);
        let columns = TITLES.split(',').count();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 10);
        for line in lines {
            let plain = line.replace("\"sda, \"\"the\"\" first\"", "sda");
            assert_eq!(plain.split(',').count(), columns, "{line}");
            assert!(!line.contains(",=1+1,"), "no formula: {line}");
        }
    }

    #[test]
    fn no_field_is_a_formula_or_moves_a_cursor() {
        let cases: [(&[u8], &str); 12] = [
            (b"plain, \"quoted\"", "\"plain, \"\"quoted\"\"\""),
            (b"=1+1", "'=1+1"),
            (b"+1", "'+1"),
            (b"-1", "'-1"),
            (b"@SUM(A1)", "'@SUM(A1)"),
            (b" =1", "' =1"),
            (b"\t=1", "\\x09=1"),
            (b"\r=1", "\\x0d=1"),
            (b"\n=1", "\\x0a=1"),
            (b"\x1b]0;x\x07", "\\x1b]0;x\\x07"),
            ("\u{202e}=1".as_bytes(), "\\xe2\\x80\\xae=1"),
            (b"\xff", "\\xff"),
        ];
        for (field, told) in cases {
            assert_eq!(quoted(field), told);
        }
    }

    #[test]
    fn samples_and_sources_are_those_there_were() {
        let read = Some(Measure::default());
        let subject = |read| Subject {
            read,
            ..Subject::default()
        };
        let report = Report {
            repetitions: 9,
            // One of them failed.
            subjects: vec![subject(read.clone()), subject(None), subject(read)],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 2,
                    samples: vec![1.0; 4],
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            pair: Some(Pair {
                hashed: Some(PairRate {
                    samples: vec![1.0; 5],
                    ..PairRate::default()
                }),
                unhashed: Some(PairRate::default()),
                ..Pair::default()
            }),
            ..Report::default()
        };
        let text = render(&report);
        let field = |what: &str, title: &str| {
            let column = TITLES.split(',').position(|known| known == title).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{what},")));
            line.unwrap().split(',').nth(column).unwrap().to_owned()
        };
        assert_eq!(field("together", "count"), "2");
        assert_eq!(field("together", "samples"), "4");
        assert_eq!(field("pair-hashed", "count"), "2");
        assert_eq!(field("pair-hashed", "samples"), "5");
        assert_eq!(field("pair-unhashed", "samples"), "", "not known");
    }
}
