//! Targets that are not there, or not what they were: nothing is written in their place.

use crate::pair::Pair;
use crate::support::judge::walk;
use crate::support::mounts::{Fs, Mounted, unmount};
use crate::support::program::{Running, inhaul, report, run};
use crate::support::{can_mount, tool, wait_for};

#[test]
fn a_further_target_that_is_not_mounted_is_not_written_to() {
    if !can_mount("a_further_target_that_is_not_mounted_is_not_written_to") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    pair.copy_killed("acknowledged:6");
    unmount(pair.second.path());
    for resumes in [true, false] {
        let ran = if resumes {
            run(&[&"resume", &pair.first.path()])
        } else {
            pair.copy()
        };
        ran.expect(6).says("another file system is there");
        assert_eq!(pair.second.path().read_dir().unwrap().count(), 0);
    }
    pair.mount_again("second");
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}

#[test]
fn a_first_target_that_is_not_mounted_is_not_written_to() {
    if !can_mount("a_first_target_that_is_not_mounted_is_not_written_to") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    pair.killed_in_the_second();
    unmount(pair.first.path());
    let before = walk(pair.second.path());
    for resumes in [true, false] {
        let mut command = if resumes {
            inhaul(&[&"resume", &pair.second.path()])
        } else {
            inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()])
        };
        // Not even the note of who began it is there.
        command.env("XDG_STATE_HOME", pair.scratch.join("nobody"));
        let ran = Running::start(command).finish().expect(6);
        ran.says("began here and is not here now")
            .says("Mount that drive");
        assert_eq!(pair.first.path().read_dir().unwrap().count(), 0);
    }
    assert!(walk(pair.second.path()).keys().eq(before.keys()));
    pair.mount_again("first");
    run(&[&"resume", &pair.second.path()]).expect(0);
    pair.check();
}

/// Begins a slow copy into both and waits until a target has begun.
fn slow_until(pair: &Pair, target: &Mounted) -> Running {
    let running = Running::start(inhaul(&[
        &"copy",
        &"--bwlimit=30MB",
        &pair.spill(),
        &pair.source,
        &pair.first.path(),
    ]));
    let begun = target.join(".inhaul/current");
    wait_for("a job", || begun.exists().then_some(()));
    running
}

#[test]
fn another_disk_is_mounted_over_a_further_target_before_its_turn() {
    if !can_mount("another_disk_is_mounted_over_a_further_target_before_its_turn") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let running = slow_until(&pair, &pair.first);
    running.signal(rustix::process::Signal::STOP);
    let blank = Mounted::image(&pair.scratch, "other", Fs::Ext4, 160);
    let blank_names = blank.path().read_dir().unwrap().count();
    let over = pair.second.path();
    tool(
        "mount",
        &[
            "--bind".as_ref(),
            blank.path().as_os_str(),
            over.as_os_str(),
        ],
    );
    running.signal(rustix::process::Signal::CONT);
    let ran = running.finish();
    // Nothing was written to what is there now.
    let names = blank.path().read_dir().unwrap().count();
    unmount(over);
    ran.expect(1)
        .says("not the place it was when the copy began");
    assert_eq!(names, blank_names);
    // Who looks into the first finds out.
    let first = report(pair.first.path());
    assert_eq!(first["exit_code"], 1);
    assert_eq!(first["problems"][0]["kind"], "target-lost");
    assert_eq!(first["lanes"][0]["safe_to_release"], false);
    assert!(!pair.second.join(".inhaul").exists());
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}

#[test]
fn a_first_target_that_cannot_be_closed_is_told_of_in_the_others() {
    if !can_mount("a_first_target_that_cannot_be_closed_is_told_of_in_the_others") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let running = slow_until(&pair, &pair.second);
    tool("umount", &["-l".as_ref(), pair.first.path().as_os_str()]);
    running.finish().expect(1).says("not the place it was");
    assert_eq!(pair.first.path().read_dir().unwrap().count(), 0);
    let last = report(pair.second.path());
    assert_eq!(last["exit_code"], 1);
    assert_eq!(last["problems"][0]["kind"], "target-lost");
    assert_eq!(last["lanes"][0]["safe_to_release"], false);
    pair.mount_again("first");
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}
