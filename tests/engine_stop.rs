//! A run that is asked to stop, at any moment: it ends in order, what is visible is whole, what is
//! left staged is there to be gone on with, and the same job once more goes on to the same tree as a
//! run that was never stopped.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use inhaul::engine::job::{CopyJob, Existing, IoChoice};
use inhaul::engine::report::Report;
use ports::copying::{BACKENDS, Copying, contents, copy_all, job, least_memory};
use ports::looking::{Tree, files, left_for_later, same, staged, tree, unfinished};
use ports::{Dice, Fs, Place, painted, scratch};

/// Small and large files, sparse ones, symlinks, links, empty things; about 20 MiB.
fn plant(source: &Path) {
    let mut dice = Dice(5);
    for dir in 0..12 {
        let below = source.join(format!("{}/{dir}", dir % 4));
        std::fs::create_dir_all(below.join("empty")).unwrap();
        for number in 0..20 {
            let len = *dice.pick(&[0, 1, 700, 4096, 4097, 30_000, 90_000]);
            std::fs::write(
                below.join(format!("small-{number}")),
                painted(dice.roll(), len),
            )
            .unwrap();
        }
        let len = *dice.pick(&[1_048_577, 1_500_000, 2_097_152]);
        std::fs::write(below.join("large"), painted(dice.roll(), len)).unwrap();
        std::os::unix::fs::symlink("large", below.join("symlink")).unwrap();
    }
    std::fs::hard_link(source.join("0/0/large"), source.join("3/7/linked")).unwrap();
    std::fs::hard_link(source.join("1/1/small-3"), source.join("2/2/linked")).unwrap();
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(30 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &painted(9, 9000), 20 << 20).unwrap();
    for path in ports::looking::paths(source) {
        use std::os::unix::ffi::OsStrExt;
        let path = source.join(std::ffi::OsStr::from_bytes(&path));
        if path.is_dir() {
            let time = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 7);
            std::fs::File::open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }
}

/// Fails unless all that is visible is whole and the source's.
fn is_whole(source: &Tree, target: &Path) {
    for (path, node) in tree(target) {
        let wanted = source
            .get(&path)
            .unwrap_or_else(|| panic!("{}", path.escape_ascii()));
        assert_eq!(node.kind, wanted.kind, "{}", path.escape_ascii());
        if node.kind != "dir" {
            let seen = (
                node.mode,
                node.owner,
                node.mtime,
                &node.content,
                &node.xattrs,
            );
            let meant = (
                wanted.mode,
                wanted.owner,
                wanted.mtime,
                &wanted.content,
                &wanted.xattrs,
            );
            assert_eq!(seen, meant, "{}", path.escape_ascii());
        }
    }
    left_for_later(target);
}

/// Stops a copy and checks how it ended.
fn stopped_after(job: &CopyJob, delay: Duration) -> Report {
    let copying = Copying::start(job);
    std::thread::sleep(delay);
    copying.stop.store(true, Relaxed);
    let (report, watch) = copying.end();
    assert_eq!(watch.told(), [], "a stop is no problem of any file");
    assert!([0, 75].contains(&report.exit_code), "{}", report.exit_code);
    assert_eq!(report.stopped, report.exit_code == 75);
    is_open_or_finished(&report, &job.target);
    report
}

/// Fails unless a job that ended with 0 is finished, and any other is there to be gone on with.
fn is_open_or_finished(report: &Report, target: &Path) {
    let current = std::fs::read_link(target.join(".inhaul/current")).ok();
    let is_open = unfinished(target).contains(&report.job);
    if report.exit_code == 0 {
        assert_eq!((is_open, current), (false, None));
        let staged = staged(target);
        let mut left = staged.iter().filter(|path| path.starts_with(&report.job));
        assert_eq!(left.next(), None);
    } else {
        assert_eq!((is_open, current), (true, Some(report.job.clone().into())));
    }
}

fn seen(target: &Path) -> BTreeSet<PathBuf> {
    files(target).into_iter().collect()
}

fn stop_and_go_on(source: &Path, target: &Path, io: IoChoice, memory: u64, seed: u64) {
    let mut job = job(&[contents(source)], target);
    job.engine.io = io;
    job.engine.memory = memory;
    let jobs = stop_until_through(&job, &job, seed);
    assert!(jobs.iter().all(|name| *name == jobs[0]), "{jobs:?}");
    assert!(unfinished(target).is_empty());
}

/// Stops a copy again and again until it is through, as `later` from the second run on. Returns the
/// names of the jobs.
fn stop_until_through(job: &CopyJob, later: &CopyJob, seed: u64) -> Vec<String> {
    let (source, target) = (&job.sources[0], &job.target);
    let before = tree(source);
    let mut dice = Dice(seed);
    let mut job = job.clone();
    job.engine.bwlimit = Some(48 << 20);
    let mut there = BTreeSet::new();
    let mut jobs = Vec::new();
    let mut is_through = false;
    // Stopped until it is through: each run does more than the one before.
    for _ in 0..40 {
        let report = stopped_after(&job, Duration::from_millis(dice.below(220)));
        is_whole(&before, target);
        let now = seen(target);
        assert!(there.is_subset(&now), "what was there is gone");
        there = now;
        assert!(report.totals.existing == 0 || later.existing == Existing::Skip);
        jobs.push(report.job);
        job = CopyJob {
            engine: job.engine,
            ..later.clone()
        };
        is_through = report.exit_code == 0;
        if is_through {
            break;
        }
    }
    job.engine.bwlimit = None;
    if !is_through {
        let report = copy_all(&job);
        is_open_or_finished(&report, target);
        jobs.push(report.job);
    }
    same(&before, &tree(target));
    is_whole(&before, target);
    // The manifest covers what all the runs copied.
    let (listed, seen) = (listed(target), seen(target));
    let unlisted: Vec<_> = seen.symmetric_difference(&listed).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
    jobs
}

/// Returns the names in the newest manifest, each checked against its digest.
fn listed(target: &Path) -> BTreeSet<PathBuf> {
    let manifest = std::fs::read_to_string(target.join(".inhaul/latest/manifest.b3")).unwrap();
    let check = |line: &str| {
        let (digest, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(target.join(name)).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), digest, "{name}");
        PathBuf::from(name)
    };
    manifest.lines().map(check).collect()
}

#[test]
fn stopped_at_any_moment_through_the_ring() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    plant(&source);
    stop_and_go_on(&source, &target, BACKENDS[0], 64 << 20, 1);
}

#[test]
fn stopped_at_any_moment_through_blocking_calls() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    plant(&source);
    stop_and_go_on(&source, &target, BACKENDS[1], least_memory(1), 2);
}

#[test]
fn stopped_at_any_moment_from_ext4_to_xfs() {
    let (Some(from), Some(to)) = (Place::new(Fs::Ext4, 128), Place::new(Fs::Xfs, 320)) else {
        return;
    };
    let (source, target) = (from.dir("source"), to.dir("target"));
    plant(&source);
    stop_and_go_on(&source, &target, BACKENDS[0], least_memory(1), 3);
}

// With other options it is another job: what the first one copied is left alone, and listed.
#[test]
fn stopped_and_begun_anew_leaving_alone_what_is_there() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    plant(&source);
    let job = job(&[contents(&source)], &target);
    let mut later = job.clone();
    later.existing = Existing::Skip;
    later.preserve.special = true;
    let jobs = stop_until_through(&job, &later, 4);
    if let Some(second) = jobs.get(1) {
        assert_ne!(second, &jobs[0]);
        assert!(jobs.iter().skip(1).all(|name| name == second), "{jobs:?}");
        // The first is still there to be gone on with, and finds nothing that is in its way.
        assert_eq!(unfinished(&target), [jobs[0].clone()]);
        let mut first = job.clone();
        first.resume = Some(jobs[0].clone());
        first.existing = Existing::Skip;
        copy_all(&first);
        assert!(unfinished(&target).is_empty() && staged(&target).is_empty());
    }
}

#[test]
fn stopped_before_it_began() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    plant(&source);
    let job = job(&[contents(&source)], &target);
    let report = stopped_after(&job, Duration::ZERO);
    is_whole(&tree(&source), &target);
    if report.exit_code == 0 {
        same(&tree(&source), &tree(&target));
    }
}

#[test]
fn a_stop_that_comes_too_late_is_none() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    plant(&source);
    let job = job(&[contents(&source)], &target);
    let copying = Copying::start(&job);
    let report = copying.result();
    copying.stop.store(true, Relaxed);
    copying.watch.agrees(&report, &target);
    assert_eq!((report.exit_code, report.stopped), (0, false));
    same(&tree(&source), &tree(&target));
}

// Exit 0 is a proof: whenever it is given, the tree is complete, however close the stop was.
#[test]
fn exit_0_after_a_stop_means_complete() {
    let dir = scratch();
    let source = dir.path().join("source");
    std::fs::create_dir_all(source.join("sub/empty")).unwrap();
    for number in 0..30 {
        std::fs::write(source.join(format!("{number}")), painted(number, 2000)).unwrap();
    }
    std::fs::write(source.join("sub/large"), painted(99, 1_300_000)).unwrap();
    let wanted = tree(&source);
    let mut dice = Dice(11);
    let mut ends = [0, 0];
    for round in 0..150 {
        let target = dir.path().join("target");
        let mut job = job(&[contents(&source)], &target);
        job.engine.io = BACKENDS[round % 2];
        job.engine.hash_threads = Some(1);
        let copying = Copying::start(&job);
        // Such a run takes some ten milliseconds.
        std::thread::sleep(Duration::from_micros(dice.below(25_000)));
        copying.stop.store(true, Relaxed);
        let (report, watch) = copying.end();
        assert_eq!(watch.told(), []);
        is_whole(&wanted, &target);
        if report.exit_code == 0 {
            same(&wanted, &tree(&target));
        } else {
            assert_eq!(report.exit_code, 75);
        }
        ends[usize::from(report.exit_code == 0)] += 1;
        std::fs::remove_dir_all(&target).unwrap();
    }
    assert!(ends[0] > 0, "no run was stopped in time");
}
