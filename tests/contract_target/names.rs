//! What is visible under a name, when, and for how long (clauses 1 to 3).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use inhaul::error::ErrorKind;
use inhaul::scan::Kind;
use inhaul::target::{Sealed, Target, Vacancy};

use super::ports::looking::{self, files, paths, staged};
use super::ports::target::{
    large, mtime, open, plain, planted, publish, seal, small, stager, write_small,
};
use super::ports::{Fs, Place, painted};

pub(crate) fn nothing_visible_before_publish(_: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    let stager = stager.as_mut();
    let bytes = painted(1, 70_000);
    let staged = write_small(stager, "small", &bytes);
    assert!(files(dir).is_empty(), "while it takes bytes");
    let batch = [
        seal(stager, staged, bytes.len(), "small", false),
        large(stager, "large", &bytes, false),
        stager
            .symlink(b"text", b"link".to_vec(), false, &plain(0))
            .unwrap()
            .0,
        stager
            .special(Kind::Fifo, 0, b"fifo".to_vec(), false, &plain(0o600))
            .unwrap()
            .0,
    ];
    assert_eq!(paths(dir), [b""; 1], "sealed, not published");
    publish(&target, &batch);
    assert_eq!(paths(dir), [&b""[..], b"fifo", b"large", b"link", b"small"]);
    assert_eq!(std::fs::read(dir.join("small")).unwrap(), bytes);
    target.close(false).unwrap();
}

pub(crate) fn one_answer_each_in_order(_: &Place, dir: &Path) {
    std::fs::write(dir.join("taken"), b"old").unwrap();
    planted(dir, "folder");
    let target = open(dir);
    let mut stager = stager(&target);
    let stager = stager.as_mut();
    let batch = [
        small(stager, "one", b"1", false),
        small(stager, "taken", b"2", false),
        small(stager, "three", b"3", false),
        Sealed::link(b"no-such".to_vec(), b"four".to_vec(), false, None),
        small(stager, "folder", b"5", true),
        Sealed::link(b"one".to_vec(), b"six".to_vec(), false, None),
        small(stager, "one", b"7", false),
    ];
    let answers = target.publish(&batch);
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| {
            answer
                .as_ref()
                .err()
                .map(|error| (error.kind(), error.path().to_owned()))
        })
        .collect();
    let failed = |kind, name: &str| Some((kind, dir.join(name)));
    assert_eq!(
        kinds,
        [
            None,
            failed(ErrorKind::TargetExists, "taken"),
            None,
            failed(ErrorKind::TargetWrite, "four"),
            failed(ErrorKind::TargetExists, "folder"),
            None,
            failed(ErrorKind::TargetExists, "one"),
        ]
    );
    assert_eq!(std::fs::read(dir.join("taken")).unwrap(), b"old");
    assert_eq!(std::fs::read(dir.join("six")).unwrap(), b"1");
    let leftovers = staged(dir)
        .into_iter()
        .filter(|path| dir.join(".inhaul").join(path).is_file());
    assert_eq!(leftovers.count(), 0, "what was refused a name is gone");
    assert!(target.publish(&[]).is_empty());
    target.close(false).unwrap();
}

pub(crate) fn survives_a_power_cut(place: &Place, dir: &Path) {
    if !matches!(place.fs, Fs::Ext4 | Fs::Xfs | Fs::Btrfs) {
        return; // there is no medium below
    }
    let target = open(dir);
    target.make_dir(b"sub").unwrap();
    let mut stager = stager(&target);
    let bytes = painted(3, 3_000_000);
    let batch = [
        large(stager.as_mut(), "sub/large", &bytes, false),
        small(stager.as_mut(), "sub/small", &bytes[..9000], false),
        Sealed::link(b"sub/small".to_vec(), b"sub/link".to_vec(), false, None),
    ];
    publish(&target, &batch);
    // Not published: shows that this power cut does lose what was not synced.
    std::fs::write(dir.join("unsynced"), &bytes).unwrap();
    let cut = place.after_power_cut();
    let kept = cut.path.join(dir.file_name().unwrap());
    assert!(std::fs::read(kept.join("sub/large")).unwrap() == bytes);
    assert!(std::fs::read(kept.join("sub/small")).unwrap() == bytes[..9000]);
    let meta = std::fs::metadata(kept.join("sub/link")).unwrap();
    assert_eq!(mtime(&meta), plain(0).mtime);
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o644, 2));
    assert!(!std::fs::read(kept.join("unsynced")).is_ok_and(|read| read == bytes));
}

pub(crate) fn taken_names_stay(_: &Place, dir: &Path) {
    std::fs::write(dir.join("file"), b"old").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
    std::os::unix::fs::symlink("file", dir.join("pointing")).unwrap();
    planted(dir, "folder");
    let before = looking::tree(dir);
    let target = open(dir);
    let mut stager = stager(&target);
    let stager = stager.as_mut();
    let Vacancy::File(stamp) = stager.vacancy(b"file").unwrap() else {
        panic!("a file is there");
    };
    let meta = std::fs::metadata(dir.join("file")).unwrap();
    assert_eq!(
        (stamp.ino, stamp.size, stamp.mtime),
        (meta.ino(), 3, mtime(&meta))
    );
    assert!(matches!(
        stager.vacancy(b"dangling").unwrap(),
        Vacancy::Symlink(_)
    ));
    assert!(matches!(
        stager.vacancy(b"pointing").unwrap(),
        Vacancy::Symlink(_)
    ));
    assert_eq!(stager.read_link(b"pointing").unwrap(), b"file");
    assert!(stager.read_link(b"file").is_err());
    assert_eq!(stager.vacancy(b"folder").unwrap(), Vacancy::Dir);
    assert_eq!(stager.vacancy(b"free").unwrap(), Vacancy::Free);
    publish(&target, &[small(stager, "other", b"new", false)]);
    for name in ["file", "dangling", "pointing", "folder"] {
        let batch = [
            small(stager, name, b"new", false),
            stager
                .symlink(b"new", name.into(), false, &plain(0))
                .unwrap()
                .0,
            Sealed::link(b"other".to_vec(), name.into(), false, None),
        ];
        for answer in target.publish(&batch) {
            assert_eq!(
                answer.unwrap_err().kind(),
                ErrorKind::TargetExists,
                "{name}"
            );
        }
    }
    std::fs::remove_file(dir.join("other")).unwrap();
    let mut after = looking::tree(dir);
    let root = after.get_mut(&b""[..]).unwrap();
    root.mtime = before[&b""[..]].mtime;
    looking::same(&before, &after);
}

/// Runs `change` while another thread reads `name` over and over; each read must be one of these.
fn watched(dir: &Path, name: &str, wholes: &[Vec<u8>], change: impl FnOnce()) {
    let (done, path) = (AtomicBool::new(false), dir.join(name));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Relaxed) || reads == 0 {
                let read = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(
                    wholes.contains(&read),
                    "{} bytes that never were",
                    read.len()
                );
                reads += 1;
            }
        });
        change();
        done.store(true, Relaxed);
        reader.join().unwrap();
    });
}

pub(crate) fn replacing_is_atomic(_: &Place, dir: &Path) {
    let wholes: Vec<_> = (0..16)
        .map(|seed| painted(seed, 40_000 + 999 * usize::try_from(seed).unwrap()))
        .collect();
    let target = open(dir);
    let mut stager = stager(&target);
    publish(
        &target,
        &[small(stager.as_mut(), "name", &wholes[0], false)],
    );
    watched(dir, "name", &wholes, || {
        for _ in 0..3 {
            let seal = |whole: &Vec<u8>| large(stager.as_mut(), "name", whole, true);
            publish(&target, &wholes.iter().map(seal).collect::<Vec<_>>());
        }
    });
    assert!(std::fs::read(dir.join("name")).unwrap() == wholes[15]);
}

pub(crate) fn replacing_by_a_link_is_atomic(_: &Place, dir: &Path) {
    let wholes = [painted(1, 5000), painted(2, 9000)];
    let target = open(dir);
    let mut stager = stager(&target);
    let batch = [
        small(stager.as_mut(), "name", &wholes[0], false),
        small(stager.as_mut(), "a", &wholes[0], false),
        small(stager.as_mut(), "b", &wholes[1], false),
    ];
    publish(&target, &batch);
    watched(dir, "name", &wholes, || {
        let link = |from: &[u8]| Sealed::link(from.to_vec(), b"name".to_vec(), true, None);
        for _ in 0..10 {
            // The second of each pair is there already.
            let links = [&b"a"[..], b"a", b"b", b"b"].into_iter().cycle().take(400);
            publish(&target, &links.map(link).collect::<Vec<_>>());
        }
    });
    let inode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().ino();
    assert_eq!(inode("name"), inode("b"));
    target.close(false).unwrap();
    assert!(staged(dir).is_empty());
    assert_eq!(files(dir), ["a", "b", "name"].map(PathBuf::from));
}

pub(crate) fn replaced_symlinks_are_not_followed(_: &Place, dir: &Path) {
    std::fs::write(dir.join("precious"), b"old").unwrap();
    for name in ["file", "link"] {
        std::os::unix::fs::symlink("precious", dir.join(name)).unwrap();
    }
    let target = open(dir);
    let mut stager = stager(&target);
    let batch = [
        small(stager.as_mut(), "file", b"new", true),
        Sealed::link(b"file".to_vec(), b"link".to_vec(), true, None),
    ];
    publish(&target, &batch);
    assert_eq!(std::fs::read(dir.join("precious")).unwrap(), b"old");
    for name in ["file", "link"] {
        assert!(std::fs::symlink_metadata(dir.join(name)).unwrap().is_file());
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), b"new");
    }
}
