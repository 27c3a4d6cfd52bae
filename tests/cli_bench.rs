//! `inhaul bench` as a process, on drives made for the test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use support::mounts::{Fs, Mounted};
use support::program::{Ran, Running, inhaul, run};
use support::{Scratch, can_mount, need_root, need_tools, tool, wait_for};

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

/// A figure has a median between its extremes, and at least three samples.
fn check_measure(measure: &Value) {
    let samples = measure["samples"].as_array().unwrap();
    assert!(samples.len() >= 3, "{measure}");
    let (least, rate, most) = (
        number(&measure["rate_min"]),
        number(&measure["rate"]),
        number(&measure["rate_max"]),
    );
    assert!(0.0 < least && least <= rate && rate <= most, "{measure}");
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

#[test]
fn block_devices_are_measured_alone_and_together_and_only_read() {
    let test = "block_devices_are_measured_alone_and_together_and_only_read";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    // The kernel itself would refuse a write, and so would opening for one.
    let devices = ["one", "two"].map(|name| Device::new(&scratch, name, 24, &["--read-only"]));
    let ran = bench(&[&devices[0].0, &devices[1].0]).expect(0);
    let document = document(&ran);
    assert_eq!(document["complete"], true);
    assert_eq!(document["repetitions"], 3);
    for (device, subject) in devices.iter().zip(document["subjects"].as_array().unwrap()) {
        assert_eq!(subject["name"], device.name());
        assert_eq!(subject["kind"], "device");
        assert_eq!(subject["access"], "direct");
        assert_eq!(subject["span_bytes"], 24 << 20);
        check_measure(&subject["read"]);
        let knee = &subject["knee"];
        let on_the_way = subject["sweep"]
            .as_array()
            .unwrap()
            .iter()
            .any(|point| point["block"] == knee["block"] && point["depth"] == knee["depth"]);
        assert!(on_the_way, "the knee is one of the points tried: {subject}");
        let warnings = subject["warnings"].to_string();
        assert!(warnings.contains("only 25 MB can be read"), "{warnings}");
        assert!(!warnings.contains("zeros"), "{warnings}");
        assert!(!warnings.contains("page cache"), "{warnings}");
    }
    let steps = document["together"]["steps"].as_array().unwrap();
    let counts: Vec<u64> = steps
        .iter()
        .map(|step| step["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [1, 2]);
    assert!(
        document["verdicts"]
            .as_array()
            .is_some_and(|said| !said.is_empty())
    );
}

#[test]
fn what_would_be_a_figure_of_memory_is_said() {
    let test = "what_would_be_a_figure_of_memory_is_said";
    if !need_root(test) || !need_tools(test, &["losetup", "mount"]) {
        return;
    }
    let scratch = Scratch::new();
    // A tmpfs has no drive at all.
    let memory = Mounted::tmpfs(&scratch, "memory", 32);
    std::fs::write(memory.join("file"), vec![1; 8 << 20]).unwrap();
    bench(&[&memory.path()])
        .expect(6)
        .says("a rate would be that of memory")
        .says("nothing is left behind");
    // An image of holes, read through the page cache.
    let image = scratch.join("holes");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(16 << 20)
        .unwrap();
    let device = tool("losetup", &["--find", "--show", image.to_str().unwrap()]);
    let device = Device(String::from_utf8(device).unwrap().trim().to_owned());
    let ran = bench(&[&device.0, &"--alone"]).expect(0);
    let document = document(&ran);
    assert!(document["together"].is_null());
    let warnings = document["subjects"][0]["warnings"].to_string();
    for text in [
        "reads its image through the page cache",
        "has holes",
        "100% of what was read is zeros",
    ] {
        assert!(warnings.contains(text), "{text} in {warnings}");
    }
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

#[test]
fn a_directory_is_measured_by_its_files_and_left_as_it_is() {
    let test = "a_directory_is_measured_by_its_files_and_left_as_it_is";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    for (fs, mib, access) in [(Fs::Ext4, 40, "direct"), (Fs::Btrfs, 160, "dropped")] {
        let mounted = Mounted::image(&scratch, fs.name(), fs, mib);
        filled(mounted.path());
        let before = listing(mounted.path());
        let ran = bench(&[&mounted.path()]).expect(0);
        let document = document(&ran);
        let subject = &document["subjects"][0];
        assert_eq!(subject["kind"], "directory");
        assert_eq!(subject["fs"], fs.name());
        assert_eq!(subject["access"], access, "{subject}");
        assert_eq!(subject["span_bytes"], 12 << 20);
        check_measure(&subject["read"]);
        let holds = &subject["holds"];
        assert_eq!(holds["bytes"], (12 << 20) + 120 * 3000);
        assert_eq!(holds["files"], 122);
        assert_eq!(holds["small_files"], 120);
        let small = &subject["small"];
        if fs == Fs::Ext4 {
            assert_eq!(small["files"], 120, "{small}");
            assert!(number(&small["rate"]) > 0.0);
        }
        let estimate = &document["estimate"];
        assert_eq!(estimate["bytes"], holds["bytes"]);
        assert!(number(&estimate["seconds_min"]) <= number(&estimate["seconds"]));
        assert!(number(&estimate["seconds"]) <= number(&estimate["seconds_max"]));
        assert_eq!(listing(mounted.path()), before, "nothing was left behind");
    }
}

/// Names, sizes and times of all that is in a directory.
fn listing(dir: &Path) -> Vec<u8> {
    tool(
        "find",
        &[dir.to_str().unwrap(), "-printf", "%p %s %T@ %C@\\n"],
    )
}

#[test]
fn a_stop_leaves_the_results_so_far() {
    let test = "a_stop_leaves_the_results_so_far";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let devices = ["one", "two"].map(|name| Device::new(&scratch, name, 8, &[]));
    let running = Running::start(inhaul(&[
        &"bench",
        &"--seconds",
        &"0.3",
        &"--json",
        &"--progress",
        &"plain",
        &devices[0].0,
        &devices[1].0,
    ]));
    let second = format!("{} (2 of 2): looking", devices[1].name());
    let told = running.stderr_file();
    wait_for("the second drive", || {
        let text = support::program::so_far(&told);
        String::from_utf8_lossy(&text)
            .contains(&second)
            .then_some(())
    });
    running.signal(Signal::INT);
    let ran = running.finish().expect(75);
    let document = document(&ran);
    assert_eq!(document["complete"], false);
    check_measure(&document["subjects"][0]["read"]);
    assert!(document["subjects"][1]["read"].is_null());
    assert!(document["together"].is_null());
}

#[test]
fn misuse_is_refused_with_what_to_do() {
    run(&[&"bench"]).expect(2);
    run(&[&"bench", &"--repetitions", &"2", &"/tmp"])
        .expect(2)
        .says("fewer than 3 samples");
    run(&[&"bench", &"--seconds", &"0.01", &"/tmp"])
        .expect(2)
        .says("0.1 to 3600");
    run(&[&"bench", &"/dev/null"])
        .expect(2)
        .says("nothing to measure");
    run(&[&"bench", &"/nonexistent"]).expect(6);
    let scratch = Scratch::new();
    run(&[&"bench", &scratch.path()])
        .expect(6)
        .says("too little to measure");
}

#[test]
fn the_table_says_how_it_was_measured() {
    let test = "the_table_says_how_it_was_measured";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 8, &[]);
    let ran = run(&[
        &"bench",
        &"--seconds",
        &"0.1",
        &"-q",
        &"--io",
        &"blocking",
        &device.0,
    ]);
    let ran = ran
        .expect(0)
        .says("bench of 1 drive\n")
        .says("3 samples of 0.1 s each, after 0.05 s that do not count; blocking")
        .says("reading, one by one")
        .says("before you believe it");
    assert_eq!(ran.err(), "");
}

#[test]
fn writing_is_measured_and_leaves_nothing() {
    let test = "writing_is_measured_and_leaves_nothing";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    for (fs, mib) in [(Fs::Ext4, 220), (Fs::Btrfs, 300)] {
        let mounted = Mounted::image(&scratch, fs.name(), fs, mib);
        filled(mounted.path());
        // A bench that was killed between making a file and hiding it left this.
        std::fs::write(mounted.join(".inhaul-bench.4194305.0"), "left").unwrap();
        let before = listing(mounted.path());
        let ran = bench(&[&mounted.path(), &"--write", &"--scratch", &"24MiB"]).expect(0);
        let document = document(&ran);
        check_measure(&document["subjects"][0]["write"]);
        let swept: Vec<&[u8]> = before
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.windows(13).any(|part| part == b"inhaul-bench."))
            .collect();
        let after = listing(mounted.path());
        let after: Vec<&[u8]> = after.split(|&byte| byte == b'\n').collect();
        // The directory itself has changed when something was swept out of it.
        assert_eq!(after.get(1..), swept.get(1..), "{}", fs.name());

        let before = listing(mounted.path());
        bench(&[&mounted.path(), &"--write", &"--scratch", &"1TiB"])
            .expect(6)
            .says("give less with --scratch");
        assert_eq!(listing(mounted.path()), before);
    }
}

#[test]
fn a_killed_bench_leaves_no_file_and_takes_no_room() {
    let test = "a_killed_bench_leaves_no_file_and_takes_no_room";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 400);
    filled(mounted.path());
    tool("sync", &["-f", mounted.path().to_str().unwrap()]);
    let (before, free) = (listing(mounted.path()), mounted.free());
    let mut running = Running::start(inhaul(&[
        &"bench",
        &"--write",
        &"--scratch",
        &"100MiB",
        &"--seconds",
        &"0.2",
        &"--progress",
        &"plain",
        &mounted.path(),
    ]));
    let told = running.stderr_file();
    wait_for("the writing", || {
        let text = support::program::so_far(&told);
        let writes = String::from_utf8_lossy(&text).contains("writing to a scratch file");
        // Until it holds space that nobody sees a name for.
        (writes && mounted.free() < free).then_some(())
    });
    assert!(running.alive());
    running.signal(Signal::KILL);
    running.finish().expect(137);
    assert_eq!(listing(mounted.path()), before);
    wait_for("the room", || (mounted.free() >= free).then_some(()));
}

#[test]
fn a_pair_is_measured_with_a_hash_and_without() {
    let test = "a_pair_is_measured_with_a_hash_and_without";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let devices = ["one", "two"].map(|name| Device::new(&scratch, name, 24, &["--read-only"]));
    let target = Mounted::image(&scratch, "target", Fs::Ext4, 220);
    let before = listing(target.path());
    let ran = bench(&[
        &devices[0].0,
        &devices[1].0,
        &"--write",
        &"--scratch",
        &"48MiB",
        &"--target",
        &target.path(),
    ])
    .expect(0);
    let document = document(&ran);
    let warnings = document["warnings"].to_string();
    assert!(
        warnings.contains("is only read: --write is for directories"),
        "{warnings}"
    );
    for subject in document["subjects"].as_array().unwrap() {
        assert!(
            subject["write"].is_null(),
            "a block device is never written to"
        );
    }
    let pair = &document["pair"];
    assert_eq!(pair["fs"], "ext4");
    check_measure(&pair["write"]);
    for reached in [&pair["hashed"], &pair["unhashed"]] {
        assert!(number(&reached["rate_min"]) > 0.0, "{pair}");
        assert!(number(&reached["rate_min"]) <= number(&reached["rate"]));
        assert!(number(&reached["rate"]) <= number(&reached["rate_max"]));
    }
    assert_eq!(listing(target.path()), before);
}

#[test]
fn every_form_of_output_and_the_comparison_of_two() {
    let test = "every_form_of_output_and_the_comparison_of_two";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 12, &[]);
    let quick: [&dyn AsRef<OsStr>; 5] = [&"bench", &"-q", &"--seconds", &"0.1", &device.0];
    let with = |more: &[&dyn AsRef<OsStr>]| {
        let all: Vec<&dyn AsRef<OsStr>> = quick.into_iter().chain(more.iter().copied()).collect();
        run(&all)
    };
    let csv = with(&[&"--csv"]).expect(0).out();
    let mut lines = csv.split("\r\n");
    let titles = lines.next().unwrap().split(',').count();
    let read = lines.find(|line| line.starts_with("read,")).unwrap();
    assert_eq!(read.split(',').count(), titles);
    assert_eq!(read.split(',').nth(2), Some(&device.0[..]));

    let fio = with(&[&"--output-format", &"fio"]).expect(0);
    drawn_by_fio_plot(&scratch, &fio.stdout);
    let fio: Value = serde_json::from_slice(&fio.stdout).unwrap();
    assert!(fio["fio version"].as_str().unwrap().starts_with("inhaul-"));
    let job = &fio["jobs"][0]["read"];
    assert!(job["bw_bytes"].as_u64().unwrap() > 0 && job["total_ios"].as_u64().unwrap() > 0);

    let (page, kept) = (scratch.join("page.html"), scratch.join("kept.json"));
    let json = with(&[&"--json", &"--html", &page]).expect(0);
    std::fs::write(&kept, &json.stdout).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<svg"));
    with(&[&"--html", &page])
        .expect(2)
        .says("nothing is overwritten unasked");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), text);

    run(&[&"bench", &"--compare", &kept, &kept])
        .expect(0)
        .says("0 slower, 0 faster, 1 the same");
    let mut slower: Value = serde_json::from_slice(&json.stdout).unwrap();
    for field in ["rate", "rate_min", "rate_max"] {
        let rate = &mut slower["subjects"][0]["read"][field];
        *rate = Value::from(number(rate) / 8.0);
    }
    let other = scratch.join("other.json");
    std::fs::write(&other, slower.to_string()).unwrap();
    let ran = run(&[&"bench", &"--compare", &kept, &other, &"--json"]).expect(0);
    let compared: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(compared["type"], "bench-compare");
    assert_eq!(compared["rows"][0]["verdict"], "slower");
    assert!((number(&compared["rows"][0]["ratio"]) - 0.125).abs() < 1e-9);
    run(&[&"bench", &"--compare", &kept, &page])
        .expect(2)
        .says("not a report of a bench");
}

/// What fio-plot 1.1.21 looks up in each job; where it is installed, it draws it.
fn drawn_by_fio_plot(scratch: &Scratch, output: &[u8]) {
    let document: Value = serde_json::from_slice(output).unwrap();
    assert!(document["fio version"].is_string() && document["global options"].is_object());
    let job = &document["jobs"][0];
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
    let (folder, drawn) = (scratch.join("plot"), scratch.join("plot.png"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("fio.json"), output).unwrap();
    let ran = std::process::Command::new("fio-plot")
        .args(["-T", "a drive", "-r", "read", "-H", "-n", "1", "-d"])
        .arg(job["job options"]["iodepth"].as_str().unwrap())
        .args([OsStr::new("-i"), folder.as_os_str()])
        .args([OsStr::new("-o"), drawn.as_os_str()])
        .output();
    // Without it, that all it looks up is there has to do.
    if let Ok(ran) = ran {
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(drawn.is_file(), "{said}");
    }
}
