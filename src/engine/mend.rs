//! Mending a copy block by block: which blocks of a file are not what was read from its source, and
//! writing those anew from there.
//!
//! Every read goes past the page cache where the file system can do that, and what clean pages there
//! are is dropped before: an answer from memory would only say what was meant to be written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::standing::{Copied, found, staged};
use crate::beneath;
use crate::buffer::{ALIGN, Lease};
use crate::digest::{BLOCK_LEN, BlockValue, Hash, block_count, block_value};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{Done, Loaded};
use crate::scan::as_path;
use crate::seam;

/// How often a block is written anew before its file is given up.
pub(crate) const REPAIRS_MAX: usize = 2;

/// What each block of a file has to be.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The digest of a file of one block.
    Whole(Hash),
    /// The values of all its blocks.
    Blocks(Vec<BlockValue>),
}

impl Expected {
    /// Returns what is recorded of the blocks of a file; `None` when that is not all of them.
    pub(crate) fn of(done: &Done<'_>, loaded: &Loaded) -> Option<Self> {
        let size = done.target_stamp.size;
        if size <= BLOCK_LEN {
            return Some(Self::Whole(Copied::of(done).digest));
        }
        let view = loaded.blocks(done.target_path)?;
        let same = staged(&view).is_some_and(|id| id.ino == done.target_stamp.ino)
            && view.source_stamp == done.source_stamp;
        let values: Vec<BlockValue> = view.values().copied().collect();
        (same && values.len() as u64 == block_count(size)).then_some(Self::Blocks(values))
    }

    fn fits(&self, index: u64, bytes: &[u8]) -> bool {
        match self {
            Self::Whole(digest) => blake3::hash(bytes) == *digest,
            Self::Blocks(values) => usize::try_from(index)
                .ok()
                .and_then(|index| values.get(index))
                .is_some_and(|value| block_value(index, bytes) == *value),
        }
    }
}

/// One file of a target, block by block.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    file: OwnedFd,
    /// Its path below the target, for messages.
    path: &'a [u8],
    size: u64,
    expected: Expected,
}

fn failed(path: &[u8], what: &str, errno: Errno) -> Error {
    Error::target(as_path(path), what, errno)
}

impl<'a> Copy<'a> {
    /// Opens the copy that `done` is about, for reading, or for writing too.
    ///
    /// # Errors
    /// `DigestMismatch` when another file has its name by now, or its blocks are not recorded.
    pub(crate) fn open(
        target: BorrowedFd<'_>,
        done: &Done<'a>,
        expected: Expected,
        writable: bool,
    ) -> Result<Self, Error> {
        let path = done.target_path;
        let access = if writable {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        let file = open_direct(target, path, access).map_err(|e| failed(path, "open", e))?;
        let stat = rustix::fs::fstat(&file).map_err(|e| failed(path, "look at", e))?;
        // To look, the inode does not matter: a target may have been moved to other storage.
        let is_it = (stat.st_ino == done.target_stamp.ino || !writable)
            && u64::try_from(stat.st_size).ok() == Some(done.target_stamp.size);
        if !is_it {
            let what = "another file has its name by now, or its length changed";
            let kind = ErrorKind::DigestMismatch;
            return Err(Error::new(kind, Side::Target, as_path(path), what));
        }
        Ok(Self {
            file,
            path,
            size: done.target_stamp.size,
            expected,
        })
    }

    /// Returns the blocks that are not what they have to be, or cannot be read.
    pub(crate) fn bad_blocks(&self, lease: &mut Lease) -> Vec<u64> {
        let mut all = 0..block_count(self.size);
        self.bad_among(&mut all, lease)
    }

    fn bad_among(&self, blocks: &mut dyn Iterator<Item = u64>, lease: &mut Lease) -> Vec<u64> {
        blocks
            .filter(|&index| {
                let read = read_block(&self.file, index, self.size, lease);
                !read.is_ok_and(|len| {
                    let bytes = lease.as_slice().get(..len).unwrap_or_default();
                    self.expected.fits(index, bytes)
                })
            })
            .collect()
    }

    /// Writes these blocks anew from `source`, and reads them back.
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
        let mut left = bad.to_vec();
        for _ in 0..REPAIRS_MAX {
            seam::point("mending");
            self.rewrite(source, &left, lease)?;
            if seam::bug("repair-not-verified") {
                return Ok(());
            }
            left = self.bad_among(&mut left.iter().copied(), lease);
            if left.is_empty() {
                seam::point("mended");
                return Ok(());
            }
        }
        let what = format!(
            "{}: written anew {REPAIRS_MAX} times, and read back wrong each time",
            blocks_named(&left, self.size)
        );
        let kind = ErrorKind::DigestMismatch;
        Err(Error::new(kind, Side::Target, as_path(self.path), &what))
    }

    fn rewrite(&self, source: &OwnedFd, bad: &[u64], lease: &mut Lease) -> Result<(), Error> {
        let before = rustix::fs::fstat(&self.file).map_err(|e| failed(self.path, "look at", e))?;
        // Writing drops it, whoever writes.
        let mut caps = Vec::with_capacity(64);
        let has_caps = rustix::fs::fgetxattr(
            &self.file,
            CAPABILITY,
            rustix::buffer::spare_capacity(&mut caps),
        )
        .is_ok();
        for &index in bad {
            let len = read_block(source, index, self.size, lease)
                .map_err(|errno| Error::source(as_path(self.path), "read it again", errno))?;
            let bytes = lease.as_slice().get(..len).unwrap_or_default();
            if !self.expected.fits(index, bytes) {
                let what = format!(
                    "{}: wrong in the target, and the source gives other bytes than it did when \
                     it was copied",
                    blocks_named(&[index], self.size)
                );
                let kind = ErrorKind::SourceChanged;
                return Err(Error::new(kind, Side::Source, as_path(self.path), &what));
            }
            write_block(&self.file, index, len, lease)
                .map_err(|errno| failed(self.path, "write it anew", errno))?;
        }
        rustix::fs::ftruncate(&self.file, self.size)
            .map_err(|errno| failed(self.path, "set its length", errno))?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: before.st_atime,
                tv_nsec: before.st_atime_nsec.cast_signed(),
            },
            last_modification: Timespec {
                tv_sec: before.st_mtime,
                tv_nsec: before.st_mtime_nsec.cast_signed(),
            },
        };
        if has_caps {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(&self.file, CAPABILITY, &caps, flags)
                .map_err(|errno| failed(self.path, "give it its capabilities back", errno))?;
        }
        rustix::fs::futimens(&self.file, &times)
            .map_err(|errno| failed(self.path, "give it its times back", errno))?;
        rustix::fs::fsync(&self.file).map_err(|errno| {
            Error::target_sync(
                as_path(self.path),
                "make what was written anew durable",
                errno,
            )
        })
    }
}

const CAPABILITY: &str = "security.capability";

/// Opens a file below `root` past the page cache, or else through it.
pub(crate) fn open_direct(
    root: BorrowedFd<'_>,
    path: &[u8],
    access: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match beneath::open(root, path, flags | OFlags::DIRECT, Mode::empty()) {
        Err(Errno::INVAL) => beneath::open(root, path, flags, Mode::empty()),
        answer => answer,
    }
}

/// Reads a block of a file of `size` bytes into `lease`; returns how many bytes it has.
fn read_block(file: &OwnedFd, index: u64, size: u64, lease: &mut Lease) -> Result<usize, Errno> {
    let offset = index * BLOCK_LEN;
    let len = usize::try_from(BLOCK_LEN.min(size.saturating_sub(offset))).unwrap_or(0);
    let advice = Advice::DontNeed;
    let _best_effort =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(BLOCK_LEN), advice);
    let padded = len.next_multiple_of(ALIGN);
    let mut filled = 0;
    while filled < len {
        let rest = lease.as_mut_slice().get_mut(filled..padded);
        let rest = rest.ok_or(Errno::INVAL)?;
        let at = offset + filled as u64;
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(file.as_fd(), &mut *rest, at))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        filled += count;
    }
    Ok(len)
}

/// Writes the first `len` bytes of `lease`, padded with zeros that the caller cuts off.
fn write_block(file: &OwnedFd, index: u64, len: usize, lease: &mut Lease) -> Result<(), Errno> {
    let padded = len.next_multiple_of(ALIGN);
    if let Some(pad) = lease.as_mut_slice().get_mut(len..padded) {
        pad.fill(0);
    }
    let mut written = 0;
    while written < padded {
        let rest = lease.as_slice().get(written..padded).ok_or(Errno::INVAL)?;
        let at = index * BLOCK_LEN + written as u64;
        let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(file.as_fd(), rest, at))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        written += count;
    }
    Ok(())
}

/// Names blocks as people can find them: by number, and by their bytes in the file.
pub(crate) fn blocks_named(blocks: &[u64], size: u64) -> String {
    let named: Vec<String> = blocks
        .iter()
        .take(BLOCKS_NAMED)
        .map(|index| {
            let start = index * BLOCK_LEN;
            let end = (start + BLOCK_LEN).min(size);
            format!("block {index} (bytes {start} to {end})")
        })
        .collect();
    let more = blocks.len().saturating_sub(BLOCKS_NAMED);
    if more > 0 {
        format!("{} and {more} more", named.join(", "))
    } else {
        named.join(", ")
    }
}

/// Most blocks that are named in one line.
const BLOCKS_NAMED: usize = 8;

/// Returns whether what `done` says of the target still has the stamp that it says.
pub(crate) fn stamp_of(done: &Done<'_>) -> crate::target::TargetStamp {
    found(done.target_stamp)
}
