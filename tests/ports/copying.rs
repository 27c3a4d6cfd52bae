//! Running the engine, and an observer that checks that everything it is told adds up.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inhaul::engine::job::{
    CopyJob, EngineSettings, Existing, IoChoice, KnownDrive, Preserve, Verify,
};
use inhaul::engine::report::{LaneReport, PROBLEMS_MAX, Problem, Report};
use inhaul::engine::telemetry::Telemetry;
use inhaul::engine::{Observer, Session};
use inhaul::error::Error;
use inhaul::plan::Budget;
use inhaul::scan::Filter;

/// No copy here takes a tenth of this: one that does has hung.
const HUNG: Duration = Duration::from_secs(120);

/// Writes down everything.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) problems: Mutex<Vec<Problem>>,
    pub(crate) skipped: Mutex<Vec<Problem>>,
    pub(crate) notes: Mutex<Vec<String>>,
    drives: Mutex<Vec<LaneReport>>,
    telemetry: Mutex<Option<Arc<Telemetry>>>,
    started: AtomicU32,
    ended: AtomicU32,
}

impl Observer for Watch {
    fn known_drive(&self, _identity: &str) -> Option<KnownDrive> {
        None
    }
    fn started(&self, telemetry: &Arc<Telemetry>) {
        self.started.fetch_add(1, Relaxed);
        *self.telemetry.lock().unwrap() = Some(Arc::clone(telemetry));
    }
    fn problem(&self, problem: &Problem) {
        self.problems.lock().unwrap().push(problem.clone());
    }
    fn skipped(&self, skipped: &Problem) {
        self.skipped.lock().unwrap().push(skipped.clone());
    }
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
    fn hashed(&self, path: &[u8], _size: u64, _digest: &blake3::Hash) {
        panic!("a copy told a digest: {}", path.escape_ascii());
    }
    fn health(&self, _change: &inhaul::engine::report::HealthChange) {}
    fn drive(&self, lane: &LaneReport) {
        assert_eq!(self.ended.load(Relaxed), 0, "a drive after the end");
        self.drives.lock().unwrap().push(lane.clone());
    }
    fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }
}

impl Watch {
    /// Returns whether every lane knows all its files.
    pub(crate) fn has_scanned(&self) -> bool {
        self.telemetry.lock().unwrap().as_ref().is_some_and(|told| {
            let mut lanes = told.lanes.iter();
            lanes.all(|lane| lane.counters.scan_ended.load(Relaxed))
        })
    }

    /// Returns the bytes that all lanes have read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.telemetry.lock().unwrap().as_ref().map_or(0, |told| {
            let read = |lane: &Arc<inhaul::engine::telemetry::LaneView>| {
                lane.counters.bytes_read.load(Relaxed)
            };
            told.lanes.iter().map(read).sum()
        })
    }

    /// Waits until something holds of the run.
    pub(crate) fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < HUNG, "it never came to that");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Fails unless what was told is what was counted and what the report says.
    #[track_caller]
    pub(crate) fn agrees(&self, report: &Report, target: &Path) {
        assert_eq!(self.started.load(Relaxed), 1, "started once");
        assert_eq!(self.ended.load(Relaxed), 1, "ended once");
        let line = |problem: &Problem| format!("{problem:?}");
        let mut told: Vec<_> = self.problems.lock().unwrap().iter().map(line).collect();
        assert_eq!(told.len() as u64, report.problem_count, "{told:?}");
        assert_eq!(report.totals.problems, report.problem_count);
        if told.len() <= PROBLEMS_MAX {
            let mut listed: Vec<_> = report.problems.iter().map(line).collect();
            told.sort();
            listed.sort();
            assert_eq!(told, listed);
        } else {
            assert_eq!(report.problems.len(), PROBLEMS_MAX);
        }
        assert_eq!(
            self.skipped.lock().unwrap().len() as u64,
            report.skipped_count
        );
        let telemetry = self.telemetry.lock().unwrap();
        let lanes = &telemetry.as_ref().unwrap().lanes;
        assert_eq!(lanes.len(), report.lanes.len());
        assert_eq!(self.drives.lock().unwrap().len(), lanes.len());
        let counted: u64 = lanes
            .iter()
            .map(|lane| lane.counters.problems.load(Relaxed))
            .sum();
        assert_eq!(counted, report.problem_count, "counted by the lanes");
        let sum = |field: fn(&LaneReport) -> u64| report.lanes.iter().map(field).sum::<u64>();
        assert_eq!(sum(|lane| lane.totals.files), report.totals.files);
        assert_eq!(sum(|lane| lane.totals.bytes), report.totals.bytes);
        assert_eq!(sum(|lane| lane.totals.others), report.totals.others);
        assert_eq!(sum(|lane| lane.totals.existing), report.totals.existing);
        let clean = report.problem_count == 0 && !report.stopped;
        assert_eq!(report.exit_code == 0, clean, "{report:?}");
        let job = target.join(".inhaul").join(&report.job);
        let lines = std::fs::read_to_string(job.join("problems.ndjson")).unwrap_or_default();
        assert_eq!(lines.lines().count() as u64, report.problem_count);
    }

    /// Returns paths and kinds of the problems, sorted.
    pub(crate) fn told(&self) -> Vec<(PathBuf, String)> {
        let problems = self.problems.lock().unwrap();
        let mut told: Vec<_> = problems
            .iter()
            .map(|problem| (PathBuf::from(&problem.path), problem.kind.clone()))
            .collect();
        told.sort();
        told
    }
}

/// Returns a job with everything left at its default.
pub(crate) fn job(sources: &[PathBuf], target: &Path) -> CopyJob {
    CopyJob {
        sources: sources.to_vec(),
        target: target.to_owned(),
        spill: Vec::new(),
        filter: Arc::new(Filter::default()),
        files_from: None,
        existing: Existing::Refuse,
        preserve: Preserve::default(),
        salvage: false,
        verify: Verify::None,
        resume: None,
        engine: EngineSettings {
            // No test needs more, and several run at once.
            memory: 64 << 20,
            hash_threads: Some(2),
            ..EngineSettings::default()
        },
    }
}

/// Returns the contents of a directory as a source.
pub(crate) fn contents(dir: &Path) -> PathBuf {
    dir.join("")
}

/// A copy on a thread of its own.
#[derive(Debug)]
pub(crate) struct Copying {
    pub(crate) watch: Arc<Watch>,
    pub(crate) stop: Arc<AtomicBool>,
    target: PathBuf,
    result: crossbeam::channel::Receiver<Result<Report, Error>>,
}

impl Copying {
    pub(crate) fn start(job: &CopyJob) -> Self {
        let (sender, result) = crossbeam::channel::bounded(1);
        let watch = Arc::new(Watch::default());
        let stop = Arc::new(AtomicBool::new(false));
        let session = Session {
            stop: Arc::clone(&stop),
            observer: Arc::clone(&watch) as Arc<dyn Observer>,
        };
        let (job, target) = (job.clone(), job.target.clone());
        std::thread::spawn(move || drop(sender.send(inhaul::engine::copy(&job, &session))));
        Self {
            watch,
            stop,
            target,
            result,
        }
    }

    /// Waits for the end and checks that all that was told adds up.
    #[track_caller]
    pub(crate) fn end(self) -> (Report, Arc<Watch>) {
        let report = self.result();
        self.watch.agrees(&report, &self.target);
        (report, self.watch)
    }

    #[track_caller]
    pub(crate) fn result(&self) -> Report {
        match self.result.recv_timeout(HUNG) {
            Ok(result) => result.unwrap(),
            Err(error) => panic!("the copy hangs or panicked: {error}"),
        }
    }
}

/// Copies and checks that all that was told adds up.
#[track_caller]
pub(crate) fn copy(job: &CopyJob) -> (Report, Arc<Watch>) {
    Copying::start(job).end()
}

/// Copies, which must succeed without a word.
#[track_caller]
pub(crate) fn copy_all(job: &CopyJob) -> Report {
    let (report, watch) = copy(job);
    assert_eq!(report.exit_code, 0, "{:?}", watch.told());
    report
}

/// The backends.
pub(crate) const BACKENDS: [IoChoice; 2] = [IoChoice::Uring, IoChoice::Blocking];

/// Returns the least memory that so many lanes run in, in bytes.
pub(crate) fn least_memory(lanes: usize) -> u64 {
    let mib = (1..4096).find(|&mib| Budget::new(mib << 20, lanes).is_ok());
    mib.unwrap() << 20
}
