//! Sources that give other bytes when they are read a second time: `--verify both` tells of them,
//! and does not call their drive safe to release.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::path::Path;

use drive::Drive;
use serde_json::Value;
use support::extents::place;
use support::judge::{b3sum_agrees, same_bytes};
use support::lab::Lab;
use support::mounts::Fs;
use support::program::{Ran, contents, listed, report, run};
use support::{can_mount, need_tools, tree};

const LARGE: u64 = 5_000_000;
const SMALL: u64 = 10_000;

/// Makes a drive of two files that are to be trusted and two that are not.
fn drive(dir: &Path, fs: Fs) -> Drive {
    let mut drive = Drive::new(dir, fs, 320);
    tree::paint(&drive.join("large"), 1, LARGE);
    tree::paint(&drive.join("small"), 2, SMALL);
    tree::paint(&drive.join("right-large"), 3, LARGE);
    tree::paint(&drive.join("right-small"), 4, SMALL);
    drive.remount();
    drive
}

/// From their second read on, a bit in one byte of each is another one.
fn make_fickle(drive: &Drive) {
    for (name, at) in [("large", 3_333_333), ("small", 9_999)] {
        let at = place(&drive.join(name), at);
        drive.misread_after(at..at + 1, 1);
    }
}

fn copy(drive: &Drive, verify: &str, io: &str, target: &Path) -> Ran {
    let from = contents(drive.path());
    run(&[&"copy", &"--verify", &verify, &"--io", &io, &from, &target])
}

/// Returns what is said of the drive: whether it may be released, and why (not).
fn verdict(report: &Value) -> (bool, String) {
    let lane = &report["lanes"][0];
    let words = lane["verdict"].as_str().unwrap().to_owned();
    (lane["safe_to_release"].as_bool().unwrap(), words)
}

#[test]
fn a_drive_that_gives_other_bytes_the_second_time_is_told_of() {
    let test = "a_drive_that_gives_other_bytes_the_second_time_is_told_of";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    // (btrfs knows by its own checksums which of the two was wrong, and gives an error.)
    for fs in [Fs::Ext4, Fs::Xfs] {
        let drive = drive(&lab.join(format!("{fs:?}")), fs);
        for io in ["uring", "blocking"] {
            make_fickle(&drive);
            let target = lab.join(format!("{fs:?}-{io}"));
            let ran = copy(&drive, "both", io, &target).expect(4);
            let ran = ran.says("read twice, it gave different bytes");
            let report = report(&target);
            let wanted = ["large", "small"]
                .map(|name| format!("digest-mismatch {}", drive.join(name).display()));
            assert_eq!(listed(&report, "problems"), wanted, "{}", ran.err());
            assert_eq!(report["evidence"]["source_read_twice"], 2, "{fs:?} {io}");
            let no = (false, "2 things not copied whole".to_owned());
            assert_eq!(verdict(&report), no, "{fs:?} {io}");
            // Which read was right only the target can tell, and that stays.
            drive.heal();
            for name in ["large", "small", "right-large", "right-small"] {
                same_bytes(&drive.join(name), &target.join(name));
            }
            b3sum_agrees(&target, 4);
        }
    }
}

#[test]
fn a_drive_that_gives_the_same_bytes_twice_is_not() {
    let test = "a_drive_that_gives_the_same_bytes_twice_is_not";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let lab = Lab::new();
    let drive = drive(&lab.join("drive"), Fs::Ext4);
    let target = lab.join("right");
    copy(&drive, "both", "uring", &target).expect(0);
    let report = report(&target);
    assert_eq!(report["evidence"]["source_read_twice"], 4);
    assert!(verdict(&report).0, "{}", verdict(&report).1);
    // Read once, nobody can know.
    make_fickle(&drive);
    copy(&drive, "target", "uring", &lab.join("once")).expect(0);
}
