//! The contract of `inhaul::io::Backend`, item by item, over every backend.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of test functions"
)]

mod backend;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use backend::{EVER, End, Kind, Mischief, Pump};
use backend::{credits, is_child, kinds, once, open, painted, run_child};
use inhaul::buffer::{Credits, SLOT_LEN};
use inhaul::io::uring::Uring;
use inhaul::io::{Backend, Completion, Full, Op, Request, Wait, Wake};
use rustix::io::Errno;

/// Runs a check over every backend with `depth` places and `depth` slots.
fn each(depth: usize, check: impl Fn(&mut dyn Backend, &Credits, Kind)) {
    for kind in kinds() {
        eprintln!("backend: {}", kind.name);
        let credits = credits(depth);
        let mut backend = (kind.make)(depth, &credits);
        check(&mut *backend, &credits, kind);
        assert_eq!(backend.in_flight(), 0, "{}", kind.name);
        drop(backend);
        assert_eq!(credits.free(), depth, "{}: a slot is missing", kind.name);
    }
}

/// A file with these bytes, in a directory that goes away with the test.
fn file_with(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn device(path: &str) -> Arc<OwnedFd> {
    let file = std::fs::File::options().read(true).write(true).open(path);
    Arc::new(OwnedFd::from(file.unwrap()))
}

fn read_bytes(completion: Completion) -> Vec<u8> {
    let len = completion.result.unwrap();
    match completion.request.op {
        Op::Read { lease, .. } => lease.freeze(len).to_vec(),
        other => panic!("not a read: {other:?}"),
    }
}

#[test]
fn item_1_each_request_is_reaped_exactly_once_with_its_memory_and_descriptor() {
    let bytes = painted(64 * 4096, 3);
    let (_dir, path) = file_with(&bytes);
    each(8, |backend, credits, _| {
        let file = open(&path, false).unwrap();
        let mut seen = HashSet::new();
        let mut next = 0u64;
        while seen.len() < 500 {
            while next < 500 && backend.in_flight() < 8 {
                let lease = backend::lease(credits, 4096);
                let request = backend::read(next, &file, next % 64 * 4096, lease);
                backend.submit(request).unwrap();
                next += 1;
            }
            let mut done = Vec::new();
            backend.reap(EVER, &mut done).unwrap();
            for completion in done {
                let token = completion.request.token;
                assert!(Arc::ptr_eq(&completion.request.file, &file));
                assert!(seen.insert(token), "reaped twice: {token}");
                let start = usize::try_from(token % 64).unwrap() * 4096;
                assert!(read_bytes(completion) == bytes[start..start + 4096]);
            }
        }
        assert_eq!(seen, (0..500).collect());
        assert_eq!(Arc::strong_count(&file), 1);
        assert_eq!(credits.free(), 8);
    });
}

#[test]
fn item_1_a_request_keeps_its_file_open() {
    let (_dir, path) = file_with(b"still here");
    each(1, |backend, credits, _| {
        let file = open(&path, false).unwrap();
        let request = backend::read(0, &file, 0, backend::lease(credits, 64));
        drop(file);
        assert_eq!(read_bytes(once(backend, request)), b"still here");
    });
}

#[test]
fn item_2_a_short_transfer_is_reported_as_short() {
    let bytes = painted(10_000, 5);
    let (_dir, path) = file_with(&bytes);
    each(1, |backend, credits, _| {
        let file = open(&path, false).unwrap();
        let request = backend::read(0, &file, 0, backend::lease(credits, 16384));
        assert!(read_bytes(once(backend, request)) == bytes);
        let request = backend::read(0, &file, 9_000, backend::lease(credits, 16384));
        assert!(read_bytes(once(backend, request)) == bytes[9_000..]);
    });
}

#[test]
fn item_2_the_end_of_the_file_is_a_read_of_nothing() {
    let (_dir, path) = file_with(b"short");
    each(1, |backend, credits, _| {
        let file = open(&path, false).unwrap();
        for offset in [5, 4096, 1 << 40] {
            let request = backend::read(0, &file, offset, backend::lease(credits, 4096));
            assert_eq!(once(backend, request).result, Ok(0));
        }
    });
}

#[test]
fn item_4_a_full_queue_gives_the_request_back_and_takes_it_later() {
    let (_dir, path) = file_with(&painted(8192, 0));
    each(5, |backend, credits, _| {
        let file = open(&path, false).unwrap();
        assert_eq!(backend.capacity(), 5);
        for token in 0..5 {
            let lease = backend::lease(credits, 4096);
            backend
                .submit(backend::read(token, &file, 0, lease))
                .unwrap();
        }
        assert_eq!(backend.in_flight(), 5);
        let spare = backend::credits(1);
        let refused = backend::read(9, &file, 4096, backend::lease(&spare, 4096));
        let Err(Full(refused)) = backend.submit(refused) else {
            panic!("one too many was taken");
        };
        assert_eq!(refused.token, 9);
        let mut done = Vec::new();
        while backend.in_flight() > 0 {
            backend.reap(EVER, &mut done).unwrap();
        }
        assert_eq!(done.len(), 5);
        assert_eq!(once(backend, refused).result, Ok(4096));
    });
}

#[test]
fn item_5_polling_alone_finishes_requests_too() {
    let bytes = painted(SLOT_LEN, 7);
    let (_dir, path) = file_with(&bytes);
    each(1, |backend, credits, _| {
        let file = open(&path, true).unwrap_or_else(|| open(&path, false).unwrap());
        let request = backend::read(0, &file, 0, backend::lease(credits, SLOT_LEN));
        backend.submit(request).unwrap();
        let mut done = Vec::new();
        while done.is_empty() {
            backend.reap(Wait::Poll, &mut done).unwrap();
            std::thread::yield_now();
        }
        assert!(read_bytes(done.remove(0)) == bytes);
    });
}

#[test]
fn item_5_a_wait_ends_when_the_time_is_up() {
    each(1, |backend, _, _| {
        let mut done = Vec::new();
        for limit in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(2),
        ] {
            backend.reap(Wait::AtMost(limit), &mut done).unwrap();
        }
        backend.reap(Wait::Poll, &mut done).unwrap();
        assert!(done.is_empty());
    });
}

#[test]
fn item_5_a_wake_before_the_wait_is_not_lost_even_to_a_poll() {
    each(1, |backend, _, _| {
        let waker = backend.waker();
        let mut done = Vec::new();
        for _ in 0..3 {
            waker.wake();
            waker.wake();
            backend.reap(Wait::Poll, &mut done).unwrap();
            backend
                .reap(Wait::AtMost(Duration::MAX), &mut done)
                .unwrap();
        }
        assert!(done.is_empty());
    });
}

#[test]
fn item_5_a_wake_ends_the_wait_whenever_it_comes() {
    each(1, |backend, _, _| {
        let waker = backend.waker();
        let asked = Arc::new(AtomicUsize::new(0));
        let given = Arc::new(AtomicUsize::new(0));
        let other = std::thread::spawn({
            let (asked, given) = (Arc::clone(&asked), Arc::clone(&given));
            move || {
                for round in 1..=2000 {
                    while asked.load(Ordering::SeqCst) < round {
                        std::thread::yield_now();
                    }
                    // Anything from at once to well into the sleep.
                    for _ in 0..round % 50 {
                        std::thread::yield_now();
                    }
                    given.store(round, Ordering::SeqCst);
                    waker.wake();
                }
            }
        });
        let mut done = Vec::new();
        for round in 1..=2000 {
            asked.store(round, Ordering::SeqCst);
            while given.load(Ordering::SeqCst) < round {
                backend.reap(EVER, &mut done).unwrap();
            }
        }
        other.join().unwrap();
    });
}

#[test]
fn item_5_a_slot_that_comes_back_wakes_the_lane_that_has_none() {
    each(2, |backend, credits, _| {
        credits.set_waker(backend.waker());
        for _ in 0..200 {
            let held = [credits.take().unwrap(), credits.take().unwrap()];
            let views = held.map(|lease| lease.freeze(1));
            assert!(credits.take().is_none());
            let other = std::thread::spawn(move || drop(views));
            let mut done = Vec::new();
            while credits.free() == 0 {
                backend.reap(EVER, &mut done).unwrap();
            }
            other.join().unwrap();
        }
    });
}

#[test]
fn item_6_no_request_fails_because_a_signal_arrived() {
    if !is_child() {
        // With one test thread the test runs on the first thread, which is where signals go.
        run_child("item_6_no_request_fails_because_a_signal_arrived", |_| {});
        return;
    }
    let hits = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&flag)).unwrap();
    let storm = std::thread::spawn({
        let (hits, stop) = (Arc::clone(&hits), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::SeqCst) {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::USR1).unwrap();
                if flag.swap(false, Ordering::SeqCst) {
                    hits.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    let bytes = painted(SLOT_LEN, 1);
    let (_dir, path) = file_with(&bytes);
    each(2, |backend, credits, _| {
        let file = open(&path, true).unwrap_or_else(|| open(&path, false).unwrap());
        for token in 0..300 {
            let request = backend::read(token, &file, 0, backend::lease(credits, SLOT_LEN));
            let completion = once(backend, request);
            assert!(read_bytes(completion) == bytes);
        }
    });
    stop.store(true, Ordering::SeqCst);
    storm.join().unwrap();
    assert!(hits.load(Ordering::SeqCst) > 0, "no signal ever arrived");
}

#[test]
fn item_7_dropping_a_backend_ends_what_is_in_flight_and_returns_its_memory() {
    let (_dir, path) = file_with(&painted(4 * SLOT_LEN, 9));
    for kind in kinds() {
        for polls in [false, true] {
            let credits = credits(8);
            let file = open(&path, true).unwrap_or_else(|| open(&path, false).unwrap());
            let mut backend = (kind.make)(8, &credits);
            for token in 0..8 {
                let lease = credits.take().unwrap();
                let offset = token % 4 * SLOT_LEN as u64;
                backend
                    .submit(backend::read(token, &file, offset, lease))
                    .unwrap();
            }
            if polls {
                backend.reap(Wait::Poll, &mut Vec::new()).unwrap();
            }
            drop(backend);
            assert_eq!(credits.free(), 8, "{}", kind.name);
            assert_eq!(Arc::strong_count(&file), 1, "{}", kind.name);
        }
    }
}

#[test]
fn item_7_dropping_a_ring_waits_for_a_read_that_takes_its_time() {
    if let Err(why) = Uring::probe() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let credits = credits(1);
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let mut ring = Uring::new(1, Some(&credits)).unwrap();
    let lease = backend::lease(&credits, 4096);
    ring.submit(backend::read(0, &reader, 0, lease)).unwrap();
    ring.reap(Wait::Poll, &mut Vec::new()).unwrap();
    assert_eq!(ring.in_flight(), 1);
    let written = Arc::new(AtomicBool::new(false));
    let other = std::thread::spawn({
        let written = Arc::clone(&written);
        move || {
            std::thread::sleep(Duration::from_millis(50));
            written.store(true, Ordering::SeqCst);
            rustix::io::write(&writer, b"late").unwrap();
        }
    });
    drop(ring);
    assert!(written.load(Ordering::SeqCst), "the read was abandoned");
    assert_eq!(credits.free(), 1);
    other.join().unwrap();
}

#[test]
fn item_7_a_ring_dropped_on_a_foreign_thread_leaks_its_memory_rather_than_free_it() {
    if let Err(why) = Uring::probe() {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let credits = credits(2);
    let (reader, _writer) = std::io::pipe().unwrap();
    let reader = Arc::new(OwnedFd::from(reader));
    let mut ring = Uring::new(1, None).unwrap();
    let lease = backend::lease(&credits, 4096);
    ring.submit(backend::read(0, &reader, 0, lease)).unwrap();
    ring.reap(Wait::Poll, &mut Vec::new()).unwrap();
    let answer = std::thread::spawn(move || ring.reap(Wait::Poll, &mut Vec::new()));
    match answer.join().unwrap() {
        Err(errno) => {
            assert_eq!(errno, Errno::EXIST);
            assert_eq!(credits.free(), 1);
        }
        Ok(()) => eprintln!("this kernel lets any thread use a ring: nothing to see here"),
    }
}

#[test]
fn item_8_errors_are_the_errno_of_the_system_call_and_the_memory_comes_back() {
    let (dir, path) = file_with(&painted(8192, 2));
    each(2, |backend, credits, kind| {
        let mut fails = |request: Request, errno: Errno, what: &str| {
            let completion = once(backend, request);
            assert_eq!(completion.result, Err(errno), "{}: {what}", kind.name);
        };
        let page = || backend::lease(credits, 4096);
        let bytes = || backend::view(credits, &[1; 4096]);
        let both = open(&path, false).unwrap();
        let read_only = Arc::new(OwnedFd::from(std::fs::File::open(&path).unwrap()));
        let folder = Arc::new(OwnedFd::from(std::fs::File::open(dir.path()).unwrap()));
        let write_only = std::fs::File::options().write(true).open(&path).unwrap();
        let write_only = Arc::new(OwnedFd::from(write_only));
        let full = device("/dev/full");

        fails(
            backend::write(0, &read_only, 0, bytes()),
            Errno::BADF,
            "write, read-only",
        );
        fails(
            backend::read(0, &write_only, 0, page()),
            Errno::BADF,
            "read, write-only",
        );
        fails(
            backend::read(0, &folder, 0, page()),
            Errno::ISDIR,
            "read, directory",
        );
        fails(
            backend::write(0, &full, 0, bytes()),
            Errno::NOSPC,
            "write, full",
        );
        fails(
            backend::read(0, &both, 1 << 63, page()),
            Errno::INVAL,
            "read, negative",
        );
        fails(
            backend::read(0, &both, u64::MAX, page()),
            Errno::INVAL,
            "read, -1",
        );
        fails(
            backend::write(0, &both, u64::MAX, bytes()),
            Errno::INVAL,
            "write, -1",
        );
        if let Some(direct) = open(&path, true) {
            let odd = backend::lease(credits, 100);
            fails(
                backend::read(0, &direct, 0, odd),
                Errno::INVAL,
                "read, odd length",
            );
            fails(
                backend::read(0, &direct, 100, page()),
                Errno::INVAL,
                "read, odd offset",
            );
        }
        assert_eq!(credits.free(), 2);
    });
    assert_eq!(std::fs::read(&path).unwrap(), painted(8192, 2));
}

#[test]
fn the_tail_of_a_file_goes_through_o_direct_both_ways() {
    let bytes = painted(10_000, 4);
    let (dir, path) = file_with(&bytes);
    each(1, |backend, credits, kind| {
        let Some(source) = open(&path, true) else {
            return;
        };
        let lease = backend::lease(credits, 12288);
        let completion = once(backend, backend::read(0, &source, 0, lease));
        assert_eq!(completion.result, Ok(10_000));
        let Op::Read { mut lease, .. } = completion.request.op else {
            panic!("not a read");
        };
        lease.as_mut_slice()[10_000..].fill(0);
        let copy = dir.path().join(kind.name);
        let target = open(&copy, true).unwrap();
        let padded = lease.freeze(12288);
        let completion = once(backend, backend::write(0, &target, 0, padded));
        assert_eq!(completion.result, Ok(12288));
        rustix::fs::ftruncate(&target, 10_000).unwrap();
        assert!(std::fs::read(&copy).unwrap() == bytes);
    });
}

#[test]
fn write_back_of_any_length_is_started() {
    let (_dir, path) = file_with(&painted(100_000, 4));
    each(1, |backend, _, _| {
        let file = open(&path, false).unwrap();
        let request = |file: &Arc<OwnedFd>, offset, len| Request {
            token: 0,
            file: Arc::clone(file),
            op: Op::WriteBack { offset, len },
        };
        for len in [0, 1, 100_000, 1 << 32, 10 << 32] {
            assert_eq!(once(backend, request(&file, 0, len)).result, Ok(0));
        }
        let null = device("/dev/null");
        assert_eq!(
            once(backend, request(&null, 0, 1)).result,
            Err(Errno::SPIPE)
        );
    });
}

#[test]
fn a_sync_answers_for_the_file_and_a_refusal_is_final() {
    let (_dir, path) = file_with(&painted(100_000, 4));
    each(1, |backend, _, _| {
        let request = |file: Arc<OwnedFd>| Request {
            token: 7,
            file,
            op: Op::Sync,
        };
        let completion = once(backend, request(open(&path, false).unwrap()));
        assert_eq!((completion.request.token, completion.result), (7, Ok(0)));
        let (reader, _writer) = std::io::pipe().unwrap();
        let completion = once(backend, request(Arc::new(reader.into())));
        assert_eq!(completion.result, Err(Errno::INVAL));
    });
}

#[test]
fn a_lane_may_write_what_another_lane_read() {
    let bytes = painted(SLOT_LEN, 8);
    let (dir, path) = file_with(&bytes);
    each(1, |backend, _, kind| {
        let others = credits(1);
        let target = open(&dir.path().join(kind.name), false).unwrap();
        let source = open(&path, false).unwrap();
        let foreign = others.take().unwrap();
        let completion = once(backend, backend::read(0, &source, 0, foreign));
        let Op::Read { lease, .. } = completion.request.op else {
            panic!("not a read");
        };
        let write = backend::write(0, &target, 0, lease.freeze(SLOT_LEN));
        assert_eq!(once(backend, write).result, Ok(SLOT_LEN));
        assert!(std::fs::read(dir.path().join(kind.name)).unwrap() == bytes);
        assert_eq!(others.free(), 1);
    });
}

#[test]
fn a_mischievous_backend_copies_a_file_intact_once_resumed() {
    let bytes = painted(3 * SLOT_LEN + 4096, 6);
    let (dir, path) = file_with(&bytes);
    for kind in kinds() {
        for direct in [false, true] {
            let (Some(source), Some(target)) = (
                open(&path, direct),
                open(&dir.path().join(format!("{}-{direct}", kind.name)), direct),
            ) else {
                continue;
            };
            let credits = credits(4);
            let mut backend = Mischief::new((kind.make)(4, &credits), 11, direct);
            let mut pump = Pump::new(&mut backend);
            for token in 0..4 {
                let lease = credits.take().unwrap();
                pump.start(backend::read(
                    token,
                    &source,
                    token * SLOT_LEN as u64,
                    lease,
                ));
            }
            while pump.in_flight() > 0 {
                for end in pump.pump() {
                    let (request, len) = match end {
                        End::Done(request) => (request, SLOT_LEN),
                        End::Short(request, len) => (request, len),
                        End::Failed(request, errno) => panic!("{request:?}: {errno}"),
                    };
                    let Op::Read { offset, lease } = request.op else {
                        continue;
                    };
                    let view = lease.freeze(len);
                    pump.start(backend::write(request.token, &target, offset, view));
                }
            }
            assert!(pump.resumed > 4, "no mischief was done");
            let copy = std::fs::read(dir.path().join(format!("{}-{direct}", kind.name)));
            assert!(copy.unwrap() == bytes, "{} direct={direct}", kind.name);
            assert_eq!(credits.free(), 4);
        }
    }
}

#[test]
fn a_backend_says_which_it_is() {
    let credits = credits(1);
    for kind in kinds() {
        let backend = (kind.make)(2, &credits);
        let named = backend.name();
        // Root's memory is not limited, so registration must work there.
        if rustix::process::geteuid().is_root() {
            assert_eq!(named, kind.name);
        } else {
            assert!(kind.name.starts_with(named));
        }
    }
}

#[test]
fn wakers_outlive_their_backend() {
    for kind in kinds() {
        let credits = credits(1);
        let backend = (kind.make)(1, &credits);
        let waker: Arc<dyn Wake> = backend.waker();
        credits.set_waker(Arc::clone(&waker));
        drop(backend);
        waker.wake();
        let lease = credits.take();
        assert!(credits.take().is_none());
        drop(lease);
        assert_eq!(credits.free(), 1);
    }
}
