//! What was mounted where a source is that was left out, so that an empty folder is not taken for its
//! return.
//!
//! All of it is from the mount table, and from what was told on the way: nothing is asked of it.

mod rival;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::left_out::{On, REMOTE, blamed, tells, whole_fs};
use super::recipe::Bytes;
use crate::journal::Identity;
use crate::plan::{Trail, serial};
use crate::topology::{Mount, Topology};
use rival::told_of;

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

/// Whether what is mounted where a source was left out is what was there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Likely {
    Same,
    /// Nothing tells it from what was there; says so, as a clause.
    MayBe(String),
    /// It is not; says what is there instead, as a clause.
    Other(String),
}

/// File systems of which a source names the machine that has it, and what that gives.
const SERVED: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs"];
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

    #[cfg(test)]
    pub(super) fn with_serial(self, serial: Option<&str>) -> Self {
        let serial = serial.map(str::to_owned);
        Self { serial, ..self }
    }

    /// Tells whether what is mounted `now` is the same. A UUID tells it, or the name that a server has;
    /// where neither does, one of its type on a device may be it, and so may whatever is mounted by now
    /// where something waited to be entered.
    pub(super) fn check(&self, now: Option<&Self>, topology: &Topology) -> Likely {
        let (fs, point) = (&self.fs, self.point.shown());
        let Some(now) = now else {
            return Likely::Other("what is mounted there cannot be told".to_owned());
        };
        let nothing_tells = |fs: &str| {
            let what = format!("nothing tells whether the {fs} at {point} is what was there then");
            Likely::MayBe(what)
        };
        if self.fs == AUTOFS {
            let is_there = now.fs != AUTOFS && !now.is_of_around && now.is_below(self);
            return if !is_there {
                Likely::Other(format!(
                    "nothing was mounted at {point} when it was entered"
                ))
            } else if now.is_served() {
                Likely::Same
            } else {
                nothing_tells(&now.fs)
            };
        }
        if (&now.point, &now.root) != (&self.point, &self.root) {
            return Likely::Other(format!("the {fs} at {point} is not mounted there now"));
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
                let are_devices = now.is_of_device() && self.is_of_device();
                is_as_it_was || (are_devices && !now.is_of_around)
            }
        };
        if !is_same || self.is_on_another_drive(now) || now.fs != self.fs {
            return Likely::Other(format!("another file system is mounted at {point} now"));
        }
        if let Some(rival) = self.rival(now, topology) {
            return Likely::Other(told_of(rival, topology));
        }
        let is_told = self.uuid.is_some() && now.uuid.is_some();
        if is_told || (self.is_served() && is_as_it_was) {
            Likely::Same
        } else {
            nothing_tells(fs)
        }
    }

    /// Returns whether a source that was recorded can be what is here, by what is known of both.
    pub(super) fn may_be(&self, recorded: &Identity) -> bool {
        let own = self.uuid.as_deref().map(str::as_bytes);
        let uuids = own.zip(recorded.fs_uuid.as_deref().map(whole_fs));
        let serials = self.serial.as_ref().zip(recorded.serial.as_ref());
        (self.fs == AUTOFS || self.fs == recorded.fs_type)
            && uuids.is_none_or(|(own, recorded)| own == recorded)
            && serials.is_none_or(|(own, recorded)| own == recorded)
    }

    /// Returns whether a source that was recorded is what is here for sure: images of a drive have its
    /// UUID, and the parts of a drive its serial number.
    pub(super) fn is_surely(&self, recorded: &Identity) -> bool {
        let is_known = self.uuid.is_some() && recorded.fs_uuid.is_some();
        let has_number = self.serial.is_some() && recorded.serial.is_some();
        is_known && has_number && self.may_be(recorded)
    }

    /// Returns whether what is known of both shows that they are two.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let waits = self.fs == AUTOFS || other.fs == AUTOFS;
        let mut uuids = self.uuid.iter().zip(&other.uuid);
        uuids.any(|(own, other)| own != other)
            || self.is_on_another_drive(other)
            || (!waits && (&self.fs, &self.root) != (&other.fs, &other.root))
    }

    /// Returns whether it is on another machine, which its source names.
    fn is_served(&self) -> bool {
        SERVED.contains(&&*self.fs) || REMOTE.contains(&&*self.fs)
    }

    /// Returns the mount point.
    pub(super) fn point(&self) -> Option<PathBuf> {
        self.point.clone().path().ok()
    }

    /// Returns whether this is mounted at the mount point of another, or below.
    fn is_below(&self, other: &Self) -> bool {
        let both = self.point().zip(other.point());
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
    use super::Likely::{MayBe, Other, Same};
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
            let table = format!("{root}{line}");
            was.check(mounted(&table, uuid).as_ref(), &topology(table.as_bytes()))
        };
        assert_eq!(check(&known, line, Some("U")), Same);
        let untold = "nothing tells whether the ext4 at /mnt/b is what was there then";
        let untold = MayBe(untold.to_owned());
        // Another drive may have its number by now.
        assert_eq!(check(&known, line, None), untold);
        assert_eq!(check(&was, line, None), untold);
        assert_eq!(check(&was, line, Some("U")), untold);
        let gone = Other("the ext4 at /mnt/b is not mounted there now".to_owned());
        assert_eq!(check(&known, "", None), gone);
        assert_eq!(check(&was, "", None), gone);
        let other = Other("another file system is mounted at /mnt/b now".to_owned());
        assert_eq!(check(&known, line, Some("V")), other);
        let connected_again = "30 20 8:33 / /mnt/b rw - ext4 /dev/sdc1 rw\n";
        let other_type = "30 20 8:17 / /mnt/b rw - xfs /dev/sdb1 rw\n";
        for line in [connected_again, other_type] {
            assert_eq!(check(&known, line, None), other, "{line}");
        }
        assert_eq!(check(&was, other_type, None), other);
        // Where no UUID was known, that is all there is to tell by.
        assert_eq!(check(&was, connected_again, None), untold);
        assert_eq!(check(&was, connected_again, Some("U")), untold);
        // But not the file system around it, mounted there as well.
        let around = "30 20 8:1 / /mnt/b rw - ext4 /dev/sda1 rw\n";
        assert_eq!(check(&was, around, None), other);
        // A UUID tells it under another device name.
        let moved = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdz1 rw\n";
        assert_eq!(check(&known, moved, Some("U")), Same);
        // A bind mount of the same file system is not the file system.
        let bound = mounted(
            &format!("{root}30 20 8:1 /data /mnt/b rw - ext4 /dev/sda1 rw\n"),
            None,
        );
        assert_eq!(check(&bound.unwrap(), "", None), gone);
        // Of a server each mount has another number.
        let nfs = |number: u32| format!("30 20 0:{number} / /mnt/b rw - nfs4 host:/x rw\n");
        let was = mounted(&format!("{root}{}", nfs(60)), None).unwrap();
        assert_eq!(check(&was, &nfs(61), None), Same);
        let elsewhere = "30 20 0:61 / /mnt/b rw - nfs4 host:/y rw\n";
        assert_eq!(check(&was, elsewhere, None), other);
        let unknown = was.check(None, &topology(b""));
        assert_eq!(
            unknown,
            Other("what is mounted there cannot be told".to_owned())
        );
        // The name of anything else without a device is that of many.
        let phone = |number: u32| format!("30 20 0:{number} / /mnt/b rw - fuse.mtp mtp rw\n");
        let was = mounted(&format!("{root}{}", phone(60)), None).unwrap();
        assert!(matches!(check(&was, &phone(61), None), MayBe(_)));
    }

    #[test]
    fn an_image_on_another_drive_is_told_by_its_serial_number() {
        let line = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let of = |uuid: Option<&str>, serial: Option<&str>| Mounted {
            serial: serial.map(str::to_owned),
            ..mounted(line, uuid).unwrap()
        };
        let topology = topology(line.as_bytes());
        let check = |was: &Mounted, now: &Mounted| was.check(Some(now), &topology);
        let other = Other("another file system is mounted at /mnt/b now".to_owned());
        let was = of(Some("U"), Some("S"));
        assert_eq!(check(&was, &of(Some("U"), Some("S"))), Same);
        assert_eq!(check(&was, &of(Some("U"), None)), Same, "a bridge");
        assert_eq!(check(&was, &of(Some("U"), Some("T"))), other);
        // Its record is gone, and another drive has its name and number.
        assert_eq!(check(&was, &of(None, Some("T"))), other);
        assert_eq!(check(&of(None, Some("S")), &of(None, Some("T"))), other);
    }

    #[test]
    fn two_that_were_left_out_at_one_path_are_told_apart_by_what_is_known() {
        let line = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let of = |uuid: Option<&str>, serial: Option<&str>| Mounted {
            serial: serial.map(str::to_owned),
            ..mounted(line, uuid).unwrap()
        };
        let known = of(Some("U"), Some("S"));
        assert!(!known.differs(&known));
        assert!(!known.differs(&of(None, None)));
        assert!(known.differs(&of(Some("V"), None)));
        assert!(known.differs(&of(Some("U"), Some("T"))));
        let root = mounted("30 20 0:40 /@2 /mnt/b rw - ext4 /dev/sdb1 rw\n", None);
        assert!(known.differs(&root.unwrap()), "a subvolume");
        let waits = mounted("30 20 0:40 / /mnt/b rw - autofs systemd-1 rw\n", None);
        assert!(!known.differs(&waits.unwrap()));
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
            let check = |rest: &str| {
                let now = mounted(&format!("{root}{rest}"), None);
                was.check(now.as_ref(), &topology(b""))
            };
            assert_eq!(check(&format!("{map}{nfs}")), Same, "{map}");
            let untold =
                format!("nothing tells whether the ext4 at {point} is what was there then");
            assert_eq!(check(&format!("{map}{ext4}")), MayBe(untold), "{map}");
            let nothing = Other(format!(
                "nothing was mounted at {point} when it was entered"
            ));
            assert_eq!(check(map), nothing);
            assert_eq!(check(""), nothing, "nothing waits there any more");
        }
        let was = mounted(&format!("{root}{own}"), None).unwrap();
        let now = mounted(&format!("{root}{own}{around}"), None);
        let likely = was.check(now.as_ref(), &topology(b""));
        assert!(matches!(likely, Other(_)), "the file system around");
        let recorded = Identity {
            fs_type: "nfs4".to_owned(),
            ..Identity::default()
        };
        assert!(was.may_be(&recorded));
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
        let topology = topology(table.as_bytes());
        let is_also = |was: &Mounted, now: &Mounted| was.is_also(now, &topology);
        let was = at("/mnt/b/c", Some("U"));
        assert!(is_also(&was, &at("/media/b/c/", Some("U"))));
        assert!(is_also(&was, &at("/bound", Some("U"))), "by its folder");
        assert!(!is_also(&was, &at("/media/b/c", Some("V"))));
        assert!(!is_also(&was, &at("/media/b", Some("U"))));
        assert!(!is_also(&was, &at("/media/b/c/d", Some("U"))));
        let unknown = at("/mnt/b/c", None);
        assert!(!is_also(&unknown, &unknown));
        let of = |serial: &str| Mounted {
            serial: Some(serial.to_owned()),
            ..at("/mnt/b/c", Some("U"))
        };
        assert!(is_also(&of("S"), &of("S")));
        assert!(
            !is_also(&of("S"), &of("T")),
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
