//! Whole machines, rebuilt as small trees in the shape sysfs has them, and what is found there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Drive, Location, Topology, Transport};

pub(crate) const ATA: &str =
    "devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda";
pub(crate) const ATA_B: &str =
    "devices/pci0000:00/0000:00:17.0/ata2/host1/target1:0:0/1:0:0:0/block/sdb";
pub(crate) const ATA_C: &str =
    "devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sdc";
pub(crate) const VIRTUAL: &str = "devices/virtual/block";

/// A tree like `/sys`, with links as the kernel makes them: relative.
pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn attr(&self, place: &str, name: &str, value: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(place).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value).unwrap();
        self
    }

    pub(crate) fn link(&self, at: &str, to: &str) -> &Self {
        let path = self.0.path().join(at);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("../".repeat(at.matches('/').count()) + to, path).unwrap();
        self
    }

    /// A block device: its directory, number, and the links to it.
    pub(crate) fn block(&self, place: &str, number: &str) -> &Self {
        let name = base(place);
        self.attr(place, "dev", format!("{number}\n"))
            .link(&format!("dev/block/{number}"), place)
            .link(&format!("class/block/{name}"), place)
    }

    /// A partition, and its place.
    pub(crate) fn partition(&self, disk: &str, name: &str, number: &str) -> String {
        let place = format!("{disk}/{name}");
        self.block(&place, number).attr(&place, "partition", "1\n");
        place
    }

    /// A virtual device on top of others, and its place.
    pub(crate) fn stacked(&self, name: &str, number: &str, uuid: &str, lower: &[&str]) -> String {
        let place = format!("{VIRTUAL}/{name}");
        self.block(&place, number);
        if !uuid.is_empty() {
            self.attr(&place, "dm/uuid", format!("{uuid}\n"));
        }
        for lower in lower {
            self.link(&format!("{place}/slaves/{}", base(lower)), lower);
        }
        place
    }

    pub(crate) fn btrfs(&self, uuid: &str, devices: &[&str]) -> &Self {
        for device in devices {
            self.link(&format!("fs/btrfs/{uuid}/devices/{}", base(device)), device);
        }
        self.attr("fs/btrfs/features", "acl", "0\n")
    }

    pub(crate) fn topology(&self, table: &str) -> Topology {
        Topology::with_roots(self.0.path(), table.as_bytes())
    }

    pub(crate) fn locate(&self, table: &str) -> Vec<Location> {
        let topology = Topology::with_roots(self.0.path(), table.as_bytes());
        let mounts = topology.mounts();
        assert_eq!(mounts.len(), table.lines().count(), "every line parses");
        mounts.iter().map(|m| topology.locate_mount(m)).collect()
    }

    /// The names of what is beneath each mount.
    pub(crate) fn names(&self, table: &str) -> Vec<String> {
        self.locate(table).iter().map(Location::name).collect()
    }
}

fn base(place: &str) -> &str {
    place.rsplit('/').next().unwrap()
}

pub(crate) fn with_sata_disks() -> Machine {
    let machine = Machine::new();
    for (place, letter, minor) in [(ATA, 'a', 0), (ATA_B, 'b', 16), (ATA_C, 'c', 32)] {
        machine.block(place, &format!("8:{minor}"));
        machine.partition(place, &format!("sd{letter}1"), &format!("8:{}", minor + 1));
        machine.partition(place, &format!("sd{letter}2"), &format!("8:{}", minor + 2));
    }
    machine
}

#[test]
fn a_sata_partition_is_on_its_disk() {
    let machine = with_sata_disks();
    machine
        .attr(ATA, "size", "23437770752\n")
        .attr(ATA, "ro", "0\n")
        .attr(ATA, "queue/rotational", "1\n")
        .attr(ATA, "queue/logical_block_size", "512\n")
        .attr(ATA, "queue/physical_block_size", "4096\n")
        .attr(ATA, "device/model", "ST12000NM0007-2A\n")
        .attr(ATA, "device/vpd_pg80", b"\0\x80\0\x08ZJV00XYZ")
        .attr(ATA, "device/wwid", "naa.5000c500a1b2c3d4\n");
    let locations = machine.locate("30 1 8:1 / /mnt/a rw - ext4 /dev/sda1 rw\n");
    assert_eq!(
        locations[0].drives,
        [Drive {
            name: "sda".to_owned(),
            device: (8, 0),
            model: Some("ST12000NM0007-2A".to_owned()),
            serial: Some("ZJV00XYZ".to_owned()),
            wwn: Some("naa.5000c500a1b2c3d4".to_owned()),
            rotational: Some(true),
            transport: Transport::Sata,
            size: 12_000_138_625_024,
            logical_block: 512,
            physical_block: 4096,
            read_only: false,
            backing: None,
        }]
    );
    assert_eq!(locations[0].unit, "");
    assert_eq!(locations[0].keys().collect::<Vec<_>>(), ["sda"]);
}

#[test]
fn an_nvme_partition_is_on_its_namespace() {
    let machine = Machine::new();
    let place = "devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1";
    machine
        .block(place, "259:0")
        .attr(place, "queue/rotational", "0\n")
        .attr(place, "wwid", "eui.0025385b21404321\n")
        .link(
            &format!("{place}/device"),
            "devices/pci0000:00/0000:02:00.0/nvme/nvme0",
        );
    let controller = "devices/pci0000:00/0000:02:00.0/nvme/nvme0";
    machine
        .attr(
            controller,
            "model",
            "Samsung SSD 970 PRO 1TB                 \n",
        )
        .attr(controller, "serial", "S462NF0K812345A     \n")
        .attr(controller, "transport", "pcie\n");
    machine.partition(place, "nvme0n1p2", "259:2");

    let locations = machine.locate("30 1 259:2 / / ro - xfs /dev/nvme0n1p2 ro\n");
    let drive = &locations[0].drives[0];
    assert_eq!(drive.name, "nvme0n1");
    assert_eq!(drive.transport, Transport::Nvme);
    assert_eq!(drive.model.as_deref(), Some("Samsung SSD 970 PRO 1TB"));
    assert_eq!(drive.serial.as_deref(), Some("S462NF0K812345A"));
    assert_eq!(drive.wwn.as_deref(), Some("eui.0025385b21404321"));
    assert_eq!(drive.rotational, Some(false));
    assert_eq!(
        (drive.size, drive.logical_block, drive.physical_block),
        (0, 512, 512)
    );
    assert!(locations[0].mount.read_only);
}

#[test]
fn an_nvme_subsystem_over_tcp_is_a_network_drive() {
    let machine = Machine::new();
    let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys3";
    let place = format!("{subsystem}/nvme3n1");
    let controller = "devices/virtual/nvme-fabrics/ctl/nvme3";
    machine
        .block(&place, "259:9")
        .link(&format!("{place}/device"), subsystem)
        .link(&format!("{subsystem}/nvme3"), controller)
        .attr(controller, "transport", "tcp\n");
    let locations = machine.locate("30 1 259:9 / /mnt rw - xfs /dev/nvme3n1 rw\n");
    assert_eq!(locations[0].drives[0].transport, Transport::Network);
}

#[test]
fn an_md_array_is_on_all_its_members() {
    let machine = with_sata_disks();
    let members = [&format!("{ATA_B}/sdb1")[..], &format!("{ATA}/sda1")];
    let md = machine.stacked("md0", "9:0", "", &members);
    machine.partition(&md, "md0p1", "259:5");
    let table = "30 1 9:0 / /a rw - ext4 /dev/md0 rw\n31 1 259:5 / /b rw - ext4 /dev/md0p1 rw\n";
    assert_eq!(machine.names(table), ["sda+sdb", "sda+sdb"]);
}

#[test]
fn encryption_on_a_volume_on_a_partition_is_on_the_disk() {
    let machine = with_sata_disks();
    let volume = machine.stacked("dm-0", "253:0", "LVM-abc", &[&format!("{ATA_C}/sdc2")]);
    machine.stacked("dm-1", "253:1", "CRYPT-LUKS2-def", &[&volume]);
    let table = "30 1 253:1 / /a rw - ext4 /dev/mapper/safe rw\n";
    assert_eq!(machine.names(table), ["sdc"]);
}

#[test]
fn the_paths_of_a_multipath_map_are_one_drive() {
    let machine = with_sata_disks();
    let map = machine.stacked("dm-2", "253:2", "mpath-3600a", &[ATA_C, ATA_B]);
    machine.stacked("dm-3", "253:3", "part1-mpath-3600a", &[&map]);
    let table = "30 1 253:3 / /a rw - xfs /dev/mapper/mpatha1 rw\n\
        31 1 253:2 / /b rw - xfs /dev/mapper/mpatha rw\n";
    assert_eq!(machine.names(table), ["sdb", "sdb"]);
}

#[test]
fn a_stack_that_goes_in_circles_ends() {
    let machine = with_sata_disks();
    let upper = machine.stacked("dm-4", "253:4", "LVM-x", &[ATA]);
    let lower = machine.stacked("dm-5", "253:5", "LVM-y", &[&upper]);
    machine.link(&format!("{upper}/slaves/dm-5"), &lower);
    let own = machine.stacked("dm-6", "253:6", "LVM-z", &[]);
    machine.link(&format!("{own}/slaves/dm-6"), &own);
    let table = "30 1 253:5 / /a rw - ext4 x rw\n31 1 253:6 / /b rw - ext4 y rw\n";
    assert_eq!(machine.names(table), ["sda", "dm-6"]);
}

#[test]
fn a_layer_that_went_away_leaves_the_rest() {
    let machine = with_sata_disks();
    let md = machine.stacked("md1", "9:1", "", &[ATA]);
    machine.link(&format!("{md}/slaves/sdq"), "devices/gone/sdq");
    assert_eq!(
        machine.names("30 1 9:1 / /a rw - ext4 /dev/md1 rw\n"),
        ["sda"]
    );
}

#[test]
fn a_loop_device_is_a_drive_of_its_own() {
    let machine = with_sata_disks();
    let place = format!("{VIRTUAL}/loop3");
    machine.block(&place, "7:3").attr(&place, "ro", "1\n").attr(
        &place,
        "loop/backing_file",
        "/srv/an image \n.img\n",
    );
    let locations = machine.locate("30 1 7:3 / /a ro - ext4 /dev/loop3 ro\n");
    let drive = &locations[0].drives[0];
    assert_eq!(locations[0].name(), "loop3");
    assert_eq!(drive.transport, Transport::Loop);
    assert!(drive.read_only);
    assert_eq!(drive.backing, Some(PathBuf::from("/srv/an image \n.img")));
}

#[test]
fn virtio_and_usb_disks_tell_what_they_can() {
    let machine = Machine::new();
    let virtio = "devices/pci0000:00/0000:00:02.0/virtio1/block/vda";
    let usb =
        "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdd";
    machine
        .block(virtio, "254:0")
        .attr(virtio, "queue/rotational", "1\n")
        .attr(virtio, "serial", "disk-7");
    machine
        .block(usb, "8:48")
        .attr(usb, "queue/rotational", "1\n")
        .attr(usb, "device/model", "Elements 25A2   \n")
        .attr(usb, "device/wwid", "t10.WD      Elements 25A2   WX11\n")
        .attr(
            "devices/pci0000:00/0000:00:14.0/usb2/2-1",
            "serial",
            "other\n",
        );
    let udev = tempfile::tempdir().unwrap();
    std::fs::write(
        udev.path().join("b8:48"),
        "S:disk/by-id/usb-WD\nE:ID_SERIAL=WD_Elements_WX11\nE:ID_SERIAL_SHORT=575831\nE:ID_WWN=0x50014ee2\n",
    )
    .unwrap();
    let table = b"30 1 254:0 / / rw - ext4 /dev/root rw\n31 1 8:48 / /u rw - exfat /dev/sdd rw\n";
    let topology = Topology::with_roots(machine.0.path(), table).with_udev(udev.path());
    let drives: Vec<Drive> = topology
        .mounts()
        .iter()
        .flat_map(|mount| topology.locate_mount(mount).drives)
        .collect();
    assert_eq!(drives[0].transport, Transport::Virtio);
    assert_eq!(drives[0].rotational, None);
    assert_eq!(drives[1].rotational, Some(true));
    assert_eq!(drives[0].serial.as_deref(), Some("disk-7"));
    assert_eq!(drives[0].wwn, None);
    assert_eq!(drives[1].transport, Transport::Usb);
    assert_eq!(drives[1].model.as_deref(), Some("Elements 25A2"));
    assert_eq!(drives[1].serial.as_deref(), Some("575831"));
    assert_eq!(drives[1].wwn.as_deref(), Some("0x50014ee2"));
}

#[test]
fn sysfs_and_udev_know_file_systems_by_their_uuid() {
    let machine = with_sata_disks();
    let udev = tempfile::tempdir().unwrap();
    for (device, uuid) in [("8:1", "4A21-77F0"), ("8:18", "aaaa-bbbb"), ("8:34", "")] {
        let record = format!("E:ID_FS_UUID_ENC=no\nE:ID_FS_UUID={uuid}\n");
        std::fs::write(udev.path().join(format!("b{device}")), record).unwrap();
    }
    let table = b"30 1 8:1 / /a rw - vfat /dev/sda1 rw\n\
        31 1 0:40 /@ /b rw - btrfs /dev/sdb2 rw,subvol=/@\n\
        32 1 8:34 / /c rw - exfat /dev/sdc2 rw\n\
        33 1 8:33 / /d rw - exfat /dev/sdc1 rw\n\
        34 1 0:50 / /e rw - nfs4 server:/x rw\n\
        35 1 0:41 / /f rw - btrfs /dev/sda2 rw\n";
    machine.btrfs(
        "cccc-dddd",
        &[&format!("{ATA_B}/sdb1"), &format!("{ATA}/sda2")],
    );
    let topology = Topology::with_roots(machine.0.path(), table).with_udev(udev.path());
    let found: Vec<Option<String>> = topology
        .mounts()
        .iter()
        .map(|mount| topology.locate_mount(mount).uuid)
        .collect();
    let known = |uuid: &str| Some(uuid.to_owned());
    assert_eq!(
        found,
        [
            known("4A21-77F0"),
            known("aaaa-bbbb"),
            None,
            None,
            None,
            known("cccc-dddd"),
        ]
    );
}

#[test]
fn an_empty_sysfs_is_no_error() {
    let topology = Topology::with_roots(Path::new("/nonexistent"), b"1 0 8:1 / / rw - ext4 x rw");
    let location = topology.locate_mount(&topology.mounts()[0]);
    assert_eq!(location.unit, "ext4:8:1");
}
