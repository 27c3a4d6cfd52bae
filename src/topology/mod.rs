//! Which physical drives a path is on.
//!
//! 1. `statx` gives the id of the mount the path is in.
//! 2. The mount table (`/proc/self/mountinfo`) gives its device, file system and source.
//! 3. sysfs gives what is beneath: partition to disk, then mapper, RAID, encryption and volume
//!    layers through their `slaves`, down to devices with nothing beneath: the drives.
//!
//! File systems without a block device of their own are resolved by type (`resolve`). What has
//! no drive at all (NFS, tmpfs, FUSE) gets a unit key instead, so that it still has one lane.
//!
//! The other way round, [`Topology::shelf`] lists every drive, with what is mounted from it and what
//! it shares with others (`shelf`, `links`, `health`).
//!
//! What outlives device names and mount points (`uuid`) is asked of an open directory.
//!
//! **Boundary.** Reads `/proc`, `/sys` and `/run/udev` only, never a drive. A wrong drive costs
//! speed, not bytes: drives are told apart for scheduling, copies are not made on its word.

mod attached;
mod drive;
mod groups;
mod health;
mod links;
pub mod mountinfo;
mod resolve;
mod shelf;
mod sysfs;
mod usage;
mod uuid;

#[cfg(test)]
pub(crate) mod machines;
#[cfg(test)]
pub(crate) mod recorded;
#[cfg(test)]
mod recorded_health;
#[cfg(test)]
mod recorded_shelf;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

pub use self::attached::{Attached, Controller, MountUse, Part, Queue, Shelf, Unit, Usage};
pub use self::drive::{Drive, Transport};
pub use self::groups::spindle_groups;
pub use self::health::Health;
pub use self::links::{Link, LinkKind};
pub use self::mountinfo::Mount;
use self::sysfs::Sysfs;
pub use self::uuid::{fs_uuid, subvolume};
use crate::error::{Error, ErrorKind, Side};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A view of the machine: its mount table and its device tree.
#[derive(Debug, Clone)]
pub struct Topology {
    sysfs: Sysfs,
    mounts: Vec<Mount>,
    /// Whether the tables are this machine's, so that its kernel may be asked more.
    live: bool,
}

/// Where a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The mount it is in.
    pub mount: Mount,
    /// The drives beneath, sorted by name; several for arrays and pools, empty when there is no
    /// block device or none is known.
    pub drives: Vec<Drive>,
    /// When `drives` is empty, the key of what is there instead: `nfs:server:/export`,
    /// `tmpfs:0:27`, `fuse:source`, `zfs:pool`. Empty when there are drives.
    pub unit: String,
    /// UUID of the file system: of btrfs in sysfs's words, of others in udev's, from when the device
    /// was last probed. `None` where udev does not run. What the kernel says of an open directory
    /// ([`fs_uuid`]) counts more.
    pub uuid: Option<String>,
}

impl Location {
    /// Returns one key for each drive, or the unit's. Locations with a key in common share
    /// hardware; keys hold for this boot only.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let unit = (self.drives.is_empty() && !self.unit.is_empty()).then(|| self.unit.clone());
        self.drives
            .iter()
            .map(|drive| drive.name.clone())
            .chain(unit)
    }

    /// Returns a short name for a lane: the drives' names joined with `+`, or the unit.
    pub fn name(&self) -> String {
        if self.drives.is_empty() {
            return self.unit.clone();
        }
        let names: Vec<&str> = self.drives.iter().map(|d| d.name.as_str()).collect();
        names.join("+")
    }
}

impl Topology {
    /// Reads this machine's mount table. [`Topology::mounts`] stays as it was then;
    /// [`Topology::locate`] sees later mounts too.
    ///
    /// # Errors
    /// `Refused` when `/proc/self/mountinfo` cannot be read.
    pub fn live() -> Result<Self, Error> {
        let table = std::fs::read(MOUNTINFO).map_err(|errno| {
            let what = "read the mount table";
            Error::new(ErrorKind::Refused, Side::Source, MOUNTINFO, what).because(errno)
        })?;
        Ok(Self {
            sysfs: Sysfs::new(Path::new("/sys")).with_udev(Path::new("/run/udev/data")),
            mounts: mountinfo::parse(&table),
            live: true,
        })
    }

    /// Returns a view of a recorded machine: a tree like `/sys` and a table like
    /// `/proc/self/mountinfo`. Nothing else is asked, `/dev` included.
    pub fn with_roots(sysfs: &Path, mountinfo: &[u8]) -> Self {
        Self {
            sysfs: Sysfs::new(sysfs),
            mounts: mountinfo::parse(mountinfo),
            live: false,
        }
    }

    /// Takes serial numbers and world wide names that sysfs lacks from udev records in `dir`.
    #[must_use]
    pub fn with_udev(mut self, dir: &Path) -> Self {
        self.sysfs = self.sysfs.with_udev(dir);
        self
    }

    /// Returns the mounts in the order of the table.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Returns where `path` is. Symbolic links are followed and automounts triggered, as opening
    /// it for reading would.
    ///
    /// # Errors
    /// That of opening the path, classed as a source's. What is unknown about the drives beneath
    /// is no error.
    pub fn locate(&self, path: &Path) -> Result<Location, Error> {
        let fd = open_place(path).map_err(|errno| Error::source(path, "open", errno))?;
        self.locate_fd(&fd, path)
    }

    /// Returns where an open file or directory is; `O_PATH` will do. `label` names it in errors.
    ///
    /// # Errors
    /// That of `fstat`, classed as a source's.
    pub fn locate_fd(&self, fd: impl AsFd, label: &Path) -> Result<Location, Error> {
        let fd = fd.as_fd();
        let place = Place::of(fd).map_err(|errno| Error::source(label, "stat", errno))?;
        // Ids are handed out again after an unmount, so an old table may name another mount. A
        // table read while the descriptor holds the mount cannot.
        let fresh = self.reread();
        Ok(fresh.as_ref().unwrap_or(self).locate_place(&place, label))
    }

    fn reread(&self) -> Option<Self> {
        if !self.live {
            return None;
        }
        Self::live().ok()
    }

    fn locate_place(&self, place: &Place, label: &Path) -> Location {
        let by_id = place
            .mount_id
            .and_then(|id| self.mounts.iter().find(|mount| mount.id == id));
        // Not every mount is listed (a descriptor handed in, a lazy unmount). Any other mount of
        // the same device has the same drives beneath.
        let same_device = || self.mounts.iter().rfind(|m| m.device == place.device);
        match by_id.or_else(same_device) {
            Some(mount) => self.locate_mount(mount),
            None => self.locate_mount(&unlisted_mount(place, label)),
        }
    }
}

/// Asks for the number of a mount that no later one gets. Source: statx(2), `STATX_MNT_ID_UNIQUE`,
/// Linux 6.8.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Returns a number of the mount that an open directory is in, without asking its file system. Before
/// Linux 6.8 it may be that of another mount once this one is gone; before 5.8 there is none.
pub fn mount_number(dir: BorrowedFd<'_>) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = MNT_ID_UNIQUE | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dir, c"", flags, wanted).ok()?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask);
    told.intersects(wanted).then_some(stat.stx_mnt_id)
}

/// What the kernel says of an open file: enough to find its mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    mount_id: Option<u64>,
    /// `st_dev`. On btrfs it is the subvolume's and not in the mount table.
    device: (u32, u32),
}

impl Place {
    fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let wanted = StatxFlags::MNT_ID;
        match rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted) {
            Ok(stat) => {
                // Kernels before 5.8 ignore the flag and do not set it in the answer.
                let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted);
                let mount_id = told.then_some(stat.stx_mnt_id);
                Ok(Self {
                    mount_id: mount_id.or_else(|| mount_id_by_fdinfo(fd)),
                    device: (stat.stx_dev_major, stat.stx_dev_minor),
                })
            }
            // A container's filter may refuse the call.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self {
                mount_id: mount_id_by_fdinfo(fd),
                device: device_by_fstat(fd)?,
            }),
            Err(errno) => Err(errno),
        }
    }
}

/// The same id as `statx` gives, from `/proc/self/fdinfo` (since 3.15, proc_pid_fdinfo(5)).
fn mount_id_by_fdinfo(fd: BorrowedFd<'_>) -> Option<u64> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

fn device_by_fstat(fd: BorrowedFd<'_>) -> Result<(u32, u32), Errno> {
    let device = rustix::fs::fstat(fd)?.st_dev;
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Opens a path for looking only. A directory is asked for first because that is what triggers
/// an automount. Source: open(2), `O_PATH`.
fn open_place(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR) => rustix::fs::openat(CWD, path, flags, Mode::empty()),
        opened => opened,
    }
}

fn unlisted_mount(place: &Place, label: &Path) -> Mount {
    Mount {
        id: place.mount_id.unwrap_or(0),
        device: place.device,
        root: b"/".to_vec(),
        point: PathBuf::from(label),
        fs: "unknown".to_owned(),
        source: Vec::new(),
        options: Vec::new(),
        read_only: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"27 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 27 8:17 / /mnt/a rw - ext4 /dev/sdb1 rw\n\
        31 27 0:40 / /mnt/b rw - btrfs /dev/sdc rw\n\
        32 27 8:17 /d /mnt/bind rw - ext4 /dev/sdb1 rw\n";

    fn located(mount_id: Option<u64>, device: (u32, u32)) -> Location {
        let topology = Topology::with_roots(Path::new("/nonexistent"), TABLE);
        topology.locate_place(&Place { mount_id, device }, Path::new("/typed"))
    }

    #[test]
    fn the_id_decides_not_the_path() {
        assert_eq!(located(Some(30), (8, 17)).mount.point, Path::new("/mnt/a"));
        assert_eq!(located(Some(31), (0, 41)).mount.point, Path::new("/mnt/b"));
    }

    #[test]
    fn without_an_id_the_device_finds_the_mount() {
        assert_eq!(located(None, (8, 17)).mount.device, (8, 17));
        assert_eq!(located(Some(99), (8, 1)).mount.point, Path::new("/"));
        let unlisted = located(None, (0, 99));
        assert_eq!(unlisted.mount.point, Path::new("/typed"));
        assert_eq!(unlisted.name(), "unknown:0:99");
    }

    #[test]
    fn fdinfo_and_statx_agree() {
        let fd = open_place(Path::new("/")).expect("the root can be opened");
        let place = Place::of(fd.as_fd()).expect("statx answers");
        assert!(place.mount_id.is_some());
        assert_eq!(mount_id_by_fdinfo(fd.as_fd()), place.mount_id);
        assert_eq!(device_by_fstat(fd.as_fd()), Ok(place.device));
    }

    #[test]
    fn a_missing_path_is_a_source_error() {
        let topology = Topology::with_roots(Path::new("/nonexistent"), TABLE);
        let error = topology.locate(Path::new("/nonexistent/x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceVanished);
    }
}
