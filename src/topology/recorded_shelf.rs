//! Whole shelves, rebuilt as small trees in the shape sysfs has them: what is found of what hangs on
//! what, and how much each link carries.

use super::machines::{
    ARRAY_TABLE, MULTIPATH_TABLE, UNITS_TABLE, pci, with_degraded_array, with_expander, with_hub,
    with_multipath, with_two_controllers,
};
use super::recorded::{ATA_B, ATA_C, Machine, VIRTUAL, with_sata_disks};
use super::{Attached, Link, LinkKind, Shelf, Transport};

fn shelf(machine: &Machine, table: &str) -> Shelf {
    machine.topology(table).shelf()
}

fn names(shelf: &Shelf) -> Vec<&str> {
    shelf.drives.iter().map(|a| a.drive.name.as_str()).collect()
}

fn drive<'s>(shelf: &'s Shelf, name: &str) -> &'s Attached {
    let found = shelf.drives.iter().find(|a| a.drive.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(shelf)))
}

/// Kind, name, ceiling and drives of each link.
fn links(shelf: &Shelf) -> Vec<(LinkKind, &str, Option<u64>, String)> {
    let short = |link: &Link| link.drives.join(" ");
    shelf
        .links
        .iter()
        .map(|link| (link.kind, link.name.as_str(), link.ceiling, short(link)))
        .collect()
}

fn points(attached: &Attached) -> Vec<(&str, usize)> {
    attached
        .mounts
        .iter()
        .map(|used| (used.mount.point.to_str().unwrap(), used.spread))
        .collect()
}

#[test]
fn drives_behind_an_expander_share_its_wide_port() {
    let machine = with_expander();
    let shelf = shelf(&machine, "");
    assert_eq!(names(&shelf), ["sda", "sdb", "sdc", "sdd"]);
    assert_eq!(
        links(&shelf),
        [(
            LinkKind::Sas,
            "port-0:0",
            Some(4_800_000_000),
            "sda sdb sdc sdd".to_owned()
        )]
    );
    let also = &shelf.links[0].also;
    for place in ["0000:00:01.0", "0000:01:00.0", "expander-0:0"] {
        assert!(also.iter().any(|name| name == place), "{place} in {also:?}");
    }
    let sdb = drive(&shelf, "sdb");
    assert_eq!(sdb.drive.transport, Transport::Sas);
    assert_eq!(sdb.narrowest, Some(("port-0:0:1".to_owned(), 600_000_000)));
    let controller = sdb.controller.as_ref().unwrap();
    assert_eq!(controller.place, "0000:01:00.0");
    assert_eq!(controller.driver.as_deref(), Some("mpt3sas"));
    assert_eq!(controller.numa_node, Some(1));
    assert_eq!(sdb.queue.depth, Some(32));
    assert_eq!(sdb.queue.requests, Some(256));
    assert_eq!(sdb.queue.max_bytes, Some(1_310_720));
    assert_eq!(sdb.queue.scheduler.as_deref(), Some("mq-deadline"));
    assert_eq!(sdb.health.state.as_deref(), Some("running"));
    assert_eq!(
        sdb.health.io_errors,
        Some(3),
        "told, and no concern by itself"
    );
    assert!(sdb.health.concerns.is_empty());
}

#[test]
fn the_ports_of_one_sata_controller_share_its_function() {
    let machine = with_sata_disks();
    assert_eq!(
        links(&shelf(&machine, "")),
        [(
            LinkKind::Pci,
            "0000:00:17.0",
            None,
            "sda sdb sdc".to_owned()
        )]
    );
}

#[test]
fn the_namespaces_of_one_controller_share_it() {
    let machine = Machine::new();
    let controller = "devices/pci0000:00/0000:02:00.0/nvme/nvme0";
    machine.attr(controller, "transport", "pcie\n");
    for number in 1..3 {
        let disk = format!("{controller}/nvme0n{number}");
        machine.block(&disk, &format!("259:{number}"));
    }
    assert_eq!(
        links(&shelf(&machine, "")),
        [(LinkKind::Nvme, "nvme0", None, "nvme0n1 nvme0n2".to_owned())]
    );
}

#[test]
fn the_drives_of_one_iscsi_session_share_it() {
    let machine = Machine::new();
    for (number, letter) in [(0, 'a'), (1, 'b')] {
        let disk =
            format!("devices/platform/host7/session1/target7:0:0/7:0:0:{number}/block/sd{letter}");
        machine
            .block(&disk, &format!("8:{}", number * 16))
            .attr(&disk, "size", "2048\n");
    }
    assert_eq!(
        links(&shelf(&machine, "")),
        [(LinkKind::Network, "session1", None, "sda sdb".to_owned())]
    );
}

#[test]
fn drives_behind_a_port_multiplier_share_a_sata_wire() {
    let machine = Machine::new();
    let port = "devices/pci0000:00/0000:00:17.0/ata5";
    machine.attr(
        &format!("{port}/link5/ata_link/link5"),
        "sata_spd",
        "3.0 Gbps\n",
    );
    for (number, letter) in [(0, 'a'), (1, 'b')] {
        let disk = format!("{port}/host4/target4:{number}:0/4:{number}:0:0/block/sd{letter}");
        machine.block(&disk, &format!("8:{}", number * 16));
    }
    let found = shelf(&machine, "");
    assert_eq!(
        links(&found),
        [(
            LinkKind::Sata,
            "ata5",
            Some(300_000_000),
            "sda sdb".to_owned()
        )]
    );
}

#[test]
fn drives_on_a_hub_share_the_wire_to_it() {
    let machine = with_hub();
    let found = shelf(&machine, "");
    assert_eq!(
        links(&found),
        [
            // The ports of the root hub share a controller, and no wire whose rate is known.
            (LinkKind::UsbRoot, "usb2", None, "sda sdb sdc".to_owned()),
            (
                LinkKind::Usb,
                "2-1",
                Some(500_000_000),
                "sda sdb".to_owned()
            ),
        ]
    );
    let sda = &drive(&found, "sda").drive;
    assert_eq!(sda.transport, Transport::Usb);
    assert_eq!(sda.serial.as_deref(), Some("575831"));
    // A bridge's number does not tell one disk, or card, from another.
    let own = machine.topology("").drives_of(sda.device);
    assert_eq!(own[0].serial, None);
    assert_eq!(drive(&found, "sdb").drive.serial, None, "not the hub's");
    assert_eq!(
        drive(&found, "sdc").narrowest,
        Some(("2-3".to_owned(), 500_000_000))
    );
}

#[test]
fn an_nvme_drive_has_its_own_lanes_and_a_state() {
    let machine = Machine::new();
    let port = "devices/pci0000:00/0000:00:06.0/0000:02:00.0";
    let controller = format!("{port}/nvme/nvme0");
    let disk = format!("{controller}/nvme0n1");
    pci(&machine, port, "16.0", "4");
    machine
        .attr(port, "numa_node", "-1\n")
        .attr(&controller, "state", "live\n")
        .attr(&controller, "transport", "pcie\n")
        .attr(&controller, "sqsize", "1023\n")
        .attr(&controller, "hwmon/hwmon3/temp1_input", "41850\n")
        .block(&disk, "259:0")
        .attr(&disk, "size", "1000215216\n")
        .link(&format!("{disk}/device"), &controller);
    // A second path that native multipath keeps to itself.
    let hidden = format!("{controller}/nvme0c0n1");
    machine
        .attr(&hidden, "hidden", "1\n")
        .link("class/block/nvme0c0n1", &hidden);
    let found = shelf(&machine, "");
    assert_eq!(names(&found), ["nvme0n1"]);
    assert!(found.links.is_empty());
    let nvme = drive(&found, "nvme0n1");
    assert_eq!(
        nvme.narrowest,
        Some(("0000:02:00.0".to_owned(), 7_876_923_076))
    );
    assert_eq!(nvme.health.state.as_deref(), Some("live"));
    assert_eq!(nvme.health.millidegrees, Some(41_850));
    assert_eq!(nvme.queue.depth, Some(1023));
    assert_eq!(
        nvme.controller.as_ref().unwrap().numa_node,
        None,
        "-1: there is but one"
    );
}

#[test]
fn an_nvme_subsystem_goes_by_its_controllers() {
    let machine = with_two_controllers();
    let found = shelf(&machine, "");
    let nvme = drive(&found, "nvme0n1");
    assert_eq!(nvme.drive.transport, Transport::Nvme);
    assert_eq!(nvme.controller.as_ref().unwrap().place, "0000:02:00.0");
    assert_eq!(nvme.queue.depth, Some(127));
    assert_eq!(
        nvme.narrowest,
        Some(("0000:03:00.0".to_owned(), 1_969_230_768))
    );
}

#[test]
fn drives_below_a_pcie_switch_share_its_upstream_link() {
    let machine = Machine::new();
    let upstream = "devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    pci(&machine, "devices/pci0000:00/0000:00:01.0", "8.0", "4");
    pci(&machine, upstream, "8.0", "4");
    for number in 0..2 {
        let down = format!("{upstream}/0000:02:0{number}.0");
        let end = format!("{down}/0000:0{}:00.0", number + 3);
        let disk = format!("{end}/nvme/nvme{number}/nvme{number}n1");
        pci(&machine, &down, "8.0", "4");
        pci(&machine, &end, "8.0", "4");
        machine.block(&disk, &format!("259:{number}"));
    }
    let found = shelf(&machine, "");
    assert_eq!(found.links.len(), 1);
    assert_eq!(found.links[0].ceiling, Some(3_938_461_536));
    assert_eq!(found.links[0].drives, ["nvme0n1", "nvme1n1"]);
}

#[test]
fn an_array_over_partitions_is_named_at_each_of_its_drives() {
    let machine = with_degraded_array();
    let found = shelf(&machine, ARRAY_TABLE);
    assert_eq!(
        names(&found),
        ["sda", "sdb", "sdc"],
        "the array is no drive"
    );
    for name in ["sda", "sdb"] {
        let member = drive(&found, name);
        assert_eq!(points(member), [("/srv", 2)]);
        assert_eq!(member.holders, ["md0"]);
        assert_eq!(
            member.health.concerns,
            [
                "the file system on md0 has recorded 2 errors",
                "array md0 lacks 1 drive",
            ]
        );
    }
    let thrown = drive(&found, "sdc");
    assert_eq!(points(thrown), [("/c", 1)]);
    assert!(thrown.mounts[0].mount.read_only);
    assert_eq!(thrown.health.concerns, ["array md0 has thrown it out"]);
    let parts: Vec<&str> = thrown.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["sdc1", "sdc2"]);
}

#[test]
fn encryption_on_a_volume_is_named_at_its_drive() {
    let machine = with_sata_disks();
    let volume = machine.stacked("dm-0", "253:0", "LVM-abc", &[&format!("{ATA_C}/sdc2")]);
    machine.stacked("dm-1", "253:1", "CRYPT-LUKS2-def", &[&volume]);
    machine.link(&format!("{ATA_C}/sdc2/holders/dm-0"), &volume);
    let found = shelf(
        &machine,
        "30 1 253:1 / /safe rw - xfs /dev/mapper/safe rw\n",
    );
    assert_eq!(names(&found), ["sda", "sdb", "sdc"]);
    let holding = drive(&found, "sdc");
    assert_eq!(points(holding), [("/safe", 1)]);
    assert_eq!(holding.holders, ["dm-0"]);
}

#[test]
fn btrfs_over_several_drives_is_mounted_from_each() {
    let machine = with_sata_disks();
    let devices = [&format!("{ATA_B}/sdb1")[..], &format!("{ATA_C}/sdc1")];
    machine.btrfs("1111-aaaa", &devices);
    let found = shelf(
        &machine,
        "40 1 0:40 /@ /pool rw - btrfs /dev/sdb1 rw,subvol=/@\n",
    );
    assert_eq!(points(drive(&found, "sdb")), [("/pool", 2)]);
    assert_eq!(points(drive(&found, "sdc")), [("/pool", 2)]);
    assert_eq!(points(drive(&found, "sda")), []);
    assert!(found.units.is_empty());
}

#[test]
fn the_paths_of_multipath_are_one_drive() {
    let machine = with_multipath();
    let found = shelf(&machine, MULTIPATH_TABLE);
    assert_eq!(names(&found), ["sda", "sdb"]);
    let joined = drive(&found, "sdb");
    assert_eq!(joined.paths, ["sdb", "sdc"]);
    assert_eq!(points(joined), [("/b", 1)]);
}

#[test]
fn loop_devices_share_the_drive_their_images_are_on() {
    let machine = with_sata_disks();
    for (number, image) in [(1, "/srv/a.img"), (2, "/srv/b.img"), (3, "")] {
        let place = format!("{VIRTUAL}/loop{number}");
        machine.block(&place, &format!("7:{number}"));
        if image.is_empty() {
            machine.attr(&place, "size", "0\n");
        } else {
            machine.attr(&place, "size", "2048\n").attr(
                &place,
                "loop/backing_file",
                format!("{image}\n"),
            );
        }
    }
    machine.block(&format!("{VIRTUAL}/zram0"), "252:0").attr(
        &format!("{VIRTUAL}/zram0"),
        "size",
        "2048\n",
    );
    let table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:17 / /srv rw - ext4 /dev/sdb1 rw\n";
    let found = shelf(&machine, table);
    assert_eq!(
        names(&found),
        ["loop1", "loop2", "sda", "sdb", "sdc"],
        "nothing is attached to loop3, and zram is memory"
    );
    assert_eq!(
        links(&found).last(),
        Some(&(LinkKind::Backing, "sdb", None, "loop1 loop2 sdb".to_owned()))
    );
}

#[test]
fn virtio_drives_stand_alone_and_a_dead_one_says_so() {
    let machine = Machine::new();
    for (number, state) in [(1, "running"), (2, "offline")] {
        let disk = format!(
            "devices/pci0000:00/0000:00:0{number}.0/virtio{number}/host{number}/\
             target{number}:0:0/{number}:0:0:0/block/sd{}",
            if number == 1 { 'a' } else { 'b' }
        );
        machine
            .block(&disk, &format!("8:{}", (number - 1) * 16))
            .attr(&disk, "queue/rotational", "1\n")
            .attr(&disk, "device/state", format!("{state}\n"))
            .attr(&disk, "device/iotmo_cnt", format!("{:#x}\n", number - 1));
    }
    let found = shelf(&machine, "");
    assert!(found.links.is_empty());
    assert_eq!(drive(&found, "sda").drive.transport, Transport::Virtio);
    assert_eq!(drive(&found, "sda").drive.rotational, Some(true));
    assert!(drive(&found, "sda").health.concerns.is_empty());
    assert_eq!(
        drive(&found, "sdb").health.concerns,
        ["its state is 'offline'", "it did not answer in time 1 time"]
    );
}

#[test]
fn storage_without_a_drive_here_is_a_unit() {
    let machine = with_sata_disks();
    let found = shelf(&machine, UNITS_TABLE);
    let units: Vec<(&str, usize)> = found
        .units
        .iter()
        .map(|unit| (unit.name.as_str(), unit.mounts.len()))
        .collect();
    assert_eq!(units, [("nfs:server:/export", 2), ("zfs:tank", 1)]);
}

const EMMC: &str = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";

#[test]
fn the_controller_on_a_device_tree_is_the_place_with_the_driver() {
    let machine = Machine::new();
    let host = "devices/platform/soc/fe340000.mmc";
    let card = format!("{host}/mmc_host/mmc0/mmc0:0001");
    machine
        .block(EMMC, "179:0")
        .attr("bus/platform/drivers/mmc-bcm2835", "bind", "")
        .link(
            &format!("{host}/driver"),
            "bus/platform/drivers/mmc-bcm2835",
        )
        // The driver of the card is not that of its controller.
        .attr("bus/mmc/drivers/mmcblk", "bind", "")
        .link(&format!("{card}/driver"), "bus/mmc/drivers/mmcblk");
    let found = shelf(&machine, "");
    let controller = drive(&found, "mmcblk0").controller.as_ref().unwrap();
    assert_eq!(controller.place, "fe340000.mmc");
    assert_eq!(controller.driver.as_deref(), Some("mmc-bcm2835"));
}

#[test]
fn the_boot_areas_of_emmc_are_no_drives_and_its_other_areas_are() {
    let machine = Machine::new();
    let disk = EMMC;
    machine.block(disk, "179:0");
    machine.partition(disk, "mmcblk0p1", "179:1");
    let boot = [("boot0", "179:32"), ("boot1", "179:64"), ("rpmb", "179:96")];
    for (name, number) in boot.into_iter().chain([("gp0", "179:128")]) {
        machine.block(&format!("{disk}/mmcblk0{name}"), number);
    }
    let found = shelf(&machine, "");
    assert_eq!(names(&found), ["mmcblk0", "mmcblk0gp0"]);
    assert_eq!(drive(&found, "mmcblk0").parts.len(), 1);
}

#[test]
fn a_zfs_volume_is_no_drive_and_its_mount_is_not_lost() {
    let machine = with_sata_disks();
    let volume = format!("{VIRTUAL}/zd16");
    machine
        .block(&volume, "230:16")
        .attr(&volume, "size", "2048\n");
    let found = shelf(&machine, "30 1 230:16 / /v rw - ext4 /dev/zd16 rw\n");
    assert_eq!(names(&found), ["sda", "sdb", "sdc"]);
    assert_eq!(found.units.len(), 1);
    assert_eq!(found.units[0].name, "zd16");
    assert_eq!(found.units[0].mounts.len(), 1);
}

#[test]
fn storage_networks_of_all_kinds_are_units() {
    let machine = with_sata_disks();
    let table = "30 1 0:50 / /a rw - lustre 10.0.0.1@tcp:/work rw\n\
        31 1 0:51 / /b rw - beegfs beegfs_nodev rw\n\
        32 1 0:52 / /c rw - beegfs beegfs_nodev rw\n\
        33 1 0:53 / /d rw - gpfs fs1 rw\n\
        34 1 0:54 / /e rw - pvfs2 tcp://host:3334/orangefs rw\n\
        35 1 0:55 / /f rw - vboxsf share rw\n";
    let found = shelf(&machine, table);
    let units: Vec<&str> = found.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(
        units,
        [
            "beegfs:0:51",
            "beegfs:0:52",
            "gpfs:fs1",
            "lustre:10.0.0.1@tcp:/work",
            "pvfs2:tcp://host:3334/orangefs",
            "vboxsf:share",
        ]
    );
}
