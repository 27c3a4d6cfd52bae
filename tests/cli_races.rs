//! Somebody else at work in the source or the target: nothing is read or written outside.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::judge::walk;
use support::program::run;
use support::{Scratch, tree};

const FILES: usize = 40;
const ROUNDS: usize = 12;

/// Ends the swapping, also when what it surrounds fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs `act` while another thread keeps swapping two names.
fn while_swapping(a: &Path, b: &Path, act: impl FnOnce()) {
    let (done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Relaxed);
            }
            // An even number of swaps, so that both are back.
            if swaps.load(Relaxed) % 2 == 1 {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _done = Done(&done);
        act();
    });
    assert!(
        swaps.load(Relaxed) > 100,
        "only {} swaps",
        swaps.load(Relaxed)
    );
}

fn fill(dir: &Path, text: &str) {
    for index in 0..FILES {
        tree::text(&dir.join(format!("file{index}")), text);
    }
    std::fs::create_dir_all(dir.join("below")).unwrap();
    for index in 0..FILES {
        tree::text(&dir.join(format!("below/file{index}")), text);
    }
}

#[test]
fn a_source_directory_that_turns_into_a_link_leads_nowhere() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let outside = scratch.dir("outside");
    fill(&scratch.dir("source/flip"), "mine");
    fill(&outside, "SECRET");
    symlink(&outside, scratch.join("decoy")).unwrap();
    let before = walk(&outside);
    while_swapping(&source.join("flip"), &scratch.join("decoy"), || {
        for round in 0..ROUNDS {
            let target = scratch.join(format!("target{round}"));
            let io = ["uring", "blocking"][round % 2];
            let ran = run(&[&"copy", &"-q", &"--io", &io, &source, &target]);
            assert!([0, 3, 4].contains(&ran.code), "{}: {}", ran.code, ran.err());
            for (path, node) in walk(&target) {
                let leaked = node.kind == "file" && node.size == "SECRET".len() as u64;
                assert!(!leaked, "{}", path.escape_ascii());
            }
        }
    });
    assert_eq!(walk(&outside), before);
}

#[test]
fn a_target_directory_that_turns_into_a_link_leads_nowhere() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let outside = scratch.dir("outside");
    fill(&scratch.dir("source/flip"), "new");
    let target = scratch.dir("target");
    let flip = scratch.dir("target/source/flip");
    scratch.dir("target/source/flip/below");
    tree::text(&outside.join("file0"), "precious");
    scratch.dir("outside/below");
    tree::set_time(&outside, 1_000_000_000, 0);
    symlink(&outside, scratch.join("decoy")).unwrap();
    let before = walk(&scratch.join("outside"));
    while_swapping(&flip, &scratch.join("decoy"), || {
        for round in 0..ROUNDS {
            let io = ["uring", "blocking"][round % 2];
            let policy = ["skip", "overwrite", "refuse"][round % 3];
            let ran = run(&[
                &"copy",
                &"-q",
                &"--existing",
                &policy,
                &"--io",
                &io,
                &source,
                &target,
            ]);
            assert!([0, 3, 4].contains(&ran.code), "{}: {}", ran.code, ran.err());
        }
    });
    assert_eq!(walk(&outside), before);
    let time = std::fs::metadata(&outside).unwrap().modified().unwrap();
    let seconds = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(
        seconds, 1_000_000_000,
        "the time of a directory outside was set"
    );
}

#[test]
fn a_private_folder_that_is_not_ours_is_refused() {
    use std::os::unix::fs::chown;
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::text(&source.join("file"), "x");
    let outside = scratch.dir("outside");
    let target = scratch.dir("target");
    let home = target.join(".inhaul");

    symlink(&outside, &home).unwrap();
    run(&[&"copy", &source, &target]).expect(6);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    std::fs::remove_file(&home).unwrap();

    std::fs::create_dir(&home).unwrap();
    tree::set_mode(&home, 0o777);
    run(&[&"copy", &source, &target]).expect(6);
    tree::set_mode(&home, 0o700);
    if rustix::process::geteuid().is_root() {
        chown(&home, Some(65_534), None).unwrap();
        run(&[&"copy", &source, &target]).expect(6);
        chown(&home, Some(0), None).unwrap();
    }
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    assert!(!target.join("source").exists());
    run(&[&"copy", &source, &target]).expect(0);
}
