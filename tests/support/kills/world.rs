//! The trees that are copied: small, with something of everything, and large files of some MiB.

use std::fs::{create_dir_all, hard_link};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::place::Place;
use crate::support::Scratch;
use crate::support::extents::{blocks, flip};
use crate::support::judge::{Tree, files, walk};
use crate::support::tree::{age, paint, sparse};

/// Two sources, and what the target has to hold in the end.
#[derive(Debug)]
pub(crate) struct World {
    place: Place,
    other: Scratch,
    sources: [PathBuf; 2],
    /// All of both, by path below TARGET.
    pub(crate) reference: Tree,
    /// Names of regular files in it.
    pub(crate) files: usize,
    targets: AtomicU64,
}

/// What the sources hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Something of everything.
    Mixed,
    /// Large files, and few small ones.
    Large,
    /// One large file.
    One,
}

/// Length of the file of [`Load::One`].
pub(crate) const ONE_MIB: u64 = 12;

impl World {
    /// Makes the sources: the first in the place, the second on another drive where it is mounted.
    pub(crate) fn new(place: Place, load: Load) -> Self {
        let other = Scratch::new();
        let sources = [place.join("first"), other.join("second")];
        match load {
            Load::Mixed => mixed(&sources),
            Load::Large => large(&sources),
            Load::One => one(&sources),
        }
        let mut reference = Tree::new();
        for source in &sources {
            age(source, 1_300_000_000);
            let name = source.file_name().unwrap().as_encoded_bytes();
            for (path, node) in walk(source) {
                reference.insert([name, b"/".as_slice(), &path].concat(), node);
            }
        }
        let mut world = Self {
            place,
            other,
            sources,
            files: files(&reference),
            reference,
            targets: AtomicU64::new(0),
        };
        world.add_roots();
        world
    }

    /// Adds the folders of the sources themselves, which a walk leaves out.
    fn add_roots(&mut self) {
        let parents = self.sources.each_ref().map(|source| {
            let name = source.file_name().unwrap().as_encoded_bytes().to_vec();
            let above = walk(source.parent().unwrap());
            (name.clone(), above[&name].clone())
        });
        self.reference.extend(parents);
    }

    /// Returns the sources.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &PathBuf> {
        self.sources.iter()
    }

    /// Flips a bit of a file of the first source, on the medium, near its beginning.
    pub(crate) fn flip(&self, name: &str) {
        let block = *blocks(&self.place.join(name)).first().unwrap();
        flip(self.place.device(), block * 4096 + 100);
    }

    /// Returns a target that nobody has used.
    pub(super) fn new_target(&self) -> PathBuf {
        let number = self.targets.fetch_add(1, Relaxed);
        let target = self.place.join(format!("target-{number}"));
        std::fs::create_dir(&target).unwrap();
        target
    }

    /// Returns the path of a file for the bench's own use.
    pub(crate) fn scratch_file(&self, name: &str) -> PathBuf {
        self.other.join(name)
    }
}

fn mixed([first, second]: &[PathBuf; 2]) {
    let dir = |path: &Path| create_dir_all(path).unwrap();
    for (index, len) in [0, 1, 700, 4096, 4097, 30_000, 70_000, 300_000]
        .into_iter()
        .enumerate()
    {
        for name in ["0", "1", "foreign", "deep/er/still"] {
            dir(&first.join(name));
            let seed = (index * 7 + name.len()) as u64;
            paint(&first.join(name).join(format!("small{index}")), seed, len);
        }
    }
    dir(&first.join("empty/too"));
    dir(&first.join("large"));
    paint(&first.join("large/a"), 1, (3 << 20) + 17);
    paint(&first.join("large/b"), 2, 6 << 20);
    sparse(
        &first.join("large/sparse"),
        3,
        7 << 20,
        &[(0, 5000), (4 << 20, 1 << 20), ((6 << 20) + 9, 100)],
    );
    hard_link(first.join("large/a"), first.join("large/a too")).unwrap();
    hard_link(first.join("large/a"), first.join("1/a too")).unwrap();
    for index in 2..6 {
        let name = |dir: &str| first.join(dir).join(format!("small{index}"));
        hard_link(name("0"), first.join(format!("0/linked{index}"))).unwrap();
        hard_link(name("1"), first.join(format!("deep/linked{index}"))).unwrap();
        symlink("small1", first.join(format!("1/symlink{index}"))).unwrap();
    }

    dir(&second.join("below"));
    for index in 0..8 {
        paint(
            &second.join(format!("below/{index}")),
            40 + index,
            index * 3000,
        );
    }
    paint(&second.join("large"), 9, (2 << 20) + 4097);
    symlink("nowhere", second.join("symlink")).unwrap();
}

fn large([first, second]: &[PathBuf; 2]) {
    create_dir_all(first.join("foreign")).unwrap();
    for (name, mib) in [("a", 4), ("b", 5), ("foreign/c", 6)] {
        paint(&first.join(name), mib, (mib << 20) + mib);
    }
    for index in 0..4 {
        paint(&first.join(format!("small{index}")), index, 900);
    }
    create_dir_all(second).unwrap();
    paint(&second.join("d"), 7, 3 << 20);
}

fn one([first, second]: &[PathBuf; 2]) {
    create_dir_all(first.join("foreign")).unwrap();
    paint(&first.join("large"), 5, ONE_MIB << 20);
    create_dir_all(second).unwrap();
}
