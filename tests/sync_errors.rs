//! Syncs that fail: whichever it is, once or from then on, nothing is acknowledged that is not
//! durable, and the same command completes the copy later.
//!
//! Each run is on a drive with a write cache, and power is cut when it has ended: what a sync did
//! not make durable, because it failed, is gone. System calls fail by strace, which counts them for
//! each thread; it does not see into the ring, so there the drive's own errors have to do.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
#[path = "support/power/mod.rs"]
mod power;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use drive::Fate;
use power::{Bench, Way};
use support::marked::{self, marks};
use support::mounts::Fs;
use support::program::{Ran, so_far};
use support::{can_mount, need_tools, tree};

/// What makes short runs have many syncs: batches of few files, and large files synced block by
/// block.
const ENV: [(&str, &str); 2] = [
    ("INHAUL_TEST_BATCH_FILES", "16"),
    ("INHAUL_TEST_SYNC_BLOCKS", "1"),
];
/// Most runs of one sweep: more calls than any thread makes.
const RUNS_MAX: u64 = 200;

fn fill(source: &Path) {
    for index in 0..40 {
        let dir = source.join(format!("{}", index / 8));
        std::fs::create_dir_all(&dir).unwrap();
        marked::write(
            &dir.join(format!("{index}")),
            index,
            100 + u64::from(index) * 397,
        );
    }
    for index in 0..2 {
        let len = (2 << 20) + 4_097 + u64::from(index) * 1_000_000;
        marked::write(&source.join(format!("large{index}")), 100 + index, len);
    }
    tree::age(source, 1_000_000_000);
}

fn bench(fs: Fs, io: &'static [&'static str]) -> Bench {
    let mut bench = Bench::new(fs, Way::Cache, fill);
    bench.options = io;
    bench
}

const BLOCKING: &[&str] = &["--io=blocking"];
const URING: &[&str] = &["--io=uring"];

/// How runs ended, by their codes.
type Codes = BTreeMap<i32, u64>;

/// Judges what a run left that met a fault.
fn judge(bench: &mut Bench, ran: &Ran, story: &str, codes: &mut Codes) -> Vec<String> {
    let image = bench.cut_all(&format!("{story}, code {}", ran.code), ran);
    let mut complaints = bench.judge(&image, false);
    *codes.entry(ran.code).or_default() += 1;
    if !matches!(ran.code, 0 | 1 | 3) {
        complaints.push(format!("{story}: code {}: {}", ran.code, ran.err()));
    }
    complaints
}

/// Lets the N-th of these calls fail, for every N until no run meets a fault.
fn sweep_calls(bench: &mut Bench, calls: &str, for_ever: bool, bug: &str) -> (Vec<String>, Codes) {
    let (mut complaints, mut codes) = (Vec::new(), Codes::new());
    for when in 1..RUNS_MAX {
        bench.begin(None);
        let more = if for_ever { "+" } else { "" };
        let inject = format!("inject={calls}:error=EIO:when={when}{more}");
        let notes = tempfile::NamedTempFile::new().unwrap();
        let trace = format!("trace={calls}");
        let strace = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-o",
            notes.path().to_str().unwrap(),
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        let mut env = ENV.to_vec();
        env.push(("INHAUL_TEST_BUG", bug));
        let ran = bench.start_under(&strace, None, &env).finish();
        let notes = so_far(notes.as_file());
        if !String::from_utf8_lossy(&notes).contains("INJECTED") {
            ran.expect(0);
            return (complaints, codes);
        }
        complaints.extend(judge(bench, &ran, &inject, &mut codes));
    }
    panic!("{calls}: there is no end of them");
}

fn check_calls(fs: Fs, calls: &[&str]) {
    let test = format!("failing {calls:?} on {fs:?}");
    if !can_mount(&test) || !need_tools(&test, &["strace"]) {
        return;
    }
    let mut bench = bench(fs, BLOCKING);
    let mut complaints = Vec::new();
    for calls in calls {
        for for_ever in [false, true] {
            let (wrong, codes) = sweep_calls(&mut bench, calls, for_ever, "");
            eprintln!("{fs:?} {calls} for ever: {for_ever}: {codes:?}");
            complaints.extend(wrong);
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_syncfs_on_ext4() {
    check_calls(Fs::Ext4, &["syncfs"]);
}

#[test]
fn every_fdatasync_on_ext4() {
    check_calls(Fs::Ext4, &["fdatasync"]);
}

#[test]
fn every_fsync_on_ext4() {
    check_calls(Fs::Ext4, &["fsync"]);
}

#[test]
fn every_sync_of_any_kind_on_xfs_and_btrfs() {
    for fs in [Fs::Xfs, Fs::Btrfs] {
        check_calls(fs, &["fsync,fdatasync,syncfs"]);
    }
}

/// Lets the N-th cache flush of the drive fail, for every N, or every `step`th.
fn sweep_flushes(fs: Fs, count: u64, step: usize) {
    if !can_mount("sweep_flushes") {
        return;
    }
    let mut bench = bench(fs, URING);
    let (mut complaints, mut codes) = (Vec::new(), Codes::new());
    for after in (0..RUNS_MAX).step_by(step) {
        bench.begin(None);
        bench.drive().fail_flushes(after, count);
        let ran = bench.start(None, &ENV).finish();
        let is_met = bench.drive().counts().failed > 0;
        bench.drive().heal();
        if !is_met {
            ran.expect(0);
            eprintln!("{fs:?}: flushes {after}, {count} of them: {codes:?}");
            assert!(complaints.is_empty(), "{}", complaints.join("\n"));
            return;
        }
        let story = format!("flush {after} and {count} in all");
        complaints.extend(judge(&mut bench, &ran, &story, &mut codes));
    }
    panic!("{fs:?}: there is no end of flushes");
}

#[test]
fn flushes_of_a_drive_with_ext4() {
    sweep_flushes(Fs::Ext4, 1, 1);
    sweep_flushes(Fs::Ext4, u64::MAX, 4);
}

#[test]
fn flushes_of_a_drive_with_xfs() {
    sweep_flushes(Fs::Xfs, 1, 2);
    sweep_flushes(Fs::Xfs, u64::MAX, 4);
}

#[test]
fn flushes_of_a_drive_with_btrfs() {
    sweep_flushes(Fs::Btrfs, 1, 2);
    sweep_flushes(Fs::Btrfs, u64::MAX, 4);
}

/// Lets the N-th write of files' bytes fail, once or as often as it is tried, for every `step`th N.
fn sweep_writes(fs: Fs, io: &'static [&'static str], for_ever: bool, step: usize) {
    if !can_mount("sweep_writes") {
        return;
    }
    let mut bench = bench(fs, io);
    let (mut complaints, mut codes) = (Vec::new(), Codes::new());
    for number in (0..RUNS_MAX).step_by(step) {
        bench.begin(None);
        fail_write(&bench, number, for_ever);
        let ran = bench.start(None, &ENV).finish();
        let is_met = bench.drive().counts().failed > 0;
        bench.drive().heal();
        if !is_met {
            ran.expect(0);
            eprintln!("{fs:?} {io:?}: writes {number}, for ever: {for_ever}: {codes:?}");
            assert!(complaints.is_empty(), "{}", complaints.join("\n"));
            return;
        }
        let story = format!("write {number}, for ever: {for_ever}");
        complaints.extend(judge(&mut bench, &ran, &story, &mut codes));
    }
    panic!("{fs:?}: there is no end of writes");
}

/// Lets a write that has pages of ours fail: the one of this number, or from that on all that have
/// the same page.
fn fail_write(bench: &Bench, number: u64, for_ever: bool) {
    let (mut count, mut page) = (0, None);
    bench.drive().judge_writes(move |write| {
        let mut ours = marks(write.data).map(|(_, mark)| mark);
        let Some(first) = ours.next() else {
            return Fate::Stored;
        };
        let now = count;
        count += 1;
        if now == number {
            page = Some(first);
            return Fate::Failed;
        }
        let again = for_ever && page.is_some_and(|page| page == first || ours.any(|m| m == page));
        if again { Fate::Failed } else { Fate::Stored }
    });
}

#[test]
fn writes_of_a_drive_that_fail_once() {
    sweep_writes(Fs::Ext4, URING, false, 1);
    sweep_writes(Fs::Ext4, BLOCKING, false, 3);
    sweep_writes(Fs::Xfs, URING, false, 3);
    sweep_writes(Fs::Btrfs, URING, false, 3);
}

#[test]
fn writes_of_a_drive_that_always_fail() {
    sweep_writes(Fs::Ext4, URING, true, 2);
    sweep_writes(Fs::Xfs, BLOCKING, true, 3);
    sweep_writes(Fs::Btrfs, URING, true, 3);
}

#[test]
fn the_bench_can_fail() {
    let test = "the_bench_can_fail";
    if !can_mount(test) || !need_tools(test, &["strace"]) {
        return;
    }
    let mut with_calls = bench(Fs::Ext4, BLOCKING);
    for (bug, calls) in [
        ("sync-error-ignored", "syncfs"),
        ("journal-error-ignored", "fdatasync"),
    ] {
        let (complaints, _) = sweep_calls(&mut with_calls, calls, true, bug);
        assert!(!complaints.is_empty(), "{bug}");
    }
    // A second sync says yes to what the first could not write.
    let mut with_writes = bench(Fs::Ext4, URING);
    let mut complaints = Vec::new();
    let mut env = ENV.to_vec();
    env.push(("INHAUL_TEST_BUG", "sync-tried-again"));
    for number in 0..RUNS_MAX {
        with_writes.begin(None);
        fail_write(&with_writes, number, false);
        let ran = with_writes.start(None, &env).finish();
        let is_met = with_writes.drive().counts().failed > 0;
        with_writes.drive().heal();
        let mut codes = Codes::new();
        complaints.extend(judge(&mut with_writes, &ran, "tried again", &mut codes));
        if !complaints.is_empty() || !is_met {
            break;
        }
    }
    assert!(!complaints.is_empty(), "sync-tried-again");
}
