//! From what was typed after `bench` to what is meant.

use std::path::PathBuf;

use crate::bench::BenchJob;
use crate::bench::job::{BLOCK_MAX, BLOCK_STEP, DEPTH_MAX, REPETITIONS_MIN};
use crate::cli::args::ProgressArg;
use crate::cli::args_shelf::{BenchArgs, FormArg};
use crate::cli::escape::escape;
use crate::cli::resolve::{Misuse, Progress, Surroundings, color, io, memory, stall};
use crate::cli::units::{SizeError, parse_size};

/// Shortest and longest sample: below, the clock and the start weigh too much.
const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// Least `--scratch`, and what it is unless it is given.
const SCRATCH_MIN: u64 = 16 << 20;
const SCRATCH_USUAL: u64 = 1 << 30;

/// What a bench is to do and to show.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchCommand {
    /// What to measure.
    pub job: BenchJob,
    /// Two reports to compare, and nothing to measure.
    pub compare: Option<(PathBuf, PathBuf)>,
    /// What is printed on standard output.
    pub form: Form,
    /// Where a page with charts goes.
    pub html: Option<PathBuf>,
    /// Whether drives are compared with what they gave before, and remembered.
    pub history: bool,
    /// How progress is shown.
    pub progress: Progress,
    /// When to use colour.
    pub color: anstream::ColorChoice,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// The report as it is.
    Json,
    /// A line for each figure.
    Csv,
    /// In the shape of fio's.
    Fio,
}

/// Turns arguments into a command.
///
/// # Errors
/// What is wrong with them.
pub fn resolve(args: BenchArgs, world: &Surroundings<'_>) -> Result<BenchCommand, Misuse> {
    if args.repetitions < REPETITIONS_MIN {
        return Err(Misuse {
            what: format!("--repetitions {}", args.repetitions),
            why: "fewer than 3 samples have no median, and one alone may be chance".to_owned(),
            next: "leave it out for 3, or give more".to_owned(),
        });
    }
    let form = match args.output_format {
        _ if args.json => Form::Json,
        _ if args.csv => Form::Csv,
        FormArg::Table => Form::Table,
        FormArg::Json => Form::Json,
        FormArg::Csv => Form::Csv,
        FormArg::Fio => Form::Fio,
    };
    let compare = match <[PathBuf; 2]>::try_from(args.compare) {
        Ok([before, after]) => Some((before, after)),
        Err(_) => None,
    };
    if compare.is_some() && !matches!(form, Form::Table | Form::Json) {
        return Err(Misuse {
            what: "--compare with --output-format".to_owned(),
            why: "a comparison is a table, or JSON".to_owned(),
            next: "leave --output-format out, or give json".to_owned(),
        });
    }
    let writes = args.write || args.target.is_some();
    Ok(BenchCommand {
        compare,
        html: args.html,
        history: !args.no_history,
        job: BenchJob {
            paths: args.paths,
            target: args.target,
            write: args.write,
            scratch_bytes: scratch(args.scratch.as_deref(), writes)?,
            seconds: seconds(&args.seconds)?,
            repetitions: args.repetitions,
            block: args.block.as_deref().map(block).transpose()?,
            depth: args.depth.map(depth).transpose()?,
            stall: stall(&args.stall_timeout)?,
            together: !args.alone,
            io: io(args.io),
            memory: memory(&args.memory)?,
        },
        form,
        progress: progress(args.quiet, args.progress, world),
        color: color(args.color),
    })
}

fn scratch(text: Option<&str>, writes: bool) -> Result<u64, Misuse> {
    let Some(text) = text else {
        return Ok(SCRATCH_USUAL);
    };
    let what = format!("--scratch {}", escape(text.as_bytes()));
    if !writes {
        return Err(Misuse {
            what,
            why: "it is the size of what is written, and nothing is: there is neither --write nor \
                  --target"
                .to_owned(),
            next: "add --write to measure writing to the directories that are named, or --target \
                   DIRECTORY for a copy into one; else leave it out"
                .to_owned(),
        });
    }
    let next = "leave it out for 1GiB, or give more, such as 4GiB".to_owned();
    match parse_size(text) {
        Ok(bytes) if bytes >= SCRATCH_MIN => Ok(bytes),
        Ok(_) => Err(Misuse {
            what,
            why: "less than 16MiB is written before a clock can tell".to_owned(),
            next,
        }),
        Err(SizeError(why)) => Err(Misuse { what, why, next }),
    }
}

fn block(text: &str) -> Result<usize, Misuse> {
    let misuse = |why: String| Misuse {
        what: format!("--block {}", escape(text.as_bytes())),
        why,
        next: "leave it out for the size that suits the drive, or give one such as 256KiB"
            .to_owned(),
    };
    let bytes = parse_size(text).map_err(|SizeError(why)| misuse(why))?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes == 0 || bytes > BLOCK_MAX || !bytes.is_multiple_of(BLOCK_STEP) {
        let why = "requests are multiples of 4KiB and at most 1MiB, as those of a copy";
        return Err(misuse(why.to_owned()));
    }
    Ok(bytes)
}

fn depth(count: usize) -> Result<usize, Misuse> {
    if (1..=DEPTH_MAX).contains(&count) {
        return Ok(count);
    }
    Err(Misuse {
        what: format!("--depth {count}"),
        why: format!("between 1 and {DEPTH_MAX} requests are under way at once"),
        next: "leave it out for the number that suits the drive, or give one in between".to_owned(),
    })
}

fn seconds(text: &str) -> Result<f64, Misuse> {
    let parsed: Option<f64> = text.parse().ok();
    parsed
        .filter(|seconds| SECONDS.contains(seconds))
        .ok_or_else(|| Misuse {
            what: format!("--seconds {}", escape(text.as_bytes())),
            why: "it is a number from 0.1 to 3600: shorter samples say nothing".to_owned(),
            next: "leave it out for 1, or give another".to_owned(),
        })
}

fn progress(quiet: bool, asked: ProgressArg, world: &Surroundings<'_>) -> Progress {
    match asked {
        _ if quiet => Progress::None,
        ProgressArg::None => Progress::None,
        ProgressArg::Auto | ProgressArg::Bars if world.stderr_is_terminal => Progress::Bars,
        ProgressArg::Auto | ProgressArg::Bars | ProgressArg::Plain => Progress::Plain,
    }
}
