//! `verify`: every file of a manifest, read again from the medium and compared.

use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crossbeam::channel::bounded;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};

use super::context::Context;
use super::examine::Examiner;
use super::feed::Feed;
use super::job::VerifyJob;
use super::ledger::Comparing;
use super::report::{MountReport, Report};
use super::run::{LaneSetup, RunSettings, run};
use super::session::Session;
use super::setup::{choose, raise_descriptor_limit, reading_context, recall};
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use crate::beneath::{self, DirCache};
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::{self, Record};
use crate::plan::Budget;
use crate::scan::{Dir, Entry, FileStamp, Kind, Tree, as_path};
use crate::target::{Home, fs_type};
use crate::topology::Topology;

/// Records looked up, sorted and handed to the lane together.
const BATCH: usize = 1024;

/// Verifies a target against a job's manifest.
///
/// # Errors
/// What keeps it from starting: no such job, a manifest that does not parse.
#[expect(
    clippy::too_many_lines,
    reason = "what a run is made of, in the order in which it begins and ends"
)]
pub fn verify(job: &VerifyJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let usage = |what: &str, errno: rustix::io::Errno| {
        Error::new(ErrorKind::Usage, Side::Target, &job.target, what).because(errno)
    };
    let root = beneath::open_root(&job.target).map_err(|errno| usage("open the target", errno))?;
    let (job_name, records_dir) = Home::find_job(root.as_fd(), &job.target, job.job.as_deref())?;
    let readable =
        beneath::read_dir_fd(root.as_fd(), b"").map_err(|errno| usage("open the target", errno))?;
    let fs = fs_type(&readable).map_err(|errno| usage("look at the target", errno))?;
    let device = rustix::fs::fstat(&readable)
        .map_err(|e| usage("look at the target", e))?
        .st_dev;
    let location = Topology::live()?.locate(&job.target)?;
    let budget = Budget::new(job.engine.memory, 1)?;
    let chosen = choose(&job.engine, session)?;
    let (direct, why) = fs.direct_read();
    let mount = MountReport {
        path: job.target.to_string_lossy().into_owned(),
        side: "target".to_owned(),
        fs: location.mount.fs.clone(),
        access: if direct { "direct" } else { "buffered" }.to_owned(),
        why: why.to_owned(),
    };
    let rotational = location.drives.iter().find_map(|drive| drive.rotational);
    let facts = vec![LaneFacts {
        name: location.name(),
        location,
        rotational,
        sources: vec![job.target.clone()],
    }];
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    recall(&job.engine, session, &facts, &telemetry);
    let (sender, finished) = bounded(1);
    let tree = Arc::new(Tree {
        index: 0,
        label: job.target.clone(),
        root,
        only: None,
        landing: Vec::new(),
        root_attributes: false,
        device,
        direct,
        trusts_holes: false, // every byte is read, holes too: a lost block may read as zeros
        trusts_sizes: true,  // what counts is the length that was recorded
        keeps_inodes: true,
        finished: sender,
    });
    let context = Arc::new(Context {
        examiner: Examiner::new(
            &tree.root,
            &job.target,
            &records_dir,
            &job.repair_from,
            session,
        )?,
        ..reading_context(session, &telemetry, &job.engine)?
    });
    let setup = LaneSetup {
        lane: 0,
        rotational,
        registered_writes: false,
        reads_by_ring: true,
        filler: Box::new(move |feed: &mut Feed<'_>| feed_records(feed, tree, &records_dir)),
    };
    let settings = RunSettings::new(chosen, &job.engine, budget.slots_per_lane);
    session.observer.started(&telemetry);
    let ran = run(
        &context,
        &telemetry,
        vec![setup],
        settings,
        &mut Comparing { side: Side::Target },
        finished,
        None,
    );
    session.observer.ended();
    let buffered = context.outcomes.buffered_reads.load(Relaxed);
    if buffered > 0 {
        session.observer.note(&format!(
            "{buffered} files were read through the page cache ({why}): \
             that proves what memory holds, not what the medium holds"
        ));
    }
    let heading = Heading {
        command: "verify",
        job: job_name,
        target: job.target.to_string_lossy().into_owned(),
        mounts: vec![mount],
        repairs: context
            .examiner
            .as_ref()
            .map_or_else(Vec::new, Examiner::repairs),
        ..Heading::default()
    };
    Ok(report(
        heading, &context, &telemetry, &facts, &ran?, started,
    ))
}

/// Turns records into entries, in batches sorted by inode.
fn feed_records(feed: &mut Feed<'_>, tree: Arc<Tree>, records: &OwnedFd) {
    let label = tree.label.clone();
    let root = match rustix::io::fcntl_dupfd_cloexec(&tree.root, 0) {
        Ok(root) => Arc::new(root),
        Err(errno) => {
            feed.context
                .outcomes
                .problem(feed.lane, &Error::source(&label, "open", errno));
            return;
        }
    };
    let mut dirs = DirCache::new(root, 64);
    let top = Dir::root(tree);
    let mut batch = Vec::new();
    let loaded = match manifest::load(records.as_fd()) {
        Ok(loaded) => loaded,
        Err(error) => {
            feed.context.outcomes.problem(feed.lane, &error);
            return;
        }
    };
    let mut read = 0;
    for record in loaded {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                feed.context.outcomes.problem(feed.lane, &error);
                return;
            }
        };
        read += 1;
        match entry(&top, record, &mut dirs, &label) {
            Ok(entry) => {
                feed.count(entry.stamp.size);
                batch.push(entry);
            }
            Err(error) => feed.context.outcomes.problem(feed.lane, &error),
        }
        if batch.len() >= BATCH && deliver(feed, &mut batch) == ControlFlow::Break(()) {
            feed.context.interrupted.store(true, Relaxed);
            return;
        }
    }
    if let Some(wrong) = doubtful(records, read) {
        feed.context.outcomes.problem(feed.lane, &wrong);
    }
    // The feed going away wakes the lane; whether it still wants the last batch is its business.
    let _last = deliver(feed, &mut batch);
    feed.counters.scan_ended.store(true, Relaxed);
}

/// Longest report that is read back, in bytes: a thousand problems with the longest of paths.
const REPORT_LEN_MAX: u64 = 256 << 20;

/// Returns what makes a manifest of `read` records doubtful, by the report of its job: a file cut
/// between two records parses, and one that lists nothing proves nothing about files that the job
/// met or failed on. A job that was cut short itself has no report.
fn doubtful(records: &OwnedFd, read: u64) -> Option<Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(records, "report.json", flags, Mode::empty()).ok()?;
    let report = std::fs::File::from(file).take(REPORT_LEN_MAX);
    let report: serde_json::Value = serde_json::from_reader(report).ok()?;
    let listed = report.get("manifest_records")?.as_u64()?;
    let error = |kind, what: &str| Error::new(kind, Side::Record, manifest::B3SUM_FILE, what);
    if listed != read {
        let what = format!("the manifest has {read} files, the report of its job counts {listed}");
        return Some(error(ErrorKind::RecordCorrupt, &what));
    }
    let existing = report
        .pointer("/totals/existing")
        .and_then(serde_json::Value::as_u64);
    let problems = report
        .get("problem_count")
        .and_then(serde_json::Value::as_u64);
    let met_files = existing.unwrap_or(0) + problems.unwrap_or(0) > 0;
    (read == 0 && met_files).then(|| {
        let what = "the manifest lists no files: nothing was verified";
        error(ErrorKind::Missing, what)
    })
}

fn deliver(feed: &mut Feed<'_>, batch: &mut Vec<Entry>) -> ControlFlow<()> {
    let mut batch = std::mem::take(batch);
    batch.sort_by_key(|entry| entry.position);
    feed.deliver(batch)
}

fn entry(
    top: &Arc<Dir>,
    record: Record,
    dirs: &mut DirCache,
    label: &Path,
) -> Result<Entry, Error> {
    entry_and_stat(top, record, dirs, label).map(|(entry, _)| entry)
}

pub(super) fn entry_and_stat(
    top: &Arc<Dir>,
    record: Record,
    dirs: &mut DirCache,
    label: &Path,
) -> Result<(Entry, Statx), Error> {
    let path = record.path.as_slice();
    let (dir, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..)),
        None => (&[][..], Some(path)),
    };
    let name = name.unwrap_or_default();
    let looked = dirs.get(dir).and_then(|dir| {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statx(&dir, name, flags, StatxFlags::BASIC_STATS)
    });
    let stat = looked.map_err(|errno| {
        let missing = matches!(errno, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR);
        let kind = if missing {
            ErrorKind::Missing
        } else {
            ErrorKind::SourceRead
        };
        let what = "recorded in the manifest, but it cannot be found";
        Error::new(kind, Side::Target, label.join(as_path(path)), what).because(errno)
    })?;
    let stamp: FileStamp = beneath::stamp_of(&stat);
    let entry = Entry {
        dir: Arc::clone(top),
        name: record.path.into_boxed_slice(),
        kind: Kind::File,
        stamp,
        allocated: stamp.size,
        nlink: 1,
        position: stamp.ino,
        recorded: Some(record.digest),
    };
    Ok((entry, stat))
}
