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
        hash: Arc::new(hash_pool(settings)?),
        limit: Arc::new(Limiter::new(settings.bwlimit)),
        existing: Existing::Refuse,
        policy: Policy {
            setid: false,
            caps: false,
            owner: false,
        },
        special: false,
        copies: false,
        target_identity: None,
        interrupted: Arc::default(),
        lost: Arc::default(),
        around: Arc::default(),
        full: Arc::default(),
        log: None,
        sync_blocks: seam::setting("SYNC_BLOCKS").unwrap_or(SYNC_BLOCKS),
        evidence: None,
        examiner: None,
        folders: OnceLock::default(),
        claims: Arc::default(),
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

/// Returns the setups of lanes that scan, in this order.
pub(super) fn scan_lanes(plans: Vec<LanePlan>, job: &ScanJob) -> Vec<LaneSetup> {
    let lanes = (0..).zip(plans);
    lanes
        .map(|(lane, plan)| scan_lane(lane, plan, job.clone()))
        .collect()
}

/// The window of a drive that is not known to spin: about 4,000 files. There sorting more gains
/// nothing, and nothing is read before the first window is full: with 41,000 files of one disk in one
/// window, a quarter of the run was over by then (2 cores, Linux 6.18).
const SMALL_WINDOW: usize = 1 << 20;

/// Returns how many bytes of entries of a drive are sorted at once, of what memory has for it.
fn window_of(rotational: Option<bool>, most: usize) -> usize {
    match rotational {
        Some(true) => most,
        Some(false) | None => most.min(SMALL_WINDOW),
    }
}

/// Returns a lane that scans and reads the sources of one drive.
pub(super) fn scan_lane(lane: usize, plan: LanePlan, job: ScanJob) -> LaneSetup {
    let window_bytes = window_of(plan.rotational, job.window_bytes);
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
                window_bytes,
            };
            feed.scan(&plan.trees, &options);
        }),
    }
}

/// Tells each lane what is known of its drive from measurements, if that is to be used. Only the
/// drives of this run are asked about.
pub(super) fn recall(
    settings: &EngineSettings,
    session: &Session,
    facts: &[LaneFacts],
    telemetry: &Telemetry,
) {
    if !settings.history {
        return;
    }
    for (view, facts) in telemetry.lanes.iter().zip(facts) {
        let drives = &facts.location.drives;
        let drive = drives.first().filter(|_| drives.len() == 1);
        let known = drive.and_then(|drive| {
            let identity = drive.serial.as_deref().or(drive.wwn.as_deref())?;
            let known = session.observer.known_drive(identity)?;
            (known.size == drive.size).then_some(known)
        });
        if let Some(known) = known {
            view.counters.set_known(known);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::job::KnownDrive;
    use crate::engine::report::{HealthChange, LaneReport, Problem};
    use crate::engine::session::Observer;
    use crate::topology::{Drive, Topology, Transport};

    #[test]
    fn what_is_not_known_to_spin_is_sorted_by_small_windows() {
        assert_eq!(window_of(Some(true), 15 << 20), 15 << 20);
        assert_eq!(window_of(Some(false), 15 << 20), 1 << 20);
        assert_eq!(window_of(None, 15 << 20), 1 << 20);
        assert_eq!(window_of(None, 4096), 4096);
    }

    /// Knows one drive, and writes down which it was asked about.
    #[derive(Debug, Default)]
    struct Memory {
        asked: Mutex<Vec<String>>,
    }

    const KNOWN: KnownDrive = KnownDrive {
        rate: 208_000_000,
        size: 8_000_000_000_000,
        queue: 3 << 20,
    };

    impl Observer for Memory {
        fn known_drive(&self, identity: &str) -> Option<KnownDrive> {
            self.asked.lock().unwrap().push(identity.to_owned());
            (identity == "Z1").then_some(KNOWN)
        }
        fn started(&self, _telemetry: &Arc<Telemetry>) {}
        fn problem(&self, _problem: &Problem) {}
        fn skipped(&self, _skipped: &Problem) {}
        fn note(&self, _line: &str) {}
        fn hashed(&self, _path: &[u8], _size: u64, _digest: &blake3::Hash) {}
        fn health(&self, _change: &HealthChange) {}
        fn drive(&self, _lane: &LaneReport) {}
        fn ended(&self) {}
    }

    fn drive(serial: Option<&str>, wwn: Option<&str>, size: u64) -> Drive {
        Drive {
            name: "sdb".to_owned(),
            device: (8, 16),
            model: None,
            serial: serial.map(str::to_owned),
            wwn: wwn.map(str::to_owned),
            rotational: None,
            transport: Transport::Unknown,
            size,
            logical_block: 512,
            physical_block: 512,
            read_only: false,
            backing: None,
        }
    }

    /// Returns what is known of the drives of three lanes, and which were asked about: of one that is
    /// known, of one with the same number and another size, and of an array that it is in.
    fn recalled(history: bool) -> (Vec<Option<KnownDrive>>, Vec<String>) {
        let here = Topology::live().unwrap().locate(Path::new("/")).unwrap();
        let lanes = [
            vec![drive(Some("Z1"), Some("naa.1"), 8_000_000_000_000)],
            vec![drive(None, Some("Z1"), 4_000_000_000_000)],
            vec![
                drive(Some("Z1"), None, 8_000_000_000_000),
                drive(Some("Z2"), None, 8_000_000_000_000),
            ],
        ];
        let facts = lanes.map(|drives| LaneFacts {
            name: String::new(),
            location: crate::topology::Location {
                drives,
                ..here.clone()
            },
            rotational: None,
            sources: Vec::new(),
        });
        let telemetry = Telemetry::new(facts.iter().map(LaneFacts::view).collect());
        let memory = Arc::new(Memory::default());
        let session = Session {
            stop: Arc::new(AtomicBool::new(false)),
            observer: Arc::clone(&memory) as Arc<dyn Observer>,
        };
        let settings = EngineSettings {
            history,
            ..EngineSettings::default()
        };
        recall(&settings, &session, &facts, &telemetry);
        let known = telemetry.lanes.iter().map(|lane| lane.counters.known());
        let asked = memory.asked.lock().unwrap().clone();
        (known.collect(), asked)
    }

    #[test]
    fn the_drives_of_a_run_are_asked_about_and_no_others() {
        let (known, asked) = recalled(true);
        assert_eq!(known, [Some(KNOWN), None, None]);
        assert_eq!(asked, ["Z1", "Z1"]);
    }

    #[test]
    fn nothing_is_asked_for_that_is_not_to_be_used() {
        assert_eq!(recalled(false), (vec![None, None, None], Vec::new()));
    }
}
