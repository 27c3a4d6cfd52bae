//! `inhaul drives` on this machine: what it says of drives made for the test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod support;

use serde_json::Value;
use support::mounts::{Fs, Mounted};
use support::program::{INHAUL, inhaul, run, under};
use support::{Scratch, can_mount, need_root, need_tools, tool};

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
    if !need_root(test) || !need_tools(test, &["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
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
    let facts = |bytes: &[u8]| -> Vec<(Value, Value, Value, Value)> {
        let document = document(bytes);
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
    assert_eq!(facts(&theirs.stdout), facts(&ours.stdout));
}

#[test]
fn the_whole_machine_can_be_listed() {
    let ran = run(&[&"drives", &"-v", &"--color", &"never"]).expect(0);
    let out = ran.out();
    assert!(out.lines().next().unwrap().contains(" drive"), "{out}");
    assert!(!out.contains('\x1b'));
    document(&run(&[&"drives", &"--json"]).expect(0).stdout);
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
