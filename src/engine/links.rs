//! Hard links: the first name of an inode is copied, the others become links to it.
//!
//! An inode is forgotten once all its names were seen. One whose other names lie outside of the
//! source is remembered to the end, so the table is bounded: beyond [`INODES_MAX`] each name is
//! copied as a file of its own, and said so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::digest::Hash;
use crate::journal;
use crate::scan::Entry;
use crate::seam;
use crate::target::TargetStamp;

/// Most inodes remembered at once: about 60 MB with paths of ordinary length.
const INODES_MAX: usize = 200_000;

/// An inode of one source tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    tree: usize,
    dev: u64,
    ino: u64,
}

/// A first name that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    /// Its path below TARGET.
    pub(crate) path: Vec<u8>,
    /// The digest of a regular file; `None` when it is not known, or something else.
    pub(crate) digest: Option<Hash>,
    /// What it is recognised by.
    pub(crate) stamp: Option<TargetStamp>,
    /// Whether some of its attributes could not be read or set.
    pub(crate) lacks: bool,
}

#[derive(Debug)]
enum State {
    /// Its first name, this path below TARGET, is on its way; these wait for it, each with whether
    /// it may replace what has its name.
    Coming(Vec<u8>, Vec<(Entry, bool)>),
    /// Its first name is durable.
    There(First),
}

/// Size, modification time and change time.
type Times = (u64, (i64, u32), (i64, u32));

#[derive(Debug)]
struct Known {
    state: State,
    /// When its first name was met: an inode number can be given to another file while we copy, and
    /// a file can get other bytes of which only its change time tells.
    times: Times,
    names_left: u32,
    lane: usize,
}

/// What to do with one name of an inode that has several.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is the first: copy it.
    Copy(Entry),
    /// The table is full, or the inode is another file by now: copy it on its own.
    CopyAlone(Entry),
    /// Another name is on its way; the entry is kept until that one is settled.
    Wait,
    /// Link it to this first name.
    Link(Entry, First),
}

/// The inodes with several names that were met.
#[derive(Debug)]
pub(crate) struct LinkTable {
    inodes_max: usize,
    inodes: Mutex<HashMap<Inode, Known>>,
    /// What earlier runs copied of an inode, in each state that it had.
    recalled: Mutex<HashMap<Inode, Vec<(Times, First)>>>,
}

impl Default for LinkTable {
    fn default() -> Self {
        let max = seam::setting("LINKS_MAX").and_then(|max| usize::try_from(max).ok());
        Self {
            inodes_max: max.unwrap_or(INODES_MAX),
            inodes: Mutex::default(),
            recalled: Mutex::default(),
        }
    }
}

fn inode(entry: &Entry) -> Inode {
    Inode {
        tree: entry.dir.tree().index,
        dev: entry.stamp.dev,
        ino: entry.stamp.ino,
    }
}

fn times(entry: &Entry) -> Times {
    (entry.stamp.size, entry.stamp.mtime, entry.stamp.ctime)
}

impl LinkTable {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Inode, Known>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what to do with a name of an inode that has several.
    /// `replace`: whether what has that name may be replaced.
    pub(crate) fn claim(&self, lane: usize, entry: Entry, replace: bool) -> Claim {
        let key = inode(&entry);
        let mut inodes = self.lock();
        let full = inodes.len() >= self.inodes_max;
        let Some(known) = inodes.get_mut(&key) else {
            if let Some(first) = self.recalled(&key, times(&entry)) {
                return Claim::Link(entry, first);
            }
            if full {
                return Claim::CopyAlone(entry);
            }
            let known = Known {
                state: State::Coming(entry.target_path(), Vec::new()),
                times: times(&entry),
                names_left: entry.nlink.saturating_sub(1),
                lane,
            };
            inodes.insert(key, known);
            return Claim::Copy(entry);
        };
        if known.times != times(&entry) {
            return Claim::CopyAlone(entry);
        }
        known.names_left = known.names_left.saturating_sub(1);
        match &mut known.state {
            State::Coming(_, waiting) => {
                waiting.push((entry, replace));
                Claim::Wait
            }
            State::There(first) => {
                let first = first.clone();
                if known.names_left == 0 {
                    inodes.remove(&key);
                }
                Claim::Link(entry, first)
            }
        }
    }

    /// Returns whether [`keep`](Self::keep) notes one more inode.
    pub(crate) fn can_keep(&self) -> bool {
        self.lock().len() < self.inodes_max
    }

    /// Notes a name that is there already: names met later become links to it.
    pub(crate) fn keep(&self, lane: usize, entry: &Entry, first: First) {
        let mut inodes = self.lock();
        if inodes.len() >= self.inodes_max {
            return;
        }
        let known = inodes.entry(inode(entry)).or_insert_with(|| Known {
            state: State::There(first),
            times: times(entry),
            names_left: entry.nlink,
            lane,
        });
        known.names_left = known.names_left.saturating_sub(1);
        if known.names_left == 0 && matches!(known.state, State::There(..)) {
            inodes.remove(&inode(entry));
        }
    }

    /// Notes a name that an earlier run copied, before any name of its tree is met. `dev` is where
    /// the tree is now; `stamp` is the source's as it was read.
    pub(crate) fn recall(&self, tree: usize, dev: u64, stamp: &journal::Stamp, first: First) {
        let mut recalled = self.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        if recalled.len() >= self.inodes_max {
            return;
        }
        let ino = stamp.ino;
        let times = (stamp.size, stamp.mtime, stamp.ctime);
        let states = recalled.entry(Inode { tree, dev, ino }).or_default();
        if states.iter().all(|(known, _)| *known != times) {
            states.push((times, first));
        }
    }

    /// Returns the first name of an inode with several that this run met, if that is there.
    pub(crate) fn met(&self, entry: &Entry) -> Option<First> {
        match &self.lock().get(&inode(entry))?.state {
            State::There(first) => Some(first.clone()),
            State::Coming(..) => None,
        }
    }

    /// Returns the first name of an inode with several, if that is there, be it of an earlier run.
    pub(crate) fn there(&self, entry: &Entry) -> Option<First> {
        let (key, times) = (inode(entry), times(entry));
        if let Some(known) = self.lock().get(&key)
            && let State::There(first) = &known.state
        {
            return (known.times == times).then(|| first.clone());
        }
        self.recalled(&key, times)
    }

    fn recalled(&self, key: &Inode, times: Times) -> Option<First> {
        let recalled = self.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states = recalled.get(key)?.iter();
        let (_, first) = states.find(|(known, _)| *known == times)?;
        Some(first.clone())
    }

    /// Notes that the first name is durable; returns the names that waited for it. Does nothing
    /// for any other name.
    pub(crate) fn settled(&self, entry: &Entry, first: &First) -> Vec<(Entry, bool)> {
        let key = inode(entry);
        let mut inodes = self.lock();
        let Some(known) = inodes.get_mut(&key).filter(|known| known.is_led_by(entry)) else {
            return Vec::new();
        };
        let there = State::There(first.clone());
        let State::Coming(_, waiting) = std::mem::replace(&mut known.state, there) else {
            return Vec::new();
        };
        if known.names_left == 0 {
            inodes.remove(&key);
        }
        waiting
    }

    /// Notes that the first name failed; returns the names that waited for it. The next name of
    /// the inode that is met will be copied in its place. Does nothing for any other name.
    pub(crate) fn failed(&self, first: &Entry) -> Vec<Entry> {
        let key = inode(first);
        let mut inodes = self.lock();
        if !inodes.get(&key).is_some_and(|known| known.is_led_by(first)) {
            return Vec::new();
        }
        match inodes.remove(&key) {
            Some(Known {
                state: State::Coming(_, waiting),
                ..
            }) => waiting.into_iter().map(|(entry, _)| entry).collect(),
            Some(Known {
                state: State::There(..),
                ..
            })
            | None => Vec::new(),
        }
    }

    /// Forgets the inodes of these trees, of which no name is on its way any more: they are met anew.
    pub(crate) fn forget(&self, trees: &[usize]) {
        self.lock().retain(|key, _| !trees.contains(&key.tree));
        let mut recalled = self.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        recalled.retain(|key, _| !trees.contains(&key.tree));
    }

    /// Empties the table; returns the names that still wait, each with its lane.
    pub(crate) fn abandoned(&self) -> Vec<(usize, Entry)> {
        let known: Vec<Known> = self.lock().drain().map(|(_, known)| known).collect();
        known
            .into_iter()
            .flat_map(|known| match known.state {
                State::Coming(_, waiting) => waiting
                    .into_iter()
                    .map(|(entry, _)| (known.lane, entry))
                    .collect(),
                State::There(..) => Vec::new(),
            })
            .collect()
    }
}

impl Known {
    fn is_led_by(&self, entry: &Entry) -> bool {
        matches!(&self.state, State::Coming(path, _) if *path == entry.target_path())
    }
}
