//! Hard links: one inode in the source is one inode in the target, whatever happens to one of its
//! names, and every name is either there or reported.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inhaul::engine::job::{CopyJob, Existing, IoChoice};
use ports::copying::{BACKENDS, Copying, contents, copy, copy_all, job};
use ports::looking::{files, left_for_later, same, staged, tree};
use ports::{painted, scratch};

const NAMES: [&str; 5] = ["a", "b", "sub/c", "sub/deeper/d", "z"];

/// One inode of `len` bytes with five names in three directories, and a file with one name.
fn linked(dir: &Path, len: usize) {
    std::fs::create_dir_all(dir.join("sub/deeper")).unwrap();
    std::fs::write(dir.join(NAMES[0]), painted(1, len)).unwrap();
    for name in &NAMES[1..] {
        std::fs::hard_link(dir.join(NAMES[0]), dir.join(name)).unwrap();
    }
    std::fs::write(dir.join("single"), painted(2, 1000)).unwrap();
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn lines(target: &Path) -> usize {
    let manifest = target.join(".inhaul/latest/manifest.b3");
    std::fs::read_to_string(manifest).unwrap().lines().count()
}

#[test]
fn all_names_of_an_inode_are_one_inode() {
    for io in BACKENDS {
        for len in [0, 5000, 3 << 20] {
            let dir = scratch();
            let (source, target) = (dir.path().join("source"), dir.path().join("target"));
            linked(&source, len);
            std::os::unix::fs::symlink("nowhere", source.join("link")).unwrap();
            std::fs::hard_link(source.join("link"), source.join("sub/link")).unwrap();
            let mut job = job(&[contents(&source)], &target);
            job.engine.io = io;
            let report = copy_all(&job);
            same(&tree(&source), &tree(&target));
            assert_eq!((report.totals.files, report.totals.others), (2, 4 + 2));
            assert_eq!(report.totals.bytes, len as u64 + 1000);
            assert_eq!(
                (report.manifest_records, lines(&target)),
                (6, 6),
                "each name"
            );
        }
    }
}

#[test]
fn five_thousand_names_in_many_directories() {
    let dir = scratch();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    let first = source.join("first");
    std::fs::write(&first, painted(1, 100_000)).unwrap();
    for number in 0..4999 {
        let below = source.join(format!("{:02}", number % 50));
        if number < 50 {
            std::fs::create_dir(&below).unwrap();
        }
        std::fs::hard_link(&first, below.join(format!("{number}"))).unwrap();
    }
    let report = copy_all(&job(&[contents(&source)], &target));
    assert_eq!((report.totals.files, report.totals.others), (1, 4999));
    assert_eq!((report.manifest_records, lines(&target)), (5000, 5000));
    let inodes: BTreeSet<_> = files(&target)
        .iter()
        .map(|name| inode(&target.join(name)))
        .collect();
    assert_eq!(inodes.len(), 1);
    same(&tree(&source), &tree(&target));
}

#[test]
fn links_across_sources_are_files_of_their_own() {
    let dir = scratch();
    let source = dir.path().join("source");
    linked(&source, 5000);
    let target = dir.path().join("target");
    copy_all(&job(
        &[source.join("sub"), source.join("sub/deeper")],
        &target,
    ));
    let [one, two] = ["sub/c", "deeper/d"].map(|name| inode(&target.join(name)));
    assert_ne!(one, two, "each source by itself");
    assert_eq!(one, inode(&target.join("sub/deeper/d")));
}

/// A target in which one of the names is taken.
fn with_taken(dir: &Path, len: usize, taken: &str) -> (PathBuf, PathBuf) {
    let (source, target) = (dir.join("source"), dir.join("target"));
    linked(&source, len);
    std::fs::create_dir_all(target.join("sub/deeper")).unwrap();
    std::fs::write(target.join(taken), b"old").unwrap();
    (source, target)
}

/// Fails unless these names are one inode with the source's bytes, apart from all others.
fn are_one(source: &Path, target: &Path, names: &[&str]) {
    let expected = std::fs::read(source.join("a")).unwrap();
    let inodes: BTreeSet<_> = names.iter().map(|name| inode(&target.join(name))).collect();
    assert_eq!(inodes.len(), 1, "{names:?}");
    for name in names {
        assert!(
            std::fs::read(target.join(name)).unwrap() == expected,
            "{name}"
        );
    }
    let links = std::fs::metadata(target.join(names[0])).unwrap().nlink();
    assert_eq!(links, names.len() as u64);
}

fn others(taken: &str) -> Vec<&str> {
    NAMES.into_iter().filter(|name| *name != taken).collect()
}

#[test]
fn a_refused_name_does_not_keep_the_others_from_being_linked() {
    for len in [5000, 3 << 20] {
        for taken in NAMES {
            let dir = scratch();
            let (source, target) = with_taken(dir.path(), len, taken);
            let (report, watch) = copy(&job(&[contents(&source)], &target));
            let refused = (source.join(taken), "target-exists".to_owned());
            assert_eq!(watch.told(), [refused]);
            assert_eq!(report.exit_code, 3);
            assert_eq!(std::fs::read(target.join(taken)).unwrap(), b"old");
            are_one(&source, &target, &others(taken));
        }
    }
}

#[test]
fn a_skipped_name_does_not_keep_the_others_from_being_linked() {
    for taken in NAMES {
        let dir = scratch();
        let (source, target) = with_taken(dir.path(), 5000, taken);
        let mut job = job(&[contents(&source)], &target);
        job.existing = Existing::Skip;
        let report = copy_all(&job);
        assert_eq!(report.totals.existing, 1);
        assert_eq!(std::fs::read(target.join(taken)).unwrap(), b"old");
        are_one(&source, &target, &others(taken));
    }
}

#[test]
fn an_overwritten_name_is_linked_as_the_others() {
    for len in [5000, 3 << 20] {
        for taken in NAMES {
            let dir = scratch();
            let (source, target) = with_taken(dir.path(), len, taken);
            let mut job = job(&[contents(&source)], &target);
            job.existing = Existing::Overwrite;
            copy_all(&job);
            are_one(&source, &target, &NAMES);
            // Once more, over what is linked already.
            copy_all(&job);
            are_one(&source, &target, &NAMES);
            same(&tree(&source), &tree(&target));
            assert!(staged(&target).is_empty());
        }
    }
}

#[test]
fn a_folder_in_the_place_of_a_name_is_reported_and_kept() {
    for (taken, existing) in NAMES.into_iter().zip(
        [Existing::Overwrite, Existing::Skip, Existing::Refuse]
            .into_iter()
            .cycle(),
    ) {
        let dir = scratch();
        let (source, target) = with_taken(dir.path(), 5000, taken);
        std::fs::remove_file(target.join(taken)).unwrap();
        std::fs::create_dir(target.join(taken)).unwrap();
        let mut job = job(&[contents(&source)], &target);
        job.existing = existing;
        let (_, watch) = copy(&job);
        assert_eq!(
            watch.told(),
            [(source.join(taken), "target-exists".to_owned())]
        );
        assert!(target.join(taken).is_dir());
        are_one(&source, &target, &others(taken));
    }
}

/// Begins a copy of such a folder, so slow that something can happen while the first name is copied.
/// Returns source, target, job and run.
fn slowly(dir: &Path, io: IoChoice) -> (PathBuf, PathBuf, CopyJob, Copying) {
    let (source, target) = (dir.join("source"), dir.join("target"));
    linked(&source, 6 << 20);
    let mut job = job(&[contents(&source)], &target);
    job.engine.io = io;
    job.engine.bwlimit = Some(8 << 20);
    let copying = Copying::start(&job);
    (source, target, job, copying)
}

#[test]
fn when_the_first_name_fails_every_name_is_reported() {
    for io in BACKENDS {
        let dir = scratch();
        let (source, target, _, copying) = slowly(dir.path(), io);
        copying
            .watch
            .wait_until(|watch| watch.bytes_read() >= 1 << 20);
        let file = std::fs::File::options()
            .append(true)
            .open(source.join("z"))
            .unwrap();
        file.set_len(5 << 20).unwrap();
        let (report, watch) = copying.end();
        let told: Vec<_> = watch.told().into_iter().map(|(path, _)| path).collect();
        let mut all: Vec<_> = NAMES.iter().map(|name| source.join(name)).collect();
        all.sort();
        assert_eq!(told, all);
        assert_eq!(report.exit_code, 4, "it changed");
        assert_eq!(files(&target), [PathBuf::from("single")]);
        assert!(staged(&target).is_empty());
    }
}

#[test]
fn a_name_that_somebody_else_takes_meanwhile_is_reported() {
    let dir = scratch();
    let (source, target, _, copying) = slowly(dir.path(), IoChoice::Auto);
    copying
        .watch
        .wait_until(|watch| watch.has_scanned() && watch.bytes_read() >= 1 << 20);
    // A name in a directory this run made: nobody looks there again before it is published.
    std::fs::write(target.join("sub/c"), b"other").unwrap();
    let (report, watch) = copying.end();
    assert_eq!(report.exit_code, 3, "{:?}", watch.told());
    assert_eq!(std::fs::read(target.join("sub/c")).unwrap(), b"other");
    let told: BTreeSet<_> = watch.told().into_iter().map(|(path, _)| path).collect();
    assert!(told.contains(&source.join("sub/c")));
    let expected = std::fs::read(source.join("a")).unwrap();
    for name in others("sub/c") {
        // If the taken name was to be the first, the others went with it; and said so.
        let there = std::fs::read(target.join(name)).is_ok_and(|bytes| bytes == expected);
        assert_ne!(there, told.contains(&source.join(name)), "{name}");
    }
}

#[test]
fn a_stop_between_names_leaves_whole_names_and_can_go_on() {
    let dir = scratch();
    let (source, target, mut job, copying) = slowly(dir.path(), IoChoice::Auto);
    copying
        .watch
        .wait_until(|watch| watch.bytes_read() >= 2 << 20);
    copying
        .stop
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let (report, watch) = copying.end();
    assert_eq!((report.exit_code, watch.told()), (75, Vec::new()));
    left_for_later(&target);
    job.engine.bwlimit = None;
    let again = copy_all(&job);
    assert!(again.resumed && again.job == report.job);
    assert!(staged(&target).is_empty());
    let left: BTreeSet<_> = files(&target).into_iter().collect();
    assert_eq!(left, files(&source).into_iter().collect());
    are_one(&source, &target, &NAMES);
}
