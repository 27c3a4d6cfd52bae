//! Whether a drive may be released: what a person acts on who stands in front of it.
//!
//! Yes only when nothing is known that speaks against it. What is said is about one drive, but for
//! failures of what all drives share.

use super::job::Verify;
use super::report::LaneReport;

/// What is said of a drive when a run was stopped, or its target was full, before everything was
/// copied.
pub(super) const STOPPED: &str = "stopped before the end; run again to go on";

/// What counts for every drive of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whole {
    pub(super) verify: Verify,
    /// The target, the journal or the manifest failed.
    pub(super) failed: bool,
    /// Something went wrong that is no drive's in particular.
    pub(super) shared_problem: bool,
    /// Reading again was cut short by a stop.
    pub(super) cut_short: bool,
}

/// Says whether a drive may be released, and why (not), for people.
pub(super) fn verdict(lane: &LaneReport, run: Whole) -> (bool, String) {
    let no = |why: &str| (false, why.to_owned());
    let totals = &lane.totals;
    if run.failed {
        return no("the target or its records failed");
    }
    match lane.health.as_str() {
        "gone" => return no("it went away before everything on it was copied"),
        "quarantined" => return no("it stopped answering before everything on it was copied"),
        _ => {}
    }
    if totals.problems > 0 {
        let things = counted(totals.problems, "thing", "things");
        return no(&format!("{things} not copied whole"));
    }
    if run.shared_problem {
        return no("something that all drives share failed");
    }
    match lane.state.as_str() {
        "done" => {}
        "stopped" => return no(STOPPED),
        _ => return no("its lane ended early"),
    }
    if run.cut_short {
        return no(
            "everything copied and durable, but reading it again was stopped; run again to go on",
        );
    }
    if totals.existing > 0 {
        let names = counted(totals.existing, "name was", "names were");
        return no(&format!("{names} taken in the target, and not compared"));
    }
    let evidence = &lane.evidence;
    let unproven = evidence.hashed + evidence.cached;
    if run.verify != Verify::None && unproven > 0 {
        let files = counted(unproven, "file", "files");
        return no(&format!("{files} could not be read back from the medium"));
    }
    let once = evidence.read_once();
    if run.verify == Verify::Both && once > 0 {
        let files = counted(once, "file", "files");
        return no(&format!("{files} could not be read a second time"));
    }
    let cache = match evidence.read_back_near {
        0 => " from the medium",
        _ => " (the target drive's own cache is not ruled out)",
    };
    let how = match run.verify {
        Verify::None => "everything copied, hashed and durable; not read back".to_owned(),
        Verify::Target => format!("everything copied, durable and read back{cache}"),
        Verify::Both => {
            format!("everything copied, durable, read back{cache}, and read twice from the source")
        }
    };
    (true, how)
}

fn counted(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::report::{Evidence, Totals};

    fn lane() -> LaneReport {
        LaneReport {
            drive: "sdb".to_owned(),
            model: None,
            serial: None,
            rotational: None,
            sources: Vec::new(),
            state: "done".to_owned(),
            health: "ok".to_owned(),
            totals: Totals {
                files: 7,
                ..Totals::default()
            },
            seconds: 1.0,
            limited_by: String::new(),
            best_bytes_per_second: None,
            share_of_best: None,
            waited_seconds: [0.0; 4],
            evidence: Evidence::default(),
            safe_to_release: false,
            verdict: String::new(),
            io: String::new(),
            buffers: 0,
        }
    }

    fn told(change: impl FnOnce(&mut LaneReport, &mut Whole)) -> (bool, String) {
        let (mut lane, mut run) = (lane(), Whole::default());
        change(&mut lane, &mut run);
        verdict(&lane, run)
    }

    #[test]
    fn whatever_is_known_against_it_keeps_a_drive() {
        type Change = fn(&mut LaneReport, &mut Whole);
        let cases: [(Change, &str); 15] = [
            (
                |_, run| run.failed = true,
                "the target or its records failed",
            ),
            (
                |lane, _| {
                    lane.health = "gone".to_owned();
                    lane.totals.problems = 1;
                },
                "it went away before everything on it was copied",
            ),
            (
                |lane, _| lane.health = "quarantined".to_owned(),
                "it stopped answering before everything on it was copied",
            ),
            (
                |lane, _| lane.totals.problems = 1,
                "1 thing not copied whole",
            ),
            (
                |lane, _| lane.totals.problems = 3,
                "3 things not copied whole",
            ),
            (
                |_, run| run.shared_problem = true,
                "something that all drives share failed",
            ),
            (
                |lane, _| lane.state = "stopped".to_owned(),
                "stopped before the end; run again to go on",
            ),
            (
                |lane, _| lane.state = "failed".to_owned(),
                "its lane ended early",
            ),
            (
                |lane, _| lane.state = "running".to_owned(),
                "its lane ended early",
            ),
            (
                |_, run| run.cut_short = true,
                "everything copied and durable, but reading it again was stopped; run again to \
                 go on",
            ),
            (
                |lane, _| lane.totals.existing = 1,
                "1 name was taken in the target, and not compared",
            ),
            (
                |lane, run| {
                    run.verify = Verify::Target;
                    lane.evidence.cached = 2;
                    lane.evidence.read_back = 5;
                },
                "2 files could not be read back from the medium",
            ),
            (
                |lane, run| {
                    run.verify = Verify::Target;
                    lane.evidence.hashed = 1;
                },
                "1 file could not be read back from the medium",
            ),
            (
                |lane, run| {
                    run.verify = Verify::Both;
                    lane.evidence.read_back = 5;
                    lane.evidence.read_back_near = 2;
                    lane.evidence.source_read_twice = 6;
                },
                "1 file could not be read a second time",
            ),
            (
                |lane, run| {
                    run.failed = true;
                    lane.totals.problems = 3;
                },
                "the target or its records failed",
            ),
        ];
        for (change, why) in cases {
            assert_eq!(told(change), (false, why.to_owned()));
        }
    }

    #[test]
    fn what_is_safe_says_how_it_is_known() {
        let safe = |change: fn(&mut LaneReport, &mut Whole)| {
            let (is_safe, how) = told(change);
            assert!(is_safe, "{how}");
            how
        };
        assert_eq!(
            safe(|lane, _| lane.evidence.hashed = 7),
            "everything copied, hashed and durable; not read back"
        );
        assert_eq!(
            safe(|lane, run| {
                run.verify = Verify::Target;
                lane.evidence.read_back = 7;
            }),
            "everything copied, durable and read back from the medium"
        );
        assert_eq!(
            safe(|lane, run| {
                run.verify = Verify::Target;
                lane.evidence.read_back = 6;
                lane.evidence.read_back_near = 1;
            }),
            "everything copied, durable and read back (the target drive's own cache is not ruled \
             out)"
        );
        assert_eq!(
            safe(|lane, run| {
                run.verify = Verify::Both;
                lane.evidence.read_back = 7;
                lane.evidence.source_read_twice = 7;
            }),
            "everything copied, durable, read back from the medium, and read twice from the source"
        );
    }
}
