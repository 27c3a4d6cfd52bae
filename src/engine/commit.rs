//! The committer: gathers whole files into batches, makes each batch durable, acknowledges it.
//!
//! One for each target file system: a sync flushes all of it, so two would wait for each other's
//! data. A batch closes after [`BATCH_FILES`], [`BATCH_BYTES`] or [`BATCH_TIME`], whichever comes
//! first, and while it is made durable the next one gathers in the queue.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::context::Context;
use super::job::Existing;
use super::ledger::Ledger;
use crate::digest::Hash;
use crate::error::{Error, ErrorKind};
use crate::scan::Entry;
use crate::target::Sealed;

/// Most files in a batch.
pub(crate) const BATCH_FILES: usize = 1024;
/// Most bytes in a batch: what a power cut may cost in work done again.
const BATCH_BYTES: u64 = 1 << 30;
/// Longest a whole file waits for its batch to close.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// What a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A regular file that was copied, with its digest.
    File(Hash),
    /// A further name for something published; a regular file has this digest.
    Link(Option<Hash>),
    /// A symlink or special file.
    Other,
}

impl What {
    fn digest(&self) -> Option<&Hash> {
        match self {
            Self::File(digest) => Some(digest),
            Self::Link(digest) => digest.as_ref(),
            Self::Other => None,
        }
    }
}

/// Something whole that lacks its name.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The lane it came from.
    pub(crate) lane: usize,
    /// Where it comes from.
    pub(crate) entry: Entry,
    /// What it is.
    pub(crate) what: What,
    /// Its length in bytes; 0 for what has no bytes of its own.
    pub(crate) bytes: u64,
    /// Where it is until it is published.
    pub(crate) sealed: Sealed,
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
        let mut deadline = Instant::now();
        loop {
            let next = if batch.is_empty() {
                incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                incoming.recv_deadline(deadline)
            };
            match next {
                Ok(commit) => {
                    if batch.is_empty() {
                        deadline = Instant::now() + BATCH_TIME;
                    }
                    bytes += commit.bytes;
                    batch.push(commit);
                    if batch.len() < BATCH_FILES && bytes < BATCH_BYTES {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Disconnected) if batch.is_empty() => return,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            batch = self.commit(std::mem::take(&mut batch));
            bytes = 0;
            deadline = Instant::now();
        }
    }

    /// Makes a batch durable and acknowledges it. Returns the links that can follow now.
    pub(crate) fn commit(&mut self, batch: Vec<Commit>) -> Vec<Commit> {
        let (whats, sealed): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|c| ((c.lane, c.entry, c.what, c.bytes), c.sealed))
            .unzip();
        let answers = self.context.target.publish(&sealed);
        debug_assert_eq!(answers.len(), whats.len(), "one answer for each file");
        let mut links = Vec::new();
        for (((lane, entry, what, bytes), answer), sealed) in
            whats.into_iter().zip(answers).zip(&sealed)
        {
            let acknowledged = answer.and_then(|()| {
                self.ledger
                    .committed(&entry, what.digest(), sealed.linked_to())
            });
            match acknowledged {
                Ok(()) => self.acknowledge(lane, &entry, bytes, what, &mut links),
                Err(error) => {
                    if error.kind() == ErrorKind::TargetSync {
                        // Nothing more can be made durable: no lane need read on for nothing.
                        self.context.target_lost.store(true, Relaxed);
                    }
                    self.context.outcomes.entry_failed(lane, &entry, &error);
                    fail_links(self.context, lane, &entry, &error);
                }
            }
        }
        links
    }

    fn acknowledge(
        &self,
        lane: usize,
        entry: &Entry,
        bytes: u64,
        what: What,
        links: &mut Vec<Commit>,
    ) {
        if let Some(counters) = self.context.outcomes.lane(lane) {
            if matches!(what, What::File(_)) {
                counters.files_done.fetch_add(1, Relaxed);
                counters.bytes_done.fetch_add(bytes, Relaxed);
            } else {
                counters.others_done.fetch_add(1, Relaxed);
            }
        }
        let (Some(table), true) = (&self.context.links, entry.nlink > 1) else {
            return;
        };
        let digest = match what {
            What::File(digest) => Some(digest),
            What::Other => None,
            What::Link(_) => return,
        };
        let replace = self.context.existing == Existing::Overwrite;
        for waiting in table.settled(entry, digest) {
            links.push(link(lane, waiting, entry.target_path(), digest, replace));
        }
    }
}

/// Returns the commit of a further name for a file that is durable under `existing`.
pub(crate) fn link(
    lane: usize,
    entry: Entry,
    existing: Vec<u8>,
    digest: Option<Hash>,
    replace: bool,
) -> Commit {
    let sealed = Sealed::link(existing, entry.target_path(), replace);
    Commit {
        lane,
        entry,
        what: What::Link(digest),
        bytes: 0,
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
        context.outcomes.entry_failed(lane, &waiting, &error);
    }
}
