//! Folders of jobs in the private folder: found, made, told apart.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::home::open_dir;
use crate::beneath;

/// Stands in the folder of a job from its beginning until it is finished.
pub(super) const UNFINISHED: &str = "unfinished";
/// Name of a job's journal.
const JOURNAL: &str = "journal";

/// Returns whether a job was begun and not finished. One that was stopped before it had a journal
/// cannot be gone on with, and is none.
pub(super) fn is_unfinished(job: BorrowedFd<'_>) -> bool {
    let is_there = |name| rustix::fs::statat(job, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    is_there(UNFINISHED) && is_there(JOURNAL)
}

pub(super) fn linked_job(home: BorrowedFd<'_>, link: &str) -> Result<(String, OwnedFd), Errno> {
    let name = rustix::fs::readlinkat(home, link, Vec::new())?;
    job_named(home, &name.to_string_lossy())
}

pub(super) fn job_named(home: BorrowedFd<'_>, name: &str) -> Result<(String, OwnedFd), Errno> {
    beneath::check_name(name.as_bytes())?;
    open_dir(home, name).map(|job| (name.to_owned(), job))
}

/// Makes the folder of a job, or opens the one called `name`. Without a name it gets one:
/// `YYYYMMDD-HHMMSS-xxxx` sorts by time, and two runs in one second still differ.
pub(super) fn make_job(
    dir: BorrowedFd<'_>,
    name: Option<&str>,
) -> Result<(String, OwnedFd), Errno> {
    if let Some(name) = name {
        beneath::check_name(name.as_bytes())?;
        return match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => open_dir(dir, name).map(|fd| (name.to_owned(), fd)),
            Err(errno) => Err(errno),
        };
    }
    let now = SystemTime::now();
    let stamp: String = humantime::format_rfc3339_seconds(now)
        .to_string()
        .chars()
        .filter_map(|c| match c {
            'T' => Some('-'),
            '-' | ':' | 'Z' => None,
            digit => Some(digit),
        })
        .collect();
    let nanos = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    for attempt in 0..64 {
        let name = format!(
            "{stamp}-{:04x}",
            (nanos >> 8).wrapping_add(attempt) & 0xffff
        );
        match rustix::fs::mkdirat(dir, &name, Mode::RWXU) {
            Ok(()) => return open_dir(dir, &name).map(|fd| (name, fd)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
