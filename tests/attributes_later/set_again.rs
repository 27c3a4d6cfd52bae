//! What a file lacks is told of by each run until one can set it.

use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::support::failing::{ready, run_failing, source};
use crate::support::judge::{b3sum_agrees, rsync_agrees};
use crate::support::program::{Running, inhaul, killed_at, run, under};
use crate::support::{Scratch, need_root, need_tools, tool, tree};
use crate::{check_kept, give_away};

#[test]
fn a_symlink_that_cannot_be_opened_for_its_attributes_gets_them_in_the_next_run() {
    let test = "a_symlink_that_cannot_be_opened_for_its_attributes_gets_them_in_the_next_run";
    if !ready(test) || !need_root(test) {
        return;
    }
    for kind in ["symlink", "FIFO"] {
        for error in ["EMFILE", "ENFILE", "ENOMEM"] {
            let scratch = Scratch::new();
            let source = scratch.dir("source");
            match kind {
                "FIFO" => drop(tool("mkfifo", &[source.join("it")])),
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

#[test]
fn attributes_that_could_not_be_set_are_set_by_the_next_run() {
    if !ready("attributes_that_could_not_be_set_are_set_by_the_next_run")
        || !need_root("attributes_that_could_not_be_set_are_set_by_the_next_run")
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
    if !ready(test) || !need_root(test) {
        return;
    }
    for point in ["naming-appended", "named-all", "done-appended"] {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let target = scratch.join("target");
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
        run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
        killed_at(&args, &format!("{point}:1"));
        run(&args).expect(0);
        rsync_agrees(&source, &target.join("source"));
        b3sum_agrees(&target, 41);
    }
}

/// The name of a file that was being changed is in doubt: its bytes say what it is, if they are given.
#[test]
fn a_file_in_doubt_that_cannot_be_read_is_left_and_told_of() {
    let test = "a_file_in_doubt_that_cannot_be_read_is_left_and_told_of";
    if !ready(test) || !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("only"), 1, 100_000);
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &source, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    killed_at(&args, "named-all:1");
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

/// What was being changed and has other bytes is nobody's proof, and goes; that is said where nobody
/// gives those of its source.
#[test]
fn a_file_in_doubt_with_other_bytes_is_told_of_when_its_source_is_not_here() {
    let test = "a_file_in_doubt_with_other_bytes_is_told_of_when_its_source_is_not_here";
    if !ready(test) || !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("only"), 1, 100_000);
    tree::age(&source, 1_000_000_000);
    let other = scratch.dir("other");
    tree::paint(&other.join("file"), 2, 1000);
    let target = scratch.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"copy", &source, &other, &target];
    run_failing("utimensat:error=EPERM", &scratch, &args).expect(3);
    killed_at(&args, "named-all:1");
    let copy = target.join("source/only");
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    file.write_all_at(b"edited", 50_000).unwrap();
    let ran = run(&[&"copy", &other, &target]).expect(4);
    ran.says("its bytes are not those of its source: it was taken out of the target");
    assert!(!copy.exists());
    run(&args).expect(0);
    rsync_agrees(&source, &target.join("source"));
    b3sum_agrees(&target, 2);
}

#[test]
fn what_one_name_of_a_file_lacks_its_other_names_lack() {
    let test = "what_one_name_of_a_file_lacks_its_other_names_lack";
    if !ready(test) || !need_root(test) {
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

#[test]
fn an_acl_that_cannot_be_read_opens_nothing_to_a_group() {
    let test = "an_acl_that_cannot_be_read_opens_nothing_to_a_group";
    if !ready(test) || !need_root(test) || !need_tools(test, &["setfacl"]) {
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
    if !ready(test) || !need_root(test) {
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
