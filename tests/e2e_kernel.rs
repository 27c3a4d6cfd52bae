//! Kernels that refuse the ring, and system calls that fail.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use support::failing::{ready, run_failing, source};
use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Running, inhaul, powerless, report, run, under};
use support::{Scratch, can_mount, tree};

#[test]
fn auto_goes_on_without_the_ring_and_says_so() {
    if !ready("auto_goes_on_without_the_ring_and_says_so") {
        return;
    }
    for error in ["ENOSYS", "EPERM", "ENOMEM"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let inject = format!("io_uring_setup:error={error}");
        let ran = run_failing(&inject, &scratch, &[&"copy", &source, &target]).expect(0);
        let told = ran.err();
        let notes: Vec<&str> = told
            .lines()
            .filter(|line| line.contains("io_uring"))
            .collect();
        assert_eq!(notes.len(), 1, "{error}: {told}");
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
        assert_eq!(report(&target)["lanes"][0]["io"], "blocking");
    }
}

#[test]
fn asking_for_the_ring_by_name_fails_clearly_without_it() {
    if !ready("asking_for_the_ring_by_name_fails_clearly_without_it") {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    let inject = "io_uring_setup:error=ENOSYS";
    let args: [&dyn AsRef<std::ffi::OsStr>; 5] = [&"copy", &"--io", &"uring", &source, &target];
    let ran = run_failing(inject, &scratch, &args).expect(2);
    assert!(ran.err().contains("io_uring"), "{}", ran.err());
    assert!(!target.exists());
}

#[test]
fn buffers_that_cannot_be_registered_are_used_without() {
    if !ready("buffers_that_cannot_be_registered_are_used_without") {
        return;
    }
    for (io, inject) in [
        ("auto", "io_uring_register:error=ENOMEM"),
        ("uring", "mlock:error=EPERM"),
    ] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        run_failing(inject, &scratch, &[&"copy", &"--io", &io, &source, &target]).expect(0);
        rsync_agrees(&source, &target.join("source"));
    }
    // The limit that ordinary users have, and none at all.
    for limit in ["--memlock=8388608", "--memlock=0"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let command = powerless(&inhaul(&[&"copy", &source, &target]));
        Running::start(under(&["prlimit", limit], &command))
            .finish()
            .expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
    }
}

/// The first thread hears signals: it asks the target nothing in the end, where that may hang.
#[test]
fn the_first_thread_asks_a_target_nothing_when_it_is_copied() {
    let test = "the_first_thread_asks_a_target_nothing_when_it_is_copied";
    if !ready(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.dir("target");
    let notes = scratch.join("strace");
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=readlink,renameat2",
        "-o",
    ];
    let strace: Vec<&str> = strace.into_iter().chain(notes.to_str()).collect();
    let copy = inhaul(&[&"copy", &source, &target]);
    Running::start(under(&strace, &copy)).finish().expect(0);
    let notes = std::fs::read_to_string(&notes).unwrap();
    let first = notes.split(' ').next().unwrap();
    let after = notes.rsplit_once("renameat2(").unwrap().1;
    let asked = format!("readlink(\"{}\"", target.display());
    let asked: Vec<&str> = after.lines().filter(|it| it.contains(&asked)).collect();
    assert!(!asked.is_empty(), "{after}");
    assert!(asked.iter().all(|it| !it.starts_with(first)), "{asked:?}");
}

/// Copies while the `when`th call of each thread fails; the rest of the story is checked.
fn check_failed_sync(io: &str, call: &str, error: &str, when: &str) {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.dir("target");
    let inject = format!("{call}:error={error}:when={when}");
    let ran = run_failing(
        &inject,
        &scratch,
        &[&"copy", &"--io", &io, &source, &target],
    );
    let text = ran.out() + &ran.err();
    // A target that has no room for the first record is refused.
    let is_refused = error == "ENOSPC" && ran.code == 6;
    assert!(ran.code == 1 || is_refused, "{io} {inject}: {text}");
    assert!(text.contains("(os error "), "{io} {inject}: {text}");
    assert!(!text.contains("all durable"), "{io} {inject}: {text}");
    run(&[&"copy", &"--existing=overwrite", &source, &target]).expect(0);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 41);
}

#[test]
fn a_sync_of_data_that_fails_is_never_a_success() {
    if !ready("a_sync_of_data_that_fails_is_never_a_success") {
        return;
    }
    for io in ["uring", "blocking"] {
        for when in ["1", "2", "1+"] {
            check_failed_sync(io, "syncfs", "EIO", when);
        }
    }
}

#[test]
fn a_sync_of_a_record_that_fails_is_never_a_success() {
    if !ready("a_sync_of_a_record_that_fails_is_never_a_success") {
        return;
    }
    // One after the other: whatever is made durable by itself, up to `latest`.
    for when in ["1", "2", "3", "4", "5", "6", "7"] {
        for error in ["EIO", "ENOSPC"] {
            check_failed_sync("auto", "fsync", error, when);
        }
    }
}

#[test]
fn a_record_that_finds_no_room_first_says_what_to_do() {
    if !ready("a_record_that_finds_no_room_first_says_what_to_do") {
        return;
    }
    // What is to get its name, and what has it: the committer's first write, and its second.
    for when in 1..=2 {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        // A job that is not over keeps its journal, so that its path is known.
        run_failing("renameat2:error=EIO:when=3", &scratch, &args).expect(3);
        let current = std::fs::canonicalize(target.join(".inhaul/current")).unwrap();
        tree::many_small(&source.join("more"), 3, 40);
        let journal = current.join("journal");
        let inject = format!("inject=write:error=ENOSPC:when={when}+");
        let notes = scratch.join("notes");
        let mut strace: Vec<&str> = "strace -f -qq -e trace=write".split(' ').collect();
        strace.extend([
            "-o",
            notes.to_str().unwrap(),
            "-P",
            journal.to_str().unwrap(),
        ]);
        strace.extend(["-e", &inject]);
        let ran = Running::start(under(&strace, &inhaul(&args))).finish();
        let notes = std::fs::read_to_string(&notes).unwrap();
        assert!(notes.contains("INJECTED"), "{when}: {notes}");
        let text = ran.out() + &ran.err();
        assert_eq!(ran.code, 3, "{when}: {text}");
        assert!(text.contains("make room"), "{when}: {text}");
        assert!(!text.contains("record-write"), "told once: {text}");
        assert!(!text.contains("all durable"), "{when}: {text}");
        run(&args).expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 81);
    }
}

#[test]
fn what_a_record_has_no_room_for_goes_to_the_next_target() {
    let test = "what_a_record_has_no_room_for_goes_to_the_next_target";
    if !ready(test) || !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let mounted = Mounted::image(&scratch, "mounted", Fs::Ext4, 64);
    let (target, next) = (scratch.dir("target"), mounted.dir("next"));
    let args: [&dyn AsRef<std::ffi::OsStr>; 5] = [&"copy", &source, &"--spill", &next, &target];
    run_failing("renameat2:error=EIO:when=3", &scratch, &args).expect(3);
    tree::many_small(&source.join("more"), 3, 40);
    let current = std::fs::canonicalize(target.join(".inhaul/current")).unwrap();
    let journal = current.join("journal");
    let notes = scratch.join("notes");
    let mut strace: Vec<&str> = "strace -f -qq -e trace=write".split(' ').collect();
    strace.extend([
        "-o",
        notes.to_str().unwrap(),
        "-P",
        journal.to_str().unwrap(),
    ]);
    // The first of the committer; other threads find the journal failed.
    strace.extend(["-e", "inject=write:error=ENOSPC:when=1"]);
    let ran = Running::start(under(&strace, &inhaul(&args))).finish();
    assert!(
        std::fs::read_to_string(&notes)
            .unwrap()
            .contains("INJECTED")
    );
    let text = ran.out() + &ran.err();
    assert!(
        text.contains("what is left goes to the next target"),
        "{text}"
    );
    // (Nor is there room to end the journal.)
    assert!(!text.contains("source/more/"), "no file is told of: {text}");
    let there = files(&walk(&target)) + files(&walk(&next));
    assert_eq!(there, 81, "{text}");
    run(&args).expect(0);
}

#[test]
fn files_whose_sync_failed_have_no_name_and_no_record() {
    let test = "files_whose_sync_failed_have_no_name_and_no_record";
    if !ready(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("syncfs:error=EIO:when=1", &scratch, &args).expect(1);
    assert_eq!(files(&walk(&target)), 0);
    assert_eq!(report(&target)["totals"]["files"], 0);
    b3sum_agrees(&target, 0);
}

#[test]
fn renames_and_opens_that_fail_are_reported_each() {
    if !ready("renames_and_opens_that_fail_are_reported_each") {
        return;
    }
    for inject in [
        "renameat2:error=EIO:when=3",
        "openat2:error=EACCES:when=20",
        "fchmod,fchmodat:error=EPERM:when=4",
        "fsetxattr,setxattr,utimensat:error=EPERM:when=6",
    ] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let ran = run_failing(inject, &scratch, &[&"copy", &source, &target]);
        let text = ran.out() + &ran.err();
        assert_eq!(ran.code, 3, "{inject}: {text}");
        assert!(
            report(&target)["problem_count"].as_u64().unwrap() >= 1,
            "{inject}"
        );
        run(&[&"verify", &target]).expect(0);
    }
}
