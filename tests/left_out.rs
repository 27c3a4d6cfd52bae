//! Sources that are left out of a run: what is said of their drives, and how they come back.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use drive::Drive;
use serde_json::Value;
use support::judge::same_bytes;
use support::lab::Lab;
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, contents, inhaul, listed, report, run};
use support::told::Told;
use support::{Scratch, can_mount, need_tools, tool, tree};

/// A drive that is well, with the folder `a`, and one that is not, with the folder `b`.
struct Two {
    // In this order they go.
    sick: Drive,
    well: Drive,
    lab: Lab,
    scratch: Scratch,
}

impl Two {
    fn new() -> Self {
        let lab = Lab::new();
        let make = |name: &str| {
            let mut drive = Drive::new(&lab.join(name), Fs::Ext4, 72);
            let folder = drive.join(name);
            std::fs::create_dir(&folder).unwrap();
            tree::paint(&folder.join(format!("{name}.mov")), 1, 300_000);
            drive.remount();
            drive
        };
        let (well, sick) = (make("a"), make("b"));
        let scratch = Scratch::new();
        Self {
            sick,
            well,
            lab,
            scratch,
        }
    }

    fn a(&self) -> PathBuf {
        self.well.join("a")
    }

    /// The contents of the sick drive.
    fn b(&self) -> std::ffi::OsString {
        contents(self.sick.path())
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Nothing of the sick drive is in memory, and nothing is given.
    fn die(&mut self) {
        self.sick.remount();
        self.sick.die();
    }

    fn copy(&self, code: i32) -> Ran {
        with(&[&"copy", &self.a(), &self.b(), &self.target()], code)
    }

    fn resume(&self, code: i32) -> Ran {
        with(&[&"resume", &self.target()], code)
    }

    /// Whether the job has an end.
    fn is_finished(&self) -> bool {
        std::fs::symlink_metadata(self.target().join(".inhaul/current")).is_err()
    }

    /// Leaves no UUID of what was left out, as of FAT, of which the kernel tells none.
    fn forget_uuid(&self) {
        let job = self.target().join(".inhaul/current/job.json");
        let mut recipe: Value = serde_json::from_slice(&std::fs::read(&job).unwrap()).unwrap();
        recipe["left_out"][0]["on"]["uuid"] = Value::Null;
        std::fs::write(&job, recipe.to_string()).unwrap();
    }

    fn has_b(&self) -> bool {
        self.target().join("b").exists()
    }

    /// What the last report says of the one drive that was read: its sources, and whether it is safe.
    fn verdict(&self) -> (Value, Value) {
        let report = report(&self.target());
        let lanes = report["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), 1, "{lanes:?}");
        (
            lanes[0]["sources"][0].clone(),
            lanes[0]["safe_to_release"].clone(),
        )
    }
}

/// Runs a command that does not wait for drives for long.
fn with(args: &[&dyn AsRef<OsStr>], code: i32) -> Ran {
    let limit: [&dyn AsRef<OsStr>; 2] = [&"--grace=0", &"--stall-timeout=2s"];
    run(&[&args[..1], &limit, &args[1..]].concat()).expect(code)
}

/// Returns which block of 4096 bytes the inode of a file is in, by its path on the file system. All has
/// to be written.
fn inode_block(disk: &Path, path: &str) -> u64 {
    let what = format!("imap {path}");
    let text = tool("debugfs", &["-R".as_ref(), what.as_ref(), disk.as_os_str()]);
    let text = String::from_utf8(text).unwrap();
    let (_, at) = text.split_once("located at block ").unwrap();
    at.split(',').next().unwrap().trim().parse().unwrap()
}

#[test]
fn a_drive_of_which_a_source_is_left_out_is_not_safe() {
    let test = "a_drive_of_which_a_source_is_left_out_is_not_safe";
    if !can_mount(test) || !need_tools(test, &["debugfs"]) {
        return;
    }
    let two = Two::new();
    let dir = two.lab.join("both");
    // Of several block groups, over which folders at the top are spread.
    let mut both = Drive::new(&dir, Fs::Ext4, 600);
    let names: Vec<String> = (0..24).map(|number| format!("d{number}")).collect();
    for name in &names {
        std::fs::create_dir(both.join(name)).unwrap();
        tree::paint(&both.join(name).join("file"), 1, 100_000);
    }
    both.remount();
    let blocks: Vec<u64> = names
        .iter()
        .map(|name| inode_block(&dir.join("fuse/disk"), &format!("/{name}")))
        .collect();
    // What is read ahead of one must not touch the other.
    let far = (1..blocks.len())
        .find(|&at| blocks[at].abs_diff(blocks[0]) > 256)
        .unwrap();
    both.remount();
    both.fail_reads(blocks[far] * 4096..(blocks[far] + 1) * 4096);
    let [good, bad] = [0, far].map(|at| both.join(&names[at]));
    // By a link that is on another drive, too.
    let link = two.scratch.join("link");
    std::os::unix::fs::symlink(&bad, &link).unwrap();
    for (number, bad) in [bad, link].iter().enumerate() {
        let target = two.scratch.join(format!("target{number}"));
        let ran = run(&[&"copy", &"--grace=0", &two.a(), &good, bad, &target]).expect(3);
        let report = report(&target);
        assert_eq!(
            listed(&report, "problems"),
            [format!("source-read {}", bad.display())],
            "{}",
            ran.err()
        );
        let lanes = report["lanes"].as_array().unwrap();
        let safe = |lane: usize| lanes[lane]["safe_to_release"] == true;
        assert_eq!((safe(0), safe(1)), (true, false), "{lanes:?}");
        assert_eq!(lanes[1]["verdict"], "1 thing not copied whole");
    }
    // A run that goes on with it says so, too: the folder is not at its place, nor anywhere.
    both.heal();
    both.remount();
    let target = two.scratch.join("later");
    let taken = target.join(&names[0]).join("file");
    std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
    std::fs::write(&taken, "taken").unwrap();
    let bad = both.join(&names[far]);
    run(&[&"copy", &two.a(), &good, &bad, &target]).expect(3);
    std::fs::remove_file(taken).unwrap();
    rustix::fs::rename(&bad, both.join("elsewhere")).unwrap();
    run(&[&"resume", &target]).expect(3);
    let report = report(&target);
    let lanes = report["lanes"].as_array().unwrap();
    let safe = |lane: usize| lanes[lane]["safe_to_release"] == true;
    assert_eq!((safe(0), safe(1)), (true, false), "{lanes:?}");
}

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
fn the_root_of_a_dead_mount_refuses_nobody_else() {
    if !can_mount("the_root_of_a_dead_mount_refuses_nobody_else") {
        return;
    }
    let mut two = Two::new();
    for (number, sick) in [two.b(), two.sick.path().into()].iter().enumerate() {
        two.die();
        let target = two.scratch.join(format!("target{number}"));
        for limit in ["2s", "0"] {
            let limit = format!("--stall-timeout={limit}");
            let well = contents(two.well.path());
            run(&[&"copy", &"--grace=0", &limit, &well, sick, &target]).expect(3);
            let report = report(&target);
            let lanes = report["lanes"].as_array().unwrap();
            assert_eq!(lanes.len(), 1, "{lanes:?}");
            assert_eq!(lanes[0]["safe_to_release"], true);
            let typed = Path::new(sick).to_str().unwrap();
            assert_eq!(
                listed(&report, "problems"),
                [format!("source-read {typed}")]
            );
        }
        same_bytes(&two.well.join("a/a.mov"), &target.join("a/a.mov"));
        two.sick.heal();
    }
}

#[test]
fn where_no_source_can_be_read_all_are_named() {
    if !can_mount("where_no_source_can_be_read_all_are_named") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.well.remount();
    two.well.die();
    let ran = two.copy(6);
    let (a, b) = (two.a(), two.sick.path().to_owned());
    ran.says("no source can be read")
        .says(&format!("{}: its drive failed", a.display()))
        .says(&format!("{}/: its drive failed", b.display()))
        .says("nothing was written");
    assert!(!two.target().exists());
}

#[test]
fn a_source_whose_server_is_gone_is_left_out() {
    if !can_mount("a_source_whose_server_is_gone_is_left_out") {
        return;
    }
    let two = Two::new();
    let served = Told::mount(
        &two.scratch.join("served"),
        vec![Told::new("file", 4, b"file".to_vec())],
    );
    let link = two.scratch.dir("connections");
    let args = ["-t", "fusectl", "none"].map(OsStr::new);
    tool("mount", &[&args[..], &[link.as_os_str()]].concat());
    let device =
        std::fs::metadata(served.path()).map(|it| std::os::unix::fs::MetadataExt::dev(&it));
    let number = rustix::fs::minor(device.unwrap());
    std::fs::write(link.join(number.to_string()).join("abort"), "1").unwrap();
    tool("umount", &[link.as_os_str()]);
    let source = contents(served.path());
    let ran = with(&[&"copy", &two.a(), &source, &two.target()], 3);
    let report = report(&two.target());
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{}", ran.err());
    assert_eq!(problems[0]["kind"], "source-lost");
    // What a server shows may be on any drive: none can be called safe.
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    same_bytes(&two.a().join("a.mov"), &two.target().join("a/a.mov"));
}

/// An image of an unmounted drive in another drive, below a folder of this name.
fn image_of(drive: &mut Drive, lab: &Lab, dir: &str, name: &str) -> Drive {
    drive.unmount();
    let image = lab.join(format!("{name}.img"));
    std::fs::copy(lab.join(dir).join("fuse/disk"), &image).unwrap();
    drive.mount();
    Drive::with_image(&lab.join(name), Fs::Ext4, &image)
}

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
