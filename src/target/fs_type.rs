//! What a file system is, as far as it changes how we read or write it.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::seam;

/// A file system type, from the magic number of statfs(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsType {
    /// ext2, ext3 or ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// tmpfs or ramfs: memory, no medium below.
    Memory,
    /// ZFS.
    Zfs,
    /// overlayfs: what is below decides.
    Overlay,
    /// A FUSE server.
    Fuse,
    /// Anything else.
    Other,
}

// Numbers: statfs(2) and the kernel's include/uapi/linux/magic.h; ZFS from OpenZFS zfs_vfsops.h.
const EXT4: u64 = 0xEF53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683E;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58F6;
const ZFS: u64 = 0x2FC1_2FC1;
const OVERLAY: u64 = 0x794C_7630;
const FUSE: u64 = 0x6573_5546;

/// Returns the type of the file system that holds an open file.
///
/// # Errors
/// As fstatfs(2).
pub fn fs_type(fd: impl AsFd) -> Result<FsType, Errno> {
    let stat = rustix::fs::fstatfs(fd)?;
    Ok(match u64::try_from(stat.f_type).unwrap_or(0) {
        EXT4 => FsType::Ext4,
        XFS => FsType::Xfs,
        BTRFS => FsType::Btrfs,
        TMPFS | RAMFS => FsType::Memory,
        ZFS => FsType::Zfs,
        OVERLAY => FsType::Overlay,
        FUSE => FsType::Fuse,
        _ => FsType::Other,
    })
}

/// Returns whether inode numbers and change times outlive a remount on a file system of this type,
/// as mountinfo names it.
///
/// FAT and exFAT have no inodes: the kernel numbers them as it meets them, and a change time is
/// whatever the modification time was. Source: `fat_build_inode`, `exfat_build_inode` (iunique).
pub fn keeps_inodes(name: &str) -> bool {
    !matches!(name, "vfat" | "msdos" | "exfat") && seam::setting("NO_INODES").is_none()
}

/// Returns whether files are as long as a file system of this type says, as mountinfo names it.
///
/// True of those that count bytes where they store them. Not of those that make files up as they are
/// read: proc and its like say 0, sysfs a page, and a FUSE server what it likes. Elsewhere it is not
/// known, and looking costs one read a file.
pub fn trusts_sizes(name: &str) -> bool {
    matches!(
        name,
        "bcachefs"
            | "btrfs"
            | "erofs"
            | "exfat"
            | "ext2"
            | "ext3"
            | "ext4"
            | "f2fs"
            | "hfs"
            | "hfsplus"
            | "iso9660"
            | "jfs"
            | "msdos"
            | "ntfs3"
            | "overlay"
            | "ramfs"
            | "squashfs"
            | "tmpfs"
            | "udf"
            | "vfat"
            | "xfs"
            | "zfs"
    )
}

impl FsType {
    /// Returns the name shown in reports, or `None` when mountinfo knows better.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Memory => "tmpfs",
            Self::Zfs => "zfs",
            Self::Overlay => "overlay",
            Self::Fuse => "fuse",
            Self::Other => "other",
        }
    }

    /// Returns whether reading with O_DIRECT reaches the medium, and why (not).
    pub fn direct_read(self) -> (bool, &'static str) {
        match self {
            Self::Memory => (
                false,
                "its files are in memory; there is no medium to bypass",
            ),
            Self::Zfs => (false, "ZFS reads through its own cache"),
            Self::Ext4 | Self::Xfs | Self::Btrfs | Self::Overlay | Self::Fuse | Self::Other => (
                true,
                "asked for with O_DIRECT; a file that refuses it is read buffered",
            ),
        }
    }

    /// Returns whether a ring may read its files.
    ///
    /// Not on FUSE: a read that a ring asked for and that comes short, because the server has less
    /// than it said, is gone on with by the kernel at the place where it began, and the file gets its
    /// first bytes for its last ones. (`fuse_direct_read_iter` of linux/fs/fuse/file.c does not move
    /// `ki_pos` of what is not a plain call; seen on 6.18.) A call comes short and says so.
    pub fn reads_by_ring(self) -> bool {
        self != Self::Fuse
    }

    /// Returns whether large files are written with O_DIRECT, and why (not).
    pub fn direct_write(self) -> (bool, &'static str) {
        match self {
            Self::Ext4 => (true, "O_DIRECT into preallocated files runs asynchronously"),
            Self::Xfs => (true, "O_DIRECT into preallocated files"),
            Self::Btrfs => (
                false,
                "btrfs writes checksummed files through the page cache",
            ),
            Self::Memory => (false, "its files are in memory"),
            Self::Zfs => (false, "ZFS writes through its own cache"),
            Self::Overlay => (false, "what lies below an overlay is not known"),
            Self::Fuse | Self::Other => (false, "not known to gain from O_DIRECT"),
        }
    }

    /// Returns whether the bytes of a small file may lie in its inode's own record, where no read
    /// goes past the page cache.
    ///
    /// So on btrfs up to its `max_inline` (btrfs(5), 2,048 bytes by default, less than a block at
    /// most). A file that had space set aside has an extent of its own (filefrag, 6.18).
    pub fn inlines_small(self) -> bool {
        self == Self::Btrfs
    }

    /// Returns whether registered buffers may be used for writes.
    ///
    /// Source: openzfs/zfs#16133, a write from a registered buffer spins in the kernel for ever.
    pub fn registered_writes(self) -> bool {
        matches!(self, Self::Ext4 | Self::Xfs)
    }

    /// Returns whether one syncfs makes everything durable and hears of every write-back error.
    ///
    /// Not so on overlayfs (it does not pass on errors of the layer below) nor on FUSE (nothing
    /// is sent to the server), measured on 6.18; elsewhere it is not known. There each file and
    /// each directory that got a name is synced by itself.
    pub fn syncs_whole(self) -> bool {
        matches!(self, Self::Ext4 | Self::Xfs | Self::Btrfs | Self::Memory)
    }

    /// Returns whether holes reported by SEEK_HOLE can be trusted.
    ///
    /// Source: openzfs/zfs#15526, data reported as holes.
    pub fn trusts_holes(self) -> bool {
        matches!(self, Self::Ext4 | Self::Xfs | Self::Btrfs | Self::Memory)
    }
}
