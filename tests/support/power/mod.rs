//! Power cuts of a copy: images of its target at random moments, and what must be true of each.
//!
//! Two kinds of target. One is an image whose clones are taken while the copy runs: what was
//! written to it is there, and what was not synced may be missing. The other is a drive with a
//! write cache of its own: whatever no flush reached may be gone, out of order, or torn.

#![allow(dead_code, reason = "each test uses its own part of the bench")]
#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod judge;
pub(crate) mod loads;
pub(crate) mod neighbour;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::drive::{Drive, Spared};
use crate::support::dice::Dice;
use crate::support::judge::{Tree, files, walk};
use crate::support::lab::{Lab, clone_file};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul, so_far, under};
use crate::support::tool;
use neighbour::Neighbour;

/// How the target is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// An image that is cloned.
    Clone,
    /// A drive with a write cache.
    Cache,
}

/// The target of a copy.
#[derive(Debug)]
enum Target {
    Clone(Mounted),
    Cache(Box<Drive>),
}

/// An image of a target as a power cut left it.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    /// When and how it was made.
    pub(crate) story: String,
    /// Files that the copy had said were durable.
    pub(crate) acknowledged: u64,
    /// Whether it had said that everything is.
    pub(crate) all_done: bool,
}

/// What is copied, and where to.
#[derive(Debug)]
pub(crate) struct Bench {
    // In this order they go.
    neighbour: Option<Neighbour>,
    target: Option<Target>,
    originals: Tree,
    source: PathBuf,
    lab: Lab,
    fs: Fs,
    way: Way,
    number: u64,
    /// What is said on the command line, each time the same.
    pub(crate) options: &'static [&'static str],
}

impl Bench {
    /// Makes one; `fill` makes what is to be copied.
    pub(crate) fn new(fs: Fs, way: Way, fill: impl FnOnce(&Path)) -> Self {
        let lab = Lab::new();
        let source = lab.dir("source");
        fill(&source);
        Self {
            neighbour: None,
            target: None,
            originals: walk(&source),
            source,
            lab,
            fs,
            way,
            number: 0,
            options: &[],
        }
    }

    /// Returns how many files are copied.
    pub(crate) fn files(&self) -> usize {
        files(&self.originals)
    }

    /// Where every target is mounted: each run of the same command finds the same paths.
    pub(crate) fn point(&self) -> PathBuf {
        match self.way {
            Way::Clone => self.lab.join("target"),
            Way::Cache => self.lab.join("drive/mounted"),
        }
    }

    /// Returns how many files have their names in the target.
    pub(crate) fn named(&self) -> u64 {
        let copy = self.point().join("source");
        if copy.exists() {
            files(&walk(&copy)) as u64
        } else {
            0
        }
    }

    /// Begins a target, blank or with what an image holds.
    pub(crate) fn begin(&mut self, image: Option<&Image>) {
        self.end();
        let mib = match self.fs {
            Fs::Ext4 => 128,
            Fs::Xfs => 320,
            Fs::Btrfs => 256,
        };
        let target = match (self.way, image) {
            (Way::Clone, None) => {
                let path = self.lab.join("target.img");
                File::create(&path).unwrap().set_len(mib << 20).unwrap();
                let mounted = Mounted::make(&self.point(), &path, self.fs, "noatime");
                Target::Clone(mounted)
            }
            (Way::Clone, Some(image)) => {
                let path = self.lab.join("target.img");
                clone_file(&File::open(&image.path).unwrap(), &path);
                Target::Clone(Mounted::open(&self.point(), &path, self.fs).unwrap())
            }
            (Way::Cache, None) => {
                Target::Cache(Box::new(Drive::new(&self.lab.join("drive"), self.fs, mib)))
            }
            (Way::Cache, Some(image)) => {
                let dir = self.lab.join("drive");
                Target::Cache(Box::new(Drive::with_image(&dir, self.fs, &image.path)))
            }
        };
        if let Target::Cache(drive) = &target {
            drive.set_cache(true);
        }
        self.target = Some(target);
    }

    /// Returns the drive that is the target.
    pub(crate) fn drive(&self) -> &Drive {
        match &self.target {
            Some(Target::Cache(drive)) => drive,
            _ => panic!("the target is no drive"),
        }
    }

    /// Lets somebody else write to the target and sync, again and again.
    pub(crate) fn add_neighbour(&mut self) {
        self.neighbour = Some(Neighbour::new(self.point()));
    }

    /// Ends the target.
    pub(crate) fn end(&mut self) {
        self.neighbour = None;
        self.target = None;
    }

    /// Starts the copy; `env` is what only this run is told.
    pub(crate) fn start(&self, limit: Option<&str>, env: &[(&str, &str)]) -> Running {
        self.start_under(&["env"], limit, env)
    }

    /// Starts the copy by way of another program, as `strace`.
    pub(crate) fn start_under(
        &self,
        prefix: &[&str],
        limit: Option<&str>,
        env: &[(&str, &str)],
    ) -> Running {
        let mut command = inhaul(&[&"copy", &"--json"]);
        command.args(limit).args(self.options);
        command.args([&self.source, &self.point()]);
        let mut command = under(prefix, &command);
        command.envs(env.iter().copied());
        Running::start(command)
    }

    /// Starts something else that copies what is to be copied.
    pub(crate) fn start_other(&self, program: &[&str]) -> Running {
        let mut command = Command::new(program[0]);
        let args = program[1..].iter().copied();
        command.args(args).args([&self.source, &self.point()]);
        Running::start(command)
    }

    /// Cuts the power of the target when the copy has ended.
    pub(crate) fn cut_at_end(&mut self, ran: &Ran, dice: &mut Dice) -> Image {
        let image = self.cut(dice, "at the end", &ran.stdout);
        self.ended(image, ran)
    }

    /// The same where nothing is spared.
    pub(crate) fn cut_all(&mut self, story: &str, ran: &Ran) -> Image {
        let mut dice = Dice::new(0);
        let image = self.cut_spared(Spared::Nothing, &mut dice, story, &ran.stdout);
        self.ended(image, ran)
    }

    fn ended(&self, mut image: Image, ran: &Ran) -> Image {
        if ran.code == 0 {
            image.all_done = true;
            image.acknowledged = self.files() as u64;
        }
        image
    }

    /// Cuts the power of the target at this moment.
    pub(crate) fn cut(&mut self, dice: &mut Dice, story: &str, stdout: &[u8]) -> Image {
        self.cut_spared(spared(dice), dice, story, stdout)
    }

    fn cut_spared(&mut self, spared: Spared, dice: &mut Dice, story: &str, stdout: &[u8]) -> Image {
        self.number += 1;
        let path = self.lab.join(format!("{}.img", self.number));
        // Asked before the cut, not after it.
        let acknowledged = acknowledged(stdout);
        let how = match self.target.as_ref().unwrap() {
            Target::Clone(mounted) => {
                clone_file(&File::open(mounted.image_path()).unwrap(), &path);
                "clone".to_owned()
            }
            Target::Cache(drive) => {
                let cut = drive.cut_power(spared, dice, &path);
                format!("{cut:?}")
            }
        };
        Image {
            path,
            story: format!("{:?} {story}, {how}", self.fs),
            acknowledged,
            all_done: false,
        }
    }

    /// Lets a run come to its end and cuts the power on the way, `count` times: at moments spread
    /// over the time it takes, or over what it does with the drive.
    pub(crate) fn cut_while(
        &mut self,
        running: Running,
        count: usize,
        takes: Duration,
        dice: &mut Dice,
    ) -> (Vec<Image>, Ran) {
        let mut images = match self.target.as_ref().unwrap() {
            Target::Clone(_) => self.cut_at(&running, &moments(count, takes, dice), dice),
            Target::Cache(drive) => {
                let stdout = running.stdout_file();
                let note = Box::new(move || acknowledged(&so_far(&stdout)));
                let dice = Dice::new(dice.next());
                drive.begin_samples(self.lab.path(), count, dice, note);
                Vec::new()
            }
        };
        let ran = running.finish();
        if let Target::Cache(drive) = self.target.as_ref().unwrap() {
            for sample in drive.end_samples() {
                self.number += 1;
                let path = self.lab.join(format!("{}.img", self.number));
                let (sampled, cut) = sample.frozen.cut(spared(dice), dice);
                tool("mv", &[&sampled, &path]);
                images.push(Image {
                    path,
                    story: format!("{:?} before request {}, {cut:?}", self.fs, sample.request),
                    acknowledged: sample.note,
                    all_done: false,
                });
            }
        }
        (images, ran)
    }

    /// Cuts the power at these moments of a run that has just begun.
    fn cut_at(&mut self, running: &Running, moments: &[Duration], dice: &mut Dice) -> Vec<Image> {
        let start = Instant::now();
        let cut = |moment: &Duration| {
            std::thread::sleep(moment.saturating_sub(start.elapsed()));
            let story = format!("after {:?}", start.elapsed());
            self.cut(dice, &story, &so_far(&running.stdout_file()))
        };
        moments.iter().map(cut).collect()
    }
}

/// Returns so many moments of a time, in order.
pub(crate) fn moments(count: usize, time: Duration, dice: &mut Dice) -> Vec<Duration> {
    let millis = u64::try_from(time.as_millis()).unwrap();
    let mut moments: Vec<_> = (0..count)
        .map(|_| Duration::from_millis(dice.below(millis)))
        .collect();
    moments.sort();
    moments
}

fn spared(dice: &mut Dice) -> Spared {
    Spared::ALL[dice.index(Spared::ALL.len())]
}

/// Returns how many files a run has said are durable, in the events it has printed.
fn acknowledged(stdout: &[u8]) -> u64 {
    let lines = stdout.split(|byte| *byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let progress = events.filter(|event| event["type"] == "progress");
    let done = progress.filter_map(|event| event["total"]["files_done"].as_u64());
    done.max().unwrap_or(0)
}
