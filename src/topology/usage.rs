//! How full mounted file systems are. Each is asked on a thread of its own, for one whose drive does not
//! answer may hold the call for ever (XFS and btrfs look at what they have under way first).

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::attached::Usage;
use super::{Mount, Place, open_place};

/// How long is waited for an answer when none came meanwhile. A drive that sleeps spins up in half a
/// minute, but what is asked here is in memory unless something is wrong.
const SILENT: Duration = Duration::from_secs(5);

/// What was answered, by the ids of mounts.
#[derive(Debug, Default)]
pub(super) struct Usages {
    told: HashMap<u64, Option<Usage>>,
    asked: bool,
}

impl Usages {
    /// Asks all of them at once, and waits for those that answer.
    pub(super) fn ask(mounts: &[&Mount]) -> Self {
        Self::ask_by(mounts, SILENT, usage)
    }

    fn ask_by(mounts: &[&Mount], silent: Duration, usage: fn(u64, &Path) -> Option<Usage>) -> Self {
        let mut by_device: BTreeMap<(u32, u32), Vec<(u64, PathBuf)>> = BTreeMap::new();
        for mount in mounts {
            let of_device = by_device.entry(mount.device).or_default();
            of_device.push((mount.id, mount.point.clone()));
        }
        // Room for all: who answers late is kept waiting by nobody.
        let (sender, answers) = bounded(mounts.len());
        for of_device in by_device.into_values() {
            let sender: Sender<(u64, Option<Usage>)> = sender.clone();
            let asking = std::thread::Builder::new().name("usage".to_owned());
            // Without a thread nothing is known of it, as when it does not answer.
            let _started = asking.spawn(move || {
                for (id, point) in of_device {
                    let _nobody_waits = sender.send((id, usage(id, &point)));
                }
            });
        }
        drop(sender);
        let mut told = HashMap::new();
        while let Ok((id, usage)) = answers.recv_timeout(silent) {
            told.insert(id, usage);
        }
        Self { told, asked: true }
    }

    /// Returns how full the file system of a mount is; `None` when it did not say.
    pub(super) fn of(&self, mount: &Mount) -> Option<Usage> {
        self.told.get(&mount.id).copied().flatten()
    }

    /// Returns whether a mount was asked and did not answer at all.
    pub(super) fn is_silent(&self, mount: &Mount) -> bool {
        self.asked && !self.told.contains_key(&mount.id)
    }
}

/// Asks the file system of a mount how full it is, if the mount is where the table says.
fn usage(id: u64, point: &Path) -> Option<Usage> {
    let fd = open_place(point).ok()?;
    // Another file system may have been mounted over it.
    let place = Place::of(fd.as_fd()).ok()?;
    if place.mount_id.is_some_and(|its| its != id) {
        return None;
    }
    let stat = rustix::fs::fstatvfs(&fd).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Usage {
        size: bytes(stat.f_blocks),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: bytes(stat.f_bavail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, device: (u32, u32), point: &str) -> Mount {
        Mount {
            id,
            device,
            root: b"/".to_vec(),
            point: PathBuf::from(point),
            fs: "ext4".to_owned(),
            source: Vec::new(),
            options: Vec::new(),
            read_only: false,
        }
    }

    #[test]
    fn one_that_does_not_answer_keeps_nothing_of_the_others() {
        let asked = |_: u64, point: &Path| {
            while point.ends_with("hung") {
                std::thread::park();
            }
            point.ends_with("well").then_some(Usage {
                size: 7,
                ..Usage::default()
            })
        };
        let mounts = [
            mount(1, (8, 1), "/mnt/hung"),
            // Of the same file system, so behind it.
            mount(2, (8, 1), "/mnt/well"),
            mount(3, (8, 17), "/mnt/well"),
            mount(4, (8, 33), "/mnt/unknown"),
        ];
        let all: Vec<&Mount> = mounts.iter().collect();
        let usages = Usages::ask_by(&all, Duration::from_millis(300), asked);
        let silent = all.iter().map(|mount| usages.is_silent(mount));
        assert_eq!(silent.collect::<Vec<_>>(), [true, true, false, false]);
        let sizes = all
            .iter()
            .map(|mount| usages.of(mount).map(|usage| usage.size));
        assert_eq!(sizes.collect::<Vec<_>>(), [None, None, Some(7), None]);
        assert!(!Usages::default().is_silent(&mounts[0]), "nobody asked it");
    }
}
