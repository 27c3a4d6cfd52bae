//! Small files, each opened, read whole and closed: what counts is how many a second.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cached::{self, Left, Probe};
use super::cursor::Extent;
use super::files::{Small, bypasses_cache};
use super::generate::Generator;
use super::load::Loader;
use super::manner::Manner;
use super::report::SmallFiles;
use super::sample::Ties;
use super::settled::settle;
use super::steady::{self, Rated, TAKEN_MAX};
use super::subject::Opened;
use crate::beneath::{DirCache, OpenedSource, dirs_affordable, open_source};
use crate::error::Error;

/// Fewest files of a sample: with fewer, a rate is chance.
const SAMPLE_FILES: usize = 32;
/// Files opened before the first of them is read: the engine keeps as many under way.
const AT_ONCE: usize = 16;
/// Files that are made ready at once: each takes a descriptor meanwhile.
const READIED_AT_ONCE: usize = 256;

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
    read_by(subject, loader, manner, ties, cached::drop_all)
}

/// Drops files from the page cache.
type Dropping = fn(&[Probe], &Ties) -> Left;

fn read_by(
    subject: &mut Opened,
    loader: &mut Loader,
    manner: &Manner,
    ties: &Ties,
    dropping: Dropping,
) -> Result<Option<SmallFiles>, Error> {
    let window = manner.repetitions.max(1);
    let all = subject.small.len();
    let Some(root) = subject
        .root
        .clone()
        .filter(|_| all / window >= SAMPLE_FILES)
    else {
        return Ok(None);
    };
    // Few folders are open at once, however many there are.
    let folders = || DirCache::new(Arc::clone(&root), dirs_affordable(1));
    let path = subject.path();
    // Some are left for more samples, should the first not be steady.
    let share = (all / (window * TAKEN_MAX)).max(SAMPLE_FILES);
    let mut ready = Ready {
        is_settled: subject.report.access == "direct",
        ..Ready::default()
    };
    let time = manner.time * 4;
    let mut one = || {
        loop {
            let lacks = share.saturating_sub(ready.files.len());
            if lacks == 0 || ready.looked_at == all || ready.stayed * 2 > all || ties.stopped() {
                break;
            }
            let next = subject.small.iter().skip(ready.looked_at);
            let next: Vec<Small> = next
                .take(lacks.clamp(SAMPLE_FILES, READIED_AT_ONCE))
                .cloned()
                .collect();
            let (before, mut dirs) = (std::mem::take(&mut ready), folders());
            ready = loader.run(&path, ties, move |_, ties| {
                before.with(&next, &mut dirs, ties, dropping)
            })?;
        }
        let count = ready.files.len().min(share);
        if count < SAMPLE_FILES || ready.stayed * 2 > all {
            return Ok(None);
        }
        let files: Vec<Small> = ready.files.drain(..count).collect();
        let mut dirs = folders();
        let sampled = loader.run(&path, ties, move |generator, ties| {
            let sample = sample(&files, &mut dirs, time, generator, ties)?;
            Ok::<_, Error>((sample, files))
        })?;
        let (sample, mut files) = sampled?;
        // What there was no time for is read next.
        files.drain(..sample.tried);
        ready.files.splice(0..0, files);
        Ok(Some(sample))
    };
    let samples = steady::take::<_, Error>(window, ties, &mut one)?;
    let is_of_drive = ready.stayed * 2 <= ready.looked_at;
    let found = figure(&samples, window).filter(|_| is_of_drive);
    subject.report.warnings.extend(ready.told(found.is_some()));
    Ok(found)
}

/// Files that are made ready to be read from their medium.
#[derive(Debug, Default)]
struct Ready {
    /// Whether O_DIRECT settles that the medium answers.
    is_settled: bool,
    files: Vec<Small>,
    /// Files that were looked at, those of them that stayed in the page cache and are left out, and
    /// those of which nobody says whether they did.
    looked_at: usize,
    stayed: usize,
    unknown: usize,
}

impl Ready {
    /// Adds those of some files that the page cache will not answer for: those that are read past it
    /// where that is settled, and those that are dropped from it and not seen in it.
    fn with(
        mut self,
        files: &[Small],
        dirs: &mut DirCache,
        ties: &Ties,
        dropping: Dropping,
    ) -> Self {
        let mut probed: Vec<(&Small, Probe)> = Vec::new();
        for small in files {
            ties.beat();
            let mut open = |direct| open(small, dirs, direct);
            let passes = |opened| bypasses_cache(&opened) == Some(true);
            if self.is_settled && open(true).is_some_and(passes) {
                self.files.push(small.clone());
            } else if let Some(opened) = open(false) {
                probed.push((small, (opened.file, opened.stat.stx_size)));
            }
        }
        let (smalls, probes): (Vec<&Small>, Vec<Probe>) = probed.into_iter().unzip();
        let left = dropping(&probes, ties);
        if ties.stopped() {
            // What was not looked at did not stay.
            return self;
        }
        for (number, (small, probe)) in smalls.into_iter().zip(&probes).enumerate() {
            if ties.stopped() {
                break;
            }
            if !left.staying.contains(&number) {
                if !left.unknown.contains(&number) {
                    cached::forget(probe);
                }
                self.files.push(small.clone());
            }
            ties.beat();
        }
        self.looked_at += files.len();
        self.stayed += left.staying.len();
        self.unknown += left.unknown.len();
        self
    }

    /// Returns what is to be known of them.
    fn told(&self, has_figure: bool) -> Vec<String> {
        let (looked_at, mut told) = (self.looked_at, Vec::new());
        if self.stayed > 0 && has_figure {
            told.push(format!(
                "{} of {looked_at} small files are left out: they stayed in the page cache, which would \
                 have answered",
                self.stayed
            ));
        } else if self.stayed > 0 {
            told.push(format!(
                "small files have no figure: {} of {looked_at} stayed in the page cache, and the rate \
                 would be that of memory",
                self.stayed
            ));
        }
        if self.unknown > 0 && has_figure {
            told.push(format!(
                "{} of {looked_at} small files are not known to be out of the page cache, for their file \
                 system does not say: their rate may be that of memory",
                self.unknown
            ));
        }
        told
    }
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
    let settled = settle(&rates, window)?;
    Some(SmallFiles {
        rate: settled.rate,
        rate_min: settled.rate_min,
        rate_max: settled.rate_max,
        samples: settled.samples,
        cut: settled.cut,
        steady: settled.steady,
        files: samples.iter().map(|sample| sample.files).sum(),
        bytes: samples.iter().map(|sample| sample.bytes).sum(),
    })
}

/// Reads files for `time`, on the thread of the generator: opening one may wait for its drive too.
fn sample(
    files: &[Small],
    dirs: &mut DirCache,
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
        let opened: Vec<Extent> = batch
            .iter()
            .filter_map(|small| whole(small, dirs))
            .collect();
        sample.tried += batch.len();
        sample.files += opened.len() as u64;
        sample.bytes += batch.iter().map(|small| small.size).sum::<u64>();
        generator.whole(&opened, ties)?;
    }
    sample.seconds = begun.elapsed().as_secs_f64();
    Ok(sample)
}

fn open(small: &Small, dirs: &mut DirCache, direct: bool) -> Option<OpenedSource> {
    let dir = dirs.get(&small.folder).ok()?;
    open_source(dir.as_fd(), &small.name, direct).ok()
}

/// All of a file, opened as the engine opens it: past the page cache where the file system lets us.
fn whole(small: &Small, dirs: &mut DirCache) -> Option<Extent> {
    let opened = open(small, dirs, true)?;
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
    use crate::bench::report::{Doubt, Subject};
    use crate::buffer::Arena;
    use crate::io::probe::Chosen;
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;

    fn scratch() -> (tempfile::TempDir, Arc<OwnedFd>) {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let root = Arc::new(OwnedFd::from(File::open(dir.path()).unwrap()));
        (dir, root)
    }

    fn smalls(root: &Path, folder: &str, count: usize, size: u64) -> Vec<Small> {
        let dir = root.join(folder);
        std::fs::create_dir(&dir).unwrap();
        let small = |number: usize| {
            let name = number.to_string();
            let mut file = File::create(dir.join(&name)).unwrap();
            file.write_all(&[7; 3000]).unwrap();
            file.set_len(size).unwrap();
            file.sync_all().unwrap();
            Small {
                folder: folder.as_bytes().into(),
                name: name.into_bytes().into(),
                size,
            }
        };
        (0..count).map(small).collect()
    }

    /// As long is a file that somebody has in hand.
    const HELD: u64 = 2999;

    fn dropping(probes: &[Probe], ties: &Ties) -> Left {
        let mut left = cached::drop_all(probes, ties);
        let held = probes
            .iter()
            .enumerate()
            .filter(|(_, (_, len))| *len == HELD);
        left.staying = held.map(|(number, _)| number).collect();
        left
    }

    /// Reads so many files of a drive that leave the page cache, and so many that do not.
    fn read_of(on_drive: usize, in_memory: usize) -> (Option<SmallFiles>, Vec<String>) {
        let (scratch, root) = scratch();
        let mut subject = Opened::of(Subject {
            access: "dropped".to_owned(),
            ..Subject::default()
        });
        subject.root = Some(root);
        subject.small = smalls(scratch.path(), "memory", in_memory, HELD);
        let others = smalls(scratch.path(), "drive", on_drive, 3000);
        subject.small.extend(others);
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
        let found = read_by(
            &mut subject,
            &mut loader,
            &manner,
            &Ties::default(),
            dropping,
        )
        .unwrap();
        (found, subject.report.warnings)
    }

    #[test]
    fn what_stays_in_memory_is_not_read_for_the_figure() {
        // Three samples of 32, and not enough for a fourth.
        let (found, warnings) = read_of(99, 0);
        assert_eq!(found.unwrap().files, 96);
        assert_eq!(warnings, Vec::<String>::new());
        let (found, warnings) = read_of(99, 40);
        assert_eq!(found.unwrap().files, 96);
        assert!(warnings[0].starts_with("40 of 13"), "{warnings:?}");
        assert!(warnings[0].contains(" small files are left out: they stayed"));
    }

    #[test]
    fn a_figure_of_memory_is_none() {
        let (found, warnings) = read_of(96, 98);
        assert_eq!(found, None);
        let told = "small files have no figure: 98 of ";
        assert!(warnings[0].starts_with(told), "{warnings:?}");
        assert_eq!(read_of(0, 96).0, None);
    }

    #[test]
    fn after_a_stop_nothing_is_said_to_have_stayed() {
        let (scratch, root) = scratch();
        let files = smalls(scratch.path(), "drive", 3, 3000);
        let mut dirs = DirCache::new(root, 1);
        let ties = Ties::default();
        ties.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let ready = Ready::default().with(&files, &mut dirs, &ties, cached::drop_all);
        assert!(ready.files.is_empty() && ready.told(false).is_empty());
    }

    #[test]
    fn what_nobody_knows_is_read_and_told_of() {
        let ready = Ready {
            looked_at: 50,
            unknown: 50,
            ..Ready::default()
        };
        let told = ready.told(true);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("50 of 50 small files are not known to be out of the page cache")
        );
        assert!(ready.told(false).is_empty());
        // A file of /proc is none that can be read without waiting.
        let file = File::open("/proc/self/status").unwrap();
        let left = cached::drop_all(&[(file.into(), 100)], &Ties::default());
        assert_eq!(left.doubt(), Some(Doubt::PageCacheUnknown));
        assert_eq!((left.staying, left.unknown), (vec![], vec![0]));
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
