//! Heads of segments, and which segments count.

use std::os::fd::BorrowedFd;

use super::codec::{Content, Continued};
use super::frame::{FRAME_LEN_MAX, Frame, HEADER_LEN, Header, Tag};
use super::map::ReadMap;
use super::record::JobHead;
use super::segment::Folder;
use crate::error::Error;

/// The head of a segment, and where the frames behind it begin.
pub(super) struct HeadFrame {
    pub(super) head: Head,
    pub(super) tag: Tag,
    pub(super) len: usize,
}

pub(super) enum Head {
    Job(JobHead),
    Continued(Continued),
}

/// Returns the head of a segment, or says what is wrong with it.
pub(super) fn read_head(
    folder: Folder<'_>,
    number: u32,
    file: BorrowedFd<'_>,
) -> Result<Result<HeadFrame, &'static str>, Error> {
    let len = folder.len(number, file)?.min(HEADER_LEN + FRAME_LEN_MAX);
    let map = folder.map(number, file, len)?;
    Ok(parse_head(&map, number))
}

/// Returns the head of the segment that `map` begins with, or says what is wrong with it.
pub(super) fn parse_head(map: &ReadMap, number: u32) -> Result<HeadFrame, &'static str> {
    let reached = map.reach(0, HEADER_LEN + FRAME_LEN_MAX);
    let bytes = map.readable(reached);
    let (header, start) = Header::decode(bytes)?;
    let damaged = "damaged in its head";
    if header.segment != number {
        return Err(damaged);
    }
    let frame = bytes.get(HEADER_LEN..).and_then(Frame::parse);
    let frame = frame.filter(|frame| frame.seq() == 0 && frame.fits(&start));
    let frame = frame.ok_or(damaged)?;
    let head = match frame.content() {
        Some(Content::Job(job)) => Head::Job(job),
        Some(Content::Continued(from)) => Head::Continued(from),
        Some(Content::Record(_)) | None => return Err(damaged),
    };
    Ok(HeadFrame {
        head,
        tag: frame.tag(),
        len: HEADER_LEN + frame.len(),
    })
}

/// Returns which segments count, from the first on: the newest with a good head, and what it goes
/// on from. `continued` has what the segments from number 2 on go on from.
pub(super) fn lineage(continued: &[Option<Continued>]) -> Vec<u32> {
    let head_of = |number: u32| {
        let index = usize::try_from(number).ok()?.checked_sub(2)?;
        continued.get(index).copied().flatten()
    };
    let newest = u32::try_from(continued.len() + 1).unwrap_or(u32::MAX);
    let lines = (1..=newest).rev().map(|newest| {
        let mut line = vec![newest];
        let mut number = newest;
        while let Some(from) = head_of(number).filter(|from| from.segment < number) {
            number = from.segment;
            line.push(number);
        }
        (number == 1).then_some(line)
    });
    let mut line = lines.flatten().next().unwrap_or_else(|| vec![1]);
    line.reverse();
    line
}
