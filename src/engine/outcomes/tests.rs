//! What is counted once, however often it is asked for, and what is not told any more.

use std::fs::File;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::engine::session::Silent;
use crate::manifest::PROBLEMS_FILE;
use crate::scan::{Dir, FileStamp, Kind, Tree};
use crate::target::Sealed;
use crate::target::attributes::Loss;

fn some_entry() -> Entry {
    let tree = Tree {
        index: 0,
        label: "/".into(),
        root: File::open("/").unwrap().into(),
        only: None,
        landing: Vec::new(),
        root_attributes: false,
        device: 0,
        direct: false,
        trusts_holes: false,
        trusts_sizes: true,
        keeps_inodes: true,
        finished: crossbeam::channel::bounded(1).0,
    };
    Entry {
        dir: Dir::root(Arc::new(tree)),
        name: (*b"file").into(),
        kind: Kind::File,
        stamp: FileStamp::default(),
        allocated: 0,
        nlink: 1,
        position: 0,
        recorded: None,
    }
}

#[test]
fn what_is_asked_again_of_a_drive_that_was_put_back_counts_once() {
    let session = Session {
        stop: Arc::new(AtomicBool::new(false)),
        observer: Arc::new(Silent),
    };
    let lane = LaneView {
        name: "sdb".to_owned(),
        sources: Vec::new(),
        counters: LaneCounters::default(),
    };
    let telemetry = Arc::new(Telemetry::new(vec![lane]));
    let outcomes = Outcomes::new(session, Arc::clone(&telemetry), None);
    let applied = Applied {
        owner_kept: false,
        cleared: 2,
        losses: vec![Loss {
            what: "mode".to_owned(),
            errno: rustix::io::Errno::PERM,
        }],
    };
    let attributes = Attributes {
        cleared: 1,
        unread: Some(rustix::io::Errno::IO),
        ..Attributes::default()
    };
    let entry = some_entry();
    // Whole twice, as its name was not made durable the first time: it counts when it is acknowledged.
    let sealed = Sealed::kept(Vec::new(), None).lacking(&applied, &attributes);
    for is_acknowledged in [false, true] {
        outcomes.begins_again(0);
        outcomes.applied(0, &entry, &attributes, &applied);
        if is_acknowledged {
            outcomes.forgone(sealed.forgone);
        }
    }
    outcomes.applied_to_folder(0, Path::new("folder"), &applied);
    assert_eq!((outcomes.owners_not_kept(), outcomes.cleared()), (2, 5));
    // Its files are not asked for again; its folders are.
    telemetry.lanes[0].counters.renew();
    outcomes.begins_again(0);
    assert_eq!((outcomes.owners_not_kept(), outcomes.cleared()), (1, 3));
    outcomes.applied_to_folder(0, Path::new("folder"), &applied);
    assert_eq!((outcomes.owners_not_kept(), outcomes.cleared()), (2, 5));
    // But those of a file that an earlier run copied are set again.
    assert_eq!(outcomes.all_problems().1, 3);
    outcomes.applied(0, &entry, &attributes, &applied);
    outcomes.forgone_anew(0, sealed.forgone);
    assert_eq!(outcomes.all_problems().1, 3);
    assert_eq!((outcomes.owners_not_kept(), outcomes.cleared()), (3, 8));
    telemetry.lanes[0].counters.renew();
    outcomes.forgone_anew(0, sealed.forgone);
    assert_eq!((outcomes.owners_not_kept(), outcomes.cleared()), (2, 6));
}

#[test]
fn who_was_left_behind_by_a_run_tells_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let session = Session {
        stop: Arc::new(AtomicBool::new(false)),
        observer: Arc::new(Silent),
    };
    let spool = Spool::new(File::open(dir.path()).unwrap().into(), PROBLEMS_FILE);
    let telemetry = Arc::new(Telemetry::new(Vec::new()));
    let outcomes = Outcomes::new(session, telemetry, Some(spool));
    let error = Error::new(ErrorKind::SourceRead, Side::Source, "late", "read");
    outcomes.close();
    outcomes.problem(0, &error);
    outcomes.problem_of_run(&error);
    outcomes.skipped(0, Path::new("late"), "special", "why");
    assert_eq!(outcomes.all_problems(), (Vec::new(), 0));
    assert_eq!(outcomes.left_out(), (Vec::new(), 0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
