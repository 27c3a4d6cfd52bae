//! Is there room? Checked before the first byte is written.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// What a copy will take up in the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of file contents.
    pub bytes: u64,
    /// Files, directories and links: each takes an inode.
    pub inodes: u64,
}

/// What the records of a job take for each file, in bytes: about 200 and twice its path in the
/// journal, 66 and its path in the manifest, as much again while that is sorted, for paths of 60.
const RECORDS_PER_FILE: u64 = 600;
/// What evidence of it takes in addition.
const EVIDENCE_PER_FILE: u64 = 300;
/// What the journal takes for each MiB of large files: the chaining value of a block.
const RECORDS_PER_MIB: u64 = 32;
/// What the rest takes: `job.json`, the report with 1,000 problems, the journal's room ahead.
const RECORDS_FIXED: u64 = 2 << 20;
/// Least that is set aside for what is written at the end.
const ASIDE_LEAST: u64 = 1 << 20;

impl Need {
    /// Returns how many bytes the records of a copy of this take. `proves`: with evidence.
    pub fn records(self, proves: bool) -> u64 {
        let evidence = if proves { EVIDENCE_PER_FILE } else { 0 };
        let files = self.inodes.saturating_mul(RECORDS_PER_FILE + evidence);
        let blocks = (self.bytes >> 20).saturating_mul(RECORDS_PER_MIB);
        RECORDS_FIXED.saturating_add(files).saturating_add(blocks)
    }

    /// Returns how much of that is written at the end, and is to be set aside until then: all but
    /// the journal, and no more than a sixteenth of what `room` has.
    pub fn aside(self, proves: bool, room: Room) -> u64 {
        let evidence = if proves { EVIDENCE_PER_FILE } else { 0 };
        let at_end = self.inodes.saturating_mul(RECORDS_PER_FILE / 2 + evidence);
        ASIDE_LEAST.saturating_add(at_end).min(room.bytes / 16)
    }
}

/// What the target has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes free for us.
    pub bytes: u64,
    /// Inodes free; `None` on file systems that make them as needed.
    pub inodes: Option<u64>,
    /// Allocation unit in bytes: each file takes whole ones.
    pub unit: u64,
}

/// Returns what the file system of an open directory has to give.
///
/// # Errors
/// As fstatvfs(2).
pub fn room(dir: BorrowedFd<'_>) -> Result<Room, Errno> {
    let stat = rustix::fs::fstatvfs(dir)?;
    Ok(Room {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
        unit: stat.f_frsize.max(1),
    })
}

impl Room {
    /// Returns how many bytes of allocation units files leave unused, half a unit each.
    pub fn lost(&self, need: Need) -> u64 {
        need.inodes.saturating_mul(self.unit / 2)
    }

    /// Returns whether `need` fits, counting half an allocation unit lost to each file.
    pub fn fits(&self, need: Need) -> bool {
        need.bytes.saturating_add(self.lost(need)) <= self.bytes
            && self.inodes.is_none_or(|inodes| need.inodes <= inodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        bytes: 1_000_000,
        inodes: Some(100),
        unit: 4096,
    };

    #[test]
    fn bytes_count_with_what_small_files_waste() {
        assert!(ROOM.fits(Need {
            bytes: 900_000,
            inodes: 10
        }));
        assert!(!ROOM.fits(Need {
            bytes: 900_000,
            inodes: 50
        }));
        assert!(!ROOM.fits(Need {
            bytes: 1_000_001,
            inodes: 0
        }));
    }

    #[test]
    fn records_count_and_part_of_them_is_set_aside() {
        let need = Need {
            bytes: 10 << 20,
            inodes: 1000,
        };
        assert_eq!(need.records(false), (2 << 20) + 600_000 + 320);
        assert_eq!(need.records(true), (2 << 20) + 900_000 + 320);
        let room = Room {
            bytes: 1 << 30,
            ..ROOM
        };
        assert_eq!(need.aside(true, room), (1 << 20) + 600_000);
        assert_eq!(need.aside(true, ROOM), 62_500);
    }

    #[test]
    fn inodes_count_where_they_are_fixed() {
        assert!(!ROOM.fits(Need {
            bytes: 0,
            inodes: 101
        }));
        let endless = Room {
            inodes: None,
            ..ROOM
        };
        assert!(endless.fits(Need {
            bytes: 0,
            inodes: 101
        }));
    }
}
