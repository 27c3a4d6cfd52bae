//! The journal of a run, shared by its threads: what is claimed in it, and when.
//!
//! 1. [`naming`](Log::naming) before files get their names: what is found under such a name after a
//!    stop, and was never acknowledged, is ours.
//! 2. [`blocks`](Log::blocks) after part of a large file was synced.
//! 3. [`done`](Log::done) after data and names were synced; only then is a file acknowledged.
//!
//! A journal that cannot be written ends the run: nothing is acknowledged that a later run would
//! not know of.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::pace::Pace;
use super::standing::{Partial, Standing};
use super::vigil::Vigil;
use crate::digest::{BlockValue, Hash};
use crate::error::Error;
use crate::journal::{
    self, Blocks, Done, End, Failed, Grade, Loaded, Naming, Other, Position, Record, Stage,
    TargetStamp as Known, Verified, Writer,
};
use crate::scan::{Entry, FileStamp, Tree};
use crate::seam;
use crate::target::{Sealed, StageId, TargetStamp, Vacancy};

/// Values in one record: 256 MiB of data, the most that is synced in one go.
pub(crate) const VALUES_MAX: usize = 256;

/// The journal of a run.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    /// What earlier runs of the job left.
    earlier: Option<Arc<Loaded>>,
    /// Set for drives that came back.
    before: Option<Before>,
    /// The journal's number of each SOURCE of this run.
    sources: Vec<u32>,
    /// Whether half copied files are gone on with.
    continues: bool,
}

/// What runs before this one left, and this one did not count.
#[derive(Debug, Clone)]
struct Before(Option<Arc<Loaded>>);

/// What there is once, however often sources come back.
#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    has_failed: AtomicBool,
    pace: Pace,
    vigil: Arc<Vigil>,
}

/// Which part of a staged file is durable, or what its last blocks were.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) id: &'a StageId,
    /// The source file it was read from.
    pub(crate) stamp: FileStamp,
    pub(crate) first_block: u64,
    pub(crate) values: &'a [BlockValue],
}

impl Log {
    /// Returns the journal of a run whose SOURCEs have these numbers in it.
    pub(crate) fn new(
        writer: Writer,
        earlier: Option<Loaded>,
        sources: Vec<u32>,
        continues: bool,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                pace: Pace::new(writer.position()),
                writer: Mutex::new(writer),
                has_failed: AtomicBool::new(false),
                vigil: Arc::default(),
            }),
            earlier: earlier.map(Arc::new),
            before: None,
            sources,
            continues,
        }
    }

    /// Returns the same journal for sources that came back: `loaded` is what it has by now.
    pub(crate) fn again(&self, loaded: Loaded) -> Self {
        let before = self.before.clone();
        Self {
            shared: Arc::clone(&self.shared),
            before: Some(before.unwrap_or_else(|| Before(self.earlier.clone()))),
            earlier: Some(Arc::new(loaded)),
            sources: self.sources.clone(),
            continues: self.continues,
        }
    }

    /// Returns whether this run has copied, and counted, what is done at a path below TARGET: whether
    /// `of` its stamp is not what it was.
    pub(crate) fn has_counted<T: PartialEq>(&self, path: &[u8], of: fn(Known) -> T) -> bool {
        let Some(Before(before)) = &self.before else {
            return false;
        };
        let known = |loaded: &Loaded| {
            let done = loaded.done(path).map(|done| done.target_stamp);
            let other = || loaded.other(path).map(|other| other.target_stamp);
            done.or_else(other).map(of)
        };
        let now = self.earlier.as_deref().and_then(known);
        now.is_some() && now != before.as_deref().and_then(known)
    }

    /// Returns what notices when the target, which the journal is in, does not answer.
    pub(crate) fn vigil(&self) -> &Arc<Vigil> {
        &self.shared.vigil
    }

    /// Returns how far writing and acknowledging have come.
    pub(crate) fn pace(&self) -> &Pace {
        &self.shared.pace
    }

    /// Returns how far it is durable.
    pub(crate) fn position(&self) -> Position {
        self.lock().position()
    }

    /// Returns what earlier runs of the job left.
    pub(crate) fn earlier(&self) -> Option<&Loaded> {
        self.earlier.as_deref()
    }

    /// Returns the journal's number of a source.
    pub(crate) fn number_of(&self, tree: &Tree) -> u32 {
        self.sources.get(tree.index).copied().unwrap_or(u32::MAX)
    }

    /// Returns the journal's number of the source an entry is in.
    fn source(&self, entry: &Entry) -> u32 {
        self.number_of(entry.dir.tree())
    }

    /// Returns what earlier runs left of an entry, given what is under its name now.
    pub(crate) fn standing(&self, entry: &Entry, path: &[u8], there: Vacancy) -> Standing {
        match &self.earlier {
            Some(earlier) => {
                super::standing::standing(earlier, self.source(entry), entry, path, there)
            }
            None => Standing::New,
        }
    }

    /// Returns what is staged of a large file whose source has this stamp now.
    pub(crate) fn partial(
        &self,
        entry: &Entry,
        path: &[u8],
        now: FileStamp,
    ) -> Option<Partial<'_>> {
        let earlier = self.earlier.as_deref().filter(|_| self.continues)?;
        super::standing::partial(
            earlier,
            self.source(entry),
            path,
            lasting(now, entry.dir.tree()),
        )
    }

    /// Says that these are about to get their names.
    ///
    /// # Durability
    /// Written, and synced only if `sync` says so: the sync of the whole file system that comes
    /// before the names makes it durable with the data.
    pub(crate) fn naming<'b>(
        &self,
        batch: impl Iterator<Item = (&'b Entry, &'b Sealed)>,
        sync: bool,
    ) -> Result<(), Error> {
        if seam::bug("naming-not-recorded") {
            return Ok(());
        }
        let _asking = self.vigil().enter()?;
        let mut writer = self.lock();
        let now = Instant::now();
        for (entry, sealed) in batch {
            let Some(stamp) = sealed.stamp else { continue };
            let record = Record::Naming(Naming {
                source: self.source(entry),
                target_path: &sealed.target_path,
                target_stamp: recorded(stamp),
            });
            self.check(writer.append(&record, now))?;
        }
        seam::point("naming-appended");
        let answer = if sync {
            writer.commit()
        } else {
            writer.flush()
        };
        self.check(answer)?;
        seam::point("naming-flushed");
        Ok(())
    }

    /// Adds that a file is whole and durable under its final name.
    ///
    /// # Durability
    /// None until [`commit`](Self::commit).
    pub(crate) fn done(
        &self,
        entry: &Entry,
        sealed: &Sealed,
        digest: &Hash,
        tail: Option<&Part<'_>>,
    ) -> Result<(), Error> {
        if let Some(part) = tail.filter(|part| !part.values.is_empty()) {
            self.append_blocks(entry, &sealed.target_path, part)?;
        }
        let Some(stamp) = sealed.stamp else {
            // It could not be looked at: a later run cannot know it again, and copies it anew.
            return Ok(());
        };
        let record = Record::Done(Done {
            source: self.source(entry),
            target_path: &sealed.target_path,
            digest: *digest.as_bytes(),
            source_stamp: lasting(entry.stamp, entry.dir.tree()),
            target_stamp: recorded(stamp),
            linked: entry.nlink > 1,
            lacks: sealed.lacks,
        });
        self.append(&record)
    }

    /// Adds that a symlink or a special file is durable under its final name.
    ///
    /// # Durability
    /// None until [`commit`](Self::commit).
    pub(crate) fn other(&self, entry: &Entry, sealed: &Sealed) -> Result<(), Error> {
        let Some(stamp) = sealed.stamp else {
            return Ok(());
        };
        self.append(&Record::Other(Other {
            source: self.source(entry),
            target_path: &sealed.target_path,
            source_stamp: lasting(entry.stamp, entry.dir.tree()),
            target_stamp: recorded(stamp),
            linked: entry.nlink > 1,
            lacks: sealed.lacks,
        }))
    }

    /// Says that part of a staged file is durable: it must be synced by now.
    ///
    /// # Durability
    /// Durable when this returns.
    pub(crate) fn blocks(&self, entry: &Entry, path: &[u8], part: &Part<'_>) -> Result<(), Error> {
        self.append_blocks(entry, path, part)?;
        seam::point("blocks-appended");
        self.commit()?;
        seam::point("blocks-committed");
        Ok(())
    }

    fn append_blocks(&self, entry: &Entry, path: &[u8], part: &Part<'_>) -> Result<(), Error> {
        let chunks = (part.first_block..)
            .step_by(VALUES_MAX)
            .zip(part.values.chunks(VALUES_MAX));
        for (first_block, values) in chunks {
            let record = Record::Blocks(Blocks {
                source: self.source(entry),
                target_path: path,
                stage: Stage {
                    thread: part.id.thread.as_bytes(),
                    number: part.id.number,
                },
                stage_ino: part.id.ino,
                source_stamp: lasting(part.stamp, entry.dir.tree()),
                first_block,
                values,
            });
            self.append(&record)?;
        }
        Ok(())
    }

    /// Adds that a file could not be copied, for good or until a later run manages it.
    pub(crate) fn failed(&self, entry: &Entry, error: &Error) {
        let path = entry.target_path();
        let record = Record::Failed(Failed {
            source: self.source(entry),
            target_path: &path,
            kind: error.kind().word(),
            reason: &error.reason(),
        });
        // The journal's own failure is met, and told, by whoever acknowledges next.
        drop(self.append(&record));
    }

    /// Adds that a file was read back and found right.
    pub(crate) fn verified(
        &self,
        source: u32,
        path: &[u8],
        target_ino: u64,
        grade: Grade,
    ) -> Result<(), Error> {
        let record = Record::Verified(Verified {
            source,
            target_path: path,
            target_ino,
            grade,
        });
        self.append(&record)?;
        seam::point("verified-appended");
        Ok(())
    }

    /// Says that files that are done are about to be written to, or taken away.
    ///
    /// # Durability
    /// Durable when this returns: after a stop, the next run reads them and decides.
    pub(crate) fn doubted(&self, files: &[Done<'_>]) -> Result<(), Error> {
        for done in files {
            self.append(&Record::Naming(Naming {
                source: done.source,
                target_path: done.target_path,
                target_stamp: done.target_stamp,
            }))?;
        }
        self.commit()
    }

    /// Says that files in doubt are as they were when they were done.
    ///
    /// # Durability
    /// Durable when this returns.
    pub(crate) fn done_again(&self, files: &[Done<'_>]) -> Result<(), Error> {
        for done in files {
            self.append(&Record::Done(*done))?;
        }
        self.commit()
    }

    /// Adds that the file of `source` at `path` turned out to be wrong, and was taken away.
    ///
    /// # Durability
    /// Durable when this returns.
    pub(crate) fn found_wrong(&self, source: u32, path: &[u8], error: &Error) -> Result<(), Error> {
        self.append(&Record::Failed(Failed {
            source,
            target_path: path,
            kind: error.kind().word(),
            reason: &error.reason(),
        }))?;
        self.commit()
    }

    /// Adds how the run ended, and makes everything durable.
    pub(crate) fn end(&self, complete: bool, exit_code: u8) -> Result<(), Error> {
        self.append(&Record::End(End {
            complete,
            exit_code,
        }))?;
        self.commit()
    }

    /// Makes everything appended so far durable.
    ///
    /// # Durability
    /// `Ok` means that it survives a power cut.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        self.commit_up_to().map(drop)
    }

    fn commit_up_to(&self) -> Result<Position, Error> {
        let _asking = self.vigil().enter()?;
        let mut writer = self.lock();
        seam::point("journal-writing");
        let answer = if seam::bug("journal-not-synced") {
            writer.flush()
        } else {
            writer.commit()
        };
        self.check(answer)?;
        seam::point("journal-synced");
        Ok(writer.position())
    }

    /// Makes everything appended so far durable, which acknowledges a batch of files with `bytes`
    /// bytes. `flushed` is what [`written`](Pace::written) was when its sync began, if that succeeded.
    ///
    /// # Durability
    /// `Ok` means that it survives a power cut.
    pub(crate) fn acknowledge(&self, bytes: u64, flushed: Option<u64>) -> Result<(), Error> {
        let position = self.commit_up_to()?;
        self.pace().acknowledge(position, bytes, flushed);
        Ok(())
    }

    /// Commits if a group has waited long enough; returns when the next one is due.
    pub(crate) fn tick(&self, now: Instant) -> Result<Option<Instant>, Error> {
        let (due, deadline) = {
            let writer = self.lock();
            (writer.is_due(now), writer.deadline())
        };
        if due && !self.has_failed() {
            self.commit()?;
            return Ok(None);
        }
        Ok(deadline.filter(|_| !self.has_failed()))
    }

    /// Returns whether the journal cannot be written any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Relaxed)
    }

    fn append(&self, record: &Record<'_>) -> Result<(), Error> {
        let _asking = self.vigil().enter()?;
        let mut writer = self.lock();
        self.check(writer.append(record, Instant::now()))
    }

    fn check(&self, answer: Result<(), Error>) -> Result<(), Error> {
        if seam::bug("journal-error-ignored") {
            return Ok(());
        }
        answer.inspect_err(|_| self.shared.has_failed.store(true, Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        let writer = &self.shared.writer;
        writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a stamp as the journal has it.
pub(crate) fn recorded(stamp: TargetStamp) -> journal::TargetStamp {
    journal::TargetStamp {
        ino: stamp.ino,
        size: stamp.size,
        mtime: stamp.mtime,
    }
}

/// Returns what of a source's stamp outlives a remount: what is recorded, and compared later.
pub(crate) fn lasting(stamp: FileStamp, tree: &Tree) -> journal::Stamp {
    let mut stamp = journal::Stamp::from(stamp);
    if !tree.keeps_inodes {
        (stamp.ino, stamp.ctime) = (0, (0, 0));
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Tree;
    use crate::target::keeps_inodes;

    #[test]
    fn on_fat_only_size_and_time_outlive_a_remount() {
        let stamp = FileStamp {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: (4, 5),
            ctime: (6, 7),
        };
        for (fs, ino, ctime) in [
            ("ext4", 2, (6, 7)),
            ("exfat", 0, (0, 0)),
            ("vfat", 0, (0, 0)),
        ] {
            let tree = Tree {
                index: 0,
                label: "/mnt/card".into(),
                root: std::fs::File::open("/").unwrap().into(),
                only: None,
                landing: Vec::new(),
                root_attributes: false,
                device: 1,
                direct: true,
                trusts_holes: false,
                trusts_sizes: true,
                keeps_inodes: keeps_inodes(fs),
                finished: crossbeam::channel::bounded(1).0,
            };
            let lasting = lasting(stamp, &tree);
            assert_eq!((lasting.ino, lasting.ctime), (ino, ctime), "{fs}");
            assert_eq!((lasting.size, lasting.mtime), (3, (4, 5)), "{fs}");
        }
    }
}
