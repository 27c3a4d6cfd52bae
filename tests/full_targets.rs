//! Targets that are full in other ways than by bytes, or say so late: the run stops in order, says
//! what to do, leaves nothing partial under a final name, and the same command completes the copy
//! once there is room.
//!
//! (Bytes that run out on the way are in `e2e_faults`.)

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, contents, inhaul, listed, report, run, under};
use support::{Scratch, can_mount, need_tools, tool, tree, wait_for};

/// Files of a source: two sizes above what is read in one piece, and small ones.
const FILES: usize = 30;

fn fill_source(source: &Path) {
    for index in 0..FILES as u64 {
        let len = if index % 3 == 0 { 3_000_000 } else { 300_000 };
        tree::paint(&source.join(format!("file{index:02}")), index, len);
    }
    tree::age(source, 1_000_000_000);
}

/// Fails unless every file of the copy is the one in the source; returns how many there are.
#[track_caller]
fn check_whole(source: &Path, copy: &Path) -> usize {
    let (originals, copies) = (walk(source), walk(copy));
    for (path, node) in copies.iter().filter(|(_, node)| node.kind == "file") {
        let original = originals.get(path).map(|node| &node.content);
        assert_eq!(original, Some(&node.content), "{}", path.escape_ascii());
    }
    files(&copies)
}

/// Makes an image with ext4 by these arguments of mkfs.ext4, and mounts it.
fn ext4(scratch: &Scratch, name: &str, mib: u64, args: &[&str]) -> Mounted {
    let image = scratch.join(format!("{name}.img"));
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let image_arg = image.to_str().unwrap();
    tool("mkfs.ext4", &[&["-q", "-F"], args, &[image_arg]].concat());
    Mounted::again(scratch, name, Fs::Ext4, &image)
}

/// Starts a copy that takes a while, and waits until some of it is there.
fn slow_copy(source: &Path, target: &Path) -> Running {
    let running = Running::start(inhaul(&[&"copy", &"--bwlimit=15MB", &source, &target]));
    let copy = target.join("source");
    wait_for("two files", || {
        let count = std::fs::read_dir(&copy).map_or(0, Iterator::count);
        (count >= 2).then_some(())
    });
    running
}

/// Fails unless a run ended because its target is full, and says so once.
#[track_caller]
fn check_full(ran: Ran, source: &Path, target: &Path) -> usize {
    let ran = ran.expect(3).says("make room").says("STOPPED");
    let line = format!("target-full {}", target.display());
    let report = report(target);
    assert_eq!(listed(&report, "problems"), [line], "{}", ran.err());
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    let there = check_whole(source, &target.join("source"));
    assert!((1..FILES).contains(&there), "{there} files");
    b3sum_agrees(target, there);
    there
}

#[track_caller]
fn check_goes_on(source: &Path, target: &Path) {
    run(&[&"copy", &source, &target]).expect(0);
    rsync_agrees(source, &target.join("source"));
    b3sum_agrees(target, FILES);
}

#[test]
fn without_inodes() {
    let test = "without_inodes";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = ext4(&scratch, "target", 128, &["-N", "256"]);
    let running = slow_copy(&source, target.path());
    running.signal(rustix::process::Signal::STOP);
    let others = target.dir("others");
    let taken: Vec<PathBuf> = (0..256)
        .map(|number| others.join(format!("{number}")))
        .take_while(|path| File::create(path).is_ok())
        .collect();
    running.signal(rustix::process::Signal::CONT);
    let ran = running.finish().says("inodes are free");
    check_full(ran, &source, target.path());

    for path in &taken {
        std::fs::remove_file(path).unwrap();
    }
    check_goes_on(&source, target.path());
    // Too few from the beginning: nothing is begun.
    let small = ext4(&scratch, "small", 128, &["-N", "128"]);
    for number in 0.. {
        if rustix::fs::statvfs(small.path()).unwrap().f_favail <= 20 {
            break;
        }
        File::create(small.join(format!("other{number}"))).unwrap();
    }
    let ran = run(&[&"copy", &source, &small.path()]).expect(6);
    ran.says("and 20 inodes").says("kept: nothing was written");
    assert!(!small.join("source").exists());
}

#[test]
fn without_quota() {
    let test = "without_quota";
    if !can_mount(test) || !need_tools(test, &["btrfs"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Btrfs, 256);
    let path = target.path().to_str().unwrap();
    tool("btrfs", &["quota", "enable", path]);
    tool("btrfs", &["qgroup", "limit", "24M", path]);
    let ran = run(&[&"copy", &source, &target.path()]).says("os error 122");
    check_full(ran, &source, target.path());

    tool("btrfs", &["qgroup", "limit", "none", path]);
    check_goes_on(&source, target.path());
}

#[test]
fn where_only_the_sync_says_that_there_is_no_room() {
    let test = "where_only_the_sync_says_that_there_is_no_room";
    if !can_mount(test) {
        return;
    }
    // Large files are told at once, past the cache; small ones only when they are synced.
    for (fs, is_small) in [
        (Fs::Ext4, false),
        (Fs::Ext4, true),
        (Fs::Xfs, false),
        (Fs::Xfs, true),
    ] {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        if is_small {
            for index in 0..FILES as u64 {
                tree::paint(&source.join(format!("file{index:02}")), index, 1_000_000);
            }
            tree::age(&source, 1_000_000_000);
        } else {
            fill_source(&source);
        }
        // The file system believes its medium to be large; the medium has less.
        let medium = Mounted::tmpfs(&scratch, "medium", if fs == Fs::Xfs { 100 } else { 40 });
        let image = medium.join("image");
        let mib = if fs == Fs::Xfs { 320 } else { 200 };
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let target = Mounted::make(&scratch.join("target"), &image, fs, "noatime");
        // What XFS itself takes is not the same everywhere: leave 20 MiB.
        let leave = 20 << 20;
        let ballast = File::create(medium.join("ballast")).unwrap();
        let len = medium.free().saturating_sub(leave);
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, len.max(1))
            .unwrap();
        let ran = run(&[&"copy", &source, &target.path()]);
        let text = ran.out() + &ran.err();
        // With 1, not even the records could be written.
        assert!([1, 3].contains(&ran.code), "{fs:?}: {}: {text}", ran.code);
        // So, or by an error when the file system gave up before the records were written.
        let is_told = text.contains("STOPPED") || text.contains("error: ");
        assert!(is_told, "{fs:?}: {text}");
        // Some file systems only say that the medium gave an error.
        let words = ["make room there", "has no more room"];
        assert!(words.iter().any(|it| text.contains(it)), "{fs:?}: {text}");
        check_whole(&source, &target.join("source"));

        // The medium grows; the file system may have given up, and is mounted again.
        std::fs::remove_file(medium.join("ballast")).unwrap();
        let grow = ["-o", "remount,size=400m"].map(AsRef::as_ref);
        tool("mount", &[&grow[..], &[medium.path().as_os_str()]].concat());
        drop(target);
        let target = Mounted::open(&scratch.join("target"), &image, fs).unwrap();
        check_goes_on(&source, target.path());
        drop((target, medium));
    }
}

#[test]
fn files_that_are_larger_than_the_file_system_allows() {
    let test = "files_that_are_larger_than_the_file_system_allows";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    // Without extents and with blocks of 1 KiB, a file ends at 16 GiB.
    let target = ext4(
        &scratch,
        "target",
        128,
        &["-b", "1024", "-O", "^extent,^64bit,^metadata_csum"],
    );
    let long = File::create(source.join("long")).unwrap();
    long.set_len(20 << 30).unwrap();
    long.write_all_at(b"end", (20 << 30) - 3).unwrap();
    let ran = run(&[&"copy", &source, &target.path()]).expect(3);
    let ran = ran.says("larger than the target's file system");
    let line = format!("target-write {}/long", source.display());
    assert_eq!(
        listed(&report(target.path()), "problems"),
        [line],
        "{}",
        ran.err()
    );
    std::fs::remove_file(source.join("long")).unwrap();
    assert_eq!(check_whole(&source, &target.join("source")), FILES);
    check_goes_on(&source, target.path());
}

#[test]
fn a_limit_of_file_size_does_not_end_the_process() {
    let test = "a_limit_of_file_size_does_not_end_the_process";
    if !can_mount(test) || !need_tools(test, &["prlimit"]) {
        return;
    }
    for io in ["uring", "blocking"] {
        for fs in [Fs::Ext4, Fs::Btrfs] {
            let scratch = Scratch::new();
            let source = scratch.dir("source");
            fill_source(&source);
            let target = Mounted::image(&scratch, "target", fs, 192);
            let command = inhaul(&[&"copy", &"--io", &io, &source, &target.path()]);
            let limited: Command = under(&["prlimit", "--fsize=2000000"], &command);
            let ran = Running::start(limited).finish().expect(3);
            let ran = ran.says("'ulimit -f'");
            let problems = listed(&report(target.path()), "problems");
            assert_eq!(problems.len(), 10, "{fs:?} {io}: {}", ran.err());
            assert!(
                problems
                    .iter()
                    .all(|line| line.starts_with("target-write "))
            );
            assert_eq!(check_whole(&source, &target.join("source")), 20);
            check_goes_on(&source, target.path());
        }
    }
}

#[test]
fn room_for_records_counts_before_anything_is_written() {
    let test = "room_for_records_counts_before_anything_is_written";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 32);
    let free = target.free();
    // The bytes would fit, but nothing could be written about them.
    tree::paint(&source.join("file"), 1, free - (512 << 10));
    let ran = run(&[&"copy", &contents(&source), &target.path()]).expect(6);
    ran.says("records").says("kept: nothing was written");
    assert!(!target.join(".inhaul").exists());
    std::fs::remove_file(source.join("file")).unwrap();
    tree::paint(&source.join("file"), 1, free - (4 << 20));
    run(&[&"copy", &contents(&source), &target.path()]).expect(0);
    b3sum_agrees(target.path(), 1);
}
