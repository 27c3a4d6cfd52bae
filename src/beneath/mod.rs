//! Opening below a root, without ever leaving it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Longest path given to the kernel at once, in bytes: `PATH_MAX` less the NUL.
const PATH_BYTES_MAX: usize = 4095;
/// How often a lookup that raced with a rename is tried again.
const RETRIES_MAX: usize = 16;

/// Opens `path` below `root`; an empty path is the root itself.
///
/// # Errors
/// `XDEV` at a mount point or a way out, `LOOP` at a symbolic link.
pub fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PATH_BYTES_MAX {
        let head = rest.get(..PATH_BYTES_MAX).unwrap_or(rest);
        let cut = head
            .iter()
            .rposition(|byte| *byte == b'/')
            .ok_or(Errno::NAMETOOLONG)?;
        let (head, tail) = rest.split_at(cut);
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        held = Some(step(
            at,
            head,
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )?);
        rest = tail.get(1..).unwrap_or_default();
    }
    let at = held.as_ref().map_or(root, AsFd::as_fd);
    let path = if rest.is_empty() { b"." } else { rest };
    step(at, path, flags, mode)
}

fn step(at: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut tries = 0;
    loop {
        match openat2(at, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES_MAX => tries += 1,
            answer => return answer,
        }
    }
}

/// Refuses what can never be the name of one directory entry.
///
/// # Errors
/// `INVAL` for an empty name, `.`, `..`, and names with `/` or NUL.
pub fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::INVAL);
    }
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Errno::INVAL);
    }
    Ok(())
}
