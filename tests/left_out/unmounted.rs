//! A drive that went on the way leaves the folder that it was mounted at: that is no source.

use crate::bench::{Two, with};
use crate::support::can_mount;

#[test]
fn what_a_copy_was_asked_for_is_not_passed_over_when_it_cannot_be_read() {
    if !can_mount("what_a_copy_was_asked_for_is_not_passed_over_when_it_cannot_be_read") {
        return;
    }
    let mut two = Two::new();
    two.die();
    two.copy(3);
    two.sick.heal();
    two.sick.unmount();
    let recipe = two.target().join(".inhaul/current/job.json");
    let good = std::fs::read_to_string(&recipe).unwrap();
    let later = good.replacen("\"version\": 1", "\"version\": 2", 1);
    for (bad, why) in [
        (&good[..good.len() / 2], "no description of a job"),
        (&later, "another version of inhaul"),
    ] {
        std::fs::write(&recipe, bad).unwrap();
        two.copy(6).says("job.json").says(why).says("move it away");
        assert!(!two.is_finished());
        assert_eq!(std::fs::read_to_string(&recipe).unwrap(), bad);
    }
    // What it says is lost then, by the user's will; it is written anew.
    let away = two.scratch.join("away");
    rustix::fs::rename(&recipe, &away).unwrap();
    with(&[&"copy", &two.a(), &two.target()], 0);
    assert!(two.is_finished());
    let job = crate::support::program::job(&two.target());
    assert!(job.join("job.json").exists());
}
