//! Everything that reads bytes which others may have written, fed with samples that have been cut
//! up, glued together and bent. What must hold of each is in `fuzz/src/lib.rs`; this is the part of
//! it that has its time in the gate.
//!
//! `INHAUL_TEST_SEED=N` rolls the same dice as a run that said so, `INHAUL_FUZZ_SECONDS=N` goes on
//! for longer than a second each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/dice.rs"]
#[allow(dead_code, reason = "others roll more of them")]
mod dice;
mod journal_support;
#[path = "../fuzz/src/lib.rs"]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    reason = "another package's"
)]
mod parsers;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dice::{Dice, seed};
use inhaul::bench::report::{DriveFacts, Measure, Report, Subject};
use journal_support::Folder;

/// An input that is read for longer is one that has no end.
const HANG: Duration = Duration::from_secs(60);
/// Longest input, in bytes: enough for whatever a length or a count can be about.
const LEN_MAX: usize = 1 << 16;

/// Words with a meaning to one reader or another.
const WORDS: [&[u8]; 24] = [
    b"\\",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"  ",
    b"..",
    b"/",
    b"//",
    b"**",
    b"*",
    b"?",
    b"[",
    b"]",
    b"[!",
    b"\\040",
    b" - ",
    b"null",
    b"{\"hex\":\"ff\"}",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"\xff\xfe",
    b"GiB",
];

/// Bends samples into inputs.
struct Mutator<'s> {
    samples: &'s [Vec<u8>],
    dice: Dice,
}

impl Mutator<'_> {
    /// Returns an input: a sample after a few changes.
    fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.sample();
        for _ in 0..=self.dice.below(6) {
            self.bend(&mut bytes);
            bytes.truncate(LEN_MAX);
        }
        bytes
    }

    fn sample(&mut self) -> Vec<u8> {
        self.samples[self.dice.index(self.samples.len())].clone()
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.dice.index(len + 1);
        let most = (len - start).min(1 << self.dice.below(12));
        start..start + self.dice.index(most + 1)
    }

    fn bend(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self.dice.below(9) {
            0 if len > 0 => {
                let at = self.dice.index(len);
                bytes[at] ^= 1 << self.dice.below(8);
            }
            1 if len > 0 => {
                let at = self.dice.index(len);
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'/'][self.dice.index(7)];
            }
            // A number, little endian, that is too large or nearly so.
            2 if len >= 8 => {
                let at = self.dice.index(len - 7);
                let width = 1 << self.dice.below(4);
                let number = [0, 1, u64::MAX, u64::MAX >> 1, 1 << 32, 1 << 20][self.dice.index(6)];
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            3 => {
                let range = self.range(len);
                bytes.drain(range);
            }
            4 => bytes.truncate(self.dice.index(len + 1)),
            5 => {
                let piece = bytes[self.range(len)].to_vec();
                let at = self.dice.index(len + 1);
                bytes.splice(at..at, piece);
            }
            6 => {
                let other = self.sample();
                let piece = other[self.range(other.len())].to_vec();
                let range = self.range(len);
                bytes.splice(range, piece);
            }
            _ => {
                let word = WORDS[self.dice.index(WORDS.len())];
                let times = [1, 1, 2, 1000][self.dice.index(4)];
                let at = self.dice.index(len + 1);
                bytes.splice(at..at, word.repeat(times));
            }
        }
    }
}

/// Feeds a reader for its time.
fn feed(name: &str, samples: Vec<Vec<u8>>) {
    let seed = seed();
    let seconds = std::env::var("INHAUL_FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let mut targets = parsers::TARGETS.into_iter();
    let (_, target) = targets.find(|(it, _)| *it == name).unwrap();
    let (input, count) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicU64::new(0)),
    );
    let worker = {
        let (input, count) = (Arc::clone(&input), Arc::clone(&count));
        move || {
            let began = Instant::now();
            let mut mutator = Mutator {
                samples: &samples,
                dice: Dice::new(seed),
            };
            for sample in &samples {
                target(sample);
            }
            while began.elapsed() < Duration::from_secs(seconds) {
                let next = mutator.next();
                input.lock().unwrap().clone_from(&next);
                target(&next);
                count.fetch_add(1, Relaxed);
            }
        }
    };
    let thread = std::thread::spawn(worker);
    let mut moved = (0, Instant::now());
    while !thread.is_finished() && moved.1.elapsed() < HANG {
        std::thread::sleep(Duration::from_millis(20));
        let now = count.load(Relaxed);
        if now != moved.0 {
            moved = (now, Instant::now());
        }
    }
    let is_sound = thread.is_finished() && thread.join().is_ok();
    eprintln!(
        "fuzz {name}: {} inputs from INHAUL_TEST_SEED={seed}",
        moved.0
    );
    let input = input.lock().unwrap().escape_ascii().to_string();
    assert!(
        is_sound,
        "{name}: INHAUL_TEST_SEED={seed}, its last input: {input}"
    );
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Returns journals: one with something of everything, one with nothing.
fn journals() -> Vec<Vec<u8>> {
    [40, 0]
        .into_iter()
        .map(|count| {
            let folder = Folder::new();
            folder.record(&journal_support::sample(count));
            folder.bytes()
        })
        .collect()
}

#[test]
fn journals_of_any_bytes() {
    feed("journal", journals());
}

#[test]
fn journals_of_sound_frames_with_any_payload() {
    let frames = journals().into_iter().map(|bytes| {
        let mut frames = Vec::new();
        for ends in journal_support::bounds(&bytes).windows(2) {
            let frame = &bytes[ends[0]..ends[1]];
            // What is left of a frame without its number and its tag.
            let payload = &frame[13..frame.len() - 16];
            frames.push(frame[4]);
            frames.extend(u16::try_from(payload.len()).unwrap().to_le_bytes());
            frames.extend(payload);
        }
        frames
    });
    let frames: Vec<_> = frames.collect();
    // What is tagged here is a journal like any other.
    let folder = Folder::new();
    folder.set_bytes(&parsers::segment(&frames[0]));
    assert!(folder.read().unwrap().done_count() > 0);
    feed("journal_frames", frames);
}

#[test]
fn manifests_of_any_bytes() {
    let digest = "0123456789abcdef".repeat(4);
    let lines = [
        format!("{digest}  d1/a\n{digest}  d1/b c\n"),
        format!("\\{digest}  d1/new\\nline\n"),
        format!("{digest}  d1/any\u{ff}\0{digest}  d1/more\0"),
    ];
    feed("manifest", lines.map(String::into_bytes).to_vec());
}

#[test]
fn recipes_of_any_bytes() {
    let whole = r#"{"version":1,"folder":"/srv","sources":["/mnt/d1",{"hex":"2fff"}],
        "target":"in","filter":[{"include":"keep.tmp"},{"exclude":{"hex":"2aff"}}],
        "files_from":["a",{"hex":"62ff"}],"existing":"refuse",
        "preserve":{"setid":false,"caps":true,"special":false},"verify":"target",
        "salvage":true,"io":"auto","memory":536870912,"bwlimit":1000000}"#;
    let label = std::path::Path::new("JOB");
    let read = inhaul::engine::Recipe::from_json(whole.as_bytes(), label);
    assert!(read.is_ok(), "the sample is one: {read:?}");
    feed("recipe", texts(&[whole]));
}

#[test]
fn lists_of_files_of_any_bytes() {
    feed(
        "files_from",
        texts(&["a/b\n./c//d\n#no\n;no\n/e\r\n\n", "a\0b/../c\0d\0"]),
    );
}

#[test]
fn lists_of_patterns_of_any_bytes() {
    let lists = [
        "*.tmp\n+ keep/**/x\n- /top/[a-z]?\n# no\n",
        "**/*a*b*c*d*e*\0[!x]\0\\*\0",
    ];
    feed("patterns", texts(&lists));
}

#[test]
fn tables_of_mounts_of_any_bytes() {
    let mut tables = texts(&[
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
        "40 1 0:30 / /o rw - overlay overlay rw,lowerdir=/a\\054b:/c,upperdir=/u,workdir=/w\n",
    ]);
    tables.extend(std::fs::read("/proc/self/mountinfo"));
    feed("mount_table", tables);
}

#[test]
fn notes_of_copies_of_any_bytes() {
    feed("registry", texts(&["/tank/in", "/proc", "relative/in"]));
}

#[test]
fn reports_of_benches_of_any_bytes() {
    let mut report = Report {
        kind: "bench".to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        ..Report::default()
    };
    report.subjects.push(Subject {
        name: "sdb".to_owned(),
        drives: vec![DriveFacts {
            serial: Some("Z1".to_owned()),
            ..DriveFacts::default()
        }],
        read: Some(Measure {
            rate: 2e8,
            samples: vec![2e8; 3],
            ..Measure::default()
        }),
        ..Subject::default()
    });
    let whole = serde_json::to_vec(&report).unwrap();
    let bare = serde_json::to_vec(&Report::default()).unwrap();
    feed("bench_report", vec![whole, bare]);
}

#[test]
fn sizes_of_any_text() {
    feed(
        "sizes",
        texts(&["512MiB", "1.5 GB", "0", "25MB", "18446744073709551615"]),
    );
}

#[test]
fn every_reader_is_fed() {
    let source = std::fs::read_to_string(file!()).unwrap();
    for (name, _) in parsers::TARGETS {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
        let fuzzed = format!("fuzz/fuzz_targets/{name}.rs");
        assert!(std::path::Path::new(&fuzzed).is_file(), "{fuzzed}");
    }
}
