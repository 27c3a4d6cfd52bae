//! What a source or the target is, apart from the names it has today.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::beneath;
use crate::journal::{Identity, WORD_LEN_MAX};
use crate::target::keeps_inodes;
use crate::topology::{Location, Mount, Transport, fs_uuid, subvolume};

/// Returns the identity of the directory `dir`, which lies at `location`; `O_PATH` will do.
///
/// - The UUID is what the kernel says of the directory, or what sysfs (btrfs) or udev know of the
///   file system: the same text from each. On btrfs and bcachefs `/` and the number of the subvolume
///   follow. From a kernel that does not tell that number (before 6.10), there is no UUID and no
///   serial number either: two subvolumes must not pass for one. A btrfs that is mounted while
///   another with its UUID is gets a new one for as long as that lasts, and is a stranger.
/// - The serial number counts when exactly one drive is beneath; a loop device has none.
/// - The size is 0 where the file system has no device of its own: over a network, in a pool or in
///   memory, what it gives as its size changes with use.
///
/// - The inode of the directory is 0 where it does not outlive a remount, on FAT and exFAT, but for
///   the root of the file system: there folders are told apart by their names.
///
/// So a loop image and a copy of it, each mounted by itself, are the same: nothing in a file system
/// tells it from a copy made block by block. Between two drives their serial numbers do.
///
/// # Errors
/// As fstat(2) and fstatvfs(3). What is not known is no error.
pub fn identity(dir: BorrowedFd<'_>, location: &Location) -> Result<Identity, Errno> {
    let mount = &location.mount;
    // Without permission to list it, the kernel does not say more either.
    let uuid = beneath::read_dir_fd(dir, b"")
        .ok()
        .and_then(|readable| fs_uuid(readable.as_fd()))
        .or_else(|| location.uuid.clone());
    let (fs_uuid, serial) = if has_subvolumes(mount) {
        match subvolume(dir) {
            Some(number) => (
                uuid.map(|uuid| format!("{uuid}/{number}")),
                serial(location),
            ),
            None => (None, None),
        }
    } else {
        (uuid, serial(location))
    };
    let size = if mount.device.0 != 0 || has_subvolumes(mount) {
        let stat = rustix::fs::fstatvfs(dir)?;
        stat.f_blocks.saturating_mul(stat.f_frsize)
    } else {
        0
    };
    let word = |text: &String| text.len() <= WORD_LEN_MAX;
    Ok(Identity {
        fs_uuid: fs_uuid.filter(word).map(String::into_bytes),
        fs_type: shortened(&mount.fs).to_owned(),
        serial: serial.filter(word),
        size,
        root_ino: lasting(rustix::fs::fstat(dir)?.st_ino, &mount.fs),
    })
}

/// The inode number of the root of FAT and exFAT (MSDOS_ROOT_INO, EXFAT_ROOT_INO): a fixed one,
/// where all others are handed out as they are met.
const FAT_ROOT_INO: u64 = 1;

fn lasting(ino: u64, fs: &str) -> u64 {
    if keeps_inodes(fs) || ino == FAT_ROOT_INO {
        ino
    } else {
        0
    }
}

fn has_subvolumes(mount: &Mount) -> bool {
    matches!(mount.fs.as_str(), "btrfs" | "bcachefs")
}

/// Returns the serial number of the one drive beneath; `None` of several, and of a loop device.
pub fn serial(location: &Location) -> Option<String> {
    match location.drives.as_slice() {
        [drive] if drive.transport != Transport::Loop => drive.serial.clone(),
        _ => None,
    }
}

/// Returns as much of a file system's name as a journal takes: whoever writes a FUSE file system
/// chooses its subtype.
fn shortened(fs: &str) -> &str {
    let end = (0..=fs.len().min(WORD_LEN_MAX)).rfind(|&at| fs.is_char_boundary(at));
    end.and_then(|end| fs.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Drive, Topology};
    use std::fs::File;
    use std::path::Path;

    fn drive(name: &str, transport: Transport) -> Drive {
        Drive {
            name: name.to_owned(),
            device: (8, 0),
            model: None,
            serial: Some(format!("SERIAL-{name}")),
            wwn: None,
            rotational: None,
            transport,
            size: 0,
            logical_block: 512,
            physical_block: 512,
            read_only: false,
            backing: None,
        }
    }

    fn located(line: &str, drives: Vec<Drive>) -> Location {
        let topology = Topology::with_roots(Path::new("/nonexistent"), line.as_bytes());
        let mut location = topology.locate_mount(&topology.mounts()[0]);
        location.drives = drives;
        location.uuid = Some("udev".to_owned());
        location
    }

    /// Proc has no UUID and no subvolumes of its own: what is said is what the location says.
    fn identify(line: &str, drives: Vec<Drive>) -> Identity {
        identity(File::open("/proc").unwrap().as_fd(), &located(line, drives)).unwrap()
    }

    #[test]
    fn a_serial_number_is_that_of_one_real_drive() {
        let line = "30 1 8:1 / /a rw - exfat /dev/sda1 rw\n";
        let serial = |drives| identify(line, drives).serial;
        let (one, two) = (drive("sda", Transport::Usb), drive("sdb", Transport::Sata));
        assert_eq!(serial(vec![one.clone()]).as_deref(), Some("SERIAL-sda"));
        assert_eq!(serial(vec![one, two]), None);
        assert_eq!(serial(vec![drive("loop7", Transport::Loop)]), None);
        assert_eq!(serial(Vec::new()), None);
        let mut odd = drive("sdc", Transport::Usb);
        odd.serial = Some("x".repeat(257));
        assert_eq!(serial(vec![odd]), None);
    }

    #[test]
    fn what_udev_knows_stands_in_for_the_kernel() {
        let found = identify("30 1 8:1 / /a rw - exfat /dev/sda1 rw\n", Vec::new());
        assert_eq!(found.fs_uuid.as_deref(), Some(&b"udev"[..]));
        assert_eq!(found.fs_type, "exfat");
        assert_eq!(found.root_ino, 1);
    }

    #[test]
    fn an_untold_subvolume_leaves_nothing_unique() {
        let drives = vec![drive("sda", Transport::Sata)];
        let found = identify("30 1 0:40 /@ /a rw - btrfs /dev/sda1 rw\n", drives);
        assert_eq!((found.fs_uuid, found.serial), (None, None));
    }

    #[test]
    fn a_file_system_without_a_device_has_no_size() {
        let dir = File::open("/").unwrap();
        let size = |line: &str| {
            let location = located(line, Vec::new());
            identity(dir.as_fd(), &location).unwrap().size
        };
        for line in [
            "30 1 0:50 / /a rw - nfs4 server:/x rw\n",
            "30 1 0:50 / /a rw - zfs tank/x rw\n",
            "30 1 0:50 / /a rw - tmpfs none rw\n",
        ] {
            assert_eq!(size(line), 0, "{line}");
        }
        assert_ne!(size("30 1 8:1 / /a rw - ext4 /dev/sda1 rw\n"), 0);
    }

    #[test]
    fn on_fat_only_the_root_keeps_its_number() {
        let numbers = |fs| [1, 2, 77].map(|ino| lasting(ino, fs));
        assert_eq!(numbers("ext4"), [1, 2, 77]);
        assert_eq!(numbers("vfat"), [1, 0, 0]);
        assert_eq!(numbers("exfat"), [1, 0, 0]);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shortened("ext4"), "ext4");
        let long = format!("fuse.{}", "\u{e9}".repeat(200));
        assert_eq!(shortened(&long).len(), 255);
    }
}
