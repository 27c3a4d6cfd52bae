//! The bench of power cuts can fail: it finds what is wrong with programs and drives that are
//! wrong.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

#[path = "support/drive/mod.rs"]
mod drive;
#[path = "support/power/mod.rs"]
mod power;
mod support;

use power::loads::MIXED;
use power::neighbour::nudge;
use power::{Bench, Way};
use support::can_mount;
use support::dice::Dice;
use support::mounts::Fs;

const ALL: [Fs; 3] = [Fs::Ext4, Fs::Xfs, Fs::Btrfs];

#[test]
fn cp_loses_files_that_it_said_were_copied() {
    if !can_mount("cp_loses_files_that_it_said_were_copied") {
        return;
    }
    for fs in ALL {
        for way in [Way::Clone, Way::Cache] {
            let mut bench = Bench::new(fs, way, MIXED.fill);
            bench.begin(None);
            let ran = bench.start_other(&["cp", "-a"]).finish().expect(0);
            let mut image = bench.cut(&mut Dice::new(1), "cp -a", &ran.stdout);
            image.all_done = true;
            assert!(!bench.judge(&image, true).is_empty(), "{fs:?} {way:?}");
        }
    }
}

#[test]
fn a_drive_that_ignores_flushes_loses_files() {
    if !can_mount("a_drive_that_ignores_flushes_loses_files") {
        return;
    }
    for fs in ALL {
        let mut bench = Bench::new(fs, Way::Cache, MIXED.fill);
        bench.begin(None);
        bench.drive().set_deaf(true);
        let ran = bench.start(None, &[]).finish().expect(0);
        let mut images = Vec::new();
        for seed in 0..8 {
            images.push(bench.cut_at_end(&ran, &mut Dice::new(seed)));
        }
        // One that keeps nearly all there was may be whole by luck.
        let wrong = images
            .iter()
            .filter(|image| !bench.judge(image, true).is_empty());
        let wrong = wrong.count();
        assert!(wrong >= 4, "{fs:?}: {wrong} of 8");
    }
}

/// A bug, and where a cut shows it.
struct Bug {
    name: &'static str,
    /// Where the copy is killed.
    at: &'static str,
    /// Whether somebody else syncs then.
    nudged: bool,
    fs: &'static [Fs],
}

/// The bugs that only a power cut can show. On ext4 and XFS a sync of the journal makes every name
/// before it durable as well, so there a missing sync behind the names has no consequence.
const BUGS: [Bug; 5] = [
    Bug {
        name: "no-sync-before-rename",
        at: "named-all:1",
        nudged: true,
        fs: &[Fs::Ext4, Fs::Xfs],
    },
    Bug {
        name: "rename-before-sync",
        at: "named-one:200",
        nudged: true,
        fs: &[Fs::Ext4, Fs::Xfs],
    },
    Bug {
        name: "no-sync-after-rename",
        at: "acknowledging:1",
        nudged: false,
        fs: &[Fs::Btrfs],
    },
    Bug {
        name: "ack-before-journal",
        at: "acknowledged:1",
        nudged: false,
        fs: &ALL,
    },
    Bug {
        name: "journal-not-synced",
        at: "acknowledged:1",
        nudged: false,
        fs: &ALL,
    },
];

#[test]
fn bugs_show_where_they_are() {
    if !can_mount("bugs_show_where_they_are") {
        return;
    }
    for bug in &BUGS {
        for fs in bug.fs {
            let mut bench = Bench::new(*fs, Way::Cache, MIXED.fill);
            for (name, shows) in [(bug.name, true), ("", false)] {
                bench.begin(None);
                let env = [("INHAUL_TEST_BUG", name), ("INHAUL_TEST_KILL", bug.at)];
                let ran = bench.start(None, &env).finish().expect(128 + 9);
                if bug.nudged {
                    nudge(&bench.point());
                }
                let mut image = bench.cut(&mut Dice::new(1), name, &ran.stdout);
                if bug.at.starts_with("acknowledged:") {
                    image.acknowledged = bench.named();
                }
                let complaints = bench.judge(&image, false);
                assert_eq!(!complaints.is_empty(), shows, "{name} {complaints:?}");
            }
        }
    }
}
