//! What a journal holds and answers when nothing goes wrong, and its bytes.

mod journal_support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use inhaul::error::ErrorKind;
use inhaul::journal::{
    End, GROUP_AGE_MAX, Grade, Identity, LABEL_LEN_MAX, PATH_LEN_MAX, Position, REASON_LEN_MAX,
    Record, SOURCES_MAX, Stamp, Tail, TargetStamp, VALUES_MAX,
};
use journal_support::{
    Folder, Owned, What, append_all, assert_answers, assert_holds, blocks, done, end, failed, head,
    naming, other, sample, source, verified,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5),
        ..ProptestConfig::default()
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..max / 4).prop_map(|text| text.into_iter().collect())
}

fn identity() -> impl Strategy<Value = Identity> {
    let names = (
        any::<Option<[u8; 16]>>(),
        text(200),
        prop::option::of(text(200)),
    );
    (names, any::<(u64, u64)>()).prop_map(|((uuid, fs_type, serial), (size, root_ino))| Identity {
        fs_uuid: uuid.map(Vec::from),
        fs_type,
        serial,
        size,
        root_ino,
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u64, u64, (i64, u32), (i64, u32))>().prop_map(|(ino, size, mtime, ctime)| Stamp {
        ino,
        size,
        mtime,
        ctime,
    })
}

fn what() -> impl Strategy<Value = What> {
    let target = || any::<(u64, u64, (i64, u32))>();
    let place = (bytes(200), any::<u64>(), any::<u64>(), 0..u64::MAX / 2);
    prop_oneof![
        (identity(), bytes(300), bytes(300)).prop_map(|(i, l, to)| What::Source(i, l, to)),
        (any::<[u8; 32]>(), stamp(), target(), any::<bool>()).prop_map(
            |(digest, stamp, (ino, size, mtime), linked)| {
                What::Done(digest, stamp, TargetStamp { ino, size, mtime }, linked)
            }
        ),
        (place, stamp(), vec(any::<[u8; 32]>(), 1..20)).prop_map(
            |((thread, number, ino, first), stamp, values)| What::Blocks {
                thread,
                number,
                ino,
                stamp,
                first,
                values
            }
        ),
        target().prop_map(|(ino, size, mtime)| What::Naming(TargetStamp { ino, size, mtime })),
        (
            any::<u64>(),
            prop_oneof![Just(Grade::Near), Just(Grade::Medium)]
        )
            .prop_map(|(ino, grade)| What::Verified(ino, grade)),
        (text(200), text(600)).prop_map(|(kind, reason)| What::Failed(kind, reason)),
        Just(What::Other),
        any::<(bool, u8)>().prop_map(|(complete, code)| What::End(complete, code)),
    ]
}

/// Short paths come again; long ones test lengths.
fn record() -> impl Strategy<Value = Owned> {
    let path = prop_oneof![bytes(2), vec(0..4_u8, 1), bytes(300)];
    (what(), 0..SOURCES_MAX, path).prop_map(|(what, source, path)| Owned {
        path: match what {
            What::Source(..) | What::End(..) => Vec::new(),
            _ => path,
        },
        source: if matches!(what, What::End(..)) {
            0
        } else {
            source
        },
        what,
    })
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn what_goes_in_comes_out_and_the_last_word_holds(records in vec(record(), 0..80)) {
        let folder = Folder::new();
        let (first, rest) = records.split_at(records.len() / 2);
        folder.record(first);
        let (loaded, mut writer) = folder.open().unwrap();
        assert_holds(&loaded, first);
        append_all(&mut writer, rest);
        // What was loaded stays as it was.
        assert_holds(&loaded, first);
        let loaded = folder.read().unwrap();
        prop_assert_eq!(loaded.tail(), Tail::Clean);
        prop_assert_eq!(loaded.head(), &head());
        assert_holds(&loaded, &records);

        assert_answers(&loaded, &records, &[]);
    }
}

/// The layout of the documentation, put together here from scratch.
/// A journal of this version, whose only file has these flags.
#[expect(
    clippy::unwrap_used,
    reason = "a helper of tests: what cannot go on has failed"
)]
fn by_hand(version: u8, flags: u8) -> Vec<u8> {
    fn frame(bytes: &mut Vec<u8>, tag: &mut [u8; 16], kind: u8, seq: u64, payload: &[u8]) {
        let start = bytes.len();
        bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.push(kind);
        bytes.extend(seq.to_le_bytes());
        bytes.extend(payload);
        let chained = [&tag[..], &bytes[start..]].concat();
        *tag = *blake3::hash(&chained).as_bytes().first_chunk().unwrap();
        bytes.extend(*tag);
    }
    fn short(bytes: &[u8]) -> Vec<u8> {
        let len = u32::try_from(bytes.len()).unwrap();
        [&len.to_le_bytes(), bytes].concat()
    }
    let mut bytes = b"inhaulj\n\0\0\0\0\x01\0\0\0sixteen bytes!!!".to_vec();
    bytes[8] = version;
    let mut tag = *blake3::hash(&bytes).as_bytes().first_chunk().unwrap();
    let job = [
        short(b"20260101-000000-abcd"),
        vec![9; 32],
        [&[1][..], &short(b"target"), &short(b"ext4"), &[0]].concat(),
        (1_u64 << 40).to_le_bytes().to_vec(),
        2_u64.to_le_bytes().to_vec(),
    ];
    frame(&mut bytes, &mut tag, 1, 0, &job.concat());
    let file = [
        1_u32.to_le_bytes().to_vec(),
        short(b"a/b"),
        vec![4; 32],
        4_u64.to_le_bytes().to_vec(),
        4000_u64.to_le_bytes().to_vec(),
        [&(-5_i64).to_le_bytes()[..], &7_u32.to_le_bytes()].concat(),
        [&(1_i64 << 33).to_le_bytes()[..], &8_u32.to_le_bytes()].concat(),
        54_u64.to_le_bytes().to_vec(),
        4000_u64.to_le_bytes().to_vec(),
        [&(-5_i64).to_le_bytes()[..], &7_u32.to_le_bytes()].concat(),
        vec![flags],
    ];
    frame(&mut bytes, &mut tag, 4, 1, &file.concat());
    frame(&mut bytes, &mut tag, 8, 2, &[1, 0]);
    let name = [
        1_u32.to_le_bytes().to_vec(),
        short(b"a/b"),
        54_u64.to_le_bytes().to_vec(),
        4000_u64.to_le_bytes().to_vec(),
        [&(-5_i64).to_le_bytes()[..], &7_u32.to_le_bytes()].concat(),
    ];
    frame(&mut bytes, &mut tag, 9, 3, &name.concat());
    for (seq, grade) in [(4, 1), (5, 2)] {
        let ino = 54_u64.to_le_bytes();
        let read_back = [&1_u32.to_le_bytes()[..], &short(b"a/b"), &ino, &[grade]];
        frame(&mut bytes, &mut tag, 10, seq, &read_back.concat());
    }
    frame(&mut bytes, &mut tag, 8, 6, &[1, 0]);
    bytes
}

#[test]
fn a_journal_made_by_hand_from_the_layout_is_read() {
    let bytes = by_hand(4, 2);
    let folder = Folder::new();
    folder.set_bytes(&bytes);
    let loaded = folder.read().unwrap();
    assert_eq!(loaded.head(), &head());
    let records = [
        done("a/b", 4),
        end(true, 0),
        naming("a/b", 4),
        verified("a/b", 4, Grade::Near),
        verified("a/b", 4, Grade::Medium),
        end(true, 0),
    ];
    assert_holds(&loaded, &records);
    let expected = End {
        complete: true,
        exit_code: 0,
    };
    assert_eq!(loaded.end(), Some(expected));
    assert_eq!(loaded.trusted_bytes(), bytes.len() as u64);

    // And the same records written by the journal differ in the salt and in the tags alone.
    let ours = Folder::new();
    ours.record(&records);
    let written = ours.bytes();
    assert_eq!(written.len(), bytes.len());
    assert_eq!(written[..16], bytes[..16]);
    let payloads = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let bounds = journal_support::bounds(bytes);
        let frames = bounds.windows(2).map(|b| bytes[b[0]..b[1] - 16].to_vec());
        frames.collect()
    };
    assert_eq!(payloads(&written), payloads(&bytes));
}

#[test]
fn a_journal_of_the_version_before_lacks_nothing_and_others_are_refused() {
    let folder = Folder::new();
    folder.set_bytes(&by_hand(3, 0));
    let loaded = folder.read().unwrap();
    let done = loaded.done_before(b"a/b").unwrap();
    assert_eq!((done.digest, done.lacks), ([4; 32], false));
    for version in [2, 5] {
        folder.set_bytes(&by_hand(version, 0));
        assert!(folder.read().is_err(), "version {version}");
    }
}

#[test]
fn a_new_journal_is_private_and_empty() {
    let folder = Folder::new();
    drop(folder.create());
    let mode = folder.path("journal").metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.dir.path()).unwrap().count(), 1);
    let loaded = folder.read().unwrap();
    assert_eq!(loaded.tail(), Tail::Clean);
    assert_eq!(loaded.end(), None);
    assert_holds(&loaded, &[]);
    assert!(loaded.done(b"x").is_none());
    assert!(loaded.sources().next().is_none());
    // A second one of the name is refused and the first is as it was.
    let error = folder.try_create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_holds(&folder.read().unwrap(), &[]);
}

#[test]
fn what_is_too_long_is_refused_and_harms_nothing() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let now = Instant::now();
    let long_path = |len| {
        let mut record = done("", 1);
        record.path = vec![b'x'; len];
        record
    };
    let with_values = |count| {
        let mut record = blocks("f", 1, 0, &[]);
        if let What::Blocks { values, .. } = &mut record.what {
            values.resize(count, [3; 32]);
        }
        record
    };
    let mut long_label = source(1, "x");
    if let What::Source(_, label, _) = &mut long_label.what {
        label.resize(LABEL_LEN_MAX + 1, b'x');
    }
    for refused in [
        long_path(PATH_LEN_MAX + 1),
        with_values(0),
        with_values(VALUES_MAX + 1),
        long_label,
        source(SOURCES_MAX, "x"),
    ] {
        let error = writer.append(&refused.get(), now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordWrite);
        assert!(!writer.has_failed());
    }
    let mut largest = with_values(VALUES_MAX);
    largest.path = vec![b'y'; PATH_LEN_MAX];
    let longest = [
        long_path(PATH_LEN_MAX),
        largest,
        source(SOURCES_MAX - 1, "x"),
    ];
    append_all(&mut writer, &longest);
    for mut record in [naming("", 1), verified("", 1, Grade::Near)] {
        record.path = vec![b'x'; PATH_LEN_MAX + 1];
        let error = writer.append(&record.get(), now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordWrite);
    }
    // A reason is for reading: its end is cut off, between characters.
    let reason = "\u{e4}".repeat(REASON_LEN_MAX);
    append_all(&mut writer, &[failed("f", &format!("x{reason}"))]);
    let loaded = folder.read().unwrap();
    let kept = format!("x{}", "\u{e4}".repeat(REASON_LEN_MAX / 2 - 1));
    let expected = [&longest[..], &[failed("f", &kept)]].concat();
    assert_holds(&loaded, &expected);
}

#[test]
fn a_group_is_due_after_256_files_or_1_gib_or_1_second() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let start = Instant::now();
    let later = |ms| start + Duration::from_millis(ms);
    assert!(!writer.is_due(later(1_000_000)));
    assert_eq!(writer.deadline(), None);

    // By age, counted from the oldest record, whatever it is.
    writer.append(&failed("x", "y").get(), later(10)).unwrap();
    writer.append(&failed("x", "y").get(), later(900)).unwrap();
    assert_eq!(writer.deadline(), Some(later(1010)));
    assert!(!writer.is_due(later(1009)));
    assert!(writer.is_due(later(1010)));
    writer.commit().unwrap();
    assert!(!writer.is_due(later(5000)));
    assert_eq!(writer.deadline(), None);

    // By files.
    for _ in 0..255 {
        writer.append(&done("x", 0).get(), start).unwrap();
    }
    writer.append(&other("x").get(), start).unwrap();
    assert!(!writer.is_due(start));
    writer.append(&done("x", 0).get(), start).unwrap();
    assert!(writer.is_due(start));
    writer.commit().unwrap();
    assert!(!writer.is_due(start));

    // Neither by names nor by what was read back, but these grow old too.
    for _ in 0..300 {
        writer.append(&naming("x", 200).get(), start).unwrap();
        let read_back = verified("x", 1, Grade::Medium);
        writer.append(&read_back.get(), start).unwrap();
    }
    assert!(!writer.is_due(later(999)));
    assert!(writer.is_due(later(1000)));
    writer.commit().unwrap();
    writer
        .append(&verified("x", 1, Grade::Near).get(), start)
        .unwrap();
    assert_eq!(writer.deadline(), Some(later(1000)));
    writer.commit().unwrap();

    // By bytes: of finished files, and of blocks.
    let mut large = done("x", 0);
    if let What::Done(_, stamp, ..) = &mut large.what {
        stamp.size = (1 << 30) - (2 << 20);
    }
    writer.append(&large.get(), start).unwrap();
    writer
        .append(&blocks("y", 1, 0, &[1]).get(), start)
        .unwrap();
    assert!(!writer.is_due(start));
    writer
        .append(&blocks("y", 1, 1, &[1]).get(), start)
        .unwrap();
    assert!(writer.is_due(start));
}

#[test]
fn nothing_is_written_before_a_commit_and_everything_after_it() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let head_len = folder.bytes().len();
    writer.append(&done("x", 1).get(), Instant::now()).unwrap();
    assert_eq!(folder.bytes().len(), head_len);
    writer.commit().unwrap();
    assert_holds(&folder.read().unwrap(), &[done("x", 1)]);
    // Uncommitted records may be lost with the writer, but never torn.
    writer.append(&done("y", 1).get(), Instant::now()).unwrap();
    drop(writer);
    assert_eq!(folder.read().unwrap().tail(), Tail::Clean);
}

#[test]
fn whoever_reads_is_told_of_each_record() {
    let folder = Folder::new();
    let mut writer = folder.create();
    for record in [naming("x", 1), done("x", 1)] {
        writer.append(&record.get(), Instant::now()).unwrap();
    }
    writer.commit().unwrap();
    let heard = std::cell::Cell::new(0);
    let count = || heard.set(heard.get() + 1);
    let (fd, label) = (folder.fd(), std::path::Path::new("JOB"));
    inhaul::journal::read_heard(fd, label, fd, &count).unwrap();
    assert_eq!(heard.get(), 2);
}

#[test]
fn a_flush_writes_and_leaves_the_rest_to_a_commit() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let now = Instant::now();
    let head = Position {
        segment: 1,
        len: folder.bytes().len() as u64,
    };
    assert_eq!(writer.position(), head);
    writer.flush().unwrap();
    assert_eq!(writer.deadline(), None, "there was nothing to flush");
    writer.append(&naming("x", 1).get(), now).unwrap();
    writer.flush().unwrap();
    assert_holds(&folder.read().unwrap(), &[naming("x", 1)]);
    let flushed = folder.bytes().len();
    // Written, but still to be committed.
    assert_eq!(writer.position(), head);
    assert_eq!(writer.deadline(), Some(now + GROUP_AGE_MAX));
    writer.append(&done("x", 1).get(), now).unwrap();
    assert_eq!(folder.bytes().len(), flushed);
    writer.commit().unwrap();
    let expected = [naming("x", 1), done("x", 1)];
    assert_holds(&folder.read().unwrap(), &expected);
    let len = folder.bytes().len() as u64;
    assert_eq!(writer.position(), Position { segment: 1, len });
    assert_eq!(writer.deadline(), None);
    drop(writer);
    let (_, writer) = folder.open().unwrap();
    assert_eq!(writer.position(), Position { segment: 1, len });
}

#[test]
fn a_loaded_journal_may_be_asked_from_many_threads() {
    let folder = Folder::new();
    let records = sample(2000);
    folder.record(&records);
    let loaded = folder.read().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_answers(&loaded, &records, &[]));
        }
    });
    assert!(matches!(loaded.records().next(), Some(Record::Source(_))));
}
