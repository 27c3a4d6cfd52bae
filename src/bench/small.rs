//! Small files, each opened, read whole and closed: what counts is how many a second.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cached::{self, Probe};
use super::cursor::Extent;
use super::files::{Small, bypasses_cache};
use super::generate::Generator;
use super::job::REPETITIONS_MIN;
use super::load::Loader;
use super::manner::Manner;
use super::report::SmallFiles;
use super::sample::Ties;
use super::stats::{median, range};
use super::steady::{self, Rated};
use super::subject::Opened;
use crate::beneath::open_source;
use crate::error::Error;

/// Fewest files of a sample: with fewer, a rate is chance.
const SAMPLE_FILES: usize = 32;
/// Files opened before the first of them is read: the engine keeps as many under way.
const AT_ONCE: usize = 16;
/// Files that are dropped from the page cache at once: each takes a descriptor meanwhile.
const DROPPED_AT_ONCE: usize = 256;

/// Reads the small files of a subject, no file twice, as many samples as there are files for. `None`
/// when there are too few, and when most of them stay in the page cache, which is told of.
///
/// # Errors
/// Of the first read that failed.
pub(super) fn read(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    ties: &Ties,
) -> Result<Option<SmallFiles>, Error> {
    let window = manner.repetitions.max(1);
    if subject.small.len() / window < SAMPLE_FILES {
        return Ok(None);
    }
    let path = subject.path();
    let (all, is_settled) = (subject.small.clone(), subject.report.access == "direct");
    let (files, stayed) =
        loader.run(&path, ties, move |_, ties| uncached(&all, is_settled, ties))?;
    let share = files.len() / window;
    let found = if share < SAMPLE_FILES || stayed > files.len() {
        None
    } else {
        let (mut at, time) = (0, manner.time * 4);
        let mut one = || {
            let left = files.iter().skip(at).take(share);
            let files: Vec<Small> = left.cloned().collect();
            if files.len() < SAMPLE_FILES {
                return Ok(None);
            }
            let sample = loader.run(&path, ties, move |generator, ties| {
                sample(&files, time, generator, ties)
            })??;
            at += sample.tried;
            Ok(Some(sample))
        };
        figure(&steady::take::<_, Error>(window, ties, &mut one)?, window)
    };
    if stayed > 0 {
        let all = stayed + files.len();
        let warnings = &mut subject.report.warnings;
        warnings.push(match &found {
            Some(_) => format!(
                "{stayed} of {all} small files are left out: they stayed in the page cache, which \
                 would have answered"
            ),
            None => format!(
                "small files have no figure: {stayed} of {all} stayed in the page cache, and the rate \
                 would be that of memory"
            ),
        });
    }
    Ok(found)
}

/// Returns the files that the page cache will not answer for, and how many others there are: those
/// that are read past it where that is settled, and those that are dropped from it and seen to be
/// gone.
fn uncached(files: &[Small], is_settled: bool, ties: &Ties) -> (Vec<Small>, usize) {
    let mut uncached = Vec::with_capacity(files.len());
    let mut stayed = 0;
    for files in files.chunks(DROPPED_AT_ONCE) {
        if ties.stopped() {
            break;
        }
        let mut probed: Vec<(&Small, Probe)> = Vec::new();
        for small in files {
            ties.beat();
            let open = |direct| open_source(small.dir.as_fd(), &small.name, direct);
            if is_settled && open(true).is_ok_and(|opened| bypasses_cache(&opened)) {
                uncached.push(small.clone());
            } else if let Ok(opened) = open(false) {
                probed.push((small, (opened.file, opened.stat.stx_size)));
            }
        }
        let (smalls, probes): (Vec<&Small>, Vec<Probe>) = probed.into_iter().unzip();
        let staying = cached::staying(&probes, ties);
        cached::forget(&probes, ties);
        stayed += staying.len();
        let gone = smalls.into_iter().enumerate();
        let gone = gone.filter(|(number, _)| !staying.contains(number));
        uncached.extend(gone.map(|(_, small)| small.clone()));
    }
    (uncached, stayed)
}

#[derive(Debug, Default)]
struct Sample {
    /// Files that it was tried to read, and those that were.
    tried: usize,
    files: u64,
    bytes: u64,
    seconds: f64,
}

impl Rated for Sample {
    fn rate(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "thousands of files")]
        let files = self.files as f64;
        (files > 0.0 && self.seconds > 0.0).then(|| files / self.seconds)
    }
}

/// Returns the figure of the last `window` samples, if those are steady.
fn figure(samples: &[Sample], window: usize) -> Option<SmallFiles> {
    let rates: Vec<f64> = samples.iter().filter_map(Rated::rate).collect();
    let (cut, steady) = steady::cut(&rates, window);
    let (before, rates) = rates.split_at_checked(cut)?;
    if rates.len() < REPETITIONS_MIN {
        return None;
    }
    let (rate_min, rate_max) = range(rates);
    Some(SmallFiles {
        rate: median(rates),
        rate_min,
        rate_max,
        samples: rates.to_vec(),
        cut: before.to_vec(),
        steady,
        files: samples.iter().map(|sample| sample.files).sum(),
        bytes: samples.iter().map(|sample| sample.bytes).sum(),
    })
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
        sample.tried += batch.len();
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
    let size = opened.stat.stx_size;
    if size == 0 {
        return None;
    }
    let file: OwnedFd = opened.file;
    Some(Extent {
        file: Arc::new(file),
        start: 0,
        len: size,
        path: Arc::new(crate::scan::as_path(&small.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Subject;
    use crate::buffer::Arena;
    use crate::io::probe::Chosen;
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;

    fn smalls(dir: &Path, count: usize) -> Vec<Small> {
        let fd = Arc::new(OwnedFd::from(File::open(dir).unwrap()));
        let small = |number: usize| {
            let name = number.to_string();
            let mut file = File::create(dir.join(&name)).unwrap();
            file.write_all(&[7; 3000]).unwrap();
            file.sync_all().unwrap();
            Small {
                dir: Arc::clone(&fd),
                name: name.into_bytes().into(),
                size: 3000,
            }
        };
        (0..count).map(small).collect()
    }

    /// Reads so many files of a drive, and so many that are in memory and cannot leave it.
    fn read_of(on_drive: usize, in_memory: usize) -> (Option<SmallFiles>, Vec<String>) {
        let drive = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut subject = Opened::of(Subject {
            access: "dropped".to_owned(),
            ..Subject::default()
        });
        subject.small = smalls(drive.path(), on_drive);
        subject.small.extend(smalls(memory.path(), in_memory));
        let credits = Arena::new(4).unwrap().lend(4).unwrap();
        let mut loader = Loader::new(Chosen::Blocking, &credits).unwrap();
        let manner = Manner {
            warm: Duration::ZERO,
            time: Duration::from_secs(60),
            repetitions: 3,
            block: None,
            depth: None,
            sharers: 1,
        };
        let found = read(&mut subject, &mut loader, &manner, &Ties::default()).unwrap();
        (found, subject.report.warnings)
    }

    #[test]
    fn what_stays_in_memory_is_not_read_for_the_figure() {
        let (found, warnings) = read_of(99, 0);
        assert_eq!(found.unwrap().files, 99);
        assert_eq!(warnings, Vec::<String>::new());
        let (found, warnings) = read_of(99, 40);
        assert_eq!(found.unwrap().files, 99);
        assert!(warnings[0].starts_with("40 of 139 small files are left out"));
    }

    #[test]
    fn a_figure_of_memory_is_none() {
        let (found, warnings) = read_of(97, 98);
        assert_eq!(found, None);
        assert!(warnings[0].starts_with("small files have no figure: 98 of 195 stayed"));
        assert_eq!(read_of(0, 96).0, None);
    }

    #[test]
    fn samples_go_on_while_there_are_files() {
        let sample = |files: u64| Sample {
            tried: 40,
            files,
            bytes: 0,
            seconds: 0.5,
        };
        let found = figure(&[400, 100, 98, 102].map(sample), 3).unwrap();
        assert_eq!((found.cut, found.rate), (vec![800.0], 200.0));
        assert_eq!((found.files, found.steady), (700, true));
        let found = figure(&[400, 100, 98].map(sample), 3).unwrap();
        assert!(!found.steady && found.cut.is_empty());
        assert!(figure(&[100, 100].map(sample), 3).is_none(), "too few");
    }
}
