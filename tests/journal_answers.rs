//! What a journal answers for each path.

mod journal_support;

use inhaul::journal::{End, Grade};
use journal_support::{
    Folder, Owned, append_all, assert_answers, blocks, done, end, failed, finished_dir, naming,
    source, verified,
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
        finished_dir("d"),
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
    assert!(loaded.is_finished_dir(b"d"));
    assert!(!loaded.is_finished_dir(b"a"));
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

/// What is recorded of `f`; the digest of the file done, and of the one that was before a naming;
/// the inode in the naming; how well it was verified.
type StateCase<'a> = (&'a str, &'a [Owned], [Option<u8>; 3], Option<Grade>);

#[test]
fn what_is_named_verified_and_done_overtakes_as_the_rule_says() {
    use Grade::{Medium, Near};
    let f = |n| done("f", n);
    let cases: [StateCase<'_>; 22] = [
        ("named", &[naming("f", 1)], [None, None, Some(51)], None),
        ("done", &[naming("f", 1), f(1)], [Some(1), None, None], None),
        (
            "named again",
            &[f(1), naming("f", 2)],
            [None, Some(1), Some(52)],
            None,
        ),
        (
            "named twice",
            &[f(1), naming("f", 2), naming("f", 3)],
            [None, Some(1), Some(53)],
            None,
        ),
        (
            "named and done again",
            &[f(1), naming("f", 2), f(2)],
            [Some(2), None, None],
            None,
        ),
        (
            "named after it was done again",
            &[f(1), naming("f", 2), f(2), naming("f", 3)],
            [None, Some(2), Some(53)],
            None,
        ),
        (
            "failed after it was named",
            &[f(1), naming("f", 2), failed("f", "x")],
            [None, None, None],
            None,
        ),
        (
            "a failure between",
            &[f(1), failed("f", "x"), naming("f", 2)],
            [None, None, Some(52)],
            None,
        ),
        (
            "a failure between two names",
            &[f(1), naming("f", 2), failed("f", "x"), naming("f", 3)],
            [None, None, Some(53)],
            None,
        ),
        (
            "a failure between, and a third name",
            &[
                f(1),
                naming("f", 2),
                failed("f", "x"),
                naming("f", 3),
                naming("f", 4),
            ],
            [None, None, Some(54)],
            None,
        ),
        (
            "done anew after a failure between",
            &[
                f(1),
                naming("f", 2),
                failed("f", "x"),
                naming("f", 3),
                f(3),
                naming("f", 4),
            ],
            [None, Some(3), Some(54)],
            None,
        ),
        (
            "a directory between",
            &[f(1), naming("f", 2), finished_dir("f"), naming("f", 3)],
            [None, None, Some(53)],
            None,
        ),
        (
            "another file between",
            &[f(1), naming("f", 2), failed("g", "x"), done("g", 9)],
            [None, Some(1), Some(52)],
            None,
        ),
        (
            "read back near",
            &[f(1), verified("f", Near)],
            [Some(1), None, None],
            Some(Near),
        ),
        (
            "read back from the medium",
            &[f(1), verified("f", Medium)],
            [Some(1), None, None],
            Some(Medium),
        ),
        (
            "near, then from the medium",
            &[f(1), verified("f", Near), verified("f", Medium)],
            [Some(1), None, None],
            Some(Medium),
        ),
        (
            "from the medium, then near",
            &[f(1), verified("f", Medium), verified("f", Near)],
            [Some(1), None, None],
            Some(Medium),
        ),
        (
            "read back, then done again",
            &[f(1), verified("f", Medium), f(2)],
            [Some(2), None, None],
            None,
        ),
        (
            "read back, then named",
            &[f(1), verified("f", Medium), naming("f", 2)],
            [None, Some(1), Some(52)],
            None,
        ),
        (
            "named, then read back",
            &[f(1), naming("f", 2), verified("f", Medium)],
            [None, Some(1), Some(52)],
            None,
        ),
        (
            "failed, read back, done",
            &[failed("f", "x"), verified("f", Medium), f(1)],
            [Some(1), None, None],
            None,
        ),
        (
            "only another file",
            &[f(1), done("g", 2), verified("g", Medium)],
            [Some(1), None, None],
            None,
        ),
    ];
    for (name, records, [is_done, before, named], grade) in cases {
        for at in 0..=records.len() {
            // Written by two runs, or by one.
            let folder = Folder::new();
            folder.record(&records[..at]);
            append_all(&mut folder.open().unwrap().1, &records[at..]);
            let loaded = folder.read().unwrap();
            let digest = |n| [n; 32];
            let got = loaded.done(b"f").map(|done| done.digest);
            assert_eq!(got, is_done.map(digest), "{name}");
            let got = loaded.done_before(b"f").map(|done| done.digest);
            assert_eq!(got, before.map(digest), "{name}");
            let got = loaded.naming(b"f").map(|naming| naming.target_stamp.ino);
            assert_eq!(got, named.map(u64::from), "{name}");
            assert_eq!(loaded.verified(b"f"), grade, "{name}");
            assert_answers(&loaded, records, &[f(0)]);
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
        verified("a", Grade::Near),
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
