//! `copy`: from a job to a report, by one pass or two.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::job::{CopyJob, Verify};
use super::left_out::LeftOut;
use super::mounted::Mounted;
use super::pass::{Ended, Pass, pass};
use super::report::Report;
use super::revive::Revived;
use super::roll_call::{RollCall, roll_call};
use super::session::Session;
use super::setup::raise_descriptor_limit;
use super::spill::{self, Round};
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{
    LanePlan, NamedLink, Source, TargetPlace, check_landings, lanes, look_at_target, open_sources,
};
use crate::scan::Finished;
use crate::topology::Topology;

/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// Everything decided before anything is written.
pub(super) struct Prepared {
    pub(super) lanes: Vec<LanePlan>,
    pub(super) place: TargetPlace,
    pub(super) finished: (Sender<Finished>, Receiver<Finished>),
}

/// Opens and checks everything a copy names; writes nothing. `look` may give sources another place
/// in the target before those are compared.
pub(super) fn prepare<T>(
    job: &CopyJob,
    look: impl FnOnce(&TargetPlace, &mut [Source], &Topology) -> Result<T, Error>,
) -> Result<(Prepared, T), Error> {
    let mut sources = open_sources(&job.sources, NamedLink::Itself)?;
    let place = look_at_target(&job.target, &sources)?;
    let topology = Topology::live()?;
    let looked = look(&place, &mut sources, &topology)?;
    check_landings(&sources)?;
    let finished = bounded(FINISHED_QUEUE);
    let lanes = lanes(sources, &topology, &finished.0)?;
    let prepared = Prepared {
        lanes,
        place,
        finished,
    };
    Ok((prepared, looked))
}

/// Copies. Goes on with a job that an earlier run began, if this is the same.
///
/// # Durability
/// When the report's exit code is 0, every file it counts survives a power cut.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn copy(job: &CopyJob, session: &Session) -> Result<Report, Error> {
    let started = SystemTime::now();
    raise_descriptor_limit();
    let call = roll_call(&job.sources, job.engine.stall, session)?;
    copy_what_is_here(job, &call, &[], started, session)
}

/// Goes on with a job that an earlier run began. What is missing of it is in the report.
///
/// # Durability
/// As [`copy`].
///
/// # Errors
/// As [`copy`].
pub fn resume(revived: &Revived, session: &Session) -> Result<Report, Error> {
    let started = SystemTime::now();
    raise_descriptor_limit();
    let job = &revived.job;
    // Any of them may have gone since it was found.
    let call = roll_call(&job.sources, job.engine.stall, session)?;
    copy_what_is_here(job, &call, &revived.missing, started, session)
}

fn copy_what_is_here(
    job: &CopyJob,
    call: &RollCall,
    missing: &[LeftOut],
    started: SystemTime,
    session: &Session,
) -> Result<Report, Error> {
    let here = CopyJob {
        sources: call.here.clone(),
        ..job.clone()
    };
    let asked = Asked {
        typed: job,
        job: &here,
        left_out: LeftOuts {
            silent: &call.silent,
            missing,
        },
        mounted: &call.mounted,
        started,
    };
    if !job.spill.is_empty() {
        return spill::copy(asked, session);
    }
    match tries(asked, session, &Round::alone(job))? {
        Ended::Over(report, _) => Ok(*report),
        Ended::Again(_) => {
            let what = "a sync failed again";
            Err(Error::new(
                ErrorKind::TargetSync,
                Side::Target,
                &job.target,
                what,
            ))
        }
    }
}

/// Copies into one target, a second time if a sync fails.
pub(super) fn tries(
    asked: Asked<'_>,
    session: &Session,
    round: &Round<'_>,
) -> Result<Ended, Error> {
    let name = match pass(asked, session, Pass::First, round)? {
        Ended::Again(name) => name,
        ended @ Ended::Over(..) => return Ok(ended),
    };
    session.observer.note(
        "the target failed to make something durable: everything not acknowledged by then is \
         copied again from its source",
    );
    // That job and no other: a source that has gone meanwhile, with the empty folder that it was mounted
    // at in its place, would be the source of a new one.
    let again = CopyJob {
        resume: Some(name),
        ..asked.job.clone()
    };
    let asked = Asked {
        job: &again,
        ..asked
    };
    pass(asked, session, Pass::Second, round).map_err(|error| {
        let what = format!("a sync failed, and the copy cannot be gone on with ({error})");
        Error::new(ErrorKind::TargetSync, Side::Target, &again.target, &what)
    })
}

/// What was asked for, and what of it can be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The job as it was typed: that is what is written down.
    pub(super) typed: &'a CopyJob,
    /// The same with the sources that answer.
    pub(super) job: &'a CopyJob,
    /// The others.
    pub(super) left_out: LeftOuts<'a>,
    /// What is mounted where each of all these is, as far as that is known.
    pub(super) mounted: &'a HashMap<PathBuf, Mounted>,
    pub(super) started: SystemTime,
}

/// The sources that are left out of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LeftOuts<'a> {
    /// Those that were asked for, and did not answer, or failed.
    pub(super) silent: &'a [LeftOut],
    /// Those of a job that is gone on with which are not here.
    pub(super) missing: &'a [LeftOut],
}

impl<'a> LeftOuts<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'a LeftOut> {
        self.missing.iter().chain(self.silent)
    }

    pub(super) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl Asked<'_> {
    /// Returns both jobs for one of several targets; `finishes` as in [`Round`].
    pub(super) fn for_target(
        &self,
        target: &std::path::Path,
        finishes: bool,
    ) -> (CopyJob, CopyJob) {
        let of = |job: &CopyJob| CopyJob {
            target: PathBuf::from(target),
            verify: if finishes { Verify::None } else { job.verify },
            ..job.clone()
        };
        (of(self.typed), of(self.job))
    }
}
