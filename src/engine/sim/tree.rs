//! Source trees: real ones, in memory, made once from fixed seeds, and what is in them by heart.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crossbeam::channel::Sender;
use rustix::fs::{Mode, OFlags};

use super::content::Content;
use super::disk::Path;
use super::inode::{Form, Meta};
use super::maker::{KINDS, make};
use crate::digest::Hash;
use crate::journal::Stamp;
use crate::scan::{Finished, Tree};

/// Where every tree lands below TARGET.
pub(super) const LANDING: &str = "t";

/// One state of something in a source.
#[derive(Debug)]
pub(super) struct Version {
    /// No two versions have the same.
    pub(super) id: u64,
    pub(super) form: Form,
    pub(super) content: Arc<Content>,
    pub(super) meta: Meta,
    pub(super) digest: Option<Hash>,
    /// Device and inode: names with the same are links to each other.
    pub(super) inode: (u64, u64),
    /// What the journal has of it.
    pub(super) stamp: Stamp,
}

/// A source tree and what is in it, by path below TARGET; directories too.
#[derive(Debug, Clone)]
pub(super) struct SourceTree {
    pub(super) name: &'static str,
    pub(super) dir: PathBuf,
    pub(super) items: BTreeMap<Path, Arc<Version>>,
}

/// All trees of a process, as long as a test uses them.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) all: Vec<Arc<SourceTree>>,
    _home: tempfile::TempDir,
}

/// Returns a folder in memory where there is such a place.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("inhaul-sim-")
        .tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

impl Trees {
    /// Returns the trees, made by whoever comes first.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Trees>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let trees = Arc::new(Self::new());
            *shared = Arc::downgrade(&trees);
            trees
        })
    }

    fn new() -> Self {
        let home = scratch();
        let all = (0..KINDS.len()).map(|kind| Arc::new(SourceTree::make(kind, home.path())));
        Self {
            all: all.collect(),
            _home: home,
        }
    }
}

impl SourceTree {
    /// Makes a tree of a kind in a folder.
    pub(super) fn make(kind: usize, home: &FsPath) -> Self {
        let (name, _) = KINDS[kind];
        let dir = home.join(name);
        make(kind, dir.clone());
        let mut items = BTreeMap::new();
        read_into(&mut items, &dir, LANDING.as_bytes());
        Self { name, dir, items }
    }

    /// Returns where something really is.
    pub(super) fn real(&self, path: &[u8]) -> PathBuf {
        let below = path.strip_prefix(LANDING.as_bytes()).unwrap();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        self.dir.join(crate::scan::as_path(below))
    }

    /// Opens it as the engine knows a source.
    pub(super) fn open(&self, finished: Sender<Finished>) -> Arc<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root: OwnedFd = rustix::fs::open(&self.dir, flags, Mode::empty()).unwrap();
        let device = rustix::fs::fstat(&root).unwrap().st_dev;
        Arc::new(Tree {
            index: 0,
            label: self.dir.clone(),
            root,
            only: None,
            landing: LANDING.into(),
            root_attributes: true,
            device,
            direct: false,
            trusts_holes: true,
            trusts_sizes: true,
            keeps_inodes: true,
            finished,
        })
    }
}

fn read_into(items: &mut BTreeMap<Path, Arc<Version>>, from: &FsPath, to: &[u8]) {
    let version = version_of(from);
    let is_dir = version.form == Form::Dir;
    items.insert(to.to_vec(), Arc::new(version));
    if is_dir {
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            let path = crate::scan::join(to.to_vec(), name.as_encoded_bytes());
            read_into(items, &from.join(name), &path);
        }
    }
}

/// Returns a number that no version has.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

fn mtime_of(stat: &Metadata) -> (i64, u32) {
    (stat.mtime(), u32::try_from(stat.mtime_nsec()).unwrap())
}

/// Returns what the journal has of something in a source.
pub(super) fn stamp_of(stat: &Metadata) -> Stamp {
    Stamp {
        ino: stat.ino(),
        size: stat.size(),
        mtime: mtime_of(stat),
        ctime: (stat.ctime(), u32::try_from(stat.ctime_nsec()).unwrap()),
    }
}

/// Returns what is at a path of a source now.
pub(super) fn version_of(path: &FsPath) -> Version {
    let stat = path.symlink_metadata().unwrap();
    let (mut content, mut digest) = (Content::default(), None);
    let form = if stat.is_dir() {
        Form::Dir
    } else if stat.is_symlink() {
        let text = std::fs::read_link(path).unwrap();
        Form::Symlink(text.into_os_string().into_encoded_bytes())
    } else if !stat.is_file() {
        Form::Special
    } else {
        let bytes = std::fs::read(path).unwrap();
        content = Content::of(&bytes);
        digest = Some(blake3::hash(&bytes));
        Form::File
    };
    Version {
        id: next_id(),
        form,
        content: Arc::new(content),
        meta: Meta {
            mode: stat.mode() & 0o7777,
            mtime: mtime_of(&stat),
        },
        digest,
        inode: (stat.dev(), stat.ino()),
        stamp: stamp_of(&stat),
    }
}
