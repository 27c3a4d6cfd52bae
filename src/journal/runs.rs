//! Which blocks of which unfinished file are recorded: for each path, a list of records.
//!
//! ```text
//! cell 0  unused, so that 0 can mean none
//! head    first link | last link | end block | place of the newest record
//! link    place | first block | count of its blocks that still hold | next link
//! ```

use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use super::map::Scratch;
use super::record::{Blocks, Record};
use super::segment::{Place, Segments};
use super::table::Table;

type Cell = [u64; 4];
const CELL_LEN: usize = 32;
/// Cells of a new list: one page.
const CELLS_MIN: usize = 128;

#[derive(Debug)]
pub(super) struct Runs {
    /// From the hash of a path to the number of its head.
    heads: Table,
    cells: Scratch,
    used: u64,
}

/// A part of a run: blocks of one record that hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) place: Place,
    pub(super) first_block: u64,
    pub(super) count: u64,
    pub(super) next: Option<NonZeroU64>,
}

/// What is known of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) first: NonZeroU64,
    /// How many blocks hold, from block 0 on.
    pub(super) block_count: u64,
    pub(super) newest: Place,
}

impl Runs {
    pub(super) fn new(dir: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            heads: Table::new(dir)?,
            cells: Scratch::new(dir, CELLS_MIN * CELL_LEN)?,
            used: 1,
        })
    }

    /// Takes in the record at `place`; see [`Blocks`] for what it does to those before it.
    pub(super) fn add(
        &mut self,
        dir: BorrowedFd<'_>,
        segments: &Segments,
        hash: u64,
        place: Place,
        blocks: &Blocks<'_>,
    ) -> io::Result<()> {
        let found = self.find_head(segments, hash, blocks.target_path);
        let head = match found {
            Some(head) => head,
            None if blocks.first_block == 0 => {
                let head = self.push(dir, [0, 0, 0, place.0])?;
                self.heads.put(dir, hash, head, |_| false)?;
                head
            }
            // It goes on from nothing we know.
            None => return Ok(()),
        };
        let [first, last, end, newest] = self.cell(head.get());
        let goes_on = matches!(segments.record(Place(newest)),
            Some(Record::Blocks(newest)) if newest.is_same_copy(blocks));
        let end = if goes_on { end } else { 0 };
        if blocks.first_block > end {
            self.set(head.get(), [0, 0, 0, place.0]);
            return Ok(());
        }
        let last = match blocks.first_block {
            0 => 0,
            first_block if first_block < end => self.cut(first, first_block),
            _ => last,
        };
        let count = blocks.end() - blocks.first_block;
        let link = self
            .push(dir, [place.0, blocks.first_block, count, 0])?
            .get();
        let first = if last == 0 { link } else { first };
        if last != 0 {
            let [place, first_block, count, _] = self.cell(last);
            self.set(last, [place, first_block, count, link]);
        }
        self.set(head.get(), [first, link, blocks.end(), place.0]);
        Ok(())
    }

    /// Returns what is known of `path`, if anything is.
    pub(super) fn find(&self, segments: &Segments, hash: u64, path: &[u8]) -> Option<Head> {
        let head = self.find_head(segments, hash, path)?;
        let [first, _, block_count, newest] = self.cell(head.get());
        Some(Head {
            first: NonZeroU64::new(first)?,
            block_count,
            newest: Place(newest),
        })
    }

    /// Returns the place of the newest record for each path.
    pub(super) fn newest(&self) -> impl Iterator<Item = Place> {
        self.heads.values().map(|head| {
            let [.., newest] = self.cell(head.get());
            Place(newest)
        })
    }

    /// Returns a part of a run.
    pub(super) fn link(&self, number: NonZeroU64) -> Link {
        let [place, first_block, count, next] = self.cell(number.get());
        Link {
            place: Place(place),
            first_block,
            count,
            next: NonZeroU64::new(next),
        }
    }

    fn find_head(&self, segments: &Segments, hash: u64, path: &[u8]) -> Option<NonZeroU64> {
        self.heads.find(hash, |head| {
            let [.., newest] = self.cell(head);
            matches!(segments.record(Place(newest)),
                Some(Record::Blocks(newest)) if newest.target_path == path)
        })
    }

    /// Ends the run that begins with link `number` before block `end`; returns its last link.
    fn cut(&mut self, first: u64, end: u64) -> u64 {
        let mut number = first;
        loop {
            let [place, first_block, count, next] = self.cell(number);
            if next == 0 || first_block.saturating_add(count) >= end {
                let count = count.min(end.saturating_sub(first_block));
                self.set(number, [place, first_block, count, 0]);
                return number;
            }
            number = next;
        }
    }

    fn push(&mut self, dir: BorrowedFd<'_>, cell: Cell) -> io::Result<NonZeroU64> {
        if offset(self.used).is_none_or(|offset| offset >= self.cells.bytes().len()) {
            let too_large = io::ErrorKind::OutOfMemory;
            let len = self.cells.bytes().len();
            let mut larger = Scratch::new(dir, len.checked_mul(2).ok_or(too_large)?)?;
            if let Some((old, _)) = larger.bytes_mut().split_at_mut_checked(len) {
                old.copy_from_slice(self.cells.bytes());
            }
            self.cells = larger;
        }
        let number = NonZeroU64::new(self.used).ok_or(io::ErrorKind::OutOfMemory)?;
        self.used += 1;
        self.set(number.get(), cell);
        Ok(number)
    }

    fn cell(&self, number: u64) -> Cell {
        let bytes = offset(number).and_then(|offset| self.cells.bytes().get(offset..));
        let cell = bytes.and_then(<[u8]>::first_chunk::<CELL_LEN>);
        let (numbers, _) = cell.map_or(&[][..], |cell| cell).as_chunks();
        let mut parts = numbers.iter().map(|part| u64::from_le_bytes(*part));
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }

    fn set(&mut self, number: u64, cell: Cell) {
        let bytes = offset(number).and_then(|offset| self.cells.bytes_mut().get_mut(offset..));
        if let Some(bytes) = bytes.and_then(<[u8]>::first_chunk_mut::<CELL_LEN>) {
            for (part, number) in bytes.as_chunks_mut().0.iter_mut().zip(cell) {
                *part = number.to_le_bytes();
            }
        }
    }
}

fn offset(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_mul(CELL_LEN)
}
