//! What one target has no room for goes to the next, and nothing is there twice.

use std::path::PathBuf;

use crate::pair::{FILES, Pair};
use crate::support::can_mount;
use crate::support::judge::walk;
use crate::support::mounts::Fs;
use crate::support::program::{report, run};

#[test]
fn what_one_target_cannot_take_goes_to_the_next() {
    if !can_mount("what_one_target_cannot_take_goes_to_the_next") {
        return;
    }
    for fs in [[Fs::Ext4, Fs::Ext4], [Fs::Ext4, Fs::Btrfs]] {
        let pair = Pair::new(fs, [64, 160]);
        let ran = pair.copy().expect(0);
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
    let ran = pair.copy().expect(6);
    ran.says("kept: nothing was written");
    assert!(!pair.first.join(".inhaul").exists());
    // A second folder on the first one's file system gives no more room.
    let spill = format!("--spill={}", pair.first.dir("more").display());
    let ran = run(&[&"copy", &spill, &pair.source, &pair.first.dir("in")]).expect(6);
    ran.says("on the same file system");
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
