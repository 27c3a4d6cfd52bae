//! The problems of a run: the first of them for its report, and a count of all by kind, which decides
//! how it ends.
//!
//! A drive that was lost and is put back is listed anew, and asked anew for everything it had not
//! given. What was said of a file before holds until that file is copied, or has failed again. What was
//! said of folders holds until the lane is through without such a problem: which of them were asked
//! again is not known one by one.

use std::collections::{HashMap, HashSet};

use super::report::{PROBLEMS_MAX, Problem};
use crate::error::ErrorKind;

/// The kind of what is left out of a name that is no hard link any more.
pub(crate) const HARD_LINK: &str = "hard-link";

/// The kind of what was saved of a file with bad spots that is copied whole by now.
pub(crate) const PARTIAL: &str = "partial";

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

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Each with the round of its lane.
    first: Vec<(u32, Noted)>,
    count: u64,
    kinds: HashMap<ErrorKind, u64>,
    /// How often each lane began anew.
    rounds: HashMap<usize, u32>,
    /// Lanes whose folders failed in a round, or that panicked: not everything was asked in it.
    in_part: HashSet<(usize, u32)>,
    /// Lanes whose drives did not give something in a round.
    not_given: HashSet<(usize, u32)>,
    gone: Vec<u64>,
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
        let of = |noted: &Noted| (noted.problem.path.clone(), noted.problem.path_hex.clone());
        let path = of(&noted);
        // Of folders it is their paths that tell which is meant.
        let is_same = |other: &Noted| {
            other.about == about && (about != About::Asked(None) || of(other) == path)
        };
        let before = match lane.filter(|_| round > 0 && about != About::Lasting) {
            Some(lane) => self.remove(lane, is_same),
            None => Gone::default(),
        };
        self.count += 1;
        *self.kinds.entry(noted.kind).or_default() += 1;
        if let Some(lane) = lane {
            if about == About::Asked(None) || noted.kind == ErrorKind::Panic {
                self.in_part.insert((lane, round));
            }
            if matches!(noted.kind, ErrorKind::SourceRead | ErrorKind::SourceLost) {
                self.not_given.insert((lane, round));
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

    /// Notes that a lane is through: what was said of its folders in rounds before holds no longer,
    /// unless one failed in this round as well.
    pub(super) fn went_through(&mut self, lane: usize) -> Gone {
        if self.in_part.contains(&(lane, self.round(Some(lane)))) {
            return Gone::default();
        }
        self.remove(lane, |noted| noted.about == About::Asked(None))
    }

    /// Returns whether the drive of a lane did not give something in this round.
    pub(super) fn gave_not_all(&self, lane: usize) -> bool {
        self.not_given.contains(&(lane, self.round(Some(lane))))
    }

    /// Notes that the file that lands at `path` was copied: what was said of it in rounds before holds
    /// no longer.
    pub(super) fn copied(&mut self, lane: usize, path: impl FnOnce() -> Vec<u8>) -> Gone {
        if self.round(Some(lane)) == 0 || self.first.is_empty() {
            return Gone::default();
        }
        let path = path();
        self.remove(lane, |noted| match &noted.about {
            About::Asked(of) => of.as_ref() == Some(&path),
            About::File(of) => *of == path,
            About::Lasting => false,
        })
    }

    /// Takes out what came up in a lane in rounds before this one, as far as it is among the first.
    fn remove(&mut self, lane: usize, goes: impl Fn(&Noted) -> bool) -> Gone {
        let now = self.round(Some(lane));
        let mut gone = Gone::default();
        let (lines, kinds) = (&mut self.gone, &mut self.kinds);
        self.first.retain(|(round, noted)| {
            if noted.lane != Some(lane) || *round >= now || !goes(noted) {
                return true;
            }
            gone.count += 1;
            gone.bytes += noted.bytes;
            gone.maps.extend(map_of(noted));
            lines.push(noted.line);
            if let Some(count) = kinds.get_mut(&noted.kind) {
                *count = count.saturating_sub(1);
            }
            false
        });
        self.count = self.count.saturating_sub(gone.count);
        self.kinds.retain(|_, count| *count > 0);
        gone
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
    fn what_was_said_of_a_file_holds_until_it_is_copied() {
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
        assert_eq!((gone.count, gone.bytes), (1, 10), "that of the folder");
        assert_eq!(lines(&kept), ["0", "1", "3", "4", "5"]);
        assert_eq!(kept.copied(0, || "a".into()).count, 1);
        assert_eq!(lines(&kept), ["1", "3", "4", "5"]);
        assert_eq!(kept.gone(), [2, 0]);
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
        kept.begins_again(0);
        // It was not met again: nobody knows what became of it.
        assert_eq!(kept.went_through(0).count, 0);
        assert_eq!(lines(&kept), ["2", "4"]);
        assert_eq!(kept.gone(), [0, 3, 1]);
    }

    #[test]
    fn a_round_in_which_a_folder_failed_says_nothing_of_those_before() {
        for (about, kind) in [
            (About::Asked(None), ErrorKind::SourceRead),
            (About::Lasting, ErrorKind::Panic),
        ] {
            let mut kept = Kept::default();
            kept.push(noted(0, About::Asked(None), ErrorKind::SourceRead, 0));
            kept.begins_again(0);
            kept.push(noted(0, about, kind, 1));
            assert_eq!(kept.went_through(0), Gone::default());
            assert_eq!(lines(&kept), ["0", "1"]);
            kept.begins_again(0);
            kept.went_through(0);
            assert!(!lines(&kept).contains(&"0".to_owned()));
        }
    }

    #[test]
    fn those_that_are_not_among_the_first_stay() {
        let mut kept = Kept::default();
        for line in 0..2 * PROBLEMS_MAX as u64 {
            kept.push(noted(0, About::Asked(None), ErrorKind::SourceRead, line));
        }
        kept.begins_again(0);
        assert!(!kept.gave_not_all(0));
        assert_eq!(kept.went_through(0).count, PROBLEMS_MAX as u64);
        assert_eq!(kept.problems(), (Vec::new(), PROBLEMS_MAX as u64));
        assert_eq!(kept.kinds(), [ErrorKind::SourceRead]);
        kept.push(noted(0, file("a"), ErrorKind::SourceRead, 0));
        assert!(kept.gave_not_all(0));
    }
}
