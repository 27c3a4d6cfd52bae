//! What resume, hash and verify are asked for.

use std::path::Path;

use inhaul::cli::changes::Changes;
use inhaul::cli::resolve::Task;
use inhaul::engine::job::{EngineSettings, IoChoice, Verify};

use crate::{copy, task};

#[test]
fn resume_changes_nothing_unasked() {
    match task("resume") {
        Ok(Task::Resume { job, changes, .. }) => {
            assert_eq!(job, None);
            assert_eq!(changes, Changes::default());
        }
        other => panic!("{other:?}"),
    }
    let line =
        "resume /tank/in --verify both --io blocking --memory 64M --bwlimit 0 -v --no-history";
    match task(line) {
        Ok(Task::Resume {
            job,
            changes,
            display,
        }) => {
            assert_eq!(job.as_deref(), Some(Path::new("/tank/in")));
            let expected = Changes {
                verify: Some(Verify::Both),
                io: Some(IoChoice::Blocking),
                memory: Some(67_108_864),
                bwlimit: Some(None),
                no_history: true,
                ..Changes::default()
            };
            assert_eq!(changes, expected);
            assert_eq!(display.verbosity, 1);

            let (mut job, ..) = copy("copy s t --bwlimit 1MB --memory 1GB --verify target");
            let before = job.clone();
            Changes::default().apply(&mut job);
            assert_eq!((job.verify, &job.engine), (before.verify, &before.engine));
            changes.apply(&mut job);
            assert_eq!(job.verify, Verify::Both);
            let engine = EngineSettings {
                io: IoChoice::Blocking,
                memory: 67_108_864,
                bwlimit: None,
                hash_threads: None,
                history: false,
                ..EngineSettings::default()
            };
            assert_eq!(job.engine, engine);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_bench_found_is_left_aside_when_asked() {
    for (option, used) in [("", true), (" --no-history", false)] {
        assert_eq!(copy(&format!("copy s t{option}")).0.engine.history, used);
        let Ok(Task::Hash { job, .. }) = task(&format!("hash s{option}")) else {
            panic!("hash{option}");
        };
        assert_eq!(job.engine.history, used);
        let Ok(Task::Verify { job, .. }) = task(&format!("verify t{option}")) else {
            panic!("verify{option}");
        };
        assert_eq!(job.engine.history, used);
        let Ok(Task::Resume { changes, .. }) = task(&format!("resume{option}")) else {
            panic!("resume{option}");
        };
        let (mut job, ..) = copy("copy s t");
        changes.apply(&mut job);
        assert_eq!(job.engine.history, used);
    }
}

#[test]
fn hash_and_verify_have_their_own_jobs() {
    match task("hash a b --memory 64M --exclude *.tmp") {
        Ok(Task::Hash { job, .. }) => {
            assert_eq!(job.paths, [Path::new("a"), Path::new("b")]);
            assert_eq!(job.engine.memory, 67_108_864);
        }
        other => panic!("{other:?}"),
    }
    match task("verify /t --job 2026-11-24") {
        Ok(Task::Verify { job, .. }) => {
            assert_eq!(job.target, Path::new("/t"));
            assert_eq!(job.job.as_deref(), Some("2026-11-24"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(task("man"), Ok(Task::Man)));
    assert!(matches!(
        task("completions zsh"),
        Ok(Task::Completions(clap_complete::Shell::Zsh))
    ));
}
