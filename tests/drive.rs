//! The bench's drive: it loses, harms and refuses what it is told to, and nothing else.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use drive::{Drive, Fate, Harm, How, Spared};
use support::dice::Dice;
use support::lab::Lab;
use support::mounts::{Fs, Mounted};
use support::{can_mount, tool, tree};

const LEN: u64 = 3_000_000;

/// Writes a painted file and syncs it.
fn write_synced(path: &Path, seed: u64) -> std::io::Result<()> {
    tree::paint(path, seed, LEN);
    File::open(path)?.sync_all()
}

/// Returns whether a file is there and what it was painted with.
fn is_whole(path: &Path, seed: u64) -> bool {
    let painted = tree::painted(seed, 0, usize::try_from(LEN).unwrap());
    std::fs::read(path).is_ok_and(|bytes| bytes == painted)
}

/// Reads past the page cache.
fn read_direct(path: &Path) -> std::io::Result<Vec<u8>> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let file = File::options()
        .read(true)
        .custom_flags(direct)
        .open(path)
        .unwrap();
    let mut buffer = vec![0; 4096 + 4096 * 1024];
    let start = buffer.as_ptr().align_offset(4096);
    let count = file.read_at(&mut buffer[start..][..4096 * 1024], 0)?;
    Ok(buffer[start..][..count].to_vec())
}

#[test]
fn a_cut_keeps_what_was_flushed_and_loses_what_was_not() {
    if !can_mount("a_cut_keeps_what_was_flushed_and_loses_what_was_not") {
        return;
    }
    let lab = Lab::new();
    for (fs, mib) in [(Fs::Ext4, 64), (Fs::Xfs, 320), (Fs::Btrfs, 128)] {
        let drive = Drive::new(&lab.join(fs.name()), fs, mib);
        drive.set_cache(true);
        write_synced(&drive.join("synced"), 1).unwrap();
        let flushes = drive.counts().flushes;
        assert!(flushes > 0);
        // Written to the drive, and never flushed: O_DIRECT waits for nothing else.
        let direct = "oflag=direct,nonblock";
        let of = format!("of={}", drive.join("direct").display());
        let from = format!("if={}", drive.join("synced").display());
        tool(
            "dd",
            &[&*from, &*of, "bs=1M", "count=2", direct, "status=none"],
        );
        for (number, spared) in Spared::ALL.into_iter().enumerate() {
            let image = lab.join("cut.img");
            let cut = drive.cut_power(spared, &mut Dice::new(number as u64), &image);
            assert!(cut.unflushed > 0, "{fs:?}: {cut:?}");
            match spared {
                Spared::Nothing => assert_eq!(cut.kept, 0),
                Spared::Prefix | Spared::Subset => assert!(cut.kept <= cut.unflushed),
                Spared::Torn => assert!(cut.kept > cut.unflushed, "{cut:?}"),
            }
            let after = Mounted::open(&lab.join("after"), &image, fs).unwrap();
            assert!(is_whole(&after.join("synced"), 1), "{fs:?}: {cut:?}");
            let direct = std::fs::read(after.join("direct")).unwrap_or_default();
            assert!(spared != Spared::Nothing || direct.iter().all(|byte| *byte == 0));
        }
        // The drive itself has all of it.
        let direct = std::fs::read(drive.join("direct")).unwrap();
        assert!(direct == tree::painted(1, 0, 2 << 20));
    }
}

#[test]
fn a_deaf_drive_loses_what_it_said_was_flushed() {
    if !can_mount("a_deaf_drive_loses_what_it_said_was_flushed") {
        return;
    }
    let lab = Lab::new();
    let drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    drive.set_cache(true);
    drive.set_deaf(true);
    write_synced(&drive.join("synced"), 1).unwrap();
    let image = lab.join("cut.img");
    drive.cut_power(Spared::Nothing, &mut Dice::new(1), &image);
    let after = Mounted::open(&lab.join("after"), &image, Fs::Ext4).unwrap();
    assert!(!is_whole(&after.join("synced"), 1));
    // With the cache off it is durable at last.
    drive.set_cache(false);
    drop(after);
    drive.cut_power(Spared::Nothing, &mut Dice::new(1), &image);
    let after = Mounted::open(&lab.join("after"), &image, Fs::Ext4).unwrap();
    assert!(is_whole(&after.join("synced"), 1));
}

#[test]
fn harm_comes_to_the_part_that_was_named() {
    if !can_mount("harm_comes_to_the_part_that_was_named") {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    // Misplaced writes go to the last file, which is there already.
    write_synced(&drive.join("victim"), 9).unwrap();
    let first = tree::painted(9, 0, 16);
    let trace = drive.take_trace();
    let victim = trace.iter().find(|write| write.first == *first).unwrap();
    assert!(victim.len >= 4096, "{victim:?}");
    for (how, flipped) in [
        (How::Flipped, 1),
        (How::Lost, 4096),
        (How::Misplaced(victim.offset), 4096),
    ] {
        let path = drive.join(format!("{how:?}"));
        let marked = tree::painted(1, 8192, 4096);
        // The pattern comes again further on.
        let mut is_done = false;
        let harmed = move |write: &drive::Write<'_>| {
            let pages = write.data.chunks(4096);
            let at = pages.zip(0..).find(|(page, _)| *page == &*marked);
            at.filter(|_| !std::mem::replace(&mut is_done, true))
                .map_or(Fate::Stored, |(_, at)| {
                    let part = at * 4096..(at + 1) * 4096;
                    Fate::Harmed(vec![Harm { part, how }])
                })
        };
        drive.judge_writes(harmed);
        write_synced(&path, 1).unwrap();
        drive.heal();
        assert!(
            is_whole(&path, 1),
            "{how:?}: the cache shows what was written"
        );
        let direct = read_direct(&path).unwrap();
        drive.remount();
        let bytes = std::fs::read(drive.join(format!("{how:?}"))).unwrap();
        assert!(bytes == direct);
        let painted = tree::painted(1, 0, usize::try_from(LEN).unwrap());
        let differ: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at] != painted[at])
            .collect();
        assert!(differ.iter().all(|at| (8192..8192 + 4096).contains(at)));
        // What was there before may have a byte in common.
        assert!(
            differ.len() > flipped / 2 && differ.len() <= flipped,
            "{how:?}"
        );
    }
    let victim = std::fs::read(drive.join("victim")).unwrap();
    assert!(victim[..4096] == *tree::painted(1, 8192, 4096));
    assert!(victim[4096..] == *tree::painted(9, 4096, victim.len() - 4096));
    assert_eq!(drive.counts().harmed, 3);
}

#[test]
fn requests_fail_where_and_when_they_are_to() {
    if !can_mount("requests_fail_where_and_when_they_are_to") {
        return;
    }
    let lab = Lab::new();
    let mut drive = Drive::new(&lab.join("drive"), Fs::Ext4, 64);
    write_synced(&drive.join("file"), 1).unwrap();
    let first = tree::painted(1, 0, 16);
    let trace = drive.take_trace();
    let place = trace.iter().find(|write| write.first == *first);
    let place = place.unwrap().offset;
    drive.remount();
    drive.misread(place + 5..place + 6);
    let bytes = read_direct(&drive.join("file")).unwrap();
    assert_eq!(bytes[4..7], [5, 6 ^ 1, 7]);
    drive.heal();
    drive.fail_reads(place + 5..place + 6);
    assert!(read_direct(&drive.join("file")).is_err());
    drive.heal();
    assert!(is_whole(&drive.join("file"), 1));

    // A write that fails is heard of by the sync behind it.
    drive.judge_writes(move |write| {
        let is_marked = write.data[..16] == *tree::painted(2, 0, 16);
        if is_marked {
            Fate::Failed
        } else {
            Fate::Stored
        }
    });
    assert!(write_synced(&drive.join("failed"), 2).is_err());
    drive.heal();
    drive.fail_flushes(0, 1);
    assert!(write_synced(&drive.join("unflushed"), 3).is_err());
    assert!(drive.counts().failed >= 3);
    drive.heal();
    // The file system has given up; a new mount starts over.
    drive.remount();
    assert!(is_whole(&drive.join("file"), 1));
}

#[test]
fn a_panic_leaves_nothing_mounted() {
    if !can_mount("a_panic_leaves_nothing_mounted") {
        return;
    }
    let lab = Lab::new();
    let dir = lab.join("drive");
    let ended = std::panic::catch_unwind(|| {
        let drive = Drive::new(&dir, Fs::Ext4, 64);
        let held = File::create(drive.join("held")).unwrap();
        // Still open when the drive goes: it is unmounted lazily.
        std::panic::resume_unwind(Box::new(held));
    });
    let held = ended.unwrap_err();
    let mut mounts = String::new();
    File::open("/proc/self/mounts")
        .unwrap()
        .read_to_string(&mut mounts)
        .unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    drop(held);
}
