//! What the user typed of the commands that look at drives: `drives` and `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::args::{ColorArg, IoArg, ProgressArg};

/// `inhaul drives`.
#[derive(Debug, Args)]
pub struct DrivesArgs {
    /// Only the drives that these directories, files or block devices are on
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,

    /// Print one JSON object instead of a table; FORMATS.md says what is in it
    #[arg(long)]
    pub json: bool,

    /// Say more: WWN, request size, scheduler, narrowest link, temperature, partitions
    #[arg(short, long)]
    pub verbose: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
}

/// `inhaul bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure: block devices (only ever read), directories or files
    ///
    /// A block device is opened for reading and cannot be harmed. Of a directory its largest files
    /// are read, and its small ones for the rate of small files.
    #[arg(
        value_name = "PATH",
        required_unless_present = "compare",
        conflicts_with = "compare",
        value_hint = ValueHint::AnyPath
    )]
    pub paths: Vec<PathBuf>,

    /// Measure nothing: compare two reports that --json has written, BEFORE and AFTER
    #[arg(
        long,
        num_args = 2,
        value_names = ["BEFORE", "AFTER"],
        conflicts_with_all = ["csv", "html", "write", "target"],
        value_hint = ValueHint::FilePath
    )]
    pub compare: Vec<PathBuf>,

    /// Measure writing as well, to a scratch file in each directory that is named
    ///
    /// The file has no name where the file system can do that, and is gone when the bench ends,
    /// however it ends. Block devices are never written to.
    #[arg(long)]
    pub write: bool,

    /// Measure a copy of all of them into this directory: its writes, with a hash and without
    ///
    /// What is written is gone when the bench ends.
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub target: Option<PathBuf>,

    /// Largest scratch file of --write or --target, by default 1GiB; there must be room for it, and
    /// 64 MB more
    #[arg(long, value_name = "SIZE")]
    pub scratch: Option<String>,

    /// Size of requests, instead of the one that is found; a multiple of 4096, at most 1MiB
    #[arg(long, value_name = "SIZE")]
    pub block: Option<String>,

    /// Requests at once, instead of the number that is found; at most 32
    #[arg(long, value_name = "COUNT")]
    pub depth: Option<usize>,

    /// Measure each by itself, not all of them at once
    #[arg(long)]
    pub alone: bool,

    /// Seconds that each sample is counted for, after a warm-up of a quarter of that
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub seconds: String,

    /// Samples behind each figure; at least 3
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub repetitions: usize,

    /// How long a drive may say nothing before it is left and the others are gone on with; 0 for ever
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub stall_timeout: String,

    /// How to read and write
    #[arg(long, value_name = "HOW", value_enum, default_value_t = IoArg::Auto)]
    pub io: IoArg,

    /// Memory for buffers, over all drives
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory: String,

    /// What to print on standard output
    #[arg(long, value_name = "FORM", value_enum, default_value_t = FormArg::Table)]
    pub output_format: FormArg,

    /// Short for --output-format json; FORMATS.md says what is in it
    #[arg(long, conflicts_with_all = ["output_format", "csv"])]
    pub json: bool,

    /// Short for --output-format csv
    #[arg(long, conflicts_with = "output_format")]
    pub csv: bool,

    /// Write a page with charts to FILE as well, which must not be there yet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,

    /// Neither compare drives with what they gave before nor remember what they give
    ///
    /// Otherwise the figures of each drive that is named as a whole (/dev/sda; not a partition, a
    /// volume or a directory) are kept by its serial number in $XDG_STATE_HOME/inhaul/bench, by
    /// default below ~/.local/state. Those of a bench that was stopped, or with --block or --depth,
    /// are not.
    #[arg(long)]
    pub no_history: bool,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,

    /// How to show progress, on standard error
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto)]
    pub progress: ProgressArg,

    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
}

/// `--output-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormArg {
    /// For people
    Table,
    /// Everything, as one object on one line
    Json,
    /// A line for each figure
    Csv,
    /// In the shape of fio's JSON, for tools that read that
    Fio,
}
