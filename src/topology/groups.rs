//! Which sources must take turns because they share a drive.

use std::collections::HashMap;

use super::Location;

/// Groups locations that share a drive or unit, directly or through others: two partitions of one
/// spinning drive read at the same time would spend their time seeking.
///
/// Returns indices into `locations`, each exactly once: groups in the order of their first
/// member, members in order. A location without any key is a group of its own.
pub fn spindle_groups(locations: &[Location]) -> Vec<Vec<usize>> {
    let mut parents: Vec<usize> = (0..locations.len()).collect();
    let mut first_with_key: HashMap<String, usize> = HashMap::new();
    for (index, location) in locations.iter().enumerate() {
        for key in location.keys() {
            let other = *first_with_key.entry(key).or_insert(index);
            join(&mut parents, index, other);
        }
    }

    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of_root: HashMap<usize, usize> = HashMap::new();
    for index in 0..locations.len() {
        let root = root_of(&parents, index);
        let group = *group_of_root.entry(root).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(members) = groups.get_mut(group) {
            members.push(index);
        }
    }
    groups
}

/// Follows parents to the one that is its own. Parents only ever point to smaller indices, so
/// this ends.
fn root_of(parents: &[usize], mut index: usize) -> usize {
    while let Some(&parent) = parents.get(index)
        && parent != index
    {
        index = parent;
    }
    index
}

fn join(parents: &mut [usize], left: usize, right: usize) {
    let left = root_of(parents, left);
    let right = root_of(parents, right);
    if let Some(parent) = parents.get_mut(left.max(right)) {
        *parent = left.min(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::recorded::{ATA_B, ATA_C, with_sata_disks};

    #[test]
    fn sources_that_share_a_drive_take_turns() {
        let machine = with_sata_disks();
        let array = [&format!("{ATA_B}/sdb1")[..], &format!("{ATA_C}/sdc1")];
        machine.stacked("md0", "9:0", "", &array);
        let sda1 = "30 1 8:1 / /a1 rw - ext4 /dev/sda1 rw\n";
        let sda2 = "31 1 8:2 / /a2 rw - ext4 /dev/sda2 rw\n";
        let sdb2 = "32 1 8:18 / /b2 rw - ext4 /dev/sdb2 rw\n";
        let sdc2 = "33 1 8:34 / /c2 rw - ext4 /dev/sdc2 rw\n";
        let md0 = "34 1 9:0 / /md rw - ext4 /dev/md0 rw\n";
        let nfs =
            "35 1 0:50 / /n1 rw - nfs4 server:/x rw\n36 1 0:50 /d /n2 rw - nfs4 server:/x rw\n";
        let groups = |lines: &[&str]| spindle_groups(&machine.locate(&lines.concat()));

        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(
            groups(&[sda1, sda2]),
            [[0, 1]],
            "two partitions of one disk"
        );
        assert_eq!(groups(&[sda1, sdb2, sdc2]), [[0], [1], [2]], "three disks");
        assert_eq!(groups(&[md0, sdc2]), [[0, 1]], "a member's other partition");
        assert_eq!(
            groups(&[sdb2, sda1, sdc2, md0, sda2]),
            [vec![0, 2, 3], vec![1, 4]],
            "the array joins two disks that share nothing else"
        );
        assert_eq!(
            groups(&[sda1, nfs]),
            [vec![0], vec![1, 2]],
            "one export, two mounts"
        );
    }

    #[test]
    fn a_location_without_keys_stands_alone() {
        let machine = with_sata_disks();
        let mut locations =
            machine.locate("1 0 0:9 / /a rw - tmpfs t rw\n2 0 0:8 / /b rw - tmpfs t rw\n");
        for location in &mut locations {
            location.unit.clear();
        }
        assert_eq!(spindle_groups(&locations), [[0], [1]]);
    }
}
