//! What must come out of comparing two reports that differ in more than their figures.

use super::tests::{into, lines, part, read, report, together, whole};
use super::*;
use crate::bench::report::{Doubt, Latency};

#[test]
fn what_was_read_in_two_ways_is_not_judged() {
    let with = |access: &str, rate| {
        let mut report = into("/tank", &["A", "B"], rate);
        report.together = together(&["A", "B"], 2, rate).together;
        for subject in &mut report.subjects {
            "direct".clone_into(&mut subject.access);
            subject.write = Some(read([rate; 3]));
        }
        access.clone_into(&mut report.subjects[0].access);
        report.subjects[0].read = Some(read([rate; 3]));
        report
    };
    let before = with("unproved", 8000.0);
    let after = with("direct", 200.0);
    assert_eq!(
        lines(&before, &after),
        [
            "A read not-comparable",
            "A write slower",
            "B read same",
            "B write slower",
            "all together-2 not-comparable",
            "/tank target-write slower",
            "/tank pair-hashed not-comparable",
            "/tank pair-unhashed not-comparable",
        ]
    );
    let rows = compare(&before, &after);
    assert_eq!((rows[0].before, rows[0].after), (Some(8000.0), Some(200.0)));
    assert_eq!(rows[0].ratio, None);
    // Reports that do not say how are held against each other as before.
    let quick = with("direct", 8000.0);
    assert_eq!(lines(&quick, &with("", 200.0))[0], "A read slower");
    // Both may be of memory, and one not of the same as the other.
    let both = lines(&with("unproved", 200.0), &before);
    assert_eq!(both[0], "A read not-comparable");
    assert_eq!(both[4], "all together-2 not-comparable");
}

#[test]
fn what_memory_may_have_answered_is_not_judged() {
    let told = |was: &[Doubt], is: &[Doubt]| {
        let with = |doubts: &[Doubt], rate| {
            let mut report = into("/tank", &["A", "B"], rate);
            report.together = together(&["A", "B"], 2, rate).together;
            report.subjects[1].read = Some(read([rate; 3]));
            report.subjects[1].doubts = doubts.to_vec();
            report
        };
        let all = lines(&with(was, 100.0), &with(is, 800.0));
        let of_them = |what: &str| {
            let line = all.iter().find(|line| line.starts_with(what)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        ["B read", "all together-2", "/tank pair-hashed"].map(of_them)
    };
    let unlike = ["not-comparable"; 3];
    let faster = ["faster"; 3];
    assert_eq!(told(&[], &[]), faster);
    for doubt in [
        Doubt::PageCache,
        Doubt::ImageCached { drive: None },
        Doubt::ZfsVolume { drive: None },
    ] {
        let doubt = std::slice::from_ref(&doubt);
        assert_eq!(told(&[], doubt), unlike);
        assert_eq!(told(doubt, &[]), unlike);
        assert_eq!(told(doubt, doubt), unlike);
    }
    // What is answered without reading, is so both times.
    let zeros = |percent| [Doubt::Zeros { percent }];
    assert_eq!(told(&[], &zeros(100)), unlike);
    assert_eq!(told(&zeros(40), &zeros(100)), unlike);
    assert_eq!(told(&zeros(100), &zeros(100)), faster);
    assert_eq!(told(&[Doubt::SmallSpan { bytes: 1 }], &[]), faster);
    let beside = told(&[], &[Doubt::PageCacheBeside]);
    assert_eq!(beside, ["faster", "not-comparable", "not-comparable"]);
}

#[test]
fn what_no_file_system_says_is_judged_with_a_note() {
    let with = |doubts: &[Doubt], rate| {
        let mut report = into("/tank", &["A", "B"], rate);
        report.together = together(&["A", "B"], 2, rate).together;
        let subject = &mut report.subjects[1];
        subject.read = Some(read([rate; 3]));
        "unproved".clone_into(&mut subject.access);
        for doubt in doubts {
            subject.doubt(doubt.clone());
        }
        report
    };
    let untold = &[Doubt::PageCacheUnknown][..];
    let judged = |was: &[Doubt], is: &[Doubt]| {
        let all = lines(&with(was, 100.0), &with(is, 800.0));
        let is_read = |line: &String| !line.contains("write");
        all.into_iter().filter(is_read).collect::<Vec<_>>()
    };
    let unlike = [
        "B read not-comparable",
        "all together-2 not-comparable",
        "/tank pair-hashed not-comparable",
        "/tank pair-unhashed not-comparable",
    ];
    assert_eq!(
        judged(untold, untold)[1..],
        [
            "B read faster",
            "all together-2 faster",
            "/tank pair-hashed faster",
            "/tank pair-unhashed faster",
        ]
    );
    let told = notes(&with(untold, 100.0), &with(untold, 800.0));
    let note = "before and after: B: its file system does not say whether all of it was dropped from \
                the page cache: the rate may be that of memory";
    assert!(told.iter().any(|told| told == note), "{told:?}");
    assert!(!told.iter().any(|told| told.contains("held against")));
    let stayed = &[Doubt::PageCacheUnknown, Doubt::PageCache][..];
    for (was, is) in [(untold, stayed), (stayed, untold), (untold, &[][..])] {
        assert_eq!(judged(was, is)[1..], unlike, "{was:?}, then {is:?}");
    }
}

#[test]
fn what_each_report_says_to_know_is_said_again() {
    let mut before = into("/tank", &["A", "B"], 100.0);
    for subject in &mut before.subjects {
        "unproved".clone_into(&mut subject.access);
        subject.doubt(Doubt::PageCache);
        subject.read.as_mut().unwrap().steady = true;
    }
    before.complete = true;
    let pair = before.pair.as_mut().unwrap();
    let figures = [&mut pair.hashed, &mut pair.unhashed].into_iter().flatten();
    figures.for_each(|figure| figure.steady = true);
    pair.write.iter_mut().for_each(|write| write.steady = true);
    pair.warnings = vec!["written through the page cache".to_owned()];
    let mut after = before.clone();
    before.doubt(vec![Doubt::Hot {
        times: 4,
        share: None,
    }]);
    after.doubt(vec![Doubt::Stolen { share: 0.1 }]);
    assert_eq!(
        notes(&before, &after),
        [
            "before: processors got too hot and were slowed down (4 times counted): rates may be too \
             low",
            "after: other guests of this machine's host took 10% of the processors' time: rates may be \
             too low",
            "before and after: A and B: some of it stayed in the page cache, which may have answered: \
             the rate may be that of memory",
            "before and after: /tank: written through the page cache",
            "A and B: perhaps from memory both times: not held against each other",
        ]
    );
}

#[test]
fn what_was_measured_by_other_calls_is_not_judged() {
    let by = |backend: &str, rate| Report {
        backend: backend.to_owned(),
        ..report(&[whole("sda", None, [rate; 3])])
    };
    let ring = by("io_uring", 200.0);
    let told = |before: &Report, after: &Report| lines(before, after).remove(0);
    let blocking = by("blocking", 100.0);
    assert_eq!(told(&ring, &blocking), "sda read not-comparable");
    let registered = by("io_uring+registered", 100.0);
    assert_eq!(told(&ring, &registered), "sda read slower");
}

#[test]
fn notes_say_what_else_is_not_alike() {
    let before = Report {
        kernel: "6.1.0".to_owned(),
        backend: "io_uring".to_owned(),
        cpus: 4,
        sample_seconds: 1.0,
        complete: true,
        subjects: vec![
            whole("sda", Some("Z1"), [200.0; 3]),
            part("/mnt/a", "directory", "Z2", 100.0),
        ],
        ..Report::default()
    };
    let mut steady = before.clone();
    for subject in &mut steady.subjects {
        "direct".clone_into(&mut subject.access);
        subject.read.as_mut().unwrap().steady = true;
    }
    assert_eq!(notes(&steady, &steady), [""; 0]);
    let mut other = Report {
        kernel: "6.18.0".to_owned(),
        backend: "blocking".to_owned(),
        cpus: 2,
        sample_seconds: 0.5,
        depth_asked: Some(1),
        complete: false,
        ..steady.clone()
    };
    for subject in &mut other.subjects {
        "unproved".clone_into(&mut subject.access);
    }
    other.subjects[1].read.as_mut().unwrap().steady = false;
    let ways = "past the page cache, then perhaps from memory";
    assert_eq!(
        notes(&steady, &other),
        [
            "the bench after was stopped before its end".to_owned(),
            "measured by io_uring, then by blocking: no figure is held against another".to_owned(),
            "Linux 6.1.0, then 6.18.0".to_owned(),
            "4 processors, then 2".to_owned(),
            "samples of 1 s, then of 0.5 s".to_owned(),
            "not the same requests or queues were asked for".to_owned(),
            format!("Z1 and Z2 /mnt/a: {ways}: not held against each other"),
            "not known to be steady after: read of Z2 /mnt/a".to_owned(),
        ]
    );
}

/// A drive whose requests took so long each: a bucket for each of these, with its count.
fn taking(p50: u64, p99: u64, buckets: &[(u64, u64)]) -> Report {
    let mut subject = whole("sda", None, [100.0; 3]);
    let read = subject.read.as_mut().unwrap();
    read.latency = Latency {
        p50,
        p99,
        max: buckets.last().map_or(p99, |(end, _)| *end),
        buckets: buckets.to_vec(),
        ..Latency::default()
    };
    report(&[subject])
}

#[test]
fn latencies_are_longer_only_beyond_what_their_number_tells() {
    let told = |before: &Report, after: &Report| {
        let mut told = lines(before, after);
        assert_eq!(told.remove(0), "sda read same");
        told
    };
    let quick = taking(1000, 2000, &[(1000, 9500), (2000, 490), (3000, 10)]);
    let slow = taking(1500, 6000, &[(1500, 9500), (6000, 490), (9000, 10)]);
    let slower = ["sda read-p50 slower", "sda read-p99 slower"];
    let faster = ["sda read-p50 faster", "sda read-p99 faster"];
    assert_eq!(told(&quick, &slow), slower);
    assert_eq!(told(&slow, &quick), faster);
    // Within 10% and the width of a bucket.
    let near = taking(1130, 2260, &[]);
    let same = ["sda read-p50 same", "sda read-p99 same"];
    assert_eq!(told(&taking(1000, 2000, &[]), &near), same);
    // Of 100 requests the slowest but one is anything between the fourth last and the last.
    let few = taking(1000, 2000, &[(1000, 96), (2000, 3), (9000, 1)]);
    let other = taking(1000, 6000, &[(1000, 96), (6000, 3), (9000, 1)]);
    assert_eq!(told(&few, &other), same);
    let mut deeper = slow.clone();
    deeper.subjects[0].read.as_mut().unwrap().depth = 8;
    let unlike = ["sda read-p50 not-comparable", "sda read-p99 not-comparable"];
    assert_eq!(told(&quick, &deeper), unlike);
    let rows = compare(&quick, &slow);
    assert_eq!(
        (rows[0].unit.as_str(), rows[1].unit.as_str()),
        ("bytes/s", "ns")
    );
    assert_eq!(
        (rows[1].before, rows[1].after),
        (Some(1000.0), Some(1500.0))
    );
}
