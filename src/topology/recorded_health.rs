//! What the kernel has noticed about the drives of recorded machines.

use super::machines::{MULTIPATH_TABLE, with_multipath, with_two_controllers};
use super::recorded::Machine;
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
