//! One function for each command: begin, show, end, exit code.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::changes::Changes;
use super::console::Console;
use super::display::Display;
use super::message::render_misuse;
use super::output::Output;
use super::privileges::{self, Work};
use super::registry::Registry;
use super::units::counted;
use super::{man, resume, signals};
use crate::engine::job::{CopyJob, HashJob, IoChoice, Preserve, STALL_DEFAULT, VerifyJob};
use crate::engine::report::Report;
use crate::engine::{self, Session};
use crate::error::{Error, ErrorKind, Reach, Side};
use crate::exit::{Exit, exit_of, worst};

/// Copies, or shows what would be copied.
pub fn run_copy(job: &CopyJob, dry_run: bool, display: &Display) -> Exit {
    if dry_run {
        give_up_rights(display, Work::Read(job.engine.io));
        let session = session(display, "copy", Some(&job.target));
        return match signals::apart(|| engine::dry_run(job, &session)) {
            Ok(plan) => {
                display.dry_run(&plan);
                plan.exit()
            }
            Err(error) => failed(display, &error, "copy", Some(&job.target), false),
        };
    }
    // Before the first thread is started: the one that hears signals.
    give_up_rights(display, Work::Copy(job.engine.io, job.preserve));
    let run = |session: &Session| engine::copy(job, session);
    copy(job, "copy", display, stop_on_signals(display), &run)
}

/// Goes on with a copy: finds it, its options and its sources, and copies.
pub fn run_resume(meant: Option<&Path>, changes: &Changes, display: &Display) -> Exit {
    // Its options are in its record; until that is read, what any copy may take.
    let any = Preserve {
        setid: true,
        caps: true,
        special: true,
    };
    give_up_rights(display, Work::Copy(IoChoice::Auto, any));
    let place = match resume::locate(meant, &Registry::of_user()) {
        Ok(place) => place,
        Err(misuse) => {
            let screen = display.screen();
            screen.print(&render_misuse(&misuse, screen.paint()));
            return Exit::Usage;
        }
    };
    let stop = stop_on_signals(display);
    let session = Session {
        observer: Arc::new(console(display, "resume", Some(&place.target), &stop)),
        stop: Arc::clone(&stop),
    };
    // Its sources are asked for: no drive may keep a signal from being heard.
    let limit = changes.stall.unwrap_or(Some(STALL_DEFAULT));
    let revive = || engine::revive(&place.target, place.job.as_deref(), limit, &session);
    let mut revived = match signals::apart(revive) {
        Ok(revived) => revived,
        Err(error) => return failed(display, &error, "resume", Some(&place.target), false),
    };
    changes.apply(&mut revived.job);
    let run = |session: &Session| engine::resume(&revived, session);
    let exit = copy(&revived.job, "resume", display, stop, &run);
    let count = u64::try_from(revived.missing.len()).unwrap_or(u64::MAX);
    if count == 0 {
        return exit;
    }
    let many = counted(count, "source was", "sources were");
    display.remark(&format!(
        "the job is NOT finished: {many} not here; mount what is missing and resume again"
    ));
    worst(exit, Exit::Incomplete)
}

/// Copies by `run`, and keeps the registry of unfinished copies true.
fn copy(
    job: &CopyJob,
    command: &'static str,
    display: &Display,
    stop: Arc<AtomicBool>,
    run: &(dyn Fn(&Session) -> Result<Report, Error> + Sync),
) -> Exit {
    give_up_rights(display, Work::Copy(job.engine.io, job.preserve));
    let registry = Registry::of_user();
    if let Some((begun, note)) = registry
        .misplaced(&job.target)
        .filter(|_| command == "copy")
    {
        let what = format!(
            "copy {} into this folder is not finished, and went to another file system than the one \
             that is here now: mount that one and run again; or, for another copy into what is here, \
             remove the note {}",
            begun.job,
            note.display()
        );
        let error = Error::new(ErrorKind::Refused, Side::Target, &job.target, &what);
        return failed(display, &error, command, Some(&job.target), false);
    }
    // What it does is a copy, whichever command it is.
    let console = console(display, "copy", Some(&job.target), &stop).noting(registry.clone());
    let session = Session {
        stop,
        observer: Arc::new(console),
    };
    // All that asks the target is in there, the note of the copy in the end, too.
    signals::apart(|| {
        let exit = match run(&session) {
            Ok(report) => finished(display, &report),
            Err(error) => failed(display, &error, command, Some(&job.target), true),
        };
        registry.settle(&job.target);
        exit
    })
}

/// Prints digests.
pub fn run_hash(job: &HashJob, display: &Display) -> Exit {
    give_up_rights(display, Work::Read(job.engine.io));
    let session = session(display, "hash", None);
    let exit = match signals::apart(|| engine::hash(job, &session)) {
        Ok(report) => finished(display, &report),
        Err(error) => failed(display, &error, "hash", None, false),
    };
    // The digests are the result: without them the command has not done its work.
    worst(exit, delivered(display.output(), Exit::Pipe))
}

/// Compares a target with its record.
pub fn run_verify(job: &VerifyJob, display: &Display) -> Exit {
    let work = if job.repair_from.is_empty() {
        Work::Read
    } else {
        Work::Mend
    };
    give_up_rights(display, work(job.engine.io));
    let session = session(display, "verify", Some(&job.target));
    match signals::apart(|| engine::verify(job, &session)) {
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

/// Gives up every right that `work` does not take, before the first thread is started.
fn give_up_rights(display: &Display, work: Work) {
    if let Err(errno) = privileges::keep_for(work) {
        display.remark(&format!(
            "goes on with more rights than it needs, which the kernel would not take back: {errno}"
        ));
    }
}

fn session(display: &Display, command: &'static str, target: Option<&Path>) -> Session {
    let stop = stop_on_signals(display);
    let console = console(display, command, target, &stop);
    Session {
        stop,
        observer: Arc::new(console),
    }
}

fn console(
    display: &Display,
    command: &'static str,
    target: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> Console {
    let target = target.map(Path::to_owned);
    Console::new(display.clone(), command, target, Arc::clone(stop))
}

/// Returns a flag that the first signal sets; the engine looks at it and ends in order.
fn stop_on_signals(display: &Display) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let screen = Arc::clone(display.screen());
    let watched = signals::watch(screen, signals::STOPPING, move || {
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
