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
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEntry, ReplyOpen, Request,
};
use support::judge::{b3sum_agrees, walk};
use support::mounts::unmount;
use support::program::{contents, listed, report, run};
use support::sentinel::Sentinel;
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
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: at(0),
            mtime: at(u64::from(modified)),
            ctime: at(u64::from(touched)),
            crtime: at(0),
            kind: FileType::RegularFile,
            perm: 0o644,
            nlink: u32::from(!is_gone),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn directory() -> FileAttr {
    let mut attributes = File {
        name: String::new(),
        way: "not",
        size: 0,
        at: 0,
        generation: 0,
    }
    .attributes(1);
    attributes.kind = FileType::Directory;
    attributes.perm = 0o755;
    attributes.nlink = 2;
    attributes
}

fn index(number: u64) -> usize {
    usize::try_from(number % SECOND).unwrap() - 2
}

impl Filesystem for Meddler {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = self.0.lock().unwrap();
        let found = files.iter().position(|file| name == file.name.as_str());
        let Some((found, file)) = found.map(|found| (found as u64, &files[found])) else {
            return reply.error(Errno::ENOENT);
        };
        let number = match file.way {
            "vanished" if file.generation > 0 => return reply.error(Errno::ENOENT),
            "replaced" if file.generation > 0 => SECOND + found + 2,
            _ => found + 2,
        };
        reply.entry(&Duration::ZERO, &file.attributes(number), Generation(0));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if number.0 == 1 {
            return reply.attr(&Duration::ZERO, &directory());
        }
        let files = self.0.lock().unwrap();
        reply.attr(
            &Duration::ZERO,
            &files[index(number.0)].attributes(number.0),
        );
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut files = self.0.lock().unwrap();
        let file = &mut files[index(number.0)];
        let end = (offset + u64::from(size)).min(file.size);
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
        drop(files);
        reply.data(&bytes);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let files = self.0.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        for (number, file) in files.iter().enumerate().skip(from) {
            let (number, next) = (number as u64 + 2, number as u64 + 1);
            if reply.add(INodeNo(number), next, FileType::RegularFile, &file.name) {
                break;
            }
        }
        reply.ok();
    }
}

/// The source, mounted; gone when dropped.
struct Source {
    files: Arc<Mutex<Vec<File>>>,
    session: Option<BackgroundSession>,
    point: std::path::PathBuf,
    _sentinel: Sentinel,
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
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("inhaul-test-meddler".to_owned())];
        let sentinel = Sentinel::new("umount -f \"$1\"; umount -l \"$1\"", &[point]);
        let session = fuser::spawn_mount(Meddler(Arc::clone(&files)), point, &config).unwrap();
        Self {
            files,
            session: Some(session),
            point: point.to_owned(),
            _sentinel: sentinel,
        }
    }

    /// Returns the names of the files that were changed.
    fn changed(&self) -> BTreeSet<String> {
        let files = self.files.lock().unwrap();
        let changed = files.iter().filter(|file| file.generation > 0);
        changed.map(|file| file.name.clone()).collect()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        unmount(&self.point);
        drop(self.session.take());
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
        let from = contents(&source.point);
        run(&[&"copy", &"--io", &io, &"--memory=64M", &from, &target]).expect(4);

        let changed = source.changed();
        let each = SIZES.len() * EACH;
        assert_eq!(changed.len(), each * (WAYS.len() - 1), "{io}");
        assert!(changed.len() >= 100);
        let told: BTreeSet<String> = listed(&report(&target), "problems").into_iter().collect();
        let expected = changed
            .iter()
            .map(|name| format!("source-changed {}/{name}", source.point.display()));
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
