//! Memory: how the bound the user set is divided. Pure arithmetic.

use crate::buffer::SLOT_LEN;
use crate::error::{Error, ErrorKind, Side};

/// Fewest buffers a lane works with: one being read, one being hashed and written, one on its way.
pub const LANE_SLOTS_MIN: usize = 3;
/// Most buffers a lane gains from: 32 MiB cover a quarter of a second of a 125 MB/s drive.
pub const LANE_SLOTS_MAX: usize = 32;

/// What the process needs whatever it copies: code, tables, one hash worker's stack and so on.
const FIXED: u64 = 24 << 20;
/// What a lane needs beside its buffers: two thread stacks, a ring, directory caches.
const LANE_FIXED: u64 = 1 << 20;
/// Least bytes for sorting the manifest.
const SORTER_MIN: u64 = 1 << 20;
/// Least bytes of one window of entries.
const WINDOW_MIN: u64 = 64 << 10;
/// Windows a lane holds: one being filled, one in the channel, one with the lane.
const WINDOWS: u64 = 3;

/// How memory is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Buffers of [`SLOT_LEN`] bytes lent to each lane.
    pub slots_per_lane: usize,
    /// Bytes of entries a scan gathers before it sorts them and hands them over.
    pub window_bytes: usize,
    /// Bytes for sorting the manifest.
    pub sorter_bytes: usize,
}

impl Budget {
    /// Divides `memory` bytes among `lanes` lanes.
    ///
    /// # Errors
    /// `Usage` when it is too little, naming the least that would do.
    ///
    /// # Examples
    /// 512 MiB and 60 lanes: 24 + 60 fixed leave 428 MiB; an eighth of it, 53 MiB, holds entries
    /// and the sorter; of the rest each lane gets 6 buffers of 1 MiB.
    pub fn new(memory: u64, lanes: usize) -> Result<Self, Error> {
        let lanes_u64 = lanes.max(1) as u64;
        let slot = SLOT_LEN as u64;
        let fixed = FIXED + LANE_FIXED * lanes_u64;
        let free = memory.saturating_sub(fixed);
        // An eighth of it for entries and the manifest, and never less than they are given below.
        let side = (free / 8).max(SORTER_MIN + WINDOWS * WINDOW_MIN * lanes_u64);
        let slots = free.saturating_sub(side) / slot / lanes_u64;
        if slots < LANE_SLOTS_MIN as u64 {
            let least = fixed + (lanes_u64 * LANE_SLOTS_MIN as u64 * slot * 8).div_ceil(7) + slot;
            let what = format!(
                "{} MiB is too little for {lanes} drives; it takes at least {} MiB",
                memory >> 20,
                least.div_ceil(1 << 20)
            );
            return Err(Error::new(
                ErrorKind::Usage,
                Side::Record,
                "--memory",
                &what,
            ));
        }
        let sorter = (side / 4).clamp(SORTER_MIN, 16 << 20);
        let window =
            (side.saturating_sub(sorter) / lanes_u64 / WINDOWS).clamp(WINDOW_MIN, 16 << 20);
        let narrow = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            slots_per_lane: narrow(slots).min(LANE_SLOTS_MAX),
            window_bytes: narrow(window),
            sorter_bytes: narrow(sorter),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_serves_sixty_lanes() {
        let budget = Budget::new(512 << 20, 60).unwrap();
        assert_eq!(budget.slots_per_lane, 6);
        let whole = 60 * (budget.slots_per_lane * SLOT_LEN + 3 * budget.window_bytes + (1 << 20))
            + budget.sorter_bytes
            + (24 << 20);
        assert!(whole <= 512 << 20, "{whole}");
    }

    #[test]
    fn one_lane_gets_no_more_than_it_gains_from() {
        let budget = Budget::new(512 << 20, 1).unwrap();
        assert_eq!(budget.slots_per_lane, LANE_SLOTS_MAX);
        assert_eq!(budget.window_bytes, 15_958_016);
    }

    #[test]
    fn too_little_is_refused_and_says_what_would_do() {
        let error = Budget::new(64 << 20, 60).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(
            error.reason(),
            "64 MiB is too little for 60 drives; it takes at least 291 MiB"
        );
        assert_eq!(
            Budget::new(291 << 20, 60).unwrap().slots_per_lane,
            LANE_SLOTS_MIN
        );
    }
}
