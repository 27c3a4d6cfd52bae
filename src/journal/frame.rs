//! Headers and frames: the chain, and telling a torn tail from damage.

use super::codec::{self, Content, PAYLOAD_LEN_MAX};
use super::{VERSION, VERSION_MIN};

/// What chains a frame to the one before it.
pub(super) type Tag = [u8; 16];

const MAGIC: [u8; 8] = *b"inhaulj\n";
pub(super) const HEADER_LEN: usize = 32;
const PREFIX_LEN: usize = 4 + 1 + 8;
const TAG_LEN: usize = size_of::<Tag>();
const FRAME_LEN_MIN: usize = PREFIX_LEN + TAG_LEN;
pub(super) const FRAME_LEN_MAX: usize = FRAME_LEN_MIN + PAYLOAD_LEN_MAX;

/// No journal has as many frames: what claims a higher number is not hashed in the search for
/// later frames, and random bytes hardly ever claim a lower one.
const SEQ_MAX: u64 = 1 << 48;

/// What the search for later frames may hash beyond twice the bytes it searches.
const SEARCH_BYTES_MIN: usize = 16 << 20;

/// A header, as far as it is not fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the segment, from 1.
    pub(super) segment: u32,
    /// Makes the chain of this segment unlike any other.
    pub(super) salt: [u8; 16],
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes
    }

    /// Reads the header of a segment; returns it with the tag its first frame is chained to, or
    /// says what is wrong.
    pub(super) fn decode(segment: &[u8]) -> Result<(Self, Tag), &'static str> {
        let header = segment.first_chunk::<HEADER_LEN>();
        let header = header.ok_or("shorter than a header")?;
        let (magic, rest) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err("not a journal of inhaul");
        }
        let Some((version, rest)) = rest.split_first_chunk() else {
            return Err("shorter than a header");
        };
        if !(VERSION_MIN..=VERSION).contains(&u32::from_le_bytes(*version)) {
            return Err("damaged in its header, or of a format this version does not know");
        }
        let Some((number, salt)) = rest.split_first_chunk() else {
            return Err("shorter than a header");
        };
        let segment = u32::from_le_bytes(*number);
        let salt = salt.try_into().map_err(|_| "shorter than a header")?;
        Ok((Self { segment, salt }, half_hash(&[header])))
    }
}

/// A frame by its shape alone; whether it fits is another question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    kind: u8,
    seq: u64,
    payload: &'a [u8],
    /// Everything before the tag.
    body: &'a [u8],
    tag: &'a Tag,
}

impl<'a> Frame<'a> {
    /// Returns the frame that `bytes` begin with, if they have the shape of one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (&kind, rest) = rest.split_first()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if !codec::is_kind(kind) || len > PAYLOAD_LEN_MAX {
            return None;
        }
        let (seq, rest) = rest.split_first_chunk()?;
        let (payload, rest) = rest.split_at_checked(len)?;
        Some(Self {
            kind,
            seq: u64::from_le_bytes(*seq),
            payload,
            body: bytes.get(..PREFIX_LEN + len)?,
            tag: rest.first_chunk()?,
        })
    }

    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn tag(&self) -> Tag {
        *self.tag
    }

    /// Returns the bytes it takes.
    pub(super) fn len(&self) -> usize {
        self.body.len() + TAG_LEN
    }

    /// Returns whether it is the one that was written behind the frame with tag `previous`.
    pub(super) fn fits(&self, previous: &Tag) -> bool {
        half_hash(&[previous, self.body]) == *self.tag
    }

    /// Returns what it says.
    pub(super) fn content(&self) -> Option<Content<'a>> {
        codec::decode(self.kind, self.payload)
    }
}

/// Appends a frame to `out` and returns its tag; on an error `out` is as it was.
pub(super) fn seal(
    content: &Content<'_>,
    seq: u64,
    previous: &Tag,
    out: &mut Vec<u8>,
) -> Result<Tag, &'static str> {
    let start = out.len();
    let result = seal_behind(content, seq, previous, out, start);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn seal_behind(
    content: &Content<'_>,
    seq: u64,
    previous: &Tag,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<Tag, &'static str> {
    out.extend_from_slice(&[0; PREFIX_LEN]);
    let kind = codec::encode(content, out)?;
    let too_long = "the record";
    let frame = out.get_mut(start..).ok_or(too_long)?;
    let (prefix, payload) = frame.split_at_mut(PREFIX_LEN);
    let len = u32::try_from(payload.len()).map_err(|_| too_long)?;
    let (len_field, rest) = prefix.split_at_mut(4);
    let (kind_field, seq_field) = rest.split_at_mut(1);
    len_field.copy_from_slice(&len.to_le_bytes());
    kind_field.fill(kind);
    seq_field.copy_from_slice(&seq.to_le_bytes());
    let tag = half_hash(&[previous, frame]);
    out.extend_from_slice(&tag);
    Ok(tag)
}

/// Returns whether a sound frame follows the bad one at `at`; see "What a load trusts".
///
/// `seq` is the number the bad frame should have, `previous` the tag it should be chained to.
pub(super) fn is_damage(segment: &[u8], at: usize, seq: u64, previous: &Tag) -> bool {
    let bad = segment.get(at..).and_then(Frame::parse);
    if let Some(bad) = bad.filter(|bad| bad.seq == seq) {
        let next = segment.get(at + bad.len()..).and_then(Frame::parse);
        let tag = half_hash(&[previous, bad.body]);
        if next.is_some_and(|next| Some(next.seq) == seq.checked_add(1) && next.fits(&tag)) {
            return true;
        }
    }
    let searched = segment.len().saturating_sub(at);
    let mut budget = searched.saturating_mul(2).saturating_add(SEARCH_BYTES_MIN);
    for place in at + 1..segment.len() {
        let Some((behind, bytes)) = segment.split_at_checked(place) else {
            break;
        };
        let Some(frame) = Frame::parse(bytes) else {
            continue;
        };
        if frame.seq > SEQ_MAX {
            continue;
        }
        let Some(left) = budget.checked_sub(frame.len()) else {
            return true;
        };
        budget = left;
        if behind.last_chunk().is_some_and(|tag| frame.fits(tag)) {
            return true;
        }
    }
    false
}

/// Returns the 16 bytes before `at`: the tag a frame there is chained to.
pub(super) fn tag_before(segment: &[u8], at: usize) -> Option<&Tag> {
    let behind = segment.get(HEADER_LEN..at)?;
    behind.last_chunk()
}

fn half_hash(parts: &[&[u8]]) -> Tag {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    let mut tag = Tag::default();
    tag.copy_from_slice(hash.as_bytes().split_at(TAG_LEN).0);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_of_the_version_before_are_read_and_others_are_not() {
        let header = Header {
            segment: 1,
            salt: [7; 16],
        };
        for (version, is_read) in [(2_u32, false), (3, true), (4, true), (5, false)] {
            let mut bytes = header.encode();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            let decoded = Header::decode(&bytes).map(|(header, _)| header.segment);
            assert_eq!(decoded == Ok(1), is_read, "{version}: {decoded:?}");
        }
    }
}
