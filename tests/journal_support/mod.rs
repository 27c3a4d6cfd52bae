//! Scratch folders, records that own what they name, and frame boundaries found without the code
//! under test.

#![allow(dead_code, reason = "every test binary uses another part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use inhaul::error::{Error, ErrorKind};
use inhaul::journal::{
    self, Blocks, Done, End, Failed, Grade, Identity, JobHead, Loaded, Naming, Other, Record,
    Source, Stage, Stamp, TargetStamp, Verified, Writer,
};

pub(crate) const HEADER_LEN: usize = 32;
const FRAME_LEN_MIN: usize = 29;

/// A folder to keep journals in.
pub(crate) struct Folder {
    pub(crate) dir: tempfile::TempDir,
    handle: File,
}

impl Folder {
    /// In memory where that is possible: thousands of syncs then take no time.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::of(dir.unwrap())
    }

    pub(crate) fn of(dir: tempfile::TempDir) -> Self {
        let handle = File::open(dir.path()).unwrap();
        Self { dir, handle }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn create(&self) -> Writer {
        self.try_create().unwrap()
    }

    pub(crate) fn try_create(&self) -> Result<Writer, Error> {
        journal::create(self.fd(), Path::new("JOB"), &head())
    }

    pub(crate) fn open(&self) -> Result<(Loaded, Writer), Error> {
        journal::open(self.fd(), Path::new("JOB"))
    }

    pub(crate) fn read(&self) -> Result<Loaded, Error> {
        journal::read(self.fd(), Path::new("JOB"), self.fd())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path("journal")).unwrap()
    }

    pub(crate) fn set_bytes(&self, bytes: &[u8]) {
        std::fs::write(self.path("journal"), bytes).unwrap();
    }

    /// Makes a journal of these records, in one group.
    pub(crate) fn record(&self, records: &[Owned]) {
        append_all(&mut self.create(), records);
    }
}

pub(crate) fn append_all(writer: &mut Writer, records: &[Owned]) {
    let now = Instant::now();
    for record in records {
        writer.append(&record.get(), now).unwrap();
    }
    writer.commit().unwrap();
}

/// A writer that has failed once fails for good.
pub(crate) fn assert_latched(writer: &mut Writer) {
    assert!(writer.has_failed());
    let now = Instant::now();
    for _ in 0..3 {
        let error = writer.append(&done("late", 1).get(), now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordWrite);
        assert!(error.reason().contains("failed earlier"), "{error}");
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::RecordWrite);
        assert_eq!(writer.commit().unwrap_err().kind(), ErrorKind::RecordWrite);
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        fs_uuid: Some(name.as_bytes().to_vec()),
        fs_type: "ext4".to_owned(),
        serial: None,
        size: 1 << 40,
        root_ino: 2,
    }
}

pub(crate) fn head() -> JobHead {
    JobHead {
        job: "20260101-000000-abcd".to_owned(),
        options: [9; 32],
        target: identity("target"),
    }
}

/// A [`Record`] with names of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) what: What,
    pub(crate) source: u32,
    pub(crate) path: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Source(Identity, Vec<u8>, Vec<u8>),
    Naming(TargetStamp),
    Done([u8; 32], Stamp, TargetStamp, bool),
    /// Of the file with this inode number.
    Verified(u64, Grade),
    Blocks {
        thread: Vec<u8>,
        number: u64,
        ino: u64,
        stamp: Stamp,
        first: u64,
        values: Vec<[u8; 32]>,
    },
    Failed(String, String),
    Other,
    End(bool, u8),
}

impl Owned {
    pub(crate) fn get(&self) -> Record<'_> {
        let (source, target_path) = (self.source, self.path.as_slice());
        match &self.what {
            What::Source(identity, label, landing) => Record::Source(Source {
                index: source,
                identity: identity.clone(),
                label: label.clone(),
                landing: landing.clone(),
            }),
            What::Naming(target_stamp) => Record::Naming(Naming {
                source,
                target_path,
                target_stamp: *target_stamp,
            }),
            What::Verified(target_ino, grade) => Record::Verified(Verified {
                source,
                target_path,
                target_ino: *target_ino,
                grade: *grade,
            }),
            What::Done(digest, source_stamp, target_stamp, linked) => Record::Done(Done {
                source,
                target_path,
                digest: *digest,
                source_stamp: *source_stamp,
                target_stamp: *target_stamp,
                linked: *linked,
                lacks: !target_stamp.size.is_multiple_of(3),
            }),
            What::Blocks {
                thread,
                number,
                ino,
                stamp,
                first,
                values,
            } => Record::Blocks(Blocks {
                source,
                target_path,
                stage: Stage {
                    thread,
                    number: *number,
                },
                stage_ino: *ino,
                source_stamp: *stamp,
                first_block: *first,
                values,
            }),
            What::Failed(kind, reason) => Record::Failed(Failed {
                source,
                target_path,
                kind,
                reason,
            }),
            What::Other => Record::Other(Other {
                source,
                target_path,
                source_stamp: Stamp::default(),
                target_stamp: TargetStamp::default(),
                linked: true,
                lacks: true,
            }),
            What::End(complete, exit_code) => Record::End(End {
                complete: *complete,
                exit_code: *exit_code,
            }),
        }
    }
}

pub(crate) fn stamp(n: u64) -> Stamp {
    Stamp {
        ino: n,
        size: n * 1000,
        mtime: (-5, 7),
        ctime: (1 << 33, 8),
    }
}

pub(crate) fn done(path: &str, n: u8) -> Owned {
    let source_stamp = stamp(u64::from(n));
    let target_stamp = TargetStamp {
        ino: 50 + u64::from(n),
        size: source_stamp.size,
        mtime: source_stamp.mtime,
    };
    Owned {
        what: What::Done([n; 32], source_stamp, target_stamp, n.is_multiple_of(3)),
        source: 1,
        path: path.into(),
    }
}

pub(crate) fn failed(path: &str, reason: &str) -> Owned {
    Owned {
        what: What::Failed("source-read".to_owned(), reason.to_owned()),
        source: 1,
        path: path.into(),
    }
}

/// Blocks of the copy staged under `number`, whose values are the numbers `values`.
pub(crate) fn blocks(path: &str, number: u64, first: u64, values: &[u8]) -> Owned {
    Owned {
        what: What::Blocks {
            thread: b"w0".to_vec(),
            number,
            ino: 1000 + number,
            stamp: stamp(3),
            first,
            values: values.iter().map(|&n| [n; 32]).collect(),
        },
        source: 0,
        path: path.into(),
    }
}

pub(crate) fn source(index: u32, name: &str) -> Owned {
    Owned {
        what: What::Source(identity(name), name.into(), b"in".to_vec()),
        source: index,
        path: Vec::new(),
    }
}

pub(crate) fn other(path: &str) -> Owned {
    Owned {
        what: What::Other,
        source: 2,
        path: path.into(),
    }
}

pub(crate) fn end(complete: bool, exit_code: u8) -> Owned {
    Owned {
        what: What::End(complete, exit_code),
        source: 0,
        path: Vec::new(),
    }
}

/// What [`done`] with the same arguments is named as.
pub(crate) fn naming(path: &str, n: u8) -> Owned {
    let target_stamp = TargetStamp {
        ino: 50 + u64::from(n),
        size: u64::from(n) * 1000,
        mtime: (-5, 7),
    };
    Owned {
        what: What::Naming(target_stamp),
        source: 1,
        path: path.into(),
    }
}

/// Says that what [`done`] says of `path` with this number was read back.
pub(crate) fn verified(path: &str, n: u8, grade: Grade) -> Owned {
    Owned {
        what: What::Verified(50 + u64::from(n), grade),
        source: 1,
        path: path.into(),
    }
}

/// Records of every kind, with paths that come again.
pub(crate) fn sample(count: usize) -> Vec<Owned> {
    let path = |n: usize| format!("d/f{}", n % 60);
    (0..count)
        .map(|n| {
            let byte = u8::try_from(n % 251).unwrap();
            // The number of the record ten before.
            let last = u8::try_from((n + 251 - 10) % 251).unwrap();
            match n % 13 {
                0 => source(u32::from(byte), "drive"),
                3 => failed(&path(n), "read: Input/output error"),
                5 => blocks(&path(n), 1, 0, &[byte, byte + 1]),
                6 => blocks(&path(n - 1), 1, 2, &[byte]),
                7 | 10 => naming(&path(n), byte),
                8 => other(&path(n)),
                9 if n.is_multiple_of(2) => end(false, 75),
                // Of a file done a few records ago.
                11 => naming(&path(n - 7), byte),
                12 if n.is_multiple_of(2) => verified(&path(n - 10), last, Grade::Near),
                12 => verified(&path(n - 10), last, Grade::Medium),
                _ => done(&path(n), byte),
            }
        })
        .collect()
}

/// Returns where each frame begins, and the end, going by the lengths alone.
pub(crate) fn bounds(bytes: &[u8]) -> Vec<usize> {
    let mut at = HEADER_LEN;
    let mut bounds = vec![at];
    while at < bytes.len() {
        let len = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        at += FRAME_LEN_MIN + len as usize;
        bounds.push(at);
    }
    assert_eq!(at, bytes.len());
    bounds
}

/// Says what is in a journal, whole, to compare.
pub(crate) fn assert_holds(loaded: &Loaded, expected: &[Owned]) {
    let mut records = loaded.records();
    for record in expected {
        assert_eq!(records.next(), Some(record.get()));
    }
    assert_eq!(records.next(), None);
}

/// What a journal ought to answer for a path.
#[derive(Default)]
struct Answers<'a> {
    state: Option<Record<'a>>,
    before: Option<Done<'a>>,
    grade: Option<Grade>,
}

impl<'a> Answers<'a> {
    fn after(records: &'a [Owned], path: &[u8]) -> Self {
        let mut answers = Self::default();
        for record in records.iter().filter(|record| record.path == path) {
            let before = match (record.get(), &answers.state) {
                (Record::Verified(verified), Some(Record::Done(done)))
                    if done.target_stamp.ino == verified.target_ino =>
                {
                    answers.grade = answers.grade.max(Some(verified.grade));
                    continue;
                }
                (Record::Naming(_), Some(Record::Done(done))) => Some(*done),
                (Record::Naming(_), Some(Record::Naming(_))) => answers.before,
                (Record::Naming(_) | Record::Done(_) | Record::Failed(_) | Record::Other(_), _) => {
                    None
                }
                _ => continue,
            };
            answers = Self {
                state: Some(record.get()),
                before,
                grade: None,
            };
        }
        answers
    }
}

/// Compares every answer by path with what the records for it say.
pub(crate) fn assert_answers(loaded: &Loaded, expected: &[Owned], also: &[Owned]) {
    let (mut done_count, mut linked_count, mut failed_count) = (0, 0, 0);
    let mut seen = std::collections::HashSet::new();
    for path in expected.iter().chain(also).map(|record| &record.path) {
        if !seen.insert(path) {
            continue;
        }
        let answers = Answers::after(expected, path);
        let (mut done, mut naming, mut failed, mut is_dir) = (None, None, None, false);
        match answers.state {
            Some(Record::Done(record)) => done = Some(record),
            Some(Record::Naming(record)) => naming = Some(record),
            Some(Record::Failed(record)) => failed = Some(record),
            Some(Record::Other(_)) => is_dir = true,
            _ => {}
        }
        assert_eq!(loaded.done(path), done);
        assert_eq!(loaded.verified(path), answers.grade);
        assert_eq!(loaded.naming(path), naming);
        assert_eq!(loaded.done_before(path), answers.before);
        assert_eq!(loaded.failed(path), failed);
        assert_eq!(loaded.other(path).is_some(), is_dir);
        done_count += u64::from(done.is_some());
        // Every symlink of these tests has several names.
        linked_count += u64::from(done.is_some_and(|done| done.linked)) + u64::from(is_dir);
        failed_count += u64::from(failed.is_some());
    }
    assert_eq!(loaded.done_count(), done_count);
    assert_eq!(loaded.linked_count(), linked_count);
    assert_eq!(loaded.failed_count(), failed_count);
    assert_eq!(loaded.iter_done().count() as u64, done_count);
    assert_eq!(loaded.iter_failed().count() as u64, failed_count);
}
