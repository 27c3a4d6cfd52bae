//! PATHs that are in other PATHs: a directory and the device it is on, or a folder below it. What is on
//! them is counted once.

use std::path::PathBuf;

use super::subject::Opened;
use crate::topology::{Mount, Topology};

/// Where a PATH is.
#[derive(Debug, Clone)]
pub(crate) enum Spot {
    /// A block device, by its number.
    Device((u32, u32)),
    /// A directory or file: the mount it is in, and its path without links.
    Files { mount: Mount, real: PathBuf },
}

/// Drops PATHs that are one that was named before, as links of /dev/disk are; returns what is said.
pub(crate) fn drop_twice(opened: &mut Vec<Opened>) -> Vec<String> {
    let all = twice(opened);
    let said = |(at, first): (usize, PathBuf)| {
        format!(
            "{} is {}, which is named too: it is measured once",
            opened.remove(at).path().display(),
            first.display()
        )
    };
    all.into_iter().rev().map(said).collect()
}

/// Returns those, by number, each with the path of the first.
fn twice(opened: &[Opened]) -> Vec<(usize, PathBuf)> {
    let is_same = |one: &Opened, other: &Opened| match (&one.spot, &other.spot) {
        (Some(Spot::Device(one)), Some(Spot::Device(other))) => one == other,
        (Some(Spot::Files { real: one, .. }), Some(Spot::Files { real: other, .. })) => {
            one == other
        }
        _ => false,
    };
    let all = opened.iter().enumerate();
    let found = all.filter_map(|(at, one)| {
        let first = opened.iter().take(at).find(|other| is_same(one, other))?;
        Some((at, first.path()))
    });
    found.collect()
}

/// Notes of each subject which other one holds all that it holds.
pub(crate) fn settle(opened: &mut [Opened], topology: &Topology) {
    let holder = |opened: &[Opened], at: usize, one: &Opened| {
        let mut others = opened.iter().enumerate();
        // Of two that are as large, a drive and what is stacked on all of it, one holds the other.
        let found = others.find(|(number, other)| {
            let is_held = other.report.within.as_deref() == Some(&one.report.name);
            *number != at && !is_held && is_within(one, other, topology)
        });
        found.map(|(_, other)| other.report.name.clone())
    };
    for one in &mut *opened {
        one.report.within = None;
    }
    for at in 0..opened.len() {
        let found = opened.get(at).and_then(|one| holder(opened, at, one));
        if let Some(one) = opened.get_mut(at) {
            one.report.within = found;
        }
    }
}

/// The same by those that were measured: what has no rate is in no estimate, and holds nothing there.
pub(crate) fn settle_measured(opened: &mut [Opened], topology: &Topology) {
    for one in opened.iter_mut().filter(|it| it.report.read.is_none()) {
        one.spot = None;
    }
    settle(opened, topology);
}

/// Returns whether all that is in one is counted with the other, which is another.
fn is_within(one: &Opened, other: &Opened, topology: &Topology) -> bool {
    let (Some(its), Some(others)) = (&one.spot, &other.spot) else {
        return false;
    };
    // Nothing is known of what is on a device that nothing is mounted from.
    if other.report.holds.is_none() {
        return false;
    }
    let is_whole = other.report.is_whole_drive() && one.keys == other.keys;
    match (its, others) {
        (Spot::Device(_), Spot::Device(_)) => is_whole,
        (Spot::Files { mount, .. }, Spot::Device(device)) => {
            mount.fs != "overlay" && (is_whole || topology.is_on(mount, *device))
        }
        (
            Spot::Files { mount, real },
            Spot::Files {
                mount: others,
                real: top,
            },
        ) => mount.device == others.device && real.starts_with(top),
        (Spot::Device(_), Spot::Files { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{DriveFacts, Holds, Measure, Subject};
    use crate::topology::recorded::with_sata_disks;

    const MOUNTS: &str = "30 1 8:1 / /m rw - ext4 /dev/sda1 rw\n\
                          31 1 8:16 / /n rw - ext4 /dev/sdb rw\n";

    fn opened(report: Subject, drive: &str, spot: Spot) -> Opened {
        let mut opened = Opened::of(report);
        opened.keys = vec![drive.to_owned()];
        opened.spot = Some(spot);
        opened
    }

    fn device(name: &str, drive: &str, number: (u32, u32), span: u64) -> Opened {
        let report = Subject {
            name: name.to_owned(),
            kind: "device".to_owned(),
            drives: vec![DriveFacts {
                name: drive.to_owned(),
                bytes: 1 << 40,
                ..DriveFacts::default()
            }],
            span_bytes: span,
            holds: Some(Holds::default()),
            ..Subject::default()
        };
        opened(report, drive, Spot::Device(number))
    }

    fn files(name: &str, drive: &str, topology: &Topology) -> Opened {
        let mount = topology.mounts().iter().find(|it| {
            let point = it.point.to_str().unwrap();
            name.starts_with(point)
        });
        let report = Subject {
            name: name.to_owned(),
            kind: "directory".to_owned(),
            holds: Some(Holds::default()),
            ..Subject::default()
        };
        let spot = Spot::Files {
            mount: mount.unwrap().clone(),
            real: name.into(),
        };
        opened(report, drive, spot)
    }

    #[test]
    fn what_is_in_another_path_is_told_by_that() {
        let machine = with_sata_disks();
        let topology = machine.topology(MOUNTS);
        let found = |mut opened: Vec<Opened>| {
            settle(&mut opened, &topology);
            let within = opened.into_iter().map(|one| one.into_report().within);
            within.map(Option::unwrap_or_default).collect::<Vec<_>>()
        };
        let sda = || device("sda", "sda", (8, 0), 1 << 40);
        let sda1 = || device("sda1", "sda", (8, 1), 1 << 39);
        let sdb = || device("sdb", "sdb", (8, 16), 1 << 40);
        let of = |name: &str, drive: &str| files(name, drive, &topology);
        let all = vec![sda(), sda1(), sdb(), of("/m/a", "sda"), of("/n", "sdb")];
        assert_eq!(found(all), ["", "sda", "", "sda", "sdb"]);
        // The other partition holds nothing of it.
        let other = device("sda2", "sda", (8, 2), 1 << 39);
        assert_eq!(found(vec![other, of("/m/a", "sda")]), ["", ""]);
        assert_eq!(found(vec![sda1(), of("/m/a", "sda")]), ["", "sda1"]);
        let folders = ["/m/a/b", "/m/a", "/m/ab", "/n/a"];
        let folders = folders.map(|name| of(name, "sda"));
        assert_eq!(found(Vec::from(folders)), ["/m/a", "", "", ""]);
        // A map over all of a drive, which is as large.
        let map = || device("map", "sda", (253, 0), 1 << 40);
        assert_eq!(found(vec![sda(), map()]), ["map", ""]);
        let mut folder = of("/m/a", "sda");
        folder.report.read = Some(Measure::default());
        let mut failed = vec![sda(), folder];
        settle(&mut failed, &topology);
        settle_measured(&mut failed, &topology);
        assert_eq!(failed[1].report.within, None, "the drive has no rate");
        let mut unknown = sda();
        unknown.report.holds = None;
        assert_eq!(found(vec![unknown, of("/m/a", "sda")]), ["", ""]);
        let all = [sda(), of("/m", "sda"), sda1(), sda(), of("/m", "sda")];
        let named = twice(&all).into_iter().map(|(at, _)| at);
        assert_eq!(named.collect::<Vec<_>>(), [3, 4]);
    }
}
