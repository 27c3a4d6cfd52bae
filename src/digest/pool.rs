//! Hash workers: blocks in through a bounded queue, digests built in place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::FileDigest;
use crate::buffer::{SLOT_LEN, View};
use crate::io::Wake;

/// Zeros to hash for blocks that lie in a hole.
static ZEROS: [u8; SLOT_LEN] = [0; SLOT_LEN];

const _: () = assert!(
    SLOT_LEN as u64 == super::BLOCK_LEN,
    "a buffer holds one block"
);

/// The bytes of a block.
#[derive(Debug)]
pub enum Bytes {
    /// In a buffer.
    View(View),
    /// So many zeros: the block lies in a hole and was never read.
    Zeros(usize),
}

/// One block to hash.
#[derive(Debug)]
pub struct HashJob {
    /// Where it belongs.
    pub digest: Arc<dyn FileDigest>,
    /// Which block of the file.
    pub index: u64,
    /// Its bytes.
    pub bytes: Bytes,
    /// Who wants to know when it is done.
    pub waker: Arc<dyn Wake>,
    /// Set when hashing panicked: the file will never get a digest.
    pub failed: Arc<AtomicBool>,
}

impl HashJob {
    /// Hashes the block on the calling thread, gives its buffer back, and wakes the lane.
    ///
    /// A panic leaves that block out and marks its file as failed: its lane reports that one
    /// file; the thread and the other files go on.
    pub fn run(self) {
        let (waker, failed) = (Arc::clone(&self.waker), Arc::clone(&self.failed));
        if catch_unwind(AssertUnwindSafe(|| self.hash())).is_err() {
            failed.store(true, Relaxed);
        }
        waker.wake();
    }

    fn hash(self) {
        let Self {
            digest,
            index,
            bytes,
            waker: _,
            failed: _,
        } = self;
        match &bytes {
            Bytes::View(view) => digest.absorb(index, view),
            Bytes::Zeros(len) => digest.absorb(index, ZEROS.get(..*len).unwrap_or(&ZEROS)),
        }
        drop(bytes);
    }
}

/// A fixed number of hash workers.
#[derive(Debug)]
pub struct HashPool {
    queue: Option<Sender<HashJob>>,
    workers: Vec<JoinHandle<()>>,
}

impl HashPool {
    /// Starts `threads` workers behind a queue of four blocks each.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = bounded(threads * 4);
        let workers = (0..threads)
            .map(|index| {
                let jobs: Receiver<HashJob> = jobs.clone();
                std::thread::Builder::new()
                    .name(format!("hash-{index}"))
                    .spawn(move || {
                        for job in jobs {
                            job.run();
                        }
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            queue: Some(queue),
            workers,
        })
    }

    /// Returns a pool without workers, and its queue of `depth` blocks: whoever has that decides
    /// when a job runs, and on which thread.
    #[cfg(test)]
    pub(crate) fn unattended(depth: usize) -> (Self, Receiver<HashJob>) {
        let (queue, jobs) = bounded(depth);
        let pool = Self {
            queue: Some(queue),
            workers: Vec::new(),
        };
        (pool, jobs)
    }

    /// Hands a block to a worker; when all are busy and the queue is full, hashes it here, so
    /// that a lane with nothing better to do helps instead of waiting.
    pub fn submit(&self, job: HashJob) {
        match &self.queue {
            Some(queue) => {
                if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
                    queue.try_send(job)
                {
                    job.run();
                }
            }
            None => job.run(),
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.queue = None;
        for worker in self.workers.drain(..) {
            // Panics are caught inside; a worker that ended otherwise has nothing to tell.
            drop(worker.join());
        }
    }
}
