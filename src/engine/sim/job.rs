//! One job from a seed: attempts that are killed or fail, until one of them ends it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::attempt::{Said, Setup, attempt};
use super::rng::Rng;
use super::tree::{SourceTree, Trees};
use super::world::{Crash, Odds, Shared, Violation};
use crate::buffer::{Arena, Credits};
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
}

/// How a job is run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Cut the power of the first attempt at this operation, and let nothing else go wrong.
    pub(super) crash_at: Option<u64>,
    /// Which tree; any if not said.
    pub(super) tree: Option<usize>,
    pub(super) traced: bool,
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
    tally: Tally,
}

/// Runs one job.
pub(super) fn run(trees: &Trees, plan: Plan) -> Result<Tally, Failure> {
    let mut rng = Rng::new(plan.seed.rotate_left(17));
    let tree = plan.tree.unwrap_or_else(|| rng.below(trees.all.len()));
    let tree: Arc<SourceTree> = Arc::clone(&trees.all[tree]);
    let slots = rng.pick(&[3, 4, 8]);
    let mut job = Job {
        world: Shared::new(plan.seed, tree, plan.traced),
        rng,
        credits: Arena::new(slots).unwrap().lend(slots).unwrap(),
        plan,
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
        let restless = match self.plan.crash_at {
            Some(_) => 1,
            None => self.rng.below(ATTEMPTS_MAX + 1),
        };
        for number in 0..restless {
            let (odds, crash_after) = self.luck();
            if let End::Said(said) = self.attempt(number, odds, crash_after)
                && said.success
            {
                return self.check_whole();
            }
        }
        // Write-back errors of the runs before are old news: somebody has heard of them by now.
        self.world.lock().disk.tell_all();
        let last = self.attempt(restless, Odds::default(), None);
        match last {
            End::Said(said) if said.success => self.check_whole(),
            End::Said(said) => {
                let what = format!("nothing went wrong, yet it failed: {:?}", said.problems);
                self.world.lock().violated(what);
            }
            End::Crashed => unreachable!("nobody cut the power"),
        }
    }

    /// Checks the target of a run that reports success, and what its journal says.
    fn check_whole(&self) {
        let loaded = super::records::read(&self.world);
        let mut world = self.world.lock();
        world.check_journal(&loaded);
        world.check_whole();
        let files = world.tree.items.iter();
        let missing = files
            .filter(|(_, version)| version.digest.is_some())
            .find(|(path, _)| loaded.done(path).is_none());
        if let Some((path, _)) = missing {
            let what = format!("the journal lacks {}", super::check::show(path));
            world.violated(what);
        }
    }

    /// Draws what goes wrong in an attempt, and when the power goes.
    fn luck(&mut self) -> (Odds, Option<u64>) {
        if self.plan.crash_at.is_some() {
            return (Odds::default(), self.plan.crash_at);
        }
        let rng = &mut self.rng;
        // Few kinds of trouble at a time, each often enough to show what it does.
        let mut odds = |high: &[u32]| if rng.chance(300) { rng.pick(high) } else { 0 };
        let odds = Odds {
            short: odds(&[50, 300]),
            read_error: odds(&[5, 50]),
            source_lost: odds(&[5]),
            write_error: odds(&[10, 50]),
            stage_error: odds(&[20, 100]),
            name_error: odds(&[20, 100]),
            sync_error: odds(&[20, 200]),
            journal_error: odds(&[20, 100]),
            write_back: odds(&[50, 300]),
            write_back_error: odds(&[20]),
            stop: odds(&[5]),
        };
        let crash = (!rng.chance(200)).then(|| {
            let most = rng.pick(&[20, 100, 400, 400]);
            1 + u64::try_from(rng.below(most)).unwrap()
        });
        (odds, crash)
    }

    fn attempt(&mut self, number: usize, odds: Odds, crash_after: Option<u64>) -> End {
        self.tally.attempts += 1;
        let mut world = self.world.lock();
        world.odds = odds;
        world.crash_after(crash_after, self.rng.chance(200));
        let tree = world.tree.name;
        world.note(format_args!("== attempt {number}, on {tree}: {odds:?}"));
        drop(world);
        let setup = Setup {
            depth: Depth {
                blocks: self.rng.between(1, 4),
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
        if free != total {
            world.violated(format!("only {free} of {total} buffers came back"));
        }
        world.check_all();
        end
    }
}
