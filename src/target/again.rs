//! Attributes again: of files that have their names, but lack something of theirs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::TargetStamp;
use super::attributes::{self, Applied, Policy};
use super::publish::split;
use super::stage::LocalStager;
use crate::beneath;
use crate::error::Error;
use crate::scan::{Attributes, as_path};

/// Sets the attributes of a published file once more; see
/// [`Stager::set_again`](super::Stager::set_again).
pub(super) fn set_again(
    stager: &mut LocalStager,
    path: &[u8],
    stamp: TargetStamp,
    attributes: &Attributes,
) -> Result<Option<(Applied, TargetStamp)>, Error> {
    let (dir, name) = split(path);
    let what = "set its attributes again";
    let dir = stager.dirs.get(dir);
    let dir = dir.map_err(|errno| stager.error(path, what, errno))?;
    let (policy, syncs) = (stager.policy, stager.sync_each);
    let set = apply_again(dir.as_fd(), name, stamp, attributes, policy, syncs);
    let Some((applied, now, file)) = set.map_err(|errno| stager.error(path, what, errno))? else {
        return Ok(None);
    };
    if let Some(errno) = applied.lacks_room(dir.as_fd()) {
        return Err(stager.error(path, what, errno));
    }
    if let Some(Err(errno)) = file.map(rustix::fs::fsync) {
        let path = stager.label.join(as_path(path));
        return Err(Error::target_sync(path, "make it durable", errno));
    }
    Ok(Some((applied, now)))
}

/// Sets attributes of the file called `name` in `dir` if it is the one with this stamp. Returns what
/// it is recognised by then, too, and, if it `syncs`, what is to be synced.
fn apply_again(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stamp: TargetStamp,
    wanted: &Attributes,
    policy: Policy,
    syncs: bool,
) -> Result<Option<(Applied, TargetStamp, Option<OwnedFd>)>, Errno> {
    beneath::check_name(name)?;
    // Its mode may keep even its owner from opening it.
    let held = beneath::open(dir, name, OFlags::PATH, Mode::empty())?;
    if TargetStamp::of(&rustix::fs::fstat(&held)?) != stamp {
        return Ok(None);
    }
    // What is held cannot be synced; its link leads to this very file, whatever has its name by now.
    // What cannot be opened is found out before it has another time, by which nobody would know it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let link = format!("/proc/self/fd/{}", held.as_raw_fd());
    let file = syncs.then(|| rustix::fs::open(link, flags, Mode::empty()));
    let file = file.transpose()?;
    let regular = |kind| kind == FileType::RegularFile;
    let applied = attributes::apply_when(held.as_fd(), wanted, policy, regular);
    let now = TargetStamp::of(&rustix::fs::fstat(&held)?);
    Ok(Some((applied, now, file)))
}
