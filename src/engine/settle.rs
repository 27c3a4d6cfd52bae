//! Names that an earlier run gave and never acknowledged: settled before anything else is done.
//!
//! Such a file is whole, but the journal has no digest of it, and after a kill the name itself may
//! not be durable. Left there, a later run would have to know every name that was ever about to be
//! given. So each goes: a large file whose blocks are recorded back to where it was staged, to be
//! gone on with; everything else altogether, to be copied again. Of what there can be, one batch
//! bounds it.
//!
//! One that took the place of another file stays, for with it both would be gone. It is recorded as
//! ours to replace, once its name is durable.

use std::time::Instant;

use super::log::recorded;
use super::standing::{found, staged};
use crate::error::Error;
use crate::journal::{self, Loaded, Naming, Other, Record, Writer};
use crate::seam;
use crate::target::{Stager, Target, TargetStamp, Vacancy};

/// Settles what an earlier run left in between. `replaces`: whether this job replaces what is not
/// its own. Returns whether the journal has learnt something: then it is to be loaded again.
///
/// # Durability
/// What was settled stays so after a power cut, when this returns.
///
/// # Errors
/// `TargetSync` and what keeps a name from being taken away; `RecordWrite`.
pub(super) fn settle(
    earlier: &Loaded,
    target: &dyn Target,
    writer: &mut Writer,
    replaces: bool,
) -> Result<bool, Error> {
    let namings: Vec<Naming<'_>> = earlier.unacknowledged().collect();
    if namings.is_empty() {
        seam::point("settled");
        return Ok(false);
    }
    let mut stager = target.stager("settle")?;
    let mut learnt: Vec<Record<'_>> = Vec::new();
    for naming in &namings {
        let path = naming.target_path;
        // Where a folder on the way is gone, or something else by now, the file is too.
        let there = stager.vacancy(path).unwrap_or(Vacancy::Free);
        let Some(now) = there.stamp() else { continue };
        let is = |stamp| is_it(there, found(stamp), target.syncs_whole());
        let replaced = earlier.left_behind(path);
        if replaced.is_some_and(is) {
            // It was about to be replaced, and was not: it is done as it was before.
            let done = earlier.done_before(path).map(Record::Done);
            let other = earlier.other_before(path).map(Record::Other);
            learnt.push(done.or(other).unwrap_or(ours(naming, now)));
        } else if is(naming.target_stamp) {
            if replaced.is_some() || replaces || earlier.has_gaps() {
                learnt.push(ours(naming, now));
            } else {
                take_away(earlier, naming, target, stager.as_mut())?;
            }
        }
    }
    // Even if nothing was there any more: a run that was stopped before its sync may have taken it
    // away, and until that is durable what is behind the name must stay as it is.
    let paths: Vec<&[u8]> = namings.iter().map(|naming| naming.target_path).collect();
    target.settle(&paths)?;
    for record in &learnt {
        writer.append(record, Instant::now())?;
    }
    writer.commit()?;
    seam::point("settled");
    Ok(!learnt.is_empty())
}

/// Returns whether what is there has this stamp. Where files are synced one by one, what is no file is
/// not: its time may not have outlived a power cut.
fn is_it(there: Vacancy, stamp: TargetStamp, syncs_whole: bool) -> bool {
    match there {
        Vacancy::Symlink(now) | Vacancy::Other(now) if !syncs_whole => {
            (now.ino, now.size) == (stamp.ino, stamp.size)
        }
        there => there.stamp() == Some(stamp),
    }
}

/// Returns a record of something that is ours to replace: no source has this stamp.
fn ours<'a>(naming: &Naming<'a>, now: TargetStamp) -> Record<'a> {
    Record::Other(Other {
        source: naming.source,
        target_path: naming.target_path,
        source_stamp: journal::Stamp::default(),
        target_stamp: recorded(now),
        linked: false,
    })
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
