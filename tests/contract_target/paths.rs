//! No call follows a symlink below the target or enters another mount (clause 6).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use inhaul::error::ErrorKind;
use inhaul::target::{Sealed, Target, Vacancy};

use super::ports::looking::{self, Tree, staged};
use super::ports::target::{open, plain, planted, publish, small, stager};
use super::ports::{Cover, Place};

/// A directory that nothing may touch, with a file in it.
fn precious(dir: &Path, name: &str) -> Tree {
    let outside = dir.join(name);
    std::fs::write(outside.join("file"), b"precious").unwrap();
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o777)).unwrap();
    looking::tree(&outside)
}

/// Makes every call there is on paths that lead through `via`.
fn refuses(dir: &Path, via: &str, kinds: &[ErrorKind]) {
    let target = open(dir);
    let mut stager = stager(&target);
    let stager = stager.as_mut();
    let below = |name: &str| format!("{via}/{name}");
    publish(&target, &[small(stager, "ours", b"new", false)]);
    let mut errors = vec![
        target.make_dir(below("new").as_bytes()).unwrap_err(),
        target.make_dir(via.as_bytes()).unwrap_err(),
        target.finish_dir(via.as_bytes(), &plain(0)).unwrap_err(),
        stager.vacancy(below("file").as_bytes()).unwrap_err(),
        stager.read_link(below("file").as_bytes()).unwrap_err(),
    ];
    let batch = [
        small(stager, &below("new"), b"new", false),
        small(stager, &below("file"), b"new", true),
        stager
            .symlink(b"text", below("link").into(), false, &plain(0))
            .unwrap()
            .0,
        Sealed::link(b"ours".to_vec(), below("hard").into(), false, None),
        Sealed::link(b"ours".to_vec(), below("file").into(), true, None),
        Sealed::link(below("file").into(), b"stolen".to_vec(), false, None),
    ];
    errors.extend(target.publish(&batch).into_iter().map(Result::unwrap_err));
    assert_eq!(errors.len(), 11);
    for (call, error) in errors.iter().enumerate() {
        assert!(kinds.contains(&error.kind()), "call {call}: {error:?}");
    }
    assert!(!dir.join("stolen").exists());
    target.close(false).unwrap();
    assert!(staged(dir).is_empty());
    std::fs::remove_file(dir.join("ours")).unwrap();
}

pub(crate) fn symlinks_are_not_followed(place: &Place, dir: &Path) {
    let name = format!("outside-{}", dir.file_name().unwrap().display());
    place.dir(&name);
    let before = precious(&place.path, &name);
    let outside = place.path.join(&name);
    let home = planted(dir, "inside");
    std::os::unix::fs::symlink(&outside, home.join("sneaky")).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("sneaky")).unwrap();
    std::os::unix::fs::symlink(".", dir.join("here")).unwrap();
    let kinds = [ErrorKind::Escape, ErrorKind::TargetExists];
    refuses(dir, "sneaky", &kinds);
    refuses(dir, "inside/sneaky", &kinds);
    // Back into the target itself: no symlink is followed, wherever it leads.
    refuses_here(dir);
    looking::same(&before, &looking::tree(&outside));
    let names = ["", "here", "inside", "inside/sneaky", "sneaky"];
    assert_eq!(looking::paths(dir), names.map(str::as_bytes));
}

fn refuses_here(dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    assert!(target.make_dir(b"here/new").is_err());
    assert!(stager.vacancy(b"here/inside").is_err());
    assert!(matches!(
        stager.vacancy(b"here").unwrap(),
        Vacancy::Symlink(_)
    ));
    let batch = [small(stager.as_mut(), "here/new", b"new", false)];
    assert!(target.publish(&batch)[0].is_err());
}

pub(crate) fn mounts_are_not_entered(_: &Place, dir: &Path) {
    let (tmpfs, bound) = (planted(dir, "tmpfs"), planted(dir, "bound"));
    let _tmpfs = Cover::new(&tmpfs);
    // The same file system, another mount.
    let other = planted(dir, "other");
    let _bound = Cover::bind(&other, &bound);
    for via in ["tmpfs", "bound"] {
        let before = precious(dir, via);
        refuses(dir, via, &[ErrorKind::Escape, ErrorKind::TargetExists]);
        looking::same(&before, &looking::tree(&dir.join(via)));
    }
}
