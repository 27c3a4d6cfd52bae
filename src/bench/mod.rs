//! What drives give, measured by the machinery that copies: the same backends, the same buffers.
//!
//! 1. `subject` opens each PATH: a block device for reading only, or files of a directory
//!    (`files`). What would give a figure of memory instead of a drive is refused or warned of; what
//!    may be in the page cache is dropped from it and looked for there (`cached`).
//! 2. `alone` measures one after the other: the knee, then repeated samples (`load`), zones, small
//!    files (`small`).
//! 3. `together` measures 1, 2, 4 ... all of them at once (`at_once`); `bend` finds what bends the
//!    curve.
//! 4. `write` writes to scratch files without a name (`scratch`), and `pair` copies from all of them
//!    into such files on the target.
//! 5. `verdict` (`beside`, `ingest`), `estimate` (`holds`, `takes`, `falling`) and `relief` say what
//!    it means.
//!
//! A drive that does not answer is left (`silence`): its figures are missing, and those of no other.
//!
//! **Boundary.** Never writes to a block device; prints nothing, tells a [`Watcher`]. **Invariant:**
//! each figure has at least three samples behind it, none of them cut short, and how it is known
//! that a drive answered stands beside it.

mod alone;
mod at_once;
mod bend;
mod beside;
mod cached;
pub mod compare;
mod cursor;
mod doubt;
mod estimate;
mod falling;
mod files;
mod generate;
mod histogram;
mod holds;
mod ingest;
pub mod job;
mod load;
mod machine;
mod manner;
mod pair;
mod relief;
pub mod report;
mod sample;
mod scratch;
mod settled;
mod silence;
mod small;
mod stats;
mod steady;
mod subject;
mod surroundings;
mod takes;
mod together;
mod under_way;
mod verdict;
mod within;
pub(crate) mod words;
mod write;
#[cfg(test)]
mod written_tests;

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use self::at_once::at_once;
use self::job::DEPTH_MAX;
pub use self::job::{BenchJob, BenchSession, Watcher};
use self::load::Loader;
use self::machine::MemoryRoom;
use self::manner::Manner;
pub use self::report::Report;
use self::report::{Pair, SCHEMA, Subject};
use self::sample::Ties;
use self::scratch::{Place, Places};
use self::silence::ask;
use self::subject::Opened;
use self::surroundings::Surroundings;
use self::together::Bench;
use crate::buffer::{Arena, Credits, SLOT_LEN};
use crate::error::{Error, ErrorKind, Reach, Side, is_bad_medium};
use crate::io::probe;
use crate::topology::{Shelf, Topology};

/// Fewest buffers a drive is measured with: with fewer, no queue is deep.
const SLOTS_MIN: usize = 4;
/// Most files of one directory, and over all of them: each takes a descriptor or two.
const FILES_MAX: usize = 64;
const FILES_ALL: usize = 320;

/// Measures.
///
/// # Errors
/// What keeps all of it from starting. One subject's failure is in its part of the report.
pub fn bench(job: &BenchJob, session: &BenchSession) -> Result<Report, Error> {
    raise_descriptor_limit();
    let ties = Ties {
        stop: Arc::clone(&session.stop),
        stall: job.stall,
        ..Ties::default()
    };
    let surroundings = Surroundings::look();
    let topology = Arc::new(Topology::live()?);
    let shelf = Arc::new(topology.shelf());
    let (chosen, line) = probe::choose(job.io)?;
    if let Some(line) = line {
        session.watcher.note(&line);
    }
    let manner = Manner::of(job);
    let places = Places::open(job, &ties)?;
    let credits = lend(job)?;
    session.watcher.begun(&ties.bytes);
    let mut run = Run {
        job,
        session,
        report: heading(&manner),
        surroundings: &surroundings,
        opened: Vec::new(),
        bench: Bench {
            credits: &credits,
            chosen,
            manner: &manner,
            ties: &ties,
        },
    };
    let ran = run.all(&topology, &shelf, &places);
    session.watcher.ended();
    ran?;
    within::settle_measured(&mut run.opened, &topology);
    let Run {
        mut report,
        mut opened,
        ..
    } = run;
    if ties.silent.load(Relaxed) {
        // Closing a file waits for its drive as well, and it is not known which of them answers.
        opened.iter_mut().for_each(Opened::leave);
        let _kept = ManuallyDrop::new(places);
    }
    report.subjects = opened.into_iter().map(Opened::into_report).collect();
    steady::tell(&mut report);
    report.doubt(surroundings.doubts());
    report.complete = !ties.stopped();
    report.estimate = estimate::estimate(&report);
    report.verdicts = verdict::verdicts(&report);
    Ok(report)
}

/// One bench while it runs.
struct Run<'r> {
    job: &'r BenchJob,
    session: &'r BenchSession,
    report: Report,
    surroundings: &'r Surroundings,
    opened: Vec<Opened>,
    bench: Bench<'r>,
}

impl Run<'_> {
    fn all(
        &mut self,
        topology: &Arc<Topology>,
        shelf: &Arc<Shelf>,
        places: &Places<'_>,
    ) -> Result<(), Error> {
        self.open(topology, shelf)?;
        for index in 0..self.opened.len() {
            if self.bench.ties.stopped() {
                return Ok(());
            }
            let named = self.opened.get(index).map(|subject| subject.named);
            let place = named.and_then(|at| places.own.get(at)?.as_ref());
            self.alone(index, place)?;
        }
        self.report.doubts_alone = Some(self.surroundings.doubts());
        let watcher = Arc::clone(&self.session.watcher);
        let tell = |what: &str| watcher.part(what);
        if self.job.together && !self.bench.ties.stopped() {
            let links = &shelf.links;
            let room = MemoryRoom::of(self.report.cpus, self.job.memory);
            self.report.together =
                together::measure(&self.bench, &mut self.opened, links, &room, &tell);
        }
        if let Some(place) = &places.target
            && !self.bench.ties.stopped()
        {
            let mut pair = pair_of(place, topology);
            let failed = self.report.together.as_ref();
            let failed = failed.map_or(&[][..], |together| &together.error_subjects);
            if !failed.is_empty() {
                let names = words::list(failed);
                let warning = format!("without {names}, which failed before");
                pair.warnings.push(warning);
            }
            let bytes = self.job.scratch_bytes;
            let (bench, opened) = (&self.bench, &mut self.opened);
            let measured = pair::measure(bench, opened, failed, place, bytes, &mut pair, &tell);
            if let Err(failed) = measured
                && !failed.stopped
            {
                failed.note(&mut pair.error, &mut pair.error_subjects);
            }
            self.report.pair = Some(pair);
        }
        Ok(())
    }

    /// Opens what is to be measured, all at once: each waits for its own drive alone.
    ///
    /// # Errors
    /// What is wrong with a PATH by itself; what is wrong with all of their drives.
    fn open(&mut self, topology: &Arc<Topology>, shelf: &Arc<Shelf>) -> Result<(), Error> {
        let mut failures = Vec::new();
        let (ties, paths) = (self.bench.ties, &self.job.paths);
        let files_max = (FILES_ALL / paths.len().max(1)).clamp(2, FILES_MAX);
        let must_read = !self.job.write;
        self.session.watcher.part(&looking(paths));
        let look = |path: &PathBuf| {
            let (asked, topology, shelf) = (path.clone(), topology.clone(), shelf.clone());
            let call = move |ties: &Ties| {
                subject::open(&asked, &topology, &shelf, files_max, must_read, ties)
            };
            ask(path, ties.stall, ties, call).and_then(|opened| opened)
        };
        let looked = at_once(paths.iter().collect(), |path| path, look)?;
        for (named, (path, opened)) in paths.iter().zip(looked).enumerate() {
            let opened = match opened {
                // What a stop leaves of a look is too little for many reasons, none of them true.
                Err(_) if ties.stopped() => break,
                Err(error) if is_of_drive(&error) => {
                    let failed = Opened::failed(path, &error);
                    failures.push(error);
                    failed
                }
                opened => opened?,
            };
            let opened = opened.named(named);
            let is_read = ["device", "file"].contains(&&*opened.report.kind);
            if self.job.write && is_read {
                let name = &opened.report.path;
                let warning = format!("{name} is only read: --write is for directories");
                self.report.warnings.push(warning);
            }
            self.opened.push(opened);
        }
        if failures.len() == self.job.paths.len() && !failures.is_empty() {
            return Err(failures.remove(0));
        }
        let twice = within::drop_twice(&mut self.opened);
        self.report.warnings.extend(twice);
        tell_apart(&mut self.opened);
        within::settle(&mut self.opened, topology);
        holds::settle(&mut self.opened);
        let shared = shared_drives(&self.opened);
        self.report.warnings.extend(shared);
        Ok(())
    }

    /// Measures one subject; its failure is its own.
    fn alone(&mut self, index: usize, place: Option<&Place<'_>>) -> Result<(), Error> {
        let count = self.opened.len();
        let (Some(subject), Some(credits)) =
            (self.opened.get_mut(index), self.bench.credits.get(index))
        else {
            return Ok(());
        };
        if subject.report.error.is_some() {
            return Ok(());
        }
        let name = subject.report.name.clone();
        let watcher = &self.session.watcher;
        let tell = |what: &str| watcher.part(&format!("{name} ({} of {count}): {what}", index + 1));
        let Bench {
            chosen,
            manner,
            ties,
            ..
        } = self.bench;
        let backend = &mut self.report.backend;
        let writes = self.job.write && subject.report.kind == "directory";
        let mut measured = Loader::new(chosen, credits).and_then(|mut loader| {
            loader.backend().clone_into(backend);
            alone::read(subject, &mut loader, manner, ties, &tell)
        });
        if let (Ok(()), Some(place)) = (&measured, place) {
            tell("writing to a scratch file");
            let bytes = self.job.scratch_bytes;
            let at = write::At {
                place,
                credits,
                chosen,
            };
            let report = &mut subject.report;
            let written = write::measure(&at, manner, bytes, ties, &mut report.write_sweep);
            measured = written.map(|write| {
                let short = manner.short_of_memory(&write::DEPTHS, credits.total(), write.as_ref());
                let short = short.map(|it| format!("writing: {it}"));
                report.warnings.extend(short);
                report.write = write;
            });
        }
        if measured.is_ok() && writes && place.is_none() {
            let what = "it did not answer when it was to be written to";
            let path = subject.path();
            measured = Err(Error::new(
                ErrorKind::SourceStalled,
                Side::Target,
                path,
                what,
            ));
        }
        let any = self.opened.iter().any(|opened| has_figure(opened.found()));
        match (measured, self.opened.get_mut(index)) {
            (Err(error), Some(subject)) => note(error, subject, any),
            _ => Ok(()),
        }
    }
}

fn has_figure(subject: &Subject) -> bool {
    subject.read.is_some() || subject.small.is_some() || subject.write.is_some()
}

/// Takes a failure to measure a subject into its report.
///
/// # Errors
/// What is nobody's drive, like a broken backend, when there is not `any` figure yet. When there is,
/// it must not be lost: what is short may be there again for the next.
fn note(error: Error, subject: &mut Opened, any: bool) -> Result<(), Error> {
    match error.kind() {
        ErrorKind::Stopped => subject.report.warnings.push(error.reason()),
        kind if kind.reach() == Reach::Run && !any => return Err(error),
        kind => {
            subject.report.error = Some(error.to_string());
            if kind == ErrorKind::SourceStalled {
                subject.leave();
            }
        }
    }
    Ok(())
}

fn looking(paths: &[PathBuf]) -> String {
    match paths {
        [] => String::new(),
        [path] => format!("looking at {}", path.display()),
        [path, more @ ..] => format!("looking at {} and {} more", path.display(), more.len()),
    }
}

/// Returns whether a failure to open a PATH is about its drive, which is nothing against the others.
fn is_of_drive(error: &Error) -> bool {
    let errno = error.errno();
    matches!(
        error.kind(),
        ErrorKind::SourceStalled | ErrorKind::SourceLost | ErrorKind::Panic
    ) || errno.is_some_and(is_bad_medium)
}

/// Returns what is known of a pair before it is measured; less of a target that does not answer.
fn pair_of(place: &Place<'_>, topology: &Arc<Topology>) -> Pair {
    use std::os::unix::ffi::OsStrExt;
    let (target, target_hex) = crate::engine::shown(place.label.as_os_str().as_bytes());
    let (asked, path) = (Arc::clone(topology), place.label.to_owned());
    let call = move |_: &Ties| asked.locate(&path).ok();
    let location = ask(place.label, place.ties.stall, &place.ties, call);
    let location = location.ok().flatten();
    let drives = location.iter().flat_map(|location| &location.drives);
    let (direct, why) = place.fs.direct_write();
    let mut warnings = Vec::new();
    if !direct {
        warnings.push(format!("written through the page cache, and synced: {why}"));
    }
    Pair {
        target,
        target_hex,
        fs: location
            .as_ref()
            .map_or_else(String::new, |l| l.mount.fs.clone()),
        drives: drives.map(subject::facts).collect(),
        warnings,
        ..Pair::default()
    }
}

/// Lends each subject its buffers, within the memory allowed.
fn lend(job: &BenchJob) -> Result<Vec<Credits>, Error> {
    let count = job.paths.len();
    let slots = usize::try_from(job.memory).unwrap_or(usize::MAX) / SLOT_LEN;
    let each = (slots / count.max(1)).min(DEPTH_MAX);
    let least = job.depth.unwrap_or(1).max(SLOTS_MIN);
    if each < least {
        let least = count * least;
        let what = format!("too little for {count} drives; it takes at least {least} MiB");
        return Err(Error::new(
            ErrorKind::Usage,
            Side::Record,
            "--memory",
            &what,
        ));
    }
    let cannot = |source: std::io::Error| {
        let what = "get memory for buffers";
        Error::new(ErrorKind::Unsupported, Side::Record, "buffers", what).because(source)
    };
    let mut arena = Arena::new(each * count).map_err(cannot)?;
    let lent: Vec<Credits> = (0..count).filter_map(|_| arena.lend(each)).collect();
    if lent.len() < count {
        return Err(cannot(std::io::ErrorKind::OutOfMemory.into()));
    }
    Ok(lent)
}

fn heading(manner: &Manner) -> Report {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    Report {
        schema: SCHEMA,
        kind: "bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: release,
        cpus,
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        sample_seconds: manner.time.as_secs_f64(),
        warm_up_seconds: manner.warm.as_secs_f64(),
        repetitions: manner.repetitions,
        block_asked: manner.block,
        depth_asked: manner.depth,
        ..Report::default()
    }
}

/// Two subjects on one drive go by their paths as well.
fn tell_apart(opened: &mut [Opened]) {
    let names: Vec<String> = opened.iter().map(|s| s.report.name.clone()).collect();
    for subject in opened {
        let report: &mut Subject = &mut subject.report;
        if names.iter().filter(|name| **name == report.name).count() > 1 {
            report.name = format!("{} ({})", report.name, report.path);
        }
    }
}

fn shared_drives(opened: &[Opened]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, one) in opened.iter().enumerate() {
        for other in opened.iter().skip(index + 1) {
            if one.keys.iter().any(|key| other.keys.contains(key)) {
                warnings.push(format!(
                    "{} and {} are on one drive: measured together, they get in each other's way",
                    one.path().display(),
                    other.path().display()
                ));
            }
        }
    }
    warnings
}

/// Takes all the descriptors we may have: files stay open while they are measured.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where a sandbox forbids it; then the limit stays what it was.
    let _unchanged = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_before_the_first_figure_ends_a_bench_and_later_costs_one_drive() {
        let short = || silence::no_thread(&std::io::ErrorKind::WouldBlock.into());
        let mut subject = Opened::of(Subject::default());
        let error = note(short(), &mut subject, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(subject.report.error, None);
        note(short(), &mut subject, true).unwrap();
        let told = subject.report.error.unwrap();
        assert!(told.contains("start a thread"), "{told}");
    }
}
