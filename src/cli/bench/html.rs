//! A bench as one page that needs nothing else: verdict, charts, tables, and the whole report for
//! programs in it.

use super::chart::{Bar, Line, NAMES_MAX, Span, bars, lines, spans};
use super::figures::latency;
use super::markup::{embedded, escape};
use super::table::to_know;
use super::{scaling, tiles};
use crate::bench::report::{Measure, Report, Subject};
use crate::cli::text::push;
use crate::cli::units::{count, counted, duration, rate, seconds, size, whole};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--faint:#6a737d;--line:#d5dae0;--bar:#2f6fb3;\
--other:#c2701c;--bad:#b3261e;--paper:#fff;--card:#f6f8fa}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--faint:#9aa3ad;--line:#3a4149;--bar:#6ea8e5;\
--other:#e0a15a;--bad:#ff8a80;--paper:#16191d;--card:#1f242a}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;\
margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.2rem .6rem .2rem 0;border-bottom:1px solid var(--line)}\
td.n,th.n{text-align:right}.faint{color:var(--faint)}.bad{color:var(--bad);font-weight:600}\
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--ink)}\
.bar{fill:var(--bar)}.bar.bad{fill:var(--bad)}.span{stroke:var(--bar);stroke-width:6;\
stroke-linecap:round;opacity:.35}.dot{fill:var(--bar)}.tiles{display:grid;gap:.8rem;\
grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));margin:1.2rem 0}.tile{padding:.7rem .9rem;\
border:1px solid var(--line);border-radius:.5rem;background:var(--card);color:var(--faint);\
font-size:.85rem}.tile b{display:block;font-size:1.5rem;color:var(--ink)}.whisker{stroke:var(--ink)}.axis{stroke:var(--line)}\
.one{stroke:var(--bar);fill:none;stroke-width:2}.h1{stroke:#c2701c}.h2{stroke:#2e8b57}\
.pt{fill:var(--ink);opacity:.55}.many{stroke-width:1.2;opacity:.6}.h3{stroke:#8e5bb5}.h4{stroke:#b8860b}.h5{stroke:#c04a77}.two{stroke:var(--other);fill:none;stroke-width:2;\
stroke-dasharray:5 4}@media print{body{max-width:none}h2{break-after:avoid}svg,table{\
break-inside:avoid}}";

/// Returns the page.
pub(super) fn render(report: &Report) -> String {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    push(
        &mut page,
        format_args!("<title>inhaul bench {}</title>", escape(&report.started)),
    );
    push(
        &mut page,
        format_args!("<style>{STYLE}</style></head><body>\n"),
    );
    head(&mut page, report);
    page.push_str(&tiles::render(report));
    verdict(&mut page, report);
    reading(&mut page, report);
    latencies(&mut page, report);
    zones(&mut page, report);
    sweep(&mut page, report);
    page.push_str(&scaling::render(report));
    writing(&mut page, report);
    know(&mut page, report);
    page.push_str(&embedded(report));
    page.push_str("</body></html>\n");
    page
}

fn head(page: &mut String, report: &Report) {
    let whole_of_it = if report.complete {
        ""
    } else {
        ", stopped before its end"
    };
    push(
        page,
        format_args!(
            "<h1>Bench of {}{whole_of_it}</h1>\n",
            many(report.subjects.len(), "drive", "drives"),
        ),
    );
    push(
        page,
        format_args!(
            "<p class=\"faint\">{}; at least {} samples of {} s each, of reads past all caches after {} s of warm-up; {}, Linux {}, {}; inhaul {}</p>\n",
            escape(&day(&report.started)),
            report.repetitions,
            report.sample_seconds,
            report.warm_up_seconds,
            escape(&report.backend),
            escape(&report.kernel),
            many(report.cpus, "processor", "processors"),
            escape(&report.version),
        ),
    );
}

fn many(number: usize, one: &str, many: &str) -> String {
    counted(u64::try_from(number).unwrap_or(u64::MAX), one, many)
}

/// A moment as people write it: `2026-01-02 03:04 UTC`.
fn day(started: &str) -> String {
    match (started.get(..10), started.get(11..16)) {
        (Some(day), Some(time)) if started.ends_with('Z') => format!("{day} {time} UTC"),
        _ => started.to_owned(),
    }
}

fn verdict(page: &mut String, report: &Report) {
    if report.verdicts.is_empty() && report.estimate.is_none() {
        // Stopped before there was anything to say.
        return;
    }
    page.push_str("<h2>Verdict</h2><ul>\n");
    for verdict in &report.verdicts {
        let class = if verdict.bad { " class=\"bad\"" } else { "" };
        push(
            page,
            format_args!("<li{class}>{}</li>\n", escape(&verdict.text)),
        );
    }
    page.push_str("</ul>\n");
    if let Some(estimate) = &report.estimate {
        let time = |value: f64| duration(seconds(value));
        push(
            page,
            format_args!(
                "<p>A copy of the {} on them takes about <b>{}</b> ({} to {}), limited by {}; {}.</p>\n",
                size(estimate.bytes),
                time(estimate.seconds),
                time(estimate.seconds_min),
                time(estimate.seconds_max),
                escape(&estimate.limited_by),
                escape(&estimate.basis),
            ),
        );
    }
}

fn reading(page: &mut String, report: &Report) {
    page.push_str("<h2>Reading, one by one</h2>\n");
    let told: Vec<Bar> = report
        .subjects
        .iter()
        .filter_map(|subject| {
            let bar = bar(&subject.name, subject.read.as_ref()?);
            let bad = is_slow(report, &subject.name);
            Some(Bar { bad, ..bar })
        })
        .collect();
    page.push_str(&bars(&told));
    let titles = [
        "drive",
        "model",
        "serial",
        "request",
        "rate",
        "latency 50%",
        "99%",
        "99.9%",
        "small files",
    ];
    table(page, &titles, 3, report.subjects.iter().map(row));
}

/// Whether a verdict says that a drive is slow.
fn is_slow(report: &Report, name: &str) -> bool {
    let mut verdicts = report.verdicts.iter();
    verdicts.any(|it| it.about == "slow-drive" && it.subjects.iter().any(|slow| slow == name))
}

/// How long requests took: half of them, 99 of 100, 999 of 1,000.
fn latencies(page: &mut String, report: &Report) {
    let told: Vec<Span> = report
        .subjects
        .iter()
        .filter_map(|subject| {
            let told = &subject.read.as_ref()?.latency;
            let marks = [told.p50, told.p99, told.p999];
            let name = subject.name.clone();
            (told.p50 > 0).then_some(Span { name, marks })
        })
        .collect();
    if !told.is_empty() {
        page.push_str("<h2>Latency of a read</h2>\n");
        page.push_str(&spans(&told));
        page.push_str(
            "<p class=\"faint\">Half of all requests, 99 of 100, 999 of 1,000; each step of the \
             scale is ten times the one before.</p>\n",
        );
    }
}

fn bar(name: &str, read: &Measure) -> Bar {
    Bar {
        name: name.to_owned(),
        value: read.rate,
        least: read.rate_min,
        most: read.rate_max,
        bad: false,
    }
}

fn row(subject: &Subject) -> Vec<String> {
    let drive = subject.drives.first().filter(|_| subject.drives.len() == 1);
    let mut row = vec![
        subject.name.clone(),
        drive
            .and_then(|drive| drive.model.clone())
            .unwrap_or_default(),
        drive
            .and_then(|drive| drive.serial.clone())
            .unwrap_or_default(),
    ];
    if let Some(read) = &subject.read {
        row.push(format!("{} KiB x {}", read.block >> 10, read.depth));
        row.push(rate(whole(read.rate)));
        let told = &read.latency;
        row.extend([told.p50, told.p99, told.p999].map(latency));
    } else {
        row.extend([const { String::new() }; 5]);
    }
    let small = subject.small.as_ref();
    row.push(small.map_or(String::new(), |small| {
        format!("{}/s", count(whole(small.rate)))
    }));
    row
}

fn zones(page: &mut String, report: &Report) {
    let told: Vec<Bar> = report
        .subjects
        .iter()
        .flat_map(|subject| {
            let name = |zone: &str| format!("{} {zone}", subject.name);
            subject
                .zones
                .iter()
                .map(move |zone| bar(&name(&zone.name), &zone.read))
        })
        .collect();
    if !told.is_empty() {
        page.push_str("<h2>Zones of spinning drives</h2>\n");
        page.push_str(&bars(&told));
    }
}

/// Rate over queue depth at the engine's block, one line a drive.
fn sweep(page: &mut String, report: &Report) {
    let told: Vec<Line> = report
        .subjects
        .iter()
        .filter(|subject| !subject.sweep.is_empty())
        .map(|subject| {
            let deep = subject.sweep.iter().filter(|point| point.block == 1 << 20);
            Line {
                name: subject.name.clone(),
                points: deep.map(|point| (point.depth, point.rate)).collect(),
                faint: false,
            }
        })
        .collect();
    if !told.is_empty() {
        page.push_str("<h2>Rate by queue depth, 1 MiB a request</h2>\n");
        page.push_str(&lines(&told, "requests at once"));
        page.push_str("<p class=\"faint\">One sample each: a search, not a figure.");
        if told.len() > NAMES_MAX {
            page.push_str(" Only the fastest and the slowest are named.");
        }
        page.push_str("</p>\n");
    }
}

fn writing(page: &mut String, report: &Report) {
    let mut told: Vec<Bar> = report
        .subjects
        .iter()
        .filter_map(|subject| {
            Some(bar(
                &format!("{} write", subject.name),
                subject.write.as_ref()?,
            ))
        })
        .collect();
    if let Some(pair) = &report.pair {
        told.extend(pair.write.as_ref().map(|write| bar("target write", write)));
        for (name, reached) in [
            ("all, hashed", &pair.hashed),
            ("all, no hash", &pair.unhashed),
        ] {
            told.extend(reached.as_ref().map(|reached| Bar {
                name: name.to_owned(),
                value: reached.rate,
                least: reached.rate_min,
                most: reached.rate_max,
                bad: false,
            }));
        }
    }
    if !told.is_empty() {
        page.push_str("<h2>Writing</h2>\n");
        page.push_str(&bars(&told));
    }
}

fn know(page: &mut String, report: &Report) {
    let all: Vec<String> = to_know(report).iter().map(|text| escape(text)).collect();
    if !all.is_empty() {
        push(
            page,
            format_args!(
                "<h2>Before you believe it</h2><ul><li>{}</li></ul>\n",
                all.join("</li><li>")
            ),
        );
    }
}

/// Adds a table; columns from `numbers` on are figures. One in which nothing stands is left out.
pub(super) fn table(
    page: &mut String,
    titles: &[&str],
    numbers: usize,
    rows: impl Iterator<Item = Vec<String>>,
) {
    let class = |column: usize| {
        if column >= numbers {
            " class=\"n\""
        } else {
            ""
        }
    };
    let rows: Vec<Vec<String>> = rows.collect();
    let says = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        column == 0 || cells.any(|cell| !cell.is_empty())
    };
    page.push_str("<table><tr>");
    for (column, title) in titles
        .iter()
        .enumerate()
        .filter(|(column, _)| says(*column))
    {
        push(page, format_args!("<th{}>{title}</th>", class(column)));
    }
    page.push_str("</tr>\n");
    for row in &rows {
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate().filter(|(column, _)| says(*column)) {
            push(
                page,
                format_args!("<td{}>{}</td>", class(column), escape(cell)),
            );
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Point, Together, TogetherStep, Verdict};

    #[test]
    fn a_column_in_which_nothing_stands_is_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let mut page = String::new();
        let rows = [row(["sda", "", "1"]), row(["sdb", "", ""])];
        table(&mut page, &["drive", "model", "rate"], 2, rows.into_iter());
        assert_eq!(
            page,
            "<table><tr><th>drive</th><th class=\"n\">rate</th></tr>\n\
             <tr><td>sda</td><td class=\"n\">1</td></tr>\n\
             <tr><td>sdb</td><td class=\"n\"></td></tr>\n</table>\n"
        );
    }

    #[test]
    fn a_moment_reads_well() {
        assert_eq!(day("2026-01-02T03:04:05Z"), "2026-01-02 03:04 UTC");
        assert_eq!(day("whenever"), "whenever");
    }

    #[test]
    fn one_page_holds_all_and_asks_nobody() {
        let name = "sd<a>&\"</script>";
        let report = Report {
            complete: true,
            subjects: vec![Subject {
                name: name.to_owned(),
                sweep: vec![Point {
                    block: 1 << 20,
                    depth: 1,
                    rate: 1e8,
                }],
                read: Some(Measure {
                    rate: 2e8,
                    rate_min: 1e8,
                    rate_max: 3e8,
                    ..Measure::default()
                }),
                ..Subject::default()
            }],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 1,
                    rate: 2e8,
                    alone: 2e8,
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            verdicts: vec![Verdict {
                about: "slow-drive".to_owned(),
                bad: true,
                subjects: vec![name.to_owned()],
                text: format!("{name} is slow"),
            }],
            ..Report::default()
        };
        let page = render(&report);
        assert!(!page.contains(name), "names are escaped");
        assert!(page.contains("<li class=\"bad\">sd&lt;a&gt;&amp;&quot;&lt;/script&gt; is slow"));
        assert_eq!(page.matches("class=\"bar bad\"").count(), 1);
        assert!(page.contains("<h1>Bench of 1 drive</h1>"));
        assert_eq!(page.matches("<svg").count(), 3);
        for asked in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(asked), "{asked}");
        }
        assert_eq!(page.matches("</script>").count(), 1);
        let json = page.split("id=\"report\">").nth(1).unwrap();
        let json = json.split("</script>").next().unwrap();
        let again: Report = serde_json::from_str(json).unwrap();
        assert_eq!(again, report);
    }
}
