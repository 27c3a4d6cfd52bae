//! In which order the files of a window are read.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::entry::{Dir, Entry, Kind};
use super::fiemap::first_extent;
use super::inode::{kind, look};
use crate::beneath;

/// The order in which entries are handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As found: a directory after the other, inode order within.
    Listing,
    /// By inode number, which on many file systems follows the place on the medium.
    Inode,
    /// By the place of a file's first extent, where the file system tells; else by inode number.
    /// Costs an open and an ioctl a file, and pays on media that seek.
    Physical,
}

/// How many files are asked for their place between two looks at whether to stop: few, for whoever looks
/// also tells by it that the drive answers, and it takes two reads a file at worst.
const STOP_POLL_FILES: usize = 16;

/// Entries that wait to be sorted.
#[derive(Debug)]
pub(super) struct Window {
    entries: Vec<Entry>,
    bytes: usize,
    limit_bytes: usize,
    /// Whether the tree's file system can still be believed to tell where files are.
    tells_places: bool,
}

impl Window {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            limit_bytes,
            tells_places: true,
        }
    }

    /// Takes an entry in; returns whether the window is now full.
    pub(super) fn push(&mut self, mut entry: Entry) -> bool {
        entry.position = if is_read(&entry) { entry.stamp.ino } else { 0 };
        let is_new_dir = self
            .entries
            .last()
            .is_none_or(|last| !Arc::ptr_eq(&last.dir, &entry.dir));
        self.bytes += entry_cost(&entry) + if is_new_dir { DIR_COST } else { 0 };
        self.entries.push(entry);
        self.bytes >= self.limit_bytes
    }

    /// Empties the window: its entries with their keys, in reading order.
    ///
    /// Stops looking for places when `stopped` says so; the order is then unfinished.
    pub(super) fn take(
        &mut self,
        order: Order,
        root: BorrowedFd<'_>,
        stopped: &dyn Fn() -> bool,
    ) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        if order == Order::Listing {
            return entries;
        }
        // Stable: names of one inode come in the same order in each run, wherever it lies, so that
        // the name a stopped run has copied is the one the next run meets first.
        entries.sort_by_key(|entry| (entry.position, entry.stamp.ino));
        if order == Order::Physical && self.tells_places {
            if find_places(&mut entries, root, stopped).is_err() {
                self.tells_places = false;
                for entry in &mut entries {
                    entry.position = if is_read(entry) { entry.stamp.ino } else { 0 };
                }
            }
            entries.sort_by_key(|entry| (entry.position, entry.stamp.ino));
        }
        entries
    }
}

/// What one entry costs in memory. Its slot counts twice, because a growing vector can be half
/// empty; 16 bytes are the allocator's for the name.
fn entry_cost(entry: &Entry) -> usize {
    2 * size_of::<Entry>() + entry.name.len() + 16
}

/// What a directory costs that nothing but the window may still hold: itself, its name, and
/// attributes of usual size.
const DIR_COST: usize = size_of::<Dir>() + 256;

/// Returns whether reading the entry moves data; the others go first, at position 0.
fn is_read(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.stamp.size > 0
}

/// The file system does not tell where its files are.
struct Untold;

fn find_places(
    entries: &mut [Entry],
    root: BorrowedFd<'_>,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Untold> {
    for chunk in entries.chunks_mut(STOP_POLL_FILES) {
        if stopped() {
            break;
        }
        for entry in chunk.iter_mut().filter(|entry| is_read(entry)) {
            entry.position = place(entry, root)?.unwrap_or(0);
        }
    }
    Ok(())
}

/// Returns where a file starts; `None` when it starts nowhere or cannot be asked, which whoever
/// reads it will find out and report.
fn place(entry: &Entry, root: BorrowedFd<'_>) -> Result<Option<u64>, Untold> {
    // A file without blocks has no extent to find.
    if entry.allocated == 0 {
        return Ok(None);
    }
    // Asking moves no access time, so O_NOATIME (a second open for whoever may not) is not needed.
    // O_NONBLOCK and O_NOCTTY are for the case that something else has taken the name.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = beneath::open(root, &entry.source_path(), flags, Mode::empty()) else {
        return Ok(None);
    };
    match first_extent(file.as_fd()) {
        Ok(place) => Ok(place),
        // Only the file that was listed speaks for its file system: a device or FIFO that has
        // taken its name has no extents either.
        Err(Errno::OPNOTSUPP | Errno::NOTTY) if is_same_file(entry, file.as_fd()) => Err(Untold),
        Err(_) => Ok(None),
    }
}

fn is_same_file(entry: &Entry, file: BorrowedFd<'_>) -> bool {
    look(file).is_ok_and(|stat| kind(&stat) == Some(Kind::File) && stat.stx_ino == entry.stamp.ino)
}
