//! The journal: what was about to be named, acknowledged and read back, in the order it was; a run
//! resumes from it.
//!
//! ```text
//! TARGET/.inhaul/JOB/
//!   journal                  the record; append-only, 0600
//!   journal.2, journal.3 ..  its continuation after damage was found
//!   journal.new              a segment that was never finished; replaced by the next
//! ```
//!
//! # On disk
//!
//! All numbers are little endian. A segment is a header and frames without gaps:
//!
//! ```text
//! header  "inhaulj\n" | version u32 | segment u32 | salt [16]
//! frame   len u32 | kind u8 | seq u64 | payload [len] | tag [16]
//! ```
//!
//! `seq` counts the frames of a segment from 0. `tag` is the first half of
//! `BLAKE3(previous tag || frame up to the tag)`, and the tag before frame 0 is the first half of
//! `BLAKE3(header)`: the frames are a chain, and the salt makes every chain a different one. A frame
//! that was moved, repeated, left out or taken from another journal does not fit.
//!
//! Frame 0 is the head: the job in the first segment, and in every other the prefix of an earlier
//! segment that it goes on from. It is durable before the segment has its name, so a head that does
//! not fit is damage ([`RecordCorrupt`](crate::error::ErrorKind::RecordCorrupt)), never a power cut.
//!
//! # What a load trusts
//!
//! The frames up to the first that does not fit, and nothing after it:
//!
//! - **Torn.** No sound frame follows anywhere. A write was cut off: the tail is cut away.
//! - **Damaged.** A sound frame follows, or the medium cannot be read there. The file is left as it
//!   is, as evidence, and the journal goes on in a new segment that names the trusted prefix.
//!
//! A sound frame *follows* when at any later byte there is a frame of a known kind, a length that
//! fits and a `seq` below 2^48 whose tag fits the 16 bytes before it; or when the next frame fits
//! the tag that the bad one ought to have had (then it is that tag which was hit). Where so much
//! looks like a frame that checking it all would take long, that counts as damage. Both ways the
//! same prefix is trusted; the difference is only whether the rest is kept. A power cut can look
//! like damage: of what was written but not synced, a later page may reach the medium before an
//! earlier one.
//!
//! What is trusted is made durable before [`open`] returns, for a run that was killed may have
//! written what it never synced.
//!
//! # What holds of a path
//!
//! Its last record: `Naming`, `Done`, `Other` or `Failed`. A `Verified` adds to the `Done` before it
//! if that is of the same inode; a `Naming` or `Failed` remembers the `Done` or `Other` it overtook;
//! `Blocks` go beside all of these.
//!
//! # While it grows
//!
//! [`Writer::position`] tells how far it is durable, and a [`Follower`] reads up to there, through
//! maps of bounded length that never reach beyond.
//!
//! # Memory
//!
//! Segments are read through maps, and the index over them is a scratch file without a name, mapped
//! too: pages the kernel can take back. The heap in use stays below [`HEAP_LEN_MAX`] however many
//! records there are.
//!
//! **Boundary.** Knows bytes and durability; what a record means for a copy is the engine's.

mod codec;
mod follower;
mod frame;
mod guard;
mod head;
mod identity;
mod index;
mod load;
mod loaded;
mod map;
mod medium;
mod record;
mod runs;
mod segment;
mod table;
mod writer;

pub use follower::Follower;
pub use identity::{Identity, Likeness};
pub use load::{open, open_with, read, read_heard};
pub use loaded::{BlocksView, Loaded, Slices, Tail};
pub use medium::Medium;
pub use record::{
    Blocks, Done, End, Failed, Grade, JobHead, Naming, Other, Record, Source, Stage, Stamp,
    TargetStamp, Verified,
};
pub use writer::{Position, Writer, create, create_with};

use crate::error::{Error, ErrorKind, Side};

/// Looks whether all that was loaded of journals, in this process, could be read whenever it was asked
/// for. Nothing may be decided by what was not found when it could not.
///
/// # Errors
/// `RecordWrite` when a page of a journal, or of its index, went away: its medium failed.
pub fn check_pages() -> Result<(), Error> {
    if !guard::has_lost() {
        return Ok(());
    }
    let what = "part of it cannot be read any more, so it is not known what earlier runs copied; \
                nothing new is begun, and what is copied and recorded stays so; look for errors of \
                the target's drive with 'dmesg', then run again";
    let kind = ErrorKind::RecordWrite;
    Err(Error::new(kind, Side::Record, JOURNAL_FILE, what))
}

/// Name of the first segment in a job's folder.
pub const JOURNAL_FILE: &str = "journal";

/// Version of the format, in every header.
pub const VERSION: u32 = 4;

/// Oldest version that is read, and gone on with. What 4 added to 3: `Done` and `Other` say of what is
/// published whether it lacks attributes. A program that knows only 3 trusts no record that does.
pub const VERSION_MIN: u32 = 3;

/// Longest path, in bytes: the deepest a scan goes (2,048 names of 255 bytes) and as much again.
pub const PATH_LEN_MAX: usize = 1 << 20;

/// Longest short text: names of jobs, file systems, threads and failures, serial numbers, UUIDs.
pub const WORD_LEN_MAX: usize = 256;

/// Longest label and landing of a source, in bytes. Source: `PATH_MAX` of linux/limits.h.
pub const LABEL_LEN_MAX: usize = 4096;

/// Most of the reason of a failure that is kept, in bytes; the rest is cut off.
pub const REASON_LEN_MAX: usize = 1024;

/// Most chaining values in one record: 8 GiB of data, where a group commit comes every 1 GiB.
pub const VALUES_MAX: usize = 8192;

/// Most sources of one job; an index in a record is below it.
pub const SOURCES_MAX: u32 = 1 << 16;

/// Most segments of one journal: a medium that damages it oftener is not one to keep records on.
pub const SEGMENTS_MAX: u32 = 64;

/// A group commit is due after this many finished files.
pub const GROUP_FILES_MAX: u64 = 256;

/// A group commit is due after this many bytes of finished data.
pub const GROUP_BYTES_MAX: u64 = 1 << 30;

/// A group commit is due when its oldest record is this old.
pub const GROUP_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Heap that a writer and a loaded journal take together at most, in bytes, whatever their length:
/// the write buffer with the largest frame, one table of sources, tables that are still small.
/// A [`Follower`] takes none but for its own few fields.
pub const HEAP_LEN_MAX: usize = 8 << 20;
