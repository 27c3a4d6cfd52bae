//! Writing to a scratch file in a directory, until it is durable.
//!
//! Each sample has a new file: writing over an old one is faster than what a copy does. There is
//! no warm-up, because files have none, and the time of the last sync counts.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use super::alone::Samples;
use super::cursor::{Cursor, Extent};
use super::load::Loader;
use super::manner::Manner;
use super::report::{Knee, Measure, Point};
use super::sample::{Load, Sample, Ties, Way};
use super::scratch::{Place, noise, of_target, whole_buffers};
use super::silence::ask;
use super::stats::knee;
use super::steady;
use crate::buffer::{Arena, Credits, SLOT_LEN, View};
use crate::error::{Error, ErrorKind, Side};
use crate::io::probe::Chosen;

/// Queue depths that are tried, with requests of the engine's size. Smaller ones are not: a copy
/// writes the blocks that it hashes, and each point takes a whole scratch file.
pub(crate) const DEPTHS: [usize; 3] = [1, 4, 16];

/// Buffers of noise at least, if there is memory: a file repeats itself after so much.
const VIEWS_MIN: usize = 16;

/// Where, with what memory, by which backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) place: &'a Place<'a>,
    pub(crate) credits: &'a Credits,
    pub(crate) chosen: Chosen,
}

/// Measures; `None` when stopped before there was a sample. Each point of the search is in `sweep`,
/// whatever comes after it.
///
/// # Errors
/// Of the first write or sync that failed, classed as the target's.
pub(crate) fn measure(
    at: &At<'_>,
    manner: &Manner,
    bytes: u64,
    ties: &Ties,
    sweep: &mut Vec<Point>,
) -> Result<Option<Measure>, Error> {
    let At {
        place,
        credits,
        chosen,
    } = *at;
    // A drive that does not answer has some of them, for as long as it likes.
    let anew = (credits.free() < credits.total()).then(|| lend(credits.total()));
    let anew = anew.transpose()?;
    let credits = anew.as_ref().unwrap_or(credits);
    let mut loader = Loader::new(chosen, credits)?;
    let depths = manner.depths(&DEPTHS, credits.total());
    let bytes = whole_buffers(bytes);
    let block = manner.block.unwrap_or(SLOT_LEN);
    for depth in depths {
        let at = Knee { block, depth };
        let tried = sample(place, &mut loader, manner, at, credits, bytes, ties)?;
        sweep.extend(tried.rate().map(|rate| Point {
            block: at.block,
            depth,
            rate,
        }));
    }
    let Some(at) = knee(sweep) else {
        return Ok(None);
    };
    let mut one = || sample(place, &mut loader, manner, at, credits, bytes, ties).map(Some);
    let samples = steady::take(manner.repetitions, ties, &mut one)?;
    Ok(Samples(samples).figure(at, manner.repetitions))
}

fn lend(count: usize) -> Result<Credits, Error> {
    let cannot = |source: std::io::Error| {
        let what = "get memory for buffers again";
        Error::new(ErrorKind::Unsupported, Side::Record, "buffers", what).because(source)
    };
    let mut arena = Arena::new(count).map_err(cannot)?;
    arena
        .lend(count)
        .ok_or_else(|| cannot(std::io::ErrorKind::OutOfMemory.into()))
}

/// Returns buffers of noise, as many at least as requests are under way, if there is memory. No two
/// are alike, in any sample of any run: one for all requests would stay in the processor's cache,
/// where those of a copy do not, and who compresses, or keeps equal blocks once, would have little to
/// write.
pub(super) fn buffers(credits: &Credits, depth: usize) -> Arc<[View]> {
    let leases = std::iter::from_fn(|| credits.take()).take(depth.max(VIEWS_MIN));
    let seed = RandomState::new().hash_one(depth);
    let filled = leases.enumerate().map(|(index, mut lease)| {
        noise(seed.wrapping_add(index as u64), lease.as_mut_slice());
        lease.freeze(SLOT_LEN)
    });
    filled.collect()
}

fn sample(
    place: &Place<'_>,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    credits: &Credits,
    bytes: u64,
    ties: &Ties,
) -> Result<Sample, Error> {
    if ties.stopped() {
        return Ok(Sample::default());
    }
    let extent = place.make(bytes)?;
    let views = buffers(credits, at.depth);
    let ties = &ties.writing(bytes);
    let mut cursor = Cursor::new(Arc::from([extent.clone()]), false);
    let load = Load {
        warm: std::time::Duration::ZERO,
        ..manner.load(at, Way::Write(views))
    };
    let sample = loader.sample(&mut cursor, &load, ties).and_then(|it| {
        let seconds = it.seconds + sync(place, &extent, ties)?;
        Ok(Sample { seconds, ..it })
    });
    place.close(bytes, (extent, cursor))?;
    sample
}

/// Makes a scratch file durable; the seconds that took. It may take as long as all that is written at
/// this moment: asking how much of it is left would wait for the drive as well.
///
/// # Errors
/// That of fdatasync(2), classed as the target's; `SourceStalled` when it takes longer than a slow
/// drive would; `Stopped`.
pub(crate) fn sync(place: &Place<'_>, extent: &Extent, ties: &Ties) -> Result<f64, Error> {
    let file = Arc::clone(&extent.file);
    let synced = ask(place.label, ties.sync_limit(), ties, move |_| {
        let begun = Instant::now();
        rustix::fs::fdatasync(&file).map(|()| begun.elapsed().as_secs_f64())
    });
    let synced = synced.map_err(of_target)?;
    synced.map_err(|errno| Error::target_sync(place.label, "sync a scratch file", errno))
}
