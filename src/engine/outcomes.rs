//! What did not go as asked: counted, told at once, kept for the report in bounded memory.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::report::{PROBLEMS_MAX, Problem, Unreadable};
use super::session::Session;
use super::telemetry::{LaneCounters, LaneView, Telemetry};
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::Spool;
use crate::scan::Entry;
use crate::target::{Applied, ReadOutcome};

/// Collects everything that was not done, from all threads.
#[derive(Debug)]
pub(crate) struct Outcomes {
    session: Session,
    telemetry: Arc<Telemetry>,
    /// The lane of each SOURCE; empty where there is one lane.
    lanes: Vec<usize>,
    /// Problems that are no drive's in particular.
    of_run: AtomicU64,
    /// Set when the run is over: a thread that a drive has held until then has nothing to tell.
    is_over: AtomicBool,
    /// The complete list beside the report; `None` when nothing is written.
    spool: Option<Spool>,
    problems: Mutex<Kept>,
    skipped: Mutex<Kept>,
    /// Set-id bits and capabilities that policy cleared.
    pub(crate) cleared: AtomicU64,
    /// Files whose owner could not be kept.
    pub(crate) owners_not_kept: AtomicU64,
    /// Files that were not read with O_DIRECT.
    pub(crate) buffered_reads: AtomicU64,
    /// The kinds of all problems, each once: they decide the exit code.
    kinds: Mutex<HashSet<ErrorKind>>,
}

#[derive(Debug, Default)]
struct Kept {
    first: Vec<Problem>,
    count: u64,
}

impl Kept {
    fn push(&mut self, problem: Problem) {
        self.count += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push(problem);
        }
    }
}

/// Returns a path as reports show it: lossy text, and the exact bytes when the text is not exact.
pub(crate) fn shown(path: &[u8]) -> (String, Option<String>) {
    if let Ok(text) = std::str::from_utf8(path) {
        return (text.to_owned(), None);
    }
    let hex = path.iter().fold(String::new(), |mut hex, byte| {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
        }
        hex
    });
    (String::from_utf8_lossy(path).into_owned(), Some(hex))
}

fn problem(path: &Path, kind: &str, reason: String) -> Problem {
    let (path, path_hex) = shown(path.as_os_str().as_bytes());
    Problem {
        path,
        path_hex,
        kind: kind.to_owned(),
        reason,
        unreadable: None,
    }
}

/// Returns a failure as reports list it.
pub(crate) fn problem_of(error: &Error) -> Problem {
    problem(error.path(), error.kind().word(), error.reason())
}

impl Outcomes {
    pub(crate) fn new(session: Session, telemetry: Arc<Telemetry>, spool: Option<Spool>) -> Self {
        Self {
            session,
            telemetry,
            lanes: Vec::new(),
            of_run: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            spool,
            problems: Mutex::default(),
            skipped: Mutex::default(),
            cleared: AtomicU64::new(0),
            owners_not_kept: AtomicU64::new(0),
            buffered_reads: AtomicU64::new(0),
            kinds: Mutex::default(),
        }
    }

    /// Says which lane each SOURCE is read by, in the order of the SOURCEs.
    #[must_use]
    pub(crate) fn with_lanes(self, lanes: Vec<usize>) -> Self {
        Self { lanes, ..self }
    }

    /// Returns the lane of a SOURCE.
    pub(crate) fn lane_of(&self, source: usize) -> usize {
        self.lanes.get(source).copied().unwrap_or(0)
    }

    /// Returns the counters of all lanes.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Returns the counters of a lane.
    pub(crate) fn lane(&self, lane: usize) -> Option<&LaneCounters> {
        self.telemetry.lanes.get(lane).map(|view| &view.counters)
    }

    /// Notes a problem that is not about one file's bytes.
    pub(crate) fn problem(&self, lane: usize, error: &Error) {
        self.record(Some(lane), error, error.path(), 0, None);
    }

    /// Notes a problem that is no drive's in particular: none can be called safe then.
    pub(crate) fn problem_of_run(&self, error: &Error) {
        self.of_run.fetch_add(1, Relaxed);
        self.record(None, error, error.path(), 0, None);
    }

    /// Returns whether there is such a problem.
    pub(crate) fn has_problem_of_run(&self) -> bool {
        self.of_run.load(Relaxed) > 0
    }

    /// Notes what ended the run before everything was copied. It is no drive's problem: their verdicts
    /// say that they are not done.
    pub(crate) fn of_end(&self, error: &Error) {
        self.record(None, error, error.path(), 0, None);
    }

    /// Notes what was not done to prove that files are right. It is no drive's problem: the verdict
    /// on each drive says what is not proved of its files.
    pub(crate) fn unverified(&self, error: &Error) {
        self.record(None, error, error.path(), 0, None);
    }

    /// Notes a source that was left out of the run: no lane has it.
    pub(crate) fn source_left_out(&self, error: &Error) {
        self.record(None, error, error.path(), 0, None);
    }

    /// Notes that an entry was not copied, and why. The path shown is the source's.
    pub(crate) fn entry_failed(
        &self,
        lane: usize,
        entry: &Entry,
        error: &Error,
        unreadable: Option<Unreadable>,
    ) {
        let (path, size) = (entry.display_path(), entry.stamp.size);
        self.record(Some(lane), error, &path, size, unreadable);
    }

    fn record(
        &self,
        lane: Option<usize>,
        error: &Error,
        path: &Path,
        bytes: u64,
        unreadable: Option<Unreadable>,
    ) {
        if self.is_over.load(Relaxed) {
            return;
        }
        self.kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(error.kind());
        if let Some(counters) = lane.and_then(|lane| self.lane(lane)) {
            counters.problems.fetch_add(1, Relaxed);
            counters.bytes_failed.fetch_add(bytes, Relaxed);
        }
        let mut reason = error.reason();
        if error.path() != path {
            reason = format!("{reason} ({})", error.path().display());
        }
        let mut problem = problem(path, error.kind().word(), reason);
        problem.unreadable = unreadable;
        if let Some(spool) = &self.spool {
            spool.push(problem.clone());
        }
        self.session.observer.problem(&problem);
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }

    /// Notes something left out on purpose.
    pub(crate) fn skipped(&self, path: &Path, kind: &str, why: &str) {
        if self.is_over.load(Relaxed) {
            return;
        }
        let skipped = problem(path, kind, why.to_owned());
        self.session.observer.skipped(&skipped);
        self.skipped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(skipped);
    }

    /// Notes what reading the metadata of an entry brought up.
    pub(crate) fn attributes_read(&self, lane: usize, entry: &Entry, read: &ReadOutcome) {
        self.cleared.fetch_add(u64::from(read.cleared), Relaxed);
        if let Some(errno) = read.problem {
            let what = "copied, but its extended attributes could not be read";
            let path = entry.display_path();
            let error = Error::new(ErrorKind::Metadata, Side::Source, &path, what).because(errno);
            self.record(Some(lane), &error, &path, 0, None);
        }
    }

    /// Notes what of the metadata could not be set. The bytes are there all the same.
    pub(crate) fn applied(&self, lane: usize, path: &Path, applied: &Applied) {
        if !applied.owner_kept {
            self.owners_not_kept.fetch_add(1, Relaxed);
        }
        self.cleared.fetch_add(u64::from(applied.cleared), Relaxed);
        for loss in &applied.losses {
            let error = Error::new(
                ErrorKind::Metadata,
                Side::Target,
                path,
                &format!("copied, but without its {}", loss.what),
            )
            .because(loss.errno);
            self.record(Some(lane), &error, path, 0, None);
        }
    }

    /// Returns the kinds of all problems.
    pub(crate) fn kinds(&self) -> Vec<ErrorKind> {
        self.kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }

    /// Returns whether names were taken already, be they skipped, refused or overwritten.
    pub(crate) fn met_existing(&self) -> bool {
        let skipped = |lane: &Arc<LaneView>| lane.counters.files_skipped.load(Relaxed) > 0;
        self.telemetry.lanes.iter().any(skipped) || self.kinds().contains(&ErrorKind::TargetExists)
    }

    /// Ends it: nothing is told or written any more, whoever was left behind and wakes up.
    pub(crate) fn close(&self) {
        self.is_over.store(true, Relaxed);
        if let Some(spool) = &self.spool {
            spool.close();
        }
    }

    /// Makes the complete list durable, and final.
    ///
    /// # Errors
    /// When the list is incomplete: then the report and the counts are all there is.
    pub(crate) fn finish_spool(&self) -> Result<(), Error> {
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        spool.close();
        spool.finish()
    }

    /// Returns the first problems and how many there are.
    pub(crate) fn problems(&self) -> (Vec<Problem>, u64) {
        let kept = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.first.clone(), kept.count)
    }

    /// Returns the first things left out, and how many there are.
    pub(crate) fn left_out(&self) -> (Vec<Problem>, u64) {
        let kept = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.first.clone(), kept.count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::session::Silent;
    use crate::manifest::PROBLEMS_FILE;

    #[test]
    fn who_was_left_behind_by_a_run_tells_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let session = Session {
            stop: Arc::new(AtomicBool::new(false)),
            observer: Arc::new(Silent),
        };
        let spool = Spool::new(File::open(dir.path()).unwrap().into(), PROBLEMS_FILE);
        let telemetry = Arc::new(Telemetry::new(Vec::new()));
        let outcomes = Outcomes::new(session, telemetry, Some(spool));
        let error = Error::new(ErrorKind::SourceRead, Side::Source, "late", "read");
        outcomes.close();
        outcomes.problem(0, &error);
        outcomes.problem_of_run(&error);
        outcomes.skipped(Path::new("late"), "special", "why");
        assert_eq!(outcomes.problems(), (Vec::new(), 0));
        assert_eq!(outcomes.left_out(), (Vec::new(), 0));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
