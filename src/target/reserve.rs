//! Room set aside: for a file before its first byte, and for records, for a target that fills up must
//! still take the manifest of what it has.
//!
//! That for records is numbered files in a staging folder of their own, so that what a killed run
//! leaves of them is swept with everything else that was staged: the first has the space, the others
//! an inode each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Outline;
use super::home::StageDir;
use super::stage::DIRECT_ALIGN;

/// Inodes that the records of a run take at its end: manifest, its second list, report, problems,
/// evidence, `latest`, the sorter's file, a map, each before it replaces what was there.
const INODES: u64 = 8;
/// What the name of its staging folder begins with.
pub(super) const RESERVE: &str = "reserve";
/// Less than this is not worth setting aside, in bytes.
const LEAST: u64 = 64 << 10;

/// Room that nothing but records may take.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: Arc<OwnedFd>,
    first: u64,
    is_held: AtomicBool,
}

impl Reserve {
    /// Sets `bytes` aside, or less where there is not so much.
    pub(super) fn new(stage: StageDir, bytes: u64) -> Self {
        let first = stage.taken + 1;
        let reserve = Self {
            dir: stage.dir,
            first,
            is_held: AtomicBool::new(true),
        };
        if let Ok(file) = reserve.create(first) {
            let mut bytes = bytes;
            while bytes >= LEAST
                && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err()
            {
                bytes /= 2;
            }
        }
        for number in 1..INODES {
            // Without room for it now, there is none to be kept.
            let _less = reserve.create(first + number);
        }
        reserve
    }

    fn create(&self, number: u64) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.dir, number.to_string(), flags, mode)
    }

    /// Gives the room back; what is written from now on may take it.
    ///
    /// # Errors
    /// Of the sync: on some file systems blocks are free with the next commit, not with the call. It
    /// may be the only one that hears of a failure.
    pub(super) fn release(&self) -> Result<(), Errno> {
        if !self.is_held.swap(false, SeqCst) {
            return Ok(());
        }
        for number in self.first..self.first + INODES {
            let _gone = rustix::fs::unlinkat(&self.dir, number.to_string(), AtFlags::empty());
        }
        rustix::fs::fsync(self.dir.as_fd())
    }
}

/// Sets the space of a file aside, or gives one with holes its length.
pub(super) fn of_file(file: BorrowedFd<'_>, outline: Outline, direct: bool) -> Result<(), Errno> {
    let padded = if direct {
        outline.size.next_multiple_of(DIRECT_ALIGN as u64)
    } else {
        outline.size
    };
    if outline.sparse {
        return rustix::fs::ftruncate(file, padded);
    }
    if direct && padded > 0 {
        // Inside i_size and allocated: the one case in which ext4 writes asynchronously. The
        // tail is padded, so even the last write stays inside; `seal` cuts it off.
        return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, padded) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            answer => answer,
        };
    }
    Ok(())
}
