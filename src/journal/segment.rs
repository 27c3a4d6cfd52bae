//! Files of a journal: found, opened, made durable, cut; and frames in them, by place.

use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::codec::Content;
use super::frame::{Frame, tag_before};
use super::map::ReadMap;
use super::record::Record;
use super::{JOURNAL_FILE, SEGMENTS_MAX};
use crate::error::{Error, ErrorKind, Side};

/// The folder a journal is in, and what messages call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) label: &'a Path,
}

/// Returns the file name of a segment.
pub(super) fn name(number: u32) -> String {
    match number {
        1 => JOURNAL_FILE.to_owned(),
        _ => format!("{JOURNAL_FILE}.{number}"),
    }
}

impl Folder<'_> {
    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.label.join(name(number))
    }

    /// Returns an error on a segment.
    pub(super) fn error(&self, kind: ErrorKind, number: u32, what: &str) -> Error {
        Error::new(kind, Side::Record, self.path(number), what)
    }

    fn failed(&self, number: u32, what: &str, errno: Errno) -> Error {
        self.error(ErrorKind::RecordWrite, number, what)
            .because(errno)
    }

    /// Opens a segment; `None` when there is none of that number.
    pub(super) fn open(&self, number: u32, writable: bool) -> Result<Option<OwnedFd>, Error> {
        let access = if writable {
            OFlags::RDWR | OFlags::APPEND
        } else {
            OFlags::RDONLY
        };
        // Without O_NONBLOCK, a FIFO in its place would wait for a peer for ever.
        let care = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self.dir, name(number), access | care, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ (Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR)) => {
                return Err(self.not_ours(number).because(errno));
            }
            Err(errno) => return Err(self.failed(number, "open", errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| self.failed(number, "look at", e))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_mine = stat.st_uid == rustix::process::geteuid().as_raw();
        if is_file && is_mine && stat.st_mode & 0o022 == 0 {
            Ok(Some(file))
        } else {
            Err(self.not_ours(number))
        }
    }

    fn not_ours(&self, number: u32) -> Error {
        let what = "what has the journal's name is no file that only we can write to";
        self.error(ErrorKind::Refused, number, what)
    }

    /// Makes a new segment that begins with `bytes`; its name must be free.
    ///
    /// # Durability
    /// Durable under its name when this returns, and never under its name before it is whole.
    pub(super) fn create(&self, number: u32, bytes: &[u8]) -> Result<OwnedFd, Error> {
        let staged = format!("{JOURNAL_FILE}.new");
        match rustix::fs::unlinkat(self.dir, &staged, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.failed(number, "sweep an unfinished one", errno)),
        }
        let file = self.stage(number, &staged, bytes)?;
        let named = match self.rename_free(&staged, &name(number)) {
            Ok(()) => rustix::fs::fsync(self.dir)
                .map_err(|errno| self.failed(number, "sync its folder", errno)),
            Err(errno @ Errno::EXIST) => {
                let what = "this job has a journal already";
                Err(self.error(ErrorKind::Refused, number, what).because(errno))
            }
            Err(errno) => Err(self.failed(number, "name", errno)),
        };
        if named.is_err() {
            // Left there, it would be swept the next time; gone already if it has its name.
            rustix::fs::unlinkat(self.dir, &staged, AtFlags::empty()).ok();
        }
        named.map(|()| file.into())
    }

    /// Writes a new segment and syncs it, under the name of an unfinished one.
    fn stage(&self, number: u32, staged: &str, bytes: &[u8]) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(self.dir, staged, flags, mode)
            .map_err(|errno| self.failed(number, "create", errno))?;
        let mut file = File::from(file);
        file.write_all(bytes).map_err(|error| {
            self.error(ErrorKind::RecordWrite, number, "write")
                .because(error)
        })?;
        rustix::fs::fsync(&file).map_err(|errno| self.failed(number, "sync", errno))?;
        Ok(file)
    }

    fn rename_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        let answer =
            rustix::fs::renameat_with(self.dir, from, self.dir, to, RenameFlags::NOREPLACE);
        match answer {
            // The file system cannot say "unless taken". We hold the lock: looking first will do.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(self.dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => rustix::fs::renameat(self.dir, from, self.dir, to),
                    Err(errno) => Err(errno),
                }
            }
            answer => answer,
        }
    }

    /// Returns the length of a segment in bytes.
    pub(super) fn len(&self, number: u32, file: BorrowedFd<'_>) -> Result<usize, Error> {
        let stat = rustix::fs::fstat(file).map_err(|e| self.failed(number, "look at", e))?;
        usize::try_from(stat.st_size)
            .map_err(|_| self.error(ErrorKind::RecordCorrupt, number, "longer than addresses go"))
    }

    /// Maps the first `len` bytes of a segment.
    pub(super) fn map(
        &self,
        number: u32,
        file: BorrowedFd<'_>,
        len: usize,
    ) -> Result<ReadMap, Error> {
        self.map_from(number, file, 0, len)
    }

    /// Maps the `len` bytes of a segment from `start` on.
    pub(super) fn map_from(
        &self,
        number: u32,
        file: BorrowedFd<'_>,
        start: u64,
        len: usize,
    ) -> Result<ReadMap, Error> {
        ReadMap::new(file, start, len).map_err(|error| {
            self.error(ErrorKind::RecordWrite, number, "map")
                .because(error)
        })
    }

    /// Makes a segment durable that an earlier process wrote, synced or not.
    pub(super) fn sync(&self, number: u32, file: BorrowedFd<'_>) -> Result<(), Error> {
        rustix::fs::fdatasync(file).map_err(|errno| self.failed(number, "sync", errno))
    }

    /// Cuts a segment to `len` bytes; no map reaches further.
    ///
    /// # Durability
    /// Durable when this returns: bytes of the cut tail never come back under later frames.
    pub(super) fn cut(&self, number: u32, file: BorrowedFd<'_>, len: usize) -> Result<(), Error> {
        let cut = || {
            rustix::fs::ftruncate(file, u64::try_from(len).map_err(|_| Errno::FBIG)?)?;
            rustix::fs::fdatasync(file)
        };
        cut().map_err(|errno| self.failed(number, "cut the torn tail", errno))
    }
}

/// The segments of a journal that count, in the order in which they go on from each other.
#[derive(Debug, Default)]
pub(super) struct Segments(pub(super) Vec<ReadMap>);

/// Where a frame is: its offset in the low 48 bits, and above it which of the [`Segments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

const OFFSET_BITS: u32 = 48;
const _: () = assert!(SEGMENTS_MAX as u64 <= 1 << (Place::BITS - OFFSET_BITS));

impl Place {
    /// How many bits it takes; those above are zero.
    pub(super) const BITS: u32 = 56;

    /// Returns the place, or `None` past what it can say (256 TiB).
    pub(super) fn new(index: usize, offset: usize) -> Option<Self> {
        let index = u64::from(u8::try_from(index).ok()?);
        let offset = u64::try_from(offset).ok()?;
        (offset >> OFFSET_BITS == 0).then_some(Self(index << OFFSET_BITS | offset))
    }
}

impl Segments {
    /// Returns the record at `place`.
    ///
    /// It is checked against its tag again, for the medium may answer otherwise than it did when
    /// the journal was loaded; `None` then.
    pub(super) fn record(&self, place: Place) -> Option<Record<'_>> {
        let index = usize::try_from(place.0 >> OFFSET_BITS).ok()?;
        let offset = usize::try_from(place.0 & ((1 << OFFSET_BITS) - 1)).ok()?;
        let bytes = self.0.get(index)?.bytes();
        let frame = Frame::parse(bytes.get(offset..)?)?;
        if !frame.fits(tag_before(bytes, offset)?) {
            return None;
        }
        match frame.content()? {
            Content::Record(record) => Some(record),
            Content::Job(_) | Content::Continued(_) => None,
        }
    }
}
