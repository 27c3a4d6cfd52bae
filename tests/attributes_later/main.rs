//! Attributes that could not be set when a file was copied: told of, and set by the next run.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod link_times;
mod set_again;

use support::program::report;
use support::tree;

/// Fails unless the report says that all files were there, and of how many it tells something.
pub(crate) fn check_kept(target: &std::path::Path, files: u64) {
    let report = report(target);
    let totals = &report["totals"];
    assert_eq!(totals["kept"], files, "{report:#}");
    assert_eq!(totals["files"], 0, "{totals}");
}

/// Gives some of what a source has to somebody else.
pub(crate) fn give_away(source: &std::path::Path, names: &[&str]) {
    for name in names {
        std::os::unix::fs::lchown(source.join(name), Some(1234), Some(4321)).unwrap();
    }
    tree::age(source, 1_000_000_000);
}
