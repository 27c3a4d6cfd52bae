//! Directories that are written to, and a copy into a target.

use serde_json::Value;

use crate::support::mounts::{Fs, Mounted};
use crate::support::{Scratch, can_mount};
use crate::{Device, bench, check_measure, check_rate, document, filled, listing, number};

#[test]
fn writing_is_measured_and_leaves_nothing() {
    let test = "writing_is_measured_and_leaves_nothing";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    for (fs, mib) in [(Fs::Ext4, 220), (Fs::Btrfs, 300)] {
        let mounted = Mounted::image(&scratch, fs.name(), fs, mib);
        filled(mounted.path());
        // A bench that was killed between making a file and hiding it left this.
        std::fs::write(mounted.join(".inhaul-bench.4194305.0"), "left").unwrap();
        let before = listing(mounted.path());
        let ran = bench(&[&mounted.path(), &"--write", &"--scratch", &"24MiB"]).expect(0);
        let document = document(&ran);
        let subject = &document["subjects"][0];
        check_measure(&subject["write"]);
        check_sweep(subject);
        let swept: Vec<&[u8]> = before
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.windows(13).any(|part| part == b"inhaul-bench."))
            .collect();
        let after = listing(mounted.path());
        let after: Vec<&[u8]> = after.split(|&byte| byte == b'\n').collect();
        // The directory itself has changed when something was swept out of it.
        assert_eq!(after.get(1..), swept.get(1..), "{}", fs.name());

        let before = listing(mounted.path());
        bench(&[&mounted.path(), &"--write", &"--scratch", &"1TiB"])
            .expect(6)
            .says("give less with --scratch");
        assert_eq!(listing(mounted.path()), before);
    }
}

#[test]
fn beside_a_path_that_is_named_twice_each_is_written_to_where_it_is() {
    let test = "beside_a_path_that_is_named_twice_each_is_written_to_where_it_is";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "device", 24, &["--read-only"]);
    let [one, other] = ["one", "other"].map(|name| {
        let mounted = Mounted::image(&scratch, name, Fs::Ext4, 220);
        filled(mounted.path());
        mounted
    });
    let (one, other) = (one.path(), other.path());
    let write = ["--write", "--alone", "--scratch=24MiB"];
    let ran = bench(&[
        &one, &one, &device.0, &other, &write[0], &write[1], &write[2],
    ]);
    let document = document(&ran.expect(0));
    let subjects = document["subjects"].as_array().unwrap();
    let written = subjects.iter().map(|it| it["write"].is_object());
    assert_eq!(
        written.collect::<Vec<_>>(),
        [true, false, true],
        "{document}"
    );
}

/// What was tried before writing was measured is there, and what it was measured with is one of it.
fn check_sweep(written: &Value) {
    let sweep = written["write_sweep"].as_array().unwrap();
    let tried: Vec<[u64; 2]> = sweep
        .iter()
        .map(|point| ["block", "depth"].map(|name| point[name].as_u64().unwrap()))
        .collect();
    assert_eq!(tried, [1, 4, 16].map(|depth| [1 << 20, depth]));
    assert!(sweep.iter().all(|point| number(&point["rate"]) > 0.0));
    let depth = &written["write"]["depth"];
    assert!(sweep.iter().any(|point| point["depth"] == *depth));
}

#[test]
fn a_pair_is_measured_with_a_hash_and_without() {
    let test = "a_pair_is_measured_with_a_hash_and_without";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let devices = ["one", "two"].map(|name| Device::new(&scratch, name, 24, &["--read-only"]));
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 220);
    let before = listing(target.path());
    let ran = bench(&[
        &devices[0].0,
        &devices[1].0,
        &"--write",
        &"--scratch",
        &"48MiB",
        &"--target",
        &target.path(),
    ])
    .expect(0);
    let document = document(&ran);
    let warnings = document["warnings"].to_string();
    assert!(
        warnings.contains("is only read: --write is for directories"),
        "{warnings}"
    );
    for subject in document["subjects"].as_array().unwrap() {
        assert!(
            subject["write"].is_null(),
            "a block device is never written to"
        );
    }
    let pair = &document["pair"];
    assert_eq!(pair["fs"], "ext4");
    check_measure(&pair["write"]);
    check_sweep(pair);
    for reached in [&pair["hashed"], &pair["unhashed"]] {
        check_rate(reached);
    }
    assert_eq!(listing(target.path()), before);
}

#[test]
fn memory_is_not_written_to() {
    let test = "memory_is_not_written_to";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 24, &["--read-only"]);
    let memory = Mounted::tmpfs(&scratch, "memory", 300);
    filled(memory.path());
    let before = listing(memory.path());
    let refused = format!("refused: {}\n", memory.path().display());
    let why = "  why:  its files are in memory: a rate would be that of memory\n";
    bench(&[&memory.path(), &"--write", &"--scratch", &"16MiB"])
        .expect(6)
        .says(&refused)
        .says(why);
    bench(&[
        &device.0,
        &"--scratch",
        &"16MiB",
        &"--target",
        &memory.path(),
    ])
    .expect(6)
    .says(&refused)
    .says(why);
    assert_eq!(listing(memory.path()), before);
}
