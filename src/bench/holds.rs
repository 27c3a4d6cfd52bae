//! What is on PATHs of which not every folder was looked at: by what is in use on their file systems,
//! and by what was seen.

use super::report::Holds;
use super::subject::Opened;

/// The file system that a PATH is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) device: (u32, u32),
    /// Bytes in use, where that is known.
    pub(crate) used: Option<u64>,
}

/// A PATH in a file system, and what was seen of it.
type Seen = (FileSystem, Holds);

/// Puts in place of what was seen of PATHs that were not looked at to the end what they may hold,
/// and tells of it.
pub(crate) fn settle(opened: &mut [Opened]) {
    // What is in another PATH counts there.
    let own = |it: &Opened| it.report.holds.filter(|_| it.report.within.is_none());
    let seen = opened.iter().map(|it| it.file_system.zip(own(it)));
    let seen: Vec<Option<Seen>> = seen.collect();
    let all: Vec<Seen> = seen.iter().copied().flatten().collect();
    for (one, seen) in opened.iter_mut().zip(seen) {
        let Some((file_system, holds)) = seen.filter(|(_, holds)| !holds.counted) else {
            continue;
        };
        let likely = likely(file_system, holds, &all);
        let warning = told(file_system, holds, likely);
        one.report.warnings.push(warning);
        one.report.holds = Some(likely);
    }
}

/// Returns what a PATH may hold of which `seen` was seen: its share of what is in use and was not
/// counted for another PATH, by what was seen, so that a file system counts once; but no less than was
/// seen. Files are as many as go with that.
fn likely(file_system: FileSystem, seen: Holds, all: &[Seen]) -> Holds {
    let Some(used) = file_system.used else {
        return seen;
    };
    let beside = || {
        let all = all
            .iter()
            .filter(|(its, _)| its.device == file_system.device);
        all.map(|(_, holds)| holds)
    };
    let counted = beside().filter(|holds| holds.counted);
    let left = used.saturating_sub(counted.map(|holds| holds.bytes).sum());
    let cut = beside().filter(|holds| !holds.counted);
    let (count, of_all) = cut.fold((0, 0), |(count, bytes), holds| {
        (count + 1, bytes + holds.bytes)
    });
    if of_all == 0 {
        return Holds {
            bytes: left / count.max(1),
            ..seen
        };
    }
    let bytes = part(left, seen.bytes, of_all).max(seen.bytes);
    let scaled = |number: u64| part(number, bytes, seen.bytes);
    Holds {
        bytes,
        files: scaled(seen.files),
        small_files: scaled(seen.small_files),
        small_bytes: scaled(seen.small_bytes),
        counted: false,
    }
}

/// Returns `number * one / all`; nothing of nothing.
fn part(number: u64, one: u64, all: u64) -> u64 {
    let product = u128::from(number) * u128::from(one);
    let part = product.checked_div(u128::from(all)).unwrap_or(0);
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn told(file_system: FileSystem, seen: Holds, likely: Holds) -> String {
    let mb = |bytes: u64| bytes / 1_000_000;
    let stand = match file_system.used {
        Some(used) if likely.bytes == used => {
            format!("the {} MB in use on its file system", mb(used))
        }
        Some(_) if likely.bytes == seen.bytes => {
            "no more than themselves: as much as is in use on its file system".to_owned()
        }
        Some(_) => format!(
            "{} MB, its share of what is in use on its file system",
            mb(likely.bytes)
        ),
        None => "all of it: it may hold more".to_owned(),
    };
    format!(
        "not every folder in it was looked at, which takes long: {} files of {} MB that were seen \
         stand for {stand}",
        seen.files,
        mb(seen.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Subject;

    const MB: u64 = 1_000_000;

    #[test]
    fn what_is_in_another_path_takes_no_share_from_it() {
        let subject = |within: Option<&str>, holds: Holds| {
            let mut opened = Opened::of(Subject {
                within: within.map(str::to_owned),
                holds: Some(holds),
                ..Subject::default()
            });
            opened.file_system = Some(on(1, Some(1000)));
            opened
        };
        for inner in [seen(100, true), seen(50, false)] {
            let mut all = [
                subject(None, seen(50, false)),
                subject(Some("outer"), inner),
            ];
            settle(&mut all);
            let bytes = all.map(|it| it.report.holds.map(|holds| holds.bytes / MB));
            assert_eq!(bytes, [Some(1000), Some(inner.bytes / MB)]);
        }
    }

    fn on(minor: u32, used: Option<u64>) -> FileSystem {
        FileSystem {
            device: (8, minor),
            used: used.map(|mb| mb * MB),
        }
    }

    fn seen(mb: u64, counted: bool) -> Holds {
        Holds {
            bytes: mb * MB,
            files: 100,
            small_files: 90,
            small_bytes: mb * MB / 10,
            counted,
        }
    }

    #[test]
    fn small_files_are_as_many_as_their_share_of_what_was_seen() {
        let here = on(1, Some(5000));
        let found = likely(here, seen(50, false), &[(here, seen(50, false))]);
        let expected = Holds {
            bytes: 5000 * MB,
            files: 10_000,
            small_files: 9000,
            small_bytes: 500 * MB,
            counted: false,
        };
        assert_eq!(found, expected);
        assert_eq!(
            told(here, seen(50, false), found),
            "not every folder in it was looked at, which takes long: 100 files of 50 MB that were seen \
             stand for the 5000 MB in use on its file system"
        );
    }

    #[test]
    fn a_file_system_counts_once() {
        let (here, elsewhere) = (on(1, Some(5000)), on(2, Some(700)));
        let all = [
            (here, seen(10, false)),
            (here, seen(30, false)),
            (here, seen(1000, true)),
            (elsewhere, seen(10, false)),
        ];
        let mb = |at: usize| likely(all[at].0, all[at].1, &all).bytes / MB;
        assert_eq!((mb(0), mb(1), mb(3)), (1000, 3000, 700));
        let share = told(here, all[0].1, likely(here, all[0].1, &all));
        assert!(
            share.ends_with("stand for 1000 MB, its share of what is in use on its file system"),
            "{share}"
        );
        // Of nothing seen, each the same.
        let nothing = [(here, Holds::default()), (here, Holds::default())];
        let found = likely(here, Holds::default(), &nothing);
        assert_eq!((found.bytes, found.small_files), (2500 * MB, 0));
    }

    #[test]
    fn what_was_seen_is_the_least() {
        let unknown = on(1, None);
        let found = likely(unknown, seen(50, false), &[(unknown, seen(50, false))]);
        assert_eq!(found, seen(50, false));
        assert!(told(unknown, found, found).ends_with("stand for all of it: it may hold more"));
        // Sparse or compressed, files hold more than is in use.
        let packed = on(1, Some(20));
        let found = likely(packed, seen(50, false), &[(packed, seen(50, false))]);
        assert_eq!(found, seen(50, false));
    }
}
