//! What a running copy may do, seen from outside: no thread has a right that the copy does not take.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::Path;

use support::judge::{b3sum_agrees, same_trees, walk};
use support::program::{INHAUL, Running, contents, inhaul, powerless, run, under};
use support::{Scratch, need_root, need_tools, tree, wait_for};

// Numbers: linux/capability.h.
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const IPC_LOCK: u64 = 1 << 14;
const SYS_RESOURCE: u64 = 1 << 24;
const MKNOD: u64 = 1 << 27;
const SETFCAP: u64 = 1 << 31;

const READ: u64 = DAC_READ_SEARCH | FOWNER | IPC_LOCK;
const COPY: u64 = READ | DAC_OVERRIDE | CHOWN | FSETID | SYS_RESOURCE;

/// What proc_pid_status(5) says of a thread.
type Status = BTreeMap<String, String>;

/// Returns the status of every thread of a process, once one of these is among them.
fn threads(running: &mut Running, awaited: &str) -> Vec<Status> {
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    wait_for(awaited, || {
        assert!(running.alive(), "ended before it was looked at");
        let read = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            Some(
                fields
                    .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                    .collect(),
            )
        };
        let look = || -> Option<Vec<Status>> {
            Some(std::fs::read_dir(&tasks).ok()?.filter_map(read).collect())
        };
        let is_there = look()?.iter().any(|status| status["Name"] == awaited);
        // Again: the others were looked at before it was there.
        is_there.then(look)?
    })
}

fn set(status: &Status, name: &str) -> u64 {
    u64::from_str_radix(&status[name], 16).unwrap()
}

/// What this process has itself: root in a container may lack some of what is kept.
fn own() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

/// Runs a command slowly, and checks the rights of its threads on the way.
fn check(args: &[&dyn AsRef<OsStr>], awaited: &str, wanted: u64) {
    let mut running = Running::start(inhaul(args));
    let all = threads(&mut running, awaited);
    let wanted = wanted & own();
    assert!(all.len() > 3, "{} threads", all.len());
    for status in &all {
        let name = &status["Name"];
        let wanted = if name == "signals" { 0 } else { wanted };
        for kind in ["CapEff", "CapPrm"] {
            let has = set(status, kind);
            assert_eq!(has, wanted, "{name}: {kind} {has:x}, not {wanted:x}");
        }
        assert_eq!(set(status, "CapInh"), 0, "{name}");
        assert_eq!(set(status, "CapAmb"), 0, "{name}");
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        assert_eq!(status["Umask"], "0077", "{name}");
    }
    let limits = format!("/proc/{}/limits", running.pid().as_raw_nonzero());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let zeros = core.split_whitespace().filter(|word| *word == "0");
    assert_eq!(zeros.count(), 2, "{core}");
    running.finish().expect(0);
}

fn source(scratch: &Scratch) -> std::path::PathBuf {
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 1, 40);
    tree::paint(&source.join("large"), 2, 6 << 20);
    tree::age(&source, 1_000_000_000);
    source
}

#[test]
fn a_copy_keeps_only_what_it_takes() {
    let test = "a_copy_keeps_only_what_it_takes";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let slow = "--bwlimit=6MB";
    for (index, (io, options, wanted)) in [
        ("uring", vec![], COPY),
        ("blocking", vec![], COPY),
        ("uring", vec!["--special"], COPY | MKNOD),
        ("uring", vec!["--preserve", "caps"], COPY | SETFCAP),
        ("uring", vec!["--verify", "target"], COPY),
    ]
    .into_iter()
    .enumerate()
    {
        let target = scratch.join(format!("target{index}"));
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &slow, &"--io", &io];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.extend([&source as &dyn AsRef<OsStr>, &target]);
        // tmpfs cannot be read back; wherever this test runs, something else can.
        if options.contains(&"--verify") && !reads_back(&scratch) {
            continue;
        }
        check(&args, "lane-0", wanted);
        same_trees(&walk(&source), &walk(&target.join("source")));
    }
}

fn reads_back(scratch: &Scratch) -> bool {
    let stat = rustix::fs::statfs(scratch.path()).unwrap();
    stat.f_type != 0x0102_1994
}

#[test]
fn reading_keeps_no_right_to_write() {
    let test = "reading_keeps_no_right_to_write";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    let slow = "--bwlimit=6MB";
    check(&[&"hash", &slow, &source], "lane-0", READ);
    check(&[&"verify", &slow, &target], "lane-0", READ);
    let args: [&dyn AsRef<OsStr>; 6] = [&"verify", &slow, &"--repair", &"--from", &source, &target];
    check(&args, "lane-0", READ | DAC_OVERRIDE | FSETID | SETFCAP);
}

#[test]
fn an_ordinary_user_has_none_and_needs_none() {
    let test = "an_ordinary_user_has_none_and_needs_none";
    if !need_tools(test, &["setpriv", "b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    let command = powerless(&inhaul(&[&"copy", &source, &target]));
    Running::start(command).finish().expect(0);
    b3sum_agrees(&target, 41);
}

/// Gives everything in a tree to somebody, and takes from that one the right to write there.
fn belongs_to(dir: &Path, user: u32) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            belongs_to(&path, user);
        } else {
            tree::set_mode(&path, 0o400);
            chown(&path, Some(user), Some(user)).unwrap();
        }
    }
    tree::set_mode(dir, 0o500);
    chown(dir, Some(user), Some(user)).unwrap();
}

/// Shows what `CAP_DAC_OVERRIDE` is kept for.
#[test]
fn what_belongs_to_others_can_be_gone_on_with_and_not_without_that_right() {
    let test = "what_belongs_to_others_can_be_gone_on_with_and_not_without_that_right";
    if !need_root(test) || !need_tools(test, &["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    belongs_to(&source, 1234);
    let target = scratch.join("target");
    run(&[&"copy", &contents(&source), &target]).expect(0);
    // TARGET has the owner of the source's top now, and nobody may write into any folder.
    let more = source.join("small/more");
    tree::text(&more, "more");
    rustix::fs::setxattr(&more, "user.note", b"x", rustix::fs::XattrFlags::CREATE).unwrap();
    chown(&more, Some(1234), Some(1234)).unwrap();
    let bounds = "--bounding-set=-dac_override";
    let args: [&dyn AsRef<OsStr>; 5] =
        [&"copy", &"--existing", &"skip", &contents(&source), &target];
    let ran = Running::start(under(&["setpriv", bounds], &inhaul(&args))).finish();
    assert_ne!(ran.code, 0, "the right is not needed: {}", ran.err());
    run(&args).expect(0);
    same_trees(&walk(&source), &walk(&target));
}

#[test]
fn the_umask_decides_how_open_a_new_target_is_and_nothing_else() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let source = source(&scratch);
    for (umask, wanted) in [("000", 0o755), ("027", 0o750), ("077", 0o700)] {
        let target = scratch.join(umask);
        let shell = format!("umask {umask}; exec \"$0\" \"$@\"");
        let command = inhaul(&[&"copy", &source, &target]);
        assert_eq!(command.get_program(), INHAUL);
        Running::start(under(&["sh", "-c", &shell], &command))
            .finish()
            .expect(0);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&target), wanted, "{umask}");
        let job = support::program::job(&target);
        for name in ["report.json", "manifest.b3", "job.json"] {
            assert_eq!(mode(&job.join(name)), 0o644, "{umask}: {name}");
        }
        assert_eq!(mode(&job), 0o700);
    }
}
