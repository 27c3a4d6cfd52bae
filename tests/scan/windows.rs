//! In what amounts it comes.

use std::collections::HashSet;

use inhaul::scan::{Entry, Order};
use tempfile::TempDir;

use crate::scan_support::{Setup, make_file};

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
