//! Rules that choose files, in the order they were typed.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use inhaul::cli::args::{Cli, Command};
use inhaul::cli::resolve::rules;
use inhaul::scan::Rule;

use crate::{Lists, in_world, words};

/// Returns the rules of a command line as `+pattern` and `-pattern`.
fn rules_of(args: Vec<OsString>, lists: &Lists<'_>) -> Vec<String> {
    let matches = Cli::command().try_get_matches_from(args).unwrap();
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let inner = matches.subcommand().unwrap().1;
    let (filter, from0) = match &cli.command {
        Command::Copy(args) => (&args.filter, args.from0),
        Command::Hash(args) => (&args.filter, args.from0),
        other => panic!("{other:?}"),
    };
    let found = in_world(lists, |world| rules(filter, from0, inner, world)).unwrap();
    found
        .into_iter()
        .map(|rule| match rule {
            Rule::Include(pattern) => format!("+{}", String::from_utf8_lossy(&pattern)),
            Rule::Exclude(pattern) => format!("-{}", String::from_utf8_lossy(&pattern)),
        })
        .collect()
}

#[test]
fn filter_rules_keep_their_order() {
    let lists = Lists::from([
        ("list", &b"x\n# no\n; no\n\n+ y\n- z\n-w\n#\n"[..]),
        ("nul", b"p\nq\0+ r\0"),
    ]);
    let cases: &[(&str, &[&str])] = &[
        ("copy s t", &[]),
        (
            "copy --include a --exclude b --include c s t",
            &["+a", "-b", "+c"],
        ),
        (
            "copy --exclude b --include a --exclude c s t",
            &["-b", "+a", "-c"],
        ),
        ("copy s --exclude=b t --include=a", &["-b", "+a"]),
        ("copy --exclude -x --include=-- s t", &["--x", "+--"]),
        (
            "copy --exclude 1 --exclude-from list --include 2 s t",
            &["-1", "-x", "+y", "-z", "--w", "+2"],
        ),
        (
            "hash --include 2 --exclude-from nul -0 --exclude 1 p",
            &["+2", "-p\nq", "+r", "-1"],
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(rules_of(words(line), &lists), *expected, "{line}");
    }
}
