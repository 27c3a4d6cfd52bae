//! What the kernel itself has noticed about a drive. No drive is asked: that takes root, wakes a
//! drive that sleeps, and is what smartctl(8) is for.

use std::path::Path;

use super::drive::is_numbered;
use super::sysfs::{Sysfs, attribute, linked, names};

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

impl Health {
    /// Returns what sysfs tells of the drive whose canonical directory is `disk`.
    pub(super) fn read(disk: &Path) -> Self {
        let state = attribute(disk, "device/state").filter(|text| !text.is_empty());
        let mut concerns = Vec::new();
        if let Some(state) = state.as_deref()
            && !matches!(state, "running" | "live" | "created")
        {
            concerns.push(format!("its state is '{state}'"));
        }
        // eMMC: 1 is normal, 2 and 3 mean that spare blocks run out. Source: JEDEC 84-B51, 7.4.
        let spare = attribute(disk, "device/pre_eol_info").and_then(|text| hex(&text));
        if let Some(spare @ 2..) = spare {
            let word = if spare == 2 { "80%" } else { "90%" };
            concerns.push(format!("{word} of its spare blocks are used up"));
        }
        let timeouts = attribute(disk, "device/iotmo_cnt").and_then(|text| hex(&text));
        if let Some(count @ 1..) = timeouts {
            let times = if count == 1 { "time" } else { "times" };
            concerns.push(format!("it did not answer in time {count} {times}"));
        }
        Self {
            state,
            io_errors: attribute(disk, "device/ioerr_cnt").and_then(|text| hex(&text)),
            io_timeouts: timeouts,
            millidegrees: temperature(disk),
            concerns,
        }
    }
}

/// `0x1f`, as SCSI counters and eMMC registers are written.
fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// From the first sensor of the drive's own: NVMe has one in any case, SATA drives with the
/// drivetemp module.
fn temperature(disk: &Path) -> Option<i64> {
    let device = disk.join("device");
    [device.join("hwmon"), device].iter().find_map(|dir| {
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
    let errors = if count == 1 { "error" } else { "errors" };
    (count > 0).then(|| format!("the file system on {device} has recorded {count} {errors}"))
}

/// Returns what is wrong with an MD array whose canonical directory is `array`: a clause for the
/// whole of it, and one for each member that was thrown out, by the member's name.
pub(super) fn array_concerns(array: &Path, name: &str) -> (Option<String>, Vec<(String, String)>) {
    let missing: u64 = attribute(array, "md/degraded")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let drives = if missing == 1 { "drive" } else { "drives" };
    let whole = (missing > 0).then(|| format!("array {name} lacks {missing} {drives}"));
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
