//! What is no plain file: symbolic links, special files, and what is not what was expected.

use std::os::fd::AsFd;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use inhaul::beneath::open_root;
use inhaul::scan::Attributes;
use inhaul::target::attributes::{Applied, apply, apply_special, apply_symlink, from_stat, read};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev, mkfifoat, mknodat, open};
use rustix::io::Errno;

use crate::acls::{getfacl, setfacl};
use crate::{ALL, PLAIN, clean, file, ids_of, loss, mode_of, set_times, stat, times_of};

pub(crate) fn symlinks_keep_owner_and_times(at: &Path) {
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
    assert_eq!((&outcome, outcome.unread), (&wanted, None));

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

pub(crate) fn special_files_keep_everything_but_contents(at: &Path) {
    let parent = open_root(at).unwrap();
    let private = Mode::from_raw_mode(0o600);
    let source = at.join("source");
    mkfifoat(&parent, "source", private).unwrap();
    setfacl(&source, "u:1001:rw,g::r,m::rw");
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_times(&source, (10, 11), (-12, 13));
    let held = open(&source, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let outcome = read(held.as_fd(), &stat(&held), &PLAIN, false);
    assert_eq!((outcome.mode, outcome.unread), (0o660, None));

    mkfifoat(&parent, "fifo", private).unwrap();
    let null = makedev(1, 3);
    mknodat(&parent, "device", FileType::CharacterDevice, private, null).unwrap();
    for name in ["fifo", "device"] {
        let target = at.join(name);
        let applied = apply_special(parent.as_fd(), name.as_bytes(), &outcome, &PLAIN);
        assert_eq!(applied, clean(), "{name}");
        let acl = "user::rw-\nuser:1001:rw-\ngroup::r--\nmask::rw-\nother::---\n\n";
        assert_eq!(getfacl(&target), acl, "{name}");
        assert_eq!((mode_of(&target), ids_of(&target)), (0o660, (1234, 5678)));
        assert_eq!(times_of(&target), [(10, 11), (-12, 13)], "{name}");
    }
}

pub(crate) fn an_unexpected_kind_is_left_alone(at: &Path) {
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
