//! What passes for a source of a copy that is gone on with, and is another.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use support::program::{job, run};
use support::told::Told;
use support::{Scratch, can_mount};

#[test]
fn what_another_machine_has_by_another_name_is_not_gone_on_with() {
    if !can_mount("what_another_machine_has_by_another_name_is_not_gone_on_with") {
        return;
    }
    let scratch = Scratch::new();
    let (point, target) = (scratch.join("nas"), scratch.join("target"));
    let file = |name: &str, bytes: &[u8]| {
        let said = bytes.len().try_into().unwrap();
        Told::new(name, said, bytes.to_vec())
    };
    let copied = target.join("nas/file");
    let bad = || Told::endless("z", b"z".to_vec());
    let first = Told::mount_of_host(&point, "nas1:/x", vec![file("file", b"first"), bad()]);
    run(&[&"copy", &point, &target]).expect(3);
    assert_eq!(std::fs::read(&copied).unwrap(), b"first");
    let begun = job(&target);
    drop(first);
    let other = Told::mount_of_host(&point, "nas2:/y", vec![file("file", b"another")]);
    run(&[&"resume", &target]).expect(6);
    run(&[&"copy", &point, &target]).expect(3);
    assert_eq!(std::fs::read(&copied).unwrap(), b"first");
    drop(other);
    // By its name it is known at another place, whatever its files are by now.
    let elsewhere = scratch.join("elsewhere");
    let files = || vec![file("file", b"first again"), file("z", b"z")];
    let again = Told::mount_of_host(&elsewhere, "nas1:/x", files());
    run(&[&"resume", &begun]).expect(0);
    assert_eq!(std::fs::read(target.join("nas/z")).unwrap(), b"z");
    drop(again);
    assert!(!begun.join("unfinished").exists());
}
