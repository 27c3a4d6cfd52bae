//! Modes, set-id bits and capabilities: what goes by policy, and outlives a change of owner.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use inhaul::scan::Attributes;
use inhaul::target::attributes::{Applied, Policy, apply};

use crate::{
    ALL, NET_RAW, PLAIN, apply_new, clean, dir, file, ids_of, mode_of, open_directory, read_dir,
    read_file, set_xattr, xattr,
};

pub(crate) fn every_mode_arrives(at: &Path) {
    for mode in [0o000, 0o200, 0o444, 0o755, 0o777, 0o1666] {
        let source = file(at, &format!("source {mode:o}"), mode);
        let outcome = read_file(&source, PLAIN);
        assert_eq!(outcome.cleared, 0);
        let (target, applied) = apply_new(at, &format!("target {mode:o}"), &outcome, PLAIN);
        assert_eq!(applied, clean());
        assert_eq!(mode_of(&target), mode);
    }
    // Sticky and setgid stay on directories whatever the policy.
    for mode in [0o000, 0o700, 0o1777, 0o2775] {
        let source = dir(at, &format!("source dir {mode:o}"), mode);
        chown(&source, Some(1234), Some(5678)).unwrap();
        let outcome = read_dir(&source, PLAIN);
        assert_eq!((outcome.mode, outcome.cleared), (mode, 0));
        let target = dir(at, &format!("target dir {mode:o}"), 0o700);
        let fd = open_directory(&target);
        assert_eq!(apply(fd.as_fd(), &outcome, &PLAIN), clean());
        assert_eq!((mode_of(&target), ids_of(&target)), (mode, (1234, 5678)));
    }
}

pub(crate) fn set_id_bits_go_by_policy_and_outlive_the_chown(at: &Path) {
    let source = file(at, "source", 0o755);
    chown(&source, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&source, Permissions::from_mode(0o6755)).unwrap();

    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.mode, outcome.cleared), (0o755, 2));

    let outcome = read_file(&source, ALL);
    assert_eq!((outcome.mode, outcome.cleared), (0o6755, 0));
    let (kept, applied) = apply_new(at, "kept", &outcome, ALL);
    assert_eq!(applied, clean());
    assert_eq!((mode_of(&kept), ids_of(&kept)), (0o6755, (1234, 5678)));

    // Attributes read under a laxer policy do not slip through.
    let (strict, applied) = apply_new(at, "strict", &outcome, PLAIN);
    assert_eq!((applied.cleared, mode_of(&strict)), (2, 0o755));
}

pub(crate) fn capabilities_go_by_policy_and_outlive_the_chown(at: &Path) {
    let source = file(at, "source", 0o755);
    chown(&source, Some(1234), Some(5678)).unwrap();
    set_xattr(&source, "security.capability", &NET_RAW);

    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.xattrs, outcome.cleared), (vec![], 1));

    let outcome = read_file(&source, ALL);
    let held = vec![(b"security.capability".to_vec(), NET_RAW.to_vec())];
    assert_eq!((&outcome.xattrs, outcome.cleared), (&held, 0));
    let (kept, applied) = apply_new(at, "kept", &outcome, ALL);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&kept, "security.capability").unwrap(), NET_RAW);
    assert_eq!(ids_of(&kept), (1234, 5678));
    let shown = Command::new("getcap").arg(&kept).output().unwrap().stdout;
    assert!(shown.ends_with(b" cap_net_raw=ep\n"), "{shown:?}");

    let (strict, applied) = apply_new(at, "strict", &outcome, PLAIN);
    assert_eq!(applied.cleared, 1);
    assert_eq!(xattr(&strict, "security.capability"), None);
}

pub(crate) fn without_the_right_to_chown_privileges_stay_behind(at: &Path) {
    let policy = Policy {
        owner: false,
        ..ALL
    };
    let wanted = Attributes {
        mode: 0o6751,
        uid: 1234,
        gid: 0,
        xattrs: vec![(b"security.capability".to_vec(), NET_RAW.to_vec())],
        ..Attributes::default()
    };
    let (target, applied) = apply_new(at, "other owner", &wanted, policy);
    let want = Applied {
        owner_kept: false,
        cleared: 3,
        losses: vec![],
    };
    assert_eq!(applied, want);
    assert_eq!((mode_of(&target), ids_of(&target)), (0o751, (0, 0)));
    assert_eq!(xattr(&target, "security.capability"), None);

    let own = Attributes { uid: 0, ..wanted };
    let (target, applied) = apply_new(at, "own", &own, policy);
    assert_eq!(applied, clean());
    assert_eq!(mode_of(&target), 0o6751);
    assert_eq!(xattr(&target, "security.capability").unwrap(), NET_RAW);
}
