//! What must hold at every moment.
//!
//! A name is looked at when it is given and when what it names changes: then every inode that may
//! have it after some power cut must be right, page by page, in the cache and on the medium.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::disk::{Ino, Path, parent};
use super::inode::Form;
use super::tree::Version;
use super::world::World;
use crate::digest::Hash;
use crate::engine::job::Existing;
use crate::journal::{Loaded, Stamp};
use crate::scan::Entry;

/// Folder of everything that is not a copy.
pub(super) const HOME: &[u8] = b".inhaul";

/// What was acknowledged under a name.
#[derive(Debug)]
pub(super) struct Acked {
    /// Which version, or an older one that is the same.
    version: u64,
    /// The stamp that was recorded.
    stamp: Stamp,
}

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

    /// Returns why an inode is nothing that may be under this name.
    fn wrong(&mut self, path: &[u8], ino: Ino) -> Option<String> {
        let foreign = self.foreign.get(path);
        if foreign.is_some_and(|foreign| foreign.ino == ino) {
            return None;
        }
        if let Some(whole) = self.partial_of(path) {
            let mut why = Some("nothing has this name in the source".to_owned());
            for version in self.versions(&whole) {
                why = self.disk.examine(ino).differs_but_for_zeros(&version);
                why.as_ref()?;
            }
            return why;
        }
        let versions = self.versions(path);
        self.wrong_among(&versions, ino)
    }

    /// Returns the name of the file of which this is the name of what could be read.
    fn partial_of(&self, path: &[u8]) -> Option<Path> {
        let whole = path.strip_suffix(b".partial")?;
        let is_partial = !self.tree.items.contains_key(path) && !self.foreign.contains_key(path);
        is_partial.then(|| whole.to_vec())
    }

    /// Checks that what could be read of a file is there for good.
    fn check_partial(&mut self, path: &[u8]) {
        for outcome in self.disk.outcomes(path) {
            let Some(ino) = outcome else {
                self.violated(format!("{} may be gone", show(path)));
            };
            if let Some(why) = self.wrong(path, ino) {
                self.violated(format!("{} may have wrong bytes: {why}", show(path)));
            }
        }
    }

    /// Returns why an inode is a copy of none of these.
    fn wrong_among(&mut self, versions: &[Arc<Version>], ino: Ino) -> Option<String> {
        let mut why = Some("nothing has this name in the source".to_owned());
        for version in versions {
            why = self.disk.examine(ino).differs(version);
            why.as_ref()?;
        }
        why
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
        self.check_foreign();
    }

    /// Takes note of an acknowledgement: from now on no power cut may take it back.
    pub(super) fn acknowledge(&mut self, entry: &Entry, digest: Option<&Hash>) {
        let path = entry.target_path();
        self.op(format_args!("acknowledge {}", show(&path)));
        if self.partial_of(&path).is_some() {
            return self.check_partial(&path);
        }
        // A further name of a file that changed meanwhile has the stamp it was listed with.
        let versions = self.versions(&path);
        let mut alike = versions.iter().filter(|it| it.digest.as_ref() == digest);
        let listed = alike.clone().find(|it| it.stamp == entry.stamp.into());
        let Some(version) = listed.or_else(|| alike.next()) else {
            self.violated(format!("{} is listed with a wrong digest", show(&path)));
        };
        let acked = Acked {
            version: version.id,
            stamp: entry.stamp.into(),
        };
        self.acked.insert(path.clone(), acked);
        self.spoiled.remove(&path);
        self.foreign.remove(&path);
        self.check_acked(&path);
    }

    /// Checks that what was acknowledged is there for good, or something newer.
    fn check_acked(&mut self, path: &[u8]) {
        let acked = self.acked[path].version;
        let mut versions = self.versions(path);
        versions.retain(|version| version.id >= acked);
        self.check_kept(path, &versions);
    }

    fn check_kept(&mut self, path: &[u8], versions: &[Arc<Version>]) {
        for outcome in self.disk.outcomes(path) {
            let Some(ino) = outcome else {
                self.violated(format!("{} was acknowledged and may be gone", show(path)));
            };
            if let Some(why) = self.wrong_among(versions, ino) {
                let what = "was acknowledged and may have wrong bytes";
                self.violated(format!("{} {what}: {why}", show(path)));
            }
        }
    }

    /// Checks what the journal claims, when a process begins: that it is so whatever power cut
    /// comes, and that it has everything that was ever acknowledged.
    pub(super) fn check_journal(&mut self, loaded: &Loaded) {
        self.kept.clear();
        self.has_gaps |= loaded.has_gaps();
        for done in loaded.iter_done() {
            let path = done.target_path;
            if self.spoiled.contains(path) {
                continue;
            }
            if self.partial_of(path).is_some() {
                self.check_partial(path);
                continue;
            }
            let mut versions = self.versions(path);
            versions.retain(|it| it.digest.as_ref().map(Hash::as_bytes) == Some(&done.digest));
            if versions.is_empty() {
                self.violated(format!("the journal has a wrong digest of {}", show(path)));
            }
            self.check_kept(path, &versions);
            let current = self.tree.items.get(path);
            if current.is_some_and(|version| version.stamp == done.source_stamp) {
                self.kept.insert(done.source_stamp.ino);
            }
        }
        self.check_blocks(loaded);
        let acked = self.acked.iter();
        let lost = acked.filter(|(path, acked)| {
            // What has changed since may be on its way again.
            let current = self.tree.items.get(*path);
            let current = current.filter(|it| it.stamp == acked.stamp);
            let is_file = current.is_some_and(|version| version.form == Form::File);
            // What could not be looked at later is ours still, and is copied again.
            let is_known = loaded.done(path).is_some() || loaded.left_behind(path).is_some();
            is_file && !is_known
        });
        if let Some((path, _)) = lost.into_iter().next() {
            let what = "was acknowledged, and the journal does not know";
            self.violated(format!("{} {what}", show(&path.clone())));
        }
    }

    /// Checks what a run that reports success leaves: that the target is the source, whatever power
    /// cut comes now, and that the journal says so.
    pub(super) fn check_whole(&mut self, loaded: &Loaded) {
        if self.heard < self.disk.errors {
            self.violated("something was lost, and the run does not know".to_owned());
        }
        let tree = Arc::clone(&self.tree);
        let mut links: BTreeMap<(u64, u64), Ino> = BTreeMap::new();
        for (path, version) in &tree.items {
            if self.existing == Existing::Skip && self.foreign.contains_key(path) {
                continue;
            }
            let outcomes = self.disk.outcomes(path);
            let [Some(ino)] = outcomes[..] else {
                let shown = show(path);
                self.violated(format!("{shown} is not there for good: {outcomes:?}"));
            };
            let versions = self.versions_lately(path);
            let inode = self.disk.inode(ino);
            if version.form == Form::Dir {
                let meta = inode.meta;
                let is_finished = versions.iter().any(|version| version.meta == meta);
                if inode.form != Form::Dir || !is_finished {
                    self.violated(format!("folder {} is not finished: {meta:?}", show(path)));
                }
                continue;
            }
            if let Some(why) = self.wrong_among(&versions, ino) {
                self.violated(format!("{} is no copy: {why}", show(path)));
            }
            let first = *links.entry(version.inode).or_insert(ino);
            if first != ino && !self.has_changed_lately() {
                self.violated(format!("{} is not the link it should be", show(path)));
            }
            let done = loaded.done(path).map(|done| done.source_stamp);
            let is_known = versions.iter().any(|version| done == Some(version.stamp));
            if version.form == Form::File && !is_known {
                self.violated(format!("the journal lacks {}", show(path)));
            }
        }
        let names: Vec<Path> = self.disk.names().keys().cloned().collect();
        for path in names {
            let is_known = !is_final(&path)
                || tree.items.contains_key(&path)
                || self
                    .partial_of(&path)
                    .is_some_and(|it| tree.items.contains_key(&it) || self.past.contains_key(&it))
                || self.past.contains_key(&path)
                || self.foreign.contains_key(&path);
            if !is_known || is_staged(&path) {
                self.violated(format!("{} is left over", show(&path)));
            }
        }
    }

    /// Checks that nothing is staged when a run begins but what it goes on with.
    pub(super) fn check_stage(&mut self, kept: &HashSet<(String, u64)>) {
        let mut staged = self.disk.names().keys().filter(|path| is_staged(path));
        let stray = staged.find(|path| {
            let folder = parent(path);
            let thread = show(&folder[parent(folder).len() + 1..]);
            let number = show(&path[folder.len() + 1..]).parse().unwrap();
            !kept.contains(&(thread, number))
        });
        if let Some(path) = stray.cloned() {
            self.violated(format!("nobody goes on with {}", show(&path)));
        }
    }
}

fn is_staged(path: &[u8]) -> bool {
    let name = &path[parent(path).len()..];
    let digits = name.strip_prefix(b"/").unwrap_or(name);
    path.starts_with(b".inhaul/stage/") && digits.iter().all(u8::is_ascii_digit)
}
