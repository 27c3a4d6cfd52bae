//! Folders of jobs in the private folder: found, made, told apart.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::home::{JobDir, open_dir};
use super::sweep::list;
use crate::beneath;

/// Stands in the folder of a job from its beginning until it is finished.
pub(super) const UNFINISHED: &str = "unfinished";
/// Leads to the folder of the job that was begun last, until it is finished.
pub(super) const CURRENT: &str = "current";
/// Most unfinished jobs that are looked at.
const UNFINISHED_MAX: usize = 64;
/// Name of a job's journal.
const JOURNAL: &str = "journal";
/// Name of the file that says what a job was asked for.
pub const JOB_FILE: &str = "job.json";

/// Returns whether a job was begun and not finished. One that was stopped before it had a journal
/// cannot be gone on with, and is none.
pub(super) fn is_unfinished(job: BorrowedFd<'_>) -> bool {
    has(job, UNFINISHED) && has(job, JOURNAL)
}

fn has(job: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(job, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Returns the jobs that were begun and not finished, the one begun last first.
pub(super) fn all_unfinished(home: BorrowedFd<'_>) -> Vec<JobDir> {
    let current = linked_job(home, CURRENT).ok();
    let first = current.as_ref().map(|(name, _)| name.clone());
    let mut names: Vec<Vec<u8>> = list(home)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, kind)| *kind == FileType::Directory)
        .map(|(name, _)| name)
        .collect();
    // A name begins with the time.
    names.sort_unstable_by(|a, b| b.cmp(a));
    let others = names.iter().filter_map(|name| {
        let name = std::str::from_utf8(name).ok()?;
        let (name, dir) = job_named(home, name).ok()?;
        let other = first.as_ref() != Some(&name) && is_unfinished(dir.as_fd());
        other.then_some((name, dir))
    });
    current
        .into_iter()
        .chain(others)
        .take(UNFINISHED_MAX)
        .map(|(name, dir)| JobDir { name, dir })
        .collect()
}

/// Returns the job that was begun last and is not finished. One that was begun after it, and is
/// finished, took `current` with it; one that was cut short before it was written down hides none.
pub(super) fn last_unfinished(home: BorrowedFd<'_>) -> Option<JobDir> {
    let all = all_unfinished(home);
    let is_open = |job: &JobDir| has(job.dir.as_fd(), UNFINISHED);
    let is_whole = |job: &JobDir| is_unfinished(job.dir.as_fd()) && has(job.dir.as_fd(), JOB_FILE);
    let first = all.iter().position(is_whole);
    let first = first.or_else(|| all.iter().position(is_open));
    all.into_iter().nth(first.unwrap_or_default())
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
