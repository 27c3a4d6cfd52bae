//! What was copied of a source, looked for where it is now.
//!
//! Drives that are images of each other have one UUID, and of some neither a UUID nor a serial number
//! is known. The files on them tell them apart: a source of which the journal has files, and where none
//! of those is as it was, is another drive. Files that were deleted or changed since say nothing as long
//! as others are there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::inspect::{BlockNames, Expected};
use super::job::Existing;
use super::session::Session;
use super::standing::is_of_unknown;
use crate::beneath;
use crate::digest::BLOCK_LEN;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Done, Identity, Loaded};
use crate::plan::{Matched, Source};
use crate::scan::Tree;

/// How many files are looked up as they are met: mostly the first one is there.
const FIRST: usize = 16;
/// Most that are looked up then, from all over the journal.
const SPREAD_MAX: usize = 64;
/// Most of which bytes are read: times may be others while the bytes are the same, as on FAT in another
/// time zone, or more may have been added.
const READS_MAX: usize = 8;

/// A source, where it is now.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    root: BorrowedFd<'a>,
    only: Option<&'a [u8]>,
    /// Where it landed.
    landing: &'a [u8],
}

impl<'a> Place<'a> {
    fn of_source(source: &'a Source, landing: &'a [u8]) -> Self {
        Self {
            root: source.root.as_fd(),
            only: source.only.as_deref(),
            landing,
        }
    }

    /// Returns the path below its root of what has this path in the target.
    fn below(&self, path: &'a [u8]) -> &'a [u8] {
        let rest = path.strip_prefix(self.landing).unwrap_or(path);
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        self.only.unwrap_or(rest)
    }

    /// Opens it; never anything but a file.
    fn open(&self, path: &'a [u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        beneath::open(self.root, self.below(path), flags, Mode::empty())
    }

    /// Returns whether a file is there as it was copied; `None` when that cannot be told.
    fn has(&self, done: &Done<'a>, loaded: &Loaded, reads: &mut usize) -> Option<bool> {
        let looked = beneath::open(
            self.root,
            self.below(done.target_path),
            OFlags::PATH | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        let now = match looked.and_then(|file| beneath::stamp(file.as_fd())) {
            Ok(now) => now,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Some(false),
            Err(_) => return None,
        };
        let was = done.source_stamp;
        if (now.size, now.mtime) == (was.size, was.mtime) {
            return Some(true);
        }
        // What grew begins as it did.
        if now.size < was.size || was.size == 0 {
            return Some(false);
        }
        *reads = reads.checked_sub(1)?;
        let file = self.open(done.target_path).ok()?;
        begins_as(&file, done, loaded)
    }
}

/// Returns whether the first block of a file is what was copied; `None` when that cannot be told.
fn begins_as(file: &OwnedFd, done: &Done<'_>, loaded: &Loaded) -> Option<bool> {
    let expected = Expected::of(done, loaded, &BlockNames::default());
    if matches!(expected, Expected::Digest(_)) {
        return None;
    }
    let len = done.source_stamp.size.min(BLOCK_LEN);
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, u64::try_from(at).ok()?) {
            Ok(0) => return Some(false),
            Ok(read) => at += read,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(expected.fits(0, &bytes))
}

/// Returns whether nothing that was copied of source `number` is at a place as it was, although the
/// journal has some.
fn is_stranger(loaded: &Loaded, number: u32, place: Place<'_>) -> bool {
    let done = loaded.iter_done();
    let mut done = done.filter(|it| it.source == number && !is_of_unknown(it.source_stamp));
    let (mut lacks, mut reads) = (false, READS_MAX);
    let mut look = |done: &Done<'_>| {
        let has = place.has(done, loaded, &mut reads);
        lacks |= has == Some(false);
        has == Some(true)
    };
    if done.by_ref().take(FIRST).any(|done| look(&done)) {
        return false;
    }
    !spread(done, SPREAD_MAX).iter().any(look) && lacks
}

/// Returns at most `most` of all, at equal distances.
fn spread<T>(all: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    let (mut kept, mut step) = (Vec::new(), 1);
    for (at, one) in all.enumerate() {
        if at % step != 0 {
            continue;
        }
        if kept.len() == most {
            let mut index = 0;
            kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            step *= 2;
            if at % step != 0 {
                continue;
            }
        }
        kept.push(one);
    }
    kept
}

/// Returns whether what is given for a source passes for it by its UUID or its name, and has nothing of
/// what was copied of it.
pub(super) fn is_another(
    loaded: &Loaded,
    recorded: &journal::Source,
    source: &Source,
    now: &Identity,
) -> bool {
    let place = Place::of_source(source, &recorded.landing);
    !are_told(&recorded.identity, now) && is_stranger(loaded, recorded.index, place)
}

/// Returns whether two that are alike are one for sure: by their serial numbers, or by what they are called
/// on the machine that has them.
fn are_told(recorded: &Identity, now: &Identity) -> bool {
    let have_numbers = recorded.serial.is_some() && now.serial.is_some();
    have_numbers || (recorded.served_as().is_some() && now.served_as().is_some())
}

/// Why sources are not those of a job.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It is another job, or it cannot be told; why, as a clause.
    Other(String),
    /// One passes for a source of the job, and has nothing of what that had.
    Strange(Error),
}

/// Said of what is given for a source and has none of its files, as a clause.
pub(super) const STRANGE: &str = "nothing that was copied of this source is there as it was, and no serial \
     number of its drive says that it is the same: it may be another one, or an image of it";
/// Said of how to go on with it all the same, as a clause.
pub(super) const IF_IT_IS: &str = "if it is the same, and all of that was changed or deleted, give the copy \
     command with --existing overwrite";

/// Refuses sources that were taken for those of a job by their UUID, or by their name, and have nothing
/// of what was copied of those. Whoever would have names in the target replaced is told of it.
///
/// # Errors
/// `Refused`, naming the first.
pub(super) fn check(
    loaded: &Loaded,
    (sources, identities): (&[Source], &[Identity]),
    matched: &[Matched],
    existing: Existing,
    session: &Session,
) -> Result<(), Error> {
    for ((source, now), matched) in sources.iter().zip(identities).zip(matched) {
        let Some(recorded) = loaded.source(matched.index) else {
            continue;
        };
        if !is_another(loaded, &recorded, source, now) {
            continue;
        }
        if existing == Existing::Overwrite {
            let label = source.label.display();
            let line = format!("{label}: {STRANGE}; it is taken for it (--existing overwrite)");
            session.observer.note(&line);
            continue;
        }
        let job = &loaded.head().job;
        let what = format!(
            "{STRANGE}. Mount the one that job {job} began with, or copy this one into another target; \
             {IF_IT_IS}"
        );
        let (kind, side) = (ErrorKind::Refused, Side::Source);
        return Err(Error::new(kind, side, &source.label, &what));
    }
    Ok(())
}

/// Refuses a folder that was taken for a source put back, and has nothing of what was copied of that.
///
/// # Errors
/// `Refused`.
pub(super) fn check_tree(loaded: &Loaded, number: u32, tree: &Tree) -> Result<(), Error> {
    let place = Place {
        root: tree.root.as_fd(),
        only: tree.only.as_deref(),
        landing: &tree.landing,
    };
    if !is_stranger(loaded, number, place) {
        return Ok(());
    }
    let what = "nothing that was copied of it is there as it was: it may be an image of it";
    let (kind, side) = (ErrorKind::Refused, Side::Source);
    Err(Error::new(kind, side, &tree.label, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_up_is_from_all_over() {
        let of = |count: u32| spread(0..count, 4);
        assert_eq!(of(0), [0; 0]);
        assert_eq!(of(4), [0, 1, 2, 3]);
        assert_eq!(of(5), [0, 2, 4]);
        assert_eq!(of(8), [0, 2, 4, 6]);
        assert_eq!(of(9), [0, 4, 8]);
        assert_eq!(of(1000), [0, 256, 512, 768]);
    }
}
