//! The problems of a run: the first of them for its report, and a count of all by kind, which decides
//! how it ends.
//!
//! A drive that was lost and is put back is listed anew, and asked anew for everything it had not
//! given. What was said of that before holds no longer: when its lane is through, all of it goes, and
//! what still fails has been said again. A drive that is lost once more was not asked for everything:
//! then only that goes of which something is known since.

use std::collections::HashMap;

use super::report::{PROBLEMS_MAX, Problem};
use crate::error::ErrorKind;

/// Most lines of the complete list whose numbers are remembered: half a MiB.
const LINES_MAX: usize = 1 << 16;

/// The kind of what is left out of a name that is no hard link any more.
pub(crate) const HARD_LINK: &str = "hard-link";

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// What is asked anew when its drive is put back; for a file, with its path below TARGET.
    Asked(Option<Vec<u8>>),
    /// The file that lands at this path below TARGET, which may have been copied all the same.
    File(Vec<u8>),
    /// What stays so.
    Lasting,
}

/// A problem with what is known of it.
#[derive(Debug)]
pub(super) struct Noted {
    /// The lane it came up in.
    pub(super) lane: Option<usize>,
    pub(super) about: About,
    pub(super) kind: ErrorKind,
    /// Bytes that were not copied for it.
    pub(super) bytes: u64,
    /// Its number in the complete list.
    pub(super) line: u64,
    pub(super) problem: Problem,
}

/// Problems that hold no longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Maps of what could not be read.
    pub(super) maps: Vec<String>,
}

/// What came up in a lane in one of its rounds and is asked anew.
#[derive(Debug, Default)]
struct Tally {
    by_kind: HashMap<ErrorKind, u64>,
    bytes: u64,
    lines: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Each with the round of its lane.
    first: Vec<(u32, Noted)>,
    count: u64,
    kinds: HashMap<ErrorKind, u64>,
    /// How often each lane began anew.
    rounds: HashMap<usize, u32>,
    asked: HashMap<(usize, u32), Tally>,
    lines: usize,
    gone: Vec<u64>,
    has_forgotten: bool,
}

impl Kept {
    fn round(&self, lane: Option<usize>) -> u32 {
        let round = lane.and_then(|lane| self.rounds.get(&lane));
        round.copied().unwrap_or(0)
    }

    /// Adds one. Returns what was said of the same in a round before, and holds no longer.
    pub(super) fn push(&mut self, noted: Noted) -> Gone {
        let round = self.round(noted.lane);
        let (lane, about) = (noted.lane, noted.about.clone());
        let before = match lane.filter(|_| round > 0 && about != About::Asked(None)) {
            Some(lane) => self.remove(lane, |other| *other == about),
            None => Gone::default(),
        };
        self.count += 1;
        *self.kinds.entry(noted.kind).or_default() += 1;
        if let (Some(lane), About::Asked(_)) = (noted.lane, &noted.about) {
            let tally = self.asked.entry((lane, round)).or_default();
            *tally.by_kind.entry(noted.kind).or_default() += 1;
            tally.bytes += noted.bytes;
            if self.lines < LINES_MAX {
                self.lines += 1;
                tally.lines.push(noted.line);
            } else {
                self.has_forgotten = true;
            }
        }
        if self.first.len() < PROBLEMS_MAX {
            self.first.push((round, noted));
        }
        before
    }

    /// Notes that a lane begins anew.
    pub(super) fn begins_again(&mut self, lane: usize) {
        *self.rounds.entry(lane).or_default() += 1;
    }

    /// Notes that a lane is through with everything: what was said of it in rounds before, and was
    /// asked anew, holds no longer.
    pub(super) fn went_through(&mut self, lane: usize) -> Gone {
        let now = self.round(Some(lane));
        let mut gone = Gone::default();
        let rounds: Vec<u32> = (0..now).collect();
        for round in rounds {
            let Some(tally) = self.asked.remove(&(lane, round)) else {
                continue;
            };
            for (kind, count) in tally.by_kind {
                gone.count += count;
                self.forget(kind, count);
            }
            gone.bytes += tally.bytes;
            self.gone.extend(tally.lines);
        }
        self.first.retain(|(round, noted)| {
            let is_asked = matches!(noted.about, About::Asked(_));
            let goes = noted.lane == Some(lane) && *round < now && is_asked;
            if goes {
                gone.maps.extend(map_of(noted));
            }
            !goes
        });
        gone
    }

    /// Notes that the file that lands at `path` was copied: what was said of it in rounds before holds
    /// no longer.
    pub(super) fn copied(&mut self, lane: usize, path: impl FnOnce() -> Vec<u8>) -> Gone {
        if self.round(Some(lane)) == 0 || self.first.is_empty() {
            return Gone::default();
        }
        let path = path();
        self.remove(lane, |about| match about {
            About::Asked(of) => of.as_ref() == Some(&path),
            About::File(of) => *of == path,
            About::Lasting => false,
        })
    }

    /// Takes out what came up in a lane in rounds before this one, as far as it is among the first.
    fn remove(&mut self, lane: usize, goes: impl Fn(&About) -> bool) -> Gone {
        let now = self.round(Some(lane));
        let mut gone = Gone::default();
        let mut kinds = Vec::new();
        let (asked, lines) = (&mut self.asked, &mut self.gone);
        self.first.retain(|(round, noted)| {
            if noted.lane != Some(lane) || *round >= now || !goes(&noted.about) {
                return true;
            }
            gone.count += 1;
            gone.bytes += noted.bytes;
            gone.maps.extend(map_of(noted));
            lines.push(noted.line);
            kinds.push(noted.kind);
            if let (About::Asked(_), Some(tally)) = (&noted.about, asked.get_mut(&(lane, *round))) {
                if let Some(count) = tally.by_kind.get_mut(&noted.kind) {
                    *count = count.saturating_sub(1);
                }
                tally.bytes = tally.bytes.saturating_sub(noted.bytes);
                tally.lines.retain(|line| *line != noted.line);
            }
            false
        });
        for kind in kinds {
            self.forget(kind, 1);
        }
        gone
    }

    fn forget(&mut self, kind: ErrorKind, count: u64) {
        self.count = self.count.saturating_sub(count);
        if let Some(all) = self.kinds.get_mut(&kind) {
            *all = all.saturating_sub(count);
        }
        self.kinds.retain(|_, count| *count > 0);
    }

    /// Returns the kinds of all.
    pub(super) fn kinds(&self) -> Vec<ErrorKind> {
        self.kinds.keys().copied().collect()
    }

    /// Returns the first, and how many there are.
    pub(super) fn problems(&self) -> (Vec<Problem>, u64) {
        let first = self.first.iter().map(|(_, noted)| noted.problem.clone());
        (first.collect(), self.count)
    }

    /// Returns the numbers, in the complete list, of those that hold no longer.
    pub(super) fn gone(&self) -> &[u64] {
        &self.gone
    }

    /// Returns whether there may be others, whose numbers are not known.
    pub(super) fn has_forgotten(&self) -> bool {
        self.has_forgotten && !self.rounds.is_empty()
    }
}

fn map_of(noted: &Noted) -> Option<String> {
    noted.problem.unreadable.as_ref()?.map.clone()
}

/// What was left out on purpose.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    first: Vec<(usize, Problem)>,
    by_lane: HashMap<usize, u64>,
    has_begun_again: bool,
}

impl LeftOut {
    pub(super) fn push(&mut self, lane: usize, problem: Problem) {
        let is_known = |(of, known): &(usize, Problem)| *of == lane && *known == problem;
        if self.has_begun_again && self.first.iter().any(is_known) {
            return;
        }
        *self.by_lane.entry(lane).or_default() += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push((lane, problem));
        }
    }

    /// Notes that a lane begins anew: it meets all of them again, but for names of files that are
    /// copied, which are known to be cut off from others.
    pub(super) fn begins_again(&mut self, lane: usize) {
        self.has_begun_again = true;
        self.first
            .retain(|(of, it)| *of != lane || it.kind == HARD_LINK);
        let stay = self.first.iter().filter(|(of, _)| *of == lane);
        self.by_lane.insert(lane, stay.count() as u64);
    }

    /// Returns the first, and how many there are.
    pub(super) fn all(&self) -> (Vec<Problem>, u64) {
        let first = self.first.iter().map(|(_, problem)| problem.clone());
        (first.collect(), self.by_lane.values().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(lane: usize, about: About, kind: ErrorKind, line: u64) -> Noted {
        Noted {
            lane: Some(lane),
            about,
            kind,
            bytes: 10,
            line,
            problem: Problem {
                path: format!("{line}"),
                path_hex: None,
                kind: kind.word().to_owned(),
                reason: String::new(),
                unreadable: None,
            },
        }
    }

    fn file(path: &str) -> About {
        About::Asked(Some(path.into()))
    }

    fn lines(kept: &Kept) -> Vec<String> {
        let (first, count) = kept.problems();
        assert_eq!(first.len() as u64, count);
        first.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_lane_that_is_through_has_said_all_that_still_holds() {
        let mut kept = Kept::default();
        kept.push(noted(0, file("a"), ErrorKind::SourceRead, 0));
        kept.push(noted(1, file("b"), ErrorKind::SourceRead, 1));
        kept.push(noted(0, About::Asked(None), ErrorKind::SourceChanged, 2));
        kept.push(noted(0, About::Lasting, ErrorKind::Panic, 3));
        kept.push(noted(0, About::File("c".into()), ErrorKind::Metadata, 4));
        // It was never lost.
        assert_eq!(kept.went_through(1).count, 0);
        kept.begins_again(0);
        kept.push(noted(0, file("d"), ErrorKind::TargetExists, 5));
        let gone = kept.went_through(0);
        assert_eq!((gone.count, gone.bytes), (2, 20));
        assert_eq!(lines(&kept), ["1", "3", "4", "5"]);
        assert_eq!(kept.gone(), [0, 2]);
        let mut kinds = kept.kinds();
        kinds.sort_by_key(|kind| kind.word());
        let left = [
            ErrorKind::Metadata,
            ErrorKind::Panic,
            ErrorKind::SourceRead,
            ErrorKind::TargetExists,
        ];
        let mut left = left.to_vec();
        left.sort_by_key(|kind| kind.word());
        assert_eq!(kinds, left);
    }

    #[test]
    fn of_a_drive_that_is_lost_once_more_only_what_is_known_goes() {
        let mut kept = Kept::default();
        kept.push(noted(0, file("a"), ErrorKind::SourceRead, 0));
        kept.push(noted(0, file("b"), ErrorKind::SourceRead, 1));
        kept.push(noted(0, file("c"), ErrorKind::SourceRead, 2));
        kept.push(noted(0, About::File("a".into()), ErrorKind::Metadata, 3));
        assert_eq!(kept.copied(0, || "a".into()).count, 0, "in the same round");
        kept.begins_again(0);
        assert_eq!(kept.copied(0, || "a".into()).count, 2);
        assert_eq!(
            kept.push(noted(0, file("b"), ErrorKind::SourceChanged, 4))
                .count,
            1
        );
        assert_eq!(lines(&kept), ["2", "4"]);
        // The next time it is through, with all of them.
        kept.begins_again(0);
        assert_eq!(kept.went_through(0).count, 2);
        assert_eq!(kept.problems(), (Vec::new(), 0));
        assert!(kept.kinds().is_empty());
        assert_eq!(kept.gone(), [0, 3, 1, 2, 4]);
    }

    #[test]
    fn those_that_are_not_among_the_first_go_as_well() {
        let mut kept = Kept::default();
        for line in 0..2 * PROBLEMS_MAX as u64 {
            kept.push(noted(0, About::Asked(None), ErrorKind::SourceRead, line));
        }
        kept.begins_again(0);
        assert_eq!(kept.went_through(0).count, 2000);
        assert_eq!(kept.problems(), (Vec::new(), 0));
        assert!(kept.kinds().is_empty());
        assert!(!kept.has_forgotten());
    }
}
