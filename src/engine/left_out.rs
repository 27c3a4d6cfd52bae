//! Sources that are left out of a run: which drives they may be on, so that none of those is called
//! safe, and what was mounted where they are, so that an empty folder is not taken for their return.
//!
//! All of it is from the mount table, and from what was told on the way: nothing is asked of them.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::recipe::Bytes;
use crate::error::Error;
use crate::journal::Identity;
use crate::plan::{LanePlan, Trail};
use crate::topology::{Location, Mount, Topology};

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
        let may_be_it = |plan: &LanePlan| {
            let mut keys = plan.fs.iter().flat_map(|(_, location)| location.keys());
            let mut known = plan.trees.iter().map(|tree| identities.get(tree.index));
            keys.any(|key| on.keys.contains(&key))
                || known.any(|known| known.is_some_and(|known| on.is_on(known)))
        };
        let lanes = (0..).zip(lanes).filter(|(_, plan)| may_be_it(plan));
        Some(lanes.map(|(lane, _)| lane).collect())
    }
}

/// Where a source may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct On {
    /// As [`Location::keys`].
    keys: HashSet<String>,
    /// UUID of its file system.
    uuid: Option<Vec<u8>>,
    /// Serial number of its drive.
    serial: Option<String>,
}

/// File systems whose files lie on others, and those that are mounted when they are entered.
const OVER_OTHERS: [&str; 5] = ["overlay", "aufs", "unionfs", "ecryptfs", "autofs"];
/// FUSE file systems whose files are on another machine. Any other may show what is on any drive here.
const REMOTE: [&str; 4] = ["fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs"];

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
            on.keys.extend(location.keys());
        }
        Some(on)
    }

    /// Returns where a source is that was recorded as this; `None` when nothing of it is unique.
    pub(super) fn of(recorded: &Identity) -> Option<Self> {
        let on = Self {
            keys: HashSet::new(),
            uuid: recorded.fs_uuid.as_deref().map(whole_fs),
            serial: recorded.serial.clone(),
        };
        (on.uuid.is_some() || on.serial.is_some()).then_some(on)
    }

    fn is_on(&self, known: &Identity) -> bool {
        let uuid = known.fs_uuid.as_deref().map(whole_fs);
        let has_its_uuid = uuid.is_some() && uuid == self.uuid;
        has_its_uuid || (known.serial.is_some() && known.serial == self.serial)
    }
}

/// Returns the UUID of a whole file system, of which a subvolume may be known.
fn whole_fs(uuid: &[u8]) -> Vec<u8> {
    let end = uuid.iter().position(|&byte| byte == b'/');
    uuid.get(..end.unwrap_or(uuid.len()))
        .unwrap_or_default()
        .to_vec()
}

/// Returns whether what is known of a mount says on which drives its files are not.
fn tells(location: &Location) -> bool {
    let fs = location.mount.fs.as_str();
    let is_local_fuse = fs.starts_with("fuse") && !REMOTE.contains(&fs);
    !OVER_OTHERS.contains(&fs)
        && location.keys().next().is_some()
        && !(is_local_fuse && location.drives.is_empty())
}

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
}

impl Mounted {
    /// Returns what is mounted where a look at a source led to.
    pub(super) fn at(topology: &Topology, trail: &Trail) -> Option<Self> {
        let path = trail.at.join(&trail.rest);
        let mount = topology.mounts_above(&path).into_iter().next()?;
        let told = trail.uuid.clone();
        let told = told.filter(|(device, _)| *device == mount.device);
        Some(Self {
            device: mount.device,
            fs: mount.fs.clone(),
            source: Bytes::of(&mount.source),
            root: Bytes::of(&mount.root),
            point: Bytes::of(mount.point.as_os_str().as_bytes()),
            uuid: told
                .map(|(_, uuid)| uuid)
                .or_else(|| topology.locate_mount(mount).uuid),
        })
    }

    /// Checks that what is mounted `now` is the same.
    ///
    /// # Errors
    /// What is there instead, as a clause.
    pub(super) fn check(&self, now: Option<&Self>) -> Result<(), String> {
        let (fs, point) = (&self.fs, self.point.shown());
        let Some(now) = now else {
            return Err("what is mounted there cannot be told".to_owned());
        };
        if (&now.point, &now.root) != (&self.point, &self.root) {
            return Err(format!("the {fs} at {point} is not mounted there now"));
        }
        let is_same = if let (Some(was), Some(is)) = (&self.uuid, &now.uuid) {
            was == is
        } else {
            // Numbers of what has no device of its own are handed out anew each time.
            let is_device = now.device == self.device;
            let has_none = (now.device.0, self.device.0) == (0, 0);
            now.source == self.source && (is_device || has_none)
        };
        if is_same && now.fs == self.fs {
            Ok(())
        } else {
            Err(format!("another file system is mounted at {point} now"))
        }
    }

    /// Returns where it is, or was.
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
        let uuid = self.uuid.clone().map(String::into_bytes);
        tells(&location).then(|| On {
            keys: location.keys().collect(),
            uuid,
            serial: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 20 8:17 / /mnt/x rw - ext4 /dev/sdb1 rw\n\
        31 30 8:33 / /mnt/x/b/sub rw - xfs /dev/sdc1 rw\n\
        32 20 0:50 / /mnt/far rw - fuse.sshfs me@host:/ rw\n\
        33 20 0:51 / /mnt/pool rw - fuse.mergerfs a:b rw\n\
        34 20 0:52 / /mnt/over rw - overlay overlay rw\n\
        35 20 8:49 / /mnt/hidden/deep rw - ext4 /dev/sdd1 rw\n\
        36 20 8:65 / /mnt/hidden rw - ext4 /dev/sde1 rw\n";

    fn trail(at: &str, rest: &str) -> Trail {
        Trail {
            at: at.into(),
            rest: rest.into(),
            uuid: None,
        }
    }

    fn topology(table: &[u8]) -> Topology {
        Topology::with_roots(Path::new("/nonexistent"), table)
    }

    #[test]
    fn a_source_is_where_it_was_asked_for_and_may_be_where_it_leads() {
        let keys = |at: &str, rest: &str| {
            let on = On::at(&topology(TABLE), &trail(at, rest))?;
            let mut keys: Vec<String> = on.keys.into_iter().collect();
            keys.sort();
            Some(keys.join(" "))
        };
        let known = |keys: &str| Some(keys.to_owned());
        assert_eq!(keys("/mnt/x/a", ""), known("ext4:8:17"));
        assert_eq!(keys("/mnt/xa", ""), known("ext4:8:1"));
        assert_eq!(keys("/mnt/x/b", "sub/c"), known("ext4:8:17 xfs:8:33"));
        assert_eq!(keys("/mnt/far/c", ""), known("fuse:me@host:/"));
        // What is mounted over others may be on any of them.
        assert_eq!(keys("/mnt/pool/c", ""), None);
        assert_eq!(keys("/mnt/over/c", ""), None);
        assert_eq!(keys("", ""), None);
        // A mount that a later one covers.
        assert_eq!(keys("/mnt/hidden/deep/c", ""), known("ext4:8:49 ext4:8:65"));
    }

    fn mounted(table: &str, uuid: Option<&str>) -> Option<Mounted> {
        let mut trail = trail("/mnt/b/c", "");
        trail.uuid = uuid.map(|uuid| ((8, 17), uuid.to_owned()));
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
        for line in [
            "30 20 8:33 / /mnt/b rw - ext4 /dev/sdc1 rw\n",
            "30 20 8:17 / /mnt/b rw - xfs /dev/sdb1 rw\n",
            "30 20 0:60 / /mnt/b rw - ext4 /dev/sdb1 rw\n",
        ] {
            assert_eq!(check(&was, line, None), other, "{line}");
        }
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
        assert!(was.check(None).is_err());
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
}
