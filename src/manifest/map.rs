//! Maps of files that cannot be read whole: which bytes are good and which are bad, in the form of
//! GNU ddrescue.
//!
//! Positions are those in the source file, so `ddrescue SOURCE COPY.partial MAP` goes on trying.
//!
//! ```text
//! # Mapfile of what inhaul could not read; GNU ddrescue goes on with it
//! # /mnt/d1/clip.mov
//! # current_pos  current_status  current_pass
//! 0x00000000     +               1
//! #      pos        size  status
//! 0x00000000  0x00100000  +
//! 0x00100000  0x00001000  -
//! 0x00101000  0x000FF000  +
//! ```
//!
//! Source: manual of GNU ddrescue 1.27, "Mapfile structure": a status line, then blocks in order,
//! without gaps; `+` is finished, `-` is a bad sector.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Side};

/// Most maps of a run; the ranges of files beyond that are in the list of problems alone.
pub const MAPS_MAX: usize = 1000;

/// Numbers in a row that may be missing: some are asked for in vain where there is none.
const GAP_MAX: usize = 64;

/// Writes the maps of one run.
#[derive(Debug)]
pub struct Maps {
    dir: OwnedFd,
    count: AtomicUsize,
}

fn name(number: usize) -> String {
    format!("unreadable-{number:04}.map")
}

impl Maps {
    /// Returns a writer of maps into the folder of a job, and takes those of its last run away.
    ///
    /// `dir` must be open for reading, not merely as a path, because it is synced.
    ///
    /// # Errors
    /// `RecordWrite` when an old one cannot be taken away.
    pub fn new(dir: OwnedFd) -> Result<Self, Error> {
        let mut missing = 0;
        for number in 1..=MAPS_MAX {
            match rustix::fs::unlinkat(&dir, name(number), AtFlags::empty()) {
                Ok(()) => missing = 0,
                // They are numbered with few gaps: one for each that was taken back.
                Err(Errno::NOENT) if missing < GAP_MAX => missing += 1,
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(failed(&name(number), errno.into())),
            }
        }
        Ok(Self {
            dir,
            count: AtomicUsize::new(0),
        })
    }

    /// Writes the map of a file of `size` bytes of which `bad` cannot be read: ranges in order,
    /// below its end. Returns the map's name; `None` when there are [`MAPS_MAX`] already.
    ///
    /// # Durability
    /// Durable when this returns.
    ///
    /// # Errors
    /// `RecordWrite`; the ranges are in the list of problems all the same.
    pub fn write(
        &self,
        path: &Path,
        size: u64,
        bad: &[Range<u64>],
    ) -> Result<Option<String>, Error> {
        let number = self.count.fetch_add(1, Relaxed) + 1;
        if number > MAPS_MAX {
            return Ok(None);
        }
        let name = name(number);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let written = rustix::fs::openat(
            &self.dir,
            &name,
            flags | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(std::io::Error::from)
        .and_then(|file| {
            let mut file = File::from(file);
            file.write_all(text(path, size, bad).as_bytes())?;
            // Whatever the umask is. A map that only its owner can read is one all the same.
            let _best_effort = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644));
            file.sync_all()?;
            rustix::fs::fsync(&self.dir)?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(Some(name)),
            Err(error) => Err(failed(&name, error)),
        }
    }

    /// Takes a map away whose file could be read after all.
    pub fn take_back(&self, name: &str) {
        if name.starts_with("unreadable-") {
            // One that stays is the next run's to take away.
            let _best_effort = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

fn failed(name: &str, error: std::io::Error) -> Error {
    let what = "write the map of what cannot be read";
    Error::new(ErrorKind::RecordWrite, Side::Record, name, what).because(error)
}

/// Returns the text of a map.
fn text(path: &Path, size: u64, bad: &[Range<u64>]) -> String {
    use std::os::unix::ffi::OsStrExt;
    // A name with a line end in it must not add a line of its own.
    let shown = path.as_os_str().as_bytes().escape_ascii();
    let mut text = format!(
        "# Mapfile of what inhaul could not read; GNU ddrescue goes on with it\n# {shown}\n\
         # current_pos  current_status  current_pass\n0x00000000     +               1\n\
         #      pos        size  status\n"
    );
    let mut block = |range: Range<u64>, status: char| {
        if !range.is_empty() {
            let (at, len) = (range.start, range.end - range.start);
            // Writing to a string does not fail.
            let _always = writeln!(text, "0x{at:08X}  0x{len:08X}  {status}");
        }
    };
    let mut at = 0;
    for range in bad {
        block(at..range.start, '+');
        block(range.clone(), '-');
        at = range.end;
    }
    block(at..size, '+');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn maps_in(dir: &tempfile::TempDir) -> Maps {
        Maps::new(File::open(dir.path()).unwrap().into()).unwrap()
    }

    #[test]
    fn a_map_covers_the_file_without_gaps() {
        let bad = [4096..8192, 1 << 20..(1 << 20) + 512];
        assert_eq!(
            text(Path::new("/mnt/a\nb"), 2_000_000, &bad),
            "# Mapfile of what inhaul could not read; GNU ddrescue goes on with it\n\
             # /mnt/a\\nb\n\
             # current_pos  current_status  current_pass\n\
             0x00000000     +               1\n\
             #      pos        size  status\n\
             0x00000000  0x00001000  +\n\
             0x00001000  0x00001000  -\n\
             0x00002000  0x000FE000  +\n\
             0x00100000  0x00000200  -\n\
             0x00100200  0x000E8280  +\n"
        );
    }

    #[test]
    fn a_file_that_is_bad_from_end_to_end_has_one_block() {
        let map = text(Path::new("x"), 700, std::slice::from_ref(&(0..700)));
        assert!(
            map.ends_with("status\n0x00000000  0x000002BC  -\n"),
            "{map}"
        );
    }

    #[test]
    fn each_file_has_a_map_of_its_own_and_the_next_run_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let maps = maps_in(&dir);
        let bad = std::slice::from_ref(&(0..512));
        for number in 1..=3 {
            let name = maps.write(Path::new("a"), 1000, bad).unwrap();
            assert_eq!(name, Some(format!("unreadable-000{number}.map")));
        }
        std::fs::write(dir.path().join("else.map"), "").unwrap();
        let maps = maps_in(&dir);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        maps.count.store(MAPS_MAX, Relaxed);
        assert_eq!(maps.write(Path::new("a"), 1000, bad).unwrap(), None);
    }

    #[test]
    fn ddrescue_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let bad = [4096..8192, 1 << 20..(1 << 20) + 512];
        let path = Path::new("/mnt/d 1/clip.mov");
        let name = maps_in(&dir).write(path, 2_000_000, &bad).unwrap().unwrap();
        let list = Command::new("ddrescuelog")
            .args(["--list-blocks=-", "--block-size=512"])
            .arg(dir.path().join(name))
            .output();
        let Ok(list) = list else {
            eprintln!("SKIPPED: ddrescue_reads_what_is_written: needs ddrescuelog");
            return;
        };
        let told = String::from_utf8_lossy(&list.stderr);
        assert!(list.status.success(), "{told}");
        let blocks: Vec<u64> = String::from_utf8(list.stdout)
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let expected: Vec<u64> = (8..16).chain([2048]).collect();
        assert_eq!(blocks, expected);
    }
}
