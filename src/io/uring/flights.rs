//! The in-flight table: who owns a request while the kernel works on it.
//!
//! A tag is what the kernel carries: the slot's index and its generation, which changes with every
//! use. A stale or foreign completion therefore finds nothing, instead of somebody else's memory.

use crate::io::Request;

/// A request in the kernel's hands.
#[derive(Debug)]
pub(super) struct Flight {
    /// The request; owns the memory and the descriptor.
    pub(super) request: Request,
    /// How often the kernel has answered "again" or "interrupted".
    pub(super) retries: u8,
    /// Bytes of a write-back that are behind us; one submission covers less than 4 GiB.
    pub(super) covered: u64,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    flight: Option<Flight>,
}

/// What the kernel carries for us: generation in the high half, index in the low.
pub(super) type Tag = u64;

/// All requests that were submitted and not yet reaped. Fixed in size.
#[derive(Debug)]
pub(super) struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Flights {
    /// Returns an empty table with `capacity` places, at most 2^32 - 1.
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            slots: (0..capacity).map(|_| Slot::default()).collect(),
            free: (0..capacity).rev().collect(),
        }
    }

    /// Returns how many places there are.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many are taken.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// Gives it back if every place is taken.
    pub(super) fn insert(&mut self, request: Request) -> Result<Tag, Request> {
        let Some(index) = self.free.pop() else {
            return Err(request);
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(request);
        };
        slot.flight = Some(Flight {
            request,
            retries: 0,
            covered: 0,
        });
        Ok(Tag::from(slot.generation) << 32 | Tag::from(index))
    }

    /// Returns the request a tag names, which stays here.
    pub(super) fn get_mut(&mut self, tag: Tag) -> Option<&mut Flight> {
        self.slot(tag)?.flight.as_mut()
    }

    /// Hands the request a tag names back.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<Request> {
        let slot = self.slot(tag)?;
        let flight = slot.flight.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(tag));
        Some(flight.request)
    }

    /// Never frees what is still here: the kernel may be writing to it.
    pub(super) fn leak(&mut self) {
        let _kept = std::mem::ManuallyDrop::new(std::mem::take(&mut self.slots));
        self.free.clear();
    }

    fn slot(&mut self, tag: Tag) -> Option<&mut Slot> {
        self.slots
            .get_mut(index(tag) as usize)
            .filter(|slot| Tag::from(slot.generation) == tag >> 32)
    }
}

/// Returns the low half.
fn index(tag: Tag) -> u32 {
    u32::try_from(tag & Tag::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Op;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    fn request(token: u64) -> Request {
        let file = std::fs::File::open("/dev/null").unwrap();
        Request {
            token,
            file: Arc::new(OwnedFd::from(file)),
            op: Op::WriteBack { offset: 0, len: 0 },
        }
    }

    #[test]
    fn a_full_table_gives_the_request_back() {
        let mut flights = Flights::new(2);
        flights.insert(request(1)).unwrap();
        let second = flights.insert(request(2)).unwrap();
        assert_eq!(flights.insert(request(3)).unwrap_err().token, 3);
        assert_eq!(flights.len(), 2);
        assert_eq!(flights.remove(second).unwrap().token, 2);
        assert_eq!(flights.len(), 1);
        flights.insert(request(4)).unwrap();
    }

    #[test]
    fn a_stale_tag_finds_nothing_in_a_reused_place() {
        let mut flights = Flights::new(1);
        let old = flights.insert(request(1)).unwrap();
        assert!(flights.remove(old).is_some());
        let new = flights.insert(request(2)).unwrap();
        assert_eq!(old & 0xffff_ffff, new & 0xffff_ffff);
        assert!(flights.get_mut(old).is_none());
        assert!(flights.remove(old).is_none());
        assert_eq!(flights.len(), 1);
        assert_eq!(flights.remove(new).unwrap().token, 2);
        assert!(flights.remove(new).is_none());
    }

    #[test]
    fn a_tag_from_nowhere_finds_nothing() {
        let mut flights = Flights::new(1);
        flights.insert(request(1)).unwrap();
        assert!(flights.remove(u64::MAX).is_none());
        assert!(flights.remove(1).is_none());
        assert_eq!(flights.len(), 1);
    }
}
