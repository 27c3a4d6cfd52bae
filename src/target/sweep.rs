//! Removing what was staged: numbered files two levels down, empty ones that names were asked by, and
//! nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::folding::SPELLING;
use super::home::{HOME, STAGE, open_dir};
use super::jobs::is_unfinished;
use super::reserve::RESERVE;

/// Removes what all finished jobs but `mine` left staged. We hold the lock, so nobody is using it.
/// What an unfinished one staged is kept: it may be gone on with.
pub(super) fn sweep(home: BorrowedFd<'_>, mine: &str) -> Result<(), Errno> {
    for (name, kind) in list(home)? {
        if kind == FileType::Directory && name != mine.as_bytes() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(home, name.as_slice(), flags, Mode::empty());
            let Ok(job) = opened else { continue };
            if is_unfinished(job.as_fd()) {
                continue;
            }
            match clear_stage(job.as_fd()) {
                // Whatever inhaul did not put there stays, and is in nobody's way.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Removes what an earlier run of this job set aside for its records, and gives the room back.
pub(super) fn sweep_reserve(stage: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut is_any = false;
    each_staged(stage, &mut |thread, dir, name| {
        if !thread.starts_with(RESERVE) {
            return Ok(());
        }
        is_any = true;
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    })?;
    if is_any {
        // On some file systems blocks are free with the next commit, not with the call.
        let _best_effort = rustix::fs::fsync(stage);
    }
    Ok(())
}

/// Empties and removes the stage of one job: what [`each_staged`] gives, and nothing else.
pub(super) fn clear_stage(job: BorrowedFd<'_>) -> Result<(), Errno> {
    let stage = open_dir(job, STAGE)?;
    each_staged(stage.as_fd(), &mut |_, dir, name| {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    })?;
    prune_stage(job)
}

/// Removes the staging folders of one job that nothing is in.
pub(super) fn prune_stage(job: BorrowedFd<'_>) -> Result<(), Errno> {
    let stage = open_dir(job, STAGE)?;
    for (thread, kind) in list(stage.as_fd())? {
        if let (FileType::Directory, Ok(thread)) = (kind, std::str::from_utf8(&thread)) {
            remove_empty(stage.as_fd(), thread)?;
        }
    }
    remove_empty(job, STAGE)
}

/// Is given the name of a thread's folder, the folder, and the name of a file in it.
pub(super) type VisitStaged<'a> = dyn FnMut(&str, BorrowedFd<'_>, &[u8]) -> Result<(), Errno> + 'a;

/// Gives each file of ours in a stage to `visit`, with the name of the thread and its folder: those that
/// are numbered, and those that a kill left where it is asked how names are listed.
pub(super) fn each_staged(stage: BorrowedFd<'_>, visit: &mut VisitStaged<'_>) -> Result<(), Errno> {
    for (thread, kind) in list(stage)? {
        let (FileType::Directory, Ok(thread)) = (kind, std::str::from_utf8(&thread)) else {
            continue;
        };
        let dir = open_dir(stage, thread)?;
        for (name, kind) in list(dir.as_fd())? {
            let is_numbered = name.iter().all(u8::is_ascii_digit);
            let is_ours = is_numbered || thread.starts_with(SPELLING) && is_empty(&dir, &name);
            if kind != FileType::Directory && is_ours {
                visit(thread, dir.as_fd(), &name)?;
            }
        }
    }
    Ok(())
}

/// Returns whether a name is that of a regular file with nothing in it.
fn is_empty(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
    })
}

/// Removes a directory unless something that is not ours is in it.
fn remove_empty(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        answer => answer,
    }
}

pub(super) fn list(dir: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// Returns how many bytes on the medium the staged files of all jobs take up: a run goes on with
/// them or removes them, so they are as good as free.
pub fn staged_bytes(target: BorrowedFd<'_>) -> u64 {
    let mut bytes: u64 = 0;
    let mut add = |_: &str, dir: BorrowedFd<'_>, name: &[u8]| {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
        Ok(())
    };
    let Ok(home) = open_dir(target, HOME) else {
        return 0;
    };
    for (name, kind) in list(home.as_fd()).unwrap_or_default() {
        let (FileType::Directory, Ok(name)) = (kind, std::str::from_utf8(&name)) else {
            continue;
        };
        let stage = open_dir(home.as_fd(), name).and_then(|job| open_dir(job.as_fd(), STAGE));
        if let Ok(stage) = stage {
            // What cannot be looked at is not counted.
            let _partly = each_staged(stage.as_fd(), &mut add);
        }
    }
    bytes
}
