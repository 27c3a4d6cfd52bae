//! File systems whose kernel does not say so when a folder cannot be read.
//!
//! - FAT: what is in a block that cannot be read is left out, and the listing goes on behind it
//!   (`fat__get_entry` of linux/fs/fat/dir.c). With the right to read the block device all blocks of all
//!   folders are read before the walk, from when they are in memory, and looked at again after it.
//!   Without it, of a whole file system what is in use is compared with what was listed, which is the
//!   same on a sound one without lost or bad clusters. Names of empty files take up nothing there, and
//!   are not missed; nor are names of files that take up just as much as the root, where it may be FAT16.
//! - FAT and ISO 9660: the listing ends at a block that cannot be found or read (`do_isofs_readdir` of
//!   linux/fs/isofs/dir.c). The place where it ended is then before the folder's end.
//!
//! exFAT and NTFS (ntfs3) tell such errors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Statx, major, minor};
use rustix::io::Errno;

use super::entry::{Entry, Tree};
use super::fat::{self, Fault, Looked};
use super::visitor::WalkOptions;
use super::walk::DEPTH_MAX;
use crate::beneath::check_name;
use crate::error::{Error, ErrorKind, Side};

// Numbers: linux/magic.h.
const FAT: u64 = 0x4D44;
const ISO_9660: u64 = 0x9660;
/// `MSDOS_ROOT_INO` of linux/msdos_fs.h.
const FAT_ROOT: u64 = 1;
/// Most clusters of FAT12 and FAT16 (`MAX_FAT16` of linux/fs/fat/fat.h).
const FAT16_CLUSTERS_MAX: u64 = 0xFFF4;

/// What is watched of a tree while it is walked; nothing, where listings tell their errors.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    tells_nothing: bool,
    /// The block device, and its path.
    device: Option<(OwnedFd, PathBuf)>,
    /// Bytes in use at the beginning, where all of them belong to what is listed and nothing better tells.
    used: Option<u64>,
    /// Bytes of what was listed, without the root.
    listed: u64,
    /// Bytes of the root.
    root: u64,
    is_told: bool,
    has_looked: bool,
    /// Where the faults are that the first look found: the second has no news of those.
    known: Vec<u64>,
    /// What is to be told of folders when they are entered, each held open: its number stays its own.
    awaited: Vec<(OwnedFd, u64, Error)>,
}

impl Hidden {
    /// Begins to watch a tree; `looks` is whether more than its listings is looked at.
    pub(super) fn of(tree: &Tree, options: &WalkOptions<'_>, looks: bool) -> Self {
        let kind = rustix::fs::fstatfs(&tree.root).map_or(0, |stat| stat.f_type);
        let kind = u64::try_from(kind).unwrap_or(0);
        if !matches!(kind, FAT | ISO_9660) || tree.only.is_some() {
            return Self::default();
        }
        let looks = looks && kind == FAT;
        let device = looks.then(|| block_device(tree.device)).flatten();
        let is_whole = looks
            && options.files_from.is_none()
            && options.filter.is_empty()
            && rustix::fs::fstat(&tree.root).is_ok_and(|stat| stat.st_ino == FAT_ROOT);
        Self {
            tells_nothing: true,
            device,
            used: is_whole.then(|| used(tree)).flatten(),
            ..Self::default()
        }
    }

    /// Looks at the folders on the drive itself, where that is possible; returns what cannot be read of
    /// them, once. What is known before the walk of one that can be opened is told when it is entered:
    /// it may be in no source, or left out.
    pub(super) fn look(&mut self, tree: &Tree, goes_on: &dyn Fn() -> bool) -> Vec<Error> {
        let Some((device, path)) = &self.device else {
            return Vec::new();
        };
        if self.is_told {
            return Vec::new();
        }
        let mut read = |at: u64, bytes: &mut [u8]| read_all(device.as_fd(), at, bytes);
        let (faults, gave, is_all) = match fat::look(&mut read, goes_on) {
            Looked::Through(faults, gave) => (faults, gave, true),
            Looked::Partly(faults, gave) => (faults, gave, false),
            Looked::Stopped => return Vec::new(),
            Looked::Untold => {
                // What is in use still tells.
                self.device = None;
                return Vec::new();
            }
        };
        // It tells more than that, and is not misled by lost clusters.
        self.used = None;
        if let Some(fault) = faults
            .first()
            .filter(|_| !gave && !gives_its_first(device.as_fd()))
        {
            let what = "read its folders: the drive gives nothing";
            let lost = Error::new(ErrorKind::SourceLost, Side::Source, &tree.label, what);
            self.is_told = true;
            return vec![lost.because(fault.errno)];
        }
        let told = |fault: Fault| {
            let what = format!(
                "read the folder {:?} at byte {} of {}, where the kernel leaves out names without a word: \
                 what they stand for is not copied",
                format!("/{}", fault.folder),
                fault.at,
                path.display()
            );
            Error::source(&tree.label, &what, fault.errno)
        };
        let is_before = !std::mem::replace(&mut self.has_looked, true);
        let mut errors = Vec::new();
        for fault in faults {
            if self.known.contains(&fault.at) {
                continue;
            }
            self.known.push(fault.at);
            let folder = is_before.then(|| open_folder(tree, &fault.folder));
            let error = told(fault);
            match folder.flatten() {
                Some((folder, number)) => self.awaited.push((folder, number, error)),
                None => errors.push(error),
            }
        }
        if !is_all {
            let what = "not all its folders were looked at on the drive itself: there are too many of them, \
                        or of their blocks that cannot be read; further names may be missing";
            let error = Error::new(ErrorKind::SourceRead, Side::Source, &tree.label, what);
            errors.push(error);
        }
        self.is_told = !errors.is_empty();
        errors
    }

    /// Returns whether the listing of a folder, which has come to its end, ended before the folder does.
    pub(super) fn ends_early(&self, dir: BorrowedFd<'_>) -> bool {
        let place = |whence| rustix::fs::seek(dir, whence).ok();
        let size = || rustix::fs::fstat(dir).map_or(0, |stat| stat.st_size);
        let is_before = |place: u64| i64::try_from(place).is_ok_and(|place| place < size());
        self.tells_nothing && place(SeekFrom::Current(0)).is_some_and(is_before)
    }

    /// Notes a folder that is listed; returns what is to be told of it.
    pub(super) fn met_folder(&mut self, stat: &Statx) -> Vec<Error> {
        let bytes = stat.stx_blocks.saturating_mul(512);
        if stat.stx_ino == FAT_ROOT {
            self.root = bytes;
        } else {
            self.listed += bytes;
        }
        let is_it = |(_, number, _): &mut (OwnedFd, u64, Error)| *number == stat.stx_ino;
        let met = self.awaited.extract_if(.., is_it);
        met.map(|(_, _, error)| error).collect()
    }

    /// Notes what a folder lists.
    pub(super) fn met(&mut self, entry: &Entry) {
        self.listed += entry.allocated;
    }

    /// Notes that something is not listed that takes up room.
    pub(super) fn left_out(&mut self) {
        self.used = None;
    }

    /// Returns that more is in use than what was listed takes up, if it is.
    pub(super) fn unaccounted(&self, tree: &Tree) -> Option<Error> {
        let before = self.used?;
        // Who writes there meanwhile makes a difference as well.
        if used(tree) != Some(before) {
            return None;
        }
        let missing = missing(before.checked_sub(self.listed)?, self.root, has_many(tree))?;
        let what = format!(
            "{missing} bytes are in use on it that belong to nothing that was listed: names may be \
             missing, as the kernel does not tell when a folder of a FAT file system cannot be read; run \
             as root, which looks at the drive itself, or have it checked (fsck.fat), and run again"
        );
        Some(Error::new(
            ErrorKind::SourceRead,
            Side::Source,
            &tree.label,
            &what,
        ))
    }
}

/// Returns that the listing of a folder ended too early.
pub(super) fn ended_early(path: PathBuf) -> Error {
    let what = "list the directory: its listing ended before it does, and the kernel does not say why; \
                what was listed is kept, the rest is missing";
    Error::source(path, what, Errno::IO)
}

/// Returns how many bytes of those are missing that are in use and belong to nothing below the root, if
/// any are. The root has its part in them on FAT32, which `is_fat32` says for sure if it says so, and
/// none on FAT12 and FAT16.
fn missing(bytes: u64, root: u64, is_fat32: bool) -> Option<u64> {
    let bytes = if is_fat32 {
        bytes.saturating_sub(root)
    } else {
        bytes
    };
    (bytes > 0 && (is_fat32 || bytes != root)).then_some(bytes)
}

/// Returns whether a FAT file system has so many clusters that it is FAT32.
fn has_many(tree: &Tree) -> bool {
    rustix::fs::fstatvfs(&tree.root).is_ok_and(|stat| stat.f_blocks > FAT16_CLUSTERS_MAX)
}

/// Returns how many bytes are in use on the file system of a tree.
fn used(tree: &Tree) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(&tree.root).ok()?;
    let blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
    Some(blocks.saturating_mul(stat.f_frsize))
}

/// Opens the block device of this number, if we may read it.
fn block_device(number: u64) -> Option<(OwnedFd, PathBuf)> {
    let about = format!("/sys/dev/block/{}:{}/uevent", major(number), minor(number));
    let about = std::fs::read_to_string(about).ok()?;
    let name = about
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = PathBuf::from("/dev").join(name);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let device = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&device).ok()?;
    let is_it =
        FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice && stat.st_rdev == number;
    // Folders lie anywhere, and nothing around them is wanted.
    let _best_effort = rustix::fs::fadvise(&device, 0, None, rustix::fs::Advice::Random);
    is_it.then_some((device, path))
}

/// Opens a folder of a tree's FAT file system by its path from the root of that, also where the tree is
/// only a part of it; returns its number as well. Not one that the tree is in: what that lists, and so
/// the tree itself, may not have been looked at.
fn open_folder(tree: &Tree, path: &str) -> Option<(OwnedFd, u64)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |at: &OwnedFd, name: &str| rustix::fs::openat(at, name, flags, Mode::empty()).ok();
    let number = |folder: &OwnedFd| {
        let stat = rustix::fs::fstat(folder).ok()?;
        (stat.st_dev == tree.device).then_some(stat.st_ino)
    };
    let mut folder = open(&tree.root, ".")?;
    let mut above = Vec::new();
    let mut at = number(&folder)?;
    while at != FAT_ROOT {
        folder = open(&folder, "..").filter(|_| above.len() < DEPTH_MAX)?;
        at = number(&folder)?;
        above.push(at);
    }
    for name in path.split('/').filter(|name| !name.is_empty()) {
        check_name(name.as_bytes()).ok()?;
        folder = open(&folder, name)?;
    }
    let number = number(&folder)?;
    (!above.contains(&number)).then_some((folder, number))
}

/// Returns whether a drive gives its first block, from where it is stored if that can be had.
fn gives_its_first(device: BorrowedFd<'_>) -> bool {
    let mut block = [0; 4096];
    let len = std::num::NonZeroU64::new(block.len() as u64);
    let _best_effort = rustix::fs::fadvise(device, 0, len, rustix::fs::Advice::DontNeed);
    read_all(device, 0, &mut block).is_ok()
}

fn read_all(device: BorrowedFd<'_>, at: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(device, rest, at + done as u64) {
            // Behind its end there is nothing that a sound file system has.
            Ok(0) => return Err(Errno::IO),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_missing_is_what_neither_the_root_nor_anything_listed_takes_up() {
        // FAT12 or FAT16, or a small FAT32: of a sound one nothing is left, or its root.
        assert_eq!(missing(0, 16384, false), None);
        assert_eq!(missing(16384, 16384, false), None);
        assert_eq!(missing(2048, 16384, false), Some(2048));
        assert_eq!(missing(18432, 16384, false), Some(18432));
        // FAT32: its root is always left.
        assert_eq!(missing(16384, 16384, true), None);
        assert_eq!(missing(18432, 16384, true), Some(2048));
        assert_eq!(missing(32768, 16384, true), Some(16384));
        // Something went meanwhile.
        assert_eq!(missing(2048, 16384, true), None);
    }
    const SECTOR: u64 = 512;

    /// A FAT12 file system of one sector a cluster; its root has the folders `sys`, in the last cluster,
    /// and `two`, in the one before.
    fn image() -> File {
        let image = tempfile::tempfile().unwrap();
        let put = |at: u64, bytes: &[u8]| image.write_all_at(bytes, at).unwrap();
        let word = |at: u64, number: u16| put(at, &number.to_le_bytes());
        word(11, 512);
        put(13, &[1]);
        // The boot sector, one table, the root of 16 names, 200 clusters.
        word(14, 1);
        put(16, &[1]);
        word(17, 16);
        word(19, 203);
        word(22, 1);
        put(SECTOR + 300, &[0xFF; 3]);
        for (at, name, cluster) in [(0, b"sys", 201), (32, b"two", 200)] {
            put(2 * SECTOR + at, &[b' '; 11]);
            put(2 * SECTOR + at, name);
            put(2 * SECTOR + at + 11, &[0x10]);
            word(2 * SECTOR + at + 26, cluster);
        }
        image.set_len(203 * SECTOR).unwrap();
        image
    }

    #[test]
    fn what_fails_after_the_first_look_is_told_of_beside_what_failed_before() {
        // Its root has the number of one of FAT, and the folder `sys`.
        let root: OwnedFd = File::open("/proc").unwrap().into();
        let stat = rustix::fs::fstat(&root).unwrap();
        assert_eq!(stat.st_ino, FAT_ROOT);
        let tree = Tree {
            index: 0,
            label: "/card".into(),
            root,
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device: stat.st_dev,
            direct: false,
            trusts_holes: true,
            trusts_sizes: true,
            keeps_inodes: false,
            finished: crossbeam::channel::bounded(1).0,
        };
        let image = image();
        let device = OwnedFd::from(image.try_clone().unwrap());
        let mut hidden = Hidden {
            device: Some((device, "/dev/card".into())),
            ..Hidden::default()
        };
        let mut look = || {
            let errors = hidden.look(&tree, &|| true);
            errors.iter().map(Error::to_string).collect::<Vec<_>>()
        };
        image.set_len(202 * SECTOR).unwrap();
        // It is told when the folder is entered.
        assert_eq!(look(), [""; 0]);
        image.set_len(201 * SECTOR).unwrap();
        let told = look();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("\"/two\" at byte 102912 of /dev/card"),
            "{told:?}"
        );
        assert!(!told[0].contains("/sys"), "{told:?}");
        assert_eq!(look(), [""; 0], "it is told once");
        let awaited: Vec<String> = hidden.awaited.iter().map(|it| it.2.to_string()).collect();
        assert_eq!(awaited.len(), 1, "{awaited:?}");
        assert!(
            awaited[0].contains("\"/sys\" at byte 103424"),
            "{awaited:?}"
        );
    }
}
