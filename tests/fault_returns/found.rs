//! Which drive is taken for the one that went, and what does not keep it from being found.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use crate::bench::{Aside, Bench, Bound, is_gone, paint};
use crate::drive::Drive;
use crate::support::mounts::{Fs, Mounted, quietly};
use crate::support::program::report;
use crate::support::{can_mount, need_tools, tool, wait_for};

#[test]
fn another_disk_in_its_place_is_never_taken() {
    if !can_mount("another_disk_in_its_place_is_never_taken") {
        return;
    }
    // Only the other one comes, and then the right one as well, at another place.
    for comes in [false, true] {
        let mut bench = Bench::new();
        let grace = if comes { "--grace=60s" } else { "--grace=2s" };
        let running = bench.start(&[grace]);
        let image = bench.lab.join("other.img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(72 << 20).unwrap();
        let place = bench.pulled.path().to_owned();
        let other = Mounted::make(&place, &image, Fs::Ext4, "noatime");
        paint(&other.join("d"), 100);
        if comes {
            bench.pulled.mount_at(&bench.lab.join("elsewhere"));
            let ran = running.finish();
            bench.check(&ran);
            continue;
        }
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        assert_eq!(report["problems"][0]["kind"], "source-lost");
        assert_eq!(report["lanes"][0]["health"], "gone");
        assert_eq!(report["lanes"][1]["safe_to_release"], true);
        let copy = bench.target().join("d/z-large");
        assert!(!copy.exists(), "it was read from another disk");
        drop(other);
    }
}

#[test]
fn what_gives_nothing_is_not_the_drive_put_back() {
    if !can_mount("what_gives_nothing_is_not_the_drive_put_back") {
        return;
    }
    for busy in [false, true] {
        let mut bench = if busy { Bench::busy() } else { Bench::new() };
        let running = bench.start_with(&["--grace=60s", "--stall-timeout=0"], |bench, running| {
            bench.let_die(running, 1);
        });
        let healing = bench.stays.healing();
        // The dead drive is mounted there once more: the same file system, and it gives nothing.
        let point = bench.pulled.path().to_owned();
        assert!(quietly("mount", &[Path::new("--bind"), &point, &point]));
        is_gone(&running, 2);
        bench.is_let_go(&running);
        // Whoever looks for the drive may have it open just now.
        wait_for("the second mount to go", || {
            quietly("umount", &[&point]).then_some(())
        });
        bench.pulled.unmount();
        bench.pulled.heal();
        bench.pulled.mount();
        let last = bench.target().join("d/z-large");
        wait_for("the rest of it", || last.exists().then_some(()));
        drop(healing);
        let ran = running.finish();
        bench.check(&ran);
    }
}

#[test]
fn when_only_what_gives_nothing_comes_the_time_is_over_once() {
    if !can_mount("when_only_what_gives_nothing_comes_the_time_is_over_once") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start_with(&["--grace=4s"], |bench, running| bench.let_die(running, 1));
    let point = bench.pulled.path().to_owned();
    assert!(quietly("mount", &[Path::new("--bind"), &point, &point]));
    let ran = running.finish();
    quietly("umount", &[&point]);
    let ran = ran.expect(3);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 1, "{}", ran.out());
    assert_eq!(report["problems"][0]["kind"], "source-lost");
    assert_eq!(report["lanes"][0]["health"], "gone");
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    assert_eq!(report["lanes"][1]["safe_to_release"], true);
}

#[test]
fn what_cannot_be_gone_on_with_is_the_problem_of_its_drive_alone() {
    if !can_mount("what_cannot_be_gone_on_with_is_the_problem_of_its_drive_alone") {
        return;
    }
    for hangs in [false, true] {
        let mut bench = Bench::new();
        let options = ["--grace=12s", "--stall-timeout=1s"];
        let running = if hangs {
            bench.start_with(&options, Bench::hang)
        } else {
            bench.start(&options)
        };
        let _aside = Aside::put(&bench.target());
        bench.pulled.mount();
        let ran = running.finish().expect(3);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{}", ran.out());
        let problem = &report["problems"][0];
        let kind = if hangs {
            "source-stalled"
        } else {
            "source-lost"
        };
        assert_eq!(problem["kind"], kind);
        let reason = problem["reason"].as_str().unwrap();
        assert!(reason.contains("could not be gone on with"), "{reason}");
        let safe = [0, 1].map(|lane| report["lanes"][lane]["safe_to_release"] == true);
        assert_eq!(safe, [false, true], "{report}");
    }
}

#[test]
fn what_cannot_be_gone_on_with_yet_is_tried_again() {
    if !can_mount("what_cannot_be_gone_on_with_yet_is_tried_again") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start(&[]);
    let aside = Aside::put(&bench.target());
    bench.pulled.mount();
    running.until_told("cannot be gone on with yet");
    aside.put_back();
    bench.check(&running.finish());
}

#[test]
fn a_mount_that_hangs_keeps_no_other_drive_from_being_found() {
    if !can_mount("a_mount_that_hangs_keeps_no_other_drive_from_being_found") {
        return;
    }
    let mut bench = Bench::new();
    let hung = Drive::new(&bench.lab.join("hung"), Fs::Ext4, 40);
    let running = bench.start(&["--grace=600s"]);
    // Whoever looks for the drive where it was is held until the other one is healed.
    let bound = Bound::new(&bench.lab.join("hung/fuse"), bench.pulled.path());
    hung.hang();
    let healing = hung.healing();
    std::thread::sleep(Duration::from_secs(1));
    bench.pulled.mount_at(&bench.lab.join("elsewhere"));
    let last = bench.target().join("d/z-large");
    wait_for("the rest of it", || last.exists().then_some(()));
    drop(healing);
    bench.check(&running.finish());
    drop(bound);
}

#[test]
fn what_fails_at_its_first_folder_is_not_the_drive_put_back() {
    if !can_mount("what_fails_at_its_first_folder_is_not_the_drive_put_back") {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start(&["--grace=60s"]);
    running.signal(rustix::process::Signal::STOP);
    bench.pulled.mount();
    // Its root and the source are known to the kernel by then, and what is in them is not.
    std::fs::metadata(bench.pulled.join("d")).unwrap();
    bench.pulled.die();
    running.signal(rustix::process::Signal::CONT);
    running.until_told("it is back at");
    is_gone(&running, 2);
    bench.is_let_go(&running);
    wait_for("the dead mount to go", || {
        quietly("umount", &[bench.pulled.path()]).then_some(())
    });
    bench.pulled.unmount();
    bench.pulled.heal();
    bench.pulled.mount();
    bench.check(&running.finish());
}

/// A dead drive with FAT may look like that: its kernel tells of no error.
#[test]
fn what_lists_nothing_is_not_the_drive_put_back() {
    let test = "what_lists_nothing_is_not_the_drive_put_back";
    if !can_mount(test) || !need_tools(test, &["unshare"]) {
        return;
    }
    let mut bench = Bench::new();
    let running = bench.start_with(&["--grace=6s"], |bench, running| bench.let_die(running, 1));
    bench.is_let_go(&running);
    bench.pulled.unmount();
    bench.pulled.heal();
    // The same file system and folder, with nothing in it; emptied where nobody else sees the mount.
    let disk = bench.lab.join("pulled/fuse/disk");
    let script = "mount -o loop \"$1\" \"$2\" && rm -r \"$2\"/d/* && umount \"$2\"";
    let args = [
        OsStr::new("-m"),
        "sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
    ];
    let of_it = [
        "sh".as_ref(),
        disk.as_os_str(),
        bench.pulled.path().as_os_str(),
    ];
    tool("unshare", &[&args[..], &of_it[..]].concat());
    bench.pulled.mount();
    let ran = running.finish().expect(3);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 1, "{}", ran.out());
    assert_eq!(report["problems"][0]["kind"], "source-lost");
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    assert_eq!(report["lanes"][1]["safe_to_release"], true);
}
