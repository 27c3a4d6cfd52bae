//! A bench as comma-separated values (RFC 4180): a line for each figure.

use crate::bench::report::{Measure, Report, Subject};
use crate::cli::escape::{escape, exact};
use crate::cli::text::push;

const TITLES: &str = "what,subject,path,model,serial,count,block_bytes,depth,unit,rate,rate_min,\
                      rate_max,samples,requests,p50_ns,p90_ns,p99_ns,p999_ns,max_ns,access,steady,\
                      backend,kernel,sample_seconds,started";

/// The lines so far, and what ends each of them.
struct Lines<'r> {
    text: String,
    report: &'r Report,
    manner: String,
}

/// What is known of a figure besides the figure.
#[derive(Debug, Clone, Copy, Default)]
struct Proof<'r> {
    /// `access` of what was read.
    access: &'r str,
    /// Nothing where it was not looked at.
    steady: Option<bool>,
}

/// Returns the text, its titles first.
pub(super) fn render(report: &Report) -> String {
    let words = [&report.backend, &report.kernel].map(|word| quoted(word.as_bytes()));
    let [backend, kernel] = words;
    let (seconds, started) = (report.sample_seconds, quoted(report.started.as_bytes()));
    let mut lines = Lines {
        text: format!("{TITLES}\r\n"),
        report,
        manner: format!("{backend},{kernel},{seconds},{started}"),
    };
    for subject in &report.subjects {
        lines.subject(subject);
    }
    lines.together();
    lines.pair();
    lines.text
}

impl Lines<'_> {
    fn subject(&mut self, subject: &Subject) {
        let access = subject.access.as_str();
        let read = |measure: &Measure| Proof {
            access,
            steady: Some(measure.steady),
        };
        let one = Proof {
            access,
            steady: None,
        };
        for point in &subject.sweep {
            let figures = format!("{},{}", point.block, point.depth);
            let rate = format!("{:.0}", point.rate);
            let figures = format!("{figures},bytes/s,{rate},{rate},{rate},1,,,,,,");
            self.line("sweep", subject, 1, &figures, one);
        }
        if let Some(found) = &subject.read {
            self.line("read", subject, 1, &measure(found), read(found));
        }
        for zone in &subject.zones {
            let what = format!("read-{}", zone.name);
            self.line(&what, subject, 1, &measure(&zone.read), read(&zone.read));
        }
        if let Some(small) = &subject.small {
            let figures = format!(
                ",,files/s,{:.1},{:.1},{:.1},{},{},,,,,",
                small.rate,
                small.rate_min,
                small.rate_max,
                counted(&small.samples),
                small.files
            );
            let proof = Proof {
                access,
                steady: Some(small.steady),
            };
            self.line("small-files", subject, 1, &figures, proof);
        }
        if let Some(write) = &subject.write {
            self.line("write", subject, 1, &measure(write), written(write));
        }
    }

    fn together(&mut self) {
        let all = Subject {
            name: "all".to_owned(),
            ..Subject::default()
        };
        let report = self.report;
        for step in report.together.iter().flat_map(|together| &together.steps) {
            let rates = rates(step.rate, step.rate_min, step.rate_max);
            let figures = format!(",,bytes/s,{rates},{},,,,,,", counted(&step.samples));
            let proof = Proof {
                access: least_proved(report, &step.subjects),
                steady: Some(step.steady),
            };
            self.line("together", &all, step.count, &figures, proof);
        }
    }

    fn pair(&mut self) {
        let report = self.report;
        let Some(pair) = &report.pair else {
            return;
        };
        let target = Subject {
            name: "target".to_owned(),
            path: pair.target.clone(),
            path_hex: pair.target_hex.clone(),
            drives: pair.drives.clone(),
            ..Subject::default()
        };
        if let Some(write) = &pair.write {
            self.line("target-write", &target, 1, &measure(write), written(write));
        }
        // Reports of before they were named have all that could be read.
        let count = if pair.subjects.is_empty() {
            let sources = report.subjects.iter().filter(|s| s.read.is_some());
            sources.count()
        } else {
            pair.subjects.len()
        };
        for (what, reached) in [
            ("pair-hashed", &pair.hashed),
            ("pair-unhashed", &pair.unhashed),
        ] {
            if let Some(reached) = reached {
                let rates = rates(reached.rate, reached.rate_min, reached.rate_max);
                let figures = format!(",,bytes/s,{rates},{},,,,,,", counted(&reached.samples));
                let proof = Proof {
                    access: least_proved(report, &pair.subjects),
                    steady: Some(reached.steady),
                };
                self.line(what, &target, count, &figures, proof);
            }
        }
    }

    fn line(
        &mut self,
        what: &str,
        subject: &Subject,
        count: usize,
        figures: &str,
        proof: Proof<'_>,
    ) {
        let drive = subject.drives.first().filter(|_| subject.drives.len() == 1);
        let model = drive
            .and_then(|drive| drive.model.as_deref())
            .unwrap_or_default();
        let serial = drive.and_then(|drive| drive.identity()).unwrap_or_default();
        let path = exact(&subject.path, subject.path_hex.as_deref());
        let count = count.to_string();
        let words: [&[u8]; 6] = [
            what.as_bytes(),
            subject.name.as_bytes(),
            &path,
            model.as_bytes(),
            serial.as_bytes(),
            count.as_bytes(),
        ];
        let words = words.map(quoted).join(",");
        let (access, manner) = (quoted(proof.access.as_bytes()), &self.manner);
        let steady = proof.steady.map_or("", |is| if is { "yes" } else { "no" });
        push(
            &mut self.text,
            format_args!("{words},{figures},{access},{steady},{manner}\r\n"),
        );
    }
}

/// A write goes to the drive or is synced; `access` is about reading.
fn written(write: &Measure) -> Proof<'static> {
    Proof {
        access: "",
        steady: Some(write.steady),
    }
}

/// Returns the `access` that proves least of those that took part, by name; of all that could be
/// read, where they are not named.
fn least_proved<'r>(report: &'r Report, names: &[String]) -> &'r str {
    let takes_part = |subject: &&Subject| {
        names.contains(&subject.name) || names.is_empty() && subject.read.is_some()
    };
    let all = report.subjects.iter().filter(takes_part);
    let rank = |access: &&str| match *access {
        "" => 0,
        "direct" => 1,
        "dropped" => 2,
        _ => 3,
    };
    let all = all.map(|subject| subject.access.as_str());
    all.max_by_key(rank).unwrap_or_default()
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
        let field = |what: &str, title: &str| field_of(&text, what, title);
        assert_eq!(field("together", "count"), "2");
        assert_eq!(field("together", "samples"), "4");
        assert_eq!(field("pair-hashed", "count"), "2");
        assert_eq!(field("pair-hashed", "samples"), "5");
        assert_eq!(field("pair-unhashed", "samples"), "", "not known");
        // One more failed beside the others.
        let mut named = report.clone();
        named.pair.as_mut().unwrap().subjects = vec!["sda".to_owned()];
        let copied = field_of(&render(&named), "pair-hashed", "count");
        assert_eq!(copied, "1");
    }

    fn field_of(text: &str, what: &str, title: &str) -> String {
        let column = TITLES.split(',').position(|known| known == title).unwrap();
        let start = format!("{what},");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        line.split(',').nth(column).unwrap().to_owned()
    }

    #[test]
    fn a_figure_says_how_far_it_can_be_believed() {
        let subject = |name: &str, access: &str, steady: bool| Subject {
            name: name.to_owned(),
            access: access.to_owned(),
            read: Some(Measure {
                steady,
                ..Measure::default()
            }),
            ..Subject::default()
        };
        let step = |names: &[&str]| TogetherStep {
            count: names.len(),
            subjects: names.iter().map(|name| (*name).to_owned()).collect(),
            ..TogetherStep::default()
        };
        let report = Report {
            kernel: "6.18.0".to_owned(),
            backend: "blocking".to_owned(),
            sample_seconds: 0.5,
            started: "2026-01-02T03:04:05Z".to_owned(),
            subjects: vec![
                subject("sda", "direct", true),
                subject("/tank", "unproved", false),
            ],
            together: Some(Together {
                steps: vec![step(&["sda"]), step(&["sda", "/tank"])],
                ..Together::default()
            }),
            pair: Some(Pair {
                write: Some(Measure::default()),
                hashed: Some(PairRate::default()),
                subjects: vec!["sda".to_owned()],
                ..Pair::default()
            }),
            ..Report::default()
        };
        let text = render(&report);
        let manner = ",blocking,6.18.0,0.5,2026-01-02T03:04:05Z";
        let told: Vec<(&str, &str)> = text
            .split_terminator("\r\n")
            .skip(1)
            .map(|line| {
                let line = line.strip_suffix(manner).unwrap();
                let (rest, steady) = line.rsplit_once(',').unwrap();
                (rest.rsplit_once(',').unwrap().1, steady)
            })
            .collect();
        let expected = [
            ("direct", "yes"),
            ("unproved", "no"),
            ("direct", "no"),
            ("unproved", "no"),
            ("", "no"),
            ("direct", "no"),
        ];
        assert_eq!(told, expected);
    }
}
