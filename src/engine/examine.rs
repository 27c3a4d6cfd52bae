//! A closer look at a file that is not as recorded: which of its blocks are wrong, and mending those
//! from a source.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, StatVfsMountFlags};

use super::inspect::{BlockNames, Copy, Expected, Found, blocks_named, open_direct};
use super::outcomes::shown;
use super::proof::one_buffer;
use super::report::Repair;
use super::session::Session;
use crate::beneath;
use crate::buffer::Lease;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Loaded};
use crate::plan::{NamedLink, Recognised, Source, open_sources, recognise, source_identity};
use crate::scan::as_path;
use crate::target::HomeLock;
use crate::topology::Topology;

/// Looks closer at files of one job, by what its journal says of their blocks.
#[derive(Debug)]
pub(crate) struct Examiner {
    target: OwnedFd,
    label: PathBuf,
    loaded: Loaded,
    names: BlockNames,
    /// Where blocks are read again from; empty when nothing is mended.
    sources: Vec<(u32, Source)>,
    lease: Mutex<Lease>,
    repairs: Mutex<Vec<Repair>>,
    session: Session,
    /// Held while files are mended; not needed to look: the journal is only ever appended to, and
    /// what is trusted of it is never cut.
    _lock: Option<HomeLock>,
}

impl Examiner {
    /// Prepares to look closer at the job in the folder `job`, and to mend from the sources `from`.
    /// `None`, and a line that says why, when the job has no journal to go by.
    ///
    /// # Errors
    /// `Locked` when it is to mend and another run holds the target; `Refused` when one of `from` is
    /// no source of the job; why a buffer or a descriptor cannot be had.
    pub(crate) fn new(
        target: &OwnedFd,
        label: &Path,
        job: &OwnedFd,
        from: &[PathBuf],
        session: &Session,
    ) -> Result<Option<Self>, Error> {
        let is_to_mend = !from.is_empty();
        let lock = match HomeLock::take_existing(target.as_fd(), label) {
            Ok(lock) => lock,
            Err(error) if is_to_mend => return Err(error),
            Err(_) if is_read_only(target) => None,
            Err(error) => {
                let line = format!("blocks that are wrong cannot be named ({error})");
                session.observer.note(&line);
                return Ok(None);
            }
        };
        let loaded = match journal::read(job.as_fd(), label, job.as_fd()) {
            Ok(loaded) => loaded,
            Err(error) if is_to_mend => {
                let what = format!("nothing can be mended: its journal cannot be read ({error})");
                let kind = ErrorKind::Refused;
                return Err(Error::new(kind, Side::Record, label, &what));
            }
            Err(_) => return Ok(None),
        };
        let sources = sources(from, &loaded)?;
        let target = rustix::io::fcntl_dupfd_cloexec(target, 0)
            .map_err(|errno| Error::target(label, "open the target once more", errno))?;
        Ok(Some(Self {
            target,
            label: label.to_owned(),
            loaded,
            names: BlockNames::default(),
            sources,
            lease: Mutex::new(one_buffer()?),
            repairs: Mutex::default(),
            session: session.clone(),
            _lock: lock.filter(|_| is_to_mend),
        }))
    }

    /// Looks closer at the file at `path` below the target, of which `error` is known; mends it if
    /// it may.
    ///
    /// # Errors
    /// What is wrong with it, block by block where that is recorded.
    pub(crate) fn examine(&self, path: &[u8], error: &Error) -> Result<(), Error> {
        let shown_path = self.label.join(as_path(path));
        let worse = |what: &str| Error::new(error.kind(), error.side(), &shown_path, what);
        let plain = || worse(&error.reason());
        let done = self.loaded.done(path).ok_or_else(plain)?;
        let expected = Expected::of(&done, &self.loaded, &self.names);
        let is_to_mend = !self.sources.is_empty();
        let besides = |why: Error| worse(&format!("{}; {}", error.reason(), why.reason()));
        let copy = Copy::open(self.target.as_fd(), &done, expected, is_to_mend).map_err(besides)?;
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let bad = match copy.look(&mut lease, &|| {}).map_err(besides)? {
            Found::Right => {
                let what = format!("{}; read once more, it is right", error.reason());
                return Err(worse(&what));
            }
            Found::Somewhere => return Err(plain()),
            Found::Blocks(bad) => bad,
        };
        let named = blocks_named(&bad, done.target_stamp.size);
        let source = self
            .sources
            .iter()
            .find(|(number, _)| *number == done.source);
        let Some((_, source)) = source else {
            let why = if is_to_mend {
                "; its source is none of those named with --from"
            } else {
                ""
            };
            return Err(worse(&format!("{named}: {}{why}", error.reason())));
        };
        let below = below(source, path);
        let file = open_direct(source.root.as_fd(), &below, OFlags::RDONLY)
            .map_err(|errno| Error::source(source.label.join(as_path(&below)), "open", errno))?;
        let mender = copy.writable(self.target.as_fd()).map_err(|why| {
            let reason = error.reason();
            worse(&format!("{named}: {reason}; not mended: {}", why.reason()))
        })?;
        mender.mend(&file, &bad, &mut lease)?;
        let line = format!(
            "{}: {named}: not as recorded; read again from the source, written anew and found right",
            shown_path.display()
        );
        self.session.observer.note(&line);
        let (path, path_hex) = shown(path);
        let mut repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        repairs.push(Repair {
            path,
            path_hex,
            blocks: bad,
        });
        Ok(())
    }

    /// Returns what was mended so far.
    pub(crate) fn repairs(&self) -> Vec<Repair> {
        let repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        repairs.clone()
    }
}

/// Returns whether nobody can write to the file system of an open directory.
fn is_read_only(dir: &OwnedFd) -> bool {
    beneath::read_dir_fd(dir.as_fd(), b"")
        .and_then(rustix::fs::fstatvfs)
        .is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Opens the sources to mend from, and finds out which of the job's each is: by what it is on, else
/// by where it would land, else because there is only one. A wrong guess mends nothing: each block
/// is compared before it is written.
fn sources(from: &[PathBuf], loaded: &Loaded) -> Result<Vec<(u32, Source)>, Error> {
    let recorded: Vec<journal::Source> = loaded.sources().collect();
    let topology = Topology::live()?;
    let mut found = Vec::new();
    for mut source in open_sources(from, NamedLink::Followed)? {
        let identity = source_identity(&source, &topology)?;
        let by_identity = recognise(&recorded, std::slice::from_ref(&source), &[identity]);
        let matched = match by_identity {
            Recognised::Same(matched) => matched
                .first()
                .and_then(|matched| recorded.iter().find(|known| known.index == matched.index)),
            Recognised::Other(_) => None,
        };
        let by_landing = || {
            recorded
                .iter()
                .find(|known| known.landing == source.landing)
        };
        let only = || recorded.first().filter(|_| recorded.len() == 1);
        let Some(known) = matched.or_else(by_landing).or_else(only) else {
            let what = "this is no source of the job";
            let kind = ErrorKind::Refused;
            return Err(Error::new(kind, Side::Source, &source.label, what));
        };
        source.landing.clone_from(&known.landing);
        found.push((known.index, source));
    }
    Ok(found)
}

fn below(source: &Source, path: &[u8]) -> Vec<u8> {
    if let Some(name) = &source.only {
        return name.clone();
    }
    let rest = path.strip_prefix(source.landing.as_slice()).unwrap_or(path);
    rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
}
