//! Many drives of different kinds and speeds into one target, in one command.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use support::cgroup::Group;
use support::judge::{b3sum_agrees, bytes, files, rsync_agrees, walk};
use support::mounts::{Fs, Mounted};
use support::odd::{Odd, build};
use support::program::{Running, inhaul, report};
use support::{Scratch, can_mount, need_tools, tree};

/// File system, its size, the length of one large file (MiB each), and the drive's rate in MB/s.
const DRIVES: [(Fs, u64, u64, u64); 8] = [
    (Fs::Ext4, 64, 20, 40),
    (Fs::Xfs, 320, 12, 25),
    (Fs::Btrfs, 128, 16, 30),
    (Fs::Ext4, 48, 8, 10),
    (Fs::Xfs, 400, 24, 60),
    (Fs::Btrfs, 160, 6, 15),
    (Fs::Ext4, 96, 30, 50),
    (Fs::Ext4, 32, 2, 20),
];

#[test]
fn eight_drives_of_different_kinds_and_speeds() {
    let test = "eight_drives_of_different_kinds_and_speeds";
    if !can_mount(test) || !need_tools(test, &["setfacl"]) {
        return;
    }
    let scratch = Scratch::new();
    let drives: Vec<Mounted> = DRIVES
        .iter()
        .enumerate()
        .map(|(index, &(fs, size, large, _))| {
            let drive = Mounted::image(&scratch, &format!("drive{index}"), fs, size);
            let seed = 31 * index as u64;
            tree::paint(&drive.join("large"), seed, (large << 20) + seed);
            tree::many_small(&drive.dir("small"), seed, 40 + 20 * index);
            tree::age(
                drive.path(),
                1_500_000_000 + 1000 * i64::try_from(index).unwrap(),
            );
            drive
        })
        .collect();
    // One of them has everything.
    build(
        &drives[6].dir("odd"),
        Odd {
            seed: 9,
            small: 30,
            sparse_mib: 32,
        },
    );
    let rates: Vec<(&str, u64)> = drives
        .iter()
        .zip(&DRIVES)
        .map(|(drive, &(.., rate))| (drive.device(), rate * 1_000_000))
        .collect();
    let Some(group) = Group::throttle(test, &rates) else {
        return;
    };
    let target = Mounted::image(&scratch, "target", Fs::Xfs, 512);

    let paths: Vec<PathBuf> = drives.iter().map(|drive| drive.path().to_owned()).collect();
    let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy"];
    args.extend(paths.iter().map(|path| path as &dyn AsRef<OsStr>));
    let place = target.join("in");
    args.push(&place);
    Running::start(group.command(&inhaul(&args)))
        .finish()
        .expect(0);

    let mut count = 0;
    for (index, drive) in drives.iter().enumerate() {
        rsync_agrees(drive.path(), &place.join(format!("drive{index}")));
        count += files(&walk(drive.path()));
    }
    b3sum_agrees(&place, count);

    let report = report(&place);
    let lanes = report["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 8);
    let devices: BTreeSet<&str> = drives
        .iter()
        .map(|d| d.device().strip_prefix("/dev/").unwrap())
        .collect();
    let names: BTreeSet<&str> = lanes.iter().map(|l| l["drive"].as_str().unwrap()).collect();
    assert_eq!(names, devices);
    for lane in lanes {
        assert_eq!(lane["state"], "done", "{lane}");
        let source = lane["sources"][0].as_str().unwrap();
        let tree = walk(source.as_ref());
        let links = |node: &&support::judge::Node| node.kind == "file" && node.names > 1;
        // Further names of an inode are links, not files.
        let hard: Vec<_> = tree.values().filter(links).collect();
        let inodes: f64 = hard.iter().map(|node| 1.0 / f64::from(node.names)).sum();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few"
        )]
        let inodes = inodes.round() as usize;
        assert_eq!(
            lane["totals"]["files"],
            files(&tree) - hard.len() + inodes,
            "{source}"
        );
        if hard.is_empty() {
            assert_eq!(lane["totals"]["bytes"], bytes(&tree), "{source}");
        }
    }
}

#[test]
fn sources_on_one_drive_share_a_lane() {
    let test = "sources_on_one_drive_share_a_lane";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let one = Mounted::image(&scratch, "one", Fs::Ext4, 32);
    let two = Mounted::image(&scratch, "two", Fs::Ext4, 32);
    for (drive, name) in [(&one, "a"), (&one, "b"), (&two, "c")] {
        tree::many_small(&drive.dir(name), 4, 10);
    }
    let target = scratch.join("target");
    let ran = Running::start(inhaul(&[
        &"copy",
        &one.join("a"),
        &two.join("c"),
        &one.join("b"),
        &target,
    ]))
    .finish();
    ran.expect(0);
    let report = report(&target);
    let lanes = report["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2);
    assert_eq!(lanes[0]["sources"].as_array().unwrap().len(), 2);
    for (drive, name) in [(&one, "a"), (&one, "b"), (&two, "c")] {
        rsync_agrees(&drive.join(name), &target.join(name));
    }
}
