//! What the kernel tells of a file system that no remount and no other cable changes.
//!
//! # Safety invariants
//! - **U1**: [`Answer`] is `repr(C)`, made of bytes only, and laid out as the kernel's
//!   `struct fsuuid2`; a test holds the size and the number of the call that is made from it.
//! - **U2**: the kernel copies at most one `struct fsuuid2` to the pointer it is given. Source:
//!   `ioctl_getfsuuid` of fs/ioctl.c. A kernel without the call hands it on to the file system;
//!   none has a call of this number (0x15 is set aside for those that are the same everywhere,
//!   linux/fs.h), and FUSE, which lets its server answer, copies no more than the length that is
//!   part of the number. A device could have calls of its own: only directories are asked.
#![expect(
    unsafe_code,
    reason = "FS_IOC_GETFSUUID has no safe wrapper; see the invariants above"
)]

use std::fmt::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

/// `struct fsuuid2` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Answer {
    len: u8,
    uuid: [u8; 16],
}

/// `FS_IOC_GETFSUUID`: `_IOR(0x15, 0, struct fsuuid2)` (linux/fs.h, since Linux 6.9).
const FS_IOC_GETFSUUID: Opcode = opcode::read::<Answer>(0x15, 0);

/// `STATX_SUBVOL` (linux/stat.h, since Linux 6.10).
const SUBVOL: StatxFlags = StatxFlags::from_bits_retain(0x8000);

/// Returns the UUID of the file system a directory, open for reading, is on: 32 hex digits in five
/// groups, as blkid(8) and udev write it.
///
/// `None` from a kernel before 6.9, and where the file system does not tell: btrfs, whose UUID is in
/// sysfs, and FAT, exFAT, NTFS, NFS, ZFS and FUSE. That of a tmpfs is good until it is unmounted.
pub fn fs_uuid(dir: BorrowedFd<'_>) -> Option<String> {
    let mode = rustix::fs::fstat(dir).ok()?.st_mode;
    if !FileType::from_raw_mode(mode).is_dir() {
        return None;
    }
    // SAFETY: `Getter::new` requires an opcode that writes the given type: U1.
    let get = unsafe { Getter::<FS_IOC_GETFSUUID, Answer>::new() };
    // SAFETY: `ioctl` requires that the kernel stays within the output (U2) and fills it when it
    // answers with success; by U1 every bit pattern of `Answer` is valid.
    let answer = unsafe { ioctl(dir, get) }.ok()?;
    text(answer.uuid.get(..usize::from(answer.len))?)
}

/// Returns the number of the subvolume an open directory is in; `O_PATH` will do. The subvolumes of
/// one file system share its UUID and number their inodes alike.
///
/// `None` from a kernel before 6.10, and where there are no subvolumes.
pub fn subvolume(dir: BorrowedFd<'_>) -> Option<u64> {
    let stat = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, SUBVOL).ok()?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(SUBVOL);
    told.then_some(stat.stx_subvol)
}

/// Returns bytes as hex digits, those of a whole UUID in its five groups; `None` for zeros, which
/// stand for a UUID that was never set.
fn text(uuid: &[u8]) -> Option<String> {
    if uuid.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut text = String::new();
    for (at, byte) in uuid.iter().enumerate() {
        if uuid.len() == 16 && matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::mem::{offset_of, size_of};
    use std::os::fd::AsFd;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Answer>(), 17);
        assert_eq!(offset_of!(Answer, uuid), 1);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        assert_eq!(FS_IOC_GETFSUUID, 0x8011_1500);
    }

    #[test]
    fn a_uuid_reads_as_everybody_writes_it() {
        let bytes: Vec<u8> = (0..16).map(|n| n * 17).collect();
        assert_eq!(
            text(&bytes).as_deref(),
            Some("00112233-4455-6677-8899-aabbccddeeff")
        );
        assert_eq!(text(&[0xab, 0xcd, 0x12, 0x34]).as_deref(), Some("abcd1234"));
        assert_eq!(text(&[0; 16]), None);
        assert_eq!(text(&[]), None);
    }

    #[test]
    fn what_has_no_uuid_says_so() {
        let proc = File::open("/proc").unwrap();
        assert_eq!(fs_uuid(proc.as_fd()), None);
        assert_eq!(subvolume(proc.as_fd()), None);
        let device = File::open("/dev/null").unwrap();
        assert_eq!(fs_uuid(device.as_fd()), None);
    }
}
