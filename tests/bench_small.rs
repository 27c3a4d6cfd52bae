//! Every benchmark scenario in its small size: all of ours measured, every copy right.

#![allow(dead_code, reason = "what only the full sizes use")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test, though its helper stands outside the test functions"
)]

#[path = "../benches/farm/kit/mod.rs"]
mod kit;
#[path = "../benches/farm/scenarios/mod.rs"]
mod scenarios;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kit::Plan;

/// One at a time: each builds a farm of its own.
static TURN: Mutex<()> = Mutex::new(());

fn small(name: &str) {
    if let Some(missing) = kit::host::missing() {
        eprintln!("SKIPPED: {missing}");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let plan = Plan {
        small: true,
        runs: 1,
        inhaul: PathBuf::from(env!("CARGO_BIN_EXE_inhaul")),
        work: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        patience: std::time::Duration::ZERO,
        stop: std::sync::Arc::default(),
        only: Vec::new(),
    };
    let scenario = scenarios::ALL
        .iter()
        .find(|scenario| scenario.name == name)
        .unwrap();
    let outcome = (scenario.run)(&plan).unwrap();
    let ours = outcome
        .rows
        .iter()
        .filter(|row| row.tool.starts_with("inhaul"));
    // What is counted and not timed has numbers and no rows.
    let counted = |goal: &kit::table::Goal| goal.value.is_some();
    assert!(
        ours.count() > 0 || !outcome.goals.is_empty() && outcome.goals.iter().all(counted),
        "nothing of ours was measured"
    );
    for row in &outcome.rows {
        match &row.trouble {
            None => assert_eq!(row.samples.len(), 1, "{}: {}", row.scenario, row.tool),
            // A peer that is not installed is named, and that is all that may be missing.
            Some(why) => assert!(
                why.ends_with("is not installed"),
                "{}: {}: {why}",
                row.scenario,
                row.tool
            ),
        }
    }
    kit::table::print(&outcome).unwrap();
}

macro_rules! scenario {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { small($name); })*

        #[test]
        fn every_scenario_has_its_small_test() {
            let tested = [$($name),*];
            assert_eq!(scenarios::ALL.map(|scenario| scenario.name), tested);
        }
    };
}

scenario! {
    farm "farm"
    p1 "p1"
    p1_with_60_drives "p1-60"
    p2 "p2"
    p3 "p3"
    p4 "p4"
    p5 "p5"
    p5_with_300_000_files "p5-300k"
    p6 "p6"
    p7 "p7"
    p8 "p8"
    p10 "p10"
    scale "scale"
    verify "verify"
    verify_shelf "verify-shelf"
    commit "commit"
    rework "rework"
    rework_shelf "rework-shelf"
    bench_fio "bench-fio"
    bench_names "bench-names"
    bench_foresees "bench-foresees"
    r9 "r9"
}
