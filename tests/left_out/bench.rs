//! Two drives, one of which is left out, and an image of a drive.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use crate::drive::Drive;
use crate::support::lab::Lab;
use crate::support::mounts::Fs;
use crate::support::program::{Ran, contents, report, run};
use crate::support::{Scratch, tree};

/// A drive that is well, with the folder `a`, and one that is not, with the folder `b`.
pub(crate) struct Two {
    // In this order they go.
    pub(crate) sick: Drive,
    pub(crate) well: Drive,
    pub(crate) lab: Lab,
    pub(crate) scratch: Scratch,
}

impl Two {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        let make = |name: &str| {
            let mut drive = Drive::new(&lab.join(name), Fs::Ext4, 72);
            let folder = drive.join(name);
            std::fs::create_dir(&folder).unwrap();
            tree::paint(&folder.join(format!("{name}.mov")), 1, 300_000);
            drive.remount();
            drive
        };
        let (well, sick) = (make("a"), make("b"));
        let scratch = Scratch::new();
        Self {
            sick,
            well,
            lab,
            scratch,
        }
    }

    pub(crate) fn a(&self) -> PathBuf {
        self.well.join("a")
    }

    /// The contents of the sick drive.
    pub(crate) fn b(&self) -> std::ffi::OsString {
        contents(self.sick.path())
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Nothing of the sick drive is in memory, and nothing is given.
    pub(crate) fn die(&mut self) {
        self.sick.remount();
        self.sick.die();
    }

    pub(crate) fn copy(&self, code: i32) -> Ran {
        with(&[&"copy", &self.a(), &self.b(), &self.target()], code)
    }

    pub(crate) fn resume(&self, code: i32) -> Ran {
        with(&[&"resume", &self.target()], code)
    }

    /// Whether the job has an end.
    pub(crate) fn is_finished(&self) -> bool {
        std::fs::symlink_metadata(self.target().join(".inhaul/current")).is_err()
    }

    /// Leaves no UUID of what was left out, as of FAT, of which the kernel tells none.
    pub(crate) fn forget_uuid(&self) {
        let job = self.target().join(".inhaul/current/job.json");
        let mut recipe: Value = serde_json::from_slice(&std::fs::read(&job).unwrap()).unwrap();
        recipe["left_out"][0]["on"]["uuid"] = Value::Null;
        std::fs::write(&job, recipe.to_string()).unwrap();
    }

    pub(crate) fn has_b(&self) -> bool {
        self.target().join("b").exists()
    }

    /// What the last report says of the one drive that was read: its sources, and whether it is safe.
    pub(crate) fn verdict(&self) -> (Value, Value) {
        let report = report(&self.target());
        let lanes = report["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), 1, "{lanes:?}");
        (
            lanes[0]["sources"][0].clone(),
            lanes[0]["safe_to_release"].clone(),
        )
    }
}

/// Runs a command that does not wait for drives for long.
pub(crate) fn with(args: &[&dyn AsRef<OsStr>], code: i32) -> Ran {
    let limit: [&dyn AsRef<OsStr>; 2] = [&"--grace=0", &"--stall-timeout=2s"];
    run(&[&args[..1], &limit, &args[1..]].concat()).expect(code)
}

/// An image of an unmounted drive in another drive, below a folder of this name.
pub(crate) fn image_of(drive: &mut Drive, lab: &Lab, dir: &str, name: &str) -> Drive {
    drive.unmount();
    let image = lab.join(format!("{name}.img"));
    std::fs::copy(lab.join(dir).join("fuse/disk"), &image).unwrap();
    drive.mount();
    Drive::with_image(&lab.join(name), Fs::Ext4, &image)
}
