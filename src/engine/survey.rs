//! Counting before copying: for a dry run, and for the space check when nothing cheaper settles it.

use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Statx};

use super::session::Session;
use super::vitals::Pulse;
use crate::beneath::DirCache;
use crate::error::Error;
use crate::plan::Need;
use crate::scan::{Dir, Enter, Entry, Kind, Tree, Visitor, WalkOptions, walk};
use crate::target::HOME;

/// What is in some trees.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Regular files; further names of one inode not counted.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Directories.
    pub(crate) dirs: u64,
    /// Symlinks, special files and further hard links.
    pub(crate) others: u64,
    /// Files whose names are taken in the target.
    pub(crate) existing: u64,
    /// What it takes up in the target, existing names left out.
    pub(crate) need: Need,
    /// What could not be listed.
    pub(crate) problems: Vec<Error>,
    /// Whether all was asked about; not when its drive did not answer.
    pub(crate) is_whole: bool,
}

/// What ties the counting of some trees to whoever waits for it.
#[derive(Debug)]
pub(crate) struct Ties {
    session: Session,
    /// Whether it waits for the drive, and for how long.
    pub(crate) pulse: Pulse,
    is_left: AtomicBool,
    bound: Mutex<Need>,
}

impl Ties {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            pulse: Pulse::default(),
            is_left: AtomicBool::new(false),
            bound: Mutex::default(),
        }
    }

    /// Notes that nobody waits for it any more.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Relaxed);
    }

    /// Notes what the trees need at most, as their file systems have it.
    pub(crate) fn set_bound(&self, need: Need) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = need;
    }

    /// Returns that; nothing before it was noted.
    pub(crate) fn bound(&self) -> Need {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        // Whoever asks is not held by the kernel.
        self.pulse.forgive();
        self.session.stopped() || self.is_left.load(Relaxed)
    }
}

/// Most inodes with several names that are remembered; beyond that each name counts as a file.
const LINKED_MAX: usize = 100_000;
/// Below this a file is counted with its full size: its bytes may be stored inside the inode.
const INLINE_MAX: u64 = 64 << 10;

struct Surveyor<'a> {
    ties: &'a Ties,
    targets: Vec<DirCache>,
    counted: Counted,
    linked: std::collections::HashSet<(u64, u64)>,
}

/// Counts what is in `trees`, looking up each name in the targets that there are.
pub(crate) fn survey(
    trees: &[Arc<Tree>],
    options: &WalkOptions<'_>,
    targets: &[Arc<OwnedFd>],
    ties: &Ties,
) -> Counted {
    let mut surveyor = Surveyor {
        ties,
        targets: targets
            .iter()
            .map(|root| DirCache::new(Arc::clone(root), 32))
            .collect(),
        counted: Counted::default(),
        linked: std::collections::HashSet::new(),
    };
    for tree in trees {
        walk(tree, options, &mut surveyor);
    }
    surveyor.counted.is_whole = true;
    surveyor.counted
}

impl Surveyor<'_> {
    fn is_taken(&mut self, entry: &Entry) -> bool {
        let path = entry.dir.target_path();
        self.targets.iter_mut().any(|dirs| {
            let dir = dirs.get(&path);
            let stat = dir
                .and_then(|dir| rustix::fs::statat(&dir, &*entry.name, AtFlags::SYMLINK_NOFOLLOW));
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
        })
    }

    fn count(&mut self, entry: &Entry) {
        let counted = &mut self.counted;
        let further = entry.nlink > 1
            && self.linked.len() < LINKED_MAX
            && !self.linked.insert((entry.stamp.dev, entry.stamp.ino));
        if entry.kind != Kind::File || further {
            counted.others += 1;
            counted.need.inodes += u64::from(!further);
            return;
        }
        let size = entry.stamp.size;
        counted.files += 1;
        counted.bytes += size;
        if self.is_taken(entry) {
            self.counted.existing += 1;
            return;
        }
        self.counted.need.bytes += if size > INLINE_MAX {
            size.min(entry.allocated)
        } else {
            size
        };
        self.counted.need.inodes += 1;
    }
}

impl Visitor for Surveyor<'_> {
    fn enter(
        &mut self,
        dir: &Arc<Dir>,
        _fd: BorrowedFd<'_>,
        _stat: &Statx,
    ) -> Result<Enter, Error> {
        if dir.target_path() == HOME.as_bytes() {
            return Ok(Enter::Skip);
        }
        self.counted.dirs += 1;
        self.counted.need.inodes += 1;
        Ok(Enter::Descend)
    }

    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        // Names are looked up in the targets meanwhile: their time is none of the drive's.
        self.ties.pulse.end();
        for entry in &batch {
            self.count(entry);
        }
        self.ties.pulse.begin();
        ControlFlow::Continue(())
    }

    fn problem(&mut self, error: Error) {
        if self.counted.problems.len() < super::report::PROBLEMS_MAX {
            self.counted.problems.push(error);
        }
    }

    fn skipped(&mut self, _path: PathBuf, _kind: &'static str, _why: &str) {}

    fn answered(&self) {
        self.ties.pulse.forgive();
    }

    fn only_counts(&self) -> bool {
        true
    }

    fn stopped(&self) -> bool {
        self.ties.stopped()
    }
}
