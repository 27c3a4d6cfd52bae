//! Drives that do not answer: the others are measured, and what was found is printed.

use std::ffi::OsStr;
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
        until_told(running, what);
        let healing = self.sick.healing();
        self.sick.hang();
        healing
    }
}

fn until_told(running: &Running, what: &str) {
    let told = running.stderr_file();
    wait_for(what, || {
        let text = String::from_utf8_lossy(&so_far(&told)).into_owned();
        text.contains(what).then_some(())
    });
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
    until_told(
        &running,
        &format!("looking at {} and 1 more", pair.well.0),
    );
    running.signal(Signal::INT);
    let report = printed(running, healing, 75);
    assert_eq!(report["complete"], false);
    assert_eq!(report["subjects"].as_array().unwrap().len(), 1);
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
        let lab = Lab::new();
        let mut sick = Drive::new(&lab.join("drive"), Fs::Ext4, 72);
        filled(sick.path());
        sick.remount();
        let scratch = Scratch::new();
        let well = ["one", "two"].map(|name| Device::new(&scratch, name, 12, &[]));
        let target = Mounted::image(&scratch, "target", Fs::Ext4, 120);
        let running = Running::start(inhaul(&[
            &"bench",
            &"--json",
            &"--progress",
            &"plain",
            &"--seconds",
            &"0.3",
            &"--stall-timeout",
            &"1s",
            &"--scratch",
            &"16MiB",
            &"--io",
            &io,
            &"--target",
            &target.path(),
            &sick.path(),
            &well[0].0,
            &well[1].0,
        ]));
        until_told(&running, "1 of 3 drives at once");
        let healing = sick.healing();
        sick.hang();
        let report = printed(running, healing, 3);
        assert_eq!(report["complete"], true, "{io}");
        let name = report["subjects"][0]["name"].as_str().unwrap();
        check_measure(&report["subjects"][0]["read"]);
        let (together, pair) = (&report["together"], &report["pair"]);
        assert_eq!(names(&together["error_subjects"]), [name], "{together}");
        let error = together["error"].as_str().unwrap();
        assert!(error.contains("does not answer"), "{error}");
        let both = well.each_ref().map(Device::name);
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
        let running = Running::start(inhaul(&[
            &"bench",
            &"--json",
            &"--progress",
            &"plain",
            &"--seconds",
            &"0.3",
            &"--stall-timeout",
            &"1s",
            &"--scratch",
            &"16MiB",
            &"--io",
            &io,
            &"--target",
            &target.path(),
            &well[0].0,
            &well[1].0,
        ]));
        until_told(&running, "all sources into the target, hashed");
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
