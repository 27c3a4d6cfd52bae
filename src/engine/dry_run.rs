//! `copy --dry-run`: what a copy would do.

use std::os::unix::ffi::OsStrExt;

use super::copy::{Prepared, prepare};
use super::job::CopyJob;
use super::outcomes::shown;
use super::report::{DryLane, DryRun, Problem};
use super::roll_call::roll_call;
use super::room::{count_all, free_room, sum};
use super::session::Session;
use super::setup::raise_descriptor_limit;
use crate::error::Error;
use crate::plan::Budget;

/// Says what a copy would do, without writing anything.
///
/// # Errors
/// What would keep the job from starting, but for a lack of space: that is in the answer.
pub fn dry_run(job: &CopyJob, session: &Session) -> Result<DryRun, Error> {
    raise_descriptor_limit();
    let call = roll_call(&job.sources, job.engine.stall, session)?;
    let job = &CopyJob {
        sources: call.here,
        ..job.clone()
    };
    let (prepared, ()) = prepare(job, |_, _, _| Ok(()))?;
    let Prepared {
        lanes,
        place,
        finished: _finished,
    } = prepared;
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let counted = count_all(job, &lanes, &place, &budget, session)?;
    let room = free_room(&place)?;
    let need = sum(&counted
        .iter()
        .map(|counted| counted.need)
        .collect::<Vec<_>>());
    let dry_lanes = lanes
        .iter()
        .zip(&counted)
        .map(|(plan, counted)| DryLane {
            drive: plan.name.clone(),
            sources: plan
                .trees
                .iter()
                .map(|t| t.label.to_string_lossy().into_owned())
                .collect(),
            files: counted.files,
            bytes: counted.bytes,
            dirs: counted.dirs,
        })
        .collect();
    let problem = |error: &Error| {
        let (path, path_hex) = shown(error.path().as_os_str().as_bytes());
        Problem {
            path,
            path_hex,
            kind: error.kind().word().to_owned(),
            reason: error.reason(),
            unreadable: None,
        }
    };
    Ok(DryRun {
        target: job.target.to_string_lossy().into_owned(),
        lanes: dry_lanes,
        needed: need.bytes,
        free: room.bytes,
        fits: room.fits(need),
        existing: counted.iter().map(|counted| counted.existing).sum(),
        problems: counted
            .iter()
            .flat_map(|counted| &counted.problems)
            .chain(&call.silent)
            .map(problem)
            .collect(),
    })
}
