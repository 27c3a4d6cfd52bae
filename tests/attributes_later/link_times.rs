//! Times of what has several names: of all of them, and of each only once.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::failing::{ready, run_failing, source};
use crate::support::judge::{b3sum_agrees, rsync_agrees};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, inhaul, run, under};
use crate::support::{Scratch, can_mount, need_root, tool, tree};
use crate::{check_kept, give_away};

/// Returns a source in which files, a symlink and a FIFO have several names, in several folders.
fn source_with_links(scratch: &Scratch) -> PathBuf {
    let source = source(scratch);
    std::os::unix::fs::symlink("large", source.join("link")).unwrap();
    tool("mkfifo", &[source.join("pipe")]);
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
    if !ready(test) || !need_root(test) {
        return;
    }
    for first in ["utimensat:error=EPERM", "fchownat,utimensat:error=EPERM"] {
        let scratch = Scratch::new();
        let source = source_with_links(&scratch);
        let target = scratch.join("target");
        let args: [&dyn AsRef<OsStr>; 4] = [&"copy", &"--special", &source, &target];
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
    if !ready(test) || !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source_with_links(&scratch);
    give_away(&source, &["large"]);
    let target = scratch.join("target");
    let args: [&dyn AsRef<OsStr>; 4] = [&"copy", &"--special", &source, &target];
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
/// Where inodes have no room for parts of seconds, no name ever has the time of its source.
#[test]
fn names_of_a_file_get_what_they_lacked_where_times_are_cut() {
    let test = "names_of_a_file_get_what_they_lacked_where_times_are_cut";
    if !ready(test) || !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("a"), 1, 5000);
    std::fs::hard_link(source.join("a"), source.join("b")).unwrap();
    let blue = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(source.join("a"), "user.colour", b"blue", blue).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let file = std::fs::File::open(source.join("a")).unwrap();
    file.set_modified(time).unwrap();
    // The times fail in the first run, too, or in the first and in none that comes later.
    for first in ["fsetxattr,setxattr", "fsetxattr,setxattr,utimensat"] {
        let image = scratch.join("image");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        tool(
            "mkfs.ext4",
            &[
                OsStr::new("-q"),
                OsStr::new("-F"),
                OsStr::new("-I128"),
                image.as_ref(),
            ],
        );
        let mounted = Mounted::open(&scratch.join("mounted"), &image, Fs::Ext4).unwrap();
        let target = mounted.join("target");
        let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
        run_failing(&format!("{first}:error=EPERM"), &scratch, &args).expect(3);
        b3sum_agrees(&target, 2);
        run_failing("fsetxattr,setxattr:error=EPERM", &scratch, &args).expect(3);
        b3sum_agrees(&target, 2);
        run(&args).expect(0);
        b3sum_agrees(&target, 2);
        let mut colour = [0; 8];
        let len = rustix::fs::getxattr(target.join("source/b"), "user.colour", &mut colour);
        assert_eq!(&colour[..len.unwrap()], b"blue");
        let meta = std::fs::metadata(target.join("source/b")).unwrap();
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec(), meta.nlink()),
            (1_000_000_000, 0, 2)
        );
    }
}

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
    let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
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
    if !ready(test) || !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    std::fs::hard_link(source.join("large"), source.join("another")).unwrap();
    tree::age(&source, 1_000_000_000);
    let layers = Mounted::image(&scratch, "layers", Fs::Ext4, 96);
    let over = Mounted::overlay(&scratch, "over", &layers.dir("lower"), layers.path());
    let target = over.join("target");
    let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
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
    if !ready(test) || !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    std::fs::hard_link(source.join("large"), source.join("another")).unwrap();
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
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
    if !ready(test) || !need_root(test) {
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
            let args: [&dyn AsRef<OsStr>; 3] = [&"copy", &source, &target];
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
