//! Appending: records gather in memory, and one sync makes a group of them durable.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use super::codec::{Content, Continued};
use super::frame::{Header, Tag, seal};
use super::medium::{Medium, file_itself};
use super::record::{JobHead, Record};
use super::segment::Folder;
use super::{GROUP_AGE_MAX, GROUP_BYTES_MAX, GROUP_FILES_MAX};
use crate::error::{Error, ErrorKind, Side};
use crate::seam;

/// How much is gathered before it is written, synced or not, in bytes.
const BUFFER_LEN: usize = 1 << 20;

/// Where a journal ends that goes on growing; positions in one journal are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Length of the segment up to there, in bytes.
    pub len: u64,
}

/// The writing end of a journal.
///
/// A write or sync that fails is final: what is on the medium since the last good sync is unknown,
/// and a second sync would say yes to it. From then on every call fails, so nothing is acknowledged
/// any more. What was torn is found and cut by the next [`open`](super::open).
#[derive(Debug)]
pub struct Writer {
    medium: Box<dyn Medium>,
    path: PathBuf,
    /// Tag of the last frame, written or gathered.
    tag: Tag,
    /// Number of the next frame.
    seq: u64,
    buffer: Vec<u8>,
    /// Where what the medium has taken ends, synced or not.
    written: Position,
    committed: Position,
    group: Group,
    failure: Option<Failure>,
}

/// What waits for a sync.
#[derive(Debug, Default)]
struct Group {
    oldest: Option<Instant>,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    what: &'static str,
    kind: io::ErrorKind,
    errno: Option<Errno>,
}

/// Makes the journal of a new job in its folder `dir`, which is open for reading; `label` is the
/// folder as messages name it.
///
/// # Durability
/// Durable, with its name, when this returns.
///
/// # Errors
/// `Refused` when the name `journal` is taken, whatever by; `RecordWrite`.
pub fn create(dir: BorrowedFd<'_>, label: &Path, head: &JobHead) -> Result<Writer, Error> {
    create_with(dir, label, head, &mut file_itself)
}

/// As [`create`], but writes to what `wrap` makes of the file, its head aside: a seam for tests.
///
/// # Errors
/// As [`create`].
pub fn create_with(
    dir: BorrowedFd<'_>,
    label: &Path,
    head: &JobHead,
    wrap: &mut dyn FnMut(File) -> Box<dyn Medium>,
) -> Result<Writer, Error> {
    Writer::begin(Folder { dir, label }, 1, &Content::Job(head.clone()), wrap)
}

impl Writer {
    /// Makes a segment that goes on from a trusted prefix.
    pub(super) fn begin_behind(
        folder: Folder<'_>,
        number: u32,
        from: Continued,
        wrap: &mut dyn FnMut(File) -> Box<dyn Medium>,
    ) -> Result<Self, Error> {
        Self::begin(folder, number, &Content::Continued(from), wrap)
    }

    fn begin(
        folder: Folder<'_>,
        number: u32,
        head: &Content<'_>,
        wrap: &mut dyn FnMut(File) -> Box<dyn Medium>,
    ) -> Result<Self, Error> {
        let header = Header {
            segment: number,
            salt: salt(),
        };
        let mut bytes = header.encode();
        let (_, start) = Header::decode(&bytes)
            .map_err(|what| folder.error(ErrorKind::RecordWrite, number, what))?;
        let tag = seal(head, 0, &start, &mut bytes)
            .map_err(|what| too_long(&folder.path(number), what))?;
        let file = folder.create(number, &bytes)?;
        let position = Position {
            segment: number,
            len: len_of(&bytes),
        };
        let medium = wrap(file.into());
        Ok(Self::behind(medium, folder.path(number), tag, 1, position))
    }

    /// Returns a writer that goes on at `position`, behind the frame with tag `tag`.
    pub(super) fn behind(
        medium: Box<dyn Medium>,
        path: PathBuf,
        tag: Tag,
        seq: u64,
        position: Position,
    ) -> Self {
        Self {
            medium,
            path,
            tag,
            seq,
            buffer: Vec::new(),
            written: position,
            committed: position,
            group: Group::default(),
            failure: None,
        }
    }

    /// Adds a record to the group that waits for the next [`commit`](Self::commit). Claim nothing
    /// in it that is not durable itself by now; a [`Naming`](super::Naming) claims nothing.
    ///
    /// # Durability
    /// None until `commit` has answered `Ok`.
    ///
    /// # Errors
    /// `RecordWrite`: after a failed write or sync always; else when something in the record is
    /// longer than the journal takes, and then the journal is as it was and goes on working.
    pub fn append(&mut self, record: &Record<'_>, now: Instant) -> Result<(), Error> {
        self.check()?;
        // Shallow: names and values are borrowed.
        let content = Content::Record(record.clone());
        self.tag = seal(&content, self.seq, &self.tag, &mut self.buffer)
            .map_err(|what| too_long(&self.path, what))?;
        self.seq += 1;
        self.group.add(record, now);
        if self.buffer.len() >= BUFFER_LEN {
            self.write()?;
        }
        Ok(())
    }

    /// Returns whether a group waits that should be committed by now: 256 files, 1 GiB, or 1 s.
    pub fn is_due(&self, now: Instant) -> bool {
        self.group.files >= GROUP_FILES_MAX
            || self.group.bytes >= GROUP_BYTES_MAX
            || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Returns when the waiting group is due at the latest; `None` when nothing waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.group.oldest.map(|oldest| oldest + GROUP_AGE_MAX)
    }

    /// Writes everything appended so far to the file and leaves it there unsynced. The group goes
    /// on waiting for its commit, and [`position`](Self::position) stays where it is.
    ///
    /// # Durability
    /// None, until `commit` or a sync of the whole file system has answered `Ok`.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn flush(&mut self) -> Result<(), Error> {
        self.check()?;
        self.write()
    }

    /// Makes everything appended so far durable; does nothing when nothing waits.
    ///
    /// # Durability
    /// `Ok` means: every record appended before survives a power cut at any later moment.
    ///
    /// # Errors
    /// `RecordWrite`, from the first failure on for good.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.check()?;
        if self.group.oldest.is_none() {
            return Ok(());
        }
        self.write()?;
        seam::point("journal-written");
        if let Err(error) = self.medium.sync() {
            return Err(self.fail("sync", error));
        }
        self.committed = self.written;
        self.group = Group::default();
        Ok(())
    }

    /// Returns where what has been committed ends; up to there a [`Follower`](super::Follower) may
    /// read.
    pub fn position(&self) -> Position {
        self.committed
    }

    /// Returns whether a write or sync has failed: nothing will be acknowledged any more.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn write(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.medium.append(&self.buffer) {
            return Err(self.fail("write", error));
        }
        self.written.len = self.written.len.saturating_add(len_of(&self.buffer));
        self.buffer.clear();
        Ok(())
    }

    fn fail(&mut self, what: &'static str, error: io::Error) -> Error {
        self.failure = Some(Failure {
            what,
            kind: error.kind(),
            errno: Errno::from_io_error(&error),
        });
        // Nothing gathered is ever written again: behind a torn frame it would look like damage.
        self.buffer = Vec::new();
        Error::new(ErrorKind::RecordWrite, Side::Record, &self.path, what).because(error)
    }

    fn check(&self) -> Result<(), Error> {
        let Some(failure) = self.failure else {
            return Ok(());
        };
        let what = format!("the journal failed earlier, at its {}", failure.what);
        let cause = failure.errno.map_or(failure.kind.into(), io::Error::from);
        Err(Error::new(ErrorKind::RecordWrite, Side::Record, &self.path, &what).because(cause))
    }
}

impl Group {
    fn add(&mut self, record: &Record<'_>, now: Instant) {
        self.oldest.get_or_insert(now);
        match record {
            Record::Done(done) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(done.source_stamp.size);
            }
            Record::Blocks(blocks) => {
                let count = blocks.end() - blocks.first_block;
                self.bytes = self.bytes.saturating_add(count << 20);
            }
            Record::Source(_)
            | Record::Naming(_)
            | Record::Verified(_)
            | Record::Failed(_)
            | Record::Other(_)
            | Record::End(_) => {}
        }
    }
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn too_long(path: &Path, what: &str) -> Error {
    let what = format!("{what} is longer than a journal takes");
    Error::new(ErrorKind::RecordWrite, Side::Record, path, &what)
}

/// Returns bytes no other segment has. They need not be secret.
fn salt() -> [u8; 16] {
    // Each state has keys of its own, from the system's random numbers.
    let halves = [(); 2].map(|()| RandomState::new().build_hasher().finish());
    let [high, low] = halves.map(u128::from);
    (high << 64 | low).to_le_bytes()
}
