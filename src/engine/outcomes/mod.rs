//! What did not go as asked: counted, told at once, kept for the report in bounded memory.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kept::{About, Gone, Kept, LeftOut, Noted};
use super::report::{Problem, Unreadable};
use super::session::Session;
use super::telemetry::{LaneCounters, LaneView, Telemetry};
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::{Maps, Spool};
use crate::scan::{Attributes, Entry};
use crate::target::{Applied, Forgone};

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
    /// Maps of what cannot be read; `None` when nothing is written.
    maps: Option<Arc<Maps>>,
    problems: Mutex<Kept>,
    skipped: Mutex<LeftOut>,
    /// Set-id bits and capabilities of files that policy cleared.
    cleared: AtomicU64,
    /// Files whose owner could not be kept.
    owners_not_kept: AtomicU64,
    /// Files that were not read with O_DIRECT.
    pub(crate) buffered_reads: AtomicU64,
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
            maps: None,
            problems: Mutex::default(),
            skipped: Mutex::default(),
            cleared: AtomicU64::new(0),
            owners_not_kept: AtomicU64::new(0),
            buffered_reads: AtomicU64::new(0),
        }
    }

    /// Says which lane each SOURCE is read by, in the order of the SOURCEs.
    #[must_use]
    pub(crate) fn with_lanes(self, lanes: Vec<usize>) -> Self {
        Self { lanes, ..self }
    }

    /// Says where it is written down what cannot be read.
    #[must_use]
    pub(crate) fn with_maps(self, maps: Arc<Maps>) -> Self {
        let maps = Some(maps);
        Self { maps, ..self }
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
        self.record(Some(lane), error, error.path(), 0, About::Lasting);
    }

    /// Notes a problem with a folder of a drive: it is listed anew when that is lost and put back.
    pub(crate) fn problem_of_folder(&self, lane: usize, error: &Error) {
        self.record(Some(lane), error, error.path(), 0, About::Asked(None));
    }

    /// Notes a problem that is no drive's in particular: none can be called safe then.
    pub(crate) fn problem_of_run(&self, error: &Error) {
        self.of_run.fetch_add(1, Relaxed);
        self.record(None, error, error.path(), 0, About::Lasting);
    }

    /// Returns whether there is such a problem.
    pub(crate) fn has_problem_of_run(&self) -> bool {
        self.of_run.load(Relaxed) > 0
    }

    /// Notes what ended the run before everything was copied. It is no drive's problem: their verdicts
    /// say that they are not done.
    pub(crate) fn of_end(&self, error: &Error) {
        self.record(None, error, error.path(), 0, About::Lasting);
    }

    /// Notes what was not done to prove that files are right. It is no drive's problem: the verdict
    /// on each drive says what is not proved of its files.
    pub(crate) fn unverified(&self, error: &Error) {
        self.record(None, error, error.path(), 0, About::Lasting);
    }

    /// Notes a source that was left out of the run. No lane has it, but it speaks against those of the
    /// drives that it may be on: these, or when that cannot be told, all.
    pub(crate) fn source_left_out(&self, error: &Error, may_be_on: Option<&[usize]>) {
        let Some(lanes) = may_be_on else {
            return self.problem_of_run(error);
        };
        self.record(None, error, error.path(), 0, About::Lasting);
        for counters in lanes.iter().filter_map(|&lane| self.lane(lane)) {
            counters.problems.fetch_add(1, Relaxed);
        }
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
        let about = match error.side() {
            // What was copied and could not be listed is not asked for a second time.
            Side::Record => About::Lasting,
            Side::Source | Side::Target => About::Asked(Some(entry.target_path())),
        };
        let problem = Self::told(error, &path, unreadable);
        self.keep(Some(lane), error.kind(), problem, size, about);
    }

    /// Notes one more problem with a file that was not copied.
    pub(crate) fn problem_of_file(&self, lane: usize, entry: &Entry, error: &Error) {
        let about = About::Asked(Some(entry.target_path()));
        self.record(Some(lane), error, error.path(), 0, about);
    }

    fn record(&self, lane: Option<usize>, error: &Error, path: &Path, bytes: u64, about: About) {
        let problem = Self::told(error, path, None);
        self.keep(lane, error.kind(), problem, bytes, about);
    }

    fn told(error: &Error, path: &Path, unreadable: Option<Unreadable>) -> Problem {
        let mut reason = error.reason();
        if error.path() != path {
            reason = format!("{reason} ({})", error.path().display());
        }
        let mut problem = problem(path, error.kind().word(), reason);
        problem.unreadable = unreadable;
        problem
    }

    fn keep(
        &self,
        lane: Option<usize>,
        kind: ErrorKind,
        problem: Problem,
        bytes: u64,
        about: About,
    ) {
        if self.is_over.load(Relaxed) {
            return;
        }
        if let Some(counters) = lane.and_then(|lane| self.lane(lane)) {
            counters.problems.fetch_add(1, Relaxed);
            counters.bytes_failed.fetch_add(bytes, Relaxed);
        }
        let line = match &self.spool {
            Some(spool) => spool.push(problem.clone()),
            None => 0,
        };
        self.session.observer.problem(&problem);
        let gone = self.problems().push(Noted {
            lane,
            about,
            kind,
            bytes,
            line,
            problem,
        });
        if let Some(lane) = lane {
            self.forget(lane, &gone);
        }
    }

    fn problems(&self) -> MutexGuard<'_, Kept> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts problems of a lane that hold no longer as what they are: none.
    fn forget(&self, lane: usize, gone: &Gone) {
        if let Some(counters) = self.lane(lane) {
            counters.problems.fetch_sub(gone.count, Relaxed);
            counters.bytes_failed.fetch_sub(gone.bytes, Relaxed);
        }
        for map in &gone.maps {
            if let Some(maps) = &self.maps {
                maps.take_back(map);
            }
        }
    }

    /// Notes that the drive of a lane was put back, and that the lane begins anew.
    pub(crate) fn begins_again(&self, lane: usize) {
        self.problems().begins_again(lane);
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.begins_again(lane);
    }

    /// Returns whether the drive of a lane did not give something since it was put back last.
    pub(crate) fn gave_not_all(&self, lane: usize) -> bool {
        self.problems().gave_not_all(lane)
    }

    /// Notes that a lane is through with everything on its drive. What was said of its folders before the
    /// drive was put back holds no longer.
    pub(crate) fn went_through(&self, lane: usize) {
        let gone = self.problems().went_through(lane);
        self.took_back(lane, &gone);
    }

    fn took_back(&self, lane: usize, gone: &Gone) {
        self.forget(lane, gone);
        if gone.count > 0 {
            let count = gone.count;
            self.session.observer.note(&format!(
                "{count} of the problems told of hold no longer: their drive was put back, and asked \
                 again"
            ));
        }
    }

    /// Notes that a file of a lane is copied by now.
    pub(crate) fn copied(&self, lane: usize, entry: &Entry) {
        let gone = self.problems().copied(lane, || entry.target_path());
        self.took_back(lane, &gone);
    }

    /// Notes something left out on purpose.
    pub(crate) fn skipped(&self, lane: usize, path: &Path, kind: &str, why: &str) {
        if self.is_over.load(Relaxed) {
            return;
        }
        let skipped = problem(path, kind, why.to_owned());
        self.session.observer.skipped(&skipped);
        let mut left_out = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.push(lane, skipped);
    }

    /// Notes what of the metadata of a file that is there could not be read.
    pub(crate) fn unread(&self, lane: usize, entry: &Entry, attributes: &Attributes) {
        if let Some(errno) = attributes.unread {
            let what = "copied, but its extended attributes could not be read";
            let path = entry.display_path();
            let error = Error::new(ErrorKind::Metadata, Side::Source, &path, what).because(errno);
            let about = About::File(entry.target_path());
            self.record(Some(lane), &error, &path, 0, about);
        }
    }

    /// Notes what of the metadata could not be read or set. The bytes are there all the same.
    pub(crate) fn applied(
        &self,
        lane: usize,
        entry: &Entry,
        attributes: &Attributes,
        applied: &Applied,
    ) {
        self.unread(lane, entry, attributes);
        let about = About::File(entry.target_path());
        self.lacks(lane, &entry.display_path(), applied, &about);
    }

    /// Notes that the attributes of a file that is there were not set again.
    pub(crate) fn not_set_again(&self, lane: usize, entry: &Entry, error: &Error) {
        let about = About::File(entry.target_path());
        self.record(Some(lane), error, error.path(), 0, about);
    }

    /// The same of a folder: its attributes are set anew when its drive is lost and put back.
    pub(crate) fn applied_to_folder(&self, lane: usize, path: &Path, applied: &Applied) {
        self.forgone_anew(lane, applied.forgone(&Attributes::default()));
        self.lacks(lane, path, applied, &About::Asked(None));
    }

    /// Counts what a file does not have that is acknowledged: before that it may be begun again.
    pub(crate) fn forgone(&self, forgone: Forgone) {
        let owner = u64::from(forgone.owner);
        self.owners_not_kept.fetch_add(owner, Relaxed);
        self.cleared.fetch_add(forgone.cleared.into(), Relaxed);
    }

    /// The same of what is asked of its drive anew when that is lost and put back.
    pub(crate) fn forgone_anew(&self, lane: usize, forgone: Forgone) {
        if let Some(counters) = self.lane(lane) {
            let owner = u64::from(forgone.owner);
            counters.owners_anew.fetch_add(owner, Relaxed);
            counters
                .cleared_anew
                .fetch_add(forgone.cleared.into(), Relaxed);
        }
    }

    /// Returns of how many files and folders the owner could not be kept.
    pub(crate) fn owners_not_kept(&self) -> u64 {
        self.owners_not_kept.load(Relaxed) + self.anew(|lane| &lane.owners_anew)
    }

    /// Returns how many set-id bits and capabilities policy cleared.
    pub(crate) fn cleared(&self) -> u64 {
        self.cleared.load(Relaxed) + self.anew(|lane| &lane.cleared_anew)
    }

    fn anew(&self, counter: impl Fn(&LaneCounters) -> &AtomicU64) -> u64 {
        let lanes = self.telemetry.lanes.iter();
        let counts = lanes.map(|lane| counter(&lane.counters).load(Relaxed));
        counts.sum()
    }

    fn lacks(&self, lane: usize, path: &Path, applied: &Applied, about: &About) {
        for loss in &applied.losses {
            let error = Error::new(
                ErrorKind::Metadata,
                Side::Target,
                path,
                &format!("copied, but without its {}", loss.what),
            )
            .because(loss.errno);
            self.record(Some(lane), &error, path, 0, about.clone());
        }
    }

    /// Returns the kinds of all problems, each once: they decide the exit code.
    pub(crate) fn kinds(&self) -> Vec<ErrorKind> {
        self.problems().kinds()
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

    /// Makes the complete list durable and final, without what holds no longer.
    ///
    /// # Errors
    /// When the list is incomplete: then the report and the counts are all there is.
    pub(crate) fn finish_spool(&self) -> Result<(), Error> {
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        spool.close();
        let gone = self.problems().gone().to_vec();
        spool.finish(gone)
    }

    /// Returns the first problems and how many there are.
    pub(crate) fn all_problems(&self) -> (Vec<Problem>, u64) {
        self.problems().problems()
    }

    /// Returns the first things left out, and how many there are.
    pub(crate) fn left_out(&self) -> (Vec<Problem>, u64) {
        let left_out = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.all()
    }
}

#[cfg(test)]
mod tests;
