//! One drive: what sysfs and the udev database say about it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::links::is_usb_device;
use super::mountinfo::parse_device;
use super::sysfs::{Sysfs, attribute, attribute_bytes, device_name, names};

/// Bytes in one unit of the `size` attribute, whatever the drive's own block is.
/// Source: Documentation/ABI/stable/sysfs-block.
const SIZE_UNIT: u64 = 512;

/// Smallest block any Linux block device has; stands in for a missing attribute.
const BLOCK_DEFAULT: u32 = 512;

/// How a drive is attached. A hint for people and for defaults, never for correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A SATA or PATA port of this machine.
    Sata,
    /// A SAS host adapter; the drive itself may speak SATA.
    Sas,
    /// NVMe over PCIe.
    Nvme,
    /// USB, whatever is behind the bridge.
    Usb,
    /// A virtual machine's paravirtual disk.
    Virtio,
    /// A loop device.
    Loop,
    /// An SD card or eMMC.
    Mmc,
    /// A storage network: iSCSI, Fibre Channel, NVMe over fabrics, nbd, rbd, DRBD.
    Network,
    /// None of these.
    Unknown,
}

impl Transport {
    /// Returns the stable word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Nvme => "nvme",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
            Self::Loop => "loop",
            Self::Mmc => "mmc",
            Self::Network => "network",
            Self::Unknown => "unknown",
        }
    }

    /// Classes a drive by its place in the device tree. `place` is relative to the sysfs root;
    /// only whole components count, so a drive named after a bus cannot mislead.
    ///
    /// The order matters where buses nest: a card reader on USB shows an MMC host below the USB
    /// port, an iSCSI disk may show the network card's PCI path.
    fn of(place: &Path, disk: &Path, name: &str) -> Self {
        let any = |test: &dyn Fn(&str) -> bool| {
            place
                .components()
                .any(|part| part.as_os_str().to_str().is_some_and(test))
        };
        let bus = |prefix: &str| any(&|part: &str| is_numbered(part, prefix));

        if is_numbered(name, "loop") {
            Self::Loop
        } else if ["nbd", "rbd", "drbd"].iter().any(|p| is_numbered(name, p)) {
            Self::Network
        } else if bus("usb") {
            Self::Usb
        } else if bus("session") || any(&|part: &str| part.starts_with("rport-")) {
            Self::Network
        } else if is_numbered(name, "nvme") {
            if over_fabric(disk) {
                Self::Network
            } else {
                Self::Nvme
            }
        } else if any(&|part: &str| part == "mmc_host") {
            Self::Mmc
        } else if bus("virtio") {
            Self::Virtio
        } else if any(&|part: &str| part.starts_with("end_device-")) {
            Self::Sas
        } else if bus("ata") {
            Self::Sata
        } else {
            Self::Unknown
        }
    }
}

/// Whether `text` is `prefix` followed by a digit: `usb1`, not `usbhid`.
pub(super) fn is_numbered(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether an NVMe namespace is reached over a network. With native multipath `device` is the
/// subsystem, and its controllers (`nvme0`, ...) hold the attribute.
fn over_fabric(disk: &Path) -> bool {
    let device = disk.join("device");
    let controllers = names(&device)
        .into_iter()
        .filter(|name| name.to_str().is_some_and(|n| is_numbered(n, "nvme")))
        .map(|name| device.join(name));
    std::iter::once(device.clone())
        .chain(controllers)
        .filter_map(|controller| attribute(&controller, "transport"))
        .any(|word| matches!(word.as_str(), "tcp" | "rdma" | "fc" | "loop"))
}

/// A leaf of the storage stack: a block device with no other block device beneath it.
///
/// A loop device is a leaf too, with its file in `backing`. What is beneath that file is another
/// drive's affair: images are mounted to be read as drives.
///
/// What a drive does not tell is `None` (or the default named); nothing here is ever an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Kernel name: `sda`, `nvme0n1`, `loop3`. Unique while the machine runs.
    pub name: String,
    /// Major and minor number; zeros when unknown.
    pub device: (u32, u32),
    /// Model, as the drive spells it, blanks trimmed.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World wide name: `naa.5000...`, `eui.0025...`, or udev's `0x5000...`.
    pub wwn: Option<String>,
    /// Whether the kernel says it spins; `None` of a virtio disk, of which it does not know. Other
    /// virtual disks and USB bridges often say so wrongly.
    pub rotational: Option<bool>,
    /// How it is attached.
    pub transport: Transport,
    /// Capacity in bytes; 0 when unknown.
    pub size: u64,
    /// Addressing unit in bytes; 512 when unknown.
    pub logical_block: u32,
    /// Unit the drive writes without a read, in bytes; the logical block when unknown.
    pub physical_block: u32,
    /// Whether the block device is read-only.
    pub read_only: bool,
    /// The file behind a loop device, as its opener's mount namespace names it.
    pub backing: Option<PathBuf>,
}

impl Drive {
    /// Returns what sysfs tells of the drive whose canonical directory is `disk`.
    pub(super) fn read(sysfs: &Sysfs, disk: &Path) -> Self {
        let name = device_name(disk);
        let number = |attr: &str| attribute(disk, attr).and_then(|text| text.parse::<u32>().ok());
        let device = attribute(disk, "dev")
            .and_then(|text| parse_device(&text))
            .unwrap_or((0, 0));
        let transport = Transport::of(sysfs.place(disk), disk, &name);
        let udev = Udev::read(sysfs, device);
        let logical_block = number("queue/logical_block_size")
            .filter(|&bytes| bytes > 0)
            .unwrap_or(BLOCK_DEFAULT);
        // MMC has no model; its product name is the nearest thing.
        let model_attribute = match transport {
            Transport::Mmc => "device/name",
            _ => "device/model",
        };

        Self {
            device,
            model: attribute(disk, model_attribute).filter(|text| !text.is_empty()),
            serial: serial(disk).or_else(|| udev.property("ID_SERIAL_SHORT")),
            wwn: wwn(disk).or_else(|| udev.property("ID_WWN")),
            // Virtio's driver says so of every disk (drivers/block/virtio_blk.c): it does not know. A
            // SCSI disk behind virtio was asked.
            rotational: number("queue/rotational")
                .map(|flag| flag != 0)
                .filter(|&spins| !(spins && name.starts_with("vd"))),
            transport,
            size: attribute(disk, "size")
                .and_then(|text| text.parse::<u64>().ok())
                .map_or(0, |units| units.saturating_mul(SIZE_UNIT)),
            logical_block,
            physical_block: number("queue/physical_block_size")
                .filter(|&bytes| bytes >= logical_block)
                .unwrap_or(logical_block),
            read_only: number("ro") == Some(1),
            backing: backing(disk),
            name,
        }
    }

    /// Returns whether it is memory that looks like a drive: brd's and zram's devices. Source:
    /// drivers/block/brd.c, drivers/block/zram/zram_drv.c.
    pub fn is_memory(&self) -> bool {
        ["ram", "zram"].iter().any(|p| is_numbered(&self.name, p))
    }

    /// Returns whether it is a ZFS volume: it is in a pool, and the kernel does not tell on which
    /// drives; reads go through ZFS's own cache in memory, with O_DIRECT as well. Source: OpenZFS,
    /// include/sys/fs/zfs.h, `ZVOL_DEV_NAME`.
    pub fn is_zfs_volume(&self) -> bool {
        is_numbered(&self.name, "zd")
    }
}

/// The serial number where the kernel shows it: NVMe and MMC, then virtio, then SCSI.
fn serial(disk: &Path) -> Option<String> {
    ["device/serial", "serial"]
        .iter()
        .filter_map(|attr| attribute(disk, attr))
        .find(|text| !text.is_empty())
        .or_else(|| serial_page(&attribute_bytes(disk, "device/vpd_pg80")?))
}

/// The serial number of the USB device that a disk is behind. For people only: it is the bridge's, or
/// the reader's, where udev knows that of the disk, and several disks may be behind it.
pub(super) fn usb_serial(disk: &Path) -> Option<String> {
    let is_usb = |dir: &&Path| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.is_some_and(is_usb_device)
    };
    let device = disk.ancestors().find(is_usb)?;
    attribute(device, "serial").filter(|text| !text.is_empty())
}

/// Reads SCSI vital product page 0x80: a four-byte header with the length in bytes 2 and 3, then
/// the serial number padded with blanks. Source: SPC-4, 7.8.
fn serial_page(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else {
        return None;
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let field = rest.get(..len).unwrap_or(rest);
    let text = String::from_utf8_lossy(field);
    let serial = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!serial.is_empty()).then(|| serial.to_owned())
}

/// The world wide name: NVMe has it at the disk, SCSI at the device. A `t10.` id is the vendor,
/// model and serial glued together, not a world wide name.
fn wwn(disk: &Path) -> Option<String> {
    ["wwid", "device/wwid"]
        .iter()
        .filter_map(|attr| attribute(disk, attr))
        .find(|text| !text.is_empty() && !text.starts_with("t10."))
}

fn backing(disk: &Path) -> Option<PathBuf> {
    let mut path = attribute_bytes(disk, "loop/backing_file")?;
    // Exactly one newline is the kernel's; another would belong to the name.
    if path.last() == Some(&b'\n') {
        path.pop();
    }
    (!path.is_empty()).then(|| PathBuf::from(OsString::from_vec(path)))
}

/// The udev record of a device: lines `E:KEY=VALUE`. Empty where udev does not run.
pub(super) struct Udev(String);

impl Udev {
    pub(super) fn read(sysfs: &Sysfs, (major, minor): (u32, u32)) -> Self {
        let record = sysfs
            .udev()
            .and_then(|dir| std::fs::read(dir.join(format!("b{major}:{minor}"))).ok());
        Self(String::from_utf8_lossy(&record.unwrap_or_default()).into_owned())
    }

    pub(super) fn property(&self, key: &str) -> Option<String> {
        self.0
            .lines()
            .find_map(|line| {
                line.strip_prefix("E:")?
                    .strip_prefix(key)?
                    .strip_prefix('=')
            })
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_tells_the_transport() {
        let cases = [
            (
                "devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sda",
                "sata",
            ),
            (
                "devices/pci0000:00/0000:01:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sdb",
                "sas",
            ),
            ("devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1", "nvme"),
            (
                "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdc",
                "usb",
            ),
            (
                "devices/pci0000:00/0000:00:02.0/virtio1/block/vda",
                "virtio",
            ),
            (
                "devices/pci0000:00/0000:00:05.0/virtio2/host0/target0:0:0/0:0:0:0/block/sdd",
                "virtio",
            ),
            ("devices/virtual/block/loop12", "loop"),
            (
                "devices/platform/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
                "mmc",
            ),
            (
                "devices/platform/host7/session1/target7:0:0/7:0:0:1/block/sde",
                "network",
            ),
            (
                "devices/pci0000:00/0000:03:00.0/host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sdf",
                "network",
            ),
            ("devices/virtual/block/nbd4", "network"),
            ("devices/virtual/block/dm-0", "unknown"),
            ("devices/vbd-51712/block/xvda", "unknown"),
            ("devices/usbhid/atari/virtional/block/sdz", "unknown"),
        ];
        for (place, word) in cases {
            let name = place.rsplit('/').next().unwrap_or_default();
            let transport = Transport::of(Path::new(place), Path::new("/nowhere"), name);
            assert_eq!(transport.word(), word, "{place}");
        }
    }

    #[test]
    fn a_serial_page_is_cut_to_its_length_and_trimmed() {
        assert_eq!(
            serial_page(b"\x00\x80\x00\x08  WD-12 junk").as_deref(),
            Some("WD-12")
        );
        assert_eq!(serial_page(b"\x00\x80\x00\xffABC").as_deref(), Some("ABC"));
        assert_eq!(serial_page(b"\x00\x80\x00\x04    "), None);
        assert_eq!(serial_page(b"\x00\x83\x00\x04ABCD"), None);
        assert_eq!(serial_page(b"\x00\x80"), None);
    }
}
