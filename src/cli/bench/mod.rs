//! `inhaul bench`: measure, show, end.

mod live;
mod resolve;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::message::{Context, render_error};
use super::output::Output;
use super::screen::Screen;
use super::signals;
use super::text::Paint;
use crate::bench::{self, BenchSession, Report};
use crate::error::{Error, Reach};
use crate::exit::{Exit, exit_of};
pub use resolve::{BenchCommand, Form, resolve};

/// Measures and prints what was found.
pub fn run(command: &BenchCommand) -> Exit {
    let paint = |automatic: anstream::ColorChoice| {
        Paint(match command.color {
            anstream::ColorChoice::Auto => automatic != anstream::ColorChoice::Never,
            other => other != anstream::ColorChoice::Never,
        })
    };
    let on_stderr = paint(anstream::AutoStream::choice(&std::io::stderr()));
    let on_stdout = paint(anstream::AutoStream::choice(&std::io::stdout()));
    let screen = Arc::new(Screen::stderr(on_stderr));
    let session = BenchSession {
        stop: stop_on_signals(&screen),
        watcher: Arc::new(live::Live::new(Arc::clone(&screen), command.progress)),
    };
    let report = match bench::bench(&command.job, &session) {
        Ok(report) => report,
        Err(error) => return refused(&screen, &error),
    };
    let text = match command.form {
        Form::Table => table::render(&report, on_stdout).into_bytes(),
        Form::Json => json(&report),
    };
    let output = Output::stdout();
    output.write(&text);
    match output.failure() {
        None | Some(std::io::ErrorKind::BrokenPipe) => ending(&report),
        Some(_) => Exit::Failure,
    }
}

/// The report as one line.
fn json(report: &Report) -> Vec<u8> {
    // Structs of strings and numbers always serialise.
    let mut text = serde_json::to_vec(report).unwrap_or_default();
    text.push(b'\n');
    text
}

fn ending(report: &Report) -> Exit {
    if !report.complete {
        Exit::Stopped
    } else if report
        .subjects
        .iter()
        .any(|subject| subject.error.is_some())
        || report
            .pair
            .as_ref()
            .is_some_and(|pair| pair.error.is_some())
    {
        Exit::Incomplete
    } else {
        Exit::Success
    }
}

fn refused(screen: &Screen, error: &Error) -> Exit {
    let context = Context {
        command: "bench",
        target: None,
        began: false,
        paint: screen.paint(),
    };
    screen.print(&render_error(error, &context));
    match error.kind().reach() {
        Reach::File | Reach::Lane => Exit::Refused,
        Reach::Target | Reach::Run => exit_of(error.kind()),
    }
}

fn stop_on_signals(screen: &Arc<Screen>) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let watched = signals::watch(Arc::clone(screen), move || flag.store(true, Relaxed));
    if let Err(error) = watched {
        screen.print(&format!(
            "note: cannot watch for signals ({error}); Ctrl-C will stop at once"
        ));
    }
    stop
}
