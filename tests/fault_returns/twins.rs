//! An image of the drive that is pulled is not that drive put back.

use crate::bench::{Bench, is_gone, source_is_gone};
use crate::drive::Drive;
use crate::support::can_mount;
use crate::support::mounts::Fs;
use crate::support::program::{Ran, report};
use crate::support::tree;

/// Returns an image of the drive that is pulled, mounted, which lacks its last file and has a folder
/// `more`.
fn twin_of(bench: &mut Bench) -> Drive {
    bench.pulled.unmount();
    let image = bench.lab.join("twin.img");
    std::fs::copy(bench.lab.join("pulled/fuse/disk"), &image).unwrap();
    bench.pulled.mount();
    let mut twin = Drive::with_image(&bench.lab.join("twin"), Fs::Ext4, &image);
    std::fs::remove_file(twin.join("d/z-large")).unwrap();
    std::fs::create_dir(twin.join("more")).unwrap();
    tree::paint(&twin.join("more/file"), 20, 12_000_000);
    twin.remount();
    twin
}

/// Checks that nothing of the twin was taken for the drive, which counts as gone.
fn check(bench: &Bench, ran: &Ran) {
    let report = report(&bench.target());
    assert_eq!(report["problems"][0]["kind"], "source-lost", "{report}");
    assert_eq!(report["lanes"][0]["health"], "gone");
    assert_eq!(report["lanes"][0]["safe_to_release"], false);
    assert_eq!(report["lanes"][1]["safe_to_release"], true);
    let events = ran.events();
    let pulled = bench.pulled.join("d").display().to_string();
    let told = events.iter().filter(|it| it["sources"][0] == *pulled);
    let back = told.filter(|it| it["type"] == "health" && it["health"] == "suspect");
    assert_eq!(back.count(), 0, "{}", ran.out());
    for late in ["z-large", "z-linked"] {
        assert!(!bench.target().join("d").join(late).exists(), "{late}");
    }
}

#[test]
fn an_image_that_stays_mounted_is_not_the_drive_put_back() {
    if !can_mount("an_image_that_stays_mounted_is_not_the_drive_put_back") {
        return;
    }
    for is_named in [false, true] {
        let mut bench = Bench::new();
        let twin = twin_of(&mut bench);
        let more = twin.join("more").display().to_string();
        let options = ["--grace=3s", &more];
        let running = bench.start(&options[..if is_named { 2 } else { 1 }]);
        let ran = running.finish().expect(3);
        check(&bench, &ran);
        let report = report(&bench.target());
        assert_eq!(report["problem_count"], 1, "{report}");
        let why = report["problems"][0]["reason"].as_str().unwrap();
        assert_eq!(why.contains("nothing tells"), is_named, "{why}");
        if is_named {
            assert_eq!(report["lanes"][2]["safe_to_release"], true, "{report}");
        }
    }
}

#[test]
fn beside_an_image_that_stays_mounted_the_drive_is_gone_on_with() {
    if !can_mount("beside_an_image_that_stays_mounted_the_drive_is_gone_on_with") {
        return;
    }
    let mut bench = Bench::new();
    let _twin = twin_of(&mut bench);
    let running = bench.start(&["--grace=60s"]);
    bench.pulled.mount();
    bench.check(&running.finish());
}

#[test]
fn of_two_images_that_are_pulled_the_one_that_comes_first_is_not_the_other() {
    if !can_mount("of_two_images_that_are_pulled_the_one_that_comes_first_is_not_the_other") {
        return;
    }
    let mut bench = Bench::new();
    let mut twin = twin_of(&mut bench);
    twin.set_delay(std::time::Duration::from_millis(300));
    let more = twin.join("more").display().to_string();
    let running = bench.start_with(&["--grace=3s", &more], |bench, running| {
        twin.die();
        bench.let_die(running, 1);
        // By its own event: the end of the other's lane says "gone" a second time.
        source_is_gone(running, &more);
        twin.unmount();
        bench.pulled.unmount();
        twin.heal();
        twin.mount();
    });
    is_gone(&running, 2);
    let ran = running.finish().expect(3);
    check(&bench, &ran);
    let report = report(&bench.target());
    assert_eq!(report["problem_count"], 2, "{report}");
    assert_eq!(report["lanes"][2]["safe_to_release"], false, "{report}");
}
