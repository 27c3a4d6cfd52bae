//! The simulator at work.

use std::time::{Duration, Instant};

use super::job::{Failure, Plan, Tally, run};
use super::tree::Trees;

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// Says how to see a failure again, and what was done in it.
pub(super) fn tell(trees: &Trees, plan: Plan, failure: &Failure) -> ! {
    let again = run(
        trees,
        Plan {
            traced: true,
            ..plan
        },
    );
    let lines = match &again {
        Err(again) if again.what == failure.what => again.lines.join("\n"),
        other => format!("not the same the second time: {other:?}"),
    };
    panic!(
        "{lines}\n{}\nSIM_SEED={} SIM_RUNS=1 shows it again: {plan:?}",
        failure.what, plan.seed
    );
}

#[test]
fn what_was_acknowledged_outlives_every_power_cut() {
    let trees = Trees::shared();
    let (first, count) = (number("SIM_SEED", 1), number("SIM_RUNS", 3000));
    let began = Instant::now();
    let mut all = Tally::default();
    let goes_on = number("SIM_ALL", 0) == 1;
    let mut failures = Vec::new();
    for seed in first..first + count {
        let plan = Plan {
            seed,
            ..Plan::default()
        };
        match run(&trees, plan) {
            Ok(tally) => {
                all.attempts += tally.attempts;
                all.crashes += tally.crashes;
                all.ops += tally.ops;
            }
            Err(failure) if goes_on => failures.push((seed, failure.what)),
            Err(failure) => tell(&trees, plan, &failure),
        }
    }
    for (seed, what) in &failures {
        println!("{seed}: {what}");
    }
    let took = began.elapsed().max(Duration::from_millis(1));
    println!(
        "{count} jobs, {} attempts, {} power cuts, {} operations in {took:.1?}: {} jobs a minute",
        all.attempts,
        all.crashes,
        all.ops,
        u128::from(count) * 60_000 / took.as_millis(),
    );
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

#[test]
fn a_seed_is_the_same_job_every_time() {
    let trees = Trees::shared();
    for seed in 1..20 {
        let plan = Plan {
            seed,
            ..Plan::default()
        };
        let [one, other] = [(); 2].map(|()| run(&trees, plan));
        match (one, other) {
            (Ok(one), Ok(other)) => assert_eq!(one, other),
            (Err(one), Err(other)) => assert_eq!(one.what, other.what),
            both => panic!("once so, once otherwise: {both:?}"),
        }
    }
}
