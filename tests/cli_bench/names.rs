//! Names made to harm, of directories, images and drives: none reaches a terminal or a page as it is,
//! and programs get it exactly.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use crate::serials::{can_have_serials, with_serials};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul};
use crate::support::{Scratch, can_mount, tool};
use crate::{Device, filled};

/// Sets a title, is an element and a formula, ends a line, turns text around, clears a screen by one
/// character, and is not UTF-8.
const NAME: &[u8] = b"=1,\x1b]0;x\x07<script>\"'&\r\ny\xe2\x80\xae\xc2\x9b2Jz\xff";

/// The same without a line end, of which there is none in a record of udev, and in UTF-8.
const SERIAL: &str = "=1,\u{1b}]0;x\u{7}<script>\"'&y\u{202e}\u{9b}2Jz";

/// How text for people has them.
const TOLD: &str = r"\x1b]0;x\x07<script>";

/// Fails if a terminal would obey any of what was printed.
fn harmless(text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap();
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!text.contains(obeyed), "{text:?}");
}

/// Runs the program where a device has that serial number.
fn run(scratch: &Scratch, device: &str, args: &[&dyn AsRef<OsStr>]) -> Ran {
    let serials: [(&str, &[u8]); 1] = [(device, SERIAL.as_bytes())];
    let ran = Running::start(with_serials(scratch, &serials, &inhaul(args))).finish();
    harmless(&ran.stderr);
    ran
}

fn parsed(ran: &Ran) -> Value {
    harmless(&ran.stdout);
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.concat()
}

#[test]
fn a_bench_shows_no_name_as_it_is() {
    let test = "a_bench_shows_no_name_as_it_is";
    if !can_have_serials(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "one", Fs::Ext4, 40);
    let directory = filled(mounted.path()).join(OsStr::from_bytes(NAME));
    std::fs::create_dir(&directory).unwrap();
    rustix::fs::rename(mounted.join("a"), directory.join("a")).unwrap();
    tool("sync", &[OsStr::new("-f"), directory.as_os_str()]);
    let (kept, page) = (scratch.join("kept.json"), scratch.join("page.html"));
    let bench = |more: &[&dyn AsRef<OsStr>]| {
        let quick: [&dyn AsRef<OsStr>; 5] = [
            &"bench",
            &"--seconds",
            &"0.1",
            &"--progress=plain",
            &"--alone",
        ];
        let mut all: Vec<&dyn AsRef<OsStr>> =
            quick.into_iter().chain(more.iter().copied()).collect();
        // Both on one drive, so that the path is in the name as well.
        let device = mounted.device().to_owned();
        all.extend::<[&dyn AsRef<OsStr>; 2]>([&directory, &device]);
        run(&scratch, &device, &all).expect(0).says(TOLD)
    };
    let table = bench(&[&"--html", &page]);
    harmless(&table.stdout);

    let json = bench(&[&"--json"]);
    let document = parsed(&json);
    let subject = &document["subjects"][0];
    assert_eq!(subject["path_hex"], hex(directory.as_os_str().as_bytes()));
    assert_eq!(subject["drives"][0]["serial"], SERIAL);

    let csv = bench(&[&"--csv"]).stdout;
    let lines = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = lines.split("\r\n").collect();
    for line in &lines {
        harmless(line.as_bytes());
        assert!(!line.contains(['\n', '\r']), "{line}");
    }
    let read = lines.iter().find(|line| line.starts_with("read,")).unwrap();
    assert!(read.contains(TOLD) && read.contains(",\"'=1,"), "{read}");

    let fio = parsed(&bench(&[&"--output-format", &"fio"]));
    let file = fio["jobs"][0]["job options"]["filename"].as_str().unwrap();
    assert!(file.contains("\u{1b}]0;x\u{7}<script>"), "{file}");

    let page = std::fs::read(&page).unwrap();
    harmless(&page);
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("]0;x\\x07&lt;script&gt;"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "that of the report");

    std::fs::write(&kept, &json.stdout).unwrap();
    let compare: [&dyn AsRef<OsStr>; 4] = [&"bench", &"--compare", &kept, &kept];
    let ran = run(&scratch, mounted.device(), &compare)
        .expect(0)
        .says(TOLD);
    harmless(&ran.stdout);
    let compare = [&compare[..], &[&"--json" as &dyn AsRef<OsStr>]].concat();
    let compared = parsed(&run(&scratch, mounted.device(), &compare).expect(0));
    assert_eq!(compared["rows"][0]["drive"], SERIAL);
}

#[test]
fn drives_shows_no_name_as_it_is() {
    let test = "drives_shows_no_name_as_it_is";
    if !can_have_serials(test) {
        return;
    }
    let scratch = Scratch::new();
    let (point, image) = (scratch.join(OsStr::from_bytes(NAME)), scratch.join("image"));
    let image = image.with_extension(OsStr::from_bytes(NAME));
    std::fs::File::create(&image)
        .unwrap()
        .set_len(40 << 20)
        .unwrap();
    let mounted = Mounted::make(&point, &image, Fs::Ext4, "noatime");
    let device = mounted.device();
    let ran = run(&scratch, device, &[&"drives", &"-v", &point])
        .expect(0)
        .says(TOLD);
    harmless(&ran.stdout);
    let document = parsed(&run(&scratch, device, &[&"drives", &"--json", &point]).expect(0));
    let drive = &document["drives"][0];
    assert_eq!(drive["serial"], SERIAL);
    let exact = |path: &Path| hex(path.as_os_str().as_bytes());
    assert_eq!(drive["mounts"][0]["path_hex"], exact(&point));
    assert_eq!(drive["image"]["path_hex"], exact(&image));
}

#[test]
fn a_target_has_its_name_in_no_table_as_it_is() {
    let test = "a_target_has_its_name_in_no_table_as_it_is";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 24, &[]);
    let image = scratch.join("target.img");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(220 << 20)
        .unwrap();
    let target = Mounted::make(
        &scratch.join(OsStr::from_bytes(NAME)),
        &image,
        Fs::Ext4,
        "noatime",
    );
    for form in ["table", "csv"] {
        let ran = Running::start(inhaul(&[
            &"bench",
            &"--seconds=0.1",
            &"--scratch=24MiB",
            &"--output-format",
            &form,
            &"--target",
            &target.path(),
            &device.0,
        ]));
        let ran = ran.finish().expect(0).says(TOLD);
        harmless(ran.out().replace("\r\n", "\n").as_bytes());
        harmless(&ran.stderr);
    }
}
