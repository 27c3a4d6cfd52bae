//! Every kind of call on names in a source or the target, while somebody keeps swapping what they
//! lead through with a symlink to elsewhere: not one of a hundred thousand tries leads there.
//!
//! Each kind has a control that makes the call by path, as most programs do: it does lead there.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod ports;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use inhaul::beneath;
use inhaul::scan::Attributes;
use inhaul::target::attributes::{apply_special, apply_symlink};
use inhaul::target::{LocalTarget, Policy, Sealed, Stager, Target, TargetStamp, Vacancy};
use ports::looking::{self, Tree};
use ports::target::{open, plain, small, stager};
use ports::{Scratch, root, scratch};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, XattrFlags};
use rustix::fs::{renameat_with, statat, unlinkat};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Tries of each kind; as many as it takes to meet both states often, but no more than `TRIES_MAX`.
const TRIES: usize = 100_000;
const TRIES_MAX: usize = 1_000_000;
/// Directories below the one that is swapped: more than a target keeps open (512 at most), so that
/// nearly each try begins at the root again.
const WAYS: usize = 600;
/// Files of a batch.
const BATCH: usize = 40;

/// What a try met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Inside,
    Refused,
    Outside,
}

/// A target with `sub`, below it `0`, `1` and so on; the same outside; and `sub` swapped with a link
/// to that.
struct Bench {
    target: LocalTarget,
    root: OwnedFd,
    /// The directories inside, held, so that they can be tidied up wherever they are.
    inside: Vec<OwnedFd>,
    before: Tree,
    // Unmounted when nothing in it is open any more.
    scratch: Scratch,
}

fn fill(dir: &Path, text: &str) {
    for way in 0..WAYS {
        let dir = dir.join(way.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("there"), text).unwrap();
        symlink(text, dir.join("link")).unwrap();
    }
    std::fs::write(dir.join("leaf"), text).unwrap();
}

impl Bench {
    fn new() -> Self {
        // All of them are held open, by as many tests as there are processors.
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let scratch = scratch();
        let top = scratch.path().join("top");
        let outside = scratch.path().join("outside");
        fill(&top.join("sub"), "inside");
        fill(&outside, "outside");
        std::fs::write(top.join("ours"), "ours").unwrap();
        symlink("../outside", top.join("decoy")).unwrap();
        // Single names that are swapped as well: a file and a FIFO with links to such.
        std::fs::write(top.join("file"), "inside").unwrap();
        symlink("../outside/leaf", top.join("file decoy")).unwrap();
        for fifo in [top.join("fifo"), outside.join("fifo")] {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, mode, 0).unwrap();
        }
        symlink("../outside/fifo", top.join("fifo decoy")).unwrap();
        let target = open(&top);
        let root = rustix::io::fcntl_dupfd_cloexec(target.root(), 0).unwrap();
        let inside = (0..WAYS)
            .map(|way| {
                let path = format!("sub/{way}");
                beneath::open_dir(root.as_fd(), path.as_bytes()).unwrap()
            })
            .collect();
        let before = looking::tree(&outside);
        Self {
            target,
            root,
            inside,
            before,
            scratch,
        }
    }

    fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    /// The path of something below what is swapped, for a call by path.
    fn path(&self, below: &str) -> PathBuf {
        self.scratch.path().join("top").join(below)
    }

    fn stat_outside(&self, below: &str) -> Stat {
        rustix::fs::stat(self.outside().join(below)).unwrap()
    }

    /// Runs `act` while `name` is swapped with the link that is there for that.
    fn swapping<T>(&self, name: &str, act: impl FnOnce() -> T) -> T {
        let decoy = match name {
            "sub" => "decoy".to_owned(),
            name => format!("{name} decoy"),
        };
        let swap = || {
            renameat_with(&self.root, name, &self.root, &decoy, RenameFlags::EXCHANGE).unwrap();
        };
        let (done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    swap();
                    swaps.fetch_add(1, Relaxed);
                }
            });
            let _done = Done(&done);
            act()
        });
        if swaps.load(Relaxed) % 2 == 1 {
            swap();
        }
        result
    }

    /// Tries while `name` is swapped; returns how often it led outside.
    fn race(&self, name: &str, act: &mut dyn FnMut(usize) -> Vec<Met>) -> usize {
        let (mut tries, mut met) = (0, [0; 3]);
        self.swapping(name, || {
            while tries < TRIES_MAX {
                for one in act(tries) {
                    tries += 1;
                    met[one as usize] += 1;
                }
                let [inside, refused, outside] = met;
                if tries >= TRIES && inside > 100 && refused + outside > 100 {
                    break;
                }
            }
        });
        let [inside, refused, outside] = met;
        assert!(inside > 100 && refused + outside > 100, "no race: {met:?}");
        outside
    }

    /// Fails unless nothing ever led outside and nothing there has changed.
    fn never(&self, kind: &str, name: &str, act: &mut dyn FnMut(usize) -> Vec<Met>) {
        assert_eq!(self.race(name, act), 0, "{kind}");
        looking::same(&self.before, &looking::tree(&self.outside()));
    }

    /// Publishes a batch of tries, and tidies up what got its name.
    fn publish(&self, first: usize, make: &mut dyn FnMut(&str) -> Sealed, name: &str) -> Vec<Met> {
        let ways = (first..first + BATCH).map(|number| number % WAYS);
        let batch: Vec<Sealed> = ways
            .clone()
            .map(|way| make(&format!("sub/{way}/{name}")))
            .collect();
        let answers = self.target.publish(&batch);
        let met = answers.iter().zip(ways).map(|(answer, way)| {
            if answer.is_err() {
                return Met::Refused;
            }
            let dir = &self.inside[way];
            let named = name == "there" || unlinkat(dir, name, AtFlags::empty()).is_ok();
            if named { Met::Inside } else { Met::Outside }
        });
        met.collect()
    }
}

/// Ends the swapping, also when what it surrounds fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn met(inside: bool) -> Vec<Met> {
    vec![if inside { Met::Inside } else { Met::Refused }]
}

fn stamp(stat: &Stat) -> TargetStamp {
    TargetStamp {
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap(),
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap()),
    }
}

fn odd(number: usize) -> Attributes {
    Attributes {
        uid: 1234,
        gid: 4321,
        xattrs: vec![(b"user.try".to_vec(), number.to_string().into_bytes())],
        ..plain(if number.is_multiple_of(2) {
            0o711
        } else {
            0o777
        })
    }
}

#[test]
fn folders_are_made_inside_alone() {
    let bench = Bench::new();
    bench.never("mkdir", "sub", &mut |number| {
        let way = number % WAYS;
        let made = bench.target.make_dir(format!("sub/{way}/new").as_bytes());
        if made.is_err() {
            return met(false);
        }
        let tidied = unlinkat(&bench.inside[way], "new", AtFlags::REMOVEDIR);
        vec![if tidied.is_ok() {
            Met::Inside
        } else {
            Met::Outside
        }]
    });
}

#[test]
fn names_are_given_inside_alone() {
    let bench = Bench::new();
    let mut stager = stager(&bench.target);
    bench.never("create and rename", "sub", &mut |number| {
        let mut make = |path: &str| small(stager.as_mut(), path, b"new", false);
        bench.publish(number, &mut make, "new")
    });
}

#[test]
fn names_are_replaced_inside_alone() {
    let bench = Bench::new();
    let mut stager = stager(&bench.target);
    bench.never("rename over", "sub", &mut |number| {
        let mut make = |path: &str| small(stager.as_mut(), path, b"new", true);
        bench.publish(number, &mut make, "there")
    });
}

#[test]
fn links_are_made_inside_alone() {
    let bench = Bench::new();
    bench.never("link", "sub", &mut |number| {
        let mut make =
            |path: &str| Sealed::link(b"ours".to_vec(), path.as_bytes().to_vec(), false, None);
        bench.publish(number, &mut make, "hard")
    });
}

#[test]
fn names_are_taken_away_inside_alone() {
    let bench = Bench::new();
    // The same inode is outside as well: nothing but its place tells the two names apart.
    let top = bench.scratch.path();
    for way in 0..WAYS {
        let there = bench.path(&format!("sub/{way}/there"));
        let decoy = top.join(format!("outside/{way}/there"));
        std::fs::remove_file(&decoy).unwrap();
        std::fs::hard_link(&there, &decoy).unwrap();
    }
    let before = looking::tree(&bench.outside());
    let escaped = bench.race("sub", &mut |number| {
        let way = number % WAYS;
        let stat = statat(&bench.inside[way], "there", AtFlags::empty()).unwrap();
        let path = format!("sub/{way}/there");
        let gone = bench.target.withdraw(path.as_bytes(), stamp(&stat));
        drop(gone);
        if statat(&bench.inside[way], "there", AtFlags::empty()).is_ok() {
            return met(false);
        }
        let outside = top.join(format!("outside/{way}/there"));
        rustix::fs::linkat(
            rustix::fs::CWD,
            outside,
            &bench.inside[way],
            "there",
            AtFlags::empty(),
        )
        .unwrap();
        met(true)
    });
    assert_eq!(escaped, 0);
    looking::same(&before, &looking::tree(&bench.outside()));
}

#[test]
fn attributes_of_folders_are_set_inside_alone() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.never("chown, xattr, chmod, times", "sub", &mut |number| {
        let path = format!("sub/{}", number % WAYS);
        let applied = bench.target.finish_dir(path.as_bytes(), &odd(number));
        met(applied.is_ok_and(|applied| {
            assert_eq!(applied.losses, []);
            true
        }))
    });
}

#[test]
fn attributes_of_single_names_never_go_through_a_link() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let policy = Policy {
        setid: true,
        caps: true,
        owner: true,
    };
    bench.never("attributes of a FIFO", "fifo", &mut |number| {
        let wanted = Attributes {
            xattrs: Vec::new(),
            ..odd(number)
        };
        let applied = apply_special(bench.root.as_fd(), b"fifo", &wanted, &policy);
        met(applied.losses.is_empty())
    });
    // A link is given attributes of its own; what it leads to is not.
    bench.never("attributes of a symlink", "fifo", &mut |number| {
        let wanted = odd(number);
        let applied = apply_symlink(bench.root.as_fd(), b"fifo", &wanted, &policy);
        met(applied.losses.is_empty())
    });
}

#[test]
fn nothing_is_looked_at_or_read_outside() {
    let bench = Bench::new();
    let mut stager = stager(&bench.target);
    let stager: &mut dyn Stager = stager.as_mut();
    let inode = |way: usize| bench.stat_outside(&format!("{way}/there"));
    let outside: Vec<TargetStamp> = (0..WAYS).map(|way| stamp(&inode(way))).collect();
    bench.never("stat", "sub", &mut |number| {
        let way = number % WAYS;
        match stager.vacancy(format!("sub/{way}/there").as_bytes()) {
            Ok(Vacancy::File(found)) if found == outside[way] => vec![Met::Outside],
            Ok(found) => met(matches!(found, Vacancy::File(_))),
            Err(_) => met(false),
        }
    });
    bench.never("readlink", "sub", &mut |number| {
        let path = format!("sub/{}/link", number % WAYS);
        match stager.read_link(path.as_bytes()) {
            Ok(text) if text == b"outside" => vec![Met::Outside],
            Ok(_) => met(true),
            Err(_) => met(false),
        }
    });
    bench.never("open", "sub", &mut |number| {
        let way = number % WAYS;
        let path = format!("sub/{way}/there");
        // It is read only if it is what is outside.
        match stager.read_published(path.as_bytes(), outside[way], &mut |_| ()) {
            Ok(true) => vec![Met::Outside],
            Ok(false) => met(true),
            Err(_) => met(false),
        }
    });
}

#[test]
fn nothing_is_listed_or_opened_outside_a_source() {
    let bench = Bench::new();
    let outside = bench.stat_outside("0").st_ino;
    bench.never("opendir", "sub", &mut |_| {
        let Ok(dir) = beneath::read_dir_fd(bench.root.as_fd(), b"sub/0") else {
            return met(false);
        };
        let mut names = Dir::read_from(&dir).unwrap().flatten();
        let is_outside = names.any(|entry| entry.file_name() == c"." && entry.ino() == outside);
        vec![if is_outside {
            Met::Outside
        } else {
            Met::Inside
        }]
    });
    let outside = bench.stat_outside("leaf").st_ino;
    for direct in [false, true] {
        bench.never(
            "open a source",
            "file",
            &mut |_| match beneath::open_source(bench.root.as_fd(), b"file", direct) {
                Ok(opened) if opened.stat.stx_ino == outside => vec![Met::Outside],
                Ok(_) => met(true),
                Err(_) => met(false),
            },
        );
    }
}

#[test]
fn leftovers_are_swept_from_our_own_stage_alone() {
    let bench = Bench::new();
    let home = bench.target.home();
    // As if somebody had got into the stage, which is closed.
    let stage = bench.path(".inhaul").join(home.job_name()).join("stage");
    std::fs::create_dir(stage.join("sub")).unwrap();
    symlink(bench.outside(), stage.join("decoy")).unwrap();
    for number in ["1001", "1002"] {
        std::fs::write(bench.outside().join(number), "precious").unwrap();
    }
    let held = ports::target::handle(&stage.join("sub"));
    let before = looking::tree(&bench.outside());
    let swapped = Bench {
        root: ports::target::handle(&stage),
        ..Bench::new()
    };
    let escaped = swapped.race("sub", &mut |_| {
        let file = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&held, "1001", file, Mode::RUSR));
        drop(home.sweep(&mut |_, _| false));
        met(statat(&held, "1001", AtFlags::empty()).is_err())
    });
    assert_eq!(escaped, 0);
    looking::same(&before, &looking::tree(&bench.outside()));
}

/// A call by path, or a look whether one has shown outside.
type Call<'a> = Box<dyn Fn(&Path) -> bool + 'a>;

/// The controls: each call by path, as most programs make it.
#[test]
fn the_same_calls_by_path_do_lead_outside() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let top = bench.scratch.path().join("top");
    let outside = bench.outside();
    let fresh = |name: &str| outside.join("0").join(name);
    // What is done at a path, and how it shows outside.
    let calls: [(&str, &str, Call<'_>, Call<'_>); 9] = [
        (
            "mkdir",
            "0/made",
            Box::new(|path| std::fs::create_dir(path).is_ok()),
            Box::new(|_| fresh("made").exists()),
        ),
        (
            "create",
            "0/created",
            Box::new(|path| std::fs::write(path, "x").is_ok()),
            Box::new(|_| fresh("created").exists()),
        ),
        (
            "rename",
            "0/renamed",
            Box::new(|path| {
                std::fs::write(top.join("more"), "x").unwrap();
                rustix::fs::rename(top.join("more"), path).is_ok()
            }),
            Box::new(|_| fresh("renamed").exists()),
        ),
        (
            "unlink",
            "1/there",
            Box::new(|path| std::fs::remove_file(path).is_ok()),
            Box::new(|_| !outside.join("1/there").exists()),
        ),
        (
            "chown",
            "2",
            Box::new(|path| std::os::unix::fs::chown(path, Some(77), None).is_ok()),
            Box::new(|_| bench.stat_outside("2").st_uid == 77),
        ),
        (
            "chmod",
            "2",
            Box::new(|path| rustix::fs::chmod(path, Mode::from_raw_mode(0o701)).is_ok()),
            Box::new(|_| bench.stat_outside("2").st_mode & 0o777 == 0o701),
        ),
        (
            "times",
            "2",
            Box::new(|path| {
                let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
                std::fs::File::open(path).is_ok_and(|file| file.set_times(times).is_ok())
            }),
            Box::new(|_| bench.stat_outside("2").st_mtime == 0),
        ),
        (
            "xattr",
            "2",
            Box::new(|path| {
                rustix::fs::setxattr(path, "user.x", b"x", XattrFlags::empty()).is_ok()
            }),
            Box::new(|_| {
                rustix::fs::getxattr(outside.join("2"), "user.x", &mut [0; 4][..]).is_ok()
            }),
        ),
        (
            "opendir",
            "3",
            Box::new(|path| {
                let mark = outside.join("3/mark");
                std::fs::write(&mark, "").unwrap();
                let listed = std::fs::read_dir(path)
                    .map(|dir| dir.flatten().any(|entry| entry.file_name() == "mark"));
                listed
                    .is_ok_and(|seen| !seen || rustix::fs::rename(&mark, top.join("seen")).is_ok())
            }),
            Box::new(|_| top.join("seen").exists()),
        ),
    ];
    for (kind, below, act, has_escaped) in &calls {
        let path = bench.path("sub").join(below);
        let escaped = bench.swapping("sub", || {
            (0..TRIES_MAX).any(|_| {
                act(&path);
                has_escaped(&path)
            })
        });
        assert!(escaped, "{kind} by path never led outside");
    }
}
