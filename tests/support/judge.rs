//! Judges from outside: does the copy hold what the source holds?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags};

use super::program::{contents, job};
use super::tool;

/// Fails unless rsync, comparing everything it knows, would change nothing.
#[track_caller]
pub(crate) fn rsync_agrees(source: &Path, copy: &Path) {
    let told = rsync_differences(source, copy, &[]);
    assert!(
        told.is_empty(),
        "rsync {} {}:\n{told}",
        source.display(),
        copy.display()
    );
}

/// The same where the contents of a source lie directly in TARGET.
#[track_caller]
pub(crate) fn rsync_agrees_in_target(source: &Path, target: &Path) {
    let told = rsync_differences(source, target, &["--exclude=/.inhaul"]);
    assert!(
        told.is_empty(),
        "rsync {} {}:\n{told}",
        source.display(),
        target.display()
    );
}

/// Returns what rsync would change, a line each.
pub(crate) fn rsync_differences(source: &Path, copy: &Path, more: &[&str]) -> String {
    let mut command = Command::new("rsync");
    command
        .args(["-naiHAXSc", "--numeric-ids", "--delete"])
        // XFS shows root its ACLs a second time, under a name that no other file system takes.
        .arg("--filter=-x trusted.SGI_ACL_*")
        .args(more)
        .args([contents(source), contents(copy)])
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout) + &text(&output.stderr)
}

/// Fails unless `b3sum -c`, run inside TARGET, finds every file of the newest manifest right, and
/// the manifest together with the names b3sum cannot take holds `files` records.
#[track_caller]
pub(crate) fn b3sum_agrees(target: &Path, files: usize) {
    let folder = job(target);
    let manifest = std::fs::read(folder.join("manifest.b3")).unwrap();
    if !manifest.is_empty() {
        let mut command = Command::new("b3sum");
        command
            .args(["--quiet", "-c", ".inhaul/latest/manifest.b3"])
            .current_dir(target);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "b3sum in {}: {}{}",
            target.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let count = |bytes: &[u8], end| bytes.split(|&byte| byte == end).count() - 1;
    let lines = count(&manifest, b'\n');
    let other = std::fs::read(folder.join("manifest.nul")).unwrap_or_default();
    assert_eq!(
        lines + count(&other, 0),
        files,
        "records of {}",
        target.display()
    );
}

/// Fails unless two files hold the same bytes.
#[track_caller]
pub(crate) fn same_bytes(a: &Path, b: &Path) {
    tool("cmp", &[a, b]);
}

/// Returns the bytes a file takes up on its file system.
pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().blocks() * 512
}

/// Everything about one name in a tree but its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// `file`, `dir`, `symlink` or another.
    pub(crate) kind: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// User and group.
    pub(crate) owner: (u32, u32),
    /// Seconds and nanoseconds of the modification time.
    pub(crate) time: (i64, u32),
    /// Length; 0 for directories.
    pub(crate) size: u64,
    /// Names of the inode; 0 for directories.
    pub(crate) names: u32,
    /// Digest of the bytes, or the text of a symlink.
    pub(crate) content: Vec<u8>,
}

/// A tree, by path relative to its root.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Walks a tree by directory descriptors alone, so that no path is too long. Leaves out the
/// private folder at its top.
pub(crate) fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let dir = open(CWD, root.as_os_str().as_encoded_bytes(), OFlags::DIRECTORY);
    descend(&dir, &[], &mut tree);
    tree
}

/// Returns how many names of regular files a tree has.
pub(crate) fn files(tree: &Tree) -> usize {
    tree.values().filter(|node| node.kind == "file").count()
}

/// Returns the bytes of all regular files of a tree, each name counted.
pub(crate) fn bytes(tree: &Tree) -> u64 {
    tree.values()
        .filter(|node| node.kind == "file")
        .map(|node| node.size)
        .sum()
}

fn open(at: impl AsFd, name: &[u8], more: OFlags) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(at, name, flags, Mode::empty())
        .unwrap_or_else(|errno| panic!("open {}: {errno}", name.escape_ascii()))
}

fn descend(dir: &OwnedFd, path: &[u8], tree: &mut Tree) {
    for entry in Dir::read_from(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || (path.is_empty() && name == b".inhaul") {
            continue;
        }
        let stat = rustix::fs::statx(
            dir,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        )
        .unwrap();
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let mut below = path.to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name);
        let is_dir = kind == FileType::Directory;
        let (kind, content) = match kind {
            FileType::RegularFile => ("file".to_owned(), digest(open(dir, name, OFlags::empty()))),
            FileType::Directory => ("dir".to_owned(), Vec::new()),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(dir, name, Vec::new()).unwrap();
                ("symlink".to_owned(), text.into_bytes())
            }
            other => (
                format!("{other:?} {}:{}", stat.stx_rdev_major, stat.stx_rdev_minor),
                vec![],
            ),
        };
        let node = Node {
            kind,
            mode: u32::from(stat.stx_mode) & 0o7777,
            owner: (stat.stx_uid, stat.stx_gid),
            time: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            size: if is_dir { 0 } else { stat.stx_size },
            names: if is_dir { 0 } else { stat.stx_nlink },
            content,
        };
        if is_dir {
            descend(&open(dir, name, OFlags::DIRECTORY), &below, tree);
        }
        tree.insert(below, node);
    }
}

fn digest(file: OwnedFd) -> Vec<u8> {
    let mut file = File::from(file);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finalize().as_bytes().to_vec(),
            count => hasher.update(&buffer[..count]),
        };
    }
}

/// Fails unless two trees are the same, naming the first difference.
#[track_caller]
pub(crate) fn same_trees(source: &Tree, copy: &Tree) {
    let show = |path: &[u8]| {
        let text = path.escape_ascii().to_string();
        format!("...{}", &text[text.len().saturating_sub(80)..])
    };
    for (path, node) in source {
        assert_eq!(copy.get(path), Some(node), "{}", show(path));
    }
    for path in copy.keys() {
        assert!(source.contains_key(path), "{} is too many", show(path));
    }
}
