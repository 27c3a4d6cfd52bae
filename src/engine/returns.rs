//! Drives that were pulled and are put back: what is missing of them is copied in the same run.
//!
//! 1. From the moment a drive is lost nothing of it is held open, so that it can be unmounted, and
//!    mounted again.
//! 2. When all other lanes have ended, the mount table is looked at: at once, and then until
//!    `--grace` has passed since the drive was lost. A source is back when the same file system, by
//!    its UUID or its drive's serial number, and the same folder in it, is in another mount than it
//!    was: what is still mounted is what was lost. Another disk at the same path is never taken.
//! 3. Its lane runs once more, as that of a run that goes on with a job: the journal says what is
//!    done, and large files are gone on with inside.
//!
//! A drive that comes back and goes away again without giving anything is not waited for again.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::context::Context;
use super::job::CopyJob;
use super::ledger::Ledger;
use super::links::LinkTable;
use super::log::Log;
use super::opening::recall_links;
use super::proof::recorded;
use super::run::{LaneEnd, RunSettings, run};
use super::second_read::SourceAgain;
use super::setup::{ScanJob, reading_context, scan_lane};
use super::summary::LaneFacts;
use super::telemetry::Telemetry;
use super::watched::WatchedTarget;
use crate::error::Error;
use crate::journal::{self, Identity};
use crate::plan::{self, LanePlan, Source, find_returned};
use crate::target::{LocalTarget, Target};
use crate::topology::{Topology, mount_number};

/// How often the mount table is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Most times that drives are gone on with: one that comes and goes for ever gives too little.
const ROUNDS_MAX: u32 = 16;
/// How late a stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long one look may take, where its time is over already: a mount that hangs may hold it.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// A source as it was when the run began. Holds nothing of its drive.
#[derive(Debug, Clone)]
struct Home {
    recorded: journal::Source,
    /// The mount it was in.
    mount: u64,
    index: usize,
    root_attributes: bool,
}

/// The sources of all lanes.
#[derive(Debug)]
pub(super) struct Homes(Vec<Vec<Home>>);

impl Homes {
    /// Returns those of `lanes`; `identities` are those of the SOURCEs, in their order.
    pub(super) fn of(lanes: &[LanePlan], identities: &[Identity]) -> Self {
        let homes = lanes.iter().map(|plan| {
            let homes = plan.trees.iter().map(|tree| {
                Some(Home {
                    recorded: journal::Source {
                        index: 0,
                        identity: identities.get(tree.index)?.clone(),
                        label: tree.label.as_os_str().as_bytes().to_vec(),
                        landing: tree.landing.clone(),
                    },
                    mount: mount_number(tree.root.as_fd())?,
                    index: tree.index,
                    root_attributes: tree.root_attributes,
                })
            });
            // One that could not be known again keeps its whole lane.
            homes.collect::<Option<Vec<Home>>>().unwrap_or_default()
        });
        Self(homes.collect())
    }

    /// Returns the sources of a lane if all of them could be known again.
    fn known(&self, lane: usize) -> Option<&Vec<Home>> {
        let homes = self.0.get(lane).filter(|homes| !homes.is_empty())?;
        let is_unique = |home: &Home| {
            let identity = &home.recorded.identity;
            identity.fs_uuid.is_some() || identity.serial.is_some()
        };
        homes.iter().all(is_unique).then_some(homes)
    }
}

/// A lane whose drive is back, with its sources in the order of its homes.
type Back = (usize, Vec<Source>);

/// What lanes are gone on with.
#[derive(Debug)]
pub(super) struct Returns<'r> {
    pub(super) job: &'r CopyJob,
    pub(super) context: &'r Arc<Context>,
    pub(super) telemetry: &'r Arc<Telemetry>,
    pub(super) target: &'r Arc<LocalTarget>,
    pub(super) log: &'r Arc<Log>,
    pub(super) homes: &'r Homes,
    pub(super) facts: &'r [LaneFacts],
    pub(super) scan: &'r ScanJob,
    pub(super) settings: RunSettings,
}

impl Returns<'_> {
    /// Waits for drives that were lost, and goes on with those that come back. Of the others it is
    /// reported what that left undone.
    pub(super) fn bring_back(&self, ends: &mut [LaneEnd], ledger: &mut dyn Ledger) {
        let mut hopeless: HashSet<usize> = HashSet::new();
        let mut round = 0;
        while let Some(grace) = self.job.engine.grace {
            let lost = (0..).zip(&*ends).filter_map(|(lane, end)| {
                let until = end.lost.as_ref()?.at + grace;
                let is_waited_for = !hopeless.contains(&lane) && self.homes.known(lane).is_some();
                is_waited_for.then_some((lane, until))
            });
            let lost: Vec<(usize, Instant)> = lost.collect();
            if lost.is_empty() || self.context.halted() {
                break;
            }
            let back = self.wait(&lost);
            if back.is_empty() {
                break;
            }
            let lanes: Vec<usize> = back.iter().map(|(lane, _)| *lane).collect();
            let before: Vec<u64> = lanes.iter().map(|&lane| self.moved(lane)).collect();
            round += 1;
            if round > ROUNDS_MAX {
                break;
            }
            if let Err(error) = self.go_on(back, round, ends, ledger) {
                self.context.outcomes.problem_of_run(&error);
                break;
            }
            let same = lanes.iter().zip(before);
            let same = same.filter(|(lane, before)| self.moved(**lane) == *before);
            hopeless.extend(same.map(|(lane, _)| *lane));
        }
        for (lane, end) in (0..).zip(&*ends) {
            if let Some(lost) = &end.lost {
                self.context.outcomes.problem(lane, &lost.error);
            }
        }
    }

    /// Returns how many bytes a drive has given.
    fn moved(&self, lane: usize) -> u64 {
        let counters = self.context.outcomes.lane(lane);
        counters.map_or(0, |counters| counters.bytes_read.load(Relaxed))
    }

    /// Waits until a drive is back, and returns all that are by then; none when the time of each is
    /// over, or the run is to stop.
    fn wait(&self, lost: &[(usize, Instant)]) -> Vec<Back> {
        let Some(looks) = self.look(lost) else {
            return Vec::new();
        };
        let begun = Instant::now();
        let last = lost.iter().map(|(_, until)| *until).max();
        let last = last.unwrap_or(begun);
        let mut has_looked = false;
        while !self.context.halted() {
            match looks.recv_timeout(TICK) {
                Ok(back) if !back.is_empty() => return back,
                Ok(_) => {
                    let rest = last.saturating_duration_since(Instant::now());
                    if !has_looked && rest > TICK {
                        self.say_waiting(lost, rest);
                    }
                    has_looked = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= last && (has_looked || begun.elapsed() >= LOOK_MAX) {
                break;
            }
        }
        Vec::new()
    }

    /// Looks for drives on a thread of its own, which ends with whoever takes what it finds: a mount
    /// that hangs may hold it for ever.
    fn look(&self, lost: &[(usize, Instant)]) -> Option<Receiver<Vec<Back>>> {
        let wanted: Vec<(usize, Vec<Home>)> = lost
            .iter()
            .filter_map(|(lane, _)| Some((*lane, self.homes.known(*lane)?.clone())))
            .collect();
        let (found, looks) = bounded(0);
        let thread = std::thread::Builder::new().name("returns".to_owned());
        let started = thread.spawn(move || {
            loop {
                let back = Topology::live().map_or_else(
                    |_| Vec::new(),
                    |topology| {
                        let all = wanted.iter();
                        all.filter_map(|(lane, homes)| Some((*lane, sources(&topology, homes)?)))
                            .collect()
                    },
                );
                if found.send(back).is_err() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
        started.is_ok().then_some(looks)
    }

    fn say_waiting(&self, lost: &[(usize, Instant)], rest: Duration) {
        let paths = lost.iter().map(|(lane, _)| {
            let path = self.context.drive_path(*lane);
            path.display().to_string()
        });
        self.context.session.observer.note(&format!(
            "the other drives are through; waiting for {} to be mounted again, {} s at most \
             (--grace; Ctrl-C ends it)",
            paths.collect::<Vec<_>>().join(", "),
            rest.as_secs() + 1
        ));
    }

    /// Runs the lanes of drives that are back.
    fn go_on(
        &self,
        back: Vec<Back>,
        round: u32,
        ends: &mut [LaneEnd],
        ledger: &mut dyn Ledger,
    ) -> Result<(), Error> {
        let topology = Topology::live()?;
        let log = Arc::new(self.log.again(recorded(self.target, self.log)?));
        let (sender, finished) = bounded(FINISHED_QUEUE);
        let (mut lanes, mut plans, mut trees) = (Vec::new(), Vec::new(), Vec::new());
        for (lane, sources) in back {
            let (Some(homes), Some(facts)) = (self.homes.known(lane), self.facts.get(lane)) else {
                continue;
            };
            let (mut of_lane, mut fs) = (Vec::new(), Vec::new());
            for (home, source) in homes.iter().zip(sources) {
                let (tree, kind, location) =
                    plan::tree(source, home.index, home.root_attributes, &topology, &sender)?;
                of_lane.push(Arc::new(tree));
                fs.push((kind, location));
            }
            trees.extend(of_lane.iter().cloned());
            lanes.push(lane);
            plans.push(LanePlan {
                name: facts.name.clone(),
                location: facts.location.clone(),
                rotational: facts.rotational,
                trees: of_lane,
                fs,
            });
        }
        drop(sender);
        for (&lane, plan) in lanes.iter().zip(&plans) {
            if self.settings.may_be_read_again {
                let again = SourceAgain::of_lane(lane, plan, &|tree| log.number_of(tree))?;
                self.context.keep_sources(again);
            }
            self.context.drive_is_back(lane, label_of(plan));
        }
        let links = LinkTable::default();
        recall_links(&log, &trees, &**self.target, &links)?;
        // As long as one lives, its directories are not finished.
        drop(trees);
        let telemetry = Arc::new(self.telemetry.of(&lanes));
        let context = self.context_of(&telemetry, log, links)?;
        let setups = lanes
            .iter()
            .zip(plans)
            .map(|(&lane, plan)| scan_lane(lane, plan, self.scan.clone()))
            .collect();
        let ran = run(
            &context,
            &telemetry,
            setups,
            RunSettings {
                round,
                ..self.settings
            },
            ledger,
            finished,
        );
        let was_cut_short = context.interrupted.load(Relaxed);
        self.context.interrupted.fetch_or(was_cut_short, Relaxed);
        if let Some(&kind) = context.lost.get() {
            // The first reason counts.
            let _first = self.context.lost.set(kind);
        }
        for (lane, end) in lanes.into_iter().zip(ran?) {
            if let Some(place) = ends.get_mut(lane) {
                *place = end;
            }
        }
        Ok(())
    }

    /// Returns the context of lanes that go on: that of the run, with what is known of them by now.
    fn context_of(
        &self,
        telemetry: &Arc<Telemetry>,
        log: Arc<Log>,
        links: LinkTable,
    ) -> Result<Arc<Context>, Error> {
        let run = self.context;
        let target = Arc::clone(self.target) as Arc<dyn Target>;
        Ok(Arc::new(Context {
            target: Arc::new(WatchedTarget::new(target, self.log.vigil())),
            outcomes: Arc::clone(&run.outcomes),
            links: Some(links),
            existing: run.existing,
            policy: run.policy,
            special: run.special,
            copies: run.copies,
            target_identity: run.target_identity,
            log: Some(log),
            may_try_again: run.may_try_again,
            salvage: run.salvage,
            maps: run.maps.clone(),
            again: Arc::clone(&run.again),
            around: Arc::clone(&run.around),
            full: Arc::clone(&run.full),
            ..reading_context(&run.session, telemetry, &self.job.engine)?
        }))
    }
}

/// Returns where a lane's first source is now.
fn label_of(plan: &LanePlan) -> &Path {
    let first = plan.trees.first();
    first.map_or(Path::new(""), |tree| tree.label.as_path())
}

/// Returns the sources of a lane, opened, if all of them are back.
fn sources(topology: &Topology, homes: &[Home]) -> Option<Vec<Source>> {
    let homes = homes.iter();
    homes
        .map(|home| find_returned(topology, &home.recorded, home.mount))
        .collect()
}
