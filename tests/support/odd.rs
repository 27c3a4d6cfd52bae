//! The tree that has everything a drive may hold.

use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;

use rustix::fs::XattrFlags;

use super::tool;
use super::tree::{age, many_small, name, paint, set_mode, set_time, sparse, text};

/// Sizes around every boundary the engine has: blocks, the small-file limit, digest subtrees.
pub(crate) const SIZES: [u64; 12] = [
    0,
    1,
    4095,
    4096,
    4097,
    64 << 10,
    (64 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (3 << 20) + 17,
    (8 << 20) + 5,
];

/// Names that are hard to type, to print or to write in a list.
pub(crate) const NAMES: [&[u8]; 20] = [
    b" lead and trail ",
    b"-n",
    b"--delete",
    b"-",
    b"*",
    b"?[a-z]",
    b"back\\slash",
    b"back\\nslash",
    b"new\nline",
    b"carriage\rreturn",
    b"ends in return\r",
    b"tab\there",
    b"\x1b[31mred\x1b]0;title\x07",
    b"not \xff\xfe utf-8",
    "\u{fffd} itself".as_bytes(),
    "\u{e9}\u{4e2d}\u{6587}\u{1f980}\u{202e}rtl".as_bytes(),
    b"\"quotes' $HOME `id` ;&|",
    b"#comment",
    b"...",
    b"\x01\x7f",
];

/// What a tree gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odd {
    /// Seed of all contents.
    pub(crate) seed: u64,
    /// Small files.
    pub(crate) small: usize,
    /// Length of the largest sparse file, in MiB.
    pub(crate) sparse_mib: u64,
}

/// Builds the tree. Needs root: it has owners.
pub(crate) fn build(root: &Path, odd: Odd) {
    let dir = |path: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    sizes(&dir("sizes"), odd.seed);
    names(&dir("names"), odd.seed);
    links(&dir("links"), &dir("links/other/deeper"), odd.seed);
    many_small(&dir("small"), odd.seed, odd.small);
    modes(&dir("modes"));
    extended(&dir("extended"), odd.seed);
    holes(&dir("holes"), odd);
    dir("empty/empty/empty");
    age(root, 1_400_000_000);
    times(&dir("times"));
    set_time(root, 1_234_567_890, 1);
}

fn sizes(dir: &Path, seed: u64) {
    for (index, len) in SIZES.into_iter().enumerate() {
        paint(&dir.join(format!("{len}")), seed + 7 * index as u64, len);
    }
}

fn names(dir: &Path, seed: u64) {
    let long = [b'n'; 255];
    let mut wide = "\u{4e2d}".repeat(85).into_bytes();
    wide.truncate(255);
    for (index, bytes) in NAMES.into_iter().chain([&long[..], &wide]).enumerate() {
        paint(
            &dir.join(name(bytes)),
            seed + index as u64,
            100 + index as u64,
        );
        let below = dir.join("as directories").join(name(bytes));
        std::fs::create_dir_all(&below).unwrap();
        paint(&below.join(name(bytes)), seed + 100 + index as u64, 10);
    }
}

fn links(dir: &Path, other: &Path, seed: u64) {
    // Hard links: two names side by side, and three over three directories, one of them large.
    paint(&dir.join("pair a"), seed, 5000);
    std::fs::hard_link(dir.join("pair a"), dir.join("pair b")).unwrap();
    paint(&dir.join("three 1"), seed + 1, (2 << 20) + 3);
    std::fs::hard_link(dir.join("three 1"), dir.join("other/three 2")).unwrap();
    std::fs::hard_link(dir.join("three 1"), other.join("three 3")).unwrap();
    paint(&dir.join("empty a"), seed, 0);
    std::fs::hard_link(dir.join("empty a"), other.join("empty b")).unwrap();
    // Another inode with the same bytes must stay another inode.
    paint(&dir.join("pair a's twin"), seed, 5000);

    for (link, text) in [
        (&b"to file"[..], &b"pair a"[..]),
        (b"to dir", b"other"),
        (b"dangling", b"nowhere/at all"),
        (b"absolute", b"/etc/passwd"),
        (b"upward", b"../../../../../../etc"),
        (b"loop", b"loop"),
        (b"odd text", b"new\nline \xff \x1b[1m"),
    ] {
        symlink(name(text), dir.join(name(link))).unwrap();
    }
    symlink("x".repeat(1000), dir.join("long text")).unwrap();
    lchown(dir.join("dangling"), Some(1234), Some(4321)).unwrap();
    std::fs::hard_link(dir.join("dangling"), other.join("dangling too")).unwrap();
}

fn modes(dir: &Path) {
    for mode in (0..0o1000)
        .step_by(0o37)
        .chain([0o777, 0o400, 0o040, 0o004])
    {
        let path = dir.join(format!("{mode:04o}"));
        text(&path, "x");
        set_mode(&path, mode);
    }
    for mode in [0o000, 0o111, 0o500, 0o700, 0o755, 0o1777, 0o2755] {
        let path = dir.join(format!("dir {mode:04o}"));
        std::fs::create_dir(&path).unwrap();
        text(&path.join("in it"), "y");
        set_mode(&path, mode);
    }
    for (index, (user, group)) in [(1, 2), (65_534, 65_534), (4_000_000_000, 3_999_999_999)]
        .into_iter()
        .enumerate()
    {
        let path = dir.join(format!("owner {index}"));
        text(&path, "z");
        chown(&path, Some(user), Some(group)).unwrap();
        let below = dir.join(format!("owned {index}"));
        std::fs::create_dir(&below).unwrap();
        chown(&below, Some(user), Some(group)).unwrap();
    }
}

fn extended(dir: &Path, seed: u64) {
    let set = |path: &Path, key: &str, value: &[u8]| {
        rustix::fs::setxattr(path, key, value, XattrFlags::CREATE)
            .unwrap_or_else(|errno| panic!("{key} of {}: {errno}", path.display()));
    };
    let small = dir.join("small");
    paint(&small, seed, 10);
    set(&small, "user.one", b"1");
    set(&small, "user.empty", b"");
    set(&small, "user.bytes", &[0, 255, 10, 13]);
    let large = dir.join("large");
    paint(&large, seed, (1 << 20) + 77);
    set(&large, "user.long", &[b'v'; 1500]);
    let inner = dir.join("a directory");
    std::fs::create_dir(&inner).unwrap();
    set(&inner, "user.dir", b"d");
    let read_only = dir.join("read-only");
    paint(&read_only, seed, 11);
    set(&read_only, "user.ro", b"r");
    set_mode(&read_only, 0o444);

    let acl = |rule: &str, path: &Path| {
        tool("setfacl", &["-m".as_ref(), rule.as_ref(), path.as_os_str()]);
    };
    acl("u:1234:rw-,g:4321:r-x,m::rwx", &small);
    acl("u:1:---", &large);
    // What a default ACL does to new files must not show in the copy: their own ACLs count.
    acl("u:1234:rwx,d:u:1234:rwx,d:g:77:r-x,d:o::---", &inner);
    paint(&inner.join("inherits"), seed, 12);
    paint(&inner.join("does not"), seed, 13);
    tool(
        "setfacl",
        &["-b".as_ref(), inner.join("does not").as_os_str()],
    );
    set_mode(&inner.join("does not"), 0o664);
    std::fs::create_dir(inner.join("subdirectory")).unwrap();
}

/// Returns where the data of the largest sparse file is: neither its head nor its tail.
pub(crate) fn islands(len: u64) -> [(u64, u64); 4] {
    let middle = (len / 2) & !0xf_ffff;
    [
        (3 << 20, 5000),
        (middle - 10, 20),
        (middle + (1 << 20) + 4096, (1 << 20) + 1),
        (len - (2 << 20), 4096),
    ]
}

fn holes(dir: &Path, odd: Odd) {
    let len = (odd.sparse_mib << 20) + 12_345;
    sparse(&dir.join("islands"), odd.seed, len, &islands(len));
    sparse(&dir.join("all hole"), odd.seed, 5 << 20, &[]);
    sparse(
        &dir.join("hole, then data"),
        odd.seed,
        (2 << 20) + 9,
        &[(2 << 20, 9)],
    );
    sparse(
        &dir.join("data, then hole"),
        odd.seed,
        9 << 20,
        &[(0, 70_000)],
    );
    sparse(
        &dir.join("small hole"),
        odd.seed,
        40_000,
        &[(0, 1), (39_999, 1)],
    );
}

fn times(dir: &Path) {
    for (index, (seconds, nanoseconds)) in [
        (0, 0),
        (0, 1),
        (1, 999_999_999),
        (-1, 0),
        (-1, 999_999_999),
        (-1_234_567_890, 123_456_789),
        (4_102_444_800, 5),
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.join(format!("file {index}"));
        text(&path, "t");
        set_time(&path, seconds, nanoseconds);
        let below = dir.join(format!("dir {index}"));
        std::fs::create_dir(&below).unwrap();
        text(&below.join("in it"), "t");
        set_time(&below, seconds, nanoseconds);
        let link = dir.join(format!("link {index}"));
        symlink("t", &link).unwrap();
        set_time(&link, seconds, nanoseconds);
    }
    set_time(dir, -5, 5);
}
