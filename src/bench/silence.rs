//! How long a drive may say nothing, and calls that it may hold for ever.
//!
//! The kernel cannot take back what a drive was asked, so nobody who is to go on may wait for it. What
//! waits is a thread of its own ([`ask`], and that of a `Loader`), and whoever wants the answer stops
//! waiting when there is none for the limit, or soon after a stop. Such a thread is left where it is,
//! with all that it holds.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::sample::Ties;
use crate::error::{Error, ErrorKind, Side};

/// Longest sleep: how late a stop is noticed.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// When we were away ourselves for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);
/// How long a drive may say nothing after a stop. A bench has nothing to make durable: what was asked
/// may as well never be answered.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Bytes a second at which a drive must take what a sync waits for: a slow USB stick writes as fast.
const SYNC_RATE_MIN: u64 = 5_000_000;

/// The time since the last answer.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Option<Duration>,
    looked: Instant,
    lasted: Duration,
}

impl Silence {
    /// Begins now; without a limit only a stop ends it.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            looked: Instant::now(),
            lasted: Duration::ZERO,
        }
    }

    /// Notes an answer.
    pub(crate) fn answered(&mut self) {
        self.lasted = Duration::ZERO;
        self.looked = Instant::now();
    }

    /// From now on lasts no longer than this.
    pub(crate) fn limit_to(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    /// Looks at the clock, which has to be done every [`TICK`]; returns whether nothing more is to be
    /// waited for.
    pub(crate) fn is_too_long(&mut self, stopped: bool) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.looked);
        self.looked = now;
        self.pass(passed, stopped)
    }

    fn pass(&mut self, passed: Duration, stopped: bool) -> bool {
        if passed < GAP {
            self.lasted += passed;
        }
        self.is_at_limit() || stopped && self.lasted >= STOP_GRACE
    }

    fn is_at_limit(&self) -> bool {
        self.limit.is_some_and(|limit| self.lasted >= limit)
    }
}

/// Returns that the drive of a side does not answer; that it was stopped, when its time was not up: a
/// drive may take longer than anybody waits after a stop. Has `ties` know that nothing of it may be
/// waited for.
pub(crate) fn stalled(side: Side, label: &Path, silence: &Silence, ties: &Ties) -> Error {
    ties.silent.store(true, Relaxed);
    if !silence.is_at_limit() {
        let what = "stopped before it had answered";
        return Error::new(ErrorKind::Stopped, side, label, what);
    }
    let what = format!(
        "it does not answer: nothing came for {} s (check cable and power; a thread that waits for it \
         may keep this process from ending until it does)",
        silence.lasted.as_secs()
    );
    Error::new(ErrorKind::SourceStalled, side, label, &what)
}

/// Returns how long a call may take that makes `bytes` durable, which gives no sign of life meanwhile.
pub(crate) fn sync_limit(stall: Option<Duration>, bytes: u64) -> Option<Duration> {
    stall.map(|stall| stall + Duration::from_secs(bytes / SYNC_RATE_MIN))
}

/// Makes a call on a thread of its own and returns what it gives. It is given ties to say by that its
/// drive answers.
///
/// # Errors
/// `SourceStalled` when nothing comes from it for `limit`; `Stopped` when nothing came soon after a
/// stop, which says nothing of the drive; `Unsupported` when no thread can be had; `Panic`.
pub(crate) fn ask<T: Send + 'static>(
    label: &Path,
    limit: Option<Duration>,
    ties: &Ties,
    call: impl FnOnce(&Ties) -> T + Send + 'static,
) -> Result<T, Error> {
    let own = ties.own();
    let asked = own.clone();
    let (sender, answers) = bounded(1);
    let thread = std::thread::Builder::new().name("ask".to_owned());
    let started = thread.spawn(move || {
        // Nobody waits any more if it came too late.
        let _late = sender.send(call(&asked));
    });
    started.map_err(|source| no_thread(&source))?;
    wait(&answers, label, &mut Silence::new(limit), &own)
}

pub(crate) fn no_thread(source: &std::io::Error) -> Error {
    let what = "start a thread";
    let error = Error::new(ErrorKind::Unsupported, Side::Record, "threads", what);
    error.because(std::io::Error::from(source.kind()))
}

/// Waits for the answer of another thread, as long as that says that its drive answers.
///
/// # Errors
/// `SourceStalled` when nothing comes for as long as `silence` may last; `Stopped` when nothing came
/// soon after a stop; `Panic`.
pub(crate) fn wait<T>(
    answers: &Receiver<T>,
    label: &Path,
    silence: &mut Silence,
    ties: &Ties,
) -> Result<T, Error> {
    let beats = |beats: &AtomicU64| beats.load(Relaxed);
    let mut seen = beats(&ties.beats);
    loop {
        match answers.recv_timeout(TICK) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => {
                let what = "a bug in inhaul ended the thread that measured it";
                return Err(Error::new(ErrorKind::Panic, Side::Source, label, what));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = beats(&ties.beats);
        if now != seen {
            seen = now;
            silence.answered();
        }
        if silence.is_too_long(ties.stopped()) {
            return Err(stalled(Side::Source, label, silence, ties));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn passes(silence: &mut Silence, count: u32, stopped: bool) -> bool {
        (0..count).any(|_| silence.pass(TENTH, stopped))
    }

    #[test]
    fn silence_ends_at_its_limit_and_soon_after_a_stop() {
        let limit = Some(Duration::from_secs(30));
        let mut silence = Silence::new(limit);
        assert!(!passes(&mut silence, 299, false));
        assert!(passes(&mut silence, 1, false));
        silence.answered();
        assert!(!passes(&mut silence, 299, false), "it answered");
        silence.answered();
        assert!(!passes(&mut silence, 19, true));
        assert!(passes(&mut silence, 1, true), "after a stop");
        let mut silence = Silence::new(None);
        assert!(!passes(&mut silence, 100_000, false), "for ever");
        assert!(passes(&mut silence, 1, true), "but for a stop");
    }

    #[test]
    fn time_in_which_nobody_ran_is_no_silence() {
        let mut silence = Silence::new(Some(Duration::from_secs(30)));
        assert!(!silence.pass(Duration::from_secs(3600), false));
        assert!(!passes(&mut silence, 299, false));
    }

    #[test]
    fn a_sync_may_take_as_long_as_a_slow_drive_needs() {
        let stall = Some(Duration::from_secs(30));
        assert_eq!(sync_limit(stall, 0), stall);
        assert_eq!(
            sync_limit(stall, 1_000_000_000),
            Some(Duration::from_secs(230))
        );
        assert_eq!(sync_limit(None, 1 << 40), None);
    }

    #[test]
    fn a_call_that_is_held_keeps_nobody() {
        let ties = Ties::default();
        let label = Path::new("/mnt/d1");
        let asked = ask(label, Some(TENTH * 2), &ties, |_| {
            loop {
                std::thread::park();
            }
        });
        let error = asked.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceStalled);
        assert!(error.to_string().starts_with("/mnt/d1: it does not answer"));
        assert!(ties.silent.load(Relaxed));
        assert_eq!(ask(label, Some(TENTH), &ties, |_| 7).unwrap(), 7);
        ties.stop.store(true, Relaxed);
        let mut silence = Silence::new(Some(TENTH * 40));
        assert!(passes(&mut silence, 20, true));
        let error = stalled(Side::Target, label, &silence, &ties);
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::Stopped, Side::Target)
        );
        let panicked = ask(label, None, &ties, |_| panic!("on purpose"));
        let error = panicked.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
    }
}
