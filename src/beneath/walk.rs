//! Opening below a root without openat2(2): one name at a time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, openat, statat, statx};
use rustix::io::{Errno, retry_on_intr};

use super::open::{STEP, check_path};

/// Does what [`super::open()`] does, with openat(2) alone: for Linux before 5.6 and for seccomp
/// filters that do not know openat2.
///
/// Each directory is opened from the one before it with `O_NOFOLLOW`, so no step can be led
/// astray; after each step the mount must still be the root's. Costs two calls a component.
///
/// The mount of the last component is checked only after it is open. A file bound over the name
/// is therefore refused too late for `O_TRUNC`, which nothing here uses.
///
/// # Errors
/// As [`super::open()`].
pub fn open_by_walking(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    check_path(path)?;
    if path.is_empty() {
        return retry_on_intr(|| openat(root, ".", flags | OFlags::CLOEXEC, mode));
    }
    let mount = mount_of(root)?;
    let mut held: Option<OwnedFd> = None;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let base = held.as_ref().map_or(root, AsFd::as_fd);
        if names.peek().is_none() {
            return step(base, name, flags, mode, mount);
        }
        held = Some(step(base, name, STEP, Mode::empty(), mount)?);
    }
    Err(Errno::INVAL)
}

fn step(
    base: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mode: Mode,
    mount: Mount,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = match retry_on_intr(|| openat(base, name, flags, mode)) {
        // With O_DIRECTORY a symlink is merely "not a directory"; say what it is.
        Err(Errno::NOTDIR) if is_symlink(base, name) => Err(Errno::LOOP),
        result => result,
    }?;
    if mount_of(opened.as_fd())? != mount {
        return Err(Errno::XDEV);
    }
    Ok(opened)
}

fn is_symlink(base: BorrowedFd<'_>, name: &[u8]) -> bool {
    statat(base, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// What tells two mounts apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mount {
    /// The mount's own number: exact. Source: statx(2), `STATX_MNT_ID`, Linux 5.8.
    Id(u64),
    /// The device of the file system, on older kernels. Lets a bind mount of the same file system
    /// pass, and takes a btrfs subvolume for a mount.
    Device(u32, u32),
}

fn mount_of(fd: BorrowedFd<'_>) -> Result<Mount, Errno> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        return Ok(Mount::Id(stat.stx_mnt_id));
    }
    Ok(Mount::Device(stat.stx_dev_major, stat.stx_dev_minor))
}
