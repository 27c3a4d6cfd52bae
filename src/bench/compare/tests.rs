//! What must come out of comparing two reports.

use proptest::prelude::*;

use super::*;
use crate::bench::report::{DriveFacts, Together, Zone};

pub(super) fn read(rates: [f64; 3]) -> Measure {
    Measure {
        block: 1 << 20,
        depth: 4,
        rate_min: rates[0],
        rate: rates[1],
        rate_max: rates[2],
        ..Measure::default()
    }
}

/// All of a drive of 8,000 bytes.
pub(super) fn whole(name: &str, serial: Option<&str>, rates: [f64; 3]) -> Subject {
    Subject {
        name: name.to_owned(),
        path: format!("/dev/{name}"),
        kind: "device".to_owned(),
        drives: vec![DriveFacts {
            name: name.to_owned(),
            serial: serial.map(str::to_owned),
            bytes: 8000,
            ..DriveFacts::default()
        }],
        span_bytes: 8000,
        read: Some(read(rates)),
        ..Subject::default()
    }
}

/// A part of that drive: a partition, or a directory.
pub(super) fn part(path: &str, kind: &str, serial: &str, rate: f64) -> Subject {
    Subject {
        path: path.to_owned(),
        kind: kind.to_owned(),
        span_bytes: 100,
        ..whole("sda", Some(serial), [rate; 3])
    }
}

pub(super) fn report(subjects: &[Subject]) -> Report {
    Report {
        subjects: subjects.to_vec(),
        ..Report::default()
    }
}

/// Each row in a line: `Z1 /dev/sda1 #2 read same`.
pub(super) fn lines(before: &Report, after: &Report) -> Vec<String> {
    let line = |row: Row| {
        let path = row.path.map_or(String::new(), |path| format!(" {path}"));
        let nth = if row.nth > 1 {
            format!(" #{}", row.nth)
        } else {
            String::new()
        };
        format!("{}{path}{nth} {} {}", row.drive, row.what, row.verdict)
    };
    compare(before, after).into_iter().map(line).collect()
}

fn subjects(before: &[Subject], after: &[Subject]) -> Vec<String> {
    lines(&report(before), &report(after))
}

#[test]
fn a_drive_is_known_again_in_another_slot() {
    let before = [whole("sda", Some("Z1"), [99.0, 100.0, 101.0])];
    let after = [
        whole("sda", Some("Z2"), [99.0, 100.0, 101.0]),
        whole("sdb", Some("Z1"), [49.0, 50.0, 51.0]),
    ];
    assert_eq!(
        subjects(&before, &after),
        ["Z1 read slower", "Z2 read only-after"]
    );
    assert_eq!(
        subjects(&after, &before),
        ["Z2 read only-before", "Z1 read faster"]
    );
}

#[test]
fn what_samples_cover_is_no_change() {
    let at = |rates| [whole("sda", None, rates)];
    let before = at([90.0, 100.0, 110.0]);
    let told = |before: &[Subject], rates| subjects(before, &at(rates));
    assert_eq!(told(&before, [85.0, 92.0, 95.0]), ["sda read same"]);
    assert_eq!(told(&before, [70.0, 75.0, 89.0]), ["sda read slower"]);
    let exact = at([100.0; 3]);
    assert_eq!(told(&exact, [97.0; 3]), ["sda read same"], "3% is nothing");
}

#[test]
fn parts_of_one_drive_are_not_held_against_each_other() {
    let one = [
        part("/dev/sda1", "device", "Z1", 200.0),
        part("/dev/sda2", "device", "Z1", 100.0),
        part("/mnt/a", "directory", "Z1", 150.0),
        whole("sda", Some("Z1"), [210.0; 3]),
    ];
    let mut other = one.clone();
    other.reverse();
    let all_same = [
        "Z1 /dev/sda1 read same",
        "Z1 /dev/sda2 read same",
        "Z1 /mnt/a read same",
        "Z1 read same",
    ];
    assert_eq!(subjects(&one, &one), all_same);
    assert_eq!(subjects(&one, &other), all_same, "in any order");
    assert_eq!(
        subjects(&one[..1], &one[1..]),
        [
            "Z1 /dev/sda1 read only-before",
            "Z1 /dev/sda2 read only-after",
            "Z1 /mnt/a read only-after",
            "Z1 read only-after",
        ]
    );
}

#[test]
fn drives_with_one_number_are_told_apart_by_their_size_or_else_their_order() {
    let mut small = whole("sdb", Some("0"), [20.0; 3]);
    (small.span_bytes, small.drives[0].bytes) = (4000, 4000);
    let drives = [whole("sda", Some("0"), [90.0; 3]), small.clone()];
    let turned = [small, whole("sda", Some("0"), [90.0; 3])];
    assert_eq!(subjects(&drives, &turned), ["0 read same", "0 read same"]);
    let alike = [
        whole("sda", Some("0"), [90.0; 3]),
        whole("sdb", Some("0"), [20.0; 3]),
    ];
    assert_eq!(subjects(&alike, &alike), ["0 read same", "0 #2 read same"]);
    assert_eq!(
        subjects(&alike, &alike[..1]),
        ["0 read same", "0 #2 read only-before"]
    );
}

/// Two or more drives, read together two at a time at this rate.
pub(super) fn together(drives: &[&str], count: usize, rate: f64) -> Report {
    let drives = drives
        .iter()
        .map(|serial| whole(serial, Some(serial), [100.0; 3]));
    Report {
        subjects: drives.collect(),
        together: Some(Together {
            steps: vec![TogetherStep {
                count,
                rate,
                rate_min: rate,
                rate_max: rate,
                ..TogetherStep::default()
            }],
            ..Together::default()
        }),
        ..Report::default()
    }
}

/// Returns the lines that are not of single drives.
fn of_many(before: &Report, after: &Report) -> Vec<String> {
    let all = lines(before, after).into_iter();
    all.filter(|line| !line.contains(" read ")).collect()
}

#[test]
fn steps_are_compared_when_the_same_drives_took_part() {
    let before = together(&["A", "B", "C"], 2, 200.0);
    assert_eq!(
        of_many(&before, &together(&["B", "A", "C"], 2, 100.0)),
        ["all together-2 slower"],
        "in any order"
    );
    assert_eq!(
        of_many(&before, &together(&["A", "C", "B"], 2, 100.0)),
        ["all together-2 only-before", "all together-2 only-after"],
        "A and C are not A and B"
    );
    assert_eq!(
        of_many(&before, &together(&["A", "B", "C"], 3, 200.0)),
        ["all together-2 only-before", "all together-3 only-after"]
    );
    // One that has no rate does not take part.
    let mut failed = together(&["D", "A", "B"], 2, 100.0);
    failed.subjects[0].read = None;
    assert_eq!(of_many(&before, &failed), ["all together-2 slower"]);
}

pub(super) fn into(target: &str, sources: &[&str], rate: f64) -> Report {
    let reached = Some(PairRate {
        rate,
        rate_min: rate,
        rate_max: rate,
        ..PairRate::default()
    });
    Report {
        together: None,
        pair: Some(Pair {
            target: target.to_owned(),
            write: Some(read([rate; 3])),
            hashed: reached.clone(),
            unhashed: reached,
            ..Pair::default()
        }),
        ..together(sources, 2, 0.0)
    }
}

#[test]
fn copies_are_compared_into_the_same_target_from_the_same_sources() {
    let before = into("/tank", &["A", "B"], 100.0);
    assert_eq!(
        of_many(&before, &into("/tank", &["B", "A"], 200.0)),
        [
            "/tank target-write faster",
            "/tank pair-hashed faster",
            "/tank pair-unhashed faster",
        ]
    );
    assert_eq!(
        of_many(&before, &into("/tank", &["A"], 200.0)),
        [
            "/tank target-write faster",
            "/tank pair-hashed only-before",
            "/tank pair-hashed only-after",
            "/tank pair-unhashed only-before",
            "/tank pair-unhashed only-after",
        ]
    );
    let mut moved = into("/tank", &["A", "B"], 200.0);
    let pair = moved.pair.as_mut().unwrap();
    pair.drives = vec![DriveFacts::default()];
    for other in [into("/other", &["A", "B"], 200.0), moved] {
        let told = of_many(&before, &other);
        assert_eq!(told.len(), 6, "{told:?}");
        assert!(told.iter().all(|line| line.contains(" only-")), "{told:?}");
    }
}

#[test]
fn who_took_part_goes_by_the_names_in_the_report() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let named = |who: &[&str], rate| {
        let mut report = into("/tank", &["A", "B", "C"], rate);
        report.pair.as_mut().unwrap().subjects = names(who);
        report.together = together(&["A", "B", "C"], 2, rate).together;
        report.together.as_mut().unwrap().steps[0].subjects = names(who);
        report
    };
    let before = named(&["A", "B"], 200.0);
    // B failed beside A, and C took its place.
    assert_eq!(
        of_many(&before, &named(&["A", "C"], 100.0)),
        [
            "all together-2 only-before",
            "all together-2 only-after",
            "/tank target-write slower",
            "/tank pair-hashed only-before",
            "/tank pair-hashed only-after",
            "/tank pair-unhashed only-before",
            "/tank pair-unhashed only-after",
        ]
    );
    assert_eq!(
        of_many(&before, &named(&["B", "A"], 100.0)),
        [
            "all together-2 slower",
            "/tank target-write slower",
            "/tank pair-hashed slower",
            "/tank pair-unhashed slower",
        ]
    );
}

#[test]
fn the_requests_behind_a_figure_are_in_its_row() {
    let before = whole("sda", Some("Z1"), [100.0; 3]);
    let mut after = before.clone();
    after.read.as_mut().unwrap().block = 4096;
    let rows = compare(&report(&[before]), &report(&[after]));
    let requests = |block, depth| Some(Knee { block, depth });
    assert_eq!(rows[0].requests_before, requests(1 << 20, 4));
    assert_eq!(rows[0].requests_after, requests(4096, 4));
}

/// Few names, kinds and sizes, so that much is alike.
fn any_subject() -> impl Strategy<Value = Subject> {
    let serial = prop::option::of(prop::sample::select(vec!["0", "1"]));
    let path = prop::sample::select(vec!["/dev/sda", "/dev/sda1", "/mnt"]);
    let kind = prop::sample::select(vec!["device", "directory", "file"]);
    let figures = [any::<bool>(), any::<bool>(), any::<bool>()];
    (serial, path, kind, figures, 0_usize..3, 1_u32..1000).prop_map(
        |(serial, path, kind, has, drives, rate)| {
            let rate = f64::from(rate);
            let rates = [rate * 0.9, rate, rate * 1.2];
            let one = whole("sda", serial, rates);
            Subject {
                path: path.to_owned(),
                kind: kind.to_owned(),
                drives: std::iter::repeat_n(one.drives[0].clone(), drives).collect(),
                read: has[0].then(|| read(rates)),
                write: has[1].then(|| read(rates)),
                zones: ["outer", "inner"]
                    .map(|name| Zone {
                        name: name.to_owned(),
                        at: 0,
                        read: read(rates),
                    })
                    .to_vec(),
                small: has[2].then(|| SmallFiles {
                    rate,
                    rate_min: rate,
                    rate_max: rate,
                    ..SmallFiles::default()
                }),
                ..one
            }
        },
    )
}

fn any_report() -> impl Strategy<Value = Report> {
    let subjects = prop::collection::vec(any_subject(), 0..6);
    let steps = prop::collection::vec((1_usize..5, 1_u32..1000), 0..5);
    let target = prop::option::of((prop::sample::select(vec!["/a", "/b"]), 1_u32..1000));
    (subjects, steps, target).prop_map(|(subjects, steps, target)| {
        let pair = target.and_then(|(target, rate)| into(target, &[], f64::from(rate)).pair);
        let step = |(count, rate)| together(&[], count, f64::from(rate)).together.unwrap();
        Report {
            subjects,
            together: Some(Together {
                steps: steps.into_iter().flat_map(|at| step(at).steps).collect(),
                ..Together::default()
            }),
            pair,
            ..Report::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_report_is_the_same_as_itself(report in any_report()) {
        let rows = compare(&report, &report);
        for row in &rows {
            prop_assert_eq!(&row.verdict, "same", "{:?}", row);
            prop_assert_eq!(row.before, row.after);
        }
        // Each figure has its row.
        let of = |subject: &Subject| {
            subject.zones.len()
                + [subject.read.is_some(), subject.write.is_some(), subject.small.is_some()]
                    .into_iter()
                    .filter(|has| *has)
                    .count()
        };
        let figures = report.subjects.iter().map(of).sum::<usize>()
            + report.together.as_ref().map_or(0, |all| all.steps.len())
            + report.pair.as_ref().map_or(0, |_| 3);
        prop_assert_eq!(rows.len(), figures);
    }

    #[test]
    fn what_only_one_has_only_it_has_the_other_way(a in any_report(), b in any_report()) {
        let count = |rows: &[Row], verdict: &str| {
            rows.iter().filter(|row| row.verdict == verdict).count()
        };
        let (there, back) = (compare(&a, &b), compare(&b, &a));
        prop_assert_eq!(there.len(), back.len());
        prop_assert_eq!(count(&there, "only-before"), count(&back, "only-after"));
        prop_assert_eq!(count(&there, "only-after"), count(&back, "only-before"));
    }
}
