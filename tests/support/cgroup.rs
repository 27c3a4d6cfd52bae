//! Limits on a command, by control groups of version 1.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::program::under;
use super::skip;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A control group; removed when dropped.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Group {
    fn new(test: &str, controller: &str) -> Option<Self> {
        let count = COUNT.fetch_add(1, Relaxed);
        let path = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(format!("inhaul-test-{}-{count}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&path) {
            skip(
                test,
                &format!("needs the {controller} control group of version 1 ({error})"),
            );
            return None;
        }
        Some(Self(path))
    }

    /// Returns a group that reads from each loop device at most at so many bytes a second.
    pub(crate) fn throttle(test: &str, devices: &[(&str, u64)]) -> Option<Self> {
        let group = Self::new(test, "blkio")?;
        for (device, rate) in devices {
            let stat = rustix::fs::stat(*device).unwrap();
            let (major, minor) = (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            );
            group.set(
                "blkio.throttle.read_bps_device",
                &format!("{major}:{minor} {rate}"),
            );
        }
        Some(group)
    }

    /// Returns a group that may use at most so many bytes of memory, page cache included.
    pub(crate) fn memory(test: &str, bytes: u64) -> Option<Self> {
        let group = Self::new(test, "memory")?;
        group.set("memory.limit_in_bytes", &bytes.to_string());
        Some(group)
    }

    fn set(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).unwrap();
    }

    /// Takes from the group all memory that can be had again: its page cache, mapped files too.
    pub(crate) fn reclaim(&self) {
        self.set("memory.force_empty", "0");
    }

    /// Returns a number the group keeps.
    pub(crate) fn number(&self, file: &str) -> u64 {
        std::fs::read_to_string(self.0.join(file))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Returns how many processes the kernel killed in the group for want of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let text = std::fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse().unwrap()
    }

    /// Returns the command inside the group.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let enter = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        under(
            &[
                "sh".as_ref(),
                "-c".as_ref(),
                enter.as_ref(),
                self.0.as_os_str(),
            ],
            command,
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
