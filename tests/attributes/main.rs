//! Metadata from source to target on real file systems, checked with other tools' eyes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are not tests to the lint"
)]

mod acls;
mod kinds;
mod ordinary_user;
mod rights;
mod times;
mod xattrs;

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use inhaul::beneath::{open_root, open_source};
use inhaul::scan::Attributes;
use inhaul::target::attributes::{Applied, Loss, Policy, apply, read};
use rustix::fs::{
    AtFlags, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, XattrFlags, getxattr, open,
    setxattr, statx, utimensat,
};
use rustix::io::Errno;

/// Everything root may carry.
const ALL: Policy = Policy {
    setid: true,
    caps: true,
    owner: true,
};

/// What a plain run as root carries.
const PLAIN: Policy = Policy {
    setid: false,
    caps: false,
    owner: true,
};

/// `cap_net_raw=ep` as `setcap` writes it: revision 2 with the effective flag, then permitted and
/// inheritable words. Source: linux/capability.h.
const NET_RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A file system that goes away with the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Mounts a fresh file system, on a sparse image of 400 MiB (XFS wants 300) where it needs one.
    fn new(kind: &str) -> Option<Self> {
        let top = tempfile::tempdir().unwrap();
        let at = top.path().join("mnt");
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        if matches!(kind, "tmpfs" | "ramfs") {
            mount.args(["-t", kind, kind]);
        } else {
            let image = top.path().join("image");
            File::create(&image).unwrap().set_len(400 << 20).unwrap();
            let mut mkfs = Command::new(format!("mkfs.{kind}"));
            if kind == "ext4" {
                // On small images it would choose 1 KiB, and attributes must fit a block.
                mkfs.args(["-b", "4096"]);
            }
            let made = mkfs.arg("-q").arg(&image).status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!("SKIPPED: no mkfs.{kind}");
                return None;
            }
            mount.args(["-o", "loop"]).arg(&image);
        }
        if !mount.arg(&at).status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: cannot mount {kind} (needs root and loop devices)");
            return None;
        }
        Some(Self(top))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a program another test is just starting may still hold our descriptors.
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(self.path());
        if !umount.status().is_ok_and(|status| status.success()) {
            eprintln!("still mounted: {}", self.path().display());
        }
    }
}

fn stat(fd: impl AsFd) -> Statx {
    statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).unwrap()
}

fn file(at: &Path, name: &str, mode: u32) -> PathBuf {
    let path = at.join(name);
    fs::write(&path, b"content").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn dir(at: &Path, name: &str, mode: u32) -> PathBuf {
    let path = at.join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn read_file(path: &Path, policy: Policy) -> Attributes {
    let parent = open_root(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    let source = open_source(parent.as_fd(), name, false).unwrap();
    read(source.file.as_fd(), &source.stat, &policy, false)
}

fn open_directory(path: &Path) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn read_dir(path: &Path, policy: Policy) -> Attributes {
    let fd = open_directory(path);
    read(fd.as_fd(), &stat(&fd), &policy, true)
}

/// Applies to a new file called `name`, made as copies are: private.
fn apply_new(at: &Path, name: &str, wanted: &Attributes, policy: Policy) -> (PathBuf, Applied) {
    let path = at.join(name);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let fd = open(&path, flags, Mode::from_raw_mode(0o600)).unwrap();
    let applied = apply(fd.as_fd(), wanted, &policy);
    (path, applied)
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn ids_of(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

fn times_of(path: &Path) -> [(i64, i64); 2] {
    let meta = fs::symlink_metadata(path).unwrap();
    [
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
    ]
}

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    };
    utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65536];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn loss(what: &str, errno: Errno) -> Loss {
    let what = what.to_owned();
    Loss { what, errno }
}

/// Nothing lost, nothing left out.
fn clean() -> Applied {
    Applied {
        owner_kept: true,
        ..Applied::default()
    }
}

#[test]
fn ext4_carries_everything() {
    everything("ext4");
}

#[test]
fn xfs_carries_everything() {
    everything("xfs");
}

#[test]
fn btrfs_carries_everything() {
    everything("btrfs");
}

#[test]
fn tmpfs_carries_everything() {
    everything("tmpfs");
}

type Check = fn(&Path);

/// Runs each check in its own directory of one file system.
fn everything(kind: &str) {
    let Some(mounted) = Mounted::new(kind) else {
        return;
    };
    let checks: [(&str, Check); 13] = [
        ("round trip", a_file_arrives_with_everything),
        ("modes", rights::every_mode_arrives),
        (
            "set-id",
            rights::set_id_bits_go_by_policy_and_outlive_the_chown,
        ),
        (
            "capabilities",
            rights::capabilities_go_by_policy_and_outlive_the_chown,
        ),
        ("acl", acls::acls_arrive_and_the_mode_leaves_them_alone),
        ("inherited", acls::an_inherited_acl_does_not_stay),
        (
            "foreign",
            xattrs::names_that_belong_to_the_system_stay_behind,
        ),
        ("many", xattrs::long_lists_of_names_are_read_whole),
        ("times", times::times_keep_nanoseconds_and_signs),
        ("symlinks", kinds::symlinks_keep_owner_and_times),
        (
            "specials",
            kinds::special_files_keep_everything_but_contents,
        ),
        ("kinds", kinds::an_unexpected_kind_is_left_alone),
        (
            "owner",
            rights::without_the_right_to_chown_privileges_stay_behind,
        ),
    ];
    for (name, check) in checks {
        eprintln!("{kind}: {name}");
        check(&dir(&mounted.path(), name, 0o755));
    }
    xattrs::large_values(kind, &dir(&mounted.path(), "large", 0o755));
}

fn a_file_arrives_with_everything(at: &Path) {
    let source = file(at, "source", 0o640);
    set_xattr(&source, "user.colour", b"blue\0and more");
    set_xattr(&source, "user.empty", b"");
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_times(&source, (1_000_000_000, 1), (1_234_567_890, 123_456_789));

    let outcome = read_file(&source, PLAIN);
    let mut got = outcome.clone();
    got.xattrs.sort();
    let want = Attributes {
        mode: 0o640,
        uid: 1234,
        gid: 5678,
        atime: (1_000_000_000, 1),
        mtime: (1_234_567_890, 123_456_789),
        xattrs: vec![
            (b"user.colour".to_vec(), b"blue\0and more".to_vec()),
            (b"user.empty".to_vec(), vec![]),
        ],
        cleared: 0,
        unread: None,
    };
    assert_eq!(got, want);
    assert_eq!((outcome.cleared, outcome.unread), (0, None));

    let (target, applied) = apply_new(at, "target", &outcome, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(mode_of(&target), 0o640);
    assert_eq!(ids_of(&target), (1234, 5678));
    let times = [(1_000_000_000, 1), (1_234_567_890, 123_456_789)];
    assert_eq!(times_of(&target), times);
    assert_eq!(xattr(&target, "user.colour").unwrap(), b"blue\0and more");
    assert_eq!(xattr(&target, "user.empty").unwrap(), b"");
    assert_eq!(xattr(&target, "system.posix_acl_access"), None);
}
