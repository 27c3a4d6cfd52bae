//! `inhaul bench` against fio with the same request and queue: rates, latencies, CPU.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::kit::data::large;
use crate::kit::drives::{Farm, Fs};
use crate::kit::gauge::{HugePages, device_of, moved, told};
use crate::kit::room::Room;
use crate::kit::spindle::Mechanics;
use crate::kit::table::{Goal, Outcome, median};
use crate::kit::{Context as _, Plan, Result};

const MB: u64 = 1_000_000;
const RATE: u64 = 200 * MB;
/// 200 MB/s, 16 ms from edge to edge, 7200 turns a minute: a common drive.
const DRIVE: Mechanics = Mechanics {
    rate: RATE,
    stroke: Duration::from_millis(16),
    turn: Duration::from_micros(8300),
};

/// What is measured.
struct Place<'a> {
    name: &'a str,
    /// A file to read.
    file: PathBuf,
    /// Where a scratch file may be written, if writing is to be measured.
    writes: Option<PathBuf>,
    /// The block device beneath.
    device: String,
    door: Option<PathBuf>,
}

/// Ours over fio's, run by run.
#[derive(Default)]
struct Ratios {
    read: Vec<f64>,
    latency: Vec<f64>,
    cpu: Vec<f64>,
    write: Vec<f64>,
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let _pages = HugePages::new()?;
    let data = plan.pick(800 * MB, 24 * MB);
    let mut farm = Farm::new(Room::new(
        plan,
        "gauge",
        Farm::room_for(Fs::Ext4, 3, data) * 2 + scratch(plan),
    )?)?;
    farm.add(Fs::Ext4, RATE, data, |path| large(path, 1, data, 1))?;
    // Room for the scratch file beside the data.
    let scratch = scratch(plan) + 104 * MB;
    farm.add(Fs::Ext4, 0, data + scratch, |path| large(path, 1, data, 2))?;
    let disk = farm.room.disk("gauge-disk")?;
    large(&disk, 1, data * plan.pick(2, 1), 3)?;
    File::open(disk.join("large-000.bin"))
        .and_then(|file| file.sync_all())
        .context("the file to read")?;
    let [throttled, ram] = farm.drives.as_slice() else {
        return Err("drives are missing".to_owned());
    };
    let file = |dir: &Path| dir.join("large-000.bin");
    let places = [
        Place {
            name: "throttled drive",
            file: file(&throttled.path),
            writes: None,
            device: throttled.device.clone(),
            door: Some(farm.throttle.door()),
        },
        Place {
            name: "disk",
            file: file(&disk),
            writes: Some(disk.clone()),
            device: device_of(&disk)?,
            door: None,
        },
        Place {
            name: "drive in RAM",
            file: file(&ram.path),
            writes: Some(ram.path.clone()),
            device: ram.device.clone(),
            door: None,
        },
    ];
    for place in &places {
        versus(plan, place, &mut outcome)?;
    }
    drop(farm);
    hard_disk(plan, &mut outcome)?;
    Ok(outcome)
}

fn versus(plan: &Plan, place: &Place<'_>, outcome: &mut Outcome) -> Result<()> {
    let seconds = plan.pick(3.0, 0.1);
    let mut ratios = Ratios::default();
    let mut said = Vec::new();
    // What it finds by itself is what both are then asked for.
    cool(plan)?;
    let (found, _) = ours(plan, place, "", seconds)?;
    let knee = &found["subjects"][0]["knee"];
    let (block, depth) = (&knee["block"], &knee["depth"]);
    let queue = format!("--bs={block} --iodepth={depth}");
    let asked = format!("--block {block} --depth {depth}");
    let found_write = match &place.writes {
        Some(dir) => written(plan, dir, "", seconds)?,
        None => Value::Null,
    };
    for _ in 0..plan.runs {
        cool(plan)?;
        let (ours, cost) = ours(plan, place, &asked, seconds)?;
        let subject = &ours["subjects"][0];
        cool(plan)?;
        let (fio, fio_cost) = fio_reads(plan, place, &queue, seconds)?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let (rate, fio_rate) = (
            number(&subject["read"]["rate"]),
            number(&fio["jobs"][0]["read"]["bw_bytes"]),
        );
        ratios.read.push(rate / fio_rate);
        ratios.latency.push(
            number(&subject["read"]["latency"]["p50"])
                / number(&fio["jobs"][0]["read"]["lat_ns"]["percentile"]["50.000000"]),
        );
        ratios.cpu.push(cost / fio_cost);
        said.push(format!(
            "{queue}: {:.0} and {:.0} MB/s",
            rate / 1e6,
            fio_rate / 1e6
        ));
        if let Some(dir) = &place.writes {
            ratios.write.push(writes(plan, dir, &found_write, seconds)?);
        }
    }
    let name = place.name;
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        median(values)
    };
    let read = middle(&mut ratios.read);
    let goals = &mut outcome.goals;
    goals.push(off(
        format!("bench: {name}, read rate off fio's"),
        read,
        0.03,
    ));
    let latency = middle(&mut ratios.latency);
    let what = format!("bench: {name}, median latency off fio's");
    goals.push(off(what, latency, 0.10));
    let cpu = middle(&mut ratios.cpu);
    goals.push(Goal::at_most(
        format!("bench: {name}, CPU for a GB / fio's"),
        cpu,
        1.0,
    ));
    if place.writes.is_some() {
        let write = middle(&mut ratios.write);
        goals.push(off(
            format!("bench: {name}, write rate off fio's"),
            write,
            0.03,
        ));
    }
    outcome
        .notes
        .push(format!("bench: {name}: {}", said.join("; ")));
    Ok(())
}

/// A goal for how far from 1 a ratio is.
fn off(what: String, ratio: Option<f64>, bound: f64) -> Goal {
    Goal::at_most(what, ratio.map(|ratio| (ratio - 1.0).abs()), bound)
}

fn cool(plan: &Plan) -> Result<()> {
    if plan.small {
        return Ok(());
    }
    crate::kit::shell::run("sync", &[] as &[&str])?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")
}

/// What `inhaul bench` says of a file, and CPU seconds for each GB that passed through the drive.
fn ours(plan: &Plan, place: &Place<'_>, asked: &str, seconds: f64) -> Result<(Value, f64)> {
    let line = format!(
        "'{}' bench --quiet --json --no-history --alone {asked} --seconds {seconds} '{}'",
        plan.inhaul.display(),
        place.file.display()
    );
    priced(plan, place, &line)
}

fn fio_reads(plan: &Plan, place: &Place<'_>, queue: &str, seconds: f64) -> Result<(Value, f64)> {
    // Three samples' worth of time; a quarter of one before it that does not count.
    let line = format!(
        "fio --name=r --rw=read --filename='{}' {queue} --direct=1 --ioengine=io_uring --mem=mmaphuge --hugepage-size=2m --thread \
         --time_based --runtime={}ms --ramp_time={}ms --lat_percentiles=1 --output-format=json",
        place.file.display(),
        3000.0 * seconds,
        250.0 * seconds,
    );
    priced(plan, place, &line)
}

fn priced(plan: &Plan, place: &Place<'_>, line: &str) -> Result<(Value, f64)> {
    let before = moved(&place.device)?;
    let (value, sample) = told(plan, place.door.as_ref(), line)?;
    let bytes = moved(&place.device)?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss, reason = "bytes of a run")]
    let gigabytes = bytes as f64 / 1e9;
    Ok((value, sample.cpu() / gigabytes))
}

/// What `inhaul bench --write` says of writing to a directory.
fn written(plan: &Plan, dir: &Path, asked: &str, seconds: f64) -> Result<Value> {
    cool(plan)?;
    let line = format!(
        "'{}' bench --quiet --json --no-history --alone --write --scratch {} {asked} \
         --seconds {seconds} '{}'",
        plan.inhaul.display(),
        scratch(plan),
        dir.display()
    );
    let (mut report, _) = told(plan, None, &line)?;
    Ok(report["subjects"][0]["write"].take())
}

/// Bytes of a scratch file.
fn scratch(plan: &Plan) -> u64 {
    plan.pick(1 << 30, 16 << 20)
}

/// Our rate of writing over fio's, with the queue that ours found.
fn writes(plan: &Plan, dir: &Path, found: &Value, seconds: f64) -> Result<f64> {
    let (block, depth) = (&found["block"], &found["depth"]);
    let asked = format!("--block {block} --depth {depth}");
    let ours = written(plan, dir, &asked, seconds)?;
    cool(plan)?;
    let scratch_file = dir.join("fio-scratch");
    let line = format!(
        "fio --name=w --rw=write --filename='{}' --size={} --bs={block} --iodepth={depth} \
         --direct=1 --ioengine=io_uring --mem=mmaphuge --hugepage-size=2m --thread --fallocate=posix --end_fsync=1 \
         --output-format=json",
        scratch_file.display(),
        scratch(plan),
    );
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut rates = Vec::new();
    // As many samples as ours, each into a new file, as ours are.
    for _ in 0..3 {
        let fio = told(plan, None, &line);
        let gone = std::fs::remove_file(&scratch_file);
        let (fio, _) = fio?;
        gone.context("fio's file")?;
        rates.push(number(&fio["jobs"][0]["write"]["bw_bytes"]));
    }
    rates.sort_by(f64::total_cmp);
    Ok(number(&ours["rate"]) / median(&rates).unwrap_or(f64::NAN))
}

/// A drive with an arm: its rate is known, and so is that a longer queue brings nothing.
fn hard_disk(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let length = plan.pick(768 << 20, 64 << 20);
    let data = length / 2;
    let seconds = plan.pick(1.0, 0.1);
    let mut farm = Farm::new(Room::new(plan, "gauge-arm", length)?)?;
    farm.add_spindle(length, RATE, |path| large(path, 1, data, 4))?;
    let drive = farm.drives.first().ok_or("no drive")?;
    let arm = drive.arm().ok_or("a drive without an arm")?;
    let (mut rates, mut more, mut knees) = (Vec::new(), Vec::new(), Vec::new());
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for _ in 0..plan.runs {
        cool(plan)?;
        arm.engage(DRIVE);
        let place = Place {
            name: "arm",
            file: drive.path.join("large-000.bin"),
            writes: None,
            device: drive.device.clone(),
            door: None,
        };
        let measured = (|| {
            let (ours, _) = ours(plan, &place, "", seconds)?;
            let knee = &ours["subjects"][0]["knee"];
            let depth = knee["depth"].as_u64().unwrap_or(1);
            let at = |depth: u64| format!("--bs={} --iodepth={depth}", knee["block"]);
            let (once, _) = fio_reads(plan, &place, &at(depth), seconds)?;
            let (deep, _) = fio_reads(plan, &place, &at(depth * 4), seconds)?;
            Ok::<_, String>((ours.clone(), once, deep))
        })();
        arm.free();
        let (ours, once, deep) = measured?;
        let subject = &ours["subjects"][0];
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        rates.push(number(&subject["read"]["rate"]) / RATE as f64);
        let rate = |fio: &Value| number(&fio["jobs"][0]["read"]["bw_bytes"]);
        more.push(rate(&deep) / rate(&once));
        knees.push(subject["knee"].to_string());
    }
    rates.sort_by(f64::total_cmp);
    more.sort_by(f64::total_cmp);
    outcome.goals.push(off(
        "bench: hard disk, rate off the model's".to_owned(),
        median(&rates),
        0.03,
    ));
    outcome.goals.push(Goal::at_most(
        "bench: hard disk, what fio gains from four times the queue found",
        median(&more),
        1.03,
    ));
    outcome
        .notes
        .push(format!("bench: hard disk: {}", knees.join("; ")));
    Ok(())
}
