//! What goes where: progress and problems to standard error, results and events to standard output.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::bars::layout;
use super::escape::escape;
use super::json::Event;
use super::message::{Context, render_error};
use super::output::Output;
use super::plain::Plain;
use super::plan::{DryRun, dry_run};
use super::progress::Tracker;
use super::render::{problem_line, report};
use super::resolve::{DisplaySettings, Progress};
use super::screen::Screen;
use super::text::{Paint, Tone};
use crate::engine::report::{HealthChange, LaneReport, Problem, Report};
use crate::engine::telemetry::Telemetry;
use crate::error::Error;

/// Time between two looks at the counters: five a second is as fast as people read.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Every how many looks a `progress` event is due: one a second.
const LOOKS_PER_EVENT: u32 = 5;
/// Problems printed as they happen, without `-v`; the report has them all.
const PROBLEM_LINES_MAX: u64 = 100;

/// The user's side of a run. Cheap to clone; any thread may call it.
#[derive(Debug, Clone)]
pub struct Display {
    settings: DisplaySettings,
    screen: Arc<Screen>,
    output: Arc<Output>,
    stdout_paint: Paint,
    /// Whether people read standard output as it comes.
    stdout_is_terminal: bool,
    problem_lines: Arc<AtomicU64>,
}

impl Display {
    /// Returns a display on the real standard output and error.
    pub fn new(settings: DisplaySettings) -> Self {
        let colours = |choice: anstream::ColorChoice, automatic: anstream::ColorChoice| {
            Paint(match choice {
                anstream::ColorChoice::Auto => automatic != anstream::ColorChoice::Never,
                other => other != anstream::ColorChoice::Never,
            })
        };
        let on_stderr = anstream::AutoStream::choice(&std::io::stderr());
        let on_stdout = anstream::AutoStream::choice(&std::io::stdout());
        let display = Self::on(
            settings,
            Screen::stderr(colours(settings.color, on_stderr)),
            Output::stdout(),
            colours(settings.color, on_stdout),
        );
        Self {
            stdout_is_terminal: std::io::stdout().is_terminal(),
            ..display
        }
    }

    /// Returns a display on any screen and output.
    pub fn on(
        settings: DisplaySettings,
        screen: Screen,
        output: Output,
        stdout_paint: Paint,
    ) -> Self {
        Self {
            settings,
            screen: Arc::new(screen),
            output: Arc::new(output),
            stdout_paint,
            stdout_is_terminal: false,
            problem_lines: Arc::default(),
        }
    }

    /// Returns standard error.
    pub fn screen(&self) -> &Arc<Screen> {
        &self.screen
    }

    /// Returns standard output.
    pub fn output(&self) -> &Arc<Output> {
        &self.output
    }

    /// Returns whether events are wanted instead of text on standard output.
    pub fn is_json(&self) -> bool {
        self.settings.json
    }

    /// Shows progress from now on, from a thread of its own, until the result is finished or
    /// dropped.
    pub fn watch(&self, command: &str, target: Option<&Path>, telemetry: Arc<Telemetry>) -> Watch {
        self.event(&Event::Start {
            command,
            target,
            telemetry: &telemetry,
        });
        if self.settings.progress == Progress::None && !self.settings.json {
            return Watch::default();
        }
        let (stop, stopped) = bounded(0);
        let display = self.clone();
        let thread = std::thread::Builder::new()
            .name("display".to_owned())
            .spawn(move || display.follow(&telemetry, &stopped));
        Watch {
            stop: Some(stop),
            // A run without a display is better than no run.
            thread: thread.ok(),
        }
    }

    /// Looks at the counters until the other end of `stopped` is gone, and once more after that.
    fn follow(&self, telemetry: &Telemetry, stopped: &Receiver<()>) {
        let mut tracker = Tracker::default();
        let mut plain = Plain::default();
        for looks in 0_u32.. {
            let last = match stopped.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => false,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            };
            let view = tracker.look(telemetry, telemetry.started.elapsed());
            match self.settings.progress {
                Progress::Bars => self.screen.draw(layout(&view, self.screen.size())),
                Progress::Plain => {
                    for line in plain.due(&view) {
                        self.screen.print(&line);
                    }
                }
                Progress::None => {}
            }
            if last || looks % LOOKS_PER_EVENT == LOOKS_PER_EVENT - 1 {
                self.event(&Event::Progress(&view));
            }
            if last {
                break;
            }
        }
        self.screen.release();
    }

    /// Tells of something that was not done.
    pub fn problem(&self, problem: &Problem) {
        self.event(&Event::Problem(problem));
        let before = self.problem_lines.fetch_add(1, Relaxed);
        let many = before >= PROBLEM_LINES_MAX && self.settings.verbosity <= 0;
        if many && before == PROBLEM_LINES_MAX && self.settings.verbosity == 0 {
            self.screen
                .print("more problems follow; they are counted, and all are in the report");
        }
        if !many && self.settings.verbosity > -2 {
            let label = self.screen.tint(Tone::Bad, "problem:");
            self.screen
                .print(&format!("{label} {}", problem_line(problem)));
        }
    }

    /// Tells of something that was left out on purpose.
    pub fn skipped(&self, skipped: &Problem) {
        self.event(&Event::Skipped(skipped));
        if self.settings.verbosity > 0 {
            let label = self.screen.tint(Tone::Notice, "skipped:");
            self.screen
                .print(&format!("{label} {}", problem_line(skipped)));
        }
    }

    /// Tells that a drive fares otherwise than before.
    pub fn health(&self, change: &HealthChange) {
        self.event(&Event::Health(change));
        if self.settings.verbosity > -2 {
            let label = self.screen.tint(Tone::Notice, "drive:");
            let sources: Vec<String> = change
                .sources
                .iter()
                .map(|source| escape(source.as_bytes()))
                .collect();
            self.screen.print(&format!(
                "{label} {} is {} ({}): {}",
                escape(change.drive.as_bytes()),
                change.health,
                sources.join(", "),
                escape(change.reason.as_bytes())
            ));
        }
    }

    /// Tells that a drive has ended.
    pub fn drive(&self, lane: &LaneReport) {
        self.event(&Event::Drive(lane));
    }

    /// Prints the digest of a file: `b3sum_line` is its line in the form of b3sum, with line end.
    pub fn digest(&self, b3sum_line: &[u8], path: &[u8], size: u64, blake3: &str) {
        if self.settings.json {
            self.event(&Event::File { path, size, blake3 });
        } else if self.stdout_is_terminal {
            // Nobody but people: `b3sum -c` would read a name with an escape sequence as it is, and so
            // would the terminal.
            let line = format!("{blake3}  {}\n", escape(path));
            self.output.write(line.as_bytes());
        } else {
            self.output.write(b3sum_line);
        }
    }

    /// Prints a remark for everybody who has not asked for quiet.
    pub fn remark(&self, text: &str) {
        if self.settings.verbosity >= 0 {
            let text = super::escape::escape_lines(text);
            self.screen.print(&format!("note: {text}"));
        }
    }

    /// Prints a remark that only those who ask for more want to see.
    pub fn note(&self, text: &str) {
        if self.settings.verbosity > 0 {
            let text = super::escape::escape_lines(text);
            self.screen.print(&format!("note: {text}"));
        }
    }

    /// Prints the end of a run. Of `hash` it goes to standard error, where the digests are not.
    pub fn summary(&self, result: &Report) {
        self.event(&Event::Summary(result));
        let wanted = match result.exit_code {
            0 => self.settings.verbosity >= 0,
            _ => self.settings.verbosity > -2,
        };
        if wanted {
            let to_screen = self.settings.json || result.command == "hash";
            let verbose = self.settings.verbosity > 0;
            self.result(to_screen, |paint| report(result, verbose, paint));
        }
    }

    /// Prints what a dry run found.
    pub fn dry_run(&self, plan: &DryRun) {
        self.event(&Event::Plan(plan));
        self.result(self.settings.json, |paint| dry_run(plan, paint));
    }

    /// Prints what ended a run, or kept it from beginning.
    pub fn error(&self, error: &Error, command: &str, target: Option<&Path>, began: bool) {
        self.event(&Event::Error(error));
        let context = Context {
            command,
            target,
            began,
            paint: self.screen.paint(),
        };
        self.screen.print(&render_error(error, &context));
    }

    fn result(&self, to_screen: bool, render: impl FnOnce(Paint) -> String) {
        if to_screen {
            self.screen.print(render(self.screen.paint()).trim_end());
        } else {
            self.output.write(render(self.stdout_paint).as_bytes());
        }
    }

    fn event(&self, event: &Event<'_>) {
        if self.settings.json {
            self.output.write(&event.line());
        }
    }
}

/// The running display. Finishing it, or dropping it, draws the final state and waits for that.
#[derive(Debug, Default)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Draws the final state, leaves it on the screen and ends the display.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the display has been printed already and must not end a copy.
            drop(thread.join());
        }
    }
}
