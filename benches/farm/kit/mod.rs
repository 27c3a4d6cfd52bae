//! What every scenario is built from: simulated drives, trees, measured runs, tables.

#![allow(
    clippy::format_push_string,
    reason = "tables and command lines; a format cannot fail here"
)]

pub(crate) mod child;
pub(crate) mod compare;
pub(crate) mod curve;
pub(crate) mod data;
pub(crate) mod drives;
pub(crate) mod gauge;
pub(crate) mod host;
pub(crate) mod one_by_one;
pub(crate) mod peers;
pub(crate) mod race;
pub(crate) mod room;
pub(crate) mod shell;
pub(crate) mod spindle;
pub(crate) mod table;
pub(crate) mod throttle;

/// Everything here fails with a sentence for the person at the terminal.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Puts the thing that failed before the reason.
pub(crate) trait Context<T> {
    /// `what: reason` on failure.
    fn context(self, what: impl AsRef<str>) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl AsRef<str>) -> Result<T> {
        self.map_err(|e| format!("{}: {e}", what.as_ref()))
    }
}

/// How a scenario is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Sizes that take a few seconds in all, for the tests; caches stay as they are.
    pub(crate) small: bool,
    /// Timed runs of each tool.
    pub(crate) runs: usize,
    /// The program under test.
    pub(crate) inhaul: std::path::PathBuf,
    /// Scratch space on a real disk.
    pub(crate) work: std::path::PathBuf,
    /// How long to wait before each run for other work on the machine to end.
    pub(crate) patience: std::time::Duration,
    /// Set by a signal: no further run begins, and the drives are taken down in order.
    pub(crate) stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// When not empty: only tools whose name contains one of these.
    pub(crate) only: Vec<String>,
}

impl Plan {
    /// The full value, or the small one.
    pub(crate) fn pick<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }
}
