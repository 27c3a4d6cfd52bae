//! What is counted and told of a drive that went and came back: each thing once, and as it is.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, FILES, LARGE};
use crate::support::extents::place;
use crate::support::judge::{b3sum_agrees, same_bytes};
use crate::support::program::{Running, inhaul, job, report, run, under};
use crate::support::{can_mount, need_tools, tool, tree, wait_for};

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
        // Looked at for longer than it takes until the other one is acknowledged.
        bench.pulled.fail_reads(from..from + 16_384);
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
