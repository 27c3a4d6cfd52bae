//! When directories are done, and when the walk is.

use std::collections::HashMap;

use inhaul::error::ErrorKind;
use inhaul::scan::{FilesFrom, Order, walk};
use tempfile::TempDir;

use crate::scan_support::{Record, Setup, make_file, text, tree};

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
