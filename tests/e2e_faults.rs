//! Drives that fail, fill up or change under a copy: each file is whole or not there, and what is
//! not there is listed.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode};
use support::extents::{blocks, flip};
use support::judge::{b3sum_agrees, files, rsync_agrees, same_bytes, same_trees, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Running, contents, inhaul, listed, report, run};
use support::{Scratch, can_mount, need_root, need_tools, tool, tree, wait_for};

/// Fails unless every file of the copy is the one in the source, and nothing unknown is there.
fn check_whole(source: &Path, copy: &Path) -> usize {
    let originals = walk(source);
    let copies = walk(copy);
    for (path, node) in copies.iter().filter(|(_, node)| node.kind == "file") {
        let original = originals
            .get(path)
            .unwrap_or_else(|| panic!("{}", path.escape_ascii()));
        assert_eq!(original.content, node.content, "{}", path.escape_ascii());
    }
    files(&copies)
}

#[test]
fn a_target_that_fills_up_on_the_way() {
    if !can_mount("a_target_that_fills_up_on_the_way") {
        return;
    }
    for (fs, size) in [(Fs::Ext4, 128), (Fs::Xfs, 320), (Fs::Btrfs, 256)] {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        for index in 0..30 {
            let len = if index % 3 == 0 { 6_000_000 } else { 700_000 };
            tree::paint(&source.join(format!("file{index:02}")), index, len);
        }
        let target = Mounted::image(&scratch, "target", fs, size);
        let slow = Running::start(inhaul(&[
            &"copy",
            &"--bwlimit=25MB",
            &source,
            &target.path(),
        ]));
        let copy = target.join("source");
        wait_for("two files", || (files_in(&copy) >= 2).then_some(()));
        slow.signal(rustix::process::Signal::STOP);
        let fill = std::fs::File::create(target.join("fill")).unwrap();
        // All there is, piece by piece: what is said to be free cannot always be had in one.
        let mut len = 0;
        let mut step = 64 << 20;
        while step >= 4 << 10 {
            let more = FallocateFlags::empty();
            if rustix::fs::fallocate(&fill, more, len, step).is_ok() {
                len += step;
            } else {
                step /= 2;
            }
        }
        slow.signal(rustix::process::Signal::CONT);
        let ran = slow.finish();
        let text = ran.out() + &ran.err();
        let there = check_whole(&source, &copy);
        assert!((2..30).contains(&there), "{fs:?}: {there} files");
        assert!(text.contains("make room"), "{fs:?}: {text}");
        let of_a_file = format!("record-write  {}", source.display());
        assert!(!text.contains(&of_a_file), "{fs:?}: {text}");
        if ran.code == 3 {
            // Told once, not for each file; and what is acknowledged is in the manifest.
            let report = report(target.path());
            let line = format!("target-full {}", target.path().display());
            assert_eq!(listed(&report, "problems"), [line]);
            let recorded = report["totals"]["files"].as_u64().unwrap();
            let recorded = usize::try_from(recorded).unwrap();
            // What btrfs has set aside for a file takes other room to be written than there is then: a
            // sync or the journal may get none. What has its name by then is known to the next run.
            let is_known_later = fs == Fs::Btrfs && recorded < there;
            assert!(recorded == there || is_known_later, "{fs:?}: {text}");
            b3sum_agrees(target.path(), recorded);
        } else {
            // Nor may what a run ends with.
            assert!(fs == Fs::Btrfs && ran.code == 1, "{fs:?}: {text}");
        }

        // With room again, the rest follows.
        drop(fill);
        std::fs::remove_file(target.join("fill")).unwrap();
        // Room comes back with the next commit, not with the call.
        tool("sync", &["-f".as_ref(), target.path().as_os_str()]);
        run(&[&"copy", &source, &target.path()]).expect(0);
        rsync_agrees(&source, &copy);
        b3sum_agrees(target.path(), 30);
    }
}

fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_source_with_bad_blocks() {
    let test = "a_source_with_bad_blocks";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    for io in ["uring", "blocking"] {
        let scratch = Scratch::new();
        let source = Mounted::image(&scratch, "source", Fs::Ext4, 64);
        tree::many_small(&source.join("small"), 1, 50);
        tree::paint(&source.join("good"), 1, 3_000_000);
        // Placed last, so it lies last.
        tree::paint(&source.join("victim"), 2, 20_000_000);
        tool("sync", &["-f".as_ref(), source.path().as_os_str()]);
        let expected = walk(source.path());
        let end = blocks(&source.join("victim")).into_iter().max().unwrap();
        let others = ["good", "small/000/000049"]
            .map(|name| blocks(&source.join(name)).into_iter().max().unwrap());
        assert!(others.iter().all(|&other| other < end), "{others:?} {end}");
        // The image ends in the middle of the victim's last extent: reads beyond it give EIO.
        let image = std::fs::OpenOptions::new()
            .write(true)
            .open(source.image_path())
            .unwrap();
        image.set_len(end * 4096).unwrap();
        // What the walk left in the page cache must not hide that.
        let victim = std::fs::File::open(source.join("victim")).unwrap();
        rustix::fs::fadvise(&victim, 0, None, rustix::fs::Advice::DontNeed).unwrap();

        let target = scratch.join("target");
        let ran = run(&[&"copy", &"--io", &io, &contents(source.path()), &target]).expect(3);
        let line = format!("source-read {}/victim", source.path().display());
        assert_eq!(listed(&report(&target), "problems"), [line]);
        assert!(ran.err().contains("os error 5"), "{}", ran.err());
        assert!(!target.join("victim").exists());
        let mut rest = expected;
        rest.remove(b"victim".as_slice());
        same_trees(&rest, &walk(&target));
        b3sum_agrees(&target, 51);
    }
}

#[test]
fn files_that_vanish_on_the_way() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    for index in 0..60 {
        tree::paint(&source.join(format!("file{index:02}")), index, 300_000);
    }
    let all = walk(&source);
    let target = scratch.join("target");
    let copy = target.join("source");
    let slow = Running::start(inhaul(&[&"copy", &"--bwlimit=6MB", &source, &target]));
    wait_for("two files", || (files_in(&copy) >= 2).then_some(()));
    for name in all.keys() {
        let name = tree::name(name);
        if !copy.join(name).exists() {
            std::fs::remove_file(source.join(name)).unwrap();
        }
    }
    let ran = slow.finish();
    let problems = listed(&report(&target), "problems");
    // One that was being read just then changed before it vanished: its number of names did.
    let changed = problems
        .iter()
        .filter(|line| line.starts_with("source-changed"))
        .count();
    let vanished = problems
        .iter()
        .filter(|line| line.starts_with("source-vanished"))
        .count();
    assert_eq!(changed + vanished, problems.len());
    assert!(vanished > 0);
    assert_eq!(ran.code, if changed > 0 { 4 } else { 3 });
    let there = walk(&copy);
    assert_eq!(there.len() + problems.len(), 60);
    for (path, node) in &there {
        assert_eq!(Some(node), all.get(path), "{}", path.escape_ascii());
    }
}

#[test]
fn special_files_are_listed_or_made() {
    let test = "special_files_are_listed_or_made";
    if !need_root(test) || !need_tools(test, &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("file"), 1, 10);
    let make = |name: &str, kind, mode, device| {
        rustix::fs::mknodat(CWD, source.join(name), kind, Mode::from(mode), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0o620, 0);
    make(
        "null",
        FileType::CharacterDevice,
        0o666,
        rustix::fs::makedev(1, 3),
    );
    make(
        "disk",
        FileType::BlockDevice,
        0o640,
        rustix::fs::makedev(7, 200),
    );
    drop(UnixListener::bind(source.join("socket")).unwrap());
    tree::age(&source, 1_000_000_000);

    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    let names = ["disk", "fifo", "null", "socket"];
    let skipped = listed(&report(&target), "skipped");
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    for name in names {
        assert!(!target.join("source").join(name).exists());
        assert!(
            skipped.iter().any(|line| line.ends_with(name)),
            "{name} in {skipped:?}"
        );
    }
    assert_eq!(files(&walk(&target)), 1);

    let target = scratch.join("with special");
    run(&[&"copy", &"--special", &source, &target]).expect(0);
    let copy = target.join("source");
    rsync_agrees(&source, &copy);
    let stat = std::fs::metadata(copy.join("null")).unwrap();
    assert!(stat.file_type().is_char_device());
    assert_eq!(stat.rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn other_file_systems_below_a_source_are_not_entered() {
    let test = "other_file_systems_below_a_source_are_not_entered";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("file"), 1, 10);
    let other = Mounted::tmpfs(&scratch, "source/mounted", 4);
    tree::paint(&other.join("inside"), 1, 10);
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    assert!(target.join("source/file").exists());
    assert!(!target.join("source/mounted/inside").exists());
    let skipped = listed(&report(&target), "skipped");
    assert!(
        skipped.iter().any(|line| line.ends_with("source/mounted")),
        "{skipped:?}"
    );
}

#[test]
fn names_of_one_symlink_stay_one_symlink() {
    if !need_tools("names_of_one_symlink_stay_one_symlink", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    scratch.dir("source/below");
    std::os::unix::fs::symlink("anywhere", source.join("link")).unwrap();
    std::fs::hard_link(source.join("link"), source.join("below/link too")).unwrap();
    tree::age(&source, 1_000_000_000);
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    rsync_agrees(&source, &target.join("source"));
}

#[test]
fn a_target_that_cannot_be_written() {
    let test = "a_target_that_cannot_be_written";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("file"), 1, 10);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 32);
    tool(
        "mount",
        &[
            "-o".as_ref(),
            "remount,ro".as_ref(),
            target.path().as_os_str(),
        ],
    );
    let ran = run(&[&"copy", &source, &target.path()]);
    assert!(
        ![0, 3, 4, 75].contains(&ran.code),
        "code {}: {}",
        ran.code,
        ran.err()
    );
    assert!(ran.err().contains("Read-only"), "{}", ran.err());
}

#[test]
fn verify_reads_the_medium_and_not_the_cache() {
    let test = "verify_reads_the_medium_and_not_the_cache";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::paint(&source.join("file"), 1, 5_000_000);
    tree::paint(&source.join("small"), 1, 5_000);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 64);
    run(&[&"copy", &contents(&source), &target.path()]).expect(0);
    for io in ["uring", "blocking"] {
        for name in ["file", "small"] {
            let copy = target.join(name);
            // Now the page cache holds the right bytes.
            same_bytes(&source.join(name), &copy);
            run(&[&"verify", &"--io", &io, &target.path()]).expect(0);
            same_bytes(&source.join(name), &copy);
            let place = *blocks(&copy).first().unwrap() * 4096 + 100;
            flip(target.device(), place);
            let cached = Command::new("cmp")
                .args([&source.join(name), &copy])
                .status()
                .unwrap();
            assert!(
                cached.success(),
                "the cache was not used, so this shows nothing"
            );
            run(&[&"verify", &"--io", &io, &target.path()])
                .expect(4)
                .says(name);
            flip(target.device(), place);
        }
    }
}
