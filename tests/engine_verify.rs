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
