//! Many sorted runs into one order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;

use super::Record;
use super::run::{Cursor, Run};

/// The next record of one run.
struct Head<'f> {
    record: Record,
    /// Which of the runs; earlier runs hold what was pushed earlier.
    order: usize,
    cursor: Cursor<'f>,
}

impl Head<'_> {
    fn advance(&mut self) -> io::Result<bool> {
        self.cursor.advance(&mut self.record)
    }
}

impl Ord for Head<'_> {
    /// Turned round: the heap gives the greatest first, and the least path is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        let paths = other.record.path.cmp(&self.record.path);
        paths.then_with(|| other.order.cmp(&self.order))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

/// Hands out the records of `runs` in order of path, equal paths in order of runs.
///
/// Holds, for each run, `buffer` bytes and one record.
pub(super) fn merge(
    file: &File,
    runs: &[Run],
    buffer: usize,
    out: &mut dyn FnMut(&Record) -> io::Result<()>,
) -> io::Result<()> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (order, &run) in runs.iter().enumerate() {
        let mut head = Head {
            record: Record {
                path: Vec::new(),
                digest: blake3::Hash::from_bytes([0; blake3::OUT_LEN]),
            },
            order,
            cursor: Cursor::new(file, run, buffer),
        };
        if head.advance()? {
            heads.push(head);
        }
    }
    while let Some(mut head) = heads.peek_mut() {
        out(&head.record)?;
        if !head.advance()? {
            PeekMut::pop(head);
        }
    }
    Ok(())
}
