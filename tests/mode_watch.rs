//! Somebody watches a file while it gets its attributes: at no moment has anybody else more rights
//! to it than in the end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failure of the bench is a failed test"
)]

mod ports;
mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use inhaul::scan::Attributes;
use inhaul::target::Policy;
use inhaul::target::attributes::apply;
use ports::target::plain;
use ports::{root, scratch};
use rustix::fs::{Mode, OFlags};
use support::dice::{Dice, seed};

/// Sets of mode, owner, ACL and attributes that are tried.
const SETS: usize = 10_000;

/// An ACL with a named user; its entries: `user::`, `user:1234:`, `group::`, `mask::`, `other::`.
fn acl(bits: [u8; 5]) -> Vec<u8> {
    // Tags and layout: linux/posix_acl_xattr.h.
    let tags: [(u8, u32); 5] = [
        (0x01, u32::MAX),
        (0x02, 1234),
        (0x04, u32::MAX),
        (0x10, u32::MAX),
        (0x20, u32::MAX),
    ];
    let mut bytes = vec![2, 0, 0, 0];
    for ((tag, id), bits) in tags.into_iter().zip(bits) {
        bytes.extend([tag, 0, bits, 0]);
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// What a file may have at most while it is watched.
#[derive(Debug, Clone)]
struct Watched {
    file: Arc<File>,
    wanted: Attributes,
    /// What the user 1234 may do in the end.
    named: u8,
}

fn throw(dice: &mut Dice) -> (Attributes, u8) {
    let mut mode = u32::try_from(dice.below(0o10000)).unwrap();
    let mut xattrs = Vec::new();
    let mut named = 0;
    if dice.coin() {
        xattrs.push((b"user.x".to_vec(), b"value".to_vec()));
    }
    if dice.coin() {
        let mut bits = || u8::try_from(dice.below(8)).unwrap();
        let (user, group, mask) = (bits(), bits(), bits());
        let [owner, other] = [mode >> 6, mode].map(|bits| u8::try_from(bits & 7).unwrap());
        // As a source has them: the group bits of the mode are the mask.
        mode = (mode & !0o070) | (u32::from(mask) << 3);
        xattrs.push((
            b"system.posix_acl_access".to_vec(),
            acl([owner, user, group, mask, other]),
        ));
        named = user & mask;
    }
    let [uid, gid] = [dice.below(3), dice.below(3)].map(|id| u32::try_from(id).unwrap() * 1000);
    let wanted = Attributes {
        uid,
        gid,
        xattrs,
        ..plain(mode)
    };
    (wanted, named)
}

/// Returns what user 1234 may do by an ACL, if there is one.
fn named(file: &File) -> Option<u8> {
    let mut bytes = [0; 256];
    let len = rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut bytes[..]).ok()?;
    let of = |tag: u8| {
        let entries = bytes[4..len].chunks_exact(8);
        entries
            .filter(|entry| entry[0] == tag)
            .map(|entry| entry[2])
            .next()
    };
    Some(of(0x02).unwrap_or(0) & of(0x10).unwrap_or(7))
}

/// Looks once, and says what is wrong.
fn look(watched: &Watched) -> Option<String> {
    let stat = rustix::fs::fstat(&watched.file).unwrap();
    let more = stat.st_mode & 0o077 & !watched.wanted.mode;
    if more != 0 {
        return Some(format!("mode {:o}, of {watched:?}", stat.st_mode));
    }
    let is_given = (stat.st_uid, stat.st_gid) == (watched.wanted.uid, watched.wanted.gid);
    if stat.st_mode & 0o6000 != 0 && !is_given {
        return Some(format!("set-id bits for another owner: {watched:?}"));
    }
    let now = named(&watched.file).unwrap_or(0) & !watched.named;
    (now != 0).then(|| format!("ACL gives {now:o} more, of {watched:?}"))
}

#[test]
fn nobody_ever_has_more_rights_than_in_the_end() {
    if !root() {
        return;
    }
    let seed = seed();
    eprintln!("INHAUL_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let scratch = scratch();
    let dir = ports::target::handle(scratch.path());
    let policy = Policy {
        setid: true,
        caps: false,
        owner: true,
    };
    let at_hand: Mutex<Option<Watched>> = Mutex::new(None);
    let done = AtomicBool::new(false);
    let (wrong, looks) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut wrong, mut looks) = (Vec::new(), 0_usize);
            while !done.load(Relaxed) {
                let watched = at_hand.lock().unwrap().clone();
                let Some(watched) = watched else { continue };
                wrong.extend(look(&watched));
                looks += 1;
            }
            (wrong, looks)
        });
        for number in 0..SETS {
            let (wanted, named) = throw(&mut dice);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let name = number.to_string();
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(&dir, &name, flags, mode).unwrap();
            let watched = Watched {
                file: Arc::new(File::from(file)),
                wanted,
                named,
            };
            *at_hand.lock().unwrap() = Some(watched.clone());
            let applied = apply(watched.file.as_fd(), &watched.wanted, &policy);
            assert_eq!(applied.losses, [], "{watched:?}");
            assert_eq!(look(&watched), None);
            let stat = rustix::fs::fstat(&watched.file).unwrap();
            assert_eq!(stat.st_mode & 0o7777, watched.wanted.mode, "{watched:?}");
            rustix::fs::unlinkat(&dir, &name, rustix::fs::AtFlags::empty()).unwrap();
        }
        done.store(true, Relaxed);
        watcher.join().unwrap()
    });
    assert!(
        wrong.is_empty(),
        "{} of {looks} looks: {:#?}",
        wrong.len(),
        wrong.first()
    );
    assert!(looks > SETS / 10, "only {looks} looks");
}

#[test]
fn a_mode_that_comes_too_early_is_seen() {
    // The control: what `look` says of a file that is opened up first.
    let scratch = scratch();
    let path = scratch.path().join("file");
    std::fs::write(&path, "x").unwrap();
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o644)).unwrap();
    let mut watched = Watched {
        file: Arc::new(File::open(&path).unwrap()),
        wanted: plain(0o600),
        named: 0,
    };
    assert!(look(&watched).is_some());
    watched.wanted = Attributes {
        uid: 1,
        ..plain(0o4644)
    };
    assert_eq!(look(&watched), None);
    if root() {
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o4644)).unwrap();
        assert!(look(&watched).is_some(), "set-id for root");
        let given = acl([6, 7, 0, 7, 0]);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, "system.posix_acl_access", &given, flags).unwrap();
        watched.wanted = plain(0o4677);
        assert!(look(&watched).is_some(), "an ACL");
    }
}
