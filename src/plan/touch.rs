//! A first look at a SOURCE, by a thread that can be left: whoever waits for this waits for its drive.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, StatxFlags, major, minor, statx};
use rustix::io::Errno;

use super::sources::{is_of_drive, means_contents, parent_of};
use crate::beneath;
use crate::topology::{Topology, fs_uuid};

/// Most symbolic links on the way to a source. Source: path_resolution(7), `MAXSYMLINKS`.
const LINKS_MAX: usize = 40;

/// How far a look at a source came. What it says was told by drives that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// Where the path leads without symbolic links, up to what was asked for last; absolute. Empty
    /// when not even the working directory is known.
    pub at: PathBuf,
    /// What follows, as it was typed; empty when all of the path was followed.
    pub rest: PathBuf,
    /// UUID that the kernel tells of the file system mounted there, with the device number that the
    /// mount table has.
    pub uuid: Option<((u32, u32), String)>,
}

/// Looks at a source as everything that follows will, one step after the other. `told` hears of each
/// step before it is taken, so that it is known of one that never ends where it was.
///
/// What it finds is of no interest here.
///
/// # Errors
/// What its drive answers when it fails. What else fails is left to who opens it.
pub fn touch(path: &Path, told: &dyn Fn(&Trail)) -> Result<(), Errno> {
    let mut trail = Trail::default();
    follow(path, &mut trail, told, &uuid_at);
    trail.uuid = uuid_at(&trail);
    told(&trail);
    match look(path) {
        Err(errno) if is_of_drive(errno) => Err(errno),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// UUID of what is mounted, and the device number that the mount table has.
type Told = Option<((u32, u32), String)>;

/// Follows the symbolic links of a path, as far as there are answers. `ask` is asked for the UUID of
/// each mount that it comes to.
fn follow(path: &Path, trail: &mut Trail, told: &dyn Fn(&Trail), ask: &dyn Fn(&Trail) -> Told) {
    if path.is_relative() {
        let Ok(here) = std::env::current_dir() else {
            return;
        };
        trail.at = here;
    }
    let names = |path: &Path| -> Vec<OsString> {
        let names = path.components().rev();
        names.map(|name| name.as_os_str().to_owned()).collect()
    };
    let mut left = names(path);
    let mut links = 0;
    let mut asked = None;
    while let Some(name) = left.pop() {
        let component = Path::new(&name).components().next();
        match component {
            Some(Component::ParentDir) => {
                trail.at.pop();
                continue;
            }
            Some(Component::Normal(_)) => {}
            // A slash leads to the root from wherever this is.
            Some(Component::RootDir) => {
                trail.at = PathBuf::from("/");
                continue;
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => continue,
        }
        let above = trail.at.clone();
        trail.at.push(&name);
        trail.rest = left.iter().rev().collect();
        told(trail);
        match rustix::fs::readlinkat(CWD, &trail.at, Vec::new()) {
            Ok(link) if links < LINKS_MAX => {
                links += 1;
                trail.at = above;
                let link = OsStr::from_bytes(link.as_bytes());
                left.extend(names(Path::new(link)));
            }
            // Nothing may be said any more further down.
            Err(Errno::INVAL) => {
                let mount = mount_of(&trail.at);
                if mount.is_none() || mount != asked {
                    trail.uuid = ask(trail);
                    asked = mount;
                }
            }
            // Whatever it is, who opens the source meets it, too.
            Ok(_) | Err(_) => return,
        }
    }
    trail.rest = PathBuf::new();
}

/// Returns the number of the mount that a path is in; `None` where the kernel does not tell it. No
/// server is asked for that.
fn mount_of(path: &Path) -> Option<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?;
    let is_told = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    is_told.then_some(stat.stx_mnt_id)
}

/// Asks the kernel for the UUID of what is mounted at a path. Nothing is read from a drive for that:
/// the root of a mount is in memory.
fn uuid_at(trail: &Trail) -> Told {
    let topology = Topology::live().ok()?;
    let mount = topology.mounts_above(&trail.at).into_iter().next()?;
    // Those without a device do not tell, and a server might have to be asked for them.
    if mount.device.0 == 0 {
        return None;
    }
    let root = beneath::open_root(&mount.point).ok()?;
    let readable = beneath::read_dir_fd(root.as_fd(), b"").ok()?;
    let device = rustix::fs::fstat(&readable).ok()?.st_dev;
    let device = (major(device), minor(device));
    let uuid = fs_uuid(readable.as_fd())?;
    (device == mount.device).then_some((device, uuid))
}

/// Does what plans and lanes do with a source before its drive is watched.
fn look(path: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let near = if is_folder {
        path.to_owned()
    } else {
        parent_of(path)
    };
    let root = beneath::open_root(&near)?;
    let readable = beneath::read_dir_fd(root.as_fd(), b"")?;
    // A root folder is always in memory: only what is in it tells that its drive gives something.
    rustix::fs::fstatvfs(&readable)?;
    for entry in Dir::new(readable)? {
        entry?;
        // Where contents land in TARGET itself, all names are compared with those of others.
        if !(is_folder && means_contents(path)) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_each_step_is_told_of_before() {
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("x/y")).unwrap();
        symlink("x/y", top.join("relative")).unwrap();
        symlink(top.join("relative/.."), top.join("absolute")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let steps = RefCell::new(Vec::new());
        let trail_of = |path: &str| {
            steps.borrow_mut().clear();
            let told = |trail: &Trail| steps.borrow_mut().push(trail.clone());
            let mut trail = Trail::default();
            follow(&top.join(path), &mut trail, &told, &|_| None);
            (trail.at, trail.rest)
        };
        let whole = |path: &str| (top.join(path), PathBuf::new());
        assert_eq!(trail_of("x/./y/"), whole("x/y"));
        assert_eq!(trail_of("absolute/y"), whole("x/y"));
        assert_eq!(trail_of("x/y/../../relative"), whole("x/y"));
        // What is not there ends it; the rest is as it was typed.
        assert_eq!(
            trail_of("relative/z/../b"),
            (top.join("x/y/z"), PathBuf::from("../b"))
        );
        assert_eq!(trail_of("loop/b").1, Path::new("b"));
        trail_of("relative");
        let steps = steps.borrow();
        let last: Vec<&Path> = steps.iter().rev().take(3).map(|it| &*it.at).collect();
        let of = ["x/y", "x", "relative"].map(|path| top.join(path));
        assert_eq!(last, of.each_ref().map(PathBuf::as_path));
        assert_eq!(steps[steps.len() - 2].rest, Path::new("y"));
    }

    #[test]
    fn each_mount_on_the_way_is_asked_for_its_uuid_once() {
        let asked = RefCell::new(Vec::new());
        let ask = |trail: &Trail| {
            asked.borrow_mut().push(trail.at.clone());
            Some(((0, 1), "U".to_owned()))
        };
        let mut trail = Trail::default();
        follow(Path::new("/proc/self/task"), &mut trail, &|_| {}, &ask);
        assert_eq!(asked.borrow().as_slice(), [PathBuf::from("/proc")]);
        assert!(trail.uuid.is_some());
    }

    #[test]
    fn what_is_mistyped_is_no_drive_that_fails() {
        for path in ["/nonexistent/x", "/dev/null/x", "/", "/proc/self"] {
            assert_eq!(touch(Path::new(path), &|_| {}), Ok(()), "{path}");
        }
    }
}
