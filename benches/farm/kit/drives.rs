//! Simulated drives: loop devices over image files, each with its own file system and speed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data::Size;
use super::room::{Room, detach};
use super::spindle::{Arm, Spindle};
use super::throttle::Throttle;
use super::{Context as _, Result, shell};

/// A file system a drive can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fs {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// btrfs
    Btrfs,
}

impl Fs {
    /// The program that makes one.
    pub(crate) fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    fn make(self, device: &str) -> Result<()> {
        let quiet: &[&str] = match self {
            Self::Ext4 => &["-q", "-F", "-m0"],
            Self::Xfs | Self::Btrfs => &["-q", "-f"],
        };
        let arguments: Vec<&str> = quiet.iter().copied().chain([device]).collect();
        shell::run(self.maker(), &arguments).map(drop)
    }

    fn options(self) -> &'static str {
        match self {
            // The kernel's own late preparation of inode tables would run into the timed part.
            Self::Ext4 => "noinit_itable",
            Self::Xfs | Self::Btrfs => "defaults",
        }
    }

    /// Room beside the data: metadata, log, and what the file system insists on (XFS: 300 MiB).
    fn image_length(self, data: u64) -> u64 {
        match self {
            Self::Ext4 => (data + data / 8 + (48 << 20)).next_multiple_of(1 << 20),
            Self::Xfs => (data + data / 8 + (96 << 20)).max(320 << 20),
            Self::Btrfs => data + data / 4 + (320 << 20),
        }
    }
}

/// A mounted drive; unmounted and detached with this value.
#[derive(Debug)]
pub(crate) struct Drive {
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// Its block device.
    pub(crate) device: String,
    /// Bytes a second it reads; zero for no limit.
    pub(crate) rate: u64,
    /// What was put on it.
    pub(crate) holds: Size,
    // Dropped after the mount is gone: fields drop in order, the mount in Drop.
    spindle: Option<Spindle>,
}

impl Drive {
    /// The least seconds it takes to read what it holds.
    pub(crate) fn limit(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "bytes of one drive")]
        match self.rate {
            0 => 0.0,
            rate => self.holds.bytes as f64 / rate as f64,
        }
    }

    /// The arm of a drive that has one.
    pub(crate) fn arm(&self) -> Option<&Arc<Arm>> {
        self.spindle.as_ref().map(Spindle::arm)
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if let Some(arm) = self.arm() {
            arm.free();
        }
        detach(&self.path);
        drop(shell::run("losetup", &["-d", &self.device]));
    }
}

/// All drives of a scenario, and the group in which they have their speeds.
#[derive(Debug)]
pub(crate) struct Farm {
    /// The drives.
    pub(crate) drives: Vec<Drive>,
    /// The group.
    pub(crate) throttle: Throttle,
    /// What they lie in; dropped last.
    pub(crate) room: Room,
}

impl Farm {
    /// A farm without drives.
    pub(crate) fn new(room: Room) -> Result<Self> {
        Ok(Self {
            drives: Vec::new(),
            throttle: Throttle::new()?,
            room,
        })
    }

    /// Bytes the images of so many drives with so much data each may take.
    pub(crate) fn room_for(fs: Fs, drives: u64, data: u64) -> u64 {
        // Images are sparse; what a fresh file system writes is small beside the data.
        let own = match fs {
            Fs::Ext4 => 4 << 20,
            Fs::Xfs => 20 << 20,
            Fs::Btrfs => 16 << 20,
        };
        drives * (data + data / 50 + own)
    }

    /// The parent directory of all drives.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.room.base().join("drives")
    }

    /// Adds a drive for `data` bytes that reads `rate` bytes a second, and fills it.
    pub(crate) fn add(
        &mut self,
        fs: Fs,
        rate: u64,
        data: u64,
        fill: impl FnOnce(&Path) -> Result<Size>,
    ) -> Result<()> {
        let image = self.image(fs.image_length(data))?;
        let at = self.drives.len();
        let drive = self.attach(&image, fs, at, rate, None)?;
        self.drives.push(drive);
        self.fill_last(fill)?;
        if rate > 0 {
            let device = &self.drives.last().context_none("the new drive")?.device;
            self.throttle.limit(device, rate)?;
        }
        Ok(())
    }

    /// Adds a drive with an arm; the arm moves freely until told otherwise.
    pub(crate) fn add_spindle(
        &mut self,
        length: u64,
        rate: u64,
        fill: impl FnOnce(&Path) -> Result<Size>,
    ) -> Result<()> {
        let image = self.image(length)?;
        let at = self.drives.len();
        let mount = self.room.disk(&format!("spindle-{at:02}"))?;
        let spindle = Spindle::mount(&image, &mount)?;
        let drive = self.attach(&spindle.disk(), Fs::Ext4, at, rate, Some(spindle))?;
        self.drives.push(drive);
        self.fill_last(fill)
    }

    fn image(&self, length: u64) -> Result<PathBuf> {
        let at = self.drives.len();
        let path = self.room.images().join(format!("{at:02}.img"));
        let file = File::create_new(&path).context("an image")?;
        file.set_len(length).context("an image")?;
        Ok(path)
    }

    fn attach(
        &self,
        image: &Path,
        fs: Fs,
        at: usize,
        rate: u64,
        spindle: Option<Spindle>,
    ) -> Result<Drive> {
        let image = image.to_string_lossy();
        let attach = ["--find", "--show", "--direct-io=on", &image];
        let device = shell::run("losetup", &attach)?;
        let path = self.shelf().join(format!("drive{at:02}"));
        std::fs::create_dir_all(&path).context("a mount point")?;
        let mounted = fs.make(&device).and_then(|()| {
            let target = path.to_string_lossy();
            shell::run("mount", &["-o", fs.options(), &device, &target])
        });
        if let Err(error) = mounted {
            drop(shell::run("losetup", &["-d", &device]));
            return Err(error);
        }
        Ok(Drive {
            path,
            device,
            rate,
            holds: Size::default(),
            spindle,
        })
    }

    fn fill_last(&mut self, fill: impl FnOnce(&Path) -> Result<Size>) -> Result<()> {
        let drive = self.drives.last_mut().context_none("the new drive")?;
        drive.holds = fill(&drive.path)?;
        shell::run("sync", &["-f", &drive.path.to_string_lossy()]).map(drop)
    }

    /// All mount points.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.drives.iter().map(|drive| drive.path.clone()).collect()
    }

    /// The slowest drive's own time.
    pub(crate) fn limit(&self) -> f64 {
        self.drives.iter().map(Drive::limit).fold(0.0, f64::max)
    }

    /// All that is on the drives.
    pub(crate) fn holds(&self) -> Size {
        self.drives
            .iter()
            .fold(Size::default(), |sum, drive| sum + drive.holds)
    }
}

/// `context` for what may be missing.
trait ContextNone<T> {
    fn context_none(self, what: &str) -> Result<T>;
}

impl<T> ContextNone<T> for Option<T> {
    fn context_none(self, what: &str) -> Result<T> {
        self.ok_or_else(|| format!("{what}: missing"))
    }
}
