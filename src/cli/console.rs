//! The engine's observer on the user's terminal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::display::{Display, Watch};
use super::escape::escape;
use super::privileges;
use super::registry::Registry;
use crate::cli::bench::history;
use crate::engine::Observer;
use crate::engine::job::KnownDrive;
use crate::engine::report::{HealthChange, LaneReport, Problem};
use crate::engine::telemetry::Telemetry;
use crate::manifest::{B3sum, Codec, Record};

/// Shows what the engine tells.
#[derive(Debug)]
pub struct Console {
    display: Display,
    command: &'static str,
    target: Option<PathBuf>,
    stop: Arc<AtomicBool>,
    /// Where a copy is noted as begun, if it is to be.
    registry: Option<Registry>,
    watch: Mutex<Option<Watch>>,
}

impl Console {
    /// Returns an observer for one run of a command.
    ///
    /// `stop` is set when nobody reads the digests any more.
    pub fn new(
        display: Display,
        command: &'static str,
        target: Option<PathBuf>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            display,
            command,
            target,
            stop,
            registry: None,
            watch: Mutex::default(),
        }
    }

    /// Returns it noting in a registry that its copy has begun.
    #[must_use]
    pub fn noting(self, registry: Registry) -> Self {
        Self {
            registry: Some(registry),
            ..self
        }
    }

    fn set_watch(&self, watch: Option<Watch>) -> Option<Watch> {
        std::mem::replace(
            &mut self.watch.lock().unwrap_or_else(PoisonError::into_inner),
            watch,
        )
    }
}

impl Observer for Console {
    fn known_drive(&self, identity: &str) -> Option<KnownDrive> {
        let known = history::known(&Registry::of_user(), identity);
        known.unwrap_or_else(|why| {
            let drive = escape(identity.as_bytes());
            let note = format!("what a bench found of the drive {drive} is not used: {why}");
            self.display.remark(&note);
            None
        })
    }

    fn started(&self, telemetry: &Arc<Telemetry>) {
        // TARGET is there by now, and no lane runs yet.
        privileges::close_umask();
        let target = self.target.as_deref();
        if let (Some(registry), Some(target)) = (&self.registry, target) {
            registry.begun(target);
        }
        let watch = self
            .display
            .watch(self.command, target, Arc::clone(telemetry));
        drop(self.set_watch(Some(watch)));
    }

    fn problem(&self, problem: &Problem) {
        self.display.problem(problem);
    }

    fn skipped(&self, skipped: &Problem) {
        self.display.skipped(skipped);
    }

    fn note(&self, line: &str) {
        self.display.remark(line);
    }

    fn hashed(&self, path: &[u8], size: u64, digest: &blake3::Hash) {
        // b3sum prints names it cannot express with the bytes replaced; so do we. The JSON events
        // have them exact.
        let shown = if B3sum.can_express(path) {
            path.to_vec()
        } else {
            String::from_utf8_lossy(path).into_owned().into_bytes()
        };
        let mut line = Vec::new();
        B3sum.encode(
            &Record {
                path: shown,
                digest: *digest,
            },
            &mut line,
        );
        self.display
            .digest(&line, path, size, digest.to_hex().as_str());
        if self.display.output().failure().is_some() {
            self.stop.store(true, Relaxed);
        }
    }

    fn health(&self, change: &HealthChange) {
        self.display.health(change);
    }

    fn drive(&self, lane: &LaneReport) {
        self.display.drive(lane);
    }

    fn ended(&self) {
        if let Some(watch) = self.set_watch(None) {
            watch.finish();
        }
    }
}
