//! Whose a name is in a target that lists it otherwise than it was given.
//!
//! A folder of ours that is listed otherwise looks like another one that took its place; what the
//! journal has below it says that it is ours. And two names of one copy may be listed as one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::context::Context;
use super::job::Existing;
use crate::error::{Error, ErrorKind, Side};
use crate::journal::Loaded;
use crate::scan::{Dir, Entry, as_path, join};
use crate::target::{clash, split};

/// What has the place of a name if it is of this run.
const ANOTHER: &[u8] = b"another name of this copy";

/// Folders that earlier runs of a job have put something into, or were about to: their paths below
/// TARGET, by a hash with a key of this run.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    key: RandomState,
    known: HashSet<u64>,
}

impl Folders {
    /// Returns the folders that a journal has something below; tells `note` of each, and of all that
    /// is in them. `None` when `note` breaks off.
    fn of(loaded: &Loaded, note: Note<'_>) -> Option<Self> {
        let mut folders = Self::default();
        let done = loaded.iter_done().map(|done| done.target_path);
        let other = loaded.iter_other().map(|other| other.target_path);
        let namings = loaded.unacknowledged().map(|naming| naming.target_path);
        for path in done.chain(other).chain(namings) {
            let told = folders.add(path, note);
            if told.is_break() || note(path, IsFolder(false)).is_break() {
                return None;
            }
        }
        Some(folders)
    }

    /// Adds all folders that something is in.
    fn add(&mut self, path: &[u8], note: Note<'_>) -> ControlFlow<()> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (slash, _) in slashes {
            let folder = path.get(..slash).unwrap_or_default();
            if self.known.insert(self.key.hash_one(folder)) {
                note(folder, IsFolder(true))?;
            }
        }
        ControlFlow::Continue(())
    }

    fn has(&self, path: &[u8]) -> bool {
        self.known.contains(&self.key.hash_one(path))
    }
}

/// Whether a path is that of a folder.
#[derive(Debug, Clone, Copy)]
struct IsFolder(bool);

/// Is told of what is recorded.
type Note<'a> = &'a dyn Fn(&[u8], IsFolder) -> ControlFlow<()>;

/// How whoever takes a place has come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The journal has it there; whether it still is there, and in the source, is not known.
    Recorded,
    /// It was met in the source.
    Met,
    /// It was met, and is there by this name: it has just been made, or is recorded as well.
    Found,
}

/// Who has a place.
#[derive(Debug)]
struct Holder {
    path: u64,
    /// Whether this run met it.
    is_met: bool,
}

/// Which names of this copy are where in a target that lists some otherwise than they were given: two
/// that it lists as one are never both put there, whichever came first.
///
/// Holds, by hashes as above, all folders of this run, and what is listed otherwise: folders, and files
/// where what is there may be replaced or left alone.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    key: RandomState,
    known: Mutex<HashMap<u64, Holder>>,
}

impl Claims {
    /// Notes that `path` is listed under the name `listed`; returns whether no other path is.
    fn take(&self, path: &[u8], listed: &[u8], how: How) -> bool {
        let (parent, _) = split(path);
        let place = join(parent.to_vec(), listed);
        let (place, path) = (self.key.hash_one(place), self.key.hash_one(path));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_met = false;
        let holder = known.entry(place).or_insert(Holder { path, is_met });
        if how == How::Found && !holder.is_met {
            holder.path = path;
        }
        let has_it = holder.path == path;
        holder.is_met |= has_it && how != How::Recorded;
        has_it
    }

    /// Returns whether another path was noted that is listed as `path`.
    fn is_taken(&self, path: &[u8]) -> bool {
        let path = self.key.hash_one(path);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&path).is_some_and(|holder| holder.path != path)
    }
}

impl Context {
    /// Makes a folder in the target; returns whether it is new. One that is there, and listed as its
    /// name is, is taken for it if the journal has something below it by this name. One that another
    /// folder of this copy was put into never is.
    ///
    /// # Errors
    /// As [`make_dir`](crate::target::Target::make_dir); `Stopped`.
    pub(crate) fn make_dir(&self, dir: &Dir) -> Result<bool, Error> {
        let path = dir.target_path();
        let is_new = match self.target.make_dir(&path) {
            // Something that is no folder comes with the kernel's answer.
            Err(error)
                if error.kind() == ErrorKind::TargetExists
                    && error.errno().is_none()
                    && self.earlier_folders()?.is_some_and(|it| it.has(&path))
                    && self.is_only_spelled(&path)? =>
            {
                false
            }
            made => made?,
        };
        let Some(listed) = self.target.spelling(&path)? else {
            return Ok(is_new);
        };
        let is_there = is_new || self.earlier_folders()?.is_some_and(|it| it.has(&path));
        let how = if is_there { How::Found } else { How::Met };
        if self.claims.take(&path, &listed, how) {
            return Ok(is_new);
        }
        let shown = dir.tree().label.join(as_path(&dir.source_path()));
        Err(clash(shown, ANOTHER))
    }

    /// Returns the folders that earlier runs have put something into. Where names are listed otherwise,
    /// what they have put there is noted first, which takes some calls for each; all lanes wait for it.
    ///
    /// # Errors
    /// `Stopped` when the run is to stop before all of it is noted: then it is not known whose a name is.
    fn earlier_folders(&self) -> Result<Option<&Folders>, Error> {
        let Some(earlier) = self.earlier() else {
            return Ok(None);
        };
        let note = |path: &[u8], IsFolder(is_folder)| {
            if self.halted() {
                return ControlFlow::Break(());
            }
            if is_folder || self.existing != Existing::Refuse {
                // One that cannot be asked for is told of when it is met.
                let _noted = self.note(path, How::Recorded);
            }
            ControlFlow::Continue(())
        };
        let folders = self.folders.get_or_init(|| Folders::of(earlier, &note));
        let stopped = || {
            let what = "the run was to stop before it was known whose its names are";
            Error::new(ErrorKind::Stopped, Side::Target, "target", what)
        };
        folders.as_ref().map(Some).ok_or_else(stopped)
    }

    fn note(&self, path: &[u8], how: How) -> Result<(), Error> {
        if let Some(listed) = self.target.spelling(path)?
            && listed != split(path).1
        {
            // Whoever comes second finds that the name is another's.
            let _is_first = self.claims.take(path, &listed, how);
        }
        Ok(())
    }

    /// Returns whether what stands in the place of a name is another one only in how it is listed.
    ///
    /// # Errors
    /// When it cannot be looked up.
    pub(crate) fn is_only_spelled(&self, path: &[u8]) -> Result<bool, Error> {
        let listed = self.target.spelling(path)?;
        Ok(listed.is_some() && self.target.namesake(path)? == listed)
    }

    /// Notes how the name of a file is listed, if that is otherwise than it was given, and what is
    /// there may be replaced or left alone.
    ///
    /// # Errors
    /// When there can be no such name.
    pub(crate) fn note_spelling(&self, path: &[u8]) -> Result<(), Error> {
        match self.existing {
            Existing::Refuse => Ok(()),
            Existing::Skip | Existing::Overwrite => self.note(path, How::Met),
        }
    }

    /// Refuses a name that something has in the target if that is another file of this copy.
    ///
    /// # Errors
    /// `TargetExists`; `Stopped`; what keeps it from being found out.
    pub(crate) fn check_spelling(&self, entry: &Entry, path: &[u8]) -> Result<(), Error> {
        if self.existing == Existing::Refuse || self.target.spelling(path)?.is_none() {
            return Ok(());
        }
        self.earlier_folders()?;
        if self.claims.is_taken(path) {
            return Err(clash(entry.display_path(), ANOTHER));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use crate::engine::Silent;
    use crate::engine::job::EngineSettings;
    use crate::engine::log::Log;
    use crate::engine::session::Session;
    use crate::engine::setup::reading_context;
    use crate::engine::telemetry::Telemetry;
    use crate::journal::{self, JobHead, Naming, Record};

    #[test]
    fn of_two_names_that_are_listed_as_one_the_first_has_the_place() {
        let claims = Claims::default();
        let take = |path, how| claims.take(path, b"name", how);
        assert!(take(b"a/name.", How::Met));
        assert!(take(b"a/name.", How::Met), "it is met again");
        assert!(claims.is_taken(b"a/name"));
        assert!(!take(b"a/name", How::Met));
        assert!(!take(b"a/name ", How::Recorded));
        // Another lane has come to it since it was made.
        assert!(!take(b"a/name", How::Found));
        // In another folder, and the other way round.
        assert!(!claims.is_taken(b"b/name"));
        assert!(take(b"name", How::Found) && !claims.is_taken(b"name"));
        assert!(!take(b"name.", How::Found));
    }

    #[test]
    fn what_was_recorded_makes_way_for_what_is_found_in_its_place() {
        let claims = Claims::default();
        let take = |path, how| claims.take(path, b"name", how);
        assert!(take(b"name.", How::Recorded));
        assert!(!take(b"name", How::Met), "it may be there");
        assert!(take(b"name", How::Found));
        assert!(!take(b"name.", How::Recorded));
        assert!(!take(b"name.", How::Met) && !take(b"name.", How::Found));
        assert!(!claims.is_taken(b"name"));
    }

    #[test]
    fn who_is_to_stop_does_not_note_all_of_a_journal_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let head = JobHead {
            job: "job".to_owned(),
            options: [0; 32],
            target: journal::Identity::default(),
        };
        let mut writer = journal::create(folder.as_fd(), dir.path(), &head).unwrap();
        let naming = Naming {
            source: 0,
            target_path: b"folder/file",
            target_stamp: journal::TargetStamp::default(),
        };
        writer
            .append(&Record::Naming(naming), Instant::now())
            .unwrap();
        writer.commit().unwrap();
        drop(writer);
        for stops in [false, true] {
            let session = Session {
                stop: Arc::new(AtomicBool::new(stops)),
                observer: Arc::new(Silent),
            };
            let telemetry = Arc::new(Telemetry::new(Vec::new()));
            let settings = EngineSettings::default();
            let (loaded, writer) = journal::open(folder.as_fd(), dir.path()).unwrap();
            let log = Log::new(writer, Some(loaded), vec![0], true);
            let context = reading_context(&session, &telemetry, &settings).unwrap();
            let context = context.again(Arc::new(log), None);
            for _again in 0..2 {
                match context.earlier_folders() {
                    Ok(folders) => assert!(!stops && folders.unwrap().has(b"folder")),
                    Err(error) => assert!(stops && context.is_of_stop(&error), "{error}"),
                }
            }
        }
    }

    #[test]
    fn all_folders_above_a_file_are_known_and_nothing_else() {
        let mut folders = Folders::default();
        let told = RefCell::new(Vec::new());
        let note = |path: &[u8], IsFolder(is_folder)| {
            assert!(is_folder);
            told.borrow_mut().push(path.to_vec());
            ControlFlow::Continue(())
        };
        for path in [&b"a./b /c"[..], b"a./b /d", b"top"] {
            assert!(folders.add(path, &note).is_continue());
        }
        assert_eq!(*told.borrow(), [&b"a."[..], b"a./b "]);
        for (path, is_known) in [
            (&b"a."[..], true),
            (b"a./b ", true),
            (b"a./b /c", false),
            (b"a", false),
            (b"a./b", false),
            (b"top", false),
            (b"", false),
        ] {
            assert_eq!(folders.has(path), is_known, "{}", path.escape_ascii());
        }
    }
}
