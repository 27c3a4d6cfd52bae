//! Folders that earlier runs of a job have put something into.
//!
//! Some targets list a name otherwise than it was given: without dots and spaces at its end (FAT), in
//! other pieces (HFS+). There a folder of ours looks like another one that took its place; what the
//! journal has below it says that it is ours.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::context::Context;
use crate::error::{Error, ErrorKind};
use crate::journal::Loaded;

/// Their paths below TARGET, by a hash with a key of this run.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    key: RandomState,
    known: HashSet<u64>,
}

impl Folders {
    fn of(loaded: &Loaded) -> Self {
        let mut folders = Self::default();
        for done in loaded.iter_done() {
            folders.add(done.target_path);
        }
        for other in loaded.iter_other() {
            folders.add(other.target_path);
        }
        folders
    }

    /// Adds all folders that something is in.
    fn add(&mut self, path: &[u8]) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (slash, _) in slashes {
            let folder = path.get(..slash).unwrap_or_default();
            self.known.insert(self.key.hash_one(folder));
        }
    }

    fn has(&self, path: &[u8]) -> bool {
        self.known.contains(&self.key.hash_one(path))
    }
}

impl Context {
    /// Makes a folder in the target; returns whether it is new. One that is there under another name
    /// is taken for this one only if the journal has something below it by this name: of two names
    /// that the target takes for one, only the first ever gets there.
    ///
    /// # Errors
    /// As [`make_dir`](crate::target::Target::make_dir).
    pub(crate) fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        let made = self.target.make_dir(path);
        let Err(error) = &made else {
            return made;
        };
        // Something that is no folder comes with the kernel's answer.
        let may_be_ours = error.kind() == ErrorKind::TargetExists && error.errno().is_none();
        let earlier = self.log.as_ref().and_then(|log| log.earlier());
        match earlier.filter(|_| may_be_ours) {
            Some(earlier) if self.folders.get_or_init(|| Folders::of(earlier)).has(path) => {
                Ok(false)
            }
            _ => made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_folders_above_a_file_are_known_and_nothing_else() {
        let mut folders = Folders::default();
        folders.add(b"a./b /c");
        folders.add(b"top");
        for (path, is_known) in [
            (&b"a."[..], true),
            (b"a./b ", true),
            (b"a./b /c", false),
            (b"a", false),
            (b"a./b", false),
            (b"top", false),
            (b"", false),
        ] {
            assert_eq!(folders.has(path), is_known, "{}", path.escape_ascii());
        }
    }
}
