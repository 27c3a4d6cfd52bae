//! Which files are copied: the same as rsync copies with the same rules.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use support::judge::{same_trees, walk};
use support::program::{Running, contents, inhaul, run};
use support::{Scratch, need_tools, tree};

/// A tree with something for every rule to decide about.
fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    let dirs = [
        "",
        "a",
        "a/b",
        "a/b/c",
        "a/cache",
        "cache",
        "d/a/b",
        "skip",
        "skip/keep",
        "x y",
    ];
    for dir in dirs {
        std::fs::create_dir_all(source.join(dir)).unwrap();
    }
    for dir in dirs {
        let dir = source.join(dir);
        for (index, name) in [
            "one.txt",
            "two.tmp",
            "keep.tmp",
            ".hidden",
            "three.TXT",
            "b",
            "[x]",
            "#note",
            "q?",
        ]
        .into_iter()
        .enumerate()
        {
            if !dir.join(name).exists() {
                tree::paint(&dir.join(name), index as u64, 10 + index as u64);
            }
        }
    }
    std::os::unix::fs::symlink("one.txt", source.join("a/link.txt")).unwrap();
    tree::paint(&source.join(tree::name(b"a/bytes \xff.txt")), 1, 5);
    tree::age(&source, 1_000_000_000);
    source
}

fn check(more_for_rsync: &[&str], options: &[&OsStr]) {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let expected = scratch.dir("expected");
    let mut rsync = Command::new("rsync");
    rsync.arg("-aHAX").args(more_for_rsync).args(options);
    let output = rsync
        .args([contents(&source), contents(&expected)])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let target = scratch.join("target");
    let from = contents(&source);
    let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy"];
    args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
    args.extend([&from as &dyn AsRef<OsStr>, &target]);
    run(&args).expect(0);
    same_trees(&walk(&expected), &walk(&target));
}

#[test]
fn rules_decide_as_in_rsync() {
    if !need_tools("rules_decide_as_in_rsync", &["rsync"]) {
        return;
    }
    let cases: [&[&str]; 20] = [
        &["--exclude=*.tmp"],
        &["--include=keep.tmp", "--exclude=*.tmp"],
        &["--exclude=*.tmp", "--include=keep.tmp"],
        &["--exclude=cache/"],
        &["--exclude=/cache"],
        &["--exclude=cache"],
        &["--exclude=b"],
        &["--exclude=b/"],
        &["--exclude=a/b"],
        &["--exclude=/a/b"],
        &["--exclude=/a/*"],
        &["--exclude=/a/**"],
        &["--exclude=a/**/b"],
        &["--include=/skip/keep/***", "--exclude=/skip/**"],
        &["--include=*/", "--include=*.txt", "--exclude=*"],
        &["--exclude=.*"],
        &["--exclude=\\[x\\]", "--exclude=q\\?"],
        &["--exclude=[a-o]*.tx?"],
        &["--exclude=x y/**"],
        &[
            "--exclude=**/cache/**",
            "--exclude=[[:upper:]]*",
            "--exclude=*.TXT",
        ],
    ];
    for case in cases {
        let case: Vec<&OsStr> = case.iter().map(OsStr::new).collect();
        check(&[], &case);
    }
}

#[test]
fn rules_of_bytes_and_rules_from_a_file() {
    if !need_tools("rules_of_bytes_and_rules_from_a_file", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let list = scratch.join("rules");
    tree::text(
        &list,
        "# a comment\n\n; another\n+ keep.tmp\n- *.tmp\n.hidden\n#note\n",
    );
    let mut from = OsString::from("--exclude-from=");
    from.push(&list);
    check(&[], &[&from]);
    check(
        &[],
        &[
            OsStr::new("--include=two.tmp"),
            &from,
            OsStr::new("--exclude=*.txt"),
        ],
    );
    let mut bytes = OsString::from("--exclude=");
    bytes.push(tree::name(b"bytes \xff*"));
    check(&[], &[&bytes]);
}

#[test]
fn lists_of_files_are_taken_as_in_rsync() {
    if !need_tools("lists_of_files_are_taken_as_in_rsync", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let list = scratch.join("list");
    let mut from = OsString::from("--files-from=");
    from.push(&list);
    for text in [
        &b"a/one.txt\nd/a/b/two.tmp\n"[..],
        b"a/b\n",
        b"/a/b/\n./cache/one.txt\n\n# comment\n; another\n",
        b"skip/keep\na/link.txt\na//b/c/one.txt\n",
        b"a/bytes \xff.txt\nx y/q?\n",
        b"a/b\na/b/c\na/b/c/one.txt\na/b\r\n",
    ] {
        std::fs::write(&list, text).unwrap();
        check(&["-r"], &[&from]);
    }
    std::fs::write(&list, b"a/b/c\0x y/#note\0a/bytes \xff.txt\0").unwrap();
    check(&["-r"], &[&from, OsStr::new("--from0")]);
    std::fs::write(&list, b"a\n").unwrap();
    check(
        &["-r"],
        &[
            &from,
            OsStr::new("--exclude=b/"),
            OsStr::new("--exclude=*.tmp"),
        ],
    );
}

#[test]
fn a_listed_file_that_is_not_there_is_reported() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let list = scratch.join("list");
    let target = scratch.join("target");
    tree::text(&list, "a/one.txt\na/absent\nabsent/file\n");
    let from = contents(&source);
    let ran = run(&[&"copy", &"--files-from", &list, &from, &target]).expect(3);
    assert!(
        ran.err().contains("a/absent") && ran.err().contains("absent/file"),
        "{}",
        ran.err()
    );
    assert!(target.join("a/one.txt").is_file());
    assert_eq!(support::judge::files(&walk(&target)), 1);
    tree::text(&list, "../source/a/one.txt\n");
    run(&[&"copy", &"--files-from", &list, &from, &target]).expect(2);
    run(&[
        &"copy",
        &"--files-from",
        &scratch.join("no list"),
        &from,
        &target,
    ])
    .expect(2);
}

#[test]
fn hash_takes_the_same_rules() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let mut command = inhaul(&[
        &"hash",
        &"--exclude=/a/**",
        &"--include=keep.tmp",
        &"--exclude=*.tmp",
        &".",
    ]);
    command.current_dir(&source);
    let out = Running::start(command).finish().expect(0).out();
    let paths: Vec<&str> = out.lines().filter_map(|line| line.get(66..)).collect();
    assert!(
        paths.iter().any(|path| path.ends_with("cache/keep.tmp")),
        "{out}"
    );
    assert!(
        !out.contains("two.tmp") && !out.contains("a/one.txt"),
        "{out}"
    );
    assert_eq!(
        paths.iter().filter(|path| path.ends_with('b')).count(),
        6,
        "{out}"
    );
}
