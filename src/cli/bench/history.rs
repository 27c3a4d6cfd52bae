//! What each drive gave before, by its serial number, so that a drive that grows slower is noticed
//! whichever slot it is in.
//!
//! Only figures of all of a drive are held against each other: a partition at its inner edge gives
//! half of what the drive does, and no drive has grown slower. One that is in doubt is neither held
//! against others nor remembered: hot processors make drives slow. A drive that was never written to
//! answers without reading: such a one is held against what it gave with as many zeros, as any two
//! benches are, and a copy goes by it only if less than half was. Only steady ones are remembered: of another nobody knows whether the
//! drive gives it.

use super::changed::changed;
use super::comparable::{comparable, identity_of};
use super::entries::Entries;
use crate::bench::report::{NOTHING_STANDS_OUT, Report, Subject};
use crate::cli::escape::escape;
use crate::cli::registry::Registry;
use crate::cli::units::whole;
use crate::engine::job::KnownDrive;

/// Compares each drive with what it gave before, says what changed, and remembers what it gives
/// now, if that is steady and the bench was not stopped. Returns what could not be read or
/// remembered, for people.
pub(super) fn remember(report: &mut Report, registry: &Registry) -> Vec<String> {
    let (drives, mut notes) = comparable(report);
    if drives.is_empty() {
        return notes;
    }
    let mut told = Vec::new();
    match Entries::open(registry) {
        Ok(Some(entries)) => {
            for (subject, identity) in &drives {
                match entries.read(identity) {
                    Ok(before) => {
                        told.extend(before.and_then(|was| changed(report, subject, &was)));
                    }
                    Err(why) => notes.push(format!(
                        "what {} gave before cannot be read: {why}",
                        escape(subject.name.as_bytes())
                    )),
                }
            }
        }
        Ok(None) => {}
        Err(why) => notes.push(format!("what drives gave before cannot be read: {why}")),
    }
    if report.complete {
        let written = Entries::make(registry).and_then(|entries| {
            let mut each = drives.iter().filter(|(subject, _)| is_steady(subject));
            each.try_for_each(|(subject, identity)| {
                entries.write(identity, &entry(report, subject))
            })
        });
        let failed = written.err();
        notes.extend(failed.map(|why| format!("what drives give is not remembered: {why}")));
    }
    if !told.is_empty() {
        report
            .verdicts
            .retain(|verdict| verdict.text != NOTHING_STANDS_OUT);
    }
    report.verdicts.splice(0..0, told);
    notes
}

/// Returns what the drive with this serial number, or else this WWN, gave when it was measured well.
/// Nothing is read but the entry of that drive.
///
/// # Errors
/// Why what is there is not used, for people.
pub(in crate::cli) fn known(
    registry: &Registry,
    identity: &str,
) -> Result<Option<KnownDrive>, String> {
    let Some(entries) = Entries::open(registry)? else {
        return Ok(None);
    };
    let Some(report) = entries.read(identity)? else {
        return Ok(None);
    };
    let drive = drive_of(&report, identity).filter(|subject| !subject.is_mostly_unread());
    Ok(drive.and_then(|subject| {
        Some(KnownDrive {
            rate: whole(subject.read.as_ref()?.rate),
            size: subject.drives.first()?.bytes,
            queue: subject
                .knee
                .map(|knee| knee.block.saturating_mul(knee.depth) as u64)?,
        })
    }))
}

fn is_steady(subject: &Subject) -> bool {
    subject.read.as_ref().is_some_and(|read| read.steady)
}

/// Returns the drive of an entry, if it is the entry of the drive with this identity: of long ones
/// only the beginning is in the name of an entry.
pub(super) fn drive_of<'r>(entry: &'r Report, identity: &str) -> Option<&'r Subject> {
    let subject = entry.subjects.first().filter(|_| entry.complete)?;
    let is_its = identity_of(entry, subject) == Some(identity);
    let is_good = is_its && is_steady(subject) && !entry.is_in_doubt(subject);
    is_good.then_some(subject)
}

/// What is kept of a drive.
fn entry(report: &Report, subject: &Subject) -> Report {
    Report {
        subjects: vec![Subject {
            sweep: Vec::new(),
            ..subject.clone()
        }],
        together: None,
        pair: None,
        estimate: None,
        verdicts: Vec::new(),
        warnings: Vec::new(),
        ..report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Doubt, DriveFacts, Knee, Measure, SCHEMA, Verdict};

    const BYTES: u64 = 8_000_000_000_000;

    fn report(serial: &str, mb: f64) -> Report {
        Report {
            schema: SCHEMA,
            kind: "bench".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            backend: "io_uring".to_owned(),
            complete: true,
            subjects: vec![Subject {
                name: "sdb".to_owned(),
                path: "/dev/sdb".to_owned(),
                kind: "device".to_owned(),
                access: "direct".to_owned(),
                span_bytes: BYTES,
                drives: vec![DriveFacts {
                    name: "sdb".to_owned(),
                    serial: Some(serial.to_owned()),
                    bytes: BYTES,
                    ..DriveFacts::default()
                }],
                read: Some(Measure {
                    rate: mb * 1e6,
                    rate_min: mb * 1e6,
                    rate_max: mb * 1e6,
                    samples: vec![mb * 1e6; 3],
                    steady: true,
                    ..Measure::default()
                }),
                knee: Some(Knee {
                    block: 1 << 20,
                    depth: 3,
                }),
                ..Subject::default()
            }],
            ..Report::default()
        }
    }

    /// Remembers, without a note, and returns the verdicts.
    fn told(registry: &Registry, mut report: Report) -> Vec<String> {
        assert_eq!(remember(&mut report, registry), [""; 0]);
        report.verdicts.into_iter().map(|said| said.text).collect()
    }

    fn rate_of(registry: &Registry, identity: &str) -> Option<u64> {
        known(registry, identity).unwrap().map(|known| known.rate)
    }

    #[test]
    fn a_drive_that_grew_slower_is_told() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        assert_eq!(known(&registry, "../Z 1"), Ok(None));
        let first = told(&registry, report("../Z 1", 208.0));
        assert!(first.is_empty(), "nothing to hold it against");
        let drive = KnownDrive {
            rate: 208_000_000,
            size: BYTES,
            queue: 3 << 20,
        };
        assert_eq!(known(&registry, "../Z 1"), Ok(Some(drive)));
        assert_eq!(known(&registry, "Z 1"), Ok(None));

        assert!(told(&registry, report("../Z 1", 207.0)).is_empty());
        let mut slower = report("../Z 1", 52.0);
        slower.verdicts = vec![Verdict {
            about: "fine".to_owned(),
            text: NOTHING_STANDS_OUT.to_owned(),
            ..Verdict::default()
        }];
        assert_eq!(
            told(&registry, slower),
            ["sdb is slower than on 2026-01-02: 52.0 MB/s now, 207 MB/s then"]
        );
        assert!(told(&registry, report("Z2", 52.0)).is_empty(), "another");
    }

    #[test]
    fn only_what_a_drive_itself_gives_is_remembered_or_held_against_it() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let change = |change: fn(&mut Report)| {
            let mut report = report("Z1", 10.0);
            change(&mut report);
            report
        };
        let others = [
            (
                "few",
                change(|r| r.subjects[0].read.as_mut().unwrap().samples.truncate(2)),
            ),
            (
                "unproved",
                change(|r| r.subjects[0].access = "unproved".to_owned()),
            ),
            ("unnamed", change(|r| r.subjects[0].drives[0].serial = None)),
            ("a partition", change(|r| r.subjects[0].span_bytes /= 2)),
            (
                "a volume of several",
                change(|r| r.subjects[0].span_bytes *= 2),
            ),
            (
                "a directory",
                change(|r| r.subjects[0].kind = "directory".to_owned()),
            ),
            (
                "of no known size",
                change(|r| r.subjects[0].drives[0].bytes = 0),
            ),
            (
                "by requests asked for",
                change(|r| r.block_asked = Some(4096)),
            ),
            ("by a queue asked for", change(|r| r.depth_asked = Some(1))),
        ];
        for (what, other) in &others {
            assert!(told(&registry, other.clone()).is_empty(), "{what}");
        }
        assert!(!state.path().join("inhaul/bench").exists());
        // Nor is it said of one that the drive gave more, or less.
        assert!(told(&registry, report("Z1", 100.0)).is_empty());
        for (what, other) in others {
            assert!(told(&registry, other).is_empty(), "{what}");
            assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000), "{what}");
        }
    }

    #[test]
    fn what_the_report_itself_doubts_is_neither_remembered_nor_compared() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let doubts = [
            (Some(Doubt::ReadAgain), None),
            (Some(Doubt::MemoryDrive { drive: None }), None),
            (
                None,
                Some(Doubt::Hot {
                    times: 3,
                    share: None,
                }),
            ),
            (None, Some(Doubt::Stolen { share: 0.2 })),
            (
                None,
                Some(Doubt::Limited {
                    times: 12,
                    seconds: 6.0,
                    share: Some(0.2),
                }),
            ),
        ];
        let doubted = |doubts: &(Option<Doubt>, Option<Doubt>), mb: f64| {
            let mut report = report("Z1", mb);
            report.subjects[0].doubts.extend(doubts.0.clone());
            report.doubts.extend(doubts.1.clone());
            report
        };
        let note = "what sdb gives is in doubt, for what the report says to know: it is neither \
                    compared with what it gave before nor remembered";
        for doubt in &doubts {
            let mut first = doubted(doubt, 3000.0);
            assert_eq!(remember(&mut first, &registry), [note], "{doubt:?}");
            assert_eq!(known(&registry, "Z1"), Ok(None), "{doubt:?}");
        }
        told(&registry, report("Z1", 100.0));
        for doubt in &doubts {
            let mut later = doubted(doubt, 10.0);
            assert_eq!(remember(&mut later, &registry), [note], "{doubt:?}");
            assert!(later.verdicts.is_empty(), "{doubt:?}");
            assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000), "{doubt:?}");
        }
        // One that is smaller than a cache is so each time, and other drives do not touch it.
        for doubt in [
            Doubt::SmallSpan { bytes: 64_000_000 },
            Doubt::PageCacheBeside,
        ] {
            assert_eq!(
                told(&registry, doubted(&(Some(doubt), None), 10.0)).len(),
                1
            );
            told(&registry, report("Z1", 100.0));
        }
        // Nor is one believed that an entry holds all the same.
        let entries = Entries::make(&registry).unwrap();
        entries.write("Z1", &doubted(&doubts[0], 10.0)).unwrap();
        assert_eq!(known(&registry, "Z1"), Ok(None));
    }

    #[test]
    fn a_drive_is_held_against_what_it_gave_with_as_many_zeros() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let with = |percent: u64, spins: bool, mb: f64| {
            let mut report = report("Z1", mb);
            let subject = &mut report.subjects[0];
            subject.doubts.push(Doubt::Zeros { percent });
            subject.drives[0].rotational = Some(spins);
            report
        };
        assert!(told(&registry, with(30, false, 3000.0)).is_empty());
        assert_eq!(rate_of(&registry, "Z1"), Some(3_000_000_000));
        assert_eq!(
            told(&registry, with(33, false, 1000.0)),
            ["sdb is slower than on 2026-01-02: 1.00 GB/s now, 3.00 GB/s then"]
        );
        // It answers without reading; once it is full, it has not grown slower.
        assert!(told(&registry, with(97, false, 3000.0)).is_empty());
        assert_eq!(known(&registry, "Z1"), Ok(None));
        assert_eq!(told(&registry, with(98, false, 1000.0)).len(), 1);
        assert!(told(&registry, report("Z1", 500.0)).is_empty());
        assert_eq!(rate_of(&registry, "Z1"), Some(500_000_000));
        told(&registry, with(100, true, 200.0));
        assert_eq!(rate_of(&registry, "Z1"), Some(200_000_000), "it spins");
    }

    #[test]
    fn a_setting_of_the_machine_keeps_no_drive_from_being_remembered() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let set = |mb: f64| {
            let mut report = report("Z1", mb);
            let driver = "acpi-cpufreq".to_owned();
            report.doubts = vec![Doubt::PowerSaving { driver }];
            report
        };
        told(&registry, set(200.0));
        assert_eq!(rate_of(&registry, "Z1"), Some(200_000_000));
        assert_eq!(told(&registry, set(100.0)).len(), 1);
        // It is faster for another reason than the drive's.
        assert!(told(&registry, report("Z1", 200.0)).is_empty());
    }

    #[test]
    fn a_rest_that_no_request_fits_in_is_no_part_left_out() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let mut odd = report("Z1", 100.0);
        odd.subjects[0].drives[0].bytes += 4095;
        told(&registry, odd);
        assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000));
    }

    #[test]
    fn a_bench_that_was_stopped_is_compared_and_not_remembered() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        told(&registry, report("Z1", 100.0));
        let mut stopped = report("Z1", 10.0);
        stopped.complete = false;
        assert_eq!(told(&registry, stopped).len(), 1);
        assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000));
    }

    #[test]
    fn what_never_got_steady_is_compared_and_not_remembered() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let unsteady = || {
            let mut report = report("Z1", 10.0);
            report.subjects[0].read.as_mut().unwrap().steady = false;
            report
        };
        told(&registry, unsteady());
        assert_eq!(rate_of(&registry, "Z1"), None);
        told(&registry, report("Z1", 100.0));
        assert_eq!(told(&registry, unsteady()).len(), 1);
        assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000));
        // Nor is one believed that an entry holds all the same.
        let entries = Entries::make(&registry).unwrap();
        entries.write("Z1", &unsteady()).unwrap();
        assert_eq!(rate_of(&registry, "Z1"), None);
    }

    #[test]
    fn another_drive_with_the_same_number_is_another() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        told(&registry, report("0", 100.0));
        let mut smaller = report("0", 10.0);
        let subject = &mut smaller.subjects[0];
        (subject.span_bytes, subject.drives[0].bytes) = (BYTES / 2, BYTES / 2);
        assert!(told(&registry, smaller).is_empty());

        // Two in one bench: nobody knows which of them is remembered.
        let mut both = report("Z1", 100.0);
        let mut second = both.subjects[0].clone();
        second.drives[0].name = "sdc".to_owned();
        both.subjects.push(second);
        let notes = remember(&mut both, &registry);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("serial number Z1 in common"), "{notes:?}");
        assert_eq!(known(&registry, "Z1"), Ok(None));
        // One that is named twice is one, and not held against itself.
        let mut twice = report("Z1", 100.0);
        twice.subjects.push(report("Z1", 10.0).subjects.remove(0));
        assert!(told(&registry, twice).is_empty());
        assert_eq!(rate_of(&registry, "Z1"), Some(100_000_000));
    }

    #[test]
    fn what_other_calls_gave_says_nothing_of_the_drive() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        told(&registry, report("Z1", 100.0));
        let mut blocking = report("Z1", 10.0);
        blocking.backend = "blocking".to_owned();
        assert!(told(&registry, blocking).is_empty());
        let mut registered = report("Z2", 10.0);
        told(&registry, registered.clone());
        registered.backend = "io_uring+registered".to_owned();
        registered.subjects[0].read = report("Z2", 100.0).subjects[0].read.clone();
        assert_eq!(told(&registry, registered).len(), 1);
    }

    #[test]
    fn only_the_entry_of_a_drive_itself_is_believed() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        // The names of their entries are cut off to the same one.
        let (long, other) = ("Z".repeat(300), "Z".repeat(301));
        told(&registry, report(&long, 100.0));
        assert!(rate_of(&registry, &long).is_some());
        assert_eq!(known(&registry, &other), Ok(None));
        let folder = state.path().join("inhaul/bench");
        let entry = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        std::fs::copy(entry.path(), folder.join("Z9.json")).unwrap();
        assert_eq!(known(&registry, "Z9"), Ok(None), "another drive's");
        // As one of before they were not kept apart.
        let mut partition = report("Z9", 100.0);
        partition.subjects[0].span_bytes /= 2;
        let text = serde_json::to_vec(&partition).unwrap();
        std::fs::write(folder.join("Z9.json"), text).unwrap();
        assert_eq!(known(&registry, "Z9"), Ok(None), "a partition's");
        assert!(told(&registry, report("Z9", 10.0)).is_empty());
    }

    #[test]
    fn a_broken_entry_is_told_of_and_written_anew() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        told(&registry, report("Z1", 100.0));
        let entry = state.path().join("inhaul/bench/Z1.json");
        std::fs::write(&entry, "{").unwrap();
        assert!(known(&registry, "Z1").is_err());
        let mut again = report("Z1", 10.0);
        let notes = remember(&mut again, &registry);
        assert!(notes[0].starts_with("what sdb gave before cannot be read: "));
        assert!(again.verdicts.is_empty());
        assert_eq!(rate_of(&registry, "Z1"), Some(10_000_000));
    }
}
