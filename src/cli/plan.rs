//! What a dry run found, and how it is told.

use super::escape::escape;
use super::render::{heading, list, table};
use super::text::{Paint, Tone, push};
use super::units::{count, counted, size};
use crate::exit::Exit;

pub use crate::engine::report::{DryLane, DryRun};

impl DryRun {
    /// Returns the exit code the copy itself would begin with: refused, incomplete or success.
    pub fn exit(&self) -> Exit {
        if !self.fits {
            Exit::Refused
        } else if !self.problems.is_empty() {
            Exit::Incomplete
        } else {
            Exit::Success
        }
    }
}

/// Returns what a dry run found, with its last line end.
pub fn dry_run(plan: &DryRun, paint: Paint) -> String {
    let sum = |pick: fn(&DryLane) -> u64| plan.lanes.iter().map(pick).fold(0, u64::saturating_add);
    let drives = u64::try_from(plan.lanes.len()).unwrap_or(u64::MAX);
    let mut text = format!(
        "would copy {}, {} from {} to {}; nothing was written\n",
        counted(sum(|lane| lane.files), "file", "files"),
        size(sum(|lane| lane.bytes)),
        counted(drives, "drive", "drives"),
        escape(plan.target.as_bytes())
    );
    text.push_str(&heading(paint, "drives"));
    let rows = plan.lanes.iter().map(|lane| {
        let sources: Vec<String> = lane.sources.iter().map(|s| escape(s.as_bytes())).collect();
        vec![
            escape(lane.drive.as_bytes()),
            size(lane.bytes),
            counted(lane.files, "file ", "files"),
            counted(lane.dirs, "directory  ", "directories"),
            sources.join(", "),
        ]
    });
    text.push_str(&table(&rows.collect::<Vec<_>>(), &[1, 2, 3]));
    let (tone, fits) = if plan.fits {
        (Tone::Good, "it fits")
    } else {
        (Tone::Bad, "it does NOT fit")
    };
    let space = format!(
        "needs {}, free {}: {fits}",
        size(plan.needed),
        size(plan.free)
    );
    push(&mut text, format_args!("\n{}\n", paint.paint(tone, &space)));
    if plan.existing > 0 {
        push(
            &mut text,
            format_args!(
                "{} in the target already; --existing decides, unless an unfinished copy put them \
                 there\n",
                counted(plan.existing, "file is", "files are")
            ),
        );
    }
    let total = u64::try_from(plan.problems.len()).unwrap_or(u64::MAX);
    text.push_str(&list(
        &paint.paint(
            Tone::Bad,
            &format!("\nwould NOT be copied: {}\n", count(total)),
        ),
        &plan.problems,
        total,
        None,
    ));
    text
}
