//! Copies that are killed: the trees they copy, the runs of one target from its first to its last,
//! and what must hold after each of them.
//!
//! - `INHAUL_TEST_SEED=N` rolls the same dice as a run that said so; the kernel rolls its own.
//! - `INHAUL_TEST_KEEP=DIR` puts the targets there that something was wrong with.

#![allow(dead_code, reason = "each test binary uses its own part of the bench")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

pub(crate) mod place;
pub(crate) mod watch;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inhaul::journal::Loaded;

use crate::support::dice::Dice;
use crate::support::judge::{Node, Tree, b3sum_agrees, rsync_differences, walk};
use crate::support::program::{Ran, Running, inhaul, report};
use world::World;

/// How often each point is passed, by its name.
pub(crate) type Passes = BTreeMap<String, u64>;

/// What a run that was killed ends with.
const KILLED: i32 = 128 + 9;

/// One target, from the first run that copies to it to the last.
#[derive(Debug)]
pub(crate) struct Life<'w> {
    world: &'w World,
    pub(crate) target: PathBuf,
    options: Vec<String>,
    /// Most files of a batch.
    pub(crate) batch: u64,
    /// Everything in the target that was there before, and is none of ours.
    foreign: Tree,
    /// Names whose bytes were changed on purpose, until the copy mends them.
    harmed: BTreeSet<Vec<u8>>,
    /// What happened so far, for the one who reads of a failure.
    story: Vec<String>,
    over: bool,
}

impl<'w> Life<'w> {
    /// Begins one in a new target, with things of somebody else in it.
    pub(crate) fn new(world: &'w World, options: &[&str]) -> Self {
        let target = world.new_target();
        let foreign = foreign(&target);
        Self {
            world,
            target,
            options: options.iter().map(|&word| word.to_owned()).collect(),
            batch: 6,
            foreign,
            harmed: BTreeSet::new(),
            story: Vec::new(),
            over: false,
        }
    }

    /// Returns whether the job is finished.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn command(&self, env: &[(&str, &OsStr)]) -> Command {
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy"];
        args.extend(self.options.iter().map(|word| word as &dyn AsRef<OsStr>));
        args.extend(self.world.sources().map(|path| path as &dyn AsRef<OsStr>));
        args.push(&self.target);
        let mut command = inhaul(&args);
        // Small steps, so that a small tree takes many of each.
        command.env("INHAUL_TEST_SYNC_BLOCKS", "2");
        command.env("INHAUL_TEST_BATCH_FILES", self.batch.to_string());
        command.envs(env.iter().copied());
        command
    }

    fn is_finished(&self) -> bool {
        let home = self.target.join(".inhaul");
        home.join("latest").is_symlink() && !home.join("current").is_symlink()
    }

    fn tell(&mut self, what: String) {
        eprintln!("{}: {what}", self.target.display());
        self.story.push(what);
    }

    /// Judges a run that was to be killed; returns whether it was. One that was not has ended well.
    fn killed(&mut self, ran: &Ran, how: &str) -> bool {
        if ran.code == KILLED {
            self.tell(format!("killed {how}"));
            self.check();
            // It may have had nothing left to do.
            self.over = self.is_finished();
            return true;
        }
        self.tell(format!("ended before it was killed {how}"));
        let story = &self.story;
        assert_eq!(ran.code, 0, "{story:?}\n{}{}", ran.out(), ran.err());
        self.over = true;
        false
    }

    /// Runs it until it passes a point for the N-th time; returns whether it came to that.
    pub(crate) fn kill_at(&mut self, point: &str, pass: u64) -> bool {
        self.kill_at_with(point, pass, &[])
    }

    /// The same with more in the environment.
    pub(crate) fn kill_at_with(&mut self, point: &str, pass: u64, env: &[(&str, &OsStr)]) -> bool {
        let at = format!("{point}:{pass}");
        let mut all = vec![("INHAUL_TEST_KILL", OsStr::new(&at))];
        all.extend(env);
        let ran = Running::start(self.command(&all)).finish();
        self.killed(&ran, &format!("at {at}"))
    }

    /// Runs it for so long; returns whether it had to be killed then.
    pub(crate) fn kill_after(&mut self, delay: Duration) -> bool {
        let running = Running::start(self.command(&[]));
        std::thread::sleep(delay);
        running.signal(rustix::process::Signal::KILL);
        let ran = running.finish();
        self.killed(&ran, &format!("after {delay:?}"))
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) {
        let ran = Running::start(self.command(&[])).finish();
        self.ended(&ran);
    }

    fn ended(&mut self, ran: &Ran) {
        self.tell("ran to its end".to_owned());
        let story = &self.story;
        assert_eq!(ran.code, 0, "{story:?}\n{}{}", ran.out(), ran.err());
        self.over = true;
    }

    /// Runs it to its end, counting what it passes.
    pub(crate) fn trace(&mut self) -> Passes {
        let trace = Trace::new(self.world);
        let ran = Running::start(self.command(&[trace.env()])).finish();
        self.ended(&ran);
        trace.passes()
    }

    /// Runs it until it passes a point, counting what it passes.
    pub(crate) fn trace_to(&mut self, point: &str, pass: u64) -> Passes {
        let trace = Trace::new(self.world);
        assert!(self.kill_at_with(point, pass, &[trace.env()]));
        trace.passes()
    }

    /// Returns what the journal of the unfinished job says.
    pub(crate) fn journal(&self) -> Loaded {
        let job = self.target.join(".inhaul/current");
        let dir = std::fs::File::open(&job).unwrap();
        inhaul::journal::read(dir.as_fd(), &job, dir.as_fd()).unwrap()
    }

    /// Kills it up to `most` times more, wherever that may be.
    pub(crate) fn kill_again(&mut self, most: u64, dice: &mut Dice) {
        for _ in 0..dice.below(most + 1) {
            if self.over {
                return;
            }
            let _killed = if dice.below(3) == 0 {
                self.kill_after(Duration::from_micros(dice.below(80_000)))
            } else {
                let points = inhaul::seam::POINTS;
                let point = points[dice.index(points.len())];
                self.kill_at(point, 1 + dice.below(6))
            };
        }
    }

    /// Changes a byte of a copy in a way that shows only when it is read: not in its stamp.
    pub(crate) fn harm(&mut self, name: &str, at: u64) {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let path = self.target.join(name);
        let before = std::fs::metadata(&path).unwrap();
        let file = std::fs::File::options();
        let file = { file }.read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 4;
        file.write_all_at(&byte, at).unwrap();
        file.sync_all().unwrap();
        crate::support::tree::set_time(&path, before.mtime(), before.mtime_nsec());
        self.harmed.insert(name.as_bytes().to_vec());
        self.tell(format!("harmed {name}"));
    }

    /// Fails unless all that has a final name is whole and its source's, nothing foreign was
    /// touched, and what is staged is ours alone.
    #[track_caller]
    pub(crate) fn check(&self) {
        let story = &self.story;
        let there = walk(&self.target);
        for (path, node) in &there {
            let shown = path.escape_ascii();
            if let Some(before) = self.foreign.get(path) {
                assert!(
                    is_same(before, node),
                    "{shown} was not ours: {node:?}\n{story:?}"
                );
                continue;
            }
            let original = self.world.reference.get(path);
            let original = original.unwrap_or_else(|| panic!("{shown} is too many\n{story:?}"));
            let is_whole = match node.kind.as_str() {
                "dir" => original.kind == "dir",
                _ if self.harmed.contains(path) => original.size == node.size,
                _ => is_same(original, node),
            };
            assert!(
                is_whole,
                "{shown}: {node:?} and not {original:?}\n{story:?}"
            );
        }
        for path in self.foreign.keys() {
            let shown = path.escape_ascii();
            assert!(there.contains_key(path), "{shown} is gone\n{story:?}");
        }
        check_foreign_home(&self.target);
        check_staged(&self.target, story);
    }

    /// Runs it to its end if it has not come there, and fails unless all is there as it has to be.
    /// Returns the report of the last run.
    #[track_caller]
    pub(crate) fn finish(mut self) -> serde_json::Value {
        let is_open = !self.is_finished();
        assert_ne!(is_open, self.over, "{:?}", self.story);
        let ran = Running::start(self.command(&[])).finish();
        let story = format!("{:?}\n{}{}", self.story, ran.out(), ran.err());
        // What is finished is refused, and not touched.
        let code = if is_open { 0 } else { 3 };
        assert_eq!(ran.code, code, "{story}");
        if is_open {
            self.tell("ran to its end".to_owned());
        }
        self.check_end(is_open, &story)
    }

    fn check_end(&self, is_last: bool, story: &str) -> serde_json::Value {
        self.check();
        let there = walk(&self.target);
        for (path, node) in &self.world.reference {
            let shown = path.escape_ascii();
            assert_eq!(there.get(path), Some(node), "{shown}\n{story}");
        }
        for source in self.world.sources() {
            let copy = self.target.join(source.file_name().unwrap());
            let told = rsync_differences(source, &copy, &["--exclude=/foreign/mine"]);
            assert!(told.is_empty(), "{told}\n{story}");
        }
        let report = report(&self.target);
        if is_last {
            let home = self.target.join(".inhaul");
            assert!(!home.join("current").is_symlink(), "left open\n{story}");
            let job = home.join(report["job"].as_str().unwrap());
            assert!(!job.join("stage").exists(), "left staged\n{story}");
            let swept = self.target.join(OLD_JOB).join("stage/lane-0/12");
            assert!(!swept.exists(), "an old job's is still there\n{story}");
            b3sum_agrees(&self.target, self.world.files);
            assert_eq!(report["exit_code"], 0, "{story}");
            assert_eq!(report["problem_count"], 0, "{story}");
            assert_eq!(report["totals"]["existing"], 0, "{story}");
        }
        report
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        let keep = std::env::var_os("INHAUL_TEST_KEEP").filter(|_| std::thread::panicking());
        if let Some(dir) = keep {
            let mut command = Command::new("cp");
            let to = Path::new(&dir).join(self.target.file_name().unwrap());
            let copied = command.arg("-a").args([&self.target, &to]).status();
            eprintln!("{}: {copied:?}", to.display());
        }
        drop(std::fs::remove_dir_all(&self.target));
    }
}

/// Where a run writes down what it passes.
struct Trace(PathBuf);

impl Trace {
    fn new(world: &World) -> Self {
        let path = world.scratch_file("trace");
        let _none_there = std::fs::remove_file(&path);
        Self(path)
    }

    fn env(&self) -> (&'static str, &OsStr) {
        ("INHAUL_TEST_TRACE", self.0.as_os_str())
    }

    fn passes(&self) -> Passes {
        let mut passes = Passes::new();
        for line in std::fs::read_to_string(&self.0).unwrap().lines() {
            *passes.entry(line.to_owned()).or_default() += 1;
        }
        passes
    }
}

/// Returns whether two names stand for the same, apart from how many more there are of it.
fn is_same(a: &Node, b: &Node) -> bool {
    let one = |node: &Node| Node {
        names: 1,
        ..node.clone()
    };
    one(a) == one(b)
}

const OLD_JOB: &str = ".inhaul/19991231-235959-0000";

/// Puts things of somebody else into a target, and what an older job left.
fn foreign(target: &Path) -> Tree {
    let put = |path: &str, text: &str| {
        let path = target.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("mine", "a file");
    put("more of mine/inside", "another");
    // In a folder that is copied, too.
    put("first/foreign/mine", "left alone");
    put(".inhaul/notes", "not a job");
    put(&format!("{OLD_JOB}/stage/lane-0/notes"), "not a number");
    put(&format!("{OLD_JOB}/stage/lane-0/12"), "left staged");
    crate::support::tree::set_mode(&target.join(".inhaul"), 0o700);
    let mut foreign = walk(target);
    // These are ours as well: their times and modes are to be the source's.
    for shared in ["first", "first/foreign"] {
        foreign.remove(shared.as_bytes());
    }
    foreign
}

/// Fails unless what is not ours in the private folder is still there.
fn check_foreign_home(target: &Path) {
    let read = |path: &str| std::fs::read_to_string(target.join(path)).unwrap();
    assert_eq!(read(".inhaul/notes"), "not a job");
    assert_eq!(
        read(&format!("{OLD_JOB}/stage/lane-0/notes")),
        "not a number"
    );
}

/// Fails unless all that is staged are numbered files.
fn check_staged(target: &Path, story: &[String]) {
    for job in std::fs::read_dir(target.join(".inhaul")).unwrap() {
        let job = job.unwrap();
        let stage = job.path().join("stage");
        if !job.file_type().unwrap().is_dir() || job.path() == target.join(OLD_JOB) {
            continue;
        }
        for thread in std::fs::read_dir(stage).into_iter().flatten() {
            for file in std::fs::read_dir(thread.unwrap().path()).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
                assert!(is_number, "{name} is staged\n{story:?}");
            }
        }
    }
}
