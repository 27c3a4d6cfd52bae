//! What a copy proves, told to people: which drives may go, what was read back, what was mended.
//!
//! "Verified" is never said here: a file was hashed on its way, or read back from the medium, or
//! something in between, and each has words of its own.

use super::escape::{escape, exact};
use super::render::{LIST_MAX, heading};
use super::text::{Paint, Tone, columns, pad, push};
use super::units::{count, counted};
use crate::engine::report::{Evidence, Repair, Report};

/// Blocks of one file that are named.
const BLOCKS_MAX: usize = 8;

fn read_back(evidence: &Evidence) -> u64 {
    evidence.read_back + evidence.read_back_near
}

/// Returns whether reading back was asked for, and was possible for anything.
fn was_read_back(evidence: &Evidence) -> bool {
    read_back(evidence) + evidence.cached > 0
}

fn is_all_read_back(evidence: &Evidence) -> bool {
    was_read_back(evidence) && evidence.hashed + evidence.cached == 0
}

/// Returns what is sure of a copy of everything, for the first line, and its tone.
pub(super) fn sure(report: &Report) -> (String, Tone) {
    let evidence = &report.evidence;
    let mut text = match (was_read_back(evidence), is_all_read_back(evidence)) {
        (false, _) => "all durable".to_owned(),
        (true, false) => "all durable, NOT all read back".to_owned(),
        (true, true) if evidence.read_back_near > 0 => "all durable and read back".to_owned(),
        (true, true) => "all durable and read back from the medium".to_owned(),
    };
    let twice = evidence.source_read_twice;
    if is_all_read_back(evidence) && twice >= read_back(evidence) {
        text.push_str(", the sources read twice");
    }
    let is_plain = !was_read_back(evidence) || is_all_read_back(evidence);
    (text, if is_plain { Tone::Good } else { Tone::Notice })
}

/// Returns `; 2 files mended`, or nothing.
pub(super) fn count_mended(report: &Report) -> String {
    match report.repairs.len() {
        0 => String::new(),
        number => {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            format!("; {} mended", counted(number, "file", "files"))
        }
    }
}

/// Returns a line for each drive: whether it may go, and why (not). Empty for other commands.
pub(super) fn verdicts(report: &Report, paint: Paint) -> String {
    if report.command != "copy" || report.lanes.is_empty() {
        return String::new();
    }
    let names: Vec<String> = report
        .lanes
        .iter()
        .map(|lane| escape(lane.drive.as_bytes()))
        .collect();
    let width = names.iter().map(|name| columns(name)).max().unwrap_or(0);
    let mut text = heading(paint, "verdict");
    for (name, lane) in names.iter().zip(&report.lanes) {
        let (tone, word) = if lane.safe_to_release {
            (Tone::Good, "safe to release")
        } else {
            (Tone::Bad, "NOT safe to release")
        };
        push(
            &mut text,
            format_args!(
                "  {}  {}: {}\n",
                pad(name, width),
                paint.paint(tone, word),
                escape(lane.verdict.as_bytes())
            ),
        );
    }
    text
}

/// Returns remarks on what was read back, when that was asked for.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let evidence = &report.evidence;
    let mut remarks = Vec::new();
    if !was_read_back(evidence) {
        return remarks;
    }
    let files = |number| counted(number, "file was", "files were");
    let mut say = |number: u64, text: String| {
        if number > 0 {
            remarks.push(text);
        }
    };
    let is_said = report.exit_code == 0 && is_all_read_back(evidence);
    if !is_said || evidence.read_back_near > 0 {
        let text = format!(
            "{} read back from the medium and found right",
            files(evidence.read_back)
        );
        say(evidence.read_back, text);
    }
    let text = format!(
        "{} read back and found right, but soon after the write: the target drive's own cache may \
         have answered",
        files(evidence.read_back_near)
    );
    say(evidence.read_back_near, text);
    let text = format!(
        "{} NOT read back: the file system answered from memory, which says nothing of the medium",
        files(evidence.cached)
    );
    say(evidence.cached, text);
    let text = format!(
        "{} hashed on the way and durable, and NOT read back",
        files(evidence.hashed)
    );
    say(evidence.hashed, text);
    let twice = evidence.source_read_twice;
    if !is_said || twice < read_back(evidence) {
        let text = format!(
            "{} read twice from the source, with the same digest",
            files(twice)
        );
        say(twice, text);
    }
    remarks
}

/// Returns the list of files that were mended; nothing when there are none.
pub(super) fn mended(report: &Report, paint: Paint, folder: Option<&str>) -> String {
    if report.repairs.is_empty() {
        return String::new();
    }
    let all = report.repairs.len();
    let title = format!(
        "mended, wrong when read back and written anew from the source: {}",
        count(u64::try_from(all).unwrap_or(u64::MAX))
    );
    let mut text = heading(paint, &title);
    for repair in report.repairs.iter().take(LIST_MAX) {
        let path = exact(&repair.path, repair.path_hex.as_deref());
        push(
            &mut text,
            format_args!("  {}: {}\n", escape(&path), blocks(repair)),
        );
    }
    let more = all.saturating_sub(LIST_MAX);
    if more > 0 {
        push(&mut text, format_args!("  ... and {more} more"));
        if let Some(folder) = folder {
            push(&mut text, format_args!(", see {folder}/report.json"));
        }
        text.push('\n');
    }
    text
}

/// Returns `blocks 3, 17 and 5 more (of 1 MiB, counted from 0)`.
fn blocks(repair: &Repair) -> String {
    let shown: Vec<String> = repair
        .blocks
        .iter()
        .take(BLOCKS_MAX)
        .map(u64::to_string)
        .collect();
    let noun = if repair.blocks.len() == 1 {
        "block"
    } else {
        "blocks"
    };
    let more = match repair.blocks.len().saturating_sub(BLOCKS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{noun} {}{more} (of 1 MiB, counted from 0)",
        shown.join(", ")
    )
}
