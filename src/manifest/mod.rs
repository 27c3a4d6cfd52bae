//! Port 4: the durable list of committed files.
//!
//! A job leaves `manifest.b3`, which `b3sum -c` reads, and `manifest.nul` for the names that
//! `b3sum` cannot express. Records arrive in any order, pass through a [`Sorter`] and are written
//! in the order of their raw path bytes, so one tree always gives one manifest.
//!
//! **Boundary.** Knows names and digests, never file contents; touches nothing but the one job
//! directory it is handed.

mod b3sum;
mod batch;
mod load;
mod map;
mod merge;
mod nul_list;
mod reader;
mod run;
mod sorter;
mod spool;
pub(crate) mod unnamed;
mod writer;

pub use b3sum::B3sum;
pub use load::{Load, load};
pub use map::{MAPS_MAX, Maps};
pub use nul_list::NulList;
pub use reader::{ReadError, Reader, reader};
pub use sorter::Sorter;
pub use spool::{PROBLEMS_FILE, Spool};
pub use writer::{Counts, ManifestWriter, write_sorted};

use std::fmt::Debug;

/// The manifest that `b3sum -c`, run in TARGET, can check.
pub const B3SUM_FILE: &str = "manifest.b3";

/// The manifest of the names [`B3sum`] cannot express; absent when there are none.
pub const NUL_FILE: &str = "manifest.nul";

/// Longest path a record may hold, in bytes: 64 KiB.
///
/// Sixteen times PATH_MAX (path_resolution(7)), because trees walked by descriptor can be deeper
/// than one system call can name.
pub const PATH_LEN_MAX: usize = 64 << 10;

/// Longest frame, in bytes, without its terminator: an escape mark, a digest, two spaces, a path.
///
/// Escapes can double a path, but [`B3sum`] only expresses paths so short that twice their length
/// is far below [`PATH_LEN_MAX`].
pub const FRAME_LEN_MAX: usize = 1 + DIGEST_HEX_LEN + 2 + PATH_LEN_MAX;

/// A digest in hexadecimal, in bytes.
const DIGEST_HEX_LEN: usize = 2 * blake3::OUT_LEN;

/// One committed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Relative to TARGET: any bytes but NUL, components separated by `/`.
    pub path: Vec<u8>,
    /// BLAKE3 of the contents.
    pub digest: blake3::Hash,
}

/// A way to write records as bytes, one frame each.
///
/// # Contract
/// 1. `decode` of an encoded record (less the terminator) gives that record, for every path that
///    `can_express` admits.
/// 2. A path that cannot be read back exactly, or that the format's own reader would refuse or
///    misread, is not admitted. Nothing is ever replaced or shortened.
/// 3. `encode` appends exactly one frame: what was in `out` stays, the last byte is the
///    terminator, and the terminator occurs nowhere else in the frame.
/// 4. `decode` of any bytes ends, without a panic, in time linear in their number.
/// 5. `decode` is strict: a frame it accepts is the very frame `encode` makes of the result. So no
///    two frames mean one record, and a changed frame is an error or a different record.
/// 6. Frames are at most [`FRAME_LEN_MAX`] bytes long, without the terminator.
///
/// Whether a path stays inside TARGET is not a codec's business: [`reader()`] and
/// [`ManifestWriter`] refuse those that do not.
pub trait Codec: Debug + Send + Sync {
    /// Returns its name, for messages.
    fn name(&self) -> &'static str;

    /// Returns whether a record with this path can be encoded.
    fn can_express(&self, path: &[u8]) -> bool;

    /// Appends one frame with its terminator. The caller has asked [`Self::can_express`].
    fn encode(&self, record: &Record, out: &mut Vec<u8>);

    /// Decodes one frame, given without its terminator.
    ///
    /// # Errors
    /// The first thing found wrong with it.
    fn decode(&self, frame: &[u8]) -> Result<Record, DecodeError>;

    /// Returns the byte that ends each frame: a newline or NUL.
    fn terminator(&self) -> u8;
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than 64 bytes, or other characters among the first 64.
    #[error("it does not begin with 64 lowercase hex digits")]
    Digest,
    /// Something else between digest and path.
    #[error("the digest is not followed by two spaces")]
    Separator,
    /// No path.
    #[error("the path is empty")]
    Empty,
    /// A path longer than the format carries.
    #[error("the path is too long")]
    TooLong,
    /// A NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// Bytes that are not UTF-8, in a format of text.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// U+FFFD, which `b3sum` takes for a sign of lost bytes.
    #[error("the path holds U+FFFD, which b3sum refuses")]
    ReplacementCharacter,
    /// The path `-`, which `b3sum` takes for its standard input.
    #[error("b3sum reads its standard input for the path \"-\"")]
    StandardInput,
    /// A backslash, newline or carriage return that should have been escaped.
    #[error("the path holds a raw backslash, newline or carriage return")]
    Unescaped,
    /// A backslash followed by something other than a backslash, `n` or `r`.
    #[error("the path holds an unknown escape")]
    Escape,
    /// A leading backslash on a frame that escapes nothing.
    #[error("it is marked as escaped but holds no escape")]
    NeedlessMark,
    /// An absolute path, or one with a component that is empty, `.` or `..`.
    #[error("the path is absolute or has a component that is empty, \".\" or \"..\"")]
    NotBelowTarget,
    /// No terminator: the file was cut, or the frame is longer than [`FRAME_LEN_MAX`].
    #[error("it has no end: the file was cut short or the record is too long")]
    Unterminated,
}

/// Checks that a path names something below TARGET and nothing else.
///
/// A manifest may come from a hostile hand; this is what keeps its reader inside TARGET.
///
/// # Errors
/// [`DecodeError::NotBelowTarget`] and its kin.
pub fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    admit(path)?;
    // The empty component catches "/x", "x/" and "a//b" alike.
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if path.split(|&byte| byte == b'/').all(is_name) {
        Ok(())
    } else {
        Err(DecodeError::NotBelowTarget)
    }
}

/// Checks what every format asks of a path: not empty, not too long, no NUL.
fn admit(path: &[u8]) -> Result<(), DecodeError> {
    if path.is_empty() {
        Err(DecodeError::Empty)
    } else if path.len() > PATH_LEN_MAX {
        Err(DecodeError::TooLong)
    } else if path.contains(&0) {
        Err(DecodeError::Nul)
    } else {
        Ok(())
    }
}

/// Appends a digest and the two spaces that both formats put after it.
fn put_digest(digest: &blake3::Hash, out: &mut Vec<u8>) {
    out.extend_from_slice(digest.to_hex().as_bytes());
    out.extend_from_slice(b"  ");
}

/// Splits what [`put_digest`] wrote from what follows it.
fn split_digest(frame: &[u8]) -> Result<(blake3::Hash, &[u8]), DecodeError> {
    let (hex, rest) = frame
        .split_at_checked(DIGEST_HEX_LEN)
        .ok_or(DecodeError::Digest)?;
    // The hash's own parser takes capitals too, which would give a record two frames.
    if !hex
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(DecodeError::Digest);
    }
    let digest = blake3::Hash::from_hex(hex).map_err(|_| DecodeError::Digest)?;
    let path = rest.strip_prefix(b"  ").ok_or(DecodeError::Separator)?;
    Ok((digest, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_target_are_refused() {
        for path in [
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "./a",
            "a/.",
            "a/./b",
            "../a",
            "a/../b",
            "a/..",
            "..//",
        ] {
            assert_eq!(
                check_path(path.as_bytes()),
                Err(DecodeError::NotBelowTarget),
                "{path}"
            );
        }
        assert_eq!(check_path(b""), Err(DecodeError::Empty));
        assert_eq!(check_path(b"a\0b"), Err(DecodeError::Nul));
        assert_eq!(
            check_path(&vec![b'a'; PATH_LEN_MAX + 1]),
            Err(DecodeError::TooLong)
        );
    }

    #[test]
    fn odd_paths_inside_the_target_are_admitted() {
        for path in ["a", "...", "..a", "a..", ".a/b.", "-", " ", "\n", "a/ /b"] {
            assert_eq!(check_path(path.as_bytes()), Ok(()), "{path:?}");
        }
        assert_eq!(check_path(&vec![b'a'; PATH_LEN_MAX]), Ok(()));
        assert_eq!(check_path(b"\xff/\xfe"), Ok(()));
    }
}
