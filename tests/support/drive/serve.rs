//! The drive's side of FUSE: one directory with one file, `disk`.

use std::cell::Cell;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use super::faults::{Counts, Fate, Faults, Harm, How, Traced, Write, touch};
use super::medium::{Medium, Sampler};

const DISK: INodeNo = INodeNo(2);
const FRESH: Duration = Duration::from_secs(3600);

/// A drive while it works.
#[derive(Debug)]
pub(super) struct State {
    pub(super) medium: Medium,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) trace: Vec<Traced>,
    /// Where reads began, and how long they were, in bytes.
    pub(super) reads: Vec<(u64, u64)>,
    pub(super) sampler: Option<Sampler>,
    /// Whether a judge of writes, or the drive itself, has a bug.
    pub(super) has_panicked: bool,
}

impl State {
    fn read(&mut self, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.counts.reads += 1;
        let length = len as u64;
        self.reads.push((offset, length));
        if self.faults.fails_read(offset, length) {
            self.counts.failed += 1;
            return None;
        }
        let mut bytes = vec![0; len];
        self.medium.read(offset, &mut bytes).ok()?;
        for range in self.faults.misreads(offset, length) {
            let start = range.start.clamp(offset, offset + length) - offset;
            let end = range.end.clamp(offset, offset + length) - offset;
            let [start, end] = [start, end].map(|at| usize::try_from(at).unwrap());
            bytes[start..end.max(start)]
                .iter_mut()
                .for_each(|byte| *byte ^= 1);
        }
        Some(bytes)
    }

    /// Looks whether power is to be cut before the request at hand.
    fn sample(&mut self) {
        if let Some(sampler) = &mut self.sampler {
            sampler.request(&self.medium);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<()> {
        self.sample();
        let number = self.counts.writes;
        self.counts.writes += 1;
        let mut first = [0; 16];
        let shown = data.len().min(16);
        first[..shown].copy_from_slice(&data[..shown]);
        self.trace.push(Traced {
            offset,
            len: data.len() as u64,
            first,
            flushes: self.counts.flushes,
        });
        let write = Write {
            number,
            offset,
            data,
        };
        let fate = match &mut self.faults.judge {
            _ if self.faults.is_dead => Fate::Failed,
            _ if touch(&self.faults.unwritable, offset, data.len() as u64) => Fate::Failed,
            Some(judge) => judge(&write),
            None => Fate::Stored,
        };
        match fate {
            Fate::Stored => self.medium.write(offset, data).ok(),
            Fate::Failed => {
                self.counts.failed += 1;
                None
            }
            Fate::Harmed(harms) => self.harmed(&write, harms),
        }
    }

    /// Stores a write but for its harmed parts.
    fn harmed(&mut self, write: &Write<'_>, mut harms: Vec<Harm>) -> Option<()> {
        harms.sort_by_key(|harm| harm.part.start);
        let place = |at: usize| write.offset + at as u64;
        let mut at = 0;
        for Harm { part, how } in harms {
            self.counts.harmed += 1;
            let data = write.data.get(part.clone())?;
            self.medium
                .write(place(at), write.data.get(at..part.start)?)
                .ok()?;
            match how {
                How::Flipped => {
                    let mut data = data.to_vec();
                    *data.first_mut()? ^= 0x10;
                    self.medium.write(place(part.start), &data).ok()?;
                }
                How::Lost => {}
                How::Misplaced(elsewhere) => self.medium.write(elsewhere, data).ok()?,
            }
            at = part.end;
        }
        self.medium.write(place(at), write.data.get(at..)?).ok()
    }

    fn flush(&mut self) -> Option<()> {
        self.sample();
        let number = self.counts.flushes;
        self.counts.flushes += 1;
        if self.faults.is_dead || self.faults.flushes.contains(&number) {
            self.counts.failed += 1;
            return None;
        }
        if self.faults.is_deaf {
            return Some(());
        }
        self.medium.flush().ok()
    }
}

/// Serves the drive.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) length: u64,
}

/// Looks at or changes a drive that works.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Served {
    fn attributes(&self, number: INodeNo) -> FileAttr {
        let (kind, perm, size) = if number == DISK {
            (FileType::RegularFile, 0o600, self.length)
        } else {
            (FileType::Directory, 0o700, 0)
        };
        FileAttr {
            ino: number,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Runs a request as a drive does: one at a time, then as long as it takes. `None`: it fails.
    fn request<T>(&self, run: impl FnOnce(&mut State) -> Option<T>) -> Option<T> {
        become_flusher();
        let mut state = lock(&self.state);
        while state.faults.is_hung {
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
            state = lock(&self.state);
        }
        // A thread that ended here would leave whoever asked, and all who wait for the drive,
        // hanging for ever.
        let answer = catch_unwind(AssertUnwindSafe(|| run(&mut state)));
        state.has_panicked |= answer.is_err();
        let answer = answer.unwrap_or_default();
        let delay = state.faults.delay;
        drop(state);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        answer
    }
}

/// Keeps this thread, when it needs memory, from waiting for pages to be written to its own drive.
/// Where we may not ask for that (it takes CAP_SYS_RESOURCE), memory must not be that short.
fn become_flusher() {
    thread_local!(static HAS_ASKED: Cell<bool> = const { Cell::new(false) });
    if !HAS_ASKED.replace(true) {
        let _best_effort = rustix::process::configure_io_flusher_behavior(true);
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&FRESH, &self.attributes(DISK), Generation(0));
        } else {
            // Whoever looks for what is not there waits for a drive that hangs.
            self.request(|_| Some(()));
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FRESH, &self.attributes(number));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing is cached above the drive.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.length.saturating_sub(offset));
        let len = usize::try_from(len).unwrap();
        match self.request(|state| state.read(offset, len)) {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.request(|state| state.write(offset, data)) {
            Some(()) => reply.written(u32::try_from(data.len()).unwrap()),
            None => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.request(State::flush) {
            Some(()) => reply.ok(),
            None => reply.error(Errno::EIO),
        }
    }
}
