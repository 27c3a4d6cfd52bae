//! Sources of unfinished jobs that are not mounted now: the folder that one was mounted at is none.
//!
//! A drive that was pulled is unmounted by itself on many systems, and leaves the empty folder at its
//! path. That it is another source than the recorded one says too little: a new job would copy it, with
//! nothing in it, and end well.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::owed::Recorded;
use super::recipe::{JOB_FILE, Owed, Point, Recipe};
use super::spill::Round;
use super::spots::full;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Identity, Likeness};
use crate::plan::Source;
use crate::target::{Home, JobDir};

/// Refuses sources that are called as a source of one of these jobs is, or as one that was left out of it,
/// where that was on a file system that is not mounted there now. `points` says for each where the file
/// system is mounted that it is on.
///
/// Another file system that is mounted there is no such source, nor is a folder that was made anew.
///
/// # Errors
/// `Refused`; also when it cannot be told what a job was asked for.
pub(super) fn check(
    round: &Round<'_>,
    jobs: &[JobDir],
    home: &Path,
    sources: &[Source],
    identities: &[Identity],
    points: &[PathBuf],
) -> Result<(), Error> {
    // Into a further target, or once more: they are compared with what they were in the runs before.
    let jobs = if round.name.is_none() { jobs } else { &[] };
    for job in jobs {
        let label = home.join(&job.name);
        let Some(recipe) = Recipe::load_if_there(job.dir.as_fd(), &label)? else {
            continue;
        };
        for ((source, now), point) in sources.iter().zip(identities).zip(points) {
            let (path, place) = (whole(&source.label), full(&source.label));
            let is_gone = |was: &Point| is_bare(was, &path, &place, point);
            let had = recipe.points().iter().find(|was| is_gone(was));
            let owes = |owed: &Owed| point_of(owed).is_some_and(|was| is_gone(&was));
            if had.is_none() && !recipe.left_out().any(|owed| owes(&owed)) {
                continue;
            }
            // Without a record of it, its path alone tells what was meant.
            let recorded = recorded(job, &label).unwrap_or_default();
            let mut known = recorded.iter();
            if known.any(|it| !matches!(it.identity.compare(now), Likeness::Different(_))) {
                continue;
            }
            if let Some(was) = had {
                return Err(refused(source, "is a source", was, job, &label));
            }
            let owed = Recorded::of(&recipe, recorded.into_iter()).owed(&recipe);
            let owed: Vec<Point> = owed.iter().filter_map(point_of).collect();
            // Several may have been left out at one path, one after the other.
            let is_here = owed.iter().any(|it| it.path == path && it.at == *point);
            if let Some(was) = owed.iter().find(|was| !is_here && is_gone(was)) {
                return Err(refused(source, "was left out", was, job, &label));
            }
        }
    }
    Ok(())
}

/// Returns where a source that was left out was mounted, if that is known. It has no number.
fn point_of(owed: &Owed) -> Option<Point> {
    Some(Point {
        source: u32::MAX,
        path: whole(&owed.path),
        at: owed.on.as_ref()?.point()?,
    })
}

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns whether a source is where another was, or where that was mounted, and what is there now is in
/// a mount further up. `place` is the path that it leads to: a link may lead elsewhere by now.
fn is_bare(was: &Point, path: &Path, place: &Path, now: &Path) -> bool {
    let is_there = was.path == path || was.at == place;
    is_there && place.starts_with(&was.at) && was.at != now && was.at.starts_with(now)
}

/// Returns the sources that a job has; `None` when that cannot be read.
fn recorded(job: &JobDir, label: &Path) -> Option<Vec<journal::Source>> {
    let folder = job.dir.as_fd();
    let loaded = journal::read(folder, label, folder).ok()?;
    Some(loaded.sources().collect())
}

/// Notes in the recipe of a job that is gone on with where its sources are mounted: to be called before
/// the first of those that it has not is recorded, so many being known. A job without a recipe gets one.
///
/// # Errors
/// When it cannot be read; when it cannot be written and says nothing of a source that is new.
pub(super) fn note(home: &Home, recipe: &Recipe, known: u32) -> Result<(), Error> {
    let Some(before) = Recipe::load_if_there(home.job(), &home.job_label())? else {
        return or_further(recipe, home.write_record(JOB_FILE, &recipe.to_json()?));
    };
    let now = before.clone().mounted_at(recipe.points().to_vec());
    let now = now.with_points_of(&before, known);
    if now.points() == before.points() {
        return Ok(());
    }
    let written = home.write_record(JOB_FILE, &now.to_json()?);
    let is_any_new = recipe.points().iter().any(|it| it.source >= known);
    if is_any_new {
        or_further(recipe, written)
    } else {
        Ok(())
    }
}

/// With further targets, one that is full keeps nobody from going on in the next.
fn or_further(recipe: &Recipe, written: Result<(), Error>) -> Result<(), Error> {
    if recipe.job().spill.is_empty() {
        written
    } else {
        Ok(())
    }
}

/// `what` says what the source is to the job: it "is a source" or "was left out".
fn refused(source: &Source, what: &str, was: &Point, job: &JobDir, label: &Path) -> Error {
    let what = format!(
        "this {what} of copy {}, which is not finished, and what was mounted at {} then is not mounted \
         there now; what is copied is kept. Mount it, or give the command without it; to copy the \
         folder that is there now, choose another target, or move {} away",
        job.name,
        was.at.display(),
        label.join(JOB_FILE).display()
    );
    Error::new(ErrorKind::Refused, Side::Source, &source.label, &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_a_source_was_mounted_at_is_told_from_what_is_mounted_there() {
        let leads = |(path, point): (&str, &str), given: &str, place: &str, now: &str| {
            let was = Point {
                source: 0,
                path: path.into(),
                at: point.into(),
            };
            is_bare(&was, Path::new(given), Path::new(place), Path::new(now))
        };
        let is_bare = |was, given: &str, now: &str| leads(was, given, given, now);
        let drive = ("/mnt/a", "/mnt/a");
        assert!(is_bare(drive, "/mnt/a", "/"));
        assert!(is_bare(drive, "/mnt/a/", "/mnt"));
        assert!(!is_bare(drive, "/mnt/a", "/mnt/a"), "another drive");
        assert!(!is_bare(drive, "/mnt/b", "/"));
        // What is mounted over it now is further down.
        assert!(!is_bare(("/data/a", "/"), "/data/a", "/data/a"));
        assert!(!is_bare(("/data/a", "/"), "/data/a", "/"), "made anew");
        let folder = ("/mnt/a/DCIM", "/mnt/a");
        assert!(is_bare(folder, "/mnt/a/DCIM", "/"));
        assert!(is_bare(folder, "/mnt/a", "/"), "where it was mounted");
        assert!(!is_bare(folder, "/mnt/a/DCIM", "/mnt/a"), "another card");
        assert!(!is_bare(folder, "/mnt/a/other", "/"));
        // By a link.
        let link = ("/link", "/mnt/a");
        assert!(leads(link, "/link", "/mnt/a", "/"));
        assert!(leads(link, "/link", "/mnt/a/DCIM", "/"));
        assert!(!leads(link, "/link", "/srv/ingest", "/"), "elsewhere now");
        assert!(!leads(link, "/link", "/mnt/ab", "/"));
    }
}
