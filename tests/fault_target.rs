//! A target that does not answer: it is told, nothing else is blamed for it, and nothing is lost.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use drive::{Drive, Fate};
use rustix::process::Signal;
use serde_json::Value;
use support::judge::{b3sum_agrees, same_bytes};
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Ran, Running, inhaul, report, so_far};
use support::{can_mount, tree, wait_for};

const LARGE: u64 = 24_000_000;
/// What a source holds: a large file and small ones.
const FILES: usize = 101;

/// Two sources, and a target on a drive of its own.
struct Bench {
    // In this order they go.
    target: Drive,
    lab: Lab,
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        for name in ["s1", "s2"] {
            let dir = lab.dir(name);
            tree::paint(&dir.join("large"), 1, LARGE);
            tree::many_small(&dir.join("small"), 2, FILES - 1);
        }
        let target = Drive::new(&lab.join("target"), Fs::Ext4, 160);
        target.set_delay(Duration::from_millis(20));
        Self { target, lab }
    }

    fn target(&self) -> PathBuf {
        self.target.join("in")
    }

    fn start(&self, io: &str) -> Running {
        Running::start(self.command(io))
    }

    fn command(&self, io: &str) -> Command {
        let sources = ["s1", "s2"].map(|name| self.lab.join(name));
        let args: [&dyn AsRef<OsStr>; 8] = [
            &"copy",
            &"--json",
            &"--stall-timeout=1s",
            &"--io",
            &io,
            &sources[0],
            &sources[1],
            &self.target(),
        ];
        inhaul(&args)
    }

    /// Starts a copy during which the target hangs with the first write behind a named point, for as long
    /// as what comes second lives.
    fn start_and_hang(&self, point: &'static str) -> (Running, Hanging) {
        self.target.set_delay(Duration::ZERO);
        let trace = self.lab.join("trace");
        let mut command = self.command("auto");
        command.env("INHAUL_TEST_TRACE", &trace);
        let hangs = Arc::new(AtomicBool::new(true));
        let hanging = Hanging(Arc::clone(&hangs));
        self.target.judge_writes(move |_| {
            let is_past = || {
                let passed = std::fs::read_to_string(&trace).unwrap_or_default();
                passed.lines().any(|line| line == point)
            };
            while hangs.load(Relaxed) && is_past() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Fate::Stored
        });
        (Running::start(command), hanging)
    }

    /// Waits until the target has been written for a while.
    fn wait_until_written(&self) {
        let before = self.target.counts().writes;
        wait_for("writes", || {
            (self.target.counts().writes >= before + 30).then_some(())
        });
    }

    fn check(&self) {
        for name in ["s1", "s2"] {
            let [source, copy] = [self.lab.join(name), self.target().join(name)];
            same_bytes(&source.join("large"), &copy.join("large"));
        }
        b3sum_agrees(&self.target(), 2 * FILES);
    }
}

/// Ends a hang when it goes.
struct Hanging(Arc<AtomicBool>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn waits(io: &str) {
    let bench = Bench::new();
    let running = bench.start(io);
    bench.wait_until_written();
    bench.target.hang();
    let healing = bench.target.healing();
    running.until("\"drive\":\"target\"");
    // Longer than any source drive may be silent.
    std::thread::sleep(Duration::from_secs(8));
    drop(healing);
    check_told(&running.finish().expect(0), &bench);
}

/// Fails unless a run told of its target, that it hangs and that it answers again, and of nothing else.
#[track_caller]
fn check_told(ran: &Ran, bench: &Bench) {
    let events = ran.events();
    let told: Vec<&Value> = events.iter().filter(|it| it["type"] == "health").collect();
    assert!(told.iter().all(|it| it["drive"] == "target"), "{told:?}");
    assert_eq!(told[0]["health"], "suspect", "{told:?}");
    assert_eq!(told.last().unwrap()["health"], "ok", "{told:?}");
    let report = report(&bench.target());
    let is_well = |lane: &Value| lane["health"] == "ok" && lane["safe_to_release"] == true;
    assert!(report["lanes"].as_array().unwrap().iter().all(is_well));
    bench.check();
}

#[test]
fn a_target_that_hangs_is_waited_for_and_no_source_is_blamed() {
    if !can_mount("a_target_that_hangs_is_waited_for_and_no_source_is_blamed") {
        return;
    }
    std::thread::scope(|scope| {
        for io in ["uring", "blocking"] {
            scope.spawn(move || waits(io));
        }
    });
}

/// Stops a run whose target hangs, and waits until all has ended but what the kernel holds.
fn stop_twice(running: &Running) {
    running.signal(Signal::INT);
    let stderr = running.stderr_file();
    wait_for("the answer to a signal", || {
        let so_far = String::from_utf8_lossy(&so_far(&stderr)).into_owned();
        so_far
            .contains("a second signal stops at once")
            .then_some(())
    });
    running.signal(Signal::INT);
    // The process has ended but for threads that the kernel holds: they are let go with an answer.
    wait_for("the end of its threads", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid().as_raw_nonzero()));
        let is_held = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
            matches!(state, Some('D' | 'Z' | 'X') | None)
        };
        let mut tasks = tasks.into_iter().flatten().flatten();
        tasks.all(is_held).then_some(())
    });
}

/// What is done when all is copied, up to the very end.
#[test]
fn a_target_that_hangs_while_a_run_ends_is_told_of_and_waited_for() {
    let test = "a_target_that_hangs_while_a_run_ends_is_told_of_and_waited_for";
    if !can_mount(test) {
        return;
    }
    for point in [
        "lanes-ended",
        "manifest-writing",
        "manifest-written",
        "end-recorded",
        "report-written",
        "latest-set",
    ] {
        let bench = Bench::new();
        let (running, hanging) = bench.start_and_hang(point);
        running.until("\"drive\":\"target\"");
        drop(hanging);
        check_told(&running.finish().expect(0), &bench);
    }
}

/// Verifies a copy of a few files, which are one batch, to a target whose reads fail from the point
/// `fails` on, and hang from the point `hangs` on.
fn hangs_while_read_back(fails: &'static str, hangs: &'static str) {
    let lab = Lab::new();
    let source = lab.dir("source");
    for (seed, name) in (1..).zip(["one", "two", "three"]) {
        tree::paint(&source.join(name), seed, 3_000_000);
    }
    let target = Drive::new(&lab.join("target"), Fs::Ext4, 96);
    let trace = lab.join("trace");
    let copy = target.join("in");
    let args: [&dyn AsRef<OsStr>; 6] = [
        &"copy",
        &"--json",
        &"--stall-timeout=1s",
        &"--verify=target",
        &source,
        &copy,
    ];
    let mut command = inhaul(&args);
    command.env("INHAUL_TEST_TRACE", &trace);
    let is_hung = Arc::new(AtomicBool::new(true));
    let hanging = Hanging(Arc::clone(&is_hung));
    let met = Arc::new(AtomicBool::new(false));
    let has_hung = Arc::clone(&met);
    target.judge_reads(move || {
        let is_past = |point: &str| {
            let passed = std::fs::read_to_string(&trace).unwrap_or_default();
            passed.lines().any(|line| line == point)
        };
        while is_hung.load(Relaxed) && is_past(hangs) {
            has_hung.store(true, Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        is_past(fails) && !is_past(hangs)
    });
    let running = Running::start(command);
    running.until("\"drive\":\"target\"");
    assert!(met.load(Relaxed), "no read was asked for");
    drop(hanging);
    let ran = running.finish().expect(0);
    let events = ran.events();
    let told: Vec<&Value> = events.iter().filter(|it| it["type"] == "health").collect();
    assert!(told.iter().all(|it| it["drive"] == "target"), "{told:?}");
    assert_eq!(told.last().unwrap()["health"], "ok", "{told:?}");
    b3sum_agrees(&copy, 3);
}

#[test]
fn a_target_that_hangs_while_it_is_read_back_is_told_of() {
    let test = "a_target_that_hangs_while_it_is_read_back_is_told_of";
    if !can_mount(test) {
        return;
    }
    // By the lane that reads back; and by a look at each file that gave it errors.
    hangs_while_read_back("acknowledged", "acknowledged");
    hangs_while_read_back("acknowledged", "lanes-ended");
}

#[test]
fn a_stop_while_the_target_hangs_at_the_end_loses_nothing() {
    let test = "a_stop_while_the_target_hangs_at_the_end_loses_nothing";
    if !can_mount(test) {
        return;
    }
    let bench = Bench::new();
    let (running, hanging) = bench.start_and_hang("manifest-written");
    running.until("\"drive\":\"target\"");
    stop_twice(&running);
    drop(hanging);
    running.finish().expect(130);
    bench.start("auto").finish().expect(0);
    bench.check();
}

#[test]
fn a_stop_while_the_target_hangs_loses_nothing() {
    if !can_mount("a_stop_while_the_target_hangs_loses_nothing") {
        return;
    }
    let bench = Bench::new();
    let running = bench.start("auto");
    bench.wait_until_written();
    bench.target.hang();
    let healing = bench.target.healing();
    running.until("\"drive\":\"target\"");
    stop_twice(&running);
    drop(healing);
    running.finish().expect(130);
    bench.target.heal();
    bench.start("auto").finish().expect(0);
    bench.check();
}
