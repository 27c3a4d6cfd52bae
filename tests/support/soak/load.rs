//! What is copied, and how.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::dice::Dice;
use crate::support::mounts::Fs;
use crate::support::tree::{age, paint, set_mode, sparse};

/// Returns options of a copy to a target of this kind.
pub(super) fn options(fs: Fs, dice: &mut Dice) -> Vec<String> {
    let io = ["--io=auto", "--io=uring", "--io=blocking"];
    let mut options = vec![io[dice.index(io.len())].to_owned()];
    let more = [
        (4, "--verify=target"),
        (8, "--verify=both"),
        (3, "--salvage"),
        (3, "--memory=64MiB"),
        (6, "--bwlimit=20MB"),
    ];
    for (odds, option) in more {
        let is_twice = options
            .last()
            .is_some_and(|last| last.starts_with("--verify"));
        let verifies = option.starts_with("--verify");
        // btrfs keeps small files where they cannot be read past the page cache.
        let may = !verifies || !is_twice && fs != Fs::Btrfs;
        if dice.below(odds) == 0 && may {
            options.push(option.to_owned());
        }
    }
    options
}

/// Fills a source with a tree.
pub(super) fn fill(source: &Path, dice: &mut Dice) {
    std::fs::create_dir_all(source).unwrap();
    let mut dirs = vec![source.to_owned()];
    for index in 0..dice.below(8) {
        let dir = dirs[dice.index(dirs.len())].join(format!("d{index}"));
        std::fs::create_dir(&dir).unwrap();
        dirs.push(dir);
    }
    let mut all = Vec::new();
    for index in 0..=dice.below(60) {
        let path = dirs[dice.index(dirs.len())].join(format!("f{index}"));
        let most = [1, 100, 5_000, 70_000, 300_000][dice.index(5)];
        paint(&path, dice.below(1000), dice.below(most));
        all.push(path);
    }
    for index in 0..dice.below(4) {
        let path = dirs[dice.index(dirs.len())].join(format!("large{index}"));
        let len = (1 << 20) + dice.below(6 << 20);
        if dice.below(4) == 0 {
            let start = dice.below(len - 5_000);
            sparse(&path, dice.below(1000), len, &[(start, 5_000)]);
        } else {
            paint(&path, dice.below(1000), len);
        }
        all.push(path);
    }
    for index in 0..dice.below(6) {
        let dir = &dirs[dice.index(dirs.len())];
        std::fs::hard_link(&all[dice.index(all.len())], dir.join(format!("h{index}"))).unwrap();
        symlink(format!("../f{index}"), dir.join(format!("s{index}"))).unwrap();
    }
    for path in &all {
        if dice.below(5) == 0 {
            set_mode(path, 0o400 | u32::try_from(dice.below(0o400)).unwrap());
        }
    }
    age(source, 1_200_000_000);
}
