//! All sources into the target at once, as a copy would go: with a hash, and without.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::alone;
use super::cursor::Extent;
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::machine::Ticks;
use super::report::{Pair, PairRate};
use super::sample::{Load, Sink, Way};
use super::scratch::{Place, whole_buffers};
use super::stats::{median, range};
use super::subject::Opened;
use super::together::Bench;
use super::write;
use crate::buffer::SLOT_LEN;
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};

/// Deepest queue of a source and its writes together: what a lane keeps in flight.
const DEPTH: usize = 16;

/// Measures the target alone, then all sources that have a rate into it. What was found before an
/// error or a stop is in `pair`.
///
/// # Errors
/// Of the first read, write or sync that failed.
pub(crate) fn measure(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    place: &Place<'_>,
    bytes: u64,
    pair: &mut Pair,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    tell("writing to the target");
    if let Some(credits) = bench.credits.first() {
        let (manner, ties) = (bench.manner, bench.ties);
        pair.write = write::measure(place, credits, bench.chosen, manner, bytes, ties)?;
    }
    tell("all sources into the target, hashed");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = HashPool::new(cpus).map_err(|source| {
        let what = "start hash workers";
        Error::new(ErrorKind::Unsupported, Side::Record, "threads", what).because(source)
    })?;
    pair.hashed = rate(bench, subjects, place, bytes, Some(&Arc::new(pool)))?;
    tell("all sources into the target, without a hash");
    pair.unhashed = rate(bench, subjects, place, bytes, None)?;
    Ok(())
}

fn rate(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    place: &Place<'_>,
    bytes: u64,
    pool: Option<&Arc<HashPool>>,
) -> Result<Option<PairRate>, Error> {
    let taking = subjects.iter().filter(|s| s.report.read.is_some()).count();
    let share = whole_buffers(bytes / taking.max(1) as u64);
    let (mut rates, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..bench.manner.repetitions {
        if taking == 0 || bench.ties.stopped() {
            break;
        }
        let before = Ticks::now();
        let moved = at_once(bench, subjects, place, share, pool)?;
        let load = Ticks::now().busy_since(before);
        if bench.ties.stopped() {
            break;
        }
        // All of it, over the time of the one that took longest: then it was durable.
        let seconds = moved
            .iter()
            .map(|(_, seconds)| *seconds)
            .fold(0.0, f64::max);
        let sum: u64 = moved.iter().map(|(bytes, _)| *bytes).sum();
        if seconds > 0.0 && sum > 0 {
            #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
            rates.push(sum as f64 / seconds);
            busy.push(load);
        }
    }
    if rates.len() < REPETITIONS_MIN {
        return Ok(None);
    }
    let (rate_min, rate_max) = range(&rates);
    Ok(Some(PairRate {
        rate: median(&rates),
        rate_min,
        rate_max,
        samples: rates,
        busy: median(&busy),
    }))
}

/// One sample of each source at the same time: bytes, and seconds until they were durable.
fn at_once(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    place: &Place<'_>,
    share: u64,
    pool: Option<&Arc<HashPool>>,
) -> Result<Vec<(u64, f64)>, Error> {
    let mut taking = Vec::new();
    for (index, opened) in subjects.iter_mut().enumerate() {
        if opened.report.read.is_some() {
            taking.push((index, opened, place.make(share)?));
        }
    }
    let start = Barrier::new(taking.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = taking
            .into_iter()
            .map(|(index, opened, into)| {
                let start = &start;
                scope.spawn(move || one(bench, index, opened, place, into, pool, start))
            })
            .collect();
        let mut moved = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(one) => moved.push(one?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(moved)
    })
}

fn one(
    bench: &Bench<'_>,
    index: usize,
    opened: &mut Opened,
    place: &Place<'_>,
    into: Extent,
    pool: Option<&Arc<HashPool>>,
    start: &Barrier,
) -> Result<(u64, f64), Error> {
    let credits = bench.credits.get(index);
    let loader = credits.map(|credits| Loader::new(bench.chosen, credits));
    opened.drop_cached();
    alone::seek(opened);
    start.wait();
    let (Some(loader), Some(knee)) = (loader, opened.report.knee) else {
        return Ok((0, 0.0));
    };
    let file = Arc::clone(&into.file);
    let sink = Sink {
        into,
        pool: pool.map(Arc::clone),
    };
    let load = Load {
        // Whatever suits the drive best: a copy reads in blocks that it can hash.
        block: SLOT_LEN,
        depth: DEPTH,
        // Files have no warm-up either.
        warm: Duration::ZERO,
        ..bench.manner.load(knee, Way::Copy(sink))
    };
    let sample = loader?.sample(&mut opened.cursor, &load, bench.ties)?;
    let synced = write::sync(place, &file)?;
    Ok((sample.bytes, sample.seconds + synced))
}
