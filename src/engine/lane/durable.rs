//! Large files that outlive the run: synced and recorded while they are copied, and gone on with.

use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::{Lane, Purpose};
use crate::buffer::{ALIGN, Lease};
use crate::digest::{BLOCK_LEN, Blake3Tree, block_count, block_value};
use crate::engine::commit::Tail;
use crate::engine::log::{Part, VALUES_MAX};
use crate::engine::standing::Partial;
use crate::error::Error;
use crate::io::Op;
use crate::journal;
use crate::scan::{Entry, FileStamp};
use crate::seam;
use crate::target::{Outline, Staged};

/// Whether a staged file of an earlier run can be gone on with.
pub(super) enum Reopened {
    /// There is none, or it is not what its record says.
    No,
    /// There is no buffer to check it with: ask again later.
    NoRoom,
    /// It can, behind this many blocks, which are in the digest already.
    Yes(Staged, u64, Arc<Blake3Tree>),
}

impl Lane<'_> {
    /// Returns a digest for a file that is begun: it keeps block values where they are recorded.
    pub(super) fn new_digest(&self) -> Arc<Blake3Tree> {
        Arc::new(match self.context.log {
            Some(_) => Blake3Tree::keeping(),
            None => Blake3Tree::new(),
        })
    }

    /// Asks for a sync of a large file when one is due. `last`: the run is stopping, and whatever
    /// is written is worth keeping. Returns whether it was asked for.
    pub(super) fn sync(&mut self, number: u64, last: bool) -> bool {
        let now = Instant::now();
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return false;
        };
        // What fits into one block is never gone on with.
        if transfer.size() <= BLOCK_LEN {
            return false;
        }
        let due = self.context.sync_blocks;
        if self.context.log.is_none() || !transfer.wants_sync(due, now, last) {
            return false;
        }
        let (Some(file), Some(_)) = (transfer.staged.file.clone(), &transfer.staged.id) else {
            return false;
        };
        transfer.sync_asked(now, last);
        seam::point("sync-asked");
        self.submit(&file, Op::Sync, 0, Purpose::Sync { transfer: number });
        if seam::bug("blocks-before-sync") {
            self.record_blocks(number, u64::MAX);
        }
        true
    }

    /// Takes the answer to a sync: what it covers is durable, and is recorded as such.
    pub(super) fn synced(&mut self, number: u64, result: Result<usize, Errno>) {
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        let end = transfer.sync_answered();
        seam::point("sync-answered");
        if let Err(errno) = result
            && !seam::bug("sync-error-ignored")
        {
            let path = transfer.entry.display_path();
            transfer.fail(Error::target_sync(path, "make part of it durable", errno));
            return;
        }
        self.record_blocks(number, end);
    }

    fn record_blocks(&mut self, number: u64, end: u64) {
        let (Some(log), Some(transfer)) = (&self.context.log, self.transfers.get_mut(&number))
        else {
            return;
        };
        let Some(id) = transfer.staged.id.clone() else {
            return;
        };
        let path = transfer.entry.target_path();
        loop {
            let (first_block, values) = transfer.digest.take_values(end, VALUES_MAX);
            if values.is_empty() {
                return;
            }
            let part = Part {
                id: &id,
                stamp: transfer.before,
                first_block,
                values: &values,
            };
            if let Err(error) = log.blocks(&transfer.entry, &path, &part) {
                transfer.fail(error);
                return;
            }
            transfer.set_recorded(first_block + values.len() as u64);
        }
    }

    /// Returns what the journal has yet to learn of a file that is whole.
    pub(super) fn tail_of(&self, digest: &Blake3Tree, staged: &Staged, size: u64) -> Option<Tail> {
        self.context.log.as_ref()?;
        let id = staged.id.clone().filter(|_| size > BLOCK_LEN)?;
        let (first_block, values) = digest.take_values(u64::MAX, usize::MAX);
        Some(Tail {
            id,
            first_block,
            values,
        })
    }

    /// Looks for what an earlier run staged of a file, and checks it.
    pub(super) fn reopen(
        &mut self,
        entry: &Entry,
        path: &[u8],
        before: FileStamp,
        outline: Outline,
    ) -> Result<Reopened, Error> {
        let log = self.context.log.as_ref();
        let Some(partial) = log.and_then(|log| log.partial(entry, path, before)) else {
            return Ok(Reopened::No);
        };
        if partial.block_count > block_count(before.size) {
            return Ok(Reopened::No);
        }
        let Some(lease) = self.credits.take() else {
            return Ok(Reopened::NoRoom);
        };
        let keep = (partial.block_count * BLOCK_LEN).min(before.size);
        let Some(staged) = self.stager.reopen(path, &partial.id, outline, keep)? else {
            return Ok(Reopened::No);
        };
        seam::point("reopened");
        let digest = self.new_digest();
        let mut known = 0;
        for value in partial.values() {
            digest.absorb_value(*value);
            known += 1;
        }
        let sound = known == partial.block_count
            && (seam::bug("resume-without-check")
                || self.is_as_recorded(path, &staged, &partial, before.size, lease));
        seam::point("range-checked");
        if !sound {
            // (Not by what the journal does not say any more: what is staged stays then.)
            journal::check_pages()?;
            let shown = entry.display_path();
            self.context.session.observer.note(&format!(
                "{}: what an earlier run had copied of it is not what its record says; it is \
                 copied from the start",
                shown.display()
            ));
            self.stager.discard(staged);
            return Ok(Reopened::No);
        }
        self.counters
            .bytes_kept
            .fetch_add(keep, std::sync::atomic::Ordering::Relaxed);
        Ok(Reopened::Yes(staged, known, digest))
    }

    /// Reads the blocks that were synced last back from the stage, and compares.
    fn is_as_recorded(
        &mut self,
        path: &[u8],
        staged: &Staged,
        partial: &Partial<'_>,
        size: u64,
        mut lease: Lease,
    ) -> bool {
        let Some((first, values)) = partial.last() else {
            return false;
        };
        (first..).zip(values).all(|(index, value)| {
            let offset = index * BLOCK_LEN;
            let len = usize::try_from(BLOCK_LEN.min(size - offset)).unwrap_or(0);
            let padded = len.next_multiple_of(ALIGN);
            let Some(buffer) = lease.as_mut_slice().get_mut(..padded) else {
                return false;
            };
            let read = self.stager.read_staged(path, staged, offset, buffer);
            let bytes = buffer.get(..len).unwrap_or_default();
            matches!(read, Ok(filled) if filled >= len) && block_value(index, bytes) == *value
        })
    }
}
