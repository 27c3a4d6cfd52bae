//! Targets that do not tell all names apart: upper and lower case, or two spellings of one letter
//! in Unicode.
//!
//! There a second name of a source leads to the file of the first. So a name that is taken is looked
//! for in the list of its directory: only what stands there byte by byte is in its own place, and may
//! be replaced or added to.
//!
//! **Boundary.** Looks; the one thing it makes and takes away again is an empty folder in our stage.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, IFlags, Mode, OFlags, ioctl_getflags, openat, statat};
use rustix::io::Errno;

use super::home::HOME;
use super::{FsType, fs_type};

/// `FS_CASEFOLD_FL` of linux/fs.h: the names in this directory fold. ext4, f2fs and tmpfs have it
/// for single directories.
const CASEFOLD: IFlags = IFlags::from_bits_retain(0x4000_0000);

/// An e with an acute accent, in one piece and in two.
const COMPOSED: &[u8] = b"\xc3\xa9";
const DECOMPOSED: &[u8] = b"e\xcc\x81";

/// Whether names fold in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folding {
    /// Everywhere.
    Always,
    /// In directories that are marked so, if there are any.
    Marked,
    /// Nowhere.
    Never,
}

impl Folding {
    /// Finds out about a target of this type, whose private folder is there; `stage` is a folder in
    /// which an empty one is in nobody's way.
    pub(super) fn probe(fs: FsType, target: BorrowedFd<'_>, stage: BorrowedFd<'_>) -> Self {
        let leads = |dir, name: &[u8]| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let ours = leads(target, HOME.as_bytes());
        let other = leads(target, HOME.to_ascii_uppercase().as_bytes());
        if let (Ok(ours), Ok(other)) = (ours, other)
            && (ours.st_dev, ours.st_ino) == (other.st_dev, other.st_ino)
        {
            return Self::Always;
        }
        match fs {
            FsType::Xfs | FsType::Btrfs => return Self::Never,
            FsType::Ext4 | FsType::Memory => return Self::Marked,
            FsType::Zfs | FsType::Overlay | FsType::Fuse | FsType::Other => {}
        }
        // What cannot have such a name cannot have it twice.
        let made = rustix::fs::mkdirat(stage, COMPOSED, Mode::RWXU);
        if !matches!(made, Ok(()) | Err(Errno::EXIST)) {
            return Self::Marked;
        }
        let folds = leads(stage, DECOMPOSED).is_ok();
        // If it stays, the stage is pruned of it at the end.
        let _best_effort = rustix::fs::unlinkat(stage, COMPOSED, AtFlags::REMOVEDIR);
        if folds { Self::Always } else { Self::Marked }
    }

    /// Returns what a directory lists in the place of `name`, which was just found there, if that is
    /// not `name` itself.
    ///
    /// Costs reading the directory up to its name where names fold, else two calls at most.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn namesake(
        self,
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, Errno> {
        if self == Self::Never {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(dir, c".", flags, Mode::empty())?;
        if self == Self::Marked && !is_marked(dir.as_fd()) {
            return Ok(None);
        }
        let place = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat.st_ino,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let mut other = None;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let listed = entry.file_name().to_bytes();
            if listed == name {
                return Ok(None);
            }
            if entry.ino() == place || listed.eq_ignore_ascii_case(name) {
                other = Some(listed.to_vec());
            }
        }
        Ok(Some(other.unwrap_or_else(|| b"another name".to_vec())))
    }
}

/// Returns whether a name that was found in a directory may be the spelling of another: unless that
/// can be ruled out.
pub(crate) fn may_fold(dir: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(dir, c".", flags, Mode::empty()) else {
        return true;
    };
    match fs_type(&dir) {
        Ok(FsType::Xfs | FsType::Btrfs) => false,
        Ok(FsType::Ext4 | FsType::Memory) => is_marked(dir.as_fd()),
        _ => true,
    }
}

fn is_marked(dir: BorrowedFd<'_>) -> bool {
    ioctl_getflags(dir).is_ok_and(|flags| flags.contains(CASEFOLD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn open(path: &std::path::Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_directory_that_tells_names_apart_is_found_to() {
        let top = tempfile::tempdir().unwrap();
        // Another folder is no other spelling of ours.
        for name in [HOME.to_owned(), HOME.to_ascii_uppercase()] {
            std::fs::create_dir(top.path().join(name)).unwrap();
        }
        let dir = open(top.path());
        for fs in [FsType::Xfs, FsType::Ext4, FsType::Other] {
            let folding = Folding::probe(fs, dir.as_fd(), dir.as_fd());
            assert_ne!(folding, Folding::Always, "{fs:?}");
            assert_eq!(folding.namesake(dir.as_fd(), HOME.as_bytes()), Ok(None));
        }
        let left = std::fs::read_dir(top.path()).unwrap().count();
        assert_eq!(left, 2, "the probe leaves nothing");
    }

    #[test]
    fn only_what_is_listed_is_in_its_own_place() {
        let top = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            std::fs::write(top.path().join(name), b"").unwrap();
        }
        let dir = open(top.path());
        let asked = |name| Folding::Always.namesake(dir.as_fd(), name);
        assert_eq!(asked(b"one"), Ok(None));
        assert_eq!(asked(b"gone"), Ok(None), "it went away meanwhile");
        // Leads somewhere and is not listed, as another spelling would.
        assert_eq!(asked(b"./one"), Ok(Some(b"one".to_vec())));
        assert_eq!(Folding::Never.namesake(dir.as_fd(), b"./one"), Ok(None));
    }
}
