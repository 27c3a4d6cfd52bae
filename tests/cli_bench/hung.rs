//! Drives that do not answer: the others are measured, and what was found is printed.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::drive::{Drive, Heals};
use crate::support::lab::Lab;
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, inhaul, so_far};
use crate::support::{Scratch, can_mount, tool, wait_for};
use crate::{Device, check_measure, check_rate, filled};

/// A drive that is well, and one that is about to hang.
struct Pair {
    // In this order they go.
    sick: Drive,
    well: Device,
    _lab: Lab,
    _scratch: Scratch,
}

impl Pair {
    fn new(mib: u64) -> Self {
        let lab = Lab::new();
        let mut sick = Drive::new(&lab.join("drive"), Fs::Ext4, mib);
        filled(sick.path());
        sick.remount();
        let scratch = Scratch::new();
        Self {
            sick,
            well: Device::new(&scratch, "well", 12, &[]),
            _lab: lab,
            _scratch: scratch,
        }
    }

    fn start(&self, options: &[&str]) -> Running {
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"bench", &"--json", &"--progress", &"plain"];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        let sick = self.sick.path();
        args.push(&self.well.0);
        args.push(&sick);
        Running::start(inhaul(&args))
    }

    /// Lets the sick drive hang once this is said on standard error.
    fn hang_at(&self, running: &Running, what: &str) -> Heals<'_> {
        running.until_told(what);
        let healing = self.sick.healing();
        self.sick.hang();
        healing
    }
}

/// Returns what was printed while the drive still hangs, and how it ended: the kernel may hold the
/// process until the drive answers.
fn printed(running: Running, healing: Heals<'_>, code: i32) -> Value {
    let stdout = running.stdout_file();
    let text = wait_for("the report", || {
        let text = so_far(&stdout);
        text.ends_with(b"\n").then_some(text)
    });
    drop(healing);
    running.finish().expect(code);
    serde_json::from_slice(&text).unwrap()
}

/// Fails unless the second of two subjects did not answer, and is told of.
fn check_silent(report: &Value) {
    let silent = &report["subjects"][1];
    let error = silent["error"].as_str().unwrap();
    assert!(error.contains("does not answer"), "{error}");
    let verdicts = report["verdicts"].to_string();
    assert!(verdicts.contains("does not answer"), "{verdicts}");
    assert!(
        report["together"].is_null(),
        "it takes part in nothing more"
    );
}

#[test]
fn a_drive_that_hangs_keeps_none_from_being_measured() {
    let test = "a_drive_that_hangs_keeps_none_from_being_measured";
    if !can_mount(test) {
        return;
    }
    for io in ["uring", "blocking"] {
        let pair = Pair::new(72);
        pair.sick.set_delay(Duration::from_millis(5));
        let options = ["--seconds", "0.3", "--stall-timeout", "1s", "--io", io];
        let running = pair.start(&options);
        let healing = pair.hang_at(&running, "(2 of 2): looking");
        let report = printed(running, healing, 3);
        assert_eq!(report["complete"], true, "{io}");
        check_measure(&report["subjects"][0]["read"]);
        assert!(report["subjects"][0]["error"].is_null());
        check_silent(&report);
    }
}

#[test]
fn a_stop_while_a_drive_hangs_leaves_the_results_so_far() {
    let test = "a_stop_while_a_drive_hangs_leaves_the_results_so_far";
    if !can_mount(test) {
        return;
    }
    for io in ["uring", "blocking"] {
        let pair = Pair::new(72);
        pair.sick.set_delay(Duration::from_millis(5));
        // It would be waited for until the test gives up.
        let options = ["--seconds", "0.3", "--stall-timeout", "0", "--io", io];
        let running = pair.start(&options);
        let healing = pair.hang_at(&running, "(2 of 2): looking");
        // What it had begun to answer is through by then.
        std::thread::sleep(Duration::from_millis(500));
        running.signal(Signal::INT);
        let report = printed(running, healing, 75);
        assert_eq!(report["complete"], false, "{io}");
        check_measure(&report["subjects"][0]["read"]);
        // Without a limit nobody knows whether it would have answered.
        let stopped = &report["subjects"][1];
        assert!(stopped["error"].is_null(), "{stopped}");
        assert!(stopped["read"].is_null(), "{stopped}");
        let warnings = stopped["warnings"].to_string();
        assert!(
            warnings.contains("stopped before it had answered"),
            "{warnings}"
        );
        let verdicts = report["verdicts"].to_string();
        assert!(!verdicts.contains("does not answer"), "{verdicts}");
        assert!(report["together"].is_null(), "{report}");
    }
}

#[test]
fn a_drive_that_hangs_before_it_is_opened_keeps_none_from_being_measured() {
    let test = "a_drive_that_hangs_before_it_is_opened_keeps_none_from_being_measured";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new(72);
    // The inodes of its folders are asked of the drive again.
    tool("sh", &["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    let healing = pair.sick.healing();
    pair.sick.hang();
    let running = pair.start(&["--seconds", "0.1", "--stall-timeout", "1s"]);
    let report = printed(running, healing, 3);
    check_measure(&report["subjects"][0]["read"]);
    check_silent(&report);
    assert_eq!(report["subjects"][1]["kind"], "");

    // The same, stopped: nothing was measured yet.
    let healing = pair.sick.healing();
    tool("sh", &["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
    pair.sick.hang();
    let running = pair.start(&["--stall-timeout", "0"]);
    running.until_told(&format!("looking at {} and 1 more", pair.well.0));
    running.signal(Signal::INT);
    let report = printed(running, healing, 75);
    assert_eq!(report["complete"], false);
    assert_eq!(report["subjects"].as_array().unwrap().len(), 1);
}

/// A drive that is about to hang, two that are well, and a target for all of them.
struct Shelf {
    // In this order they go.
    sick: Drive,
    well: [Device; 2],
    target: Mounted,
    _lab: Lab,
    _scratch: Scratch,
}

impl Shelf {
    fn new(fs: Fs) -> Self {
        let lab = Lab::new();
        let mib = if fs == Fs::Btrfs { 160 } else { 72 };
        let mut sick = Drive::new(&lab.join("drive"), fs, mib);
        filled(sick.path());
        sick.remount();
        let scratch = Scratch::new();
        Self {
            sick,
            well: ["one", "two"].map(|name| Device::new(&scratch, name, 12, &[])),
            target: Mounted::image(&scratch, "target", Fs::Ext4, 220),
            _lab: lab,
            _scratch: scratch,
        }
    }

    /// Returns the names of the drives that are well.
    fn well(&self) -> [&str; 2] {
        self.well.each_ref().map(Device::name)
    }

    fn start(&self, io: &str, scratch: &str) -> Running {
        let sick = self.sick.path();
        let paths: [&dyn AsRef<OsStr>; 3] = [&sick, &self.well[0].0, &self.well[1].0];
        start(io, scratch, self.target.path(), &paths)
    }

    /// Lets the sick drive hang once this is said on standard error.
    fn hang_at(&self, running: &Running, what: &str) -> Heals<'_> {
        running.until_told(what);
        let healing = self.sick.healing();
        self.sick.hang();
        healing
    }
}

/// Starts a bench of these into a target, with so much to write.
fn start(io: &str, scratch: &str, target: &Path, paths: &[&dyn AsRef<OsStr>]) -> Running {
    let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"bench", &"--json", &"--progress", &"plain"];
    args.extend::<[&dyn AsRef<OsStr>; 4]>([&"--seconds", &"0.3", &"--stall-timeout", &"1s"]);
    args.extend::<[&dyn AsRef<OsStr>; 4]>([&"--io", &io, &"--scratch", &scratch]);
    args.extend::<[&dyn AsRef<OsStr>; 2]>([&"--target", &target]);
    args.extend(paths);
    Running::start(inhaul(&args))
}

/// Returns the names in a list.
fn names(list: &Value) -> Vec<&str> {
    let names = list.as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn a_drive_that_hangs_when_all_are_read_takes_nothing_from_the_others() {
    let test = "a_drive_that_hangs_when_all_are_read_takes_nothing_from_the_others";
    if !can_mount(test) {
        return;
    }
    for io in ["uring", "blocking"] {
        let shelf = Shelf::new(Fs::Ext4);
        let running = shelf.start(io, "16MiB");
        let healing = shelf.hang_at(&running, "1 of 3 drives at once");
        let report = printed(running, healing, 3);
        assert_eq!(report["complete"], true, "{io}");
        let name = report["subjects"][0]["name"].as_str().unwrap();
        check_measure(&report["subjects"][0]["read"]);
        let (together, pair) = (&report["together"], &report["pair"]);
        assert_eq!(names(&together["error_subjects"]), [name], "{together}");
        let error = together["error"].as_str().unwrap();
        assert!(error.contains("does not answer"), "{error}");
        let both = shelf.well();
        let steps = together["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 2, "{together}");
        assert_eq!(names(&steps[0]["subjects"]), both[..1]);
        assert_eq!(names(&steps[1]["subjects"]), both);
        let verdicts = report["verdicts"].to_string();
        assert!(
            verdicts.contains("; 2 others were read at once without it"),
            "{verdicts}"
        );
        assert_eq!(names(&pair["subjects"]), both);
        assert!(pair["error"].is_null(), "{pair}");
        check_rate(&pair["hashed"]);
        check_rate(&pair["unhashed"]);
    }
}

#[test]
fn a_drive_that_hangs_while_all_are_copied_is_left_out_of_the_pair() {
    let test = "a_drive_that_hangs_while_all_are_copied_is_left_out_of_the_pair";
    if !can_mount(test) {
        return;
    }
    // One whose files are read past the page cache, and one whose files are dropped from it each time.
    for (io, fs) in [("uring", Fs::Ext4), ("blocking", Fs::Btrfs)] {
        let shelf = Shelf::new(fs);
        let running = shelf.start(io, "64MiB");
        let healing = shelf.hang_at(&running, "all sources into the target, hashed");
        let report = printed(running, healing, 3);
        assert_eq!(report["complete"], true, "{io}");
        let name = report["subjects"][0]["name"].as_str().unwrap();
        let pair = &report["pair"];
        assert_eq!(names(&pair["error_subjects"]), [name], "{pair}");
        let error = pair["error"].as_str().unwrap();
        assert!(error.contains("does not answer"), "{error}");
        assert_eq!(names(&pair["subjects"]), shelf.well());
        check_rate(&pair["hashed"]);
        check_rate(&pair["unhashed"]);
        let at = shelf.target.path().display();
        let sentence = format!("{name} failed while copied into {at}: ");
        let verdicts = report["verdicts"].to_string();
        assert!(verdicts.contains(&sentence), "{verdicts}");
        // What it gave before stays.
        check_measure(&report["subjects"][0]["read"]);
        assert_eq!(report["together"]["steps"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_target_that_hangs_is_blamed_on_no_drive() {
    let test = "a_target_that_hangs_is_blamed_on_no_drive";
    if !can_mount(test) {
        return;
    }
    for io in ["uring", "blocking"] {
        let lab = Lab::new();
        let target = Drive::new(&lab.join("drive"), Fs::Ext4, 220);
        let scratch = Scratch::new();
        let well = ["one", "two"].map(|name| Device::new(&scratch, name, 12, &[]));
        let running = start(io, "16MiB", target.path(), &[&well[0].0, &well[1].0]);
        running.until_told("all sources into the target, hashed");
        let healing = target.healing();
        target.hang();
        let report = printed(running, healing, 3);
        assert_eq!(report["complete"], true, "{io}");
        check_rate(&report["together"]["steps"][1]);
        let pair = &report["pair"];
        check_measure(&pair["write"]);
        let error = pair["error"].as_str().unwrap();
        assert!(error.contains("does not answer"), "{error}");
        let at = target.path().to_str().unwrap();
        assert!(error.starts_with(at), "{error}");
        assert_eq!(names(&pair["error_subjects"]), [""; 0], "{pair}");
        let verdicts = report["verdicts"].to_string();
        let sentence = format!("copying into {at} failed: ");
        assert!(verdicts.contains(&sentence), "{verdicts}");
        assert!(pair["hashed"].is_null(), "{pair}");
    }
}

#[test]
fn a_drive_that_hangs_while_it_is_written_to_keeps_what_it_gave() {
    let test = "a_drive_that_hangs_while_it_is_written_to_keeps_what_it_gave";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new(220);
    let options = [
        "--seconds",
        "0.1",
        "--stall-timeout",
        "1s",
        "--write",
        "--scratch",
        "16MiB",
    ];
    let running = pair.start(&options);
    let healing = pair.hang_at(&running, "(2 of 2): writing");
    let report = printed(running, healing, 3);
    check_measure(&report["subjects"][0]["read"]);
    check_measure(&report["subjects"][1]["read"]);
    assert!(report["subjects"][1]["write"].is_null());
    check_silent(&report);
}
