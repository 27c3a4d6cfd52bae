//! A folder of files that cannot be written to, whose lengths and bytes are whatever a test says.

use std::path::Path;

use fuser::{Errno, FileAttr, FileType, OpenFlags};
use rustix::fs::OFlags;

use super::flat::{Flat, FlatFs, attributes};

/// A file.
#[derive(Debug)]
pub(crate) struct Told {
    name: String,
    said: u64,
    bytes: Vec<u8>,
    has_no_end: bool,
}

impl Told {
    /// Returns a file that is said to be so long and has these bytes.
    pub(crate) fn new(name: &str, said: u64, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            said,
            bytes,
            has_no_end: false,
        }
    }

    /// Returns a file behind whose bytes more may come at any time. Who would wait for them is told
    /// that they cannot be read: nobody is kept waiting here.
    pub(crate) fn endless(name: &str, bytes: Vec<u8>) -> Self {
        let said = bytes.len().try_into().unwrap();
        let has_no_end = true;
        Self {
            has_no_end,
            ..Self::new(name, said, bytes)
        }
    }

    /// Mounts a folder of such files at `point`, which is made.
    pub(crate) fn mount(point: &Path, files: Vec<Self>) -> FlatFs {
        FlatFs::new(point, "told", Served(files))
    }

    /// Mounts one as sshfs does what another machine has by this name, `HOST:FOLDER`.
    pub(crate) fn mount_of_host(point: &Path, name: &str, files: Vec<Self>) -> FlatFs {
        FlatFs::of_host(point, name, Served(files))
    }
}

struct Served(Vec<Told>);

impl Served {
    fn file(&self, number: u64) -> &Told {
        &self.0[usize::try_from(number).unwrap() - 2]
    }
}

impl Flat for Served {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|file| file.name.clone()).collect()
    }

    fn number(&self, index: usize) -> Option<u64> {
        Some(index as u64 + 2)
    }

    fn attributes(&self, number: u64) -> FileAttr {
        attributes(number, FileType::RegularFile, self.file(number).said)
    }

    fn read(
        &self,
        number: u64,
        offset: u64,
        size: usize,
        flags: OpenFlags,
    ) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::from_bits_retain(flags.0.try_into().unwrap());
        if flags.contains(OFlags::DIRECT) && size < 512 {
            return Err(Errno::EINVAL);
        }
        let file = self.file(number);
        let bytes = &file.bytes;
        if file.has_no_end && offset >= bytes.len() as u64 {
            let waits = !flags.contains(OFlags::NONBLOCK);
            return Err(if waits { Errno::EIO } else { Errno::EAGAIN });
        }
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + size).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }
}
