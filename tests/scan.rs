//! The walk on ordinary trees: what it yields, in what amounts, and what it says about the rest.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its tree has failed"
)]

mod scan_support;

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use inhaul::error::ErrorKind;
use inhaul::scan::{DEPTH_MAX, Entry, FilesFrom, Filter, Kind, Order, Rule, walk};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use scan_support::{Record, Setup, make_deep, make_file, run, skip, text, tree};
use tempfile::TempDir;

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
fn a_wide_directory_goes_through_a_small_window() {
    const FILES: usize = 200_000;
    const WINDOW_BYTES: usize = 1 << 20;
    let top = TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap();
    for n in 0..FILES {
        drop(std::fs::File::create(top.path().join(format!("file-{n:06}"))).unwrap());
    }
    let setup = Setup {
        window_bytes: WINDOW_BYTES,
        order: Order::Inode,
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    // The vector of a batch may be half empty: what it holds takes half the window at most.
    let batch_max = WINDOW_BYTES / (2 * size_of::<Entry>());
    assert!(record.batches.iter().all(|len| *len <= batch_max));
    assert!(record.batches.len() >= FILES / batch_max);
    let names: HashSet<_> = record.entries.iter().map(|entry| &entry.name).collect();
    assert_eq!((record.entries.len(), names.len()), (FILES, FILES));
}

#[test]
fn a_window_of_no_size_still_lets_entries_through() {
    let top = TempDir::new().unwrap();
    for name in ["a", "b", "d/c"] {
        make_file(top.path(), name, b"x");
    }
    let setup = Setup {
        window_bytes: 0,
        ..Setup::default()
    };
    assert_eq!(setup.walk(top.path()).batches, [1, 1, 1]);
}

#[test]
fn a_window_spans_directories() {
    let top = TempDir::new().unwrap();
    for n in 0..50 {
        make_file(top.path(), &format!("d{n}/f"), b"x");
    }
    let record = Setup::default().walk(top.path());
    assert_eq!(record.batches, [50]);
}

#[test]
fn paths_longer_than_the_kernels_limit_are_walked() {
    let top = TempDir::new().unwrap();
    make_deep(top.path(), &"n".repeat(200), 41);
    let setup = Setup {
        order: Order::Physical,
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    assert_eq!(record.dirs.len(), 42);
    assert_eq!(record.entries.len(), 1);
    assert_eq!(record.entries[0].source_path().len(), 41 * 201 + 6);
    assert!(record.problems.is_empty());
}

#[test]
fn nesting_has_a_limit_that_a_thread_survives() {
    let top = TempDir::new().unwrap();
    // The root is level 1, so the last directory made is one too deep.
    make_deep(top.path(), "d", DEPTH_MAX);
    let path = top.path().to_owned();
    // 2 MiB is what std gives a thread; half of it must do here.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let thread = thread.spawn(move || {
        let (tree, finished) = tree(&path, None);
        let mut record = Record::default();
        let setup = Setup::default();
        walk(&tree, &setup.options(), &mut record);
        assert_eq!(record.dirs.len(), DEPTH_MAX);
        assert_eq!(record.problems.len(), 1);
        assert!(record.problems[0].2.contains("too deeply"));
        drop(record);
        assert_eq!(finished.try_iter().count(), DEPTH_MAX);
    });
    let outcome = thread.unwrap().join();
    run(&["rm", "-rf", top.path().join("d").to_str().unwrap()]).unwrap();
    outcome.unwrap();
}

#[test]
fn the_deepest_entry_lets_go_of_all_its_directories_at_once() {
    let top = TempDir::new().unwrap();
    make_deep(top.path(), "d", DEPTH_MAX - 1);
    let path = top.path().to_owned();
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let thread = thread.spawn(move || {
        let (tree, finished) = tree(&path, None);
        let mut record = Record::default();
        let setup = Setup::default();
        walk(&tree, &setup.options(), &mut record);
        assert_eq!(finished.try_iter().count(), 0, "the entry holds them all");
        assert_eq!(record.entries.len(), 1);
        record.entries.clear();
        let lengths: Vec<_> = finished.try_iter().map(|f| f.target_path.len()).collect();
        assert_eq!(lengths.len(), DEPTH_MAX);
        assert!(lengths.is_sorted_by(|child, parent| child > parent));
    });
    let outcome = thread.unwrap().join();
    run(&["rm", "-rf", top.path().join("d").to_str().unwrap()]).unwrap();
    outcome.unwrap();
}

#[test]
fn promised_directories_finish_once_and_children_first() {
    let top = TempDir::new().unwrap();
    for path in ["a/b/c/1", "a/b/2", "a/3", "x/y/4", "z/5"] {
        make_file(top.path(), path, b"x");
    }
    std::fs::create_dir(top.path().join("z/empty")).unwrap();
    std::fs::create_dir(top.path().join("refused")).unwrap();
    make_file(top.path(), "refused/6", b"x");
    let (tree, finished) = tree(top.path(), None);
    let mut record = Record {
        refuse: vec!["refused".to_owned()],
        ..Record::default()
    };
    let setup = Setup {
        order: Order::Physical,
        ..Setup::default()
    };
    walk(&tree, &setup.options(), &mut record);
    assert_eq!(record.problems.len(), 1);
    assert_eq!(record.problems[0].0, ErrorKind::TargetExists);
    assert_eq!(record.paths(), ["a/3", "a/b/2", "a/b/c/1", "x/y/4", "z/5"]);

    // Let go of the entries one by one: a directory ends with its last one.
    let mut order = Vec::new();
    for entry in std::mem::take(&mut record.entries) {
        let dir = text(&entry.dir.source_path());
        drop(entry);
        let ended: Vec<_> = finished.try_iter().map(|f| text(&f.target_path)).collect();
        assert!(ended.contains(&dir) || dir == "a" || dir == "a/b");
        order.extend(ended);
    }
    order.extend(finished.try_iter().map(|f| text(&f.target_path)));
    let places: HashMap<_, _> = order
        .iter()
        .enumerate()
        .map(|(n, path)| (path, n))
        .collect();
    let mut sorted = order.clone();
    sorted.sort();
    // "z/empty" had no entries: it ended during the walk, and is among the first here.
    assert_eq!(
        sorted,
        ["", "a", "a/b", "a/b/c", "x", "x/y", "z", "z/empty"]
    );
    for (path, place) in &places {
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert!(
                place < &places[&parent.to_owned()],
                "{path} before {parent}"
            );
        }
    }
    assert_eq!(order.last().unwrap(), "");
}

#[test]
fn the_visitor_can_end_the_walk() {
    let top = TempDir::new().unwrap();
    for n in 0..20 {
        make_file(top.path(), &format!("d{n:02}/f"), b"x");
    }
    let setup = Setup {
        window_bytes: 0,
        files_from: Some(FilesFrom::parse(b".\nmissing", false).unwrap()),
        ..Setup::default()
    };
    let (tree, _finished) = tree(top.path(), None);
    let mut record = Record {
        break_after: Some(3),
        ..Record::default()
    };
    walk(&tree, &setup.options(), &mut record);
    assert_eq!(record.entries.len(), 3);
    assert!(
        record.problems.is_empty(),
        "an unfinished walk misses nothing"
    );

    let mut record = Record {
        stop_after: Some(0),
        ..Record::default()
    };
    walk(&tree, &setup.options(), &mut record);
    assert!(record.dirs.is_empty());

    let mut record = Record {
        stop_after: Some(5),
        ..Record::default()
    };
    walk(&tree, &setup.options(), &mut record);
    assert_eq!(record.dirs.len(), 5);
    assert!(record.entries.len() <= 4 && record.problems.is_empty());
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

#[test]
fn an_excluded_directory_is_not_entered() {
    let top = TempDir::new().unwrap();
    for path in ["keep/a", "keep/skip/b", "skip/c", "skip/deep/d", "skipper"] {
        make_file(top.path(), path, b"x");
    }
    let setup = Setup {
        filter: Filter::new(vec![Rule::Exclude(b"skip/".to_vec())]).unwrap(),
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    assert_eq!(record.paths(), ["keep/a", "skipper"]);
    assert_eq!(record.dir_paths(), ["", "keep"]);
}

#[test]
fn a_list_of_files_takes_what_is_listed_and_names_what_is_missing() {
    let top = TempDir::new().unwrap();
    for path in [
        "a/1", "a/2", "a/sub/3", "b/4", "b/sub/5", "c/6", "top", "out/7",
    ] {
        make_file(top.path(), path, b"x");
    }
    let list = b"a\nb/sub/5\n/top\nb/gone\nnever/there\nout/7\nout/8\n";
    let setup = Setup {
        files_from: Some(FilesFrom::parse(list, false).unwrap()),
        filter: Filter::new(vec![Rule::Exclude(b"/out".to_vec())]).unwrap(),
        ..Setup::default()
    };
    let record = setup.walk(top.path());
    assert_eq!(record.paths(), ["a/1", "a/2", "a/sub/3", "b/sub/5", "top"]);
    assert_eq!(record.dir_paths(), ["", "a", "a/sub", "b", "b/sub"]);
    let missing: Vec<_> = record
        .problems
        .iter()
        .map(|p| (p.0, p.1.as_str()))
        .collect();
    // What a filter leaves out is not missing.
    let gone = ErrorKind::SourceVanished;
    assert_eq!(
        missing,
        [(gone, "/SOURCE/b/gone"), (gone, "/SOURCE/never/there")]
    );
    assert_eq!(record.problems[0].2, "listed in --files-from but not there");
}

#[test]
fn a_directory_swapped_for_a_link_never_leads_out() {
    let top = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    make_file(outside.path(), "secret", b"x");
    make_file(outside.path(), "sub/secret", b"x");
    make_file(top.path(), "d/inside", b"x");
    make_file(top.path(), "d/sub/inside", b"x");
    make_file(top.path(), "e/inside", b"x");
    make_file(top.path(), "f/only-in-f", b"x");
    let (real, link) = (top.path().join("d"), outside.path().join("link"));
    symlink(outside.path(), &link).unwrap();
    // This one stays inside, where only the ban on links keeps the walk off it.
    let (near_real, near_link) = (top.path().join("e"), top.path().join("l"));
    symlink("f", &near_link).unwrap();
    let done = AtomicBool::new(false);
    let mut problems = HashSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                let exchange = RenameFlags::EXCHANGE;
                renameat_with(CWD, &near_real, CWD, &near_link, exchange).unwrap();
            }
        });
        let start = std::time::Instant::now();
        let setup = Setup {
            order: Order::Physical,
            ..Setup::default()
        };
        while start.elapsed().as_secs() < 1 {
            let record = setup.walk(top.path());
            let leaked = record.paths().iter().any(|path| {
                path.contains("secret") || path.contains("only") && path != "f/only-in-f"
            });
            if leaked {
                done.store(true, Ordering::Relaxed);
            }
            assert!(!leaked, "{:?}", record.paths());
            problems.extend(record.problems.into_iter().map(|problem| problem.0));
        }
        done.store(true, Ordering::Relaxed);
    });
    let expected = HashSet::from([
        ErrorKind::Escape,
        ErrorKind::SourceChanged,
        ErrorKind::SourceVanished,
        // openat2 gives up with EAGAIN when renames keep racing it.
        ErrorKind::SourceRead,
    ]);
    assert!(problems.is_subset(&expected), "{problems:?}");
}

#[test]
fn what_may_not_be_read_is_reported_and_the_rest_goes_on() {
    const NAME: &str = "what_may_not_be_read_is_reported_and_the_rest_goes_on";
    const PLACE: &str = "INHAUL_TEST_UNREADABLE";
    if let Some(place) = std::env::var_os(PLACE) {
        let place = Path::new(&place);
        let list = FilesFrom::parse(b".\nlocked/hidden", false).unwrap();
        let setup = Setup {
            order: Order::Physical,
            files_from: Some(list),
            ..Setup::default()
        };
        let record = setup.walk(place);
        // "listable" may be listed but not searched, so its file cannot be looked at.
        assert_eq!(record.paths(), ["open/file", "secret-file"]);
        let mut problems: Vec<_> = record
            .problems
            .iter()
            .map(|p| (p.0, p.1.as_str()))
            .collect();
        problems.sort_by_key(|problem| problem.1);
        let denied = ErrorKind::SourceDenied;
        assert_eq!(
            problems,
            [
                (denied, "/SOURCE/listable/file"),
                (denied, "/SOURCE/locked")
            ]
        );
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip("needs root, to stop being root");
        return;
    }
    let top = TempDir::new().unwrap();
    let mode = |path: &str, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(top.path().join(path), mode).unwrap();
    };
    let program = top.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [
        "t/locked/hidden",
        "t/listable/file",
        "t/open/file",
        "t/secret-file",
    ] {
        make_file(top.path(), path, b"x");
    }
    for (path, bits) in [
        ("", 0o755),
        ("program", 0o755),
        ("t/locked", 0o700),
        ("t/listable", 0o744),
        ("t/secret-file", 0o600),
    ] {
        mode(path, bits);
    }
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let child = Command::new("setpriv")
        .args(words)
        .arg(&program)
        .args(["--exact", NAME, "--nocapture"])
        .env(PLACE, top.path().join("t"))
        .output();
    match child {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            assert!(said.contains("1 passed"), "{said}");
        }
        Err(error) => skip(format!("setpriv: {error}")),
    }
}
