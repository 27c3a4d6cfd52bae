//! What there is to know of a shelf of drives.

use super::drive::Drive;
use super::health::Health;
use super::links::Link;
use super::mountinfo::Mount;

/// All drives, and what they share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// The drives, by name: `sda` before `sdb`, `sdz` before `sdaa`.
    pub drives: Vec<Attached>,
    /// What two or more of them share, many drives first.
    pub links: Vec<Link>,
    /// Mounted file systems of other machines, and pools whose drives the kernel does not tell.
    pub units: Vec<Unit>,
}

/// One drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What it is.
    pub drive: Drive,
    /// Kernel names of all paths to it, its own first; more than one with multipath.
    pub paths: Vec<String>,
    /// How requests to it are queued.
    pub queue: Queue,
    /// What it is plugged into.
    pub controller: Option<Controller>,
    /// The narrowest place on its way to memory, shared or not: its name and bytes a second.
    pub narrowest: Option<(String, u64)>,
    /// What the kernel has noticed about it.
    pub health: Health,
    /// Its partitions; empty when it has none.
    pub parts: Vec<Part>,
    /// File system on the whole drive or in one of its partitions, by udev's records, mounted or
    /// not: `ext4`, `crypto_LUKS`, `linux_raid_member`.
    pub holds: Vec<String>,
    /// What is stacked on it or on a partition of it: `md0`, `dm-3`.
    pub holders: Vec<String>,
    /// The mounts that have bytes on it, in the order of the mount table.
    pub mounts: Vec<MountUse>,
}

impl Attached {
    /// Returns what is in use in the mounted file systems that are on this drive alone, each counted
    /// once. Those spread over several drives, and overlays, are not counted: an overlay gives the
    /// figures of the file system that its upper layer is in. Source: fs/overlayfs/super.c,
    /// `ovl_statfs`.
    pub fn used_bytes(&self) -> Option<u64> {
        self.used_bytes_of(|_| true)
    }

    /// Returns the same of those mounts that are wanted.
    pub fn used_bytes_of(&self, is_wanted: impl Fn(&Mount) -> bool) -> Option<u64> {
        let mut seen = Vec::new();
        let mut sum = None;
        let own = |used: &&MountUse| {
            used.spread == 1 && used.mount.fs != "overlay" && is_wanted(&used.mount)
        };
        for used in self.mounts.iter().filter(own) {
            if let Some(usage) = used.usage
                && !seen.contains(&used.mount.device)
            {
                seen.push(used.mount.device);
                sum = Some(usage.used.saturating_add(sum.unwrap_or(0)));
            }
        }
        sum
    }
}

/// How requests are queued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Requests the drive takes at once, NVMe in each of its queues; `None` where its driver keeps no
    /// count of its own.
    pub depth: Option<u32>,
    /// Requests the kernel keeps for each of its queues.
    pub requests: Option<u32>,
    /// Most bytes of one request.
    pub max_bytes: Option<u64>,
    /// The scheduler in use.
    pub scheduler: Option<String>,
}

/// What a drive is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its PCI address, or its name where it has none.
    pub place: String,
    /// Its driver.
    pub driver: Option<String>,
    /// The NUMA node it is attached to, if the machine has several.
    pub numa_node: Option<u32>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Kernel name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// What is on it, by udev's records.
    pub holds: Option<String>,
    /// The label of that, by udev's records.
    pub label: Option<String>,
}

/// A mount that has bytes on a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountUse {
    /// The mount.
    pub mount: Mount,
    /// How full its file system is; `None` when it cannot be asked.
    pub usage: Option<Usage>,
    /// How many drives its file system is spread over.
    pub spread: usize,
}

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All there is.
    pub size: u64,
    /// What is in use.
    pub used: u64,
    /// What an ordinary user may still write.
    pub available: u64,
}

/// A mounted file system without drives of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its key: `nfs:server:/export`, `zfs:tank`.
    pub name: String,
    /// Where it is mounted. How full it is, is not asked: a server that is gone never answers.
    pub mounts: Vec<Mount>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::recorded::{ATA, ATA_B, with_sata_disks};

    #[test]
    fn what_is_in_use_is_counted_once_for_each_file_system() {
        let machine = with_sata_disks();
        let array = [&format!("{ATA}/sda2")[..], &format!("{ATA_B}/sdb1")];
        machine.stacked("md0", "9:0", "", &array);
        let table = "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            31 30 8:1 /srv /bind rw - ext4 /dev/sda1 rw\n\
            32 30 0:50 / /c1 rw - overlay overlay rw,lowerdir=/l,upperdir=/u1,workdir=/w1\n\
            33 30 0:51 / /c2 rw - overlay overlay rw,lowerdir=/l,upperdir=/u2,workdir=/w2\n\
            34 30 9:0 / /array rw - ext4 /dev/md0 rw\n\
            35 30 8:2 / /other rw - ext4 /dev/sda2 rw\n";
        let mut shelf = machine.topology(table).shelf();
        let sda = &mut shelf.drives[0];
        assert_eq!(sda.used_bytes(), None, "no file system was asked");
        let points: Vec<_> = sda.mounts.iter().map(|used| used.mount.id).collect();
        assert_eq!(points, [30, 31, 32, 33, 34, 35]);
        for (used, bytes) in sda.mounts.iter_mut().zip([7, 7, 7, 7, 100, 1000]) {
            used.usage = Some(Usage {
                used: bytes,
                ..Usage::default()
            });
        }
        assert_eq!(sda.used_bytes(), Some(1007));
        assert_eq!(
            sda.used_bytes_of(|mount| mount.device == (8, 2)),
            Some(1000)
        );
        assert_eq!(sda.used_bytes_of(|mount| mount.device == (8, 3)), None);
    }
}
