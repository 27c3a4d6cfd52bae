//! What can happen to the process itself: the kernel kills it for want of memory, whoever reads what
//! it says goes away, and what it says has no room any more.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use support::cgroup::Group;
use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Running, inhaul, report, run};
use support::{Scratch, can_mount, need_root, need_tools, tool, tree, wait_for};

const MIB: u64 = 1 << 20;
const FILES: usize = 42;

/// Fills a source whose copy takes seconds when its rate has a limit.
fn fill(source: &Path) {
    tree::many_small(&source.join("a-small"), 1, 40);
    tree::paint(&source.join("b-large"), 2, 30 * MIB + 17);
    tree::paint(&source.join("c-last"), 3, 15 * MIB);
    tree::age(source, 1_000_000_000);
}

#[test]
fn a_copy_that_is_killed_for_its_memory_is_gone_on_with() {
    let test = "a_copy_that_is_killed_for_its_memory_is_gone_on_with";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 256);
    for io in ["uring", "blocking"] {
        let Some(group) = Group::memory(test, 160 * MIB) else {
            return;
        };
        let place = target.join(io);
        let slowly = "--bwlimit=10MB";
        let mut command = inhaul(&[&"copy", &"--io", &io, &slowly, &source, &place]);
        command.env("INHAUL_TEST_SYNC_BLOCKS", "2");
        command.env("INHAUL_TEST_BATCH_FILES", "4");
        let copy = Running::start(group.command(&command));
        wait_for("a file", || {
            (place.exists() && files(&walk(&place)) > 0).then_some(())
        });
        // Whoever takes all the memory of the group, the copy is what the kernel ends first.
        let pid = copy.pid().as_raw_nonzero();
        std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").unwrap();
        let mut hog = Command::new("tail");
        hog.arg("/dev/zero");
        let hog = Running::start(group.command(&hog));
        let ran = copy.finish();
        assert_eq!(ran.code, 128 + 9, "{io}: {}", ran.err());
        drop(hog);
        assert!(group.killed_for_memory() >= 1, "{io}");
        let whole = files(&walk(&place));
        assert!((1..FILES).contains(&whole), "{io}: {whole}");

        let ran = run(&[&"copy", &"--io", &io, &source, &place]).expect(0);
        rsync_agrees(&source, &place.join("source"));
        b3sum_agrees(&place, FILES);
        // Not from the beginning.
        let kept = report(&place)["totals"]["kept_bytes"].as_u64();
        assert!(kept > Some(0), "{io}: {}", ran.out());
    }
}

/// Fails unless everything is in the target, and its report says so.
#[track_caller]
fn check_done(source: &Path, target: &Path) {
    rsync_agrees(source, &target.join("source"));
    b3sum_agrees(target, FILES);
    let report = report(target);
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["totals"]["files"], FILES);
}

#[test]
fn a_copy_whose_readers_go_away_goes_on() {
    let test = "a_copy_whose_readers_go_away_goes_on";
    if !need_tools(test, &["rsync", "b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    // What is left out is told of line by line.
    let other = scratch.dir("z-other");
    tool("mkfifo", &[other.join("fifo")]);
    for options in [&["--json"][..], &[], &["-v"]] {
        let target = scratch.join(format!("target{}", options.concat()));
        let mut command = inhaul(&[&"copy", &"--bwlimit=15MB", &source, &other, &target]);
        command.args(options).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        if options == ["--json"] {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(line.contains("\"start\""), "{line}");
            stdout.read_line(&mut line).unwrap();
        }
        wait_for("the copy to begin", || {
            target.join(".inhaul/current").exists().then_some(())
        });
        drop(stdout);
        drop(child.stderr.take());
        assert!(child.try_wait().unwrap().is_none(), "it is over too soon");
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{options:?}");
        check_done(&source, &target);
    }
}

/// Fills a file until not even a byte has room behind it.
fn fill_up(log: &mut File) {
    let mut piece = &[0; 8192][..];
    while !piece.is_empty() {
        match log.write(piece) {
            Ok(0) => panic!("nothing is written, and that is no error"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                piece = &piece[..piece.len() / 2];
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_log_ends_no_copy() {
    let test = "a_full_log_ends_no_copy";
    if !can_mount(test) || !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    fill(&source);
    let logs = Mounted::image(&scratch, "logs", Fs::Ext4, 16);
    for options in [&["--json"][..], &[], &["-v"]] {
        for is_device in [true, false] {
            let mut log = if is_device {
                File::options().write(true).open("/dev/full").unwrap()
            } else {
                File::create(logs.join("log")).unwrap()
            };
            let target = scratch.join(format!("{is_device}{}", options.concat()));
            let mut command = inhaul(&[&"copy", &source, &target]);
            command.args(options).stdin(Stdio::null());
            if !is_device {
                fill_up(&mut log);
            }
            command
                .stdout(log.try_clone().unwrap())
                .stderr(log.try_clone().unwrap());
            let status = command.status().unwrap();
            assert_eq!(status.code(), Some(0), "{options:?} {is_device}");
            check_done(&source, &target);
        }
    }
}
