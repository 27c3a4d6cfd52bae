//! What a bench found, as it is printed, kept and compared. `FORMATS.md` says what each field
//! is.

use serde::{Deserialize, Serialize};

pub use super::doubt::Doubt;
use crate::buffer::ALIGN;

/// Version of the form. A field may be added at any time; one that changes meaning or goes away
/// raises it.
pub const SCHEMA: u32 = 1;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `bench`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of inhaul.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Processors this process may use.
    pub cpus: usize,
    /// When it began, RFC 3339.
    pub started: String,
    /// How it read and wrote: `io_uring`, `blocking`.
    pub backend: String,
    /// Seconds each sample was counted for.
    pub sample_seconds: f64,
    /// Seconds before that, which were not counted.
    pub warm_up_seconds: f64,
    /// Samples behind each figure.
    pub repetitions: usize,
    /// Bytes of a request that were asked for; `None` when what suits each drive was looked for.
    #[serde(default)]
    pub block_asked: Option<usize>,
    /// Requests at once that were asked for; `None` when what suits each drive was looked for.
    #[serde(default)]
    pub depth_asked: Option<usize>,
    /// Whether it went to its end.
    pub complete: bool,
    /// One for each PATH, in the order they were named.
    pub subjects: Vec<Subject>,
    /// All of them at once.
    #[serde(default)]
    pub together: Option<Together>,
    /// The target, written alone and by all of them.
    #[serde(default)]
    pub pair: Option<Pair>,
    /// What it means, a sentence each, what matters most first.
    pub verdicts: Vec<Verdict>,
    /// How long a copy of what is on them would take.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// What a reader must know before believing a figure.
    pub warnings: Vec<String>,
    /// Those of them that say that every figure may be wrong. None in reports of before this field.
    #[serde(default)]
    pub doubts: Vec<Doubt>,
    /// Those that there were when all had been measured one by one; none of a bench that was stopped
    /// before, and in reports of before this field.
    #[serde(default)]
    pub doubts_alone: Option<Vec<Doubt>>,
}

/// One PATH.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Short name: the drive's, or what stands for it.
    pub name: String,
    /// As typed.
    pub path: String,
    /// Its bytes in hex, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// `device`, `directory` or `file`; empty for what could not be opened.
    pub kind: String,
    /// The drives beneath.
    pub drives: Vec<DriveFacts>,
    /// File system, of a directory or file.
    #[serde(default)]
    pub fs: Option<String>,
    /// How it is known that the drive and not memory answered: `direct`, `dropped`, or `unproved`.
    pub access: String,
    /// Bytes that could be read before any was read again.
    pub span_bytes: u64,
    /// The search for the knee: one sample each.
    pub sweep: Vec<Point>,
    /// The smallest request and the shortest queue that bring all there is.
    #[serde(default)]
    pub knee: Option<Knee>,
    /// Sequential reading at the knee.
    #[serde(default)]
    pub read: Option<Measure>,
    /// The same in places of a spinning drive: `outer`, `middle`, `inner`.
    #[serde(default)]
    pub zones: Vec<Zone>,
    /// Reading whole small files.
    #[serde(default)]
    pub small: Option<SmallFiles>,
    /// The search for the queue that suits writing: one sample each. None in reports of before they
    /// were kept.
    #[serde(default)]
    pub write_sweep: Vec<Point>,
    /// Sequential writing to a scratch file.
    #[serde(default)]
    pub write: Option<Measure>,
    /// What is on it.
    #[serde(default)]
    pub holds: Option<Holds>,
    /// The subject that holds all that this one holds, by name: in an estimate it counts with that one.
    #[serde(default)]
    pub within: Option<String>,
    /// What a reader must know before believing its figures.
    pub warnings: Vec<String>,
    /// As in a [`Report`], of its figures.
    #[serde(default)]
    pub doubts: Vec<Doubt>,
    /// Why it has no figures, or not all.
    #[serde(default)]
    pub error: Option<String>,
}

impl Subject {
    /// Returns whether it is a block device that is all of one drive: no partition, no volume on it,
    /// no directory. Only what is read of such a one is what the drive gives.
    pub fn is_whole_drive(&self) -> bool {
        let one = self.drives.first().filter(|_| self.drives.len() == 1);
        // Of a size that is no multiple of a request the rest is not read.
        let all = |bytes: u64| bytes > 0 && bytes.abs_diff(self.span_bytes) < ALIGN as u64;
        self.kind == "device" && one.is_some_and(|drive| all(drive.bytes))
    }
}

/// What is known of a drive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DriveFacts {
    /// Kernel name.
    pub name: String,
    /// Model.
    #[serde(default)]
    pub model: Option<String>,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// World wide name.
    #[serde(default)]
    pub wwn: Option<String>,
    /// As `inhaul drives` has it.
    pub transport: String,
    /// Whether the kernel says that it spins.
    #[serde(default)]
    pub rotational: Option<bool>,
    /// Capacity.
    pub bytes: u64,
}

impl DriveFacts {
    /// Returns what tells this drive from all others, wherever it is plugged in; `None` when the
    /// kernel knows nothing of that kind.
    pub fn identity(&self) -> Option<&str> {
        self.serial.as_deref().or(self.wwn.as_deref())
    }
}

/// One sample of the search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Bytes of a request.
    pub block: usize,
    /// Requests at once.
    pub depth: usize,
    /// Bytes a second.
    pub rate: f64,
}

/// Where more brings nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knee {
    /// Bytes of a request.
    pub block: usize,
    /// Requests at once.
    pub depth: usize,
}

/// A figure: never one sample alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Bytes of a request.
    pub block: usize,
    /// Requests at once.
    pub depth: usize,
    /// Median of the samples, bytes a second.
    pub rate: f64,
    /// The slowest sample.
    pub rate_min: f64,
    /// The fastest one.
    pub rate_max: f64,
    /// All of them, in order.
    pub samples: Vec<f64>,
    /// Samples taken before them that are in nothing else here: the drive was not yet steady.
    #[serde(default)]
    pub cut: Vec<f64>,
    /// Whether the samples are steady: they lie within 20% of each other, and rise or fall by no more
    /// than 10%. `false` in reports of before it was looked at.
    #[serde(default)]
    pub steady: bool,
    /// Requests counted.
    pub requests: u64,
    /// Bytes counted.
    pub bytes: u64,
    /// Seconds counted.
    pub seconds: f64,
    /// Seconds of a processor that inhaul took in them, in all its threads; 0 in reports of before
    /// they were counted.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Of the requests of all samples.
    pub latency: Latency,
}

impl Measure {
    /// Returns how far the samples are apart, as a share of their median.
    pub fn spread(&self) -> f64 {
        if self.rate > 0.0 {
            (self.rate_max - self.rate_min) / self.rate
        } else {
            0.0
        }
    }
}

/// Latencies in nanoseconds, from the request to the look that found it done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Shortest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Half of the requests took no longer.
    pub p50: u64,
    /// 90%.
    pub p90: u64,
    /// 99%.
    pub p99: u64,
    /// 99.9%.
    pub p999: u64,
    /// Longest.
    pub max: u64,
    /// Buckets that are not empty: upper end and count.
    #[serde(default)]
    pub buckets: Vec<(u64, u64)>,
}

/// A place on a spinning drive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// `outer`, `middle` or `inner`.
    pub name: String,
    /// Where it begins, in bytes.
    pub at: u64,
    /// What reading gave there.
    pub read: Measure,
}

/// Reading whole small files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SmallFiles {
    /// Median of the samples, files a second.
    pub rate: f64,
    /// The slowest sample.
    pub rate_min: f64,
    /// The fastest one.
    pub rate_max: f64,
    /// All of them, in order; empty in reports of before they were kept.
    #[serde(default)]
    pub samples: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub cut: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub steady: bool,
    /// Files read, no file twice.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is on a subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Bytes.
    pub bytes: u64,
    /// Regular files; 0 when they were not counted.
    pub files: u64,
    /// Files of at most 256 KiB among them.
    pub small_files: u64,
    /// Bytes of those.
    #[serde(default)]
    pub small_bytes: u64,
    /// Whether everything was counted; else the bytes in use of the file system stand here, or what
    /// was seen if that is more, and so many files as go with them by what was seen.
    pub counted: bool,
}

/// All subjects at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Together {
    /// 1, 2, 4 ... all of them.
    pub steps: Vec<TogetherStep>,
    /// How many could be read together before their sum fell short; `None` when it never did.
    #[serde(default)]
    pub bend: Option<usize>,
    /// What bends the curve: `link`, `backing`, `cpu`, `memory`, `drive` (one gives less beside
    /// others, or several are on one drive) or `unknown`.
    #[serde(default)]
    pub cause: Option<String>,
    /// Which of its kind: `port-0:0`.
    #[serde(default)]
    pub cause_name: Option<String>,
    /// What that carries by itself, bytes a second; of what is not known, what those that share it
    /// reached at once.
    #[serde(default)]
    pub cause_ceiling: Option<u64>,
    /// The subjects that share it, by name; when it is not known, those that are below
    /// 90% of their own rates in the last step.
    #[serde(default)]
    pub cause_subjects: Vec<String>,
    /// Bytes a second that this machine copies in memory, on all processors.
    #[serde(default)]
    pub memory_rate: Option<f64>,
    /// Why not all were read at once.
    #[serde(default)]
    pub error: Option<String>,
    /// The subjects that failed, by name; the steps after that are without these. None when it was not
    /// a drive's doing: then there are no more steps.
    #[serde(default)]
    pub error_subjects: Vec<String>,
}

/// So many at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TogetherStep {
    /// How many; the first of the subjects that have a rate.
    pub count: usize,
    /// Which, by name, in the order of `each`; empty in reports of before they were named.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Median of the samples, bytes a second over all of them.
    pub rate: f64,
    /// The slowest sample.
    pub rate_min: f64,
    /// The fastest one.
    pub rate_max: f64,
    /// All of them, in order; empty in reports of before they were kept.
    #[serde(default)]
    pub samples: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub cut: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub steady: bool,
    /// The sum of their rates alone.
    pub alone: f64,
    /// Median of each, in order.
    pub each: Vec<f64>,
    /// The samples of each, in the order of `each`: of one moment with that of `samples`.
    #[serde(default)]
    pub each_samples: Vec<Vec<f64>>,
    /// Share in use of the time of those processors that inhaul may use, 0 to 1.
    pub busy: f64,
}

impl TogetherStep {
    /// Returns what they reach of the sum of their rates alone.
    pub fn efficiency(&self) -> f64 {
        if self.alone > 0.0 {
            self.rate / self.alone
        } else {
            0.0
        }
    }
}

/// Sources into a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The target as typed.
    pub target: String,
    /// Its bytes in hex, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hex: Option<String>,
    /// The drives beneath it.
    pub drives: Vec<DriveFacts>,
    /// Its file system.
    pub fs: String,
    /// The subjects that were copied into it, by name; empty in reports of before they were named.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// As in a [`Subject`].
    #[serde(default)]
    pub write_sweep: Vec<Point>,
    /// Writing alone.
    #[serde(default)]
    pub write: Option<Measure>,
    /// All sources into it, each byte hashed, as a copy does.
    #[serde(default)]
    pub hashed: Option<PairRate>,
    /// The same without a hash.
    #[serde(default)]
    pub unhashed: Option<PairRate>,
    /// What a reader must know before believing its figures.
    pub warnings: Vec<String>,
    /// Why it has no figures, or not all.
    #[serde(default)]
    pub error: Option<String>,
    /// The subjects that could not be read then, by name; none when it was the target, or neither.
    #[serde(default)]
    pub error_subjects: Vec<String>,
}

/// What a pair reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairRate {
    /// Median of the samples, bytes a second: of all sources while all of them ran.
    pub rate: f64,
    /// The slowest sample.
    pub rate_min: f64,
    /// The fastest one.
    pub rate_max: f64,
    /// All of them, in order; empty in reports of before they were kept.
    #[serde(default)]
    pub samples: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub cut: Vec<f64>,
    /// As in a [`Measure`].
    #[serde(default)]
    pub steady: bool,
    /// Share in use of the time of those processors that inhaul may use, 0 to 1.
    pub busy: f64,
}

/// What a verdict says when there is nothing else to say.
pub(crate) const NOTHING_STANDS_OUT: &str = "nothing stands out";

/// A sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Stable word: `slow-drive`, `shared-link`, `shared-drive`, `target-limits`, `hash-limits`,
    /// `pair-limits`, `cpu-limits`, `memory-limits`, `less-together`, `uneven`, `slow-tail`, `changed`,
    /// `failed`, `fine`.
    pub about: String,
    /// Whether somebody should act.
    pub bad: bool,
    /// Names of the subjects that it is about; none when it is about all, or about no subject. Reports
    /// of before this field have none.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// For people.
    pub text: String,
}

/// How long a copy would take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes to copy.
    pub bytes: u64,
    /// Files among them, where they were counted.
    pub files: u64,
    /// Seconds, by the medians.
    pub seconds: f64,
    /// By the fastest samples.
    pub seconds_min: f64,
    /// By the slowest ones.
    pub seconds_max: f64,
    /// What takes longest: a subject's name, or the drive's that several are on, or `together`, or
    /// `target`.
    pub limited_by: String,
    /// What it rests on, for people.
    pub basis: String,
}
