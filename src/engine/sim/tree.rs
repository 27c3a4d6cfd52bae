//! Source trees: real ones, in memory, made once from fixed seeds, and what is in them by heart.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crossbeam::channel::Sender;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

use super::content::Content;
use super::disk::Path;
use super::inode::{Form, Meta};
use super::rng::Rng;
use crate::digest::Hash;
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
}

/// A source tree and what is in it, by path below TARGET; directories too.
#[derive(Debug)]
pub(super) struct SourceTree {
    pub(super) name: &'static str,
    pub(super) dir: PathBuf,
    pub(super) items: BTreeMap<Path, Arc<Version>>,
}

/// A name, and how to make a tree of that kind.
type Kind = (&'static str, fn(&mut Maker));

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
        let kinds: [Kind; 7] = [
            ("few", few),
            ("small", small),
            ("large", large),
            ("links", links),
            ("sparse", sparse),
            ("mixed", mixed),
            ("twins", twins),
        ];
        let all = kinds.iter().zip(1..).map(|(&(name, make), seed)| {
            let dir = home.path().join(name);
            let mut maker = Maker::new(dir.clone(), seed);
            make(&mut maker);
            maker.settle(FsPath::new(""));
            Arc::new(SourceTree::read(name, dir))
        });
        Self {
            all: all.collect(),
            _home: home,
        }
    }
}

impl SourceTree {
    fn read(name: &'static str, dir: PathBuf) -> Self {
        let mut items = BTreeMap::new();
        read_into(&mut items, &dir, LANDING.as_bytes());
        Self { name, dir, items }
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

/// Returns what is at a path of a source now.
pub(super) fn version_of(path: &FsPath) -> Version {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let stat = path.symlink_metadata().unwrap();
    let (mut content, mut digest) = (Content::default(), None);
    let form = if stat.is_dir() {
        Form::Dir
    } else if stat.is_symlink() {
        let text = std::fs::read_link(path).unwrap();
        Form::Symlink(text.into_os_string().into_encoded_bytes())
    } else {
        let bytes = std::fs::read(path).unwrap();
        content = Content::of(&bytes);
        digest = Some(blake3::hash(&bytes));
        Form::File
    };
    Version {
        id: NEXT.fetch_add(1, Relaxed),
        form,
        content: Arc::new(content),
        meta: Meta {
            mode: stat.mode() & 0o7777,
            mtime: (stat.mtime(), u32::try_from(stat.mtime_nsec()).unwrap()),
        },
        digest,
        inode: (stat.dev(), stat.ino()),
    }
}

/// Makes a tree.
#[derive(Debug)]
struct Maker {
    dir: PathBuf,
    rng: Rng,
}

impl Maker {
    fn new(dir: PathBuf, seed: u64) -> Self {
        std::fs::create_dir(&dir).unwrap();
        Self {
            dir,
            rng: Rng::new(seed),
        }
    }

    fn folder(&mut self, path: &str) {
        std::fs::create_dir(self.dir.join(path)).unwrap();
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn file(&mut self, path: &str, len: usize) {
        let bytes = self.bytes(len);
        std::fs::write(self.dir.join(path), bytes).unwrap();
    }

    /// Makes a file that is a hole but for these runs, as start and length.
    fn holes(&mut self, path: &str, len: u64, runs: &[(u64, usize)]) {
        let file = File::create(self.dir.join(path)).unwrap();
        file.set_len(len).unwrap();
        for &(start, len) in runs {
            let bytes = self.bytes(len);
            file.write_all_at(&bytes, start).unwrap();
        }
    }

    fn link(&mut self, from: &str, to: &str) {
        std::fs::hard_link(self.dir.join(from), self.dir.join(to)).unwrap();
    }

    fn symlink(&mut self, text: &str, path: &str) {
        symlink(text, self.dir.join(path)).unwrap();
    }

    /// Gives everything times and modes of its own, what is in a directory before that.
    fn settle(&mut self, path: &FsPath) {
        let full = self.dir.join(path);
        if full.is_dir() && !full.is_symlink() {
            let mut names: Vec<_> = std::fs::read_dir(&full)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            for name in names {
                self.settle(&path.join(name));
            }
            let mode = Mode::from_raw_mode(0o700 | u32::try_from(self.rng.below(0o100)).unwrap());
            rustix::fs::chmod(&full, mode).unwrap();
        } else if !full.is_symlink() {
            let mode = Mode::from_raw_mode(0o400 | u32::try_from(self.rng.below(0o400)).unwrap());
            rustix::fs::chmod(&full, mode).unwrap();
        }
        set_mtime(
            &full,
            1_000_000_000 + self.rng.below(500_000_000),
            self.rng.below(999_999_999),
        );
    }
}

pub(super) fn set_mtime(path: &FsPath, seconds: usize, nanos: usize) {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap(),
        tv_nsec: i64::try_from(nanos).unwrap(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn few(maker: &mut Maker) {
    maker.file("a", 5000);
    maker.folder("d");
    maker.file("d/b", 0);
    maker.file("d/c", 70_000);
}

fn small(maker: &mut Maker) {
    let sizes = [0, 1, 511, 4095, 4096, 4097, 8192, 20_000, 65_536, 100_000];
    for dir in ["x", "y", "x/z"] {
        maker.folder(dir);
        for (number, len) in sizes.into_iter().enumerate() {
            maker.file(&format!("{dir}/{number}"), len);
        }
    }
    maker.file("whole", 1 << 20);
    maker.symlink("x/5", "to");
}

fn large(maker: &mut Maker) {
    maker.file("one", (3 << 20) + 5);
    maker.file("just", (1 << 20) + 1);
    maker.folder("d");
    maker.file("d/even", 2 << 20);
    maker.file("d/small", 3000);
}

/// Files that begin alike: what is staged of one passes for what is staged of another.
fn twins(maker: &mut Maker) {
    let start = maker.bytes(1 << 20);
    for name in ["a", "b", "c"] {
        let end = maker.bytes((1 << 20) + 4097);
        std::fs::write(maker.dir.join(name), [&start[..], &end].concat()).unwrap();
    }
}

fn links(maker: &mut Maker) {
    maker.folder("d");
    maker.folder("e");
    maker.file("a", 9000);
    maker.link("a", "d/a1");
    maker.link("a", "e/a2");
    maker.file("d/big", (1 << 20) + 12_345);
    maker.link("d/big", "big1");
    maker.file("e/none", 0);
    maker.link("e/none", "none1");
    maker.symlink("nowhere", "d/s");
    maker.link("d/s", "s1");
    maker.file("d/alone", 100);
}

fn sparse(maker: &mut Maker) {
    maker.holes("all", 2 << 20, &[]);
    maker.holes("tail", (3 << 20) + 777, &[(4096, 5000), (1 << 20, 300_000)]);
    maker.holes("end", (2 << 20) + 100, &[((2 << 20) + 50, 50)]);
    maker.holes("little", 50_000, &[(20_480, 100)]);
    maker.file("full", 10_000);
}

fn mixed(maker: &mut Maker) {
    maker.folder("p");
    maker.folder("p/q");
    maker.folder("empty");
    maker.file("p/large", (2 << 20) + 4096);
    maker.link("p/large", "p/q/large1");
    maker.holes("p/q/holes", (1 << 20) + 8192, &[(0, 4096), (1 << 20, 8192)]);
    for (number, len) in [0, 100, 4096, 33_333, 500_000].into_iter().enumerate() {
        maker.file(&format!("p/q/{number}"), len);
    }
    maker.symlink("../large", "p/q/s");
    maker.link("p/q/3", "three");
}
