//! Sources again: kept at hand while they are copied, to mend from and to read a second time.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::channel::bounded;

use super::context::Context;
use super::feed::Feed;
use super::job::CopyJob;
use super::ledger::{Comparing, Ledger};
use super::log::lasting;
use super::proof::{Judge, Proof};
use super::run::{LaneSetup, RunSettings, run};
use super::setup::reading_context;
use super::telemetry::{LaneCounters, LaneView, Telemetry};
use crate::beneath;
use crate::digest::Hash;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::Loaded;
use crate::plan::LanePlan;
use crate::scan::{Entry, Order, Tree, WalkOptions};
use crate::target::{FsType, fs_type};

/// Entries gathered before they are handed over, in bytes: no order by place is needed twice.
const WINDOW_BYTES: usize = 1 << 20;

/// A source, apart from the run that copies it.
#[derive(Debug)]
pub(crate) struct SourceAgain {
    /// The lane that reads it.
    pub(crate) lane: usize,
    /// Its number in the journal.
    pub(super) number: u32,
    /// Reports to nobody: as long as that of the run lives, its directories may still be finished.
    pub(super) tree: Tree,
    /// Name of its drive.
    drive: String,
    rotational: Option<bool>,
}

impl SourceAgain {
    /// Returns the sources of all lanes; `number` gives the number of each in the journal.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn all(
        lanes: &[LanePlan],
        number: &dyn Fn(&Tree) -> u32,
    ) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for (lane, plan) in lanes.iter().enumerate() {
            all.extend(Self::of_lane(lane, plan, number)?);
        }
        Ok(all)
    }

    /// Returns the sources of one lane.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn of_lane(
        lane: usize,
        plan: &LanePlan,
        number: &dyn Fn(&Tree) -> u32,
    ) -> Result<Vec<Self>, Error> {
        let trees = plan.trees.iter().map(|tree| {
            let held = tree
                .unheard()
                .map_err(|errno| Error::source(&tree.label, "hold it open", errno))?;
            Ok(Self {
                lane,
                number: number(tree),
                tree: held,
                drive: plan.name.clone(),
                rotational: plan.rotational,
            })
        });
        trees.collect()
    }

    /// Returns the path below its root of what lands at `path` in the target.
    pub(super) fn below(&self, path: &[u8]) -> Vec<u8> {
        if let Some(name) = &self.tree.only {
            return name.clone();
        }
        let rest = path
            .strip_prefix(self.tree.landing.as_slice())
            .unwrap_or(path);
        rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
    }
}

/// Reads every source a second time, each drive by its own lane, and compares with what the journal
/// says of the first; counts in `proof` how many files were the same. What differs is reported.
///
/// # Errors
/// When it cannot begin.
pub(super) fn second_read(
    job: &CopyJob,
    judge: Judge<'_>,
    loaded: Loaded,
    settings: RunSettings,
    proof: &mut Proof,
) -> Result<(), Error> {
    let mut lanes: BTreeMap<usize, Vec<&SourceAgain>> = BTreeMap::new();
    for source in judge.sources {
        lanes.entry(source.lane).or_default().push(source);
    }
    let views = lanes.values().map(|sources| LaneView {
        name: match sources.first() {
            Some(source) => format!("{} again", source.drive),
            None => "again".to_owned(),
        },
        sources: sources
            .iter()
            .map(|source| source.tree.label.clone())
            .collect(),
        counters: LaneCounters::default(),
    });
    let telemetry = Arc::new(Telemetry::new(views.collect()));
    judge.context.outcomes.telemetry().add_again(&telemetry);
    let session = &judge.context.session;
    let context = Arc::new(Context {
        outcomes: Arc::clone(&judge.context.outcomes),
        expected: Some(loaded),
        ..reading_context(session, &telemetry, &job.engine)?
    });
    let (sender, finished) = bounded(1);
    let mut setups = Vec::new();
    for (&lane, sources) in &lanes {
        let mut trees = Vec::new();
        let mut reads_by_ring = true;
        for source in sources {
            let fs = beneath::read_dir_fd(source.tree.root.as_fd(), b"").and_then(fs_type);
            reads_by_ring &= fs.is_ok_and(FsType::reads_by_ring);
            let tree = (source.tree.again(sender.clone()))
                .map_err(|errno| Error::source(&source.tree.label, "open it again", errno))?;
            trees.push(Arc::new(Tree {
                root_attributes: false,
                trusts_holes: false, // every byte is read
                ..tree
            }));
        }
        let (filter, files_from) = (Arc::clone(&job.filter), job.files_from.clone());
        setups.push(LaneSetup {
            lane,
            rotational: sources.iter().find_map(|source| source.rotational),
            registered_writes: false,
            reads_by_ring,
            filler: Box::new(move |feed: &mut Feed<'_>| {
                let options = WalkOptions {
                    filter: &filter,
                    files_from: files_from.as_deref(),
                    order: Order::Inode,
                    window_bytes: WINDOW_BYTES,
                };
                feed.scan(&trees, &options);
            }),
        });
    }
    drop(sender);
    let mut ledger = Counting {
        comparing: Comparing { side: Side::Source },
        expected: context.expected.as_ref(),
        same: HashMap::new(),
    };
    run(
        &context,
        &telemetry,
        setups,
        RunSettings {
            may_return: false,
            ..settings
        },
        &mut ledger,
        finished,
        None,
    )?;
    proof.cut_short |= context.interrupted.load(Relaxed);
    for (source, same) in ledger.same {
        let lane = judge.context.outcomes.lane_of(source);
        proof.evidence.source_read_twice += same;
        proof.by_lane.entry(lane).or_default().source_read_twice += same;
    }
    Ok(())
}

/// Compares, and counts what is the same of each SOURCE.
#[derive(Debug)]
struct Counting<'r> {
    comparing: Comparing,
    expected: Option<&'r Loaded>,
    same: HashMap<usize, u64>,
}

impl Ledger for Counting<'_> {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        if let Err(error) = self.comparing.committed(entry, digest, existing) {
            let done = self.expected.and_then(|all| all.done(&entry.target_path()));
            let now = lasting(entry.stamp, entry.dir.tree());
            if done.is_none_or(|done| done.source_stamp == now) {
                return Err(error);
            }
            // Whoever changed it says nothing against the drive.
            let what = "changed since it was copied";
            let kind = ErrorKind::SourceChanged;
            return Err(Error::new(kind, Side::Source, error.path(), what));
        }
        *self.same.entry(entry.dir.tree().index).or_default() += 1;
        Ok(())
    }
}
