//! How much a drive holds, while it is being copied: a total to show before the scan has come to
//! its end. The scan of the copy is only a window ahead of it; this one runs by itself, and rarely.
//!
//! Nothing depends on what is counted here, so that a drive may fail or hang as it likes.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rustix::fs::Statx;

use super::setup::ScanJob;
use super::telemetry::{Health, LaneCounters, Telemetry};
use crate::error::Error;
use crate::plan::LanePlan;
use crate::scan::{Dir, Enter, Entry, Kind, Order, Tree, Visitor, WalkOptions, walk};
use crate::target::HOME;

/// A job that is over by then is not counted at all.
const AFTER: Duration = Duration::from_secs(5);
/// Rest after each piece of work, as a multiple of the time it took: a tenth of the time is taken.
const REST: u32 = 9;
/// Shortest piece of work: below it resting costs more than it saves.
const PIECE: Duration = Duration::from_millis(2);
/// Listed entries held at a time, in bytes.
const WINDOW: usize = 256 << 10;
/// Longest rest without a look whether there is any use in going on.
const LOOK: Duration = Duration::from_secs(1);
/// A drive that has not answered for so long is left alone.
const SILENCE: Duration = Duration::from_secs(1);
/// Most trees of a lane: each is a descriptor. Files that are named one by one are few to count.
const TREES_MAX: usize = 64;
/// How long the end of a run waits for the counting to let go of its drive.
const PATIENCE: Duration = Duration::from_secs(1);

/// The counting of a run's lanes. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Forecast {
    stop: Option<Sender<()>>,
    gone: Receiver<()>,
}

/// One lane to be counted.
struct Lane {
    number: usize,
    trees: Vec<Arc<Tree>>,
}

impl Forecast {
    /// Begins to count, a little later, the lanes of which nothing is expected yet.
    pub(super) fn start(job: &ScanJob, lanes: &[LanePlan], telemetry: &Arc<Telemetry>) -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let (here, gone) = bounded::<()>(0);
        for (number, plan) in lanes.iter().enumerate() {
            let counters = telemetry.lanes.get(number).map(|view| &view.counters);
            let is_known = counters.is_none_or(|known| known.files_expected.load(Relaxed) > 0);
            if is_known || plan.trees.len() > TREES_MAX {
                continue;
            }
            let trees: Result<Vec<_>, _> = plan
                .trees
                .iter()
                .map(|tree| tree.unheard().map(Arc::new))
                .collect();
            let Ok(trees) = trees else {
                continue;
            };
            let (telemetry, job) = (Arc::clone(telemetry), job.clone());
            let (stopped, here) = (stopped.clone(), here.clone());
            // Not joined: a drive may hold it for ever. Without it there is no total, and no harm.
            let _goes_by_itself = std::thread::Builder::new()
                .name(format!("count-{number}"))
                .spawn(move || {
                    let _here = here;
                    count(&job, &Lane { number, trees }, &telemetry, &stopped, AFTER);
                });
        }
        let stop = Some(stop);
        Self { stop, gone }
    }
}

impl Drop for Forecast {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Nobody sends: it is over when every thread has let go, or when a drive holds one.
        let _over = self.gone.recv_timeout(PATIENCE);
    }
}

fn count(job: &ScanJob, lane: &Lane, telemetry: &Telemetry, stop: &Receiver<()>, after: Duration) {
    let Some(view) = telemetry.lanes.get(lane.number) else {
        return;
    };
    let mut counter = Counter {
        counters: &view.counters,
        stop,
        is_stopped: false,
        since: Instant::now(),
        files: 0,
        bytes: 0,
    };
    counter.wait(after);
    let options = WalkOptions {
        filter: &job.filter,
        files_from: job.files_from.as_deref(),
        order: Order::Listing,
        window_bytes: WINDOW,
    };
    for tree in &lane.trees {
        if counter.stopped() {
            break;
        }
        walk(tree, &options, &mut counter);
    }
    if !counter.stopped() {
        view.counters.bytes_expected.store(counter.bytes, Relaxed);
        view.counters.files_expected.store(counter.files, Relaxed);
    }
}

struct Counter<'r> {
    counters: &'r LaneCounters,
    stop: &'r Receiver<()>,
    is_stopped: bool,
    /// When this piece of work began.
    since: Instant,
    files: u64,
    bytes: u64,
}

impl Counter<'_> {
    fn rest(&mut self) {
        let worked = self.since.elapsed();
        if worked < PIECE {
            return;
        }
        self.wait(worked * REST);
        self.since = Instant::now();
    }

    /// Waits, as long as there is any use in going on.
    fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stopped() {
                break;
            }
            let rested = self.stop.recv_timeout(left.min(LOOK));
            self.is_stopped |= rested != Err(RecvTimeoutError::Timeout);
        }
    }
}

impl Visitor for Counter<'_> {
    fn enter(&mut self, dir: &Arc<Dir>, _: BorrowedFd<'_>, _: &Statx) -> Result<Enter, Error> {
        self.rest();
        if self.stopped() || dir.target_path() == HOME.as_bytes() {
            return Ok(Enter::Skip);
        }
        Ok(Enter::Descend)
    }

    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        for entry in batch.iter().filter(|entry| entry.kind == Kind::File) {
            self.files += 1;
            // Each of its names has its share: it is read once.
            let size = entry.stamp.size / u64::from(entry.nlink.max(1));
            self.bytes = self.bytes.saturating_add(size);
        }
        self.rest();
        ControlFlow::Continue(())
    }

    fn problem(&mut self, _error: Error) {
        // What is there is not known any more, and a drive that fails is not to be asked besides.
        self.is_stopped = true;
    }

    fn skipped(&mut self, _path: PathBuf, _kind: &'static str, _why: &str) {}

    fn only_counts(&self) -> bool {
        true
    }

    fn stopped(&self) -> bool {
        self.is_stopped
            || self.stop.try_recv() != Err(TryRecvError::Empty)
            || self.counters.scan_ended.load(Relaxed)
            || self.counters.health() != Health::Ok
            || self.counters.vitals().lane.silence() > SILENCE
            || self.counters.vitals().scan.silence() > SILENCE
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::engine::telemetry::LaneView;

    fn tree(dir: &std::path::Path) -> Arc<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).unwrap();
        let device = rustix::fs::fstat(&root).unwrap().st_dev;
        let (finished, _) = bounded(0);
        Arc::new(Tree {
            index: 0,
            label: dir.to_owned(),
            root,
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device,
            direct: false,
            trusts_holes: true,
            trusts_sizes: true,
            keeps_inodes: true,
            finished,
        })
    }

    /// Counts a folder of three files of 1,000 bytes, one of them an earlier run's record.
    fn counted(stop: &Receiver<()>, scan_ended: bool) -> (u64, u64) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a", HOME] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in ["one", "a/two", &format!("{HOME}/three")] {
            std::fs::write(dir.path().join(file), [7; 1000]).unwrap();
        }
        std::fs::hard_link(dir.path().join("one"), dir.path().join("a/one")).unwrap();
        let telemetry = Telemetry::new(vec![LaneView {
            name: String::new(),
            sources: Vec::new(),
            counters: LaneCounters::default(),
        }]);
        let counters = &telemetry.lanes[0].counters;
        counters.scan_ended.store(scan_ended, Relaxed);
        let job = ScanJob {
            filter: Arc::default(),
            files_from: None,
            window_bytes: 1,
            registered_writes: false,
        };
        let trees = vec![Arc::new(tree(dir.path()).unheard().unwrap())];
        count(
            &job,
            &Lane { number: 0, trees },
            &telemetry,
            stop,
            Duration::ZERO,
        );
        let files = counters.files_expected.load(Relaxed);
        (files, counters.bytes_expected.load(Relaxed))
    }

    #[test]
    fn what_is_to_be_copied_is_expected() {
        let (_stop, stopped) = bounded(0);
        assert_eq!(counted(&stopped, false), (3, 2000));
    }

    #[test]
    fn nothing_is_expected_of_a_count_that_was_cut_short() {
        let (stop, stopped) = bounded(0);
        drop(stop);
        assert_eq!(counted(&stopped, false), (0, 0));
    }

    #[test]
    fn a_scan_that_has_ended_knows_better() {
        let (_stop, stopped) = bounded(0);
        assert_eq!(counted(&stopped, true), (0, 0));
    }
}
