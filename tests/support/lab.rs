//! A place for many images of drives: in memory where there is room, on a file system whose files
//! can be cloned in an instant.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Scratch;
use super::mounts::{Fs, Mounted};
use super::sentinel::Sentinel;

/// Where memory can be had as files.
const MEMORY: &str = "/dev/shm";
/// Length of the file that everything in the lab lies in. It is sparse.
const MIB: u64 = 6 << 10;

/// The place; gone when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    // In this order they go.
    outer: Mounted,
    _sentinel: Sentinel,
    _scratch: Scratch,
}

impl Lab {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let memory = rustix::fs::statvfs(MEMORY).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let scratch = if memory >> 20 >= MIB {
            Scratch::within(Path::new(MEMORY))
        } else {
            Scratch::new()
        };
        let sentinel = Sentinel::new(
            "sleep 2; umount -l \"$1/lab\"; rm -rf --one-file-system \"$1\"",
            &[scratch.path()],
        );
        let image = scratch.join("lab.img");
        File::create(&image).unwrap().set_len(MIB << 20).unwrap();
        // What is removed in the lab goes back to memory.
        let outer = Mounted::make(&scratch.join("lab"), &image, Fs::Xfs, "noatime,discard");
        Self {
            outer,
            _sentinel: sentinel,
            _scratch: scratch,
        }
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        self.outer.path()
    }

    /// Returns the path of something in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.outer.join(name)
    }

    /// Makes a directory in it.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        self.outer.dir(name)
    }
}

/// Makes `path` a copy of `original` as it is at one moment: a clone where the file system can,
/// else its data copied piece by piece, which only shows one moment if nobody writes meanwhile.
pub(crate) fn clone_file(original: &File, path: &Path) -> File {
    let mut options = File::options();
    let copy = options
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    if rustix::fs::ioctl_ficlone(&copy, original).is_ok() {
        return copy;
    }
    let length = original.metadata().unwrap().len();
    copy.set_len(length).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(original, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            answer => answer.unwrap(),
        };
        let end = rustix::fs::seek(original, SeekFrom::Hole(start)).unwrap();
        at = start;
        while at < end {
            let len = usize::try_from((end - at).min(1 << 20)).unwrap();
            original.read_exact_at(&mut buffer[..len], at).unwrap();
            copy.write_all_at(&buffer[..len], at).unwrap();
            at += len as u64;
        }
    }
    copy
}
