//! Whether a drive gives more or less than it gave before.

use super::history::drive_of;
use crate::bench::compare;
use crate::bench::report::{Report, Subject, Verdict};
use crate::cli::units::{rate, whole};

/// Says whether a drive gives more or less than before. Serial numbers of cheap bridges are all the
/// same, so it is the same drive only if it is as large; and only what was measured by the same calls,
/// by processors that might go as fast, says something of the drive.
pub(super) fn changed(report: &Report, subject: &Subject, before: &Report) -> Option<Verdict> {
    let known = drive_of(before, subject.drives.first()?.identity()?)?;
    let size = |subject: &Subject| subject.drives.first().map(|drive| drive.bytes);
    let by_ring = |report: &Report| report.backend.starts_with("io_uring");
    if size(known) != size(subject)
        || by_ring(before) != by_ring(report)
        || !before.is_set_like(report)
    {
        return None;
    }
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
        subjects: vec![subject.name.clone()],
        text,
    })
}
