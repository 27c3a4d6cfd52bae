//! Files whose rate would not be that of their drive.

use crate::support::mounts::{Fs, Mounted};
use crate::support::{Scratch, can_mount, tool};
use crate::{bench, check_measure, document, filled};

#[test]
fn what_is_stored_compressed_is_left_out_and_told_of() {
    let test = "what_is_stored_compressed_is_left_out_and_told_of";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let mounted = Mounted::make(
        &scratch.join("btrfs"),
        &image,
        Fs::Btrfs,
        "noatime,compress-force",
    );
    filled(mounted.path());
    bench(&[&mounted.path()])
        .expect(6)
        .says("are not stored compressed: too little to measure");
    // With something that is stored as it is.
    let point = mounted.path().to_str().unwrap();
    tool("mount", &["-o", "remount,compress=no", point]);
    let noise: Vec<u8> = (0..6_u32 << 20).map(|n| (n % 241) as u8).collect();
    std::fs::write(mounted.join("plain"), noise).unwrap();
    tool("sync", &["-f", point]);
    let subject = document(&bench(&[&mounted.path()]).expect(0))["subjects"][0].clone();
    check_measure(&subject["read"]);
    assert_eq!(subject["span_bytes"], 6 << 20, "{subject}");
    let warnings = subject["warnings"].to_string();
    for told in [
        "2 of its largest files are left out: they are stored compressed",
        "60 of 60 small files that were looked at are stored compressed",
    ] {
        assert!(warnings.contains(told), "{warnings}");
    }
}

#[test]
fn o_direct_that_does_nothing_proves_nothing() {
    let test = "o_direct_that_does_nothing_proves_nothing";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(220 << 20)
        .unwrap();
    for (options, access) in [("noatime", "direct"), ("noatime,data=journal", "dropped")] {
        let mounted = Mounted::make(&scratch.join("ext4"), &image, Fs::Ext4, options);
        filled(mounted.path());
        let subject = document(&bench(&[&mounted.path()]).expect(0))["subjects"][0].clone();
        assert_eq!(subject["access"], access, "{options}: {subject}");
        let warnings = subject["warnings"].to_string();
        let is_told = warnings.contains("O_DIRECT was refused, or does nothing there");
        assert_eq!(is_told, access == "dropped", "{options}: {warnings}");
        drop(mounted);
    }
}

#[test]
fn a_file_with_many_names_is_there_once() {
    let test = "a_file_with_many_names_is_there_once";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 220);
    filled(mounted.path());
    for name in ["c", "d", "e"] {
        std::fs::hard_link(mounted.join("a"), mounted.join(name)).unwrap();
    }
    let subject = document(&bench(&[&mounted.path()]).expect(0))["subjects"][0].clone();
    // Two of 6 MiB, and 120 small ones.
    let bytes = 2 * (6 << 20) + 120 * 3000;
    assert_eq!(subject["holds"]["bytes"], bytes, "{subject}");
    assert_eq!(subject["holds"]["files"], 122, "{subject}");
    assert_eq!(subject["span_bytes"], 12 << 20, "{subject}");
}

#[test]
fn little_that_was_written_is_told_of() {
    let test = "little_that_was_written_is_told_of";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 220);
    let args: [&dyn AsRef<std::ffi::OsStr>; 4] =
        [&mounted.path(), &"--write", &"--scratch", &"16MiB"];
    let subject = document(&bench(&args).expect(0))["subjects"][0].clone();
    let write = &subject["write"];
    check_measure(write);
    let warnings = subject["warnings"].to_string();
    assert!(
        warnings.contains("MB were written for the figure"),
        "{warnings}"
    );
    // Whatever this machine does meanwhile, what is said and what is kept agree.
    let (taken, cut) = (
        write["samples"].as_array().unwrap(),
        write["cut"].as_array().unwrap(),
    );
    assert!(taken.len() + cut.len() <= 9, "{write}");
    let is_told = |text: &str| warnings.contains(text);
    assert_eq!(
        is_told("never got steady"),
        write["steady"] == false,
        "{warnings}"
    );
    assert_eq!(is_told("cut: "), !cut.is_empty(), "{warnings}");
}
