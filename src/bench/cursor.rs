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
    /// The bytes before it, of all extents.
    at: u64,
    /// What is gone through before it begins anew.
    lap: Range<u64>,
    /// How often it began anew.
    pub(crate) laps: u64,
    /// Whether it may.
    wraps: bool,
    /// How many bytes it may yet give, if that is limited.
    left: Option<u64>,
}

impl Cursor {
    pub(crate) fn new(extents: Arc<[Extent]>, wraps: bool) -> Self {
        let all = extents.iter().map(|extent| extent.len).sum();
        Self {
            extents,
            extent: 0,
            offset: 0,
            at: 0,
            lap: 0..all,
            laps: 0,
            wraps,
            left: None,
        }
    }

    /// Returns what is read or written there, for messages.
    pub(crate) fn label(&self) -> Arc<PathBuf> {
        let extent = self.extents.get(self.extent);
        let extent = extent.or_else(|| self.extents.first());
        extent.map_or_else(Arc::default, |extent| Arc::clone(&extent.path))
    }

    /// Goes to a byte.
    fn seek(&mut self, at: u64) {
        let at = at - at % SLOT_LEN as u64;
        let mut left = at;
        (self.extent, self.offset, self.at) = (0, 0, at);
        for extent in self.extents.iter() {
            if left < extent.len {
                self.offset = left;
                return;
            }
            left -= extent.len;
            self.extent += 1;
        }
        (self.extent, self.offset, self.at) = (0, 0, 0);
    }

    /// Goes to the beginning of a stretch, unless it is within it already: what was read there by now
    /// is not asked for again while there is more of it.
    pub(crate) fn seek_within(&mut self, stretch: &Range<u64>) {
        let first = stretch.start - stretch.start % SLOT_LEN as u64;
        if !(first..stretch.end).contains(&self.at) {
            self.seek(first);
        }
    }

    /// Goes through a stretch alone from now on, and begins anew where that ends.
    pub(crate) fn keep_to(&mut self, stretch: &Range<u64>) {
        let slot = SLOT_LEN as u64;
        let [start, end] = [stretch.start, stretch.end].map(|at| at - at % slot);
        let all = self.extents.iter().map(|extent| extent.len).sum();
        self.lap = start..end.max(start + slot).min(all);
        let lap = self.lap.clone();
        self.seek_within(&lap);
    }

    /// Gives no byte twice from now on, until this is called again: by then it would come from memory.
    pub(crate) fn once(&mut self) {
        self.left = Some(self.lap.end - self.lap.start);
    }

    /// Returns the next bytes to move, at most `block` of them; `None` at the end.
    pub(crate) fn next(&mut self, block: usize) -> Option<(&Extent, u64, usize)> {
        if self.lap.is_empty() || self.left == Some(0) {
            return None;
        }
        if self.at >= self.lap.end {
            if !self.wraps {
                return None;
            }
            self.seek(self.lap.start);
            self.laps += 1;
        }
        let bound = (self.lap.end - self.at).min(self.left.unwrap_or(u64::MAX));
        let extent = self.extents.get(self.extent)?;
        let left = (extent.len - self.offset).min(bound);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(block);
        let at = extent.start + self.offset;
        let moved = len as u64;
        self.offset += moved;
        self.at += moved;
        self.left = self.left.map(|left| left - moved);
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

    #[test]
    fn a_cursor_that_keeps_to_a_stretch_does_not_leave_it() {
        let mib = SLOT_LEN as u64;
        let mut cursor = Cursor::new(extents(&[4 * mib, 4 * mib]), true);
        let passed = |cursor: &mut Cursor, count: usize| -> Vec<u64> {
            let next = |_| cursor.next(SLOT_LEN).unwrap().1 / mib;
            (0..count).map(next).collect()
        };
        // The second extent begins at byte 4,096,000: within MiB 3.
        cursor.keep_to(&(2 * mib + 5..5 * mib + 5));
        assert_eq!(passed(&mut cursor, 5), [2, 3, 3, 2, 3]);
        assert_eq!(cursor.laps, 1, "it began anew");
        cursor.keep_to(&(2 * mib..5 * mib));
        assert_eq!(passed(&mut cursor, 1), [3], "and goes on where it was");
        cursor.keep_to(&(0..9));
        assert_eq!(passed(&mut cursor, 2), [0, 0], "one request at least");
    }

    #[test]
    fn a_cursor_that_gives_nothing_twice_ends_where_it_began() {
        let mib = SLOT_LEN as u64;
        let mut cursor = Cursor::new(extents(&[4 * mib]), true);
        for _ in 0..3 {
            cursor.next(SLOT_LEN).unwrap();
        }
        for _ in 0..2 {
            cursor.once();
            let given = std::iter::from_fn(|| Some(cursor.next(SLOT_LEN)?.1));
            let given: Vec<u64> = given.take(9).collect();
            assert_eq!(given, [3 * mib, 0, mib, 2 * mib]);
        }
        assert_eq!(cursor.laps, 2);
    }
}
