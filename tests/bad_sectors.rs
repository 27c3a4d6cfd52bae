//! Drives with bad sectors: everything that can be read is, what cannot be read is named to the
//! byte, and a file with a hole in it never passes for a copy.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use drive::Drive;
use serde_json::Value;
use support::extents::place;
use support::judge::{b3sum_agrees, same_bytes, walk};
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Running, contents, inhaul, job, killed_at, listed, report, run};
use support::{Scratch, can_mount, need_tools, tree};

const LARGE: u64 = 5_000_000;
const SMALL: u64 = 10_000;

/// What is bad of the large file, and of the small one: sectors of 512 bytes.
const BAD: [[u64; 2]; 5] = [
    [0, 512],
    [1_000_448, 1_000_960],
    [1_001_472, 1_001_984],
    [3_145_728, 3_350_528],
    [4_999_680, LARGE],
];
const BAD_SMALL: [[u64; 2]; 1] = [[4096, 4608]];

/// Makes a drive with files that are good and two that have bad sectors.
fn drive(dir: &Path, fs: Fs, mib: u64) -> Drive {
    let mut drive = Drive::new(dir, fs, mib);
    tree::paint(&drive.join("a-bad"), 1, LARGE);
    tree::paint(&drive.join("b-small"), 2, SMALL);
    tree::paint(&drive.join("c-good"), 3, 3_000_000);
    tree::many_small(&drive.join("d-many"), 4, 100);
    std::fs::hard_link(drive.join("a-bad"), drive.join("e-linked")).unwrap();
    drive.remount();
    drive
}

fn spoil(drive: &Drive) {
    for (name, bad) in [("a-bad", &BAD[..]), ("b-small", &BAD_SMALL[..])] {
        let path = drive.join(name);
        for [start, end] in bad {
            // Whole sectors, also where the file ends within one.
            let from = place(&path, *start);
            drive.fail_reads(from..from + (end - start).next_multiple_of(512));
        }
    }
}

/// Returns what a report says of a file that cannot be read whole.
fn unreadable(report: &Value, path: &Path) -> Value {
    let problems = report["problems"].as_array().unwrap();
    let path = path.to_str().unwrap();
    let found = problems.iter().find(|problem| problem["path"] == path);
    found.unwrap_or_else(|| panic!("{path} in {problems:?}"))["unreadable"].clone()
}

/// Fails unless the map says what is bad in the words of ddrescue.
fn map_agrees(map: &Path, bad: &[[u64; 2]]) {
    let list = Command::new("ddrescuelog")
        .args(["--list-blocks=-", "--block-size=512"])
        .arg(map)
        .output()
        .unwrap();
    assert!(list.status.success(), "{list:?}");
    let text = String::from_utf8(list.stdout).unwrap();
    let found: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let sectors = |[start, end]: &[u64; 2]| start / 512..end.div_ceil(512);
    let expected: Vec<u64> = bad.iter().flat_map(sectors).collect();
    assert_eq!(found, expected);
}

/// Fails unless a file holds a painted one, with zeros where that is bad.
fn holds(path: &Path, seed: u64, len: u64, bad: &[[u64; 2]]) {
    let mut expected = tree::painted(seed, 0, usize::try_from(len).unwrap());
    for [start, end] in bad
        .iter()
        .map(|range| range.map(|at| usize::try_from(at).unwrap()))
    {
        expected[start..end].fill(0);
    }
    let found = std::fs::read(path).unwrap();
    assert_eq!(found.len(), expected.len());
    let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "{}", path.display());
}

#[test]
fn what_cannot_be_read_is_named_to_the_byte_and_the_rest_is_saved() {
    let test = "what_cannot_be_read_is_named_to_the_byte_and_the_rest_is_saved";
    if !can_mount(test) || !need_tools(test, &["filefrag", "ddrescuelog"]) {
        return;
    }
    let lab = Lab::new();
    let scratch = Scratch::new();
    for (fs, mib, io) in [(Fs::Ext4, 64, "uring"), (Fs::Xfs, 320, "blocking")] {
        let drive = drive(&lab.join(fs.name()), fs, mib);
        let bad = drive.join("a-bad");
        spoil(&drive);
        let good = ["c-good", "d-many/000/000007", "d-many/001/000099"];
        let is_right = |target: &Path| {
            for name in good {
                same_bytes(&drive.join(name), &target.join(name));
            }
            for name in ["a-bad", "b-small", "e-linked"] {
                assert!(!target.join(name).exists(), "{fs:?}: {name}");
            }
        };
        let says = |target: &Path, has: &[&str]| {
            let report = report(target);
            let lines = ["a-bad", "b-small", "e-linked"]
                .map(|name| format!("source-read {}", drive.join(name).display()));
            assert_eq!(listed(&report, "problems"), lines, "{fs:?}");
            for (name, bad) in [("a-bad", &BAD[..]), ("b-small", &BAD_SMALL[..])] {
                let told = [name, "e-linked"].map(|name| drive.join(name));
                let problems = report["problems"].as_array().unwrap();
                // Whichever of its names comes first is told of.
                let is_first = problems.iter().any(|problem| {
                    problem["path"] == told[0].to_str().unwrap() && !problem["unreadable"].is_null()
                });
                let path = if is_first { &told[0] } else { &told[1] };
                let told = unreadable(&report, path);
                assert_eq!(told["ranges"], serde_json::json!(bad), "{fs:?}: {name}");
                let bytes: u64 = bad.iter().map(|[start, end]| end - start).sum();
                assert_eq!(told["bytes"], bytes);
                map_agrees(&job(target).join(told["map"].as_str().unwrap()), bad);
                let first = path.file_name().unwrap().to_str().unwrap();
                let kept = has.contains(&"partial").then(|| format!("{first}.partial"));
                assert_eq!(told["kept_as"].as_str(), kept.as_deref(), "{fs:?}: {name}");
            }
            let lane = &report["lanes"][0];
            assert_eq!(lane["safe_to_release"], false);
            let [files, kept] = ["files", "kept"].map(|it| lane["totals"][it].as_u64().unwrap());
            assert_eq!(files + kept, 101, "{fs:?}: {lane}");
            let salvaged = if has.contains(&"partial") { 2 } else { 0 };
            assert_eq!(lane["totals"]["salvaged"], salvaged, "{fs:?}: {lane}");
        };
        let source = contents(drive.path());

        // Without being asked, no part of such a file gets a name.
        let target = scratch.dir(format!("{} whole", fs.name()));
        run(&[&"copy", &"--io", &io, &source, &target])
            .expect(3)
            .says("os error 5");
        is_right(&target);
        says(&target, &[]);
        b3sum_agrees(&target, 101);
        let names = walk(&target);
        assert!(names.keys().all(|name| !name.ends_with(b".partial")));

        // Asked, it does, in a run that goes on and in one that begins; and again.
        let anew = scratch.dir(format!("{} anew", fs.name()));
        for target in [&target, &anew, &anew] {
            let ran = run(&[&"copy", &"--io", &io, &"--salvage", &source, &target]);
            ran.expect(3).says(".partial");
            is_right(target);
            says(target, &["partial"]);
            let partial = ["a-bad.partial", "e-linked.partial"].map(|name| target.join(name));
            let partial = partial.iter().find(|path| path.exists()).unwrap();
            holds(partial, 1, LARGE, &BAD);
            holds(&target.join("b-small.partial"), 2, SMALL, &BAD_SMALL);
            b3sum_agrees(target, 103);
            run(&[&"verify", target]).expect(0);
        }
        let kept = report(&anew)["totals"]["kept"].as_u64().unwrap();
        assert_eq!(kept, 101, "what was copied is not copied again");
        let reads = run(&[
            &"copy",
            &"--verify=both",
            &"--salvage",
            &source,
            &scratch.join(format!("{} proved", fs.name())),
        ]);
        reads.expect(3).says(".partial");

        // A drive that has found its bytes again: the file gets its name after all.
        drive.heal();
        run(&[&"copy", &"--io", &io, &source, &anew]).expect(0);
        same_bytes(&bad, &anew.join("a-bad"));
        same_bytes(&bad, &anew.join("e-linked"));
        same_bytes(&drive.join("b-small"), &anew.join("b-small"));
        // What was saved of it stays, and is told of.
        holds(&anew.join("b-small.partial"), 2, SMALL, &BAD_SMALL);
        let told = listed(&report(&anew), "skipped");
        let is_told = told.iter().any(|it| it == "partial b-small.partial");
        assert!(is_told, "{told:?}");
    }
}

#[test]
fn what_was_saved_of_a_file_that_is_whole_now_is_told_of_as_long_as_it_is_that() {
    let test = "what_was_saved_of_a_file_that_is_whole_now_is_told_of_as_long_as_it_is_that";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    let odd = OsStr::from_bytes(b"odd-\xff");
    let names = ["edited", "real", "removed", "still-bad"].map(OsStr::new);
    let names = [&names[..], &[odd]].concat();
    for (seed, name) in (1..).zip(&names) {
        tree::paint(&drive.path().join(name), seed, SMALL);
    }
    drive.remount();
    let spoil = |name: &OsStr| {
        let from = place(&drive.path().join(name), 0);
        drive.fail_reads(from..from + 512);
    };
    for name in &names {
        spoil(name);
    }
    let scratch = Scratch::new();
    let target = scratch.dir("target");
    let source = contents(drive.path());
    run(&[&"copy", &"--salvage", &source, &target]).expect(3);
    b3sum_agrees(&target, 5);
    let mut edited = std::fs::read(target.join("edited.partial")).unwrap();
    edited.push(1);
    std::fs::write(target.join("edited.partial"), &edited).unwrap();
    std::fs::remove_file(target.join("removed.partial")).unwrap();
    // Now the source has a file that is called so.
    tree::paint(&drive.join("real.partial"), 9, SMALL);
    drive.heal();
    spoil(OsStr::new("still-bad"));
    // In the run that copies it, and in the one after, in which it is there.
    for _ in 0..2 {
        let ran = run(&[&"copy", &"--salvage", &source, &target]).expect(3);
        let report = report(&target);
        let told = listed(&report, "skipped");
        assert_eq!(told, ["partial odd-\u{fffd}.partial"], "{}", ran.err());
        let hex = "6f64642dff2e7061727469616c";
        assert_eq!(report["skipped"][0]["path_hex"], hex);
        assert_eq!(
            std::fs::read(target.join("edited.partial")).unwrap(),
            edited
        );
        same_bytes(&drive.join("real.partial"), &target.join("real.partial"));
        // Four files, the one that is called so, and what is saved of the last one.
        b3sum_agrees(&target, 6);
    }
    // Whoever takes it away takes nothing from the proof.
    std::fs::remove_file(target.join(OsStr::from_bytes(b"odd-\xff.partial"))).unwrap();
    run(&[&"verify", &target]).expect(0);
    b3sum_agrees(&target, 6);
}

#[test]
fn what_was_saved_of_a_file_is_not_waited_for_when_the_sources_are_read_again() {
    let test = "what_was_saved_of_a_file_is_not_waited_for_when_the_sources_are_read_again";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    tree::paint(&drive.join("x"), 1, SMALL);
    drive.remount();
    let from = place(&drive.join("x"), 0);
    drive.fail_reads(from..from + 512);
    let target = lab.join("target");
    let source = contents(drive.path());
    run(&[&"copy", &"--salvage", &source, &target]).expect(3);
    drive.heal();
    let ran = run(&[&"copy", &"--salvage", &"--verify=both", &source, &target]).expect(0);
    assert_eq!(
        report(&target)["lanes"][0]["safe_to_release"],
        true,
        "{}",
        ran.out()
    );
    b3sum_agrees(&target, 1);
}

#[test]
fn a_file_that_is_called_like_what_is_saved_stays_in_the_manifest() {
    let test = "a_file_that_is_called_like_what_is_saved_stays_in_the_manifest";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    tree::paint(&drive.join("x"), 1, SMALL);
    drive.remount();
    let from = place(&drive.join("x"), 0);
    drive.fail_reads(from..from + 512);
    let scratch = Scratch::new();
    let target = scratch.dir("target");
    let source = contents(drive.path());
    run(&[&"copy", &source, &target]).expect(3);
    // It gets its name, and is never acknowledged.
    tree::paint(&drive.join("x.partial"), 2, SMALL);
    killed_at(&[&"copy", &source, &target], "named-all:1");
    let bytes = std::fs::read(drive.join("x.partial")).unwrap();
    std::fs::remove_file(drive.join("x.partial")).unwrap();
    drive.heal();
    run(&[&"copy", &source, &target]).expect(0);
    assert_eq!(listed(&report(&target), "skipped"), [""; 0]);
    assert_eq!(std::fs::read(target.join("x.partial")).unwrap(), bytes);
    b3sum_agrees(&target, 2);
}

#[test]
fn a_sector_that_gives_its_bytes_in_the_end_costs_nothing() {
    let test = "a_sector_that_gives_its_bytes_in_the_end_costs_nothing";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let drive = drive(&lab.join("drive"), Fs::Ext4, 64);
    for (name, at) in [("a-bad", 2_000_896), ("b-small", 512)] {
        let from = place(&drive.join(name), at);
        // In one piece, in 64 KiB, in 4 KiB, and by itself.
        drive.weaken(from..from + 512, 4);
        // It is begun twice, and lacks what it must not have once.
        tree::set_mode(&drive.join(name), 0o4755);
    }
    let scratch = Scratch::new();
    let target = scratch.dir("target");
    run(&[&"copy", &contents(drive.path()), &target]).expect(0);
    assert_eq!(report(&target)["privileges_cleared"], 2);
    for name in ["a-bad", "b-small", "c-good", "e-linked"] {
        same_bytes(&drive.join(name), &target.join(name));
    }
    assert_eq!(report(&target)["lanes"][0]["safe_to_release"], true);
    b3sum_agrees(&target, 104);
}

#[test]
fn a_bad_spot_waits_until_everything_else_is_read() {
    let test = "a_bad_spot_waits_until_everything_else_is_read";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let drive = drive(&lab.join("drive"), Fs::Ext4, 64);
    spoil(&drive);
    let place_of = |name: &str, at| place(&drive.join(name), at);
    let bad = place_of("a-bad", 3_145_728);
    let (last, tail) = (place_of("c-good", 2_097_152), place_of("a-bad", 4_194_304));
    drive.take_reads();
    let scratch = Scratch::new();
    run(&[&"copy", &contents(drive.path()), &scratch.dir("target")]).expect(3);
    let reads = drive.take_reads();
    let first = |is_it: &dyn Fn(&(u64, u64)) -> bool| reads.iter().position(is_it).unwrap();
    // Larger than a step and cut by the loop device, or one piece of a step.
    let closer = first(&|(at, len)| *at == bad && *len == 64 << 10);
    let good = first(&|(at, _)| *at == last);
    let rest = first(&|(at, _)| *at == tail);
    assert!(good < closer, "another file came after the bad spot");
    assert!(
        rest < closer,
        "the rest of the file came after its bad spot"
    );
}

#[test]
fn a_name_of_the_source_is_never_taken_for_what_is_saved() {
    let test = "a_name_of_the_source_is_never_taken_for_what_is_saved";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    tree::paint(&drive.join("x"), 1, SMALL);
    tree::paint(&drive.join("x.partial"), 2, SMALL);
    tree::paint(&drive.join("y"), 3, SMALL);
    drive.remount();
    for name in ["x", "y"] {
        let from = place(&drive.join(name), 0);
        drive.fail_reads(from..from + 512);
    }
    let scratch = Scratch::new();
    let target = scratch.dir("target");
    // Somebody else's file has the name that the other one would get.
    tree::paint(&target.join("y.partial"), 9, 100);
    let source = contents(drive.path());
    for _ in 0..2 {
        let ran = run(&[&"copy", &"--salvage", &source, &target]).expect(3);
        same_bytes(&drive.join("x.partial"), &target.join("x.partial"));
        holds(&target.join("y.partial"), 9, 100, &[]);
        let problems = listed(&report(&target), "problems");
        let [x, y] = ["x", "y"].map(|name| drive.join(name).display().to_string());
        let expected = [
            format!("source-read {x}"),
            format!("source-read {y}"),
            format!("target-exists {x}"),
            format!("target-exists {y}"),
        ];
        assert_eq!(problems, expected, "{}", ran.err());
    }
}

#[test]
fn nothing_from_the_first_bad_block_on_is_gone_on_with() {
    let test = "nothing_from_the_first_bad_block_on_is_gone_on_with";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let drive = drive(&lab.join("drive"), Fs::Ext4, 64);
    let from = place(&drive.join("a-bad"), 3_145_728);
    drive.fail_reads(from..from + 4096);
    let scratch = Scratch::new();
    let target = scratch.dir("target");
    let source = contents(drive.path());
    let copy = |code| {
        let mut command = inhaul(&[&"copy", &source, &target]);
        // Each block is recorded as soon as it is durable.
        command.env("INHAUL_TEST_SYNC_BLOCKS", "1");
        Running::start(command).finish().expect(code);
        report(&target)["totals"]["kept_bytes"].as_u64().unwrap()
    };
    copy(3);
    let again = copy(3);
    drive.heal();
    let healed = copy(0);
    let large = std::fs::metadata(drive.join("c-good")).unwrap().len();
    let small = walk(&drive.join("d-many"));
    let small: usize = small
        .keys()
        .map(|name| {
            let path = drive.join("d-many").join(tree::name(name));
            std::fs::metadata(path).map_or(0, |it| if it.is_file() { it.len() } else { 0 })
        })
        .map(|len| usize::try_from(len).unwrap())
        .sum();
    let whole = large + SMALL + small as u64;
    // Of the file that was begun at most the three blocks before the bad one; whether each of them is
    // recorded before the error comes is a matter of time.
    let at_most = whole..=whole + (3 << 20);
    assert!(at_most.contains(&again), "{again} {at_most:?}");
    assert!(at_most.contains(&healed), "{healed} {at_most:?}");
    for name in ["a-bad", "b-small", "c-good", "e-linked"] {
        same_bytes(&drive.join(name), &target.join(name));
    }
}
