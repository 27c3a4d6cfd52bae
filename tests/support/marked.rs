//! Files whose every page says which file and page it is, so that a drive sees where each lands.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::dice::Dice;

/// Length of a page, and of what file systems allocate.
pub(crate) const PAGE: usize = 4096;
/// What every page begins with.
const MAGIC: [u8; 8] = *b"\x93inhaul\n";
/// Length of what a page begins with.
const MARK_LEN: usize = 16;

/// Which page of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    /// Number of the file.
    pub(crate) file: u32,
    /// Index of the page in it.
    pub(crate) page: u32,
}

impl Mark {
    fn bytes(self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        // Counted from 1: a page cut off behind the magic goes on with zeros, and is nobody's.
        bytes[8..12].copy_from_slice(&(self.file + 1).to_le_bytes());
        bytes[12..].copy_from_slice(&self.page.to_le_bytes());
        bytes
    }

    /// Returns what a page says, if it begins as ours do.
    pub(crate) fn of(page: &[u8]) -> Option<Self> {
        let mark = page.get(..MARK_LEN)?;
        let number = |at: usize| u32::from_le_bytes(mark[at..at + 4].try_into().unwrap());
        let file = number(8).checked_sub(1)?;
        let page = number(12);
        mark.starts_with(&MAGIC).then_some(Self { file, page })
    }

    /// Returns the block of 1 MiB that the page is in.
    pub(crate) fn block(self) -> u64 {
        u64::from(self.page) / 256
    }
}

/// Returns the marked pages of a write, each with its place in the payload.
pub(crate) fn marks(data: &[u8]) -> impl Iterator<Item = (usize, Mark)> {
    let pages = (0..).step_by(PAGE).zip(data.chunks(PAGE));
    pages.filter_map(|(at, page)| Some((at, Mark::of(page)?)))
}

/// Writes a marked file. Apart from their marks, no two of its pages, and none of another file's,
/// have a sector in common.
pub(crate) fn write(path: &Path, file: u32, len: u64) {
    let to = File::create(path).unwrap();
    let mut page = [0; PAGE];
    let mut at = 0;
    let mut index = 0;
    while at < len {
        let mark = Mark { file, page: index };
        let mut dice = Dice::new(u64::from(file) << 32 | u64::from(index));
        for word in page.chunks_mut(8) {
            word.copy_from_slice(&dice.next().to_le_bytes());
        }
        page[..MARK_LEN].copy_from_slice(&mark.bytes());
        let count = usize::try_from((len - at).min(PAGE as u64)).unwrap();
        to.write_all_at(&page[..count], at).unwrap();
        at += count as u64;
        index += 1;
    }
}
