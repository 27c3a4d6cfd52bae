//! What holds of manifests whatever the names: round trips, strictness, order.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use std::fs::File;
use std::os::fd::AsFd;

use inhaul::manifest::{
    B3sum, Codec, NulList, Record, Sorter, check_path, load, reader, write_sorted,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const CODECS: [&dyn Codec; 2] = [&B3sum, &NulList];

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    }
}

/// Bytes with a meaning somewhere on the way, more often than chance would have them.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => prop::sample::select(b"\\\\\n\r nr*-/.0a\t\xc3\xa9\xef\xbf\xbd\xff\0".to_vec()),
        1 => any::<u8>(),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(byte(), 0..24),
        vec(any::<u8>(), 0..300),
        // Text, which chance alone seldom makes.
        vec(any::<char>(), 0..24).prop_map(|text| text.into_iter().collect::<String>().into()),
        "[a-z \\\\\n\r-]{0,12}".prop_map(String::into_bytes),
    ]
}

/// Paths a manifest may hold: other bytes become `_`.
fn path() -> impl Strategy<Value = Vec<u8>> {
    bytes().prop_map(|mut path| {
        path.retain(|&byte| byte != 0);
        if check_path(&path).is_err() {
            path.retain(|&byte| byte != b'/');
            path.push(b'_');
        }
        path
    })
}

fn digest() -> impl Strategy<Value = blake3::Hash> {
    any::<[u8; 32]>().prop_map(blake3::Hash::from_bytes)
}

fn scratch() -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let handle = File::open(dir.path()).unwrap();
    (dir, handle)
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn what_can_be_expressed_comes_back(path in bytes(), digest in digest()) {
        for codec in CODECS {
            if codec.can_express(&path) {
                let record = Record { path: path.clone(), digest };
                let mut frame = Vec::new();
                codec.encode(&record, &mut frame);
                prop_assert_eq!(frame.pop(), Some(codec.terminator()));
                prop_assert!(!frame.contains(&codec.terminator()));
                prop_assert_eq!(codec.decode(&frame), Ok(record));
            }
        }
    }

    #[test]
    fn every_path_that_names_a_file_is_expressed_by_some_codec(path in path()) {
        prop_assert!(NulList.can_express(&path));
        if std::str::from_utf8(&path).is_err() || path == b"-" {
            prop_assert!(!B3sum.can_express(&path));
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        mark in any::<bool>(),
        digest in "[0-9a-f]{64}",
        tail in bytes(),
    ) {
        let mark = if mark { "\\" } else { "" };
        let frame = [mark.as_bytes(), digest.as_bytes(), b"  ", &tail].concat();
        for codec in CODECS {
            if let Ok(record) = codec.decode(&frame) {
                prop_assert!(codec.can_express(&record.path));
                let mut again = Vec::new();
                codec.encode(&record, &mut again);
                prop_assert_eq!(again.pop(), Some(codec.terminator()));
                prop_assert_eq!(&again, &frame);
            }
        }
    }

    #[test]
    fn decoding_any_bytes_ends_without_a_panic(frame in vec(byte(), 0..200)) {
        for codec in CODECS {
            // 64 hex digits in a row do not come by chance.
            prop_assert!(codec.decode(&frame).is_err());
            prop_assert!(reader(codec, &frame[..]).count() <= 1);
        }
    }

    #[test]
    fn a_file_of_frames_reads_back_in_order(records in vec((path(), digest()), 0..20)) {
        for codec in CODECS {
            let records: Vec<_> = records
                .iter()
                .filter(|(path, _)| codec.can_express(path))
                .map(|(path, digest)| Record { path: path.clone(), digest: *digest })
                .collect();
            let mut file = Vec::new();
            for record in &records {
                codec.encode(record, &mut file);
            }
            let read: Vec<_> = reader(codec, &file[..]).map(Result::unwrap).collect();
            prop_assert_eq!(read, records);
        }
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn sorting_gives_byte_order_whatever_the_memory(
        paths in vec(path(), 0..300),
        memory in prop_oneof![Just(1_usize), 100_usize..4000, Just(1 << 20)],
    ) {
        let (_dir, handle) = scratch();
        let mut sorter = Sorter::new(handle.into(), memory);
        let mut expected = Vec::new();
        for (number, path) in paths.into_iter().enumerate() {
            // The digest tells records apart, so that one mixed-up pair would show.
            let digest = blake3::hash(number.to_string().as_bytes());
            let record = Record { path, digest };
            sorter.push(&record).unwrap();
            expected.push(record);
        }
        // The standard library's stable sort is the statement of the order.
        expected.sort_by(|a, b| a.path.cmp(&b.path));
        let mut sorted = Vec::new();
        let mut out = |record: &Record| {
            sorted.push(record.clone());
            Ok(())
        };
        sorter.finish(&mut out).unwrap();
        prop_assert_eq!(sorted, expected);
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn a_manifest_does_not_depend_on_the_order_of_completion(
        records in prop::collection::btree_map(path(), digest(), 0..40),
        rotate in any::<prop::sample::Index>(),
    ) {
        let records: Vec<_> = records
            .into_iter()
            .map(|(path, digest)| Record { path, digest })
            .collect();
        let mut shuffled = records.clone();
        if !shuffled.is_empty() {
            let middle = rotate.index(shuffled.len());
            shuffled.rotate_left(middle);
            shuffled[..middle].reverse();
        }
        let mut written = Vec::new();
        for order in [&records, &shuffled] {
            let (dir, handle) = scratch();
            let mut sorter = Sorter::new(handle.try_clone().unwrap().into(), 300);
            for record in order {
                sorter.push(record).unwrap();
            }
            let counts = write_sorted(sorter, handle.as_fd(), &mut |_| true).unwrap();
            let mut loaded: Vec<_> = load(handle.as_fd()).unwrap().map(Result::unwrap).collect();
            loaded.sort_by(|a, b| a.path.cmp(&b.path));
            prop_assert_eq!(counts.records, loaded.len() as u64);
            prop_assert_eq!(&loaded, &records);
            let file = |name| std::fs::read(dir.path().join(name)).unwrap_or_default();
            written.push((counts, file("manifest.b3"), file("manifest.nul")));
        }
        prop_assert_eq!(&written[0], &written[1]);
    }
}
