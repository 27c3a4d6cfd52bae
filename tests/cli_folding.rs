//! Targets that do not tell names apart by case or by how Unicode spells them: no file of a source
//! takes the place of another one, and what is not copied is named.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use support::folding::Folding;
use support::judge::walk;
use support::program::{Ran, Running, contents, inhaul, listed, report, run};
use support::{Scratch, need_root, tree};

/// Names in pairs that fold to one.
const PAIRS: [(&str, &str); 3] = [
    ("File", "file"),
    ("caf\u{e9}", "cafe\u{301}"),
    ("\u{d6}l", "\u{f6}L"),
];

/// Returns the bytes of every file below a directory, by its name as it is listed.
fn bytes(top: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let tree = walk(top);
    let files = tree.into_iter().filter(|(_, node)| node.kind == "file");
    files.map(|(path, node)| (path, node.content)).collect()
}

/// Fails unless each file in the target holds the bytes of the file of its very name, nothing was
/// copied of the other one of each pair, and that one is named.
fn check(ran: &Ran, source: &Path, copy: &Path, target: &Path, files: usize, clashes: usize) {
    assert_eq!(ran.code, 3, "{}", ran.err());
    let (wanted, copied) = (bytes(source), bytes(copy));
    assert_eq!(copied.len(), files);
    for (name, content) in &copied {
        let original = wanted.get(name);
        assert_eq!(original, Some(content), "{}", name.escape_ascii());
    }
    let report = report(target);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), clashes, "{problems:#?}");
    for problem in problems {
        assert_eq!(problem["kind"], "target-exists");
        let reason = problem["reason"].as_str().unwrap();
        assert!(reason.contains("does not tell its name apart"), "{reason}");
    }
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
}

fn pairs(dir: &Path) {
    for (index, (one, other)) in (0..).zip(PAIRS) {
        tree::text(&dir.join(one), &format!("one {index}"));
        tree::text(&dir.join(other), &format!("the other {index}"));
    }
    tree::text(&dir.join("plain"), "plain");
}

fn ready(test: &str) -> Option<(Scratch, Folding, PathBuf)> {
    if !need_root(test) {
        return None;
    }
    let scratch = Scratch::new();
    let folding = Folding::new(&scratch.join("folding"));
    let source = scratch.dir("source");
    Some((scratch, folding, source))
}

#[test]
fn of_two_names_that_fold_to_one_the_second_is_named_and_not_copied() {
    let test = "of_two_names_that_fold_to_one_the_second_is_named_and_not_copied";
    let Some((_scratch, folding, source)) = ready(test) else {
        return;
    };
    pairs(&source);
    let from = contents(&source);
    for existing in ["refuse", "skip", "overwrite"] {
        // In a folder that is there before, names are looked for; in one that is made they are not.
        for is_there in [false, true] {
            let target = folding.join(format!("{existing} {is_there}"));
            if is_there {
                std::fs::create_dir(&target).unwrap();
            }
            for _again in 0..2 {
                let ran = run(&[&"copy", &"--existing", &existing, &from, &target]);
                check(
                    &ran,
                    &source,
                    &target,
                    &target,
                    PAIRS.len() + 1,
                    PAIRS.len(),
                );
            }
            let report = report(&target);
            let told = listed(&report, "problems").join("\n");
            let other = &report["problems"][0]["reason"].as_str().unwrap();
            assert!(told.contains("ile") && !other.is_empty(), "{told}");
        }
    }
}

#[test]
fn folders_that_fold_to_one_are_not_mixed() {
    let test = "folders_that_fold_to_one_are_not_mixed";
    let Some((_scratch, folding, source)) = ready(test) else {
        return;
    };
    for (dir, text) in [("DCIM", "one"), ("dcim", "the other")] {
        std::fs::create_dir(source.join(dir)).unwrap();
        tree::text(&source.join(dir).join("a.jpg"), text);
    }
    for existing in ["refuse", "overwrite"] {
        let target = folding.join(existing);
        for _again in 0..2 {
            let args: [&dyn AsRef<std::ffi::OsStr>; 5] =
                [&"copy", &"--existing", &existing, &source, &target];
            let ran = run(&args);
            check(&ran, &source, &target.join("source"), &target, 1, 1);
        }
    }
}

#[test]
fn what_is_there_under_its_own_name_is_replaced_as_everywhere() {
    let test = "what_is_there_under_its_own_name_is_replaced_as_everywhere";
    let Some((scratch, folding, source)) = ready(test) else {
        return;
    };
    tree::text(&source.join("Name"), "new");
    tree::text(&source.join("OTHER"), "new");
    let target = folding.join("target");
    std::fs::create_dir(&target).unwrap();
    tree::text(&target.join("Name"), "old");
    let from = contents(&source);
    run(&[&"copy", &"--existing", &"overwrite", &from, &target]).expect(0);
    assert_eq!(bytes(&source), bytes(&target));

    // Somebody else's file under another spelling stays as well.
    let late = scratch.dir("late");
    tree::text(&late.join("other"), "late");
    let from = contents(&late);
    let ran = run(&[&"copy", &"--existing", &"overwrite", &from, &target]);
    ran.expect(3)
        .says("does not tell its name apart from OTHER");
    assert_eq!(bytes(&source), bytes(&target));
}

#[test]
fn no_spelling_of_the_private_folder_leads_into_it() {
    let test = "no_spelling_of_the_private_folder_leads_into_it";
    let Some((_scratch, folding, source)) = ready(test) else {
        return;
    };
    std::fs::create_dir_all(source.join(".INHAUL/stage")).unwrap();
    tree::text(&source.join(".INHAUL/lock"), "planted");
    tree::text(&source.join(".INHAUL/more"), "planted");
    tree::text(&source.join("file"), "file");
    let target = folding.join("target");
    let from = contents(&source);
    let ran = run(&[&"copy", &"--existing", &"overwrite", &from, &target]);
    ran.expect(3)
        .says("does not tell its name apart from .inhaul");
    let home = target.join(".inhaul");
    assert_eq!(std::fs::read(home.join("lock")).unwrap(), b"");
    assert!(!home.join("more").exists() && !home.join("stage").exists());
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"file");
}

#[test]
fn names_that_are_listed_otherwise_than_they_were_given_are_known_again() {
    let test = "names_that_are_listed_otherwise_than_they_were_given_are_known_again";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    let source = scratch.dir("source");
    // Dots and spaces at the end, and letters that are cut in two.
    let names = [
        "Dot./Space /a.jpg",
        "Dot./name.",
        "caf\u{e9}/caf\u{e9}",
        "end ",
        "plain/plain",
    ];
    for name in names {
        let path = source.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tree::text(&path, name);
    }
    // Two that really are one there: the copy stays unfinished for them.
    for name in ["Dot./File", "Dot./file"] {
        tree::text(&source.join(name), name);
    }
    let target = folding.join("target");
    std::fs::create_dir(&target).unwrap();
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &contents(&source), &target];
    let mut refused = String::new();
    for again in [false, true, true] {
        let ran = run(&args).expect(3);
        let report = report(&target);
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{again}: {problems:#?} {}", ran.err());
        let path = problems[0]["path"].as_str().unwrap();
        assert!(path.to_lowercase().ends_with("dot./file"), "{path}");
        path.clone_into(&mut refused);
        let counts = ["files", "kept"].map(|field| report["totals"][field].as_u64().unwrap());
        assert_eq!(counts, if again { [0, 6] } else { [6, 0] });
    }
    // Somebody else's folder is not taken for one of ours.
    std::fs::remove_file(refused).unwrap();
    std::fs::create_dir_all(target.join("other/within")).unwrap();
    tree::text(&target.join("other/within/theirs"), "theirs");
    std::fs::create_dir(source.join("other.")).unwrap();
    tree::text(&source.join("other./late"), "late");
    let ran = run(&args);
    ran.expect(3)
        .says("does not tell its name apart from other");
    assert!(!target.join("other/late").exists());
    std::fs::remove_file(source.join("other./late")).unwrap();
    std::fs::remove_dir(source.join("other.")).unwrap();
    let left = run(&args);
    for name in names {
        assert_eq!(std::fs::read(target.join(name)).unwrap(), name.as_bytes());
    }
    left.expect(0);
}

#[test]
fn folders_that_were_made_and_never_acknowledged_are_gone_on_with() {
    let test = "folders_that_were_made_and_never_acknowledged_are_gone_on_with";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    let source = scratch.dir("source");
    let names = ["Dot./Space /a.jpg", "caf\u{e9}/caf\u{e9}"];
    for name in names {
        let path = source.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tree::text(&path, name);
    }
    std::fs::create_dir(source.join("Empty.")).unwrap();
    // After the second folder was made, after all of them, when names are about to be given, and when
    // they were.
    let points = [
        "dir-made:2",
        "lanes-ended:1",
        "naming-appended:1",
        "named-all:1",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let target = folding.join(format!("target {number}"));
        let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &contents(&source), &target];
        let mut command = inhaul(&args);
        command.env("INHAUL_TEST_KILL", point);
        Running::start(command).finish().expect(137);
        assert!(target.read_dir().unwrap().count() > 1, "{point}");
        let ran = run(&args).expect(0);
        for name in names {
            let there = std::fs::read(target.join(name)).unwrap();
            assert_eq!(there, name.as_bytes(), "{point}: {}", ran.err());
        }
        assert!(target.join("Empty.").is_dir(), "{point}");
    }
}

#[test]
fn of_two_names_that_are_listed_as_one_none_replaces_the_other() {
    let test = "of_two_names_that_are_listed_as_one_none_replaces_the_other";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    // The first is listed as the second, which is to come when the first is there already.
    let pairs = [["name.", "name"], ["caf\u{e9}", "cafe\u{301}"]];
    for existing in ["skip", "overwrite"] {
        for (number, names) in pairs.into_iter().enumerate() {
            for is_folder in [false, true] {
                let case = format!("{existing} {number} {is_folder}");
                let source = scratch.dir(format!("source {case}"));
                let [first, second] = names.map(|name| {
                    let path = source.join(name);
                    if !is_folder {
                        return path;
                    }
                    path.join("a.jpg")
                });
                let target = folding.join(&case);
                std::fs::create_dir(&target).unwrap();
                let args: [&dyn AsRef<std::ffi::OsStr>; 5] = [
                    &"copy",
                    &"--existing",
                    &existing,
                    &contents(&source),
                    &target,
                ];
                std::fs::create_dir_all(first.parent().unwrap()).unwrap();
                tree::text(&first, "first");
                // For want of one of these the job stays open.
                for name in ["Other", "other"] {
                    tree::text(&source.join(name), name);
                }
                run(&args).expect(3);
                std::fs::create_dir_all(second.parent().unwrap()).unwrap();
                tree::text(&second, "second");
                let ran = run(&args).expect(3);
                let told = listed(&report(&target), "problems");
                let is_told = |name: &str| {
                    let path = format!("target-exists {}/{name}", source.display());
                    told.contains(&path)
                };
                assert_eq!(told.len(), 2, "{case}: {told:?} {}", ran.err());
                let [first_is_told, second_is_told] = names.map(is_told);
                assert!(first_is_told != second_is_told, "{case}: {told:?}");
                // What is said to be there is.
                let said = if first_is_told { "second" } else { "first" };
                let there = std::fs::read(target.join(second.strip_prefix(&source).unwrap()));
                assert_eq!(there.unwrap(), said.as_bytes(), "{case}");
            }
        }
    }
}

#[test]
fn what_got_a_name_that_is_listed_otherwise_is_known_by_its_bytes_on_fat() {
    let test = "what_got_a_name_that_is_listed_otherwise_is_known_by_its_bytes_on_fat";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    let source = scratch.dir("source");
    let names = ["name.", "caf\u{e9}", "plain"];
    for name in names {
        tree::text(&source.join(name), name);
    }
    let target = folding.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &contents(&source), &target];
    let copy = |kill: Option<&str>| {
        let mut command = inhaul(&args);
        command.env("INHAUL_TEST_NO_INODES", "1");
        command.envs(kill.map(|point| ("INHAUL_TEST_KILL", point)));
        Running::start(command).finish()
    };
    copy(Some("named-all:1")).expect(137);
    // As after a remount: nothing but the number is another.
    let renumbered = names.map(|name| {
        let path = target.join(name);
        let modified = path.metadata().unwrap().modified().unwrap();
        std::fs::remove_file(&path).unwrap();
        tree::text(&path, name);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        path.metadata().unwrap().ino()
    });
    copy(None).expect(0);
    let now = names.map(|name| target.join(name).metadata().unwrap().ino());
    assert_eq!(now, renumbered, "none was copied again");
    assert_eq!(report(&target)["manifest_records"], 3);
}

#[test]
fn a_folder_that_is_not_there_any_more_keeps_no_other_from_its_place() {
    let test = "a_folder_that_is_not_there_any_more_keeps_no_other_from_its_place";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    let source = scratch.dir("source");
    std::fs::create_dir_all(source.join("Outer/Trip.")).unwrap();
    tree::text(&source.join("Outer/Trip./a.jpg"), "a");
    // For want of one of these the job stays open.
    for name in ["File", "file"] {
        tree::text(&source.join("Outer").join(name), name);
    }
    let target = folding.join("target");
    let args: [&dyn AsRef<std::ffi::OsStr>; 3] = [&"copy", &contents(&source), &target];
    run(&args).expect(3);
    for top in [&source, &target] {
        std::fs::remove_dir_all(top.join("Outer/Trip.")).unwrap();
    }
    std::fs::create_dir(source.join("Outer/Trip")).unwrap();
    tree::text(&source.join("Outer/Trip/a.jpg"), "a");
    for _again in 0..2 {
        run(&args).expect(3);
        let told = listed(&report(&target), "problems");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].to_lowercase().ends_with("outer/file"), "{told:?}");
        let there = std::fs::read(target.join("Outer/Trip/a.jpg")).unwrap();
        assert_eq!(there, b"a");
    }
}

#[test]
fn a_name_that_is_refused_keeps_no_other_from_its_place() {
    let test = "a_name_that_is_refused_keeps_no_other_from_its_place";
    if !need_root(test) {
        return;
    }
    let scratch = Scratch::new();
    let folding = Folding::odd(&scratch.join("folding"));
    let target = folding.join("target");
    std::fs::create_dir(&target).unwrap();
    let source = scratch.dir("source");
    // Whichever of two is met first.
    for (number, names) in [[".", ""], ["", "."]].into_iter().enumerate() {
        tree::text(&target.join(format!("name{number}")), "theirs");
        for end in names {
            tree::text(&source.join(format!("name{number}{end}")), end);
        }
    }
    let args: [&dyn AsRef<std::ffi::OsStr>; 5] = [
        &"copy",
        &"--existing",
        &"overwrite",
        &contents(&source),
        &target,
    ];
    run(&args).expect(3);
    let mut told = listed(&report(&target), "problems");
    told.sort();
    let refused = ["name0.", "name1."].map(|name| {
        let path = source.join(name);
        format!("target-exists {}", path.display())
    });
    assert_eq!(told, refused);
    for name in ["name0", "name1"] {
        assert_eq!(std::fs::read(target.join(name)).unwrap(), b"");
    }
}
