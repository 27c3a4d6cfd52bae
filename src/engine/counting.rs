//! Counting all lanes before anything is copied: all drives at the same time, each on a thread of its
//! own that can be left behind, for a drive may never answer.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::job::CopyJob;
use super::run::cannot;
use super::session::Session;
use super::survey::{Counted, Ties, survey};
use super::threads::named;
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{Budget, LanePlan, Need, TargetPlace};
use crate::scan::{Order, Tree, WalkOptions};

/// How late a stop is noticed, and a drive that does not answer.
const TICK: Duration = Duration::from_millis(100);
/// When we were away ourselves for so long, nobody knows who was silent.
const GAP: Duration = Duration::from_secs(1);
/// How long after a stop the drives have to answer what they were asked last.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the counting of a lane ended; `None` when a panic ended it.
type Answer = (usize, Option<Counted>);

/// A lane that is being counted.
struct Open {
    /// Its first source, as it was typed.
    label: PathBuf,
    ties: Arc<Ties>,
    counted: Option<Counted>,
}

/// Counts every lane. One whose drive does not answer for as long as `--stall-timeout` allows is told of
/// and not counted any further; so is one that holds up a stop. Of those nothing but what their file
/// systems say is known, and [`Counted::is_whole`] is not set.
///
/// # Errors
/// When threads or descriptors cannot be had, or counting hits a bug.
pub(super) fn count_all(
    job: &CopyJob,
    lanes: &[LanePlan],
    places: &[&TargetPlace],
    budget: &Budget,
    session: &Session,
) -> Result<Vec<Counted>, Error> {
    let mut targets = Vec::new();
    for fd in places.iter().filter_map(|place| place.existing()) {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)
            .map_err(|errno| Error::target(&job.target, "open", errno))?;
        targets.push(Arc::new(fd));
    }
    // Room for all there will be: nobody waits to answer.
    let (answered, answers) = bounded(lanes.len());
    let mut open = Vec::new();
    for (lane, plan) in lanes.iter().enumerate() {
        let ties = Arc::new(Ties::new(session.clone()));
        let count = counting(job, plan, budget, targets.clone(), Arc::clone(&ties));
        let answered: Sender<Answer> = answered.clone();
        let thread = named(format!("survey-{lane}")).spawn(move || {
            let counted = catch_unwind(AssertUnwindSafe(count));
            // Nobody waits any more if it comes too late.
            let _late = answered.send((lane, counted.ok()));
        });
        thread.map_err(|source| cannot("start a thread", source))?;
        let first = plan.trees.first();
        open.push(Open {
            label: first.map_or_else(PathBuf::new, |tree| tree.label.clone()),
            ties,
            counted: None,
        });
    }
    wait(&mut open, &answers, job.engine.stall, session)?;
    Ok(open
        .into_iter()
        .map(|lane| lane.counted.unwrap_or_default())
        .collect())
}

/// Returns what counts a lane. It holds nothing that anybody else waits for.
fn counting(
    job: &CopyJob,
    plan: &LanePlan,
    budget: &Budget,
    targets: Vec<Arc<std::os::fd::OwnedFd>>,
    ties: Arc<Ties>,
) -> impl FnOnce() -> Counted + Send + use<> {
    let (filter, files_from) = (Arc::clone(&job.filter), job.files_from.clone());
    let window_bytes = budget.window_bytes;
    // Where there are no more descriptors it does with those there are.
    let again = |tree: &Arc<Tree>| tree.unheard().map_or_else(|_| Arc::clone(tree), Arc::new);
    let trees: Vec<Arc<Tree>> = plan.trees.iter().map(again).collect();
    move || {
        ties.pulse.begin();
        ties.set_bound(in_use(&trees));
        let options = WalkOptions {
            filter: &filter,
            files_from: files_from.as_deref(),
            order: Order::Listing,
            window_bytes,
        };
        let counted = survey(&trees, &options, &targets, &ties);
        ties.pulse.end();
        counted
    }
}

/// Returns what is in use on the file systems of these trees, as far as they tell.
fn in_use(trees: &[Arc<Tree>]) -> Need {
    let mut need = Need::default();
    for tree in trees {
        let dir = crate::beneath::read_dir_fd(tree.root.as_fd(), b"");
        let Ok(stat) = dir.and_then(rustix::fs::fstatvfs) else {
            continue;
        };
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let bytes = used.saturating_mul(stat.f_frsize);
        need.bytes = need.bytes.saturating_add(bytes);
        let inodes = stat.f_files.saturating_sub(stat.f_ffree);
        need.inodes = need.inodes.saturating_add(inodes);
    }
    need
}

/// Waits until every lane is counted, or left.
fn wait(
    open: &mut [Open],
    answers: &Receiver<Answer>,
    limit: Option<Duration>,
    session: &Session,
) -> Result<(), Error> {
    let mut last = Instant::now();
    let mut stopped = None;
    while open.iter().any(|lane| lane.counted.is_none()) {
        if let Ok((number, counted)) = answers.recv_timeout(TICK) {
            let Some(counted) = counted else {
                let what = "counting hit a bug in inhaul";
                return Err(Error::new(ErrorKind::Panic, Side::Source, "sources", what));
            };
            if let Some(lane) = open.get_mut(number) {
                lane.counted.get_or_insert(counted);
            }
        }
        let now = Instant::now();
        let was_away = now.duration_since(last) > GAP;
        last = now;
        let is_over = session.stopped() && {
            let since = *stopped.get_or_insert(now);
            now.duration_since(since) >= PATIENCE
        };
        for lane in open.iter_mut().filter(|lane| lane.counted.is_none()) {
            if was_away {
                lane.ties.pulse.forgive();
            }
            let silence = lane.ties.pulse.silence();
            let is_silent = limit.is_some_and(|limit| silence >= limit);
            if is_silent && stopped.is_none() {
                let path = lane.label.display();
                session.observer.note(&format!(
                    "{path} has not answered for {} s while it was counted: the run begins without \
                     knowing how much there is",
                    silence.as_secs()
                ));
            }
            if is_silent || is_over {
                lane.counted = Some(leave(lane, silence));
            }
        }
    }
    Ok(())
}

/// Lets a lane be whose drive does not answer.
fn leave(lane: &Open, silence: Duration) -> Counted {
    lane.ties.leave();
    let what = format!(
        "no answer for {} s while it was counted; what is on it is not known",
        silence.as_secs()
    );
    let error = Error::new(ErrorKind::SourceStalled, Side::Source, &lane.label, &what);
    Counted {
        need: lane.ties.bound(),
        problems: vec![error],
        ..Counted::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::engine::job::KnownDrive;
    use crate::engine::report::{HealthChange, LaneReport, Problem};
    use crate::engine::session::Observer;
    use crate::engine::telemetry::Telemetry;

    /// Writes down what it is told.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Observer for Notes {
        fn known_drive(&self, _identity: &str) -> Option<KnownDrive> {
            None
        }
        fn started(&self, _telemetry: &Arc<Telemetry>) {}
        fn problem(&self, _problem: &Problem) {}
        fn skipped(&self, _skipped: &Problem) {}
        fn note(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn hashed(&self, _path: &[u8], _size: u64, _digest: &blake3::Hash) {}
        fn health(&self, _change: &HealthChange) {}
        fn drive(&self, _lane: &LaneReport) {}
        fn ended(&self) {}
    }

    const BOUND: Need = Need {
        bytes: 9000,
        inodes: 4,
    };

    /// Returns what comes of two drives of which the first hangs, and what is told of it.
    fn with_one_that_hangs(limit: Option<Duration>, is_stopped: bool) -> (Vec<Open>, Vec<String>) {
        let notes = Arc::new(Notes::default());
        let session = Session {
            stop: Arc::default(),
            observer: Arc::clone(&notes) as Arc<dyn Observer>,
        };
        session.stop.store(is_stopped, Relaxed);
        let lane = |path: &str| Open {
            label: path.into(),
            ties: Arc::new(Ties::new(session.clone())),
            counted: None,
        };
        let mut open = vec![lane("/hung"), lane("/well")];
        open[0].ties.set_bound(BOUND);
        open[0].ties.pulse.begin();
        let (answered, answers) = bounded(2);
        let counted = Counted {
            files: 7,
            is_whole: true,
            ..Counted::default()
        };
        answered.send((1, Some(counted))).unwrap();
        wait(&mut open, &answers, limit, &session).unwrap();
        let told = std::mem::take(&mut *notes.0.lock().unwrap());
        (open, told)
    }

    fn only_the_other_is_counted(open: &[Open]) {
        let counted: Vec<&Counted> = open.iter().filter_map(|it| it.counted.as_ref()).collect();
        assert_eq!((counted[1].files, counted[1].is_whole), (7, true));
        assert_eq!((counted[0].files, counted[0].is_whole), (0, false));
        assert_eq!(counted[0].need, BOUND);
        assert_eq!(counted[0].problems[0].kind(), ErrorKind::SourceStalled);
    }

    #[test]
    fn a_drive_that_hangs_is_not_counted_and_told_of_once() {
        let (open, told) = with_one_that_hangs(Some(Duration::from_millis(200)), false);
        only_the_other_is_counted(&open);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("/hung has not answered"), "{told:?}");
    }

    #[test]
    fn a_stop_is_heard_while_a_drive_hangs() {
        let (open, told) = with_one_that_hangs(None, true);
        only_the_other_is_counted(&open);
        assert!(told.is_empty(), "{told:?}");
    }
}
