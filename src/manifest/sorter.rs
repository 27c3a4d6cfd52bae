//! Records in any order to records in the order of their paths, in bounded memory.
//!
//! 1. Records gather in a [`Batch`] until it is full.
//! 2. A full batch is sorted and appended, as a run, to an unnamed file.
//! 3. While there are more runs than can be merged at once, groups of neighbouring runs are merged
//!    into longer ones in a new file, and the old file is let go.
//! 4. The last merge hands the records to the caller.
//!
//! A batch that never filled is sorted where it is, without a file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::batch::Batch;
use super::merge::merge;
use super::run::{RunFile, RunWriter};
use super::{Record, check_path};

/// Most runs merged at once.
///
/// With 64 MiB that leaves 1 MiB a run, enough for a spinning disk to spend its time reading, and
/// 10^8 records of 150 bytes (about 260 runs) need one pass between.
const FAN_IN_MAX: usize = 64;

/// Least buffer of a run being read, in bytes; with less memory, fewer runs are merged at once.
const BUFFER_MIN: usize = 16 << 10;

/// Greatest buffer of a run, in bytes: more buys nothing once seeks are rare.
const BUFFER_MAX: usize = 1 << 20;

/// Sorts any number of records by the raw bytes of their paths.
///
/// Holds about `memory_bytes`, and up to 128 KiB more for each run being merged (at most 64) if
/// the paths are as long as they can be. On disk it needs the size of the records, twice that when
/// a pass between is needed, in files without a name that vanish however the program ends.
#[derive(Debug)]
pub struct Sorter {
    dir: OwnedFd,
    batch: Batch,
    runs: Option<RunWriter>,
    fan_in: usize,
    buffer: usize,
}

impl Sorter {
    /// Returns an empty sorter that puts its files on the file system of the directory `dir`.
    pub fn new(dir: OwnedFd, memory_bytes: usize) -> Self {
        let fan_in = (memory_bytes / BUFFER_MIN).clamp(2, FAN_IN_MAX);
        // One more for the output of a merge.
        let buffer = (memory_bytes / (fan_in + 1)).clamp(1, BUFFER_MAX);
        Self {
            dir,
            batch: Batch::new(memory_bytes.saturating_sub(buffer)),
            runs: None,
            fan_in,
            buffer,
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `InvalidInput` for a path no manifest may hold (see [`check_path`]); otherwise what writing
    /// a run met. After an error of writing the sorter is of no more use.
    pub fn push(&mut self, record: &Record) -> io::Result<()> {
        check_path(&record.path).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        if !self.batch.has_room(record) {
            self.spill()?;
        }
        self.batch.push(record);
        Ok(())
    }

    /// Hands every record to `out`, sorted by path bytes; equal paths in the order of pushing.
    ///
    /// # Errors
    /// What reading or writing runs met (`InvalidData` if a run does not read back as written), or
    /// the first error of `out`. Some records may have been handed out before.
    pub fn finish(mut self, out: &mut dyn FnMut(&Record) -> io::Result<()>) -> io::Result<()> {
        if self.runs.is_none() {
            return self.batch.drain_sorted(out);
        }
        self.spill()?;
        let Self {
            dir,
            batch,
            runs,
            fan_in,
            buffer,
        } = self;
        // Its memory is what the merge works with.
        drop(batch);
        let Some(runs) = runs else { return Ok(()) };
        let mut runs = runs.finish()?;
        while runs.runs.len() > fan_in {
            runs = pass(&dir, &runs, fan_in, buffer)?;
        }
        merge(&runs.file, &runs.runs, buffer, out)
    }

    /// Makes the batch a run.
    fn spill(&mut self) -> io::Result<()> {
        let runs = match &mut self.runs {
            Some(runs) => runs,
            None => self
                .runs
                .insert(RunWriter::create(self.dir.as_fd(), self.buffer)?),
        };
        self.batch.drain_sorted(&mut |record| runs.push(record))?;
        runs.end_run();
        Ok(())
    }
}

/// Merges each `fan_in` neighbouring runs into one.
///
/// Neighbours, so that the runs stay in the order of pushing and equal paths with them.
fn pass(dir: &OwnedFd, old: &RunFile, fan_in: usize, buffer: usize) -> io::Result<RunFile> {
    let mut new = RunWriter::create(dir.as_fd(), buffer)?;
    for group in old.runs.chunks(fan_in) {
        merge(&old.file, group, buffer, &mut |record| new.push(record))?;
        new.end_run();
    }
    new.finish()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn sorter(memory: usize) -> Sorter {
        let dir = File::open(std::env::temp_dir()).unwrap();
        Sorter::new(dir.into(), memory)
    }

    fn record(path: &[u8], mark: u8) -> Record {
        Record {
            path: path.to_vec(),
            digest: blake3::Hash::from_bytes([mark; 32]),
        }
    }

    fn finish(sorter: Sorter) -> Vec<Record> {
        let mut records = Vec::new();
        let mut out = |record: &Record| {
            records.push(record.clone());
            Ok(())
        };
        sorter.finish(&mut out).unwrap();
        records
    }

    #[test]
    fn the_order_is_that_of_raw_bytes() {
        let stated: [&[u8]; 8] = [b"\n", b" ", b"-", b"A/b", b"a", b"a-b", b"a/b", b"\xff"];
        let mut sorter = sorter(1 << 20);
        for index in [5, 0, 7, 3, 1, 6, 2, 4] {
            sorter.push(&record(stated[index], 0)).unwrap();
        }
        let paths: Vec<_> = finish(sorter).into_iter().map(|r| r.path).collect();
        assert_eq!(paths, stated);
    }

    #[test]
    fn little_memory_makes_many_runs_and_several_passes() {
        // 1 KiB merges two runs at a time; 10,000 records make more than 1,000 runs, 10 passes.
        let mut sorter = sorter(1 << 10);
        for step in 0..10_000_u32 {
            // 7919 is prime to 10,000, so every number comes once, far from its neighbours.
            let number = step * 7919 % 10_000;
            let path = format!("{number:05}");
            sorter.push(&record(path.as_bytes(), 0)).unwrap();
        }
        assert_eq!(sorter.fan_in, 2);
        let runs = sorter.runs.as_ref().unwrap().runs.len();
        assert!(runs > 1000, "{runs}");
        let records = finish(sorter);
        assert_eq!(records.len(), 10_000);
        for (number, record) in records.iter().enumerate() {
            assert_eq!(record.path, format!("{number:05}").into_bytes());
        }
    }

    #[test]
    fn equal_paths_stay_in_the_order_of_pushing() {
        for memory in [1 << 20, 256] {
            let mut sorter = sorter(memory);
            for mark in 0..100 {
                sorter.push(&record(b"same", mark)).unwrap();
            }
            let marks: Vec<_> = finish(sorter)
                .iter()
                .map(|r| r.digest.as_bytes()[0])
                .collect();
            assert_eq!(marks, (0..100).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn one_record_may_be_larger_than_the_memory() {
        let long = vec![b'x'; 64 << 10];
        let mut sorter = sorter(100);
        for path in [&b"z"[..], &long, b"a"] {
            sorter.push(&record(path, 1)).unwrap();
        }
        let paths: Vec<_> = finish(sorter).into_iter().map(|r| r.path).collect();
        assert_eq!(paths, [b"a".to_vec(), long, b"z".to_vec()]);
    }

    #[test]
    fn a_corrupt_run_is_an_error() {
        let mut sorter = sorter(100);
        for path in [&b"c"[..], b"b", b"a"] {
            sorter.push(&record(path, 1)).unwrap();
        }
        sorter.spill().unwrap();
        let runs = sorter.runs.take().unwrap().finish().unwrap();
        runs.file.write_all_at(b"X", 36).unwrap();
        let mut handed_out = Vec::new();
        let mut out = |record: &Record| {
            handed_out.push(record.path.clone());
            Ok(())
        };
        let error = merge(&runs.file, &runs.runs, 100, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(
            handed_out.is_empty(),
            "the broken record was the first of its run"
        );
    }

    #[test]
    fn an_error_of_the_receiver_comes_back() {
        for memory in [1 << 20, 256] {
            let mut sorter = sorter(memory);
            for mark in 0..20 {
                sorter.push(&record(&[b'a' + mark], mark)).unwrap();
            }
            let error = sorter.finish(&mut |_| Err(io::ErrorKind::StorageFull.into()));
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn paths_no_manifest_may_hold_are_refused_at_the_door() {
        let mut sorter = sorter(1 << 20);
        let long = vec![b'x'; (64 << 10) + 1];
        for path in [&b""[..], b"../x", b"/x", b"a\0b", &long] {
            let error = sorter.push(&record(path, 0)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(finish(sorter), []);
    }
}
