//! Copies while system calls fail, as strace makes them.

use std::path::PathBuf;

use super::program::{Ran, Running, inhaul, under};
use super::{Scratch, need_tools, tree};

/// Paints 41 files, one of them large.
pub(crate) fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 1, 40);
    tree::paint(&source.join("large"), 2, 4_000_001);
    tree::age(&source, 1_000_000_000);
    source
}

/// Runs a copy with system calls that fail; strace's own notes are kept apart.
pub(crate) fn run_failing(
    inject: &str,
    scratch: &Scratch,
    args: &[&dyn AsRef<std::ffi::OsStr>],
) -> Ran {
    let notes = scratch.join("strace");
    let notes = notes.to_str().unwrap();
    let trace = format!("trace={}", inject.split(':').next().unwrap());
    let inject = format!("inject={inject}");
    // Only what is traced can be made to fail; the rest runs at full speed.
    let strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        notes,
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    Running::start(under(&strace, &inhaul(args))).finish()
}

/// Returns whether the tools for it are there.
pub(crate) fn ready(test: &str) -> bool {
    need_tools(test, &["strace", "rsync", "b3sum", "setpriv", "prlimit"])
}
