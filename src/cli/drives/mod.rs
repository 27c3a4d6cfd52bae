//! `inhaul drives`: every drive that is attached, as a table for people and as JSON for programs.

#[cfg(test)]
mod golden;
mod json;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::message::{Context, render_error};
use super::output::Output;
use super::privileges::{self, Work};
use super::screen::Screen;
use super::text::Paint;
use crate::error::Error;
use crate::exit::Exit;
use crate::topology::{Shelf, Topology};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrivesJob {
    /// Only the drives that these are on; empty for all.
    pub paths: Vec<PathBuf>,
    /// Whether JSON is wanted.
    pub json: bool,
    /// Whether everything known is wanted in the table.
    pub verbose: bool,
    /// When to use colour.
    pub color: anstream::ColorChoice,
}

/// Looks at the machine and prints what there is on standard output.
pub fn run(job: &DrivesJob) -> Exit {
    // Kept, should the kernel refuse: it only looks.
    let _kept = privileges::keep_for(Work::Look);
    let paint = |automatic: anstream::ColorChoice| {
        Paint(match job.color {
            anstream::ColorChoice::Auto => automatic != anstream::ColorChoice::Never,
            other => other != anstream::ColorChoice::Never,
        })
    };
    let shelf = match look(&job.paths) {
        Ok(shelf) => shelf,
        Err(error) => {
            let paint = paint(anstream::AutoStream::choice(&std::io::stderr()));
            let context = Context {
                command: "drives",
                target: None,
                began: false,
                paint,
            };
            Screen::stderr(paint).print(&render_error(&error, &context));
            return Exit::Refused;
        }
    };
    let text = if job.json {
        json::document(&shelf, &kernel())
    } else {
        let paint = paint(anstream::AutoStream::choice(&std::io::stdout()));
        table::render(&shelf, job.verbose, paint).into_bytes()
    };
    let output = Output::stdout();
    output.write(&text);
    match output.failure() {
        None | Some(std::io::ErrorKind::BrokenPipe) => Exit::Success,
        Some(_) => Exit::Failure,
    }
}

fn look(paths: &[PathBuf]) -> Result<Shelf, Error> {
    let topology = Topology::live()?;
    let mut shelf = topology.shelf();
    if paths.is_empty() {
        return Ok(shelf);
    }
    let mut wanted = BTreeSet::new();
    for path in paths {
        wanted.extend(keys(&topology, path)?);
    }
    shelf
        .drives
        .retain(|attached| wanted.contains(&attached.drive.name));
    shelf.units.retain(|unit| wanted.contains(&unit.name));
    shelf
        .links
        .retain(|link| link.drives.iter().any(|name| wanted.contains(name)));
    Ok(shelf)
}

/// Returns the names of the drives that a path is on; a block device is on its own drive.
fn keys(topology: &Topology, path: &Path) -> Result<Vec<String>, Error> {
    let stat = rustix::fs::stat(path).map_err(|errno| Error::source(path, "look at it", errno))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let drives = topology.drives_of(device);
        return Ok(drives.into_iter().map(|drive| drive.name).collect());
    }
    Ok(topology.locate(path)?.keys().collect())
}

/// The release of the running kernel, as uname(2) gives it.
fn kernel() -> String {
    let uname = rustix::system::uname();
    uname.release().to_string_lossy().into_owned()
}
