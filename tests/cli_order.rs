//! The calls of a copy, as the kernel sees them: nothing is made more open than it stays, and owner,
//! attributes, mode, times, sync, name come in this order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use support::dice::{Dice, seed};
use support::program::{Running, contents, inhaul, under};
use support::{Scratch, need_root, need_tools, tool, tree};

const CALLS: &str = "trace=openat,mkdirat,mknodat,symlinkat,fchown,fchownat,chown,lchown,fsetxattr,\
                     setxattr,fremovexattr,removexattr,fchmod,fchmodat,chmod,utimensat,rename,\
                     renameat,renameat2,linkat,syncfs,fsync,fdatasync,ftruncate,fallocate,pwrite64";

/// Bytes of `security.capability`: `cap_net_raw+ep`, version 2. Source: linux/capability.h.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// One call that succeeded.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    args: String,
    /// Lines of the trace where it began and ended.
    began: usize,
    ended: usize,
}

impl Call {
    /// The path of the first descriptor.
    fn fd_path(&self) -> &str {
        let rest = self.args.split_once('<').map_or("", |(_, rest)| rest);
        rest.split_once('>').map_or("", |(path, _)| path)
    }

    /// The first text.
    fn text(&self) -> &str {
        self.args.split('"').nth(1).unwrap_or_default()
    }

    /// The number in octal at the end.
    fn mode(&self) -> u32 {
        let last = self.args.rsplit([',', '|', ' ']).next().unwrap();
        u32::from_str_radix(last.trim(), 8).unwrap_or_else(|_| panic!("no mode: {self:?}"))
    }
}

/// Reads what strace wrote, halves of calls put together.
fn parse(trace: &str) -> Vec<Call> {
    let mut open: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some((begin, _)) = rest.split_once(" <unfinished ...>") {
            open.insert(pid, (number, begin.to_owned()));
            continue;
        }
        let (began, whole) = match rest.split_once(" resumed>") {
            Some((_, end)) => {
                let (began, begin) = open.remove(pid).unwrap();
                (began, begin + end)
            }
            None => (number, rest.to_owned()),
        };
        let Some((call, answer)) = whole.rsplit_once(" = ") else {
            continue;
        };
        if answer.starts_with('-') {
            continue;
        }
        let (name, args) = call.trim_end().split_once('(').unwrap();
        calls.push(Call {
            name: name.to_owned(),
            args: args.strip_suffix(')').unwrap_or(args).to_owned(),
            began,
            ended: number,
        });
    }
    calls
}

/// The place of a call among those on one file; `None` for what may come at any time.
fn rank(call: &Call) -> Option<u32> {
    Some(match call.name.as_str() {
        "fallocate" | "pwrite64" | "ftruncate" => 1,
        "fchown" | "fchownat" => 2,
        "fsetxattr" if call.text().starts_with("system.posix_acl") => 4,
        // An ACL that came with the folder goes before.
        "fsetxattr" | "fremovexattr" => 3,
        "fchmod" => 5,
        "utimensat" => 6,
        _ => return None,
    })
}

/// Returns what is wrong with the order of the calls of a copy into `target`, and how many files got
/// their names.
fn judge(calls: &[Call], target: &Path, setid: bool) -> (Vec<String>, usize) {
    let target = target.to_str().unwrap();
    let mut wrong = Vec::new();
    let ours: Vec<&Call> = calls
        .iter()
        .filter(|call| call.fd_path().starts_with(target))
        .collect();
    for call in &ours {
        let made = match call.name.as_str() {
            "openat" if !call.args.contains("O_CREAT") => None,
            "openat" | "mknodat" => Some(0o600),
            "mkdirat" => Some(0o700),
            _ => None,
        };
        if made.is_some_and(|most| call.mode() != most) {
            wrong.push(format!("made too open: {call:?}"));
        }
        let is_by_path = matches!(&*call.name, "chown" | "lchown" | "chmod" | "rename");
        if is_by_path {
            wrong.push(format!("by path: {call:?}"));
        }
        if call.name == "fchmod" && !setid && call.mode() & 0o6000 != 0 {
            wrong.push(format!("set-id bits unasked: {call:?}"));
        }
    }
    let mut by_file: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &ours {
        let path = call.fd_path();
        if path.contains("/stage/") && rank(call).is_some() {
            by_file.entry(path).or_default().push(call);
        }
    }
    let syncs: Vec<&Call> = calls.iter().filter(|call| call.name == "syncfs").collect();
    for (path, calls) in &by_file {
        for pair in calls.windows(2) {
            if rank(pair[0]) > rank(pair[1])
                || (rank(pair[0]) > Some(4) && rank(pair[0]) == rank(pair[1]))
            {
                wrong.push(format!(
                    "{path}: out of order: {:?} then {:?}",
                    pair[0], pair[1]
                ));
            }
        }
    }
    let mut named = 0;
    for call in ours.iter().filter(|call| call.name == "renameat2") {
        let staged = format!("{}/{}", call.fd_path(), call.text());
        if !staged.contains("/stage/") {
            continue;
        }
        named += 1;
        // A symlink or a special file has times by its own name.
        let Some(last) = by_file.get(&*staged).and_then(|calls| calls.last()) else {
            wrong.push(format!("{staged}: named without attributes"));
            continue;
        };
        let is_synced = |from: usize, to: usize| {
            syncs
                .iter()
                .any(|sync| sync.began > from && sync.ended < to)
        };
        if !is_synced(last.ended, call.began) {
            wrong.push(format!("{staged}: no sync between its times and its name"));
        }
        let record = calls.iter().find(|later| {
            let is_sync = later.name == "fdatasync" && later.fd_path().ends_with("/journal");
            is_sync && later.began > call.ended
        });
        if !record.is_some_and(|record| is_synced(call.ended, record.began)) {
            wrong.push(format!("{staged}: no record after its name was synced"));
        }
    }
    (wrong, named)
}

/// Fills a source with files of all kinds of modes, owners, attributes and ACLs; how many names.
fn fill(source: &Path) -> usize {
    let seed = seed();
    eprintln!("INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut count = 0;
    for dir in ["a", "b", "b/c"] {
        let dir = source.join(dir);
        std::fs::create_dir(&dir).unwrap();
        for index in 0..12 {
            let path = dir.join(index.to_string());
            let len = if index == 0 {
                (1 << 20) + 5
            } else {
                dice.below(9000)
            };
            tree::paint(&path, index, len);
            let owner = |dice: &mut Dice| Some(u32::try_from(dice.below(3) * 1000).unwrap());
            chown(&path, owner(&mut dice), owner(&mut dice)).unwrap();
            if dice.coin() {
                rustix::fs::setxattr(&path, "user.x", b"value", XattrFlags::empty()).unwrap();
            }
            if dice.coin() {
                let rule = format!("u:1234:{}", ["---", "r--", "rw-", "rwx"][dice.index(4)]);
                tool("setfacl", &["-m".as_ref(), rule.as_ref(), path.as_os_str()]);
            }
            tree::set_mode(&path, u32::try_from(dice.below(0o10000)).unwrap());
            if dice.coin() {
                let flags = XattrFlags::empty();
                rustix::fs::setxattr(&path, "security.capability", &CAPABILITY, flags).unwrap();
            }
            count += 1;
        }
        symlink("0", dir.join("link")).unwrap();
        tool("mkfifo", &[dir.join("fifo")]);
        count += 2;
    }
    count
}

struct Bench {
    scratch: Scratch,
    source: PathBuf,
    names: usize,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        if !need_root(test) || !need_tools(test, &["strace", "setfacl", "mkfifo"]) {
            return None;
        }
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        let names = fill(&source);
        Some(Self {
            scratch,
            source,
            names,
        })
    }

    /// Copies under strace, with this bug if it has a name.
    fn copy(&self, name: &str, more: &[&str], bug: Option<&str>) -> (Vec<String>, usize) {
        let target = self.scratch.dir(name);
        // Whatever is made in it would be open to everybody, if it were left to this and the umask.
        let rule = "u::rwx,g::rwx,o::rwx,u:1234:rwx";
        tool(
            "setfacl",
            &[
                "-d".as_ref(),
                "-m".as_ref(),
                rule.as_ref(),
                target.as_os_str(),
            ],
        );
        let trace = self.scratch.join(format!("{name}.trace"));
        let from = contents(&self.source);
        // Only calls by threads show in a trace; those by a ring do not.
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--io", &"blocking", &"--special"];
        args.extend(more.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.extend([&from as &dyn AsRef<OsStr>, &target]);
        let mut command = inhaul(&args);
        if let Some(bug) = bug {
            command.env("INHAUL_TEST_BUG", bug);
        }
        let shell = "umask 000; exec \"$0\" \"$@\"";
        let command = under(&["sh", "-c", shell], &command);
        let trace_text = trace.to_str().unwrap();
        let strace = [
            "strace",
            "-f",
            "-y",
            "-qq",
            "--seccomp-bpf",
            "-o",
            trace_text,
            "-e",
            CALLS,
        ];
        let ran = Running::start(under(&strace, &command)).finish();
        if bug.is_none() {
            ran.expect(0);
        }
        let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
        judge(&parse(&text), &target, more.contains(&"--preserve"))
    }
}

#[test]
fn every_call_comes_in_its_order_and_nothing_is_made_too_open() {
    let test = "every_call_comes_in_its_order_and_nothing_is_made_too_open";
    let Some(bench) = Bench::new(test) else {
        return;
    };
    for (name, more) in [
        ("plain", &[][..]),
        ("all", &["--preserve", "setid,caps"][..]),
    ] {
        let (wrong, named) = bench.copy(name, more, None);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!(named, bench.names, "{name}");
    }
}

#[test]
fn what_comes_out_of_order_is_noticed() {
    let test = "what_comes_out_of_order_is_noticed";
    let Some(bench) = Bench::new(test) else {
        return;
    };
    for (bug, complaint) in [
        ("mode-before-owner", "out of order"),
        (
            "no-sync-before-rename",
            "no sync between its times and its name",
        ),
        (
            "no-sync-after-rename",
            "no record after its name was synced",
        ),
    ] {
        let (wrong, _) = bench.copy(bug, &[], Some(bug));
        let is_noticed = wrong.iter().any(|line| line.contains(complaint));
        assert!(is_noticed, "{bug}: {wrong:#?}");
    }
}
