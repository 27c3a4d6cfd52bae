//! Blocks of large files: read one, then hash and write the same buffer at the same time.

use std::sync::Arc;
use std::time::Instant;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::finish::ends_elsewhere;
use super::transfer::Transfer;
use super::{Lane, Purpose};
use crate::buffer::{Lease, View};
use crate::digest::{Blake3Tree, Bytes, FileDigest, HashJob};
use crate::error::{Error, ErrorKind};
use crate::io::Op;
use crate::seam;

/// Granularity of holes kept in a sparse file; also what reads and writes are padded to.
const PAGE: usize = 4096;

impl Lane<'_> {
    /// Issues the next block of a large file. Returns false when it has to wait.
    pub(super) fn issue_block(&mut self, number: u64) -> bool {
        let Some(transfer) = self.transfers.get_mut(&number) else {
            self.current = None;
            return true;
        };
        let Some((index, offset, len)) = transfer.next_block() else {
            self.current = None;
            return true;
        };
        let waiting = self.vitals.lane.call();
        let hole = is_hole(transfer, offset, len);
        drop(waiting);
        if hole {
            transfer.block_issued(index);
            self.hash(number, index, Bytes::Zeros(len));
            self.count_hole(len as u64);
            return true;
        }
        if self.reads >= self.ramp.limit() {
            return false;
        }
        if let Err(delay) = self.context.limit.admit(len as u64, Instant::now()) {
            self.held_back = Some(delay);
            return false;
        }
        let Some(mut lease) = self.credits.take() else {
            return false;
        };
        lease.truncate(len.next_multiple_of(PAGE));
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return true;
        };
        transfer.block_issued(index);
        transfer.block_began(index);
        let source = Arc::clone(&transfer.source);
        self.reads += 1;
        let purpose = Purpose::Block {
            transfer: number,
            index,
            len,
        };
        self.submit(&source, Op::Read { offset, lease }, len, purpose);
        true
    }

    /// Takes a block that was read: `filled` bytes of `lease`, of which `len` are expected.
    pub(super) fn block_read(
        &mut self,
        number: u64,
        index: u64,
        len: usize,
        lease: Lease,
        result: Result<usize, Errno>,
    ) {
        self.reads -= 1;
        let entry = self.transfers.get(&number).map(|it| &it.entry);
        let is_put_aside = entry.is_some_and(|entry| {
            let errno = result.err();
            errno.is_some_and(|errno| self.is_put_aside(entry, errno))
        });
        let offset = index * crate::digest::BLOCK_LEN;
        if let Some(transfer) = self.transfers.get_mut(&number)
            && let Err(error) = whole(transfer, offset, len, result)
        {
            transfer.block_ended(index);
            match result {
                Err(errno) if is_put_aside => self.block_failed(number, index, errno),
                Err(_) if self.lost => {
                    self.unattempted += u64::from(transfer.is_open());
                    transfer.abandon();
                }
                _ => transfer.fail(error),
            }
            return;
        }
        seam::point("block-read");
        self.ramp.block_read(Instant::now());
        self.count_read(len as u64);
        self.hash_and_write(number, index, len, lease);
        // Only now, so that the block is never taken for written between read and write.
        if let Some(transfer) = self.transfers.get_mut(&number) {
            if let Some(trouble) = &mut transfer.trouble {
                trouble.settle(index, Ok(()));
            }
            transfer.block_ended(index);
        }
    }

    pub(super) fn hash_and_write(&mut self, number: u64, index: u64, len: usize, mut lease: Lease) {
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        let align = transfer.staged.geometry.align.max(1);
        // The pad of the last block reaches the medium before `seal` cuts it off: make it zeros.
        if let Some(pad) = lease.as_mut_slice().get_mut(len..) {
            pad.fill(0);
        }
        let whole = lease.len();
        let view = if seam::bug("bit-flips-in-memory") {
            let bytes = lease.as_mut_slice().get_mut(..len).unwrap_or_default();
            transfer.digest.absorb(index, bytes);
            seam::flip(bytes);
            lease.freeze(whole)
        } else {
            let view = lease.freeze(whole);
            self.hash(number, index, Bytes::View(view.slice(0..len)));
            view
        };

        let Some(transfer) = self.transfers.get(&number) else {
            return;
        };
        let Some(file) = transfer.staged.file.clone() else {
            return;
        };
        // A lane that its drive held until the run was over writes no more: the file may be gone on
        // with by another run.
        if self.context.lost.get() == Some(&ErrorKind::Stopped) {
            return;
        }
        let runs = if transfer.sparse {
            data_runs(&view, len)
        } else {
            vec![(0, len)]
        };
        for (start, end) in runs {
            let end = end.next_multiple_of(align).min(view.len());
            let offset = index * crate::digest::BLOCK_LEN + start as u64;
            if let Some(transfer) = self.transfers.get_mut(&number) {
                transfer.block_began(index);
            }
            self.writes += 1;
            let op = Op::Write {
                offset,
                view: view.slice(start..end),
            };
            self.submit(
                &file,
                op,
                end - start,
                Purpose::Write {
                    transfer: number,
                    index,
                },
            );
        }
    }

    fn hash(&self, number: u64, index: u64, bytes: Bytes) {
        let Some(transfer) = self.transfers.get(&number) else {
            return;
        };
        self.context.hash.submit(HashJob {
            digest: Arc::<Blake3Tree>::clone(&transfer.digest),
            index,
            bytes,
            waker: Arc::clone(&self.waker),
            failed: Arc::clone(&transfer.hash_failed),
        });
    }

    /// Takes a finished write of `len` bytes of block `index`.
    pub(super) fn written(
        &mut self,
        number: u64,
        index: u64,
        len: usize,
        result: Result<usize, Errno>,
    ) {
        self.writes -= 1;
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        transfer.block_ended(index);
        if let Err(errno) = result {
            transfer.fail(Error::target(transfer.entry.display_path(), "write", errno));
            return;
        }
        if let Some(log) = &self.context.log {
            log.pace().count_written(len as u64);
        }
        seam::point("block-written");
        self.write_back(number, len);
        self.sync(number, false);
    }

    /// Starts write-back behind the writer where pages pile up.
    fn write_back(&mut self, number: u64, len: usize) {
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return;
        };
        if !transfer.staged.geometry.cached {
            return;
        }
        let Some(file) = transfer.staged.file.clone() else {
            return;
        };
        let Some(op) = transfer.behind.add(&file, len as u64) else {
            return;
        };
        transfer.request_began();
        self.submit(&file, op, 0, Purpose::WriteBack { transfer: number });
    }
}

/// Checks that bytes at `start` came whole: `len` of them and no fewer.
pub(super) fn whole(
    transfer: &Transfer,
    start: u64,
    len: usize,
    result: Result<usize, Errno>,
) -> Result<(), Error> {
    match result {
        Ok(filled) if filled == len => Ok(()),
        Ok(filled) => Err(ends_elsewhere(&transfer.entry, start + filled as u64)),
        Err(errno) => {
            let what = format!("read {len} bytes at {start}");
            let path = transfer.entry.display_path();
            Err(Error::source(path, &what, errno))
        }
    }
}

/// Returns whether the block lies wholly in a hole, looking ahead in the source when needed.
fn is_hole(transfer: &mut Transfer, offset: u64, len: usize) -> bool {
    let Some((start, end)) = transfer.data else {
        return false;
    };
    let block_end = offset + len as u64;
    let (mut start, mut end) = (start, end);
    if end <= offset {
        // A race with a writer shows in the stamp at the end; errors mean: read it and see.
        match rustix::fs::seek(&transfer.source, SeekFrom::Data(offset)) {
            Ok(data) => {
                let hole = rustix::fs::seek(&transfer.source, SeekFrom::Hole(data));
                (start, end) = (data, hole.unwrap_or(u64::MAX).max(data + 1));
            }
            Err(Errno::NXIO) => (start, end) = (u64::MAX, u64::MAX),
            Err(_) => (start, end) = (offset, u64::MAX),
        }
        transfer.data = Some((start, end));
    }
    start >= block_end
}

/// Returns the runs of a block that hold anything but zeros, in whole pages, as start and end.
fn data_runs(view: &View, len: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (page, bytes) in view.get(..len).unwrap_or_default().chunks(PAGE).enumerate() {
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        let (start, end) = (page * PAGE, page * PAGE + bytes.len());
        match runs.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => runs.push((start, end)),
        }
    }
    runs
}
