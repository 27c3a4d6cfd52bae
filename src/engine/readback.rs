//! Reading back: what was acknowledged is read from the target's medium, while later files are
//! still being copied, and compared with the digest taken on the way.
//!
//! One lane of its own follows the journal. A file's turn comes when so many bytes more were really
//! written that no drive's own cache holds it: links, holes and what was kept count for nothing. At
//! the end of the run what is left is read in the same order, and what was read before a file takes
//! the place of what was not written behind it. Only where both together fall short of
//! [`DISTANCE`] can the distance not be kept, and that is said of the file.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::context::Context;
use super::feed::Feed;
use super::findings::{Evidence, Findings};
use super::job::EngineSettings;
use super::ledger::Ledger;
use super::log::Log;
use super::pace::Turn;
use super::run::{LaneSetup, RunSettings, run};
use super::session::{Session, Silent};
use super::setup::reading_context;
use super::telemetry::{LaneCounters, LaneView, Telemetry};
use super::verify;
use crate::beneath::DirCache;
use crate::digest::Hash;
use crate::error::{Error, ErrorKind};
use crate::journal::{Done, Follower, Grade, Position, Record, TargetStamp};
use crate::manifest;
use crate::scan::{Dir, Entry, Finished, Tree};
use crate::seam;
use crate::target::LocalTarget;

/// Bytes that are written or read between the write of a file and its being read back: more than
/// twice the largest cache of a drive, 512 MiB by the makers' data sheets.
const DISTANCE: u64 = 1 << 30;
/// How long, and how often, the end of the run is waited with for what is on its way to being read:
/// ten seconds, in which any drive reads it.
const WAIT: Duration = Duration::from_millis(5);
const WAITS_MAX: usize = 2000;
/// Files looked up and handed to the lane together.
const BATCH: usize = 256;
/// Bytes after which they are handed over earlier: what is on its way does not count as read yet.
const BATCH_BYTES: u64 = 64 << 20;

/// A file to be read back.
#[derive(Debug)]
struct Due {
    source: u32,
    path: Vec<u8>,
    digest: Hash,
    size: u64,
    stamp: TargetStamp,
    linked: bool,
}

impl Due {
    fn of(done: &Done<'_>) -> Self {
        Self {
            source: done.source,
            path: done.target_path.to_vec(),
            digest: Hash::from_bytes(done.digest),
            size: done.source_stamp.size,
            stamp: done.target_stamp,
            linked: done.linked,
        }
    }
}

/// What is known of a file that the lane has.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    source: u32,
    /// What it was published as.
    stamp: TargetStamp,
    grade: Grade,
}

/// The lane that reads back.
#[derive(Debug)]
pub(super) struct ReadBack {
    session: Session,
    log: Arc<Log>,
    context: Arc<Context>,
    telemetry: Arc<Telemetry>,
    root: Arc<OwnedFd>,
    label: PathBuf,
    device: u64,
    job_dir: OwnedFd,
    job_label: PathBuf,
    start: Position,
    /// Bytes of files that earlier runs acknowledged and did not read back.
    earlier_bytes: u64,
    waiting: Mutex<HashMap<Vec<u8>, Waiting>>,
    cancelled: AtomicBool,
}

impl ReadBack {
    /// Prepares it; `log` has acknowledged nothing yet. `copying` are the lanes that copy: this one
    /// is shown beside them.
    ///
    /// # Errors
    /// When descriptors or threads cannot be had.
    pub(super) fn new(
        session: &Session,
        settings: &EngineSettings,
        target: &LocalTarget,
        label: &Path,
        log: &Arc<Log>,
        copying: &Telemetry,
    ) -> Result<Self, Error> {
        let quiet = Session {
            stop: Arc::clone(&session.stop),
            observer: Arc::new(Silent),
        };
        let view = LaneView {
            name: "read back".to_owned(),
            sources: vec![label.to_owned()],
            counters: LaneCounters::default(),
        };
        let expected = copying.lanes.iter();
        let expected = expected.map(|lane| lane.counters.bytes_expected.load(Relaxed));
        let expected = expected.fold(0, u64::saturating_add);
        view.counters.bytes_expected.store(expected, Relaxed);
        let telemetry = Arc::new(Telemetry::new(vec![view]));
        copying.add_again(&telemetry);
        let cannot = |errno| Error::target(label, "open the target to read back", errno);
        let root = rustix::io::fcntl_dupfd_cloexec(target.root(), 0).map_err(cannot)?;
        let evidence = Evidence::new(target.fs());
        let context = Arc::new(Context {
            evidence: Some(evidence),
            ..reading_context(&quiet, &telemetry, settings)?
        });
        Ok(Self {
            session: session.clone(),
            log: Arc::clone(log),
            context,
            telemetry,
            root: Arc::new(root),
            label: label.to_owned(),
            device: target.identity().0,
            job_dir: target.home().job_dir()?,
            job_label: target.home().job_label(),
            start: log.position(),
            earlier_bytes: not_read_back(log).map(|done| done.source_stamp.size).sum(),
            waiting: Mutex::default(),
            cancelled: AtomicBool::new(false),
        })
    }

    /// Gives up: what is still to be read back stays so.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
        // The lane stops by it, too, whatever it was given already.
        let _stopped_before = self.context.lost.set(ErrorKind::Stopped);
    }

    /// Reads back until nothing more will be acknowledged.
    ///
    /// # Errors
    /// When it cannot begin.
    pub(super) fn run(self: &Arc<Self>, settings: RunSettings) -> Result<(), Error> {
        // The tree goes away with the lane: while it lives, the run waits for its directories.
        let (sender, finished) = bounded(1);
        let tree = self.tree(sender)?;
        let back = Arc::clone(self);
        let setup = LaneSetup {
            lane: 0,
            rotational: None,
            registered_writes: false,
            reads_by_ring: true,
            filler: Box::new(move |feed: &mut Feed<'_>| back.fill(feed, tree)),
        };
        let mut ledger = Comparing { back: self };
        let lane = self.context.outcomes.lane(0).map(LaneCounters::vitals);
        self.log.vigil().set_lane(lane);
        let ran = run(
            &self.context,
            &self.telemetry,
            vec![setup],
            // (It is the target that is read: the watch over that tells when it does not answer, and
            // without it nothing goes on anyway.)
            RunSettings {
                stall: None,
                may_return: false,
                ..settings
            },
            &mut ledger,
            finished,
            None,
        );
        self.log.vigil().set_lane(None);
        ran.map(drop)
    }

    /// Returns what was found of files that were not found right.
    pub(super) fn findings(&self) -> Findings {
        match &self.context.evidence {
            Some(evidence) => evidence.findings(),
            None => Findings::default(),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.cancelled.load(Relaxed) || self.context.halted()
    }

    fn tree(&self, finished: Sender<Finished>) -> Result<Arc<Tree>, Error> {
        let root = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)
            .map_err(|errno| Error::target(&self.label, "open the target to read back", errno))?;
        Ok(Arc::new(Tree {
            index: 0,
            label: self.label.clone(),
            root,
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device: self.device,
            direct: !seam::bug("read-back-cached"),
            trusts_holes: false, // a lost block may read as zeros
            trusts_sizes: true,  // it was cut to its length
            keeps_inodes: true,
            finished,
        }))
    }

    fn fill(&self, feed: &mut Feed<'_>, tree: Arc<Tree>) {
        let mut batch = Batch {
            back: self,
            feed,
            dirs: DirCache::new(Arc::clone(&self.root), 64),
            top: Dir::root(tree),
            entries: Vec::new(),
            bytes: 0,
            handed: 0,
            near_bytes: 0,
            read_at_end: None,
        };
        if let Err(error) = self.follow(&mut batch) {
            self.context.outcomes.problem(0, &error);
        }
        batch.deliver();
        feed.counters.scan_ended.store(true, Relaxed);
    }

    /// Says how much is left when nothing more is copied: the run may go on for long.
    pub(super) fn tell_rest(&self) {
        let Some(counters) = self.context.outcomes.lane(0).filter(|_| !self.stopped()) else {
            return;
        };
        let all = self.earlier_bytes + self.log.pace().bytes_acknowledged();
        counters.bytes_expected.store(all, Relaxed);
        let rest = all.saturating_sub(counters.bytes_done.load(Relaxed));
        if rest > 0 {
            let rest = bytesize::ByteSize::b(rest).display().si();
            self.session.observer.note(&format!(
                "copying has ended, and what was copied is durable; {rest} are still to be read \
                 back"
            ));
        }
    }

    /// Follows the journal to its end.
    fn follow(&self, batch: &mut Batch<'_, '_, '_>) -> Result<(), Error> {
        let mut follower = Follower::new(self.job_dir.as_fd(), &self.job_label, self.start)?;
        // The first batch is what earlier runs acknowledged and did not read back.
        let mut is_first = true;
        while !self.stopped() {
            let (acknowledged, behind) = match self.log.pace().take_turn(DISTANCE) {
                Turn::Of(acknowledged, behind) => (acknowledged, behind),
                Turn::AtEnd(acknowledged, behind) => {
                    batch.end_of_writes();
                    (acknowledged, behind)
                }
                Turn::NotYet => continue,
                Turn::Never => break,
            };
            if std::mem::take(&mut is_first) {
                for done in not_read_back(&self.log) {
                    if self.stopped() {
                        break;
                    }
                    batch.add(Due::of(&done), behind);
                }
            }
            follower.next(acknowledged.position, &mut |record| {
                if self.stopped() {
                    return ControlFlow::Break(());
                }
                if let Record::Done(done) = record {
                    batch.add(Due::of(&done), behind);
                }
                ControlFlow::Continue(())
            })?;
            batch.deliver();
        }
        Ok(())
    }
}

/// Returns the files that earlier runs acknowledged and did not read back.
fn not_read_back(log: &Log) -> impl Iterator<Item = Done<'_>> {
    log.earlier().into_iter().flat_map(|earlier| {
        let all = earlier.iter_done();
        all.filter(|done| earlier.verified(done.target_path).is_none())
    })
}

/// Files on their way to the lane.
struct Batch<'b, 'f, 'r> {
    back: &'b ReadBack,
    feed: &'f mut Feed<'r>,
    dirs: DirCache,
    top: Arc<Dir>,
    entries: Vec<Entry>,
    /// Bytes in those.
    bytes: u64,
    /// Bytes handed over so far.
    handed: u64,
    /// Those of them that need not come from the medium: holes, and what has several names, of which
    /// the second may come from the memory of the drive.
    near_bytes: u64,
    /// What had been read when nothing more was written; `None` before.
    read_at_end: Option<u64>,
}

impl Batch<'_, '_, '_> {
    /// Hands a file over, behind which so many bytes were written.
    fn add(&mut self, due: Due, behind: u64) {
        let record = manifest::Record {
            path: due.path.clone(),
            digest: due.digest,
        };
        let label = &self.back.label;
        // What cannot be looked at is not verified, and looked at by itself in the end.
        let asking = self.back.log.vigil().ask();
        let looked = verify::entry_and_stat(&self.top, record, &mut self.dirs, label);
        drop(asking);
        let Ok((entry, stat)) = looked else {
            return;
        };
        if TargetStamp::from(entry.stamp) != due.stamp {
            return; // another file by now, or changed
        }
        let on_medium = if due.linked {
            0
        } else {
            stat.stx_blocks.saturating_mul(512).min(due.size)
        };
        // Of a file that is longer than the distance, each byte has the others in between.
        let without_reads = behind.saturating_add(on_medium);
        let read = self.read_up_to(DISTANCE.saturating_sub(without_reads));
        let distance = without_reads.saturating_add(read);
        let waiting = Waiting {
            source: due.source,
            stamp: due.stamp,
            grade: if distance >= DISTANCE {
                Grade::Medium
            } else {
                Grade::Near
            },
        };
        self.near_bytes += due.size - on_medium;
        self.handed += due.size;
        self.bytes += due.size;
        self.back.waiting().insert(due.path, waiting);
        self.feed.count(due.size);
        self.entries.push(entry);
        if self.entries.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.deliver();
        }
    }

    /// Notes that nothing more is written.
    fn end_of_writes(&mut self) {
        if self.read_at_end.is_none() {
            let read = self.feed.counters.bytes_read.load(Relaxed);
            self.read_at_end = Some(read);
            // Of what was handed over and is not read yet, any may be such.
            let on_the_way = self.handed.saturating_sub(read);
            self.near_bytes = self.near_bytes.min(on_the_way);
        }
    }

    /// Returns how much was read from the medium for sure since the last write: of what was handed
    /// over before the file that is next.
    fn read_in_between(&self) -> u64 {
        let Some(at_end) = self.read_at_end else {
            return 0;
        };
        let read = self.feed.counters.bytes_read.load(Relaxed);
        read.saturating_sub(at_end).saturating_sub(self.near_bytes)
    }

    /// Returns how much was read in between; if that is less than is missing, waits for what is on
    /// its way when that makes up for it.
    fn read_up_to(&mut self, missing: u64) -> u64 {
        let mut read = self.read_in_between();
        if self.read_at_end.is_none() || read >= missing {
            return read;
        }
        let on_its_way = |batch: &Self| {
            let read = batch.feed.counters.bytes_read.load(Relaxed);
            batch.handed.saturating_sub(read)
        };
        if read.saturating_add(on_its_way(self)) < missing {
            return read;
        }
        self.deliver();
        for _ in 0..WAITS_MAX {
            read = self.read_in_between();
            if read >= missing || on_its_way(self) == 0 || self.back.stopped() {
                break;
            }
            std::thread::sleep(WAIT);
        }
        read
    }

    fn deliver(&mut self) {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        // A lane that wants no more is stopping, which the next look at the stop flag finds out.
        let _stopping = self.feed.deliver(entries);
    }
}

/// Compares what was read back, and notes in the journal what is right.
#[derive(Debug)]
struct Comparing<'b> {
    back: &'b ReadBack,
}

impl Ledger for Comparing<'_> {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        _existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        let path = entry.target_path();
        let (Some(waiting), Some(evidence)) = (
            self.back.waiting().remove(&path),
            &self.back.context.evidence,
        ) else {
            return Ok(());
        };
        seam::point("read-back");
        let is_right = entry.recorded.as_ref() == digest || seam::bug("read-back-not-compared");
        if !is_right {
            evidence.add_wrong(path);
            return Ok(());
        }
        let is_it = TargetStamp::from(entry.stamp) == waiting.stamp;
        if is_it && !evidence.is_unproven(&path) {
            let Waiting {
                source,
                stamp,
                grade,
            } = waiting;
            self.back.log.verified(source, &path, stamp.ino, grade)?;
        }
        Ok(())
    }
}
