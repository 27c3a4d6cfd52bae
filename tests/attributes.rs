//! Metadata from source to target on real file systems, checked with other tools' eyes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are not tests to the lint"
)]

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use inhaul::beneath::{open_root, open_source};
use inhaul::scan::Attributes;
use inhaul::target::attributes::{
    Applied, Loss, Policy, ReadOutcome, apply, apply_special, apply_symlink, can_chown, from_stat,
    read,
};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, XattrFlags, getxattr,
    makedev, mkfifoat, mknodat, open, removexattr, setxattr, statx, utimensat,
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

fn read_file(path: &Path, policy: Policy) -> ReadOutcome {
    let parent = open_root(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    let source = open_source(parent.as_fd(), name, false).unwrap();
    read(source.file.as_fd(), &source.stat, &policy, false)
}

fn open_directory(path: &Path) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn read_dir(path: &Path, policy: Policy) -> ReadOutcome {
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

fn setfacl(path: &Path, acl: &str) {
    let status = Command::new("setfacl").args(["-m", acl]).arg(path).status();
    assert!(status.unwrap().success());
}

fn getfacl(path: &Path) -> String {
    let mut command = Command::new("getfacl");
    command.args(["-n", "--omit-header", "--absolute-names"]);
    let output = command.arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
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
        ("modes", every_mode_arrives),
        ("set-id", set_id_bits_go_by_policy_and_outlive_the_chown),
        (
            "capabilities",
            capabilities_go_by_policy_and_outlive_the_chown,
        ),
        ("acl", acls_arrive_and_the_mode_leaves_them_alone),
        ("inherited", an_inherited_acl_does_not_stay),
        ("foreign", names_that_belong_to_the_system_stay_behind),
        ("many", long_lists_of_names_are_read_whole),
        ("times", times_keep_nanoseconds_and_signs),
        ("symlinks", symlinks_keep_owner_and_times),
        ("specials", special_files_keep_everything_but_contents),
        ("kinds", an_unexpected_kind_is_left_alone),
        ("owner", without_the_right_to_chown_privileges_stay_behind),
    ];
    for (name, check) in checks {
        eprintln!("{kind}: {name}");
        check(&dir(&mounted.path(), name, 0o755));
    }
    large_values(kind, &dir(&mounted.path(), "large", 0o755));
}

fn a_file_arrives_with_everything(at: &Path) {
    let source = file(at, "source", 0o640);
    set_xattr(&source, "user.colour", b"blue\0and more");
    set_xattr(&source, "user.empty", b"");
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_times(&source, (1_000_000_000, 1), (1_234_567_890, 123_456_789));

    let outcome = read_file(&source, PLAIN);
    let mut got = outcome.attributes.clone();
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
        is_cut: false,
    };
    assert_eq!(got, want);
    assert_eq!((outcome.cleared, outcome.problem), (0, None));

    let (target, applied) = apply_new(at, "target", &outcome.attributes, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(mode_of(&target), 0o640);
    assert_eq!(ids_of(&target), (1234, 5678));
    let times = [(1_000_000_000, 1), (1_234_567_890, 123_456_789)];
    assert_eq!(times_of(&target), times);
    assert_eq!(xattr(&target, "user.colour").unwrap(), b"blue\0and more");
    assert_eq!(xattr(&target, "user.empty").unwrap(), b"");
    assert_eq!(xattr(&target, "system.posix_acl_access"), None);
}

fn every_mode_arrives(at: &Path) {
    for mode in [0o000, 0o200, 0o444, 0o755, 0o777, 0o1666] {
        let source = file(at, &format!("source {mode:o}"), mode);
        let outcome = read_file(&source, PLAIN);
        assert_eq!(outcome.cleared, 0);
        let (target, applied) =
            apply_new(at, &format!("target {mode:o}"), &outcome.attributes, PLAIN);
        assert_eq!(applied, clean());
        assert_eq!(mode_of(&target), mode);
    }
    // Sticky and setgid stay on directories whatever the policy.
    for mode in [0o000, 0o700, 0o1777, 0o2775] {
        let source = dir(at, &format!("source dir {mode:o}"), mode);
        chown(&source, Some(1234), Some(5678)).unwrap();
        let outcome = read_dir(&source, PLAIN);
        assert_eq!((outcome.attributes.mode, outcome.cleared), (mode, 0));
        let target = dir(at, &format!("target dir {mode:o}"), 0o700);
        let fd = open_directory(&target);
        assert_eq!(apply(fd.as_fd(), &outcome.attributes, &PLAIN), clean());
        assert_eq!((mode_of(&target), ids_of(&target)), (mode, (1234, 5678)));
    }
}

fn set_id_bits_go_by_policy_and_outlive_the_chown(at: &Path) {
    let source = file(at, "source", 0o755);
    chown(&source, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&source, Permissions::from_mode(0o6755)).unwrap();

    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.attributes.mode, outcome.cleared), (0o755, 2));

    let outcome = read_file(&source, ALL);
    assert_eq!((outcome.attributes.mode, outcome.cleared), (0o6755, 0));
    let (kept, applied) = apply_new(at, "kept", &outcome.attributes, ALL);
    assert_eq!(applied, clean());
    assert_eq!((mode_of(&kept), ids_of(&kept)), (0o6755, (1234, 5678)));

    // Attributes read under a laxer policy do not slip through.
    let (strict, applied) = apply_new(at, "strict", &outcome.attributes, PLAIN);
    assert_eq!((applied.cleared, mode_of(&strict)), (2, 0o755));
}

fn capabilities_go_by_policy_and_outlive_the_chown(at: &Path) {
    let source = file(at, "source", 0o755);
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_xattr(&source, "security.capability", &NET_RAW);

    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.attributes.xattrs, outcome.cleared), (vec![], 1));

    let outcome = read_file(&source, ALL);
    let held = vec![(b"security.capability".to_vec(), NET_RAW.to_vec())];
    assert_eq!((&outcome.attributes.xattrs, outcome.cleared), (&held, 0));
    let (kept, applied) = apply_new(at, "kept", &outcome.attributes, ALL);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&kept, "security.capability").unwrap(), NET_RAW);
    assert_eq!(ids_of(&kept), (1234, 5678));
    let shown = Command::new("getcap").arg(&kept).output().unwrap().stdout;
    assert!(shown.ends_with(b" cap_net_raw=ep\n"), "{shown:?}");

    let (strict, applied) = apply_new(at, "strict", &outcome.attributes, PLAIN);
    assert_eq!(applied.cleared, 1);
    assert_eq!(xattr(&strict, "security.capability"), None);
}

fn acls_arrive_and_the_mode_leaves_them_alone(at: &Path) {
    let source = file(at, "source", 0o640);
    setfacl(&source, "u:1001:rwx,g:1002:rx,g::-,m::rx,o::-");
    let want = "user::rw-\nuser:1001:rwx\t#effective:r-x\ngroup::---\ngroup:1002:r-x\n\
                mask::r-x\nother::---\n\n";
    assert_eq!(getfacl(&source), want);
    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.attributes.mode, outcome.problem), (0o650, None));
    let (target, applied) = apply_new(at, "target", &outcome.attributes, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(getfacl(&target), want);
    assert_eq!(mode_of(&target), 0o650);

    let source = dir(at, "source dir", 0o2750);
    setfacl(&source, "u:1001:rwx,m::rwx,d:u:1003:rx,d:g::r,d:o::-");
    let want = "user::rwx\nuser:1001:rwx\ngroup::r-x\nmask::rwx\nother::---\n\
                default:user::rwx\ndefault:user:1003:r-x\ndefault:group::r--\n\
                default:mask::r-x\ndefault:other::---\n\n";
    assert_eq!(getfacl(&source), want);
    let outcome = read_dir(&source, PLAIN);
    let target = dir(at, "target dir", 0o700);
    let fd = open_directory(&target);
    assert_eq!(apply(fd.as_fd(), &outcome.attributes, &PLAIN), clean());
    assert_eq!(getfacl(&target), want);
    assert_eq!(mode_of(&target), 0o2770);
}

fn an_inherited_acl_does_not_stay(at: &Path) {
    let wanted = read_file(&file(at, "source", 0o664), PLAIN).attributes;
    let wanted_dir = read_dir(&dir(at, "source dir", 0o775), PLAIN).attributes;
    let parent = dir(at, "parent", 0o755);
    setfacl(&parent, "d:u:1001:rwx");

    let (target, applied) = apply_new(&parent, "target", &wanted, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(getfacl(&target), "user::rw-\ngroup::rw-\nother::r--\n\n");

    // Nor when the source's own ACL is refused: here one that does not parse.
    let broken = Attributes {
        xattrs: vec![(b"system.posix_acl_access".to_vec(), vec![9; 12])],
        ..wanted
    };
    let (target, applied) = apply_new(&parent, "refused", &broken, PLAIN);
    assert_eq!(applied.losses.len(), 1);
    assert_eq!(getfacl(&target), "user::rw-\ngroup::---\nother::r--\n\n");

    let target = dir(&parent, "target dir", 0o700);
    assert!(getfacl(&target).contains("default:user:1001:rwx"));
    let fd = open_directory(&target);
    assert_eq!(apply(fd.as_fd(), &wanted_dir, &PLAIN), clean());
    assert_eq!(getfacl(&target), "user::rwx\ngroup::rwx\nother::r-x\n\n");
}

fn names_that_belong_to_the_system_stay_behind(at: &Path) {
    let source = file(at, "source", 0o600);
    set_xattr(&source, "trusted.overlay.opaque", b"y");
    set_xattr(&source, "security.ours", b"label");
    set_xattr(&source, "user.kept", b"1");
    let outcome = read_file(&source, ALL);
    let kept = vec![(b"user.kept".to_vec(), b"1".to_vec())];
    assert_eq!(outcome.attributes.xattrs, kept);
    assert_eq!((outcome.cleared, outcome.problem), (0, None));

    let mut forged = outcome.attributes;
    let foreign = (b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    forged.xattrs.push(foreign);
    let (target, applied) = apply_new(at, "target", &forged, ALL);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&target, "trusted.overlay.opaque"), None);
    assert_eq!(xattr(&target, "user.kept").unwrap(), b"1");
}

fn long_lists_of_names_are_read_whole(at: &Path) {
    // Six names of 250 bytes: more than the first buffer.
    let source = file(at, "source", 0o600);
    let names: Vec<String> = (0..6)
        .map(|n| format!("user.{n}{}", "n".repeat(244)))
        .collect();
    for name in &names {
        set_xattr(&source, name, &name.as_bytes()[5..6]);
    }
    let outcome = read_file(&source, PLAIN);
    assert_eq!(
        (outcome.attributes.xattrs.len(), outcome.problem),
        (6, None)
    );
    let (target, applied) = apply_new(at, "target", &outcome.attributes, PLAIN);
    assert_eq!(applied, clean());
    for (name, value) in names.iter().zip(["0", "1", "2", "3", "4", "5"]) {
        assert_eq!(xattr(&target, name).unwrap(), value.as_bytes());
    }
}

/// XFS and tmpfs take values of 60 kB; ext4 stops at a block, btrfs at a leaf of 16 KiB.
fn large_values(kind: &str, at: &Path) {
    let source = file(at, "source", 0o600);
    let size = match kind {
        "ext4" => 3000,
        "btrfs" => 15_000,
        _ => 60_000,
    };
    let value: Vec<u8> = (0..=250).cycle().take(size).collect();
    set_xattr(&source, "user.large", &value);
    let outcome = read_file(&source, PLAIN);
    let held = vec![(b"user.large".to_vec(), value.clone())];
    assert_eq!((&outcome.attributes.xattrs, outcome.problem), (&held, None));
    let (target, applied) = apply_new(at, "target", &outcome.attributes, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&target, "user.large").unwrap(), value);

    // What does not fit is a loss; all the rest arrives.
    if matches!(kind, "ext4" | "btrfs") {
        let mut wanted = outcome.attributes;
        wanted.mode = 0o640;
        wanted.mtime = (5, 6);
        wanted.xattrs = vec![
            (b"user.too\nlarge".to_vec(), vec![7; 60_000]),
            (b"user.small".to_vec(), b"1".to_vec()),
        ];
        let (target, applied) = apply_new(at, "partly", &wanted, PLAIN);
        let lost = vec![loss("xattr user.too\\nlarge", Errno::NOSPC)];
        assert_eq!((applied.owner_kept, applied.losses), (true, lost));
        assert_eq!(xattr(&target, "user.small").unwrap(), b"1");
        assert_eq!((mode_of(&target), times_of(&target)[1]), (0o640, (5, 6)));
    }
}

fn times_keep_nanoseconds_and_signs(at: &Path) {
    for (n, (atime, mtime)) in [
        ((0, 0), (0, 999_999_999)),
        ((-1, 1), (-1, 999_999_999)),
        ((-86_400 * 365, 5), (-1_000_000_000, 42)),
        ((4_102_444_800, 7), (4_102_444_800, 8)),
    ]
    .into_iter()
    .enumerate()
    {
        let source = file(at, &format!("source {n}"), 0o600);
        set_times(&source, atime, mtime);
        assert_eq!(times_of(&source), [atime, mtime]);
        let wanted = read_file(&source, PLAIN).attributes;
        let (target, applied) = apply_new(at, &format!("target {n}"), &wanted, PLAIN);
        assert_eq!(applied, clean());
        assert_eq!(times_of(&target), [atime, mtime]);
    }
    // UTIME_NOW, from a record rather than a file system: not an order to be carried out.
    let wanted = Attributes {
        mtime: (0, 0x3fff_ffff),
        ..Attributes::default()
    };
    let (_, applied) = apply_new(at, "forged", &wanted, PLAIN);
    assert_eq!(applied.losses, [loss("times", Errno::INVAL)]);
}

fn symlinks_keep_owner_and_times(at: &Path) {
    let pointed_to = file(at, "pointed to", 0o600);
    set_times(&pointed_to, (1, 1), (2, 2));
    let source = at.join("source");
    symlink("pointed to", &source).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        &source,
        Some(rustix::fs::Uid::from_raw(1234)),
        Some(rustix::fs::Gid::from_raw(5678)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    set_times(&source, (10, 11), (-12, 13));
    let held = open(&source, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let wanted = from_stat(&stat(&held));
    let outcome = read(held.as_fd(), &stat(&held), &PLAIN, false);
    assert_eq!((&outcome.attributes, outcome.problem), (&wanted, None));

    symlink("pointed to", at.join("target")).unwrap();
    let parent = open_root(at).unwrap();
    let applied = apply_symlink(parent.as_fd(), b"target", &wanted, &PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(ids_of(&at.join("target")), (1234, 5678));
    assert_eq!(times_of(&at.join("target")), [(10, 11), (-12, 13)]);
    assert_eq!(ids_of(&pointed_to), (0, 0));
    assert_eq!(times_of(&pointed_to), [(1, 1), (2, 2)]);
    assert_eq!(mode_of(&pointed_to), 0o600);
}

fn special_files_keep_everything_but_contents(at: &Path) {
    let parent = open_root(at).unwrap();
    let private = Mode::from_raw_mode(0o600);
    let source = at.join("source");
    mkfifoat(&parent, "source", private).unwrap();
    setfacl(&source, "u:1001:rw,g::r,m::rw");
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_times(&source, (10, 11), (-12, 13));
    let held = open(&source, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let outcome = read(held.as_fd(), &stat(&held), &PLAIN, false);
    assert_eq!((outcome.attributes.mode, outcome.problem), (0o660, None));

    mkfifoat(&parent, "fifo", private).unwrap();
    let null = makedev(1, 3);
    mknodat(&parent, "device", FileType::CharacterDevice, private, null).unwrap();
    for name in ["fifo", "device"] {
        let target = at.join(name);
        let applied = apply_special(parent.as_fd(), name.as_bytes(), &outcome.attributes, &PLAIN);
        assert_eq!(applied, clean(), "{name}");
        let acl = "user::rw-\nuser:1001:rw-\ngroup::r--\nmask::rw-\nother::---\n\n";
        assert_eq!(getfacl(&target), acl, "{name}");
        assert_eq!((mode_of(&target), ids_of(&target)), (0o660, (1234, 5678)));
        assert_eq!(times_of(&target), [(10, 11), (-12, 13)], "{name}");
    }
}

fn an_unexpected_kind_is_left_alone(at: &Path) {
    let wanted = Attributes {
        mode: 0o777,
        uid: 1234,
        ..Attributes::default()
    };
    let untouched = file(at, "file", 0o600);
    symlink("file", at.join("link")).unwrap();
    let parent = open_root(at).unwrap();
    let refused = Applied {
        losses: vec![loss("attributes", Errno::INVAL)],
        ..Applied::default()
    };
    for name in [&b"file"[..], b"link/..", b"..", b""] {
        assert_eq!(apply_symlink(parent.as_fd(), name, &wanted, &ALL), refused);
        assert_eq!(apply_special(parent.as_fd(), name, &wanted, &ALL), refused);
    }
    assert_eq!(
        apply_special(parent.as_fd(), b"link", &wanted, &ALL),
        refused
    );
    let held = open(
        at.join("link"),
        OFlags::PATH | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .unwrap();
    assert_eq!(apply(held.as_fd(), &wanted, &ALL), refused);
    assert_eq!((mode_of(&untouched), ids_of(&untouched)), (0o600, (0, 0)));
    assert_eq!(ids_of(&at.join("link")), (0, 0));
}

fn without_the_right_to_chown_privileges_stay_behind(at: &Path) {
    let policy = Policy {
        owner: false,
        ..ALL
    };
    let wanted = Attributes {
        mode: 0o6751,
        uid: 1234,
        gid: 0,
        xattrs: vec![(b"security.capability".to_vec(), NET_RAW.to_vec())],
        ..Attributes::default()
    };
    let (target, applied) = apply_new(at, "other owner", &wanted, policy);
    let want = Applied {
        owner_kept: false,
        cleared: 3,
        losses: vec![],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o751, (0, 0)));
    assert_eq!(xattr(&target, "security.capability"), None);

    let own = Attributes { uid: 0, ..wanted };
    let (target, applied) = apply_new(at, "own", &own, policy);
    assert_eq!(applied, clean());
    assert_eq!(mode_of(&target), 0o6751);
    assert_eq!(xattr(&target, "security.capability").unwrap(), NET_RAW);
}

#[test]
fn an_acl_that_cannot_be_set_does_not_open_the_file_to_its_group() {
    let (Some(with), Some(without)) = (Mounted::new("tmpfs"), Mounted::new("ramfs")) else {
        return;
    };
    // The group has nothing; the mask, which the mode shows, has everything.
    let source = file(&with.path(), "source", 0o600);
    setfacl(&source, "u:1001:rwx,g::-,m::rwx");
    set_xattr(&source, "user.colour", b"blue");
    let wanted = read_file(&source, PLAIN).attributes;
    assert_eq!(wanted.mode, 0o670);
    let (target, applied) = apply_new(&without.path(), "target", &wanted, PLAIN);
    assert_eq!(mode_of(&target), 0o600);
    let lost = [
        loss("xattr user.colour", Errno::OPNOTSUPP),
        loss("xattr system.posix_acl_access", Errno::OPNOTSUPP),
    ];
    assert_eq!((applied.owner_kept, &applied.losses[..]), (true, &lost[..]));

    // A source without extended attributes is no problem.
    let outcome = read_file(&target, PLAIN);
    assert_eq!((outcome.attributes.xattrs, outcome.problem), (vec![], None));
}

#[test]
fn an_attribute_that_changes_size_meanwhile_is_read_as_one_or_the_other() {
    let Some(mounted) = Mounted::new("tmpfs") else {
        return;
    };
    let source = file(&mounted.path(), "source", 0o600);
    let values = [vec![1; 10], vec![2; 3000]];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for value in &values {
                    set_xattr(&source, "user.flip", value);
                }
                removexattr(&source, "user.flip").unwrap();
            }
        });
        let wrong = (0..5000).find_map(|_| {
            let outcome = read_file(&source, PLAIN);
            let fine = outcome.problem.is_none()
                && outcome
                    .attributes
                    .xattrs
                    .iter()
                    .all(|(_, value)| values.contains(value));
            (!fine).then_some(outcome)
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
}

/// Runs itself again as uid 65534 with the extra group 4242.
#[test]
fn an_ordinary_user_loses_owners_but_neither_order_nor_contents() {
    const SCRATCH: &str = "INHAUL_TEST_UNPRIVILEGED";
    if let Some(scratch) = std::env::var_os(SCRATCH) {
        return as_an_ordinary_user(Path::new(&scratch));
    }
    if !can_chown() {
        eprintln!("SKIPPED: cannot become another user (needs root)");
        return;
    }
    let top = tempfile::tempdir().unwrap();
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    let scratch = dir(top.path(), "scratch", 0o700);
    chown(&scratch, Some(65534), Some(65534)).unwrap();
    // Where this program was built may be closed to others.
    let program = top.path().join("program");
    let mut cp = Command::new("cp");
    cp.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(cp.status().unwrap().success());
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--groups", "4242"])
        .arg(&program)
        .args(["--exact", "--nocapture"])
        .arg("an_ordinary_user_loses_owners_but_neither_order_nor_contents")
        .env(SCRATCH, &scratch)
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no setpriv");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
    assert!(complained.contains("ordinary user: done"), "{complained}");
}

fn as_an_ordinary_user(at: &Path) {
    assert!(!can_chown());
    let policy = Policy {
        setid: true,
        caps: true,
        owner: can_chown(),
    };
    // Read-only at the end: the attribute must be set while the copy is still writable.
    let wanted = Attributes {
        mode: 0o6555,
        uid: 0,
        gid: 4242,
        mtime: (-3, 4),
        atime: (1, 2),
        xattrs: vec![
            (b"user.colour".to_vec(), b"blue".to_vec()),
            (b"security.capability".to_vec(), NET_RAW.to_vec()),
        ],
        is_cut: false,
    };
    let (target, applied) = apply_new(at, "of root", &wanted, policy);
    let want = Applied {
        owner_kept: false,
        cleared: 3,
        losses: vec![],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o555, (65534, 4242)));
    assert_eq!(times_of(&target), [(1, 2), (-3, 4)]);
    assert_eq!(xattr(&target, "user.colour").unwrap(), b"blue");

    let not_ours = Attributes {
        gid: 7777,
        ..wanted.clone()
    };
    let (target, applied) = apply_new(at, "of others", &not_ours, policy);
    assert_eq!(applied, want);
    assert_eq!(ids_of(&target), (65534, 65534));

    let own = Attributes {
        uid: 65534,
        ..wanted
    };
    let (target, applied) = apply_new(at, "own", &own, policy);
    let want = Applied {
        owner_kept: true,
        cleared: 0,
        losses: vec![loss("xattr security.capability", Errno::PERM)],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o6555, (65534, 4242)));

    // Someone else's file: access times cannot be left alone, and that is no reason to fail.
    let open_to_all = open_root(Path::new("/etc")).unwrap();
    let source = open_source(open_to_all.as_fd(), b"passwd", false).unwrap();
    let flags = rustix::fs::fcntl_getfl(&source.file).unwrap();
    assert!(!flags.contains(OFlags::NOATIME));
    eprintln!("ordinary user: done");
}
