//! Removing what was staged: numbered files two levels down, and nothing else.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::home::{STAGE, open_dir};

/// Removes what all jobs but `mine` left staged. We hold the lock, so nobody is using it.
pub(super) fn sweep(home: BorrowedFd<'_>, mine: &str) -> Result<(), Errno> {
    for (name, kind) in list(home)? {
        if kind == FileType::Directory && name != mine.as_bytes() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(home, name.as_slice(), flags, Mode::empty());
            let Ok(job) = opened else { continue };
            match clear_stage(job.as_fd()) {
                // Whatever inhaul did not put there stays, and is in nobody's way.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Empties and removes `stage/*/NUMBER` of one job: numbers only, two levels, nothing else.
pub(super) fn clear_stage(job: BorrowedFd<'_>) -> Result<(), Errno> {
    let stage = open_dir(job, STAGE)?;
    each_staged(stage.as_fd(), &mut |_, dir, name| {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    })?;
    for (thread, kind) in list(stage.as_fd())? {
        if let (FileType::Directory, Ok(thread)) = (kind, std::str::from_utf8(&thread)) {
            remove_empty(stage.as_fd(), thread)?;
        }
    }
    remove_empty(job, STAGE)
}

/// Is given the name of a thread's folder, the folder, and the name of a file in it.
pub(super) type VisitStaged<'a> = dyn FnMut(&str, BorrowedFd<'_>, &[u8]) -> Result<(), Errno> + 'a;

/// Gives each numbered file of a stage to `visit`, with the name of the thread and its folder.
pub(super) fn each_staged(stage: BorrowedFd<'_>, visit: &mut VisitStaged<'_>) -> Result<(), Errno> {
    for (thread, kind) in list(stage)? {
        let (FileType::Directory, Ok(thread)) = (kind, std::str::from_utf8(&thread)) else {
            continue;
        };
        let dir = open_dir(stage, thread)?;
        for (name, kind) in list(dir.as_fd())? {
            if kind != FileType::Directory && name.iter().all(u8::is_ascii_digit) {
                visit(thread, dir.as_fd(), &name)?;
            }
        }
    }
    Ok(())
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
