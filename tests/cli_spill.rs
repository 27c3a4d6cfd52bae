//! Copies with several targets: what one has no room for goes to the next, nothing is there twice,
//! and each target can be checked by itself.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drive::Drive;
use serde_json::Value;
use support::judge::{b3sum_agrees, files, walk};
use support::lab::Lab;
use support::mounts::{Fs, Mounted, unmount};
use support::program::{Running, contents, inhaul, job, report, run};
use support::{Scratch, can_mount, tree, wait_for};

/// Regular files of the source, further names of one inode counted.
const FILES: usize = 62;

fn fill_source(source: &Path) {
    for index in 0..60_u64 {
        let dir = source.join(format!("{}/{}", index % 3, index % 5));
        std::fs::create_dir_all(&dir).unwrap();
        let len = if index % 4 == 0 { 3_500_000 } else { 400_000 };
        tree::paint(&dir.join(format!("file{index:02}")), index, len);
    }
    // Names of one inode, first and last in any order.
    for name in ["0/0/a-name", "2/4/z-name"] {
        let first = source.join("1/1/file01");
        std::fs::hard_link(first, source.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("file00", source.join("0/0/link")).unwrap();
    std::fs::create_dir(source.join("empty")).unwrap();
    tree::set_mode(&source.join("0/0"), 0o750);
    tree::age(source, 1_000_000_000);
}

/// Two targets that hold the source together, and neither alone.
struct Pair {
    first: Mounted,
    second: Mounted,
    source: PathBuf,
    scratch: Scratch,
}

impl Pair {
    fn new(fs: [Fs; 2], mib: [u64; 2]) -> Self {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        fill_source(&source);
        Self {
            first: Mounted::image(&scratch, "first", fs[0], mib[0]),
            second: Mounted::image(&scratch, "second", fs[1], mib[1]),
            source,
            scratch,
        }
    }

    fn spill(&self) -> String {
        format!("--spill={}", self.second.path().display())
    }

    /// Fails unless the two hold the source together, and each says what it has.
    #[track_caller]
    fn check(&self) {
        let originals = walk(&self.source);
        let (first, second) = (
            walk(&self.first.join("source")),
            walk(&self.second.join("source")),
        );
        for (path, node) in &originals {
            let shown = path.escape_ascii();
            let there: Vec<_> = [&first, &second]
                .into_iter()
                .filter_map(|tree| tree.get(path))
                .collect();
            if node.kind == "dir" {
                assert!(!there.is_empty(), "{shown}");
            } else {
                assert_eq!(there.len(), 1, "{shown}");
            }
            for copy in there {
                let mut copy = copy.clone();
                // A hard link that would lead from one to the other is a file of its own.
                copy.names = node.names;
                assert_eq!(&copy, node, "{shown}");
            }
        }
        let all = first.keys().chain(second.keys());
        assert!(all.into_iter().all(|path| originals.contains_key(path)));
        let counts = [files(&first), files(&second)];
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let places = self.places();
        assert_eq!(places.len(), FILES);
        for (number, target) in [&self.first, &self.second].into_iter().enumerate() {
            b3sum_agrees(target.path(), counts[number]);
            run(&[&"verify", &target.path()]).expect(0);
            for left in ["current", "latest/unfinished", "latest/stage"] {
                assert!(!target.join(".inhaul").join(left).exists(), "{left}");
            }
        }
        for (path, target) in &places {
            let path = path.strip_prefix("source/").unwrap();
            let tree = if *target == self.first.path().to_str().unwrap() {
                &first
            } else {
                assert_eq!(target, self.second.path().to_str().unwrap());
                &second
            };
            assert!(
                tree.contains_key(path.as_bytes()),
                "{path} is not in {target}"
            );
        }
    }

    /// Returns where each file is by the record that covers the whole, which both targets have.
    fn places(&self) -> BTreeMap<String, String> {
        let [here, there] = [&self.first, &self.second].map(|target| {
            let text = std::fs::read_to_string(job(target.path()).join("places.ndjson")).unwrap();
            let mut lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let head = lines.next().unwrap();
            assert_eq!(head["type"], "places");
            let place = |line: Value| {
                let number = usize::try_from(line["target"].as_u64().unwrap()).unwrap();
                let target = head["targets"][number].as_str().unwrap().to_owned();
                (line["path"].as_str().unwrap().to_owned(), target)
            };
            lines.map(place).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(here, there);
        here
    }
}

#[test]
fn what_one_target_cannot_take_goes_to_the_next() {
    if !can_mount("what_one_target_cannot_take_goes_to_the_next") {
        return;
    }
    for fs in [[Fs::Ext4, Fs::Ext4], [Fs::Ext4, Fs::Btrfs]] {
        let pair = Pair::new(fs, [64, 160]);
        let ran = run(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]).expect(0);
        let ran = ran
            .says("all durable")
            .says("\ntargets\n")
            .says("what is left goes to");
        pair.check();
        let last = report(pair.second.path());
        // One more where names of one inode came to lie on both.
        let files = last["totals"]["files"].as_u64().unwrap();
        assert!((60..=61).contains(&files), "{files}: {}", ran.err());
        assert_eq!(last["totals"]["kept"], 0);
        assert_eq!(last["lanes"][0]["safe_to_release"], true);
        let counted: Vec<u64> = last["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target["files"].as_u64().unwrap())
            .collect();
        assert_eq!(counted.iter().sum::<u64>(), FILES as u64);
        // The first was closed last; its report is of all targets, too.
        let first = report(pair.first.path());
        for field in ["exit_code", "job", "totals", "problems", "evidence"] {
            assert_eq!(first[field], last[field], "{field}");
        }
        assert_eq!(first["lanes"][0]["verdict"], last["lanes"][0]["verdict"]);
        assert_eq!(first["target"], pair.first.path().to_str().unwrap());
        assert_eq!(first["manifest_records"], counted[1]);
        assert_eq!(last["manifest_records"], counted[0]);
        // It is done: nothing is left to go on with, and nothing is overwritten.
        run(&[&"resume", &pair.first.path()]).expect(2);
        run(&[&"resume", &pair.second.path()]).expect(2);
    }
}

#[test]
fn what_all_targets_cannot_take_is_refused() {
    if !can_mount("what_all_targets_cannot_take_is_refused") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [32, 32]);
    let ran = run(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]).expect(6);
    ran.says("kept: nothing was written");
    assert!(!pair.first.join(".inhaul").exists());
    // A second folder on the first one's file system gives no more room.
    let spill = format!("--spill={}", pair.first.dir("more").display());
    let ran = run(&[&"copy", &spill, &pair.source, &pair.first.dir("in")]).expect(6);
    ran.says("on the same file system");
}

#[test]
fn a_copy_with_several_targets_goes_on_wherever_it_was_killed() {
    if !can_mount("a_copy_with_several_targets_goes_on_wherever_it_was_killed") {
        return;
    }
    // In the run into the first, with names that nobody acknowledged in the end, in the run into
    // the second, and when the first is closed.
    for (point, times) in [
        ("acknowledged", 2),
        ("named-all", 5),
        ("named-all", 7),
        ("acknowledged", 6),
        ("end-recorded", 3),
    ] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        let mut command = inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]);
        command.env("INHAUL_TEST_BATCH_FILES", "8");
        command.env("INHAUL_TEST_KILL", format!("{point}:{times}"));
        Running::start(command).finish().expect(137);
        // Not without the other target: what that has would be copied again.
        if times == 6 {
            let ran = run(&[&"copy", &pair.source, &pair.first.path()]).expect(6);
            ran.says("further targets");
        }
        let ran = if times == 2 {
            run(&[&"resume", &pair.first.path()])
        } else {
            run(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()])
        };
        ran.expect(0);
        pair.check();
    }
}

#[test]
fn a_further_target_can_be_named_when_the_first_is_full() {
    if !can_mount("a_further_target_can_be_named_when_the_first_is_full") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [160, 160]);
    // Somebody else fills the first one while it is copied to.
    let slow = inhaul(&[&"copy", &"--bwlimit=30MB", &pair.source, &pair.first.path()]);
    let running = Running::start(slow);
    let folder = pair.first.join("source/0/0");
    wait_for("a file", || {
        let is_there = folder
            .read_dir()
            .is_ok_and(|mut names| names.next().is_some());
        is_there.then_some(())
    });
    running.signal(rustix::process::Signal::STOP);
    let fill = std::fs::File::create(pair.first.join("fill")).unwrap();
    let (mut len, mut step) = (0, 64 << 20);
    while step >= 4096 {
        let more = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&fill, more, len, step).is_ok() {
            len += step;
        } else {
            step /= 2;
        }
    }
    running.signal(rustix::process::Signal::CONT);
    running.finish().expect(3).says("--spill");
    run(&[&"resume", &pair.spill(), &pair.first.path()]).expect(0);
    pair.check();
    // Found from either end, and finished.
    let again = contents(&pair.source);
    run(&[&"copy", &"-n", &again, &pair.second.path()]);
}

/// Changes a byte in the midst of a file behind the back of whoever wrote it, and keeps the times.
fn corrupt(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], 1000).unwrap();
    file.set_modified(modified).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn what_reads_back_wrong_in_a_full_target_is_mended_or_told_of() {
    if !can_mount("what_reads_back_wrong_in_a_full_target_is_mended_or_told_of") {
        return;
    }
    for has_source in [true, false] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        let mut command = inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]);
        command.env("INHAUL_TEST_BATCH_FILES", "8");
        command.env("INHAUL_TEST_KILL", "acknowledged:2");
        Running::start(command).finish().expect(137);
        // Not one of many names: one of those is told from another by its inode.
        let copied = walk(&pair.first.join("source"));
        let mut copied = copied.into_iter();
        let (wrong, _) = copied
            .find(|(_, node)| node.kind == "file" && node.names == 1)
            .unwrap();
        let wrong = PathBuf::from(String::from_utf8(wrong).unwrap());
        corrupt(&pair.first.join("source").join(&wrong));
        if !has_source {
            std::fs::remove_file(pair.source.join(&wrong)).unwrap();
        }
        let again = || {
            run(&[
                &"copy",
                &"--verify=both",
                &pair.spill(),
                &pair.source,
                &pair.first.path(),
            ])
        };
        let ran = again();
        let last = report(pair.second.path());
        if has_source {
            ran.expect(0);
            // The last report is of all targets.
            assert_eq!(last["repairs"].as_array().unwrap().len(), 1);
            let evidence = &last["evidence"];
            assert_eq!(evidence["source_read_twice"], FILES, "{evidence}");
            assert_eq!(evidence["hashed"], 0, "{evidence}");
            assert_eq!(last["lanes"][0]["evidence"], *evidence);
            assert_eq!(last["lanes"][0]["safe_to_release"], true);
            pair.check();
        } else {
            ran.expect(3);
            assert_eq!(last["exit_code"], 3);
            assert_eq!(last["problem_count"], 1);
            // That is why it could not be mended.
            assert_eq!(last["problems"][0]["kind"], "source-vanished");
            assert_eq!(last["lanes"][0]["safe_to_release"], false);
            assert!(!pair.first.join("source").join(&wrong).exists());
            again().expect(0);
        }
    }
}

#[test]
fn a_further_target_that_is_not_mounted_is_not_written_to() {
    if !can_mount("a_further_target_that_is_not_mounted_is_not_written_to") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let mut command = inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]);
    command.env("INHAUL_TEST_BATCH_FILES", "8");
    command.env("INHAUL_TEST_KILL", "acknowledged:6");
    Running::start(command).finish().expect(137);
    let image = pair.second.image_path().to_owned();
    unmount(pair.second.path());
    for resumes in [true, false] {
        let ran = if resumes {
            run(&[&"resume", &pair.first.path()])
        } else {
            run(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()])
        };
        ran.expect(6).says("another file system is there");
        assert_eq!(pair.second.path().read_dir().unwrap().count(), 0);
    }
    let again = Mounted::again(&pair.scratch, "second", Fs::Ext4, &image);
    // It is unmounted already.
    let _unmounted = std::mem::ManuallyDrop::new(std::mem::replace(&mut pair.second, again));
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}

#[test]
fn a_drive_that_hangs_is_left_out_of_all_further_targets() {
    if !can_mount("a_drive_that_hangs_is_left_out_of_all_further_targets") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let lab = Lab::new();
    let mut sick = Drive::new(&lab.join("sick"), Fs::Ext4, 72);
    std::fs::create_dir(sick.join("d")).unwrap();
    tree::paint(&sick.join("d/large"), 1, 24_000_000);
    sick.remount();
    sick.set_delay(Duration::from_millis(10));
    let folder = sick.join("d");
    let mut running = Running::start(inhaul(&[
        &"copy",
        &"--json",
        &"--grace=0",
        &"--stall-timeout=1s",
        &"--bwlimit=30MB",
        &pair.spill(),
        &folder,
        &pair.source,
        &pair.first.path(),
    ]));
    let before = sick.counts().reads;
    wait_for("reads", || {
        (sick.counts().reads >= before + 12).then_some(())
    });
    sick.hang();
    let healing = sick.healing();
    // The kernel lets no thread go before the drive answers; what is to be done is done before.
    running.until("\"type\":\"summary\"");
    drop(healing);
    let ended = running.wait(Duration::from_secs(60));
    assert!(ended.is_some(), "it waits for the drive");
    let ran = running.finish().expect(3);
    let last = report(pair.second.path());
    let problems = last["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0]["kind"], "source-stalled");
    let lanes = last["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2, "{}", ran.err());
    let sick_lane = |lane: &&Value| lane["health"] == "quarantined";
    let sick_lane = lanes.iter().find(sick_lane).unwrap();
    assert_eq!(sick_lane["safe_to_release"], false);
    // All of the other is there, on both; and it is gone on with.
    let there = [&pair.first, &pair.second].map(|target| files(&walk(&target.join("source"))));
    assert_eq!(there.iter().sum::<usize>(), FILES, "{there:?}");
    let spill = pair.spill();
    let again: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&"copy", &spill, &folder, &pair.source, &pair.first.path()];
    run(&again).expect(0);
}

#[test]
fn what_is_skipped_in_one_target_is_not_copied_into_the_next() {
    if !can_mount("what_is_skipped_in_one_target_is_not_copied_into_the_next") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let taken: Vec<PathBuf> = walk(&pair.source)
        .into_iter()
        .filter(|(_, node)| node.kind == "file" && node.names == 1)
        .map(|(path, _)| PathBuf::from(String::from_utf8(path).unwrap()))
        .collect();
    let taken = [&taken[0], taken.last().unwrap()];
    for path in taken {
        let there = pair.first.join("source").join(path);
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::write(there, "mine").unwrap();
    }
    run(&[
        &"copy",
        &"--existing=skip",
        &pair.spill(),
        &pair.source,
        &pair.first.path(),
    ])
    .expect(0);
    for path in taken {
        assert!(!pair.second.join("source").join(path).exists());
    }
    let last = report(pair.second.path());
    assert_eq!(last["totals"]["existing"], 2);
    assert_eq!(last["lanes"][0]["safe_to_release"], false);
}

/// Runs a copy of the source into both that is killed while the second takes what the first cannot.
fn killed_in_the_second(pair: &Pair) {
    let mut command = inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]);
    command.env("INHAUL_TEST_KILL", "lanes-ended:2");
    Running::start(command).finish().expect(137);
    assert!(pair.second.join(".inhaul/current").exists());
}

#[test]
fn a_source_that_a_further_target_does_not_know_yet_is_gone_on_with_alone() {
    if !can_mount("a_source_that_a_further_target_does_not_know_yet_is_gone_on_with_alone") {
        return;
    }
    for resumes in [false, true] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        killed_in_the_second(&pair);
        // The first learns of another drive, the second does not: it was lost before its turn.
        let late = pair.scratch.dir("late");
        for index in 0..4 {
            tree::paint(&late.join(format!("{index}")), 90 + index, 3_000_000);
        }
        tree::age(&late, 1_000_000_000);
        let mut command = inhaul(&[
            &"copy",
            &pair.spill(),
            &pair.source,
            &late,
            &pair.first.path(),
        ]);
        command.env("INHAUL_TEST_KILL", "journal-created:1");
        Running::start(command).finish().expect(137);

        // It alone is here again, by another name; the first is full, so it goes to the second.
        let (late_now, source_away) = (pair.scratch.join("elsewhere"), pair.scratch.join("away"));
        std::fs::rename(&late, &late_now).unwrap();
        std::fs::rename(&pair.source, &source_away).unwrap();
        if resumes {
            // Nothing is known of where it went but its name.
            std::fs::rename(&late_now, &late).unwrap();
            let ran = run(&[&"resume", &pair.first.path()]).expect(3);
            ran.says("NOT finished");
        } else {
            let ran = run(&[&"copy", &pair.spill(), &late_now, &pair.first.path()]).expect(0);
            ran.says("stays open");
            std::fs::rename(&late_now, &late).unwrap();
        }
        let copies: Vec<_> = [&pair.first, &pair.second]
            .into_iter()
            .flat_map(|target| walk(&target.join("late")))
            .filter(|(_, node)| node.kind == "file")
            .map(|(path, node)| (path, node.content))
            .collect();
        let copies: BTreeMap<_, _> = copies.into_iter().collect();
        let originals = walk(&late).into_iter();
        let originals: BTreeMap<_, _> = originals
            .filter(|(_, node)| node.kind == "file")
            .map(|(path, node)| (path, node.content))
            .collect();
        assert_eq!(copies, originals);
        assert!(!pair.second.join("elsewhere").exists());

        std::fs::rename(&source_away, &pair.source).unwrap();
        run(&[&"resume", &pair.first.path()]).expect(0);
        for target in [&pair.first, &pair.second] {
            run(&[&"verify", &target.path()]).expect(0);
            assert!(!target.join(".inhaul/current").exists());
        }
        let places = pair.places();
        assert_eq!(places.len(), FILES + 4);
    }
}

#[test]
fn a_first_target_that_is_not_mounted_is_not_written_to() {
    if !can_mount("a_first_target_that_is_not_mounted_is_not_written_to") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    killed_in_the_second(&pair);
    let image = pair.first.image_path().to_owned();
    unmount(pair.first.path());
    let before = walk(pair.second.path());
    for resumes in [true, false] {
        let mut command = if resumes {
            inhaul(&[&"resume", &pair.second.path()])
        } else {
            inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()])
        };
        // Not even the note of who began it is there.
        command.env("XDG_STATE_HOME", pair.scratch.join("nobody"));
        let ran = Running::start(command).finish().expect(6);
        ran.says("began here and is not here now")
            .says("Mount that drive");
        assert_eq!(pair.first.path().read_dir().unwrap().count(), 0);
    }
    assert!(walk(pair.second.path()).keys().eq(before.keys()));
    let again = Mounted::again(&pair.scratch, "first", Fs::Ext4, &image);
    // It is unmounted already.
    let _unmounted = std::mem::ManuallyDrop::new(std::mem::replace(&mut pair.first, again));
    run(&[&"resume", &pair.second.path()]).expect(0);
    pair.check();
}

/// Begins a slow copy into both and waits until a target has begun.
fn slow_until(pair: &Pair, target: &Mounted) -> Running {
    let running = Running::start(inhaul(&[
        &"copy",
        &"--bwlimit=30MB",
        &pair.spill(),
        &pair.source,
        &pair.first.path(),
    ]));
    let begun = target.join(".inhaul/current");
    wait_for("a job", || begun.exists().then_some(()));
    running
}

#[test]
fn another_disk_is_mounted_over_a_further_target_before_its_turn() {
    if !can_mount("another_disk_is_mounted_over_a_further_target_before_its_turn") {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let running = slow_until(&pair, &pair.first);
    running.signal(rustix::process::Signal::STOP);
    let blank = Mounted::image(&pair.scratch, "other", Fs::Ext4, 160);
    let blank_names = blank.path().read_dir().unwrap().count();
    let over = pair.second.path();
    support::tool(
        "mount",
        &[
            "--bind".as_ref(),
            blank.path().as_os_str(),
            over.as_os_str(),
        ],
    );
    running.signal(rustix::process::Signal::CONT);
    let ran = running.finish();
    // Nothing was written to what is there now.
    let names = blank.path().read_dir().unwrap().count();
    unmount(over);
    ran.expect(1)
        .says("not the place it was when the copy began");
    assert_eq!(names, blank_names);
    // Who looks into the first finds out.
    let first = report(pair.first.path());
    assert_eq!(first["exit_code"], 1);
    assert_eq!(first["problems"][0]["kind"], "target-lost");
    assert_eq!(first["lanes"][0]["safe_to_release"], false);
    assert!(!pair.second.join(".inhaul").exists());
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}

#[test]
fn a_first_target_that_cannot_be_closed_is_told_of_in_the_others() {
    if !can_mount("a_first_target_that_cannot_be_closed_is_told_of_in_the_others") {
        return;
    }
    let mut pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    let running = slow_until(&pair, &pair.second);
    let image = pair.first.image_path().to_owned();
    support::tool("umount", &["-l".as_ref(), pair.first.path().as_os_str()]);
    running.finish().expect(1).says("not the place it was");
    assert_eq!(pair.first.path().read_dir().unwrap().count(), 0);
    let last = report(pair.second.path());
    assert_eq!(last["exit_code"], 1);
    assert_eq!(last["problems"][0]["kind"], "target-lost");
    assert_eq!(last["lanes"][0]["safe_to_release"], false);
    let again = Mounted::again(&pair.scratch, "first", Fs::Ext4, &image);
    let _unmounted = std::mem::ManuallyDrop::new(std::mem::replace(&mut pair.first, again));
    run(&[&"resume", &pair.first.path()]).expect(0);
    pair.check();
}
