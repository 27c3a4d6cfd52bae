//! What the user typed, and no more. Checks and defaults are in [`crate::cli::resolve`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::args_shelf::{BenchArgs, DrivesArgs};
use super::help;

/// Copy many drives at once into target storage, hashing every byte on the way
///
/// inhaul reads many drives at once, each with a thread, a ring and buffers of its own, and writes
/// everything into one target directory. Every byte is hashed with BLAKE3 between the read and the
/// write. A file gets its final name only when its bytes are durable, and exit code 0 means that
/// all of it is: bytes, names, directories and the manifest.
#[derive(Debug, Parser)]
#[command(
    name = "inhaul",
    version,
    after_help = help::SHORT_HINT,
    after_long_help = help::root(),
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy sources into a target directory, hashing on the way
    ///
    /// Copies every SOURCE into the directory TARGET. Sources on different drives are read at the
    /// same time. Names, permissions, owners, times, extended attributes and ACLs are kept;
    /// symbolic links are copied as links and never followed; hard links stay linked. Other file
    /// systems mounted inside a source are not entered.
    ///
    /// Problems with single files are reported and the rest goes on; the list is at the end, in
    /// the report, and behind the exit code.
    #[command(
        override_usage = "inhaul copy [OPTIONS] <SOURCE>... <TARGET>",
        after_help = help::COPY_SHORT,
        after_long_help = help::copy()
    )]
    Copy(Box<CopyArgs>),
    /// Go on with a copy that was cut short
    ///
    /// Does what is left of a copy that was stopped, killed or lost its power, with the options it
    /// was begun with. What it finished and what has not changed since is not copied again; a large
    /// file goes on inside. Its sources are looked for where they are mounted now. Giving the same
    /// copy command again does the same.
    #[command(after_help = help::RESUME_SHORT, after_long_help = help::resume())]
    Resume(ResumeArgs),
    /// Print the BLAKE3 digest of every file, reading drives in parallel
    ///
    /// Prints one line for each file on standard output, in the form that `b3sum -c` reads.
    /// Nothing is written anywhere else. The summary goes to standard error.
    #[command(after_help = help::HASH_SHORT, after_long_help = help::hash())]
    Hash(HashArgs),
    /// Read a target again and compare every file with its recorded digest
    ///
    /// Reads every file that a copy recorded in TARGET/.inhaul and compares its bytes with the
    /// digest taken when it was read from its source.
    #[command(after_help = help::VERIFY_SHORT, after_long_help = help::verify())]
    Verify(VerifyArgs),
    /// List every drive that is attached, and what drives share
    ///
    /// Lists size, model, serial number, block sizes, queue, controller, mounts and what the kernel
    /// has noticed of each drive, and the links that several drives share, with their ceilings.
    /// Reads what the kernel publishes and no drive; needs no privileges.
    #[command(after_help = help::DRIVES_SHORT, after_long_help = help::drives())]
    Drives(DrivesArgs),
    /// Measure what drives give, one by one and together, and say what limits them
    ///
    /// Reads by the same lanes and buffers as a copy: finds the request size and queue depth where
    /// more brings nothing, measures rate, latency, zones and small files there, then reads 1, 2,
    /// 4 ... all of them at once, and says in words what stands out: a slow drive, a shared link,
    /// and about how long a copy would take.
    #[command(after_help = help::BENCH_SHORT, after_long_help = help::bench())]
    Bench(Box<BenchArgs>),
    /// Print the manual page of all commands as roff
    #[command(after_long_help = help::MAN)]
    Man,
    /// Print a completion script for a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// The shell to write it for
        shell: clap_complete::Shell,
    },
}

/// `inhaul copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The SOURCEs to copy (directories or files), and last the TARGET directory
    ///
    /// SOURCE `/mnt/d1` lands as TARGET/d1; `/mnt/d1/`, with a slash at the end, puts what is in it
    /// directly into TARGET.
    // One argument, because clap takes no option between two when the first is repeatable.
    #[arg(
        value_name = "PATH",
        num_args = 1..,
        required = true,
        value_hint = ValueHint::AnyPath
    )]
    pub paths: Vec<PathBuf>,

    /// Show what would be copied and whether it fits; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// What to do with a file whose name is taken in TARGET
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = ExistingArg::Refuse)]
    pub existing: ExistingArg,

    /// Keep what is cleared for safety, separated by commas
    ///
    /// Everything else (mode, owner, times, extended attributes, ACLs) is kept in any case.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    pub preserve: Vec<PreserveArg>,

    /// Recreate FIFOs, sockets and device nodes, which are skipped otherwise
    #[arg(long)]
    pub special: bool,

    /// What to read again once it is copied, and compare with the digests taken on the way
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = ReadAgainArg::None)]
    pub verify: ReadAgainArg,

    /// Go on in TARGET2 with what TARGET has no room for; may be given several times, in order
    ///
    /// The names are the same there; each target has a manifest of what it has, and places.ndjson in
    /// the folder of the job says where each file is. Hard links between targets become files.
    #[arg(long, value_name = "TARGET2", value_hint = ValueHint::DirPath)]
    pub spill: Vec<PathBuf>,

    /// Keep what can be read of a file with unreadable spots, as NAME.partial
    ///
    /// Zeros stand where it cannot be read; the report lists the ranges. Such a file never counts as
    /// copied: the exit code is 3, its drive is not safe to release, and the next run tries again.
    #[arg(long)]
    pub salvage: bool,

    /// How long to wait for a lost drive to be mounted again when the others are through; 0 for not
    /// at all
    ///
    /// Counted from when it was lost. If the same file system is mounted again by then, at its old
    /// path or another, what is missing of it is copied by this run; else by the next.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        help_heading = "Speed and memory"
    )]
    pub grace: String,

    /// Accepted for habit; does nothing
    ///
    /// Directories are always entered, and mode, owner, times, links, extended attributes and ACLs
    /// are always kept.
    #[arg(short = 'a', long)]
    pub archive: bool,

    /// Absent on purpose: see the message it gives.
    #[arg(
        long,
        hide = true,
        aliases = ["del", "delete-before", "delete-during", "delete-after", "delete-excluded"]
    )]
    pub delete: bool,

    /// Choosing files.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Copy only the paths listed in FILE, relative to each SOURCE; `-` for standard input
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        allow_hyphen_values = true,
        help_heading = "Choosing files"
    )]
    pub files_from: Option<PathBuf>,

    /// Lists in files end each entry with NUL, not with a line end
    #[arg(short = '0', long, help_heading = "Choosing files")]
    pub from0: bool,

    /// Speed and memory.
    #[command(flatten)]
    pub engine: EngineArgs,

    /// What is shown.
    #[command(flatten)]
    pub display: DisplayArgs,
}

/// `inhaul resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The TARGET of the copy, the folder of its job, or the job's name
    ///
    /// Without it, the copy into the working directory is meant, or else the only one that this
    /// user has not finished and whose TARGET is there.
    #[arg(value_name = "JOB", value_hint = ValueHint::AnyPath)]
    pub job: Option<PathBuf>,

    /// What to read again once it is copied [default: as it was begun]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub verify: Option<ReadAgainArg>,

    /// Go on in TARGET2 with what the others have no room for; may be given several times [default:
    /// as it was begun]
    #[arg(long, value_name = "TARGET2", value_hint = ValueHint::DirPath)]
    pub spill: Vec<PathBuf>,

    /// Keep what can be read of a file with unreadable spots, as NAME.partial [default: as it was
    /// begun]
    #[arg(long)]
    pub salvage: bool,

    /// How to read and write [default: as it was begun]
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        help_heading = "Speed and memory"
    )]
    pub io: Option<IoArg>,

    /// Memory for buffers, over all drives [default: as it was begun]
    #[arg(long, value_name = "SIZE", help_heading = "Speed and memory")]
    pub memory: Option<String>,

    /// Read no more than this a second over all drives; 0 for no limit [default: as it was begun]
    #[arg(long, value_name = "RATE", help_heading = "Speed and memory")]
    pub bwlimit: Option<String>,

    /// How long to wait for a lost drive to be mounted again when the others are through; 0 for not
    /// at all [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Speed and memory")]
    pub grace: Option<String>,

    /// How long a drive may be silent before it is quarantined; 0 for ever [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Speed and memory")]
    pub stall_timeout: Option<String>,

    /// Begin without what drives gave when they were measured by bench
    ///
    /// Otherwise a lane begins with the queue that suited its drive then, and the time that is left
    /// is told from the first second on. Of one resume alone: it is not in the record of the job.
    #[arg(long, help_heading = "Speed and memory")]
    pub no_history: bool,

    /// What is shown.
    #[command(flatten)]
    pub display: DisplayArgs,
}

/// `inhaul hash`.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// Files and directories to read
    #[arg(value_name = "PATH", required = true, value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,

    /// Choosing files.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Lists in files end each entry with NUL, not with a line end
    #[arg(short = '0', long, help_heading = "Choosing files")]
    pub from0: bool,

    /// Speed and memory.
    #[command(flatten)]
    pub engine: EngineArgs,

    /// What is shown.
    #[command(flatten)]
    pub display: DisplayArgs,
}

/// `inhaul verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The directory that was copied into
    #[arg(value_name = "TARGET", value_hint = ValueHint::DirPath)]
    pub target: PathBuf,

    /// Which job to verify: the name of its folder in TARGET/.inhaul [default: the newest]
    #[arg(long, value_name = "NAME")]
    pub job: Option<OsString>,

    /// Write blocks that are not as recorded anew, from the sources given with --from
    ///
    /// Each block of 1 MiB that differs, or cannot be read, is read again from its source, compared
    /// with its record, written, synced and read back. Nothing else is written.
    #[arg(long, requires = "from")]
    pub repair: bool,

    /// A SOURCE of the copy to repair from, as it is mounted now; repeatable
    #[arg(long, value_name = "SOURCE", requires = "repair", value_hint = ValueHint::AnyPath)]
    pub from: Vec<PathBuf>,

    /// Speed and memory.
    #[command(flatten)]
    pub engine: EngineArgs,

    /// What is shown.
    #[command(flatten)]
    pub display: DisplayArgs,
}

/// Options that choose files. Their order between each other is read from clap's indices.
#[derive(Debug, Args)]
#[command(next_help_heading = "Choosing files")]
pub struct FilterArgs {
    /// Leave out what matches; repeatable
    ///
    /// The first pattern that matches decides; see "Filters" below.
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append, allow_hyphen_values = true)]
    pub exclude: Vec<OsString>,

    /// Keep what matches, against a later --exclude; repeatable
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append, allow_hyphen_values = true)]
    pub include: Vec<OsString>,

    /// Read patterns to leave out from FILE, one a line; `-` for standard input
    ///
    /// Empty lines and lines that begin with `#` or `;` are ignored. A line may begin with `- `
    /// (leave out, as without it) or with `+ ` (keep).
    #[arg(
        long,
        value_name = "FILE",
        action = ArgAction::Append,
        value_hint = ValueHint::FilePath,
        allow_hyphen_values = true
    )]
    pub exclude_from: Vec<PathBuf>,
}

/// Options of the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Speed and memory")]
pub struct EngineArgs {
    /// How to read and write
    #[arg(long, value_name = "HOW", value_enum, default_value_t = IoArg::Auto)]
    pub io: IoArg,

    /// Memory for buffers, over all drives
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory: String,

    /// Read no more than this a second over all drives, such as 500MB; 0 for no limit
    #[arg(long, value_name = "RATE")]
    pub bwlimit: Option<String>,

    /// How long a drive may be silent before it is quarantined, such as 2m; 0 for ever
    ///
    /// The other drives never wait for it. After seven times as long without an answer (longer than
    /// the kernel itself waits for a drive by default) it is given up: what is not copied of it is
    /// reported (exit code 3), and the run ends without it. A SOURCE that does not answer for so long
    /// when the run begins is left out. For a TARGET that is silent the run waits, and says so.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub stall_timeout: String,

    /// Begin without what drives gave when they were measured by bench
    ///
    /// Otherwise a lane begins with the queue that suited its drive then, and the time that is left
    /// is told from the first second on.
    #[arg(long)]
    pub no_history: bool,
}

/// Options of the display.
#[derive(Debug, Args)]
#[command(next_help_heading = "Display")]
pub struct DisplayArgs {
    /// Say less: no progress, no summary of a success; -qq: errors alone
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,

    /// Say more: what was skipped, how each mount is accessed
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// How to show progress, on standard error
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto)]
    pub progress: ProgressArg,

    /// Short for --progress bars
    #[arg(short = 'P', conflicts_with = "progress")]
    pub bars: bool,

    /// Print events as JSON on standard output, one object a line
    #[arg(long)]
    pub json: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
}

/// `--io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IoArg {
    /// io_uring where the kernel allows it, else blocking calls
    Auto,
    /// io_uring, or fail
    Uring,
    /// pread and pwrite on threads
    Blocking,
}

/// `--existing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExistingArg {
    /// Leave it and report the new one as not copied (exit code 3)
    Refuse,
    /// Leave it and go on: how a stopped copy is continued
    Skip,
    /// Replace it, in one step, once the new one is durable
    Overwrite,
}

/// `--verify` of `copy` and `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadAgainArg {
    /// Nothing: bytes are hashed between the read and the write, and not looked at again
    None,
    /// Every file is read back from the target's medium, past the page cache
    Target,
    /// That, and the sources are read a second time, too
    Both,
}

/// `--preserve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreserveArg {
    /// Set-user-id and set-group-id bits of files
    Setid,
    /// File capabilities (security.capability)
    Caps,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// Bars on a terminal, else plain
    Auto,
    /// One line for each drive, redrawn in place
    Bars,
    /// A line every 30 seconds and one for each drive that ends
    Plain,
    /// Nothing
    None,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
