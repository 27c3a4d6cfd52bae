//! A journal that was read: what it says about each path.

use std::fmt;
use std::num::NonZeroU64;

use super::codec;
use super::frame::{Frame, HEADER_LEN};
use super::index::Index;
use super::record::{
    Blocks, Done, End, Failed, Grade, JobHead, Naming, Other, Record, Source, Stage, Stamp,
    TargetStamp,
};
use super::runs::Runs;
use super::segment::{Place, Segments};

/// How a journal ended. Only what is before the end is ever answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With a whole frame.
    Clean,
    /// In the middle of a write: this many bytes are no longer there, or would be cut by
    /// [`open`](super::open).
    Torn {
        /// Length of the tail in bytes.
        cut_bytes: u64,
    },
    /// Something that was written has changed or cannot be read; what followed is not trusted.
    Damaged {
        /// Which segment.
        segment: u32,
        /// Where in it, in bytes.
        at: u64,
    },
}

impl Tail {
    pub(super) fn is_damaged(self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// The trusted part of a journal, as it was when it was loaded.
///
/// Records come straight from the mapped file. Each is checked against its tag whenever it is
/// looked up, so a medium that answers differently the second time makes a record vanish, not
/// change. It lives on without the target's lock: a journal is only ever appended to.
pub struct Loaded {
    job: JobHead,
    segments: Segments,
    index: Index,
    tail: Tail,
}

impl Loaded {
    pub(super) fn new(job: JobHead, segments: Segments, index: Index, tail: Tail) -> Self {
        Self {
            job,
            segments,
            index,
            tail,
        }
    }

    /// Returns the job it belongs to.
    pub fn head(&self) -> &JobHead {
        &self.job
    }

    /// Returns the last record of a source.
    pub fn source(&self, index: u32) -> Option<Source> {
        let index = usize::try_from(index).ok()?;
        let place = self.index.sources().get(index).copied().flatten()?;
        match self.segments.record(place)? {
            Record::Source(source) => Some(source),
            _ => None,
        }
    }

    /// Returns the sources, in the order of their numbers.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        let count = u32::try_from(self.index.sources().len()).unwrap_or(u32::MAX);
        (0..count).filter_map(|index| self.source(index))
    }

    /// Returns how the run ended; `None` unless that is the very last thing in the journal.
    pub fn end(&self) -> Option<End> {
        self.index.end().filter(|_| self.tail == Tail::Clean)
    }

    /// Returns how the journal ended.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Returns how many bytes of it are trusted, over all segments.
    pub fn trusted_bytes(&self) -> u64 {
        let lens = self.segments.0.iter().map(|map| map.bytes().len());
        u64::try_from(lens.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Returns for how many paths [`done`](Self::done) has an answer.
    pub fn done_count(&self) -> u64 {
        self.index.counts().done
    }

    /// Returns the bytes in those files.
    pub fn done_bytes(&self) -> u64 {
        self.index.counts().done_bytes
    }

    /// Returns how many of those files are [`linked`](Done::linked).
    pub fn linked_count(&self) -> u64 {
        self.index.counts().linked
    }

    /// Returns for how many paths [`failed`](Self::failed) has an answer.
    pub fn failed_count(&self) -> u64 {
        self.index.counts().failed
    }

    /// Returns the file that is done under `target_path`, if that is the last said of it.
    pub fn done(&self, target_path: &[u8]) -> Option<Done<'_>> {
        match self.index.state(&self.segments, target_path)? {
            (_, Record::Done(done)) => Some(done),
            _ => None,
        }
    }

    /// Returns how well the file that [`done`](Self::done) answers for was verified: the best of
    /// all times since it was done. `None` if it never was, or if something else is the last said
    /// of the path.
    pub fn verified(&self, target_path: &[u8]) -> Option<Grade> {
        self.index.grade(&self.segments, target_path)
    }

    /// Returns the file that was about to get the name `target_path`, if that is the last said of
    /// it: whether it did is for the target to answer.
    pub fn naming(&self, target_path: &[u8]) -> Option<Naming<'_>> {
        match self.index.state(&self.segments, target_path)? {
            (_, Record::Naming(naming)) => Some(naming),
            _ => None,
        }
    }

    /// Returns the file that is still there under `target_path` if what [`naming`](Self::naming)
    /// answers did not come about: the last one that was done, unless something other than a
    /// further naming came between.
    pub fn done_before(&self, target_path: &[u8]) -> Option<Done<'_>> {
        match self.before(target_path)? {
            Record::Done(done) => Some(done),
            _ => None,
        }
    }

    /// Returns the symlink or special file that is still there under `target_path`, as
    /// [`done_before`](Self::done_before) does the file.
    pub fn other_before(&self, target_path: &[u8]) -> Option<Other<'_>> {
        match self.before(target_path)? {
            Record::Other(other) => Some(other),
            _ => None,
        }
    }

    fn before(&self, target_path: &[u8]) -> Option<Record<'_>> {
        self.naming(target_path)?;
        let (record, is_in_doubt) = self.index.before(&self.segments, target_path)?;
        (!is_in_doubt).then_some(record)
    }

    /// Returns what was published under `target_path` last, if all that was said of it since is that
    /// it failed, or was about to get another file: it is ours if it is there, and nobody says that
    /// it is right.
    pub fn left_behind(&self, target_path: &[u8]) -> Option<TargetStamp> {
        let (_, last) = self.index.state(&self.segments, target_path)?;
        if !matches!(last, Record::Naming(_) | Record::Failed(_)) {
            return None;
        }
        match self.index.before(&self.segments, target_path)?.0 {
            Record::Done(done) => Some(done.target_stamp),
            Record::Other(other) => Some(other.target_stamp),
            _ => None,
        }
    }

    /// Returns the failure under `target_path`, if that is the last said of it.
    pub fn failed(&self, target_path: &[u8]) -> Option<Failed<'_>> {
        match self.index.state(&self.segments, target_path)? {
            (_, Record::Failed(failed)) => Some(failed),
            _ => None,
        }
    }

    /// Returns the symlink or special file that is durable under `target_path`, if that is the last
    /// said of it.
    pub fn other(&self, target_path: &[u8]) -> Option<Other<'_>> {
        match self.index.state(&self.segments, target_path)? {
            (_, Record::Other(other)) => Some(other),
            _ => None,
        }
    }

    /// Returns every naming that is the last said of its path: what was never acknowledged. There
    /// are no more than one batch had, in each run that did not end well.
    pub fn unacknowledged(&self) -> impl Iterator<Item = Naming<'_>> {
        let places = self.index.unacknowledged();
        places.filter_map(|place| match self.segments.record(place)? {
            Record::Naming(naming) => Some(naming),
            _ => None,
        })
    }

    /// Returns the blocks recorded for `target_path`: of the newest copy of it, whether that is
    /// done by now or not.
    pub fn blocks(&self, target_path: &[u8]) -> Option<BlocksView<'_>> {
        let (runs, hash) = self.index.runs(target_path);
        let head = runs.find(&self.segments, hash, target_path)?;
        let newest = self.blocks_at(head.newest)?;
        Some(BlocksView {
            source: newest.source,
            stage: newest.stage,
            stage_ino: newest.stage_ino,
            source_stamp: newest.source_stamp,
            block_count: head.block_count,
            slices: Slices {
                loaded: self,
                runs,
                next: Some(head.first),
            },
        })
    }

    /// Returns whether records were lost to damage, now or before an earlier run: what they said is
    /// not known.
    pub fn has_gaps(&self) -> bool {
        self.tail.is_damaged() || self.segments.0.len() > 1
    }

    /// Returns the newest record of blocks for each path that has any and is not done.
    pub fn staged(&self) -> impl Iterator<Item = Blocks<'_>> {
        self.index
            .all_runs()
            .filter_map(|place| self.blocks_at(place))
            .filter(|blocks| self.done(blocks.target_path).is_none())
    }

    /// Returns all records in the order they were made, overtaken ones too.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.placed()
            .filter_map(|(_, place)| self.segments.record(place))
    }

    /// Returns every file that is done, once, in the order they were done.
    pub fn iter_done(&self) -> impl Iterator<Item = Done<'_>> {
        let done = self.placed().filter(|(kind, _)| *kind == codec::DONE);
        done.filter_map(|(_, place)| self.current(place))
            .filter_map(|record| match record {
                Record::Done(done) => Some(done),
                _ => None,
            })
    }

    /// Returns every symlink and special file, once, in the order they were done.
    pub fn iter_other(&self) -> impl Iterator<Item = Other<'_>> {
        let other = self.placed().filter(|(kind, _)| *kind == codec::OTHER);
        other
            .filter_map(|(_, place)| self.current(place))
            .filter_map(|record| match record {
                Record::Other(other) => Some(other),
                _ => None,
            })
    }

    /// Returns every failure that is the last said of its path, in the order they happened.
    pub fn iter_failed(&self) -> impl Iterator<Item = Failed<'_>> {
        let failed = self.placed().filter(|(kind, _)| *kind == codec::FAILED);
        failed
            .filter_map(|(_, place)| self.current(place))
            .filter_map(|record| match record {
                Record::Failed(failed) => Some(failed),
                _ => None,
            })
    }

    /// Returns the record at `place` unless a later one for its path has overtaken it.
    fn current(&self, place: Place) -> Option<Record<'_>> {
        let path = match self.segments.record(place)? {
            Record::Done(done) => done.target_path,
            Record::Other(other) => other.target_path,
            Record::Failed(failed) => failed.target_path,
            _ => return None,
        };
        let (last, record) = self.index.state(&self.segments, path)?;
        (last == place).then_some(record)
    }

    /// Returns the kind and place of every frame behind the heads.
    fn placed(&self) -> impl Iterator<Item = (u8, Place)> {
        (0..).zip(&self.segments.0).flat_map(|(index, map)| {
            let mut at = HEADER_LEN;
            let frames = std::iter::from_fn(move || {
                let frame = Frame::parse(map.bytes().get(at..)?)?;
                let place = Place::new(index, at)?;
                at += frame.len();
                Some((frame.kind(), place))
            });
            frames.skip(1)
        })
    }

    fn blocks_at(&self, place: Place) -> Option<Blocks<'_>> {
        match self.segments.record(place)? {
            Record::Blocks(blocks) => Some(blocks),
            _ => None,
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("job", &self.job)
            .field("tail", &self.tail)
            .field("counts", &self.index.counts())
            .finish_non_exhaustive()
    }
}

/// The blocks of a file that are durable in the stage, or were before it was done.
#[derive(Debug, Clone)]
pub struct BlocksView<'a> {
    /// Which source the file comes from.
    pub source: u32,
    /// Where it was staged.
    pub stage: Stage<'a>,
    /// Inode number of the staged file, which it keeps when it gets its name.
    pub stage_ino: u64,
    /// The source file the blocks were read from.
    pub source_stamp: Stamp,
    /// How many blocks of 1 MiB are known, from block 0 on without gaps.
    pub block_count: u64,
    slices: Slices<'a>,
}

impl<'a> BlocksView<'a> {
    /// Returns the values in pieces: the index of a piece's first block, and its values.
    ///
    /// Fewer than [`block_count`](Self::block_count) in all only when the medium fails meanwhile.
    pub fn slices(&self) -> Slices<'a> {
        self.slices.clone()
    }

    /// Returns the values one by one, from block 0 on; as many as [`slices`](Self::slices) has.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8; 32]> + use<'a> {
        self.slices().flat_map(|(_, values)| values)
    }
}

/// Chaining values of blocks, record by record: what [`BlocksView::slices`] returns.
#[derive(Debug, Clone)]
pub struct Slices<'a> {
    loaded: &'a Loaded,
    runs: &'a Runs,
    next: Option<NonZeroU64>,
}

impl<'a> Iterator for Slices<'a> {
    type Item = (u64, &'a [[u8; 32]]);

    fn next(&mut self) -> Option<Self::Item> {
        let link = self.runs.link(self.next.take()?);
        let count = usize::try_from(link.count).ok()?;
        let values = self.loaded.blocks_at(link.place)?.values.get(..count)?;
        self.next = link.next;
        Some((link.first_block, values))
    }
}
