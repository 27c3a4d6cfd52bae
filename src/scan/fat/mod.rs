//! The folders of a FAT file system, read from its drive itself.
//!
//! Linux leaves out what is in a block of a folder that it cannot read, and lists the rest as if it were
//! all. Here the same blocks are read once more, and it is told which of them cannot be. They come from
//! the page cache of the block device, as they do for the kernel's own listing: what is read before a
//! listing is there for it.
//!
//! What is read may be damaged or crafted: every number is checked, and nothing is followed twice.
//!
//! Source of the layout: Microsoft's FAT specification 1.03; of what the kernel does with it,
//! `fat_fill_super`, `fat_ent_read` and `__fat_readdir` of linux/fs/fat.

use std::collections::HashSet;

use rustix::io::Errno;

/// Most folders looked at: each is remembered.
const FOLDERS_MAX: usize = 1 << 20;
/// Most bytes of one folder: twice what the format allows (65,536 records).
const FOLDER_LEN_MAX: u64 = 4 << 20;
/// Most blocks told of that cannot be read. So few of them do not make a drive pass for one that is gone
/// (`FAILURES_MAX` of `engine::vitals`).
const FAULTS_MAX: usize = 8;
/// Bytes of a record in a folder.
const RECORD_LEN: usize = 32;

/// A block that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// The folder it is of, by short names; empty for the root.
    pub(super) folder: String,
    pub(super) errno: Errno,
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// All folders were looked at: the first faults, and whether any block of a folder could be read.
    Through(Vec<Fault>, bool),
    /// It was stopped.
    Stopped,
    /// This is no FAT file system that is understood, or there is too much of it.
    Untold,
}

/// Reads bytes of the drive from an offset on: all of them, or it fails.
pub(super) type Read<'r> = &'r mut dyn FnMut(u64, &mut [u8]) -> Result<(), Errno>;

/// Reads every block of every folder, as long as `goes_on` says so.
pub(super) fn look(read: Read<'_>, goes_on: &dyn Fn() -> bool) -> Looked {
    let mut boot = [0; 512];
    if let Err(errno) = read(0, &mut boot) {
        let fault = Fault {
            at: 0,
            folder: String::new(),
            errno,
        };
        return Looked::Through(vec![fault], false);
    }
    let Some(shape) = shape(&boot) else {
        return Looked::Untold;
    };
    let mut looking = Looking {
        read,
        shape,
        block: vec![0; usize::try_from(shape.sector).unwrap_or(512)],
        met: HashSet::new(),
        pending: Vec::new(),
        faults: Vec::new(),
        gave: false,
    };
    if !looking.root(goes_on) {
        return Looked::Stopped;
    }
    while let Some((cluster, folder)) = looking.pending.pop() {
        if !looking.folder(cluster, &folder, goes_on) {
            return Looked::Stopped;
        }
        if looking.met.len() > FOLDERS_MAX {
            return Looked::Untold;
        }
    }
    Looked::Through(looking.faults, looking.gave)
}

/// Where the root folder is.
#[derive(Debug, Clone, Copy)]
enum Root {
    /// In a chain of clusters, as any other.
    Chain(u32),
    /// In a place of its own: where it begins and ends, in bytes.
    Fixed(u64, u64),
}

/// Where things are; offsets and lengths in bytes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    sector: u64,
    cluster: u64,
    /// The first table.
    table: u64,
    /// Bits of an entry in it: 12, 16 or 32.
    bits: u32,
    root: Root,
    /// Cluster 2.
    data: u64,
    /// The first number that is no cluster any more.
    end: u64,
}

fn byte(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at).copied().unwrap_or(0).into()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    byte(bytes, at) | byte(bytes, at + 1) << 8
}

fn long(bytes: &[u8], at: usize) -> u64 {
    word(bytes, at) | word(bytes, at + 2) << 16
}

/// Returns the shape that a boot sector describes, if it is a sound one.
fn shape(boot: &[u8; 512]) -> Option<Shape> {
    let (sector, per_cluster) = (word(boot, 11), byte(boot, 13));
    let is_sound =
        sector.is_power_of_two() && (512..=4096).contains(&sector) && per_cluster.is_power_of_two();
    let (reserved, tables) = (word(boot, 14), byte(boot, 16));
    if !is_sound || reserved == 0 || tables == 0 {
        return None;
    }
    let has_fat32 = word(boot, 22) == 0;
    let table_sectors = if has_fat32 {
        long(boot, 36)
    } else {
        word(boot, 22)
    };
    let sectors = match word(boot, 19) {
        0 => long(boot, 32),
        few => few,
    };
    let root_at = reserved + tables * table_sectors;
    let root_sectors = (word(boot, 17) * RECORD_LEN as u64).div_ceil(sector);
    let data_at = root_at + root_sectors;
    let clusters = sectors.checked_sub(data_at)? / per_cluster;
    let bits = match clusters {
        _ if has_fat32 => 32,
        // MAX_FAT12 of linux/fs/fat/fat.h.
        0..=0xFF4 => 12,
        _ => 16,
    };
    let in_table = table_sectors * sector * 8 / u64::from(bits);
    let root = if has_fat32 {
        Root::Chain(u32::try_from(long(boot, 44)).ok()?)
    } else {
        Root::Fixed(root_at * sector, data_at * sector)
    };
    Some(Shape {
        sector,
        cluster: sector * per_cluster,
        table: reserved * sector,
        bits,
        root,
        data: data_at * sector,
        end: (clusters + 2).min(in_table),
    })
}

impl Shape {
    fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && u64::from(cluster) < self.end
    }
}

struct Looking<'r> {
    read: Read<'r>,
    shape: Shape,
    block: Vec<u8>,
    /// First clusters of folders.
    met: HashSet<u32>,
    pending: Vec<(u32, String)>,
    faults: Vec<Fault>,
    /// Whether any block of a folder could be read.
    gave: bool,
}

impl Looking<'_> {
    /// Looks at the root; returns whether to go on.
    fn root(&mut self, goes_on: &dyn Fn() -> bool) -> bool {
        match self.shape.root {
            Root::Chain(cluster) => {
                self.met.insert(cluster);
                self.folder(cluster, "", goes_on)
            }
            Root::Fixed(start, end) => {
                self.blocks(start, end, "");
                goes_on()
            }
        }
    }

    /// Looks at the folder that begins in a cluster; returns whether to go on.
    fn folder(&mut self, mut cluster: u32, folder: &str, goes_on: &dyn Fn() -> bool) -> bool {
        let mut left = FOLDER_LEN_MAX;
        while self.shape.has(cluster) && left > 0 {
            if !goes_on() {
                return false;
            }
            let start = self.shape.data + u64::from(cluster - 2) * self.shape.cluster;
            self.blocks(start, start + self.shape.cluster, folder);
            left = left.saturating_sub(self.shape.cluster);
            // A chain that is damaged is no business of ours: the kernel does not enter its folder.
            cluster = self.next(cluster, folder).unwrap_or(0);
        }
        true
    }

    /// Returns what follows a cluster, whatever it is; `None` when that cannot be read.
    fn next(&mut self, cluster: u32, folder: &str) -> Option<u32> {
        let number = u64::from(cluster);
        let (offset, len) = match self.shape.bits {
            12 => (number + number / 2, 2),
            16 => (number * 2, 2),
            _ => (number * 4, 4),
        };
        let mut entry = [0; 4];
        let at = self.shape.table + offset;
        if let Err(errno) = (self.read)(at, entry.get_mut(..len)?) {
            self.fails(at, folder, errno);
            return None;
        }
        let entry = u32::from_le_bytes(entry);
        Some(match self.shape.bits {
            12 if cluster % 2 == 1 => entry >> 4,
            12 => entry & 0xFFF,
            16 => entry,
            _ => entry & 0x0FFF_FFFF,
        })
    }

    /// Looks at blocks of a folder, and notes the folders in it.
    fn blocks(&mut self, start: u64, end: u64, folder: &str) {
        let mut at = start;
        while at < end {
            match (self.read)(at, &mut self.block) {
                Ok(()) => self.note(folder),
                Err(errno) => self.fails(at, folder, errno),
            }
            at += self.shape.sector;
        }
    }

    /// Notes the folders in the block at hand.
    fn note(&mut self, folder: &str) {
        self.gave = true;
        for record in self.block.chunks_exact(RECORD_LEN) {
            let (first, attributes) = (byte(record, 0), byte(record, 11));
            let is_free = first == 0 || first == 0xE5 || first == u64::from(b'.');
            // 0x08: the volume's label, or a piece of a long name.
            if is_free || attributes & 0x08 != 0 || attributes & 0x10 == 0 {
                continue;
            }
            let high = if self.shape.bits == 32 {
                word(record, 20) << 16
            } else {
                0
            };
            let Ok(cluster) = u32::try_from(word(record, 26) | high) else {
                continue;
            };
            if self.shape.has(cluster) && self.met.insert(cluster) {
                let name = short_name(record.get(..11).unwrap_or_default());
                let path = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                self.pending.push((cluster, path));
            }
        }
    }

    fn fails(&mut self, at: u64, folder: &str, errno: Errno) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault {
                at,
                folder: folder.to_owned(),
                errno,
            });
        }
    }
}

/// Returns a name of eight and three letters as people write it.
fn short_name(raw: &[u8]) -> String {
    let (name, suffix) = raw.split_at_checked(8).unwrap_or((raw, &[]));
    let [name, suffix] = [name, suffix].map(|part| String::from_utf8_lossy(part));
    let (name, suffix) = (name.trim_end(), suffix.trim_end());
    if suffix.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{suffix}")
    }
}

#[cfg(test)]
mod tests;
