//! What kind of machine this is, and how quiet it is.

use std::fs::read_to_string;
use std::time::{Duration, Instant};

/// Kernel, cores, processor model and memory, in one line without names.
pub(crate) fn shape() -> String {
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor")
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: String = kernel
        .trim()
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let memory = meminfo("MemTotal:") >> 30;
    format!("Linux {kernel}, {cores} cores of {model}, {memory} GiB")
}

fn meminfo(key: &str) -> u64 {
    read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Memory that can still be had, in bytes.
pub(crate) fn memory_available() -> u64 {
    meminfo("MemAvailable:")
}

/// CPU seconds all cores together have been busy since boot, in ticks of 10 ms.
fn busy_ticks() -> u64 {
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|at| numbers.get(*at))
        .sum()
}

/// Cores busy over the given time.
pub(crate) fn busy_cores(over: Duration) -> f64 {
    let (ticks, start) = (busy_ticks(), Instant::now());
    std::thread::sleep(over);
    #[allow(clippy::cast_precision_loss, reason = "ticks of one second")]
    let used = busy_ticks().saturating_sub(ticks) as f64 / 100.0;
    used / start.elapsed().as_secs_f64()
}

/// Waits for a quiet moment, but not for ever; gives the cores busy in the last second.
pub(crate) fn wait_for_quiet(patience: Duration) -> f64 {
    let start = Instant::now();
    loop {
        let busy = busy_cores(Duration::from_secs(1));
        if busy < 0.2 || start.elapsed() > patience {
            return busy;
        }
    }
}

/// What this machine lacks for simulated drives, as a sentence.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("simulated drives need root: loop devices, mounts, control groups".to_owned());
    }
    for tool in [
        "mount",
        "umount",
        "losetup",
        "mkfs.ext4",
        "mkfs.xfs",
        "mkfs.btrfs",
    ] {
        if super::shell::find(tool).is_none() {
            return Some(format!(
                "simulated drives need {tool}; --install can get it"
            ));
        }
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return Some("the hard disk with an arm needs /dev/fuse".to_owned());
    }
    if let Err(error) = super::throttle::Throttle::new() {
        return Some(error);
    }
    None
}

/// Peak memory of a process and of all below it that still run, in bytes.
pub(crate) fn memory_of(pid: u32) -> u64 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024;
    let children = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = children
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    own + below.map(memory_of).sum::<u64>()
}
