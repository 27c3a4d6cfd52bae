//! Benches that are stopped or killed.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use inhaul::bench::{BenchJob, BenchSession, Watcher, bench};
use inhaul::engine::job::IoChoice;
use rustix::process::Signal;

use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Ran, Running, inhaul};
use crate::support::{self, Scratch, can_mount, need_root, need_tools, tool, wait_for};
use crate::{Device, check_measure, check_rate, document, filled, listing};

#[test]
fn a_stop_leaves_the_results_so_far() {
    let test = "a_stop_leaves_the_results_so_far";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let devices = ["one", "two"].map(|name| Device::new(&scratch, name, 8, &[]));
    let running = Running::start(inhaul(&[
        &"bench",
        &"--seconds",
        &"0.3",
        &"--json",
        &"--progress",
        &"plain",
        &devices[0].0,
        &devices[1].0,
    ]));
    let second = format!("{} (2 of 2): looking", devices[1].name());
    let told = running.stderr_file();
    wait_for("the second drive", || {
        let text = support::program::so_far(&told);
        String::from_utf8_lossy(&text)
            .contains(&second)
            .then_some(())
    });
    running.signal(Signal::INT);
    let ran = running.finish().expect(75);
    let document = document(&ran);
    assert_eq!(document["complete"], false);
    check_measure(&document["subjects"][0]["read"]);
    assert!(document["subjects"][1]["read"].is_null());
    assert!(document["together"].is_null());
}

#[test]
fn a_killed_bench_leaves_no_file_and_takes_no_room() {
    let test = "a_killed_bench_leaves_no_file_and_takes_no_room";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 400);
    filled(mounted.path());
    tool("sync", &["-f", mounted.path().to_str().unwrap()]);
    let (before, free) = (listing(mounted.path()), mounted.free());
    let mut running = Running::start(inhaul(&[
        &"bench",
        &"--write",
        &"--scratch",
        &"100MiB",
        &"--seconds",
        &"0.2",
        &"--progress",
        &"plain",
        &mounted.path(),
    ]));
    let told = running.stderr_file();
    wait_for("the writing", || {
        let text = support::program::so_far(&told);
        let writes = String::from_utf8_lossy(&text).contains("writing to a scratch file");
        // Until it holds space that nobody sees a name for.
        (writes && mounted.free() < free).then_some(())
    });
    assert!(running.alive());
    running.signal(Signal::KILL);
    running.finish().expect(137);
    assert_eq!(listing(mounted.path()), before);
    wait_for("the room", || (mounted.free() >= free).then_some(()));
}

/// Starts a bench, stops it in order once it says that it does `what`, and returns how it ended.
fn stopped_while(what: &str, args: &[&dyn AsRef<OsStr>]) -> Ran {
    let first: [&dyn AsRef<OsStr>; 4] = [&"bench", &"--json", &"--progress", &"plain"];
    let all: Vec<&dyn AsRef<OsStr>> = first.into_iter().chain(args.iter().copied()).collect();
    let running = Running::start(inhaul(&all));
    let told = running.stderr_file();
    wait_for(what, || {
        let text = support::program::so_far(&told);
        String::from_utf8_lossy(&text).contains(what).then_some(())
    });
    running.signal(Signal::INT);
    running.finish()
}

#[test]
fn a_stop_within_a_figure_leaves_none_of_few_samples() {
    let test = "a_stop_within_a_figure_leaves_none_of_few_samples";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 8, &[]);
    let reading = format!("{} (1 of 1): reading, ", device.name());
    let ran = stopped_while(&reading, &[&"--seconds", &"4", &device.0]).expect(75);
    let document = document(&ran);
    assert_eq!(document["complete"], false);
    let subject = &document["subjects"][0];
    assert!(!subject["knee"].is_null(), "found before");
    assert!(subject["read"].is_null(), "{subject}");
    let warnings = subject["warnings"].to_string();
    assert!(warnings.contains("it has no figure"), "{warnings}");
}

#[test]
fn a_stop_in_any_part_leaves_what_was_measured_and_no_file() {
    let test = "a_stop_in_any_part_leaves_what_was_measured_and_no_file";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 24, &["--read-only"]);
    let source = Mounted::image(&scratch, "source", Fs::Ext4, 220);
    filled(source.path());
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 220);
    let (before, there) = (listing(source.path()), listing(target.path()));
    // What is begun, and which figures are whole by then: of reading, of writing, of both at once.
    for (what, whole) in [
        ("looking for its queue depth", [false; 4]),
        ("writing to a scratch file", [true, false, false, false]),
        ("1 of 2 drives at once", [true, true, false, false]),
        ("writing to the target", [true, true, true, false]),
        ("all sources into the target, hashed", [true; 4]),
    ] {
        let args: [&dyn AsRef<OsStr>; 11] = [
            &"--seconds",
            &"0.1",
            &"--repetitions",
            &"12",
            &"--write",
            &"--scratch",
            &"48MiB",
            &"--target",
            &target.path(),
            &source.path(),
            &device.0,
        ];
        let document = document(&stopped_while(what, &args).expect(75));
        assert_eq!(document["complete"], false, "{what}");
        let subject = &document["subjects"][0];
        let found = [
            &subject["read"],
            &subject["write"],
            &document["together"]["steps"][1],
            &document["pair"]["write"],
        ];
        assert_eq!(found.map(|figure| !figure.is_null()), whole, "{what}");
        for figure in found.into_iter().filter(|figure| !figure.is_null()) {
            check_rate(figure);
        }
        assert!(document["pair"]["hashed"].is_null(), "{what}");
        // A stop is nobody's failure.
        for part in [&document["pair"], &document["together"], subject] {
            assert!(part["error"].is_null(), "{what}: {part}");
        }
        assert_eq!(listing(source.path()), before, "{what}");
        assert_eq!(listing(target.path()), there, "{what}");
    }
}

/// Hears nothing.
#[derive(Debug)]
struct Deaf;

impl Watcher for Deaf {
    fn begun(&self, _: &Arc<AtomicU64>) {}
    fn part(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn ended(&self) {}
}

#[test]
fn a_stop_before_the_first_look_is_no_refusal() {
    let scratch = Scratch::new();
    let job = BenchJob {
        // Too little to measure: refused, if it were looked at.
        paths: vec![scratch.path().to_owned()],
        target: None,
        write: false,
        scratch_bytes: 16 << 20,
        seconds: 0.1,
        repetitions: 3,
        block: None,
        depth: None,
        stall: None,
        together: true,
        io: IoChoice::Blocking,
        memory: 64 << 20,
    };
    let session = BenchSession {
        stop: Arc::new(AtomicBool::new(true)),
        watcher: Arc::new(Deaf),
    };
    let report = bench(&job, &session).unwrap();
    assert!(!report.complete && report.subjects.is_empty(), "{report:?}");
}
