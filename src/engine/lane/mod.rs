//! One drive: keep its queue full, hand every buffer to the hash workers and to the target at the
//! same time, take buffers back.
//!
//! The loop is `fill -> reap -> settle`. `fill` takes entries in the order the feeder gives them
//! and submits reads while there are buffers and depth; a large file's reads go out one after the
//! other, and the next file's first read goes out before the last one's end, so the drive never
//! waits for us. `reap` sleeps until a completion, a buffer coming back or new entries. Nothing
//! here polls, and nothing here is shared with another lane but the hash workers, the writers and
//! the committer.

mod admit;
mod again;
mod aside;
mod begin;
mod best;
mod blocks;
mod durable;
mod ending;
mod finish;
mod lost;
mod ramp;
mod search;
mod transfer;
mod trouble;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, TryRecvError};
use rustix::io::Errno;

use super::context::Context;
pub(crate) use super::outlets::Outlets;
use super::telemetry::{LaneCounters, Waited};
use super::vitals::Vitals;
use crate::beneath::DirCache;
use crate::buffer::{Credits, Lease};
use crate::error::{Error, ErrorKind, Side};
use crate::io::resume::{Step, Transfer as Progress};
use crate::io::{Backend, Completion, Full, Op, Request, Wait, Wake};
use crate::journal;
use crate::scan::{Attributes, Entry, FileStamp};
use crate::target::Stager;
use aside::Aside;
use best::Best;
pub(crate) use lost::Left;
pub(in crate::engine) use lost::unattempted;
use ramp::Ramp;
pub(crate) use ramp::{Depth, first as first_blocks};
pub(crate) use transfer::SYNC_BLOCKS;
use transfer::Transfer;

/// Longest sleep: how late a lane may notice that the run is stopping.
const TICK: Duration = Duration::from_millis(200);
/// Steps `fill` takes before it looks at completions and at the stop flag again: blocks of holes
/// take 150 us each to hash, so this is a hundredth of a second.
const STEPS_MAX: usize = 64;

/// What a request of ours was for.
#[derive(Debug)]
enum Purpose {
    /// All of a small file.
    Small(Box<SmallRead>),
    /// One block of a large file.
    Block {
        transfer: u64,
        index: u64,
        len: usize,
    },
    /// A piece of a block that could not be read whole.
    Piece {
        transfer: u64,
        offset: u64,
        len: usize,
    },
    /// A run of bytes of a large file, to the target.
    Write { transfer: u64, index: u64 },
    /// Making durable what is written of a large file.
    Sync { transfer: u64 },
    /// Write-back behind the writer.
    WriteBack { transfer: u64 },
}

/// A request of ours that is not over.
#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    progress: Progress,
    /// How many bytes make it whole.
    want: usize,
}

#[derive(Debug)]
struct SmallRead {
    entry: Entry,
    attributes: Attributes,
    before: FileStamp,
    replace: bool,
}

/// One drive's lane, on its own thread.
#[derive(Debug)]
pub(crate) struct Lane<'r> {
    context: &'r Context,
    number: usize,
    counters: &'r LaneCounters,
    vitals: Arc<Vitals>,
    entries: Receiver<Vec<Entry>>,
    outlets: Outlets,
    stager: Box<dyn Stager>,
    depth: Depth,
    ramp: Ramp,
    best: Best,
    backend: Box<dyn Backend + 'r>,
    waker: Arc<dyn Wake>,
    credits: Credits,

    /// Entries taken from the feeder and not begun, in reading order.
    queue: VecDeque<Entry>,
    feeder_done: bool,
    dirs: Option<(usize, DirCache)>,
    /// What is left of the slot that small files are packed into.
    pack: Option<Lease>,
    /// The large file whose blocks are being issued.
    current: Option<u64>,
    /// Files with bad spots, whose turn comes last.
    aside: Aside,
    /// In the order they were begun, which is the order in which those that are through end.
    transfers: BTreeMap<u64, Transfer>,
    pending: HashMap<u64, Pending>,
    next_token: u64,
    /// Requests a full backend gave back.
    backlog: VecDeque<Request>,
    reads: usize,
    writes: usize,
    small_reads: usize,
    /// Set when an entry had to be put back after it was begun.
    stuck: bool,
    /// Set when `fill` stopped although it could go on: the next look must not sleep.
    more: bool,
    /// How long the rate limit holds us back.
    held_back: Option<Duration>,
    /// How long the target was waited for since it answered last.
    target_silence: Duration,
    /// Set when the drive went away.
    lost: bool,
    /// Entries dropped because the drive or the target was lost.
    unattempted: u64,
}

/// Takes O_DIRECT off a source that was opened with it and now refuses it: some file systems
/// accept the flag and fail the read. Returns whether that is worth another try.
fn goes_on_buffered(request: &Request) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    if !matches!(request.op, Op::Read { .. }) {
        return false;
    }
    let flags = fcntl_getfl(&request.file).unwrap_or(OFlags::empty());
    flags.contains(OFlags::DIRECT) && fcntl_setfl(&request.file, flags - OFlags::DIRECT).is_ok()
}

/// Returns the path below TARGET of the file that a read is of.
fn path_of(purpose: &Purpose, transfers: &BTreeMap<u64, Transfer>) -> Option<Vec<u8>> {
    match purpose {
        Purpose::Small(read) => Some(read.entry.target_path()),
        Purpose::Block { transfer, .. } | Purpose::Piece { transfer, .. } => {
            let transfer = transfers.get(transfer)?;
            Some(transfer.entry.target_path())
        }
        Purpose::Write { .. } | Purpose::Sync { .. } | Purpose::WriteBack { .. } => None,
    }
}

/// What a lane is made of.
#[derive(Debug)]
pub(crate) struct Parts<'r> {
    pub(crate) context: &'r Context,
    pub(crate) number: usize,
    pub(crate) counters: &'r LaneCounters,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) entries: Receiver<Vec<Entry>>,
    pub(crate) outlets: Outlets,
    pub(crate) stager: Box<dyn Stager>,
    pub(crate) depth: Depth,
    pub(crate) backend: Box<dyn Backend + 'r>,
    pub(crate) credits: Credits,
}

impl<'r> Lane<'r> {
    pub(crate) fn new(parts: Parts<'r>) -> Self {
        let waker = parts.backend.waker();
        parts.credits.set_waker(Arc::clone(&waker));
        Self {
            context: parts.context,
            number: parts.number,
            counters: parts.counters,
            vitals: parts.vitals,
            entries: parts.entries,
            outlets: parts.outlets,
            stager: parts.stager,
            depth: parts.depth,
            best: Best::default(),
            ramp: Ramp::new(parts.depth.first, parts.depth.blocks),
            backend: parts.backend,
            waker,
            credits: parts.credits,
            queue: VecDeque::new(),
            feeder_done: false,
            dirs: None,
            pack: None,
            current: None,
            aside: Aside::default(),
            transfers: BTreeMap::new(),
            pending: HashMap::new(),
            next_token: 0,
            backlog: VecDeque::new(),
            reads: 0,
            writes: 0,
            small_reads: 0,
            stuck: false,
            more: false,
            held_back: None,
            target_silence: Duration::ZERO,
            lost: false,
            unattempted: 0,
        }
    }

    /// Returns what wakes this lane.
    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker)
    }

    /// Runs until everything the feeder gave is on its way to the committer, or reported. Returns
    /// how it left its drive.
    ///
    /// # Errors
    /// When the backend itself breaks: the lane ends, its files in flight are reported.
    pub(crate) fn run(mut self) -> Result<Left, Error> {
        let mut done = Vec::new();
        loop {
            self.fill();
            self.settle_transfers();
            if self.is_finished() {
                if !self.feeder_done && self.context.halted() {
                    self.context.interrupted.store(true, Relaxed);
                }
                return Ok(self.leave_drive());
            }
            let wait = self.wait_time();
            let blocker = self.blocker();
            let before = Instant::now();
            let asking = self.ask_target();
            let is_asked = self.reads + self.small_reads > 0;
            let waiting = is_asked.then(|| self.vitals.lane.wait());
            let reaped = self.backend.reap(wait, &mut done);
            drop(waiting);
            self.target_silence = match asking {
                Some(_) => self.target_silence + before.elapsed(),
                None => Duration::ZERO,
            };
            drop(asking);
            if wait != Wait::Poll {
                self.counters.add_waited(blocker, before.elapsed());
            }
            if let Err(errno) = reaped {
                let what = "the I/O queue of this drive broke";
                let path = self.context.drive_path(self.number);
                let error =
                    Error::new(ErrorKind::SourceLost, Side::Source, path, what).because(errno);
                self.report_in_flight(&error);
                return Err(error);
            }
            for completion in done.drain(..) {
                if !matches!(completion.request.op, Op::Read { .. }) {
                    self.target_silence = Duration::ZERO; // It answers.
                }
                self.complete(completion);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.pending.is_empty()
            && self.transfers.is_empty()
            && self.queue.is_empty()
            && self.aside.is_empty()
            && (self.feeder_done || self.lost || self.context.halted())
    }

    /// Takes up work while there are buffers, depth and entries.
    fn fill(&mut self) {
        self.held_back = None;
        self.more = false;
        while let Some(request) = self.backlog.pop_front() {
            if let Err(Full(request)) = self.backend.submit(request) {
                self.backlog.push_front(request);
                return;
            }
        }
        self.look_at_drive();
        if self.context.is_ending() || self.lost {
            self.give_up();
            return;
        }
        if self.context.is_full() {
            self.wind_down();
        }
        // Holes and skipped files take no buffer, so nothing else would end this loop.
        for _ in 0..STEPS_MAX {
            let went_on = if let Some(transfer) = self.current {
                self.issue_block(transfer)
            } else if self.context.is_full() {
                return;
            } else if self.is_their_turn() {
                self.rescue()
            } else {
                self.next_entry()
            };
            if !went_on || !self.backlog.is_empty() {
                return;
            }
        }
        self.more = true;
    }

    /// Returns whether the files that were put aside are to be gone on with.
    fn is_their_turn(&mut self) -> bool {
        let is_idle = self.feeder_done && self.queue.is_empty();
        self.aside.is_due(is_idle)
    }

    /// Begins the next entry. Returns false when there is none, or no room for it.
    fn next_entry(&mut self) -> bool {
        if self.queue.is_empty() {
            match self.entries.try_recv() {
                Ok(batch) => self.queue.extend(batch),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    // A listing that its drive ended is not all there is.
                    self.lost |= self.vitals.is_lost();
                    self.feeder_done = !self.lost;
                    return !self.lost && !self.aside.is_empty();
                }
            }
        }
        let Some(entry) = self.queue.pop_front() else {
            return true;
        };
        self.begin(entry)
    }

    fn report_in_flight(&mut self, error: &Error) {
        let small = std::mem::take(&mut self.pending)
            .into_values()
            .filter_map(|pending| match pending.purpose {
                Purpose::Small(read) => Some(read.entry),
                _ => None,
            });
        let large = std::mem::take(&mut self.transfers)
            .into_values()
            .map(|t| t.entry);
        let begun: Vec<Entry> = small.chain(large).chain(self.queue.drain(..)).collect();
        for entry in begun {
            self.report(&entry, error);
        }
    }

    /// Submits an operation that is content with `want` bytes.
    fn submit(&mut self, file: &Arc<OwnedFd>, op: Op, want: usize, purpose: Purpose) {
        self.next_token += 1;
        let token = self.next_token;
        let progress = Progress::wanting(&op, want);
        self.pending.insert(
            token,
            Pending {
                purpose,
                progress,
                want,
            },
        );
        self.resubmit(Request {
            token,
            file: Arc::clone(file),
            op,
        });
    }

    fn resubmit(&mut self, request: Request) {
        if let Err(Full(request)) = self.backend.submit(request) {
            self.backlog.push_back(request);
        }
    }

    fn complete(&mut self, completion: Completion) {
        let token = completion.request.token;
        let Some(pending) = self.pending.get_mut(&token) else {
            return;
        };
        let (request, result) = match pending.progress.settle(completion) {
            Step::Again(request) => return self.resubmit(request),
            Step::Done(request) => (request, Ok(pending.want)),
            Step::EndOfFile { request, len } => (request, Ok(len)),
            Step::Failed {
                request,
                errno: Errno::INVAL,
            } if goes_on_buffered(&request) => {
                self.context.outcomes.buffered_reads.fetch_add(1, Relaxed);
                let purpose = &pending.purpose;
                if let Some(evidence) = &self.context.evidence
                    && let Some(path) = path_of(purpose, &self.transfers)
                {
                    evidence.add_unproven(path);
                }
                pending.progress = Progress::wanting(&request.op, pending.want);
                return self.resubmit(request);
            }
            Step::Failed { request, errno } => (request, Err(errno)),
        };
        if let Some(Pending { purpose, .. }) = self.pending.remove(&token) {
            self.settle(purpose, request, result);
        }
    }

    fn wait_time(&self) -> Wait {
        if self.more {
            return Wait::Poll;
        }
        Wait::AtMost(self.held_back.map_or(TICK, |delay| delay.min(TICK)))
    }

    /// Says what a lane that cannot go on is waiting for.
    fn blocker(&self) -> Waited {
        if self.held_back.is_some() {
            Waited::Limit
        } else if self.credits.free() > 0 || self.reads + self.small_reads >= self.depth.blocks {
            // Room for more: the drive, or its listing, is what is slow.
            Waited::Source
        } else if self.writes > 0 || self.reads + self.small_reads == 0 && self.pack.is_some() {
            Waited::Target
        } else if self.reads > 0 {
            Waited::Source
        } else {
            // All buffers are with the hash workers or the writers.
            if self.transfers.is_empty() {
                Waited::Target
            } else {
                Waited::Hash
            }
        }
    }

    /// Reports an entry that was begun, and with it the names that waited for it.
    fn report(&mut self, entry: &Entry, error: &Error) {
        if self.is_of_drive(error) {
            return self.leave(entry);
        }
        if error.kind() == ErrorKind::RecordWrite && journal::check_pages().is_err() {
            self.context.journal_lost(error);
            return self.leave(entry);
        }
        self.context.entry_failed(self.number, entry, error);
        super::commit::fail_links(self.context, self.number, entry, error);
    }

    /// Reports an entry that was not begun: other names of its inode are none the worse for it.
    fn report_name(&mut self, entry: &Entry, error: &Error) {
        if let Err(error) = journal::check_pages() {
            self.context.journal_lost(&error);
            self.unattempted += 1;
            return;
        }
        if self.is_of_drive(error) {
            self.unattempted += 1;
            return;
        }
        if self.context.is_of_stop(error) {
            self.unattempted += 1;
            self.context.interrupted.store(true, Relaxed);
            return;
        }
        self.context.entry_failed(self.number, entry, error);
    }
}
