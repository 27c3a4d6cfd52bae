//! A bench in the shape of fio's JSON, for the tools that read that: a job for each figure.
//!
//! It says whose it is; nothing in it was measured by fio.

use serde_json::{Map, Value, json};

use crate::bench::report::{Latency, Measure, Report, Subject};
use crate::cli::escape::escape_json;
use crate::cli::units::whole;

/// The percentiles that fio gives, in thousandths of a percent.
const PERCENTILES: [u64; 17] = [
    1_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 90_000, 95_000,
    99_000, 99_500, 99_900, 99_950, 99_990,
];

/// Returns the object, with a line end.
pub(super) fn render(report: &Report) -> Vec<u8> {
    let engine = if report.backend.starts_with("io_uring") {
        "io_uring"
    } else {
        "psync"
    };
    let mut jobs = Vec::new();
    for subject in &report.subjects {
        if let Some(read) = &subject.read {
            jobs.push(job(subject, "read", &subject.name, read, engine));
        }
        for zone in &subject.zones {
            let name = format!("{}-{}", subject.name, zone.name);
            jobs.push(job(subject, "read", &name, &zone.read, engine));
        }
        if let Some(write) = &subject.write {
            let name = format!("{}-write", subject.name);
            jobs.push(job(subject, "write", &name, write, engine));
        }
    }
    let when = humantime::parse_rfc3339(&report.started).ok();
    let since = when.and_then(|when| when.duration_since(std::time::UNIX_EPOCH).ok());
    let seconds = since.map_or(0, |since| since.as_secs());
    let document = json!({
        "fio version": format!("inhaul-{} (fio-compatible)", report.version),
        "timestamp": seconds,
        "timestamp_ms": seconds * 1000,
        "time": report.started,
        "global options": { "ioengine": engine },
        "jobs": jobs,
    });
    let mut text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    text.push(b'\n');
    escape_json(text)
}

fn job(subject: &Subject, way: &str, name: &str, measure: &Measure, engine: &str) -> Value {
    let milliseconds = whole(measure.seconds * 1000.0);
    // What is dropped from the page cache first was asked for without O_DIRECT, or may have been.
    let direct = if subject.access == "direct" { "1" } else { "0" };
    // As fio has it: of one processor's time, so that it may be more than 100. How much of it was
    // the kernel's is not known.
    let busy = if measure.seconds > 0.0 {
        measure.cpu_seconds * 100.0 / measure.seconds
    } else {
        0.0
    };
    let mut job = json!({
        "jobname": name,
        "groupid": 0,
        "error": 0,
        "eta": 0,
        "elapsed": whole(measure.seconds.ceil()),
        "job options": {
            "name": name,
            "filename": subject.path,
            "rw": way,
            "bs": format!("{}k", measure.block >> 10),
            "iodepth": measure.depth.to_string(),
            "numjobs": "1",
            "direct": direct,
            "ioengine": engine,
        },
        "job_runtime": milliseconds,
        "usr_cpu": busy,
        "sys_cpu": 0.0,
        "ctx": 0,
        "majf": 0,
        "minf": 0,
        "iodepth_level": depths(measure.depth),
        "latency_ns": bins(&measure.latency, &NANOS, 1),
        "latency_us": bins(&measure.latency, &MICROS, 1_000),
        "latency_ms": bins(&measure.latency, &MILLIS, 1_000_000),
        "latency_depth": measure.depth,
        "latency_target": 0,
        "latency_percentile": 100.0,
        "latency_window": 0,
    });
    for direction in ["read", "write", "trim"] {
        let told = if direction == way {
            side(measure)
        } else {
            side(&Measure::default())
        };
        if let Some(job) = job.as_object_mut() {
            job.insert(direction.to_owned(), told);
        }
    }
    job
}

fn side(measure: &Measure) -> Value {
    let latency = &measure.latency;
    let spread = |least: u64, most: u64, mean: f64, deviation: f64| {
        json!({
            "min": least, "max": most, "mean": mean, "stddev": deviation, "N": measure.requests,
        })
    };
    let told = spread(latency.min, latency.max, latency.mean, latency.deviation);
    let mut completed = told.clone();
    if let Some(completed) = completed.as_object_mut() {
        completed.insert("percentile".to_owned(), percentiles(latency));
    }
    let (mean, deviation) = mean_and_deviation(&measure.samples);
    let block = measure.block.max(1);
    #[allow(clippy::cast_precision_loss, reason = "a rate is no count")]
    let iops = |rate: f64| rate / block as f64;
    let kib = |rate: f64| whole(rate / 1024.0);
    json!({
        "io_bytes": measure.bytes,
        "io_kbytes": measure.bytes >> 10,
        "bw_bytes": whole(measure.rate),
        "bw": kib(measure.rate),
        "iops": iops(measure.rate),
        "runtime": whole(measure.seconds * 1000.0),
        "total_ios": measure.requests,
        "short_ios": 0,
        "drop_ios": 0,
        "slat_ns": { "min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0 },
        "clat_ns": completed,
        "lat_ns": told,
        "bw_min": kib(measure.rate_min),
        "bw_max": kib(measure.rate_max),
        "bw_agg": 100.0,
        "bw_mean": mean / 1024.0,
        "bw_dev": deviation / 1024.0,
        "bw_samples": measure.samples.len(),
        "iops_min": whole(iops(measure.rate_min)),
        "iops_max": whole(iops(measure.rate_max)),
        "iops_mean": iops(mean),
        "iops_stddev": iops(deviation),
        "iops_samples": measure.samples.len(),
    })
}

/// Mean, and standard deviation as fio reckons it of its samples: over one less than their number
/// (`calc_lat` in fio's stat.c). Zeros of none; one alone does not deviate.
#[allow(clippy::cast_precision_loss, reason = "a few samples")]
fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    if samples.is_empty() {
        return (0.0, 0.0);
    }
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

fn percentiles(latency: &Latency) -> Value {
    let all: u128 = latency
        .buckets
        .iter()
        .map(|(_, count)| u128::from(*count))
        .sum();
    let mut told = Map::new();
    for wanted in PERCENTILES {
        let rank = (all * u128::from(wanted)).div_ceil(100_000).max(1);
        let mut seen = 0;
        let at = latency.buckets.iter().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= rank
        });
        let name = format!("{}.{:03}000", wanted / 1000, wanted % 1000);
        let value = at.map_or(0, |(end, _)| (*end).min(latency.max));
        told.insert(name, json!(value));
    }
    Value::Object(told)
}

/// Upper ends of fio's bins; the last one of each unit but milliseconds is the next unit's first.
const NANOS: [u64; 10] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
const MICROS: [u64; 10] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000];
const MILLIS: [u64; 11] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000];

/// Shares in percent of the requests in each bin.
fn bins(latency: &Latency, ends: &[u64], unit: u64) -> Value {
    let all: u64 = latency.buckets.iter().map(|(_, count)| count).sum();
    let mut told = Map::new();
    // What is below one unit belongs to the unit before.
    let mut from = if unit == 1 { 0 } else { unit };
    for end in ends {
        let until = end * unit;
        let count: u64 = latency
            .buckets
            .iter()
            .filter(|(at, _)| (from..until).contains(at))
            .map(|(_, count)| count)
            .sum();
        told.insert(end.to_string(), json!(percent(count, all)));
        from = until;
    }
    if unit == 1_000_000 {
        let beyond = latency.buckets.iter().filter(|(at, _)| *at >= from);
        let count: u64 = beyond.map(|(_, count)| count).sum();
        told.insert(">=2000".to_owned(), json!(percent(count, all)));
    }
    Value::Object(told)
}

fn depths(depth: usize) -> Value {
    let mut told = Map::new();
    let levels = [1, 2, 4, 8, 16, 32];
    for level in levels {
        let is_it = depth >= level && (depth < level * 2 || level == 32);
        told.insert(level.to_string(), json!(if is_it { 100.0 } else { 0.0 }));
    }
    told.insert(">=64".to_owned(), json!(0.0));
    Value::Object(told)
}

#[allow(clippy::cast_precision_loss, reason = "a share is no count")]
fn percent(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        part as f64 * 100.0 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_what_fio_would_and_whose_it_is() {
        let report = Report {
            version: "0.1.0".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            backend: "io_uring".to_owned(),
            subjects: vec![Subject {
                name: "sda".to_owned(),
                path: "/dev/sda".to_owned(),
                access: "direct".to_owned(),
                read: Some(Measure {
                    block: 1 << 20,
                    depth: 4,
                    rate: 200.0 * 1024.0 * 1024.0,
                    // Mean 200, deviation sqrt((100 + 100 + 0) / 2), in MiB.
                    samples: [190.0, 210.0, 200.0].map(|mib| mib * 1_048_576.0).to_vec(),
                    requests: 100,
                    bytes: 100 << 20,
                    seconds: 0.5,
                    cpu_seconds: 0.125,
                    latency: Latency {
                        min: 900_000,
                        max: 3_000_000,
                        buckets: vec![(900_000, 50), (1_500_000, 49), (3_000_000_000, 1)],
                        ..Latency::default()
                    },
                    ..Measure::default()
                }),
                ..Subject::default()
            }],
            ..Report::default()
        };
        let document: Value = serde_json::from_slice(&render(&report)).unwrap();
        assert_eq!(document["fio version"], "inhaul-0.1.0 (fio-compatible)");
        assert_eq!(document["timestamp"], 1_767_323_045);
        let job = &document["jobs"][0];
        assert_eq!(job["job options"]["bs"], "1024k");
        assert_eq!(job["job options"]["iodepth"], "4");
        let read = &job["read"];
        assert_eq!(read["bw"], 200 * 1024);
        assert_eq!(read["iops"], 200.0);
        assert_eq!(read["runtime"], 500);
        assert_eq!(read["clat_ns"]["percentile"]["50.000000"], 900_000);
        assert_eq!(read["clat_ns"]["percentile"]["99.990000"], 3_000_000);
        assert_eq!(read["bw_mean"], 200.0 * 1024.0);
        assert_eq!(read["bw_dev"], 10.0 * 1024.0);
        assert_eq!(
            (&read["iops_mean"], &read["iops_stddev"]),
            (&json!(200.0), &json!(10.0))
        );
        assert_eq!(
            (&job["usr_cpu"], &job["sys_cpu"]),
            (&json!(25.0), &json!(0.0))
        );
        assert_eq!(job["job options"]["direct"], "1");
        assert_eq!(document["global options"].get("direct"), None);
        assert_eq!(job["write"]["total_ios"], 0);
        assert_eq!(
            (&job["write"]["bw_dev"], &job["write"]["bw_mean"]),
            (&json!(0.0), &json!(0.0))
        );
        assert_eq!(job["latency_us"]["1000"], 50.0);
        assert_eq!(job["latency_ms"]["2"], 49.0);
        assert_eq!(job["latency_ms"][">=2000"], 1.0);
        assert_eq!(job["iodepth_level"]["4"], 100.0);
    }

    #[test]
    fn what_did_not_go_past_the_page_cache_is_not_called_direct() {
        for (access, direct) in [
            ("direct", "1"),
            ("dropped", "0"),
            ("unproved", "0"),
            ("", "0"),
        ] {
            let report = Report {
                subjects: vec![Subject {
                    access: access.to_owned(),
                    read: Some(Measure::default()),
                    write: Some(Measure::default()),
                    ..Subject::default()
                }],
                ..Report::default()
            };
            let document: Value = serde_json::from_slice(&render(&report)).unwrap();
            for job in document["jobs"].as_array().unwrap() {
                assert_eq!(job["job options"]["direct"], direct, "{access}");
                assert_eq!(job["usr_cpu"], 0.0, "no time, no share of it");
            }
        }
    }
}
