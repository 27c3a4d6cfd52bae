//! What is measured: a block device, or the files of a directory, opened for reading and nothing
//! else.

use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};

use super::cached::{self, Probe};
use super::cursor::{Cursor, Extent};
use super::files::{Chosen, LOOK_MAX, Small, choose};
use super::holds::FileSystem;
use super::report::{Doubt, DriveFacts, Holds, Subject};
use super::sample::Ties;
use super::silence::ask;
use super::within::Spot;
use crate::buffer::ALIGN;
use crate::error::{Error, ErrorKind, Side};
use crate::topology::{Attached, Drive, Location, Shelf, Topology};

/// Caches in drives and controllers hold no more than this, as far as we know.
pub(crate) const CACHES_MAX: u64 = 1 << 30;

/// A subject, ready to be read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) report: Subject,
    pub(crate) cursor: Cursor,
    /// Whether it is a whole device that spins, so that places on it differ.
    pub(crate) has_zones: bool,
    /// Which of the PATHs it is, from 0; some may not be measured.
    pub(crate) named: usize,
    /// Whether it is a whole device that reads zeros as it reads all else.
    pub(super) reads_zeros: bool,
    /// Drives or units it is on.
    pub(crate) keys: Vec<String>,
    pub(crate) small: Vec<Small>,
    /// What small files are below; a device has none.
    pub(crate) root: Option<Arc<OwnedFd>>,
    /// Where it is; of what could not be opened nobody knows.
    pub(crate) spot: Option<Spot>,
    /// Of a directory or file.
    pub(crate) file_system: Option<FileSystem>,
    /// The same files, buffered: where O_DIRECT does not settle that the medium answers, these are
    /// dropped from the page cache before each sample.
    probes: Arc<[Probe]>,
    ties: Ties,
    /// The report of a drive that was left: nothing of it is measured any more.
    left: Option<Subject>,
}

/// Opens PATH. What can be measured badly is opened with a warning; what cannot be measured at all
/// is refused, and so is a directory that there is too little in to read, if it `must_read`.
///
/// # Errors
/// `Refused` or `Usage` when a figure would say nothing; else that of opening it.
pub(crate) fn open(
    path: &Path,
    topology: &Topology,
    shelf: &Shelf,
    files_max: usize,
    must_read: bool,
    ties: &Ties,
) -> Result<Opened, Error> {
    let stat = rustix::fs::stat(path).map_err(|errno| Error::source(path, "look at it", errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => {
            let device = (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            );
            open_device(path, device, topology, shelf, ties)
        }
        FileType::Directory | FileType::RegularFile => {
            open_files(path, topology, shelf, files_max, must_read, ties)
        }
        _ => Err(Error::new(
            ErrorKind::Usage,
            Side::Source,
            path,
            "neither a block device nor a directory nor a file: there is nothing to measure",
        )),
    }
}

fn open_device(
    path: &Path,
    device: (u32, u32),
    topology: &Topology,
    shelf: &Shelf,
    ties: &Ties,
) -> Result<Opened, Error> {
    let drives = &topology.drives_of(device)[..];
    let cannot = |errno| Error::source(path, "open it for reading", errno);
    // Never for writing: nothing this program does can change what is on a device it measures.
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(cannot)?;
    let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(cannot)?;
    let len = size - size % ALIGN as u64;
    if len == 0 {
        return Err(Error::new(
            ErrorKind::Refused,
            Side::Source,
            path,
            "it is empty",
        ));
    }
    let extent = Extent {
        file: Arc::new(file),
        start: 0,
        len,
        path: Arc::new(path.to_owned()),
    };
    let mut report = subject(path, "device", drives);
    "direct".clone_into(&mut report.access);
    report.span_bytes = len;
    report.holds = on_device(device, drives, topology, shelf);
    warn_of_drives(&mut report, drives, topology);
    Ok(Opened {
        // The beginning and the end of a partition are no edges of a platter.
        has_zones: report.is_whole_drive() && drives.iter().all(|d| d.rotational == Some(true)),
        reads_zeros: report.is_whole_drive() && drives.iter().all(|d| topology.reads_zeros(d)),
        keys: drives.iter().map(|drive| drive.name.clone()).collect(),
        cursor: Cursor::new(Arc::from([extent]), true),
        ties: ties.clone(),
        spot: Some(Spot::Device(device)),
        ..Opened::of(report)
    })
}

/// What is in use in the file systems on a block device: on all of a drive, or else in its own, for a
/// partition holds nothing of the one beside it. Nothing is known of those not mounted.
fn on_device(
    device: (u32, u32),
    drives: &[Drive],
    topology: &Topology,
    shelf: &Shelf,
) -> Option<Holds> {
    let beneath = |attached: &&Attached| drives.iter().any(|d| d.name == attached.drive.name);
    let used = shelf.drives.iter().filter(beneath).filter_map(|attached| {
        let is_all = attached.drive.device == device;
        attached.used_bytes_of(|mount| is_all || topology.is_on(mount, device))
    });
    let bytes = used.reduce(u64::saturating_add);
    bytes.map(|bytes| Holds {
        bytes,
        ..Holds::default()
    })
}

fn open_files(
    path: &Path,
    topology: &Topology,
    shelf: &Shelf,
    files_max: usize,
    must_read: bool,
    ties: &Ties,
) -> Result<Opened, Error> {
    let kind = if path.is_dir() { "directory" } else { "file" };
    // Nothing is ever written to a file.
    let must_read = must_read || kind == "file";
    let chosen: Chosen = choose(path, topology, files_max, must_read, LOOK_MAX, ties)?;
    let location = &chosen.location;
    let mut report = subject(path, kind, &location.drives);
    report.name = location.name();
    report.fs = Some(location.mount.fs.clone());
    report.span_bytes = chosen.extents.iter().map(|extent| extent.len).sum();
    report.holds = Some(chosen.holds);
    let access = if chosen.settled { "direct" } else { "dropped" };
    access.clone_into(&mut report.access);
    report.warnings.extend(chosen.warnings);
    warn_of_drives(&mut report, &location.drives, topology);
    Ok(Opened {
        has_zones: false,
        keys: location.keys().collect(),
        cursor: Cursor::new(Arc::from(chosen.extents), true),
        small: chosen.small,
        root: chosen.root,
        spot: Some(Spot::Files {
            mount: location.mount.clone(),
            real: std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        }),
        file_system: Some(file_system(location, shelf)),
        probes: Arc::from(chosen.probes),
        ties: ties.clone(),
        ..Opened::of(report)
    })
}

fn file_system(location: &Location, shelf: &Shelf) -> FileSystem {
    let device = location.mount.device;
    let uses = shelf.drives.iter().flat_map(|attached| &attached.mounts);
    let mut same = uses.filter(|used| used.mount.device == device);
    let usage = same.find_map(|used| used.usage);
    FileSystem {
        device,
        used: usage.map(|usage| usage.used),
    }
}

fn subject(path: &Path, kind: &str, drives: &[Drive]) -> Subject {
    use std::os::unix::ffi::OsStrExt;
    let names: Vec<&str> = drives.iter().map(|drive| drive.name.as_str()).collect();
    let (text, path_hex) = crate::engine::shown(path.as_os_str().as_bytes());
    Subject {
        name: if names.is_empty() {
            text.clone()
        } else {
            names.join("+")
        },
        path: text,
        path_hex,
        kind: kind.to_owned(),
        drives: drives.iter().map(facts).collect(),
        ..Subject::default()
    }
}

/// Returns what a report says of a drive.
pub(crate) fn facts(drive: &Drive) -> DriveFacts {
    DriveFacts {
        name: drive.name.clone(),
        model: drive.model.clone(),
        serial: drive.serial.clone(),
        wwn: drive.wwn.clone(),
        transport: drive.transport.word().to_owned(),
        rotational: drive.rotational,
        bytes: drive.size,
    }
}

/// Says what makes figures of these drives doubtful, whatever is read of them.
fn warn_of_drives(report: &mut Subject, drives: &[Drive], topology: &Topology) {
    for its in drives {
        // Whoever is warned of has its name beside the warning, if it is one drive.
        let drive = (drives.len() > 1).then(|| its.name.clone());
        if its.is_memory() {
            let drive = drive.clone();
            report.doubt(Doubt::MemoryDrive { drive });
        }
        if its.is_zfs_volume() {
            "unproved".clone_into(&mut report.access);
            let drive = drive.clone();
            report.doubt(Doubt::ZfsVolume { drive });
        }
        if its.backing.is_some() && !topology.image_is_direct(its) {
            let drive = drive.clone();
            report.doubt(Doubt::ImageCached { drive });
        }
        if its.backing.as_deref().is_some_and(is_sparse) {
            report.doubt(Doubt::ImageHoles { drive });
        }
    }
    if (1..CACHES_MAX).contains(&report.span_bytes) {
        let bytes = report.span_bytes;
        report.doubt(Doubt::SmallSpan { bytes });
    }
}

fn is_sparse(image: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    image
        .metadata()
        .is_ok_and(|meta| meta.blocks().saturating_mul(512) < meta.size())
}

impl Opened {
    /// Returns a subject of which nothing is open.
    pub(super) fn of(report: Subject) -> Self {
        Self {
            report,
            cursor: Cursor::new(Arc::from([]), false),
            has_zones: false,
            named: 0,
            reads_zeros: false,
            keys: Vec::new(),
            small: Vec::new(),
            root: None,
            spot: None,
            file_system: None,
            probes: Arc::from([]),
            ties: Ties::default(),
            left: None,
        }
    }

    /// Returns a PATH that could not be opened: its figures are missing, and those of the others are
    /// not.
    pub(crate) fn failed(path: &Path, error: &Error) -> Self {
        let mut report = subject(path, "", &[]);
        report.error = Some(error.to_string());
        Self::of(report)
    }

    /// Returns it as the PATH of this number.
    pub(crate) fn named(self, named: usize) -> Self {
        Self { named, ..self }
    }

    /// Leaves its drive, which does not answer: it takes part in nothing more, and what was found of it
    /// stays. Its files stay open, for closing one may wait for the drive as well.
    pub(crate) fn leave(&mut self) {
        if self.left.is_some() {
            return;
        }
        let mut empty = Self::of(Subject {
            name: self.report.name.clone(),
            path: self.report.path.clone(),
            path_hex: self.report.path_hex.clone(),
            kind: self.report.kind.clone(),
            ..Subject::default()
        });
        empty.left = Some(std::mem::take(&mut self.report));
        empty.keys = std::mem::take(&mut self.keys);
        let _kept = ManuallyDrop::new(std::mem::replace(self, empty));
    }

    /// Returns what was found of it by now.
    pub(crate) fn found(&self) -> &Subject {
        self.left.as_ref().unwrap_or(&self.report)
    }

    /// Returns what was found of it.
    pub(crate) fn into_report(self) -> Subject {
        self.left.unwrap_or(self.report)
    }

    /// Makes sure that the next sample is not answered from the page cache. Returns what is in doubt
    /// if that is not known.
    ///
    /// # Errors
    /// `SourceStalled` when its drive does not answer; `Stopped`.
    pub(crate) fn drop_cached(&self) -> Result<Option<Doubt>, Error> {
        if self.probes.is_empty() {
            return Ok(None);
        }
        let probes = Arc::clone(&self.probes);
        let call = move |ties: &Ties| cached::drop_all(&probes, ties).doubt();
        ask(&self.path(), self.ties.stall, &self.ties, call)
    }

    /// Returns the path for messages.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.report.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Usage;
    use crate::topology::recorded::{Machine, VIRTUAL, with_sata_disks};

    #[test]
    fn what_is_memory_or_is_read_through_it_is_doubted() {
        let machine = Machine::new();
        for (name, number) in [
            ("ram0", "1:0"),
            ("zram0", "252:0"),
            ("zd0", "230:0"),
            ("loop7", "7:7"),
        ] {
            machine.block(&format!("{VIRTUAL}/{name}"), number);
        }
        let on = |name: &str| format!("{VIRTUAL}/{name}");
        machine.stacked("dm-0", "253:0", "LVM-x", &[&on("zd0")]);
        machine.stacked("md0", "9:0", "", &[&on("zram0"), &on("loop7")]);
        let table = "30 1 230:0 / /v rw - ext4 /dev/zd0 rw\n31 1 1:0 / /r rw - xfs /dev/ram0 rw\n";
        let topology = machine.topology(table);
        let said = |drives: &[Drive]| {
            let mut report = Subject {
                access: "direct".to_owned(),
                span_bytes: CACHES_MAX,
                ..Subject::default()
            };
            warn_of_drives(&mut report, drives, &topology);
            (report.access, report.doubts)
        };
        let memory = |drive: Option<&str>| {
            let drive = drive.map(str::to_owned);
            ("direct".to_owned(), vec![Doubt::MemoryDrive { drive }])
        };
        let volume = || {
            let doubt = Doubt::ZfsVolume { drive: None };
            ("unproved".to_owned(), vec![doubt])
        };
        let of = |device| said(&topology.drives_of(device));
        assert_eq!(of((1, 0)), memory(None));
        assert_eq!(of((252, 0)), memory(None));
        assert_eq!(of((9, 0)), memory(Some("zram0")), "an array with one");
        assert_eq!(of((230, 0)), volume());
        assert_eq!(of((253, 0)), volume(), "something on one");
        assert_eq!(of((7, 7)), ("direct".to_owned(), vec![]));
        // And the files on them.
        let files = |mount: usize| said(&topology.locate_mount(&topology.mounts()[mount]).drives);
        assert_eq!(files(0), volume());
        assert_eq!(files(1), memory(None));
    }

    #[test]
    fn a_disk_that_cannot_forget_reads_zeros_as_all_else() {
        use crate::topology::recorded::ATA;
        let reads = |spins: &str, most: Option<&str>, place: &str| {
            let machine = with_sata_disks();
            machine.block(&format!("{VIRTUAL}/loop7"), "7:7");
            machine.attr(place, "queue/rotational", spins);
            if let Some(most) = most {
                machine.attr(place, "queue/discard_max_bytes", most);
            }
            let topology = machine.topology("");
            let device = if place == ATA { (8, 0) } else { (7, 7) };
            topology.reads_zeros(&topology.drives_of(device)[0])
        };
        assert!(reads("1\n", Some("0\n"), ATA));
        assert!(!reads("0\n", Some("0\n"), ATA), "it does not spin");
        let trims = Some("2147450880\n");
        assert!(!reads("1\n", trims, ATA), "shingled, and discards");
        assert!(!reads("1\n", None, ATA), "nobody knows");
        let image = format!("{VIRTUAL}/loop7");
        assert!(!reads("1\n", Some("0\n"), &image), "no disk");
    }

    #[test]
    fn a_device_holds_what_is_mounted_from_it_and_no_overlay() {
        let machine = with_sata_disks();
        let topology = machine.topology(
            "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            31 30 0:50 / /c rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n\
            32 30 0:42 / /d rw - btrfs /dev/sda2 rw\n",
        );
        let mut shelf = topology.shelf();
        for (used, bytes) in shelf.drives[0].mounts.iter_mut().zip([7, 7, 100]) {
            used.usage = Some(Usage {
                used: bytes,
                ..Usage::default()
            });
        }
        let holds = |device| {
            let drives = topology.drives_of(device);
            on_device(device, &drives, &topology, &shelf).map(|holds| holds.bytes)
        };
        assert_eq!(holds((8, 0)), Some(107));
        assert_eq!(holds((8, 1)), Some(7));
        assert_eq!(holds((8, 2)), Some(100), "by its source");
        assert_eq!(holds((8, 16)), None);
    }
}
