//! What each of two reports says itself to know before believing it.

use super::unlike::name;
use crate::bench::report::{Doubt, Report};
use crate::bench::words::list;

/// Returns it, a sentence each, with which of them says so.
pub(super) fn of_both(before: &Report, after: &Report) -> Vec<String> {
    let (was, is) = (of(before), of(after));
    let only = |one: &[String], other: &[String], which: &str| -> Vec<String> {
        let own = one.iter().filter(|text| !other.contains(text));
        own.map(|text| format!("{which}: {text}")).collect()
    };
    let both = was.iter().filter(|text| is.contains(text));
    let both = both.map(|text| format!("before and after: {text}"));
    let mut told = only(&was, &is, "before");
    told.extend(only(&is, &was, "after"));
    told.extend(both);
    told
}

/// Returns what is to be known of all figures, what makes those of drives doubtful, and what is to be
/// known of the target. What is said of several drives in the same words is said once.
fn of(report: &Report) -> Vec<String> {
    let mut doubted: Vec<(String, Vec<String>)> = Vec::new();
    for subject in &report.subjects {
        for text in subject.doubts.iter().map(Doubt::text) {
            match doubted.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name(subject)),
                None => doubted.push((text, vec![name(subject)])),
            }
        }
    }
    let doubted = doubted.into_iter();
    let doubted = doubted.map(|(text, names)| format!("{}: {text}", list(&names)));
    let of_pair = report.pair.iter().flat_map(|pair| {
        let warnings = pair.warnings.iter();
        warnings.map(|text| format!("{}: {text}", pair.target))
    });
    let own = report.warnings.iter().cloned();
    own.chain(doubted).chain(of_pair).collect()
}
