//! Places where a test can make things go wrong: a process killed at a named point, or a bug put
//! back in on purpose, to see that some test notices.
//!
//! Compiled in with `debug_assertions` only: a release build has none of it.
//!
//! - `INHAUL_TEST_KILL=NAME:N` kills the process with SIGKILL the N-th time it passes point NAME,
//!   counted from 1.
//! - `INHAUL_TEST_TRACE=FILE` writes each point that is passed to FILE, a line each.
//! - `INHAUL_TEST_SYNC_BLOCKS=N` syncs large files every N blocks, `INHAUL_TEST_BATCH_FILES=N` commits
//!   batches of N files, `INHAUL_TEST_LINKS_MAX=N` remembers N inodes with several names.
//! - `INHAUL_TEST_NO_INODES=1` takes no file system for one whose numbers of inodes outlive a remount.
//! - `INHAUL_TEST_BUG=NAME` puts a bug in. Inside of one process, `with_bug` does it for a thread.

/// Every point that can be named, in the order in which a file passes them.
pub const POINTS: &[&str] = &[
    "recipe-written",
    "journal-created",
    "journal-opened",
    "settled",
    "stage-swept",
    "dir-made",
    "staged",
    "small-written",
    "block-read",
    "block-written",
    "sync-asked",
    "sync-answered",
    "blocks-appended",
    "blocks-committed",
    "reopened",
    "range-checked",
    "taken-back",
    "sealing",
    "sealed",
    "naming-appended",
    "naming-flushed",
    "data-syncing",
    "data-synced",
    "naming-one",
    "named-one",
    "named-all",
    "names-synced",
    "done-appended",
    "journal-writing",
    "journal-written",
    "journal-synced",
    "acknowledging",
    "acknowledged",
    "links-following",
    "dir-finishing",
    "dir-finished",
    "read-back",
    "verified-appended",
    "mending",
    "mended",
    "withdrawing",
    "withdrawn",
    "lanes-ended",
    "manifest-writing",
    "manifest-written",
    "witness-asking",
    "stage-cleared",
    "witness-answered",
    "end-recorded",
    "report-written",
    "latest-set",
    "current-removed",
];

/// Every bug that can be put in.
pub const BUGS: &[&str] = &[
    "no-sync-before-rename",
    "no-sync-after-rename",
    "no-dir-sync",
    "no-witness",
    "rename-before-sync",
    "sync-tried-again",
    "sync-error-ignored",
    "short-write-ignored",
    "ack-before-journal",
    "journal-not-synced",
    "journal-error-ignored",
    "naming-not-recorded",
    "blocks-before-sync",
    "blocks-with-gaps",
    "bad-blocks-recorded",
    "resume-without-check",
    "settle-not-synced",
    "stage-names-come-again",
    "stage-not-swept",
    "size-and-mtime-skip",
    "source-stamp-ignored",
    "target-stamp-ignored",
    "place-not-checked",
    "read-back-cached",
    "read-back-not-compared",
    "repair-not-verified",
    "mode-before-owner",
    "replaces-unasked",
    "bit-flips-in-memory",
];

/// Marks a point: kills the process here if a test asked for it.
#[inline]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not listed");
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Returns a number that a test set in place of the usual one.
#[inline]
#[must_use]
pub fn setting(name: &'static str) -> Option<u64> {
    #[cfg(debug_assertions)]
    return std::env::var(format!("INHAUL_TEST_{name}"))
        .ok()?
        .parse()
        .ok();
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        None
    }
}

/// Returns whether a test put this bug in.
#[inline]
#[must_use]
pub fn bug(name: &'static str) -> bool {
    debug_assert!(BUGS.contains(&name), "{name} is not listed");
    #[cfg(debug_assertions)]
    return armed::bug(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}

/// Flips a bit of the last byte, as memory may that has no error correction.
#[inline]
pub(crate) fn flip(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 4;
    }
}

/// Runs `what` with a bug put in, for this thread alone.
#[cfg(test)]
pub(crate) fn with_bug<T>(name: &'static str, what: impl FnOnce() -> T) -> T {
    armed::with_bug(name, what)
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Where to die, and how often to pass there first.
    fn target() -> Option<&'static (String, AtomicU64)> {
        static TARGET: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
        let target = TARGET.get_or_init(|| {
            let text = std::env::var("INHAUL_TEST_KILL").ok()?;
            let (name, count) = text.split_once(':')?;
            Some((name.to_owned(), AtomicU64::new(count.parse().ok()?)))
        });
        target.as_ref()
    }

    /// Writes down each point that is passed, a line each, if a test asked for it.
    fn trace(name: &str) {
        static TRACE: OnceLock<Option<std::fs::File>> = OnceLock::new();
        let file = TRACE.get_or_init(|| {
            let path = std::env::var_os("INHAUL_TEST_TRACE")?;
            let mut options = std::fs::File::options();
            options.append(true).create(true).open(path).ok()
        });
        if let Some(mut file) = file.as_ref() {
            // One write, so that the lines of two threads do not mix. A line less fails the test.
            let _counted = file.write_all(format!("{name}\n").as_bytes());
        }
    }

    pub(super) fn point(name: &'static str) {
        trace(name);
        let Some((wanted, left)) = target() else {
            return;
        };
        if wanted == name && left.fetch_sub(1, Relaxed) == 1 {
            let me = rustix::process::getpid();
            // Whether the signal could be sent shows by our being dead.
            let _dead = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            std::thread::park();
        }
    }

    pub(super) fn bug(name: &'static str) -> bool {
        static BUG: OnceLock<Option<String>> = OnceLock::new();
        #[cfg(test)]
        if HERE.get().is_some() {
            return HERE.get() == Some(name);
        }
        BUG.get_or_init(|| std::env::var("INHAUL_TEST_BUG").ok())
            .as_deref()
            == Some(name)
    }

    #[cfg(test)]
    thread_local! {
        static HERE: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn with_bug<T>(name: &'static str, what: impl FnOnce() -> T) -> T {
        struct Back;
        impl Drop for Back {
            fn drop(&mut self) {
                HERE.set(None);
            }
        }
        let _back = Back;
        HERE.set(Some(name));
        what()
    }
}
