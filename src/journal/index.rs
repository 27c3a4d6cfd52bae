//! What holds for each path, built while a journal is read: the last record wins.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use super::record::{End, Grade, Record, Verified};
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
    pub(super) linked: u64,
    pub(super) failed: u64,
}

/// The last said of a path: where, and in the bits that places leave free, how it was verified; of
/// what was there before, whether that is in doubt.
#[derive(Debug, Clone, Copy)]
struct State(u64);

impl State {
    fn new(place: Place, grade: Option<Grade>) -> Self {
        let code = grade.map_or(0, Grade::code);
        Self(place.0 | u64::from(code) << Place::BITS)
    }

    /// Returns the state of what was there before something else was said of the path.
    fn before(place: Place, is_in_doubt: bool) -> Self {
        Self(place.0 | u64::from(is_in_doubt) << Place::BITS)
    }

    fn is_in_doubt(self) -> bool {
        self.0 >> Place::BITS != 0
    }

    fn place(self) -> Place {
        Place(self.0 & ((1 << Place::BITS) - 1))
    }

    fn grade(self) -> Option<Grade> {
        Grade::of(u8::try_from(self.0 >> Place::BITS).ok()?)
    }

    /// Returns it as a number; behind a header, no place is 0.
    fn non_zero(self) -> io::Result<NonZeroU64> {
        NonZeroU64::new(self.0).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[derive(Debug)]
pub(super) struct Index {
    hasher: PathHasher,
    /// From a path to the [`State`] of it: its last record, [`Record::Blocks`] and
    /// [`Record::Verified`] aside.
    states: Table,
    /// From a path to the [`State`] of what was published there last, if only [`Record::Naming`] and
    /// [`Record::Failed`] came since, or to a record of another kind if nothing was. Only of paths
    /// that were named or failed after something was published there: hardly any.
    before: Table,
    runs: Runs,
    /// The last record of each source, by its number.
    sources: Vec<Option<Place>>,
    end: Option<End>,
    counts: Counts,
    /// Places of the namings that are the last said of their paths: what one batch had, unless runs
    /// ended badly again and again.
    unacknowledged: BTreeSet<u64>,
}

impl Index {
    pub(super) fn new(dir: BorrowedFd<'_>, hasher: PathHasher) -> io::Result<Self> {
        Ok(Self {
            hasher,
            states: Table::new(dir)?,
            before: Table::new(dir)?,
            runs: Runs::new(dir)?,
            sources: Vec::new(),
            end: None,
            counts: Counts::default(),
            unacknowledged: BTreeSet::new(),
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
            Record::Verified(verified) => self.verify(dir, segments, verified)?,
            Record::Naming(_) | Record::Done(_) | Record::Failed(_) | Record::Other(_) => {
                self.overtake(dir, segments, place, record)?;
            }
        }
        Ok(())
    }

    /// Makes `record` the last said of its path.
    fn overtake(
        &mut self,
        dir: BorrowedFd<'_>,
        segments: &Segments,
        place: Place,
        record: &Record<'_>,
    ) -> io::Result<()> {
        let path = path_of(record).unwrap_or_default();
        let hash = self.hasher.hash(path);
        let is_it = |state| is_of(segments, State(state).place(), path);
        let old = self
            .states
            .put(dir, hash, State::new(place, None).non_zero()?, is_it)?;
        let old = old.map(|old| State(old.get()).place());
        let old_record = old.and_then(|old| segments.record(old));
        if let Some(old) = &old_record {
            self.counts.remove(old);
        }
        self.counts.add(record);
        if let Some(old) = old {
            self.unacknowledged.remove(&old.0);
        }
        let has_failed = match record {
            Record::Naming(_) => {
                self.unacknowledged.insert(place.0);
                false
            }
            Record::Failed(_) => true,
            _ => return Ok(()),
        };
        let is_it = |state| is_of(segments, State(state).place(), path);
        let known = self.before.find(hash, is_it).map(|it| State(it.get()));
        let before = match (old, old_record) {
            (Some(old), Some(Record::Done(_) | Record::Other(_))) => State::before(old, has_failed),
            // What that one overtook may still be there.
            (_, Some(Record::Naming(_) | Record::Failed(_))) => match known {
                Some(known) if has_failed => State::before(known.place(), true),
                _ => return Ok(()),
            },
            // Its own place is that of nothing published.
            _ if known.is_some() => State::before(place, false),
            _ => return Ok(()),
        };
        self.before.put(dir, hash, before.non_zero()?, is_it)?;
        Ok(())
    }

    fn verify(
        &mut self,
        dir: BorrowedFd<'_>,
        segments: &Segments,
        verified: &Verified<'_>,
    ) -> io::Result<()> {
        let hash = self.hasher.hash(verified.target_path);
        let is_done = |state| {
            matches!(segments.record(State(state).place()),
                Some(Record::Done(done)) if done.target_path == verified.target_path
                    && done.target_stamp.ino == verified.target_ino)
        };
        let Some(state) = self.states.find(hash, is_done) else {
            return Ok(());
        };
        let old = State(state.get());
        // What was seen on the medium once stays seen.
        let grade = old.grade().max(Some(verified.grade));
        let state = State::new(old.place(), grade).non_zero()?;
        let is_old = |state| state == old.0;
        self.states.put(dir, hash, state, is_old).map(drop)
    }

    fn find(&self, segments: &Segments, path: &[u8]) -> Option<State> {
        let hash = self.hasher.hash(path);
        let is_it = |state| is_of(segments, State(state).place(), path);
        Some(State(self.states.find(hash, is_it)?.get()))
    }

    /// Returns the last record for `path` other than [`Record::Blocks`] and [`Record::Verified`],
    /// and its place.
    pub(super) fn state<'a>(
        &self,
        segments: &'a Segments,
        path: &[u8],
    ) -> Option<(Place, Record<'a>)> {
        let place = self.find(segments, path)?.place();
        segments.record(place).map(|record| (place, record))
    }

    /// Returns how well the file that is done under `path` was verified.
    pub(super) fn grade(&self, segments: &Segments, path: &[u8]) -> Option<Grade> {
        self.find(segments, path)?.grade()
    }

    /// Returns the record of what was published under `path` last, if only [`Record::Naming`] and
    /// [`Record::Failed`] came since, and whether the latter did. Means something only while one of
    /// them is the last said of it.
    pub(super) fn before<'a>(
        &self,
        segments: &'a Segments,
        path: &[u8],
    ) -> Option<(Record<'a>, bool)> {
        let hash = self.hasher.hash(path);
        let is_it = |state| is_of(segments, State(state).place(), path);
        let state = State(self.before.find(hash, is_it)?.get());
        Some((segments.record(state.place())?, state.is_in_doubt()))
    }

    /// Returns the blocks recorded for paths, and the hash to look for `path` with.
    pub(super) fn runs(&self, path: &[u8]) -> (&Runs, u64) {
        (&self.runs, self.hasher.hash(path))
    }

    /// Returns the places of the namings that are the last said of their paths.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = Place> {
        self.unacknowledged.iter().copied().map(Place)
    }

    /// Returns the place of the newest record of blocks for each path that has any.
    pub(super) fn all_runs(&self) -> impl Iterator<Item = Place> {
        self.runs.newest()
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
                self.linked += u64::from(done.linked);
            }
            Record::Other(other) => self.linked += u64::from(other.linked),
            Record::Failed(_) => self.failed += 1,
            Record::Source(_)
            | Record::Blocks(_)
            | Record::Naming(_)
            | Record::Verified(_)
            | Record::End(_) => {}
        }
    }

    fn remove(&mut self, record: &Record<'_>) {
        match record {
            Record::Done(done) => {
                self.done = self.done.saturating_sub(1);
                self.done_bytes = self.done_bytes.saturating_sub(done.source_stamp.size);
                self.linked = self.linked.saturating_sub(u64::from(done.linked));
            }
            Record::Other(other) => {
                self.linked = self.linked.saturating_sub(u64::from(other.linked));
            }
            Record::Failed(_) => self.failed = self.failed.saturating_sub(1),
            Record::Source(_)
            | Record::Blocks(_)
            | Record::Naming(_)
            | Record::Verified(_)
            | Record::End(_) => {}
        }
    }
}

/// Returns the path of a record that can be the last said of one.
fn path_of<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    match record {
        Record::Naming(naming) => Some(naming.target_path),
        Record::Done(done) => Some(done.target_path),
        Record::Failed(failed) => Some(failed.target_path),
        Record::Other(other) => Some(other.target_path),
        Record::Source(_) | Record::Blocks(_) | Record::Verified(_) | Record::End(_) => None,
    }
}

fn is_of(segments: &Segments, place: Place, path: &[u8]) -> bool {
    let record = segments.record(place);
    record.as_ref().and_then(path_of) == Some(path)
}
