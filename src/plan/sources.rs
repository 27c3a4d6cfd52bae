//! Sources and target as typed, opened once, checked against each other.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::error::{Error, ErrorKind, Side, is_bad_medium, is_gone};
use crate::scan::as_path;
use crate::target::HOME;

/// One SOURCE, opened.
#[derive(Debug)]
pub struct Source {
    /// As typed.
    pub label: PathBuf,
    /// Its directory; for a file, the directory it is in.
    pub root: OwnedFd,
    /// For a file: its name in `root`.
    pub only: Option<Vec<u8>>,
    /// Where it lands below TARGET; empty for "its contents land in TARGET itself".
    pub landing: Vec<u8>,
    /// Device and inode of the directory or file itself.
    identity: (u64, u64),
}

impl Source {
    /// Returns the path to look up its mount with.
    pub fn path(&self) -> &Path {
        &self.label
    }
}

fn usage(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Usage, Side::Source, path, what)
}

fn refused(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Refused, Side::Target, path, what)
}

/// Returns whether a path means the contents of a directory: `dir/`, `.`, `..`, `/`.
pub(super) fn means_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();
    last.is_empty() || last == b"." || last == b".."
}

/// What to do with a SOURCE that is a symlink to a file. (One to a directory is always entered.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedLink {
    /// It is the symlink that is meant, as rsync has it: `copy`.
    Itself,
    /// It is the file that is meant, as b3sum has it: `hash`.
    Followed,
}

/// Opens every SOURCE.
///
/// # Errors
/// `Usage` when one is not there or neither a file nor a directory; `SourceRead` and `SourceLost` when
/// its drive fails.
pub fn open_sources(paths: &[PathBuf], named: NamedLink) -> Result<Vec<Source>, Error> {
    paths.iter().map(|path| open_source(path, named)).collect()
}

fn open_source(label: &Path, named: NamedLink) -> Result<Source, Error> {
    let cannot = |errno: Errno| {
        if is_of_drive(errno) {
            Error::source(label, "open this source", errno)
        } else {
            usage(label, "cannot open this source").because(errno)
        }
    };
    // The operator named it: symlinks in this path are followed, once, here.
    let stat = rustix::fs::stat(label).map_err(cannot)?;
    let identity = (stat.st_dev, stat.st_ino);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let root = beneath::open_root(label).map_err(cannot)?;
            let landing = if means_contents(label) {
                Vec::new()
            } else {
                label
                    .file_name()
                    .map(|name| name.as_bytes().to_vec())
                    .unwrap_or_default()
            };
            Ok(Source {
                label: label.to_owned(),
                root,
                only: None,
                landing,
                identity,
            })
        }
        FileType::RegularFile => {
            let resolved = match named {
                NamedLink::Itself => label.to_owned(),
                NamedLink::Followed => std::fs::canonicalize(label)
                    .map_err(|source| usage(label, "cannot open this source").because(source))?,
            };
            let name = resolved.file_name().map(|name| name.as_bytes().to_vec());
            let parent = match resolved.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let root = beneath::open_root(parent).map_err(cannot)?;
            let only = name.filter(|_| !means_contents(label));
            if only.is_none() {
                return Err(usage(label, "a file, but the path ends like a folder"));
            }
            Ok(Source {
                label: label.to_owned(),
                root,
                only,
                landing: Vec::new(),
                identity,
            })
        }
        _ => Err(usage(
            label,
            "neither a file nor a folder; a device is not copied as a source",
        )),
    }
}

/// Returns whether a failure is the drive's, and not of what was typed.
pub(super) fn is_of_drive(errno: Errno) -> bool {
    is_bad_medium(errno) || is_gone(errno)
}

/// TARGET, looked at and not yet made.
#[derive(Debug)]
pub struct TargetPlace {
    /// As typed.
    pub label: PathBuf,
    /// TARGET itself, or its parent when only its last component is missing.
    pub nearest: OwnedFd,
    /// The component that is missing.
    missing: Option<OsString>,
}

/// Looks at TARGET, and where it lies with regard to the sources.
///
/// # Errors
/// `Usage` when its parent is not there or it is no directory; `Refused` when a source lies in it
/// or it lies in a source.
pub fn look_at_target(path: &Path, sources: &[Source]) -> Result<TargetPlace, Error> {
    let missing = match rustix::fs::stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => None,
        Ok(_) => return Err(usage(path, "the target is there, but it is not a folder")),
        Err(Errno::NOENT) if rustix::fs::lstat(path).is_ok() => {
            return Err(usage(path, "the target is a symlink to nothing"));
        }
        Err(Errno::NOENT) => Some(last_component(path)?),
        Err(errno) => return Err(usage(path, "cannot open the target").because(errno)),
    };
    let near = if missing.is_none() {
        path.to_owned()
    } else {
        parent_of(path)
    };
    let nearest = beneath::open_root(&near).map_err(|errno| {
        usage(
            path,
            "the target's parent folder is not there; make it first",
        )
        .because(errno)
    })?;
    check_nesting(path, nearest.as_fd(), missing.is_none(), sources)?;
    Ok(TargetPlace {
        label: path.to_owned(),
        nearest,
        missing,
    })
}

fn last_component(path: &Path) -> Result<OsString, Error> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => Ok(name.to_owned()),
        _ => Err(usage(path, "cannot open the target").because(Errno::NOENT)),
    }
}

impl TargetPlace {
    /// Returns TARGET, or `None` when it is not there yet.
    pub fn existing(&self) -> Option<BorrowedFd<'_>> {
        self.missing.is_none().then(|| self.nearest.as_fd())
    }

    /// Returns TARGET, made if it was missing.
    ///
    /// # Durability
    /// Its name survives a power cut.
    ///
    /// # Errors
    /// As mkdir(2) and fsync(2).
    pub fn make(self) -> Result<OwnedFd, Error> {
        let Some(name) = self.missing else {
            return Ok(self.nearest);
        };
        let fail = |what: &str, errno| Error::target(&self.label, what, errno);
        rustix::fs::mkdirat(&self.nearest, &name, Mode::from(0o755))
            .map_err(|errno| fail("make the target folder", errno))?;
        let made = beneath::open_dir(self.nearest.as_fd(), name.as_bytes())
            .map_err(|errno| fail("open the target folder", errno))?;
        beneath::read_dir_fd(self.nearest.as_fd(), b"")
            .and_then(rustix::fs::fsync)
            .map_err(|errno| fail("make the target folder durable", errno))?;
        Ok(made)
    }
}

pub(super) fn parent_of(path: &Path) -> PathBuf {
    let mut components = path.components();
    components.next_back();
    match components.as_path() {
        parent if parent.as_os_str().is_empty() => PathBuf::from("."),
        parent => parent.to_owned(),
    }
}

/// Returns device and inode of a directory and of every directory above it.
fn ancestors(dir: BorrowedFd<'_>) -> Result<Vec<(u64, u64)>, Errno> {
    let mut chain = Vec::new();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    loop {
        let stat = rustix::fs::fstat(&here)?;
        let identity = (stat.st_dev, stat.st_ino);
        // The root is its own parent.
        if chain.last() == Some(&identity) {
            return Ok(chain);
        }
        chain.push(identity);
        here = rustix::fs::openat(&here, c"..", flags, Mode::empty())?;
    }
}

fn check_nesting(
    path: &Path,
    nearest: BorrowedFd<'_>,
    exists: bool,
    sources: &[Source],
) -> Result<(), Error> {
    let look = |errno: Errno| usage(path, "cannot tell where this lies").because(errno);
    let above_target = ancestors(nearest).map_err(look)?;
    for source in sources {
        if source.only.is_none() && above_target.contains(&source.identity) {
            let what = format!(
                "the target lies in the source {}; copying would never end",
                source.label.display()
            );
            return Err(refused(path, &what));
        }
        if !exists {
            continue;
        }
        let above_source = ancestors(source.root.as_fd()).map_err(look)?;
        // A single file may lie in the target's folder only under another name: its landing.
        let target = above_target.first();
        let inside = above_source.iter().any(|identity| Some(identity) == target);
        if inside {
            let what = format!("the source {} lies in the target", source.label.display());
            return Err(refused(path, &what));
        }
    }
    Ok(())
}

/// Refuses sources that are the same place, and sources that would land on the same name.
///
/// # Errors
/// `Refused`, naming both.
pub fn check_landings(sources: &[Source]) -> Result<(), Error> {
    let mut places: HashMap<(u64, u64), &Source> = HashMap::new();
    let mut names: HashMap<Vec<u8>, &Source> = HashMap::new();
    let many = sources.len() > 1;
    for source in sources {
        if let Some(other) = places.insert(source.identity, source) {
            let what = format!("the same place as {}", other.label.display());
            return Err(refused(&source.label, &what));
        }
        for name in top_names(source, many)? {
            if name == HOME.as_bytes() && (source.only.is_some() || !source.landing.is_empty()) {
                let what = "it would land on the target's private folder";
                return Err(refused(&source.label, what));
            }
            if let Some(other) = names.insert(name.clone(), source) {
                let what = format!(
                    "it would land on the same name in the target as {}: {}",
                    other.label.display(),
                    as_path(&name).display()
                );
                return Err(refused(&source.label, &what));
            }
        }
    }
    Ok(())
}

/// Returns the names a source takes up directly in TARGET.
fn top_names(source: &Source, list: bool) -> Result<Vec<Vec<u8>>, Error> {
    if let Some(only) = &source.only {
        return Ok(vec![only.clone()]);
    }
    if !source.landing.is_empty() {
        return Ok(vec![source.landing.clone()]);
    }
    if !list {
        return Ok(Vec::new());
    }
    let cannot = |errno: Errno| {
        if is_of_drive(errno) {
            Error::source(&source.label, "list this source", errno)
        } else {
            usage(&source.label, "cannot list this source").because(errno)
        }
    };
    let dir = beneath::read_dir_fd(source.root.as_fd(), b"").map_err(cannot)?;
    let mut names = Vec::new();
    for entry in Dir::new(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().to_bytes();
        // The private folder of another target is left out anyway; folders that many drives
        // have at their top are theirs to merge only by name, so they count.
        if name != b"." && name != b".." && name != HOME.as_bytes() {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
