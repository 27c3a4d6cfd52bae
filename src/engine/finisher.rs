//! The finisher: gives folders their final attributes when nothing in them is left to do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::channel::{Receiver, select};

use super::context::Context;
use super::run::LaneSetup;
use super::telemetry::Telemetry;
use super::vitals::Vitals;
use crate::scan::{Finished, as_path};

/// The drives that directories are of, as they are known when their lanes begin: one that is lost
/// stays so here, though it may be back, under new eyes, before the last directory is heard of.
#[derive(Debug, Default)]
pub(super) struct Drives(Vec<(usize, Arc<Vitals>)>);

impl Drives {
    /// Returns those of `lanes`, whose counters are in `telemetry` in the same order.
    pub(super) fn of(telemetry: &Telemetry, lanes: &[LaneSetup]) -> Self {
        let vitals = telemetry.lanes.iter().map(|view| view.counters.vitals());
        let lanes = lanes.iter().map(|setup| setup.lane);
        Self(lanes.zip(vitals).collect())
    }

    /// Returns the one drive of a lane that begins anew.
    pub(super) fn one(lane: usize, vitals: Arc<Vitals>) -> Self {
        Self(vec![(lane, vitals)])
    }

    fn has_lost(&self, lane: usize) -> bool {
        let of_it = self.0.iter().find(|(number, _)| *number == lane);
        of_it.is_some_and(|(_, vitals)| vitals.is_lost())
    }
}

/// Sets the final attributes of directories, children before parents, until every tree is gone, or
/// only held by threads that were left behind.
pub(super) fn finish_dirs(
    context: &Context,
    finished: &Receiver<Finished>,
    over: &Receiver<()>,
    drives: &Drives,
) {
    loop {
        select! {
            recv(finished) -> dir => match dir {
                Ok(dir) => finish_dir(context, &dir, drives),
                Err(_) => return,
            },
            recv(over) -> _ => break,
        }
    }
    for dir in finished.try_iter() {
        finish_dir(context, &dir, drives);
    }
}

/// Sets the final attributes of one directory.
pub(super) fn finish_dir(context: &Context, dir: &Finished, drives: &Drives) {
    // A folder that is not complete stays closed; the next run finishes it.
    if context.halted() {
        context.interrupted.store(true, Relaxed);
        return;
    }
    let lane = context.outcomes.lane_of(dir.source);
    // Nor is one whose drive went away complete; it may be back in this very run.
    if drives.has_lost(lane) {
        return;
    }
    let shown = as_path(&dir.target_path);
    match context.target.finish_dir(&dir.target_path, &dir.attributes) {
        Ok(applied) => context.outcomes.applied_to_folder(lane, &shown, &applied),
        Err(error) => context.outcomes.problem_of_folder(lane, &error),
    }
}
