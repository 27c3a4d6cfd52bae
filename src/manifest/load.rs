//! The manifest of a finished job, read back.

use std::fs::File;
use std::io::BufReader;
use std::iter::FusedIterator;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{B3SUM_FILE, B3sum, Codec, NUL_FILE, NulList, ReadError, Reader, Record, reader};
use crate::error::{Error, ErrorKind, Side};

/// Bytes read at once.
const BUFFER_LEN: usize = 256 << 10;

/// One file of a manifest.
#[derive(Debug)]
struct Part {
    name: &'static str,
    records: Reader<'static, BufReader<File>>,
}

/// Iterator over the records of a job; see [`load`].
#[derive(Debug)]
pub struct Load {
    current: Option<Part>,
    next: Option<Part>,
}

/// Returns the records of the job directory `dir`: those of `manifest.b3`, then those of
/// `manifest.nul` if there is one.
///
/// Nothing is skipped: the first record that does not parse, or that names a path outside TARGET,
/// ends the iteration with an error that names file and line.
///
/// # Errors
/// [`ErrorKind::RecordCorrupt`] if there is no manifest, or if a file is not a regular one.
pub fn load(dir: BorrowedFd<'_>) -> Result<Load, Error> {
    let Some(b3sum) = open(dir, B3SUM_FILE, &B3sum)? else {
        let what = "this job has no manifest: it did not finish";
        return Err(corrupt(B3SUM_FILE, what));
    };
    Ok(Load {
        current: Some(b3sum),
        next: open(dir, NUL_FILE, &NulList)?,
    })
}

/// Opens a part; `None` if it is not there. Follows no link and never waits for a FIFO's writer.
fn open(
    dir: BorrowedFd<'_>,
    name: &'static str,
    codec: &'static dyn Codec,
) -> Result<Option<Part>, Error> {
    let unreadable = |errno: Errno| corrupt(name, "open the manifest").because(errno);
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(unreadable(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(corrupt(name, "the manifest is not a regular file"));
    }
    let input = BufReader::with_capacity(BUFFER_LEN, File::from(file));
    Ok(Some(Part {
        name,
        records: reader(codec, input),
    }))
}

fn corrupt(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::RecordCorrupt, Side::Record, name, what)
}

fn failed(name: &str, error: ReadError) -> Error {
    // "line" where it is one, so that an editor or sed finds it.
    let word = if name == B3SUM_FILE { "line" } else { "record" };
    match error {
        ReadError::Decode { number, error } => corrupt(name, &format!("{word} {number}: {error}")),
        ReadError::Io { number, error } => {
            corrupt(name, &format!("read {word} {number}")).because(error)
        }
    }
}

impl Iterator for Load {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let part = self.current.as_mut()?;
            match part.records.next() {
                Some(Ok(record)) => return Some(Ok(record)),
                Some(Err(error)) => {
                    let error = failed(part.name, error);
                    self.current = None;
                    return Some(Err(error));
                }
                None => self.current = self.next.take(),
            }
        }
    }
}

impl FusedIterator for Load {}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::super::ManifestWriter;
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn load_at(dir: &Path) -> Result<Vec<Record>, Error> {
        let handle = File::open(dir).unwrap();
        load(handle.as_fd())?.collect()
    }

    #[test]
    fn both_files_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut writer = ManifestWriter::create(handle.as_fd()).unwrap();
        let record = |path: &[u8], mark| Record {
            path: path.to_vec(),
            digest: blake3::Hash::from_bytes([mark; 32]),
        };
        let records = [record(b"a\\b", 1), record(b"c", 2), record(b"\xff\n", 3)];
        for index in [2, 0, 1] {
            writer.push(&records[index]).unwrap();
        }
        writer.publish().unwrap();
        assert_eq!(load_at(dir.path()).unwrap(), records);
    }

    #[test]
    fn no_manifest_is_said_clearly() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.nul"), "").unwrap();
        let error = load_at(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
        let text = "manifest.b3: this job has no manifest: it did not finish";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_fault_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let b3 = dir.path().join("manifest.b3");
        std::fs::write(&b3, format!("{ONE}  a\n{ONE}  ../etc/shadow\n{ONE}  b\n")).unwrap();
        let error = load_at(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
        let text = "manifest.b3: line 2: the path is absolute or has a component that is empty, \
                    \".\" or \"..\"";
        assert_eq!(error.to_string(), text);

        std::fs::write(&b3, format!("{ONE}  a\n")).unwrap();
        std::fs::write(dir.path().join("manifest.nul"), format!("{ONE}  b")).unwrap();
        let error = load_at(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
        assert!(error.to_string().starts_with("manifest.nul: record 1: "));
    }

    #[test]
    fn after_a_fault_nothing_more_comes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.b3"), "bad\n").unwrap();
        std::fs::write(dir.path().join("manifest.nul"), format!("{ONE}  b\0")).unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut items = load(handle.as_fd()).unwrap();
        assert!(items.next().unwrap().is_err());
        assert!(items.next().is_none());
    }

    #[test]
    fn links_fifos_and_directories_are_not_manifests() {
        use std::os::unix::fs::symlink;
        for name in ["manifest.b3", "manifest.nul"] {
            for make in ["link", "fifo", "directory"] {
                let dir = tempfile::tempdir().unwrap();
                std::fs::write(dir.path().join("manifest.b3"), "").unwrap();
                std::fs::write(dir.path().join("other"), format!("{ONE}  a\n")).unwrap();
                let path = dir.path().join(name);
                if path.exists() {
                    std::fs::remove_file(&path).unwrap();
                }
                match make {
                    "link" => symlink("other", &path).unwrap(),
                    "fifo" => {
                        let kind = FileType::Fifo;
                        let mode = Mode::from_raw_mode(0o600);
                        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
                    }
                    _ => std::fs::create_dir(&path).unwrap(),
                }
                let error = load_at(dir.path()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::RecordCorrupt, "{name} as {make}");
            }
        }
    }
}
