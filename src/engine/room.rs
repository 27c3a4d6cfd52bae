//! Is there room in the target? Answered before the first byte is written.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use super::counting::count_all;
use super::job::{CopyJob, Verify};
use super::session::Session;
use super::survey::Counted;
use super::telemetry::Telemetry;
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{Budget, LanePlan, Need, Room, TargetPlace, room};
use crate::target::{LocalTarget, staged_bytes};

/// What a copy needs.
pub(super) struct Needs {
    /// All of it, at most.
    pub(super) most: Need,
    /// What each lane is expected to need; zeros where nothing is known of it.
    pub(super) expected: Vec<Need>,
}

/// Returns what a copy needs, or refuses the job for want of space.
///
/// Cheap first: the space in use on a source's file system bounds what any part of it needs. If
/// that fits, the scan that copies is the only one; for a whole file system the bound is shown as
/// an estimate until it ends. Otherwise everything is counted.
///
/// `places` are all targets. In a run into a further one nothing is refused: it has what the others
/// could not take.
pub(super) fn check_space(
    job: &CopyJob,
    lanes: &[LanePlan],
    places: &[&TargetPlace],
    refuses: bool,
    budget: &Budget,
    session: &Session,
) -> Result<Needs, Error> {
    let room = all_room(places)?;
    let bounds: Option<Vec<Bound>> = lanes.iter().map(|plan| used(plan, job)).collect();
    if let Some(bounds) = bounds {
        let needs: Vec<Need> = bounds.iter().map(|bound| bound.need).collect();
        let most = sum(&needs);
        if room.fits(with_records(most, job)) || !refuses {
            let expected = bounds.into_iter().map(Bound::expected).collect();
            return Ok(Needs { most, expected });
        }
    }
    let counted = count_all(job, lanes, places, budget, session)?;
    // What a drive that did not answer has may be less than its file system says.
    let known = counted.iter().filter(|counted| counted.is_whole);
    let known = sum(&known.map(|counted| counted.need).collect::<Vec<_>>());
    if refuses && !room.fits(with_records(known, job)) && !session.stopped() {
        return Err(no_space(job, known, room));
    }
    let most = sum(&counted
        .iter()
        .map(|counted| counted.need)
        .collect::<Vec<_>>());
    let expected = |c: &Counted| Need {
        bytes: c.bytes,
        inodes: c.files,
    };
    Ok(Needs {
        most,
        expected: counted.iter().map(expected).collect(),
    })
}

fn no_space(job: &CopyJob, need: Need, room: Room) -> Error {
    let size = |bytes| bytesize::ByteSize::b(bytes).display().si();
    let records = need.records(job.verify != Verify::None);
    let what = if need.bytes > room.bytes {
        format!(
            "the sources need {}, the target has {} free",
            size(need.bytes),
            size(room.bytes)
        )
    } else if room.inodes.is_none_or(|inodes| need.inodes <= inodes) {
        format!(
            "the sources need {} and up to {} for blocks begun and records of {} files and \
             folders; the target has {} free",
            size(need.bytes),
            size(records.saturating_add(room.lost(need))),
            need.inodes,
            size(room.bytes)
        )
    } else {
        format!(
            "the sources are {} files and folders in {}; the target has {} free, and {} inodes",
            need.inodes,
            size(need.bytes),
            size(room.bytes),
            room.inodes
                .map_or_else(|| "enough".to_owned(), |inodes| inodes.to_string())
        )
    };
    Error::new(ErrorKind::Refused, Side::Target, &job.target, &what).because(Errno::NOSPC)
}

/// Returns a need with what the records of the copy take added.
pub(super) fn with_records(need: Need, job: &CopyJob) -> Need {
    let records = need.records(job.verify != Verify::None);
    Need {
        bytes: need.bytes.saturating_add(records),
        ..need
    }
}

/// Returns how much is to be set aside for what is written at the end.
pub(super) fn aside(most: Need, job: &CopyJob, target: &LocalTarget) -> u64 {
    let room = crate::beneath::read_dir_fd(target.root(), b"").and_then(|dir| room(dir.as_fd()));
    let proves = job.verify != Verify::None;
    room.map_or(0, |room| most.aside(proves, room))
}

/// Says why a full target ended a copy, how much is left, and what to do.
pub(super) fn full(
    job: &CopyJob,
    target: &LocalTarget,
    why: &Error,
    telemetry: &Telemetry,
) -> Error {
    let size = |bytes| bytesize::ByteSize::b(bytes).display().si();
    let (bytes, files) = left(telemetry);
    let room = crate::beneath::read_dir_fd(target.root(), b"").and_then(|dir| room(dir.as_fd()));
    let free = room.map_or_else(
        |_| String::new(),
        |room| match room.inodes {
            Some(inodes) => format!(", {} and {inodes} inodes are free", size(room.bytes)),
            None => format!(", {} are free", size(room.bytes)),
        },
    );
    let has_room = room.is_ok_and(|room| {
        let enough = Need {
            bytes,
            inodes: files,
        };
        room.fits(with_records(enough, job))
    });
    let advice = if has_room && why.errno() == Some(Errno::NOSPC) {
        "but what its file system lies on (thin storage, an image on a full disk) has no room: make \
         room there"
    } else {
        "make room, or name a further target with --spill"
    };
    let what = format!(
        "it is full; about {} in {files} files are still to be copied{free}; {advice}, and run the \
         same command again ({}: {})",
        size(bytes),
        why.path().display(),
        why.reason()
    );
    Error::new(ErrorKind::TargetFull, Side::Target, &job.target, &what)
}

/// Returns how many bytes and files are left to be copied, as far as they are known.
fn left(telemetry: &Telemetry) -> (u64, u64) {
    let lanes = telemetry.lanes.iter().map(|view| {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let it = &view.counters;
        let bytes = get(&it.bytes_expected).max(get(&it.bytes_found));
        let files = get(&it.files_expected).max(get(&it.files_found));
        let done = [
            &it.bytes_done,
            &it.bytes_kept,
            &it.bytes_skipped,
            &it.bytes_failed,
        ];
        let files_done = [&it.files_done, &it.files_kept, &it.files_skipped];
        (
            bytes.saturating_sub(done.into_iter().map(get).sum()),
            files.saturating_sub(files_done.into_iter().map(get).sum()),
        )
    });
    lanes.fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1))
}

pub(super) fn sum(needs: &[Need]) -> Need {
    needs.iter().fold(Need::default(), |sum, need| Need {
        bytes: sum.bytes.saturating_add(need.bytes),
        inodes: sum.inodes.saturating_add(need.inodes),
    })
}

/// What a lane needs at most.
struct Bound {
    need: Need,
    /// Whether all of it is to be copied, so that it is an estimate too.
    is_whole: bool,
}

impl Bound {
    fn expected(self) -> Need {
        if self.is_whole {
            self.need
        } else {
            Need::default()
        }
    }
}

/// Returns the space in use on a lane's file systems, where that bounds what a copy needs.
fn used(plan: &LanePlan, job: &CopyJob) -> Option<Bound> {
    let mut is_whole = job.files_from.is_none() && job.filter.is_empty();
    let mut need = Need::default();
    for (tree, (fs, _)) in plan.trees.iter().zip(&plan.fs) {
        // Elsewhere compression or shared extents can make files larger than the space they use.
        let plain = matches!(fs, crate::target::FsType::Ext4);
        if tree.only.is_some() || !plain {
            return None;
        }
        is_whole &= is_mount_root(&tree.root);
        let dir = crate::beneath::read_dir_fd(tree.root.as_fd(), b"").ok()?;
        let stat = rustix::fs::fstatvfs(dir).ok()?;
        need.bytes += stat
            .f_blocks
            .saturating_sub(stat.f_bfree)
            .saturating_mul(stat.f_frsize);
        need.inodes += stat.f_files.saturating_sub(stat.f_ffree);
    }
    Some(Bound { need, is_whole })
}

fn is_mount_root(dir: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Returns what all targets together have to give.
pub(super) fn all_room(places: &[&TargetPlace]) -> Result<Room, Error> {
    let mut sum: Option<Room> = None;
    for place in places {
        let room = free_room(place)?;
        sum = Some(match sum {
            None => room,
            Some(sum) => Room {
                bytes: sum.bytes.saturating_add(room.bytes),
                inodes: sum
                    .inodes
                    .zip(room.inodes)
                    .map(|(a, b)| a.saturating_add(b)),
                unit: sum.unit.max(room.unit),
            },
        });
    }
    sum.ok_or_else(|| Error::new(ErrorKind::Usage, Side::Target, "", "there is no target"))
}

/// Returns what the target has to give.
pub(super) fn free_room(place: &TargetPlace) -> Result<Room, Error> {
    let mut room = crate::beneath::read_dir_fd(place.nearest.as_fd(), b"")
        .and_then(|dir| room(dir.as_fd()))
        .map_err(|errno| Error::target(&place.label, "ask for free space", errno))?;
    if let Some(target) = place.existing() {
        room.bytes = room.bytes.saturating_add(staged_bytes(target));
    }
    Ok(room)
}
