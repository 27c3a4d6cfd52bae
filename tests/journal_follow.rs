//! Reading behind a writer: all that was committed, in order, and nothing that was not.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

mod journal_support;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use inhaul::error::{Error, ErrorKind};
use inhaul::journal::{Follower, Grade, PATH_LEN_MAX, Position, Record, Writer};
use journal_support::{Folder, Owned, append_all, bounds, done, naming, other, sample, verified};

fn follow(folder: &Folder, from: Position) -> Follower {
    try_follow(folder, from).unwrap()
}

fn try_follow(folder: &Folder, from: Position) -> Result<Follower, Error> {
    Follower::new(folder.fd(), Path::new("JOB"), from)
}

/// Asserts that exactly these records come up to `upto`.
fn assert_next(follower: &mut Follower, upto: Position, expected: &[Owned]) {
    let (count, result) = count_next(follower, upto, expected);
    result.unwrap();
    assert_eq!(count, expected.len());
}

/// Asserts that what comes are the first of these records; returns how many, and the answer.
fn count_next(
    follower: &mut Follower,
    upto: Position,
    expected: &[Owned],
) -> (usize, Result<(), Error>) {
    let mut count = 0;
    let result = follower.next(upto, &mut |record| {
        assert_eq!(record, expected[count].get());
        count += 1;
        ControlFlow::Continue(())
    });
    (count, result)
}

fn assert_corrupt(follower: &mut Follower, upto: Position) {
    let (count, result) = count_next(follower, upto, &[]);
    assert_eq!(count, 0);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::RecordCorrupt);
}

fn in_first(len: usize) -> Position {
    Position {
        segment: 1,
        len: len as u64,
    }
}

/// Commits each record on its own; returns the position before the first and after each.
fn positions(writer: &mut Writer, records: &[Owned]) -> Vec<Position> {
    let mut positions = vec![writer.position()];
    for record in records {
        append_all(writer, std::slice::from_ref(record));
        positions.push(writer.position());
    }
    positions
}

#[test]
fn what_is_committed_comes_and_what_is_only_written_does_not() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let mut follower = follow(&folder, writer.position());
    assert_next(&mut follower, writer.position(), &[]);
    let records = sample(300);
    let mut rest = &records[..];
    for count in (0..40).cycle() {
        let (group, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        for record in group {
            writer.append(&record.get(), Instant::now()).unwrap();
        }
        assert_next(&mut follower, writer.position(), &[]);
        writer.flush().unwrap();
        assert_next(&mut follower, writer.position(), &[]);
        writer.commit().unwrap();
        assert_next(&mut follower, writer.position(), group);
        assert_next(&mut follower, writer.position(), &[]);
        if rest.is_empty() {
            break;
        }
    }
    // A position from before is no way back.
    assert_next(&mut follower, in_first(0), &[]);
    let all = follow(&folder, in_first(bounds(&folder.bytes())[1]));
    drop(writer);
    let (_, writer) = folder.open().unwrap();
    assert_next(&mut { all }, writer.position(), &records);
}

#[test]
fn it_reads_between_any_two_positions() {
    let folder = Folder::new();
    let records = sample(30);
    let positions = positions(&mut folder.create(), &records);
    for from in 0..positions.len() {
        for upto in from..positions.len() {
            let mut follower = follow(&folder, positions[from]);
            assert_next(&mut follower, positions[upto], &records[from..upto]);
            assert_next(&mut follower, positions[records.len()], &records[upto..]);
        }
    }
}

#[test]
fn stopped_after_any_record_it_goes_on_behind_it() {
    let folder = Folder::new();
    let records = sample(50);
    let mut writer = folder.create();
    let from = writer.position();
    append_all(&mut writer, &records);
    for step in 1..=records.len() + 1 {
        let mut follower = follow(&folder, from);
        let mut got = 0;
        while got < records.len() {
            let end = (got + step).min(records.len());
            let mut next = |record: Record<'_>| {
                assert_eq!(record, records[got].get());
                got += 1;
                if got == end {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            follower.next(writer.position(), &mut next).unwrap();
            assert_eq!(got, end);
        }
        assert_next(&mut follower, writer.position(), &[]);
    }
}

/// It maps 2 MiB at a time: records that end there, just before, and just behind.
#[test]
fn a_record_may_end_anywhere_around_the_end_of_a_window() {
    let with_path = |len: usize| {
        let mut record = other("");
        record.path = vec![b'x'; len];
        record
    };
    // What a frame of a finished directory takes beside its path.
    let fixed = 37;
    for second_len in (2 << 20) - 3 * fixed - PATH_LEN_MAX..(2 << 20) - fixed - PATH_LEN_MAX {
        let folder = Folder::new();
        let mut writer = folder.create();
        let from = writer.position();
        let records = [with_path(PATH_LEN_MAX), with_path(second_len), done("a", 1)];
        append_all(&mut writer, &records);
        let len = from.len + (fixed * 2 + PATH_LEN_MAX + second_len) as u64;
        let upto = Position { segment: 1, len };
        assert_next(&mut follow(&folder, from), writer.position(), &records);
        let mut follower = follow(&folder, from);
        assert_next(&mut follower, upto, &records[..2]);
        assert_next(&mut follower, writer.position(), &records[2..]);
    }
}

#[test]
fn many_windows_of_large_and_small_records_come_whole() {
    let folder = Folder::new();
    let mut writer = folder.create();
    let from = writer.position();
    let mut records = sample(4000);
    for n in 0..20 {
        let mut large = naming("", 1);
        large.path = vec![b'x'; PATH_LEN_MAX - 50_000 * n];
        records.insert(190 * n, large);
    }
    append_all(&mut writer, &records);
    assert!(folder.bytes().len() > 5 * (2 << 20));
    assert_next(&mut follow(&folder, from), writer.position(), &records);
    let mut follower = follow(&folder, from);
    let mut got = 0;
    while got < records.len() {
        let mut next = |record: Record<'_>| {
            assert_eq!(record, records[got].get());
            got += 1;
            if got % 7 == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        follower.next(writer.position(), &mut next).unwrap();
    }
}

#[test]
fn it_goes_over_to_the_segment_that_goes_on_from_its_own() {
    let folder = Folder::new();
    let records = sample(20);
    let in_old = positions(&mut folder.create(), &records);
    // The 15th of them is hit: the journal goes on behind the 14th.
    let mut bytes = folder.bytes();
    let hit = usize::try_from(in_old[14].len).unwrap();
    bytes[hit + 15] ^= 1;
    folder.set_bytes(&bytes);
    let (_, mut writer) = folder.open().unwrap();
    let start = writer.position();
    assert_eq!(start.segment, 2);
    let more = [naming("m", 1), done("m", 1), verified("m", 1, Grade::Near)];
    let in_second = positions(&mut writer, &more);
    assert_eq!(in_second[0], start);
    for from in 0..=14 {
        let mut follower = follow(&folder, in_old[from]);
        let expected = [&records[from..14], &more[..1]].concat();
        assert_next(&mut follower, in_second[1], &expected);
        assert_next(&mut follower, in_second[3], &more[1..]);
        // The end of the first, then the second and nothing in it yet.
        let mut follower = follow(&folder, in_old[from]);
        assert_next(&mut follower, in_old[14], &records[from..14]);
        assert_next(&mut follower, start, &[]);
        assert_next(&mut follower, in_second[2], &more[..2]);
        // Stopped at the last record of the first.
        let mut follower = follow(&folder, in_old[from]);
        let mut left = 14 - from;
        while left > 0 {
            let mut one = |_: Record<'_>| {
                left -= 1;
                ControlFlow::Break(())
            };
            follower.next(in_second[3], &mut one).unwrap();
        }
        assert_next(&mut follower, in_second[3], &more);
    }
    for from in 0..in_second.len() {
        let mut follower = follow(&folder, in_second[from]);
        assert_next(&mut follower, in_second[3], &more[from..]);
    }
    // What was read of the first is not part of the journal any more.
    for from in &in_old[15..] {
        let mut follower = follow(&folder, *from);
        assert_corrupt(&mut follower, in_second[3]);
        assert_corrupt(&mut follower, in_second[3]);
    }

    // A third goes on from the middle of the second, and so from the first.
    let mut second = std::fs::read(folder.path("journal.2")).unwrap();
    let hit = usize::try_from(in_second[1].len).unwrap();
    second[hit + 15] ^= 1;
    std::fs::write(folder.path("journal.2"), &second).unwrap();
    let (_, mut writer) = folder.open().unwrap();
    append_all(&mut writer, &[done("n", 1)]);
    assert_eq!(writer.position().segment, 3);
    let expected = [&records[3..14], &more[..1], &[done("n", 1)]].concat();
    assert_next(
        &mut follow(&folder, in_old[3]),
        writer.position(),
        &expected,
    );

    // A fourth goes on from the first: the second and the third are given up.
    bytes[usize::try_from(in_old[5].len).unwrap() + 15] ^= 1;
    folder.set_bytes(&bytes);
    let (_, mut writer) = folder.open().unwrap();
    append_all(&mut writer, &[done("o", 1)]);
    assert_eq!(writer.position().segment, 4);
    let expected = [&records[2..5], &[done("o", 1)]].concat();
    assert_next(
        &mut follow(&folder, in_old[2]),
        writer.position(),
        &expected,
    );
    assert_corrupt(&mut follow(&folder, in_second[1]), writer.position());
}

#[test]
fn a_hit_at_any_byte_ends_it_and_a_cut_does_too() {
    let folder = Folder::new();
    let records = sample(40);
    let mut writer = folder.create();
    let positions = positions(&mut writer, &records);
    let bytes = folder.bytes();
    let (from, upto) = (positions[10], positions[30]);
    let expected = &records[10..30];
    let start = usize::try_from(from.len).unwrap();
    let end = usize::try_from(upto.len).unwrap();
    for at in start - 16..bytes.len() {
        let mut hit = bytes.clone();
        hit[at] ^= 1 << (at % 8);
        folder.set_bytes(&hit);
        let mut follower = follow(&folder, from);
        let (count, result) = count_next(&mut follower, upto, expected);
        if at >= end {
            result.unwrap();
            assert_eq!(count, expected.len(), "what is behind is not looked at");
            continue;
        }
        let sound = positions[11..].iter().filter(|p| p.len <= at as u64);
        let sound = if at < start { 0 } else { sound.count() };
        assert_eq!(count, sound, "byte {at}");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::RecordCorrupt);
        // For good.
        assert_corrupt(&mut follower, upto);
    }
    folder.set_bytes(&bytes);
    let path = folder.path("journal");
    for cut in 0..bytes.len() {
        folder.set_bytes(&bytes[..cut]);
        let follower = try_follow(&folder, from);
        if cut < start {
            assert_eq!(follower.unwrap_err().kind(), ErrorKind::RecordCorrupt);
            // And after it was opened.
            folder.set_bytes(&bytes);
            let mut follower = follow(&folder, from);
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(cut as u64).unwrap();
            assert_corrupt(&mut follower, upto);
        } else if cut < end {
            assert_corrupt(&mut follower.unwrap(), upto);
        } else {
            assert_next(&mut follower.unwrap(), upto, expected);
        }
    }
}

#[test]
fn frames_that_belong_elsewhere_do_not_fit() {
    let folder = Folder::new();
    let records = sample(12);
    let ours = positions(&mut folder.create(), &records);
    let other = Folder::new();
    positions(&mut other.create(), &records);
    let at = |n: usize| usize::try_from(ours[n].len).unwrap();
    let (bytes, foreign) = (folder.bytes(), other.bytes());
    let frame = |n: usize| &bytes[at(n)..at(n + 1)];
    for (bytes, sound) in [
        ([&bytes[..at(6)], &foreign[at(6)..]].concat(), 6),
        ([&bytes[..at(6)], frame(5), &bytes[at(6)..]].concat(), 6),
        (
            [&bytes[..at(6)], frame(7), frame(6), &bytes[at(8)..]].concat(),
            6,
        ),
        ([&bytes[..at(6)], &bytes[at(7)..], &[0; 500]].concat(), 6),
    ] {
        folder.set_bytes(&bytes);
        let mut follower = follow(&folder, ours[2]);
        let (count, result) = count_next(&mut follower, ours[12], &records[2..]);
        assert_eq!(count, sound - 2);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::RecordCorrupt);
    }
}

#[test]
fn a_position_that_is_none_is_refused() {
    let folder = Folder::new();
    let missing = try_follow(&folder, in_first(100)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Missing);
    let records = sample(5);
    let mut writer = folder.create();
    let positions = positions(&mut writer, &records);
    let all = folder.bytes();
    for len in 0..=all.len() + 100 {
        let is_one = positions.iter().any(|position| position.len == len as u64);
        match try_follow(&folder, in_first(len)) {
            Ok(mut follower) if is_one => {
                let from = positions.iter().filter(|p| p.len < len as u64).count();
                assert_next(&mut follower, writer.position(), &records[from..]);
            }
            Ok(mut follower) => assert_corrupt(&mut follower, writer.position()),
            Err(error) => {
                assert!(!is_one);
                assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
            }
        }
    }
    // An end within a record, or behind the last one.
    for end in [all.len() - 1, all.len() + 1] {
        let mut follower = follow(&folder, positions[5]);
        if end < all.len() {
            assert_next(&mut follower, in_first(end), &[]);
            let mut follower = follow(&folder, positions[4]);
            assert_corrupt(&mut follower, in_first(end));
        } else {
            assert_corrupt(&mut follower, in_first(end));
        }
    }
    for segment in [0, 2] {
        let error = try_follow(&folder, Position { segment, len: 99 });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Missing);
    }
    let mut follower = follow(&folder, positions[5]);
    let beyond = Position {
        segment: 2,
        len: 99,
    };
    let (_, result) = count_next(&mut follower, beyond, &[]);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn it_may_read_on_another_thread_while_the_writer_writes() {
    let folder = Folder::new();
    let records = sample(3000);
    let mut writer = folder.create();
    let mut follower = follow(&folder, writer.position());
    let (say, hear) = crossbeam::channel::bounded(1);
    std::thread::scope(|scope| {
        let records = &records;
        scope.spawn(move || {
            for group in records.chunks(37) {
                append_all(&mut writer, group);
                say.send(writer.position()).unwrap();
            }
        });
        let mut got = 0;
        for upto in hear {
            let result = follower.next(upto, &mut |record| {
                assert_eq!(record, records[got].get());
                got += 1;
                ControlFlow::Continue(())
            });
            result.unwrap();
        }
        assert_eq!(got, records.len());
    });
}
