//! Kernels that refuse the ring, and system calls that fail.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::judge::{b3sum_agrees, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul, powerless, report, run, under};
use support::{Scratch, need_tools, tree};

fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 1, 40);
    tree::paint(&source.join("large"), 2, 4_000_001);
    tree::age(&source, 1_000_000_000);
    source
}

/// Runs a copy with system calls that fail; strace's own notes are kept apart.
fn run_failing(inject: &str, scratch: &Scratch, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Ran {
    let notes = scratch.join("strace");
    let notes = notes.to_str().unwrap();
    let trace = format!("trace={}", inject.split(':').next().unwrap());
    let inject = format!("inject={inject}");
    // Only what is traced can be made to fail; the rest runs at full speed.
    let strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        notes,
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    Running::start(under(&strace, &inhaul(args))).finish()
}

fn ready(test: &str) -> bool {
    need_tools(test, &["strace", "rsync", "b3sum", "setpriv", "prlimit"])
}

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
        assert_eq!(ran.code, 1, "{when}: {text}");
        assert!(text.contains("make room"), "{when}: {text}");
        assert!(!text.contains("all durable"), "{when}: {text}");
        run(&args).expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 81);
    }
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

#[test]
fn a_symlink_that_cannot_be_opened_for_its_attributes_gets_them_in_the_next_run() {
    let test = "a_symlink_that_cannot_be_opened_for_its_attributes_gets_them_in_the_next_run";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    for kind in ["symlink", "FIFO"] {
        for error in ["EMFILE", "ENFILE", "ENOMEM"] {
            let scratch = Scratch::new();
            let source = scratch.dir("source");
            match kind {
                "FIFO" => drop(support::tool("mkfifo", &[source.join("it")])),
                _ => std::os::unix::fs::symlink("nowhere", source.join("it")).unwrap(),
            }
            give_away(&source, &["it"]);
            let target = scratch.join("target");
            let args: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"copy", &"--special", &source, &target];
            // What is staged first has the number 1 for a name.
            let notes = scratch.join("strace");
            let inject = format!("inject=openat2:error={error}");
            let strace = [
                "strace",
                "-f",
                "-qq",
                "-o",
                notes.to_str().unwrap(),
                "-P",
                "1",
                "-e",
                "trace=openat2",
                "-e",
                &inject,
            ];
            let ran = Running::start(under(&strace, &inhaul(&args))).finish();
            let notes = std::fs::read_to_string(&notes).unwrap();
            assert!(notes.contains("INJECTED"), "{kind} {error}: {notes}");
            let ran = ran.expect(3);
            let text = ran.out() + &ran.err();
            // It has its name, and is told to lack its attributes; or is not copied, as a file that
            // cannot be opened. That root has no right to set them is never the reason.
            let has_name = error == "ENOMEM";
            let copied = text.contains("copied, but without its attributes");
            assert_eq!(copied, has_name, "{kind} {error}: {text}");
            let there = std::fs::symlink_metadata(target.join("source/it"));
            assert_eq!(there.is_ok(), has_name, "{kind} {error}: {text}");
            assert!(!text.contains("that takes root"), "{kind} {error}: {text}");
            run(&args).expect(0);
            rsync_agrees(&source, &target.join("source"));
        }
    }
}

/// Fails unless the report says that all files were there, and of how many it tells something.
fn check_kept(target: &std::path::Path, files: u64) {
    let report = report(target);
    let totals = &report["totals"];
    assert_eq!(totals["kept"], files, "{report:#}");
    assert_eq!(totals["files"], 0, "{totals}");
}

#[test]
fn attributes_that_could_not_be_set_are_set_by_the_next_run() {
    if !ready("attributes_that_could_not_be_set_are_set_by_the_next_run")
        || !support::need_root("attributes_that_could_not_be_set_are_set_by_the_next_run")
    {
        return;
    }
    for inject in [
        "fchownat:error=EPERM",
        "fsetxattr,setxattr:error=ENOSPC",
        "utimensat:error=EPERM",
    ] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        std::os::unix::fs::symlink("large", source.join("link")).unwrap();
        let blue = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join("large"), "user.colour", b"blue", blue).unwrap();
        tree::set_mode(&source.join("large"), 0o640);
        for name in ["large", "link", "small"] {
            std::os::unix::fs::lchown(source.join(name), Some(1234), Some(4321)).unwrap();
        }
        tree::age(&source, 1_000_000_000);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        let ran = run_failing(inject, &scratch, &args).expect(3);
        ran.says("copied, but without its");
        // It is no better now, and told of again; nothing is read or written for it.
        let ran = run_failing(inject, &scratch, &args).expect(3);
        ran.says("copied, but without its");
        check_kept(&target, 41);
        b3sum_agrees(&target, 41);
        run(&args).expect(0);
        check_kept(&target, 41);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
        assert!(!target.join(".inhaul/current").exists(), "{inject}");
        run(&[&"verify", &target]).expect(0);
    }
}

#[test]
fn a_stop_while_times_are_set_again_leaves_the_file_ours() {
    let test = "a_stop_while_times_are_set_again_leaves_the_file_ours";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    for point in ["naming-appended", "named-all", "done-appended"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
        let mut command = inhaul(&args);
        command.env("INHAUL_TEST_KILL", format!("{point}:1"));
        Running::start(command).finish().expect(137);
        run(&args).expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
    }
}

/// The name of a file that was being changed is in doubt: its bytes say what it is, if they are given.
#[test]
fn a_file_in_doubt_that_cannot_be_read_is_left_and_told_of() {
    let test = "a_file_in_doubt_that_cannot_be_read_is_left_and_told_of";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("only"), 1, 100_000);
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    let mut command = inhaul(&args);
    command.env("INHAUL_TEST_KILL", "named-all:1");
    Running::start(command).finish().expect(137);
    // There are no others of its bytes any more.
    let bytes = std::fs::read(source.join("only")).unwrap();
    std::fs::remove_file(source.join("only")).unwrap();
    let copy = target.join("source/only");
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        copy.to_str().unwrap(),
        "-e",
        "trace=read",
        "-e",
        "inject=read:error=EIO",
    ];
    let ran = Running::start(under(&strace, &inhaul(&args))).finish();
    assert_eq!(std::fs::read(&copy).unwrap(), bytes, "{}", ran.err());
    ran.expect(3)
        .says("only: an earlier run copied it")
        .says("it cannot be read; it is left as it is");
    run(&args).expect(0);
    b3sum_agrees(&target, 1);
}

/// Gives some of what [`source`] has to somebody else.
fn give_away(source: &std::path::Path, names: &[&str]) {
    for name in names {
        std::os::unix::fs::lchown(source.join(name), Some(1234), Some(4321)).unwrap();
    }
    tree::age(source, 1_000_000_000);
}

#[test]
fn what_one_name_of_a_file_lacks_its_other_names_lack() {
    let test = "what_one_name_of_a_file_lacks_its_other_names_lack";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    for gone in ["large", "other"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        std::fs::hard_link(source.join("large"), source.join("other")).unwrap();
        give_away(&source, &["large"]);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        let inject = "fchownat:error=EPERM";
        run_failing(inject, &scratch, &args).expect(3);
        // The one name becomes a link to the other, whichever of them was copied.
        std::fs::remove_file(target.join("source").join(gone)).unwrap();
        for _ in 0..2 {
            let ran = run_failing(inject, &scratch, &args).expect(3);
            ran.says("copied, but without its owner");
        }
        run(&args).expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 42);
    }
}

/// Returns a source in which files, a symlink and a FIFO have several names, in several folders.
fn source_with_links(scratch: &Scratch) -> PathBuf {
    let source = source(scratch);
    std::os::unix::fs::symlink("large", source.join("link")).unwrap();
    support::tool("mkfifo", &[source.join("pipe")]);
    for dir in ["after", "small"] {
        std::fs::create_dir_all(source.join(dir)).unwrap();
        for name in ["large", "link", "pipe"] {
            std::fs::hard_link(source.join(name), source.join(dir).join(name)).unwrap();
        }
    }
    std::fs::hard_link(source.join("large"), source.join("another")).unwrap();
    tree::age(&source, 1_000_000_000);
    source
}

#[test]
fn times_of_what_has_several_names_are_set_by_the_next_run() {
    let test = "times_of_what_has_several_names_are_set_by_the_next_run";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    for first in ["utimensat:error=EPERM", "fchownat,utimensat:error=EPERM"] {
        let scratch = Scratch::new();
        let source = source_with_links(&scratch);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"copy", &"--special", &source, &target];
        let ran = run_failing(first, &scratch, &args).expect(3);
        ran.says("copied, but without its times");
        // It is no better now, and told of again.
        let ran = run_failing(first, &scratch, &args).expect(3);
        ran.says("copied, but without its times");
        check_kept(&target, 44);
        b3sum_agrees(&target, 44);
        let ran = run(&args).expect(0);
        assert!(!ran.err().contains("without"), "{}", ran.err());
        check_kept(&target, 44);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 44);
        // It is all there, and another job that looks finds nothing to say.
        assert!(!target.join(".inhaul/current").exists(), "{first}");
        run(&[&"verify", &target]).expect(0);
        let ran = run(&[&args[0], &"--existing=skip", &args[1], &args[2], &args[3]]).expect(0);
        assert!(!ran.err().contains("problem"), "{}", ran.err());
        rsync_agrees(&source, &target.join("source"));
    }
}

#[test]
fn all_names_of_what_got_its_times_and_lacks_something_else_are_known() {
    let test = "all_names_of_what_got_its_times_and_lacks_something_else_are_known";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source_with_links(&scratch);
    give_away(&source, &["large"]);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"copy", &"--special", &source, &target];
    run_failing("fchownat,utimensat:error=EPERM", &scratch, &args).expect(3);
    for _ in 0..2 {
        let ran = run_failing("fchownat:error=EPERM", &scratch, &args).expect(3);
        ran.says("copied, but without its");
        check_kept(&target, 44);
        b3sum_agrees(&target, 44);
    }
    run(&args).expect(0);
    check_kept(&target, 44);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 44);
}

/// Whatever name of a file fails in between, all are known again in the end.
#[test]
fn names_of_a_file_whose_times_could_not_be_set_in_one_try_are_all_known() {
    let test = "names_of_a_file_whose_times_could_not_be_set_in_one_try_are_all_known";
    if !ready(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("a"), 1, 5000);
    for name in ["b", "c"] {
        std::fs::hard_link(source.join("a"), source.join(name)).unwrap();
    }
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    b3sum_agrees(&target, 3);
    // The first name met fails once more: those that follow leave what it is known by.
    let once = run_failing("utimensat:error=EPERM:when=1", &scratch, &args).expect(3);
    once.says("for those of another name of it could not be set");
    check_kept(&target, 3);
    b3sum_agrees(&target, 3);
    run(&args).expect(0);
    check_kept(&target, 3);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 3);
}

/// Where files are synced one by one, what has other times and cannot be opened for that is not known
/// again under its other names.
#[test]
fn a_file_that_cannot_be_opened_to_be_synced_keeps_its_times() {
    let test = "a_file_that_cannot_be_opened_to_be_synced_keeps_its_times";
    if !ready(test) || !support::can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    std::fs::hard_link(source.join("large"), source.join("another")).unwrap();
    tree::age(&source, 1_000_000_000);
    let layers = Mounted::image(&scratch, "layers", Fs::Ext4, 96);
    let over = Mounted::overlay(&scratch, "over", &layers.dir("lower"), layers.path());
    let target = over.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    let notes = scratch.join("strace");
    let mut strace = vec!["strace", "-f", "-qq", "-o", notes.to_str().unwrap()];
    strace.extend([
        "-e",
        "trace=open,openat",
        "-e",
        "inject=open,openat:error=EMFILE",
    ]);
    let links: Vec<String> = (8..64).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    strace.extend(links.iter().flat_map(|link| ["-P", link]));
    let ran = Running::start(under(&strace, &inhaul(&args))).finish();
    let notes = std::fs::read_to_string(&notes).unwrap();
    assert!(notes.contains("INJECTED"), "{notes}");
    ran.expect(3)
        .says("copied, but without some of its attributes");
    check_kept(&target, 42);
    b3sum_agrees(&target, 42);
    run(&args).expect(0);
    check_kept(&target, 42);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 42);
}

#[test]
fn times_of_more_links_than_can_be_remembered_are_left_alone() {
    let test = "times_of_more_links_than_can_be_remembered_are_left_alone";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    std::fs::hard_link(source.join("large"), source.join("another")).unwrap();
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    let mut command = inhaul(&args);
    command.env("INHAUL_TEST_LINKS_MAX", "0");
    let ran = Running::start(command).finish().expect(3);
    ran.says("it is one of very many hard links");
    check_kept(&target, 42);
    b3sum_agrees(&target, 42);
    run(&args).expect(0);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 42);
}

#[test]
fn a_stop_between_two_names_of_a_file_leaves_both_ours() {
    let test = "a_stop_between_two_names_of_a_file_leaves_both_ours";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    // In batches of one: each name of a file is acknowledged by itself.
    for point in [
        "journal-synced",
        "naming-appended",
        "named-all",
        "done-appended",
    ] {
        for count in [1, 2, 3] {
            let scratch = Scratch::new();
            let source = scratch.dir("source");
            tree::paint(&source.join("first"), 1, 100_000);
            for name in ["another", "third"] {
                std::fs::hard_link(source.join("first"), source.join(name)).unwrap();
            }
            tree::age(&source, 1_000_000_000);
            let target = scratch.join("target");
            let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
            run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
            let mut command = inhaul(&args);
            command.env("INHAUL_TEST_BATCH_FILES", "1");
            command.env("INHAUL_TEST_KILL", format!("{point}:{count}"));
            Running::start(command).finish().expect(137);
            run(&args).expect(0);
            rsync_agrees(&source, &target.join("source"));
            b3sum_agrees(&target, 3);
            assert!(!target.join(".inhaul/current").exists(), "{point}:{count}");
        }
    }
}

#[test]
fn an_acl_that_cannot_be_read_opens_nothing_to_a_group() {
    let test = "an_acl_that_cannot_be_read_opens_nothing_to_a_group";
    if !ready(test) || !support::need_root(test) || !need_tools(test, &["setfacl"]) {
        return;
    }
    // With the ACL read and something else missing, or not read at first.
    for first in ["fchownat:error=EPERM", "flistxattr:error=EIO"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        tree::set_mode(&source.join("large"), 0o600);
        let mut setfacl = std::process::Command::new("setfacl");
        setfacl.args(["-m", "u:1001:rw,g::-,m::rw"]);
        assert!(
            setfacl
                .arg(source.join("large"))
                .status()
                .unwrap()
                .success()
        );
        give_away(&source, &["large"]);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        run_failing(first, &scratch, &args).expect(3);
        let copy = target.join("source/large");
        let look = || {
            let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
            let mut value = Vec::with_capacity(1024);
            let acl = "system.posix_acl_access";
            let read = rustix::fs::getxattr(&copy, acl, rustix::buffer::spare_capacity(&mut value));
            (mode & 0o777, read)
        };
        let there = match first {
            "flistxattr:error=EIO" => (0o600, Err(rustix::io::Errno::NODATA)),
            // A head of 4 bytes, and five entries of 8.
            _ => (0o660, Ok(44)),
        };
        assert_eq!(look(), there, "{first}");
        let ran = run_failing("flistxattr:error=EIO", &scratch, &args).expect(3);
        ran.says("its extended attributes could not be read");
        assert_eq!(look(), there, "{first}");
        check_kept(&target, 41);
        run(&args).expect(0);
        assert_eq!(look(), (0o660, Ok(44)), "{first}");
        check_kept(&target, 41);
        rsync_agrees(&source, &target.join("source"));
    }
}

#[test]
fn a_file_whose_attributes_cannot_be_set_again_stays_done() {
    let test = "a_file_whose_attributes_cannot_be_set_again_stays_done";
    if !ready(test) || !support::need_root(test) {
        return;
    }
    for first in ["fchownat:error=EPERM", "utimensat:error=EPERM"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        give_away(&source, &["large"]);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        run_failing(first, &scratch, &args).expect(3);
        // It can be opened neither to read its attributes nor to set them: for the file alone.
        let notes = scratch.join("strace");
        let strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            notes.to_str().unwrap(),
            "-P",
            "large",
            "-e",
            "trace=openat2",
            "-e",
            "inject=openat2:error=EACCES",
        ];
        let ran = Running::start(under(&strace, &inhaul(&args))).finish();
        let ran = ran.expect(3);
        ran.says("copied, but without some of its attributes: open: Permission denied");
        assert!(
            std::fs::read_to_string(&notes)
                .unwrap()
                .contains("INJECTED")
        );
        check_kept(&target, 41);
        run(&args).expect(0);
        check_kept(&target, 41);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
    }
}
