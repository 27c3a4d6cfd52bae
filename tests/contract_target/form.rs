//! Bytes, length, space and attributes of what is published.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use inhaul::scan::{Attributes, Kind};
use inhaul::target::Outline;

use super::ports::looking;
use super::ports::target::{
    allocated, mtime, open, plain, publish, seal, small, stager, write_at, write_small,
};
use super::ports::{Place, painted};

pub(crate) fn sizes_are_exact(place: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    for size in [
        0,
        1,
        4095,
        4096,
        4097,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
    ] {
        let (name, bytes) = (format!("large-{size}"), painted(size as u64, size));
        let outline = Outline {
            size: size as u64,
            sparse: false,
            small: false,
        };
        let staged = stager.stage(name.as_bytes(), outline).unwrap();
        let direct = place.fs.is_direct();
        assert_eq!(staged.geometry.align, if direct { 4096 } else { 1 });
        assert_eq!(
            staged.geometry.cached, !direct,
            "large files in the cache need write-back"
        );
        write_at(&staged, 0, &bytes);
        let sealed = seal(stager.as_mut(), staged, size, &name, false);
        let name_of_small = format!("small-{size}");
        let other = small(stager.as_mut(), &name_of_small, &bytes, false);
        publish(&target, &[sealed, other]);
        for name in [name, name_of_small] {
            assert!(std::fs::read(dir.join(&name)).unwrap() == bytes, "{name}");
        }
    }
}

pub(crate) fn space_is_set_aside(place: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    let outline = Outline {
        size: 3_000_001,
        sparse: false,
        small: false,
    };
    let staged = stager.stage(b"large", outline).unwrap();
    let file = staged.file.as_ref().unwrap();
    if place.fs.is_direct() {
        assert!(allocated(file) >= 3_000_001);
        assert_eq!(
            rustix::fs::fstat(file).unwrap().st_size,
            3_002_368,
            "the tail has room too"
        );
    }
    stager.discard(staged);
}

pub(crate) fn holes_stay_holes(_: &Place, dir: &Path) {
    let (size, target) = ((40 << 20) + 5, open(dir));
    let mut stager = stager(&target);
    let outline = Outline {
        size,
        sparse: true,
        small: false,
    };
    let staged = stager.stage(b"sparse", outline).unwrap();
    let bytes = painted(9, 4096);
    write_at(&staged, 8 << 20, &bytes);
    write_at(&staged, 40 << 20, &bytes[..5]);
    let size = usize::try_from(size).unwrap();
    publish(
        &target,
        &[seal(stager.as_mut(), staged, size, "sparse", false)],
    );
    let file = std::fs::File::open(dir.join("sparse")).unwrap();
    assert!(allocated(&file) <= 256 << 10, "{}", allocated(&file));
    let mut wanted = vec![0; size];
    wanted[8 << 20..][..4096].copy_from_slice(&bytes);
    wanted[40 << 20..].copy_from_slice(&bytes[..5]);
    assert!(std::fs::read(dir.join("sparse")).unwrap() == wanted);
}

pub(crate) fn attributes_are_the_sources(_: &Place, dir: &Path) {
    // user::rw-, user:1000:rwx, group::r--, mask::rwx, other::---
    let acl = [
        &[
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0xe8, 3, 0, 0,
        ][..],
        &[
            4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255,
        ],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let wanted = Attributes {
        mode: 0o4670,
        uid: 1234,
        gid: 4321,
        atime: (-5, 999_999_999),
        mtime: (-86_400 * 365, 1),
        xattrs: vec![
            (b"user.colour".to_vec(), b"a\0b\xff".to_vec()),
            (b"system.posix_acl_access".to_vec(), acl.clone()),
        ],
        cleared: 0,
        unread: None,
    };
    let target = open(dir);
    let mut stager = stager(&target);
    let bytes = painted(4, 10_000);
    let outline = Outline {
        size: 10_000,
        sparse: false,
        small: false,
    };
    let staged = [
        write_small(stager.as_mut(), "small", &bytes),
        stager.stage(b"large", outline).unwrap(),
    ];
    write_at(&staged[1], 0, &bytes);
    let mut batch = Vec::new();
    for (staged, name) in staged.into_iter().zip(["small", "large"]) {
        let sealed = stager.seal(staged, 10_000, name.into(), false, &wanted);
        let (sealed, applied) = sealed.unwrap();
        assert!(applied.owner_kept && applied.losses.is_empty() && applied.cleared == 0);
        batch.push(sealed);
    }
    publish(&target, &batch);
    for name in ["small", "large"] {
        let meta = std::fs::metadata(dir.join(name)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (1234, 4321, 0o4670)
        );
        assert_eq!(mtime(&meta), wanted.mtime);
        assert_eq!((meta.atime(), meta.atime_nsec()), (-5, 999_999_999));
        let node = &looking::tree(dir)[name.as_bytes()];
        let mut xattrs = wanted.xattrs.clone();
        xattrs.sort();
        assert_eq!(node.xattrs, xattrs);
    }
}

pub(crate) fn symlinks_and_special_files(_: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    let wanted = Attributes {
        uid: 1234,
        gid: 4321,
        ..plain(0o620)
    };
    let text = b"../no where\n\xff";
    let mut batch = vec![
        stager
            .symlink(text, b"link".to_vec(), false, &wanted)
            .unwrap()
            .0,
    ];
    let kinds = [
        (Kind::Fifo, "fifo", 0),
        (Kind::Socket, "socket", 0),
        (Kind::CharDevice, "char", rustix::fs::makedev(1, 3)),
        (Kind::BlockDevice, "block", rustix::fs::makedev(7, 200)),
    ];
    for (kind, name, rdev) in kinds {
        let made = stager.special(kind, rdev, name.into(), false, &wanted);
        let (sealed, applied) = made.unwrap();
        assert!(applied.owner_kept && applied.losses.is_empty());
        batch.push(sealed);
    }
    assert!(
        stager
            .special(Kind::File, 0, b"file".to_vec(), false, &wanted)
            .is_err()
    );
    publish(&target, &batch);
    assert_eq!(
        std::fs::read_link(dir.join("link"))
            .unwrap()
            .as_os_str()
            .as_bytes(),
        text
    );
    for name in ["link", "fifo", "socket", "char", "block"] {
        let meta = std::fs::symlink_metadata(dir.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321), "{name}");
        assert_eq!(mtime(&meta), wanted.mtime, "{name}");
        let kind = meta.file_type();
        let is = match name {
            "link" => kind.is_symlink(),
            "fifo" => kind.is_fifo(),
            "socket" => kind.is_socket(),
            "char" => kind.is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3),
            _ => kind.is_block_device() && meta.rdev() == rustix::fs::makedev(7, 200),
        };
        assert!(
            is && (name == "link" || meta.mode() & 0o7777 == 0o620),
            "{name}"
        );
    }
}
