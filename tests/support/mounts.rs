//! File systems made for one test, gone with it however it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Scratch, tool};

/// A kind of file system on a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fs {
    /// ext4.
    Ext4,
    /// XFS; at least 300 MiB.
    Xfs,
    /// btrfs; at least 110 MiB.
    Btrfs,
}

impl Fs {
    /// Returns its name as mount(8) knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn make(self, device: &str) {
        match self {
            // Inodes of 256 bytes hold nanoseconds and years before 1970.
            Self::Ext4 => tool(
                "mkfs.ext4",
                &["-q", "-F", "-b", "4096", "-I", "256", device],
            ),
            Self::Xfs => tool("mkfs.xfs", &["-q", "-f", "-K", device]),
            Self::Btrfs => tool("mkfs.btrfs", &["-q", "-f", "-K", device]),
        };
    }
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    point: PathBuf,
    /// The image behind it, and its loop device, if it is on one.
    image: Option<(PathBuf, String)>,
    kind: &'static str,
}

impl Mounted {
    /// Makes an image of `mib` MiB with a file system and mounts it as `name` in the scratch.
    pub(crate) fn image(scratch: &Scratch, name: &str, fs: Fs, mib: u64) -> Self {
        let image = scratch.join(format!("{name}.img"));
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        Self::make(&scratch.join(name), &image, fs, "noatime")
    }

    /// Makes a file system on `file` and mounts it at `point`.
    pub(crate) fn make(point: &Path, file: &Path, fs: Fs, options: &str) -> Self {
        let device = Attached::new(file);
        fs.make(&device.0);
        Self::attached(point, file, &device, fs, options).unwrap()
    }

    /// Mounts what an image holds, which may have been taken from a file system in use. Fails if
    /// the kernel will not have it.
    pub(crate) fn open(point: &Path, file: &Path, fs: Fs) -> Result<Self, String> {
        let options = match fs {
            // The original may be mounted as well.
            Fs::Xfs => "noatime,nouuid",
            Fs::Ext4 | Fs::Btrfs => "noatime",
        };
        Self::attached(point, file, &Attached::new(file), fs, options)
    }

    /// Mounts an image that is there already as `name` in the scratch.
    pub(crate) fn again(scratch: &Scratch, name: &str, fs: Fs, image: &Path) -> Self {
        Self::open(&scratch.join(name), image, fs).unwrap()
    }

    /// Unmounts it, as [`again`](Self::again) mounts its image, and by another loop device.
    pub(crate) fn moved(self, scratch: &Scratch, name: &str, fs: Fs) -> Self {
        let image = self.image_path().to_owned();
        // Attached while the other is, so the device is another one.
        let device = Attached::new(&image);
        drop(self);
        Self::attached(&scratch.join(name), &image, &device, fs, "noatime").unwrap()
    }

    fn attached(
        point: &Path,
        file: &Path,
        device: &Attached,
        fs: Fs,
        options: &str,
    ) -> Result<Self, String> {
        std::fs::create_dir_all(point).unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", fs.name(), "-o", options, &device.0])
            .arg(point)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command:?}: {told}"));
        }
        // Once mounted, detaching only marks the device: it goes with the mount.
        Ok(Self {
            point: point.to_owned(),
            image: Some((file.to_owned(), device.0.clone())),
            kind: fs.name(),
        })
    }

    /// Mounts a tmpfs of at most `mib` MiB.
    pub(crate) fn tmpfs(scratch: &Scratch, name: &str, mib: u64) -> Self {
        Self::mount(
            scratch,
            name,
            "tmpfs",
            "tmpfs",
            &format!("size={mib}m,nr_inodes=0"),
        )
    }

    /// Mounts an overlay of a new empty layer over `lower`; both layers are in `layers`.
    pub(crate) fn overlay(scratch: &Scratch, name: &str, lower: &Path, layers: &Path) -> Self {
        let [upper, work] = ["upper", "work"].map(|layer| layers.join(layer));
        for dir in [&upper, &work] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        Self::mount(scratch, name, "overlay", "overlay", &options)
    }

    fn mount(scratch: &Scratch, name: &str, kind: &'static str, what: &str, options: &str) -> Self {
        let point = scratch.dir(name);
        let args = ["-t", kind, "-o", options, what].map(AsRef::as_ref);
        tool("mount", &[args.as_slice(), &[point.as_os_str()]].concat());
        Self {
            point,
            image: None,
            kind,
        }
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Returns the path of something on it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// Makes a directory on it.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Returns its loop device.
    pub(crate) fn device(&self) -> &str {
        &self.image.as_ref().unwrap().1
    }

    /// Returns its image.
    pub(crate) fn image_path(&self) -> &Path {
        &self.image.as_ref().unwrap().0
    }

    /// Cuts the power as far as the file system can tell: what it has not written yet is lost. Then
    /// mounts it again. For ext4 and XFS.
    pub(crate) fn cut_power(&self) {
        let point = self.point.as_os_str();
        tool(
            "xfs_io",
            &["-x".as_ref(), "-c".as_ref(), "shutdown".as_ref(), point],
        );
        tool("umount", &[point]);
        let (image, _) = self.image.as_ref().unwrap();
        let args = ["-t", self.kind, "-o", "loop,noatime"].map(AsRef::as_ref);
        tool(
            "mount",
            &[args.as_slice(), &[image.as_os_str(), point]].concat(),
        );
    }

    /// Returns bytes free on it.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.point).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.point);
    }
}

/// Unmounts, waiting a while for the last user; then it goes once nobody uses it any more.
pub(crate) fn unmount(point: &Path) {
    // A process that another test is just starting may hold our descriptors for a moment.
    for _ in 0..40 {
        if quietly("umount", &[point]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    quietly("umount", &[Path::new("-l"), point]);
}

/// A loop device; detached when dropped, or when it is no longer in use.
struct Attached(String);

impl Attached {
    fn new(file: &Path) -> Self {
        let args = ["--find".as_ref(), "--show".as_ref(), file.as_os_str()];
        let shown = tool("losetup", &args);
        Self(String::from_utf8(shown).unwrap().trim().to_owned())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        quietly("losetup", &["-d", &self.0]);
    }
}

/// Runs a tool; whether it succeeded.
pub(crate) fn quietly<S: AsRef<std::ffi::OsStr>>(name: &str, args: &[S]) -> bool {
    let mut command = Command::new(name);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
