//! A drive that is pulled and put back: the run goes on with it, and with no other.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use drive::Drive;
use serde_json::Value;
use support::judge::{b3sum_agrees, same_bytes};
use support::lab::Lab;
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul, report};
use support::{can_mount, tree, wait_for};

const LARGE: u64 = 24_000_000;
/// What is on the drive that is pulled.
const FILES: usize = 302;

/// A drive that is pulled, and one that stays.
struct Bench {
    // In this order they go.
    pulled: Drive,
    stays: Drive,
    lab: Lab,
}

fn paint(dir: &std::path::Path, seed: u64) {
    std::fs::create_dir(dir).unwrap();
    tree::paint(&dir.join("a-large"), seed, LARGE);
    tree::many_small(&dir.join("small"), seed + 1, FILES - 2);
    tree::paint(&dir.join("z-large"), seed + 2, LARGE);
    // Names that wait for another are a matter of their own.
    std::fs::hard_link(dir.join("z-large"), dir.join("z-linked")).unwrap();
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let mut pulled = Drive::new(&lab.join("pulled"), Fs::Ext4, 72);
        paint(&pulled.join("d"), 1);
        pulled.remount();
        pulled.set_delay(Duration::from_millis(10));
        let stays = Drive::new(&lab.join("stays"), Fs::Ext4, 40);
        std::fs::create_dir(stays.join("e")).unwrap();
        tree::paint(&stays.join("e/file"), 9, 4_000_000);
        Self { pulled, stays, lab }
    }

    fn target(&self) -> PathBuf {
        self.lab.join("target")
    }

    /// Starts a copy, and pulls the drive in its midst.
    fn start(&mut self, options: &[&str]) -> Running {
        let (pulled, stays) = (self.pulled.join("d"), self.stays.join("e"));
        let target = self.target();
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy", &"--json", &pulled, &stays];
        args.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        args.push(&target);
        let running = Running::start(inhaul(&args));
        // Some of it is done by then, and some is not.
        let first = target.join("d/a-large");
        wait_for("the first file", || first.exists().then_some(()));
        self.pulled.die();
        running.until("\"health\":\"gone\"");
        // Nothing holds it: it goes, and what is mounted next is read anew.
        let held = format!("/proc/{}/fd", running.pid().as_raw_nonzero());
        wait_for("the drive to be let go of", || {
            let open = std::fs::read_dir(&held).unwrap().flatten();
            let mut open = open.flat_map(|fd| std::fs::read_link(fd.path()));
            let is_held = open.any(|path| path.starts_with(self.pulled.path()));
            (!is_held).then_some(())
        });
        self.pulled.unmount();
        self.pulled.heal();
        running
    }

    /// Checks that all is copied, and that this is what is said.
    fn check(&self, ran: &Ran) {
        assert_eq!(ran.code, 0, "{}{}", ran.out(), ran.err());
        let source = self.pulled_is_at();
        for name in ["a-large", "z-large", "z-linked", "small/004/000299"] {
            same_bytes(&source.join(name), &self.target().join("d").join(name));
        }
        b3sum_agrees(&self.target(), FILES + 2);
        let report = report(&self.target());
        assert_eq!(report["problem_count"], 0);
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

    fn pulled_is_at(&self) -> PathBuf {
        let elsewhere = self.lab.join("elsewhere/d");
        if elsewhere.exists() {
            elsewhere
        } else {
            self.pulled.join("d")
        }
    }
}

#[test]
fn a_drive_that_is_put_back_is_gone_on_with() {
    if !can_mount("a_drive_that_is_put_back_is_gone_on_with") {
        return;
    }
    for verify in ["none", "both"] {
        let mut bench = Bench::new();
        let running = bench.start(&["--verify", verify]);
        let before = bench.pulled.counts().reads;
        bench.pulled.mount();
        let ran = running.finish();
        bench.check(&ran);
        assert!(bench.pulled.counts().reads > before);
        if verify == "both" {
            let evidence = &report(&bench.target())["lanes"][0]["evidence"];
            assert_eq!(evidence["source_read_twice"], FILES as u64 + 1);
        }
    }
}

#[test]
fn another_disk_in_its_place_is_never_taken() {
    if !can_mount("another_disk_in_its_place_is_never_taken") {
        return;
    }
    // Only the other one comes, and then the right one as well, at another place.
    for comes in [false, true] {
        let mut bench = Bench::new();
        let grace = if comes { "--grace=60s" } else { "--grace=2s" };
        let running = bench.start(&[grace]);
        let image = bench.lab.join("other.img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(72 << 20).unwrap();
        let place = bench.pulled.path().to_owned();
        let other = Mounted::make(&place, &image, Fs::Ext4, "noatime");
        paint(&other.join("d"), 100);
        if comes {
            bench.pulled.mount_at(&bench.lab.join("elsewhere"));
            let ran = running.finish();
            bench.check(&ran);
            continue;
        }
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        assert_eq!(report["problems"][0]["kind"], "source-lost");
        assert_eq!(report["lanes"][0]["health"], "gone");
        assert_eq!(report["lanes"][1]["safe_to_release"], true);
        let copy = bench.target().join("d/z-large");
        assert!(!copy.exists(), "it was read from another disk");
        drop(other);
    }
}
