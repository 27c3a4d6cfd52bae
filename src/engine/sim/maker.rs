//! Making source trees: small ones, each with what its name says.

use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path as FsPath, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use super::rng::Rng;

/// A name, and how to make a tree of that kind.
pub(super) type Kind = (&'static str, fn(&mut Maker));

/// All kinds of trees.
pub(super) const KINDS: [Kind; 7] = [
    ("few", few),
    ("small", small),
    ("large", large),
    ("links", links),
    ("sparse", sparse),
    ("mixed", mixed),
    ("twins", twins),
];

/// Makes a tree of a kind in a new folder; every time the same, but for inode numbers and change
/// times.
pub(super) fn make(kind: usize, dir: PathBuf) {
    let mut maker = Maker::new(dir, 1 + kind as u64);
    KINDS[kind].1(&mut maker);
    maker.settle(FsPath::new(""));
}

/// Makes a tree.
#[derive(Debug)]
pub(super) struct Maker {
    dir: PathBuf,
    rng: Rng,
}

impl Maker {
    fn new(dir: PathBuf, seed: u64) -> Self {
        std::fs::create_dir(&dir).unwrap();
        Self {
            dir,
            rng: Rng::new(seed),
        }
    }

    fn folder(&mut self, path: &str) {
        std::fs::create_dir(self.dir.join(path)).unwrap();
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn file(&mut self, path: &str, len: usize) {
        let bytes = self.bytes(len);
        std::fs::write(self.dir.join(path), bytes).unwrap();
    }

    /// Makes a file that is a hole but for these runs, as start and length.
    fn holes(&mut self, path: &str, len: u64, runs: &[(u64, usize)]) {
        let file = File::create(self.dir.join(path)).unwrap();
        file.set_len(len).unwrap();
        for &(start, len) in runs {
            let bytes = self.bytes(len);
            file.write_all_at(&bytes, start).unwrap();
        }
    }

    fn link(&mut self, from: &str, to: &str) {
        std::fs::hard_link(self.dir.join(from), self.dir.join(to)).unwrap();
    }

    fn symlink(&mut self, text: &str, path: &str) {
        symlink(text, self.dir.join(path)).unwrap();
    }

    fn fifo(&mut self, path: &str) {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, self.dir.join(path), FileType::Fifo, mode, 0).unwrap();
    }

    /// Gives everything times and modes of its own, what is in a directory before that.
    fn settle(&mut self, path: &FsPath) {
        let full = self.dir.join(path);
        if full.is_dir() && !full.is_symlink() {
            let mut names: Vec<_> = std::fs::read_dir(&full)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            for name in names {
                self.settle(&path.join(name));
            }
            let mode = Mode::from_raw_mode(0o700 | u32::try_from(self.rng.below(0o100)).unwrap());
            rustix::fs::chmod(&full, mode).unwrap();
        } else if !full.is_symlink() {
            let mode = Mode::from_raw_mode(0o400 | u32::try_from(self.rng.below(0o400)).unwrap());
            rustix::fs::chmod(&full, mode).unwrap();
        }
        set_mtime(
            &full,
            1_000_000_000 + self.rng.below(500_000_000),
            self.rng.below(999_999_999),
        );
    }
}

pub(super) fn set_mtime(path: &FsPath, seconds: usize, nanos: usize) {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap(),
        tv_nsec: i64::try_from(nanos).unwrap(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn few(maker: &mut Maker) {
    maker.file("a", 5000);
    maker.folder("d");
    maker.file("d/b", 0);
    maker.file("d/c", 70_000);
}

fn small(maker: &mut Maker) {
    let sizes = [0, 1, 511, 4095, 4096, 4097, 8192, 20_000, 65_536, 100_000];
    for dir in ["x", "y", "x/z"] {
        maker.folder(dir);
        for (number, len) in sizes.into_iter().enumerate() {
            maker.file(&format!("{dir}/{number}"), len);
        }
    }
    maker.file("whole", 1 << 20);
    maker.symlink("x/5", "to");
}

fn large(maker: &mut Maker) {
    maker.file("one", (3 << 20) + 5);
    maker.file("just", (1 << 20) + 1);
    maker.folder("d");
    maker.file("d/even", 2 << 20);
    maker.file("d/small", 3000);
}

/// Files that begin alike: what is staged of one passes for what is staged of another.
fn twins(maker: &mut Maker) {
    let start = maker.bytes(1 << 20);
    for name in ["a", "b", "c"] {
        let end = maker.bytes((1 << 20) + 4097);
        std::fs::write(maker.dir.join(name), [&start[..], &end].concat()).unwrap();
    }
}

fn links(maker: &mut Maker) {
    maker.folder("d");
    maker.folder("e");
    maker.file("a", 9000);
    maker.link("a", "d/a1");
    maker.link("a", "e/a2");
    maker.file("d/big", (1 << 20) + 12_345);
    maker.link("d/big", "big1");
    maker.file("e/none", 0);
    maker.link("e/none", "none1");
    maker.symlink("nowhere", "d/s");
    maker.link("d/s", "s1");
    maker.fifo("d/pipe");
    maker.link("d/pipe", "e/pipe1");
    maker.file("d/alone", 100);
}

fn sparse(maker: &mut Maker) {
    maker.holes("all", 2 << 20, &[]);
    maker.holes("tail", (3 << 20) + 777, &[(4096, 5000), (1 << 20, 300_000)]);
    maker.holes("end", (2 << 20) + 100, &[((2 << 20) + 50, 50)]);
    maker.holes("little", 50_000, &[(20_480, 100)]);
    maker.file("full", 10_000);
}

fn mixed(maker: &mut Maker) {
    maker.folder("p");
    maker.folder("p/q");
    maker.folder("empty");
    maker.file("p/large", (2 << 20) + 4096);
    maker.link("p/large", "p/q/large1");
    maker.holes("p/q/holes", (1 << 20) + 8192, &[(0, 4096), (1 << 20, 8192)]);
    for (number, len) in [0, 100, 4096, 33_333, 500_000].into_iter().enumerate() {
        maker.file(&format!("p/q/{number}"), len);
    }
    maker.symlink("../large", "p/q/s");
    maker.fifo("p/pipe");
    maker.link("p/q/3", "three");
}
