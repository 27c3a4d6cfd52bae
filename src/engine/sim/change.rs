//! What people do to a source while its job is unfinished, and while it is being copied.
//!
//! Each change is one step. The change time tells it, and often nothing else does.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path as FsPath;
use std::sync::Arc;

use super::check::show;
use super::disk::{Path, parent};
use super::inode::Form;
use super::maker::set_mtime;
use super::tree::{Version, version_of};
use super::world::World;

/// Something that was in a source, and until which attempt.
#[derive(Debug)]
pub(super) struct Past {
    version: Arc<Version>,
    attempt: u64,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    /// Other bytes; size and modification time stay.
    Bytes,
    BytesAndTime,
    Length,
    Time,
    Mode,
    /// Another file takes the name, with other bytes; size and modification time stay.
    Swap,
    /// Another file takes the name, and is the same.
    SwapAlike,
    Symlink,
    Remove,
    Add,
}

impl World {
    /// Returns everything that ever was at a path in the source, oldest first.
    pub(super) fn versions(&self, path: &[u8]) -> Vec<Arc<Version>> {
        let past = self.past.get(path).into_iter().flatten();
        let past = past.map(|past| &past.version);
        past.chain(self.tree.items.get(path)).cloned().collect()
    }

    /// Returns everything that was there since this attempt began, oldest first.
    pub(super) fn versions_lately(&self, path: &[u8]) -> Vec<Arc<Version>> {
        let past = self.past.get(path).into_iter().flatten();
        let lately = past.filter(|past| past.attempt == self.attempt);
        let past = lately.map(|past| &past.version);
        past.chain(self.tree.items.get(path)).cloned().collect()
    }

    /// Returns whether the source has changed since this attempt began.
    pub(super) fn has_changed_lately(&self) -> bool {
        let mut past = self.past.values().flatten();
        past.any(|past| past.attempt == self.attempt)
    }

    /// Lets somebody change something in the source; nothing is added while it is copied.
    pub(super) fn change_source(&mut self, is_running: bool) {
        use Change::{Add, Bytes, BytesAndTime, Length, Mode, Remove, Swap, SwapAlike, Time};
        let items = self.tree.items.iter();
        let things = items.filter(|(_, version)| version.form != Form::Dir);
        let mut things: Vec<Path> = things.map(|(path, _)| path.clone()).collect();
        if is_running && self.rng.coin() {
            let tree = Arc::clone(&self.tree);
            let reading: BTreeSet<u64> = self.reading.values().copied().collect();
            things.retain(|path| reading.contains(&tree.items[path].inode.1));
        }
        if things.is_empty() {
            return;
        }
        let mut path = things[self.rng.below(things.len())].clone();
        let old = Arc::clone(&self.tree.items[&path]);
        let change = match old.form {
            Form::File => self.rng.pick(&[
                Bytes,
                BytesAndTime,
                Length,
                Time,
                Mode,
                Swap,
                SwapAlike,
                Change::Symlink,
                Remove,
                Add,
            ]),
            _ => self.rng.pick(&[Change::Symlink, Change::Symlink, Remove]),
        };
        let change = if is_running && matches!(change, Add) {
            Bytes
        } else {
            change
        };
        if matches!(change, Add) {
            let name = format!("new{}", self.rng.below(1000));
            path = crate::scan::join(parent(&path).to_vec(), name.as_bytes());
        }
        self.note(format_args!(
            "   {change:?} of {} in the source",
            show(&path)
        ));
        self.apply(change, &path, &old);
        let others = self.tree.items.iter();
        let names = others.filter(|(_, version)| version.inode == old.inode);
        let mut touched: Vec<Path> = names.map(|(path, _)| path.clone()).collect();
        touched.push(parent(&path).to_vec());
        touched.push(path);
        for path in touched {
            self.look_again(&path);
        }
    }

    fn apply(&mut self, change: Change, path: &[u8], old: &Version) {
        let real = self.tree.real(path);
        match change {
            Change::Bytes => self.rewrite(&real, old),
            Change::BytesAndTime => {
                self.rewrite(&real, old);
                self.set_new_time(&real);
            }
            Change::Length => {
                let sizes = [0, 100, old.stamp.size / 2, old.stamp.size + 5000];
                let size = self
                    .rng
                    .pick(&[sizes[0], sizes[1], sizes[2], sizes[3], (1 << 20) + 1]);
                set_mode(&real, 0o600);
                let file = File::options().write(true).open(&real).unwrap();
                file.set_len(size).unwrap();
                set_mode(&real, old.meta.mode);
                self.rewrite(&real, old);
                self.set_new_time(&real);
            }
            Change::Time => self.set_new_time(&real),
            Change::Mode => {
                set_mode(&real, old.meta.mode ^ 0o70);
                settle_time(&real, old);
            }
            Change::Swap | Change::SwapAlike => {
                let new = real.with_extension("swap");
                std::fs::copy(&real, &new).unwrap();
                if matches!(change, Change::Swap) {
                    self.rewrite(&new, old);
                }
                set_mode(&new, old.meta.mode);
                set_time(&new, old.meta.mtime);
                rustix::fs::rename(&new, &real).unwrap();
            }
            Change::Symlink => {
                std::fs::remove_file(&real).unwrap();
                symlink(format!("to{}", self.rng.below(1000)), &real).unwrap();
            }
            Change::Remove => std::fs::remove_file(&real).unwrap(),
            Change::Add => {
                let len = self.rng.pick(&[0, 3000, (1 << 20) + 77]);
                let mut bytes = vec![0; len];
                self.rng.fill(&mut bytes);
                std::fs::write(&real, bytes).unwrap();
                self.set_new_time(&real);
            }
        }
    }

    /// Gives a file other bytes somewhere, and keeps its modification time.
    fn rewrite(&mut self, real: &FsPath, old: &Version) {
        let len = real.symlink_metadata().unwrap().len();
        let at = self.rng.below(usize::try_from(len).unwrap());
        let room = usize::try_from(len).unwrap() - at;
        let mut bytes = vec![0; self.rng.between(1, 5000).min(room)];
        self.rng.fill(&mut bytes);
        set_mode(real, 0o600);
        let file = File::options().write(true).open(real).unwrap();
        file.write_all_at(&bytes, at as u64).unwrap();
        set_mode(real, old.meta.mode);
        settle_time(real, old);
    }

    fn set_new_time(&mut self, real: &FsPath) {
        let seconds = 1_600_000_000 + self.rng.below(50_000_000);
        set_mtime(real, seconds, self.rng.below(999_999_999));
    }

    /// Looks at something in the source that may have changed.
    fn look_again(&mut self, path: &[u8]) {
        let real = self.tree.real(path);
        let is_there = real.symlink_metadata().is_ok();
        let new = is_there.then(|| Arc::new(version_of(&real)));
        let old = self.tree.items.get(path).cloned();
        let stamp = |version: &Option<Arc<Version>>| version.as_ref().map(|it| it.stamp);
        if stamp(&old) == stamp(&new) {
            return;
        }
        let items = &mut Arc::make_mut(&mut self.tree).items;
        match new {
            Some(new) => items.insert(path.to_vec(), new),
            None => items.remove(path),
        };
        if let Some(version) = old {
            self.kept.remove(&version.inode.1);
            let attempt = self.attempt;
            let past = self.past.entry(path.to_vec()).or_default();
            past.push(Past { version, attempt });
        }
    }
}

fn set_mode(real: &FsPath, mode: u32) {
    std::fs::set_permissions(real, Permissions::from_mode(mode)).unwrap();
}

fn set_time(real: &FsPath, (seconds, nanos): (i64, u32)) {
    let nanos = usize::try_from(nanos).unwrap();
    set_mtime(real, usize::try_from(seconds).unwrap(), nanos);
}

/// Sets the modification time back, once the change time has moved: on a kernel whose clock for it
/// is coarse, a change right after another would not show.
fn settle_time(real: &FsPath, old: &Version) {
    loop {
        set_time(real, old.meta.mtime);
        if version_stamp(real) != old.stamp {
            return;
        }
    }
}

fn version_stamp(real: &FsPath) -> crate::journal::Stamp {
    super::tree::stamp_of(&real.symlink_metadata().unwrap())
}
