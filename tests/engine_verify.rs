//! Reading back during a copy: what is right is proved, what is wrong is mended or withdrawn.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod ports;

use inhaul::engine::job::Verify;
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
