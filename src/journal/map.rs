//! Maps of files: the journal to read, the scratch behind its index to write.
//!
//! # Safety invariants
//!
//! A mapped file that changes under a slice is undefined behaviour, and one that shrinks is SIGBUS.
//!
//! - **J1** (nobody else) Whoever loads a journal holds the lock of the target it is in, and the
//!   folder is writable by the owner alone: no other process writes or truncates a segment.
//! - **J2** (not ourselves) The length is taken once, before mapping, or is one up to which the
//!   writer has committed. We only ever append behind it, and cut a torn tail only after dropping
//!   the map that reaches into it.
//! - **J3** (scratch is private) A scratch file has no name and its descriptor is closed as soon
//!   as it is mapped: the map is the only way to it, and only `&mut self` writes through that.
//! - **J4** (scratch has space) All its blocks are allocated before it is mapped, so touching a
//!   page cannot run out of space.
//!
//! What no invariant covers is a medium that fails: segments are faulted in ahead of the load by a
//! call that answers instead of killing us ([`ReadMap::reach`]), and later a page that has gone is
//! zeros ([`guard`](super::guard)).
#![expect(
    unsafe_code,
    reason = "maps of files: this is one of the files ARCHITECTURE.md names"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, IFlags, fallocate, ftruncate, ioctl_setflags};
use rustix::io::Errno;

use super::guard::Guard;
use crate::manifest::unnamed;

/// Scratch up to this length is plain memory, in bytes: most journals need no file.
const MEMORY_LEN_MAX: usize = 64 << 10;

/// How much is faulted in at a time, in bytes.
const REACH_LEN: usize = 4 << 20;
const PAGE_LEN: usize = 4096;

/// A segment, mapped for reading.
#[derive(Debug)]
pub(super) struct ReadMap {
    // Withdrawn before the map goes.
    _guard: Option<Guard>,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl ReadMap {
    /// Maps the `len` bytes of a segment from `start` on, which are all there. The caller holds
    /// the target's lock.
    pub(super) fn new(file: BorrowedFd<'_>, start: u64, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self {
                _guard: None,
                map: None,
            });
        }
        let mut options = MmapOptions::new();
        let options = options.offset(start).len(len);
        // SAFETY: `map` needs a file nobody changes below its end while it is mapped: J1, J2.
        let map = unsafe { options.map(&file) }?;
        Ok(Self {
            _guard: Some(Guard::new(map.as_ptr(), map.len())),
            map: Some(map),
        })
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Returns the first `reached` bytes, which [`reach`](Self::reach) has brought in.
    pub(super) fn readable(&self, reached: usize) -> &[u8] {
        self.bytes().get(..reached).unwrap_or_default()
    }

    /// Brings in what lies at `reached` and behind it, up to `wanted` and somewhat further, and
    /// returns how far the file can be read now. Less than `wanted` and than the whole: the medium
    /// cannot be read there.
    pub(super) fn reach(&self, reached: usize, wanted: usize) -> usize {
        let Some(map) = &self.map else { return 0 };
        let wanted = wanted.min(map.len());
        let mut reached = reached;
        while reached < wanted {
            let len = REACH_LEN.min(map.len() - reached);
            match map.advise_range(Advice::PopulateRead, reached, len) {
                Ok(()) => reached += len,
                // EFAULT where an access would be SIGBUS, EHWPOISON for a bad page of memory.
                Err(error) if is_unreadable(&error) => return last_readable(map, reached, len),
                // A kernel before 5.14, which cannot tell.
                Err(_) => return map.len(),
            }
        }
        reached
    }
}

fn is_unreadable(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::FAULT | Errno::HWPOISON)
    )
}

/// Returns the end of the pages from `start` on that can be read, of which one cannot.
fn last_readable(map: &Mmap, start: usize, len: usize) -> usize {
    let mut pages = (start..start + len).step_by(PAGE_LEN);
    let bad = pages.find(|&page| {
        let len = PAGE_LEN.min(start + len - page);
        map.advise_range(Advice::PopulateRead, page, len).is_err()
    });
    bad.unwrap_or(start + len)
}

/// Bytes to work in: zero at first, and in a file without a name when there are many.
#[derive(Debug)]
pub(super) struct Scratch {
    // Withdrawn before the map goes.
    _guard: Option<Guard>,
    map: MmapMut,
}

impl Scratch {
    /// Returns `len` bytes of zero; the file, if one is needed, is on the file system of `dir`.
    pub(super) fn new(dir: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        if len <= MEMORY_LEN_MAX {
            let map = MmapOptions::new().len(len).map_anon()?;
            return Ok(Self { _guard: None, map });
        }
        let file = unnamed::open(dir)?;
        allocate(&file, u64::try_from(len).map_err(io::Error::other)?)?;
        let mut options = MmapOptions::new();
        let options = options.len(len);
        // SAFETY: `map_mut` needs a file nobody else changes, as long as the map: J3, J4.
        let map = unsafe { options.map_mut(&file) }?;
        // Lookups are by hash: reading on behind one would bring in pages nobody wants.
        map.advise(Advice::Random).ok();
        Ok(Self {
            _guard: Some(Guard::new(map.as_ptr(), map.len())),
            map,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

/// Gives a new file its length and all its blocks.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    // On btrfs, rewriting a block takes a new one, and a full file system would be SIGBUS at some
    // later store; a file without copy-on-write keeps its blocks. Elsewhere the flag means nothing.
    ioctl_setflags(file, IFlags::NOCOW).ok();
    match fallocate(file.as_fd(), FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            ftruncate(file, 0)?;
            let zeros = &mut io::Read::take(io::repeat(0), len);
            io::copy(zeros, &mut &*file).map(drop)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_read_is_found_before_it_is_touched() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(20 * PAGE_LEN as u64 + 7).unwrap();
        let map = ReadMap::new(file.as_fd(), 0, 20 * PAGE_LEN + 7).unwrap();
        assert_eq!(map.reach(0, 1), 20 * PAGE_LEN + 7);
        // What a bad sector and a page past the end have in common is the SIGBUS.
        file.set_len(13 * PAGE_LEN as u64).unwrap();
        assert_eq!(map.reach(0, 1), 13 * PAGE_LEN);
    }

    #[test]
    fn scratch_is_zero_and_keeps_what_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        for len in [100, MEMORY_LEN_MAX, MEMORY_LEN_MAX + 1, 1 << 20] {
            let mut scratch = Scratch::new(handle.as_fd(), len).unwrap();
            assert_eq!(scratch.bytes().len(), len);
            assert!(scratch.bytes().iter().all(|&byte| byte == 0));
            *scratch.bytes_mut().last_mut().unwrap() = 7;
            assert_eq!(scratch.bytes().last(), Some(&7));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
