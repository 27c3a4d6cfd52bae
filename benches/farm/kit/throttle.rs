//! A control group in which drives read no faster than told.
//!
//! Version 1 (`blkio`) and version 2 (`io`) of control groups both do it; the first found is used.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Context as _, Result};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The group; it goes away with this value.
#[derive(Debug)]
pub(crate) struct Throttle {
    dir: PathBuf,
    version: u8,
}

impl Throttle {
    /// Makes an empty group without limits.
    pub(crate) fn new() -> Result<Self> {
        let name = format!(
            "inhaul-bench-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let (root, version) = if Path::new("/sys/fs/cgroup/blkio/cgroup.procs").exists() {
            (PathBuf::from("/sys/fs/cgroup/blkio"), 1)
        } else {
            let root = PathBuf::from("/sys/fs/cgroup");
            std::fs::write(root.join("cgroup.subtree_control"), "+io")
                .context("no control group can throttle drives here")?;
            (root, 2)
        };
        let dir = root.join(name);
        std::fs::create_dir(&dir).context("making a control group")?;
        Ok(Self { dir, version })
    }

    /// Limits reads of the block device `/dev/NAME` to so many bytes a second.
    pub(crate) fn limit(&self, device: &str, rate: u64) -> Result<()> {
        let name = device.trim_start_matches("/dev/");
        let number = std::fs::read_to_string(format!("/sys/block/{name}/dev")).context(name)?;
        let number = number.trim();
        let (file, line) = match self.version {
            1 => (
                "blkio.throttle.read_bps_device",
                format!("{number} {rate}\n"),
            ),
            _ => ("io.max", format!("{number} rbps={rate}\n")),
        };
        std::fs::write(self.dir.join(file), line).context("setting a drive's rate")
    }

    /// The file a process writes its id to in order to be limited.
    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The kernel empties a group a moment after its last process has gone.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
