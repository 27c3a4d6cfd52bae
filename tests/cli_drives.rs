//! `inhaul drives` on this machine: what it says of drives made for the test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, OpenFlags};
use serde_json::Value;
use support::flat::{Flat, FlatFs, attributes};
use support::mounts::{Fs, Mounted};
use support::program::{INHAUL, Running, inhaul, run, so_far, under};
use support::{Scratch, can_mount, need_root, need_tools, tool, wait_for};

fn document(text: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(text).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["type"], "drives");
    document
}

fn drive<'d>(document: &'d Value, name: &str) -> &'d Value {
    let drives = document["drives"].as_array().unwrap();
    let found = drives.iter().find(|drive| drive["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {document}"))
}

#[test]
fn loop_devices_are_told_with_their_mounts_and_images() {
    let test = "loop_devices_are_told_with_their_mounts_and_images";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let first = Mounted::image(&scratch, "one", Fs::Ext4, 32);
    let second = Mounted::image(&scratch, "two", Fs::Ext4, 48);
    let ran = run(&[&"drives", &"--json", &first.path(), &second.path()]).expect(0);
    let document = document(&ran.stdout);
    assert_eq!(document["drives"].as_array().unwrap().len(), 2);
    for (mounted, bytes) in [(&first, 32_u64 << 20), (&second, 48 << 20)] {
        let name = mounted.device().strip_prefix("/dev/").unwrap();
        let told = drive(&document, name);
        assert_eq!(told["path"], mounted.device());
        assert_eq!(told["bytes"], bytes);
        assert_eq!(told["transport"], "loop");
        assert_eq!(told["read_only"], false);
        assert_eq!(told["logical_block"], 512);
        assert_eq!(
            told["image"]["path"],
            mounted.image_path().to_str().unwrap()
        );
        let mount = &told["mounts"][0];
        assert_eq!(mount["path"], mounted.path().to_str().unwrap());
        assert_eq!(mount["fs"], "ext4");
        let (used, all) = (&mount["used_bytes"], &mount["bytes"]);
        assert!(
            used.as_u64().unwrap() > 0 && used.as_u64() < all.as_u64(),
            "{mount}"
        );
        assert_eq!(&told["used_bytes"], used);
    }
    // Both images are on one drive, wherever this test runs: that is a link they share.
    let names: Vec<&str> = [&first, &second]
        .map(|mounted| mounted.device().strip_prefix("/dev/").unwrap())
        .to_vec();
    let shares = document["links"].as_array().unwrap().iter().any(|link| {
        let drives = link["drives"].as_array().unwrap();
        link["kind"] == "backing" && names.iter().all(|name| drives.iter().any(|d| d == name))
    });
    assert!(shares, "{document}");

    let ran = run(&[&"drives", &"--color", &"never", &first.device()]).expect(0);
    let name = names[0];
    ran.says("1 drive, 33.6 MB")
        .says(name)
        .says("33.6 MB")
        .says("512/512")
        .says(&format!("{}  ext4  ", first.path().display()));
}

#[test]
fn an_ordinary_user_sees_the_same_drives() {
    let test = "an_ordinary_user_sees_the_same_drives";
    if !can_mount(test) || !need_tools(test, &["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let mounted = Mounted::image(&scratch, "image", Fs::Ext4, 32);
    // Where anybody may run it from.
    let program = scratch.join("inhaul");
    std::fs::copy(INHAUL, &program).unwrap();
    let ordinary = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ];
    let mut command = std::process::Command::new(&program);
    command.args(["drives", "--json"]);
    let theirs = under(&ordinary, &command).output().unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    let ours = inhaul(&[&"drives", &"--json"]).output().unwrap();
    let [theirs, ours] = [theirs, ours].map(|output| document(&output.stdout));
    // All of a drive that nobody else uses: its mounts, what is used of them, its blocks.
    let name = mounted.device().strip_prefix("/dev/").unwrap();
    let told = drive(&theirs, name);
    assert_eq!(told, drive(&ours, name));
    assert!(told["used_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["mounts"][0]["path"], mounted.path().to_str().unwrap());
    assert_eq!(told["logical_block"], 512);
    let facts = |document: &Value| -> Vec<(Value, Value, Value, Value)> {
        let drives = document["drives"].as_array().unwrap().clone();
        drives
            .into_iter()
            // Other tests attach theirs meanwhile.
            .filter(|drive| drive["transport"] != "loop")
            .map(|mut d| {
                (
                    d["name"].take(),
                    d["bytes"].take(),
                    d["serial"].take(),
                    d["wwn"].take(),
                )
            })
            .collect()
    };
    assert_eq!(facts(&theirs), facts(&ours));
}

#[test]
fn the_whole_machine_can_be_listed() {
    let ran = run(&[&"drives", &"-v", &"--color", &"never"]).expect(0);
    let out = ran.out();
    assert!(out.lines().next().unwrap().contains(" drive"), "{out}");
    assert!(!out.contains('\x1b'));
    document(&run(&[&"drives", &"--json"]).expect(0).stdout);
}

/// A folder with one more in it, which is on a drive that answers nobody while it is told so.
struct Deaf(Arc<AtomicBool>);

impl Flat for Deaf {
    fn names(&self) -> Vec<String> {
        vec!["inner".to_owned()]
    }

    fn number(&self, _: usize) -> Option<u64> {
        while self.0.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(2)
    }

    fn attributes(&self, number: u64) -> FileAttr {
        attributes(number, FileType::Directory, 0)
    }

    fn read(&self, _: u64, _: u64, _: usize, _: OpenFlags) -> Result<Vec<u8>, Errno> {
        Err(Errno::EISDIR)
    }
}

/// Answers again when dropped.
struct Heard(Arc<AtomicBool>);

impl Drop for Heard {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

#[test]
fn a_mount_that_does_not_answer_hides_no_drive() {
    let test = "a_mount_that_does_not_answer_hides_no_drive";
    if !can_mount(test) {
        return;
    }
    let scratch = Scratch::new();
    let deaf = Arc::new(AtomicBool::new(false));
    let outer = FlatFs::new(&scratch.join("outer"), "deaf", Deaf(Arc::clone(&deaf)));
    let image = scratch.join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(48 << 20).unwrap();
    let inner = Mounted::make(&outer.path().join("inner"), &image, Fs::Ext4, "noatime");
    let well = Mounted::image(&scratch, "well", Fs::Ext4, 32);
    let heard = Heard(Arc::clone(&deaf));
    deaf.store(true, Relaxed);
    let running = Running::start(inhaul(&[&"drives", &"--json"]));
    let stdout = running.stdout_file();
    let text = wait_for("the drives", || {
        let text = so_far(&stdout);
        text.ends_with(b"\n").then_some(text)
    });
    // The kernel may hold the process until the drive answers.
    drop(heard);
    running.finish().expect(0);
    let document = document(&text);
    let [told, silent] = [&well, &inner].map(|mounted| {
        let name = mounted.device().strip_prefix("/dev/").unwrap();
        drive(&document, name)
    });
    assert!(told["used_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["health"]["concerns"], serde_json::json!([]));
    let point = inner.path().display();
    let concern = format!("the file system at {point} does not answer");
    assert_eq!(silent["health"]["concerns"], serde_json::json!([concern]));
    assert!(silent["mounts"][0]["used_bytes"].is_null(), "{silent}");
}

#[test]
fn a_path_that_is_not_there_is_refused() {
    run(&[&"drives", &"/nonexistent/shelf"])
        .expect(6)
        .says("/nonexistent/shelf")
        .says("nothing was changed");
}

#[test]
fn a_node_says_which_drive_it_is_on() {
    let test = "a_node_says_which_drive_it_is_on";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let device = tool(
        "losetup",
        &["--find", "--show", "--read-only", image.to_str().unwrap()],
    );
    let device = String::from_utf8(device).unwrap().trim().to_owned();
    let ran = run(&[&"drives", &"--json", &device]);
    tool("losetup", &["-d", &device]);
    let document = document(&ran.expect(0).stdout);
    let told = &document["drives"][0];
    assert_eq!(told["path"], device.as_str());
    assert_eq!(told["read_only"], true);
    assert_eq!(told["mounts"].as_array().unwrap().len(), 0);
}
