//! Hard links: the first name of an inode is copied, the others become links to it.
//!
//! Memory grows with the number of inodes that have several names and are not finished: an inode
//! is forgotten once all its names were seen.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::digest::Hash;
use crate::scan::Entry;

/// An inode of one source tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    tree: usize,
    dev: u64,
    ino: u64,
}

#[derive(Debug)]
enum State {
    /// Its first name is on its way; these wait for it.
    Coming(Vec<Entry>),
    /// Its first name is durable under this path below TARGET; a regular file has this digest.
    There(Vec<u8>, Option<Hash>),
}

#[derive(Debug)]
struct Known {
    state: State,
    names_left: u32,
}

/// What to do with one name of an inode that has several.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is the first: copy it.
    Copy(Entry),
    /// Another name is on its way; the entry is kept until that one is settled.
    Wait,
    /// Link it to this path below TARGET; a regular file has this digest.
    Link(Entry, Vec<u8>, Option<Hash>),
}

/// The inodes with several names that were met.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    inodes: Mutex<HashMap<Inode, Known>>,
}

fn inode(entry: &Entry) -> Inode {
    Inode {
        tree: entry.dir.tree().index,
        dev: entry.stamp.dev,
        ino: entry.stamp.ino,
    }
}

impl LinkTable {
    /// Says what to do with a name of an inode that has several.
    pub(crate) fn claim(&self, entry: Entry) -> Claim {
        let key = inode(&entry);
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = inodes.get_mut(&key) else {
            let names_left = entry.nlink.saturating_sub(1);
            inodes.insert(
                key,
                Known {
                    state: State::Coming(Vec::new()),
                    names_left,
                },
            );
            return Claim::Copy(entry);
        };
        known.names_left = known.names_left.saturating_sub(1);
        match &mut known.state {
            State::Coming(waiting) => {
                waiting.push(entry);
                Claim::Wait
            }
            State::There(path, digest) => {
                let (path, digest) = (path.clone(), *digest);
                if known.names_left == 0 {
                    inodes.remove(&key);
                }
                Claim::Link(entry, path, digest)
            }
        }
    }

    /// Notes a name that is there already: names met later become links to it.
    pub(crate) fn keep(&self, entry: &Entry, path: Vec<u8>, digest: Option<Hash>) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inodes.entry(inode(entry)).or_insert_with(|| Known {
            state: State::There(path, digest),
            names_left: entry.nlink,
        });
        known.names_left = known.names_left.saturating_sub(1);
        if known.names_left == 0 && matches!(known.state, State::There(..)) {
            inodes.remove(&inode(entry));
        }
    }

    /// Notes that the first name is durable; returns the names that waited for it.
    pub(crate) fn settled(&self, first: &Entry, digest: Option<Hash>) -> Vec<Entry> {
        let key = inode(first);
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = inodes.get_mut(&key) else {
            return Vec::new();
        };
        let there = State::There(first.target_path(), digest);
        let State::Coming(waiting) = std::mem::replace(&mut known.state, there) else {
            return Vec::new();
        };
        if known.names_left == 0 {
            inodes.remove(&key);
        }
        waiting
    }

    /// Notes that the first name failed; returns the names that waited for it. The next name of
    /// the inode that is met will be copied in its place.
    pub(crate) fn failed(&self, first: &Entry) -> Vec<Entry> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        match inodes.remove(&inode(first)) {
            Some(Known {
                state: State::Coming(waiting),
                ..
            }) => waiting,
            Some(Known {
                state: State::There(..),
                ..
            })
            | None => Vec::new(),
        }
    }
}
