//! The system calls that rustix does not carry.
//!
//! # Safety invariants
//! - **S1** Only calls that take numbers and descriptors are made here: none reads or writes memory
//!   of ours.
//! - **S2** Each descriptor is borrowed for the whole call, so it is open.
#![expect(
    unsafe_code,
    reason = "foreign calls: this is one of the files ARCHITECTURE.md names"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::errno;

/// Starts write-back of the dirty pages in a range; 0 for `len` means to the end of the file.
///
/// # Durability
/// None: neither metadata nor the drive's own cache is touched.
///
/// # Errors
/// As sync_file_range(2).
pub(crate) fn start_write_back(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
    let len = i64::try_from(len).map_err(|_| Errno::INVAL)?;
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: `sync_file_range` needs an open descriptor and touches no memory: S1, S2.
    let answer = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if answer == 0 {
        Ok(())
    } else {
        Err(errno::from_error(&std::io::Error::last_os_error()))
    }
}
