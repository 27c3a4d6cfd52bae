//! What a journal is written to: a file, or in tests something that fails like one.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};

/// A file that is only appended to.
///
/// After the first error a [`Writer`](super::Writer) calls neither of the two again.
pub trait Medium: Send + Debug {
    /// Writes all of `bytes` behind what is there.
    ///
    /// # Durability
    /// None.
    ///
    /// # Errors
    /// When not all of them were written; some may have been.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended so far durable.
    ///
    /// # Durability
    /// `Ok` means: all of it survives a power cut at any later moment.
    ///
    /// # Errors
    /// When any of it may be lost.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file is open for appending.
impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        rustix::fs::fdatasync(&*self).map_err(io::Error::from)
    }
}

/// Returns the file itself: what the journal of a run is written to.
pub(super) fn file_itself(file: File) -> Box<dyn Medium> {
    Box::new(file)
}
