//! What the load generator asks for when it writes, and what is in a file then.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::cursor::{Cursor, Extent};
use super::generate::Generator;
use super::sample::{Load, Sample, Sink, Ties, Way};
use super::write;
use crate::buffer::{Arena, Credits, SLOT_LEN};
use crate::io::blocking::Blocking;
use crate::io::{Backend, Completion, Full, Op, Request, Wait, Wake};

const MIB: u64 = 1 << 20;

/// Notes where write-back starts, and has it fail.
#[derive(Debug)]
struct Observed {
    inner: Blocking,
    started: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Backend for Observed {
    fn submit(&mut self, request: Request) -> Result<(), Full> {
        let range = match &request.op {
            Op::WriteBack { offset, len } => Some((offset / MIB, len / MIB)),
            _ => None,
        };
        self.inner.submit(request)?;
        self.started.lock().unwrap().extend(range);
        Ok(())
    }

    fn reap(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<(), Errno> {
        self.inner.reap(wait, done)?;
        for completion in done {
            if let Op::WriteBack { .. } = completion.request.op {
                completion.result = Err(Errno::IO);
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

fn credits(count: usize) -> Credits {
    Arena::new(count).unwrap().lend(count).unwrap()
}

fn extent(file: OwnedFd, len: u64) -> Extent {
    Extent {
        file: Arc::new(file),
        start: 0,
        len,
        path: Arc::new(PathBuf::from("file")),
    }
}

/// Moves all of an extent; what that gave, and the ranges whose write-back was started, in MiB.
fn moved(from: Extent, depth: usize, block: usize, way: Way) -> (Sample, Vec<(u64, u64)>) {
    let started = Arc::default();
    let backend = Observed {
        inner: Blocking::new(4, 16).unwrap(),
        started: Arc::clone(&started),
    };
    let mut generator = Generator::over(Box::new(backend), &credits(4));
    let load = Load {
        block,
        depth,
        warm: Duration::ZERO,
        time: Duration::from_secs(3600),
        way,
    };
    let mut cursor = Cursor::new(Arc::from([from]), false);
    let sample = generator.sample(&mut cursor, &load, &Ties::default());
    let started = started.lock().unwrap().clone();
    (sample.unwrap(), started)
}

/// A file on a disk; written past the page cache, if that is asked for and can be had.
fn file(direct: bool) -> Option<OwnedFd> {
    let file = OwnedFd::from(tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap());
    let flags = fcntl_getfl(&file).unwrap();
    if direct && fcntl_setfl(&file, flags | OFlags::DIRECT).is_err() {
        eprintln!("SKIPPED: no O_DIRECT in {}", env!("CARGO_MANIFEST_DIR"));
        return None;
    }
    Some(file)
}

/// Writes 27 MiB, alone and as a copy.
fn written(direct: bool) -> Option<[Vec<(u64, u64)>; 2]> {
    let all = 27 * MIB;
    let noise = write::buffers(&credits(2), 2);
    let (sample, alone) = moved(extent(file(direct)?, all), 2, SLOT_LEN, Way::Write(noise));
    assert_eq!(sample.bytes, all);
    let source = tempfile::tempfile().unwrap();
    source.set_len(all).unwrap();
    let sink = Sink {
        into: extent(file(direct)?, all),
        over: Arc::default(),
        pool: None,
    };
    let source = extent(source.into(), all);
    let (sample, copied) = moved(source, 3, SLOT_LEN, Way::Copy(sink));
    assert_eq!(sample.bytes, all);
    Some([alone, copied])
}

#[test]
fn write_back_follows_what_goes_through_the_cache_as_in_a_copy() {
    let windows = vec![(0, 8), (8, 8), (16, 8)];
    assert_eq!(written(false).unwrap(), [windows.clone(), windows]);
}

#[test]
fn nothing_is_to_be_written_back_of_what_goes_past_the_cache() {
    if let Some(started) = written(true) {
        assert_eq!(started, [vec![], vec![]]);
    }
}

#[test]
fn no_two_blocks_of_what_is_written_are_alike() {
    let file = tempfile::tempfile().unwrap();
    let same = file.try_clone().unwrap();
    let noise = write::buffers(&credits(2), 1);
    assert_eq!(noise.len(), 2, "all that there is memory for");
    let (sample, _) = moved(extent(file.into(), 2 * MIB), 1, 4096, Way::Write(noise));
    assert_eq!(sample.bytes, 2 * MIB);
    let mut bytes = vec![0; SLOT_LEN * 2];
    same.read_exact_at(&mut bytes, 0).unwrap();
    let first: HashSet<&[u8]> = bytes.chunks(4096).collect();
    assert_eq!(first.len(), 512);
    // Nor is anything of the next sample.
    let next = write::buffers(&credits(2), 1);
    let next: HashSet<&[u8]> = next.iter().flat_map(|view| view.chunks(4096)).collect();
    assert!(first.is_disjoint(&next));
}
