//! Measures inhaul against simulated drives and against its peers.
//!
//! `cargo bench --bench farm -- [SCENARIO...] [--small] [--runs N] [--only TOOL] [--json FILE]
//! [--work DIR] [--patience SECONDS] [--install] [--list]`; needs root. Each scenario builds its drives, runs every tool
//! on the same data in alternation with cold caches, and prints a table.

mod kit;
mod scenarios;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kit::table::{self, Outcome};
use kit::{Context as _, Plan, Result};
use scenarios::{ALL, Scenario};

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            table::warn(&format!("farm: {error}"));
            ExitCode::FAILURE
        }
    }
}

struct Asked {
    plan: Plan,
    names: Vec<String>,
    json: Option<PathBuf>,
    install: bool,
    list: bool,
}

fn arguments() -> Result<Asked> {
    let mut asked = Asked {
        plan: Plan {
            small: false,
            runs: 3,
            inhaul: PathBuf::from(env!("CARGO_BIN_EXE_inhaul")),
            work: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            patience: Duration::from_secs(60),
            stop: Arc::default(),
            only: Vec::new(),
        },
        names: Vec::new(),
        json: None,
        install: false,
        list: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            // Cargo says so to every bench program.
            "--bench" => {}
            "--small" => asked.plan.small = true,
            "--runs" => asked.plan.runs = value()?.parse().context("--runs")?,
            "--only" => asked.plan.only.push(value()?),
            "--inhaul" => asked.plan.inhaul = PathBuf::from(value()?),
            "--patience" => {
                let seconds = value()?.parse().context("--patience")?;
                asked.plan.patience = Duration::from_secs(seconds);
            }
            "--work" => asked.plan.work = PathBuf::from(value()?),
            "--json" => asked.json = Some(PathBuf::from(value()?)),
            "--install" => asked.install = true,
            "--list" => asked.list = true,
            name if ALL.iter().any(|scenario| scenario.name == name) => {
                asked.names.push(name.to_owned());
            }
            other => return Err(format!("unknown: {other}; --list names the scenarios")),
        }
    }
    Ok(asked)
}

fn bench() -> Result<bool> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let [switch, source, target] = words.as_slice()
        && switch == kit::one_by_one::SWITCH
    {
        kit::one_by_one::copy(source.as_ref(), target.as_ref())?;
        return Ok(true);
    }
    let asked = arguments()?;
    if asked.list {
        for scenario in &ALL {
            table::warn(&format!("{:12} {}", scenario.name, scenario.about));
        }
        return Ok(true);
    }
    if asked.install {
        for failure in kit::peers::install() {
            table::warn(&failure);
        }
    }
    if let Some(missing) = kit::host::missing() {
        return Err(missing);
    }
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let stop = Arc::clone(&asked.plan.stop);
        signal_hook::flag::register(signal, stop).context("signals")?;
    }
    std::fs::create_dir_all(&asked.plan.work).context("scratch space")?;
    table::warn(&kit::host::shape());
    let mut all = Outcome::default();
    let mut well = true;
    for scenario in chosen(&asked) {
        if asked.plan.stop.load(Ordering::Relaxed) {
            break;
        }
        match (scenario.run)(&asked.plan) {
            Ok(outcome) => {
                table::print(&outcome)?;
                all.add(outcome);
            }
            Err(error) => {
                table::warn(&format!("{}: {error}", scenario.name));
                well = false;
            }
        }
        if let Some(path) = &asked.json {
            let text = serde_json::to_string_pretty(&table::json(&all, asked.plan.small));
            std::fs::write(path, text.context("results")? + "\n").context("results")?;
        }
    }
    Ok(well)
}

fn chosen(asked: &Asked) -> impl Iterator<Item = &'static Scenario> {
    ALL.iter()
        .filter(|scenario| asked.names.is_empty() || asked.names.iter().any(|n| n == scenario.name))
}
