//! One drive by itself: how it wants to be asked, and what it gives then.

use std::ops::Range;
use std::time::Duration;

use super::doubt::ZEROS_TOLD;
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::manner::Manner;
use super::report::{Doubt, Knee, Measure, Point, Zone};
use super::sample::{Sample, Ties, Way};
use super::small;
use super::stats::{is_flat, knee, measure};
use super::steady;
use super::subject::{CACHES_MAX, Opened};
use crate::buffer::SLOT_LEN;
use crate::error::Error;

/// Queue depths that are tried, with requests of the engine's largest size.
const DEPTHS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Sizes of requests that are tried at the depth found. The engine's largest comes from there.
const BLOCKS: [usize; 4] = [64 << 10, 128 << 10, 256 << 10, 512 << 10];

/// Measures reading. What was found before an error or a stop stays in the report.
///
/// # Errors
/// Of the first request that failed.
pub(crate) fn read(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    ties: &Ties,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    tell("looking for its queue depth and request size");
    search(subject, loader, manner, ties)?;
    let Some(at) = subject.report.knee else {
        return Ok(());
    };
    tell(&format!("reading, {} KiB x {}", at.block >> 10, at.depth));
    seek(subject);
    let samples = repeat(subject, loader, manner, at, ties)?;
    subject.report.read = samples.figure(at, manner.repetitions);
    judge(subject, &samples.0);
    let read = subject.report.read.as_ref();
    let short = manner.short_of_memory(&DEPTHS, loader.depth_max(), read);
    subject.report.warnings.extend(short);
    let zoned = zones(subject, loader, manner, at, ties, tell);
    judge_laps(subject);
    zoned?;
    if !subject.small.is_empty() && !ties.stopped() {
        tell("reading small files");
        let small = small::read(subject, loader, manner, ties)?;
        subject.report.small = small;
    }
    Ok(())
}

/// Where sequential reading is measured, alone and beside others: a place that spins gives another
/// rate elsewhere, and figures of two places cannot be held against each other. Within a
/// sixteenth of a drive its rate hardly differs; and it is more than a cache holds, so that samples
/// may begin anew where it ends.
fn stretch(subject: &Opened) -> Range<u64> {
    let span = subject.report.span_bytes;
    let begin = span / 16;
    let len = if subject.has_zones {
        begin
    } else {
        begin.max(CACHES_MAX.min(span / 2))
    };
    begin..begin + len
}

/// Whether places on a drive are told apart: on one that is smaller, each would be in a cache.
fn is_zoned(subject: &Opened) -> bool {
    subject.has_zones && subject.report.span_bytes >= CACHES_MAX
}

/// Makes a drive ready for a sample that is held against the figure of [`read`]: nothing of it is in
/// the page cache, or that is told of, and it is read where it was.
///
/// # Errors
/// As [`Opened::drop_cached`].
pub(crate) fn ready(subject: &mut Opened) -> Result<(), Error> {
    match subject.drop_cached()? {
        Some(Doubt::PageCache) => subject.report.doubt(Doubt::PageCacheBeside),
        Some(doubt) => subject.report.doubt(doubt),
        None => {}
    }
    seek(subject);
    Ok(())
}

fn seek(subject: &mut Opened) {
    let stretch = stretch(subject);
    if is_zoned(subject) {
        subject.cursor.keep_to(&stretch);
    } else {
        subject.cursor.seek_within(&stretch);
    }
    if subject.report.access != "direct" {
        subject.cursor.once();
    }
}

/// The samples of one figure.
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    /// Returns their figure, that of the last `window` of them if those are steady; `None` of too few,
    /// as a stop leaves them: one alone may be chance, and whoever compares it later would not know.
    pub(crate) fn figure(&self, at: Knee, window: usize) -> Option<Measure> {
        let rated = self.0.iter().filter(|sample| sample.rate().is_some());
        let rated: Vec<Sample> = rated.cloned().collect();
        let rates: Vec<f64> = rated.iter().filter_map(Sample::rate).collect();
        let (cut, steady) = steady::cut(&rates, window);
        let (cut, _) = rates.split_at_checked(cut)?;
        let figure = Measure {
            cut: cut.to_vec(),
            steady,
            ..measure(at, rated.get(cut.len()..)?)?
        };
        Some(figure).filter(|figure| figure.samples.len() >= REPETITIONS_MIN)
    }
}

/// Tries deeper queues while they bring more, then smaller requests at the depth found.
fn search(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    ties: &Ties,
) -> Result<(), Error> {
    let one = Manner {
        // A search compares; what it finds is measured afterwards.
        time: manner.time.mul_f64(0.5),
        ..manner.clone()
    };
    let mut deep: Vec<Point> = Vec::new();
    let block = manner.block.unwrap_or(SLOT_LEN);
    for depth in manner.depths(&DEPTHS, loader.depth_max()) {
        let Some(point) = try_out(subject, loader, &one, Knee { block, depth }, ties)? else {
            break;
        };
        deep.push(point);
        let rates: Vec<f64> = deep.iter().map(|point| point.rate).collect();
        if is_flat(&rates) {
            break;
        }
    }
    subject.report.sweep.clone_from(&deep);
    let Some(found) = knee(&deep) else {
        return Ok(());
    };
    if manner.block.is_some() {
        subject.report.knee = Some(found);
        return Ok(());
    }
    let at_depth = |point: &&Point| point.depth == found.depth;
    let largest = deep.iter().find(at_depth).copied();
    let mut sizes = Vec::new();
    for block in BLOCKS {
        let depth = found.depth;
        if let Some(point) = try_out(subject, loader, &one, Knee { block, depth }, ties)? {
            sizes.push(point);
        }
    }
    subject.report.sweep.extend(sizes.iter().copied());
    sizes.extend(largest);
    subject.report.knee = knee(&sizes).or(Some(found));
    Ok(())
}

fn try_out(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    ties: &Ties,
) -> Result<Option<Point>, Error> {
    if ties.stopped() {
        return Ok(None);
    }
    let sample = sample(subject, loader, manner, at, ties)?;
    Ok(sample.rate().map(|rate| Point {
        block: at.block,
        depth: at.depth,
        rate,
    }))
}

fn sample(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    ties: &Ties,
) -> Result<Sample, Error> {
    if let Some(doubt) = subject.drop_cached()? {
        "unproved".clone_into(&mut subject.report.access);
        subject.report.doubt(doubt);
    }
    let mut load = manner.load(at, Way::Read);
    if subject.report.access != "direct" {
        // What was dropped is read once, and not a second time. There may be too little of it for a
        // warm-up.
        subject.cursor.once();
        load.warm = Duration::ZERO;
    }
    loader.sample(&mut subject.cursor, &load, ties)
}

fn repeat(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    ties: &Ties,
) -> Result<Samples, Error> {
    let mut one = || sample(subject, loader, manner, at, ties).map(Some);
    steady::take(manner.repetitions, ties, &mut one).map(Samples)
}

/// Says what a reader must know of the figures.
fn judge(subject: &mut Opened, samples: &[Sample]) {
    let report = &mut subject.report;
    let count: u64 = samples.iter().map(|sample| sample.latency.count()).sum();
    let zeros: u64 = samples.iter().map(|sample| sample.zeros).sum();
    if zeros * 100 > count * ZEROS_TOLD {
        let percent = zeros * 100 / count.max(1);
        let doubt = Doubt::Zeros { percent };
        if subject.reads_zeros {
            // Said, for a disk may be new; its rate is that of all it reads.
            report.warnings.push(doubt.text());
        } else {
            report.doubt(doubt);
        }
    }
    if report.read.is_none() {
        let warning = "it has no figure: it was stopped, or too little came, before there were three \
                       samples";
        report.warnings.push(warning.to_owned());
    }
}

/// Says that the same bytes were read again. Of what is smaller than caches that is clear.
fn judge_laps(subject: &mut Opened) {
    let report = &mut subject.report;
    if subject.cursor.laps > 0 && report.span_bytes >= CACHES_MAX {
        report.doubt(Doubt::ReadAgain);
    }
}

/// A spinning drive gives most at its outer edge, where addresses begin, and about half at the
/// inner one.
fn zones(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    at: Knee,
    ties: &Ties,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    let span = subject.report.span_bytes;
    if !is_zoned(subject) {
        return Ok(());
    }
    let margin = span / 16;
    let places = [
        ("outer", margin),
        ("middle", span / 2),
        ("inner", span - margin),
    ];
    for (name, begin) in places {
        if ties.stopped() {
            break;
        }
        tell(&format!("reading its {name} zone"));
        subject.cursor.keep_to(&(begin..begin + margin));
        let samples = repeat(subject, loader, manner, at, ties)?;
        if let Some(read) = samples.figure(at, manner.repetitions) {
            subject.report.zones.push(Zone {
                name: name.to_owned(),
                at: begin,
                read,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cursor::{Cursor, Extent};
    use crate::bench::report::Subject;
    use crate::buffer::Arena;
    use crate::io::probe::Chosen;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    const MIB: u64 = 1 << 20;
    const PART: u64 = 64 * MIB;

    /// A drive of some parts, of which the others cannot be read.
    fn drive(parts: usize, readable: &[usize]) -> Opened {
        let extent = |number: usize| {
            let file = tempfile::tempfile().unwrap();
            let is_there = readable.contains(&number);
            file.set_len(if is_there { PART } else { 0 }).unwrap();
            Extent {
                file: Arc::new(file.into()),
                start: 0,
                len: PART,
                path: Arc::new(PathBuf::from(number.to_string())),
            }
        };
        let extents: Vec<Extent> = (0..parts).map(extent).collect();
        let mut subject = Opened::of(Subject {
            span_bytes: parts as u64 * PART,
            access: "direct".to_owned(),
            ..Subject::default()
        });
        subject.cursor = Cursor::new(Arc::from(extents), true);
        subject
    }

    fn manner() -> Manner {
        Manner {
            warm: Duration::ZERO,
            time: Duration::from_millis(20),
            repetitions: 3,
            block: None,
            depth: None,
            sharers: 60,
        }
    }

    fn loader() -> Loader {
        let credits = Arena::new(4).unwrap().lend(4).unwrap();
        Loader::new(Chosen::Blocking, &credits).unwrap()
    }

    const AT: Knee = Knee {
        block: SLOT_LEN,
        depth: 2,
    };

    #[test]
    fn a_sample_of_what_was_dropped_goes_on_where_the_one_before_ended() {
        let mut subject = drive(1, &[0]);
        "dropped".clone_into(&mut subject.report.access);
        let (mut loader, ties) = (loader(), Ties::default());
        for _ in 0..5 {
            sample(&mut subject, &mut loader, &manner(), AT, &ties).unwrap();
            let passed = ties.bytes.load(Relaxed);
            let mut cursor = subject.cursor.clone();
            cursor.once();
            let next = cursor.next(SLOT_LEN).unwrap().1;
            assert_eq!((cursor.laps, next), (passed / PART, passed % PART));
        }
        // Beside others as well, within its stretch.
        subject.cursor.seek_within(&(7 * MIB..8 * MIB));
        for _ in 0..2 {
            ready(&mut subject).unwrap();
            subject.cursor.next(SLOT_LEN).unwrap();
        }
        assert_eq!(subject.cursor.next(SLOT_LEN).unwrap().1, 9 * MIB);
        // It ends near its end, and the sample does not.
        subject.cursor.seek_within(&(PART - MIB..PART));
        let sample = sample(&mut subject, &mut loader, &manner(), AT, &ties).unwrap();
        assert!(sample.latency.count() >= 8, "{sample:?}");
        assert!(subject.cursor.laps > 0);
    }

    fn zones_of(readable: &[usize]) -> (Opened, Result<(), Error>) {
        let mut subject = drive(16, readable);
        subject.has_zones = true;
        // The end of the outer one comes at once.
        let end = 2 * PART;
        subject.cursor.seek_within(&(end - MIB..end));
        let ties = Ties::default();
        let read = zones(&mut subject, &mut loader(), &manner(), AT, &ties, &|_| ());
        (subject, read)
    }

    #[test]
    fn each_zone_is_read_where_it_is_and_nothing_beside_it() {
        let (subject, read) = zones_of(&[1, 8, 15]);
        read.unwrap();
        let zones = subject.report.zones.iter();
        let zones: Vec<(&str, u64)> = zones.map(|it| (&*it.name, it.at / PART)).collect();
        assert_eq!(zones, [("outer", 1), ("middle", 8), ("inner", 15)]);
        assert!(
            subject.cursor.laps > 0,
            "it began anew within the outer one"
        );
        for (readable, failed, found) in [([8, 15], "1", 0), ([1, 15], "8", 1), ([1, 8], "15", 2)] {
            let (subject, read) = zones_of(&readable);
            assert_eq!(read.unwrap_err().path(), Path::new(failed));
            assert_eq!(subject.report.zones.len(), found);
        }
    }

    #[test]
    fn zeros_are_no_doubt_of_a_drive_that_reads_them_all_the_same() {
        let judged = |reads_zeros: bool| {
            let mut subject = drive(1, &[]);
            subject.reads_zeros = reads_zeros;
            let mut sample = Sample {
                zeros: 1,
                ..Sample::default()
            };
            sample.latency.record(1000);
            judge(&mut subject, &[sample]);
            let warning = &subject.report.warnings[0];
            assert!(
                warning.starts_with("100% of what was read is zeros: "),
                "{warning}"
            );
            subject.report.doubts
        };
        assert_eq!(judged(false), [Doubt::Zeros { percent: 100 }]);
        assert_eq!(judged(true), []);
    }

    #[test]
    fn bytes_that_were_read_again_are_told_of() {
        let told = |laps: u64, parts: usize| {
            let mut subject = drive(parts, &[]);
            subject.cursor.laps = laps;
            judge_laps(&mut subject);
            subject.report.warnings
        };
        let again = told(1, 16);
        assert!(again[0].starts_with("the same bytes were read more than once"));
        assert_eq!(told(0, 16), [""; 0]);
        assert_eq!(told(1, 15), [""; 0], "told already: it is small");
    }
}
