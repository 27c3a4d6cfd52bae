//! The digest port: any order, any thread, any length gives the standard digest; the workers give
//! every buffer back and confine a panic to its file. Numbers are those of the contract at
//! `inhaul::digest::FileDigest`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use inhaul::buffer::{Arena, Credits, SLOT_LEN};
use inhaul::digest::{
    BLOCK_LEN, Blake3Tree, Bytes, FileDigest, Hash, HashJob, HashPool, block_count,
};
use inhaul::io::Wake;
use ports::{Dice, painted};
use proptest::prelude::*;

const MIB: usize = SLOT_LEN;

/// The bytes of every file here: no two blocks are the same.
static PAINT: LazyLock<Vec<u8>> = LazyLock::new(|| painted(1, 6 * MIB + 1));

fn block(bytes: &[u8], index: u64) -> &[u8] {
    let start = usize::try_from(index * BLOCK_LEN).unwrap();
    &bytes[start..bytes.len().min(start + MIB)]
}

fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut dice = Dice(seed);
    let mut order: Vec<u64> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let other = usize::try_from(dice.below(last as u64 + 1)).unwrap();
        order.swap(last, other);
    }
    order
}

/// Lengths at the edges of blocks and of BLAKE3's own chunks, and any others.
fn lengths() -> impl Strategy<Value = usize> {
    let edge =
        (0..=6usize, -1..=1isize).prop_map(|(blocks, by)| (blocks * MIB).saturating_add_signed(by));
    let chunk = (0..=64usize, -1..=1isize)
        .prop_map(|(chunks, by)| (chunks * 1024).saturating_add_signed(by));
    prop_oneof![2 => edge, 1 => chunk, 2 => 0..=6 * MIB]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // Clauses 1 to 4, straight.
    #[test]
    fn any_order_on_any_thread_gives_the_standard_digest(
        len in lengths(), seed: u64, threads in 1..=4usize,
    ) {
        let bytes = &PAINT[..len];
        let tree = Blake3Tree::new();
        let order = shuffled(block_count(len as u64), seed);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (tree, order) = (&tree, &order);
                scope.spawn(move || {
                    for &index in order.iter().skip(thread).step_by(threads) {
                        tree.absorb(index, block(bytes, index));
                    }
                });
            }
        });
        prop_assert_eq!(tree.finish(len as u64), Some(blake3::hash(bytes)));
        prop_assert_eq!(tree.finish(len as u64), Some(blake3::hash(bytes)), "always the same");
        prop_assert_eq!(tree.ahead(), 0);
    }

    // Clause 4: no digest before the last block, whichever comes last.
    #[test]
    fn one_missing_block_is_no_digest(blocks in 1..=6u64, by in 0..MIB, seed: u64) {
        let len = usize::try_from(blocks).unwrap() * MIB - by;
        let bytes = &PAINT[..len];
        let tree = Blake3Tree::new();
        for index in shuffled(blocks, seed) {
            prop_assert_eq!(tree.finish(len as u64), None);
            tree.absorb(index, block(bytes, index));
        }
        prop_assert_eq!(tree.finish(len as u64), Some(blake3::hash(bytes)));
    }

    // The same through the workers, from buffers that come back, and with holes.
    #[test]
    fn the_workers_give_the_standard_digest(
        len in lengths(), seed: u64, threads in 0..=3usize, holes: u8,
    ) {
        let mut bytes = PAINT[..len].to_vec();
        let bench = Bench::new(threads, 3);
        let tree = Arc::new(Blake3Tree::new());
        for index in shuffled(block_count(len as u64), seed) {
            let start = usize::try_from(index).unwrap() * MIB;
            let end = len.min(start + MIB);
            let job = if holes >> index & 1 == 1 {
                bytes[start..end].fill(0);
                bench.job(&tree, index, Bytes::Zeros(end - start))
            } else {
                bench.read(&tree, index, &bytes[start..end])
            };
            bench.pool.submit(job);
        }
        bench.settle();
        bench.bell.wait(|| tree.finish(len as u64).is_some());
        prop_assert_eq!(tree.finish(len as u64), Some(blake3::hash(&bytes)));
        prop_assert!(!bench.failed.load(Relaxed));
    }
}

/// Counts wake-ups and lets somebody wait for them.
#[derive(Debug, Default)]
struct Bell {
    rings: Mutex<usize>,
    rang: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rang.notify_all();
    }
}

impl Bell {
    fn wait(&self, mut until: impl FnMut() -> bool) {
        let mut rings = self.rings.lock().unwrap();
        while !until() {
            let (held, timeout) = self
                .rang
                .wait_timeout(rings, Duration::from_secs(60))
                .unwrap();
            rings = held;
            assert!(!timeout.timed_out(), "nobody was woken");
        }
    }
}

/// Workers, buffers and whoever waits for them.
struct Bench {
    pool: HashPool,
    credits: Credits,
    bell: Arc<Bell>,
    failed: Arc<AtomicBool>,
    slots: usize,
}

impl Bench {
    fn new(threads: usize, slots: usize) -> Self {
        let bell = Arc::new(Bell::default());
        let credits = Arena::new(slots).unwrap().lend(slots).unwrap();
        credits.set_waker(Arc::clone(&bell) as Arc<dyn Wake>);
        Self {
            pool: HashPool::new(threads).unwrap(),
            credits,
            bell,
            failed: Arc::default(),
            slots,
        }
    }

    fn job(&self, digest: &Arc<impl FileDigest + 'static>, index: u64, bytes: Bytes) -> HashJob {
        HashJob {
            digest: Arc::clone(digest) as Arc<dyn FileDigest>,
            index,
            bytes,
            waker: Arc::clone(&self.bell) as Arc<dyn Wake>,
            failed: Arc::clone(&self.failed),
        }
    }

    /// Takes a buffer, waiting for one if need be, and "reads" into it.
    fn read(&self, digest: &Arc<impl FileDigest + 'static>, index: u64, bytes: &[u8]) -> HashJob {
        let mut lease = None;
        self.bell.wait(|| {
            lease = self.credits.take();
            lease.is_some()
        });
        let mut lease = lease.unwrap();
        lease.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        self.job(digest, index, Bytes::View(lease.freeze(bytes.len())))
    }

    /// Waits until every buffer is back.
    fn settle(&self) {
        self.bell.wait(|| self.credits.free() == self.slots);
    }
}

/// Holds every worker until it is opened; panics on one block.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    absorbed: AtomicUsize,
    threads: Mutex<Vec<std::thread::ThreadId>>,
    panic_on: Option<u64>,
}

impl Gate {
    fn opened(panic_on: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(true),
            panic_on,
            ..Self::default()
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl FileDigest for Gate {
    fn absorb(&self, index: u64, _bytes: &[u8]) {
        self.threads
            .lock()
            .unwrap()
            .push(std::thread::current().id());
        let caller = std::thread::current()
            .name()
            .is_none_or(|name| !name.starts_with("hash-"));
        let mut open = self.open.lock().unwrap();
        while !*open && !caller {
            open = self.opened.wait(open).unwrap();
        }
        drop(open);
        assert_ne!(Some(index), self.panic_on, "a bug in a digest");
        self.absorbed.fetch_add(1, Relaxed);
    }

    fn finish(&self, _len: u64) -> Option<Hash> {
        None
    }
}

#[test]
fn when_all_workers_are_busy_the_caller_hashes() {
    let bench = Bench::new(2, 16);
    let gate = Arc::new(Gate::default());
    let here = std::thread::current().id();
    let by_me = || {
        gate.threads
            .lock()
            .unwrap()
            .iter()
            .filter(|&&id| id == here)
            .count()
    };
    // Two with the workers, four times as many in the queue: the rest is ours, one by one. How
    // many the workers have taken by then is up to them.
    let (least, most) = (2 * 4, 2 * 4 + 2);
    for index in 0..16 {
        bench.pool.submit(bench.read(&gate, index, b"x"));
    }
    assert!((16 - most..=16 - least).contains(&by_me()), "{}", by_me());
    assert_eq!(gate.absorbed.load(Relaxed), by_me());
    assert_eq!(
        bench.credits.free(),
        by_me(),
        "ours are back, theirs are not"
    );
    gate.open();
    bench.settle();
    assert_eq!(gate.absorbed.load(Relaxed), 16);
}

#[test]
fn a_panic_fails_its_file_and_nothing_else() {
    for threads in [0, 1, 2] {
        let bench = Bench::new(threads, 4);
        let broken = Gate::opened(Some(3));
        let other = Bench {
            pool: HashPool::new(0).unwrap(),
            ..Bench::new(0, 1)
        };
        let tree = Arc::new(Blake3Tree::new());
        let bytes = &PAINT[..5 * MIB + 5];
        // More blocks than the queue takes, so that the caller meets the panic, too.
        for round in 0..20 {
            bench.pool.submit(bench.read(&broken, 3, b"x"));
            if round < 6 {
                let mut job = bench.read(&tree, round, block(bytes, round));
                job.failed = Arc::clone(&other.failed);
                bench.pool.submit(job);
            }
            bench.pool.submit(bench.read(&broken, 4, b"x"));
        }
        bench.settle();
        assert!(
            bench.failed.load(Relaxed),
            "{threads}: the lane must hear of it"
        );
        assert_eq!(broken.absorbed.load(Relaxed), 20, "the workers go on");
        assert!(!other.failed.load(Relaxed));
        assert_eq!(tree.finish(bytes.len() as u64), Some(blake3::hash(bytes)));
    }
}

#[test]
fn dropping_the_pool_finishes_what_is_queued() {
    let bench = Bench::new(1, 5);
    let gate = Arc::new(Gate::default());
    for index in 0..5 {
        bench.pool.submit(bench.read(&gate, index, b"x"));
    }
    gate.open();
    drop(bench.pool);
    assert_eq!(gate.absorbed.load(Relaxed), 5);
    assert_eq!(bench.credits.free(), 5);
}

#[test]
fn every_job_wakes_its_lane() {
    let bench = Bench::new(2, 8);
    let tree = Gate::opened(Some(7));
    for index in 0..8 {
        bench.pool.submit(bench.read(&tree, index, b"x"));
    }
    drop(bench.pool);
    // A buffer that was waited for rings, too; here none was.
    assert_eq!(*bench.bell.rings.lock().unwrap(), 8);
}

// Clause 5, for the order in which a drive is read: a few blocks in flight, one often late.
#[test]
fn a_long_file_read_in_order_keeps_no_more_than_is_in_flight() {
    let tree = Blake3Tree::new();
    let bytes = &PAINT[..MIB];
    let (blocks, depth) = (600, 4);
    let mut dice = Dice(7);
    let mut flight: Vec<u64> = Vec::new();
    let mut next = 0;
    let mut oldest = 0;
    while oldest < blocks {
        while flight.len() < depth && next < blocks {
            flight.push(next);
            next += 1;
        }
        // The oldest comes after at most three younger ones.
        let late = next - flight[0] >= 2 * depth as u64;
        let place = if late {
            0
        } else {
            dice.below(flight.len() as u64)
        };
        tree.absorb(flight.remove(usize::try_from(place).unwrap()), bytes);
        oldest = flight.first().copied().unwrap_or(next);
        assert!(tree.ahead() < 2 * depth, "{} values wait", tree.ahead());
    }
    let mut standard = blake3::Hasher::new();
    for _ in 0..blocks {
        standard.update(bytes);
    }
    assert_eq!(tree.finish(blocks * BLOCK_LEN), Some(standard.finalize()));
}
