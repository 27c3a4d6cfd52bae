//! From a job that was cut short to one that can be run: what was asked for, and where its sources
//! are now.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::job::CopyJob;
use super::recipe::Recipe;
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};
use crate::journal;
use crate::plan::find_source;
use crate::scan::as_path;
use crate::target::{Home, HomeLock, JobDir};
use crate::topology::Topology;

/// A job that can be gone on with.
#[derive(Debug)]
pub struct Revived {
    /// The job, with the sources that are here, by their paths of today.
    pub job: CopyJob,
    /// The sources that are not here, as they were typed.
    pub missing: Vec<PathBuf>,
}

/// Returns the name of the job in TARGET that was begun last and not finished; `None` also when
/// there is no TARGET.
pub fn unfinished(target: &Path) -> Option<String> {
    let root = beneath::open_root(target).ok()?;
    Home::find_current(root.as_fd()).map(|job| job.name)
}

/// Finds out how to go on with a job in TARGET: the one called `name`, or without that the one that
/// was begun last and not finished. Writes nothing but the lock.
///
/// # Errors
/// `Usage` when there is none; `Refused` when none of its sources is here; `Locked` when it runs;
/// what keeps its records from being read.
pub fn revive(target: &Path, name: Option<&str>) -> Result<Revived, Error> {
    let usage = |what: &str| Error::new(ErrorKind::Usage, Side::Target, target, what);
    let root = beneath::open_root(target)
        .map_err(|errno| usage("cannot open the target").because(errno))?;
    let none = || usage("no copy into this folder was begun");
    // Held while the journal is read, and taken again by the copy.
    let lock = HomeLock::take_existing(root.as_fd(), target)?.ok_or_else(none)?;
    let job = lock
        .unfinished(name)
        .map_err(|error| match error.kind() {
            ErrorKind::Missing => usage(&error.reason()),
            _ => error,
        })?
        .ok_or_else(|| usage("no job here is unfinished: there is nothing to go on with"))?;
    let label = lock.label().join(&job.name);
    let recipe = Recipe::load(job.dir.as_fd(), &label)?;
    let recorded = sources(&job, &label)?;
    let Some(recorded) = recorded else {
        return Err(usage(&format!(
            "job {} is finished: there is nothing to go on with",
            job.name
        )));
    };
    drop(lock);
    let revived = settle(recipe, recorded, job.name, target)?;
    if revived.job.sources.is_empty() {
        let names = revived
            .missing
            .iter()
            .map(|path| path.display().to_string());
        let what = format!(
            "no source of this job is here: neither at its path nor on another mount; \
             not found: {}",
            names.collect::<Vec<_>>().join(", ")
        );
        let first = revived.missing.first();
        let path = first.map_or(target, PathBuf::as_path);
        return Err(Error::new(ErrorKind::Refused, Side::Source, path, &what));
    }
    Ok(revived)
}

/// Returns the sources in a job's journal, none before it has any; `None` when the job is finished.
fn sources(job: &JobDir, label: &Path) -> Result<Option<Vec<journal::Source>>, Error> {
    let folder: BorrowedFd<'_> = job.dir.as_fd();
    match journal::read(folder, label, folder) {
        Ok(loaded) if loaded.end().is_some_and(|end| end.complete) => Ok(None),
        Ok(loaded) => Ok(Some(loaded.sources().collect())),
        Err(error) if error.kind() == ErrorKind::Missing => {
            let what = "it was cut short before it recorded anything: give the copy command again";
            Err(Error::new(ErrorKind::Usage, Side::Record, label, what))
        }
        Err(error) => Err(error),
    }
}

/// Looks for each source, in the order of the journal.
fn settle(
    recipe: Recipe,
    recorded: Vec<journal::Source>,
    name: String,
    target: &Path,
) -> Result<Revived, Error> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let none_recorded = recorded.is_empty();
    let labels: Vec<PathBuf> = recorded
        .iter()
        .map(|source| as_path(&source.label))
        .collect();
    if !none_recorded {
        let topology = Topology::live()?;
        for mut source in recorded {
            let typed = recipe.path(&as_path(&source.label));
            source.label = typed.as_os_str().as_bytes().to_vec();
            match find_source(&topology, &source) {
                Some(path) => found.push(path),
                None => missing.push(typed),
            }
        }
    }
    let known: Vec<PathBuf> = labels.iter().map(|label| recipe.path(label)).collect();
    let mut job = recipe.into_job();
    if !none_recorded {
        // Those that did not answer when it was begun were left out, and are not in the journal.
        let left_out = job.sources.iter().filter(|path| !known.contains(path));
        let (here, gone): (Vec<_>, Vec<_>) = left_out.cloned().partition(|path| path.exists());
        found.extend(here);
        missing.extend(gone);
    }
    if none_recorded {
        let (here, gone) = job.sources.into_iter().partition(|path| path.exists());
        (found, missing) = (here, gone);
    }
    job.sources = found;
    // One of the further targets stands for the whole copy, which begins at the first.
    let same = |path: &Path| {
        let stat = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        stat(path).is_ok_and(|there| Ok(there) == stat(target))
    };
    if !job.spill.iter().any(|path| same(path)) {
        target.clone_into(&mut job.target);
    }
    job.resume = Some(name);
    Ok(Revived { job, missing })
}
