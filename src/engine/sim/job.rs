//! One job from a seed: attempts that are killed or fail, until one of them ends it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::aim::{Aim, Aimed};
use super::attempt::{Said, Setup, attempt};
use super::disk::Path;
use super::rng::Rng;
use super::tree::{SourceTree, Trees, scratch};
use super::world::{Crash, Odds, Shared, Violation};
use crate::buffer::{Arena, Credits};
use crate::engine::job::Existing;
use crate::engine::lane::Depth;

/// Attempts that may be killed or fail before one has to succeed.
const ATTEMPTS_MAX: usize = 6;

/// Why a seed fails, and what was done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) what: String,
    pub(super) lines: Vec<String>,
}

/// What a job that held was like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) attempts: u64,
    pub(super) crashes: u64,
    pub(super) ops: u64,
    /// One number for all that was done.
    pub(super) sum: u64,
    /// Whether what was aimed at was met.
    pub(super) met: bool,
    /// Problems of the attempt in which it was.
    pub(super) problems: usize,
}

/// When a process ends before its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// At this operation, counted from where it began.
    pub(super) op: u64,
    /// Whether it is killed; the power goes otherwise.
    pub(super) is_kill: bool,
}

/// How a job is run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Nothing goes wrong but this, in the first attempts one after the other.
    pub(super) cuts: Option<[Option<Cut>; 2]>,
    /// Nothing goes wrong but this, in the attempt after those.
    pub(super) aim: Option<Aim>,
    /// Which tree; any if not said.
    pub(super) tree: Option<usize>,
    pub(super) traced: bool,
}

impl Plan {
    /// Returns how many attempts go wrong on purpose; `None` when luck decides.
    fn planned(&self) -> Option<usize> {
        let cuts = self.cuts.map(|cuts| cuts.iter().flatten().count());
        match self.aim {
            Some(_) => Some(cuts.unwrap_or(0) + 1),
            None => cuts,
        }
    }
}

enum End {
    Said(Said),
    Crashed,
}

struct Job {
    world: Shared,
    /// For what is not the world's to decide.
    rng: Rng,
    credits: Credits,
    plan: Plan,
    /// Whether somebody changes the source.
    changes: bool,
    /// Whether somebody works in the target.
    meddles: bool,
    tally: Tally,
}

/// Runs one job.
pub(super) fn run(trees: &Trees, plan: Plan) -> Result<Tally, Failure> {
    let mut rng = Rng::new(plan.seed.rotate_left(17));
    let kind = plan.tree.unwrap_or_else(|| rng.below(trees.all.len()));
    let slots = rng.pick(&[3, 4, 8]);
    let is_calm = plan.planned().is_some();
    let changes = rng.chance(250) && !is_calm;
    let meddles = rng.chance(250) && !is_calm;
    // Only a source of its own can be changed.
    let home = changes.then(scratch);
    let tree = match &home {
        Some(home) => Arc::new(SourceTree::make(kind, home.path())),
        None => Arc::clone(&trees.all[kind]),
    };
    let world = Shared::new(plan.seed, tree, plan.traced);
    if meddles {
        use Existing::{Overwrite, Refuse, Skip};
        world.lock().existing = rng.pick(&[Refuse, Refuse, Overwrite, Skip]);
    }
    let mut job = Job {
        world,
        rng,
        credits: Arena::new(slots).unwrap().lend(slots).unwrap(),
        plan,
        changes,
        meddles,
        tally: Tally::default(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| job.run()));
    let mut world = job.world.lock();
    job.tally.ops = world.ops();
    job.tally.sum = world.sum();
    match outcome {
        Ok(()) => Ok(job.tally),
        Err(payload) => Err(Failure {
            what: describe(payload.as_ref()),
            lines: world.take_lines(),
        }),
    }
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    match payload.downcast_ref::<Violation>() {
        Some(Violation(what)) => what.clone(),
        None => format!("panicked: {}", text.unwrap_or_default()),
    }
}

impl Job {
    fn run(&mut self) {
        let restless = match self.plan.planned() {
            Some(count) => count,
            None => self.rng.below(ATTEMPTS_MAX + 1),
        };
        for number in 0..restless {
            let (odds, cut) = self.luck(number);
            if let End::Said(said) = self.attempt(number, odds, cut) {
                self.check_said(&said);
                if said.success {
                    return self.check_whole();
                }
            }
            self.between_attempts();
        }
        // Write-back errors of the runs before are old news: somebody has heard of them by now.
        self.world.lock().disk.tell_all();
        let mut said = self.last_attempt(restless);
        let in_the_way = self.world.lock().in_the_way();
        if !said.success && self.is_all_about(&said, &in_the_way) {
            self.world.lock().clear_the_way();
            said = self.last_attempt(restless + 1);
        }
        if !said.success {
            let what = format!("nothing went wrong, yet it failed: {:?}", said.problems);
            self.world.lock().violated(what);
        }
        self.check_whole();
    }

    /// Checks what a run says in which one thing may have gone wrong.
    fn check_said(&mut self, said: &Said) {
        if self.plan.aim.is_none() {
            return;
        }
        self.tally.problems = said.problems.len();
        if !said.success && (!self.tally.met || said.problems.is_empty()) {
            let what = format!("it failed, and not of what was aimed at: {said:?}");
            self.world.lock().violated(what);
        }
    }

    /// Lets others do what they do while no run goes on.
    fn between_attempts(&mut self) {
        let mut world = self.world.lock();
        if self.changes && self.rng.chance(300) {
            for _ in 0..self.rng.between(1, 4) {
                world.change_source(false);
            }
        }
        if self.meddles && self.rng.chance(500) {
            world.meddle();
        }
        world.check_all();
    }

    /// Runs an attempt that nothing disturbs.
    fn last_attempt(&mut self, number: usize) -> Said {
        match self.attempt(number, Odds::default(), None) {
            End::Said(said) => said,
            End::Crashed => unreachable!("nobody cut the power"),
        }
    }

    /// Returns whether a run complains of nothing but these names, which are taken.
    fn is_all_about(&self, said: &Said, taken: &[Path]) -> bool {
        let tree = Arc::clone(&self.world.lock().tree);
        let taken: Vec<String> = taken
            .iter()
            .map(|path| format!("{}: ", tree.real(path).display()))
            .collect();
        let is_taken = |problem: &String| taken.iter().any(|path| problem.starts_with(path));
        !said.problems.is_empty() && said.problems.iter().all(is_taken)
    }

    /// Checks the target of a run that reports success, and what its journal says.
    fn check_whole(&self) {
        let loaded = super::records::read(&self.world);
        let mut world = self.world.lock();
        world.check_journal(&loaded);
        world.check_whole(&loaded);
        world.check_foreign();
    }

    /// Draws what goes wrong in an attempt, and when the power goes.
    fn luck(&mut self, number: usize) -> (Odds, Option<Cut>) {
        if self.plan.planned().is_some() {
            let cut = self.plan.cuts.and_then(|cuts| *cuts.get(number)?);
            return (Odds::default(), cut);
        }
        let rng = &mut self.rng;
        // Few kinds of trouble at a time, each often enough to show what it does.
        let mut odds = |high: &[u32]| if rng.chance(300) { rng.pick(high) } else { 0 };
        let odds = Odds {
            short: odds(&[50, 300]),
            read_error: odds(&[5, 50]),
            source_lost: odds(&[5]),
            bad_page: odds(&[1, 5]),
            write_error: odds(&[10, 50]),
            stage_error: odds(&[20, 100]),
            name_error: odds(&[20, 100]),
            sync_error: odds(&[20, 200]),
            journal_error: odds(&[20, 100]),
            write_back: odds(&[50, 300]),
            write_back_error: odds(&[20]),
            stop: odds(&[5]),
            change: 0,
            intrude: 0,
            rot: odds(&[500]),
        };
        let odds = Odds {
            change: rng.pick(&[0, 5, 20, 50]) * u32::from(self.changes),
            intrude: rng.pick(&[0, 0, 5, 20]) * u32::from(self.meddles),
            ..odds
        };
        let cut = (!rng.chance(200)).then(|| {
            let most = rng.pick(&[20, 100, 400, 400]);
            Cut {
                op: 1 + u64::try_from(rng.below(most)).unwrap(),
                is_kill: rng.chance(200),
            }
        });
        (odds, cut)
    }

    fn attempt(&mut self, number: usize, odds: Odds, cut: Option<Cut>) -> End {
        self.tally.attempts += 1;
        let mut world = self.world.lock();
        world.odds = odds;
        world.attempt += 1;
        world.spoil();
        world.crash_after(cut);
        let aim = self
            .plan
            .aim
            .filter(|_| self.plan.planned() == Some(number + 1));
        world.aimed = aim.map(Aimed::new);
        let tree = world.tree.name;
        world.note(format_args!("== attempt {number}, on {tree}: {odds:?}"));
        drop(world);
        let blocks = self.rng.between(1, 4);
        let setup = Setup {
            depth: Depth {
                // Its rate is none of the seed's.
                first: blocks,
                blocks,
                small: self.rng.pick(&[1, 4, 16]),
            },
            capacity: self.rng.pick(&[1, 3, 128]),
            sync_blocks: self.rng.pick(&[1, 1, 2, 1000]),
        };
        let (world, credits) = (&self.world, &self.credits);
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(world, credits, setup)));
        let end = match outcome {
            Ok(said) => {
                self.world.lock().end_process();
                End::Said(said)
            }
            Err(payload) if payload.is::<Crash>() => {
                self.tally.crashes += 1;
                self.world.lock().end_badly();
                End::Crashed
            }
            Err(payload) => std::panic::resume_unwind(payload),
        };
        let (free, total) = (self.credits.free(), self.credits.total());
        let mut world = self.world.lock();
        let aimed = world.aimed.take();
        self.tally.met |= aimed.is_some_and(|aimed| aimed.is_met());
        if free != total {
            world.violated(format!("only {free} of {total} buffers came back"));
        }
        world.check_all();
        end
    }
}
