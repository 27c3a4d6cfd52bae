//! Benches that are stopped or killed.

use rustix::process::Signal;

use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, inhaul};
use crate::support::{Scratch, can_mount, need_root, need_tools, tool, wait_for};
use crate::{Device, check_measure, document, filled, listing};

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
