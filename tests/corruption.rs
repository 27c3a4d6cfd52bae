//! Silent corruption of the target: bits that flip, writes that are lost and writes that land
//! elsewhere, each of them found by `--verify target`, and mended where the drive lets it be.
//!
//! - `INHAUL_TEST_INJECTIONS=N` harms N blocks in all, instead of about 240.
//! - `INHAUL_TEST_SEED=N` rolls the same dice as a run that said so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use drive::{Drive, Fate, Harm, How, Write};
use serde_json::Value;
use support::dice::{Dice, seed};
use support::judge::{Tree, rsync_differences, walk};
use support::lab::Lab;
use support::marked::{self, Mark, PAGE, marks};
use support::mounts::Fs;
use support::program::{Ran, Running, inhaul, report, run};
use support::{can_mount, tree};

/// Blocks that come to harm, over all runs.
const INJECTIONS: usize = 240;
/// In one run.
const OF_RUN: usize = 10;
/// Length of the drive.
const MIB: u64 = 384;

/// A block of a file: the file's number, and the index of the block of 1 MiB.
type Block = (u32, u64);

/// What is to be done to a page.
#[derive(Debug, Clone, Copy)]
struct Plan {
    kind: Kind,
    /// A byte of the page that the harm begins at.
    at: usize,
    /// Whether it is done to every write of the page, or to the first.
    always: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Flip,
    /// The page is not written, or one sector of it.
    LosePage,
    LoseSector,
    /// The page goes behind everything, or over a page of another file.
    MisplaceFar,
    MisplaceOver,
}

/// What is planned, and what happened.
#[derive(Debug, Default)]
struct Sabotage {
    plans: BTreeMap<Mark, Plan>,
    /// Where pages went.
    places: HashMap<Mark, u64>,
    /// Blocks that are not on the medium as they were written.
    harmed: BTreeSet<Block>,
    done: usize,
}

impl Sabotage {
    fn judge(&mut self, write: &Write<'_>, behind: u64) -> Fate {
        let mut harms = Vec::new();
        for (at, mark) in marks(write.data) {
            let planned = self.plans.get(&mark).copied();
            if let Some(plan) = planned {
                if !plan.always {
                    self.plans.remove(&mark);
                }
                if let Some(how) = self.how(plan, mark, behind) {
                    let (start, len) = match plan.kind {
                        Kind::Flip => (plan.at, 1),
                        Kind::LoseSector => (plan.at / 512 * 512, 512),
                        Kind::LosePage | Kind::MisplaceFar | Kind::MisplaceOver => (0, PAGE),
                    };
                    let end = (at + start + len).min(write.data.len());
                    let part = at + start..end;
                    harms.push(Harm { part, how });
                    self.harmed.insert((mark.file, mark.block()));
                    self.done += 1;
                }
            }
            self.places.insert(mark, write.offset + at as u64);
        }
        if harms.is_empty() {
            Fate::Stored
        } else {
            Fate::Harmed(harms)
        }
    }

    fn how(&mut self, plan: Plan, mark: Mark, behind: u64) -> Option<How> {
        Some(match plan.kind {
            Kind::Flip => How::Flipped,
            Kind::LosePage | Kind::LoseSector => How::Lost,
            Kind::MisplaceFar => How::Misplaced(behind),
            Kind::MisplaceOver => {
                let others = self
                    .places
                    .iter()
                    .filter(|(other, _)| other.file != mark.file);
                let (other, place) = others.min()?;
                self.harmed.insert((other.file, other.block()));
                How::Misplaced(*place)
            }
        })
    }
}

/// Source, drive and what is known of them.
struct Bench {
    // Goes before the lab it lies in.
    drive: Option<Drive>,
    fs: Fs,
    source: PathBuf,
    originals: Tree,
    /// Path below the source and length, by number of the file.
    files: Vec<(String, u64)>,
    lab: Lab,
}

impl Bench {
    fn new(fs: Fs) -> Self {
        let lab = Lab::new();
        let source = lab.dir("source");
        let mut files = Vec::new();
        let mut add = |name: String, len: u64| {
            let path = source.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            marked::write(&path, u32::try_from(files.len()).unwrap(), len);
            files.push((name, len));
        };
        for index in 0..80 {
            add(format!("small{}/{index}", index / 16), 100 + index * 397);
        }
        for index in 0..24 {
            add(format!("medium/{index}"), 80_000 + index * 37_013);
        }
        for index in 0..6 {
            add(format!("large{index}"), (2 << 20) + 1 + index * 1_111_111);
        }
        tree::age(&source, 1_000_000_000);
        Self {
            drive: None,
            fs,
            originals: walk(&source),
            source,
            files,
            lab,
        }
    }

    fn target(&self) -> PathBuf {
        self.lab.join("drive/mounted/target")
    }

    /// Chooses pages to harm, at most one of a block.
    fn plan(&self, count: usize, always: bool, dice: &mut Dice) -> BTreeMap<Mark, Plan> {
        let kinds = [
            Kind::Flip,
            Kind::LosePage,
            Kind::LoseSector,
            Kind::MisplaceFar,
            Kind::MisplaceOver,
        ];
        let mut blocks = BTreeSet::new();
        let mut plans = BTreeMap::new();
        while plans.len() < count {
            let file = dice.index(self.files.len());
            let len = self.files[file].1;
            // Any byte of the file, but those behind its last whole page.
            let byte = dice.below(len);
            let page = u32::try_from(byte / PAGE as u64).unwrap();
            let mark = Mark {
                file: u32::try_from(file).unwrap(),
                page,
            };
            let is_whole = u64::from(page + 1) * PAGE as u64 <= len;
            if is_whole && blocks.insert((mark.file, mark.block())) {
                let kind = kinds[dice.index(kinds.len())];
                let at = usize::try_from(byte % PAGE as u64).unwrap();
                plans.insert(mark, Plan { kind, at, always });
            }
        }
        plans
    }

    /// Copies onto a new drive that does what is planned; returns what it did to which blocks.
    ///
    /// New, because a page that is lost where the same page was before is not lost.
    fn copy(&mut self, plans: BTreeMap<Mark, Plan>, io: &str, bug: &str) -> (Ran, Sabotage) {
        let sabotage = Arc::new(Mutex::new(Sabotage {
            plans,
            ..Sabotage::default()
        }));
        let told = Arc::clone(&sabotage);
        // The last page of the drive; no file system has anything there.
        let behind = (MIB << 20) - PAGE as u64;
        self.drive = None;
        let drive = Drive::new(&self.lab.join("drive"), self.fs, MIB);
        drive.judge_writes(move |write| told.lock().unwrap().judge(write, behind));
        let mut command = inhaul(&[&"copy", &"--verify", &"target", &"--io", &io]);
        command.args([&self.source, &self.target()]);
        command.env("INHAUL_TEST_BUG", bug);
        let ran = Running::start(command).finish();
        drive.heal();
        self.drive = Some(drive);
        let sabotage = std::mem::take(&mut *sabotage.lock().unwrap());
        (ran, sabotage)
    }

    fn path_of(&self, file: u32) -> String {
        format!("source/{}", self.files[file as usize].0)
    }

    /// Returns blocks as a report names them.
    fn named(&self, blocks: &BTreeSet<Block>) -> BTreeSet<(String, u64)> {
        let named = |&(file, block): &Block| (self.path_of(file), block);
        blocks.iter().map(named).collect()
    }

    /// Returns what is wrong with the copy on the medium, but for these files.
    fn differences(&mut self, but: &BTreeSet<String>) -> Vec<String> {
        self.drive.as_mut().unwrap().remount();
        let copies = walk(&self.target().join("source"));
        let mut differences = Vec::new();
        for (path, original) in &self.originals {
            let name = String::from_utf8_lossy(path).into_owned();
            let is_there = copies.get(path).map(|node| &node.content);
            if original.kind == "file" && is_there != Some(&original.content) {
                differences.push(name);
            }
        }
        differences.retain(|name| !but.contains(name));
        if differences.is_empty() && but.is_empty() {
            let told = rsync_differences(&self.source, &self.target().join("source"), &[]);
            differences.extend((!told.is_empty()).then_some(told));
        }
        differences
    }
}

/// Returns the blocks that a report says were mended.
fn mended(report: &Value) -> BTreeSet<(String, u64)> {
    let mut mended = BTreeSet::new();
    for repair in report["repairs"].as_array().unwrap() {
        let path = repair["path"].as_str().unwrap();
        for block in repair["blocks"].as_array().unwrap() {
            mended.insert((path.to_owned(), block.as_u64().unwrap()));
        }
    }
    mended
}

/// Copies onto a drive that harms pages once: returns what is wrong with how that was dealt with,
/// and how many came to harm.
fn harm_once(bench: &mut Bench, io: &str, bug: &str, dice: &mut Dice) -> (Vec<String>, usize) {
    let plans = bench.plan(OF_RUN, false, dice);
    let (ran, sabotage) = bench.copy(plans, io, bug);
    let mut complaints = Vec::new();
    if ran.code != 0 {
        complaints.push(format!("code {}: {}", ran.code, ran.err()));
    }
    let report = report(&bench.target());
    let (expected, found) = (bench.named(&sabotage.harmed), mended(&report));
    for (path, block) in expected.difference(&found) {
        complaints.push(format!(
            "{path}: block {block} was harmed, and that was not found"
        ));
    }
    for (path, block) in found.difference(&expected) {
        complaints.push(format!("{path}: block {block} was not harmed"));
    }
    let differences = bench.differences(&BTreeSet::new());
    complaints.extend(differences.iter().map(|path| format!("{path}: is wrong")));
    let verified = run(&[&"verify", &bench.target()]);
    if verified.code != 0 {
        complaints.push(format!("verify: {}", verified.err()));
    }
    (complaints, sabotage.done)
}

/// Runs until enough came to harm.
fn check(fs: Fs) {
    let test = format!("corruption on {fs:?}");
    if !can_mount(&test) {
        return;
    }
    let seed = seed();
    eprintln!("{test}: INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let count = std::env::var("INHAUL_TEST_INJECTIONS");
    let count = count.map_or(INJECTIONS, |text| text.parse().unwrap());
    let mut bench = Bench::new(fs);
    let (mut done, mut complaints) = (0, Vec::new());
    let mut ios = ["uring", "blocking"].into_iter().cycle();
    while done < count.div_ceil(3) {
        let io = ios.next().unwrap();
        let (wrong, harmed) = harm_once(&mut bench, io, "", &mut dice);
        done += harmed;
        complaints.extend(wrong.iter().map(|wrong| format!("{fs:?} {io} {wrong}")));
    }
    assert!(
        complaints.is_empty(),
        "INHAUL_TEST_SEED={seed}\n{}",
        complaints.join("\n")
    );
}

#[test]
fn harm_is_found_and_mended_on_ext4() {
    check(Fs::Ext4);
}

#[test]
fn harm_is_found_and_mended_on_xfs() {
    check(Fs::Xfs);
}

#[test]
fn harm_is_found_and_mended_on_btrfs() {
    check(Fs::Btrfs);
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    if !can_mount("nothing_is_found_where_there_is_nothing") {
        return;
    }
    for fs in [Fs::Ext4, Fs::Xfs, Fs::Btrfs] {
        let mut bench = Bench::new(fs);
        for io in ["uring", "blocking"] {
            let (ran, _) = bench.copy(BTreeMap::new(), io, "");
            ran.expect(0);
            let report = report(&bench.target());
            assert_eq!(mended(&report), BTreeSet::new());
            assert_eq!(
                report["evidence"]["hashed"], 0,
                "{fs:?}: {}",
                report["evidence"]
            );
            assert_eq!(bench.differences(&BTreeSet::new()), [""; 0]);
        }
    }
}

#[test]
fn what_cannot_be_mended_is_not_left_under_its_name() {
    if !can_mount("what_cannot_be_mended_is_not_left_under_its_name") {
        return;
    }
    let seed = seed();
    eprintln!("INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    for fs in [Fs::Ext4, Fs::Xfs, Fs::Btrfs] {
        let mut bench = Bench::new(fs);
        for io in ["uring", "blocking"] {
            // Some come to harm for ever, and some once.
            let mut plans = bench.plan(OF_RUN / 2, false, &mut dice);
            for (mark, mut plan) in bench.plan(OF_RUN / 2, true, &mut dice) {
                // Nothing but that file: else whose turn it is decides about the other.
                if matches!(plan.kind, Kind::MisplaceOver) {
                    plan.kind = Kind::LosePage;
                }
                plans.insert(mark, plan);
            }
            let always = plans.iter().filter(|(_, plan)| plan.always);
            let lost: BTreeSet<Block> = always.map(|(mark, _)| (mark.file, mark.block())).collect();
            let (ran, sabotage) = bench.copy(plans, io, "");
            let told = ran.err();
            ran.expect(4);
            let report = report(&bench.target());
            let files: BTreeSet<u32> = lost.iter().map(|(file, _)| *file).collect();
            let problems = report["problems"].as_array().unwrap();
            assert_eq!(problems.len(), files.len(), "{fs:?} {problems:?}");
            for &file in &files {
                let path = bench.path_of(file);
                let mut of_file = problems.iter().filter(|problem| {
                    problem["path"]
                        .as_str()
                        .unwrap()
                        .ends_with(&format!("/{path}"))
                        || problem["path"] == *path
                });
                let problem = of_file.next().unwrap_or_else(|| panic!("{path}: {told}"));
                assert_eq!(problem["kind"], "digest-mismatch");
                let reason = problem["reason"].as_str().unwrap();
                for (_, block) in lost.iter().filter(|(of, _)| *of == file) {
                    assert!(reason.contains(&format!("block {block} ")), "{problem}");
                }
                assert!(!bench.target().join(&path).exists(), "{path}");
            }
            // The others are as they have to be.
            let expected: BTreeSet<Block> = sabotage
                .harmed
                .iter()
                .filter(|(file, _)| !files.contains(file))
                .copied()
                .collect();
            let mut found = mended(&report);
            found.retain(|(path, _)| !files.iter().any(|file| bench.path_of(*file) == *path));
            assert_eq!(found, bench.named(&expected), "{fs:?} {io}");
            let gone = files
                .iter()
                .map(|file| bench.files[*file as usize].0.clone());
            let gone = gone.collect();
            assert_eq!(bench.differences(&gone), [""; 0]);
        }
    }
}

#[test]
fn the_bench_can_fail() {
    if !can_mount("the_bench_can_fail") {
        return;
    }
    let mut bench = Bench::new(Fs::Ext4);
    let mut dice = Dice::new(1);
    let (complaints, done) = harm_once(&mut bench, "uring", "read-back-not-compared", &mut dice);
    assert!(done > 0 && complaints.len() > 1, "{complaints:?}");
    // What was written through the page cache is still in it, and right there.
    let (complaints, done) = harm_once(&mut bench, "uring", "read-back-cached", &mut dice);
    assert!(done > 0 && complaints.len() > 1, "{complaints:?}");
    // A repair that is not looked at seems to go well on a drive that keeps nothing.
    let plans = bench.plan(OF_RUN, true, &mut dice);
    let (ran, _) = bench.copy(plans, "uring", "repair-not-verified");
    assert_eq!(ran.code, 0);
    assert_ne!(bench.differences(&BTreeSet::new()), [""; 0]);
}

/// Memory that flips a bit of every block between its hash and its write: each is found and mended
/// while it is still known from where, or found later.
#[test]
fn bits_that_flip_in_memory_after_the_hash() {
    if !can_mount("bits_that_flip_in_memory_after_the_hash") {
        return;
    }
    let bug = "bit-flips-in-memory";
    for fs in [Fs::Ext4, Fs::Xfs, Fs::Btrfs] {
        let mut bench = Bench::new(fs);
        let mut every: BTreeSet<Block> = BTreeSet::new();
        for (file, (_, len)) in (0..).zip(&bench.files) {
            every.extend((0..len.div_ceil(1 << 20)).map(|block| (file, block)));
        }
        assert_eq!(every.len(), 80 + 24 + 33);
        for io in ["uring", "blocking"] {
            let (ran, _) = bench.copy(BTreeMap::new(), io, bug);
            ran.expect(0);
            let report = report(&bench.target());
            assert_eq!(mended(&report), bench.named(&every), "{fs:?} {io}");
            assert_eq!(bench.differences(&BTreeSet::new()), [""; 0]);
            run(&[&"verify", &bench.target()]).expect(0);
        }
        // Nobody looks, and nobody knows: until the target is verified.
        let mut command = inhaul(&[&"copy", &bench.source, &bench.lab.join("unread")]);
        command.env("INHAUL_TEST_BUG", bug);
        Running::start(command).finish().expect(0);
        let ran = run(&[&"verify", &"--json", &bench.lab.join("unread")]).expect(4);
        let events = ran.events();
        let found = events.iter().filter(|it| it["kind"] == "digest-mismatch");
        assert_eq!(found.count(), bench.files.len(), "{fs:?}: {}", ran.out());
        std::fs::remove_dir_all(bench.lab.join("unread")).unwrap();
    }
}

/// A program that verifies its copy only later finds the same files.
#[test]
fn a_later_verify_finds_the_same_files() {
    if !can_mount("a_later_verify_finds_the_same_files") {
        return;
    }
    let mut dice = Dice::new(2);
    for fs in [Fs::Ext4, Fs::Xfs] {
        let mut bench = Bench::new(fs);
        let plans = bench.plan(OF_RUN, false, &mut dice);
        let target = bench.target();
        let (ran, sabotage) = bench.copy(plans, "uring", "read-back-not-compared");
        ran.expect(0);
        let expected: BTreeSet<u32> = sabotage.harmed.iter().map(|(file, _)| *file).collect();
        let ran = run(&[&"verify", &target]).expect(4);
        for (file, (name, _)) in bench.files.iter().enumerate() {
            let is_told = ran.err().lines().any(|line| {
                line.contains(&format!("/{name}:")) || line.contains(&format!("/{name} "))
            });
            let is_harmed = expected.contains(&u32::try_from(file).unwrap());
            assert_eq!(is_told, is_harmed, "{fs:?} {name}: {}", ran.err());
        }
    }
}
