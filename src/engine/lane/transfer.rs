//! One large file on its way: what was issued, what is in flight, what is left. No I/O.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::digest::{BLOCK_LEN, FileDigest, Hash, block_count};
use crate::error::Error;
use crate::scan::{Attributes, Entry, FileStamp};
use crate::target::Staged;

/// Bytes of one step of write-back behind the writer, for targets written through the cache.
pub(super) const WINDOW: u64 = 8 << 20;

/// One large file on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) entry: Entry,
    pub(super) attributes: Attributes,
    pub(super) source: Arc<OwnedFd>,
    /// Whether the source is read past the cache.
    pub(super) direct: bool,
    pub(super) before: FileStamp,
    pub(super) staged: Staged,
    pub(super) replace: bool,
    /// Whether zeros are left out when writing: the file takes less space than it is long.
    pub(super) sparse: bool,
    /// The data run at or after the next block, as start and end, where the source's word on
    /// holes can be trusted.
    pub(super) data: Option<(u64, u64)>,
    pub(super) digest: Arc<dyn FileDigest>,
    /// Set by a hash worker that panicked.
    pub(super) hash_failed: Arc<AtomicBool>,
    next_block: u64,
    in_flight: usize,
    written: u64,
    error: Option<Error>,
    abandoned: bool,
}

/// What became of a file none of whose blocks is in flight any more.
#[derive(Debug)]
pub(super) enum End {
    /// All bytes are hashed and written.
    Whole(Hash),
    /// It failed.
    Failed(Error),
    /// The run stopped first.
    Abandoned,
    /// A hash worker died on it.
    HashLost,
}

/// What a new transfer is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: Entry,
    pub(super) attributes: Attributes,
    pub(super) source: OwnedFd,
    pub(super) direct: bool,
    pub(super) before: FileStamp,
    pub(super) staged: Staged,
    pub(super) replace: bool,
    pub(super) sparse: bool,
    pub(super) trusts_holes: bool,
    pub(super) digest: Arc<dyn FileDigest>,
}

impl Transfer {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            entry: plan.entry,
            attributes: plan.attributes,
            source: Arc::new(plan.source),
            direct: plan.direct,
            before: plan.before,
            staged: plan.staged,
            replace: plan.replace,
            sparse: plan.sparse,
            data: (plan.sparse && plan.trusts_holes).then_some((0, 0)),
            digest: plan.digest,
            hash_failed: Arc::new(AtomicBool::new(false)),
            next_block: 0,
            in_flight: 0,
            written: 0,
            error: None,
            abandoned: false,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.before.size
    }

    /// Returns the next block to issue: its number, offset and length in bytes.
    pub(super) fn next_block(&self) -> Option<(u64, u64, usize)> {
        let offset = self.next_block * BLOCK_LEN;
        let open = self.error.is_none() && !self.abandoned && offset < self.size();
        let len = BLOCK_LEN.min(self.size().saturating_sub(offset));
        open.then(|| (self.next_block, offset, usize::try_from(len).unwrap_or(0)))
    }

    pub(super) fn block_issued(&mut self) {
        self.next_block += 1;
    }

    /// Returns whether every block has been issued.
    pub(super) fn is_issued(&self) -> bool {
        self.next_block >= block_count(self.size())
    }

    pub(super) fn request_began(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn request_ended(&mut self) {
        self.in_flight -= 1;
    }

    /// Adds written bytes. Returns the window of earlier bytes whose write-back should start now.
    pub(super) fn add_written(&mut self, bytes: u64) -> Option<u64> {
        let before = self.written / WINDOW;
        self.written += bytes;
        (self.written / WINDOW > before).then_some(before * WINDOW)
    }

    /// Notes a failure; the first one counts.
    pub(super) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Returns what became of it, once nothing of it is in flight.
    pub(super) fn end(&mut self) -> Option<End> {
        if self.in_flight > 0 {
            return None;
        }
        if let Some(error) = self.error.take() {
            return Some(End::Failed(error));
        }
        if self.abandoned {
            return Some(End::Abandoned);
        }
        if !self.is_issued() {
            return None;
        }
        if self.hash_failed.load(Relaxed) {
            return Some(End::HashLost);
        }
        self.digest.finish(self.size()).map(End::Whole)
    }
}
