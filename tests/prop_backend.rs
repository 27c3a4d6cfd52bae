//! Random operations through each backend do to a file what plain `pread` and `pwrite` do.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of test functions"
)]

mod backend;

use std::path::Path;

use backend::{Dice, End, Kind, Mischief, Pump};
use inhaul::buffer::Credits;
use inhaul::io::{Backend, Op};
use proptest::prelude::*;

/// The longest file, in bytes; small, so that operations meet.
const SPACE: usize = 256 << 10;
/// The longest operation.
const LONGEST: usize = 64 << 10;
const DEPTH: usize = 6;

/// One operation of the test, in bytes.
#[derive(Debug, Clone)]
struct Act {
    writes: bool,
    offset: usize,
    len: usize,
    paint: u8,
}

impl Act {
    fn meets(&self, other: &Self) -> bool {
        (self.writes || other.writes)
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = (any::<bool>(), 0..SPACE, 1..=LONGEST, any::<u8>()).prop_map(
        |(writes, offset, len, paint)| Act {
            writes,
            offset,
            len,
            paint,
        },
    );
    prop::collection::vec(act, 100..300)
}

/// Returns the same operations on whole blocks, as O_DIRECT wants them.
fn aligned(acts: &[Act]) -> Vec<Act> {
    acts.iter()
        .map(|act| Act {
            offset: act.offset - act.offset % 4096,
            len: act.len.next_multiple_of(4096),
            ..act.clone()
        })
        .collect()
}

/// What must come back for a read: the bytes the other file has there.
fn expected(file: &std::fs::File, act: &Act) -> Vec<u8> {
    let mut bytes = vec![0; act.len];
    let mut len = 0;
    while len < act.len {
        match rustix::io::pread(file, &mut bytes[len..], (act.offset + len) as u64).unwrap() {
            0 => break,
            n => len += n,
        }
    }
    bytes.truncate(len);
    bytes
}

fn plain_write(file: &std::fs::File, act: &Act) {
    let bytes = backend::painted(act.len, act.paint);
    let mut len = 0;
    while len < act.len {
        len += rustix::io::pwrite(file, &bytes[len..], (act.offset + len) as u64).unwrap();
    }
}

/// Checks how a request ended against what the plain calls said.
fn check(end: End, acts: &[Act], wanted: &mut [Vec<u8>]) {
    let (request, len) = match end {
        End::Done(request) => (request, None),
        End::Short(request, len) => (request, Some(len)),
        End::Failed(request, errno) => panic!("{request:?}: {errno}"),
    };
    let index = usize::try_from(request.token).unwrap();
    let act = &acts[index];
    match request.op {
        Op::Read { lease, .. } => {
            let view = lease.freeze(len.unwrap_or(act.len));
            assert!(*view == *std::mem::take(&mut wanted[index]), "{act:?}");
        }
        Op::Write { view, .. } => {
            assert_eq!((len, view.len()), (None, act.len));
            assert!(*view == *backend::painted(act.len, act.paint), "{act:?}");
        }
        Op::WriteBack { .. } | Op::Sync => unreachable!("none was submitted"),
    }
}

/// Runs the operations through a backend and, by plain calls, on a second file; compares.
/// Operations that meet wait for each other, as their order is nobody's promise.
fn run(backend: &mut dyn Backend, credits: &Credits, acts: &[Act], direct: bool) {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = backend::open(&dir.path().join("ours"), direct) else {
        return;
    };
    let plain_path = dir.path().join("plain");
    let plain = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&plain_path)
        .unwrap();
    // Every other case starts with the file at its full length. There, reads and writes run at the
    // same time; where the end of the file moves, they take turns, as reads look at it.
    let full = acts.len().is_multiple_of(2);
    if full {
        let len = (SPACE + LONGEST) as u64;
        rustix::fs::ftruncate(&file, len).unwrap();
        plain.set_len(len).unwrap();
    }
    let mut wanted: Vec<Vec<u8>> = vec![Vec::new(); acts.len()];
    let mut pump = Pump::new(backend);
    let mut running: Vec<usize> = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        let clashes = |&other: &usize| {
            let other = &acts[other];
            other.meets(act) || (!full && other.writes != act.writes)
        };
        while pump.in_flight() == DEPTH || running.iter().any(clashes) {
            for end in pump.pump() {
                let token = match &end {
                    End::Done(r) | End::Short(r, _) | End::Failed(r, _) => r.token,
                };
                running.retain(|&other| other as u64 != token);
                check(end, acts, &mut wanted);
            }
        }
        running.push(index);
        let (token, offset) = (index as u64, act.offset as u64);
        if act.writes {
            plain_write(&plain, act);
            let view = backend::view(credits, &backend::painted(act.len, act.paint));
            pump.start(backend::write(token, &file, offset, view));
        } else {
            wanted[index] = expected(&plain, act);
            let lease = backend::lease(credits, act.len);
            pump.start(backend::read(token, &file, offset, lease));
        }
    }
    while pump.in_flight() > 0 {
        for end in pump.pump() {
            check(end, acts, &mut wanted);
        }
    }
    same(&dir.path().join("ours"), &plain_path);
    assert_eq!(credits.free(), credits.total(), "a slot is missing");
}

fn same(ours: &Path, plain: &Path) {
    let (ours, plain) = (std::fs::read(ours).unwrap(), std::fs::read(plain).unwrap());
    assert_eq!(ours.len(), plain.len());
    assert!(ours == plain, "the files differ");
}

fn each(acts: &[Act], check: impl Fn(Kind, &[Act], bool)) {
    for kind in backend::kinds() {
        check(kind, acts, false);
        check(kind, &aligned(acts), true);
    }
}

proptest! {
    // 12 cases of 200 operations, 3 backends, buffered and direct: 14,400 operations a property.
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(20_260_901),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_backend_does_what_plain_calls_do(acts in acts()) {
        each(&acts, |kind, acts, direct| {
            let credits = backend::credits(DEPTH);
            let mut backend = (kind.make)(DEPTH, &credits);
            run(&mut *backend, &credits, acts, direct);
        });
    }

    #[test]
    fn a_mischievous_backend_does_too_once_resumed(acts in acts(), seed in any::<u64>()) {
        each(&acts, |kind, acts, direct| {
            let credits = backend::credits(DEPTH);
            let inner = (kind.make)(DEPTH, &credits);
            let mut backend = Mischief::new(inner, seed, direct);
            run(&mut backend, &credits, acts, direct);
        });
    }
}

#[test]
fn the_dice_fall_on_every_side() {
    let mut dice = Dice(7);
    let mut seen = [false; 5];
    for _ in 0..100 {
        seen[dice.below(5)] = true;
    }
    assert_eq!(seen, [true; 5]);
}
