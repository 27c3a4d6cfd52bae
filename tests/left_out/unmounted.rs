//! A drive that went on the way leaves the folder that it was mounted at: that is no source.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Two, with};
use crate::drive::{Drive, Fate};
use crate::support::judge::{same_bytes, walk};
use crate::support::lab::Lab;
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, contents, inhaul, killed_at};
use crate::support::{Scratch, can_mount, tree, wait_for};

const LARGE: u64 = 24_000_000;

/// The files of a job's folder that say what was asked for, and all names in the private folder.
fn records(target: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let home = target.join(".inhaul");
    let entries = std::fs::read_dir(&home).unwrap();
    let entries = entries.map(|entry| {
        let path = entry.unwrap().path();
        let recipe = std::fs::read(path.join("job.json")).ok();
        (path, recipe)
    });
    entries.collect()
}

/// Two drives; the sick one has something large, too.
fn two() -> Two {
    let mut two = Two::new();
    tree::paint(&two.sick.join("b/large"), 7, LARGE);
    two.sick.remount();
    two
}

/// Runs a copy; the sick drive dies while it is read, and is unmounted.
fn dies_on_the_way(two: &mut Two, args: &[&dyn AsRef<OsStr>]) {
    two.sick.set_delay(Duration::from_millis(20));
    let quick: [&dyn AsRef<OsStr>; 3] = [&"copy", &"--grace=0", &"--stall-timeout=2s"];
    let before = two.sick.counts().reads;
    let running = Running::start(inhaul(&[&quick, args].concat()));
    wait_for("reads", || {
        (two.sick.counts().reads >= before + 12).then_some(())
    });
    two.sick.die();
    running.finish().expect(3);
    two.sick.heal();
    two.sick.unmount();
}

fn copy(args: &[&dyn AsRef<OsStr>], code: i32) -> Ran {
    let copy: [&dyn AsRef<OsStr>; 1] = [&"copy"];
    with(&[&copy, args].concat(), code)
}

fn is_open(target: &Path) -> bool {
    target.join(".inhaul/current").is_symlink()
}

#[test]
fn the_empty_folder_of_a_source_that_went_on_the_way_does_not_pass_for_it() {
    if !can_mount("the_empty_folder_of_a_source_that_went_on_the_way_does_not_pass_for_it") {
        return;
    }
    let mut two = two();
    let folder = two.sick.path().to_owned();
    for (number, (is_folder, has_two, skips)) in [
        (true, false, false),
        (false, false, false),
        (true, true, false),
        (false, true, false),
        (true, true, true),
        (false, true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let target = two.scratch.join(format!("target{number}"));
        let sick = if is_folder {
            folder.clone().into_os_string()
        } else {
            contents(&folder)
        };
        let a = two.a();
        let mut args: Vec<&dyn AsRef<OsStr>> = Vec::new();
        if skips {
            args.push(&"--existing=skip");
        }
        if has_two {
            args.push(&a);
        }
        args.extend([&sick as &dyn AsRef<OsStr>, &target]);
        two.sick.remount();
        dies_on_the_way(&mut two, &args);
        let before = (walk(&target), records(&target));
        for _ in 0..2 {
            copy(&args, 6).says("is not mounted there now");
        }
        assert!((walk(&target), records(&target)) == before, "{number}");
        if has_two {
            copy(&[&a, &target], 0).says("it stays open for them");
            assert!(is_open(&target), "{number}");
        }
        two.sick.mount();
        copy(&args, 0);
        assert!(!is_open(&target), "{number}");
        let top = if is_folder { "mounted/b" } else { "b" };
        for name in ["b.mov", "large"] {
            let there = two.sick.join("b").join(name);
            same_bytes(&there, &target.join(top).join(name));
        }
    }
}

#[test]
fn what_is_not_mounted_is_known_by_each_path_and_job_that_had_it() {
    if !can_mount("what_is_not_mounted_is_known_by_each_path_and_job_that_had_it") {
        return;
    }
    let mut two = two();
    let (a, b, target) = (two.a(), two.b(), two.target());
    dies_on_the_way(&mut two, &[&b, &target]);
    // With other options, in another form, by a link, beside a job that was begun since.
    let why = "is not mounted there now";
    copy(&[&"--exclude=x", &b, &target], 6).says(why);
    copy(&[&two.sick.path(), &target], 6).says(why);
    let link = two.scratch.join("link");
    std::os::unix::fs::symlink(two.sick.path(), &link).unwrap();
    copy(&[&contents(&link), &target], 6).says(why);
    copy(&[&a, &target], 0);
    copy(&[&a, &b, &target], 6).says(why);
    // Another drive is mounted there: that is another source, and another job.
    let mut other = Drive::new(&two.lab.join("other"), Fs::Ext4, 72);
    tree::paint(&other.join("other"), 1, 100_000);
    std::fs::remove_dir(other.join("lost+found")).unwrap();
    other.unmount();
    other.mount_at(two.sick.path());
    copy(&[&b, &target], 0).says("is not finished and stays so");
    assert!(target.join("other").exists());
    drop(other);
    // Where it is mounted now it is known as well, and that is one more place of it.
    let elsewhere = two.lab.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let moved = contents(&elsewhere);
    two.sick.mount_at(&elsewhere);
    dies_on_the_way(&mut two, &[&moved, &target]);
    copy(&[&moved, &target], 6).says(why);
    copy(&[&b, &target], 6).says(why);
    two.sick.mount();
    with(&[&"resume", &target], 0);
    same_bytes(&two.sick.join("b/large"), &target.join("b/large"));
}

#[test]
fn the_empty_folder_of_a_source_that_was_left_out_does_not_pass_for_it() {
    if !can_mount("the_empty_folder_of_a_source_that_was_left_out_does_not_pass_for_it") {
        return;
    }
    let mut two = Two::new();
    let (a, b, target) = (two.a(), two.b(), two.target());
    two.die();
    two.copy(3);
    two.sick.heal();
    two.sick.unmount();
    let why = "was left out of copy";
    let before = (walk(&target), records(&target));
    copy(&[&b, &target], 6).says(why);
    copy(&[&two.sick.path(), &target], 6).says(why);
    copy(&[&"--exclude=x", &a, &b, &target], 6).says(why);
    two.copy(6).says(why);
    assert!((walk(&target), records(&target)) == before);
    two.sick.mount();
    two.copy(0);
    assert!(two.is_finished() && two.has_b());
}

#[test]
fn a_link_that_leads_elsewhere_now_is_another_source() {
    if !can_mount("a_link_that_leads_elsewhere_now_is_another_source") {
        return;
    }
    let mut two = two();
    let target = two.target();
    let link = two.scratch.join("today");
    std::os::unix::fs::symlink(two.sick.path(), &link).unwrap();
    let today = contents(&link);
    dies_on_the_way(&mut two, &[&today, &target]);
    copy(&[&today, &target], 6).says("is not mounted there now");
    let other = two.scratch.dir("other");
    tree::paint(&other.join("other"), 1, 100_000);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    copy(&[&today, &target], 0).says("is not finished and stays so");
    same_bytes(&other.join("other"), &target.join("other"));
    two.sick.mount();
    with(&[&"resume", &target], 0);
    same_bytes(&two.sick.join("b/large"), &target.join("b/large"));
}

#[test]
fn a_folder_that_is_there_now_is_copied_where_the_job_is_told_to_forget() {
    if !can_mount("a_folder_that_is_there_now_is_copied_where_the_job_is_told_to_forget") {
        return;
    }
    let mut two = two();
    let (b, target) = (two.b(), two.target());
    dies_on_the_way(&mut two, &[&b, &target]);
    tree::paint(&two.sick.path().join("own"), 1, 100_000);
    copy(&[&b, &target], 6).says("move");
    let recipe = target.join(".inhaul/current/job.json");
    rustix::fs::rename(&recipe, two.scratch.join("away")).unwrap();
    copy(&[&b, &target], 0).says("is not finished and stays so");
    assert!(target.join("own").exists());
    std::fs::remove_file(two.sick.path().join("own")).unwrap();
    two.sick.mount();
    copy(&[&b, &target], 0);
    same_bytes(&two.sick.join("b/large"), &target.join("b/large"));
}

#[test]
fn a_source_that_goes_before_the_second_pass_is_not_taken_for_empty() {
    if !can_mount("a_source_that_goes_before_the_second_pass_is_not_taken_for_empty") {
        return;
    }
    for is_folder in [true, false] {
        let (lab, scratch) = (Lab::new(), Scratch::new());
        let source = Mounted::image(&scratch, "source", Fs::Ext4, 40);
        for number in 0..4_u8 {
            tree::paint(&source.join(number.to_string()), number.into(), 1_000_000);
        }
        let drive = Drive::new(&lab.join("target"), Fs::Ext4, 72);
        let target = drive.join("target");
        let typed = if is_folder {
            source.path().as_os_str().to_owned()
        } else {
            contents(source.path())
        };
        let running = Running::start(inhaul(&[&"copy", &"--bwlimit=1MB", &typed, &target]));
        wait_for("a staged file", || staged(&target).then_some(()));
        let unmounted = Command::new("umount").arg("-l").arg(source.path()).status();
        assert!(unmounted.unwrap().success());
        fail_one_write(&drive);
        let ran = running.finish();
        let ran = ran.says("the target failed to make something durable");
        ran.expect(1).says("the copy cannot be gone on with");
        drive.heal();
        let dirs = records(&target).into_keys();
        assert_eq!(
            dirs.filter(|path| path.join("journal").exists() && !path.is_symlink())
                .count(),
            1
        );
        assert!(is_open(&target));
    }
}

/// Lets one write of what was painted fail.
fn fail_one_write(drive: &Drive) {
    let mut is_met = false;
    drive.judge_writes(move |write| {
        let is_painted = |page: &[u8]| {
            page.windows(2)
                .take(16)
                .all(|two| two[0].checked_add(1) == Some(two[1]))
        };
        if is_met || !write.data.chunks(4096).any(is_painted) {
            return Fate::Stored;
        }
        is_met = true;
        Fate::Failed
    });
}

/// Whether anything is staged.
fn staged(target: &Path) -> bool {
    let threads = std::fs::read_dir(target.join(".inhaul/current/stage"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.any(|thread| {
        let names = std::fs::read_dir(thread.path());
        names.is_ok_and(|mut names| names.next().is_some())
    })
}

#[test]
fn a_job_that_was_cut_short_before_it_had_sources_takes_nothing_for_them() {
    if !can_mount("a_job_that_was_cut_short_before_it_had_sources_takes_nothing_for_them") {
        return;
    }
    let mut two = two();
    let (b, target) = (two.b(), two.target());
    killed_at(&[&"copy", &b, &target], "recipe-written:1");
    two.sick.unmount();
    with(&[&"resume", &target], 2).says("give the copy command again");
    // Nor does the folder by that command.
    copy(&[&b, &target], 6).says("is not mounted there now");
    assert!(is_open(&target));
    two.sick.mount();
    // Not even now: nothing tells that it is what was meant.
    with(&[&"resume", &target], 2).says("give the copy command again");
    copy(&[&b, &target], 0);
    assert!(!is_open(&target));
    same_bytes(&two.sick.join("b/large"), &target.join("b/large"));
}

#[test]
fn a_job_whose_description_was_moved_away_has_another_before_it_has_sources() {
    if !can_mount("a_job_whose_description_was_moved_away_has_another_before_it_has_sources") {
        return;
    }
    let mut two = two();
    let (b, target) = (two.b(), two.target());
    killed_at(&[&"copy", &b, &target], "recipe-written:1");
    let recipe = target.join(".inhaul/current/job.json");
    rustix::fs::rename(&recipe, two.scratch.join("away")).unwrap();
    // When its sources are on their way into the journal.
    killed_at(&[&"copy", &b, &target], "journal-written:1");
    assert!(recipe.exists());
    two.sick.unmount();
    copy(&[&b, &target], 6).says("is not mounted there now");
    two.sick.mount();
    with(&[&"resume", &target], 0);
    assert!(!is_open(&target));
    same_bytes(&two.sick.join("b/large"), &target.join("b/large"));
}

#[test]
fn what_was_asked_for_and_never_recorded_is_missing_until_it_is_given() {
    if !can_mount("what_was_asked_for_and_never_recorded_is_missing_until_it_is_given") {
        return;
    }
    let mut two = Two::new();
    let (a, b, target) = (two.a(), two.b(), two.target());
    let taken = target.join("a/a.mov");
    std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
    std::fs::write(&taken, "taken").unwrap();
    copy(&[&a, &target], 3);
    std::fs::remove_file(taken).unwrap();
    // As where a further target had its turn when one was lost.
    let recipe = target.join(".inhaul/current/job.json");
    let mut asked: Value = serde_json::from_slice(&std::fs::read(&recipe).unwrap()).unwrap();
    let sources = asked["sources"].as_array_mut().unwrap();
    sources.push(b.to_str().unwrap().into());
    std::fs::write(&recipe, asked.to_string()).unwrap();
    two.sick.unmount();
    for is_mounted in [false, true] {
        if is_mounted {
            two.sick.mount();
        }
        with(&[&"resume", &target], 3)
            .says("it is in no record here: if it is it, give the copy command again")
            .says("the job is NOT finished: 1 source was not here");
        assert!(is_open(&target) && !two.has_b());
    }
    copy(&[&a, &b, &target], 0);
    assert!(!is_open(&target) && two.has_b());
}

#[test]
fn what_a_copy_was_asked_for_is_not_passed_over_when_it_cannot_be_read() {
    if !can_mount("what_a_copy_was_asked_for_is_not_passed_over_when_it_cannot_be_read") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.sick.heal();
    two.sick.unmount();
    let recipe = two.target().join(".inhaul/current/job.json");
    let good = std::fs::read_to_string(&recipe).unwrap();
    let later = good.replacen("\"version\": 1", "\"version\": 2", 1);
    for (bad, why) in [
        (&good[..good.len() / 2], "no description of a job"),
        (&later, "another version of inhaul"),
    ] {
        std::fs::write(&recipe, bad).unwrap();
        two.copy(6).says("job.json").says(why).says("move it away");
        assert!(!two.is_finished());
        assert_eq!(std::fs::read_to_string(&recipe).unwrap(), bad);
    }
    // What it says is lost then, by the user's will; it is written anew.
    let away = two.scratch.join("away");
    rustix::fs::rename(&recipe, &away).unwrap();
    with(&[&"copy", &two.a(), &two.target()], 0);
    assert!(two.is_finished());
    let job = crate::support::program::job(&two.target());
    assert!(job.join("job.json").exists());
}
