//! The README, taken at its word: its first command, its options, its exit codes, its links.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const README: &str = include_str!("../README.md");

/// The first command, word for word.
const FIRST: &str = "cargo run --release -- copy \"$(rustc --print sysroot)/lib\" target/ingest";

fn inhaul(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inhaul"));
    // Its copies are noted nowhere.
    command.env("XDG_STATE_HOME", "/dev/null/state");
    command.args(args).output().unwrap()
}

fn help(args: &[&str]) -> String {
    let output = inhaul(&[args, &["--help"]].concat());
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the fenced blocks as label and contents.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = README.split("\n```").collect();
    let inside = parts.iter().skip(1).step_by(2);
    inside.map(|part| part.split_once('\n').unwrap()).collect()
}

/// Returns every command line of the README that runs inhaul, as its words after `inhaul`.
fn command_lines() -> Vec<Vec<&'static str>> {
    let lines = blocks().into_iter().flat_map(|(label, text)| {
        text.lines().filter_map(move |line| match label {
            "sh" => Some(line),
            "console" => line.strip_prefix("$ "),
            _ => None,
        })
    });
    // What a shell puts in for `$(..)` is no argument of ours.
    let lines = lines.map(|line| line.split("\"$(").next().unwrap());
    let commands = lines.flat_map(|line| line.split(['|', ';']).flat_map(|part| part.split("&&")));
    commands
        .filter_map(|command| {
            let command = command.trim();
            let after = command.strip_prefix("inhaul ");
            after.or_else(|| command.strip_prefix("cargo run --release -- "))
        })
        .map(|words| {
            words
                .split('>')
                .next()
                .unwrap()
                .split_whitespace()
                .collect()
        })
        .collect()
}

/// Returns the regular files below a folder by their relative paths.
fn files(top: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(top).unwrap().to_owned();
                found.insert(name, entry.path());
            }
        }
    }
    found
}

/// Returns the digest of a file, read and hashed from end to end.
fn digest(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).unwrap()).unwrap();
    hasher.finalize().to_string()
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let (mut a, mut b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    loop {
        let count = Read::by_ref(&mut a)
            .take(1 << 20)
            .read_to_end(&mut from_a)
            .unwrap();
        Read::by_ref(&mut b)
            .take(1 << 20)
            .read_to_end(&mut from_b)
            .unwrap();
        if from_a != from_b {
            return false;
        }
        if count == 0 {
            return true;
        }
        from_a.clear();
        from_b.clear();
    }
}

#[test]
fn the_first_command_does_the_main_job() {
    let first = blocks().into_iter().next().unwrap();
    assert_eq!(first, ("sh", FIRST));
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let source = format!("{}/lib", sysroot.trim());
    // On the drive the README's own command writes to.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let target = place.path().join("ingest");
    let target_text = target.to_str().unwrap();

    let output = inhaul(&["copy", &source, target_text]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (sources, copies) = (files(Path::new(&source)), files(&target.join("lib")));
    assert!(sources.len() > 10, "{source} is a toolchain's");
    assert!(sources.keys().eq(copies.keys()));
    let mut of_manifest = BTreeMap::new();
    let manifest = File::open(target.join(".inhaul/latest/manifest.b3")).unwrap();
    for line in BufReader::new(manifest).lines() {
        let line = line.unwrap();
        let (digest, path) = line.split_once("  lib/").unwrap();
        of_manifest.insert(PathBuf::from(path), digest.to_owned());
    }
    assert!(sources.keys().eq(of_manifest.keys()));
    for (name, path) in &sources {
        let copy = &copies[name];
        assert!(same_bytes(path, copy), "{}", name.display());
        assert_eq!(digest(path), of_manifest[name], "{}", name.display());
        let (from, to) = (path.metadata().unwrap(), copy.metadata().unwrap());
        assert_eq!(
            (from.mtime(), from.mtime_nsec()),
            (to.mtime(), to.mtime_nsec())
        );
    }

    // "Run again, it refuses every file that is there already, lists them and ends with 3."
    let again = inhaul(&["copy", &source, target_text]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(3), "{said}");
    assert!(said.contains("the name is taken in the target"), "{said}");
    // "With --existing skip it leaves them and copies what is missing."
    let (name, lost) = copies.iter().next_back().unwrap();
    std::fs::remove_file(lost).unwrap();
    let skipped = inhaul(&["copy", "--existing", "skip", &source, target_text]);
    assert_eq!(skipped.status.code(), Some(0));
    assert!(same_bytes(&sources[name], lost));
}

#[test]
fn the_second_command_is_the_test_command() {
    assert_eq!(blocks().get(1), Some(&("sh", "cargo test")));
}

#[test]
fn every_command_and_option_exists() {
    let lines = command_lines();
    assert!(lines.len() >= 12, "{lines:?}");
    for words in lines {
        let (command, rest) = words.split_first().unwrap();
        let help = if command.starts_with('-') {
            help(&[])
        } else {
            help(&[command])
        };
        for word in rest
            .iter()
            .chain([command])
            .filter(|word| word.starts_with('-'))
        {
            let name = word.split('=').next().unwrap();
            let known = help.split(|c: char| !c.is_alphanumeric() && c != '-');
            assert!(
                known.into_iter().any(|known| known == name),
                "inhaul {command} {name}"
            );
        }
    }
}

#[test]
fn every_option_in_the_prose_exists() {
    let commands = ["copy", "hash", "verify", "drives", "bench"];
    let help: String = commands.iter().map(|command| help(&[command])).collect();
    let known: Vec<&str> = help
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .collect();
    // Named in order to say that it is not there, or another program's.
    let absent = ["--delete", "--show-output", "--path", "--release"];
    for part in README.split('`').filter(|part| part.starts_with("--")) {
        let name = part.split([' ', '\n']).next().unwrap();
        let is_known = known.contains(&name) || absent.contains(&name);
        assert!(is_known, "{name} is in the README and in no --help");
    }
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let help = help(&[]);
    let (_, after) = help.split_once("Exit codes:\n").unwrap();
    let stated: Vec<(&str, &str)> = after
        .lines()
        .map_while(|line| line.trim().split_once("  "))
        .map(|(code, meaning)| (code, meaning.trim()))
        .collect();
    let rows: Vec<(&str, &str)> = README
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .collect();
    assert_eq!(stated.len(), 10);
    assert_eq!(rows, stated);
    let worst = "If several apply, the worst counts: 4 before 1 before 3 before 75.";
    assert!(help.contains(worst) && README.contains(worst));
}

#[test]
fn links_lead_to_files() {
    let links: Vec<&str> = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.contains(&"ARCHITECTURE.md"));
    for link in links.into_iter().filter(|link| !link.starts_with("http")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(path.is_file(), "{link}");
    }
}
