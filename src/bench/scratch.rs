//! A file to write to, and to leave no trace of.
//!
//! It has no name (`O_TMPFILE`), so that it goes with its descriptor, however this program ends.
//! Where a file system cannot do that, it is made with a name that is taken away at once; what a
//! kill in between leaves, [`sweep`] removes before the next bench writes there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::cursor::Extent;
use super::job::BenchJob;
use super::sample::Ties;
use super::silence::{ask, sync_limit};
use crate::buffer::{ALIGN, SLOT_LEN};
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{Need, room};
use crate::target::{FsType, fs_type};

/// What a scratch file with a name is called; the process and a number follow.
const PREFIX: &str = ".inhaul-bench.";
/// Left free besides what is written: a full file system slows everybody who uses it.
const SPARE: u64 = 64 << 20;
/// Most names tried.
const NAMES_MAX: u32 = 100;

/// A directory to write in.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    pub(crate) dir: Arc<OwnedFd>,
    pub(crate) label: &'p Path,
    pub(crate) fs: FsType,
    /// How long its drive may be silent, and when to stop.
    pub(crate) ties: Ties,
}

impl<'p> Place<'p> {
    /// Opens a directory and removes what a killed bench left in it. Refuses what would not fit with
    /// some to spare.
    ///
    /// # Errors
    /// `Refused` when what is written there stays in memory, or when there is no room for `bytes`, with
    /// both figures; `SourceStalled`; else that of opening it.
    pub(crate) fn open(label: &'p Path, bytes: u64, ties: &Ties) -> Result<Self, Error> {
        let path = label.to_owned();
        let (dir, fs) = ask(label, ties.stall, ties, move |_| open(&path, bytes))??;
        Ok(Self {
            dir: Arc::new(dir),
            label,
            fs,
            ties: ties.clone(),
        })
    }

    /// Makes a scratch file of `bytes`, a multiple of a buffer's length, with its space set aside
    /// where a copy would do so.
    ///
    /// # Errors
    /// As open(2) and fallocate(2), classed as the target's; `SourceStalled`.
    pub(crate) fn make(&self, bytes: u64) -> Result<Extent, Error> {
        let (dir, label) = (Arc::clone(&self.dir), self.label.to_owned());
        let (direct, _) = self.fs.direct_write();
        let limit = sync_limit(self.ties.stall, bytes);
        let file = ask(self.label, limit, &self.ties, move |_| {
            make(&dir, &label, direct, bytes)
        });
        let file = file.map_err(of_target)??;
        Ok(Extent {
            file: Arc::new(file),
            start: 0,
            len: bytes,
            path: Arc::new(self.label.join("(scratch file)")),
        })
    }

    /// Lets go of what has scratch files of so many bytes open: the last close frees their space, and
    /// may wait for the drive. A stop is waited for no longer, and no failure.
    ///
    /// # Errors
    /// `SourceStalled`.
    pub(crate) fn close(&self, bytes: u64, files: impl Send + 'static) -> Result<(), Error> {
        // Where freeing means writing, or asking a drive to trim, it takes as long as that does.
        let limit = sync_limit(self.ties.stall, bytes);
        match ask(self.label, limit, &self.ties, move |_| {
            drop(files);
        }) {
            Err(error) if error.kind() != ErrorKind::Stopped => Err(of_target(error)),
            _ => Ok(()),
        }
    }
}

/// Returns the error of a call that asked a target, which [`ask`] does not know.
pub(crate) fn of_target(error: Error) -> Error {
    match error.kind() {
        ErrorKind::SourceStalled | ErrorKind::Stopped => {
            Error::new(error.kind(), Side::Target, error.path(), &error.reason())
        }
        _ => error,
    }
}

/// Where it may write: nowhere, unless asked.
#[derive(Debug)]
pub(crate) struct Places<'j> {
    pub(crate) target: Option<Place<'j>>,
    /// One for each PATH; `None` for those that are only read.
    pub(crate) own: Vec<Option<Place<'j>>>,
}

impl<'j> Places<'j> {
    /// Opens them, and refuses what would not fit before anything is measured.
    ///
    /// # Errors
    /// As [`Place::open`], but for one of `own` that does not answer: that is left out.
    pub(crate) fn open(job: &'j BenchJob, ties: &Ties) -> Result<Self, Error> {
        let open = |path| Place::open(path, job.scratch_bytes, ties);
        let own_of = |path: &'j PathBuf| -> Result<Option<Place<'j>>, Error> {
            let looked_at = path.clone();
            let look = move |_: &Ties| looked_at.is_dir();
            // Only directories; a block device is never written to.
            if job.write && ask(path, ties.stall, ties, look)? {
                open(path).map(Some)
            } else {
                Ok(None)
            }
        };
        let own = job.paths.iter().map(|path| match own_of(path) {
            // Told of when it is this one's turn.
            Err(error) if error.kind() == ErrorKind::SourceStalled => Ok(None),
            place => place,
        });
        let opened = own.collect::<Result<_, Error>>().and_then(|own| {
            let target = job.target.as_deref().map(open).transpose()?;
            Ok(Self { target, own })
        });
        match opened {
            // Nothing is measured then, and nothing was.
            Err(_) if ties.stopped() => Ok(Self {
                target: None,
                own: Vec::new(),
            }),
            opened => opened,
        }
    }
}

fn open(label: &Path, bytes: u64) -> Result<(OwnedFd, FsType), Error> {
    let cannot = |errno| Error::target(label, "open the directory", errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(label, flags, Mode::empty()).map_err(cannot)?;
    let fs = fs_type(&dir).map_err(cannot)?;
    if fs == FsType::Memory {
        let what = "its files are in memory: a rate would be that of memory";
        return Err(Error::new(ErrorKind::Refused, Side::Target, label, what));
    }
    sweep(dir.as_fd());
    check_room(&dir, label, bytes)?;
    Ok((dir, fs))
}

fn check_room(dir: &OwnedFd, label: &Path, bytes: u64) -> Result<(), Error> {
    let room =
        room(dir.as_fd()).map_err(|errno| Error::target(label, "ask how much is free", errno))?;
    let need = Need {
        bytes: bytes.saturating_add(SPARE),
        inodes: 1,
    };
    if room.fits(need) {
        return Ok(());
    }
    let what = format!(
        "a scratch file takes {} MB and {} MB are to stay free, but {} MB are there; give \
             less with --scratch",
        bytes / 1_000_000,
        SPARE / 1_000_000,
        room.bytes / 1_000_000,
    );
    Err(Error::new(ErrorKind::Refused, Side::Target, label, &what))
}

fn make(dir: &OwnedFd, label: &Path, direct: bool, bytes: u64) -> Result<OwnedFd, Error> {
    let cannot = |errno| Error::target(label, "make a scratch file", errno);
    let file = match unnamed(dir.as_fd(), direct) {
        // What kernels and file systems without O_TMPFILE answer. Source: open(2).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => unlinked(dir.as_fd()),
        answer => answer,
    };
    let file = file.map_err(cannot)?;
    if direct {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(cannot(errno)),
        }
    }
    Ok(file)
}

fn unnamed(dir: BorrowedFd<'_>, direct: bool) -> Result<OwnedFd, Errno> {
    // EXCL: nobody can give it a name later.
    let mut flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR)
}

/// Makes a file with a name and takes the name away. Held by a lock in between, so that the sweep
/// of another bench leaves it alone.
fn unlinked(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    unlinked_by(dir, |file| {
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
    })
}

fn unlinked_by(
    dir: BorrowedFd<'_>,
    lock: impl Fn(&OwnedFd) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for number in 0..NAMES_MAX {
        let name = format!("{PREFIX}{}.{number}", std::process::id());
        match rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                // Where there are no locks, no sweep takes anything away, for it cannot have one either.
                let _best_effort = lock(&file);
                rustix::fs::unlinkat(dir, &name, AtFlags::empty())?;
                return Ok(file);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// Removes scratch files that a killed bench of this user left in a directory; returns how many.
///
/// Only what has such a name, is a regular file of this user's and is not held by its lock.
pub(crate) fn sweep(dir: BorrowedFd<'_>) -> usize {
    let Ok(entries) = Dir::read_from(dir) else {
        return 0;
    };
    let me = rustix::process::geteuid().as_raw();
    let mut gone = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_ours(name.to_bytes()) {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(dir, name, flags, Mode::empty()) else {
            continue;
        };
        let mine = rustix::fs::fstat(&file).is_ok_and(|stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            kind == FileType::RegularFile && stat.st_uid == me
        });
        let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if mine && free && rustix::fs::unlinkat(dir, name, AtFlags::empty()).is_ok() {
            gone += 1;
        }
    }
    gone
}

/// `.inhaul-bench.PID.NUMBER`, and nothing else.
fn is_ours(name: &[u8]) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
        let mut parts = rest.split(|byte| *byte == b'.');
        let (process, number, more) = (parts.next(), parts.next(), parts.next());
        process.is_some_and(digits) && number.is_some_and(digits) && more.is_none()
    })
}

/// Fills memory with bytes that no drive can shrink: a xorshift, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: &mut [u8]) {
    // Odd, and so never the zero that a xorshift stays at.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed.wrapping_mul(2) | 1);
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let noise = state.to_le_bytes();
        if let Some(noise) = noise.get(..chunk.len()) {
            chunk.copy_from_slice(noise);
        }
    }
}

/// Returns `bytes` as whole buffers, at least one.
pub(crate) fn whole_buffers(bytes: u64) -> u64 {
    let slot = SLOT_LEN as u64;
    debug_assert_eq!(SLOT_LEN % ALIGN, 0, "a buffer can be written with O_DIRECT");
    (bytes / slot).max(1) * slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn neither_way_of_making_one_leaves_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        let first = unnamed(fd.as_fd(), false);
        let second = unlinked(fd.as_fd()).unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
        rustix::io::pwrite(&second, b"kept", 0).unwrap();
        assert_eq!(rustix::fs::fstat(&second).unwrap().st_nlink, 0);
        if let Ok(first) = first {
            assert_eq!(rustix::fs::fstat(&first).unwrap().st_nlink, 0);
        }
    }

    #[test]
    fn a_file_system_without_locks_can_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        for refusal in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK] {
            let file = unlinked_by(fd.as_fd(), |_| Err(refusal)).unwrap();
            rustix::io::pwrite(&file, b"kept", 0).unwrap();
            assert_eq!(names(dir.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn the_sweep_takes_what_was_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| File::create(dir.path().join(name)).unwrap();
        make(".inhaul-bench.12.0");
        make(".inhaul-bench.12.1.bak");
        make(".inhaul-bench.x.1");
        make(".inhaul-bench.");
        make("inhaul-bench.12.0");
        let held = make(".inhaul-bench.13.0");
        rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        std::fs::create_dir(dir.path().join(".inhaul-bench.14.0")).unwrap();
        std::os::unix::fs::symlink("victim", dir.path().join(".inhaul-bench.15.0")).unwrap();
        make("victim");
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        assert_eq!(sweep(fd.as_fd()), 1);
        let kept = [
            ".inhaul-bench.",
            ".inhaul-bench.12.1.bak",
            ".inhaul-bench.13.0",
            ".inhaul-bench.14.0",
            ".inhaul-bench.15.0",
            ".inhaul-bench.x.1",
            "inhaul-bench.12.0",
            "victim",
        ];
        assert_eq!(names(dir.path()), kept);
        drop(held);
        assert_eq!(sweep(fd.as_fd()), 1, "its holder is gone");
    }

    #[test]
    fn what_would_not_fit_is_refused() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let ties = Ties::default();
        Place::open(dir.path(), 1 << 20, &ties).unwrap();
        let error = Place::open(dir.path(), 1 << 60, &ties).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.reason().contains("give less with --scratch"),
            "{error}"
        );
        assert_eq!(whole_buffers(1), 1 << 20);
        assert_eq!(whole_buffers((5 << 20) + 7), 5 << 20);
    }

    #[test]
    fn noise_is_no_pattern() {
        let mut bytes = [0; 4096];
        noise(0, &mut bytes);
        let mut seen = [0_u32; 256];
        for byte in bytes {
            seen[usize::from(byte)] += 1;
        }
        assert!(seen.iter().all(|&count| count < 64), "{seen:?}");
    }
}
