//! What was mounted where a source is that was left out, so that an empty folder is not taken for its
//! return.
//!
//! All of it is from the mount table, and from what was told on the way: nothing is asked of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::left_out::{On, blamed, tells};
use super::recipe::Bytes;
use crate::plan::{Trail, serial};
use crate::topology::{Mount, Topology};

/// What the mount table says of the place where a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mounted {
    /// Major and minor number.
    device: (u32, u32),
    fs: String,
    source: Bytes,
    /// Which folder of the file system is mounted, and where.
    root: Bytes,
    point: Bytes,
    uuid: Option<String>,
    /// Path of the source in the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<Bytes>,
    /// Serial number of its drive, if that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    /// Whether this is a folder of the file system that the mount point is in.
    #[serde(skip)]
    is_of_around: bool,
}

/// What waits at a mount point until it is entered. Source: autofs(5).
const AUTOFS: &str = "autofs";

impl Mounted {
    /// Returns what is mounted where a look at a source led to.
    pub(super) fn at(topology: &Topology, trail: &Trail) -> Option<Self> {
        let path = trail.at.join(&trail.rest);
        let mount = topology.mounts_above(&path).into_iter().next()?;
        let told = trail.uuid.clone();
        let told = told.filter(|(device, _)| *device == mount.device);
        let around = mount
            .point
            .parent()
            .map(|above| topology.mounts_above(above));
        let around = around.and_then(|mounts| mounts.into_iter().next());
        let location = topology.locate_mount(mount);
        let inside = path.strip_prefix(&mount.point).ok().map(|inside| {
            let root = Path::new(OsStr::from_bytes(&mount.root));
            let whole: PathBuf = root.join(inside).components().collect();
            Bytes::of(whole.as_os_str().as_bytes())
        });
        Some(Self {
            inside,
            serial: tells(&location).then(|| serial(&location)).flatten(),
            is_of_around: around.is_some_and(|around| around.device == mount.device),
            device: mount.device,
            fs: mount.fs.clone(),
            source: Bytes::of(&mount.source),
            root: Bytes::of(&mount.root),
            point: Bytes::of(mount.point.as_os_str().as_bytes()),
            uuid: told.map(|(_, uuid)| uuid).or(location.uuid),
        })
    }

    /// Checks that what is mounted `now` is the same, as far as that can be told: of a file system of
    /// which no UUID was known, one of its type on a device is; of what waited to be mounted when it
    /// is entered, whatever is mounted there by now.
    ///
    /// # Errors
    /// What is there instead, as a clause.
    pub(super) fn check(&self, now: Option<&Self>) -> Result<(), String> {
        let (fs, point) = (&self.fs, self.point.shown());
        let Some(now) = now else {
            return Err("what is mounted there cannot be told".to_owned());
        };
        if self.fs == AUTOFS {
            let is_there = now.fs != AUTOFS && !now.is_of_around && now.is_below(self);
            let nothing = || format!("nothing was mounted at {point} when it was entered");
            return is_there.then_some(()).ok_or_else(nothing);
        }
        if (&now.point, &now.root) != (&self.point, &self.root) {
            return Err(format!("the {fs} at {point} is not mounted there now"));
        }
        let has_source = now.source == self.source;
        // Numbers of what has no device of its own are handed out anew each time.
        let has_none = (now.device.0, self.device.0) == (0, 0);
        let is_as_it_was = has_source && (now.device == self.device || has_none);
        let is_same = match (&self.uuid, &now.uuid) {
            (Some(was), Some(is)) => was == is,
            (Some(_), None) => is_as_it_was,
            // A drive that is connected again has another device. Source: FAT, exFAT and NTFS tell the
            // kernel no UUID, and udev's record goes with the device.
            (None, _) => {
                let serials = self.serial.as_ref().zip(now.serial.as_ref());
                let is_other = serials.is_some_and(|(was, is)| was != is);
                let are_devices = now.is_of_device() && self.is_of_device();
                !is_other && (is_as_it_was || (are_devices && !now.is_of_around))
            }
        };
        if is_same && now.fs == self.fs {
            Ok(())
        } else {
            Err(format!("another file system is mounted at {point} now"))
        }
    }

    /// Returns whether what is at another path `now` is the same for sure.
    pub(super) fn is_also(&self, now: &Self) -> bool {
        let has_all = self.uuid.is_some() && self.inside.is_some();
        // An image of a drive that was written to another has its UUID, too.
        let mut serials = self.serial.iter().zip(&now.serial);
        let is_clone = serials.any(|(was, is)| was != is);
        has_all
            && !is_clone
            && (&self.fs, &self.uuid, &self.inside) == (&now.fs, &now.uuid, &now.inside)
    }

    /// Returns whether this is mounted at the mount point of another, or below.
    fn is_below(&self, other: &Self) -> bool {
        let point = |of: &Self| of.point.clone().path().ok();
        let both = point(self).zip(point(other));
        both.is_some_and(|(own, other)| own.starts_with(other))
    }

    /// Returns whether its source is a device, by its name.
    fn is_of_device(&self) -> bool {
        let source = self.source.clone().bytes();
        source.is_ok_and(|source| source.starts_with(b"/dev/"))
    }

    /// Returns where it is, or was; `None` when that cannot be told.
    pub(super) fn on(&self, topology: &Topology) -> Option<On> {
        let bytes = |of: &Bytes| of.clone().bytes().ok();
        let mount = Mount {
            id: 0,
            device: self.device,
            root: bytes(&self.root)?,
            point: self.point.clone().path().ok()?,
            fs: self.fs.clone(),
            source: bytes(&self.source)?,
            options: Vec::new(),
            read_only: false,
        };
        let location = topology.locate_mount(&mount);
        // Names and numbers are handed out anew: by now another drive may have them.
        let is_there = self.uuid.is_some() && location.uuid == self.uuid;
        let (major, minor) = self.device;
        let by_number = format!("{}:{major}:{minor}", self.fs);
        let is_served = location.drives.is_empty() && location.unit != by_number;
        let keys = if tells(&location) && (is_there || is_served) {
            blamed(topology, location)
        } else {
            HashSet::new()
        };
        On::known(
            keys,
            self.uuid.as_deref().map(str::as_bytes),
            self.serial.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(table: &[u8]) -> Topology {
        Topology::with_roots(Path::new("/nonexistent"), table)
    }

    fn mounted(table: &str, uuid: Option<&str>) -> Option<Mounted> {
        let trail = Trail {
            at: "/mnt/b/c".into(),
            uuid: uuid.map(|uuid| ((8, 17), uuid.to_owned())),
            ..Trail::default()
        };
        Mounted::at(&topology(table.as_bytes()), &trail)
    }

    #[test]
    fn what_is_not_mounted_any_more_is_told_from_what_is() {
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let line = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let was = mounted(&format!("{root}{line}"), None).unwrap();
        let known = mounted(&format!("{root}{line}"), Some("U")).unwrap();
        let check = |was: &Mounted, line: &str, uuid| {
            was.check(mounted(&format!("{root}{line}"), uuid).as_ref())
        };
        assert_eq!(check(&was, line, None), Ok(()));
        assert_eq!(check(&was, line, Some("U")), Ok(()));
        assert_eq!(check(&known, line, Some("U")), Ok(()));
        let gone = Err("the ext4 at /mnt/b is not mounted there now".to_owned());
        assert_eq!(check(&known, "", None), gone);
        assert_eq!(check(&was, "", None), gone);
        let other = Err("another file system is mounted at /mnt/b now".to_owned());
        assert_eq!(check(&known, line, Some("V")), other);
        let connected_again = "30 20 8:33 / /mnt/b rw - ext4 /dev/sdc1 rw\n";
        let other_type = "30 20 8:17 / /mnt/b rw - xfs /dev/sdb1 rw\n";
        for line in [connected_again, other_type] {
            assert_eq!(check(&known, line, None), other, "{line}");
        }
        assert_eq!(check(&was, other_type, None), other);
        // Where no UUID was known, that is all there is to tell by.
        assert_eq!(check(&was, connected_again, None), Ok(()));
        assert_eq!(check(&was, connected_again, Some("U")), Ok(()));
        // But not the file system around it, mounted there as well.
        let around = "30 20 8:1 / /mnt/b rw - ext4 /dev/sda1 rw\n";
        assert_eq!(check(&was, around, None), other);
        // A UUID tells it under another device name.
        let moved = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdz1 rw\n";
        assert_eq!(check(&known, moved, Some("U")), Ok(()));
        // A bind mount of the same file system is not the file system.
        let bound = mounted(
            &format!("{root}30 20 8:1 /data /mnt/b rw - ext4 /dev/sda1 rw\n"),
            None,
        );
        assert_eq!(check(&bound.unwrap(), "", None), gone);
        // Of a server each mount has another number.
        let nfs = |number: u32| format!("30 20 0:{number} / /mnt/b rw - nfs4 host:/x rw\n");
        let was = mounted(&format!("{root}{}", nfs(60)), None).unwrap();
        assert_eq!(check(&was, &nfs(61), None), Ok(()));
        let elsewhere = "30 20 0:61 / /mnt/b rw - nfs4 host:/y rw\n";
        assert_eq!(check(&was, elsewhere, None), other);
        assert!(was.check(None).is_err());
    }

    #[test]
    fn what_was_to_be_mounted_when_it_is_entered_may_be_anything() {
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let waits = "25 20 0:40 / /mnt rw - autofs /etc/auto.mnt rw\n";
        let own = "25 20 0:40 / /mnt/b rw - autofs systemd-1 rw\n";
        let nfs = "30 25 0:60 / /mnt/b rw - nfs4 host:/x rw\n";
        let ext4 = "30 25 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let around = "30 25 8:1 / /mnt/b rw - ext4 /dev/sda1 rw\n";
        for (map, point) in [(waits, "/mnt"), (own, "/mnt/b")] {
            let was = mounted(&format!("{root}{map}"), None).unwrap();
            let check = |rest: &str| was.check(mounted(&format!("{root}{rest}"), None).as_ref());
            assert_eq!(check(&format!("{map}{nfs}")), Ok(()), "{map}");
            assert_eq!(check(&format!("{map}{ext4}")), Ok(()), "{map}");
            let nothing = Err(format!(
                "nothing was mounted at {point} when it was entered"
            ));
            assert_eq!(check(map), nothing);
            assert_eq!(check(""), nothing, "nothing waits there any more");
        }
        let was = mounted(&format!("{root}{own}"), None).unwrap();
        let now = mounted(&format!("{root}{own}{around}"), None);
        assert!(was.check(now.as_ref()).is_err(), "the file system around");
    }

    #[test]
    fn a_source_is_the_same_at_another_path_by_its_uuid_and_place() {
        let table = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n\
            31 20 8:17 / /media/b rw - ext4 /dev/sdb1 rw\n\
            32 20 8:17 /c /bound rw - ext4 /dev/sdb1 rw\n";
        let at = |path: &str, uuid: Option<&str>| {
            let trail = Trail {
                at: path.into(),
                uuid: uuid.map(|uuid| ((8, 17), uuid.to_owned())),
                ..Trail::default()
            };
            Mounted::at(&topology(table.as_bytes()), &trail).unwrap()
        };
        let was = at("/mnt/b/c", Some("U"));
        assert!(was.is_also(&at("/media/b/c/", Some("U"))));
        assert!(was.is_also(&at("/bound", Some("U"))), "by its folder");
        assert!(!was.is_also(&at("/media/b/c", Some("V"))));
        assert!(!was.is_also(&at("/media/b", Some("U"))));
        assert!(!was.is_also(&at("/media/b/c/d", Some("U"))));
        let unknown = at("/mnt/b/c", None);
        assert!(!unknown.is_also(&unknown));
        let of = |serial: &str| Mounted {
            serial: Some(serial.to_owned()),
            ..at("/mnt/b/c", Some("U"))
        };
        assert!(of("S").is_also(&of("S")));
        assert!(
            !of("S").is_also(&of("T")),
            "an image of it on another drive"
        );
    }

    #[test]
    fn a_device_number_of_before_tells_nothing_without_its_uuid() {
        let machine = tempfile::tempdir().unwrap();
        let (sysfs, udev) = (machine.path().join("sys"), machine.path().join("udev"));
        let part = sysfs.join("devices/sdb/sdb1");
        std::fs::create_dir_all(part.join("../device")).unwrap();
        std::fs::write(part.join("partition"), "1\n").unwrap();
        std::fs::write(part.join("../device/serial"), "S\n").unwrap();
        std::fs::create_dir_all(sysfs.join("dev/block")).unwrap();
        let link = sysfs.join("dev/block/8:17");
        std::os::unix::fs::symlink("../../devices/sdb/sdb1", link).unwrap();
        std::fs::create_dir(&udev).unwrap();
        std::fs::write(udev.join("b8:17"), "E:ID_FS_UUID=U\n").unwrap();
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let line = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let table = format!("{root}{line}");
        let topology = Topology::with_roots(&sysfs, table.as_bytes()).with_udev(&udev);
        let on = |keys: &[&str], uuid: Option<&str>, serial: Option<&str>| {
            let keys = keys.iter().map(|&key| key.to_owned()).collect();
            On::known(keys, uuid.map(str::as_bytes), serial.map(str::to_owned))
        };
        let was = Mounted::at(
            &topology,
            &Trail {
                at: "/mnt/b/c".into(),
                ..Trail::default()
            },
        );
        let was = was.unwrap();
        assert_eq!(was.on(&topology), on(&["sdb"], Some("U"), Some("S")));
        // Another file system is on what has the number now.
        std::fs::write(udev.join("b8:17"), "E:ID_FS_UUID=V\n").unwrap();
        assert_eq!(was.on(&topology), on(&[], Some("U"), Some("S")));
        // What was noted with neither may be anywhere.
        let unknown = mounted(&table, None).unwrap();
        assert_eq!(unknown.on(&topology), None);
        let known = mounted(&table, Some("U")).unwrap();
        assert_eq!(known.on(&topology), on(&[], Some("U"), None));
        // A server has its name.
        let nfs = format!("{root}30 20 0:60 / /mnt/b rw - nfs4 host:/x rw\n");
        let nfs = mounted(&nfs, None).unwrap();
        assert_eq!(nfs.on(&topology), on(&["nfs:host:/x"], None, None));
        let tmpfs = format!("{root}30 20 0:60 / /mnt/b rw - tmpfs tmpfs rw\n");
        assert_eq!(mounted(&tmpfs, None).unwrap().on(&topology), None);
    }
}
