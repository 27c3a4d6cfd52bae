//! `copy`: from a job to a report.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::context::Context;
use super::feed::Feed;
use super::job::CopyJob;
use super::ledger::Listing;
use super::limit::Limiter;
use super::links::LinkTable;
use super::outcomes::{Outcomes, shown};
use super::report::{DryLane, DryRun, MountReport, Problem, Report};
use super::run::{LaneSetup, RunSettings, run};
use super::session::Session;
use super::summary::{Heading, LaneFacts, report};
use super::survey::{Counted, survey};
use super::telemetry::Telemetry;
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::{self, Chosen};
use crate::manifest::{self, PROBLEMS_FILE, Sorter, Spool};
use crate::plan::{
    Budget, LanePlan, Need, Room, TargetPlace, check_landings, lanes, look_at_target, open_sources,
    room,
};
use crate::scan::{Finished, Order, WalkOptions};
use crate::target::attributes::can_chown;
use crate::target::{LocalTarget, Policy, Settings, Target};
use crate::topology::Topology;

/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// Everything decided before anything is written.
struct Prepared {
    lanes: Vec<LanePlan>,
    place: TargetPlace,
    finished: (Sender<Finished>, Receiver<Finished>),
}

fn prepare(job: &CopyJob) -> Result<Prepared, Error> {
    let sources = open_sources(&job.sources)?;
    let place = look_at_target(&job.target, &sources)?;
    check_landings(&sources)?;
    let finished = bounded(FINISHED_QUEUE);
    let lanes = lanes(sources, &Topology::live()?, &finished.0)?;
    Ok(Prepared {
        lanes,
        place,
        finished,
    })
}

/// Chooses the backend and tells of a fallback.
pub(super) fn choose(job: &super::job::EngineSettings, session: &Session) -> Result<Chosen, Error> {
    let (chosen, note) = probe::choose(job.io)?;
    if let Some(line) = note {
        session.observer.note(&line);
    }
    Ok(chosen)
}

/// Returns the hash workers of a run: as asked, or one a core.
pub(super) fn hash_pool(settings: &super::job::EngineSettings) -> Result<HashPool, Error> {
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

fn order(plan: &LanePlan) -> Order {
    // A drive that is known not to spin gains nothing from asking where each file lies.
    if plan.rotational == Some(false) {
        Order::Inode
    } else {
        Order::Physical
    }
}

/// Copies.
///
/// # Durability
/// When the report's exit code is 0, every file it counts survives a power cut.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn copy(job: &CopyJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let Prepared {
        lanes,
        place,
        finished,
    } = prepare(job)?;
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let chosen = choose(&job.engine, session)?;
    let expected = check_space(job, &lanes, &place, &budget, session)?;

    let policy = Policy {
        setid: job.preserve.setid,
        caps: job.preserve.caps,
        owner: can_chown(),
    };
    let settings = Settings {
        policy,
        direct: true,
    };
    let target = Arc::new(LocalTarget::open(
        job.target.clone(),
        place.make()?,
        settings,
    )?);
    let home = target.home();
    let dup = || {
        rustix::io::fcntl_dupfd_cloexec(home.job(), 0)
            .map_err(|errno| Error::target(&job.target, "open the job folder", errno))
    };
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    for (view, expected) in telemetry.lanes.iter().zip(&expected) {
        view.counters.bytes_expected.store(expected.bytes, Relaxed);
        view.counters.files_expected.store(expected.inodes, Relaxed);
    }
    let mounts = mounts(job, &lanes, &target);
    let context = Context {
        session: session.clone(),
        target: Arc::clone(&target) as Arc<dyn Target>,
        outcomes: Outcomes::new(
            session.clone(),
            Arc::clone(&telemetry),
            Some(Spool::new(dup()?, PROBLEMS_FILE)),
        ),
        links: Some(LinkTable::default()),
        hash: hash_pool(&job.engine)?,
        limit: Limiter::new(job.engine.bwlimit),
        existing: job.existing,
        policy,
        special: job.preserve.special,
        copies: true,
        target_lost: false.into(),
    };
    let mut ledger = Listing {
        sorter: Sorter::new(dup()?, budget.sorter_bytes),
    };
    let registered_writes = target.fs().registered_writes();
    let setups = lanes
        .into_iter()
        .map(|plan| LaneSetup {
            rotational: plan.rotational,
            registered_writes,
            filler: Box::new(move |feed: &mut Feed<'_>| {
                let options = WalkOptions {
                    filter: &job.filter,
                    files_from: job.files_from.as_deref(),
                    order: order(&plan),
                    window_bytes: budget.window_bytes,
                };
                feed.scan(&plan.trees, &options);
            }),
        })
        .collect();
    let run_settings = RunSettings {
        chosen,
        choice: job.engine.io,
        slots_per_lane: budget.slots_per_lane,
    };
    session.observer.started(&telemetry);
    let (sender, finished) = finished;
    drop(sender);
    let ran = run(
        &context,
        &telemetry,
        setups,
        run_settings,
        &mut ledger,
        &finished,
    );
    let ends = ran.inspect_err(|_| session.observer.ended())?;

    let mut heading = Heading {
        command: "copy",
        job: home.job_name().to_owned(),
        target: job.target.to_string_lossy().into_owned(),
        mounts,
        buffer_bytes: (budget.slots_per_lane * crate::buffer::SLOT_LEN * facts.len()) as u64,
        ..Heading::default()
    };
    seal(&mut heading, &context, ledger, &target);
    let report = report(heading, &context, &telemetry, &facts, &ends, started);
    let written = write_report(&target, &report, &context);
    session.observer.ended();
    written?;
    Ok(report)
}

/// Ends a run at the target: manifest first, then the witness has the last word.
fn seal(heading: &mut Heading, context: &Context, ledger: Listing, target: &LocalTarget) {
    match manifest::write_sorted(ledger.sorter, target.home().job()) {
        Ok(counts) => heading.names_outside_b3sum = counts.outside_b3sum,
        Err(error) => {
            context.outcomes.problem(0, &error);
            heading.fatal = Some(error.kind());
        }
    }
    if let Err(error) = target.close() {
        context.outcomes.problem(0, &error);
        heading.fatal = Some(error.kind());
    }
}

fn write_report(target: &LocalTarget, report: &Report, context: &Context) -> Result<(), Error> {
    if let Err(error) = context.outcomes.finish_spool() {
        context
            .session
            .observer
            .note(&format!("{PROBLEMS_FILE} is incomplete: {error}"));
    }
    let mut json = serde_json::to_vec_pretty(report).map_err(|source| {
        Error::new(
            ErrorKind::RecordWrite,
            Side::Record,
            "report.json",
            "write the report",
        )
        .because(source)
    })?;
    json.push(b'\n');
    target.home().write_record("report.json", &json)?;
    target.home().set_latest()
}

fn mounts(job: &CopyJob, lanes: &[LanePlan], target: &LocalTarget) -> Vec<MountReport> {
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

/// Returns what each lane is expected to need, or refuses the job for want of space.
///
/// Cheap first: when every source is a whole file system, the space in use there bounds what is
/// needed. If that fits, the scan that copies is the only one, and what is shown until it ends is
/// an estimate. Otherwise everything is counted.
fn check_space(
    job: &CopyJob,
    lanes: &[LanePlan],
    place: &TargetPlace,
    budget: &Budget,
    session: &Session,
) -> Result<Vec<Need>, Error> {
    let look = |errno| Error::target(&job.target, "ask for free space", errno);
    let room = crate::beneath::read_dir_fd(place.nearest.as_fd(), b"")
        .and_then(|dir| room(dir.as_fd()))
        .map_err(look)?;
    let bounds: Option<Vec<Need>> = lanes.iter().map(|plan| used(plan, job)).collect();
    if let Some(bounds) = bounds {
        if room.fits(sum(&bounds)) {
            return Ok(bounds);
        }
    }
    let counted = count_all(job, lanes, place, budget, session)?;
    let needs: Vec<Need> = counted.iter().map(|counted| counted.need).collect();
    let need = sum(&needs);
    if !room.fits(need) && !session.stopped() {
        return Err(no_space(job, need, room));
    }
    let expected = |c: &Counted| Need {
        bytes: c.bytes,
        inodes: c.files,
    };
    Ok(counted.iter().map(expected).collect())
}

fn no_space(job: &CopyJob, need: Need, room: Room) -> Error {
    let size = |bytes| bytesize::ByteSize::b(bytes).display().si();
    let what = if need.bytes > room.bytes {
        format!(
            "the sources need {}, the target has {} free",
            size(need.bytes),
            size(room.bytes)
        )
    } else {
        format!(
            "the sources are {} files and folders in {}; the target has {} free, and {} inodes",
            need.inodes,
            size(need.bytes),
            size(room.bytes),
            room.inodes
                .map_or_else(|| "enough".to_owned(), |inodes| inodes.to_string())
        )
    };
    Error::new(ErrorKind::Refused, Side::Target, &job.target, &what)
        .because(rustix::io::Errno::NOSPC)
}

fn sum(needs: &[Need]) -> Need {
    needs.iter().fold(Need::default(), |sum, need| Need {
        bytes: sum.bytes.saturating_add(need.bytes),
        inodes: sum.inodes.saturating_add(need.inodes),
    })
}

/// Returns the space in use on a lane's file systems, where that bounds what a copy needs.
fn used(plan: &LanePlan, job: &CopyJob) -> Option<Need> {
    if job.files_from.is_some() || !job.filter.is_empty() {
        return None;
    }
    let mut need = Need::default();
    for (tree, (fs, _)) in plan.trees.iter().zip(&plan.fs) {
        // Elsewhere compression or shared extents can make files larger than the space they use.
        let plain = matches!(fs, crate::target::FsType::Ext4);
        if tree.only.is_some() || !plain || !is_mount_root(&tree.root) {
            return None;
        }
        let dir = crate::beneath::read_dir_fd(tree.root.as_fd(), b"").ok()?;
        let stat = rustix::fs::fstatvfs(dir).ok()?;
        need.bytes += stat
            .f_blocks
            .saturating_sub(stat.f_bfree)
            .saturating_mul(stat.f_frsize);
        need.inodes += stat.f_files.saturating_sub(stat.f_ffree);
    }
    Some(need)
}

fn is_mount_root(dir: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Counts every lane, all drives at the same time.
fn count_all(
    job: &CopyJob,
    lanes: &[LanePlan],
    place: &TargetPlace,
    budget: &Budget,
    session: &Session,
) -> Result<Vec<Counted>, Error> {
    let target = match place.existing() {
        Some(fd) => {
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)
                .map_err(|errno| Error::target(&job.target, "open", errno))?;
            Some(Arc::new(fd))
        }
        None => None,
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter()
            .map(|plan| {
                let target = target.as_ref();
                scope.spawn(move || {
                    let options = WalkOptions {
                        filter: &job.filter,
                        files_from: job.files_from.as_deref(),
                        order: Order::Listing,
                        window_bytes: budget.window_bytes,
                    };
                    survey(&plan.trees, &options, target, session)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().map_err(|_| {
                    let what = "counting hit a bug in inhaul";
                    Error::new(ErrorKind::Panic, Side::Source, "sources", what)
                })
            })
            .collect()
    })
}

/// Says what a copy would do, without writing anything.
///
/// # Errors
/// What would keep the job from starting, but for a lack of space: that is in the answer.
pub fn dry_run(job: &CopyJob, session: &Session) -> Result<DryRun, Error> {
    raise_descriptor_limit();
    let Prepared {
        lanes,
        place,
        finished: _finished,
    } = prepare(job)?;
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let counted = count_all(job, &lanes, &place, &budget, session)?;
    let room = crate::beneath::read_dir_fd(place.nearest.as_fd(), b"")
        .and_then(|dir| room(dir.as_fd()))
        .map_err(|errno| Error::target(&job.target, "ask for free space", errno))?;
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
        use std::os::unix::ffi::OsStrExt;
        let (path, path_hex) = shown(error.path().as_os_str().as_bytes());
        Problem {
            path,
            path_hex,
            kind: error.kind().word().to_owned(),
            reason: error.reason(),
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
            .flat_map(|c| c.problems.iter().map(problem))
            .collect(),
    })
}

/// Takes all the descriptors we may have: sixty lanes hold dozens each.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where a sandbox forbids it; then the limit stays what it was.
    let _unchanged = setrlimit(Resource::Nofile, limit);
}
