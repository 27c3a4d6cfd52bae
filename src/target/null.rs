//! A target that forgets: for `hash` and `verify`, and as the ceiling of what a target could be.

use super::{
    Applied, Forgone, Form, Geometry, Outline, Sealed, StageId, Staged, Stager, Target,
    TargetStamp, Vacancy,
};
use crate::error::Error;
use crate::scan::{Attributes, Kind};

/// Takes everything, keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullTarget;

impl Target for NullTarget {
    fn namesake(&self, _path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn spelling(&self, _path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn look_again(&self) -> Result<(), Error> {
        Ok(())
    }

    fn make_dir(&self, _path: &[u8]) -> Result<bool, Error> {
        Ok(true)
    }

    fn stager(&self, _name: &str) -> Result<Box<dyn Stager>, Error> {
        Ok(Box::new(Self))
    }

    fn publish(&self, batch: &[Sealed]) -> Vec<Result<(), Error>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    fn finish_dir(&self, _path: &[u8], _attributes: &Attributes) -> Result<Applied, Error> {
        Ok(nothing_lost())
    }

    fn syncs_whole(&self) -> bool {
        true
    }

    fn withdraw(&self, _path: &[u8], _stamp: TargetStamp) -> Result<(), Error> {
        Ok(())
    }

    fn settle(&self, _paths: &[&[u8]]) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _keep: bool) -> Result<(), Error> {
        Ok(())
    }
}

fn nothing_lost() -> Applied {
    Applied {
        owner_kept: true,
        ..Applied::default()
    }
}

fn nothing(target_path: Vec<u8>, replace: bool) -> (Sealed, Applied) {
    (
        Sealed {
            form: Form::Nothing,
            target_path,
            replace,
            stamp: None,
            lacks: false,
            forgone: Forgone::default(),
        },
        nothing_lost(),
    )
}

impl Stager for NullTarget {
    fn vacancy(&mut self, _path: &[u8]) -> Result<Vacancy, Error> {
        Ok(Vacancy::Free)
    }

    fn read_link(&mut self, _path: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn stage(&mut self, _path: &[u8], _outline: Outline) -> Result<Staged, Error> {
        Ok(Staged {
            file: None,
            geometry: Geometry {
                align: 1,
                cached: false,
            },
            sparse: false,
            id: None,
            dir: None,
        })
    }

    fn reopen(
        &mut self,
        _path: &[u8],
        _id: &StageId,
        _outline: Outline,
        _keep: u64,
    ) -> Result<Option<Staged>, Error> {
        Ok(None)
    }

    fn read_staged(
        &mut self,
        _path: &[u8],
        _staged: &Staged,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Result<usize, Error> {
        Ok(0)
    }

    fn read_published(
        &mut self,
        _path: &[u8],
        _stamp: TargetStamp,
        _put: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        Ok(false)
    }

    fn take_back(
        &mut self,
        _path: &[u8],
        _stamp: TargetStamp,
        _id: &StageId,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    fn write_small(&mut self, _: &[u8], _staged: &Staged, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn seal(
        &mut self,
        _staged: Staged,
        _size: u64,
        path: Vec<u8>,
        replace: bool,
        _attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        Ok(nothing(path, replace))
    }

    fn set_again(
        &mut self,
        _path: &[u8],
        _stamp: TargetStamp,
        _attributes: &Attributes,
    ) -> Result<Option<(Applied, TargetStamp)>, Error> {
        Ok(None)
    }

    fn symlink(
        &mut self,
        _text: &[u8],
        path: Vec<u8>,
        replace: bool,
        _attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        Ok(nothing(path, replace))
    }

    fn special(
        &mut self,
        _kind: Kind,
        _rdev: u64,
        path: Vec<u8>,
        replace: bool,
        _attributes: &Attributes,
    ) -> Result<(Sealed, Applied), Error> {
        Ok(nothing(path, replace))
    }

    fn discard(&mut self, _staged: Staged) {}
}
