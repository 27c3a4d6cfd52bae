//! What is said of the drives of sources that are left out, and of the others.

use std::ffi::OsStr;
use std::path::Path;

use crate::bench::{Two, with};
use crate::drive::Drive;
use crate::support::judge::same_bytes;
use crate::support::mounts::Fs;
use crate::support::program::{contents, listed, report, run};
use crate::support::told::Told;
use crate::support::{can_mount, need_tools, tool, tree};

/// Returns which block of 4096 bytes the inode of a file is in, by its path on the file system. All has
/// to be written.
fn inode_block(disk: &Path, path: &str) -> u64 {
    let what = format!("imap {path}");
    let text = tool("debugfs", &["-R".as_ref(), what.as_ref(), disk.as_os_str()]);
    let text = String::from_utf8(text).unwrap();
    let (_, at) = text.split_once("located at block ").unwrap();
    at.split(',').next().unwrap().trim().parse().unwrap()
}

#[test]
fn a_drive_of_which_a_source_is_left_out_is_not_safe() {
    let test = "a_drive_of_which_a_source_is_left_out_is_not_safe";
    if !can_mount(test) || !need_tools(test, &["debugfs"]) {
        return;
    }
    let two = Two::new();
    let dir = two.lab.join("both");
    // Of several block groups, over which folders at the top are spread.
    let mut both = Drive::new(&dir, Fs::Ext4, 600);
    let names: Vec<String> = (0..24).map(|number| format!("d{number}")).collect();
    for name in &names {
        std::fs::create_dir(both.join(name)).unwrap();
        tree::paint(&both.join(name).join("file"), 1, 100_000);
    }
    both.remount();
    let blocks: Vec<u64> = names
        .iter()
        .map(|name| inode_block(&dir.join("fuse/disk"), &format!("/{name}")))
        .collect();
    // What is read ahead of one must not touch the other.
    let far = (1..blocks.len())
        .find(|&at| blocks[at].abs_diff(blocks[0]) > 256)
        .unwrap();
    both.remount();
    both.fail_reads(blocks[far] * 4096..(blocks[far] + 1) * 4096);
    let [good, bad] = [0, far].map(|at| both.join(&names[at]));
    // By a link that is on another drive, too.
    let link = two.scratch.join("link");
    std::os::unix::fs::symlink(&bad, &link).unwrap();
    for (number, bad) in [bad, link].iter().enumerate() {
        let target = two.scratch.join(format!("target{number}"));
        let ran = run(&[&"copy", &"--grace=0", &two.a(), &good, bad, &target]).expect(3);
        let report = report(&target);
        assert_eq!(
            listed(&report, "problems"),
            [format!("source-read {}", bad.display())],
            "{}",
            ran.err()
        );
        let lanes = report["lanes"].as_array().unwrap();
        let safe = |lane: usize| lanes[lane]["safe_to_release"] == true;
        assert_eq!((safe(0), safe(1)), (true, false), "{lanes:?}");
        assert_eq!(lanes[1]["verdict"], "1 thing not copied whole");
    }
    // A run that goes on with it says so, too: the folder is not at its place, nor anywhere.
    both.heal();
    both.remount();
    let target = two.scratch.join("later");
    let taken = target.join(&names[0]).join("file");
    std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
    std::fs::write(&taken, "taken").unwrap();
    let bad = both.join(&names[far]);
    run(&[&"copy", &two.a(), &good, &bad, &target]).expect(3);
    std::fs::remove_file(taken).unwrap();
    rustix::fs::rename(&bad, both.join("elsewhere")).unwrap();
    run(&[&"resume", &target]).expect(3);
    let report = report(&target);
    let lanes = report["lanes"].as_array().unwrap();
    let safe = |lane: usize| lanes[lane]["safe_to_release"] == true;
    assert_eq!((safe(0), safe(1)), (true, false), "{lanes:?}");
}

#[test]
fn the_root_of_a_dead_mount_refuses_nobody_else() {
    if !can_mount("the_root_of_a_dead_mount_refuses_nobody_else") {
        return;
    }
    let mut two = Two::new();
    for (number, sick) in [two.b(), two.sick.path().into()].iter().enumerate() {
        two.die();
        let target = two.scratch.join(format!("target{number}"));
        for limit in ["2s", "0"] {
            let limit = format!("--stall-timeout={limit}");
            let well = contents(two.well.path());
            run(&[&"copy", &"--grace=0", &limit, &well, sick, &target]).expect(3);
            let report = report(&target);
            let lanes = report["lanes"].as_array().unwrap();
            assert_eq!(lanes.len(), 1, "{lanes:?}");
            assert_eq!(lanes[0]["safe_to_release"], true);
            let typed = Path::new(sick).to_str().unwrap();
            assert_eq!(
                listed(&report, "problems"),
                [format!("source-read {typed}")]
            );
        }
        same_bytes(&two.well.join("a/a.mov"), &target.join("a/a.mov"));
        two.sick.heal();
    }
}

#[test]
fn where_no_source_can_be_read_all_are_named() {
    if !can_mount("where_no_source_can_be_read_all_are_named") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.well.remount();
    two.well.die();
    let ran = two.copy(6);
    let (a, b) = (two.a(), two.sick.path().to_owned());
    ran.says("no source can be read")
        .says(&format!("{}: its drive failed", a.display()))
        .says(&format!("{}/: its drive failed", b.display()))
        .says("nothing was written");
    assert!(!two.target().exists());
}

#[test]
fn a_source_whose_server_is_gone_is_left_out() {
    if !can_mount("a_source_whose_server_is_gone_is_left_out") {
        return;
    }
    let two = Two::new();
    let served = Told::mount(
        &two.scratch.join("served"),
        vec![Told::new("file", 4, b"file".to_vec())],
    );
    let link = two.scratch.dir("connections");
    let args = ["-t", "fusectl", "none"].map(OsStr::new);
    tool("mount", &[&args[..], &[link.as_os_str()]].concat());
    let device =
        std::fs::metadata(served.path()).map(|it| std::os::unix::fs::MetadataExt::dev(&it));
    let number = rustix::fs::minor(device.unwrap());
    std::fs::write(link.join(number.to_string()).join("abort"), "1").unwrap();
    tool("umount", &[link.as_os_str()]);
    let source = contents(served.path());
    let ran = with(&[&"copy", &two.a(), &source, &two.target()], 3);
    let report = report(&two.target());
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{}", ran.err());
    assert_eq!(problems[0]["kind"], "source-lost");
    // What a server shows may be on any drive: none can be called safe.
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    same_bytes(&two.a().join("a.mov"), &two.target().join("a/a.mov"));
}
