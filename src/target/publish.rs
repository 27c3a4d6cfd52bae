//! The commit protocol: data durable before its name, name durable before it is acknowledged.
//!
//! 1. `syncfs`: bytes and metadata of the whole batch reach the medium.
//! 2. Each file gets its name; a taken name is refused by the kernel, not by a check before.
//! 3. `syncfs` again: the names reach the medium. Only now is the batch acknowledged.
//!
//! The order matters. Name before data: a power cut can leave the final name on a file of zeros.
//! One sync after the names only: the same, seen on ext4. The descriptor asked was opened before
//! the first write, because one opened after a write-back error hears nothing of it. A failed
//! sync is final: the kernel marks the pages clean, so a second one would say yes to lost data.
//! Source: fsync(2), syncfs(2); Rebello et al., USENIX ATC 2020.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::{Form, Sealed, TargetStamp};
use crate::beneath::{self, DirCache};
use crate::error::{Error, ErrorKind, Side};
use crate::scan::as_path;
use crate::seam;

/// Gives names, and makes them durable.
#[derive(Debug)]
pub(super) struct Publisher {
    parts: Parts,
    dirs: Mutex<DirCache>,
    lost: AtomicBool,
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
}

impl Publisher {
    pub(super) fn new(mut parts: Parts) -> Self {
        let taken = parts.links_taken + 1;
        let dirs = std::mem::replace(&mut parts.dirs, DirCache::new(Arc::clone(&parts.root), 1));
        Self {
            parts,
            dirs: Mutex::new(dirs),
            lost: AtomicBool::new(false),
            link_number: AtomicU64::new(taken),
        }
    }

    pub(super) fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        if seam::bug("rename-before-sync") {
            return self.publish_in_the_wrong_order(batch);
        }
        seam::point("data-syncing");
        if !seam::bug("no-sync-before-rename")
            && let Err(errno) = self.sync_all()
        {
            return batch
                .iter()
                .map(|sealed| Err(self.sync_error(sealed, errno)))
                .collect();
        }
        seam::point("data-synced");
        let mut answers: Vec<_> = batch.iter().map(|sealed| self.name(sealed)).collect();
        seam::point("named-all");
        // Only where something was named: a path that leads elsewhere fails its own file.
        let named: Vec<&Sealed> = answers
            .iter()
            .zip(batch)
            .filter_map(|(answer, sealed)| answer.is_ok().then_some(sealed))
            .collect();
        if seam::bug("no-sync-after-rename") {
            return answers;
        }
        if let Err(errno) = self.sync_dirs(&named).and_then(|()| self.sync_all()) {
            for (answer, sealed) in answers.iter_mut().zip(batch) {
                *answer = Err(self.sync_error(sealed, errno));
            }
        }
        seam::point("names-synced");
        answers
    }

    /// What `publish` would be if it named before it synced, for a test that must notice.
    fn publish_in_the_wrong_order(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        let mut answers: Vec<_> = batch.iter().map(|sealed| self.name(sealed)).collect();
        if let Err(errno) = self.sync_all() {
            for (answer, sealed) in answers.iter_mut().zip(batch) {
                *answer = Err(self.sync_error(sealed, errno));
            }
        }
        answers
    }

    /// Removes a published file if it still has this stamp. It is moved aside first and looked at
    /// there, so that what takes its name meanwhile is never removed in its place.
    pub(super) fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        let label = self.parts.label.join(as_path(path));
        let fail = |errno| Error::target(&label, "remove the copy that is wrong", errno);
        let (dir, name) = self.parent(path).map_err(fail)?;
        let number = self.link_number.fetch_add(1, Relaxed).to_string();
        let stage = &self.parts.links;
        match rustix::fs::renameat(&dir, name, stage, &number) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        }
        let there = rustix::fs::statat(stage, &number, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if super::stage::stamp_of(&there).ino == stamp.ino {
            seam::point("withdrawn");
            rustix::fs::unlinkat(stage, &number, AtFlags::empty()).map_err(fail)
        } else {
            let back = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(stage, &number, &dir, name, back).map_err(fail)
        }
    }

    /// Asks the witness whether anything was lost since before the first write.
    pub(super) fn close(&self) -> Result<(), Error> {
        seam::point("witness-asking");
        if seam::bug("no-witness") {
            return Ok(());
        }
        let clean = rustix::fs::syncfs(&self.parts.witness);
        seam::point("witness-answered");
        if let Err(errno) = clean {
            self.lost.store(true, SeqCst);
            let what = "the target lost data that was being written to it";
            return Err(
                Error::new(ErrorKind::TargetSync, Side::Target, &self.parts.label, what)
                    .because(errno),
            );
        }
        if self.lost.load(SeqCst) {
            let what = "an earlier sync failed";
            return Err(Error::new(
                ErrorKind::TargetSync,
                Side::Target,
                &self.parts.label,
                what,
            ));
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<(), Errno> {
        if self.lost.load(SeqCst) {
            return Err(Errno::IO);
        }
        let answer = rustix::fs::syncfs(&self.parts.sync);
        if seam::bug("sync-error-ignored") {
            return Ok(());
        }
        if seam::bug("sync-tried-again") {
            return answer.or_else(|_| rustix::fs::syncfs(&self.parts.sync));
        }
        answer.inspect_err(|_| self.lost.store(true, SeqCst))
    }

    /// Syncs every directory that got a name, where syncing the whole does not.
    fn sync_dirs(&self, named: &[&Sealed]) -> Result<(), Errno> {
        if !self.parts.sync_each || seam::bug("no-dir-sync") {
            return Ok(());
        }
        let dirs: BTreeSet<&[u8]> = named
            .iter()
            .map(|sealed| split(&sealed.target_path).0)
            .collect();
        // A new directory's own name is in its parent.
        let above = dirs.iter().flat_map(|dir| {
            (0..dir.len())
                .filter(|&i| dir.get(i) == Some(&b'/'))
                .map(|i| dir.get(..i).unwrap_or_default())
        });
        let all: BTreeSet<&[u8]> = dirs
            .iter()
            .copied()
            .chain(above)
            .chain([&b""[..]])
            .collect();
        for dir in all {
            beneath::read_dir_fd(self.parts.root.as_fd(), dir)
                .and_then(rustix::fs::fsync)
                .inspect_err(|_| self.lost.store(true, SeqCst))?;
        }
        Ok(())
    }

    fn sync_error(&self, sealed: &Sealed, errno: Errno) -> Error {
        let path = self.parts.label.join(as_path(&sealed.target_path));
        Error::target_sync(path, "make durable", errno)
    }

    fn name(&self, sealed: &Sealed) -> Result<(), Error> {
        seam::point("naming-one");
        let named = match &sealed.form {
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
        };
        seam::point("named-one");
        named.map_err(|errno| {
            let path = self.parts.label.join(as_path(&sealed.target_path));
            match errno {
                Errno::EXIST | Errno::ISDIR | Errno::NOTDIR => {
                    Error::target(path, "the name was taken meanwhile", errno)
                }
                _ => Error::target(path, "give it its name", errno),
            }
        })
    }

    fn rename(&self, stage: BorrowedFd<'_>, number: &str, to: &Sealed) -> Result<(), Errno> {
        let (dir, name) = self.parent(&to.target_path)?;
        if to.replace {
            return rustix::fs::renameat(stage, number, &dir, name);
        }
        match rustix::fs::renameat_with(stage, number, &dir, name, RenameFlags::NOREPLACE) {
            // Some file systems know no flags. A second name is refused if taken, too.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(stage, number, &dir, name, AtFlags::empty())?;
                rustix::fs::unlinkat(stage, number, AtFlags::empty())
            }
            answer => answer,
        }
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

/// Splits a relative path into its directory (empty for the top) and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}
