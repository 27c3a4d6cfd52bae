//! How much a tree holds, without reading any of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Statx;

use super::entry::{Dir, Entry, Kind, Tree};
use super::inode::device;
use super::order::Order;
use super::visitor::{Visitor, WalkOptions};
use super::walk::walk;
use crate::error::Error;

/// Inodes with further names that are remembered at once, at some 40 bytes each. An inode is
/// forgotten once all its names were met.
const LINKS_MAX: usize = 1 << 20;
/// Problems kept whole; the rest are only counted.
const PROBLEMS_KEPT_MAX: usize = 100;

/// What a tree holds.
#[derive(Debug, Default)]
pub struct Counted {
    /// Regular files. A file with several names counts once.
    pub files: u64,
    /// Further names of files already counted.
    pub links: u64,
    /// Length of those files, in bytes.
    pub bytes: u64,
    /// What those files take on the medium, in bytes; less than `bytes` where they are sparse.
    pub allocated_bytes: u64,
    /// Directories entered, the root among them.
    pub dirs: u64,
    /// Symbolic links, FIFOs, sockets and devices.
    pub others: u64,
    /// Things left out on purpose, such as mount points; not those a filter leaves out.
    pub skipped: u64,
    /// Things that could not be listed.
    pub problems: u64,
    /// The first 100 of them.
    pub examples: Vec<Error>,
    /// Whether more than 1,048,576 inodes waited for further names at once. Some files may then
    /// have been counted once per name: never too little.
    pub links_overflowed: bool,
    /// Whether the count was stopped before its end.
    pub stopped: bool,
}

/// Counts what a walk with these options yields; the order does not matter and is ignored.
///
/// `stop` is asked between directories and between batches of names.
pub fn count(tree: &Arc<Tree>, options: &WalkOptions<'_>, stop: &dyn Fn() -> bool) -> Counted {
    let options = WalkOptions {
        order: Order::Listing,
        ..*options
    };
    let mut counter = Counter {
        counted: Counted::default(),
        stop,
        device: tree.device,
        links: HashMap::new(),
        links_max: LINKS_MAX,
    };
    walk(tree, &options, &mut counter);
    counter.counted.stopped = stop();
    counter.counted
}

struct Counter<'a> {
    counted: Counted,
    stop: &'a dyn Fn() -> bool,
    /// Device of the entries of the next batch.
    device: u64,
    /// Names still to come, by device and inode.
    links: HashMap<(u64, u64), u32>,
    links_max: usize,
}

impl Counter<'_> {
    /// Returns whether a file was already counted under another name.
    fn is_counted(&mut self, entry: &Entry) -> bool {
        if entry.nlink < 2 {
            return false;
        }
        let key = (self.device, entry.stamp.ino);
        if let Some(left) = self.links.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                self.links.remove(&key);
            }
            return true;
        }
        if self.links.len() < self.links_max {
            self.links.insert(key, entry.nlink - 1);
        } else {
            self.counted.links_overflowed = true;
        }
        false
    }
}

impl Visitor for Counter<'_> {
    fn enter(&mut self, _: &Arc<Dir>, _: BorrowedFd<'_>, stat: &Statx) -> Result<(), Error> {
        self.device = device(stat);
        self.counted.dirs += 1;
        Ok(())
    }

    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        for entry in batch {
            if entry.kind != Kind::File {
                self.counted.others += 1;
            } else if self.is_counted(&entry) {
                self.counted.links += 1;
            } else {
                let counted = &mut self.counted;
                counted.files += 1;
                // Sizes are what a file system claims; a lie must not end the run.
                counted.bytes = counted.bytes.saturating_add(entry.stamp.size);
                counted.allocated_bytes = counted.allocated_bytes.saturating_add(entry.allocated);
            }
        }
        ControlFlow::Continue(())
    }

    fn problem(&mut self, error: Error) {
        self.counted.problems += 1;
        if self.counted.examples.len() < PROBLEMS_KEPT_MAX {
            self.counted.examples.push(error);
        }
    }

    fn skipped(&mut self, _: PathBuf, _: &'static str, _: &str) {
        self.counted.skipped += 1;
    }

    fn stopped(&self) -> bool {
        (self.stop)()
    }
}
