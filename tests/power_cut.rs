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
#[path = "support/power/mod.rs"]
mod power;
mod support;

use power::loads::{WORKLOADS, cut_run};
use power::{Bench, Way};
use support::can_mount;
use support::dice::{Dice, seed};
use support::mounts::Fs;

/// Images in all, over three file systems, two ways and the workloads.
const IMAGES: usize = 120;
/// Most images of one run.
const IMAGES_OF_RUN: usize = 8;

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
