//! What programs and people read: events, reports, and no byte that moves a cursor.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::judge::{bytes, files, walk};
use support::program::{Ran, contents, job, report, run};
use support::{Scratch, odd, tree};

fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    for (index, name) in odd::NAMES.into_iter().enumerate() {
        tree::paint(&source.join(tree::name(name)), index as u64, 10);
    }
    tree::many_small(&source.join("small"), 3, 50);
    tree::paint(&source.join("large"), 2, 2_000_000);
    source
}

/// Fails unless every event has what all events have; returns their types in order.
fn types(ran: &Ran) -> Vec<String> {
    ran.events()
        .iter()
        .map(|event| {
            assert_eq!(event["schema"], 1, "{event}");
            event["type"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn events_of_a_copy_end_in_its_report() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    let ran = run(&[&"copy", &"--json", &source, &target]).expect(0);
    let kinds = types(&ran);
    assert_eq!(kinds.first().unwrap(), "start");
    assert_eq!(kinds.last().unwrap(), "summary");
    assert_eq!(kinds.iter().filter(|kind| *kind == "summary").count(), 1);
    assert_eq!(kinds.iter().filter(|kind| *kind == "drive").count(), 1);

    let report = report(&target);
    let tree = walk(&source);
    assert_eq!(ran.events().last().unwrap()["report"], report);
    assert_eq!(report["totals"]["files"], files(&tree));
    assert_eq!(report["totals"]["bytes"], bytes(&tree));
    assert_eq!(report["totals"]["problems"], 0);
    assert_eq!(
        report["job"],
        job(&target).file_name().unwrap().to_str().unwrap()
    );
    let lane = &report["lanes"][0];
    assert_eq!(lane["totals"]["files"], files(&tree));
    assert!(["source", "hash", "target", "limit"].contains(&lane["limited_by"].as_str().unwrap()));
}

#[test]
fn events_name_every_problem_with_its_exact_path() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    let ran = run(&[&"copy", &"--json", &source, &target]).expect(3);
    types(&ran);
    let count = files(&walk(&source));
    let mut named: Vec<Vec<u8>> = ran
        .events()
        .iter()
        .filter(|event| event["type"] == "problem")
        .map(|event| {
            assert_eq!(event["kind"], "target-exists");
            exact(event)
        })
        .collect();
    named.sort();
    let prefix = source.as_os_str().as_encoded_bytes();
    let mut expected: Vec<Vec<u8>> = walk(&source)
        .into_iter()
        .filter(|(_, node)| node.kind == "file")
        .map(|(path, _)| [prefix, b"/", &path].concat())
        .collect();
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(report(&target)["problem_count"], count);
    // The list beside the report is as complete, a line each.
    let list = std::fs::read_to_string(job(&target).join("problems.ndjson")).unwrap();
    let mut spooled: Vec<Vec<u8>> = list
        .lines()
        .map(|line| exact(&serde_json::from_str(line).unwrap()))
        .collect();
    spooled.sort();
    assert_eq!(spooled, expected);
}

fn exact(event: &Value) -> Vec<u8> {
    match event["path_hex"].as_str() {
        None => event["path"].as_str().unwrap().as_bytes().to_vec(),
        Some(hex) => (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect(),
    }
}

#[test]
fn a_run_that_cannot_begin_says_so_in_an_event() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let ran = run(&[&"copy", &"--json", &source, &source]).expect(6);
    let events = ran.events();
    let error = events.last().unwrap();
    assert_eq!(
        (&error["type"], &error["kind"]),
        (&"error".into(), &"refused".into())
    );
}

#[test]
fn events_of_hash_and_verify() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    run(&[&"copy", &"-q", &contents(&source), &target]).expect(0);
    let hash = run(&[&"hash", &"--json", &source]).expect(0);
    let count = types(&hash).iter().filter(|kind| *kind == "file").count();
    assert_eq!(count, files(&walk(&source)));
    let verify = run(&[&"verify", &"--json", &target]).expect(0);
    assert_eq!(types(&verify).last().unwrap(), "summary");
    let events = verify.events();
    assert_eq!(events.last().unwrap()["report"]["totals"]["files"], count);
}

/// Fails if a byte was printed that a terminal would obey.
#[track_caller]
fn check_harmless(ran: &Ran) {
    for bytes in [&ran.stdout, &ran.stderr] {
        let text = std::str::from_utf8(bytes).expect("what is printed is text");
        for c in text.chars() {
            let obeyed = c.is_control() && c != '\n';
            assert!(!obeyed && c != '\u{202e}', "{c:?} in {text:?}");
        }
    }
}

#[test]
fn no_name_reaches_a_terminal_as_a_command() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join(Path::new("target \x1b[2J"));
    let names = odd::NAMES
        .iter()
        .filter(|name| name.contains(&0x1b))
        .count();
    assert!(names > 0);
    for args in [
        &["-v"][..],
        &["-v"],
        &["-vv", "--existing=skip"],
        &["-n", "-v"],
        &["-P"],
    ] {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"copy", &"--color=never"];
        all.extend(args.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
        all.extend([&source as &dyn AsRef<std::ffi::OsStr>, &target]);
        let ran = run(&all);
        check_harmless(&ran);
    }
    let ran = run(&[&"copy", &source, &target]).expect(3);
    check_harmless(&ran);
    assert!(
        ran.err().contains("[31mred"),
        "the name is not shown: {}",
        ran.err()
    );
    check_harmless(&run(&[&"verify", &"-v", &target]));
    check_harmless(&run(&[&"copy", &scratch.join("absent \x1b[2J"), &target]).expect(2));
    check_harmless(&run(&[&"copy", &"--\x1b[2J", &source, &target]).expect(2));
    check_harmless(&run(&[&"copy", &"--bwlimit=\x1b[2J", &source, &target]).expect(2));
    check_harmless(&run(&[&"copy", &"--existing=\x1b[2J", &source, &target]).expect(2));
}

#[test]
fn quiet_says_nothing_of_a_success_and_everything_of_a_failure() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::text(&source.join("file"), "x");
    let target = scratch.join("target");
    let ran = run(&[&"copy", &"-q", &source, &target]).expect(0);
    assert_eq!(ran.out() + &ran.err(), "");
    let ran = run(&[&"copy", &"-q", &source, &target]).expect(3);
    assert!((ran.out() + &ran.err()).contains("source/file"));
}
