//! What a drive or a target is, apart from the names it has today.

/// What is known of the file system a source or a target is on. None of it changes with a device
/// name or a mount point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the file system, as bytes; at most [`WORD_LEN_MAX`](super::WORD_LEN_MAX).
    ///
    /// The subvolumes of a btrfs share one UUID and one root inode number: for them, whatever tells
    /// them apart belongs in here too.
    pub fs_uuid: Option<Vec<u8>>,
    /// Type of the file system, as mountinfo names it.
    pub fs_type: String,
    /// Serial number of the device.
    pub serial: Option<String>,
    /// Size of the file system in bytes.
    pub size: u64,
    /// Inode number of the directory that is the root of the source or target.
    pub root_ino: u64,
}

/// What comparing two [`Identity`]s says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The same file system, whatever its device and its mount point are called.
    Same,
    /// Another one; says what differs.
    Different(&'static str),
    /// Nothing differs, but nothing that is unique was known on both sides either.
    Unknown,
}

impl Identity {
    /// Compares what was recorded with what is there now.
    ///
    /// [`Same`](Likeness::Same) takes: the same type and the same root inode; the same UUID, or no
    /// UUID on either side and the same serial number; no two serial numbers (then it is an image
    /// of that file system on another drive); and the same size, unless UUID and serial number are
    /// both known and agree (then it was grown in place).
    pub fn compare(&self, now: &Self) -> Likeness {
        if self.fs_type != now.fs_type {
            return Likeness::Different("the type of the file system");
        }
        if self.fs_uuid != now.fs_uuid {
            return Likeness::Different("the UUID of the file system");
        }
        if self.root_ino != now.root_ino {
            return Likeness::Different("the inode of the directory");
        }
        let serials = self.serial.as_ref().zip(now.serial.as_ref());
        if serials.is_some_and(|(recorded, found)| recorded != found) {
            return Likeness::Different("the serial number of the device");
        }
        let has_uuid = self.fs_uuid.is_some();
        if self.size != now.size && !(has_uuid && serials.is_some()) {
            return Likeness::Different("the size of the file system");
        }
        if has_uuid || serials.is_some() {
            Likeness::Same
        } else {
            Likeness::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive() -> Identity {
        Identity {
            fs_uuid: Some(b"uuid".to_vec()),
            fs_type: "ext4".to_owned(),
            serial: Some("S1".to_owned()),
            size: 1000,
            root_ino: 2,
        }
    }

    #[test]
    fn each_field_counts_as_the_rule_says() {
        use Likeness::{Different, Same, Unknown};
        let with = |change: &dyn Fn(&mut Identity)| {
            let mut now = drive();
            change(&mut now);
            drive().compare(&now)
        };
        assert_eq!(with(&|_| {}), Same);
        assert!(matches!(
            with(&|now| now.fs_type = "xfs".into()),
            Different(_)
        ));
        assert!(matches!(
            with(&|now| now.fs_uuid = Some(b"other".to_vec())),
            Different(_)
        ));
        assert!(matches!(with(&|now| now.fs_uuid = None), Different(_)));
        assert!(matches!(with(&|now| now.root_ino = 3), Different(_)));
        assert!(matches!(
            with(&|now| now.serial = Some("S2".into())),
            Different(_)
        ));
        // A bridge that does not pass the serial number on.
        assert_eq!(with(&|now| now.serial = None), Same);
        // Grown in place, or, without the serial number, perhaps an image on a larger drive.
        assert_eq!(with(&|now| now.size = 2000), Same);
        let mut larger = drive();
        larger.size = 2000;
        larger.serial = None;
        assert!(matches!(drive().compare(&larger), Different(_)));

        let mut plain = drive();
        plain.fs_uuid = None;
        assert_eq!(plain.compare(&plain), Same);
        plain.serial = None;
        assert_eq!(plain.compare(&plain), Unknown);
        let mut smaller = plain.clone();
        smaller.size = 1;
        assert!(matches!(plain.compare(&smaller), Different(_)));
    }
}
