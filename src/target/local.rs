//! A directory on a mounted file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Applied, Policy};
use super::folding::{Folding, SPELLING, Spelling, has_no_files};
use super::home::Home;
use super::place::Place;
use super::publish::{Parts, Publisher, split};
use super::reserve::{RESERVE, Reserve};
use super::stage::LocalStager;
use super::{FsType, Sealed, Stager, Target, TargetStamp, fs_type};
use crate::beneath::{self, DirCache, dirs_affordable};
use crate::error::{Error, ErrorKind, Side};
use crate::scan::{Attributes, as_path};
use crate::seam;

/// Directory descriptors each thread keeps open.
const DIRS_KEPT: usize = 64;
/// Targets of one run whose publishers share what descriptors there are.
const PUBLISHERS: usize = 8;

/// How a local target is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What of the metadata is kept.
    pub policy: Policy,
    /// Whether large files may be written with O_DIRECT where the file system gains from it.
    pub direct: bool,
    /// Whether files are to be read back from the medium: then nothing is stored in a way that
    /// only the page cache can answer for.
    pub read_back: bool,
}

/// A directory on a mounted file system.
#[derive(Debug)]
pub struct LocalTarget {
    label: PathBuf,
    root: Arc<OwnedFd>,
    home: Home,
    publisher: Publisher,
    dirs: Mutex<DirCache>,
    fs: FsType,
    folding: Folding,
    /// Set where names are listed otherwise than they were given.
    spelling: Option<Spelling>,
    identity: (u64, u64),
    settings: Settings,
    place: Arc<Place>,
    reserve: OnceLock<Reserve>,
}

impl LocalTarget {
    /// Opens the target directory `label`, takes its lock and opens a new job in it, or the one that
    /// was not finished if `choose` says so; see [`Home::open`].
    ///
    /// # Errors
    /// `Locked`, `Refused`, or why it cannot be opened.
    pub fn open(
        label: PathBuf,
        root: OwnedFd,
        settings: Settings,
        choose: &mut dyn FnMut(&str, BorrowedFd<'_>) -> bool,
    ) -> Result<Self, Error> {
        Self::open_with(label, root, settings, &mut |root, label| {
            Home::open(root, label, None, choose)
        })
    }

    /// Opens the target directory `label`, with the job that `home` opens in it. That is asked for
    /// when the descriptors that hear of write-back errors are there.
    ///
    /// # Errors
    /// As `home`, or why it cannot be opened.
    pub fn open_with(
        label: PathBuf,
        root: OwnedFd,
        settings: Settings,
        home: &mut dyn FnMut(BorrowedFd<'_>, &Path) -> Result<Home, Error>,
    ) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = || {
            rustix::fs::openat(&root, c".", flags, Mode::empty())
                .map_err(|errno| Error::target(&label, "open the target", errno))
        };
        // Both before the first write: only such a descriptor hears of every write-back error.
        let (sync, witness) = (readable()?, readable()?);
        let fs = fs_type(&sync).map_err(|e| Error::target(&label, "look at the target", e))?;
        let stat = rustix::fs::fstat(&sync)
            .map_err(|errno| Error::target(&label, "look at the target", errno))?;
        let identity = (stat.st_dev, stat.st_ino);
        let home = home(root.as_fd(), &label)?;
        let root = Arc::new(root);
        let place = Place::new(&label, &root)
            .map_err(|errno| Error::target(&label, "look at the target", errno))?;
        let place = Arc::new(place);
        let dirs = |kept| DirCache::new(Arc::clone(&root), kept);
        let links = home.stage_for("links")?;
        let folding = Folding::probe(fs, root.as_fd(), home.stage().as_fd());
        let spelling = match folding {
            Folding::Always => Spelling::probe(home.stage_for(SPELLING)?.dir),
            Folding::Marked | Folding::Never => None,
        };
        let publisher = Publisher::new(Parts {
            label: label.clone(),
            sync,
            witness,
            dirs: dirs(dirs_affordable(PUBLISHERS)),
            root: Arc::clone(&root),
            links: links.dir,
            links_taken: links.taken,
            sync_each: !fs.syncs_whole(),
            place: Arc::clone(&place),
        });
        let dirs = Mutex::new(dirs(DIRS_KEPT));
        Ok(Self {
            label,
            root,
            home,
            publisher,
            dirs,
            fs,
            folding,
            spelling,
            identity,
            settings,
            place,
            reserve: OnceLock::new(),
        })
    }

    /// Sets `bytes` aside, and some inodes, that only records written at the end may take. Where
    /// there is less, less is set aside.
    ///
    /// # Errors
    /// When no folder can be made for it.
    pub fn set_aside(&self, bytes: u64) -> Result<(), Error> {
        let stage = self.home.stage_for(RESERVE)?;
        self.reserve.get_or_init(|| Reserve::new(stage, bytes));
        Ok(())
    }

    /// Gives back what was set aside: the records are written now.
    ///
    /// # Errors
    /// `TargetSync`, once: then the run has failed.
    pub fn release(&self) -> Result<(), Error> {
        let released = self.reserve.get().map_or(Ok(()), Reserve::release);
        released.map_err(|errno| {
            let what = "a sync of its private folder failed";
            Error::new(
                ErrorKind::TargetSync,
                Side::Target,
                self.home.job_label(),
                what,
            )
            .because(errno)
        })
    }

    /// Returns the private folder and this run's job in it.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the target directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Returns device and inode of the target directory.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the type of its file system.
    pub fn fs(&self) -> FsType {
        self.fs
    }

    /// Returns whether large files are written with O_DIRECT, and why (not).
    pub fn direct(&self) -> (bool, &'static str) {
        match self.fs.direct_write() {
            (true, _) if !self.settings.direct => (false, "switched off"),
            answer => answer,
        }
    }

    fn error(&self, path: &[u8], what: &str, errno: Errno) -> Error {
        Error::target(self.label.join(as_path(path)), what, errno)
    }

    /// Opens the directory that a path is in.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Arc<OwnedFd>, &'p [u8]), Error> {
        let (parent, name) = split(path);
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = dirs.get(parent);
        drop(dirs);
        dir.map(|dir| (dir, name))
            .map_err(|errno| self.error(path, "open the parent folder", errno))
    }

    /// Returns whether a folder that is listed as `other` is only spelled otherwise than `path`, and has
    /// no file in it: a run that was cut short may have made it, and whoever did loses nothing.
    fn is_spelled(&self, path: &[u8], other: &[u8]) -> Result<bool, Error> {
        Ok(self.spelling(path)?.as_deref() == Some(other)
            && has_no_files(self.root.as_fd(), path)
                .map_err(|errno| self.error(path, "look into the folder", errno))?)
    }

    /// Says whose name it is that was taken, where the target does not tell two names apart.
    fn told_by_name(&self, sealed: &Sealed, error: Error) -> Error {
        if error.kind() != ErrorKind::TargetExists {
            return error;
        }
        match self.namesake(&sealed.target_path) {
            Ok(Some(other)) => clash(self.label.join(as_path(&sealed.target_path)), &other),
            _ => error,
        }
    }
}

impl Target for LocalTarget {
    fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        if path.is_empty() {
            return Ok(false);
        }
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {
                seam::point("dir-made");
                Ok(true)
            }
            Err(Errno::EXIST) => match beneath::open_dir(parent.as_fd(), name) {
                Ok(_) => match self.namesake(path)? {
                    None => Ok(false),
                    Some(other) if self.is_spelled(path, &other)? => Ok(false),
                    Some(other) => Err(clash(self.label.join(as_path(path)), &other)),
                },
                Err(errno) => {
                    let path = self.label.join(as_path(path));
                    let what = "something that is not a folder has this name";
                    Err(
                        Error::new(ErrorKind::TargetExists, Side::Target, path, what)
                            .because(errno),
                    )
                }
            },
            Err(errno) => Err(self.error(path, "make the folder", errno)),
        }
    }

    fn namesake(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.folding == Folding::Never {
            return Ok(None);
        }
        let (parent, name) = self.parent(path)?;
        let found = self.folding.namesake(parent.as_fd(), name);
        found.map_err(|errno| self.error(path, "look how its name is spelled", errno))
    }

    fn spelling(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        // TARGET itself has no name in it.
        let Some(spelling) = self.spelling.as_ref().filter(|_| !path.is_empty()) else {
            return Ok(None);
        };
        let listed = spelling.of(split(path).1);
        let listed = listed.map_err(|errno| self.error(path, "look how it is spelled", errno))?;
        Ok(Some(listed))
    }

    fn stager(&self, name: &str) -> Result<Box<dyn Stager>, Error> {
        let stage = self.home.stage_for(name)?;
        Ok(Box::new(LocalStager {
            label: self.label.clone(),
            thread: stage.name,
            stages: Arc::clone(self.home.stage()),
            stage: stage.dir,
            dirs: DirCache::new(Arc::clone(&self.root), DIRS_KEPT),
            direct: self.direct().0,
            policy: self.settings.policy,
            sync_each: !self.fs.syncs_whole(),
            apart: self.settings.read_back && self.fs.inlines_small(),
            next: stage.taken,
        }))
    }

    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        let answers = self.publisher.publish(batch);
        let told = answers.into_iter().zip(batch);
        told.map(|(answer, sealed)| answer.map_err(|error| self.told_by_name(sealed, error)))
            .collect()
    }

    fn finish_dir(&self, path: &[u8], attributes: &Attributes) -> Result<Applied, Error> {
        seam::point("dir-finishing");
        let dir = beneath::read_dir_fd(self.root.as_fd(), path)
            .map_err(|errno| self.error(path, "open the folder to finish it", errno))?;
        let applied = attributes::apply(dir.as_fd(), attributes, &self.settings.policy);
        if !self.fs.syncs_whole() {
            rustix::fs::fsync(&dir).map_err(|errno| self.error(path, "make it durable", errno))?;
        }
        seam::point("dir-finished");
        Ok(applied)
    }

    fn syncs_whole(&self) -> bool {
        self.fs.syncs_whole()
    }

    fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        self.publisher.withdraw(path, stamp)
    }

    fn settle(&self, paths: &[&[u8]]) -> Result<(), Error> {
        self.publisher.settle(paths)
    }

    fn look_again(&self) -> Result<(), Error> {
        self.place.probe(self.home.job())
    }

    fn close(&self, keep: bool) -> Result<(), Error> {
        let released = self.release();
        if keep {
            self.home.prune_stage();
        } else {
            self.home.clear_stage();
            seam::point("stage-cleared");
        }
        self.publisher.close()?;
        released
    }
}

/// Returns that a name is taken by one that the target does not tell apart from it.
pub(crate) fn clash(path: PathBuf, other: &[u8]) -> Error {
    let what = format!(
        "the target does not tell its name apart from {}, which it has; nothing was overwritten",
        other.escape_ascii()
    );
    Error::new(ErrorKind::TargetExists, Side::Target, path, &what)
}
