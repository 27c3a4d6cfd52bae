//! Registered memory: slots that the kernel has pinned once, instead of anew for each transfer.
//!
//! A slot is registered when it is first used. Pinning makes its pages: all at once, those of sixty
//! lanes kept the last lane from its first read for half a second (perf: clear_page, 360 MiB, two
//! cores, 6.18), and a slow drive never uses all it was lent.
//!
//! # Safety invariants
//!
//! - **G1** (memory) `credits` keeps the registered region mapped for as long as this value lives,
//!   and the ring that has it registered is gone before: see `ring::Ring`, its first field.
//! - **G2** (one slot) Each entry of the table is one slot of the region, of `SLOT_LEN` bytes.
#![expect(
    unsafe_code,
    reason = "registering takes raw memory: this is one of the files ARCHITECTURE.md names"
)]

use io_uring::Submitter;
use rustix::io::Errno;

use crate::buffer::{Credits, SLOT_LEN};
use crate::io::errno;

/// The largest region the kernel takes as one buffer. Source: io_uring_register(2), 1 GiB.
const REGION_MAX: usize = 1 << 30;

/// What the kernel knows of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Pinned,
    /// Over the limit of locked memory.
    Refused,
}

/// How the region was registered.
#[derive(Debug)]
enum Table {
    /// As one buffer: a kernel that knows no empty entries (before 5.19).
    Whole,
    /// Slot by slot.
    Slots(Vec<State>),
}

/// A region registered with one ring.
#[derive(Debug)]
pub(super) struct Registered {
    credits: Credits,
    table: Table,
    refused: Option<Errno>,
}

/// Where memory is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the registered buffer.
    pub(super) index: u16,
    /// Whether it was registered for this.
    pub(super) is_new: bool,
}

fn whole(region: *mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: region.cast(),
        iov_len: region.len(),
    }
}

impl Registered {
    /// Registers the first slot of `credits`, and gets ready for the others.
    ///
    /// # Errors
    /// `ENOMEM` if even that is over the limit of locked memory; `EFBIG` on an old kernel if the
    /// region is over 1 GiB.
    pub(super) fn new(submitter: &Submitter<'_>, credits: &Credits) -> Result<Self, Errno> {
        let slots = u32::try_from(credits.total()).map_err(|_| Errno::FBIG)?;
        let table = match submitter.register_buffers_sparse(slots) {
            Ok(()) => Table::Slots(vec![State::Fresh; credits.total()]),
            Err(error) if errno::from_error(&error) == Errno::INVAL => {
                Self::register_whole(submitter, credits)?;
                Table::Whole
            }
            Err(error) => return Err(errno::from_error(&error)),
        };
        let mut this = Self {
            credits: credits.clone(),
            table,
            refused: None,
        };
        this.pin(submitter, 0);
        match this.refused {
            Some(errno) => Err(errno),
            None => Ok(this),
        }
    }

    fn register_whole(submitter: &Submitter<'_>, credits: &Credits) -> Result<(), Errno> {
        let region = credits.region();
        if region.len() > REGION_MAX {
            return Err(Errno::FBIG);
        }
        // SAFETY: `register_buffers` needs memory that stays mapped until the ring is gone: G1.
        let registered = unsafe { submitter.register_buffers(&[whole(region)]) };
        registered.map_err(|error| errno::from_error(&error))
    }

    /// Returns why a slot was refused, if one was.
    pub(super) fn refused(&self) -> Option<Errno> {
        self.refused
    }

    /// Returns where `len` bytes at `start` are registered; registers their slot at its first use.
    /// `None` if they lie elsewhere, or the kernel would not have them.
    pub(super) fn find(
        &mut self,
        submitter: &Submitter<'_>,
        start: *const u8,
        len: usize,
    ) -> Option<Place> {
        let region = self.credits.region();
        let from = start.addr().checked_sub(region.cast::<u8>().addr())?;
        let end = from.checked_add(len).filter(|&end| end <= region.len())?;
        let Table::Slots(_) = &self.table else {
            return Some(Place {
                index: 0,
                is_new: false,
            });
        };
        let slot = from / SLOT_LEN;
        if end > (slot + 1) * SLOT_LEN {
            return None; // never of a lease or a view
        }
        let index = u16::try_from(slot).ok()?;
        let is_new = self.pin(submitter, index);
        self.is_pinned(slot).then_some(Place { index, is_new })
    }

    fn is_pinned(&self, slot: usize) -> bool {
        match &self.table {
            Table::Whole => true,
            Table::Slots(slots) => slots.get(slot) == Some(&State::Pinned),
        }
    }

    /// Registers a slot that is not yet. Returns whether it did.
    fn pin(&mut self, submitter: &Submitter<'_>, index: u16) -> bool {
        let region = self.credits.region();
        let Table::Slots(slots) = &mut self.table else {
            return false;
        };
        let Some(state) = slots.get_mut(usize::from(index)) else {
            return false;
        };
        if *state != State::Fresh {
            return false;
        }
        let start = region
            .cast::<u8>()
            .wrapping_add(usize::from(index) * SLOT_LEN);
        let slot = whole(std::ptr::slice_from_raw_parts_mut(start, SLOT_LEN));
        // SAFETY: `register_buffers_update` needs memory that stays mapped until the ring is gone:
        // G2 with G1, as the index is below the number of slots.
        let pinned = unsafe { submitter.register_buffers_update(u32::from(index), &[slot], None) };
        match pinned {
            Ok(()) => *state = State::Pinned,
            Err(error) => {
                *state = State::Refused;
                self.refused.get_or_insert(errno::from_error(&error));
            }
        }
        *state == State::Pinned
    }
}
