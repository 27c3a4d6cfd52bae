//! Drives that were pulled and are put back: what is missing of them is copied in the same run.
//!
//! 1. From the moment a drive is lost nothing of it is held open, so that it can be unmounted, and
//!    mounted again.
//! 2. From then on the mount table is looked at as long as other drives are read; when all have
//!    ended, at once, and then until `--grace` has passed since the drive was lost. A source is back
//!    when the same file system, by its UUID or its drive's serial number, and the same folder in it,
//!    is in a mount that came since: what is still mounted where a lane was read is what was lost, and
//!    what stayed mounted beside it is an image of it. Where two drives of the run cannot be told from
//!    each other, neither is looked for. Another disk at the same path is never taken. A mount that
//!    hangs keeps no other from being looked at (`homes`).
//! 3. Its lane runs once more, as that of a run that goes on with a job: the journal, which is read
//!    on a thread of its own, says what is done, and large files are gone on with inside. That must be
//!    all that was copied of it, so nothing of the lane before may be on its way any more. A lane
//!    whose threads its drive still holds is gone on with when the others are through, one at a time.
//!
//! What is mounted a second time and gives nothing was not the drive: that is waited for as before.
//! One that cannot be gone on with stays lost and is tried again; why is told at once, and at the end.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::context::Context;
use super::homes::{Back, Homes, Search};
use super::job::CopyJob;
use super::lane::unattempted;
use super::ledger::Ledger;
use super::links::LinkTable;
use super::log::Log;
use super::opening::recall_links;
use super::patience::{Idle, TIMES_MAX, pause};
use super::proof::recorded;
use super::run::{LaneEnd, Lost, RunSettings, cannot, run};
use super::second_read::SourceAgain;
use super::setup::{ScanJob, scan_lane};
use super::summary::LaneFacts;
use super::telemetry::{Health, LaneState, Telemetry};
use super::traces::{self, Inquiry};
use super::watch::{News, Revive, Revived};
use crate::error::{Error, ErrorKind, Side};
use crate::plan::LanePlan;
use crate::target::LocalTarget;

/// How late a stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long one look may take, where its time is over already: a mount that hangs may hold it.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A drive that was lost, or had been.
#[derive(Debug)]
struct Known {
    /// Since when it is waited for.
    since: Instant,
    /// How often it was gone on with.
    times: u32,
    /// Before that it is not looked for.
    not_before: Instant,
    /// Why it could not be gone on with, when it was back last.
    failed: Option<String>,
}

/// A drive that is back, and whose lane is being made ready.
#[derive(Debug)]
struct Readying {
    lane: usize,
    links: Option<Arc<LinkTable>>,
    thread: JoinHandle<Result<Ready, Error>>,
}

/// What a lane goes on with.
#[derive(Debug)]
struct Ready {
    back: Back,
    log: Arc<Log>,
    /// Its sources, where they are to be read again.
    again: Vec<SourceAgain>,
}

/// What lanes are gone on with.
#[derive(Debug)]
pub(super) struct Returns<'r> {
    pub(super) job: &'r CopyJob,
    /// That of the committer, and of all lanes beside it.
    pub(super) context: Arc<Context>,
    pub(super) telemetry: &'r Arc<Telemetry>,
    pub(super) target: &'r Arc<LocalTarget>,
    pub(super) log: &'r Arc<Log>,
    pub(super) facts: &'r [LaneFacts],
    pub(super) scan: &'r ScanJob,
    pub(super) settings: RunSettings,
    pub(super) state: State,
}

/// What is known of drives that were lost.
#[derive(Debug)]
pub(super) struct State {
    homes: Homes,
    lost: HashMap<usize, Known>,
    search: Option<Search>,
    readying: Option<Readying>,
    idle: Option<Idle>,
    /// How often any were gone on with.
    round: u32,
}

impl State {
    /// Returns that none is, of these sources.
    pub(super) fn new(homes: Homes) -> Self {
        Self {
            homes,
            lost: HashMap::new(),
            search: None,
            readying: None,
            idle: None,
            round: 0,
        }
    }
}

impl Revive for Returns<'_> {
    fn ended(&mut self, lane: usize, end: &mut LaneEnd) {
        self.state.homes.left(lane);
        let has_given = self.has_given(lane);
        let was_lost = self.state.lost.contains_key(&lane);
        let is_short = self.context.outcomes.gave_not_all(lane) || self.lists_nothing(lane);
        if end.lost.is_none() && was_lost && !has_given && is_short {
            // A second mount of what is dead, say: too few of its errors came to tell, or none, as on FAT.
            let path = self.context.drive_path(lane);
            end.lost = Some(Lost::now(unattempted(ErrorKind::SourceLost, path, 0)));
        }
        let Some(lost) = &end.lost else {
            if end.error.is_none() && !self.context.halted() {
                self.context.outcomes.went_through(lane);
            }
            return;
        };
        let known = self.state.lost.entry(lane).or_insert(Known {
            since: lost.at,
            times: 0,
            not_before: lost.at,
            failed: None,
        });
        known.failed = None;
        if has_given {
            known.since = lost.at;
        } else {
            self.let_be(lane);
        }
    }

    fn look(&mut self, lost: &[usize], are_others_read: bool) -> News {
        self.look_for(lost, are_others_read, false)
    }

    fn failed(&mut self, lane: usize, error: &Error) {
        self.state.homes.never_began(lane);
        let line = format!("a drive that is back cannot be gone on with yet: {error}");
        self.context.session.observer.note(&line);
        if let Some(counters) = self.context.outcomes.lane(lane) {
            // What was begun of it counts for nothing, nor does a directory.
            counters.vitals().set_gone();
            counters.set_state(LaneState::Failed);
        }
        if self.context.health_of(lane) == Health::Suspect {
            self.context.drive_is(lane, Health::Gone, &line);
        }
        if let Some(known) = self.state.lost.get_mut(&lane) {
            known.failed = Some(error.to_string());
        }
        self.let_be(lane);
    }
}

impl Returns<'_> {
    /// Waits for drives that were lost and whose threads they hold, and goes on with those that come
    /// back. Of all that are still lost it is reported what that left undone.
    pub(super) fn bring_back(&mut self, ends: &mut [LaneEnd], ledger: &mut dyn Ledger) {
        self.state.search = None;
        self.state.idle = None;
        while !self.context.halted() {
            let lost = (0..).zip(&*ends).filter(|(_, end)| end.lost.is_some());
            let lost: Vec<usize> = lost.map(|(lane, _)| lane).collect();
            match self.look_for(&lost, false, true) {
                News::Over => break,
                News::Wait => std::thread::sleep(TICK),
                News::Back(revived) => {
                    let lane = revived.setup.lane;
                    match (self.go_on(revived, ledger), ends.get_mut(lane)) {
                        (Ok(Some(end)), Some(place)) => *place = end,
                        (Err(error), _) => self.failed(lane, &error),
                        (Ok(_), _) => {}
                    }
                }
            }
        }
        // Who looks ends with that look, and holds nothing of what it found.
        self.state.search = None;
        if let Some(readying) = self.state.readying.take() {
            // Nobody but us may have the target when this run is over.
            drop(readying.thread.join());
        }
        for (lane, end) in (0..).zip(&*ends) {
            let Some(lost) = &end.lost else { continue };
            let known = self.state.lost.get(&lane);
            let failed = known.and_then(|known| known.failed.as_ref());
            let failed =
                failed.map(|why| format!("it was back, and could not be gone on with: {why}"));
            let grace = self.job.engine.grace;
            match failed.or_else(|| grace.and_then(|_| self.state.homes.why_unknown(lane))) {
                Some(why) => {
                    let what = format!("{}; {why}", lost.error.reason());
                    let (kind, path) = (lost.error.kind(), lost.error.path());
                    let error = Error::new(kind, lost.error.side(), path, &what);
                    self.context.outcomes.problem(lane, &error);
                }
                None => self.context.outcomes.problem(lane, &lost.error),
            }
        }
    }

    /// Says whether one of these drives is back. `is_apart`: whether its lane would run when all others
    /// are through, whatever its drive still holds of it.
    fn look_for(&mut self, lost: &[usize], are_others_read: bool, is_apart: bool) -> News {
        if let Some(readying) = self.state.readying.take() {
            if readying.thread.is_finished() {
                return self.begin_again(readying).map_or(News::Wait, News::Back);
            }
            self.state.readying = Some(readying);
            return News::Wait;
        }
        let lost = lost.iter().copied();
        let lost: Vec<usize> = lost.filter(|&lane| self.may_come(lane)).collect();
        if lost.is_empty() {
            self.state.search = None;
            return News::Over;
        }
        if let Some(backs) = self.search(&lost, is_apart) {
            // Another is found again when this one has begun.
            if let Some(back) = backs.into_iter().next() {
                self.state.search = None;
                self.state.idle = None;
                self.make_ready(back, is_apart);
                return News::Wait;
            }
            if let Some(idle) = &mut self.state.idle {
                idle.has_looked = true;
            }
        }
        if are_others_read {
            self.state.idle = None;
            return News::Wait;
        }
        let idle = self.state.idle.get_or_insert_with(Idle::default);
        let (has_looked, begun) = (idle.has_looked, idle.begun);
        let is_news = has_looked && !std::mem::replace(&mut idle.has_told, has_looked);
        let rest = self.rest(&lost);
        if is_news && rest > TICK {
            self.say_waiting(&lost, rest);
        }
        let is_over = rest.is_zero() && (has_looked || begun.elapsed() >= LOOK_MAX);
        if is_over { News::Over } else { News::Wait }
    }

    /// Returns what `--grace` is.
    fn grace(&self) -> Duration {
        self.job.engine.grace.unwrap_or_default()
    }

    /// Returns how long the last of these drives is still waited for.
    fn rest(&self, lost: &[usize]) -> Duration {
        let known = lost.iter().filter_map(|lane| self.state.lost.get(lane));
        let last = known.map(|known| known.since + self.grace()).max();
        last.map_or(Duration::ZERO, |last| {
            last.saturating_duration_since(Instant::now())
        })
    }

    /// Returns what was found of these drives at the last look; nothing as long as anything of all of
    /// them is on its way, unless they are gone on with apart.
    fn search(&mut self, lost: &[usize], is_apart: bool) -> Option<Vec<Back>> {
        let state = &mut self.state;
        let now = Instant::now();
        let is_due = |lane: &usize| state.lost.get(lane).is_some_and(|it| it.not_before <= now);
        let lanes = lost.iter().copied().filter(is_due);
        let lanes = lanes.filter(|&lane| is_apart || state.homes.are_left(lane));
        let lanes: Vec<usize> = lanes.collect();
        if lanes.is_empty() {
            state.search = None;
            return None;
        }
        if !state.search.as_ref().is_some_and(|it| it.is_for(&lanes)) {
            state.search = Some(state.homes.search(&lanes, self.facts));
        }
        state.homes.found(state.search.as_mut()?)
    }

    /// Returns whether a lost drive is looked for.
    fn may_come(&self, lane: usize) -> bool {
        let known = self.state.lost.get(&lane);
        self.job.engine.grace.is_some()
            && known.is_some_and(|known| known.times < TIMES_MAX)
            && self.state.homes.are_known(lane)
    }

    /// Returns whether the drive of a lane gave any bytes since its lane began last.
    fn has_given(&self, lane: usize) -> bool {
        let counters = self.context.outcomes.lane(lane);
        counters.is_some_and(|counters| counters.vitals().has_given())
    }

    /// Returns whether nothing but roots was listed of a lane since it began last.
    fn lists_nothing(&self, lane: usize) -> bool {
        let roots = self.facts.get(lane).map_or(1, |facts| facts.sources.len());
        let lane = self.context.outcomes.lane(lane);
        lane.is_some_and(|lane| lane.lists_nothing(roots))
    }

    /// Does not look for a drive for a while that was gone on with, and gave nothing.
    fn let_be(&mut self, lane: usize) {
        let grace = self.grace();
        if let Some(known) = self.state.lost.get_mut(&lane) {
            known.not_before = Instant::now() + pause(known.times, grace);
        }
    }

    fn say_waiting(&self, lost: &[usize], rest: Duration) {
        let paths = lost.iter().map(|&lane| {
            let path = self.context.drive_path(lane);
            path.display().to_string()
        });
        self.context.session.observer.note(&format!(
            "the other drives are through; waiting for {} to be mounted again, {} s at most \
             (--grace; Ctrl-C ends it)",
            paths.collect::<Vec<_>>().join(", "),
            rest.as_secs() + 1
        ));
    }

    /// Begins to read what the journal has of a drive that is back.
    fn make_ready(&mut self, back: Back, is_apart: bool) {
        let lane = back.lane;
        if let Some(known) = self.state.lost.get_mut(&lane) {
            // Counted before anything can fail: what fails is not tried for ever.
            known.times += 1;
        }
        // A thread that was left behind may yet say something of links: to nobody.
        let links = match &self.context.links {
            Some(_) if is_apart => Some(Arc::default()),
            links => links.clone(),
        };
        let (context, recalled) = (Arc::clone(&self.context), links.clone());
        let (target, log) = (Arc::clone(self.target), Arc::clone(self.log));
        let may_be_read_again = self.settings.may_be_read_again;
        let limit = self.job.engine.stall;
        let read = move || {
            let log = Arc::new(log.again(recorded(&target, &log)?));
            let plan = &back.plan;
            for (tree, earlier) in plan.trees.iter().zip(log.earlier().into_iter().cycle()) {
                let session = &context.session;
                let inquiry = Inquiry { limit, session };
                traces::check_tree(earlier, log.number_of(tree), tree, inquiry)?;
            }
            if let Some(links) = &recalled {
                links.forget(&numbers(plan));
                recall_links(&log, &plan.trees, &*context.target, links)?;
            }
            let mut again = Vec::new();
            if may_be_read_again {
                again = SourceAgain::of_lane(lane, plan, &|tree| log.number_of(tree))?;
            }
            Ok(Ready { back, log, again })
        };
        let thread = std::thread::Builder::new().name("ready".to_owned());
        match thread.spawn(read) {
            Ok(thread) => {
                self.state.readying = Some(Readying {
                    lane,
                    links,
                    thread,
                });
            }
            Err(source) => self.failed(lane, &cannot("start a thread", source)),
        }
    }

    /// Returns what a lane begins anew with, if what the journal has of it could be read.
    fn begin_again(&mut self, readying: Readying) -> Option<Revived> {
        let Readying {
            lane,
            links,
            thread,
        } = readying;
        let read = thread.join().unwrap_or_else(|_| {
            let what = "reading what the journal has of it hit a bug in inhaul";
            let path = self.context.drive_path(lane);
            Err(Error::new(ErrorKind::Panic, Side::Record, path, what))
        });
        let Ready { back, log, again } = match read {
            Ok(ready) => ready,
            Err(error) => {
                self.failed(lane, &error);
                return None;
            }
        };
        let Back { plan, finished, .. } = back;
        self.state.round += 1;
        self.context.around.forget(&numbers(&plan));
        self.context.keep_sources(again);
        self.state.homes.go_on_at(lane, &plan.trees);
        self.context.outcomes.begins_again(lane);
        self.context.drive_is_back(lane, label_of(&plan));
        Some(Revived {
            context: Arc::new(self.context.again(log, links)),
            setup: scan_lane(lane, plan, self.scan.clone()),
            finished,
            round: self.state.round,
        })
    }

    /// Runs the lane of a drive that is back, when all others have ended.
    fn go_on(
        &mut self,
        revived: Revived,
        ledger: &mut dyn Ledger,
    ) -> Result<Option<LaneEnd>, Error> {
        let Revived {
            context,
            setup,
            finished,
            round,
        } = revived;
        self.context = Arc::clone(&context);
        let telemetry = Arc::new(self.telemetry.of(&[setup.lane]));
        let settings = RunSettings {
            round,
            ..self.settings
        };
        let revive: Option<&mut dyn Revive> = Some(self);
        let ends = run(
            &context,
            &telemetry,
            vec![setup],
            settings,
            ledger,
            finished,
            revive,
        );
        Ok(ends?.pop())
    }
}

/// Returns the numbers of the SOURCEs of a lane.
fn numbers(plan: &LanePlan) -> Vec<usize> {
    plan.trees.iter().map(|tree| tree.index).collect()
}

/// Returns where a lane's first source is now.
fn label_of(plan: &LanePlan) -> &Path {
    let first = plan.trees.first();
    first.map_or(Path::new(""), |tree| tree.label.as_path())
}
