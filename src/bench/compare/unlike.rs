//! In what two benches differ besides their figures, and which figures that keeps from being held
//! against each other.

use super::again::{Matched, label, matched, of_subject};
use super::told;
use crate::bench::doubt::ZEROS_TOLD;
use crate::bench::report::{Doubt, Measure, Report, Subject};
use crate::bench::words::list;

/// Returns what to know before believing a comparison, a sentence each.
pub fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for (report, which) in [(before, "before"), (after, "after")] {
        if !report.complete {
            notes.push(format!("the bench {which} was stopped before its end"));
        }
    }
    if backends_differ(before, after) {
        notes.push(format!(
            "measured by {}, then by {}: no figure is held against another",
            before.backend, after.backend
        ));
    } else if before.backend != after.backend {
        notes.push(format!(
            "measured by {}, then by {}",
            before.backend, after.backend
        ));
    }
    if before.kernel != after.kernel {
        notes.push(format!("Linux {}, then {}", before.kernel, after.kernel));
    }
    if before.cpus != after.cpus {
        notes.push(format!("{} processors, then {}", before.cpus, after.cpus));
    }
    if before.sample_seconds.to_bits() != after.sample_seconds.to_bits() {
        notes.push(format!(
            "samples of {} s, then of {} s",
            before.sample_seconds, after.sample_seconds
        ));
    }
    if (before.block_asked, before.depth_asked) != (after.block_asked, after.depth_asked) {
        notes.push("not the same requests or queues were asked for".to_owned());
    }
    notes.extend(told::of_both(before, after));
    let subjects = matched(&before.subjects, &after.subjects, of_subject);
    notes.extend(accesses(subjects.iter().map(|(pair, _)| *pair)));
    notes.extend(unsteady(before, "before"));
    notes.extend(unsteady(after, "after"));
    notes
}

/// Returns whether two were measured by calls of different kinds. Nothing, where one does not say.
pub(super) fn backends_differ(before: &Report, after: &Report) -> bool {
    let family = |report: &Report| {
        let backend = &report.backend;
        backend.split('+').next().map(str::to_owned)
    };
    let is_said = !before.backend.is_empty() && !after.backend.is_empty();
    is_said && family(before) != family(after)
}

/// Returns whether what was read of one cannot be held against the other: they were read in two ways,
/// or memory may have answered this time or that, or the drive without reading, and not both times.
/// Where a file system never says what it dropped, that is so both times, and a note says it.
pub(super) fn is_unlike(before: &Subject, after: &Subject) -> bool {
    let unlike = before.zeros().abs_diff(after.zeros()) > ZEROS_TOLD;
    let unlike = unlike || is_untold(before) != is_untold(after);
    unlike || access_differs(before, after) || is_of_memory(before) || is_of_memory(after)
}

/// The same of several that were read at once, which are the same ones.
pub(super) fn any_unlike(before: &[&Subject], after: &[&Subject]) -> bool {
    let beside = |subject: &Subject| subject.doubts.contains(&Doubt::PageCacheBeside);
    let pairs = sorted(before).into_iter().zip(sorted(after));
    pairs
        .into_iter()
        .any(|(before, after)| is_unlike(before, after) || beside(before) || beside(after))
}

/// Returns whether memory may have answered the one, and not the other, or was dropped.
fn access_differs(before: &Subject, after: &Subject) -> bool {
    let is_said = !before.access.is_empty() && !after.access.is_empty();
    is_said && before.access != after.access
}

fn is_of_memory(subject: &Subject) -> bool {
    let doubted = subject.doubts.iter().any(Doubt::is_of_memory);
    doubted || subject.access == "unproved" && !is_untold(subject)
}

fn is_untold(subject: &Subject) -> bool {
    subject.doubts.contains(&Doubt::PageCacheUnknown)
}

fn sorted<'r>(subjects: &[&'r Subject]) -> Vec<&'r Subject> {
    let mut sorted = subjects.to_vec();
    sorted.sort_by_cached_key(|subject| (of_subject(subject), subject.access.clone()));
    sorted
}

/// One sentence for all that were read in the same two ways and cannot be held against each other.
fn accesses<'r>(subjects: impl Iterator<Item = Matched<'r, Subject>>) -> Vec<String> {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for pair in subjects {
        let (Some(before), Some(after)) = (pair.before, pair.after) else {
            continue;
        };
        if !is_unlike(before, after) {
            continue;
        }
        let ways = match (way(before), way(after)) {
            (was, is) if was == is => format!("{was} both times"),
            (was, is) => format!("{was}, then {is}"),
        };
        match told.iter_mut().find(|(known, _)| *known == ways) {
            Some((_, names)) => names.push(name(after)),
            None => told.push((ways, vec![name(after)])),
        }
    }
    let sentence = |(ways, names): (String, Vec<String>)| {
        format!("{}: {ways}: not held against each other", list(&names))
    };
    told.into_iter().map(sentence).collect()
}

fn way(subject: &Subject) -> &'static str {
    match subject.access.as_str() {
        _ if is_of_memory(subject) => "perhaps from memory",
        _ if subject.zeros() > 0 => "perhaps not from its medium",
        "unproved" => "perhaps from memory",
        "direct" => "past the page cache",
        "dropped" => "dropped from memory first",
        _ => "in a way that is not told",
    }
}

fn unsteady(report: &Report, which: &str) -> Option<String> {
    let mut names = Vec::new();
    let mut look = |what: String, is_steady: Option<bool>| {
        names.extend(is_steady.is_some_and(|it| !it).then_some(what));
    };
    let of = |measure: &Option<Measure>| measure.as_ref().map(|measure| measure.steady);
    for subject in &report.subjects {
        let whose = name(subject);
        look(format!("read of {whose}"), of(&subject.read));
        for zone in &subject.zones {
            look(
                format!("read-{} of {whose}", zone.name),
                Some(zone.read.steady),
            );
        }
        let small = subject.small.as_ref().map(|small| small.steady);
        look(format!("small-files of {whose}"), small);
        look(format!("write of {whose}"), of(&subject.write));
    }
    for step in report.together.iter().flat_map(|it| &it.steps) {
        look(format!("together-{}", step.count), Some(step.steady));
    }
    if let Some(pair) = &report.pair {
        look(format!("target-write of {}", pair.target), of(&pair.write));
        let all = [
            ("pair-hashed", &pair.hashed),
            ("pair-unhashed", &pair.unhashed),
        ];
        for (what, reached) in all {
            look(
                what.to_owned(),
                reached.as_ref().map(|reached| reached.steady),
            );
        }
    }
    let is_any = !names.is_empty();
    is_any.then(|| format!("not known to be steady {which}: {}", list(&names)))
}

pub(super) fn name(subject: &Subject) -> String {
    match label(subject) {
        (drive, Some(path)) => format!("{drive} {path}"),
        (drive, None) => drive,
    }
}
