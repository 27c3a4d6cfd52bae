//! One directory's names, in batches sorted by inode number.
//!
//! File systems of the ext and XFS families lay inode tables out by number, so asking for the
//! inodes of a batch in that order reads the medium forwards. Batches keep memory bounded however
//! many names a directory has.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// Names in a batch.
const BATCH_NAMES_MAX: usize = 8192;
/// Room for what one getdents64 call returns, in bytes. A call takes as many names as fit, and
/// 64 KiB is past the size where more makes a difference; any name fits.
const BUFFER_BYTES: usize = 64 * 1024;

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// The name; never `.` or `..`, otherwise unchecked.
    pub(super) name: &'a [u8],
    /// What the directory says it is; may be `Unknown`.
    pub(super) file_type: FileType,
    /// Which inode the directory says it is.
    pub(super) ino: u64,
}

/// Reads directories, one at a time, into memory it keeps.
#[derive(Debug)]
pub(super) struct Lister {
    buffer: Vec<u8>,
    names: Vec<u8>,
    places: Vec<Place>,
    dots: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
struct Place {
    ino: u64,
    start: usize,
    end: usize,
    file_type: FileType,
}

impl Lister {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(BUFFER_BYTES),
            names: Vec::new(),
            places: Vec::new(),
            dots: [0; 2],
        }
    }

    /// Returns whether the directory listed last has more than one `.` or `..`: what the others stand
    /// for can never be reached. No sound file system has such a directory.
    pub(super) fn has_spare_dots(&self) -> bool {
        self.dots.iter().any(|count| *count > 1)
    }

    /// Hands every name of a directory to `each`, batch by batch, until it breaks.
    ///
    /// # Errors
    /// What stopped the reading early. Everything listed until then has gone through `each`.
    pub(super) fn list(
        &mut self,
        dir: BorrowedFd<'_>,
        mut each: impl FnMut(Batch<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Errno> {
        self.dots = [0; 2];
        let mut raw = RawDir::new(dir, self.buffer.spare_capacity_mut());
        let mut outcome = Ok(());
        let mut ended = false;
        while !ended {
            match raw.next() {
                None => ended = true,
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => {
                    outcome = Err(errno);
                    ended = true;
                }
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    let is_dots = [&b"."[..], b".."].iter().position(|dots| *dots == name);
                    if let Some(count) = is_dots.and_then(|index| self.dots.get_mut(index)) {
                        *count = count.saturating_add(1);
                    } else {
                        let start = self.names.len();
                        self.names.extend_from_slice(name);
                        self.places.push(Place {
                            ino: entry.ino(),
                            start,
                            end: self.names.len(),
                            file_type: entry.file_type(),
                        });
                    }
                }
            }
            if !ended && self.places.len() < BATCH_NAMES_MAX {
                continue;
            }
            self.places
                .sort_unstable_by_key(|place| (place.ino, place.start));
            let flow = each(Batch {
                names: &self.names,
                places: &self.places,
            });
            self.names.clear();
            self.places.clear();
            if flow.is_break() {
                return Ok(flow);
            }
        }
        outcome.map(ControlFlow::Continue)
    }
}

/// Some names of one directory, by inode number.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    names: &'a [u8],
    places: &'a [Place],
}

impl<'a> Batch<'a> {
    /// Returns the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found<'a>> {
        let names = self.names;
        self.places.iter().map(move |place| Found {
            name: names.get(place.start..place.end).unwrap_or_default(),
            file_type: place.file_type,
            ino: place.ino,
        })
    }
}
