//! The end of a run told to people: what came of it first, then drives, then everything not done,
//! and last which drives may go.

use std::path::Path;

use super::escape::{escape, exact};
use super::evidence;
use super::message::shell_word;
use super::text::{Paint, Tone, columns, pad, pad_front, push};
use super::units::{count, counted, duration, rate, seconds, size, whole};
use crate::engine::report::{LaneReport, Problem, Report, Totals};
use crate::error::ErrorKind;
use crate::exit::Exit;

/// How many problems, and how many skipped things, are shown; the report has the rest.
pub const LIST_MAX: usize = 20;

/// Returns the summary of a run, with its last line end.
pub fn report(report: &Report, verbose: bool, paint: Paint) -> String {
    let mut text = paint.paint(verdict_tone(report), &verdict(report));
    text.push('\n');
    if !report.lanes.is_empty() {
        text.push_str(&heading(paint, "drives"));
        text.push_str(&drives(report, verbose, paint));
    }
    if verbose && !report.mounts.is_empty() {
        text.push_str(&heading(paint, "access"));
        let rows = report.mounts.iter().map(|mount| {
            let words = [
                &mount.side,
                &mount.path,
                &mount.fs,
                &mount.access,
                &mount.why,
            ];
            words.map(|word| escape(word.as_bytes())).to_vec()
        });
        text.push_str(&table(&rows.collect::<Vec<_>>(), &[]));
    }
    if !report.targets.is_empty() {
        text.push_str(&heading(paint, "targets"));
        let rows = report.targets.iter().map(|it| {
            let files = counted(it.files, "file ", "files");
            vec![files, escape(it.target.as_bytes())]
        });
        text.push_str(&table(&rows.collect::<Vec<_>>(), &[0]));
    }
    let folder = folder(report);
    text.push_str(&evidence::mended(report, paint, folder.as_deref()));
    text.push_str(&list(
        &heading(
            paint,
            &format!("left out on purpose: {}", count(report.skipped_count)),
        ),
        &report.skipped,
        report.skipped_count,
        folder.as_deref(),
    ));
    text.push_str(&list(
        &paint.paint(
            Tone::Bad,
            &format!("\n{}: {}\n", not_done(report), count(report.problem_count)),
        ),
        &report.problems,
        report.problem_count,
        folder.as_deref(),
    ));
    text.push_str(&notes(report));
    text.push_str(&evidence::verdicts(report, paint));
    text.push_str(&next(report, folder.as_deref()));
    text
}

/// Returns a heading with an empty line before it.
pub(super) fn heading(paint: Paint, text: &str) -> String {
    format!("\n{}\n", paint.paint(Tone::Strong, text))
}

fn not_done(report: &Report) -> &'static str {
    match report.command.as_str() {
        "copy" if is_all_but_verified(report) => "NOT verified as asked",
        "verify" => "NOT as recorded",
        "hash" => "NOT hashed",
        _ => "NOT copied whole",
    }
}

fn verdict_tone(report: &Report) -> Tone {
    match Exit::from_code(report.exit_code) {
        Some(Exit::Success) if !report.repairs.is_empty() => Tone::Notice,
        Some(Exit::Success) if report.command == "copy" => evidence::sure(report).1,
        Some(Exit::Success) => Tone::Good,
        Some(Exit::Stopped) => Tone::Notice,
        _ => Tone::Bad,
    }
}

/// Returns the first line: what was done, or first of all what was not.
fn verdict(report: &Report) -> String {
    let (did, sure) = match report.command.as_str() {
        "verify" if is_buffered(report) => (
            "compared",
            "all as recorded, but read through the page cache: that says nothing of the medium"
                .to_owned(),
        ),
        "verify" => ("verified", "all as recorded".to_owned()),
        "hash" => ("hashed", String::new()),
        _ => ("copied", evidence::sure(report).0),
    };
    let totals = &report.totals;
    let amount = format!(
        "{}, {}",
        counted(totals.files, "file", "files"),
        size(totals.bytes)
    );
    let pace = format!(
        "in {}, {}",
        duration(seconds(report.seconds)),
        rate(whole(totals.bytes_per_second))
    );
    let failed = report
        .problem_count
        .saturating_sub(metadata_only(report) + unverified(report));
    let good = match report.command.as_str() {
        "copy" => format!("{amount} copied and durable {pace}"),
        _ => format!("{amount} {did} {pace}"),
    };
    if report.exit_code == Exit::Success.code() {
        return match sure.as_str() {
            "" => format!("{did} {amount} {pace}"),
            sure => format!(
                "{did} {amount} {pace}; {sure}{}",
                evidence::count_mended(report)
            ),
        };
    }
    let (is, are) = match report.command.as_str() {
        "verify" => ("item is NOT as recorded", "items are NOT as recorded"),
        "hash" => ("item was NOT hashed", "items were NOT hashed"),
        _ => ("item was NOT copied", "items were NOT copied"),
    };
    let mut bad: Vec<String> = Vec::new();
    if report.stopped {
        bad.push("STOPPED before the end".to_owned());
    }
    if failed > 0 {
        bad.push(counted(failed, is, are));
    }
    if metadata_only(report) > 0 {
        bad.push(counted(
            metadata_only(report),
            "item lost some metadata",
            "items lost some metadata",
        ));
    }
    if unverified(report) > 0 {
        bad.push("NOT verified as asked".to_owned());
    }
    if bad.is_empty() {
        bad.push(format!("FAILED with exit code {}", report.exit_code));
    }
    format!("{}; {good}", bad.join(", "))
}

/// Returns whether the target was read through the page cache.
fn is_buffered(report: &Report) -> bool {
    let mut mounts = report.mounts.iter();
    mounts.any(|mount| mount.side == "target" && mount.access == "buffered")
}

/// Returns how many of the problems are certain to be about metadata alone.
fn metadata_only(report: &Report) -> u64 {
    of_kind(report, ErrorKind::Metadata)
}

/// Returns how many of the problems are about what was not verified, and copied all the same.
fn unverified(report: &Report) -> u64 {
    of_kind(report, ErrorKind::Unverified)
}

fn of_kind(report: &Report, kind: ErrorKind) -> u64 {
    let known = report.problems.iter().filter(|p| p.kind == kind.word());
    u64::try_from(known.count()).unwrap_or(u64::MAX)
}

/// Returns whether everything is copied, and only not verified as was asked.
fn is_all_but_verified(report: &Report) -> bool {
    !report.stopped && unverified(report) > 0 && unverified(report) == report.problem_count
}

fn drives(report: &Report, verbose: bool, paint: Paint) -> String {
    let rows: Vec<Vec<String>> = report.lanes.iter().map(drive).collect();
    let lines = table(&rows, &[2, 3, 4]);
    let mut text = String::new();
    for (line, lane) in lines.lines().zip(&report.lanes) {
        let tone = match lane.state.as_str() {
            "failed" => Tone::Bad,
            _ if lane.totals.problems > 0 => Tone::Notice,
            _ => Tone::Plain,
        };
        text.push_str(&paint.paint(tone, line));
        text.push('\n');
        if verbose {
            text.push_str(&details(lane));
        }
    }
    text
}

fn drive(lane: &LaneReport) -> Vec<String> {
    let sources: Vec<String> = lane.sources.iter().map(|s| escape(s.as_bytes())).collect();
    let limited = match (lane.limited_by.as_str(), lane.share_of_best) {
        ("", _) => String::new(),
        (by, None) => format!("limited by {}", escape(by.as_bytes())),
        (by, Some(share)) => {
            let percent = whole(share * 100.0);
            format!(
                "limited by {}, {percent} % of its best",
                escape(by.as_bytes())
            )
        }
    };
    let problems = match lane.totals.problems {
        0 => String::new(),
        problems => counted(problems, "problem", "problems"),
    };
    vec![
        escape(lane.drive.as_bytes()),
        escape(lane.state.as_bytes()),
        size(lane.totals.bytes),
        counted(lane.totals.files, "file ", "files"),
        rate(whole(lane.totals.bytes_per_second)),
        limited,
        problems,
        sources.join(", "),
    ]
}

fn details(lane: &LaneReport) -> String {
    let mut hardware: Vec<String> = Vec::new();
    hardware.extend(lane.model.clone());
    hardware.extend(
        lane.serial
            .as_ref()
            .map(|serial| format!("serial {serial}")),
    );
    hardware.extend(lane.rotational.map(|spins| {
        let kind = if spins { "spinning" } else { "not spinning" };
        kind.to_owned()
    }));
    hardware.push(format!(
        "{}, {}",
        lane.io,
        counted(
            u64::try_from(lane.buffers).unwrap_or(u64::MAX),
            "buffer",
            "buffers"
        )
    ));
    let waited: Vec<String> = ["source", "hash", "target", "limit"]
        .into_iter()
        .zip(lane.waited_seconds)
        .map(|(what, time)| format!("{what} {}", duration(seconds(time))))
        .collect();
    format!(
        "      {}\n      waited for {}\n",
        escape(hardware.join(", ").as_bytes()),
        waited.join(", ")
    )
}

/// Returns lines of columns, indented by two; the columns in `right` are aligned to the right, and
/// columns that are empty everywhere are left out.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width_of).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .filter(|(_, (_, width))| **width > 0)
            .map(|(column, (cell, width))| {
                if right.contains(&column) {
                    pad_front(cell, *width)
                } else {
                    pad(cell, *width)
                }
            })
            .collect();
        push(
            &mut text,
            format_args!("  {}\n", line.join("  ").trim_end()),
        );
    }
    text
}

/// Returns the first problems of a list under its heading; nothing when there are none.
pub(super) fn list(
    heading: &str,
    problems: &[Problem],
    total: u64,
    folder: Option<&str>,
) -> String {
    if total == 0 {
        return String::new();
    }
    let mut text = heading.to_owned();
    for problem in problems.iter().take(LIST_MAX) {
        push(&mut text, format_args!("  {}\n", problem_line(problem)));
    }
    let shown = u64::try_from(problems.len().min(LIST_MAX)).unwrap_or(u64::MAX);
    let more = total.saturating_sub(shown);
    if more > 0 {
        push(&mut text, format_args!("  ... and {} more", count(more)));
        if let Some(folder) = folder {
            push(&mut text, format_args!(", see {folder}/report.json"));
        }
        text.push('\n');
    }
    text
}

/// Returns `source-read  DCIM/0042.mov: read: Input/output error`, safe to print.
pub fn problem_line(problem: &Problem) -> String {
    let path = exact(&problem.path, problem.path_hex.as_deref());
    let mut line = format!(
        "{}  {}: {}",
        escape(problem.kind.as_bytes()),
        escape(&path),
        escape(problem.reason.as_bytes())
    );
    if let Some(unreadable) = &problem.unreadable {
        if let Some(kept) = &unreadable.kept_as {
            let kept = exact(kept, unreadable.kept_as_hex.as_deref());
            let kept = escape(&kept);
            push(
                &mut line,
                format_args!("; the rest is kept as {kept}, with zeros there"),
            );
        }
        if let Some(map) = &unreadable.map {
            push(&mut line, format_args!(" ({map})"));
        }
    }
    line
}

/// Says what an earlier run spared this one. The bytes are also those of files it had begun.
fn kept(totals: &Totals) -> String {
    let bytes = size(totals.kept_bytes);
    if totals.kept == 0 {
        return format!("{bytes} of files that an earlier run began were not copied again");
    }
    format!(
        "{} copied by an earlier run and unchanged; {bytes} not copied again",
        counted(totals.kept, "file", "files")
    )
}

fn notes(report: &Report) -> String {
    let files = |number| counted(number, "file", "files");
    let totals = &report.totals;
    let mut notes = vec![
        (totals.kept + totals.kept_bytes, kept(totals)),
        (
            totals.changed,
            format!(
                "{} copied again: changed in the source since an earlier run",
                files(totals.changed)
            ),
        ),
        (
            totals.existing,
            format!(
                "{} ({}) in the target already, left alone and not compared",
                files(totals.existing),
                size(totals.existing_bytes)
            ),
        ),
    ];
    notes.extend(evidence::remarks(report).into_iter().map(|text| (1, text)));
    notes.extend([
        (
            report.privileges_cleared,
            format!(
                "set-id bits or capabilities cleared on {}, for safety; \
                 --preserve setid,caps keeps them",
                files(report.privileges_cleared)
            ),
        ),
        (
            report.owners_not_kept,
            format!(
                "owner not kept on {}: that takes root",
                files(report.owners_not_kept)
            ),
        ),
        (
            report.names_outside_b3sum,
            format!(
                "{} b3sum -c cannot express, in manifest.nul alone",
                counted(report.names_outside_b3sum, "name", "names")
            ),
        ),
    ]);
    let mut text = String::new();
    for (number, note) in notes {
        if number > 0 {
            let gap = if text.is_empty() { "\n" } else { "" };
            push(&mut text, format_args!("{gap}note: {note}\n"));
        }
    }
    text
}

fn next(report: &Report, folder: Option<&str>) -> String {
    let Some(folder) = folder else {
        return String::new();
    };
    let target = shell_word(Path::new(&report.target));
    let mut text = format!("\nrecord: {folder}\n");
    if report.command == "copy" {
        if report.exit_code == Exit::Success.code() && !report.targets.is_empty() {
            for it in &report.targets {
                let target = shell_word(Path::new(&it.target));
                push(
                    &mut text,
                    format_args!("to check it again: inhaul verify {target}\n"),
                );
            }
        } else if report.exit_code == Exit::Success.code() {
            push(
                &mut text,
                format_args!("to check it again: inhaul verify {target}\n"),
            );
        } else if is_all_but_verified(report) {
            push(
                &mut text,
                format_args!("to verify it after a remount: inhaul verify {target}\n"),
            );
        } else {
            push(
                &mut text,
                format_args!("to go on: the same command, or: inhaul resume {target}\n"),
            );
        }
    }
    text
}

/// Returns where the run's report lies; `None` for one that writes none.
fn folder(report: &Report) -> Option<String> {
    if report.target.is_empty() || report.job.is_empty() {
        return None;
    }
    let target = escape(report.target.as_bytes());
    let target = target.trim_end_matches('/');
    Some(format!(
        "{target}/.inhaul/{}",
        escape(report.job.as_bytes())
    ))
}
