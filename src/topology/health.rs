//! What the kernel itself has noticed about a drive. No drive is asked: that takes root, wakes a
//! drive that sleeps, and is what smartctl(8) is for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::drive::is_numbered;
use super::links::routes;
use super::sysfs::{Btrfs, Sysfs, attribute, device_name, linked, names};

/// What the kernel has noticed. A field is `None` where the driver keeps no such record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The driver's word: `running` or `offline` (SCSI, SATA, USB), `live` or `dead` (NVMe).
    pub state: Option<String>,
    /// Requests that ended with an error since the drive was attached. A few say nothing: a drive
    /// that is asked for a feature it lacks counts, too.
    pub io_errors: Option<u64>,
    /// Requests that were not answered in time, since the drive was attached.
    pub io_timeouts: Option<u64>,
    /// Temperature in thousandths of a degree Celsius.
    pub millidegrees: Option<i64>,
    /// What a person should look at, a clause each.
    pub concerns: Vec<String>,
}

/// One way to a drive: its name, and the directory where its driver keeps its records.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) name: String,
    pub(super) device: PathBuf,
}

/// Returns the ways to a drive whose paths have these canonical directories. With native multipath of
/// NVMe these are its controllers: `device` is the subsystem, which has neither state nor sensors.
/// Source: drivers/nvme/host/multipath.c, `nvme_mpath_set_live`, and core.c, `nvme_subsys_attrs`.
pub(super) fn health_ways<'p>(sysfs: &Sysfs, paths: impl Iterator<Item = &'p Path>) -> Vec<Way> {
    let of_path = |disk: &Path| {
        let ways = routes(sysfs, disk).into_iter().map(|route| Way {
            name: device_name(&route),
            device: if route == disk {
                disk.join("device")
            } else {
                route
            },
        });
        ways.collect::<Vec<_>>()
    };
    paths.flat_map(of_path).collect()
}

impl Health {
    /// Returns what sysfs tells of the drive by all ways to it. Of several the one that is not well is
    /// named.
    pub(super) fn read(ways: &[Way]) -> Self {
        let mut health = Self::default();
        for way in ways {
            // Where there is but one way, it needs no name.
            let on_path = match ways {
                [_] => String::new(),
                _ => format!(" on path {}", way.name),
            };
            health.add(&way.device, &on_path);
        }
        health
    }

    fn add(&mut self, device: &Path, on_path: &str) {
        let state = attribute(device, "state").filter(|text| !text.is_empty());
        if let Some(state) = state {
            let is_well = |state: &str| matches!(state, "running" | "live" | "created");
            if !is_well(&state) {
                let concern = format!("its state is '{state}'{on_path}");
                self.concerns.push(concern);
            }
            // The first that is not well speaks for all.
            let known = self.state.as_deref();
            if known.is_none_or(|known| is_well(known) && !is_well(&state)) {
                self.state = Some(state);
            }
        }
        // eMMC: 1 is normal, 2 and 3 mean that spare blocks run out. Source: JEDEC 84-B51, 7.4.
        let spare = attribute(device, "pre_eol_info").and_then(|text| hex(&text));
        if let Some(spare @ 2..) = spare {
            let word = if spare == 2 { "80%" } else { "90%" };
            let concern = format!("{word} of its spare blocks are used up");
            self.concerns.push(concern);
        }
        let timeouts = attribute(device, "iotmo_cnt").and_then(|text| hex(&text));
        if let Some(count @ 1..) = timeouts {
            let times = counted(count, "time", "times");
            let concern = format!("it did not answer in time {times}{on_path}");
            self.concerns.push(concern);
        }
        let errors = attribute(device, "ioerr_cnt").and_then(|text| hex(&text));
        self.io_timeouts = sum(self.io_timeouts, timeouts);
        self.io_errors = sum(self.io_errors, errors);
        self.millidegrees = self.millidegrees.max(temperature(device));
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        _ => one.or(other),
    }
}

/// `1 drive`, `2 drives`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `0x1f`, as SCSI counters and eMMC registers are written.
fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// From the first sensor of the drive's own: NVMe has one in any case, SATA drives with the
/// drivetemp module.
fn temperature(device: &Path) -> Option<i64> {
    let dirs = [device.join("hwmon"), device.to_owned()];
    dirs.iter().find_map(|dir| {
        names(dir)
            .into_iter()
            .filter(|name| name.to_str().is_some_and(|n| is_numbered(n, "hwmon")))
            .find_map(|name| attribute(&dir.join(name), "temp1_input")?.parse().ok())
    })
}

/// Returns what an ext4 file system on a block device has written down of errors.
pub(super) fn file_system_concern(sysfs: &Sysfs, device: &str) -> Option<String> {
    let dir = sysfs.dir("fs/ext4").join(device);
    let count: u64 = attribute(&dir, "errors_count")?.parse().ok()?;
    let errors = counted(count, "error", "errors");
    (count > 0).then(|| format!("the file system on {device} has recorded {errors}"))
}

/// Errors that btrfs counts for each of its devices, over all mounts.
const BTRFS_ERRORS: [(&str, &str); 5] = [
    ("write_errs", "write"),
    ("read_errs", "read"),
    ("flush_errs", "flush"),
    ("corruption_errs", "checksum"),
    ("generation_errs", "generation"),
];

/// Returns what a mounted btrfs file system has written down of its devices: which are missing, and
/// errors. Source: fs/btrfs/sysfs.c, `devid_attrs`, and `btrfs_devinfo_error_stats_show` (Linux 5.14).
pub(super) fn btrfs_concerns(sysfs: &Sysfs, btrfs: &Btrfs) -> Vec<String> {
    let names_of: Vec<String> = btrfs.devices.iter().map(|node| device_name(node)).collect();
    let system = format!("the file system on {}", names_of.join("+"));
    let dir = sysfs.dir("fs/btrfs").join(&btrfs.uuid).join("devinfo");
    let is_missing = |id: &OsString| attribute(&dir.join(id), "missing").as_deref() == Some("1");
    let (missing, present): (Vec<OsString>, Vec<_>) = names(&dir).into_iter().partition(is_missing);
    let mut concerns: Vec<String> = missing
        .iter()
        .map(|id| format!("{system} lacks its device {}", id.display()))
        .collect();
    for id in &present {
        let Some(errors) = btrfs_errors(&dir.join(id)) else {
            continue;
        };
        // sysfs does not tell which number is which device, where there are several.
        concerns.push(match (&names_of[..], &present[..]) {
            ([_], [_]) => format!("{system} has recorded {errors}"),
            _ => format!("device {} of {system} has recorded {errors}", id.display()),
        });
    }
    concerns
}

fn btrfs_errors(device: &Path) -> Option<String> {
    let stats = attribute(device, "error_stats")?;
    let found: Vec<String> = stats
        .lines()
        .filter_map(|line| {
            let (key, count) = line.split_once(' ')?;
            let (_, kind) = BTRFS_ERRORS.iter().find(|(known, _)| *known == key)?;
            let count: u64 = count.trim().parse().ok()?;
            let errors = format!("{kind} {}", if count == 1 { "error" } else { "errors" });
            (count > 0).then(|| format!("{count} {errors}"))
        })
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Returns what is wrong with an MD array whose canonical directory is `array`: a clause for the
/// whole of it, and one for each member that was thrown out, by the member's name.
pub(super) fn array_concerns(array: &Path, name: &str) -> (Option<String>, Vec<(String, String)>) {
    let missing: u64 = attribute(array, "md/degraded")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let drives = counted(missing, "drive", "drives");
    let whole = (missing > 0).then(|| format!("array {name} lacks {drives}"));
    let faulty = names(&array.join("md"))
        .into_iter()
        .filter_map(|member| {
            let label = member.to_str()?.strip_prefix("dev-")?.to_owned();
            let state = attribute(&array.join("md").join(&member), "state")?;
            state
                .split(',')
                .any(|word| word == "faulty")
                .then(|| (label, format!("array {name} has thrown it out")))
        })
        .collect();
    (whole, faulty)
}

/// Returns the names of what is stacked on a block device: arrays, volumes, encryption.
pub(super) fn holders(node: &Path) -> Vec<String> {
    linked(&node.join("holders"))
        .into_iter()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect()
}
