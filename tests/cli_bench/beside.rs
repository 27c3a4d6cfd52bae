//! Drives that are read beside each other, and copied into a target.

use std::path::Path;

use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul, so_far};
use crate::support::{Scratch, can_mount, tool, wait_for};
use crate::{Device, check_rate, document};

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
    check_rate(&together["steps"][1]);
    check_rate(&document["pair"]["unhashed"]);
}
