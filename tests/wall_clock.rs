//! The clock jumps by years, between runs and in the midst of one: it names jobs and dates reports,
//! and decides about nothing.
//!
//! The machine's clock stays as it is: the program sees another one (`support/clock`).

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use drive::Drive;
use support::clock::Clock;
use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Ran, Running, contents, inhaul, listed, report};
use support::{Scratch, can_mount, need_tools, tree, wait_for};

/// Ten years of 365.25 days, in seconds.
const TEN_YEARS: i64 = 315_576_000;
/// No date that the machine itself may have is as early or as late as these.
const BACK: i64 = -3 * TEN_YEARS;
const AHEAD: i64 = 3 * TEN_YEARS;
const FILES: usize = 62;

fn fill(source: &Path) {
    tree::many_small(&source.join("small"), 1, 60);
    tree::paint(&source.join("a-large"), 2, 9_000_000);
    tree::paint(&source.join("z-large"), 3, 9_000_000);
    tree::age(source, 1_000_000_000);
}

/// Runs a copy under the clock, with more in its environment.
fn copy(clock: &Clock, source: &Path, target: &Path, env: &[(&str, &str)]) -> Ran {
    let mut command = inhaul(&[&"copy", &source, &target]);
    command.envs(env.iter().copied());
    clock.show_to(&mut command);
    Running::start(command).finish()
}

/// Returns the year in which the last run began, by its own clock.
fn year(target: &Path) -> i64 {
    let started = report(target)["started"].as_str().unwrap().to_owned();
    started.split('-').next().unwrap().parse().unwrap()
}

fn this_year() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    1970 + i64::try_from(since).unwrap() * 10 / TEN_YEARS
}

/// Fails unless the program saw a clock that is so many years off.
#[track_caller]
fn check_year(target: &Path, years: i64) {
    let off = year(target) - this_year() - years;
    assert!(off.abs() <= 1, "it saw the year {}", year(target));
}

/// Returns the inode of every file of a copy.
fn inodes(target: &Path) -> BTreeMap<Vec<u8>, u64> {
    let tree = walk(target);
    let all = tree.keys().map(|path| {
        let inode = std::fs::symlink_metadata(target.join(tree::name(path)));
        (path.clone(), inode.unwrap().ino())
    });
    all.collect()
}

#[test]
fn what_was_killed_is_gone_on_with_whatever_the_clock_says() {
    let test = "what_was_killed_is_gone_on_with_whatever_the_clock_says";
    if !need_tools(test, &["rustc", "rsync", "b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    let clock = Clock::new(scratch.path());
    let small_steps = [
        ("INHAUL_TEST_SYNC_BLOCKS", "2"),
        ("INHAUL_TEST_BATCH_FILES", "6"),
    ];
    // Where files are acknowledged, one is half done, and names are given but not recorded.
    for at in ["acknowledged:4", "blocks-committed:2", "named-all:3"] {
        for (jump, years) in [(BACK, -30), (AHEAD, 30)] {
            let what = format!("{at} {years}");
            let target = scratch.join(&what);
            clock.set(0);
            let kill = [&small_steps[..], &[("INHAUL_TEST_KILL", at)]].concat();
            let ran = copy(&clock, &source, &target, &kill);
            assert_eq!(ran.code, 128 + 9, "{what}: {}", ran.err());
            clock.set(jump);
            copy(&clock, &source, &target, &small_steps).expect(0);
            check_year(&target, years);
            rsync_agrees(&source, &target.join("source"));
            b3sum_agrees(&target, FILES);
            let kept = report(&target)["totals"]["kept_bytes"].as_u64().unwrap();
            assert!(kept > 0, "{what}: it began anew");
        }
    }
}

#[test]
fn nothing_is_copied_again_whatever_the_clock_says() {
    let test = "nothing_is_copied_again_whatever_the_clock_says";
    if !need_tools(test, &["rustc", "rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    tree::text(&source.join("taken"), "ours");
    let target = scratch.join("target");
    // A name that is taken keeps the job from being finished.
    let taken = scratch.dir("target/source").join("taken");
    tree::text(&taken, "theirs");
    let clock = Clock::new(scratch.path());
    copy(&clock, &source, &target, &[]).expect(3);
    assert_eq!(report(&target)["totals"]["files"], FILES);
    let before = inodes(&target);
    for (jump, years) in [(BACK, -30), (AHEAD, 30), (BACK, -30), (0, 0)] {
        clock.set(jump);
        copy(&clock, &source, &target, &[]).expect(3);
        check_year(&target, years);
        let report = report(&target);
        let totals = &report["totals"];
        let kept_bytes = totals["kept_bytes"].as_u64().unwrap();
        assert_eq!(totals["kept"], FILES, "{totals}");
        assert_eq!(totals["changed"], 0, "{totals}");
        assert!(kept_bytes > 18_000_000, "{totals}");
        assert_eq!(inodes(&target), before, "{years}");
    }
    // And what did change is copied again, though its time is one that is still to come.
    clock.set(BACK);
    tree::paint(&source.join("small/000/000001"), 77, 500);
    copy(&clock, &source, &target, &[]).expect(3);
    assert_eq!(report(&target)["totals"]["changed"], 1);
    std::fs::remove_file(&taken).unwrap();
    copy(&clock, &source, &target, &[]).expect(0);
    rsync_agrees(&source, &target.join("source"));
}

#[test]
fn jumps_on_the_way_show_in_no_figure_and_blame_no_drive() {
    let test = "jumps_on_the_way_show_in_no_figure_and_blame_no_drive";
    if !can_mount(test) || !need_tools(test, &["rustc"]) {
        return;
    }
    let lab = Lab::new();
    // Slow, so that it is waited for all the time.
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 72);
    let source = drive.join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&source);
    drive.remount();
    drive.set_delay(Duration::from_millis(30));
    let clock = Clock::new(lab.path());
    let target = lab.join("target");
    let options: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &"copy",
        &"--json",
        &"--bwlimit=6MB",
        &"--stall-timeout=5s",
        &"--verify=target",
        &source,
        &target,
    ];
    let mut command = inhaul(&options);
    clock.show_to(&mut command);
    let mut running = Running::start(command);
    running.until("\"type\":\"start\"");
    let mut jumps = 0;
    while running.alive() {
        clock.set([BACK, 0, AHEAD][jumps % 3]);
        jumps += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(jumps > 10, "it was over too soon");
    let ran = running.finish().expect(0);
    drive.heal();
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, FILES);
    let report = report(&target);
    let lane = &report["lanes"][0];
    assert_eq!(lane["health"], "ok", "{lane}");
    assert_eq!(lane["safe_to_release"], true, "{lane}");
    assert_eq!(lane["evidence"]["hashed"], 0, "{lane}");
    let events = ran.events();
    let told = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    assert_eq!(told("health").count(), 0, "{}", ran.out());
    let seconds = told("progress").map(|event| event["seconds"].as_f64().unwrap());
    let seconds: Vec<f64> = seconds.collect();
    assert!(seconds.len() > 1, "{seconds:?}");
    // Whatever a machine is busy with: not years, and never back.
    assert!(seconds.is_sorted(), "{seconds:?}");
    let all = [
        seconds[seconds.len() - 1],
        report["seconds"].as_f64().unwrap(),
    ];
    assert!(all.iter().all(|it| (0.0..1e6).contains(it)), "{all:?}");
    for event in told("progress") {
        let left = event["total"]["seconds_left"].as_u64();
        assert!(left.is_none_or(|left| left < 1_000_000), "{event}");
    }
}

#[test]
fn what_is_waited_for_is_not_counted_by_it() {
    let test = "what_is_waited_for_is_not_counted_by_it";
    if !can_mount(test) || !need_tools(test, &["rustc"]) {
        return;
    }
    let lab = Lab::new();
    let clock = Clock::new(lab.path());
    let start = |drive: &Drive, target: &Path, options: &[&str]| {
        let mut command = inhaul(&[&"copy", &"--json"]);
        command.args(options);
        command.args([contents(drive.path()).as_os_str(), target.as_os_str()]);
        clock.show_to(&mut command);
        let running = Running::start(command);
        let first = target.join("a-large");
        wait_for("the first file", || first.exists().then_some(()));
        running
    };
    let make = |name: &str| {
        let mut drive = Drive::new(&lab.join(name), Fs::Ext4, 72);
        fill(drive.path());
        drive.remount();
        drive.set_delay(Duration::from_millis(60));
        drive
    };
    // A drive that hangs is left behind, though by the clock it began to in thirty years.
    let drive = make("hangs");
    let target = lab.join("left");
    clock.set(AHEAD);
    let mut running = start(&drive, &target, &["--stall-timeout=1s", "--grace=0"]);
    drive.hang();
    let healing = drive.healing();
    clock.set(BACK);
    let is_over = running.wait(Duration::from_secs(100)).is_some();
    drop(healing);
    assert!(is_over, "it waits for the drive");
    running.finish().expect(3);
    let told = listed(&report(&target), "problems");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("source-stalled "), "{told:?}");
    assert!(files(&walk(&target)) < FILES);
    drop(drive);

    // One that is put back in time is gone on with, though by the clock thirty years went by.
    let mut drive = make("pulled");
    let target = lab.join("back");
    clock.set(BACK);
    let running = start(&drive, &target, &["--grace=60s"]);
    drive.die();
    running.until("\"health\":\"gone\"");
    clock.set(AHEAD);
    let held = format!("/proc/{}/fd", running.pid().as_raw_nonzero());
    wait_for("the drive to be let go of", || {
        let open = std::fs::read_dir(&held).unwrap().flatten();
        let mut open = open.flat_map(|fd| std::fs::read_link(fd.path()));
        (!open.any(|path| path.starts_with(drive.path()))).then_some(())
    });
    drive.unmount();
    drive.heal();
    drive.mount();
    running.finish().expect(0);
    check_year(&target, -30);
    b3sum_agrees(&target, FILES);
}
