//! Which drives of a bench gave a figure that can be held against what they gave before.

use crate::bench::job::REPETITIONS_MIN;
use crate::bench::report::{Report, Subject};
use crate::bench::words::list;
use crate::cli::escape::escape;

/// Returns the drives whose figures can be held against others, each with what tells it from all
/// others; and what is to be said of those whose figures are in doubt, and of those that two drives of
/// this bench claim to be.
pub(super) fn comparable(report: &Report) -> (Vec<(&Subject, &str)>, Vec<String>) {
    let mut drives: Vec<(&Subject, &str)> = Vec::new();
    let (mut notes, mut doubted) = (Vec::new(), Vec::new());
    let able: Vec<(&Subject, &str)> = report
        .subjects
        .iter()
        .filter_map(|subject| Some((subject, identity_of(report, subject)?)))
        .collect();
    for &(subject, identity) in &able {
        let mut alike = able.iter().filter(|(_, other)| *other == identity);
        let name = |subject: &Subject| subject.drives.first().map(|drive| drive.name.clone());
        if alike.any(|(other, _)| name(other) != name(subject)) {
            let note = format!(
                "drives of this bench have the serial number {} in common: what they give is \
                 neither compared with what they gave before nor remembered",
                escape(identity.as_bytes())
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        } else if report.is_in_doubt(subject) {
            doubted.push(subject.name.clone());
        } else if !drives.iter().any(|(_, known)| *known == identity) {
            // A drive that is named twice counts once.
            drives.push((subject, identity));
        }
    }
    notes.extend(in_doubt(&doubted));
    (drives, notes)
}

fn in_doubt(names: &[String]) -> Option<String> {
    let (verb, they) = match names {
        [] => return None,
        [_] => ("gives", "it"),
        _ => ("give", "they"),
    };
    Some(format!(
        "what {} {verb} is in doubt, for what the report says to know: it is neither compared with what \
         {they} gave before nor remembered",
        escape(list(names).as_bytes())
    ))
}

/// Returns what tells a drive from all others, if its figure can be what the drive gives: measured past
/// all caches, over all of it, often enough, and with the requests that suit it.
pub(super) fn identity_of<'r>(report: &Report, subject: &'r Subject) -> Option<&'r str> {
    let asked = report.block_asked.is_some() || report.depth_asked.is_some();
    let samples = subject.read.as_ref()?.samples.len();
    let is_good = subject.is_whole_drive()
        && subject.access == "direct"
        && samples >= REPETITIONS_MIN
        && !asked;
    subject.drives.first().filter(|_| is_good)?.identity()
}
