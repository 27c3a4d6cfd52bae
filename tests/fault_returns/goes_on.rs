//! What is gone on with, when, and in which targets.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, FILES, LARGE, is_gone};
use crate::drive::Drive;
use crate::support::extents::place;
use crate::support::judge::{b3sum_agrees, same_bytes};
use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, inhaul, report};
use crate::support::{can_mount, need_tools, tree, wait_for};

#[test]
fn a_drive_that_is_put_back_is_gone_on_with() {
    if !can_mount("a_drive_that_is_put_back_is_gone_on_with") {
        return;
    }
    for verify in ["none", "both"] {
        let mut bench = Bench::new();
        let running = bench.start(&["--verify", verify]);
        let before = bench.pulled.counts().reads;
        bench.pulled.mount();
        let ran = running.finish();
        bench.check(&ran);
        assert!(bench.pulled.counts().reads > before);
        if verify == "both" {
            let evidence = &report(&bench.target())["lanes"][0]["evidence"];
            assert_eq!(evidence["source_read_twice"], FILES as u64 + 1);
        }
    }
}

#[test]
fn a_drive_that_is_put_back_waits_for_no_other() {
    if !can_mount("a_drive_that_is_put_back_waits_for_no_other") {
        return;
    }
    for io in ["uring", "blocking"] {
        let mut bench = Bench::busy();
        let running = bench.start(&["--io", io, "--stall-timeout=0"]);
        let large = bench.target().join("e/large");
        bench.pulled.mount();
        let healing = bench.stays.healing();
        let last = ["d/z-large", "d/z-linked", "d/small/004/000299"];
        wait_for("all of it", || {
            let there = last.iter().all(|name| bench.target().join(name).exists());
            there.then_some(())
        });
        assert!(!large.exists(), "the other was not waited for");
        drop(healing);
        let ran = running.finish();
        bench.check(&ran);
        same_bytes(&bench.stays.join("e/large"), &large);
    }
}

#[test]
fn with_further_targets_it_is_gone_on_with_in_each() {
    if !can_mount("with_further_targets_it_is_gone_on_with_in_each") {
        return;
    }
    for is_full in [false, true] {
        let mut bench = Bench::new();
        // Of three things each of which has most of a target, no two are in one.
        tree::paint(&bench.stays.join("e/large"), 10, LARGE);
        let image = |name: &str, mib: u64| {
            let image = bench.lab.join(format!("{name}.img"));
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(mib << 20).unwrap();
            Mounted::make(&bench.lab.join(name), &image, Fs::Ext4, "noatime")
        };
        let targets = [image("first", 64), image("second", 128)];
        let spill = format!("--spill={}", targets[1].path().display());
        let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
        let first = targets[0].path().to_owned();
        let args: [&dyn AsRef<OsStr>; 6] = [&"copy", &"--json", &spill, &pulled, &stays, &first];
        bench.stays.set_delay(Duration::from_millis(5));
        let running = Running::start(inhaul(&args));
        if is_full {
            let next = targets[1].join(".inhaul");
            wait_for("the next target", || next.exists().then_some(()));
            let before = bench.pulled.counts().reads;
            wait_for("reads", || {
                (bench.pulled.counts().reads >= before + 8).then_some(())
            });
        } else {
            let before = bench.pulled.counts().reads;
            wait_for("reads", || {
                (bench.pulled.counts().reads >= before + 24).then_some(())
            });
        }
        bench.pull(&running);
        bench.pulled.mount();
        let ran = running.finish();
        assert_eq!(ran.code, 0, "{}{}", ran.out(), ran.err());
        let mut names = vec!["e/large".to_owned(), "e/file".to_owned()];
        names.extend(["a-large", "z-large", "z-linked"].map(|name| format!("d/{name}")));
        names.extend((0..FILES - 2).map(|n| format!("d/small/{:03}/{n:06}", n / 64)));
        let mut counts = [0, 0];
        for name in &names {
            let there: Vec<usize> = (0..2).filter(|&n| targets[n].join(name).exists()).collect();
            assert_eq!(there.len(), 1, "{name} is in {there:?}");
            let source = match name.strip_prefix("d/") {
                Some(name) => bench.pulled.join("d").join(name),
                None => bench.stays.join(name),
            };
            same_bytes(&source, &targets[there[0]].join(name));
            counts[there[0]] += 1;
        }
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        for (target, count) in targets.iter().zip(counts) {
            b3sum_agrees(target.path(), count);
        }
        let report = report(targets[1].path());
        assert_eq!(report["problem_count"], 0, "{report}");
        let totals = &report["lanes"][0]["totals"];
        let files = [&totals["files"], &totals["kept"], &totals["others"]];
        assert_eq!(files, [FILES as u64, 0, 1], "each counts once: {totals}");
        let is_well = |lane: &Value| lane["safe_to_release"] == true;
        assert!(report["lanes"].as_array().unwrap().iter().all(is_well));
    }
}

#[test]
fn a_drive_that_hung_and_is_put_back_is_gone_on_with() {
    if !can_mount("a_drive_that_hung_and_is_put_back_is_gone_on_with") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start_with(&["--stall-timeout=1s"], Bench::hang);
    bench.pulled.mount();
    bench.check(&running.finish());
}

#[test]
fn a_drive_that_lacks_bad_spots_alone_is_not_waited_for_when_it_is_back() {
    let test = "a_drive_that_lacks_bad_spots_alone_is_not_waited_for_when_it_is_back";
    if !can_mount(test) || !need_tools(test, &["filefrag"]) {
        return;
    }
    for is_large in [true, false] {
        let mut bench = Bench::new();
        let bad = bench.pulled.join("d/bad");
        if !is_large {
            std::fs::remove_dir_all(bench.pulled.join("d")).unwrap();
            std::fs::create_dir(bench.pulled.join("d")).unwrap();
            for (seed, name) in (1..).zip(["a-large", "z-large"]) {
                tree::paint(&bench.pulled.join("d").join(name), seed, 3000);
            }
        }
        tree::paint(&bad, 7, 64 << 10);
        bench.pulled.remount();
        let from = place(&bad, 0);
        let spoil = |bench: &Bench| bench.pulled.fail_reads(from..from + (64 << 10));
        spoil(&bench);
        bench.pulled.set_delay(Duration::from_millis(20));
        let running = bench.start_with(&["--grace=6s"], |bench, running| {
            // It is looked at closer when everything else is copied.
            let there = ["z-large", "z-linked", "small/004/000299"];
            let there = if is_large { &there[..] } else { &there[..1] };
            wait_for("the rest of it", || {
                let there = there
                    .iter()
                    .all(|it| bench.target().join("d").join(it).exists());
                there.then_some(())
            });
            bench.pull(running);
        });
        spoil(&bench);
        bench.pulled.mount();
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        assert_eq!(report["problems"][0]["kind"], "source-read");
        assert_eq!(report["problems"][0]["unreadable"]["bytes"], 64 << 10);
        let lane = &report["lanes"][0];
        assert_eq!(lane["health"], "suspect", "{lane}");
        assert_eq!(lane["state"], "done", "{lane}");
        assert_eq!(report["lanes"][1]["safe_to_release"], true);
    }
}

#[test]
fn nothing_is_gone_on_with_before_what_was_read_is_acknowledged() {
    if !can_mount("nothing_is_gone_on_with_before_what_was_read_is_acknowledged") {
        return;
    }
    let mut bench = Bench::new();
    let under = Drive::new(&bench.lab.join("under"), Fs::Ext4, 128);
    let (pulled, stays) = (bench.pulled.join("d"), bench.stays.join("e"));
    let target = bench.target();
    let options: [&dyn AsRef<OsStr>; 3] = [&"copy", &"--json", &"--stall-timeout=0"];
    let places: [&dyn AsRef<OsStr>; 3] = [&pulled, &stays, &target];
    let running = Running::start(inhaul(&[options, places].concat()));
    // What is whole waits there for its batch to close.
    let staged = || -> usize {
        let jobs = std::fs::read_dir(target.join(".inhaul")).into_iter();
        let stages = jobs.flatten().flatten().map(|job| job.path().join("stage"));
        let writers =
            stages.flat_map(|stage| (0..4).map(move |n| stage.join(format!("writer-{n}"))));
        writers
            .flat_map(std::fs::read_dir)
            .map(Iterator::count)
            .sum()
    };
    wait_for("files", || (staged() >= 20).then_some(()));
    bench.pulled.die();
    is_gone(&running, 1);
    under.hang();
    let healing = under.healing();
    let are_on_their_way = staged() > 0;
    // (It is held until all of it is acknowledged, so its mount goes away later.)
    bench.pulled.unmount();
    bench.pulled.heal();
    bench.pulled.mount();
    let tasks = format!("/proc/{}/task", running.pid().as_raw_nonzero());
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let is_read = tasks.any(|task| name(task).is_ok_and(|name| name.trim() == "ready"));
        assert!(
            !(is_read && are_on_their_way),
            "its journal is read too early"
        );
    }
    drop(healing);
    bench.check(&running.finish());
}
