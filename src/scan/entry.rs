//! What a scan finds: trees, the directories in them, and the entries in those.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crossbeam::channel::{Sender, bounded};
use rustix::io::Errno;

/// Metadata that is carried from source to target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, with set-id and sticky bits (`st_mode & 0o7777`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Access time: seconds since 1970 and nanoseconds.
    pub atime: (i64, u32),
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes that policy lets through, POSIX ACLs among them: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set-id bits and file capabilities that policy has left out.
    pub cleared: u32,
    /// Why some extended attributes are missing, if any could not be read; the rest is right.
    pub unread: Option<Errno>,
}

/// What tells two states of one file apart: the same stamp before and after means unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileStamp {
    /// Device number: btrfs subvolumes of one file system number their inodes apart.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// What an entry is. Directories are [`Dir`]s, not entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A symbolic link; never followed.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// One SOURCE of the command line, opened once.
#[derive(Debug)]
pub struct Tree {
    /// Which SOURCE, counted from 0.
    pub index: usize,
    /// The source as the user typed it, for messages.
    pub label: PathBuf,
    /// `O_PATH` descriptor of the root directory; for a SOURCE that is a file, of its parent.
    pub root: OwnedFd,
    /// For a SOURCE that is a file: its name in `root`. Nothing else there is looked at.
    pub only: Option<Vec<u8>>,
    /// Where the root lands, relative to TARGET; empty for TARGET itself.
    pub landing: Vec<u8>,
    /// Whether the root directory's own attributes are carried over.
    pub root_attributes: bool,
    /// Device number of the root, as `st_dev` gives it; other devices are not entered.
    pub device: u64,
    /// Whether files are opened with O_DIRECT, so that reads come from the medium.
    pub direct: bool,
    /// Whether the holes its file system reports can be trusted.
    pub trusts_holes: bool,
    /// Whether a file is as long as its file system says; where not, its end is looked for.
    pub trusts_sizes: bool,
    /// Whether inode numbers outlive a remount; on FAT and exFAT they do not.
    pub keeps_inodes: bool,
    /// Where directories report that nothing in them is left to do.
    pub finished: Sender<Finished>,
}

impl Tree {
    /// Returns the same tree by a descriptor of its own, its directories reported to `finished`:
    /// apart from this one, for as long as that lives its directories may still be finished.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn again(&self, finished: Sender<Finished>) -> Result<Self, Errno> {
        Ok(Self {
            index: self.index,
            label: self.label.clone(),
            root: rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?,
            only: self.only.clone(),
            landing: self.landing.clone(),
            root_attributes: self.root_attributes,
            device: self.device,
            direct: self.direct,
            trusts_holes: self.trusts_holes,
            trusts_sizes: self.trusts_sizes,
            keeps_inodes: self.keeps_inodes,
            finished,
        })
    }

    /// Returns the same tree by a descriptor of its own, its directories reported to nobody.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn unheard(&self) -> Result<Self, Errno> {
        let (finished, _) = bounded(0);
        self.again(finished)
    }
}

/// A directory with nothing left to do: its attributes can now be set for good.
#[derive(Debug)]
pub struct Finished {
    /// Which SOURCE it is of, counted from 0.
    pub source: usize,
    /// Path relative to TARGET; empty for TARGET itself.
    pub target_path: Vec<u8>,
    /// What to set.
    pub attributes: Attributes,
}

/// A source directory that was entered.
///
/// Everything found in it holds a reference to it. When the last reference is dropped, nothing in
/// it is left to do, and it sends itself to [`Tree::finished`]: children always before parents,
/// because a child holds its parent. No count can be forgotten on an error path.
#[derive(Debug)]
pub struct Dir {
    tree: Arc<Tree>,
    parent: Option<Arc<Dir>>,
    name: Box<[u8]>,
    attributes: OnceLock<Attributes>,
    fresh: AtomicBool,
}

impl Dir {
    /// Returns the root directory of a tree.
    pub fn root(tree: Arc<Tree>) -> Arc<Self> {
        Arc::new(Self {
            tree,
            parent: None,
            name: Box::default(),
            attributes: OnceLock::new(),
            fresh: AtomicBool::new(false),
        })
    }

    /// Returns a directory called `name` in `parent`.
    pub fn child(parent: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            tree: Arc::clone(&parent.tree),
            parent: Some(Arc::clone(parent)),
            name: name.into(),
            attributes: OnceLock::new(),
            fresh: AtomicBool::new(false),
        })
    }

    /// Returns the tree it belongs to.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Returns whether it is the root of its tree.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// Notes that the target directory was made by this run, so that no name in it is taken.
    pub fn set_fresh(&self) {
        self.fresh.store(true, Relaxed);
    }

    /// Returns whether the target directory was made by this run.
    pub fn is_fresh(&self) -> bool {
        self.fresh.load(Relaxed)
    }

    /// Promises these attributes to the target copy once nothing in the directory is left to do.
    ///
    /// Without this call (a directory that could not be created, say) nothing is sent at the end.
    pub fn promise(&self, attributes: Attributes) {
        // Set at most once, by the scan that entered the directory; a second value is a bug.
        let first = self.attributes.set(attributes).is_ok();
        debug_assert!(first, "a directory is entered once");
    }

    /// Returns its path below the tree's root; empty for the root.
    pub fn source_path(&self) -> Vec<u8> {
        let mut path = Vec::new();
        self.append(&mut path);
        path
    }

    /// Returns its path below TARGET; empty for TARGET itself.
    pub fn target_path(&self) -> Vec<u8> {
        let mut path = self.tree.landing.clone();
        self.append(&mut path);
        path
    }

    fn append(&self, path: &mut Vec<u8>) {
        if let Some(parent) = &self.parent {
            parent.append(path);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&self.name);
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Some(attributes) = self.attributes.take() {
            let target_path = self.target_path();
            // A closed channel means the run is over and nobody is left to care.
            drop(self.tree.finished.send(Finished {
                source: self.tree.index,
                target_path,
                attributes,
            }));
        }
    }
}

/// Something found in a directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The directory it is in.
    pub dir: Arc<Dir>,
    /// Its name: any bytes but `/` and NUL.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
    /// Size, inode and times when listed.
    pub stamp: FileStamp,
    /// Bytes allocated on the medium; less than the size for a sparse file.
    pub allocated: u64,
    /// How many names the inode has.
    pub nlink: u32,
    /// Sort key for reading: physical byte on the medium where known, else the inode number.
    pub position: u64,
    /// The digest it is expected to have, when it comes from a manifest.
    pub recorded: Option<blake3::Hash>,
}

impl Entry {
    /// Returns its path below the tree's root.
    pub fn source_path(&self) -> Vec<u8> {
        join(self.dir.source_path(), &self.name)
    }

    /// Returns its path below TARGET.
    pub fn target_path(&self) -> Vec<u8> {
        join(self.dir.target_path(), &self.name)
    }

    /// Returns the path to show in messages: the SOURCE as typed, then the path below it.
    pub fn display_path(&self) -> PathBuf {
        let tree = self.dir.tree();
        match tree.only {
            Some(_) => tree.label.clone(),
            None => tree.label.join(as_path(&self.source_path())),
        }
    }
}

/// Returns the bytes as a path, unchanged.
pub fn as_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Returns `dir/name`, or `name` when `dir` is empty.
pub fn join(mut dir: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !dir.is_empty() {
        dir.push(b'/');
    }
    dir.extend_from_slice(name);
    dir
}

/// Returns a path below the root of a tree as messages show it.
pub(super) fn shown(tree: &Tree, path: &[u8]) -> PathBuf {
    if path.is_empty() || tree.only.is_some() {
        tree.label.clone()
    } else {
        tree.label.join(as_path(path))
    }
}

/// Puts a name at the end of a path.
pub(super) fn append(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
