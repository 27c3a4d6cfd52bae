//! `hash` prints what b3sum prints; `verify` finds whatever is not as it was copied.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::judge::files;
use support::program::{Running, contents, inhaul, job, run};
use support::{Scratch, judge, need_tools, odd, tree};

fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    for (index, len) in odd::SIZES.into_iter().enumerate() {
        tree::paint(&source.join(format!("size {len}")), index as u64, len);
    }
    for (index, name) in odd::NAMES.into_iter().enumerate() {
        tree::paint(
            &source.join(tree::name(name)),
            index as u64,
            10 + index as u64,
        );
    }
    tree::many_small(&source.join("small"), 3, 300);
    std::os::unix::fs::symlink("size 1", source.join("link")).unwrap();
    tree::sparse(&source.join("holes"), 1, 40 << 20, &[(10 << 20, 100)]);
    source
}

fn sorted(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

/// Returns b3sum's lines of all files of a tree it can name, run in the tree.
fn b3sum(root: &Path) -> Vec<Vec<u8>> {
    let tree = judge::walk(root);
    let names: Vec<&[u8]> = tree
        .iter()
        .filter(|(path, node)| node.kind == "file" && !path.contains(&0xff))
        .map(|(path, _)| path.as_slice())
        .collect();
    assert!(names.len() > 300);
    let mut command = Command::new("b3sum");
    command.arg("--").args(
        names
            .iter()
            .map(|name| Path::new(".").join(OsStr::from_bytes(name))),
    );
    let output = command.current_dir(root).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    sorted(&output.stdout)
}

#[test]
fn hash_prints_the_lines_of_b3sum() {
    if !need_tools("hash_prints_the_lines_of_b3sum", &["b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let expected = b3sum(&source);
    for io in ["uring", "blocking"] {
        let mut command = inhaul(&[&"hash", &"--io", &io, &"."]);
        command.current_dir(&source);
        let ran = Running::start(command).finish().expect(0);
        let digest_of_path = |line: &[u8]| {
            // b3sum was given "./NAME"; here it may be "NAME".
            let text = String::from_utf8_lossy(line).replace("  ./", "  ");
            (!text.contains('\u{fffd}') && !text.is_empty()).then_some(text)
        };
        let ours: Vec<String> = sorted(&ran.stdout)
            .iter()
            .filter_map(|line| digest_of_path(line))
            .collect();
        let theirs: Vec<String> = expected
            .iter()
            .filter_map(|line| digest_of_path(line))
            .collect();
        assert_eq!(ours, theirs, "--io {io}");
    }
}

#[test]
fn b3sum_checks_what_hash_prints() {
    if !need_tools("b3sum_checks_what_hash_prints", &["b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 3, 100);
    tree::paint(&source.join("large"), 2, 5_000_001);
    tree::paint(&scratch.join("new\nline"), 2, 5);
    let ran = run(&[&"hash", &source, &scratch.join("new\nline")]).expect(0);
    let list = scratch.join("list");
    std::fs::write(&list, &ran.stdout).unwrap();
    let output = Command::new("b3sum").arg("-c").arg(&list).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(output.stdout.split(|&b| b == b'\n').count(), 103);
}

/// A verified copy, and the program to verify it again.
fn copied(scratch: &Scratch) -> PathBuf {
    let target = scratch.join("target");
    run(&[&"copy", &contents(&source(scratch)), &target]).expect(0);
    run(&[&"verify", &target]).expect(0);
    target
}

/// Changes one byte of a file, and waits until the medium has it.
fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn verify_finds_flipped_bytes() {
    let scratch = Scratch::new();
    let target = copied(&scratch);
    for io in ["uring", "blocking"] {
        run(&[&"verify", &"--io", &io, &target]).expect(0);
    }
    flip(&target.join("size 3145745"), 3_145_744);
    flip(&target.join("holes"), 30 << 20);
    flip(&target.join("small/002/000150"), 0);
    flip(&target.join(tree::name(b"not \xff\xfe utf-8")), 3);
    for io in ["uring", "blocking"] {
        let ran = run(&[&"verify", &"--io", &io, &target]).expect(4);
        let text = ran.out() + &ran.err();
        for name in ["size 3145745", "holes", "small/002/000150", "utf-8"] {
            assert!(text.contains(name), "{name} in {text}");
        }
        assert!(!text.contains("size 1048577"), "{text}");
        let all = run(&[&"verify", &"--json", &"--io", &io, &target])
            .expect(4)
            .events();
        let problems = all.iter().filter(|event| event["type"] == "problem");
        let kinds: Vec<&str> = problems
            .map(|event| event["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["digest-mismatch"; 4]);
    }
}

#[test]
fn verify_finds_files_that_became_longer_or_shorter() {
    let scratch = Scratch::new();
    let target = copied(&scratch);
    let set_len = |name: &str, len| {
        std::fs::OpenOptions::new()
            .write(true)
            .open(target.join(name))
            .unwrap()
            .set_len(len)
    };
    set_len("size 1048576", 1_048_577).unwrap();
    set_len("size 8388613", 8_388_612).unwrap();
    set_len("size 0", 1).unwrap();
    set_len("size 1", 0).unwrap();
    let events = run(&[&"verify", &"--json", &target]).expect(4).events();
    assert_eq!(
        events
            .iter()
            .filter(|event| event["type"] == "problem")
            .count(),
        4
    );
}

#[test]
fn verify_lists_what_is_missing() {
    let scratch = Scratch::new();
    let target = copied(&scratch);
    std::fs::remove_file(target.join("size 4096")).unwrap();
    std::fs::remove_dir_all(target.join("small/001")).unwrap();
    std::fs::remove_file(target.join("size 4097")).unwrap();
    std::fs::create_dir(target.join("size 4097")).unwrap();
    std::fs::remove_file(target.join("size 4095")).unwrap();
    std::os::unix::fs::symlink("size 1", target.join("size 4095")).unwrap();
    let ran = run(&[&"verify", &target]).expect(3);
    let text = ran.out() + &ran.err();
    for name in [
        "size 4095",
        "size 4096",
        "size 4097",
        "small/001/000064",
        "small/001/000127",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    // Bytes that differ count for more than names that are gone.
    flip(&target.join("size 1048577"), 1);
    run(&[&"verify", &target]).expect(4);
}

#[test]
fn verify_takes_no_manifest_that_was_changed() {
    let scratch = Scratch::new();
    let target = copied(&scratch);
    let manifest = job(&target).join("manifest.b3");
    let good = std::fs::read(&manifest).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    for bad in [
        text.replacen("  ", " ", 1),
        text.replacen('\n', "\n# comment\n", 1),
        text.replacen('\n', "\n\n", 1),
        text.replacen("size 1\n", "../size 1\n", 1),
        text.replacen("size 1\n", "/etc/passwd\n", 1),
        text[..text.len() - 1].to_owned(),
        text[1..].to_owned(),
    ] {
        assert_ne!(bad, text);
        std::fs::write(&manifest, &bad).unwrap();
        let ran = run(&[&"verify", &target]);
        assert_eq!(ran.code, 1, "{}{}", ran.out(), ran.err());
        assert!(ran.err().contains("manifest.b3"), "{}", ran.err());
    }
    std::fs::write(&manifest, &good).unwrap();
    run(&[&"verify", &target]).expect(0);
    std::fs::remove_file(&manifest).unwrap();
    assert_ne!(run(&[&"verify", &target]).code, 0);
}

#[test]
fn verify_takes_an_older_job_by_name() {
    let scratch = Scratch::new();
    let target = copied(&scratch);
    let first = job(&target).file_name().unwrap().to_owned();
    let more = scratch.dir("more");
    tree::text(&more.join("file"), "x");
    run(&[&"copy", &more, &target]).expect(0);
    flip(&target.join("size 1048577"), 5);
    run(&[&"verify", &target]).expect(0);
    run(&[&"verify", &"--job", &first, &target]).expect(4);
    let count = files(&judge::walk(&target)) - 1;
    let events = run(&[&"verify", &"--json", &"--job", &first, &target])
        .expect(4)
        .events();
    assert_eq!(
        events.last().unwrap()["report"]["totals"]["files"],
        count - 1
    );
    run(&[&"verify", &"--job=../..", &target]).expect(2);
    assert_ne!(
        run(&[&"verify", &"--job=20000101-000000-0000", &target]).code,
        0
    );
}
