//! Which copies this user has begun and not finished, so that `resume` finds them without being
//! told where they are.
//!
//! ```text
//! $XDG_STATE_HOME/inhaul/jobs/JOB    the absolute path of its TARGET, byte for byte, no line end;
//!                                    NUL and the UUID of its file system, where that is known
//! ```
//!
//! Only a reminder: what is true is in TARGET, and a copy does not depend on this. An entry that
//! cannot be written is left out, one that is out of date is dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::engine;
use crate::topology::fs_uuid;

/// Longest path that is taken from an entry, in bytes.
const PATH_LEN_MAX: u64 = 64 << 10;

/// A folder to be opened: itself, not what a link in its place leads to.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The copies a user has begun.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The state folder of the user; `None` for a user who has none.
    state: Option<PathBuf>,
}

/// A copy that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the job.
    pub job: String,
    /// Where it copies to.
    pub target: PathBuf,
    /// The UUID of the file system that is on, if it was known.
    pub fs: Option<String>,
}

impl Registry {
    /// Returns the registry of whoever runs this: below `$XDG_STATE_HOME`, else `~/.local/state`.
    pub fn of_user() -> Self {
        let absolute = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME");
        Self {
            state: state.or_else(|| absolute("HOME").map(|home| home.join(".local/state"))),
        }
    }

    /// Returns the registry below a state folder.
    pub fn at(state: &Path) -> Self {
        Self {
            state: Some(state.to_owned()),
        }
    }

    /// Notes that the job TARGET has now was begun, and drops those of it that are finished.
    pub fn begun(&self, target: &Path) {
        let unfinished = engine::unfinished(target);
        let Some(job) = unfinished.first() else {
            return;
        };
        let Ok(target) = std::fs::canonicalize(target) else {
            return;
        };
        // Without it, resume takes one argument more.
        let _noted = self.folder(true).and_then(|folder| {
            for entry in list(&folder)? {
                let is_over = entry.target == target && !unfinished.contains(&entry.job);
                if is_over || entry.job == *job {
                    forget(&folder, &entry.job);
                }
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(&folder, job, flags | OFlags::CLOEXEC, mode)?;
            let mut note = target.as_os_str().as_bytes().to_vec();
            if let Some(fs) = fs_of(&target) {
                note.push(0);
                note.extend_from_slice(fs.as_bytes());
            }
            let written = File::from(file).write_all(&note);
            written.map_err(|_| {
                forget(&folder, job);
                Errno::IO
            })
        });
    }

    /// Drops the entries of TARGET that are not unfinished any more.
    pub fn settle(&self, target: &Path) {
        let Ok(target) = std::fs::canonicalize(target) else {
            return;
        };
        let Ok(folder) = self.folder(false) else {
            return;
        };
        let unfinished = engine::unfinished(&target);
        for entry in list(&folder).unwrap_or_default() {
            let is_over = entry.is_there() && !unfinished.contains(&entry.job);
            if entry.target == target && is_over {
                forget(&folder, &entry.job);
            }
        }
    }

    /// Returns a copy that was begun into TARGET when that was another file system than it is now,
    /// and is not finished, with the path of its note: its drive is not mounted.
    pub fn misplaced(&self, target: &Path) -> Option<(Entry, PathBuf)> {
        // A folder that is not there was, or would be, below its parent.
        let (target, nearest) = if let Ok(target) = std::fs::canonicalize(target) {
            (target.clone(), target)
        } else {
            let parent = target.parent().filter(|path| !path.as_os_str().is_empty());
            let parent = std::fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
            (parent.join(target.file_name()?), parent)
        };
        let folder = self.folder(false).ok()?;
        let mut entries = list(&folder).ok()?.into_iter();
        let entry = entries.find(|entry| {
            let is_here = entry
                .target
                .join(crate::target::HOME)
                .join(&entry.job)
                .is_dir();
            entry.target == target && !is_here && entry.fs.is_some() && entry.fs != fs_of(&nearest)
        })?;
        let note = self.state.as_ref()?.join("inhaul/jobs").join(&entry.job);
        Some((entry, note))
    }

    /// Returns what was begun and, as far as can be told, not finished, in the order of its names:
    /// of the time it began. What a TARGET that is there says is finished is dropped for good.
    pub fn unfinished(&self) -> Vec<Entry> {
        let Ok(folder) = self.folder(false) else {
            return Vec::new();
        };
        let mut entries = list(&folder).unwrap_or_default();
        entries.retain(|entry| {
            let is_over =
                entry.is_there() && !engine::unfinished(&entry.target).contains(&entry.job);
            if is_over {
                forget(&folder, &entry.job);
            }
            !is_over
        });
        entries.sort_by(|a, b| a.job.cmp(&b.job));
        entries
    }

    /// Opens the folder of the entries, with what leads to it made if asked for. Every folder must
    /// be this user's alone: an entry decides where a later run writes.
    fn folder(&self, makes: bool) -> Result<OwnedFd, Errno> {
        self.folder_of("jobs", makes)
    }

    /// Returns where such a folder is, for messages; `None` for a user who has none.
    pub(super) fn place_of(&self, last: &str) -> Option<PathBuf> {
        Some(self.state.as_ref()?.join("inhaul").join(last))
    }

    /// The same for another folder of this program's: `$XDG_STATE_HOME/inhaul/NAME`.
    pub(super) fn folder_of(&self, last: &str, makes: bool) -> Result<OwnedFd, Errno> {
        let state = self.state.as_ref().ok_or(Errno::NOENT)?;
        if makes {
            make_state(state);
        }
        // The user's own path: links in it are theirs.
        let flags = FOLDER.difference(OFlags::NOFOLLOW);
        let mut folder = rustix::fs::openat(rustix::fs::CWD, state, flags, Mode::empty())?;
        check_owner(&folder)?;
        for name in ["inhaul", last] {
            if makes {
                match rustix::fs::mkdirat(&folder, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
            check_owner(&folder)?;
        }
        Ok(folder)
    }
}

impl Entry {
    /// Returns whether its target is there, as far as it has records of inhaul's.
    pub fn is_there(&self) -> bool {
        self.target.join(crate::target::HOME).is_dir()
    }
}

/// Makes the state folder and the one it is in, but only in a folder of this user's: `$HOME` may be
/// somebody else's, who could not use what root makes there.
fn make_state(state: &Path) {
    use std::os::unix::fs::MetadataExt;
    let me = rustix::process::geteuid().as_raw();
    for folder in state.parent().into_iter().chain([state]) {
        let above = folder.parent().and_then(|above| above.metadata().ok());
        if above.is_some_and(|above| above.uid() == me) {
            // What cannot be made cannot be opened.
            let _made = rustix::fs::mkdirat(rustix::fs::CWD, folder, Mode::RWXU);
        }
    }
}

fn check_owner(folder: &OwnedFd) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(folder)?;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    if mine && stat.st_mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(Errno::PERM)
    }
}

/// Reads the entries of a folder; what is no entry is left out.
fn list(folder: &OwnedFd) -> Result<Vec<Entry>, Errno> {
    let mut entries = Vec::new();
    for found in Dir::read_from(folder)? {
        let Ok(job) = found?.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if let Some((target, fs)) = read(folder, &job) {
            entries.push(Entry { job, target, fs });
        }
    }
    Ok(entries)
}

fn read(folder: &OwnedFd, job: &str) -> Option<(PathBuf, Option<String>)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder.as_fd(), job, flags, Mode::empty()).ok()?;
    let mut path = Vec::new();
    let mut limited = File::from(file).take(PATH_LEN_MAX);
    limited.read_to_end(&mut path).ok()?;
    let mut fs = None;
    if let Some(end) = path.iter().position(|&byte| byte == 0) {
        fs = String::from_utf8(path.split_off(end + 1)).ok();
        path.truncate(end);
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    path.is_absolute().then_some((path, fs))
}

/// Returns the UUID of the file system a folder is on.
fn fs_of(folder: &Path) -> Option<String> {
    fs_uuid(File::open(folder).ok()?.as_fd())
}

fn forget(folder: &OwnedFd, job: &str) {
    // Left behind, it is dropped when it is next looked at.
    let _gone = rustix::fs::unlinkat(folder, job, AtFlags::empty());
}
