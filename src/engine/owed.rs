//! Sources that a job was asked for and has not begun with: they were left out.

use std::path::{Path, PathBuf};

use super::copy::Asked;
use super::mounted::{Likely, Mounted};
use super::opening::known_sources;
use super::recipe::{JOB_FILE, Recipe};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::{self, Identity, Loaded};
use crate::plan::Source;
use crate::scan::as_path;
use crate::target::Home;
use crate::topology::Topology;

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where the sources of a journal were, and what they are.
pub(super) struct Recorded(Vec<(PathBuf, Identity)>);

impl Recorded {
    pub(super) fn of(recipe: &Recipe, sources: impl Iterator<Item = journal::Source>) -> Self {
        let path = |label: &[u8]| whole(&recipe.path(&as_path(label)));
        let sources = sources.map(|source| (path(&source.label), source.identity));
        Self(sources.collect())
    }

    /// Returns whether what was left out at a path can be the source that was recorded there: other
    /// drives may have been there since.
    pub(super) fn has(&self, path: &Path, was: Option<&Mounted>) -> bool {
        let path = whole(path);
        let mut there = self.0.iter().filter(|(other, _)| *other == path);
        there.any(|(_, identity)| was.is_none_or(|was| was.may_be(identity)))
    }
}

/// What is to come of the sources that were left out when a job was begun.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// Whether there is one that no run has recorded since, and that is not given now.
    pub(super) is_owed: bool,
    /// Those that are given by another path now.
    pub(super) given: Vec<PathBuf>,
}

/// Returns what is owed of a job, given these sources. `note` is told what was taken for a source
/// that was left out and may not be it.
///
/// What the job had when it was left out, or took as a source of its own since, is not it: drives
/// that are images of each other have one UUID.
///
/// # Errors
/// `Refused` when one is given and another file system, or none, is mounted there by now: the folder
/// that it was mounted at would pass for it.
pub(super) fn owing(
    recipe: &Recipe,
    loaded: &Loaded,
    numbers: &[u32],
    sources: &[Source],
    asked: Asked<'_>,
    topology: &Topology,
    note: &dyn Fn(&str),
) -> Result<Owing, Error> {
    let recorded = Recorded::of(recipe, loaded.sources());
    let first_new = known_sources(loaded);
    let named = recipe.job().sources.iter();
    let named: Vec<PathBuf> = named.map(|path| whole(&recipe.path(path))).collect();
    let owed = recipe.left_out().map(|(path, was)| (whole(&path), was));
    let owed = owed.filter(|(path, was)| !recorded.has(path, *was));
    let owed: Vec<(PathBuf, Option<&Mounted>)> = owed.collect();
    let mut owing = Owing::default();
    let mut taken: Vec<(PathBuf, &Mounted)> = Vec::new();
    for (path, was) in &owed {
        let mut given = sources.iter().zip(numbers);
        let given = given.find(|(source, _)| whole(&source.label) == *path);
        let Some((source, &number)) = given else {
            // None stands for two, unless they were in one place.
            let is_free = |label: &Path, was: &Mounted| {
                let label = whole(label);
                let mut as_owed = owed.iter().filter(|(other, _)| *other == label);
                let mut as_taken = taken.iter().filter(|(other, _)| *other == label);
                as_taken.all(|(_, other)| *other == was)
                    && (!named.contains(&label) || as_owed.any(|(_, other)| *other == Some(was)))
            };
            let is_it = |source: &Source, was: &Mounted| {
                let now = asked.mounted.get(&source.label);
                now.is_some_and(|now| was.is_also(now, topology)) && is_free(&source.label, was)
            };
            let mut new = sources.iter().zip(numbers);
            let new = new.find(|(source, number)| {
                **number >= first_new && was.is_some_and(|was| is_it(source, was))
            });
            match new.zip(*was) {
                Some(((source, _), was)) => {
                    note(&format!(
                        "{}: left out as {} before, known by its UUID",
                        source.label.display(),
                        path.display()
                    ));
                    taken.push((whole(&source.label), was));
                    owing.given.push(path.clone());
                }
                None => owing.is_owed = true,
            }
            continue;
        };
        let unknown = || Likely::Other("what was mounted there is not known".to_owned());
        let now = asked.mounted.get(&source.label);
        let likely = was.map_or_else(unknown, |was| was.check(now, topology));
        if number < first_new {
            let mut known = loaded.sources().filter(|source| source.index == number);
            let is_another = known.any(|source| {
                let label = whole(&recipe.path(&as_path(&source.label)));
                named.contains(&label)
            });
            owing.is_owed |= is_another || likely != Likely::Same;
            continue;
        }
        match likely {
            Likely::Same => {}
            Likely::MayBe(why) => note(&format!(
                "{}: {why}; it is taken for it, as it is given",
                source.label.display()
            )),
            Likely::Other(why) => {
                let what = format!(
                    "this source was left out when the copy was begun, and {why}: mount it as it was, \
                     or give the command without it"
                );
                let (kind, side) = (ErrorKind::Refused, Side::Source);
                return Err(Error::new(kind, side, &source.label, &what));
            }
        }
    }
    Ok(owing)
}

/// Notes in the recipe of a job that is gone on with what this run adds to it: sources of a copy that
/// has further targets, which may have been named since, and sources that are left out and are in no
/// record yet. Those that are `given` by another path are taken out. Else it says what it said.
/// `is_known` tells of the sources of this run which of them earlier ones had.
///
/// # Errors
/// When it cannot be expressed; not when it cannot be written.
pub(super) fn note(
    home: &Home,
    recipe: Recipe,
    earlier: &Loaded,
    given: &[PathBuf],
    is_known: &dyn Fn(&Path) -> bool,
) -> Result<(), Error> {
    let before = Recipe::load(home.job(), &home.job_label()).ok();
    let of_several = known_sources(earlier) > 0 && !recipe.job().spill.is_empty();
    let recorded = Recorded::of(before.as_ref().unwrap_or(&recipe), earlier.sources());
    let is_noted = |path: &Path, was: Option<&Mounted>| {
        let mut owed = before.iter().flat_map(Recipe::left_out);
        recorded.has(path, was) || owed.any(|(noted, _)| whole(&noted) == whole(path))
    };
    let is_news = recipe.left_out().any(|(path, was)| !is_noted(&path, was));
    if !of_several && !is_news && given.is_empty() {
        return Ok(());
    }
    let recipe = match &before {
        Some(before) => {
            let goes_on = recipe.going_on(before, &|path, was| {
                !is_known(path) && !recorded.has(path, was)
            });
            goes_on.without_any(&|path| given.contains(&whole(path)))
        }
        None => recipe,
    };
    let json = recipe.to_json()?;
    let _best_effort = home.write_record(JOB_FILE, &json);
    Ok(())
}
