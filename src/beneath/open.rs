//! Opening below a root with openat2(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, retry_on_intr};

use super::walk::open_by_walking;

/// What a path below a root may never do. Source: openat2(2), Linux 5.6.
const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A directory to go on from: the cheapest descriptor, good for `*at` calls only.
pub(super) const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Longest path in bytes one call takes: PATH_MAX of linux/limits.h less the closing NUL.
const PIECE_MAX: usize = 4095;

/// How often one piece is tried while the kernel reports that a rename came in between.
const TRIES: u32 = 16;

/// Checks that `name` can be the name of one directory entry.
///
/// Length is left to the file system: limits differ, and the kernel's answer names them.
///
/// # Errors
/// `EINVAL` for an empty name, `.`, `..`, and names with `/` or NUL in them.
pub fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// Checks that `path` is a chain of valid names with single slashes between; empty is the root.
///
/// # Errors
/// `EINVAL` for absolute paths, empty components (`a//b`, `a/`), and what [`check_name`] rejects.
pub fn check_path(path: &[u8]) -> Result<(), Errno> {
    if path.is_empty() {
        return Ok(());
    }
    path.split(|byte| *byte == b'/').try_for_each(check_name)
}

/// Opens what `path` names below `root` and never anything else.
///
/// `path` is relative, of any length; empty means `root` itself, opened anew with `flags`.
/// `O_CLOEXEC` is added, and a symlink is never followed at any place. With `O_PATH` but without
/// `O_DIRECTORY`, a symlink in the last place is itself what is opened. `mode` counts only where
/// `flags` can create.
///
/// Where the kernel or a seccomp filter has no openat2, the path is walked name by name instead
/// ([`open_by_walking`]); the answers are the same.
///
/// # Errors
/// `EINVAL` before any system call for what [`check_path`] rejects; `ELOOP` for a symlink on the
/// way, `EXDEV` for a mount; otherwise the kernel's answer.
pub fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    check_path(path)?;
    if !have_openat2(root) {
        return open_by_walking(root, path, flags, mode);
    }
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PIECE_MAX {
        let (piece, after) = cut(rest)?;
        let base = held.as_ref().map_or(root, AsFd::as_fd);
        held = Some(open_piece(base, piece, STEP, Mode::empty())?);
        rest = after;
    }
    let base = held.as_ref().map_or(root, AsFd::as_fd);
    open_piece(base, rest, flags, mode)
}

/// Opens the directory `path` below `root` as a place for `*at` calls (`O_PATH`).
///
/// Such a descriptor neither lists nor syncs; see [`read_dir_fd`] for that.
///
/// # Errors
/// As [`open`]; `ENOTDIR` when something else has the name.
pub fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(root, path, STEP, Mode::empty())
}

/// Opens the directory `path` below `root` for listing, fsync(2) and setting attributes.
///
/// # Errors
/// As [`open`]; `ENOTDIR` when something else has the name, `EACCES` when it may not be read.
pub fn read_dir_fd(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(
        root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

/// Opens a directory the operator named: a SOURCE or the TARGET (`O_PATH`).
///
/// The one place where a path is taken as it stands: symlinks and mounts in it are the operator's
/// own and are followed.
///
/// # Errors
/// The kernel's answer; `ENOTDIR` when it is not a directory.
pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(CWD, path, STEP, Mode::empty()))
}

/// Returns the longest leading piece the kernel takes in one call, and what follows its slash.
fn cut(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    // A piece of PIECE_MAX bytes has its slash at index PIECE_MAX, hence one byte more here.
    let head = path.get(..=PIECE_MAX).unwrap_or(path);
    let slash = head.iter().rposition(|byte| *byte == b'/');
    let (piece, after) = path.split_at(slash.ok_or(Errno::NAMETOOLONG)?);
    Ok((piece, after.get(1..).unwrap_or_default()))
}

fn open_piece(
    base: BorrowedFd<'_>,
    piece: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let piece = if piece.is_empty() { b"." } else { piece };
    let (flags, mode) = complete(flags, mode);
    let mut tries = 1;
    loop {
        match retry_on_intr(|| openat2(base, piece, flags, mode, CONFINED)) {
            // The kernel could not tell whether a rename somewhere made the path leave.
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// Adds what every open has, and takes away the mode the kernel would refuse.
fn complete(flags: OFlags, mode: Mode) -> (OFlags, Mode) {
    let mut flags = flags | OFlags::CLOEXEC;
    // NO_SYMLINKS refuses a symlink in the last place too, and says ELOOP. With O_NOFOLLOW beside
    // O_DIRECTORY the same symlink would be ENOTDIR, and an attack would look like a plain file.
    if flags.contains(OFlags::DIRECTORY) {
        flags.remove(OFlags::NOFOLLOW);
    } else {
        flags.insert(OFlags::NOFOLLOW);
    }
    let creates = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    (flags, if creates { mode } else { Mode::empty() })
}

/// Returns whether openat2 works in this process; asked of the kernel once.
fn have_openat2(root: BorrowedFd<'_>) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // O_PATH on an open directory can only be refused by the lack of the call (ENOSYS) or by
        // a seccomp filter (EPERM in older container profiles).
        let probe = openat2(root, ".", STEP, Mode::empty(), ResolveFlags::BENEATH);
        !matches!(probe, Err(Errno::NOSYS | Errno::PERM))
    })
}
