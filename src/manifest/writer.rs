//! Records to a manifest that is there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::unnamed;
use super::{B3SUM_FILE, B3sum, Codec, NUL_FILE, NulList, Record, Sorter, check_path};
use crate::error::{Error, ErrorKind, Side};

/// Bytes gathered before each write: a few thousand records.
const BUFFER_LEN: usize = 256 << 10;

/// What a manifest holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records in both files.
    pub records: u64,
    /// Those in `manifest.nul`, which `b3sum -c` cannot express.
    pub outside_b3sum: u64,
}

/// Writes the manifest of one job.
///
/// Dropped before [`publish`](Self::publish), it takes its files away again.
#[derive(Debug)]
pub struct ManifestWriter {
    dir: Arc<OwnedFd>,
    b3sum: Staged,
    nul: Option<Staged>,
    counts: Counts,
    frame: Vec<u8>,
}

impl ManifestWriter {
    /// Begins the manifest of the job directory `dir`, under temporary names of mode 0600.
    ///
    /// # Errors
    /// `AlreadyExists` if the job has a manifest; otherwise what creating the file met.
    pub fn create(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let writer = Self::replace(dir)?;
        for name in [B3SUM_FILE, NUL_FILE] {
            match rustix::fs::statat(&writer.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(_) => return Err(Errno::EXIST.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(writer)
    }

    /// The same for a job that may have a manifest from an earlier run: it is replaced.
    ///
    /// # Errors
    /// What creating the file met.
    pub fn replace(dir: BorrowedFd<'_>) -> io::Result<Self> {
        // Our own descriptor: opened before the first write, so that no failed write-back can
        // go unseen, and good for syncing even if `dir` is only a path.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Arc::new(rustix::fs::openat(dir, c".", flags, Mode::empty())?);
        Ok(Self {
            b3sum: Staged::create(&dir, B3SUM_FILE)?,
            nul: None,
            dir,
            counts: Counts::default(),
            frame: Vec::new(),
        })
    }

    /// Adds a record to the file that can express it. Order is the caller's; see [`Sorter`].
    ///
    /// # Errors
    /// `InvalidInput` for a path that [`super::load()`] would refuse; otherwise what writing met.
    pub fn push(&mut self, record: &Record) -> io::Result<()> {
        check_path(&record.path).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        self.frame.clear();
        let file = if B3sum.can_express(&record.path) {
            B3sum.encode(record, &mut self.frame);
            &mut self.b3sum
        } else {
            NulList.encode(record, &mut self.frame);
            self.counts.outside_b3sum += 1;
            match &mut self.nul {
                Some(file) => file,
                None => self.nul.insert(Staged::create(&self.dir, NUL_FILE)?),
            }
        };
        file.out.write_all(&self.frame)?;
        self.counts.records += 1;
        Ok(())
    }

    /// Gives the files their names, mode 0644, and returns what they hold.
    ///
    /// # Durability
    /// When this returns, both files survive a power cut. Before, `manifest.b3` is not there, or
    /// (between its rename and our return) is there complete. `manifest.nul` is made durable,
    /// name and all, before `manifest.b3` gets its name: where there is a `manifest.b3`, whatever
    /// else belongs to the manifest is there too. A manifest cut at the end of a record cannot be
    /// told from a shorter one, so the counts belong in the job's report.
    ///
    /// # Errors
    /// What syncing or renaming met. A failed sync is never tried again: what it lost is unknown.
    pub fn publish(self) -> io::Result<Counts> {
        let has_nul = self.nul.is_some();
        if let Some(nul) = self.nul {
            nul.publish()?;
        }
        self.b3sum.publish()?;
        if !has_nul {
            // An earlier run's; what it lists is in the one that was just published.
            match rustix::fs::unlinkat(&self.dir, NUL_FILE, AtFlags::empty()) {
                Ok(()) => rustix::fs::fsync(&self.dir)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(self.counts)
    }
}

/// Writes the manifest of the job directory `dir` from everything in `sorter`, and publishes it, in
/// place of an earlier run's. It gets the records for which `belongs`, asked on the way, says yes; of
/// several with one path the first that was pushed counts.
///
/// # Durability
/// That of [`ManifestWriter::publish`].
///
/// # Errors
/// [`ErrorKind::RecordWrite`].
pub fn write_sorted(
    sorter: Sorter,
    dir: BorrowedFd<'_>,
    belongs: &mut dyn FnMut(&Record) -> bool,
) -> Result<Counts, Error> {
    let write = || {
        let mut writer = ManifestWriter::replace(dir)?;
        let mut last: Option<Vec<u8>> = None;
        sorter.finish(&mut |record| {
            if last.as_ref() == Some(&record.path) || !belongs(record) {
                return Ok(());
            }
            last = Some(record.path.clone());
            writer.push(record)
        })?;
        writer.publish()
    };
    let failed = |error: io::Error| {
        let what = "write the manifest";
        Error::new(ErrorKind::RecordWrite, Side::Record, B3SUM_FILE, what).because(error)
    };
    write().map_err(failed)
}

/// A file under a temporary name.
#[derive(Debug)]
struct Staged {
    dir: Arc<OwnedFd>,
    name: &'static str,
    temporary: String,
    out: BufWriter<File>,
    has_name: bool,
}

impl Staged {
    fn create(dir: &Arc<OwnedFd>, name: &'static str) -> io::Result<Self> {
        let (file, temporary) = unnamed::create(dir.as_fd(), name, OFlags::WRONLY)?;
        Ok(Self {
            dir: Arc::clone(dir),
            name,
            temporary,
            out: BufWriter::with_capacity(BUFFER_LEN, file),
            has_name: false,
        })
    }

    /// Contents and mode first, then the name, then the directory that holds the name.
    fn publish(mut self) -> io::Result<()> {
        self.out.flush()?;
        let file = self.out.get_ref();
        rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?;
        rustix::fs::fsync(file)?;
        rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, self.name)?;
        self.has_name = true;
        rustix::fs::fsync(&self.dir)?;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.has_name {
            // We made it, under a name of our own. If it cannot be removed it does no harm.
            rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn record(path: &[u8]) -> Record {
        Record {
            path: path.to_vec(),
            digest: blake3::Hash::from_bytes([0x11; 32]),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_manifest_is_sorted_published_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut sorter = Sorter::new(handle.try_clone().unwrap().into(), 1 << 20);
        for path in [&b"b"[..], b"a\nb", b"\xff", b"-"] {
            sorter.push(&record(path)).unwrap();
        }
        let counts = write_sorted(sorter, handle.as_fd(), &mut |_| true).unwrap();
        let expected = Counts {
            records: 4,
            outside_b3sum: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(names(dir.path()), ["manifest.b3", "manifest.nul"]);
        let text = std::fs::read(dir.path().join("manifest.b3")).unwrap();
        assert_eq!(text, format!("\\{ONE}  a\\nb\n{ONE}  b\n").into_bytes());
        let text = std::fs::read(dir.path().join("manifest.nul")).unwrap();
        let expected = [ONE.as_bytes(), b"  -\0", ONE.as_bytes(), b"  \xff\0"].concat();
        assert_eq!(text, expected);
        for name in names(dir.path()) {
            let mode = std::fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o7777, 0o644);
        }
    }

    #[test]
    fn names_b3sum_can_express_need_no_second_file() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut writer = ManifestWriter::create(handle.as_fd()).unwrap();
        writer.push(&record(b"a")).unwrap();
        writer.publish().unwrap();
        assert_eq!(names(dir.path()), ["manifest.b3"]);
    }

    #[test]
    fn nothing_has_its_name_before_publishing_and_nothing_stays_without() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut writer = ManifestWriter::create(handle.as_fd()).unwrap();
        writer.push(&record(b"a")).unwrap();
        writer.push(&record(b"\xff")).unwrap();
        let staged = names(dir.path());
        assert_eq!(staged.len(), 2);
        for name in staged {
            assert!(name.starts_with(".manifest."), "{name}");
            let mode = std::fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o7777, 0o600);
        }
        drop(writer);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_second_manifest_of_one_job_is_refused() {
        for name in ["manifest.b3", "manifest.nul"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), "first").unwrap();
            let handle = File::open(dir.path()).unwrap();
            let error = ManifestWriter::create(handle.as_fd()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(names(dir.path()), [name]);
        }
    }

    #[test]
    fn the_manifest_of_an_earlier_run_is_replaced_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["manifest.b3", "manifest.nul"] {
            std::fs::write(dir.path().join(name), "first").unwrap();
        }
        let handle = File::open(dir.path()).unwrap();
        let mut writer = ManifestWriter::replace(handle.as_fd()).unwrap();
        writer.push(&record(b"a")).unwrap();
        drop(ManifestWriter::replace(handle.as_fd()).unwrap());
        let first = std::fs::read(dir.path().join("manifest.b3")).unwrap();
        assert_eq!(first, b"first");
        writer.publish().unwrap();
        assert_eq!(names(dir.path()), ["manifest.b3"]);
        let second = std::fs::read_to_string(dir.path().join("manifest.b3")).unwrap();
        assert_eq!(second, format!("{ONE}  a\n"));
    }

    #[test]
    fn a_path_that_leaves_the_target_is_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut writer = ManifestWriter::create(handle.as_fd()).unwrap();
        let error = writer.push(&record(b"../a")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(writer.publish().unwrap(), Counts::default());
    }
}
