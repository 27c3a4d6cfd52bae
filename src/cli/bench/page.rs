//! The file of `--html`: under its name only when it is whole, and nothing of another's in its place.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A page that is yet to be written.
#[derive(Debug)]
pub(super) struct Page {
    path: PathBuf,
    /// Opened before the work; `None` where files without a name are not known.
    unnamed: Option<OwnedFd>,
}

impl Page {
    /// Makes sure that a page can be made there, and makes nothing that is seen.
    ///
    /// # Errors
    /// Why it cannot be; [`ErrorKind::AlreadyExists`] when something is there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        match path.symlink_metadata() {
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let text = path.as_os_str().as_bytes();
        if path.file_name().is_none() || text.ends_with(b"/") || text.ends_with(b"/.") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let unnamed = match rustix::fs::openat(CWD, folder(path), flags, everyone()) {
            Ok(file) => Some(file),
            // What kernels and file systems without O_TMPFILE answer. Source: open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => None,
            Err(errno) => return Err(errno.into()),
        };
        if unnamed.is_none() {
            drop(draft_of(path)?);
            std::fs::remove_file(draft_name(path))?;
        }
        let path = path.to_owned();
        Ok(Self { path, unnamed })
    }

    /// Returns where it will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the page and names it.
    ///
    /// # Errors
    /// Why it cannot be; then nothing is left.
    pub(super) fn write(self, text: &[u8]) -> Result<()> {
        let Some(file) = self.unnamed else {
            return write_named(&self.path, text);
        };
        let mut file = File::from(file);
        file.write_all(text)?;
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, held, CWD, &self.path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(()),
            Err(errno @ Errno::EXIST) => Err(errno.into()),
            // Without /proc, or without links.
            Err(_) => write_named(&self.path, text),
        }
    }
}

/// Writes under another name first.
fn write_named(path: &Path, text: &[u8]) -> Result<()> {
    let draft = draft_name(path);
    let written = draft_of(path)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| name(&draft, path));
    if written.is_err() {
        let _part_of_it = std::fs::remove_file(&draft);
    }
    written
}

/// Gives a draft its name, if nothing has it.
fn name(draft: &Path, path: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // What a file system answers that knows no such renaming. Source: rename(2).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            std::fs::hard_link(draft, path)?;
            std::fs::remove_file(draft)
        }
        named => Ok(named?),
    }
}

/// Makes the draft of a page anew: what lies there is of a bench that was killed.
fn draft_of(path: &Path) -> Result<File> {
    let draft = draft_name(path);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(draft)
}

/// Returns the name of that, the same in each run.
fn draft_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".inhaul-draft");
    path.with_file_name(name)
}

fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// As any program makes a file: the umask takes away what is not wanted.
fn everyone() -> Mode {
    Mode::from_raw_mode(0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// As where files without a name are not known.
    fn named(path: &Path) -> Page {
        Page {
            path: path.to_owned(),
            unnamed: None,
        }
    }

    #[test]
    fn a_page_is_seen_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        for open in [&Page::open as &dyn Fn(&Path) -> Result<Page>, &|path| {
            Ok(named(path))
        }] {
            let page = open(&path).unwrap();
            assert_eq!(names(folder.path()), [""; 0]);
            page.write(b"all of it").unwrap();
            assert_eq!(names(folder.path()), ["page.html"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        let pages = [Page::open(&path).unwrap(), named(&path)];
        std::fs::write(&path, "mine").unwrap();
        let told = Page::open(&path).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::AlreadyExists);
        for page in pages {
            let told = page.write(b"all of it").unwrap_err();
            assert_eq!(told.kind(), ErrorKind::AlreadyExists);
            assert_eq!(names(folder.path()), ["page.html"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        }
    }

    #[test]
    fn what_a_killed_bench_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        let draft = folder.path().join(".page.html.inhaul-draft");
        std::fs::write(&draft, "half of").unwrap();
        named(&path).write(b"it").unwrap();
        assert_eq!(names(folder.path()), ["page.html"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"it");
    }
}
