//! One job of the soak: a source, a target, and runs from one to the other until all is there.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

mod load;
mod trouble;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::drive::{Drive, Spared};
use crate::support::dice::Dice;
use crate::support::judge::{Tree, b3sum_agrees, files, rsync_differences, walk};
use crate::support::lab::Lab;
use crate::support::mounts::Fs;
use crate::support::program::{Ran, Running, inhaul, so_far};
use trouble::Trouble;

/// Runs that are disturbed, at most.
const TROUBLES_MAX: u64 = 5;
/// Runs that it may take when nothing disturbs them any more: an error that came before may be told
/// to the first of them.
const CALM_MAX: usize = 3;

/// Where the files come from.
#[derive(Debug)]
enum Source {
    /// A drive that can fail.
    Drive(Box<Drive>),
    /// A folder.
    Folder(PathBuf),
}

/// One job, from its first run to its last.
#[derive(Debug)]
pub(crate) struct Job {
    // In this order they go.
    target: Option<Drive>,
    source: Source,
    home: PathBuf,
    fs: Fs,
    originals: Tree,
    options: Vec<String>,
    /// Whether the target's drive has a cache that power takes away.
    has_cache: bool,
    /// Targets so far: each power cut makes another of what it left.
    targets: usize,
    ends: Vec<String>,
    story: Vec<String>,
}

impl Drop for Job {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story.join("\n"));
        }
        self.target = None;
        self.source = Source::Folder(PathBuf::new());
        let _best_effort = std::fs::remove_dir_all(&self.home);
    }
}

impl Job {
    /// Makes a job from a seed.
    pub(crate) fn new(lab: &Lab, dice: &mut Dice) -> Self {
        let home = lab.dir(format!("job-{}", dice.below(1 << 40)));
        let source = if dice.coin() {
            Source::Drive(Box::new(Drive::new(&home.join("source"), Fs::Ext4, 64)))
        } else {
            Source::Folder(home.join("source/folder"))
        };
        let fs = [Fs::Ext4, Fs::Xfs, Fs::Btrfs][dice.index(3)];
        let mut job = Self {
            target: None,
            source,
            fs,
            originals: Tree::new(),
            options: load::options(fs, dice),
            has_cache: dice.below(3) > 0,
            targets: 0,
            ends: Vec::new(),
            story: Vec::new(),
            home,
        };
        load::fill(&job.source(), dice);
        job.originals = walk(&job.source());
        if let Source::Drive(drive) = &mut job.source {
            drive.remount();
        }
        job.put_target(None);
        let what = format!(
            "{:?}, cache {}, source on a drive {}, {} files, {:?}",
            job.fs,
            job.has_cache,
            matches!(job.source, Source::Drive(_)),
            files(&job.originals),
            job.options
        );
        job.tell(what);
        job
    }

    /// Returns how its runs ended: the trouble and the exit code.
    pub(crate) fn ends(&self) -> impl Iterator<Item = String> + '_ {
        self.ends.iter().cloned()
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    fn source(&self) -> PathBuf {
        match &self.source {
            Source::Drive(drive) => drive.join("s"),
            Source::Folder(path) => path.join("s"),
        }
    }

    fn source_drive(&self) -> Option<&Drive> {
        match &self.source {
            Source::Drive(drive) => Some(drive),
            Source::Folder(_) => None,
        }
    }

    fn target(&self) -> &Drive {
        self.target.as_ref().unwrap()
    }

    /// Puts a drive in the place of the target: a new one, or one with what an image holds.
    fn put_target(&mut self, image: Option<PathBuf>) {
        self.target = None;
        self.targets += 1;
        // Always mounted at the same place.
        let dir = self.home.join("target");
        let mib = match self.fs {
            Fs::Ext4 => 128,
            Fs::Xfs => 320,
            Fs::Btrfs => 256,
        };
        let drive = if let Some(image) = image {
            let drive = Drive::with_image(&dir, self.fs, &image);
            std::fs::remove_file(image).unwrap();
            drive
        } else {
            Drive::new(&dir, self.fs, mib)
        };
        drive.set_cache(self.has_cache);
        self.target = Some(drive);
    }

    fn command(&self) -> Command {
        let mut command = inhaul(&[&"copy", &"--json"]);
        command.args(&self.options);
        command.args([self.source(), self.target().path().to_owned()]);
        command.env("INHAUL_TEST_SYNC_BLOCKS", "1");
        command.env("INHAUL_TEST_BATCH_FILES", "8");
        command
    }

    /// Runs it to its end, whatever comes.
    pub(crate) fn run(&mut self, dice: &mut Dice) {
        let mut is_done = false;
        for _ in 0..dice.below(TROUBLES_MAX + 1) {
            let trouble = Trouble::roll(dice, self.source_drive().is_some(), self.has_cache);
            is_done = self.run_with(&trouble, dice);
            if is_done {
                break;
            }
        }
        for _ in 0..CALM_MAX {
            if is_done {
                break;
            }
            is_done = self.run_with(&Trouble::None, dice);
        }
        assert!(is_done, "it does not come to an end");
        self.check_whole();
    }

    /// Runs it once with some trouble on the way; returns whether it says that all is done.
    fn run_with(&mut self, trouble: &Trouble, dice: &mut Dice) -> bool {
        self.tell(format!("{trouble:?}"));
        trouble.set(self);
        let mut command = self.command();
        if let Trouble::KillAt(point, pass, _) = trouble {
            command.env("INHAUL_TEST_KILL", format!("{point}:{pass}"));
        }
        let running = Running::start(command);
        let mut image = self.disturb(&running, trouble, dice);
        let ran = running.finish();
        if let Trouble::KillAt(_, _, true) = trouble {
            image = Some(self.cut_power(acknowledged(&ran.stdout), dice));
        }
        self.target().heal();
        if let Some(drive) = self.source_drive() {
            drive.heal();
        }
        self.tell(format!("code {}: {}", ran.code, ran.err()));
        self.ends.push(format!("{} {}", trouble.name(), ran.code));
        Self::check_said(&ran, trouble);
        if *trouble == Trouble::None && ran.code != 0 {
            let text = ran.err();
            let why = text.lines().find(|line| line.starts_with("problem: "));
            eprintln!(
                "soak: undisturbed, code {}: {}",
                ran.code,
                why.unwrap_or(&text)
            );
        }
        if let Some((image, acknowledged)) = image {
            self.put_target(Some(image));
            self.check_kept(acknowledged);
            return false;
        }
        // What was cached is gone, and what stands still after an error goes again.
        if *trouble != Trouble::None {
            self.target.as_mut().unwrap().remount();
            if let Source::Drive(drive) = &mut self.source {
                drive.remount();
            }
        }
        self.check_names();
        ran.code == 0 || self.is_all_there(&ran)
    }

    /// Does what is to be done to a run while it goes on; returns the image of a power cut, and how
    /// many files had been acknowledged before it.
    fn disturb(
        &mut self,
        running: &Running,
        trouble: &Trouble,
        dice: &mut Dice,
    ) -> Option<(PathBuf, usize)> {
        let wait = |micros: &u64| std::thread::sleep(Duration::from_micros(*micros));
        // It may have ended before its time.
        let signal = |signal| {
            let _sent = rustix::process::kill_process(running.pid(), signal);
        };
        match trouble {
            Trouble::Kill(micros) => {
                wait(micros);
                signal(Signal::KILL);
            }
            Trouble::Stop(micros) => {
                wait(micros);
                signal(Signal::TERM);
            }
            Trouble::SourceDies(micros) => {
                wait(micros);
                self.source_drive().unwrap().die();
            }
            Trouble::TargetDies(micros) => {
                wait(micros);
                self.target().die();
            }
            Trouble::TargetHangs(micros) => {
                wait(micros);
                self.target().hang();
                std::thread::sleep(Duration::from_millis(300));
                self.target().heal();
            }
            Trouble::PowerCut(micros) => {
                wait(micros);
                let acknowledged = acknowledged(&so_far(&running.stdout_file()));
                let image = self.cut_power(acknowledged, dice);
                signal(Signal::KILL);
                return Some(image);
            }
            _ => {}
        }
        None
    }

    /// Returns the image that a power cut leaves now, and what had been acknowledged before it.
    fn cut_power(&mut self, acknowledged: usize, dice: &mut Dice) -> (PathBuf, usize) {
        let image = self.home.join(format!("cut-{}", self.targets));
        let spared = Spared::ALL[dice.index(Spared::ALL.len())];
        let cut = self.target().cut_power(spared, dice, &image);
        self.tell(format!("{cut:?}, {acknowledged} acknowledged"));
        (image, acknowledged)
    }

    /// Fails unless a run ended with a code that there is, and said why.
    fn check_said(ran: &Ran, trouble: &Trouble) {
        let kills = ["kill", "kill-at", "power-cut", "power-cut-at"];
        let is_killed = kills.contains(&trouble.name());
        let is_known = match ran.code {
            0 | 1 | 3 => true,
            4 | 6 => *trouble != Trouble::None,
            // The second: before it can take a signal.
            75 | 143 => matches!(trouble, Trouble::Stop(_)),
            137 => is_killed,
            _ => false,
        };
        assert!(is_known, "code {}: {}", ran.code, ran.err());
        assert!(!ran.err().contains("panicked"), "{}", ran.err());
    }

    /// Returns the tree of copies; nothing before there is any.
    fn copies(&self) -> Tree {
        let copy = self.target().join("s");
        if copy.exists() {
            walk(&copy)
        } else {
            Tree::new()
        }
    }

    /// Fails if anything wrong has a final name.
    fn check_names(&self) {
        for (path, node) in self.copies().iter().filter(|(_, node)| node.kind != "dir") {
            // What could be read of a file with bad spots, by `--salvage`.
            if path.ends_with(b".partial") {
                continue;
            }
            let original = self.originals.get(path);
            let is_right = original.is_some_and(|original| original.content == node.content);
            let shown = path.escape_ascii();
            assert!(is_right, "{shown}: {node:?} and not {original:?}");
        }
    }

    /// Fails unless what was acknowledged before a power cut is there.
    fn check_kept(&self, acknowledged: usize) {
        self.check_names();
        let there = files(&self.copies());
        assert!(there >= acknowledged, "{there} of {acknowledged} files");
    }

    /// Returns whether a run that failed only did so because everything is there: it was all copied
    /// by a run that could not say so any more.
    fn is_all_there(&self, ran: &Ran) -> bool {
        // All of them: one that is taken alone would stay so for ever.
        let taken = ran.err().matches("problem: target-exists").count();
        let all = self
            .originals
            .values()
            .filter(|node| node.kind != "dir")
            .count();
        ran.code == 3 && taken == all && self.differences().is_empty()
    }

    fn differences(&self) -> String {
        let copies = self.copies();
        let mut originals = self.originals.iter();
        let found = originals.find(|(path, node)| copies.get(*path) != Some(*node));
        let found = found.map(|(path, node)| {
            let shown = path.escape_ascii();
            format!("{shown}: {:?} and not {node:?}", copies.get(path))
        });
        found.unwrap_or_default()
    }

    /// Fails unless all is there, as judges from outside see it.
    fn check_whole(&mut self) {
        self.target.as_mut().unwrap().remount();
        let found = self.differences();
        assert!(found.is_empty(), "{found}");
        let told = rsync_differences(
            &self.source(),
            &self.target().join("s"),
            &["--exclude=*.partial"],
        );
        assert!(told.is_empty(), "{told}");
        b3sum_agrees(self.target().path(), files(&self.originals));
    }
}

/// Returns how many files a run has said are durable.
fn acknowledged(stdout: &[u8]) -> usize {
    let lines = stdout.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let done = events.filter_map(|event| event["total"]["files_done"].as_u64());
    usize::try_from(done.max().unwrap_or(0)).unwrap()
}
