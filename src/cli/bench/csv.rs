//! A bench as comma-separated values (RFC 4180): a line for each figure.

use crate::bench::report::{Measure, Report, Subject};
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
                    ",,files/s,{:.1},{:.1},{:.1},,{},,,,,",
                    small.rate, small.rate_min, small.rate_max, small.files
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
            &format!(",,bytes/s,{rates},{},,,,,,", report.repetitions),
        );
    }
    if let Some(pair) = &report.pair {
        let target = Subject {
            name: "target".to_owned(),
            path: pair.target.clone(),
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
                let count = report.subjects.len().to_string();
                line(
                    &mut text,
                    what,
                    &target,
                    &count,
                    &format!(",,bytes/s,{rates},{},,,,,,", report.repetitions),
                );
            }
        }
    }
    text
}

fn rates(rate: f64, least: f64, most: f64) -> String {
    format!("{rate:.0},{least:.0},{most:.0}")
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
    let words = [what, &subject.name, &subject.path, model, serial, count].map(quoted);
    push(text, format_args!("{},{figures}\r\n", words.join(",")));
}

/// Quotes a field that needs it. A leading `=`, `+`, `-` or `@` gets a quote mark before it, because
/// spreadsheets take such a field for a formula and a drive names itself.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']);
    let field = if formula {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains([',', '"', '\n', '\r']) {
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
}
