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
    /// Returns whether `need` fits, counting half an allocation unit lost to each file.
    pub fn fits(&self, need: Need) -> bool {
        let lost = need.inodes.saturating_mul(self.unit / 2);
        need.bytes.saturating_add(lost) <= self.bytes
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
