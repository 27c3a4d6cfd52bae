//! What holds for each path, built while a journal is read: the last record wins.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use super::record::{End, Record};
use super::runs::Runs;
use super::segment::{Place, Segments};
use super::table::Table;

/// Hashes paths with a key of this run: names on a source cannot be chosen to collide.
#[derive(Debug)]
pub(super) struct PathHasher {
    key: RandomState,
    /// All ones, but for tests that want collisions.
    mask: u64,
}

impl Default for PathHasher {
    fn default() -> Self {
        Self {
            key: RandomState::new(),
            mask: u64::MAX,
        }
    }
}

impl PathHasher {
    /// Returns one that has only four answers.
    #[cfg(test)]
    pub(super) fn colliding() -> Self {
        Self {
            mask: 3,
            ..Self::default()
        }
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.key.hash_one(path) & self.mask
    }
}

/// How much is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) done: u64,
    pub(super) done_bytes: u64,
    pub(super) failed: u64,
}

#[derive(Debug)]
pub(super) struct Index {
    hasher: PathHasher,
    /// From a path to its last record other than [`Record::Blocks`].
    states: Table,
    runs: Runs,
    /// The last record of each source, by its number.
    sources: Vec<Option<Place>>,
    end: Option<End>,
    counts: Counts,
}

impl Index {
    pub(super) fn new(dir: BorrowedFd<'_>, hasher: PathHasher) -> io::Result<Self> {
        Ok(Self {
            hasher,
            states: Table::new(dir)?,
            runs: Runs::new(dir)?,
            sources: Vec::new(),
            end: None,
            counts: Counts::default(),
        })
    }

    /// Takes in the record at `place`, which follows all those taken in before.
    pub(super) fn add(
        &mut self,
        dir: BorrowedFd<'_>,
        segments: &Segments,
        place: Place,
        record: &Record<'_>,
    ) -> io::Result<()> {
        self.end = None;
        match record {
            Record::Source(source) => {
                // Decoding has bounded it: 65,536 places of 16 bytes at most.
                let index = usize::try_from(source.index).map_err(io::Error::other)?;
                if self.sources.len() <= index {
                    self.sources.resize(index + 1, None);
                }
                if let Some(slot) = self.sources.get_mut(index) {
                    *slot = Some(place);
                }
            }
            Record::Blocks(blocks) => {
                let hash = self.hasher.hash(blocks.target_path);
                self.runs.add(dir, segments, hash, place, blocks)?;
            }
            Record::End(end) => self.end = Some(*end),
            Record::Done(_) | Record::Failed(_) | Record::Dir(_) => {
                let path = path_of(record).unwrap_or_default();
                let hash = self.hasher.hash(path);
                let value = NonZeroU64::new(place.0).ok_or(io::ErrorKind::InvalidData)?;
                let is_it = |place| is_of(segments, Place(place), path);
                let old = self.states.put(dir, hash, value, is_it)?;
                if let Some(old) = old.and_then(|old| segments.record(Place(old.get()))) {
                    self.counts.remove(&old);
                }
                self.counts.add(record);
            }
        }
        Ok(())
    }

    /// Returns the last record for `path` other than [`Record::Blocks`], and its place.
    pub(super) fn state<'a>(
        &self,
        segments: &'a Segments,
        path: &[u8],
    ) -> Option<(Place, Record<'a>)> {
        let hash = self.hasher.hash(path);
        let is_it = |place| is_of(segments, Place(place), path);
        let place = Place(self.states.find(hash, is_it)?.get());
        segments.record(place).map(|record| (place, record))
    }

    /// Returns the blocks recorded for paths, and the hash to look for `path` with.
    pub(super) fn runs(&self, path: &[u8]) -> (&Runs, u64) {
        (&self.runs, self.hasher.hash(path))
    }

    pub(super) fn sources(&self) -> &[Option<Place>] {
        &self.sources
    }

    /// Returns the last record if it is the end of a run.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

impl Counts {
    fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Done(done) => {
                self.done += 1;
                self.done_bytes = self.done_bytes.saturating_add(done.source_stamp.size);
            }
            Record::Failed(_) => self.failed += 1,
            Record::Source(_) | Record::Blocks(_) | Record::Dir(_) | Record::End(_) => {}
        }
    }

    fn remove(&mut self, record: &Record<'_>) {
        match record {
            Record::Done(done) => {
                self.done = self.done.saturating_sub(1);
                self.done_bytes = self.done_bytes.saturating_sub(done.source_stamp.size);
            }
            Record::Failed(_) => self.failed = self.failed.saturating_sub(1),
            Record::Source(_) | Record::Blocks(_) | Record::Dir(_) | Record::End(_) => {}
        }
    }
}

fn path_of<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    match record {
        Record::Done(done) => Some(done.target_path),
        Record::Failed(failed) => Some(failed.target_path),
        Record::Dir(dir) => Some(dir.target_path),
        Record::Source(_) | Record::Blocks(_) | Record::End(_) => None,
    }
}

fn is_of(segments: &Segments, place: Place, path: &[u8]) -> bool {
    let record = segments.record(place);
    record.as_ref().and_then(path_of) == Some(path)
}
