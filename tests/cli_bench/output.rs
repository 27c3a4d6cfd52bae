//! What is printed, and what is refused.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::program::{Running, inhaul, powerless, run};
use crate::support::{Scratch, need_root, need_tools};
use crate::{Device, number};

#[test]
fn misuse_is_refused_with_what_to_do() {
    run(&[&"bench"]).expect(2);
    run(&[&"bench", &"--repetitions", &"2", &"/tmp"])
        .expect(2)
        .says("fewer than 3 samples");
    run(&[&"bench", &"--seconds", &"0.01", &"/tmp"])
        .expect(2)
        .says("0.1 to 3600");
    run(&[&"bench", &"/dev/null"])
        .expect(2)
        .says("nothing to measure");
    run(&[&"bench", &"/nonexistent"])
        .expect(6)
        .says("the source is not there: /nonexistent")
        .says("nothing is left behind");
    let scratch = Scratch::new();
    // Told before anything is measured, and before what cannot be measured.
    run(&[&"bench", &"--html", &"/nonexistent/page.html", &"/dev/null"])
        .expect(2)
        .says("/nonexistent/page.html")
        .says("it cannot be made: No such file or directory");
    let page = scratch.join("page.html");
    run(&[&"bench", &"--html", &page, &"/nonexistent"]).expect(6);
    assert!(!page.exists(), "no page without a bench");
    let closed = scratch.dir("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    Running::start(powerless(&inhaul(&[&"bench", &closed])))
        .finish()
        .expect(6)
        .says("no permission to read");
    run(&[&"bench", &scratch.path()])
        .expect(6)
        .says("too little to measure");
}

#[test]
fn the_table_says_how_it_was_measured() {
    let test = "the_table_says_how_it_was_measured";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 8, &[]);
    let ran = run(&[
        &"bench",
        &"--seconds",
        &"0.1",
        &"-q",
        &"--io",
        &"blocking",
        &device.0,
    ]);
    let ran = ran
        .expect(0)
        .says("bench of 1 drive\n")
        .says("3 samples of 0.1 s each, of reads past all caches after 0.05 s that do not count; blocking")
        .says("reading, one by one")
        .says("before you believe it");
    assert_eq!(ran.err(), "");
}

#[test]
fn every_form_of_output_and_the_comparison_of_two() {
    let test = "every_form_of_output_and_the_comparison_of_two";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 12, &[]);
    let quick: [&dyn AsRef<OsStr>; 5] = [&"bench", &"-q", &"--seconds", &"0.1", &device.0];
    let with = |more: &[&dyn AsRef<OsStr>]| {
        let all: Vec<&dyn AsRef<OsStr>> = quick.into_iter().chain(more.iter().copied()).collect();
        run(&all)
    };
    let csv = with(&[&"--csv"]).expect(0).out();
    let mut lines = csv.split("\r\n");
    let titles = lines.next().unwrap().split(',').count();
    let read = lines.find(|line| line.starts_with("read,")).unwrap();
    assert_eq!(read.split(',').count(), titles);
    assert_eq!(read.split(',').nth(2), Some(&device.0[..]));

    let fio = with(&[&"--output-format", &"fio"]).expect(0);
    let fio: Value = serde_json::from_slice(&fio.stdout).unwrap();
    assert!(fio["fio version"].as_str().unwrap().starts_with("inhaul-"));
    let job = &fio["jobs"][0]["read"];
    assert!(job["bw_bytes"].as_u64().unwrap() > 0 && job["total_ios"].as_u64().unwrap() > 0);

    let (page, kept) = (scratch.join("page.html"), scratch.join("kept.json"));
    let json = with(&[&"--json", &"--html", &page]).expect(0);
    std::fs::write(&kept, &json.stdout).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<svg"));
    with(&[&"--html", &page])
        .expect(2)
        .says("nothing is overwritten unasked");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), text);

    run(&[&"bench", &"--compare", &kept, &kept])
        .expect(0)
        .says("0 slower, 0 faster, 3 the same");
    let mut slower: Value = serde_json::from_slice(&json.stdout).unwrap();
    for field in ["rate", "rate_min", "rate_max"] {
        let rate = &mut slower["subjects"][0]["read"][field];
        *rate = Value::from(number(rate) / 8.0);
    }
    let other = scratch.join("other.json");
    std::fs::write(&other, slower.to_string()).unwrap();
    let ran = run(&[&"bench", &"--compare", &kept, &other, &"--json"]).expect(0);
    let compared: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(compared["type"], "bench-compare");
    assert_eq!(compared["rows"][0]["verdict"], "slower");
    assert!((number(&compared["rows"][0]["ratio"]) - 0.125).abs() < 1e-9);
    run(&[&"bench", &"--compare", &kept, &page])
        .expect(2)
        .says("not a report of a bench");
}
