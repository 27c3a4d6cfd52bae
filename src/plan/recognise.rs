//! Which sources of a job are here again, whatever they are called now.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::sources::means_contents;
use super::{Source, identity};
use crate::error::Error;
use crate::journal::{self, Identity, Likeness, SOURCES_MAX};
use crate::scan::as_path;
use crate::topology::Topology;

/// Whether sources belong to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// At least one does. What each given source is to the job, in their order.
    Same(Vec<Matched>),
    /// This is another job, or it cannot be told; says why, as a clause that can follow "but".
    Other(String),
}

/// What a given source is to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Its number in the journal; one above all others for a source that is new to the job.
    pub index: u32,
    /// Where it lands below TARGET: where it landed before, if it is known. Two sources may land on
    /// one name now that did not as they were typed: check them again
    /// ([`check_landings`](super::check_landings)).
    pub landing: Vec<u8>,
    /// A line for people when it was known under another name.
    pub note: Option<String>,
}

/// Returns the identity of a source: of its directory or, for a file, of the directory it is in.
///
/// # Errors
/// When it has gone.
pub fn source_identity(source: &Source, topology: &Topology) -> Result<Identity, Error> {
    source_place(source, topology).map(|(identity, _)| identity)
}

/// The same with the mount point of the file system that it is on.
///
/// # Errors
/// When it has gone.
pub fn source_place(source: &Source, topology: &Topology) -> Result<(Identity, PathBuf), Error> {
    let location = topology.locate_fd(source.root.as_fd(), &source.label)?;
    let identity = identity(source.root.as_fd(), &location)
        .map_err(|errno| Error::source(&source.label, "look at this source", errno))?;
    Ok((identity, location.mount.point))
}

/// Tells which of a job's sources these are. `identities` are those of `sources`, one for each.
///
/// A source is the recorded one when both are the contents of a folder, a folder, or a file of one
/// name, and their identities are alike ([`Likeness::Same`]); where nothing unique is known
/// ([`Likeness::Unknown`]), they must be called the same, too, and where folders have no number that
/// lasts, on FAT and exFAT, their folders must have one name. Where more than one fits, the serial
/// number of the drive decides, then what it is called; where neither does, nothing is guessed.
///
/// Sources of the job that are not given are no hindrance. A given one that fits none is new, but
/// must not land where a source of the job did: another drive at a known mount point would mix two
/// drives in one folder. To a job that has no source yet all are new.
pub fn recognise(
    recorded: &[journal::Source],
    sources: &[Source],
    identities: &[Identity],
) -> Recognised {
    settle(recorded, &given(sources, identities))
}

/// As [`recognise`], for a job that is known by its name: all sources may be new to it. Another
/// target of one copy may have begun without those that were lost by then.
pub fn recognise_more(
    recorded: &[journal::Source],
    sources: &[Source],
    identities: &[Identity],
) -> Recognised {
    settle_or_add(recorded, &given(sources, identities), true)
}

fn given<'a>(sources: &'a [Source], identities: &'a [Identity]) -> Vec<Given<'a>> {
    let given = sources.iter().zip(identities);
    given
        .map(|(source, identity)| Given {
            label: source.label.as_os_str().as_bytes(),
            shape: match &source.only {
                Some(name) => Shape::File(name),
                None if source.landing.is_empty() => Shape::Contents,
                None => Shape::Folder,
            },
            landing: &source.landing,
            identity,
        })
        .collect()
}

/// What a source is, apart from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// A folder, that lands under a name of its own.
    Folder,
    /// A folder whose contents land in TARGET itself.
    Contents,
    /// A file of this name.
    File(&'a [u8]),
}

/// Returns what a recorded source is. A file lands in TARGET itself, as contents do, but never has
/// a path that ends as theirs.
pub(super) fn shape(recorded: &journal::Source) -> Shape<'_> {
    let path = &recorded.label;
    if !recorded.landing.is_empty() {
        Shape::Folder
    } else if means_contents(as_path(path).as_path()) {
        Shape::Contents
    } else {
        Shape::File(last_component(path))
    }
}

pub(super) fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Returns the name of the folder a source is or, for a file, is in, as far as its path tells.
fn folder_name<'a>(path: &'a [u8], shape: Shape<'_>) -> Option<&'a [u8]> {
    let names = path.rsplit(|&byte| byte == b'/');
    let mut names = names.filter(|name| !matches!(*name, b"" | b"."));
    if let Shape::File(_) = shape {
        names.next();
    }
    names.next().filter(|name| *name != b"..")
}

/// A given source, as far as it matters here; without a descriptor, so that tests can make it up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) label: &'a [u8],
    pub(super) shape: Shape<'a>,
    pub(super) landing: &'a [u8],
    pub(super) identity: &'a Identity,
}

impl Given<'_> {
    /// Returns whether it can be this recorded source.
    fn fits(&self, recorded: &journal::Source) -> bool {
        let is_numbered = recorded.identity.root_ino != 0;
        self.shape == shape(recorded)
            && (is_numbered || recorded.label == self.label || self.has_folder_of(recorded))
            && match recorded.identity.compare(self.identity) {
                Likeness::Same => true,
                Likeness::Unknown => recorded.label == self.label,
                Likeness::Different(_) => false,
            }
    }

    /// Returns whether the folder of both has the same name.
    fn has_folder_of(&self, recorded: &journal::Source) -> bool {
        let name = folder_name(self.label, self.shape);
        name.is_some() && name == folder_name(&recorded.label, shape(recorded))
    }

    /// Returns the name it takes in TARGET; `None` for contents, which take many.
    fn top_name(&self) -> Option<&[u8]> {
        match self.shape {
            Shape::Folder => Some(self.landing),
            Shape::Contents => None,
            Shape::File(name) => Some(name),
        }
    }
}

/// What can decide between sources that fit, strongest first.
const REASONS: [fn(&journal::Source, &Given<'_>) -> bool; 3] = [
    // They fit, so two serial numbers are one.
    |recorded, given| recorded.identity.serial.is_some() && given.identity.serial.is_some(),
    |recorded, given| recorded.label == given.label,
    |_, _| true,
];

pub(super) fn settle(recorded: &[journal::Source], given: &[Given<'_>]) -> Recognised {
    settle_or_add(recorded, given, false)
}

fn settle_or_add(
    recorded: &[journal::Source],
    given: &[Given<'_>],
    may_be_new: bool,
) -> Recognised {
    // For each given source the place of the recorded one that it is.
    let mut found: Vec<Option<usize>> = vec![None; given.len()];
    for reason in REASONS {
        let free: Vec<usize> = (0..recorded.len())
            .filter(|place| !found.contains(&Some(*place)))
            .collect();
        let fits = |place: usize, given: &Given<'_>| {
            recorded
                .get(place)
                .is_some_and(|recorded| given.fits(recorded) && reason(recorded, given))
        };
        let open: Vec<(usize, &Given<'_>)> = (0..)
            .zip(given)
            .filter(|(at, _)| found.get(*at) == Some(&None))
            .collect();
        for &(at, one) in &open {
            let mut places = free.iter().copied().filter(|&place| fits(place, one));
            let (Some(place), None) = (places.next(), places.next()) else {
                continue;
            };
            let rivals = open.iter().filter(|(_, other)| fits(place, other)).count();
            if rivals == 1
                && let Some(slot) = found.get_mut(at)
            {
                *slot = Some(place);
            }
        }
    }
    if found.iter().all(Option::is_none) && !recorded.is_empty() && !may_be_new {
        return Recognised::Other(stranger(recorded, given));
    }
    let mut next = recorded.iter().map(|source| source.index + 1).max();
    let mut matched = Vec::new();
    for (one, place) in given.iter().zip(&found) {
        let known = place.and_then(|place| recorded.get(place));
        let answer = match known {
            Some(known) => Matched {
                index: known.index,
                landing: known.landing.clone(),
                note: note(known, one),
            },
            None => match added(recorded, &found, one, &mut next) {
                Ok(matched) => matched,
                Err(why) => return Recognised::Other(why),
            },
        };
        matched.push(answer);
    }
    Recognised::Same(matched)
}

/// Says why no given source is known: the difference, if there is one of each and they are called
/// the same.
fn stranger(recorded: &[journal::Source], given: &[Given<'_>]) -> String {
    let pairs = given.iter().flat_map(|one| {
        let namesakes = recorded.iter().filter(|known| known.label == one.label);
        namesakes.map(move |known| (known, one))
    });
    for (known, one) in pairs {
        if let Likeness::Different(what) = known.identity.compare(one.identity) {
            return format!("{what} of {} was another", shown(one.label));
        }
    }
    "no source of it is among these".to_owned()
}

/// Returns what a source is to the job that fits none of its sources for sure.
fn added(
    recorded: &[journal::Source],
    found: &[Option<usize>],
    one: &Given<'_>,
    next: &mut Option<u32>,
) -> Result<Matched, String> {
    for (place, known) in recorded.iter().enumerate() {
        if one.fits(known) && !found.contains(&Some(place)) {
            return Err(format!(
                "it cannot be told whether {} is what was {}",
                shown(one.label),
                shown(&known.label)
            ));
        }
        if one.top_name().is_some() && one.top_name() == top_name(known) {
            return Err(format!(
                "{} would land where {} did, and is not the same",
                shown(one.label),
                shown(&known.label)
            ));
        }
    }
    let index = next.unwrap_or(0);
    if index >= SOURCES_MAX {
        return Err(format!("it has {SOURCES_MAX} sources already"));
    }
    *next = Some(index + 1);
    Ok(Matched {
        index,
        landing: one.landing.to_vec(),
        note: None,
    })
}

/// Returns the name a recorded source took in TARGET; `None` for contents.
fn top_name(recorded: &journal::Source) -> Option<&[u8]> {
    match shape(recorded) {
        Shape::Folder => Some(&recorded.landing),
        Shape::Contents => None,
        Shape::File(name) => Some(name),
    }
}

/// Returns a line when a source was called otherwise. A path that was relative and is not now is
/// the same path.
fn note(known: &journal::Source, one: &Given<'_>) -> Option<String> {
    let (before, now) = (known.label.as_slice(), one.label);
    let ending = now.strip_suffix(before);
    if ending.is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/")) {
        return None;
    }
    let name = top_name(known).unwrap_or(b".");
    Some(format!(
        "{}: known as {} before, found at {}",
        shown(name),
        shown(before),
        shown(now)
    ))
}

fn shown(path: &[u8]) -> String {
    as_path(path).display().to_string()
}
