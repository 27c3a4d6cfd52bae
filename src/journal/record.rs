//! What can be recorded. Names and values are borrowed: from the engine on the way in, from the
//! mapped journal on the way out.

use super::identity::Identity;
use crate::scan::FileStamp;

/// What a journal belongs to: its first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHead {
    /// Name of the job, a folder under `.inhaul`; at most [`WORD_LEN_MAX`](super::WORD_LEN_MAX).
    pub job: String,
    /// BLAKE3 of the canonical text of the options: other options, another job.
    pub options: [u8; 32],
    /// The target's file system.
    pub target: Identity,
}

/// One thing that is to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A source, under the number other records call it by.
    Source(Source),
    /// A file is about to get its final name.
    Naming(Naming<'a>),
    /// A file is whole and durable under its final name.
    Done(Done<'a>),
    /// A file that is [`Done`] was read back from the target and is as it should be.
    Verified(Verified<'a>),
    /// Part of a file is durable in the stage.
    Blocks(Blocks<'a>),
    /// A file could not be copied. Stays until a later [`Done`] of the same path.
    Failed(Failed<'a>),
    /// A symlink or a special file is durable under its final name.
    Other(Other<'a>),
    /// A run ended in good order.
    End(End),
}

/// A source of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which SOURCE, counted from 0; below [`SOURCES_MAX`](super::SOURCES_MAX).
    pub index: u32,
    /// What it is on.
    pub identity: Identity,
    /// The source as the user typed it; at most [`LABEL_LEN_MAX`](super::LABEL_LEN_MAX).
    pub label: Vec<u8>,
    /// Where it lands, relative to TARGET; at most [`LABEL_LEN_MAX`](super::LABEL_LEN_MAX).
    pub landing: Vec<u8>,
}

/// The state of a source file: the same stamp means unchanged.
///
/// A [`FileStamp`] without the device number, which changes when a drive comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl From<FileStamp> for Stamp {
    fn from(stamp: FileStamp) -> Self {
        Self {
            ino: stamp.ino,
            size: stamp.size,
            mtime: stamp.mtime,
            ctime: stamp.ctime,
        }
    }
}

/// The state of a finished file in the target: what has to agree for it to be skipped.
///
/// Without the change time, which a further hard link moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetStamp {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
}

impl From<FileStamp> for TargetStamp {
    fn from(stamp: FileStamp) -> Self {
        Self {
            ino: stamp.ino,
            size: stamp.size,
            mtime: stamp.mtime,
        }
    }
}

/// A file that is about to get its final name: whatever is there is about to be replaced.
///
/// Overtakes what was said of the path before; see
/// [`Loaded::done_before`](super::Loaded::done_before) for the file that may still be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naming<'a> {
    /// Which source it comes from.
    pub source: u32,
    /// The path it is to have, relative to TARGET; at most
    /// [`PATH_LEN_MAX`](super::PATH_LEN_MAX) bytes.
    pub target_path: &'a [u8],
    /// The file as it is to be published: what has this stamp under that path is ours.
    pub target_stamp: TargetStamp,
}

/// A file that is whole and durable under its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done<'a> {
    /// Which source it came from.
    pub source: u32,
    /// Its path relative to TARGET; at most [`PATH_LEN_MAX`](super::PATH_LEN_MAX).
    pub target_path: &'a [u8],
    /// BLAKE3 of its bytes.
    pub digest: [u8; 32],
    /// The source file these bytes were read from. Zeros where its state is not known; a time with a
    /// fraction of `u32::MAX` nanoseconds for what was saved of a file that cannot be read whole.
    pub source_stamp: Stamp,
    /// The target file as it was published.
    pub target_stamp: TargetStamp,
    /// Whether the source file had several names when it was read.
    pub linked: bool,
    /// Whether some of its attributes could not be read or set.
    pub lacks: bool,
}

/// How much it says that a file read back from the target was as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Read past the page cache, but the drive may have answered from a cache of its own.
    Near,
    /// Read from the medium, at a distance from the write that no cache of a drive answers for.
    Medium,
}

impl Grade {
    /// Returns the number that stands for it on disk and in the index; below 4, and not 0.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Near => 1,
            Self::Medium => 2,
        }
    }

    pub(super) fn of(code: u8) -> Option<Self> {
        [Self::Near, Self::Medium]
            .into_iter()
            .find(|grade| grade.code() == code)
    }
}

/// A file that was read back. Counts for the [`Done`] that is the last said of its path if that is of
/// the same inode, and says nothing otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// Which source it came from.
    pub source: u32,
    /// Its path relative to TARGET; at most [`PATH_LEN_MAX`](super::PATH_LEN_MAX).
    pub target_path: &'a [u8],
    /// Inode number of the file that was read.
    pub target_ino: u64,
    /// How it was read.
    pub grade: Grade,
}

/// The name of a staged file: the staging folder of a thread, and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage<'a> {
    /// Name of the thread's folder; at most [`WORD_LEN_MAX`](super::WORD_LEN_MAX).
    pub thread: &'a [u8],
    /// Number of the file.
    pub number: u64,
}

/// Blocks of 1 MiB that are durable in a staged file, by their BLAKE3 chaining values.
///
/// A record with the same identity (source, stage, stage inode, source stamp) as the one before it
/// for this path continues it, from any block already recorded or just behind the last: what was
/// recorded from there on is replaced. With another identity, block 0 starts over. Anything else
/// leaves a gap, and then nothing is known of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks<'a> {
    /// Which source the file comes from.
    pub source: u32,
    /// The path it will have, relative to TARGET.
    pub target_path: &'a [u8],
    /// Where it is staged.
    pub stage: Stage<'a>,
    /// Inode number of the staged file.
    pub stage_ino: u64,
    /// The source file the blocks were read from.
    pub source_stamp: Stamp,
    /// Index of the first block.
    pub first_block: u64,
    /// The values, in order; 1 to [`VALUES_MAX`](super::VALUES_MAX).
    pub values: &'a [[u8; 32]],
}

impl Blocks<'_> {
    /// Returns whether both are parts of one staged copy of one state of one source file.
    pub(super) fn is_same_copy(&self, other: &Blocks<'_>) -> bool {
        self.source == other.source
            && self.stage == other.stage
            && self.stage_ino == other.stage_ino
            && self.source_stamp == other.source_stamp
            && self.target_path == other.target_path
    }

    /// Returns the index just behind the last block.
    pub(super) fn end(&self) -> u64 {
        let count = u64::try_from(self.values.len()).unwrap_or(u64::MAX);
        self.first_block.saturating_add(count)
    }
}

/// A file that could not be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Which source it is in.
    pub source: u32,
    /// The path it would have had, relative to TARGET.
    pub target_path: &'a [u8],
    /// The class of the failure, as [`ErrorKind::word`](crate::error::ErrorKind::word) gives it.
    pub kind: &'a str,
    /// Why; at most [`REASON_LEN_MAX`](super::REASON_LEN_MAX) bytes are kept.
    pub reason: &'a str,
}

/// A symlink or a special file that is durable under its final name; with a source stamp of zeros,
/// anything of ours that is durable there and is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other<'a> {
    /// Which source it came from.
    pub source: u32,
    /// Its path relative to TARGET; at most [`PATH_LEN_MAX`](super::PATH_LEN_MAX).
    pub target_path: &'a [u8],
    /// The source's inode when it was listed.
    pub source_stamp: Stamp,
    /// What was published.
    pub target_stamp: TargetStamp,
    /// Whether the source's inode had several names.
    pub linked: bool,
    /// Whether some of its attributes could not be read or set.
    pub lacks: bool,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Whether everything was copied.
    pub complete: bool,
    /// What the program answered.
    pub exit_code: u8,
}
