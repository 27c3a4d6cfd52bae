//! What all threads of a run share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::io::Errno;

use super::elsewhere::Around;
use super::examine::Examiner;
use super::findings::Evidence;
use super::folders::{Claims, Folders};
use super::job::Existing;
use super::limit::Limiter;
use super::links::LinkTable;
use super::log::Log;
use super::outcomes::Outcomes;
use super::report::{HealthChange, Unreadable};
use super::second_read::SourceAgain;
use super::session::Session;
use super::telemetry::{Health, LaneCounters};
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::Loaded;
use crate::manifest::Maps;
use crate::scan::Entry;
use crate::target::{Policy, Target};

/// Shared by all threads of a run; nothing in it is changed but counters.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) session: Session,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) outcomes: Arc<Outcomes>,
    /// `None` when hard links mean nothing: each name is read.
    pub(crate) links: Option<Arc<LinkTable>>,
    pub(crate) hash: Arc<HashPool>,
    pub(crate) limit: Arc<Limiter>,
    pub(crate) existing: Existing,
    pub(crate) policy: Policy,
    /// Whether FIFOs, sockets and device nodes are made.
    pub(crate) special: bool,
    /// Whether anything but bytes matters: false for `hash` and `verify`.
    pub(crate) copies: bool,
    /// Device and inode of TARGET: never entered as part of a source.
    pub(crate) target_identity: Option<(u64, u64)>,
    /// Set when something was left undone because the run was asked to stop.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Why nothing more can be acknowledged, once that is so.
    pub(crate) lost: Arc<OnceLock<ErrorKind>>,
    /// What the other targets of the copy have.
    pub(crate) around: Arc<Around>,
    /// What first had no room, once the target is full: nothing new is begun then.
    pub(crate) full: Arc<OnceLock<Error>>,
    /// The journal; `None` when nothing is written.
    pub(crate) log: Option<Arc<Log>>,
    /// Folders that are known to be ours; looked for once a name is listed otherwise than it was given.
    /// `None` in it: the run was to stop before.
    pub(crate) folders: OnceLock<Option<Folders>>,
    /// Which names of this run are where, as far as the target lists them otherwise.
    pub(crate) claims: Arc<Claims>,
    /// Looks closer at what is not as recorded, and may mend it.
    pub(crate) examiner: Option<Examiner>,
    /// Blocks of a large file after which it is synced, and what is durable of it recorded.
    pub(crate) sync_blocks: u64,
    /// What each file has to be by the journal, when sources are read a second time: files of
    /// which it does not say are left out.
    pub(crate) expected: Option<Loaded>,
    /// Where it is noted what was not read from the medium; `None` when that does not matter.
    pub(crate) evidence: Option<Evidence>,
    /// Whether a failed sync is met with a second pass over everything not acknowledged, rather
    /// than reported.
    pub(crate) may_try_again: bool,
    /// Whether what can be read of a file with bad spots is kept as NAME.partial.
    pub(crate) salvage: bool,
    /// Where it is written down what cannot be read; `None` when nothing is written.
    pub(crate) maps: Option<Arc<Maps>>,
    /// Sources that are held open to be read again. Those of a drive that is lost are let go at once:
    /// else it could not be unmounted, nor mounted again.
    pub(crate) again: Arc<Mutex<Vec<SourceAgain>>>,
}

impl Context {
    /// Returns the context of lanes whose drives came back: all is shared but `log`, which has what
    /// was copied of them before, and where the committer is another, `links`.
    pub(crate) fn again(&self, log: Arc<Log>, links: Option<Arc<LinkTable>>) -> Self {
        Self {
            session: self.session.clone(),
            target: Arc::clone(&self.target),
            outcomes: Arc::clone(&self.outcomes),
            links,
            hash: Arc::clone(&self.hash),
            limit: Arc::clone(&self.limit),
            existing: self.existing,
            policy: self.policy,
            special: self.special,
            copies: self.copies,
            target_identity: self.target_identity,
            interrupted: Arc::clone(&self.interrupted),
            lost: Arc::clone(&self.lost),
            around: Arc::clone(&self.around),
            full: Arc::clone(&self.full),
            log: Some(log),
            folders: OnceLock::new(),
            claims: Arc::clone(&self.claims),
            examiner: None,
            sync_blocks: self.sync_blocks,
            expected: None,
            evidence: None,
            may_try_again: self.may_try_again,
            salvage: self.salvage,
            maps: self.maps.clone(),
            again: Arc::clone(&self.again),
        }
    }

    /// Returns whether no new work should be taken up.
    pub(crate) fn halted(&self) -> bool {
        self.is_ending() || self.is_full()
    }

    /// Returns whether what was begun should end as soon as it can, too.
    pub(crate) fn is_ending(&self) -> bool {
        self.session.stopped() || self.lost.get().is_some()
    }

    /// Returns whether an error says no more than that something was left because the run is to stop.
    pub(crate) fn is_of_stop(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Stopped && self.halted()
    }

    /// Returns whether the target is full: what has its space set aside is still finished.
    pub(crate) fn is_full(&self) -> bool {
        self.full.get().is_some()
    }

    /// Notes that something had no room. What else has none is not told of: the run says at its end
    /// what is left.
    pub(crate) fn target_full(&self, error: &Error) {
        self.interrupted.store(true, Relaxed);
        if self.full.set(error.again()).is_ok() {
            let line = format!(
                "the target is full ({error}): nothing new is begun, and what has its space is \
                 finished"
            );
            self.session.observer.note(&line);
        }
    }

    /// Notes that the target is not what it was: nothing is acknowledged any more.
    fn target_lost(&self, error: &Error) {
        if self.lost.set(ErrorKind::TargetLost).is_ok() {
            self.outcomes.problem_of_run(error);
        }
        self.interrupted.store(true, Relaxed);
    }

    /// Returns whether an error is about the whole target: then it is told of once, not for each
    /// file.
    pub(crate) fn is_of_target(&self, error: &Error) -> bool {
        if self.log.is_none() {
            return false;
        }
        match error.kind() {
            ErrorKind::TargetFull => self.target_full(error),
            // Thin storage says so only when it is to be durable.
            ErrorKind::TargetSync if error.is_for_room() => {
                self.target_full(error);
                let _first = self.lost.set(ErrorKind::TargetSync);
            }
            ErrorKind::TargetSync if self.is_full() => {
                return self.lost.get() == Some(&ErrorKind::TargetSync);
            }
            // A record can be the first that finds no room: what to do then is the same.
            ErrorKind::RecordWrite if error.is_for_room() && self.records_failed() => {
                self.target_full(error);
                let _first = self.lost.set(ErrorKind::RecordWrite);
            }
            ErrorKind::TargetLost => self.target_lost(error),
            ErrorKind::TargetDenied | ErrorKind::TargetWrite | ErrorKind::Escape
                if error.side() == Side::Target
                    && self.lost.get().is_none()
                    && may_be_of_all(error) =>
            {
                match self.target.look_again() {
                    Ok(()) => return false,
                    Err(lost) => self.target_lost(&lost),
                }
            }
            // The journal is on the target, too.
            ErrorKind::RecordWrite | ErrorKind::TargetSync
                if self.lost.get().is_none() && !error.is_for_room() =>
            {
                match self.target.look_again() {
                    Ok(()) => return false,
                    Err(lost) => self.target_lost(&lost),
                }
            }
            _ => {
                let is_lost = self.lost.get() == Some(&ErrorKind::TargetLost);
                return is_lost && error.side() != Side::Source;
            }
        }
        true
    }

    /// Returns what earlier runs of the job recorded.
    pub(crate) fn earlier(&self) -> Option<&Loaded> {
        self.log.as_ref()?.earlier()
    }

    /// Notes that the journal cannot be written, or read: nothing is acknowledged any more.
    pub(crate) fn journal_lost(&self, error: &Error) {
        if !self.is_of_target(error) && self.lost.set(ErrorKind::RecordWrite).is_ok() {
            self.outcomes.problem_of_run(error);
        }
    }

    /// Returns whether the journal cannot be written any more.
    fn records_failed(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.has_failed())
    }

    /// Notes how the drive of a lane fares, and tells of it if that is news.
    pub(crate) fn drive_is(&self, lane: usize, health: Health, reason: &str) {
        let Some(view) = self.outcomes.telemetry().lanes.get(lane) else {
            return;
        };
        if health == Health::Gone {
            self.let_sources_go(lane);
        }
        if view.counters.set_health(health) {
            let sources = view.sources.iter();
            self.session.observer.health(&HealthChange {
                drive: view.name.clone(),
                sources: sources
                    .map(|it| it.to_string_lossy().into_owned())
                    .collect(),
                health: health.word().to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    /// Notes that the drive of a lane is back, and that its first source is at `path` now.
    pub(crate) fn drive_is_back(&self, lane: usize, path: &Path) {
        if let Some(counters) = self.outcomes.lane(lane) {
            counters.renew();
            // It is suspect by now; this is to be told all the same.
            counters.set_health(Health::Quarantined);
        }
        let what = format!(
            "it is back at {}: what is missing of it is copied now",
            path.display()
        );
        self.drive_is(lane, Health::Suspect, &what);
    }

    /// Holds sources that may be read again.
    pub(crate) fn keep_sources(&self, sources: Vec<SourceAgain>) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.extend(sources);
    }

    /// Lets go of the sources of a lane whose drive is lost.
    pub(crate) fn let_sources_go(&self, lane: usize) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.retain(|source| source.lane != lane);
    }

    /// Returns the sources that are held, and holds them no longer.
    pub(crate) fn take_sources(&self) -> Vec<SourceAgain> {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut again)
    }

    /// Returns how the drive of a lane fares.
    pub(crate) fn health_of(&self, lane: usize) -> Health {
        let counters = self.outcomes.lane(lane);
        counters.map_or(Health::Ok, LaneCounters::health)
    }

    /// Returns the path that stands for the whole drive of a lane in messages.
    pub(crate) fn drive_path(&self, lane: usize) -> PathBuf {
        let view = self.outcomes.telemetry().lanes.get(lane);
        let source = view.and_then(|view| view.sources.first().cloned());
        source.unwrap_or_else(|| format!("lane {lane}").into())
    }

    /// Returns whether a sync has failed, and what it covered is to be copied again.
    pub(crate) fn tries_again(&self) -> bool {
        self.may_try_again && self.lost.get() == Some(&ErrorKind::TargetSync) && !self.is_full()
    }

    fn count_mended(&self, lane: usize, entry: &Entry) {
        if let Some(counters) = self.outcomes.lane(lane) {
            counters.files_done.fetch_add(1, Relaxed);
            counters.bytes_done.fetch_add(entry.stamp.size, Relaxed);
        }
    }

    /// Reports that an entry was not copied. A failed sync, and a journal that cannot be written,
    /// end the run: nothing more could be acknowledged.
    pub(crate) fn entry_failed(&self, lane: usize, entry: &Entry, error: &Error) {
        self.failed(lane, entry, error, None);
    }

    /// Reports a file that was not copied because not all of it can be read.
    pub(crate) fn entry_unreadable(
        &self,
        lane: usize,
        entry: &Entry,
        error: &Error,
        unreadable: Unreadable,
    ) {
        self.failed(lane, entry, error, Some(unreadable));
    }

    fn failed(&self, lane: usize, entry: &Entry, error: &Error, unreadable: Option<Unreadable>) {
        if let Some(evidence) = &self.evidence {
            evidence.add_wrong(entry.target_path());
        }
        let closer = self.examiner.as_ref().filter(|_| entry.recorded.is_some());
        if let Some(examiner) = closer
            && matches!(
                error.kind(),
                ErrorKind::SourceRead | ErrorKind::DigestMismatch
            )
        {
            match examiner.examine(&entry.target_path(), error) {
                Ok(()) => self.count_mended(lane, entry),
                Err(error) => self.outcomes.entry_failed(lane, entry, &error, None),
            }
            return;
        }
        if self.is_of_target(error) {
            return;
        }
        // The first reason counts.
        let _first = match error.kind() {
            ErrorKind::RecordWrite if self.records_failed() => self.lost.set(error.kind()),
            ErrorKind::TargetSync => self.lost.set(error.kind()),
            _ => Ok(()),
        };
        if error.kind() == ErrorKind::TargetSync && self.tries_again() {
            return;
        }
        if let Some(log) = self.log.as_ref().filter(|_| self.lost.get().is_none()) {
            log.failed(entry, error);
        }
        self.outcomes.entry_failed(lane, entry, error, unreadable);
    }
}

/// Returns whether an error on one file may be about all of the target.
fn may_be_of_all(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(
            Errno::IO
                | Errno::ROFS
                | Errno::XDEV
                | Errno::NODEV
                | Errno::NXIO
                | Errno::SHUTDOWN
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::TIMEDOUT
                | Errno::REMOTEIO
        )
    )
}
