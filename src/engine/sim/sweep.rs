//! A crash at the first operation, the second, and so on, until a run meets none: nothing is left
//! to luck.

use super::job::{Cut, Plan, run};
use super::tests::tell;
use super::tree::Trees;

/// Runs a plan for every place that `cut_at` can cut it; returns how many there are. `crashes`: how
/// many attempts end before their time if the last cut is met.
fn sweep(trees: &Trees, crashes: u64, cut_at: impl Fn(u64) -> Plan) -> u64 {
    let mut op = 1;
    loop {
        let plan = cut_at(op);
        match run(trees, plan) {
            Ok(tally) if tally.crashes < crashes => return op - 1,
            Ok(_) => op += 1,
            Err(failure) => tell(trees, plan, &failure),
        }
    }
}

/// Cuts the first attempt at every operation, then the second: of what the first leaves when it is
/// cut in the middle, and near its end.
fn sweep_all(tree: usize, seed: u64, is_kill: bool) {
    let trees = Trees::shared();
    let plan = |cuts| Plan {
        seed,
        tree: Some(tree),
        cuts: Some(cuts),
        ..Plan::default()
    };
    let cut = |op| Some(Cut { op, is_kill });
    let count = sweep(&trees, 1, |op| plan([cut(op), None]));
    assert!(count > 40, "only {count} operations");
    for first in [count / 2, count * 5 / 6] {
        let again = sweep(&trees, 2, |op| plan([cut(first), cut(op)]));
        assert!(again > 15, "only {again} operations behind {first}");
    }
}

#[test]
fn a_power_cut_at_every_operation() {
    for (tree, seed) in [(0, 1), (2, 2), (3, 3), (6, 4)] {
        sweep_all(tree, seed, false);
    }
}

#[test]
fn a_kill_at_every_operation() {
    for (tree, seed) in [(0, 5), (2, 6), (3, 7), (6, 8)] {
        sweep_all(tree, seed, true);
    }
}
