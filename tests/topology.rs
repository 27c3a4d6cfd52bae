//! Real mounts of real images: what `locate` says must be what `losetup` did.

#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test bench is a failed test"
)]
#![expect(clippy::print_stderr, reason = "tests that cannot run say so")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use inhaul::topology::{Location, Topology, Transport, spindle_groups};
use tempfile::TempDir;

/// A scratch directory whose mounts and loop devices go away with it.
struct Bench {
    dir: TempDir,
    mounts: Vec<PathBuf>,
    loops: Vec<String>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for point in self.mounts.iter().rev() {
            run("umount", &[point.to_str().unwrap_or_default()]);
        }
        for device in &self.loops {
            run("losetup", &["-d", device]);
        }
    }
}

/// Runs a tool; its standard output when it succeeded.
fn run(tool: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(args).output().ok()?;
    if !output.status.success() {
        eprintln!(
            "{tool} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Bench {
    /// Returns a bench, or says why there is none.
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {test} needs root to mount images");
            return None;
        }
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            mounts: Vec::new(),
            loops: Vec::new(),
        })
    }

    fn image(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// Attaches an image; the loop device's kernel name.
    fn attach(&mut self, image: &Path) -> Option<String> {
        let device = run("losetup", &["--find", "--show", "-P", image.to_str()?])?;
        self.loops.push(device.clone());
        Some(device.strip_prefix("/dev/")?.to_owned())
    }

    fn mount(&mut self, args: &[&str], name: &str) -> Option<PathBuf> {
        let point = self.dir.path().join(name);
        std::fs::create_dir(&point).unwrap();
        let mut args = args.to_vec();
        args.push(point.to_str()?);
        run("mount", &args)?;
        self.mounts.push(point.clone());
        Some(point)
    }

    /// Makes a file system on new images and mounts it: loop names and mount point.
    fn file_system(&mut self, mkfs: &[&str], images: usize) -> Option<(Vec<String>, PathBuf)> {
        let kind = mkfs.first()?.rsplit('.').next()?;
        let mut devices = Vec::new();
        for index in 0..images {
            let image = self.image(&format!("{kind}{index}.img"), 320 << 20);
            devices.push(self.attach(&image)?);
        }
        let nodes: Vec<String> = devices.iter().map(|name| format!("/dev/{name}")).collect();
        let (tool, options) = mkfs.split_first()?;
        let mut args = options.to_vec();
        args.extend(nodes.iter().map(String::as_str));
        run(tool, &args)?;
        let point = self.mount(&["-t", kind, nodes.first()?], &format!("{kind} \t{images}"))?;
        devices.sort();
        Some((devices, point))
    }
}

fn locate(path: &Path) -> Location {
    Topology::live().unwrap().locate(path).unwrap()
}

fn check_file_system(test: &str, mkfs: &[&str], images: usize) {
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    // A table from before the mount must do as well.
    let stale = Topology::live().unwrap();
    let Some((devices, point)) = bench.file_system(mkfs, images) else {
        eprintln!("SKIPPED: {test}: cannot make or mount the file system");
        return;
    };
    let inner = point.join("dir");
    std::fs::create_dir(&inner).unwrap();
    let file = inner.join("file");
    std::fs::write(&file, b"x").unwrap();

    for path in [&point, &inner, &file] {
        let location = locate(path);
        assert_eq!(
            location.keys().collect::<Vec<_>>(),
            devices,
            "{}",
            path.display()
        );
        assert_eq!(location.name(), devices.join("+"));
        assert_eq!(
            location.mount.point, point,
            "escapes in the mount point are decoded"
        );
        assert_eq!(stale.locate(path).unwrap(), location);
    }
    let location = locate(&point);
    for drive in &location.drives {
        assert_eq!(drive.transport, Transport::Loop);
        assert_eq!(drive.size, 335_544_320);
        let backing = drive.backing.as_deref().unwrap();
        assert_eq!(backing.parent(), Some(bench.dir.path()));
    }

    // The same file system elsewhere, and a symbolic link to it.
    let bind = bench
        .mount(&["--bind", inner.to_str().unwrap()], "bind")
        .unwrap();
    let link = bench.dir.path().join("link");
    std::os::unix::fs::symlink(&bind, &link).unwrap();
    let bound = locate(&link);
    assert_eq!(bound.mount.point, bind);
    assert_ne!(bound.mount.id, location.mount.id);
    assert_eq!(locate(&point), location, "still its own mount");
    assert_eq!(bound.keys().collect::<Vec<_>>(), devices);
    // Outside: the directory the mount points are in is on something else.
    let outside = locate(bench.dir.path());
    assert!(outside.keys().all(|key| !devices.contains(&key)));
    assert_eq!(
        spindle_groups(&[location, outside, bound]),
        [vec![0, 2], vec![1]]
    );
}

#[test]
fn ext4_on_a_loop_device() {
    check_file_system("ext4_on_a_loop_device", &["mkfs.ext4", "-q", "-F"], 1);
}

#[test]
fn xfs_on_a_loop_device() {
    check_file_system("xfs_on_a_loop_device", &["mkfs.xfs", "-q", "-f"], 1);
}

#[test]
fn btrfs_on_a_loop_device() {
    check_file_system("btrfs_on_a_loop_device", &["mkfs.btrfs", "-q", "-f"], 1);
}

#[test]
fn btrfs_on_two_loop_devices() {
    let mkfs = ["mkfs.btrfs", "-q", "-f", "-d", "raid0"];
    check_file_system("btrfs_on_two_loop_devices", &mkfs, 2);
}

#[test]
fn an_overlay_is_on_its_upper_layers_loop_device() {
    let test = "an_overlay_is_on_its_upper_layers_loop_device";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    let Some((devices, upper)) = bench.file_system(&["mkfs.ext4", "-q", "-F"], 1) else {
        eprintln!("SKIPPED: {test}: cannot make or mount ext4");
        return;
    };
    let lower = bench.dir.path().join("lower");
    for dir in [lower.clone(), upper.join("u"), upper.join("w")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(lower.join("file"), b"x").unwrap();
    // By a path without blanks, which options cannot carry.
    let short = bench
        .mount(&["--bind", upper.to_str().unwrap()], "up")
        .unwrap();
    let options = format!(
        "lowerdir={},upperdir={short}/u,workdir={short}/w",
        lower.display(),
        short = short.display()
    );
    let Some(point) = bench.mount(&["-t", "overlay", "overlay", "-o", &options], "o") else {
        eprintln!("SKIPPED: {test}: cannot mount an overlay");
        return;
    };
    for path in [point.clone(), point.join("file")] {
        let location = locate(&path);
        assert_eq!(location.mount.point, point);
        assert_eq!(location.keys().collect::<Vec<_>>(), devices);
    }
}

#[test]
fn two_partitions_of_one_loop_device_take_turns() {
    let test = "two_partitions_of_one_loop_device_take_turns";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    let image = bench.image("parts.img", 160 << 20);
    let device = bench.attach(&image).unwrap();
    let mut locations = Vec::new();
    // Told to the kernel directly: not every kernel reads partition tables itself.
    for (number, first) in [("1", "2048"), ("2", "133120")] {
        let disk = format!("/dev/{device}");
        let node = format!("{disk}p{number}");
        // Units of 512 bytes: 64 MiB each, from 1 MiB and from 65 MiB.
        if run("addpart", &[&disk, number, first, "131072"]).is_none()
            || run("mkfs.ext4", &["-q", "-F", &node]).is_none()
        {
            eprintln!("SKIPPED: {test}: cannot make partitions");
            return;
        }
        let point = bench.mount(&[&node], &format!("p{number}")).unwrap();
        locations.push(locate(&point));
    }
    for location in &locations {
        assert_eq!(location.name(), device);
    }
    assert_ne!(locations[0].mount.device, locations[1].mount.device);
    assert_eq!(spindle_groups(&locations), [[0, 1]]);
}

#[test]
fn memory_has_a_unit_and_no_drive() {
    let Some(mut bench) = Bench::new("memory_has_a_unit_and_no_drive") else {
        return;
    };
    let point = bench.mount(&["-t", "tmpfs", "none"], "t").unwrap();
    let location = locate(&point);
    assert!(location.drives.is_empty());
    let (major, minor) = location.mount.device;
    assert_eq!(location.name(), format!("tmpfs:{major}:{minor}"));
    assert_eq!(location.mount.point, point);
}
