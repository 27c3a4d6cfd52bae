//! The bench: a drive that is pulled in the midst of a copy, and one that stays.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::drive::Drive;
use crate::support::judge::{b3sum_agrees, same_bytes};
use crate::support::lab::Lab;
use crate::support::mounts::{Fs, quietly, unmount};
use crate::support::program::{Ran, Running, inhaul, report, so_far};
use crate::support::{tree, wait_for};

pub(crate) const LARGE: u64 = 24_000_000;

/// What is on the drive that is pulled.
pub(crate) const FILES: usize = 302;

/// A drive that is pulled, and one that stays.
pub(crate) struct Bench {
    // In this order they go.
    pub(crate) pulled: Drive,
    pub(crate) stays: Drive,
    pub(crate) lab: Lab,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        let mut pulled = Drive::new(&lab.join("pulled"), Fs::Ext4, 72);
        paint(&pulled.join("d"), 1);
        pulled.remount();
        pulled.set_delay(Duration::from_millis(20));
        let stays = Drive::new(&lab.join("stays"), Fs::Ext4, 40);
        std::fs::create_dir(stays.join("e")).unwrap();
        tree::paint(&stays.join("e/file"), 9, 4_000_000);
        Self { pulled, stays, lab }
    }

    /// Returns the same where the drive that stays hangs in the midst of a file once a copy has begun.
    pub(crate) fn busy() -> Self {
        let bench = Self::new();
        tree::paint(&bench.stays.join("e/large"), 10, LARGE);
        bench.stays.set_delay(Duration::from_millis(40));
        bench
    }

    pub(crate) fn target(&self) -> PathBuf {
        let drive = self.lab.join("under/mounted");
        if drive.exists() {
            return drive.join("target");
        }
        self.lab.join("target")
    }

    /// Starts a copy, and pulls the drive in its midst.
    pub(crate) fn start(&mut self, options: &[&str]) -> Running {
        self.start_with(options, Self::pull)
    }

    /// Starts a copy, and does this to the drive in its midst.
    pub(crate) fn start_with(
        &mut self,
        options: &[&str],
        harm: impl FnOnce(&mut Self, &Running),
    ) -> Running {
        let (pulled, stays) = (self.pulled.join("d"), self.stays.join("e"));
        let target = self.target();
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--json", &pulled, &stays];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.push(&target);
        let running = Running::start(inhaul(&args));
        if self.stays.join("e/large").exists() {
            // From now on nothing more comes of it, and its lane is in the midst of a file.
            let before = self.stays.counts().reads;
            wait_for("reads", || {
                (self.stays.counts().reads >= before + 6).then_some(())
            });
            self.stays.hang();
        }
        // Some of it is done by then, and some is not.
        let first = target.join("d/a-large");
        wait_for("the first file", || first.exists().then_some(()));
        harm(self, &running);
        running
    }

    /// Pulls the drive, and waits until nothing holds it: it goes, and what is mounted next is read
    /// anew.
    pub(crate) fn pull(&mut self, running: &Running) {
        self.let_die(running, 1);
        self.pulled.unmount();
        self.pulled.heal();
    }

    /// Lets the drive die, and waits until nothing holds it; it is gone so often by then.
    pub(crate) fn let_die(&self, running: &Running, times: usize) {
        self.pulled.die();
        is_gone(running, times);
        self.is_let_go(running);
    }

    pub(crate) fn is_let_go(&self, running: &Running) {
        let held = format!("/proc/{}/fd", running.pid().as_raw_nonzero());
        wait_for("the drive to be let go of", || {
            let open = std::fs::read_dir(&held).unwrap().flatten();
            let mut open = open.flat_map(|fd| std::fs::read_link(fd.path()));
            let is_held = open.any(|path| path.starts_with(self.pulled.path()));
            (!is_held).then_some(())
        });
    }

    /// Lets the drive hang until the run has nothing else to do, and heals it then. (What the kernel
    /// was asked for stays open, so its mount goes away later.)
    pub(crate) fn hang(&mut self, running: &Running) {
        self.pulled.hang();
        let healing = self.pulled.healing();
        running.until_told("the other drives are through");
        drop(healing);
        self.pulled.unmount();
    }

    /// Checks that all is copied, and that this is what is said.
    pub(crate) fn check(&self, ran: &Ran) {
        assert_eq!(ran.code, 0, "{}{}", ran.out(), ran.err());
        let source = self.pulled_is_at();
        for name in ["a-large", "z-large", "z-linked", "small/004/000299"] {
            same_bytes(&source.join(name), &self.target().join("d").join(name));
        }
        let others = std::fs::read_dir(self.stays.join("e")).unwrap().count();
        b3sum_agrees(&self.target(), FILES + 1 + others);
        let report = report(&self.target());
        assert_eq!(report["problem_count"], 0, "{report}");
        assert_eq!(report["problems"], serde_json::json!([]));
        let lane = &report["lanes"][0];
        assert_eq!(lane["state"], "done", "{lane}");
        assert_eq!(lane["health"], "suspect", "{lane}");
        assert_eq!(lane["safe_to_release"], true, "{lane}");
        let totals = &lane["totals"];
        let files = [&totals["files"], &totals["kept"], &totals["others"]];
        assert_eq!(files, [FILES as u64, 0, 1], "each counts once: {totals}");
        let events = ran.events();
        let told = events.iter().filter(|it| it["type"] == "health");
        let told: Vec<&Value> = told.map(|it| &it["health"]).collect();
        assert_eq!(told.last().unwrap(), &"suspect", "{told:?}");
    }

    pub(crate) fn pulled_is_at(&self) -> PathBuf {
        let elsewhere = self.lab.join("elsewhere/d");
        if elsewhere.exists() {
            elsewhere
        } else {
            self.pulled.join("d")
        }
    }
}

pub(crate) fn paint(dir: &Path, seed: u64) {
    std::fs::create_dir(dir).unwrap();
    tree::paint(&dir.join("a-large"), seed, LARGE);
    tree::many_small(&dir.join("small"), seed + 1, FILES - 2);
    tree::paint(&dir.join("z-large"), seed + 2, LARGE);
    // Names that wait for another are a matter of their own.
    std::fs::hard_link(dir.join("z-large"), dir.join("z-linked")).unwrap();
}

/// Waits until the drive is told to be gone, for so many times.
pub(crate) fn is_gone(running: &Running, times: usize) {
    let stdout = running.stdout_file();
    wait_for("the drive to be gone", || {
        let text = String::from_utf8_lossy(&so_far(&stdout)).into_owned();
        (text.matches("\"health\":\"gone\"").count() >= times).then_some(())
    });
}

/// Waits until the drive of one source is.
pub(crate) fn source_is_gone(running: &Running, source: &str) {
    let stdout = running.stdout_file();
    wait_for("the drive of a source to be gone", || {
        let text = String::from_utf8_lossy(&so_far(&stdout)).into_owned();
        let mut lines = text.lines();
        let is_told = |line: &str| line.contains(source) && line.contains("\"health\":\"gone\"");
        lines.any(is_told).then_some(())
    });
}

/// A folder that is mounted at another place as well.
pub(crate) struct Bound(PathBuf);

impl Bound {
    pub(crate) fn new(folder: &Path, point: &Path) -> Self {
        assert!(quietly("mount", &[Path::new("--bind"), folder, point]));
        Self(point.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// The journal of a copy, out of the way of whoever would read it.
pub(crate) struct Aside(PathBuf);

impl Aside {
    pub(crate) fn put(target: &Path) -> Self {
        let home = target.join(".inhaul");
        let job = home.join(std::fs::read_link(home.join("current")).unwrap());
        let journal = job.join("journal");
        rustix::fs::rename(&journal, job.join("aside")).unwrap();
        Self(journal)
    }

    pub(crate) fn put_back(self) {
        rustix::fs::rename(self.0.with_file_name("aside"), self.0).unwrap();
    }
}
