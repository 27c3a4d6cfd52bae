//! What the commands have in common before their lanes start.

use std::sync::{Arc, OnceLock};

use super::context::Context;
use super::feed::Feed;
use super::job::{CopyJob, EngineSettings, Existing};
use super::lane::SYNC_BLOCKS;
use super::limit::Limiter;
use super::outcomes::Outcomes;
use super::report::MountReport;
use super::run::LaneSetup;
use super::session::Session;
use super::summary::LaneFacts;
use super::telemetry::Telemetry;
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::{self, Chosen};
use crate::plan::LanePlan;
use crate::scan::{FilesFrom, Filter, Order, WalkOptions};
use crate::seam;
use crate::target::{LocalTarget, NullTarget, Policy};

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
        around: Arc::default(),
        full: Arc::default(),
        log: None,
        sync_blocks: seam::setting("SYNC_BLOCKS").unwrap_or(SYNC_BLOCKS),
        evidence: None,
        examiner: None,
        folders: OnceLock::new(),
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
        reads_by_ring: plan.fs.iter().all(|(fs, _)| fs.reads_by_ring()),
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

/// Tells each lane what is known of its drive from measurements.
pub(super) fn recall(settings: &EngineSettings, facts: &[LaneFacts], telemetry: &Telemetry) {
    let Some(all) = &settings.known else {
        return;
    };
    for (view, facts) in telemetry.lanes.iter().zip(facts) {
        let drives = &facts.location.drives;
        let drive = drives.first().filter(|_| drives.len() == 1);
        let known = drive.and_then(|drive| {
            let known = all.get(drive.serial.as_ref().or(drive.wwn.as_ref())?)?;
            (known.size == drive.size).then_some(known)
        });
        if let Some(known) = known {
            view.counters.set_known(*known);
        }
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

/// Returns how each mount of a copy is read or written.
pub(super) fn mounts(job: &CopyJob, lanes: &[LanePlan], target: &LocalTarget) -> Vec<MountReport> {
    let access = |direct| if direct { "direct" } else { "buffered" }.to_owned();
    let mut mounts = Vec::new();
    for plan in lanes {
        for (tree, (fs, location)) in plan.trees.iter().zip(&plan.fs) {
            let (direct, why) = fs.direct_read();
            mounts.push(MountReport {
                path: tree.label.to_string_lossy().into_owned(),
                side: "source".to_owned(),
                fs: location.mount.fs.clone(),
                access: access(direct),
                why: why.to_owned(),
            });
        }
    }
    let (direct, why) = target.direct();
    mounts.push(MountReport {
        path: job.target.to_string_lossy().into_owned(),
        side: "target".to_owned(),
        fs: target.fs().name().to_owned(),
        access: access(direct),
        why: why.to_owned(),
    });
    mounts
}
