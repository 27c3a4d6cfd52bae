//! What happens when the kernel says no: limits of memory and descriptors, and the words for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod backend;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::Arc;

use backend::{credits, is_child, once, open, run_child};
use inhaul::engine::job::IoChoice;
use inhaul::error::ErrorKind;
use inhaul::io::probe::{self, Chosen};
use inhaul::io::uring::Uring;
use inhaul::io::{Backend, Op};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

fn device(path: &str) -> Arc<OwnedFd> {
    Arc::new(OwnedFd::from(std::fs::File::open(path).unwrap()))
}

/// Limit in KiB, slots, name of the ring, why memory is not registered at first and in the end.
type Case = (u64, usize, &'static str, Option<Errno>, Option<Errno>);

/// Enough for a ring and none of the slots, for all of them, for some.
const CASES: [Case; 3] = [
    (512, 2, "io_uring", Some(Errno::NOMEM), Some(Errno::NOMEM)),
    (8192, 2, "io_uring+registered", None, None),
    (4096, 8, "io_uring+registered", None, Some(Errno::NOMEM)),
];

#[test]
fn a_small_limit_of_locked_memory_leaves_memory_unregistered_and_in_use() {
    let name = "a_small_limit_of_locked_memory_leaves_memory_unregistered_and_in_use";
    if !is_child() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can become somebody else");
            return;
        }
        for (case, uid) in (0..CASES.len()).zip(61_234..) {
            // Locked memory is counted by user, and given back a moment after a ring's end. These,
            // we hope, run nothing else.
            run_child(name, |child| {
                child.uid(uid).gid(uid).env("CASE", case.to_string());
            });
        }
        return;
    }
    if let Err(why) = Uring::probe() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"bytes").unwrap();
    let file = open(&path, false).unwrap();
    let case: usize = std::env::var("CASE").unwrap().parse().unwrap();
    let (limit, slots, named, first, later) = CASES[case];
    let limit = Some(limit << 10);
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Memlock, limit).unwrap();
    let credits = credits(slots);
    let mut ring = Uring::new(4, Some(&credits)).unwrap();
    assert_eq!(ring.unregistered(), first);
    assert_eq!(ring.name(), named);
    let mut leases = Vec::new();
    for _ in 0..slots {
        let read = backend::read(0, &file, 0, backend::lease(&credits, 64));
        let completion = once(&mut ring, read);
        assert_eq!(completion.result, Ok(5));
        match completion.request.op {
            Op::Read { lease, .. } => {
                assert_eq!(&lease.as_slice()[..5], b"bytes");
                leases.push(lease);
            }
            other => panic!("not a read: {other:?}"),
        }
    }
    assert_eq!(ring.unregistered(), later);
    drop(leases);
    drop(ring);
    assert_eq!(credits.free(), slots);
}

#[test]
fn a_refused_ring_is_reported_with_its_cause() {
    if !is_child() {
        run_child("a_refused_ring_is_reported_with_its_cause", |_| {});
        return;
    }
    if let Err(why) = Uring::probe() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    assert_eq!(
        probe::choose(IoChoice::Auto).unwrap(),
        (Chosen::Uring, None)
    );
    // No descriptor beyond those open now: a ring is one, and cannot be made.
    let next = device("/dev/null");
    let used = u64::try_from(next.as_raw_fd()).unwrap();
    drop(next);
    let limit = Rlimit {
        current: Some(used),
        maximum: Some(used),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let (chosen, line) = probe::choose(IoChoice::Auto).unwrap();
    assert_eq!(chosen, Chosen::Blocking);
    assert_eq!(
        line.unwrap(),
        "using blocking I/O, as io_uring was refused: io_uring_setup: Too many open files \
         (os error 24); likely cause: the limit of open files (ulimit -n, RLIMIT_NOFILE)"
    );
    let error = probe::choose(IoChoice::Uring).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    let error = probe::open(Chosen::Uring, 4, 2, None, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let backend = probe::open(chosen, 4, 2, None, false).unwrap();
    assert_eq!(backend.name(), "blocking");
}

#[test]
fn what_is_chosen_opens() {
    let credits = credits(2);
    for choice in [IoChoice::Auto, IoChoice::Blocking] {
        let (chosen, _) = probe::choose(choice).unwrap();
        let mut backend = probe::open(chosen, 2, 2, Some(&credits), true).unwrap();
        let zero = device("/dev/zero");
        let read = backend::read(0, &zero, 0, backend::lease(&credits, 4096));
        assert_eq!(once(&mut *backend, read).result, Ok(4096));
    }
    assert_eq!(credits.free(), 2);
}
