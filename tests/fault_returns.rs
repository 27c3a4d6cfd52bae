//! A drive that is pulled and put back: the run goes on with it, and with no other.

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
use support::mounts::{Fs, Mounted, quietly, unmount};
use support::program::{Ran, Running, inhaul, job, report, run, so_far, under};
use support::{can_mount, need_tools, tool, tree, wait_for};

const LARGE: u64 = 24_000_000;
/// What is on the drive that is pulled.
const FILES: usize = 302;

/// A drive that is pulled, and one that stays.
struct Bench {
    // In this order they go.
    pulled: Drive,
    stays: Drive,
    lab: Lab,
}

fn paint(dir: &Path, seed: u64) {
    std::fs::create_dir(dir).unwrap();
    tree::paint(&dir.join("a-large"), seed, LARGE);
    tree::many_small(&dir.join("small"), seed + 1, FILES - 2);
    tree::paint(&dir.join("z-large"), seed + 2, LARGE);
    // Names that wait for another are a matter of their own.
    std::fs::hard_link(dir.join("z-large"), dir.join("z-linked")).unwrap();
}

/// Waits until the drive is told to be gone, for so many times.
fn is_gone(running: &Running, times: usize) {
    let stdout = running.stdout_file();
    wait_for("the drive to be gone", || {
        let text = String::from_utf8_lossy(&so_far(&stdout)).into_owned();
        (text.matches("\"health\":\"gone\"").count() >= times).then_some(())
    });
}

/// Waits until this was told of.
fn until_told(running: &Running, text: &str) {
    let told = [running.stdout_file(), running.stderr_file()];
    wait_for(text, || {
        let so_far = told
            .iter()
            .map(|file| String::from_utf8_lossy(&so_far(file)).into_owned());
        so_far.into_iter().any(|it| it.contains(text)).then_some(())
    });
}

/// A folder that is mounted at another place as well.
struct Bound(PathBuf);

impl Bound {
    fn new(folder: &Path, point: &Path) -> Self {
        assert!(quietly("mount", &[Path::new("--bind"), folder, point]));
        Self(point.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// The journal of a copy, out of the way of whoever would read it.
struct Aside(PathBuf);

impl Aside {
    fn put(target: &Path) -> Self {
        let home = target.join(".inhaul");
        let job = home.join(std::fs::read_link(home.join("current")).unwrap());
        let journal = job.join("journal");
        rustix::fs::rename(&journal, job.join("aside")).unwrap();
        Self(journal)
    }

    fn put_back(self) {
        rustix::fs::rename(self.0.with_file_name("aside"), self.0).unwrap();
    }
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let mut pulled = Drive::new(&lab.join("pulled"), Fs::Ext4, 72);
        paint(&pulled.join("d"), 1);
        pulled.remount();
        pulled.set_delay(Duration::from_millis(20));
        let stays = Drive::new(&lab.join("stays"), Fs::Ext4, 40);
        std::fs::create_dir(stays.join("e")).unwrap();
        tree::paint(&stays.join("e/file"), 9, 4_000_000);
        Self { pulled, stays, lab }
    }

    /// Returns the same where the drive that stays hangs in the midst of a file once a copy has begun.
    fn busy() -> Self {
        let bench = Self::new();
        tree::paint(&bench.stays.join("e/large"), 10, LARGE);
        bench.stays.set_delay(Duration::from_millis(40));
        bench
    }

    fn target(&self) -> PathBuf {
        let drive = self.lab.join("under/mounted");
        if drive.exists() {
            return drive.join("target");
        }
        self.lab.join("target")
    }

    /// Starts a copy, and pulls the drive in its midst.
    fn start(&mut self, options: &[&str]) -> Running {
        self.start_with(options, Self::pull)
    }

    /// Starts a copy, and does this to the drive in its midst.
    fn start_with(&mut self, options: &[&str], harm: impl FnOnce(&mut Self, &Running)) -> Running {
        let (pulled, stays) = (self.pulled.join("d"), self.stays.join("e"));
        let target = self.target();
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--json", &pulled, &stays];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.push(&target);
        let running = Running::start(inhaul(&args));
        if self.stays.join("e/large").exists() {
            // From now on nothing more comes of it, and its lane is in the midst of a file.
            let before = self.stays.counts().reads;
            wait_for("reads", || {
                (self.stays.counts().reads >= before + 6).then_some(())
            });
            self.stays.hang();
        }
        // Some of it is done by then, and some is not.
        let first = target.join("d/a-large");
        wait_for("the first file", || first.exists().then_some(()));
        harm(self, &running);
        running
    }

    /// Pulls the drive, and waits until nothing holds it: it goes, and what is mounted next is read
    /// anew.
    fn pull(&mut self, running: &Running) {
        self.let_die(running, 1);
        self.pulled.unmount();
        self.pulled.heal();
    }

    /// Lets the drive die, and waits until nothing holds it; it is gone so often by then.
    fn let_die(&self, running: &Running, times: usize) {
        self.pulled.die();
        is_gone(running, times);
        self.is_let_go(running);
    }

    fn is_let_go(&self, running: &Running) {
        let held = format!("/proc/{}/fd", running.pid().as_raw_nonzero());
        wait_for("the drive to be let go of", || {
            let open = std::fs::read_dir(&held).unwrap().flatten();
            let mut open = open.flat_map(|fd| std::fs::read_link(fd.path()));
            let is_held = open.any(|path| path.starts_with(self.pulled.path()));
            (!is_held).then_some(())
        });
    }

    /// Lets the drive hang until the run has nothing else to do, and heals it then. (What the kernel
    /// was asked for stays open, so its mount goes away later.)
    fn hang(&mut self, running: &Running) {
        self.pulled.hang();
        let healing = self.pulled.healing();
        until_told(running, "the other drives are through");
        drop(healing);
        self.pulled.unmount();
    }

    /// Checks that all is copied, and that this is what is said.
    fn check(&self, ran: &Ran) {
        assert_eq!(ran.code, 0, "{}{}", ran.out(), ran.err());
        let source = self.pulled_is_at();
        for name in ["a-large", "z-large", "z-linked", "small/004/000299"] {
            same_bytes(&source.join(name), &self.target().join("d").join(name));
        }
        let others = std::fs::read_dir(self.stays.join("e")).unwrap().count();
        b3sum_agrees(&self.target(), FILES + 1 + others);
        let report = report(&self.target());
        assert_eq!(report["problem_count"], 0, "{report}");
        assert_eq!(report["problems"], serde_json::json!([]));
        let lane = &report["lanes"][0];
        assert_eq!(lane["state"], "done", "{lane}");
        assert_eq!(lane["health"], "suspect", "{lane}");
        assert_eq!(lane["safe_to_release"], true, "{lane}");
        let totals = &lane["totals"];
        let files = [&totals["files"], &totals["kept"], &totals["others"]];
        assert_eq!(files, [FILES as u64, 0, 1], "each counts once: {totals}");
        let events = ran.events();
        let told = events.iter().filter(|it| it["type"] == "health");
        let told: Vec<&Value> = told.map(|it| &it["health"]).collect();
        assert_eq!(told.last().unwrap(), &"suspect", "{told:?}");
    }

    fn pulled_is_at(&self) -> PathBuf {
        let elsewhere = self.lab.join("elsewhere/d");
        if elsewhere.exists() {
            elsewhere
        } else {
            self.pulled.join("d")
        }
    }
}

#[test]
fn a_drive_that_is_put_back_is_gone_on_with() {
    if !can_mount("a_drive_that_is_put_back_is_gone_on_with") {
        return;
    }
    for verify in ["none", "both"] {
        let mut bench = Bench::new();
        let running = bench.start(&["--verify", verify]);
        let before = bench.pulled.counts().reads;
        bench.pulled.mount();
        let ran = running.finish();
        bench.check(&ran);
        assert!(bench.pulled.counts().reads > before);
        if verify == "both" {
            let evidence = &report(&bench.target())["lanes"][0]["evidence"];
            assert_eq!(evidence["source_read_twice"], FILES as u64 + 1);
        }
    }
}

#[test]
fn another_disk_in_its_place_is_never_taken() {
    if !can_mount("another_disk_in_its_place_is_never_taken") {
        return;
    }
    // Only the other one comes, and then the right one as well, at another place.
    for comes in [false, true] {
        let mut bench = Bench::new();
        let grace = if comes { "--grace=60s" } else { "--grace=2s" };
        let running = bench.start(&[grace]);
        let image = bench.lab.join("other.img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(72 << 20).unwrap();
        let place = bench.pulled.path().to_owned();
        let other = Mounted::make(&place, &image, Fs::Ext4, "noatime");
        paint(&other.join("d"), 100);
        if comes {
            bench.pulled.mount_at(&bench.lab.join("elsewhere"));
            let ran = running.finish();
            bench.check(&ran);
            continue;
        }
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        assert_eq!(report["problems"][0]["kind"], "source-lost");
        assert_eq!(report["lanes"][0]["health"], "gone");
        assert_eq!(report["lanes"][1]["safe_to_release"], true);
        let copy = bench.target().join("d/z-large");
        assert!(!copy.exists(), "it was read from another disk");
        drop(other);
    }
}

#[test]
fn a_drive_that_is_put_back_waits_for_no_other() {
    if !can_mount("a_drive_that_is_put_back_waits_for_no_other") {
        return;
    }
    for io in ["uring", "blocking"] {
        let mut bench = Bench::busy();
        let running = bench.start(&["--io", io, "--stall-timeout=0"]);
        let large = bench.target().join("e/large");
        bench.pulled.mount();
        let healing = bench.stays.healing();
        let last = ["d/z-large", "d/z-linked", "d/small/004/000299"];
        wait_for("all of it", || {
            let there = last.iter().all(|name| bench.target().join(name).exists());
            there.then_some(())
        });
        assert!(!large.exists(), "the other was not waited for");
        drop(healing);
        let ran = running.finish();
        bench.check(&ran);
        same_bytes(&bench.stays.join("e/large"), &large);
    }
}

#[test]
fn what_gives_nothing_is_not_the_drive_put_back() {
    if !can_mount("what_gives_nothing_is_not_the_drive_put_back") {
        return;
    }
    for busy in [false, true] {
        let mut bench = if busy { Bench::busy() } else { Bench::new() };
        let running = bench.start_with(&["--grace=60s", "--stall-timeout=0"], |bench, running| {
            bench.let_die(running, 1);
        });
        let healing = bench.stays.healing();
        // The dead drive is mounted there once more: the same file system, and it gives nothing.
        let point = bench.pulled.path().to_owned();
        assert!(quietly("mount", &[Path::new("--bind"), &point, &point]));
        is_gone(&running, 2);
        bench.is_let_go(&running);
        // Whoever looks for the drive may have it open just now.
        wait_for("the second mount to go", || {
            quietly("umount", &[&point]).then_some(())
        });
        bench.pulled.unmount();
        bench.pulled.heal();
        bench.pulled.mount();
        let last = bench.target().join("d/z-large");
        wait_for("the rest of it", || last.exists().then_some(()));
        drop(healing);
        let ran = running.finish();
        bench.check(&ran);
    }
}

#[test]
fn when_only_what_gives_nothing_comes_the_time_is_over_once() {
    if !can_mount("when_only_what_gives_nothing_comes_the_time_is_over_once") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start_with(&["--grace=4s"], |bench, running| bench.let_die(running, 1));
    let point = bench.pulled.path().to_owned();
    assert!(quietly("mount", &[Path::new("--bind"), &point, &point]));
    let ran = running.finish();
    quietly("umount", &[&point]);
    let ran = ran.expect(3);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 1, "{}", ran.out());
    assert_eq!(report["problems"][0]["kind"], "source-lost");
    assert_eq!(report["lanes"][0]["health"], "gone");
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    assert_eq!(report["lanes"][1]["safe_to_release"], true);
}

#[test]
fn what_failed_before_and_is_given_in_the_end_is_no_problem() {
    if !can_mount("what_failed_before_and_is_given_in_the_end_is_no_problem") {
        return;
    }
    let bench = Bench::new();
    let special = bench.pulled.join("d/small/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &special,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let mut bench = bench;
    bench.pulled.remount();
    bench.pulled.set_delay(Duration::from_millis(20));
    let stays = bench.stays.join("e");
    let (pulled, target) = (bench.pulled.join("d"), bench.target());
    let args: [&dyn AsRef<OsStr>; 5] = [&"copy", &"--json", &pulled, &stays, &target];
    let running = Running::start(inhaul(&args));
    let before = bench.pulled.counts().reads;
    // It is told of as soon as its file has been read.
    let first = bench.pulled.join("d/a-large");
    wait_for("reads", || {
        (bench.pulled.counts().reads >= before + 12).then_some(())
    });
    tree::set_time(&first, 1_200_000_000, 0);
    running.until("\"type\":\"problem\"");
    assert!(!target.join("d/a-large").exists());
    bench.pull(&running);
    bench.pulled.mount();
    let ran = running.finish();
    bench.check(&ran);
    let report = report(&target);
    assert_eq!(report["lanes"][0]["totals"]["problems"], 0);
    assert_eq!(report["skipped_count"], 1, "{}", report["skipped"]);
    assert!(!job(&target).join("problems.ndjson").exists());
    let ran = ran.says("told of hold no longer");
    drop(ran);
    // Nothing is left to do, and that is so.
    assert!(!target.join(".inhaul/current").exists());
}

#[test]
fn what_changed_while_its_drive_was_away_is_told_of_and_listed_as_it_is() {
    if !can_mount("what_changed_while_its_drive_was_away_is_told_of_and_listed_as_it_is") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start(&[]);
    let disk = bench.lab.join("pulled/fuse/disk");
    let change = "set_inode_field /d/a-large mtime 20200101000000";
    tool("debugfs", &["-w", "-R", change, disk.to_str().unwrap()]);
    bench.pulled.mount();
    let ran = running.finish().expect(4);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 1, "{}", ran.out());
    assert_eq!(report["problems"][0]["kind"], "source-changed");
    let lane = &report["lanes"][0];
    assert_eq!(lane["totals"]["files"], FILES as u64, "none twice: {lane}");
    assert_eq!(lane["safe_to_release"], false, "{lane}");
    b3sum_agrees(&bench.target(), FILES + 2);
    // The next run has nothing else to do.
    let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
    let target = bench.target();
    run(&[&"copy", &pulled, &stays, &target])
        .expect(0)
        .says("changed since an earlier run copied it");
    b3sum_agrees(&target, FILES + 2);
}

#[test]
fn what_failed_before_still_counts_once_when_it_fails_again() {
    if !can_mount("what_failed_before_still_counts_once_when_it_fails_again") {
        return;
    }
    let mut bench = Bench::new();
    // In the way of a file, and of a folder: both are told of in each round.
    std::fs::create_dir_all(bench.target().join("d/a-large")).unwrap();
    tree::text(&bench.target().join("d/small"), "in the way");
    let stays = bench.stays.join("e");
    let (pulled, target) = (bench.pulled.join("d"), bench.target());
    let args: [&dyn AsRef<OsStr>; 5] = [&"copy", &"--json", &pulled, &stays, &target];
    let before = bench.pulled.counts().reads;
    let running = Running::start(inhaul(&args));
    running.until("\"path\":\"");
    wait_for("reads", || {
        (bench.pulled.counts().reads >= before + 12).then_some(())
    });
    bench.pull(&running);
    bench.pulled.mount();
    let ran = running.finish().expect(3);
    let report = report(&target);
    assert_eq!(report["problem_count"], 2, "{}", ran.out());
    let kinds: Vec<&Value> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["kind"])
        .collect();
    assert_eq!(kinds, ["target-exists", "target-exists"]);
    assert_eq!(report["lanes"][0]["totals"]["problems"], 2);
    let list = std::fs::read_to_string(job(&target).join("problems.ndjson")).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");
    let files = &report["lanes"][0]["totals"]["files"];
    assert_eq!(*files, 1, "z-large; its other name is a link");
    same_bytes(&bench.pulled.join("d/z-large"), &target.join("d/z-large"));
}

#[test]
fn with_further_targets_it_is_gone_on_with_in_each() {
    if !can_mount("with_further_targets_it_is_gone_on_with_in_each") {
        return;
    }
    for is_full in [false, true] {
        let mut bench = Bench::new();
        // Of three things each of which has most of a target, no two are in one.
        tree::paint(&bench.stays.join("e/large"), 10, LARGE);
        let image = |name: &str, mib: u64| {
            let image = bench.lab.join(format!("{name}.img"));
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(mib << 20).unwrap();
            Mounted::make(&bench.lab.join(name), &image, Fs::Ext4, "noatime")
        };
        let targets = [image("first", 64), image("second", 128)];
        let spill = format!("--spill={}", targets[1].path().display());
        let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
        let first = targets[0].path().to_owned();
        let args: [&dyn AsRef<OsStr>; 6] = [&"copy", &"--json", &spill, &pulled, &stays, &first];
        bench.stays.set_delay(Duration::from_millis(5));
        let running = Running::start(inhaul(&args));
        if is_full {
            let next = targets[1].join(".inhaul");
            wait_for("the next target", || next.exists().then_some(()));
            let before = bench.pulled.counts().reads;
            wait_for("reads", || {
                (bench.pulled.counts().reads >= before + 8).then_some(())
            });
        } else {
            let before = bench.pulled.counts().reads;
            wait_for("reads", || {
                (bench.pulled.counts().reads >= before + 24).then_some(())
            });
        }
        bench.pull(&running);
        bench.pulled.mount();
        let ran = running.finish();
        assert_eq!(ran.code, 0, "{}{}", ran.out(), ran.err());
        let mut names = vec!["e/large".to_owned(), "e/file".to_owned()];
        names.extend(["a-large", "z-large", "z-linked"].map(|name| format!("d/{name}")));
        names.extend((0..FILES - 2).map(|n| format!("d/small/{:03}/{n:06}", n / 64)));
        let mut counts = [0, 0];
        for name in &names {
            let there: Vec<usize> = (0..2).filter(|&n| targets[n].join(name).exists()).collect();
            assert_eq!(there.len(), 1, "{name} is in {there:?}");
            let source = match name.strip_prefix("d/") {
                Some(name) => bench.pulled.join("d").join(name),
                None => bench.stays.join(name),
            };
            same_bytes(&source, &targets[there[0]].join(name));
            counts[there[0]] += 1;
        }
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        for (target, count) in targets.iter().zip(counts) {
            b3sum_agrees(target.path(), count);
        }
        let report = report(targets[1].path());
        assert_eq!(report["problem_count"], 0, "{report}");
        let totals = &report["lanes"][0]["totals"];
        let files = [&totals["files"], &totals["kept"], &totals["others"]];
        assert_eq!(files, [FILES as u64, 0, 1], "each counts once: {totals}");
        let is_well = |lane: &Value| lane["safe_to_release"] == true;
        assert!(report["lanes"].as_array().unwrap().iter().all(is_well));
    }
}

#[test]
fn what_cannot_be_gone_on_with_is_the_problem_of_its_drive_alone() {
    if !can_mount("what_cannot_be_gone_on_with_is_the_problem_of_its_drive_alone") {
        return;
    }
    for hangs in [false, true] {
        let mut bench = Bench::new();
        let options = ["--grace=12s", "--stall-timeout=1s"];
        let running = if hangs {
            bench.start_with(&options, Bench::hang)
        } else {
            bench.start(&options)
        };
        let _aside = Aside::put(&bench.target());
        bench.pulled.mount();
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        let problem = &report["problems"][0];
        let kind = if hangs {
            "source-stalled"
        } else {
            "source-lost"
        };
        assert_eq!(problem["kind"], kind);
        let reason = problem["reason"].as_str().unwrap();
        assert!(reason.contains("could not be gone on with"), "{reason}");
        let safe = [0, 1].map(|lane| report["lanes"][lane]["safe_to_release"] == true);
        assert_eq!(safe, [false, true], "{report}");
    }
}

#[test]
fn what_cannot_be_gone_on_with_yet_is_tried_again() {
    if !can_mount("what_cannot_be_gone_on_with_yet_is_tried_again") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start(&[]);
    let aside = Aside::put(&bench.target());
    bench.pulled.mount();
    until_told(&running, "cannot be gone on with yet");
    aside.put_back();
    bench.check(&running.finish());
}

#[test]
fn a_drive_that_hung_and_is_put_back_is_gone_on_with() {
    if !can_mount("a_drive_that_hung_and_is_put_back_is_gone_on_with") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start_with(&["--stall-timeout=1s"], Bench::hang);
    bench.pulled.mount();
    bench.check(&running.finish());
}

#[test]
fn a_mount_that_hangs_keeps_no_other_drive_from_being_found() {
    if !can_mount("a_mount_that_hangs_keeps_no_other_drive_from_being_found") {
        return;
    }
    let mut bench = Bench::new();
    let hung = Drive::new(&bench.lab.join("hung"), Fs::Ext4, 40);
    let running = bench.start(&["--grace=600s"]);
    // Whoever looks for the drive where it was is held until the other one is healed.
    let bound = Bound::new(&bench.lab.join("hung/fuse"), bench.pulled.path());
    hung.hang();
    let healing = hung.healing();
    std::thread::sleep(Duration::from_secs(1));
    bench.pulled.mount_at(&bench.lab.join("elsewhere"));
    let last = bench.target().join("d/z-large");
    wait_for("the rest of it", || last.exists().then_some(()));
    drop(healing);
    bench.check(&running.finish());
    drop(bound);
}

#[test]
fn what_fails_at_its_first_folder_is_not_the_drive_put_back() {
    if !can_mount("what_fails_at_its_first_folder_is_not_the_drive_put_back") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start(&["--grace=60s"]);
    running.signal(rustix::process::Signal::STOP);
    bench.pulled.mount();
    // Its root and the source are known to the kernel by then, and what is in them is not.
    std::fs::metadata(bench.pulled.join("d")).unwrap();
    bench.pulled.die();
    running.signal(rustix::process::Signal::CONT);
    until_told(&running, "it is back at");
    is_gone(&running, 2);
    bench.is_let_go(&running);
    wait_for("the dead mount to go", || {
        quietly("umount", &[bench.pulled.path()]).then_some(())
    });
    bench.pulled.unmount();
    bench.pulled.heal();
    bench.pulled.mount();
    bench.check(&running.finish());
}

#[test]
fn a_drive_that_lacks_bad_spots_alone_is_not_waited_for_when_it_is_back() {
    let test = "a_drive_that_lacks_bad_spots_alone_is_not_waited_for_when_it_is_back";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    for is_large in [true, false] {
        let mut bench = Bench::new();
        let bad = bench.pulled.join("d/bad");
        if !is_large {
            std::fs::remove_dir_all(bench.pulled.join("d")).unwrap();
            std::fs::create_dir(bench.pulled.join("d")).unwrap();
            for (seed, name) in (1..).zip(["a-large", "z-large"]) {
                tree::paint(&bench.pulled.join("d").join(name), seed, 3000);
            }
        }
        tree::paint(&bad, 7, 64 << 10);
        bench.pulled.remount();
        let from = place(&bad, 0);
        let spoil = |bench: &Bench| bench.pulled.fail_reads(from..from + (64 << 10));
        spoil(&bench);
        bench.pulled.set_delay(Duration::from_millis(20));
        let running = bench.start_with(&["--grace=6s"], |bench, running| {
            // It is looked at closer when everything else is copied.
            let there = ["z-large", "z-linked", "small/004/000299"];
            let there = if is_large { &there[..] } else { &there[..1] };
            wait_for("the rest of it", || {
                let there = there
                    .iter()
                    .all(|it| bench.target().join("d").join(it).exists());
                there.then_some(())
            });
            bench.pull(running);
        });
        spoil(&bench);
        bench.pulled.mount();
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        assert_eq!(report["problems"][0]["kind"], "source-read");
        assert_eq!(report["problems"][0]["unreadable"]["bytes"], 64 << 10);
        let lane = &report["lanes"][0];
        assert_eq!(lane["health"], "suspect", "{lane}");
        assert_eq!(lane["state"], "done", "{lane}");
        assert_eq!(report["lanes"][1]["safe_to_release"], true);
    }
}

#[test]
fn nothing_is_gone_on_with_before_what_was_read_is_acknowledged() {
    if !can_mount("nothing_is_gone_on_with_before_what_was_read_is_acknowledged") {
        return;
    }
    let mut bench = Bench::new();
    let under = Drive::new(&bench.lab.join("under"), Fs::Ext4, 128);
    let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
    let target = bench.target();
    let options: [&dyn AsRef<OsStr>; 3] = [&"copy", &"--json", &"--stall-timeout=0"];
    let places: [&dyn AsRef<OsStr>; 3] = [&pulled, &stays, &target];
    let running = Running::start(inhaul(&[options, places].concat()));
    // What is whole waits there for its batch to close.
    let staged = || -> usize {
        let jobs = std::fs::read_dir(target.join(".inhaul")).into_iter();
        let stages = jobs.flatten().flatten().map(|job| job.path().join("stage"));
        let writers =
            stages.flat_map(|stage| (0..4).map(move |n| stage.join(format!("writer-{n}"))));
        writers
            .flat_map(std::fs::read_dir)
            .map(Iterator::count)
            .sum()
    };
    wait_for("files", || (staged() >= 20).then_some(()));
    bench.pulled.die();
    is_gone(&running, 1);
    under.hang();
    let healing = under.healing();
    let are_on_their_way = staged() > 0;
    // (It is held until all of it is acknowledged, so its mount goes away later.)
    bench.pulled.unmount();
    bench.pulled.heal();
    bench.pulled.mount();
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let is_read = tasks.any(|task| name(task).is_ok_and(|name| name.trim() == "ready"));
        assert!(
            !(is_read && are_on_their_way),
            "its journal is read too early"
        );
    }
    drop(healing);
    bench.check(&running.finish());
}

#[test]
fn what_changed_since_an_earlier_run_counts_once() {
    if !can_mount("what_changed_since_an_earlier_run_counts_once") {
        return;
    }
    let mut bench = Bench::new();
    // In the way of a file, so that the first run has something left to do.
    std::fs::create_dir_all(bench.target().join("d/small/000/000000")).unwrap();
    let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
    let target = bench.target();
    let copy: [&dyn AsRef<OsStr>; 4] = [&"copy", &pulled, &stays, &target];
    run(&copy).expect(3);
    tree::paint(&pulled.join("a-large"), 20, LARGE);
    tree::set_mode(&pulled.join("a-large"), 0o4755);
    bench.pulled.remount();
    bench.pulled.set_delay(Duration::from_millis(20));
    let before = bench.pulled.counts().reads;
    let running = Running::start(inhaul(&[&"copy", &"--json", &pulled, &stays, &target]));
    wait_for("reads", || {
        (bench.pulled.counts().reads >= before + 24).then_some(())
    });
    bench.pull(&running);
    bench.pulled.mount();
    let ran = running.finish().expect(3);
    let totals = &report(&target)["lanes"][0]["totals"];
    assert_eq!(totals["changed"], 1, "{}", ran.out());
    assert_eq!(totals["files"], 1, "{totals}");
    assert_eq!(report(&target)["privileges_cleared"], 1);
    same_bytes(&pulled.join("a-large"), &target.join("d/a-large"));
}

#[test]
fn what_got_its_time_before_its_drive_was_pulled_counts_once() {
    let test = "what_got_its_time_before_its_drive_was_pulled_counts_once";
    if !can_mount(test) || !need_tools(test, &["strace"]) {
        return;
    }
    let mut bench = Bench::new();
    let (pulled, stays, target) = (
        bench.pulled.join("d"),
        bench.stays.join("e"),
        bench.target(),
    );
    tree::age(&pulled, 1_000_000_000);
    let copy: [&dyn AsRef<OsStr>; 5] = [&"copy", &"--json", &pulled, &stays, &target];
    let strace = "strace -f --seccomp-bpf -qq -o /dev/null -e trace=utimensat \
                  -e inject=utimensat:error=EPERM";
    let strace: Vec<&str> = strace.split_whitespace().collect();
    Running::start(under(&strace, &inhaul(&copy)))
        .finish()
        .expect(3);
    // In the midst of this one it is pulled.
    tree::paint(&pulled.join("zz-new"), 20, 14_000_000);
    bench.pulled.remount();
    bench.pulled.set_delay(Duration::from_millis(100));
    let running = Running::start(inhaul(&copy));
    let one = "d/small/000/000000";
    let aged = std::fs::metadata(bench.pulled.join(one)).unwrap();
    wait_for("times", || {
        let there = std::fs::metadata(target.join(one)).unwrap();
        (there.modified().unwrap() == aged.modified().unwrap()).then_some(())
    });
    let before = bench.pulled.counts().reads;
    wait_for("reads", || {
        (bench.pulled.counts().reads >= before + 4).then_some(())
    });
    bench.pull(&running);
    bench.pulled.mount();
    let ran = running.finish().expect(0);
    let report = report(&target);
    let lane = &report["lanes"][0];
    let totals = &lane["totals"];
    let files = [&totals["files"], &totals["kept"], &totals["others"]];
    assert_eq!(files, [1, FILES as u64 + 1, 0], "{}", ran.out());
    assert_eq!(lane["evidence"]["hashed"], FILES as u64 + 2, "{lane}");
}

#[test]
fn what_was_saved_of_a_file_that_is_given_whole_later_is_told_of() {
    let test = "what_was_saved_of_a_file_that_is_given_whole_later_is_told_of";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let mut bench = Bench::new();
    let bad = ["d/bad-one", "d/bad-two"].map(|name| bench.pulled.join(name));
    for path in &bad {
        tree::paint(path, 7, 64 << 10);
    }
    bench.pulled.remount();
    for path in &bad {
        let from = place(path, 0);
        bench.pulled.fail_reads(from..from + 4096);
    }
    bench.pulled.set_delay(Duration::from_millis(20));
    let mut saved = Vec::new();
    let running = bench.start_with(&["--salvage"], |bench, running| {
        // One of them is saved; the other one is still looked at.
        saved = wait_for("one of them", || {
            let names = ["d/bad-one.partial", "d/bad-two.partial"];
            let there = names
                .into_iter()
                .filter(|it| bench.target().join(it).exists());
            Some(there.collect::<Vec<_>>()).filter(|there| !there.is_empty())
        });
        bench.pull(running);
    });
    bench.pulled.mount();
    let ran = running.finish().expect(0);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 0, "{}", ran.out());
    let told = report["skipped"].as_array().unwrap();
    let mut told: Vec<&str> = told.iter().map(|it| it["path"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, saved);
    assert_eq!(report["skipped"][0]["kind"], "partial");
    for (path, name) in bad.iter().zip(["d/bad-one", "d/bad-two"]) {
        same_bytes(path, &bench.target().join(name));
    }
    // Whoever takes it away takes nothing from the proof.
    for name in saved {
        std::fs::remove_file(bench.target().join(name)).unwrap();
    }
    run(&[&"verify", &bench.target()]).expect(0);
}
