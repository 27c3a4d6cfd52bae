//! One ring: entries in, answers out, and the table that owns what is in between.
//!
//! # Safety invariants
//!
//! - **R1** (memory) Every pointer in a submitted entry points into a lease or view that the
//!   in-flight table owns, with at least the length in the entry. Neither moves its bytes when it
//!   is moved itself.
//! - **R2** (until the answer) A request leaves the table only with the last answer to it in hand.
//!   If the ring can no longer be asked, the table is leaked.
//! - **R3** (descriptors) A request in the table keeps its file open; the ring keeps the eventfd
//!   of its doorbell open for as long as it lives. The poll on it carries no memory.
//! - **R4** (registered memory) `registered` keeps the registered region mapped for as long as the
//!   ring lives: fields are dropped in order, `uring` first.
//! - **R5** (one thread) `&mut self` everywhere: one thread at a time touches the queues, and no two
//!   borrows of a queue exist at once.
#![expect(
    unsafe_code,
    reason = "entries carry raw pointers: this is one of the files ARCHITECTURE.md names"
)]

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::io::Errno;

use super::doorbell::Doorbell;
use super::flights::{Flight, Flights, Tag};
use super::registered::Registered;
use crate::buffer::Credits;
use crate::io::{Completion, Op, Request, errno};

/// The tag of the poll on the doorbell. No request has it: its index would be 2^32 - 1.
const DOORBELL: Tag = Tag::MAX;

/// How often a request the kernel answered with `EAGAIN` or `EINTR` is submitted again.
///
/// From the second time on a kernel worker runs it, which may block, so once should be enough.
const RETRIES_MAX: u8 = 16;

/// The longest write-back one entry can ask for: its length has 32 bits.
const WRITE_BACK_MAX: u64 = (u32::MAX as u64 + 1) - (1 << 20);

/// The longest single sleep; a longer wait is several of them. Any value that fits a timespec.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// A ring and its in-flight table.
pub(super) struct Ring {
    uring: IoUring,
    flights: Flights,
    /// `None` if nothing is registered.
    registered: Option<Registered>,
    /// Whether writes may use the registered region, too.
    pub(super) fixed_writes: bool,
    doorbell: Arc<Doorbell>,
    /// Why the doorbell cannot be heard, if so.
    deaf: Option<Errno>,
    answers: Vec<(Tag, i32)>,
}

impl Ring {
    /// Takes over a fresh ring and arms the doorbell.
    pub(super) fn new(ring: IoUring, depth: u32, doorbell: Arc<Doorbell>) -> Self {
        // One place in the queue is the doorbell's, so that requests never crowd it out. Then no
        // more answers can be under way than the completion queue, twice as long, has room for.
        let room = ring.params().sq_entries().saturating_sub(1);
        let mut this = Self {
            flights: Flights::new(depth.min(room)),
            answers: Vec::with_capacity(ring.params().cq_entries() as usize),
            uring: ring,
            registered: None,
            fixed_writes: false,
            doorbell,
            deaf: None,
        };
        this.listen();
        this
    }

    /// Registers the memory of `credits`, each slot at its first use.
    ///
    /// # Errors
    /// As [`Registered::new`].
    pub(super) fn register(&mut self, credits: &Credits) -> Result<(), Errno> {
        let registered = Registered::new(&self.uring.submitter(), credits)?;
        self.registered = Some(registered);
        Ok(())
    }

    /// Returns why memory that was to be registered is not, if some is not.
    pub(super) fn refused(&self) -> Option<Errno> {
        self.registered.as_ref().and_then(Registered::refused)
    }

    /// Returns whether the memory is registered.
    pub(super) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// Sets how many kernel workers may run this thread's requests on regular files at once.
    pub(super) fn limit_workers(&mut self, bounded: u32) -> Result<(), Errno> {
        // 0 leaves the unbounded class, which regular files never use, as it is.
        let mut limits = [bounded, 0];
        let answer = self
            .uring
            .submitter()
            .register_iowq_max_workers(&mut limits);
        answer.map_err(|error| errno::from_error(&error))
    }

    /// Returns how many requests are in flight.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Returns how many may be.
    pub(super) fn capacity(&self) -> usize {
        self.flights.capacity()
    }

    /// Takes a request in; the kernel hears of it at the next `enter`. It is told at once of one
    /// whose memory was registered for it: that took time, in which the drive did nothing.
    ///
    /// # Errors
    /// Gives it back when the queue is full.
    pub(super) fn submit(&mut self, request: Request) -> Result<(), Request> {
        let tag = self.flights.insert(request)?;
        if self.push(tag) {
            return Ok(());
        }
        // Not reached: the queue has a place for each flight and one more. Not lost if it were.
        self.flights.remove(tag).map_or(Ok(()), Err)
    }

    /// Returns whether entries wait for the next `enter`.
    pub(super) fn has_queued(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Hands queued entries to the kernel and, with `wait`, sleeps until an answer is there.
    ///
    /// Returns early, without an answer, on a signal or when part of the entries was not taken in the
    /// end: look, and enter again.
    ///
    /// # Errors
    /// Only if the ring is unusable, `EEXIST` if this is not the thread that made it.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> Result<(), Errno> {
        // Two calls rather than one that does both: on its way back from the first, the kernel may let
        // a thread of its own serve the request on this processor, instead of waking another one and
        // putting this one to sleep. Measured on a loop device, 64 KiB at a time, one request under
        // way: 23 us rather than 50 (median), for two thirds of the processor's time.
        let queued = self.has_queued();
        let submitter = self.uring.submitter();
        let entered = match wait {
            None => submitter.submit(),
            Some(limit) => {
                let limit = Timespec::from(limit.min(SLEEP_MAX));
                let sleep = || submitter.submit_with_args(1, &SubmitArgs::new().timespec(&limit));
                let handed = if queued { submitter.submit() } else { Ok(0) };
                handed.and_then(|_| sleep())
            }
        };
        match entered.map_err(|error| errno::from_error(&error)) {
            Ok(_) | Err(Errno::TIME | Errno::INTR) => Ok(()),
            Err(Errno::AGAIN | Errno::BUSY) => {
                // The kernel is out of memory for requests, or of room for answers. The entries
                // stay queued; the pause keeps a waiting caller from spinning meanwhile.
                if wait.is_some() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    /// Appends what the kernel has answered so far; does not enter it.
    pub(super) fn collect(&mut self, done: &mut Vec<Completion>) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.extend(
            self.uring
                .completion()
                .map(|cqe| (cqe.user_data(), cqe.result())),
        );
        for (tag, raw) in answers.drain(..) {
            if tag == DOORBELL {
                self.deaf = errno::from_result(raw).err();
                self.doorbell.silence();
                self.listen();
            } else if !self.goes_on(tag, raw) {
                let request = self.flights.remove(tag);
                debug_assert!(request.is_some(), "an answer to nothing we asked");
                let result = errno::from_result(raw);
                done.extend(request.map(|request| Completion { request, result }));
            }
        }
        self.answers = answers;
    }

    /// Returns why wakes can no longer be heard, if so.
    pub(super) fn deaf(&self) -> Option<Errno> {
        self.deaf
    }

    /// Returns whether an answer is not the last one; if so, the request is queued again.
    fn goes_on(&mut self, tag: Tag, raw: i32) -> bool {
        let Some(flight) = self.flights.get_mut(tag) else {
            return false;
        };
        match (&flight.request.op, errno::from_result(raw)) {
            (_, Err(Errno::INTR | Errno::AGAIN)) if flight.retries < RETRIES_MAX => {
                flight.retries += 1;
            }
            (Op::WriteBack { len, .. }, Ok(_)) if *len - flight.covered > WRITE_BACK_MAX => {
                flight.covered += WRITE_BACK_MAX;
            }
            _ => return false,
        }
        self.push(tag)
    }

    /// Queues an entry for a request in the table.
    fn push(&mut self, tag: Tag) -> bool {
        let Some(flight) = self.flights.get_mut(tag) else {
            return false;
        };
        let (submitter, mut queue, _) = self.uring.split();
        let mut is_new = false;
        let mut fixed = |start: *const u8, len: usize| {
            let place = self.registered.as_mut()?.find(&submitter, start, len)?;
            is_new |= place.is_new;
            Some(place.index)
        };
        let entry = entry(flight, &mut fixed, self.fixed_writes).user_data(tag);
        // SAFETY: `push` needs the entry's memory and descriptor valid until it is answered: R1 and
        // R3 hold as `entry` takes both from a request in the table, R2 keeps it there.
        let pushed = unsafe { queue.push(&entry) }.is_ok();
        drop(queue);
        if is_new {
            // If this fails the next `enter` does, too, and says so.
            let _told_later = submitter.submit();
        }
        pushed
    }

    /// Arms the poll on the doorbell.
    fn listen(&mut self) {
        let fd = Fd(self.doorbell.as_fd().as_raw_fd());
        // POLLIN is 1, whatever the sign of the type libc gives it.
        let entry = opcode::PollAdd::new(fd, u32::from(libc::POLLIN.unsigned_abs()))
            .build()
            .user_data(DOORBELL);
        let mut queue = self.uring.submission();
        // SAFETY: `push` needs the entry's memory and descriptor valid until it is answered: it has
        // no memory, and R3.
        let pushed = unsafe { queue.push(&entry) };
        if pushed.is_err() {
            // Not reached: one place in the queue is kept for this.
            self.deaf = Some(Errno::BUSY);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.flights.len() > 0 {
            if self.enter(Some(SLEEP_MAX)).is_err() {
                self.flights.leak();
                return;
            }
            self.collect(&mut done);
            done.clear();
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.len())
            .field("capacity", &self.capacity())
            .field("registered", &self.is_registered())
            .finish_non_exhaustive()
    }
}

/// Where memory is registered, if it is: the index of the buffer.
type Fixed<'f> = dyn FnMut(*const u8, usize) -> Option<u16> + 'f;

/// Returns the entry for a request, with the registered opcode if its memory is.
fn entry(flight: &mut Flight, fixed: &mut Fixed<'_>, fixed_writes: bool) -> squeue::Entry {
    let fd = Fd(flight.request.file.as_raw_fd());
    let entry = match &mut flight.request.op {
        Op::Read { offset, lease } => {
            let (start, len) = (lease.as_mut_ptr(), entry_len(lease.len()));
            match fixed(start, lease.len()) {
                Some(index) => opcode::ReadFixed::new(fd, start, len, index)
                    .offset(explicit(*offset))
                    .build(),
                None => opcode::Read::new(fd, start, len)
                    .offset(explicit(*offset))
                    .build(),
            }
        }
        Op::Write { offset, view } => {
            let (start, len) = (view.as_ptr(), entry_len(view.len()));
            let index = if fixed_writes {
                fixed(start, view.len())
            } else {
                None
            };
            match index {
                Some(index) => opcode::WriteFixed::new(fd, start, len, index)
                    .offset(explicit(*offset))
                    .build(),
                None => opcode::Write::new(fd, start, len)
                    .offset(explicit(*offset))
                    .build(),
            }
        }
        Op::WriteBack { offset, len } => {
            let len = (*len - flight.covered).min(WRITE_BACK_MAX);
            opcode::SyncFileRange::new(fd, u32::try_from(len).unwrap_or(u32::MAX))
                .offset(offset.saturating_add(flight.covered))
                .flags(libc::SYNC_FILE_RANGE_WRITE)
                .build()
        }
        Op::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
    };
    if flight.retries > 1 {
        entry.flags(squeue::Flags::ASYNC)
    } else {
        entry
    }
}

/// Returns the length of a transfer as an entry carries it; a lease is never longer than a slot.
fn entry_len(len: usize) -> u32 {
    u32::try_from(len).expect("a slot is 1 MiB")
}

/// Returns an offset that the kernel takes at its word.
///
/// To a ring -1 means "at the file's own position", where pread(2) says `EINVAL`; -2 gets that.
fn explicit(offset: u64) -> u64 {
    offset.min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::super::setup::{RUNGS, build};
    use super::*;
    use crate::buffer::{Arena, SLOT_LEN};
    use std::os::fd::OwnedFd;

    #[test]
    fn registered_memory_is_moved_as_such_and_writes_only_when_allowed() {
        let mut arena = Arena::new(1).unwrap();
        let credits = arena.lend(1).unwrap();
        let opcode_of = |op: Op, index: Option<u16>, fixed_writes: bool| {
            let file = std::fs::File::open("/dev/null").unwrap();
            let mut flight = Flight {
                request: Request {
                    token: 0,
                    file: Arc::new(OwnedFd::from(file)),
                    op,
                },
                retries: 0,
                covered: 0,
            };
            let mut fixed = |_: *const u8, _: usize| index;
            entry(&mut flight, &mut fixed, fixed_writes).get_opcode()
        };
        let read = |index| {
            let lease = credits.take().unwrap();
            opcode_of(Op::Read { offset: 0, lease }, index, true)
        };
        let write = |index, fixed_writes| {
            let view = credits.take().unwrap().freeze(SLOT_LEN);
            opcode_of(Op::Write { offset: 0, view }, index, fixed_writes)
        };
        assert_eq!(read(None), u32::from(opcode::Read::CODE));
        assert_eq!(read(Some(0)), u32::from(opcode::ReadFixed::CODE));
        assert_eq!(write(Some(0), true), u32::from(opcode::WriteFixed::CODE));
        assert_eq!(write(Some(0), false), u32::from(opcode::Write::CODE));
        assert_eq!(write(None, true), u32::from(opcode::Write::CODE));
    }

    #[test]
    fn a_slot_is_registered_at_its_first_use_and_nothing_else_is() {
        let Ok(ring) = build(2, &RUNGS) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        let mut arena = Arena::new(3).unwrap();
        let (ours, theirs) = (arena.lend(2).unwrap(), arena.lend(1).unwrap());
        let mut ring = Ring::new(ring, 1, Arc::new(Doorbell::new().unwrap()));
        ring.register(&ours).unwrap();
        let start = ours.region().cast::<u8>();
        let mut find = |start: *const u8, len| {
            let place = ring.registered.as_mut().unwrap();
            let place = place.find(&ring.uring.submitter(), start, len)?;
            Some((place.index, place.is_new))
        };
        assert_eq!(find(start, SLOT_LEN), Some((0, false)), "by `register`");
        let second = start.wrapping_add(SLOT_LEN);
        assert_eq!(find(second, 1), Some((1, true)));
        let last = second.wrapping_add(SLOT_LEN - 1);
        assert_eq!(find(last, 1), Some((1, false)));
        assert_eq!(find(last, 2), None, "behind the end");
        assert_eq!(find(start.wrapping_add(1), SLOT_LEN), None, "of two slots");
        assert_eq!(find(start.wrapping_sub(1), SLOT_LEN), None);
        assert_eq!(find(start, usize::MAX), None);
        assert_eq!(find(theirs.region().cast::<u8>(), 1), None);
    }

    #[test]
    fn the_limit_of_workers_reaches_the_kernel() {
        let Ok(ring) = build(2, &RUNGS) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        let mut ring = Ring::new(ring, 1, Arc::new(Doorbell::new().unwrap()));
        if let Err(errno) = ring.limit_workers(3) {
            eprintln!("SKIPPED: no limit to set: {errno}");
            return;
        }
        // Asking with 0 changes nothing and gives what is set.
        let mut limits = [0, 0];
        ring.uring
            .submitter()
            .register_iowq_max_workers(&mut limits)
            .unwrap();
        assert_eq!(limits[0], 3);
    }

    #[test]
    fn an_interrupted_request_is_queued_again_so_often_and_then_reported() {
        let Ok(ring) = build(4, &RUNGS) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        let mut ring = Ring::new(ring, 2, Arc::new(Doorbell::new().unwrap()));
        let null = std::fs::File::open("/dev/null").unwrap();
        let request = Request {
            token: 0,
            file: Arc::new(OwnedFd::from(null)),
            op: Op::WriteBack { offset: 0, len: 1 },
        };
        let tag = ring.flights.insert(request).unwrap();
        for raw in [-libc::EINTR, -libc::EAGAIN].into_iter().cycle().take(16) {
            assert!(ring.goes_on(tag, raw));
            ring.enter(None).unwrap();
            ring.uring.completion().for_each(drop);
        }
        assert!(!ring.goes_on(tag, -libc::EAGAIN));
        assert!(!ring.goes_on(tag, -libc::EIO));
        // The kernel answers to those sixteen; the request must not be taken for them.
        ring.flights.remove(tag).unwrap();
    }
}
