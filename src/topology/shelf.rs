//! Every drive that is attached, with what is mounted from it and what it shares with others.
//!
//! A drive is a block device with nothing beneath: no partition, no volume, no array. Several paths
//! to one drive (multipath) are one drive. Left out: loop and network block devices that are not
//! in use, memory (`ram`, `zram`), and ZFS volumes (`zd`), whose drives only ZFS knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::attached::{Attached, Controller, MountUse, Part, Queue, Shelf, Unit};
use super::drive::{Drive, Transport, Udev, usb_serial};
use super::health::{
    Health, array_concerns, btrfs_concerns, file_system_concern, health_ways, holders,
};
use super::links::{Link, LinkKind, is_pci_function, routes, shared, stops};
use super::mountinfo::parse_device;
use super::sysfs::{attribute, device_name, is_multipath, linked, names, whole_disk};
use super::usage::Usages;
use super::{Location, Mount, Topology};

/// Bytes in one unit of the `size` attribute. Source: Documentation/ABI/stable/sysfs-block.
const SIZE_UNIT: u64 = 512;

impl Topology {
    /// Returns every drive that is attached. Needs no privileges; what cannot be read is absent, and a
    /// mounted file system that does not say in 5 s how full it is, is told of.
    pub fn shelf(&self) -> Shelf {
        let mut drives = self.attached();
        let mut units: BTreeMap<String, Vec<Mount>> = BTreeMap::new();
        let mut on_drives = Vec::new();
        for mount in &self.mounts {
            let location = self.locate_mount(mount);
            if !location.drives.iter().all(Drive::is_zfs_volume) {
                on_drives.push(location);
            } else if !location.drives.is_empty() || is_storage(mount) {
                let unit = units.entry(location.name()).or_default();
                unit.push(mount.clone());
            }
        }
        let usages = if self.live {
            Usages::ask(
                &on_drives
                    .iter()
                    .map(|location| &location.mount)
                    .collect::<Vec<_>>(),
            )
        } else {
            Usages::default()
        };
        for location in &on_drives {
            self.note_mount(&mut drives, location, &usages);
        }
        self.note_arrays(&mut drives);
        let links = self.links(&drives);
        Shelf {
            drives,
            links,
            units: units
                .into_iter()
                .map(|(name, mounts)| Unit { name, mounts })
                .collect(),
        }
    }

    /// Returns the drives beneath the block device with these numbers; empty when sysfs does not
    /// know it.
    pub fn drives_of(&self, device: (u32, u32)) -> Vec<Drive> {
        self.sysfs
            .block(device)
            .map(|node| self.sysfs.leaves(&node).into_values().collect())
            .unwrap_or_default()
    }

    /// Returns whether the file system of a mount is on a block device, or on what is stacked on that.
    pub fn is_on(&self, mount: &Mount, device: (u32, u32)) -> bool {
        fn reaches(node: &Path, wanted: &Path) -> bool {
            let below = || linked(&node.join("slaves"));
            node == wanted || below().iter().any(|(_, below)| reaches(below, wanted))
        }
        // btrfs has a number of its own, and its source is a device of it.
        let own = self.sysfs.block(mount.device);
        let own = own.or_else(|| self.sysfs.block_by_path(&mount.source));
        let wanted = self.sysfs.block(device);
        wanted.is_some_and(|wanted| own.is_some_and(|own| reaches(&own, &wanted)))
    }

    /// Returns whether a loop device reads its image past the page cache (loop(4),
    /// `LOOP_SET_DIRECT_IO`).
    pub fn image_is_direct(&self, drive: &Drive) -> bool {
        let node = self.sysfs.block(drive.device);
        node.is_some_and(|node| attribute(&node, "loop/dio").as_deref() == Some("1"))
    }

    /// Returns whether a drive reads zeros as it reads all else: it spins, and cannot be told to forget
    /// what it holds. Of a USB bridge nobody knows what is behind it. Source:
    /// Documentation/ABI/stable/sysfs-block, `discard_max_bytes`.
    pub fn reads_zeros(&self, drive: &Drive) -> bool {
        let spins = drive.rotational == Some(true);
        let is_disk = spins && matches!(drive.transport, Transport::Sata | Transport::Sas);
        let node = self.sysfs.block(drive.device).filter(|_| is_disk);
        let most = node.and_then(|node| attribute(&node, "queue/discard_max_bytes"));
        most.as_deref() == Some("0")
    }

    fn attached(&self) -> Vec<Attached> {
        let disks = self.sysfs.disks();
        let mut paths: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        for map in disks.iter().filter(|disk| is_multipath(disk)) {
            let mut members = linked(&map.join("slaves"))
                .into_iter()
                .map(|(_, node)| whole_disk(&node).to_owned());
            if let Some(first) = members.next() {
                let rest: Vec<PathBuf> = members.collect();
                others.extend(rest.iter().cloned());
                paths.entry(first).or_default().extend(rest);
            }
        }
        let mut drives: Vec<Attached> = disks
            .iter()
            .filter(|disk| !others.contains(*disk) && names(&disk.join("slaves")).is_empty())
            .map(|disk| {
                let more = paths.get(disk).map_or(&[][..], Vec::as_slice);
                self.attach(disk, more)
            })
            .filter(is_there)
            .collect();
        drives.sort_by_cached_key(|drive| natural(&drive.drive.name));
        drives
    }

    fn attach(&self, disk: &Path, more_paths: &[PathBuf]) -> Attached {
        let mut drive = Drive::read(&self.sysfs, disk);
        drive.serial = drive.serial.or_else(|| usb_serial(disk));
        let number = |name: &str| attribute(disk, name).and_then(|text| text.parse().ok());
        let paths = || std::iter::once(disk).chain(more_paths.iter().map(PathBuf::as_path));
        let ways = self.ways(paths());
        let health_ways = health_ways(&self.sysfs, paths());
        let narrowest = ways
            .iter()
            .flatten()
            .filter_map(|stop| Some((stop.name.clone(), stop.ceiling?)))
            .min_by_key(|(_, ceiling)| *ceiling);
        let parts = self.parts(disk);
        let mut held = holders(disk);
        for part in &parts {
            held.extend(holders(&disk.join(part.name.replace('/', "!"))));
        }
        held.sort();
        held.dedup();
        let own = Udev::read(&self.sysfs, drive.device).property("ID_FS_TYPE");
        let mut holds: Vec<String> = own
            .into_iter()
            .chain(parts.iter().filter_map(|part| part.holds.clone()))
            .collect();
        holds.dedup();
        Attached {
            paths: paths().map(device_name).collect(),
            queue: Queue {
                depth: number("device/queue_depth").or_else(|| self.ring(disk)),
                requests: number("queue/nr_requests"),
                max_bytes: number("queue/max_sectors_kb").map(|kib| u64::from(kib) << 10),
                scheduler: attribute(disk, "queue/scheduler").and_then(|text| chosen(&text)),
            },
            controller: routes(&self.sysfs, disk)
                .first()
                .and_then(|route| self.controller(route)),
            narrowest,
            health: Health::read(&health_ways),
            parts,
            holds,
            holders: held,
            mounts: Vec::new(),
            drive,
        }
    }

    fn ways<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> Vec<Vec<super::links::Stop>> {
        paths
            .flat_map(|disk| routes(&self.sysfs, disk))
            .map(|route| stops(&self.sysfs, &route))
            .collect()
    }

    /// Requests in each queue of an NVMe drive. `sqsize` counts from zero, and one slot of a ring stays
    /// empty, so that it is their number. Source: drivers/nvme/host/core.c, `nvme_alloc_io_tag_set`.
    fn ring(&self, disk: &Path) -> Option<u32> {
        health_ways(&self.sysfs, std::iter::once(disk))
            .iter()
            .find_map(|way| attribute(&way.device, "sqsize")?.parse().ok())
    }

    fn parts(&self, disk: &Path) -> Vec<Part> {
        let mut parts: Vec<Part> = names(disk)
            .into_iter()
            .map(|name| disk.join(name))
            .filter(|node| node.join("partition").exists())
            .map(|node| {
                let device = attribute(&node, "dev").and_then(|text| parse_device(&text));
                let udev = Udev::read(&self.sysfs, device.unwrap_or((0, 0)));
                let size: u64 = attribute(&node, "size")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0);
                Part {
                    name: device_name(&node),
                    size: size.saturating_mul(SIZE_UNIT),
                    read_only: attribute(&node, "ro").as_deref() == Some("1"),
                    holds: udev.property("ID_FS_TYPE"),
                    label: udev.property("ID_FS_LABEL"),
                }
            })
            .collect();
        parts.sort_by_cached_key(|part| natural(&part.name));
        parts
    }

    fn controller(&self, route: &Path) -> Option<Controller> {
        let name = |dir: &Path| Some(dir.file_name()?.to_str()?.to_owned());
        let is_pci = |dir: &&Path| name(dir).is_some_and(|name| is_pci_function(&name));
        // On machines with a device tree the controller is somewhere below `soc`: it has the driver.
        let driver_of = |dir: &Path| std::fs::canonicalize(dir.join("driver")).ok();
        let is_driven = |dir: &&Path| {
            let driver = driver_of(dir);
            driver.is_some_and(|driver| self.sysfs.place(&driver).starts_with("bus/platform"))
        };
        let platform = |dir: &&Path| {
            let above = dir.parent().map(|above| self.sysfs.place(above));
            above == Some(Path::new("devices/platform"))
        };
        let dir = route
            .ancestors()
            .find(is_pci)
            .or_else(|| route.ancestors().find(is_driven))
            .or_else(|| route.ancestors().find(platform))?;
        let driver = driver_of(dir);
        let numa = dir.ancestors().find_map(|dir| attribute(dir, "numa_node"));
        Some(Controller {
            place: name(dir)?,
            driver: driver.as_deref().and_then(name),
            // -1 stands for a machine that has but one.
            numa_node: numa.and_then(|text| text.parse().ok()),
        })
    }

    fn note_mount(&self, drives: &mut [Attached], location: &Location, usages: &Usages) {
        let spread = location.drives.len();
        let usage = usages.of(&location.mount);
        let node = self.sysfs.block(location.mount.device);
        let silent = usages.is_silent(&location.mount).then(|| {
            let point = location.mount.point.display();
            format!("the file system at {point} does not answer")
        });
        let found = node.and_then(|node| file_system_concern(&self.sysfs, &device_name(&node)));
        let btrfs = self.btrfs_of(&location.mount);
        let btrfs = btrfs.map(|btrfs| btrfs_concerns(&self.sysfs, &btrfs));
        let concerns: Vec<String> = found
            .into_iter()
            .chain(btrfs.into_iter().flatten())
            .chain(silent)
            .collect();
        for drive in drives
            .iter_mut()
            .filter(|drive| location.drives.iter().any(|d| d.name == drive.drive.name))
        {
            drive.mounts.push(MountUse {
                mount: location.mount.clone(),
                usage,
                spread,
            });
            for concern in &concerns {
                if !drive.health.concerns.contains(concern) {
                    drive.health.concerns.push(concern.clone());
                }
            }
        }
    }

    fn note_arrays(&self, drives: &mut [Attached]) {
        for array in self.sysfs.disks() {
            if !array.join("md").is_dir() {
                continue;
            }
            let (whole, faulty) = array_concerns(&array, &device_name(&array));
            if let Some(whole) = whole {
                for name in self.sysfs.leaves(&array).into_keys() {
                    concern(drives, &name, &whole);
                }
            }
            for (member, clause) in faulty {
                let node = self
                    .sysfs
                    .block_by_path(format!("/dev/{member}").as_bytes());
                let leaves = node
                    .map(|node| self.sysfs.leaves(&node))
                    .unwrap_or_default();
                for name in leaves.into_keys() {
                    concern(drives, &name, &clause);
                }
            }
        }
    }

    fn links(&self, drives: &[Attached]) -> Vec<Link> {
        let mut ways = Vec::new();
        for drive in drives {
            for path in &drive.paths {
                let Some(disk) = self.sysfs.block_by_path(format!("/dev/{path}").as_bytes()) else {
                    continue;
                };
                for route in routes(&self.sysfs, &disk) {
                    let stops = stops(&self.sysfs, &route);
                    ways.push((drive.drive.name.clone(), stops));
                }
            }
        }
        let mut links = shared(&ways);
        links.extend(self.backing_links(drives));
        links
    }

    /// Loop devices whose images are on one drive share that drive.
    fn backing_links(&self, drives: &[Attached]) -> Vec<Link> {
        let mut behind: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for drive in drives {
            let Some(image) = &drive.drive.backing else {
                continue;
            };
            let Some(mount) = self.mount_by_prefix(image) else {
                continue;
            };
            let location = self.locate_mount(&mount.clone());
            for key in location.keys() {
                let set = behind.entry(key.clone()).or_default();
                set.insert(drive.drive.name.clone());
                if drives.iter().any(|drive| drive.drive.name == key) {
                    set.insert(key);
                }
            }
        }
        behind
            .into_iter()
            .filter(|(_, drives)| drives.len() > 1)
            .map(|(name, drives)| Link {
                kind: LinkKind::Backing,
                name,
                also: Vec::new(),
                ceiling: None,
                drives: drives.into_iter().collect(),
            })
            .collect()
    }
}

fn concern(drives: &mut [Attached], name: &str, clause: &str) {
    for drive in drives.iter_mut().filter(|drive| drive.drive.name == name) {
        if !drive.health.concerns.iter().any(|known| known == clause) {
            drive.health.concerns.push(clause.to_owned());
        }
    }
}

/// Whether a block device is a drive in use: the kernel keeps loop and network devices that
/// nothing is attached to, and memory is no drive.
fn is_there(attached: &Attached) -> bool {
    let drive = &attached.drive;
    let spare = match drive.transport {
        Transport::Loop => drive.backing.is_none() && drive.size == 0,
        Transport::Network | Transport::Unknown => drive.size == 0,
        _ => false,
    };
    !drive.is_memory() && !spare && !drive.is_zfs_volume()
}

/// Whether a mount without drives is storage somewhere else, not memory or the kernel's own.
fn is_storage(mount: &Mount) -> bool {
    let fs = mount.fs.as_str();
    matches!(
        fs,
        "nfs"
            | "nfs4"
            | "cifs"
            | "smb3"
            | "9p"
            | "virtiofs"
            | "ceph"
            | "afs"
            | "lustre"
            | "beegfs"
            | "gpfs"
            // OrangeFS. Source: fs/orangefs/orangefs-mod.c.
            | "pvfs2"
            | "vboxsf"
            | "zfs"
            | "fuseblk"
            | "bcachefs"
            | "btrfs"
    ) || fs == "fuse"
        || fs.starts_with("fuse.")
            && !matches!(fs, "fuse.portal" | "fuse.gvfsd-fuse" | "fuse.lxcfs")
}

/// The word in brackets: `[mq-deadline] none`.
fn chosen(text: &str) -> Option<String> {
    let inside = text.split_once('[').map_or(text, |(_, rest)| rest);
    let word = inside.split(']').next()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// A key that sorts names as people count: numbers by value, `sdz` before `sdaa`.
fn natural(name: &str) -> (usize, Vec<(String, u64)>) {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (letters, after) = rest.split_at(word);
        let end = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (digits, after) = after.split_at(end);
        key.push((letters.to_owned(), digits.parse().unwrap_or(0)));
        rest = after;
    }
    // These count in letters; `nvme` and `loop` do not.
    let counted = ["sd", "vd", "xvd"].iter().any(|p| name.starts_with(p));
    let letters = name.bytes().take_while(u8::is_ascii_alphabetic).count();
    (if counted { letters } else { 0 }, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_in_the_order_people_count_in() {
        let mut names = [
            "sdaa", "sdb", "sda", "loop10", "loop9", "nvme1n1", "nvme0n1", "sdz",
        ];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(
            names,
            [
                "loop9", "loop10", "nvme0n1", "nvme1n1", "sda", "sdb", "sdz", "sdaa"
            ]
        );
    }

    #[test]
    fn the_scheduler_in_use_is_the_one_in_brackets() {
        assert_eq!(
            chosen("[mq-deadline] kyber none").as_deref(),
            Some("mq-deadline")
        );
        assert_eq!(chosen("none").as_deref(), Some("none"));
        assert_eq!(chosen(""), None);
    }
}
