//! What drives have in common on their way to memory: ports, hubs, expanders, controllers, and how
//! much each of them carries.
//!
//! The place of a drive in sysfs is the way its bytes take: every directory above it that is a
//! bus, a hub or a function is passed by all drives below. What two or more drives pass is a
//! shared link. Its ceiling is what the wire carries without line code; a protocol takes its own
//! part off that, so no drive ever sees all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::drive::is_numbered;
use super::sysfs::{Sysfs, attribute, linked, names};

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkKind {
    /// The way from a PCI function to the one above it.
    Pci,
    /// A SATA port, with a port multiplier behind it if several drives share it.
    Sata,
    /// A SAS port: one wire or several as one.
    Sas,
    /// A SAS expander.
    Expander,
    /// The root hub of a USB controller: its ports share a controller, not a wire.
    UsbRoot,
    /// A USB hub, or a bridge with several drives: the wire above it.
    Usb,
    /// An NVMe controller with several namespaces.
    Nvme,
    /// An iSCSI session or a Fibre Channel port.
    Network,
    /// One drive that holds the images of several loop devices.
    Backing,
}

impl LinkKind {
    /// Returns the stable word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Expander => "expander",
            Self::UsbRoot => "usb-root",
            Self::Usb => "usb",
            Self::Nvme => "nvme",
            Self::Network => "network",
            Self::Backing => "backing",
        }
    }
}

/// One place that several drives share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// The kernel's name: `0000:01:00.0`, `port-0:0`, `2-1`, `ata3`.
    pub name: String,
    /// Other places that the very same drives share.
    pub also: Vec<String>,
    /// Most bytes a second it carries in one direction; `None` when the kernel does not tell.
    pub ceiling: Option<u64>,
    /// The drives behind it, by name, sorted.
    pub drives: Vec<String>,
}

/// A place on the way of one drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) kind: LinkKind,
    pub(super) name: String,
    pub(super) ceiling: Option<u64>,
}

/// Returns the directories whose way up a drive's bytes take: that of the disk, or, where native
/// multipath puts the disk under its subsystem, those of the subsystem's controllers.
pub(super) fn routes(sysfs: &Sysfs, disk: &Path) -> Vec<PathBuf> {
    let virtual_subsystem = Path::new("devices/virtual/nvme-subsystem");
    if !sysfs.place(disk).starts_with(virtual_subsystem) {
        return vec![disk.to_owned()];
    }
    let subsystem = disk.join("device");
    let controllers: Vec<PathBuf> = linked(&subsystem)
        .into_iter()
        .filter(|(name, _)| name.to_str().is_some_and(|n| is_numbered(n, "nvme")))
        .map(|(_, node)| node)
        .filter(|node| attribute(node, "transport").is_some())
        .collect();
    if controllers.is_empty() {
        vec![disk.to_owned()]
    } else {
        controllers
    }
}

/// Returns the places on the way from memory to a drive, outermost first.
pub(super) fn stops(sysfs: &Sysfs, route: &Path) -> Vec<Stop> {
    let mut stops = Vec::new();
    let above: Vec<&Path> = route.ancestors().collect();
    for dir in above.into_iter().rev() {
        if !sysfs.place(dir).starts_with("devices") {
            continue;
        }
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if let Some((kind, ceiling)) = stop(dir, name) {
            stops.push(Stop {
                kind,
                name: name.to_owned(),
                ceiling,
            });
        }
    }
    stops
}

fn stop(dir: &Path, name: &str) -> Option<(LinkKind, Option<u64>)> {
    if is_pci_function(name) {
        Some((LinkKind::Pci, pci_ceiling(dir)))
    } else if is_numbered(name, "ata") {
        Some((LinkKind::Sata, sata_ceiling(dir)))
    } else if is_numbered(name, "port-") {
        Some((LinkKind::Sas, sas_ceiling(dir)))
    } else if is_numbered(name, "expander-") {
        Some((LinkKind::Expander, None))
    } else if is_numbered(name, "usb") {
        Some((LinkKind::UsbRoot, None))
    } else if is_usb_device(name) && attribute(dir, "speed").is_some() {
        Some((LinkKind::Usb, usb_ceiling(dir)))
    } else if is_numbered(name, "nvme") && attribute(dir, "transport").is_some() {
        Some((LinkKind::Nvme, None))
    } else if is_numbered(name, "session") {
        Some((LinkKind::Network, None))
    } else if is_numbered(name, "host") && dir.join("fc_host").is_dir() {
        Some((LinkKind::Network, fibre_ceiling(dir, name)))
    } else {
        None
    }
}

/// `0000:3b:00.0`: domain, bus, device, function, in hex.
pub(super) fn is_pci_function(name: &str) -> bool {
    let hex = |text: &str, len: usize| {
        text.len() >= len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = name.split(':');
    let (Some(domain), Some(bus), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    rest.split_once('.').is_some_and(|(device, function)| {
        hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1)
    })
}

/// `2-1`, `2-1.4.3`: bus and ports; with a colon it is an interface of the device, not a place.
pub(super) fn is_usb_device(name: &str) -> bool {
    name.split_once('-').is_some_and(|(bus, ports)| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits(bus) && ports.split('.').all(digits)
    })
}

/// The number at the head of an attribute such as `8.0 GT/s PCIe`, in tenths.
fn tenths(text: &str) -> Option<u64> {
    let number = text.split_whitespace().next()?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let part: u64 = part.get(..1)?.parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(10)?
        .checked_add(part)
}

/// Lanes times what one carries. Bytes a second of a lane: 8b/10b up to 5 GT/s, 128b/130b up to
/// 32 GT/s, 242 of 256 bytes of a flit at 64 GT/s. Source: PCI Express Base Specification, 4.2.
fn pci_ceiling(dir: &Path) -> Option<u64> {
    let lane = match tenths(&attribute(dir, "current_link_speed")?)? {
        25 => 250_000_000,
        50 => 500_000_000,
        80 => 984_615_384,
        160 => 1_969_230_769,
        320 => 3_938_461_538,
        640 => 7_562_500_000,
        _ => return None,
    };
    let width: u64 = attribute(dir, "current_link_width")?.parse().ok()?;
    (width > 0).then(|| width.saturating_mul(lane))
}

/// 8b/10b: a tenth of a gigabit a second carries 10 MB/s. Source: Serial ATA 3.5, 7.2.
fn sata_ceiling(port: &Path) -> Option<u64> {
    names(port)
        .into_iter()
        .filter(|name| name.to_str().is_some_and(|n| is_numbered(n, "link")))
        .find_map(|link| {
            let inner = port.join(&link).join("ata_link").join(&link);
            let gigabits = tenths(&attribute(&inner, "sata_spd")?)?;
            (gigabits > 0).then(|| gigabits.saturating_mul(10_000_000))
        })
}

/// The sum over the wires of a port. 8b/10b up to 12 Gbit/s; 128 of 150 bits at 22.5 Gbit/s.
/// Source: SAS Protocol Layer 4 and SAS-4, "physical link rate".
fn sas_ceiling(port: &Path) -> Option<u64> {
    let wires = linked(port)
        .into_iter()
        .filter(|(name, _)| name.to_str().is_some_and(|n| is_numbered(n, "phy-")))
        .filter_map(|(name, phy)| {
            let rate = attribute(&phy.join("sas_phy").join(name), "negotiated_linkrate")?;
            match tenths(&rate)? {
                225 => Some(2_400_000_000),
                gigabits => gigabits.checked_mul(10_000_000),
            }
        });
    let sum: u64 = wires.sum();
    (sum > 0).then_some(sum)
}

/// Megabits a second without the line code: none up to 480, 8b/10b at 5,000, 128b/132b above.
/// Source: Universal Serial Bus 3.2, 6.3.
fn usb_ceiling(device: &Path) -> Option<u64> {
    let megabits = tenths(&attribute(device, "speed")?)? / 10;
    let bits = megabits.checked_mul(1_000_000)?;
    match megabits {
        0 => None,
        1..1000 => Some(bits / 8),
        1000..=5000 => Some(bits / 10),
        _ => Some(bits / 8 * 128 / 132),
    }
}

/// 100 MB/s for each gigabit of the port's name, whatever the line code. Source: FC-PI-7, 4.
fn fibre_ceiling(host: &Path, name: &str) -> Option<u64> {
    let speed = attribute(&host.join("fc_host").join(name), "speed")?;
    let gigabits = tenths(&speed)? / 10;
    (gigabits > 0).then(|| gigabits.saturating_mul(100_000_000))
}

/// Returns what two or more drives share, outermost first. Places that the very same drives share
/// become one link: the one of them that carries least.
pub(super) fn shared(ways: &[(String, Vec<Stop>)]) -> Vec<Link> {
    let mut order: Vec<Link> = Vec::new();
    let mut at: BTreeMap<(LinkKind, &str), usize> = BTreeMap::new();
    for (drive, stops) in ways {
        for stop in stops {
            let index = *at
                .entry((stop.kind, stop.name.as_str()))
                .or_insert_with(|| {
                    order.push(Link {
                        kind: stop.kind,
                        name: stop.name.clone(),
                        also: Vec::new(),
                        ceiling: stop.ceiling,
                        drives: Vec::new(),
                    });
                    order.len() - 1
                });
            if let Some(link) = order.get_mut(index)
                && !link.drives.contains(drive)
            {
                link.drives.push(drive.clone());
            }
        }
    }
    let mut links: Vec<Link> = Vec::new();
    for mut link in order.into_iter().filter(|link| link.drives.len() > 1) {
        link.drives.sort();
        match links.iter_mut().find(|known| known.drives == link.drives) {
            Some(known) => join(known, link),
            None => links.push(link),
        }
    }
    // Many drives first: that is from the outside in, on any one way.
    links.sort_by_key(|link| std::cmp::Reverse(link.drives.len()));
    links
}

/// Makes one link of two that the same drives share. A place whose ceiling is known, and is the
/// lower one, names it; of two that are not known, the inner one does.
fn join(known: &mut Link, inner: Link) {
    let inner_names = match (known.ceiling, inner.ceiling) {
        (Some(outer), Some(inner)) => inner < outer,
        (Some(_), None) => false,
        (None, _) => true,
    };
    if inner_names {
        let outer = std::mem::replace(&mut known.name, inner.name);
        known.also.push(outer);
        known.kind = inner.kind;
        known.ceiling = inner.ceiling;
    } else {
        known.also.push(inner.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::recorded::Machine;

    #[test]
    fn names_tell_what_a_place_is() {
        for name in ["0000:00:17.0", "10000:e1:00.0", "0000:3b:1f.7"] {
            assert!(is_pci_function(name), "{name}");
        }
        for name in [
            "pci0000:00",
            "0000:00:17",
            "0:0:0:0",
            "0000:00:17.0:x",
            "1-1.2",
        ] {
            assert!(!is_pci_function(name), "{name}");
        }
        for name in ["2-1", "12-1.4.3"] {
            assert!(is_usb_device(name), "{name}");
        }
        for name in ["2-1:1.0", "usb2", "port-0", "2-", "2-1.", "a-1"] {
            assert!(!is_usb_device(name), "{name}");
        }
    }

    #[test]
    fn a_rate_is_read_with_one_decimal() {
        assert_eq!(tenths("8.0 GT/s PCIe"), Some(80));
        assert_eq!(tenths("2.5 GT/s"), Some(25));
        assert_eq!(tenths("480"), Some(4800));
        assert_eq!(tenths("22.5 Gbit"), Some(225));
        for text in ["Unknown", "", "<unknown>", "Spinup hold"] {
            assert_eq!(tenths(text), None, "{text}");
        }
    }

    /// What the innermost stop on the way to a place is, and what it carries.
    fn innermost(machine: &Machine, place: &str) -> (LinkKind, Option<u64>) {
        let sysfs = machine.topology("").sysfs;
        let stops = stops(&sysfs, &sysfs.dir(place));
        stops.last().map(|stop| (stop.kind, stop.ceiling)).unwrap()
    }

    #[test]
    fn a_pci_link_carries_its_lanes() {
        let cases = [
            ("2.5 GT/s PCIe", "1", Some(250_000_000)),
            ("5.0 GT/s PCIe", "4", Some(2_000_000_000)),
            ("8.0 GT/s PCIe", "1", Some(984_615_384)),
            ("16.0 GT/s PCIe", "2", Some(3_938_461_538)),
            ("32.0 GT/s PCIe", "4", Some(15_753_846_152)),
            ("64.0 GT/s PCIe", "8", Some(60_500_000_000)),
            ("128.0 GT/s PCIe", "4", None),
            ("8.0 GT/s PCIe", "0", None),
            ("Unknown", "4", None),
        ];
        for (speed, width, bytes) in cases {
            let machine = Machine::new();
            let place = "devices/pci0000:00/0000:00:01.0";
            machine
                .attr(place, "current_link_speed", format!("{speed}\n"))
                .attr(place, "current_link_width", format!("{width}\n"));
            assert_eq!(
                innermost(&machine, place),
                (LinkKind::Pci, bytes),
                "{speed}"
            );
        }
    }

    #[test]
    fn a_usb_link_carries_its_rate_without_the_line_code() {
        let cases = [
            ("480", Some(60_000_000)),
            ("5000", Some(500_000_000)),
            ("10000", Some(1_212_121_212)),
            ("20000", Some(2_424_242_424)),
            ("unknown", None),
        ];
        for (speed, bytes) in cases {
            let machine = Machine::new();
            let place = "devices/pci0000:00/0000:00:14.0/usb2/2-1";
            machine.attr(place, "speed", format!("{speed}\n"));
            assert_eq!(
                innermost(&machine, place),
                (LinkKind::Usb, bytes),
                "{speed}"
            );
        }
    }

    #[test]
    fn a_sas_port_carries_what_its_wires_do_together() {
        let cases = [
            (&["22.5 Gbit"][..], Some(2_400_000_000)),
            (&["12.0 Gbit", "12.0 Gbit"], Some(2_400_000_000)),
            (&["6.0 Gbit", "Phy disabled", "3.0 Gbit"], Some(900_000_000)),
            (&["Unknown"], None),
        ];
        for (rates, bytes) in cases {
            let machine = Machine::new();
            let host = "devices/pci0000:00/0000:01:00.0/host0";
            let port = format!("{host}/port-0:0");
            for (number, rate) in rates.iter().enumerate() {
                let name = format!("phy-0:{number}");
                let wire = format!("{host}/{name}");
                let inner = format!("{wire}/sas_phy/{name}");
                machine
                    .attr(&inner, "negotiated_linkrate", format!("{rate}\n"))
                    .link(&format!("{port}/{name}"), &wire);
            }
            assert_eq!(
                innermost(&machine, &port),
                (LinkKind::Sas, bytes),
                "{rates:?}"
            );
        }
    }

    #[test]
    fn a_fibre_channel_port_carries_what_its_name_says() {
        let cases = [("32 Gbit", Some(3_200_000_000)), ("unknown", None)];
        for (speed, bytes) in cases {
            let machine = Machine::new();
            let host = "devices/pci0000:00/0000:03:00.0/host3";
            let inner = format!("{host}/fc_host/host3");
            machine.attr(&inner, "speed", format!("{speed}\n"));
            let found = innermost(&machine, &format!("{host}/rport-3:0-0/block/sdf"));
            assert_eq!(found, (LinkKind::Network, bytes), "{speed}");
        }
    }

    fn way(drive: &str, stops: &[(LinkKind, &str, Option<u64>)]) -> (String, Vec<Stop>) {
        let stop = |(kind, name, ceiling): &(LinkKind, &str, Option<u64>)| Stop {
            kind: *kind,
            name: (*name).to_owned(),
            ceiling: *ceiling,
        };
        (drive.to_owned(), stops.iter().map(stop).collect())
    }

    #[test]
    fn one_set_of_drives_has_one_link_the_narrowest() {
        let on = |port| {
            [
                (LinkKind::Pci, "0000:00:01.0", Some(8_000)),
                (LinkKind::Pci, "0000:01:00.0", None),
                (LinkKind::Sas, "port-0:0", Some(4_800)),
                (LinkKind::Expander, "expander-0:0", None),
                (LinkKind::Sas, port, Some(1_200)),
            ]
        };
        let links = shared(&[way("sdb", &on("port-0:0:1")), way("sda", &on("port-0:0:2"))]);
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].name, "port-0:0");
        assert_eq!(links[0].ceiling, Some(4_800));
        assert_eq!(
            links[0].also,
            ["0000:01:00.0", "0000:00:01.0", "expander-0:0"]
        );
        assert_eq!(links[0].drives, ["sda", "sdb"]);
        assert!(shared(&[way("sda", &on("port-0:0:1"))]).is_empty(), "alone");
    }
}
