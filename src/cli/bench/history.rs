//! What each drive gave before, by its serial number, so that a drive that grows slower is noticed
//! whichever slot it is in.
//!
//! ```text
//! $XDG_STATE_HOME/inhaul/bench/SERIAL.json    a bench report with that drive alone
//! ```
//!
//! Only a reminder: what cannot be written is left out, what cannot be read is not there.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::bench::report::{Report, SCHEMA, Subject, Verdict};
use crate::bench::{compare, job::REPETITIONS_MIN};
use crate::cli::registry::Registry;
use crate::cli::units::{rate, whole};
use crate::engine::job::KnownDrive;

/// Longest entry that is taken, in bytes.
const LEN_MAX: u64 = 1 << 20;
/// The folder.
const FOLDER: &str = "bench";

/// Compares each drive with what it gave before, says what changed, and remembers what it gives
/// now.
pub(super) fn remember(report: &mut Report, registry: &Registry) {
    let mut said = Vec::new();
    for subject in &report.subjects {
        let Some(name) = entry_name(subject) else {
            continue;
        };
        if let Some(before) = read(registry, &name) {
            said.extend(changed(subject, &before));
        }
        let now = Report {
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
        };
        write(registry, &name, &now);
    }
    if !said.is_empty() {
        report
            .verdicts
            .retain(|verdict| verdict.text != "nothing stands out");
    }
    report.verdicts.splice(0..0, said);
}

/// Returns what the drive with this serial number, or else this WWN, gave when it was measured well.
/// Nothing is read but the entry of that drive.
pub(in crate::cli) fn known(registry: &Registry, identity: &str) -> Option<KnownDrive> {
    let report = read(registry, &file_name(identity))?;
    let subject = report.subjects.first()?;
    let drive = subject.drives.first()?;
    // Of long names only the beginning is in the name of the entry.
    if drive.identity() != Some(identity) {
        return None;
    }
    let (measured, knee) = (subject.read.as_ref()?, subject.knee?);
    Some(KnownDrive {
        rate: whole(measured.rate),
        size: drive.bytes,
        queue: knee.block.saturating_mul(knee.depth) as u64,
    })
}

/// Returns the name of a drive's entry; `None` for what has no serial number, for several drives at
/// once, and for what was not measured well enough to be held against later.
fn entry_name(subject: &Subject) -> Option<String> {
    let drive = subject
        .drives
        .first()
        .filter(|_| subject.drives.len() == 1)?;
    let read = subject.read.as_ref()?;
    let whole_device = subject.kind == "device" && subject.access == "direct";
    if !whole_device || read.samples.len() < REPETITIONS_MIN {
        return None;
    }
    Some(file_name(drive.identity()?))
}

/// Returns the name of the entry of a drive with this serial number, or else this WWN.
fn file_name(identity: &str) -> String {
    let mut name = String::new();
    for byte in identity.bytes() {
        // A serial number is any bytes; a name of ours is none of them but these.
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            name.push('_');
            for nibble in [byte >> 4, byte & 15] {
                name.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
    }
    name.truncate(200);
    format!("{name}.json")
}

fn changed(subject: &Subject, before: &Report) -> Option<Verdict> {
    let after = Report {
        subjects: vec![subject.clone()],
        ..Report::default()
    };
    let rows = compare::compare(before, &after);
    let row = rows.iter().find(|row| row.what == "read")?;
    let (was, is) = (row.before?, row.after?);
    let bad = match row.verdict.as_str() {
        "slower" => true,
        "faster" => false,
        _ => return None,
    };
    let day = before.started.get(..10).unwrap_or(&before.started);
    let text = format!(
        "{} is {} than on {day}: {} now, {} then",
        subject.name,
        row.verdict,
        rate(whole(is)),
        rate(whole(was)),
    );
    Some(Verdict {
        about: "changed".to_owned(),
        bad,
        text,
    })
}

fn read(registry: &Registry, name: &str) -> Option<Report> {
    let folder = registry.folder_of(FOLDER, false).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(LEN_MAX).read_to_end(&mut text).ok()?;
    let report: Report = serde_json::from_slice(&text).ok()?;
    (report.schema == SCHEMA && report.kind == "bench").then_some(report)
}

fn write(registry: &Registry, name: &str, report: &Report) {
    let Ok(folder) = registry.folder_of(FOLDER, true) else {
        return;
    };
    let Ok(text) = serde_json::to_vec(report) else {
        return;
    };
    // Beside it first: what is there is whole, whenever this ends.
    let draft = format!("{name}.{}", std::process::id());
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let Ok(file) = rustix::fs::openat(&folder, &draft, flags, mode) else {
        return;
    };
    let written = File::from(file).write_all(&text).is_ok()
        && rustix::fs::renameat(&folder, &draft, &folder, name).is_ok();
    if !written {
        let _gone = rustix::fs::unlinkat(&folder, &draft, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{DriveFacts, Knee, Measure};

    fn report(serial: &str, mb: f64) -> Report {
        Report {
            schema: SCHEMA,
            kind: "bench".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            subjects: vec![Subject {
                name: "sdb".to_owned(),
                kind: "device".to_owned(),
                access: "direct".to_owned(),
                drives: vec![DriveFacts {
                    serial: Some(serial.to_owned()),
                    bytes: 8_000_000_000_000,
                    ..DriveFacts::default()
                }],
                read: Some(Measure {
                    rate: mb * 1e6,
                    rate_min: mb * 1e6,
                    rate_max: mb * 1e6,
                    samples: vec![mb * 1e6; 3],
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

    #[test]
    fn a_drive_that_grew_slower_is_told() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let mut first = report("../Z 1", 208.0);
        remember(&mut first, &registry);
        assert!(first.verdicts.is_empty(), "nothing to hold it against");
        let entry = state.path().join("inhaul/bench/_2e_2e_2fZ_201.json");
        assert!(entry.is_file(), "a serial number is no path");

        let drive = KnownDrive {
            rate: 208_000_000,
            size: 8_000_000_000_000,
            queue: 3 << 20,
        };
        assert_eq!(known(&registry, "../Z 1"), Some(drive));
        assert_eq!(known(&registry, "Z 1"), None);

        let mut same = report("../Z 1", 207.0);
        remember(&mut same, &registry);
        assert!(same.verdicts.is_empty());
        let mut slower = report("../Z 1", 52.0);
        remember(&mut slower, &registry);
        assert_eq!(
            slower.verdicts[0].text,
            "sdb is slower than on 2026-01-02: 52.0 MB/s now, 207 MB/s then"
        );
        assert!(slower.verdicts[0].bad);
        let mut other = report("Z2", 52.0);
        remember(&mut other, &registry);
        assert!(other.verdicts.is_empty(), "another drive");
    }

    #[test]
    fn what_was_not_measured_well_is_not_remembered() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        let mut few = report("Z1", 100.0);
        few.subjects[0].read.as_mut().unwrap().samples.truncate(2);
        let mut unproved = report("Z1", 100.0);
        unproved.subjects[0].access = "unproved".to_owned();
        let mut unnamed = report("Z1", 100.0);
        unnamed.subjects[0].drives[0].serial = None;
        for report in [&mut few, &mut unproved, &mut unnamed] {
            remember(report, &registry);
        }
        assert!(!state.path().join("inhaul/bench").exists());
    }

    #[test]
    fn only_the_entry_of_a_drive_itself_is_believed() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        // The names of their entries are cut off to the same one.
        let (long, other) = ("Z".repeat(300), "Z".repeat(301));
        remember(&mut report(&long, 100.0), &registry);
        assert!(known(&registry, &long).is_some());
        assert_eq!(known(&registry, &other), None);
        let folder = state.path().join("inhaul/bench");
        let entry = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        std::fs::copy(entry.path(), folder.join("Z9.json")).unwrap();
        assert_eq!(known(&registry, "Z9"), None, "another drive's");
    }

    #[test]
    fn a_broken_entry_is_not_there() {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::at(state.path());
        remember(&mut report("Z1", 100.0), &registry);
        let entry = state.path().join("inhaul/bench/Z1.json");
        std::fs::write(&entry, "{").unwrap();
        assert_eq!(known(&registry, "Z1"), None);
        let mut again = report("Z1", 10.0);
        remember(&mut again, &registry);
        assert!(again.verdicts.is_empty());
        assert!(
            std::fs::metadata(&entry).unwrap().len() > 1,
            "and is written anew"
        );
    }
}
