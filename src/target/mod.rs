//! Port 3: where copies end up.
//!
//! A file passes through three states, each consuming the one before: [`Staged`] (taking bytes
//! under a private number), [`Sealed`] (all bytes and metadata in place), published (durable under
//! its own name). Nothing is ever visible under a final name before it is whole and durable.
//!
//! **Boundary.** Knows the target's names and durability; knows nothing of sources or digests.

mod again;
pub mod attributes;
mod folding;
mod fs_type;
mod home;
mod inode;
mod jobs;
mod local;
mod lock;
mod null;
mod place;
pub(crate) mod protocol;
mod publish;
mod record;
mod reserve;
mod stage;
mod sweep;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

pub use attributes::{Applied, Forgone, Policy};
pub(crate) use folding::may_fold;
pub use fs_type::{FsType, fs_type, keeps_inodes, trusts_sizes};
pub use home::{HOME, Home, HomeLock, JobDir};
pub use jobs::JOB_FILE;
pub(crate) use local::clash;
pub use local::{LocalTarget, Settings};
pub use null::NullTarget;
pub(crate) use publish::split;
pub use record::RecordWriter;
pub use sweep::staged_bytes;

use crate::beneath::DirCache;
use crate::error::Error;
use crate::scan::{Attributes, Kind};

/// What tells one state of a file in the target from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetStamp {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

impl TargetStamp {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// What is known of a name in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing is there.
    Free,
    /// A regular file is there.
    File(TargetStamp),
    /// A directory is there.
    Dir,
    /// A symlink is there.
    Symlink(TargetStamp),
    /// Something else is there: a device, a FIFO.
    Other(TargetStamp),
}

impl Vacancy {
    /// Returns what tells this state of what is there from another; `None` for nothing and for a
    /// directory.
    pub fn stamp(self) -> Option<TargetStamp> {
        match self {
            Self::File(stamp) | Self::Symlink(stamp) | Self::Other(stamp) => Some(stamp),
            Self::Free | Self::Dir => None,
        }
    }
}

/// Returns what is at `path` below the root that `dirs` are below.
pub(crate) fn vacancy(dirs: &mut DirCache, path: &[u8]) -> Result<Vacancy, Errno> {
    let (dir, name) = split(path);
    let looked = dirs
        .get(dir)
        .and_then(|dir| rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW));
    match looked {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Vacancy::File(TargetStamp::of(&stat)),
            FileType::Directory => Vacancy::Dir,
            FileType::Symlink => Vacancy::Symlink(TargetStamp::of(&stat)),
            _ => Vacancy::Other(TargetStamp::of(&stat)),
        }),
        Err(Errno::NOENT) => Ok(Vacancy::Free),
        Err(errno) => Err(errno),
    }
}

/// Where a file is before it has its name: a number in the staging folder of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageId {
    /// Name of the thread's folder.
    pub thread: Arc<str>,
    /// Number of the file in it.
    pub number: u64,
    /// Inode number, which the file keeps when it gets its name.
    pub ino: u64,
}

/// What a file will need, known before its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Length in bytes.
    pub size: u64,
    /// Whether it has holes to keep: no space is set aside, and zeros are not written.
    pub sparse: bool,
    /// Whether its bytes come in one piece, by [`Stager::write_small`].
    pub small: bool,
}

/// How the bytes of a staged file have to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Offsets, lengths and memory must be multiples of this many bytes; the tail is padded with
    /// zeros and cut off by [`Stager::seal`]. 1 when anything goes.
    pub align: usize,
    /// Whether written pages pile up in memory and need write-back started behind the writer.
    pub cached: bool,
}

/// A file that is taking bytes. Not `Clone`: whoever holds it decides its end.
#[derive(Debug)]
pub struct Staged {
    /// Where bytes are written, at their offset; `None` when bytes go nowhere.
    pub file: Option<Arc<OwnedFd>>,
    /// How they have to come.
    pub geometry: Geometry,
    /// Whether zeros are left out when writing.
    pub sparse: bool,
    /// Where it is; `None` when it is nowhere.
    pub id: Option<StageId>,
    /// The folder it is in.
    pub(crate) dir: Option<Arc<OwnedFd>>,
}

/// Something whole that lacks only its name.
#[derive(Debug)]
pub struct Sealed {
    pub(crate) form: Form,
    /// Path below TARGET it will get.
    pub target_path: Vec<u8>,
    /// Whether a file already there is replaced; otherwise that is an error.
    pub replace: bool,
    /// What it will be recognised by; `None` for a further name of something published, and for
    /// what could not be looked at.
    pub stamp: Option<TargetStamp>,
    /// Whether some of its attributes could not be read or set: a later run tries again.
    pub lacks: bool,
    /// What else of them it does not have.
    pub(crate) forgone: Forgone,
}

/// Where a sealed thing is until it is published.
#[derive(Debug)]
pub(crate) enum Form {
    /// In a staging directory, under a number.
    Staged { dir: Arc<OwnedFd>, number: u64 },
    /// A further name for a file published under this path earlier.
    Link { existing: Vec<u8> },
    /// Nowhere: nothing is written.
    Nothing,
}

impl Sealed {
    /// Returns something that has its name already, given by an earlier run; `stamp` is what it is
    /// recognised by.
    pub fn kept(target_path: Vec<u8>, stamp: Option<TargetStamp>) -> Self {
        Self {
            form: Form::Nothing,
            target_path,
            replace: false,
            stamp,
            lacks: false,
            forgone: Forgone::default(),
        }
    }

    /// Returns a further name for a file that is published already.
    ///
    /// `stamp` is what that file is recognised by.
    pub fn link(
        existing: Vec<u8>,
        target_path: Vec<u8>,
        replace: bool,
        stamp: Option<TargetStamp>,
    ) -> Self {
        Self {
            form: Form::Link { existing },
            target_path,
            replace,
            stamp,
            lacks: false,
            forgone: Forgone::default(),
        }
    }

    /// Returns the same, with what it does not have of these attributes.
    #[must_use]
    pub(crate) fn lacking(self, applied: &Applied, attributes: &Attributes) -> Self {
        Self {
            lacks: applied.lacks(attributes),
            forgone: applied.forgone(attributes),
            ..self
        }
    }

    /// Returns the path below TARGET of the file that this is a further name for, if it is one.
    pub fn linked_to(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Link { existing } => Some(existing),
            Form::Staged { .. } | Form::Nothing => None,
        }
    }
}

/// A place that can hold files.
///
/// # Contract
///
/// 1. Until `publish` has answered `Ok` for it, nothing of a file is visible under its final name.
/// 2. `publish` answers once for each sealed thing, in order. `Ok` means: the bytes, the metadata
///    and the name survive a power cut at any later moment.
/// 3. A name that is taken is never replaced unless `replace` says so, and then atomically. One that
///    the target takes for another ([`namesake`](Self::namesake)) is a name that is taken.
/// 4. After a failed sync every later `publish` fails: what was written is unknown, and a second
///    sync would say yes to it.
/// 5. `make_dir` makes a directory nobody else can enter; `finish_dir` opens it up at the end.
/// 6. No call follows a symlink below the target or leaves its file system.
/// 7. What is taken back or withdrawn is only ever what has the stamp it was published with.
pub trait Target: Debug + Send + Sync {
    /// Makes a directory at `path` below TARGET; its parent is there. Returns whether it is new. One
    /// that is there, is listed as this name is ([`spelling`](Self::spelling)) and has no file in it
    /// is taken for it.
    ///
    /// # Errors
    /// `TargetExists` when something else has the name, or a folder that the target takes for it.
    fn make_dir(&self, path: &[u8]) -> Result<bool, Error>;

    /// Returns the name that stands in the place of `path`, where something was just found, if it is
    /// another one: the target does not tell the two apart.
    ///
    /// # Errors
    /// When it cannot be looked up.
    fn namesake(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Returns how the name of `path` is listed, whether or not anything has it; `None` where all names
    /// are listed as they were given.
    ///
    /// # Errors
    /// When there can be no such name.
    fn spelling(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Opens a way in for one thread.
    ///
    /// # Errors
    /// When its private directory cannot be made.
    fn stager(&self, name: &str) -> Result<Box<dyn Stager>, Error>;

    /// Makes a batch durable: data first, then names, then the directories that hold the names.
    ///
    /// # Durability
    /// `Ok` means the file survives a power cut at any later moment.
    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>>;

    /// Returns whether the first thing `publish` does is a sync of the whole file system: then it
    /// makes durable whatever else was written there before, a journal for one.
    fn syncs_whole(&self) -> bool;

    /// Removes a published file whose bytes turned out to be wrong. Does nothing if something else
    /// has its name by now, or it was changed: it has another stamp then.
    ///
    /// # Durability
    /// Durable after [`settle`](Self::settle), the next `publish` or `close`.
    ///
    /// # Errors
    /// When the name cannot be removed: then wrong bytes have a final name, and the run must say so.
    fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error>;

    /// Makes durable what became of the names at `paths`: given, withdrawn, or taken back, by this run
    /// or an earlier one.
    ///
    /// # Errors
    /// `TargetSync`, which is final.
    fn settle(&self, paths: &[&[u8]]) -> Result<(), Error>;

    /// Looks, after an error, whether this is still the place it was and can be written to.
    ///
    /// # Errors
    /// `TargetLost` when it is not: then nothing more will be written to it.
    fn look_again(&self) -> Result<(), Error>;

    /// Sets the final attributes of a directory.
    ///
    /// # Durability
    /// Durable after `close`.
    ///
    /// # Errors
    /// When the directory cannot be opened any more.
    fn finish_dir(&self, path: &[u8], attributes: &Attributes) -> Result<Applied, Error>;

    /// Ends the run: removes what was staged, unless a later run is to go on with it (`keep`), and
    /// asks the witness, opened before the first write, whether anything was lost on the way.
    ///
    /// # Errors
    /// `TargetSync`: then the run has failed, whatever was acknowledged.
    fn close(&self, keep: bool) -> Result<(), Error>;
}

/// One thread's way into a target.
pub trait Stager: Debug + Send {
    /// Returns what is at `path` below TARGET now.
    ///
    /// # Errors
    /// When it cannot be looked up.
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error>;

    /// Returns the text of the symlink at `path` below TARGET.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Error>;

    /// Starts a file under a private number, with its space set aside where that is possible.
    ///
    /// # Errors
    /// `TargetFull` now rather than hours later.
    fn stage(&mut self, path: &[u8], outline: Outline) -> Result<Staged, Error>;

    /// Goes on with a file that an earlier run staged: what lies behind its first `keep` bytes is
    /// cut off, and space is set aside as by `stage`. `None` when it is not there any more, or
    /// another inode has its number.
    ///
    /// # Errors
    /// As `stage`; the file is as it was, or shorter.
    fn reopen(
        &mut self,
        path: &[u8],
        id: &StageId,
        outline: Outline,
        keep: u64,
    ) -> Result<Option<Staged>, Error>;

    /// Reads staged bytes at `offset` back, past the page cache where the file system can;
    /// offset, length and memory are as its [`Geometry`] asks. Returns how many there are.
    ///
    /// # Errors
    /// `TargetWrite`, with what the medium said.
    fn read_staged(
        &mut self,
        path: &[u8],
        staged: &Staged,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error>;

    /// Reads a published file and gives its bytes to `put`, in order. Returns false, perhaps after
    /// some bytes, unless it has this stamp before and after.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_published(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error>;

    /// Takes a file that got its name but was never acknowledged back to where it was staged.
    /// Returns false, and changes nothing, unless it has this stamp and that place is free.
    ///
    /// # Durability
    /// None before [`Target::settle`]: after a power cut it may have its name again, so nothing of
    /// it is changed before.
    ///
    /// # Errors
    /// When it cannot be renamed.
    fn take_back(&mut self, path: &[u8], stamp: TargetStamp, id: &StageId) -> Result<bool, Error>;

    /// Writes the whole of a small file.
    ///
    /// # Errors
    /// The file must then be discarded.
    fn write_small(&mut self, path: &[u8], staged: &Staged, bytes: &[u8]) -> Result<(), Error>;

    /// Fixes length and metadata. No byte is written after this.
    ///
    /// # Errors
    /// `TargetWrite`; the file is gone then.
    fn seal(
        &mut self,
        staged: Staged,
        size: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error>;

    /// Sets the attributes of a published file once more. Returns what could be set, and what the file
    /// is recognised by now; `None`, and changes nothing, unless it has this stamp.
    ///
    /// # Durability
    /// Durable when a later `publish` answers for the file.
    ///
    /// # Errors
    /// When it cannot be looked at; `TargetFull`; `TargetSync`, which is final.
    fn set_again(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error>;

    /// Makes a symlink with this text, unpublished.
    ///
    /// # Errors
    /// As the file system says.
    fn symlink(
        &mut self,
        text: &[u8],
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error>;

    /// Makes a FIFO, socket or device node, unpublished. `rdev` is the device number.
    ///
    /// # Errors
    /// As the file system says; devices need privilege.
    fn special(
        &mut self,
        kind: Kind,
        rdev: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error>;

    /// Removes a staged file.
    fn discard(&mut self, staged: Staged);
}
