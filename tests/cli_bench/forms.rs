//! Forms that have no place for what is to be known, and pages that are not there until they are
//! whole.

use std::path::Path;

use rustix::process::Signal;

use crate::Device;
use crate::support::program::{Running, inhaul, run, so_far, under};
use crate::support::{Scratch, need_root, need_tools, wait_for};

#[test]
fn what_failed_and_what_to_know_is_said_where_a_form_has_no_place_for_it() {
    let test = "what_failed_and_what_to_know_is_said_where_a_form_has_no_place_for_it";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let [good, bad] = ["one", "two"].map(|name| Device::new(&scratch, name, 12, &[]));
    // What is read of it fails.
    let image = std::fs::File::options()
        .write(true)
        .open(scratch.join("two"))
        .unwrap();
    image.set_len(0).unwrap();
    let ran = |form: &str| {
        run(&[
            &"bench",
            &"-q",
            &"--alone",
            &"--seconds=0.1",
            &form,
            &good.0,
            &bad.0,
        ])
        .expect(3)
    };
    let failed = format!("note: {}: ", bad.name());
    let (one, other) = (good.name(), bad.name());
    let small = format!("note: {one} and {other}: only 12 MB can be read");
    for form in ["--csv", "--output-format=fio"] {
        let told = ran(form).err();
        let is_said = |text: &str| told.lines().any(|line| line.starts_with(text));
        assert!(
            is_said(&failed) && told.contains("Input/output error"),
            "{told}"
        );
        assert!(is_said(&small), "{told}");
    }
    // These have it where they have everything.
    for form in ["--json", "--output-format=table"] {
        assert_eq!(ran(form).err(), "");
    }
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_killed_bench_leaves_nothing_where_its_page_was_to_be() {
    let test = "a_killed_bench_leaves_nothing_where_its_page_was_to_be";
    if !need_root(test) || !need_tools(test, &["losetup", "strace"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 12, &[]);
    let folder = scratch.dir("pages");
    let page = folder.join("page.html");
    let bench = |seconds: &str| {
        inhaul(&[
            &"bench",
            &"--progress=plain",
            &"--seconds",
            &seconds,
            &"--html",
            &page,
            &device.0,
        ])
    };
    // While it measures.
    let running = Running::start(bench("60"));
    let told = running.stderr_file();
    wait_for("a sample", || {
        let text = so_far(&told);
        String::from_utf8_lossy(&text)
            .contains("(1 of 1)")
            .then_some(())
    });
    assert_eq!(names(&folder), [""; 0]);
    running.signal(Signal::KILL);
    running.finish().expect(137);
    assert_eq!(names(&folder), [""; 0]);
    // When the page is written, and has no name yet.
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=linkat",
        "-e",
        "inject=linkat:error=EIO:signal=KILL",
    ];
    Running::start(under(&strace, &bench("0.1")))
        .finish()
        .expect(137);
    assert_eq!(names(&folder), [""; 0]);
    Running::start(bench("0.1")).finish().expect(0);
    assert_eq!(names(&folder), ["page.html"]);
}
