//! Small files, each opened, read whole and closed: what counts is how many a second.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alone::Manner;
use super::cursor::Extent;
use super::files::{Small, bypasses_cache};
use super::generate::Generator;
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::report::SmallFiles;
use super::sample::Ties;
use super::stats::{median, range};
use super::subject::Opened;
use crate::beneath::open_source;
use crate::error::Error;

/// Fewest files of a sample: with fewer, a rate is chance.
const SAMPLE_FILES: usize = 32;
/// Files opened before the first of them is read: the engine keeps as many under way.
const AT_ONCE: usize = 16;

/// Reads the small files of a subject, no file twice. `None` when there are too few.
///
/// # Errors
/// Of the first read that failed.
pub(super) fn read(
    subject: &Opened,
    loader: &mut Loader,
    manner: &Manner,
    ties: &Ties,
) -> Result<Option<SmallFiles>, Error> {
    let samples = manner.repetitions;
    let share = subject.small.len() / samples.max(1);
    if share < SAMPLE_FILES {
        return Ok(None);
    }
    let mut rates = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    let time = manner.time * 4;
    for sample in subject.small.chunks(share).take(samples) {
        let sample = sample.to_vec();
        let one = loader.run(&subject.path(), ties, move |generator, ties| {
            self::sample(&sample, time, generator, ties)
        })??;
        if ties.stopped() {
            break;
        }
        files += one.files;
        bytes += one.bytes;
        if one.files > 0 && one.seconds > 0.0 {
            #[allow(clippy::cast_precision_loss, reason = "thousands of files")]
            rates.push(one.files as f64 / one.seconds);
        }
    }
    if rates.len() < REPETITIONS_MIN {
        return Ok(None);
    }
    let (rate_min, rate_max) = range(&rates);
    Ok(Some(SmallFiles {
        rate: median(&rates),
        rate_min,
        rate_max,
        samples: rates,
        files,
        bytes,
    }))
}

#[derive(Debug, Default)]
struct Sample {
    files: u64,
    bytes: u64,
    seconds: f64,
}

/// Reads files for `time`, on the thread of the generator: opening one may wait for its drive too.
fn sample(
    files: &[Small],
    time: Duration,
    generator: &mut Generator,
    ties: &Ties,
) -> Result<Sample, Error> {
    let begun = Instant::now();
    let mut sample = Sample::default();
    for batch in files.chunks(AT_ONCE) {
        if ties.stopped() || begun.elapsed() > time {
            break;
        }
        let opened: Vec<Extent> = batch.iter().filter_map(open).collect();
        sample.files += opened.len() as u64;
        sample.bytes += batch.iter().map(|small| small.size).sum::<u64>();
        generator.whole(&opened, ties)?;
    }
    sample.seconds = begun.elapsed().as_secs_f64();
    Ok(sample)
}

fn open(small: &Small) -> Option<Extent> {
    // Read as the engine reads it, past the page cache where the file system lets us.
    let opened = open_source(small.dir.as_fd(), &small.name, true).ok()?;
    let (size, direct) = (opened.stat.stx_size, bypasses_cache(&opened));
    if size == 0 {
        return None;
    }
    let file: OwnedFd = opened.file;
    if !direct {
        let _best_effort = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    Some(Extent {
        file: Arc::new(file),
        start: 0,
        len: size,
        path: Arc::new(crate::scan::as_path(&small.name)),
    })
}
