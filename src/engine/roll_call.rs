//! The roll call: does every source answer, before anything is asked of it that could not be left?
//!
//! What a job needs to know of its sources before it begins is asked on one thread, one after the
//! other. A drive that hangs there would hold up all the others, so each source is first looked at on
//! a thread of its own, and one that does not answer, or whose drive fails, is left out of this run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use rustix::io::Errno;

use super::left_out::{LeftOut, On};
use super::mounted::Mounted;
use super::report::HealthChange;
use super::session::Session;
use super::telemetry::Health;
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{self, Trail};
use crate::topology::Topology;

/// How late a stop is noticed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// When we were away ourselves for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);

/// The time that somebody was waited for. What we were away ourselves, suspended for example, is not in it.
#[derive(Debug)]
pub(super) struct Waited {
    sum: Duration,
    last: Instant,
}

impl Waited {
    pub(super) fn new() -> Self {
        Self {
            sum: Duration::ZERO,
            last: Instant::now(),
        }
    }

    /// Adds the time since the last look, and returns whether all of it is within a limit.
    pub(super) fn is_within(&mut self, limit: Option<Duration>) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.last);
        self.last = now;
        if passed < GAP {
            self.sum += passed;
        }
        limit.is_none_or(|limit| self.sum < limit)
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// The sources that answer, even if they cannot be opened as they were typed: in their order.
    pub(super) here: Vec<PathBuf>,
    /// The others, in theirs.
    pub(super) silent: Vec<LeftOut>,
    /// What is mounted where each of them all is, as far as that is known.
    pub(super) mounted: HashMap<PathBuf, Mounted>,
}

impl RollCall {
    /// Takes out what there is to report of a source, if it is not here.
    pub(super) fn take_silent(&mut self, path: &Path) -> Option<LeftOut> {
        let at = self.silent.iter().position(|it| it.path() == path)?;
        Some(self.silent.remove(at))
    }
}

/// Asks every source, and fails when none of them can be used.
///
/// # Errors
/// As [`ask_all`]; `Refused`, which names all of them.
pub(super) fn roll_call(
    sources: &[PathBuf],
    limit: Option<Duration>,
    session: &Session,
) -> Result<RollCall, Error> {
    let call = ask_all(sources, limit, session)?;
    match call.silent.first() {
        Some(first) if call.here.is_empty() => {
            let what = format!("no source can be read: {}", reasons(&call.silent));
            let (kind, side) = (ErrorKind::Refused, Side::Source);
            Err(Error::new(kind, side, first.path(), &what))
        }
        _ => Ok(call),
    }
}

/// Returns what is said of sources that are left out, in one line.
pub(super) fn reasons(left_out: &[LeftOut]) -> String {
    let each = left_out.iter().map(|it| it.error.to_string());
    each.collect::<Vec<_>>().join("; ")
}

/// Asks every source, all at once, and waits for their answers for as long as `limit`; without one,
/// until there are answers.
///
/// # Errors
/// `Stopped`; when the mount table cannot be read.
pub(super) fn ask_all(
    sources: &[PathBuf],
    limit: Option<Duration>,
    session: &Session,
) -> Result<RollCall, Error> {
    let answers = ask(sources, limit, session, plan::touch)?;
    // Read now: what was to be mounted when it is entered is mounted.
    let topology = Topology::live()?;
    let mut call = RollCall::default();
    for (path, (answer, trail)) in sources.iter().zip(answers) {
        if let Some(mounted) = Mounted::at(&topology, &trail) {
            call.mounted.insert(path.clone(), mounted);
        }
        let (why, health) = match answer {
            Answer::Here => {
                call.here.push(path.clone());
                continue;
            }
            Answer::Failed(_) => ("its drive failed".to_owned(), Health::Gone),
            Answer::None => {
                let seconds = limit.unwrap_or_default().as_secs_f64();
                (format!("no answer for {seconds} s"), Health::Quarantined)
            }
        };
        let what = format!(
            "{why} when it was looked at, so it is left out of this run (check cable and power, \
             reconnect the drive, run again)"
        );
        session.observer.health(&HealthChange {
            drive: path.to_string_lossy().into_owned(),
            sources: vec![path.to_string_lossy().into_owned()],
            health: health.word().to_owned(),
            reason: what.clone(),
        });
        call.silent.push(LeftOut {
            error: match answer {
                Answer::Failed(errno) => Error::source(path, &what, errno),
                _ => Error::new(ErrorKind::SourceStalled, Side::Source, path, &what),
            },
            on: On::at(&topology, &trail),
        });
    }
    Ok(call)
}

/// Returns those of these places that do not answer in time.
///
/// # Errors
/// `Stopped`.
pub(super) fn who_hangs(
    places: &[PathBuf],
    limit: Option<Duration>,
    session: &Session,
) -> Result<Vec<PathBuf>, Error> {
    let answers = ask(places, limit, session, plan::touch)?;
    let silent = places.iter().zip(answers);
    let silent = silent.filter(|(_, (answer, _))| *answer == Answer::None);
    Ok(silent.map(|(place, _)| place.clone()).collect())
}

/// What a source answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Here,
    /// Its drive fails, and answers this.
    Failed(Errno),
    /// Nothing, in time.
    None,
}

type Touch = fn(&Path, &dyn Fn(&Trail)) -> Result<(), Errno>;

/// Returns what each of the sources answers, and how far that came.
fn ask(
    sources: &[PathBuf],
    limit: Option<Duration>,
    session: &Session,
    touch: Touch,
) -> Result<Vec<(Answer, Trail)>, Error> {
    let (answered, answers) = bounded(sources.len());
    let mut open: Vec<usize> = Vec::new();
    let mut all = Vec::new();
    for (number, path) in sources.iter().enumerate() {
        let trail: Arc<Mutex<Trail>> = Arc::default();
        let (path, answered, on_way) = (path.clone(), answered.clone(), Arc::clone(&trail));
        let thread = std::thread::Builder::new().name(format!("call-{number}"));
        let asked = thread.spawn(move || {
            let told = |trail: &Trail| {
                let mut on_way = on_way.lock().unwrap_or_else(PoisonError::into_inner);
                on_way.clone_from(trail);
            };
            let answer = touch(&path, &told);
            // Nobody waits any more if it came too late.
            let _late = answered.send((number, answer));
        });
        // Where no thread can be had, it is asked when its turn comes.
        if asked.is_ok() {
            open.push(number);
        }
        all.push((Answer::Here, trail));
    }
    let mut waited = Waited::new();
    while !open.is_empty() && waited.is_within(limit) {
        let answer = answers.recv_timeout(limit.map_or(TICK, |limit| TICK.min(limit)));
        if let Ok((number, answer)) = answer {
            open.retain(|other| *other != number);
            if let (Err(errno), Some((slot, _))) = (answer, all.get_mut(number)) {
                *slot = Answer::Failed(errno);
            }
        } else if session.stopped() {
            // (Where all answer at once, the run itself stops in order, and says how far it came.)
            let what = "stopped before the sources had answered";
            let path = open.first().and_then(|&number| sources.get(number));
            let path = path.map_or(Path::new(""), PathBuf::as_path);
            return Err(Error::new(ErrorKind::Stopped, Side::Source, path, what));
        }
    }
    for number in open {
        if let Some((slot, _)) = all.get_mut(number) {
            *slot = Answer::None;
        }
    }
    let each = all.into_iter().map(|(answer, trail)| {
        let trail = trail.lock().unwrap_or_else(PoisonError::into_inner);
        (answer, trail.clone())
    });
    Ok(each.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::engine::Silent;

    fn touch(path: &Path, told: &dyn Fn(&Trail)) -> Result<(), Errno> {
        told(&Trail {
            at: path.to_owned(),
            ..Trail::default()
        });
        while path.starts_with("/hung") {
            std::thread::park();
        }
        if path.starts_with("/dead") {
            return Err(Errno::IO);
        }
        Ok(())
    }

    fn session() -> Session {
        Session {
            stop: Arc::default(),
            observer: Arc::new(Silent),
        }
    }

    /// Returns what is answered, and that each says where it was asked.
    fn answers(sources: &[PathBuf], limit: Option<Duration>) -> Vec<Answer> {
        let answers = ask(sources, limit, &session(), touch).unwrap();
        let (answers, trails): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let at: Vec<PathBuf> = trails.into_iter().map(|trail| trail.at).collect();
        assert_eq!(at, sources);
        answers
    }

    #[test]
    fn who_does_not_answer_is_left_out_and_holds_up_nobody() {
        use Answer::{Failed, Here};
        let sources = ["/a", "/hung/b", "/c", "/hung/d"].map(PathBuf::from);
        let limit = Some(Duration::from_millis(200));
        let silent = answers(&sources, limit);
        assert_eq!(silent, [Here, Answer::None, Here, Answer::None]);
        let sources = ["/dead/a", "/hung/b", "/c"].map(PathBuf::from);
        let failing = answers(&sources, limit);
        assert_eq!(failing, [Failed(Errno::IO), Answer::None, Here]);
        // Nobody hangs, so nobody is waited for.
        let limit = Some(Duration::from_secs(3600));
        assert_eq!(answers(&sources[2..], limit), [Here]);
    }

    #[test]
    fn without_a_limit_who_fails_is_left_out_all_the_same() {
        let sources = ["/a", "/dead/b"].map(PathBuf::from);
        let failed = Answer::Failed(Errno::IO);
        assert_eq!(answers(&sources, None), [Answer::Here, failed]);
    }

    #[test]
    fn a_stop_is_heard_while_a_source_hangs() {
        let session = session();
        session.stop.store(true, Relaxed);
        let sources = [PathBuf::from("/hung")];
        for limit in [Some(Duration::from_secs(3600)), None] {
            let error = ask(&sources, limit, &session, touch).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Stopped);
        }
    }
}
