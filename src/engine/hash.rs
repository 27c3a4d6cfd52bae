//! `hash`: the digests of files, read by the same lanes as a copy.

use std::sync::Arc;
use std::time::SystemTime;

use crossbeam::channel::bounded;

use super::forecast::Forecast;
use super::job::HashJob;
use super::ledger::Telling;
use super::report::Report;
use super::roll_call::roll_call;
use super::run::{RunSettings, run};
use super::session::Session;
use super::setup::{ScanJob, choose, raise_descriptor_limit, reading_context, recall, scan_lanes};
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use crate::error::Error;
use crate::plan::{Budget, NamedLink, lanes, open_sources};
use crate::topology::Topology;

/// Hashes files; each digest goes to [`super::Observer::hashed`] as soon as it is known.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn hash(job: &HashJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let (sender, finished) = bounded(1);
    let call = roll_call(&job.paths, job.engine.stall, session)?;
    let lanes = lanes(
        open_sources(&call.here, NamedLink::Followed)?,
        &Topology::live()?,
        &sender,
    )?;
    drop(sender);
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let chosen = choose(&job.engine, session)?;
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    recall(&job.engine, session, &facts, &telemetry);
    let context = Arc::new(reading_context(session, &telemetry, &job.engine)?);
    let scan = ScanJob {
        filter: Arc::clone(&job.filter),
        files_from: None,
        window_bytes: budget.window_bytes,
        registered_writes: false,
    };
    let forecast = Forecast::start(&scan, &lanes, &telemetry);
    let setups = scan_lanes(lanes, &scan);
    let settings = RunSettings::new(chosen, &job.engine, budget.slots_per_lane);
    let mut ledger = Telling {
        observer: Arc::clone(&session.observer),
    };
    session.observer.started(&telemetry);
    for left_out in &call.silent {
        // There are no verdicts here.
        context.outcomes.source_left_out(&left_out.error, Some(&[]));
    }
    let ran = run(
        &context,
        &telemetry,
        setups,
        settings,
        &mut ledger,
        finished,
        None,
    );
    drop(forecast);
    session.observer.ended();
    let heading = Heading {
        command: "hash",
        ..Heading::default()
    };
    Ok(report(
        heading, &context, &telemetry, &facts, &ran?, started,
    ))
}
