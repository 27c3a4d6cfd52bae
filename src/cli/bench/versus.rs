//! `inhaul bench --compare`: two reports that were kept, side by side.

use std::path::Path;

use serde::Serialize;

use super::figures::latency;
use super::resolve::Form;
use crate::bench::compare::{Row, compare, notes};
use crate::bench::report::{Knee, Report, SCHEMA};
use crate::cli::escape::{escape, escape_json, escape_path};
use crate::cli::render::table;
use crate::cli::resolve::Misuse;
use crate::cli::text::{Paint, Tone, push};
use crate::cli::units::{count, rate, whole};

#[derive(Serialize)]
struct Document<'r> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    before: &'r str,
    after: &'r str,
    notes: &'r [String],
    rows: &'r [Row],
}

/// Returns what to print.
///
/// # Errors
/// A file that cannot be read, or is no report of a bench.
pub(super) fn render(
    before: &Path,
    after: &Path,
    form: Form,
    paint: Paint,
) -> Result<Vec<u8>, Misuse> {
    let (before, after) = (load(before)?, load(after)?);
    let rows = compare(&before, &after);
    if form == Form::Json {
        let document = Document {
            schema: SCHEMA,
            kind: "bench-compare",
            before: &before.started,
            after: &after.started,
            notes: &notes(&before, &after),
            rows: &rows,
        };
        let mut text = serde_json::to_vec(&document).unwrap_or_default();
        text.push(b'\n');
        return Ok(escape_json(text));
    }
    Ok(text(&before, &after, &rows, paint).into_bytes())
}

fn load(path: &Path) -> Result<Report, Misuse> {
    let wrong = |why: String| Misuse {
        what: format!("--compare {}", escape_path(path)),
        why,
        next: "give two files that 'inhaul bench --json' has written".to_owned(),
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let report: Report = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not a report of a bench: {error}")))?;
    if report.kind != "bench" {
        return Err(wrong("a report of something else".to_owned()));
    }
    if report.schema != SCHEMA {
        let schema = report.schema;
        return Err(wrong(format!(
            "schema {schema}, this inhaul reads {SCHEMA}"
        )));
    }
    Ok(report)
}

fn text(before: &Report, after: &Report, rows: &[Row], paint: Paint) -> String {
    let many = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
    let mut head = format!(
        "{} against {}: {} slower, {} faster, {} the same",
        escape(after.started.as_bytes()),
        escape(before.started.as_bytes()),
        many("slower"),
        many("faster"),
        many("same"),
    );
    if many("not-comparable") > 0 {
        push(
            &mut head,
            format_args!(", {} not comparable", many("not-comparable")),
        );
    }
    let tone = if many("slower") > 0 {
        Tone::Notice
    } else {
        Tone::Strong
    };
    let mut text = paint.paint(tone, &head);
    text.push('\n');
    for note in notes(before, after) {
        let note = format!("note: {}", escape(note.as_bytes()));
        push(
            &mut text,
            format_args!("{}\n", paint.paint(Tone::Notice, &note)),
        );
    }
    text.push('\n');
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    for (line, row) in table(&lines, &[2, 3, 4]).lines().zip(rows) {
        let tone = match row.verdict.as_str() {
            "slower" => Tone::Bad,
            "faster" => Tone::Good,
            _ => Tone::Plain,
        };
        push(&mut text, format_args!("{}\n", paint.paint(tone, line)));
    }
    text
}

fn line(row: &Row) -> Vec<String> {
    let figure = |value: Option<f64>| match value {
        Some(value) => match row.unit.as_str() {
            "files/s" => format!("{} files/s", count(whole(value))),
            "ns" => latency(whole(value)),
            _ => rate(whole(value)),
        },
        None => "-".to_owned(),
    };
    let mut drive = escape(row.drive.as_bytes());
    if let Some(path) = &row.path {
        push(&mut drive, format_args!(" {}", escape(path.as_bytes())));
    }
    if row.nth > 1 {
        push(&mut drive, format_args!(" #{}", row.nth));
    }
    let requests = |at: Knee| format!("{} KiB x {}", at.block >> 10, at.depth);
    let differ = row.requests_before.zip(row.requests_after);
    let differ = differ.filter(|(before, after)| before != after);
    vec![
        drive,
        row.what.clone(),
        figure(row.before),
        figure(row.after),
        row.ratio
            .map_or(String::new(), |ratio| format!("x {ratio:.2}")),
        row.verdict.replace('-', " "),
        differ.map_or(String::new(), |(before, after)| {
            format!("by {}, then by {}", requests(before), requests(after))
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_as_before_after_and_how_much() {
        let row = |drive: &str, before: Option<f64>, after: Option<f64>, verdict: &str| Row {
            drive: drive.to_owned(),
            what: "read".to_owned(),
            before,
            after,
            ratio: before.zip(after).map(|(before, after)| after / before),
            verdict: verdict.to_owned(),
            ..Row::default()
        };
        let requests = |block, depth| Some(Knee { block, depth });
        let rows = [
            Row {
                requests_before: requests(1 << 20, 4),
                requests_after: requests(65_536, 1),
                ..row("Z1", Some(208e6), Some(52e6), "slower")
            },
            Row {
                path: Some("/dev/sdb\u{1b}".to_owned()),
                nth: 2,
                requests_before: requests(1 << 20, 4),
                requests_after: requests(1 << 20, 4),
                ..row("Z2", Some(1e6), Some(1e6), "same")
            },
            row("Z3", None, Some(1e6), "only-after"),
            Row {
                what: "read-p50".to_owned(),
                unit: "ns".to_owned(),
                ratio: None,
                ..row("Z4", Some(4.2e6), Some(85e3), "not-comparable")
            },
        ];
        let at = |started: &str| Report {
            started: started.to_owned(),
            complete: true,
            ..Report::default()
        };
        let expected = "\
2026-02-01 against 2026-01-01: 1 slower, 0 faster, 1 the same, 1 not comparable
note: not the same requests or queues were asked for

  Z1                  read       208 MB/s  52.0 MB/s  x 0.25  slower          by 1024 KiB x 4, then by 64 KiB x 1
  Z2 /dev/sdb\\x1b #2  read      1.00 MB/s  1.00 MB/s  x 1.00  same
  Z3                  read              -  1.00 MB/s          only after
  Z4                  read-p50    4.20 ms    85.0 us          not comparable
";
        let before = at("2026-01-01");
        let after = Report {
            depth_asked: Some(1),
            ..at("2026-02-01")
        };
        assert_eq!(text(&before, &after, &rows, Paint(false)), expected);
    }
}
