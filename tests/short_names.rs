//! A target that takes only shorter names than its source has: what is too long is told of, each by
//! its name, and everything else is copied.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::symlink;

use support::folding::Folding;
use support::judge::{b3sum_agrees, walk};
use support::program::{contents, listed, report, run};
use support::{Scratch, need_root, tree};

/// As many bytes as the target takes, what one encrypting file system leaves of 255.
const LONGEST: usize = 143;

#[test]
fn names_that_are_too_long_are_told_of_and_the_others_are_copied() {
    let test = "names_that_are_too_long_are_told_of_and_the_others_are_copied";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    let name = |letter: &str, len: usize| letter.repeat(len);
    // As long as can be, and a byte longer: files of one block and of three, links, folders.
    for (len, fits) in [(LONGEST, true), (LONGEST + 1, false), (255, false)] {
        tree::paint(&source.join(name("s", len)), 1, 1000);
        tree::paint(&source.join(name("l", len)), 2, 2_500_000);
        symlink("elsewhere", source.join(name("k", len))).unwrap();
        let folder = source.join(name("d", len));
        std::fs::create_dir_all(folder.join("within")).unwrap();
        tree::paint(&folder.join("within/file"), 3, 5000);
        // Bytes count, not letters.
        let wide = "\u{e9}".repeat(len / 2);
        if !fits {
            tree::text(&source.join(wide), "wide");
        }
    }
    tree::paint(&source.join("plain"), 4, 3_000_000);
    std::fs::hard_link(source.join("plain"), source.join(name("h", 200))).unwrap();
    tree::age(&source, 1_000_000_000);

    let narrow = Folding::with_names_of(&scratch.join("narrow"), LONGEST);
    let from = contents(&source);
    // Into a folder that is made names are not looked for before; into one that is there they are.
    for (place, is_there) in [("new", false), ("old", true)] {
        let target = narrow.join(place);
        if is_there {
            std::fs::create_dir(&target).unwrap();
        }
        for again in [false, true] {
            let ran = run(&[&"copy", &from, &target]).expect(3);
            let told = listed(&report(&target), "problems");
            let mut wanted: Vec<String> = [
                name("s", 144),
                name("s", 255),
                name("l", 144),
                name("l", 255),
                name("k", 144),
                name("k", 255),
                name("h", 200),
                name("\u{e9}", 72),
                name("\u{e9}", 127),
            ]
            .iter()
            .map(|name| format!("target-name {}/{name}", source.display()))
            .collect();
            // A folder cannot be made, and that goes for all that is in it.
            let folders = [144, 255].map(|len| target.join(name("d", len)));
            wanted.extend(folders.map(|path| format!("target-name {}", path.display())));
            wanted.sort();
            assert_eq!(told, wanted, "{place} {again}: {}", ran.err());
            assert_eq!(report(&target)["lanes"][0]["safe_to_release"], false);
            let (originals, copies) = (walk(&source), walk(&target));
            let names = copies.keys().map(|path| String::from_utf8(path.clone()));
            let names: Vec<String> = names.map(Result::unwrap).collect();
            let d = name("d", LONGEST);
            let mut there = vec![
                d.clone(),
                format!("{d}/within"),
                format!("{d}/within/file"),
                name("k", LONGEST),
                name("l", LONGEST),
                "plain".to_owned(),
                name("s", LONGEST),
            ];
            there.sort();
            assert_eq!(names, there, "{place} {again}");
            for (path, copy) in &copies {
                let original = &originals[path];
                let (kind, content) = (&original.kind, &original.content);
                assert_eq!((&copy.kind, &copy.content), (kind, content));
            }
            b3sum_agrees(&target, 4);
        }
    }
}
