//! Attributes again: of files that are done, but for what could not be read or set of those.

use super::Lane;
use super::begin::source_changed;
use crate::digest::Hash;
use crate::engine::commit::{Commit, Item, What};
use crate::engine::log::lasting;
use crate::engine::standing::{Copied, is_of_unknown};
use crate::error::{Error, ErrorKind, Reach, Side};
use crate::journal::Loaded;
use crate::scan::{Attributes, Entry};
use crate::target::{Sealed, TargetStamp, Vacancy, keeps_inodes};

impl Lane<'_> {
    /// Sets the attributes of a file once more that an earlier run copied without some of them. What
    /// it still lacks is told of again. The file stays done, whatever comes of it.
    ///
    /// # Errors
    /// What is about more than this file.
    pub(super) fn set_again(
        &mut self,
        entry: &Entry,
        path: Vec<u8>,
        copied: Copied,
    ) -> Result<(), Error> {
        let set = match self.try_again(entry, &path, copied) {
            Ok(set) => set,
            Err(error) => {
                self.not_set(entry, error)?;
                self.is_news(&path, copied).then(|| as_it_is(&path, copied))
            }
        };
        match set {
            Some(sealed) => self.renew(entry, copied.digest, sealed),
            // The journal has it as it is; or in doubt, and then the next run looks at it.
            None => self.keep(entry, path, copied),
        }
        Ok(())
    }

    /// Acknowledges a file that an earlier run copied as it is now.
    pub(super) fn renew(&self, entry: &Entry, digest: Hash, sealed: Sealed) {
        let known = (sealed.stamp.unwrap_or_default(), sealed.lacks);
        self.know(entry, sealed.target_path.clone(), Some(digest), known);
        self.commit_kept(entry, What::Kept(digest), sealed);
    }

    /// Returns what is at a further name of a file, if that is done but for the time it had when it was
    /// recorded: it got another since, by another name of it.
    pub(super) fn renewed(&self, entry: &Entry, path: &[u8], now: Vacancy) -> Option<Copied> {
        let links = self.context.links.as_ref().filter(|_| entry.nlink > 1)?;
        let log = self.context.log.as_ref()?;
        let done = log.earlier()?.done(path)?;
        let first = links.there(entry)?;
        let stamp = first.stamp.filter(|stamp| now == Vacancy::File(*stamp))?;
        let tree = entry.dir.tree();
        let is_of_it =
            done.source == log.number_of(tree) && done.source_stamp == lasting(entry.stamp, tree);
        let is_it = is_of_it
            && first
                .digest
                .is_some_and(|digest| *digest.as_bytes() == done.digest)
            && (done.target_stamp.ino, done.target_stamp.size) == (stamp.ino, stamp.size);
        is_it.then_some(Copied {
            stamp,
            lacks: first.lacks,
            ..Copied::of(&done)
        })
    }

    /// Returns a file as it is now, with what it is recognised by, and whether it lacks attributes;
    /// `None` if nothing of that is news.
    fn try_again(
        &mut self,
        entry: &Entry,
        path: &[u8],
        copied: Copied,
    ) -> Result<Option<Sealed>, Error> {
        let attributes = self.attributes_now(entry)?;
        if attributes.unread.is_some() {
            // What is there may be right: an ACL that only could not be read now would go, and the file
            // be open to its group.
            self.context
                .outcomes
                .unread(self.number, entry, &attributes);
            return Ok(self.is_news(path, copied).then(|| as_it_is(path, copied)));
        }
        let keeps_time = self.keeps_time(copied.stamp, &attributes);
        if !keeps_time {
            if let Some(why) = self.keeps_times_of(entry, copied) {
                self.lacks(entry, why);
                return Ok(self.is_news(path, copied).then(|| as_it_is(path, copied)));
            }
            let earlier = self.context.earlier();
            let done = earlier.and_then(|earlier| earlier.done(path));
            if let (Some(log), Some(done)) = (&self.context.log, done) {
                // After a stop it must be ours with either time. (Its other names follow, each in its
                // turn, or in the next run: see `renewed`.)
                log.doubted(&[done])?;
            }
        }
        let set = self.stager.set_again(path, copied.stamp, &attributes)?;
        let Some((applied, stamp)) = set else {
            self.lacks(entry, "it was changed in the target since it was looked at");
            return Ok(None);
        };
        let outcomes = &self.context.outcomes;
        outcomes.applied(self.number, entry, &attributes, &applied);
        let sealed = Sealed::kept(path.to_owned(), Some(stamp)).lacking(&applied, &attributes);
        if sealed.lacks && keeps_time && !self.is_news(path, copied) {
            // It is tried again when its drive is put back.
            outcomes.forgone_anew(self.number, sealed.forgone);
            return Ok(None);
        }
        Ok(Some(sealed))
    }

    /// Returns why the times of a file must stay as they are: its other names would not be known again.
    fn keeps_times_of(&self, entry: &Entry, copied: Copied) -> Option<&'static str> {
        let links = self.context.links.as_ref().filter(|_| entry.nlink > 1)?;
        if !links.can_keep() {
            return Some(
                "its times stay as they are, for it is one of very many hard links: its other names \
                 would not be known again",
            );
        }
        let first = links.met(entry)?;
        // What lacks nothing has the times it is to have, as the target keeps them: cut, maybe.
        let is_known_by_them = first.lacks && first.stamp == Some(copied.stamp);
        is_known_by_them.then_some(
            "its times stay as they are in this run, for those of another name of it could not be set",
        )
    }

    /// Returns whether a name was given by an earlier run, failed since, and leads to where the first
    /// name of its file does now, that has got other times. It may be made anew.
    pub(super) fn is_further_name(&self, entry: &Entry, path: &[u8], now: Vacancy) -> bool {
        let links = self.context.links.as_ref().filter(|_| entry.nlink > 1);
        let first = links.and_then(|links| links.there(entry)?.stamp);
        let earlier = self.context.earlier();
        let failed = earlier.and_then(|earlier| earlier.left_behind(path));
        first.zip(failed).is_some_and(|(first, failed)| {
            now == Vacancy::File(first) && (failed.ino, failed.size) == (first.ino, first.size)
        })
    }

    /// Returns whether the journal knows a file by another time than it has: a further name of what
    /// got its time by its first. (See [`renewed`](Self::renewed).)
    fn is_news(&self, path: &[u8], copied: Copied) -> bool {
        let earlier = self.context.earlier();
        let done = earlier.and_then(|earlier| earlier.done(path));
        done.is_some_and(|done| Copied::of(&done).stamp != copied.stamp)
    }

    /// Tells why the attributes of a file that is there were not set, unless that is about more than
    /// this file: then it is returned.
    pub(super) fn not_set(&mut self, entry: &Entry, error: Error) -> Result<(), Error> {
        let is_of_more = error.kind() == ErrorKind::TargetFull
            || error.kind().reach() != Reach::File
            || self.is_of_drive(&error)
            || self.context.is_of_target(&error);
        match error.kind() {
            _ if is_of_more => return Err(error),
            ErrorKind::SourceChanged => self.tell_of(entry, &error),
            _ => self.lacks(entry, &error.reason()),
        }
        Ok(())
    }

    /// Returns the attributes of a file that is as it was when it was listed.
    fn attributes_now(&mut self, entry: &Entry) -> Result<Attributes, Error> {
        let opened = self.open(entry)?;
        if opened.stamp() != entry.stamp {
            let what = "it changed since it was listed; it is there, and its attributes were not set \
                        again";
            return Err(source_changed(entry, what));
        }
        Ok(self.attributes_of(&opened))
    }

    /// Sets the attributes of a file again that was just found to have the bytes of its source, if
    /// that leaves it recognisable. Returns it as it is then; `None` when it is not what was read any
    /// more.
    pub(super) fn attributes_again(
        &mut self,
        entry: &Entry,
        path: &[u8],
        stamp: TargetStamp,
    ) -> Result<Option<Sealed>, Error> {
        let attributes = self.attributes_now(entry)?;
        let mut sealed = Sealed::kept(path.to_vec(), Some(stamp));
        if attributes.unread.is_some() {
            self.context
                .outcomes
                .unread(self.number, entry, &attributes);
            sealed.lacks = true;
            return Ok(Some(sealed));
        }
        if !self.keeps_time(stamp, &attributes) {
            sealed.lacks = !self.has_all(path);
            if sealed.lacks {
                self.lacks(entry, "its time is not its source's");
            }
            return Ok(Some(sealed));
        }
        let Some((applied, now)) = self.stager.set_again(path, stamp, &attributes)? else {
            return Ok(None);
        };
        let outcomes = &self.context.outcomes;
        outcomes.applied(self.number, entry, &attributes, &applied);
        sealed.stamp = Some(now);
        Ok(Some(sealed.lacking(&applied, &attributes)))
    }

    /// Returns whether an earlier run recorded of a file that it lacks nothing.
    fn has_all(&self, path: &[u8]) -> bool {
        let earlier = self.context.earlier();
        let done = earlier.and_then(|earlier| earlier.done(path));
        // Without a stamp of its source the record knows nothing but its bytes.
        done.is_some_and(|done| !done.lacks && !is_of_unknown(done.source_stamp))
    }

    /// Acknowledges a file that has its name.
    pub(super) fn commit_kept(&self, entry: &Entry, what: What, sealed: Sealed) {
        let item = Item {
            lane: self.number,
            entry: entry.clone(),
            what,
            bytes: entry.stamp.size,
            tail: None,
        };
        self.outlets.commit(Commit { item, sealed });
    }

    /// Returns whether a file has the time that it is to have, as far as the target keeps it.
    fn keeps_time(&self, stamp: TargetStamp, attributes: &Attributes) -> bool {
        let log = self.context.log.as_ref();
        let earlier = log.and_then(|log| log.earlier());
        let is_cut = |loaded: &Loaded| !keeps_inodes(&loaded.head().target.fs_type);
        stamp.mtime == attributes.mtime
            || earlier.is_some_and(is_cut) && stamp.mtime.0.abs_diff(attributes.mtime.0) <= 2
    }

    /// Says of something that is there that it still lacks attributes.
    pub(super) fn lacks(&self, entry: &Entry, why: &str) {
        let what = format!("copied, but without some of its attributes: {why}");
        let error = Error::new(
            ErrorKind::Metadata,
            Side::Target,
            entry.display_path(),
            &what,
        );
        self.tell_of(entry, &error);
    }

    fn tell_of(&self, entry: &Entry, error: &Error) {
        let outcomes = &self.context.outcomes;
        outcomes.not_set_again(self.number, entry, error);
    }
}

/// Returns what is in the target, to be acknowledged as it is.
pub(super) fn as_it_is(path: &[u8], copied: Copied) -> Sealed {
    let mut sealed = Sealed::kept(path.to_owned(), Some(copied.stamp));
    sealed.lacks = copied.lacks;
    sealed
}
