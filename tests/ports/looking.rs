//! Looking at trees from outside, with plain std::fs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything about one name but its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// `file`, `dir`, `symlink` or `other`.
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    /// Digest of the bytes, or the text of a symlink.
    pub(crate) content: Vec<u8>,
    /// The first name, in order, of the same inode; `None` when it has but one.
    pub(crate) first: Option<Vec<u8>>,
    /// Access ACL, default ACL, and attributes of users, by name.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tree by path relative to its root; the root itself is the empty path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Looks at all of a tree but the private folder at its top.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut inodes = BTreeMap::new();
    let mut tree = Tree::new();
    for path in paths(root) {
        let full = root.join(OsStr::from_bytes(&path));
        let meta = std::fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let (kind, content) = if kind.is_dir() {
            ("dir", Vec::new())
        } else if kind.is_symlink() {
            let text = std::fs::read_link(&full).unwrap();
            ("symlink", text.as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            let bytes = std::fs::read(&full).unwrap();
            ("file", blake3::hash(&bytes).as_bytes().to_vec())
        } else {
            let fifo = u8::from(kind.is_fifo());
            ("other", vec![fifo, meta.rdev().to_le_bytes()[0]])
        };
        let first = (kind != "dir" && meta.nlink() > 1).then(|| {
            let first = inodes.entry((meta.dev(), meta.ino()));
            first.or_insert_with(|| path.clone()).clone()
        });
        let node = Node {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            first,
            xattrs: xattrs(&full),
        };
        tree.insert(path, node);
    }
    tree
}

/// Returns all paths below a root but the private folder's, and the empty one; parents first.
pub(crate) fn paths(root: &Path) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        let full = root.join(OsStr::from_bytes(&path));
        let is_dir = std::fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_dir());
        if !is_dir {
            continue;
        }
        for entry in std::fs::read_dir(&full).unwrap() {
            let name = entry.unwrap().file_name();
            if path.is_empty() && name == ".inhaul" {
                continue;
            }
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            found.push(below);
        }
    }
    found.sort();
    found
}

/// Returns the names of regular files below a root, the private folder's left out.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let is_file = |path: &PathBuf| {
        std::fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_file())
    };
    let paths = paths(root).into_iter();
    paths
        .map(|path| PathBuf::from(OsStr::from_bytes(&path)))
        .filter(is_file)
        .collect()
}

/// Returns everything in the staging folders of a target, relative to `.inhaul`.
pub(crate) fn staged(target: &Path) -> Vec<PathBuf> {
    let home = target.join(".inhaul");
    let mut found = Vec::new();
    let Ok(jobs) = std::fs::read_dir(&home) else {
        return found;
    };
    for job in jobs {
        let job = job.unwrap();
        let stage = job.path().join("stage");
        // `latest` and `current` are links to a job.
        if !job.file_type().unwrap().is_symlink() && stage.is_dir() {
            for path in paths(&stage) {
                let full = stage.join(OsStr::from_bytes(&path));
                found.push(full.strip_prefix(&home).unwrap().to_owned());
            }
        }
    }
    found
}

/// Returns the names of the jobs that a later run can go on with.
pub(crate) fn unfinished(target: &Path) -> Vec<String> {
    let mut jobs = Vec::new();
    for job in std::fs::read_dir(target.join(".inhaul")).unwrap() {
        let job = job.unwrap();
        // `latest` and `current` are links to a job.
        if job.file_type().unwrap().is_dir() && job.path().join("unfinished").exists() {
            jobs.push(job.file_name().into_string().unwrap());
        }
    }
    jobs
}

/// Fails unless all that is staged are numbered files of jobs that a later run can go on with.
#[track_caller]
pub(crate) fn left_for_later(target: &Path) {
    let jobs = unfinished(target);
    for path in staged(target) {
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let is_ours = |job: &str| jobs.iter().any(|name| name == job);
        let is_left = match parts.as_slice() {
            [job, "stage"] | [job, "stage", _] => is_ours(job),
            [job, "stage", _, number] => is_ours(job) && is_number(number),
            _ => false,
        };
        assert!(is_left, "{} is left", path.display());
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, names.as_mut_slice()) else {
        return Vec::new();
    };
    let carried =
        |name: &&[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl");
    let mut found = Vec::new();
    for name in names[..len].split(|&byte| byte == 0).filter(carried) {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        found.push((name.to_vec(), value[..len].to_vec()));
    }
    found.sort();
    found
}

/// Fails unless two trees are the same, naming the first difference.
#[track_caller]
pub(crate) fn same(source: &Tree, copy: &Tree) {
    for (path, node) in source {
        assert_eq!(copy.get(path), Some(node), "{}", path.escape_ascii());
    }
    for path in copy.keys() {
        assert!(
            source.contains_key(path),
            "{} is too many",
            path.escape_ascii()
        );
    }
}
