//! Command lines that cannot be done.

use std::ffi::OsString;

use inhaul::cli::{Rejected, parse};

use crate::{Lists, clap_code, in_world, misuse};

#[test]
fn what_makes_no_sense_says_what_to_do() {
    let cases = [
        (
            "copy only",
            "there is a SOURCE or a TARGET, but not both: only",
            "inhaul copy SOURCE... TARGET",
        ),
        (
            "copy --delete s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        (
            "copy --delete-after s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        (
            "copy --del s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        ("copy --memory 12X s t", "--memory 12X", "512MiB"),
        ("copy --memory 1M s t", "--memory 1M is 1.05 MB", "512MiB"),
        (
            "copy --bwlimit 100 s t",
            "--bwlimit 100",
            "write a number and a unit",
        ),
        (
            "copy --bwlimit fast s t",
            "--bwlimit fast",
            "write a number and a unit",
        ),
        (
            "copy --files-from none s t",
            "--files-from none",
            "can be read",
        ),
        (
            "hash --exclude-from none p",
            "--exclude-from none",
            "can be read",
        ),
        (
            "copy --exclude-from - --files-from - s t",
            "standard input ('-') is named for more than one list",
            "put all lists but one into files",
        ),
        ("resume --memory 1M", "--memory 1M is 1.05 MB", "512MiB"),
        (
            "resume t --bwlimit 100",
            "--bwlimit 100",
            "write a number and a unit",
        ),
        (
            "verify /t --job ../x",
            "--job ../x",
            "a folder in TARGET/.inhaul",
        ),
        (
            "verify /t --job ..",
            "--job ..",
            "a folder in TARGET/.inhaul",
        ),
        ("verify /t --job=", "--job ", "a folder in TARGET/.inhaul"),
    ];
    for (line, what, next) in cases {
        let misuse = misuse(line);
        assert_eq!(misuse.what, what, "{line}");
        assert!(misuse.next.contains(next), "{line}: {}", misuse.next);
        assert!(!misuse.why.is_empty());
    }
    for args in [
        ["inhaul", "copy", "", "t"],
        ["inhaul", "copy", "s", ""],
        ["inhaul", "hash", "p", ""],
        ["inhaul", "copy", "s", "--files-from="],
    ] {
        let args = args.into_iter().map(OsString::from);
        match in_world(&Lists::new(), |world| parse(args, world)) {
            Err(Rejected::Clap(error)) => assert_eq!(error.exit_code(), 2),
            other => panic!("an empty path names nothing: {other:?}"),
        }
    }
}

#[test]
fn what_does_not_parse_is_code_2() {
    for line in [
        "",
        "frobnicate",
        "copy",
        "copy --existing maybe s t",
        "copy --io fast s t",
        "copy --preserve owner s t",
        "copy --verify source s t",
        "copy --verify s t",
        "copy -P --progress none s t",
        "copy --unknown s t",
        "hash",
        "verify",
        "verify a b",
        "resume a b",
        "resume --existing skip a",
        "resume --exclude x a",
        "completions tcsh9",
    ] {
        assert_eq!(clap_code(line), 2, "{line}");
    }
    for line in [
        "--help",
        "-h",
        "--version",
        "copy --help",
        "resume --help",
        "verify -h",
    ] {
        assert_eq!(clap_code(line), 0, "{line}");
    }
}
