//! One report of the runs into several targets: what an earlier one found stands beside what a later
//! one found. All but that a target was full: what it had no room for is the next one's.

use super::job::Verify;
use super::outcomes::problem_of;
use super::report::{Evidence, LaneReport, PROBLEMS_MAX, Problem, Report};
use super::summary::add;
use super::verdict::STOPPED;
use crate::error::{Error, ErrorKind, Side};
use crate::exit::{Exit, exit_of, worst};

/// What a visit to a target that is full came to.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) code: u8,
    pub(super) problems: Vec<Problem>,
    /// Files in its manifest, if one was written.
    pub(super) records: Option<u64>,
    pub(super) cleared: u64,
    pub(super) owners_not_kept: u64,
}

impl Visit {
    /// Returns what a visit came to by its own report.
    pub(super) fn of(report: &Report) -> Self {
        Self {
            code: report.exit_code,
            problems: report.problems.clone(),
            records: Some(report.manifest_records),
            cleared: report.privileges_cleared,
            owners_not_kept: report.owners_not_kept,
        }
    }
}

/// What the runs before a visit came to: with what the visit finds, that is what the target's own
/// report says.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) overall: Report,
    /// Files in the target's manifest before.
    pub(super) records: u64,
    /// Whether nothing comes after it.
    pub(super) closes: bool,
}

impl Told {
    /// Returns the report for the target that was visited, by the visit's own.
    pub(super) fn with(&self, visit: &Report, verify: Verify) -> Report {
        let mut told = in_target(&self.overall, visit);
        if !self.closes && visit.exit_code == Exit::Success.code() {
            forget_room(&mut told);
        }
        add_visit(
            &mut told,
            Visit::of(visit),
            self.records,
            verify,
            self.closes,
        );
        told
    }
}

/// Returns the report of the whole as it stands in a target; what is of the target alone is from its
/// own report.
pub(super) fn in_target(overall: &Report, own: &Report) -> Report {
    Report {
        target: own.target.clone(),
        mounts: own.mounts.clone(),
        manifest_records: own.manifest_records,
        names_outside_b3sum: own.names_outside_b3sum,
        targets: own.targets.clone(),
        resumed: own.resumed,
        ended: own.ended.clone(),
        seconds: own.seconds,
        ..overall.clone()
    }
}

/// Adds to a drive's part of a report what the runs before found of it; before its verdict.
pub(super) fn add_lane(lane: &mut LaneReport, before: &Report, verify: Verify) {
    let Some(earlier) = part_of(lane, before) else {
        return;
    };
    let (totals, then) = (&mut lane.totals, &earlier.totals);
    totals.problems += then.problems;
    totals.changed += then.changed;
    // Met again by every run.
    totals.existing = totals.existing.max(then.existing);
    totals.existing_bytes = totals.existing_bytes.max(then.existing_bytes);
    totals.salvaged = totals.salvaged.max(then.salvaged);
    if verify != Verify::None {
        add_evidence(&mut lane.evidence, &earlier.evidence);
    }
    if matches!(earlier.health.as_str(), "gone" | "quarantined") {
        lane.health.clone_from(&earlier.health);
    }
}

/// Says of a drive that is called safe what the runs before said against it.
pub(super) fn add_verdict(lane: &mut LaneReport, before: &Report) {
    let earlier = part_of(lane, before).filter(|earlier| speaks_against(earlier));
    if let Some(earlier) = earlier.filter(|_| lane.safe_to_release) {
        lane.safe_to_release = false;
        lane.verdict.clone_from(&earlier.verdict);
    }
}

/// Returns whether a drive is not safe for another reason than that a target was full.
fn speaks_against(lane: &LaneReport) -> bool {
    !lane.safe_to_release && lane.verdict != STOPPED
}

fn part_of<'r>(lane: &LaneReport, before: &'r Report) -> Option<&'r LaneReport> {
    let mut lanes = before.lanes.iter();
    // Not by its name: it may have come back under another one.
    lanes.find(|it| it.sources == lane.sources)
}

/// Adds what is not of one drive, and the drives that are left out by now.
pub(super) fn add_rest(report: &mut Report, before: &Report, verify: Verify) {
    let mut code = code_of(before);
    if before.lanes.iter().any(speaks_against) {
        code = worst(code, Exit::Incomplete);
    }
    for earlier in &before.lanes {
        if report
            .lanes
            .iter()
            .any(|lane| part_of(lane, before).is_some_and(|it| std::ptr::eq(it, earlier)))
        {
            continue;
        }
        add(&mut report.totals, &earlier.totals);
        if !earlier.safe_to_release {
            code = worst(code, Exit::Incomplete);
        }
        if verify == Verify::None {
            add_evidence(&mut report.evidence, &earlier.evidence);
        }
        report.lanes.push(earlier.clone());
    }
    if verify != Verify::None {
        add_evidence(&mut report.evidence, &before.evidence);
    }
    report.exit_code = worst(exit(report.exit_code), code).code();
    report.privileges_cleared += before.privileges_cleared;
    report.owners_not_kept += before.owners_not_kept;
    report.repairs.splice(0..0, before.repairs.iter().cloned());
    report.problem_count = join(
        (&mut report.problems, report.problem_count),
        (&before.problems, before.problem_count),
    );
    report.skipped_count = join(
        (&mut report.skipped, report.skipped_count),
        (&before.skipped, before.skipped_count),
    );
    report.totals.problems = report.problem_count;
    for lane in &mut report.lanes {
        // What a later run met again counts once.
        lane.totals.problems = lane.totals.problems.min(report.problem_count);
    }
}

/// Returns the exit code of a run before: that its target was full is nothing against it.
fn code_of(before: &Report) -> Exit {
    match exit(before.exit_code) {
        Exit::Stopped => Exit::Success,
        code => code,
    }
}

fn exit(code: u8) -> Exit {
    Exit::from_code(code).unwrap_or(Exit::Failure)
}

fn add_evidence(sum: &mut Evidence, part: &Evidence) {
    sum.hashed += part.hashed;
    sum.read_back += part.read_back;
    sum.read_back_near += part.read_back_near;
    sum.cached += part.cached;
    sum.source_read_twice += part.source_read_twice;
}

/// Adds what another list has and this one has not; returns how many there are in all.
fn join(now: (&mut Vec<Problem>, u64), before: (&[Problem], u64)) -> u64 {
    let is_all = |list: &[Problem], count| list.len() as u64 == count;
    let are_all = is_all(now.0, now.1) && is_all(before.0, before.1);
    let (list, count) = now;
    let is_new = |it: &&Problem| {
        let same = |other: &Problem| {
            (&other.path, &other.path_hex, &other.kind) == (&it.path, &it.path_hex, &it.kind)
        };
        !list.iter().any(same)
    };
    let mut all: Vec<Problem> = before.0.iter().filter(is_new).cloned().collect();
    let count = if are_all {
        all.len() as u64 + count
    } else {
        // How many of them are the same cannot be told any more.
        count.max(before.1)
    };
    all.append(list);
    all.truncate(PROBLEMS_MAX);
    *list = all;
    count
}

/// Adds an error that ended a copy between two targets: what was done before is reported all the
/// same.
pub(super) fn add_error(report: &mut Report, error: &Error) {
    report.problem_count = join(
        (&mut report.problems, report.problem_count),
        (&[problem_of(error)], 1),
    );
    report.totals.problems = report.problem_count;
    report.exit_code = worst(exit(report.exit_code), exit_of(error.kind())).code();
    for lane in report.lanes.iter_mut().filter(|lane| lane.safe_to_release) {
        lane.safe_to_release = false;
        "something that all drives share failed".clone_into(&mut lane.verdict);
    }
}

/// Adds what a visit to a target came to; `records` is what its manifest had before. `closes`:
/// nothing comes after it, so what it could not do is not done.
pub(super) fn add_visit(
    report: &mut Report,
    visit: Visit,
    records: u64,
    verify: Verify,
    closes: bool,
) {
    let full = ErrorKind::TargetFull.word();
    let was_any = !visit.problems.is_empty();
    let mut problems = visit.problems;
    if !closes {
        // That it is full is known.
        problems.retain(|problem| problem.kind != full);
    }
    let mut code = match exit(visit.code) {
        Exit::Stopped if !closes => Exit::Success,
        _ if was_any && problems.is_empty() => Exit::Success,
        code => code,
    };
    report.stopped |= closes && code == Exit::Stopped;
    report.privileges_cleared += visit.cleared;
    report.owners_not_kept += visit.owners_not_kept;
    if verify != Verify::None && visit.records.is_some_and(|now| now > records) {
        let what = "files of a run that was cut short were found whole in the end, but not \
                    verified; run again to go on";
        let kind = ErrorKind::Unverified;
        problems.push(problem_of(&Error::new(
            kind,
            Side::Target,
            &report.target,
            what,
        )));
        code = worst(code, Exit::Incomplete);
    }
    let count = problems.len() as u64;
    report.problem_count = join(
        (&mut report.problems, report.problem_count),
        (&problems, count),
    );
    report.totals.problems = report.problem_count;
    report.exit_code = worst(exit(report.exit_code), code).code();
    if code != Exit::Success {
        for lane in report.lanes.iter_mut().filter(|lane| lane.safe_to_release) {
            lane.safe_to_release = false;
            "something that all drives share failed".clone_into(&mut lane.verdict);
        }
    }
}

/// Takes back that the records of a full target could not be written, when a visit has written them.
pub(super) fn forget_room(report: &mut Report) {
    if exit(report.exit_code) == Exit::Failure && report.problem_count == 0 {
        report.exit_code = Exit::Stopped.code();
        for lane in &mut report.lanes {
            STOPPED.clone_into(&mut lane.verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str) -> Problem {
        Problem {
            path: path.to_owned(),
            path_hex: None,
            kind: "digest-mismatch".to_owned(),
            reason: String::new(),
            unreadable: None,
        }
    }

    #[test]
    fn what_two_runs_met_counts_once_and_nothing_is_dropped() {
        let mut now = vec![problem("b"), problem("c")];
        let count = join((&mut now, 2), (&[problem("a"), problem("b")], 2));
        assert_eq!(count, 3);
        let paths: Vec<&str> = now.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "c"]);
        // Of lists that are cut, the longer count stands.
        assert_eq!(join((&mut now, 5000), (&[problem("a")], 7000)), 7000);
    }
}
