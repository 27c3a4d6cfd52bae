//! What a copy was asked for, written down beside its journal: `job.json`.
//!
//! ```text
//! {
//!   "version": 1,
//!   "folder": "/srv",                       where relative paths began
//!   "sources": ["/mnt/d1", {"hex": "2fff"}],
//!   "target": "in",
//!   "spill": ["/mnt/more"],                 left out when there is none
//!   "spill_on": ["UUID"],                   of their file systems, null where not known
//!   "left_out": [{"path": "/mnt/d1",        sources that the journal does not have, as their
//!     "on": {...}, "after": 2}],            drives failed: what was mounted there, null if not known,
//!                                           and how many sources the journal had then
//!   "points": [{"source": 0,                where the file systems of the sources were mounted, by
//!     "path": "/mnt/d1",                    their numbers in the journal and the absolute paths that
//!     "point": "/mnt/d1"}],                 they were given by
//!   "filter": [{"include": "keep.tmp"}, {"exclude": "*.tmp"}],
//!   "files_from": null,                     or a list of paths
//!   "existing": "refuse",
//!   "preserve": {"setid": false, "caps": false, "special": false},
//!   "verify": "none",
//!   "salvage": false,
//!   "io": "auto", "memory": 536870912, "bwlimit": null
//! }
//! ```
//!
//! A name or pattern that is not UTF-8 stands there as hex digits of its bytes.

mod owed;
mod points;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::job::{
    CopyJob, EngineSettings, Existing, GRACE_DEFAULT, IoChoice, Preserve, STALL_DEFAULT, Verify,
};
use super::outcomes::shown;
use crate::error::{Error, ErrorKind, Side};
use crate::scan::{FilesFrom, Filter, Rule};
use owed::WrittenOwed;
use points::WrittenPoint;

pub(super) use owed::Owed;
pub(super) use points::Point;

pub use crate::target::JOB_FILE;

/// Version of the file. Raised when an older program would do something else than was asked for.
const VERSION: u32 = 1;

/// A copy as it was asked for, so that it can be gone on with by somebody who does not know how.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The working directory when it was typed; empty when that could not be told.
    folder: PathBuf,
    job: CopyJob,
    /// UUIDs of the file systems of further targets.
    further: Vec<Option<String>>,
    left_out: Vec<Owed>,
    points: Vec<Point>,
}

impl Recipe {
    /// Returns the recipe of a job typed in the working directory. Not in it: the number of hash
    /// workers, the patience with drives and what is known of them, which are the machine's, and the
    /// name of the job.
    pub fn of(job: &CopyJob) -> Self {
        Self {
            folder: std::env::current_dir().unwrap_or_default(),
            further: Vec::new(),
            left_out: Vec::new(),
            points: Vec::new(),
            job: CopyJob {
                resume: None,
                engine: EngineSettings {
                    hash_threads: None,
                    stall: Some(STALL_DEFAULT),
                    grace: Some(GRACE_DEFAULT),
                    history: true,
                    ..job.engine.clone()
                },
                ..job.clone()
            },
        }
    }

    /// Says which file systems the further targets are on, by their UUIDs.
    #[must_use]
    pub(super) fn on(self, further: Vec<Option<String>>) -> Self {
        Self { further, ..self }
    }

    /// Returns the further targets whose file systems are known by a UUID, with that.
    pub(super) fn further(&self) -> impl Iterator<Item = (PathBuf, &str)> {
        let both = self.job.spill.iter().zip(&self.further);
        both.filter_map(|(path, fs)| Some((self.path(path), fs.as_deref()?)))
    }

    /// Returns the job as it was typed.
    pub(super) fn job(&self) -> &CopyJob {
        &self.job
    }

    /// Returns the job. Relative paths begin where they began when they were typed.
    pub fn into_job(self) -> CopyJob {
        let (folder, mut job) = (self.folder, self.job);
        if std::env::current_dir().ok().as_deref() != Some(&*folder) {
            let CopyJob {
                sources,
                target,
                spill,
                ..
            } = &mut job;
            for path in sources.iter_mut().chain(spill).chain([target]) {
                *path = from(&folder, path);
            }
        }
        job
    }

    /// Returns a path that was typed where the recipe was, as one that can be used here.
    pub(super) fn path(&self, typed: &Path) -> PathBuf {
        if std::env::current_dir().ok().as_deref() == Some(&*self.folder) {
            typed.to_owned()
        } else {
            from(&self.folder, typed)
        }
    }

    /// Returns the BLAKE3 of the options that decide what is copied and how: the same for every
    /// command that can go on with what another began.
    ///
    /// The filter, the list of files and `--preserve` count. Where the sources and the target are
    /// called does not: they are known by what they are; further targets may be named at any time. Nor
    /// do memory, limit and backend, nor `--existing`, which is about files that are not the job's; and
    /// verifying can be asked for later.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.canonical(&mut |bytes| {
            hasher.update(bytes);
        });
        hasher.finalize().into()
    }

    /// Gives the text that is hashed to `put`, in pieces. Every value has its length before it, so
    /// no two recipes have one text.
    fn canonical(&self, put: &mut dyn FnMut(&[u8])) {
        // Field by field, so that a new one has to be given a thought here.
        let CopyJob {
            sources: _,
            target: _,
            spill: _,
            filter,
            files_from,
            existing: _,
            preserve:
                Preserve {
                    setid,
                    caps,
                    special,
                },
            verify: _,
            salvage: _,
            resume: _,
            engine: _,
        } = &self.job;
        let head = format!("inhaul copy 1\nsetid {setid}\ncaps {caps}\nspecial {special}\n");
        put(head.as_bytes());
        let mut value = |word: &str, bytes: &[u8]| {
            put(format!("{word} {} ", bytes.len()).as_bytes());
            put(bytes);
            put(b"\n");
        };
        for rule in filter.rules() {
            match rule {
                Rule::Include(pattern) => value("include", pattern),
                Rule::Exclude(pattern) => value("exclude", pattern),
            }
        }
        if let Some(list) = files_from {
            // An empty list copies nothing; no list copies all.
            value("list", list.len().to_string().as_bytes());
            for path in list.paths() {
                value("path", path);
            }
        }
    }

    /// Returns it as the text of [`JOB_FILE`].
    ///
    /// # Errors
    /// `RecordWrite`, if it cannot be expressed; there is nothing that cannot.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let mut text = serde_json::to_vec_pretty(&Written::of(self)).map_err(|error| {
            let what = "write down what was asked for";
            Error::new(ErrorKind::RecordWrite, Side::Record, JOB_FILE, what).because(error)
        })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the text of a [`JOB_FILE`]; `label` is its path as messages name it.
    ///
    /// # Errors
    /// `RecordCorrupt` when it is none, or another version's.
    pub fn from_json(text: &[u8], label: &Path) -> Result<Self, Error> {
        let corrupt = |what: &str| Error::new(ErrorKind::RecordCorrupt, Side::Record, label, what);
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            corrupt("this is no description of a job").because(std::io::Error::from(error))
        })?;
        if written.version != VERSION {
            return Err(corrupt("written by another version of inhaul"));
        }
        written
            .recipe()
            .map_err(|why| corrupt(&format!("this describes no job: {why}")))
    }

    /// Reads the recipe in a job's folder; `label` is the folder as messages name it.
    ///
    /// # Errors
    /// `Missing` when there is none; `RecordCorrupt` as [`from_json`](Self::from_json), and when it
    /// cannot be read.
    pub fn load(folder: BorrowedFd<'_>, label: &Path) -> Result<Self, Error> {
        let label = label.join(JOB_FILE);
        let fail = |errno: Errno| {
            let kind = match errno {
                Errno::NOENT => ErrorKind::Missing,
                _ => ErrorKind::RecordCorrupt,
            };
            let what = "read what was asked for";
            Error::new(kind, Side::Record, &label, what).because(errno)
        };
        // Not blocking: whatever has the name, opening it ends.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, JOB_FILE, flags, Mode::empty()).map_err(fail)?;
        let mut text = Vec::new();
        File::from(file)
            .read_to_end(&mut text)
            .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        Self::from_json(&text, &label)
    }

    /// Reads the recipe in a job's folder, if there is one.
    ///
    /// # Errors
    /// `Refused` when there is one that cannot be read: what the job owes would be forgotten.
    pub(super) fn load_if_there(
        folder: BorrowedFd<'_>,
        label: &Path,
    ) -> Result<Option<Self>, Error> {
        match Self::load(folder, label) {
            Ok(recipe) => Ok(Some(recipe)),
            Err(error) if error.kind() == ErrorKind::Missing => Ok(None),
            Err(error) => {
                let what = format!(
                    "what this unfinished copy was asked for cannot be read ({}), so nothing tells \
                     which sources it lacks; nothing was written, and what is copied is kept. Use \
                     the inhaul that wrote it, or move it away to go on without what it says",
                    error.reason()
                );
                let label = label.join(JOB_FILE);
                Err(Error::new(ErrorKind::Refused, Side::Record, label, &what))
            }
        }
    }
}

/// Returns `path`, begun in `folder` if it is relative. Joined as text: a slash or a dot at the end
/// means something.
fn from(folder: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() || folder.as_os_str().is_empty() {
        return path.to_owned();
    }
    let mut joined = folder.as_os_str().to_owned();
    joined.push("/");
    joined.push(path);
    PathBuf::from(joined)
}

/// Bytes in JSON: as text when they are UTF-8, else as hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Bytes {
    Text(String),
    Hex { hex: String },
}

impl Bytes {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match shown(bytes) {
            (text, None) => Self::Text(text),
            (_, Some(hex)) => Self::Hex { hex },
        }
    }

    /// Returns them for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Hex { hex } => format!("(hex) {hex}"),
        }
    }

    fn of_path(path: &Path) -> Self {
        Self::of(path.as_os_str().as_bytes())
    }

    pub(super) fn bytes(self) -> Result<Vec<u8>, String> {
        let hex = match self {
            Self::Text(text) => return Ok(text.into_bytes()),
            Self::Hex { hex } => hex,
        };
        let digits: Option<Vec<u32>> = hex.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2));
        let pairs = digits.ok_or_else(|| format!("'{hex}' are no hex digits"))?;
        let byte = |pair: &[u32]| pair.iter().fold(0, |sum, digit| sum * 16 + digit);
        let bytes = pairs.chunks(2).map(|pair| u8::try_from(byte(pair)));
        bytes
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    }

    pub(super) fn path(self) -> Result<PathBuf, String> {
        self.bytes().map(|b| PathBuf::from(OsString::from_vec(b)))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenRule {
    Include(Bytes),
    Exclude(Bytes),
}

/// The file, field by field.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    folder: Bytes,
    sources: Vec<Bytes>,
    target: Bytes,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spill: Vec<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spill_on: Vec<Option<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<WrittenOwed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    points: Vec<WrittenPoint>,
    filter: Vec<WrittenRule>,
    files_from: Option<Vec<Bytes>>,
    existing: Existing,
    preserve: Preserve,
    verify: Verify,
    #[serde(default)]
    salvage: bool,
    io: IoChoice,
    memory: u64,
    bwlimit: Option<u64>,
}

impl Written {
    fn of(recipe: &Recipe) -> Self {
        let job = &recipe.job;
        let rule = |rule: &Rule| match rule {
            Rule::Include(pattern) => WrittenRule::Include(Bytes::of(pattern)),
            Rule::Exclude(pattern) => WrittenRule::Exclude(Bytes::of(pattern)),
        };
        let list = |list: &Arc<FilesFrom>| list.paths().map(Bytes::of).collect();
        Self {
            version: VERSION,
            folder: Bytes::of_path(&recipe.folder),
            sources: job.sources.iter().map(|s| Bytes::of_path(s)).collect(),
            target: Bytes::of_path(&job.target),
            spill: job.spill.iter().map(|path| Bytes::of_path(path)).collect(),
            spill_on: recipe.further.clone(),
            left_out: recipe.left_out.iter().map(WrittenOwed::of).collect(),
            points: recipe.points.iter().map(WrittenPoint::of).collect(),
            filter: job.filter.rules().iter().map(rule).collect(),
            files_from: job.files_from.as_ref().map(list),
            existing: job.existing,
            preserve: job.preserve,
            verify: job.verify,
            salvage: job.salvage,
            io: job.engine.io,
            memory: job.engine.memory,
            bwlimit: job.engine.bwlimit,
        }
    }

    fn recipe(self) -> Result<Recipe, String> {
        let rule = |rule| match rule {
            WrittenRule::Include(pattern) => pattern.bytes().map(Rule::Include),
            WrittenRule::Exclude(pattern) => pattern.bytes().map(Rule::Exclude),
        };
        let rules: Vec<Rule> = self
            .filter
            .into_iter()
            .map(rule)
            .collect::<Result<_, _>>()?;
        let files_from = self.files_from.map(|paths| {
            let paths: Vec<Vec<u8>> = paths
                .into_iter()
                .map(Bytes::bytes)
                .collect::<Result<_, _>>()?;
            FilesFrom::of_paths(paths.iter().map(Vec::as_slice)).map_err(|e| e.to_string())
        });
        let sources = self.sources.into_iter().map(Bytes::path);
        let spill = self.spill.into_iter().map(Bytes::path);
        let owed = self.left_out.into_iter().map(WrittenOwed::owed);
        let points = self.points.into_iter().map(WrittenPoint::point);
        Ok(Recipe {
            further: self.spill_on,
            left_out: owed.collect::<Result<_, _>>()?,
            points: points.collect::<Result<_, _>>()?,
            folder: self.folder.path()?,
            job: CopyJob {
                sources: sources.collect::<Result<_, _>>()?,
                target: self.target.path()?,
                spill: spill.collect::<Result<_, _>>()?,
                filter: Arc::new(Filter::new(rules).map_err(|e| e.to_string())?),
                files_from: files_from.transpose()?.map(Arc::new),
                existing: self.existing,
                preserve: self.preserve,
                verify: self.verify,
                salvage: self.salvage,
                resume: None,
                engine: EngineSettings {
                    io: self.io,
                    memory: self.memory,
                    bwlimit: self.bwlimit,
                    ..EngineSettings::default()
                },
            },
        })
    }
}
