//! Is there room in the target? Answered before the first byte is written.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::job::CopyJob;
use super::run::cannot;
use super::session::Session;
use super::survey::{Counted, survey};
use crate::error::{Error, ErrorKind, Side};
use crate::plan::{Budget, LanePlan, Need, Room, TargetPlace, room};
use crate::scan::{Order, WalkOptions};
use crate::target::staged_bytes;

/// Returns what each lane is expected to need, or refuses the job for want of space.
///
/// Cheap first: when every source is a whole file system, the space in use there bounds what is
/// needed. If that fits, the scan that copies is the only one, and what is shown until it ends is
/// an estimate. Otherwise everything is counted.
pub(super) fn check_space(
    job: &CopyJob,
    lanes: &[LanePlan],
    place: &TargetPlace,
    budget: &Budget,
    session: &Session,
) -> Result<Vec<Need>, Error> {
    let room = free_room(place)?;
    let bounds: Option<Vec<Need>> = lanes.iter().map(|plan| used(plan, job)).collect();
    if let Some(bounds) = bounds
        && room.fits(sum(&bounds))
    {
        return Ok(bounds);
    }
    let counted = count_all(job, lanes, place, budget, session)?;
    let needs: Vec<Need> = counted.iter().map(|counted| counted.need).collect();
    let need = sum(&needs);
    if !room.fits(need) && !session.stopped() {
        return Err(no_space(job, need, room));
    }
    let expected = |c: &Counted| Need {
        bytes: c.bytes,
        inodes: c.files,
    };
    Ok(counted.iter().map(expected).collect())
}

fn no_space(job: &CopyJob, need: Need, room: Room) -> Error {
    let size = |bytes| bytesize::ByteSize::b(bytes).display().si();
    let what = if need.bytes > room.bytes {
        format!(
            "the sources need {}, the target has {} free",
            size(need.bytes),
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
    Error::new(ErrorKind::Refused, Side::Target, &job.target, &what)
        .because(rustix::io::Errno::NOSPC)
}

pub(super) fn sum(needs: &[Need]) -> Need {
    needs.iter().fold(Need::default(), |sum, need| Need {
        bytes: sum.bytes.saturating_add(need.bytes),
        inodes: sum.inodes.saturating_add(need.inodes),
    })
}

/// Returns the space in use on a lane's file systems, where that bounds what a copy needs.
fn used(plan: &LanePlan, job: &CopyJob) -> Option<Need> {
    if job.files_from.is_some() || !job.filter.is_empty() {
        return None;
    }
    let mut need = Need::default();
    for (tree, (fs, _)) in plan.trees.iter().zip(&plan.fs) {
        // Elsewhere compression or shared extents can make files larger than the space they use.
        let plain = matches!(fs, crate::target::FsType::Ext4);
        if tree.only.is_some() || !plain || !is_mount_root(&tree.root) {
            return None;
        }
        let dir = crate::beneath::read_dir_fd(tree.root.as_fd(), b"").ok()?;
        let stat = rustix::fs::fstatvfs(dir).ok()?;
        need.bytes += stat
            .f_blocks
            .saturating_sub(stat.f_bfree)
            .saturating_mul(stat.f_frsize);
        need.inodes += stat.f_files.saturating_sub(stat.f_ffree);
    }
    Some(need)
}

fn is_mount_root(dir: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Counts every lane, all drives at the same time.
pub(super) fn count_all(
    job: &CopyJob,
    lanes: &[LanePlan],
    place: &TargetPlace,
    budget: &Budget,
    session: &Session,
) -> Result<Vec<Counted>, Error> {
    let target = match place.existing() {
        Some(fd) => {
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)
                .map_err(|errno| Error::target(&job.target, "open", errno))?;
            Some(Arc::new(fd))
        }
        None => None,
    };
    let start = |source| cannot("start a thread", source);
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter()
            .map(|plan| {
                let target = target.as_ref();
                std::thread::Builder::new().spawn_scoped(scope, move || {
                    let options = WalkOptions {
                        filter: &job.filter,
                        files_from: job.files_from.as_deref(),
                        order: Order::Listing,
                        window_bytes: budget.window_bytes,
                    };
                    survey(&plan.trees, &options, target, session)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.map_err(start)?.join().map_err(|_| {
                    let what = "counting hit a bug in inhaul";
                    Error::new(ErrorKind::Panic, Side::Source, "sources", what)
                })
            })
            .collect()
    })
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
