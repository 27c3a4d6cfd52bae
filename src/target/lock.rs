//! The private folder as ours alone: nobody else's, and one run at a time.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::home::record_error;
use crate::error::{Error, ErrorKind, Side};

/// Refuses a private folder that somebody else made or can write to.
pub(super) fn trust(dir: BorrowedFd<'_>, label: &Path) -> Result<(), Error> {
    let stat = rustix::fs::fstat(dir).map_err(|e| record_error(label, "look at", e))?;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    if mine && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    let what = "the folder belongs to somebody else, or others may write to it; \
                what is staged there could be swapped";
    Err(Error::new(ErrorKind::Refused, Side::Record, label, what))
}

/// Lets a lock go before its descriptor does: a thread that a drive holds may keep that for ever.
pub(super) fn let_go(lock: &OwnedFd) {
    // There is no reason for it to fail; the lock goes with the process, too.
    let _unlocked = rustix::fs::flock(lock, FlockOperation::Unlock);
}

/// Takes the lock of the private folder; it goes with the descriptor.
pub(super) fn lock(dir: BorrowedFd<'_>, label: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = label.join("lock");
    let file = rustix::fs::openat(dir, "lock", flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| record_error(&path, "open the lock", errno))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            let what = "another inhaul is writing to this target";
            Err(Error::new(ErrorKind::Locked, Side::Record, path, what))
        }
        Err(errno) => Err(record_error(&path, "lock", errno)),
    }
}
