//! A drive that can be told to fail: a FUSE file system of one file, `disk`, with a loop device
//! over it and an ordinary file system on that.
//!
//! The kernel's cache flushes arrive as `fsync`. With its write cache on, the drive keeps what was
//! written since the last flush in memory alone, and [`Drive::cut_power`] makes the image that a
//! power cut would leave: what is durable, and nothing, a prefix, a subset or torn parts of the
//! rest. Everything else that can be wrong is in `faults`.
//!
//! The drive is served by threads of the test process. They never wait for pages to be written to
//! the drive itself (see `serve`), so a test may use its own drive as any other program does. Only
//! a map of a file on it must not be touched. Should the test process be killed, its sentinel ends
//! the drive, so that nothing waits for it for ever.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test uses its own part of the drive"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod faults;
mod medium;
mod serve;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};

pub(crate) use faults::{Counts, Fate, Harm, How, Traced, Write};
pub(crate) use medium::{Cut, Frozen, Note, Sample, Spared};

use crate::support::dice::Dice;
use crate::support::mounts::{Fs, Mounted, quietly, unmount};
use crate::support::sentinel::Sentinel;
use faults::Faults;
use medium::{Medium, Sampler};
use serve::{Served, State, lock};

/// What a sentinel does: no request waits any longer, then all of it goes as soon as it can.
const LAST_WILL: &str = r#"
    disk=$1/fuse/disk
    losetup -n -O NAME,BACK-FILE | while read -r name file; do
        [ "$file" = "$disk" ] && losetup -d "$name"
    done
    umount -f "$1/fuse"
    umount -l "$2"
    umount -l "$1/fuse"
"#;

/// A mounted drive. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Drive {
    // In this order they go.
    mounted: Option<Mounted>,
    requests: Option<ShortRequests>,
    service: Service,
    _sentinel: Sentinel,
    point: PathBuf,
    fs: Fs,
}

/// The FUSE file system.
#[derive(Debug)]
struct Service {
    state: Arc<Mutex<State>>,
    point: PathBuf,
    session: Option<BackgroundSession>,
}

impl Drop for Service {
    fn drop(&mut self) {
        lock(&self.state).faults = Faults::default();
        unmount(&self.point);
        let Some(session) = self.session.take() else {
            return;
        };
        for _ in 0..200 {
            if session.guard.is_finished() {
                drop(session.join());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Somebody still holds it. Whoever that is gets errors from now on.
        quietly("umount", &[Path::new("-f"), &self.point]);
    }
}

/// Keeps requests of a loop device below what FUSE takes at once (1 MiB). It would cut longer ones
/// in two, and the loop device takes a write of which the second part failed for a good one.
/// Source: `lo_complete_rq` of linux/drivers/block/loop.c looks for short reads alone.
#[derive(Debug)]
struct ShortRequests {
    setting: PathBuf,
    before: String,
}

impl ShortRequests {
    fn new(device: &str) -> Self {
        let name = Path::new(device).file_name().unwrap();
        let setting = Path::new("/sys/block")
            .join(name)
            .join("queue/max_sectors_kb");
        let before = std::fs::read_to_string(&setting).unwrap();
        std::fs::write(&setting, "512").unwrap();
        Self { setting, before }
    }
}

impl Drop for ShortRequests {
    fn drop(&mut self) {
        // Whoever gets the device next wants it as it was.
        let _best_effort = std::fs::write(&self.setting, &self.before);
    }
}

/// Heals its drive when dropped.
#[derive(Debug)]
pub(crate) struct Heals<'d>(&'d Drive);

impl Drop for Heals<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // What is still to be written when it is unmounted takes no longer than it must.
        self.heal();
        let is_sound = !self.state().has_panicked;
        assert!(is_sound || std::thread::panicking(), "the drive panicked");
    }
}

impl Drive {
    /// Makes a drive of `mib` MiB with a fresh file system and mounts it, all below `dir`, which is
    /// made: its store too, so best in a lab. Without a write cache at first.
    pub(crate) fn new(dir: &Path, fs: Fs, mib: u64) -> Self {
        let blank = tempfile::tempfile().unwrap();
        blank.set_len(mib << 20).unwrap();
        let mut drive = Self::serve(dir, fs, &blank);
        let mounted = Mounted::make(&drive.point, &drive.disk(), fs, "noatime");
        drive.requests = Some(ShortRequests::new(mounted.device()));
        drive.mounted = Some(mounted);
        drive
    }

    /// Goes on with what an image holds, which is copied.
    pub(crate) fn with_image(dir: &Path, fs: Fs, image: &Path) -> Self {
        let mut drive = Self::serve(dir, fs, &File::open(image).unwrap());
        drive.mount();
        drive
    }

    fn serve(dir: &Path, fs: Fs, image: &File) -> Self {
        let [point, fuse] = ["mounted", "fuse"].map(|name| dir.join(name));
        for dir in [&point, &fuse] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let length = image.metadata().unwrap().len();
        // Their superblocks are as long as this, and their checksums tell when they are torn: such
        // a file system has to be repaired first.
        let sector = match fs {
            Fs::Ext4 => 1024,
            Fs::Xfs => 512,
            Fs::Btrfs => 4096,
        };
        let state = State {
            medium: Medium::new(dir, image, sector),
            faults: Faults::default(),
            counts: Counts::default(),
            trace: Vec::new(),
            reads: Vec::new(),
            sampler: None,
            has_panicked: false,
        };
        let state = Arc::new(Mutex::new(state));
        let served = Served {
            state: Arc::clone(&state),
            length,
        };
        let sentinel = Sentinel::new(LAST_WILL, &[dir, &point]);
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("inhaul-test-drive".to_owned())];
        // A slow request does not keep the next one from being looked at.
        config.n_threads = Some(2);
        let session = fuser::spawn_mount(served, &fuse, &config).unwrap();
        Self {
            mounted: None,
            requests: None,
            service: Service {
                state,
                point: fuse,
                session: Some(session),
            },
            _sentinel: sentinel,
            point,
            fs,
        }
    }

    fn disk(&self) -> PathBuf {
        self.service.point.join("disk")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.service.state)
    }

    /// Returns where its file system is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Returns the path of something on it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// Unmounts the file system; the drive works on.
    pub(crate) fn unmount(&mut self) {
        self.mounted = None;
        self.requests = None;
    }

    /// Mounts the file system, which is not mounted.
    pub(crate) fn mount(&mut self) {
        self.mount_at(&self.point.clone());
    }

    /// Mounts the file system, which is not mounted, at another place than its own.
    pub(crate) fn mount_at(&mut self, point: &Path) {
        assert!(self.mounted.is_none());
        let mounted = Mounted::open(point, &self.disk(), self.fs).unwrap();
        self.requests = Some(ShortRequests::new(mounted.device()));
        self.mounted = Some(mounted);
    }

    /// Unmounts and mounts: what was cached in memory is read from the drive again.
    pub(crate) fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// From now on, keeps written data in memory until it is flushed; or no longer does.
    pub(crate) fn set_cache(&self, has_cache: bool) {
        self.state().medium.set_cache(has_cache).unwrap();
    }

    /// From now on, says yes to flushes and does nothing; or no longer does.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        self.state().faults.is_deaf = is_deaf;
    }

    /// Every request takes at least so long.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.state().faults.delay = delay;
    }

    /// Flushes fail: `count` of them, after `after` more have passed. What they were to make
    /// durable stays in the cache.
    pub(crate) fn fail_flushes(&self, after: u64, count: u64) {
        let mut state = self.state();
        let first = state.counts.flushes.saturating_add(after);
        state.faults.flushes = first..first.saturating_add(count);
    }

    /// Reads of any of these bytes fail.
    pub(crate) fn fail_reads(&self, range: Range<u64>) {
        self.state().faults.unreadable.push(range);
    }

    /// Reads of any of these bytes fail so often, and then succeed.
    pub(crate) fn weaken(&self, range: Range<u64>, times: u32) {
        self.state().faults.weak.push((range, times));
    }

    /// Everything fails from now on, as if it were pulled out.
    pub(crate) fn die(&self) {
        self.state().faults.is_dead = true;
    }

    /// Nothing is answered from now on, until it is healed.
    pub(crate) fn hang(&self) {
        self.state().faults.is_hung = true;
    }

    /// Returns the reads that arrived since the last call: where they began, and their lengths.
    pub(crate) fn take_reads(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.state().reads)
    }

    /// Writes to any of these bytes fail.
    pub(crate) fn fail_writes(&self, range: Range<u64>) {
        self.state().faults.unwritable.push(range);
    }

    /// Reads give these bytes with one bit of each inverted.
    pub(crate) fn misread(&self, range: Range<u64>) {
        self.state().faults.misread.push(range);
    }

    /// Reads give these bytes as they are so often, and from then on with one bit of each inverted.
    pub(crate) fn misread_after(&self, range: Range<u64>, times: u32) {
        self.state().faults.fickle.push((range, times));
    }

    /// Asks `judge` what becomes of each write. It must not use the drive.
    pub(crate) fn judge_writes(&self, judge: impl FnMut(&Write<'_>) -> Fate + Send + 'static) {
        self.state().faults.judge = Some(Box::new(judge));
    }

    /// Asks `judge` whether each read fails. It must not use the drive, which does nothing else meanwhile.
    pub(crate) fn judge_reads(&self, judge: impl FnMut() -> bool + Send + 'static) {
        self.state().faults.read_judge = Some(Box::new(judge));
    }

    /// Heals it when the guard goes, for a test that fails: whoever waits for a program that waits for
    /// a drive would hang.
    pub(crate) fn healing(&self) -> Heals<'_> {
        Heals(self)
    }

    /// Nothing is wrong with the drive any more. What came to harm stays so.
    pub(crate) fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// Returns what the drive did so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Returns the writes that arrived since the last call.
    pub(crate) fn take_trace(&self) -> Vec<Traced> {
        std::mem::take(&mut self.state().trace)
    }

    /// Holds the medium as it is at this moment for a power cut, and goes on.
    pub(crate) fn freeze(&self, image: &Path) -> Frozen {
        self.state().medium.freeze(image)
    }

    /// Makes the image that a power cut at this moment would leave, and goes on.
    pub(crate) fn cut_power(&self, spared: Spared, dice: &mut Dice, image: &Path) -> Cut {
        self.freeze(image).cut(spared, dice).1
    }

    /// From now on, holds the medium at `count` moments, spread evenly over all writes and flushes.
    /// The images lie in `dir`. `note` is asked at each moment, and must not use the drive.
    pub(crate) fn begin_samples(&self, dir: &Path, count: usize, dice: Dice, note: Note) {
        self.state().sampler = Some(Sampler::new(dir, count, dice, note));
    }

    /// Returns the moments that were held.
    pub(crate) fn end_samples(&self) -> Vec<Sample> {
        let sampler = self.state().sampler.take();
        sampler.map_or_else(Vec::new, Sampler::end)
    }
}
