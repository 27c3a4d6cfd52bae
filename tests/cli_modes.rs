//! Who may read the copy: never more than may read the source, at no moment.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use support::judge::{rsync_agrees, same_trees, walk};
use support::program::{INHAUL, Running, contents, inhaul, report, run, under};
use support::{Scratch, need_root, need_tools, tool, tree};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn source(scratch: &Scratch) -> PathBuf {
    let source = scratch.dir("source");
    for (index, bits) in [0o600, 0o644, 0o640, 0o666, 0o777, 0o400, 0o700]
        .into_iter()
        .enumerate()
    {
        let dir = scratch.dir(format!("source/dir {bits:o}"));
        tree::paint(&dir.join("small"), 1, 400_000);
        tree::paint(&dir.join("large"), 2, 1_500_000);
        for path in [dir.join("small"), dir.join("large")] {
            tree::set_mode(&path, bits);
        }
        tree::set_mode(&dir, [0o700, 0o755, 0o750, 0o777][index % 4]);
    }
    tree::age(&source, 1_000_000_000);
    source
}

#[test]
fn the_umask_does_not_matter() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    for umask in ["000", "077", "777"] {
        let target = scratch.join(umask);
        let command = inhaul(&[&"copy", &contents(&source), &target]);
        let shell = format!("umask {umask}; exec \"$0\" \"$@\"");
        Running::start(under(&["sh", "-c", &shell], &command))
            .finish()
            .expect(0);
        same_trees(&walk(&source), &walk(&target));
        assert_eq!(mode(&target.join(".inhaul")), 0o700);
    }
}

#[test]
fn nothing_is_more_open_while_it_is_copied() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let target = scratch.join("target");
    let command = inhaul(&[&"copy", &"--bwlimit=8MB", &source, &target]);
    let shell = "umask 000; exec \"$0\" \"$@\"";
    let mut slow = Running::start(under(&["sh", "-c", shell], &command));
    let (mut staged, mut named) = (0, 0);
    while slow.alive() {
        let jobs = list(&target.join(".inhaul"));
        for job in jobs.into_iter().filter(|job| !job.is_symlink()) {
            for thread in list(&job.join("stage")) {
                // A file without a name may have its final mode: nobody gets as far as to it.
                let ways = [
                    target.join(".inhaul"),
                    job.clone(),
                    job.join("stage"),
                    thread,
                ];
                staged += ways.iter().filter(|way| closed(way)).count();
            }
        }
        let copy = target.join("source");
        for dir in list(&copy) {
            for path in [vec![dir.clone()], list(&dir)].concat() {
                let original = source.join(path.strip_prefix(&copy).unwrap());
                if let Ok(stat) = std::fs::symlink_metadata(&path) {
                    let more = stat.mode() & 0o7777 & !mode(&original);
                    assert_eq!(more, 0, "{}: {:o}", path.display(), stat.mode());
                    named += 1;
                }
            }
        }
    }
    slow.finish().expect(0);
    assert!(
        staged > 0 && named > 0,
        "{staged} staged and {named} named were looked at"
    );
    same_trees(&walk(&source), &walk(&target.join("source")));
}

/// Returns whether a folder is still there, and fails if it is not closed to everybody else.
fn closed(dir: &Path) -> bool {
    let stat = std::fs::symlink_metadata(dir);
    stat.is_ok_and(|stat| {
        assert_eq!(stat.mode() & 0o7777, 0o700, "{}", dir.display());
        true
    })
}

fn list(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[test]
fn privileges_are_cleared_unless_asked_for() {
    let test = "privileges_are_cleared_unless_asked_for";
    if !need_root(test) || !need_tools(test, &["setcap", "getcap", "rsync"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    for (name, bits) in [
        ("suid", 0o4755),
        ("sgid", 0o2755),
        ("both", 0o6711),
        ("sticky", 0o1644),
    ] {
        tree::paint(&source.join(name), 1, 100);
        chown(source.join(name), Some(1234), Some(1234)).unwrap();
        tree::set_mode(&source.join(name), bits);
    }
    tree::paint(&source.join("capable"), 1, 2_000_000);
    tree::set_mode(&source.join("capable"), 0o755);
    tool(
        "setcap",
        &[
            "cap_net_raw+ep".as_ref(),
            source.join("capable").as_os_str(),
        ],
    );
    let shared = scratch.dir("source/shared");
    tree::set_mode(&shared, 0o2775);
    let caps = |path: PathBuf| String::from_utf8(tool("getcap", &[&path])).unwrap();

    let safe = scratch.join("safe");
    run(&[&"copy", &source, &safe]).expect(0);
    let copy = safe.join("source");
    let modes = ["suid", "sgid", "both", "sticky"].map(|name| mode(&copy.join(name)));
    assert_eq!(modes, [0o755, 0o755, 0o711, 0o1644]);
    assert_eq!(mode(&copy.join("shared")), 0o2775);
    assert_eq!(caps(copy.join("capable")), "");
    // Each bit counts.
    assert_eq!(report(&safe)["privileges_cleared"], 5);

    let kept = scratch.join("kept");
    run(&[&"copy", &"--preserve=setid,caps", &source, &kept]).expect(0);
    rsync_agrees(&source, &kept.join("source"));
    assert!(caps(kept.join("source/capable")).contains("cap_net_raw"));
    assert_eq!(report(&kept)["privileges_cleared"], 0);
}

#[test]
fn without_privileges_everything_but_the_owner_is_kept() {
    let test = "without_privileges_everything_but_the_owner_is_kept";
    if !need_root(test) || !need_tools(test, &["setpriv", "b3sum"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    for dir in list(&source) {
        // Readable by all, and nobody's own.
        tree::set_mode(&dir, 0o755);
        for file in list(&dir) {
            tree::set_mode(&file, 0o644);
        }
    }
    tree::age(&source, 1_000_000_000);
    let target = scratch.dir("target");
    chown(&target, Some(65_534), Some(65_534)).unwrap();
    // Where it was built may be closed to others.
    let program = scratch.join("inhaul");
    std::fs::copy(INHAUL, &program).unwrap();
    for io in ["auto", "blocking"] {
        let place = target.join(io);
        let nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        let mut command = under(&nobody, &std::process::Command::new(&program));
        command.args(["copy", "--io", io]).args([&source, &place]);
        Running::start(command).finish().expect(0);
        let mut expected = walk(&source);
        for node in expected.values_mut() {
            node.owner = (65_534, 65_534);
        }
        same_trees(&expected, &walk(&place.join("source")));
        support::judge::b3sum_agrees(&place, 14);
        assert!(report(&place)["owners_not_kept"].as_u64().unwrap() >= 14);
    }
}
