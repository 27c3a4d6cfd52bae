//! Reading back during a copy: what is right is proved, what is wrong is mended or withdrawn.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inhaul::engine::job::{Verify, VerifyJob};
use inhaul::engine::report::Report;
use inhaul::engine::{Session, Silent};
use ports::copying::{BACKENDS, contents, copy_all, job};
use ports::looking::{same, tree};
use ports::painted;

/// A directory on the medium that the build is on.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn every_file_is_read_back_and_found_right() {
    for io in BACKENDS {
        for (verify, twice) in [(Verify::Target, 0), (Verify::Both, 5)] {
            let dir = on_disk();
            let (source, target) = (dir.path().join("source"), dir.path().join("target"));
            std::fs::create_dir_all(source.join("sub")).unwrap();
            for (name, len) in [
                ("empty", 0),
                ("small", 5000),
                ("sub/block", 1 << 20),
                ("sub/large", (5 << 20) + 17),
            ] {
                std::fs::write(source.join(name), painted(1, len)).unwrap();
            }
            std::fs::hard_link(source.join("small"), source.join("sub/link")).unwrap();
            let mut job = job(&[contents(&source)], &target);
            job.engine.io = io;
            job.verify = verify;
            let report = copy_all(&job);
            same(&tree(&source), &tree(&target));
            let evidence = report.evidence;
            assert_eq!((evidence.hashed, evidence.cached), (0, 0));
            assert_eq!(
                evidence.read_back + evidence.read_back_near,
                5,
                "{evidence:?}"
            );
            assert_eq!(evidence.source_read_twice, twice);
            assert!(report.lanes.iter().all(|lane| lane.safe_to_release));
            let list = std::fs::read_to_string(target.join(".inhaul/latest/evidence.ndjson"));
            assert_eq!(list.unwrap().lines().count(), 5);
        }
    }
}

/// Changes a byte behind the back of whoever wrote it, and keeps the times.
fn corrupt(path: &Path, at: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    file.set_modified(modified).unwrap();
    file.sync_all().unwrap();
}

fn verify_job(target: &Path, repair_from: &[PathBuf]) -> VerifyJob {
    VerifyJob {
        target: target.to_owned(),
        job: None,
        repair_from: repair_from.to_vec(),
        engine: job(&[], target).engine,
    }
}

fn verify(job: &VerifyJob) -> Report {
    let session = Session {
        stop: Arc::default(),
        observer: Arc::new(Silent),
    };
    inhaul::engine::verify(job, &session).unwrap()
}

#[test]
fn wrong_blocks_are_named_and_mended_from_the_source() {
    let dir = on_disk();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("small"), painted(1, 5000)).unwrap();
    std::fs::write(source.join("large"), painted(2, (9 << 20) + 17)).unwrap();
    copy_all(&job(&[contents(&source)], &target));
    let before = tree(&target);

    corrupt(&target.join("small"), 4999);
    corrupt(&target.join("large"), 3 << 20);
    corrupt(&target.join("large"), (9 << 20) + 16);
    let report = verify(&verify_job(&target, &[]));
    assert_eq!((report.exit_code, report.totals.files), (4, 0));
    let reasons: Vec<&str> = report.problems.iter().map(|p| p.reason.as_str()).collect();
    let names = |what: &str| reasons.iter().any(|reason| reason.starts_with(what));
    assert!(
        names("block 0 (bytes 0 to 5000): its bytes differ"),
        "{reasons:?}"
    );
    assert!(
        names(
            "block 3 (bytes 3145728 to 4194304), block 9 (bytes 9437184 to 9437201): its bytes \
             differ"
        ),
        "{reasons:?}"
    );

    let report = verify(&verify_job(&target, &[contents(&source)]));
    assert_eq!((report.exit_code, report.totals.files), (0, 2));
    let mut mended: Vec<_> = report
        .repairs
        .iter()
        .map(|r| (&*r.path, &*r.blocks))
        .collect();
    mended.sort_unstable();
    assert_eq!(mended, [("large", &[3, 9][..]), ("small", &[0][..])]);
    same(&before, &tree(&target));
    let report = verify(&verify_job(&target, &[]));
    assert_eq!((report.exit_code, report.problem_count), (0, 0));
}

#[test]
fn a_source_that_changed_mends_nothing() {
    let dir = on_disk();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("large"), painted(2, 3 << 20)).unwrap();
    copy_all(&job(&[contents(&source)], &target));
    corrupt(&target.join("large"), 1 << 20);
    let wrong = std::fs::read(target.join("large")).unwrap();
    corrupt(&source.join("large"), (1 << 20) + 5);
    let report = verify(&verify_job(&target, &[contents(&source)]));
    assert_eq!(report.exit_code, 4);
    assert!(
        report.problems[0]
            .reason
            .contains("the source gives other bytes")
    );
    assert!(
        std::fs::read(target.join("large")).unwrap() == wrong,
        "nothing was written"
    );
}

/// A job that an earlier run began and did not end: one name was taken. Its sources and its target.
struct Begun {
    dir: tempfile::TempDir,
}

impl Begun {
    fn new(make: impl FnOnce(&Path)) -> Self {
        let begun = Self { dir: on_disk() };
        let (source, target) = (begun.source(), begun.target());
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(source.join("taken"), painted(9, 100)).unwrap();
        make(&source);
        std::fs::write(target.join("taken"), b"taken").unwrap();
        let (code, _) = begun.run("none", None);
        assert_eq!(code, Some(3));
        std::fs::remove_file(target.join("taken")).unwrap();
        begun
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// Runs the program, to be killed at a point; returns its exit code and what it said.
    fn run(&self, verify: &str, kill: Option<&str>) -> (Option<i32>, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inhaul"));
        command
            .args(["copy", "--verify", verify])
            .arg(contents(&self.source()))
            .arg(self.target())
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .stdin(std::process::Stdio::null());
        if let Some(kill) = kill {
            command.env("INHAUL_TEST_KILL", kill);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Fails unless every file of the source is in the target as it is there.
    #[track_caller]
    fn assert_same(&self) {
        // (What is taken away leaves its mark in the time of its folder.)
        let files = |top: &Path| {
            let mut all = tree(top);
            all.retain(|_, node| node.kind == "file");
            all
        };
        same(&files(&self.source()), &files(&self.target()));
    }

    /// Returns the paths and blocks that the last run mended.
    fn mended(&self) -> Vec<(String, Vec<u64>)> {
        let report = self.target().join(".inhaul/latest/report.json");
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let repairs = report["repairs"].as_array().unwrap().iter();
        let mut mended: Vec<_> = repairs
            .map(|repair| {
                let blocks = repair["blocks"].as_array().unwrap().iter();
                let blocks = blocks.map(|block| block.as_u64().unwrap()).collect();
                (repair["path"].as_str().unwrap().to_owned(), blocks)
            })
            .collect();
        mended.sort();
        mended
    }
}

#[test]
fn what_somebody_changed_is_told_of_and_left_alone() {
    let begun = Begun::new(|source| {
        for name in ["edited", "grown", "symlink", "gone", "right"] {
            std::fs::write(source.join(name), painted(3, 2 << 20)).unwrap();
        }
    });
    // Their sources are not there any more, so that nothing but the judging meets them.
    for name in ["edited", "grown", "symlink", "gone"] {
        std::fs::remove_file(begun.source().join(name)).unwrap();
    }
    let target = begun.target();
    let edited = painted(4, 2 << 20);
    std::fs::write(target.join("edited"), &edited).unwrap();
    std::fs::write(target.join("grown"), painted(3, 3 << 20)).unwrap();
    std::fs::remove_file(target.join("symlink")).unwrap();
    std::os::unix::fs::symlink("right", target.join("symlink")).unwrap();
    std::fs::remove_file(target.join("gone")).unwrap();
    let (code, said) = begun.run("target", None);
    assert_eq!(code, Some(3), "{said}");
    let changed = "changed in the target since it was copied";
    for name in ["edited", "grown", "symlink"] {
        assert!(
            said.contains(&format!("{name}: {changed}")),
            "{name}: {said}"
        );
    }
    assert!(said.contains("gone: not in the target any more"), "{said}");
    assert!(std::fs::read(target.join("edited")).unwrap() == edited);
    assert_eq!(
        std::fs::metadata(target.join("grown")).unwrap().len(),
        3 << 20
    );
    let link = std::fs::read_link(target.join("symlink")).unwrap();
    assert_eq!(link, Path::new("right"));
    assert_eq!(begun.mended(), []);
}

#[test]
fn what_is_wrong_is_mended_or_else_taken_away() {
    let begun = Begun::new(|source| {
        std::fs::write(source.join("rotten"), painted(3, (2 << 20) + 17)).unwrap();
        std::fs::write(source.join("lost"), painted(4, 2 << 20)).unwrap();
        std::fs::write(source.join("first"), painted(5, 3 << 20)).unwrap();
        std::fs::hard_link(source.join("first"), source.join("second")).unwrap();
    });
    let (source, target) = (begun.source(), begun.target());
    corrupt(&target.join("rotten"), (2 << 20) + 16);
    corrupt(&target.join("lost"), 5);
    corrupt(&target.join("second"), 2 << 20);
    std::fs::remove_file(source.join("lost")).unwrap();
    let (code, said) = begun.run("target", None);
    assert_ne!(code, Some(0), "{said}");
    // One inode, whose blocks are recorded under the name that it got first.
    let [(hard, hard_blocks), rotten] = <[_; 2]>::try_from(begun.mended()).unwrap();
    assert!(["first", "second"].contains(&&*hard), "{hard}");
    assert_eq!(hard_blocks, [2]);
    assert_eq!(rotten, ("rotten".to_owned(), vec![2]));
    assert!(!target.join("lost").exists());
    begun.assert_same();
}

#[test]
fn a_kill_while_mending_or_withdrawing_leaves_nothing_wrong_behind() {
    for kill in ["mending:1", "mended:1", "withdrawing:1", "withdrawn:1"] {
        let begun = Begun::new(|source| {
            std::fs::write(source.join("rotten"), painted(3, (2 << 20) + 17)).unwrap();
            std::fs::write(source.join("lost"), painted(4, 2 << 20)).unwrap();
        });
        let (source, target) = (begun.source(), begun.target());
        corrupt(&target.join("rotten"), (2 << 20) + 16);
        corrupt(&target.join("lost"), 5);
        std::fs::remove_file(source.join("lost")).unwrap();
        let (code, said) = begun.run("target", Some(kill));
        assert_eq!(code, None, "{kill}: {said}");
        if kill.starts_with("withdraw") {
            // The next run takes it away whether or not it is asked to read anything back.
            let (_, said) = begun.run("none", None);
            assert!(!target.join("lost").exists(), "{kill}: {said}");
        } else {
            let (_, said) = begun.run("target", None);
            assert!(!target.join("lost").exists(), "{kill}: {said}");
            begun.assert_same();
        }
    }
}
