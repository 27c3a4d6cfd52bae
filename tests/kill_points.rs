//! Killed at each point that has a name: no final name is on wrong bytes, nothing foreign is
//! touched, and the same command goes on to the same end as a copy that nobody killed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/kills/mod.rs"]
mod kills;
mod support;

use std::collections::BTreeSet;

use inhaul::seam::POINTS;
use kills::place::Place;
use kills::world::{Load, World};
use kills::{Life, Passes};
use support::dice::{Dice, seed};
use support::mounts::Fs;
use support::need_tools;

/// How a copy comes to the points that it is killed at.
struct Way {
    name: &'static str,
    load: Load,
    options: &'static [&'static str],
    batch: u64,
    /// What happens before.
    before: fn(&mut Life<'_>),
}

/// A copy from the start.
const PLAIN: Way = Way {
    name: "plain",
    load: Load::Mixed,
    options: &[],
    batch: 6,
    before: |_| {},
};

/// What goes on behind a kill at which everything had its name, and nothing was acknowledged.
const RESUMED: Way = Way {
    name: "resumed",
    load: Load::Large,
    options: &[],
    batch: 1000,
    before: |life| {
        assert!(life.kill_at("named-all", 1));
    },
};

/// A copy that is read back.
const VERIFIED: Way = Way {
    name: "verified",
    load: Load::Mixed,
    options: &["--verify", "target"],
    batch: 6,
    before: |_| {},
};

/// A copy that finds, when it reads back, that somebody changed what it had written.
const MENDED: Way = Way {
    name: "mended",
    load: Load::Large,
    options: &["--verify", "target"],
    batch: 1000,
    before: |life| {
        assert!(life.kill_at("acknowledged", 1));
        life.harm("first/b", 2 << 20);
        life.harm("first/small1", 100);
    },
};

/// Kills a copy at a pass of a point, then perhaps again, and lets it end.
fn kill_at(world: &World, way: &Way, point: &str, pass: u64, dice: &mut Dice) -> bool {
    let mut life = life(world, way, dice);
    if life.is_over() || !life.kill_at(point, pass) {
        return false;
    }
    life.kill_again(4, dice);
    life.finish();
    true
}

fn life<'w>(world: &'w World, way: &Way, dice: &mut Dice) -> Life<'w> {
    let io = if dice.coin() { "uring" } else { "blocking" };
    let options = [way.options, &["--io", io]].concat();
    let mut life = Life::new(world, &options);
    life.batch = way.batch;
    (way.before)(&mut life);
    life
}

/// Runs a copy to its end; returns how often it passed each point.
fn trace(world: &World, way: &Way, dice: &mut Dice) -> Passes {
    let mut life = life(world, way, dice);
    let passes = life.trace();
    life.finish();
    passes
}

/// Kills at the first, the second and a late pass of each of these points.
fn kill_at_each(world: &World, way: &Way, points: &[&str], dice: &mut Dice) {
    let passes = trace(world, way, dice);
    for point in points {
        let Some(&count) = passes.get(*point) else {
            continue;
        };
        let late = (count * 3 / 4).max(1);
        for pass in BTreeSet::from([1, count.min(2), late]) {
            // Some are passed more often in one run than in another, but each once.
            let is_killed = (1..=pass)
                .rev()
                .any(|pass| kill_at(world, way, point, pass, dice));
            assert!(is_killed, "{}: never came to {point}", way.name);
        }
    }
}

fn begin(test: &str) -> Option<Dice> {
    if !need_tools(test, &["rsync", "b3sum"]) {
        return None;
    }
    let seed = seed();
    eprintln!("{test}: INHAUL_TEST_SEED={seed}");
    Some(Dice::new(seed))
}

/// Kills at every fourth point on one file system of four.
fn check(test: &str, of: usize, fs: Option<Fs>) {
    let Some(mut dice) = begin(test) else {
        return;
    };
    let points: Vec<&str> = POINTS.iter().copied().skip(of).step_by(4).collect();
    for way in [PLAIN, RESUMED] {
        let world = World::new(Place::new(test, fs), way.load);
        kill_at_each(&world, &way, &points, &mut dice);
    }
}

#[test]
fn ext4_at_a_fourth_of_the_points() {
    check("ext4_at_a_fourth_of_the_points", 0, Some(Fs::Ext4));
}

#[test]
fn xfs_at_a_fourth_of_the_points() {
    check("xfs_at_a_fourth_of_the_points", 1, Some(Fs::Xfs));
}

#[test]
fn btrfs_at_a_fourth_of_the_points() {
    check("btrfs_at_a_fourth_of_the_points", 2, Some(Fs::Btrfs));
}

#[test]
fn a_folder_at_a_fourth_of_the_points() {
    check("a_folder_at_a_fourth_of_the_points", 3, None);
}

#[test]
fn what_is_read_back_at_its_points() {
    let test = "what_is_read_back_at_its_points";
    let Some(mut dice) = begin(test) else {
        return;
    };
    let points = [
        "read-back",
        "verified-appended",
        "mending",
        "mended",
        "lanes-ended",
        "manifest-writing",
    ];
    for (way, fs) in [(VERIFIED, Fs::Ext4), (MENDED, Fs::Xfs)] {
        let world = World::new(Place::new(test, Some(fs)), way.load);
        kill_at_each(&world, &way, &points, &mut dice);
    }
}

#[test]
fn every_point_is_passed_by_one_of_them() {
    let test = "every_point_is_passed_by_one_of_them";
    let Some(mut dice) = begin(test) else {
        return;
    };
    let mut passed = BTreeSet::new();
    for way in [PLAIN, RESUMED, VERIFIED, MENDED] {
        let world = World::new(Place::new(test, Some(Fs::Ext4)), way.load);
        passed.extend(trace(&world, &way, &mut dice).into_keys());
    }
    let never: Vec<_> = POINTS
        .iter()
        .filter(|&&point| !passed.contains(point))
        .collect();
    assert!(never.is_empty(), "{never:?}");
    assert!(
        passed.iter().all(|point| POINTS.contains(&point.as_str())),
        "{passed:?}"
    );
}
