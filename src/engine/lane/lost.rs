//! A drive that fails as a whole: it went away, or does not answer any more. What was not copied is
//! told of in one line, however much it is.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::{Lane, Pending, Purpose};
use crate::buffer::ALIGN;
use crate::engine::telemetry::Health;
use crate::engine::vigil::Asking;
use crate::engine::vitals::Says;
use crate::error::{Error, ErrorKind, Reach, Side, is_bad_medium};
use crate::scan::{Entry, Kind, is_on_medium};

/// How a lane left its drive.
#[derive(Debug)]
pub(crate) struct Left {
    /// Whether the drive was lost on the way.
    pub(crate) is_lost: bool,
    /// What that left undone.
    pub(crate) unattempted: Option<Error>,
    /// Whether it still has requests of ours. Their buffers are never used again, and the thread
    /// that submitted them must not end.
    pub(crate) hangs: bool,
}

impl Lane<'_> {
    /// Notes what came of a read from the drive.
    pub(super) fn note_answer(
        &mut self,
        file: &Arc<OwnedFd>,
        offset: u64,
        purpose: &Purpose,
        result: Result<usize, Errno>,
    ) {
        let vitals = &self.vitals;
        vitals.lane.answered();
        match result {
            Ok(_) => vitals.succeeded(file, offset),
            Err(errno) => {
                let entry = match purpose {
                    Purpose::Small(read) => Some(&read.entry),
                    Purpose::Block { transfer, .. } | Purpose::Piece { transfer, .. } => {
                        self.transfers.get(transfer).map(|transfer| &transfer.entry)
                    }
                    _ => None,
                };
                let is_again = matches!(purpose, Purpose::Piece { .. });
                if is_again && is_bad_medium(errno) && !vitals.can_ask() {
                    return; // the same place as before
                }
                let path = entry.map(Entry::display_path).unwrap_or_default();
                let error = Error::source(path, &format!("read at {offset}"), errno);
                self.note_failure(errno, &error.to_string());
            }
        }
    }

    /// Notes that the drive gave an error; `what` tells people of it.
    pub(super) fn note_failure(&mut self, errno: Errno, what: &str) {
        let is_away = Error::source("", "", errno).kind() == ErrorKind::SourceLost;
        if self.lost || !(is_away || is_bad_medium(errno)) {
            return;
        }
        let vitals = &self.vitals;
        let waiting = vitals.lane.call();
        let says = vitals.failed(errno);
        drop(waiting);
        vitals.lane.answered();
        match says {
            Says::BadSpot if self.context.health_of(self.number) == Health::Ok => {
                self.context.drive_is(self.number, Health::Suspect, what);
            }
            Says::BadSpot => {}
            Says::Gone => {
                vitals.set_gone();
                self.lost = true;
                self.context.drive_is(self.number, Health::Gone, what);
            }
        }
    }

    /// Remembers a file that an earlier run read: where a drive gives nothing of what is left, it says
    /// whether it is there. Its bytes must be on the medium, and not among the metadata.
    pub(super) fn remember(&mut self, entry: &Entry) {
        // What an inode holds takes less than a block. (On btrfs it is said to take one.)
        let takes = entry.stamp.size.max(ALIGN as u64);
        let takes_block = entry.stamp.size > 0 && entry.allocated >= takes;
        if entry.kind != Kind::File || !takes_block || !self.vitals.lacks_spot() {
            return;
        }
        // Another one does as well.
        if let Ok(opened) = self.open(entry)
            && is_on_medium(opened.file.as_fd(), 0)
        {
            self.vitals.was_read(opened.file);
        }
    }

    /// Notes that this thread waits for the target, if that has requests of it. Only time in which it
    /// does counts: while its drive holds it, an answer may have been there.
    pub(super) fn ask_target(&self) -> Option<Asking> {
        let of_drive = self.reads + self.small_reads;
        let log = self.context.log.as_ref();
        log.filter(|_| self.pending.len() > of_drive)
            .map(|log| log.vigil().ask_again(self.target_silence))
    }

    /// Looks whether somebody else found out that the drive is lost.
    pub(super) fn look_at_drive(&mut self) {
        let vitals = &self.vitals;
        self.lost |= vitals.is_lost();
        if vitals.is_given_up() {
            self.let_go();
        }
    }

    /// Stops waiting for what the drive was asked: it may answer at any later time, or never.
    fn let_go(&mut self) {
        let is_asked = |pending: &Pending| {
            matches!(
                pending.purpose,
                Purpose::Small(_) | Purpose::Block { .. } | Purpose::Piece { .. }
            )
        };
        let asked = self.pending.iter().filter(|(_, it)| is_asked(it));
        let asked: Vec<u64> = asked.map(|(token, _)| *token).collect();
        self.backlog
            .retain(|request| !asked.contains(&request.token));
        for token in asked {
            match self.pending.remove(&token).map(|pending| pending.purpose) {
                Some(Purpose::Small(read)) => {
                    self.small_reads -= 1;
                    self.leave(&read.entry);
                }
                Some(Purpose::Block {
                    transfer, index, ..
                }) => {
                    self.reads -= 1;
                    let mut left = None;
                    if let Some(transfer) = self.transfers.get_mut(&transfer) {
                        transfer.block_ended(index);
                        left = transfer.is_open().then(|| transfer.entry.clone());
                        transfer.abandon();
                    }
                    if let Some(entry) = left {
                        self.leave(&entry);
                    }
                }
                Some(Purpose::Piece { .. }) => {
                    self.reads -= 1;
                    self.drop_search();
                }
                Some(Purpose::Write { .. } | Purpose::Sync { .. } | Purpose::WriteBack { .. })
                | None => {}
            }
        }
    }

    /// Leaves an entry to a later run: its drive is lost. Names that wait for it are left as well.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.unattempted += 1;
        if let Some(links) = self.context.links.as_ref().filter(|_| entry.nlink > 1) {
            self.unattempted += links.failed(entry).len() as u64;
        }
    }

    /// Returns whether an error is about the whole drive: then it is not told of for each file.
    pub(super) fn is_of_drive(&mut self, error: &Error) -> bool {
        if error.kind() == ErrorKind::SourceLost {
            self.vitals.set_gone();
            self.lost = true;
            let what = error.to_string();
            self.context.drive_is(self.number, Health::Gone, &what);
            return true;
        }
        // A worker that panicked ends the lane as well, and is told of.
        self.lost |= error.kind().reach() == Reach::Lane;
        self.lost && error.side() == Side::Source && error.errno().is_some_and(is_bad_medium)
    }

    /// Says once what a lost target left undone, and returns what a lost drive did: it may come back.
    /// (A run that was asked to stop says so itself.)
    fn report_unattempted(&self) -> Option<Error> {
        let kind = match self.context.lost.get() {
            _ if self.vitals.is_given_up() => ErrorKind::SourceStalled,
            _ if self.lost => ErrorKind::SourceLost,
            // What became of the target is told of once.
            Some(ErrorKind::TargetLost) => return None,
            Some(_) if self.context.is_full() => return None,
            Some(&kind) if !self.context.tries_again() => kind,
            _ => return None,
        };
        if self.unattempted == 0 && self.feeder_done {
            return None;
        }
        let error = unattempted(kind, self.context.drive_path(self.number), self.unattempted);
        if matches!(kind, ErrorKind::SourceStalled | ErrorKind::SourceLost) {
            return Some(error);
        }
        self.context.outcomes.problem(self.number, &error);
        None
    }

    /// Ends the lane.
    pub(super) fn leave_drive(self) -> Left {
        if !self.lost {
            let _waiting = self.vitals.lane.call();
            self.vitals.ask();
        }
        self.vitals.forget();
        let left = Left {
            is_lost: self.lost,
            unattempted: self.report_unattempted(),
            hangs: self.backend.in_flight() > 0,
        };
        if left.hangs {
            let Self {
                backend, credits, ..
            } = self;
            // The kernel may write into the buffers of its requests as long as it has them: they
            // are never given back.
            let _retired = ManuallyDrop::new((backend, credits));
        }
        left
    }
}

/// Returns the one line on everything that was not copied of a drive: `count` entries, as far as
/// they had been listed.
pub(in crate::engine) fn unattempted(
    kind: ErrorKind,
    path: impl AsRef<std::path::Path>,
    count: u64,
) -> Error {
    let why = match kind {
        ErrorKind::SourceLost => {
            "the drive is gone (check cable and power, mount it again, run again); "
        }
        ErrorKind::SourceStalled => {
            "the drive does not answer (check cable and power, reconnect it, run again; a thread \
             that waits for it may keep this process from ending until it does); "
        }
        _ => "",
    };
    let what = format!(
        "{why}the rest of this drive was not attempted: {count} entries listed so far, and \
         whatever had not been listed"
    );
    Error::new(kind, Side::Source, path, &what)
}
