//! The walk on file systems made for the occasion: mounts, subvolumes, places on the medium, and
//! file systems that were tampered with.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its tree has failed"
)]

mod scan_support;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use inhaul::error::ErrorKind;
use inhaul::scan::Order;
use scan_support::{
    Mounted, Record, Setup, btrfs, ext4, make_file, run, skip, text, tree, unmount, xfs,
};
use tempfile::TempDir;

/// Unmounts when dropped.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

#[test]
fn what_is_mounted_below_is_skipped_and_said() {
    let top = TempDir::new().unwrap();
    make_file(top.path(), "below/hidden", b"x");
    make_file(top.path(), "file", b"x");
    make_file(top.path(), "covered", b"x");
    let (below, covered) = (top.path().join("below"), top.path().join("covered"));
    let path = below.to_str().unwrap();
    if let Err(why) = run(&["mount", "-t", "tmpfs", "none", path]) {
        skip(why);
        return;
    }
    let _below = Unmount(&below);
    make_file(&below, "elsewhere", b"x");
    // A bind mount has the device number of its source: only its mount tells it apart.
    let words = ["mount", "--bind", top.path().to_str().unwrap(), path];
    let (file, on) = (top.path().join("file"), covered.to_str().unwrap());
    run(&["mount", "--bind", file.to_str().unwrap(), on]).unwrap();
    let _covered = Unmount(&covered);
    for bound in [false, true] {
        let _bound = bound.then(|| {
            run(&words).unwrap();
            Unmount(&below)
        });
        let record = Setup::default().walk(top.path());
        assert_eq!(record.paths(), ["file"]);
        assert_eq!(record.dir_paths(), [""]);
        assert!(record.problems.is_empty());
        let mut skipped = record.skipped;
        skipped.sort();
        let kind = "other-file-system";
        assert_eq!(
            skipped,
            [
                ("/SOURCE/below".to_owned(), kind),
                ("/SOURCE/covered".to_owned(), kind)
            ]
        );
    }
    let (tree, _finished) = tree(top.path(), Some(b"covered"));
    let mut record = Record::default();
    inhaul::scan::walk(&tree, &Setup::default().options(), &mut record);
    assert!(record.entries.is_empty());
    assert_eq!(record.problems[0].0, ErrorKind::Escape);
}

#[test]
fn subvolumes_are_part_of_their_file_system() {
    let Some(disk) = btrfs() else { return };
    let root = disk.path.as_path();
    make_file(root, "file", b"x");
    let (one, two) = (root.join("one"), root.join("two"));
    run(&["btrfs", "subvolume", "create", one.to_str().unwrap()]).unwrap();
    make_file(&one, "d/a", &[1; 100]);
    std::fs::hard_link(one.join("d/a"), one.join("again")).unwrap();
    std::fs::hard_link(one.join("d/a"), one.join("third")).unwrap();
    // A snapshot repeats inode numbers and times: only the device number differs.
    let words = ["btrfs", "subvolume", "snapshot"];
    let (from, to) = (one.to_str().unwrap(), two.to_str().unwrap());
    run(&[words[0], words[1], words[2], from, to]).unwrap();
    let record = Setup::default().walk(root);
    assert_eq!(
        record.paths(),
        [
            "file",
            "one/again",
            "one/d/a",
            "one/third",
            "two/again",
            "two/d/a",
            "two/third"
        ]
    );
    assert!(record.skipped.is_empty() && record.problems.is_empty());
    let devices: HashMap<_, _> = record.dirs.iter().cloned().collect();
    assert_ne!(devices[""], devices["one"]);
    assert_ne!(devices["one"], devices["two"]);
    assert_eq!(devices["one"], devices["one/d"]);
    // One batch each, none of them mixed.
    assert_eq!(record.batches, [1, 3, 3]);
    assert_eq!(
        record.batch_devices,
        [devices[""], devices["one"], devices["two"]]
    );
}

/// Where filefrag says a file starts, in bytes.
fn filefrag(path: &Path) -> u64 {
    let said = run(&["filefrag", "-v", "-b1", path.to_str().unwrap()]).unwrap();
    let said = String::from_utf8(said).unwrap();
    let first = said.lines().find(|line| line.trim().starts_with("0:"));
    let place = first.unwrap().split(':').nth(2).unwrap();
    place.split("..").next().unwrap().trim().parse().unwrap()
}

fn order_follows_the_medium(disk: &Mounted) {
    const FILES: usize = 48;
    let root = disk.path.as_path();
    let path = |n: usize| format!("d{}/f{n}", n % 3);
    for n in 0..FILES {
        make_file(root, &path(n), b"");
    }
    // 29 has no factor in common with 48, so every file is written once, and far from the order in
    // which the inodes were made.
    for n in (0..FILES).map(|n| n * 29 % FILES) {
        let file = std::fs::File::options()
            .write(true)
            .open(root.join(path(n)));
        let mut file = file.unwrap();
        std::io::Write::write_all(&mut file, &vec![7; 100_000]).unwrap();
        file.sync_all().unwrap();
    }
    let setup = Setup {
        order: Order::Physical,
        ..Setup::default()
    };
    let record = setup.walk(root);
    assert_eq!(record.batches, [FILES], "one window for all directories");
    let mut by_inode = true;
    for pair in record.entries.windows(2) {
        by_inode &= pair[0].stamp.ino < pair[1].stamp.ino;
    }
    assert!(
        !by_inode,
        "the two orders must differ for this to mean anything"
    );
    let places = record.entries.iter().map(|entry| {
        let place = filefrag(&root.join(text(&entry.source_path())));
        assert_eq!(entry.position, place);
        place
    });
    let places: Vec<_> = places.collect();
    assert!(places.is_sorted() && places[0] > 0, "{places:?}");
}

#[test]
fn physical_order_is_the_order_on_the_medium() {
    for disk in [ext4(), xfs(), btrfs()].into_iter().flatten() {
        order_follows_the_medium(&disk);
    }
}

#[test]
fn inodes_are_looked_at_in_the_order_of_their_numbers() {
    let Some(disk) = ext4() else { return };
    for n in 0..500 {
        make_file(&disk.path, &format!("f{n}"), b"");
    }
    std::fs::remove_dir(disk.path.join("lost+found")).unwrap();
    let listed = std::fs::read_dir(&disk.path).unwrap();
    let listed = listed.map(|entry| std::os::unix::fs::DirEntryExt::ino(&entry.unwrap()));
    assert!(
        !listed.is_sorted(),
        "the listing must be unsorted for this to mean anything"
    );
    let entries = Setup::default().walk(&disk.path).entries;
    assert_eq!(entries.len(), 500);
    assert!(entries.is_sorted_by_key(|entry| entry.stamp.ino));
}

#[test]
fn files_without_a_place_go_first() {
    let Some(disk) = ext4() else { return };
    make_file(&disk.path, "written", &[1; 10_000]);
    let written = std::fs::File::open(disk.path.join("written")).unwrap();
    written.sync_all().unwrap();
    let hole = std::fs::File::create(disk.path.join("hole")).unwrap();
    hole.set_len(1 << 20).unwrap();
    std::fs::remove_dir(disk.path.join("lost+found")).unwrap();
    let setup = Setup {
        order: Order::Physical,
        ..Setup::default()
    };
    let entries = setup.walk(&disk.path).entries;
    let met = entries.iter().map(|e| (text(&e.name), e.position > 0));
    assert_eq!(
        met.collect::<Vec<_>>(),
        [("hole".to_owned(), false), ("written".to_owned(), true)]
    );
}

#[test]
fn without_fiemap_the_order_is_by_inode() {
    let top = TempDir::new().unwrap();
    let path = top.path().to_str().unwrap();
    if let Err(why) = run(&["mount", "-t", "tmpfs", "none", path]) {
        skip(why);
        return;
    }
    let _mount = Unmount(top.path());
    for n in 0..20 {
        make_file(top.path(), &format!("d{}/f{n}", n % 2), b"x");
    }
    let setup = Setup {
        order: Order::Physical,
        ..Setup::default()
    };
    let entries = setup.walk(top.path()).entries;
    assert_eq!(entries.len(), 20);
    assert!(
        entries
            .iter()
            .all(|entry| entry.position == entry.stamp.ino)
    );
    assert!(entries.is_sorted_by_key(|entry| entry.position));
}

#[test]
fn a_slash_in_a_name_ends_the_listing_not_the_walk() {
    const NAME: &[u8] = b"slash-X-name";
    // Plain directories without checksums, so that a byte can be changed behind its back.
    let features = "^has_journal,^metadata_csum,^dir_index";
    let Some(mut disk) = Mounted::new(&["mkfs.ext4", "-q", "-F", "-O", features], 16) else {
        return;
    };
    for n in 0..20 {
        make_file(&disk.path, &format!("d/before{n:02}"), b"x");
    }
    make_file(&disk.path, &format!("d/{}", text(NAME)), b"x");
    make_file(&disk.path, "d/after", b"x");
    make_file(&disk.path, "e/elsewhere", b"x");
    disk.unmount();
    let mut image = std::fs::read(&disk.image).unwrap();
    let places = image.windows(NAME.len()).enumerate();
    let places: Vec<_> = places
        .filter(|(_, bytes)| *bytes == NAME)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1);
    image[places[0] + 6] = b'/';
    std::fs::write(&disk.image, image).unwrap();
    disk.mount("ro").unwrap();

    let record = Setup::default().walk(&disk.path);
    let mut want: Vec<_> = (0..20).map(|n| format!("d/before{n:02}")).collect();
    want.push("e/elsewhere".to_owned());
    assert_eq!(record.paths(), want);
    assert_eq!(record.problems.len(), 1);
    let (kind, path, reason) = &record.problems[0];
    assert_eq!((*kind, path.as_str()), (ErrorKind::SourceRead, "/SOURCE/d"));
    assert!(reason.contains("the rest is missing"), "{reason}");
}

#[test]
fn a_directory_inside_itself_is_reported() {
    let Some(mut disk) = ext4() else { return };
    make_file(&disk.path, "a/b/file", b"x");
    make_file(&disk.path, "z", b"x");
    disk.unmount();
    let image = disk.image.to_str().unwrap().to_owned();
    if let Err(why) = run(&["debugfs", "-w", "-R", "link /a /a/b/loop", &image]) {
        skip(why);
        return;
    }
    disk.mount("ro").unwrap();
    let record = Setup::default().walk(&disk.path);
    assert_eq!(record.paths(), ["a/b/file", "z"]);
    let dirs: HashSet<_> = record.dir_paths().into_iter().collect();
    assert!(dirs.contains("a/b") && !dirs.contains("a/b/loop"));
    let problems: Vec<_> = record
        .problems
        .iter()
        .map(|p| (p.0, p.1.as_str()))
        .collect();
    assert_eq!(problems, [(ErrorKind::Escape, "/SOURCE/a/b/loop")]);
}
