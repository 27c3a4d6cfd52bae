//! The journal's own room: it is always allocated some way ahead of what is written, so that a
//! target that fills up can still be told what it has.

use std::fs::File;
use std::io;

use rustix::fs::FallocateFlags;

use crate::journal::Medium;

/// How far ahead: more than what can be on its way when the target fills up has records (a batch of
/// 1,024 files and as many behind it, with paths of 100 bytes).
const AHEAD: u64 = 1 << 20;

/// A journal's file with room behind its end.
#[derive(Debug)]
pub(super) struct Ahead {
    file: File,
    len: u64,
    /// Up to where it is allocated, as far as we know.
    allocated: u64,
}

impl Ahead {
    /// Returns what a journal is written to: its file, open for appending.
    pub(super) fn of(file: File) -> Box<dyn Medium> {
        let len = file.metadata().map_or(0, |meta| meta.len());
        let mut ahead = Self {
            file,
            len,
            allocated: len,
        };
        ahead.grow();
        Box::new(ahead)
    }

    /// Allocates the next piece if half of the last one is used. Where that cannot be done, what is
    /// written takes its room when it is.
    fn grow(&mut self) {
        if self.len + AHEAD / 2 < self.allocated {
            return;
        }
        let from = self.allocated.max(self.len);
        let keep = FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, keep, from, AHEAD).is_ok() {
            self.allocated = from + AHEAD;
        }
    }
}

impl Medium for Ahead {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.len += bytes.len() as u64;
        self.grow();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Gives back what was allocated behind the end, where the file system does.
        if self
            .file
            .metadata()
            .is_ok_and(|meta| meta.len() == self.len)
        {
            let _best_effort = rustix::fs::ftruncate(&self.file, self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_is_there_before_it_is_needed_and_not_counted_as_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let open = || {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
        };
        let mut ahead = Ahead::of(open());
        ahead.append(&[7; 1000]).unwrap();
        ahead.sync().unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), 1000);
        assert!(meta.blocks() * 512 >= AHEAD / 2, "{}", meta.blocks());
        drop(ahead);
        Ahead::of(open()).append(b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 1001);
    }
}
