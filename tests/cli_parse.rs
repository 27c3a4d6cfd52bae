//! Command lines and what they mean.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use inhaul::cli::args::{Cli, Command};
use inhaul::cli::changes::Changes;
use inhaul::cli::resolve::{DisplaySettings, Misuse, Progress, Surroundings, Task, rules};
use inhaul::cli::{Rejected, parse};
use inhaul::engine::job::{CopyJob, EngineSettings, Existing, IoChoice, Preserve, Verify};
use inhaul::scan::Rule;

/// Lists that can be read, by name.
type Lists<'a> = BTreeMap<&'a str, &'a [u8]>;

fn in_world<T>(lists: &Lists<'_>, run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let mut read = |path: &Path| {
        let list = path.to_str().and_then(|name| lists.get(name));
        list.map(|bytes| bytes.to_vec())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    run(&mut Surroundings {
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        read: &mut read,
    })
}

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("inhaul")
        .chain(line.split_whitespace())
        .map(OsString::from)
        .collect()
}

fn task(line: &str) -> Result<Task, Rejected> {
    let lists = Lists::from([("list", &b"a\nb\n"[..]), ("-", b"c\n")]);
    in_world(&lists, |world| parse(words(line).into_iter(), world))
}

fn copy(line: &str) -> (CopyJob, bool, DisplaySettings) {
    match task(line) {
        Ok(Task::Copy {
            job,
            dry_run,
            display,
        }) => (job, dry_run, display),
        other => panic!("{line}: {other:?}"),
    }
}

fn misuse(line: &str) -> Misuse {
    match task(line) {
        Err(Rejected::Misuse(misuse)) => misuse,
        other => panic!("{line}: {other:?}"),
    }
}

fn clap_code(line: &str) -> i32 {
    match task(line) {
        Err(Rejected::Clap(error)) => error.exit_code(),
        other => panic!("{line}: {other:?}"),
    }
}

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
fn progress_goes_where_it_can_be_seen() {
    let cases = [
        // (stdout, stderr are terminals, options, progress)
        (true, true, "", Progress::Bars),
        (true, false, "", Progress::Plain),
        (false, true, "", Progress::Bars),
        (true, true, "-q", Progress::None),
        (true, true, "-q -v", Progress::Bars),
        (true, true, "-q -P", Progress::None),
        (true, true, "--json", Progress::None),
        (false, true, "--json", Progress::Bars),
        (true, false, "--json", Progress::None),
        (true, true, "--json -P", Progress::Bars),
        (true, true, "--progress plain", Progress::Plain),
        (true, true, "--progress none", Progress::None),
        (true, false, "-P", Progress::Plain),
    ];
    for (stdout, stderr, options, progress) in cases {
        let mut read = |_: &Path| Ok(Vec::new());
        let mut world = Surroundings {
            stdout_is_terminal: stdout,
            stderr_is_terminal: stderr,
            read: &mut read,
        };
        let line = format!("verify /t {options}");
        match parse(words(&line).into_iter(), &mut world) {
            Ok(Task::Verify { display, .. }) => assert_eq!(display.progress, progress, "{line}"),
            other => panic!("{other:?}"),
        }
    }
}

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

/// Returns the rules of a command line as `+pattern` and `-pattern`.
fn rules_of(args: Vec<OsString>, lists: &Lists<'_>) -> Vec<String> {
    let matches = Cli::command().try_get_matches_from(args).unwrap();
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let inner = matches.subcommand().unwrap().1;
    let (filter, from0) = match &cli.command {
        Command::Copy(args) => (&args.filter, args.from0),
        Command::Hash(args) => (&args.filter, args.from0),
        other => panic!("{other:?}"),
    };
    let found = in_world(lists, |world| rules(filter, from0, inner, world)).unwrap();
    found
        .into_iter()
        .map(|rule| match rule {
            Rule::Include(pattern) => format!("+{}", String::from_utf8_lossy(&pattern)),
            Rule::Exclude(pattern) => format!("-{}", String::from_utf8_lossy(&pattern)),
        })
        .collect()
}

#[test]
fn filter_rules_keep_their_order() {
    let lists = Lists::from([
        ("list", &b"x\n# no\n; no\n\n+ y\n- z\n-w\n#\n"[..]),
        ("nul", b"p\nq\0+ r\0"),
    ]);
    let cases: &[(&str, &[&str])] = &[
        ("copy s t", &[]),
        (
            "copy --include a --exclude b --include c s t",
            &["+a", "-b", "+c"],
        ),
        (
            "copy --exclude b --include a --exclude c s t",
            &["-b", "+a", "-c"],
        ),
        ("copy s --exclude=b t --include=a", &["-b", "+a"]),
        ("copy --exclude -x --include=-- s t", &["--x", "+--"]),
        (
            "copy --exclude 1 --exclude-from list --include 2 s t",
            &["-1", "-x", "+y", "-z", "--w", "+2"],
        ),
        (
            "hash --include 2 --exclude-from nul -0 --exclude 1 p",
            &["+2", "-p\nq", "+r", "-1"],
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(rules_of(words(line), &lists), *expected, "{line}");
    }
}

#[test]
fn what_makes_no_sense_says_what_to_do() {
    let cases = [
        (
            "copy only",
            "there is a SOURCE or a TARGET, but not both: only",
            "inhaul copy SOURCE... TARGET",
        ),
        (
            "copy --delete s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        (
            "copy --delete-after s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        (
            "copy --del s t",
            "--delete is absent on purpose",
            "rsync -a --delete",
        ),
        ("copy --memory 12X s t", "--memory 12X", "512MiB"),
        ("copy --memory 1M s t", "--memory 1M is 1.05 MB", "512MiB"),
        (
            "copy --bwlimit 100 s t",
            "--bwlimit 100",
            "write a number and a unit",
        ),
        (
            "copy --bwlimit fast s t",
            "--bwlimit fast",
            "write a number and a unit",
        ),
        (
            "copy --files-from none s t",
            "--files-from none",
            "can be read",
        ),
        (
            "hash --exclude-from none p",
            "--exclude-from none",
            "can be read",
        ),
        (
            "copy --exclude-from - --files-from - s t",
            "standard input ('-') is named for more than one list",
            "put all lists but one into files",
        ),
        ("resume --memory 1M", "--memory 1M is 1.05 MB", "512MiB"),
        (
            "resume t --bwlimit 100",
            "--bwlimit 100",
            "write a number and a unit",
        ),
        (
            "verify /t --job ../x",
            "--job ../x",
            "a folder in TARGET/.inhaul",
        ),
        (
            "verify /t --job ..",
            "--job ..",
            "a folder in TARGET/.inhaul",
        ),
        ("verify /t --job=", "--job ", "a folder in TARGET/.inhaul"),
    ];
    for (line, what, next) in cases {
        let misuse = misuse(line);
        assert_eq!(misuse.what, what, "{line}");
        assert!(misuse.next.contains(next), "{line}: {}", misuse.next);
        assert!(!misuse.why.is_empty());
    }
    for args in [
        ["inhaul", "copy", "", "t"],
        ["inhaul", "copy", "s", ""],
        ["inhaul", "hash", "p", ""],
        ["inhaul", "copy", "s", "--files-from="],
    ] {
        let args = args.into_iter().map(OsString::from);
        match in_world(&Lists::new(), |world| parse(args, world)) {
            Err(Rejected::Clap(error)) => assert_eq!(error.exit_code(), 2),
            other => panic!("an empty path names nothing: {other:?}"),
        }
    }
}

#[test]
fn what_does_not_parse_is_code_2() {
    for line in [
        "",
        "frobnicate",
        "copy",
        "copy --existing maybe s t",
        "copy --io fast s t",
        "copy --preserve owner s t",
        "copy --verify source s t",
        "copy --verify s t",
        "copy -P --progress none s t",
        "copy --unknown s t",
        "hash",
        "verify",
        "verify a b",
        "resume a b",
        "resume --existing skip a",
        "resume --exclude x a",
        "completions tcsh9",
    ] {
        assert_eq!(clap_code(line), 2, "{line}");
    }
    for line in [
        "--help",
        "-h",
        "--version",
        "copy --help",
        "resume --help",
        "verify -h",
    ] {
        assert_eq!(clap_code(line), 0, "{line}");
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn long_help_states_every_exit_code_and_rule() {
    for command in ["", "copy", "resume", "hash", "verify"] {
        let line = format!("{command} --help");
        let text = match task(&line) {
            Err(Rejected::Clap(error)) => error.render().to_string(),
            other => panic!("{other:?}"),
        };
        for code in [0, 1, 2, 3, 4, 6, 7, 75, 130] {
            let row = format!("\n  {code:<4} ");
            assert!(text.contains(&row), "{line}: {code}");
        }
        assert!(text.contains("64MB = 64,000,000 bytes"), "{line}");
        assert!(!text.contains("--delete-"), "{line}");
    }
    let copy = match task("copy --help") {
        Err(Rejected::Clap(error)) => error.render().to_string(),
        other => panic!("{other:?}"),
    };
    assert!(copy.contains("A slash at the end of a SOURCE means 'the contents of'"));
    assert!(copy.contains("the first that matches decides"));
}
