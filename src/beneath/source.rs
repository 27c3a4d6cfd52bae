//! Source files: opened without side effects, identified by what the descriptor says.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, fcntl_setfl, statat, statx};
use rustix::io::Errno;

use super::open::{check_name, open};
use crate::scan::FileStamp;

/// `STATX_DIO_READ_ALIGN` of linux/stat.h, Linux 6.14; rustix 1.1 has the field, not the flag.
const DIO_READ_ALIGN: StatxFlags = StatxFlags::from_bits_retain(0x0002_0000);

/// A regular source file, open for reading.
#[derive(Debug)]
pub struct OpenedSource {
    /// The file. Reads block, as for any regular file.
    pub file: OwnedFd,
    /// The inode as it was just after opening, with the `O_DIRECT` alignments where the kernel
    /// gives them (`stx_mask` says).
    pub stat: Statx,
    /// Whether reads bypass the page cache (`O_DIRECT`).
    pub direct: bool,
}

impl OpenedSource {
    /// Returns the state of the file just after opening.
    pub fn stamp(&self) -> FileStamp {
        stamp_of(&self.stat)
    }
}

/// Opens the regular file called `name` in `dir` for reading, leaving its access time alone where
/// that is allowed (the owner and root).
///
/// Never waits for a FIFO's writer and never becomes a terminal's session: the name may have been
/// given to something else since it was listed. `direct` asks for `O_DIRECT`; a file system
/// without it gives a buffered file, and [`OpenedSource::direct`] says so.
///
/// # Errors
/// `ELOOP` for a symlink, `EXDEV` for a mount, `EINVAL` for anything else that is not a regular
/// file and for an invalid name; otherwise the kernel's answer.
pub fn open_source(dir: BorrowedFd<'_>, name: &[u8], direct: bool) -> Result<OpenedSource, Errno> {
    check_name(name)?;
    let mut status = OFlags::NOATIME;
    status.set(OFlags::DIRECT, direct);
    let file = loop {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | status;
        match open(dir, name, flags, Mode::empty()) {
            Ok(file) => break file,
            // Only the owner may leave the access time alone. Source: open(2).
            Err(Errno::PERM) if status.contains(OFlags::NOATIME) => status.remove(OFlags::NOATIME),
            // The file system has no O_DIRECT. Source: open(2).
            Err(Errno::INVAL) if status.contains(OFlags::DIRECT) => status.remove(OFlags::DIRECT),
            // Sockets, and devices with nothing behind them: not a drive that went away.
            Err(Errno::NXIO | Errno::NODEV) if !is_regular(dir, name) => {
                return Err(Errno::INVAL);
            }
            Err(errno) => return Err(errno),
        }
    };
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN | DIO_READ_ALIGN;
    let stat = statx(&file, "", AtFlags::EMPTY_PATH, wanted)?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // O_NONBLOCK was for FIFOs. On a regular file a ring takes it as leave to try inline first,
    // even where the file system would then block the submitting thread.
    fcntl_setfl(&file, status)?;
    Ok(OpenedSource {
        file,
        stat,
        direct: status.contains(OFlags::DIRECT),
    })
}

/// Returns the state of an open file; works on `O_PATH` descriptors too.
///
/// # Errors
/// The kernel's answer: `EIO` and its kin from a failing drive.
pub fn stamp(fd: BorrowedFd<'_>) -> Result<FileStamp, Errno> {
    statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(|stat| stamp_of(&stat))
}

/// Returns the part of `stat` that tells two states of one file apart.
pub fn stamp_of(stat: &Statx) -> FileStamp {
    FileStamp {
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    }
}

/// Returns whether anything has this name in a directory; where that cannot be told, it has.
pub fn exists(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    !matches!(
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        Err(Errno::NOENT)
    )
}

fn is_regular(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}
