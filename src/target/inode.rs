//! One inode by a held descriptor, whatever kind of descriptor that is.
//!
//! **Boundary.** System calls on attributes and nothing more; what to set is decided elsewhere.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fcntl_getfl, fgetxattr, fgetxattr_query, flistxattr, fremovexattr, fsetxattr, futimens,
    getxattr, getxattr_query, listxattr, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

/// First buffer for a value or a list of names, in bytes: holds an ACL of 127 entries.
const BUFFER_FIRST: usize = 1024;

/// Largest value and largest list of names, in bytes. Source: `XATTR_SIZE_MAX` and
/// `XATTR_LIST_MAX` of linux/limits.h; the kernel answers E2BIG, not ERANGE, beyond it.
const BUFFER_LAST: usize = 65536;

/// An inode by its descriptor. Calls that refuse `O_PATH` go through the descriptor's link in
/// /proc, which leads to this very inode whatever its names are by now.
pub(super) struct Inode<'a> {
    fd: BorrowedFd<'a>,
    link: Option<String>,
}

impl<'a> Inode<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>) -> Self {
        let path_only = fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::PATH));
        let link = path_only.then(|| format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Self { fd, link }
    }

    /// Returns the names of all attributes, each followed by a NUL.
    pub(super) fn list<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Errno> {
        read_whole(buffer, |buffer| match &self.link {
            None => flistxattr(self.fd, spare_capacity(buffer)),
            Some(link) => listxattr(link, spare_capacity(buffer)),
        })?;
        Ok(buffer)
    }

    pub(super) fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut buffer = Vec::new();
        read_whole(&mut buffer, |buffer| match &self.link {
            None => fgetxattr(self.fd, name, spare_capacity(buffer)),
            Some(link) => getxattr(link, name, spare_capacity(buffer)),
        })?;
        buffer.shrink_to_fit();
        Ok(buffer)
    }

    /// Returns the size of a value, in bytes.
    pub(super) fn size_of(&self, name: &[u8]) -> Result<usize, Errno> {
        match &self.link {
            None => fgetxattr_query(self.fd, name),
            Some(link) => getxattr_query(link, name),
        }
    }

    pub(super) fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match &self.link {
            None => fsetxattr(self.fd, name, value, XattrFlags::empty()),
            Some(link) => setxattr(link, name, value, XattrFlags::empty()),
        }
    }

    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match &self.link {
            None => fremovexattr(self.fd, name),
            Some(link) => removexattr(link, name),
        }
    }

    pub(super) fn chown(&self, owner: Option<u32>, group: Option<u32>) -> Result<(), Errno> {
        // The all-ones id means "leave it" to the kernel, and is no one's.
        if owner == Some(u32::MAX) || group == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(self.fd, "", owner, group, AtFlags::EMPTY_PATH)
    }

    pub(super) fn chmod(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match &self.link {
            None => fchmod(self.fd, mode),
            Some(link) => chmodat(CWD, link, mode, AtFlags::empty()),
        }
    }

    pub(super) fn utimes(&self, times: &Timestamps) -> Result<(), Errno> {
        match &self.link {
            None => futimens(self.fd, times),
            // Without a path since Linux 5.8, utimensat(2).
            Some(link) => match utimensat(self.fd, "", times, AtFlags::EMPTY_PATH) {
                Err(Errno::INVAL) => utimensat(CWD, link, times, AtFlags::empty()),
                result => result,
            },
        }
    }
}

/// Fills `buffer` with one answer, small buffer first.
///
/// Two tries settle it, whatever grows meanwhile: nothing is larger than the second buffer.
fn read_whole(
    buffer: &mut Vec<u8>,
    call: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    buffer.clear();
    buffer.reserve_exact(BUFFER_FIRST);
    match call(buffer) {
        Err(Errno::RANGE) => {
            buffer.reserve_exact(BUFFER_LAST);
            call(buffer).map(drop)
        }
        result => result.map(drop),
    }
}
