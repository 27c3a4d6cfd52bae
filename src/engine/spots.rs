//! What the targets and sources of one copy are, from its first run to its last.
//!
//! Each run opens them anew, by their paths. A drive that was pulled leaves the empty folder it was
//! mounted at: as a target it would fill the system's disk, as a source it would pass for empty.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::opening::target_identity;
use super::recipe::Recipe;
use super::spill::Round;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{Identity, Likeness};
use crate::plan::{Source, TargetPlace, look_at_target};
use crate::topology::Topology;

/// A target as it was when the copy began.
#[derive(Debug)]
struct Spot {
    label: PathBuf,
    device: u64,
    /// Its inode; `None` when it was not there yet.
    ino: Option<u64>,
    /// UUID of its file system.
    fs: Option<Vec<u8>>,
}

/// All targets and sources.
#[derive(Debug)]
pub(super) struct Spots {
    targets: Vec<Spot>,
    /// By what each source is called: what it is, and where it lands.
    sources: Mutex<HashMap<PathBuf, (Identity, Vec<u8>)>>,
}

impl Spots {
    /// Looks at all targets.
    ///
    /// # Errors
    /// `Refused` when two are on one file system: they give no more room than one of them.
    pub(super) fn look(labels: &[PathBuf]) -> Result<Self, Error> {
        let topology = Topology::live()?;
        let mut targets: Vec<Spot> = Vec::new();
        for label in labels {
            let spot = spot(&look_at_target(label, &[])?, &topology)?;
            if targets.iter().any(|other| other.device == spot.device) {
                let what = "it is on the same file system as another target: there is no more room \
                            there";
                return Err(Error::new(ErrorKind::Refused, Side::Target, label, what));
            }
            targets.push(spot);
        }
        Ok(Self {
            targets,
            sources: Mutex::default(),
        })
    }

    /// Opens a target, if it is what it was. Makes nothing.
    ///
    /// # Errors
    /// `TargetLost` when it is not.
    pub(super) fn open(&self, number: usize, label: &Path) -> Result<TargetPlace, Error> {
        let place = look_at_target(label, &[])?;
        self.check(number, &place)?;
        Ok(place)
    }

    /// Refuses a target that is not what it was.
    ///
    /// # Errors
    /// `TargetLost`.
    pub(super) fn check(&self, number: usize, place: &TargetPlace) -> Result<(), Error> {
        let Some(then) = self.targets.get(number) else {
            return Ok(());
        };
        let now = spot(place, &Topology::live()?)?;
        let is_it = now.device == then.device
            && now.fs == then.fs
            && then.ino.is_none_or(|ino| now.ino == Some(ino));
        if is_it {
            return Ok(());
        }
        let what = "this is not the place it was when the copy began: another file system is there, \
                    or none; nothing was written to it. Mount it again and run the same command";
        let kind = ErrorKind::TargetLost;
        Err(Error::new(kind, Side::Target, &place.label, what))
    }

    /// Returns the UUID of the file system of each further target, where that is known.
    pub(super) fn further(&self) -> Vec<Option<String>> {
        let further = self.targets.iter().skip(1);
        let text = |fs: &Vec<u8>| String::from_utf8(fs.clone()).ok();
        further
            .map(|spot| spot.fs.as_ref().and_then(text))
            .collect()
    }

    /// Refuses a further target that was on another file system when its copy was begun.
    ///
    /// # Errors
    /// `Refused`.
    pub(super) fn check_recorded(&self, path: &Path, fs: &str) -> Result<(), Error> {
        let is_it = |spot: &Spot| spot.fs.as_deref() == Some(fs.as_bytes());
        let is_there = |spot: &&Spot| full(&spot.label) == full(path);
        let Some(there) = self.targets.iter().find(is_there) else {
            return Ok(());
        };
        if self.targets.iter().any(is_it) {
            return Ok(());
        }
        let what = format!(
            "another file system is there than when this copy was begun (its UUID was {fs}): is its \
             drive mounted? Nothing was written. To go on in another one, name that by another path"
        );
        let kind = ErrorKind::Refused;
        Err(Error::new(kind, Side::Target, &there.label, &what))
    }

    /// Gives sources the place that they have in the targets before: a further one may not know them yet.
    pub(super) fn place(&self, sources: &mut [Source]) {
        let known = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources {
            if let Some((_, landing)) = known.get(&source.label) {
                source.landing.clone_from(landing);
            }
        }
    }

    /// Refuses sources that are not what they were in an earlier run of this copy.
    ///
    /// # Errors
    /// `SourceLost`.
    pub(super) fn check_sources(
        &self,
        sources: &[Source],
        identities: &[Identity],
    ) -> Result<(), Error> {
        let mut known = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, now) in sources.iter().zip(identities) {
            let Some((then, _)) = known.get(&source.label) else {
                let here = (now.clone(), source.landing.clone());
                known.insert(source.label.clone(), here);
                continue;
            };
            if let Likeness::Different(which) = then.compare(now) {
                let what = format!(
                    "{which} is another than when this copy began: its drive is gone, or another \
                     one is there; reconnect it and run the same command"
                );
                let kind = ErrorKind::SourceLost;
                return Err(Error::new(kind, Side::Source, &source.label, &what));
            }
        }
        Ok(())
    }
}

fn spot(place: &TargetPlace, topology: &Topology) -> Result<Spot, Error> {
    let label = &place.label;
    let stat = rustix::fs::fstat(&place.nearest)
        .map_err(|errno| Error::target(label, "look at the target", errno))?;
    Ok(Spot {
        label: label.clone(),
        device: stat.st_dev,
        ino: place.existing().map(|_| stat.st_ino),
        fs: target_identity(place.nearest.as_fd(), label, topology)?.fs_uuid,
    })
}

/// Returns a path as it leads there; the last component need not be there.
pub(super) fn full(path: &Path) -> PathBuf {
    let there = path.canonicalize();
    there.unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = parent.canonicalize();
            parent.map_or_else(|_| path.to_owned(), |parent| parent.join(name))
        }
        _ => path.to_owned(),
    })
}
/// Refuses to go on in one target with a copy that has several: what the others have would be copied
/// again.
pub(super) fn check_further(
    recipe: Option<&Recipe>,
    round: &Round<'_>,
    label: &Path,
) -> Result<(), Error> {
    if let (Some(recipe), Some(spots)) = (recipe, round.spots) {
        for (path, fs) in recipe.further() {
            spots.check_recorded(&path, fs)?;
        }
    }
    let further = recipe.map(|recipe| recipe.job().spill.clone());
    let further = further.filter(|further| !further.is_empty() && round.whole.spill.is_empty());
    let Some(further) = further else {
        return Ok(());
    };
    let named: Vec<_> = further
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let what = format!(
        "this copy goes on in further targets ({}): name them with --spill again, or use 'inhaul \
         resume'",
        named.join(", ")
    );
    Err(Error::new(ErrorKind::Refused, Side::Target, label, &what))
}
