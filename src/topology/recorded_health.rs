//! What the kernel has noticed about the drives of recorded machines.

use super::machines::{MULTIPATH_TABLE, with_multipath, with_two_controllers};
use super::recorded::{ATA, ATA_B, ATA_C, Machine, with_sata_disks};
use super::{Attached, Health};

fn attached(machine: &Machine, table: &str, name: &str) -> Attached {
    let drives = machine.topology(table).shelf().drives;
    let found = drives.into_iter().find(|a| a.drive.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_path_that_is_offline_is_named() {
    let machine = with_multipath();
    assert_eq!(
        attached(&machine, MULTIPATH_TABLE, "sdb").health,
        Health {
            state: Some("offline".to_owned()),
            io_errors: Some(18),
            io_timeouts: Some(2),
            millidegrees: None,
            concerns: vec![
                "its state is 'offline' on path sdc".to_owned(),
                "it did not answer in time 2 times on path sdc".to_owned(),
            ],
        }
    );
}

#[test]
fn the_controllers_of_an_nvme_subsystem_are_asked() {
    let machine = with_two_controllers();
    let controller =
        |number, slot| format!("devices/pci0000:00/0000:{slot}:00.0/nvme/nvme{number}");
    machine
        .attr(&controller(0, "02"), "state", "live\n")
        .attr(&controller(0, "02"), "hwmon/hwmon3/temp1_input", "41850\n")
        .attr(&controller(1, "03"), "state", "dead\n")
        .attr(&controller(1, "03"), "hwmon/hwmon4/temp1_input", "60000\n");
    let health = attached(&machine, "", "nvme0n1").health;
    assert_eq!(health.state.as_deref(), Some("dead"));
    assert_eq!(health.millidegrees, Some(60_000), "the warmest");
    assert_eq!(health.concerns, ["its state is 'dead' on path nvme1"]);
}

fn error_stats(machine: &Machine, uuid: &str, device: u32, counts: [u32; 5]) {
    let [write, read, flush, corruption, generation] = counts;
    let text = format!(
        "write_errs {write}\nread_errs {read}\nflush_errs {flush}\n\
         corruption_errs {corruption}\ngeneration_errs {generation}\n"
    );
    let place = format!("fs/btrfs/{uuid}/devinfo/{device}");
    machine
        .attr(&place, "error_stats", text)
        .attr(&place, "missing", "0\n");
}

#[test]
fn what_btrfs_counts_of_its_device_is_a_concern() {
    let machine = with_sata_disks();
    machine.btrfs("1111-aaaa", &[&format!("{ATA}/sda1")]);
    error_stats(&machine, "1111-aaaa", 1, [1203, 1, 0, 7, 0]);
    machine.btrfs("2222-bbbb", &[&format!("{ATA_B}/sdb1")]);
    error_stats(&machine, "2222-bbbb", 1, [0; 5]);
    machine.btrfs("3333-cccc", &[&format!("{ATA_C}/sdc1")]);
    machine.attr("fs/btrfs/3333-cccc/devinfo/1", "error_stats", "invalid\n");
    let table = "40 1 0:40 /@ /a rw - btrfs /dev/sda1 rw\n\
        41 1 0:40 /@home /b rw - btrfs /dev/sda1 rw\n\
        42 1 0:41 / /c rw - btrfs /dev/sdb1 rw\n\
        43 1 0:42 / /d rw - btrfs /dev/sdc1 rw\n";
    assert_eq!(
        attached(&machine, table, "sda").health.concerns,
        ["the file system on sda1 has recorded 1203 write errors, 1 read error, 7 checksum errors"]
    );
    for well in ["sdb", "sdc"] {
        let concerns = attached(&machine, table, well).health.concerns;
        assert!(concerns.is_empty(), "{concerns:?}");
    }
}

#[test]
fn which_device_of_several_btrfs_means_is_told_by_its_number() {
    let machine = with_sata_disks();
    let devices = [&format!("{ATA}/sda1")[..], &format!("{ATA_B}/sdb1")];
    machine.btrfs("1111-aaaa", &devices);
    error_stats(&machine, "1111-aaaa", 1, [0; 5]);
    error_stats(&machine, "1111-aaaa", 2, [0, 0, 1, 0, 2]);
    machine.attr("fs/btrfs/1111-aaaa/devinfo/3", "missing", "1\n");
    let table = "40 1 0:40 / /a rw - btrfs /dev/sda1 rw\n";
    for member in ["sda", "sdb"] {
        assert_eq!(
            attached(&machine, table, member).health.concerns,
            [
                "the file system on sda1+sdb1 lacks its device 3",
                "device 2 of the file system on sda1+sdb1 has recorded 1 flush error, \
                 2 generation errors",
            ]
        );
    }
    let other = attached(&machine, table, "sdc").health.concerns;
    assert!(other.is_empty(), "{other:?}");
}
