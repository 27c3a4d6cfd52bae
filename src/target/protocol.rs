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
//!
//! **Boundary.** The order and what an answer means; the calls themselves are [`Steps`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::io::Errno;

use super::Sealed;
use super::publish::split;
use crate::error::{Error, ErrorKind, Side};
use crate::scan::as_path;
use crate::seam;

/// The calls a publication is made of: the kernel's, or in a test a file system's that is none.
pub(crate) trait Steps {
    /// Syncs the whole file system, by a descriptor opened before the first write.
    fn sync_all(&self) -> Result<(), Errno>;

    /// Syncs one directory below TARGET; empty for TARGET itself.
    fn sync_dir(&self, path: &[u8]) -> Result<(), Errno>;

    /// Gives a sealed thing its name. If that fails, what was staged is gone.
    fn name(&self, sealed: &Sealed) -> Result<(), Errno>;

    /// Syncs the whole file system by another such descriptor, which nobody asked before.
    fn ask_witness(&self) -> Result<(), Errno>;
}

/// The order of the steps, and the memory of a failed one.
#[derive(Debug)]
pub(crate) struct Protocol {
    label: PathBuf,
    /// Whether the directories that got names are synced one by one: where syncfs is not enough.
    sync_each: bool,
    lost: AtomicBool,
}

impl Protocol {
    /// Returns the protocol of a target that was just opened; `label` is what messages call it.
    pub(crate) fn new(label: PathBuf, sync_each: bool) -> Self {
        Self {
            label,
            sync_each,
            lost: AtomicBool::new(false),
        }
    }

    /// Returns whether a sync has failed: nothing succeeds any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    /// Publishes a batch; see [`Target::publish`](super::Target::publish).
    pub(crate) fn publish(&self, steps: &dyn Steps, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        let early = seam::bug("rename-before-sync").then(|| self.name_all(steps, batch));
        seam::point("data-syncing");
        if !seam::bug("no-sync-before-rename")
            && let Err(errno) = self.sync_all(steps)
        {
            return batch
                .iter()
                .map(|sealed| Err(self.sync_error(sealed, errno)))
                .collect();
        }
        seam::point("data-synced");
        let mut answers = early.unwrap_or_else(|| self.name_all(steps, batch));
        seam::point("named-all");
        if seam::bug("no-sync-after-rename") {
            return answers;
        }
        // Only where something was named: a path that leads elsewhere fails its own file.
        let named: Vec<&Sealed> = answers
            .iter()
            .zip(batch)
            .filter_map(|(answer, sealed)| answer.is_ok().then_some(sealed))
            .collect();
        let named = named.iter().map(|sealed| sealed.target_path.as_slice());
        let synced = self
            .sync_dirs(named, &|dir| steps.sync_dir(dir))
            .and_then(|()| self.sync_all(steps));
        if let Err(errno) = synced {
            for (answer, sealed) in answers.iter_mut().zip(batch) {
                *answer = Err(self.sync_error(sealed, errno));
            }
        }
        seam::point("names-synced");
        answers
    }

    fn name_all(&self, steps: &dyn Steps, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        let name = |sealed: &Sealed| {
            seam::point("naming-one");
            let named = steps.name(sealed);
            seam::point("named-one");
            named.map_err(|errno| self.name_error(sealed, errno))
        };
        batch.iter().map(name).collect()
    }

    /// Makes durable what became of the names at `paths`. A directory that is not there any more has
    /// none.
    pub(crate) fn settle(&self, steps: &dyn Steps, paths: &[&[u8]]) -> Result<(), Error> {
        if seam::bug("settle-not-synced") {
            return Ok(());
        }
        self.sync_dirs(paths.iter().copied(), &|dir| match steps.sync_dir(dir) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
            answer => answer,
        })
        .and_then(|()| self.sync_all(steps))
        .map_err(|errno| {
            let what = "make durable what was settled";
            Error::target_sync(&self.label, what, errno)
        })
    }

    /// Asks the witness whether anything was lost since before the first write.
    pub(crate) fn close(&self, steps: &dyn Steps) -> Result<(), Error> {
        let failed = |what| Error::new(ErrorKind::TargetSync, Side::Target, &self.label, what);
        seam::point("witness-asking");
        let asked = if seam::bug("no-witness") {
            Ok(())
        } else {
            steps.ask_witness()
        };
        seam::point("witness-answered");
        if let Err(errno) = asked {
            self.lost.store(true, SeqCst);
            let what = "the target lost data that was being written to it";
            return Err(failed(what).because(errno));
        }
        if self.lost.load(SeqCst) {
            return Err(failed("an earlier sync failed"));
        }
        Ok(())
    }

    fn sync_all(&self, steps: &dyn Steps) -> Result<(), Errno> {
        if self.lost.load(SeqCst) {
            return Err(Errno::IO);
        }
        let mut synced = steps.sync_all();
        if seam::bug("sync-error-ignored") {
            return Ok(());
        }
        if synced.is_err() && seam::bug("sync-tried-again") {
            synced = steps.sync_all();
        }
        synced.inspect_err(|_| self.lost.store(true, SeqCst))
    }

    /// Syncs every directory that got a name, where syncing the whole does not.
    fn sync_dirs<'p>(
        &self,
        named: impl Iterator<Item = &'p [u8]>,
        sync: &dyn Fn(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if !self.sync_each || seam::bug("no-dir-sync") {
            return Ok(());
        }
        let dirs: BTreeSet<&[u8]> = named.map(|path| split(path).0).collect();
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
            sync(dir).inspect_err(|_| self.lost.store(true, SeqCst))?;
        }
        Ok(())
    }

    fn sync_error(&self, sealed: &Sealed, errno: Errno) -> Error {
        let path = self.label.join(as_path(&sealed.target_path));
        Error::target_sync(path, "make durable", errno)
    }

    fn name_error(&self, sealed: &Sealed, errno: Errno) -> Error {
        let path = self.label.join(as_path(&sealed.target_path));
        match errno {
            Errno::EXIST | Errno::ISDIR | Errno::NOTDIR => {
                Error::target(path, "the name was taken meanwhile", errno)
            }
            _ => Error::target(path, "give it its name", errno),
        }
    }
}
