//! The simulated file system: inodes, names, and what of both a power cut leaves.
//!
//! A change of a name is whole or did not happen, a rename among them, and each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::inode::{Form, Inode};
use super::rng::Rng;

pub(super) type Ino = u64;
pub(super) type Path = Vec<u8>;

/// A change of names that no sync has covered.
#[derive(Debug, Clone)]
enum Change {
    Bound(Path, Ino),
    Unbound(Path),
    Moved(Path, Path, Ino),
}

#[derive(Debug)]
pub(super) struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    names: BTreeMap<Path, Ino>,
    durable: BTreeMap<Path, Ino>,
    pending: Vec<Change>,
    /// Inodes that may have something to sync.
    touched: BTreeSet<Ino>,
    free: Vec<Ino>,
    next: Ino,
    /// Descriptors that the engine was given: a file without a name lives as long as one of them.
    open: Vec<(Weak<OwnedFd>, Ino)>,
    /// Write-back errors so far, of all files, and how many of them some descriptor has told.
    pub(super) errors: u64,
    pub(super) told: u64,
}

/// Returns the path of the directory that holds this name; empty for the top.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    &path[..slash.unwrap_or(0)]
}

impl Disk {
    /// Returns a file system with these directories, all durable.
    pub(super) fn new(dirs: &[&str]) -> Self {
        let mut disk = Self {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            touched: BTreeSet::new(),
            free: Vec::new(),
            next: 2,
            open: Vec::new(),
            errors: 0,
            told: 0,
        };
        disk.inodes.insert(1, Inode::new(Form::Dir, 0o755));
        disk.names.insert(Vec::new(), 1);
        for dir in dirs {
            let ino = disk.make(Form::Dir, 0o700, false);
            disk.bind(dir.as_bytes(), ino);
        }
        disk.sync_all(None);
        disk
    }

    /// Makes an inode without a name; with `reuse`, it gets a number that was another's before.
    pub(super) fn make(&mut self, form: Form, mode: u32, reuse: bool) -> Ino {
        let used = if reuse { self.free.pop() } else { None };
        let ino = used.unwrap_or(self.next);
        if used.is_none() {
            self.next += 1;
        }
        self.inodes.insert(ino, Inode::new(form, mode));
        self.touched.insert(ino);
        ino
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        &self.inodes[&ino]
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.touched.insert(ino);
        self.inodes.get_mut(&ino).expect("a file in use is there")
    }

    /// Returns an inode to look at; nothing in it will have to be synced.
    pub(super) fn examine(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("a named file is there")
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<Ino> {
        self.names.get(path).copied()
    }

    pub(super) fn names(&self) -> &BTreeMap<Path, Ino> {
        &self.names
    }

    /// Returns the names in a directory.
    pub(super) fn list(&self, dir: &[u8]) -> Vec<Path> {
        let below = self.names.range(dir.to_vec()..);
        let within = below.take_while(|(path, _)| path.starts_with(dir));
        let own = within.filter(|(path, _)| path.len() > dir.len() && parent(path) == dir);
        own.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn opened(&mut self, fd: &Arc<OwnedFd>, ino: Ino) {
        self.open.push((Arc::downgrade(fd), ino));
    }

    /// Returns every name that an inode has, or may have after a power cut.
    pub(super) fn names_of(&self, ino: Ino) -> BTreeSet<Path> {
        let mut names = BTreeSet::new();
        for (path, _) in self
            .names
            .iter()
            .chain(&self.durable)
            .filter(|(_, it)| **it == ino)
        {
            names.insert(path.clone());
        }
        for change in &self.pending {
            if let Change::Bound(path, it) | Change::Moved(_, path, it) = change
                && *it == ino
            {
                names.insert(path.clone());
            }
        }
        names
    }

    /// Gives an inode a name, which is free.
    pub(super) fn bind(&mut self, path: &[u8], ino: Ino) {
        assert!(self.names.contains_key(parent(path)), "no such folder");
        let before = self.names.insert(path.to_vec(), ino);
        assert!(before.is_none(), "a name is given once");
        self.pending.push(Change::Bound(path.to_vec(), ino));
    }

    pub(super) fn unbind(&mut self, path: &[u8]) {
        self.names.remove(path);
        self.pending.push(Change::Unbound(path.to_vec()));
    }

    /// Renames; what has the new name loses it in the same moment.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) {
        assert!(self.names.contains_key(parent(to)), "no such folder");
        let ino = self.names.remove(from).expect("what is renamed is there");
        self.names.insert(to.to_vec(), ino);
        let change = Change::Moved(from.to_vec(), to.to_vec(), ino);
        self.pending.push(change);
    }

    /// Gives an inode a name for good, whoever had it: somebody else's doing.
    pub(super) fn place(&mut self, path: &[u8], ino: Ino) {
        self.names.insert(path.to_vec(), ino);
        self.durable.insert(path.to_vec(), ino);
    }

    /// Takes a name away for good: somebody else's doing.
    pub(super) fn take(&mut self, path: &[u8]) {
        self.names.remove(path);
        self.durable.remove(path);
    }

    /// Makes everything durable; with `lossy`, loses some of the dirty pages for good and commits
    /// no name.
    pub(super) fn sync_all(&mut self, mut lossy: Option<&mut Rng>) {
        for ino in std::mem::take(&mut self.touched) {
            let Some(inode) = self.inodes.get_mut(&ino).filter(|inode| inode.is_dirty()) else {
                continue;
            };
            inode.sync(lossy.as_deref_mut());
        }
        if lossy.is_some() {
            self.errors += 1;
            return;
        }
        self.pending.clear();
        self.durable.clone_from(&self.names);
        self.sweep();
    }

    /// Makes the names in one directory durable.
    pub(super) fn sync_dir(&mut self, dir: &[u8]) {
        let is_in = |change: &Change| match change {
            Change::Bound(path, _) | Change::Unbound(path) => parent(path) == dir,
            Change::Moved(from, to, _) => parent(from) == dir || parent(to) == dir,
        };
        let pending = std::mem::take(&mut self.pending);
        let (synced, left) = pending.into_iter().partition(is_in);
        self.pending = left;
        for change in synced {
            apply(&mut self.durable, &change);
            // What has no bytes of its own is part of its folder's change.
            if let Change::Bound(_, ino) | Change::Moved(_, _, ino) = change
                && let Some(inode) = self.inodes.get_mut(&ino)
                && inode.form != Form::File
            {
                inode.sync(None);
            }
        }
        if let Some(ino) = self.find(dir) {
            self.examine(ino).sync(None);
        }
    }

    /// Returns an inode with something to write back.
    pub(super) fn some_dirty(&self, rng: &mut Rng) -> Option<Ino> {
        let dirty = |ino: &&Ino| self.inodes.get(ino).is_some_and(Inode::is_dirty);
        let all: Vec<Ino> = self.touched.iter().filter(dirty).copied().collect();
        (!all.is_empty()).then(|| rng.pick(&all))
    }

    /// Returns everything that may have this name after a power cut, or has it now.
    pub(super) fn outcomes(&self, path: &[u8]) -> Vec<Option<Ino>> {
        let mut all = vec![self.find(path), self.durable.get(path).copied()];
        for change in &self.pending {
            match change {
                Change::Bound(bound, ino) if bound == path => all.push(Some(*ino)),
                Change::Unbound(unbound) if unbound == path => all.push(None),
                Change::Moved(_, to, ino) if to == path => all.push(Some(*ino)),
                Change::Moved(from, ..) if from == path => all.push(None),
                _ => {}
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Tells somebody all write-back errors there were.
    pub(super) fn tell_all(&mut self) {
        self.told = self.errors;
        for inode in self.inodes.values_mut() {
            inode.tell_all();
        }
    }

    /// Leaves what is on the medium after a power cut.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let odds = rng.pick(&[0, 1000, 500, 100, 900]);
        for change in std::mem::take(&mut self.pending) {
            if rng.chance(odds) {
                apply(&mut self.durable, &change);
            }
        }
        // What is in a folder that is not there is not there.
        let known = self.durable.clone();
        let is_reached = |path: &Path| {
            let mut path = path.as_slice();
            while !path.is_empty() {
                path = parent(path);
                if !known.contains_key(path) {
                    return false;
                }
            }
            true
        };
        self.durable.retain(|path, _| is_reached(path));
        let odds = rng.pick(&[0, 1000, 500, 100, 900]);
        for inode in self.inodes.values_mut() {
            inode.crash(rng, odds);
        }
        self.touched.clear();
        (self.errors, self.told) = (0, 0);
        self.names.clone_from(&self.durable);
        self.sweep();
    }

    /// Forgets inodes without names; their numbers can be given to others.
    fn sweep(&mut self) {
        self.open.retain(|(fd, _)| fd.strong_count() > 0);
        let opened = self.open.iter().map(|(_, ino)| *ino);
        let used: BTreeSet<Ino> = self.names.values().copied().chain(opened).collect();
        let nameless = self.inodes.keys().filter(|ino| !used.contains(ino));
        let nameless: Vec<Ino> = nameless.copied().collect();
        for ino in &nameless {
            self.inodes.remove(ino);
        }
        self.free.extend(nameless);
    }
}

fn apply(names: &mut BTreeMap<Path, Ino>, change: &Change) {
    match change {
        Change::Bound(path, ino) => drop(names.insert(path.clone(), *ino)),
        Change::Unbound(path) => drop(names.remove(path)),
        Change::Moved(from, to, ino) => {
            if names.get(from) == Some(ino) {
                names.remove(from);
            }
            names.insert(to.clone(), *ino);
        }
    }
}
