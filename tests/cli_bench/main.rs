//! `inhaul bench` as a process, on drives made for the test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

#[path = "../support/drive/mod.rs"]
mod drive;
#[path = "../support/mod.rs"]
mod support;

mod asked;
mod beside;
mod forms;
mod honest;
mod hung;
mod known;
mod names;
mod output;
mod plot;
mod reading;
mod serials;
mod stopping;
mod writing;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::program::{Ran, run};
use support::{Scratch, tool};

/// A loop device over an image that holds no zeros; detached when dropped.
struct Device(String);

impl Device {
    fn new(scratch: &Scratch, name: &str, mib: usize, options: &[&str]) -> Self {
        let image = scratch.join(name);
        let block: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8 + 1).collect();
        std::fs::write(&image, block.repeat(mib)).unwrap();
        tool("sync", &["-f", image.to_str().unwrap()]);
        let mut args = vec!["--find", "--show", "--direct-io=on"];
        args.extend(options);
        args.push(image.to_str().unwrap());
        let device = String::from_utf8(tool("losetup", &args)).unwrap();
        Self(device.trim().to_owned())
    }

    fn name(&self) -> &str {
        self.0.strip_prefix("/dev/").unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        support::mounts::quietly("losetup", &["-d", &self.0]);
    }
}

fn document(ran: &Ran) -> Value {
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["type"], "bench");
    document
}

/// Short samples: what is looked at here is not how fast the drives of a test are.
fn bench(args: &[&dyn AsRef<OsStr>]) -> Ran {
    let quick: [&dyn AsRef<OsStr>; 4] = [&"bench", &"--json", &"--seconds", &"0.1"];
    let all: Vec<&dyn AsRef<OsStr>> = quick.into_iter().chain(args.iter().copied()).collect();
    run(&all)
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A figure has a median between its extremes, and all samples, at least three.
fn check_rate(figure: &Value) {
    let mut samples: Vec<f64> = figure["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    assert!(samples.len() >= 3, "{figure}");
    samples.sort_by(f64::total_cmp);
    let [least, rate, most] = ["rate_min", "rate", "rate_max"].map(|name| number(&figure[name]));
    assert!(0.0 < least && least <= rate && rate <= most, "{figure}");
    assert_eq!(samples.first(), Some(&least), "{figure}");
    assert_eq!(samples.last(), Some(&most), "{figure}");
}

/// That, and latencies of all requests.
fn check_measure(measure: &Value) {
    check_rate(measure);
    let latency = &measure["latency"];
    let at = |name: &str| latency[name].as_u64().unwrap();
    assert!(
        at("min") <= at("p50") && at("p50") <= at("p99"),
        "{latency}"
    );
    assert!(
        at("p99") <= at("p999") && at("p999") <= at("max"),
        "{latency}"
    );
    let counted: u64 = latency["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| bucket[1].as_u64().unwrap())
        .sum();
    assert_eq!(counted, measure["requests"].as_u64().unwrap());
    assert!(measure["bytes"].as_u64().unwrap() > 0);
}

fn filled(mounted: &Path) -> PathBuf {
    let block: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 253) as u8 + 1).collect();
    for name in ["a", "b"] {
        std::fs::write(mounted.join(name), block.repeat(6)).unwrap();
    }
    let small = mounted.join("small");
    std::fs::create_dir(&small).unwrap();
    for number in 0..120 {
        std::fs::write(small.join(number.to_string()), vec![7; 3000]).unwrap();
    }
    tool("sync", &["-f", mounted.to_str().unwrap()]);
    mounted.to_owned()
}

/// Names, sizes and times of all that is in a directory.
fn listing(dir: &Path) -> Vec<u8> {
    tool(
        "find",
        &[dir.to_str().unwrap(), "-printf", "%p %s %T@ %C@\\n"],
    )
}
