//! Trees to walk, a visitor that writes down what it meets, and scratch file systems.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};
use inhaul::error::{Error, ErrorKind};
use inhaul::scan::{
    Attributes, Dir, Enter, Entry, FilesFrom, Filter, Finished, Kind, Order, Tree, Visitor,
    WalkOptions, walk,
};
use rustix::fs::{Mode, OFlags, Statx, fstat, makedev, open};
use tempfile::TempDir;

/// More directories than any test promises.
const FINISHED_MAX: usize = 8192;

pub(crate) fn tree(root: &Path, only: Option<&[u8]>) -> (Arc<Tree>, Receiver<Finished>) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(root, flags, Mode::empty()).unwrap();
    let (finished, receiver) = bounded(FINISHED_MAX);
    let tree = Tree {
        index: 0,
        label: PathBuf::from("/SOURCE"),
        device: fstat(&fd).unwrap().st_dev,
        root: fd,
        only: only.map(<[u8]>::to_vec),
        landing: Vec::new(),
        root_attributes: true,
        direct: false,
        trusts_holes: true,
        trusts_sizes: true,
        keeps_inodes: true,
        finished,
    };
    (Arc::new(tree), receiver)
}

/// What a walk said, in words that are easy to compare.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Path and device of each directory entered.
    pub(crate) dirs: Vec<(String, u64)>,
    /// Every entry, kept whole, so that its directories stay unfinished.
    pub(crate) entries: Vec<Entry>,
    pub(crate) batches: Vec<usize>,
    pub(crate) problems: Vec<(ErrorKind, String, String)>,
    pub(crate) skipped: Vec<(String, &'static str)>,
    /// Paths whose entering is refused.
    pub(crate) refuse: Vec<String>,
    /// Break after so many batches.
    pub(crate) break_after: Option<usize>,
    /// Say stop after so many directories.
    pub(crate) stop_after: Option<usize>,
    /// Device of the last directory entered, and of each batch.
    pub(crate) batch_devices: Vec<u64>,
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

impl Record {
    pub(crate) fn paths(&self) -> Vec<String> {
        let paths = self.entries.iter().map(|entry| text(&entry.source_path()));
        let mut paths: Vec<_> = paths.collect();
        paths.sort();
        paths
    }

    pub(crate) fn dir_paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.dirs.iter().map(|(path, _)| path.clone()).collect();
        paths.sort();
        paths
    }

    pub(crate) fn kind_of(&self, path: &str) -> Option<Kind> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| text(&entry.source_path()) == path)
            .map(|entry| entry.kind)
    }
}

impl Visitor for Record {
    fn enter(&mut self, dir: &Arc<Dir>, fd: BorrowedFd<'_>, stat: &Statx) -> Result<Enter, Error> {
        assert_eq!(fstat(fd).unwrap().st_ino, stat.stx_ino, "fd and stat agree");
        let path = text(&dir.source_path());
        if self.refuse.contains(&path) {
            let what = "refused by the visitor";
            let path = format!("/SOURCE/{path}");
            return Err(Error::target(path, what, rustix::io::Errno::EXIST));
        }
        self.dirs
            .push((path, makedev(stat.stx_dev_major, stat.stx_dev_minor)));
        dir.promise(Attributes::default());
        Ok(Enter::Descend)
    }

    fn entries(&mut self, batch: Vec<Entry>) -> ControlFlow<()> {
        self.batches.push(batch.len());
        self.batch_devices
            .push(self.dirs.last().map_or(0, |(_, device)| *device));
        self.entries.extend(batch);
        match self.break_after {
            Some(count) if self.batches.len() >= count => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn problem(&mut self, error: Error) {
        let path = text(error.path().as_os_str().as_bytes());
        self.problems.push((error.kind(), path, error.reason()));
    }

    fn skipped(&mut self, path: PathBuf, kind: &'static str, why: &str) {
        assert!(!why.is_empty());
        self.skipped
            .push((text(&path.into_os_string().into_vec()), kind));
    }

    fn stopped(&self) -> bool {
        self.stop_after
            .is_some_and(|count| self.dirs.len() >= count)
    }
}

/// What to vary about a walk.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) filter: Filter,
    pub(crate) files_from: Option<FilesFrom>,
    pub(crate) order: Order,
    pub(crate) window_bytes: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            files_from: None,
            order: Order::Listing,
            window_bytes: 1 << 20,
        }
    }
}

impl Setup {
    pub(crate) fn options(&self) -> WalkOptions<'_> {
        WalkOptions {
            filter: &self.filter,
            files_from: self.files_from.as_ref(),
            order: self.order,
            window_bytes: self.window_bytes,
        }
    }

    /// Walks `root` and returns what was met; the directories' last words are not kept.
    pub(crate) fn walk(&self, root: &Path) -> Record {
        let (tree, _finished) = tree(root, None);
        let mut record = Record::default();
        walk(&tree, &self.options(), &mut record);
        record
    }
}

pub(crate) fn make_file(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Says aloud that a test does not run here.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
pub(crate) fn skip(why: impl std::fmt::Display) {
    eprintln!("SKIPPED: {why}");
}

/// Runs a command to its end; `Err` holds what it said.
pub(crate) fn run(words: &[&str]) -> Result<Vec<u8>, String> {
    let (program, arguments) = words.split_first().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {said}", words.join(" ")))
}

/// Unmounts, with patience: while another test starts a program, that program holds for a moment
/// every descriptor this one has open.
pub(crate) fn unmount(path: &Path) {
    let path = path.to_str().unwrap();
    for _ in 0..100 {
        match run(&["umount", path]) {
            Err(why) if why.contains("busy") => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            outcome => {
                outcome.unwrap();
                return;
            }
        }
    }
    run(&["umount", "--lazy", path]).unwrap();
    // A second panic would end the process with other tests' mounts in place.
    assert!(std::thread::panicking(), "{path} stayed busy");
}

/// A file system in a file, mounted until it is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    pub(crate) image: PathBuf,
    scratch: TempDir,
    up: bool,
}

impl Mounted {
    /// Makes and mounts one, or says aloud why the test is skipped.
    pub(crate) fn new(mkfs: &[&str], megabytes: u64) -> Option<Self> {
        match Self::try_new(mkfs, megabytes) {
            Ok(mounted) => Some(mounted),
            Err(why) => {
                skip(why);
                None
            }
        }
    }

    fn try_new(mkfs: &[&str], megabytes: u64) -> Result<Self, String> {
        let scratch = TempDir::new().map_err(|error| error.to_string())?;
        let image = scratch.path().join("image");
        let path = scratch.path().join("mount");
        std::fs::create_dir(&path).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let mut words = mkfs.to_vec();
        words.push(image.to_str().unwrap());
        run(&words)?;
        let mut mounted = Self {
            path,
            image,
            scratch,
            up: false,
        };
        mounted.mount("rw")?;
        Ok(mounted)
    }

    pub(crate) fn mount(&mut self, how: &str) -> Result<(), String> {
        let options = format!("loop,{how}");
        let (image, path) = (self.image.to_str().unwrap(), self.path.to_str().unwrap());
        run(&["mount", "-o", &options, image, path])?;
        self.up = true;
        Ok(())
    }

    pub(crate) fn unmount(&mut self) {
        if self.up {
            self.up = false;
            unmount(&self.path);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}

pub(crate) fn ext4() -> Option<Mounted> {
    Mounted::new(&["mkfs.ext4", "-q", "-F"], 64)
}

pub(crate) fn xfs() -> Option<Mounted> {
    Mounted::new(&["mkfs.xfs", "-q"], 320)
}

pub(crate) fn btrfs() -> Option<Mounted> {
    Mounted::new(&["mkfs.btrfs", "-q"], 160)
}

/// Returns the directory at `root` as a descriptor.
pub(crate) fn open_dir(root: &Path) -> std::os::fd::OwnedFd {
    open(root, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap()
}

/// Makes `depth` directories of this name, each in the one before, with an empty file called
/// `bottom` in the last; works for paths of any length.
pub(crate) fn make_deep(root: &Path, name: &str, depth: usize) {
    let mut at = open_dir(root);
    for _ in 0..depth {
        rustix::fs::mkdirat(at.as_fd(), name, Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        at = rustix::fs::openat(at.as_fd(), name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    drop(rustix::fs::openat(at.as_fd(), "bottom", flags, Mode::RUSR).unwrap());
}
