//! Finishing: what came back, and what became of each file.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::transfer::{End, Transfer};
use super::{Lane, Purpose, SmallRead};
use crate::beneath;
use crate::buffer::{Lease, View};
use crate::engine::commit::{Commit, Item, What};
use crate::engine::writers::{Body, Small};
use crate::error::{Error, ErrorKind, Side};
use crate::io::{Op, Request};
use crate::scan::{Entry, FileStamp};
use crate::seam;

impl Lane<'_> {
    /// Takes a request that is over.
    pub(super) fn settle(
        &mut self,
        purpose: Purpose,
        request: Request,
        result: Result<usize, Errno>,
    ) {
        let Request { file, op, .. } = request;
        if let Op::Read { offset, .. } = op {
            self.note_answer(&file, offset, &purpose, result);
        }
        match (purpose, op) {
            (Purpose::Small(read), Op::Read { lease, .. }) => {
                self.small_reads -= 1;
                let waiting = self.vitals.lane.call();
                let after = beneath::stamp(file.as_fd());
                drop(waiting);
                let end = match result {
                    Ok(_) => self.look_for_end(&read.entry, file.as_fd()),
                    Err(_) => Ok(()),
                };
                self.small_read(*read, lease, result, after, end);
            }
            (
                Purpose::Block {
                    transfer,
                    index,
                    len,
                },
                Op::Read { lease, .. },
            ) => {
                self.block_read(transfer, index, len, lease, result);
            }
            (
                Purpose::Piece {
                    transfer,
                    offset,
                    len,
                },
                Op::Read { lease, .. },
            ) => self.piece_read(transfer, offset, len, &lease, result),
            (Purpose::Write { transfer, index }, Op::Write { view, .. }) => {
                let len = view.len();
                drop(view);
                self.written(transfer, index, len, result);
            }
            (Purpose::Sync { transfer }, Op::Sync) => self.synced(transfer, result),
            (Purpose::WriteBack { transfer }, Op::WriteBack { .. }) => {
                // It only keeps memory small; the sync at the end hears of every error.
                if let Some(transfer) = self.transfers.get_mut(&transfer) {
                    transfer.request_ended();
                }
            }
            (purpose, op) => unreachable!("{purpose:?} came back with {op:?}"),
        }
    }

    fn small_read(
        &mut self,
        read: SmallRead,
        lease: Lease,
        result: Result<usize, Errno>,
        after: Result<FileStamp, Errno>,
        end: Result<(), Error>,
    ) {
        if let Err(errno) = result
            && self.is_put_aside(&read.entry, errno)
        {
            return self.put_small_aside(read);
        }
        if self.lost && result.is_err() {
            self.leave(&read.entry);
            return;
        }
        let size = usize::try_from(read.before.size).unwrap_or(usize::MAX);
        let checked = result
            .map_err(|errno| Error::source(read.entry.display_path(), "read", errno))
            .and_then(|filled| {
                unchanged(&read.entry, &read.before, after)?;
                if filled != size {
                    return Err(ends_elsewhere(&read.entry, filled as u64));
                }
                end
            });
        match checked {
            Ok(()) => {
                self.count_read(read.before.size);
                self.send_small(read, Some(lease.freeze(size)));
            }
            Err(error) => self.report(&read.entry, &error),
        }
    }

    /// Fails when a file goes on behind the end that its file system tells of: to copy it up to there
    /// would lose the rest. Where lengths can be trusted, nothing is done; else this costs a read.
    pub(super) fn look_for_end(&self, entry: &Entry, file: BorrowedFd<'_>) -> Result<(), Error> {
        if entry.dir.tree().trusts_sizes {
            return Ok(());
        }
        let size = entry.stamp.size;
        let waiting = self.vitals.lane.call();
        let read = read_behind(file, size);
        drop(waiting);
        match read {
            Ok(0) => Ok(()),
            Ok(_) => {
                let what =
                    format!("has more bytes than the {size} that its file system says it has");
                let path = entry.display_path();
                Err(Error::new(
                    ErrorKind::SourceChanged,
                    Side::Source,
                    path,
                    &what,
                ))
            }
            Err(errno) => {
                let what = match errno {
                    Errno::AGAIN => "its end cannot be told: there it would have to be waited for",
                    _ => "look for its end",
                };
                Err(Error::source(entry.display_path(), what, errno))
            }
        }
    }

    pub(super) fn send_small(&mut self, read: SmallRead, bytes: Option<View>) {
        let SmallRead {
            entry,
            attributes,
            replace,
            ..
        } = read;
        let body = Body::Bytes(bytes);
        let before = std::time::Instant::now();
        self.outlets.small(Small {
            lane: self.number,
            entry,
            attributes,
            body,
            replace,
        });
        let waited = before.elapsed();
        if waited > std::time::Duration::from_micros(200) {
            self.counters
                .add_waited(crate::engine::telemetry::Waited::Target, waited);
        }
    }

    /// Ends every large file of which nothing is in flight any more.
    pub(super) fn settle_transfers(&mut self) {
        let ended: Vec<(u64, End)> = self
            .transfers
            .iter_mut()
            .filter_map(|(&number, transfer)| transfer.end().map(|end| (number, end)))
            .collect();
        for (number, end) in ended {
            if self.current == Some(number) {
                self.current = None;
            }
            if matches!(end, End::Abandoned) && !self.is_cut_off() && self.sync(number, true) {
                continue;
            }
            // The next one of those that were put aside can go on.
            self.more |= self.aside.forget(number);
            if let Some(transfer) = self.transfers.remove(&number) {
                self.end_transfer(transfer, end);
            }
        }
    }

    /// Returns whether nothing that is written now could be made durable, or recorded.
    fn is_cut_off(&self) -> bool {
        self.context.lost.get().is_some()
    }

    fn end_transfer(&mut self, transfer: Transfer, end: End) {
        let waiting = self.vitals.lane.call();
        let after = beneath::stamp(transfer.source.as_fd());
        drop(waiting);
        if !transfer.direct {
            // Read once: it need not push other pages out of memory.
            let advice = rustix::fs::Advice::DontNeed;
            let _best_effort = rustix::fs::fadvise(&transfer.source, 0, None, advice);
        }
        let end = match end {
            End::Aside => return self.end_aside(transfer),
            End::Unreadable(digest) => return self.end_unreadable(transfer, digest, after),
            end => end,
        };
        let size = transfer.size();
        let is_recorded = transfer.is_recorded();
        let Transfer {
            entry,
            attributes,
            source,
            before,
            staged,
            replace,
            digest: tree,
            ..
        } = transfer;
        let checked = match end {
            End::Whole(digest) => unchanged(&entry, &before, after)
                .and_then(|()| self.look_for_end(&entry, source.as_fd()))
                .map(|()| digest),
            End::Failed(error) => Err(error),
            End::Aside | End::Unreadable(_) => return,
            End::HashLost => {
                let what = "a hash worker panicked; this file is not copied";
                Err(Error::new(
                    ErrorKind::Panic,
                    Side::Source,
                    entry.display_path(),
                    what,
                ))
            }
            End::Abandoned => {
                if !is_recorded || self.context.tries_again() {
                    self.stager.discard(staged);
                }
                self.let_links_go(&entry);
                return;
            }
        };
        let digest = match checked {
            Ok(digest) => digest,
            Err(error) => {
                // A drive that comes back, or a target with room again, is gone on with where it ended.
                let goes_on = matches!(
                    error.kind(),
                    ErrorKind::SourceLost
                        | ErrorKind::SourceRead
                        | ErrorKind::TargetFull
                        | ErrorKind::TargetLost
                        | ErrorKind::Panic
                );
                if !(goes_on && is_recorded) {
                    self.stager.discard(staged);
                }
                self.report(&entry, &error);
                return;
            }
        };
        let tail = self.tail_of(&tree, &staged, size);
        seam::point("sealing");
        match self
            .stager
            .seal(staged, size, entry.target_path(), replace, &attributes)
        {
            Ok((sealed, applied)) => {
                let outcomes = &self.context.outcomes;
                outcomes.applied(self.number, &entry, &attributes, &applied);
                seam::point("sealed");
                let item = Item {
                    lane: self.number,
                    entry,
                    what: What::File(digest),
                    bytes: size,
                    tail,
                };
                let commit = Commit { item, sealed };
                self.outlets.commit(commit);
            }
            Err(error) => self.report(&entry, &error),
        }
    }

    /// Forgets names that waited for a file the run stopped before: they were not begun either.
    fn let_links_go(&self, entry: &Entry) {
        if let Some(links) = self.context.links.as_ref().filter(|_| entry.nlink > 1) {
            drop(links.failed(entry));
        }
    }
}

/// Reads a byte at `offset` of a file of which nothing is in flight, without waiting for one: files of
/// events have no end. Returns how many there were.
fn read_behind(file: BorrowedFd<'_>, offset: u64) -> Result<usize, Errno> {
    let flags = fcntl_getfl(file)?;
    // A byte is too little to ask for where O_DIRECT takes whole blocks alone.
    fcntl_setfl(file, (flags - OFlags::DIRECT) | OFlags::NONBLOCK)?;
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut [0; 1], offset));
    fcntl_setfl(file, flags)?;
    read
}

/// Returns what is said of a file that has fewer bytes than it should, and none behind `at`.
pub(super) fn ends_elsewhere(entry: &Entry, at: u64) -> Error {
    let size = entry.stamp.size;
    let what = format!("ends at byte {at}, not at {size} as its file system said");
    let path = entry.display_path();
    Error::new(ErrorKind::SourceChanged, Side::Source, path, &what)
}

fn changed(entry: &Entry) -> Error {
    let what = "it changed while it was copied";
    Error::new(
        ErrorKind::SourceChanged,
        Side::Source,
        entry.display_path(),
        what,
    )
}

pub(super) fn unchanged(
    entry: &Entry,
    before: &FileStamp,
    after: Result<FileStamp, Errno>,
) -> Result<(), Error> {
    match after {
        Ok(after) if after == *before => Ok(()),
        Ok(_) => Err(changed(entry)),
        Err(errno) => Err(Error::source(
            entry.display_path(),
            "look at it again",
            errno,
        )),
    }
}
