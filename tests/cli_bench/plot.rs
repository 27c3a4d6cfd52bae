//! What fio-plot makes of a bench in the shape of fio's output.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;

use crate::support::program::run;
use crate::support::{Scratch, need_root, need_tools};
use crate::{Device, number};

#[test]
fn fio_plot_draws_every_kind_of_chart_of_a_bench() {
    let test = "fio_plot_draws_every_kind_of_chart_of_a_bench";
    if !need_root(test) || !need_tools(test, &["losetup", "fio-plot"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 12, &[]);
    let written = run(&[
        &"bench",
        &"-q",
        &"--seconds=0.1",
        &"--output-format=fio",
        &device.0,
    ])
    .expect(0)
    .stdout;
    let document: Value = serde_json::from_slice(&written).unwrap();
    let job = &document["jobs"][0];
    looked_up(&document, job);
    // Two folders, to be held against each other.
    let folders = ["before", "after"].map(|name| scratch.dir(name));
    for folder in &folders {
        std::fs::write(folder.join("bench.json"), &written).unwrap();
    }
    let depth = job["job options"]["iodepth"].as_str().unwrap();
    let one = [folders[0].as_os_str()];
    let both = folders.each_ref().map(|folder| folder.as_os_str());
    // A histogram; bars by queue and by jobs; iops, latency and rate in three dimensions; two benches.
    let charts: [(&[&str], &[&OsStr]); 7] = [
        (&["-H"], &one),
        (&["-l"], &one),
        (&["-N"], &one),
        (&["-L", "-t", "iops"], &one),
        (&["-L", "-t", "lat"], &one),
        (&["-L", "-t", "bw"], &one),
        (&["-C"], &both),
    ];
    for (chart, folders) in charts {
        let drawn = scratch.join(format!("{}.png", chart.concat()));
        let ran = Command::new("fio-plot")
            .env("MPLCONFIGDIR", scratch.path())
            .args(["-T", "a drive", "-r", "read", "-n", "1", "-d", depth])
            .args(chart)
            .args([OsStr::new("-o"), drawn.as_os_str(), OsStr::new("-i")])
            .args(folders)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{chart:?}: {said}");
        let png =
            std::fs::read(&drawn).unwrap_or_else(|error| panic!("{chart:?}: {error}: {said}"));
        assert!(png.starts_with(b"\x89PNG"), "{chart:?}");
    }
}

/// What fio-plot 1.1.21 looks up in a job: `jsonimport.py`, `jsonparsing_support.py`.
fn looked_up(document: &Value, job: &Value) {
    assert!(document["fio version"].is_string() && document["global options"].is_object());
    for option in ["iodepth", "numjobs", "bs", "rw"] {
        assert!(job["job options"][option].is_string(), "{option}");
    }
    for figure in ["bw", "iops", "iops_stddev"] {
        number(&job["read"][figure]);
    }
    for figure in ["mean", "stddev"] {
        number(&job["read"]["lat_ns"][figure]);
    }
    for table in ["latency_ms", "latency_us", "latency_ns"] {
        assert!(job[table].is_object(), "{table}");
    }
    for figure in ["usr_cpu", "sys_cpu"] {
        number(&job[figure]);
    }
}
