//! The private folder: its lock, whom it trusts, what it sweeps, and its records.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use inhaul::error::ErrorKind;
use inhaul::target::{Home, Target};

use super::ports::looking::staged;
use super::ports::target::{
    handle, open, open_choosing, planted, publish, small, stager, try_open,
};
use super::ports::{Cover, Fs, Place, painted, root, scratch};

fn refusal(dir: &Path) -> ErrorKind {
    try_open(dir).unwrap_err().kind()
}

#[test]
fn one_run_at_a_time() {
    let dir = scratch();
    let first = open(dir.path());
    assert_eq!(refusal(dir.path()), ErrorKind::Locked);
    first.close(false).unwrap();
    assert_eq!(
        refusal(dir.path()),
        ErrorKind::Locked,
        "held to the end of the run"
    );
    let job = first.home().job_name().to_owned();
    drop(first);
    let second = open(dir.path());
    assert_ne!(second.home().job_name(), job);
    assert!(
        dir.path().join(".inhaul").join(job).is_dir(),
        "records are kept"
    );
}

#[test]
fn a_folder_that_others_could_have_made_is_refused() {
    if !root() {
        return;
    }
    for mode in [0o770, 0o707, 0o777, 0o720, 0o702, 0o1777] {
        let dir = scratch();
        let home = planted(dir.path(), ".inhaul");
        std::fs::set_permissions(&home, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(refusal(dir.path()), ErrorKind::Refused, "{mode:o}");
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    }
    let dir = scratch();
    let home = planted(dir.path(), ".inhaul");
    std::os::unix::fs::chown(&home, Some(1234), None).unwrap();
    assert_eq!(refusal(dir.path()), ErrorKind::Refused);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn a_folder_that_only_others_may_read_is_ours_all_the_same() {
    let dir = scratch();
    let home = planted(dir.path(), ".inhaul");
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap();
    let target = open(dir.path());
    let _stager = stager(&target);
    for path in staged(dir.path()) {
        let mode = std::fs::metadata(home.join(&path)).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{}", path.display());
    }
}

#[test]
fn what_is_no_folder_of_this_file_system_is_refused() {
    if !root() {
        return;
    }
    let (dir, elsewhere) = (scratch(), scratch());
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".inhaul")).unwrap();
    assert_eq!(refusal(dir.path()), ErrorKind::Refused, "a symlink");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    let dir = scratch();
    std::fs::write(dir.path().join(".inhaul"), b"old").unwrap();
    assert_eq!(refusal(dir.path()), ErrorKind::Refused, "a file");
    assert_eq!(std::fs::read(dir.path().join(".inhaul")).unwrap(), b"old");

    let dir = scratch();
    let home = planted(dir.path(), ".inhaul");
    let _cover = Cover::new(&home);
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(
        refusal(dir.path()),
        ErrorKind::Refused,
        "another mount: no rename leads out of it"
    );
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}

/// What a run that was killed leaves, with things in it that inhaul never made.
fn leftovers(home: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut ours = Vec::new();
    let mut foreign = Vec::new();
    for (job, thread) in [
        ("20200101-000000-0001", "lane-0"),
        ("20210101-000000-0002", "writer-3"),
    ] {
        let stage = home.join(job).join("stage").join(thread);
        std::fs::create_dir_all(&stage).unwrap();
        for name in ["1", "22", "18446744073709551615"] {
            std::fs::write(stage.join(name), b"half").unwrap();
            ours.push(stage.join(name));
        }
        std::os::unix::fs::symlink("/etc/passwd", stage.join("4")).unwrap();
        ours.push(stage.join("4"));
        std::fs::create_dir(stage.join("5")).unwrap();
        foreign.push(stage.join("5"));
        for path in [stage.join("note"), stage.join("6.txt"), stage.join("-7")] {
            std::fs::write(&path, b"kept").unwrap();
            foreign.push(path);
        }
        for name in ["manifest.b3", "8", "stage/9", "stage/note"] {
            let path = home.join(job).join(name);
            std::fs::write(&path, b"kept").unwrap();
            foreign.push(path);
        }
    }
    let empty = home.join("20220101-000000-0003/stage/lane-1");
    std::fs::create_dir_all(&empty).unwrap();
    std::fs::write(empty.join("1"), b"half").unwrap();
    ours.push(home.join("20220101-000000-0003/stage"));
    std::fs::write(home.join("10"), b"kept").unwrap();
    foreign.push(home.join("10"));
    (ours, foreign)
}

#[test]
fn numbered_leftovers_are_swept_and_nothing_else() {
    let dir = scratch();
    drop(open(dir.path()));
    let (ours, foreign) = leftovers(&dir.path().join(".inhaul"));
    std::fs::write(dir.path().join("11"), b"kept").unwrap();
    let target = open(dir.path());
    for path in ours {
        assert!(
            std::fs::symlink_metadata(&path).is_err(),
            "{}",
            path.display()
        );
    }
    for path in foreign.iter().chain([&dir.path().join("11")]) {
        assert!(
            std::fs::symlink_metadata(path).is_ok(),
            "{}",
            path.display()
        );
    }
    target.close(false).unwrap();
}

#[test]
fn what_is_in_the_way_in_our_own_stage_is_kept_too() {
    let dir = scratch();
    let target = open(dir.path());
    let mut stager = stager(&target);
    let _sealed = small(stager.as_mut(), "name", b"bytes", false);
    let stage = staged(dir.path())
        .into_iter()
        .find(|path| path.ends_with("test"))
        .unwrap();
    let note = dir.path().join(".inhaul").join(stage).join("note");
    std::fs::write(&note, b"kept").unwrap();
    target.close(false).unwrap();
    assert!(note.is_file());
    let files = staged(dir.path())
        .into_iter()
        .filter(|path| dir.path().join(".inhaul").join(path).is_file());
    assert_eq!(files.count(), 1, "ours is gone");
}

#[test]
fn latest_points_to_the_newest_record() {
    let dir = scratch();
    let find = |name| {
        Home::find_job(
            std::os::fd::AsFd::as_fd(&handle(dir.path())),
            dir.path(),
            name,
        )
    };
    assert_eq!(find(None).unwrap_err().kind(), ErrorKind::Missing);
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let target = open(dir.path());
        jobs.push(target.home().job_name().to_owned());
        let before = find(None).ok().map(|(name, _)| name);
        assert_eq!(
            before.as_ref(),
            jobs.iter().rev().nth(1),
            "not before it is told"
        );
        target.home().set_latest().unwrap();
        let link = std::fs::read_link(dir.path().join(".inhaul/latest")).unwrap();
        assert_eq!(link, Path::new(jobs.last().unwrap()));
        assert_eq!(find(None).unwrap().0, *jobs.last().unwrap());
    }
    assert_eq!(find(Some(&jobs[0])).unwrap().0, jobs[0]);
    for name in ["no-such", "..", "a/b", ""] {
        assert_eq!(
            find(Some(name)).unwrap_err().kind(),
            ErrorKind::Missing,
            "{name:?}"
        );
    }
}

#[test]
fn only_the_job_begun_last_and_not_finished_is_offered() {
    let dir = scratch();
    let reopen = |go_on: bool| {
        let mut offered = None;
        let target = open_choosing(dir.path(), &mut |name, job| {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&job));
            let path = std::fs::read_link(link).unwrap();
            assert_eq!(path.file_name().unwrap(), name);
            offered = Some(name.to_owned());
            go_on
        });
        let name = target.home().job_name().to_owned();
        (target, offered, name)
    };
    let (target, offered, first) = reopen(true);
    assert_eq!(offered, None);
    let mut killed = stager(&target);
    let _half = small(killed.as_mut(), "name", b"half", false);
    drop((killed, target));

    let (target, offered, second) = reopen(true);
    assert_eq!((offered.as_ref(), &second), (Some(&first), &first));
    let named = |path: &PathBuf| path.ends_with("test/1");
    assert!(staged(dir.path()).iter().any(named), "it may be wanted");
    target
        .home()
        .sweep(&mut |thread, number| (thread, number) == ("test", 1))
        .unwrap();
    assert!(staged(dir.path()).iter().any(named), "it is wanted");
    target.home().sweep(&mut |_, _| false).unwrap();
    assert!(!staged(dir.path()).iter().any(named), "it is not");
    let mut stager = stager(&target);
    publish(&target, &[small(stager.as_mut(), "name", b"whole", false)]);
    drop(target);

    let (target, offered, third) = reopen(false);
    assert_eq!(offered.as_ref(), Some(&first));
    assert_ne!(third, first);
    target.home().finish().unwrap();
    drop(target);
    let (_target, offered, fourth) = reopen(true);
    assert_eq!(offered, None);
    assert_ne!(fourth, third);
}

#[test]
fn a_record_is_whole_and_durable_or_the_old_one() {
    let Some(place) = Place::new(Fs::Ext4, 64) else {
        return;
    };
    let dir = place.dir("target");
    let target = open(&dir);
    let home = target.home();
    let (old, new) = (painted(1, 100_000), painted(2, 200_000));
    home.write_record("report.json", &old).unwrap();
    home.write_record("report.json", &new).unwrap();
    home.write_record("empty", b"").unwrap();
    home.set_latest().unwrap();
    let cut = place.after_power_cut();
    let kept = cut.path.join("target/.inhaul/latest");
    assert!(std::fs::read(kept.join("report.json")).unwrap() == new);
    assert_eq!(std::fs::read(kept.join("empty")).unwrap(), b"");
    // A full target: the old record stays.
    std::fs::write(place.path.join("fill"), vec![1; 64 << 20]).unwrap_err();
    let error = home
        .write_record("report.json", &painted(3, 1 << 20))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    let job = dir.join(".inhaul").join(home.job_name());
    assert!(std::fs::read(job.join("report.json")).unwrap() == new);
}

#[test]
fn what_is_left_of_asking_how_a_name_is_listed_is_swept() {
    let dir = scratch();
    let target = open(dir.path());
    let stage = target.home().job_label().join("stage");
    let left = stage.join("spelling.0123");
    std::fs::create_dir(&left).unwrap();
    for name in ["name", "8"] {
        std::fs::write(left.join(name), b"").unwrap();
    }
    // What is not of ours stays: with something in it, not a file, or in another folder.
    std::fs::write(left.join("text"), b"text").unwrap();
    std::os::unix::fs::symlink("text", left.join("link")).unwrap();
    std::fs::create_dir(left.join("folder")).unwrap();
    std::fs::create_dir(stage.join("other")).unwrap();
    std::fs::write(stage.join("other/name"), b"").unwrap();
    target.home().sweep(&mut |_, _| false).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&left)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["folder", "link", "text"]);
    assert!(stage.join("other/name").exists());
    for name in ["text", "link"] {
        std::fs::remove_file(left.join(name)).unwrap();
    }
    std::fs::remove_dir(left.join("folder")).unwrap();
    std::fs::remove_dir_all(stage.join("other")).unwrap();
    std::fs::write(left.join("name"), b"").unwrap();
    target.close(false).unwrap();
    assert!(!stage.exists());
}
