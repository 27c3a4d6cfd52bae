//! What the program means to do: validated, printable, easy to make by hand in a test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scan::Filter;

/// Which I/O backend to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// The ring where the kernel lets us, else blocking calls; says which.
    Auto,
    /// The ring, or a clear failure.
    Uring,
    /// `pread` and `pwrite` on threads.
    Blocking,
}

/// What to do with a file whose name is taken in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// Leave it, report the new one as not copied.
    Refuse,
    /// Leave it, count it as skipped.
    Skip,
    /// Replace it, atomically, once the new one is durable.
    Overwrite,
}

/// What of the source's metadata is kept beyond the safe default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preserve {
    /// Keep set-user-id and set-group-id bits of files.
    pub setid: bool,
    /// Keep `security.capability`.
    pub caps: bool,
    /// Recreate FIFOs, sockets and device nodes (`--special`).
    pub special: bool,
}

/// One copy job.
#[derive(Debug, Clone)]
pub struct CopyJob {
    /// The sources as typed; a trailing slash means "the contents of".
    pub sources: Vec<PathBuf>,
    /// The target directory as typed.
    pub target: PathBuf,
    /// Further targets, in this order, for what the one before has no room for.
    pub spill: Vec<PathBuf>,
    /// What is left out.
    pub filter: Arc<Filter>,
    /// Only these paths, relative to each source; `None` for everything.
    pub files_from: Option<Arc<crate::scan::FilesFrom>>,
    /// What to do with names that are taken.
    pub existing: Existing,
    /// Metadata kept beyond the default.
    pub preserve: Preserve,
    /// Whether what can be read of a file with bad spots is kept as NAME.partial, with zeros in the
    /// place of the rest. It never counts as copied.
    pub salvage: bool,
    /// What is read again after it was copied, and compared.
    pub verify: Verify,
    /// Name of the job to go on with, a folder under `.inhaul`; `None` for the one that was begun
    /// last and not finished, if it is the same, else for a new one.
    pub resume: Option<String>,
    /// Settings shared by all commands that read drives.
    pub engine: EngineSettings,
}

/// What is read again after it was copied, and compared with the digests taken on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Nothing: each file was hashed between the read and the write.
    #[default]
    None,
    /// Every file is read back from the target's medium.
    Target,
    /// That, and every source is read a second time.
    Both,
}

/// One hash job: digests of files, nothing written.
#[derive(Debug, Clone)]
pub struct HashJob {
    /// The files and directories as typed.
    pub paths: Vec<PathBuf>,
    /// What is left out.
    pub filter: Arc<Filter>,
    /// Settings shared by all commands that read drives.
    pub engine: EngineSettings,
}

/// One verify job: a target against its own record, nothing written below it but the report.
#[derive(Debug, Clone)]
pub struct VerifyJob {
    /// The target directory as typed.
    pub target: PathBuf,
    /// Name of the recorded job, a folder under `.inhaul`; `None` for the newest.
    pub job: Option<String>,
    /// Sources to mend single blocks from; empty when nothing is mended.
    pub repair_from: Vec<PathBuf>,
    /// Settings shared by all commands that read drives.
    pub engine: EngineSettings,
}

/// Settings of the engine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Which backend.
    pub io: IoChoice,
    /// Memory the run may use, in bytes; buffers are sized to fit.
    pub memory: u64,
    /// Bytes a second read over all drives; `None` for no limit.
    pub bwlimit: Option<u64>,
    /// How long a source drive may be silent before it is quarantined; `None` for ever.
    pub stall: Option<Duration>,
    /// `copy`: for how long a source drive that was lost is waited for to be mounted again, once all
    /// others are through; `None` for not at all.
    pub grace: Option<Duration>,
    /// Hash workers; `None` for one a core.
    pub hash_threads: Option<usize>,
    /// Whether what drives gave when `bench` measured them is asked for. It changes how a lane
    /// begins and what is told, never what is copied.
    pub history: bool,
}

/// What a drive gave when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDrive {
    /// Bytes a second, read in sequence.
    pub rate: u64,
    /// Its size in bytes: serial numbers of cheap bridges are all the same.
    pub size: u64,
    /// Bytes of all requests in its queue, where more brought nothing.
    pub queue: u64,
}

/// Default of [`EngineSettings::stall`]: 30 s, the time the kernel gives a SCSI drive for a command.
pub const STALL_DEFAULT: Duration = Duration::from_secs(30);

/// Default of [`EngineSettings::grace`]: 60 s, in which a person at the shelf can plug a cable in again
/// and a desktop mounts what is on it.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(60);

/// Default of [`EngineSettings::memory`]: 512 MiB, stated in `--help`.
pub const MEMORY_DEFAULT: u64 = 512 << 20;

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            io: IoChoice::Auto,
            memory: MEMORY_DEFAULT,
            bwlimit: None,
            stall: Some(STALL_DEFAULT),
            grace: Some(GRACE_DEFAULT),
            hash_threads: None,
            history: true,
        }
    }
}
