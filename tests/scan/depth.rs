//! Trees that are deeper than a path is long.

use inhaul::scan::{DEPTH_MAX, Order, walk};
use tempfile::TempDir;

use crate::scan_support::{Record, Setup, make_deep, run, tree};

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
