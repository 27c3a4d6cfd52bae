//! What a walk yields: everything once, as it is, in its order.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use inhaul::error::ErrorKind;
use inhaul::scan::{Entry, Kind, Order, walk};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::scan_support::{Record, Setup, make_file, skip, tree};

#[test]
fn everything_is_yielded_once_and_directories_first() {
    let top = TempDir::new().unwrap();
    make_file(top.path(), "a", b"1");
    make_file(top.path(), "d/b", b"22");
    make_file(top.path(), "d/e/c", b"");
    make_file(top.path(), ".inhaul/x", b"not special here");
    std::fs::create_dir(top.path().join("empty")).unwrap();
    let record = Setup::default().walk(top.path());
    assert_eq!(record.paths(), [".inhaul/x", "a", "d/b", "d/e/c"]);
    assert_eq!(record.dir_paths(), ["", ".inhaul", "d", "d/e", "empty"]);
    assert!(record.problems.is_empty() && record.skipped.is_empty());
    let sizes: Vec<_> = record.entries.iter().map(|e| e.stamp.size).collect();
    assert_eq!(sizes.iter().sum::<u64>(), 1 + 2 + 16);
}

#[test]
fn names_are_kept_byte_for_byte() {
    let top = TempDir::new().unwrap();
    let names: [&[u8]; 7] = [
        b"line\nbreak",
        b"\x1b[2J",
        b"\xff\xfe",
        b"-rf",
        b"*",
        b"space ",
        &[b'n'; 255],
    ];
    for name in names {
        let path = top.path().join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(std::ffi::OsStr::from_bytes(name)), b"x").unwrap();
    }
    let record = Setup::default().walk(top.path());
    let met: HashSet<_> = record.entries.iter().map(Entry::source_path).collect();
    let want: HashSet<_> = names.iter().map(|name| [name, *name].join(&b'/')).collect();
    assert_eq!(met, want);
}

#[test]
fn every_kind_is_yielded_and_no_link_is_followed() {
    let top = TempDir::new().unwrap();
    let root = top.path();
    make_file(root, "d/inside", b"x");
    symlink("d", root.join("to-dir")).unwrap();
    symlink("..", root.join("d/up")).unwrap();
    symlink("two", root.join("one")).unwrap();
    symlink("one", root.join("two")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let has_device = mknodat(
        CWD,
        root.join("null"),
        FileType::CharacterDevice,
        Mode::RUSR,
        device,
    )
    .is_ok();
    if !has_device {
        skip("device nodes need root");
    }
    let record = Setup::default().walk(root);
    assert_eq!(record.dir_paths(), ["", "d"]);
    for link in ["to-dir", "d/up", "one", "two", "dangling"] {
        assert_eq!(record.kind_of(link), Some(Kind::Symlink), "{link}");
    }
    assert_eq!(record.kind_of("socket"), Some(Kind::Socket));
    assert_eq!(record.kind_of("fifo"), Some(Kind::Fifo));
    assert_eq!(record.kind_of("d/inside"), Some(Kind::File));
    if has_device {
        assert_eq!(record.kind_of("null"), Some(Kind::CharDevice));
    }
    assert!(record.problems.is_empty());
}

#[test]
fn a_source_that_is_a_file_yields_that_file() {
    let top = TempDir::new().unwrap();
    make_file(top.path(), "this", b"123");
    make_file(top.path(), "other", b"x");
    std::fs::create_dir(top.path().join("dir")).unwrap();
    let setup = Setup::default();
    for (name, files, problem) in [
        (&b"this"[..], vec!["this"], None),
        (b"gone", vec![], Some(ErrorKind::SourceVanished)),
        (b"dir", vec![], Some(ErrorKind::SourceChanged)),
        (b"../this", vec![], Some(ErrorKind::SourceRead)),
    ] {
        let (tree, _finished) = tree(top.path(), Some(name));
        let mut record = Record::default();
        walk(&tree, &setup.options(), &mut record);
        assert_eq!(record.paths(), files);
        assert!(record.dirs.is_empty());
        assert_eq!(record.problems.first().map(|problem| problem.0), problem);
        assert!(record.problems.iter().all(|problem| problem.1 == "/SOURCE"));
    }
}

#[test]
fn empty_files_and_links_go_first() {
    let top = TempDir::new().unwrap();
    for n in 0..10 {
        let full = format!("full{n}");
        make_file(top.path(), &full, b"x");
        make_file(top.path(), &format!("empty{n}"), b"");
        // Until it is written, a file has no place on the medium.
        let full = std::fs::File::open(top.path().join(full)).unwrap();
        full.sync_all().unwrap();
    }
    symlink("full0", top.path().join("link")).unwrap();
    for order in [Order::Inode, Order::Physical] {
        let setup = Setup {
            order,
            ..Setup::default()
        };
        let entries = setup.walk(top.path()).entries;
        assert!(entries.is_sorted_by_key(|entry| entry.position));
        let (first, rest) = entries.split_at(11);
        assert!(
            first
                .iter()
                .all(|e| e.position == 0 && !e.name.starts_with(b"full"))
        );
        assert!(rest.iter().all(|e| e.name.starts_with(b"full")));
        if order == Order::Inode {
            assert!(rest.iter().all(|e| e.position == e.stamp.ino));
        }
    }
}
