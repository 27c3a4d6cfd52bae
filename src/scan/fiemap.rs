//! Where on the medium a file starts, and whether it is there at all.
//!
//! # Safety invariants
//! - **F1**: [`Request`] is `repr(C)`, made of integers only, and laid out as the kernel's
//!   `struct fiemap` followed by one `struct fiemap_extent`; a test holds the sizes and offsets.
//! - **F2**: `extent_count` is 1, so the kernel writes the header and at most one extent: never
//!   more than the size of [`Request`].
#![expect(
    unsafe_code,
    reason = "FIEMAP has no safe wrapper; see the invariants above"
)]

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

#[repr(C)]
#[derive(Debug, Default)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Debug, Default)]
struct Request {
    header: Header,
    extent: Extent,
}

/// `FS_IOC_FIEMAP`: `_IOWR('f', 11, struct fiemap)`, counted without extents (linux/fs.h).
const FS_IOC_FIEMAP: Opcode = opcode::read_write::<Header>(b'f', 11);
/// `FIEMAP_EXTENT_UNKNOWN`: nothing is on the medium yet (linux/fiemap.h).
const EXTENT_UNKNOWN: u32 = 0x2;
/// `FIEMAP_EXTENT_DELALLOC`: the place is not chosen yet.
const EXTENT_DELALLOC: u32 = 0x4;
/// `FIEMAP_EXTENT_ENCODED`: what is on the medium is not the file's bytes (linux/fiemap.h).
const EXTENT_ENCODED: u32 = 0x8;
/// `FIEMAP_EXTENT_DATA_INLINE`: the bytes are in the inode.
const EXTENT_DATA_INLINE: u32 = 0x200;
/// `FIEMAP_EXTENT_UNWRITTEN`: reads give zeros, and the medium is not asked.
const EXTENT_UNWRITTEN: u32 = 0x800;
/// What has no place of its own on the medium.
const NOWHERE: u32 = EXTENT_UNKNOWN | EXTENT_DELALLOC | EXTENT_DATA_INLINE;

/// Returns the byte on the medium at which the first extent of a file starts.
///
/// `None` for a file without one: all hole, kept in its inode, or not yet written. The place is
/// in the address space of the file system (the md or LVM device; on btrfs a logical address), so
/// it is good for sorting and for nothing else. Nothing is synced: the flag that would make the
/// kernel write the file back first is never given.
///
/// # Errors
/// `OPNOTSUPP` or `NOTTY` where the file system cannot tell, and whatever reading the extent
/// tree gives.
pub(super) fn first_extent(file: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
    let extent = extent(file, 0, u64::MAX)?;
    let placed = extent.filter(|extent| extent.flags & NOWHERE == 0);
    Ok(placed.map(|extent| extent.physical))
}

/// Returns whether a read of the byte at `offset` that no cache answers asks the medium for data: it is
/// in an extent that is written, and not among the metadata, which the kernel may hold in memory. Where
/// the file system cannot tell, it is believed to.
pub(crate) fn is_on_medium(file: BorrowedFd<'_>, offset: u64) -> bool {
    match extent(file, offset, 1) {
        Ok(extent) => extent.is_some_and(|it| it.flags & (NOWHERE | EXTENT_UNWRITTEN) == 0),
        Err(errno) => matches!(errno, Errno::OPNOTSUPP | Errno::NOTTY),
    }
}

/// Returns whether a file of `len` bytes is stored compressed or encrypted by its file system at any of
/// `places` that are spread evenly over it. Where the file system cannot tell, it is believed not to be.
pub(crate) fn is_encoded(file: BorrowedFd<'_>, len: u64, places: u64) -> bool {
    (0..places).any(|number| {
        let found = extent(file, len / places * number, 1);
        matches!(found, Ok(Some(extent)) if extent.flags & EXTENT_ENCODED != 0)
    })
}

/// Returns the first extent of a file that has any of these bytes.
fn extent(file: BorrowedFd<'_>, start: u64, length: u64) -> Result<Option<Extent>, Errno> {
    let mut request = Request {
        header: Header {
            start,
            length,
            extent_count: 1,
            ..Header::default()
        },
        ..Request::default()
    };
    // SAFETY: `Updater::new` requires an opcode that reads and writes the given type: F1.
    let update = unsafe { Updater::<FS_IOC_FIEMAP, Request>::new(&mut request) };
    // SAFETY: `ioctl` requires that the kernel stays within the pointee and leaves it valid: F2
    // bounds the write, and by F1 every bit pattern of `Request` is valid.
    unsafe { ioctl(file, update) }?;
    Ok((request.header.mapped_extents > 0).then_some(request.extent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Header>(), 32);
        assert_eq!(size_of::<Extent>(), 56);
        assert_eq!(size_of::<Request>(), 88);
        assert_eq!(offset_of!(Header, mapped_extents), 20);
        assert_eq!(offset_of!(Header, extent_count), 24);
        assert_eq!(offset_of!(Request, extent), 32);
        assert_eq!(offset_of!(Extent, physical), 8);
        assert_eq!(offset_of!(Extent, flags), 40);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        assert_eq!(FS_IOC_FIEMAP, 0xC020_660B);
    }
}
