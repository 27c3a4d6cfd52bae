//! Reading a journal while it grows: what has been committed, and nothing behind it.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::codec::{Content, Continued};
use super::frame::{FRAME_LEN_MAX, Frame, HEADER_LEN, Tag, tag_before};
use super::head::{Head, HeadFrame, read_head};
use super::map::ReadMap;
use super::record::Record;
use super::segment::Folder;
use super::writer::Position;
use crate::error::{Error, ErrorKind};

/// How much is mapped at a time, in bytes: a frame fits in whole.
const WINDOW_LEN: usize = 2 << 20;
const _: () = assert!(FRAME_LEN_MAX < WINDOW_LEN);

/// Reads the records behind a [`Position`] in the order they were made, while the writer goes on.
///
/// It maps a bounded part of the journal at a time, and only while it reads. The lock of the
/// target must be held as long as this lives.
#[derive(Debug)]
pub struct Follower {
    dir: OwnedFd,
    label: PathBuf,
    file: OwnedFd,
    segment: u32,
    /// Where the next frame begins, in bytes.
    at: u64,
    /// Tag of the frame before it.
    tag: Tag,
    /// Number of the next frame; unknown before the first.
    seq: Option<u64>,
}

impl Follower {
    /// Returns one that reads what was committed after the writer answered
    /// [`position`](super::Writer::position) with `from`; `dir` is the folder of the job and
    /// `label` what messages call it.
    ///
    /// # Errors
    /// `Missing` when there is no such segment; `RecordCorrupt` when it does not reach up to
    /// `from`; `Refused` and `RecordWrite` as from [`read`](super::read).
    pub fn new(dir: BorrowedFd<'_>, label: &Path, from: Position) -> Result<Self, Error> {
        let folder = Folder { dir, label };
        let file = open(folder, from.segment)?;
        let dir = dir.try_clone_to_owned().map_err(|error| {
            folder
                .error(ErrorKind::RecordWrite, from.segment, "open its folder")
                .because(error)
        })?;
        let start = from
            .len
            .saturating_sub(u64_of(HEADER_LEN + size_of::<Tag>()));
        let (map, reached) = window(folder, from.segment, file.as_fd(), start, from.len)?;
        let bytes = map.readable(reached);
        let tag = tag_before(bytes, bytes.len()).filter(|_| bytes.len() == map.bytes().len());
        let tag = tag.copied().ok_or_else(|| {
            let what = "followed from a place where no record begins";
            folder.error(ErrorKind::RecordCorrupt, from.segment, what)
        })?;
        Ok(Self {
            dir,
            label: label.to_owned(),
            file,
            segment: from.segment,
            at: from.len,
            tag,
            seq: None,
        })
    }

    /// Reads on up to `upto`, which the writer has answered, and gives `visit` each record. After
    /// the one for which that answers `Break` it stops, and goes on behind it the next time.
    ///
    /// A segment that goes on from the one it is in is gone over to where `upto` says so; what has
    /// been read already is not read again.
    ///
    /// # Errors
    /// `RecordCorrupt` at a frame that does not fit or cannot be read, now and ever after; what
    /// was before it has been given to `visit`. Else as [`new`](Self::new).
    pub fn next(
        &mut self,
        upto: Position,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        while self.segment < upto.segment {
            let next = self.next_segment(upto.segment)?;
            if self.walk(next.from.len, visit)?.is_break() {
                return Ok(());
            }
            if (self.at, self.tag) != (next.from.len, next.from.tag) {
                return Err(self.corrupt("went on in another segment from elsewhere"));
            }
            self.file = next.file;
            self.segment = next.number;
            self.at = u64_of(next.head.len);
            self.tag = next.head.tag;
            self.seq = Some(1);
        }
        if self.segment == upto.segment {
            // Whether it was stopped is for the caller to know.
            self.walk(upto.len, visit)?.is_break();
        }
        Ok(())
    }

    /// Gives `visit` the records of the segment it is in, up to `end`.
    fn walk(
        &mut self,
        end: u64,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        while self.at < end {
            let start = self.at;
            let window_end = end.min(start.saturating_add(u64_of(WINDOW_LEN)));
            let file = self.file.as_fd();
            let (map, reached) = window(self.folder(), self.segment, file, start, window_end)?;
            let mut rest = map.readable(reached);
            let is_cut = u64_of(rest.len()) < end - start;
            while self.at < end {
                let Some((frame, record)) = self.fitting(rest) else {
                    // A window may end within a frame, but never within its first.
                    if is_cut && start < self.at {
                        break;
                    }
                    return Err(self.corrupt("a record does not fit those before it"));
                };
                rest = rest.get(frame.len()..).unwrap_or_default();
                self.at += u64_of(frame.len());
                self.tag = frame.tag();
                self.seq = frame.seq().checked_add(1);
                if visit(record).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the frame that `bytes` begin with if it is the one that belongs there.
    fn fitting<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, Record<'a>)> {
        let frame = Frame::parse(bytes)?;
        if self.seq.is_some_and(|seq| seq != frame.seq()) || !frame.fits(&self.tag) {
            return None;
        }
        match frame.content()? {
            Content::Record(record) => Some((frame, record)),
            Content::Job(_) | Content::Continued(_) => None,
        }
    }

    /// Returns the segment that goes on from the one it is in, on the way to `newest`.
    fn next_segment(&self, newest: u32) -> Result<Next, Error> {
        let mut number = newest;
        loop {
            let file = open(self.folder(), number)?;
            let head = read_head(self.folder(), number, file.as_fd())?;
            match head {
                Ok(
                    head @ HeadFrame {
                        head: Head::Continued(from),
                        ..
                    },
                ) if from.segment == self.segment => {
                    return Ok(Next {
                        number,
                        file,
                        head,
                        from,
                    });
                }
                Ok(HeadFrame {
                    head: Head::Continued(from),
                    ..
                }) if (self.segment..number).contains(&from.segment) => number = from.segment,
                Ok(_) | Err(_) => {
                    let what = "does not go on from what was followed";
                    return Err(self.folder().error(ErrorKind::RecordCorrupt, number, what));
                }
            }
        }
    }

    fn folder(&self) -> Folder<'_> {
        Folder {
            dir: self.dir.as_fd(),
            label: &self.label,
        }
    }

    fn corrupt(&self, what: &str) -> Error {
        self.folder()
            .error(ErrorKind::RecordCorrupt, self.segment, what)
    }
}

/// A segment that goes on from another.
struct Next {
    number: u32,
    file: OwnedFd,
    head: HeadFrame,
    from: Continued,
}

fn open(folder: Folder<'_>, number: u32) -> Result<OwnedFd, Error> {
    let file = folder.open(number, false)?;
    file.ok_or_else(|| folder.error(ErrorKind::Missing, number, "this job has no such journal"))
}

/// Maps a segment from `start` to `end`; returns as well how much of that can be read.
fn window(
    folder: Folder<'_>,
    number: u32,
    file: BorrowedFd<'_>,
    start: u64,
    end: u64,
) -> Result<(ReadMap, usize), Error> {
    let corrupt = |what| folder.error(ErrorKind::RecordCorrupt, number, what);
    // Shorter than what was committed, it has been cut: touching the rest would be SIGBUS.
    if u64_of(folder.len(number, file)?) < end {
        return Err(corrupt("shorter than what was committed"));
    }
    let len = usize::try_from(end.saturating_sub(start)).map_err(|_| corrupt("too long"))?;
    let map = folder.map_from(number, file, start, len)?;
    let reached = map.reach(0, len);
    Ok((map, reached))
}

fn u64_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
