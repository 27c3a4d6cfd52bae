//! `inhaul resume`: which job is meant, where its sources are now, and what is noted of it.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test bench is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul};
use support::{Scratch, can_mount, tree};

/// A user with a state folder, and sources whose copies can be kept from ending.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.dir("state");
        for name in ["a", "b"] {
            let source = scratch.dir(name);
            tree::many_small(&source.join("small"), 7, 20);
            tree::paint(&source.join("large"), 3, 3_000_000);
        }
        Self { scratch }
    }

    fn state(&self) -> PathBuf {
        self.scratch.join("state")
    }

    fn notes(&self) -> PathBuf {
        self.scratch.join("state/inhaul/jobs")
    }

    /// Runs the program in a folder.
    fn run_in(&self, folder: &Path, args: &[&dyn AsRef<OsStr>]) -> Ran {
        let mut command = inhaul(args);
        command
            .env("XDG_STATE_HOME", self.state())
            .current_dir(folder);
        Running::start(command).finish()
    }

    fn run(&self, args: &[&dyn AsRef<OsStr>]) -> Ran {
        self.run_in(Path::new("/"), args)
    }

    /// Copies into a target where a name is taken: the job is not finished. Returns its name.
    fn begin(&self, sources: &[&Path], target: &Path) -> String {
        let first = sources.first().unwrap().file_name().unwrap();
        let taken = target.join(first).join("large");
        std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
        std::fs::write(&taken, b"taken").unwrap();
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"copy"];
        args.extend(sources.iter().map(|source| source as &dyn AsRef<OsStr>));
        args.push(&target);
        self.run(&args).expect(3);
        std::fs::remove_file(taken).unwrap();
        current(target).unwrap()
    }

    /// Returns what is noted, sorted by name.
    fn noted(&self) -> Vec<(String, PathBuf)> {
        let mut noted: Vec<(String, PathBuf)> = std::fs::read_dir(self.notes())
            .into_iter()
            .flatten()
            .map(|entry| {
                let entry = entry.unwrap();
                let target = OsString::from_vec(std::fs::read(entry.path()).unwrap());
                (entry.file_name().into_string().unwrap(), target.into())
            })
            .collect();
        noted.sort();
        noted
    }
}

/// Returns the name of the job that is not finished.
fn current(target: &Path) -> Option<String> {
    let link = std::fs::read_link(target.join(".inhaul/current")).ok()?;
    Some(link.into_os_string().into_string().unwrap())
}

/// Returns every file below a folder with its bytes.
fn walk(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(top).unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[track_caller]
fn assert_same(expected: &BTreeMap<PathBuf, Vec<u8>>, copy: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(expected.keys().eq(copy.keys()), "{:?}", copy.keys());
    assert!(expected == copy, "other bytes");
}

/// Returns how many jobs a target has seen.
fn jobs(target: &Path) -> usize {
    let entries = std::fs::read_dir(target.join(".inhaul")).unwrap();
    let kinds = entries.map(|entry| entry.unwrap().file_type().unwrap());
    kinds.filter(std::fs::FileType::is_dir).count()
}

/// Where to run from, and what to say which job is meant with.
type Way = fn(&Path, &str) -> (PathBuf, Option<PathBuf>);

#[test]
fn a_job_is_meant_in_many_ways() {
    let bench = Bench::new();
    let (a, b) = (bench.scratch.join("a"), bench.scratch.join("b"));
    let ways: [Way; 8] = [
        // The working directory, and what is typed.
        |target, _| (PathBuf::from("/"), Some(target.to_owned())),
        |target, job| ("/".into(), Some(target.join(".inhaul").join(job))),
        |target, _| ("/".into(), Some(target.join(".inhaul/current"))),
        |target, _| (target.join(".inhaul/current"), Some(".".into())),
        |target, job| (target.to_owned(), Some(job.into())),
        |target, _| (target.to_owned(), None),
        |_, job| ("/".into(), Some(job.into())),
        |_, _| ("/".into(), None),
    ];
    for (at, way) in ways.iter().enumerate() {
        let target = bench.scratch.join(format!("target{at}"));
        let job = bench.begin(&[&a, &b], &target);
        let (folder, typed) = way(&target, &job);
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"resume"];
        args.extend(typed.as_ref().map(|typed| typed as &dyn AsRef<OsStr>));
        bench.run_in(&folder, &args).expect(0);
        for source in [&a, &b] {
            let copy = target.join(source.file_name().unwrap());
            assert_same(&walk(source), &walk(&copy));
        }
        assert_eq!(jobs(&target), 1, "{at}: gone on with, not begun anew");
        assert_eq!(current(&target), None, "{at}");
        assert_eq!(bench.noted(), [], "{at}");
    }
}

#[test]
fn what_is_begun_is_noted_until_it_is_finished() {
    let bench = Bench::new();
    let (a, target) = (bench.scratch.join("a"), bench.scratch.join("in\n\u{e9}"));
    let job = bench.begin(&[&a], &target);
    assert_eq!(bench.noted(), [(job.clone(), target.clone())]);
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(bench.notes().join(&job)), 0o600);
    assert_eq!(mode(bench.notes()), 0o700);
    assert_eq!(mode(bench.state().join("inhaul")), 0o700);

    // The same job again is the same note; another one in this target is one more.
    bench.run_in(
        bench.scratch.path(),
        &[&"resume", &"--bwlimit", &"1GB", &target],
    );
    assert_eq!(bench.noted(), []);
    let job = bench.begin(&[&a], &bench.scratch.join("other"));
    let b = bench.scratch.join("b");
    let other = bench.scratch.join("other");
    let later = bench.begin(&[&b], &other);
    assert_ne!(job, later);
    let mut both = [(job.clone(), other.clone()), (later.clone(), other.clone())];
    both.sort();
    assert_eq!(bench.noted(), both);
    bench
        .run(&[&"resume"])
        .expect(2)
        .says("more than one copy is unfinished")
        .says("name the one to go on with: inhaul resume JOB");
    // Begun by a link, finished by its real name: the one that was begun last.
    symlink("other", bench.scratch.join("link")).unwrap();
    bench
        .run(&[&"resume", &bench.scratch.join("link")])
        .expect(0);
    assert_eq!(bench.noted(), [(job, other)]);
    bench.run(&[&"resume"]).expect(0);
    assert_eq!(bench.noted(), []);
}

#[test]
fn a_job_that_is_not_finished_outlives_one_that_was_begun_after_it() {
    let bench = Bench::new();
    let (a, b) = (bench.scratch.join("a"), bench.scratch.join("b"));
    let ways: [&dyn Fn(&Path) -> Ran; 2] = [&|target| bench.run(&[&"resume", &target]), &|_| {
        bench.run(&[&"resume"])
    }];
    for (at, resume) in ways.into_iter().enumerate() {
        let target = bench.scratch.join(format!("target{at}"));
        let first = bench.begin(&[&a], &target);
        std::fs::remove_dir_all(target.join("a/small")).unwrap();
        bench.run(&[&"copy", &b, &target]).expect(0);
        assert_eq!((jobs(&target), current(&target)), (2, None));
        assert_eq!(bench.noted(), [(first, target.clone())]);
        resume(&target).expect(0);
        assert_same(&walk(&a), &walk(&target.join("a")));
        assert_eq!(bench.noted(), []);
        let ran = bench.run(&[&"resume", &target]).expect(2);
        ran.says("no job here is unfinished");
    }
}

#[test]
fn a_copy_does_not_need_the_notes() {
    let bench = Bench::new();
    let a = bench.scratch.join("a");
    let spoil: [fn(&Bench); 5] = [
        |bench| drop(std::fs::remove_dir_all(bench.state())),
        |bench| std::fs::write(bench.state().join("inhaul"), b"").unwrap(),
        |bench| symlink("/tmp", bench.state().join("inhaul")).unwrap(),
        |bench| {
            std::fs::create_dir_all(bench.notes()).unwrap();
            let open = PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(bench.notes(), open).unwrap();
        },
        |bench| {
            std::fs::create_dir(bench.state().join("inhaul")).unwrap();
            symlink(bench.scratch.path(), bench.notes()).unwrap();
        },
    ];
    for (at, spoil) in spoil.iter().enumerate() {
        drop(std::fs::remove_dir_all(bench.state()));
        bench.scratch.dir("state");
        spoil(&bench);
        let target = bench.scratch.join(format!("target{at}"));
        bench.begin(&[&a], &target);
        bench.run(&[&"resume", &target]).expect(0);
        // What others may write to is neither written nor believed.
        let left = std::fs::read_dir(bench.scratch.path()).unwrap();
        let strays = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with("20")
        });
        assert_eq!(strays.count(), 0, "{at}");
    }
}

#[test]
fn without_a_state_folder_the_home_has_one() {
    let bench = Bench::new();
    let a = bench.scratch.join("a");
    let home = bench.scratch.dir("home");
    let copy = |target: &Path| {
        std::fs::create_dir_all(target.join("a")).unwrap();
        std::fs::write(target.join("a/large"), b"taken").unwrap();
        let mut command = inhaul(&[&"copy", &a, &target]);
        command.env("HOME", &home).env("XDG_STATE_HOME", "relative");
        Running::start(command).finish().expect(3);
    };
    let one = bench.scratch.join("one");
    if rustix::process::geteuid().is_root() {
        // In somebody else's home, root makes nothing.
        std::os::unix::fs::chown(&home, Some(1000), None).unwrap();
        copy(&one);
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        std::os::unix::fs::chown(&home, Some(0), None).unwrap();
    }
    let two = bench.scratch.join("two");
    copy(&two);
    let note = home
        .join(".local/state/inhaul/jobs")
        .join(current(&two).unwrap());
    assert_eq!(
        std::fs::read(note).unwrap(),
        two.as_os_str().as_encoded_bytes()
    );
}

#[test]
fn notes_of_others_are_not_believed() {
    let bench = Bench::new();
    let (a, target) = (bench.scratch.join("a"), bench.scratch.join("target"));
    bench.begin(&[&a], &target);
    let open = |mode| std::fs::set_permissions(bench.notes(), PermissionsExt::from_mode(mode));
    open(0o720).unwrap();
    bench
        .run(&[&"resume"])
        .expect(2)
        .says("there is nothing to go on with");
    open(0o700).unwrap();
    bench.run(&[&"resume"]).expect(0);
}

#[test]
fn where_more_than_one_is_unfinished_they_are_listed() {
    let bench = Bench::new();
    let (a, b) = (bench.scratch.join("a"), bench.scratch.join("b"));
    let ran = bench.run(&[&"resume"]).expect(2);
    assert_eq!(
        ran.err(),
        "\
error: there is nothing to go on with
  why:  this user has begun no copy that is not finished, and there is none in the working directory
  next: name the TARGET of the copy: inhaul resume TARGET
"
    );
    let (one, two) = (bench.scratch.join("one"), bench.scratch.join("two 2"));
    let (first, second) = (bench.begin(&[&a], &one), bench.begin(&[&b], &two));
    let mut lines = [
        format!("{first}  {}", one.display()),
        format!("{second}  '{}'", two.display()),
    ];
    lines.sort();
    let ran = bench.run(&[&"resume"]).expect(2);
    assert_eq!(
        ran.err(),
        format!(
            "error: more than one copy is unfinished\n  why:  {}\n        {}\n  \
             next: name the one to go on with: inhaul resume TARGET\n",
            lines[0], lines[1]
        )
    );
    assert_eq!((jobs(&one), jobs(&two)), (1, 1));

    // One is away: then the other is meant.
    rustix::fs::rename(&two, bench.scratch.join("away")).unwrap();
    bench.run(&[&"resume"]).expect(0);
    assert_eq!(current(&one), None);
    let ran = bench.run(&[&"resume"]).expect(2);
    ran.says("no copy is unfinished whose target is there")
        .says(&format!("{second}  '{}'  (not there now)", two.display()));
    // It comes back, and was finished by somebody else meanwhile.
    rustix::fs::rename(bench.scratch.join("away"), &two).unwrap();
    std::fs::remove_file(two.join(".inhaul/current/unfinished")).unwrap();
    std::fs::remove_file(two.join(".inhaul/current")).unwrap();
    bench
        .run(&[&"resume"])
        .expect(2)
        .says("there is nothing to go on with");
    assert_eq!(bench.noted(), []);
}

#[test]
fn what_is_no_unfinished_job_is_said_to_be_none() {
    let bench = Bench::new();
    let (a, target) = (bench.scratch.join("a"), bench.scratch.join("target"));
    let nothing = |typed: &dyn AsRef<OsStr>| bench.run(&[&"resume", typed]).expect(2);
    nothing(&"/nowhere").says("there is no job /nowhere");
    nothing(&a).says("there is no job");
    nothing(&"20260101-000000-0000").says("there is no job");
    bench.run(&[&"copy", &a, &target]).expect(0);
    nothing(&target).says("no job here is unfinished");
    let folder = target.join(".inhaul/latest");
    nothing(&folder).says("is finished: there is nothing to go on with");
    // A job that is cut short before it wrote a thing.
    std::fs::create_dir(target.join(".inhaul/J1")).unwrap();
    let ran = nothing(&target.join(".inhaul/J2"));
    ran.says("there is no job");
    nothing(&target.join(".inhaul/J1")).says("give the copy command again");
    // Also when it is the one that was begun last, and when what was asked for was moved away.
    let cut = cut_short(&target);
    nothing(&target).says("give the copy command again");
    std::fs::remove_file(target.join(".inhaul/current")).unwrap();
    std::fs::remove_dir_all(cut).unwrap();
    let job = bench.begin(&[&bench.scratch.join("b")], &target);
    std::fs::remove_file(target.join(".inhaul").join(job).join("job.json")).unwrap();
    nothing(&target).says("what it was asked for is not written down: give the copy command again");
}

/// Leaves what a run leaves that is cut short as soon as its job has a folder. Returns that.
fn cut_short(target: &Path) -> PathBuf {
    let (home, name) = (target.join(".inhaul"), "29990101-000000-0000");
    let job = home.join(name);
    std::fs::create_dir_all(job.join("stage")).unwrap();
    std::fs::write(job.join("unfinished"), "").unwrap();
    if home.join("current").is_symlink() {
        std::fs::remove_file(home.join("current")).unwrap();
    }
    symlink(name, home.join("current")).unwrap();
    job
}

#[test]
fn a_job_that_was_cut_short_before_it_was_written_down_hides_none() {
    let bench = Bench::new();
    let a = bench.scratch.join("a");
    for has_journal in [false, true] {
        let target = bench.scratch.join(format!("target-{has_journal}"));
        let first = bench.begin(&[&a], &target);
        let cut = cut_short(&target);
        if has_journal {
            let journal = target.join(".inhaul").join(first).join("journal");
            std::fs::copy(journal, cut.join("journal")).unwrap();
        }
        bench.run(&[&"resume", &target]).expect(0);
        assert_same(&walk(&a), &walk(&target.join("a")));
    }
}

#[test]
fn relative_sources_are_found_from_anywhere() {
    let bench = Bench::new();
    let folder = bench.scratch.path();
    let target = bench.scratch.join("target");
    tree::many_small(&bench.scratch.dir("odd").join("more"), 9, 5);
    std::fs::create_dir_all(target.join("a")).unwrap();
    std::fs::write(target.join("a/large"), b"taken").unwrap();
    let args: [&dyn AsRef<OsStr>; 5] = [&"copy", &"a", &"b/small/", &"./odd", &"target"];
    bench.run_in(folder, &args).expect(3);
    std::fs::remove_file(target.join("a/large")).unwrap();
    std::fs::remove_dir_all(target.join("odd/more")).unwrap();
    bench.run(&[&"resume", &target]).expect(0);
    assert_same(&walk(&bench.scratch.join("a")), &walk(&target.join("a")));
    assert_same(
        &walk(&bench.scratch.join("odd")),
        &walk(&target.join("odd")),
    );
    assert_eq!(jobs(&target), 1);
}

#[test]
fn drives_are_found_where_they_are_mounted_now() {
    if !can_mount("drives_are_found_where_they_are_mounted_now") {
        return;
    }
    let bench = Bench::new();
    let scratch = &bench.scratch;
    let target = scratch.join("target");
    let drives = ["d1", "d2"].map(|name| {
        let drive = Mounted::image(scratch, name, Fs::Ext4, 320);
        tree::many_small(&drive.join("small"), 5, 20);
        tree::paint(&drive.join("large"), 4, 2_000_000);
        drive
    });
    let expected = drives.each_ref().map(|drive| walk(drive.path()));
    bench.begin(&[drives[0].path(), drives[1].path()], &target);
    let [one, two] = drives;

    // One comes back elsewhere, the other does not.
    let image = two.image_path().to_owned();
    let one = one.moved(scratch, "x", Fs::Ext4);
    drop(two);
    let missing = target.join("d2/small");
    std::fs::remove_dir_all(&missing).unwrap();
    let ran = bench.run(&[&"resume", &target]).expect(3);
    let was = scratch.join("d2").display().to_string();
    let ran = ran
        .says(&format!(
            "problem: source-vanished  {was}: this source of the job is not here"
        ))
        .says("the job is NOT finished: 1 source was not here");
    let note = format!(
        "note: d1: known as {} before, found at {}\n",
        scratch.join("d1").display(),
        one.path().display()
    );
    ran.says(&note);
    assert_same(&expected[0], &walk(&target.join("d1")));
    assert!(!missing.exists() && !target.join("x").exists());
    assert!(current(&target).is_some());
    assert_eq!(bench.noted().len(), 1);

    // None is there.
    drop(one);
    let ran = bench.run(&[&"resume", &target]).expect(6);
    ran.says("no source of this job is here")
        .says(&was)
        .says("nothing was written");

    // The other one is back, and what was lost of it is copied again, under its old name.
    let first = scratch.join("d1.img");
    let _one = Mounted::again(scratch, "y", Fs::Ext4, &first);
    let _two = Mounted::again(scratch, "d1", Fs::Ext4, &image);
    bench.run(&[&"resume"]).expect(0);
    for (expected, name) in expected.iter().zip(["d1", "d2"]) {
        assert_same(expected, &walk(&target.join(name)));
    }
    assert_eq!((jobs(&target), current(&target)), (1, None));
}
