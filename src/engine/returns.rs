//! Drives that were pulled and are put back: what is missing of them is copied in the same run.
//!
//! 1. From the moment a drive is lost nothing of it is held open, so that it can be unmounted, and
//!    mounted again.
//! 2. From then on the mount table is looked at as long as other drives are read; when all have
//!    ended, at once, and then until `--grace` has passed since the drive was lost. A source is back
//!    when the same file system, by its UUID or its drive's serial number, and the same folder in it,
//!    is in another mount than those it was read from: what is still mounted there is what was lost.
//!    Another disk at the same path is never taken.
//! 3. Its lane runs once more, as that of a run that goes on with a job: the journal says what is
//!    done, and large files are gone on with inside. That must be all that was copied of it, so
//!    nothing of the lane before may be on its way any more.
//!
//! What is mounted a second time and gives nothing was not the drive: that is waited for as before,
//! no longer, and no shorter.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::context::Context;
use super::homes::{Back, Homes, Looked};
use super::job::CopyJob;
use super::lane::unattempted;
use super::ledger::Ledger;
use super::links::LinkTable;
use super::log::Log;
use super::opening::recall_links;
use super::proof::recorded;
use super::run::{LaneEnd, LaneSetup, Lost, RunSettings, run};
use super::second_read::SourceAgain;
use super::setup::{ScanJob, scan_lane};
use super::summary::LaneFacts;
use super::telemetry::Telemetry;
use super::watch::{News, Revive, Revived};
use crate::error::{Error, ErrorKind};
use crate::plan::LanePlan;
use crate::scan::Tree;
use crate::target::LocalTarget;

/// Most times that a drive is gone on with: one that comes and goes for ever gives too little.
const TIMES_MAX: u32 = 16;
/// How late a stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long one look may take, where its time is over already: a mount that hangs may hold it.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A drive that was lost, or had been.
#[derive(Debug)]
struct Known {
    /// Since when it is waited for.
    since: Instant,
    /// How many bytes it had given when it was gone on with last.
    given: Option<u64>,
    /// How often it was gone on with.
    times: u32,
}

/// A search for drives that are back.
#[derive(Debug)]
struct Search {
    lanes: Vec<usize>,
    looks: Receiver<Looked>,
}

/// A run that has nothing to do but wait.
#[derive(Debug)]
struct Idle {
    begun: Instant,
    has_looked: bool,
    has_told: bool,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            has_looked: false,
            has_told: false,
        }
    }
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
            idle: None,
            round: 0,
        }
    }
}

impl Revive for Returns<'_> {
    fn ended(&mut self, lane: usize, end: &mut LaneEnd) {
        if end.lost.is_none() && self.gave_nothing(lane) {
            // A second mount of what is dead, say: too few of its errors came to tell by them alone.
            let path = self.context.drive_path(lane);
            end.lost = Some(Lost::now(unattempted(ErrorKind::SourceLost, path, 0)));
        }
        if let Some(lost) = &end.lost {
            let moved = self.moved(lane);
            let known = self.state.lost.entry(lane).or_insert(Known {
                since: lost.at,
                given: None,
                times: 0,
            });
            if known.given != Some(moved) {
                known.since = lost.at;
            }
        } else if end.error.is_none() && !self.context.halted() {
            self.context.outcomes.went_through(lane);
        }
    }

    fn look(&mut self, lost: &[usize], are_others_read: bool) -> Result<News, Error> {
        let lost = lost.iter().copied();
        let lost: Vec<usize> = lost.filter(|&lane| self.may_come(lane)).collect();
        if lost.is_empty() {
            self.state.search = None;
            return Ok(News::Over);
        }
        if let Some(looked) = self.search(&lost) {
            let Looked { backs, finished } = looked;
            // Another is found again at the next look.
            if let Some(back) = backs.into_iter().next() {
                self.state.search = None;
                self.state.idle = None;
                let (lane, links) = (back.lane, self.context.links.clone());
                let (context, mut setups) = match self.begin_again(vec![back], links) {
                    Ok(begun) => begun,
                    Err(error) => {
                        // It is as lost as before, and that is reported in the end; the others go on.
                        self.context.let_sources_go(lane);
                        let line =
                            format!("a drive that is back cannot be gone on with yet: {error}");
                        self.context.session.observer.note(&line);
                        return Ok(News::Wait);
                    }
                };
                let round = self.state.round;
                return Ok(setups.pop().map_or(News::Wait, |setup| {
                    News::Back(Revived {
                        context,
                        setup,
                        finished,
                        round,
                    })
                }));
            }
            if let Some(idle) = &mut self.state.idle {
                idle.has_looked = true;
            }
        }
        if are_others_read {
            self.state.idle = None;
            return Ok(News::Wait);
        }
        let idle = self.state.idle.get_or_insert_with(Idle::default);
        let (has_looked, begun) = (idle.has_looked, idle.begun);
        let is_news = has_looked && !std::mem::replace(&mut idle.has_told, has_looked);
        let rest = self.rest(&lost);
        if is_news && rest > TICK {
            self.say_waiting(&lost, rest);
        }
        let is_over = rest.is_zero() && (has_looked || begun.elapsed() >= LOOK_MAX);
        Ok(if is_over { News::Over } else { News::Wait })
    }
}

impl Returns<'_> {
    /// Waits for drives that were lost and whose threads they hold, and goes on with those that come
    /// back. Of all that are still lost it is reported what that left undone.
    pub(super) fn bring_back(&mut self, ends: &mut [LaneEnd], ledger: &mut dyn Ledger) {
        self.state.search = None;
        while !self.context.halted() {
            let lost = (0..).zip(&*ends).filter(|(_, end)| end.lost.is_some());
            let lost = lost.map(|(lane, _)| lane);
            let lost: Vec<usize> = lost.filter(|&lane| self.may_come(lane)).collect();
            if lost.is_empty() {
                break;
            }
            let Some(looked) = self.wait(&lost) else {
                break;
            };
            if let Err(error) = self.go_on(looked, ends, ledger) {
                self.context.outcomes.problem_of_run(&error);
                break;
            }
        }
        for (lane, end) in (0..).zip(&*ends) {
            if let Some(lost) = &end.lost {
                self.context.outcomes.problem(lane, &lost.error);
            }
        }
    }

    /// Returns how long the last of these drives is still waited for.
    fn rest(&self, lost: &[usize]) -> Duration {
        let grace = self.job.engine.grace.unwrap_or_default();
        let known = lost.iter().filter_map(|lane| self.state.lost.get(lane));
        let last = known.map(|known| known.since + grace).max();
        last.map_or(Duration::ZERO, |last| {
            last.saturating_duration_since(Instant::now())
        })
    }

    /// Returns what was found of these drives since it was asked for; nothing as long as anything of
    /// all of them is on its way.
    fn search(&mut self, lost: &[usize]) -> Option<Looked> {
        let lanes = lost.iter().copied();
        let lanes = lanes.filter(|&lane| self.state.homes.are_left(lane));
        let lanes: Vec<usize> = lanes.collect();
        let state = &mut self.state;
        if lanes.is_empty() {
            state.search = None;
            return None;
        }
        let is_it = |search: &Search| search.lanes == lanes;
        if !state.search.as_ref().is_some_and(is_it) {
            let looks = state.homes.look(&lanes, self.facts);
            state.search = looks.map(|looks| Search { lanes, looks });
        }
        // (Should its thread have ended, it is begun anew when drives are lost or found.)
        state.search.as_ref()?.looks.try_recv().ok()
    }

    /// Returns whether a lost drive is looked for.
    fn may_come(&self, lane: usize) -> bool {
        let known = self.state.lost.get(&lane);
        self.job.engine.grace.is_some()
            && known.is_some_and(|known| known.times < TIMES_MAX)
            && self.state.homes.are_known(lane)
    }

    /// Returns whether a drive that was gone on with has given nothing since, and not all there was.
    fn gave_nothing(&self, lane: usize) -> bool {
        let known = self.state.lost.get(&lane);
        known.is_some_and(|known| known.given == Some(self.moved(lane)))
            && self.context.outcomes.gave_not_all(lane)
    }

    /// Returns how many bytes a drive has given.
    fn moved(&self, lane: usize) -> u64 {
        let counters = self.context.outcomes.lane(lane);
        counters.map_or(0, |counters| counters.bytes_read.load(Relaxed))
    }

    /// Waits until a drive is back, and returns all that are by then; none when the time of each is
    /// over, or the run is to stop.
    fn wait(&self, lost: &[usize]) -> Option<Looked> {
        let looks = self.state.homes.look(lost, self.facts)?;
        let begun = Instant::now();
        let mut has_looked = false;
        while !self.context.halted() {
            let rest = self.rest(lost);
            match looks.recv_timeout(TICK) {
                Ok(looked) if !looked.backs.is_empty() => return Some(looked),
                Ok(_) => {
                    if !has_looked && rest > TICK {
                        self.say_waiting(lost, rest);
                    }
                    has_looked = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if rest.is_zero() && (has_looked || begun.elapsed() >= LOOK_MAX) {
                break;
            }
        }
        None
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

    /// Runs the lanes of drives that are back, when all others have ended.
    fn go_on(
        &mut self,
        looked: Looked,
        ends: &mut [LaneEnd],
        ledger: &mut dyn Ledger,
    ) -> Result<(), Error> {
        let Looked { backs, finished } = looked;
        let lanes: Vec<usize> = backs.iter().map(|back| back.lane).collect();
        // A thread that was left behind may yet say something of links: to nobody.
        let links = self.context.links.is_some().then(Arc::default);
        let (context, setups) = self.begin_again(backs, links)?;
        self.context = Arc::clone(&context);
        let telemetry = Arc::new(self.telemetry.of(&lanes));
        let settings = RunSettings {
            round: self.state.round,
            ..self.settings
        };
        let revive: Option<&mut dyn Revive> = Some(self);
        let ran = run(
            &context, &telemetry, setups, settings, ledger, finished, revive,
        );
        for (lane, end) in lanes.into_iter().zip(ran?) {
            if let Some(place) = ends.get_mut(lane) {
                *place = end;
            }
        }
        Ok(())
    }

    /// Makes ready what lanes whose drives are back begin anew with.
    fn begin_again(
        &mut self,
        backs: Vec<Back>,
        links: Option<Arc<LinkTable>>,
    ) -> Result<(Arc<Context>, Vec<LaneSetup>), Error> {
        self.state.round += 1;
        for back in &backs {
            // Counted before anything can fail: what fails is not tried for ever.
            let given = self.moved(back.lane);
            if let Some(known) = self.state.lost.get_mut(&back.lane) {
                known.times += 1;
                known.given = Some(given);
            }
        }
        let log = Arc::new(self.log.again(recorded(self.target, self.log)?));
        let trees: Vec<Arc<Tree>> = backs
            .iter()
            .flat_map(|back| &back.plan.trees)
            .cloned()
            .collect();
        let sources: Vec<usize> = trees.iter().map(|tree| tree.index).collect();
        self.context.around.forget(&sources);
        if let Some(links) = &links {
            links.forget(&sources);
            recall_links(&log, &trees, &*self.context.target, links)?;
        }
        // As long as one lives, its directories are not finished.
        drop(trees);
        for Back { lane, plan } in &backs {
            if self.settings.may_be_read_again {
                let again = SourceAgain::of_lane(*lane, plan, &|tree| log.number_of(tree))?;
                self.context.keep_sources(again);
            }
        }
        let mut setups = Vec::new();
        for Back { lane, plan } in backs {
            self.state.homes.go_on_at(lane, &plan.trees);
            self.context.outcomes.begins_again(lane);
            self.context.drive_is_back(lane, label_of(&plan));
            setups.push(scan_lane(lane, plan, self.scan.clone()));
        }
        Ok((Arc::new(self.context.again(log, links)), setups))
    }
}

/// Returns where a lane's first source is now.
fn label_of(plan: &LanePlan) -> &Path {
    let first = plan.trees.first();
    first.map_or(Path::new(""), |tree| tree.label.as_path())
}
