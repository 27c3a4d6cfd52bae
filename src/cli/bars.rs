//! The layout of the live display: rows in, lines of text out. No clock, no terminal.

use super::fields::{Fields, Widths, total_note};
use super::progress::{Row, View, states};
use super::text::{Tone, cut};
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

/// Returns the lines to show: lanes, those that read again, a line for all that do not fit, the
/// total.
///
/// At most `size.rows - 1` lines, because the cursor rests below them; none when there is no room.
pub fn layout(view: &View, size: Size) -> Vec<Line> {
    let room = size.rows.saturating_sub(1);
    let all: Vec<&Row> = view.lanes.iter().chain(&view.again).collect();
    let lanes = all.len();
    let shown = if lanes < room {
        lanes
    } else {
        room.saturating_sub(2)
    };
    let chosen = choose(&all, shown);
    let mut rows: Vec<&Row> = chosen.iter().filter_map(|i| all.get(*i).copied()).collect();
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
        let states = states(hidden.filter_map(|i| all.get(i).copied()));
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
fn choose(lanes: &[&Row], shown: usize) -> Vec<usize> {
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
    let mut order: Vec<(usize, &Row)> = lanes.iter().copied().enumerate().collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::progress::Total;
    use crate::cli::text::columns;
    use crate::engine::telemetry::Health;
    use std::time::Duration;

    fn row(name: &str, state: LaneState, done: u64, total: Total) -> Row {
        Row {
            name: name.to_owned(),
            sources: format!("/mnt/{name}"),
            state,
            health: Health::Ok,
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
            again: Vec::new(),
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
    fn reading_back_has_a_line_of_its_own() {
        let done = |name| row(name, LaneState::Done, 1000, Total::Exact(1000));
        let mut view = view(vec![done("sdb")]);
        view.total = Row {
            sources: String::new(),
            ..done("total")
        };
        view.again = vec![Row {
            sources: "/tank/in".to_owned(),
            ..row("read back", LaneState::Running, 500, Total::Exact(1000))
        }];
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
sdb        100%  1.00 kB of 1.00 kB   200 MB/s               done     /mnt/sdb
read back   50%    500 B of 1.00 kB   200 MB/s  ETA 3h 07m   running  /tank/in
total      100%  1.00 kB of 1.00 kB   200 MB/s               done     1 done; 12 files"
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
