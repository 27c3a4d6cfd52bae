//! Sources that are left out of a run: which drives they may be on, so that none of those is called
//! safe.
//!
//! All of it is from the mount table, and from what was told on the way: nothing is asked of them.

use std::collections::HashSet;
use std::path::Path;

use crate::error::Error;
use crate::journal::Identity;
use crate::plan::{LanePlan, Trail};
use crate::topology::{Drive, Location, Topology, Transport};

/// A source that is left out of a run.
#[derive(Debug)]
pub struct LeftOut {
    pub(super) error: Error,
    /// Where it may be; `None` when that cannot be told.
    pub(super) on: Option<On>,
}

impl LeftOut {
    /// Returns the source, as it was typed.
    pub fn path(&self) -> &Path {
        self.error.path()
    }

    /// Returns the lanes that have a source on its drive; `None` when that may be any. `identities` are
    /// those of the sources of all lanes, in the order of the sources.
    pub(super) fn lanes(&self, lanes: &[LanePlan], identities: &[Identity]) -> Option<Vec<usize>> {
        let on = self.on.as_ref()?;
        on.among(lanes.iter().map(|plan| {
            let places = plan.fs.iter().map(|(_, location)| location);
            let known = plan.trees.iter();
            let known = known.filter_map(|tree| identities.get(tree.index));
            (places.collect(), known.collect())
        }))
    }
}

/// Where a source may be: what is not empty tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct On {
    /// As [`Location::keys`], of today.
    keys: HashSet<String>,
    /// UUID of its file system.
    uuid: Option<Vec<u8>>,
    /// Serial number of its drive.
    serial: Option<String>,
}

/// File systems whose files lie on others, and those that are mounted when they are entered.
const OVER_OTHERS: [&str; 5] = ["overlay", "aufs", "unionfs", "ecryptfs", "autofs"];
/// FUSE file systems whose files are on another machine. Any other may show what is on any drive here.
pub(super) const REMOTE: [&str; 4] = ["fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs"];

/// File systems of several drives, without a number that is the device's.
const POOLS: [&str; 3] = ["btrfs", "bcachefs", "zfs"];

impl On {
    /// Returns where a look at a source came to; `None` where that may be on any drive.
    pub(super) fn at(topology: &Topology, trail: &Trail) -> Option<Self> {
        let asked = topology.mounts_above(&trail.at);
        // What follows was not asked: it may lead into another mount.
        let whole = trail.at.join(&trail.rest);
        let meant = topology.mounts_above(&whole);
        if asked.is_empty() {
            return None;
        }
        let mut on = Self::default();
        for mount in asked.into_iter().chain(meant) {
            let location = topology.locate_mount(mount);
            if !tells(&location) {
                return None;
            }
            on.keys.extend(blamed(topology, location));
        }
        Some(on)
    }

    /// Returns where a source is that was recorded as this; `None` when nothing of it is unique.
    pub(super) fn of(recorded: &Identity) -> Option<Self> {
        let uuid = recorded.fs_uuid.as_deref();
        Self::known(HashSet::new(), uuid, recorded.serial.clone())
    }

    /// Returns where a source is of which this is known; `None` when it is nothing.
    pub(super) fn known(
        keys: HashSet<String>,
        uuid: Option<&[u8]>,
        serial: Option<String>,
    ) -> Option<Self> {
        let uuid = uuid.map(whole_fs);
        let is_known = !keys.is_empty() || uuid.is_some() || serial.is_some();
        is_known.then_some(Self { keys, uuid, serial })
    }

    /// Returns those lanes it may be on, each given as where its sources are and what they are; `None`
    /// when that may be any.
    fn among<'l>(
        &self,
        lanes: impl Iterator<Item = (Vec<&'l Location>, Vec<&'l Identity>)>,
    ) -> Option<Vec<usize>> {
        let may_be_it = |places: &[&Location], known: &[&Identity]| {
            places.iter().any(|place| self.may_be_at(place))
                || known.iter().any(|known| self.is_on(known))
        };
        let lanes = (0..).zip(lanes);
        let lanes = lanes.filter(|(_, (places, known))| may_be_it(places, known));
        let lanes: Vec<usize> = lanes.map(|(lane, _)| lane).collect();
        // A UUID tells its file system only. That none here has it says nothing of the drives: another
        // part of one of them may.
        let is_told = !self.keys.is_empty() || self.serial.is_some() || !lanes.is_empty();
        is_told.then_some(lanes)
    }

    fn may_be_at(&self, place: &Location) -> bool {
        if !self.keys.is_empty() {
            return place.keys().any(|key| self.keys.contains(&key));
        }
        let may_be = |drive: &Drive| match &drive.serial {
            Some(serial) => self.serial.as_ref() == Some(serial),
            None => drive.transport != Transport::Loop,
        };
        self.serial.is_some() && (!tells(place) || place.drives.iter().any(may_be))
    }

    fn is_on(&self, known: &Identity) -> bool {
        let uuid = known.fs_uuid.as_deref().map(whole_fs);
        let has_its_uuid = uuid.is_some() && uuid == self.uuid;
        has_its_uuid || (known.serial.is_some() && known.serial == self.serial)
    }
}

/// Returns the keys of what a location is on, and of what the images of its loop devices are on: whoever
/// takes that drive away takes them, too. An image on what has no drive counts with its unit alone.
pub(super) fn blamed(topology: &Topology, location: Location) -> HashSet<String> {
    let mut keys = HashSet::new();
    let mut open = vec![location];
    while let Some(location) = open.pop() {
        let known = keys.len();
        keys.extend(location.keys());
        if keys.len() == known {
            continue;
        }
        let images = location.drives.iter();
        for image in images.filter_map(|drive| drive.backing.as_ref()) {
            let mounts = topology.mounts_above(image).into_iter();
            open.extend(mounts.map(|mount| topology.locate_mount(mount)));
        }
    }
    keys
}

/// Returns the UUID of a whole file system, of which a subvolume may be known.
pub(super) fn whole_fs(uuid: &[u8]) -> Vec<u8> {
    let end = uuid.iter().position(|&byte| byte == b'/');
    uuid.get(..end.unwrap_or(uuid.len()))
        .unwrap_or_default()
        .to_vec()
}

/// Returns whether what is known of a mount says on which drives its files are not.
pub(super) fn tells(location: &Location) -> bool {
    let fs = location.mount.fs.as_str();
    let is_local_fuse = fs.starts_with("fuse") && !REMOTE.contains(&fs);
    // On one of the drives here, even if sysfs does not show it any more, or under this number.
    let is_on_drives = location.mount.device.0 != 0 || is_local_fuse || POOLS.contains(&fs);
    !OVER_OTHERS.contains(&fs)
        && location.keys().next().is_some()
        && !(is_on_drives && location.drives.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const TABLE: &[u8] = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 20 8:17 / /mnt/x rw - ext4 /dev/sdb1 rw\n\
        31 30 8:33 / /mnt/x/b/sub rw - xfs /dev/sdc1 rw\n\
        32 20 0:50 / /mnt/far rw - fuse.sshfs me@host:/ rw\n\
        33 20 0:51 / /mnt/pool rw - fuse.mergerfs a:b rw\n\
        34 20 0:52 / /mnt/over rw - overlay overlay rw\n\
        35 20 8:49 / /mnt/hidden/deep rw - ext4 /dev/sdd1 rw\n\
        36 20 8:65 / /mnt/hidden rw - ext4 /dev/sde1 rw\n\
        37 20 8:81 / /mnt/gone rw - ext4 /dev/sdf1 rw\n\
        38 20 0:53 / /mnt/many rw - btrfs /dev/sdf2 rw\n\
        39 20 0:54 / /mnt/tank rw - zfs tank rw\n\
        40 20 7:0 / /mnt/image rw - ext4 /dev/loop0 rw\n";

    fn trail(at: &str, rest: &str) -> Trail {
        Trail {
            at: at.into(),
            rest: rest.into(),
            uuid: None,
        }
    }

    /// A machine with the partition 1 of each of the drives `sda` to `sde`, and an image on `sdc`.
    fn machine(table: &[u8]) -> (Topology, TempDir) {
        let sysfs = tempfile::tempdir().unwrap();
        let numbers = sysfs.path().join("dev/block");
        std::fs::create_dir_all(&numbers).unwrap();
        for (letter, minor) in [("a", 1), ("b", 17), ("c", 33), ("d", 49), ("e", 65)] {
            let part = format!("devices/sd{letter}/sd{letter}1");
            let dir = sysfs.path().join(&part);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("partition"), "1\n").unwrap();
            let link = numbers.join(format!("8:{minor}"));
            symlink(Path::new("../..").join(part), link).unwrap();
        }
        let image = sysfs.path().join("devices/loop0/loop");
        std::fs::create_dir_all(&image).unwrap();
        std::fs::write(image.join("backing_file"), "/mnt/x/b/sub/disk\n").unwrap();
        symlink("../../devices/loop0", numbers.join("7:0")).unwrap();
        (Topology::with_roots(sysfs.path(), table), sysfs)
    }

    #[test]
    fn a_source_is_where_it_was_asked_for_and_may_be_where_it_leads() {
        let (topology, _sysfs) = machine(TABLE);
        let keys = |at: &str, rest: &str| {
            let on = On::at(&topology, &trail(at, rest))?;
            let mut keys: Vec<String> = on.keys.into_iter().collect();
            keys.sort();
            Some(keys.join(" "))
        };
        let known = |keys: &str| Some(keys.to_owned());
        assert_eq!(keys("/mnt/x/a", ""), known("sdb"));
        assert_eq!(keys("/mnt/xa", ""), known("sda"));
        assert_eq!(keys("/mnt/x/b", "sub/c"), known("sdb sdc"));
        assert_eq!(keys("/mnt/far/c", ""), known("fuse:me@host:/"));
        // What is mounted over others may be on any of them.
        assert_eq!(keys("/mnt/pool/c", ""), None);
        assert_eq!(keys("/mnt/over/c", ""), None);
        assert_eq!(keys("", ""), None);
        // A mount that a later one covers.
        assert_eq!(keys("/mnt/hidden/deep/c", ""), known("sdd sde"));
        assert_eq!(keys("/mnt/image/c", ""), known("loop0 sdc"));
        // What was on a drive that is not to be seen any more may have been on any.
        assert_eq!(keys("/mnt/gone/c", ""), None);
        assert_eq!(keys("/mnt/many/c", ""), None);
        assert_eq!(keys("/mnt/tank/c", ""), None);
    }

    #[test]
    fn what_is_recorded_is_on_the_drive_with_its_uuid_or_serial_number() {
        let identity = |uuid: Option<&str>, serial: Option<&str>| Identity {
            fs_uuid: uuid.map(|uuid| uuid.as_bytes().to_vec()),
            serial: serial.map(str::to_owned),
            ..Identity::default()
        };
        assert_eq!(On::of(&identity(None, None)), None);
        let on = On::of(&identity(Some("U/5"), None)).unwrap();
        assert!(on.is_on(&identity(Some("U/6"), Some("S"))), "a subvolume");
        assert!(!on.is_on(&identity(Some("V"), None)));
        assert!(!on.is_on(&identity(None, None)));
        let on = On::of(&identity(Some("U"), Some("S"))).unwrap();
        assert!(on.is_on(&identity(Some("V"), Some("S"))), "a partition");
        assert!(!on.is_on(&identity(Some("V"), Some("T"))));
    }

    #[test]
    fn no_lane_is_safe_where_nothing_tells_them_apart() {
        let (topology, _sysfs) = machine(TABLE);
        let place = |point: &str, serial: Option<&str>| {
            let mount = topology.mounts_above(Path::new(point))[0];
            let mut location = topology.locate_mount(mount);
            for drive in &mut location.drives {
                drive.serial = serial.map(str::to_owned);
            }
            location
        };
        let identity = |uuid: &str| Identity {
            fs_uuid: Some(uuid.into()),
            ..Identity::default()
        };
        // The drives of three lanes, the last with no serial number, and a server.
        let places = [
            place("/mnt/x", Some("S")),
            place("/mnt/x/b/sub", Some("T")),
            place("/", None),
            place("/mnt/far", None),
        ];
        let known = ["U", "V", "W", "X"].map(identity);
        let among = |keys: &[&str], uuid: Option<&str>, serial: Option<&str>| {
            let keys = keys.iter().map(|&key| key.to_owned()).collect();
            let on = On::known(keys, uuid.map(str::as_bytes), serial.map(str::to_owned));
            on.unwrap().among(
                places
                    .iter()
                    .zip(&known)
                    .map(|(at, it)| (vec![at], vec![it])),
            )
        };
        assert_eq!(among(&["sdb"], None, None), Some(vec![0]));
        assert_eq!(among(&["sdz"], None, None), Some(vec![]));
        assert_eq!(among(&[], Some("V"), None), Some(vec![1]));
        // Another file system of one of these drives, for all that is known.
        assert_eq!(among(&[], Some("Z"), None), None);
        // A drive without a serial number may have any.
        assert_eq!(among(&[], None, Some("S")), Some(vec![0, 2]));
        assert_eq!(among(&[], Some("Z"), Some("R")), Some(vec![2]));
    }
}
