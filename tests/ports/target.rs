//! Using the target port: stage, write as the geometry wants, seal, publish.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use inhaul::buffer::Arena;
use inhaul::error::{Error, ErrorKind};
use inhaul::scan::Attributes;
use inhaul::target::{LocalTarget, Outline, Policy, Sealed, Settings, Staged, Stager, Target};
use rustix::fs::{CWD, Mode, OFlags};

/// What every file gets that a test has no other wish for: times no file gets by itself.
pub(crate) fn plain(mode: u32) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        atime: (1_100_000_000, 1),
        mtime: (1_000_000_000, 123_456_789),
        xattrs: Vec::new(),
        cleared: 0,
        unread: None,
    }
}

pub(crate) fn handle(dir: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, dir, flags, Mode::empty()).unwrap()
}

pub(crate) fn try_open(dir: &Path) -> Result<LocalTarget, Error> {
    try_open_choosing(dir, &mut |_, _| false)
}

fn try_open_choosing(
    dir: &Path,
    choose: &mut dyn FnMut(&str, BorrowedFd<'_>) -> bool,
) -> Result<LocalTarget, Error> {
    let policy = Policy {
        setid: true,
        caps: false,
        owner: true,
    };
    let settings = Settings {
        policy,
        direct: true,
        read_back: false,
    };
    LocalTarget::open(dir.to_owned(), handle(dir), settings, choose)
}

/// Opens a target that nobody should hold.
pub(crate) fn open(dir: &Path) -> LocalTarget {
    open_choosing(dir, &mut |_, _| false)
}

/// The same; `choose` decides about the job that was not finished.
pub(crate) fn open_choosing(
    dir: &Path,
    choose: &mut dyn FnMut(&str, BorrowedFd<'_>) -> bool,
) -> LocalTarget {
    for _ in 0..200 {
        match try_open_choosing(dir, choose) {
            // A program that another test is starting holds the lock for a moment.
            Err(error) if error.kind() == ErrorKind::Locked => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", dir.display());
}

pub(crate) fn stager(target: &dyn Target) -> Box<dyn Stager> {
    target.stager("test").unwrap()
}

/// Stages and writes a small file.
pub(crate) fn write_small(stager: &mut dyn Stager, path: &str, bytes: &[u8]) -> Staged {
    let outline = Outline {
        size: bytes.len() as u64,
        sparse: false,
        small: true,
    };
    let staged = stager.stage(path.as_bytes(), outline).unwrap();
    stager.write_small(path.as_bytes(), &staged, bytes).unwrap();
    staged
}

/// Writes bytes where they belong, padded as the geometry wants; the pad is not zeros, as if a
/// buffer had been used before.
pub(crate) fn write_at(staged: &Staged, offset: u64, bytes: &[u8]) {
    let Some(file) = &staged.file else { return };
    let align = staged.geometry.align;
    let mut arena = Arena::new(2).unwrap();
    let credits = arena.lend(2).unwrap();
    let mut offset = offset;
    for block in bytes.chunks(inhaul::buffer::SLOT_LEN) {
        let mut lease = credits.take().unwrap();
        lease.as_mut_slice().fill(0xee);
        lease.as_mut_slice()[..block.len()].copy_from_slice(block);
        let padded = block.len().next_multiple_of(align);
        let wrote = rustix::io::pwrite(file, &lease.as_slice()[..padded], offset).unwrap();
        assert_eq!(wrote, padded);
        offset += block.len() as u64;
    }
}

pub(crate) fn seal(
    stager: &mut dyn Stager,
    staged: Staged,
    size: usize,
    path: &str,
    replace: bool,
) -> Sealed {
    let (size, path) = (size as u64, path.as_bytes().to_vec());
    let sealed = stager.seal(staged, size, path, replace, &plain(0o644));
    let (sealed, applied) = sealed.unwrap();
    assert_eq!(applied.losses, []);
    sealed
}

/// Returns a small file that lacks only its name.
pub(crate) fn small(stager: &mut dyn Stager, path: &str, bytes: &[u8], replace: bool) -> Sealed {
    let staged = write_small(stager, path, bytes);
    seal(stager, staged, bytes.len(), path, replace)
}

/// Returns a large file, preallocated where that is done, that lacks only its name.
pub(crate) fn large(stager: &mut dyn Stager, path: &str, bytes: &[u8], replace: bool) -> Sealed {
    let outline = Outline {
        size: bytes.len() as u64,
        sparse: false,
        small: false,
    };
    let staged = stager.stage(path.as_bytes(), outline).unwrap();
    write_at(&staged, 0, bytes);
    seal(stager, staged, bytes.len(), path, replace)
}

/// Publishes a batch all of which must succeed.
#[track_caller]
pub(crate) fn publish(target: &dyn Target, batch: &[Sealed]) {
    let answers = target.publish(batch);
    assert_eq!(answers.len(), batch.len());
    for answer in answers {
        answer.unwrap();
    }
}

/// Makes a directory as anybody might.
pub(crate) fn planted(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// Returns the bytes the file system has set aside for an open file.
pub(crate) fn allocated(fd: impl AsFd) -> u64 {
    let stat = rustix::fs::fstat(fd).unwrap();
    u64::try_from(stat.st_blocks).unwrap() * 512
}

/// Returns the modification time of a file as attributes have it.
pub(crate) fn mtime(meta: &std::fs::Metadata) -> (i64, u32) {
    use std::os::unix::fs::MetadataExt;
    (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap())
}
