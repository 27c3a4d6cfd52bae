//! Where the sources of a run were, and where they are when their drives are back.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::summary::LaneFacts;
use crate::journal::{self, Identity, Likeness};
use crate::plan::{self, LanePlan, NotBack, find_returned, is_same_mount};
use crate::scan::{Finished, Tree, as_path};
use crate::topology::{Mount, Topology, mount_number};

/// How often the mount table is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long it may ask at one place before another thread looks elsewhere.
const ASKS_MAX: Duration = Duration::from_secs(1);
/// Most threads that ask: all but one of them are held by a mount.
const ASKING_MAX: usize = 16;
/// Directories that may wait for the finisher.
const FINISHED_QUEUE: usize = 1024;

/// A source as it was when its lane began. Holds nothing of its drive.
#[derive(Debug, Clone)]
struct Home {
    recorded: journal::Source,
    /// The mounts it was read from: when it is lost, what is still mounted there is what was lost.
    left: Vec<u64>,
    /// The mount that its lane goes on with, until that has ended.
    at: Option<u64>,
    index: usize,
    root_attributes: bool,
    tree: Weak<Tree>,
    /// Its file system: the number of its device, while it is there.
    device: u64,
    /// A source on another device that nothing tells its file system from.
    twin: Option<PathBuf>,
}

impl Home {
    /// Returns whether another source is on another device, and nothing tells one from the other: so it
    /// is with images of one drive whose serial numbers are not known.
    fn is_twin_of(&self, other: &Self) -> bool {
        let fs = |home: &Self| Identity {
            root_ino: 0,
            ..home.recorded.identity.clone()
        };
        self.device != other.device && fs(self).compare(&fs(other)) == Likeness::Same
    }
}

/// Mounts of other file systems that have been in the mount table since the run began: what is there was
/// never away.
#[derive(Debug, Clone, Default)]
struct Stayed(Arc<Mutex<Vec<Mount>>>);

impl Stayed {
    /// Returns those that there are, but for the mounts of these lanes.
    fn beside(lanes: &[LanePlan], mounts: Vec<Mount>) -> Self {
        let own = || lanes.iter().flat_map(|plan| &plan.fs);
        let is_own = |mount: &Mount| own().any(|(_, at)| is_same_mount(&at.mount, mount));
        let others = mounts.into_iter().filter(|mount| !is_own(mount));
        Self(Arc::new(Mutex::new(others.collect())))
    }

    /// Returns those that are still there; what is gone once is forgotten, as another may get its id.
    fn in_table(&self, mounts: &[Mount]) -> Vec<Mount> {
        let mut stayed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stayed.retain(|mount| mounts.iter().any(|now| is_same_mount(mount, now)));
        stayed.clone()
    }
}

/// The sources of all lanes, and who looks for them.
#[derive(Debug)]
pub(super) struct Homes {
    lanes: Vec<Vec<Home>>,
    stayed: Stayed,
    asking: Asking,
    /// How many threads were begun.
    begun: u64,
}

/// A lane whose drive is back.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) lane: usize,
    pub(super) plan: LanePlan,
    /// Where its directories report.
    pub(super) finished: Receiver<Finished>,
}

/// A path, and the number of the mount that it is in: when that is gone, it is another place.
type Place = (PathBuf, Option<u64>);

/// Where threads that look for drives ask at the moment: by the number of each, and since when. A mount
/// that hangs may hold one for ever; then another looks on, everywhere but there.
#[derive(Debug, Clone, Default)]
struct Asking(Arc<Mutex<HashMap<u64, (Place, Instant)>>>);

impl Asking {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, (Place, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a thread asks from now on, unless another one does; returns whether it may.
    fn may_ask(&self, number: u64, place: Place) -> bool {
        let mut all = self.all();
        all.remove(&number);
        let is_free = all.values().all(|(at, _)| *at != place);
        if is_free {
            all.insert(number, (place, Instant::now()));
        }
        is_free
    }

    /// Notes that a thread has its answers.
    fn ends(&self, number: u64) {
        self.all().remove(&number);
    }

    fn is_held(&self, number: u64) -> bool {
        let all = self.all();
        let at = all.get(&number);
        at.is_some_and(|(_, since)| since.elapsed() >= ASKS_MAX)
    }
}

/// A search for drives that are back.
#[derive(Debug)]
pub(super) struct Search {
    wanted: Vec<(usize, Vec<Home>, LaneFacts)>,
    /// The mounts that any lane was read from, or is.
    read_from: Vec<u64>,
    found: Sender<Vec<Back>>,
    looks: Receiver<Vec<Back>>,
    /// The number of the thread that looks; 0 when there is none. What one before it still finds counts,
    /// and is its last word.
    newest: Arc<AtomicU64>,
}

impl Search {
    /// Returns whether these are the lanes that it is for.
    pub(super) fn is_for(&self, lanes: &[usize]) -> bool {
        self.wanted.iter().map(|(lane, ..)| lane).eq(lanes)
    }
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
                    at: None,
                    index: tree.index,
                    root_attributes: tree.root_attributes,
                    tree: Arc::downgrade(tree),
                    device: tree.device,
                    twin: None,
                })
            });
            // One that could not be known again keeps its whole lane.
            homes.collect::<Option<Vec<Home>>>().unwrap_or_default()
        });
        let mut homes: Vec<Vec<Home>> = homes.collect();
        let all: Vec<Home> = homes.iter().flatten().cloned().collect();
        for home in homes.iter_mut().flatten() {
            let twin = all.iter().find(|other| home.is_twin_of(other));
            home.twin = twin.map(|twin| as_path(&twin.recorded.label));
        }
        let mounts = Topology::live().map(|topology| topology.mounts().to_vec());
        Self {
            lanes: homes,
            stayed: Stayed::beside(lanes, mounts.unwrap_or_default()),
            asking: Asking::default(),
            begun: 0,
        }
    }

    /// Returns the sources of a lane if all of them could be known again.
    fn known(&self, lane: usize) -> Option<&Vec<Home>> {
        let homes = self.lanes.get(lane).filter(|homes| !homes.is_empty())?;
        let is_unique = |home: &Home| {
            let identity = &home.recorded.identity;
            let is_known = identity.fs_uuid.is_some() || identity.serial.is_some();
            is_known && home.twin.is_none()
        };
        homes.iter().all(is_unique).then_some(homes)
    }

    /// Returns whether the sources of a lane could be known again.
    pub(super) fn are_known(&self, lane: usize) -> bool {
        self.known(lane).is_some()
    }

    /// Says why what comes back of a lane is not known: it could be another source of the run.
    pub(super) fn why_unknown(&self, lane: usize) -> Option<String> {
        let mut homes = self.lanes.get(lane).into_iter().flatten();
        let twin = homes.find_map(|home| home.twin.as_deref())?;
        Some(format!(
            "it is not looked for in this run, as nothing tells {} from it (no two serial numbers are \
             known): mount both where they were, and run again",
            twin.display()
        ))
    }

    /// Returns whether nothing that was found on the drive of a lane is on its way any more: it is
    /// acknowledged, or reported.
    pub(super) fn are_left(&self, lane: usize) -> bool {
        let homes = self.lanes.get(lane);
        homes.is_some_and(|homes| homes.iter().all(|home| home.tree.strong_count() == 0))
    }

    /// Notes that a lane is to go on with these trees.
    pub(super) fn go_on_at(&mut self, lane: usize, trees: &[Arc<Tree>]) {
        let homes = self.lanes.get_mut(lane).into_iter().flatten();
        for (home, tree) in homes.zip(trees) {
            home.at = mount_number(tree.root.as_fd());
            home.tree = Arc::downgrade(tree);
        }
    }

    /// Notes that a lane that went on has ended: should its drive be lost once more, it is not back where
    /// it was then, either.
    pub(super) fn left(&mut self, lane: usize) {
        for home in self.lanes.get_mut(lane).into_iter().flatten() {
            home.left.extend(home.at.take());
        }
    }

    /// Notes that a lane could not begin to go on: its drive is where it is, to be found there again.
    pub(super) fn never_began(&mut self, lane: usize) {
        for home in self.lanes.get_mut(lane).into_iter().flatten() {
            home.at = None;
        }
    }

    /// Begins to look for the drives of these lanes. `facts` are those of all lanes.
    pub(super) fn search(&self, lanes: &[usize], facts: &[LaneFacts]) -> Search {
        let wanted = lanes.iter().filter_map(|&lane| {
            let homes = self.known(lane)?.clone();
            Some((lane, homes, facts.get(lane)?.clone()))
        });
        let (found, looks) = bounded(0);
        let all = self.lanes.iter().flatten();
        let read_from = all.flat_map(|home| home.left.iter().copied().chain(home.at));
        Search {
            wanted: wanted.collect(),
            read_from: read_from.collect(),
            found,
            looks,
            newest: Arc::default(),
        }
    }

    /// Returns which drives were found at the last look since this was asked; nothing when there was
    /// none. A thread that is held by a mount is left behind, and another one looks elsewhere.
    pub(super) fn found(&mut self, search: &mut Search) -> Option<Vec<Back>> {
        if let Ok(backs) = search.looks.try_recv() {
            return Some(backs);
        }
        let newest = search.newest.load(Relaxed);
        let goes_on = newest > 0 && !self.asking.is_held(newest);
        if goes_on || self.asking.all().len() >= ASKING_MAX {
            return None;
        }
        self.begun += 1;
        let (number, asking) = (self.begun, self.asking.clone());
        let (wanted, found) = (search.wanted.clone(), search.found.clone());
        let (stayed, read_from) = (self.stayed.clone(), search.read_from.clone());
        let newest = Arc::clone(&search.newest);
        newest.store(number, Relaxed);
        let thread = std::thread::Builder::new().name("returns".to_owned());
        let started = thread.spawn(move || {
            loop {
                let may_ask = |place| asking.may_ask(number, place);
                let backs = look(&wanted, &read_from, &stayed, &may_ask);
                asking.ends(number);
                if found.send(backs).is_err() || newest.load(Relaxed) != number {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
        if started.is_err() {
            search.newest.store(0, Relaxed);
        }
        None
    }
}

/// Looks once for the drives of these lanes, but not in mounts that lanes were read from, or that stayed.
fn look(
    wanted: &[(usize, Vec<Home>, LaneFacts)],
    read_from: &[u64],
    stayed: &Stayed,
    may_ask: &dyn Fn(Place) -> bool,
) -> Vec<Back> {
    let Ok(topology) = Topology::live() else {
        return Vec::new();
    };
    let not_back = NotBack {
        numbers: read_from.to_vec(),
        mounts: stayed.in_table(topology.mounts()),
    };
    let may_ask = |path: &Path| may_ask((path.to_owned(), mount_of(topology.mounts(), path)));
    let backs = wanted.iter().filter_map(|(lane, homes, facts)| {
        back(&topology, *lane, homes, facts, &not_back, &may_ask)
    });
    backs.collect()
}

/// Returns the number of the mount that a path is in, as the mount table has it: nothing is asked there.
fn mount_of(mounts: &[Mount], path: &Path) -> Option<u64> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    // Of those at one place the last one covers the others.
    let deepest = above.max_by_key(|mount| mount.point.components().count());
    deepest.map(|mount| mount.id)
}

/// Returns what a lane goes on with, if all of its sources are back.
fn back(
    topology: &Topology,
    lane: usize,
    homes: &[Home],
    facts: &LaneFacts,
    not_back: &NotBack,
    may_ask: &dyn Fn(&Path) -> bool,
) -> Option<Back> {
    let (sender, finished) = bounded(FINISHED_QUEUE);
    let (mut trees, mut fs) = (Vec::new(), Vec::new());
    for home in homes {
        let source = find_returned(topology, &home.recorded, not_back, may_ask)?;
        let tree = plan::tree(source, home.index, home.root_attributes, topology, &sender);
        let (tree, kind, location) = tree.ok()?;
        trees.push(Arc::new(tree));
        fs.push((kind, location));
    }
    let plan = LanePlan {
        name: facts.name.clone(),
        location: facts.location.clone(),
        rotational: facts.rotational,
        trees,
        fs,
    };
    Some(Back {
        lane,
        plan,
        finished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::mountinfo;

    #[test]
    fn a_place_where_a_mount_hangs_is_asked_at_again_when_that_is_gone() {
        let before = b"20 1 8:1 / / rw - ext4 /dev/a rw\n\
                       30 20 8:2 / /mnt/card rw - ext4 /dev/b rw\n\
                       31 20 0:9 / /mnt/card rw - fuse b rw\n";
        let after = b"20 1 8:1 / / rw - ext4 /dev/a rw\n\
                      32 20 8:2 / /mnt/card rw - ext4 /dev/b rw\n";
        let card = Path::new("/mnt/card");
        let [before, after] = [&before[..], &after[..]].map(|table| {
            let mounts = mountinfo::parse(table);
            assert_eq!(mount_of(&mounts, Path::new("/mnt/card-2")), Some(20));
            assert_eq!(mount_of(&mounts, Path::new("relative")), None);
            (card.to_owned(), mount_of(&mounts, card))
        });
        assert_eq!((before.1, after.1), (Some(31), Some(32)));
        let asking = Asking::default();
        assert!(asking.may_ask(1, before.clone()));
        assert!(!asking.may_ask(2, before));
        assert!(asking.may_ask(2, after));
    }

    #[test]
    fn a_drive_that_could_not_be_gone_on_with_is_found_where_it_is() {
        let (finished, _) = bounded(0);
        let root = std::fs::File::open("/").unwrap().into();
        let tree = Arc::new(Tree {
            index: 0,
            label: "/".into(),
            root,
            only: None,
            landing: Vec::new(),
            root_attributes: false,
            device: 0,
            direct: false,
            trusts_holes: false,
            trusts_sizes: true,
            keeps_inodes: true,
            finished,
        });
        let here = mount_number(tree.root.as_fd()).unwrap();
        let mut homes = Homes {
            lanes: vec![vec![Home {
                recorded: journal::Source {
                    index: 0,
                    identity: Identity::default(),
                    label: Vec::new(),
                    landing: Vec::new(),
                },
                left: vec![7],
                at: None,
                index: 0,
                root_attributes: false,
                tree: Weak::new(),
                device: 0,
                twin: None,
            }]],
            stayed: Stayed::default(),
            asking: Asking::default(),
            begun: 0,
        };
        homes.go_on_at(0, std::slice::from_ref(&tree));
        homes.never_began(0);
        homes.left(0);
        assert_eq!(homes.lanes[0][0].left, [7]);
        homes.go_on_at(0, std::slice::from_ref(&tree));
        homes.left(0);
        assert_eq!(homes.lanes[0][0].left, [7, here]);
    }

    #[test]
    fn a_mount_that_stayed_is_one_as_long_as_it_is_in_the_table() {
        let parse = |table: &str| mountinfo::parse(table.as_bytes());
        let one = "30 20 8:2 / /mnt/one rw - ext4 /dev/b rw\n";
        let other = "31 20 8:3 / /mnt/other rw - ext4 /dev/c rw\n";
        let stayed = Stayed::beside(&[], parse(&format!("{one}{other}")));
        let ids = |table: &str| {
            let there = stayed.in_table(&parse(table));
            there.iter().map(|mount| mount.id).collect::<Vec<_>>()
        };
        // Mounted otherwise, it is the same mount.
        let other = "31 20 8:3 / /mnt/other ro - ext4 /dev/c ro\n";
        assert_eq!(ids(&format!("{one}{other}")), [30, 31]);
        assert_eq!(ids(other), [31]);
        assert_eq!(ids(&format!("{one}{other}")), [31], "mounted again");
        // Another one that got its numbers.
        assert_eq!(ids("31 20 8:3 / /mnt/one rw - ext4 /dev/c rw\n"), [0; 0]);
    }
}
