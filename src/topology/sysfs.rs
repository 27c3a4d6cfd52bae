//! The block device tree in sysfs: from any block device down to the drives beneath it.
//!
//! An attribute or link that cannot be read counts as absent. Devices come and go while we look,
//! and a container may show part of the tree only.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::drive::{Drive, is_numbered};

/// Drives by name.
pub(super) type Leaves = BTreeMap<String, Drive>;

/// A btrfs file system.
#[derive(Debug)]
pub(super) struct Btrfs {
    /// Its UUID, as the kernel writes it.
    pub(super) uuid: String,
    /// The canonical directories of its devices.
    pub(super) devices: Vec<PathBuf>,
}

/// Where sysfs and the udev database are.
#[derive(Debug, Clone)]
pub(super) struct Sysfs {
    root: PathBuf,
    udev: Option<PathBuf>,
}

impl Sysfs {
    /// Returns a view of the tree at `root`, without a udev database.
    pub(super) fn new(root: &Path) -> Self {
        // Canonical, because places are told by stripping it from canonical paths.
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Self { root, udev: None }
    }

    /// Adds the directory of udev's records (`b8:0`, ...).
    pub(super) fn with_udev(mut self, dir: &Path) -> Self {
        self.udev = Some(dir.to_owned());
        self
    }

    /// Returns the directory of udev's records.
    pub(super) fn udev(&self) -> Option<&Path> {
        self.udev.as_deref()
    }

    /// Returns a canonical directory relative to the root: `devices/...`.
    pub(super) fn place<'a>(&self, node: &'a Path) -> &'a Path {
        node.strip_prefix(&self.root).unwrap_or(node)
    }

    /// Returns the canonical directory of a block device by its numbers.
    pub(super) fn block(&self, (major, minor): (u32, u32)) -> Option<PathBuf> {
        let link = self.root.join(format!("dev/block/{major}:{minor}"));
        std::fs::canonicalize(link).ok()
    }

    /// Returns the canonical directories of all block devices that are whole, sorted by name.
    /// Paths that native multipath hides behind their namespace are left out, and so are the boot areas
    /// of eMMC, which are below their drive; what else is there (`gp0`) holds data. Source:
    /// drivers/mmc/core/block.c, `mmc_blk_alloc_part`.
    pub(super) fn disks(&self) -> Vec<PathBuf> {
        let nodes = linked(&self.root.join("class/block"));
        let all: BTreeSet<&Path> = nodes.iter().map(|(_, node)| node.as_path()).collect();
        let is_boot_area = |node: &Path| {
            let above = node.parent().filter(|above| all.contains(above));
            let (own, above) = (device_name(node), above.map(device_name));
            let area = above.as_deref().and_then(|above| own.strip_prefix(above));
            area.is_some_and(|area| is_numbered(area, "boot") || area == "rpmb")
        };
        nodes
            .iter()
            .map(|(_, node)| node)
            .filter(|node| !node.join("partition").exists() && !is_boot_area(node))
            .filter(|node| attribute(node, "hidden").as_deref() != Some("1"))
            .cloned()
            .collect()
    }

    /// Returns a directory of the tree by its path from the root.
    pub(super) fn dir(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the canonical directory of a block device by its path in `/dev`, without looking
    /// in `/dev`: kernel names and device mapper names only.
    pub(super) fn block_by_path(&self, path: &[u8]) -> Option<PathBuf> {
        let class = self.root.join("class/block");
        if let Some(wanted) = path.strip_prefix(b"/dev/mapper/") {
            return names(&class)
                .into_iter()
                .map(|name| class.join(name))
                .find(|node| mapper_name(node).is_some_and(|name| name == wanted))
                .and_then(|node| std::fs::canonicalize(node).ok());
        }
        let name = kernel_name(path)?;
        std::fs::canonicalize(class.join(OsStr::from_bytes(&name))).ok()
    }

    /// Returns the btrfs file system, if it is mounted, that has a device with this path or this
    /// directory.
    pub(super) fn btrfs(&self, path: &[u8], node: Option<&Path>) -> Option<Btrfs> {
        let kernel_name = kernel_name(path);
        let base = self.root.join("fs/btrfs");
        names(&base)
            .into_iter()
            .map(|uuid| (linked(&base.join(&uuid).join("devices")), uuid))
            .find(|(devices, _)| {
                devices.iter().any(|(name, device)| {
                    kernel_name.as_deref() == Some(name.as_bytes()) || node == Some(device)
                })
            })
            .map(|(devices, uuid)| Btrfs {
                uuid: uuid.to_string_lossy().into_owned(),
                devices: devices.into_iter().map(|(_, device)| device).collect(),
            })
    }

    /// Returns the drives beneath a block device; at least one.
    pub(super) fn leaves(&self, node: &Path) -> Leaves {
        let mut seen = BTreeSet::new();
        let mut disks = BTreeSet::new();
        descend(node, &mut seen, &mut disks);
        if disks.is_empty() {
            // Nothing but a cycle: the device itself is all there is to name.
            disks.insert(whole_disk(node).to_owned());
        }
        disks
            .iter()
            .map(|disk| Drive::read(self, disk))
            .map(|drive| (drive.name.clone(), drive))
            .collect()
    }
}

/// Walks from a block device to the disks beneath. `seen` ends cycles and walks a shared lower
/// device once.
fn descend(node: &Path, seen: &mut BTreeSet<PathBuf>, disks: &mut BTreeSet<PathBuf>) {
    let disk = whole_disk(node);
    if !seen.insert(disk.to_owned()) {
        return;
    }
    let mut lower = linked(&disk.join("slaves"));
    if is_multipath(disk) {
        // The paths are one drive seen over several cables. The first stands for it; nobody else
        // can claim the others while the map holds them, so no sharing goes unseen.
        lower.truncate(1);
    }
    if lower.is_empty() {
        disks.insert(disk.to_owned());
    }
    for (_, device) in lower {
        descend(&device, seen, disks);
    }
}

/// Returns the disk of a partition (its parent directory), or the device itself.
pub(super) fn whole_disk(node: &Path) -> &Path {
    match node.parent() {
        Some(parent) if node.join("partition").exists() => parent,
        _ => node,
    }
}

/// Whether a device mapper device joins several paths to one drive.
pub(super) fn is_multipath(disk: &Path) -> bool {
    attribute(disk, "dm/uuid").is_some_and(|uuid| uuid.starts_with("mpath-"))
}

fn mapper_name(node: &Path) -> Option<Vec<u8>> {
    let mut name = attribute_bytes(node, "dm/name")?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    Some(name)
}

/// Returns the name sysfs gives to `/dev/NAME`: slashes become exclamation marks there.
fn kernel_name(path: &[u8]) -> Option<Vec<u8>> {
    let name = path.strip_prefix(b"/dev/").filter(|name| {
        !name.is_empty()
            && name
                .split(|&byte| byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."))
    })?;
    Some(
        name.iter()
            .map(|&byte| if byte == b'/' { b'!' } else { byte })
            .collect(),
    )
}

/// Returns a block device's name as people write it (`cciss/c0d0`).
pub(super) fn device_name(disk: &Path) -> String {
    disk.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace('!', "/")
}

/// Returns the names in a directory, sorted; none when it cannot be read.
pub(super) fn names(dir: &Path) -> Vec<OsString> {
    let mut found: Vec<OsString> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    found.sort();
    found
}

/// Returns the links in a directory, sorted by name, with the directory each leads to.
pub(super) fn linked(dir: &Path) -> Vec<(OsString, PathBuf)> {
    names(dir)
        .into_iter()
        .filter_map(|name| {
            let target = std::fs::canonicalize(dir.join(&name)).ok()?;
            Some((name, target))
        })
        .collect()
}

/// Returns an attribute's text without the blanks around it; `None` when it cannot be read.
pub(super) fn attribute(dir: &Path, name: &str) -> Option<String> {
    let bytes = attribute_bytes(dir, name)?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Returns an attribute's bytes; `None` when it cannot be read.
pub(super) fn attribute_bytes(dir: &Path, name: &str) -> Option<Vec<u8>> {
    std::fs::read(dir.join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_dev_become_names_in_sysfs() {
        assert_eq!(kernel_name(b"/dev/sda1").as_deref(), Some(&b"sda1"[..]));
        assert_eq!(
            kernel_name(b"/dev/cciss/c0d0").as_deref(),
            Some(&b"cciss!c0d0"[..])
        );
        for stray in [&b"/dev/"[..], b"/dev/..", b"/dev/a//b", b"sda1", b"tank/x"] {
            assert_eq!(kernel_name(stray), None, "{}", stray.escape_ascii());
        }
        assert_eq!(
            device_name(Path::new("/sys/block/cciss!c0d0")),
            "cciss/c0d0"
        );
    }
}
