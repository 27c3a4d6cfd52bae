//! Sources that a job was asked for and has not begun with: they were left out.

use std::path::{Path, PathBuf};

use super::copy::Asked;
use super::mounted::{Likely, Mounted};
use super::opening::known_sources;
use super::recipe::{JOB_FILE, Owed, Recipe};
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

    /// Returns what was left out and is not recorded since where it was. None stands for two.
    pub(super) fn owed(self, recipe: &Recipe) -> Vec<Owed> {
        let mut stands_for: Vec<Option<Option<Mounted>>> = vec![None; self.0.len()];
        let mut is_here = |owed: &Owed| {
            let path = whole(&owed.path);
            let mut records = self.0.iter().zip(&mut stands_for);
            let at = records.find(|((other, identity), it)| {
                *other == path
                    && owed.on.as_ref().is_none_or(|was| was.may_be(identity))
                    && it.as_ref().is_none_or(|it| *it == owed.on)
            });
            at.map(|(_, it)| *it = Some(owed.on.clone())).is_some()
        };
        recipe.left_out().filter(|owed| !is_here(owed)).collect()
    }
}

/// Returns whether a source of the journal is another than what was left out, for all that is known: the
/// job had it by then, or has it by that path. Drives that are images of each other have one UUID.
pub(super) fn is_another(recipe: &Recipe, owed: &Owed, source: &journal::Source) -> bool {
    let path = |path: &Path| whole(&recipe.path(path));
    let label = path(&as_path(&source.label));
    let was = owed.on.as_ref();
    if label == whole(&owed.path) {
        return true;
    }
    if was.is_some_and(|was| was.is_surely(&source.identity)) {
        return false;
    }
    let mut named = recipe.job().sources.iter();
    owed.after.map_or_else(
        || named.any(|other| path(other) == label),
        |after| source.index < after,
    )
}

/// Said of a source of a job that is where another was left out.
pub(super) const UNTOLD: &str = "another source of this job is there now, and nothing tells whether it \
     is what was left out there; the job stays open. If it may be an image of that, mount that one; to \
     be sure of what is there, copy it into another target";

/// What is to come of the sources that were left out when a job was begun.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// Whether there is one that no run has recorded since, and that is not given now.
    pub(super) is_owed: bool,
    /// Those that are given by another path now, and what was mounted there.
    pub(super) given: Vec<(PathBuf, Mounted)>,
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
    let left_out = recorded.owed(recipe);
    let entry = |owed: &Owed| (whole(&owed.path), owed.on.clone());
    let owed: Vec<(PathBuf, Option<Mounted>)> = left_out.iter().map(entry).collect();
    let check = |was: &Option<Mounted>, source: &Source| {
        let unknown = || Likely::Other("what was mounted there is not known".to_owned());
        let (was, now) = (was.as_ref(), asked.mounted.get(&source.label));
        was.map_or_else(unknown, |was| was.check(now, topology))
    };
    let mut owing = Owing::default();
    let mut taken: Vec<(PathBuf, &Mounted)> = Vec::new();
    // Several may have been left out at one path, one after the other: what is given is one of them.
    let mut met: Vec<(&Path, &Option<Mounted>)> = Vec::new();
    for ((path, was), entry) in owed.iter().zip(&left_out) {
        let mut given = sources.iter().zip(numbers);
        let given = given.find(|(source, _)| whole(&source.label) == *path);
        let Some((source, &number)) = given else {
            // None stands for two, unless they were in one place.
            let is_free = |label: &Path, was: &Mounted| {
                let label = whole(label);
                let mut as_owed = owed.iter().filter(|(other, _)| *other == label);
                let mut as_taken = taken.iter().filter(|(other, _)| *other == label);
                as_taken.all(|(_, other)| *other == was)
                    && (!named.contains(&label)
                        || as_owed.any(|(_, other)| other.as_ref() == Some(was)))
            };
            let is_it = |source: &Source, was: &Mounted| {
                let now = asked.mounted.get(&source.label);
                now.is_some_and(|now| was.is_also(now, topology)) && is_free(&source.label, was)
            };
            let mut new = sources.iter().zip(numbers);
            let is_new = |number: u32| number >= first_new && !has_part(loaded, entry, first_new);
            let new = new.find(|(source, number)| {
                is_new(**number) && was.as_ref().is_some_and(|was| is_it(source, was))
            });
            if let Some(((source, _), was)) = new.zip(was.as_ref()) {
                let (label, before) = (source.label.display(), path.display());
                note(&format!(
                    "{label}: left out as {before} before, known by its UUID"
                ));
                taken.push((whole(&source.label), was));
                owing.given.push((path.clone(), was.clone()));
            } else {
                owing.is_owed = true;
                let was = was.as_ref();
                let told = was.and_then(|was| elsewhere(path, was, sources, asked, topology));
                if let Some(line) = told {
                    note(&line);
                }
            }
            continue;
        };
        let label = source.label.display();
        let mut likely = check(was, source);
        let is_met = met.iter().any(|(at, it)| at == path && *it != was);
        if number < first_new {
            let mut known = loaded.sources().filter(|source| source.index == number);
            let is_another = is_met || known.any(|source| is_another(recipe, entry, &source));
            if let Some(why) = why_owed(&likely, is_another) {
                note(&format!("{label}: {why}"));
                owing.is_owed = true;
                continue;
            }
        }
        let others = || owed.iter().filter(|(other, _)| other == path);
        let fits = |(_, was): &(_, _)| !matches!(check(was, source), Likely::Other(_));
        if is_met || (matches!(likely, Likely::Other(_)) && others().any(fits)) {
            likely = Likely::Same;
            owing.is_owed = true;
        } else {
            met.push((path, was));
        }
        match likely {
            Likely::Same => {}
            Likely::MayBe(why) => note(&format!(
                "{label}: {why}; it is taken for it, as it is given"
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

/// Returns whether a job had a part of what may be the file system of a source when that was left out:
/// nobody knows then that what is given by another path is no image.
fn has_part(loaded: &Loaded, owed: &Owed, first_new: u32) -> bool {
    let after = owed.after.unwrap_or(first_new);
    let mut before = loaded.sources().filter(|source| source.index < after);
    owed.on.as_ref().is_some_and(|was| {
        before.any(|it| was.may_be(&it.identity) && !was.is_surely(&it.identity))
    })
}

/// Says why a source of a job that is where another was left out does not stand for that.
fn why_owed(likely: &Likely, is_another: bool) -> Option<String> {
    match likely {
        Likely::Other(why) => Some(format!(
            "another source was left out here before, and {why}; the job stays open for it"
        )),
        _ => is_another.then(|| UNTOLD.to_owned()),
    }
}

/// Says which of the sources that a job has may be what was left out at another path, if one may be.
fn elsewhere(
    path: &Path,
    was: &Mounted,
    sources: &[Source],
    asked: Asked<'_>,
    topology: &Topology,
) -> Option<String> {
    let source = sources.iter().find(|source| {
        let now = asked.mounted.get(&source.label);
        now.is_some_and(|now| was.is_also(now, topology))
    })?;
    Some(format!(
        "{}: it may be what was left out as {}, or an image of that: if it is it, mount it there and \
         give it so",
        source.label.display(),
        path.display()
    ))
}

/// Notes in the recipe of a job that is gone on with what this run adds to it: sources of a copy that
/// has further targets, which may have been named since, and sources that are left out and are in no
/// record yet. Those that are `given` by another path are taken out. Else it says what it said.
/// `is_known` tells of the sources of this run which of them earlier ones had.
///
/// # Errors
/// When it cannot be read or expressed; when it cannot be written, only if something is left out now.
pub(super) fn note(
    home: &Home,
    recipe: Recipe,
    earlier: &Loaded,
    given: &[(PathBuf, Mounted)],
    is_known: &dyn Fn(&Path) -> bool,
) -> Result<(), Error> {
    let before = Recipe::load_if_there(home.job(), &home.job_label())?;
    let of_several = known_sources(earlier) > 0 && !recipe.job().spill.is_empty();
    let recorded = Recorded::of(before.as_ref().unwrap_or(&recipe), earlier.sources());
    let is_noted = |owed: &Owed| {
        let (path, was) = (&*owed.path, owed.on.as_ref());
        recorded.has(path, was) || before.iter().any(|before| before.owes(path, was))
    };
    let is_news = recipe.left_out().any(|owed| !is_noted(&owed));
    if !of_several && !is_news && given.is_empty() {
        return Ok(());
    }
    let recipe = match &before {
        Some(before) => {
            let goes_on = recipe.going_on(before, &|path, was| {
                !is_known(path) && !recorded.has(path, was)
            });
            let goes_on = goes_on.with_points_of(before, known_sources(earlier));
            goes_on.without_any(&|path, was| {
                let mut given = given.iter();
                given.any(|(other, it)| *other == whole(path) && Some(it) == was)
            })
        }
        None => recipe,
    };
    let json = recipe.to_json()?;
    let written = home.write_record(JOB_FILE, &json);
    // Else nobody would know of what is left out now.
    if is_news { written } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::job::{CopyJob, EngineSettings, Existing, Preserve, Verify};
    use crate::plan::Trail;

    fn job(sources: &[&str]) -> CopyJob {
        CopyJob {
            sources: sources.iter().map(PathBuf::from).collect(),
            target: "/target".into(),
            spill: Vec::new(),
            filter: std::sync::Arc::default(),
            files_from: None,
            existing: Existing::Refuse,
            preserve: Preserve::default(),
            salvage: false,
            verify: Verify::None,
            resume: None,
            engine: EngineSettings::default(),
        }
    }

    /// What was left out at `/mnt/b`, with this UUID and serial number.
    fn owed(uuid: &str, serial: Option<&str>, after: Option<u32>) -> Owed {
        let line = b"30 20 8:17 / /mnt/b rw - ext4 /dev/sdb1 rw\n";
        let topology = Topology::with_roots(Path::new("/nonexistent"), line);
        let trail = Trail {
            at: "/mnt/b".into(),
            uuid: Some(((8, 17), uuid.to_owned())),
            ..Trail::default()
        };
        let on = Mounted::at(&topology, &trail).unwrap();
        Owed {
            path: "/mnt/b".into(),
            on: Some(on.with_serial(serial)),
            after,
        }
    }

    fn source(label: &str, index: u32, uuid: &str, serial: Option<&str>) -> journal::Source {
        journal::Source {
            index,
            identity: Identity {
                fs_uuid: Some(uuid.into()),
                fs_type: "ext4".to_owned(),
                serial: serial.map(str::to_owned),
                ..Identity::default()
            },
            label: label.into(),
            landing: Vec::new(),
        }
    }

    #[test]
    fn what_a_job_had_by_then_is_another_unless_its_serial_number_tells() {
        let recipe = Recipe::of(&job(&["/a", "/media/b"]));
        let is_another = |owed: &Owed, source| is_another(&recipe, owed, &source);
        let unknown = owed("U", None, Some(2));
        assert!(is_another(&unknown, source("/media/b", 1, "U", None)));
        assert!(is_another(&unknown, source("/media/b", 1, "U", Some("S"))));
        // What was given since is not.
        assert!(!is_another(&unknown, source("/media/b", 2, "U", None)));
        let known = owed("U", Some("S"), Some(2));
        assert!(!is_another(&known, source("/media/b", 1, "U", Some("S"))));
        assert!(is_another(&known, source("/media/b", 1, "U", Some("T"))));
        assert!(is_another(&known, source("/media/b", 1, "V", Some("S"))));
        // Where it was not written down, what is named is taken for what the job had.
        let before = owed("U", None, None);
        assert!(is_another(&before, source("/media/b", 2, "U", None)));
        assert!(!is_another(&before, source("/media/c", 2, "U", None)));
    }

    #[test]
    fn a_record_stands_for_one_of_those_that_were_left_out_at_its_path() {
        let [one, other] = ["S", "T"].map(|serial| owed("U", Some(serial), None));
        let on = [&one, &other].map(|owed| (&*owed.path, owed.on.as_ref()));
        let recipe = Recipe::of(&job(&["/a", "/mnt/b"])).without(on.into_iter());
        let owed = |serial| {
            let recorded = [source("/mnt/b", 1, "U", serial)];
            let owed = Recorded::of(&recipe, recorded.into_iter()).owed(&recipe);
            owed.into_iter().map(|owed| owed.on).collect::<Vec<_>>()
        };
        assert_eq!(owed(Some("S")), [&other].map(|it| it.on.clone()));
        assert_eq!(owed(Some("T")), [&one].map(|it| it.on.clone()));
        assert_eq!(owed(None), [&other].map(|it| it.on.clone()));
    }

    #[test]
    fn each_of_two_that_were_left_out_at_one_path_is_noted() {
        let [one, other] = ["U", "V"].map(|uuid| owed(uuid, None, Some(1)));
        let of = |owed: &Owed, after| {
            let left_out = std::iter::once((&*owed.path, owed.on.as_ref()));
            let recipe = Recipe::of(&job(&["/a", "/mnt/b"]));
            recipe.without(left_out).after(after)
        };
        let noted = |recipe: &Recipe| {
            let owed = recipe.left_out().map(|owed| (owed.on, owed.after));
            owed.collect::<Vec<_>>()
        };
        let before = of(&one, 1);
        assert!(before.owes(Path::new("/mnt/b"), one.on.as_ref()));
        assert!(!before.owes(Path::new("/mnt/b"), other.on.as_ref()));
        let both = of(&other, 3).going_on(&before, &|_, _| true);
        assert_eq!(
            noted(&both),
            [(one.on.clone(), Some(1)), (other.on.clone(), Some(3))]
        );
        let again = of(&one, 3).going_on(&both, &|_, _| true);
        assert_eq!(noted(&again), noted(&both));
        let json = again.to_json().unwrap();
        let read = Recipe::from_json(&json, Path::new("job.json")).unwrap();
        // The path stays named for the other.
        let rest = read.without_any(&|_, was| was == one.on.as_ref());
        assert_eq!(noted(&rest), [(other.on.clone(), Some(3))]);
        assert_eq!(rest.job().sources, ["/a", "/mnt/b"].map(PathBuf::from));
        let none = rest.without_any(&|_, was| was == other.on.as_ref());
        assert_eq!(none.job().sources, [PathBuf::from("/a")]);
    }
}
