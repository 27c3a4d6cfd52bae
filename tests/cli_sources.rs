//! What a source is, where it lands, and what a dry run leaves alone.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use support::judge::{b3sum_agrees, rsync_agrees, rsync_agrees_in_target, same_bytes, walk};
use support::program::{Running, contents, inhaul, report, run};
use support::{Scratch, need_tools, tree};

fn drive(scratch: &Scratch, name: &str, seed: u64) -> PathBuf {
    let drive = scratch.dir(name);
    tree::many_small(&drive.join(format!("{name} small")), seed, 10);
    tree::paint(&drive.join(format!("{name} large")), seed, 2_500_000);
    scratch.dir(format!("{name}/empty {name}"));
    tree::age(&drive, 1_000_000_000);
    drive
}

fn ready(test: &str) -> bool {
    need_tools(test, &["rsync", "b3sum", "cmp"])
}

#[test]
fn a_slash_at_the_end_means_the_contents() {
    if !ready("a_slash_at_the_end_means_the_contents") {
        return;
    }
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    let target = scratch.join("target");
    run(&[&"copy", &one, &target]).expect(0);
    rsync_agrees(&one, &target.join("one"));
    let target = scratch.join("contents");
    run(&[&"copy", &contents(&one), &target]).expect(0);
    rsync_agrees_in_target(&one, &target);
    // At the end of TARGET it means nothing.
    let target = scratch.join("slashed");
    run(&[&"copy", &one, &contents(&target)]).expect(0);
    rsync_agrees(&one, &target.join("one"));
}

#[test]
fn several_sources_land_side_by_side() {
    if !ready("several_sources_land_side_by_side") {
        return;
    }
    let scratch = Scratch::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| drive(&scratch, name, 3));
    tree::paint(&scratch.join("file"), 9, 70_000);
    let target = scratch.dir("target");
    tree::text(&target.join("there before"), "x");
    run(&[
        &"copy",
        &one,
        &contents(&two),
        &scratch.join("file"),
        &three,
        &target,
    ])
    .expect(0);
    rsync_agrees(&one, &target.join("one"));
    rsync_agrees(&three, &target.join("three"));
    rsync_agrees(&two.join("two small"), &target.join("two small"));
    same_bytes(&two.join("two large"), &target.join("two large"));
    same_bytes(&scratch.join("file"), &target.join("file"));
    b3sum_agrees(&target, 34);
}

#[test]
fn the_current_directory_and_relative_paths() {
    if !ready("the_current_directory_and_relative_paths") {
        return;
    }
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    let from = |dir: &Path, args: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut command = inhaul(args);
        command.current_dir(dir);
        Running::start(command).finish().expect(0)
    };
    from(&one, &[&"copy", &".", &"../a"]);
    rsync_agrees_in_target(&one, &scratch.join("a"));
    from(scratch.path(), &[&"copy", &"one", &"b"]);
    rsync_agrees(&one, &scratch.join("b/one"));
    from(scratch.path(), &[&"copy", &"./one/../one/./", &"c"]);
    rsync_agrees_in_target(&one, &scratch.join("c"));
    let target = scratch.dir("d");
    from(&target, &[&"copy", &"../one", &"."]);
    rsync_agrees(&one, &target.join("one"));
    from(&one.join("one small"), &[&"copy", &"..", &"../../e"]);
    rsync_agrees_in_target(&one, &scratch.join("e"));
}

#[test]
fn single_files() {
    if !ready("single_files") {
        return;
    }
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    let target = scratch.join("target");
    run(&[&"copy", &one.join("one large"), &target]).expect(0);
    assert_eq!(walk(&target).len(), 1);
    assert_eq!(
        walk(&target)[b"one large".as_slice()],
        walk(&one)[b"one large".as_slice()]
    );
    b3sum_agrees(&target, 1);
    // A source that is named is followed, like the drive that a link in /mnt may point to.
    symlink(one.join("one large"), scratch.join("link to file")).unwrap();
    symlink(&one, scratch.join("link to drive")).unwrap();
    let target = scratch.join("linked");
    run(&[&"copy", &scratch.join("link to drive"), &target]).expect(0);
    rsync_agrees(&one, &target.join("link to drive"));
    run(&[&"copy", &scratch.join("link to file"), &target]).expect(0);
    same_bytes(&one.join("one large"), &target.join("link to file"));
}

#[test]
fn names_that_look_like_options() {
    if !ready("names_that_look_like_options") {
        return;
    }
    let scratch = Scratch::new();
    let one = drive(&scratch, "-n", 1);
    let mut command = inhaul(&[&"copy", &"--", &"-n", &"-t"]);
    command.current_dir(scratch.path());
    Running::start(command).finish().expect(0);
    rsync_agrees(&one, &scratch.join("-t/-n"));
}

#[test]
fn private_folders_of_other_targets_are_left_out() {
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    let middle = scratch.join("middle");
    let last = scratch.join("last");
    run(&[&"copy", &one, &middle]).expect(0);
    run(&[&"copy", &contents(&middle), &last]).expect(0);
    assert_eq!(walk(&last), walk(&middle));
    let jobs = std::fs::read_dir(last.join(".inhaul")).unwrap().count();
    assert_eq!(jobs, 3, "one job, `latest` and `lock`");
}

#[test]
fn a_dry_run_writes_nothing() {
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    let target = scratch.join("target");
    let ran = run(&[&"copy", &"-n", &one, &target]).expect(0);
    assert!(!target.exists());
    assert!(
        ran.out().contains("11") || ran.err().contains("11"),
        "{}{}",
        ran.out(),
        ran.err()
    );
    run(&[&"copy", &"--dry-run", &one, &scratch.join("no/parent")]).expect(2);

    let target = scratch.dir("there");
    tree::text(&target.join("old"), "old");
    tree::set_time(&target, 1_000_000_000, 5);
    tree::set_mode(&target, 0o711);
    let whole = walk(scratch.path());
    let ran = run(&[&"copy", &"-n", &"--json", &one, &target]).expect(0);
    assert_eq!(walk(scratch.path()), whole);
    let events = ran.events();
    let plan = events.last().unwrap();
    assert_eq!(plan["type"], "plan");
    assert_eq!(plan["fits"], true);
    assert_eq!(plan["lanes"][0]["files"], 11);
    let bytes = support::judge::bytes(&walk(&one));
    assert_eq!(plan["lanes"][0]["bytes"], bytes);
    assert_eq!(plan["lanes"][0]["dirs"], 4);
    assert!(plan["needed"].as_u64().unwrap() >= bytes);
}

#[test]
fn a_report_says_what_was_copied() {
    let scratch = Scratch::new();
    let one = drive(&scratch, "one", 1);
    symlink("x", one.join("link")).unwrap();
    let target = scratch.join("target");
    run(&[&"copy", &one, &target]).expect(0);
    let report = report(&target);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["command"], "copy");
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["totals"]["files"], 11);
    assert_eq!(
        report["totals"]["bytes"],
        support::judge::bytes(&walk(&one))
    );
    assert_eq!(report["totals"]["others"], 1);
    assert_eq!(report["totals"]["dirs"], 4);
    let mounts = report["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 2);
    for mount in mounts {
        assert!(!mount["why"].as_str().unwrap().is_empty(), "{mount}");
    }
}
