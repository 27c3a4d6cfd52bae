//! What does not pass for a source that was left out: images of it, and other sources of its job.

use std::path::Path;

use crate::bench::{Two, image_of, with};
use crate::drive::Drive;
use crate::support::judge::same_bytes;
use crate::support::mounts::Fs;
use crate::support::program::contents;
use crate::support::{can_mount, tree};

#[test]
fn an_image_of_a_left_out_drive_does_not_pass_for_it() {
    if !can_mount("an_image_of_a_left_out_drive_does_not_pass_for_it") {
        return;
    }
    for has_third in [true, false] {
        let mut two = Two::new();
        let clone = image_of(&mut two.sick, &two.lab, "b", "clone");
        let mut third = Drive::new(&two.lab.join("c"), Fs::Ext4, 72);
        std::fs::create_dir(third.join("c")).unwrap();
        tree::paint(&third.join("c/c.mov"), 1, 100_000);
        let c = third.join("c");
        two.die();
        third.remount();
        let (a, b, target) = (two.a(), two.b(), two.target());
        if has_third {
            third.die();
            with(&[&"copy", &a, &b, &c, &target], 3);
        } else {
            with(&[&"copy", &a, &b, &target], 3);
        }
        let stays = "some sources of the unfinished job are not given here; it stays open for them";
        with(&[&"copy", &a, &contents(clone.path()), &target], 0).says(stays);
        assert!(!two.is_finished());
        same_bytes(&clone.join("b/b.mov"), &target.join("b/b.mov"));
        third.heal();
        let typed = Path::new(&b).display().to_string();
        let failed = format!("{typed}: its drive failed when it was looked at");
        two.resume(3)
            .says(&failed)
            .says("the job is NOT finished: 1 source was not here");
        assert!(!two.is_finished());
        // Nor when it is gone: the job has the other as a source of its own.
        two.sick.heal();
        two.sick.unmount();
        two.resume(3).says("is not mounted there now");
        assert!(!two.is_finished());
        with(&[&"copy", &a, &contents(clone.path()), &target], 0)
            .says(stays)
            .says("if it is it, mount it there and give it so");
        assert!(!two.is_finished());
    }
}

#[test]
fn an_image_that_a_job_has_does_not_pass_for_what_was_left_out_with_it() {
    if !can_mount("an_image_that_a_job_has_does_not_pass_for_what_was_left_out_with_it") {
        return;
    }
    let mut two = Two::new();
    let mut twin = image_of(&mut two.well, &two.lab, "a", "twin");
    rustix::fs::rename(twin.join("a"), twin.join("twin")).unwrap();
    std::fs::remove_dir(twin.join("lost+found")).unwrap();
    twin.remount();
    twin.die();
    let (a, b) = (contents(two.well.path()), contents(twin.path()));
    let target = two.target();
    with(&[&"copy", &a, &b, &target], 3);
    twin.heal();
    twin.unmount();
    two.resume(3).says("is not mounted there now");
    assert!(!two.is_finished());
    with(&[&"copy", &a, &target], 0).says("it stays open for them");
    assert!(!two.is_finished());
    // Not even at its place.
    two.well.unmount();
    two.well.mount_at(twin.path());
    two.resume(3)
        .says("another source of this job is there now");
    with(&[&"copy", &b, &target], 0).says("it stays open for them");
    assert!(!two.is_finished());
    two.well.unmount();
    two.well.mount();
    twin.mount();
    with(&[&"copy", &a, &b, &target], 0);
    assert!(two.is_finished());
    same_bytes(&twin.join("twin/a.mov"), &target.join("twin/a.mov"));
}

#[test]
fn an_image_of_which_a_job_has_a_part_does_not_pass_for_what_was_left_out_with_it() {
    if !can_mount("an_image_of_which_a_job_has_a_part_does_not_pass_for_what_was_left_out_with_it")
    {
        return;
    }
    let mut two = Two::new();
    let clone = image_of(&mut two.sick, &two.lab, "b", "clone");
    std::fs::create_dir(clone.join("b/part")).unwrap();
    tree::paint(&clone.join("b/part/p.mov"), 1, 100_000);
    two.die();
    let (part, b, target) = (clone.join("b/part"), two.b(), two.target());
    with(&[&"copy", &part, &b, &target], 3);
    two.sick.heal();
    two.sick.unmount();
    with(&[&"copy", &part, &contents(clone.path()), &target], 0).says("it stays open for them");
    assert!(!two.is_finished());
}

#[test]
fn another_source_of_the_job_does_not_pass_for_what_was_left_out_where_it_is() {
    if !can_mount("another_source_of_the_job_does_not_pass_for_what_was_left_out_where_it_is") {
        return;
    }
    let mut two = Two::new();
    let (a, b, target) = (contents(two.well.path()), two.b(), two.target());
    two.die();
    with(&[&"copy", &a, &b, &target], 3);
    two.sick.heal();
    two.sick.unmount();
    two.well.unmount();
    two.well.mount_at(two.sick.path());
    with(&[&"copy", &b, &target], 0).says("it stays open for them");
    assert!(!two.is_finished());
    two.resume(3).says("another file system is mounted");
    assert!(!two.is_finished() && !two.has_b());
}

#[test]
fn what_was_left_out_where_another_source_was_before_is_owed() {
    if !can_mount("what_was_left_out_where_another_source_was_before_is_owed") {
        return;
    }
    let mut two = Two::new();
    let make = |name: &str| {
        let drive = Drive::new(&two.lab.join(name), Fs::Ext4, 72);
        std::fs::create_dir(drive.join(name)).unwrap();
        tree::paint(&drive.join(name).join("file"), 1, 100_000);
        drive
    };
    let (mut third, mut other) = (make("c"), make("other"));
    let (a, b, c, target) = (two.a(), two.b(), third.join("c"), two.target());
    let copy = |code: i32| with(&[&"copy", &a, &b, &c, &target], code);
    third.remount();
    third.die();
    copy(3);
    third.heal();
    third.remount();
    two.sick.unmount();
    other.unmount();
    other.mount_at(two.sick.path());
    other.die();
    copy(3);
    other.heal();
    other.unmount();
    two.sick.mount();
    copy(0).says("it stays open for them");
    assert!(!two.is_finished());
    two.resume(3).says("another file system is mounted");
    assert!(!two.is_finished());
}

#[test]
fn what_is_left_out_by_another_path_than_it_is_recorded_by_is_told_of() {
    if !can_mount("what_is_left_out_by_another_path_than_it_is_recorded_by_is_told_of") {
        return;
    }
    let mut two = Two::new();
    let mut third = Drive::new(&two.lab.join("c"), Fs::Ext4, 72);
    std::fs::create_dir(third.join("c")).unwrap();
    third.remount();
    third.die();
    let (a, b, c, target) = (two.a(), two.b(), third.join("c"), two.target());
    with(&[&"copy", &a, &b, &c, &target], 3);
    let elsewhere = two.lab.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let given = contents(&elsewhere);
    two.sick.unmount();
    two.sick.mount_at(&elsewhere);
    two.sick.die();
    with(&[&"copy", &a, &given, &target], 3);
    two.sick.heal();
    two.sick.unmount();
    two.sick.mount_at(&elsewhere);
    // No serial number tells that it is no image of it.
    let what = "to be sure of what is there, copy it into another target";
    with(&[&"copy", &a, &given, &target], 0)
        .says(what)
        .says("it stays open for them");
    third.heal();
    third.remount();
    two.resume(3).says(what);
    assert!(!two.is_finished());
}
