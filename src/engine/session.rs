//! What a run shares with whoever started it: a way to stop it and somebody to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::job::KnownDrive;
use super::report::{HealthChange, LaneReport, Problem};
use super::telemetry::Telemetry;

/// Is told what happens, while it happens, and asked what was found before. Called from many threads;
/// must not block for long.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Returns what the drive with this serial number, or else this WWN, gave when it was measured.
    fn known_drive(&self, identity: &str) -> Option<KnownDrive>;
    /// The lanes are known and about to start.
    fn started(&self, telemetry: &Arc<Telemetry>);
    /// Something was not done.
    fn problem(&self, problem: &Problem);
    /// Something was left out on purpose.
    fn skipped(&self, skipped: &Problem);
    /// Something worth one line: a fallback taken, a guess made.
    fn note(&self, line: &str);
    /// A file was hashed (`hash` only): its path as shown, its length in bytes, and its digest.
    fn hashed(&self, path: &[u8], size: u64, digest: &blake3::Hash);
    /// A drive fares otherwise than before.
    fn health(&self, change: &HealthChange);
    /// A drive's part of the run is over, durable and counted.
    fn drive(&self, lane: &LaneReport);
    /// The run is over; the display can end.
    fn ended(&self);
}

/// One run's ties to its starter.
#[derive(Debug, Clone)]
pub struct Session {
    /// Set to stop in order: no new files, finish what is in flight, make it durable.
    pub stop: Arc<AtomicBool>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
}

impl Session {
    /// Returns whether the run was asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn known_drive(&self, _identity: &str) -> Option<KnownDrive> {
        None
    }
    fn started(&self, _telemetry: &Arc<Telemetry>) {}
    fn problem(&self, _problem: &Problem) {}
    fn skipped(&self, _skipped: &Problem) {}
    fn note(&self, _line: &str) {}
    fn hashed(&self, _path: &[u8], _size: u64, _digest: &blake3::Hash) {}
    fn health(&self, _change: &HealthChange) {}
    fn drive(&self, _lane: &LaneReport) {}
    fn ended(&self) {}
}
