//! A target whose silence is noticed: each call of another target is noted while it lasts.

use std::sync::Arc;

use super::context::Context;
use super::log::Log;
use super::vigil::Vigil;
use crate::error::{Error, ErrorKind};
use crate::scan::{Attributes, Kind};
use crate::target::{
    Applied, LocalTarget, Outline, Sealed, StageId, Staged, Stager, Target, TargetStamp, Vacancy,
};

/// Ends a run when it goes, however that ended. A thread that a drive holds keeps what it has for ever:
/// it must find the target closed, and nobody after this run must wait for it.
pub(super) struct Closing {
    pub(super) context: Arc<Context>,
    pub(super) target: Arc<LocalTarget>,
    pub(super) log: Arc<Log>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        // (Whoever wakes up then has nothing to tell.)
        let _first = self.context.lost.set(ErrorKind::Stopped);
        self.context.outcomes.close();
        // While something is still asked of it, nobody else may have it.
        if self.log.vigil().close() {
            self.target.home().let_go();
            self.context.around.let_go();
        }
    }
}

/// The target.
#[derive(Debug)]
pub(super) struct WatchedTarget {
    target: Arc<dyn Target>,
    vigil: Arc<Vigil>,
}

impl WatchedTarget {
    pub(super) fn new(target: Arc<dyn Target>, vigil: &Arc<Vigil>) -> Self {
        let vigil = Arc::clone(vigil);
        Self { target, vigil }
    }
}

impl Target for WatchedTarget {
    fn namesake(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let _asking = self.vigil.ask();
        self.target.namesake(path)
    }

    fn spelling(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let _asking = self.vigil.ask();
        self.target.spelling(path)
    }

    fn look_again(&self) -> Result<(), Error> {
        let _asking = self.vigil.ask();
        self.target.look_again()
    }

    fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        let _asking = self.vigil.enter()?;
        self.target.make_dir(path)
    }

    fn stager(&self, name: &str) -> Result<Box<dyn Stager>, Error> {
        let _asking = self.vigil.enter()?;
        let stager = self.target.stager(name)?;
        let vigil = Arc::clone(&self.vigil);
        Ok(Box::new(WatchedStager { stager, vigil }))
    }

    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        let _asking = self.vigil.ask();
        self.target.publish(batch)
    }

    fn syncs_whole(&self) -> bool {
        self.target.syncs_whole()
    }

    fn withdraw(&self, path: &[u8], stamp: TargetStamp) -> Result<(), Error> {
        let _asking = self.vigil.ask();
        self.target.withdraw(path, stamp)
    }

    fn settle(&self, paths: &[&[u8]]) -> Result<(), Error> {
        let _asking = self.vigil.ask();
        self.target.settle(paths)
    }

    fn finish_dir(&self, path: &[u8], attributes: &Attributes) -> Result<Applied, Error> {
        let _asking = self.vigil.enter()?;
        self.target.finish_dir(path, attributes)
    }

    fn close(&self, keep: bool) -> Result<(), Error> {
        let _asking = self.vigil.ask();
        self.target.close(keep)
    }
}

/// One thread's way into it.
#[derive(Debug)]
struct WatchedStager {
    stager: Box<dyn Stager>,
    vigil: Arc<Vigil>,
}

impl Stager for WatchedStager {
    fn vacancy(&mut self, path: &[u8]) -> Result<Vacancy, Error> {
        let _asking = self.vigil.ask();
        self.stager.vacancy(path)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let _asking = self.vigil.ask();
        self.stager.read_link(path)
    }

    fn stage(&mut self, path: &[u8], outline: Outline) -> Result<Staged, Error> {
        let _asking = self.vigil.enter()?;
        self.stager.stage(path, outline)
    }

    fn reopen(
        &mut self,
        path: &[u8],
        id: &StageId,
        outline: Outline,
        keep: u64,
    ) -> Result<Option<Staged>, Error> {
        let _asking = self.vigil.enter()?;
        self.stager.reopen(path, id, outline, keep)
    }

    fn read_staged(
        &mut self,
        path: &[u8],
        staged: &Staged,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let _asking = self.vigil.ask();
        self.stager.read_staged(path, staged, offset, buffer)
    }

    fn read_published(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        // It may take as long as a whole file does: each piece is an answer.
        let asking = self.vigil.ask();
        self.stager.read_published(path, stamp, &mut |bytes| {
            put(bytes);
            asking.renew();
        })
    }

    fn take_back(&mut self, path: &[u8], stamp: TargetStamp, id: &StageId) -> Result<bool, Error> {
        let _asking = self.vigil.enter()?;
        self.stager.take_back(path, stamp, id)
    }

    fn write_small(&mut self, path: &[u8], staged: &Staged, bytes: &[u8]) -> Result<(), Error> {
        let _asking = self.vigil.enter()?;
        self.stager.write_small(path, staged, bytes)
    }

    fn seal(
        &mut self,
        staged: Staged,
        size: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let _asking = self.vigil.enter()?;
        self.stager.seal(staged, size, path, replace, attributes)
    }

    fn set_again(
        &mut self,
        path: &[u8],
        stamp: TargetStamp,
        attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error> {
        let _asking = self.vigil.enter()?;
        self.stager.set_again(path, stamp, attributes)
    }

    fn symlink(
        &mut self,
        text: &[u8],
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let _asking = self.vigil.enter()?;
        self.stager.symlink(text, path, replace, attributes)
    }

    fn special(
        &mut self,
        kind: Kind,
        rdev: u64,
        path: Vec<u8>,
        replace: bool,
        attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        let _asking = self.vigil.enter()?;
        self.stager.special(kind, rdev, path, replace, attributes)
    }

    fn discard(&mut self, staged: Staged) {
        // When the run is over, what is staged may be another's by now.
        if let Ok(_asking) = self.vigil.enter() {
            self.stager.discard(staged);
        }
    }
}

#[cfg(test)]
mod tests;
