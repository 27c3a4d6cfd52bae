//! Drives that are read beside each other, and copied into a target.

use std::path::Path;

use serde_json::Value;

use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul, so_far};
use crate::support::{Scratch, can_mount, tool, wait_for};
use crate::{Device, check_rate, document, filled};

/// Starts a bench and, once it says that it does `what`, does something to it.
fn while_it(what: &str, args: &[&dyn AsRef<std::ffi::OsStr>], act: impl FnOnce()) -> Ran {
    let first: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"bench", &"--json", &"--progress", &"plain"];
    let all: Vec<&dyn AsRef<std::ffi::OsStr>> =
        first.into_iter().chain(args.iter().copied()).collect();
    let running = Running::start(inhaul(&all));
    let told = running.stderr_file();
    wait_for(what, || {
        let text = so_far(&told);
        String::from_utf8_lossy(&text).contains(what).then_some(())
    });
    act();
    running.finish()
}

fn cut(file: &Path, len: u64) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_len(len).unwrap();
}

fn texts(document: &Value) -> String {
    document["verdicts"].to_string()
}

#[test]
fn whole_drives_are_read_at_once_where_each_was_read_alone() {
    let test = "whole_drives_are_read_at_once_where_each_was_read_alone";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    // So large that no sample comes from one zone to the next: holes are read as fast as memory.
    let images = ["one", "two"].map(|name| scratch.join(name));
    let devices = images.each_ref().map(|image| {
        std::fs::File::create(image)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let args = [
            "--find",
            "--show",
            "--direct-io=on",
            image.to_str().unwrap(),
        ];
        let device = String::from_utf8(tool("losetup", &args)).unwrap();
        let device = Device(device.trim().to_owned());
        // As a drive that spins, it has zones.
        let spins = format!("/sys/block/{}/queue/rotational", device.name());
        std::fs::write(spins, "1").unwrap();
        device
    });
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 220);
    let args: [&dyn AsRef<std::ffi::OsStr>; 8] = [
        &"--seconds",
        &"0.1",
        &"--scratch",
        &"48MiB",
        &"--target",
        &target.path(),
        &devices[0].0,
        &devices[1].0,
    ];
    // From then on, their inner halves cannot be read.
    let ran = while_it("1 of 2 drives at once", &args, || {
        for image in &images {
            cut(image, 1 << 39);
        }
    });
    let document = document(&ran.expect(0));
    for subject in document["subjects"].as_array().unwrap() {
        assert_eq!(subject["zones"][2]["name"], "inner", "{subject}");
    }
    let together = &document["together"];
    assert!(together["error"].is_null(), "{together}");
    let (one, two) = (devices[0].name(), devices[1].name());
    assert_eq!(
        together["steps"][0]["subjects"],
        Value::from([one].to_vec())
    );
    assert_eq!(
        together["steps"][1]["subjects"],
        Value::from([one, two].to_vec())
    );
    check_rate(&together["steps"][1]);
    check_rate(&document["pair"]["unhashed"]);
}

#[test]
fn a_drive_that_fails_beside_others_is_named_and_what_was_measured_stays() {
    let test = "a_drive_that_fails_beside_others_is_named_and_what_was_measured_stays";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 220);
    // It fails in the second step, or only when it is copied.
    for (what, in_steps) in [("1 of 2 drives at once", true), ("all sources into", false)] {
        let sources = ["one", "two"].map(|name| Mounted::image(&scratch, name, Fs::Ext4, 40));
        for source in &sources {
            filled(source.path());
        }
        let args: [&dyn AsRef<std::ffi::OsStr>; 10] = [
            &"--seconds",
            &"0.2",
            &"--repetitions",
            &"8",
            &"--scratch",
            &"48MiB",
            &"--target",
            &target.path(),
            &sources[0].path(),
            &sources[1].path(),
        ];
        let ran = while_it(what, &args, || {
            for name in ["a", "b"] {
                cut(&sources[1].join(name), 0);
            }
        });
        let document = document(&ran.expect(3));
        let name = |at: usize| {
            document["subjects"][at]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let failed = Value::from(vec![name(1)]);
        let (together, pair) = (&document["together"], &document["pair"]);
        let said = texts(&document);
        assert_eq!(document["complete"], true);
        check_rate(&together["steps"][0]);
        if in_steps {
            assert_eq!(together["error_subjects"], failed);
            assert!(
                together["error"]
                    .as_str()
                    .unwrap()
                    .contains("became shorter")
            );
            assert!(together["steps"][1].is_null(), "{together}");
            let sentence = format!("{} failed beside others: ", name(1));
            assert!(said.contains(&sentence), "{said}");
            // What is left is copied.
            assert_eq!(pair["subjects"], Value::from(vec![name(0)]));
            assert!(pair["error"].is_null(), "{pair}");
            check_rate(&pair["hashed"]);
            assert!(
                pair["warnings"].to_string().contains("which failed before"),
                "{pair}"
            );
        } else {
            assert!(together["error"].is_null(), "{together}");
            check_rate(&together["steps"][1]);
            assert_eq!(pair["error_subjects"], failed);
            let sentence = format!("{} failed while copied into ", name(1));
            assert!(said.contains(&sentence), "{said}");
        }
        assert!(!said.contains("written"), "no word of the target: {said}");
    }
}
