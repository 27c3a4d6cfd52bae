//! A file of a job's folder: whole and durable under its name, or not there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::home::record_error;
use crate::error::{Error, ErrorKind, Side};

/// A file of a job's folder that is being written.
#[derive(Debug)]
pub struct RecordWriter {
    job: OwnedFd,
    path: PathBuf,
    name: String,
    out: BufWriter<File>,
}

impl RecordWriter {
    pub(super) fn create(job: OwnedFd, path: PathBuf, name: &str) -> Result<Self, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&job, staged(name), flags | OFlags::CLOEXEC, mode)
            .map_err(|errno| record_error(&path, "create", errno))?;
        Ok(Self {
            job,
            path,
            name: name.to_owned(),
            out: BufWriter::new(file.into()),
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = |error| {
            Error::new(ErrorKind::RecordWrite, Side::Record, &self.path, "write").because(error)
        };
        self.out.write_all(bytes).map_err(failed)
    }

    /// Gives the file its name, in place of what has it.
    ///
    /// # Durability
    /// Durable under its name when this returns.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn publish(mut self) -> Result<(), Error> {
        let fail = |what: &str, errno: Errno| record_error(&self.path, what, errno);
        self.out.flush().map_err(|error| {
            Error::new(ErrorKind::RecordWrite, Side::Record, &self.path, "write").because(error)
        })?;
        // Whatever the umask is. A record that only its owner can read is one all the same.
        let _best_effort = rustix::fs::fchmod(self.out.get_ref(), Mode::from_raw_mode(0o644));
        rustix::fs::fsync(self.out.get_ref()).map_err(|errno| fail("sync", errno))?;
        rustix::fs::renameat(&self.job, staged(&self.name), &self.job, &self.name)
            .and_then(|()| rustix::fs::fsync(&self.job))
            .map_err(|errno| fail("publish", errno))
    }
}

fn staged(name: &str) -> String {
    format!("{name}.new")
}
