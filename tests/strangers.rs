//! What passes for a source of a copy that is gone on with, and is another.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::path::{Path, PathBuf};

use support::judge::same_bytes;
use support::mounts::{Fs, Mounted};
use support::program::{job, run};
use support::told::Told;
use support::{Scratch, can_mount, tree};

/// Images of one drive, with a file system and nothing else in it.
struct Images {
    scratch: Scratch,
    number: u32,
}

impl Images {
    fn new() -> Self {
        let scratch = Scratch::new();
        drop(Mounted::image(&scratch, "golden", Fs::Ext4, 48));
        Self { scratch, number: 0 }
    }

    /// Mounts another one at the place `name`.
    fn mount(&mut self, name: &str) -> Mounted {
        self.number += 1;
        let image = self.scratch.join(format!("{}.img", self.number));
        std::fs::copy(self.scratch.join("golden.img"), &image).unwrap();
        Mounted::again(&self.scratch, name, Fs::Ext4, &image)
    }

    /// Unmounts a drive and returns its image.
    fn unmount(drive: Mounted) -> PathBuf {
        let image = drive.image_path().to_owned();
        drop(drive);
        image
    }

    fn mount_again(&self, name: &str, image: &Path) -> Mounted {
        Mounted::again(&self.scratch, name, Fs::Ext4, image)
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Keeps a copy from being finished: something has the name of the file `z` of a source.
    fn take_z(&self, landing: &str) -> PathBuf {
        let folder = self.target().join(landing);
        std::fs::create_dir_all(&folder).unwrap();
        let taken = folder.join("z");
        std::fs::write(&taken, "taken").unwrap();
        taken
    }

    fn is_finished(&self) -> bool {
        std::fs::symlink_metadata(self.target().join(".inhaul/current")).is_err()
    }
}

fn paint(drive: &Mounted, seed: u64) {
    for (name, number) in (1..)
        .map(|number| (format!("{number}.raw"), number))
        .take(4)
    {
        tree::paint(&drive.join(name), seed + number, 100_000 + seed);
    }
    tree::paint(&drive.join("z"), seed, 100_000 + seed);
    // What is on all of them.
    tree::paint(&drive.join("0-readme"), 0, 1000);
}

const NOTHING_THERE: &str = "little or nothing that was copied of this source is there as it was";

#[test]
fn an_image_with_other_files_is_not_gone_on_with() {
    if !can_mount("an_image_with_other_files_is_not_gone_on_with") {
        return;
    }
    let mut images = Images::new();
    let (first, target) = (images.mount("card"), images.target());
    let card = first.path().to_owned();
    paint(&first, 10);
    let taken = images.take_z("card");
    run(&[&"copy", &card, &target]).expect(3);
    let first = Images::unmount(first);
    let other = images.mount("card");
    paint(&other, 20);
    tree::paint(&other.join("more"), 1, 1000);
    std::fs::remove_file(&taken).unwrap();
    run(&[&"copy", &card, &target])
        .expect(6)
        .says(NOTHING_THERE);
    run(&[&"resume", &target]).expect(6).says(NOTHING_THERE);
    // Nor is it found elsewhere.
    let other = Images::unmount(other);
    let elsewhere = images.mount_again("elsewhere", &other);
    run(&[&"resume", &target]).expect(6);
    drop(elsewhere);
    assert!(!target.join("card/more").exists() && !taken.exists());
    let first = images.mount_again("card", &first);
    same_bytes(&first.join("1.raw"), &target.join("card/1.raw"));
    run(&[&"copy", &card, &target]).expect(0);
    assert!(images.is_finished());
    for name in ["1.raw", "4.raw", "z"] {
        same_bytes(&first.join(name), &target.join("card").join(name));
    }
    // Into another target it is a copy of its own.
    drop(first);
    let other = images.mount_again("card", &other);
    let target = images.scratch.join("its own");
    run(&[&"copy", &card, &target]).expect(0);
    same_bytes(&other.join("1.raw"), &target.join("card/1.raw"));
}

#[test]
fn a_source_of_which_files_were_deleted_and_changed_is_gone_on_with() {
    if !can_mount("a_source_of_which_files_were_deleted_and_changed_is_gone_on_with") {
        return;
    }
    for has_other_times in [false, true] {
        let mut images = Images::new();
        let (card, target) = (images.mount("card"), images.target());
        paint(&card, 10);
        let taken = images.take_z("card");
        run(&[&"copy", &card.path(), &target]).expect(3);
        std::fs::remove_file(taken).unwrap();
        std::fs::remove_file(card.join("1.raw")).unwrap();
        std::fs::remove_file(card.join("2.raw")).unwrap();
        tree::paint(&card.join("3.raw"), 1, 2000);
        if has_other_times {
            let file = std::fs::File::options()
                .write(true)
                .open(card.join("4.raw"));
            file.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let moved = card.moved(&images.scratch, "moved", Fs::Ext4);
        run(&[&"resume", &target]).expect(0);
        assert!(images.is_finished());
        for name in ["3.raw", "4.raw", "z"] {
            same_bytes(&moved.join(name), &target.join("card").join(name));
        }
    }
}

#[test]
fn a_source_of_which_all_was_changed_is_gone_on_with_when_that_is_asked_for() {
    if !can_mount("a_source_of_which_all_was_changed_is_gone_on_with_when_that_is_asked_for") {
        return;
    }
    for grows in [true, false] {
        let mut images = Images::new();
        let (card, target) = (images.mount("card"), images.target());
        tree::paint(&card.join("log"), 1, 5000);
        tree::paint(&card.join("z"), 2, 1000);
        let copy: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &card.path(), &target];
        let taken = images.take_z("card");
        run(&copy).expect(3);
        std::fs::remove_file(taken).unwrap();
        if grows {
            let mut bytes = std::fs::read(card.join("log")).unwrap();
            bytes.extend(b"more");
            std::fs::write(card.join("log"), bytes).unwrap();
            run(&copy).expect(0);
        } else {
            std::fs::write(card.join("log"), vec![0; 9000]).unwrap();
            run(&copy).expect(6).says("--existing overwrite");
            run(&[&"resume", &target])
                .expect(6)
                .says("--existing overwrite");
            run(&[&copy[..], &[&"--existing=overwrite"]].concat())
                .expect(0)
                .says("it is taken for it");
        }
        assert!(images.is_finished());
        for name in ["log", "z"] {
            same_bytes(&card.join(name), &target.join("card").join(name));
        }
    }
}

#[test]
fn of_two_images_the_one_that_is_here_is_gone_on_with_alone() {
    if !can_mount("of_two_images_the_one_that_is_here_is_gone_on_with_alone") {
        return;
    }
    let mut images = Images::new();
    let (one, two, target) = (images.mount("one"), images.mount("two"), images.target());
    paint(&one, 10);
    paint(&two, 20);
    let taken = ["one", "two"].map(|name| images.take_z(name));
    run(&[&"copy", &one.path(), &two.path(), &target]).expect(3);
    for taken in &taken {
        std::fs::remove_file(taken).unwrap();
    }
    let first = Images::unmount(one);
    run(&[&"resume", &target]).expect(3);
    same_bytes(&two.join("z"), &taken[1]);
    assert!(!taken[0].exists() && !images.is_finished());
    let one = images.mount_again("one", &first);
    run(&[&"resume", &target]).expect(0);
    same_bytes(&one.join("z"), &taken[0]);
    assert!(images.is_finished());
}

#[test]
fn another_network_share_in_its_place_is_not_gone_on_with() {
    if !can_mount("another_network_share_in_its_place_is_not_gone_on_with") {
        return;
    }
    let scratch = Scratch::new();
    let (point, target) = (scratch.join("nas"), scratch.join("target"));
    let file = |name: &str, bytes: &[u8]| {
        let said = bytes.len().try_into().unwrap();
        Told::new(name, said, bytes.to_vec())
    };
    let copied = target.join("nas/file");
    let bad = || Told::endless("z", b"z".to_vec());
    let first = Told::mount_of_host(&point, "nas1:/x", vec![file("file", b"first"), bad()]);
    run(&[&"copy", &point, &target]).expect(3);
    assert_eq!(std::fs::read(&copied).unwrap(), b"first");
    let begun = job(&target);
    drop(first);
    let other = Told::mount_of_host(&point, "nas2:/y", vec![file("file", b"another")]);
    run(&[&"resume", &target]).expect(6);
    run(&[&"copy", &point, &target])
        .expect(6)
        .says(NOTHING_THERE);
    assert_eq!(std::fs::read(&copied).unwrap(), b"first");
    drop(other);
    // By another name, and with more in it.
    let files = || vec![file("file", b"first again"), file("z", b"z")];
    let again = Told::mount_of_host(&point, "nas1.local:/x", files());
    run(&[&"resume", &begun]).expect(0);
    assert_eq!(std::fs::read(target.join("nas/z")).unwrap(), b"z");
    drop(again);
    assert!(!begun.join("unfinished").exists());
}
