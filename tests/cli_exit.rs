//! Every exit code, each for its own reason, and what it leaves behind.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/hang_up.rs"]
mod hang_up;
mod support;

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use support::judge::{b3sum_agrees, files, rsync_agrees, same_bytes, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Running, contents, inhaul, listed, powerless, report, run};
use support::{Scratch, can_mount, need_tools, tree, wait_for};

/// How long a run that was asked to stop may take: half of what schedulers grant.
const STOP: Duration = Duration::from_secs(15);

/// A source that takes some seconds at [`SLOWLY`].
fn slow_source(scratch: &Scratch) -> std::path::PathBuf {
    let source = scratch.dir("source");
    for index in 0..40 {
        let dir = source.join(format!("dir{}", index % 4));
        std::fs::create_dir_all(&dir).unwrap();
        tree::paint(&dir.join(format!("file{index}")), index, 400_000 + index);
    }
    tree::paint(&source.join("large"), 99, 12_000_000);
    tree::age(&source, 1_200_000_000);
    source
}

const SLOWLY: &str = "--bwlimit=5MB";

/// Waits until a copy has published at least one file.
fn first_file(copy: &Path) {
    wait_for("the first file", || {
        let published = (0..40).any(|i| copy.join(format!("dir{}/file{i}", i % 4)).exists());
        published.then_some(())
    });
}

#[test]
fn code_0_is_for_everything_done_and_for_nothing_to_do() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    assert!(target.join("source").is_dir());
    run(&[&"copy", &source, &target]).expect(0);
    run(&[&"verify", &target]).expect(0);
    run(&[&"hash", &source]).expect(0);
    run(&[&"--version"]).expect(0);
    run(&[&"--help"]).expect(0);
}

#[test]
fn code_2_is_for_the_command_line() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let target = scratch.join("target");
    let missing = scratch.join("missing");
    run(&[]).expect(2);
    run(&[&"copy"]).expect(2);
    run(&[&"copy", &source]).expect(2);
    run(&[&"copy", &"--no-such-option", &source, &target])
        .expect(2)
        .says("--no-such-option");
    run(&[&"copy", &"--existing=maybe", &source, &target]).expect(2);
    run(&[&"copy", &"--bwlimit=fast", &source, &target]).expect(2);
    run(&[&"copy", &"--memory=1M", &source, &target]).expect(2);
    run(&[&"copy", &"--delete", &source, &target])
        .expect(2)
        .says("on purpose");
    run(&[&"copy", &missing, &target]).expect(2).says("missing");
    run(&[&"copy", &source, &missing.join("deeper")])
        .expect(2)
        .says("missing");
    tree::text(&scratch.join("file"), "x");
    run(&[&"copy", &source, &scratch.join("file")]).expect(2);
    run(&[&"copy", &source, &scratch.join("file/target")]).expect(2);
    run(&[&"copy", &contents(&scratch.join("file")), &target]).expect(2);
    run(&[&"hash", &missing]).expect(2);
    run(&[&"verify", &missing]).expect(2);
    assert!(
        !target.exists() && !missing.exists(),
        "something was written"
    );
}

#[test]
fn code_3_is_for_files_that_were_not_copied() {
    if !need_tools(
        "code_3_is_for_files_that_were_not_copied",
        &["setpriv", "rsync"],
    ) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::many_small(&source.join("fine"), 1, 20);
    tree::paint(&source.join("secret"), 1, 2_000_000);
    tree::paint(&source.join("little secret"), 1, 20);
    tree::paint(&scratch.dir("source/locked").join("inside"), 1, 10);
    for name in ["secret", "little secret", "locked"] {
        tree::set_mode(&source.join(name), 0);
    }
    let target = scratch.join("target");
    let ran = Running::start(powerless(&inhaul(&[&"copy", &source, &target])))
        .finish()
        .expect(3);
    let copy = target.join("source");
    rsync_agrees(&source.join("fine"), &copy.join("fine"));
    assert!(!copy.join("secret").exists() && !copy.join("little secret").exists());
    let shown = |name: &str| format!("source-denied {}", source.join(name).display());
    let expected = ["little secret", "locked", "secret"].map(shown);
    assert_eq!(listed(&report(&target), "problems"), expected);
    for name in ["little secret", "locked", "secret"] {
        assert!(
            ran.err().contains(&source.join(name).display().to_string()),
            "{}",
            ran.err()
        );
    }
    b3sum_agrees(&target, 20);
    tree::set_mode(&source.join("locked"), 0o755);
}

#[test]
fn code_4_is_for_a_source_that_changes_while_it_is_read() {
    use std::io::Write;
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("growing"), 1, 12_000_000);
    tree::paint(&source.join("quiet"), 2, 3_000);
    let target = scratch.join("target");
    let slow = Running::start(inhaul(&[&"copy", &"--bwlimit=4MB", &source, &target]));
    wait_for("the start", || {
        target.join(".inhaul").exists().then_some(())
    });
    std::thread::sleep(Duration::from_millis(700));
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(source.join("growing"))
        .unwrap();
    file.write_all(b"more").unwrap();
    slow.finish().expect(4).says("growing");
    assert!(
        !target.join("source/growing").exists(),
        "a torn file has its final name"
    );
    same_bytes(&source.join("quiet"), &target.join("source/quiet"));
    let line = format!("source-changed {}", source.join("growing").display());
    assert_eq!(listed(&report(&target), "problems"), [line]);
}

#[test]
fn code_6_is_for_what_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    scratch.dir("source/inner/most");
    let other = scratch.dir("elsewhere/source");
    tree::text(&source.join("file"), "x");
    tree::text(&other.join("file"), "y");
    let target = scratch.join("target");
    let link = scratch.join("link");
    std::os::unix::fs::symlink(&source, &link).unwrap();

    run(&[&"copy", &source, &source.join("target")])
        .expect(6)
        .says("in the source");
    run(&[&"copy", &source, &source.join("inner/most")])
        .expect(6)
        .says("in the source");
    run(&[&"copy", &link, &source.join("inner")])
        .expect(6)
        .says("in the source");
    run(&[&"copy", &source, &source]).expect(6);
    run(&[&"copy", &source.join("inner"), &source])
        .expect(6)
        .says("in the target");
    run(&[&"copy", &source, &scratch.path()])
        .expect(6)
        .says("in the target");
    run(&[&"copy", &source, &source, &target])
        .expect(6)
        .says("same place");
    run(&[&"copy", &source, &link, &target])
        .expect(6)
        .says("same place");
    run(&[&"copy", &source, &other, &target])
        .expect(6)
        .says("same name");
    run(&[&"copy", &contents(&source), &contents(&other), &target])
        .expect(6)
        .says("same name");
    run(&[&"copy", &source.join("file"), &other.join("file"), &target])
        .expect(6)
        .says("same name");
    assert!(!target.exists());
    assert!(!source.join(".inhaul").exists() && !source.join("inner/.inhaul").exists());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3);
}

#[test]
fn code_6_is_for_a_target_that_is_too_small() {
    if !can_mount("code_6_is_for_a_target_that_is_too_small") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("a"), 1, 30_000_000);
    tree::paint(&source.join("b"), 1, 30_000_000);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 48);
    let before = (walk(target.path()), target.free());
    run(&[&"copy", &source, &target.path()])
        .expect(6)
        .says("free");
    assert_eq!((walk(target.path()), target.free()), before);
    assert!(!target.join(".inhaul").exists());
    run(&[&"copy", &"-n", &source, &target.path()]).expect(6);
    // What is there already needs no room, and neither do holes.
    run(&[&"copy", &source.join("a"), &target.path()]).expect(0);
    let more = scratch.dir("more");
    tree::sparse(&more.join("hole"), 1, 1 << 30, &[(1 << 29, 10)]);
    std::fs::copy(source.join("a"), more.join("a")).unwrap();
    run(&[
        &"copy",
        &"--existing=skip",
        &contents(&more),
        &target.path(),
    ])
    .expect(0);
}

#[test]
fn code_7_is_for_a_target_another_run_holds() {
    let scratch = Scratch::new();
    let source = slow_source(&scratch);
    let target = scratch.join("target");
    let mut first = Running::start(inhaul(&[&"copy", &SLOWLY, &source, &target]));
    first_file(&target.join("source"));
    run(&[&"copy", &source, &target]).expect(7).says("another");
    assert!(first.alive());
    first.signal(Signal::TERM);
    first.finish().expect(75);
    // The lock went with its holder.
    run(&[&"copy", &source, &target]).expect(0);
}

#[test]
fn code_75_is_for_a_stop_that_can_be_gone_on_from() {
    if !need_tools(
        "code_75_is_for_a_stop_that_can_be_gone_on_from",
        &["rsync", "b3sum"],
    ) {
        return;
    }
    for (signal, io) in [
        (Signal::INT, "uring"),
        (Signal::TERM, "blocking"),
        (hang_up::hang_up(), "auto"),
    ] {
        let scratch = Scratch::new();
        let source = slow_source(&scratch);
        let target = scratch.join("target");
        let copy = target.join("source");
        let mut slow = Running::start(inhaul(&[&"copy", &SLOWLY, &"--io", &io, &source, &target]));
        first_file(&copy);
        slow.signal(signal);
        assert!(
            slow.wait(STOP).is_some(),
            "still running {STOP:?} after {signal:?}"
        );
        slow.finish().expect(75).says("to go on: the same command");

        let whole = walk(&source);
        let part = walk(&copy);
        assert!(
            files(&part) > 0 && files(&part) < files(&whole),
            "{} files",
            files(&part)
        );
        for (path, node) in part.iter().filter(|(_, node)| node.kind == "file") {
            assert_eq!(Some(node), whole.get(path), "{}", path.escape_ascii());
        }
        b3sum_agrees(&target, files(&part));
        assert_eq!(report(&target)["stopped"], true);
        assert_eq!(report(&target)["exit_code"], 75);

        run(&[&"copy", &source, &target]).expect(0);
        rsync_agrees(&source, &copy);
        assert_eq!(report(&target)["totals"]["kept"], files(&part));
        nothing_staged(&target);
    }
}

#[test]
fn links_are_still_links_after_a_stop() {
    if !need_tools("links_are_still_links_after_a_stop", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let copy = scratch.join("target/source");
    for dir in ["a", "b", "c"] {
        std::fs::create_dir(source.join(dir)).unwrap();
    }
    for index in 0..60 {
        let name = |dir: &str| source.join(dir).join(format!("file{index}"));
        tree::paint(&name("b"), index, 150_000);
        for dir in ["a", "c"] {
            std::fs::hard_link(name("b"), name(dir)).unwrap();
        }
    }
    tree::age(&source, 1_200_000_000);
    let slow = Running::start(inhaul(&[
        &"copy",
        &SLOWLY,
        &source,
        &scratch.join("target"),
    ]));
    wait_for("some links", || {
        (copy.exists() && files(&walk(&copy)) > 20).then_some(())
    });
    slow.signal(Signal::TERM);
    slow.finish().expect(75);
    run(&[&"copy", &source, &scratch.join("target")]).expect(0);
    rsync_agrees(&source, &copy);
}

/// Fails if any job folder holds a file without a name.
fn nothing_staged(target: &Path) {
    for job in std::fs::read_dir(target.join(".inhaul")).unwrap() {
        let stage = job.unwrap().path().join("stage");
        assert!(!stage.exists(), "{} is left", stage.display());
    }
}

#[test]
fn code_130_is_for_a_second_signal() {
    let scratch = Scratch::new();
    let source = slow_source(&scratch);
    let target = scratch.join("target");
    let slow = Running::start(inhaul(&[&"copy", &SLOWLY, &source, &target]));
    first_file(&target.join("source"));
    // Both are waiting when it goes on, so the first has no time to end the run.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        slow.signal(signal);
    }
    slow.finish().expect(130);
    let whole = walk(&source);
    for (path, node) in walk(&target.join("source")) {
        if node.kind == "file" {
            assert_eq!(Some(&node), whole.get(&path), "{}", path.escape_ascii());
        }
    }
    // The next run goes on with what this one left, or sweeps it.
    run(&[&"copy", &source, &target]).expect(0);
    nothing_staged(&target);
}
