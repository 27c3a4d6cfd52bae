//! What the commands have in common before their lanes start.

use std::sync::{Arc, OnceLock};

use super::context::Context;
use super::feed::Feed;
use super::job::{EngineSettings, Existing};
use super::lane::SYNC_BLOCKS;
use super::limit::Limiter;
use super::outcomes::Outcomes;
use super::run::LaneSetup;
use super::session::Session;
use super::telemetry::Telemetry;
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::{self, Chosen};
use crate::plan::LanePlan;
use crate::scan::{FilesFrom, Filter, Order, WalkOptions};
use crate::seam;
use crate::target::{NullTarget, Policy};

/// Chooses the backend and tells of a fallback.
pub(super) fn choose(job: &EngineSettings, session: &Session) -> Result<Chosen, Error> {
    let (chosen, note) = probe::choose(job.io)?;
    if let Some(line) = note {
        session.observer.note(&line);
    }
    Ok(chosen)
}

/// Returns the hash workers of a run: as asked, or one a core.
fn hash_pool(settings: &EngineSettings) -> Result<HashPool, Error> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HashPool::new(settings.hash_threads.unwrap_or_else(cores).max(1)).map_err(|source| {
        Error::new(
            ErrorKind::Unsupported,
            Side::Record,
            "hash workers",
            "start threads",
        )
        .because(source)
    })
}

/// Returns the context of a command that only reads: nothing but bytes matters.
pub(super) fn reading_context(
    session: &Session,
    telemetry: &Arc<Telemetry>,
    settings: &EngineSettings,
) -> Result<Context, Error> {
    Ok(Context {
        session: session.clone(),
        target: Arc::new(NullTarget),
        outcomes: Arc::new(Outcomes::new(session.clone(), Arc::clone(telemetry), None)),
        links: None,
        hash: hash_pool(settings)?,
        limit: Limiter::new(settings.bwlimit),
        existing: Existing::Refuse,
        policy: Policy {
            setid: false,
            caps: false,
            owner: false,
        },
        special: false,
        copies: false,
        target_identity: None,
        interrupted: false.into(),
        lost: OnceLock::new(),
        log: None,
        sync_blocks: seam::setting("SYNC_BLOCKS").unwrap_or(SYNC_BLOCKS),
        evidence: None,
        examiner: None,
        expected: None,
        may_try_again: false,
        salvage: false,
        maps: None,
        again: Arc::default(),
    })
}

/// How lanes scan their sources.
#[derive(Debug, Clone)]
pub(super) struct ScanJob {
    pub(super) filter: Arc<Filter>,
    pub(super) files_from: Option<Arc<FilesFrom>>,
    pub(super) window_bytes: usize,
    /// Whether writes may come from registered buffers.
    pub(super) registered_writes: bool,
}

/// Returns a lane that scans and reads the sources of one drive.
pub(super) fn scan_lane(lane: usize, plan: LanePlan, job: ScanJob) -> LaneSetup {
    // A drive that is known not to spin gains nothing from asking where each file lies.
    let order = if plan.rotational == Some(false) {
        Order::Inode
    } else {
        Order::Physical
    };
    LaneSetup {
        lane,
        rotational: plan.rotational,
        registered_writes: job.registered_writes,
        filler: Box::new(move |feed: &mut Feed<'_>| {
            let options = WalkOptions {
                filter: &job.filter,
                files_from: job.files_from.as_deref(),
                order,
                window_bytes: job.window_bytes,
            };
            feed.scan(&plan.trees, &options);
        }),
    }
}

/// Takes all the descriptors we may have: sixty lanes hold dozens each.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where a sandbox forbids it; then the limit stays what it was.
    let _unchanged = setrlimit(Resource::Nofile, limit);
}
