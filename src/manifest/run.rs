//! Sorted runs in an unnamed file, checked as they are read back.
//!
//! All runs of a pass lie end to end in one file: a hundred million records cost two descriptors,
//! not thousands. A record on disk is, with integers little-endian:
//!
//! ```text
//! path length, 4 | digest, 32 | path | check, 8
//! ```
//!
//! The check is the start of BLAKE3 over the record's place in the file (8 bytes) and the record,
//! so that a record that was changed, cut or read from the wrong place is an error.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use super::{PATH_LEN_MAX, Record, unnamed};

const PLACE_LEN: usize = 8;
const HEAD_LEN: usize = 4 + blake3::OUT_LEN;
const CHECK_LEN: usize = 8;

/// Where a run lies in its file, in bytes: `start..end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    start: u64,
    end: u64,
}

/// A file of runs, complete.
#[derive(Debug)]
pub(super) struct RunFile {
    pub(super) file: File,
    pub(super) runs: Vec<Run>,
}

/// A file of runs being written.
#[derive(Debug)]
pub(super) struct RunWriter {
    out: BufWriter<File>,
    /// Where the next record goes.
    place: u64,
    /// Where the current run began.
    start: u64,
    pub(super) runs: Vec<Run>,
    scratch: Vec<u8>,
}

impl RunWriter {
    /// Creates an unnamed file in `dir`, written through a buffer of `buffer` bytes.
    pub(super) fn create(dir: BorrowedFd<'_>, buffer: usize) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(buffer, unnamed::open(dir)?),
            place: 0,
            start: 0,
            runs: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Appends a record to the current run.
    pub(super) fn push(&mut self, record: &Record) -> io::Result<()> {
        let path_len = u32::try_from(record.path.len()).map_err(|_| corrupt())?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.place.to_le_bytes());
        self.scratch.extend_from_slice(&path_len.to_le_bytes());
        self.scratch.extend_from_slice(record.digest.as_bytes());
        self.scratch.extend_from_slice(&record.path);
        let check = check(&self.scratch);
        self.scratch.extend_from_slice(&check);
        // The place is hashed, not written: the reader knows it.
        let (_, stored) = self.scratch.split_at(PLACE_LEN);
        self.out.write_all(stored)?;
        self.place += stored.len() as u64;
        Ok(())
    }

    /// Ends the current run; the next record begins another.
    pub(super) fn end_run(&mut self) {
        self.runs.push(Run {
            start: self.start,
            end: self.place,
        });
        self.start = self.place;
    }

    /// Returns the file, with every byte handed to the kernel.
    ///
    /// # Durability
    /// None: runs are of no use to anyone but this process.
    pub(super) fn finish(self) -> io::Result<RunFile> {
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(RunFile {
            file,
            runs: self.runs,
        })
    }
}

/// Reads one run from its start.
#[derive(Debug)]
pub(super) struct Cursor<'f> {
    input: BufReader<Section<'f>>,
    place: u64,
    end: u64,
    scratch: Vec<u8>,
}

impl<'f> Cursor<'f> {
    pub(super) fn new(file: &'f File, run: Run, buffer: usize) -> Self {
        let section = Section {
            file,
            place: run.start,
            end: run.end,
        };
        Self {
            input: BufReader::with_capacity(buffer, section),
            place: run.start,
            end: run.end,
            scratch: Vec::new(),
        }
    }

    /// Replaces `record` with the next one; returns false, and leaves it alone, after the last.
    ///
    /// # Errors
    /// `InvalidData` if what is read is not what was written; `record` then stays as it was.
    pub(super) fn advance(&mut self, record: &mut Record) -> io::Result<bool> {
        if self.place == self.end {
            return Ok(false);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.place.to_le_bytes());
        self.fill(HEAD_LEN)?;
        let (path_len, digest) = self.head().ok_or_else(corrupt)?;
        if path_len > PATH_LEN_MAX {
            return Err(corrupt());
        }
        self.fill(path_len)?;
        let mut stored = [0; CHECK_LEN];
        self.input.read_exact(&mut stored).map_err(cut)?;
        if stored != check(&self.scratch) {
            return Err(corrupt());
        }
        let path = self
            .scratch
            .get(PLACE_LEN + HEAD_LEN..)
            .ok_or_else(corrupt)?;
        record.path.clear();
        record.path.extend_from_slice(path);
        record.digest = digest;
        self.place += (HEAD_LEN + path_len + CHECK_LEN) as u64;
        Ok(true)
    }

    /// Appends exactly `len` bytes of the run to the scratch.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let old = self.scratch.len();
        self.scratch.resize(old + len, 0);
        let (_, fresh) = self.scratch.split_at_mut(old);
        self.input.read_exact(fresh).map_err(cut)
    }

    fn head(&self) -> Option<(usize, blake3::Hash)> {
        let (_, head) = self.scratch.split_at_checked(PLACE_LEN)?;
        let (path_len, rest) = head.split_first_chunk()?;
        let digest = rest.first_chunk()?;
        let path_len = usize::try_from(u32::from_le_bytes(*path_len)).ok()?;
        Some((path_len, blake3::Hash::from_bytes(*digest)))
    }
}

/// A part of a file that many readers share.
#[derive(Debug)]
struct Section<'f> {
    file: &'f File,
    place: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.place).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let (wanted, _) = buffer.split_at_mut(len);
        let count = self.file.read_at(wanted, self.place)?;
        self.place += count as u64;
        Ok(count)
    }
}

fn check(record: &[u8]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    for (to, from) in check.iter_mut().zip(blake3::hash(record).as_bytes()) {
        *to = *from;
    }
    check
}

fn corrupt() -> io::Error {
    let what = "a sorted run does not read back as it was written";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn sample(path: &str) -> Record {
        Record {
            path: path.as_bytes().to_vec(),
            digest: blake3::Hash::from_bytes([7; 32]),
        }
    }

    /// Two runs: "a", "bb" and "c".
    fn two_runs() -> RunFile {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut writer = RunWriter::create(handle.as_fd(), 16).unwrap();
        writer.push(&sample("a")).unwrap();
        writer.push(&sample("bb")).unwrap();
        writer.end_run();
        writer.push(&sample("c")).unwrap();
        writer.end_run();
        writer.finish().unwrap()
    }

    fn read(file: &File, run: Run) -> io::Result<Vec<Record>> {
        let mut cursor = Cursor::new(file, run, 16);
        let mut record = sample("untouched");
        let mut records = Vec::new();
        while cursor.advance(&mut record)? {
            records.push(record.clone());
        }
        Ok(records)
    }

    #[test]
    fn runs_read_back_as_written() {
        let RunFile { file, runs } = two_runs();
        assert_eq!(runs.len(), 2);
        assert_eq!(read(&file, runs[0]).unwrap(), [sample("a"), sample("bb")]);
        assert_eq!(read(&file, runs[1]).unwrap(), [sample("c")]);
    }

    #[test]
    fn every_changed_byte_is_an_error() {
        let RunFile { file, runs } = two_runs();
        let len = file.metadata().unwrap().len();
        // 3 records: 44 bytes each and paths of 1, 2 and 1.
        assert_eq!(len, 3 * 44 + 4);
        for place in 0..len {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            for change in [1, 0x80, 0xff] {
                file.write_all_at(&[byte[0] ^ change], place).unwrap();
                let run = runs[usize::from(place >= runs[0].end)];
                let error = read(&file, run).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {place}");
            }
            file.write_all_at(&byte, place).unwrap();
        }
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let RunFile { file, runs } = two_runs();
        file.set_len(runs[1].end - 1).unwrap();
        let error = read(&file, runs[1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_good_record_in_the_wrong_place_is_an_error() {
        let RunFile { file, runs } = two_runs();
        // "a" and "c" are equally long: put the one where the other was.
        let mut record = [0; 45];
        file.read_exact_at(&mut record, runs[1].start).unwrap();
        file.write_all_at(&record, 0).unwrap();
        let error = read(&file, runs[0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
