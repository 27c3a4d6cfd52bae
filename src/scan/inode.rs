//! Inodes of a source as the kernel describes them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, makedev, statx};
use rustix::io::Errno;

use super::entry::{Dir, Entry, FileStamp, Kind, Tree};
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};

/// What is asked of every inode; `MNT_ID` (Linux 5.8) tells mounts apart where it is answered.
const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// Returns the statx of what is open.
pub(super) fn look(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH, MASK)
}

/// Returns the statx of a name in a directory; a symbolic link is looked at itself.
pub(super) fn look_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, MASK)
}

/// Opens a directory for listing, without moving its access time where that is permitted.
pub(super) fn open_dir(tree: &Tree, path: &[u8]) -> Result<(OwnedFd, Statx), Errno> {
    // Without O_NOFOLLOW a link that has taken the name is told apart (LOOP) from a file that has
    // (NOTDIR); it is not followed either way.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let root = tree.root.as_fd();
    let fd = match beneath::open(root, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may ask for O_NOATIME.
        Err(Errno::PERM) => beneath::open(root, path, flags, Mode::empty()),
        answer => answer,
    }?;
    let stat = look(fd.as_fd())?;
    Ok((fd, stat))
}

/// Returns whether two inodes are on one mount, where the kernel has mount ids.
///
/// Device numbers are no substitute: the subvolumes of one btrfs have many.
pub(super) fn is_same_mount(one: &Statx, other: &Statx) -> Option<bool> {
    let has_mount = |stat: &Statx| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    (has_mount(one) && has_mount(other)).then_some(one.stx_mnt_id == other.stx_mnt_id)
}

/// Returns the device number as `st_dev` gives it.
pub(super) fn device(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// Returns what an inode is; `None` for a directory.
pub(super) fn kind(stat: &Statx) -> Option<Kind> {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => None,
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::RegularFile | FileType::Unknown => Some(Kind::File),
    }
}

/// Returns an entry without a position.
pub(super) fn entry(dir: Arc<Dir>, name: &[u8], kind: Kind, stat: &Statx) -> Entry {
    Entry {
        dir,
        name: name.into(),
        kind,
        stamp: FileStamp {
            dev: device(stat),
            ino: stat.stx_ino,
            size: stat.stx_size,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        },
        // statx counts in units of 512 bytes whatever the block size; a file system may lie.
        allocated: stat.stx_blocks.saturating_mul(512),
        nlink: stat.stx_nlink,
        position: 0,
        recorded: None,
    }
}

/// Returns why a directory could not be opened.
pub(super) fn dir_error(path: PathBuf, errno: Errno) -> Error {
    if errno == Errno::NOTDIR {
        let what = "was a directory when listed and is none now";
        Error::new(ErrorKind::SourceChanged, Side::Source, path, what)
    } else {
        Error::source(path, "open the directory", errno)
    }
}
