//! The figures of a bench as people read them: tables, with bars where figures are held against each
//! other.

#[cfg(test)]
mod tests;

use super::ink::{Barred, Ink};
use crate::bench::report::{DriveFacts, Measure, Pair, Report, Subject, Together, TogetherStep};
use crate::bench::words::{list, percent};
use crate::cli::escape::escape;
use crate::cli::render::{heading, table};
use crate::cli::text::{Paint, Tone, push};
use crate::cli::units::{count, rate, size, whole};

/// Columns of a line of latencies.
const LINE: usize = 18;

/// Returns every part that something was measured of, under its heading.
pub(super) fn render(report: &Report, paint: Paint, ink: Ink) -> String {
    let mut text = String::new();
    let mut part = |name: &str, table: String| {
        if !table.is_empty() {
            text.push_str(&heading(paint, name));
            text.push_str(&table);
        }
    };
    let subjects = &report.subjects;
    part("reading, one by one", drives(subjects, paint, ink));
    part("how long a request took", latencies(subjects, paint, ink));
    part("zones", zones(subjects, ink));
    part("small files, read whole", small(subjects, ink));
    if let Some(all) = &report.together {
        part("reading, together", together(all, paint, ink));
    }
    part("writing", writing(report));
    if let Some(pair) = &report.pair {
        let name = format!("all of them into {}", escape(pair.target.as_bytes()));
        part(&name, reached(pair, ink));
    }
    text
}

fn drives(subjects: &[Subject], paint: Paint, ink: Ink) -> String {
    if subjects.is_empty() {
        return String::new();
    }
    let titles = ["drive", "serial", "rate", "slowest..fastest", ""];
    let mut rows = vec![Barred {
        cells: titles.map(str::to_owned).to_vec(),
        bar: None,
    }];
    rows.extend(subjects.iter().map(|subject| {
        let serial = drive_says(subject, |drive| drive.serial.as_ref());
        let mut cells = vec![escape(subject.name.as_bytes()), serial];
        match &subject.read {
            Some(read) => cells.extend(rates(read)),
            None => cells.extend([const { String::new() }; 2]),
        }
        cells.push(remarks(subject));
        Barred {
            cells,
            bar: subject.read.as_ref().map(|read| (read.rate, read.rate)),
        }
    }));
    drop_empty(rows.iter_mut().map(|row| &mut row.cells).collect(), 1);
    titled(&ink.table(rows, 3, &[2, 4]), paint)
}

/// What is to be seen beside a rate.
fn remarks(subject: &Subject) -> String {
    let mut remarks = Vec::new();
    match subject.access.as_str() {
        "direct" | "" => {}
        "dropped" => remarks.push("dropped from memory first"),
        _ => remarks.push("perhaps from memory"),
    }
    if subject.error.is_some() {
        remarks.push("failed");
    }
    remarks.join("; ")
}

fn latencies(subjects: &[Subject], paint: Paint, ink: Ink) -> String {
    let reads = || subjects.iter().filter_map(|subject| subject.read.as_ref());
    let of_reads = |pick: &dyn Fn(&Measure) -> u64| reads().map(pick).collect::<Vec<_>>();
    let least = of_reads(&|read| read.latency.min).into_iter().min();
    let most = of_reads(&|read| read.latency.max).into_iter().max();
    let Some(ends) = least.zip(most) else {
        return String::new();
    };
    let (from, to) = (latency(ends.0), latency(ends.1));
    let gap = LINE.saturating_sub(from.len() + to.len());
    let axis = format!("{from}{:gap$}{to}", "");
    let titles = ["drive", "model", "request", "50%", "99%", "99.9%", &axis];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for subject in subjects {
        let Some(read) = &subject.read else {
            continue;
        };
        let mut row = vec![
            escape(subject.name.as_bytes()),
            drive_says(subject, |drive| drive.model.as_ref()),
            requests(read),
        ];
        row.extend(percentiles(read));
        row.push(ink.latencies(&read.latency, ends, LINE));
        rows.push(row);
    }
    drop_empty(rows.iter_mut().collect(), 1);
    titled(&table(&rows, &[2, 3, 4, 5]), paint)
}

/// Returns what is known of the only drive of a subject.
fn drive_says(subject: &Subject, pick: impl Fn(&DriveFacts) -> Option<&String>) -> String {
    let drive = subject.drives.first().filter(|_| subject.drives.len() == 1);
    drive
        .and_then(pick)
        .map_or(String::new(), |text| escape(text.as_bytes()))
}

/// Takes away the title of a column that is empty below it.
fn drop_empty(rows: Vec<&mut Vec<String>>, column: usize) {
    let mut rows = rows.into_iter();
    let titles = rows.next();
    let is_empty = |row: &mut Vec<String>| row.get(column).is_none_or(String::is_empty);
    if rows.all(is_empty)
        && let Some(title) = titles.and_then(|row| row.get_mut(column))
    {
        title.clear();
    }
}

/// Returns a table whose first line has the titles.
fn titled(lines: &str, paint: Paint) -> String {
    match lines.split_once('\n') {
        Some((titles, rest)) => format!("{}\n{rest}", paint.paint(Tone::Faint, titles)),
        None => lines.to_owned(),
    }
}

fn requests(measure: &Measure) -> String {
    format!("{} KiB x {}", measure.block >> 10, measure.depth)
}

fn rates(measure: &Measure) -> [String; 2] {
    [
        rate(whole(measure.rate)),
        spread(measure.rate_min, measure.rate_max),
    ]
}

fn percentiles(measure: &Measure) -> [String; 3] {
    let took = &measure.latency;
    [took.p50, took.p99, took.p999].map(latency)
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

/// Returns the slowest and the fastest of some samples, in bytes a second.
pub(super) fn spread(min: f64, max: f64) -> String {
    format!("{}..{}", size(whole(min)), rate(whole(max)))
}

fn zones(subjects: &[Subject], ink: Ink) -> String {
    let rows = subjects.iter().flat_map(|subject| {
        subject.zones.iter().enumerate().map(|(nth, zone)| {
            // The name once, before the first of its zones.
            let name = if nth == 0 { subject.name.as_str() } else { "" };
            let mut cells = vec![escape(name.as_bytes()), zone.name.clone()];
            cells.extend(rates(&zone.read));
            Barred {
                cells,
                bar: Some((zone.read.rate, zone.read.rate)),
            }
        })
    });
    ink.table(rows.collect(), 3, &[2, 4])
}

fn small(subjects: &[Subject], ink: Ink) -> String {
    let rows = subjects.iter().filter_map(|subject| {
        let small = subject.small.as_ref()?;
        let [rate, least, most] =
            [small.rate, small.rate_min, small.rate_max].map(|rate| count(whole(rate)));
        Some(Barred {
            cells: vec![
                escape(subject.name.as_bytes()),
                format!("{rate} files/s"),
                format!("{least}..{most} files/s"),
            ],
            bar: Some((small.rate, small.rate)),
        })
    });
    ink.table(rows.collect(), 2, &[1, 3])
}

/// The curve: what so many reached, and up to what they would have by themselves.
fn together(together: &Together, paint: Paint, ink: Ink) -> String {
    if together.steps.is_empty() {
        return String::new();
    }
    let titles = ["drives", "rate", "slowest..fastest", "of sum", "cpu", ""];
    let mut rows = vec![Barred {
        cells: titles.map(str::to_owned).to_vec(),
        bar: None,
    }];
    rows.extend(together.steps.iter().map(|step| {
        let bends = together.bend == Some(step.count);
        Barred {
            cells: vec![
                step.count.to_string(),
                rate(whole(step.rate)),
                spread(step.rate_min, step.rate_max),
                percent(step.efficiency()),
                percent(step.busy),
                if bends { "bends" } else { "" }.to_owned(),
            ],
            bar: Some((step.rate, step.alone)),
        }
    }));
    let mut text = titled(&ink.table(rows, 2, &[0, 1, 3, 4, 5]), paint);
    for step in together
        .steps
        .iter()
        .filter(|step| !step.subjects.is_empty())
    {
        if !is_in_another(step, &together.steps) {
            let names = escape(list(&step.subjects).as_bytes());
            push(&mut text, format_args!("  {}: {names}\n", step.count));
        }
    }
    text
}

/// Returns whether these are the first of a larger step, whose names say who they are.
fn is_in_another(step: &TogetherStep, steps: &[TogetherStep]) -> bool {
    let larger = steps.iter().filter(|other| other.count > step.count);
    let mut larger = larger.map(|other| &other.subjects);
    larger.any(|names| names.starts_with(&step.subjects))
}

/// Writes of directories and of the target.
fn writing(report: &Report) -> String {
    let of_subject = |subject: &'_ Subject| Some((subject.name.clone(), subject.write.clone()?));
    let of_pair = |pair: &'_ Pair| Some((pair.target.clone(), pair.write.clone()?));
    let of_subjects = report.subjects.iter().filter_map(of_subject);
    let rows = of_subjects.chain(report.pair.iter().filter_map(of_pair));
    let rows = rows.map(|(name, write)| {
        let mut row = vec![escape(name.as_bytes()), requests(&write)];
        row.extend(rates(&write));
        row.extend(percentiles(&write));
        row
    });
    table(&rows.collect::<Vec<_>>(), &[1, 2, 3, 4, 5, 6])
}

/// What a copy would reach.
fn reached(pair: &Pair, ink: Ink) -> String {
    let rows = [("hashed", &pair.hashed), ("no hash", &pair.unhashed)].into_iter();
    let rows = rows.filter_map(|(name, reached)| {
        let reached = reached.as_ref()?;
        Some(Barred {
            cells: vec![
                name.to_owned(),
                rate(whole(reached.rate)),
                spread(reached.rate_min, reached.rate_max),
                format!("processors {} busy", percent(reached.busy)),
            ],
            bar: Some((reached.rate, reached.rate)),
        })
    });
    ink.table(rows.collect(), 2, &[1, 3])
}
