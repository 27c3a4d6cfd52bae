//! Names that are taken in the target: what each policy leaves and what it replaces.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use support::judge::{rsync_agrees, rsync_agrees_in_target, same_bytes, walk};
use support::program::{contents, listed, report, run};
use support::{Scratch, need_tools, tree};

/// A source and a target with a conflict of every kind.
struct Conflict {
    source: PathBuf,
    target: PathBuf,
    /// What symlinks in the target point to.
    outside: PathBuf,
    _scratch: Scratch,
}

impl Conflict {
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.dir("source");
        let target = scratch.dir("target");
        let outside = scratch.dir("outside");
        tree::text(&outside.join("victim"), "precious");
        tree::text(&outside.join("inside"), "precious too");

        tree::paint(&source.join("small"), 1, 100);
        tree::paint(&source.join("large"), 2, 3_000_000);
        tree::paint(&source.join("new"), 3, 100);
        tree::paint(&source.join("over dir"), 4, 100);
        tree::paint(&source.join("over link"), 5, 100);
        tree::paint(&source.join("over dangling link"), 5, 2_000_000);
        symlink("new text", source.join("link")).unwrap();
        symlink("new text", source.join("link over file")).unwrap();
        for dir in ["dir over file", "dir over link", "dir"] {
            std::fs::create_dir(source.join(dir)).unwrap();
            tree::paint(&source.join(dir).join("inside"), 6, 50);
        }
        tree::age(&source, 1_100_000_000);

        tree::text(&target.join("small"), "old");
        tree::text(&target.join("large"), "old");
        std::fs::create_dir(target.join("over dir")).unwrap();
        tree::text(&target.join("over dir/kept"), "old");
        symlink(outside.join("victim"), target.join("over link")).unwrap();
        symlink(outside.join("absent"), target.join("over dangling link")).unwrap();
        symlink("old text", target.join("link")).unwrap();
        tree::text(&target.join("link over file"), "old");
        tree::text(&target.join("dir over file"), "old");
        symlink(&outside, target.join("dir over link")).unwrap();
        std::fs::create_dir(target.join("dir")).unwrap();
        tree::text(&target.join("dir/inside"), "old");
        tree::text(&target.join("dir/other"), "old");
        Self {
            source,
            target,
            outside,
            _scratch: scratch,
        }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.target.join(name)).unwrap()
    }

    fn link(&self, name: &str) -> PathBuf {
        std::fs::read_link(self.target.join(name)).unwrap()
    }

    fn problems(&self) -> Vec<String> {
        listed(&report(&self.target), "problems")
    }

    /// A file is listed by its source; a folder by its place in the target, which is not one.
    fn shown(&self, names: &[&str]) -> Vec<String> {
        let mut lines: Vec<String> = names
            .iter()
            .map(|name| {
                let side = if name.starts_with("dir over") {
                    &self.target
                } else {
                    &self.source
                };
                format!("target-exists {}", side.join(name).display())
            })
            .collect();
        lines.sort();
        lines
    }

    /// Fails unless what no policy may touch is as it was.
    fn check_kept(&self) {
        assert_eq!(
            std::fs::read_to_string(self.outside.join("victim")).unwrap(),
            "precious"
        );
        assert_eq!(
            std::fs::read_to_string(self.outside.join("inside")).unwrap(),
            "precious too"
        );
        assert_eq!(std::fs::read_dir(&self.outside).unwrap().count(), 2);
        assert_eq!(self.read("over dir/kept"), "old");
        assert_eq!(self.read("dir/other"), "old");
        assert_eq!(self.read("dir over file"), "old");
        assert_eq!(self.link("dir over link"), self.outside);
        same_bytes(&self.source.join("new"), &self.target.join("new"));
    }

    /// Fails unless every file that had its name first still has it.
    fn check_untouched(&self) {
        self.check_kept();
        for name in ["small", "large", "link over file", "dir/inside"] {
            assert_eq!(self.read(name), "old", "{name}");
        }
        assert_eq!(self.link("over link"), self.outside.join("victim"));
        assert_eq!(self.link("over dangling link"), self.outside.join("absent"));
        assert_eq!(self.link("link"), Path::new("old text"));
    }
}

#[test]
fn refuse_leaves_everything_and_lists_it() {
    for more in [&[][..], &["--existing=refuse"]] {
        let case = Conflict::new();
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"copy"];
        args.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        let from = contents(&case.source);
        args.extend([&from as &dyn AsRef<std::ffi::OsStr>, &case.target]);
        run(&args).expect(3);
        case.check_untouched();
        let taken = [
            "dir over file",
            "dir over link",
            "dir/inside",
            "large",
            "link",
            "link over file",
            "over dangling link",
            "over dir",
            "over link",
            "small",
        ];
        assert_eq!(case.problems(), case.shown(&taken));
    }
}

#[test]
fn skip_leaves_everything_and_goes_on() {
    let case = Conflict::new();
    // A folder cannot stand in for a file, nor a file for a folder: that is never a mere skip.
    run(&[
        &"copy",
        &"--existing=skip",
        &contents(&case.source),
        &case.target,
    ])
    .expect(3);
    case.check_untouched();
    assert_eq!(
        case.problems(),
        case.shown(&["dir over file", "dir over link", "over dir"])
    );
}

#[test]
fn overwrite_replaces_files_and_links_and_nothing_else() {
    let case = Conflict::new();
    run(&[
        &"copy",
        &"--existing=overwrite",
        &contents(&case.source),
        &case.target,
    ])
    .expect(3);
    case.check_kept();
    for name in [
        "small",
        "large",
        "over link",
        "over dangling link",
        "dir/inside",
    ] {
        let copy = case.target.join(name);
        assert!(
            std::fs::symlink_metadata(&copy).unwrap().is_file(),
            "{name}"
        );
        same_bytes(&case.source.join(name), &copy);
    }
    assert_eq!(case.link("link"), Path::new("new text"));
    assert_eq!(case.link("link over file"), Path::new("new text"));
    assert_eq!(
        case.problems(),
        case.shown(&["dir over file", "dir over link", "over dir"])
    );
}

#[test]
fn a_second_copy_changes_nothing() {
    if !need_tools("a_second_copy_changes_nothing", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 1, 100);
    tree::paint(&source.join("large"), 2, 3_000_000);
    std::fs::hard_link(source.join("large"), source.join("large too")).unwrap();
    tree::age(&source, 1_100_000_000);
    let target = scratch.join("target");
    run(&[&"copy", &contents(&source), &target]).expect(0);
    let first = walk(&target);

    run(&[&"copy", &contents(&source), &target]).expect(3);
    assert_eq!(report(&target)["problem_count"], 102);
    assert_eq!(walk(&target), first);

    run(&[&"copy", &"--existing=skip", &contents(&source), &target]).expect(0);
    assert_eq!(report(&target)["totals"]["files"], 0);
    assert_eq!(walk(&target), first);
    rsync_agrees_in_target(&source, &target);

    let inode = |name: &str| std::fs::metadata(target.join(name)).unwrap().ino();
    let before = inode("large");
    run(&[
        &"copy",
        &"--existing=overwrite",
        &contents(&source),
        &target,
    ])
    .expect(0);
    assert_ne!(inode("large"), before, "it was written in place");
    assert_eq!(inode("large"), inode("large too"));
    rsync_agrees_in_target(&source, &target);
}

#[test]
fn what_was_not_copied_is_copied_by_the_next_run() {
    if !need_tools("what_was_not_copied_is_copied_by_the_next_run", &["rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    tree::many_small(&source.join("small"), 1, 30);
    std::fs::hard_link(source.join("small/000/000000"), source.join("again")).unwrap();
    tree::age(&source, 1_100_000_000);
    let target = scratch.join("target");
    run(&[&"copy", &source, &target]).expect(0);
    let copy = target.join("source");
    for name in ["small/000/000003", "small/000/000007"] {
        std::fs::remove_file(copy.join(name)).unwrap();
    }
    run(&[&"copy", &"--existing=skip", &source, &target]).expect(0);
    rsync_agrees(&source, &copy);
}
