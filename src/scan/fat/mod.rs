//! The folders of a FAT file system, read from its drive itself.
//!
//! Linux leaves out what is in a block of a folder that it cannot read, and lists the rest as if it were
//! all. Here the same blocks are read once more, and it is told which of them cannot be. They come from
//! the page cache of the block device, as they do for the kernel's own listing: what is read before a
//! listing is there for it.
//!
//! What is read may be damaged or crafted: every number is checked, no cluster is read for two folders,
//! and what is remembered is bounded. Of a drive that fails, few reads fail before it ends.

mod shape;

use std::ops::ControlFlow;

use rustix::io::Errno;

use shape::{Root, Shape, shape, word};

/// Most folders looked at: each is remembered, in 20 bytes.
const FOLDERS_MAX: usize = 1 << 20;
/// Most bytes of one folder: twice what the format allows (65,536 records).
const FOLDER_LEN_MAX: u64 = 4 << 20;
/// Most blocks told of that cannot be read; nothing more is read then. So few of them do not make a
/// drive pass for one that is gone (`FAILURES_MAX` of `engine::vitals`).
const FAULTS_MAX: usize = 8;
/// Most names of a folder's path that are told.
const NAMES_MAX: usize = 32;
/// Bytes of a record in a folder.
const RECORD_LEN: usize = 32;
/// Most bytes read at once: all of most clusters.
const PIECE_LEN: u64 = 32 << 10;
/// Bytes of a page, which the kernel reads again whole whenever a bad block of it is asked for.
const PAGE_LEN: u64 = 4096;

/// A block that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// The folder it is of, by short names; empty for the root. Of a deep one, `...` and the last names.
    pub(super) folder: String,
    pub(super) errno: Errno,
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// All folders were looked at: the faults, and whether any block of a folder could be read.
    Through(Vec<Fault>, bool),
    /// The same; there are too many folders, or faults, for all folders to be looked at.
    Partly(Vec<Fault>, bool),
    /// It was stopped.
    Stopped,
    /// This is no FAT file system that is understood.
    Untold,
}

/// Reads bytes of the drive from an offset on: all of them, or it fails.
pub(super) type Read<'r> = &'r mut dyn FnMut(u64, &mut [u8]) -> Result<(), Errno>;

/// Reads every block of every folder, as long as `goes_on`, which is asked before each read, says so.
///
/// Takes at most 32 MiB, a bit for each cluster, and 20 MiB for folders.
pub(super) fn look(read: Read<'_>, goes_on: &dyn Fn() -> bool) -> Looked {
    look_at(FOLDERS_MAX, read, goes_on)
}

fn look_at(folders_max: usize, read: Read<'_>, goes_on: &dyn Fn() -> bool) -> Looked {
    let mut boot = [0; 512];
    if let Err(errno) = read(0, &mut boot).or_else(|_| read(0, &mut boot)) {
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
        goes_on,
        shape,
        piece: Vec::new(),
        met: Clusters::below(shape.end),
        folders: Vec::new(),
        folders_max,
        is_cut: false,
        faults: Vec::new(),
        gave: false,
    };
    match looking.all() {
        ControlFlow::Break(End::Stop) => Looked::Stopped,
        ControlFlow::Continue(()) if !looking.is_cut => {
            Looked::Through(looking.faults, looking.gave)
        }
        _ => Looked::Partly(looking.faults, looking.gave),
    }
}

/// Why looking ended before all was looked at.
enum End {
    Stop,
    Faults,
}

/// Clusters that were met.
struct Clusters(Vec<u64>);

impl Clusters {
    /// None, of those below a number.
    fn below(end: u64) -> Self {
        Self(vec![0; usize::try_from(end / 64 + 1).unwrap_or(0)])
    }

    /// Adds one; returns whether it is new.
    fn insert(&mut self, cluster: u32) -> bool {
        let bit = 1 << (cluster % 64);
        let bits = self.0.get_mut((cluster / 64) as usize);
        bits.is_some_and(|bits| std::mem::replace(bits, *bits | bit) & bit == 0)
    }
}

/// A folder that was met.
#[derive(Debug, Clone, Copy)]
struct Folder {
    /// Its place among all. The root's is 0, and its parent is itself.
    parent: u32,
    name: [u8; 11],
    /// The first one.
    cluster: u32,
}

struct Looking<'r> {
    read: Read<'r>,
    goes_on: &'r dyn Fn() -> bool,
    shape: Shape,
    /// What was read last.
    piece: Vec<u8>,
    /// The first clusters of folders, and all others that were read.
    met: Clusters,
    /// In the order in which they are looked at; the root first.
    folders: Vec<Folder>,
    folders_max: usize,
    /// Whether there are more of them.
    is_cut: bool,
    faults: Vec<Fault>,
    /// Whether any block of a folder could be read.
    gave: bool,
}

impl Looking<'_> {
    fn all(&mut self) -> ControlFlow<End> {
        let mut root = Folder {
            parent: 0,
            name: [b' '; 11],
            cluster: 0,
        };
        if let Root::Chain(cluster) = self.shape.root {
            root.cluster = cluster;
            self.met.insert(cluster);
        }
        self.folders.push(root);
        if let Root::Fixed(start, end) = self.shape.root {
            self.blocks(start, end, 0)?;
        }
        let mut index = 0;
        while let Some(folder) = self.folders.get(index as usize) {
            self.folder(folder.cluster, index)?;
            index += 1;
        }
        ControlFlow::Continue(())
    }

    /// Looks at the folder that begins in a cluster.
    fn folder(&mut self, mut cluster: u32, folder: u32) -> ControlFlow<End> {
        let mut left = FOLDER_LEN_MAX;
        while self.shape.has(cluster) {
            let start = self.shape.data + u64::from(cluster - 2) * self.shape.cluster;
            self.blocks(start, start + self.shape.cluster, folder)?;
            left = left.saturating_sub(self.shape.cluster);
            // A chain that is damaged is no business of ours: the kernel does not enter its folder.
            cluster = self.next(cluster, folder)?;
            if left == 0 || !self.met.insert(cluster) {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns what follows a cluster, whatever it is; 0 when that cannot be read.
    fn next(&mut self, cluster: u32, folder: u32) -> ControlFlow<End, u32> {
        let number = u64::from(cluster);
        let (offset, len) = match self.shape.bits {
            12 => (number + number / 2, 2),
            16 => (number * 2, 2),
            _ => (number * 4, 4),
        };
        let mut entry = [0; 4];
        let at = self.shape.table + offset;
        let bytes = entry.get_mut(..len).unwrap_or_default();
        // The first time the whole page is asked for: what fails may be a neighbour.
        let mut read = self.read(at, bytes)?;
        if read.is_err() {
            read = self.read(at, bytes)?;
        }
        if let Err(errno) = read {
            self.fails(at, folder, errno)?;
            return ControlFlow::Continue(0);
        }
        let entry = u32::from_le_bytes(entry);
        ControlFlow::Continue(match self.shape.bits {
            12 if cluster % 2 == 1 => entry >> 4,
            12 => entry & 0xFFF,
            16 => entry,
            _ => entry & 0x0FFF_FFFF,
        })
    }

    /// Looks at blocks of a folder, and notes the folders in it.
    fn blocks(&mut self, start: u64, end: u64, folder: u32) -> ControlFlow<End> {
        let mut at = start;
        while at < end {
            let to = end.min(at + PIECE_LEN);
            if self.read_and_note(at, to, folder)?.is_err() {
                self.pages(at, to, folder)?;
            }
            at = to;
        }
        ControlFlow::Continue(())
    }

    /// Looks at blocks that could not be read at once.
    fn pages(&mut self, start: u64, end: u64, folder: u32) -> ControlFlow<End> {
        let mut at = start;
        while at < end {
            let to = end.min((at / PAGE_LEN + 1) * PAGE_LEN);
            let is_all = (at, to) == (start, end);
            if is_all || self.read_and_note(at, to, folder)?.is_err() {
                self.page(at, to, folder)?;
            }
            at = to;
        }
        ControlFlow::Continue(())
    }

    /// Looks at blocks of a page of which some cannot be read: at those before the first of them, and
    /// behind the last. Each that cannot be read is a wait for the drive, which reads them all again;
    /// what could be read is in memory.
    fn page(&mut self, start: u64, end: u64, folder: u32) -> ControlFlow<End> {
        let len = self.shape.sector;
        let mut at = start;
        while at < end {
            if let Err(errno) = self.read_and_note(at, at + len, folder)? {
                self.fails(at, folder, errno)?;
                break;
            }
            at += len;
        }
        let mut last = end;
        while last > at + len && self.read_and_note(last - len, last, folder)?.is_ok() {
            last -= len;
        }
        ControlFlow::Continue(())
    }

    /// Reads what `goes_on` says may be read.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> ControlFlow<End, Result<(), Errno>> {
        if !(self.goes_on)() {
            return ControlFlow::Break(End::Stop);
        }
        ControlFlow::Continue((self.read)(at, bytes))
    }

    /// Reads blocks of a folder, and notes the folders in them.
    fn read_and_note(
        &mut self,
        start: u64,
        end: u64,
        folder: u32,
    ) -> ControlFlow<End, Result<(), Errno>> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(usize::try_from(end - start).unwrap_or(0), 0);
        let read = self.read(start, &mut piece);
        if matches!(read, ControlFlow::Continue(Ok(()))) {
            self.note(&piece, folder);
        }
        self.piece = piece;
        read
    }

    /// Notes the folders that blocks of a folder list.
    fn note(&mut self, blocks: &[u8], parent: u32) {
        self.gave = true;
        for record in blocks.as_chunks::<RECORD_LEN>().0 {
            let [first, attributes] = [record[0], record[11]];
            // 0x08: the volume's label, or a piece of a long name.
            if matches!(first, 0 | 0xE5 | b'.') || attributes & 0x18 != 0x10 {
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
            if !self.shape.has(cluster) || !self.met.insert(cluster) {
                continue;
            }
            if self.folders.len() == self.folders_max {
                self.is_cut = true;
                return;
            }
            self.folders.push(Folder {
                parent,
                name: record.first_chunk().copied().unwrap_or_default(),
                cluster,
            });
        }
    }

    fn fails(&mut self, at: u64, folder: u32, errno: Errno) -> ControlFlow<End> {
        let folder = self.path(folder);
        self.faults.push(Fault { at, folder, errno });
        if self.faults.len() < FAULTS_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(End::Faults)
        }
    }

    /// Returns the path of a folder, by short names.
    fn path(&self, mut folder: u32) -> String {
        let mut names = Vec::new();
        while folder != 0
            && let Some(met) = self.folders.get(folder as usize)
        {
            if names.len() == NAMES_MAX {
                names.push("...".to_owned());
                break;
            }
            names.push(short_name(&met.name));
            folder = met.parent;
        }
        names.reverse();
        names.join("/")
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
