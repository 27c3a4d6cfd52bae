//! What holds processors back while a bench runs: a limit on their time, heat, other guests of the
//! host, and a governor that saves power. Each makes a rate less than what the drives give.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::report::Doubt;

/// A limit that held us back for more than this share of the time is told of, and so are other guests
/// that took as much of the processors' time.
const TOLD: f64 = 0.01;
/// Processors that may not reach this share of their highest frequency are told of.
const FREQUENCY: f64 = 0.95;
/// Drivers with a `powersave` that goes up to the highest frequency under load. Source: "Active Mode"
/// of Documentation/admin-guide/pm/intel_pstate.rst and amd-pstate.rst of Linux.
const SCALING_DRIVERS: [&str; 2] = ["intel_pstate", "amd-pstate-epp"];

/// Counters of one moment; they only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    /// How often the limits of our control groups held us back, and for how long in all.
    throttled: u64,
    throttled_time: Duration,
    /// How often processors were slowed down by heat, for how long in all, and how many tell.
    hot: u64,
    hot_time: Duration,
    hot_cpus: u32,
    /// Ticks of all processors that other guests of the host had, and all ticks.
    stolen: u64,
    ticks: u64,
}

/// The surroundings of a bench, from its beginning on.
#[derive(Debug)]
pub(crate) struct Surroundings {
    root: PathBuf,
    begun: Instant,
    before: Counters,
}

impl Surroundings {
    /// Looks at them for the first time.
    pub(crate) fn look() -> Self {
        Self::below(Path::new("/"))
    }

    /// The same with `proc` and `sys` in another place.
    fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            begun: Instant::now(),
            before: Counters::read(root),
        }
    }

    /// Looks again; returns what is to be known.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let after = Counters::read(&self.root);
        let mut doubts = grown(self.before, after, self.begun.elapsed());
        doubts.extend(power(&self.root));
        doubts
    }
}

impl Counters {
    fn read(root: &Path) -> Self {
        let (throttled, throttled_time) = throttled(root);
        let (stolen, ticks) = stolen(&text(&root.join("proc/stat")));
        let cpus = numbered(&root.join("sys/devices/system/cpu"), "cpu");
        let heat = cpus.iter().map(|cpu| cpu.join("thermal_throttle"));
        let heat: Vec<PathBuf> = heat.filter(|dir| dir.exists()).collect();
        // Those of a package are told by each of its cores; that they grow is what matters.
        let sum = |what: &str| -> u64 {
            let names = ["core", "package"].map(|whose| format!("{whose}_throttle_{what}"));
            let paths = heat
                .iter()
                .flat_map(|dir| names.each_ref().map(|name| dir.join(name)));
            paths
                .filter_map(|path| text(&path).trim().parse::<u64>().ok())
                .sum()
        };
        Self {
            throttled,
            throttled_time,
            hot: sum("count"),
            // Since Linux 5.5. Source: drivers/thermal/intel/therm_throt.c.
            hot_time: Duration::from_millis(sum("total_time_ms")),
            hot_cpus: u32::try_from(heat.len()).unwrap_or(u32::MAX),
            stolen,
            ticks,
        }
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Returns the directories in `dir` that are called `prefix` and a number.
fn numbered(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_numbered = |name: &str| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_numbered));
    named.map(|entry| entry.path()).collect()
}

/// Returns the directories of the control groups for processor time that this process is in, each with
/// all above it. Where they are mounted: cgroups(7), as systemd does it.
fn groups(root: &Path) -> Vec<PathBuf> {
    let groups = root.join("sys/fs/cgroup");
    let mut found = Vec::new();
    for (controllers, path) in memberships(&text(&root.join("proc/self/cgroup"))) {
        let mounts: &[&str] = match controllers.as_str() {
            "" => &["", "unified"],
            _ if controllers.split(',').any(|it| it == "cpu") => &["cpu,cpuacct", "cpu"],
            _ => continue,
        };
        let mounts = mounts.iter().map(|mount| groups.join(mount));
        let Some(mount) = mounts
            .into_iter()
            .find(|it| it.join("cgroup.procs").exists())
        else {
            continue;
        };
        // In a container its path may be that of the host; then the mount is all there is.
        let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
        found.extend(ancestors.map(|above| mount.join(above)));
    }
    found
}

/// Returns how often and for how long they were held back.
fn throttled(root: &Path) -> (u64, Duration) {
    let mut sum = (0, Duration::ZERO);
    for group in groups(root) {
        let (count, time) = held_back(&text(&group.join("cpu.stat")));
        sum = (sum.0 + count, sum.1 + time);
    }
    sum
}

/// Returns of how many processors control groups let this process have all the time; `None` without a
/// limit.
pub(super) fn quota() -> Option<f64> {
    quota_below(Path::new("/"))
}

fn quota_below(root: &Path) -> Option<f64> {
    let groups = groups(root).into_iter();
    groups.filter_map(|group| limit(&group)).reduce(f64::min)
}

/// Returns the limit of one control group: `cpu.max` of version 2 (`max` for none), or else those of
/// version 1 (-1 for none). Source: cgroup-v2.rst and sched-bwc.rst of Linux.
fn limit(group: &Path) -> Option<f64> {
    let value = |name: &str| text(&group.join(name)).trim().to_owned();
    let both = value("cpu.max");
    let (quota, period) = both.split_once(' ').map_or_else(
        || (value("cpu.cfs_quota_us"), value("cpu.cfs_period_us")),
        |(quota, period)| (quota.to_owned(), period.to_owned()),
    );
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Returns the controllers and paths of /proc/PID/cgroup: `HIERARCHY:CONTROLLERS:PATH`, without
/// controllers for version 2. Source: cgroups(7).
fn memberships(text: &str) -> Vec<(String, String)> {
    let parts = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    });
    parts.collect()
}

/// Returns `nr_throttled` and `throttled_usec` (version 2) or `throttled_time` (version 1, in
/// nanoseconds) of a cpu.stat.
fn held_back(text: &str) -> (u64, Duration) {
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(' '));
        let found = fields.find(|(key, _)| *key == name)?.1;
        found.trim().parse::<u64>().ok()
    };
    let time = field("throttled_usec").map(Duration::from_micros);
    let time = time.or_else(|| field("throttled_time").map(Duration::from_nanos));
    (field("nr_throttled").unwrap_or(0), time.unwrap_or_default())
}

/// Returns the steal time and all time of the first line of /proc/stat, in ticks. Source: `proc_stat(5)`.
fn stolen(text: &str) -> (u64, u64) {
    let line = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "));
    let fields = line.unwrap_or_default().split_whitespace().take(8);
    let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    (fields.get(7).copied().unwrap_or(0), fields.iter().sum())
}

#[allow(clippy::cast_precision_loss, reason = "shares are told in percent")]
fn grown(before: Counters, after: Counters, passed: Duration) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let times = after.throttled.saturating_sub(before.throttled);
    let held = after.throttled_time.saturating_sub(before.throttled_time);
    if times > 0 && held.as_secs_f64() > passed.as_secs_f64() * TOLD {
        let seconds = held.as_secs_f64();
        let share = Some((seconds / passed.as_secs_f64()).min(1.0));
        doubts.push(Doubt::Limited {
            times,
            seconds,
            share,
        });
    }
    let times = after.hot.saturating_sub(before.hot);
    if times > 0 {
        // The time is told when it is over: without any, it may last all the time.
        let time = after.hot_time.saturating_sub(before.hot_time);
        let all = passed.as_secs_f64() * f64::from(after.hot_cpus);
        let share = (!time.is_zero()).then(|| (time.as_secs_f64() / all).min(1.0));
        doubts.push(Doubt::Hot { times, share });
    }
    let stolen = after.stolen.saturating_sub(before.stolen) as f64;
    let all = after.ticks.saturating_sub(before.ticks) as f64;
    if stolen > all * TOLD {
        let share = stolen / all.max(1.0);
        doubts.push(Doubt::Stolen { share });
    }
    doubts
}

/// Returns what is to be known of how fast processors may go.
fn power(root: &Path) -> Vec<Doubt> {
    let policies = numbered(&root.join("sys/devices/system/cpu/cpufreq"), "policy");
    let (mut saving, mut limited) = (Vec::new(), Vec::new());
    for policy in policies {
        let value = |name: &str| text(&policy.join(name)).trim().to_owned();
        let driver = value("scaling_driver");
        if value("scaling_governor") == "powersave" && !SCALING_DRIVERS.contains(&&*driver) {
            saving.push(driver);
        }
        let khz = |name: &str| value(name).parse::<u32>().ok();
        if let (Some(may), Some(can)) = (khz("scaling_max_freq"), khz("cpuinfo_max_freq"))
            && f64::from(may) < f64::from(can) * FREQUENCY
        {
            limited.push((may / 1000, can / 1000));
        }
    }
    let saving = saving.into_iter().min();
    let saving = saving.map(|driver| Doubt::PowerSaving { driver });
    let limited = limited.into_iter().min();
    let limited = limited.map(|(mhz, mhz_max)| Doubt::Slowed { mhz, mhz_max });
    saving.into_iter().chain(limited).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "nr_periods 10\nnr_throttled 3\nthrottled_time 2500000000\n";
    const V2: &str = "usage_usec 9\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000\n";

    #[test]
    fn both_versions_of_control_groups_are_read() {
        assert_eq!(held_back(V1), (3, Duration::from_millis(2500)));
        assert_eq!(held_back(V2), (4, Duration::from_millis(1500)));
        assert_eq!(held_back("usage_usec 9\n"), (0, Duration::ZERO));
        let text = "3:cpu,cpuacct:/a/b\n1:name=systemd:/x:y\n0::/user.slice\n";
        let expected = [
            ("cpu,cpuacct", "/a/b"),
            ("name=systemd", "/x:y"),
            ("", "/user.slice"),
        ];
        let expected = expected.map(|(name, path)| (name.to_owned(), path.to_owned()));
        assert_eq!(memberships(text), expected);
    }

    #[test]
    fn what_other_guests_took_is_the_eighth_field() {
        let text = "cpu  100 0 50 800 50 0 0 25 7 7\ncpu0 1 1 1 1 1 1 1 1\n";
        assert_eq!(stolen(text), (25, 1025));
        assert_eq!(
            stolen("cpu  1 2 3"),
            (0, 6),
            "kernels before it was counted"
        );
        assert_eq!(stolen(""), (0, 0));
    }

    #[test]
    fn only_what_matters_is_told() {
        let before = Counters {
            throttled: 7,
            throttled_time: Duration::from_secs(100),
            hot: 5,
            hot_time: Duration::from_secs(7),
            hot_cpus: 2,
            stolen: 1000,
            ticks: 50_000,
        };
        let minute = Duration::from_secs(60);
        let told = |after: Counters| -> Vec<String> {
            let doubts = grown(before, after, minute);
            doubts.iter().map(Doubt::text).collect()
        };
        assert_eq!(told(before), [""; 0]);
        let little = Counters {
            throttled: 8,
            throttled_time: Duration::from_millis(100_500),
            stolen: 1100,
            ticks: 62_000,
            ..before
        };
        assert_eq!(told(little), [""; 0]);
        let much = Counters {
            throttled: 19,
            throttled_time: Duration::from_secs(106),
            hot: 9,
            hot_time: Duration::from_secs(10),
            stolen: 2200,
            ticks: 62_000,
            ..before
        };
        let doubts = grown(before, much, minute);
        let limited = Doubt::Limited {
            times: 12,
            seconds: 6.0,
            share: Some(0.1),
        };
        let hot = Doubt::Hot {
            times: 4,
            share: Some(0.025),
        };
        assert_eq!(doubts[..2], [limited, hot]);
        assert_eq!(
            told(much),
            [
                "processor time is limited by a control group, which held this process back 12 times, \
                 6.0 s in all: rates may be those of the limit",
                "processors got too hot and were slowed down (4 times counted): rates may be too low",
                "other guests of this machine's host took 10% of the processors' time: rates may be \
                 too low",
            ]
        );
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_recorded_machine_is_read_with_all_groups_above_ours() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| put(root.path(), path, text);
        put("proc/stat", "cpu  0 0 0 90 0 0 0 10 0 0\n");
        put(
            "proc/self/cgroup",
            "4:cpu,cpuacct:/a/b\n9:memory:/a\n0::/x\n",
        );
        put("sys/fs/cgroup/cpu,cpuacct/cgroup.procs", "");
        put("sys/fs/cgroup/cpu,cpuacct/a/cpu.stat", V1);
        put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.stat", V1);
        put("sys/fs/cgroup/unified/cgroup.procs", "");
        put("sys/fs/cgroup/unified/x/cpu.stat", V2);
        let cpu = "sys/devices/system/cpu";
        put(
            &format!("{cpu}/cpu0/thermal_throttle/core_throttle_count"),
            "2\n",
        );
        put(
            &format!("{cpu}/cpu1/thermal_throttle/core_throttle_count"),
            "3\n",
        );
        put(
            &format!("{cpu}/cpu1/thermal_throttle/package_throttle_total_time_ms"),
            "250\n",
        );
        put(
            &format!("{cpu}/cpuidle/thermal_throttle/core_throttle_count"),
            "9\n",
        );
        let expected = Counters {
            throttled: 10,
            throttled_time: Duration::from_millis(6500),
            hot: 5,
            hot_time: Duration::from_millis(250),
            hot_cpus: 2,
            stolen: 10,
            ticks: 100,
        };
        assert_eq!(Counters::read(root.path()), expected);
        let surroundings = Surroundings::below(root.path());
        assert_eq!(surroundings.doubts(), []);
        put(
            &format!("{cpu}/cpu1/thermal_throttle/core_throttle_count"),
            "4\n",
        );
        let hot = Doubt::Hot {
            times: 1,
            share: None,
        };
        assert_eq!(surroundings.doubts(), [hot], "it may not be over");
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(Counters::read(nothing.path()), Counters::default());
    }

    #[test]
    fn the_narrowest_limit_on_time_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| put(root.path(), path, text);
        let is = |expected: Option<f64>| assert_eq!(quota_below(root.path()), expected);
        is(None);
        put("proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/x/y\n");
        put("sys/fs/cgroup/unified/cgroup.procs", "");
        put("sys/fs/cgroup/unified/x/cpu.max", "max 100000\n");
        is(None);
        put("sys/fs/cgroup/unified/x/y/cpu.max", "250000 100000\n");
        is(Some(2.5));
        put("sys/fs/cgroup/cpu,cpuacct/cgroup.procs", "");
        put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        is(Some(2.5));
        put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
        put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
        is(Some(1.5));
    }

    #[test]
    fn a_governor_that_saves_power_is_told_of_where_its_driver_does_not_scale() {
        let told = |driver: &str, governor: &str, may: &str| {
            let root = tempfile::tempdir().unwrap();
            let policy = "sys/devices/system/cpu/cpufreq/policy0";
            let put = |name: &str, text: &str| put(root.path(), &format!("{policy}/{name}"), text);
            put("scaling_driver", &format!("{driver}\n"));
            put("scaling_governor", &format!("{governor}\n"));
            put("scaling_max_freq", may);
            put("cpuinfo_max_freq", "3500000\n");
            let doubts = power(root.path());
            doubts.iter().map(Doubt::text).collect::<Vec<_>>()
        };
        let full = "3500000\n";
        for (driver, governor) in [
            ("intel_pstate", "powersave"),
            ("amd-pstate-epp", "powersave"),
            ("acpi-cpufreq", "schedutil"),
        ] {
            assert_eq!(
                told(driver, governor, full),
                Vec::<String>::new(),
                "{driver}"
            );
        }
        assert_eq!(
            told("acpi-cpufreq", "powersave", full),
            [
                "processors stay at their lowest frequency (governor powersave of acpi-cpufreq): rates \
              may be too low; set the governor to performance"
            ]
        );
        assert_eq!(
            told("intel_pstate", "performance", "2000000\n"),
            ["processors may go up to 2000 MHz of 3500 (scaling_max_freq): rates may be too low"]
        );
    }
}
