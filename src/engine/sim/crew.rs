//! Everybody but the lane: writers, committer, hash workers and finisher, one step at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use super::world::Shared;
use crate::digest::HashJob;
use crate::engine::commit::{Commit, Committer};
use crate::engine::context::Context;
use crate::engine::finisher::{Drives, finish_dir};
use crate::engine::ledger::Ledger;
use crate::engine::writers::{Small, Writer};
use crate::scan::Finished;

/// Who can take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Disk,
    Hash,
    Writer,
    Committer,
    Finisher,
}

impl Who {
    const ALL: [Self; 5] = [
        Self::Disk,
        Self::Hash,
        Self::Writer,
        Self::Committer,
        Self::Finisher,
    ];
}

/// The queues that lead to the crew.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) small: Receiver<Small>,
    pub(super) commits: Receiver<Commit>,
    pub(super) hash: Receiver<HashJob>,
    pub(super) finished: Receiver<Finished>,
}

#[derive(Debug)]
pub(super) struct Crew<'r> {
    world: Shared,
    context: &'r Context,
    queues: Queues,
    writers: Vec<Writer<'r>>,
    committer: Committer<'r>,
    small: VecDeque<Small>,
    jobs: VecDeque<HashJob>,
    /// What gathers for the next batch.
    batch: Vec<Commit>,
    /// How likely each is to be the next to take a step.
    haste: [usize; 5],
    /// Most files in a batch.
    batch_max: usize,
}

impl<'r> Crew<'r> {
    pub(super) fn new(
        world: &Shared,
        context: &'r Context,
        queues: Queues,
        commits: &Sender<Commit>,
        ledger: &'r mut dyn Ledger,
    ) -> Self {
        let writers = ["writer-0", "writer-1"];
        let writers = writers.map(|name| Writer::new(context, name, commits.clone()).unwrap());
        let mut here = world.lock();
        let haste = [(); 5].map(|()| here.rng.pick(&[1, 4, 16]));
        let batch_max = here.rng.pick(&[1, 2, 5, 50]);
        drop(here);
        Self {
            world: world.clone(),
            context,
            queues,
            writers: writers.into(),
            committer: Committer::new(context, ledger),
            small: VecDeque::new(),
            jobs: VecDeque::new(),
            batch: Vec::new(),
            haste,
            batch_max,
        }
    }

    /// Chooses who is next; `None` when nobody has anything to do.
    pub(super) fn choose(&mut self, disk_is_busy: bool) -> Option<Who> {
        self.small.extend(self.queues.small.try_iter());
        self.jobs.extend(self.queues.hash.try_iter());
        let can = [
            disk_is_busy,
            !self.jobs.is_empty(),
            !self.small.is_empty(),
            !self.batch.is_empty() || !self.queues.commits.is_empty(),
            !self.queues.finished.is_empty(),
        ];
        let weight = |index: usize| if can[index] { self.haste[index] } else { 0 };
        let total: usize = (0..5).map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.world.lock().rng.below(total);
        let chosen = (0..5).find(|&index| match left.checked_sub(weight(index)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        chosen.map(|index| Who::ALL[index])
    }

    pub(super) fn step(&mut self, who: Who) {
        match who {
            Who::Disk => unreachable!("the disk is the backend's"),
            Who::Hash => self.hash(),
            Who::Writer => self.write(),
            Who::Committer => self.commit(),
            Who::Finisher => {
                if let Ok(finished) = self.queues.finished.try_recv() {
                    let counters = self.context.outcomes.lane(0).unwrap();
                    let drive = Drives::one(0, counters.vitals());
                    finish_dir(self.context, &finished, &drive);
                }
            }
        }
        let mut here = self.world.lock();
        here.between_steps();
        let is_late = here.rng.chance(50);
        drop(here);
        if is_late {
            // As if a second had passed: what waits in the journal is due.
            self.committer
                .tick(Instant::now() + Duration::from_secs(60));
        }
    }

    /// Works until there is nothing left to do.
    pub(super) fn drain(&mut self) {
        while let Some(who) = self.choose(false) {
            self.step(who);
        }
    }

    fn hash(&mut self) {
        let next = self.world.lock().rng.below(self.jobs.len());
        if let Some(job) = self.jobs.remove(next) {
            self.world
                .lock()
                .note(format_args!("hash block {}", job.index));
            job.run();
        }
    }

    fn write(&mut self) {
        let mut here = self.world.lock();
        // Several writers: what is behind may overtake, but not by far.
        let next = here.rng.below(self.small.len().min(4));
        let writer = here.rng.below(self.writers.len());
        drop(here);
        let Some(small) = self.small.remove(next) else {
            return;
        };
        let Small {
            lane,
            entry,
            attributes,
            body,
            replace,
        } = small;
        let writer = &mut self.writers[writer];
        // Without the guard that keeps a panic to one file: here it ends the simulation.
        let written = writer.write(lane, &entry, &attributes, body, replace);
        writer.pass_on(lane, entry, written);
    }

    fn commit(&mut self) {
        let most = self.world.lock().rng.between(1, self.batch_max);
        let room = most.saturating_sub(self.batch.len());
        self.batch.extend(self.queues.commits.try_iter().take(room));
        let batch = std::mem::take(&mut self.batch);
        let count = batch.len();
        self.world.lock().note(format_args!("commit {count} files"));
        self.batch = self.committer.commit(batch);
    }
}
