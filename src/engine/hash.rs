//! `hash`: the digests of files, read by the same lanes as a copy.

use std::sync::Arc;
use std::time::SystemTime;

use crossbeam::channel::bounded;

use super::context::Context;
use super::copy::{choose, hash_pool, raise_descriptor_limit};
use super::feed::Feed;
use super::job::{Existing, HashJob};
use super::ledger::Telling;
use super::limit::Limiter;
use super::outcomes::Outcomes;
use super::report::Report;
use super::run::{LaneSetup, RunSettings, run};
use super::session::Session;
use super::summary::{Heading, LaneFacts, report};
use super::telemetry::Telemetry;
use crate::error::Error;
use crate::plan::{Budget, lanes, open_sources};
use crate::scan::{Order, WalkOptions};
use crate::target::{NullTarget, Policy};
use crate::topology::Topology;

/// Hashes files; each digest goes to [`super::Observer::hashed`] as soon as it is known.
///
/// # Errors
/// What keeps the whole job from starting; everything later is in the report.
pub fn hash(job: &HashJob, session: &Session) -> Result<Report, Error> {
    raise_descriptor_limit();
    let started = SystemTime::now();
    let (sender, finished) = bounded(1);
    let lanes = lanes(open_sources(&job.paths)?, &Topology::live()?, &sender)?;
    drop(sender);
    let budget = Budget::new(job.engine.memory, lanes.len())?;
    let chosen = choose(&job.engine, session)?;
    let facts: Vec<LaneFacts> = lanes.iter().map(LaneFacts::of).collect();
    let telemetry = Arc::new(Telemetry::new(facts.iter().map(LaneFacts::view).collect()));
    let context = Context {
        session: session.clone(),
        target: Arc::new(NullTarget),
        outcomes: Outcomes::new(session.clone(), Arc::clone(&telemetry), None),
        links: None,
        hash: hash_pool(&job.engine)?,
        limit: Limiter::new(job.engine.bwlimit),
        existing: Existing::Refuse,
        policy: Policy {
            setid: false,
            caps: false,
            owner: false,
        },
        special: false,
        copies: false,
        target_lost: false.into(),
    };
    let setups = lanes
        .into_iter()
        .map(|plan| LaneSetup {
            rotational: plan.rotational,
            registered_writes: false,
            filler: Box::new(move |feed: &mut Feed<'_>| {
                let order = if plan.rotational == Some(false) {
                    Order::Inode
                } else {
                    Order::Physical
                };
                let options = WalkOptions {
                    filter: &job.filter,
                    files_from: None,
                    order,
                    window_bytes: budget.window_bytes,
                };
                feed.scan(&plan.trees, &options);
            }),
        })
        .collect();
    let settings = RunSettings {
        chosen,
        choice: job.engine.io,
        slots_per_lane: budget.slots_per_lane,
    };
    let mut ledger = Telling {
        observer: Arc::clone(&session.observer),
    };
    session.observer.started(&telemetry);
    let ran = run(
        &context,
        &telemetry,
        setups,
        settings,
        &mut ledger,
        &finished,
    );
    session.observer.ended();
    let heading = Heading {
        command: "hash",
        ..Heading::default()
    };
    Ok(report(
        heading, &context, &telemetry, &facts, &ran?, started,
    ))
}
