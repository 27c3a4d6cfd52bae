//! A soak: random trees to random targets with random options, while drives fail, power goes and
//! the program is killed, and gone on with until it is done. After each run nothing wrong has a
//! final name; at the end everything is there.
//!
//! For a minute in the gate; `INHAUL_SOAK_SECONDS=600` (or a day) for longer. Each job has a seed of
//! its own, which is printed: `INHAUL_TEST_SEED=N INHAUL_SOAK_SECONDS=1` runs that job again, as far
//! as the kernel lets it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
#[path = "support/soak/mod.rs"]
mod soak;
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use soak::Job;
use support::can_mount;
use support::dice::{Dice, seed};
use support::lab::Lab;

/// How long the gate takes for it.
const SECONDS: u64 = 60;

#[test]
fn whatever_happens_the_copy_is_right_in_the_end() {
    if !can_mount("whatever_happens_the_copy_is_right_in_the_end") {
        return;
    }
    let seconds = std::env::var("INHAUL_SOAK_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    let first = seed();
    eprintln!("soak: {seconds} s from INHAUL_TEST_SEED={first} on");
    let began = Instant::now();
    let lab = Lab::new();
    let (mut jobs, mut ends) = (0, BTreeMap::new());
    while jobs == 0 || began.elapsed() < Duration::from_secs(seconds) {
        let seed = first.wrapping_add(jobs);
        eprintln!("soak: INHAUL_TEST_SEED={seed}");
        let mut job = Job::new(&lab, &mut Dice::new(seed));
        job.run(&mut Dice::new(!seed));
        for end in job.ends() {
            *ends.entry(end).or_insert(0_u64) += 1;
        }
        jobs += 1;
    }
    eprintln!("soak: {jobs} jobs; runs by trouble and exit code: {ends:?}");
}
