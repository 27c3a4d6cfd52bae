//! Power cuts: images of the target at random moments of a copy are mounted and judged, and the
//! copy goes on from each of them.
//!
//! - `INHAUL_TEST_IMAGES=N` takes N images in all, instead of about 120.
//! - `INHAUL_TEST_SEED=N` rolls the same dice as a run that said so; the kernel rolls its own.
//! - `INHAUL_TEST_KEEP=DIR` keeps the images there that something was wrong with.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
#[path = "support/power.rs"]
mod power;
mod support;

use std::path::Path;
use std::time::Duration;

use power::{Bench, Image, Way};
use rustix::process::Signal;
use support::dice::{Dice, seed};
use support::mounts::Fs;
use support::program::Running;
use support::{can_mount, tree};

/// A copy to cut.
struct Workload {
    name: &'static str,
    fill: fn(&Path),
    /// What makes it slow enough to have moments.
    limit: &'static str,
    /// About how long it then takes.
    takes: Duration,
    /// Whether it goes on from a target that power was cut from before.
    resumes: bool,
}

/// A copy of each kind: several batches of small files; large files, long enough for one of them
/// to be synced on the way; both, with links; and what is left of these after a first cut.
const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "small",
        fill: small,
        limit: "--bwlimit=900kB",
        takes: Duration::from_millis(2_600),
        resumes: false,
    },
    Workload {
        name: "large",
        fill: large,
        limit: "--bwlimit=7MB",
        takes: Duration::from_millis(6_600),
        resumes: false,
    },
    Workload {
        name: "mixed",
        fill: mixed,
        limit: "--bwlimit=9MB",
        takes: Duration::from_millis(2_600),
        resumes: false,
    },
    Workload {
        name: "resumed",
        fill: mixed,
        limit: "--bwlimit=9MB",
        takes: Duration::from_millis(2_600),
        resumes: true,
    },
];

/// Images in all, over three file systems, two ways and the workloads.
const IMAGES: usize = 120;
/// Most images of one run.
const IMAGES_OF_RUN: usize = 8;

fn small(source: &Path) {
    tree::many_small(source, 1, 700);
    for index in 0..30 {
        let path = source.join(format!("{:03}/medium{index}", index % 10));
        tree::paint(&path, index, 3_000 * index);
    }
    tree::age(source, 1_000_000_000);
}

fn large(source: &Path) {
    for (index, len) in [(8 << 20) + 1, 13 << 20, (22 << 20) + 4097]
        .into_iter()
        .enumerate()
    {
        tree::paint(&source.join(format!("large{index}")), index as u64, len);
    }
    tree::age(source, 1_000_000_000);
}

fn mixed(source: &Path) {
    tree::many_small(&source.join("small"), 1, 300);
    std::fs::create_dir(source.join("links")).unwrap();
    for (index, len) in [8 << 20, (11 << 20) + 4095, (1 << 20) + 1]
        .into_iter()
        .enumerate()
    {
        let path = source.join(format!("large{index}"));
        tree::paint(&path, index as u64, len);
        std::fs::hard_link(&path, source.join(format!("links/large{index}"))).unwrap();
    }
    std::os::unix::fs::symlink("../small", source.join("links/symbolic")).unwrap();
    std::fs::create_dir(source.join("empty")).unwrap();
    tree::age(source, 1_000_000_000);
}

/// Returns so many moments of a run, in order.
fn moments(count: usize, takes: Duration, dice: &mut Dice) -> Vec<Duration> {
    let millis = u64::try_from(takes.as_millis()).unwrap();
    let mut moments: Vec<_> = (0..count)
        .map(|_| Duration::from_millis(dice.below(millis)))
        .collect();
    moments.sort();
    moments
}

/// Cuts the power of a first run at some moment: in the middle of it, or while it stops in order.
fn first_cut(bench: &mut Bench, workload: &Workload, dice: &mut Dice) -> Image {
    bench.begin(None);
    let running = bench.start(&[workload.limit], None);
    std::thread::sleep(moments(1, workload.takes, dice)[0]);
    let stops = dice.coin();
    if stops {
        running.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(dice.below(200)));
    }
    let story = if stops {
        "first while it stopped"
    } else {
        "first"
    };
    let image = bench.cut(dice, story, &running.stdout_so_far());
    drop(running);
    image
}

/// Cuts the power of one run of a workload `count` times, the last time at its end.
fn cut_run(bench: &mut Bench, workload: &Workload, count: usize, dice: &mut Dice) -> Vec<Image> {
    let first = workload.resumes.then(|| first_cut(bench, workload, dice));
    bench.begin(first.as_ref());
    let mut running = bench.start(&[workload.limit], None);
    let moments = moments(count - 1, workload.takes, dice);
    let mut images = bench.cut_at(&mut running, &moments, dice);
    images.push(cut_at_end(bench, running, dice));
    bench.end();
    images
}

fn cut_at_end(bench: &mut Bench, running: Running, dice: &mut Dice) -> Image {
    let ran = running.finish().expect(0);
    let mut image = bench.cut(dice, "at the end", &ran.stdout);
    image.all_done = true;
    image
}

/// Cuts the power of every workload and judges what is left.
fn check(fs: Fs, way: Way) {
    let test = format!("power cuts of {fs:?} {way:?}");
    if !can_mount(&test) {
        return;
    }
    let seed = seed();
    eprintln!("{test}: INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let images = std::env::var("INHAUL_TEST_IMAGES");
    let images = images.map_or(IMAGES, |text| text.parse().unwrap());
    let of_workload = images.div_ceil(6 * WORKLOADS.len());
    let mut complaints = Vec::new();
    for workload in &WORKLOADS {
        let mut bench = Bench::new(fs, way, workload.fill);
        let mut left = of_workload;
        while left > 0 {
            let count = left.min(IMAGES_OF_RUN);
            left -= count;
            for image in cut_run(&mut bench, workload, count, &mut dice) {
                let told = bench.judge(&image, false);
                complaints.extend(told.iter().map(|told| format!("{} {told}", workload.name)));
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "INHAUL_TEST_SEED={seed}\n{}",
        complaints.join("\n")
    );
}

#[test]
fn ext4_cloned() {
    check(Fs::Ext4, Way::Clone);
}

#[test]
fn ext4_on_a_drive_with_a_cache() {
    check(Fs::Ext4, Way::Cache);
}

#[test]
fn xfs_cloned() {
    check(Fs::Xfs, Way::Clone);
}

#[test]
fn xfs_on_a_drive_with_a_cache() {
    check(Fs::Xfs, Way::Cache);
}

#[test]
fn btrfs_cloned() {
    check(Fs::Btrfs, Way::Clone);
}

#[test]
fn btrfs_on_a_drive_with_a_cache() {
    check(Fs::Btrfs, Way::Cache);
}
