//! The report of a run: what the engine knows at the end, as plain values.
//!
//! Serialised as `report.json`; rendered for people by `cli`.

use std::ops::Range;

use serde::Serialize;

/// Version of the report and event layout. Raised when a field changes meaning or goes away.
pub const SCHEMA: u32 = 1;

/// How many problems the report holds itself; the rest stay in `problems.ndjson` beside it.
pub const PROBLEMS_MAX: usize = 1000;

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `copy`, `hash` or `verify`.
    pub command: String,
    /// This program's version.
    pub version: String,
    /// Name of the job: its folder under `.inhaul`.
    pub job: String,
    /// The target as typed; empty when nothing is written.
    pub target: String,
    /// Start, RFC 3339 in UTC.
    pub started: String,
    /// End, RFC 3339 in UTC.
    pub ended: String,
    /// Wall time in seconds.
    pub seconds: f64,
    /// The exit code.
    pub exit_code: u8,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
    /// Sums over all lanes.
    pub totals: Totals,
    /// One for each drive.
    pub lanes: Vec<LaneReport>,
    /// How each mount is read or written, and why.
    pub mounts: Vec<MountReport>,
    /// Files listed in the manifest: `verify` misses one that was cut off it.
    pub manifest_records: u64,
    /// Names left out of `manifest.b3` because `b3sum -c` cannot express them; see `manifest.nul`.
    pub names_outside_b3sum: u64,
    /// Set-id bits and file capabilities that policy cleared.
    pub privileges_cleared: u64,
    /// Files whose owner could not be kept because we are not root.
    pub owners_not_kept: u64,
    /// Memory set aside for buffers, in bytes.
    pub buffer_bytes: u64,
    /// Whether an earlier run's job was gone on with.
    pub resumed: bool,
    /// What is known of the files, by how it is known. Each file counts once, by the best of it.
    pub evidence: Evidence,
    /// Files with blocks that were wrong on the target and were written anew from their source.
    pub repairs: Vec<Repair>,
    /// Everything not copied, with its reason: at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problem_count: u64,
    /// Things left out on purpose (special files, other file systems): at most [`PROBLEMS_MAX`].
    pub skipped: Vec<Problem>,
    /// How many of those there are in all.
    pub skipped_count: u64,
    /// Of a copy with several targets: how many files each has by its manifest, this one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetReport>,
}

/// One of several targets of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetReport {
    /// Its absolute path, bytes outside UTF-8 replaced.
    pub target: String,
    /// Files in its manifest.
    pub files: u64,
}

/// How it is known that files hold what was read from their sources, in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Hashed between the read and the write, and durable; not read back.
    pub hashed: u64,
    /// Read back from the medium, so long after the write that no drive's own cache holds it.
    pub read_back: u64,
    /// Read back past the page cache, but a drive's own cache could have answered.
    pub read_back_near: u64,
    /// Asked for, but the file system answered from memory: that proves nothing of the medium.
    pub cached: u64,
    /// Read a second time from their sources, with the same digest; counted in the others too.
    pub source_read_twice: u64,
}

impl Evidence {
    /// Returns how many files there are.
    pub(crate) fn files(&self) -> u64 {
        self.hashed + self.read_back + self.read_back_near + self.cached
    }

    /// Returns how many of them were not read a second time from their sources.
    pub(crate) fn read_once(&self) -> u64 {
        self.files().saturating_sub(self.source_read_twice)
    }
}

/// A file that was mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Its path below TARGET, bytes outside UTF-8 replaced.
    pub path: String,
    /// The exact path, each byte as two hex digits; only when `path` is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// The blocks of 1 MiB that were wrong, counted from 0.
    pub blocks: Vec<u64>,
}

/// Counts and bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Regular files durable in the target (or hashed, or verified).
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Symlinks, hard links and special files made.
    pub others: u64,
    /// Directories.
    pub dirs: u64,
    /// Files left alone because they were there already.
    pub existing: u64,
    /// Their bytes.
    pub existing_bytes: u64,
    /// Files that an earlier run of the job copied, found unchanged on both sides.
    pub kept: u64,
    /// Bytes that were not read again: of those files, and of begun ones that were gone on with.
    pub kept_bytes: u64,
    /// Files copied again because their source changed since an earlier run copied them.
    pub changed: u64,
    /// Files that could not be read whole, and of which `--salvage` kept the rest as NAME.partial:
    /// not among `files`, but each among `problems`.
    pub salvaged: u64,
    /// Things not copied.
    pub problems: u64,
    /// Bytes a second over the whole run: of those above that it read itself.
    pub bytes_per_second: f64,
}

/// One drive's part of the run.
#[derive(Debug, Clone, Serialize)]
pub struct LaneReport {
    /// Short name, such as `sdb`.
    pub drive: String,
    /// Model and serial where known.
    pub model: Option<String>,
    /// Serial number or WWN where known.
    pub serial: Option<String>,
    /// Whether the kernel says the drive spins.
    pub rotational: Option<bool>,
    /// The sources on it.
    pub sources: Vec<String>,
    /// `done`, `failed` or another [`crate::engine::telemetry::LaneState`] word.
    pub state: String,
    /// How the drive fared: `ok`, `suspect`, `quarantined` or `gone`.
    pub health: String,
    /// Counts.
    pub totals: Totals,
    /// Seconds from the start of the run to its last byte.
    pub seconds: f64,
    /// `source`, `hash`, `target` or `limit`: what it waited for most.
    pub limited_by: String,
    /// Bytes a second in its best second of this run, or as `bench` measured them if that is more:
    /// what its drive has shown that it can give. `None` when it read for less than a second.
    pub best_bytes_per_second: Option<f64>,
    /// Bytes that came from it a second, from the start of the run to its last byte, as a share of
    /// that best.
    pub share_of_best: Option<f64>,
    /// Seconds waited for each of `source`, `hash`, `target`, `limit`.
    pub waited_seconds: [f64; 4],
    /// What is known of its files, as far as the run asked; see [`Report::evidence`].
    pub evidence: Evidence,
    /// `copy`: whether the drive may be released: everything on it that was asked for is copied,
    /// durable and, if asked for, read back. `false` for the other commands.
    pub safe_to_release: bool,
    /// Why (not), for people; empty for the other commands.
    pub verdict: String,
    /// Backend used: `io_uring`, `io_uring+registered` (its buffers, as far as the limit of locked
    /// memory allowed) or `blocking`.
    pub io: String,
    /// Buffers lent to it.
    pub buffers: usize,
}

/// A drive, or the target, that fares otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthChange {
    /// Short name of the drive, such as `sdb`; `target` for what is copied to; the path of a source
    /// that did not answer before its drive was known.
    pub drive: String,
    /// The sources on it; of the target its path.
    pub sources: Vec<String>,
    /// `ok`, `suspect`, `quarantined` or `gone`: a [`crate::engine::telemetry::Health`] word.
    pub health: String,
    /// What happened, for people.
    pub reason: String,
}

/// How one mount is accessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountReport {
    /// The path as typed.
    pub path: String,
    /// `source` or `target`.
    pub side: String,
    /// File system type.
    pub fs: String,
    /// `direct` (O_DIRECT) or `buffered`.
    pub access: String,
    /// Why.
    pub why: String,
}

/// Something not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path, bytes outside UTF-8 replaced.
    pub path: String,
    /// The exact path, each byte as two hex digits; only when `path` is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// A stable word: [`crate::error::ErrorKind::word`], or `special` and the like when skipped.
    pub kind: String,
    /// What happened, for people.
    pub reason: String,
    /// What cannot be read of a file, when that is why it is not copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Unreadable>,
}

/// How many ranges of a file a report holds itself; its map has all.
pub const RANGES_MAX: usize = 100;

/// What cannot be read of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// How many bytes.
    pub bytes: u64,
    /// Where they are in the file: first byte, and the byte behind the last; the first
    /// [`RANGES_MAX`] of them.
    pub ranges: Vec<[u64; 2]>,
    /// How many ranges there are in all.
    pub range_count: u64,
    /// The file in the job's folder that lists all ranges, in the form of GNU ddrescue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// With `--salvage`: the path below TARGET of what could be read, with zeros for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
    /// That path, each byte as two hex digits; only when `kept_as` is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_as_hex: Option<String>,
}

impl Unreadable {
    /// Returns the report of these ranges.
    pub(crate) fn of(bytes: u64, ranges: &[Range<u64>]) -> Self {
        Self {
            bytes,
            ranges: ranges
                .iter()
                .take(RANGES_MAX)
                .map(|range| [range.start, range.end])
                .collect(),
            range_count: ranges.len() as u64,
            ..Self::default()
        }
    }

    /// Says what what could be read is kept as.
    pub(crate) fn kept_as(&mut self, path: &[u8]) {
        let (path, path_hex) = super::outcomes::shown(path);
        self.kept_as = Some(path);
        self.kept_as_hex = path_hex;
    }
}

/// What a copy would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DryRun {
    /// The target as typed.
    pub target: String,
    /// One for each drive.
    pub lanes: Vec<DryLane>,
    /// Bytes the copy would take up in the target; names already there left out.
    pub needed: u64,
    /// Bytes free in the target.
    pub free: u64,
    /// Whether it fits, inodes counted.
    pub fits: bool,
    /// Files whose names are taken in the target.
    pub existing: u64,
    /// What could not be listed.
    pub problems: Vec<Problem>,
}

/// One drive's part of a dry run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DryLane {
    /// Short name of the drive.
    pub drive: String,
    /// The sources on it.
    pub sources: Vec<String>,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories.
    pub dirs: u64,
}
