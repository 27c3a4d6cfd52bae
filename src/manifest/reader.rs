//! Frames of a file back to records.

use std::io::{self, BufRead, Read};
use std::iter::FusedIterator;

use super::{Codec, DecodeError, FRAME_LEN_MAX, Record, check_path};

/// Why a record could not be read, and which one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are there and mean nothing.
    #[error("record {number}: {error}")]
    Decode {
        /// Which record, counted from 1; for a format of lines, the line.
        number: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The bytes could not be read.
    #[error("record {number}: {error}")]
    Io {
        /// Which record, counted from 1.
        number: u64,
        /// The kernel's answer.
        error: io::Error,
    },
}

/// Iterator over the records of a file; see [`reader`].
#[derive(Debug)]
pub struct Reader<'c, R> {
    codec: &'c dyn Codec,
    input: R,
    frame: Vec<u8>,
    number: u64,
    ended: bool,
}

/// Returns the records of `input`, in its order.
///
/// Strict: every frame must end in its terminator (a cut file could otherwise yield a cut path),
/// must decode, and must name a path that [`check_path`] admits. The first fault is the last item,
/// so that no caller can step over a bad record. Holds one frame, at most [`FRAME_LEN_MAX`] bytes.
pub fn reader<R: BufRead>(codec: &dyn Codec, input: R) -> Reader<'_, R> {
    Reader {
        codec,
        input,
        frame: Vec::new(),
        number: 0,
        ended: false,
    }
}

impl<R: BufRead> Reader<'_, R> {
    /// Returns the next record, or `None` at the end of the file.
    fn read(&mut self) -> Result<Option<Record>, ReadError> {
        self.number += 1;
        let number = self.number;
        self.frame.clear();
        // One more than the longest frame, for the terminator.
        let limit = FRAME_LEN_MAX as u64 + 1;
        let terminator = self.codec.terminator();
        let len = Read::take(&mut self.input, limit)
            .read_until(terminator, &mut self.frame)
            .map_err(|error| ReadError::Io { number, error })?;
        if len == 0 {
            return Ok(None);
        }
        self.decode()
            .map(Some)
            .map_err(|error| ReadError::Decode { number, error })
    }

    fn decode(&self) -> Result<Record, DecodeError> {
        let frame = self
            .frame
            .strip_suffix(&[self.codec.terminator()])
            .ok_or(DecodeError::Unterminated)?;
        let record = self.codec.decode(frame)?;
        check_path(&record.path)?;
        Ok(record)
    }
}

impl<R: BufRead> Iterator for Reader<'_, R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl<R: BufRead> FusedIterator for Reader<'_, R> {}

#[cfg(test)]
mod tests {
    use super::super::{B3sum, NulList};
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn read(codec: &dyn Codec, bytes: &[u8]) -> Vec<Result<Vec<u8>, String>> {
        reader(codec, bytes)
            .map(|item| item.map(|r| r.path).map_err(|e| e.to_string()))
            .collect()
    }

    #[test]
    fn a_bad_line_ends_the_reading_and_is_named() {
        let text = format!("{ONE}  a\n{ONE}  b\nrubbish\n{ONE}  c\n");
        let items = read(&B3sum, text.as_bytes());
        assert_eq!(
            items,
            [
                Ok(b"a".to_vec()),
                Ok(b"b".to_vec()),
                Err("record 3: it does not begin with 64 lowercase hex digits".to_owned()),
            ]
        );
    }

    #[test]
    fn blank_lines_and_carriage_returns_are_faults() {
        let text = format!("{ONE}  a\n\n");
        assert!(read(&B3sum, text.as_bytes())[1].is_err());
        let text = format!("{ONE}  a\r\n");
        assert!(read(&B3sum, text.as_bytes())[0].is_err());
    }

    #[test]
    fn a_path_that_leaves_the_target_is_a_fault() {
        for path in ["/etc/passwd", "../x", "a/../../x", "a//x", "./x", "x/"] {
            let text = format!("{ONE}  {path}\n");
            let items = read(&B3sum, text.as_bytes());
            assert_eq!(items.len(), 1, "{path}");
            assert!(items[0].is_err(), "{path}");
        }
    }

    #[test]
    fn a_cut_file_never_yields_a_cut_path() {
        let whole = format!("{ONE}  photo.jpg\0");
        for len in 1..whole.len() {
            let items = read(&NulList, &whole.as_bytes()[..len]);
            assert_eq!(items.len(), 1, "{len}");
            assert!(items[0].is_err(), "{len}");
        }
        assert_eq!(read(&NulList, b""), []);
    }

    #[test]
    fn a_file_without_terminators_costs_no_more_than_one_frame() {
        let mut endless = reader(&NulList, io::BufReader::new(io::repeat(b'a')));
        assert!(matches!(
            endless.next(),
            Some(Err(ReadError::Decode {
                number: 1,
                error: DecodeError::Unterminated
            }))
        ));
        assert!(endless.frame.len() <= FRAME_LEN_MAX + 1);
        assert!(endless.next().is_none());
    }

    #[test]
    fn the_longest_path_is_read_and_one_byte_more_is_not() {
        let path = "p".repeat(64 << 10);
        let items = read(&NulList, format!("{ONE}  {path}\0").as_bytes());
        assert_eq!(items, [Ok(path.clone().into_bytes())]);
        let items = read(&NulList, format!("{ONE}  {path}p\0").as_bytes());
        assert_eq!(items, [Err("record 1: the path is too long".to_owned())]);
    }
}
