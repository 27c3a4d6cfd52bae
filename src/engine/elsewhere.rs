//! The other targets of a copy that goes on from one to the next: what they have is not copied again.
//!
//! Each target has a job of one name, with a journal and a manifest of its own. A run into one of
//! them reads the journals of the others, under their locks, and never writes there.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::log::lasting;
use super::opening::{Opening, target_identity};
use super::spill::Round;
use super::standing::{Standing, found, is_near, standing};
use crate::beneath::{self, DirCache};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Identity, Likeness, Loaded};
use crate::plan::{self, Recognised, Source};
use crate::scan::{Entry, as_path};
use crate::target::{HomeLock, Vacancy, may_fold, split, vacancy};
use crate::topology::Topology;

/// Folder descriptors of another target that are kept open.
const DIRS_KEPT: usize = 64;
/// Most inodes with names on other targets that are remembered, to say that a link is cut.
const LINKED_MAX: usize = 200_000;

/// Another target, as it was when this run into its neighbour began.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    label: PathBuf,
    job: OwnedFd,
    loaded: Loaded,
    /// The number of each SOURCE in its journal.
    sources: Vec<u32>,
    dirs: Mutex<DirCache>,
    /// Whether its turn has been: what it could not take then is not left to it again.
    is_past: bool,
    lock: HomeLock,
}

/// What another target has of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    /// Nothing that counts.
    Nothing,
    /// All of it, unchanged on both sides.
    Whole,
    /// Something that is not known to be of this copy, and whether it may be left for the file itself:
    /// no folder, in its own place, and nothing is known to be lost of the journal.
    Taken(bool),
    /// An older state, or what was never acknowledged: for a run into that target to see to.
    Older,
}

/// What a run knows of the other targets.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) elsewhere: Vec<Elsewhere>,
    /// TARGET itself, if nothing is to be copied any more: folders that are there get their
    /// attributes, and the records are closed.
    pub(crate) finishes: Option<OwnedFd>,
    /// Whether the copy has other targets, whatever is in them.
    pub(crate) is_one_of_several: bool,
    /// Inodes that have names on other targets: SOURCE and inode number.
    linked: HashSet<(usize, u64)>,
    /// Those of them that were met here: their further names count as links.
    met: Mutex<HashSet<(usize, u64)>>,
}

impl Around {
    /// Returns what is known of these.
    pub(super) fn new(
        elsewhere: Vec<Elsewhere>,
        finishes: Option<OwnedFd>,
        is_one_of_several: bool,
    ) -> Self {
        let linked = elsewhere.iter().flat_map(Elsewhere::linked);
        Self {
            linked: linked.take(LINKED_MAX).collect(),
            elsewhere,
            finishes,
            is_one_of_several,
            met: Mutex::default(),
        }
    }

    /// Returns what the other targets have of an entry that lands at `path`, and which of them.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) fn look(
        &self,
        entry: &Entry,
        path: &[u8],
    ) -> Result<(There, Option<&Elsewhere>), Error> {
        let mut answer = (There::Nothing, None);
        for other in &self.elsewhere {
            match other.look(entry, path)? {
                There::Nothing => {}
                // Wherever it is, what has its name on another one is not it.
                There::Whole => return Ok((There::Whole, Some(other))),
                there if answer.1.is_none() => answer = (there, Some(other)),
                There::Taken(_) | There::Older => {}
            }
        }
        Ok(answer)
    }

    /// Lets the other targets go: nothing is asked of them any more.
    pub(super) fn let_go(&self) {
        for other in &self.elsewhere {
            other.lock.let_go();
        }
    }

    /// Returns whether another name of an entry's inode is on another target.
    pub(crate) fn cuts_link(&self, entry: &Entry) -> bool {
        entry.nlink > 1 && self.linked.contains(&inode(entry))
    }

    /// Notes a name that is on another target; returns whether it is the first of its inode.
    pub(crate) fn is_first_met(&self, entry: &Entry) -> bool {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        entry.nlink < 2 || met.len() >= LINKED_MAX || met.insert(inode(entry))
    }

    /// Forgets what names of these SOURCEs were met here: they are met anew.
    pub(super) fn forget(&self, sources: &[usize]) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.retain(|(source, _)| !sources.contains(source));
    }

    /// Returns whether a folder below TARGET is left out: it was never made here, and nothing is
    /// to be copied any more.
    pub(crate) fn leaves_out(&self, folder: &[u8]) -> bool {
        let root = self.finishes.as_ref().map(AsFd::as_fd);
        root.is_some_and(|root| beneath::open_dir(root, folder).is_err())
    }
}

fn inode(entry: &Entry) -> (usize, u64) {
    (entry.dir.tree().index, entry.stamp.ino)
}

/// Where another target is to be looked for, and by what.
#[derive(Debug, Clone, Copy)]
struct Search<'a> {
    /// The job they have in common.
    name: &'a str,
    sources: &'a [Source],
    identities: &'a [Identity],
    topology: &'a Topology,
}

impl Search<'_> {
    /// Looks for the job at another target; `None` when it has none of this name.
    ///
    /// # Errors
    /// `Locked`; `Refused` when it is another file system than it was; what keeps its journal from
    /// being read: then it is not known what is there.
    fn at(
        &self,
        root: BorrowedFd<'_>,
        label: &Path,
        is_past: bool,
    ) -> Result<Option<Elsewhere>, Error> {
        let Some(lock) = HomeLock::take_existing(root, label)? else {
            return Ok(None);
        };
        let Ok(Some(job)) = lock.unfinished(Some(self.name)) else {
            return Ok(None);
        };
        let folder = lock.label().join(self.name);
        let loaded = match journal::read(job.dir.as_fd(), &folder, job.dir.as_fd()) {
            Ok(loaded) => loaded,
            Err(error) if error.kind() == ErrorKind::Missing => return Ok(None),
            Err(error) => return Err(error),
        };
        let refused = |why: &str| {
            let what = format!("this further target cannot be gone on with: {why}");
            Error::new(ErrorKind::Refused, Side::Target, label, &what)
        };
        let now = target_identity(root, label, self.topology)?;
        if let Likeness::Different(what) = loaded.head().target.compare(&now) {
            return Err(refused(&format!("{what} was another")));
        }
        let recorded: Vec<journal::Source> = loaded.sources().collect();
        let sources = match plan::recognise_more(&recorded, self.sources, self.identities) {
            Recognised::Same(matched) => matched.iter().map(|matched| matched.index).collect(),
            Recognised::Other(why) => return Err(refused(&why)),
        };
        let root = rustix::io::fcntl_dupfd_cloexec(root, 0)
            .map_err(|errno| Error::target(label, "open", errno))?;
        Ok(Some(Elsewhere {
            label: label.to_owned(),
            job: job.dir,
            loaded,
            sources,
            dirs: Mutex::new(DirCache::new(Arc::new(root), DIRS_KEPT)),
            is_past,
            lock,
        }))
    }
}

impl Elsewhere {
    /// Returns the target as it was typed.
    pub(crate) fn label(&self) -> &Path {
        &self.label
    }

    /// Returns the folder of its job.
    pub(super) fn job(&self) -> BorrowedFd<'_> {
        self.job.as_fd()
    }

    /// Returns whether its turn has been.
    pub(crate) fn is_past(&self) -> bool {
        self.is_past
    }

    fn look(&self, entry: &Entry, path: &[u8]) -> Result<There, Error> {
        let known = &self.loaded;
        let naming = known.naming(path).map(|naming| found(naming.target_stamp));
        let is_recorded =
            naming.is_some() || known.done(path).is_some() || known.other(path).is_some();
        if !is_recorded && !self.is_past {
            return Ok(There::Nothing);
        }
        let (there, folds) = {
            let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
            let there = match vacancy(&mut dirs, path) {
                Ok(there) => there,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Vacancy::Free,
                // That says nothing about what is there.
                Err(errno) => {
                    let path = self.label.join(as_path(path));
                    return Err(Error::target(path, "look what is there", errno));
                }
            };
            let is_asked = !is_recorded && there != Vacancy::Free;
            let folds = is_asked
                && dirs
                    .get(split(path).0)
                    .map_or(true, |dir| may_fold(dir.as_fd()));
            (there, folds)
        };
        if !is_recorded {
            return Ok(match there {
                Vacancy::Free => There::Nothing,
                there => There::Taken(there.stamp().is_some() && !folds && !known.has_gaps()),
            });
        }
        if naming.is_some() && naming == there.stamp() {
            return Ok(There::Older);
        }
        let source = self.sources.get(entry.dir.tree().index);
        Ok(
            match standing(
                known,
                source.copied().unwrap_or(u32::MAX),
                entry,
                path,
                there,
            ) {
                Standing::Done(_) | Standing::Other(..) => There::Whole,
                Standing::Changed | Standing::Unknown => There::Older,
                // On FAT and exFAT nothing but size and time tells it: the journal has to have it, of the
                // source as it is.
                Standing::Unrecorded(stamp) => match known.done(path) {
                    Some(done)
                        if done.source_stamp == lasting(entry.stamp, entry.dir.tree())
                            && is_near(found(done.target_stamp), stamp) =>
                    {
                        There::Whole
                    }
                    _ => There::Older,
                },
                Standing::New => There::Nothing,
            },
        )
    }

    /// Returns the inodes that have names here and others: SOURCE and inode number.
    fn linked(&self) -> impl Iterator<Item = (usize, u64)> {
        let done = self.loaded.iter_done().filter(|done| done.linked);
        let done = done.map(|done| (done.source, done.source_stamp.ino));
        let other = self.loaded.iter_other().filter(|other| other.linked);
        let other = other.map(|other| (other.source, other.source_stamp.ino));
        done.chain(other).filter_map(|(source, ino)| {
            let tree = self.sources.iter().position(|number| *number == source)?;
            Some((tree, ino))
        })
    }
}

/// Looks for the job at the other targets.
///
/// # Errors
/// `Locked`, `Refused`, and what keeps one from being read.
pub(super) fn look_elsewhere(
    round: &Round<'_>,
    opening: &Opening,
    sources: &[Source],
    topology: &Topology,
) -> Result<Vec<Elsewhere>, Error> {
    let Some(name) = opening.name() else {
        return Ok(Vec::new());
    };
    let search = Search {
        name,
        sources,
        identities: opening.identities(),
        topology,
    };
    let mut found = Vec::new();
    for (number, place) in &round.others {
        if let Some(root) = place.existing() {
            let is_past = *number < round.number;
            found.extend(search.at(root, &place.label, is_past)?);
        }
    }
    Ok(found)
}
