//! Killed at any moment, again and again: no final name is on wrong bytes, nothing foreign is touched,
//! and the same command goes on to the same end as a copy that nobody killed.
//!
//! `INHAUL_TEST_KILLS=N` kills N times instead of 200.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/kills/mod.rs"]
mod kills;
mod support;

use std::time::{Duration, Instant};

use kills::Life;
use kills::place::Place;
use kills::world::{Load, World};
use support::dice::{Dice, seed};
use support::mounts::Fs;
use support::need_tools;

/// Kills in all, over four places.
const KILLS: u64 = 200;
/// Most of them that one copy takes before it is left alone.
const KILLS_OF_LIFE: u64 = 6;

/// Returns a new copy with one way or another to do it.
fn life<'w>(world: &'w World, may_verify: bool, dice: &mut Dice) -> Life<'w> {
    let mut options = vec!["--io", if dice.coin() { "uring" } else { "blocking" }];
    if may_verify && dice.coin() {
        options.extend(["--verify", "target"]);
    }
    let mut life = Life::new(world, &options);
    life.batch = [2, 6, 40, 1000][dice.index(4)];
    life
}

/// Returns how long a copy takes that nobody kills.
fn time_of_one(world: &World, may_verify: bool, dice: &mut Dice) -> Duration {
    let mut life = life(world, may_verify, dice);
    let start = Instant::now();
    life.run();
    let time = start.elapsed();
    life.finish();
    time
}

fn check(test: &str, fs: Option<Fs>) {
    if !need_tools(test, &["rsync", "b3sum"]) {
        return;
    }
    let seed = seed();
    eprintln!("{test}: INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let kills = std::env::var("INHAUL_TEST_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    // btrfs keeps small files where they cannot be read past the page cache; and what a folder is
    // on, nobody knows.
    let may_verify = matches!(fs, Some(Fs::Ext4 | Fs::Xfs));
    let worlds = [Load::Mixed, Load::Large].map(|load| World::new(Place::new(test, fs), load));
    let mut left = kills.div_ceil(4);
    while left > 0 {
        let world = &worlds[dice.index(worlds.len())];
        let most = time_of_one(world, may_verify, &mut dice).as_micros();
        let most = u64::try_from(most).unwrap();
        // One time is good for a few.
        for _ in 0..3 {
            let mut life = life(world, may_verify, &mut dice);
            for _ in 0..=dice.below(KILLS_OF_LIFE) {
                if left == 0 || life.is_over() {
                    break;
                }
                let delay = Duration::from_micros(dice.below(most));
                left -= u64::from(life.kill_after(delay));
            }
            life.finish();
        }
    }
}

#[test]
fn on_ext4() {
    check("killed at random on ext4", Some(Fs::Ext4));
}

#[test]
fn on_xfs() {
    check("killed at random on XFS", Some(Fs::Xfs));
}

#[test]
fn on_btrfs() {
    check("killed at random on btrfs", Some(Fs::Btrfs));
}

#[test]
fn in_a_folder() {
    check("killed at random in a folder", None);
}
