//! Names that an earlier run gave and never acknowledged: settled before anything else is done.
//!
//! Such a file is whole, for its bytes were durable before it got its name; but the journal has no
//! digest of it, and after a kill the name itself may not be durable. A large file whose blocks are
//! recorded goes back to where it was staged, to be gone on with. Everything else is read and
//! acknowledged as it is, of a source in a state that is not known: then it is there whatever
//! becomes of its source, and is replaced as soon as that is read again. One batch bounds it.

use std::time::Instant;

use super::log::recorded;
use super::standing::{at, found, staged};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Done, Loaded, Naming, Other, Record, Stamp, Writer};
use crate::scan::as_path;
use crate::seam;
use crate::target::{self, Stager, Target, Vacancy};

/// What a file that is being mended may be longer by, for an instant.
const PAGE: u64 = crate::buffer::ALIGN as u64;

/// What settling came to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Whether the journal has learnt something: then it is to be loaded again.
    pub(super) has_learnt: bool,
    /// Files that were done and in doubt, and are no more: each cannot be read and is left as it is,
    /// or had other bytes and is gone, and its source is not here.
    pub(super) told: Vec<Error>,
}

/// Settles what an earlier run left in between; `here` says whether a source is one of this run's.
///
/// # Durability
/// What was found, and what was taken away, stays so after a power cut, when this returns.
///
/// # Errors
/// `TargetSync` and what keeps a name from being taken away; `RecordWrite`.
pub(super) fn settle(
    earlier: &Loaded,
    target: &dyn Target,
    writer: &mut Writer,
    here: &dyn Fn(u32) -> bool,
) -> Result<Settled, Error> {
    let namings: Vec<Naming<'_>> = earlier.unacknowledged().collect();
    if namings.is_empty() {
        return Ok(Settled::default());
    }
    let mut settling = Settling {
        earlier,
        target,
        stager: target.stager("settle")?,
        told: Vec::new(),
    };
    let mut learnt = Vec::new();
    for naming in &namings {
        learnt.extend(settling.settle(naming, here(naming.source))?);
    }
    // Names before records, as ever. All of them: a run that was stopped before its sync may have
    // taken one away, and until that is durable what is behind the name must stay as it is.
    let paths: Vec<&[u8]> = namings.iter().map(|naming| naming.target_path).collect();
    target.settle(&paths)?;
    journal::check_pages()?;
    for record in &learnt {
        writer.append(record, Instant::now())?;
    }
    writer.commit()?;
    seam::point("settled");
    Ok(Settled {
        has_learnt: !learnt.is_empty(),
        told: settling.told,
    })
}

struct Settling<'a> {
    earlier: &'a Loaded,
    target: &'a dyn Target,
    stager: Box<dyn Stager>,
    told: Vec<Error>,
}

impl<'a> Settling<'a> {
    /// Settles one name; returns what the journal has to learn.
    fn settle(&mut self, naming: &Naming<'a>, is_here: bool) -> Result<Option<Record<'a>>, Error> {
        let path = naming.target_path;
        let there = at(&mut *self.stager, path)?;
        let Some(stamp) = there.stamp() else {
            return Ok(None);
        };
        let before = self.earlier.done_before(path);
        let replaced = self.earlier.other_before(path);
        journal::check_pages()?;
        if let Some(done) = before.filter(|done| done.target_stamp.ino == stamp.ino) {
            let named_again = naming.target_stamp.ino == stamp.ino;
            return self.settle_done(&done, stamp, named_again, is_here);
        }
        let is = |known| is_it(there, found(known), self.target.syncs_whole());
        if let Some(other) = replaced.filter(|other| is(other.target_stamp)) {
            let target_stamp = recorded(stamp);
            return Ok(Some(Record::Other(Other {
                target_stamp,
                ..other
            })));
        }
        if !is(naming.target_stamp) {
            return Ok(None);
        }
        if before.is_none() && replaced.is_none() && is_here && self.take_back(path, stamp)? {
            return Ok(None);
        }
        let target_stamp = recorded(stamp);
        if !matches!(there, Vacancy::File(_)) {
            return Ok(Some(Record::Other(Other {
                source: naming.source,
                target_path: path,
                source_stamp: Stamp::default(),
                target_stamp,
                linked: false,
                lacks: false,
            })));
        }
        // What cannot be read stays as it is: it is neither done nor taken away.
        let digest = self.digest_of(path, stamp).unwrap_or(None);
        Ok(digest.map(|digest| {
            Record::Done(Done {
                source: naming.source,
                target_path: path,
                digest,
                source_stamp: Stamp::default(),
                target_stamp,
                linked: false,
                lacks: false,
            })
        }))
    }

    /// Settles the name of a file that was done before: about to be replaced, which it was not; or
    /// about to be mended or withdrawn, and then its bytes say what it is.
    fn settle_done(
        &mut self,
        done: &Done<'a>,
        stamp: target::TargetStamp,
        named_again: bool,
        is_here: bool,
    ) -> Result<Option<Record<'a>>, Error> {
        let path = done.target_path;
        if !named_again {
            let same = found(done.target_stamp) == stamp;
            return Ok(same.then_some(Record::Done(*done)));
        }
        if !has_size_of(stamp, done) {
            return Ok(None);
        }
        match self.digest_of(path, stamp) {
            Ok(Some(digest)) if digest == done.digest => {
                let target_stamp = recorded(stamp);
                return Ok(Some(Record::Done(Done {
                    target_stamp,
                    ..*done
                })));
            }
            Ok(Some(_)) => {
                self.target.withdraw(path, stamp)?;
                if !is_here {
                    self.told.push(taken_away(path));
                }
            }
            Ok(None) => {}
            // That says nothing of its bytes, which may be the only ones there are.
            Err(error) => self.told.push(in_doubt(path, &error)),
        }
        Ok(None)
    }

    /// Takes a large file whose blocks are recorded back to where it was staged.
    fn take_back(&mut self, path: &[u8], stamp: target::TargetStamp) -> Result<bool, Error> {
        let id = self.earlier.blocks(path).and_then(|view| staged(&view));
        let Some(id) = id.filter(|id| id.ino == stamp.ino) else {
            return Ok(false);
        };
        let taken = self.stager.take_back(path, stamp, &id)?;
        seam::point("taken-back");
        Ok(taken)
    }

    /// Returns the digest of what has a name; `None` when it is another file by now.
    fn digest_of(
        &mut self,
        path: &[u8],
        stamp: target::TargetStamp,
    ) -> Result<Option<[u8; 32]>, Error> {
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        let is_it = self.stager.read_published(path, stamp, &mut put)?;
        Ok(is_it.then(|| *hasher.finalize().as_bytes()))
    }
}

/// Returns whether what is there is as long as a file that was done, or was being mended: that writes
/// whole pages where it has to, and cuts the last one again.
pub(super) fn has_size_of(stamp: target::TargetStamp, done: &Done<'_>) -> bool {
    let size = done.target_stamp.size;
    stamp.size == size || stamp.size == size.next_multiple_of(PAGE)
}

/// Returns that a file that was done, and in doubt, has other bytes and is gone.
fn taken_away(path: &[u8]) -> Error {
    let what = "an earlier run copied it and was stopped while it changed something of it, and its bytes \
                are not those of its source: it was taken out of the target, and is copied again when \
                its source is given";
    Error::new(ErrorKind::DigestMismatch, Side::Target, as_path(path), what)
}

/// Returns that nothing is known of the bytes of a file that was done, and is in doubt.
fn in_doubt(path: &[u8], why: &Error) -> Error {
    let what = "an earlier run copied it and was stopped while it changed something of it, and now it \
                cannot be read; it is left as it is, in no manifest, and copied again if its source is \
                given: look for errors of the target's drive with 'dmesg', then run again";
    let error = Error::new(ErrorKind::Unverified, Side::Target, as_path(path), what);
    match why.errno() {
        Some(errno) => error.because(errno),
        None => error,
    }
}

/// Returns whether what is there has this stamp. Where files are synced one by one, what is no file
/// is not: its time may not have outlived a power cut.
fn is_it(there: Vacancy, stamp: target::TargetStamp, syncs_whole: bool) -> bool {
    match there {
        Vacancy::Symlink(now) | Vacancy::Other(now) if !syncs_whole => {
            (now.ino, now.size) == (stamp.ino, stamp.size)
        }
        there => there.stamp() == Some(stamp),
    }
}
