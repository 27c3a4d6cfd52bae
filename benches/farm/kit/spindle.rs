//! A hard disk with one arm: a FUSE file system that holds one file, `disk`, to be loop-mounted.
//!
//! A request that begins where the last one ended runs at the drive's rate. Any other first pays
//! the way of the arm (the square root of its share of the full stroke, as an arm speeds up and
//! slows down evenly) and half a turn of the platter. One request is served at a time, in order of
//! arrival, so deep queues gain nothing here that a real drive's own reordering would give. They do
//! keep it busy: the next request is known while the last one is still being answered.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::{Context as _, Result};

const DISK: u64 = 2;
const FRESH: Duration = Duration::from_secs(60);

/// A request this soon after the last one was on its way already: the drive has read on meanwhile.
const READ_ON: Duration = Duration::from_micros(500);

/// Bytes that cannot be read of a spoilt drive, and how far apart they begin.
const SPOILT: u64 = 256 << 10;
const SPOILT_STEP: u64 = 8 << 20;

/// What a drive's mechanics are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mechanics {
    /// Bytes a second of a sequential run.
    pub(crate) rate: u64,
    /// The arm's way over the whole platter.
    pub(crate) stroke: Duration,
    /// One turn of the platter.
    pub(crate) turn: Duration,
}

/// What several drives hang on, and the kernel shows nothing of: together they get so much through it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Bytes a second, and when it has carried what was given to it.
    state: Mutex<(u64, Instant)>,
}

impl Link {
    /// One that carries `rate` bytes a second.
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            state: Mutex::new((rate, Instant::now())),
        }
    }

    /// From now on it carries so many bytes a second.
    pub(crate) fn carries(&self, rate: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (rate, Instant::now());
    }

    /// Returns when it will have carried so many bytes more.
    fn carry(&self, length: u64) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (rate, free_at) = *state;
        let takes = Duration::from_nanos(length.saturating_mul(1_000_000_000) / rate.max(1));
        let until = free_at.max(Instant::now()) + takes;
        *state = (rate, until);
        until
    }
}

#[derive(Debug)]
struct State {
    mechanics: Option<Mechanics>,
    link: Option<Arc<Link>>,
    stalled: bool,
    dead: bool,
    spoilt: bool,
    head: u64,
    free_at: Instant,
    seeks: u64,
    reads: u64,
}

/// The moving part: switched while the drive is mounted.
#[derive(Debug)]
pub(crate) struct Arm {
    length: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Arm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on requests take as long as these mechanics need; counts start again.
    pub(crate) fn engage(&self, mechanics: Mechanics) {
        let mut state = self.state();
        state.mechanics = Some(mechanics);
        (state.seeks, state.reads) = (0, 0);
    }

    /// From now on what it gives goes through this.
    pub(crate) fn hang_on(&self, link: &Arc<Link>) {
        self.state().link = Some(Arc::clone(link));
    }

    /// Requests take no time, and none hangs.
    pub(crate) fn free(&self) {
        let mut state = self.state();
        state.mechanics = None;
        state.stalled = false;
        (state.dead, state.spoilt) = (false, false);
        self.changed.notify_all();
    }

    /// Every read fails, or none.
    pub(crate) fn die(&self, dead: bool) {
        self.state().dead = dead;
    }

    /// One block of 256 KiB in the middle of each 8 MiB cannot be read, or can again.
    pub(crate) fn spoil(&self, spoilt: bool) {
        self.state().spoilt = spoilt;
    }

    /// Returns whether a read fails.
    fn fails(&self, offset: u64, length: u64) -> bool {
        let state = self.state();
        let bad = (offset / SPOILT_STEP * SPOILT_STEP) + SPOILT_STEP / 2;
        let overlaps = offset < bad + SPOILT && bad < offset + length;
        state.dead || state.spoilt && overlaps
    }

    /// Every request hangs until the drive is let go on.
    pub(crate) fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
        self.changed.notify_all();
    }

    /// Reads that were not sequential, and all reads, since the mechanics were engaged.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.seeks, state.reads)
    }

    /// Returns when the drive will be done; hangs while it is stalled.
    fn serve(&self, offset: u64, length: u64, read: bool) -> Instant {
        let received = Instant::now();
        let mut state = self.state();
        while state.stalled {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.reads += u64::from(read);
        let Some(mechanics) = state.mechanics else {
            state.head = offset + length;
            return received;
        };
        let late = received.saturating_duration_since(state.free_at);
        let sequential = offset == state.head;
        let start = if sequential && late < READ_ON {
            state.free_at
        } else {
            received.max(state.free_at)
        };
        let mut takes =
            Duration::from_nanos(length.saturating_mul(1_000_000_000) / mechanics.rate.max(1));
        if !sequential {
            state.seeks += u64::from(read);
            #[allow(clippy::cast_precision_loss, reason = "a share of the stroke")]
            let share = offset.abs_diff(state.head) as f64 / self.length.max(1) as f64;
            takes += mechanics.stroke.mul_f64(share.sqrt().min(1.0)) + mechanics.turn / 2;
        }
        state.head = offset + length;
        state.free_at = start + takes;
        if let Some(link) = &state.link {
            state.free_at = state.free_at.max(link.carry(length));
        }
        state.free_at
    }
}

/// A request whose time is known.
enum Order {
    Read {
        offset: u64,
        length: usize,
        until: Instant,
        reply: ReplyData,
    },
    Written {
        length: u32,
        until: Instant,
        reply: ReplyWrite,
    },
}

/// Requests that may be under way: FUSE sends at most twelve in the background.
const ORDERS: usize = 64;

/// Threads that answer. With two, one copies while the other waits.
const ANSWERERS: usize = 2;

fn wait(until: Instant) {
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// Answers requests until nobody is left to send any.
fn answer(file: &File, orders: &Receiver<Order>) {
    let mut buffer = Vec::new();
    for order in orders {
        match order {
            Order::Read {
                offset,
                length,
                until,
                reply,
            } => {
                // Kept and only ever grown: fresh memory costs more here than the copy.
                buffer.resize(buffer.len().max(length), 0);
                let bytes = buffer.get_mut(..length).unwrap_or_default();
                let read = file.read_exact_at(bytes, offset);
                wait(until);
                match read {
                    Ok(()) => reply.data(bytes),
                    Err(_) => reply.error(Errno::EIO),
                }
            }
            Order::Written {
                length,
                until,
                reply,
            } => {
                wait(until);
                reply.written(length);
            }
        }
    }
}

/// The mounted drive; unmounted with this value.
#[derive(Debug)]
pub(crate) struct Spindle {
    mount: PathBuf,
    arm: Arc<Arm>,
    session: Option<BackgroundSession>,
}

impl Spindle {
    /// Serves `image` as `MOUNT/disk`.
    pub(crate) fn mount(image: &Path, mount: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(image)
            .context("an image")?;
        let length = file.metadata().context("an image")?.len();
        let arm = Arc::new(Arm {
            length,
            state: Mutex::new(State {
                mechanics: None,
                link: None,
                stalled: false,
                dead: false,
                spoilt: false,
                head: 0,
                free_at: Instant::now(),
                seeks: 0,
                reads: 0,
            }),
            changed: Condvar::new(),
        });
        let mut config = Config::default();
        // A name of its own: file systems of one name pass for one.
        let name = mount.file_name().unwrap_or_default().to_string_lossy();
        config.mount_options = vec![MountOption::FSName(format!("inhaul-bench-{name}"))];
        let (orders, received) = bounded(ORDERS);
        for _ in 0..ANSWERERS {
            let (file, received) = (file.try_clone().context("an image")?, received.clone());
            std::thread::spawn(move || answer(&file, &received));
        }
        let served = Served {
            file,
            length,
            arm: Arc::clone(&arm),
            orders,
        };
        let session = fuser::spawn_mount(served, mount, &config).context("mounting by FUSE")?;
        Ok(Self {
            mount: mount.to_owned(),
            arm,
            session: Some(session),
        })
    }

    /// The file to loop-mount.
    pub(crate) fn disk(&self) -> PathBuf {
        self.mount.join("disk")
    }

    /// The moving part.
    pub(crate) fn arm(&self) -> &Arc<Arm> {
        &self.arm
    }
}

impl Drop for Spindle {
    fn drop(&mut self) {
        self.arm.free();
        super::room::detach(&self.mount);
        if let Some(session) = self.session.take() {
            drop(session.join());
        }
    }
}

#[derive(Debug)]
struct Served {
    file: File,
    length: u64,
    arm: Arc<Arm>,
    orders: Sender<Order>,
}

impl Served {
    fn attributes(&self, number: u64) -> FileAttr {
        let disk = number == DISK;
        FileAttr {
            ino: INodeNo(number),
            size: if disk { self.length } else { 0 },
            blocks: self.length / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if disk {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: if disk { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent.0 == 1 && name == "disk" {
            reply.entry(&FRESH, &self.attributes(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FRESH, &self.attributes(number.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
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
        let length = u64::from(size).min(self.length.saturating_sub(offset));
        let until = self.arm.serve(offset, length, true);
        if self.arm.fails(offset, length) {
            reply.error(Errno::EIO);
            return;
        }
        // The answering threads outlive every request.
        drop(self.orders.send(Order::Read {
            offset,
            length: usize::try_from(length).unwrap_or(0),
            until,
            reply,
        }));
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
        match (
            self.file.write_all_at(data, offset),
            u32::try_from(data.len()),
        ) {
            (Ok(()), Ok(length)) => {
                let until = self.arm.serve(offset, u64::from(length), false);
                drop(self.orders.send(Order::Written {
                    length,
                    until,
                    reply,
                }));
            }
            _ => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}
