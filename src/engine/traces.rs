//! What was copied of a source, looked for where it is now.
//!
//! Drives that are images of each other have one UUID, and of some neither a UUID nor a serial number
//! is known. The files on them tell them apart: a source of which the journal has files, and where none
//! of those is as it was, or more of them are others than are the same, is another drive. Files that
//! were deleted since say nothing as long as others are there.
//!
//! Whoever is asked may hang, so it is asked on a thread that can be left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::inspect::{BlockNames, Expected};
use super::job::{CopyJob, Existing};
use super::roll_call::{TICK, Waited};
use super::session::Session;
use super::standing::is_of_unknown;
use crate::beneath;
use crate::digest::BLOCK_LEN;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Done, Identity, Loaded, Stamp};
use crate::plan::{Matched, Source};
use crate::scan::Tree;

/// How many files are looked up first: mostly all that are there are as they were.
const FIRST: usize = 16;
/// Most that are looked up then, from all over the journal.
const SPREAD_MAX: usize = 64;
/// Most of which bytes are read: times may be others while the bytes are the same, as on FAT in another
/// time zone, or more may have been added.
const READS_MAX: usize = 8;

/// How a source is asked, which may not answer.
#[derive(Clone, Copy)]
pub(super) struct Inquiry<'a> {
    /// How long it may be silent.
    pub(super) limit: Option<Duration>,
    pub(super) session: &'a Session,
}

impl Inquiry<'_> {
    /// Makes a call on a thread that is left when it takes too long, or is to stop; `None` then, and
    /// where no thread can be had.
    fn ask<T: Send + 'static>(self, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answered, answer) = bounded(1);
        let thread = std::thread::Builder::new().name("traces".to_owned());
        let asked = thread.spawn(move || {
            // Nobody waits any more if it came too late.
            let _late = answered.send(call());
        });
        asked.ok()?;
        let mut waited = Waited::new();
        loop {
            match answer.recv_timeout(TICK) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !waited.is_within(self.limit) || self.session.stopped() {
                return None;
            }
        }
    }
}

/// A source, where it is now.
#[derive(Debug)]
struct Place {
    root: OwnedFd,
    only: Option<Vec<u8>>,
    /// Where it landed.
    landing: Vec<u8>,
}

impl Place {
    fn of(root: BorrowedFd<'_>, only: Option<&[u8]>, landing: &[u8]) -> Option<Self> {
        Some(Self {
            root: root.try_clone_to_owned().ok()?,
            only: only.map(<[u8]>::to_vec),
            landing: landing.to_vec(),
        })
    }

    /// Returns the path below its root of what has this path in the target.
    fn below(&self, path: &[u8]) -> Vec<u8> {
        let rest = path.strip_prefix(&*self.landing).unwrap_or(path);
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        self.only.clone().unwrap_or_else(|| rest.to_vec())
    }

    fn look(&self, path: &[u8], was: Stamp) -> Look {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let looked = beneath::open(self.root.as_fd(), path, flags, Mode::empty());
        match looked.and_then(|file| beneath::stamp(file.as_fd())) {
            Ok(now) if (now.size, now.mtime) == (was.size, was.mtime) => Look::Same,
            // What grew begins as it did.
            Ok(now) if now.size >= was.size && was.size > 0 => Look::Perhaps,
            Ok(_) => Look::Other,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Look::Missing,
            Err(_) => Look::Unknown,
        }
    }

    /// Looks at the first block of a file. Never opens anything but a file.
    fn read(&self, first: &First) -> Look {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath::open(self.root.as_fd(), &first.path, flags, Mode::empty());
        let (Ok(file), Ok(len)) = (file, usize::try_from(first.len)) else {
            return Look::Unknown;
        };
        let mut bytes = vec![0; len];
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&file, rest, at as u64) {
                Ok(0) => return Look::Other,
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(_) => return Look::Unknown,
            }
        }
        if first.expected.fits(0, &bytes) {
            Look::Same
        } else {
            Look::Other
        }
    }
}

/// What a look at a file showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Same,
    /// Its bytes tell.
    Perhaps,
    Other,
    Missing,
    Unknown,
}

/// The first block of a file.
#[derive(Debug)]
struct First {
    path: Vec<u8>,
    len: u64,
    expected: Expected,
}

impl First {
    /// Returns what was copied; `None` where its blocks are not recorded.
    fn of(done: &Done<'_>, path: Vec<u8>, loaded: &Loaded) -> Option<Self> {
        let expected = match Expected::of(done, loaded, &BlockNames::default()) {
            Expected::Blocks(mut values) => {
                values.truncate(1);
                Expected::Blocks(values)
            }
            Expected::Digest(_) => return None,
            whole @ Expected::Whole(_) => whole,
        };
        Some(Self {
            path,
            len: done.source_stamp.size.min(BLOCK_LEN),
            expected,
        })
    }
}

/// What was found of files that were copied.
#[derive(Debug, Clone, Copy, Default)]
struct Traces {
    same: usize,
    others: usize,
    missing: usize,
    /// Of how many bytes were read.
    reads: usize,
}

impl Traces {
    /// Looks up some more; `None` when there is no answer.
    fn with(
        mut self,
        done: &[Done<'_>],
        loaded: &Loaded,
        place: &Arc<Place>,
        inquiry: Inquiry<'_>,
    ) -> Option<Self> {
        let paths = done
            .iter()
            .map(|it| (place.below(it.target_path), it.source_stamp));
        let paths: Vec<(Vec<u8>, Stamp)> = paths.collect();
        let (asked, there) = (paths.clone(), Arc::clone(place));
        let looks = inquiry.ask(move || {
            let look = |(path, was): &(Vec<u8>, Stamp)| there.look(path, *was);
            asked.iter().map(look).collect::<Vec<Look>>()
        })?;
        let mut firsts = Vec::new();
        for ((done, (path, _)), look) in done.iter().zip(paths).zip(&looks) {
            if *look == Look::Perhaps && self.reads < READS_MAX {
                self.reads += 1;
                firsts.extend(First::of(done, path, loaded));
            }
        }
        let there = Arc::clone(place);
        let read = if firsts.is_empty() {
            Vec::new()
        } else {
            inquiry.ask(move || firsts.iter().map(|first| there.read(first)).collect())?
        };
        for look in looks.into_iter().chain(read) {
            match look {
                Look::Same => self.same += 1,
                Look::Other => self.others += 1,
                Look::Missing => self.missing += 1,
                Look::Perhaps | Look::Unknown => {}
            }
        }
        Some(self)
    }

    /// Returns whether they are those of another drive.
    fn are_strange(self) -> bool {
        let lacks = self.others + self.missing > 0;
        self.others > self.same || (self.same == 0 && lacks)
    }
}

/// Returns whether what was copied of source `number` is not at a place, although the journal has some;
/// `None` when there is no answer.
fn is_stranger(
    loaded: &Loaded,
    number: u32,
    place: &Arc<Place>,
    inquiry: Inquiry<'_>,
) -> Option<bool> {
    let done = loaded.iter_done();
    let mut done = done.filter(|it| it.source == number && !is_of_unknown(it.source_stamp));
    let first: Vec<Done<'_>> = done.by_ref().take(FIRST).collect();
    let traces = Traces::default().with(&first, loaded, place, inquiry)?;
    if traces.same > 0 && traces.others == 0 {
        return Some(false);
    }
    let more = spread(done, SPREAD_MAX);
    if more.is_empty() {
        return Some(traces.are_strange());
    }
    let traces = traces.with(&more, loaded, place, inquiry)?;
    Some(traces.are_strange())
}

/// Returns at most `most` of all, at equal distances.
fn spread<T>(all: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    let (mut kept, mut step) = (Vec::new(), 1);
    for (at, one) in all.enumerate() {
        if at % step != 0 {
            continue;
        }
        if kept.len() == most {
            let mut index = 0;
            kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            step *= 2;
            if at % step != 0 {
                continue;
            }
        }
        kept.push(one);
    }
    kept
}

/// Returns whether what is given for a source passes for it by its UUID or its path, and has nothing of
/// what was copied of it. What does not answer is not known to be another: its lane will leave it.
pub(super) fn is_another(
    loaded: &Loaded,
    recorded: &journal::Source,
    source: &Source,
    now: &Identity,
    inquiry: Inquiry<'_>,
) -> bool {
    if recorded.identity.serial.is_some() && now.serial.is_some() {
        return false;
    }
    let place = Place::of(
        source.root.as_fd(),
        source.only.as_deref(),
        &recorded.landing,
    );
    let strange = place
        .map(Arc::new)
        .and_then(|place| is_stranger(loaded, recorded.index, &place, inquiry));
    strange == Some(true)
}

/// Why sources are not those of a job.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It is another job, or it cannot be told; why, as a clause.
    Other(String),
    /// One passes for a source of the job, and has nothing of what that had.
    Strange(Error),
}

/// Said of what is given for a source and has none of its files, as a clause.
pub(super) const STRANGE: &str = "little or nothing that was copied of this source is there as it was, and no \
     serial number of its drive says that it is the same: it may be another one, or an image of it";
/// Said of how to go on with it all the same, as a clause.
pub(super) const IF_IT_IS: &str = "if it is the same, and all of that was changed or deleted, give the copy \
     command with --existing overwrite";

/// Refuses sources that were taken for those of a job by their UUID, or by their name, and have nothing
/// of what was copied of those. Whoever would have names in the target replaced is told of it.
///
/// # Errors
/// `Refused`, naming the first.
pub(super) fn check(
    loaded: &Loaded,
    (sources, identities): (&[Source], &[Identity]),
    matched: &[Matched],
    job: &CopyJob,
    session: &Session,
) -> Result<(), Error> {
    let inquiry = Inquiry {
        limit: job.engine.stall,
        session,
    };
    for ((source, now), matched) in sources.iter().zip(identities).zip(matched) {
        let Some(recorded) = loaded.source(matched.index) else {
            continue;
        };
        if !is_another(loaded, &recorded, source, now, inquiry) {
            continue;
        }
        if job.existing == Existing::Overwrite {
            let label = source.label.display();
            let line = format!("{label}: {STRANGE}; it is taken for it (--existing overwrite)");
            session.observer.note(&line);
            continue;
        }
        let job = &loaded.head().job;
        let what = format!(
            "{STRANGE}. Mount the one that job {job} began with, or copy this one into another target; \
             {IF_IT_IS}"
        );
        let (kind, side) = (ErrorKind::Refused, Side::Source);
        return Err(Error::new(kind, side, &source.label, &what));
    }
    Ok(())
}

/// Refuses a folder that was taken for a source put back, and has nothing of what was copied of that.
///
/// # Errors
/// `Refused`; `SourceStalled` when it does not answer.
pub(super) fn check_tree(
    loaded: &Loaded,
    number: u32,
    tree: &Tree,
    inquiry: Inquiry<'_>,
) -> Result<(), Error> {
    let refused = |kind, what| Err(Error::new(kind, Side::Source, &tree.label, what));
    let place = Place::of(tree.root.as_fd(), tree.only.as_deref(), &tree.landing);
    let strange = place
        .map(Arc::new)
        .and_then(|place| is_stranger(loaded, number, &place, inquiry));
    match strange {
        Some(false) => Ok(()),
        Some(true) => refused(
            ErrorKind::Refused,
            "little or nothing that was copied of it is there as it was: it may be an image of it",
        ),
        None => refused(
            ErrorKind::SourceStalled,
            "it did not answer when it was asked for what was copied of it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Silent;

    #[test]
    fn who_does_not_answer_is_left() {
        let session = Session {
            stop: Arc::default(),
            observer: Arc::new(Silent),
        };
        let inquiry = |limit: Option<Duration>| Inquiry {
            limit,
            session: &session,
        };
        let hangs = || loop {
            std::thread::park();
        };
        assert_eq!(inquiry(None).ask(|| 7), Some(7));
        let limit = Some(Duration::from_millis(200));
        assert_eq!(inquiry(limit).ask::<u8>(hangs), None);
        session
            .stop
            .store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(inquiry(None).ask::<u8>(hangs), None);
    }

    #[test]
    fn a_drive_with_more_others_than_the_same_is_strange() {
        let strange = |(same, others, missing)| {
            let traces = Traces {
                same,
                others,
                missing,
                reads: 0,
            };
            traces.are_strange()
        };
        // Nothing to look up, deleted but one, half of it changed.
        for honest in [(0, 0, 0), (1, 0, 79), (40, 40, 0)] {
            assert!(!strange(honest), "{honest:?}");
        }
        // All deleted or changed, and one file that is on all images.
        for other in [(0, 0, 1), (0, 1, 0), (1, 79, 0)] {
            assert!(strange(other), "{other:?}");
        }
    }

    #[test]
    fn what_is_looked_up_is_from_all_over() {
        let of = |count: u32| spread(0..count, 4);
        assert_eq!(of(0), [0; 0]);
        assert_eq!(of(4), [0, 1, 2, 3]);
        assert_eq!(of(5), [0, 2, 4]);
        assert_eq!(of(8), [0, 2, 4, 6]);
        assert_eq!(of(9), [0, 4, 8]);
        assert_eq!(of(1000), [0, 256, 512, 768]);
    }
}
