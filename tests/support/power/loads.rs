//! Copies to cut the power of.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{Bench, Image, moments};
use crate::support::dice::Dice;
use crate::support::program::{Ran, so_far};
use crate::support::tree;

/// A copy to cut.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) fill: fn(&Path),
    /// What makes it slow enough to have moments.
    pub(crate) limit: &'static str,
    /// About how long it then takes.
    pub(crate) takes: Duration,
    /// Whether it goes on from a target that power was cut from before.
    pub(crate) resumes: bool,
}

/// Small and large files, with links.
pub(crate) const MIXED: Workload = Workload {
    name: "mixed",
    fill: mixed,
    limit: "--bwlimit=9MB",
    takes: Duration::from_millis(2_600),
    resumes: false,
};

/// Large files alone.
pub(crate) const LARGE: Workload = Workload {
    name: "large",
    fill: large,
    limit: "--bwlimit=20MB",
    takes: Duration::from_millis(2_400),
    resumes: false,
};

/// A copy of each kind: several batches of small files; large files, long enough for one of them
/// to be synced on the way; both, with links; and what is left of these after a first cut.
pub(crate) const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "small",
        fill: small,
        limit: "--bwlimit=900kB",
        takes: Duration::from_millis(2_600),
        resumes: false,
    },
    LARGE,
    MIXED,
    Workload {
        name: "resumed",
        fill: mixed,
        limit: "--bwlimit=9MB",
        takes: Duration::from_millis(2_600),
        resumes: true,
    },
];

fn small(source: &Path) {
    tree::many_small(source, 1, 700);
    for index in 0..30 {
        let path = source.join(format!("{:03}/medium{index}", index % 10));
        tree::paint(&path, index, 3_000 * index);
    }
    tree::age(source, 1_000_000_000);
}

fn large(source: &Path) {
    for (index, len) in [(8 << 20) + 1, 13 << 20, (22 << 20) + 4097]
        .into_iter()
        .enumerate()
    {
        tree::paint(&source.join(format!("large{index}")), index as u64, len);
    }
    tree::age(source, 1_000_000_000);
}

fn mixed(source: &Path) {
    tree::many_small(&source.join("small"), 1, 300);
    std::fs::create_dir(source.join("links")).unwrap();
    for (index, len) in [8 << 20, (11 << 20) + 4095, (1 << 20) + 1]
        .into_iter()
        .enumerate()
    {
        let path = source.join(format!("large{index}"));
        tree::paint(&path, index as u64, len);
        std::fs::hard_link(&path, source.join(format!("links/large{index}"))).unwrap();
    }
    std::os::unix::fs::symlink("../small", source.join("links/symbolic")).unwrap();
    std::fs::create_dir(source.join("empty")).unwrap();
    tree::age(source, 1_000_000_000);
}

/// Cuts the power of a first run at some moment: in the middle of it, or while it stops in order.
fn first_cut(
    bench: &mut Bench,
    workload: &Workload,
    env: &[(&str, &str)],
    dice: &mut Dice,
) -> Image {
    bench.begin(None);
    let running = bench.start(Some(workload.limit), env);
    // Well before its end: there has to be something left.
    std::thread::sleep(moments(1, workload.takes * 3 / 4, dice)[0]);
    let stops = dice.coin();
    if stops {
        running.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(dice.below(200)));
    }
    let story = if stops {
        "first while it stopped"
    } else {
        "first"
    };
    let image = bench.cut(dice, story, &so_far(&running.stdout_file()));
    drop(running);
    image
}

/// Settings of a copy: what it makes durable together, as usual or in small pieces, so that a short
/// run has many commits.
fn settings<'e>(env: &[(&'e str, &'e str)], dice: &mut Dice) -> Vec<(&'e str, &'e str)> {
    let small = [
        ("INHAUL_TEST_BATCH_FILES", "48"),
        ("INHAUL_TEST_SYNC_BLOCKS", "2"),
    ];
    let chosen = small.into_iter().filter(|_| dice.below(3) > 0);
    chosen.chain(env.iter().copied()).collect()
}

/// Cuts the power of one run of a workload `count` times, the last time at its end.
pub(crate) fn cut_run(
    bench: &mut Bench,
    workload: &Workload,
    count: usize,
    neighbour: bool,
    env: &[(&str, &str)],
    dice: &mut Dice,
) -> Vec<Image> {
    let env = &settings(env, dice);
    let first = workload
        .resumes
        .then(|| first_cut(bench, workload, env, dice));
    bench.begin(first.as_ref());
    if neighbour {
        bench.add_neighbour();
    }
    let running = bench.start(Some(workload.limit), env);
    let (mut images, ran) = bench.cut_while(running, count - 1, workload.takes, dice);
    images.push(bench.cut_at_end(&ran, dice));
    ran.expect(0);
    bench.end();
    images
}

/// Begins a target with a run over large files that is stopped in order at some moment. Returns
/// how it ended if it did not do so in order.
pub(crate) fn stopped_run(bench: &mut Bench, env: &[(&str, &str)], dice: &mut Dice) -> Option<Ran> {
    bench.begin(None);
    // All would take 1.5 s.
    let running = bench.start(Some("--bwlimit=30MB"), env);
    let moment = moments(1, Duration::from_millis(900), dice)[0];
    std::thread::sleep(Duration::from_millis(300) + moment);
    running.signal(Signal::TERM);
    let ran = running.finish();
    (ran.code != 75).then_some(ran)
}
