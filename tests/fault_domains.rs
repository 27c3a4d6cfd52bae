//! Of several drives one fails: the others are copied as if nothing were, the one is told of at once
//! and in one line, and the run ends.

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
use serde_json::Value;
use support::extents::place;
use support::judge::{b3sum_agrees, same_bytes};
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Ran, Running, inhaul, report, run, so_far};
use support::{Scratch, can_mount, need_tools, program, tree, wait_for};

/// How many drives are well, beside the one that is not.
const WELL: usize = 7;
const LARGE: u64 = 24_000_000;
/// Their blocks are read ahead, so it takes many for a listing that takes long.
const FOLDERS: usize = 6000;

/// Drives 1 to 7 are well, and drive 0 is to fail.
struct Shelf {
    // In this order they go.
    sick: Drive,
    well: Vec<Drive>,
    _lab: Lab,
    scratch: Scratch,
}

fn paint(dir: &Path, is_large: bool) {
    std::fs::create_dir(dir).unwrap();
    if is_large {
        tree::paint(&dir.join("a-large"), 1, LARGE);
        tree::many_small(&dir.join("small"), 2, 300);
        tree::paint(&dir.join("z-large"), 3, LARGE);
    } else {
        tree::paint(&dir.join("large"), 4, 4_000_000);
        tree::many_small(&dir.join("small"), 5, 50);
    }
}

impl Shelf {
    fn new() -> Self {
        let lab = Lab::new();
        let make = |number: usize| {
            let drive = Drive::new(&lab.join(format!("drive{number}")), Fs::Ext4, 72);
            paint(&drive.join(format!("d{number}")), number == 0);
            drive
        };
        let mut sick = make(0);
        sick.remount();
        let well = (1..=WELL).map(make).collect();
        let scratch = Scratch::new();
        Self {
            sick,
            well,
            _lab: lab,
            scratch,
        }
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Fails unless a run told of its one sick source like this, and did all of the others. Returns that
    /// source.
    fn has_left_out(&self, ran: &Ran, kind: &str, health: &str) -> PathBuf {
        let name = self.sick.join("d0");
        let report = report(&self.target());
        let lanes = report["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), WELL);
        assert!(lanes.iter().all(|lane| lane["safe_to_release"] == true));
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0]["kind"], kind);
        assert_eq!(problems[0]["path"], name.to_str().unwrap());
        let told = ran.events();
        let told: Vec<&Value> = told.iter().filter(|it| it["type"] == "health").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["health"], health);
        name
    }

    /// Starts a copy of all drives.
    fn start(&self, options: &[&str]) -> Running {
        let drives = std::iter::once(&self.sick).chain(&self.well).enumerate();
        let sources = drives.map(|(number, drive)| drive.join(format!("d{number}")));
        let sources: Vec<PathBuf> = sources.collect();
        let target = self.target();
        // What comes back is a test of its own.
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--json", &"--grace", &"0"];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.extend(sources.iter().map(|source| source as &dyn AsRef<OsStr>));
        args.push(&target);
        Running::start(inhaul(&args))
    }

    /// Waits until the sick drive has been read for a while.
    fn wait_until_read(&self) {
        let before = self.sick.counts().reads;
        wait_for("reads", || {
            (self.sick.counts().reads >= before + 12).then_some(())
        });
    }

    /// Checks that everything is copied but for the sick drive, and that this is what is said.
    fn check(&self, ran: &Ran, health: &str, kind: &str) {
        let text = ran.out() + &ran.err();
        assert_eq!(ran.code, 3, "{text}");
        for (number, drive) in (1..).zip(&self.well) {
            let name = format!("d{number}");
            let copy = self.target().join(&name);
            same_bytes(&drive.join(&name).join("large"), &copy.join("large"));
            assert_eq!(
                std::fs::read_dir(copy.join("small/000")).unwrap().count(),
                50
            );
        }
        let report = report(&self.target());
        assert_eq!(report["stopped"], false, "the others were not stopped");
        let lanes = report["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), 1 + WELL);
        for lane in &lanes[1..] {
            assert_eq!(lane["health"], "ok", "{lane}");
            assert_eq!(lane["state"], "done", "{lane}");
            assert_eq!(lane["safe_to_release"], true, "{lane}");
        }
        let lane = &lanes[0];
        assert_eq!(lane["health"], health, "{lane}");
        assert_eq!(lane["state"], "failed", "{lane}");
        assert_eq!(lane["safe_to_release"], false, "{lane}");
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "one line for all of it: {problems:?}");
        assert_eq!(problems[0]["kind"], kind);
        let told: Vec<Value> = ran.events();
        let told: Vec<&Value> = told.iter().filter(|it| it["type"] == "health").collect();
        assert_eq!(told.last().unwrap()["health"], health, "{told:?}");
        assert!(
            told.iter().all(|it| it["drive"] == lane["drive"]),
            "{told:?}"
        );
    }

    /// Goes on when the drive is back.
    fn go_on(&self) {
        self.sick.heal();
        let ran = self.start(&[]).finish().expect(0);
        drop(ran);
        for name in ["a-large", "z-large", "small/004/000299"] {
            let [source, copy] =
                [self.sick.path(), &self.target()].map(|top| top.join("d0").join(name));
            same_bytes(&source, &copy);
        }
        b3sum_agrees(&self.target(), 302 + 51 * WELL);
    }
}

#[test]
fn a_drive_that_dies_costs_itself_alone() {
    if !can_mount("a_drive_that_dies_costs_itself_alone") {
        return;
    }
    for io in ["uring", "blocking"] {
        let shelf = Shelf::new();
        shelf.sick.set_delay(Duration::from_millis(10));
        let running = shelf.start(&["--io", io]);
        shelf.wait_until_read();
        shelf.sick.die();
        shelf.check(&running.finish(), "gone", "source-lost");
        shelf.go_on();
    }
}

/// btrfs keeps small files among its metadata: with those in memory, they can be read when the drive is
/// away.
#[test]
fn what_is_kept_among_the_metadata_does_not_tell_that_a_drive_is_there() {
    let test = "what_is_kept_among_the_metadata_does_not_tell_that_a_drive_is_there";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Btrfs, 128);
    let d = drive.join("d");
    std::fs::create_dir(&d).unwrap();
    tree::paint(&d.join("a-inline"), 1, 100);
    tree::paint(&d.join("b-bad"), 2, 10_000);
    drive.remount();
    let from = place(&d.join("b-bad"), 0);
    drive.fail_reads(from..from + 4096);
    let scratch = Scratch::new();
    let begun = scratch.dir("begun");
    let args: [&dyn AsRef<OsStr>; 4] = [&"copy", &"--grace=0", &d, &begun];
    run(&args).expect(3);
    drive.heal();
    for number in 0..40 {
        tree::paint(&d.join(format!("c{number}")), number, 10_000);
    }
    drive.remount();
    // Now the kernel knows all of the metadata, and the drive is pulled.
    let names = std::fs::read_dir(&d).unwrap();
    let paths: Vec<PathBuf> = names.map(|name| name.unwrap().path()).collect();
    for path in &paths {
        std::fs::File::open(path).unwrap().metadata().unwrap();
    }
    std::fs::read(d.join("a-inline")).unwrap();
    drive.die();
    // In a run that keeps the small file, and in one that reads it.
    for target in [begun, scratch.dir("anew")] {
        let args: [&dyn AsRef<OsStr>; 4] = [&"copy", &"--grace=0", &d, &target];
        run(&args).expect(3);
        let report = report(&target);
        same_bytes(&d.join("a-inline"), &target.join("d/a-inline"));
        assert_eq!(report["lanes"][0]["health"], "gone", "{report}");
    }
    drive.heal();
}

#[test]
fn a_drive_that_hangs_is_left_behind() {
    if !can_mount("a_drive_that_hangs_is_left_behind") {
        return;
    }
    let shelf = Shelf::new();
    shelf.sick.set_delay(Duration::from_millis(10));
    let mut running = shelf.start(&["--io", "uring", "--stall-timeout", "1s"]);
    shelf.wait_until_read();
    shelf.sick.hang();
    let healing = shelf.sick.healing();
    // Without an answer: the process ends all the same.
    let ended = running.wait(Duration::from_secs(60));
    assert!(ended.is_some(), "it waits for the drive");
    drop(healing);
    shelf.check(&running.finish(), "quarantined", "source-stalled");
    shelf.go_on();
}

#[test]
fn threads_that_the_kernel_holds_keep_nobody_else() {
    if !can_mount("threads_that_the_kernel_holds_keep_nobody_else") {
        return;
    }
    // Blocking calls are held in the middle of a file, and a scan before it has seen any.
    for (io, at_once) in [("blocking", false), ("uring", true)] {
        let shelf = Shelf::new();
        shelf.sick.set_delay(Duration::from_millis(20));
        let running = shelf.start(&["--io", io, "--stall-timeout", "1s"]);
        if at_once {
            running.until("\"type\":\"start\"");
        } else {
            shelf.wait_until_read();
        }
        shelf.sick.hang();
        let healing = shelf.sick.healing();
        running.until("\"type\":\"summary\"");
        // The kernel lets no thread go before the drive answers, whatever is done.
        drop(healing);
        shelf.check(&running.finish(), "quarantined", "source-stalled");
        shelf.go_on();
    }
}

#[test]
fn a_drive_that_comes_back_in_time_is_gone_on_with() {
    if !can_mount("a_drive_that_comes_back_in_time_is_gone_on_with") {
        return;
    }
    let shelf = Shelf::new();
    shelf.sick.set_delay(Duration::from_millis(10));
    let running = shelf.start(&["--stall-timeout", "10s"]);
    shelf.wait_until_read();
    shelf.sick.hang();
    let healing = shelf.sick.healing();
    running.until("\"health\":\"quarantined\",\"reason\"");
    drop(healing);
    let ran = running.finish().expect(0);
    let lane = &report(&shelf.target())["lanes"][0];
    assert_eq!(lane["health"], "suspect", "{lane}");
    assert_eq!(lane["safe_to_release"], true, "{lane}");
    assert!(ran.out().contains("it answers again"));
    for name in ["a-large", "z-large"] {
        let [source, copy] =
            [shelf.sick.path(), &shelf.target()].map(|top| top.join("d0").join(name));
        same_bytes(&source, &copy);
    }
}

#[test]
fn a_slow_drive_holds_up_nobody_but_itself() {
    if !can_mount("a_slow_drive_holds_up_nobody_but_itself") {
        return;
    }
    let shelf = Shelf::new();
    shelf.sick.set_delay(Duration::from_millis(60));
    let ran = shelf.start(&[]).finish().expect(0);
    let is_ahead = ran.events().iter().any(|event| {
        let lanes = event["lanes"].as_array();
        event["type"] == "progress"
            && lanes.is_some_and(|lanes| {
                let mut states = lanes.iter().map(|lane| lane["state"].as_str().unwrap());
                states.next() == Some("running") && states.all(|state| state == "finishing")
            })
    });
    assert!(is_ahead, "the others waited: {}", ran.out());
    let report = report(&shelf.target());
    let is_well = |lane: &Value| lane["health"] == "ok" && lane["safe_to_release"] == true;
    assert!(report["lanes"].as_array().unwrap().iter().all(is_well));
}

#[test]
fn a_run_that_is_held_itself_blames_no_drive() {
    if !can_mount("a_run_that_is_held_itself_blames_no_drive") {
        return;
    }
    let shelf = Shelf::new();
    shelf.sick.set_delay(Duration::from_millis(30));
    let running = shelf.start(&["--stall-timeout", "1s"]);
    shelf.wait_until_read();
    running.signal(rustix::process::Signal::STOP);
    // Longer than seven times as much.
    std::thread::sleep(Duration::from_secs(9));
    running.signal(rustix::process::Signal::CONT);
    running.finish().expect(0);
    let report = report(&shelf.target());
    let is_well = |lane: &Value| lane["health"] == "ok" && lane["safe_to_release"] == true;
    assert!(report["lanes"].as_array().unwrap().iter().all(is_well));
}

#[test]
fn a_source_that_hangs_before_the_start_is_left_out() {
    if !can_mount("a_source_that_hangs_before_the_start_is_left_out") {
        return;
    }
    let shelf = Shelf::new();
    shelf.sick.hang();
    let healing = shelf.sick.healing();
    let running = shelf.start(&["--stall-timeout", "1s"]);
    running.until("\"type\":\"summary\"");
    // Whoever looked at it is held by the kernel until it answers.
    drop(healing);
    let ran = running.finish().expect(3);
    shelf.has_left_out(&ran, "source-stalled", "quarantined");
    // Whoever resumes need not name it.
    let args: [&dyn AsRef<OsStr>; 2] = [&"resume", &shelf.target()];
    Running::start(inhaul(&args)).finish().expect(0);
    b3sum_agrees(&shelf.target(), 302 + 51 * WELL);
}

#[test]
fn a_source_whose_drive_is_dead_before_the_start_is_left_out() {
    if !can_mount("a_source_whose_drive_is_dead_before_the_start_is_left_out") {
        return;
    }
    let shelf = Shelf::new();
    // Some of its folders may still be in memory from before it was mounted again.
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    shelf.sick.die();
    let ran = shelf.start(&[]).finish().expect(3);
    let name = shelf.has_left_out(&ran, "source-read", "gone");
    // Alone it is no mistake of who typed it either: nothing can be begun.
    let alone: [&dyn AsRef<OsStr>; 3] = [&"copy", &name, &shelf.target()];
    let ran = Running::start(inhaul(&alone)).finish().expect(6);
    ran.says("its drive failed when it was looked at");
}

#[test]
fn a_stop_is_heard_while_a_source_hangs_before_the_start() {
    if !can_mount("a_stop_is_heard_while_a_source_hangs_before_the_start") {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 72);
    paint(&drive.join("d"), false);
    drive.remount();
    let scratch = Scratch::new();
    let (source, target) = (drive.join("d"), scratch.join("target"));
    drive.hang();
    let healing = drive.healing();
    let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
    let running = Running::start(inhaul(&args));
    let stderr = running.stderr_file();
    let said = |text: &'static str| {
        wait_for(text, || {
            let so_far = String::from_utf8_lossy(&so_far(&stderr)).into_owned();
            so_far.contains(text).then_some(())
        });
    };
    // Signals are watched for before any source is looked at.
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    wait_for("the roll call", || {
        let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks
            .any(|task| name(task).is_ok_and(|name| name.trim() == "call-0"))
            .then_some(())
    });
    running.signal(rustix::process::Signal::INT);
    said("stopped before the sources had answered");
    drop(healing);
    running.finish().expect(75);
    assert!(!target.exists());
}

#[test]
fn a_listing_that_its_drive_ended_is_not_all_there_is() {
    if !can_mount("a_listing_that_its_drive_ended_is_not_all_there_is") {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 72);
    std::fs::create_dir(drive.join("files")).unwrap();
    for number in 0..1000 {
        tree::text(&drive.join(format!("files/{number}")), "short");
    }
    for number in 0..FOLDERS {
        std::fs::create_dir_all(drive.join(format!("folders/{number}"))).unwrap();
    }
    drive.remount();
    drive.set_delay(Duration::from_millis(4));
    let scratch = Scratch::new();
    let target = scratch.join("target");
    // A whole file system, which is not counted before; of little memory, so that files are handed
    // over before all is listed.
    let source = program::contents(drive.path());
    let args: [&dyn AsRef<OsStr>; 5] = [&"copy", &"--grace=0", &"--memory=32MiB", &source, &target];
    let running = Running::start(inhaul(&args));
    let count = |name: &str| std::fs::read_dir(target.join(name)).map_or(0, Iterator::count);
    wait_for("files", || (count("files") >= 500).then_some(()));
    // Those that were handed over are all copied: only the listing has more to do.
    let mut before = 0;
    wait_for("the last of them", || {
        std::thread::sleep(Duration::from_millis(1500));
        let copied = count("files");
        (std::mem::replace(&mut before, copied) == copied).then_some(())
    });
    assert!(count("folders") < FOLDERS, "all are listed already");
    drive.die();
    running.finish().expect(3);
    let report = report(&target);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0]["kind"], "source-lost");
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    drive.heal();
    Running::start(inhaul(&args)).finish().expect(0);
    assert_eq!((count("files"), count("folders")), (1000, FOLDERS));
}

#[test]
fn a_drive_lost_in_the_second_read_is_the_one_that_is_blamed() {
    if !can_mount("a_drive_lost_in_the_second_read_is_the_one_that_is_blamed") {
        return;
    }
    let lab = Lab::new();
    let make = |number: usize| {
        let drive = Drive::new(&lab.join(format!("drive{number}")), Fs::Ext4, 72);
        std::fs::create_dir(drive.join(format!("d{number}"))).unwrap();
        tree::paint(&drive.join(format!("d{number}/large")), 1, LARGE);
        drive.set_delay(Duration::from_millis(10));
        drive
    };
    let drives = [0, 1, 2].map(make);
    let scratch = Scratch::new();
    let target = scratch.join("target");
    let sources = [0, 1, 2].map(|number| drives[number].join(format!("d{number}")));
    let args: [&dyn AsRef<OsStr>; 9] = [
        &"copy",
        &"--json",
        &"--grace",
        &"0",
        &"--verify=both",
        &sources[0],
        &sources[1],
        &sources[2],
        &target,
    ];
    let running = Running::start(inhaul(&args));
    wait_for("reads", || (drives[0].counts().reads >= 12).then_some(()));
    drives[0].die();
    let copy = target.join("d2/large");
    wait_for("the copy", || copy.exists().then_some(()));
    // Its only file is read: what is read now is read a second time.
    let before = drives[2].counts().reads;
    wait_for("reads", || {
        (drives[2].counts().reads >= before + 4).then_some(())
    });
    drives[2].die();
    running.finish().expect(3);
    let report = report(&target);
    let health = [0, 1, 2].map(|number| report["lanes"][number]["health"].as_str().unwrap());
    assert_eq!(health, ["gone", "ok", "gone"]);
    let safe = [0, 1, 2].map(|number| report["lanes"][number]["safe_to_release"] == true);
    assert_eq!(safe, [false, true, false]);
}
