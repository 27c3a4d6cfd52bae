//! A journal that was cut, hit, or put together from pieces: never a record that was not made
//! there, and damage told from a torn tail as the rule says.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

mod journal_support;

use std::ops::Range;
use std::os::unix::fs::FileExt;

use inhaul::error::ErrorKind;
use inhaul::journal::{Grade, Tail};
use journal_support::{
    Folder, HEADER_LEN, Owned, append_all, assert_answers, assert_holds, blocks, bounds, done, end,
    naming, sample, source, verified,
};

/// Numbers without end, the same in every run: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A journal of these records: its bytes, and where its frames are, the head first.
fn journal(records: &[Owned]) -> (Vec<u8>, Vec<Range<usize>>) {
    let folder = Folder::new();
    folder.record(records);
    let bytes = folder.bytes();
    let bounds = bounds(&bytes);
    let frames: Vec<_> = bounds.windows(2).map(|ends| ends[0]..ends[1]).collect();
    assert_eq!(frames.len(), records.len() + 1);
    (bytes, frames)
}

fn damaged_at(at: usize) -> Tail {
    let at = at as u64;
    Tail::Damaged { segment: 1, at }
}

#[test]
fn cut_at_every_byte_it_holds_what_was_whole_and_goes_on() {
    let records = sample(200);
    let (bytes, frames) = journal(&records);
    let folder = Folder::new();
    let more = done("after the cut", 9);
    for cut in 0..bytes.len() {
        folder.set_bytes(&bytes[..cut]);
        let whole = frames.iter().filter(|frame| frame.end <= cut).count();
        let Some(count) = whole.checked_sub(1) else {
            assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::RecordCorrupt);
            assert_eq!(
                folder.bytes().len(),
                cut,
                "what is not understood is not touched"
            );
            continue;
        };
        let expected = &records[..count];
        let sound = frames[count].end;
        let tail = match cut - sound {
            0 => Tail::Clean,
            torn => Tail::Torn {
                cut_bytes: torn as u64,
            },
        };
        if cut % 16 == 0 || cut == sound {
            let loaded = folder.read().unwrap();
            assert_eq!(loaded.tail(), tail);
            assert_eq!(folder.bytes().len(), cut, "reading changes nothing");
            assert_holds(&loaded, expected);
            assert_answers(&loaded, expected, &records);
        }
        let (loaded, mut writer) = folder.open().unwrap();
        assert_eq!(loaded.tail(), tail, "cut at {cut}");
        assert_eq!(loaded.trusted_bytes(), sound as u64);
        assert_holds(&loaded, expected);
        assert_eq!(folder.bytes(), bytes[..sound], "the torn tail is gone");
        append_all(&mut writer, std::slice::from_ref(&more));
        let loaded = folder.read().unwrap();
        assert_eq!(loaded.tail(), Tail::Clean);
        assert_holds(&loaded, &[expected, std::slice::from_ref(&more)].concat());
        assert!(loaded.done(b"after the cut").is_some());
    }
}

#[test]
fn hit_at_every_byte_it_trusts_only_what_is_before() {
    let records = sample(200);
    let (bytes, frames) = journal(&records);
    let folder = Folder::new();
    let mut hits = 0;
    for at in 0..bytes.len() {
        let bits = if at % 53 == 0 || at < 64 {
            0..8
        } else {
            at % 8..at % 8 + 1
        };
        for bit in bits {
            hits += 1;
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            folder.set_bytes(&bytes);
            let hit = frames.iter().position(|frame| frame.contains(&at));
            let Some(count) = hit.and_then(|hit| hit.checked_sub(1)) else {
                let kind = folder.read().unwrap_err().kind();
                assert_eq!(kind, ErrorKind::RecordCorrupt, "bit {bit} of byte {at}");
                continue;
            };
            let frame = &frames[count + 1];
            let tail = if frame.end == bytes.len() {
                Tail::Torn {
                    cut_bytes: frame.len() as u64,
                }
            } else {
                damaged_at(frame.start)
            };
            let loaded = folder.read().unwrap();
            assert_eq!(loaded.tail(), tail, "bit {bit} of byte {at}");
            assert_eq!(loaded.trusted_bytes(), frame.start as u64);
            assert_holds(&loaded, &records[..count]);
            if at % 16 == 0 {
                assert_answers(&loaded, &records[..count], &records);
            }
        }
    }
    assert!(hits > bytes.len());
}

#[test]
fn damage_is_kept_and_the_journal_goes_on_beside_it() {
    let records = sample(120);
    let (bytes, frames) = journal(&records);
    let (more, last) = ([done("m", 1), source(3, "x")], [done("n", 2), end(true, 0)]);
    for hit in (1..frames.len() - 1).step_by(7) {
        let folder = Folder::new();
        let mut bytes = bytes.clone();
        bytes[frames[hit].start + 20] ^= 4;
        folder.set_bytes(&bytes);
        let trusted = &records[..hit - 1];

        let (loaded, mut writer) = folder.open().unwrap();
        assert_eq!(loaded.tail(), damaged_at(frames[hit].start));
        assert_holds(&loaded, trusted);
        append_all(&mut writer, &more);
        assert_eq!(folder.bytes(), bytes, "the evidence stays");
        drop((loaded, writer));

        let (loaded, mut writer) = folder.open().unwrap();
        assert_eq!(loaded.tail(), Tail::Clean);
        let all = [trusted, &more].concat();
        assert_holds(&loaded, &all);
        assert_answers(&loaded, &all, &records);
        append_all(&mut writer, &last);
        drop((loaded, writer));
        assert!(!folder.path("journal.3").exists());

        // A second hit, in the second segment: a third.
        let second = std::fs::read(folder.path("journal.2")).unwrap();
        let second_frames = bounds(&second);
        let mut hit_again = second.clone();
        hit_again[second_frames[2] + 15] ^= 1;
        std::fs::write(folder.path("journal.2"), &hit_again).unwrap();
        let (loaded, mut writer) = folder.open().unwrap();
        let at = second_frames[2] as u64;
        assert_eq!(loaded.tail(), Tail::Damaged { segment: 2, at });
        assert_holds(&loaded, &[trusted, &more[..1]].concat());
        append_all(&mut writer, &last);
        let all = [trusted, &more[..1], &last].concat();
        let loaded = folder.read().unwrap();
        assert_holds(&loaded, &all);
        assert_answers(&loaded, &all, &records);
        assert!(loaded.end().is_some());

        // A third, in the prefix of the first that the others stand on: they fall with it.
        if hit > 8 {
            bytes[frames[5].start + 20] ^= 1;
            folder.set_bytes(&bytes);
            let (loaded, mut writer) = folder.open().unwrap();
            assert_eq!(loaded.tail(), damaged_at(frames[5].start));
            assert_holds(&loaded, &records[..4]);
            append_all(&mut writer, &more);
            assert!(folder.path("journal.4").exists());
            assert_holds(&folder.read().unwrap(), &[&records[..4], &more].concat());
        }
    }
}

#[test]
fn a_later_segment_whose_head_is_hit_is_passed_over() {
    let records = sample(60);
    let (mut bytes, frames) = journal(&records);
    bytes[frames[30].start + 1] ^= 1;
    let folder = Folder::new();
    folder.set_bytes(&bytes);
    let (_, mut writer) = folder.open().unwrap();
    append_all(&mut writer, &[done("m", 1)]);
    let second = std::fs::read(folder.path("journal.2")).unwrap();
    let head_len = bounds(&second)[1];
    for at in 0..head_len {
        let mut hit = second.clone();
        hit[at] ^= 0x10;
        std::fs::write(folder.path("journal.2"), &hit).unwrap();
        let loaded = folder.read().unwrap();
        assert_eq!(loaded.tail(), damaged_at(frames[30].start), "byte {at}");
        assert_holds(&loaded, &records[..29]);
        let (_, mut writer) = folder.open().unwrap();
        append_all(&mut writer, &[done("n", 1)]);
        let loaded = folder.read().unwrap();
        assert_eq!(loaded.tail(), Tail::Clean);
        assert_holds(&loaded, &[&records[..29], &[done("n", 1)]].concat());
        std::fs::remove_file(folder.path("journal.3")).unwrap();
    }
    // Torn in its tail like any other, and cut there.
    std::fs::write(folder.path("journal.2"), &second[..second.len() - 1]).unwrap();
    let (loaded, _) = folder.open().unwrap();
    assert!(matches!(loaded.tail(), Tail::Torn { .. }));
    assert_holds(&loaded, &records[..29]);
    let len = folder.path("journal.2").metadata().unwrap().len();
    assert_eq!(len, head_len as u64);
    // A segment of another journal does not go on from this one, whose frames behind the place it
    // names are not taken for granted either.
    let other = Folder::new();
    other.set_bytes(&journal(&records).0);
    std::fs::write(other.path("journal.2"), &second).unwrap();
    let loaded = other.read().unwrap();
    assert_holds(&loaded, &records[..29]);
    assert_eq!(loaded.tail(), damaged_at(frames[30].start));
    // Damage that is gone the next time, as with a bad cable, does not bring the first segment
    // back to be written to: what was recorded later would come before the second.
    let mut hit = second;
    hit[20] ^= 1;
    std::fs::write(other.path("journal.2"), &hit).unwrap();
    let (loaded, _) = other.open().unwrap();
    assert_holds(&loaded, &records);
    assert_eq!(loaded.tail(), damaged_at(frames[60].end));
    assert!(other.path("journal.3").exists());
}

/// Each answer is checked again, for what was read once may be read again, from the medium.
#[test]
fn a_record_that_changes_after_loading_vanishes() {
    let records = [
        done("a", 1),
        done("b", 2),
        naming("b", 3),
        naming("c", 4),
        verified("a", 1, Grade::Near),
        blocks("f", 1, 0, &[5; 4]),
    ];
    let (_, frames) = journal(&records);
    for hit in 1..frames.len() {
        let folder = Folder::new();
        folder.record(&records);
        let loaded = folder.read().unwrap();
        let path = folder.path("journal");
        let file = std::fs::File::options().write(true).open(path).unwrap();
        // In the number of the source, or in the last value.
        let at = match hit {
            6 => frames[6].end - 20,
            _ => frames[hit].start + 14,
        };
        file.write_at(&[0xee], at as u64).unwrap();
        assert_eq!(loaded.done(b"a").is_some(), hit != 1);
        assert_eq!(loaded.done_before(b"b").is_some(), hit != 2 && hit != 3);
        assert_eq!(loaded.naming(b"b").is_some(), hit != 3);
        assert_eq!(loaded.naming(b"c").is_some(), hit != 4);
        // That it was read back is known from the load; of what, is asked again.
        assert_eq!(loaded.verified(b"a").is_some(), hit != 1);
        assert_eq!(loaded.blocks(b"f").is_some(), hit != 6);
    }
}

#[test]
fn frames_out_of_place_do_not_fit() {
    let records = sample(40);
    let (bytes, frames) = journal(&records);
    let (other, other_frames) = journal(&records);
    assert_eq!(frames, other_frames);
    let frame = |n: usize| &bytes[frames[n].clone()];
    let foreign = |n: usize| &other[frames[n].clone()];
    let folder = Folder::new();
    let n = 17;
    let (before, after) = bytes.split_at(frames[n].start);
    let behind = &bytes[frames[n].end..];
    let behind_next = &bytes[frames[n + 1].end..];
    let count = frames.len();
    let end = bytes.len()..bytes.len();
    let load = |bytes: &[u8], sound: usize| {
        folder.set_bytes(bytes);
        let loaded = folder.read().unwrap();
        assert_holds(&loaded, &records[..sound - 1]);
        assert_answers(&loaded, &records[..sound - 1], &records);
        loaded
    };
    let parts = |parts: &[&[u8]]| parts.concat();
    // In the middle, where sound frames follow: what it becomes, and how many frames still hold.
    let in_the_middle = [
        ("one left out", parts(&[before, behind]), n),
        (
            "two exchanged",
            parts(&[before, frame(n + 1), frame(n), behind_next]),
            n,
        ),
        ("one twice", parts(&[before, frame(n), after]), n + 1),
        ("an earlier one again", parts(&[before, frame(3), after]), n),
        (
            "a foreign one instead",
            parts(&[before, foreign(n), behind]),
            n,
        ),
        (
            "a foreign one added",
            parts(&[before, foreign(n), after]),
            n,
        ),
        (
            "on with another",
            parts(&[before, &other[frames[n].start..]]),
            n,
        ),
        ("another behind it", parts(&[&bytes, &other]), count),
        ("its end again", parts(&[&bytes, after]), count),
    ];
    for (name, bytes, sound) in in_the_middle {
        let loaded = load(&bytes, sound);
        let at = frames.get(sound).unwrap_or(&end).start;
        assert_eq!(loaded.tail(), damaged_at(at), "{name}");
    }
    // At the end, where nothing follows.
    let at_the_end = [
        ("its last again", frame(count - 1)),
        ("the last of another", foreign(count - 1)),
        ("a head again", frame(0)),
        ("zeros", &[0; 5000]),
    ];
    for (name, tail) in at_the_end {
        let loaded = load(&parts(&[&bytes, tail]), count);
        let cut_bytes = tail.len() as u64;
        assert_eq!(loaded.tail(), Tail::Torn { cut_bytes }, "{name}");
    }
    // The frames of one under the header of another.
    folder.set_bytes(&[&other[..HEADER_LEN], &bytes[HEADER_LEN..]].concat());
    assert_eq!(folder.read().unwrap_err().kind(), ErrorKind::RecordCorrupt);
}

#[test]
fn random_bytes_are_never_a_record() {
    let records = sample(30);
    let (bytes, frames) = journal(&records);
    let folder = Folder::new();
    let mut numbers = Numbers(1);
    for _ in 0..300 {
        let len = numbers.below(3000);
        folder.set_bytes(&numbers.bytes(len));
        assert_eq!(folder.read().unwrap_err().kind(), ErrorKind::RecordCorrupt);
        // A good header, then anything.
        let noise = numbers.bytes(len);
        folder.set_bytes(&[&bytes[..HEADER_LEN], &noise].concat());
        assert_eq!(folder.read().unwrap_err().kind(), ErrorKind::RecordCorrupt);
    }
    for _ in 0..2000 {
        // A good journal, overwritten, cut, or grown at random places.
        let mut hit = bytes.clone();
        let at = numbers.below(hit.len());
        let len = numbers.below(200);
        let noise = numbers.bytes(len);
        let end = match numbers.below(3) {
            0 => at,
            1 => (at + len).min(hit.len()),
            _ => (at + numbers.below(200)).min(hit.len()),
        };
        hit.splice(at..end, noise);
        let same = hit.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
        let sound = frames.iter().filter(|frame| frame.end <= same).count();
        folder.set_bytes(&hit);
        match folder.read() {
            Ok(loaded) => {
                assert_holds(&loaded, &records[..sound - 1]);
                assert_answers(&loaded, &records[..sound - 1], &records);
            }
            Err(error) => {
                assert_eq!(sound, 0);
                assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
            }
        }
    }
}

/// A tail in which every place looks like the start of a frame of a megabyte. To hash them all
/// would be terabytes; giving up early counts as damage, and the tail is kept.
#[test]
fn a_tail_full_of_look_alikes_is_given_up_on() {
    let records = sample(10);
    let (bytes, frames) = journal(&records);
    let folder = Folder::new();
    let look_alike = [
        &(1_u32 << 20).to_le_bytes()[..],
        &[4],
        &77_u64.to_le_bytes(),
    ]
    .concat();
    folder.set_bytes(&[&bytes[..], &look_alike.repeat(300_000)].concat());
    let loaded = folder.read().unwrap();
    assert_holds(&loaded, &records);
    assert_eq!(loaded.tail(), damaged_at(frames.last().unwrap().end));
}

#[test]
fn after_too_much_damage_it_is_not_gone_on_with() {
    let folder = Folder::new();
    folder.record(&sample(20));
    let mut newest = folder.path("journal");
    for number in 2..=64 {
        hit_second_frame(&newest);
        let (_, mut writer) = folder.open().unwrap();
        newest = folder.path(&format!("journal.{number}"));
        append_all(&mut writer, &[done("x", 1), done("y", 2), done("z", 3)]);
    }
    assert_eq!(folder.read().unwrap().tail(), Tail::Clean);
    hit_second_frame(&newest);
    let error = folder.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordCorrupt);
    assert!(!folder.path("journal.65").exists());
}

fn hit_second_frame(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bounds(&bytes)[2] + 14;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
