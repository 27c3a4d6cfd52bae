//! All sources into the target at once, as a copy would go: with a hash, and without.
//!
//! The figure is what all of them give while all of them run. A source that has filled its share of
//! the room would leave the target to the others, and the rate would be that of fewer and fewer
//! sources, at last of the slowest; in a copy it would have more to give. So each gets a share of
//! the room by its own rate, and the first that ends, ends all of them. What they had read by then
//! is written and counts, over the time until the last of it is durable: what a sync costs, a copy
//! pays, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::alone;
use super::at_once::{Failed, all_of, at_once};
use super::cursor::Cursor;
use super::load::Loader;
use super::machine::Ticks;
use super::report::{Pair, PairRate};
use super::sample::{Load, Sink, Ties, Way};
use super::scratch::{Place, whole_buffers};
use super::settled::settle;
use super::stats::median;
use super::steady::{self, Rated};
use super::subject::Opened;
use super::together::{Bench, leave};
use super::write;
use crate::buffer::SLOT_LEN;
use crate::digest::HashPool;
use crate::error::{Error, ErrorKind, Side};

/// Deepest queue of a source and its writes together: what a lane keeps in flight.
const DEPTH: usize = 16;

/// What one source moved: bytes, and the seconds until they were durable.
type Moved = (u64, f64);

/// Measures the target alone, then all sources that have a rate into it, without those that failed
/// before. Sources that fail are named in `pair`, once, and the others are copied without them. What
/// was found before an error or a stop is in `pair`.
///
/// # Errors
/// Of the first read, write or sync that failed, with the sources that could not be read.
pub(crate) fn measure(
    bench: &Bench<'_>,
    subjects: &mut [Opened],
    without: &[String],
    place: &Place<'_>,
    bytes: u64,
    pair: &mut Pair,
    tell: &dyn Fn(&str),
) -> Result<(), Failed> {
    tell("writing to the target");
    if let Some(credits) = bench.credits.first() {
        let (manner, ties) = (bench.manner, bench.ties);
        let at = write::At {
            place,
            credits,
            chosen: bench.chosen,
        };
        pair.write = write::measure(&at, manner, bytes, ties, &mut pair.write_sweep)?;
        let short = manner.short_of_memory(&write::DEPTHS, credits.total(), pair.write.as_ref());
        pair.warnings
            .extend(short.map(|it| format!("writing: {it}")));
    }
    let mut sources: Vec<Source<'_>> = subjects
        .iter_mut()
        .enumerate()
        .filter(|(_, opened)| opened.report.read.is_some())
        .filter(|(_, opened)| !without.contains(&opened.report.name))
        .map(|(index, opened)| Source { index, opened })
        .collect();
    pair.subjects = names(&sources);
    tell("all sources into the target, hashed");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = HashPool::new(cpus).map_err(|source| {
        let what = "start hash workers";
        Error::new(ErrorKind::Unsupported, Side::Record, "threads", what).because(source)
    })?;
    let pool = Arc::new(pool);
    let hashed = rate(bench, &mut sources, place, bytes, Some(&pool));
    pair.hashed = match hashed {
        Err(failed) if !failed.subjects.is_empty() && !bench.ties.stopped() => {
            leave(sources.iter_mut().map(|it| &mut *it.opened), &failed);
            sources.retain(|source| !failed.subjects.contains(&source.opened.report.name));
            failed.note(&mut pair.error, &mut pair.error_subjects);
            pair.subjects = names(&sources);
            rate(bench, &mut sources, place, bytes, Some(&pool))?
        }
        hashed => hashed?,
    };
    tell("all sources into the target, without a hash");
    pair.unhashed = rate(bench, &mut sources, place, bytes, None)?;
    Ok(())
}

/// A source that takes part.
struct Source<'s> {
    /// Its place among the subjects.
    index: usize,
    opened: &'s mut Opened,
}

fn names(sources: &[Source<'_>]) -> Vec<String> {
    let names = sources.iter().map(|source| &source.opened.report.name);
    names.cloned().collect()
}

fn rate(
    bench: &Bench<'_>,
    sources: &mut [Source<'_>],
    place: &Place<'_>,
    bytes: u64,
    pool: Option<&Arc<HashPool>>,
) -> Result<Option<PairRate>, Failed> {
    let of = |source: &Source<'_>| {
        source
            .opened
            .report
            .read
            .as_ref()
            .map_or(0.0, |read| read.rate)
    };
    let shares = shares(bytes, &sources.iter().map(of).collect::<Vec<_>>());
    let mut one = || {
        if sources.is_empty() {
            return Ok(None);
        }
        let before = Ticks::now();
        let moved = moment(bench, sources, place, &shares, pool)?;
        let busy = Ticks::now().busy_since(before);
        let rate = rate_of(&moved);
        Ok(Some(Reached { rate, busy }))
    };
    let window = bench.manner.repetitions;
    let reached = steady::take::<_, Failed>(window, bench.ties, &mut one)?;
    Ok(figure(&reached, window))
}

/// What all of them reached at one time.
#[derive(Debug)]
struct Reached {
    rate: Option<f64>,
    busy: f64,
}

impl Rated for Reached {
    fn rate(&self) -> Option<f64> {
        self.rate
    }
}

/// Returns the figure of the last `window` of them, if those are steady.
fn figure(reached: &[Reached], window: usize) -> Option<PairRate> {
    let rated = || reached.iter().filter(|it| it.rate.is_some());
    let rates: Vec<f64> = rated().filter_map(Rated::rate).collect();
    let settled = settle(&rates, window)?;
    let busy: Vec<f64> = rated().skip(settled.cut.len()).map(|it| it.busy).collect();
    Some(PairRate {
        rate: settled.rate,
        rate_min: settled.rate_min,
        rate_max: settled.rate_max,
        samples: settled.samples,
        cut: settled.cut,
        steady: settled.steady,
        busy: median(&busy),
    })
}

/// Divides the room among sources by their rates, in whole buffers, at least one for each: all of
/// them fill theirs at about the same time, as late as the room allows.
fn shares(bytes: u64, rates: &[f64]) -> Vec<u64> {
    let sum: f64 = rates.iter().sum();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of `bytes`, to a buffer"
    )]
    let share = |rate: &f64| whole_buffers((bytes as f64 * rate / sum.max(1.0)) as u64);
    rates.iter().map(share).collect()
}

/// All that was moved in one moment, over the time until the last of it was durable.
fn rate_of(moved: &[Moved]) -> Option<f64> {
    let seconds = moved
        .iter()
        .map(|(_, seconds)| *seconds)
        .fold(0.0, f64::max);
    let bytes: u64 = moved.iter().map(|(bytes, _)| *bytes).sum();
    #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
    let bytes = bytes as f64;
    (seconds > 0.0 && bytes > 0.0).then(|| bytes / seconds)
}

/// One sample of each source at the same time.
fn moment(
    bench: &Bench<'_>,
    sources: &mut [Source<'_>],
    place: &Place<'_>,
    shares: &[u64],
    pool: Option<&Arc<HashPool>>,
) -> Result<Vec<Moved>, Failed> {
    let over = Arc::new(AtomicBool::new(false));
    let ties = writing(bench.ties, shares);
    let mut taking = Vec::new();
    for (source, share) in sources.iter_mut().zip(shares) {
        let into = match place.make(*share) {
            Ok(into) => into,
            Err(error) => {
                let made = taking.into_iter().map(|(_, _, sink)| sink);
                place.close(ties.unsynced, made.collect::<Vec<Sink>>())?;
                return Err(error.into());
            }
        };
        let sink = Sink {
            into,
            over: Arc::clone(&over),
            pool: pool.map(Arc::clone),
        };
        taking.push((source.index, &mut *source.opened, sink));
    }
    let moved = at_once(
        taking,
        |(index, opened, sink)| {
            let credits = bench.credits.get(index);
            let loader = credits.map(|credits| {
                alone::ready(opened)?;
                Loader::new(bench.chosen, credits)
            });
            (opened, sink, loader)
        },
        |(opened, sink, loader)| {
            let name = opened.report.name.clone();
            let (Some(loader), Some(knee)) = (loader, opened.report.knee) else {
                return (name, Ok((0, 0.0)));
            };
            let load = Load {
                // Whatever suits the drive best: a copy reads in blocks that it can hash.
                block: SLOT_LEN,
                depth: DEPTH,
                // Files have no warm-up either.
                warm: Duration::ZERO,
                ..bench.manner.load(knee, Way::Copy(sink.clone()))
            };
            let moved = one(loader, &mut opened.cursor, &load, &ties, &sink, place);
            let closed = place.close(ties.unsynced, (load, sink));
            (name, moved.and_then(|moved| closed.map(|()| moved)))
        },
    )?;
    all_of(moved)
}

/// Returns the ties of a moment: each of its syncs, and each close, waits for what all of them wrote.
fn writing(ties: &Ties, shares: &[u64]) -> Ties {
    ties.writing(shares.iter().sum())
}

/// Copies one source into its sink, and tells the others when that is over.
fn one(
    loader: Result<Loader, Error>,
    cursor: &mut Cursor,
    load: &Load,
    ties: &Ties,
    sink: &Sink,
    place: &Place<'_>,
) -> Result<Moved, Error> {
    let sample = loader.and_then(|mut loader| loader.sample(cursor, load, ties));
    // However it ended: without it, the others are not all.
    sink.over.store(true, Relaxed);
    let sample = sample?;
    let synced = write::sync(place, &sink.into, ties)?;
    Ok((sample.bytes, sample.seconds + synced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cursor::Extent;

    const MIB: u64 = 1 << 20;

    #[test]
    fn room_is_divided_by_rates() {
        let mb = |rates: &[f64]| {
            let bytes = shares(48 * MIB, rates);
            bytes.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>()
        };
        assert_eq!(mb(&[200e6, 200e6]), [24, 24]);
        assert_eq!(mb(&[300e6, 100e6]), [36, 12]);
        assert_eq!(mb(&[1000e6, 1e6]), [47, 1], "no share is empty");
        assert_eq!(mb(&[]), Vec::<u64>::new());
    }

    #[test]
    fn a_target_may_take_as_long_as_for_all_that_is_written_at_once() {
        let ties = Ties {
            stall: Some(Duration::from_secs(30)),
            ..Ties::default()
        };
        let shares = shares(1 << 30, &[150e6; 60]);
        assert_eq!(shares, [17 * MIB; 60]);
        let limit = writing(&ties, &shares).sync_limit();
        assert_eq!(
            limit,
            Some(Duration::from_secs(243)),
            "1,069 MB by 5 a second"
        );
    }

    #[test]
    fn a_rate_is_that_of_all_until_the_last_byte_is_durable() {
        let rate = rate_of(&[(900, 1.5), (100, 2.0), (0, 0.0)]);
        assert!((rate.unwrap() - 500.0).abs() < 1e-9);
        assert_eq!(rate_of(&[(0, 0.0)]), None);
        assert_eq!(rate_of(&[]), None);
    }

    #[test]
    fn what_a_target_takes_before_it_is_steady_is_cut() {
        let reached = |rates: &[f64]| -> Vec<Reached> {
            let one = |rate: &f64| Reached {
                rate: Some(*rate),
                busy: rate / 1000.0,
            };
            rates.iter().map(one).collect()
        };
        let found = figure(&reached(&[900.0, 100.0, 102.0, 98.0]), 3).unwrap();
        assert_eq!((found.cut, found.steady), (vec![900.0], true));
        assert_eq!((found.rate, found.busy), (100.0, 0.1));
        assert_eq!(found.samples, [100.0, 102.0, 98.0]);
        let found = figure(&reached(&[900.0, 100.0, 50.0]), 3).unwrap();
        assert_eq!((found.samples.len(), found.steady), (3, false));
        assert_eq!(figure(&reached(&[100.0, 100.0]), 3), None, "too few");
    }

    /// Copies a source of so many bytes, of which it has `there`, for an hour at most.
    fn copied(share: u64, there: u64, over: &Arc<AtomicBool>) -> Result<Moved, Error> {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let place = Place::open(dir.path(), 16 * MIB, &Ties::default()).unwrap();
        let source = tempfile::tempfile().unwrap();
        source.set_len(there).unwrap();
        let extent = Extent {
            file: Arc::new(source.into()),
            start: 0,
            len: 4 * MIB,
            path: Arc::new("source".into()),
        };
        let mut cursor = Cursor::new(Arc::from([extent]), true);
        let sink = Sink {
            into: place.make(share)?,
            over: Arc::clone(over),
            pool: None,
        };
        let load = Load {
            block: SLOT_LEN,
            depth: 2,
            warm: Duration::ZERO,
            time: Duration::from_secs(3600),
            way: Way::Copy(sink.clone()),
        };
        let credits = crate::buffer::Arena::new(4).unwrap().lend(4).unwrap();
        let loader = Loader::new(crate::io::probe::Chosen::Blocking, &credits);
        one(loader, &mut cursor, &load, &Ties::default(), &sink, &place)
    }

    #[test]
    fn what_is_written_when_a_copy_is_cut_counts() {
        let extent = |there: u64, len: u64| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(there).unwrap();
            Extent {
                file: Arc::new(file.into()),
                start: 0,
                len,
                path: Arc::new("file".into()),
            }
        };
        let into = extent(0, 256 * MIB);
        let load = Load {
            block: SLOT_LEN,
            depth: 3,
            warm: Duration::ZERO,
            // It ends before the sink is full, with reads and writes under way.
            time: Duration::from_millis(20),
            way: Way::Copy(Sink {
                into: into.clone(),
                over: Arc::default(),
                pool: None,
            }),
        };
        let credits = crate::buffer::Arena::new(4).unwrap().lend(4).unwrap();
        let mut loader = Loader::new(crate::io::probe::Chosen::Blocking, &credits).unwrap();
        let mut cursor = Cursor::new(Arc::from([extent(4 * MIB, 4 * MIB)]), true);
        let sample = loader.sample(&mut cursor, &load, &Ties::default()).unwrap();
        let written = rustix::fs::fstat(&into.file).unwrap().st_size;
        assert_eq!(i64::try_from(sample.bytes), Ok(written));
        assert!(sample.seconds > 0.0 && written > 0);
    }

    #[test]
    fn the_first_that_ends_ends_all() {
        let over = Arc::new(AtomicBool::new(false));
        let (bytes, _) = copied(16 * MIB, 4 * MIB, &over).unwrap();
        assert!(bytes > 0 && over.load(Relaxed), "its share is full");
        let (bytes, _) = copied(16 * MIB, 4 * MIB, &over).unwrap();
        assert_eq!(bytes, 0, "nothing counts of what came later");
        let over = Arc::new(AtomicBool::new(false));
        let error = copied(16 * MIB, MIB, &over).unwrap_err();
        assert_eq!(error.side(), Side::Source);
        assert!(over.load(Relaxed), "those that failed are over as well");
    }
}
