//! The one place where a short transfer is continued.
//!
//! Backends report what moved and stop there. A [`Transfer`] is told of each completion of one
//! request and says what is next. It does no I/O, so all of it can be tested with numbers.
//!
//! 1. All that was wanted has moved: done.
//! 2. A read moved nothing: the file ends here. A write moved nothing: `EIO`.
//! 3. Otherwise go on from the last multiple of [`ALIGN`] that was reached, as O_DIRECT takes no
//!    other. The part after it is moved a second time: read into the same memory, or written with
//!    the same bytes. Example: 10,000 bytes came of 16,384; go on at 8,192 with 8,192 to go.
//! 4. A read that stops at the same odd byte [`SIGHTINGS`] times in a row has met the end of the
//!    file: the kernel has no way to say "0 bytes" to a request that must begin on a multiple of
//!    [`ALIGN`].
//! 5. A round that gets no further than the best before it is idle. After [`IDLE_ROUNDS_MAX`] of
//!    them in a row the transfer has failed with `EIO`.
//!
//! **Boundary.** Below this line nobody resumes, above it nobody sees a short count.

use rustix::io::Errno;

use super::{Completion, Op, Request};
use crate::buffer::{ALIGN, View};
use crate::seam;

/// How many rounds in a row must stop at the same byte before it is the end of the file.
///
/// Two would do if only ends of files stopped a read twice at one place; a signal might.
pub const SIGHTINGS: u8 = 3;

/// How many rounds in a row may bring no progress. Generous: each costs one request, and what it
/// guards against is going on for ever.
pub const IDLE_ROUNDS_MAX: u8 = 16;

/// What to do after a completion. The memory is whole again in every variant but `Again`.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// All that was wanted has moved.
    Done(Request),
    /// The file ends after `len` bytes, counted from where the request began; reads only.
    EndOfFile {
        /// The request as it was made; `len` bytes at the front of its lease are good.
        request: Request,
        /// Bytes up to the end of the file; less than wanted.
        len: usize,
    },
    /// Submit this: it asks for what is missing, under the same token.
    Again(Request),
    /// The kernel refused, or nothing moves.
    Failed {
        /// The request as it was made.
        request: Request,
        /// Why.
        errno: Errno,
    },
}

/// The state of one request from its first submission to its last completion.
#[derive(Debug)]
pub struct Transfer {
    /// Where in the file the whole transfer begins.
    offset: u64,
    /// Bytes wanted.
    want: usize,
    /// The whole view of a write, which goes on with slices of it.
    whole: Option<View>,
    /// Where the round in flight began, from `offset`; a multiple of [`ALIGN`].
    at: usize,
    /// The furthest any round came, from `offset`.
    best: usize,
    /// Rounds in a row without progress.
    idle: u8,
    /// How far the last round came, from `offset`.
    end: usize,
    /// Rounds in a row that came as far as that.
    sightings: u8,
}

impl Transfer {
    /// Returns the state for a request about to be submitted, which wants all it asks for.
    pub fn new(op: &Op) -> Self {
        let (offset, want, whole) = match op {
            Op::Read { offset, lease } => (*offset, lease.len(), None),
            Op::Write { offset, view } => (*offset, view.len(), Some(view.clone())),
            Op::WriteBack { offset, .. } => (*offset, 0, None),
            Op::Sync => (0, 0, None),
        };
        Self {
            offset,
            want,
            whole,
            at: 0,
            best: 0,
            idle: 0,
            end: 0,
            sightings: 0,
        }
    }

    /// Returns the state for a read that is content with the first `want` bytes.
    ///
    /// For the tail of a file of known size: O_DIRECT asks for a multiple of [`ALIGN`] and gets
    /// less, and without `want` it would take further reads to see that this is the end.
    pub fn wanting(op: &Op, want: usize) -> Self {
        let mut transfer = Self::new(op);
        if matches!(op, Op::Read { .. }) {
            transfer.want = want.min(transfer.want);
        }
        transfer
    }

    /// Takes in a completion and says what is next. After anything but [`Step::Again`] it is over.
    pub fn settle(&mut self, completion: Completion) -> Step {
        let Completion { request, result } = completion;
        let moved = match result {
            Ok(moved) => moved,
            Err(errno) => return self.fail(request, errno),
        };
        let reads = match request.op {
            Op::Read { .. } => true,
            Op::Write { .. } => false,
            Op::WriteBack { .. } | Op::Sync => return Step::Done(request),
        };
        let reached = self.at + moved;
        if reached >= self.want || !reads && seam::bug("short-write-ignored") {
            return Step::Done(self.restore(request));
        }
        if moved == 0 && !reads {
            return self.fail(request, Errno::IO);
        }
        self.note(reached);
        if reads && (moved == 0 || self.sightings >= SIGHTINGS) {
            let request = self.restore(request);
            return Step::EndOfFile {
                request,
                len: reached,
            };
        }
        if self.idle >= IDLE_ROUNDS_MAX {
            return self.fail(request, Errno::IO);
        }
        let mut request = self.restore(request);
        self.at = reached - reached % ALIGN;
        self.narrow(&mut request.op);
        Step::Again(request)
    }

    /// Counts a round that came as far as `reached`.
    fn note(&mut self, reached: usize) {
        self.idle = if reached > self.best {
            0
        } else {
            self.idle + 1
        };
        self.best = self.best.max(reached);
        self.sightings = if reached == self.end {
            self.sightings + 1
        } else {
            1
        };
        self.end = reached;
    }

    fn fail(&self, request: Request, errno: Errno) -> Step {
        let request = self.restore(request);
        Step::Failed { request, errno }
    }

    /// Returns the request as it was made, memory in one piece.
    fn restore(&self, mut request: Request) -> Request {
        match &mut request.op {
            Op::Read { offset, lease } => {
                *offset = self.offset;
                lease.retreat(self.at);
            }
            Op::Write { offset, view } => {
                *offset = self.offset;
                if let Some(whole) = &self.whole {
                    *view = whole.clone();
                }
            }
            Op::WriteBack { .. } | Op::Sync => {}
        }
        request
    }

    /// Leaves only what lies after `at` to be moved.
    fn narrow(&self, op: &mut Op) {
        match op {
            Op::Read { offset, lease } => {
                *offset += self.at as u64;
                lease.advance(self.at);
            }
            Op::Write { offset, view } => {
                *offset += self.at as u64;
                *view = view.slice(self.at..view.len());
            }
            Op::WriteBack { .. } | Op::Sync => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Arena, Credits};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    fn credits() -> Credits {
        Arena::new(1).unwrap().lend(1).unwrap()
    }

    fn request(op: Op) -> Request {
        let file = std::fs::File::open("/dev/null").unwrap();
        let file = Arc::new(OwnedFd::from(file));
        Request { token: 7, file, op }
    }

    fn read(credits: &Credits, offset: u64, len: usize) -> Request {
        let mut lease = credits.take().unwrap();
        lease.truncate(len);
        request(Op::Read { offset, lease })
    }

    fn write(credits: &Credits, offset: u64, bytes: &[u8]) -> Request {
        let mut lease = credits.take().unwrap();
        lease.truncate(bytes.len());
        lease.as_mut_slice().copy_from_slice(bytes);
        let view = lease.freeze(bytes.len());
        request(Op::Write { offset, view })
    }

    fn ok(request: Request, moved: usize) -> Completion {
        let result = Ok(moved);
        Completion { request, result }
    }

    /// What a request asks for: offset and length.
    fn asks(request: &Request) -> (u64, usize) {
        match &request.op {
            Op::Read { offset, lease } => (*offset, lease.len()),
            Op::Write { offset, view } => (*offset, view.len()),
            Op::WriteBack { offset, len } => (*offset, usize::try_from(*len).unwrap()),
            Op::Sync => (0, 0),
        }
    }

    fn again(step: Step) -> Request {
        match step {
            Step::Again(request) => request,
            other => panic!("expected another round: {other:?}"),
        }
    }

    fn done(step: Step) -> Request {
        match step {
            Step::Done(request) => request,
            other => panic!("expected the end: {other:?}"),
        }
    }

    #[test]
    fn a_full_read_is_done_at_once() {
        let credits = credits();
        let request = read(&credits, 4096, 8192);
        let mut transfer = Transfer::new(&request.op);
        let request = done(transfer.settle(ok(request, 8192)));
        assert_eq!(asks(&request), (4096, 8192));
        assert_eq!(request.token, 7);
    }

    #[test]
    fn a_short_read_goes_on_from_the_last_aligned_byte() {
        let credits = credits();
        let request = read(&credits, 1 << 20, 16384);
        let mut transfer = Transfer::new(&request.op);
        let request = again(transfer.settle(ok(request, 10_000)));
        assert_eq!(asks(&request), (1_056_768, 8192));
        let request = again(transfer.settle(ok(request, 5000)));
        assert_eq!(asks(&request), (1_060_864, 4096));
        let request = done(transfer.settle(ok(request, 4096)));
        assert_eq!(asks(&request), (1 << 20, 16384));
    }

    #[test]
    fn the_tail_of_a_file_of_known_size_takes_one_read() {
        let credits = credits();
        let request = read(&credits, 0, 12288);
        let mut transfer = Transfer::wanting(&request.op, 10_000);
        let request = done(transfer.settle(ok(request, 10_000)));
        assert_eq!(asks(&request), (0, 12288));
    }

    #[test]
    fn a_read_of_nothing_is_the_end_of_the_file() {
        let credits = credits();
        let request = read(&credits, 0, 12288);
        let mut transfer = Transfer::new(&request.op);
        let request = again(transfer.settle(ok(request, 8192)));
        match transfer.settle(ok(request, 0)) {
            Step::EndOfFile { request, len } => {
                assert_eq!(len, 8192);
                assert_eq!(asks(&request), (0, 12288));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_odd_end_seen_again_and_again_is_the_end_of_the_file() {
        let credits = credits();
        let request = read(&credits, 0, 12288);
        let mut transfer = Transfer::wanting(&request.op, 11_000);
        let request = again(transfer.settle(ok(request, 10_000)));
        assert_eq!(asks(&request), (8192, 4096));
        let request = again(transfer.settle(ok(request, 1808)));
        assert_eq!(asks(&request), (8192, 4096));
        match transfer.settle(ok(request, 1808)) {
            Step::EndOfFile { len, .. } => assert_eq!(len, 10_000),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_cut_off_during_the_read_ends_where_it_ends_now() {
        let credits = credits();
        let request = read(&credits, 0, 12288);
        let mut transfer = Transfer::new(&request.op);
        let request = again(transfer.settle(ok(request, 10_000)));
        match transfer.settle(ok(request, 0)) {
            Step::EndOfFile { len, .. } => assert_eq!(len, 8192),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shorter_answer_between_sightings_is_not_the_end() {
        let credits = credits();
        let request = read(&credits, 0, 4096);
        let mut transfer = Transfer::new(&request.op);
        let mut request = again(transfer.settle(ok(request, 1000)));
        for moved in [1000, 900, 1000, 1000] {
            request = again(transfer.settle(ok(request, moved)));
        }
        match transfer.settle(ok(request, 1000)) {
            Step::EndOfFile { len, .. } => assert_eq!(len, 1000),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_read_that_never_settles_is_given_up() {
        let credits = credits();
        let request = read(&credits, 0, 4096);
        let mut transfer = Transfer::new(&request.op);
        let mut request = again(transfer.settle(ok(request, 1000)));
        for round in 0..15 {
            request = again(transfer.settle(ok(request, 100 + round)));
        }
        match transfer.settle(ok(request, 7)) {
            Step::Failed { errno, .. } => assert_eq!(errno, Errno::IO),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn progress_between_idle_rounds_forgives_them() {
        let credits = credits();
        let request = read(&credits, 0, 8192);
        let mut transfer = Transfer::new(&request.op);
        let mut request = again(transfer.settle(ok(request, 100)));
        for moved in [100, 50, 101, 101, 7, 102] {
            request = again(transfer.settle(ok(request, moved)));
            assert_eq!(asks(&request), (0, 8192));
        }
        assert_eq!(asks(&done(transfer.settle(ok(request, 8192)))), (0, 8192));
    }

    #[test]
    fn a_short_write_goes_on_with_the_bytes_that_belong_there() {
        let credits = credits();
        let mut bytes = vec![1u8; 12288];
        bytes[4096..8192].fill(2);
        bytes[8192..].fill(3);
        let request = write(&credits, 4096, &bytes);
        let mut transfer = Transfer::new(&request.op);
        let request = again(transfer.settle(ok(request, 4097)));
        assert_eq!(asks(&request), (8192, 8192));
        match &request.op {
            Op::Write { view, .. } => assert_eq!((view[0], view[4096]), (2, 3)),
            other => panic!("{other:?}"),
        }
        let request = done(transfer.settle(ok(request, 8192)));
        assert_eq!(asks(&request), (4096, 12288));
    }

    #[test]
    fn a_write_of_nothing_is_an_io_error() {
        let credits = credits();
        let request = write(&credits, 0, &[1; 4096]);
        let mut transfer = Transfer::new(&request.op);
        match transfer.settle(ok(request, 0)) {
            Step::Failed { errno, .. } => assert_eq!(errno, Errno::IO),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_that_makes_no_progress_is_given_up() {
        let credits = credits();
        let request = write(&credits, 0, &[1; 8192]);
        let mut transfer = Transfer::new(&request.op);
        let mut request = again(transfer.settle(ok(request, 512)));
        for _ in 0..15 {
            request = again(transfer.settle(ok(request, 512)));
        }
        match transfer.settle(ok(request, 512)) {
            Step::Failed { request, errno } => {
                assert_eq!(errno, Errno::IO);
                assert_eq!(asks(&request), (0, 8192));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_that_fills_up_half_way_fails_with_the_whole_view() {
        let credits = credits();
        let request = write(&credits, 0, &[1; 12288]);
        let mut transfer = Transfer::new(&request.op);
        let request = again(transfer.settle(ok(request, 4096)));
        let result = Err(Errno::NOSPC);
        match transfer.settle(Completion { request, result }) {
            Step::Failed { request, errno } => {
                assert_eq!(errno, Errno::NOSPC);
                assert_eq!(asks(&request), (0, 12288));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn write_back_moves_no_bytes_and_is_done() {
        let request = request(Op::WriteBack { offset: 0, len: 9 });
        let mut transfer = Transfer::new(&request.op);
        done(transfer.settle(ok(request, 0)));
    }

    #[test]
    fn a_sync_is_done_or_failed_and_never_tried_again() {
        let mut transfer = Transfer::new(&Op::Sync);
        done(transfer.settle(ok(request(Op::Sync), 0)));
        let mut transfer = Transfer::new(&Op::Sync);
        let completion = Completion {
            request: request(Op::Sync),
            result: Err(Errno::IO),
        };
        let Step::Failed { errno, .. } = transfer.settle(completion) else {
            panic!("a failed sync is final");
        };
        assert_eq!(errno, Errno::IO);
    }

    #[test]
    fn nothing_wanted_is_done_at_once() {
        let credits = credits();
        let request = read(&credits, 0, 0);
        let mut transfer = Transfer::new(&request.op);
        done(transfer.settle(ok(request, 0)));
        assert_eq!(credits.free(), 1);
    }
}
