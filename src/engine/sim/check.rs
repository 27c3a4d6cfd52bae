//! What must hold at every moment.
//!
//! A name is looked at when it is given and when what it names changes: then every inode that may
//! have it after some power cut must be right, page by page, in the cache and on the medium.

use std::collections::BTreeMap;

use crate::digest::Hash;
use crate::journal::Loaded;

use super::disk::{Ino, Path};
use super::inode::Form;
use super::tree::Version;
use super::world::World;

/// Folder of everything that is not a copy.
pub(super) const HOME: &[u8] = b".inhaul";

pub(super) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Returns whether a path is a final one.
pub(super) fn is_final(path: &[u8]) -> bool {
    !path.is_empty() && !path.starts_with(HOME)
}

impl World {
    /// Checks everything that may be under this name now or after a power cut.
    pub(super) fn check_name(&mut self, path: &[u8]) {
        if !is_final(path) {
            return;
        }
        for ino in self.disk.outcomes(path).into_iter().flatten() {
            if let Some(why) = self.wrong(path, ino) {
                self.violated(format!("{} may have wrong bytes: {why}", show(path)));
            }
        }
    }

    /// Checks every name that an inode has or may have after a power cut, after it has changed.
    pub(super) fn check_names_of(&mut self, ino: Ino) {
        for path in self.disk.names_of(ino) {
            self.check_name(&path);
        }
    }

    /// Returns why an inode is no copy of what belongs under this name.
    fn wrong(&mut self, path: &[u8], ino: Ino) -> Option<String> {
        let Some(version) = self.tree.items.get(path).cloned() else {
            return Some("nothing has this name in the source".to_owned());
        };
        self.disk.examine(ino).differs(&version)
    }

    /// Checks all final names, after a power cut and at the end.
    pub(super) fn check_all(&mut self) {
        let names: Vec<Path> = self.disk.names().keys().cloned().collect();
        for path in names {
            let is_dir = |ino| self.disk.inode(ino).form == Form::Dir;
            if !self.disk.find(&path).is_some_and(is_dir) {
                self.check_name(&path);
            }
        }
        let acked: Vec<Path> = self.acked.keys().cloned().collect();
        for path in acked {
            self.check_acked(&path);
        }
    }

    /// Takes note of an acknowledgement: from now on no power cut may take it back.
    pub(super) fn acknowledge(&mut self, path: &[u8], version: &Version) {
        self.op(format_args!("acknowledge {}", show(path)));
        self.acked.insert(path.to_vec(), version.id);
        self.check_acked(path);
    }

    fn check_acked(&mut self, path: &[u8]) {
        if self.disk.outcomes(path).contains(&None) {
            self.violated(format!("{} was acknowledged and may be gone", show(path)));
        }
        self.check_name(path);
    }

    /// Checks what the journal claims, when a process begins: that it is so whatever power cut
    /// comes, and that it has everything that was ever acknowledged.
    pub(super) fn check_journal(&mut self, loaded: &Loaded) {
        self.kept.clear();
        for done in loaded.iter_done() {
            let path = done.target_path;
            self.check_acked(path);
            let version = &self.tree.items[path];
            if Some(&done.digest) != version.digest.as_ref().map(Hash::as_bytes) {
                self.violated(format!("the journal has a wrong digest of {}", show(path)));
            }
            self.kept.insert(version.inode.1);
        }
        let acked: Vec<Path> = self.acked.keys().cloned().collect();
        for path in acked {
            let is_file = self.tree.items[&path].digest.is_some();
            if is_file && loaded.done(&path).is_none() {
                let what = "was acknowledged, and the journal does not know";
                self.violated(format!("{} {what}", show(&path)));
            }
        }
    }

    /// Checks that the target is the source, whatever power cut comes now.
    pub(super) fn check_whole(&mut self) {
        let tree = std::sync::Arc::clone(&self.tree);
        let mut links: BTreeMap<(u64, u64), Ino> = BTreeMap::new();
        for (path, version) in &tree.items {
            let outcomes = self.disk.outcomes(path);
            let [Some(ino)] = outcomes[..] else {
                let shown = show(path);
                self.violated(format!("{shown} is not there for good: {outcomes:?}"));
            };
            let inode = self.disk.inode(ino);
            if version.form == Form::Dir {
                if inode.form != Form::Dir || inode.meta != version.meta {
                    let meta = inode.meta;
                    self.violated(format!("folder {} is not finished: {meta:?}", show(path)));
                }
                continue;
            }
            self.check_name(path);
            // The journal does not know symlinks: a later run makes a further name anew.
            if version.form != Form::File {
                continue;
            }
            let first = *links.entry(version.inode).or_insert(ino);
            if first != ino {
                self.violated(format!("{} is not the link it should be", show(path)));
            }
        }
        let names: Vec<Path> = self.disk.names().keys().cloned().collect();
        for path in names {
            let is_known = !is_final(&path) || tree.items.contains_key(&path);
            let is_staged = path.starts_with(b".inhaul/stage/") && is_number(&path);
            if !is_known || is_staged {
                self.violated(format!("{} is left over", show(&path)));
            }
        }
    }
}

fn is_number(path: &[u8]) -> bool {
    let name = &path[super::disk::parent(path).len() + 1..];
    name.iter().all(u8::is_ascii_digit)
}
