//! Where a source of a job is now.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::identity;
use super::recognise::{Shape, shape};
use super::sources::{NamedLink, Source, means_contents, open_sources};
use crate::beneath;
use crate::journal::{self, Identity, Likeness};
use crate::scan::as_path;
use crate::topology::{Mount, Topology, mount_number};

/// Mounts that a source which went away is not back in, whatever is there.
#[derive(Debug, Clone, Default)]
pub struct NotBack {
    /// By their [`mount_number`]s.
    pub numbers: Vec<u64>,
    /// By the mount table; only as long as they are in it, as their ids are handed out again.
    pub mounts: Vec<Mount>,
}

impl NotBack {
    /// Returns whether an open directory is in one of them, by `mount`, or may be.
    fn has(&self, dir: BorrowedFd<'_>, mount: &Mount) -> bool {
        mount_number(dir).is_none_or(|number| self.numbers.contains(&number))
            || self.mounts.iter().any(|other| is_same_mount(other, mount))
    }
}

/// Returns whether two lines of the mount table, of two moments, are of one mount: its options and the
/// name of its source may change. Ids and device numbers are handed out again, the lowest first.
pub fn is_same_mount(one: &Mount, other: &Mount) -> bool {
    (one.id, one.device, &one.root, &one.point)
        == (other.id, other.device, &other.root, &other.point)
}

/// Returns the recorded label of a source if it leads to what is the same, or nothing says that it is
/// not, and means what it meant: a folder, its contents, or a file. A relative label begins in the
/// working directory.
///
/// `may_ask` is told of each place before it is asked at (the recorded path, a mount point), and may
/// leave it out; `may_be` has the last word on what is the same for all that is known of its drive.
pub fn find_in_place(
    topology: &Topology,
    recorded: &journal::Source,
    may_ask: &dyn Fn(&Path) -> bool,
    may_be: &dyn Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let (wanted, label, folder) = Wanted::of(topology, recorded);
    let is_here = may_ask(&label)
        && matches!(
            wanted.likeness(&folder),
            Some(Likeness::Same | Likeness::Unknown)
        );
    (is_here && wanted.path_in(&folder).is_some() && may_be(&label)).then_some(label)
}

/// Returns a path that leads to what is the same as a recorded source on any mount of the same type, and
/// means what its label meant: the mount point itself, or the folder below it at the last components of
/// the label (`/mnt/d1/a/b`: at `a/b`, then at `b`). `may_ask` and `may_be` as in [`find_in_place`].
///
/// Not found is a file system that is not mounted, a folder that was moved within its file system,
/// and anything that neither a UUID nor a serial number identifies. No symbolic link below a mount
/// point is followed.
pub fn find_elsewhere(
    topology: &Topology,
    recorded: &journal::Source,
    may_ask: &dyn Fn(&Path) -> bool,
    may_be: &dyn Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let (wanted, _, folder) = Wanted::of(topology, recorded);
    if recorded.identity.fs_uuid.is_none() && recorded.identity.serial.is_none() {
        return None;
    }
    let tails = tails(&folder);
    let mounts = topology.mounts().iter();
    mounts
        .filter(|mount| mount.fs == recorded.identity.fs_type && may_ask(&mount.point))
        .find_map(|mount| wanted.below(&mount.point, &tails, may_be))
}

/// Returns a source that went away, opened, if it is mounted again: the same for sure, where it was or
/// on any other mount, as [`find_elsewhere`] has it, but for those of `not_back`. `may_ask` is told of each
/// place before it is asked at (the recorded path, a mount point), and may leave it out.
pub fn find_returned(
    topology: &Topology,
    recorded: &journal::Source,
    not_back: &NotBack,
    may_ask: &dyn Fn(&Path) -> bool,
) -> Option<Source> {
    let (mut wanted, label, folder) = Wanted::of(topology, recorded);
    wanted.not_back = Some(not_back);
    let is_here = may_ask(&folder) && wanted.likeness(&folder) == Some(Likeness::Same);
    let path = if is_here && wanted.path_in(&folder).is_some() {
        label
    } else {
        let tails = tails(&folder);
        let mounts = topology.mounts().iter();
        mounts
            .filter(|mount| mount.fs == recorded.identity.fs_type && may_ask(&mount.point))
            .find_map(|mount| wanted.below(&mount.point, &tails, &|_| true))?
    };
    let mut source = open_sources(&[path], NamedLink::Itself).ok()?.pop()?;
    // What was opened counts, not what the path led to before.
    let is_it = wanted.is_like(source.root.as_fd(), &source.label) == Some(Likeness::Same);
    source.landing.clone_from(&recorded.landing);
    is_it.then_some(source)
}

struct Wanted<'a> {
    topology: &'a Topology,
    identity: &'a Identity,
    shape: Shape<'a>,
    /// Nothing in these mounts is what is wanted.
    not_back: Option<&'a NotBack>,
}

impl<'a> Wanted<'a> {
    /// Returns what is wanted, the path it had, and the folder that this leads to or is in.
    fn of(topology: &'a Topology, recorded: &'a journal::Source) -> (Self, PathBuf, PathBuf) {
        let label = as_path(&recorded.label);
        let shape = shape(recorded);
        let folder = match shape {
            Shape::File(_) => parent(&label),
            Shape::Folder | Shape::Contents => label.clone(),
        };
        let wanted = Self {
            topology,
            identity: &recorded.identity,
            shape,
            not_back: None,
        };
        (wanted, label, folder)
    }

    /// Compares a folder with the one that is wanted; `None` when it cannot be looked at.
    fn likeness(&self, folder: &Path) -> Option<Likeness> {
        let dir = beneath::open_root(folder).ok()?;
        self.is_like(dir.as_fd(), folder)
    }

    /// Does so with a folder that is open.
    fn is_like(&self, dir: BorrowedFd<'_>, folder: &Path) -> Option<Likeness> {
        let location = self.topology.locate_fd(dir, folder).ok()?;
        if self.not_back.is_some_and(|it| it.has(dir, &location.mount)) {
            return None;
        }
        let now = identity(dir, &location).ok()?;
        Some(self.identity.compare(&now))
    }

    /// Looks at a mount point, and below it at each of `tails`, for what may be it.
    fn below(
        &self,
        point: &Path,
        tails: &[PathBuf],
        may_be: &dyn Fn(&Path) -> bool,
    ) -> Option<PathBuf> {
        let root = beneath::open_root(point).ok()?;
        let here = std::iter::once(point.to_owned());
        let deeper = tails.iter().filter_map(|tail| {
            // Looked at through the mount alone; then its path is as good as the descriptor.
            beneath::open_dir(root.as_fd(), tail.as_os_str().as_bytes()).ok()?;
            Some(point.join(tail))
        });
        here.chain(deeper)
            .filter(|folder| self.likeness(folder) == Some(Likeness::Same))
            .filter_map(|folder| self.path_in(&folder))
            .find(|path| may_be(path))
    }

    /// Returns the path to type for what is wanted, where `folder` is the folder that is.
    fn path_in(&self, folder: &Path) -> Option<PathBuf> {
        match self.shape {
            // The root of all has no name to land under.
            Shape::Folder => (!means_contents(folder)).then(|| folder.to_owned()),
            Shape::Contents => Some(folder.join("")),
            Shape::File(name) => {
                let file = folder.join(as_path(name));
                file.is_file().then_some(file)
            }
        }
    }
}

fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns the last components of a path: all of them, then ever fewer. None of a path that goes
/// back on itself.
fn tails(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => return Vec::new(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (0..names.len())
        .filter_map(|from| Some(names.get(from..)?.iter().collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_path_are_tried_longest_first() {
        let texts = |path: &str| -> Vec<String> {
            let tails = tails(Path::new(path));
            tails.iter().map(|t| t.display().to_string()).collect()
        };
        assert_eq!(texts("/mnt/d1/a/"), ["mnt/d1/a", "d1/a", "a"]);
        assert_eq!(texts("./a/./b/."), ["a/b", "b"]);
        assert!(texts("/").is_empty());
        assert!(texts("/mnt/d1/../d2").is_empty());
    }

    #[test]
    fn a_file_is_in_its_folder() {
        assert_eq!(parent(Path::new("/mnt/a.mov")), Path::new("/mnt"));
        assert_eq!(parent(Path::new("a.mov")), Path::new("."));
    }
}
