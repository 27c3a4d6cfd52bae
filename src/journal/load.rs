//! Reading a journal back: which segments count, and how far they can be trusted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::SEGMENTS_MAX;
use super::codec::{Content, Continued};
use super::frame::{FRAME_LEN_MAX, Frame, Tag, is_damage};
use super::head::{Head, HeadFrame, lineage, parse_head, read_head};
use super::index::{Index, PathHasher};
use super::loaded::{Loaded, Tail};
use super::medium::{Medium, file_itself};
use super::record::JobHead;
use super::segment::{Folder, Place, Segments};
use super::writer::{Position, Writer};
use crate::error::{Error, ErrorKind};

/// Loads the journal in the folder `dir`, which is open for reading, and goes on with it; `label`
/// is the folder as messages name it. The caller holds the target's lock.
///
/// A torn tail is cut away. After damage, the journal goes on in a new segment.
///
/// # Durability
/// What the answer trusts is trusted by every later load, a power cut or not.
///
/// # Errors
/// `Missing` without a journal; `Refused` when something else has its name; `RecordCorrupt` when
/// its head is damaged; `RecordWrite` when it cannot be read, cut or gone on with.
pub fn open(dir: BorrowedFd<'_>, label: &Path) -> Result<(Loaded, Writer), Error> {
    open_with(dir, label, &mut file_itself)
}

/// As [`open`], but writes to what `wrap` makes of the file: a seam for tests.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    dir: BorrowedFd<'_>,
    label: &Path,
    wrap: &mut dyn FnMut(File) -> Box<dyn Medium>,
) -> Result<(Loaded, Writer), Error> {
    let folder = Folder { dir, label };
    let mut load = Load::new(folder, dir, true, PathHasher::default())?;
    let end = load.walk_all(&|| ())?;
    let writer = if end.tail.is_damaged() {
        let number = load.files.len();
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if number > SEGMENTS_MAX {
            let what = "damaged again and again: its drive cannot be relied on";
            return Err(folder.error(ErrorKind::RecordCorrupt, end.from.segment, what));
        }
        Writer::begin_behind(folder, number, end.from, wrap)?
    } else {
        let (path, number) = (folder.path(end.from.segment), end.from.segment);
        let file = load.file(number)?;
        let file = file.try_clone_to_owned().map_err(|error| {
            let what = "open once more";
            folder
                .error(ErrorKind::RecordWrite, number, what)
                .because(error)
        })?;
        let position = Position {
            segment: number,
            len: end.from.len,
        };
        Writer::behind(wrap(file.into()), path, end.from.tag, end.seq, position)
    };
    Ok((load.finish(&end), writer))
}

/// Loads the journal in the folder `dir` and changes nothing. The caller holds the target's lock
/// until this returns; what is trusted then is never changed or cut, whoever goes on with it.
///
/// `scratch` is a directory for the index of a long journal, whose file has no name; the folder
/// itself will do where it can be written to.
///
/// # Errors
/// As [`open`].
pub fn read(dir: BorrowedFd<'_>, label: &Path, scratch: BorrowedFd<'_>) -> Result<Loaded, Error> {
    read_heard(dir, label, scratch, &|| ())
}

/// As [`read`]; `heard` is called for each record that was read: until then the medium had not answered.
///
/// # Errors
/// As [`open`].
pub fn read_heard(
    dir: BorrowedFd<'_>,
    label: &Path,
    scratch: BorrowedFd<'_>,
    heard: &dyn Fn(),
) -> Result<Loaded, Error> {
    let folder = Folder { dir, label };
    let mut load = Load::new(folder, scratch, false, PathHasher::default())?;
    let end = load.walk_all(heard)?;
    Ok(load.finish(&end))
}

/// Where trust ends.
struct TrustEnd {
    from: Continued,
    /// Number of the next frame.
    seq: u64,
    tail: Tail,
}

struct Load<'a> {
    folder: Folder<'a>,
    scratch: BorrowedFd<'a>,
    is_writable: bool,
    files: Vec<OwnedFd>,
    job: JobHead,
    /// The numbers of the segments that count, each going on from the one before.
    lineage: Vec<u32>,
    segments: Segments,
    index: Index,
}

impl<'a> Load<'a> {
    fn new(
        folder: Folder<'a>,
        scratch: BorrowedFd<'a>,
        is_writable: bool,
        hasher: PathHasher,
    ) -> Result<Self, Error> {
        let mut files = Vec::new();
        for number in 1..=SEGMENTS_MAX {
            match folder.open(number, is_writable)? {
                Some(file) => files.push(file),
                None => break,
            }
        }
        if files.is_empty() {
            return Err(folder.error(ErrorKind::Missing, 1, "this job has no journal"));
        }
        let mut heads = Vec::new();
        for (number, file) in (1..).zip(&files) {
            let head = read_head(folder, number, file.as_fd())?;
            heads.push(head.map(|frame| frame.head));
        }
        let mut heads = heads.into_iter();
        let job = match heads.next() {
            Some(Ok(Head::Job(job))) => job,
            Some(Err(what)) => return Err(folder.error(ErrorKind::RecordCorrupt, 1, what)),
            Some(Ok(Head::Continued(_))) | None => {
                let what = "does not begin with a job";
                return Err(folder.error(ErrorKind::RecordCorrupt, 1, what));
            }
        };
        let continued: Vec<Option<Continued>> = heads
            .map(|head| match head {
                Ok(Head::Continued(from)) => Some(from),
                Ok(Head::Job(_)) | Err(_) => None,
            })
            .collect();
        let index = Index::new(scratch, hasher).map_err(|e| index_error(folder, e))?;
        Ok(Self {
            folder,
            scratch,
            is_writable,
            files,
            job,
            lineage: lineage(&continued),
            segments: Segments::default(),
            index,
        })
    }

    fn file(&self, number: u32) -> Result<BorrowedFd<'_>, Error> {
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        let file = index.and_then(|index| self.files.get(index));
        file.map(AsFd::as_fd).ok_or_else(|| {
            self.folder
                .error(ErrorKind::RecordCorrupt, number, "no such segment")
        })
    }

    /// Reads the segments that count, one after the other, as far as they can be trusted.
    fn walk_all(&mut self, heard: &dyn Fn()) -> Result<TrustEnd, Error> {
        let last = self.lineage.last().copied().unwrap_or(1);
        let mut end = None;
        for position in 0..self.lineage.len() {
            let number = self.lineage.get(position).copied().unwrap_or(1);
            let walked = self.walk(number, heard)?;
            self.trim(&walked)?;
            let next = self.lineage.get(position + 1).copied();
            let goes_on = match next {
                None => false,
                Some(next) => self.goes_on(next, &walked.from)?,
            };
            end = Some(walked);
            if !goes_on {
                break;
            }
        }
        let missing = || self.folder.error(ErrorKind::RecordCorrupt, 1, "empty");
        let mut end = end.ok_or_else(missing)?;
        let number = end.from.segment;
        let is_newest = usize::try_from(last).is_ok_and(|last| last == self.files.len());
        if number != last || !is_newest {
            // What followed is lost: a damaged prefix, or a later segment with a damaged head.
            end.tail = Tail::Damaged {
                segment: number,
                at: end.from.len,
            };
        }
        if self.is_writable {
            let file = self.file(number)?;
            if matches!(end.tail, Tail::Torn { .. }) {
                self.folder.cut(number, file, trusted_len(&end))?;
            } else {
                // A run that was killed may have written what it never synced.
                self.folder.sync(number, file)?;
            }
        }
        Ok(end)
    }

    /// Returns whether segment `next` goes on exactly from where trust in the one before ends.
    fn goes_on(&self, next: u32, from: &Continued) -> Result<bool, Error> {
        match read_head(self.folder, next, self.file(next)?)? {
            Ok(HeadFrame {
                head: Head::Continued(named),
                ..
            }) => Ok(named == *from),
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Reads one segment, to the end or to where a later one of the lineage goes on from it.
    fn walk(&mut self, number: u32, heard: &dyn Fn()) -> Result<TrustEnd, Error> {
        let folder = self.folder;
        let file = self.file(number)?;
        let len = folder.len(number, file)?;
        let limit = self.limit_of(number)?.unwrap_or(len).min(len);
        let map = folder.map(number, file, len)?;
        let segment = self.segments.0.len();
        self.segments.0.push(map);
        let corrupt = |what: &str| folder.error(ErrorKind::RecordCorrupt, number, what);
        let map = self.segments.0.get(segment);
        let map = map.ok_or_else(|| corrupt("no such segment"))?;
        let head = parse_head(map, number).map_err(corrupt)?;

        let (mut at, mut tag, mut seq) = (head.len, head.tag, 1_u64);
        let mut reached = 0;
        let is_sound_to_end = loop {
            if at >= limit {
                break true;
            }
            reached = map.reach(reached, at + FRAME_LEN_MAX);
            let sound = sound_frame(map.readable(reached), at, seq, &tag);
            let Some((frame, content)) = sound.filter(|(frame, _)| at + frame.len() <= limit)
            else {
                break false;
            };
            if let Content::Record(record) = content {
                let place = Place::new(segment, at).ok_or_else(|| corrupt("too long"))?;
                self.index
                    .add(self.scratch, &self.segments, place, &record)
                    .map_err(|error| index_error(folder, error))?;
            }
            heard();
            at += frame.len();
            tag = frame.tag();
            seq += 1;
        };
        let trusted = u64::try_from(at).map_err(|_| corrupt("too long"))?;
        // Only what can be read to the end, and is continued nowhere, can be a torn write.
        let may_be_torn = limit == len && map.reach(reached, len) == len;
        let tail = if is_sound_to_end {
            Tail::Clean
        } else if may_be_torn && !is_damage(map.bytes(), at, seq, &tag) {
            let cut_bytes = u64::try_from(len - at).unwrap_or(u64::MAX);
            Tail::Torn { cut_bytes }
        } else {
            Tail::Damaged {
                segment: number,
                at: trusted,
            }
        };
        Ok(TrustEnd {
            from: Continued {
                segment: number,
                len: trusted,
                tag,
            },
            seq,
            tail,
        })
    }

    /// Returns how much of a segment a later one of the lineage goes on from.
    fn limit_of(&self, number: u32) -> Result<Option<usize>, Error> {
        let mut next = self.lineage.iter().skip_while(|&&n| n != number).skip(1);
        let Some(&next) = next.next() else {
            return Ok(None);
        };
        match read_head(self.folder, next, self.file(next)?)? {
            Ok(HeadFrame {
                head: Head::Continued(from),
                ..
            }) => Ok(usize::try_from(from.len).ok()),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Maps the segment walked last anew, only as far as it is trusted: nothing is ever answered
    /// from what is behind, and a torn tail can be cut.
    fn trim(&mut self, end: &TrustEnd) -> Result<(), Error> {
        let len = trusted_len(end);
        let Some(map) = self.segments.0.pop_if(|map| map.bytes().len() != len) else {
            return Ok(());
        };
        drop(map);
        let number = end.from.segment;
        let map = self.folder.map(number, self.file(number)?, len)?;
        self.segments.0.push(map);
        Ok(())
    }

    fn finish(self, end: &TrustEnd) -> Loaded {
        Loaded::new(self.job, self.segments, self.index, end.tail)
    }
}

fn trusted_len(end: &TrustEnd) -> usize {
    usize::try_from(end.from.len).unwrap_or(usize::MAX)
}

/// Returns the frame at `at` if it is the one that belongs there.
fn sound_frame<'a>(
    bytes: &'a [u8],
    at: usize,
    seq: u64,
    tag: &Tag,
) -> Option<(Frame<'a>, Content<'a>)> {
    let frame = Frame::parse(bytes.get(at..)?)?;
    if frame.seq() != seq || !frame.fits(tag) {
        return None;
    }
    // Heads stand in front and nowhere else.
    let content = frame.content()?;
    matches!(content, Content::Record(_)).then_some((frame, content))
}

fn index_error(folder: Folder<'_>, error: io::Error) -> Error {
    folder
        .error(ErrorKind::RecordWrite, 1, "make an index of the journal")
        .because(error)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::record::{
        Blocks, Done, Failed, Grade, Naming, Other, Record, Stage, Stamp, TargetStamp, Verified,
    };
    use super::super::{Identity, JobHead, create};
    use super::*;

    /// Loads what `write` has written, with an index in which paths have four hashes.
    fn load_with_collisions(write: impl FnOnce(&mut dyn FnMut(Record<'_>))) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let head = JobHead {
            job: "job".to_owned(),
            options: [0; 32],
            target: Identity::default(),
        };
        let label = Path::new("JOB");
        let mut writer = create(handle.as_fd(), label, &head).unwrap();
        write(&mut |record| writer.append(&record, Instant::now()).unwrap());
        writer.commit().unwrap();
        let folder = Folder {
            dir: handle.as_fd(),
            label,
        };
        let hasher = PathHasher::colliding();
        let mut load = Load::new(folder, handle.as_fd(), false, hasher).unwrap();
        let end = load.walk_all(&|| ()).unwrap();
        load.finish(&end)
    }

    #[test]
    fn paths_whose_hashes_collide_are_told_apart() {
        let paths: Vec<String> = (0..600).map(|n| format!("f{n}")).collect();
        let loaded = load_with_collisions(|append| {
            for (n, path) in (0..).zip(&paths) {
                let target_path = path.as_bytes();
                let (source, kind) = (n, "source-read");
                let failed = Record::Failed(Failed {
                    source,
                    target_path,
                    kind,
                    reason: path,
                });
                let blocks = Record::Blocks(Blocks {
                    source,
                    target_path,
                    stage: Stage {
                        thread: b"w",
                        number: n.into(),
                    },
                    stage_ino: 1,
                    source_stamp: Stamp::default(),
                    first_block: 0,
                    values: &[[7; 32]],
                });
                let other = Record::Other(Other {
                    source,
                    target_path,
                    source_stamp: Stamp::default(),
                    target_stamp: TargetStamp::default(),
                    linked: false,
                    lacks: false,
                });
                let last = if n % 3 == 0 { other } else { failed.clone() };
                [failed, blocks, last].into_iter().for_each(&mut *append);
            }
        });
        for (n, path) in (0..).zip(&paths) {
            let target_path = path.as_bytes();
            assert_eq!(loaded.other(target_path).is_some(), n % 3 == 0);
            let reason = loaded.failed(target_path).map(|failed| failed.reason);
            assert_eq!(reason, (n % 3 != 0).then_some(path.as_str()));
            let view = loaded.blocks(target_path).unwrap();
            assert_eq!((view.stage.number, view.block_count), (n, 1));
        }
        assert_eq!(loaded.failed_count(), 400);
        assert!(loaded.failed(b"f600").is_none());
        assert!(loaded.blocks(b"f600").is_none());
    }

    #[test]
    fn what_was_before_a_name_and_what_was_read_back_are_told_apart_too() {
        let paths: Vec<String> = (0..600).map(|n| format!("f{n}")).collect();
        let byte = |n: u32| n.to_le_bytes()[0];
        let loaded = load_with_collisions(|append| {
            for (source, path) in (0..).zip(&paths) {
                let target_path = path.as_bytes();
                let done = Record::Done(Done {
                    source,
                    target_path,
                    digest: [byte(source); 32],
                    source_stamp: Stamp::default(),
                    target_stamp: TargetStamp::default(),
                    linked: false,
                    lacks: false,
                });
                let verified = Record::Verified(Verified {
                    source,
                    target_path,
                    target_ino: 0,
                    grade: Grade::Near,
                });
                let naming = Record::Naming(Naming {
                    source,
                    target_path,
                    target_stamp: TargetStamp::default(),
                });
                let last = if source % 3 == 0 {
                    naming
                } else {
                    done.clone()
                };
                [done, verified.clone(), last, verified]
                    .into_iter()
                    .for_each(&mut *append);
            }
        });
        for (n, path) in (0..).zip(&paths) {
            let target_path = path.as_bytes();
            let digest = |done: Done<'_>| done.digest[0];
            let (done, before, grade) = match n % 3 {
                0 => (None, Some(byte(n)), None),
                _ => (Some(byte(n)), None, Some(Grade::Near)),
            };
            assert_eq!(loaded.done(target_path).map(digest), done);
            assert_eq!(loaded.done_before(target_path).map(digest), before);
            assert_eq!(loaded.verified(target_path), grade);
        }
        assert!(loaded.done_before(b"f600").is_none());
    }
}
