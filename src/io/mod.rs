//! Port 1: bytes between buffers and descriptors.
//!
//! Two backends keep one contract: [`uring`] where the kernel lets us, [`blocking`] everywhere.
//! [`probe`] chooses between them, [`resume`] continues short transfers above them.
//!
//! **Boundary.** Knows nothing of files' meaning, names, digests or manifests.

pub mod blocking;
pub mod errno;
pub mod probe;
pub mod resume;
mod sys;
pub mod uring;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::buffer::{Lease, View};

/// What to do with a file.
#[derive(Debug)]
pub enum Op {
    /// Fill the whole lease from the file, starting at byte `offset`.
    Read {
        /// Where in the file, in bytes.
        offset: u64,
        /// The memory to fill; its length is the length asked for.
        lease: Lease,
    },
    /// Write the whole view to the file, starting at byte `offset`.
    Write {
        /// Where in the file, in bytes.
        offset: u64,
        /// The bytes.
        view: View,
    },
    /// Start write-back of dirty pages in a byte range, without waiting for it to end.
    ///
    /// # Durability
    /// None: this only keeps dirty memory small (sync_file_range(2)).
    WriteBack {
        /// Where in the file, in bytes.
        offset: u64,
        /// How many bytes; 0 means to the end of the file.
        len: u64,
    },
    /// Make everything written to the file so far durable (fdatasync(2)).
    ///
    /// # Durability
    /// `Ok` means: what was reaped as written before this was submitted survives a power cut. An
    /// error is final: what was written is unknown, and a second sync would say yes to it.
    Sync,
}

/// One operation. Owns its memory and keeps its descriptor open until it is reaped.
#[derive(Debug)]
pub struct Request {
    /// The caller's name for it; comes back with the completion.
    pub token: u64,
    /// The file.
    pub file: Arc<OwnedFd>,
    /// What to do.
    pub op: Op,
}

/// A finished request. The memory is in `request.op`, whatever the outcome.
#[derive(Debug)]
pub struct Completion {
    /// The request, memory and all.
    pub request: Request,
    /// Bytes moved: at most what was asked for, often fewer. 0 on a read is the end of the file.
    pub result: Result<usize, Errno>,
}

/// What was offered to a full queue. Not an error: reap, then submit it again.
#[derive(Debug)]
pub struct Full(pub Request);

/// How long `reap` may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Return at once.
    Poll,
    /// Return when something has finished, the waker was used, or the time is up.
    AtMost(Duration),
}

/// Wakes the one thread that waits in [`Backend::reap`]. Cheap to clone, safe from any thread.
pub trait Wake: Send + Sync + std::fmt::Debug {
    /// Makes the current or the next waiting `reap` return. Never blocks.
    fn wake(&self);
}

/// A way of doing I/O, owned by one thread. Submit, then reap; ownership goes in and comes out.
///
/// A backend stays on the thread that made it, to its end.
///
/// # Contract
///
/// 1. Every submitted request is reaped exactly once, with its memory and its descriptor.
/// 2. A short transfer is reported, never resumed; `crate::io::resume` does that, above.
/// 3. Requests complete in any order. Submission order promises nothing.
/// 4. `submit` never waits for a transfer. A full queue gives the request back.
/// 5. `reap` with [`Wait::AtMost`] sleeps without polling; a wake that came before it is not lost.
/// 6. No request fails because a signal arrived: `EINTR` and `EAGAIN` stay inside. A sync is never
///    repeated for any other answer.
/// 7. Dropping a backend waits until nothing is in flight: no memory is freed under the kernel.
/// 8. Errors are positive errno values, as the system call would give them.
pub trait Backend: std::fmt::Debug + Send {
    /// Queues a request.
    ///
    /// # Errors
    /// Gives the request back when the queue is full.
    fn submit(&mut self, request: Request) -> Result<(), Full>;

    /// Appends finished requests to `done`.
    ///
    /// # Errors
    /// Only when the backend itself is broken; single requests fail in their completion.
    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno>;

    /// Returns how many requests are queued or running.
    fn in_flight(&self) -> usize;

    /// Returns how many requests may be queued or running at once.
    fn capacity(&self) -> usize;

    /// Returns a handle that wakes this backend's thread.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Returns one word for reports: `io_uring`, `io_uring+registered` or `blocking`.
    fn name(&self) -> &'static str;
}
