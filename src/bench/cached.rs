//! Files that are to be read from their medium: dropped from the page cache, and looked for there.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Advice;
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};

use super::report::Doubt;
use super::sample::Ties;

/// A file, opened to be read through the page cache, and its length.
pub(crate) type Probe = (OwnedFd, u64);

/// How often it is tried to drop files from the page cache, and how long is waited in between: what
/// somebody has in hand at that moment stays, and can go a moment later.
const DROPS_MAX: u32 = 8;
const DROP_WAIT: std::time::Duration = std::time::Duration::from_millis(20);

/// A page, or a part of a larger one.
const PAGE: u64 = 4096;

/// Files that were dropped and are not known to be gone, by number.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Those that are still in the page cache.
    pub(crate) staying: Vec<usize>,
    /// Those whose file system does not say (FAT, exFAT, NFS, FUSE).
    pub(crate) unknown: Vec<usize>,
}

impl Left {
    /// Returns what that leaves in doubt.
    pub(crate) fn doubt(&self) -> Option<Doubt> {
        if !self.staying.is_empty() {
            return Some(Doubt::PageCache);
        }
        (!self.unknown.is_empty()).then_some(Doubt::PageCacheUnknown)
    }
}

/// Drops files from the page cache; returns which of them are not known to be gone from it. After a stop
/// all that were not looked at.
pub(crate) fn drop_all(probes: &[Probe], ties: &Ties) -> Left {
    let mut unknown = Vec::new();
    let mut is_staying = |number: &usize| {
        let Some(probe) = probes.get(*number).filter(|_| !ties.stopped()) else {
            return true;
        };
        drop_pages(probe);
        let found: Vec<Found> = places(probe.1).map(|at| look(&probe.0, at)).collect();
        ties.beat();
        let is_unknown = found.contains(&Found::Unknown);
        unknown.extend(is_unknown.then_some(*number));
        !is_unknown && found.contains(&Found::Present)
    };
    // All of them, even after one that stays; and all that stay wait together.
    let mut staying: Vec<usize> = (0..probes.len()).collect();
    for before in 0..DROPS_MAX {
        if before > 0 {
            std::thread::sleep(DROP_WAIT);
        }
        staying.retain(&mut is_staying);
        if staying.is_empty() || ties.stopped() {
            break;
        }
    }
    Left { staying, unknown }
}

/// Drops what looking for it in [`drop_all`] has brought in of a file: the kernel begins to read a page
/// that somebody asks for, and that may be all of a small one.
pub(crate) fn forget(probe: &Probe) {
    for at in places(probe.1) {
        // A page that is still on its way cannot be dropped.
        let _ends_with_the_file = rustix::io::pread(&probe.0, &mut [0], at);
    }
    drop_pages(probe);
}

fn drop_pages((probe, len): &Probe) {
    for advice in [Advice::DontNeed, Advice::Random] {
        let _looked_at_later = rustix::fs::fadvise(probe, 0, NonZeroU64::new(*len), advice);
    }
}

/// Pages that are looked for of a file of this length, each once: a look begins to bring a page in, and
/// a second one would find it.
fn places(len: u64) -> impl Iterator<Item = u64> {
    let last = len.saturating_sub(1);
    let mut pages = [0, last / 2, last].map(|at| at - at % PAGE).to_vec();
    pages.dedup();
    pages.into_iter()
}

/// What there is of a page in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Absent,
    Present,
    Unknown,
}

/// A buffered read that must not wait answers EAGAIN for a page that is not there, and EOPNOTSUPP where
/// the file system knows no such read (preadv2(2)).
fn look(probe: &OwnedFd, at: u64) -> Found {
    let mut byte = [0];
    let buffer = &mut [IoSliceMut::new(&mut byte)];
    match rustix::io::preadv2(probe.as_fd(), buffer, at, ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN) => Found::Absent,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Found::Unknown,
        _ => Found::Present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_looked_for_once() {
        let of = |len: u64| places(len).collect::<Vec<_>>();
        assert_eq!(of(0), [0]);
        assert_eq!(of(3000), [0]);
        assert_eq!(of(5000), [0, 4096]);
        assert_eq!(of(1 << 20), [0, (512 << 10) - 4096, (1 << 20) - 4096]);
    }
}
