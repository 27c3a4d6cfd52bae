//! Where sources and targets lie: file systems of their own, in memory where there is room, so that
//! nobody's writes but the copy's are synced; or plain folders.

use std::path::{Path, PathBuf};

use crate::support::mounts::{Fs, Mounted};
use crate::support::{Scratch, can_mount};

/// Where memory can be had as files.
const MEMORY: &str = "/dev/shm";

/// A place; gone when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    // In this order they go.
    mounted: Option<Mounted>,
    scratch: Scratch,
}

impl Place {
    /// Makes one on a file system of its own, or else a folder.
    pub(crate) fn new(test: &str, fs: Option<Fs>) -> Self {
        let Some(fs) = fs.filter(|_| can_mount(test)) else {
            let scratch = Scratch::new();
            return Self {
                mounted: None,
                scratch,
            };
        };
        let mib = match fs {
            Fs::Ext4 => 160,
            Fs::Xfs => 320,
            Fs::Btrfs => 256,
        };
        let memory = rustix::fs::statvfs(MEMORY).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let scratch = if memory >> 20 >= 4 * mib {
            Scratch::within(Path::new(MEMORY))
        } else {
            Scratch::new()
        };
        let mounted = Mounted::image(&scratch, "mounted", fs, mib);
        Self {
            mounted: Some(mounted),
            scratch,
        }
    }

    /// Returns the drive that its file system is on.
    pub(super) fn device(&self) -> &str {
        self.mounted.as_ref().unwrap().device()
    }

    /// Returns the path of something in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        match &self.mounted {
            Some(mounted) => mounted.join(name),
            None => self.scratch.join(name),
        }
    }
}
