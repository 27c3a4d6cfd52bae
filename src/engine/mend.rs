//! Mending a copy: writing its wrong blocks anew from the source.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::inspect::{Copy, blocks_named, failed, go_on_buffered, read_block};
use crate::buffer::{ALIGN, Lease};
use crate::digest::BLOCK_LEN;
use crate::error::{Error, ErrorKind, Side};
use crate::scan::as_path;
use crate::seam;

/// How often a block is written anew before its file is given up.
pub(crate) const REPAIRS_MAX: usize = 2;

/// One file of a target, open for writing: the same inode as its [`Copy`](struct@Copy).
#[derive(Debug)]
pub(crate) struct Mender<'c, 'a> {
    copy: &'c Copy<'a>,
    file: OwnedFd,
}

impl<'c, 'a> Mender<'c, 'a> {
    /// `file` is the inode of `copy`, open for writing.
    pub(super) fn new(copy: &'c Copy<'a>, file: OwnedFd) -> Self {
        Self { copy, file }
    }

    /// Writes these blocks anew from `source`, and reads them back. Its length never changes on the
    /// way, and its times are as before whatever becomes of it.
    ///
    /// # Durability
    /// What it wrote is synced.
    ///
    /// # Errors
    /// `SourceChanged` when the source does not give the bytes any more that were copied;
    /// `TargetSync` when a sync fails, which is final; `DigestMismatch` when the medium does not
    /// keep what is written to it.
    pub(crate) fn mend(
        &self,
        source: &OwnedFd,
        bad: &[u64],
        lease: &mut Lease,
    ) -> Result<(), Error> {
        let copy = self.copy;
        let mut left = bad.to_vec();
        for _ in 0..REPAIRS_MAX {
            seam::point("mending");
            self.rewrite(source, &left, lease)?;
            if seam::bug("repair-not-verified") {
                return Ok(());
            }
            left = copy.bad_among(&mut left.iter().copied(), lease)?;
            if left.is_empty() {
                copy.is_unchanged()?;
                seam::point("mended");
                return Ok(());
            }
        }
        let what = format!(
            "{}: written anew {REPAIRS_MAX} times, and read back wrong each time",
            blocks_named(&left, copy.size)
        );
        let kind = ErrorKind::DigestMismatch;
        Err(Error::new(kind, Side::Target, as_path(copy.path), &what))
    }

    fn rewrite(&self, source: &OwnedFd, bad: &[u64], lease: &mut Lease) -> Result<(), Error> {
        let path = self.copy.path;
        let before = Before::of(&self.file).map_err(|errno| failed(path, "look at", errno))?;
        let written = bad.iter().try_for_each(|&index| {
            self.rewrite_block(source, index, lease)?;
            // At once: cut off in the middle, it is still recognised, but for an instant.
            let _again_in_the_end = before.give_back_times(&self.file);
            Ok(())
        });
        let restored = before.give_back(&self.file);
        written?;
        restored.map_err(|errno| failed(path, "give it its attributes back", errno))?;
        rustix::fs::fsync(&self.file).map_err(|errno| {
            Error::target_sync(as_path(path), "make what was written anew durable", errno)
        })
    }

    fn rewrite_block(&self, source: &OwnedFd, index: u64, lease: &mut Lease) -> Result<(), Error> {
        let (path, size) = (self.copy.path, self.copy.size);
        let read = read_block(source, index, size, lease)
            .map_err(|errno| Error::source(as_path(path), "read it again", errno))?;
        let bytes = read.and_then(|len| lease.as_slice().get(..len));
        let bytes = bytes.filter(|bytes| self.copy.expected.fits(index, bytes));
        let Some(bytes) = bytes else {
            let what = format!(
                "{}: wrong in the target, and the source gives other bytes than it did when it \
                 was copied",
                blocks_named(&[index], size)
            );
            let kind = ErrorKind::SourceChanged;
            return Err(Error::new(kind, Side::Source, as_path(path), &what));
        };
        write_block(&self.file, index, bytes).map_err(|errno| failed(path, "write it anew", errno))
    }
}

/// What writing changes of a file besides its bytes.
struct Before {
    stat: Stat,
    /// Dropped by a write, whoever writes.
    caps: Option<Vec<u8>>,
}

impl Before {
    fn of(file: &OwnedFd) -> Result<Self, Errno> {
        let mut caps = Vec::with_capacity(64);
        let spare = rustix::buffer::spare_capacity(&mut caps);
        let has_caps = rustix::fs::fgetxattr(file, CAPABILITY, spare).is_ok();
        Ok(Self {
            stat: rustix::fs::fstat(file)?,
            caps: has_caps.then_some(caps),
        })
    }

    fn give_back(&self, file: &OwnedFd) -> Result<(), Errno> {
        let mode = |stat: &Stat| stat.st_mode & 0o7777;
        let mode_kept = rustix::fs::fstat(file).and_then(|now| {
            if mode(&now) == mode(&self.stat) {
                return Ok(()); // a write takes set-id bits away from all but root's files
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode(&self.stat)))
        });
        let caps_kept = self.caps.as_ref().map_or(Ok(()), |caps| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(file, CAPABILITY, caps, flags)
        });
        self.give_back_times(file).and(mode_kept).and(caps_kept)
    }

    fn give_back_times(&self, file: &OwnedFd) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: self.stat.st_atime,
                tv_nsec: self.stat.st_atime_nsec.cast_signed(),
            },
            last_modification: Timespec {
                tv_sec: self.stat.st_mtime,
                tv_nsec: self.stat.st_mtime_nsec.cast_signed(),
            },
        };
        rustix::fs::futimens(file, &times)
    }
}

const CAPABILITY: &str = "security.capability";

/// Writes these bytes of a block, and none behind them: the last of a file through the page cache,
/// for past it only whole sectors can be written.
fn write_block(file: &OwnedFd, index: u64, bytes: &[u8]) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    let is_partial = !bytes.len().is_multiple_of(ALIGN);
    if is_partial {
        go_on_buffered(file)?;
    }
    let mut written = 0;
    let mut write = || {
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let at = index * BLOCK_LEN + written as u64;
            match rustix::io::retry_on_intr(|| rustix::io::pwrite(file.as_fd(), rest, at)) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => written += count,
                Err(Errno::INVAL) if go_on_buffered(file)? => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    };
    let answer = write();
    if is_partial {
        rustix::fs::fcntl_setfl(file, flags)?;
    }
    answer
}
