//! What inhaul does with a fault, and what cp, rsync and rclone do with the same: ours is asserted,
//! theirs is printed. The table in FAULTS.md says what that was.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use drive::{Drive, Fate, Spared};
use rustix::process::Signal;
use support::dice::Dice;
use support::extents::place;
use support::judge::{Tree, files, walk};
use support::lab::Lab;
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul};
use support::{Scratch, can_mount, need_tools, tree, wait_for};

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Inhaul,
    Cp,
    Rsync,
    Rclone,
}

impl Who {
    /// Returns those who are installed.
    fn all() -> impl Iterator<Item = Self> {
        let all = [Self::Inhaul, Self::Cp, Self::Rsync, Self::Rclone];
        all.into_iter().filter(|who| match who {
            Self::Inhaul | Self::Cp => true,
            Self::Rsync => is_installed("rsync"),
            Self::Rclone => is_installed("rclone"),
        })
    }

    /// Returns the command that copies what is in a folder into another, as people type it.
    fn command(self, source: &Path, target: &Path) -> Command {
        let from = support::program::contents(source);
        let (name, args): (_, &[&str]) = match self {
            Self::Inhaul => return inhaul(&[&"copy", &from, &target]),
            Self::Cp => {
                let mut command = Command::new("cp");
                command.arg("-a").arg(source.join(".")).arg(target);
                return command;
            }
            Self::Rsync => ("rsync", &["-a"]),
            Self::Rclone => ("rclone", &["copy", "--config=/dev/null"]),
        };
        let mut command = Command::new(name);
        command.args(args).arg(from).arg(target);
        command
    }
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// What a copy left, as the medium has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Left {
    code: i32,
    /// Files that are right.
    right: usize,
    /// Names of files that others are behind, or a part of them.
    wrong: usize,
    missing: usize,
    /// Names that the source does not have.
    unknown: usize,
}

impl Left {
    fn of(code: i32, originals: &Tree, copy: &Path) -> Self {
        let copies = walk(copy);
        let mut left = Self {
            code,
            ..Self::default()
        };
        for (path, original) in originals.iter().filter(|(_, node)| node.kind == "file") {
            match copies.get(path) {
                None => left.missing += 1,
                Some(node) if node.content == original.content => left.right += 1,
                Some(_) => left.wrong += 1,
            }
        }
        let is_unknown = |path: &&Vec<u8>| !originals.contains_key(*path);
        left.unknown = copies.keys().filter(is_unknown).count();
        left
    }
}

/// Shows everybody the same fault; returns what inhaul left.
fn show(fault: &str, scene: impl Fn(Who) -> Left) -> Left {
    let mut ours = Left::default();
    for who in Who::all() {
        let left = scene(who);
        eprintln!("{fault}, {who:?}: {left:?}");
        if who == Who::Inhaul {
            ours = left;
        }
    }
    ours
}

fn run(who: Who, source: &Path, target: &Path) -> Ran {
    Running::start(who.command(source, target)).finish()
}

/// Some files, and one that is called `victim`, of `mib` MiB, last.
fn fill(source: &Path, mib: u64) -> Tree {
    std::fs::create_dir_all(source).unwrap();
    for index in 0..20 {
        tree::paint(
            &source.join(format!("{index:02}")),
            index,
            3_000 + index * 500,
        );
    }
    tree::paint(&source.join("victim"), 99, mib << 20);
    tree::age(source, 1_000_000_000);
    walk(source)
}

#[test]
fn a_bad_spot_in_a_source() {
    let test = "a_bad_spot_in_a_source";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let ours = show("bad spot in a source (S1)", |who| {
        let lab = Lab::new();
        let mut source = Drive::new(&lab.join("source"), Fs::Ext4, 64);
        let originals = fill(&source.join("s"), 4);
        source.remount();
        let at = place(&source.join("s/victim"), 2 << 20);
        source.fail_reads(at..at + 4096);
        let target = lab.dir("target");
        let ran = run(who, &source.join("s"), &target);
        source.heal();
        Left::of(ran.code, &originals, &target)
    });
    let expected = Left {
        code: 3,
        right: 20,
        missing: 1,
        ..Left::default()
    };
    assert_eq!(ours, expected);
}

#[test]
fn a_write_that_fails_on_its_way_to_the_medium() {
    if !can_mount("a_write_that_fails_on_its_way_to_the_medium") {
        return;
    }
    let ours = show("a write-back that fails once (S3)", |who| {
        let lab = Lab::new();
        let source = lab.join("s");
        let originals = fill(&source, 4);
        let mut target = Drive::new(&lab.join("target"), Fs::Ext4, 64);
        let wanted = tree::painted(99, 2 << 20, 4096);
        let mut is_done = false;
        target.judge_writes(move |write| {
            let mut pages = write.data.chunks(4096);
            if is_done || !pages.any(|page| page == wanted) {
                return Fate::Stored;
            }
            is_done = true;
            Fate::Failed
        });
        let dir = target.join("t");
        std::fs::create_dir(&dir).unwrap();
        let ran = run(who, &source, &dir);
        // Later, when the kernel gets to it.
        support::mounts::quietly("sync", &["-f".as_ref(), dir.as_os_str()]);
        target.heal();
        target.remount();
        Left::of(ran.code, &originals, &target.join("t"))
    });
    // Told at once, for it was written past the page cache.
    let expected = Left {
        code: 3,
        right: 20,
        missing: 1,
        ..Left::default()
    };
    assert_eq!(ours, expected, "a file is whole or not there");
}

#[test]
fn a_target_that_is_too_small() {
    if !can_mount("a_target_that_is_too_small") {
        return;
    }
    let ours = show("a target that is too small (S14)", |who| {
        let scratch = Scratch::within(Path::new("/dev/shm"));
        let source = scratch.join("s");
        let originals = fill(&source, 40);
        let target = Mounted::image(&scratch, "target", Fs::Ext4, 32);
        let dir = target.dir("t");
        let ran = run(who, &source, &dir);
        Left::of(ran.code, &originals, &dir)
    });
    let expected = Left {
        code: 6,
        missing: 21,
        ..Left::default()
    };
    assert_eq!(ours, expected, "said before the first byte");
}

#[test]
fn a_target_that_promises_more_than_it_has() {
    if !can_mount("a_target_that_promises_more_than_it_has") {
        return;
    }
    let ours = show("a thin target (S15)", |who| {
        let scratch = Scratch::within(Path::new("/dev/shm"));
        let source = scratch.join("s");
        let originals = fill(&source, 30);
        let medium = Mounted::tmpfs(&scratch, "medium", 24);
        let image = medium.join("image");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(96 << 20)
            .unwrap();
        let point = scratch.join("target");
        let target = Mounted::make(&point, &image, Fs::Ext4, "noatime");
        let dir = target.dir("t");
        let ran = run(who, &source, &dir);
        // What is only in memory is nobody's copy. What the medium has is looked at with room again.
        drop(target);
        let more = [
            "-o".as_ref(),
            "remount,size=200m".as_ref(),
            medium.path().as_os_str(),
        ];
        support::tool("mount", &more);
        match Mounted::open(&point, &image, Fs::Ext4) {
            Ok(target) => Left::of(ran.code, &originals, &target.join("t")),
            Err(told) => {
                eprintln!("{who:?}: it cannot be mounted any more: {told}");
                Left {
                    code: ran.code,
                    missing: files(&originals),
                    ..Left::default()
                }
            }
        }
    });
    assert_ne!(ours.code, 0);
    assert_eq!(ours.wrong, 0);
}

#[test]
fn a_kill_on_the_way() {
    if !can_mount("a_kill_on_the_way") {
        return;
    }
    let ours = show("a kill on the way (C4)", |who| {
        let (left, _) = interrupted(who, |running, _| running.signal(Signal::KILL));
        left
    });
    assert_eq!((ours.code, ours.wrong), (128 + 9, 0));
}

#[test]
fn a_source_that_is_written_to_while_it_is_read() {
    if !can_mount("a_source_that_is_written_to_while_it_is_read") {
        return;
    }
    let ours = show("a source that is written to (I1)", |who| {
        let (left, torn) = interrupted(who, |_, source| {
            let file = std::fs::File::options()
                .write(true)
                .open(source.join("victim"))
                .unwrap();
            tree::paint_at(&file, 7, 0, 16 << 20);
        });
        Left {
            wrong: usize::from(torn),
            ..left
        }
    });
    assert_eq!(ours.wrong, 0, "neither the one nor the other");
}

/// Copies from a slow drive and lets something happen on the way; returns what is left, and whether
/// the victim is neither what it was nor what it is.
fn interrupted(who: Who, happens: impl Fn(&Running, &Path)) -> (Left, bool) {
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("source"), Fs::Ext4, 64);
    let source = drive.join("s");
    let originals = fill(&source, 16);
    drive.remount();
    let middle = place(&source.join("victim"), 4 << 20);
    drive.set_delay(Duration::from_millis(10));
    let target = lab.dir("target");
    let running = Running::start(who.command(&source, &target));
    wait_for("the victim to be read", || {
        let reads = drive.take_reads();
        let is_there = |(at, len): &(u64, u64)| (*at..*at + *len).contains(&middle);
        reads.iter().any(is_there).then_some(())
    });
    happens(&running, &source);
    let ran = running.finish();
    drive.heal();
    let after = walk(&source);
    let copies = walk(&target);
    let victim = b"victim".as_slice();
    let is_torn = copies.get(victim).is_some_and(|copy| {
        let known = [&originals[victim], &after[victim]];
        known.iter().all(|known| known.content != copy.content)
    });
    (Left::of(ran.code, &originals, &target), is_torn)
}

#[test]
fn power_that_goes_when_the_copy_has_ended() {
    if !can_mount("power_that_goes_when_the_copy_has_ended") {
        return;
    }
    let ours = show("a power cut at the end (C2)", |who| {
        let lab = Lab::new();
        let source = lab.join("s");
        let originals = fill(&source, 4);
        let dir = lab.join("target");
        let target = Drive::new(&dir, Fs::Ext4, 64);
        target.set_cache(true);
        let copy = target.join("t");
        std::fs::create_dir(&copy).unwrap();
        support::mounts::quietly("sync", &["-f".as_ref(), copy.as_os_str()]);
        let ran = run(who, &source, &copy);
        let image = lab.join("cut.img");
        let _cut = target.cut_power(Spared::Nothing, &mut Dice::new(1), &image);
        drop(target);
        let target = Drive::with_image(&dir, Fs::Ext4, &image);
        Left::of(ran.code, &originals, &target.join("t"))
    });
    let expected = Left {
        right: 21,
        ..Left::default()
    };
    assert_eq!(ours, expected);
}

#[test]
fn a_link_where_a_file_is_to_be() {
    let scratch = Scratch::new();
    let source = scratch.join("s");
    let originals = fill(&source, 1);
    let ours = show("a link under a file's name (I16)", |who| {
        let [target, elsewhere]: [PathBuf; 2] =
            ["t", "e"].map(|name| scratch.dir(format!("{name}-{who:?}")));
        std::fs::write(elsewhere.join("theirs"), "theirs").unwrap();
        std::os::unix::fs::symlink(elsewhere.join("theirs"), target.join("victim")).unwrap();
        let ran = run(who, &source, &target);
        let theirs = std::fs::read(elsewhere.join("theirs")).unwrap();
        if theirs != b"theirs" {
            eprintln!("{who:?} wrote through the link");
        }
        assert!(who != Who::Inhaul || theirs == b"theirs");
        Left::of(ran.code, &originals, &target)
    });
    assert_eq!((ours.code, ours.right), (3, 20));
}
