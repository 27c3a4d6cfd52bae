//! The sources of a recipe that were left out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Bytes, Recipe, from};
use crate::engine::mounted::Mounted;

/// A source that was left out when the job was begun: it is in no journal.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Owed {
    /// As it was typed; [`Recipe::left_out`] gives a path of use here.
    pub(in crate::engine) path: PathBuf,
    /// What was mounted there, as far as it was known.
    pub(in crate::engine) on: Option<Mounted>,
    /// How many sources the journal had when it was left out; `None` if that was not written down.
    pub(in crate::engine) after: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenOwed {
    path: Bytes,
    on: Option<Mounted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u32>,
}

impl WrittenOwed {
    pub(super) fn of(owed: &Owed) -> Self {
        Self {
            path: Bytes::of_path(&owed.path),
            on: owed.on.clone(),
            after: owed.after,
        }
    }

    pub(super) fn owed(self) -> Result<Owed, String> {
        Ok(Owed {
            path: self.path.path()?,
            on: self.on,
            after: self.after,
        })
    }
}

/// Whether what is known of two shows that they are not one.
fn differ(one: Option<&Mounted>, other: Option<&Mounted>) -> bool {
    one.zip(other)
        .is_some_and(|(one, other)| one.differs(other))
}

impl Recipe {
    /// Says which sources are left out, and what is mounted where each of them is.
    #[must_use]
    pub(in crate::engine) fn without<'m>(
        self,
        left_out: impl Iterator<Item = (&'m Path, Option<&'m Mounted>)>,
    ) -> Self {
        let owed = |(path, on): (&Path, Option<&Mounted>)| Owed {
            path: path.to_owned(),
            on: on.cloned(),
            after: None,
        };
        let left_out = left_out.map(owed).collect();
        Self { left_out, ..self }
    }

    /// Says how many sources the journal has when those are left out.
    #[must_use]
    pub(in crate::engine) fn after(mut self, sources: u32) -> Self {
        for owed in &mut self.left_out {
            owed.after = Some(sources);
        }
        self
    }

    /// Returns the sources that were left out, by paths of use here.
    pub(in crate::engine) fn left_out(&self) -> impl Iterator<Item = Owed> {
        self.left_out.iter().map(|owed| Owed {
            path: self.path(&owed.path),
            ..owed.clone()
        })
    }

    /// Returns whether what is left out at a path was left out there before, for all that is known.
    pub(in crate::engine) fn owes(&self, path: &Path, on: Option<&Mounted>) -> bool {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut owed = self.left_out.iter();
        owed.any(|owed| {
            whole(&self.path(&owed.path)) == whole(path) && !differ(owed.on.as_ref(), on)
        })
    }

    /// Returns this recipe of a run that goes on with the job of another: with all sources that one
    /// names, and those of this one that are new to the job.
    pub(in crate::engine) fn going_on(
        mut self,
        before: &Self,
        is_new: &dyn Fn(&Path, Option<&Mounted>) -> bool,
    ) -> Self {
        let place = |path: &PathBuf| {
            if before.folder == self.folder {
                path.clone()
            } else {
                from(&before.folder, path)
            }
        };
        let mut sources: Vec<PathBuf> = before.job.sources.iter().map(place).collect();
        for path in &self.job.sources {
            let owed = self.left_out.iter().find(|owed| owed.path == *path);
            let was = owed.and_then(|owed| owed.on.as_ref());
            if is_new(path, was) && !sources.contains(path) {
                sources.push(path.clone());
            }
        }
        self.job.sources = sources;
        // What was said first of one that is left out once more stands.
        let owed = before.left_out.iter().map(|owed| Owed {
            path: place(&owed.path),
            ..owed.clone()
        });
        let mut left_out: Vec<Owed> = owed.collect();
        for owed in self.left_out {
            let is_it =
                |it: &Owed| it.path == owed.path && !differ(it.on.as_ref(), owed.on.as_ref());
            if is_new(&owed.path, owed.on.as_ref()) && !left_out.iter().any(is_it) {
                left_out.push(owed);
            }
        }
        self.left_out = left_out;
        self
    }

    /// Takes sources that were left out from this. A path stays as long as another was left out there.
    #[must_use]
    pub(in crate::engine) fn without_any(
        mut self,
        is_out: &dyn Fn(&Path, Option<&Mounted>) -> bool,
    ) -> Self {
        let (out, stay): (Vec<Owed>, Vec<Owed>) = std::mem::take(&mut self.left_out)
            .into_iter()
            .partition(|owed| is_out(&self.path(&owed.path), owed.on.as_ref()));
        let has = |owed: &[Owed], path: &PathBuf| owed.iter().any(|it| it.path == *path);
        let is_gone = |path: &PathBuf| has(&out, path) && !has(&stay, path);
        self.job.sources.retain(|path| !is_gone(path));
        self.left_out = stay;
        self
    }
}
