//! The private folder of a target: `.inhaul/`, with the lock, and one folder for each job.
//!
//! ```text
//! TARGET/.inhaul/            0700, ours
//!   lock                     held while a run writes here
//!   latest -> JOB            the newest job that wrote a manifest
//!   current -> JOB           the job that was begun last, until it is finished
//!   JOB/unfinished           there until everything of the job is done
//!   JOB/manifest.b3  manifest.nul  report.json  problems.ndjson
//!   JOB/stage/NAME/NUMBER    files that have no name yet
//! ```

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::jobs::{
    CURRENT, UNFINISHED, all_unfinished, job_named, last_unfinished, linked_job, make_job,
};
use super::lock::{let_go, lock, trust};
use super::record::RecordWriter;
use super::sweep::{clear_stage, each_staged, list, prune_stage, sweep, sweep_reserve};
use crate::beneath;
use crate::error::{Error, ErrorKind, Side};
use crate::seam;

/// Name of the private folder in a target.
pub const HOME: &str = ".inhaul";
pub(super) const STAGE: &str = "stage";
const LATEST: &str = "latest";

/// The private folder, locked, with one job's folder in it.
#[derive(Debug)]
pub struct Home {
    label: PathBuf,
    dir: OwnedFd,
    job: OwnedFd,
    job_name: String,
    goes_on: bool,
    /// What the names of this run's staging folders end with.
    run: String,
    stage: Arc<OwnedFd>,
    /// Held open for its lock; the kernel drops the lock with the process, however it ends.
    lock: OwnedFd,
}

pub(super) fn record_error(path: &Path, what: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::RecordWrite, Side::Record, path, what).because(errno)
}

pub(super) fn open_dir(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// The staging folder of a thread.
#[derive(Debug)]
pub(super) struct StageDir {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: Arc<str>,
    /// The highest number that was given in it.
    pub(super) taken: u64,
}

/// The folder of a job.
#[derive(Debug)]
pub struct JobDir {
    /// Its name in `.inhaul`.
    pub name: String,
    /// The folder, open for reading.
    pub dir: OwnedFd,
}

/// The private folder, locked, with no job open yet.
#[derive(Debug)]
pub struct HomeLock {
    label: PathBuf,
    dir: OwnedFd,
    lock: OwnedFd,
}

impl HomeLock {
    /// Makes the private folder of a target if there is none, and locks it. `label` is the target
    /// as messages name it.
    ///
    /// # Errors
    /// `Locked` when another run holds the target; `Refused` when `.inhaul` is not ours to trust.
    pub fn take(target: BorrowedFd<'_>, label: &Path) -> Result<Self, Error> {
        let label = label.join(HOME);
        match rustix::fs::mkdirat(target, HOME, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::target(&label, "make the private folder", errno)),
        }
        let dir = beneath::read_dir_fd(target, HOME.as_bytes()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                let what = "a symlink, a file or a mount is in the place of the private folder";
                Error::new(ErrorKind::Refused, Side::Record, &label, what).because(errno)
            }
            errno => record_error(&label, "open the private folder", errno),
        })?;
        trust(dir.as_fd(), &label)?;
        let lock = lock(dir.as_fd(), &label)?;
        Ok(Self { label, dir, lock })
    }

    /// Locks the private folder of a target if there is one. Makes nothing.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_existing(target: BorrowedFd<'_>, label: &Path) -> Result<Option<Self>, Error> {
        match rustix::fs::statat(target, HOME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Self::take(target, label).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(record_error(&label.join(HOME), "look for", errno)),
        }
    }

    /// Returns the job `wanted`, or without that the one that was begun last and not finished.
    ///
    /// # Errors
    /// `Missing` when there is no job `wanted`.
    pub fn unfinished(&self, wanted: Option<&str>) -> Result<Option<JobDir>, Error> {
        let found = match wanted {
            Some(name) => Some(job_named(self.dir.as_fd(), name).map_err(|errno| {
                let what = format!("find job {name}");
                Error::new(ErrorKind::Missing, Side::Record, &self.label, &what).because(errno)
            })?),
            None => return Ok(last_unfinished(self.dir.as_fd())),
        };
        Ok(found.map(|(name, dir)| JobDir { name, dir }))
    }

    /// Returns the jobs that were begun and not finished, the one begun last first.
    pub fn all_unfinished(&self) -> Vec<JobDir> {
        all_unfinished(self.dir.as_fd())
    }

    /// Writes a file of a job's folder: whole and durable, or not at all.
    ///
    /// # Durability
    /// Durable under its name when this returns.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn write_record(&self, job: &JobDir, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.label.join(&job.name).join(name);
        let dir = rustix::io::fcntl_dupfd_cloexec(&job.dir, 0)
            .map_err(|errno| record_error(&path, "open the job folder", errno))?;
        let mut record = RecordWriter::create(dir, path, name)?;
        record.write(bytes)?;
        record.publish()
    }

    /// Lets the lock go. Nothing may be read or written there from now on.
    pub fn let_go(&self) {
        let_go(&self.lock);
    }

    /// Returns the private folder as messages name it.
    pub fn label(&self) -> &Path {
        &self.label
    }

    /// Opens a job to go on with, or a new one. What other jobs left staged is swept; for its own
    /// see [`Home::sweep`].
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn open(self, job: Option<JobDir>) -> Result<Home, Error> {
        self.open_named(job, None)
    }

    /// As [`open`](Self::open); a new job is called `name`.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn open_named(self, job: Option<JobDir>, name: Option<&str>) -> Result<Home, Error> {
        let Self { label, dir, lock } = self;
        let fail = |what: &str, errno| record_error(&label, what, errno);
        let goes_on = job.is_some();
        let (job_name, job) = match job {
            Some(job) => (job.name, job.dir),
            None => make_job(dir.as_fd(), name).map_err(|e| fail("make the job folder", e))?,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&job, UNFINISHED, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| fail("mark the job as unfinished", errno))?;
        match rustix::fs::mkdirat(&job, STAGE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail("make the stage", errno)),
        }
        let stage = open_dir(job.as_fd(), STAGE).map_err(|e| fail("open the stage", e))?;
        // First of all, for the room it takes: a run that was killed leaves a full target without any.
        sweep_reserve(stage.as_fd())
            .and_then(|()| sweep(dir.as_fd(), &job_name))
            .map_err(|errno| fail("sweep what an earlier run left", errno))?;
        // The journal knows staged files by folder and number: no later run may use either again.
        let run = if goes_on && !seam::bug("stage-names-come-again") {
            format!(".{:016x}", RandomState::new().build_hasher().finish())
        } else {
            String::new()
        };
        let home = Home {
            goes_on,
            run,
            label,
            dir,
            job,
            job_name,
            stage: Arc::new(stage),
            lock,
        };
        home.point(CURRENT)?;
        Ok(home)
    }
}

impl Home {
    /// Locks a target and opens a job in its private folder: an earlier one if `choose` says so, or
    /// a new one; see [`HomeLock`] for the steps and their errors.
    ///
    /// `choose` is given the name and folder of the job `wanted`, or without that of the job that
    /// was begun last and not finished.
    ///
    /// # Errors
    /// As the steps.
    pub fn open(
        target: BorrowedFd<'_>,
        label: &Path,
        wanted: Option<&str>,
        choose: &mut dyn FnMut(&str, BorrowedFd<'_>) -> bool,
    ) -> Result<Self, Error> {
        let lock = HomeLock::take(target, label)?;
        let begun = lock.unfinished(wanted)?;
        lock.open(begun.filter(|job| choose(&job.name, job.dir.as_fd())))
    }

    /// Notes that the job is finished: no later run goes on with it.
    ///
    /// # Durability
    /// Durable when this returns.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn finish(&self) -> Result<(), Error> {
        let gone = |answer| match answer {
            Err(Errno::NOENT) => Ok(()),
            answer => answer,
        };
        gone(rustix::fs::unlinkat(
            &self.job,
            UNFINISHED,
            AtFlags::empty(),
        ))
        .and_then(|()| rustix::fs::fsync(&self.job))
        .and_then(|()| gone(rustix::fs::unlinkat(&self.dir, CURRENT, AtFlags::empty())))
        .and_then(|()| rustix::fs::fsync(&self.dir))
        .map_err(|errno| record_error(&self.label, "note that the job is finished", errno))
    }

    /// Lets the lock go. Nothing may be written there from now on.
    pub fn let_go(&self) {
        let_go(&self.lock);
    }

    /// Returns the name of this run's job.
    pub fn job_name(&self) -> &str {
        &self.job_name
    }

    /// Returns whether it goes on with an earlier run's job.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Removes what earlier runs of this job left staged, but for what `keep` answers yes to: it is
    /// given the name of a thread's folder and the number of a file in it.
    ///
    /// To be called before anything is staged. Only files two levels down are touched: numbered ones, and
    /// empty ones that names were asked by.
    ///
    /// # Errors
    /// `RecordWrite` when the stage cannot be listed or something cannot be removed.
    pub fn sweep(&self, keep: &mut dyn FnMut(&str, u64) -> bool) -> Result<(), Error> {
        each_staged(self.stage.as_fd(), &mut |thread, dir, name| {
            let number = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok());
            match number {
                Some(number) if keep(thread, number) => Ok(()),
                _ => rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            }
        })
        .map_err(|errno| record_error(&self.label, "sweep what an earlier run left", errno))
    }

    /// Returns the folder that holds the threads' staging folders.
    pub(super) fn stage(&self) -> &Arc<OwnedFd> {
        &self.stage
    }

    /// Returns the job's folder as messages name it.
    pub fn job_label(&self) -> PathBuf {
        self.label.join(&self.job_name)
    }

    /// Returns the job's folder.
    pub fn job(&self) -> BorrowedFd<'_> {
        self.job.as_fd()
    }

    /// Returns the job's folder as a descriptor of its own.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn job_dir(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.job, 0)
            .map_err(|errno| record_error(&self.label, "open the job folder", errno))
    }

    /// Makes a staging folder for one thread, or opens the one that it made before; returns it, its
    /// name, and the highest number taken in it.
    pub(super) fn stage_for(&self, name: &str) -> Result<StageDir, Error> {
        let name = format!("{name}{}", self.run);
        let made = || match rustix::fs::mkdirat(&self.stage, &name, Mode::RWXU) {
            Ok(()) => Ok((open_dir(self.stage.as_fd(), &name)?, 0)),
            Err(Errno::EXIST) => {
                let dir = open_dir(self.stage.as_fd(), &name)?;
                let names = list(dir.as_fd())?.into_iter().map(|(name, _)| name);
                let numbers =
                    names.filter_map(|name| std::str::from_utf8(&name).ok()?.parse().ok());
                let highest = numbers.max().unwrap_or(0);
                Ok((dir, highest))
            }
            Err(errno) => Err(errno),
        };
        match made() {
            Ok((dir, taken)) => Ok(StageDir {
                dir: Arc::new(dir),
                name: name.as_str().into(),
                taken,
            }),
            Err(errno) => {
                let path = self.job_label().join(STAGE).join(&name);
                Err(Error::target(path, "make a staging folder", errno))
            }
        }
    }

    /// Removes the job's staging folders and everything left in them.
    pub(super) fn clear_stage(&self) {
        // What cannot be removed now is swept by the next run; it has no name anybody looks at.
        let _best_effort = clear_stage(self.job.as_fd());
    }

    /// Removes the job's staging folders that nothing is in.
    pub(super) fn prune_stage(&self) {
        // Empty folders are in nobody's way.
        let _best_effort = prune_stage(self.job.as_fd());
    }

    /// Writes a file of the job's folder: whole and durable, or not at all.
    ///
    /// # Durability
    /// Durable under its name when this returns.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn write_record(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut record = self.begin_record(name)?;
        record.write(bytes)?;
        record.publish()
    }

    /// Begins a file of the job's folder that is written bit by bit.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn begin_record(&self, name: &str) -> Result<RecordWriter, Error> {
        RecordWriter::create(self.job_dir()?, self.job_label().join(name), name)
    }

    /// Takes a record of an earlier run of this job away, if there is one.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn remove_record(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.job, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(record_error(
                &self.job_label().join(name),
                "replace what an earlier run wrote",
                errno,
            )),
        }
    }

    /// Opens the folder of the newest job with a manifest, if there is one.
    pub fn newest_job(&self) -> Option<OwnedFd> {
        linked_job(self.dir.as_fd(), LATEST)
            .ok()
            .map(|(_, job)| job)
    }

    /// Points `latest` to this job.
    ///
    /// # Durability
    /// Durable when this returns.
    ///
    /// # Errors
    /// `RecordWrite`.
    pub fn set_latest(&self) -> Result<(), Error> {
        self.point(LATEST)
    }

    fn point(&self, link: &str) -> Result<(), Error> {
        let staged = format!("{link}.new");
        let fail = |errno| record_error(&self.label, &format!("point `{link}` to this job"), errno);
        match rustix::fs::unlinkat(&self.dir, &staged, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        rustix::fs::symlinkat(self.job_name.as_str(), &self.dir, &staged)
            .and_then(|()| rustix::fs::renameat(&self.dir, &staged, &self.dir, link))
            .and_then(|()| rustix::fs::fsync(&self.dir))
            .map_err(fail)
    }

    /// Opens the folder of a job that ran earlier; without a name, of the newest.
    ///
    /// # Errors
    /// `Missing` when there is no such job.
    pub fn find_job(
        target: BorrowedFd<'_>,
        label: &Path,
        name: Option<&str>,
    ) -> Result<(String, OwnedFd), Error> {
        let missing = |what: &str, errno| {
            Error::new(ErrorKind::Missing, Side::Record, label.join(HOME), what).because(errno)
        };
        let dir = open_dir(target, HOME).map_err(|e| missing("find inhaul's records", e))?;
        let found = match name {
            Some(name) => job_named(dir.as_fd(), name),
            None => linked_job(dir.as_fd(), LATEST),
        };
        let what = || {
            name.map_or("find the newest job".to_owned(), |name| {
                format!("find job {name}")
            })
        };
        found.map_err(|errno| missing(&what(), errno))
    }

    /// Returns the jobs that were begun and not finished, the one begun last first; none also when that
    /// cannot be told. Takes no lock: they may be finished meanwhile.
    pub fn find_unfinished(target: BorrowedFd<'_>) -> Vec<JobDir> {
        let dir = open_dir(target, HOME).ok();
        dir.map_or_else(Vec::new, |dir| all_unfinished(dir.as_fd()))
    }

    /// Returns the job that was begun last, if that is not finished; `None` also when that cannot be
    /// told. Takes no lock: it may be finished meanwhile.
    pub fn find_current(target: BorrowedFd<'_>) -> Option<JobDir> {
        let dir = open_dir(target, HOME).ok()?;
        let (name, dir) = linked_job(dir.as_fd(), CURRENT).ok()?;
        Some(JobDir { name, dir })
    }
}
