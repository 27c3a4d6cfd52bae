//! Paths below a root on real file systems: what opens, and above all what must not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are not tests to the lint"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inhaul::beneath::{
    DirCache, check_name, open, open_by_walking, open_dir, open_root, open_source, read_dir_fd,
    stamp,
};
use inhaul::scan::FileStamp;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fcntl_getfl, fstat, futimens, mkdirat, mkfifoat,
    openat, renameat_with, statat,
};
use rustix::io::{Errno, FdFlags, fcntl_getfd};

type Opener = fn(BorrowedFd<'_>, &[u8], OFlags, Mode) -> Result<OwnedFd, Errno>;

/// Both ways to open; every rule holds for both.
const OPENERS: [(&str, Opener); 2] = [("openat2", open), ("walk", open_by_walking)];

const READ: OFlags = OFlags::RDONLY;

fn try_read(opener: Opener, root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    opener(root.as_fd(), path, READ, Mode::empty())
}

/// The errno of what must fail.
fn refusal<T>(result: Result<T, Errno>) -> Option<Errno> {
    result.err()
}

fn ino(fd: impl AsFd) -> u64 {
    fstat(fd).unwrap().st_ino
}

fn path_ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// A mount that goes away with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(arguments: &[&OsStr], at: &Path) -> Option<Self> {
        let status = Command::new("mount").args(arguments).arg(at).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: cannot mount {arguments:?} (needs root)");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a program another test is just starting may still hold our descriptors.
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(&self.0);
        if !umount.status().is_ok_and(|status| status.success()) {
            eprintln!("still mounted: {}", self.0.display());
        }
    }
}

#[test]
fn names_that_are_not_one_component_are_refused() {
    let bad: [&[u8]; 9] = [b"", b".", b"..", b"/", b"a/b", b"a/", b"/a", b"a\0", b"\0"];
    for name in bad {
        let shown = name.escape_ascii();
        assert_eq!(check_name(name), Err(Errno::INVAL), "{shown}");
    }
    let good: [&[u8]; 10] = [
        b"a", b"...", b".a", b"..a", b" ", b"\n", b"\xff", b"a\\b", b"-", b"~",
    ];
    for name in good {
        assert_eq!(check_name(name), Ok(()), "{}", name.escape_ascii());
    }
}

#[test]
fn paths_that_could_leave_are_refused_before_any_system_call() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    let root = open_root(top.path()).unwrap();
    // All but the last would open something if they reached the kernel.
    let bad: [&[u8]; 12] = [
        b"/", b"/etc", b"..", b".", b"a/..", b"a/../a", b"./a", b"a/.", b"a//b", b"a/", b"//a",
        b"a\0b",
    ];
    for path in bad {
        let shown = path.escape_ascii().to_string();
        for (way, opener) in OPENERS {
            let got = refusal(try_read(opener, &root, path));
            assert_eq!(got, Some(Errno::INVAL), "{way} {shown}");
        }
        assert_eq!(refusal(open_dir(root.as_fd(), path)), Some(Errno::INVAL));
        let mut cache = DirCache::new(Arc::new(open_root(top.path()).unwrap()), 4);
        assert_eq!(refusal(cache.get(path)), Some(Errno::INVAL), "{shown}");
    }
}

#[test]
fn plain_paths_open_what_they_name() {
    let top = tempfile::tempdir().unwrap();
    let odd = top
        .path()
        .join("a/b")
        .join(OsStr::from_bytes(b"we\xffird\n"));
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    fs::write(&odd, b"x").unwrap();
    let root = open_root(top.path()).unwrap();
    for (way, opener) in OPENERS {
        let file = try_read(opener, &root, b"a/b/we\xffird\n").unwrap();
        assert_eq!(ino(&file), path_ino(&odd), "{way}");
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));

        let again = try_read(opener, &root, b"").unwrap();
        assert_eq!(ino(&again), path_ino(top.path()), "{way}: empty is root");
        assert!(!fcntl_getfl(&again).unwrap().contains(OFlags::PATH));

        let missing = refusal(try_read(opener, &root, b"a/none"));
        assert_eq!(missing, Some(Errno::NOENT), "{way}");
        let through_file = refusal(try_read(opener, &root, b"a/b/we\xffird\n/x"));
        assert_eq!(through_file, Some(Errno::NOTDIR), "{way}");
        let long = refusal(try_read(opener, &root, &[b'n'; 256]));
        assert_eq!(long, Some(Errno::NAMETOOLONG), "{way}");

        let made = format!("a/{way}");
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let private = Mode::from_raw_mode(0o600);
        opener(root.as_fd(), made.as_bytes(), create, private).unwrap();
        let meta = fs::metadata(top.path().join(&made)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{way}");
        // A mode without a flag that creates is no reason to fail.
        opener(root.as_fd(), made.as_bytes(), READ, private).unwrap();
    }
    rustix::fs::fsync(read_dir_fd(root.as_fd(), b"a").unwrap()).unwrap();
    let cheap = open_dir(root.as_fd(), b"a").unwrap();
    assert!(fcntl_getfl(&cheap).unwrap().contains(OFlags::PATH));
    assert_eq!(ino(&cheap), path_ino(&top.path().join("a")));
}

#[test]
fn symlinks_are_refused_at_every_place() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    fs::create_dir_all(at("root/real")).unwrap();
    fs::create_dir(at("outside")).unwrap();
    fs::write(at("root/real/f"), b"inside").unwrap();
    fs::write(at("outside/f"), b"outside").unwrap();
    symlink("../outside", at("root/out")).unwrap();
    symlink("real", at("root/in")).unwrap();
    symlink("real/f", at("root/file")).unwrap();
    symlink("/proc/self/root", at("root/magic")).unwrap();
    let root = open_root(&at("root")).unwrap();
    for (way, opener) in OPENERS {
        let paths: [&[u8]; 6] = [b"out/f", b"in/f", b"file", b"out", b"magic/etc", b"in"];
        for path in paths {
            let got = refusal(try_read(opener, &root, path));
            assert_eq!(got, Some(Errno::LOOP), "{way} {}", path.escape_ascii());
        }
        for kind in [OFlags::PATH, OFlags::RDONLY] {
            let flags = kind | OFlags::DIRECTORY;
            let got = refusal(opener(root.as_fd(), b"out", flags, Mode::empty()));
            assert_eq!(got, Some(Errno::LOOP), "{way}: not merely ENOTDIR");
        }
        let create = OFlags::CREATE | OFlags::WRONLY;
        let private = Mode::from_raw_mode(0o600);
        let got = refusal(opener(root.as_fd(), b"out/new", create, private));
        assert_eq!(got, Some(Errno::LOOP), "{way}");
        let held = opener(root.as_fd(), b"file", OFlags::PATH, Mode::empty()).unwrap();
        let kind = FileType::from_raw_mode(fstat(&held).unwrap().st_mode);
        assert_eq!(kind, FileType::Symlink, "{way}: O_PATH holds the symlink");
    }
    assert!(!at("outside/new").exists());
    assert_eq!(refusal(open_dir(root.as_fd(), b"out")), Some(Errno::LOOP));
    let file_as_dir = refusal(open_dir(root.as_fd(), b"real/f"));
    assert_eq!(file_as_dir, Some(Errno::NOTDIR));
    let source = refusal(open_source(root.as_fd(), b"file", false));
    assert_eq!(source, Some(Errno::LOOP));
    // The operator's own path is another matter.
    let named = open_root(&at("root/in")).unwrap();
    assert_eq!(ino(&named), path_ino(&at("root/real")));
}

#[test]
fn mounts_below_the_root_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    for dir in ["root/mnt", "root/bound", "elsewhere"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::write(at("elsewhere/f"), b"x").unwrap();
    fs::write(at("root/file"), b"x").unwrap();
    let tmpfs = ["-t", "tmpfs", "tmpfs"].map(OsStr::new);
    let Some(_tmpfs) = Mounted::new(&tmpfs, &at("root/mnt")) else {
        return;
    };
    // Same device, other mount: st_dev alone would not notice.
    let bind =
        |from: &str, to: &str| Mounted::new(&[OsStr::new("--bind"), at(from).as_os_str()], &at(to));
    let Some(_dir) = bind("elsewhere", "root/bound") else {
        return;
    };
    let Some(_file) = bind("elsewhere/f", "root/file") else {
        return;
    };
    fs::write(at("root/mnt/f"), b"x").unwrap();

    let root = open_root(&at("root")).unwrap();
    for (way, opener) in OPENERS {
        let paths: [&[u8]; 5] = [b"mnt", b"mnt/f", b"bound", b"bound/f", b"file"];
        for path in paths {
            let got = refusal(try_read(opener, &root, path));
            assert_eq!(got, Some(Errno::XDEV), "{way} {}", path.escape_ascii());
        }
    }
    assert_eq!(refusal(open_dir(root.as_fd(), b"mnt")), Some(Errno::XDEV));
    let source = refusal(open_source(root.as_fd(), b"file", false));
    assert_eq!(source, Some(Errno::XDEV));
    // A mount point is a fine root.
    let inside = open_root(&at("root/mnt")).unwrap();
    for (way, opener) in OPENERS {
        assert!(try_read(opener, &inside, b"f").is_ok(), "{way}");
    }
}

/// A scratch directory, in memory where possible: a journal can hold a test up for seconds.
fn in_memory() -> tempfile::TempDir {
    let top = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    top.unwrap()
}

/// A scratch directory for deep trees. TempDir holds a descriptor for each level while removing.
struct Deep(tempfile::TempDir);

impl Deep {
    fn new() -> Self {
        Self(in_memory())
    }

    fn root(&self) -> OwnedFd {
        open_root(self.0.path()).unwrap()
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        let status = Command::new("rm").arg("-rf").arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

/// Makes `depth` directories called `name`, each in the one before; returns the path and the
/// inode of the last.
fn dig(root: impl AsFd, name: &str, depth: usize) -> (Vec<u8>, u64) {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = openat(root, ".", directory, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, name, Mode::from_raw_mode(0o700)).unwrap();
        at = openat(&at, name, directory, Mode::empty()).unwrap();
    }
    (vec![name; depth].join("/").into_bytes(), ino(&at))
}

#[test]
fn paths_longer_than_path_max_open() {
    let top = Deep::new();
    let root = Arc::new(top.root());
    // 8189 bytes in single letters; 7904 in long names, where no cut falls on a round number.
    for (name, depth, length) in [("d", 4095, 8189), (&"n".repeat(254), 31, 7904)] {
        let (path, want) = dig(&root, name, depth);
        assert_eq!(path.len(), length);
        for (way, opener) in OPENERS {
            let got = try_read(opener, &root, &path).unwrap();
            assert_eq!(ino(&got), want, "{way}");
        }
        assert_eq!(ino(open_dir(root.as_fd(), &path).unwrap()), want);
        assert_eq!(ino(read_dir_fd(root.as_fd(), &path).unwrap()), want);
        let mut cache = DirCache::new(Arc::clone(&root), 2);
        assert_eq!(ino(cache.get(&path).unwrap()), want);
        assert_eq!(ino(cache.get(&path).unwrap()), want);
    }
}

#[test]
fn every_length_around_path_max_opens() {
    let top = Deep::new();
    let root = top.root();
    let (base, _) = dig(&root, "d", 2000);
    let parent = open_dir(root.as_fd(), &base).unwrap();
    for length in 4090..=4100 {
        let name = vec![b'x'; length - base.len() - 1];
        mkdirat(&parent, &name[..], Mode::from_raw_mode(0o700)).unwrap();
        let want = statat(&parent, &name[..], AtFlags::empty()).unwrap();
        let path = [&base[..], b"/", &name].concat();
        assert_eq!(path.len(), length);
        let got = open_dir(root.as_fd(), &path).unwrap();
        assert_eq!(ino(&got), want.st_ino, "{length} bytes");
    }
    // One component that no call can take.
    let endless = refusal(open_dir(root.as_fd(), &[b'x'; 5000]));
    assert_eq!(endless, Some(Errno::NAMETOOLONG));
}

#[test]
fn a_symlink_deep_in_a_long_path_is_refused() {
    let top = Deep::new();
    let root = top.root();
    let (base, _) = dig(&root, "d", 3000);
    let parent = open_dir(root.as_fd(), &base).unwrap();
    rustix::fs::symlinkat("/tmp", &parent, "out").unwrap();
    let path = [&base[..], b"/out/x"].concat();
    for (way, opener) in OPENERS {
        let got = refusal(try_read(opener, &root, &path));
        assert_eq!(got, Some(Errno::LOOP), "{way}");
    }
}

/// What a hundred thousand tries or more at `sub/secret` met while `sub` was being swapped.
#[derive(Default)]
struct Race {
    inside: u32,
    outside: u32,
    refused: u32,
}

/// Opens `sub/secret` while another thread swaps `sub` with a symlink to a directory outside.
fn race(opener: Opener) -> Race {
    let top = in_memory();
    for dir in ["root/sub", "outside"] {
        fs::create_dir_all(top.path().join(dir)).unwrap();
        fs::write(top.path().join(dir).join("secret"), dir).unwrap();
    }
    symlink("../outside", top.path().join("root/link")).unwrap();
    let inside = path_ino(&top.path().join("root/sub/secret"));
    let outside = path_ino(&top.path().join("outside/secret"));
    let root = open_root(&top.path().join("root")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(&root, "sub", &root, "link", RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut met = Race::default();
        // Both states must have been met, or it was no race; the upper end is for a stuck one.
        for tries in 0..10_000_000 {
            if tries >= 100_000 && met.inside > 100 && met.refused + met.outside > 100 {
                break;
            }
            match try_read(opener, &root, b"sub/secret").map(ino) {
                Ok(found) if found == inside => met.inside += 1,
                Ok(found) if found == outside => met.outside += 1,
                Err(Errno::LOOP | Errno::NOTDIR) => met.refused += 1,
                other => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("neither inside nor outside: {other:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        met
    })
}

#[test]
fn a_racing_swap_of_directory_and_symlink_never_leads_outside() {
    for (way, opener) in OPENERS {
        let met = race(opener);
        eprintln!("{way}: {} inside, {} refused", met.inside, met.refused);
        assert_eq!(met.outside, 0, "{way}");
        assert!(
            met.inside > 100 && met.refused > 100,
            "{way}: there was no race"
        );
    }
}

#[test]
fn the_same_race_does_lead_outside_with_a_plain_open() {
    // The control: shows that the test above can fail.
    fn plain(
        root: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        openat(root, path, flags | OFlags::NOFOLLOW, mode)
    }
    assert!(race(plain).outside > 0);
}

#[test]
fn a_fifo_under_a_files_name_neither_blocks_nor_opens() {
    let top = tempfile::tempdir().unwrap();
    let root = open_root(top.path()).unwrap();
    mkfifoat(&root, "file", Mode::from_raw_mode(0o600)).unwrap();
    for direct in [false, true] {
        // Without O_NONBLOCK this waits for a writer for ever.
        let got = refusal(open_source(root.as_fd(), b"file", direct));
        assert_eq!(got, Some(Errno::INVAL));
    }
}

#[test]
fn only_regular_files_are_sources() {
    let top = tempfile::tempdir().unwrap();
    let root = open_root(top.path()).unwrap();
    fs::create_dir(top.path().join("dir")).unwrap();
    let socket = top.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    fs::write(top.path().join("file"), b"twelve bytes").unwrap();
    let names: [&[u8]; 5] = [b"dir", b"socket", b"", b"..", b"dir/x"];
    for name in names {
        let got = refusal(open_source(root.as_fd(), name, false));
        assert_eq!(got, Some(Errno::INVAL), "{}", name.escape_ascii());
    }
    let missing = refusal(open_source(root.as_fd(), b"none", false));
    assert_eq!(missing, Some(Errno::NOENT));
    let devices = open_root(Path::new("/dev")).unwrap();
    let device = refusal(open_source(devices.as_fd(), b"null", false));
    assert_eq!(device, Some(Errno::INVAL));

    let source = open_source(root.as_fd(), b"file", false).unwrap();
    assert_eq!(source.stat.stx_size, 12);
    assert!(!source.direct);
    let flags = fcntl_getfl(&source.file).unwrap();
    assert!(!flags.contains(OFlags::NONBLOCK), "reads block by now");
    assert!(flags.contains(OFlags::NOATIME), "we own the file");
    assert!(
        fcntl_getfd(&source.file)
            .unwrap()
            .contains(FdFlags::CLOEXEC)
    );
}

#[test]
fn direct_is_kept_where_possible_and_given_up_where_not() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("file"), b"x").unwrap();
    let root = open_root(top.path()).unwrap();
    // Wherever tests run has O_DIRECT: ext4, XFS, btrfs, overlayfs, tmpfs since Linux 6.6.
    let source = open_source(root.as_fd(), b"file", true).unwrap();
    assert!(source.direct);
    let flags = fcntl_getfl(&source.file).unwrap();
    assert!(flags.contains(OFlags::DIRECT));

    // ramfs has none.
    let at = top.path().join("ram");
    fs::create_dir(&at).unwrap();
    let ramfs = ["-t", "ramfs", "ramfs"].map(OsStr::new);
    let Some(_ramfs) = Mounted::new(&ramfs, &at) else {
        return;
    };
    fs::write(at.join("file"), b"x").unwrap();
    let ram = open_root(&at).unwrap();
    let source = open_source(ram.as_fd(), b"file", true).unwrap();
    assert!(!source.direct);
    let flags = fcntl_getfl(&source.file).unwrap();
    assert!(!flags.contains(OFlags::DIRECT));
}

#[test]
fn a_stamp_tells_states_apart() {
    use rustix::fs::{Timespec, Timestamps};
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("f");
    fs::write(&path, b"12345").unwrap();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
        last_modification: Timespec {
            tv_sec: -7,
            tv_nsec: 999_999_999,
        },
    };
    futimens(fs::File::open(&path).unwrap(), &times).unwrap();
    let root = open_root(top.path()).unwrap();
    let source = open_source(root.as_fd(), b"f", false).unwrap();
    let meta = fs::metadata(&path).unwrap();
    let want = FileStamp {
        dev: meta.dev(),
        ino: meta.ino(),
        size: 5,
        mtime: (-7, 999_999_999),
        ctime: (meta.ctime(), u32::try_from(meta.ctime_nsec()).unwrap()),
    };
    assert_eq!(source.stamp(), want);
    assert_eq!(stamp(source.file.as_fd()), Ok(want));
    fs::write(&path, b"123456").unwrap();
    let after = stamp(source.file.as_fd()).unwrap();
    assert_eq!((after.ino, after.size), (want.ino, 6));
    assert_ne!(after.mtime, want.mtime);
    let held = open(root.as_fd(), b"f", OFlags::PATH, Mode::empty()).unwrap();
    assert_eq!(stamp(held.as_fd()), Ok(after));
}

#[test]
fn the_cache_keeps_what_was_used_last() {
    let top = tempfile::tempdir().unwrap();
    for dir in ["a", "b", "c"] {
        fs::create_dir(top.path().join(dir)).unwrap();
    }
    let root = Arc::new(open_root(top.path()).unwrap());
    let mut cache = DirCache::new(Arc::clone(&root), 2);
    assert!(Arc::ptr_eq(&cache.get(b"").unwrap(), &root));
    assert!(cache.is_empty());
    let a = cache.get(b"a").unwrap();
    let b = cache.get(b"b").unwrap();
    assert!(Arc::ptr_eq(&cache.get(b"a").unwrap(), &a), "a hit");
    cache.get(b"c").unwrap();
    assert_eq!(cache.len(), 2);
    assert!(Arc::ptr_eq(&cache.get(b"a").unwrap(), &a), "a outlived b");
    assert!(!Arc::ptr_eq(&cache.get(b"b").unwrap(), &b), "b was oldest");
    assert_eq!(ino(&b), path_ino(&top.path().join("b")));

    assert_eq!(refusal(cache.get(b"late")), Some(Errno::NOENT));
    fs::create_dir(top.path().join("late")).unwrap();
    cache.get(b"late").unwrap();

    let mut keeps_none = DirCache::new(root, 0);
    keeps_none.get(b"a").unwrap();
    assert!(keeps_none.is_empty());
}

#[test]
fn what_is_forgotten_is_opened_anew() {
    let top = tempfile::tempdir().unwrap();
    for dir in ["a/x/y", "ab"] {
        fs::create_dir_all(top.path().join(dir)).unwrap();
    }
    let root = Arc::new(open_root(top.path()).unwrap());
    let mut cache = DirCache::new(root, 8);
    let paths: [&[u8]; 4] = [b"a", b"a/x", b"a/x/y", b"ab"];
    for path in paths {
        cache.get(path).unwrap();
    }
    cache.forget(b"a/x");
    assert_eq!(cache.len(), 2);
    fs::remove_dir_all(top.path().join("a/x")).unwrap();
    assert_eq!(refusal(cache.get(b"a/x")), Some(Errno::NOENT));
    cache.forget(b"a");
    assert_eq!(cache.len(), 1);
    cache.forget(b"");
    assert!(cache.is_empty());
}

#[test]
fn a_parent_replaced_by_a_symlink_is_not_reached_through_the_cache() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("root/a")).unwrap();
    fs::create_dir_all(top.path().join("outside/sub")).unwrap();
    let root = Arc::new(open_root(&top.path().join("root")).unwrap());
    let mut cache = DirCache::new(root, 8);
    cache.get(b"a").unwrap();
    fs::remove_dir(top.path().join("root/a")).unwrap();
    symlink("../outside", top.path().join("root/a")).unwrap();
    assert_eq!(refusal(cache.get(b"a/sub")), Some(Errno::LOOP));
}
