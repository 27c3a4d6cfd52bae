//! Ways out of a lane, which can be closed from outside: a lane whose drive does not answer may never
//! get to closing them itself, and the writers and the committer end when the last of them is gone.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::Sender;

use super::commit::Commit;
use super::writers::{Small, Writers};

/// The ways out of one lane; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Outlets(Arc<Mutex<Ways>>);

/// Both of them, until they are closed.
type Ways = Option<(Writers, Sender<Commit>)>;

impl Outlets {
    /// Returns the ways out to these.
    pub(crate) fn new(writers: Writers, commits: Sender<Commit>) -> Self {
        Self(Arc::new(Mutex::new(Some((writers, commits)))))
    }

    /// Hands something small to its writer; waits while that one is busy. What comes when they are
    /// closed is dropped: it was not copied.
    pub(crate) fn small(&self, small: Small) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((writers, _)) = open.as_ref() {
            writers.send(small);
        }
    }

    /// Hands something whole to the committer, as [`small`](Self::small).
    pub(crate) fn commit(&self, commit: Commit) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, commits)) = open.as_ref() {
            // The committer outlives every open way.
            drop(commits.send(commit));
        }
    }

    /// Closes them for good.
    pub(crate) fn close(&self) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
    }
}
