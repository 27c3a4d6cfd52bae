//! What of one report is which of another: the same drive in another slot, the same drives in another
//! order.

use crate::bench::report::{DriveFacts, Pair, Report, Subject, TogetherStep};

/// What tells a subject or a target from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Serial number or name, and bytes, of each drive, sorted: serial numbers of cheap bridges are
    /// all the same.
    drives: Vec<(String, u64)>,
    kind: String,
    /// The path and its exact bytes, of what is not the whole of one drive.
    path: Option<(String, Option<String>)>,
}

/// One thing of two reports; never neither.
#[derive(Debug, PartialEq)]
pub(super) struct Matched<'r, T> {
    pub(super) before: Option<&'r T>,
    pub(super) after: Option<&'r T>,
}

impl<T> Clone for Matched<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Matched<'_, T> {}

impl<'r, T> Matched<'r, T> {
    /// Returns it as it was, or else as it is.
    pub(super) fn either(self) -> Option<&'r T> {
        self.before.or(self.after)
    }

    /// Returns what is not to be compared as one and the other.
    pub(super) fn apart(self) -> Vec<Self> {
        let before = self.before.map(|before| Self {
            before: Some(before),
            after: None,
        });
        let after = self.after.map(|after| Self {
            before: None,
            after: Some(after),
        });
        before.into_iter().chain(after).collect()
    }
}

/// Matches what has equal keys, the first with the first, the second with the second; also returns
/// which of those it is, from 1. In the order of before, then what only after has.
pub(super) fn matched<'r, T, K: PartialEq>(
    before: &'r [T],
    after: &'r [T],
    key: impl Fn(&T) -> K,
) -> Vec<(Matched<'r, T>, usize)> {
    let numbered = |all: &'r [T]| -> Vec<(K, usize, &'r T)> {
        let mut told: Vec<(K, usize, &T)> = Vec::new();
        for one in all {
            let key = key(one);
            let nth = 1 + told.iter().filter(|(before, ..)| *before == key).count();
            told.push((key, nth, one));
        }
        told
    };
    let (was, is) = (numbered(before), numbered(after));
    let counterpart = |all: &[(K, usize, &'r T)], key: &K, nth: usize| {
        let found = all.iter().find(|(k, n, _)| k == key && *n == nth);
        found.map(|(.., one)| *one)
    };
    let of_before = was.iter().map(|(key, nth, one)| {
        let after = counterpart(&is, key, *nth);
        let before = Some(*one);
        (Matched { before, after }, *nth)
    });
    let of_after = is.iter().filter_map(|(key, nth, one)| {
        let (before, after) = (None, Some(*one));
        let is_new = counterpart(&was, key, *nth).is_none();
        is_new.then_some((Matched { before, after }, *nth))
    });
    of_before.chain(of_after).collect()
}

pub(super) fn of_subject(subject: &Subject) -> Key {
    let path = (subject.path.clone(), subject.path_hex.clone());
    Key {
        drives: identities(&subject.drives),
        kind: subject.kind.clone(),
        path: (!subject.is_whole_drive()).then_some(path),
    }
}

pub(super) fn of_target(pair: &Pair) -> Key {
    Key {
        drives: identities(&pair.drives),
        kind: String::new(),
        path: Some((pair.target.clone(), pair.target_hex.clone())),
    }
}

/// Returns what took part in a step, in any order; of reports of before it was named, the first of
/// those that have a rate.
pub(super) fn of_step(report: &Report, step: &TogetherStep) -> (usize, Vec<Key>) {
    let keys = keys(took_part(report, &step.subjects, step.count));
    (step.count, keys)
}

/// Returns what was copied into the target of a report.
pub(super) fn of_sources(report: &Report) -> Vec<Key> {
    keys(sources(report))
}

/// The same as they are.
pub(super) fn sources(report: &Report) -> Vec<&Subject> {
    let names = report.pair.iter().flat_map(|pair| &pair.subjects);
    let names: Vec<String> = names.cloned().collect();
    took_part(report, &names, usize::MAX)
}

/// Returns the subjects of these names; of none, the first `most` that have a rate.
pub(super) fn took_part<'r>(report: &'r Report, names: &[String], most: usize) -> Vec<&'r Subject> {
    let subjects = report.subjects.iter();
    if names.is_empty() {
        let measured = subjects.filter(|subject| subject.read.is_some());
        return measured.take(most).collect();
    }
    subjects
        .filter(|subject| names.contains(&subject.name))
        .collect()
}

fn keys(subjects: Vec<&Subject>) -> Vec<Key> {
    let mut keys: Vec<Key> = subjects.into_iter().map(of_subject).collect();
    keys.sort();
    keys
}

fn identities(drives: &[DriveFacts]) -> Vec<(String, u64)> {
    let identity = |drive: &DriveFacts| (name_of(drive).to_owned(), drive.bytes);
    let mut all: Vec<(String, u64)> = drives.iter().map(identity).collect();
    all.sort();
    all
}

fn name_of(drive: &DriveFacts) -> &str {
    drive.identity().unwrap_or(&drive.name)
}

/// Returns how a subject is called in a row: its drives, and its path where that is only a part of
/// them.
pub(super) fn label(subject: &Subject) -> (String, Option<String>) {
    if subject.drives.is_empty() {
        return (subject.name.clone(), None);
    }
    let names: Vec<&str> = subject.drives.iter().map(name_of).collect();
    let is_part = !subject.is_whole_drive() && !subject.path.is_empty();
    (names.join("+"), is_part.then(|| subject.path.clone()))
}
