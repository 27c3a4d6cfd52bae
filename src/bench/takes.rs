//! How long each takes by itself, and those that share a drive one after the other. Pure: a report
//! in, seconds out.

use super::falling;
use super::report::{DriveFacts, Measure, Report, Subject};

/// The inner edge of a spinning drive gives about half of its outer one. Where zones were not
/// measured, the slowest case counts with that.
pub(super) const INNER: f64 = 0.5;
/// Zones of a drive whose curve is known.
const ZONES: usize = 3;

/// Seconds: by the medians, at best, at worst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seconds {
    pub(crate) usual: f64,
    pub(crate) best: f64,
    pub(crate) worst: f64,
}

impl Seconds {
    pub(crate) fn of(amount: f64, usual: f64, best: f64, worst: f64) -> Self {
        let over = |rate: f64| if rate > 0.0 { amount / rate } else { 0.0 };
        Self {
            usual: over(usual),
            best: over(best),
            worst: over(worst),
        }
    }

    fn with(self, other: Self, each: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            usual: each(self.usual, other.usual),
            best: each(self.best, other.best),
            worst: each(self.worst, other.worst),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.with(other, |one, two| one + two)
    }

    fn times(self, share: f64) -> Self {
        self.with(self, |one, _| one * share)
    }
}

/// Whether a subject is part of an estimate.
pub(crate) fn is_in(subject: &Subject) -> bool {
    // Nothing in use is what an unmounted drive looks like, but an empty directory was counted.
    let known = subject
        .holds
        .filter(|holds| holds.counted || holds.bytes > 0);
    known.is_some() && subject.read.is_some() && subject.within.is_none()
}

/// Returns how long a subject takes by itself; `None` when it is not part of an estimate.
pub(crate) fn alone(subject: &Subject) -> Option<Seconds> {
    let holds = subject.holds.filter(|_| is_in(subject))?;
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let (bytes, small_files) = (holds.bytes as f64, holds.small_files as f64);
    let all = sequential(subject, bytes)?;
    let Some(small) = subject.small.as_ref().filter(|_| bytes > 0.0) else {
        return Some(all);
    };
    // What reading small files took has their bytes in it. Fewer of them were read than there are, and
    // the others may be larger: none is faster than what is read from end to end.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let share = (holds.small_bytes as f64 / bytes).min(1.0);
    let one_by_one = Seconds::of(small_files, small.rate, small.rate_max, small.rate_min);
    let one_by_one = one_by_one.with(all.times(share), f64::max);
    Some(all.times(1.0 - share).plus(one_by_one))
}

/// How long it takes to read so many bytes of a subject from end to end.
fn sequential(subject: &Subject, bytes: f64) -> Option<Seconds> {
    let read = subject.read.as_ref()?;
    if subject.zones.len() < ZONES {
        let spins = |drive: &DriveFacts| drive.rotational == Some(true);
        let inner = if subject.drives.iter().any(spins) {
            INNER
        } else {
            1.0
        };
        let worst = read.rate_min * inner;
        return Some(Seconds::of(bytes, read.rate, read.rate_max, worst));
    }
    // From the outer edge on, where addresses begin and file systems do as well.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let by = |pick: &dyn Fn(&Measure) -> f64| {
        let places = subject
            .zones
            .iter()
            .map(|zone| (zone.at as f64, pick(&zone.read)));
        falling::seconds(bytes, &places.collect::<Vec<_>>())
    };
    Some(Seconds {
        usual: by(&|read| read.rate),
        best: by(&|read| read.rate_max),
        worst: by(&|read| read.rate_min),
    })
}

/// Subjects that a copy reads one after the other: they share a drive, directly or through others.
#[derive(Debug, Default)]
pub(crate) struct Turns<'r> {
    pub(crate) subjects: Vec<&'r Subject>,
    pub(crate) seconds: Seconds,
}

impl Turns<'_> {
    /// Returns the name of the only one, or of what they share.
    pub(crate) fn name(&self) -> String {
        if let [only] = &self.subjects[..] {
            return only.name.clone();
        }
        let mut names = Vec::new();
        for drive in self.subjects.iter().flat_map(|subject| &subject.drives) {
            let on_it = self.subjects.iter().filter(|it| is_on(it, drive)).count();
            if on_it > 1 && !names.contains(&&*drive.name) {
                names.push(&*drive.name);
            }
        }
        if names.is_empty() {
            // Of a chain: each shares a drive with another, and no drive is under all of them.
            names.extend(self.subjects.iter().map(|subject| &*subject.name));
        }
        names.sort_unstable();
        names.join("+")
    }
}

fn is_on(subject: &Subject, drive: &DriveFacts) -> bool {
    subject.drives.iter().any(|its| its.name == drive.name)
}

/// Returns all that are part of an estimate, as they take turns.
pub(crate) fn turns(report: &Report) -> Vec<Turns<'_>> {
    let mut all: Vec<Turns<'_>> = Vec::new();
    for subject in &report.subjects {
        // One that is no part of it, an array say, makes nobody wait for another.
        let Some(seconds) = alone(subject) else {
            continue;
        };
        let shares = |other: &&Subject| other.drives.iter().any(|drive| is_on(subject, drive));
        let (with, without) = all
            .into_iter()
            .partition::<Vec<_>, _>(|turns| turns.subjects.iter().any(shares));
        all = without;
        let mut turns = Turns::default();
        for other in with {
            turns.subjects.extend(other.subjects);
            turns.seconds = turns.seconds.plus(other.seconds);
        }
        turns.subjects.push(subject);
        turns.seconds = turns.seconds.plus(seconds);
        all.push(turns);
    }
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::report::{Holds, SmallFiles, Zone};

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    fn reading(rate: f64) -> Measure {
        Measure {
            rate,
            rate_min: rate * 0.8,
            rate_max: rate * 1.25,
            ..Measure::default()
        }
    }

    pub(crate) fn on(drives: &[&str], name: &str, bytes: u64, rate: f64) -> Subject {
        let facts = |name: &&str| DriveFacts {
            name: (*name).to_owned(),
            ..DriveFacts::default()
        };
        Subject {
            name: name.to_owned(),
            drives: drives.iter().map(facts).collect(),
            read: Some(reading(rate)),
            holds: Some(Holds {
                bytes,
                files: 10,
                counted: true,
                ..Holds::default()
            }),
            ..Subject::default()
        }
    }

    #[test]
    fn spinning_drives_slow_down_towards_the_middle() {
        let mut spinning = on(&["a"], "a", 1000, 200.0);
        spinning.span_bytes = 1000;
        spinning.drives[0].rotational = Some(true);
        let of = |subject: &Subject| alone(subject).unwrap();
        assert!(
            near(of(&spinning).worst, 12.5),
            "half of the slowest sample"
        );
        let zones = [
            ("outer", 0, 200.0),
            ("middle", 500, 150.0),
            ("inner", 1000, 100.0),
        ];
        let zones = zones.map(|(name, at, rate)| Zone {
            name: name.to_owned(),
            at,
            read: reading(rate),
        });
        // Two places are no curve.
        spinning.zones = zones[..2].to_vec();
        assert!(near(of(&spinning).worst, 12.5));
        spinning.zones = zones.to_vec();
        let full = of(&spinning);
        assert!(near(full.usual, 6.9315), "1000 * ln 2 / 100: {full:?}");
        assert!(near(full.best, 5.5452) && near(full.worst, 8.6643));
        spinning.holds.as_mut().unwrap().bytes = 500;
        let half = of(&spinning);
        assert!(near(half.usual, 2.8768), "its outer half: {half:?}");
    }

    #[test]
    fn bytes_of_small_files_are_read_once() {
        let mut many = on(&["a"], "a", 1000, 100.0);
        let holds = many.holds.as_mut().unwrap();
        (holds.small_files, holds.small_bytes) = (500, 400);
        let takes = |subject: &Subject| alone(subject).unwrap().usual;
        assert!(near(takes(&many), 10.0), "small files were not read");
        let small = |rate: f64| SmallFiles {
            rate,
            rate_min: rate,
            rate_max: rate,
            ..SmallFiles::default()
        };
        many.small = Some(small(50.0));
        assert!(near(takes(&many), 16.0), "600 at 100, 500 files at 50");
        many.small = Some(small(1000.0));
        assert!(near(takes(&many), 10.0), "no faster than their bytes");
    }

    #[test]
    fn what_is_on_one_drive_takes_turns() {
        let mut report = Report {
            subjects: vec![
                on(&["sda"], "sda (/a)", 1000, 100.0),
                on(&["sdb"], "sdb", 1000, 100.0),
                on(&["sda"], "sda (/b)", 500, 50.0),
            ],
            ..Report::default()
        };
        let told = |report: &Report| {
            let all = turns(report);
            let one = |turns: &Turns<'_>| (turns.name(), turns.seconds.usual.round());
            all.iter().map(one).collect::<Vec<_>>()
        };
        let is = |name: &str, seconds: f64| (name.to_owned(), seconds);
        assert_eq!(told(&report), [is("sdb", 10.0), is("sda", 20.0)]);
        // An array of both of which nothing is known is no part of it.
        let mut unknown = on(&["sda", "sdb"], "md0", 100, 100.0);
        unknown.holds = None;
        report.subjects.push(unknown);
        assert_eq!(told(&report), [is("sdb", 10.0), is("sda", 20.0)]);
        report.subjects.pop();
        // An array of both joins them.
        report.subjects.push(on(&["sda", "sdb"], "md0", 100, 100.0));
        assert_eq!(told(&report), [is("sda+sdb", 31.0)]);
    }
}
