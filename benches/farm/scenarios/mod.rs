//! The scenarios, each with the numbers it is to reach.

#![allow(
    clippy::format_push_string,
    reason = "tables and command lines; a format cannot fail here"
)]

mod commit_rate;
mod farm8;
mod foresee;
mod gauge;
mod hard_disk;
mod hash_cost;
mod idle;
mod memory;
mod mixed_shelf;
mod naming;
mod one_fails;
mod one_file;
mod read_back;
mod rework;
mod saturated;
mod scaling;
mod shelf;
mod small_files;

use crate::kit::table::Outcome;
use crate::kit::{Plan, Result};

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// As named on the command line.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// Runs it.
    pub(crate) run: fn(&Plan) -> Result<Outcome>,
}

/// All of them.
pub(crate) const ALL: [Scenario; 22] = [
    Scenario {
        name: "farm",
        about: "8 drives, three file systems, different sizes and speeds",
        run: farm8::run,
    },
    Scenario {
        name: "p1",
        about: "15 throttled drives; both engines (P1 and P9)",
        run: shelf::fifteen,
    },
    Scenario {
        name: "p1-60",
        about: "60 throttled drives",
        run: shelf::sixty,
    },
    Scenario {
        name: "p2",
        about: "15 drives whose sum is more than buffered copying carries",
        run: saturated::run,
    },
    Scenario {
        name: "p3",
        about: "a slow drive and one of small files among others",
        run: mixed_shelf::run,
    },
    Scenario {
        name: "p4",
        about: "one file of 4 GiB, disk to disk",
        run: one_file::run,
    },
    Scenario {
        name: "p5",
        about: "41,000 small files on one disk",
        run: small_files::some,
    },
    Scenario {
        name: "p5-300k",
        about: "300,000 small files on one disk",
        run: small_files::many,
    },
    Scenario {
        name: "p6",
        about: "a hard disk with one arm",
        run: hard_disk::run,
    },
    Scenario {
        name: "p7",
        about: "drives in RAM without a limit: bytes a second and core",
        run: hash_cost::run,
    },
    Scenario {
        name: "p8",
        about: "memory: 60 drives; from 10,000 files to 1,000,000",
        run: memory::run,
    },
    Scenario {
        name: "p10",
        about: "CPU while every drive hangs",
        run: idle::run,
    },
    Scenario {
        name: "scale",
        about: "1 to 60 drives, the curve of the README",
        run: scaling::run,
    },
    Scenario {
        name: "verify",
        about: "--verify target against the plain copy, the target as the limit",
        run: read_back::target,
    },
    Scenario {
        name: "verify-shelf",
        about: "--verify target against the plain copy, 15 drives as the limit",
        run: read_back::sources,
    },
    Scenario {
        name: "commit",
        about: "small files made durable, in batches and one by one",
        run: commit_rate::run,
    },
    Scenario {
        name: "rework",
        about: "bytes read twice after a kill, one file of 10 GiB",
        run: rework::large,
    },
    Scenario {
        name: "rework-shelf",
        about: "bytes read twice after a kill, 15 drives",
        run: rework::shelf,
    },
    Scenario {
        name: "bench-fio",
        about: "what `inhaul bench` measures, against fio and a known hard disk",
        run: gauge::run,
    },
    Scenario {
        name: "bench-names",
        about: "`inhaul bench` names a slow drive and a shared one, 20 times",
        run: naming::run,
    },
    Scenario {
        name: "bench-foresees",
        about: "`inhaul bench` tells how long a copy of 15 drives takes",
        run: foresee::run,
    },
    Scenario {
        name: "r9",
        about: "one of 8 drives fails: the rate of the others, and how soon it is told",
        run: one_fails::run,
    },
];
