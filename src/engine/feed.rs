//! Feeding a lane: the scan of its sources, on a thread of its own, one window ahead of the lane.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::{SendTimeoutError, Sender};
use rustix::fs::{Statx, makedev};

use super::context::Context;
use super::telemetry::{Health, LaneCounters};
use super::vitals::{Says, Vitals};
use crate::digest::Hash;
use crate::error::{Error, ErrorKind, Side, is_bad_medium};
use crate::io::Wake;
use crate::scan::{Dir, Enter, Entry, Kind, Tree, Visitor, WalkOptions, as_path, walk};
use crate::target::{HOME, attributes};

/// How late a scan may notice that its drive is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// A lane's waker, set by the lane once its backend is there.
///
/// A feeder that finds it unset need not wake anybody: the lane looks for entries after setting
/// it and before it sleeps.
#[derive(Debug, Default)]
pub(crate) struct LaneWaker(OnceLock<Arc<dyn Wake>>);

impl LaneWaker {
    pub(crate) fn set(&self, waker: Arc<dyn Wake>) {
        // Set once, by the one thread of its lane.
        drop(self.0.set(waker));
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.get() {
            waker.wake();
        }
    }
}

/// Where a feeder delivers.
#[derive(Debug)]
pub(crate) struct Feed<'r> {
    pub(crate) context: &'r Context,
    pub(crate) lane: usize,
    pub(crate) counters: &'r LaneCounters,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) batches: Sender<Vec<Entry>>,
    pub(crate) waker: &'r LaneWaker,
}

impl Feed<'_> {
    /// Scans trees one after the other and delivers what is in them. The lane is woken at the
    /// end, and sees that this was all, when the feed is dropped.
    pub(crate) fn scan(&mut self, trees: &[Arc<Tree>], options: &WalkOptions<'_>) {
        self.vitals.scan.begin();
        for tree in trees {
            if !self.stopped() {
                walk(tree, options, self);
            }
        }
        self.vitals.scan.end();
        if self.context.halted() {
            // Whether the walk was through is not known: say that it was not.
            self.context.interrupted.store(true, Relaxed);
        }
        self.counters.scan_ended.store(true, Relaxed);
    }

    /// Delivers entries in the order they are to be read. Waits while the lane is a batch behind.
    pub(crate) fn deliver(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        if batch.is_empty() {
            return ControlFlow::Continue(());
        }
        let is_delivered = self.send(batch);
        self.waker.wake();
        if is_delivered && !self.stopped() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Hands a batch over; a lane that hangs with its drive never takes it.
    fn send(&self, mut batch: Vec<Entry>) -> bool {
        loop {
            match self.batches.send_timeout(batch, PATIENCE) {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(back)) if !self.vitals.is_lost() => {
                    batch = back;
                }
                Err(_) => return false,
            }
        }
    }

    /// Counts a file that the lane will meet.
    pub(crate) fn count(&self, bytes: u64) {
        self.counters.files_found.fetch_add(1, Relaxed);
        self.counters.bytes_found.fetch_add(bytes, Relaxed);
    }

    fn keep(&self, entry: &Entry) -> bool {
        match entry.kind {
            Kind::File => {
                self.count(entry.stamp.size);
                true
            }
            Kind::Symlink => self.context.copies,
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                if !self.context.special && self.context.copies {
                    let path = entry.display_path();
                    let why = "a special file, not data; --special recreates it";
                    self.context
                        .outcomes
                        .skipped(self.lane, &path, "special", why);
                }
                self.context.special && self.context.copies
            }
        }
    }
}

/// While it lives, the scan does not wait for its drive, but for the target, the lane, or whoever
/// reads what is told: none of their time is the drive's.
struct Pause(Arc<Vitals>);

impl Pause {
    fn new(vitals: &Arc<Vitals>) -> Self {
        vitals.scan.end();
        Self(Arc::clone(vitals))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.scan.begin();
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        // The sender must be gone before the lane looks again, or it would miss that this is all.
        let (closed, _) = crossbeam::channel::bounded(0);
        drop(std::mem::replace(&mut self.batches, closed));
        self.waker.wake();
    }
}

impl Visitor for Feed<'_> {
    fn enter(&mut self, dir: &Arc<Dir>, fd: BorrowedFd<'_>, stat: &Statx) -> Result<Enter, Error> {
        self.counters.dirs.fetch_add(1, Relaxed);
        let _paused = Pause::new(&self.vitals);
        if !self.context.copies {
            return Ok(Enter::Descend);
        }
        let target_path = dir.target_path();
        let shown = || dir.tree().label.join(as_path(&dir.source_path()));
        if target_path == HOME.as_bytes() {
            let why = "records of an earlier ingest; they would mix with this one's";
            self.context
                .outcomes
                .skipped(self.lane, &shown(), "inhaul-records", why);
            return Ok(Enter::Skip);
        }
        let identity = (
            makedev(stat.stx_dev_major, stat.stx_dev_minor),
            stat.stx_ino,
        );
        if self.context.target_identity == Some(identity) {
            // Found only here when a bind mount hides that the target lies in this source.
            let what = "this folder is the target itself; copying it would never end";
            return Err(Error::new(ErrorKind::Escape, Side::Source, shown(), what));
        }
        if self.context.around.leaves_out(&target_path) {
            return Ok(Enter::Skip);
        }
        if self.context.make_dir(dir)? {
            dir.set_fresh();
        }
        if !dir.is_root() || dir.tree().root_attributes {
            self.vitals.scan.begin();
            let read = attributes::read(fd, stat, &self.context.policy, true);
            self.vitals.scan.end();
            if let Some(errno) = read.unread {
                let what = "copied, but its extended attributes could not be read";
                let error = Error::new(ErrorKind::Metadata, Side::Source, shown(), what);
                self.context
                    .outcomes
                    .problem_of_folder(self.lane, &error.because(errno));
            }
            dir.promise(read);
        }
        Ok(Enter::Descend)
    }

    fn entries(&mut self, mut batch: Vec<Entry>) -> ControlFlow<()> {
        if let Some(expected) = &self.context.expected {
            for entry in &mut batch {
                let done = expected.done(&entry.target_path());
                entry.recorded = done.map(|done| Hash::from_bytes(done.digest));
            }
            batch.retain(|entry| entry.recorded.is_some());
        }
        let _paused = Pause::new(&self.vitals);
        batch.retain(|entry| self.keep(entry));
        self.deliver(batch)
    }

    fn problem(&mut self, error: Error) {
        let vitals = Arc::clone(&self.vitals);
        let mut says = None;
        if let Some(errno) = error.errno()
            && (is_bad_medium(errno) || error.kind() == ErrorKind::SourceLost)
        {
            says = Some(vitals.failed(errno));
        }
        if error.kind() == ErrorKind::SourceLost {
            says = Some(Says::Gone);
        }
        let _paused = Pause::new(&vitals);
        if let Some(says) = says {
            let health = match says {
                Says::BadSpot => Health::Suspect,
                Says::Gone => Health::Gone,
            };
            self.context.drive_is(self.lane, health, &error.to_string());
            if health == Health::Gone {
                vitals.set_gone();
                self.waker.wake();
            }
        }
        if error.kind() == ErrorKind::TargetFull {
            self.context.target_full(&error);
            return;
        }
        // Of a drive that is gone its lane tells, once; of a stop, the run.
        if vitals.is_lost() || self.context.is_of_stop(&error) {
            return;
        }
        self.context.outcomes.problem_of_folder(self.lane, &error);
    }

    fn skipped(&mut self, path: PathBuf, kind: &'static str, why: &str) {
        let _paused = Pause::new(&self.vitals);
        self.context.outcomes.skipped(self.lane, &path, kind, why);
    }

    fn left(&mut self, dir: Arc<Dir>) {
        let _paused = Pause::new(&self.vitals);
        drop(dir);
    }

    fn answered(&self) {
        self.vitals.scan.forgive();
    }

    fn stopped(&self) -> bool {
        // Whoever asks is not held by the kernel.
        self.vitals.scan.forgive();
        self.context.halted() || self.vitals.is_lost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Silent;
    use crate::engine::job::EngineSettings;
    use crate::engine::session::Session;
    use crate::engine::setup::reading_context;
    use crate::engine::telemetry::{LaneView, Telemetry};
    use crate::scan::FileStamp;
    use crossbeam::channel::bounded;

    fn some_dir(finished: Sender<crate::scan::Finished>) -> Arc<Dir> {
        let tree = Tree {
            index: 0,
            label: "/".into(),
            root: std::fs::File::open("/").unwrap().into(),
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device: 0,
            direct: false,
            trusts_holes: false,
            trusts_sizes: true,
            keeps_inodes: true,
            finished,
        };
        Dir::root(Arc::new(tree))
    }

    fn some_entry() -> Entry {
        Entry {
            dir: some_dir(bounded(1).0),
            name: (*b"name").into(),
            kind: Kind::File,
            stamp: FileStamp {
                dev: 0,
                ino: 1,
                size: 0,
                mtime: (0, 0),
                ctime: (0, 0),
            },
            allocated: 0,
            nlink: 1,
            position: 0,
            recorded: None,
        }
    }

    fn one_lane() -> (Session, Arc<Telemetry>) {
        let session = Session {
            stop: Arc::default(),
            observer: Arc::new(Silent),
        };
        let telemetry = Arc::new(Telemetry::new(vec![LaneView {
            name: "sdx".to_owned(),
            sources: Vec::new(),
            counters: LaneCounters::default(),
        }]));
        (session, telemetry)
    }

    #[test]
    fn who_waits_for_the_target_does_not_wait_for_its_drive() {
        let (session, telemetry) = one_lane();
        let vitals = telemetry.lanes[0].counters.vitals();
        vitals.scan.begin();
        // Nobody hears yet that a directory is finished.
        let (finished, heard) = bounded(0);
        let dir = some_dir(finished);
        dir.promise(crate::scan::Attributes::default());
        let of_scan = Arc::clone(&vitals);
        let scan = std::thread::spawn(move || {
            let settings = EngineSettings::default();
            let context = reading_context(&session, &telemetry, &settings).unwrap();
            let mut feed = Feed {
                context: &context,
                lane: 0,
                counters: &telemetry.lanes[0].counters,
                vitals: of_scan,
                batches: bounded(1).0,
                waker: &LaneWaker::default(),
            };
            feed.left(dir);
        });
        let paused = (0..6000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !vitals.scan.is_waiting()
        });
        heard.recv().unwrap();
        scan.join().unwrap();
        assert!(paused, "its silence counted against the drive");
        assert!(vitals.scan.is_waiting());
    }

    #[test]
    fn a_lane_that_hangs_with_its_drive_holds_no_scan() {
        let (session, telemetry) = one_lane();
        // Nobody takes what is delivered, and nobody lets go of the other end.
        let (batches, _held) = bounded(0);
        let (ended, end) = bounded(1);
        let vitals = telemetry.lanes[0].counters.vitals();
        let of_scan = Arc::clone(&vitals);
        std::thread::spawn(move || {
            let settings = EngineSettings::default();
            let context = reading_context(&session, &telemetry, &settings).unwrap();
            let mut feed = Feed {
                context: &context,
                lane: 0,
                counters: &telemetry.lanes[0].counters,
                vitals: of_scan,
                batches,
                waker: &LaneWaker::default(),
            };
            let flow = feed.entries(vec![some_entry()]);
            ended.send((flow, feed.vitals.scan.is_waiting())).unwrap();
        });
        vitals.give_up();
        let end = end.recv_timeout(Duration::from_secs(60));
        // It waits for its drive again, as before.
        assert_eq!(end, Ok((ControlFlow::Break(()), true)));
    }
}
