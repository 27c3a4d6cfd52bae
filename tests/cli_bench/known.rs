//! What a bench remembers of drives, and who makes use of it.

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::serials::{can_have_serials, with_serials};
use crate::support::mounts::{Fs, Mounted, quietly};
use crate::support::program::{Ran, Running, inhaul, powerless, report};
use crate::support::{Scratch, need_tools, tool};
use crate::{Device, document, filled, number};

/// So many benches in a row are not all unsteady.
const TRIES_MAX: usize = 20;

/// A drive that has a serial number, and a user whose state is empty.
struct Known<'s> {
    scratch: &'s Scratch,
    device: String,
    state: PathBuf,
}

impl<'s> Known<'s> {
    fn new(scratch: &'s Scratch, device: &str) -> Self {
        Self {
            scratch,
            device: device.to_owned(),
            state: scratch.dir("state"),
        }
    }

    /// The same with the drive in another place: no copy goes by what one with a new file system gives,
    /// for most of it is zeros.
    fn of(&self, device: &str) -> Self {
        Self {
            device: device.to_owned(),
            state: self.state.clone(),
            ..*self
        }
    }

    fn command(&self, args: &[&dyn AsRef<OsStr>]) -> Command {
        let mut command = inhaul(args);
        command.env("XDG_STATE_HOME", &self.state);
        command
    }

    fn start(&self, command: &Command) -> Ran {
        let serials: [(&str, &[u8]); 1] = [(&self.device, b"BENCH-1")];
        Running::start(with_serials(self.scratch, &serials, command)).finish()
    }

    fn run(&self, args: &[&dyn AsRef<OsStr>]) -> Ran {
        self.start(&self.command(args))
    }

    fn bench(&self, args: &[&dyn AsRef<OsStr>]) -> Ran {
        let first: [&dyn AsRef<OsStr>; 4] = [&"bench", &"--json", &"--seconds", &"0.1"];
        let all: Vec<&dyn AsRef<OsStr>> = first.into_iter().chain(args.iter().copied()).collect();
        self.run(&all)
    }

    /// Benches until what the drive gives is remembered anew, and returns the last: on a machine that
    /// has other things to do, a figure may not be steady, and is not.
    fn bench_anew(&self, args: &[&dyn AsRef<OsStr>]) -> Ran {
        let before = std::fs::read(self.entry()).ok();
        self.bench_until(args, |_| std::fs::read(self.entry()).ok() != before)
    }

    fn bench_until(&self, args: &[&dyn AsRef<OsStr>], done: impl Fn(&Ran) -> bool) -> Ran {
        let mut runs = (0..TRIES_MAX).map(|_| self.bench(args).expect(0));
        runs.find(done).expect("one that is steady")
    }

    fn folder(&self) -> PathBuf {
        self.state.join("inhaul/bench")
    }

    fn entry(&self) -> PathBuf {
        self.folder().join("BENCH_2d1.json")
    }

    /// Makes it remembered that the drive gave so much.
    fn gave(&self, rate: f64) {
        let mut entry: Value =
            serde_json::from_slice(&std::fs::read(self.entry()).unwrap()).unwrap();
        for field in ["rate", "rate_min", "rate_max"] {
            entry["subjects"][0]["read"][field] = rate.into();
        }
        std::fs::write(self.entry(), entry.to_string()).unwrap();
    }
}

/// Whether a bench says that a drive gives other than it did.
fn changed(ran: Ran) -> bool {
    let document = document(&ran.expect(0));
    let said = document["verdicts"].as_array().unwrap();
    said.iter().any(|verdict| verdict["about"] == "changed")
}

#[test]
fn a_copy_knows_what_a_bench_has_found() {
    let test = "a_copy_knows_what_a_bench_has_found";
    if !can_have_serials(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "none", 40, &[]);
    let mounted = Mounted::image(&scratch, "one", Fs::Ext4, 40);
    let source = filled(mounted.path());
    let known = Known::new(&scratch, &device.0);
    known.bench_anew(&[&device.0]);
    let known = known.of(mounted.device());

    // Slow enough that the best second of the run itself is far from either.
    let copy = |name: &str, more: &[&dyn AsRef<OsStr>]| {
        let target = scratch.join(name);
        let first: [&dyn AsRef<OsStr>; 4] = [&"copy", &"--json", &"--bwlimit", &"5M"];
        let mut all: Vec<&dyn AsRef<OsStr>> =
            first.into_iter().chain(more.iter().copied()).collect();
        all.extend::<[&dyn AsRef<OsStr>; 2]>([&source, &target]);
        let ran = known.run(&all).expect(0);
        let report = report(&target);
        let best = number(&report["lanes"][0]["best_bytes_per_second"]);
        let left = ran.events().into_iter().filter_map(|event| {
            (event["type"] == "progress").then(|| event["lanes"][0]["seconds_left"].as_u64())?
        });
        (best, left.max().unwrap_or(0))
    };
    known.gave(5e12);
    let (best, _) = copy("fast", &[]);
    assert!((best - 5e12).abs() < 1.0, "{best}");
    let (best, _) = copy("unasked", &[&"--no-history"]);
    assert!(best < 1e9, "{best}");
    // 12 MB at 1 kB/s: before it has a rate of its own, this is what it goes by.
    known.gave(1e3);
    let (best, left) = copy("slow", &[]);
    assert!(1e3 < best && best < 1e9, "{best}");
    assert!((5_000..20_000).contains(&left), "{left} s");
    let (_, left) = copy("slow-unasked", &[&"--no-history"]);
    assert!(left < 5_000, "{left} s");
}

#[test]
fn what_cannot_be_remembered_is_a_note() {
    let test = "what_cannot_be_remembered_is_a_note";
    if !can_have_serials(test) || !need_tools(test, &["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "none", 40, &[]);
    let mounted = Mounted::image(&scratch, "one", Fs::Ext4, 40);
    let source = filled(mounted.path());
    let known = Known::new(&scratch, &device.0);
    let bench = || known.bench_anew(&[&device.0]);
    let copied = std::cell::Cell::new(0);
    let copy = || {
        copied.set(copied.get() + 1);
        let target = scratch.join(format!("target{}", copied.get()));
        let known = known.of(mounted.device());
        known.run(&[&"copy", &source, &target]).expect(0)
    };
    let unused = "note: what a bench found of the drive BENCH-1 is not used: ";
    let silent = |ran: Ran| {
        let all = ran.out() + &ran.err();
        assert!(!all.contains("note: what"), "{all}");
    };
    let entry = known.entry();
    silent(copy());
    silent(bench());
    silent(copy());

    std::fs::write(&entry, "{\"schema\"").unwrap();
    copy()
        .says(unused)
        .says("BENCH_2d1.json: no report of a bench");
    bench()
        .says("gave before cannot be read: ")
        .says("BENCH_2d1.json: no report of a bench");
    silent(copy());

    // A link: not followed, neither for reading nor for writing.
    let mine = scratch.join("mine");
    rustix::fs::rename(&entry, &mine).unwrap();
    symlink(&mine, &entry).unwrap();
    let before = std::fs::read(&mine).unwrap();
    copy().says(unused).says("is a link or a file");
    bench().says("gave before cannot be read: ");
    assert_eq!(std::fs::read(&mine).unwrap(), before);
    assert!(entry.symlink_metadata().unwrap().is_file());
    let elsewhere = scratch.join("elsewhere");
    rustix::fs::rename(known.folder(), &elsewhere).unwrap();
    symlink(&elsewhere, known.folder()).unwrap();
    copy().says(unused).says("is a link or a file");
    let not_remembered = "note: what drives give is not remembered: ";
    known
        .bench(&[&device.0])
        .expect(0)
        .says("note: what drives gave before cannot be read: ")
        .says(not_remembered);
    std::fs::remove_file(known.folder()).unwrap();
    rustix::fs::rename(&elsewhere, known.folder()).unwrap();
    silent(copy());

    let closed = std::fs::Permissions::from_mode(0o500);
    std::fs::set_permissions(known.folder(), closed).unwrap();
    let bench = || {
        let args: [&dyn AsRef<OsStr>; 5] = [&"bench", &"--json", &"--seconds", &"0.1", &device.0];
        known.start(&powerless(&known.command(&args))).expect(0)
    };
    let mut runs = (0..TRIES_MAX).map(|_| bench());
    let told = runs.find(|ran| ran.err().contains(not_remembered));
    told.expect("one that is steady").says("Permission denied");
}

#[test]
fn a_drive_that_nothing_was_written_to_is_held_against_no_full_one() {
    let test = "a_drive_that_nothing_was_written_to_is_held_against_no_full_one";
    if !can_have_serials(test) {
        return;
    }
    let scratch = Scratch::new();
    let empty = scratch.join("empty");
    std::fs::write(&empty, vec![0; 24 << 20]).unwrap();
    let args = [
        "--find",
        "--show",
        "--direct-io=on",
        empty.to_str().unwrap(),
    ];
    let empty = Device(
        String::from_utf8(tool("losetup", &args))
            .unwrap()
            .trim()
            .to_owned(),
    );
    let known = Known::new(&scratch, &empty.0);
    let found = document(&known.bench_anew(&[&empty.0]));
    assert!(found["doubts_alone"].is_array());
    let doubts = &found["subjects"][0]["doubts"];
    let is_zeros = |doubt: &Value| doubt["about"] == "zeros" && doubt["percent"] == 100;
    assert!(doubts.as_array().unwrap().iter().any(is_zeros), "{doubts}");
    known.gave(5e12);
    assert!(changed(known.bench(&[&empty.0])), "as empty as before");
    // Nor is it held against what the drive gave when it was full.
    let full = Device::new(&scratch, "full", 24, &[]);
    known.of(&full.0).bench_anew(&[&full.0]);
    known.gave(5e12);
    assert!(!changed(known.bench(&[&empty.0])));
}

/// A partition of a device; gone when dropped.
struct Partition<'d> {
    device: &'d Device,
    node: PathBuf,
}

impl<'d> Partition<'d> {
    /// Of so many sectors from sector 2048 on, with its node in the scratch.
    fn new(scratch: &Scratch, device: &'d Device, sectors: u64) -> Self {
        tool(
            "addpart",
            &[&device.0[..], "1", "2048", &sectors.to_string()],
        );
        let name = format!("{}p1", device.name());
        let node = scratch.join(&name);
        let partition = Self { device, node };
        let number = std::fs::read_to_string(format!("/sys/class/block/{name}/dev")).unwrap();
        let (major, minor) = number.trim().split_once(':').unwrap();
        tool(
            "mknod",
            &[partition.path().to_str().unwrap(), "b", major, minor],
        );
        partition
    }

    fn path(&self) -> &Path {
        &self.node
    }
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        quietly("delpart", &[&self.device.0[..], "1"]);
    }
}

#[test]
fn only_all_of_a_drive_is_held_against_what_it_gave() {
    let test = "only_all_of_a_drive_is_held_against_what_it_gave";
    if !can_have_serials(test) || !need_tools(test, &["addpart", "delpart", "mknod"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 24, &[]);
    let partition = Partition::new(&scratch, &device, 32_768);
    let known = Known::new(&scratch, &device.0);
    assert!(!changed(known.bench(&[&partition.path()])));
    assert!(!known.entry().exists());
    let both: [&dyn AsRef<OsStr>; 3] = [&device.0, &partition.path(), &"--alone"];
    assert!(!changed(known.bench_anew(&both)));
    // So much that whatever is held against it is slower.
    known.gave(5e12);
    let before = std::fs::read(known.entry()).unwrap();
    let others: [[&dyn AsRef<OsStr>; 2]; 4] = [
        [&partition.path(), &"--alone"],
        [&device.0, &"--depth=1"],
        [&device.0, &"--block=64KiB"],
        [&device.0, &"--no-history"],
    ];
    for args in others {
        assert!(!changed(known.bench(&args)));
        assert_eq!(std::fs::read(known.entry()).unwrap(), before);
    }
    assert!(changed(known.bench_anew(&[&device.0])));
    assert!(!changed(known.bench(&[&device.0, &"--depth=1"])));
}

#[test]
fn only_all_of_a_drive_that_spins_has_zones() {
    let test = "only_all_of_a_drive_that_spins_has_zones";
    if !can_have_serials(test) || !need_tools(test, &["addpart", "delpart", "mknod"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 1, &[]);
    let image = std::fs::File::options()
        .write(true)
        .open(scratch.join("one"))
        .unwrap();
    image.set_len(1300 << 20).unwrap();
    tool("losetup", &["--set-capacity", &device.0]);
    let spins = format!("/sys/class/block/{}/queue/rotational", device.name());
    if std::fs::write(&spins, "1").is_err() {
        crate::support::skip(test, "needs a loop device that says it spins");
        return;
    }
    let partition = Partition::new(&scratch, &device, (1200 << 20) / 512);
    let zones = |path: &dyn AsRef<OsStr>| {
        let subject = document(&crate::bench(&[path]).expect(0))["subjects"][0].clone();
        assert_eq!(subject["drives"][0]["rotational"], true);
        subject["zones"].as_array().unwrap().len()
    };
    assert_eq!(zones(&device.0), 3);
    assert_eq!(zones(&partition.path()), 0);
}
