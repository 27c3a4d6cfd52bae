//! A copy with several targets is gone on with after the process was killed, a target was full, or a
//! drive was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::drive::Drive;
use crate::pair::{FILES, Pair};
use crate::support::judge::{files, walk};
use crate::support::lab::Lab;
use crate::support::mounts::Fs;
use crate::support::program::{Running, contents, inhaul, report, run};
use crate::support::{can_mount, tree, wait_for};

#[test]
fn a_copy_with_several_targets_goes_on_wherever_it_was_killed() {
    if !can_mount("a_copy_with_several_targets_goes_on_wherever_it_was_killed") {
        return;
    }
    // In the run into the first, with names that nobody acknowledged in the end, in the run into
    // the second, and when the first is closed.
    for (point, times) in [
        ("acknowledged", 2),
        ("named-all", 5),
        ("named-all", 7),
        ("acknowledged", 6),
        ("end-recorded", 3),
    ] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        pair.copy_killed(&format!("{point}:{times}"));
        // Not without the other target: what that has would be copied again.
        if times == 6 {
            let ran = run(&[&"copy", &pair.source, &pair.first.path()]).expect(6);
            ran.says("further targets");
        }
        let ran = if times == 2 {
            run(&[&"resume", &pair.first.path()])
        } else {
            pair.copy()
        };
        ran.expect(0);
        pair.check();
    }
}

#[test]
fn a_further_target_can_be_named_when_the_first_is_full() {
    if !can_mount("a_further_target_can_be_named_when_the_first_is_full") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [160, 160]);
    // Somebody else fills the first one while it is copied to.
    let slow = inhaul(&[&"copy", &"--bwlimit=30MB", &pair.source, &pair.first.path()]);
    let running = Running::start(slow);
    let folder = pair.first.join("source/0/0");
    wait_for("a file", || {
        let is_there = folder
            .read_dir()
            .is_ok_and(|mut names| names.next().is_some());
        is_there.then_some(())
    });
    running.signal(rustix::process::Signal::STOP);
    let fill = std::fs::File::create(pair.first.join("fill")).unwrap();
    let (mut len, mut step) = (0, 64 << 20);
    while step >= 4096 {
        let more = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&fill, more, len, step).is_ok() {
            len += step;
        } else {
            step /= 2;
        }
    }
    running.signal(rustix::process::Signal::CONT);
    running.finish().expect(3).says("--spill");
    run(&[&"resume", &pair.spill(), &pair.first.path()]).expect(0);
    pair.check();
    // Found from either end, and finished.
    let again = contents(&pair.source);
    run(&[&"copy", &"-n", &again, &pair.second.path()]);
}

#[test]
fn a_drive_that_hangs_is_left_out_of_all_further_targets() {
    if !can_mount("a_drive_that_hangs_is_left_out_of_all_further_targets") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let lab = Lab::new();
    let mut sick = Drive::new(&lab.join("sick"), Fs::Ext4, 72);
    std::fs::create_dir(sick.join("d")).unwrap();
    tree::paint(&sick.join("d/large"), 1, 24_000_000);
    sick.remount();
    sick.set_delay(Duration::from_millis(10));
    let folder = sick.join("d");
    let mut running = Running::start(inhaul(&[
        &"copy",
        &"--json",
        &"--grace=0",
        &"--stall-timeout=1s",
        &"--bwlimit=30MB",
        &pair.spill(),
        &folder,
        &pair.source,
        &pair.first.path(),
    ]));
    let before = sick.counts().reads;
    wait_for("reads", || {
        (sick.counts().reads >= before + 12).then_some(())
    });
    sick.hang();
    let healing = sick.healing();
    // The kernel lets no thread go before the drive answers; what is to be done is done before.
    running.until("\"type\":\"summary\"");
    drop(healing);
    let ended = running.wait(Duration::from_secs(60));
    assert!(ended.is_some(), "it waits for the drive");
    let ran = running.finish().expect(3);
    let last = report(pair.second.path());
    let problems = last["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0]["kind"], "source-stalled");
    let lanes = last["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2, "{}", ran.err());
    let sick_lane = |lane: &&Value| lane["health"] == "quarantined";
    let sick_lane = lanes.iter().find(sick_lane).unwrap();
    assert_eq!(sick_lane["safe_to_release"], false);
    // All of the other is there, on both; and it is gone on with.
    let there = [&pair.first, &pair.second].map(|target| files(&walk(&target.join("source"))));
    assert_eq!(there.iter().sum::<usize>(), FILES, "{there:?}");
    let spill = pair.spill();
    let again: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&"copy", &spill, &folder, &pair.source, &pair.first.path()];
    run(&again).expect(0);
}

#[test]
fn a_source_that_a_further_target_does_not_know_yet_is_gone_on_with_alone() {
    if !can_mount("a_source_that_a_further_target_does_not_know_yet_is_gone_on_with_alone") {
        return;
    }
    for resumes in [false, true] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        pair.killed_in_the_second();
        // The first learns of another drive, the second does not: it was lost before its turn.
        let late = pair.scratch.dir("late");
        for index in 0..4 {
            tree::paint(&late.join(format!("{index}")), 90 + index, 3_000_000);
        }
        tree::age(&late, 1_000_000_000);
        let mut command = inhaul(&[
            &"copy",
            &pair.spill(),
            &pair.source,
            &late,
            &pair.first.path(),
        ]);
        command.env("INHAUL_TEST_KILL", "journal-created:1");
        Running::start(command).finish().expect(137);

        // It alone is here again, by another name; the first is full, so it goes to the second.
        let (late_now, source_away) = (pair.scratch.join("elsewhere"), pair.scratch.join("away"));
        std::fs::rename(&late, &late_now).unwrap();
        std::fs::rename(&pair.source, &source_away).unwrap();
        if resumes {
            // Nothing is known of where it went but its name.
            std::fs::rename(&late_now, &late).unwrap();
            let ran = run(&[&"resume", &pair.first.path()]).expect(3);
            ran.says("NOT finished");
        } else {
            let ran = run(&[&"copy", &pair.spill(), &late_now, &pair.first.path()]).expect(0);
            ran.says("stays open");
            std::fs::rename(&late_now, &late).unwrap();
        }
        let copies: Vec<_> = [&pair.first, &pair.second]
            .into_iter()
            .flat_map(|target| walk(&target.join("late")))
            .filter(|(_, node)| node.kind == "file")
            .map(|(path, node)| (path, node.content))
            .collect();
        let copies: BTreeMap<_, _> = copies.into_iter().collect();
        let originals = walk(&late).into_iter();
        let originals: BTreeMap<_, _> = originals
            .filter(|(_, node)| node.kind == "file")
            .map(|(path, node)| (path, node.content))
            .collect();
        assert_eq!(copies, originals);
        assert!(!pair.second.join("elsewhere").exists());

        std::fs::rename(&source_away, &pair.source).unwrap();
        run(&[&"resume", &pair.first.path()]).expect(0);
        for target in [&pair.first, &pair.second] {
            run(&[&"verify", &target.path()]).expect(0);
            assert!(!target.join(".inhaul/current").exists());
        }
        let places = pair.places();
        assert_eq!(places.len(), FILES + 4);
    }
}
