//! Which job `resume` means.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::escape::escape_path;
use super::message::shell_word;
use super::registry::{Entry, Registry};
use super::resolve::Misuse;
use crate::engine;
use crate::target::HOME;

/// A job, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory it copies into.
    pub target: PathBuf,
    /// Its name; `None` for the one that was begun last there and not finished.
    pub job: Option<String>,
}

/// Finds the job that is meant by a TARGET, by a job's folder, or by a job's name; by nothing the
/// one in the working directory, else the only one this user has not finished whose target is there.
///
/// # Errors
/// Why it cannot be told.
pub fn locate(meant: Option<&Path>, registry: &Registry) -> Result<Place, Misuse> {
    match meant {
        Some(meant) => by_path(meant)
            .or_else(|| by_name(meant, registry))
            .ok_or_else(|| Misuse {
                what: format!("there is no job {}", escape_path(meant)),
                why: "it is no TARGET of a copy, no folder of a job, and no name of a job that \
                      this user has not finished"
                    .to_owned(),
                next: "inhaul resume TARGET".to_owned(),
            }),
        None => by_nothing(registry),
    }
}

fn by_path(meant: &Path) -> Option<Place> {
    if meant.join(HOME).is_dir() {
        return Some(Place {
            target: meant.to_owned(),
            job: None,
        });
    }
    // A link such as `current` leads to a job's folder, too.
    let folder = std::fs::canonicalize(meant).ok()?;
    let home = folder.parent()?;
    let is_home = |path: &Path| path.file_name() == Some(OsStr::new(HOME)) && path.is_dir();
    let (home, job) = if is_home(&folder) {
        (&*folder, None)
    } else if is_home(home) && folder.is_dir() {
        (home, Some(folder.file_name()?.to_str()?.to_owned()))
    } else {
        return None;
    };
    Some(Place {
        target: home.parent()?.to_owned(),
        job,
    })
}

fn by_name(meant: &Path, registry: &Registry) -> Option<Place> {
    let mut components = meant.components();
    let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else {
        return None;
    };
    let job = name.to_str()?.to_owned();
    if Path::new(HOME).join(name).is_dir() {
        return Some(Place {
            target: PathBuf::from("."),
            job: Some(job),
        });
    }
    let known = registry.unfinished().into_iter();
    let entry = known.into_iter().find(|entry| entry.job == job)?;
    Some(Place {
        target: entry.target,
        job: Some(job),
    })
}

fn by_nothing(registry: &Registry) -> Result<Place, Misuse> {
    let here = Path::new(".");
    if !engine::unfinished(here).is_empty() {
        return Ok(Place {
            target: here.to_owned(),
            job: None,
        });
    }
    let entries = registry.unfinished();
    let mut there = entries.iter().filter(|entry| entry.is_there());
    let (one, more) = (there.next(), there.next());
    if let (Some(entry), None) = (one, more) {
        return Ok(Place {
            target: entry.target.clone(),
            job: Some(entry.job.clone()),
        });
    }
    if entries.is_empty() {
        return Err(Misuse {
            what: "there is nothing to go on with".to_owned(),
            why: "this user has begun no copy that is not finished, and there is none in the \
                  working directory"
                .to_owned(),
            next: "name the TARGET of the copy: inhaul resume TARGET".to_owned(),
        });
    }
    let (what, next) = if one.is_none() {
        let what = "no copy is unfinished whose target is there";
        (what, "mount it, then: inhaul resume TARGET")
    } else {
        let what = "more than one copy is unfinished";
        let is_of_one = |target: &PathBuf| entries.iter().all(|entry| entry.target == *target);
        if one.is_some_and(|entry| is_of_one(&entry.target)) {
            (what, "name the one to go on with: inhaul resume JOB")
        } else {
            (what, "name the one to go on with: inhaul resume TARGET")
        }
    };
    let lines: Vec<String> = entries.iter().map(line).collect();
    Err(Misuse {
        what: what.to_owned(),
        why: lines.join("\n"),
        next: next.to_owned(),
    })
}

fn line(entry: &Entry) -> String {
    let missing = if entry.is_there() {
        ""
    } else {
        "  (not there now)"
    };
    format!("{}  {}{missing}", entry.job, shell_word(&entry.target))
}
