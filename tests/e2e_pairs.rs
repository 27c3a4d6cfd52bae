//! One full tree from every kind of file system to another, by both backends, judged by rsync and
//! b3sum: nothing may be missing, changed or added.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::Path;

use support::judge::{allocated, b3sum_agrees, rsync_agrees, rsync_agrees_in_target, walk};
use support::mounts::{Fs, Mounted};
use support::odd::{Odd, build, islands};
use support::program::{contents, manifest, report, run};
use support::{Scratch, can_mount, deep, judge, need_tools, tree};

const ODD: Odd = Odd {
    seed: 11,
    small: 200,
    sparse_mib: 64,
};

/// Slack for what a file system sets aside at the edges of data: 64 KiB for each place.
const SLACK: u64 = 1 << 20;

fn ready(test: &str) -> bool {
    can_mount(test) && need_tools(test, &["setfacl", "cmp"])
}

/// Copies a source by both backends and has everything judged.
fn check(source: &Path, target: &Mounted) {
    let base = source.file_name().unwrap();
    for io in ["uring", "blocking"] {
        let place = target.join(io);
        run(&[&"copy", &"--io", &io, &source, &place]).expect(0);
        let copy = place.join(base);
        rsync_agrees(source, &copy);
        let holes = Path::new("tree/holes/islands");
        assert!(
            allocated(&copy.join(holes)) <= allocated(&source.join(holes)) + SLACK,
            "{} bytes are allocated",
            allocated(&copy.join(holes))
        );
        let report = report(&place);
        let used = report["lanes"][0]["io"].as_str().unwrap();
        assert_eq!(used.starts_with("io_uring"), io == "uring", "{used}");
        assert_eq!(report["problem_count"], 0);
        assert_eq!(report["skipped_count"], 0);
    }
    let [uring, blocking] = ["uring", "blocking"].map(|io| target.join(io));
    let tree = walk(&uring);
    judge::same_trees(&tree, &walk(&blocking));
    b3sum_agrees(&uring, judge::files(&tree));
    assert!(!manifest(&uring).is_empty());
    assert_eq!(
        manifest(&uring),
        manifest(&blocking),
        "the manifests differ"
    );
}

fn tree_on(source: &Mounted) -> &Path {
    build(&source.dir("tree"), ODD);
    source.path()
}

#[test]
fn ext4_to_ext4() {
    if !ready("ext4_to_ext4") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 96);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 160);
    check(tree_on(&source), &target);
}

#[test]
fn xfs_to_ext4() {
    if !ready("xfs_to_ext4") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Xfs, 320);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 160);
    check(tree_on(&source), &target);
}

#[test]
fn btrfs_to_xfs() {
    if !ready("btrfs_to_xfs") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Btrfs, 256);
    let target = Mounted::image(&scratch, "target", Fs::Xfs, 400);
    check(tree_on(&source), &target);
}

#[test]
fn ext4_to_btrfs() {
    if !ready("ext4_to_btrfs") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 96);
    let target = Mounted::image(&scratch, "target", Fs::Btrfs, 512);
    check(tree_on(&source), &target);
}

#[test]
fn tmpfs_to_ext4() {
    if !ready("tmpfs_to_ext4") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::tmpfs(&scratch, "source", 96);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 160);
    check(tree_on(&source), &target);
}

#[test]
fn overlay_to_ext4() {
    if !ready("overlay_to_ext4") {
        return;
    }
    let scratch = Scratch::new();
    let layers = Mounted::image(&scratch, "layers", Fs::Ext4, 128);
    let lower = layers.dir("lower");
    tree::many_small(&lower.join("below"), 5, 70);
    tree::paint(&lower.join("below/large"), 6, (2 << 20) + 1);
    tree::text(&lower.join("below/hidden"), "hidden by the layer above");
    let source = Mounted::overlay(&scratch, "source", &lower, layers.path());
    std::fs::remove_file(source.join("below/hidden")).unwrap();
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 256);
    check(tree_on(&source), &target);
    assert!(!target.join("uring/source/below/hidden").exists());
}

#[test]
fn to_tmpfs_and_to_an_overlay() {
    if !ready("to_tmpfs_and_to_an_overlay") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 96);
    let layers = Mounted::image(&scratch, "layers", Fs::Ext4, 192);
    let over = Mounted::overlay(&scratch, "over", &layers.dir("lower"), layers.path());
    let memory = Mounted::tmpfs(&scratch, "memory", 160);
    let source = tree_on(&source);
    check(source, &over);
    check(source, &memory);
}

#[test]
fn several_gib_of_holes_stay_holes() {
    const LEN: u64 = (5 << 30) + 12_345;
    if !ready("several_gib_of_holes_stay_holes") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Xfs, 320);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 64);
    let file = source.join("disk.img");
    tree::sparse(&file, 3, LEN, &islands(LEN));
    run(&[&"copy", &contents(source.path()), &target.path()]).expect(0);
    let copy = target.join("disk.img");
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), LEN);
    assert!(
        allocated(&copy) <= allocated(&file) + SLACK,
        "{} bytes",
        allocated(&copy)
    );
    b3sum_agrees(target.path(), 1);
    judge::same_bytes(&file, &copy);
}

#[test]
fn paths_longer_than_path_max() {
    if !ready("paths_longer_than_path_max") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 64);
    let target = Mounted::image(&scratch, "target", Fs::Xfs, 320);
    // 34 levels of 250 bytes and a slash: 8.5 kB, twice what one call takes.
    deep::build(&source.dir("deep"), 34, 250);
    for io in ["uring", "blocking"] {
        let place = target.join(io);
        run(&[&"copy", &"--io", &io, &source.path(), &place]).expect(0);
        let original = walk(source.path());
        judge::same_trees(&original, &walk(&place.join("source")));
        assert_eq!(judge::files(&original), 34);
        // 16 levels and "source/deep/file" are within 4095 bytes; deeper ones b3sum cannot open.
        let report = report(&place);
        assert_eq!(report["names_outside_b3sum"], 17);
        b3sum_agrees(&place, 34);
        run(&[&"verify", &"--io", &io, &place]).expect(0);
    }
}

#[test]
fn a_drive_with_thousands_of_files_lands_in_target_itself() {
    if !ready("a_drive_with_thousands_of_files_lands_in_target_itself") {
        return;
    }
    let scratch = Scratch::new();
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 96);
    let target = Mounted::image(&scratch, "target", Fs::Xfs, 320);
    tree::many_small(&source.dir("small"), 1, 4000);
    tree::age(source.path(), 1_300_000_000);
    run(&[&"copy", &contents(source.path()), &target.path()]).expect(0);
    rsync_agrees_in_target(source.path(), target.path());
    b3sum_agrees(target.path(), 4000);
    let report = report(target.path());
    assert_eq!(report["totals"]["files"], 4000);
    assert_eq!(
        report["totals"]["bytes"],
        judge::bytes(&walk(source.path()))
    );
}
