//! Where what drives gave is kept, from one bench to the next.
//!
//! ```text
//! $XDG_STATE_HOME/inhaul/bench/SERIAL.json    a bench report with that drive alone
//! ```
//!
//! Only a reminder: what cannot be written or read is told of, and fails nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::bench::report::{Report, SCHEMA};
use crate::cli::escape::escape_path;
use crate::cli::registry::Registry;

/// Longest entry that is taken, in bytes.
const LEN_MAX: u64 = 1 << 20;
/// The folder.
const FOLDER: &str = "bench";
/// How long another bench may take to write its entries, and between two looks.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// The folder of the entries, open.
#[derive(Debug)]
pub(super) struct Entries {
    folder: OwnedFd,
    path: PathBuf,
}

impl Entries {
    /// Opens the folder for looking into it; `None` when there is none.
    ///
    /// # Errors
    /// Why one that is there is not used, for people.
    pub(super) fn open(registry: &Registry) -> Result<Option<Self>, String> {
        let Some(path) = registry.place_of(FOLDER) else {
            return Ok(None);
        };
        match registry.folder_of(FOLDER, false) {
            Ok(folder) => Ok(Some(Self { folder, path })),
            // Most users have none.
            Err(_) if path.symlink_metadata().is_err() => Ok(None),
            Err(errno) => Err(why(&path, errno)),
        }
    }

    /// Opens the folder for writing to it, and makes it.
    ///
    /// # Errors
    /// Why that cannot be, for people.
    pub(super) fn make(registry: &Registry) -> Result<Self, String> {
        let Some(path) = registry.place_of(FOLDER) else {
            return Err("neither XDG_STATE_HOME nor HOME says where".to_owned());
        };
        match registry.folder_of(FOLDER, true) {
            Ok(folder) => Ok(Self { folder, path }),
            Err(errno) => Err(why(&path, errno)),
        }
    }

    /// Returns the entry of the drive with this serial number, or else this WWN; `None` when there
    /// is none.
    ///
    /// # Errors
    /// Why one that is there is not used, for people.
    pub(super) fn read(&self, identity: &str) -> Result<Option<Report>, String> {
        let name = file_name(identity);
        let path = self.path.join(&name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, &name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(why(&path, errno)),
        };
        let wrong = |why: &str| format!("{}: {why}", escape_path(&path));
        let mut text = Vec::new();
        file.take(LEN_MAX)
            .read_to_end(&mut text)
            .map_err(|error| wrong(&error.to_string()))?;
        let report: Report =
            serde_json::from_slice(&text).map_err(|_| wrong("no report of a bench"))?;
        if report.kind != "bench" || report.schema != SCHEMA {
            return Err(wrong("no report of a bench that this inhaul reads"));
        }
        Ok(Some(report))
    }

    /// Writes the entry of a drive, over the one it has.
    ///
    /// # Errors
    /// Why that cannot be, for people.
    pub(super) fn write(&self, identity: &str, report: &Report) -> Result<(), String> {
        let name = file_name(identity);
        // Structs of strings and numbers always serialise.
        let text = serde_json::to_vec(report).unwrap_or_default();
        let told =
            |error: std::io::Error| format!("{}: {error}", escape_path(&self.path.join(&name)));
        let _alone = self.lock().map_err(|errno| told(errno.into()))?;
        // Beside it first: what is there is whole, whenever this ends. By one name for all runs, so
        // that the next one takes away what a killed one left.
        let draft = format!("{name}.draft");
        let gone = || rustix::fs::unlinkat(&self.folder, &draft, AtFlags::empty());
        let _of_one_killed = gone();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.folder, &draft, flags, mode);
        let file = file.map_err(|errno| told(errno.into()))?;
        let written = File::from(file).write_all(&text).and_then(|()| {
            rustix::fs::renameat(&self.folder, &draft, &self.folder, &name)?;
            Ok(())
        });
        written.map_err(|error| {
            let _part_of_it = gone();
            told(error)
        })
    }

    /// Waits until no other bench writes an entry. The kernel lets go of it when this one is killed.
    fn lock(&self) -> Result<Locked<'_>, Errno> {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match flock(&self.folder, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_EVERY),
                Err(errno @ Errno::WOULDBLOCK) => return Err(errno),
                // Where folders cannot be locked, two benches that end at once may lose an entry.
                Ok(()) | Err(_) => return Ok(Locked(&self.folder)),
            }
        }
    }
}

/// The folder, locked; let go when dropped.
struct Locked<'f>(&'f OwnedFd);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // At the latest it is let go with the folder.
        let _let_go = flock(self.0, FlockOperation::Unlock);
    }
}

fn why(path: &std::path::Path, errno: Errno) -> String {
    let path = escape_path(path);
    match errno {
        Errno::PERM => format!("{path}: it, or a folder it is in, is not this user's alone"),
        Errno::LOOP | Errno::NOTDIR => {
            format!("{path}: it, or a folder it is in, is a link or a file")
        }
        errno => format!("{path}: {errno}"),
    }
}

/// Returns the name of the entry of a drive with this serial number, or else this WWN.
fn file_name(identity: &str) -> String {
    let mut name = String::new();
    for byte in identity.bytes() {
        // A serial number is any bytes; a name of ours is none of them but these.
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            name.push('_');
            for nibble in [byte >> 4, byte & 15] {
                name.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
    }
    name.truncate(200);
    format!("{name}.json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn report() -> Report {
        Report {
            schema: SCHEMA,
            kind: "bench".to_owned(),
            ..Report::default()
        }
    }

    fn said<T: std::fmt::Debug>(result: Result<T, String>, text: &str) {
        let told = result.unwrap_err();
        assert!(told.contains(text), "{text} in {told}");
    }

    #[test]
    fn a_serial_number_is_no_path() {
        assert_eq!(file_name("../Z 1"), "_2e_2e_2fZ_201.json");
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        assert!(Entries::open(&registry).unwrap().is_none(), "none yet");
        let entries = Entries::make(&registry).unwrap();
        assert_eq!(entries.read("../Z 1"), Ok(None));
        entries.write("../Z 1", &report()).unwrap();
        assert_eq!(entries.read("../Z 1"), Ok(Some(report())));
        let found: Vec<_> = std::fs::read_dir(state.path().join("inhaul/bench"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(found, ["_2e_2e_2fZ_201.json"], "and no draft");
    }

    #[test]
    fn what_a_killed_bench_left_is_swept() {
        let state = tempfile::tempdir().unwrap();
        let entries = Entries::make(&Registry::at(state.path())).unwrap();
        let folder = state.path().join("inhaul/bench");
        std::fs::write(folder.join("Z1.json.draft"), "{\"half").unwrap();
        entries.write("Z1", &report()).unwrap();
        assert_eq!(entries.read("Z1"), Ok(Some(report())));
        let found: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(found, ["Z1.json"]);
        // A link in its place is not followed.
        let mine = state.path().join("mine");
        std::fs::write(&mine, "mine").unwrap();
        symlink(&mine, folder.join("Z1.json.draft")).unwrap();
        entries.write("Z1", &report()).unwrap();
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    }

    #[test]
    fn two_benches_do_not_write_at_once() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let (one, other) = (
            Entries::make(&registry).unwrap(),
            Entries::make(&registry).unwrap(),
        );
        let held = one.lock().unwrap();
        said(other.write("Z1", &report()), "Z1.json: ");
        assert_eq!(other.read("Z1"), Ok(None));
        drop(held);
        other.write("Z1", &report()).unwrap();
    }

    #[test]
    fn what_is_no_entry_is_told_of_and_written_anew() {
        let state = tempfile::tempdir().unwrap();
        let entries = Entries::make(&Registry::at(state.path())).unwrap();
        let path = state.path().join("inhaul/bench/Z1.json");
        let mut newer = report();
        newer.schema = SCHEMA + 1;
        for text in ["", "{", "[]", &serde_json::to_string(&newer).unwrap()] {
            std::fs::write(&path, text).unwrap();
            said(entries.read("Z1"), "Z1.json: no report of a bench");
        }
        entries.write("Z1", &report()).unwrap();
        assert_eq!(entries.read("Z1"), Ok(Some(report())));
    }

    #[test]
    fn no_link_is_followed() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let entries = Entries::make(&registry).unwrap();
        let (folder, mine) = (state.path().join("inhaul/bench"), state.path().join("mine"));
        std::fs::write(&mine, "mine").unwrap();
        symlink(&mine, folder.join("Z1.json")).unwrap();
        said(entries.read("Z1"), "is a link or a file");
        entries.write("Z1", &report()).unwrap();
        assert_eq!(entries.read("Z1"), Ok(Some(report())), "the link is gone");
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");

        rustix::fs::rename(&folder, state.path().join("elsewhere")).unwrap();
        symlink(state.path().join("elsewhere"), &folder).unwrap();
        said(Entries::open(&registry), "is a link or a file");
        said(Entries::make(&registry), "is a link or a file");
    }
}
