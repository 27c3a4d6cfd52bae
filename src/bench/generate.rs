//! The load generator: keeps a queue full for a while, and counts what comes back.
//!
//! It reads and writes through the backends and buffers of a copy, so that what is measured is what
//! a copy will get. One sample:
//!
//! 1. Requests go out up to the depth, one after the other through the extents.
//! 2. What comes back during the warm-up is not counted. The batch that ends it starts the clock,
//!    and is not counted either.
//! 3. Every later batch is counted with the time it came. The rate is what came after the clock was
//!    started, over the time of the last of it: a slow drive's last block is in it with its time.
//! 4. At the end nothing new goes out, and what is still in flight is waited for, not counted: the
//!    queue is not full any more. But what writes counts all that it wrote, from its begin on: the
//!    sync that follows makes all of it durable, and its time counts.
//! 5. Where pages pile up, write-back follows behind the writer as in a copy. Without it the medium
//!    would wait for the sync, and then everybody for the medium.
//! 6. When nothing comes for too long ([`Silence`]), the sample fails, and what is in flight stays
//!    so. Its owner must then keep the generator, for good: the kernel may yet write into its buffers.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, Extent};
use super::machine::cpu_seconds;
use super::sample::{Discard, Load, Sample, Ties, Way, is_zeros, part};
use super::silence::{Silence, TICK};
use super::under_way::{Pending, Run};
use crate::buffer::{ALIGN, Credits, Lease, SLOT_LEN};
use crate::digest::{Bytes, HashJob};
use crate::error::{Error, Side};
use crate::io::probe::{self, Chosen};
use crate::io::resume::{Step, Transfer};
use crate::io::{Backend, Completion, Full, Op, Request, Wait};

/// Longest that what is in flight is waited for after a stop, however regularly it comes.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Room for starts of write-back beside what is in the queue: these may wait for the medium.
const WRITE_BACKS: usize = 8;

/// What became of an attempt to send a request.
enum Issued {
    /// It is on its way.
    Sent,
    /// All buffers are in use: one will come back.
    NoMemory,
    /// There is nothing left to ask for.
    Nothing,
}

/// A load generator, on the thread that made it.
#[derive(Debug)]
pub(crate) struct Generator {
    backend: Box<dyn Backend>,
    credits: Credits,
    next_token: u64,
}

impl Generator {
    /// Makes one for the calling thread, with all of `credits` as its memory.
    ///
    /// # Errors
    /// As [`probe::open`].
    pub(crate) fn new(chosen: Chosen, credits: &Credits) -> Result<Self, Error> {
        let depth = credits.total();
        let backend = probe::open(chosen, depth + WRITE_BACKS, depth, Some(credits), false)?;
        Ok(Self::over(backend, credits))
    }

    /// Makes one that asks through a backend of the calling thread.
    pub(super) fn over(backend: Box<dyn Backend>, credits: &Credits) -> Self {
        Self {
            backend,
            credits: credits.clone(),
            next_token: 0,
        }
    }

    /// Returns the backend's word.
    pub(crate) fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Returns whether the kernel has requests of it: then it must not be dropped, and its thread must
    /// not end.
    pub(crate) fn is_busy(&self) -> bool {
        self.backend.in_flight() > 0
    }

    /// Reads all of some extents, as many at once as there is memory for.
    ///
    /// # Errors
    /// Of the first read that failed.
    pub(crate) fn whole(&mut self, extents: &[Extent], ties: &Ties) -> Result<(), Error> {
        let mut cursor = Cursor::new(Arc::from(extents), false);
        let load = Load {
            block: SLOT_LEN / 4,
            depth: self.credits.total(),
            warm: Duration::ZERO,
            // To its end, however long that takes.
            time: Duration::from_secs(3600),
            way: Way::Read,
        };
        self.sample(&mut cursor, &load, ties).map(drop)
    }

    /// Loads a drive for the time of one sample, or to the end of what there is.
    ///
    /// # Errors
    /// The first request that fails ends the sample: a drive with errors has no rate. `SourceStalled`
    /// when it does not answer, of the side that was asked first; `Stopped`.
    pub(crate) fn sample(
        &mut self,
        cursor: &mut Cursor,
        load: &Load,
        ties: &Ties,
    ) -> Result<Sample, Error> {
        let mut run = Run::new(load, ties);
        self.credits.set_waker(self.backend.waker());
        let mut cpu = cpu_seconds();
        let mut failure = None;
        let mut done = Vec::new();
        let mut silence = Silence::new(ties.stall);
        let mut stopped = None;
        let depth = load.depth.clamp(1, self.credits.total());
        loop {
            let over = failure.is_some() || run.is_over();
            for request in std::mem::take(&mut run.backlog) {
                self.submit(&mut run, request);
            }
            let mut starved = false;
            while !over && run.backlog.is_empty() && run.queued() < depth {
                match self.issue(cursor, &mut run) {
                    Issued::Sent => {}
                    Issued::NoMemory => {
                        starved = true;
                        break;
                    }
                    Issued::Nothing => break,
                }
            }
            // Starved with nothing under way: hash workers hold the buffers, and wake us.
            if run.pending.is_empty() && !starved {
                break;
            }
            let reaped = self.backend.reap(Wait::AtMost(TICK), &mut done);
            reaped.map_err(|errno| Error::source("I/O queue", "wait for requests", errno))?;
            let batch = Instant::now();
            // What comes after the others have ended came while less was going on.
            let counted = run.clock.is_some() && !over && !load.is_cut();
            let warm = !over && batch.duration_since(run.begun) < load.warm;
            let any = !done.is_empty();
            if any {
                ties.beat();
                silence.answered();
                silence.limit_to(ties.stall);
            } else if run.waits_for_medium() {
                silence.limit_to(ties.sync_limit());
                // Whoever waits for this thread does not know that it may take so long.
                ties.beat();
            }
            if silence.is_too_long(ties.stopped()) {
                return Err(run.stalled(&silence));
            }
            if ties.stopped() && stopped.get_or_insert(batch).elapsed() > STOP_MAX {
                break;
            }
            for completion in done.drain(..) {
                if let Err(error) = self.settle(&mut run, completion, batch, counted) {
                    failure.get_or_insert(error);
                }
            }
            if any && !over && !warm && run.clock.is_none() {
                (run.clock, run.last) = (Some(batch), batch);
                cpu = cpu_seconds();
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(clock) = run.clock {
            run.sample.cpu = cpu_seconds() - cpu;
            run.sample.seconds = run.last.duration_since(clock).as_secs_f64();
        }
        Ok(run.sample)
    }

    /// Sends the next request on its way.
    fn issue(&mut self, cursor: &mut Cursor, run: &mut Run<'_>) -> Issued {
        let block = run.load.block.clamp(ALIGN, SLOT_LEN);
        let lease: Option<Lease> = match &run.load.way {
            Way::Copy(sink) if run.sunk + block as u64 > sink.into.len => return Issued::Nothing,
            Way::Read | Way::Copy(_) => match self.credits.take() {
                Some(lease) => Some(lease),
                None => return Issued::NoMemory,
            },
            Way::Write(_) => None,
        };
        let Some((extent, offset, len)) = cursor.next(block) else {
            return Issued::Nothing;
        };
        let op = match (&run.load.way, lease) {
            (Way::Write(views), _) => match part(views, run.issued, block) {
                Some(view) => Op::Write {
                    offset,
                    view: view.slice(0..len.min(view.len())),
                },
                None => return Issued::Nothing,
            },
            (_, Some(mut lease)) => {
                lease.truncate(len.next_multiple_of(ALIGN));
                run.sunk += block as u64;
                Op::Read { offset, lease }
            }
            (_, None) => return Issued::Nothing,
        };
        let (file, path) = (Arc::clone(&extent.file), Arc::clone(&extent.path));
        run.issued += 1;
        self.send(run, file, path, op, len);
        Issued::Sent
    }

    fn send(
        &mut self,
        run: &mut Run<'_>,
        file: Arc<OwnedFd>,
        path: Arc<PathBuf>,
        op: Op,
        len: usize,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        run.asks(&file, &op);
        let pending = Pending {
            progress: Transfer::wanting(&op, len),
            since: Instant::now(),
            len,
            path,
            side: match op {
                Op::Read { .. } => Side::Source,
                _ => Side::Target,
            },
        };
        run.pending.insert(token, pending);
        self.submit(run, Request { token, file, op });
    }

    fn submit(&mut self, run: &mut Run<'_>, request: Request) {
        if let Err(Full(request)) = self.backend.submit(request) {
            run.backlog.push(request);
        }
    }

    fn settle(
        &mut self,
        run: &mut Run<'_>,
        completion: Completion,
        batch: Instant,
        counted: bool,
    ) -> Result<(), Error> {
        let token = completion.request.token;
        let Some(pending) = run.pending.get_mut(&token) else {
            return Ok(());
        };
        let step = pending.progress.settle(completion);
        if let Step::Again(request) = step {
            self.submit(run, request);
            return Ok(());
        }
        let Some(pending) = run.pending.remove(&token) else {
            return Ok(());
        };
        match step {
            // Write-back only keeps memory small; the sync at the end hears of every error.
            Step::Done(request)
            | Step::Failed {
                request:
                    request @ Request {
                        op: Op::WriteBack { .. },
                        ..
                    },
                ..
            } => {
                self.done(run, request, &pending, batch, counted);
                Ok(())
            }
            Step::Failed { errno, .. } => Err(match pending.side {
                Side::Source => Error::source(&*pending.path, "read", errno),
                _ => Error::target(&*pending.path, "write", errno),
            }),
            Step::EndOfFile { .. } => Err(Error::source(
                &*pending.path,
                "read: it became shorter while it was measured",
                rustix::io::Errno::IO,
            )),
            // Handled above.
            Step::Again(_) => Ok(()),
        }
    }

    /// Takes in a request that is through: counts it, or sends what was read on to its sink.
    fn done(
        &mut self,
        run: &mut Run<'_>,
        request: Request,
        pending: &Pending,
        batch: Instant,
        counted: bool,
    ) {
        let load = run.load;
        let (sink, lease) = match (&load.way, request.op) {
            (Way::Copy(sink), Op::Read { lease, .. }) => (sink, lease),
            (_, Op::WriteBack { .. }) => return run.write_back_ended(batch),
            (_, op) => {
                run.ties.bytes.fetch_add(pending.len as u64, Relaxed);
                if counted || load.is_synced() {
                    run.sample.bytes += pending.len as u64;
                    run.last = batch;
                }
                if counted {
                    let waited = batch.duration_since(pending.since).as_nanos();
                    let nanos = u64::try_from(waited).unwrap_or(u64::MAX);
                    run.sample.latency.record(nanos);
                    run.sample.zeros += u64::from(is_zeros(&op));
                }
                if let Op::Write { .. } = op
                    && let Some(op) = run.wrote(&request.file, pending.len)
                {
                    self.send(run, request.file, Arc::clone(&pending.path), op, 0);
                }
                return;
            }
        };
        let len = pending.len;
        let view = lease.freeze(len.next_multiple_of(ALIGN));
        if let Some(pool) = &sink.pool {
            pool.submit(HashJob {
                digest: Arc::new(Discard),
                index: 0,
                bytes: Bytes::View(view.clone()),
                waker: self.backend.waker(),
                failed: Arc::default(),
            });
        }
        // Each block has its place in the sink, in the order in which they came.
        let offset = run.written;
        run.written += view.len() as u64;
        let (file, path) = (Arc::clone(&sink.into.file), Arc::clone(&sink.into.path));
        self.send(run, file, path, Op::Write { offset, view }, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::under_way::COUNTED_MIN;
    use crate::buffer::Arena;

    fn sample_of(file: std::fs::File, len: u64, load: &Load) -> Result<Sample, Error> {
        let credits = Arena::new(4).unwrap().lend(4).unwrap();
        let mut generator = Generator::new(Chosen::Blocking, &credits).unwrap();
        let extent = Extent {
            file: Arc::new(OwnedFd::from(file)),
            start: 0,
            len,
            path: Arc::new(PathBuf::from("file")),
        };
        let mut cursor = Cursor::new(Arc::from([extent]), true);
        let sample = generator.sample(&mut cursor, load, &Ties::default());
        assert_eq!(credits.free(), 4, "all memory came back");
        sample
    }

    fn load(way: Way) -> Load {
        Load {
            block: 4096,
            depth: 3,
            warm: Duration::from_millis(2),
            time: Duration::from_millis(10),
            way,
        }
    }

    #[test]
    fn a_sample_counts_requests_with_their_bytes_and_zeros() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        let sample = sample_of(file, 8192, &load(Way::Read)).unwrap();
        let count = sample.latency.count();
        assert!(count >= COUNTED_MIN);
        assert_eq!(sample.bytes, count * 4096);
        assert!(
            sample.zeros > 0 && sample.zeros < count,
            "half of it is zeros"
        );
        assert!(sample.rate().unwrap() > 0.0);
    }

    #[test]
    fn a_file_that_became_shorter_has_no_rate() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let error = sample_of(file, 16384, &load(Way::Read)).unwrap_err();
        assert!(error.reason().contains("became shorter"), "{error}");
    }

    #[test]
    fn a_file_is_read_to_its_odd_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(5000).unwrap();
        let credits = Arena::new(2).unwrap().lend(2).unwrap();
        let mut generator = Generator::new(Chosen::Blocking, &credits).unwrap();
        let extent = Extent {
            file: Arc::new(OwnedFd::from(file)),
            start: 0,
            len: 5000,
            path: Arc::new(PathBuf::from("file")),
        };
        let ties = Ties::default();
        generator.whole(&[extent.clone(), extent], &ties).unwrap();
        assert_eq!(ties.bytes.load(Relaxed), 10_000);
    }

    #[test]
    fn writing_puts_the_bytes_there() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        let same = file.try_clone().unwrap();
        let credits = Arena::new(1).unwrap().lend(1).unwrap();
        let mut lease = credits.take().unwrap();
        lease.as_mut_slice().fill(7);
        let view = lease.freeze(SLOT_LEN);
        let sample = sample_of(file, 12288, &load(Way::Write(Arc::from([view])))).unwrap();
        assert!(sample.bytes > 0);
        let mut bytes = [0; 12288];
        same.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_stopped_sample_ends_at_once_and_says_what_it_has() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let credits = Arena::new(1).unwrap().lend(1).unwrap();
        let mut generator = Generator::new(Chosen::Blocking, &credits).unwrap();
        let ties = Ties::default();
        ties.stop.store(true, Relaxed);
        let extent = Extent {
            file: Arc::new(OwnedFd::from(file)),
            start: 0,
            len: 4096,
            path: Arc::new(PathBuf::from("file")),
        };
        let mut cursor = Cursor::new(Arc::from([extent]), true);
        let sample = generator
            .sample(&mut cursor, &load(Way::Read), &ties)
            .unwrap();
        assert_eq!((sample.bytes, sample.rate()), (0, None));
    }
}
