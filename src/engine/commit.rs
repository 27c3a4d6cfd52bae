//! The committer: gathers whole files into batches, makes each batch durable, acknowledges it.
//!
//! One for each target file system: a sync flushes all of it, so two would wait for each other's
//! data. A batch closes after [`BATCH_FILES`], [`BATCH_BYTES`] or [`BATCH_TIME`], whichever comes
//! first, and while it is made durable the next one gathers in the queue.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::context::Context;
use super::ledger::Ledger;
use super::links::First;
use super::log::Part;
use super::standing::has_changed;
use crate::digest::{BlockValue, Hash};
use crate::error::Error;
use crate::scan::{Entry, FileStamp, Kind};
use crate::seam;
use crate::target::{Sealed, StageId};

/// Most files in a batch.
pub(crate) const BATCH_FILES: usize = 1024;
/// Most bytes in a batch: what a power cut may cost in work done again.
const BATCH_BYTES: u64 = 1 << 30;
/// Longest a whole file waits for its batch to close.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// What a name ends with that is given to what could be read of a file.
pub(crate) const PARTIAL: &[u8] = b".partial";
/// The stamp of what was saved of a file, in place of one of a source: no time has such a fraction, so
/// no file of a source has it, nor has what is settled after a stop.
pub(crate) const SAVED: FileStamp = FileStamp {
    dev: 0,
    ino: 0,
    size: 0,
    mtime: (0, u32::MAX),
    ctime: (0, 0),
};

/// What a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A regular file that was copied, with its digest.
    File(Hash),
    /// A regular file that an earlier run copied, with its digest: it has attributes now that it lacked.
    Kept(Hash),
    /// What could be read of a regular file under a name of its own, with its digest.
    Partial(Hash),
    /// A further name for something published; a regular file has this digest.
    Link(Option<Hash>),
    /// A symlink or special file.
    Other,
}

impl What {
    fn digest(&self) -> Option<&Hash> {
        match self {
            Self::File(digest) | Self::Kept(digest) | Self::Partial(digest) => Some(digest),
            Self::Link(digest) => digest.as_ref(),
            Self::Other => None,
        }
    }
}

/// The last blocks of a large file: their values are recorded when it is acknowledged.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) id: StageId,
    pub(crate) first_block: u64,
    pub(crate) values: Vec<BlockValue>,
}

/// Something whole that lacks its name.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) item: Item,
    /// Where it is until it is published.
    pub(crate) sealed: Sealed,
}

/// What is known of something whole, apart from where it is.
#[derive(Debug)]
pub(crate) struct Item {
    /// The lane it came from.
    pub(crate) lane: usize,
    /// Where it comes from.
    pub(crate) entry: Entry,
    /// What it is.
    pub(crate) what: What,
    /// Its length in bytes; 0 for what has no bytes of its own.
    pub(crate) bytes: u64,
    /// What the journal has yet to learn of its blocks.
    pub(crate) tail: Option<Tail>,
}

/// The end of the line for every file.
#[derive(Debug)]
pub(crate) struct Committer<'r> {
    context: &'r Context,
    ledger: &'r mut dyn Ledger,
}

impl<'r> Committer<'r> {
    pub(crate) fn new(context: &'r Context, ledger: &'r mut dyn Ledger) -> Self {
        Self { context, ledger }
    }

    /// Commits until every sender is gone.
    pub(crate) fn run(&mut self, incoming: &Receiver<Commit>) {
        let mut batch: Vec<Commit> = Vec::new();
        let mut bytes = 0;
        let mut deadline = None;
        let files = seam::setting("BATCH_FILES").and_then(|files| usize::try_from(files).ok());
        let files = files.unwrap_or(BATCH_FILES);
        loop {
            match receive(incoming, earlier(deadline, self.tick(Instant::now()))) {
                Ok(commit) => {
                    deadline.get_or_insert_with(|| Instant::now() + BATCH_TIME);
                    bytes += commit.item.bytes;
                    batch.push(commit);
                    if batch.len() < files && bytes < BATCH_BYTES {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Disconnected) if batch.is_empty() => break,
                Err(RecvTimeoutError::Timeout) if deadline.is_none_or(|at| Instant::now() < at) => {
                    continue;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            batch = self.commit(std::mem::take(&mut batch));
            bytes = 0;
            // Links follow at once: what they are linked to is waiting for nobody any more.
            deadline = (!batch.is_empty()).then(Instant::now);
        }
    }

    /// Commits what others added to the journal when it is due; returns when to look again.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        let log = self.context.log.as_ref()?;
        match log.tick(now) {
            Ok(next) => next,
            Err(error) => {
                // The next batch finds the journal failed, and reports its files.
                self.context.journal_lost(&error);
                None
            }
        }
    }

    /// Makes a batch durable and acknowledges it. Returns the links that can follow now.
    pub(crate) fn commit(&mut self, batch: Vec<Commit>) -> Vec<Commit> {
        let (items, sealed): (Vec<Item>, Vec<Sealed>) =
            batch.into_iter().map(|c| (c.item, c.sealed)).unzip();
        let flushed = self
            .context
            .log
            .as_ref()
            .map_or(0, |log| log.pace().written());
        let mut answers = match self.announce(&items, &sealed) {
            Ok(()) => self.context.target.publish(&sealed),
            Err(error) => items.iter().map(|_| Err(unrecorded(&error))).collect(),
        };
        debug_assert_eq!(answers.len(), items.len(), "one answer for each file");
        if let Err(error) = self.record(&items, &sealed, &answers, flushed) {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(unrecorded(&error));
            }
        }
        seam::point("acknowledging");
        let mut links = Vec::new();
        for ((item, answer), sealed) in items.into_iter().zip(answers).zip(&sealed) {
            let acknowledged = answer.and_then(|()| {
                let digest = item.what.digest();
                self.ledger
                    .committed(&item.entry, digest, sealed.linked_to())
            });
            match acknowledged {
                Ok(()) => self.acknowledge(&item, sealed, &mut links),
                Err(error) => {
                    self.context.entry_failed(item.lane, &item.entry, &error);
                    fail_links(self.context, item.lane, &item.entry, &error);
                }
            }
        }
        seam::point("acknowledged");
        links
    }

    /// Tells the journal what is about to get its name. A further name of a file that no run of ours
    /// copied is not ours to take away, so it is not told of.
    fn announce(&self, items: &[Item], sealed: &[Sealed]) -> Result<(), Error> {
        let Some(log) = &self.context.log else {
            return Ok(());
        };
        let ours = items.iter().zip(sealed).filter_map(|(item, sealed)| {
            let is_ours = item.entry.kind != Kind::File || item.what.digest().is_some();
            is_ours.then_some((&item.entry, sealed))
        });
        log.naming(ours, !self.context.target.syncs_whole())
    }

    /// Tells the journal what is durable under its name, and makes that durable in turn.
    fn record(
        &self,
        items: &[Item],
        sealed: &[Sealed],
        answers: &[Result<(), Error>],
        flushed: u64,
    ) -> Result<(), Error> {
        let Some(log) = &self.context.log else {
            return Ok(());
        };
        let mut bytes = 0;
        for ((item, sealed), answer) in items.iter().zip(sealed).zip(answers) {
            if answer.is_err() {
                continue;
            }
            if item.entry.kind != Kind::File {
                log.other(&item.entry, sealed)?;
            } else if let Some(digest) = item.what.digest() {
                let tail = item.tail.as_ref().map(|tail| Part {
                    id: &tail.id,
                    stamp: item.entry.stamp,
                    first_block: tail.first_block,
                    values: &tail.values,
                });
                log.done(&item.entry, sealed, digest, tail.as_ref())?;
                if !matches!(item.what, What::Kept(_)) {
                    bytes += item.entry.stamp.size;
                }
            }
        }
        seam::point("done-appended");
        if seam::bug("ack-before-journal") {
            return Ok(());
        }
        let synced = answers.iter().any(Result::is_ok);
        log.acknowledge(bytes, synced.then_some(flushed))
    }

    /// Returns whether what was copied takes the place of what an earlier run copied of it. (When it is
    /// begun is too early to count that: its drive may go, and come back.)
    fn has_changed(&self, item: &Item, sealed: &Sealed) -> bool {
        let is_copied = !matches!(item.what, What::Kept(_) | What::Partial(_));
        let log = self
            .context
            .log
            .as_ref()
            .filter(|_| is_copied && sealed.replace);
        let known = log.and_then(|log| Some((log, log.earlier()?)));
        known.is_some_and(|(log, earlier)| {
            let source = log.number_of(item.entry.dir.tree());
            has_changed(earlier, source, &item.entry, &sealed.target_path)
        })
    }

    fn acknowledge(&self, item: &Item, sealed: &Sealed, links: &mut Vec<Commit>) {
        // A second read counts for nothing but what it finds wrong.
        let counts = self.context.expected.is_none();
        if let Some(counters) = self.context.outcomes.lane(item.lane).filter(|_| counts) {
            // What could be read of a file says nothing of the file itself.
            if !matches!(item.what, What::Partial(_)) {
                self.context.outcomes.copied(item.lane, &item.entry);
            }
            self.context.outcomes.forgone(sealed.forgone);
            if self.has_changed(item, sealed) {
                counters.files_changed.fetch_add(1, Relaxed);
            }
            match item.what {
                What::File(_) => {
                    counters.files_done.fetch_add(1, Relaxed);
                    counters.bytes_done.fetch_add(item.bytes, Relaxed);
                }
                What::Kept(_) => {
                    counters.files_kept.fetch_add(1, Relaxed);
                    counters.bytes_kept.fetch_add(item.bytes, Relaxed);
                }
                What::Partial(_) => drop(counters.files_salvaged.fetch_add(1, Relaxed)),
                What::Link(_) | What::Other => drop(counters.others_done.fetch_add(1, Relaxed)),
            }
        }
        let entry = &item.entry;
        let (Some(table), true) = (&self.context.links, entry.nlink > 1) else {
            return;
        };
        let digest = match item.what {
            What::File(digest) => Some(digest),
            What::Other => None,
            What::Kept(_) | What::Link(_) | What::Partial(_) => return,
        };
        let first = First {
            path: entry.target_path(),
            digest,
            stamp: sealed.stamp,
            lacks: sealed.lacks,
        };
        for (waiting, replace) in table.settled(entry, &first) {
            seam::point("links-following");
            links.push(link(item.lane, waiting, first.clone(), replace));
        }
    }
}

fn receive(
    incoming: &Receiver<Commit>,
    deadline: Option<Instant>,
) -> Result<Commit, RecvTimeoutError> {
    match deadline {
        Some(deadline) => incoming.recv_deadline(deadline),
        None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Returns why a file is not acknowledged when the journal cannot be written.
fn unrecorded(error: &Error) -> Error {
    error.hence("not acknowledged")
}

/// Returns the commit of a further name for a file that is durable under its first.
pub(crate) fn link(lane: usize, entry: Entry, first: First, replace: bool) -> Commit {
    let mut sealed = Sealed::link(first.path, entry.target_path(), replace, first.stamp);
    // One inode: what one name lacks, the other does.
    sealed.lacks = first.lacks;
    Commit {
        item: Item {
            lane,
            entry,
            what: What::Link(first.digest),
            bytes: 0,
            tail: None,
        },
        sealed,
    }
}

/// Reports every name that waited for a first name that failed for this reason.
pub(crate) fn fail_links(context: &Context, lane: usize, first: &Entry, error: &Error) {
    let Some(table) = context.links.as_ref().filter(|_| first.nlink > 1) else {
        return;
    };
    for waiting in table.failed(first) {
        let what = "it is a hard link to a file that could not be copied";
        let error = Error::new(error.kind(), error.side(), first.display_path(), what);
        context.entry_failed(lane, &waiting, &error);
    }
}
