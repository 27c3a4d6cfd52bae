//! Every call of another target is noted while it lasts: one that is not would let a target hang
//! without a word, and the source drive be blamed that waits for it.

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::target::NullTarget;

/// Notes the calls that come, each with whether it is known that something is asked.
#[derive(Debug, Clone, Default)]
struct Ear {
    vigil: Arc<Vigil>,
    heard: Arc<Mutex<Vec<(&'static str, bool)>>>,
}

impl Ear {
    fn hears(&self, call: &'static str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push((call, self.vigil.is_asked()));
    }
}

#[derive(Debug)]
struct Listening(Ear, Box<dyn Stager>);

impl Target for Ear {
    fn namesake(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.hears("namesake");
        NullTarget.namesake(path)
    }

    fn spelling(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.hears("spelling");
        NullTarget.spelling(path)
    }

    fn look_again(&self) -> Result<(), Error> {
        self.hears("look_again");
        NullTarget.look_again()
    }

    fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        self.hears("make_dir");
        NullTarget.make_dir(path)
    }

    fn stager(&self, name: &str) -> Result<Box<dyn Stager>, Error> {
        self.hears("stager");
        let stager = Target::stager(&NullTarget, name)?;
        Ok(Box::new(Listening(self.clone(), stager)))
    }

    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        self.hears("publish");
        NullTarget.publish(batch)
    }

    fn syncs_whole(&self) -> bool {
        NullTarget.syncs_whole()
    }

    fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        self.hears("withdraw");
        NullTarget.withdraw(path, stamp)
    }

    fn settle(&self, paths: &[&[u8]]) -> Result<(), Error> {
        self.hears("settle");
        NullTarget.settle(paths)
    }

    fn finish_dir(&self, path: &[u8], attributes: &Attributes) -> Result<Applied, Error> {
        self.hears("finish_dir");
        NullTarget.finish_dir(path, attributes)
    }

    fn close(&self, keep: bool) -> Result<(), Error> {
        self.hears("close");
        NullTarget.close(keep)
    }
}

impl Stager for Listening {
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error> {
        self.0.hears("vacancy");
        self.1.vacancy(path)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.hears("read_link");
        self.1.read_link(path)
    }

    fn stage(&mut self, path: &[u8], outline: Outline) -> Result<Staged, Error> {
        self.0.hears("stage");
        self.1.stage(path, outline)
    }

    fn reopen(
        &mut self,
        path: &[u8],
        id: &StageId,
        outline: Outline,
        keep: u64,
    ) -> Result<Option<Staged>, Error> {
        self.0.hears("reopen");
        self.1.reopen(path, id, outline, keep)
    }

    fn read_staged(
        &mut self,
        path: &[u8],
        staged: &Staged,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.hears("read_staged");
        self.1.read_staged(path, staged, offset, buffer)
    }

    fn read_published(
        &mut self,
        _path: &[u8],
        _stamp: TargetStamp,
        put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        // It may be long: each piece is asked for.
        self.0.hears("read_published");
        put(b"piece");
        self.0.hears("read_published on");
        Ok(true)
    }

    fn take_back(&mut self, path: &[u8], stamp: TargetStamp, id: &StageId) -> Result<bool, Error> {
        self.0.hears("take_back");
        self.1.take_back(path, stamp, id)
    }

    fn write_small(&mut self, path: &[u8], staged: &Staged, bytes: &[u8]) -> Result<(), Error> {
        self.0.hears("write_small");
        self.1.write_small(path, staged, bytes)
    }

    fn seal(
        &mut self,
        staged: Staged,
        size: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        self.0.hears("seal");
        self.1.seal(staged, size, path, replace, attributes)
    }

    fn set_again(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error> {
        self.0.hears("set_again");
        self.1.set_again(path, stamp, attributes)
    }

    fn symlink(
        &mut self,
        text: &[u8],
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        self.0.hears("symlink");
        self.1.symlink(text, path, replace, attributes)
    }

    fn special(
        &mut self,
        kind: Kind,
        rdev: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        self.0.hears("special");
        self.1.special(kind, rdev, path, replace, attributes)
    }

    fn discard(&mut self, staged: Staged) {
        self.0.hears("discard");
        self.1.discard(staged);
    }
}

/// Asks for everything there is, but for `close`.
fn ask_all(watched: &WatchedTarget, stager: &mut dyn Stager) {
    let outline = Outline {
        size: 1,
        sparse: false,
        small: true,
    };
    let id = StageId {
        thread: "t".into(),
        number: 1,
        ino: 2,
    };
    let (stamp, attributes) = (TargetStamp::default(), Attributes::default());
    watched.make_dir(b"d").unwrap();
    watched.namesake(b"n").unwrap();
    watched.spelling(b"n").unwrap();
    watched.look_again().unwrap();
    watched.withdraw(b"w", stamp).unwrap();
    watched.settle(&[]).unwrap();
    watched.finish_dir(b"d", &attributes).unwrap();
    assert!(watched.publish(&[]).is_empty());
    stager.vacancy(b"v").unwrap();
    stager.read_link(b"l").unwrap();
    let staged = stager.stage(b"s", outline).unwrap();
    assert!(stager.reopen(b"s", &id, outline, 0).unwrap().is_none());
    stager.read_staged(b"s", &staged, 0, &mut []).unwrap();
    assert!(stager.read_published(b"p", stamp, &mut |_| {}).unwrap());
    stager.take_back(b"p", stamp, &id).unwrap();
    stager.write_small(b"s", &staged, b"x").unwrap();
    stager.discard(staged);
    let staged = stager.stage(b"s", outline).unwrap();
    let path = || b"s".to_vec();
    stager.seal(staged, 1, path(), false, &attributes).unwrap();
    stager.set_again(b"s", stamp, &attributes).unwrap();
    stager.symlink(b"t", path(), false, &attributes).unwrap();
    let fifo = stager.special(Kind::Fifo, 0, path(), false, &attributes);
    fifo.unwrap();
}

#[test]
fn every_call_is_noted_while_it_lasts() {
    let ear = Ear::default();
    let watched = WatchedTarget::new(Arc::new(ear.clone()), &ear.vigil);
    let mut stager = watched.stager("t").unwrap();
    ask_all(&watched, &mut *stager);
    watched.close(true).unwrap();
    let calls = [
        "stager",
        "make_dir",
        "namesake",
        "spelling",
        "look_again",
        "withdraw",
        "settle",
        "finish_dir",
        "publish",
        "vacancy",
        "read_link",
        "stage",
        "reopen",
        "read_staged",
        "read_published",
        "read_published on",
        "take_back",
        "write_small",
        "discard",
        "stage",
        "seal",
        "set_again",
        "symlink",
        "special",
        "close",
    ];
    let heard = ear.heard.lock().unwrap().clone();
    assert_eq!(heard, calls.map(|call| (call, true)));
    assert!(!ear.vigil.is_asked(), "an answer was not noted");
}
