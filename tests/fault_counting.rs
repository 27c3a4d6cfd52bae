//! What is counted and listed before anything is copied: a drive that hangs meanwhile holds up nobody,
//! and one that is slow and answers is not taken for one that hangs.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drive::Drive;
use rustix::process::Signal;
use support::judge::same_bytes;
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Running, inhaul, report};
use support::{Scratch, can_mount, tree, wait_for};

/// Files in one folder: their inodes are in 250 blocks.
const FILES: usize = 4000;

/// A drive with XFS, of which every run counts what is on it, and one that is well.
struct Pair {
    // In this order they go.
    sick: Drive,
    well: Drive,
    _lab: Lab,
    scratch: Scratch,
}

impl Pair {
    /// Of the first, nothing but its root is in memory.
    fn new() -> Self {
        let lab = Lab::new();
        let mut sick = Drive::new(&lab.join("sick"), Fs::Xfs, 300);
        tree::many_small(&sick.join("d0/small"), 1, 1000);
        let well = Drive::new(&lab.join("well"), Fs::Ext4, 72);
        std::fs::create_dir(well.join("d1")).unwrap();
        tree::paint(&well.join("d1/large"), 2, 4_000_000);
        sick.remount();
        std::fs::File::open(sick.join("d0")).unwrap();
        Self {
            sick,
            well,
            _lab: lab,
            scratch: Scratch::new(),
        }
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    fn start(&self, options: &[&str]) -> Running {
        let sources = [self.sick.join("d0"), self.well.join("d1")];
        let target = self.target();
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--json", &"--grace", &"0"];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.extend(sources.iter().map(|source| source as &dyn AsRef<OsStr>));
        args.push(&target);
        Running::start(inhaul(&args))
    }
}

#[test]
fn a_drive_that_hangs_while_it_is_counted_is_left_behind() {
    if !can_mount("a_drive_that_hangs_while_it_is_counted_is_left_behind") {
        return;
    }
    let pair = Pair::new();
    pair.sick.hang();
    let healing = pair.sick.healing();
    let running = pair.start(&["--stall-timeout", "1s"]);
    running.until("\"type\":\"summary\"");
    // Whoever counted is held by the kernel until the drive answers.
    drop(healing);
    let ran = running.finish().expect(3);
    let told = ran.out() + &ran.err();
    assert_eq!(told.matches("has not answered for").count(), 1, "{told}");
    let [source, copy] = [pair.well.path(), &pair.target()].map(|top| top.join("d1/large"));
    same_bytes(&source, &copy);
    let report = report(&pair.target());
    let lanes = report["lanes"].as_array().unwrap();
    assert_eq!(lanes[0]["health"], "quarantined", "{report}");
    assert_eq!(lanes[0]["safe_to_release"], false, "{report}");
    assert_eq!(lanes[1]["safe_to_release"], true, "{report}");
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0]["kind"], "source-stalled");
    // Healed, it is gone on with.
    pair.start(&[]).finish().expect(0);
    let copied = |folder: &str| {
        std::fs::read_dir(pair.target().join(folder))
            .unwrap()
            .count()
    };
    assert_eq!((copied("d0/small"), copied("d0/small/003")), (16, 64));
}

#[test]
fn a_stop_is_heard_while_a_drive_hangs_that_is_counted() {
    if !can_mount("a_stop_is_heard_while_a_drive_hangs_that_is_counted") {
        return;
    }
    let pair = Pair::new();
    pair.sick.hang();
    let healing = pair.sick.healing();
    let running = pair.start(&[]);
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    wait_for("the counting", || {
        let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks
            .any(|task| name(task).is_ok_and(|name| name.trim() == "survey-0"))
            .then_some(())
    });
    running.signal(Signal::INT);
    running.until("\"type\":\"summary\"");
    drop(healing);
    running.finish().expect(75);
}

/// Has the kernel read one block of inodes at a time.
fn read_no_inodes_ahead(mount: &Path) {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let point = mount.to_str().unwrap();
    let mut of_it = table
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some(point));
    let device = of_it.next_back().unwrap().split(' ').next().unwrap();
    let name = device.strip_prefix("/dev/").unwrap();
    std::fs::write(format!("/sys/fs/ext4/{name}/inode_readahead_blks"), "0").unwrap();
}

#[test]
fn a_drive_that_is_slow_to_list_and_answers_is_not_given_up() {
    if !can_mount("a_drive_that_is_slow_to_list_and_answers_is_not_given_up") {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 72);
    let source = drive.join("d");
    std::fs::create_dir(&source).unwrap();
    for number in 0..FILES {
        std::fs::File::create(source.join(number.to_string())).unwrap();
    }
    drive.remount();
    read_no_inodes_ahead(drive.path());
    std::fs::File::open(&source).unwrap();
    // All inodes of one batch of names: 10 s, and given up after 7 s of silence.
    drive.set_delay(Duration::from_millis(40));
    let scratch = Scratch::new();
    let target = scratch.join("target");
    let args: [&dyn AsRef<OsStr>; 7] = [
        &"copy",
        &"--grace",
        &"0",
        &"--stall-timeout",
        &"1s",
        &source,
        &target,
    ];
    Running::start(inhaul(&args)).finish().expect(0);
    assert_eq!(std::fs::read_dir(target.join("d")).unwrap().count(), FILES);
    assert_eq!(report(&target)["lanes"][0]["safe_to_release"], true);
}
