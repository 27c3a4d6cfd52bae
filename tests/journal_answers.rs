//! What a journal answers for each path.

mod journal_support;

use inhaul::journal::{End, Grade};
use journal_support::{
    Folder, Owned, append_all, assert_answers, blocks, done, end, failed, naming, other, source,
    verified,
};

#[test]
fn the_last_record_of_a_path_holds() {
    let folder = Folder::new();
    let mut records = vec![
        source(0, "one"),
        source(2, "three"),
        failed("a", "bad sector"),
        done("b", 2),
        done("a", 1),
        failed("b", "mismatch"),
        other("d"),
        done("c", 3),
        done("c", 4),
        source(0, "one again"),
    ];
    folder.record(&records);
    let (loaded, mut writer) = folder.open().unwrap();
    assert_answers(&loaded, &records, &[]);
    assert_eq!(loaded.done(b"a").unwrap().digest, [1; 32]);
    assert!(loaded.failed(b"a").is_none());
    assert!(loaded.done(b"b").is_none());
    assert_eq!(loaded.failed(b"b").unwrap().reason, "mismatch");
    assert_eq!(loaded.done(b"c").unwrap().digest, [4; 32]);
    assert_eq!(loaded.done_bytes(), 1000 + 4000);
    assert!(loaded.other(b"d").is_some());
    assert!(loaded.other(b"a").is_none());
    let done_paths: Vec<&[u8]> = loaded.iter_done().map(|done| done.target_path).collect();
    assert_eq!(done_paths, [b"a", b"c"]);
    assert_eq!(loaded.source(0).unwrap().label, b"one again");
    assert_eq!(loaded.source(1), None);
    let indexes: Vec<u32> = loaded.sources().map(|source| source.index).collect();
    assert_eq!(indexes, [0, 2]);

    // Over a restart too; and an end is one only while nothing follows it.
    let more = [done("b", 5), end(false, 75)];
    append_all(&mut writer, &more);
    records.extend(more);
    let (loaded, mut writer) = folder.open().unwrap();
    assert_answers(&loaded, &records, &[]);
    let expected = End {
        complete: false,
        exit_code: 75,
    };
    assert_eq!(loaded.end(), Some(expected));
    append_all(&mut writer, &[failed("c", "again")]);
    let loaded = folder.read().unwrap();
    assert_eq!(loaded.end(), None);
    assert_eq!(loaded.done_count(), 2);
}

/// What is recorded of `f`, by short words, and what is answered: the digest of the file that is
/// done, that of the one before a name, the number of the file named, and how it was read back.
type StateCase<'a> = (&'a str, [Option<u8>; 3], Option<Grade>);

/// `done N`, `name N`, `near`, `medium`, `stale` (of another inode), `fail`, `dir`; `other` is a different path in its states.
fn records_of(words: &str) -> Vec<Owned> {
    let number = |word: &str| word.as_bytes()[5] - b'0';
    let last_done = std::cell::Cell::new(0);
    let records = words.split(", ").flat_map(|word| match word {
        "near" => vec![verified("f", last_done.get(), Grade::Near)],
        "medium" => vec![verified("f", last_done.get(), Grade::Medium)],
        "stale" => vec![verified("f", 100, Grade::Medium)],
        "fail" => vec![failed("f", "bad sector")],
        "dir" => vec![other("f")],
        "other" => vec![
            failed("g", "bad sector"),
            done("g", 9),
            verified("g", 9, Grade::Medium),
        ],
        word if word.starts_with("name") => vec![naming("f", number(word))],
        word => {
            last_done.set(number(word));
            vec![done("f", number(word))]
        }
    });
    records.collect()
}

#[test]
fn what_is_named_read_back_and_done_overtakes_as_the_rule_says() {
    use Grade::{Medium, Near};
    let cases: [StateCase<'_>; 24] = [
        ("name 1", [None, None, Some(1)], None),
        ("name 1, done 1", [Some(1), None, None], None),
        ("done 1, name 2", [None, Some(1), Some(2)], None),
        ("done 1, other, name 2", [None, Some(1), Some(2)], None),
        ("done 1, name 2, other", [None, Some(1), Some(2)], None),
        ("done 1, name 2, name 3", [None, Some(1), Some(3)], None),
        ("done 1, name 2, done 2", [Some(2), None, None], None),
        (
            "done 1, name 2, done 2, name 3",
            [None, Some(2), Some(3)],
            None,
        ),
        ("done 1, name 2, fail", [None, None, None], None),
        ("done 1, fail, name 2", [None, None, Some(2)], None),
        ("done 1, name 2, fail, name 3", [None, None, Some(3)], None),
        (
            "done 1, name 2, fail, name 3, name 4",
            [None, None, Some(4)],
            None,
        ),
        (
            "done 1, name 2, fail, name 3, done 3, name 4",
            [None, Some(3), Some(4)],
            None,
        ),
        ("done 1, name 2, dir, name 3", [None, None, Some(3)], None),
        ("done 1, near", [Some(1), None, None], Some(Near)),
        ("done 1, medium", [Some(1), None, None], Some(Medium)),
        ("done 1, near, medium", [Some(1), None, None], Some(Medium)),
        ("done 1, medium, near", [Some(1), None, None], Some(Medium)),
        ("done 1, medium, done 2", [Some(2), None, None], None),
        ("done 1, medium, name 2", [None, Some(1), Some(2)], None),
        ("done 1, name 2, medium", [None, Some(1), Some(2)], None),
        ("fail, medium, done 1", [Some(1), None, None], None),
        ("done 1, stale", [Some(1), None, None], None),
        ("done 1, other", [Some(1), None, None], None),
    ];
    for (words, [is_done, before, named], grade) in cases {
        let records = records_of(words);
        for at in 0..=records.len() {
            // Written by two runs, or by one.
            let folder = Folder::new();
            folder.record(&records[..at]);
            append_all(&mut folder.open().unwrap().1, &records[at..]);
            let loaded = folder.read().unwrap();
            let digest = |n| [n; 32];
            let got = loaded.done(b"f").map(|done| done.digest);
            assert_eq!(got, is_done.map(digest), "{words}");
            let got = loaded.done_before(b"f").map(|done| done.digest);
            assert_eq!(got, before.map(digest), "{words}");
            let got = loaded.naming(b"f").map(|naming| naming.target_stamp.ino);
            assert_eq!(got, named.map(|n| 50 + u64::from(n)), "{words}");
            assert_eq!(loaded.verified(b"f"), grade, "{words}");
            assert_answers(&loaded, &records, &[done("f", 0)]);
        }
    }
}

#[test]
fn only_files_that_are_done_count_as_linked() {
    let folder = Folder::new();
    let mut counts = Vec::new();
    let mut writer = folder.create();
    // 3, 6 and 9 have several names.
    for record in [
        done("a", 3),
        done("b", 6),
        done("c", 1),
        done("c", 9),
        done("b", 4),
        naming("a", 5),
        done("a", 3),
        failed("c", "x"),
        verified("a", 3, Grade::Near),
        naming("a", 5),
    ] {
        append_all(&mut writer, &[record]);
        counts.push(folder.read().unwrap().linked_count());
    }
    assert_eq!(counts, [1, 2, 2, 3, 2, 1, 2, 1, 1, 0]);
}

type BlocksCase<'a> = (&'a str, &'a [Owned], Option<(u64, &'a [u8])>);

#[test]
fn blocks_go_on_start_over_and_leave_no_gap() {
    // What is recorded, and the copy and values that hold.
    let cases: [BlocksCase<'_>; 9] = [
        ("nothing", &[done("f", 1)], None),
        ("one", &[blocks("f", 1, 0, &[1, 2])], Some((1, &[1, 2]))),
        (
            "goes on",
            &[
                blocks("f", 1, 0, &[1, 2]),
                blocks("g", 9, 0, &[7]),
                blocks("f", 1, 2, &[3]),
                blocks("f", 1, 3, &[4, 5]),
            ],
            Some((1, &[1, 2, 3, 4, 5])),
        ),
        (
            "goes back into the middle of an earlier record",
            &[
                blocks("f", 1, 0, &[1, 2, 3]),
                blocks("f", 1, 3, &[4, 5, 6]),
                blocks("f", 1, 6, &[7]),
                blocks("f", 1, 4, &[50]),
                blocks("f", 1, 5, &[60, 70]),
            ],
            Some((1, &[1, 2, 3, 4, 50, 60, 70])),
        ),
        (
            "goes back to the border of two records",
            &[
                blocks("f", 1, 0, &[1, 2]),
                blocks("f", 1, 2, &[3, 4]),
                blocks("f", 1, 2, &[30]),
            ],
            Some((1, &[1, 2, 30])),
        ),
        (
            "another copy starts over",
            &[blocks("f", 1, 0, &[1, 2]), blocks("f", 2, 0, &[9])],
            Some((2, &[9])),
        ),
        (
            "the same copy starts over",
            &[blocks("f", 1, 0, &[1, 2]), blocks("f", 1, 0, &[9])],
            Some((1, &[9])),
        ),
        (
            "a gap, and what follows it",
            &[
                blocks("f", 1, 0, &[1]),
                blocks("f", 1, 2, &[3]),
                blocks("f", 1, 3, &[4]),
            ],
            None,
        ),
        (
            "another copy from the middle",
            &[blocks("f", 1, 0, &[1]), blocks("f", 2, 1, &[2])],
            None,
        ),
    ];
    for (name, records, expected) in cases {
        let folder = Folder::new();
        folder.record(records);
        let loaded = folder.read().unwrap();
        let view = loaded.blocks(b"f");
        let got = view.as_ref().map(|view| {
            let values: Vec<u8> = view.values().map(|value| value[0]).collect();
            assert_eq!(view.block_count, values.len() as u64, "{name}");
            assert_eq!(view.stage.thread, b"w0");
            assert_eq!(view.stage_ino, 1000 + view.stage.number);
            let mut next = 0;
            for (first, slice) in view.slices() {
                assert_eq!(first, next, "{name}");
                next += slice.len() as u64;
            }
            (view.stage.number, values)
        });
        let got = got.as_ref().map(|(number, values)| (*number, &values[..]));
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn many_runs_side_by_side_outgrow_their_first_scratch() {
    let folder = Folder::new();
    let mut records = Vec::new();
    for first in 0..40 {
        for file in 0..200_u64 {
            let value = u8::try_from((first * 7 + file) % 256).unwrap();
            records.push(blocks(&format!("f{file}"), file, first, &[value]));
        }
    }
    folder.record(&records);
    let loaded = folder.read().unwrap();
    for file in 0..200_u64 {
        let view = loaded.blocks(format!("f{file}").as_bytes()).unwrap();
        assert_eq!(view.stage.number, file);
        let expected = (0..40).map(|first| u8::try_from((first * 7 + file) % 256).unwrap());
        assert!(view.values().map(|value| value[0]).eq(expected));
    }
}
