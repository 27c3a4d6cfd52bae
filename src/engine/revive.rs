//! From a job that was cut short to one that can be run: what was asked for, and where its sources
//! are now.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job::CopyJob;
use super::left_out::{LeftOut, On};
use super::mounted::Likely;
use super::owed::{Recorded, UNTOLD, is_another};
use super::recipe::{Owed, Recipe};
use super::roll_call::{RollCall, ask_all, reasons, who_hangs};
use super::session::Session;
use super::traces::{self, IF_IT_IS, Inquiry, STRANGE};
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Loaded};
use crate::plan::{NamedLink, find_elsewhere, find_in_place, open_sources, source_identity};
use crate::scan::as_path;
use crate::target::{Home, HomeLock, JobDir};
use crate::topology::Topology;

/// A job that can be gone on with.
#[derive(Debug)]
pub struct Revived {
    /// The job, with the sources that are here, by their paths of today.
    pub job: CopyJob,
    /// The sources that are not here, or whose drives do not answer or fail.
    pub missing: Vec<LeftOut>,
}

/// Returns the names of the jobs in TARGET that were begun and not finished, the one begun last first;
/// none also when there is no TARGET.
pub fn unfinished(target: &Path) -> Vec<String> {
    let Ok(root) = beneath::open_root(target) else {
        return Vec::new();
    };
    let jobs = Home::find_unfinished(root.as_fd()).into_iter();
    jobs.map(|job| job.name).collect()
}

/// Finds out how to go on with a job in TARGET: the one called `name`, or without that the one that
/// was begun last and not finished. Its sources are waited for as long as `limit`, or until they answer.
/// Writes nothing but the lock.
///
/// # Errors
/// `Usage` when there is none; `Refused` when none of its sources is here; `Locked` when it runs;
/// `Stopped`; what keeps its records from being read.
pub fn revive(
    target: &Path,
    name: Option<&str>,
    limit: Option<Duration>,
    session: &Session,
) -> Result<Revived, Error> {
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
    let Some(loaded) = load(&job, &label)? else {
        return Err(usage(&format!(
            "job {} is finished: there is nothing to go on with",
            job.name
        )));
    };
    let recipe = Recipe::load(job.dir.as_fd(), &label).map_err(|error| match error.kind() {
        ErrorKind::Missing => {
            let what = "what it was asked for is not written down: give the copy command again";
            Error::new(ErrorKind::Usage, Side::Record, &label, what)
        }
        _ => error,
    })?;
    let name_of = job.name;
    drop(lock);
    let (sources, missing) = look_for(&recipe, &loaded, limit, session)?;
    if sources.is_empty() {
        let what = format!(
            "no source of this job is here: neither at its path nor on another mount; {}",
            reasons(&missing)
        );
        let path = missing.first().map_or(target, LeftOut::path);
        return Err(Error::new(ErrorKind::Refused, Side::Source, path, &what));
    }
    let mut job = recipe.into_job();
    job.sources = sources;
    // One of the further targets stands for the whole copy, which begins at the first.
    let same = |path: &Path| place_of(path).is_some_and(|there| Some(there) == place_of(target));
    if !job.spill.iter().any(|path| same(path)) {
        target.clone_into(&mut job.target);
    }
    job.resume = Some(name_of);
    Ok(Revived { job, missing })
}

/// Returns a job's journal; `None` when the job is finished.
fn load(job: &JobDir, label: &Path) -> Result<Option<Loaded>, Error> {
    let folder: BorrowedFd<'_> = job.dir.as_fd();
    match journal::read(folder, label, folder) {
        Ok(loaded) if loaded.end().is_some_and(|end| end.complete) => Ok(None),
        // Nothing tells whether what is at its paths now is what was meant.
        Ok(loaded) if loaded.sources().next().is_none() => Err(cut_short(label)),
        Ok(loaded) => Ok(Some(loaded)),
        Err(error) if error.kind() == ErrorKind::Missing => Err(cut_short(label)),
        Err(error) => Err(error),
    }
}

fn cut_short(label: &Path) -> Error {
    let what = "it was cut short before it recorded anything: give the copy command again";
    Error::new(ErrorKind::Usage, Side::Record, label, what)
}

fn place_of(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Returns the sources that the journal does not have, with what was left out there: others may have
/// been recorded, or left out, at one path.
fn not_recorded(
    recipe: &Recipe,
    recorded: Recorded,
    known: &[PathBuf],
) -> Vec<(PathBuf, Option<Owed>)> {
    let owed = recorded.owed(recipe);
    let mut others = Vec::new();
    for path in &recipe.job().sources {
        let path = recipe.path(path);
        let is_known = known.contains(&path);
        let left_out: Vec<Owed> = if is_known {
            let owed = owed.iter().filter(|owed| owed.path == path);
            owed.cloned().collect()
        } else {
            recipe.left_out().filter(|owed| owed.path == path).collect()
        };
        if left_out.is_empty() && !is_known {
            others.push((path, None));
        } else {
            others.extend(left_out.into_iter().map(|owed| (path.clone(), Some(owed))));
        }
    }
    others
}

/// Looks for each source: those of the journal, in its order, then those that it does not have. Returns
/// the paths of those that are here, and the others.
fn look_for(
    recipe: &Recipe,
    loaded: &Loaded,
    limit: Option<Duration>,
    session: &Session,
) -> Result<(Vec<PathBuf>, Vec<LeftOut>), Error> {
    let mut recorded: Vec<journal::Source> = loaded.sources().collect();
    let journalled = Recorded::of(recipe, recorded.iter().cloned());
    let known: Vec<PathBuf> = recorded
        .iter()
        .map(|source| recipe.path(&as_path(&source.label)))
        .collect();
    let others = not_recorded(recipe, journalled, &known);
    let asked = others.iter().map(|(path, _)| path);
    let all: Vec<PathBuf> = known.iter().chain(asked).cloned().collect();
    let mut call = ask_all(&all, limit, session)?;
    let topology = Topology::live()?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut of_journal = HashMap::new();
    let search = Search {
        topology: &topology,
        types: recorded
            .iter()
            .map(|source| source.identity.fs_type.clone())
            .collect(),
        limit,
        session,
        hung: OnceCell::new(),
    };
    for (source, typed) in recorded.iter_mut().zip(&known) {
        source.label = typed.as_os_str().as_bytes().to_vec();
    }
    let at = search.places(loaded, &recorded, &call);
    for ((source, typed), at) in recorded.into_iter().zip(known).zip(at) {
        if let Some(path) = at.path {
            // Nothing is asked once more without need.
            let place = (!others.is_empty()).then(|| place_of(&path)).flatten();
            of_journal.extend(place.map(|place| (place, source)));
            found.push(path);
        } else {
            let silent = call.take_silent(&typed);
            // Not where its mount point is: that is another drive's.
            let on = On::of(&source.identity);
            let why = at.is_strange.then(|| format!(" ({STRANGE}; {IF_IT_IS})"));
            let why = why.unwrap_or_default();
            missing.push(silent.unwrap_or_else(|| is_missing(&typed, &why, on)));
        }
    }
    if session.stopped() {
        let what = "stopped before the sources were found";
        let (kind, side) = (ErrorKind::Stopped, Side::Source);
        return Err(Error::new(kind, side, "sources", what));
    }
    let mut met: Vec<Owed> = Vec::new();
    for (typed, owed) in others {
        let was = owed.as_ref().and_then(|owed| owed.on.as_ref());
        if let Some(silent) = call.take_silent(&typed) {
            missing.push(silent);
            continue;
        }
        let on = was.and_then(|was| was.on(&topology));
        // What does not answer, or fails, is not here any more: it was silent then.
        let Some(place) = place_of(&typed) else {
            missing.push(is_missing(&typed, "", on));
            continue;
        };
        let likely = match (&owed, was) {
            (Some(owed), Some(was)) => match was.check(call.mounted.get(&typed), &topology) {
                Likely::Same if met.iter().any(|it| it.path == typed && it.on != owed.on) => {
                    Likely::Other(UNTOLD.to_owned())
                }
                Likely::Same => match of_journal.get(&place) {
                    Some(source) if is_another(recipe, owed, source) => {
                        Likely::Other(UNTOLD.to_owned())
                    }
                    _ => Likely::Same,
                },
                likely => likely,
            },
            (Some(_), None) => Likely::Other("what was mounted there is not known".to_owned()),
            (None, _) if found.iter().any(|path| place_of(path) == Some(place)) => Likely::Same,
            (None, _) => Likely::MayBe("it is in no record here".to_owned()),
        };
        if likely == Likely::Same {
            met.extend(owed.clone());
        }
        match likely {
            // The same by another name is no second source.
            Likely::Same if found.iter().any(|path| place_of(path) == Some(place)) => {}
            Likely::Same => found.push(typed),
            Likely::MayBe(why) => {
                let why = format!(" ({why}: if it is it, give the copy command again)");
                missing.push(is_missing(&typed, &why, on));
            }
            Likely::Other(why) => missing.push(is_missing(&typed, &format!(" ({why})"), on)),
        }
    }
    Ok((found, missing))
}

fn is_missing(path: &Path, why: &str, on: Option<On>) -> LeftOut {
    let what = format!("this source of the job is not here{why}");
    let kind = ErrorKind::SourceVanished;
    let error = Error::new(kind, Side::Source, path, &what);
    LeftOut { error, on }
}

/// Where sources may be looked for.
struct Search<'a> {
    topology: &'a Topology,
    /// File systems that they are on.
    types: Vec<String>,
    limit: Option<Duration>,
    session: &'a Session,
    /// Mount points that do not answer; asked for once one of them matters.
    hung: OnceCell<Vec<PathBuf>>,
}

/// Where a source was found.
#[derive(Debug, Default)]
struct Found {
    path: Option<PathBuf>,
    /// Whether something passed for it and has nothing of what was copied of it.
    is_strange: bool,
}

impl Search<'_> {
    /// Looks for the sources of a journal, for all where they were before any is looked for elsewhere: a
    /// place is not two sources.
    fn places(&self, loaded: &Loaded, recorded: &[journal::Source], call: &RollCall) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        let may_ask = |place: &Path| self.may_ask(call, place);
        for source in recorded {
            let is_strange = Cell::new(false);
            let may_be = |path: &Path| {
                is_strange.set(self.is_strange(loaded, source, path));
                !is_strange.get()
            };
            all.push(Found {
                path: find_in_place(self.topology, source, &may_ask, &may_be),
                is_strange: is_strange.get(),
            });
        }
        let paths = all.iter().filter_map(|found| found.path.as_deref());
        let mut taken: Vec<(u64, u64)> = paths.filter_map(place_of).collect();
        for (source, found) in recorded.iter().zip(&mut all) {
            if found.path.is_none() {
                let may_be = |path: &Path| {
                    let is_taken = place_of(path).is_none_or(|place| taken.contains(&place));
                    !is_taken && !self.is_strange(loaded, source, path)
                };
                found.path = find_elsewhere(self.topology, source, &may_ask, &may_be);
                taken.extend(found.path.as_deref().and_then(place_of));
            }
        }
        all
    }

    /// Returns whether what is at a path has nothing of what was copied of a source that it passes for.
    fn is_strange(&self, loaded: &Loaded, recorded: &journal::Source, path: &Path) -> bool {
        let opened = open_sources(&[path.to_owned()], NamedLink::Itself);
        let Some(source) = opened.ok().and_then(|mut opened| opened.pop()) else {
            return false;
        };
        let now = source_identity(&source, self.topology);
        let inquiry = Inquiry {
            limit: self.limit,
            session: self.session,
        };
        now.is_ok_and(|now| traces::is_another(loaded, recorded, &source, &now, inquiry))
    }

    /// Returns whether a place may be asked at: a source, as it was typed, or a mount point.
    fn may_ask(&self, call: &RollCall, place: &Path) -> bool {
        if call.here.iter().any(|path| path == place) {
            return true;
        }
        if self.session.stopped() || call.silent.iter().any(|it| it.path() == place) {
            return false;
        }
        let hung = self.hung.get_or_init(|| {
            let mounts = self.topology.mounts().iter();
            let mounts = mounts.filter(|mount| self.types.contains(&mount.fs));
            let points: Vec<PathBuf> = mounts.map(|mount| mount.point.clone()).collect();
            // Of none if the run is to stop: then none is asked.
            who_hangs(&points, self.limit, self.session).unwrap_or(points)
        });
        !hung.iter().any(|point| point == place)
    }
}
