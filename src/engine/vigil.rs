//! The watch over the target: whoever asks something of it says so, and when one request stays
//! without an answer for `--stall-timeout`, that is told. Of the lane that reads it back its vitals
//! say so.
//!
//! Nothing else is done about it: without the target nothing goes on anyway, and what was asked of it
//! cannot be taken back. When it answers again the run goes on. No source drive is blamed meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::report::HealthChange;
use super::session::Session;
use super::telemetry::Health;
use super::vitals::Vitals;
use crate::error::{Error, ErrorKind, Side};

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(100);
/// How long requests are waited for when the run is over: a second. Who is late is held by a drive.
const CLOSE_TICK: Duration = Duration::from_millis(10);
const CLOSE_TICKS: u32 = 100;
/// When the watch itself was away for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);

/// What is asked of the target at the moment.
#[derive(Debug, Default)]
pub(crate) struct Vigil(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// When each request began, by its number.
    open: BTreeMap<u64, Instant>,
    next: u64,
    /// How the lane fares that reads it back.
    lane: Option<Arc<Vitals>>,
    /// Whether the run is over.
    is_closed: bool,
}

impl Vigil {
    /// Notes that something is to be changed there, until the guard goes.
    ///
    /// # Errors
    /// `Stopped` when the run is over: whoever was left behind by it changes nothing any more.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Asking, Error> {
        let asking = self.ask();
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_closed {
            drop(asked);
            let what = "the run is over";
            return Err(Error::new(ErrorKind::Stopped, Side::Target, "target", what));
        }
        Ok(asking)
    }

    /// Says that the run is over, and waits for a moment until nobody asks anything; returns whether
    /// that is so.
    pub(crate) fn close(&self) -> bool {
        for _ in 0..CLOSE_TICKS {
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            asked.is_closed = true;
            let is_quiet = asked.open.is_empty();
            drop(asked);
            if is_quiet {
                return true;
            }
            std::thread::sleep(CLOSE_TICK);
        }
        false
    }

    /// Notes that something is asked of the target, until the guard goes.
    pub(crate) fn ask(self: &Arc<Self>) -> Asking {
        self.ask_again(Duration::ZERO)
    }

    /// The same for something that was waited for before, for so long, without an answer.
    pub(crate) fn ask_again(self: &Arc<Self>, waited: Duration) -> Asking {
        let now = Instant::now();
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.next += 1;
        let number = asked.next;
        let since = now.checked_sub(waited).unwrap_or(now);
        asked.open.insert(number, since);
        Asking {
            vigil: Arc::clone(self),
            number,
        }
    }

    /// Notes which lane reads it back, if one does.
    pub(super) fn set_lane(&self, lane: Option<Arc<Vitals>>) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.lane = lane;
    }

    /// Returns for how long the oldest request has had no answer.
    fn silence(&self) -> Duration {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = asked.open.values().min();
        let oldest = oldest.map_or(Duration::ZERO, Instant::elapsed);
        let lane = asked.lane.as_ref();
        lane.map_or(oldest, |lane| oldest.max(lane.lane.silence()))
    }

    /// Returns whether anything is asked at the moment.
    #[cfg(test)]
    pub(crate) fn is_asked(&self) -> bool {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !asked.open.is_empty()
    }

    /// Counts from now on: nobody ran for a while, so answers may have been there.
    fn forgive(&self) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        asked.open.values_mut().for_each(|since| *since = now);
        if let Some(lane) = &asked.lane {
            lane.lane.forgive();
        }
    }

    /// Watches the target called `label` until the guard goes; for ever silent is fine without a
    /// `limit`, and where no thread can be had.
    pub(crate) fn keep(
        self: &Arc<Self>,
        label: &Path,
        limit: Option<Duration>,
        session: &Session,
    ) -> Kept {
        let over = Arc::new(AtomicBool::new(false));
        let mut kept = Kept {
            over: Arc::clone(&over),
            thread: None,
        };
        let Some(limit) = limit else {
            return kept;
        };
        let (vigil, session) = (Arc::clone(self), session.clone());
        let label = label.to_string_lossy().into_owned();
        let watch = std::thread::Builder::new().name("target-watch".to_owned());
        let started = watch.spawn(move || {
            let tell = |health: Health, reason: String| {
                session.observer.health(&HealthChange {
                    drive: "target".to_owned(),
                    sources: vec![label.clone()],
                    health: health.word().to_owned(),
                    reason,
                });
            };
            let mut is_silent = false;
            let mut last = Instant::now();
            let mut is_over = false;
            while !is_over {
                std::thread::park_timeout(TICK);
                // One last look, so that a silence that was told of does not stand for the end.
                is_over = over.load(Relaxed);
                if last.elapsed() > GAP {
                    vigil.forgive();
                }
                last = Instant::now();
                let silence = vigil.silence();
                let was_silent = std::mem::replace(&mut is_silent, silence >= limit);
                if is_silent && !was_silent {
                    let seconds = silence.as_secs();
                    let what = format!(
                        "no answer to a request for {seconds} s; it is waited for, nothing is \
                         lost (Ctrl-C twice ends at once; run again to go on)"
                    );
                    tell(Health::Suspect, what);
                } else if was_silent && !is_silent {
                    tell(Health::Ok, "it answers again".to_owned());
                }
            }
        });
        // Without this thread all goes on, and says less.
        kept.thread = started.ok();
        kept
    }
}

/// While it lives, something is asked of the target.
#[derive(Debug)]
pub(crate) struct Asking {
    vigil: Arc<Vigil>,
    number: u64,
}

impl Asking {
    /// Notes that there was an answer: what is asked from now on is counted anew.
    pub(crate) fn renew(&self) {
        let mut asked = self.vigil.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.open.insert(self.number, Instant::now());
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut asked = self.vigil.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.open.remove(&self.number);
    }
}

/// While it lives, the target is watched. It goes when all answers of the target are there.
#[derive(Debug)]
pub(crate) struct Kept {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only tells, and a bug in that is no bug of the copy.
            let _told = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_request_counts_until_it_is_answered() {
        let vigil = Arc::new(Vigil::default());
        assert_eq!(vigil.silence(), Duration::ZERO);
        let old = vigil.ask();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        vigil.0.lock().unwrap().open.insert(old.number, long_ago);
        let new = vigil.ask();
        assert!(vigil.silence() >= Duration::from_secs(5));
        vigil.forgive();
        assert!(vigil.silence() < Duration::from_secs(5));
        vigil.0.lock().unwrap().open.insert(old.number, long_ago);
        old.renew();
        assert!(vigil.silence() < Duration::from_secs(5));
        vigil.0.lock().unwrap().open.insert(old.number, long_ago);
        drop(old);
        assert!(vigil.silence() < Duration::from_secs(5));
        drop(new);
        assert_eq!(vigil.silence(), Duration::ZERO);
    }
}
