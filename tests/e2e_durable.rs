//! Power that goes: what was said to be durable is there, and what has its final name is whole.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::Path;

use rustix::process::Signal;
use support::judge::{Tree, b3sum_agrees, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::odd::{Odd, build};
use support::program::{Running, inhaul, report, run};
use support::{Scratch, can_mount, need_tools, tool, tree, wait_for};

fn ready(test: &str) -> bool {
    can_mount(test) && need_tools(test, &["xfs_io", "setfacl"])
}

/// Fails if a cut would not lose what nobody made durable: then a test would show nothing.
fn check_cut(target: &Mounted, witness: &Path) {
    tool("cp", &[witness, &target.join("witness")]);
    target.cut_power();
    let len = std::fs::metadata(target.join("witness")).map_or(0, |stat| stat.len());
    assert_eq!(len, 0, "a copy that nobody synced survived");
}

#[test]
fn what_code_0_says_survives_a_power_cut() {
    if !ready("what_code_0_says_survives_a_power_cut") {
        return;
    }
    for (fs, io) in [
        (Fs::Ext4, "uring"),
        (Fs::Xfs, "uring"),
        (Fs::Ext4, "blocking"),
    ] {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        build(
            &source,
            Odd {
                seed: 5,
                small: 300,
                sparse_mib: 32,
            },
        );
        let target = Mounted::image(&scratch, "target", fs, 320);
        let place = target.join("new/place");
        std::fs::create_dir(target.join("new")).unwrap();
        run(&[&"copy", &"--io", &io, &source, &place]).expect(0);
        check_cut(&target, &source.join("sizes/1048576"));
        rsync_agrees(&source, &place.join("source"));
        b3sum_agrees(&place, files(&walk(&source)));
        assert_eq!(report(&place)["exit_code"], 0);
        run(&[&"verify", &place]).expect(0);

        // What replaces something is no less durable.
        tree::age(&source, 1_500_000_000);
        run(&[&"copy", &"--existing=overwrite", &source, &place]).expect(0);
        target.cut_power();
        rsync_agrees(&source, &place.join("source"));
    }
}

/// A slow copy onto `target`, at a moment when some files are there.
fn slow_copy(source: &Path, target: &Path) -> Running {
    for index in 0..120 {
        let len = if index % 10 == 0 { 1_300_000 } else { 30_000 };
        tree::paint(&source.join(format!("file{index:03}")), index, len);
    }
    tree::age(source, 1_100_000_000);
    let slow = Running::start(inhaul(&[&"copy", &"--bwlimit=8MB", &source, &target]));
    let copy = target.join("source");
    let count = || std::fs::read_dir(&copy).map_or(0, Iterator::count);
    wait_for("some files", || (count() >= 20).then_some(()));
    slow
}

/// Fails unless every file that has a name is the whole original; returns how many there are.
fn check_named(originals: &Tree, copy: &Path) -> usize {
    let copies = walk(copy);
    for (path, node) in &copies {
        assert_eq!(Some(node), originals.get(path), "{}", path.escape_ascii());
    }
    copies.len()
}

#[test]
fn what_a_stopped_run_recorded_survives_a_power_cut() {
    if !ready("what_a_stopped_run_recorded_survives_a_power_cut") {
        return;
    }
    for fs in [Fs::Ext4, Fs::Xfs] {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        let target = Mounted::image(&scratch, "target", fs, 320);
        let slow = slow_copy(&source, target.path());
        slow.signal(Signal::TERM);
        slow.finish().expect(75);
        check_cut(&target, &source.join("file010"));
        std::fs::remove_file(target.join("witness")).unwrap_or_default();
        let there = check_named(&walk(&source), &target.join("source"));
        assert!((20..120).contains(&there), "{there} files");
        b3sum_agrees(target.path(), there);
        // The same command goes on: nothing that is there is read again, or in its way.
        run(&[&"copy", &source, &target.path()]).expect(0);
        rsync_agrees(&source, &target.join("source"));
        let report = report(target.path());
        assert_eq!(report["totals"]["kept"], there);
        assert_eq!(report["totals"]["files"], 120 - there);
        b3sum_agrees(target.path(), 120);
    }
}

#[test]
fn a_killed_run_leaves_no_name_on_half_a_file() {
    if !ready("a_killed_run_leaves_no_name_on_half_a_file") {
        return;
    }
    for (fs, power_too) in [
        (Fs::Ext4, true),
        (Fs::Xfs, true),
        (Fs::Ext4, false),
        (Fs::Btrfs, false),
    ] {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        let target = Mounted::image(&scratch, "target", fs, 320);
        let slow = slow_copy(&source, target.path());
        slow.signal(Signal::KILL);
        slow.finish().expect(128 + 9);
        if power_too {
            target.cut_power();
        }
        let copy = target.join("source");
        if copy.exists() {
            check_named(&walk(&source), &copy);
        }
        run(&[&"copy", &source, &target.path()]).expect(0);
        rsync_agrees(&source, &copy);
        b3sum_agrees(target.path(), 120);
        for job in std::fs::read_dir(target.join(".inhaul")).unwrap() {
            assert!(
                !job.unwrap().path().join("stage").exists(),
                "what was staged is still there"
            );
        }
        // It is finished, so the next run is a new job, and refuses what is there.
        assert!(!target.join(".inhaul/current").is_symlink());
        run(&[&"copy", &source, &target.path()]).expect(3);
        rsync_agrees(&source, &copy);
    }
}
