//! Where images lie: a tmpfs of our own when memory allows, else the disk.

use std::path::{Path, PathBuf};

use super::{Context as _, Plan, Result, host, shell};

/// A directory for one scenario; unmounted and removed with this value.
#[derive(Debug)]
pub(crate) struct Room {
    base: PathBuf,
    memory: bool,
}

impl Room {
    /// A room for `bytes` of images.
    pub(crate) fn new(plan: &Plan, name: &str, bytes: u64) -> Result<Self> {
        let base = plan.work.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(base.join("images")).context("scratch space")?;
        // A quarter stays free for the tools, their page cache, and whoever else is here.
        let memory = host::memory_available() / 4 * 3 > bytes;
        let room = Self { base, memory };
        if memory {
            let images = room.images();
            let size = format!("size={}", bytes + bytes / 8 + (64 << 20));
            let images = images.to_string_lossy();
            shell::run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &images])?;
        }
        Ok(room)
    }

    /// A directory on the disk, made when missing.
    pub(crate) fn disk(&self, name: &str) -> Result<PathBuf> {
        let path = self.base.join(name);
        std::fs::create_dir_all(&path).context("scratch space")?;
        Ok(path)
    }

    /// The directory of images.
    pub(crate) fn images(&self) -> PathBuf {
        self.base.join("images")
    }

    /// `RAM` or `disk`.
    pub(crate) fn kind(&self) -> &'static str {
        if self.memory { "RAM" } else { "disk" }
    }

    /// The root of everything in the room.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.memory {
            detach(&self.images());
        }
        drop(std::fs::remove_dir_all(&self.base));
    }
}

/// Unmounts, waiting for the last user; gives up aloud.
pub(crate) fn detach(path: &Path) {
    let mut last = String::new();
    for _ in 0..50 {
        match shell::run("umount", &[path]) {
            Ok(_) => return,
            Err(error) => last = error,
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    super::table::warn(&last);
}
