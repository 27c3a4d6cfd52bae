//! What a copy is asked for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inhaul::cli::parse;
use inhaul::cli::resolve::{DisplaySettings, Progress, Task};
use inhaul::engine::job::{EngineSettings, Existing, IoChoice, Preserve, Verify};

use crate::{Lists, copy, in_world, misuse, task};

#[test]
fn the_plain_copy_has_all_defaults() {
    let (job, dry_run, display) = copy("copy /mnt/d1 /mnt/d2/ /tank/in");
    assert_eq!(job.sources, [PathBuf::from("/mnt/d1"), "/mnt/d2/".into()]);
    assert!(job.sources[1].as_os_str().to_str().unwrap().ends_with('/'));
    assert_eq!(job.target, Path::new("/tank/in"));
    assert_eq!(job.existing, Existing::Refuse);
    assert_eq!(job.preserve, Preserve::default());
    assert_eq!(job.verify, Verify::None);
    assert_eq!(job.resume, None);
    assert!(job.files_from.is_none());
    assert_eq!(
        job.engine,
        EngineSettings {
            io: IoChoice::Auto,
            memory: 536_870_912,
            bwlimit: None,
            hash_threads: None,
            ..EngineSettings::default()
        }
    );
    assert!(!dry_run);
    assert_eq!(
        display,
        DisplaySettings {
            verbosity: 0,
            progress: Progress::Bars,
            json: false,
            color: anstream::ColorChoice::Auto,
        }
    );
}

#[test]
fn options_may_stand_anywhere() {
    for line in [
        "copy -n a b t",
        "copy a -n b t",
        "copy a b -n t",
        "copy a b t -n",
        "copy -n -- a b t",
    ] {
        let (job, dry_run, _) = copy(line);
        assert!(dry_run, "{line}");
        assert_eq!(job.sources, [Path::new("a"), Path::new("b")], "{line}");
        assert_eq!(job.target, Path::new("t"), "{line}");
    }
    let (job, ..) = copy("copy -- -a -b");
    assert_eq!(job.sources, [Path::new("-a")]);
    assert_eq!(job.target, Path::new("-b"));
}

#[test]
fn every_option_arrives() {
    let (job, dry_run, display) = copy(
        "copy -n -a --io blocking --memory 1GB --bwlimit 200MB/s --special --preserve setid,caps \
         --existing skip --files-from list -0 -vv --progress plain --json --color never s t",
    );
    assert!(dry_run);
    assert_eq!(job.existing, Existing::Skip);
    assert_eq!(
        job.preserve,
        Preserve {
            setid: true,
            caps: true,
            special: true,
        }
    );
    assert!(job.files_from.is_some());
    assert_eq!(
        job.engine,
        EngineSettings {
            io: IoChoice::Blocking,
            memory: 1_000_000_000,
            bwlimit: Some(200_000_000),
            hash_threads: None,
            ..EngineSettings::default()
        }
    );
    assert_eq!(
        display,
        DisplaySettings {
            verbosity: 2,
            progress: Progress::Plain,
            json: true,
            color: anstream::ColorChoice::Never,
        }
    );
    assert_eq!(copy("copy s t --io uring").0.engine.io, IoChoice::Uring);
    assert_eq!(
        copy("copy s t --existing overwrite").0.existing,
        Existing::Overwrite
    );
    let (job, ..) = copy("copy s t --preserve caps");
    assert!(job.preserve.caps && !job.preserve.setid && !job.preserve.special);
    assert_eq!(copy("copy s t --bwlimit 0").0.engine.bwlimit, None);
    assert_eq!(copy("copy s t --verify none").0.verify, Verify::None);
    assert_eq!(copy("copy --verify target s t").0.verify, Verify::Target);
    assert_eq!(copy("copy s t --verify=both").0.verify, Verify::Both);
}

#[test]
fn a_lost_drive_is_waited_for_as_asked() {
    let grace = |line: &str| copy(line).0.engine.grace;
    assert_eq!(grace("copy s t"), Some(Duration::from_secs(60)));
    assert_eq!(grace("copy s t --grace 5m"), Some(Duration::from_secs(300)));
    assert_eq!(grace("copy s t --grace 0"), None);
    for (line, then) in [
        ("resume", Some(Duration::from_secs(60))),
        ("resume --grace 0s", None),
    ] {
        let Ok(Task::Resume { changes, .. }) = task(line) else {
            panic!("{line}");
        };
        let (mut job, ..) = copy("copy s t");
        changes.apply(&mut job);
        assert_eq!(job.engine.grace, then, "{line}");
    }
    assert!(
        misuse("copy s t --grace soon")
            .what
            .contains("--grace soon")
    );
}

#[test]
fn paths_are_bytes() {
    let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let args = [
        raw(b"inhaul"),
        raw(b"copy"),
        raw(b"--exclude=\xff*"),
        raw(b"/mnt/\xfe"),
        raw(b"/t\xff"),
    ];
    let parsed = in_world(&Lists::new(), |world| parse(args.into_iter(), world));
    match parsed {
        Ok(Task::Copy { job, .. }) => {
            assert_eq!(job.sources, [PathBuf::from(raw(b"/mnt/\xfe"))]);
            assert_eq!(job.target, PathBuf::from(raw(b"/t\xff")));
        }
        other => panic!("{other:?}"),
    }
}
