//! Files that are to be read from their medium: dropped from the page cache, and looked for there.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Advice;
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};

use super::sample::Ties;

/// A file, opened to be read through the page cache, and its length.
pub(crate) type Probe = (OwnedFd, u64);

/// How often it is tried to drop files from the page cache, and how long is waited in between: what
/// somebody has in hand at that moment stays, and can go a moment later.
const DROPS_MAX: u32 = 8;
const DROP_WAIT: std::time::Duration = std::time::Duration::from_millis(20);

/// Drops files from the page cache; returns which of them, by number, are not known to be gone from it.
pub(crate) fn staying(probes: &[Probe], ties: &Ties) -> Vec<usize> {
    let dropped = |probe: &Probe| {
        drop_pages(probe);
        let is_gone = places(probe.1).iter().all(|at| is_absent(&probe.0, *at));
        ties.beat();
        is_gone
    };
    // All of them, even after one that stays; and all that stay wait together.
    let mut left: Vec<usize> = (0..probes.len()).collect();
    for before in 0..DROPS_MAX {
        if before > 0 {
            std::thread::sleep(DROP_WAIT);
        }
        left.retain(|number| !probes.get(*number).is_some_and(dropped));
        if left.is_empty() {
            break;
        }
    }
    left
}

/// Drops what looking for them in [`staying`] has brought in: the kernel begins to read a page that
/// somebody asks for, and that may be all of a small file.
pub(crate) fn forget(probes: &[Probe], ties: &Ties) {
    for (probe, len) in probes {
        for at in places(*len) {
            // A page that is still on its way cannot be dropped.
            let _ends_with_the_file = rustix::io::pread(probe, &mut [0], at);
        }
        ties.beat();
    }
    // Afterwards: the kernel gathers pages that are new before any of them can go.
    probes.iter().for_each(drop_pages);
}

fn drop_pages((probe, len): &Probe) {
    for advice in [Advice::DontNeed, Advice::Random] {
        let _looked_at_later = rustix::fs::fadvise(probe, 0, NonZeroU64::new(*len), advice);
    }
}

/// Where it is looked for a file of this length.
fn places(len: u64) -> [u64; 3] {
    let last = len.saturating_sub(1);
    [0, last / 2, last]
}

/// A buffered read that must not wait answers EAGAIN for a page that is not there (preadv2(2)).
fn is_absent(probe: &OwnedFd, at: u64) -> bool {
    let mut byte = [0];
    let buffer = &mut [IoSliceMut::new(&mut byte)];
    let answer = rustix::io::preadv2(probe.as_fd(), buffer, at, ReadWriteFlags::NOWAIT);
    matches!(answer, Err(Errno::AGAIN))
}
