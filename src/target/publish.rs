//! Giving names, and taking them away: the calls of a publication, in the order of `protocol`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::place::Place;
use super::protocol::{Protocol, Steps};
use super::{Form, Sealed, TargetStamp};
use crate::beneath::{self, DirCache};
use crate::error::Error;
use crate::scan::as_path;
use crate::seam;

/// Gives names, and makes them durable.
#[derive(Debug)]
pub(super) struct Publisher {
    parts: Parts,
    protocol: Protocol,
    dirs: Mutex<DirCache>,
    link_number: AtomicU64,
}

/// What a publisher is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) label: PathBuf,
    /// Readable descriptors of the target, opened before the first write.
    pub(super) sync: OwnedFd,
    pub(super) witness: OwnedFd,
    pub(super) dirs: DirCache,
    pub(super) root: Arc<OwnedFd>,
    /// A staging folder for links that replace something, and for what is withdrawn.
    pub(super) links: Arc<OwnedFd>,
    /// The highest number taken in it.
    pub(super) links_taken: u64,
    /// Whether the directories that got names are synced one by one: where syncfs is not enough.
    pub(super) sync_each: bool,
    pub(super) place: Arc<Place>,
}

impl Publisher {
    pub(super) fn new(mut parts: Parts) -> Self {
        let taken = parts.links_taken + 1;
        let dirs = std::mem::replace(&mut parts.dirs, DirCache::new(Arc::clone(&parts.root), 1));
        Self {
            protocol: Protocol::new(parts.label.clone(), parts.sync_each),
            parts,
            dirs: Mutex::new(dirs),
            link_number: AtomicU64::new(taken),
        }
    }

    pub(super) fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        if !self.protocol.is_lost()
            && !seam::bug("place-not-checked")
            && let Err(lost) = self.parts.place.check()
        {
            // Nothing gets a name where nobody would find it.
            return batch.iter().map(|_| Err(lost.again())).collect();
        }
        self.protocol.publish(self, batch)
    }

    /// Removes a published file if it still has this stamp. It is moved aside first and looked at
    /// there, so that what takes its name meanwhile is never removed in its place.
    pub(super) fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        let label = self.parts.label.join(as_path(path));
        let fail = |errno| Error::target(&label, "remove the copy that is wrong", errno);
        let has_stamp = |dir: &OwnedFd, name: &[u8]| {
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| TargetStamp::of(&stat) == stamp)
        };
        let (dir, name) = match self.parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        };
        match has_stamp(&dir, name) {
            Ok(true) => {}
            Ok(false) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        }
        // Not a number: no sweep takes it, should it turn out to be somebody else's.
        let number = self.link_number.fetch_add(1, Relaxed);
        let aside = format!("{ASIDE}{number}");
        let stage = &self.parts.links;
        match rename_free(dir.as_fd(), name, stage.as_fd(), aside.as_bytes()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        }
        if matches!(has_stamp(stage, aside.as_bytes()), Ok(true)) {
            rustix::fs::unlinkat(stage, &aside, AtFlags::empty()).map_err(fail)?;
            seam::point("withdrawn");
            return Ok(());
        }
        let back = rename_free(stage.as_fd(), aside.as_bytes(), dir.as_fd(), name);
        back.map_err(|errno| {
            let what = format!("give back what had its name, and is {aside} in the stage now");
            Error::target(&label, &what, errno)
        })
    }

    /// Makes it durable that names were taken away.
    pub(super) fn settle(&self, paths: &[&[u8]]) -> Result<(), Error> {
        self.protocol.settle(self, paths)
    }

    /// Asks the witness whether anything was lost since before the first write.
    pub(super) fn close(&self) -> Result<(), Error> {
        self.protocol.close(self)
    }

    fn rename(&self, stage: BorrowedFd<'_>, number: &str, to: &Sealed) -> Result<(), Errno> {
        let (dir, name) = self.parent(&to.target_path)?;
        if to.replace {
            return rustix::fs::renameat(stage, number, &dir, name);
        }
        rename_free(stage, number.as_bytes(), dir.as_fd(), name)
    }

    fn link(&self, existing: &[u8], to: &Sealed) -> Result<(), Errno> {
        let (from_dir, from) = self.parent(existing)?;
        let (dir, name) = self.parent(&to.target_path)?;
        match rustix::fs::linkat(&from_dir, from, &dir, name, AtFlags::empty()) {
            Err(Errno::EXIST) => {
                let old = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let new = rustix::fs::statat(&from_dir, from, AtFlags::SYMLINK_NOFOLLOW)?;
                if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
                    return Ok(()); // the link is there already
                }
                if !to.replace {
                    return Err(Errno::EXIST);
                }
                // A link of our own, renamed over the old name: that name is never missing.
                let number = self.link_number.fetch_add(1, Relaxed).to_string();
                let stage = &self.parts.links;
                rustix::fs::linkat(&from_dir, from, stage, &number, AtFlags::empty())?;
                rustix::fs::renameat(stage, &number, &dir, name).inspect_err(|_| {
                    let _best_effort = rustix::fs::unlinkat(stage, &number, AtFlags::empty());
                })
            }
            answer => answer,
        }
    }

    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Arc<OwnedFd>, &'p [u8]), Errno> {
        let (dir, name) = split(path);
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((dirs.get(dir)?, name))
    }
}

impl Steps for Publisher {
    fn sync_all(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.parts.sync)
    }

    fn sync_dir(&self, path: &[u8]) -> Result<(), Errno> {
        beneath::read_dir_fd(self.parts.root.as_fd(), path).and_then(rustix::fs::fsync)
    }

    fn name(&self, sealed: &Sealed) -> Result<(), Errno> {
        match &sealed.form {
            Form::Nothing => Ok(()),
            Form::Staged { dir, number } => {
                let number = number.to_string();
                let named = self.rename(dir.as_fd(), &number, sealed);
                if named.is_err() {
                    // If it cannot be removed either, closing the run or the next run sweeps it.
                    let _best_effort = rustix::fs::unlinkat(dir, &number, AtFlags::empty());
                }
                named
            }
            Form::Link { existing } => self.link(existing, sealed),
        }
    }

    fn ask_witness(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.parts.witness)
    }
}

/// Begins the name of what is moved aside to be looked at.
const ASIDE: &str = "aside.";

/// Renames unless the new name is taken.
fn rename_free(
    from_dir: BorrowedFd<'_>,
    from: &[u8],
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from_dir, from, dir, name, RenameFlags::NOREPLACE) {
        // Some file systems know no flags. A second name is refused if taken, too.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(from_dir, from, dir, name, AtFlags::empty())?;
            rustix::fs::unlinkat(from_dir, from, AtFlags::empty())
        }
        answer => answer,
    }
}

/// Splits a relative path into its directory (empty for the top) and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}
