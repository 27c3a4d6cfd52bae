//! A source that changes each of its files while it is read, in every way there is: each change is
//! told of, and nothing torn is published.
//!
//! The source is a FUSE file system that changes a file in the middle of a read of it, so every
//! change comes at its moment, and none is missed by chance. (`engine_mutate` has a real one.)

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, OpenFlags};
use support::flat::{Flat, FlatFs, attributes};
use support::judge::{b3sum_agrees, walk};
use support::program::{contents, listed, report, run};
use support::{Scratch, need_root, tree};

/// Ways to change, and one not to.
const WAYS: [&str; 8] = [
    "not",
    "inplace",
    "grown",
    "shrunk",
    "replaced",
    "vanished",
    "disguised",
    "lying",
];
/// A file in one block, one in three, one that ends with its second block.
const SIZES: [u64; 3] = [200_000, 2_500_000, 2 << 20];
/// Files of each way and size.
const EACH: usize = 6;
/// Inode numbers of what takes the name of a file.
const SECOND: u64 = 1 << 20;

#[derive(Debug, Clone)]
struct File {
    name: String,
    way: &'static str,
    size: u64,
    /// Where in the file the change comes.
    at: u64,
    /// How often it was changed: 0 or 1.
    generation: u64,
}

#[derive(Debug)]
struct Meddler(Arc<Mutex<Vec<File>>>);

impl File {
    /// Returns the length and generation, as `number` stands for the file that was listed or for the
    /// one that took its name.
    fn attributes(&self, number: u64) -> FileAttr {
        let changed = self.generation > 0;
        let is_second = number >= SECOND;
        let size = match self.way {
            "grown" if changed => self.size + 4096,
            "shrunk" if changed => self.size - 70_000,
            _ => self.size,
        };
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        // Who puts the time of modification back cannot put the other one back.
        let touched = changed && !matches!(self.way, "lying");
        let modified = touched && !matches!(self.way, "disguised" | "replaced" | "vanished");
        let is_gone = changed && matches!(self.way, "replaced" | "vanished") && !is_second;
        FileAttr {
            atime: at(0),
            mtime: at(u64::from(modified)),
            ctime: at(u64::from(touched)),
            crtime: at(0),
            nlink: u32::from(!is_gone),
            ..attributes(number, FileType::RegularFile, size)
        }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % SECOND).unwrap() - 2
}

impl Flat for Meddler {
    fn names(&self) -> Vec<String> {
        let files = self.0.lock().unwrap();
        files.iter().map(|file| file.name.clone()).collect()
    }

    fn number(&self, index: usize) -> Option<u64> {
        let file = &self.0.lock().unwrap()[index];
        let listed = index as u64 + 2;
        match file.way {
            "vanished" if file.generation > 0 => None,
            "replaced" if file.generation > 0 => Some(SECOND + listed),
            _ => Some(listed),
        }
    }

    fn attributes(&self, number: u64) -> FileAttr {
        self.0.lock().unwrap()[index(number)].attributes(number)
    }

    fn read(&self, number: u64, offset: u64, size: usize, _: OpenFlags) -> Result<Vec<u8>, Errno> {
        let mut files = self.0.lock().unwrap();
        let file = &mut files[index(number)];
        let end = (offset + size as u64).min(file.size);
        let seed = |generation: u64| 1 + generation * 100;
        let half = usize::try_from(end.saturating_sub(offset) / 2).unwrap();
        let len = usize::try_from(end.saturating_sub(offset)).unwrap();
        let mut bytes = tree::painted(seed(file.generation), offset, len);
        if end > file.at && file.way != "not" && file.generation == 0 {
            // In the middle of this very read.
            file.generation = 1;
            let new = tree::painted(seed(1), offset, len);
            bytes.truncate(half);
            bytes.extend_from_slice(&new[half..]);
        }
        if file.way == "lying" && file.generation > 0 {
            // It ends before its length.
            let left = (file.size - 5_000).saturating_sub(offset);
            bytes.truncate(usize::try_from(left).unwrap());
        }
        Ok(bytes)
    }
}

/// The source, mounted.
struct Source {
    files: Arc<Mutex<Vec<File>>>,
    mounted: FlatFs,
}

impl Source {
    fn new(point: &Path) -> Self {
        let mut files = Vec::new();
        for way in WAYS {
            for size in SIZES {
                for number in 0..EACH {
                    files.push(File {
                        name: format!("{way}-{size}-{number}"),
                        way,
                        size,
                        // In the first block, the second, and at the end.
                        at: size * (number as u64 % 3) / 2 * 9 / 10,
                        generation: 0,
                    });
                }
            }
        }
        let files = Arc::new(Mutex::new(files));
        let mounted = FlatFs::new(point, "meddler", Meddler(Arc::clone(&files)));
        Self { files, mounted }
    }

    /// Returns the names of the files that were changed.
    fn changed(&self) -> BTreeSet<String> {
        let files = self.files.lock().unwrap();
        let changed = files.iter().filter(|file| file.generation > 0);
        changed.map(|file| file.name.clone()).collect()
    }
}

#[test]
fn every_change_is_told_of() {
    let test = "every_change_is_told_of";
    if !need_root(test) {
        return;
    }
    for io in ["uring", "blocking"] {
        let scratch = Scratch::new();
        let source = Source::new(&scratch.dir("source"));
        let target = scratch.join("target");
        let from = contents(source.mounted.path());
        run(&[&"copy", &"--io", &io, &"--memory=64M", &from, &target]).expect(4);

        let changed = source.changed();
        let each = SIZES.len() * EACH;
        assert_eq!(changed.len(), each * (WAYS.len() - 1), "{io}");
        assert!(changed.len() >= 100);
        let told: BTreeSet<String> = listed(&report(&target), "problems").into_iter().collect();
        let expected = changed
            .iter()
            .map(|name| format!("source-changed {}/{name}", source.mounted.path().display()));
        let copies = walk(&target);
        let expected: BTreeSet<String> = expected.collect();
        let unlike: Vec<_> = told.symmetric_difference(&expected).collect();
        assert!(unlike.is_empty(), "{io}: {unlike:?}");
        assert_eq!(copies.len(), each, "{io}");
        for (path, node) in &copies {
            let name = std::str::from_utf8(path).unwrap();
            assert!(name.starts_with("not-"), "{name}");
            let bytes = tree::painted(1, 0, usize::try_from(node.size).unwrap());
            assert_eq!(node.content, blake3::hash(&bytes).as_bytes(), "{name}");
        }
        b3sum_agrees(&target, each);
    }
}
