//! Looking at a copy block by block: is it what was read from its source, and which of its blocks are
//! not.
//!
//! Every read goes past the page cache where the file system can do that, and what clean pages there
//! are is dropped before: an answer from memory would only say what was meant to be written.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Advice, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::mend::Mender;
use super::standing::{Copied, found, staged};
use crate::beneath;
use crate::buffer::{ALIGN, Lease};
use crate::digest::{BLOCK_LEN, BlockValue, Hash, block_count, block_value};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{Done, Loaded};
use crate::scan::as_path;
use crate::target::TargetStamp;

/// What each block of a file has to be.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The digest of a file of one block.
    Whole(Hash),
    /// The values of all its blocks.
    Blocks(Vec<BlockValue>),
    /// The digest of a file whose blocks are not recorded.
    Digest(Hash),
}

/// Under which name the blocks of an inode with several are recorded. Looked up once, when the
/// first file asks for it.
#[derive(Debug, Default)]
pub(crate) struct BlockNames(OnceLock<HashMap<u64, Vec<u8>>>);

impl BlockNames {
    /// Returns the record of the name of the same inode that has blocks.
    fn of<'l>(&self, done: &Done<'_>, loaded: &'l Loaded) -> Option<Done<'l>> {
        let names = self.0.get_or_init(|| {
            loaded
                .iter_done()
                .filter(|done| done.linked && done.target_stamp.size > BLOCK_LEN)
                .filter(|done| loaded.blocks(done.target_path).is_some())
                .map(|done| (done.target_stamp.ino, done.target_path.to_vec()))
                .collect()
        });
        let first = loaded.done(names.get(&done.target_stamp.ino)?)?;
        let same = first.digest == done.digest && first.target_stamp == done.target_stamp;
        same.then_some(first)
    }
}

impl Expected {
    /// Returns what is recorded of the blocks of a file, under this name or another of its inode;
    /// its digest when that is not all of them.
    pub(crate) fn of(done: &Done<'_>, loaded: &Loaded, names: &BlockNames) -> Self {
        let digest = Copied::of(done).digest;
        if done.target_stamp.size <= BLOCK_LEN {
            return Self::Whole(digest);
        }
        let other = || {
            let first = names.of(done, loaded).filter(|_| done.linked)?;
            Self::recorded(&first, loaded)
        };
        let blocks = Self::recorded(done, loaded).or_else(other);
        blocks.unwrap_or(Self::Digest(digest))
    }

    fn recorded(done: &Done<'_>, loaded: &Loaded) -> Option<Self> {
        let view = loaded.blocks(done.target_path)?;
        let same = staged(&view).is_some_and(|id| id.ino == done.target_stamp.ino)
            && view.source_stamp == done.source_stamp;
        let values: Vec<BlockValue> = view.values().copied().collect();
        let all = block_count(done.target_stamp.size);
        (same && values.len() as u64 == all).then_some(Self::Blocks(values))
    }

    pub(super) fn fits(&self, index: u64, bytes: &[u8]) -> bool {
        match self {
            Self::Whole(digest) => blake3::hash(bytes) == *digest,
            Self::Blocks(values) => usize::try_from(index)
                .ok()
                .and_then(|index| values.get(index))
                .is_some_and(|value| block_value(index, bytes) == *value),
            Self::Digest(_) => false,
        }
    }
}

/// What a look at a file showed.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its bytes are those that were read from the source.
    Right,
    /// These blocks are not, or the medium does not give them.
    Blocks(Vec<u64>),
    /// They are not, and which is not recorded.
    Somewhere,
}

/// How often a page that stays in the page cache is to be dropped.
const DROPS_MAX: usize = 25;

/// One file of a target, open for reading.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    file: OwnedFd,
    /// The same through the page cache: to see whether it is in there. `None` when it cannot be had.
    probe: Option<OwnedFd>,
    /// Set when something was in the page cache although it was to be dropped.
    met_cached: Cell<bool>,
    /// Its path below the target.
    pub(super) path: &'a [u8],
    pub(super) size: u64,
    /// What it has to be recognised by all the time.
    stamp: Option<TargetStamp>,
    pub(super) expected: Expected,
}

pub(super) fn failed(path: &[u8], what: &str, errno: Errno) -> Error {
    Error::target(as_path(path), what, errno)
}

/// Returns that nothing is known of the bytes of a file.
fn unverified(path: &[u8], what: &str) -> Error {
    Error::new(ErrorKind::Unverified, Side::Target, as_path(path), what)
}

fn changed(path: &[u8]) -> Error {
    unverified(path, "changed in the target since it was copied")
}

impl<'a> Copy<'a> {
    /// Opens the copy that `done` is about, for reading. `strict`: it has to be that very file, not
    /// changed since; else any of its length will do, for a target may have been moved to other
    /// storage.
    ///
    /// # Errors
    /// `Missing` when it is not there any more; `Unverified` when it was changed or cannot be
    /// opened: neither says anything against the bytes that were copied.
    pub(crate) fn open(
        target: BorrowedFd<'_>,
        done: &Done<'a>,
        expected: Expected,
        strict: bool,
    ) -> Result<Self, Error> {
        let path = done.target_path;
        let file = open_direct(target, path, OFlags::RDONLY).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => {
                let what = "not in the target any more";
                Error::new(ErrorKind::Missing, Side::Target, as_path(path), what).because(errno)
            }
            Errno::LOOP | Errno::XDEV => changed(path),
            errno => unverified(path, "it cannot be opened to read it back").because(errno),
        })?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let probe = beneath::open(target, path, flags, Mode::empty()).ok();
        if let Some(probe) = &probe {
            // Looking must not bring in what is looked at next.
            let _best_effort = rustix::fs::fadvise(probe, 0, None, Advice::Random);
        }
        let copy = Self {
            file,
            met_cached: Cell::new(probe.is_none()),
            probe,
            path,
            size: done.target_stamp.size,
            stamp: strict.then(|| stamp_of(done)),
            expected,
        };
        let stat = copy.stat()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || stamp_in(&stat).size != copy.size {
            return Err(changed(path));
        }
        copy.is_unchanged()?;
        Ok(copy)
    }

    fn stat(&self) -> Result<Stat, Error> {
        rustix::fs::fstat(&self.file)
            .map_err(|errno| unverified(self.path, "look at it").because(errno))
    }

    /// Returns what it is recognised by now.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) fn stamp_now(&self) -> Result<TargetStamp, Error> {
        self.stat().map(|stat| stamp_in(&stat))
    }

    pub(super) fn is_unchanged(&self) -> Result<(), Error> {
        match self.stamp {
            Some(stamp) if self.stamp_now()? != stamp => Err(changed(self.path)),
            _ => Ok(()),
        }
    }

    /// Returns whether nothing that was read so far was in the page cache before.
    pub(crate) fn was_uncached(&self) -> bool {
        !self.met_cached.get()
    }

    /// Drops a block from the page cache, and notes if it stays there: a buffered read that must not
    /// wait answers EAGAIN for a page that is not there (preadv2(2)).
    fn drop_cached(&self, index: u64) {
        let Some(probe) = &self.probe else { return };
        let offset = index * BLOCK_LEN;
        let len = std::num::NonZeroU64::new(BLOCK_LEN);
        for _ in 0..DROPS_MAX {
            let _best_effort = rustix::fs::fadvise(probe, offset, len, Advice::DontNeed);
            let mut byte = [0];
            let buffer = &mut [rustix::io::IoSliceMut::new(&mut byte)];
            let flags = rustix::io::ReadWriteFlags::NOWAIT;
            let answer = rustix::io::preadv2(probe, buffer, offset, flags);
            if matches!(answer, Err(Errno::AGAIN)) {
                return;
            }
            // A page that was just written may be held for a moment still.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.met_cached.set(true);
    }

    /// Returns whether it is read past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        rustix::fs::fcntl_getfl(&self.file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
    }

    /// Reads all of it and compares; calls `answered` before each block.
    ///
    /// # Errors
    /// `Unverified` when it cannot be read for a reason that is none of the medium's, or was changed
    /// meanwhile.
    pub(crate) fn look(&self, lease: &mut Lease, answered: &dyn Fn()) -> Result<Found, Error> {
        let mut all = (0..block_count(self.size)).inspect(|_| answered());
        let found = match &self.expected {
            Expected::Digest(digest) => self.compare_whole(*digest, &mut all, lease)?,
            Expected::Whole(_) | Expected::Blocks(_) => {
                let bad = self.bad_among(&mut all, lease)?;
                if bad.is_empty() {
                    Found::Right
                } else {
                    Found::Blocks(bad)
                }
            }
        };
        self.is_unchanged()?;
        Ok(found)
    }

    fn compare_whole(
        &self,
        digest: Hash,
        blocks: &mut dyn Iterator<Item = u64>,
        lease: &mut Lease,
    ) -> Result<Found, Error> {
        let mut hasher = blake3::Hasher::new();
        for index in blocks {
            let Some(len) = self.read(index, lease)? else {
                return Ok(Found::Somewhere);
            };
            hasher.update(lease.as_slice().get(..len).unwrap_or_default());
        }
        if hasher.finalize() == digest {
            Ok(Found::Right)
        } else {
            Ok(Found::Somewhere)
        }
    }

    pub(super) fn bad_among(
        &self,
        blocks: &mut dyn Iterator<Item = u64>,
        lease: &mut Lease,
    ) -> Result<Vec<u64>, Error> {
        let mut bad = Vec::new();
        for index in blocks {
            let read = self.read(index, lease)?;
            let fits = read.is_some_and(|len| {
                let bytes = lease.as_slice().get(..len).unwrap_or_default();
                self.expected.fits(index, bytes)
            });
            if !fits {
                bad.push(index);
            }
        }
        Ok(bad)
    }

    /// Reads a block; `None` when the medium does not give it.
    fn read(&self, index: u64, lease: &mut Lease) -> Result<Option<usize>, Error> {
        self.drop_cached(index);
        match read_block(&self.file, index, self.size, lease) {
            Ok(Some(len)) => Ok(Some(len)),
            Ok(None) => Err(changed(self.path)),
            Err(errno) if is_of_medium(errno) => Ok(None),
            Err(errno) => Err(unverified(self.path, "read it back").because(errno)),
        }
    }

    /// Opens it for writing too.
    ///
    /// # Errors
    /// When that is refused, or another file has its name by now.
    pub(crate) fn writable(&self, target: BorrowedFd<'_>) -> Result<Mender<'_, 'a>, Error> {
        let what = "open it to write the wrong blocks anew";
        let fail = |errno| failed(self.path, what, errno);
        let file = open_direct(target, self.path, OFlags::RDWR).map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        let here = self.stat()?;
        if (stat.st_dev, stat.st_ino) != (here.st_dev, here.st_ino) {
            return Err(changed(self.path));
        }
        Ok(Mender::new(self, file))
    }
}

/// Returns whether an answer to a read says that the medium does not give what is there.
///
/// EIO from any drive; ENODATA is what Linux makes of a critical medium error, EILSEQ of one of
/// protection; EUCLEAN and EBADMSG are a file system's own checksums.
fn is_of_medium(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO | Errno::NODATA | Errno::ILSEQ | Errno::UCLEAN | Errno::BADMSG
    )
}

/// Opens a file below `root` past the page cache, or else through it.
pub(crate) fn open_direct(
    root: BorrowedFd<'_>,
    path: &[u8],
    access: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match beneath::open(root, path, flags | OFlags::DIRECT, Mode::empty()) {
        Err(Errno::INVAL) => beneath::open(root, path, flags, Mode::empty()),
        answer => answer,
    }
}

/// Takes O_DIRECT off a file; returns whether it had it.
pub(super) fn go_on_buffered(file: &OwnedFd) -> Result<bool, Errno> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    let was_direct = flags.contains(OFlags::DIRECT);
    if was_direct {
        rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?;
    }
    Ok(was_direct)
}

/// Reads a block of a file of `size` bytes into `lease`; returns how many bytes it has, or `None`
/// when the file ends before.
pub(super) fn read_block(
    file: &OwnedFd,
    index: u64,
    size: u64,
    lease: &mut Lease,
) -> Result<Option<usize>, Errno> {
    let offset = index * BLOCK_LEN;
    let len = usize::try_from(BLOCK_LEN.min(size.saturating_sub(offset))).unwrap_or(0);
    let advice = Advice::DontNeed;
    let _best_effort =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(BLOCK_LEN), advice);
    let padded = len.next_multiple_of(ALIGN);
    let mut filled = 0;
    while filled < len {
        let rest = lease.as_mut_slice().get_mut(filled..padded);
        let rest = rest.ok_or(Errno::INVAL)?;
        let at = offset + filled as u64;
        match rustix::io::retry_on_intr(|| rustix::io::pread(file.as_fd(), &mut *rest, at)) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            // Some file systems accept the flag and refuse the read.
            Err(Errno::INVAL) if go_on_buffered(file)? => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Some(len))
}

/// Names blocks as people can find them: by number, and by their bytes in the file.
pub(crate) fn blocks_named(blocks: &[u64], size: u64) -> String {
    let named: Vec<String> = blocks
        .iter()
        .take(BLOCKS_NAMED)
        .map(|index| {
            let start = index * BLOCK_LEN;
            let end = (start + BLOCK_LEN).min(size);
            format!("block {index} (bytes {start} to {end})")
        })
        .collect();
    let more = blocks.len().saturating_sub(BLOCKS_NAMED);
    if more > 0 {
        format!("{} and {more} more", named.join(", "))
    } else {
        named.join(", ")
    }
}

/// Most blocks that are named in one line.
const BLOCKS_NAMED: usize = 8;

/// Returns the stamp that `done` says the file has in the target.
pub(crate) fn stamp_of(done: &Done<'_>) -> TargetStamp {
    found(done.target_stamp)
}

fn stamp_in(stat: &Stat) -> TargetStamp {
    TargetStamp {
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
    }
}
