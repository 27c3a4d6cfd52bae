//! The bench of the contract and engine tests: file systems made for one test, painted bytes, and
//! judges that share no code with what they judge.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

pub(crate) mod copying;
pub(crate) mod looking;
pub(crate) mod target;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Says aloud that a test, or a part of it, does not run here.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
pub(crate) fn skip(why: impl std::fmt::Display) {
    eprintln!("SKIPPED: {why}");
}

/// Returns whether we are root; else says that the test is skipped.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Runs a command to its end; `Err` holds what it said.
pub(crate) fn tool(words: &[&str]) -> Result<String, String> {
    let (program, arguments) = words.split_first().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {said}", words.join(" ")))
}

/// A directory that goes away with the test: for root on a tmpfs of its own, so that a sync waits
/// for nobody else's files.
#[derive(Debug)]
pub(crate) struct Scratch {
    _mounted: Option<Cover>,
    dir: TempDir,
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) fn scratch() -> Scratch {
    let dir = plain_scratch();
    let root = rustix::process::geteuid().is_root();
    let mounted = root.then(|| {
        let cover = Cover::new(dir.path());
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        cover
    });
    Scratch {
        _mounted: mounted,
        dir,
    }
}

fn plain_scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("inhaul-ports-").tempdir().unwrap()
}

/// The file systems a target may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fs {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
    Overlay,
}

/// All of them.
pub(crate) const EVERY_FS: [Fs; 5] = [Fs::Tmpfs, Fs::Ext4, Fs::Xfs, Fs::Btrfs, Fs::Overlay];

impl Fs {
    /// Returns the command that makes it, and the least MiB it takes.
    fn mkfs(self) -> (&'static [&'static str], u64) {
        match self {
            Self::Ext4 => (&["mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"], 48),
            Self::Xfs => (&["mkfs.xfs", "-q"], 320),
            Self::Btrfs => (&["mkfs.btrfs", "-q"], 160),
            Self::Tmpfs | Self::Overlay => (&[], 0),
        }
    }

    /// Returns whether large files are preallocated and written with O_DIRECT here.
    pub(crate) fn is_direct(self) -> bool {
        matches!(self, Self::Ext4 | Self::Xfs)
    }
}

/// A mounted file system, unmounted when dropped. Images lie on a tmpfs of their own.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) fs: Fs,
    pub(crate) path: PathBuf,
    pub(crate) image: PathBuf,
    mounts: Vec<PathBuf>,
    scratch: TempDir,
}

impl Place {
    /// Mounts one of at least `mib` MiB, or says aloud why not.
    pub(crate) fn new(fs: Fs, mib: u64) -> Option<Self> {
        let mib = mib.max(fs.mkfs().1);
        Self::with_medium(fs, mib, mib + 16)
    }

    /// Mounts one whose medium is smaller than it believes: writes fail when they reach it.
    pub(crate) fn thin(fs: Fs) -> Option<Self> {
        // mkfs.xfs fills its log with zeros: 64 MiB on a file system of this size.
        let log = if matches!(fs, Fs::Xfs) { 66 } else { 0 };
        Self::with_medium(fs, 320, log + 16)
    }

    fn with_medium(fs: Fs, mib: u64, medium_mib: u64) -> Option<Self> {
        if !root() {
            return None;
        }
        let scratch = plain_scratch();
        let base = scratch.path().to_owned();
        let mut place = Self {
            fs,
            path: base.join("here"),
            image: base.join("medium/image"),
            mounts: Vec::new(),
            scratch,
        };
        match place.make(mib, medium_mib) {
            Ok(()) => Some(place),
            Err(why) => {
                skip(why);
                None
            }
        }
    }

    fn make(&mut self, mib: u64, medium_mib: u64) -> Result<(), String> {
        let path = self.path.clone();
        std::fs::create_dir(&path).unwrap();
        if self.fs == Fs::Tmpfs {
            return self.mount(
                &path,
                &["-t", "tmpfs", "-o", &format!("noatime,size={mib}m"), "none"],
            );
        }
        let medium = self.scratch.path().join("medium");
        std::fs::create_dir(&medium).unwrap();
        let size = format!("noatime,size={medium_mib}m");
        self.mount(&medium, &["-t", "tmpfs", "-o", &size, "none"])?;
        if self.fs == Fs::Overlay {
            let layers = ["lower", "upper", "work"].map(|name| medium.join(name));
            for layer in &layers {
                std::fs::create_dir(layer).unwrap();
            }
            let [lower, upper, work] = layers.map(|layer| layer.display().to_string());
            let options = format!("noatime,lowerdir={lower},upperdir={upper},workdir={work}");
            return self.mount(&path, &["-t", "overlay", "-o", &options, "none"]);
        }
        let image = self.image.clone();
        std::fs::File::create(&image)
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        let image = image.to_str().unwrap();
        tool(&[self.fs.mkfs().0, &[image]].concat())?;
        self.mount(&path, &["-o", "loop,noatime", image])
    }

    fn mount(&mut self, on: &Path, how: &[&str]) -> Result<(), String> {
        tool(&[&["mount"], how, &[on.to_str().unwrap()]].concat())?;
        self.mounts.push(on.to_owned());
        Ok(())
    }

    /// Returns what a power cut now would leave: the medium as it is, mounted anew.
    ///
    /// Only what was written to the drive is in it; what is in the page cache of the file system
    /// is not. The place itself is still mounted.
    pub(crate) fn after_power_cut(&self) -> Self {
        let scratch = plain_scratch();
        let copy = scratch.path().join("image");
        let sparse = ["cp", "--sparse=always"];
        let paths = [self.image.to_str().unwrap(), copy.to_str().unwrap()];
        tool(&[&sparse[..], &paths].concat()).unwrap();
        let path = scratch.path().join("here");
        std::fs::create_dir(&path).unwrap();
        let options = match self.fs {
            // The same file system is mounted already.
            Fs::Xfs => "loop,nouuid",
            _ => "loop",
        };
        let mut cut = Self {
            fs: self.fs,
            path: path.clone(),
            image: copy.clone(),
            mounts: Vec::new(),
            scratch,
        };
        cut.mount(&path, &["-o", options, copy.to_str().unwrap()])
            .unwrap();
        cut
    }

    /// Makes a directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for mount in self.mounts.drain(..).rev() {
            unmount(&mount);
        }
    }
}

/// A mount over a directory, gone when dropped.
#[derive(Debug)]
pub(crate) struct Cover(PathBuf);

impl Cover {
    /// Mounts a tmpfs.
    pub(crate) fn new(on: &Path) -> Self {
        Self::mount(on, &["-t", "tmpfs", "-o", "noatime,size=640m", "none"])
    }

    /// Binds another directory.
    pub(crate) fn bind(from: &Path, on: &Path) -> Self {
        Self::mount(on, &["--bind", from.to_str().unwrap()])
    }

    fn mount(on: &Path, how: &[&str]) -> Self {
        tool(&[&["mount"], how, &[on.to_str().unwrap()]].concat()).unwrap();
        Self(on.to_owned())
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Unmounts, with patience: a program that another test is starting holds our descriptors for a
/// moment.
fn unmount(path: &Path) {
    let path = path.to_str().unwrap();
    for _ in 0..100 {
        match tool(&["umount", path]) {
            Err(why) if why.contains("busy") => std::thread::sleep(Duration::from_millis(30)),
            _ => return,
        }
    }
    let lazily = tool(&["umount", "--lazy", path]);
    // A second panic would end the process with other tests' mounts in place.
    assert!(std::thread::panicking(), "{path} stayed busy ({lazily:?})");
}

/// Numbers that look random and are the same each time (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// Returns one of these.
    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        let index = self.below(from.len() as u64);
        &from[usize::try_from(index).unwrap()]
    }
}

/// Returns bytes that no other seed and no other place in the file has.
pub(crate) fn painted(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed.wrapping_mul(0x1000_0001));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
