//! Finishing: what came back, and what became of each file.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::transfer::{End, Transfer};
use super::{Lane, Purpose, SmallRead};
use crate::beneath;
use crate::buffer::{Lease, View};
use crate::engine::commit::{Commit, What};
use crate::engine::writers::{Body, Small};
use crate::error::{Error, ErrorKind, Side};
use crate::io::{Op, Request};
use crate::scan::{Entry, FileStamp};

impl Lane<'_> {
    /// Takes a request that is over.
    pub(super) fn settle(
        &mut self,
        purpose: Purpose,
        request: Request,
        result: Result<usize, Errno>,
    ) {
        let Request { file, op, .. } = request;
        match (purpose, op) {
            (Purpose::Small(read), Op::Read { lease, .. }) => {
                self.small_reads -= 1;
                let after = beneath::stamp(file.as_fd());
                self.small_read(*read, lease, result, after);
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
            (Purpose::Write { transfer }, Op::Write { view, .. }) => {
                let len = view.len();
                drop(view);
                self.written(transfer, len, result);
            }
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
    ) {
        let size = usize::try_from(read.before.size).unwrap_or(usize::MAX);
        let checked = result
            .map_err(|errno| Error::source(read.entry.display_path(), "read", errno))
            .and_then(|filled| {
                unchanged(&read.entry, &read.before, after)?;
                (filled == size)
                    .then_some(())
                    .ok_or_else(|| changed(&read.entry))
            });
        match checked {
            Ok(()) => {
                self.count_read(read.before.size);
                self.send_small(read, Some(lease.freeze(size)));
            }
            Err(error) => self.report(&read.entry, &error),
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
        self.outlets.writers.send(Small {
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
            if let Some(transfer) = self.transfers.remove(&number) {
                self.end_transfer(transfer, end);
            }
        }
    }

    fn end_transfer(&mut self, transfer: Transfer, end: End) {
        let after = beneath::stamp(transfer.source.as_fd());
        if !transfer.direct {
            // Read once: it need not push other pages out of memory.
            let advice = rustix::fs::Advice::DontNeed;
            let _best_effort = rustix::fs::fadvise(&transfer.source, 0, None, advice);
        }
        let size = transfer.size();
        let Transfer {
            entry,
            attributes,
            before,
            staged,
            replace,
            ..
        } = transfer;
        let checked = match end {
            End::Whole(digest) => unchanged(&entry, &before, after).map(|()| digest),
            End::Failed(error) => Err(error),
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
                self.stager.discard(staged);
                self.let_links_go(&entry);
                return;
            }
        };
        let digest = match checked {
            Ok(digest) => digest,
            Err(error) => {
                self.stager.discard(staged);
                self.report(&entry, &error);
                return;
            }
        };
        match self
            .stager
            .seal(staged, size, entry.target_path(), replace, &attributes)
        {
            Ok((sealed, applied)) => {
                self.context
                    .outcomes
                    .applied(self.number, &entry.display_path(), &applied);
                let what = What::File(digest);
                let commit = Commit {
                    lane: self.number,
                    entry,
                    what,
                    bytes: size,
                    sealed,
                };
                // The committer outlives every lane.
                drop(self.outlets.commits.send(commit));
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

fn changed(entry: &Entry) -> Error {
    let what = "it changed while it was copied";
    Error::new(
        ErrorKind::SourceChanged,
        Side::Source,
        entry.display_path(),
        what,
    )
}

fn unchanged(
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
