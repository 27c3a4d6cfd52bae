//! What people do in the target between two runs, and while one goes on: files of their own, some
//! in the way of ours, some in the place of ours, and some that only their bytes tell from ours.

use std::sync::Arc;

use super::check::{is_final, show};
use super::content::Content;
use super::disk::{Ino, Path, parent};
use super::inode::{Form, Meta};
use super::tree::{Version, next_id};
use super::world::World;
use crate::engine::job::Existing;
use crate::journal::Stamp;

/// Something in the target that is not ours.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) ino: Ino,
    pub(super) version: Arc<Version>,
    /// Whether it has the size and time of what belongs there.
    is_alike: bool,
}

impl World {
    /// Lets somebody put something into the target, or take something out.
    pub(super) fn meddle(&mut self) {
        self.disk.sync_all(None);
        let ours: Vec<Path> = self.ours();
        match self.rng.below(4) {
            0 => {
                let dirs = self.dirs();
                let name = format!("their{}", self.rng.below(1000));
                let dir = dirs[self.rng.below(dirs.len())].clone();
                let path = crate::scan::join(dir, name.as_bytes());
                if self.disk.find(&path).is_none() {
                    self.place(&path);
                }
            }
            1 => self.get_in_the_way(),
            kind if !ours.is_empty() => {
                let path = ours[self.rng.below(ours.len())].clone();
                self.note(format_args!("   somebody takes {} away", show(&path)));
                self.disk.take(&path);
                self.acked.remove(&path);
                self.spoiled.insert(path.clone());
                if kind == 2 {
                    self.place(&path);
                }
            }
            _ => {}
        }
    }

    /// Lets somebody take a name that one of ours is to have, and has not yet.
    pub(super) fn get_in_the_way(&mut self) {
        let dirs = self.dirs();
        let items = self.tree.items.iter();
        let free = items.filter(|(path, version)| {
            let has_room = dirs.iter().any(|dir| dir == parent(path));
            version.form != Form::Dir && has_room && self.disk.outcomes(path) == [None]
        });
        let free: Vec<Path> = free.map(|(path, _)| path.clone()).collect();
        if !free.is_empty() {
            let path = free[self.rng.below(free.len())].clone();
            self.place(&path);
        }
    }

    /// Returns the folders that are there for good.
    fn dirs(&self) -> Vec<Path> {
        let names = self.disk.names().keys();
        let dirs = names.filter(|path| {
            let is_ours = path.is_empty() || is_final(path);
            let is_dir = |ino: Ino| self.disk.inode(ino).form == Form::Dir;
            let outcomes = self.disk.outcomes(path);
            is_ours && matches!(outcomes[..], [Some(ino)] if is_dir(ino))
        });
        dirs.cloned().collect()
    }

    /// Returns the names of copies that are there.
    fn ours(&self) -> Vec<Path> {
        let names = self.disk.names().iter();
        let ours = names.filter(|(path, ino)| {
            let is_dir = self.disk.inode(**ino).form == Form::Dir;
            is_final(path) && !is_dir && !self.foreign.contains_key(*path)
        });
        ours.map(|(path, _)| path.clone()).collect()
    }

    fn place(&mut self, path: &[u8]) {
        let wanted = self.tree.items.get(path).cloned();
        let may_be_alike = self.existing != Existing::Skip && self.rng.coin();
        let wanted = wanted.filter(|it| may_be_alike && it.content.size() > 0);
        let (mut bytes, mut mtime) = (vec![0; self.rng.between(1, 9000)], (7, 7));
        let is_alike = wanted.is_some();
        if let Some(version) = wanted {
            bytes.resize(usize::try_from(version.content.size()).unwrap(), 0);
            version.content.read(0, &mut bytes);
            bytes[0] ^= 1;
            mtime = version.meta.mtime;
        } else {
            self.rng.fill(&mut bytes);
        }
        let alike = if is_alike { ", alike" } else { "" };
        self.note(format_args!("   somebody places {}{alike}", show(path)));
        let version = Arc::new(Version {
            id: next_id(),
            form: Form::File,
            content: Arc::new(Content::of(&bytes)),
            meta: Meta { mode: 0o644, mtime },
            digest: None,
            inode: (0, 0),
            stamp: Stamp::default(),
        });
        let ino = self.disk.make(Form::File, 0o644, false);
        let inode = self.disk.inode_mut(ino);
        inode.write(0, &bytes);
        inode.set_meta(version.meta);
        inode.sync(None);
        self.disk.place(path, ino);
        let foreign = Foreign {
            ino,
            version,
            is_alike,
        };
        self.foreign.insert(path.to_vec(), foreign);
    }

    /// Returns the names of ours that are somebody else's.
    pub(super) fn in_the_way(&self) -> Vec<Path> {
        let names = self.foreign.keys();
        let in_the_way = names.filter(|path| self.tree.items.contains_key(*path));
        in_the_way.cloned().collect()
    }

    /// Lets them clear the way again.
    pub(super) fn clear_the_way(&mut self) {
        self.disk.sync_all(None);
        for path in self.in_the_way() {
            self.note(format_args!("   somebody clears {}", show(&path)));
            self.disk.take(&path);
            self.foreign.remove(&path);
        }
    }

    /// Checks that what is not ours is as it was.
    pub(super) fn check_foreign(&mut self) {
        let paths: Vec<Path> = self.foreign.keys().cloned().collect();
        for path in paths {
            let outcomes = self.disk.outcomes(&path);
            let foreign = &self.foreign[&path];
            let (ino, version) = (foreign.ino, Arc::clone(&foreign.version));
            let may_go = match self.existing {
                Existing::Overwrite => !self.versions(&path).is_empty(),
                _ => foreign.is_alike && self.has_gaps,
            };
            if outcomes != [Some(ino)] && (!may_go || outcomes.contains(&None)) {
                let what = "is not ours, and was touched";
                self.violated(format!("{} {what}: {outcomes:?}", show(&path)));
            }
            if outcomes.contains(&Some(ino))
                && let Some(why) = self.disk.examine(ino).differs(&version)
            {
                self.violated(format!("{} is not ours: {why}", show(&path)));
            }
        }
    }
}
