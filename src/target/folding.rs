//! Targets that do not tell all names apart: upper and lower case, or two spellings of one letter
//! in Unicode.
//!
//! There a second name of a source leads to the file of the first. So a name that is taken is looked
//! for in the list of its directory: only what stands there byte by byte is in its own place, and may
//! be replaced or added to.
//!
//! Some of these list a name otherwise than it was given: without dots and spaces at its end (FAT), in
//! other pieces (HFS+). How is asked by an empty file of that name in our stage.
//!
//! **Boundary.** Looks; all it makes, and takes away again, is empty and in our stage.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, ioctl_getflags, openat, statat};
use rustix::io::Errno;

use super::home::HOME;
use super::{FsType, fs_type};
use crate::beneath;

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
        let listed = listed(dir.as_fd(), name, place)?;
        let other = listed.unwrap_or_else(|| b"another name".to_vec());
        Ok((other != name).then_some(other))
    }
}

/// Returns what a directory lists in the place of `name`, which leads to inode `place`.
fn listed(dir: BorrowedFd<'_>, name: &[u8], place: u64) -> Result<Option<Vec<u8>>, Errno> {
    let mut other = None;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let listed = entry.file_name().to_bytes();
        if listed == name {
            return Ok(Some(name.to_vec()));
        }
        if entry.ino() == place || listed.eq_ignore_ascii_case(name) {
            other = Some(listed.to_vec());
        }
    }
    Ok(other)
}

/// What the name of the folder begins with that empty files are made in, to see how they are listed.
pub(super) const SPELLING: &str = "spelling";

/// A target that lists some names otherwise than they were given.
#[derive(Debug)]
pub(super) struct Spelling {
    /// A folder of ours that nothing else is put into. Of two names that are one there, only one is
    /// asked for at a time.
    stage: Mutex<Arc<OwnedFd>>,
}

impl Spelling {
    /// Finds out whether a target is one; `stage` is a folder of ours that nothing else is put into.
    pub(super) fn probe(stage: Arc<OwnedFd>) -> Option<Self> {
        let spelling = Self {
            stage: Mutex::new(stage),
        };
        let odd = [COMPOSED, b"."].concat();
        let is_as_given = spelling.of(&odd).is_ok_and(|listed| listed == odd);
        (!is_as_given).then_some(spelling)
    }

    /// Returns how a name is listed, whichever folder it is in. Costs four calls. Where there is no
    /// room for an empty file that is not found out: nothing can be put there either.
    ///
    /// # Errors
    /// When there can be no such name.
    pub(super) fn of(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&*stage, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file,
            Err(Errno::NOSPC | Errno::DQUOT) => return Ok(name.to_vec()),
            Err(errno) => return Err(errno),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = rustix::fs::fstat(&file).and_then(|stat| {
            let dir = openat(&*stage, c".", flags, Mode::empty())?;
            listed(dir.as_fd(), name, stat.st_ino)
        });
        // One that stays is swept as what was staged is.
        let _best_effort = rustix::fs::unlinkat(&*stage, name, AtFlags::empty());
        Ok(found?.unwrap_or_else(|| name.to_vec()))
    }
}

/// Most folders that are looked into for a file.
const LOOKED_INTO: usize = 1024;

/// Returns whether nothing but folders is below a folder of a target; no, too, when there are very
/// many.
///
/// # Errors
/// When one of them cannot be read.
pub(super) fn has_no_files(root: BorrowedFd<'_>, path: &[u8]) -> Result<bool, Errno> {
    let mut left = vec![path.to_vec()];
    let mut looked = 0;
    while let Some(folder) = left.pop() {
        looked += 1;
        let dir = beneath::read_dir_fd(root, &folder)?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let stat = statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                _ => false,
            };
            if !is_dir || looked + left.len() >= LOOKED_INTO {
                return Ok(false);
            }
            left.push([&folder, &b"/"[..], name].concat());
        }
    }
    Ok(true)
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
