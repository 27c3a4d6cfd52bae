//! The ring backend: io_uring, one ring and one thread a lane.
//!
//! 1. `submit` puts the request into the in-flight table and an entry into the queue. No system
//!    call, but when its memory is used for the first time: then that is registered (`registered`),
//!    and the kernel told of the entry at once.
//! 2. `reap` enters the kernel: queued entries go in, answers come out, and with [`Wait::AtMost`] a
//!    second call sleeps until there is one.
//! 3. A poll on an eventfd is always armed, so that other threads can end that sleep.
//!
//! At 1 MiB a request the system calls themselves cost nothing worth saving. A ring is here for queue
//! depth without threads, and for a wait with a time limit. Hence no kernel polling, no linked
//! entries, no registered descriptors.
//!
//! **Boundary.** "Entry", "answer" and opcodes are said nowhere else.

mod doorbell;
mod flights;
mod registered;
mod ring;
mod setup;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{Builder, Probe};
use rustix::io::Errno;

use self::doorbell::Doorbell;
use self::ring::Ring;
use super::{Backend, Completion, Full, Request, Wait, Wake, errno};
use crate::buffer::Credits;

/// What was being set up when the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// io_uring_setup(2).
    Setup,
    /// Looking for a wait with a time limit (EXT_ARG, Linux 5.11).
    TimedWait,
    /// Asking which operations there are, or finding that one is missing.
    Operations,
    /// eventfd(2).
    Doorbell,
}

/// Why there is no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupError {
    /// The kernel's answer; `ENOSYS` for a feature that is not there.
    pub errno: Errno,
    /// What it answered.
    pub step: Step,
}

impl SetupError {
    /// Returns the likely cause in the words of somebody who can do something about it.
    pub fn likely_cause(&self) -> &'static str {
        if self.step == Step::TimedWait || self.step == Step::Operations {
            return "the kernel is older than Linux 5.11";
        }
        match self.errno {
            Errno::PERM | Errno::ACCESS => {
                "sysctl kernel.io_uring_disabled, or the seccomp filter of a container"
            }
            Errno::NOSYS => {
                "a kernel older than Linux 5.1 or built without io_uring, \
                 or the seccomp filter of a container"
            }
            Errno::NOMEM => "the limit of locked memory (ulimit -l, RLIMIT_MEMLOCK)",
            Errno::MFILE => "the limit of open files (ulimit -n, RLIMIT_NOFILE)",
            Errno::NFILE => "the limit of open files in the system (sysctl fs.file-max)",
            Errno::INVAL => "the kernel is too old for the set-up we ask for",
            _ => "not known",
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.step {
            Step::Setup => "io_uring_setup",
            Step::TimedWait => "waiting with a time limit",
            Step::Operations => "reading and writing through a ring",
            Step::Doorbell => "eventfd",
        };
        let reason = std::io::Error::from(self.errno);
        write!(f, "{what}: {reason}; likely cause: {}", self.likely_cause())
    }
}

impl std::error::Error for SetupError {}

/// The ring backend. Lives and dies on the thread that made it.
///
/// Dropped on another thread it cannot wait for what is in flight; that memory is then leaked, never
/// freed under the kernel.
#[derive(Debug)]
pub struct Uring {
    ring: Ring,
    doorbell: Arc<Doorbell>,
    unregistered: Option<Errno>,
}

impl Uring {
    /// Sets up a ring for `depth` requests at once (the kernel may allow fewer: see `capacity`).
    ///
    /// With `credits`, their memory is registered if the kernel lets us, which spares pinning it
    /// anew for each read. If not, the ring works without: see [`unregistered`](Self::unregistered).
    ///
    /// # Errors
    /// When the kernel has no io_uring for us, or one that lacks what we need.
    pub fn new(depth: usize, credits: Option<&Credits>) -> Result<Self, SetupError> {
        Self::climb(depth, credits, &setup::RUNGS)
    }

    fn climb(
        depth: usize,
        credits: Option<&Credits>,
        rungs: &[fn(&mut Builder)],
    ) -> Result<Self, SetupError> {
        let fail = |step| move |errno| SetupError { errno, step };
        let depth = u32::try_from(depth).unwrap_or(u32::MAX - 1).max(1);
        let ring = setup::build(depth.saturating_add(1), rungs).map_err(fail(Step::Setup))?;
        if !ring.params().is_feature_ext_arg() {
            return Err(fail(Step::TimedWait)(Errno::NOSYS));
        }
        let doorbell = Arc::new(Doorbell::new().map_err(fail(Step::Doorbell))?);
        let mut ring = Ring::new(ring, depth, Arc::clone(&doorbell));
        let unregistered = credits.and_then(|credits| ring.register(credits).err());
        Ok(Self {
            ring,
            doorbell,
            unregistered,
        })
    }

    /// Lets writes use the registered memory, too. Off at first.
    ///
    /// Only for ext4, XFS and block devices: a registered write to ZFS leaves a kernel worker that
    /// spins and cannot be killed. Source: openzfs/zfs issue 16133.
    #[must_use]
    pub fn with_fixed_writes(mut self, fixed_writes: bool) -> Self {
        self.ring.fixed_writes = fixed_writes;
        self
    }

    /// Limits the kernel workers that run requests which cannot run asynchronously; 0 leaves the
    /// kernel's own limit.
    ///
    /// A kernel before 5.15 has no such limit to set, and goes on with its own. That is no failure.
    #[must_use]
    pub fn with_workers(mut self, workers: u32) -> Self {
        if workers > 0 {
            self.ring.limit_workers(workers).ok();
        }
        self
    }

    /// Returns why some of the memory is not registered, if it was to be.
    ///
    /// `ENOMEM` is the limit of locked memory, which root does not have.
    pub fn unregistered(&self) -> Option<Errno> {
        self.unregistered.or_else(|| self.ring.refused())
    }

    /// Makes a tiny ring, asks what it can do, and takes it down again.
    ///
    /// # Errors
    /// When the kernel has no io_uring for us, or one that lacks what we need.
    pub fn probe() -> Result<(), SetupError> {
        drop(Self::new(1, None)?);
        let lacking = |errno| SetupError {
            errno,
            step: Step::Operations,
        };
        let ring = setup::build(1, &setup::RUNGS).map_err(|errno| SetupError {
            errno,
            step: Step::Setup,
        })?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| lacking(errno::from_error(&error)))?;
        if setup::OPERATIONS
            .iter()
            .all(|&code| probe.is_supported(code))
        {
            Ok(())
        } else {
            Err(lacking(Errno::NOSYS))
        }
    }

    /// Hands everything queued to the kernel, without waiting.
    fn flush(&mut self, done: &mut Vec<Completion>) -> Result<(), Errno> {
        // Part of the entries may be taken. Three rounds, then the next `reap` goes on with them.
        for _ in 0..3 {
            self.ring.enter(None)?;
            self.ring.collect(done);
            if !self.ring.has_queued() {
                break;
            }
        }
        Ok(())
    }

    /// Sleeps until something is done, a wake, or the time is up.
    fn sleep(&mut self, limit: Duration, done: &mut Vec<Completion>) -> Result<(), Errno> {
        // No deadline at all if the clock cannot count that far.
        let deadline = Instant::now().checked_add(limit);
        loop {
            let left = deadline.map_or(Duration::MAX, |at| {
                at.saturating_duration_since(Instant::now())
            });
            if left.is_zero() || !self.doorbell.lie_down() {
                return self.flush(done);
            }
            let entered = self.ring.enter(Some(left));
            let woken = self.doorbell.get_up();
            entered?;
            let before = done.len();
            self.ring.collect(done);
            if woken || done.len() > before {
                return Ok(());
            }
            self.ring.deaf().map_or(Ok(()), Err)?;
        }
    }
}

impl Backend for Uring {
    fn submit(&mut self, request: Request) -> Result<(), Full> {
        self.ring.submit(request).map_err(Full)
    }

    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno> {
        let before = done.len();
        self.ring.collect(done);
        match wait {
            Wait::Poll => self.flush(done),
            Wait::AtMost(_) if done.len() > before => {
                self.flush(done)?;
                self.doorbell.get_up();
                Ok(())
            }
            Wait::AtMost(limit) => self.sleep(limit, done),
        }
    }

    fn in_flight(&self) -> usize {
        self.ring.len()
    }

    fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.doorbell) as Arc<dyn Wake>
    }

    fn name(&self) -> &'static str {
        if self.ring.is_registered() {
            "io_uring+registered"
        } else {
            "io_uring"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Arena;
    use crate::io::Op;
    use std::os::fd::OwnedFd;

    /// Reads one byte of a pipe by asking again and again, then by sleeping; then is woken.
    fn exercise(ring: &mut Uring, credits: &Credits) {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = Arc::new(OwnedFd::from(reader));
        let ever = Wait::AtMost(Duration::MAX);
        for wait in [Wait::Poll, ever] {
            let (file, lease) = (Arc::clone(&file), credits.take().unwrap());
            let op = Op::Read { offset: 0, lease };
            ring.submit(Request { token: 1, file, op }).unwrap();
            let mut done = Vec::new();
            ring.reap(Wait::Poll, &mut done).unwrap();
            assert!(done.is_empty());
            rustix::io::write(&writer, b"x").unwrap();
            while done.is_empty() {
                ring.reap(wait, &mut done).unwrap();
            }
            assert_eq!(done[0].result, Ok(1));
        }
        let waker = ring.waker();
        let other = std::thread::spawn(move || waker.wake());
        ring.reap(ever, &mut Vec::new()).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn every_rung_of_the_ladder_carries() {
        for first in 0..setup::RUNGS.len() {
            let credits = Arena::new(1).unwrap().lend(1).unwrap();
            match Uring::climb(2, Some(&credits), &setup::RUNGS[first..]) {
                Ok(mut ring) => exercise(&mut ring, &credits),
                Err(why) => eprintln!("SKIPPED: {why}"),
            }
            assert_eq!(credits.free(), 1);
        }
    }

    fn message(errno: Errno, step: Step) -> String {
        SetupError { errno, step }.to_string()
    }

    #[test]
    fn each_refusal_names_its_likely_cause() {
        let denied = message(Errno::PERM, Step::Setup);
        assert_eq!(
            denied,
            "io_uring_setup: Operation not permitted (os error 1); likely cause: \
             sysctl kernel.io_uring_disabled, or the seccomp filter of a container"
        );
        let absent = message(Errno::NOSYS, Step::Setup);
        assert!(absent.contains("seccomp") && absent.contains("older than Linux 5.1 "));
        assert!(message(Errno::NOMEM, Step::Setup).contains("RLIMIT_MEMLOCK"));
        assert!(message(Errno::MFILE, Step::Setup).contains("RLIMIT_NOFILE"));
        assert!(message(Errno::NOSYS, Step::TimedWait).contains("Linux 5.11"));
        assert!(message(Errno::INVAL, Step::Operations).contains("Linux 5.11"));
    }

    #[test]
    fn probing_agrees_with_building() {
        assert_eq!(Uring::probe().is_ok(), Uring::new(4, None).is_ok());
    }
}
