//! Sources that a job was asked for and has not begun with: they were left out.

use std::path::{Path, PathBuf};

use super::copy::Asked;
use super::opening::known_sources;
use super::recipe::{JOB_FILE, Recipe};
use crate::error::{Error, ErrorKind, Side};
use crate::journal::Loaded;
use crate::plan::Source;
use crate::scan::as_path;
use crate::target::Home;

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns where the sources of a journal were.
fn recorded(recipe: &Recipe, loaded: &Loaded) -> Vec<PathBuf> {
    let sources = loaded.sources();
    let labels = sources.map(|source| whole(&recipe.path(&as_path(&source.label))));
    labels.collect()
}

/// Returns whether a job has a source that was left out when it was begun, that no run has recorded
/// since, and that is not given now, nor the same by another path.
///
/// # Errors
/// `Refused` when one is given and another file system, or none, is mounted there by now: the folder
/// that it was mounted at would pass for it.
pub(super) fn is_owed(
    recipe: &Recipe,
    loaded: &Loaded,
    numbers: &[u32],
    sources: &[Source],
    asked: Asked<'_>,
) -> Result<bool, Error> {
    let recorded = recorded(recipe, loaded);
    let first_new = known_sources(loaded);
    let mut is_owed = false;
    for (path, was) in recipe.left_out() {
        let path = whole(&path);
        if recorded.contains(&path) {
            continue;
        }
        let mut given = sources.iter().zip(numbers);
        let given = given.find(|(source, _)| whole(&source.label) == path);
        let Some((source, number)) = given else {
            let here = sources.iter();
            let mut here = here.filter_map(|source| asked.mounted.get(&source.label));
            let is_here = was.is_some_and(|was| here.any(|now| was.is_also(now)));
            is_owed |= !is_here;
            continue;
        };
        let now = asked.mounted.get(&source.label);
        let is_it = match was {
            _ if *number < first_new => Ok(()),
            Some(was) => was.check(now),
            None => Err("what was mounted there is not known".to_owned()),
        };
        if let Err(why) = is_it {
            let what = format!(
                "this source was left out when the copy was begun, and {why}: mount it as it was, or \
                 give the command without it"
            );
            let (kind, side) = (ErrorKind::Refused, Side::Source);
            return Err(Error::new(kind, side, &source.label, &what));
        }
    }
    Ok(is_owed)
}

/// Notes in the recipe of a job that is gone on with what this run adds to it: sources of a copy that
/// has further targets, which may have been named since, and sources that are left out and are in no
/// record yet. Else it says what it said. `is_known` tells of the sources of this run which of them
/// earlier ones had.
///
/// # Errors
/// When it cannot be expressed; not when it cannot be written.
pub(super) fn note(
    home: &Home,
    recipe: Recipe,
    earlier: &Loaded,
    is_known: &dyn Fn(&Path) -> bool,
) -> Result<(), Error> {
    let before = Recipe::load(home.job(), &home.job_label()).ok();
    let of_several = known_sources(earlier) > 0 && !recipe.job().spill.is_empty();
    let recorded = recorded(before.as_ref().unwrap_or(&recipe), earlier);
    let is_noted = |path: &Path| {
        let owed = before.iter().flat_map(Recipe::left_out);
        let mut noted = owed.map(|(path, _)| whole(&path)).chain(recorded.clone());
        noted.any(|noted| noted == path)
    };
    let is_news = recipe.left_out().any(|(path, _)| !is_noted(&whole(&path)));
    if !of_several && !is_news {
        return Ok(());
    }
    let recipe = match &before {
        Some(before) => recipe.going_on(before, &|path| {
            !is_known(path) && !recorded.contains(&whole(path))
        }),
        None => recipe,
    };
    let json = recipe.to_json()?;
    let _best_effort = home.write_record(JOB_FILE, &json);
    Ok(())
}
