//! The roll call: does every source answer, before anything is asked of it that could not be left?
//!
//! What a job needs to know of its sources before it begins is asked on one thread, one after the
//! other. A drive that hangs there would hold up all the others, so each source is first looked at on
//! a thread of its own, and one that does not answer, or whose drive fails, is left out of this run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use rustix::io::Errno;

use super::report::HealthChange;
use super::session::Session;
use super::telemetry::Health;
use crate::error::{Error, ErrorKind, Side};
use crate::plan;

/// How late a stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// When we were away ourselves for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    /// The sources that answer, even if they cannot be opened as they were typed: in their order.
    pub(super) here: Vec<PathBuf>,
    /// What to report of the others.
    pub(super) silent: Vec<Error>,
}

/// Asks every source, all at once, and waits for their answers for as long as `limit`; without one
/// they are all taken for here.
///
/// # Errors
/// `SourceStalled`, `SourceLost` or `SourceRead` when none of them can be used; `Stopped`.
pub(super) fn roll_call(
    sources: &[PathBuf],
    limit: Option<Duration>,
    session: &Session,
) -> Result<RollCall, Error> {
    let mut call = RollCall {
        here: sources.to_vec(),
        silent: Vec::new(),
    };
    let Some(limit) = limit else {
        return Ok(call);
    };
    let silent = who_is_silent(sources, limit, session, plan::touch)?;
    let mut number = 0;
    call.here.retain(|_| {
        number += 1;
        silent.iter().all(|(other, _)| *other != number - 1)
    });
    for (number, answer) in silent {
        let Some(path) = sources.get(number) else {
            continue;
        };
        let why = match answer {
            None => format!("no answer for {} s", limit.as_secs_f64()),
            Some(_) => "its drive failed".to_owned(),
        };
        let what = format!(
            "{why} when it was looked at, so it is left out of this run (check cable and power, \
             reconnect the drive, run again)"
        );
        session.observer.health(&HealthChange {
            drive: path.to_string_lossy().into_owned(),
            sources: vec![path.to_string_lossy().into_owned()],
            health: match answer {
                None => Health::Quarantined.word().to_owned(),
                Some(_) => Health::Gone.word().to_owned(),
            },
            reason: what.clone(),
        });
        call.silent.push(match answer {
            None => Error::new(ErrorKind::SourceStalled, Side::Source, path, &what),
            Some(errno) => Error::source(path, &what, errno),
        });
    }
    if call.here.is_empty() && !call.silent.is_empty() {
        return Err(call.silent.remove(0));
    }
    Ok(call)
}

/// Returns which of the sources do not answer in time, by their places, and whose drives fail, with what
/// they answer.
fn who_is_silent(
    sources: &[PathBuf],
    limit: Duration,
    session: &Session,
    touch: fn(&Path) -> Result<(), Errno>,
) -> Result<Vec<(usize, Option<Errno>)>, Error> {
    let (answered, answers) = bounded(sources.len());
    let mut open: Vec<usize> = Vec::new();
    let mut failed = Vec::new();
    for (number, path) in sources.iter().enumerate() {
        let (path, answered) = (path.clone(), answered.clone());
        let thread = std::thread::Builder::new().name(format!("call-{number}"));
        let asked = thread.spawn(move || {
            let answer = touch(&path);
            // Nobody waits any more if it came too late.
            let _late = answered.send((number, answer));
        });
        // Where no thread can be had, it is asked when its turn comes.
        if asked.is_ok() {
            open.push(number);
        }
    }
    let (mut waited, mut last) = (Duration::ZERO, Instant::now());
    while !open.is_empty() && waited < limit {
        let answer = answers.recv_timeout(TICK.min(limit));
        if let Ok((number, answer)) = answer {
            open.retain(|other| *other != number);
            failed.extend(answer.err().map(|errno| (number, Some(errno))));
        } else if session.stopped() {
            // (Where all answer at once, the run itself stops in order, and says how far it came.)
            let what = "stopped before the sources had answered";
            let path = open.first().and_then(|&number| sources.get(number));
            let path = path.map_or(Path::new(""), PathBuf::as_path);
            return Err(Error::new(ErrorKind::Stopped, Side::Source, path, what));
        }
        let now = Instant::now();
        let passed = now.duration_since(last);
        last = now;
        if passed < GAP {
            waited += passed;
        }
    }
    failed.extend(open.into_iter().map(|number| (number, None)));
    failed.sort_by_key(|(number, _)| *number);
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::engine::Silent;

    fn touch(path: &Path) -> Result<(), Errno> {
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

    #[test]
    fn who_does_not_answer_is_left_out_and_holds_up_nobody() {
        let sources = ["/a", "/hung/b", "/c", "/hung/d"].map(PathBuf::from);
        let limit = Duration::from_millis(200);
        let silent = who_is_silent(&sources, limit, &session(), touch).unwrap();
        assert_eq!(silent, [(1, None), (3, None)]);
        let sources = ["/dead/a", "/hung/b", "/c"].map(PathBuf::from);
        let failing = who_is_silent(&sources, limit, &session(), touch).unwrap();
        assert_eq!(failing, [(0, Some(Errno::IO)), (1, None)]);
        // Nobody hangs, so nobody is waited for.
        let limit = Duration::from_secs(3600);
        let silent = who_is_silent(&sources[2..], limit, &session(), touch).unwrap();
        assert!(silent.is_empty());
    }

    #[test]
    fn a_stop_is_heard_while_a_source_hangs() {
        let session = session();
        session.stop.store(true, Relaxed);
        let sources = [PathBuf::from("/hung")];
        let limit = Duration::from_secs(3600);
        let error = who_is_silent(&sources, limit, &session, touch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
    }
}
