//! One suite over every implementation of the target port, clause by clause; the numbers are
//! those of the contract at `inhaul::target::Target`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../ports/mod.rs"]
mod ports;

mod faults;
mod form;
mod home;
mod names;
mod paths;
mod private;

use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use inhaul::target::{NullTarget, Sealed, Target, Vacancy};
use ports::target::{large, plain, publish, small, write_small};
use ports::{EVERY_FS, Fs, Place, painted};

type Clause = (&'static str, fn(&Place, &Path));

const CLAUSES: [Clause; 19] = [
    (
        "1 nothing visible before publish",
        names::nothing_visible_before_publish,
    ),
    ("1 a file is visible whole", form::sizes_are_exact),
    (
        "2 one answer each, in order",
        names::one_answer_each_in_order,
    ),
    ("2 survives a power cut", names::survives_a_power_cut),
    ("3 a taken name is not replaced", names::taken_names_stay),
    ("3 replacing is atomic", names::replacing_is_atomic),
    (
        "3 replacing by a link is atomic",
        names::replacing_by_a_link_is_atomic,
    ),
    (
        "3 a replaced symlink is not followed",
        names::replaced_symlinks_are_not_followed,
    ),
    (
        "5 a directory is closed until finished",
        private::directories_are_closed_until_finished,
    ),
    (
        "5 a directory that is there is kept",
        private::directories_that_are_there_are_kept,
    ),
    ("6 no symlink is followed", paths::symlinks_are_not_followed),
    ("6 no other mount is entered", paths::mounts_are_not_entered),
    (
        "staged files are private",
        private::staged_files_are_private,
    ),
    ("space is set aside", form::space_is_set_aside),
    ("holes stay holes", form::holes_stay_holes),
    (
        "attributes are the source's",
        form::attributes_are_the_sources,
    ),
    (
        "symlinks and special files",
        form::symlinks_and_special_files,
    ),
    ("discard leaves nothing", private::discard_leaves_nothing),
    ("close clears the stage", private::close_clears_the_stage),
];

fn suite(fs: Fs) {
    // Modes must not owe anything to who runs the tests.
    rustix::process::umask(rustix::fs::Mode::empty());
    let Some(place) = Place::new(fs, 64) else {
        return;
    };
    let mut broken = Vec::new();
    for (number, (clause, test)) in CLAUSES.iter().enumerate() {
        let dir = place.dir(&format!("{number}"));
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        if catch_unwind(AssertUnwindSafe(|| test(&place, &dir))).is_err() {
            broken.push(*clause);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(broken.is_empty(), "{fs:?}: {broken:#?}");
}

#[test]
fn every_file_system_keeps_the_contract() {
    // At the same time: they wait for their media, not for the processor.
    std::thread::scope(|scope| {
        let suites = EVERY_FS.map(|fs| scope.spawn(move || suite(fs)));
        let broken: Vec<_> = suites
            .into_iter()
            .filter_map(|suite| suite.join().err())
            .collect();
        assert!(broken.is_empty(), "see above");
    });
}

#[test]
fn the_target_that_forgets_answers_as_the_others() {
    let target = NullTarget;
    assert!(target.make_dir(b"dir").unwrap());
    let mut stager = target.stager("test").unwrap();
    assert_eq!(stager.vacancy(b"dir/name").unwrap(), Vacancy::Free);
    let first = small(stager.as_mut(), "one", b"bytes", false);
    let second = large(stager.as_mut(), "two", &painted(1, 5000), false);
    let (third, _) = stager
        .symlink(b"text", b"three".to_vec(), false, &plain(0))
        .unwrap();
    let fourth = Sealed::link(b"one".to_vec(), b"four".to_vec(), true, None);
    assert_eq!(second.target_path, b"two");
    publish(&target, &[first, second, third, fourth]);
    assert!(target.publish(&[]).is_empty());
    let staged = write_small(stager.as_mut(), "gone", b"bytes");
    assert!(staged.file.is_none());
    stager.discard(staged);
    target.finish_dir(b"dir", &plain(0o700)).unwrap();
    target.close(false).unwrap();
}
