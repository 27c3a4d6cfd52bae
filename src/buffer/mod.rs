//! One arena of buffers, fixed at the start, lent to lanes as credits.
//!
//! A lane reads only with a slot in hand, so memory is bounded and a slow target slows its readers
//! without a sleeping loop. A drive that hangs pins its own lane's slots and nobody else's.
//!
//! Slot to bytes: [`Credits::take`] gives a [`Lease`], the right to write; [`Lease::freeze`] turns
//! it into a [`View`], shared and read-only, for the hash workers and the writer. When the last of
//! them is dropped, on any thread, the slot is free again and the lane is woken if it was waiting.
//!
//! **Boundary.** Knows memory and who may touch it; knows nothing of files or rings.

mod arena;
mod stack;

pub use arena::{Arena, Credits, Lease, SLOT_LEN, View};

/// What offsets, lengths and memory are multiples of, in bytes.
///
/// Covers drives with 4,096-byte logical blocks. Source: open(2), "O_DIRECT"; statx(2),
/// `stx_dio_offset_align`, which is 512 or 4096 on the drives we know.
pub const ALIGN: usize = 4096;
