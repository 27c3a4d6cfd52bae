//! The arena: an anonymous map cut into slots, and the rights to touch them.
//!
//! # Safety invariants
//!
//! - **A1** (lifetime) The map is anonymous and private: every byte is initialised, by the kernel
//!   with zero, and it neither moves nor shrinks. It is unmapped when the last `Arc<Map>` goes, and
//!   every lease and view holds one through its slot and lane.
//! - **A2** (bounds) `base <= start <= end <= SLOT_LEN` in a lease, `start <= end <= SLOT_LEN` in a
//!   view, and the slot's index is below the number of slots in the map. Ranges only ever shrink,
//!   except that `retreat` goes back as far as `base`.
//! - **A3** (one owner a slot) A slot's index is either in its lane's free list or in one living
//!   `Slot`. `lend` gives each index to one lane; `take` moves it out of the list, `Slot::drop`
//!   moves it back, and the list synchronises the two.
//! - **A4** (disjoint ranges) The range `base..end` of a lease overlaps no other living lease or
//!   view. `take` makes the only lease of its slot, `split_to` cuts one range in two, `freeze`
//!   consumes the lease; `slice` and `clone` make views of what already is a view.
//! - **A5** (who writes) Bytes are written only through `&mut Lease`, or by the kernel while the
//!   backend that owns the lease holds it. Views are only read.
#![expect(
    unsafe_code,
    reason = "slices of a shared map: this is one of the files ARCHITECTURE.md names"
)]

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::ALIGN;
use super::stack::Stack;
use crate::io::Wake;

/// Bytes in a slot: one BLAKE3 subtree of 1 MiB.
pub const SLOT_LEN: usize = 1 << 20;

/// Where the arena starts: a huge page, so that all of it can be huge pages.
///
/// Source: `/sys/kernel/mm/transparent_hugepage/hpage_pmd_size` is 2 MiB on `x86_64`, and on
/// aarch64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// The map itself.
#[derive(Debug)]
struct Map {
    raw: MmapRaw,
    /// Bytes skipped so that slot 0 is on a huge page.
    skew: usize,
}

impl Map {
    /// Returns the address of a slot; computed, not stored, so that threads may share the map.
    fn slot(&self, index: usize) -> *mut u8 {
        self.raw
            .as_mut_ptr()
            .wrapping_add(self.skew + index * SLOT_LEN)
    }
}

/// All buffer memory of a run. Fixed in size; pages appear as they are first touched.
#[derive(Debug)]
pub struct Arena {
    map: Arc<Map>,
    slots: usize,
    lent: usize,
}

impl Arena {
    /// Maps memory for `slots` slots. Nothing is touched yet.
    ///
    /// # Errors
    /// The kernel's answer to mmap(2), or `InvalidInput` if the length does not fit an address.
    pub fn new(slots: usize) -> io::Result<Self> {
        let len = slots
            .checked_mul(SLOT_LEN)
            .and_then(|len| len.checked_add(HUGE_PAGE))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let map = MmapOptions::new().len(len).map_anon()?;
        let raw = MmapRaw::from(map);
        let skew = raw.as_mut_ptr().align_offset(HUGE_PAGE);
        // Both are advice, and a kernel built without them still copies correctly. Huge pages make
        // pinning cheap (2 us a MiB, not 17) and let one request carry more bytes a segment.
        raw.advise_range(Advice::HugePage, skew, slots * SLOT_LEN)
            .ok();
        // A forked child would share the pages copy-on-write, and our next write would move ours
        // away from under a running transfer (open(2), "O_DIRECT").
        raw.advise(Advice::DontFork).ok();
        Ok(Self {
            map: Arc::new(Map { raw, skew }),
            slots,
            lent: 0,
        })
    }

    /// Lends `count` neighbouring slots for good, or `None` if fewer are left or `count` is 0.
    pub fn lend(&mut self, count: usize) -> Option<Credits> {
        let end = self.lent.checked_add(count).filter(|&e| e <= self.slots)?;
        if count == 0 {
            return None;
        }
        let lane = Lane {
            map: Arc::clone(&self.map),
            first: self.lent,
            free: Stack::new(self.lent..end),
            hungry: AtomicBool::new(false),
            waker: Mutex::new(None),
        };
        self.lent = end;
        Some(Credits(Arc::new(lane)))
    }

    /// Returns the bytes of all slots.
    pub fn len_bytes(&self) -> usize {
        self.slots * SLOT_LEN
    }
}

/// One lane's share of the arena.
struct Lane {
    map: Arc<Map>,
    first: usize,
    free: Stack,
    /// Somebody asked in vain since the last slot came back.
    hungry: AtomicBool,
    waker: Mutex<Option<Arc<dyn Wake>>>,
}

/// One lane's slots: what it may have in use at once. Clones share the same slots.
#[derive(Clone)]
pub struct Credits(Arc<Lane>);

impl Credits {
    /// Takes a whole slot, or `None` if all are in use; then the waker is used when one returns.
    pub fn take(&self) -> Option<Lease> {
        let lane = &self.0;
        let index = lane.free.pop().or_else(|| {
            self.expect_one();
            lane.free.pop()
        })?;
        let slot = Arc::new(Slot {
            lane: Arc::clone(lane),
            index,
        });
        Some(Lease {
            slot,
            base: 0,
            start: 0,
            end: SLOT_LEN,
        })
    }

    /// Returns how many slots are free; if none, the waker is used when one returns.
    pub fn free(&self) -> usize {
        match self.0.free.len() {
            0 => {
                self.expect_one();
                self.0.free.len()
            }
            free => free,
        }
    }

    /// Returns how many slots there are, free or not.
    pub fn total(&self) -> usize {
        self.0.free.total()
    }

    /// Sets who is woken when a slot comes back after a vain [`take`](Self::take) or a
    /// [`free`](Self::free) of 0. Replaces the one before.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Returns the memory of all slots, for registration with a ring. Holding `self` keeps it.
    pub(crate) fn region(&self) -> *mut [u8] {
        let start = self.0.map.slot(self.0.first);
        std::ptr::slice_from_raw_parts_mut(start, self.total() * SLOT_LEN)
    }

    /// Says that a slot is waited for. The caller must look at the free list again afterwards.
    ///
    /// The order matters: flag, then look here; push, then flag in `Slot::drop`. With the fences,
    /// one side sees the other; without the second look, a slot pushed just before the flag was
    /// set would wake nobody.
    fn expect_one(&self) {
        self.0.hungry.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credits")
            .field("free", &self.0.free.len())
            .field("total", &self.total())
            .finish()
    }
}

/// A slot in use. Its end is the slot's return.
struct Slot {
    lane: Arc<Lane>,
    index: usize,
}

impl Slot {
    fn at(&self, start: usize) -> *mut u8 {
        self.lane.map.slot(self.index).wrapping_add(start)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lane.free.push(self.index);
        fence(Ordering::SeqCst);
        if self.lane.hungry.swap(false, Ordering::SeqCst) {
            let waker = self
                .lane
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = waker.as_ref() {
                waker.wake();
            }
        }
    }
}

/// The only right to a range of one slot. Starts on a multiple of [`ALIGN`].
///
/// A lease is a window: `advance` moves its front past bytes that are already there, `retreat` brings
/// them back. A read that stopped half way goes on with the advanced lease.
pub struct Lease {
    slot: Arc<Slot>,
    base: usize,
    start: usize,
    end: usize,
}

impl Lease {
    /// Returns the bytes in the window.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns whether the window is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Splits off the front `n` bytes; `self` keeps the rest. `n` is a multiple of [`ALIGN`].
    ///
    /// # Panics
    /// If `n` is more than there is.
    #[must_use]
    pub fn split_to(&mut self, n: usize) -> Self {
        assert!(n <= self.len(), "split past the end of a lease");
        debug_assert_eq!(n % ALIGN, 0, "the rest must stay aligned");
        let cut = self.start + n;
        let front = Self {
            slot: Arc::clone(&self.slot),
            base: self.base,
            start: self.start,
            end: cut,
        };
        self.base = cut;
        self.start = cut;
        front
    }

    /// Gives up all but the first `n` bytes of the window. Does nothing if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start.saturating_add(n));
    }

    /// Moves the front of the window `n` bytes on, a multiple of [`ALIGN`].
    ///
    /// # Panics
    /// If `n` is more than there is.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance past the end of a lease");
        debug_assert_eq!(n % ALIGN, 0, "the window must stay aligned");
        self.start += n;
    }

    /// Moves the front of the window `n` bytes back, at most to where it was before any
    /// [`advance`](Self::advance).
    pub fn retreat(&mut self, n: usize) {
        self.start = self.start.saturating_sub(n).max(self.base);
    }

    /// Returns the bytes in the window.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` needs `len` initialised bytes in one allocation, alive and
        // unwritten for the borrow: A1, A2, and A4 with A5, as writing needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.slot.at(self.start), self.len()) }
    }

    /// Returns the bytes in the window, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `from_raw_parts_mut` needs `len` initialised bytes in one allocation, alive and
        // reached by nobody else for the borrow: A1, A2, and A4 with `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.slot.at(self.start), self.len()) }
    }

    /// Returns the address of the window, for the kernel to fill. Valid while the lease lives.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.slot.at(self.start)
    }

    /// Ends writing: the first `len` bytes of the window can be shared, the rest is given up.
    ///
    /// # Panics
    /// If `len` is more than there is.
    pub fn freeze(self, len: usize) -> View {
        assert!(len <= self.len(), "freeze past the end of a lease");
        View {
            start: self.start,
            end: self.start + len,
            slot: self.slot,
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Lease({}: {}..{})",
            self.slot.index, self.start, self.end
        )
    }
}

/// Shared, read-only bytes of one slot. Cloning and slicing copy no bytes.
#[derive(Clone)]
pub struct View {
    slot: Arc<Slot>,
    start: usize,
    end: usize,
}

impl View {
    /// Returns a part of the same bytes.
    ///
    /// # Panics
    /// If `range` does not lie within.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "slice past the end of a view"
        );
        Self {
            slot: Arc::clone(&self.slot),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` needs `len` initialised bytes in one allocation, alive and
        // unwritten for the borrow: A1, A2, and A4 with A5, as no lease covers a view's bytes.
        unsafe { std::slice::from_raw_parts(self.slot.at(self.start), self.end - self.start) }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({}: {}..{})", self.slot.index, self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn credits(count: usize) -> Credits {
        Arena::new(count).unwrap().lend(count).unwrap()
    }

    #[test]
    fn each_slot_is_lent_once_and_the_arena_starts_on_a_huge_page() {
        let mut arena = Arena::new(5).unwrap();
        assert_eq!(arena.len_bytes(), 5 << 20);
        let first = arena.lend(2).unwrap();
        let second = arena.lend(3).unwrap();
        assert!(arena.lend(1).is_none());
        assert!(arena.lend(0).is_none());
        let one = first.region();
        let two = second.region();
        assert_eq!(one.cast::<u8>().addr() % (2 << 20), 0);
        assert_eq!(one.len(), 2 << 20);
        assert_eq!(one.cast::<u8>().addr() + one.len(), two.cast::<u8>().addr());
        assert_eq!(two.len(), 3 << 20);
    }

    #[test]
    fn an_impossible_size_is_refused() {
        assert!(Arena::new(usize::MAX).is_err());
        assert!(Arena::new(usize::MAX >> 21).is_err());
    }

    #[test]
    fn all_slots_can_be_written_and_none_overlap() {
        let credits = credits(3);
        let mut leases: Vec<Lease> = std::iter::from_fn(|| credits.take()).collect();
        assert_eq!(leases.len(), 3);
        for (lease, paint) in leases.iter_mut().zip(1u8..) {
            assert_eq!(lease.len(), 1 << 20);
            assert!(lease.as_slice().iter().all(|&b| b == 0));
            lease.as_mut_slice().fill(paint);
        }
        for (lease, paint) in leases.into_iter().zip(1u8..) {
            assert!(lease.freeze(SLOT_LEN).iter().all(|&b| b == paint));
        }
        assert_eq!(credits.free(), 3);
    }

    #[test]
    fn the_parts_of_a_split_lease_are_disjoint_and_aligned() {
        let credits = credits(1);
        let mut rest = credits.take().unwrap();
        rest.as_mut_slice().fill(9);
        let mut front = rest.split_to(8192);
        front.as_mut_slice().fill(1);
        let mut middle = rest.split_to(4096);
        middle.as_mut_slice().fill(2);
        assert_eq!((front.len(), middle.len()), (8192, 4096));
        assert_eq!(rest.len(), (1 << 20) - 12288);
        assert_eq!(rest.as_mut_ptr().addr() % 4096, 0);
        assert!(front.as_slice().iter().all(|&b| b == 1));
        assert!(middle.as_slice().iter().all(|&b| b == 2));
        assert!(rest.as_slice().iter().all(|&b| b == 9));
        drop((front, rest));
        assert_eq!(credits.free(), 0);
        drop(middle);
        assert_eq!(credits.free(), 1);
    }

    #[test]
    fn a_lease_never_retreats_into_the_part_split_off() {
        let credits = credits(1);
        let mut rest = credits.take().unwrap();
        rest.advance(4096);
        let mut front = rest.split_to(4096);
        rest.advance(4096);
        rest.retreat(1 << 20);
        front.retreat(1 << 20);
        assert_eq!(front.len(), 8192);
        assert_eq!(rest.len(), (1 << 20) - 8192);
        assert_eq!(
            front.as_mut_ptr().addr() + front.len(),
            rest.as_mut_ptr().addr()
        );
    }

    #[test]
    fn a_view_shows_what_was_frozen_and_its_slices_parts_of_that() {
        let credits = credits(1);
        let mut lease = credits.take().unwrap();
        lease.truncate(6);
        lease.truncate(100);
        lease.as_mut_slice().copy_from_slice(b"abcdef");
        let view = lease.freeze(5);
        assert_eq!(&*view, b"abcde");
        assert_eq!(&*view.slice(1..4), b"bcd");
        assert_eq!(&*view.slice(1..4).slice(2..3), b"d");
        assert!(view.slice(5..5).is_empty());
    }

    #[test]
    fn the_slot_comes_back_with_the_last_view_on_whatever_thread() {
        let credits = credits(2);
        let view = credits.take().unwrap().freeze(10);
        let copy = view.slice(3..4);
        drop(view);
        assert_eq!(credits.free(), 1);
        std::thread::spawn(move || drop(copy)).join().unwrap();
        assert_eq!(credits.free(), 2);
    }

    #[test]
    fn a_lane_that_asked_in_vain_is_woken_once_and_no_other() {
        let credits = credits(1);
        let count = Arc::new(Count::default());
        credits.set_waker(Arc::clone(&count) as Arc<dyn Wake>);
        drop(credits.take());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        let lease = credits.take().unwrap();
        assert!(credits.take().is_none());
        drop(lease);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let lease = credits.take().unwrap();
        assert_eq!(credits.free(), 0);
        drop(lease);
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_memory_outlives_arena_and_credits() {
        let mut lease = credits(1).take().unwrap();
        lease.as_mut_slice().fill(7);
        let view = lease.freeze(SLOT_LEN);
        assert!(view.iter().all(|&b| b == 7));
    }
}
