//! Copies that may have few files open, from the beginning or from some moment on: each ends, says
//! what it lacks, and gives no final name to wrong bytes; with more files the same command goes on.
//!
//! - `INHAUL_TEST_SWEEP=all` tries every limit, instead of each fifth.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::Path;

use rustix::process::{Resource, Rlimit, prlimit};
use support::judge::{files, rsync_agrees, walk};
use support::program::{Ran, Running, inhaul, report, run, under};
use support::{Scratch, need_root, need_tools, tree, wait_for};

/// Files of the source: small ones, large ones, deep ones, and a second name.
const FILES: usize = 100 + 6 + 12 + 1;

fn fill(source: &Path) {
    tree::many_small(&source.join("small"), 1, 100);
    for index in 0..6 {
        tree::paint(&source.join(format!("large{index}")), index, 3_000_000);
    }
    // More folders than could be held open.
    let mut dir = source.join("deep");
    for index in 0..12 {
        dir.push(format!("{index}"));
        std::fs::create_dir_all(&dir).unwrap();
        tree::paint(&dir.join("file"), index, 2000);
    }
    std::fs::hard_link(source.join("large0"), source.join("deep/linked")).unwrap();
    std::os::unix::fs::symlink("large0", source.join("deep/link")).unwrap();
    tree::age(source, 1_000_000_000);
}

/// Fails if a file of the copy is not the one in the source; returns how many there are.
#[track_caller]
fn check(source: &Path, copy: &Path) -> usize {
    if !copy.exists() {
        return 0;
    }
    let (originals, copies) = (walk(source), walk(copy));
    for (path, node) in copies.iter().filter(|(_, node)| node.kind == "file") {
        let original = originals.get(path).map(|node| &node.content);
        assert_eq!(original, Some(&node.content), "{}", path.escape_ascii());
    }
    files(&copies)
}

/// Fails unless a run that had too few files says so, and how it ended.
#[track_caller]
fn check_told(ran: &Ran, what: &str) {
    let text = ran.out() + &ran.err();
    assert!([1, 2, 3, 6].contains(&ran.code), "{what}: {}", ran.code);
    let told = text.contains("ulimit -n") || text.contains("NOFILE");
    assert!(told, "{what}: {}: {text}", ran.code);
    assert!(!text.contains("panicked"), "{what}: {text}");
    // Nothing is copied as if it had no attributes because it cannot be opened at the moment.
    assert!(!text.contains("copied, but without"), "{what}: {text}");
}

/// Fails unless the same command, with more files, copies the rest after a run that had too few.
#[track_caller]
fn check_goes_on(source: &Path, target: &Path) {
    run(&[&"copy", &source, &target]).expect(0);
    assert_eq!(check(source, &target.join("source")), FILES);
    rsync_agrees(source, &target.join("source"));
}

/// Returns limits from what the program can just be loaded with to more than it takes.
fn limits() -> Vec<u64> {
    let all = std::env::var_os("INHAUL_TEST_SWEEP").is_some();
    let step = if all { 1 } else { 5 };
    (4..130).step_by(step).collect()
}

#[test]
fn with_few_files_from_the_beginning_nothing_is_wrong_and_it_is_told() {
    let test = "with_few_files_from_the_beginning_nothing_is_wrong_and_it_is_told";
    if !need_tools(test, &["prlimit", "rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    let mut ends = Vec::new();
    for io in ["uring", "blocking"] {
        for limit in limits() {
            let what = format!("{io} with {limit}");
            let target = scratch.join(&what);
            let command = inhaul(&[&"copy", &"--io", &io, &source, &target]);
            let limited = under(&["prlimit", &format!("--nofile={limit}:{limit}")], &command);
            let ran = Running::start(limited).finish();
            let there = check(&source, &target.join("source"));
            ends.push(ran.code);
            if ran.code == 0 {
                rsync_agrees(&source, &target.join("source"));
                continue;
            }
            check_told(&ran, &what);
            assert!(there < FILES, "{what}: {}", ran.err());
            check_goes_on(&source, &target);
        }
    }
    // Some had enough, and some had not.
    assert!(ends.contains(&0) && ends.iter().any(|&code| code != 0));
}

#[test]
fn with_few_files_from_some_moment_on_nothing_is_wrong_and_it_is_told() {
    let test = "with_few_files_from_some_moment_on_nothing_is_wrong_and_it_is_told";
    if !need_root(test) || !need_tools(test, &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    for io in ["uring", "blocking"] {
        for limit in [0, 20, 40] {
            let what = format!("{io} with {limit}");
            let target = scratch.join(&what);
            let slowly = "--bwlimit=8MB";
            let mut command = inhaul(&[&"copy", &"--io", &io, &slowly, &source, &target]);
            command.env("INHAUL_TEST_BATCH_FILES", "4");
            let running = Running::start(command);
            wait_for("some files", || {
                (target.exists() && files(&walk(&target)) >= 4).then_some(())
            });
            let few = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            prlimit(Some(running.pid()), Resource::Nofile, few).unwrap();
            let ran = running.finish();
            let there = check(&source, &target.join("source"));
            if ran.code == 0 {
                rsync_agrees(&source, &target.join("source"));
                continue;
            }
            check_told(&ran, &what);
            assert!((4..FILES).contains(&there), "{what}: {there}");
            if ran.code == 3 {
                let report = report(&target);
                assert_eq!(report["lanes"][0]["safe_to_release"], false, "{what}");
            }
            check_goes_on(&source, &target);
        }
    }
}
