//! How sources that were left out come back, and that their job is open until then.

use serde_json::Value;

use crate::bench::{Two, image_of, with};
use crate::drive::Drive;
use crate::support::judge::same_bytes;
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, contents, inhaul, report};
use crate::support::{can_mount, tree};

#[test]
fn the_empty_folder_of_a_source_that_was_left_out_does_not_pass_for_it() {
    if !can_mount("the_empty_folder_of_a_source_that_was_left_out_does_not_pass_for_it") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    let a = Value::String(two.a().display().to_string());
    assert_eq!(two.verdict(), (a.clone(), Value::Bool(true)));
    two.sick.heal();
    two.sick.unmount();
    two.resume(3)
        .says("is not mounted there now")
        .says("the job is NOT finished: 1 source was not here");
    // A loop device has no serial number: nothing tells any more that they are two drives.
    assert_eq!(two.verdict(), (a, Value::Bool(false)));
    assert!(!two.has_b() && !two.is_finished());
    two.copy(6).says("is not mounted there now");
    assert!(!two.is_finished());
    // Without it the job stays open for it.
    with(&[&"copy", &two.a(), &two.target()], 0).says("it stays open for them");
    assert!(!two.is_finished());
    // Another file system has its place.
    let mut other = Drive::new(&two.lab.join("other"), Fs::Ext4, 72);
    std::fs::create_dir(other.join("b")).unwrap();
    other.unmount();
    other.mount_at(two.sick.path());
    two.resume(3).says("another file system is mounted");
    two.copy(6).says("another file system is mounted");
    assert!(!two.has_b() && !two.is_finished());
    drop(other);
    // It is back, by another device maybe.
    two.sick.mount();
    two.resume(0);
    same_bytes(&two.sick.join("b/b.mov"), &two.target().join("b/b.mov"));
    assert!(two.is_finished());
}

#[test]
fn a_copy_that_is_given_again_takes_a_source_that_is_back() {
    if !can_mount("a_copy_that_is_given_again_takes_a_source_that_is_back") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.copy(3);
    assert!(!two.is_finished());
    two.sick.heal();
    two.sick.remount();
    two.copy(0);
    assert!(two.has_b() && two.is_finished());
}

#[test]
fn a_source_that_is_given_by_another_path_is_missing_no_more() {
    if !can_mount("a_source_that_is_given_by_another_path_is_missing_no_more") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.sick.heal();
    two.sick.unmount();
    let elsewhere = two.lab.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    two.sick.mount_at(&elsewhere);
    // Its own folder on the same drive is not all of it.
    let b = elsewhere.join("b");
    with(&[&"copy", &two.a(), &b, &two.target()], 0).says("it stays open for them");
    assert!(!two.is_finished());
    two.sick.unmount();
    two.sick.mount();
    let target = two.scratch.join("again");
    two.die();
    with(&[&"copy", &two.a(), &two.b(), &target], 3);
    two.sick.heal();
    two.sick.unmount();
    two.sick.mount_at(&elsewhere);
    with(&[&"copy", &two.a(), &contents(&elsewhere), &target], 0);
    assert!(std::fs::symlink_metadata(target.join(".inhaul/current")).is_err());
    same_bytes(&elsewhere.join("b/b.mov"), &target.join("b/b.mov"));
}

#[test]
fn a_job_is_not_finished_while_a_source_is_missing() {
    if !can_mount("a_job_is_not_finished_while_a_source_is_missing") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    for _ in 0..2 {
        let ran = two.resume(3);
        let ran = ran.says("the job is NOT finished: 1 source was not here");
        drop(ran.says("its drive failed when it was looked at"));
        assert_eq!(report(&two.target())["exit_code"], 3);
        assert!(!two.is_finished());
    }
    // One that hangs keeps nobody from beginning.
    two.sick.heal();
    two.sick.remount();
    two.sick.hang();
    let healing = two.sick.healing();
    let running = Running::start(inhaul(&[
        &"resume",
        &"--json",
        &"--stall-timeout=1s",
        &two.target(),
    ]));
    running.until("\"type\":\"summary\"");
    drop(healing);
    running.finish().expect(3).says("no answer for 1 s");
    assert!(!two.is_finished());
    two.resume(0);
    assert!(two.has_b() && two.is_finished());
}

#[test]
fn a_target_that_owes_a_source_is_not_closed_by_a_run_that_goes_on_in_another() {
    if !can_mount("a_target_that_owes_a_source_is_not_closed_by_a_run_that_goes_on_in_another") {
        return;
    }
    let mut two = Two::new();
    let first = Mounted::image(&two.scratch, "first", Fs::Ext4, 40);
    let (second, a, b) = (two.scratch.join("second"), two.a(), two.b());
    let target = first.path();
    let is_open = || std::fs::symlink_metadata(target.join(".inhaul/current")).is_ok();
    two.die();
    with(&[&"copy", &a, &b, &target, &"--spill", &second], 3);
    assert!(is_open() && !second.exists());
    for number in 0..9_u8 {
        tree::paint(&a.join(number.to_string()), number.into(), 5_000_000);
    }
    with(&[&"copy", &a, &target, &"--spill", &second], 0);
    assert!(second.join("a").exists(), "the first was full");
    assert!(is_open(), "it owes the other drive");
    two.sick.heal();
    two.sick.unmount();
    two.sick.mount();
    with(&[&"copy", &a, &b, &target, &"--spill", &second], 0);
    assert!(!is_open());
    let copied = [target, &second].map(|target| target.join("b/b.mov"));
    assert_eq!(copied.iter().filter(|file| file.exists()).count(), 1);
}

#[test]
fn what_nothing_tells_from_a_left_out_source_is_taken_only_when_it_is_given() {
    if !can_mount("what_nothing_tells_from_a_left_out_source_is_taken_only_when_it_is_given") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.forget_uuid();
    two.sick.heal();
    two.sick.remount();
    let point = two.sick.path().display();
    let untold = format!("nothing tells whether the ext4 at {point} is what was there then");
    two.resume(3)
        .says(&untold)
        .says("if it is it, give the copy command again");
    assert!(!two.has_b() && !two.is_finished());
    two.copy(0).says(&untold);
    assert!(two.has_b() && two.is_finished());
}

#[test]
fn what_became_a_source_of_its_own_is_taken_where_it_was_left_out() {
    if !can_mount("what_became_a_source_of_its_own_is_taken_where_it_was_left_out") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.forget_uuid();
    two.sick.heal();
    two.sick.unmount();
    let elsewhere = two.lab.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    two.sick.mount_at(&elsewhere);
    with(
        &[&"copy", &two.a(), &contents(&elsewhere), &two.target()],
        0,
    )
    .says("it stays open for them");
    assert!(!two.is_finished());
    two.sick.unmount();
    two.sick.mount();
    two.resume(3)
        .says("if it is it, give the copy command again");
    two.copy(0)
        .says("what was there then; it is taken for it, as it is given");
    assert!(two.is_finished());
}

#[test]
fn what_was_given_beside_a_rival_is_taken_where_it_was_left_out() {
    if !can_mount("what_was_given_beside_a_rival_is_taken_where_it_was_left_out") {
        return;
    }
    let mut two = Two::new();
    let mut back = image_of(&mut two.sick, &two.lab, "b", "back");
    let mut third = Drive::new(&two.lab.join("c"), Fs::Ext4, 72);
    std::fs::create_dir(third.join("c")).unwrap();
    third.remount();
    third.die();
    two.die();
    two.copy(3);
    let (a, b, c, target) = (two.a(), two.b(), third.join("c"), two.target());
    // What is left out now is written down, and what is given with it.
    with(&[&"copy", &a, &contents(back.path()), &c, &target], 3);
    two.sick.heal();
    third.heal();
    third.remount();
    two.sick.unmount();
    back.unmount();
    back.mount_at(two.sick.path());
    with(&[&"copy", &a, &b, &c, &target], 0);
    assert!(two.is_finished());
}

#[test]
fn each_of_two_that_were_left_out_at_one_path_is_owed() {
    if !can_mount("each_of_two_that_were_left_out_at_one_path_is_owed") {
        return;
    }
    for is_moved in [false, true] {
        let mut two = Two::new();
        let mut other = Drive::new(&two.lab.join("other"), Fs::Ext4, 72);
        std::fs::create_dir(other.join("other")).unwrap();
        tree::paint(&other.join("other/file"), 1, 100_000);
        std::fs::remove_dir(other.join("lost+found")).unwrap();
        two.die();
        two.copy(3);
        two.sick.heal();
        two.sick.unmount();
        other.unmount();
        other.mount_at(two.sick.path());
        other.die();
        two.copy(3);
        other.heal();
        other.unmount();
        let target = two.target();
        if is_moved {
            let elsewhere = two.lab.join("elsewhere");
            std::fs::create_dir(&elsewhere).unwrap();
            two.sick.mount_at(&elsewhere);
            with(&[&"copy", &two.a(), &contents(&elsewhere), &target], 0)
                .says("it stays open for them");
        } else {
            two.sick.mount();
            two.copy(0).says("it stays open for them");
        }
        assert!(two.has_b() && !two.is_finished());
        let why = ["another file system is mounted", "is not mounted there now"];
        two.resume(3).says(why[usize::from(is_moved)]);
        assert!(!two.is_finished());
        let elsewhere = two.lab.join("elsewhere");
        if !is_moved {
            std::fs::create_dir(&elsewhere).unwrap();
            two.sick.unmount();
            two.sick.mount_at(&elsewhere);
        }
        other.mount_at(two.sick.path());
        let moved = contents(&elsewhere);
        with(&[&"copy", &two.a(), &moved, &two.b(), &target], 0);
        same_bytes(&two.sick.join("other/file"), &target.join("other/file"));
        assert!(two.is_finished());
    }
}
