//! `inhaul bench` and fio run as children: what they say, and what they cost.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::child::{Sample, cost};
use super::race::Race;
use super::{Context as _, Plan, Result, shell};

/// What a drive's counters say has passed through it, in bytes, read and written.
pub(crate) fn moved(device: &str) -> Result<u64> {
    let name = device.trim_start_matches("/dev/");
    let stat = std::fs::read_to_string(format!("/sys/class/block/{name}/stat")).context(name)?;
    let sectors = |at: usize| {
        let word = stat.split_whitespace().nth(at);
        word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    // The kernel counts units of 512 bytes, whatever the drive's are.
    Ok((sectors(2) + sectors(6)) * 512)
}

/// Huge pages set aside for fio, whose buffers are in small ones otherwise: a request of 1 MiB is
/// then 256 pieces to a virtual disk, and reads run at a third of the rate. Given back when dropped.
#[derive(Debug)]
pub(crate) struct HugePages {
    before: String,
}

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// Sets some aside, in addition to those that are.
    pub(crate) fn new() -> Result<Self> {
        let before = std::fs::read_to_string(HUGE_PAGES).context("huge pages")?;
        let count: u32 = before.trim().parse().context("huge pages")?;
        std::fs::write(HUGE_PAGES, (count + 64).to_string()).context("huge pages")?;
        Ok(Self { before })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        drop(std::fs::write(HUGE_PAGES, &self.before));
    }
}

/// A device that is given each request as it was asked for; as before when dropped. Ours hands over
/// at once what it has, and the kernel makes one request of neighbours; fio hands over one by one.
#[derive(Debug)]
pub(crate) struct Unmerged {
    switch: PathBuf,
    before: Option<String>,
}

impl Unmerged {
    /// Does nothing where the kernel has no such switch for the device. A partition has its drive's.
    pub(crate) fn new(device: &str) -> Self {
        let name = device.trim_start_matches("/dev/");
        let own = PathBuf::from("/sys/class/block").join(name);
        let own = std::fs::canonicalize(&own).unwrap_or(own);
        let whole = own.ancestors().find(|above| above.join("queue").is_dir());
        let switch = whole.unwrap_or(&own).join("queue/nomerges");
        let before = std::fs::read_to_string(&switch).ok();
        let before = before.filter(|_| std::fs::write(&switch, "2").is_ok());
        Self { switch, before }
    }
}

impl Drop for Unmerged {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            drop(std::fs::write(&self.switch, before));
        }
    }
}

/// The block device below a path.
pub(crate) fn device_of(path: &Path) -> Result<String> {
    let path = path.to_string_lossy();
    let device = shell::run("findmnt", &["-nvo", "SOURCE", "-T", &path])?;
    // Below /dev/mapper are links.
    let device = std::fs::canonicalize(&device).context(&device)?;
    Ok(device.to_string_lossy().into_owned())
}

/// Runs a command line inside the group of limits and gives the JSON that it prints.
pub(crate) fn told(plan: &Plan, door: Option<&PathBuf>, line: &str) -> Result<(Value, Sample)> {
    let enter = door.map_or_else(String::new, |door| {
        format!("echo $$ > '{}'\n", door.display())
    });
    let path = plan.work.join("told.json");
    let log = File::create(plan.work.join("last-run.log")).context("the log")?;
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("{enter}exec {line}")])
        .stdin(Stdio::null())
        .stdout(File::create(&path).context("what it prints")?)
        .stderr(log);
    let sample = cost(&mut command)?;
    if sample.code != 0 {
        let log = std::fs::read_to_string(plan.work.join("last-run.log")).unwrap_or_default();
        return Err(format!("{line}: exit code {}: {log}", sample.code));
    }
    let text = std::fs::read_to_string(&path).context("what it prints")?;
    // fio says things before its JSON.
    let begin = text.find('{').unwrap_or(0);
    let value = serde_json::from_str(text.get(begin..).unwrap_or_default());
    Ok((value.context(line)?, sample))
}

/// What `inhaul bench` says of copying the sources of a race into its target, inside its limits.
pub(crate) fn into_target(race: &Race<'_>) -> Result<Value> {
    let plan = race.plan;
    let sources: Vec<String> = race
        .sources
        .iter()
        .map(|path| format!("'{}'", path.display()))
        .collect();
    let line = format!(
        "'{}' bench --quiet --json --no-history --seconds {} --scratch {} --target '{}' {}",
        plan.inhaul.display(),
        plan.pick(0.5, 0.1),
        plan.pick(1_u64 << 30, 16 << 20),
        race.target.display(),
        sources.join(" ")
    );
    told(plan, race.door.as_ref(), &line).map(|(report, _)| report)
}
