//! From hashes to values: open addressing in scratch memory.
//!
//! ```text
//! slot  hash u64 | value u64      value 0: empty
//! ```
//!
//! Nothing is ever removed, so a search ends at the first empty slot. Equal hashes are told apart
//! by the caller, who compares what the values stand for.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use super::map::Scratch;

const SLOT_LEN: usize = 16;

/// Slots of a new table: one page.
const SLOTS_MIN: usize = 256;

#[derive(Debug)]
pub(super) struct Table {
    slots: Scratch,
    /// A power of two.
    slot_count: usize,
    used: usize,
}

/// Where a search ended.
enum Found {
    At(usize, NonZeroU64),
    Empty(usize),
}

impl Table {
    /// Returns an empty table.
    pub(super) fn new(dir: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            slots: Scratch::new(dir, SLOTS_MIN * SLOT_LEN)?,
            slot_count: SLOTS_MIN,
            used: 0,
        })
    }

    /// Returns the value under `hash` for which `is_it` answers yes.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u64) -> bool) -> Option<NonZeroU64> {
        match self.search(hash, is_it) {
            Some(Found::At(_, value)) => Some(value),
            Some(Found::Empty(_)) | None => None,
        }
    }

    /// Puts `value` under `hash`, in place of the one for which `is_it` answers yes; returns that.
    ///
    /// # Errors
    /// When no scratch file can be made to grow into; nothing has changed then.
    pub(super) fn put(
        &mut self,
        dir: BorrowedFd<'_>,
        hash: u64,
        value: NonZeroU64,
        is_it: impl Fn(u64) -> bool,
    ) -> io::Result<Option<NonZeroU64>> {
        // At most three quarters full: linear searches stay short, and one always ends.
        if self.used >= self.slot_count / 4 * 3 {
            self.grow(dir)?;
        }
        match self.search(hash, is_it) {
            Some(Found::At(index, old)) => {
                self.store(index, hash, value);
                Ok(Some(old))
            }
            Some(Found::Empty(index)) => {
                self.store(index, hash, value);
                self.used += 1;
                Ok(None)
            }
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// Returns all values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = NonZeroU64> {
        (0..self.slot_count).filter_map(|index| NonZeroU64::new(self.slot(index).1))
    }

    fn grow(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let too_large = io::ErrorKind::OutOfMemory;
        let slot_count = self.slot_count.checked_mul(2).ok_or(too_large)?;
        let len = slot_count.checked_mul(SLOT_LEN).ok_or(too_large)?;
        let mut larger = Self {
            slots: Scratch::new(dir, len)?,
            slot_count,
            used: self.used,
        };
        for index in 0..self.slot_count {
            let (hash, value) = self.slot(index);
            if let Some(value) = NonZeroU64::new(value) {
                // All values differ already, so each goes to a slot of its own.
                if let Some(Found::Empty(to)) = larger.search(hash, |_| false) {
                    larger.store(to, hash, value);
                }
            }
        }
        *self = larger;
        Ok(())
    }

    fn search(&self, hash: u64, is_it: impl Fn(u64) -> bool) -> Option<Found> {
        let last = self.slot_count - 1;
        // The low bits: a table is far smaller than the range of hashes.
        let home = usize::try_from(hash & u64::try_from(last).ok()?).ok()?;
        (0..self.slot_count)
            .map(|step| (home + step) & last)
            .find_map(|index| {
                let (slot_hash, value) = self.slot(index);
                let Some(value) = NonZeroU64::new(value) else {
                    return Some(Found::Empty(index));
                };
                (slot_hash == hash && is_it(value.get())).then_some(Found::At(index, value))
            })
    }

    fn slot(&self, index: usize) -> (u64, u64) {
        let bytes = self.slots.bytes().get(index * SLOT_LEN..);
        let slot = bytes.and_then(<[u8]>::first_chunk::<SLOT_LEN>);
        let slot = u128::from_le_bytes(slot.copied().unwrap_or_default());
        split(slot)
    }

    fn store(&mut self, index: usize, hash: u64, value: NonZeroU64) {
        let bytes = self.slots.bytes_mut().get_mut(index * SLOT_LEN..);
        if let Some(slot) = bytes.and_then(<[u8]>::first_chunk_mut::<SLOT_LEN>) {
            *slot = (u128::from(hash) << 64 | u128::from(value.get())).to_le_bytes();
        }
    }
}

/// Cuts a slot into hash and value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high half is 64 bits long, and of the low half that is the point"
)]
fn split(slot: u128) -> (u64, u64) {
    ((slot >> 64) as u64, slot as u64)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn values_are_found_and_replaced_through_growth_and_collisions() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        // All at one hash; at a few; at neighbours that wrap round; each at its own.
        let hashes: [fn(u64) -> u64; 4] = [
            |_| 5,
            |n| n % 7,
            |n| u64::MAX - n % 3,
            |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ];
        for (count, hash) in [400, 400, 400, 50_000].into_iter().zip(hashes) {
            let mut table = Table::new(handle.as_fd()).unwrap();
            for n in 1..=count {
                let value = NonZeroU64::new(n << 8).unwrap();
                let old = table.put(handle.as_fd(), hash(n), value, |other| other >> 8 == n);
                assert_eq!(old.unwrap(), None);
            }
            for n in (1..=count).step_by(3) {
                let value = NonZeroU64::new(n << 8 | 1).unwrap();
                let old = table.put(handle.as_fd(), hash(n), value, |other| other >> 8 == n);
                assert_eq!(old.unwrap().unwrap().get(), n << 8);
            }
            for n in 1..=count {
                let value = table.find(hash(n), |other| other >> 8 == n).unwrap().get();
                assert_eq!(value, n << 8 | u64::from(n % 3 == 1));
            }
            let absent = count + 1;
            let value = table.find(hash(absent), |other| other >> 8 == absent);
            assert_eq!(value, None);
        }
    }
}
