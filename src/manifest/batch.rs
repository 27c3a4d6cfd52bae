//! Records held in memory until there are enough for a run.

use std::fmt;

use super::Record;

/// Where one record lies in [`Batch::bytes`].
#[derive(Clone, Copy)]
struct Slot {
    start: usize,
    path_len: u32,
}

/// A bounded set of records.
///
/// Paths and digests lie end to end in one allocation and slots in another. Both are made once, in
/// full, so that nothing is ever moved to grow; pages not yet used cost nothing.
pub(super) struct Batch {
    /// Digest, then path, for each record.
    bytes: Vec<u8>,
    bytes_max: usize,
    slots: Vec<Slot>,
    slots_max: usize,
}

impl Batch {
    /// Returns an empty batch that holds about `memory` bytes.
    ///
    /// An eighth goes to slots: a slot is 16 bytes, a record with a path of 80 is 112.
    pub(super) fn new(memory: usize) -> Self {
        let slots_max = (memory / 8 / size_of::<Slot>()).max(1);
        let bytes_max = memory - memory / 8;
        Self {
            bytes: Vec::with_capacity(bytes_max),
            bytes_max,
            slots: Vec::with_capacity(slots_max),
            slots_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns whether `record` fits. One always fits in an empty batch, whatever its length.
    pub(super) fn has_room(&self, record: &Record) -> bool {
        let len = self.bytes.len() + blake3::OUT_LEN + record.path.len();
        self.is_empty() || (len <= self.bytes_max && self.slots.len() < self.slots_max)
    }

    /// Adds a record whose path is at most [`super::PATH_LEN_MAX`] bytes long.
    pub(super) fn push(&mut self, record: &Record) {
        self.slots.push(Slot {
            start: self.bytes.len(),
            path_len: u32::try_from(record.path.len()).expect("paths are checked by Sorter::push"),
        });
        self.bytes.extend_from_slice(record.digest.as_bytes());
        self.bytes.extend_from_slice(&record.path);
    }

    /// Hands out every record, sorted by path, equal paths as pushed; leaves the batch empty.
    pub(super) fn drain_sorted<E>(
        &mut self,
        out: &mut dyn FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = &self.bytes;
        // In place, for the memory; the start is the order of pushing and keeps equals in it.
        self.slots.sort_unstable_by(|a, b| {
            let paths = path(bytes, *a).cmp(path(bytes, *b));
            paths.then_with(|| a.start.cmp(&b.start))
        });
        let mut record = Record {
            path: Vec::new(),
            digest: blake3::Hash::from_bytes([0; blake3::OUT_LEN]),
        };
        for &slot in &self.slots {
            record.digest = digest(bytes, slot);
            record.path.clear();
            record.path.extend_from_slice(path(bytes, slot));
            out(&record)?;
        }
        self.bytes.clear();
        self.slots.clear();
        Ok(())
    }
}

fn path(bytes: &[u8], slot: Slot) -> &[u8] {
    bytes
        .get(slot.start + blake3::OUT_LEN..)
        .and_then(|rest| rest.get(..slot.path_len as usize))
        .expect("slots only name what was pushed with them")
}

fn digest(bytes: &[u8], slot: Slot) -> blake3::Hash {
    let digest = bytes
        .get(slot.start..)
        .and_then(|rest| rest.first_chunk())
        .expect("slots only name what was pushed with them");
    blake3::Hash::from_bytes(*digest)
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("records", &self.slots.len())
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
