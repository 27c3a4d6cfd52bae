//! Names made to harm: bytes that move cursors, end lines or look like records. Each goes from tree to
//! journal, manifest and back byte for byte, and none reaches a terminal as it is.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::dice::{Dice, seed};
use support::judge::{same_trees, walk};
use support::program::{INHAUL, Ran, Running, contents, inhaul, job, report, run, under};
use support::{Scratch, deep, need_tools, tree};

/// Files of the tree, unless `INHAUL_TEST_NAMES` says otherwise.
const NAMES: usize = 3000;

/// What names are put together from, beside any bytes: each means something to somebody.
const PIECES: [&[u8]; 36] = [
    b"\x1b[2J",
    b"\x1b]0;x\x07",
    b"\x1b",
    b"\x9b31m",
    b"\xc2\x9b",
    b"\xc2\x85",
    b"\x07",
    b"\x08",
    b"\r",
    b"\n",
    b"\t",
    b"\x7f",
    b"\x01",
    b"\xe2\x80\xae",
    b"\xe2\x81\xa6",
    b"\xe2\x80\xa8",
    b"\xef\xbf\xbd",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\",
    b"\\n",
    b"\\x1b",
    b"\"",
    b"'",
    b"$(id)",
    b"`",
    b"*",
    b"?",
    b" ",
    b"-rf",
    b"..",
    b"  x",
    b"{}",
    b"%s",
];

fn name(dice: &mut Dice) -> Vec<u8> {
    let most = if dice.below(20) == 0 {
        255
    } else {
        1 + dice.index(40)
    };
    let mut name = Vec::new();
    loop {
        let piece: Vec<u8> = match dice.below(3) {
            0 => PIECES[dice.index(PIECES.len())].to_vec(),
            1 => vec![1 + u8::try_from(dice.below(255)).unwrap()],
            _ => vec![b'a' + u8::try_from(dice.below(26)).unwrap()],
        };
        if name.len() + piece.len() > most {
            break;
        }
        name.extend(piece);
    }
    name.retain(|byte| *byte != b'/');
    if matches!(&name[..], b"" | b"." | b".." | b".inhaul") {
        name = b"-".to_vec();
    }
    name
}

/// Builds the tree; the paths of its files, relative to its top.
fn build(source: &Path) -> BTreeSet<Vec<u8>> {
    let seed = seed();
    eprintln!("INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let count = std::env::var("INHAUL_TEST_NAMES").map_or(NAMES, |text| text.parse().unwrap());
    let mut dirs: Vec<Vec<u8>> = vec![Vec::new()];
    let (mut files, mut taken) = (BTreeSet::new(), BTreeSet::new());
    while files.len() < count {
        let parent = dirs[dice.index(dirs.len())].clone();
        let mut path = parent;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name(&mut dice));
        // No path is longer than one call takes; the deep ones are made otherwise.
        if path.len() > 3000 || !taken.insert(path.clone()) {
            continue;
        }
        let full = source.join(OsStr::from_bytes(&path));
        if files.len() % 60 == 59 && dirs.len() <= files.len() / 60 {
            std::fs::create_dir(&full).unwrap();
            dirs.push(path);
        } else {
            let number = files.len() as u64;
            tree::paint(&full, number, 1 + number % 300);
            files.insert(path);
        }
    }
    files
}

/// Returns the records of both manifests, parsed as their formats say and by nothing of ours.
fn recorded(target: &Path) -> BTreeMap<Vec<u8>, String> {
    let job = job(target);
    let mut found = BTreeMap::new();
    let mut add = |digest: &[u8], path: Vec<u8>| {
        let digest = String::from_utf8(digest.to_vec()).unwrap();
        assert!(found.insert(path, digest).is_none(), "a name comes twice");
    };
    let lines = std::fs::read(job.join("manifest.b3")).unwrap();
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let (escaped, line) = match line.strip_prefix(b"\\") {
            Some(line) => (true, line),
            None => (false, line),
        };
        assert_eq!(&line[64..66], b"  ");
        let mut path = Vec::new();
        let mut bytes = line[66..].iter().copied();
        while let Some(byte) = bytes.next() {
            path.push(match byte {
                b'\\' if escaped => match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b'\\') => b'\\',
                    other => panic!("escape {other:?}"),
                },
                byte => byte,
            });
        }
        add(&line[..64], path);
    }
    let frames = std::fs::read(job.join("manifest.nul")).unwrap_or_default();
    for frame in frames
        .split(|byte| *byte == 0)
        .filter(|frame| !frame.is_empty())
    {
        assert_eq!(&frame[64..66], b"  ");
        add(&frame[..64], frame[66..].to_vec());
    }
    found
}

/// Fails if a terminal would do anything but show this, line by line.
#[track_caller]
fn check_plain(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = text.replace("\r\n", "\n");
    let odd = |c: char| {
        let turns = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
        c != '\n'
            && (c.is_control()
                || turns.contains(&c)
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c))
    };
    if let Some(line) = text.lines().find(|line| line.contains(odd)) {
        panic!("{what}: {}", line.escape_debug());
    }
}

fn check_output(what: &str, ran: &Ran) {
    check_plain(&format!("{what}, standard error"), &ran.stderr);
    check_plain(&format!("{what}, standard output"), &ran.stdout);
}

struct Bench {
    scratch: Scratch,
    source: PathBuf,
    files: BTreeSet<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        let files = build(&source);
        Self {
            scratch,
            source,
            files,
        }
    }
}

#[test]
fn every_name_comes_through_journal_manifest_and_verify() {
    let test = "every_name_comes_through_journal_manifest_and_verify";
    if !need_tools(test, &["b3sum"]) {
        return;
    }
    let bench = Bench::new();
    // 33 names of 255 bytes: 8 kB of path, longer than any one call takes.
    deep::build(&bench.source, 33, 255);
    let target = bench.scratch.join("target");
    let from = contents(&bench.source);
    let args: [&dyn AsRef<OsStr>; 4] = [&"copy", &"-v", &from, &target];
    // The journal of a run that was killed is what the next one knows.
    let mut command = inhaul(&args);
    command.env("INHAUL_TEST_BATCH_FILES", "256");
    command.env("INHAUL_TEST_KILL", "acknowledged:4");
    let killed = Running::start(command).finish().expect(137);
    check_output("killed", &killed);
    let ran = run(&args).expect(0);
    check_output("gone on with", &ran);
    let kept = report(&target)["totals"]["kept"].as_u64().unwrap();
    assert!(kept >= 3 * 200, "{kept} files known from the journal");

    let source = walk(&bench.source);
    same_trees(&source, &walk(&target));
    let wanted: BTreeMap<Vec<u8>, String> = source
        .into_iter()
        .filter(|(_, node)| node.kind == "file")
        .map(|(path, node)| {
            let hex = node.content.iter().map(|byte| format!("{byte:02x}"));
            (path, hex.collect())
        })
        .collect();
    assert!(wanted.len() > bench.files.len());
    assert!(wanted.keys().any(|path| path.len() > 8192));
    assert_eq!(recorded(&target), wanted);

    let ran = run(&[&"verify", &"-v", &target]).expect(0);
    check_output("verify", &ran);
    let counted = format!("verified {} files", wanted.len());
    let shown = ran.out().replace(',', "");
    assert!(shown.contains(&counted), "{shown}");
}

#[test]
fn no_name_reaches_a_terminal_as_it_is() {
    let test = "no_name_reaches_a_terminal_as_it_is";
    if !need_tools(test, &["script"]) {
        return;
    }
    let bench = Bench::new();
    let target = bench.scratch.join("target");
    let from = contents(&bench.source);
    run(&[&"copy", &from, &target]).expect(0);
    // Now every name is taken, and told.
    let ran = run(&[&"copy", &"-v", &from, &target]).expect(3);
    check_output("all names taken", &ran);
    let events = run(&[&"copy", &"--json", &from, &target]).expect(3);
    check_output("events", &events);
    let told: BTreeSet<Vec<u8>> = events
        .events()
        .iter()
        .filter(|event| event["type"] == "problem")
        .map(|event| {
            let path = exact(event);
            let top = bench.source.as_os_str().as_bytes();
            path.strip_prefix(top).unwrap()[1..].to_vec()
        })
        .collect();
    assert_eq!(told, bench.files);

    // On a terminal of its own, which shows whatever comes.
    for (what, shell) in [
        (
            "hash",
            "exec \"$INHAUL\" hash -v --color never \"$SOURCE/\"",
        ),
        (
            "copy",
            "exec \"$INHAUL\" copy -v --color never \"$SOURCE/\" \"$TARGET\"",
        ),
        (
            "verify",
            "exec \"$INHAUL\" verify -v --color never \"$TARGET\"",
        ),
    ] {
        let mut command = Command::new("script");
        command.args(["-qefc", shell, "/dev/null"]);
        command.env("INHAUL", INHAUL).env("SOURCE", &bench.source);
        command.env("TARGET", &target).env("TERM", "dumb");
        command.env("XDG_STATE_HOME", support::program::NO_STATE);
        let ran = Running::start(under(&["env"], &command)).finish();
        assert!(ran.stdout.len() > 100, "{what}: {}", ran.out());
        check_output(what, &ran);
    }
}

/// Returns the path of an event byte for byte.
fn exact(event: &serde_json::Value) -> Vec<u8> {
    let Some(hex) = event["path_hex"].as_str() else {
        return event["path"].as_str().unwrap().as_bytes().to_vec();
    };
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
