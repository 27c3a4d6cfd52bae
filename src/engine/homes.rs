//! Where the sources of a run were, and where they are when their drives are back.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::summary::LaneFacts;
use crate::journal::{self, Identity};
use crate::plan::{self, LanePlan, find_returned};
use crate::scan::{Finished, Tree};
use crate::topology::{Topology, mount_number};

/// How often the mount table is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// A source as it was when its lane began. Holds nothing of its drive.
#[derive(Debug, Clone)]
struct Home {
    recorded: journal::Source,
    /// The mounts it was read from: when it is lost, what is still mounted there is what was lost.
    left: Vec<u64>,
    index: usize,
    root_attributes: bool,
    tree: Weak<Tree>,
}

/// The sources of all lanes.
#[derive(Debug)]
pub(super) struct Homes(Vec<Vec<Home>>);

/// A lane whose drive is back.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) lane: usize,
    pub(super) plan: LanePlan,
}

/// What one look at the mount table found.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) backs: Vec<Back>,
    /// Where their directories report.
    pub(super) finished: Receiver<Finished>,
}

impl Homes {
    /// Returns those of `lanes`; `identities` are those of the SOURCEs, in their order.
    pub(super) fn of(lanes: &[LanePlan], identities: &[Identity]) -> Self {
        let homes = lanes.iter().map(|plan| {
            let homes = plan.trees.iter().map(|tree| {
                Some(Home {
                    recorded: journal::Source {
                        index: 0,
                        identity: identities.get(tree.index)?.clone(),
                        label: tree.label.as_os_str().as_bytes().to_vec(),
                        landing: tree.landing.clone(),
                    },
                    left: vec![mount_number(tree.root.as_fd())?],
                    index: tree.index,
                    root_attributes: tree.root_attributes,
                    tree: Arc::downgrade(tree),
                })
            });
            // One that could not be known again keeps its whole lane.
            homes.collect::<Option<Vec<Home>>>().unwrap_or_default()
        });
        Self(homes.collect())
    }

    /// Returns the sources of a lane if all of them could be known again.
    fn known(&self, lane: usize) -> Option<&Vec<Home>> {
        let homes = self.0.get(lane).filter(|homes| !homes.is_empty())?;
        let is_unique = |home: &Home| {
            let identity = &home.recorded.identity;
            identity.fs_uuid.is_some() || identity.serial.is_some()
        };
        homes.iter().all(is_unique).then_some(homes)
    }

    /// Returns whether the sources of a lane could be known again.
    pub(super) fn are_known(&self, lane: usize) -> bool {
        self.known(lane).is_some()
    }

    /// Returns whether nothing that was found on the drive of a lane is on its way any more: it is
    /// acknowledged, or reported.
    pub(super) fn are_left(&self, lane: usize) -> bool {
        let homes = self.0.get(lane);
        homes.is_some_and(|homes| homes.iter().all(|home| home.tree.strong_count() == 0))
    }

    /// Notes that a lane goes on with these trees: should its drive be lost once more, it is not back
    /// where they are, either.
    pub(super) fn go_on_at(&mut self, lane: usize, trees: &[Arc<Tree>]) {
        let homes = self.0.get_mut(lane).into_iter().flatten();
        for (home, tree) in homes.zip(trees) {
            home.left.extend(mount_number(tree.root.as_fd()));
            home.tree = Arc::downgrade(tree);
        }
    }

    /// Looks for the drives of these lanes on a thread of its own, which ends with whoever takes what
    /// it finds: a mount that hangs may hold it for ever. `facts` are those of all lanes.
    pub(super) fn look(&self, lanes: &[usize], facts: &[LaneFacts]) -> Option<Receiver<Looked>> {
        let wanted = lanes.iter().filter_map(|&lane| {
            let homes = self.known(lane)?.clone();
            Some((lane, homes, facts.get(lane)?.clone()))
        });
        let wanted: Vec<(usize, Vec<Home>, LaneFacts)> = wanted.collect();
        let (found, looks) = bounded(0);
        let thread = std::thread::Builder::new().name("returns".to_owned());
        let started = thread.spawn(move || {
            loop {
                let (sender, finished) = bounded(FINISHED_QUEUE);
                let topology = Topology::live();
                let all = topology.iter().flat_map(|topology| {
                    let all = wanted.iter();
                    all.filter_map(|(lane, homes, facts)| {
                        let plan = plan_of(topology, homes, facts, &sender)?;
                        Some(Back { lane: *lane, plan })
                    })
                });
                let backs = all.collect();
                drop(sender);
                if found.send(Looked { backs, finished }).is_err() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
        started.is_ok().then_some(looks)
    }
}

/// Returns what the lane of these sources goes on with, if all of them are back.
fn plan_of(
    topology: &Topology,
    homes: &[Home],
    facts: &LaneFacts,
    finished: &Sender<Finished>,
) -> Option<LanePlan> {
    let (mut trees, mut fs) = (Vec::new(), Vec::new());
    for home in homes {
        let source = find_returned(topology, &home.recorded, &home.left)?;
        let tree = plan::tree(source, home.index, home.root_attributes, topology, finished);
        let (tree, kind, location) = tree.ok()?;
        trees.push(Arc::new(tree));
        fs.push((kind, location));
    }
    Some(LanePlan {
        name: facts.name.clone(),
        location: facts.location.clone(),
        rotational: facts.rotational,
        trees,
        fs,
    })
}
