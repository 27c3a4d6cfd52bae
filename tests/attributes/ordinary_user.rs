//! A run without rights.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use inhaul::beneath::{open_root, open_source};
use inhaul::scan::Attributes;
use inhaul::target::attributes::{Applied, Policy, can_chown};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{NET_RAW, apply_new, dir, ids_of, loss, mode_of, times_of, xattr};

/// Runs itself again as uid 65534 with the extra group 4242.
#[test]
fn an_ordinary_user_loses_owners_but_neither_order_nor_contents() {
    const SCRATCH: &str = "INHAUL_TEST_UNPRIVILEGED";
    if let Some(scratch) = std::env::var_os(SCRATCH) {
        return as_an_ordinary_user(Path::new(&scratch));
    }
    if !can_chown() {
        eprintln!("SKIPPED: cannot become another user (needs root)");
        return;
    }
    let top = tempfile::tempdir().unwrap();
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    let scratch = dir(top.path(), "scratch", 0o700);
    chown(&scratch, Some(65534), Some(65534)).unwrap();
    // Where this program was built may be closed to others.
    let program = top.path().join("program");
    let mut cp = Command::new("cp");
    cp.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(cp.status().unwrap().success());
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--groups", "4242"])
        .arg(&program)
        .args(["--exact", "--nocapture"])
        .arg("ordinary_user::an_ordinary_user_loses_owners_but_neither_order_nor_contents")
        .env(SCRATCH, &scratch)
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no setpriv");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
    assert!(complained.contains("ordinary user: done"), "{complained}");
}

fn as_an_ordinary_user(at: &Path) {
    assert!(!can_chown());
    let policy = Policy {
        setid: true,
        caps: true,
        owner: can_chown(),
    };
    // Read-only at the end: the attribute must be set while the copy is still writable.
    let wanted = Attributes {
        mode: 0o6555,
        uid: 0,
        gid: 4242,
        mtime: (-3, 4),
        atime: (1, 2),
        xattrs: vec![
            (b"user.colour".to_vec(), b"blue".to_vec()),
            (b"security.capability".to_vec(), NET_RAW.to_vec()),
        ],
        cleared: 0,
        unread: None,
    };
    let (target, applied) = apply_new(at, "of root", &wanted, policy);
    let want = Applied {
        owner_kept: false,
        cleared: 3,
        losses: vec![],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o555, (65534, 4242)));
    assert_eq!(times_of(&target), [(1, 2), (-3, 4)]);
    assert_eq!(xattr(&target, "user.colour").unwrap(), b"blue");

    let not_ours = Attributes {
        gid: 7777,
        ..wanted.clone()
    };
    let (target, applied) = apply_new(at, "of others", &not_ours, policy);
    assert_eq!(applied, want);
    assert_eq!(ids_of(&target), (65534, 65534));

    let own = Attributes {
        uid: 65534,
        ..wanted
    };
    let (target, applied) = apply_new(at, "own", &own, policy);
    let want = Applied {
        owner_kept: true,
        cleared: 0,
        losses: vec![loss("xattr security.capability", Errno::PERM)],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o6555, (65534, 4242)));

    // Someone else's file: access times cannot be left alone, and that is no reason to fail.
    let open_to_all = open_root(Path::new("/etc")).unwrap();
    let source = open_source(open_to_all.as_fd(), b"passwd", false).unwrap();
    let flags = rustix::fs::fcntl_getfl(&source.file).unwrap();
    assert!(!flags.contains(OFlags::NOATIME));
    eprintln!("ordinary user: done");
}
