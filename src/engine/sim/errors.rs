//! Every operation fails once, and every operation fails from then on: the first, the second, and
//! so on, until a run meets none; in every kind of tree, in a new job and in one that goes on.
//! Operations of a kind get the errors in turn; with `INHAUL_TEST_SWEEP=all` each gets all of them.
//!
//! After each of them nothing wrong may have a name, what was acknowledged is there for good, the
//! run has said what is missing, and the next one completes the copy.

use super::aim::{Aim, Answer, Call, ERRORS};
use super::job::{Cut, Plan, Tally, run};
use super::maker::KINDS;
use super::tests::tell;
use super::tree::Trees;
use crate::seam;

/// Cases that the sweep must come to at least.
const CASES_MIN: u64 = 2_000;
/// Problems that one failed operation may cost: a file, and the names that are linked to it.
const PROBLEMS_MAX: usize = 4;

/// A sweep: how many operations failed, and what that was like.
#[derive(Debug, Default)]
struct Counts {
    cases: u64,
    /// In which the run ended well all the same.
    overcome: u64,
    /// In which the process before was killed on the way.
    gone_on: u64,
}

/// Returns the answers that every operation of a kind gets.
fn answers(call: Call) -> Vec<Answer> {
    let mut answers: Vec<Answer> = ERRORS.into_iter().map(Answer::Error).collect();
    if call.moves_bytes() {
        answers.extend([Answer::Short, Answer::Nothing]);
    }
    answers
}

/// Whether every operation is to get all its answers, and not one of them in turn.
fn is_thorough() -> bool {
    std::env::var("INHAUL_TEST_SWEEP").is_ok_and(|all| all == "all")
}

/// Lets every operation of a kind fail, with these answers in turn; stops at the first case that
/// breaks a rule.
fn sweep(
    trees: &Trees,
    plan: Plan,
    (call, answers, for_ever): (Call, &[Answer], bool),
    counts: &mut Counts,
) -> Result<(), Box<(Plan, super::job::Failure)>> {
    for (nth, answer) in (1..).zip(answers.iter().copied().cycle()) {
        let aim = Some(Aim {
            call,
            nth,
            for_ever,
            answer,
        });
        let plan = Plan { aim, ..plan };
        match run(trees, plan) {
            Ok(Tally { met: false, .. }) => break,
            Ok(tally) => {
                counts.cases += 1;
                counts.overcome += u64::from(tally.problems == 0);
                counts.gone_on += u64::from(plan.cuts.is_some());
                let may_cost = if for_ever { usize::MAX } else { most_of(call) };
                let what = format!("{} problems of one failure: {plan:?}", tally.problems);
                assert!(tally.problems <= may_cost, "{what}");
            }
            Err(failure) => return Err(Box::new((plan, failure))),
        }
    }
    Ok(())
}

/// Returns how many problems there may be when one operation fails.
fn most_of(call: Call) -> usize {
    match call {
        // Of whatever is in the folder, or waits for the sync or the journal.
        Call::MakeDir
        | Call::WriteBack
        | Call::SyncAll
        | Call::SyncFile
        | Call::SyncDir
        | Call::JournalAppend
        | Call::JournalSync => usize::MAX,
        _ => PROBLEMS_MAX,
    }
}

/// Sweeps all calls over jobs of a kind of tree; each tree twice, so that both ways to sync a file
/// system are there.
fn sweep_all(tree: usize) -> Counts {
    let trees = Trees::shared();
    let mut counts = Counts::default();
    let number = u64::try_from(tree).unwrap();
    for seed in [100 + number, 200 + number] {
        let new = Plan {
            seed,
            tree: Some(tree),
            ..Plan::default()
        };
        let ops = run(
            &trees,
            Plan {
                cuts: Some([None; 2]),
                ..new
            },
        );
        let ops = ops
            .unwrap_or_else(|failure| tell(&trees, new, &failure))
            .ops;
        let cut = Cut {
            op: ops * 2 / 3,
            is_kill: true,
        };
        let going_on = Plan {
            cuts: Some([Some(cut), None]),
            ..new
        };
        for plan in [new, going_on] {
            for call in Call::ALL {
                let mut answers = answers(call);
                // The first operations of both sweeps get other answers, and those of each tree.
                let size = if is_thorough() { 1 } else { answers.len() };
                answers.rotate_left(tree % size);
                for answers in answers.chunks(size) {
                    for for_ever in [false, true] {
                        let what = (call, answers, for_ever);
                        let swept = sweep(&trees, plan, what, &mut counts);
                        if let Err(failed) = swept {
                            tell(&trees, failed.0, &failed.1);
                        }
                    }
                }
            }
        }
    }
    counts
}

/// Bugs that a sweep over these calls has to notice.
const BUGS: [(&str, Call); 5] = [
    ("sync-error-ignored", Call::SyncAll),
    ("sync-tried-again", Call::SyncAll),
    ("journal-error-ignored", Call::JournalSync),
    ("journal-error-ignored", Call::JournalAppend),
    ("short-write-ignored", Call::Write),
];

#[test]
fn the_sweep_can_fail() {
    let trees = Trees::shared();
    for (bug, call) in BUGS {
        let noticed = (0..KINDS.len()).find_map(|tree| {
            let plan = Plan {
                seed: 300,
                tree: Some(tree),
                ..Plan::default()
            };
            let answer = if call == Call::Write {
                Answer::Short
            } else {
                Answer::Error(ERRORS[0])
            };
            let what = (call, &[answer][..], false);
            let swept = || sweep(&trees, plan, what, &mut Counts::default());
            seam::with_bug(bug, swept).err()
        });
        let noticed = noticed.unwrap_or_else(|| panic!("{bug} goes unnoticed"));
        println!("{bug}: {}", noticed.1.what);
    }
}

#[test]
fn every_operation_fails() {
    let mut all = Counts::default();
    for (tree, (name, _)) in KINDS.iter().enumerate() {
        let counts = sweep_all(tree);
        println!("{name}: {counts:?}");
        all.cases += counts.cases;
        all.overcome += counts.overcome;
        all.gone_on += counts.gone_on;
    }
    println!("error sweep, simulated: {all:?}; 0 wrong, 0 panics, 0 hangs");
    assert!(all.cases >= CASES_MIN, "only {all:?}");
}
