//! Admitting an entry: is it done already, is its name free, may what is there be replaced.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;

use super::Lane;
use super::again::as_it_is;
use super::begin::source_changed;
use crate::digest::Hash;
use crate::engine::commit::What;
use crate::engine::elsewhere::{Elsewhere, There};
use crate::engine::job::Existing;
use crate::engine::links::First;
use crate::engine::standing::{Copied, Standing};
use crate::error::{Error, ErrorKind, Side};
use crate::journal;
use crate::scan::{Entry, Kind};
use crate::seam;
use crate::target::{Sealed, TargetStamp, Vacancy, clash};

/// What is said of a file that changed after this run copied it.
const CHANGED_MEANWHILE: &str = "it changed while its drive was away: what it was before is copied; \
                                 run again for what it is now";

impl Lane<'_> {
    /// Decides by what earlier runs recorded, and by what is at its name in the target:
    /// `Some(replace)` to go on, `None` to skip.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<Option<bool>, Error> {
        let has_others = !self.context.around.elsewhere.is_empty();
        if has_others && self.is_elsewhere(entry, &entry.target_path())? {
            return Ok(None);
        }
        // A directory this run made holds nothing else. (A name that comes twice is refused when
        // it is published.)
        if entry.dir.is_fresh() {
            return Ok(Some(false));
        }
        let path = entry.target_path();
        let vacancy = self.stager.vacancy(&path)?;
        let standing = self.standing(entry, &path, vacancy)?;
        if standing != Standing::New {
            self.context.note_spelling(&path)?;
        }
        let renewed = match standing {
            Standing::New => self.renewed(entry, &path, vacancy),
            _ => None,
        };
        journal::check_pages()?;
        let finishes = self.context.around.finishes.is_some();
        if let Some(copied) = renewed {
            if copied.lacks && !finishes {
                self.set_again(entry, path, copied)?;
            } else {
                self.renew(entry, copied.digest, as_it_is(&path, copied));
            }
            return Ok(None);
        }
        let is_known = matches!(
            standing,
            Standing::Done(_) | Standing::Other(..) | Standing::Unknown
        ) || matches!(standing, Standing::Unrecorded(_)) && entry.kind == Kind::File;
        if finishes && !is_known {
            // Nothing is copied any more; what came since is for the next run.
            return Ok(None);
        }
        match standing {
            Standing::New => self.admit_new(entry, path, vacancy),
            Standing::Done(copied) if copied.lacks && !finishes && !self.has_counted(&path) => {
                self.set_again(entry, path, copied)?;
                Ok(None)
            }
            Standing::Done(copied) => {
                self.keep(entry, path, copied);
                Ok(None)
            }
            // Its record and its line in the manifest stay true of what is in the target.
            Standing::Changed if self.has_counted(&path) => {
                let error = source_changed(entry, CHANGED_MEANWHILE);
                let outcomes = &self.context.outcomes;
                outcomes.problem_of_file(self.number, entry, &error);
                Ok(None)
            }
            Standing::Changed => {
                let shown = entry.display_path();
                let line = format!(
                    "{}: changed since an earlier run copied it; copied again",
                    shown.display()
                );
                self.context.session.observer.note(&line);
                Ok(Some(true))
            }
            // It has no bytes to be read again.
            Standing::Other(_, true) if !finishes && !self.has_counted(&path) => Ok(Some(true)),
            Standing::Other(stamp, lacks) => {
                if !self.has_counted(&path) {
                    self.counters.others_kept.fetch_add(1, Relaxed);
                }
                self.know(entry, path, None, (stamp, lacks));
                Ok(None)
            }
            // Where a target may have no room for it twice, its bytes are asked first.
            Standing::Unknown
                if self.context.around.is_one_of_several && entry.kind == Kind::File =>
            {
                let stamp = vacancy.stamp().unwrap_or_default();
                let is_kept = self.keep_if_same(entry, &path, stamp)?;
                Ok((!is_kept && !finishes).then_some(true))
            }
            Standing::Unknown => Ok((!finishes).then_some(true)),
            Standing::Unrecorded(stamp) if finishes => {
                // Where it was never acknowledged, the run into the next target tells of it.
                if !self.keep_if_same(entry, &path, stamp)? && self.is_done(&path) {
                    return Err(not_copied(entry));
                }
                Ok(None)
            }
            Standing::Unrecorded(stamp) => self.admit_unrecorded(entry, path, vacancy, stamp),
        }
    }

    /// Returns what earlier runs left of an entry, given what is under its name now.
    fn standing(&self, entry: &Entry, path: &[u8], vacancy: Vacancy) -> Result<Standing, Error> {
        let log = self.context.log.as_ref();
        let standing = log.map_or(Standing::New, |log| log.standing(entry, path, vacancy));
        // What is done under a name that is listed otherwise may be under that.
        if matches!(standing, Standing::Unrecorded(_))
            && self.namesake(path)?.is_some()
            && !(self.is_recorded(path) && self.context.is_only_spelled(path)?)
        {
            return Ok(Standing::New);
        }
        if standing == Standing::New && self.is_further_name(entry, path, vacancy) {
            return Ok(Standing::Unknown);
        }
        Ok(standing)
    }

    /// Returns whether an earlier run, of this copy or of one before, recorded a path as done.
    fn is_done(&self, path: &[u8]) -> bool {
        let earlier = self.context.earlier();
        earlier.is_some_and(|earlier| {
            earlier.done(path).is_some() || earlier.done_before(path).is_some()
        })
    }

    /// Returns whether an earlier run recorded a path as done, or was about to give it its name.
    fn is_recorded(&self, path: &[u8]) -> bool {
        let earlier = self.context.earlier();
        self.is_done(path) || earlier.is_some_and(|earlier| earlier.naming(path).is_some())
    }

    /// Returns the name that stands in the place of a path where something is, if it is another one:
    /// that may be another file of this very source.
    fn namesake(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.context.target.namesake(path)
    }

    /// Returns whether an entry is, or will be, on another target of the copy.
    fn is_elsewhere(&mut self, entry: &Entry, path: &[u8]) -> Result<bool, Error> {
        if entry.recorded.is_some() {
            return Ok(false);
        }
        let looked = self.context.around.look(entry, path)?;
        journal::check_pages()?;
        Ok(match looked {
            (There::Nothing, _) => false,
            (There::Whole, _)
                if entry.kind == Kind::File && self.context.around.is_first_met(entry) =>
            {
                self.counters.files_kept.fetch_add(1, Relaxed);
                let bytes = entry.stamp.size;
                self.counters.bytes_kept.fetch_add(bytes, Relaxed);
                self.remember(entry);
                true
            }
            (There::Whole, _) => {
                self.counters.others_kept.fetch_add(1, Relaxed);
                true
            }
            // What has its name there is not it.
            (There::Taken(_), _) if self.is_of_ours_here(entry, path)? => false,
            (There::Taken(_), _) if self.context.around.finishes.is_some() => true,
            (There::Taken(true), _) if self.context.existing == Existing::Skip => {
                self.counters.files_skipped.fetch_add(1, Relaxed);
                if entry.kind == Kind::File {
                    let bytes = entry.stamp.size;
                    self.counters.bytes_skipped.fetch_add(bytes, Relaxed);
                }
                true
            }
            (There::Taken(_), other) => {
                let label = other.map_or(Path::new(""), Elsewhere::label);
                let what = format!(
                    "its name is taken on {} by something that is not known to be the same; it is on \
                     no target as it is now: remove or rename that there, and run again",
                    label.display()
                );
                let path = entry.display_path();
                let error = Error::new(ErrorKind::TargetExists, Side::Target, path, &what);
                self.context.entry_failed(self.number, entry, &error);
                true
            }
            (There::Older, other) => {
                if let Some(other) = other.filter(|other| other.is_past())
                    && self.context.around.finishes.is_none()
                {
                    let what = format!(
                        "an older state of it is on {}, which has no room for the new one: remove or \
                         rename that there, and run again",
                        other.label().display()
                    );
                    let path = entry.display_path();
                    let error = Error::new(ErrorKind::TargetExists, Side::Target, path, &what);
                    self.context.entry_failed(self.number, entry, &error);
                }
                true
            }
        })
    }

    /// Returns whether an earlier run has put all of an entry here, as far as is known: where its bytes
    /// have to say so, they are asked when it is admitted.
    fn is_of_ours_here(&mut self, entry: &Entry, path: &[u8]) -> Result<bool, Error> {
        let there = self.stager.vacancy(path)?;
        let is_ours = match self.standing(entry, path, there)? {
            Standing::Done(_) | Standing::Other(..) | Standing::Unknown => true,
            Standing::Unrecorded(_) => self.is_recorded(path),
            Standing::New | Standing::Changed => false,
        };
        journal::check_pages()?;
        Ok(is_ours)
    }

    /// Decides for a name that no earlier run of this job is known to have given.
    fn admit_new(
        &mut self,
        entry: &Entry,
        path: Vec<u8>,
        vacancy: Vacancy,
    ) -> Result<Option<bool>, Error> {
        let taken = |what: &str| {
            let shown = entry.display_path();
            let mut error = Error::new(ErrorKind::TargetExists, Side::Target, shown, what);
            if vacancy == Vacancy::Dir {
                error = error.because(Errno::ISDIR);
            }
            error
        };
        if vacancy != Vacancy::Free
            && let Some(other) = self.namesake(&path)?
        {
            return Err(clash(entry.display_path(), &other));
        }
        if vacancy != Vacancy::Free {
            self.context.check_spelling(entry, &path)?;
        }
        match (vacancy, self.context.existing) {
            (Vacancy::Free, _) => {
                // Before it gets the name: who finds it there is to know whose it is.
                self.context.note_spelling(&path)?;
                Ok(Some(false))
            }
            (Vacancy::Dir, _) => Err(taken("a folder in the target has its name")),
            (_, Existing::Refuse) if seam::bug("replaces-unasked") => Ok(Some(true)),
            (_, Existing::Refuse) => Err(taken(
                "the name is taken in the target; nothing was overwritten",
            )),
            (_, Existing::Overwrite) => Ok(Some(true)),
            (_, Existing::Skip) => {
                self.skip(entry, path, vacancy);
                Ok(None)
            }
        }
    }

    /// Decides for a name that an earlier run may have given, when the record of it is lost: it is
    /// ours if its bytes are the source's, and is acknowledged then.
    fn admit_unrecorded(
        &mut self,
        entry: &Entry,
        path: Vec<u8>,
        vacancy: Vacancy,
        stamp: TargetStamp,
    ) -> Result<Option<bool>, Error> {
        match entry.kind {
            Kind::File => {}
            Kind::Symlink => {
                let there = self.stager.read_link(&path)?;
                if there != self.symlink_text(entry)? {
                    return self.admit_new(entry, path, vacancy);
                }
                self.counters.others_kept.fetch_add(1, Relaxed);
                self.know(entry, path, None, (stamp, false));
                return Ok(None);
            }
            // It has no bytes to lose.
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                return Ok(Some(true));
            }
        }
        if self.keep_if_same(entry, &path, stamp)? {
            return Ok(None);
        }
        self.admit_new(entry, path, vacancy)
    }

    /// Reads a file in its source and in the target; acknowledges what is there if it is the same.
    fn keep_if_same(
        &mut self,
        entry: &Entry,
        path: &[u8],
        stamp: TargetStamp,
    ) -> Result<bool, Error> {
        let here = self.digest_of_source(entry)?;
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        let is_it = self.stager.read_published(path, stamp, &mut put)?;
        if !is_it || hasher.finalize() != here {
            return Ok(false);
        }
        // The record of what it lacks may be lost as well.
        let again = match self.attributes_again(entry, path, stamp) {
            Ok(again) => again,
            Err(error) => {
                // It is what it is all the same.
                self.not_set(entry, error)?;
                let mut sealed = Sealed::kept(path.to_vec(), Some(stamp));
                sealed.lacks = true;
                Some(sealed)
            }
        };
        let Some(sealed) = again else {
            return Ok(false);
        };
        self.commit_kept(entry, What::File(here), sealed);
        Ok(true)
    }

    /// Returns whether this run counted it before its drive went away.
    pub(super) fn has_counted(&self, path: &[u8]) -> bool {
        let log = self.context.log.as_ref();
        log.is_some_and(|log| log.has_counted(path, |stamp| stamp))
    }

    /// Counts a file that an earlier run copied, and remembers it for its further names.
    pub(super) fn keep(&mut self, entry: &Entry, path: Vec<u8>, copied: Copied) {
        let log = self.context.log.as_ref();
        // Where its time was set again, it is still what the earlier run copied.
        if !log.is_some_and(|log| log.has_counted(&path, |stamp| stamp.ino)) {
            self.counters.files_kept.fetch_add(1, Relaxed);
            let bytes = entry.stamp.size;
            self.counters.bytes_kept.fetch_add(bytes, Relaxed);
        }
        self.remember(entry);
        let known = (copied.stamp, copied.lacks);
        self.know(entry, path, Some(copied.digest), known);
    }

    /// Remembers what is there for further names of its inode: what it is recognised by, and whether
    /// it lacks attributes.
    pub(super) fn know(
        &self,
        entry: &Entry,
        path: Vec<u8>,
        digest: Option<Hash>,
        (stamp, lacks): (TargetStamp, bool),
    ) {
        if let Some(links) = self.context.links.as_ref().filter(|_| entry.nlink > 1) {
            let first = First {
                path,
                digest,
                stamp: Some(stamp),
                lacks,
            };
            links.keep(self.number, entry, first);
        }
    }

    /// Leaves alone what is there. A further name of the same inode can still become a link to
    /// it, if it looks the same: with `--existing skip` the user takes it for the same file.
    fn skip(&mut self, entry: &Entry, path: Vec<u8>, vacancy: Vacancy) {
        self.counters.files_skipped.fetch_add(1, Relaxed);
        if entry.kind == Kind::File {
            let bytes = entry.stamp.size;
            self.counters.bytes_skipped.fetch_add(bytes, Relaxed);
        }
        let alike = matches!(vacancy, Vacancy::File(there)
            if (there.size, there.mtime) == (entry.stamp.size, entry.stamp.mtime));
        if let Some(links) = self
            .context
            .links
            .as_ref()
            .filter(|_| entry.nlink > 1 && alike)
        {
            let first = First {
                path,
                digest: None,
                stamp: vacancy.stamp(),
                lacks: false,
            };
            links.keep(self.number, entry, first);
        }
    }
}

/// Returns that something else is in the place of what was copied.
fn not_copied(entry: &Entry) -> Error {
    let what = "what has its name in the target is not what was copied: remove or rename that there, and \
                run again";
    let path = entry.display_path();
    Error::new(ErrorKind::TargetExists, Side::Target, path, what)
}
