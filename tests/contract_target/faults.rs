//! Media that fail: a sync that fails is final (clause 4), a full target says so at once.

use std::os::fd::OwnedFd;

use inhaul::error::ErrorKind;
use inhaul::target::{Outline, Target};

use super::ports::looking::{files, staged};
use super::ports::target::{large, open, publish, seal, small, stager};
use super::ports::{Fs, Place, painted};

/// More than a thin medium holds, in files that are written through the cache.
const TOO_MANY: usize = 24;
const MIB: usize = 1 << 20;

fn sync_fails_for_good(fs: Fs) {
    let Some(place) = Place::thin(fs) else { return };
    let dir = place.dir("target");
    let target = open(&dir);
    target.make_dir(b"sub").unwrap();
    let mut stager = stager(&target);
    let kept = painted(1, 5000);
    publish(&target, &[small(stager.as_mut(), "sub/kept", &kept, false)]);
    // The file system takes all of it: it believes its medium to be large.
    let seal = |n: usize| {
        let bytes = painted(n as u64, MIB);
        small(stager.as_mut(), &format!("sub/{n}"), &bytes, false)
    };
    let batch: Vec<_> = (0..TOO_MANY).map(seal).collect();
    let answers = target.publish(&batch);
    assert_eq!(answers.len(), TOO_MANY);
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::TargetSync);
    }
    let is_named = |name: &str| std::fs::symlink_metadata(dir.join(name)).is_ok();
    assert!(!(0..TOO_MANY).any(|n| is_named(&format!("sub/{n}"))));
    // What was sealed later is not blamed by the kernel, which has told its error and forgets it.
    for _ in 0..2 {
        let link = inhaul::target::Sealed::link(b"sub/kept".to_vec(), b"new".to_vec(), false, None);
        let answers = target.publish(&[link]);
        assert_eq!(
            answers[0].as_ref().unwrap_err().kind(),
            ErrorKind::TargetSync
        );
        assert!(!is_named("new"));
    }
    for _ in 0..2 {
        assert_eq!(
            target.close(false).unwrap_err().kind(),
            ErrorKind::TargetSync
        );
    }
}

#[test]
fn after_a_failed_sync_on_ext4_nothing_is_published() {
    sync_fails_for_good(Fs::Ext4);
}

#[test]
fn after_a_failed_sync_on_xfs_nothing_is_published() {
    sync_fails_for_good(Fs::Xfs);
}

#[test]
fn after_a_failed_sync_on_btrfs_nothing_is_published() {
    sync_fails_for_good(Fs::Btrfs);
}

#[test]
fn the_witness_hears_of_what_was_lost_between_two_syncs() {
    let Some(place) = Place::thin(Fs::Ext4) else {
        return;
    };
    let dir = place.dir("target");
    let target = open(&dir);
    let mut stager = stager(&target);
    publish(&target, &[small(stager.as_mut(), "kept", b"bytes", false)]);
    std::fs::write(place.path.join("other"), painted(1, TOO_MANY * MIB)).unwrap();
    // Somebody else syncs and is told: the kernel need not tell whoever opens it from now on.
    let somebody = OwnedFd::from(std::fs::File::open(&place.path).unwrap());
    rustix::fs::syncfs(&somebody).unwrap_err();
    assert_eq!(
        target.close(false).unwrap_err().kind(),
        ErrorKind::TargetSync
    );
    assert_eq!(
        target.close(false).unwrap_err().kind(),
        ErrorKind::TargetSync
    );
}

#[test]
fn a_file_that_cannot_fit_is_refused_before_its_first_byte() {
    for fs in [Fs::Ext4, Fs::Xfs] {
        let Some(place) = Place::new(fs, 64) else {
            return;
        };
        let dir = place.dir("target");
        let target = open(&dir);
        let mut stager = stager(&target);
        let before = staged(&dir);
        let outline = Outline {
            size: 1 << 30,
            sparse: false,
            small: false,
        };
        let error = stager.stage(b"sub/large", outline).unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::TargetFull, &*dir.join("sub/large"))
        );
        assert_eq!(staged(&dir), before);
        // What does fit still goes on.
        let bytes = painted(1, 2 * MIB);
        publish(&target, &[large(stager.as_mut(), "fits", &bytes, false)]);
        target.close(false).unwrap();
        assert!(std::fs::read(dir.join("fits")).unwrap() == bytes);
    }
}

#[test]
fn a_write_to_a_full_target_fails_that_file_only() {
    for fs in [Fs::Tmpfs, Fs::Ext4] {
        let Some(place) = Place::new(fs, 8) else {
            return;
        };
        let dir = place.dir("target");
        let target = open(&dir);
        let mut stager = stager(&target);
        let bytes = painted(1, MIB);
        let outline = Outline {
            size: MIB as u64,
            sparse: false,
            small: true,
        };
        let mut batch = Vec::new();
        let error = loop {
            assert!(batch.len() < 64, "{fs:?} is never full");
            let name = format!("{}", batch.len());
            let staged = stager.stage(name.as_bytes(), outline).unwrap();
            match stager.write_small(name.as_bytes(), &staged, &bytes) {
                Ok(()) => batch.push(seal(stager.as_mut(), staged, MIB, &name, false)),
                Err(error) => {
                    stager.discard(staged);
                    break error;
                }
            }
        };
        assert_eq!(error.kind(), ErrorKind::TargetFull);
        publish(&target, &batch);
        target.close(false).unwrap();
        assert_eq!(files(&dir).len(), batch.len());
        assert!(std::fs::read(dir.join("3")).unwrap() == bytes);
        assert!(staged(&dir).is_empty());
    }
}
