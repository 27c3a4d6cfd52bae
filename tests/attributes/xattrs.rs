//! Extended attributes by their names and sizes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::removexattr;
use rustix::io::Errno;

use crate::{
    ALL, Mounted, PLAIN, apply_new, clean, file, loss, mode_of, read_file, set_xattr, times_of,
    xattr,
};

pub(crate) fn names_that_belong_to_the_system_stay_behind(at: &Path) {
    let source = file(at, "source", 0o600);
    set_xattr(&source, "trusted.overlay.opaque", b"y");
    set_xattr(&source, "security.ours", b"label");
    set_xattr(&source, "user.kept", b"1");
    let outcome = read_file(&source, ALL);
    let kept = vec![(b"user.kept".to_vec(), b"1".to_vec())];
    assert_eq!(outcome.xattrs, kept);
    assert_eq!((outcome.cleared, outcome.unread), (0, None));

    let mut forged = outcome;
    let foreign = (b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    forged.xattrs.push(foreign);
    let (target, applied) = apply_new(at, "target", &forged, ALL);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&target, "trusted.overlay.opaque"), None);
    assert_eq!(xattr(&target, "user.kept").unwrap(), b"1");
}

pub(crate) fn long_lists_of_names_are_read_whole(at: &Path) {
    // Six names of 250 bytes: more than the first buffer.
    let source = file(at, "source", 0o600);
    let names: Vec<String> = (0..6)
        .map(|n| format!("user.{n}{}", "n".repeat(244)))
        .collect();
    for name in &names {
        set_xattr(&source, name, &name.as_bytes()[5..6]);
    }
    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.xattrs.len(), outcome.unread), (6, None));
    let (target, applied) = apply_new(at, "target", &outcome, PLAIN);
    assert_eq!(applied, clean());
    for (name, value) in names.iter().zip(["0", "1", "2", "3", "4", "5"]) {
        assert_eq!(xattr(&target, name).unwrap(), value.as_bytes());
    }
}

/// XFS and tmpfs take values of 60 kB; ext4 stops at a block, btrfs at a leaf of 16 KiB.
pub(crate) fn large_values(kind: &str, at: &Path) {
    let source = file(at, "source", 0o600);
    let size = match kind {
        "ext4" => 3000,
        "btrfs" => 15_000,
        _ => 60_000,
    };
    let value: Vec<u8> = (0..=250).cycle().take(size).collect();
    set_xattr(&source, "user.large", &value);
    let outcome = read_file(&source, PLAIN);
    let held = vec![(b"user.large".to_vec(), value.clone())];
    assert_eq!((&outcome.xattrs, outcome.unread), (&held, None));
    let (target, applied) = apply_new(at, "target", &outcome, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(xattr(&target, "user.large").unwrap(), value);

    // What does not fit is a loss; all the rest arrives.
    if matches!(kind, "ext4" | "btrfs") {
        let mut wanted = outcome;
        wanted.mode = 0o640;
        wanted.mtime = (5, 6);
        wanted.xattrs = vec![
            (b"user.too\nlarge".to_vec(), vec![7; 60_000]),
            (b"user.small".to_vec(), b"1".to_vec()),
        ];
        let (target, applied) = apply_new(at, "partly", &wanted, PLAIN);
        let lost = vec![loss("xattr user.too\\nlarge", Errno::NOSPC)];
        assert_eq!((applied.owner_kept, applied.losses), (true, lost));
        assert_eq!(xattr(&target, "user.small").unwrap(), b"1");
        assert_eq!((mode_of(&target), times_of(&target)[1]), (0o640, (5, 6)));
    }
}

#[test]
fn an_attribute_that_changes_size_meanwhile_is_read_as_one_or_the_other() {
    let Some(mounted) = Mounted::new("tmpfs") else {
        return;
    };
    let source = file(&mounted.path(), "source", 0o600);
    let values = [vec![1; 10], vec![2; 3000]];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for value in &values {
                    set_xattr(&source, "user.flip", value);
                }
                removexattr(&source, "user.flip").unwrap();
            }
        });
        let wrong = (0..5000).find_map(|_| {
            let outcome = read_file(&source, PLAIN);
            let fine = outcome.unread.is_none()
                && outcome
                    .xattrs
                    .iter()
                    .all(|(_, value)| values.contains(value));
            (!fine).then_some(outcome)
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
}
