//! Which file system is which, whatever it is called today: images mounted, mounted again, copied
//! and made anew.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test bench is a failed test"
)]

mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use inhaul::beneath::open_root;
use inhaul::journal::{self, Identity, Likeness};
use inhaul::plan;
use inhaul::topology::{Topology, fs_uuid};
use support::mounts::{Fs, Mounted};
use support::{Scratch, can_mount, tool};

fn identity(path: &Path) -> Identity {
    let location = Topology::live().unwrap().locate(path).unwrap();
    plan::identity(open_root(path).unwrap().as_fd(), &location).unwrap()
}

fn is_different(recorded: &Identity, now: &Identity) -> bool {
    matches!(recorded.compare(now), Likeness::Different(_))
}

/// Goes through the life of an image: what stays the same and what does not.
fn check(fs: Fs, root_ino: u64) {
    let scratch = Scratch::new();
    let first = Mounted::image(&scratch, "first", fs, 320);
    let (image, device) = (first.image_path().to_owned(), first.device().to_owned());
    std::fs::write(first.dir("dir").join("file"), b"x").unwrap();
    let (top, dir) = (identity(first.path()), identity(&first.join("dir")));
    assert_eq!(top.fs_type, fs.name());
    assert_eq!(top.serial, None, "the number of a loop device is no serial");
    assert_eq!(top.root_ino, root_ino);
    assert!(
        top.size > 128 << 20 && top.size <= 320 << 20,
        "{}",
        top.size
    );
    assert_eq!(
        top.compare(&dir),
        Likeness::Different("the inode of the directory")
    );
    let other = Mounted::image(&scratch, "other", fs, 320);
    let again = first.moved(&scratch, "elsewhere", fs);
    assert_ne!(again.device(), device);
    assert_eq!(top.compare(&identity(again.path())), Likeness::Same);
    assert_eq!(dir.compare(&identity(&again.join("dir"))), Likeness::Same);
    // Files come and go: that changes nothing.
    std::fs::write(again.join("more"), vec![1; 1 << 20]).unwrap();
    assert_eq!(top.compare(&identity(again.path())), Likeness::Same);
    let now = identity(other.path());
    assert_eq!(
        top.compare(&now),
        Likeness::Different("the UUID of the file system")
    );
    assert!(is_different(&dir, &now));
    drop(again);

    // A copy of the whole image, mounted alone, cannot be told from it.
    let copied = scratch.join("copied.img");
    tool(
        "cp",
        &[
            "--sparse=always".as_ref(),
            image.as_os_str(),
            copied.as_os_str(),
        ],
    );
    let copy = Mounted::again(&scratch, "copy", fs, &copied);
    assert_eq!(top.compare(&identity(copy.path())), Likeness::Same);
    assert_eq!(dir.compare(&identity(&copy.join("dir"))), Likeness::Same);
}

#[test]
fn ext4_is_known_again() {
    if can_mount("ext4_is_known_again") {
        check(Fs::Ext4, 2);
    }
}

#[test]
fn xfs_is_known_again() {
    if can_mount("xfs_is_known_again") {
        check(Fs::Xfs, 128);
    }
}

#[test]
fn btrfs_is_known_again() {
    if can_mount("btrfs_is_known_again") {
        check(Fs::Btrfs, 256);
    }
}

#[test]
fn a_uuid_is_the_one_in_the_superblock() {
    if !can_mount("a_uuid_is_the_one_in_the_superblock") {
        return;
    }
    let scratch = Scratch::new();
    // Where the superblock has it, in bytes from the start of the medium.
    for (fs, at, number) in [
        (Fs::Ext4, 1024 + 0x68, ""),
        (Fs::Xfs, 32, ""),
        (Fs::Btrfs, 0x10000 + 0x20, "/5"),
    ] {
        let mounted = Mounted::image(&scratch, fs.name(), fs, 320);
        let mut bytes = [0; 16];
        let image = File::open(mounted.image_path()).unwrap();
        image.read_exact_at(&mut bytes, at).unwrap();
        let written = hex(&bytes);

        let handle = File::open(mounted.path()).unwrap();
        let told = fs_uuid(handle.as_fd());
        // btrfs does not tell by this call.
        assert!(told.is_some() || fs == Fs::Btrfs);
        if let Some(told) = told {
            assert_eq!(told.replace('-', ""), written);
        }
        let uuid = String::from_utf8(identity(mounted.path()).fs_uuid.unwrap()).unwrap();
        assert_eq!(uuid.replace('-', ""), format!("{written}{number}"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn subvolumes_are_told_apart_and_known_again() {
    if !can_mount("subvolumes_are_told_apart_and_known_again") {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "volume", Fs::Btrfs, 320);
    let paths = ["one", "one/inner", "two"];
    for path in paths {
        let path: PathBuf = mounted.join(path);
        tool(
            "btrfs",
            &[
                "-q".as_ref(),
                "subvolume".as_ref(),
                "create".as_ref(),
                path.as_os_str(),
            ],
        );
    }
    let recorded: Vec<Identity> = paths
        .iter()
        .map(|path| identity(&mounted.join(path)))
        .collect();
    let again = mounted.moved(&scratch, "again", Fs::Btrfs);
    for (at, path) in paths.iter().enumerate() {
        let now = identity(&again.join(path));
        assert_eq!(
            now.root_ino, 256,
            "every subvolume begins with the same inode"
        );
        for (other, recorded) in recorded.iter().enumerate() {
            let same = recorded.compare(&now) == Likeness::Same;
            assert_eq!(same, other == at, "{path} and {}", paths[other]);
            assert!(same || is_different(recorded, &now));
        }
    }
}

/// Returns what a journal has of a source that is typed like this.
fn recorded(typed: &str) -> journal::Source {
    let opened = plan::open_sources(&[typed.into()], plan::NamedLink::Itself).unwrap();
    let topology = Topology::live().unwrap();
    journal::Source {
        index: 0,
        identity: plan::source_identity(&opened[0], &topology).unwrap(),
        label: typed.as_bytes().to_vec(),
        landing: opened[0].landing.clone(),
    }
}

/// Returns where each source is now, as text: a slash at the end means something.
fn found(sources: &[journal::Source]) -> Vec<Option<String>> {
    let topology = Topology::live().unwrap();
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let any = |_: &Path| true;
    let find = |source| {
        let here = plan::find_in_place(&topology, source, &any, &any);
        let found = here.or_else(|| plan::find_elsewhere(&topology, source, &any, &any));
        found.map(text)
    };
    sources.iter().map(find).collect()
}

#[test]
fn a_source_is_found_where_its_drive_is_now() {
    if !can_mount("a_source_is_found_where_its_drive_is_now") {
        return;
    }
    let scratch = Scratch::new();
    for fs in [Fs::Ext4, Fs::Btrfs] {
        let drive = Mounted::image(&scratch, &format!("{}-1", fs.name()), fs, 320);
        let outer = drive.dir("a/b");
        if fs == Fs::Btrfs {
            let inner = outer.join("c");
            let words = ["-q".as_ref(), "subvolume".as_ref(), "create".as_ref()];
            tool("btrfs", &[&words[..], &[inner.as_os_str()]].concat());
        }
        std::fs::write(drive.dir("a/b/c").join("clip.mov"), b"x").unwrap();
        let first = drive.path().display().to_string();
        // What lies where another was: not the same.
        let other = Mounted::image(&scratch, &format!("{}-2", fs.name()), fs, 320);
        other.dir("a/b/c");

        let endings = [
            "",
            "/",
            "/a",
            "/a/b/",
            "/a/b/c",
            "/a/./b/c/.",
            "/a/b/c/clip.mov",
        ];
        let typed: Vec<String> = endings.iter().map(|end| format!("{first}{end}")).collect();
        let sources: Vec<journal::Source> = typed.iter().map(|typed| recorded(typed)).collect();
        let all = |paths: &[String]| paths.iter().cloned().map(Some).collect::<Vec<_>>();
        assert_eq!(found(&sources), all(&typed));

        let moved = drive.moved(&scratch, &format!("{}-3", fs.name()), fs);
        let second = moved.path().display().to_string();
        let endings = [
            "",
            "/",
            "/a",
            "/a/b/",
            "/a/b/c",
            "/a/b/c/",
            "/a/b/c/clip.mov",
        ];
        let now: Vec<String> = endings.iter().map(|end| format!("{second}{end}")).collect();
        assert_eq!(found(&sources), all(&now));

        // The file is gone, a folder has another name, and then the drive is not there at all.
        std::fs::remove_file(moved.join("a/b/c/clip.mov")).unwrap();
        rustix::fs::rename(moved.join("a"), moved.join("d")).unwrap();
        let left = found(&sources);
        assert_eq!(left[..2], all(&now[..2]));
        assert_eq!(left[2..], [const { None }; 5]);
        drop(moved);
        assert_eq!(found(&sources), [const { None }; 7]);
    }
}

#[test]
fn what_nothing_identifies_is_found_at_its_label_alone() {
    let mut source = recorded("/proc/sys");
    assert_eq!(source.identity.fs_uuid, None);
    assert_eq!(
        found(std::slice::from_ref(&source)),
        [Some("/proc/sys".to_owned())]
    );
    source.label = b"/elsewhere/sys".to_vec();
    assert_eq!(found(&[source]), [None]);
    // Something else is there now.
    let mut source = recorded("/proc/sys");
    source.identity.root_ino += 1;
    assert_eq!(found(&[source]), [None]);
}

#[test]
fn memory_is_the_same_until_it_is_unmounted() {
    if !can_mount("memory_is_the_same_until_it_is_unmounted") {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::tmpfs(&scratch, "memory", 8);
    let recorded = identity(mounted.path());
    assert_eq!(recorded.compare(&identity(mounted.path())), Likeness::Same);
    drop(mounted);
    let mounted = Mounted::tmpfs(&scratch, "memory", 8);
    assert!(is_different(&recorded, &identity(mounted.path())));
}
