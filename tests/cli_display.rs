//! What a run shows, and where.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use inhaul::cli::bars::Size;
use inhaul::cli::display::Display;
use inhaul::cli::output::Output;
use inhaul::cli::resolve::{DisplaySettings, Progress};
use inhaul::cli::screen::Screen;
use inhaul::cli::text::Paint;
use inhaul::engine::report::Problem;
use inhaul::engine::telemetry::{LaneCounters, LaneState, LaneView, Telemetry};

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Recorder {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Returns a display and what it writes to standard output and to standard error.
fn display(verbosity: i16, progress: Progress, json: bool) -> (Display, Recorder, Recorder) {
    let (stdout, stderr) = (Recorder::default(), Recorder::default());
    let size = || Size {
        rows: 24,
        columns: 80,
    };
    let settings = DisplaySettings {
        verbosity,
        progress,
        json,
        color: anstream::ColorChoice::Never,
    };
    let display = Display::on(
        settings,
        Screen::new(Box::new(stderr.clone()), Paint(false), size),
        Output::new(Box::new(stdout.clone())),
        Paint(false),
    );
    (display, stdout, stderr)
}

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::new(vec![LaneView {
        name: "sdb".to_owned(),
        sources: vec!["/mnt/d1".into()],
        counters: LaneCounters::default(),
    }]))
}

fn problem() -> Problem {
    Problem {
        path: "/mnt/d1/\u{1b}[2J".to_owned(),
        path_hex: None,
        kind: "source-read".to_owned(),
        reason: "read: EIO".to_owned(),
        unreadable: None,
    }
}

#[test]
fn the_last_state_stays_on_the_screen() {
    let (display, stdout, stderr) = display(0, Progress::Bars, false);
    let telemetry = telemetry();
    let watch = display.watch("copy", Some(Path::new("/t")), Arc::clone(&telemetry));
    let counters = &telemetry.lanes[0].counters;
    counters.bytes_found.store(1000, Relaxed);
    counters.scan_ended.store(true, Relaxed);
    counters.bytes_read.store(1000, Relaxed);
    counters.set_state(LaneState::Done);
    watch.finish();
    let shown = stderr.text();
    let (before, last) = shown.rsplit_once("sdb").unwrap();
    assert!(before.starts_with("\u{1b}[?25l"), "the cursor is hidden");
    assert!(last.contains("100%"), "{last}");
    assert!(last.contains("done"), "{last}");
    assert!(last.ends_with("\u{1b}[?25h"), "and comes back: {last}");
    assert_eq!(stdout.text(), "");
}

#[test]
fn events_begin_with_start_and_hold_the_last_progress() {
    let (display, stdout, stderr) = display(0, Progress::None, true);
    let telemetry = telemetry();
    let watch = display.watch("copy", Some(Path::new("/t")), Arc::clone(&telemetry));
    display.problem(&problem());
    telemetry.lanes[0].counters.bytes_done.store(7, Relaxed);
    watch.finish();
    let text = stdout.text();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().all(|event| event["schema"] == 1));
    assert_eq!(events[0]["type"], "start");
    assert_eq!(events[1]["type"], "problem");
    assert_eq!(events[1]["path"], "/mnt/d1/\u{1b}[2J", "JSON is exact");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "progress");
    assert_eq!(last["total"]["bytes_done"], 7);
    assert_eq!(
        stderr.text(),
        "problem: source-read  /mnt/d1/\\x1b[2J: read: EIO\n"
    );
}

#[test]
fn a_flood_of_problems_is_cut_off_unless_asked_for() {
    for (verbosity, lines) in [(0, 101), (1, 150), (-1, 100), (-2, 0)] {
        let (display, _, stderr) = display(verbosity, Progress::None, false);
        for _ in 0..150 {
            display.problem(&problem());
        }
        assert_eq!(stderr.text().lines().count(), lines, "{verbosity}");
    }
}

#[test]
fn skipped_things_and_notes_are_for_those_who_ask() {
    for (verbosity, lines) in [(0, 0), (1, 2), (-1, 0)] {
        let (display, _, stderr) = display(verbosity, Progress::None, false);
        display.skipped(&problem());
        display.note("blocking I/O: \u{1b}");
        assert_eq!(stderr.text().lines().count(), lines, "{verbosity}");
        assert!(!stderr.text().contains('\u{1b}'));
    }
}

#[test]
fn quiet_shows_no_progress() {
    let (display, stdout, stderr) = display(-1, Progress::None, false);
    display.watch("copy", None, telemetry()).finish();
    assert_eq!(stdout.text() + &stderr.text(), "");
}
