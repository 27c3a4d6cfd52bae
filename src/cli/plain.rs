//! Progress for logs: whole lines, few of them, no cursor movement.

use std::time::Duration;

use super::fields::{bytes, left, problems, total_note};
use super::progress::{Row, View};
use super::text::push;
use super::units::{counted, duration, rate, size};
use crate::engine::telemetry::LaneState;

/// Time between two lines while nothing special happens.
pub const EVERY: Duration = Duration::from_secs(30);

/// Decides which lines are due.
#[derive(Debug, Default)]
pub struct Plain {
    reported: Vec<bool>,
    reported_again: Vec<bool>,
    last: Duration,
}

impl Plain {
    /// Returns the lines that are due at this moment: each drive once when it has ended, and a line
    /// on all of them every 30 s; when they have all ended, on those that read again.
    pub fn due(&mut self, view: &View) -> Vec<String> {
        self.reported.resize(view.lanes.len(), false);
        self.reported_again.resize(view.again.len(), false);
        let mut lines = Vec::new();
        for (row, reported) in view.lanes.iter().zip(&mut self.reported) {
            if row.is_over() && !*reported {
                *reported = true;
                lines.push(format!("{} {}", clock(view.elapsed), ended(row)));
            }
        }
        for (row, reported) in view.again.iter().zip(&mut self.reported_again) {
            if row.is_over() && !*reported {
                *reported = true;
                lines.push(format!("{} {}", clock(view.elapsed), ended_again(row)));
            }
        }
        if view.elapsed.saturating_sub(self.last) >= EVERY {
            if !view.total.is_over() {
                self.last = view.elapsed;
                lines.push(format!("{} {}", clock(view.elapsed), all(view)));
            } else if let Some(row) = view.again.iter().find(|row| !row.is_over()) {
                self.last = view.elapsed;
                let part = parts(row, String::new());
                lines.push(format!("{} {}: {part}", clock(view.elapsed), row.name));
            }
        }
        lines
    }
}

/// Returns `[0:01:30]`, which sorts and lines up.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!(
        "[{}:{:02}:{:02}]",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn all(view: &View) -> String {
    parts(&view.total, total_note(view))
}

fn parts(row: &Row, note: String) -> String {
    let percent = row.percent().map(|percent| format!("{percent}%"));
    let parts = [
        bytes(row).trim_start().to_owned(),
        percent.unwrap_or_default(),
        row.rate.map(rate).unwrap_or_default(),
        left(row),
        note,
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn ended(row: &Row) -> String {
    let word = match row.state {
        LaneState::Failed => "FAILED",
        _ => "done",
    };
    let mut line = format!(
        "{} {word}: {} in {}",
        row.name,
        size(row.durable),
        counted(row.files, "file", "files"),
    );
    if let (Some(time), Some(speed)) = (row.ended, row.rate) {
        push(
            &mut line,
            format_args!(", {}, {}", duration(time), rate(speed)),
        );
    }
    let problems = problems(row);
    if !problems.is_empty() {
        push(&mut line, format_args!(", {problems}"));
    }
    if !row.sources.is_empty() {
        push(&mut line, format_args!(" ({})", row.sources));
    }
    line
}

/// Says that a lane that read again has ended.
fn ended_again(row: &Row) -> String {
    let word = match row.state {
        LaneState::Failed => "FAILED",
        _ => "done",
    };
    // No rate: it waits for what it is to read.
    let time = row.ended.map(|time| format!(", {}", duration(time)));
    format!(
        "{} {word}: {}{}",
        row.name,
        size(row.done),
        time.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::progress::Total;
    use crate::engine::telemetry::Health;

    fn row(state: LaneState, ended: Option<u64>) -> Row {
        Row {
            name: "sdb".to_owned(),
            sources: "/mnt/d1".to_owned(),
            state,
            health: Health::Ok,
            done: 1_240_000_000,
            total: Total::Exact(4_000_000_000),
            durable: 1_200_000_000,
            files: 14_203,
            problems: 2,
            rate: Some(212_000_000),
            left: Some(Duration::from_secs(600)),
            ended: ended.map(Duration::from_secs),
        }
    }

    fn view(seconds: u64, lane: Row) -> View {
        let total = Row {
            name: "total".to_owned(),
            sources: String::new(),
            ..lane.clone()
        };
        View {
            elapsed: Duration::from_secs(seconds),
            lanes: vec![lane],
            total,
            again: Vec::new(),
        }
    }

    #[test]
    fn reading_back_goes_on_in_the_log() {
        let mut plain = Plain::default();
        let mut view = view(60, row(LaneState::Done, Some(50)));
        view.again = vec![Row {
            name: "read back".to_owned(),
            ..row(LaneState::Running, None)
        }];
        assert_eq!(
            plain.due(&view),
            [
                "[0:01:00] sdb done: 1.20 GB in 14,203 files, 50s, 212 MB/s, 2 problems (/mnt/d1)",
                "[0:01:00] read back: 1.24 GB of 4.00 GB, 31%, 212 MB/s, ETA 10m 00s"
            ]
        );
        view.elapsed = Duration::from_secs(80);
        assert_eq!(plain.due(&view), Vec::<String>::new());
        view.again[0].state = LaneState::Done;
        view.again[0].ended = Some(Duration::from_secs(79));
        assert_eq!(
            plain.due(&view),
            ["[0:01:20] read back done: 1.24 GB, 1m 19s"]
        );
    }

    #[test]
    fn a_line_every_thirty_seconds_and_one_for_each_drive() {
        let mut plain = Plain::default();
        let running = || row(LaneState::Running, None);
        assert_eq!(plain.due(&view(29, running())), Vec::<String>::new());
        assert_eq!(
            plain.due(&view(30, running())),
            ["[0:00:30] 1.24 GB of 4.00 GB, 31%, 212 MB/s, ETA 10m 00s, \
              2 problems; 1 running; 14,203 files"]
        );
        assert_eq!(plain.due(&view(59, running())), Vec::<String>::new());
        assert_eq!(plain.due(&view(60, running())).len(), 1);
        let failed = || row(LaneState::Failed, Some(65));
        assert_eq!(
            plain.due(&view(3_661, failed())),
            [
                "[1:01:01] sdb FAILED: 1.20 GB in 14,203 files, 1m 05s, 212 MB/s, 2 problems \
              (/mnt/d1)"
            ]
        );
        assert_eq!(plain.due(&view(4_000, failed())), Vec::<String>::new());
    }
}
