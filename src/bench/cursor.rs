//! Where a sample reads or writes: extents of files, passed through in order.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::buffer::SLOT_LEN;

/// Bytes in a row in one file.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) file: Arc<OwnedFd>,
    /// A multiple of `ALIGN`.
    pub(crate) start: u64,
    /// More than 0. What is written is a multiple of `ALIGN`; a read of less asks for the
    /// multiple and is content with what it wanted.
    pub(crate) len: u64,
    /// For messages.
    pub(crate) path: Arc<PathBuf>,
}

/// Where reading goes on: each sample begins where the one before ended, so that no drive is asked
/// for the same bytes again before it has given all others.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    extents: Arc<[Extent]>,
    extent: usize,
    offset: u64,
    /// How often it began anew.
    pub(crate) laps: u64,
    /// Whether it may.
    wraps: bool,
}

impl Cursor {
    pub(crate) fn new(extents: Arc<[Extent]>, wraps: bool) -> Self {
        Self {
            extents,
            extent: 0,
            offset: 0,
            laps: 0,
            wraps,
        }
    }

    /// Returns what is read or written there, for messages.
    pub(crate) fn label(&self) -> Arc<PathBuf> {
        let extent = self.extents.get(self.extent);
        let extent = extent.or_else(|| self.extents.first());
        extent.map_or_else(Arc::default, |extent| Arc::clone(&extent.path))
    }

    /// Goes to a byte of the lap.
    pub(crate) fn seek(&mut self, at: u64) {
        let mut at = at - at % SLOT_LEN as u64;
        (self.extent, self.offset) = (0, 0);
        for extent in self.extents.iter() {
            if at < extent.len {
                self.offset = at;
                return;
            }
            at -= extent.len;
            self.extent += 1;
        }
        (self.extent, self.offset) = (0, 0);
    }

    /// Goes to the beginning of a stretch of the lap, unless it is within it already: what was read
    /// there by now is not asked for again while there is more of it.
    pub(crate) fn seek_within(&mut self, stretch: &Range<u64>) {
        let before = self.extents.iter().take(self.extent);
        let at = before.map(|extent| extent.len).sum::<u64>() + self.offset;
        let first = stretch.start - stretch.start % SLOT_LEN as u64;
        if !(first..stretch.end).contains(&at) {
            self.seek(first);
        }
    }

    /// Returns the next bytes to move, at most `block` of them; `None` at the end.
    pub(crate) fn next(&mut self, block: usize) -> Option<(&Extent, u64, usize)> {
        if self.extent >= self.extents.len() {
            if !self.wraps || self.extents.is_empty() {
                return None;
            }
            (self.extent, self.offset) = (0, 0);
            self.laps += 1;
        }
        let extent = self.extents.get(self.extent)?;
        let left = extent.len - self.offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(block);
        let at = extent.start + self.offset;
        self.offset += len as u64;
        if self.offset >= extent.len {
            self.extent += 1;
            self.offset = 0;
        }
        Some((extent, at, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(lens: &[u64]) -> Arc<[Extent]> {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let extent = |(index, len): (usize, &u64)| Extent {
            file: Arc::clone(&file),
            start: index as u64 * 1000 * 4096,
            len: *len,
            path: Arc::new(PathBuf::from("x")),
        };
        lens.iter().enumerate().map(extent).collect()
    }

    #[test]
    fn a_cursor_passes_every_byte_once_before_it_begins_anew() {
        let mut cursor = Cursor::new(extents(&[4096 * 3, 4096]), true);
        let mut passed = Vec::new();
        for _ in 0..4 {
            let (_, at, len) = cursor.next(8192).unwrap();
            passed.push((at / 4096, len));
        }
        assert_eq!(passed, [(0, 8192), (2, 4096), (1000, 4096), (0, 8192)]);
        assert_eq!(cursor.laps, 1);
    }

    #[test]
    fn a_cursor_that_may_not_begin_anew_ends() {
        let mut cursor = Cursor::new(extents(&[4096]), false);
        assert!(cursor.next(8192).is_some());
        assert!(cursor.next(8192).is_none());
        assert!(Cursor::new(extents(&[]), true).next(4096).is_none());
    }

    #[test]
    fn seeking_counts_over_all_extents() {
        let mib = SLOT_LEN as u64;
        let mut cursor = Cursor::new(extents(&[2 * mib, 3 * mib]), true);
        cursor.seek(3 * mib + 5);
        let (_, at, _) = cursor.next(4096).unwrap();
        assert_eq!(at, 1000 * 4096 + mib);
        cursor.seek(99 * mib);
        assert_eq!(
            cursor.next(4096).unwrap().1,
            0,
            "beyond the end: from the start"
        );
    }

    #[test]
    fn a_cursor_stays_within_its_stretch() {
        let mib = SLOT_LEN as u64;
        let mut cursor = Cursor::new(extents(&[4 * mib, 4 * mib]), true);
        let stretch = mib + 5..3 * mib;
        let at = |cursor: &mut Cursor| {
            cursor.seek_within(&stretch);
            cursor.next(SLOT_LEN).unwrap().1 / mib
        };
        assert_eq!(at(&mut cursor), 1, "from before it to its beginning");
        assert_eq!(at(&mut cursor), 2, "and on");
        assert_eq!(at(&mut cursor), 1, "beyond its end: from the beginning");
        cursor.seek(7 * mib);
        assert_eq!(at(&mut cursor), 1, "also from another extent");
    }
}
