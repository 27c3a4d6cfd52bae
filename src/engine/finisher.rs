//! The finisher: gives folders their final attributes when nothing in them is left to do.

use std::sync::atomic::Ordering::Relaxed;

use crossbeam::channel::{Receiver, select};

use super::context::Context;
use crate::scan::{Finished, as_path};

/// Sets the final attributes of directories, children before parents, until every tree is gone, or
/// only held by threads that were left behind.
pub(super) fn finish_dirs(context: &Context, finished: &Receiver<Finished>, over: &Receiver<()>) {
    loop {
        select! {
            recv(finished) -> dir => match dir {
                Ok(dir) => finish_dir(context, &dir),
                Err(_) => return,
            },
            recv(over) -> _ => break,
        }
    }
    for dir in finished.try_iter() {
        finish_dir(context, &dir);
    }
}

/// Sets the final attributes of one directory.
pub(super) fn finish_dir(context: &Context, dir: &Finished) {
    // A folder that is not complete stays closed; the next run finishes it.
    if context.halted() {
        context.interrupted.store(true, Relaxed);
        return;
    }
    let lane = context.outcomes.lane_of(dir.source);
    // Nor is one whose drive went away complete; it may be back in this very run.
    let counters = context.outcomes.lane(lane);
    if counters.is_some_and(|counters| counters.vitals().is_lost()) {
        return;
    }
    let shown = as_path(&dir.target_path);
    match context.target.finish_dir(&dir.target_path, &dir.attributes) {
        Ok(applied) => context.outcomes.applied(lane, &shown, &applied),
        Err(error) => context.outcomes.problem(lane, &error),
    }
}
