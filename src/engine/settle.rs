//! Names that an earlier run gave and never acknowledged: taken away before anything else is done.
//!
//! Such a file is whole, but the journal has no digest of it, and after a kill the name itself may
//! not be durable. Left there, a later run would have to know every name that was ever about to be
//! given. So each goes: a large file whose blocks are recorded back to where it was staged, to be
//! gone on with; everything else altogether, to be copied again. Of what there can be, one batch
//! bounds it.

use std::time::Instant;

use super::standing::{found, staged};
use crate::error::Error;
use crate::journal::{Loaded, Naming, Record, Writer};
use crate::seam;
use crate::target::{Stager, Target};

/// Settles what an earlier run left in between. Returns whether the journal has learnt something:
/// then it is to be loaded again.
///
/// # Durability
/// What was taken away stays so after a power cut, when this returns.
///
/// # Errors
/// `TargetSync` and what keeps a name from being taken away; `RecordWrite`.
pub(super) fn settle(
    earlier: &Loaded,
    target: &dyn Target,
    writer: &mut Writer,
) -> Result<bool, Error> {
    let mut stager: Option<Box<dyn Stager>> = None;
    let mut changed: Vec<&[u8]> = Vec::new();
    let mut learnt = false;
    for naming in earlier.unacknowledged() {
        let stager = match &mut stager {
            Some(stager) => stager,
            none => none.insert(target.stager("settle")?),
        };
        let path = naming.target_path;
        let there = match stager.vacancy(path) {
            Ok(there) => there.stamp(),
            // A folder on the way is gone, or something else by now: so is the file.
            Err(_) => None,
        };
        if there == Some(found(naming.target_stamp)) {
            take_away(earlier, &naming, target, stager.as_mut())?;
            changed.push(path);
        } else if let Some(done) = earlier.done_before(path)
            && there == Some(found(done.target_stamp))
        {
            // It was about to be replaced, and was not: it is done as it was before.
            writer.append(&Record::Done(done), Instant::now())?;
            learnt = true;
        }
    }
    if !changed.is_empty() {
        target.settle(&changed)?;
    }
    if learnt {
        writer.commit()?;
    }
    seam::point("settled");
    Ok(learnt)
}

fn take_away(
    earlier: &Loaded,
    naming: &Naming<'_>,
    target: &dyn Target,
    stager: &mut dyn Stager,
) -> Result<(), Error> {
    let (path, stamp) = (naming.target_path, found(naming.target_stamp));
    let id = earlier.blocks(path).and_then(|view| staged(&view));
    if let Some(id) = id.filter(|id| id.ino == stamp.ino)
        && stager.take_back(path, stamp, &id)?
    {
        seam::point("taken-back");
        return Ok(());
    }
    target.withdraw(path, stamp)
}
