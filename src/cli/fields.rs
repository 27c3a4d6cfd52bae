//! What one line of progress says, and how wide each part of it may be.

use super::progress::{Row, Total, View, states};
use super::text::{columns, cut, cut_front, pad, pad_front};
use super::units::{counted, duration, rate, size, time_left};
use crate::engine::telemetry::{Health, LaneState};

/// Widest a drive's name may be before it is cut.
const NAME_MAX: usize = 16;
/// Widest bar, brackets and all.
const BAR_MAX: usize = 22;
/// Narrowest bar worth drawing.
const BAR_MIN: usize = 12;
/// Least room for the sources; with less they are left out.
const TAIL_MIN: usize = 8;
/// Room for the sources before a bar may take any.
const TAIL_COMFORT: usize = 48;
/// Between two fields.
const GAP: usize = 2;

/// The texts of one row.
pub(super) struct Fields {
    name: String,
    percent: String,
    bytes: String,
    rate: String,
    left: String,
    state: &'static str,
    /// Stands before the sources and is cut after them.
    pub(super) note: String,
    sources: String,
}

/// Returns what a lane is doing, or what is wrong with its drive.
fn word(row: &Row) -> &'static str {
    if row.health == Health::Ok || row.state == LaneState::Done {
        row.state.word()
    } else {
        row.health.word()
    }
}

impl Fields {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            name: cut(&row.name, NAME_MAX),
            percent: row
                .percent()
                .map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
            bytes: bytes(row),
            rate: row.rate.map(rate).unwrap_or_default(),
            left: left(row),
            state: word(row),
            note: problems(row),
            sources: row.sources.clone(),
        }
    }

    fn tail_columns(&self) -> usize {
        columns(&self.note) + columns(&self.sources) + GAP
    }

    /// Returns note and sources; the sources lose their beginning first, as the end tells more.
    fn tail(&self, width: usize) -> String {
        if self.note.is_empty() {
            return cut_front(&self.sources, width);
        }
        let used = columns(&self.note) + GAP;
        if self.sources.is_empty() || used + TAIL_MIN > width {
            return cut(&self.note, width);
        }
        format!("{}  {}", self.note, cut_front(&self.sources, width - used))
    }
}

/// Returns `2 problems`, or nothing when there are none.
pub(super) fn problems(row: &Row) -> String {
    match row.problems {
        0 => String::new(),
        count => counted(count, "problem", "problems"),
    }
}

/// Returns `2 problems; 20 running, 3 done; 120,345 files`: the first is the last to be cut off.
pub(super) fn total_note(view: &View) -> String {
    let parts = [
        problems(&view.total),
        states(&view.lanes),
        counted(view.total.files, "file", "files"),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

/// Returns `1.24 TB of ~4.00 TB`; the tilde marks an estimate.
pub(super) fn bytes(row: &Row) -> String {
    let total = match row.total {
        Total::Unknown => "?".to_owned(),
        Total::Estimate(bytes) => format!("~{}", size(bytes)),
        Total::Exact(bytes) => size(bytes),
    };
    format!("{} of {total}", pad_front(&size(row.done), 7))
}

/// Returns `ETA 3h 07m`, `ETA ?`, or `in 2h 40m` for a lane that has ended.
pub(super) fn left(row: &Row) -> String {
    match (row.is_over(), row.state, row.ended, row.left) {
        (true, _, Some(time), _) => format!("in {}", duration(time)),
        (true, _, None, _) | (false, LaneState::Waiting | LaneState::Finishing, ..) => {
            String::new()
        }
        (false, _, _, Some(time)) => format!("ETA {}", time_left(time)),
        (false, _, _, None) => "ETA ?".to_owned(),
    }
}

/// Which fields there is room for, and how wide each is; 0 for one that is left out.
pub(super) struct Widths {
    name: usize,
    percent: usize,
    bar: usize,
    bytes: usize,
    rate: usize,
    left: usize,
    state: usize,
    tail: usize,
}

impl Widths {
    /// Gives room in the order of worth: name, state, per cent, rate, time left, bytes, sources, and
    /// a bar from what is left over.
    pub(super) fn fit(fields: &[Fields], width: usize) -> Self {
        let widest =
            |pick: fn(&Fields) -> &str| fields.iter().map(|f| columns(pick(f))).max().unwrap_or(0);
        let tail_wanted = fields.iter().map(Fields::tail_columns).max().unwrap_or(0);
        let name = widest(|f| &f.name);
        let mut free = width.saturating_sub(name);
        let mut grant = |wanted: usize| {
            if wanted > 0 && wanted + GAP <= free {
                free -= wanted + GAP;
                wanted
            } else {
                0
            }
        };
        let state = grant(widest(|f| f.state));
        let percent = grant(4);
        // Fixed widths for what changes all the time, so that columns do not move.
        let rate = grant(if percent > 0 { 9 } else { 0 });
        let left = grant(if rate > 0 { 11 } else { 0 });
        let bytes = grant(if left > 0 {
            widest(|f| &f.bytes).max(18)
        } else {
            0
        });
        let spare = free.saturating_sub(GAP);
        let for_tail = spare.min(tail_wanted.min(TAIL_COMFORT));
        let for_bar = spare.saturating_sub(for_tail + GAP).min(BAR_MAX);
        let bar = if bytes > 0 && for_bar >= BAR_MIN {
            for_bar
        } else {
            0
        };
        let rest = if bar > 0 { spare - bar - GAP } else { spare };
        let tail = if bytes > 0 && rest >= TAIL_MIN {
            rest
        } else {
            0
        };
        Self {
            name,
            percent,
            bar,
            bytes,
            rate,
            left,
            state,
            tail,
        }
    }

    /// Returns the line of a row; no wider than was asked for, unless the name alone is.
    pub(super) fn line(&self, row: &Row, fields: &Fields) -> String {
        let mut parts = vec![pad(&fields.name, self.name)];
        if self.percent > 0 {
            parts.push(pad_front(&fields.percent, self.percent));
        }
        if self.bar > 0 {
            parts.push(bar(row, self.bar));
        }
        if self.bytes > 0 {
            parts.push(pad(&fields.bytes, self.bytes));
        }
        if self.rate > 0 {
            parts.push(pad_front(&fields.rate, self.rate));
        }
        if self.left > 0 {
            parts.push(pad(&fields.left, self.left));
        }
        if self.state > 0 {
            parts.push(pad(fields.state, self.state));
        }
        if self.tail > 0 {
            parts.push(fields.tail(self.tail));
        }
        parts.join("  ").trim_end().to_owned()
    }
}

/// Returns `[#####-----]`, `width` columns wide.
fn bar(row: &Row, width: usize) -> String {
    let inner = width.saturating_sub(2);
    let filled = match row.percent() {
        Some(percent) => usize::try_from(percent.min(100)).unwrap_or(100) * inner / 100,
        None => 0,
    };
    format!("[{}{}]", "#".repeat(filled), "-".repeat(inner - filled))
}
