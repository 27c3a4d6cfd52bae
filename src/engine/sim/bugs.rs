//! Bugs put back in on purpose: a simulator that does not notice one proves nothing about it.

use super::job::{Plan, run};
use super::tests::tell;
use super::tree::Trees;
use crate::seam;

/// Seeds that may pass before a bug is noticed: fewer than are run without any.
const SEEDS_MAX: u64 = 1000;

/// Bugs that cannot show here, and what notices them.
const ELSEWHERE: [(&str, &str); 7] = [
    ("no-witness", "tests/contract_target"),
    (
        "read-back-cached",
        "tests/corruption.rs, the_bench_can_fail",
    ),
    (
        "read-back-not-compared",
        "tests/corruption.rs, the_bench_can_fail",
    ),
    (
        "repair-not-verified",
        "tests/corruption.rs, the_bench_can_fail",
    ),
    (
        "bit-flips-in-memory",
        "tests/corruption.rs, bits_that_flip_in_memory_after_the_hash",
    ),
    ("mode-before-owner", "tests/attributes.rs"),
    (
        "place-not-checked",
        "tests/target_trouble.rs, the_bench_can_fail",
    ),
];

/// Bugs that show with one kind of tree only, and which.
const TREES: [(&str, usize); 1] = [("stage-names-come-again", 6)];

fn is_noticed(bug: &'static str) {
    let trees = Trees::shared();
    let at = TREES.iter().find(|(of, _)| *of == bug);
    let plan = |seed| Plan {
        seed,
        tree: at.map(|(_, tree)| *tree),
        ..Plan::default()
    };
    let noticed = (1..=SEEDS_MAX).find_map(|seed| {
        let ran = seam::with_bug(bug, || run(&trees, plan(seed)));
        Some((seed, ran.err()?.what))
    });
    let Some((seed, what)) = noticed else {
        panic!("{bug} goes unnoticed");
    };
    println!("{bug}: seed {seed}: {what}");
    if let Err(failure) = run(&trees, plan(seed)) {
        tell(&trees, plan(seed), &failure);
    }
}

macro_rules! noticed {
    ($($test:ident: $bug:literal,)*) => {
        const HERE: &[&str] = &[$($bug),*];

        $(
            #[test]
            fn $test() {
                is_noticed($bug);
            }
        )*
    };
}

noticed! {
    no_sync_before_rename: "no-sync-before-rename",
    no_sync_after_rename: "no-sync-after-rename",
    no_dir_sync: "no-dir-sync",
    rename_before_sync: "rename-before-sync",
    sync_tried_again: "sync-tried-again",
    sync_error_ignored: "sync-error-ignored",
    short_write_ignored: "short-write-ignored",
    ack_before_journal: "ack-before-journal",
    journal_not_synced: "journal-not-synced",
    journal_error_ignored: "journal-error-ignored",
    naming_not_recorded: "naming-not-recorded",
    settle_not_synced: "settle-not-synced",
    blocks_before_sync: "blocks-before-sync",
    blocks_with_gaps: "blocks-with-gaps",
    bad_blocks_recorded: "bad-blocks-recorded",
    resume_without_check: "resume-without-check",
    stage_not_swept: "stage-not-swept",
    stage_names_come_again: "stage-names-come-again",
    size_and_mtime_skip: "size-and-mtime-skip",
    source_stamp_ignored: "source-stamp-ignored",
    target_stamp_ignored: "target-stamp-ignored",
    replaces_unasked: "replaces-unasked",
}

#[test]
fn every_bug_is_noticed_somewhere() {
    let elsewhere = ELSEWHERE.iter().map(|(bug, _)| bug);
    let mut noticed: Vec<&str> = HERE.iter().chain(elsewhere).copied().collect();
    let mut bugs = seam::BUGS.to_vec();
    noticed.sort_unstable();
    bugs.sort_unstable();
    assert_eq!(noticed, bugs);
}
