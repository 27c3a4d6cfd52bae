//! From a mount to the drives beneath, by file system type.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::drive::Udev;
use super::mountinfo::{Mount, parse_device};
use super::sysfs::{Btrfs, Leaves, attribute};
use super::{Location, Topology};

/// What is beneath a mount: drives, or the key of something else.
#[derive(Debug, Default)]
struct Beneath {
    leaves: Leaves,
    unit: Option<String>,
}

impl Topology {
    /// Returns what is beneath a mount, from the recorded tables alone.
    pub fn locate_mount(&self, mount: &Mount) -> Location {
        let beneath = self.beneath(mount, &mut Vec::new());
        let drives: Vec<_> = beneath.leaves.into_values().collect();
        let unit = match (drives.is_empty(), beneath.unit) {
            (false, _) => String::new(),
            (true, Some(unit)) => unit,
            (true, None) => unit_by_device(mount),
        };
        Location {
            mount: mount.clone(),
            drives,
            unit,
            uuid: self.uuid(mount),
        }
    }

    /// Returns the UUID of a mount's file system, as sysfs or udev's records tell it.
    fn uuid(&self, mount: &Mount) -> Option<String> {
        let first = mount.source.split(|&byte| byte == b':').next()?;
        let device = if mount.device.0 != 0 {
            mount.device
        } else {
            let node = self.block_of_source(first);
            if mount.fs == "btrfs"
                && let Some(btrfs) = self.sysfs.btrfs(first, node.as_deref())
            {
                return Some(btrfs.uuid);
            }
            parse_device(&attribute(&node?, "dev")?)?
        };
        Udev::read(&self.sysfs, device).property("ID_FS_UUID")
    }

    /// `seen` holds the mounts being resolved, so that an overlay whose layers lie on itself ends.
    fn beneath(&self, mount: &Mount, seen: &mut Vec<u64>) -> Beneath {
        if seen.contains(&mount.id) {
            return Beneath::default();
        }
        seen.push(mount.id);
        if mount.device.0 != 0
            && let Some(node) = self.sysfs.block(mount.device)
        {
            return Beneath {
                leaves: self.sysfs.leaves(&node),
                unit: None,
            };
        }
        let source = readable(&mount.source);
        let unit = match mount.fs.as_str() {
            "btrfs" => return self.beneath_btrfs(mount),
            "overlay" => return self.beneath_overlay(mount, seen),
            "bcachefs" | "fuseblk" => return self.beneath_sources(mount),
            "nfs" | "nfs4" => format!("nfs:{source}"),
            "cifs" | "smb3" => format!("cifs:{source}"),
            // Not BeeGFS: its source is the same word for all.
            "9p" | "virtiofs" | "ceph" | "afs" | "lustre" | "gpfs" | "pvfs2" | "vboxsf" => {
                format!("{}:{source}", mount.fs)
            }
            "zfs" => format!(
                "zfs:{}",
                source.split(['/', '@']).next().unwrap_or_default()
            ),
            fs if fs == "fuse" || fs.starts_with("fuse.") => format!("fuse:{source}"),
            _ => unit_by_device(mount),
        };
        Beneath {
            leaves: Leaves::new(),
            unit: Some(unit),
        }
    }

    /// Returns the btrfs file system that is mounted there; `None` of another type.
    pub(super) fn btrfs_of(&self, mount: &Mount) -> Option<Btrfs> {
        if mount.fs != "btrfs" {
            return None;
        }
        let node = self.block_of_source(&mount.source);
        self.sysfs.btrfs(&mount.source, node.as_deref())
    }

    /// The mount names one device; sysfs lists all of the file system's.
    fn beneath_btrfs(&self, mount: &Mount) -> Beneath {
        let devices = match self.btrfs_of(mount) {
            Some(btrfs) => btrfs.devices,
            None => self.block_of_source(&mount.source).into_iter().collect(),
        };
        let mut beneath = Beneath {
            leaves: Leaves::new(),
            unit: Some(format!("btrfs:{}", readable(&mount.source))),
        };
        for device in devices {
            beneath.leaves.extend(self.sysfs.leaves(&device));
        }
        beneath
    }

    /// The mount's source is the device, or several joined with colons (bcachefs).
    fn beneath_sources(&self, mount: &Mount) -> Beneath {
        let mut beneath = Beneath {
            leaves: Leaves::new(),
            unit: Some(format!("{}:{}", mount.fs, readable(&mount.source))),
        };
        for source in mount.source.split(|&byte| byte == b':') {
            if let Some(node) = self.block_of_source(source) {
                beneath.leaves.extend(self.sysfs.leaves(&node));
            }
        }
        beneath
    }

    /// The upper layer, where all writes and every changed file are; without one, the lower
    /// layers.
    fn beneath_overlay(&self, mount: &Mount, seen: &mut Vec<u64>) -> Beneath {
        let mut beneath = Beneath::default();
        for layer in overlay_layers(mount) {
            let Some(below) = self.mount_by_prefix(&layer) else {
                continue;
            };
            let below = below.clone();
            let part = self.beneath(&below, seen);
            beneath.leaves.extend(part.leaves);
            beneath.unit = beneath.unit.or(part.unit);
        }
        beneath
    }

    /// Returns the mount a layer's path seems to be in: the one with the longest mount point that
    /// leads to it, the last mounted where several are at one point.
    ///
    /// By prefix, because the path is all there is: it was resolved when the overlay was mounted,
    /// perhaps in another namespace or beneath a later mount, and must not be walked now. A wrong
    /// guess here costs speed only.
    pub(super) fn mount_by_prefix(&self, path: &Path) -> Option<&Mount> {
        self.mounts
            .iter()
            .filter(|mount| path.is_absolute() && path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
    }

    /// Returns the mounts that a path without symbolic links may be in, by the table alone: nothing is
    /// asked there. First the one that it is in, if none of those after it covers that: what was
    /// mounted later, further up. None of a relative path.
    pub fn mounts_above(&self, path: &Path) -> Vec<&Mount> {
        let above = self.mounts.iter().enumerate();
        let above = above.filter(|(_, mount)| path.starts_with(&mount.point));
        // Of those at one place the last one covers the others.
        let deepest = above
            .clone()
            .max_by_key(|(_, mount)| mount.point.components().count());
        let Some((place, deepest)) = deepest else {
            return Vec::new();
        };
        let later = above.filter(|(other, _)| *other > place);
        std::iter::once(deepest)
            .chain(later.map(|(_, mount)| mount))
            .collect()
    }

    /// Returns the sysfs directory of the block device a mount names as its source.
    fn block_of_source(&self, source: &[u8]) -> Option<PathBuf> {
        self.block_of_live_node(source)
            .or_else(|| self.sysfs.block_by_path(source))
    }

    /// Asks `/dev` which device a path is: the only way for `/dev/vg/lv` and `/dev/disk/by-*`.
    fn block_of_live_node(&self, source: &[u8]) -> Option<PathBuf> {
        if !self.live || !source.starts_with(b"/dev/") {
            return None;
        }
        let stat = rustix::fs::stat(OsStr::from_bytes(source)).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return None;
        }
        let device = stat.st_rdev;
        self.sysfs
            .block((rustix::fs::major(device), rustix::fs::minor(device)))
    }
}

/// Returns the directories an overlay's files are in.
fn overlay_layers(mount: &Mount) -> Vec<PathBuf> {
    let path = |bytes: Vec<u8>| PathBuf::from(OsStr::from_bytes(&bytes));
    if let Some(upper) = mount.option_values("upperdir").into_iter().next() {
        return vec![path(unescape_layer(&upper))];
    }
    let mut layers: Vec<PathBuf> = mount
        .option_values("lowerdir")
        .iter()
        .flat_map(|value| split_layers(value))
        .map(path)
        .collect();
    // The newer way of mounting (since 6.5) gives one option for each layer, nothing escaped.
    layers.extend(mount.option_values("lowerdir+").into_iter().map(path));
    layers.extend(mount.option_values("datadir+").into_iter().map(path));
    layers
}

/// Splits `lowerdir` at its colons; `\:` is a colon in a name, `::` sets data layers apart.
fn split_layers(value: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = vec![Vec::new()];
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, layers.last_mut()) {
            (b':', _) => layers.push(Vec::new()),
            (b'\\', Some(layer)) => layer.extend(bytes.next()),
            (_, Some(layer)) => layer.push(byte),
            (_, None) => {}
        }
    }
    layers.retain(|layer| !layer.is_empty());
    layers
}

fn unescape_layer(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            plain.extend(bytes.next());
        } else {
            plain.push(byte);
        }
    }
    plain
}

/// The key of a file system known by its number only: the same for all mounts of it.
fn unit_by_device(mount: &Mount) -> String {
    let (major, minor) = mount.device;
    format!("{}:{major}:{minor}", mount.fs)
}

/// Text for a key. Bytes outside UTF-8 are escaped, not replaced: two sources that differ only
/// there must not become one.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::recorded::{ATA, ATA_B, ATA_C, with_sata_disks};

    #[test]
    fn layers_split_at_bare_colons_only() {
        assert_eq!(
            split_layers(br"/a:/b\:c::/d\\e"),
            [b"/a".to_vec(), b"/b:c".to_vec(), br"/d\e".to_vec()]
        );
        assert_eq!(split_layers(b""), Vec::<Vec<u8>>::new());
        assert_eq!(unescape_layer(br"/u\:1"), b"/u:1");
    }

    #[test]
    fn sources_that_differ_outside_utf8_stay_different() {
        assert_eq!(readable(b"host:/\xc3\xa9"), "host:/\u{e9}");
        assert_eq!(readable(b"host:/\xff"), r"host:/\xff");
    }

    #[test]
    fn btrfs_is_on_all_devices_of_the_file_system_its_source_belongs_to() {
        let machine = with_sata_disks();
        let locked = machine.stacked("dm-7", "253:7", "CRYPT-x", &[&format!("{ATA}/sda2")]);
        machine.attr(&locked, "dm/name", "vault\n");
        machine
            .btrfs(
                "1111-aaaa",
                &[&format!("{ATA_C}/sdc1"), &format!("{ATA_B}/sdb1")],
            )
            .btrfs("2222-bbbb", &[&locked, &format!("{ATA_C}/sdc2")]);
        let table = "40 1 0:40 /@ /a rw - btrfs /dev/sdb1 rw,subvol=/@\n\
            41 1 0:44 / /b rw - btrfs /dev/mapper/vault rw\n\
            42 1 0:46 / /c rw - btrfs /dev/sda1 rw\n\
            43 1 0:48 / /d rw - btrfs /dev/vg/unheard rw\n";
        assert_eq!(
            machine.names(table),
            // The third is not registered in fs/btrfs: its source is all that is known.
            ["sdb+sdc", "sda+sdc", "sda", "btrfs:/dev/vg/unheard"]
        );
    }

    #[test]
    fn an_overlay_is_where_its_upper_layer_is() {
        let machine = with_sata_disks();
        let table = "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            31 1 8:17 / /up rw - ext4 /dev/sdb1 rw\n\
            32 1 8:33 / /up/deeper rw - ext4 /dev/sdc1 rw\n\
            33 1 0:50 / /o1 rw - overlay overlay rw,lowerdir=/l,upperdir=/up/deeper/u,workdir=/w\n\
            34 1 0:51 / /o2 rw - overlay overlay rw,lowerdir=/l,upperdir=/upper/u,workdir=/w\n\
            35 1 0:52 / /o3 ro - overlay overlay ro,lowerdir=/up/a:/l\n\
            36 1 0:53 / /o4 ro - overlay overlay ro,lowerdir+=/up/a,datadir+=/up/deeper/b\n\
            37 1 0:54 / /o5 rw - overlay overlay rw,lowerdir=l,upperdir=relative/u\n\
            38 1 0:55 / /o6 rw - overlay overlay rw,upperdir=/o1/u\n\
            39 1 0:56 / /o7 rw - overlay overlay rw,upperdir=/o7/u\n\
            40 1 0:57 / /tmp rw - tmpfs tmpfs rw\n\
            41 1 0:58 / /o8 rw - overlay overlay rw,upperdir=/tmp/u\n";
        assert_eq!(
            machine.names(table)[3..],
            [
                "sdc",          // the longest mount point, at a component's end
                "sda",          // /upper is not in /up
                "sda+sdb",      // no upper layer: all lower ones
                "sdb+sdc",      // the same, in the newer spelling
                "overlay:0:54", // relative to a directory nobody knows
                "sdc",          // through another overlay
                "overlay:0:56", // on itself
                "tmpfs:0:57",
                "tmpfs:0:57", // shares what its layer is on
            ]
        );
    }

    #[test]
    fn the_later_of_two_mounts_at_one_point_counts() {
        let machine = with_sata_disks();
        let table = "30 1 8:1 / /up rw - ext4 /dev/sda1 rw\n\
            31 30 8:17 / /up rw - ext4 /dev/sdb1 rw\n\
            32 1 0:50 / /o rw - overlay overlay rw,upperdir=/up/u\n";
        assert_eq!(machine.names(table)[2], "sdb");
    }

    #[test]
    fn what_has_no_drive_has_a_unit() {
        let table = "30 1 0:50 / /a rw - nfs4 server:/export rw,vers=4.2\n\
            31 1 0:51 / /b rw - tmpfs tmpfs rw\n\
            32 1 0:52 / /c rw - cifs //server/share rw\n\
            33 1 0:53 / /d rw - virtiofs shared rw\n\
            34 1 0:54 / /e rw - 9p host rw\n\
            35 1 0:55 / /f rw - fuse.sshfs me@host:/x rw\n\
            36 1 0:56 / /g rw - zfs tank/photos/2024 rw\n\
            37 1 0:57 / /h rw - nfs server:/export rw\n\
            38 1 8:99 / /i rw - ext4 /dev/sdx rw\n\
            39 1 0:58 / /j rw - tmpfs /dev/sda1 rw\n";
        let machine = with_sata_disks();
        assert_eq!(
            machine.names(table),
            [
                "nfs:server:/export",
                "tmpfs:0:51",
                "cifs://server/share",
                "virtiofs:shared",
                "9p:host",
                "fuse:me@host:/x",
                "zfs:tank",
                "nfs:server:/export",
                "ext4:8:99",  // a device this sysfs does not show
                "tmpfs:0:58", // its source is only what somebody typed
            ]
        );
        let locations = machine.locate(table);
        assert!(locations.iter().all(|l| l.drives.is_empty()));
        assert_eq!(
            locations[0].keys().collect::<Vec<_>>(),
            ["nfs:server:/export"]
        );
    }

    #[test]
    fn fuse_on_a_device_is_on_its_drive() {
        let machine = with_sata_disks();
        let table =
            "30 1 8:18 / /a rw - fuseblk /dev/sdb2 rw\n31 1 0:60 / /b rw - fuseblk /dev/sdb1 rw\n";
        assert_eq!(machine.names(table), ["sdb", "sdb"]);
    }
}
