//! The files of a directory that stand for all of it: large ones to read from end to end, small
//! ones to read whole.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use rustix::fs::{Statx, StatxFlags};

use super::cached::Probe;
use super::cursor::Extent;
use super::report::Holds;
use super::sample::Ties;
use crate::beneath::{DirCache, OpenedSource, dirs_affordable, open_source};
use crate::buffer::{ALIGN, SLOT_LEN};
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{NamedLink, lanes, open_sources};
use crate::scan::{
    Dir, Enter, Entry, Filter, Kind, Order, Tree, Visitor, WalkOptions, is_encoded, walk,
};
use crate::target::FsType;
use crate::topology::{Location, Topology};

/// Largest small file: what the engine reads with one request of a quarter of a buffer.
const SMALL_MAX: u64 = 256 << 10;
/// Most small files that are read.
const SMALL_FILES_MAX: usize = 6000;
/// How long folders are entered to look for files: what is found by then stands for the rest.
pub(crate) const LOOK_MAX: Duration = Duration::from_secs(20);
/// How long after that the folder at hand may still be listed. What was met and is not sorted by then is
/// not counted.
const LIST_MAX: Duration = Duration::from_secs(10);
/// Memory for entries that wait to be sorted.
const WINDOW: usize = 4 << 20;
/// Places of a file that are looked at for how it is stored. (btrfs decides anew for each 128 KiB.)
const PLACES: u64 = 64;
/// Small files of which it is looked at how they are stored.
const LOOKED_AT: usize = 64;
/// Inodes with more than one name that are remembered, so that each is counted once: some MiB.
const LINKED_MAX: usize = 1 << 16;
/// Less than this to read from end to end says nothing about a drive.
const LEAST: u64 = 4 << 20;

/// A small file.
#[derive(Debug, Clone)]
pub(crate) struct Small {
    /// Its folder, below the root. No descriptor of it: there may be as many folders as files.
    pub(crate) folder: Arc<[u8]>,
    pub(crate) name: Box<[u8]>,
    pub(crate) size: u64,
}

/// What was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) location: Location,
    pub(crate) extents: Vec<Extent>,
    pub(crate) small: Vec<Small>,
    /// What small files are below.
    pub(crate) root: Option<Arc<OwnedFd>>,
    /// See `Opened::probes`.
    pub(crate) probes: Vec<Probe>,
    /// Whether O_DIRECT settles that the medium answers.
    pub(crate) settled: bool,
    /// What is in it, or what was seen of it.
    pub(crate) holds: Holds,
    pub(crate) warnings: Vec<String>,
}

/// Looks for files below `path` and opens the largest `files_max` of them.
///
/// `must_read` says that there has to be enough to read: nothing else is measured there. After
/// `look_max` no further folder is entered.
///
/// # Errors
/// `Refused` when its files are in memory, or when there is nothing to read.
pub(crate) fn choose(
    path: &Path,
    topology: &Topology,
    files_max: usize,
    must_read: bool,
    look_max: Duration,
    ties: &Ties,
) -> Result<Chosen, Error> {
    let refused = |what: &str| Error::new(ErrorKind::Refused, Side::Source, path, what);
    let (sender, _finished) = bounded(1);
    let sources = open_sources(&[path.to_owned()], NamedLink::Followed)?;
    let plan = lanes(sources, topology, &sender)?.pop();
    let plan = plan.ok_or_else(|| refused("it is on no drive"))?;
    let fs = plan.fs.first().map_or(FsType::Other, |(fs, _)| *fs);
    let cached = in_memory(fs, must_read).map_err(|what| refused(&what))?;
    let tree = plan
        .trees
        .first()
        .ok_or_else(|| refused("it is on no drive"))?;
    let filter = Filter::new(Vec::new())?;
    let options = WalkOptions {
        filter: &filter,
        files_from: None,
        order: Order::Inode,
        window_bytes: WINDOW,
    };
    let mut gather = Gather {
        ties,
        until: Instant::now() + look_max,
        entered: false,
        files_max,
        large: Vec::new(),
        small: Vec::new(),
        holds: Holds::default(),
        linked: HashSet::new(),
        cut: false,
        unread: 0,
    };
    walk(tree, &options, &mut gather);
    let cut = gather.cut || gather.stopped();
    let (unread, holds) = (gather.unread, gather.holds);
    let (large, small) = gather.finish();
    let settled = matches!(fs, FsType::Ext4 | FsType::Xfs);
    let mut chosen = Chosen {
        location: plan.location.clone(),
        extents: Vec::new(),
        small: Vec::new(),
        root: None,
        probes: Vec::new(),
        settled,
        holds: Holds {
            counted: !cut,
            ..holds
        },
        warnings: Vec::new(),
    };
    if cached.is_none() {
        open_large(tree, large, &mut chosen, ties);
        open_small(tree, small, &mut chosen, ties);
    }
    if unread > 0 {
        let warning = format!("{unread} folders could not be listed");
        chosen.warnings.push(warning);
    }
    let bytes: u64 = chosen.extents.iter().map(|extent| extent.len).sum();
    if bytes < LEAST && !must_read {
        chosen.extents.clear();
        let why = cached.unwrap_or("too little in it to read");
        let warning = format!("{why}: only writing is measured");
        chosen.warnings.push(warning);
    } else if bytes < LEAST {
        return Err(refused(
            "less than 4 MiB in files that could be opened, have no holes and are not stored \
             compressed: too little to measure; name its block device instead, which is only read",
        ));
    }
    Ok(chosen)
}

/// Returns why a rate of reading would be that of memory, where it would; an error where nothing else
/// would be measured, or there is nothing but memory to write to.
fn in_memory(fs: FsType, must_read: bool) -> Result<Option<&'static str>, String> {
    match fs.direct_read() {
        (true, _) => Ok(None),
        (false, why) if must_read || fs == FsType::Memory => {
            Err(format!("{why}: a rate would be that of memory"))
        }
        (false, why) => Ok(Some(why)),
    }
}

/// Returns whether reads of a file bypass the page cache; `None` when nobody says. Where a file system
/// takes O_DIRECT and reads through its cache all the same (ext4 with data=journal, files with fs-verity
/// or encryption, files in their inode), it says that nothing is aligned for it. Source: statx(2),
/// `stx_dio_mem_align`; before Linux 6.1 no file system says so.
pub(super) fn bypasses_cache(opened: &OpenedSource) -> Option<bool> {
    if !opened.direct {
        return Some(false);
    }
    let told = opened.stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    told.then_some(opened.stat.stx_dio_mem_align != 0)
}

fn open_large(tree: &Arc<Tree>, large: Vec<Entry>, chosen: &mut Chosen, ties: &Ties) {
    let Ok(root) = tree.root.try_clone() else {
        return;
    };
    let mut dirs = DirCache::new(Arc::new(root), 32);
    let (mut buffered, mut untold, mut encoded) = (false, false, 0);
    for entry in large {
        ties.beat();
        let Ok(dir) = dirs.get(&entry.dir.source_path()) else {
            continue;
        };
        let Ok(opened) = open_source(dir.as_fd(), &entry.name, true) else {
            continue;
        };
        let size = opened.stat.stx_size;
        let len = size - size % ALIGN as u64;
        if len == 0 {
            continue;
        }
        if is_encoded(opened.file.as_fd(), size, PLACES) {
            encoded += 1;
            continue;
        }
        let direct = bypasses_cache(&opened);
        buffered |= direct == Some(false);
        untold |= direct.is_none();
        if !chosen.settled || direct != Some(true) {
            let Ok(probe) = open_source(dir.as_fd(), &entry.name, false) else {
                continue;
            };
            chosen.probes.push((probe.file, size));
        }
        chosen.extents.push(Extent {
            file: Arc::new(opened.file),
            start: 0,
            len,
            path: Arc::new(entry.display_path()),
        });
    }
    chosen.settled &= !buffered && !untold;
    if buffered {
        chosen.warnings.push(
            "O_DIRECT was refused, or does nothing there: its files are read through the page \
             cache, dropped from it before each sample"
                .to_owned(),
        );
    }
    if encoded > 0 {
        chosen.warnings.push(format!(
            "{encoded} of its largest files are left out: they are stored compressed or encrypted, and \
             their rate would not be that of the drive"
        ));
    }
}

fn open_small(tree: &Arc<Tree>, small: Vec<Entry>, chosen: &mut Chosen, ties: &Ties) {
    let Ok(root) = tree.root.try_clone() else {
        return;
    };
    let root = Arc::new(root);
    let mut dirs = DirCache::new(Arc::clone(&root), dirs_affordable(1));
    chosen.root = Some(root);
    let mut folder: Arc<[u8]> = Arc::from([]);
    let every = small.len().div_ceil(LOOKED_AT).max(1);
    let (mut looked_at, mut encoded) = (0, 0);
    for (index, entry) in small.into_iter().enumerate() {
        let path = entry.dir.source_path();
        let Ok(dir) = dirs.get(&path) else {
            continue;
        };
        if *folder != *path {
            folder = Arc::from(path);
        }
        if index % every == 0
            && let Ok(opened) = open_source(dir.as_fd(), &entry.name, false)
        {
            ties.beat();
            looked_at += 1;
            encoded += u32::from(is_encoded(opened.file.as_fd(), entry.stamp.size, 1));
        }
        chosen.small.push(Small {
            folder: Arc::clone(&folder),
            name: entry.name,
            size: entry.stamp.size,
        });
    }
    if encoded > 0 {
        chosen.warnings.push(format!(
            "{encoded} of {looked_at} small files that were looked at are stored compressed or \
             encrypted: the drive gives less for them than they hold"
        ));
    }
}

/// One visit of a tree.
struct Gather<'t> {
    ties: &'t Ties,
    until: Instant,
    /// Whether a folder was entered; one always is.
    entered: bool,
    files_max: usize,
    /// The largest so far, not sorted.
    large: Vec<Entry>,
    small: Vec<Entry>,
    holds: Holds,
    /// Inodes with more than one name that were met.
    linked: HashSet<(u64, u64)>,
    /// Whether it was cut short.
    cut: bool,
    /// Folders that could not be listed.
    unread: u64,
}

impl Gather<'_> {
    fn is_late(&self) -> bool {
        self.ties.stopped() || Instant::now() >= self.until
    }

    fn take(&mut self, entry: Entry) {
        let size = entry.stamp.size;
        if entry.kind != Kind::File || size == 0 {
            return;
        }
        if entry.nlink > 1 {
            // A copy has it once, however many names it has. What there is no room for is taken for
            // its share of them.
            let inode = (entry.stamp.dev, entry.stamp.ino);
            if self.linked.len() >= LINKED_MAX && !self.linked.contains(&inode) {
                self.holds.bytes += size / u64::from(entry.nlink);
                return;
            }
            if !self.linked.insert(inode) {
                return;
            }
        }
        self.holds.bytes += size;
        self.holds.files += 1;
        if size <= SMALL_MAX {
            self.holds.small_files += 1;
            self.holds.small_bytes += size;
        }
        // What has holes asks no drive for all of its bytes. Inline files (ext4, btrfs) have none.
        let whole = entry.allocated >= size - size % ALIGN as u64;
        if !whole {
            return;
        }
        if size <= SMALL_MAX && self.small.len() < SMALL_FILES_MAX {
            self.small.push(entry.clone());
        }
        if size >= SLOT_LEN as u64 {
            self.large.push(entry);
            if self.large.len() > self.files_max * 4 {
                self.keep_largest();
            }
        }
    }

    fn keep_largest(&mut self) {
        self.large
            .sort_by_key(|entry| std::cmp::Reverse(entry.stamp.size));
        self.large.truncate(self.files_max);
    }

    /// Returns the largest files, in the order they lie on the drive as far as inodes tell.
    fn finish(mut self) -> (Vec<Entry>, Vec<Entry>) {
        self.keep_largest();
        self.large.sort_by_key(|entry| entry.position);
        (self.large, self.small)
    }
}

impl Visitor for Gather<'_> {
    fn enter(&mut self, _: &Arc<Dir>, _: BorrowedFd<'_>, _: &Statx) -> Result<Enter, Error> {
        self.ties.beat();
        if self.entered && self.is_late() {
            self.cut = true;
            return Ok(Enter::Skip);
        }
        self.entered = true;
        Ok(Enter::Descend)
    }

    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        self.ties.beat();
        for entry in batch {
            self.take(entry);
        }
        if self.is_late() {
            self.cut = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn problem(&mut self, _: Error) {
        self.unread += 1;
    }

    fn skipped(&mut self, _: PathBuf, _: &'static str, _: &str) {}

    fn answered(&self) {
        self.ties.beat();
    }

    fn only_counts(&self) -> bool {
        true
    }

    fn stopped(&self) -> bool {
        self.ties.stopped() || Instant::now() >= self.until + LIST_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_from_memory_can_be_written_where_there_is_a_medium() {
        assert_eq!(in_memory(FsType::Ext4, true), Ok(None));
        let zfs = "ZFS reads through its own cache";
        assert_eq!(in_memory(FsType::Zfs, false), Ok(Some(zfs)));
        let refused = format!("{zfs}: a rate would be that of memory");
        assert_eq!(in_memory(FsType::Zfs, true), Err(refused));
        assert!(in_memory(FsType::Memory, false).is_err());
    }

    #[test]
    fn what_no_kernel_says_bypasses_nothing_for_sure() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        std::fs::write(dir.path().join("file"), [7; 1000]).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut opened = open_source(root.as_fd(), b"file", false).unwrap();
        assert_eq!(bypasses_cache(&opened), Some(false));
        opened.direct = true;
        opened.stat.stx_mask |= StatxFlags::DIOALIGN.bits();
        opened.stat.stx_dio_mem_align = 512;
        assert_eq!(bypasses_cache(&opened), Some(true));
        opened.stat.stx_dio_mem_align = 0;
        assert_eq!(bypasses_cache(&opened), Some(false));
        // Linux 6.0 and before.
        opened.stat.stx_mask &= !StatxFlags::DIOALIGN.bits();
        assert_eq!(bypasses_cache(&opened), None);
    }

    #[test]
    fn a_walk_that_is_cut_keeps_what_it_saw() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let below = dir.path().join("below");
        std::fs::create_dir(&below).unwrap();
        for number in 0..3 {
            std::fs::write(dir.path().join(number.to_string()), [7; 1000]).unwrap();
            std::fs::write(below.join(number.to_string()), [7; 1000]).unwrap();
        }
        std::fs::write(dir.path().join("large"), vec![7; 1 << 20]).unwrap();
        let topology = Topology::live().unwrap();
        let look = |look_max: Duration| {
            let ties = Ties::default();
            let chosen = choose(dir.path(), &topology, 4, false, look_max, &ties);
            chosen.unwrap().holds
        };
        let all = Holds {
            bytes: (1 << 20) + 6000,
            files: 7,
            small_files: 6,
            small_bytes: 6000,
            counted: true,
        };
        assert_eq!(look(LOOK_MAX), all);
        let seen = Holds {
            bytes: (1 << 20) + 3000,
            files: 4,
            small_files: 3,
            small_bytes: 3000,
            counted: false,
        };
        assert_eq!(look(Duration::ZERO), seen);
    }
}
