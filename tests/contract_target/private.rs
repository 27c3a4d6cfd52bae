//! What nobody else may see, and what is left behind (clause 5 and the stage).

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use inhaul::error::ErrorKind;
use inhaul::scan::Attributes;
use inhaul::target::{Outline, Target};

use super::ports::looking::{self, files, paths, staged};
use super::ports::target::{
    mtime, open, plain, planted, publish, small, stager, write_at, write_small,
};
use super::ports::{Place, painted, tool};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

pub(crate) fn directories_are_closed_until_finished(_: &Place, dir: &Path) {
    // Whatever is made below would be open to everybody, if it were left to this.
    tool(&[
        "setfacl",
        "-d",
        "-m",
        "u::rwx,g::rwx,o::rwx,u:1234:rwx",
        dir.to_str().unwrap(),
    ])
    .unwrap();
    let target = open(dir);
    assert!(target.make_dir(b"a").unwrap());
    assert!(target.make_dir(b"a/b").unwrap());
    assert_eq!(
        (mode(&dir.join("a")), mode(&dir.join("a/b"))),
        (0o700, 0o700)
    );
    let wanted = Attributes {
        uid: 1234,
        gid: 4321,
        ..plain(0o1755)
    };
    assert_eq!(target.finish_dir(b"a/b", &plain(0)).unwrap().losses, []);
    let applied = target.finish_dir(b"a", &wanted).unwrap();
    assert!(applied.owner_kept && applied.losses.is_empty());
    target.close(false).unwrap();
    let meta = std::fs::metadata(dir.join("a")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1234, 4321, 0o1755)
    );
    assert_eq!(mtime(&meta), wanted.mtime);
    assert_eq!(mode(&dir.join("a/b")), 0);
    assert_eq!(
        looking::tree(dir)[&b"a"[..]].xattrs,
        [],
        "no ACL that the source lacks"
    );
    assert_eq!(
        target.finish_dir(b"no", &plain(0)).unwrap_err().path(),
        dir.join("no")
    );
}

pub(crate) fn directories_that_are_there_are_kept(_: &Place, dir: &Path) {
    let there = planted(dir, "there");
    std::fs::set_permissions(&there, PermissionsExt::from_mode(0o751)).unwrap();
    std::fs::write(dir.join("file"), b"old").unwrap();
    std::os::unix::fs::symlink("there", dir.join("link")).unwrap();
    let target = open(dir);
    assert!(!target.make_dir(b"").unwrap());
    assert!(!target.make_dir(b"there").unwrap());
    assert_eq!(mode(&there), 0o751);
    for name in ["file", "link"] {
        let error = target.make_dir(name.as_bytes()).unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::TargetExists, &*dir.join(name))
        );
    }
    assert!(target.make_dir(b"no/parent").is_err());
}

pub(crate) fn staged_files_are_private(_: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    let outline = Outline {
        size: 5000,
        sparse: false,
        small: false,
    };
    let _held = [
        write_small(stager.as_mut(), "small", b"secret"),
        stager.stage(b"large", outline).unwrap(),
    ];
    let home = dir.join(".inhaul");
    assert_eq!(mode(&home), 0o700);
    let mut seen = 0;
    for path in staged(dir) {
        let full = home.join(&path);
        let is_file = full.is_file();
        seen += usize::from(is_file);
        assert_eq!(
            mode(&full),
            if is_file { 0o600 } else { 0o700 },
            "{}",
            path.display()
        );
    }
    assert_eq!(seen, 2);
}

pub(crate) fn discard_leaves_nothing(_: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    let before = staged(dir);
    let outline = Outline {
        size: 100_000,
        sparse: false,
        small: false,
    };
    for sparse in [false, true] {
        let staged = stager
            .stage(b"large", Outline { sparse, ..outline })
            .unwrap();
        write_at(&staged, 0, &painted(1, 5000));
        stager.discard(staged);
    }
    let staged_small = write_small(stager.as_mut(), "small", b"bytes");
    stager.discard(staged_small);
    assert_eq!(staged(dir), before);
    assert!(files(dir).is_empty());
}

pub(crate) fn close_clears_the_stage(_: &Place, dir: &Path) {
    let target = open(dir);
    let mut stager = stager(&target);
    publish(&target, &[small(stager.as_mut(), "kept", b"bytes", false)]);
    let _sealed = small(stager.as_mut(), "sealed", b"bytes", false);
    let _open = write_small(stager.as_mut(), "open", b"bytes");
    let (_link, _) = stager
        .symlink(b"text", b"link".to_vec(), false, &plain(0))
        .unwrap();
    target.close(false).unwrap();
    assert!(staged(dir).is_empty());
    assert_eq!(paths(dir), [&b""[..], b"kept"]);
}
