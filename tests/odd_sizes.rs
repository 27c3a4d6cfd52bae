//! Files that are not as long as their file system says: nothing is left out in silence.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::Path;

use support::judge::{b3sum_agrees, walk};
use support::program::{contents, listed, report, run};
use support::told::Told;
use support::{Scratch, need_root, tree};

const MIB: u64 = 1 << 20;

/// What a file is said to have, and what it has, in bytes.
const LIES: [(u64, u64); 12] = [
    (0, 1),
    (0, 5000),
    (0, 3 * MIB),
    (100, 5000),
    (4096, 4097),
    (MIB, MIB + 1),
    (MIB + 1, 4 * MIB),
    (2 * MIB, 2 * MIB + 1),
    (100, 0),
    (5000, 100),
    (MIB, 4096),
    (4 * MIB, 2 * MIB),
];
/// Lengths that are told as they are.
const TRUTHS: [u64; 7] = [0, 1, 4095, 4096, MIB, 2 * MIB, 3 * MIB + 17];

fn told(said: u64, has: u64) -> Told {
    let bytes = tree::painted(1, 0, usize::try_from(has).unwrap());
    Told::new(&format!("said {said} has {has}"), said, bytes)
}

#[test]
fn what_is_longer_or_shorter_than_it_is_said_to_be_is_told_of() {
    let test = "what_is_longer_or_shorter_than_it_is_said_to_be_is_told_of";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let lies = LIES.iter().map(|&(said, has)| told(said, has));
    let truths = TRUTHS.iter().map(|&size| told(size, size));
    let source = Told::mount(&scratch.join("source"), lies.chain(truths).collect());
    for io in ["uring", "blocking"] {
        let target = scratch.join(io);
        let from = contents(source.path());
        let ran = run(&[&"copy", &"--io", &io, &from, &target]).expect(4);
        let ran = ran.says("has more bytes than the 0 that its file system says it has");
        ran.says("ends at byte 4096, not at 1048576 as its file system said");
        let mut wanted: Vec<String> = LIES
            .iter()
            .map(|(said, has)| {
                let path = source.path().join(format!("said {said} has {has}"));
                format!("source-changed {}", path.display())
            })
            .collect();
        wanted.sort();
        let report = report(&target);
        assert_eq!(listed(&report, "problems"), wanted, "{io}");
        assert_eq!(report["lanes"][0]["safe_to_release"], false);
        let copies = walk(&target);
        assert_eq!(copies.len(), TRUTHS.len(), "{io}");
        for size in TRUTHS {
            let copy = &copies[format!("said {size} has {size}").as_bytes()];
            let bytes = tree::painted(1, 0, usize::try_from(size).unwrap());
            assert_eq!(copy.content, blake3::hash(&bytes).as_bytes(), "{io} {size}");
        }
        b3sum_agrees(&target, TRUTHS.len());
    }
    // Nor does a digest stand for a part of a file.
    let ran = run(&[&"hash", &source.path().join("said 0 has 5000")]).expect(4);
    assert_eq!(ran.out(), "");
    ran.says("has more bytes");
}

#[test]
fn a_file_without_an_end_is_told_of_and_not_waited_for() {
    let test = "a_file_without_an_end_is_told_of_and_not_waited_for";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let files = [0, 4096, 2 << 20].map(|size| {
        let bytes = tree::painted(1, 0, size);
        Told::endless(&format!("endless {size}"), bytes)
    });
    let files = files.into_iter().chain([told(100, 100)]).collect();
    let source = Told::mount(&scratch.join("source"), files);
    for io in ["uring", "blocking"] {
        let target = scratch.join(io);
        let from = contents(source.path());
        let ran = run(&[&"copy", &"--io", &io, &from, &target]).expect(3);
        ran.says("its end cannot be told");
        let wanted = ["0", "2097152", "4096"].map(|size| {
            let path = source.path().join(format!("endless {size}"));
            format!("source-read {}", path.display())
        });
        assert_eq!(listed(&report(&target), "problems"), wanted, "{io}");
        assert_eq!(walk(&target).len(), 1, "{io}");
    }
}

#[test]
fn files_of_proc_are_told_of_and_not_copied_empty() {
    let version = Path::new("/proc/version");
    assert_eq!(std::fs::metadata(version).unwrap().len(), 0);
    assert!(!std::fs::read(version).unwrap().is_empty());
    let scratch = Scratch::new();
    let plain = scratch.join("plain");
    tree::text(&plain, "plain");
    let target = scratch.join("target");
    let ran = run(&[&"copy", &version, &plain, &target]).expect(4);
    let problems = listed(&report(&target), "problems");
    assert_eq!(problems, ["source-changed /proc/version"], "{}", ran.err());
    assert!(!target.join("version").exists());
    assert_eq!(std::fs::read(target.join("plain")).unwrap(), b"plain");
}
