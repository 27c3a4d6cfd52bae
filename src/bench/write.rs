//! Writing to a scratch file in a directory, until it is durable.
//!
//! Each sample has a new file: writing over an old one is faster than what a copy does. There is
//! no warm-up, because files have none, and the time of the last sync counts.

use std::sync::Arc;
use std::time::Instant;

use super::alone::{Manner, Samples};
use super::cursor::Cursor;
use super::load::Loader;
use super::report::{Knee, Measure, Point};
use super::sample::{Load, Sample, Ties, Way};
use super::scratch::{Place, noise, whole_buffers};
use super::stats::knee;
use crate::buffer::{Credits, SLOT_LEN, View};
use crate::error::Error;
use crate::io::probe::Chosen;

/// Queue depths that are tried, with requests of the engine's size.
const DEPTHS: [usize; 3] = [1, 4, 16];

/// Measures; `None` when stopped before there was a sample.
///
/// # Errors
/// Of the first write or sync that failed, classed as the target's.
pub(crate) fn measure(
    place: &Place<'_>,
    credits: &Credits,
    chosen: Chosen,
    manner: &Manner,
    bytes: u64,
    ties: &Ties,
) -> Result<Option<Measure>, Error> {
    let mut loader = Loader::new(chosen, credits)?;
    let depths = manner.depths(&DEPTHS, credits.total());
    let views = buffers(credits, depths.iter().copied().max().unwrap_or(1));
    let bytes = whole_buffers(bytes);
    let block = manner.block.unwrap_or(SLOT_LEN);
    let mut points = Vec::new();
    for depth in depths {
        let at = Knee { block, depth };
        let tried = sample(place, &mut loader, manner, at, &views, bytes, ties)?;
        points.extend(tried.rate().map(|rate| Point {
            block: at.block,
            depth,
            rate,
        }));
    }
    let Some(at) = knee(&points) else {
        return Ok(None);
    };
    let mut samples = Vec::new();
    for _ in 0..manner.repetitions {
        let one = sample(place, &mut loader, manner, at, &views, bytes, ties)?;
        if ties.stopped() {
            break;
        }
        samples.push(one);
    }
    Ok(Samples(samples).figure(at))
}

/// Returns a buffer of noise for each request under way, no two alike. One for all of them would
/// stay in the processor's cache, where those of a copy do not, and a drive that keeps equal blocks
/// once would have little to write.
fn buffers(credits: &Credits, count: usize) -> Arc<[View]> {
    let leases = std::iter::from_fn(|| credits.take()).take(count);
    let filled = leases.enumerate().map(|(index, mut lease)| {
        noise(index as u64, lease.as_mut_slice());
        lease.freeze(SLOT_LEN)
    });
    filled.collect()
}

fn sample(
    place: &Place<'_>,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    views: &Arc<[View]>,
    bytes: u64,
    ties: &Ties,
) -> Result<Sample, Error> {
    if ties.stopped() {
        return Ok(Sample::default());
    }
    let extent = place.make(bytes)?;
    let file = Arc::clone(&extent.file);
    let mut cursor = Cursor::new(Arc::from([extent]), false);
    let load = Load {
        warm: std::time::Duration::ZERO,
        ..manner.load(at, Way::Write(Arc::clone(views)))
    };
    let mut sample = loader.sample(&mut cursor, &load, ties)?;
    sample.seconds += sync(place, &file)?;
    Ok(sample)
}

/// Makes a scratch file durable; the seconds that took.
pub(crate) fn sync(place: &Place<'_>, file: &std::os::fd::OwnedFd) -> Result<f64, Error> {
    let begun = Instant::now();
    rustix::fs::fdatasync(file)
        .map_err(|errno| Error::target_sync(place.label, "sync a scratch file", errno))?;
    Ok(begun.elapsed().as_secs_f64())
}
