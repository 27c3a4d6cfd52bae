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
//!
//! A drive that was lost and is back is gone on with while others are read: its lane begins anew, in
//! the place of the one that ended, when nothing of that one is on its way any more.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::context::Context;
use super::feed::LaneWaker;
use super::finisher::{Drives, finish_dirs};
use super::lane::unattempted;
use super::outlets::Outlets;
use super::run::{LaneEnd, LaneSetup, Lost, cannot};
use super::telemetry::{Health, LaneState, LaneView};
use super::threads::{Starter, named};
use super::vitals::Vitals;
use crate::buffer::{Arena, Credits};
use crate::error::{Error, ErrorKind};
use crate::scan::Finished;

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
    pub(super) waker: Arc<LaneWaker>,
    /// The buffers it was lent.
    pub(super) credits: Credits,
}

/// A lane that is to begin anew.
pub(super) struct Revived {
    pub(super) context: Arc<Context>,
    pub(super) setup: LaneSetup,
    /// Where its directories report.
    pub(super) finished: Receiver<Finished>,
    /// How often drives came back before, this time with it.
    pub(super) round: u32,
}

/// Who knows which drives are back.
pub(super) trait Revive {
    /// Notes how a lane ended, as soon as it and its scan have: `end.lost` says whether its drive
    /// may come back.
    fn ended(&mut self, lane: usize, end: &mut LaneEnd);

    /// Says whether the drive of one of these lanes, which were lost, is back. Does not wait for any;
    /// `are_others_read` tells whether the run goes on anyway.
    fn look(&mut self, lost: &[usize], are_others_read: bool) -> News;

    /// Notes that a lane whose drive is back could not begin anew: it is as lost as before.
    fn failed(&mut self, lane: usize, error: &Error);
}

/// What there is of drives that were lost.
pub(super) enum News {
    /// One is back.
    Back(Revived),
    /// One may yet come.
    Wait,
    /// None is waited for.
    Over,
}

/// What it takes to begin a lane anew.
pub(super) struct Again<'r> {
    pub(super) revive: &'r mut dyn Revive,
    pub(super) starter: &'r Starter,
    /// Says that only threads that were left behind still hold directories.
    pub(super) over: &'r Receiver<()>,
    pub(super) finishers: Vec<JoinHandle<()>>,
}

impl Again<'_> {
    /// Begins the lane at `place` anew.
    fn start(&mut self, place: usize, charge: &Charge, revived: Revived) -> Result<Charge, Error> {
        let Revived {
            context,
            setup,
            finished,
            round,
        } = revived;
        let total = charge.credits.total();
        let credits = if charge.credits.free() == total {
            charge.credits.clone()
        } else {
            // The kernel has some of them, for as long as it likes.
            let arena = Arena::new(total);
            let mut arena = arena.map_err(|source| cannot("set buffers aside again", source))?;
            arena.lend(total).ok_or_else(|| {
                cannot("lend buffers again", std::io::ErrorKind::OutOfMemory.into())
            })?
        };
        let drives = Drives::one(charge.lane, charge.view.counters.vitals());
        let (over, shared) = (self.over.clone(), Arc::clone(&context));
        let finisher = named("finisher".to_owned())
            .spawn(move || finish_dirs(&shared, &finished, &over, &drives))
            .map_err(|source| cannot("start a thread", source))?;
        self.finishers.push(finisher);
        let starter = self.starter;
        starter.start(place, &context, &charge.view, setup, credits, round)
    }
}

/// How far a lane has come.
#[derive(Debug, Default)]
struct Watched {
    end: Option<LaneEnd>,
    is_scanned: bool,
    given_up: Option<Instant>,
    is_left_behind: bool,
    is_told: bool,
}

impl Watched {
    fn is_over(&self) -> bool {
        self.end.is_some() && self.is_scanned
    }
}

/// The watch of a run.
pub(super) struct Watch<'r> {
    pub(super) context: &'r Context,
    pub(super) started: Instant,
    pub(super) charges: Vec<Charge>,
    /// How long a drive may be silent; `None` for ever.
    pub(super) limit: Option<Duration>,
    /// `None` when no drive is gone on with.
    pub(super) again: Option<Again<'r>>,
}

/// What came of all lanes.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) charges: Vec<Charge>,
    pub(super) ends: Vec<LaneEnd>,
    /// Whether a thread was left behind.
    pub(super) left_behind: bool,
    /// The threads that finish the directories of lanes that began anew.
    pub(super) finishers: Vec<JoinHandle<()>>,
}

impl Watch<'_> {
    /// Watches until every lane and every scan has ended, or is left behind.
    pub(super) fn run(mut self, ended: &Receiver<Ended>) -> Outcome {
        let mut lanes: Vec<Watched> = self.charges.iter().map(|_| Watched::default()).collect();
        let mut left_behind = false;
        let mut last = Instant::now();
        let mut waits = false;
        while waits || !lanes.iter().all(Watched::is_over) {
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
                for charge in &self.charges {
                    charge.vitals.lane.forgive();
                    charge.vitals.scan.forgive();
                }
            }
            last = now;
            // Those that are over as well: one may have ended as soon as its drive answered again.
            for (lane, charge) in lanes.iter_mut().zip(&self.charges) {
                lane.is_left_behind |= self.look(charge, lane, now);
                left_behind |= lane.is_left_behind;
            }
            waits = self.revive(&mut lanes);
        }
        for charge in &self.charges {
            charge.outlets.close();
        }
        let ends = lanes.into_iter().map(|lane| lane.end.unwrap_or_default());
        Outcome {
            ends: ends.collect(),
            left_behind,
            finishers: self.again.map_or_else(Vec::new, |again| again.finishers),
            charges: self.charges,
        }
    }

    /// Begins anew the lane of a drive that is back; returns whether one may yet come.
    fn revive(&mut self, lanes: &mut [Watched]) -> bool {
        let Some(again) = &mut self.again else {
            return false;
        };
        for (lane, charge) in lanes.iter_mut().zip(&self.charges) {
            let end = lane
                .end
                .as_mut()
                .filter(|_| lane.is_scanned && !lane.is_told);
            if let Some(end) = end {
                again.revive.ended(charge.lane, end);
                lane.is_told = true;
            }
        }
        if self.context.halted() {
            return false;
        }
        let are_others_read = lanes.iter().any(|lane| !lane.is_over());
        let all = lanes.iter().zip(&self.charges);
        let lost = all.filter(|(lane, _)| {
            let is_lost = lane.end.as_ref().is_some_and(|end| end.lost.is_some());
            // A thread that a drive holds may yet say something of it, and report its directories.
            lane.is_over() && is_lost && !lane.is_left_behind
        });
        let lost: Vec<usize> = lost.map(|(_, charge)| charge.lane).collect();
        let revived = match again.revive.look(&lost, are_others_read) {
            News::Back(revived) => revived,
            News::Wait => return true,
            News::Over => return false,
        };
        let number = revived.setup.lane;
        let mut all = lanes.iter_mut().zip(&mut self.charges).enumerate();
        let of_it = all.find(|(_, (_, charge))| charge.lane == number);
        let Some((place, (lane, charge))) = of_it else {
            return false;
        };
        match again.start(place, charge, revived) {
            Ok(fresh) => {
                charge.outlets.close();
                *charge = fresh;
                *lane = Watched::default();
            }
            Err(error) => again.revive.failed(number, &error),
        }
        true
    }

    /// Looks at a lane; returns whether a thread of it is left behind now.
    fn look(&self, charge: &Charge, lane: &mut Watched, now: Instant) -> bool {
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
            charge.waker.wake();
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
