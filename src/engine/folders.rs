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
use crate::target::split;

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
    /// that the target takes for one, only the first ever gets there; one in other letter case is not
    /// taken for it, since by now another folder of the source may have put it there.
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
        let Some(earlier) = earlier.filter(|_| may_be_ours) else {
            return made;
        };
        if !self.folders.get_or_init(|| Folders::of(earlier)).has(path) {
            return made;
        }
        match self.target.namesake(path)? {
            Some(listed) if is_our_spelling(&listed, path) => Ok(false),
            _ => made,
        }
    }
}

/// Returns whether what a target lists in the place of a path that is ours can only be that: without
/// dots and spaces at its end, or in other pieces. In other letter case it may be of another file of
/// the same source by now.
pub(crate) fn is_our_spelling(listed: &[u8], path: &[u8]) -> bool {
    let (_, name) = split(path);
    let is_dropped = |byte: &&u8| matches!(**byte, b'.' | b' ');
    let dropped = name.iter().rev().take_while(is_dropped).count();
    let kept = name.get(..name.len() - dropped).unwrap_or_default();
    let lower = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    listed == kept || lower(listed) != lower(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_other_name_of_a_source_is_listed_as_is_ours() {
        for (listed, path, is_ours) in [
            (&b"name"[..], &b"a/name."[..], true),
            (b"name", b"name ..", true),
            (b"cafe\xcc\x81", b"caf\xc3\xa9", true),
            (b"another name", b"name", true),
            (b"name", b"NAME", false),
            (b"Name", b"a/b/name", false),
            (b"name", b"NAME.", false),
            (b"caf\xc3\xa9", b"CAF\xc3\x89", false),
        ] {
            let shown = (listed.escape_ascii(), path.escape_ascii());
            assert_eq!(is_our_spelling(listed, path), is_ours, "{shown:?}");
        }
    }

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
