//! Metadata: read from a source descriptor, set on a target descriptor.
//!
//! Everything goes through a held descriptor, never a path, so a name swapped meanwhile changes
//! nothing. Setting follows one order, each step because of the next:
//!
//! 1. **Owner.** chown clears set-id bits and file capabilities, so both must come later.
//! 2. **Extended attributes**, POSIX ACLs last among them: an ACL sets permission bits, and those
//!    may take away the very right to set `user.*` attributes.
//! 3. **Mode.** With an ACL in place the group bits are its mask; the source's mode has the same
//!    mask, so this leaves the ACL as it is, and adds set-id and sticky bits.
//! 4. **Times**, and then nothing more is written: a write sets new times and drops capabilities.
//!
//! Until step 3 the copy keeps the mode it was created with (0600, 0700): at no moment is it more
//! open than its source.
//!
//! What policy carries: `user.*`, `system.posix_acl_access`, `system.posix_acl_default`, and
//! `security.capability` when asked. Other `security.*` and `system.*` and all of `trusted.*`
//! belong to the system the source came from and are left out without a word.
//!
//! **Boundary.** Never touches contents or names; syncs nothing.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, statx};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::inode::Inode;
use crate::beneath;
use crate::scan::Attributes;
use crate::seam;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";

/// `S_ISUID | S_ISGID`.
const SET_ID: u32 = 0o6000;

/// What a mode gives the group: with an ACL its mask, and more than the group has.
const GROUP_BITS: u32 = 0o070;

/// What may be carried over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Keep setuid and setgid bits of files.
    pub setid: bool,
    /// Keep file capabilities (`security.capability`); setting them takes `CAP_SETFCAP`.
    pub caps: bool,
    /// Files may be given to other owners: see [`can_chown`].
    pub owner: bool,
}

/// What a copy does not have of its file's owner and privileges, which is no loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgone {
    /// Whether its owner is another one for want of the right to give files away alone.
    pub owner: bool,
    /// Set-id bits and file capabilities that were left out.
    pub cleared: u32,
}

/// Something that could not be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// `owner`, `mode`, `times`, `xattr NAME` (odd bytes escaped), or `attributes` for all.
    pub what: String,
    /// The kernel's answer.
    pub errno: Errno,
}

/// With fewer free blocks than this a file system counts as full: some keep a few for themselves.
const FEW_BLOCKS: u64 = 16;

/// What [`apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether owner and group are the source's now.
    pub owner_kept: bool,
    /// Set-id bits and file capabilities left out here, because the owner is another one than the
    /// source's or because policy says so.
    pub cleared: u32,
    /// What could not be set, in the order it was tried.
    pub losses: Vec<Loss>,
}

impl Applied {
    /// Returns whether anything of `attributes`, or what could not be read of them, is missing.
    pub(crate) fn lacks(&self, attributes: &Attributes) -> bool {
        attributes.unread.is_some() || !self.losses.is_empty()
    }

    /// Returns why something could not be set, if that was for want of room and would go well with
    /// more of it. (An attribute that no block of the file system holds gives the same answer.)
    pub(super) fn lacks_room(&self, file: BorrowedFd<'_>) -> Option<Errno> {
        let mut errnos = self.losses.iter().map(|loss| loss.errno);
        let errno = errnos.find(|errno| matches!(*errno, Errno::NOSPC | Errno::DQUOT))?;
        let is_full = || rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_bfree < FEW_BLOCKS);
        (errno == Errno::DQUOT || is_full()).then_some(errno)
    }

    /// Returns what is missing, and is no loss.
    pub(crate) fn forgone(&self, attributes: &Attributes) -> Forgone {
        let is_told = |loss: &Loss| matches!(loss.what.as_str(), "owner" | "attributes");
        Forgone {
            owner: !self.owner_kept && !self.losses.iter().any(is_told),
            cleared: attributes.cleared + self.cleared,
        }
    }

    /// Returns why nothing could be set at all, if that was for want of a descriptor: others are closed
    /// soon, or the next run has more.
    pub(super) fn lacks_descriptor(&self) -> Option<Errno> {
        let mut errnos = self.losses.iter().map(|loss| loss.errno);
        errnos.find(|errno| matches!(*errno, Errno::MFILE | Errno::NFILE))
    }

    fn note(&mut self, what: &str, result: Result<(), Errno>) {
        if let Err(errno) = result {
            let what = what.to_owned();
            self.losses.push(Loss { what, errno });
        }
    }
}

/// Returns whether this thread may give files away (`CAP_CHOWN`), for [`Policy::owner`].
pub fn can_chown() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN))
}

/// Returns what `stat` alone says: everything but extended attributes, without any policy.
///
/// Enough for symlinks, which have no mode and no attributes that policy would carry.
pub fn from_stat(stat: &Statx) -> Attributes {
    Attributes {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        atime: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        xattrs: Vec::new(),
        cleared: 0,
        unread: None,
    }
}

/// Reads what policy carries over from an inode; `stat` is its statx answer (basic stats).
///
/// Set-id bits go from files unless policy keeps them: they lend the owner's rights to whoever
/// runs the file. On directories setgid and sticky stay: setgid only hands the group on to new
/// entries, and without sticky a shared directory would let anyone remove anyone's files.
///
/// Where it cannot be told whether there is an ACL, or what it says, the mode gives the group
/// nothing: its group bits may be the mask of that ACL.
///
/// Also takes `O_PATH` descriptors (symlinks, special files), through /proc.
pub fn read(fd: BorrowedFd<'_>, stat: &Statx, policy: &Policy, is_dir: bool) -> Attributes {
    let mut outcome = from_stat(stat);
    if !is_dir && !policy.setid {
        outcome.cleared += (outcome.mode & SET_ID).count_ones();
        outcome.mode &= !SET_ID;
    }
    let inode = Inode::new(fd);
    let mut buffer = Vec::new();
    let names = match inode.list(&mut buffer) {
        Ok(names) => names,
        // The file system has no extended attributes: nothing is missing.
        Err(Errno::OPNOTSUPP) => return outcome,
        Err(errno) => {
            outcome.unread = Some(errno);
            outcome.mode &= !GROUP_BITS;
            return outcome;
        }
    };
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name == CAPABILITY && !policy.caps {
            outcome.cleared += 1;
        } else if carried(name) {
            match inode.get(name) {
                Ok(value) => outcome.xattrs.push((name.to_vec(), value)),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(errno) => {
                    outcome.unread = outcome.unread.or(Some(errno));
                    if name == ACL_ACCESS {
                        outcome.mode &= !GROUP_BITS;
                    }
                }
            }
        }
    }
    outcome
}

/// Sets attributes on an open file or directory, in the order given at the head of this module.
///
/// A failure is noted and the rest goes on. Set-id bits and capabilities are set on a file only
/// when policy keeps them *and* owner and group are the source's: they would lend the wrong
/// owner's rights. Without the right to chown, the group alone is tried, and a different owner is
/// no loss. An ACL the file has already, inherited from its directory, goes when the source has
/// none. If the source's ACL cannot be set, the group bits shrink to what it gave the group.
///
/// # Durability
/// None: fsync or syncfs comes after. Anything written to the file later undoes part of this.
pub fn apply(fd: BorrowedFd<'_>, attributes: &Attributes, policy: &Policy) -> Applied {
    apply_when(fd, attributes, *policy, |kind| {
        matches!(kind, FileType::RegularFile | FileType::Directory)
    })
}

/// Sets owner and times of the symlink called `name` in `dir`; never of what it points to.
///
/// # Durability
/// None: sync the directory or the file system after.
pub fn apply_symlink(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attributes: &Attributes,
    policy: &Policy,
) -> Applied {
    apply_named(dir, name, attributes, *policy, |kind| {
        kind == FileType::Symlink
    })
}

/// Sets attributes of the FIFO, socket or device node called `name` in `dir` without opening what
/// it stands for. Mode and ACL need /proc.
///
/// # Durability
/// None: sync the directory or the file system after.
pub fn apply_special(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attributes: &Attributes,
    policy: &Policy,
) -> Applied {
    apply_named(dir, name, attributes, *policy, |kind| {
        use FileType::{BlockDevice, CharacterDevice, Fifo, Socket};
        matches!(kind, Fifo | Socket | CharacterDevice | BlockDevice)
    })
}

/// Holds the inode first, so that whatever is swapped in under the name is out of reach.
fn apply_named(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attributes: &Attributes,
    policy: Policy,
    expected: fn(FileType) -> bool,
) -> Applied {
    let held = beneath::check_name(name)
        .and_then(|()| beneath::open(dir, name, OFlags::PATH, Mode::empty()));
    match held {
        Ok(held) => apply_when(held.as_fd(), attributes, policy, expected),
        Err(errno) => nothing(errno),
    }
}

pub(super) fn apply_when(
    fd: BorrowedFd<'_>,
    attributes: &Attributes,
    policy: Policy,
    expected: fn(FileType) -> bool,
) -> Applied {
    let now = match statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) {
        Ok(now) => now,
        Err(errno) => return nothing(errno),
    };
    let kind = FileType::from_raw_mode(now.stx_mode.into());
    if !expected(kind) {
        return nothing(Errno::INVAL);
    }
    let inode = Inode::new(fd);
    let mut done = Applied::default();
    if seam::bug("mode-before-owner") {
        done.note("mode", inode.chmod(attributes.mode & 0o7777));
    }
    done.owner_kept = set_owner(&inode, &now, attributes, policy, &mut done);
    if kind != FileType::Symlink {
        let privileged = |wanted: bool| wanted && done.owner_kept;
        let (setid, caps) = (privileged(policy.setid), privileged(policy.caps));
        let mut mode = attributes.mode & 0o7777;
        if kind != FileType::Directory && !setid {
            done.cleared += (mode & SET_ID).count_ones();
            mode &= !SET_ID;
        }
        if kind == FileType::Directory {
            drop_inherited(&inode, attributes, ACL_DEFAULT, &mut done);
        }
        if !drop_inherited(&inode, attributes, ACL_ACCESS, &mut done) {
            mode &= !GROUP_BITS;
        }
        mode &= set_xattrs(&inode, attributes, caps, &mut done);
        done.note("mode", inode.chmod(mode));
    }
    done.note("times", set_times(&inode, attributes));
    done
}

fn nothing(errno: Errno) -> Applied {
    let mut done = Applied::default();
    done.note("attributes", Err(errno));
    done
}

/// Returns whether owner and group are the source's afterwards.
fn set_owner(
    inode: &Inode<'_>,
    now: &Statx,
    attributes: &Attributes,
    policy: Policy,
    done: &mut Applied,
) -> bool {
    let same_owner = now.stx_uid == attributes.uid;
    let same_group = now.stx_gid == attributes.gid;
    if same_owner && same_group {
        return true;
    }
    if policy.owner {
        let result = inode.chown(Some(attributes.uid), Some(attributes.gid));
        done.note("owner", result);
        return result.is_ok();
    }
    let group_kept = same_group || inode.chown(None, Some(attributes.gid)).is_ok();
    same_owner && group_kept
}

/// Removes an ACL that the source has not; returns whether there is none now.
fn drop_inherited(
    inode: &Inode<'_>,
    attributes: &Attributes,
    acl: &[u8],
    done: &mut Applied,
) -> bool {
    let wanted = attributes.xattrs.iter().any(|(name, _)| name == acl);
    // Asking first is the common case and cheap: new inodes have the answer in memory, while a
    // removal would start a transaction in the file system.
    if wanted || matches!(inode.size_of(acl), Err(Errno::NODATA | Errno::OPNOTSUPP)) {
        return true;
    }
    let result = remove_acl(inode, acl);
    done.note(&label(acl), result);
    result.is_ok()
}

fn remove_acl(inode: &Inode<'_>, acl: &[u8]) -> Result<(), Errno> {
    match inode.remove(acl) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Returns the mode bits that may stay: all, or fewer group bits when the ACL could not be set.
fn set_xattrs(inode: &Inode<'_>, attributes: &Attributes, caps: bool, done: &mut Applied) -> u32 {
    let mut keep = 0o7777;
    let (acls, others): (Vec<_>, Vec<_>) = attributes
        .xattrs
        .iter()
        .partition(|(name, _)| name == ACL_ACCESS || name == ACL_DEFAULT);
    for (name, value) in others.into_iter().chain(acls) {
        if name == CAPABILITY && !caps {
            done.cleared += 1;
            continue;
        }
        if !carried(name) {
            continue;
        }
        let result = inode.set(name, value);
        if result.is_err() && name == ACL_ACCESS {
            // An ACL inherited meanwhile would open up with the mode, whose group bits are its
            // mask: if it cannot be removed, that mask stays empty.
            keep = match remove_acl(inode, name) {
                Ok(()) => !GROUP_BITS | acl_group_bits(value),
                Err(_) => !GROUP_BITS,
            };
        }
        done.note(&label(name), result);
    }
    keep
}

fn set_times(inode: &Inode<'_>, attributes: &Attributes) -> Result<(), Errno> {
    let timespec = |(seconds, nanos): (i64, u32)| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    // Beyond a second lie UTIME_NOW and UTIME_OMIT, which would be taken for orders.
    if attributes.atime.1 >= 1_000_000_000 || attributes.mtime.1 >= 1_000_000_000 {
        return Err(Errno::INVAL);
    }
    inode.utimes(&Timestamps {
        last_access: timespec(attributes.atime),
        last_modification: timespec(attributes.mtime),
    })
}

/// Returns whether an extended attribute is carried over, capabilities subject to policy.
fn carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACL_ACCESS || name == ACL_DEFAULT || name == CAPABILITY
}

fn label(name: &[u8]) -> String {
    format!("xattr {}", name.escape_ascii())
}

/// Returns what an ACL gives the owning group, as group bits of a mode (0 to 0o070).
///
/// With an ACL the group bits of the mode are its mask, the most that any named user has. Without
/// the ACL they would be the owning group's: `group::---` and `mask::rwx` would open the file.
///
/// Layout, little-endian: `u32` version 2, then entries of `u16` tag, `u16` permissions, `u32` id.
/// Source: linux/posix_acl_xattr.h.
fn acl_group_bits(acl: &[u8]) -> u32 {
    const VERSION: [u8; 4] = [2, 0, 0, 0];
    const GROUP: [u8; 2] = [0x04, 0];
    const MASK: [u8; 2] = [0x10, 0];
    let Some(entries) = acl.strip_prefix(&VERSION) else {
        return 0;
    };
    let (mut group, mut mask) = (0, 0o7);
    for entry in entries.chunks_exact(8) {
        match *entry {
            [a, b, low, _, ..] if [a, b] == GROUP => group = u32::from(low) & 0o7,
            [a, b, low, _, ..] if [a, b] == MASK => mask = u32::from(low) & 0o7,
            _ => {}
        }
    }
    (group & mask) << 3
}

#[cfg(test)]
mod tests {
    use super::acl_group_bits;

    /// `user::rw-, user:1000:rwx, group::r--, mask::rwx, other::---` as the kernel stores it.
    const NAMED_USER: [u8; 44] = [
        2, 0, 0, 0, //
        0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, //
        0x02, 0, 7, 0, 0xe8, 0x03, 0, 0, //
        0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
        0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
        0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ];

    #[test]
    fn without_its_acl_a_file_gives_the_group_what_the_acl_gave_it() {
        assert_eq!(acl_group_bits(&NAMED_USER), 0o040);
    }

    #[test]
    fn the_mask_limits_the_group() {
        let mut masked = NAMED_USER;
        masked[22] = 7;
        masked[30] = 5;
        assert_eq!(acl_group_bits(&masked), 0o050);
    }

    #[test]
    fn an_acl_that_does_not_parse_gives_the_group_nothing() {
        assert_eq!(acl_group_bits(b""), 0);
        assert_eq!(acl_group_bits(&[3, 0, 0, 0, 4, 0, 7, 0, 0, 0, 0, 0]), 0);
        assert_eq!(acl_group_bits(&NAMED_USER[..20]), 0);
    }
}
