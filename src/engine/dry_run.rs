//! `copy --dry-run`: what a copy would do.

use super::copy::{Prepared, prepare};
use super::counting::count_all;
use super::job::CopyJob;
use super::outcomes::problem_of;
use super::report::{DryLane, DryRun};
use super::roll_call::roll_call;
use super::room::{all_room, sum, with_records};
use super::session::Session;
use super::setup::raise_descriptor_limit;
use crate::error::Error;
use crate::plan::{Budget, TargetPlace, look_at_target};

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
    let mut further = Vec::new();
    for path in &job.spill {
        further.push(look_at_target(path, &[])?);
    }
    let places: Vec<&TargetPlace> = [&place].into_iter().chain(&further).collect();
    let counted = count_all(job, &lanes, &places, &budget, session)?;
    let room = all_room(&places)?;
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
    Ok(DryRun {
        target: job.target.to_string_lossy().into_owned(),
        lanes: dry_lanes,
        needed: need.bytes,
        free: room.bytes,
        fits: room.fits(with_records(need, job)),
        existing: counted.iter().map(|counted| counted.existing).sum(),
        problems: counted
            .iter()
            .flat_map(|counted| &counted.problems)
            .chain(call.silent.iter().map(|left_out| &left_out.error))
            .map(problem_of)
            .collect(),
    })
}
