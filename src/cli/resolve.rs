//! From what was typed to what is meant: every default and every check, once.
//!
//! **Boundary.** Reads the lists the command line names and nothing else; opens no source, no
//! target.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;

use super::args::{
    Cli, ColorArg, Command, CopyArgs, DisplayArgs, EngineArgs, ExistingArg, FilterArgs, HashArgs,
    IoArg, PreserveArg, ProgressArg, ReadAgainArg, ResumeArgs, VerifyArgs,
};
use super::bench::{self, BenchCommand};
pub use super::changes::Changes;
use super::drives::DrivesJob;
use super::escape::{escape, escape_path};
use super::units::{SizeError, parse_rate, parse_size, parse_time, size};
use crate::engine::job::{
    CopyJob, EngineSettings, Existing, HashJob, IoChoice, Preserve, Verify, VerifyJob,
};
use crate::error::Error;
use crate::scan::{FilesFrom, Filter, Rule};

/// Least `--memory`: below 16 MiB not even one drive has enough reads under way to be kept busy.
pub const MEMORY_MIN: u64 = 16 << 20;

/// A command line that cannot be done, in words for its author. Exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misuse {
    /// Which argument.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// What to type instead.
    pub next: String,
}

impl Misuse {
    fn new(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Task {
    /// `copy`.
    Copy {
        /// The job.
        job: CopyJob,
        /// Whether only the plan is wanted.
        dry_run: bool,
        /// What is shown.
        display: DisplaySettings,
    },
    /// `resume`.
    Resume {
        /// Which job, as it was typed.
        job: Option<PathBuf>,
        /// What is to be otherwise than it was begun.
        changes: Changes,
        /// What is shown.
        display: DisplaySettings,
    },
    /// `hash`.
    Hash {
        /// The job.
        job: HashJob,
        /// What is shown.
        display: DisplaySettings,
    },
    /// `verify`.
    Verify {
        /// The job.
        job: VerifyJob,
        /// What is shown.
        display: DisplaySettings,
    },
    /// `drives`.
    Drives(DrivesJob),
    /// `bench`.
    Bench(Box<BenchCommand>),
    /// `man`.
    Man,
    /// `completions`.
    Completions(clap_complete::Shell),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// One line for each drive, redrawn in place.
    Bars,
    /// A line every 30 s and one for each drive that ends.
    Plain,
    /// Nothing.
    None,
}

/// What is shown, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisplaySettings {
    /// How often `-v` was given, less how often `-q` was.
    pub verbosity: i16,
    /// How progress is shown.
    pub progress: Progress,
    /// Whether events go to standard output as JSON.
    pub json: bool,
    /// When to use colour.
    pub color: anstream::ColorChoice,
}

/// What resolving needs to know of the world, so that tests can say it.
pub struct Surroundings<'a> {
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard error is a terminal that understands cursor movement.
    pub stderr_is_terminal: bool,
    /// Reads a list whole; `-` is standard input.
    pub read: &'a mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("stdout_is_terminal", &self.stdout_is_terminal)
            .field("stderr_is_terminal", &self.stderr_is_terminal)
            .finish_non_exhaustive()
    }
}

/// Turns arguments into a task. `matches` are the matches `cli` was made from.
///
/// # Errors
/// What is wrong with the command line.
pub fn resolve(
    cli: Cli,
    matches: &ArgMatches,
    world: &mut Surroundings<'_>,
) -> Result<Task, Misuse> {
    let matches = matches.subcommand().map_or(matches, |(_, inner)| inner);
    match cli.command {
        Command::Copy(args) => copy(*args, matches, world),
        Command::Resume(args) => resume(args, world),
        Command::Hash(args) => hash(args, matches, world),
        Command::Verify(args) => verify(args, world),
        Command::Drives(args) => Ok(Task::Drives(DrivesJob {
            paths: args.paths,
            json: args.json,
            verbose: args.verbose,
            color: color(args.color),
        })),
        Command::Bench(args) => Ok(Task::Bench(Box::new(bench::resolve(*args, world)?))),
        Command::Man => Ok(Task::Man),
        Command::Completions { shell } => Ok(Task::Completions(shell)),
    }
}

fn copy(
    mut args: CopyArgs,
    matches: &ArgMatches,
    world: &mut Surroundings<'_>,
) -> Result<Task, Misuse> {
    if args.delete {
        return Err(Misuse::new(
            "--delete is absent on purpose",
            "inhaul only ever adds to a target: no slip of a path may cost data",
            "copy without it; to mirror, run 'rsync -a --delete SOURCE/ TARGET' afterwards",
        ));
    }
    let target = args.paths.pop().unwrap_or_default();
    if args.paths.is_empty() {
        return Err(Misuse::new(
            format!(
                "there is a SOURCE or a TARGET, but not both: {}",
                escape_path(&target)
            ),
            "the last path is the TARGET, all before it are SOURCEs",
            "inhaul copy SOURCE... TARGET",
        ));
    }
    stdin_once(args.filter.exclude_from.iter().chain(&args.files_from))?;
    let filter = filter(&args.filter, args.from0, matches, world)?;
    let files_from = match &args.files_from {
        Some(path) => {
            let list = read("--files-from", path, world)?;
            let parsed = FilesFrom::parse(&list, args.from0)
                .map_err(|e| refused(&format!("--files-from {}", escape_path(path)), &e))?;
            Some(Arc::new(parsed))
        }
        None => None,
    };
    let job = CopyJob {
        sources: args.paths,
        target,
        spill: args.spill,
        filter: Arc::new(filter),
        files_from,
        existing: match args.existing {
            ExistingArg::Refuse => Existing::Refuse,
            ExistingArg::Skip => Existing::Skip,
            ExistingArg::Overwrite => Existing::Overwrite,
        },
        preserve: Preserve {
            setid: args.preserve.contains(&PreserveArg::Setid),
            caps: args.preserve.contains(&PreserveArg::Caps),
            special: args.special,
        },
        salvage: args.salvage,
        verify: read_again(args.verify),
        resume: None,
        engine: EngineSettings {
            grace: grace(&args.grace)?,
            ..engine(&args.engine)?
        },
    };
    Ok(Task::Copy {
        job,
        dry_run: args.dry_run,
        display: display(&args.display, world),
    })
}

fn read_again(arg: ReadAgainArg) -> Verify {
    match arg {
        ReadAgainArg::None => Verify::None,
        ReadAgainArg::Target => Verify::Target,
        ReadAgainArg::Both => Verify::Both,
    }
}

fn resume(args: ResumeArgs, world: &Surroundings<'_>) -> Result<Task, Misuse> {
    Ok(Task::Resume {
        job: args.job,
        changes: Changes {
            verify: args.verify.map(read_again),
            spill: args.spill,
            salvage: args.salvage,
            io: args.io.map(io),
            memory: args.memory.as_deref().map(memory).transpose()?,
            bwlimit: args.bwlimit.as_deref().map(bwlimit).transpose()?,
            stall: args.stall_timeout.as_deref().map(stall).transpose()?,
            grace: args.grace.as_deref().map(grace).transpose()?,
            no_history: args.no_history,
        },
        display: display(&args.display, world),
    })
}

fn hash(
    args: HashArgs,
    matches: &ArgMatches,
    world: &mut Surroundings<'_>,
) -> Result<Task, Misuse> {
    stdin_once(args.filter.exclude_from.iter())?;
    let filter = filter(&args.filter, args.from0, matches, world)?;
    Ok(Task::Hash {
        job: HashJob {
            paths: args.paths,
            filter: Arc::new(filter),
            engine: engine(&args.engine)?,
        },
        display: display(&args.display, world),
    })
}

fn verify(args: VerifyArgs, world: &Surroundings<'_>) -> Result<Task, Misuse> {
    Ok(Task::Verify {
        job: VerifyJob {
            target: args.target,
            job: args.job.map(|name| job_name(&name)).transpose()?,
            repair_from: args.from,
            engine: engine(&args.engine)?,
        },
        display: display(&args.display, world),
    })
}

/// Returns the name of a job; it must be a folder directly in `.inhaul`, never a way out of it.
fn job_name(name: &OsStr) -> Result<String, Misuse> {
    match name.to_str() {
        Some(text) if !text.is_empty() && text != "." && text != ".." && !text.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err(Misuse::new(
            format!("--job {}", escape(name.as_bytes())),
            "this is not the name of a job",
            "give the name of a folder in TARGET/.inhaul, or leave --job out for the newest",
        )),
    }
}

fn engine(args: &EngineArgs) -> Result<EngineSettings, Misuse> {
    Ok(EngineSettings {
        io: io(args.io),
        memory: memory(&args.memory)?,
        bwlimit: args.bwlimit.as_deref().map_or(Ok(None), bwlimit)?,
        stall: stall(&args.stall_timeout)?,
        history: !args.no_history,
        ..EngineSettings::default()
    })
}

pub(super) fn io(arg: IoArg) -> IoChoice {
    match arg {
        IoArg::Auto => IoChoice::Auto,
        IoArg::Uring => IoChoice::Uring,
        IoArg::Blocking => IoChoice::Blocking,
    }
}

pub(super) fn memory(text: &str) -> Result<u64, Misuse> {
    let memory = parse_size(text).map_err(|why| not_a_size("--memory", text, &why))?;
    if memory < MEMORY_MIN {
        return Err(Misuse::new(
            format!("--memory {text} is {}", size(memory)),
            "this is less than 16MiB, too little to keep even one drive busy",
            "leave --memory out for 512MiB, or give more",
        ));
    }
    Ok(memory)
}

fn bwlimit(text: &str) -> Result<Option<u64>, Misuse> {
    parse_rate(text).map_err(|why| not_a_size("--bwlimit", text, &why))
}

pub(super) fn stall(text: &str) -> Result<Option<Duration>, Misuse> {
    parse_time(text).map_err(|why| not_a_time("--stall-timeout", text, &why, "for ever"))
}

fn grace(text: &str) -> Result<Option<Duration>, Misuse> {
    parse_time(text).map_err(|why| not_a_time("--grace", text, &why, "for not at all"))
}

fn not_a_time(option: &str, text: &str, why: &str, zero: &str) -> Misuse {
    Misuse::new(
        format!("{option} {}", escape(text.as_bytes())),
        escape(why.as_bytes()),
        format!("write a number and a unit: 30s, 2m; 0 {zero}"),
    )
}

fn not_a_size(option: &str, text: &str, SizeError(why): &SizeError) -> Misuse {
    Misuse::new(
        format!("{option} {}", escape(text.as_bytes())),
        escape(why.as_bytes()),
        "write a number and a unit: 512MiB or 512M (2^20), 1.5GB (10^9)",
    )
}

fn display(args: &DisplayArgs, world: &Surroundings<'_>) -> DisplaySettings {
    let verbosity = i16::from(args.verbose) - i16::from(args.quiet);
    let asked = if args.bars {
        ProgressArg::Bars
    } else {
        args.progress
    };
    let progress = match asked {
        _ if verbosity < 0 => Progress::None,
        ProgressArg::None => Progress::None,
        // Events and bars on one screen would overwrite each other.
        ProgressArg::Auto if args.json && world.stdout_is_terminal => Progress::None,
        // Without a terminal, cursor movement is noise in somebody's log.
        ProgressArg::Auto | ProgressArg::Bars if world.stderr_is_terminal => Progress::Bars,
        ProgressArg::Auto | ProgressArg::Bars | ProgressArg::Plain => Progress::Plain,
    };
    DisplaySettings {
        verbosity,
        progress,
        json: args.json,
        color: color(args.color),
    }
}

pub(super) fn color(arg: ColorArg) -> anstream::ColorChoice {
    match arg {
        ColorArg::Auto => anstream::ColorChoice::Auto,
        ColorArg::Always => anstream::ColorChoice::Always,
        ColorArg::Never => anstream::ColorChoice::Never,
    }
}

fn filter(
    args: &FilterArgs,
    nul_separated: bool,
    matches: &ArgMatches,
    world: &mut Surroundings<'_>,
) -> Result<Filter, Misuse> {
    Filter::new(rules(args, nul_separated, matches, world)?)
        .map_err(|error| refused("a filter pattern", &error))
}

/// Returns all rules in the order they were typed, whichever option brought them.
///
/// clap collects the values of each option apart; its indices say where each one stood.
///
/// # Errors
/// A list that cannot be read.
pub fn rules(
    args: &FilterArgs,
    nul_separated: bool,
    matches: &ArgMatches,
    world: &mut Surroundings<'_>,
) -> Result<Vec<Rule>, Misuse> {
    let bytes = |pattern: &OsString| pattern.clone().into_vec();
    let at = |id: &str| matches.indices_of(id).into_iter().flatten();
    let mut placed: Vec<(usize, Vec<Rule>)> = Vec::new();
    for (place, pattern) in at("include").zip(&args.include) {
        placed.push((place, vec![Rule::Include(bytes(pattern))]));
    }
    for (place, pattern) in at("exclude").zip(&args.exclude) {
        placed.push((place, vec![Rule::Exclude(bytes(pattern))]));
    }
    for (place, path) in at("exclude_from").zip(&args.exclude_from) {
        let list = read("--exclude-from", path, world)?;
        placed.push((place, listed_rules(&list, nul_separated)));
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().flat_map(|(_, rules)| rules).collect())
}

/// Returns the rules of an `--exclude-from` list.
pub fn listed_rules(list: &[u8], nul_separated: bool) -> Vec<Rule> {
    let end = if nul_separated { 0 } else { b'\n' };
    list.split(|byte| *byte == end)
        .filter_map(|line| match line {
            [] | [b'#' | b';', ..] => None,
            [b'+', b' ', pattern @ ..] => Some(Rule::Include(pattern.to_vec())),
            [b'-', b' ', pattern @ ..] | pattern => Some(Rule::Exclude(pattern.to_vec())),
        })
        .collect()
}

fn stdin_once<'a>(lists: impl Iterator<Item = &'a PathBuf>) -> Result<(), Misuse> {
    if lists.filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Misuse::new(
            "standard input ('-') is named for more than one list",
            "it can be read once",
            "put all lists but one into files",
        ));
    }
    Ok(())
}

fn read(option: &str, path: &Path, world: &mut Surroundings<'_>) -> Result<Vec<u8>, Misuse> {
    (world.read)(path).map_err(|error| {
        Misuse::new(
            format!("{option} {}", escape_path(path)),
            error.to_string(),
            "name a file that can be read, or '-' for standard input",
        )
    })
}

fn refused(what: &str, error: &Error) -> Misuse {
    let path = escape_path(error.path());
    let reason = escape(error.reason().as_bytes());
    let why = if path.is_empty() {
        reason
    } else {
        format!("{path}: {reason}")
    };
    Misuse::new(
        what,
        why,
        "correct it; 'inhaul copy --help' states the rules",
    )
}
