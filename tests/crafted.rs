//! File systems that no sound kernel writes: what can be read of them is copied, what cannot be
//! reached is named, and nothing is lost without a word.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::judge::walk;
use support::mounts::{Fs, Mounted};
use support::program::{contents, listed, report, run};
use support::{Scratch, can_mount, tool, tree};

/// Without checksums and in plain lists, so that bytes can be changed behind its back.
const FEATURES: &str = "^has_journal,^metadata_csum,^dir_index";

/// An image with a file system that is filled, tampered with, and mounted again.
struct Crafted {
    scratch: Scratch,
    image: PathBuf,
}

impl Crafted {
    fn new(fill: impl FnOnce(&Mounted)) -> Self {
        let scratch = Scratch::new();
        let image = scratch.join("source.img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        let args = ["-q", "-F", "-O", FEATURES, "-I", "256"].map(AsRef::as_ref);
        tool("mkfs.ext4", &[&args[..], &[image.as_os_str()]].concat());
        let mounted = Mounted::again(&scratch, "source", Fs::Ext4, &image);
        // Nothing but what a test is about.
        std::fs::remove_dir(mounted.join("lost+found")).unwrap();
        fill(&mounted);
        drop(mounted);
        Self { scratch, image }
    }

    /// Puts other bytes in the place of those, which are there once.
    fn patch(&self, old: &[u8], new: &[u8]) {
        assert_eq!(old.len(), new.len());
        let mut image = std::fs::read(&self.image).unwrap();
        let places: Vec<usize> = image
            .windows(old.len())
            .enumerate()
            .filter_map(|(at, bytes)| (bytes == old).then_some(at))
            .collect();
        let [at] = places[..] else {
            panic!("{} is there {} times", old.escape_ascii(), places.len());
        };
        image[at..at + new.len()].copy_from_slice(new);
        std::fs::write(&self.image, image).unwrap();
    }

    fn mount(&self) -> Mounted {
        Mounted::again(&self.scratch, "source", Fs::Ext4, &self.image)
    }

    /// Copies it in every way that names can be dealt with, twice each; each time it ends with `code`,
    /// exactly `files` are copied, and exactly `problems` told.
    fn check(&self, code: i32, files: &[(&str, &str)], problems: &[&str]) {
        let source = self.mount();
        let wanted: BTreeMap<Vec<u8>, Vec<u8>> = files
            .iter()
            .map(|(path, text)| (path.as_bytes().to_vec(), text.as_bytes().to_vec()))
            .collect();
        let problems: Vec<String> = problems
            .iter()
            .map(|problem| problem.replace("SOURCE", source.path().to_str().unwrap()))
            .collect();
        for existing in ["refuse", "skip", "overwrite"] {
            let target = self.scratch.join(existing);
            for again in [false, true] {
                let from = contents(source.path());
                let ran = run(&[&"copy", &"--existing", &existing, &from, &target]).expect(code);
                let report = report(&target);
                let told = listed(&report, "problems");
                assert_eq!(told, problems, "{existing} {again}: {}", ran.err());
                assert_eq!(read(&target), wanted, "{existing} {again}");
                assert_eq!(report["lanes"][0]["safe_to_release"], false);
                assert!(ran.out().contains("NOT safe to release"), "{}", ran.out());
            }
        }
        let ran = run(&[&"hash", &source.path()]).expect(code);
        assert_eq!(ran.out().lines().count(), files.len(), "{}", ran.out());
    }
}

/// Returns the files of a tree with their bytes.
fn read(top: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let tree = walk(top);
    let files = tree.into_iter().filter(|(_, node)| node.kind == "file");
    files
        .map(|(path, _)| {
            let bytes = std::fs::read(top.join(tree::name(&path))).unwrap();
            (path, bytes)
        })
        .collect()
}

#[test]
fn of_two_files_of_one_name_the_one_that_cannot_be_reached_is_told() {
    if !can_mount("of_two_files_of_one_name_the_one_that_cannot_be_reached_is_told") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        let dir = disk.dir("d");
        tree::text(&dir.join("twin-A-name"), "first");
        tree::text(&dir.join("twin-B-name"), "second");
        tree::text(&dir.join("other"), "other");
    });
    crafted.patch(b"twin-B-name", b"twin-A-name");
    crafted.check(
        3,
        &[("d/other", "other"), ("d/twin-A-name", "first")],
        &["source-read SOURCE/d/twin-A-name"],
    );
}

#[test]
fn of_two_folders_of_one_name_the_one_that_cannot_be_reached_is_told() {
    if !can_mount("of_two_folders_of_one_name_the_one_that_cannot_be_reached_is_told") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        for name in ["twin-A-name", "twin-B-name"] {
            tree::text(&disk.dir(format!("d/{name}")).join(name), name);
        }
    });
    // The name of the folder, and not that of the file in it: what follows is a folder (2).
    crafted.patch(b"\x0b\x02twin-B-name", b"\x0b\x02twin-A-name");
    crafted.check(
        3,
        &[("d/twin-A-name/twin-A-name", "twin-A-name")],
        &["source-read SOURCE/d/twin-A-name"],
    );
}

#[test]
fn a_folder_and_a_file_of_one_name_are_told() {
    if !can_mount("a_folder_and_a_file_of_one_name_are_told") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        tree::text(&disk.join("twin-A-name"), "file");
        tree::text(&disk.dir("twin-B-name").join("below"), "below");
    });
    crafted.patch(b"\x0b\x02twin-B-name", b"\x0b\x02twin-A-name");
    crafted.check(
        4,
        &[("twin-A-name", "file")],
        &["source-changed SOURCE/twin-A-name"],
    );
}

#[test]
fn a_second_dot_dot_is_told_and_not_gone_through() {
    if !can_mount("a_second_dot_dot_is_told_and_not_gone_through") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        tree::text(&disk.dir("d").join("q~"), "hidden");
        tree::text(&disk.join("d/other"), "other");
        tree::text(&disk.join("f"), "f");
    });
    // Two bytes of name, of a regular file (1).
    crafted.patch(b"\x02\x01q~", b"\x02\x01..");
    crafted.check(
        3,
        &[("d/other", "other"), ("f", "f")],
        &["source-read SOURCE/d"],
    );
}

#[test]
fn a_slash_in_a_name_ends_that_folder_and_is_told() {
    if !can_mount("a_slash_in_a_name_ends_that_folder_and_is_told") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        let dir = disk.dir("d");
        tree::text(&dir.join("before"), "before");
        tree::text(&dir.join("slash-X-name"), "hidden");
        tree::text(&dir.join("after"), "hidden");
        tree::text(&disk.dir("e").join("elsewhere"), "elsewhere");
    });
    crafted.patch(b"slash-X-name", b"slash-/-name");
    crafted.check(
        3,
        &[("d/before", "before"), ("e/elsewhere", "elsewhere")],
        &["source-read SOURCE/d"],
    );
}

#[test]
fn a_folder_inside_itself_is_told_and_not_entered() {
    if !can_mount("a_folder_inside_itself_is_told_and_not_entered") {
        return;
    }
    let crafted = Crafted::new(|disk| {
        tree::text(&disk.dir("a/b").join("file"), "file");
        tree::text(&disk.join("z"), "z");
    });
    let args = ["-w", "-R", "link /a /a/b/loop"].map(AsRef::as_ref);
    tool(
        "debugfs",
        &[&args[..], &[crafted.image.as_os_str()]].concat(),
    );
    crafted.check(
        3,
        &[("a/b/file", "file"), ("z", "z")],
        &["escape SOURCE/a/b/loop"],
    );
}
