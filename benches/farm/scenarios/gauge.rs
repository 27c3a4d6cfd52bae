//! `inhaul bench` against fio with the same request and queue: rates, latencies, CPU.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::kit::data::large;
use crate::kit::drives::{Farm, Fs};
use crate::kit::gauge::{HugePages, Unmerged, device_of, moved, told};
use crate::kit::room::Room;
use crate::kit::spindle::Mechanics;
use crate::kit::table::{Goal, Outcome, median};
use crate::kit::{Context as _, Plan, Result};

const MB: u64 = 1_000_000;
const RATE: u64 = 200 * MB;
/// Turns of ours and fio's in a run, short ones: the memory of a virtual machine is a tenth faster in
/// one minute than in the next.
const TURNS: usize = 3;
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
    let (mut said, mut wrote) = (Vec::new(), Vec::new());
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
    let _unmerged = Unmerged::new(&place.device);
    for _ in 0..plan.runs * plan.pick(TURNS, 1) {
        said.push(reads(plan, place, &queue, &asked, &mut ratios)?);
        if let Some(dir) = &place.writes {
            wrote.push(writes(plan, dir, &found_write, seconds, &mut ratios)?);
        }
    }
    let name = place.name;
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
        Some(cpu),
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
    let notes = &mut outcome.notes;
    notes.push(format!("bench: {name}, MB/s, {queue}: {}", said.join(", ")));
    if !wrote.is_empty() {
        let depth = &found_write["depth"];
        let wrote = wrote.join(", ");
        notes.push(format!(
            "bench: {name}, MB/s, written, {depth} at once: {wrote}"
        ));
    }
    Ok(())
}

/// Ours and fio's, one after the other; says the rates.
fn reads(
    plan: &Plan,
    place: &Place<'_>,
    queue: &str,
    asked: &str,
    ratios: &mut Ratios,
) -> Result<String> {
    let seconds = plan.pick(1.0, 0.1);
    cool(plan)?;
    let (ours, cost) = ours(plan, place, asked, seconds)?;
    let read = &ours["subjects"][0]["read"];
    cool(plan)?;
    let (fio, fio_cost) = fio_reads(plan, place, queue, seconds)?;
    let fio = &fio["jobs"][0]["read"];
    let latency = figure(&fio["lat_ns"]["percentile"]["50.000000"])?;
    ratios
        .latency
        .push(figure(&read["latency"]["p50"])? / latency);
    ratios.cpu.push(cost / fio_cost);
    let (ours, fio) = (figure(&read["rate"])?, figure(&fio["bw_bytes"])?);
    ratios.read.push(ours / fio);
    Ok(both(ours, fio))
}

fn both(ours: f64, fio: f64) -> String {
    format!("{:.0} and {:.0}", ours / 1e6, fio / 1e6)
}

fn figure(value: &Value) -> Result<f64> {
    value.as_f64().ok_or_else(|| format!("no figure: {value}"))
}

/// A goal for how far from 1 a ratio is.
fn off(what: String, ratio: f64, bound: f64) -> Goal {
    Goal::at_most(what, Some((ratio - 1.0).abs()), bound)
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

/// Ours and fio's, one after the other, with the queue that ours found; says the rates.
fn writes(
    plan: &Plan,
    dir: &Path,
    found: &Value,
    seconds: f64,
    ratios: &mut Ratios,
) -> Result<String> {
    let (block, depth) = (&found["block"], &found["depth"]);
    let ours = written(
        plan,
        dir,
        &format!("--block {block} --depth {depth}"),
        seconds,
    )?;
    let scratch_file = dir.join("fio-scratch");
    let line = format!(
        "fio --name=w --rw=write --filename='{}' --size={} --bs={block} --iodepth={depth} \
         --direct=1 --ioengine=io_uring --mem=mmaphuge --hugepage-size=2m --thread --fallocate=posix --end_fsync=1 \
         --output-format=json",
        scratch_file.display(),
        scratch(plan),
    );
    // Each into a new file, as ours are, and as many: a drive in RAM comes to its rate at the fourth
    // or fifth. Those that ours did not count (one of the search, then until it is steady) are not
    // counted of fio's.
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    let uncounted = 1 + count(&ours["cut"]);
    let mut samples = Vec::new();
    for _ in 0..uncounted + count(&ours["samples"]) {
        let fio = told(plan, None, &line);
        let gone = std::fs::remove_file(&scratch_file);
        let (fio, _) = fio?;
        gone.context("fio's file")?;
        samples.push(figure(&fio["jobs"][0]["write"]["bw_bytes"])?);
    }
    let (ours, fio) = (
        figure(&ours["rate"])?,
        middle(&mut samples.split_off(uncounted)),
    );
    ratios.write.push(ours / fio);
    Ok(both(ours, fio))
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    median(values).unwrap_or(f64::NAN)
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
        rates.push(figure(&subject["read"]["rate"])? / RATE as f64);
        let rate = |fio: &Value| figure(&fio["jobs"][0]["read"]["bw_bytes"]);
        more.push(rate(&deep)? / rate(&once)?);
        knees.push(subject["knee"].to_string());
    }
    outcome.goals.push(off(
        "bench: hard disk, rate off the model's".to_owned(),
        middle(&mut rates),
        0.03,
    ));
    outcome.goals.push(Goal::at_most(
        "bench: hard disk, what fio gains from four times the queue found",
        Some(middle(&mut more)),
        1.03,
    ));
    outcome
        .notes
        .push(format!("bench: hard disk: {}", knees.join("; ")));
    Ok(())
}
