//! Sources to lanes: one for each physical drive.

use std::os::fd::AsFd;
use std::sync::Arc;

use crossbeam::channel::Sender;

use super::Source;
use crate::error::Error;
use crate::scan::{Finished, Tree};
use crate::target::{FsType, fs_type, keeps_inodes, trusts_sizes};
use crate::topology::{Location, Topology, spindle_groups};

/// The sources of one physical drive.
#[derive(Debug)]
pub struct LanePlan {
    /// Short name: the drive's device name, or what stands for it.
    pub name: String,
    /// Where its first source is.
    pub location: Location,
    /// Whether the kernel says that it spins; `None` when it does not say.
    pub rotational: Option<bool>,
    /// Its source trees, in the order they were named.
    pub trees: Vec<Arc<Tree>>,
    /// The file system of each tree.
    pub fs: Vec<(FsType, Location)>,
}

/// Returns the tree of a source, what its file system is like, and where it is. `index` is its place
/// among all sources; `root_attributes` whether the attributes of its root are copied.
///
/// # Errors
/// When the source has gone.
pub fn tree(
    source: Source,
    index: usize,
    root_attributes: bool,
    topology: &Topology,
    finished: &Sender<Finished>,
) -> Result<(Tree, FsType, Location), Error> {
    let location = topology.locate(source.path())?;
    let cannot = |errno| Error::source(&source.label, "look at this source", errno);
    let readable = crate::beneath::read_dir_fd(source.root.as_fd(), b"").map_err(cannot)?;
    let fs = fs_type(&readable).map_err(cannot)?;
    let device = rustix::fs::fstat(&readable).map_err(cannot)?.st_dev;
    let tree = Tree {
        index,
        label: source.label,
        root: source.root,
        root_attributes,
        only: source.only,
        landing: source.landing,
        device,
        direct: fs.direct_read().0,
        trusts_holes: fs.trusts_holes(),
        trusts_sizes: trusts_sizes(&location.mount.fs),
        keeps_inodes: keeps_inodes(&location.mount.fs),
        finished: finished.clone(),
    };
    Ok((tree, fs, location))
}

/// Maps sources to drives and groups them: sources on one drive share a lane, different drives
/// never do.
///
/// # Errors
/// When the mount table cannot be read or a source has gone.
pub fn lanes(
    sources: Vec<Source>,
    topology: &Topology,
    finished: &Sender<Finished>,
) -> Result<Vec<LanePlan>, Error> {
    let roots = sources
        .iter()
        .filter(|s| s.only.is_none() && s.landing.is_empty())
        .count();
    let mut found = Vec::new();
    for (index, source) in sources.into_iter().enumerate() {
        // TARGET takes over the attributes of a source only when it is clear which.
        let attributes = source.only.is_none() && (!source.landing.is_empty() || roots == 1);
        let (tree, fs, location) = tree(source, index, attributes, topology, finished)?;
        found.push((Arc::new(tree), fs, location));
    }
    let locations: Vec<Location> = found
        .iter()
        .map(|(_, _, location)| location.clone())
        .collect();
    let mut found: Vec<Option<_>> = found.into_iter().map(Some).collect();
    let mut lanes = Vec::new();
    for group in spindle_groups(&locations) {
        let members: Vec<_> = group
            .iter()
            .filter_map(|&index| found.get_mut(index).and_then(Option::take))
            .collect();
        let Some((_, _, location)) = members.first() else {
            continue;
        };
        let location = location.clone();
        let rotational = location
            .drives
            .iter()
            .map(|drive| drive.rotational)
            .reduce(|a, b| {
                if a == Some(true) || b == Some(true) {
                    Some(true)
                } else {
                    a.and(b)
                }
            });
        lanes.push(LanePlan {
            name: location.name(),
            rotational: rotational.flatten(),
            location,
            trees: members
                .iter()
                .map(|(tree, _, _)| Arc::clone(tree))
                .collect(),
            fs: members
                .into_iter()
                .map(|(_, fs, location)| (fs, location))
                .collect(),
        });
    }
    Ok(lanes)
}
