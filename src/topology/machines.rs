//! Recorded machines that more than one test looks at, and their mount tables.

use super::recorded::{ATA, ATA_B, ATA_C, Machine, with_sata_disks};

pub(super) fn pci(machine: &Machine, place: &str, speed: &str, width: &str) {
    machine
        .attr(place, "current_link_speed", format!("{speed} GT/s PCIe\n"))
        .attr(place, "current_link_width", format!("{width}\n"));
}

/// An HBA on 8 lanes of PCIe 3, one wide port of four wires at 12 Gbit/s to an expander, and four
/// SATA drives behind that, each on a wire of 6 Gbit/s.
pub(crate) fn with_expander() -> Machine {
    let machine = Machine::new();
    let root = "devices/pci0000:00/0000:00:01.0";
    let hba = format!("{root}/0000:01:00.0");
    pci(&machine, root, "8.0", "8");
    pci(&machine, &hba, "8.0", "8");
    machine
        .attr(&hba, "numa_node", "1\n")
        .link(&format!("{hba}/driver"), "bus/pci/drivers/mpt3sas")
        .attr("bus/pci/drivers/mpt3sas", "bind", "");
    let host = format!("{hba}/host0");
    let phy = |owner: &str, name: &str, rate: &str| {
        machine.attr(
            &format!("{owner}/{name}/sas_phy/{name}"),
            "negotiated_linkrate",
            format!("{rate}\n"),
        );
        format!("{owner}/{name}")
    };
    let wide = format!("{host}/port-0:0");
    for number in 0..4 {
        let name = format!("phy-0:{number}");
        let wire = phy(&host, &name, "12.0 Gbit");
        machine.link(&format!("{wide}/{name}"), &wire);
    }
    let expander = format!("{wide}/expander-0:0");
    for number in 0..4_u32 {
        let port = format!("{expander}/port-0:0:{number}");
        let name = format!("phy-0:0:{number}");
        let wire = phy(&expander, &name, "6.0 Gbit");
        machine.link(&format!("{port}/{name}"), &wire);
        let letter = char::from(b'a' + u8::try_from(number).unwrap());
        let disk = format!(
            "{port}/end_device-0:0:{number}/target0:0:{number}/0:0:{number}:0/block/sd{letter}"
        );
        let device = format!("{port}/end_device-0:0:{number}/target0:0:{number}/0:0:{number}:0");
        machine
            .block(&disk, &format!("8:{}", number * 16))
            .link(&format!("{disk}/device"), &device)
            .attr(&device, "queue_depth", "32\n")
            .attr(&device, "state", "running\n")
            .attr(&device, "ioerr_cnt", "0x3\n")
            .attr(&disk, "queue/nr_requests", "256\n")
            .attr(&disk, "queue/max_sectors_kb", "1280\n")
            .attr(&disk, "queue/scheduler", "[mq-deadline] none\n")
            .attr(&disk, "queue/rotational", "1\n")
            .attr(&disk, "queue/physical_block_size", "4096\n")
            .attr(&disk, "size", "35156656128\n")
            .attr(&device, "model", "ST18000NM000J-2T\n")
            .attr(&device, "wwid", format!("naa.5000c500a1b2c3d{number}\n"))
            .attr(&device, "vpd_pg80", b"\0\x80\0\x05ZR500")
            .attr(&device, "hwmon/hwmon7/temp1_input", "38000\n");
    }
    machine
}

/// Two drives behind a hub of 5 Gbit/s, and one beside it.
pub(crate) fn with_hub() -> Machine {
    let machine = Machine::new();
    let controller = "devices/pci0000:00/0000:00:14.0";
    let root = format!("{controller}/usb2");
    let hub = format!("{root}/2-1");
    machine
        .attr(&root, "speed", "10000\n")
        .attr(&hub, "speed", "5000\n")
        .attr(&hub, "serial", "HUB1\n");
    for (number, letter, at) in [(1, 'a', &hub), (2, 'b', &hub), (3, 'c', &root)] {
        let device = if number == 3 {
            format!("{at}/2-3")
        } else {
            format!("{at}/2-1.{number}")
        };
        machine.attr(&device, "speed", "5000\n");
        let name = device.rsplit('/').next().unwrap().to_owned();
        let disk = format!(
            "{device}/{name}:1.0/host{number}/target{number}:0:0/{number}:0:0:0/block/sd{letter}"
        );
        machine.block(&disk, &format!("8:{}", (number - 1) * 16));
        if number == 1 {
            machine.attr(&device, "serial", "575831\n");
        }
        if number < 3 {
            machine.attr(&disk, "size", "7814037168\n");
        }
    }
    machine
}

/// A namespace that two controllers lead to: four lanes and two.
pub(super) fn with_two_controllers() -> Machine {
    let machine = Machine::new();
    let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0";
    let disk = format!("{subsystem}/nvme0n1");
    machine
        .block(&disk, "259:0")
        .attr(&disk, "size", "8\n")
        .link(&format!("{disk}/device"), subsystem);
    for (number, slot) in [(0, "02"), (1, "03")] {
        let port = format!("devices/pci0000:00/0000:{slot}:00.0");
        let controller = format!("{port}/nvme/nvme{number}");
        pci(&machine, &port, "8.0", if number == 0 { "4" } else { "2" });
        machine
            .attr(&controller, "transport", "pcie\n")
            .attr(&controller, "sqsize", "127\n")
            .link(&format!("{subsystem}/nvme{number}"), &controller);
    }
    machine
}

pub(crate) const ARRAY_TABLE: &str =
    "30 1 9:0 / /srv rw - ext4 /dev/md0 rw\n31 1 8:34 / /c ro - ext4 /dev/sdc2 ro\n";

/// An array over partitions of two drives, which has thrown out a third.
pub(crate) fn with_degraded_array() -> Machine {
    let machine = with_sata_disks();
    let members = [&format!("{ATA}/sda1")[..], &format!("{ATA_B}/sdb1")];
    let md = machine.stacked("md0", "9:0", "", &members);
    machine
        .link(&format!("{ATA}/sda1/holders/md0"), &md)
        .link(&format!("{ATA_B}/sdb1/holders/md0"), &md)
        .attr(&md, "md/degraded", "1\n")
        .attr(&md, "md/dev-sda1/state", "in_sync\n")
        .attr(&md, "md/dev-sdc1/state", "faulty,blocked\n")
        .attr("fs/ext4/md0", "errors_count", "2\n");
    for disk in [ATA, ATA_B, ATA_C] {
        machine.attr(disk, "size", "7814037168\n");
    }
    machine
}

pub(crate) const MULTIPATH_TABLE: &str = "31 1 253:2 / /b rw - xfs /dev/mapper/mpatha rw\n";

/// A drive with two paths of which one is offline, and one whose model acts on a terminal.
pub(crate) fn with_multipath() -> Machine {
    let machine = with_sata_disks();
    machine.stacked("dm-2", "253:2", "mpath-3600a", &[ATA_C, ATA_B]);
    machine
        .attr(ATA, "device/model", "BAD\x1b[2J\n")
        .attr(ATA, "ro", "1\n")
        .attr(ATA_B, "device/state", "running\n")
        .attr(ATA_B, "device/ioerr_cnt", "0x1\n")
        .attr(ATA_C, "device/state", "offline\n")
        .attr(ATA_C, "device/ioerr_cnt", "0x11\n")
        .attr(ATA_C, "device/iotmo_cnt", "0x2\n");
    machine
}

/// Mounts without a drive of the machine, and memory.
pub(crate) const UNITS_TABLE: &str = "30 1 0:50 / /n1 rw - nfs4 server:/export rw\n\
    31 1 0:50 /d /n2 ro - nfs4 server:/export rw\n\
    32 1 0:51 / /tmp rw - tmpfs tmpfs rw\n\
    33 1 0:52 / /proc rw - proc proc rw\n\
    34 1 0:53 / /z rw - zfs tank/photos rw\n";
