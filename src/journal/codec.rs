//! Records to payloads and back. Strict: every byte of a payload has a meaning, and is checked.

use super::frame::Tag;
use super::identity::Identity;
use super::record::{
    Blocks, Done, End, Failed, Grade, JobHead, Naming, Other, Record, Source, Stage, Stamp,
    TargetStamp, Verified,
};
use super::{LABEL_LEN_MAX, PATH_LEN_MAX, REASON_LEN_MAX, SOURCES_MAX, VALUES_MAX, WORD_LEN_MAX};

/// Largest payload, in bytes: a path, values, and fields that fit in the rest.
pub(super) const PAYLOAD_LEN_MAX: usize = PATH_LEN_MAX + VALUES_MAX * 32 + (16 << 10);
const _: () = assert!(2 * LABEL_LEN_MAX + 4 * WORD_LEN_MAX + REASON_LEN_MAX + 200 < 16 << 10);

const JOB: u8 = 1;
const CONTINUED: u8 = 2;
const SOURCE: u8 = 3;
pub(super) const DONE: u8 = 4;
const BLOCKS: u8 = 5;
pub(super) const FAILED: u8 = 6;
pub(super) const OTHER: u8 = 7;
pub(super) const END: u8 = 8;
const NAMING: u8 = 9;
const VERIFIED: u8 = 10;

/// Bits of the last byte of [`DONE`] and [`OTHER`].
const LINKED: u8 = 1;
const LACKS: u8 = 2;

/// Where a segment goes on from: the trusted prefix of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continued {
    /// Number of the earlier segment.
    pub(super) segment: u32,
    /// Length of the prefix in bytes.
    pub(super) len: u64,
    /// Tag of the last frame in it.
    pub(super) tag: Tag,
}

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Job(JobHead),
    Continued(Continued),
    Record(Record<'a>),
}

/// Returns whether a frame may be of this kind; cheap, for searching.
pub(super) fn is_kind(kind: u8) -> bool {
    (JOB..=VERIFIED).contains(&kind)
}

/// Appends the payload of `content` to `out` and returns its kind, or says what is too long.
pub(super) fn encode(content: &Content<'_>, out: &mut Vec<u8>) -> Result<u8, &'static str> {
    let mut put = Put(out);
    match content {
        Content::Job(head) => {
            put.word(head.job.as_bytes(), "the name of the job")?;
            put.0.extend_from_slice(&head.options);
            put.identity(&head.target)?;
            Ok(JOB)
        }
        Content::Continued(from) => {
            put.u32(from.segment);
            put.u64(from.len);
            put.0.extend_from_slice(&from.tag);
            Ok(CONTINUED)
        }
        Content::Record(record) => put.record(record),
    }
}

/// Reads a payload back; `None` for anything [`encode`] would not have written.
pub(super) fn decode(kind: u8, payload: &[u8]) -> Option<Content<'_>> {
    let mut take = Take(payload);
    let content = match kind {
        JOB => Content::Job(JobHead {
            job: take.text()?.to_owned(),
            options: take.array()?,
            target: take.identity()?,
        }),
        CONTINUED => Content::Continued(Continued {
            segment: take.u32()?,
            len: take.u64()?,
            tag: take.array()?,
        }),
        _ => Content::Record(take.record(kind)?),
    };
    take.0.is_empty().then_some(content)
}

struct Put<'a>(&'a mut Vec<u8>);

impl Put<'_> {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8], max: usize, what: &'static str) -> Result<(), &'static str> {
        let len = u32::try_from(bytes.len()).ok();
        let len = len.filter(|_| bytes.len() <= max).ok_or(what)?;
        self.u32(len);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn word(&mut self, bytes: &[u8], what: &'static str) -> Result<(), &'static str> {
        self.bytes(bytes, WORD_LEN_MAX, what)
    }

    fn path(&mut self, path: &[u8]) -> Result<(), &'static str> {
        self.bytes(path, PATH_LEN_MAX, "the path")
    }

    fn optional(&mut self, word: Option<&[u8]>, what: &'static str) -> Result<(), &'static str> {
        self.0.push(u8::from(word.is_some()));
        word.map_or(Ok(()), |word| self.word(word, what))
    }

    fn source(&mut self, index: u32) -> Result<(), &'static str> {
        self.u32(index);
        if index < SOURCES_MAX {
            Ok(())
        } else {
            Err("the list of sources")
        }
    }

    /// Puts what is known of something published.
    fn flags(&mut self, linked: bool, lacks: bool) {
        let lacks = if lacks { LACKS } else { 0 };
        let linked = if linked { LINKED } else { 0 };
        self.0.push(linked | lacks);
    }

    fn time(&mut self, (seconds, nanoseconds): (i64, u32)) {
        self.0.extend_from_slice(&seconds.to_le_bytes());
        self.u32(nanoseconds);
    }

    fn stamp(&mut self, stamp: &Stamp) {
        self.u64(stamp.ino);
        self.u64(stamp.size);
        self.time(stamp.mtime);
        self.time(stamp.ctime);
    }

    fn target_stamp(&mut self, stamp: &TargetStamp) {
        self.u64(stamp.ino);
        self.u64(stamp.size);
        self.time(stamp.mtime);
    }

    fn identity(&mut self, identity: &Identity) -> Result<(), &'static str> {
        self.optional(identity.fs_uuid.as_deref(), "the UUID")?;
        self.word(identity.fs_type.as_bytes(), "the type of the file system")?;
        let serial = identity.serial.as_deref().map(str::as_bytes);
        self.optional(serial, "the serial number")?;
        self.u64(identity.size);
        self.u64(identity.root_ino);
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<u8, &'static str> {
        match record {
            Record::Source(source) => {
                self.source(source.index)?;
                self.identity(&source.identity)?;
                self.bytes(&source.label, LABEL_LEN_MAX, "the source's name")?;
                self.bytes(&source.landing, LABEL_LEN_MAX, "the source's landing")?;
                Ok(SOURCE)
            }
            Record::Done(done) => {
                self.source(done.source)?;
                self.path(done.target_path)?;
                self.0.extend_from_slice(&done.digest);
                self.stamp(&done.source_stamp);
                self.target_stamp(&done.target_stamp);
                self.flags(done.linked, done.lacks);
                Ok(DONE)
            }
            Record::Naming(naming) => {
                self.source(naming.source)?;
                self.path(naming.target_path)?;
                self.target_stamp(&naming.target_stamp);
                Ok(NAMING)
            }
            Record::Verified(verified) => {
                self.source(verified.source)?;
                self.path(verified.target_path)?;
                self.u64(verified.target_ino);
                self.0.push(verified.grade.code());
                Ok(VERIFIED)
            }
            Record::Blocks(blocks) => {
                self.source(blocks.source)?;
                self.path(blocks.target_path)?;
                self.word(blocks.stage.thread, "the name of the thread")?;
                self.u64(blocks.stage.number);
                self.u64(blocks.stage_ino);
                self.stamp(&blocks.source_stamp);
                self.u64(blocks.first_block);
                if blocks.values.is_empty() {
                    return Err("nothing: an empty list of blocks");
                }
                let values = blocks.values.as_flattened();
                self.bytes(values, VALUES_MAX * 32, "the list of blocks")?;
                Ok(BLOCKS)
            }
            Record::Failed(failed) => {
                self.source(failed.source)?;
                self.path(failed.target_path)?;
                self.word(failed.kind.as_bytes(), "the class of the failure")?;
                let reason = cut_text(failed.reason, REASON_LEN_MAX);
                self.bytes(reason.as_bytes(), REASON_LEN_MAX, "the reason")?;
                Ok(FAILED)
            }
            Record::Other(other) => {
                self.source(other.source)?;
                self.path(other.target_path)?;
                self.stamp(&other.source_stamp);
                self.target_stamp(&other.target_stamp);
                self.flags(other.linked, other.lacks);
                Ok(OTHER)
            }
            Record::End(end) => {
                self.0.push(u8::from(end.complete));
                self.0.push(end.exit_code);
                Ok(END)
            }
        }
    }
}

/// Returns the beginning of `text`, of whole characters and at most `max` bytes.
fn cut_text(text: &str, max: usize) -> &str {
    let mut ends = (0..=max.min(text.len())).rev();
    ends.find_map(|end| text.get(..end)).unwrap_or_default()
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Takes whether something published is linked, and lacks attributes.
    fn flags(&mut self) -> Option<(bool, bool)> {
        let [flags] = self.array::<1>()?;
        (flags & !(LINKED | LACKS) == 0).then_some((flags & LINKED != 0, flags & LACKS != 0))
    }

    fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.slice(Some(len).filter(|&len| len <= max)?)
    }

    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes(WORD_LEN_MAX)?).ok()
    }

    fn source(&mut self) -> Option<u32> {
        self.u32().filter(|&index| index < SOURCES_MAX)
    }

    fn time(&mut self) -> Option<(i64, u32)> {
        Some((i64::from_le_bytes(self.array()?), self.u32()?))
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            ino: self.u64()?,
            size: self.u64()?,
            mtime: self.time()?,
            ctime: self.time()?,
        })
    }

    fn target_stamp(&mut self) -> Option<TargetStamp> {
        Some(TargetStamp {
            ino: self.u64()?,
            size: self.u64()?,
            mtime: self.time()?,
        })
    }

    fn identity(&mut self) -> Option<Identity> {
        let fs_uuid = if self.flag()? {
            Some(self.bytes(WORD_LEN_MAX)?.to_vec())
        } else {
            None
        };
        let fs_type = self.text()?.to_owned();
        let serial = if self.flag()? {
            Some(self.text()?.to_owned())
        } else {
            None
        };
        Some(Identity {
            fs_uuid,
            fs_type,
            serial,
            size: self.u64()?,
            root_ino: self.u64()?,
        })
    }

    fn blocks(&mut self) -> Option<Blocks<'a>> {
        let blocks = Blocks {
            source: self.source()?,
            target_path: self.bytes(PATH_LEN_MAX)?,
            stage: Stage {
                thread: self.bytes(WORD_LEN_MAX)?,
                number: self.u64()?,
            },
            stage_ino: self.u64()?,
            source_stamp: self.stamp()?,
            first_block: self.u64()?,
            values: match self.bytes(VALUES_MAX * 32)?.as_chunks() {
                (values, []) if !values.is_empty() => values,
                _ => return None,
            },
        };
        let count = u64::try_from(blocks.values.len()).ok()?;
        blocks.first_block.checked_add(count).map(|_| blocks)
    }

    fn record(&mut self, kind: u8) -> Option<Record<'a>> {
        Some(match kind {
            SOURCE => Record::Source(Source {
                index: self.source()?,
                identity: self.identity()?,
                label: self.bytes(LABEL_LEN_MAX)?.to_vec(),
                landing: self.bytes(LABEL_LEN_MAX)?.to_vec(),
            }),
            DONE => {
                let done = Done {
                    source: self.source()?,
                    target_path: self.bytes(PATH_LEN_MAX)?,
                    digest: self.array()?,
                    source_stamp: self.stamp()?,
                    target_stamp: self.target_stamp()?,
                    linked: false,
                    lacks: false,
                };
                let (linked, lacks) = self.flags()?;
                Record::Done(Done {
                    linked,
                    lacks,
                    ..done
                })
            }
            NAMING => Record::Naming(Naming {
                source: self.source()?,
                target_path: self.bytes(PATH_LEN_MAX)?,
                target_stamp: self.target_stamp()?,
            }),
            VERIFIED => Record::Verified(Verified {
                source: self.source()?,
                target_path: self.bytes(PATH_LEN_MAX)?,
                target_ino: self.u64()?,
                grade: Grade::of(self.array::<1>()?[0])?,
            }),
            BLOCKS => Record::Blocks(self.blocks()?),
            FAILED => Record::Failed(Failed {
                source: self.source()?,
                target_path: self.bytes(PATH_LEN_MAX)?,
                kind: self.text()?,
                reason: str::from_utf8(self.bytes(REASON_LEN_MAX)?).ok()?,
            }),
            OTHER => {
                let other = Other {
                    source: self.source()?,
                    target_path: self.bytes(PATH_LEN_MAX)?,
                    source_stamp: self.stamp()?,
                    target_stamp: self.target_stamp()?,
                    linked: false,
                    lacks: false,
                };
                let (linked, lacks) = self.flags()?;
                Record::Other(Other {
                    linked,
                    lacks,
                    ..other
                })
            }
            END => {
                let complete = self.flag()?;
                let [exit_code] = self.array()?;
                Record::End(End {
                    complete,
                    exit_code,
                })
            }
            _ => return None,
        })
    }
}
