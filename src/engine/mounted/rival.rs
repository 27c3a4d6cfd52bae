//! Images of a drive have its UUID: which of two devices is what was left out?

use super::super::left_out::tells;
use super::Mounted;
use crate::plan::serial;
use crate::topology::{Mount, Topology};

impl Mounted {
    /// Returns whether what is at another path `now` is the same: its UUID and its path in the file
    /// system say so, and nothing says that it is an image of it on another drive.
    pub(in crate::engine) fn is_also(&self, now: &Self, topology: &Topology) -> bool {
        let has_all = self.uuid.is_some() && self.inside.is_some();
        has_all
            && (&self.fs, &self.uuid, &self.inside) == (&now.fs, &now.uuid, &now.inside)
            && !self.is_on_another_drive(now)
            && self.rival(now, topology).is_none()
    }

    /// Returns whether the serial numbers of both drives are known, and differ. An image of a drive that
    /// was written to another has its UUID, too.
    pub(super) fn is_on_another_drive(&self, now: &Self) -> bool {
        let mut serials = self.serial.iter().zip(&now.serial);
        serials.any(|(was, is)| was != is)
    }

    /// Returns a mount of another device than `now` has that may be what this was: where it was, or of
    /// its UUID. Then `now` may be an image of it. Not what is left of a drive that was pulled, if
    /// serial numbers say that `now` is that drive.
    pub(super) fn rival<'t>(&self, now: &Self, topology: &'t Topology) -> Option<&'t Mount> {
        let is_back = self.serial.is_some() && self.serial == now.serial;
        let point = self.point.clone().path().ok();
        let may_be_it = |mount: &&Mount| {
            if mount.device == now.device || mount.fs != self.fs {
                return false;
            }
            let place = topology.locate_mount(mount);
            if is_back && place.drives.is_empty() {
                return false;
            }
            let is_known =
                |told: &Option<String>, own: &Option<String>| told.is_some() && told == own;
            let differs = |told: &Option<String>, own: &Option<String>| {
                told.is_some() && own.is_some() && told != own
            };
            let told = tells(&place).then(|| serial(&place)).flatten();
            let is_at_its_place = point.as_ref() == Some(&mount.point);
            (is_at_its_place || is_known(&place.uuid, &self.uuid))
                && !differs(&place.uuid, &self.uuid)
                && !differs(&told, &self.serial)
        };
        topology.mounts().iter().find(may_be_it)
    }
}

/// Says, as a clause, that a mount may be what was left out, and how to get it out of the way.
pub(super) fn told_of(rival: &Mount, topology: &Topology) -> String {
    let point = &rival.point;
    // What is unmounted there is what was mounted last.
    let seen = topology.mounts_above(point).into_iter().next();
    let how = if seen.is_some_and(|seen| seen.id == rival.id) {
        format!("at {}; unmount it", point.display())
    } else {
        let point = point.display();
        format!("at {point}, covered by another mount; unmount that one, then it, and mount again")
    };
    let source = String::from_utf8_lossy(&rival.source);
    format!(
        "what was there then may be another device that is still mounted ({source} {how} if it is not)"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Likely::Other;
    use super::*;
    use crate::plan::Trail;

    fn topology(table: &[u8]) -> Topology {
        Topology::with_roots(Path::new("/nonexistent"), table)
    }

    #[test]
    fn a_source_is_not_at_another_path_while_another_device_may_be_it() {
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let stays = "30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let here = "31 20 8:33 / /media/b rw - ext4 /dev/sdc1 rw\n";
        let of = |line: &str, path: &str, serial: Option<&str>| {
            let trail = Trail {
                at: path.into(),
                uuid: Some((if line == here { (8, 33) } else { (8, 17) }, "U".to_owned())),
                ..Trail::default()
            };
            let mounted = Mounted::at(&topology(line.as_bytes()), &trail).unwrap();
            Mounted {
                serial: serial.map(str::to_owned),
                ..mounted
            }
        };
        let (was, now) = (
            |serial| of(stays, "/mnt/b/c", serial),
            |serial| of(here, "/media/b/c", serial),
        );
        let (alone, both) = (format!("{root}{here}"), format!("{root}{stays}{here}"));
        let [alone, both] = [alone, both].map(|table| topology(table.as_bytes()));
        assert!(was(None).is_also(&now(None), &alone));
        assert!(!was(None).is_also(&now(None), &both));
        assert!(!was(Some("S")).is_also(&now(None), &both));
        // What was pulled leaves a mount without a drive.
        assert!(was(Some("S")).is_also(&now(Some("S")), &both));
        // With a drive it is one of two that a dock gives one number.
        let machine = tempfile::tempdir().unwrap();
        let sysfs = machine.path().join("sys");
        std::fs::create_dir_all(sysfs.join("devices/sdb/sdb1")).unwrap();
        std::fs::write(sysfs.join("devices/sdb/sdb1/partition"), "1\n").unwrap();
        std::fs::create_dir_all(sysfs.join("dev/block")).unwrap();
        let link = sysfs.join("dev/block/8:17");
        std::os::unix::fs::symlink("../../devices/sdb/sdb1", link).unwrap();
        let table = format!("{root}{stays}{here}");
        let dock = Topology::with_roots(&sysfs, table.as_bytes());
        assert!(!was(Some("S")).is_also(&now(Some("S")), &dock));
        // By other names, as after a start, it is there by its UUID.
        let udev = machine.path().join("udev");
        std::fs::create_dir(&udev).unwrap();
        std::fs::write(udev.join("b8:49"), "E:ID_FS_UUID=U\n").unwrap();
        let moved = "30 20 8:49 / /mnt/d rw - ext4 /dev/sdd1 rw\n";
        let table = format!("{root}{moved}{here}");
        let renamed = Topology::with_roots(&sysfs, table.as_bytes()).with_udev(&udev);
        assert!(!was(None).is_also(&now(None), &renamed));
        // What is known to be another is not in the way.
        std::fs::write(udev.join("b8:17"), "E:ID_FS_UUID=V\n").unwrap();
        let table = format!("{root}{stays}{here}");
        let other = Topology::with_roots(&sysfs, table.as_bytes()).with_udev(&udev);
        assert!(was(None).is_also(&now(None), &other));
        // Nor does what is mounted over it pass for it.
        let over = "31 30 8:33 / /mnt/b rw - ext4 /dev/sdc1 rw\n";
        let trail = Trail {
            at: "/mnt/b/c".into(),
            uuid: Some(((8, 33), "U".to_owned())),
            ..Trail::default()
        };
        let covered = topology(format!("{root}{stays}{over}").as_bytes());
        let likely = was(None).check(Mounted::at(&covered, &trail).as_ref(), &covered);
        let still = "what was there then may be another device that is still mounted (/dev/sdb1 at \
                     /mnt/b, covered by another mount; unmount that one, then it, and mount again if \
                     it is not)";
        assert_eq!(likely, Other(still.to_owned()));
        let elsewhere = topology(format!("{root}{stays}").as_bytes());
        let rival = elsewhere.mounts_above(Path::new("/mnt/b"))[0];
        let still = "what was there then may be another device that is still mounted (/dev/sdb1 at \
                     /mnt/b; unmount it if it is not)";
        assert_eq!(told_of(rival, &elsewhere), still);
    }
}
