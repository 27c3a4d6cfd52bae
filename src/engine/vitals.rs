//! How a drive fares: whether it answers, and whether it answers with what it holds.
//!
//! The lane and the scan of a drive note what they wait for; `watch` looks at it from outside, as
//! neither can say anything while the kernel holds it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::is_gone;
use crate::scan::is_on_medium;

/// Places that are known to be readable, to ask when others fail.
const SPOTS: usize = 4;
/// Files that earlier runs read that are all looked at for such a place.
const MET_MAX: u64 = 64;
/// Bytes read to ask: a multiple of every logical block, and aligned so.
const SPOT_LEN: usize = crate::buffer::ALIGN;
/// Failures in a row after which a drive that fails at all places it once could read is gone.
const FAILURES_MIN: u32 = 4;
/// Failures in a row, none before them a success, after which a drive is gone.
const FAILURES_MAX: u32 = 16;

/// Milliseconds since the process first asked; never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// Whether a thread waits for a drive, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Since when it waits; 0 when it does not.
    since: AtomicU64,
    /// How long it has waited before, without an answer, in ms.
    before: AtomicU64,
}

impl Pulse {
    /// Notes that the thread waits for answers to requests that the drive has, until the guard goes.
    /// The time counts until an answer has come, however often the thread does something else.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        let outer = self.since.swap(now(), Relaxed);
        Waiting {
            pulse: self,
            outer,
            adds_up: true,
        }
    }

    /// Notes that the thread is in a call that may wait for the drive, until the guard goes. That it
    /// returns says nothing of requests the drive has; it may have been answered from memory.
    pub(crate) fn call(&self) -> Waiting<'_> {
        let outer = self.since.swap(now(), Relaxed);
        Waiting {
            pulse: self,
            outer,
            adds_up: false,
        }
    }

    /// Notes that the thread waits for the drive from now on, as if it had just begun.
    pub(crate) fn begin(&self) {
        self.before.store(0, Relaxed);
        self.since.store(now(), Relaxed);
    }

    /// Notes that the thread does not wait for the drive any more.
    pub(crate) fn end(&self) {
        self.since.store(0, Relaxed);
    }

    /// Returns whether the thread waits for the drive at this moment.
    pub(crate) fn is_waiting(&self) -> bool {
        self.since.load(Relaxed) > 0
    }

    /// Counts from now on: nobody ran for a while, so an answer may have been there.
    pub(crate) fn forgive(&self) {
        self.before.store(0, Relaxed);
        let begun = |since: u64| (since > 0).then(now);
        // Not waiting is as good as having just begun.
        let _unchanged = self.since.fetch_update(Relaxed, Relaxed, begun);
    }

    /// Notes an answer of the drive.
    pub(crate) fn answered(&self) {
        self.before.store(0, Relaxed);
    }

    /// Returns how long the drive has been asked without an answer. Time in which the thread did
    /// something else does not count: an answer may have been there.
    pub(crate) fn silence(&self) -> Duration {
        let since = self.since.load(Relaxed);
        let waiting = if since == 0 {
            0
        } else {
            now().saturating_sub(since)
        };
        Duration::from_millis(self.before.load(Relaxed).saturating_add(waiting))
    }
}

/// While it lives, a thread waits for its drive.
#[derive(Debug)]
pub(crate) struct Waiting<'p> {
    pulse: &'p Pulse,
    outer: u64,
    adds_up: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let since = self.pulse.since.swap(self.outer, Relaxed);
        if since > 0 && self.adds_up {
            let waited = now().saturating_sub(since);
            self.pulse.before.fetch_add(waited, Relaxed);
        }
    }
}

/// What a lane, its scan and its watch share.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// The lane's wait for its drive.
    pub(crate) lane: Pulse,
    /// The scan's.
    pub(crate) scan: Pulse,
    /// Nothing more is asked of the drive: it is gone.
    gone: AtomicBool,
    /// Nothing more is asked of the drive: it does not answer.
    given_up: AtomicBool,
    failures: AtomicU32,
    successes: AtomicU64,
    /// Files that earlier runs read and that were met while there was no place to ask.
    met: AtomicU64,
    spots: Mutex<Vec<Spot>>,
}

/// A place that could be read.
#[derive(Debug, Clone)]
struct Spot {
    file: Arc<OwnedFd>,
    offset: u64,
}

/// What a failure says of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// That it has a bad spot.
    BadSpot,
    /// That it is gone.
    Gone,
}

impl Vitals {
    /// Returns whether nothing more is to be asked of the drive.
    pub(crate) fn is_lost(&self) -> bool {
        self.gone.load(Relaxed) || self.given_up.load(Relaxed)
    }

    /// Returns whether that is because it does not answer.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// Gives a drive up that does not answer.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Notes that the drive is gone; returns whether that is news.
    pub(crate) fn set_gone(&self) -> bool {
        !self.gone.swap(true, Relaxed)
    }

    /// Notes that the drive gave bytes: those of a file at an offset, a multiple of a page.
    pub(crate) fn succeeded(&self, file: &Arc<OwnedFd>, offset: u64) {
        self.failures.store(0, Relaxed);
        let count = self.successes.fetch_add(1, Relaxed) + 1;
        if !count.is_power_of_two() {
            return;
        }
        let waiting = self.lane.call();
        let is_on_medium = is_on_medium(file.as_fd(), offset);
        drop(waiting);
        // What is kept among the metadata can be read when its drive is away.
        if !is_on_medium {
            return;
        }
        // Spread over the drive: the newest takes the place of the oldest but the first.
        let mut spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        if spots.len() == SPOTS {
            spots.remove(1);
        }
        spots.push(Spot {
            file: Arc::clone(file),
            offset,
        });
    }

    /// Returns whether it gave any bytes.
    pub(crate) fn has_given(&self) -> bool {
        self.successes.load(Relaxed) > 0
    }

    /// Returns whether a file that an earlier run read is to be opened for a place to ask. Where there
    /// was none among many, ever fewer are.
    pub(crate) fn lacks_spot(&self) -> bool {
        if self.can_ask() {
            return false;
        }
        let met = self.met.fetch_add(1, Relaxed) + 1;
        met <= MET_MAX || met.is_power_of_two()
    }

    /// Notes a file that an earlier run read, from its beginning on: a place to ask as well.
    pub(crate) fn was_read(&self, file: OwnedFd) {
        let mut spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        spots.push(Spot {
            file: Arc::new(file),
            offset: 0,
        });
    }

    /// Asks a drive that gave nothing but errors whether it gives what was read before: if so, it is
    /// there, and what it could not give are bad spots.
    pub(crate) fn ask(&self) {
        let has_failed = self.failures.load(Relaxed) > 0 && !self.has_given();
        if has_failed && self.held().iter().any(Spot::is_readable) {
            self.successes.fetch_add(1, Relaxed);
        }
    }

    /// Notes that the drive answered with this error. When that could mean anything, places that it
    /// could read before are read again; the first failures in a row and then ever fewer of them
    /// are looked into.
    pub(crate) fn failed(&self, errno: Errno) -> Says {
        if is_gone(errno) {
            return Says::Gone;
        }
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if !failures.is_power_of_two() {
            return Says::BadSpot;
        }
        // Not held while the drive is asked: it may never answer.
        let spots = self.held();
        if spots.iter().any(Spot::is_readable) {
            return Says::BadSpot;
        }
        let asked = u32::try_from(spots.len()).unwrap_or(u32::MAX);
        let is_gone = if asked == 0 {
            failures >= FAILURES_MAX
        } else {
            failures + asked >= FAILURES_MIN
        };
        if is_gone { Says::Gone } else { Says::BadSpot }
    }

    /// Returns the places that can be asked about.
    fn held(&self) -> Vec<Spot> {
        let spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        spots.clone()
    }

    /// Returns whether there is a place that was read before: without one, errors of one place say
    /// nothing of the others.
    pub(crate) fn can_ask(&self) -> bool {
        let spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        !spots.is_empty()
    }

    /// Lets go of the files that were held to ask.
    pub(crate) fn forget(&self) {
        let mut spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        spots.clear();
    }
}

impl Spot {
    /// Returns whether the drive can still read it.
    fn is_readable(&self) -> bool {
        // What the cache holds says nothing; with O_DIRECT, it is not asked.
        let len = std::num::NonZeroU64::new(SPOT_LEN as u64);
        let advice = rustix::fs::Advice::DontNeed;
        let _best_effort = rustix::fs::fadvise(&self.file, self.offset, len, advice);
        let mut buffer = vec![0; 2 * SPOT_LEN];
        let start = buffer.as_ptr().align_offset(SPOT_LEN);
        let place = buffer
            .get_mut(start..)
            .and_then(|it| it.get_mut(..SPOT_LEN));
        place.is_some_and(|place| rustix::io::pread(&self.file, place, self.offset).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file that can be read, or one of which nothing can.
    fn file(can_be_read: bool) -> Arc<OwnedFd> {
        let mut options = std::fs::File::options();
        options.read(can_be_read).write(!can_be_read);
        Arc::new(options.open("/dev/null").unwrap().into())
    }

    #[test]
    fn a_drive_that_reads_elsewhere_has_bad_spots_however_many() {
        let vitals = Vitals::default();
        vitals.succeeded(&file(true), 0);
        for _ in 0..1000 {
            assert_eq!(vitals.failed(Errno::IO), Says::BadSpot);
        }
    }

    #[test]
    fn a_drive_that_fails_where_it_read_before_is_gone() {
        let vitals = Vitals::default();
        for offset in 0..20 {
            vitals.succeeded(&file(false), offset);
        }
        assert_eq!(vitals.failed(Errno::IO), Says::Gone);
        // With one place to ask, a few more failures are waited for.
        let vitals = Vitals::default();
        vitals.succeeded(&file(false), 0);
        assert_eq!(vitals.failed(Errno::IO), Says::BadSpot);
        assert_eq!(vitals.failed(Errno::IO), Says::BadSpot);
        vitals.failed(Errno::IO);
        assert_eq!(vitals.failed(Errno::IO), Says::Gone);
    }

    #[test]
    fn a_drive_that_never_read_anything_is_gone_after_a_while() {
        let vitals = Vitals::default();
        for _ in 1..16 {
            assert_eq!(vitals.failed(Errno::IO), Says::BadSpot);
        }
        assert_eq!(vitals.failed(Errno::IO), Says::Gone);
        assert_eq!(Vitals::default().failed(Errno::NODEV), Says::Gone);
    }

    #[test]
    fn a_drive_that_gives_what_was_read_before_is_there() {
        for can_be_read in [true, false] {
            let vitals = Vitals::default();
            vitals.was_read(Arc::into_inner(file(can_be_read)).unwrap());
            vitals.ask();
            assert!(!vitals.has_given(), "nothing failed, so it is not asked");
            vitals.failed(Errno::IO);
            vitals.ask();
            assert_eq!(vitals.has_given(), can_be_read);
        }
    }

    #[test]
    fn only_time_spent_waiting_is_silence() {
        let pulse = Pulse::default();
        assert_eq!(pulse.silence(), Duration::ZERO);
        pulse.before.store(5000, Relaxed);
        assert_eq!(pulse.silence(), Duration::from_secs(5));
        {
            let _outer = pulse.wait();
            let _inner = pulse.call();
        }
        assert!(pulse.silence() >= Duration::from_secs(5));
        assert_eq!(pulse.since.load(Relaxed), 0);
        pulse.answered();
        assert!(pulse.silence() < Duration::from_secs(5));
        pulse.begin();
        assert!(pulse.is_waiting());
        pulse.before.store(5000, Relaxed);
        pulse.forgive();
        assert!(pulse.is_waiting() && pulse.silence() < Duration::from_secs(5));
        pulse.end();
        pulse.forgive();
        assert!(!pulse.is_waiting());
        assert_eq!(pulse.silence(), Duration::ZERO);
    }
}
