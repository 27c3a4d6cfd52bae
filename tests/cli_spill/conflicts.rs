//! What has the name of a file in one of several targets and is not the file: never overwritten, never
//! taken for it, and told of.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::pair::{FILES, Pair};
use crate::support::judge::{Node, walk};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul, listed, report, run};
use crate::support::{can_mount, tree};

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
        pair.copy_killed("acknowledged:2");
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

/// Runs a copy into both as onto FAT, where nothing but size and time tells a file after a remount.
fn copy_without_inodes(pair: &Pair, kill: Option<&str>) -> Ran {
    let mut command = inhaul(&[&"copy", &pair.spill(), &pair.source, &pair.first.path()]);
    command.env("INHAUL_TEST_BATCH_FILES", "8");
    command.env("INHAUL_TEST_NO_INODES", "1");
    command.envs(kill.map(|point| ("INHAUL_TEST_KILL", point)));
    Running::start(command).finish()
}

/// Puts other bytes in the place of a file, as long and as old, in another inode.
fn replace_alike(path: &Path) -> Vec<u8> {
    let len = path.metadata().unwrap().len();
    let wrong = vec![7; usize::try_from(len).unwrap()];
    replace(path, &wrong);
    wrong
}

/// Puts a file in the place of another, as old, in another inode.
fn replace(path: &Path, bytes: &[u8]) {
    let stat = path.metadata().unwrap();
    // Its number is not free while it is open, and its room is.
    let was = std::fs::File::create(path).unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(stat.modified().unwrap()).unwrap();
    drop(was);
}

/// Returns the paths of the files in a target, in the order in which they got their names.
fn in_order(target: &Mounted) -> Vec<PathBuf> {
    let there = walk(&target.join("source")).into_iter();
    let there = there.filter(|(_, node)| node.kind == "file" && node.names == 1);
    let paths = there.map(|(path, _)| PathBuf::from(String::from_utf8(path).unwrap()));
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort_by_key(|path| {
        let stat = target.join("source").join(path).metadata().unwrap();
        (stat.ctime(), stat.ctime_nsec())
    });
    paths
}

/// Returns the path of the file in the first target that got its name last.
fn last_named(pair: &Pair) -> PathBuf {
    in_order(&pair.first).pop().unwrap()
}

/// Leaves a target room for records, and for no file that is large.
fn fill(target: &Mounted) {
    let fill = std::fs::File::create(target.join("fill")).unwrap();
    rustix::fs::syncfs(&fill).unwrap();
    let free = rustix::fs::fstatvfs(&fill).unwrap();
    let free = free.f_bfree * free.f_bsize;
    if let Some(len) = free.checked_sub(4 << 20).filter(|len| *len > 0) {
        rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), 0, len).unwrap();
    }
}

#[test]
fn a_name_that_was_given_to_wrong_bytes_is_told_of_with_what_to_do() {
    let test = "a_name_that_was_given_to_wrong_bytes_is_told_of_with_what_to_do";
    if !can_mount(test) {
        return;
    }
    for names in ["named-all:4", "named-all:6"] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        copy_without_inodes(&pair, Some(names)).expect(137);
        // Of the names that were given last, which nobody acknowledged.
        let name = last_named(&pair);
        let [path, copy] = [&pair.first, &pair.second].map(|it| it.join("source").join(&name));
        let wrong = replace_alike(&path);
        for _again in 0..2 {
            let ran = copy_without_inodes(&pair, None).expect(3);
            ran.says("remove or rename that there");
            let told = listed(&report(pair.first.path()), "problems");
            let source = pair.source.join(&name);
            assert_eq!(told, [format!("target-exists {}", source.display())]);
            assert!(!copy.exists());
            assert_eq!(std::fs::read(&path).unwrap(), wrong);
            let listed = format!("source/{}", name.display());
            assert!(!pair.places().contains_key(&listed));
        }
        std::fs::remove_file(&path).unwrap();
        copy_without_inodes(&pair, None).expect(0);
        pair.check();
    }
}

#[test]
fn an_older_state_in_a_full_target_is_told_of_with_what_to_do() {
    let test = "an_older_state_in_a_full_target_is_told_of_with_what_to_do";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    pair.killed_in_the_second();
    let mut there = walk(&pair.first.join("source")).into_iter();
    let large = |(path, node): (Vec<u8>, Node)| {
        (node.kind == "file" && node.size > 3_000_000).then_some(path)
    };
    let name = there.find_map(large).unwrap();
    let name = PathBuf::from(String::from_utf8(name).unwrap());
    let (source, path, copy) = (
        pair.source.join(&name),
        pair.first.join("source").join(&name),
        pair.second.join("source").join(&name),
    );
    let before = std::fs::read(&path).unwrap();
    tree::paint(&source, 77, 12_000_000);
    for _again in 0..2 {
        let ran = pair.copy().expect(3);
        ran.says("remove or rename that there");
        let told = listed(&report(pair.first.path()), "problems");
        assert_eq!(told, [format!("target-exists {}", source.display())]);
        assert!(!copy.exists());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    std::fs::remove_file(&path).unwrap();
    pair.copy().expect(0);
    assert!(copy.exists());
    pair.check();
}

#[test]
fn what_is_done_in_a_full_target_is_known_by_its_bytes_where_nothing_else_tells() {
    let test = "what_is_done_in_a_full_target_is_known_by_its_bytes_where_nothing_else_tells";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    copy_without_inodes(&pair, Some("lanes-ended:2")).expect(137);
    // It is full as soon as the run goes on: what the run comes to first is gone, and so is its room.
    std::fs::remove_file(pair.first.join("source/0/0/file00")).unwrap();
    fill(&pair.first);
    let name = last_named(&pair);
    let path = pair.first.join("source").join(&name);
    let wrong = replace_alike(&path);
    for _again in 0..2 {
        copy_without_inodes(&pair, None).expect(3);
        let told = listed(&report(pair.first.path()), "problems");
        let source = pair.source.join(&name);
        assert_eq!(told, [format!("target-exists {}", source.display())]);
        assert_eq!(std::fs::read(&path).unwrap(), wrong);
    }
    std::fs::remove_file(&path).unwrap();
    copy_without_inodes(&pair, None).expect(0);
    std::fs::remove_file(pair.first.join("fill")).unwrap();
    pair.check();
}

#[test]
fn a_name_that_is_taken_where_its_file_is_not_is_none_of_ours() {
    let test = "a_name_that_is_taken_where_its_file_is_not_is_none_of_ours";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    // All is copied, and the first is yet to be closed.
    pair.copy_killed("end-recorded:3");
    let there = walk(&pair.second.join("source")).into_iter();
    let mut there = there.filter(|(_, node)| node.kind == "file" && node.names == 1);
    let name = String::from_utf8(there.next().unwrap().0).unwrap();
    let theirs = pair.first.join("source").join(&name);
    tree::text(&theirs, "theirs");
    pair.copy().expect(0);
    let place = pair.places()[&format!("source/{name}")].clone();
    assert_eq!(place, pair.second.path().to_str().unwrap());
    assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
    for target in [&pair.first, &pair.second] {
        run(&[&"verify", &target.path()]).expect(0);
        assert!(!target.join(".inhaul/current").exists());
    }
}

#[test]
fn a_name_that_is_taken_where_its_file_is_not_is_none_of_ours_on_fat_either() {
    if !can_mount("a_name_that_is_taken_where_its_file_is_not_is_none_of_ours_on_fat_either") {
        return;
    }
    for existing in ["refuse", "skip", "overwrite"] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
        let existing = format!("--existing={existing}");
        let spill = pair.spill();
        let copy = |kill: Option<&str>| {
            let mut command =
                inhaul(&[&"copy", &existing, &spill, &pair.source, &pair.first.path()]);
            command.env("INHAUL_TEST_NO_INODES", "1");
            command.envs(kill.map(|point| ("INHAUL_TEST_KILL", point)));
            Running::start(command).finish()
        };
        // The second has all of its files, and no manifest yet.
        copy(Some("lanes-ended:2")).expect(137);
        let there = walk(&pair.second.join("source")).into_iter();
        let mut there = there.filter(|(_, node)| node.kind == "file" && node.names == 1);
        let name = String::from_utf8(there.next().unwrap().0).unwrap();
        let [theirs, ours] = [&pair.first, &pair.second].map(|it| it.join("source").join(&name));
        tree::text(&theirs, "theirs");
        // As after a remount: the same bytes, another number.
        let right = std::fs::read(&ours).unwrap();
        replace(&ours, &right);
        copy(None).expect(0);
        let place = pair.places()[&format!("source/{name}")].clone();
        assert_eq!(place, pair.second.path().to_str().unwrap(), "{existing}");
        assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
        for target in [&pair.first, &pair.second] {
            run(&[&"verify", &target.path()]).expect(0);
            assert!(!target.join(".inhaul/current").exists());
        }
    }
}

#[test]
fn a_name_that_is_taken_where_its_file_is_not_is_none_of_ours_before_it_is_recorded() {
    let test = "a_name_that_is_taken_where_its_file_is_not_is_none_of_ours_before_it_is_recorded";
    if !can_mount(test) {
        return;
    }
    let pair = Pair::new([Fs::Ext4, Fs::Ext4], [64, 160]);
    pair.copy_killed("named-all:8");
    let name = in_order(&pair.second).pop().unwrap();
    let theirs = pair.first.join("source").join(&name);
    tree::text(&theirs, "theirs");
    pair.copy().expect(0);
    let place = pair.places()[&format!("source/{}", name.display())].clone();
    assert_eq!(place, pair.second.path().to_str().unwrap());
    assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
}

#[test]
fn what_a_full_target_has_is_compared_though_its_name_is_taken_in_another() {
    if !can_mount("what_a_full_target_has_is_compared_though_its_name_is_taken_in_another") {
        return;
    }
    for is_right in [true, false] {
        let pair = Pair::new([Fs::Ext4, Fs::Ext4], [32, 48]);
        let third = Mounted::image(&pair.scratch, "third", Fs::Ext4, 64);
        let spill = pair.spill();
        let further = format!("--spill={}", third.path().display());
        let copy = |kill: Option<&str>| {
            let mut command =
                inhaul(&[&"copy", &spill, &further, &pair.source, &pair.first.path()]);
            command.env("INHAUL_TEST_BATCH_FILES", "8");
            command.env("INHAUL_TEST_NO_INODES", "1");
            command.envs(kill.map(|point| ("INHAUL_TEST_KILL", point)));
            Running::start(command).finish()
        };
        copy(Some("lanes-ended:3")).expect(137);
        let there = in_order(&pair.second);
        let size = |name: &&PathBuf| pair.source.join(name).metadata().unwrap().len();
        let (first, last) = (
            there.iter().find(|name| size(name) > 3_000_000).unwrap(),
            there.last().unwrap(),
        );
        // It is full before the run comes to the last one, and so is the first target.
        std::fs::remove_file(pair.second.join("source").join(first)).unwrap();
        fill(&pair.first);
        fill(&pair.second);
        let [theirs, ours] = [&pair.first, &pair.second].map(|it| it.join("source").join(last));
        tree::text(&theirs, "theirs");
        let right = std::fs::read(&ours).unwrap();
        replace_alike(&ours);
        if is_right {
            replace(&ours, &right);
            copy(None).expect(0);
            let places = pair.places();
            let [first, last] = [first, last].map(|name| {
                let place = &places[&format!("source/{}", name.display())];
                PathBuf::from(place)
            });
            assert_eq!((&*first, &*last), (third.path(), pair.second.path()));
        } else {
            copy(None).expect(3);
            let told = listed(&report(pair.first.path()), "problems");
            let source = pair.source.join(last);
            assert_eq!(told, [format!("target-exists {}", source.display())]);
        }
        assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
    }
}
