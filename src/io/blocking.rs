//! The backend that works everywhere: `pread` and `pwrite` on threads.
//!
//! 1. `submit` puts the request into a bounded queue: one for reads, one for everything else.
//! 2. A worker of that queue takes it, makes the system call, puts the completion into a third one.
//! 3. `reap` takes completions out, or sleeps until there is one, a wake, or the time is up.
//!
//! Each queue has room for everything in flight, so neither `submit` nor a worker ever waits for
//! room. Reads have workers of their own because they go to another device than writes and syncs: one
//! that hangs may hold all of its workers, and holds nothing of the other.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, select};
use rustix::io::Errno;

use super::{Backend, Completion, Full, Op, Request, Wait, Wake, sys};

/// What a request gets when the worker that ran it panicked: a bug here, not the drive's fault.
pub const PANICKED: Errno = Errno::NOTRECOVERABLE;

/// How often a call that says "again" is repeated. Regular files never say so; a driver might.
const AGAIN_MAX: u32 = 1000;

/// How a worker carries out a request.
type Perform = fn(&mut Request) -> Result<usize, Errno>;

/// The blocking backend.
#[derive(Debug)]
pub struct Blocking {
    /// `None` only while being dropped: that is what ends the workers.
    jobs: Option<Queues>,
    done: Receiver<Completion>,
    woken: Receiver<()>,
    waker: Arc<Bell>,
    workers: Vec<JoinHandle<()>>,
    in_flight: usize,
    depth: usize,
}

/// What the workers wait for.
#[derive(Debug)]
struct Queues {
    reads: Sender<Request>,
    /// Writes, write-back and syncs.
    others: Sender<Request>,
}

impl Queues {
    fn of(&self, op: &Op) -> &Sender<Request> {
        match op {
            Op::Read { .. } => &self.reads,
            Op::Write { .. } | Op::WriteBack { .. } | Op::Sync => &self.others,
        }
    }
}

/// Holds at most one token: a second wake before the first is heard says nothing new.
#[derive(Debug)]
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        // Full: it is ringing already. Disconnected: nobody is left to wake.
        self.0.try_send(()).ok();
    }
}

impl Blocking {
    /// Starts `threads` workers for reads and half as many for everything else, at least one of each,
    /// for `depth` requests at once.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: usize, depth: usize) -> std::io::Result<Self> {
        Self::with(threads, depth, perform)
    }

    fn with(threads: usize, depth: usize, perform: Perform) -> std::io::Result<Self> {
        let depth = depth.max(1);
        let (reads, to_read) = bounded::<Request>(depth);
        let (others, to_do) = bounded::<Request>(depth);
        let (finished, done) = bounded(depth);
        let (bell, woken) = bounded(1);
        let mut this = Self {
            jobs: Some(Queues { reads, others }),
            done,
            woken,
            waker: Arc::new(Bell(bell)),
            workers: Vec::new(),
            in_flight: 0,
            depth,
        };
        for (name, queue, count) in [("read", to_read, threads), ("write", to_do, threads / 2)] {
            for number in 0..count.max(1) {
                let (queue, finished) = (queue.clone(), finished.clone());
                let worker = std::thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn(move || work(&queue, &finished, perform))?;
                this.workers.push(worker);
            }
        }
        Ok(this)
    }

    fn take(&mut self, completion: Completion, done: &mut Vec<Completion>) {
        self.in_flight -= 1;
        done.push(completion);
    }

    fn collect(&mut self, done: &mut Vec<Completion>) {
        while let Ok(completion) = self.done.try_recv() {
            self.take(completion, done);
        }
    }
}

impl Backend for Blocking {
    fn submit(&mut self, request: Request) -> Result<(), Full> {
        let Some(jobs) = self.jobs.as_ref().filter(|_| self.in_flight < self.depth) else {
            return Err(Full(request));
        };
        match jobs.of(&request.op).try_send(request) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                Err(Full(request))
            }
        }
    }

    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno> {
        let before = done.len();
        self.collect(done);
        let Wait::AtMost(limit) = wait else {
            return Ok(());
        };
        if done.len() > before {
            self.woken.try_recv().ok();
            return Ok(());
        }
        // A year stands for ever: the clock cannot count up to `Duration::MAX`.
        let limit = limit.min(Duration::from_secs(365 * 24 * 3600));
        select! {
            recv(self.done) -> completion => {
                // The other end is gone only if every worker is, and none ends before us.
                let completion = completion.map_err(|_| PANICKED)?;
                self.take(completion, done);
            }
            recv(self.woken) -> _ => {}
            default(limit) => {}
        }
        self.collect(done);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn capacity(&self) -> usize {
        self.depth
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    fn name(&self) -> &'static str {
        "blocking"
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A worker catches its panics; if one still ended badly, there is nothing left to do.
            worker.join().ok();
        }
    }
}

/// Carries out requests until the other end is gone and the queue is empty.
fn work(queue: &Receiver<Request>, finished: &Sender<Completion>, perform: Perform) {
    for mut request in queue {
        // The request outlives the panic, so it is reaped with its memory like any other.
        let result = catch_unwind(AssertUnwindSafe(|| perform(&mut request)));
        let result = result.unwrap_or(Err(PANICKED));
        if finished.send(Completion { request, result }).is_err() {
            return;
        }
    }
}

/// Makes the system call for a request.
fn perform(request: &mut Request) -> Result<usize, Errno> {
    let file = request.file.as_fd();
    match &mut request.op {
        Op::Read { offset, lease } => {
            patiently(|| rustix::io::pread(file, &mut *lease.as_mut_slice(), *offset))
        }
        Op::Write { offset, view } => patiently(|| rustix::io::pwrite(file, view, *offset)),
        Op::WriteBack { offset, len } => {
            patiently(|| sys::start_write_back(file, *offset, *len).map(|()| 0))
        }
        Op::Sync => patiently(|| rustix::fs::fdatasync(file).map(|()| 0)),
    }
}

/// Repeats a call that a signal interrupted.
fn patiently(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    let mut again = 0;
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if again < AGAIN_MAX => {
                again += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn request(token: u64) -> Request {
        let file = std::fs::File::open("/dev/null").unwrap();
        Request {
            token,
            file: Arc::new(OwnedFd::from(file)),
            op: Op::WriteBack { offset: 0, len: 0 },
        }
    }

    fn reap_all(backend: &mut Blocking) -> Vec<Completion> {
        let mut done = Vec::new();
        while backend.in_flight() > 0 {
            let wait = Wait::AtMost(Duration::from_secs(60));
            backend.reap(wait, &mut done).unwrap();
        }
        done
    }

    #[test]
    fn a_panic_in_a_worker_fails_that_request_alone_and_hangs_nobody() {
        let trap: Perform = |request| {
            assert_ne!(request.token, 2, "a trap for the test");
            Ok(0)
        };
        let mut backend = Blocking::with(1, 8, trap).unwrap();
        for token in 0..5 {
            backend.submit(request(token)).unwrap();
        }
        let mut done = reap_all(&mut backend);
        done.sort_by_key(|completion| completion.request.token);
        let results: Vec<_> = done.into_iter().map(|c| c.result).collect();
        let panicked = Err(Errno::NOTRECOVERABLE);
        assert_eq!(results, [Ok(0), Ok(0), panicked, Ok(0), Ok(0)]);
    }

    #[test]
    fn reads_that_hang_hold_up_nothing_else() {
        static LET_GO: std::sync::RwLock<()> = std::sync::RwLock::new(());
        let hang: Perform = |request| {
            if matches!(request.op, Op::Read { .. }) {
                drop(LET_GO.read());
            }
            Ok(0)
        };
        let mut arena = crate::buffer::Arena::new(3).unwrap();
        let credits = arena.lend(3).unwrap();
        let mut backend = Blocking::with(2, 8, hang).unwrap();
        let hangs = LET_GO.write().unwrap();
        for token in 0..3 {
            let lease = credits.take().unwrap();
            let op = Op::Read { offset: 0, lease };
            let read = Request {
                op,
                ..request(token)
            };
            backend.submit(read).unwrap();
        }
        backend.submit(request(7)).unwrap();
        let mut done = Vec::new();
        let wait = Wait::AtMost(Duration::from_secs(60));
        backend.reap(wait, &mut done).unwrap();
        assert_eq!(done.first().map(|it| it.request.token), Some(7));
        drop(hangs);
        assert_eq!(reap_all(&mut backend).len(), 3);
    }

    #[test]
    fn a_call_that_was_interrupted_is_made_again() {
        let mut answers =
            [Err(Errno::INTR), Err(Errno::AGAIN), Err(Errno::INTR), Ok(5)].into_iter();
        assert_eq!(patiently(|| answers.next().unwrap()), Ok(5));
        assert_eq!(patiently(|| Err(Errno::IO)), Err(Errno::IO));
    }
}
