//! What people read at the end of a run, word for word, in `tests/golden`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its own files has failed"
)]

use inhaul::cli::plan::{DryLane, DryRun, dry_run};
use inhaul::cli::render::report;
use inhaul::cli::text::Paint;
use inhaul::engine::report::{
    Evidence, LaneReport, MountReport, Problem, Repair, Report, SCHEMA, Totals,
};

const PLAIN: Paint = Paint(false);

fn totals(files: u64, bytes: u64, problems: u64, rate: f64) -> Totals {
    Totals {
        files,
        bytes,
        problems,
        bytes_per_second: rate,
        ..Totals::default()
    }
}

fn lane(drive: &str, state: &str, totals: Totals, limited_by: &str) -> LaneReport {
    LaneReport {
        drive: drive.to_owned(),
        model: Some("WDC WD8002".to_owned()),
        serial: Some("VG0\u{1b}[2JX".to_owned()),
        rotational: Some(true),
        sources: vec![format!("/mnt/{drive}")],
        state: state.to_owned(),
        health: "ok".to_owned(),
        totals,
        seconds: 5820.0,
        limited_by: limited_by.to_owned(),
        best_bytes_per_second: None,
        share_of_best: (limited_by == "source").then_some(0.968),
        waited_seconds: [4800.0, 0.25, 61.0, 0.0],
        evidence: Evidence::default(),
        safe_to_release: true,
        verdict: "everything copied, hashed and durable; not read back".to_owned(),
        io: "io_uring+registered".to_owned(),
        buffers: 64,
    }
}

fn good() -> Report {
    Report {
        schema: SCHEMA,
        command: "copy".to_owned(),
        version: "0.1.0".to_owned(),
        job: "J1".to_owned(),
        target: "/tank/in/".to_owned(),
        started: String::new(),
        ended: String::new(),
        seconds: 5830.5,
        exit_code: 0,
        stopped: false,
        totals: totals(14_204, 2_480_000_000_000, 0, 425_349_000.7),
        lanes: vec![
            lane(
                "sdb",
                "done",
                totals(14_203, 1_240_000_000_000, 0, 212e6),
                "source",
            ),
            lane(
                "nvme0n1",
                "done",
                totals(1, 1_240_000_000_000, 0, 1.25e9),
                "target",
            ),
        ],
        mounts: vec![
            MountReport {
                path: "/mnt/sdb".to_owned(),
                side: "source".to_owned(),
                fs: "ext4".to_owned(),
                access: "direct".to_owned(),
                why: "O_DIRECT works".to_owned(),
            },
            MountReport {
                path: "/tank/in".to_owned(),
                side: "target".to_owned(),
                fs: "btrfs".to_owned(),
                access: "buffered".to_owned(),
                why: "checksums need stable pages".to_owned(),
            },
        ],
        manifest_records: 3,
        names_outside_b3sum: 0,
        privileges_cleared: 0,
        owners_not_kept: 0,
        buffer_bytes: 512 << 20,
        resumed: false,
        evidence: Evidence {
            hashed: 14_204,
            ..Evidence::default()
        },
        repairs: Vec::new(),
        problems: Vec::new(),
        problem_count: 0,
        skipped: Vec::new(),
        skipped_count: 0,
        targets: Vec::new(),
    }
}

fn problem(path: &str, kind: &str, reason: &str) -> Problem {
    Problem {
        path: path.to_owned(),
        path_hex: None,
        kind: kind.to_owned(),
        reason: reason.to_owned(),
        unreadable: None,
    }
}

fn bad() -> Report {
    let mut bad = good();
    bad.exit_code = 3;
    bad.problems = (1..=30)
        .map(|i| problem(&format!("/mnt/sdb/{i:04}.mov"), "source-read", "read: EIO"))
        .collect();
    bad.problems[0].path = String::from("/mnt/sdb/a\u{fffd}\n");
    bad.problems[0].path_hex = Some("2f6d6e742f7364622f61ff0a".to_owned());
    bad.problems[1].reason = String::from("read: \u{1b}]0;title\u{7}");
    bad.problem_count = 2041;
    bad.skipped = vec![problem(
        "/mnt/sdb/pipe",
        "special",
        "FIFO; --special recreates it",
    )];
    bad.skipped_count = 1;
    bad.lanes[0].state = String::from("failed");
    bad.lanes[0].totals.problems = 2041;
    bad.lanes[0].safe_to_release = false;
    bad.lanes[0].verdict = String::from("2041 things not copied whole");
    bad.privileges_cleared = 2;
    bad.owners_not_kept = 14_204;
    bad.names_outside_b3sum = 1;
    bad.totals.existing = 12;
    bad.totals.existing_bytes = 3_000_000_000;
    bad
}

/// Compares with a file; with `BLESS=1` in the environment, writes it instead, to be looked at.
fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "see {path}");
}

#[test]
fn a_good_copy() {
    golden("report-good.txt", &report(&good(), false, PLAIN));
    golden("report-good-verbose.txt", &report(&good(), true, PLAIN));
}

#[test]
fn a_copy_with_problems() {
    golden("report-problems.txt", &report(&bad(), false, PLAIN));
}

/// A copy that was gone on with and read back, with a block that had to be mended.
fn read_back() -> Report {
    let mut report = good();
    report.resumed = true;
    report.totals.kept = 12_345;
    report.totals.kept_bytes = 1_200_000_000_000;
    report.totals.changed = 3;
    report.evidence = Evidence {
        read_back: 26_540,
        read_back_near: 9,
        ..Evidence::default()
    };
    for lane in &mut report.lanes {
        "everything copied, durable and read back (the target drive's own cache is not ruled out)"
            .clone_into(&mut lane.verdict);
    }
    report.repairs = vec![
        Repair {
            path: "d1/\u{fffd}.mov".to_owned(),
            path_hex: Some("64312fff2e6d6f76".to_owned()),
            blocks: vec![3],
        },
        Repair {
            path: "d2/b.mov".to_owned(),
            path_hex: None,
            blocks: (10..30).collect(),
        },
    ];
    report
}

#[test]
fn a_copy_that_was_read_back() {
    golden("report-read-back.txt", &report(&read_back(), false, PLAIN));
    let mut odd = read_back();
    odd.totals.kept = 0;
    odd.evidence.cached = 1;
    odd.evidence.hashed = 2;
    odd.evidence.source_read_twice = 7;
    odd.repairs = (0..22)
        .map(|i| Repair {
            path: format!("d1/{i}"),
            path_hex: None,
            blocks: vec![0, 1],
        })
        .collect();
    odd.lanes[1].safe_to_release = false;
    odd.lanes[1].verdict = String::from("1 file could not be read back from the medium");
    golden("report-read-back-odd.txt", &report(&odd, false, PLAIN));
    let told = report(&odd, true, PLAIN);
    assert!(
        !told.contains("erified"),
        "a copy hashes and reads back: {told}"
    );
}

#[test]
fn a_copy_that_could_not_be_read_back() {
    let mut odd = good();
    odd.exit_code = 3;
    odd.evidence = Evidence {
        read_back: 14_203,
        cached: 1,
        ..Evidence::default()
    };
    odd.problems = vec![problem("/tank/in", "unverified", "from memory")];
    odd.problem_count = 1;
    for lane in &mut odd.lanes {
        "everything copied, durable and read back from the medium".clone_into(&mut lane.verdict);
    }
    odd.lanes[1].safe_to_release = false;
    odd.lanes[1].verdict = String::from("1 file could not be read back from the medium");
    golden("report-unverified.txt", &report(&odd, false, PLAIN));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each ending")]
fn verdicts() {
    let first = |change: &dyn Fn(&mut Report)| {
        let mut changed = good();
        change(&mut changed);
        let text = report(&changed, false, PLAIN);
        text.lines().next().unwrap().to_owned()
    };
    let lines = [
        first(&|_| {}),
        first(&|r| {
            r.evidence = Evidence {
                read_back: 14_204,
                ..Evidence::default()
            };
        }),
        first(&|r| {
            r.evidence = Evidence {
                read_back: 14_204,
                source_read_twice: 14_204,
                ..Evidence::default()
            };
        }),
        first(&|r| {
            r.evidence = Evidence {
                read_back: 14_200,
                read_back_near: 4,
                source_read_twice: 14_204,
                ..Evidence::default()
            };
        }),
        first(&|r| {
            r.evidence = Evidence {
                read_back: 14_200,
                cached: 4,
                ..Evidence::default()
            };
        }),
        first(&|r| {
            r.evidence = Evidence {
                cached: 14_204,
                ..Evidence::default()
            };
        }),
        first(&|r| *r = read_back()),
        first(&|r| {
            r.totals = totals(1, 0, 0, 0.0);
            r.seconds = 0.004;
        }),
        first(&|r| {
            r.exit_code = 75;
            r.stopped = true;
        }),
        first(&|r| {
            r.exit_code = 3;
            r.problem_count = 1;
        }),
        first(&|r| {
            r.exit_code = 3;
            r.stopped = true;
            r.problem_count = 2;
        }),
        first(&|r| {
            r.exit_code = 3;
            r.problems = vec![problem("a", "metadata", "chown: EPERM")];
            r.problem_count = 1;
        }),
        first(&|r| {
            r.exit_code = 4;
            r.problems = vec![
                problem("a", "source-changed", "grew"),
                problem("a", "metadata", "chown: EPERM"),
            ];
            r.problem_count = 2;
        }),
        first(&|r| {
            r.exit_code = 3;
            r.problems = vec![problem("/tank/in", "unverified", "4 files")];
            r.problem_count = 1;
        }),
        first(&|r| {
            r.exit_code = 3;
            r.problems = vec![
                problem("/tank/in", "unverified", "4 files"),
                problem("a", "source-read", "EIO"),
            ];
            r.problem_count = 2;
        }),
        first(&|r| r.exit_code = 1),
        first(&|r| r.command = "hash".to_owned()),
        first(&|r| {
            r.command = "hash".to_owned();
            r.exit_code = 3;
            r.problem_count = 1;
        }),
        first(&|r| r.command = "verify".to_owned()),
        first(&|r| {
            r.command = "verify".to_owned();
            r.mounts.clear();
        }),
        first(&|r| {
            *r = read_back();
            r.command = "verify".to_owned();
            r.mounts.clear();
        }),
        first(&|r| {
            r.command = "verify".to_owned();
            r.exit_code = 4;
            r.problem_count = 2;
        }),
    ];
    golden("verdicts.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = report(&bad(), true, Paint(true));
    let stripped = anstream::adapter::strip_str(&coloured).to_string();
    assert_ne!(coloured, stripped);
    assert_eq!(stripped, report(&bad(), true, PLAIN));
}

#[test]
fn nothing_dangerous_reaches_the_terminal() {
    let text = report(&bad(), true, PLAIN);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert!(text.contains("source-read  /mnt/sdb/a\\xff\\x0a: read: EIO\n"));
}

#[test]
fn dry_runs() {
    let mut plan = DryRun {
        target: "/tank/in".to_owned(),
        lanes: vec![
            DryLane {
                drive: "sdb".to_owned(),
                sources: vec!["/mnt/a".to_owned(), "/mnt/b".to_owned()],
                files: 14_203,
                bytes: 1_240_000_000_000,
                dirs: 1,
            },
            DryLane {
                drive: "sdc".to_owned(),
                sources: vec!["/mnt/c".to_owned()],
                files: 1,
                bytes: 999,
                dirs: 120,
            },
        ],
        needed: 1_240_000_000_999,
        free: 4_000_000_000_000,
        fits: true,
        existing: 0,
        problems: Vec::new(),
    };
    golden("dry-run-good.txt", &dry_run(&plan, PLAIN));
    assert_eq!(plan.exit().code(), 0);
    plan.existing = 12;
    plan.problems = vec![problem(
        "/mnt/a/x",
        "source-denied",
        "open: Permission denied",
    )];
    assert_eq!(plan.exit().code(), 3);
    plan.fits = false;
    plan.free = 1_000_000_000;
    golden("dry-run-bad.txt", &dry_run(&plan, PLAIN));
    assert_eq!(plan.exit().code(), 6);
}
