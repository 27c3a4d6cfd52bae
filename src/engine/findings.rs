//! What reading back finds of files that it does not find right.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::target::FsType;

/// What reading back found of files that it did not find right.
#[derive(Debug, Default, Clone)]
pub(super) struct Findings {
    /// Files whose read did not, or may not have come from the medium: what it gave proves nothing.
    pub(super) unproven: HashSet<Vec<u8>>,
    /// Files that gave other bytes, or an error.
    pub(super) wrong: HashSet<Vec<u8>>,
}

/// Notes what reading back finds.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The file system that is read.
    fs: FsType,
    findings: Mutex<Findings>,
}

/// Returns whether O_DIRECT is all it takes to read from the medium: elsewhere some files are read
/// through the page cache all the same (btrfs: compressed and inline ones).
pub(super) fn trusts_direct(fs: FsType) -> bool {
    matches!(fs, FsType::Ext4 | FsType::Xfs)
}

impl Evidence {
    /// Nothing found yet on this file system.
    pub(super) fn new(fs: FsType) -> Self {
        Self {
            fs,
            findings: Mutex::default(),
        }
    }

    /// Returns what was found so far.
    pub(super) fn findings(&self) -> Findings {
        self.lock().clone()
    }

    /// Returns whether what a file gave proves nothing.
    pub(super) fn is_unproven(&self, path: &[u8]) -> bool {
        self.lock().unproven.contains(path)
    }

    /// Returns whether O_DIRECT is all it takes to read from the medium.
    pub(crate) fn trusts_direct(&self) -> bool {
        trusts_direct(self.fs)
    }

    /// Notes that a file was, or may have been, read from the page cache.
    pub(crate) fn add_unproven(&self, path: Vec<u8>) {
        self.lock().unproven.insert(path);
    }

    /// Notes that a file gave other bytes, or an error: it is looked at closer.
    pub(crate) fn add_wrong(&self, path: Vec<u8>) {
        self.lock().wrong.insert(path);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
