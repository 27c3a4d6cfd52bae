//! The command line: the only module that prints or knows clap.
//!
//! `args` (what was typed) -> `resolve` (what is meant) -> `commands` (do it) -> `exit`. What people
//! see is made as strings by `bars`, `plain`, `plan`, `render` and `message`; `display` decides what goes
//! where, and `screen` and `output` are the only writers.

pub mod args;
pub mod args_shelf;
pub mod bars;
pub mod bench;
mod changes;
pub mod commands;
pub mod console;
pub mod display;
pub mod drives;
pub mod escape;
mod evidence;
mod fields;
pub mod help;
pub mod json;
pub mod man;
pub mod message;
pub mod output;
pub mod plain;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod render;
pub mod resolve;
pub mod resume;
pub mod screen;
pub mod signals;
pub mod text;
pub mod units;

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::exit::Exit;
use resolve::{Misuse, Surroundings, Task};

/// Runs the program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    spare_the_owner();
    run(args).into()
}

/// Takes from the umask what would lock us out of directories we make ourselves. The rest stays:
/// it decides how open a new TARGET is.
fn spare_the_owner() {
    use rustix::fs::Mode;
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask - Mode::RWXU);
}

fn run(args: impl Iterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.collect();
    let clean = args.iter().all(|arg| is_clean(arg));
    let task = match parse(args.into_iter(), &mut surroundings(&mut read_list)) {
        Ok(task) => task,
        Err(Rejected::Clap(error)) => return show_clap(&error, clean),
        Err(Rejected::Misuse(misuse)) => return show_misuse(&misuse),
    };
    match task {
        Task::Copy {
            job,
            dry_run,
            display,
        } => commands::run_copy(&job, dry_run, &display::Display::new(display)),
        Task::Hash { job, display } => commands::run_hash(&job, &display::Display::new(display)),
        Task::Resume {
            job,
            changes,
            display,
        } => commands::run_resume(job.as_deref(), &changes, &display::Display::new(display)),
        Task::Verify { job, display } => {
            commands::run_verify(&job, &display::Display::new(display))
        }
        Task::Drives(job) => drives::run(&job),
        Task::Bench(command) => bench::run(&command),
        Task::Man => commands::run_man(),
        Task::Completions(shell) => commands::run_completions(shell),
    }
}

/// Why a command line gives no task.
#[derive(Debug)]
pub enum Rejected {
    /// It does not parse, or asks for help or the version.
    Clap(clap::Error),
    /// It parses and makes no sense.
    Misuse(Misuse),
}

/// Turns a command line, program name first, into a task.
///
/// # Errors
/// Help, the version, or what is wrong.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    world: &mut Surroundings<'_>,
) -> Result<Task, Rejected> {
    let matches = args::Cli::command()
        .try_get_matches_from(args)
        .map_err(Rejected::Clap)?;
    let cli = args::Cli::from_arg_matches(&matches).map_err(Rejected::Clap)?;
    resolve::resolve(cli, &matches, world).map_err(Rejected::Misuse)
}

fn surroundings(read: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>) -> Surroundings<'_> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    Surroundings {
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal() && !dumb,
        read,
    }
}

/// Reads a list of the user's, which lies outside of all sources and the target.
fn read_list(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut list = Vec::new();
        std::io::stdin().lock().read_to_end(&mut list)?;
        Ok(list)
    } else {
        std::fs::read(path)
    }
}

/// Returns whether an argument can be shown as it is.
fn is_clean(arg: &OsStr) -> bool {
    arg.to_str()
        .is_some_and(|text| escape::escape(text.as_bytes()) == text)
}

/// Prints what clap has to say: help and version on standard output, errors on standard error.
fn show_clap(error: &clap::Error, clean: bool) -> Exit {
    let printed = if clean || !error.use_stderr() {
        error.print()
    } else {
        // clap repeats arguments as they are, and a shell may have made one from any file's name.
        let plain = error.render().to_string();
        std::io::stderr().write_all(escape::escape_lines(&plain).as_bytes())
    };
    // A reader that went away has read enough; standard error has nobody behind it to tell.
    drop(printed);
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Success
    }
}

fn show_misuse(misuse: &Misuse) -> Exit {
    let colour = anstream::AutoStream::choice(&std::io::stderr());
    let paint = text::Paint(colour != anstream::ColorChoice::Never);
    screen::Screen::stderr(paint).print(&message::render_misuse(misuse, paint));
    Exit::Usage
}
