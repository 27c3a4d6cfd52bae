//! Waking a thread that sleeps in the kernel.
//!
//! The state says whether the eventfd must be written, so a wake of a busy thread costs one atomic
//! swap. Every way the two sides can interleave:
//!
//! 1. wake, then lie down: the sleeper finds `WOKEN` and does not sleep.
//! 2. lie down, then wake: the waker finds `ASLEEP` and writes; the poll on the eventfd, always
//!    armed before the sleep, ends it even if the write comes before the sleep begins.
//! 3. lie down, get up for another reason, wake: nothing is written, the next sleep ends as in 1.
//!
//! A write that comes late, after the sleeper got up anyway, ends one later sleep for nothing; that
//! is seen, as the state is not `WOKEN`, and the sleep goes on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::io::Wake;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

/// An eventfd and the state of the thread that sleeps on it.
#[derive(Debug)]
pub(super) struct Doorbell {
    fd: OwnedFd,
    state: AtomicU8,
}

impl Doorbell {
    /// Makes one.
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: AtomicU8::new(AWAKE),
        })
    }

    /// Says that the thread is about to sleep; `false` if it was woken already and must not.
    pub(super) fn lie_down(&self) -> bool {
        let asleep = self
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
        if asleep.is_err() {
            self.state.store(AWAKE, Ordering::SeqCst);
        }
        asleep.is_ok()
    }

    /// Says that the thread is up again; `true` if somebody woke it.
    pub(super) fn get_up(&self) -> bool {
        self.state.swap(AWAKE, Ordering::SeqCst) == WOKEN
    }

    /// Empties the eventfd, so that a poll on it waits again.
    pub(super) fn silence(&self) {
        // Empty already is an answer too: `EAGAIN`.
        rustix::io::read(&self.fd, &mut [0u8; 8]).ok();
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Wake for Doorbell {
    fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            // It can only fail by being full, and then it is ringing already.
            rustix::io::write(&self.fd, &1u64.to_le_bytes()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(bell: &Doorbell) -> bool {
        rustix::io::read(bell, &mut [0u8; 8]).is_ok()
    }

    #[test]
    fn a_busy_thread_is_woken_without_a_system_call_and_does_not_sleep() {
        let bell = Doorbell::new().unwrap();
        bell.wake();
        assert!(!rings(&bell));
        assert!(!bell.lie_down());
        assert!(bell.lie_down());
    }

    #[test]
    fn a_sleeping_thread_hears_one_ring_however_often_it_is_woken() {
        let bell = Doorbell::new().unwrap();
        assert!(bell.lie_down());
        bell.wake();
        bell.wake();
        assert!(bell.get_up());
        assert!(rings(&bell));
        assert!(!rings(&bell));
        assert!(!bell.get_up());
    }

    #[test]
    fn a_silenced_bell_is_quiet() {
        let bell = Doorbell::new().unwrap();
        assert!(bell.lie_down());
        bell.wake();
        bell.silence();
        bell.silence();
        assert!(!rings(&bell));
    }
}
