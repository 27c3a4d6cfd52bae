//! Is the target still the place it was? Asked before names are given, and after an error.
//!
//! Everything is written through descriptors that were opened once, so whatever is mounted, moved or
//! unmounted meanwhile, no byte ever goes to another file system. But it may go where nobody finds
//! it: to a disk that is not mounted any more, or below something that was mounted over it. So the
//! path that was typed must lead to the same directory by the same mount, nothing new may be mounted
//! inside, and the file system must take writes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::error::{Error, ErrorKind, Side};

/// What tells a directory, and the mount it is reached by, from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: (u32, u32),
    ino: u64,
    /// `stx_mnt_id`; `None` before Linux 5.8.
    mount: Option<u64>,
}

/// The place of a target.
#[derive(Debug)]
pub(super) struct Place {
    label: PathBuf,
    root: Arc<OwnedFd>,
    was: Seen,
    /// Whether the label led there at first: if not, it says nothing later either.
    has_path: bool,
    mounts: Option<Mutex<Mounts>>,
}

/// The mount table, as far as it was read.
#[derive(Debug)]
struct Mounts {
    table: File,
    /// Mount points inside the target that were there at first.
    known: BTreeSet<PathBuf>,
}

impl Place {
    /// Looks at a target that was just opened.
    pub(super) fn new(label: &Path, root: &Arc<OwnedFd>) -> Result<Self, Errno> {
        let was = seen(root)?;
        let has_path = beneath::open_root(label).and_then(seen) == Ok(was);
        let mut place = Self {
            label: label.to_owned(),
            root: Arc::clone(root),
            was,
            has_path,
            mounts: None,
        };
        // Without /proc, the path alone has to do.
        if let Ok(mut table) = File::open("/proc/self/mountinfo") {
            let known = place.inside(&mut table);
            place.mounts = Some(Mutex::new(Mounts { table, known }));
        }
        Ok(place)
    }

    /// Looks whether it is still the place it was.
    ///
    /// # Errors
    /// `TargetLost`, saying what became of it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let lost = |what: &str| Error::new(ErrorKind::TargetLost, Side::Target, &self.label, what);
        if self.has_path {
            match beneath::open_root(&self.label).and_then(seen) {
                Ok(now) if now == self.was => {}
                Ok(now) => {
                    let what = if now.device == self.was.device && now.ino != self.was.ino {
                        "another folder has its path now; nothing was written there"
                    } else {
                        "it was unmounted, or something else was mounted in its place; nothing \
                         was written there"
                    };
                    return Err(lost(what));
                }
                Err(errno) => {
                    return Err(lost("its path does not lead to it any more").because(errno));
                }
            }
        }
        if let Some(point) = self.mounted_inside() {
            let what = format!(
                "something was mounted inside it, at {}: what is below that cannot be seen; \
                 unmount it",
                point.display()
            );
            return Err(lost(&what));
        }
        match beneath::read_dir_fd(self.root.as_fd(), b"").and_then(rustix::fs::fstatvfs) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => {
                Err(lost("it is read-only now").because(Errno::ROFS))
            }
            // What cannot be looked at shows when it is written to.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Looks, after an error, whether anything can be written at all: a file without a name, in the
    /// target's private folder `home`, that is synced.
    ///
    /// # Errors
    /// `TargetLost` as [`check`](Self::check), and when that file cannot be made durable for another
    /// reason than a lack of room.
    pub(super) fn probe(&self, home: impl AsFd) -> Result<(), Error> {
        self.check()?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let written =
            rustix::fs::openat(home, c".", flags, Mode::RUSR | Mode::WUSR).and_then(|file| {
                rustix::io::write(&file, &[1; crate::buffer::ALIGN])?;
                rustix::fs::fsync(&file)
            });
        match written {
            Ok(()) | Err(Errno::NOSPC | Errno::DQUOT | Errno::OPNOTSUPP | Errno::MFILE) => Ok(()),
            Err(errno) => {
                let what = "nothing can be written to it any more: its drive failed, or what it lies on \
                            has no more room (thin storage, an image on a full disk)";
                let error = Error::new(ErrorKind::TargetLost, Side::Target, &self.label, what);
                Err(error.because(errno))
            }
        }
    }

    /// Returns a mount point inside the target that was not there at first. Reads the table only
    /// when the kernel says that it has changed.
    fn mounted_inside(&self) -> Option<PathBuf> {
        let mut mounts = self
            .mounts
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Source: proc_pid_mounts(5); a change is a priority event.
        let mut fds = [PollFd::new(&mounts.table, PollFlags::PRI)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let changed = poll(&mut fds, Some(&at_once)).is_ok_and(|count| count > 0);
        if !changed {
            return None;
        }
        let now = self.inside(&mut mounts.table);
        now.into_iter().find(|point| !mounts.known.contains(point))
    }

    /// Returns the mount points on the target's own mount, inside the target.
    fn inside(&self, table: &mut File) -> BTreeSet<PathBuf> {
        let mut text = Vec::new();
        let read = table
            .rewind()
            .and_then(|()| table.read_to_end(&mut text).map(drop));
        let root = format!(
            "/proc/self/fd/{}",
            rustix::fd::AsRawFd::as_raw_fd(&*self.root)
        );
        let (Ok(()), Ok(root)) = (read, std::fs::read_link(root)) else {
            return BTreeSet::new();
        };
        points_on(&text, self.was.mount)
            .filter(|point| point.starts_with(&root) && *point != root)
            .collect()
    }
}

fn seen(dir: impl AsFd) -> Result<Seen, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, wanted)?;
    let has_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok(Seen {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        mount: has_mount.then_some(stat.stx_mnt_id),
    })
}

/// Returns where a mount table says that something is mounted on the mount of this number.
fn points_on(table: &[u8], mount: Option<u64>) -> impl Iterator<Item = PathBuf> {
    table.split(|&byte| byte == b'\n').filter_map(move |line| {
        // ID PARENT MAJOR:MINOR ROOT POINT ...; source: proc_pid_mountinfo(5).
        let mut fields = line.split(|&byte| byte == b' ').skip(1);
        let parent: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let point = fields.nth(2)?;
        let is_on_it = mount.is_none_or(|mount| mount == parent);
        is_on_it.then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
    })
}

/// Decodes `\ooo`, the kernel's escape for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(code) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(code);
            rest = after.get(3..).unwrap_or_default();
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_what_is_mounted_on_a_mount() {
        let table = b"27 1 254:3 / /mnt/a rw - ext4 /dev/vda3 rw\n\
                      30 27 0:40 / /mnt/a/my\\040dir rw shared:1 - tmpfs tmpfs rw\n\
                      31 30 0:41 / /mnt/a/my\\040dir/deep rw - tmpfs tmpfs rw\n\nnonsense\n";
        let points: Vec<_> = points_on(table, Some(27)).collect();
        assert_eq!(points, [Path::new("/mnt/a/my dir")]);
        assert_eq!(points_on(table, None).count(), 3);
    }

    #[test]
    fn a_place_that_is_moved_away_is_lost() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("target");
        std::fs::create_dir(&path).unwrap();
        let root = Arc::new(beneath::open_root(&path).unwrap());
        let place = Place::new(&path, &root).unwrap();
        place.check().unwrap();
        place.probe(File::open(&path).unwrap()).unwrap();
        let elsewhere = scratch.path().join("elsewhere");
        rustix::fs::renameat(rustix::fs::CWD, &path, rustix::fs::CWD, &elsewhere).unwrap();
        let error = place.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TargetLost);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(place.check().unwrap_err().kind(), ErrorKind::TargetLost);
    }
}
