//! Files with contents that show where each byte belongs.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

/// Length of the pattern: a prime, so that no block of a power of two can stand in for another.
pub(crate) const PERIOD: u64 = 251;

/// Returns the bytes of a painted file from `offset` on.
pub(crate) fn painted(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let start = (seed + offset) % PERIOD;
    let pattern: Vec<u8> = (0..=250_u8).collect();
    let mut bytes = Vec::with_capacity(len + 502);
    bytes.extend_from_slice(&pattern[usize::try_from(start).unwrap()..]);
    while bytes.len() < len {
        bytes.extend_from_slice(&pattern);
    }
    bytes.truncate(len);
    bytes
}

/// Paints `len` bytes of an open file from `offset` on.
pub(crate) fn paint_at(file: &File, seed: u64, offset: u64, len: u64) {
    // Whole periods, so that one piece serves all.
    let step = PERIOD * 4096;
    let piece = painted(seed, offset, usize::try_from(step.min(len)).unwrap());
    let mut done = 0;
    while done < len {
        let now = usize::try_from(step.min(len - done)).unwrap();
        file.write_all_at(&piece[..now], offset + done).unwrap();
        done += now as u64;
    }
}

/// Writes a painted file.
pub(crate) fn paint(path: &Path, seed: u64, len: u64) {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    paint_at(&file, seed, 0, len);
}

/// Writes a file with this text.
pub(crate) fn text(path: &Path, text: &str) {
    File::create(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// Writes `count` small files of 1 to 4096 bytes, spread over directories of 64.
pub(crate) fn many_small(root: &Path, seed: u64, count: usize) {
    for index in 0..count {
        let dir = root.join(format!("{:03}", index / 64));
        if index % 64 == 0 {
            std::fs::create_dir_all(&dir).unwrap();
        }
        let len = 1 + (index as u64 * 997) % 4096;
        paint(&dir.join(format!("{index:06}")), seed + index as u64, len);
    }
}

/// Sets the modification time, of a symlink itself too; the access time is set to the same.
pub(crate) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets the permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    rustix::fs::chmod(path, Mode::from(mode)).unwrap();
}

/// Makes a hole-riddled file of `len` bytes with data at these places.
pub(crate) fn sparse(path: &Path, seed: u64, len: u64, islands: &[(u64, u64)]) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for &(offset, length) in islands {
        paint_at(&file, seed, offset, length);
    }
    file.sync_all().unwrap();
}

/// Returns a name made of bytes.
pub(crate) fn name(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Gives everything in a directory tree times in the past, so that no copy looks right by chance.
pub(crate) fn age(root: &Path, seconds: i64) {
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            age(&path, seconds + 1);
        } else {
            let spread = i64::try_from(entry.file_name().len()).unwrap();
            set_time(&path, seconds + spread, 987_654_321 - spread);
        }
    }
    set_time(root, seconds, 123_456_789);
}
