//! Block devices and directories, which are only read.

use serde_json::Value;

use crate::support::mounts::{Fs, Mounted};
use crate::support::program::{Running, inhaul, under};
use crate::support::{Scratch, can_mount, need_root, need_tools, tool};
use crate::{Device, bench, check_measure, check_rate, document, filled, listing, number};

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
    for step in steps {
        check_rate(step);
        let samples = step["samples"].as_array().unwrap();
        let each = step["each_samples"].as_array().unwrap();
        assert_eq!(each.len(), step["each"].as_array().unwrap().len());
        for (moment, sum) in samples.iter().enumerate() {
            let parts: f64 = each.iter().map(|drive| number(&drive[moment])).sum();
            assert!((parts - number(sum)).abs() < 1.0, "{step}");
        }
    }
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
        // What others have in hand of small files stays in the page cache: then they have no figure.
        let mut runs = (0..5).map(|_| document(&bench(&[&mounted.path()]).expect(0)));
        let is_whole = |document: &Value| {
            let subject = &document["subjects"][0];
            let untold = "small files have no figure: ";
            let is_untold = subject["warnings"].to_string().contains(untold);
            assert_eq!(subject["small"].is_null(), is_untold, "{subject}");
            !is_untold
        };
        let document = runs
            .find(is_whole)
            .expect("small files that can be dropped");
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
        assert_eq!(holds["small_bytes"], 120 * 3000);
        let small = &subject["small"];
        // Three samples of 32, and too few are left for one more.
        assert_eq!(small["files"], 96, "{}: {subject}", fs.name());
        check_rate(small);
        let estimate = &document["estimate"];
        assert_eq!(estimate["bytes"], holds["bytes"]);
        assert!(number(&estimate["seconds_min"]) <= number(&estimate["seconds"]));
        assert!(number(&estimate["seconds"]) <= number(&estimate["seconds_max"]));
        assert_eq!(listing(mounted.path()), before, "nothing was left behind");
    }
}

#[test]
fn small_files_in_as_many_folders_take_few_descriptors() {
    let test = "small_files_in_as_many_folders_take_few_descriptors";
    if !can_mount(test) || !need_tools(test, &["prlimit"]) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 40);
    filled(mounted.path());
    for number in 0..400 {
        let folder = mounted.join(format!("folder{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("small"), vec![7; 3000]).unwrap();
    }
    tool("sync", &["-f", mounted.path().to_str().unwrap()]);
    let command = inhaul(&[&"bench", &"--json", &"--seconds=0.1", &mounted.path()]);
    let limited = under(&["prlimit", "--nofile=200:200"], &command);
    let ran = Running::start(limited).finish().expect(0);
    let subject = document(&ran)["subjects"][0].clone();
    assert_eq!(subject["holds"]["small_files"], 520, "{subject}");
    // At least three samples of a ninth of them.
    let read = subject["small"]["files"].as_u64().unwrap();
    assert!(read >= 3 * 57, "{subject}");
}

#[test]
fn a_drive_and_a_directory_on_it_are_counted_once() {
    let test = "a_drive_and_a_directory_on_it_are_counted_once";
    if !can_mount(test) || !need_tools(test, &["findmnt"]) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "ext4", Fs::Ext4, 40);
    filled(mounted.path());
    let point = mounted.path().to_str().unwrap();
    let device = tool("findmnt", &["--noheadings", "--output=SOURCE", point]);
    let device = String::from_utf8(device).unwrap();
    let device = device.trim();
    let document = document(&bench(&[&mounted.path(), &device, &device]).expect(0));
    assert_eq!(document["subjects"].as_array().unwrap().len(), 2);
    let once = format!("{device} is {device}, which is named too: it is measured once");
    assert!(
        document["warnings"].to_string().contains(&once),
        "{document}"
    );
    let [folder, drive] = [0, 1].map(|at| &document["subjects"][at]);
    assert_eq!(folder["within"], drive["name"], "{folder}");
    assert_eq!(drive["within"], Value::Null);
    assert_eq!(document["estimate"]["bytes"], drive["holds"]["bytes"]);
}

#[test]
fn a_queue_as_deep_as_memory_lets_it_be_is_told_of() {
    let test = "a_queue_as_deep_as_memory_lets_it_be_is_told_of";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let device = Device::new(&scratch, "one", 24, &["--read-only"]);
    let subject = |memory: &str| {
        let ran = bench(&[&device.0, &"--memory", &memory]).expect(0);
        document(&ran)["subjects"][0].clone()
    };
    let is_told = |subject: &Value| {
        let warnings = subject["warnings"].to_string();
        warnings.contains("--memory 32MiB would allow 32")
    };
    // Whatever was best on this machine: what is said and what was found agree.
    let found = subject("16MiB");
    assert_eq!(is_told(&found), found["knee"]["depth"] == 16, "{found}");
    let found = subject("64MiB");
    assert!(!is_told(&found), "{found}");
}
