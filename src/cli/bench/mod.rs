//! `inhaul bench`: measure, show, end.

mod changed;
mod chart;
mod comparable;
mod csv;
mod entries;
mod figures;
mod fio;
pub(super) mod history;
mod html;
mod ink;
mod live;
mod markup;
mod page;
mod resolve;
mod scaling;
mod table;
mod tiles;
mod versus;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::escape::{escape, escape_json, escape_path};
use super::message::{Context, render_error, render_misuse};
use super::output::Output;
use super::privileges::{self, Work};
use super::registry::Registry;
use super::resolve::Misuse;
use super::screen::Screen;
use super::signals;
use super::text::Paint;
use crate::bench::{self, BenchSession, Report};
use crate::error::{Error, Reach};
use crate::exit::{Exit, exit_of, worst};
use ink::Ink;
use page::Page;
pub use resolve::{BenchCommand, Form, resolve};

const STOPPING: &str = "stopping: what was measured by now is printed, and nothing stays behind; \
                        a second signal stops at once";

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
    if let Some((before, after)) = &command.compare {
        return match versus::render(before, after, command.form, on_stdout) {
            Ok(text) => print(&text, Exit::Success),
            Err(misuse) => misused(&screen, &misuse),
        };
    }
    // Kept, should the kernel refuse: a bench has no final names to lose.
    let _kept = privileges::keep_for(Work::Measure);
    // Before the work, so that an hour of it does not end in this, and with the rights it ends with.
    let page = match command.html.as_deref().map(page_at).transpose() {
        Ok(page) => page,
        Err(misuse) => return misused(&screen, &misuse),
    };
    let session = BenchSession {
        stop: stop_on_signals(&screen),
        watcher: Arc::new(live::Live::new(Arc::clone(&screen), command.progress)),
    };
    let mut report = match signals::apart(|| bench::bench(&command.job, &session)) {
        Ok(report) => report,
        Err(error) => return refused(&screen, &error),
    };
    if command.history {
        for note in history::remember(&mut report, &Registry::of_user()) {
            session.watcher.note(&note);
        }
    }
    let text = match command.form {
        Form::Table => table::render(&report, on_stdout, Ink::of_locale()).into_bytes(),
        Form::Json => json(&report),
        Form::Csv => csv::render(&report).into_bytes(),
        Form::Fio => fio::render(&report),
    };
    let ended = print(&text, ending(&report));
    // These have no place for it, and a figure of memory looks like a good one.
    if matches!(command.form, Form::Csv | Form::Fio) {
        for line in table::to_know(&report) {
            screen.print(&format!("note: {}", escape(line.as_bytes())));
        }
    }
    match page {
        Some(page) => worst(ended, write_page(&screen, page, &report)),
        None => ended,
    }
}

fn print(text: &[u8], ending: Exit) -> Exit {
    let output = Output::stdout();
    output.write(text);
    match output.failure() {
        // Who stopped reading has read enough.
        None | Some(std::io::ErrorKind::BrokenPipe) => ending,
        Some(_) => Exit::Failure,
    }
}

/// Writes the page; none that is cut off is left.
fn write_page(screen: &Screen, page: Page, report: &Report) -> Exit {
    let name = escape_path(page.path());
    match page.write(html::render(report).as_bytes()) {
        Ok(()) => Exit::Success,
        Err(error) => {
            let misuse = Misuse {
                what: format!("the page {name} could not be written"),
                why: error.to_string(),
                next: "the figures above are all there is to it; with --json they can be kept"
                    .to_owned(),
            };
            screen.print(&render_misuse(&misuse, screen.paint()));
            Exit::Failure
        }
    }
}

/// Makes sure that the page can be made.
fn page_at(page: &Path) -> Result<Page, Misuse> {
    let what = format!("--html {}", escape_path(page));
    Page::open(page).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Misuse {
            what,
            why: "it is there already, and nothing is overwritten unasked".to_owned(),
            next: "remove it, or name another".to_owned(),
        },
        _ => Misuse {
            what,
            why: format!("it cannot be made: {error}"),
            next: "name a file in a folder that is there and can be written to".to_owned(),
        },
    })
}

fn misused(screen: &Screen, misuse: &Misuse) -> Exit {
    screen.print(&render_misuse(misuse, screen.paint()));
    Exit::Usage
}

/// The report as one line.
fn json(report: &Report) -> Vec<u8> {
    // Structs of strings and numbers always serialise.
    let mut text = serde_json::to_vec(report).unwrap_or_default();
    text.push(b'\n');
    escape_json(text)
}

fn ending(report: &Report) -> Exit {
    let together = report.together.as_ref();
    let pair = report.pair.as_ref();
    let failed = report
        .subjects
        .iter()
        .any(|subject| subject.error.is_some())
        || together.is_some_and(|together| together.error.is_some())
        || pair.is_some_and(|pair| pair.error.is_some());
    if !report.complete {
        Exit::Stopped
    } else if failed {
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
    let watched = signals::watch(Arc::clone(screen), STOPPING, move || {
        flag.store(true, Relaxed);
    });
    if let Err(error) = watched {
        screen.print(&format!(
            "note: cannot watch for signals ({error}); Ctrl-C will stop at once"
        ));
    }
    stop
}
