//! How the figures of a bench look.

use super::*;
use crate::bench::report::{Latency, PairRate, SmallFiles, Zone};

#[test]
fn latencies_have_three_digits() {
    let cases = [
        (0, "0.00 us"),
        (85_400, "85.4 us"),
        (999_999, "999 us"),
        (4_213_000, "4.21 ms"),
        (1_300_000_000, "1.30 s"),
    ];
    for (nanos, text) in cases {
        assert_eq!(latency(nanos), text);
    }
}

/// So many MB/s, give or take one in a hundred.
fn measure(rate: f64) -> Measure {
    Measure {
        block: 1 << 20,
        depth: 4,
        rate: rate * 1e6,
        rate_min: rate * 0.99e6,
        rate_max: rate * 1.01e6,
        latency: Latency {
            min: 1_000_000,
            p50: 4_000_000,
            p99: 20_000_000,
            p999: 40_000_000,
            max: 100_000_000,
            ..Latency::default()
        },
        ..Measure::default()
    }
}

fn drive(name: &str, model: &str, serial: &str, rate: f64) -> Subject {
    Subject {
        name: name.to_owned(),
        access: "direct".to_owned(),
        drives: vec![DriveFacts {
            model: Some(model.to_owned()),
            serial: Some(serial.to_owned()),
            ..DriveFacts::default()
        }],
        read: Some(measure(rate)),
        ..Subject::default()
    }
}

fn shown(report: &Report, ink: Ink) -> String {
    let text = render(report, Paint(false), ink);
    for line in text.lines() {
        assert!(crate::cli::text::columns(line) <= 80, "{line}");
    }
    text
}

#[test]
fn drives_have_bars_beside_their_rates() {
    let mut failed = drive("sdc", "EXOS X18", "Z3", 1.0);
    (failed.read, failed.error) = (None, Some("gone".to_owned()));
    let mut dropped = drive("sdd", "EXOS X18", "Z4", 100.0);
    "unproved".clone_into(&mut dropped.access);
    let report = Report {
        subjects: vec![
            drive("sda", "EXOS X18", "Z1", 200.0),
            drive("sdb", "EXOS X18", "Z2", 50.0),
            failed,
            dropped,
        ],
        ..Report::default()
    };
    let expected = "
reading, one by one
  drive  serial       rate                 slowest..fastest
  sda    Z1       200 MB/s  ###########    198 MB..202 MB/s
  sdb    Z2      50.0 MB/s  ###          49.5 MB..50.5 MB/s
  sdc    Z3                                                  failed
  sdd    Z4       100 MB/s  ######        99.0 MB..101 MB/s  perhaps from memory

how long a request took
  drive  model          request      50%      99%    99.9%  1.00 ms     100 ms
  sda    EXOS X18  1024 KiB x 4  4.00 ms  20.0 ms  40.0 ms  -----+======------
  sdb    EXOS X18  1024 KiB x 4  4.00 ms  20.0 ms  40.0 ms  -----+======------
  sdd    EXOS X18  1024 KiB x 4  4.00 ms  20.0 ms  40.0 ms  -----+======------
";
    assert_eq!(shown(&report, Ink::Ascii), expected);
}

#[test]
fn zones_have_their_spread_and_bars() {
    let zone = |(name, rate): (&str, f64)| Zone {
        name: name.to_owned(),
        at: 0,
        read: measure(rate),
    };
    let subject = |name: &str, rates: [f64; 3]| Subject {
        zones: ["outer", "middle", "inner"]
            .into_iter()
            .zip(rates)
            .map(zone)
            .collect(),
        ..drive(name, "EXOS X18", name, rates[0])
    };
    let report = Report {
        subjects: vec![
            subject("sda", [240.0, 200.0, 125.0]),
            subject("sdb", [120.0, 90.0, 60.0]),
        ],
        ..Report::default()
    };
    let expected = "
zones
  sda  outer    240 MB/s  ########################    238 MB..242 MB/s
       middle   200 MB/s  ####################        198 MB..202 MB/s
       inner    125 MB/s  #############               124 MB..126 MB/s
  sdb  outer    120 MB/s  ############                119 MB..121 MB/s
       middle  90.0 MB/s  #########                 89.1 MB..90.9 MB/s
       inner   60.0 MB/s  ######                    59.4 MB..60.6 MB/s
";
    let text = shown(&report, Ink::Ascii);
    assert!(text.ends_with(expected), "{text}");
    // The same, finer.
    let text = shown(&report, Ink::Blocks);
    let inner = format!("125 MB/s  {}\u{258c}  ", "\u{2588}".repeat(12));
    assert!(text.contains(&inner), "{text}");
}

#[test]
fn small_files_have_their_spread() {
    let small = |name: &str, rate: f64| Subject {
        name: name.to_owned(),
        small: Some(SmallFiles {
            rate,
            rate_min: rate - 10.0,
            rate_max: rate + 20.0,
            ..SmallFiles::default()
        }),
        ..Subject::default()
    };
    let one = Report {
        subjects: vec![small("/mnt/d1", 1204.0)],
        ..Report::default()
    };
    let expected = "
small files, read whole
  /mnt/d1  1,204 files/s  1,194..1,224 files/s
";
    let text = shown(&one, Ink::Ascii);
    assert!(text.ends_with(expected), "{text}");
    let two = Report {
        subjects: vec![small("/mnt/d1", 1204.0), small("/mnt/d2", 301.0)],
        ..Report::default()
    };
    let expected = "
small files, read whole
  /mnt/d1  1,204 files/s  ########################  1,194..1,224 files/s
  /mnt/d2    301 files/s  ######                        291..321 files/s
";
    let text = shown(&two, Ink::Ascii);
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn the_curve_is_held_against_the_sum() {
    let step = |names: &[&str], rate: f64, alone: f64| TogetherStep {
        count: names.len(),
        subjects: names.iter().map(|name| (*name).to_owned()).collect(),
        rate: rate * 1e6,
        rate_min: rate * 0.99e6,
        rate_max: rate * 1.01e6,
        alone: alone * 1e6,
        busy: 0.05,
        ..TogetherStep::default()
    };
    let report = Report {
        together: Some(Together {
            steps: vec![
                step(&["sda"], 200.0, 200.0),
                step(&["sda", "sdb"], 400.0, 400.0),
                // In the place of sdb, which failed.
                step(&["sda", "sdc", "sdd", "sde"], 600.0, 800.0),
            ],
            bend: Some(4),
            ..Together::default()
        }),
        ..Report::default()
    };
    let expected = "
reading, together
  drives      rate                          slowest..fastest  of sum  cpu
       1  200 MB/s  ######                  198 MB..202 MB/s    100%   5%
       2  400 MB/s  ###########             396 MB..404 MB/s    100%   5%
       4  600 MB/s  #################.....  594 MB..606 MB/s     75%   5%  bends
  2: sda and sdb
  4: sda, sdc, sdd and sde
";
    assert_eq!(shown(&report, Ink::Ascii), expected);
    let text = shown(&report, Ink::Blocks);
    let (full, short) = ("\u{2588}".repeat(16), "\u{2591}".repeat(5));
    let last = format!("{full}\u{258c}{short}  594");
    assert!(text.contains(&last), "{text}");
}

#[test]
fn what_was_written_has_its_requests_and_latencies() {
    let reached = |rate: f64, busy: f64| {
        Some(PairRate {
            rate: rate * 1e6,
            rate_min: rate * 0.99e6,
            rate_max: rate * 1.01e6,
            busy,
            ..PairRate::default()
        })
    };
    let report = Report {
        subjects: vec![Subject {
            write: Some(measure(90.0)),
            ..drive("sda", "EXOS X18", "Z1", 200.0)
        }],
        pair: Some(Pair {
            target: "/tank".to_owned(),
            write: Some(measure(400.0)),
            hashed: reached(300.0, 0.8),
            unhashed: reached(400.0, 0.2),
            ..Pair::default()
        }),
        ..Report::default()
    };
    let expected = "
writing
  sda    1024 KiB x 4  90.0 MB/s  89.1 MB..90.9 MB/s  4.00 ms  20.0 ms  40.0 ms
  /tank  1024 KiB x 4   400 MB/s    396 MB..404 MB/s  4.00 ms  20.0 ms  40.0 ms

all of them into /tank
  hashed   300 MB/s  ###############       297 MB..303 MB/s  processors 80% busy
  no hash  400 MB/s  ####################  396 MB..404 MB/s  processors 20% busy
";
    let text = shown(&report, Ink::Ascii);
    assert!(text.ends_with(expected), "{text}");
}
