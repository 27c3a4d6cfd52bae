//! The bench of the end-to-end tests: scratch places, mounts, trees, and judges from outside.
//!
//! Judges never share code with the engine: rsync, b3sum, cmp, and a directory walk of their own.

#![allow(dead_code, reason = "each test binary uses its own part of the bench")]
#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod deep;
pub(crate) mod dice;
pub(crate) mod extents;
pub(crate) mod failing;
pub(crate) mod flat;
pub(crate) mod folding;
pub(crate) mod judge;
pub(crate) mod lab;
pub(crate) mod marked;
pub(crate) mod mounts;
pub(crate) mod odd;
pub(crate) mod program;
pub(crate) mod sentinel;
pub(crate) mod told;
pub(crate) mod tree;
pub(crate) mod uml;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory that goes away with the test.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// Returns a new one that any user may enter.
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Returns a new one in this directory.
    pub(crate) fn within(place: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new()
            .prefix("inhaul-")
            .tempdir_in(place)
            .unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of something in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a directory in it.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// Says that a test did not run. Written past the harness, which hides what a passing test prints.
pub(crate) fn skip(test: &str, reason: &str) {
    // A line of its own also when the harness has begun one.
    let line = format!("\nSKIPPED: {test}: {reason}\n");
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
}

/// Returns whether we are root; else says that the test is skipped.
pub(crate) fn need_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}

/// Returns whether all tools are there; else says that the test is skipped.
pub(crate) fn need_tools(test: &str, tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for tool in tools {
        // Where an ordinary user's PATH does not lead.
        let dirs = std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]);
        if !dirs.map(|dir| dir.join(tool)).any(|file| file.is_file()) {
            skip(test, &format!("needs {tool}"));
            return false;
        }
    }
    true
}

/// Returns whether images can be made and mounted here; else says that the test is skipped.
pub(crate) fn can_mount(test: &str) -> bool {
    need_root(test)
        && need_tools(
            test,
            &[
                "losetup",
                "mkfs.ext4",
                "mkfs.xfs",
                "mkfs.btrfs",
                "rsync",
                "b3sum",
            ],
        )
}

/// Runs a tool that must succeed; its standard output.
pub(crate) fn tool<S: AsRef<OsStr>>(name: &str, args: &[S]) -> Vec<u8> {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Waits until `look` gives something, and fails when it has not within 60 s.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..12_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("waited in vain for {what}");
}
