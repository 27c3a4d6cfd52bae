//! The watch over all lanes: waits for them to end, and sees to it that a drive that does not answer
//! holds up nobody but itself.
//!
//! 1. Silent for `--stall-timeout`: the drive is quarantined, which is told at once. It may come
//!    back: a drive can take minutes over a bad sector before it says so.
//! 2. Silent for [`PATIENCE`] times as long (once is enough when the run is to stop): it is given up.
//!    Its lane lets go of what it was asked, and ends in order.
//! 3. A thread that cannot even do that, because the kernel holds it, is left behind, and its ways
//!    out are closed. For everybody else that is as if it had been killed at that moment, which the
//!    order of a commit is made for; what it may still do is dropped.
//!
//! Nothing is cancelled: the kernel cannot, once a drive has a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::context::Context;
use super::feed::LaneWaker;
use super::lane::unattempted;
use super::outlets::Outlets;
use super::run::{LaneEnd, Lost};
use super::telemetry::{Health, LaneState, LaneView};
use super::vitals::Vitals;
use crate::error::ErrorKind;

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(100);
/// After how many times the limit a silent drive is given up: with 30 s, after 210 s. The kernel gives
/// a SCSI command 30 s and five retries, 180 s in all, and then says that it failed: an error is
/// worth more than silence, so it is waited for. Source: SD_TIMEOUT and SD_MAX_RETRIES of
/// linux/drivers/scsi/sd.h; NVMe has the same 30 s (`nvme_core.io_timeout`) and five retries.
const PATIENCE: u32 = 7;
/// When the watch itself was away for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);
/// How long a lane has to let go before it is left behind.
const GRACE: Duration = Duration::from_secs(2);

/// What ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The lane at this place.
    Lane(usize, LaneEnd),
    /// Its scan.
    Scan(usize),
}

/// A lane that is watched over.
#[derive(Debug)]
pub(super) struct Charge {
    /// Its number.
    pub(super) lane: usize,
    pub(super) view: Arc<LaneView>,
    /// What its threads know of the drive.
    pub(super) vitals: Arc<Vitals>,
    pub(super) outlets: Outlets,
}

/// How far a lane has come.
#[derive(Debug, Default)]
struct Watched {
    end: Option<LaneEnd>,
    is_scanned: bool,
    given_up: Option<Instant>,
}

impl Watched {
    fn is_over(&self) -> bool {
        self.end.is_some() && self.is_scanned
    }
}

/// The watch of a run.
#[derive(Debug)]
pub(super) struct Watch<'r> {
    pub(super) context: &'r Context,
    pub(super) started: Instant,
    pub(super) wakers: &'r [LaneWaker],
    pub(super) charges: &'r [Charge],
    /// How long a drive may be silent; `None` for ever.
    pub(super) limit: Option<Duration>,
}

/// What came of all lanes.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ends: Vec<LaneEnd>,
    /// Whether a thread was left behind.
    pub(super) left_behind: bool,
}

impl Watch<'_> {
    /// Watches until every lane and every scan has ended, or is left behind.
    pub(super) fn run(self, ended: &Receiver<Ended>) -> Outcome {
        let mut lanes: Vec<Watched> = self.charges.iter().map(|_| Watched::default()).collect();
        let mut left_behind = false;
        let mut last = Instant::now();
        while !lanes.iter().all(Watched::is_over) {
            match ended.recv_timeout(TICK) {
                Ok(Ended::Lane(number, end)) => {
                    if let Some(lane) = lanes.get_mut(number) {
                        lane.end.get_or_insert(end);
                    }
                }
                Ok(Ended::Scan(number)) => {
                    if let Some(lane) = lanes.get_mut(number) {
                        lane.is_scanned = true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now.duration_since(last) > GAP {
                // The whole process was stopped, or starved: that says nothing of any drive.
                for charge in self.charges {
                    charge.vitals.lane.forgive();
                    charge.vitals.scan.forgive();
                }
            }
            last = now;
            // Those that are over as well: one may have ended as soon as its drive answered again.
            for ((place, lane), charge) in lanes.iter_mut().enumerate().zip(self.charges) {
                left_behind |= self.look(place, charge, lane, now);
            }
        }
        for charge in self.charges {
            charge.outlets.close();
        }
        let ends = lanes.into_iter().map(|lane| lane.end.unwrap_or_default());
        Outcome {
            ends: ends.collect(),
            left_behind,
        }
    }

    /// Looks at a lane; returns whether a thread of it is left behind now.
    fn look(&self, place: usize, charge: &Charge, lane: &mut Watched, now: Instant) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        let vitals = &charge.vitals;
        if let Some(since) = lane.given_up {
            // One that is not held by its drive is on its way: the target takes its time.
            let is_held = lane.end.is_none() && vitals.lane.is_waiting()
                || !lane.is_scanned && vitals.scan.is_waiting();
            let is_late = now.duration_since(since) >= GRACE;
            return is_held && is_late && self.leave_behind(charge, lane);
        }
        let number = charge.lane;
        let of = |is_over: bool, silence: Duration| if is_over { Duration::ZERO } else { silence };
        let silence = of(lane.end.is_some(), vitals.lane.silence())
            .max(of(lane.is_scanned, vitals.scan.silence()));
        let patience = if self.context.halted() { 1 } else { PATIENCE };
        let seconds = silence.as_secs();
        if silence >= limit * patience {
            let what = format!("no answer for {seconds} s; given up");
            self.context.drive_is(number, Health::Quarantined, &what);
            vitals.give_up();
            self.context.let_sources_go(number);
            lane.given_up = Some(now);
            if let Some(waker) = self.wakers.get(place) {
                waker.wake();
            }
        } else if silence >= limit {
            let rest = (limit * patience).as_secs();
            let what = format!("no answer for {seconds} s; given up after {rest} s without one");
            self.context.drive_is(number, Health::Quarantined, &what);
        } else if self.context.health_of(number) == Health::Quarantined {
            let what = "it answers again";
            self.context.drive_is(number, Health::Suspect, what);
        }
        false
    }

    /// Goes on without a lane that the kernel holds, or without its scan.
    fn leave_behind(&self, charge: &Charge, lane: &mut Watched) -> bool {
        let vitals = &charge.vitals;
        lane.is_scanned |= vitals.scan.is_waiting();
        if lane.end.is_some() || !vitals.lane.is_waiting() {
            return true;
        }
        charge.outlets.close();
        charge.view.counters.set_ended(self.started.elapsed());
        charge.view.counters.set_state(LaneState::Failed);
        let path = self.context.drive_path(charge.lane);
        let error = unattempted(ErrorKind::SourceStalled, path, 0);
        lane.end = Some(LaneEnd {
            error: Some(error.reason()),
            lost: Some(Lost::now(error)),
            ..LaneEnd::default()
        });
        true
    }
}
