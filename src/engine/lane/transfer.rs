//! One large file on its way: what was issued, what is in flight, what is left. No I/O.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::trouble::Trouble;
use crate::digest::{BLOCK_LEN, Blake3Tree, FileDigest, Hash, block_count};
use crate::engine::Behind;
use crate::error::Error;
use crate::scan::{Attributes, Entry, FileStamp};
use crate::seam;
use crate::target::Staged;

/// One large file on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) entry: Entry,
    pub(super) attributes: Attributes,
    pub(super) source: Arc<OwnedFd>,
    /// Whether the source is read past the cache.
    pub(super) direct: bool,
    /// What its drive reads at once, in bytes.
    pub(super) granule: u64,
    pub(super) before: FileStamp,
    pub(super) staged: Staged,
    pub(super) replace: bool,
    /// Whether zeros are left out when writing: the file takes less space than it is long.
    pub(super) sparse: bool,
    /// The data run at or after the next block, as start and end, where the source's word on
    /// holes can be trusted.
    pub(super) data: Option<(u64, u64)>,
    pub(super) digest: Arc<Blake3Tree>,
    /// Set by a hash worker that panicked.
    pub(super) hash_failed: Arc<AtomicBool>,
    /// Once a block could not be read.
    pub(super) trouble: Option<Trouble>,
    next_block: u64,
    /// Blocks that are being read or written: for each, how many requests are not over.
    open_blocks: BTreeMap<u64, usize>,
    in_flight: usize,
    /// What is written of it, where that is through the cache.
    pub(super) behind: Behind,
    error: Option<Error>,
    abandoned: bool,
    gives_way: bool,
    sync: SyncState,
}

/// How far a file is known to be durable.
#[derive(Debug)]
struct SyncState {
    /// Blocks before this one are durable and recorded.
    recorded: u64,
    /// A sync is under way that covers the blocks before this one.
    asked: Option<u64>,
    last: Instant,
    /// Whether the run is stopping, and this file's last sync was asked for.
    is_last: bool,
}

/// What became of a file none of whose blocks is in flight any more.
#[derive(Debug)]
pub(super) enum End {
    /// All bytes are hashed and written.
    Whole(Hash),
    /// All that can be read is; the digest has zeros in the place of the rest.
    Unreadable(Hash),
    /// It is to be begun again later.
    Aside,
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
    pub(super) granule: u64,
    pub(super) before: FileStamp,
    pub(super) staged: Staged,
    pub(super) replace: bool,
    pub(super) sparse: bool,
    pub(super) trusts_holes: bool,
    pub(super) digest: Arc<Blake3Tree>,
    /// Blocks before this one are in the stage and in the digest already.
    pub(super) known_blocks: u64,
}

/// A sync is due after this many blocks. A stop costs twice as much at most: this much is copied
/// again, and as much was on its way while the last sync was. What was synced last is read back.
pub(crate) const SYNC_BLOCKS: u64 = (256 << 20) / BLOCK_LEN;
/// A sync is due after this time, if anything was written: again half of what a stop may cost.
const SYNC_TIME: Duration = Duration::from_secs(5);

impl Transfer {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            entry: plan.entry,
            attributes: plan.attributes,
            source: Arc::new(plan.source),
            direct: plan.direct,
            granule: plan.granule,
            before: plan.before,
            staged: plan.staged,
            replace: plan.replace,
            sparse: plan.sparse,
            data: (plan.sparse && plan.trusts_holes).then_some((0, 0)),
            digest: plan.digest,
            hash_failed: Arc::new(AtomicBool::new(false)),
            trouble: None,
            next_block: plan.known_blocks,
            open_blocks: BTreeMap::new(),
            in_flight: 0,
            behind: Behind::default(),
            error: None,
            abandoned: false,
            gives_way: false,
            sync: SyncState {
                recorded: plan.known_blocks,
                asked: None,
                last: Instant::now(),
                is_last: false,
            },
        }
    }

    /// Notes that a request on a block begins.
    pub(super) fn block_began(&mut self, index: u64) {
        self.in_flight += 1;
        *self.open_blocks.entry(index).or_insert(0) += 1;
    }

    /// Notes that a request on a block is over.
    pub(super) fn block_ended(&mut self, index: u64) {
        self.in_flight -= 1;
        if let Some(left) = self.open_blocks.get_mut(&index) {
            *left -= 1;
            if *left == 0 {
                self.open_blocks.remove(&index);
            }
        }
    }

    /// Returns how many blocks from the first on are written and hashed, without gaps.
    fn whole_blocks(&self) -> u64 {
        let first_open = self.open_blocks.first_key_value().map(|(&index, _)| index);
        let written = match first_open {
            Some(index) if !seam::bug("blocks-with-gaps") => index.min(self.next_block),
            _ => self.next_block,
        };
        let sound = match &self.trouble {
            Some(trouble) if !seam::bug("bad-blocks-recorded") => trouble.sound_blocks(),
            _ => u64::MAX,
        };
        written.min(self.digest.prefix()).min(sound)
    }

    /// Returns whether a sync should be asked for now: `due` blocks are written since the last one,
    /// or time has passed. `last`: the run is stopping.
    pub(super) fn wants_sync(&self, due: u64, now: Instant, last: bool) -> bool {
        let SyncState {
            recorded,
            asked,
            last: before,
            is_last,
        } = self.sync;
        if asked.is_some() || self.error.is_some() || is_last {
            return false;
        }
        let new = self.whole_blocks().saturating_sub(recorded);
        new >= due || new > 0 && (last || now.duration_since(before) >= SYNC_TIME)
    }

    /// Notes that a sync is asked for: it covers every block that is whole now.
    pub(super) fn sync_asked(&mut self, now: Instant, last: bool) {
        self.in_flight += 1;
        self.sync.asked = Some(self.whole_blocks());
        self.sync.last = now;
        self.sync.is_last = last;
    }

    /// Notes that the sync is over; returns the end of the blocks it covers.
    pub(super) fn sync_answered(&mut self) -> u64 {
        self.in_flight -= 1;
        self.sync.asked.take().unwrap_or(0)
    }

    /// Notes that the blocks before `end` are recorded.
    pub(super) fn set_recorded(&mut self, end: u64) {
        self.sync.recorded = self.sync.recorded.max(end);
    }

    /// Returns whether a later run could go on with what is staged.
    pub(super) fn is_recorded(&self) -> bool {
        self.sync.recorded > 0
    }

    pub(super) fn size(&self) -> u64 {
        self.before.size
    }

    /// Returns the next block to issue: its number, offset and length in bytes.
    pub(super) fn next_block(&self) -> Option<(u64, u64, usize)> {
        let index = match &self.trouble {
            Some(trouble) => trouble.next(self.digest.prefix())?,
            None => self.next_block,
        };
        let offset = index * BLOCK_LEN;
        let open = self.is_open() && !self.gives_way && offset < self.size();
        open.then(|| (index, offset, self.range_of(index).1))
    }

    /// Returns whether nothing has ended it before its time.
    pub(super) fn is_open(&self) -> bool {
        self.error.is_none() && !self.abandoned
    }

    /// Returns where a block lies, and how long it is.
    pub(super) fn range_of(&self, index: u64) -> (Range<u64>, usize) {
        let offset = index * BLOCK_LEN;
        let len = BLOCK_LEN.min(self.size().saturating_sub(offset));
        (offset..offset + len, usize::try_from(len).unwrap_or(0))
    }

    pub(super) fn block_issued(&mut self, index: u64) {
        match &mut self.trouble {
            Some(trouble) => trouble.issued(index),
            None => self.next_block += 1,
        }
    }

    /// Returns whether every block has been issued, and none has to be looked at closer.
    pub(super) fn is_issued(&self) -> bool {
        let trouble = self.trouble.as_ref();
        self.next_block >= block_count(self.size()) && trouble.is_none_or(Trouble::is_settled)
    }

    /// Says that bad blocks are to be expected: from now on blocks come in any order.
    pub(super) fn expect_trouble(&mut self) {
        let end = block_count(self.size());
        let rest = std::mem::replace(&mut self.next_block, end);
        // Holes are looked for on the way ahead alone.
        self.data = None;
        self.trouble.get_or_insert_with(|| Trouble::new(rest..end));
    }

    /// Notes that a block could not be read in one piece.
    pub(super) fn in_trouble(&mut self, index: u64, errno: Errno) {
        if self.trouble.is_none() {
            self.expect_trouble();
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.settle(index, Err(errno));
        }
    }

    /// Ends it for now: it is begun again later.
    pub(super) fn give_way(&mut self) {
        self.gives_way = true;
    }

    pub(super) fn request_began(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn request_ended(&mut self) {
        self.in_flight -= 1;
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
        if self.gives_way {
            return Some(End::Aside);
        }
        let hash_lost = self.hash_failed.load(Relaxed);
        // (With bad blocks, what is read next depends on what is hashed.)
        let can_go_on = !hash_lost || self.trouble.is_none();
        if !self.is_issued() && can_go_on {
            return None;
        }
        if hash_lost {
            return Some(End::HashLost);
        }
        let digest = self.digest.finish(self.size())?;
        let is_bad = |trouble: &Trouble| !trouble.bad().is_empty();
        Some(if self.trouble.as_ref().is_some_and(is_bad) {
            End::Unreadable(digest)
        } else {
            End::Whole(digest)
        })
    }
}
