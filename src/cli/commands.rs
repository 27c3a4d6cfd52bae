//! One function for each command: begin, show, end, exit code.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::console::Console;
use super::display::Display;
use super::man;
use super::output::Output;
use super::signals;
use crate::engine::job::{CopyJob, HashJob, VerifyJob};
use crate::engine::report::Report;
use crate::engine::{self, Session};
use crate::error::{Error, Reach};
use crate::exit::{Exit, exit_of, worst};

/// Copies, or shows what would be copied.
pub fn run_copy(job: &CopyJob, dry_run: bool, display: &Display) -> Exit {
    let session = session(display, "copy", Some(&job.target));
    if dry_run {
        return match engine::dry_run(job, &session) {
            Ok(plan) => {
                display.dry_run(&plan);
                plan.exit()
            }
            Err(error) => failed(display, &error, "copy", Some(&job.target), false),
        };
    }
    match engine::copy(job, &session) {
        Ok(report) => finished(display, &report),
        Err(error) => failed(display, &error, "copy", Some(&job.target), true),
    }
}

/// Prints digests.
pub fn run_hash(job: &HashJob, display: &Display) -> Exit {
    let exit = match engine::hash(job, &session(display, "hash", None)) {
        Ok(report) => finished(display, &report),
        Err(error) => failed(display, &error, "hash", None, false),
    };
    // The digests are the result: without them the command has not done its work.
    worst(exit, delivered(display.output(), Exit::Pipe))
}

/// Compares a target with its record.
pub fn run_verify(job: &VerifyJob, display: &Display) -> Exit {
    match engine::verify(job, &session(display, "verify", Some(&job.target))) {
        Ok(report) => finished(display, &report),
        Err(error) => failed(display, &error, "verify", Some(&job.target), false),
    }
}

/// Prints the manual page.
pub fn run_man() -> Exit {
    match man::manual() {
        Ok(page) => print(&page),
        Err(_) => Exit::Failure,
    }
}

/// Prints a completion script.
pub fn run_completions(shell: clap_complete::Shell) -> Exit {
    print(&man::completions(shell))
}

fn print(text: &[u8]) -> Exit {
    let output = Output::stdout();
    output.write(text);
    // Who stopped reading has read enough.
    delivered(&output, Exit::Success)
}

/// Returns how standard output ended: well, with its reader gone, or failed.
fn delivered(output: &Output, reader_gone: Exit) -> Exit {
    match output.failure() {
        None => Exit::Success,
        Some(IoErrorKind::BrokenPipe) => reader_gone,
        Some(_) => Exit::Failure,
    }
}

fn session(display: &Display, command: &'static str, target: Option<&Path>) -> Session {
    let stop = stop_on_signals(display);
    let target = target.map(Path::to_owned);
    let console = Console::new(display.clone(), command, target, Arc::clone(&stop));
    Session {
        stop,
        observer: Arc::new(console),
    }
}

/// Returns a flag that the first signal sets; the engine looks at it and ends in order.
fn stop_on_signals(display: &Display) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let watched = signals::watch(Arc::clone(display.screen()), move || {
        flag.store(true, Relaxed);
    });
    if let Err(error) = watched {
        display.screen().print(&format!(
            "note: cannot watch for signals ({error}); Ctrl-C will stop at once"
        ));
    }
    stop
}

fn finished(display: &Display, report: &Report) -> Exit {
    display.summary(report);
    Exit::from_code(report.exit_code).unwrap_or(Exit::Failure)
}

fn failed(
    display: &Display,
    error: &Error,
    command: &str,
    target: Option<&Path>,
    began: bool,
) -> Exit {
    display.error(error, command, target, began);
    match error.kind().reach() {
        // No file was reached: what would be one file's problem kept the whole job from starting.
        Reach::File => Exit::Refused,
        Reach::Lane | Reach::Target | Reach::Run => exit_of(error.kind()),
    }
}
