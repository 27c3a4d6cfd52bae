//! Targets that go away, go read-only or become something else under a copy: noticed before anything
//! is written to the wrong place, and gone on with once the right one is back.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use drive::Drive;
use rustix::process::Signal;
use support::cgroup::Group;
use support::extents::place;
use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::lab::Lab;
use support::mounts::{Fs, Mounted, quietly, unmount};
use support::program::{Ran, Running, inhaul, report, run};
use support::{Scratch, can_mount, need_tools, tool, tree, wait_for};

const FILES: usize = 40;

/// A source whose files lie in two folders.
fn fill_source(source: &Path) {
    for index in 0..FILES as u64 {
        let dir = source.join(if index % 2 == 0 { "even" } else { "odd" });
        std::fs::create_dir_all(&dir).unwrap();
        let len = if index % 8 == 0 { 3_000_000 } else { 400_000 };
        tree::paint(&dir.join(format!("file{index:02}")), index, len);
    }
    tree::age(source, 1_000_000_000);
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Starts a copy that takes some seconds, and waits until some of it is recorded: files of a first
/// batch are when those of a second one appear.
fn slow_copy(source: &Path, target: &Path) -> Running {
    let running = Running::start(inhaul(&[&"copy", &"--bwlimit=7MB", &source, &target]));
    let [even, odd] = ["even", "odd"].map(|dir| target.join("source").join(dir));
    let there = || [count(&even), count(&odd)];
    let first = wait_for("files in both folders", || {
        let counts = there();
        (!counts.contains(&0)).then_some(counts)
    });
    wait_for("a second batch", || (there() != first).then_some(()));
    running
}

/// Fails unless a run ended because of its target, and says so in a few lines.
#[track_caller]
fn check_lost(ran: Ran) -> Ran {
    let ran = ran.expect(1);
    let told = ran.err().matches("problem: ").count();
    assert!(told <= 4, "{}", ran.err());
    ran
}

#[track_caller]
fn check_goes_on(source: &Path, target: &Path) {
    let ran = run(&[&"copy", &source, &target]).expect(0);
    assert!(ran.out().contains("an earlier run"), "{}", ran.out());
    rsync_agrees(source, &target.join("source"));
    b3sum_agrees(target, FILES);
}

#[test]
fn a_target_that_goes_read_only() {
    if !can_mount("a_target_that_goes_read_only") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let image = scratch.join("target.img");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(128 << 20)
        .unwrap();
    let point = scratch.join("target");
    let target = Mounted::make(&point, &image, Fs::Ext4, "noatime,errors=remount-ro");
    let running = slow_copy(&source, &point);
    let device = target.device().rsplit('/').next().unwrap();
    let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
    std::fs::write(trigger, "1").unwrap();
    check_lost(running.finish());
    let (originals, copies) = (walk(&source), walk(&point.join("source")));
    for (path, node) in copies.iter().filter(|(_, node)| node.kind == "file") {
        assert_eq!(node.content, originals[path].content);
    }
    assert!(files(&copies) < FILES);
    drop(target);
    // It found the error that was made up, and says with code 1 that it mended it.
    let mended = Command::new("e2fsck")
        .arg("-fy")
        .arg(&image)
        .output()
        .unwrap();
    assert!(mended.status.code() <= Some(1), "{mended:?}");
    let target = Mounted::open(&point, &image, Fs::Ext4).unwrap();
    check_goes_on(&source, target.path());
}

#[test]
fn a_target_that_is_unmounted() {
    if !can_mount("a_target_that_is_unmounted") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 128);
    let (point, image) = (target.path().to_owned(), target.image_path().to_owned());
    let running = slow_copy(&source, &point);
    tool("umount", &["-l".as_ref(), point.as_os_str()]);
    check_lost(running.finish())
        .says("target-lost")
        .says("unmounted");
    assert_eq!(count(&point), 0, "what is below the mount point");
    drop(target);
    let target = Mounted::open(&point, &image, Fs::Ext4).unwrap();
    check_goes_on(&source, target.path());
}

#[test]
fn another_disk_is_mounted_over_a_target() {
    if !can_mount("another_disk_is_mounted_over_a_target") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Xfs, 320);
    let running = slow_copy(&source, target.path());
    let other = Mounted::tmpfs(&scratch, "target", 64);
    check_lost(running.finish()).says("target-lost");
    assert_eq!(count(other.path()), 0);
    drop(other);
    check_goes_on(&source, target.path());
}

#[test]
fn another_disk_is_mounted_inside_a_target() {
    if !can_mount("another_disk_is_mounted_inside_a_target") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Btrfs, 256);
    let running = slow_copy(&source, target.path());
    // Its descriptor is held by then: names would be given where nobody sees them.
    let other = Mounted::tmpfs(&scratch, "target/source/even", 64);
    check_lost(running.finish())
        .says("target-lost")
        .says("source/even");
    assert_eq!(count(other.path()), 0);
    drop(other);
    check_goes_on(&source, target.path());
}

#[test]
fn another_disk_has_the_place_of_a_target_between_two_runs() {
    if !can_mount("another_disk_has_the_place_of_a_target_between_two_runs") {
        return;
    }
    let scratch = Scratch::new();
    let (source, state) = (scratch.dir("source"), scratch.dir("state"));
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 128);
    let (point, image) = (target.path().to_owned(), target.image_path().to_owned());
    let copy = || {
        let mut command = inhaul(&[&"copy", &"--bwlimit=10MB", &source, &point]);
        command.env("XDG_STATE_HOME", &state);
        command
    };
    let running = Running::start(copy());
    wait_for("a file", || {
        (count(&point.join("source/even")) > 0).then_some(())
    });
    running.signal(Signal::INT);
    running.finish().expect(75);
    drop(target);
    // Not mounted: the folder below the mount point is not the target.
    let ran = Running::start(copy()).finish().expect(6);
    ran.says("another file system")
        .says("kept: nothing was written");
    assert_eq!(count(&point), 0);
    let other = Mounted::image(&scratch, "other", Fs::Ext4, 64);
    let other_image = other.image_path().to_owned();
    drop(other);
    let other = Mounted::open(&point, &other_image, Fs::Ext4).unwrap();
    Running::start(copy())
        .finish()
        .expect(6)
        .says("another file system");
    assert_eq!(count(&point), 1, "lost+found alone");
    drop(other);
    // In its place again, it is gone on with.
    let target = Mounted::open(&point, &image, Fs::Ext4).unwrap();
    Running::start(copy())
        .finish()
        .expect(0)
        .says("an earlier run");
    rsync_agrees(&source, &target.join("source"));
    // A folder that was emptied on the same file system may be begun anew.
    std::fs::remove_dir_all(target.join(".inhaul")).unwrap();
    std::fs::remove_dir_all(target.join("source")).unwrap();
    Running::start(copy()).finish().expect(0);
    rsync_agrees(&source, &target.join("source"));
}

#[test]
fn a_target_that_dies() {
    if !can_mount("a_target_that_dies") {
        return;
    }
    for fs in [Fs::Ext4, Fs::Xfs] {
        let lab = Lab::new();
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        fill_source(&source);
        let mib = if fs == Fs::Xfs { 320 } else { 128 };
        let mut drive = Drive::new(&lab.dir("drive"), fs, mib);
        let running = slow_copy(&source, drive.path());
        drive.die();
        let ran = running.finish();
        drive.heal();
        check_lost(ran);
        drive.remount();
        check_goes_on(&source, drive.path());
    }
}

/// Two drives and a copy from one to the other that was killed in the middle.
struct Halfway {
    // In this order they go.
    source: Drive,
    target: Drive,
    _lab: Lab,
}

impl Halfway {
    const FILES: usize = 300;

    /// Many files, of which some were copied.
    fn new() -> Self {
        let fill = |source: &Drive| tree::many_small(&source.join("small"), 1, Self::FILES);
        let settings = [("BATCH_FILES", "100"), ("KILL", "acknowledged:2")];
        let halfway = Self::killed(fill, &settings);
        let copies = files(&walk(halfway.target.path()));
        assert!(copies >= 100, "{copies}");
        halfway
    }

    fn killed(fill: impl FnOnce(&Drive), settings: &[(&str, &str)]) -> Self {
        let lab = Lab::new();
        let [mut source, mut target] =
            ["source", "target"].map(|name| Drive::new(&lab.dir(name), Fs::Ext4, 96));
        fill(&source);
        let mut command = inhaul(&[&"copy", &source.path(), &target.path()]);
        for (name, value) in settings {
            command.env(format!("INHAUL_TEST_{name}"), value);
        }
        Running::start(command).finish().expect(137);
        source.remount();
        target.remount();
        Self {
            source,
            target,
            _lab: lab,
        }
    }

    /// Goes on, and does something to the target when the journal is loaded and before it is asked for
    /// anything: then its pages are not in memory any more. (What is there under each name is.)
    fn go_on(&self, test: &str, harm: impl FnOnce(&Drive)) -> Option<Ran> {
        let group = Group::memory(test, 1 << 30)?;
        let _in_memory = walk(self.target.path());
        let command = inhaul(&[&"copy", &self.source.path(), &self.target.path()]);
        // Until the source is listed nothing is looked up.
        self.source.set_delay(Duration::from_millis(50));
        let running = Running::start(group.command(&command));
        let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
        wait_for("its lane", || {
            let mut tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
            let is_lane = |task: std::fs::DirEntry| {
                let name = std::fs::read_to_string(task.path().join("comm"));
                name.is_ok_and(|name| name.starts_with("lane-"))
            };
            tasks.any(is_lane).then_some(())
        });
        running.signal(Signal::STOP);
        let failed = self.target.counts().failed;
        harm(&self.target);
        group.reclaim();
        self.source.heal();
        running.signal(Signal::CONT);
        let ran = running.finish();
        assert!(self.target.counts().failed > failed, "nothing was asked");
        self.target.heal();
        Some(ran)
    }

    /// Fails unless the same command finishes it.
    fn check_goes_on(self) {
        let _kept = self.check_goes_on_with(Self::FILES);
    }

    /// The same for so many files; returns how many bytes were there already.
    fn check_goes_on_with(mut self, files: usize) -> u64 {
        self.target.remount();
        run(&[&"copy", &self.source.path(), &self.target.path()]).expect(0);
        let copy = self.target.join(self.source.path().file_name().unwrap());
        rsync_agrees(self.source.path(), &copy);
        b3sum_agrees(self.target.path(), files);
        let report = report(self.target.path());
        report["totals"]["kept_bytes"].as_u64().unwrap()
    }

    /// Returns where the pages of the journal are on the target, but for the last one, which is still
    /// written to.
    fn pages(&self) -> Vec<u64> {
        let home = self.target.join(".inhaul");
        let job = std::fs::read_link(home.join("current")).unwrap();
        let journal = home.join(job).join("journal");
        let pages = std::fs::metadata(&journal).unwrap().len() / 4096;
        (0..pages)
            .map(|page| place(&journal, page * 4096))
            .collect()
    }
}

#[test]
fn a_target_that_dies_with_its_journal_in_use_ends_no_process() {
    let test = "a_target_that_dies_with_its_journal_in_use_ends_no_process";
    if !can_mount(test) {
        return;
    }
    let halfway = Halfway::new();
    // A signal would be 128 and its number.
    if let Some(ran) = halfway.go_on(test, Drive::die) {
        check_lost(ran);
        halfway.check_goes_on();
    }
}

#[test]
fn a_journal_that_cannot_be_read_any_more_is_told_of_and_no_file() {
    let test = "a_journal_that_cannot_be_read_any_more_is_told_of_and_no_file";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let halfway = Halfway::new();
    let places = halfway.pages();
    let harm = |target: &Drive| {
        for place in places {
            target.fail_reads(place..place + 4096);
        }
    };
    let Some(ran) = halfway.go_on(test, harm) else {
        return;
    };
    let ran = check_lost(ran)
        .says("part of it cannot be read any more, so it is not known what earlier runs copied")
        .says("then run again");
    let text = ran.out() + &ran.err();
    for wrong in ["target-exists", "is taken", "changed since"] {
        assert!(!text.contains(wrong), "{text}");
    }
    // One line for the journal, one for the drive that has the rest.
    assert_eq!(ran.err().matches("problem: ").count(), 2, "{text}");
    halfway.check_goes_on();
}

#[test]
fn what_is_staged_outlives_a_journal_that_cannot_be_read_any_more() {
    let test = "what_is_staged_outlives_a_journal_that_cannot_be_read_any_more";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    // Its record of each block has its name.
    let name = "x".repeat(250);
    let fill = |source: &Drive| {
        tree::paint(&source.join(name), 1, 60_000_000);
        // Slower than the syncs, so that there are many.
        source.set_delay(Duration::from_millis(20));
    };
    let settings = [("SYNC_BLOCKS", "1"), ("KILL", "blocks-committed:25")];
    let halfway = Halfway::killed(fill, &settings);
    let places = halfway.pages();
    assert!(places.len() >= 2, "{places:?}");
    let harm = |target: &Drive| {
        for place in places {
            target.fail_reads(place..place + 4096);
        }
    };
    let Some(ran) = halfway.go_on(test, harm) else {
        return;
    };
    let ran = check_lost(ran)
        .says("part of it cannot be read any more, so it is not known what earlier runs copied");
    assert!(
        !ran.err().contains("copied from the start"),
        "{}",
        ran.err()
    );
    let kept = halfway.check_goes_on_with(1);
    assert!(kept >= 20 << 20, "{kept}");
}

#[test]
fn what_is_mounted_elsewhere_is_no_hindrance() {
    if !can_mount("what_is_mounted_elsewhere_is_no_hindrance") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 128);
    // Inside from the beginning, beside it, and beside the folder that is the target.
    target.dir("in/kept");
    let inside = Mounted::tmpfs(&scratch, "target/in/kept", 4);
    let running = slow_copy(&source, &target.join("in"));
    let _beside = Mounted::tmpfs(&scratch, "beside", 4);
    let within = target.dir("in-other");
    tool(
        "mount",
        &[
            "-t".as_ref(),
            "tmpfs".as_ref(),
            "none".as_ref(),
            within.as_os_str(),
        ],
    );
    let ran = running.finish();
    assert!(quietly("mountpoint", &[&within]));
    unmount(&within);
    ran.expect(0);
    drop(inside);
    rsync_agrees(&source, &target.join("in/source"));
}

#[test]
fn the_bench_can_fail() {
    if !can_mount("the_bench_can_fail") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill_source(&source);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 128);
    let mut command = inhaul(&[&"copy", &"--bwlimit=20MB", &source, &target.path()]);
    command.env("INHAUL_TEST_BUG", "place-not-checked");
    let running = Running::start(command);
    let even = target.join("source/even");
    wait_for("a file", || (count(&even) > 0).then_some(()));
    tool("umount", &["-l".as_ref(), target.path().as_os_str()]);
    // It says that all is well, of a disk that is not there any more.
    running.finish().expect(0);
    assert_eq!(count(target.path()), 0);
}
