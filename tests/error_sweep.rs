//! System calls that fail: the first of a kind, the second, and so on, until a run meets none, on a
//! real file system and with the program as it is.
//!
//! After each run: what has a final name is right, the exit code says whether all is there, nothing
//! panicked and nothing hung, and the same command completes the copy. What the simulator does for
//! every operation and every error below the engine's ports (`engine::sim`), this does above the
//! kernel, for the calls that the simulator does not have.
//!
//! Calls fail by strace, which counts them for each thread. `INHAUL_TEST_SWEEP=all` tries every
//! error with every call, once and for good; in the gate they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::judge::{Tree, b3sum_agrees, files, rsync_differences, walk};
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul, so_far, under};
use support::{Scratch, can_mount, need_tools, tree};

const ERRORS: [&str; 5] = ["EIO", "ENOSPC", "EACCES", "EROFS", "ENOMEM"];
/// Most runs of one sweep: more calls of a kind than any thread makes.
const RUNS_MAX: usize = 300;
/// What the loader of the program says when it cannot even be started.
const NOT_LOADED: i32 = 127;
/// What a process ends with that has no memory left for itself.
const ABORTED: i32 = 128 + 6;
/// The same, before there is anybody to notice.
const CRASHED: i32 = 128 + 11;

/// How runs ended, by their codes.
type Codes = BTreeMap<i32, usize>;

struct Bench {
    source: PathBuf,
    originals: Tree,
    mounted: Mounted,
    number: usize,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::within(Path::new("/dev/shm"));
        let source = scratch.dir("source");
        fill(&source);
        Self {
            originals: walk(&source),
            source,
            mounted: Mounted::image(&scratch, "mounted", Fs::Ext4, 96),
            number: 0,
            scratch,
        }
    }

    /// Runs the copy into a new target with a call that fails; says what is wrong, and whether the
    /// call came.
    fn case(&mut self, inject: &str, codes: &mut Codes) -> (Vec<String>, bool) {
        self.number += 1;
        let target = self.mounted.join(format!("{}", self.number));
        let notes = self.scratch.join("notes");
        let call = inject.split(':').next().unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        let mut strace = vec!["strace", "-f", "--seccomp-bpf", "-qq", "-o"];
        strace.extend([notes.to_str().unwrap(), "-e", &trace, "-e", &inject]);
        // Whoever loads the program reads as well.
        let files = ["large", "holes", "3", "a/0", "a/1", "a/deep/2"];
        let files = files.map(|name| self.source.join(name));
        if call == "pread64" {
            strace.extend(files.iter().flat_map(|file| ["-P", file.to_str().unwrap()]));
        }
        let mut command = under(&strace, &self.command(&target));
        command.env("INHAUL_TEST_SYNC_BLOCKS", "1");
        let ran = Running::start(command).finish();
        let notes = so_far(&std::fs::File::open(notes).unwrap());
        let is_met = String::from_utf8_lossy(&notes).contains("INJECTED");
        *codes.entry(ran.code).or_default() += usize::from(is_met);
        let mut complaints = self.judge(&target, call, &ran, is_met);
        if complaints.is_empty() && ran.code != 0 {
            complaints = self.go_on(&target);
        }
        for complaint in &mut complaints {
            *complaint = format!("{inject}: code {}: {complaint}\n{}", ran.code, ran.err());
        }
        std::fs::remove_dir_all(&target).unwrap_or_default();
        (complaints, is_met)
    }

    fn command(&self, target: &Path) -> std::process::Command {
        inhaul(&[
            &"copy",
            &"--special",
            &"--io=blocking",
            &self.source,
            &target,
        ])
    }

    /// Says what is wrong after a run that met an error.
    fn judge(&self, target: &Path, call: &str, ran: &Ran, is_met: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        let said = ran.out() + &ran.err();
        // Nothing of ours runs yet, or can run without the memory it lives in.
        let is_ours = match call {
            "mmap" => !matches!(ran.code, NOT_LOADED | ABORTED | CRASHED),
            _ => ran.code != NOT_LOADED,
        };
        if is_ours && !matches!(ran.code, 0 | 1 | 2 | 3 | 6) {
            complaints.push("no code for that".to_owned());
        }
        if is_ours && said.contains("panicked") {
            complaints.push("panicked".to_owned());
        }
        let says_why = said.contains("error:") || said.contains("problem:");
        // Where nothing can be written, nothing can be said.
        if is_ours && ran.code != 0 && !says_why && call != "write" {
            complaints.push("it does not say why".to_owned());
        }
        if ran.code != 0 && !is_met {
            complaints.push("nothing failed, but it did".to_owned());
        }
        let copy = target.join("source");
        let copies = if copy.exists() {
            walk(&copy)
        } else {
            Tree::new()
        };
        for (path, node) in copies.iter().filter(|(_, node)| node.kind != "dir") {
            let shown = path.escape_ascii();
            match self.originals.get(path) {
                None => complaints.push(format!("{shown}: unknown name")),
                Some(original) if original.content != node.content => {
                    complaints.push(format!("{shown}: not the right bytes"));
                }
                Some(_) => {}
            }
        }
        if ran.code == 0 {
            complaints.extend(self.differences(target));
        }
        complaints
    }

    /// Completes the copy with the same command; says what is wrong then.
    fn go_on(&self, target: &Path) -> Vec<String> {
        let ran = Running::start(self.command(target)).finish();
        // What could not be set is set now; the times of what has several names are told of again.
        let told = ran.err();
        let mut problems = told.lines().filter(|line| line.starts_with("problem: "));
        let names_alone = ran.code == 3 && problems.all(|line| line.ends_with("several names"));
        // A run that had copied everything, and could not say so, leaves nothing to be copied.
        let is_refused = ran.code == 3 && ran.err().contains("target-exists");
        let mut complaints = if names_alone {
            self.lacks(target)
        } else {
            self.differences(target)
        };
        if ran.code != 0 && !is_refused && !names_alone {
            complaints.push(format!("going on: code {}: {}", ran.code, ran.err()));
        }
        if ran.code == 0 && complaints.is_empty() {
            b3sum_agrees(target, files(&self.originals));
        }
        complaints
    }

    /// Says which bytes are not there.
    fn lacks(&self, target: &Path) -> Vec<String> {
        let copies = walk(&target.join("source"));
        let content = |path| copies.get(path).map(|node| &node.content);
        let lacking = self.originals.iter();
        let lacking = lacking.filter(|(path, node)| content(*path) != Some(&node.content));
        lacking
            .map(|(path, _)| format!("{}: not there", path.escape_ascii()))
            .collect()
    }

    fn differences(&self, target: &Path) -> Vec<String> {
        let copy = target.join("source");
        if !copy.exists() {
            return vec!["nothing is there".to_owned()];
        }
        let copies = walk(&copy);
        let mut complaints = Vec::new();
        for (path, original) in &self.originals {
            if copies.get(path) != Some(original) {
                let shown = path.escape_ascii();
                complaints.push(format!("{shown}: {:?} of {original:?}", copies.get(path)));
            }
        }
        let told = rsync_differences(&self.source, &copy, &[]);
        if !told.is_empty() && complaints.is_empty() {
            complaints.push(told);
        }
        complaints
    }
}

fn fill(source: &Path) {
    let dir = |name: &str| std::fs::create_dir_all(source.join(name)).unwrap();
    dir("a/deep");
    dir("empty");
    for (index, name) in ["a/0", "a/1", "a/deep/2", "3"].into_iter().enumerate() {
        let index = index as u64;
        tree::paint(&source.join(name), index, 100 + index * 4_000);
    }
    tree::paint(&source.join("large"), 7, (2 << 20) + 4_097);
    tree::sparse(&source.join("holes"), 8, 3 << 20, &[(1 << 20, 5_000)]);
    std::fs::hard_link(source.join("a/1"), source.join("a/deep/1 too")).unwrap();
    std::os::unix::fs::symlink("a/0", source.join("symlink")).unwrap();
    let flags = rustix::fs::XattrFlags::CREATE;
    rustix::fs::setxattr(source.join("a/0"), "user.note", b"kept", flags).unwrap();
    tree::set_mode(&source.join("a/deep"), 0o750);
    tree::age(source, 1_000_000_000);
}

/// Lets the N-th of each of these calls fail, for every N until no run meets it.
fn check(test: &str, calls: &[&str]) {
    if !can_mount(test) || !need_tools(test, &["strace"]) {
        return;
    }
    let tries_all = std::env::var("INHAUL_TEST_SWEEP").is_ok_and(|all| all == "all");
    let mut bench = Bench::new();
    let (mut complaints, mut cases) = (Vec::new(), 0);
    for (turn, call) in calls.iter().enumerate() {
        let mut codes = Codes::new();
        let mut is_over = false;
        for nth in 1..RUNS_MAX {
            // Side by side, neighbours are answered with all errors, once and for good.
            let turn = turn + nth;
            let once = [(ERRORS[turn % 5], turn % 3 == 0)];
            let every = ERRORS.map(|error| [(error, false), (error, true)]);
            let kinds = if tries_all {
                every.as_flattened()
            } else {
                &once
            };
            let mut met = 0;
            for (error, for_ever) in kinds {
                let more = if *for_ever { "+" } else { "" };
                let inject = format!("{call}:error={error}:when={nth}{more}");
                let (wrong, is_met) = bench.case(&inject, &mut codes);
                complaints.extend(wrong);
                met += usize::from(is_met);
            }
            cases += met;
            is_over = met == 0;
            if is_over {
                break;
            }
        }
        assert!(is_over, "{call}: there is no end of them");
        eprintln!("error sweep, {call}: codes {codes:?}");
    }
    eprintln!(
        "error sweep, {test}: {cases} cases, {} wrong",
        complaints.len()
    );
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn calls_that_open() {
    check("calls_that_open", &["openat2", "openat"]);
}

#[test]
fn calls_that_look() {
    let calls = [
        "statx",
        "getdents64",
        "readlinkat",
        "flistxattr",
        "fgetxattr",
        "fstatfs",
    ];
    check("calls_that_look", &calls);
}

#[test]
fn calls_that_move_bytes() {
    let calls = [
        "pread64",
        "pwrite64",
        "ftruncate",
        "fallocate",
        "lseek",
        "write",
    ];
    check("calls_that_move_bytes", &calls);
}

#[test]
fn calls_that_name() {
    let calls = [
        "mkdirat",
        "renameat2",
        "renameat",
        "linkat",
        "symlinkat",
        "unlinkat",
    ];
    check("calls_that_name", &calls);
}

#[test]
fn calls_that_set_attributes_and_sync() {
    let calls = [
        "fchmod",
        "utimensat",
        "fsetxattr",
        "flock",
        "fsync",
        "fdatasync",
        "syncfs",
    ];
    check("calls_that_set_attributes_and_sync", &calls);
}

#[test]
fn calls_that_get_memory_and_threads() {
    check("calls_that_get_memory_and_threads", &["mmap", "clone3"]);
}
