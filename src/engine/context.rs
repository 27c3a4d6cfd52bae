//! What all threads of a run share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::job::Existing;
use super::limit::Limiter;
use super::links::LinkTable;
use super::outcomes::Outcomes;
use super::session::Session;
use crate::digest::HashPool;
use crate::target::{Policy, Target};

/// Shared by all threads of a run; nothing in it is changed but counters.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) session: Session,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) outcomes: Outcomes,
    /// `None` when hard links mean nothing: each name is read.
    pub(crate) links: Option<LinkTable>,
    pub(crate) hash: HashPool,
    pub(crate) limit: Limiter,
    pub(crate) existing: Existing,
    pub(crate) policy: Policy,
    /// Whether FIFOs, sockets and device nodes are made.
    pub(crate) special: bool,
    /// Whether anything but bytes matters: false for `hash` and `verify`.
    pub(crate) copies: bool,
    /// Device and inode of TARGET: never entered as part of a source.
    pub(crate) target_identity: Option<(u64, u64)>,
    /// Set when something was left undone because the run was asked to stop.
    pub(crate) interrupted: AtomicBool,
    /// Set when nothing more can be written to the target.
    pub(crate) target_lost: AtomicBool,
}

impl Context {
    /// Returns whether no new work should be taken up.
    pub(crate) fn halted(&self) -> bool {
        self.session.stopped() || self.target_lost.load(std::sync::atomic::Ordering::Relaxed)
    }
}
