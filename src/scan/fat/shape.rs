//! Where the parts of a FAT file system are.
//!
//! Source of the layout: Microsoft's FAT specification 1.03; of what the kernel does with it,
//! `fat_fill_super`, `fat_ent_read` and `__fat_readdir` of linux/fs/fat.

use super::RECORD_LEN;

/// The first number that is no cluster on any of them (`BAD_FAT32` of linux/msdos_fs.h).
const CLUSTERS_END: u64 = 0x0FFF_FFF7;

/// Where the root folder is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Root {
    /// In a chain of clusters, as any other.
    Chain(u32),
    /// In a place of its own: where it begins and ends, in bytes.
    Fixed(u64, u64),
}

/// Where things are; offsets and lengths in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) sector: u64,
    pub(super) cluster: u64,
    /// The first table.
    pub(super) table: u64,
    /// Bits of an entry in it: 12, 16 or 32.
    pub(super) bits: u32,
    pub(super) root: Root,
    /// Cluster 2.
    pub(super) data: u64,
    /// The first number that is no cluster any more.
    pub(super) end: u64,
}

fn byte(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at).copied().unwrap_or(0).into()
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    byte(bytes, at) | byte(bytes, at + 1) << 8
}

fn long(bytes: &[u8], at: usize) -> u64 {
    word(bytes, at) | word(bytes, at + 2) << 16
}

/// Returns the shape that a boot sector describes, if it is a sound one.
pub(super) fn shape(boot: &[u8; 512]) -> Option<Shape> {
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
        end: (clusters + 2).min(in_table).min(CLUSTERS_END),
    })
}

impl Shape {
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && u64::from(cluster) < self.end
    }
}
