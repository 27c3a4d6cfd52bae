//! Write-back behind the writer, for files that are written through the page cache.
//!
//! Left to itself, the kernel begins late: the medium would wait while pages pile up, and then
//! everybody for the medium.

use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::Advice;

use crate::io::Op;

/// Bytes of one step.
const WINDOW: u64 = 8 << 20;

/// How much of one file is written.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    written: u64,
}

impl Behind {
    /// Adds bytes that were written. Returns what is to be asked for, when one more window is full:
    /// that its write-back starts.
    pub(crate) fn add(&mut self, file: impl AsFd, bytes: u64) -> Option<Op> {
        let before = self.written / WINDOW;
        self.written += bytes;
        if self.written / WINDOW == before {
            return None;
        }
        let offset = before * WINDOW;
        if let Some(clean) = offset.checked_sub(2 * WINDOW) {
            // Two windows back is on the medium by now, mostly: it need not stay in memory.
            let len = NonZeroU64::new(WINDOW);
            let _best_effort = rustix::fs::fadvise(file, clean, len, Advice::DontNeed);
        }
        Some(Op::WriteBack {
            offset,
            len: WINDOW,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_back_follows_by_windows() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        let mut behind = Behind::default();
        let mut asked = Vec::new();
        for step in [5, 2, 1, 7, 2, 7] {
            if let Some(Op::WriteBack { offset, len }) = behind.add(&file, step * MIB) {
                asked.push((step, offset / MIB, len / MIB));
            }
        }
        assert_eq!(asked, [(1, 0, 8), (2, 8, 8), (7, 16, 8)]);
    }
}
