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
use std::os::unix::fs::MetadataExt;

use inhaul::seam::POINTS;
use kills::place::Place;
use kills::watch::Watch;
use kills::world::{Load, ONE_MIB, World};
use kills::{Life, Passes};
use support::dice::{Dice, seed};
use support::mounts::Fs;
use support::program::report;
use support::{can_mount, need_tools, tree};

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
        life.harm("first/b", 100);
        life.harm("first/small1", 100);
    },
};

/// A copy that was killed while it mended what somebody had changed.
const WITHDRAWN: Way = Way {
    name: "withdrawn",
    before: |life| {
        (MENDED.before)(life);
        assert!(life.kill_at("mending", 1));
    },
    ..MENDED
};

/// Kills a copy at a pass of a point, then perhaps again, and lets it end.
fn kill_at(world: &World, way: &Way, point: &str, pass: u64, dice: &mut Dice) -> bool {
    let mut life = life(world, way, dice);
    if life.is_over() || !life.kill_at(point, pass) {
        return false;
    }
    life.kill_again(3, dice);
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

/// Kills at the first, the second and a late pass of each of these points. Of those that were
/// `known` before, at one of them alone.
fn kill_at_each(
    world: &World,
    way: &Way,
    points: &[&str],
    known: &mut BTreeSet<String>,
    dice: &mut Dice,
) {
    let passes = trace(world, way, dice);
    for point in points {
        let Some(&count) = passes.get(*point) else {
            continue;
        };
        let mut chosen = BTreeSet::from([1, count.min(2), (count * 3 / 4).max(1)]);
        if known.contains(*point) {
            let one = chosen.iter().nth(dice.index(chosen.len())).copied();
            chosen = one.into_iter().collect();
        }
        for pass in chosen {
            // Some are passed more often in one run than in another, or not at all in some.
            let passes = (1..=pass).rev().chain([1; 20]);
            let is_killed = passes
                .into_iter()
                .any(|pass| kill_at(world, way, point, pass, dice));
            assert!(is_killed, "{}: never came to {point}", way.name);
        }
    }
    known.extend(passes.into_keys());
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
    let mut known = BTreeSet::new();
    for way in [PLAIN, RESUMED] {
        let world = World::new(Place::new(test, fs), way.load);
        kill_at_each(&world, &way, &points, &mut known, &mut dice);
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
        "withdrawn",
        "lanes-ended",
    ];
    let mut known = BTreeSet::new();
    for (way, fs) in [
        (VERIFIED, Fs::Ext4),
        (MENDED, Fs::Xfs),
        (WITHDRAWN, Fs::Ext4),
    ] {
        let world = World::new(Place::new(test, Some(fs)), way.load);
        kill_at_each(&world, &way, &points, &mut known, &mut dice);
    }
}

// What the journal calls done is left alone: it keeps its inode, and its source is not read.
#[test]
fn what_is_done_is_not_read_again() {
    let test = "what_is_done_is_not_read_again";
    let Some(mut dice) = begin(test) else {
        return;
    };
    let world = World::new(Place::new(test, Some(Fs::Ext4)), Load::Mixed);
    for pass in [1, 3, 5] {
        let mut life = life(&world, &PLAIN, &mut dice);
        assert!(life.kill_at("acknowledged", pass));
        let journal = life.journal();
        let done: BTreeSet<Vec<u8>> = journal
            .iter_done()
            .map(|done| done.target_path.to_vec())
            .collect();
        assert!(!done.is_empty());
        let target = life.target.clone();
        let inodes = || -> Vec<u64> {
            let inode = |name: &Vec<u8>| target.join(tree::name(name)).metadata().unwrap().ino();
            done.iter().map(inode).collect()
        };
        let before = inodes();
        let watch = Watch::new(&world);
        life.run();
        let read = watch.read();
        assert_eq!(inodes(), before);
        let again: Vec<_> = read.intersection(&done).collect();
        assert!(again.is_empty(), "read again: {again:?}");
        assert!(!read.is_empty(), "nothing was watched");
        let report = report(&life.target);
        assert_eq!(report["totals"]["kept"], done.len());
        life.finish();
    }
}

// A large file goes on from what was synced and recorded of it last, however often it is killed.
#[test]
fn a_large_file_goes_on_from_its_checkpoint() {
    let test = "a_large_file_goes_on_from_its_checkpoint";
    let Some(mut dice) = begin(test) else {
        return;
    };
    // Slowly enough for hashing to keep up, for only what is hashed is recorded.
    let way = Way {
        load: Load::One,
        options: &["--bwlimit", "40MB"],
        ..PLAIN
    };
    for fs in [Some(Fs::Ext4), Some(Fs::Xfs), Some(Fs::Btrfs), None] {
        let world = World::new(Place::new(test, fs), way.load);
        let mut life = life(&world, &way, &mut dice);
        let mut recorded = 0;
        let mut read = 0;
        for _ in 0..3 {
            read += life.trace_to("blocks-committed", 1)["block-read"];
            let journal = life.journal();
            let now = journal.blocks(b"first/large").unwrap().block_count;
            assert!(now >= recorded + 2, "{now} behind {recorded}");
            recorded = now;
        }
        let last = life.trace().get("block-read").copied().unwrap_or(0);
        assert_eq!(last, ONE_MIB - recorded);
        let report = report(&life.target);
        assert_eq!(report["totals"]["kept_bytes"], recorded << 20);
        assert_eq!(report["totals"]["bytes"], ONE_MIB << 20);
        eprintln!(
            "{fs:?}: {} blocks of {ONE_MIB} read twice",
            read + last - ONE_MIB
        );
        life.finish();
    }
}

// The source gives other bytes than it did, so what somebody changed is taken away. When it gives
// the right ones again, it is copied again.
#[test]
fn what_cannot_be_mended_at_its_points() {
    let test = "what_cannot_be_mended_at_its_points";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    let Some(mut dice) = begin(test) else {
        return;
    };
    let world = World::new(Place::new(test, Some(Fs::Ext4)), MENDED.load);
    for point in NOT_MENDED {
        let mut life = life(&world, &MENDED, &mut dice);
        world.flip("first/b");
        let is_killed = life.kill_at(point, 1);
        world.flip("first/b");
        assert!(is_killed, "never came to {point}");
        life.finish();
    }
}

/// Points that are passed where something cannot be mended.
const NOT_MENDED: [&str; 2] = ["withdrawing", "withdrawn"];

#[test]
fn every_point_is_passed_by_one_of_them() {
    let test = "every_point_is_passed_by_one_of_them";
    let Some(mut dice) = begin(test) else {
        return;
    };
    let mut passed: BTreeSet<String> = NOT_MENDED.map(str::to_owned).into();
    for way in [PLAIN, RESUMED, VERIFIED, MENDED, WITHDRAWN] {
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
