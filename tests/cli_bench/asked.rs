//! Requests and queues that were asked for, and directories with nothing in them.

use crate::support::mounts::{Fs, Mounted};
use crate::support::{Scratch, can_mount};
use crate::{Device, bench, check_measure, document, filled};

#[test]
fn the_queue_that_was_asked_for_is_measured_and_no_other() {
    let test = "the_queue_that_was_asked_for_is_measured_and_no_other";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "image", 24, &[]);
    let asked: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&device.0, &"--block", &"128KiB", &"--depth", &"3"];
    let subject = document(&bench(&asked).expect(0))["subjects"][0].clone();
    let read = &subject["read"];
    check_measure(read);
    assert_eq!(
        (&read["block"], &read["depth"]),
        (&131_072.into(), &3.into())
    );
    // Each request counted is of that size: the image is a multiple of it.
    let (bytes, requests) = (read["bytes"].as_u64(), read["requests"].as_u64());
    assert_eq!(bytes, requests.map(|requests| requests * 131_072));
    assert_eq!(subject["sweep"].as_array().map(Vec::len), Some(1));
    assert!(
        read["cpu_seconds"]
            .as_f64()
            .is_some_and(|spent| spent > 0.0)
    );

    // Only the size: the depth is looked for.
    let subject =
        document(&bench(&[&device.0, &"--block", &"64KiB"]).expect(0))["subjects"][0].clone();
    assert_eq!(subject["read"]["block"], 65_536);
    let sweep = subject["sweep"].as_array().cloned().unwrap_or_default();
    assert!(
        sweep.len() > 1 && sweep.iter().all(|point| point["block"] == 65_536),
        "{sweep:?}"
    );
}

#[test]
fn a_queue_that_no_copy_has_is_refused() {
    for (option, value, why) in [
        ("--block", "4097", "multiples of 4KiB"),
        ("--block", "0", "multiples of 4KiB"),
        ("--block", "2MiB", "at most 1MiB"),
        ("--depth", "0", "between 1 and 32"),
        ("--depth", "33", "between 1 and 32"),
    ] {
        bench(&[&"/dev/null", &option, &value]).expect(2).says(why);
    }
}

#[test]
fn a_size_of_what_is_not_written_is_refused() {
    let scratch = Scratch::new();
    // Also one that looks like a directory to write to.
    for value in ["64MiB", scratch.path().to_str().unwrap()] {
        bench(&[&"/dev/null", &"--scratch", &value])
            .expect(2)
            .says(&format!("--scratch {value}"))
            .says("there is neither --write nor --target")
            .says("add --write");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    bench(&[&"/dev/null", &"--write", &"--scratch", &"1MiB"])
        .expect(2)
        .says("less than 16MiB");
}

#[test]
fn an_empty_directory_can_be_written_to() {
    let test = "an_empty_directory_can_be_written_to";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "empty", Fs::Ext4, 220);
    bench(&[&mounted.path()])
        .expect(6)
        .says("too little to measure");
    let asked: [&dyn AsRef<std::ffi::OsStr>; 6] = [
        &mounted.path(),
        &"--write",
        &"--scratch",
        &"24MiB",
        &"--depth",
        &"2",
    ];
    let subject = document(&bench(&asked).expect(0))["subjects"][0].clone();
    check_measure(&subject["write"]);
    assert_eq!(subject["write"]["depth"], 2);
    assert!(subject["read"].is_null(), "{subject}");
    let warnings = subject["warnings"].to_string();
    assert!(warnings.contains("only writing is measured"), "{warnings}");
    // With something to read, both are.
    filled(mounted.path());
    let subject = document(
        &bench(&[&mounted.path(), &"--write", &"--scratch", &"24MiB"]).expect(0),
    )["subjects"][0]
        .clone();
    check_measure(&subject["read"]);
    check_measure(&subject["write"]);
}
