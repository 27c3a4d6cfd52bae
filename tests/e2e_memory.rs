//! Memory has a bound that holds with sixty drives, and does not grow with the number of files.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::ffi::OsStr;
use std::path::PathBuf;

use support::cgroup::Group;
use support::judge::{b3sum_agrees, files, same_bytes, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, contents, inhaul, report, run};
use support::{Scratch, can_mount, need_root, tree};

const MIB: u64 = 1 << 20;

/// Resident memory that may come and go for reasons of the allocator's own.
const NOISE_KIB: u64 = 6 << 10;

#[test]
fn sixty_drives_fit_in_the_stated_memory() {
    let test = "sixty_drives_fit_in_the_stated_memory";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let drives: Vec<Mounted> = (0..60)
        .map(|index| {
            let drive = Mounted::tmpfs(&scratch, &format!("d{index:02}"), 16);
            // More than all buffers that a lane can be lent, so that every one is in use.
            tree::paint(&drive.join("large"), index, 7 * MIB + index);
            tree::many_small(&drive.dir("small"), index, 20);
            drive
        })
        .collect();
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 640);
    // A little above what is stated: the group counts page cache and the kernel's own as well.
    let Some(group) = Group::memory(test, 576 * MIB) else {
        return;
    };
    let paths: Vec<PathBuf> = drives.iter().map(|drive| drive.path().to_owned()).collect();
    for io in ["uring", "blocking"] {
        let place = target.join("in");
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--io", &io];
        args.extend(paths.iter().map(|path| path as &dyn AsRef<OsStr>));
        args.push(&place);
        let ran = Running::start(group.command(&inhaul(&args)))
            .finish()
            .expect(0);
        assert!(ran.peak_kib > 0);
        assert!(
            ran.peak_kib * 1024 <= 512 * MIB,
            "{io}: {} KiB resident",
            ran.peak_kib
        );
        let report = report(&place);
        assert_eq!(report["lanes"].as_array().unwrap().len(), 60);
        assert!(report["buffer_bytes"].as_u64().unwrap() <= 512 * MIB);
        b3sum_agrees(&place, 60 * 21);
        for (index, path) in paths.iter().enumerate() {
            same_bytes(
                &path.join("large"),
                &place.join(format!("d{index:02}/large")),
            );
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_smaller_bound_is_kept_too() {
    let test = "a_smaller_bound_is_kept_too";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let drive = Mounted::tmpfs(&scratch, "drive", 100);
    tree::paint(&drive.join("large"), 1, 80 * MIB);
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 128);
    let args: [&dyn AsRef<OsStr>; 5] = [
        &"copy",
        &"--memory",
        &"48MiB",
        &contents(drive.path()),
        &target.path(),
    ];
    let ran = Running::start(inhaul(&args)).finish().expect(0);
    assert!(
        ran.peak_kib * 1024 <= 48 * MIB,
        "{} KiB resident",
        ran.peak_kib
    );
    same_bytes(&drive.join("large"), &target.join("large"));
}

/// How files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// In directories of 64.
    Spread,
    /// All in one.
    Together,
}

/// Copies a drive of `count` small files, tmpfs to tmpfs.
fn copy_many(count: usize, lie: Lie) -> Ran {
    let scratch = Scratch::new();
    let source = Mounted::tmpfs(&scratch, "source", 8192);
    let target = Mounted::tmpfs(&scratch, "target", 8192);
    match lie {
        Lie::Spread => tree::many_small(source.path(), 1, count),
        Lie::Together => {
            for index in 0..count as u64 {
                // Short ones: it is the names that are many.
                let path = source.join(format!("a name as long as many are {index:07}"));
                tree::paint(&path, index, index % 50);
            }
        }
    }
    let from = contents(source.path());
    let ran = run(&[&"copy", &"--memory", &"64MiB", &from, &target.path()]).expect(0);
    assert_eq!(report(target.path())["totals"]["files"], count);
    assert_eq!(files(&walk(target.path())), count);
    ran
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    if need_root("memory_does_not_grow_with_the_number_of_files") {
        memory_stays(60_000, Lie::Spread);
    }
}

#[test]
fn memory_does_not_grow_with_the_names_in_one_folder() {
    if need_root("memory_does_not_grow_with_the_names_in_one_folder") {
        memory_stays(100_000, Lie::Together);
    }
}

/// Fails if so many files, or as many as `INHAUL_TEST_FILES` says, take more memory than a few.
fn memory_stays(many: usize, lie: Lie) {
    let many = std::env::var("INHAUL_TEST_FILES").map_or(many, |text| {
        text.parse().expect("INHAUL_TEST_FILES is a number")
    });
    // Enough to fill every queue and list that has a limit.
    let few = copy_many(10_000, lie).peak_kib;
    let all = copy_many(many, lie).peak_kib;
    assert!(few > 0);
    assert!(
        all <= few + NOISE_KIB,
        "10000 files: {few} KiB resident; {many} files: {all} KiB"
    );
    assert!(all * 1024 <= 64 * MIB, "{all} KiB resident");
}
