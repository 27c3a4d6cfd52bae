//! Directories that no sound file system has: one that lists a name twice, or a second `..`.
//!
//! A name leads to one inode only, so whatever the other one stands for cannot be reached, and must
//! not be lost without a word. Somebody who renames to and fro while a directory is listed can make
//! a name come twice, too; so it is listed again before it is said.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Side};

/// Leaves each name of `pending` in it once, the first one; returns those that the directory lists
/// more than once.
pub(super) fn part(pending: &mut Vec<Box<[u8]>>, dir: BorrowedFd<'_>) -> Vec<Box<[u8]>> {
    let mut sorted: Vec<&[u8]> = pending.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    let pairs = sorted.windows(2);
    let twins: BTreeSet<Box<[u8]>> = pairs
        .filter_map(|pair| match pair {
            [one, other] if one == other => Some(Box::from(*one)),
            _ => None,
        })
        .collect();
    if twins.is_empty() {
        return Vec::new();
    }
    let mut met = BTreeSet::new();
    pending.retain(|name| !twins.contains(name) || met.insert(name.clone()));
    // One that lists a million names twice is listed again once.
    let mut tampered = false;
    let told = twins.into_iter().filter(|name| {
        tampered = tampered || lists_twice(dir, name) != Ok(false);
        tampered
    });
    told.collect()
}

/// Returns whether a directory lists a name more than once.
///
/// # Errors
/// When it cannot be listed again.
pub(super) fn lists_twice(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    // Of its own, for a descriptor has one place in its directory.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let again = openat(dir, c".", flags, Mode::empty())?;
    let mut count = 0;
    for entry in Dir::new(again)? {
        count += usize::from(entry?.file_name().to_bytes() == name);
    }
    Ok(count > 1)
}

/// Returns that a name stands for two things, of which one can never be reached.
pub(super) fn twin(path: PathBuf) -> Error {
    let what = "its directory lists this name twice: it is damaged or was tampered with, and only one \
                of the two can be reached";
    Error::new(ErrorKind::SourceRead, Side::Source, path, what)
}

/// Returns that a directory has more than one `.` or `..`.
pub(super) fn spare_dots(path: PathBuf) -> Error {
    let what = "the directory lists `.` or `..` twice: it is damaged or was tampered with, and what \
                the second one stands for cannot be reached";
    Error::new(ErrorKind::SourceRead, Side::Source, path, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    #[test]
    fn what_comes_twice_stays_once_and_is_told_only_if_it_is_there_twice() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("b")).unwrap();
        let dir: OwnedFd = std::fs::File::open(top.path()).unwrap().into();
        let names = |list: &[&str]| -> Vec<Box<[u8]>> {
            let bytes = list.iter().map(|name| Box::from(name.as_bytes()));
            bytes.collect()
        };
        let mut pending = names(&["c", "b", "a", "b"]);
        // Listed twice as it seems, and there once: somebody renamed it.
        assert!(part(&mut pending, dir.as_fd()).is_empty());
        assert_eq!(pending, names(&["c", "b", "a"]));
        assert_eq!(lists_twice(dir.as_fd(), b"b"), Ok(false));
        assert_eq!(lists_twice(dir.as_fd(), b"gone"), Ok(false));
    }
}
