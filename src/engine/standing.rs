//! What earlier runs of a job left of a file: whether it is done, ours, begun, or none of these.
//!
//! A file is skipped for one reason only: the journal says that it is done, its source has the
//! stamp it was read with, and its target the stamp it was published with. That size and time look
//! right is never a reason: a power cut leaves files of the right size and time that are zeros.

use super::commit::SAVED;
use super::log::lasting;
use super::settle::has_size_of;
use crate::digest::BlockValue;
use crate::error::{Error, ErrorKind};
use crate::journal::{self, BlocksView, Done, Loaded, Naming, Other};
use crate::scan::Entry;
use crate::seam;
use crate::target::{StageId, Stager, TargetStamp, Vacancy, keeps_inodes};

/// What earlier runs of a job left under the name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing that is known to be ours.
    New,
    /// It is done, and unchanged on both sides.
    Done(Copied),
    /// A symlink or special file: the same, and whether it lacks attributes.
    Other(TargetStamp, bool),
    /// It was done, and its source has changed since: what is there is ours to replace.
    Changed,
    /// It is ours, but which state of its source it is of is not known: ours to replace.
    Unknown,
    /// It looks as if an earlier run had copied it, and the record that would say so is lost.
    Unrecorded(TargetStamp),
}

/// A file that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) digest: blake3::Hash,
    pub(crate) stamp: TargetStamp,
    /// Whether some of its attributes could not be read or set.
    pub(crate) lacks: bool,
}

impl Copied {
    /// Returns what the journal says of a file that is done.
    pub(crate) fn of(done: &Done<'_>) -> Self {
        Self {
            digest: blake3::Hash::from_bytes(done.digest),
            stamp: found(done.target_stamp),
            lacks: done.lacks,
        }
    }
}

/// Returns a stamp as the target has it.
pub(crate) fn found(stamp: journal::TargetStamp) -> TargetStamp {
    TargetStamp {
        ino: stamp.ino,
        size: stamp.size,
        mtime: stamp.mtime,
    }
}

/// Returns whether two stamps agree in size, and in time as far as FAT keeps it: to two seconds.
pub(crate) fn is_near(one: TargetStamp, other: TargetStamp) -> bool {
    one.size == other.size && one.mtime.0.abs_diff(other.mtime.0) <= 2
}

/// Returns what has a name in the target now: nothing, too, if something that is no folder is on the
/// way. An error says nothing about what is there, so it must not pass for that.
pub(crate) fn at(stager: &mut dyn Stager, path: &[u8]) -> Result<Vacancy, Error> {
    match stager.vacancy(path) {
        Err(error) if matches!(error.kind(), ErrorKind::TargetExists | ErrorKind::Escape) => {
            Ok(Vacancy::Free)
        }
        looked => looked,
    }
}

/// Returns what `earlier` says of an entry of `source`, given what is under its name now.
pub(crate) fn standing(
    earlier: &Loaded,
    source: u32,
    entry: &Entry,
    path: &[u8],
    there: Vacancy,
) -> Standing {
    let Some(stamp) = there.stamp() else {
        return Standing::New;
    };
    if seam::bug("size-and-mtime-skip")
        && (stamp.size, stamp.mtime) == (entry.stamp.size, entry.stamp.mtime)
    {
        let digest = earlier.done(path).map_or([0; 32], |done| done.digest);
        let digest = blake3::Hash::from_bytes(digest);
        return Standing::Done(Copied {
            digest,
            stamp,
            lacks: false,
        });
    }
    // A name that was given and never acknowledged was settled before the run began, unless what it
    // names could not be read.
    let unread = earlier
        .naming(path)
        .filter(|naming| naming.source == source);
    if unread.is_some_and(|naming| found(naming.target_stamp) == stamp) {
        return Standing::Unknown;
    }
    let doubted = unread.zip(earlier.done_before(path));
    if doubted.is_some_and(|(naming, done)| is_in_doubt(&naming, &done, stamp)) {
        return Standing::Unknown;
    }
    // On FAT and exFAT its number is another after a remount: its bytes have to say whether it is that.
    let fs = &earlier.head().target.fs_type;
    if unread.is_some_and(|naming| may_be_named(fs, found(naming.target_stamp), stamp)) {
        return Standing::Unrecorded(stamp);
    }
    if let Some(done) = earlier.done(path).or_else(|| earlier.done_before(path)) {
        let standing = by_done(&done, source, entry, stamp);
        if standing == Standing::New && may_be_it(fs, &done, source, stamp) {
            // Whether it is, its bytes have to say.
            return Standing::Unrecorded(stamp);
        }
        return standing;
    }
    if let Some(other) = earlier.other(path).or_else(|| earlier.other_before(path)) {
        return by_other(&other, source, entry, stamp);
    }
    if earlier.left_behind(path).map(found) == Some(stamp) {
        return Standing::Unknown;
    }
    let looks_copied = (stamp.size, stamp.mtime) == (entry.stamp.size, entry.stamp.mtime);
    if earlier.has_gaps() && looks_copied && earlier.failed(path).is_none() {
        // Whether it is ours, its bytes have to say.
        return Standing::Unrecorded(stamp);
    }
    Standing::New
}

/// Returns whether what is there is a file that was done and about to be changed: if that was begun, it
/// has other times.
fn is_in_doubt(naming: &Naming<'_>, done: &Done<'_>, there: TargetStamp) -> bool {
    let inodes = [naming.target_stamp.ino, done.target_stamp.ino];
    inodes == [there.ino; 2] && has_size_of(there, done)
}

/// Returns whether `earlier` has another state of an entry of `source` as copied to `path`.
pub(crate) fn has_changed(earlier: &Loaded, source: u32, entry: &Entry, path: &[u8]) -> bool {
    let done = earlier.done(path).or_else(|| earlier.done_before(path));
    let known = done.map(|done| (done.source, done.source_stamp));
    let known = known.or_else(|| {
        let other = earlier.other(path).or_else(|| earlier.other_before(path));
        other.map(|other| (other.source, other.source_stamp))
    });
    let now = lasting(entry.stamp, entry.dir.tree());
    known.is_some_and(|(of, stamp)| of == source && !is_of_unknown(stamp) && stamp != now)
}

/// Returns whether a record does not say of which state of its source something is: so of what was
/// settled after a stop, and of what was saved of a file.
pub(crate) fn is_of_unknown(stamp: journal::Stamp) -> bool {
    stamp == journal::Stamp::default() || stamp == SAVED.into()
}

fn by_done(done: &Done<'_>, source: u32, entry: &Entry, stamp: TargetStamp) -> Standing {
    if found(done.target_stamp) != stamp && !seam::bug("target-stamp-ignored") {
        return Standing::New;
    }
    // Another source has this name: what is there is that one's, and not for us to replace.
    if done.source != source {
        return Standing::New;
    }
    if is_of_unknown(done.source_stamp) {
        return Standing::Unknown;
    }
    let same_source = done.source_stamp == lasting(entry.stamp, entry.dir.tree());
    if same_source || seam::bug("source-stamp-ignored") {
        Standing::Done(Copied::of(done))
    } else {
        Standing::Changed
    }
}

/// Returns whether what is there may be a file that is done although it has another stamp: on FAT and
/// exFAT, where the numbers of inodes do not outlive a remount, and times are cut.
fn may_be_it(fs: &str, done: &Done<'_>, source: u32, stamp: TargetStamp) -> bool {
    !keeps_inodes(fs) && done.source == source && done.target_stamp.size == stamp.size
}

/// Returns whether what is there may be what was about to get the name although it has another number.
fn may_be_named(fs: &str, named: TargetStamp, stamp: TargetStamp) -> bool {
    !keeps_inodes(fs) && is_near(named, stamp)
}

fn by_other(other: &Other<'_>, source: u32, entry: &Entry, stamp: TargetStamp) -> Standing {
    if other.source != source || found(other.target_stamp) != stamp {
        Standing::New
    } else if other.source_stamp == lasting(entry.stamp, entry.dir.tree()) {
        Standing::Other(stamp, other.lacks)
    } else if other.source_stamp == journal::Stamp::default() {
        Standing::Unknown
    } else {
        Standing::Changed
    }
}

/// What is staged of a large file, durable and recorded.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    pub(crate) id: StageId,
    /// How many blocks, from the first on.
    pub(crate) block_count: u64,
    view: BlocksView<'a>,
}

impl<'a> Partial<'a> {
    /// Returns the values of all its blocks, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &'a BlockValue> {
        self.view.values()
    }

    /// Returns the blocks that were synced last: the number of the first, and their values.
    pub(crate) fn last(&self) -> Option<(u64, &'a [BlockValue])> {
        self.view.slices().last()
    }
}

/// Returns what is staged of the file at `path` if its source still has the stamp it was read with.
pub(crate) fn partial<'a>(
    earlier: &'a Loaded,
    source: u32,
    path: &[u8],
    now: journal::Stamp,
) -> Option<Partial<'a>> {
    let view = earlier.blocks(path)?;
    let same = view.source == source && view.source_stamp == now;
    if !same || view.block_count == 0 {
        return None;
    }
    let id = staged(&view)?;
    Some(Partial {
        id,
        block_count: view.block_count,
        view,
    })
}

/// Returns where blocks were staged.
pub(crate) fn staged(view: &BlocksView<'_>) -> Option<StageId> {
    let thread = std::str::from_utf8(view.stage.thread).ok()?;
    Some(StageId {
        thread: thread.into(),
        number: view.stage.number,
        ino: view.stage_ino,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_fat_a_name_that_was_given_is_known_by_size_and_time() {
        let named = TargetStamp {
            ino: 7,
            size: 100,
            mtime: (1_000_000_001, 500),
        };
        let there = TargetStamp {
            ino: 8,
            size: 100,
            mtime: (1_000_000_000, 0),
        };
        assert!(may_be_named("exfat", named, there));
        assert!(!may_be_named("ext4", named, there), "there it is another");
        let longer = TargetStamp { size: 101, ..there };
        assert!(!may_be_named("exfat", named, longer));
        let mtime = (1_000_000_004, 0);
        assert!(!may_be_named(
            "exfat",
            named,
            TargetStamp { mtime, ..there }
        ));
    }

    #[test]
    fn what_was_about_to_be_changed_is_ours_with_any_time() {
        let stamp = TargetStamp {
            ino: 8,
            size: 100,
            mtime: (1_000_000_000, 0),
        };
        let target_stamp = journal::TargetStamp {
            ino: 8,
            size: 100,
            mtime: (1_700_000_000, 7),
        };
        let done = Done {
            source: 0,
            target_path: b"a",
            digest: [0; 32],
            source_stamp: journal::Stamp::default(),
            target_stamp,
            linked: false,
            lacks: true,
        };
        let naming = Naming {
            source: 0,
            target_path: b"a",
            target_stamp,
        };
        assert!(is_in_doubt(&naming, &done, stamp));
        let another = TargetStamp { ino: 9, ..stamp };
        assert!(!is_in_doubt(&naming, &done, another));
        let longer = TargetStamp { size: 101, ..stamp };
        assert!(!is_in_doubt(&naming, &done, longer));
        let page = TargetStamp {
            size: 4096,
            ..stamp
        };
        assert!(is_in_doubt(&naming, &done, page), "being mended");
    }

    #[test]
    fn on_fat_a_file_with_another_inode_may_be_the_one_that_is_done() {
        let stamp = TargetStamp {
            ino: 7,
            size: 100,
            mtime: (1_000_000_000, 0),
        };
        let done = Done {
            source: 0,
            target_path: b"a",
            digest: [0; 32],
            source_stamp: journal::Stamp::default(),
            target_stamp: journal::TargetStamp {
                ino: 8,
                size: 100,
                mtime: (1_000_000_001, 5),
            },
            linked: false,
            lacks: false,
        };
        assert!(may_be_it("vfat", &done, 0, stamp));
        assert!(may_be_it("exfat", &done, 0, stamp));
        assert!(!may_be_it("ext4", &done, 0, stamp), "there it is another");
        assert!(!may_be_it("vfat", &done, 1, stamp), "another source's");
        let longer = TargetStamp { size: 101, ..stamp };
        assert!(!may_be_it("vfat", &done, 0, longer));
    }
}
