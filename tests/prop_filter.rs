//! The filter against the real rsync: the same rules on the same tree leave out the same names.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its tree has failed"
)]

mod scan_support;

use std::path::Path;
use std::process::Command;

use inhaul::scan::{Filter, Rule};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use scan_support::{Setup, make_file, skip};
use tempfile::TempDir;

/// A rule list in short: `-` or `+`, then a pattern, as words of one line.
const TABLE: &[&str] = &[
    "-a",
    "-/a",
    "-a/",
    "-/a/",
    "-f",
    "-/f",
    "-f/",
    "-a/f",
    "-/a/f",
    "-a/b/f",
    "-b/a.o",
    "-/b/a.o",
    "-*",
    "-/*",
    "-*/",
    "-/*/",
    "-*/*",
    "-/*/*",
    "-*/*/*",
    "-**",
    "-/**",
    "-***",
    "-*.o",
    "-/*.o",
    "-a/*.o",
    "-a/**",
    "-/a/**",
    "-a/***",
    "-/a/***",
    "-a/**/f",
    "-a**f",
    "-/a**f",
    "-**/f",
    "-**/a/f",
    "-**f",
    "-**/a/***",
    "-b/**/*.o",
    "-?",
    "-/?",
    "-??",
    "-?/f",
    "-[ab]",
    "-[!a]",
    "-[^a]",
    "-[a-b]/f",
    "-[[:alpha:]]",
    "-[[:punct:]]*",
    "-\\[x]",
    "-[[]x]",
    "-[]]",
    "-a\\*",
    "-a*",
    "-b\\-",
    "-ab",
    "-*b*",
    "-*b/",
    "+f -*",
    "+*/ +f -*",
    "+*/ +*.o -*",
    "+/a/ +/a/b/ +/a/b/** -*",
    "+/a/*** -*",
    "+a/ -a/* +f",
    "-f +f",
    "+/a/f -f",
    "-/a/b +a +** -*",
    "+*/ +a/**/f -*",
    "+*/ -b/* -f",
    "-[x]",
    "-.* -*-",
    "-a/***/f",
    "-**/",
    "-**/***",
];

fn make_tree(top: &Path) {
    let dirs = [
        "", "a/", "b/", "ab/", "a/a/", "a/b/", "b/a/", "b/b/", "ab/a/", "a/b/a/", "a/b/b/",
        "b/a/b/",
    ];
    for dir in dirs {
        for file in ["f", "a.o", "b-", "[x]", "a*", ".h", "]"] {
            make_file(top, &format!("{dir}{file}"), b"");
        }
    }
}

fn rules_of(words: &[String]) -> Vec<Rule> {
    let rule = |word: &String| match word.split_at(1) {
        ("+", pattern) => Rule::Include(pattern.as_bytes().to_vec()),
        (_, pattern) => Rule::Exclude(pattern.as_bytes().to_vec()),
    };
    words.iter().map(rule).collect()
}

/// What rsync lists.
fn judge(top: &Path, words: &[String]) -> Vec<String> {
    let rules = words.iter().map(|word| match word.split_at(1) {
        ("+", pattern) => format!("--include={pattern}"),
        (_, pattern) => format!("--exclude={pattern}"),
    });
    let output = Command::new("rsync")
        .args(["-r", "--list-only", "-8"])
        .args(rules)
        .arg(format!("{}/", top.display()))
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    // Mode, size, date, time, name; no name here has a space.
    let names = lines
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4));
    let mut names: Vec<_> = names
        .filter(|name| *name != ".")
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// What the walk yields.
fn ours(top: &Path, filter: Filter) -> Vec<String> {
    let setup = Setup {
        filter,
        ..Setup::default()
    };
    let record = setup.walk(top);
    let names = record.entries.iter().map(inhaul::scan::Entry::source_path);
    let names = names.map(|name| String::from_utf8(name).unwrap());
    let mut names: Vec<_> = names.chain(record.dir_paths()).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

fn has_rsync() -> bool {
    let found = Command::new("rsync").arg("--version").output().is_ok();
    if !found {
        skip("no rsync to compare with");
    }
    found
}

#[test]
fn the_table_is_judged_by_rsync() {
    if !has_rsync() {
        return;
    }
    let top = TempDir::new().unwrap();
    make_tree(top.path());
    let all = ours(top.path(), Filter::default());
    assert_eq!(all.len(), 11 + 12 * 7);
    let mut effective = 0;
    for line in TABLE {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let names = ours(top.path(), Filter::new(rules_of(&words)).unwrap());
        assert_eq!(names, judge(top.path(), &words), "{line}");
        effective += usize::from(names.len() < all.len());
    }
    assert!(effective > 60, "most rules must do something: {effective}");
}

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "f", ".o", "-", "*", "*", "**", "/", "/", "?", "[ab]", "[!a]", "[x]", "\\*",
        "\\[", "/***", "***", "[^]-f]", "a.o", "ab", "]",
    ]);
    let lead = prop::sample::select(vec!["", "", "/"]);
    let tail = prop::sample::select(vec!["", "", "/"]);
    let body = prop::collection::vec(piece, 1..6);
    (lead, body, tail).prop_map(|(lead, body, tail)| format!("{lead}{}{tail}", body.concat()))
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let sign = prop::sample::select(vec!["-", "-", "+"]);
    let word = (sign, pattern()).prop_map(|(sign, pattern)| format!("{sign}{pattern}"));
    prop::collection::vec(word, 1..5)
}

#[test]
fn any_rules_are_judged_by_rsync() {
    if !has_rsync() {
        return;
    }
    let top = TempDir::new().unwrap();
    make_tree(top.path());
    // Config::default() reads PROPTEST_CASES; the rules are the same in every run.
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&words(), |words| {
        // What is refused here matches nothing there: rsync gets it all the same.
        let mut rules = rules_of(&words);
        rules.retain(|rule| Filter::new(vec![rule.clone()]).is_ok());
        let names = ours(top.path(), Filter::new(rules).unwrap());
        prop_assert_eq!(names, judge(top.path(), &words));
        Ok(())
    });
    outcome.unwrap();
}
