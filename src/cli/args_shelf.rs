//! What the user typed of the commands that look at drives: `drives` and `bench`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::args::ColorArg;

/// `inhaul drives`.
#[derive(Debug, Args)]
pub struct DrivesArgs {
    /// Only the drives that these directories, files or block devices are on
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,

    /// Print one JSON object instead of a table; docs/formats.md says what is in it
    #[arg(long)]
    pub json: bool,

    /// Say more: WWN, request size, scheduler, narrowest link, temperature, partitions
    #[arg(short, long)]
    pub verbose: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
}
