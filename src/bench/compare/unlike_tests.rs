//! What must come out of comparing two reports that differ in more than their figures.

use super::tests::{into, lines, part, read, report, together, whole};
use super::*;
use crate::bench::report::Latency;

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
    assert_eq!(lines(&before, &with("", 200.0))[0], "A read slower");
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
