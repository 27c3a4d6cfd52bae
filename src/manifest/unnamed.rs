//! Scratch files that vanish with their descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// How many names are tried where one must be made up.
pub(super) const NAME_TRIES_MAX: u32 = 1000;

/// Opens a new file without a name, on the file system of `dir`, for reading and writing.
///
/// Its space is given back when it is closed, however the program ends.
pub(crate) fn open(dir: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match openat(dir, c".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // What kernels and file systems without O_TMPFILE answer. Source: open(2).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => open_unlinked(dir),
        Err(errno) => Err(errno.into()),
    }
}

/// The same where every file is born with a name: takes the name away at once.
fn open_unlinked(dir: BorrowedFd<'_>) -> io::Result<File> {
    let (file, name) = create(dir, "sort", OFlags::RDWR)?;
    unlinkat(dir, &name, AtFlags::empty())?;
    Ok(file)
}

/// Creates a new file `.STEM.PID.N.tmp` in `dir`, mode 0600; returns it with its name.
///
/// Never opens a file or follows a link that was there before.
pub(super) fn create(dir: impl AsFd, stem: &str, access: OFlags) -> io::Result<(File, String)> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let process = std::process::id();
    for attempt in 0..NAME_TRIES_MAX {
        let name = format!(".{stem}.{process}.{attempt}.tmp");
        match openat(dir.as_fd(), &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((file.into(), name)),
            // Left by a process of this number that was killed, perhaps on another host.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn both_ways_leave_no_name_and_keep_what_is_written() {
        for open in [open, open_unlinked] {
            let dir = tempfile::tempdir().unwrap();
            let handle = File::open(dir.path()).unwrap();
            let mut file = open(handle.as_fd()).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            file.write_all(b"kept").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "kept");
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let planted = format!(".x.{}.0.tmp", std::process::id());
        std::os::unix::fs::symlink(&victim, dir.path().join(&planted)).unwrap();
        let handle = File::open(dir.path()).unwrap();
        let (mut file, name) = create(&handle, "x", OFlags::WRONLY).unwrap();
        assert_ne!(name, planted);
        file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }
}
