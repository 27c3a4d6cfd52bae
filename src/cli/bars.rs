//! The layout of the live display: rows in, lines of text out. No clock, no terminal.

use super::progress::{Row, Total, View, states};
use super::text::{Tone, columns, cut, cut_front, pad, pad_front};
use super::units::{counted, duration, rate, size, time_left};
use crate::engine::telemetry::LaneState;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: usize,
    /// Characters in a line.
    pub columns: usize,
}

/// One line of the display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says: printable, no wider than the terminal.
    pub text: String,
    /// How it is coloured.
    pub tone: Tone,
}

/// Widest a drive's name may be before it is cut.
const NAME_MAX: usize = 16;
/// Widest bar, brackets and all.
const BAR_MAX: usize = 22;
/// Narrowest bar worth drawing.
const BAR_MIN: usize = 12;
/// Least room for the sources; with less they are left out.
const TAIL_MIN: usize = 8;
/// Room for the sources before a bar may take any.
const TAIL_COMFORT: usize = 24;
/// Between two fields.
const GAP: usize = 2;

/// Returns the lines to show: lanes, a line for those that do not fit, the total.
///
/// At most `size.rows - 1` lines, because the cursor rests below them; none when there is no room.
pub fn layout(view: &View, size: Size) -> Vec<Line> {
    let room = size.rows.saturating_sub(1);
    let lanes = view.lanes.len();
    let shown = if lanes < room {
        lanes
    } else {
        room.saturating_sub(2)
    };
    let chosen = choose(&view.lanes, shown);
    let mut rows: Vec<&Row> = chosen.iter().filter_map(|i| view.lanes.get(*i)).collect();
    rows.push(&view.total);
    let mut fields: Vec<Fields> = rows.iter().map(|row| Fields::of(row)).collect();
    if let Some(total) = fields.last_mut() {
        total.note = total_note(view);
    }
    let widths = Widths::fit(&fields, size.columns);
    let mut lines: Vec<Line> = rows
        .iter()
        .zip(&fields)
        .map(|(row, fields)| Line {
            text: cut(&widths.line(row, fields), size.columns),
            tone: tone(row),
        })
        .collect();
    if let Some(total) = lines.last_mut() {
        total.tone = Tone::Strong;
    }
    if shown < lanes && room > 1 {
        let hidden = (0..lanes).filter(|i| !chosen.contains(i));
        let states = states(hidden.filter_map(|i| view.lanes.get(i)));
        let more = format!("... and {} more: {states}", lanes - shown);
        lines.insert(
            lines.len() - 1,
            Line {
                text: cut(&more, size.columns),
                tone: Tone::Plain,
            },
        );
    }
    lines.truncate(room);
    lines
}

/// Returns the lanes to show: failed ones first, then those that will take longest, each group in
/// lane order so that lines do not change places all the time.
fn choose(lanes: &[Row], shown: usize) -> Vec<usize> {
    if shown >= lanes.len() {
        return (0..lanes.len()).collect();
    }
    let class = |row: &Row| match row.state {
        LaneState::Failed => 0,
        LaneState::Running => 1,
        LaneState::Finishing => 2,
        LaneState::Waiting => 3,
        LaneState::Done => 4,
    };
    let mut order: Vec<(usize, &Row)> = lanes.iter().enumerate().collect();
    order.sort_by(|(i, a), (j, b)| {
        let unknown_is_longest = |row: &Row| row.left.map_or(u64::MAX, |left| left.as_secs());
        class(a)
            .cmp(&class(b))
            .then_with(|| unknown_is_longest(b).cmp(&unknown_is_longest(a)))
            .then_with(|| b.remaining().cmp(&a.remaining()))
            .then_with(|| i.cmp(j))
    });
    order.truncate(shown);
    order.sort_by_key(|(i, row)| (row.state != LaneState::Failed, *i));
    order.into_iter().map(|(i, _)| i).collect()
}

fn tone(row: &Row) -> Tone {
    match row.state {
        LaneState::Failed => Tone::Bad,
        LaneState::Done if row.problems > 0 => Tone::Notice,
        LaneState::Done => Tone::Good,
        LaneState::Waiting => Tone::Faint,
        LaneState::Running | LaneState::Finishing => Tone::Plain,
    }
}

/// The texts of one row.
struct Fields {
    name: String,
    percent: String,
    bytes: String,
    rate: String,
    left: String,
    state: &'static str,
    note: String,
    sources: String,
}

impl Fields {
    fn of(row: &Row) -> Self {
        Self {
            name: cut(&row.name, NAME_MAX),
            percent: row
                .percent()
                .map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
            bytes: bytes(row),
            rate: row.rate.map(rate).unwrap_or_default(),
            left: left(row),
            state: row.state.word(),
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
pub fn problems(row: &Row) -> String {
    match row.problems {
        0 => String::new(),
        count => counted(count, "problem", "problems"),
    }
}

/// Returns `20 running, 3 done; 120,345 files; 2 problems`.
pub fn total_note(view: &View) -> String {
    let mut note = format!(
        "{}; {}",
        states(&view.lanes),
        counted(view.total.files, "file", "files")
    );
    if view.total.problems > 0 {
        note.push_str("; ");
        note.push_str(&problems(&view.total));
    }
    note
}

/// Returns `1.24 TB of ~4.00 TB`; the tilde marks an estimate.
pub fn bytes(row: &Row) -> String {
    let total = match row.total {
        Total::Unknown => "?".to_owned(),
        Total::Estimate(bytes) => format!("~{}", size(bytes)),
        Total::Exact(bytes) => size(bytes),
    };
    format!("{} of {total}", pad_front(&size(row.done), 7))
}

/// Returns `ETA 3h 07m`, `ETA ?`, or `in 2h 40m` for a lane that has ended.
pub fn left(row: &Row) -> String {
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
struct Widths {
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
    fn fit(fields: &[Fields], width: usize) -> Self {
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

    fn line(&self, row: &Row, fields: &Fields) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn row(name: &str, state: LaneState, done: u64, total: Total) -> Row {
        Row {
            name: name.to_owned(),
            sources: format!("/mnt/{name}"),
            state,
            done,
            total,
            durable: done,
            files: 12,
            problems: 0,
            rate: Some(200_000_000),
            left: Some(Duration::from_secs(11_220)),
            ended: None,
        }
    }

    fn view(lanes: Vec<Row>) -> View {
        let mut total = row(
            "total",
            LaneState::Running,
            50_000_000_000,
            Total::Estimate(1 << 40),
        );
        total.sources.clear();
        View {
            elapsed: Duration::from_secs(60),
            lanes,
            total,
        }
    }

    /// Sixty lanes: 1 failed, 56 running of which the last are slowest, 3 done.
    fn sixty() -> View {
        let lanes = (0..60_u64)
            .map(|i| {
                let (state, left, ended) = match i {
                    5 => (LaneState::Failed, None, Some(Duration::from_secs(9))),
                    10..13 => (LaneState::Done, None, Some(Duration::from_secs(30))),
                    _ => (LaneState::Running, Some(Duration::from_secs(i * 60)), None),
                };
                Row {
                    left,
                    ended,
                    ..row(&format!("sd{i:02}"), state, i << 30, Total::Exact(4 << 40))
                }
            })
            .collect();
        view(lanes)
    }

    fn text(lines: &[Line]) -> String {
        let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        lines.join("\n")
    }

    #[test]
    fn one_lane_on_a_usual_terminal() {
        let view = view(vec![row(
            "sdb",
            LaneState::Running,
            1_240_000_000_000,
            Total::Estimate(4_000_000_000_000),
        )]);
        let lines = layout(
            &view,
            Size {
                rows: 24,
                columns: 100,
            },
        );
        assert_eq!(
            text(&lines),
            "\
sdb     31%  1.24 TB of ~4.00 TB   200 MB/s  ETA 3h 07m   running  /mnt/sdb
total    4%  50.0 GB of ~1.10 TB   200 MB/s  ETA 3h 07m   running  1 running; 12 files"
        );
    }

    #[test]
    fn a_wide_terminal_has_bars() {
        let mut lane = row("sdb", LaneState::Running, 500, Total::Exact(1000));
        lane.problems = 2;
        let lines = layout(
            &view(vec![lane]),
            Size {
                rows: 24,
                columns: 130,
            },
        );
        assert_eq!(
            text(&lines),
            "\
sdb     50%  [##########----------]    500 B of 1.00 kB    200 MB/s  ETA 3h 07m   running  \
2 problems  /mnt/sdb
total    4%  [--------------------]  50.0 GB of ~1.10 TB   200 MB/s  ETA 3h 07m   running  \
1 running; 12 files"
        );
    }

    #[test]
    fn sixty_lanes_on_a_small_terminal() {
        let lines = layout(
            &sixty(),
            Size {
                rows: 20,
                columns: 60,
            },
        );
        assert_eq!(lines.len(), 19);
        let text = text(&lines);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "sd05     0%   200 MB/s  in 9.00s     failed");
        assert_eq!(rows[1], "sd44     1%   200 MB/s  ETA 44m 00s  running");
        assert_eq!(rows[16], "sd59     1%   200 MB/s  ETA 59m 00s  running");
        assert_eq!(rows[17], "... and 43 more: 40 running, 3 done");
        assert_eq!(rows[18], "total    4%   200 MB/s  ETA 3h 07m   running");
        assert_eq!(lines[0].tone, Tone::Bad);
        assert_eq!(lines[18].tone, Tone::Strong);
    }

    #[test]
    fn a_tiny_terminal_still_says_something() {
        let lines = layout(
            &sixty(),
            Size {
                rows: 5,
                columns: 20,
            },
        );
        assert_eq!(
            text(&lines),
            "\
sd05     0%  failed
sd59     1%  running
... and 58 more: 5..
total    4%  running"
        );
    }

    #[test]
    fn lanes_keep_their_order_when_all_fit() {
        let lines = layout(
            &sixty(),
            Size {
                rows: 62,
                columns: 60,
            },
        );
        assert_eq!(lines.len(), 61);
        assert!(lines[0].text.starts_with("sd00"));
        assert!(lines[59].text.starts_with("sd59"));
        assert!(!text(&lines).contains("more"));
    }

    #[test]
    fn nothing_is_ever_too_wide_or_too_tall() {
        let mut view = sixty();
        view.lanes[7].name = "\u{65e5}\u{672c}-very-long-name-of-a-drive".to_owned();
        view.lanes[7].sources = "/mnt/\u{65e5}\u{672c}".repeat(9);
        view.lanes[7].problems = u64::MAX;
        view.lanes[8].total = Total::Unknown;
        view.lanes[9].left = None;
        for rows in 0..70 {
            for width in 0..170 {
                let lines = layout(
                    &view,
                    Size {
                        rows,
                        columns: width,
                    },
                );
                assert!(lines.len() <= rows.saturating_sub(1), "{rows} x {width}");
                for line in lines {
                    assert!(
                        columns(&line.text) <= width,
                        "{rows} x {width}: {}",
                        line.text
                    );
                }
            }
        }
    }
}
